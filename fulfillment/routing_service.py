"""Routing an order: read what the pure planner needs, let it decide, store the decision, move the promises."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Count, Sum

from fulfillment import shipments, states
from fulfillment.carriers.base import IN_HOUSE, CarrierConnector, ParcelSpec, QuoteRequest, connector_for
from fulfillment.models import (
    CarrierAccount,
    RoutingDecision,
    RoutingPolicy,
    Shipment,
    ShipmentLine,
    ThreePLAccount,
)
from fulfillment.rates import Offer, address_of, choose, origin_of, ship_date
from fulfillment.routing.model import (
    LineView,
    OrderView,
    Plan,
    Policy,
    WarehouseView,
    places_named,
    policy_from,
)
from fulfillment.routing.planner import inputs, plan
from inventory.calendar import calendar_from_rows, ship_day
from inventory.ledger import InsufficientStock
from inventory.locking import retrying, stock_transaction
from inventory.models import Warehouse
from inventory.selectors import LevelView, levels
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_items, raise_item
from oms.core.inserts import insert_rows
from oms.core.money import plain
from oms.core.outbox import emit_many
from oms.orders import allocation as orders_allocation
from oms.orders import holding, services, timeline
from oms.orders.models import Allocation, ChannelWarehouse, Order, OrderEvent, OrderLine

#: a warehouse sold out between reading and writing: plan again so many times
TRIES = 5
#: an order without parcels yet is quoted as one box of this size, millimetres
NOMINAL_BOX = (300, 200, 150)
NOT_CONNECTED = "Multi-Channel Fulfillment is not connected"


def active_policy() -> Policy:
    """The published rules; without any, warehouses are ranked by ship day, cost and priority."""
    row = RoutingPolicy.objects.filter(is_active=True).first()
    return policy_from(row.version, row.rules) if row else Policy(0)


def publish(rules: list[dict], *, actor: Actor, note: str = "") -> RoutingPolicy:
    """Publish a new immutable version of the rules. Raises `UserError` naming the rule that is wrong."""
    try:
        named = places_named(policy_from(0, rules))
    except ValueError as error:
        raise UserError(f"rules: {error}.", field="rules") from error
    known = set(Warehouse.objects.filter(code__in=named).values_list("code", flat=True))
    for code, rule in named.items():
        if code not in known:  # `only` an unknown one would leave every order without a route
            raise UserError(f"rules: {rule}: there is no warehouse '{code[:20]}'.", field="rules")
    with transaction.atomic():
        RoutingPolicy.objects.filter(is_active=True).update(is_active=False)
        last = RoutingPolicy.objects.order_by("-version").values_list("version", flat=True).first() or 0
        made = RoutingPolicy.objects.create(
            version=last + 1, rules=rules, note=note[:255], published_by=str(actor), is_active=True
        )
        record(actor, "routing.published", made, after={"version": made.version, "note": made.note})
    return made


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
    for attempt in range(TRIES):
        order = Order.objects.select_related("channel", "contact").get(pk=order_id)
        desk = Desk()
        [case] = desk.cases([order])
        decided = plan(case.view, desk.look(case), desk.policy)
        try:
            return _store(case, decided, desk, actor)
        except InsufficientStock:
            if attempt == TRIES - 1:
                raise
    return None


def route_plain(order_ids: Collection[int], *, actor: Actor) -> set[int]:
    """Route the plain cases among waiting orders together; returns the orders that need nothing more.

    Plain is an open order of which nothing is short, without a shipment, whose plan leaves every unit where order
    entry has promised it and asks for no hold and no tag. Every other order wants `route()`. What is decided and
    stored is the same; only the reading and writing is shared, some 40 statements for any number of orders.
    """
    orders = Order.objects.select_related("channel", "contact").filter(
        pk__in=order_ids, state=Order.State.OPEN, short_units=0, routing_locked=False
    )
    waiting = [order for order in orders.order_by("pk") if holding.routable(order)]
    desk = Desk()
    found: list[_Plain] = []
    for case in desk.cases(waiting):
        if case.shipments:
            continue
        decided = plan(case.view, desk.look(case), desk.policy)
        if decided.outcome != "routed" or not decided.parts or decided.hold or decided.tags:
            continue
        parts = _placed(decided, case.free, desk.ids)
        if all(part.warehouse_id == case.held_at[part.allocation_id] for part in parts):
            found.append((case, decided, parts))
            desk.load.update({part.warehouse_id for part in parts})
    try:
        _store_plain(found, desk, actor)
    except Conflict:
        return set()  # somebody changed one of them meanwhile: each goes on its own
    return {case.order.pk for case, _, _ in found}


def _store_plain(found: Sequence[_Plain], desk: Desk, actor: Actor) -> None:
    """Store the decisions of plain cases. Raises `Conflict` when one of the orders has changed meanwhile."""
    if not found:
        return
    ids = [case.order.pk for case, _, _ in found]

    def work() -> None:
        with stock_transaction():
            orders_allocation.keep_parts(
                {case.order.pk: (parts, decided.summary) for case, decided, parts in found}, actor=actor
            )
            insert_rows([_decision(case, decided, desk.policy, actor) for case, decided, _ in found])
            shipments.ensure_many(ids, actor=actor)
            emit_many(_news(case.order, decided) for case, decided, _ in found)
            close_items((f"route:{pk}" for pk in ids), "routed")

    retrying(work)


@dataclass(slots=True)
class Case:
    """One order as routing sees it. `free`: per line the open allocations and their eaches that no shipment in
    work holds; `shipments`: warehouses of its shipments that are not sent yet; `places`: what `Desk.look` saw."""

    order: Order
    free: dict[int, list[tuple[Allocation, int]]]
    view: OrderView
    shipments: list[int]
    places: list[WarehouseView] = field(default_factory=list)

    @property
    def held_at(self) -> dict[int, int]:
        """Allocation → warehouse that holds it now."""
        return {
            allocation.pk: allocation.reservation.warehouse_id
            for parts in self.free.values()
            for allocation, _ in parts
        }


_Plain = tuple[Case, Plan, list[orders_allocation.PlacedPart]]


class Desk:
    """What the decisions of a moment share: the rules, warehouses with calendar and open work, table rates."""

    def __init__(self) -> None:
        self.policy = active_policy()
        self.warehouses = list(Warehouse.objects.prefetch_related("hours", "closures").order_by("code"))
        self.ids = {warehouse.code: warehouse.pk for warehouse in self.warehouses}
        moment = now()
        self.ship_days = {
            warehouse.pk: ship_day(
                calendar_from_rows(
                    warehouse.time_zone,
                    [(hours.weekday, hours.cut_off) for hours in warehouse.hours.all()],
                    [(one.first_day, one.last_day, one.reason) for one in warehouse.closures.all()],
                ),
                moment,
            )
            for warehouse in self.warehouses
        }
        #: shipments per warehouse that are not sent yet
        self.load = Counter(
            dict(
                Shipment.objects.filter(state__in=states.OPEN)
                .order_by()
                .values_list("warehouse")
                .annotate(Count("pk"))
            )
        )
        #: Amazon ships for other channels only where its Multi-Channel Fulfillment is connected
        self.unreachable = {
            warehouse.pk for warehouse in self.warehouses if warehouse.kind == Warehouse.Kind.FBA
        }
        if self.unreachable:
            self.unreachable -= set(
                ThreePLAccount.objects.filter(state=ThreePLAccount.State.CONNECTED).values_list(
                    "warehouse", flat=True
                )
            )
        self._links: dict[int, dict[int, bool]] = {}
        self._tables: list[tuple[CarrierAccount, CarrierConnector, set[int]]] | None = None
        self._levels: dict[tuple[int, int], LevelView] = {}

    def cases(self, orders: Sequence[Order]) -> list[Case]:
        """Read what the planner needs of these orders (channel and contact loaded), however many, in ten queries."""
        if not orders:
            return []
        ids = [order.pk for order in orders]
        free = _free_allocations(ids)
        refused = _refused(ids)
        open_at: dict[int, list[int]] = defaultdict(list)
        made: Counter[int] = Counter()
        for order_id, warehouse_id, state in (
            Shipment.objects.filter(order__in=ids)
            .exclude(state=Shipment.State.CANCELLED)
            .values_list("order", "warehouse", "state")
        ):
            made[order_id] += state != Shipment.State.READY
            if state in states.OPEN:
                open_at[order_id].append(warehouse_id)
        skus = {
            allocation.reservation.sku_id
            for lines in free.values()
            for parts in lines.values()
            for allocation, _ in parts
        }
        self._levels = levels(skus)
        for channel_id, warehouse_id, fulfils in ChannelWarehouse.objects.filter(
            channel__in={order.channel_id for order in orders}
        ).values_list("channel", "warehouse", "fulfils"):
            self._links.setdefault(channel_id, {})[warehouse_id] = fulfils
        found = []
        for order in orders:
            view = _order_view(order, free[order.pk], refused[order.pk], made[order.pk])
            found.append(Case(order, free[order.pk], view, open_at[order.pk]))
        return found

    def look(self, case: Case) -> list[WarehouseView]:
        """Every warehouse as the planner sees it now; what the order holds itself counts as available to it."""
        order, own = case.order, Counter(case.shipments)
        stock: dict[int, dict[str, int]] = defaultdict(dict)
        names = {
            allocation.reservation.sku_id: allocation.reservation.sku.code
            for parts in case.free.values()
            for allocation, _ in parts
        }
        least = order.channel.min_shelf_life_days
        for sku_id, code in names.items():
            for place_id in self.ids.values():
                level = self._levels.get((sku_id, place_id))
                if level is not None:
                    usable = level.on_hand - level.reserved - level.unavailable - level.too_old_for(least)
                    stock[place_id][code] = max(0, usable)
        for parts in case.free.values():
            for allocation, units in parts:
                place = stock[allocation.reservation.warehouse_id]
                code = allocation.reservation.sku.code
                place[code] = place.get(code, 0) + units
        links = self._links.get(order.channel_id, {})
        case.places = []
        for warehouse in self.warehouses:
            mine = stock.get(warehouse.pk, {})
            fulfils = links.get(warehouse.pk, False)
            useful = warehouse.is_active and fulfils and any(mine.values())
            cost = self._estimate(order, case.view, warehouse) if useful else None
            capacity, planned = warehouse.capacity_per_day, self.load[warehouse.pk] - own[warehouse.pk]
            case.places.append(
                WarehouseView(
                    code=warehouse.code,
                    kind=warehouse.kind,
                    stock=mine,
                    active=warehouse.is_active,
                    fulfils=fulfils,
                    priority=warehouse.priority,
                    ship_day=self.ship_days[warehouse.pk],
                    closed=NOT_CONNECTED if warehouse.pk in self.unreachable else "",
                    capacity_left=None if capacity is None else capacity - planned,
                    planned=planned,
                    time_zone=warehouse.time_zone,
                    cost=plain(cost[0] + warehouse.handling_cost) if cost else None,
                    currency=cost[1] if cost else warehouse.currency,
                    zone=cost[2] if cost else "",
                    transit_days=cost[3] if cost else None,
                )
            )
        return case.places

    def _estimate(
        self, order: Order, view: OrderView, warehouse: Warehouse
    ) -> tuple[Decimal, str, str, int | None] | None:
        """Cheapest rate of our own tables in time from a warehouse: amount, currency, zone, days.

        No call leaves the house here: carriers that are asked over the network count when the parcel is packed.
        """
        try:
            destination = address_of(order)
        except UserError:
            return None
        if self._tables is None:
            accounts = CarrierAccount.objects.filter(is_active=True, connector__in=IN_HOUSE)
            self._tables = [
                (account, connector_for(account), {place.pk for place in account.warehouses.all()})
                for account in accounts.prefetch_related("warehouses")
            ]
        tables = [one for one in self._tables if not one[2] or warehouse.pk in one[2]]
        if not tables:
            return None
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
            for account, connector, _ in tables
            for rate in connector.quote(request).rates
        ]
        deliver_by = order.deliver_by.date() if order.deliver_by else None
        best = choose(offers, deliver_by).chosen or min(offers, key=lambda o: o.rate.amount, default=None)
        return (
            (best.rate.amount, best.rate.currency, best.rate.zone, best.rate.transit_days) if best else None
        )


def _free_allocations(order_ids: Sequence[int]) -> dict[int, dict[int, list[tuple[Allocation, int]]]]:
    """Per order and line: open allocations and their eaches that no shipment in work holds."""
    busy = dict(
        ShipmentLine.objects.filter(
            order_line__order__in=order_ids, shipment__state__in=states.OPEN - {Shipment.State.READY}
        )
        .order_by()
        .values_list("allocation")
        .annotate(units=Sum("quantity"))
    )
    found: dict[int, dict[int, list[tuple[Allocation, int]]]] = {pk: {} for pk in order_ids}
    for allocation in (
        Allocation.objects.filter(line__order__in=order_ids, reservation__quantity__gt=0)
        .select_related("reservation__sku", "reservation__warehouse", "line__sku__product")
        .order_by("pk")
    ):
        units = allocation.reservation.quantity - busy.get(allocation.pk, 0)
        if units > 0:
            found[allocation.line.order_id].setdefault(allocation.line_id, []).append((allocation, units))
    return found


def _refused(order_ids: Sequence[int]) -> dict[int, dict[int, set[str]]]:
    """Per order and line the warehouses where a picker did not find it, or whose operator refused it."""
    refused: dict[int, dict[int, set[str]]] = {pk: defaultdict(set) for pk in order_ids}
    for event in OrderEvent.objects.filter(order__in=order_ids, kind__in=("short_pick", "refused")):
        refused[event.order_id][event.data.get("line", 0)].add(event.data["warehouse"])
    return refused


def _order_view(
    order: Order, free: dict[int, list[tuple[Allocation, int]]], refused: dict[int, set[str]], made: int
) -> OrderView:
    """The order as the planner sees it; `made` = its shipments that are being worked on or were sent."""
    lines, weight, value = [], 0, Decimal(0)
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
                    tuple(sorted(refused.get(line_id, ()))),
                    tuple(word for word in (line.sku.product.brand, line.sku.product.category) if word),
                )
            )
    return OrderView(
        number=order.number,
        channel=order.channel.code,
        channel_name=order.channel.name,
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
        shipments_made=made,
    )


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


def _decision(case: Case, decided: Plan, policy: Policy, actor: Actor) -> RoutingDecision:
    return RoutingDecision(
        order=case.order,
        policy_version=policy.version,
        actor=str(actor),
        outcome=decided.outcome,
        summary=decided.summary[:400],
        trace=decided.trace | {"inputs": inputs(case.view, case.places)},
    )


def _news(order: Order, decided: Plan) -> tuple[str, str, dict[str, Any]]:
    chosen = sorted({part.warehouse for part in decided.parts})
    return "order.routed", str(order.pk), {"outcome": decided.outcome, "warehouses": chosen}


def _store(
    case: Case, decided: Plan, desk: Desk, actor: Actor, policy: Policy | None = None
) -> RoutingDecision:
    order = case.order
    with transaction.atomic():
        decision = _decision(case, decided, policy or desk.policy, actor)
        decision.save(force_insert=True)
        if decided.tags:
            services.set_tags(order.pk, sorted({*order.tags, *decided.tags}), actor=actor)
        if decided.hold:
            services.place_hold(order.pk, reason="rule", note=decided.hold, actor=actor)
            return decision
        if decided.outcome in ("routed", "partly") and decided.parts:
            parts = _placed(decided, case.free, desk.ids)
            orders_allocation.place_parts(order.pk, parts, actor=actor, note=decided.summary)
            shipments.trim(order.pk, actor=actor)
            shipments.ensure_shipments(order.pk, actor=actor)
            emit_many([_news(order, decided)])
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
            close_items([f"route:{order.pk}"], "routed")
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
    desk, by_hand = Desk(), Policy(0)
    [case] = desk.cases([order])
    case.places = [place for place in desk.look(case) if place.code == warehouse.code]
    decided = plan(case.view, case.places, by_hand)
    if decided.outcome != "routed":
        raise Conflict(
            f"warehouse: {warehouse} cannot send {order.number}: {decided.summary}", field="warehouse"
        )
    with transaction.atomic():
        decision = _store(case, decided, desk, actor, by_hand)
        RoutingDecision.objects.filter(pk=decision.pk).update(
            outcome="manual", summary=f"{warehouse} by {actor.name}: {reason}"[:400]
        )
        Order.objects.filter(pk=order_id).update(routing_locked=True)
        timeline.add(order_id, "routed", f"sent from {warehouse} by hand: {reason}"[:400], actor=actor)
    decision.refresh_from_db()
    return decision
