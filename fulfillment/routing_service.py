"""Routing an order: read what the pure planner needs, let it decide, store the decision, move the promises."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from django.db import transaction
from django.db.models import Count, Sum

from fulfillment import shipments, states
from fulfillment.carriers.base import ParcelSpec, QuoteRequest
from fulfillment.models import RoutingDecision, RoutingPolicy, Shipment, ShipmentLine
from fulfillment.rates import Offer, accounts_for, address_of, ask, choose, origin_of, ship_date
from fulfillment.routing.model import LineView, OrderView, Plan, Policy, WarehouseView, policy_from
from fulfillment.routing.planner import inputs, plan
from inventory.calendar import calendar_from_rows, ship_day
from inventory.ledger import InsufficientStock
from inventory.models import Sku, Warehouse
from inventory.selectors import levels
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.money import plain
from oms.core.outbox import emit
from oms.orders import allocation as orders_allocation
from oms.orders import holding, services, timeline
from oms.orders.models import Allocation, Order, OrderEvent, OrderLine

#: a warehouse sold out between reading and writing: plan again so many times
TRIES = 5
#: an order without parcels yet is quoted as one box of this size, millimetres
NOMINAL_BOX = (300, 200, 150)


def active_policy() -> Policy:
    """The published rules; without any, warehouses are ranked by ship day, cost and priority."""
    row = RoutingPolicy.objects.filter(is_active=True).first()
    return policy_from(row.version, row.rules) if row else Policy(0)


def publish(rules: list[dict], *, actor: Actor, note: str = "") -> RoutingPolicy:
    """Publish a new immutable version of the rules. Raises `UserError` naming the rule that is wrong."""
    try:
        policy_from(0, rules)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"rules: {error}.", field="rules") from error
    with transaction.atomic():
        RoutingPolicy.objects.filter(is_active=True).update(is_active=False)
        last = RoutingPolicy.objects.order_by("-version").values_list("version", flat=True).first() or 0
        return RoutingPolicy.objects.create(
            version=last + 1, rules=rules, note=note[:255], published_by=str(actor), is_active=True
        )


def route(order_id: int, *, actor: Actor, manual: bool = False) -> RoutingDecision | None:
    """Route what is not yet in work of an order. None when there is nothing to decide; harmless when repeated.

    The decision is stored with everything it saw. No route becomes an exception, closed when one is found.
    """
    order = Order.objects.select_related("channel").filter(pk=order_id).first()
    if order is None:
        raise NotFound("order: there is no such order.", field="order")
    if order.routing_locked and not manual:
        return None
    if not (
        holding.routable(order)
        or (order.state == Order.State.ROUTED and not order.holds_open and not order.unmapped_lines)
    ):
        return None
    short = OrderLine.objects.filter(order=order, short__gt=0, sku__isnull=False).values_list(
        "sku", flat=True
    )
    if short:
        orders_allocation.allocate_waiting(sorted(set(short)), actor=actor)
    policy = active_policy()
    for attempt in range(TRIES):
        order = Order.objects.select_related("channel", "contact").get(pk=order_id)
        free = _free_allocations(order)
        view = _order_view(order, free)
        places = warehouse_views(order, view, free)
        decided = plan(view, places, policy)
        try:
            return _store(order, view, places, free, decided, policy, actor)
        except InsufficientStock:
            if attempt == TRIES - 1:
                raise
    return None


def _free_allocations(order: Order) -> dict[int, list[tuple[Allocation, int]]]:
    """Per line: open allocations and their eaches that no shipment in work holds."""
    busy: dict[int, int] = defaultdict(int)
    rows = (
        ShipmentLine.objects.filter(
            order_line__order=order, shipment__state__in=states.OPEN - {Shipment.State.READY}
        )
        .values("allocation")
        .annotate(units=Sum("quantity"))
    )
    for row in rows:
        busy[row["allocation"]] = row["units"]
    found: dict[int, list[tuple[Allocation, int]]] = defaultdict(list)
    for allocation in (
        Allocation.objects.filter(line__order=order, reservation__quantity__gt=0)
        .select_related("reservation__sku", "reservation__warehouse", "line__sku__product")
        .order_by("pk")
    ):
        units = allocation.reservation.quantity - busy[allocation.pk]
        if units > 0:
            found[allocation.line_id].append((allocation, units))
    return found


def _order_view(order: Order, free: dict[int, list[tuple[Allocation, int]]]) -> OrderView:
    lines, weight, value = [], 0, Decimal(0)
    refused: dict[int, set[str]] = defaultdict(set)
    for event in OrderEvent.objects.filter(order=order, kind="short_pick"):
        refused[event.data.get("line", 0)].add(event.data["warehouse"])
    for line_id, parts in free.items():
        per_unit: dict[str, int] = {}
        held: dict[str, int] = defaultdict(int)
        for allocation, units in parts:
            sku = allocation.reservation.sku
            per_unit[sku.code] = allocation.per_unit
            held[sku.code] += units
            weight += units * (sku.weight_g or 0)
        line = parts[0][0].line
        assert line.sku is not None  # an allocation has a known SKU
        quantity = min(held[code] // count for code, count in per_unit.items())
        value += quantity * line.unit_price
        if quantity:
            mcf = all(allocation.reservation.sku.mcf_allowed for allocation, _ in parts)
            lines.append(
                LineView(
                    line_id,
                    line.sku.code,
                    quantity,
                    tuple(sorted(per_unit.items())),
                    mcf,
                    tuple(sorted(refused[line_id])),
                    tuple(word for word in (line.sku.product.brand, line.sku.product.category) if word),
                )
            )
    return OrderView(
        number=order.number,
        channel=order.channel.code,
        country=order.ship_country,
        region=order.ship_region,
        postal=order.ship_postal,
        value=value,
        currency=order.currency,
        weight_g=weight,
        lines=tuple(lines),
        tags=tuple(order.tags),
        service=order.service_level,
        risk=order.risk,
        blocked=shipments.why_not_shippable(order),
        ship_by=order.ship_by,
        short_units=order.short_units,
        shipments_made=order.shipments.exclude(
            state__in=[Shipment.State.READY, Shipment.State.CANCELLED]
        ).count(),
    )


def warehouse_views(
    order: Order, view: OrderView, free: dict[int, list[tuple[Allocation, int]]]
) -> list[WarehouseView]:
    """Every warehouse as the planner sees it now; what the order holds itself counts as available to it."""
    warehouses = list(Warehouse.objects.prefetch_related("hours", "closures").order_by("code"))
    links = {link.warehouse_id: link for link in order.channel.warehouses.all()}
    codes = {code for line in view.lines for code, _ in line.parts}
    stock: dict[int, dict[str, int]] = defaultdict(dict)
    names = dict(Sku.objects.filter(code__in=codes).values_list("pk", "code"))
    least = order.channel.min_shelf_life_days
    for (sku_id, place_id), level in levels(names).items():
        usable = level.on_hand - level.reserved - level.unavailable - level.too_old_for(least)
        stock[place_id][names[sku_id]] = max(0, usable)
    for parts in free.values():
        for allocation, units in parts:
            place = stock[allocation.reservation.warehouse_id]
            code = allocation.reservation.sku.code
            place[code] = place.get(code, 0) + units
    moment = now()
    load = dict(
        Shipment.objects.filter(state__in=states.OPEN)
        .exclude(order=order)
        .values_list("warehouse")
        .annotate(Count("pk"))
    )
    found = []
    for warehouse in warehouses:
        calendar = calendar_from_rows(
            warehouse.time_zone,
            [(hours.weekday, hours.cut_off) for hours in warehouse.hours.all()],
            [(closure.first_day, closure.last_day, closure.reason) for closure in warehouse.closures.all()],
        )
        link = links.get(warehouse.pk)
        mine = stock.get(warehouse.pk, {})
        useful = warehouse.is_active and bool(link and link.fulfils) and any(mine.values())
        cost = _estimate(order, view, warehouse) if useful else None
        capacity = warehouse.capacity_per_day
        found.append(
            WarehouseView(
                code=warehouse.code,
                kind=warehouse.kind,
                stock=mine,
                active=warehouse.is_active,
                fulfils=bool(link and link.fulfils),
                priority=warehouse.priority,
                ship_day=ship_day(calendar, moment),
                capacity_left=None if capacity is None else capacity - load.get(warehouse.pk, 0),
                planned=load.get(warehouse.pk, 0),
                time_zone=warehouse.time_zone,
                cost=plain(cost[0] + warehouse.handling_cost) if cost else None,
                currency=cost[1] if cost else warehouse.currency,
                zone=cost[2] if cost else "",
                transit_days=cost[3] if cost else None,
            )
        )
    return found


def _estimate(
    order: Order, view: OrderView, warehouse: Warehouse
) -> tuple[Decimal, str, str, int | None] | None:
    """Cheapest table rate in time from a warehouse: amount, currency, zone, days. No call leaves the house here."""
    try:
        destination = address_of(order)
    except UserError:
        return None
    accounts = [account for account in accounts_for(warehouse) if account.connector == "table_rate"]
    request = QuoteRequest(
        origin=origin_of(warehouse),
        destination=destination,
        parcels=(ParcelSpec(max(1, view.weight_g), *NOMINAL_BOX),),
        ship_date=ship_date(warehouse),
        origin_group=warehouse.code,
        currency=order.currency,
    )
    offers = [
        Offer(account.code, account.preference, rate)
        for account in accounts
        for rate in ask([account], request)[account.pk].rates
    ]
    deliver_by = order.deliver_by.date() if order.deliver_by else None
    best = choose(offers, deliver_by).chosen or min(offers, key=lambda o: o.rate.amount, default=None)
    return (best.rate.amount, best.rate.currency, best.rate.zone, best.rate.transit_days) if best else None


def _placed(
    decided: Plan, free: dict[int, list[tuple[Allocation, int]]], ids: dict[str, int]
) -> list[orders_allocation.PlacedPart]:
    """The plan in allocations: units that lie where they should stay, the others move."""
    wanted: list[orders_allocation.PlacedPart] = []
    for line_id, parts in free.items():
        goals: dict[tuple[str, str], int] = defaultdict(
            int
        )  # (warehouse, component; "" = whole units) → units
        for part in decided.parts:
            if part.line_id == line_id:
                goals[part.warehouse, part.sku] += part.quantity
        by_sku: dict[int, list[list]] = defaultdict(list)
        for allocation, units in parts:
            by_sku[allocation.reservation.sku_id].append([allocation, units])
        for rows in by_sku.values():
            need: dict[int, int] = defaultdict(int)
            for (code, sku), units in goals.items():
                if not sku:
                    need[ids[code]] += units * rows[0][0].per_unit
                elif sku == rows[0][0].reservation.sku.code:
                    need[ids[code]] += units
            for row in rows:  # first what is in place already
                here = row[0].reservation.warehouse_id
                take = min(row[1], need.get(here, 0))
                if take:
                    wanted.append(orders_allocation.PlacedPart(row[0].pk, here, take))
                    need[here] -= take
                    row[1] -= take
            for warehouse_id in sorted(need):
                for row in rows:
                    take = min(row[1], need[warehouse_id])
                    if take:
                        wanted.append(orders_allocation.PlacedPart(row[0].pk, warehouse_id, take))
                        need[warehouse_id] -= take
                        row[1] -= take
    return wanted


def _store(
    order: Order,
    view: OrderView,
    places: list[WarehouseView],
    free: dict[int, list[tuple[Allocation, int]]],
    decided: Plan,
    policy: Policy,
    actor: Actor,
) -> RoutingDecision:
    ids = dict(Warehouse.objects.values_list("code", "pk"))
    with transaction.atomic():
        decision = RoutingDecision.objects.create(
            order=order,
            policy_version=policy.version,
            actor=str(actor),
            outcome=decided.outcome,
            summary=decided.summary[:400],
            trace=decided.trace | {"inputs": inputs(view, places)},
        )
        if decided.tags:
            services.set_tags(order.pk, sorted({*order.tags, *decided.tags}), actor=actor)
        if decided.hold:
            services.place_hold(order.pk, reason="rule", note=decided.hold, actor=actor)
            return decision
        if decided.outcome in ("routed", "partly") and decided.parts:
            parts = _placed(decided, free, ids)
            orders_allocation.place_parts(order.pk, parts, actor=actor, note=decided.summary)
            shipments.trim(order.pk, actor=actor)
            shipments.ensure_shipments(order.pk, actor=actor)
            chosen = sorted({part.warehouse for part in decided.parts})
            emit("order.routed", str(order.pk), outcome=decided.outcome, warehouses=chosen)
        if decided.outcome == "no_route":
            timeline.add(order.pk, "no_route", decided.summary, actor=actor)
            raise_item(
                "no_route",
                f"route:{order.pk}",
                f"{order.number}: no route found",
                detail=decided.summary,
                url=f"/orders/{order.number}",
                channel_code=order.channel.code,
                due_at=order.ship_by,
            )
        else:
            close_item(f"route:{order.pk}", "routed")
    return decision


def assign(order_id: int, warehouse_id: int, *, reason: str, actor: Actor) -> RoutingDecision:
    """A person sends the order from a warehouse of his choice; automatic re-routing keeps off.

    Raises `UserError` without a reason, `Conflict` when the warehouse does not have everything.
    """
    if not reason.strip():
        raise UserError("reason: say why, it is kept on the order.", field="reason")
    warehouse = Warehouse.objects.filter(pk=warehouse_id, is_active=True).first()
    if warehouse is None:
        raise UserError("warehouse: choose an active warehouse.", field="warehouse")
    order = Order.objects.select_related("channel", "contact").get(pk=order_id)
    free = _free_allocations(order)
    view = _order_view(order, free)
    places = [w for w in warehouse_views(order, view, free) if w.code == warehouse.code]
    decided = plan(view, places, Policy(0))
    if decided.outcome != "routed":
        raise Conflict(
            f"warehouse: {warehouse} cannot send {order.number}: {decided.summary}", field="warehouse"
        )
    with transaction.atomic():
        decision = _store(order, view, places, free, decided, Policy(0), actor)
        RoutingDecision.objects.filter(pk=decision.pk).update(
            outcome="manual", summary=f"{warehouse} by {actor}: {reason}"[:400]
        )
        Order.objects.filter(pk=order_id).update(routing_locked=True)
        timeline.add(order_id, "routed", f"sent from {warehouse} by hand: {reason}"[:400], actor=actor)
    decision.refresh_from_db()
    return decision
