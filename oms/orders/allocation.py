"""Stock for orders after entry: waiting lines served in ship-by order, routing plans applied, units shipped.

Locks are taken in one order everywhere: order rows by id, reservations by id, stock rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import F

from inventory import reservations
from inventory.locking import require_transaction, retrying, stock_transaction
from inventory.models import Warehouse
from inventory.reservations import ReserveLine
from inventory.selectors import kits_containing
from oms.core import business
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError
from oms.orders import holding, states, timeline, upkeep
from oms.orders.models import Allocation, Order, OrderEvent, OrderLine

#: waiting lines served by one transaction
CHUNK = 100


@dataclass(frozen=True, slots=True)
class Winner:
    """A waiting line that got stock: `rank` 1 was served first."""

    rank: int
    order_id: int
    line_id: int
    sku_id: int
    quantity: int
    still_short: int


def waiting_lines(sku_ids: Iterable[int]) -> list[OrderLine]:
    """Short lines of live orders that any of the SKUs may serve, kits included, in the order of service.

    Lines that a person put first, then by the setting `backorder_priority`: ship-by (orders without one last), the
    oldest order, or the value still short (business currency of the order's own figures); then the older order.
    """
    wanted = set(sku_ids)
    for kits in kits_containing(list(wanted)).values():
        wanted |= kits
    return list(
        OrderLine.objects.filter(sku__in=wanted, short__gt=0, order__state__in=states.LIVE)
        .select_related("order__channel", "sku")
        .order_by(
            F("first_since").asc(nulls_last=True),
            *PRIORITIES[str(business.get("backorder_priority"))][1],
            "order__placed_at",
            "order_id",
            "id",
        )
    )


#: how waiting lines are ordered, and how a winner's timeline says it
PRIORITIES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "ship_by": ("ship-by date", (F("order__ship_by").asc(nulls_last=True),)),
    "oldest": ("age", ()),
    "value": ("value", ((F("short") * F("unit_price")).desc(),)),
}


def serve_first(line_id: int, *, reason: str, actor: Actor) -> OrderLine:
    """Put a waiting line before all others, whatever the rule says, and offer it what is there now.

    Audited with the reason. Raises `NotFound`, `UserError` without a reason, `Conflict` when it waits for nothing.
    """
    reason = reason.strip()
    if not reason:
        raise UserError("reason: say why this order goes before the others.", field="reason")
    with stock_transaction():
        found = OrderLine.objects.filter(pk=line_id).values_list("order_id", flat=True).first()
        if found is None:
            raise NotFound("line: there is no such order line.", field="line")
        order = upkeep.lock(found)
        line = OrderLine.objects.select_related("sku").get(pk=line_id)
        if not line.short or line.sku_id is None or order.state not in states.LIVE:
            raise Conflict(f"{order.number}: the line does not wait for stock.", field="line")
        if line.first_since is None:
            line.first_since = now()
            line.save(update_fields=["first_since"])
            text = f"{line.sku} is served before other orders: {reason}"
            timeline.add(order.pk, "allocated", text[:400], actor=actor)
            record(
                actor,
                "order.served_first",
                order,
                after={"sku": str(line.sku), "short": line.short, "reason": reason},
            )
    allocate_waiting([line.sku_id], actor=actor)
    line.refresh_from_db()
    return line


def allocate_waiting(sku_ids: Iterable[int], *, actor: Actor) -> list[Winner]:
    """Offer what is available of the SKUs to backordered lines, first ship-by first.

    Returns the winners in the order they were served; each finds it printed on its timeline. Lines that get
    nothing stay as they are. Harmless to repeat.
    """
    ids = [line.pk for line in waiting_lines(sku_ids)]
    winners: list[Winner] = []
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        offset = len(winners)

        def work(chunk: list[int] = chunk, offset: int = offset) -> list[Winner]:
            with stock_transaction():
                return _serve(chunk, offset, actor)

        served = retrying(work)
        winners += served
        if not served:
            break  # the shelf is empty for the first hundred: it is for the rest
    return winners


def _serve(line_ids: Sequence[int], offset: int, actor: Actor) -> list[Winner]:
    orders = {
        order.pk: order
        for order in upkeep.lock_many(
            OrderLine.objects.filter(pk__in=line_ids).values_list("order_id", flat=True)
        )
    }
    place = {line_id: number for number, line_id in enumerate(line_ids)}
    lines = sorted(
        OrderLine.objects.filter(pk__in=line_ids, short__gt=0).select_related("sku"),
        key=lambda line: place[line.pk],
    )
    candidates: dict[int, tuple[int, ...]] = {}
    asked: dict[str, OrderLine] = {}
    wanted: list[ReserveLine] = []
    for line in lines:
        order = orders[line.order_id]
        paid = order.state != Order.State.PENDING
        if order.state not in states.LIVE or not holding.wants_stock(order, order.channel, paid=paid):
            continue
        if order.channel_id not in candidates:
            candidates[order.channel_id] = holding.candidates(order.channel_id)
        name = holding.reference(order, line)
        asked[name] = line
        assert line.sku_id is not None
        wanted.append(
            ReserveLine(
                name,
                line.sku_id,
                line.short,
                candidates[order.channel_id],
                promise_at=holding.promise(order),
                channel_code=order.channel.code,
                min_shelf_days=order.channel.min_shelf_life_days,
                pack=line.pack_size,
                mcf=True,
            )
        )
    links: list[Allocation] = []
    won: list[tuple[OrderLine, int]] = []
    places: dict[int, set[int]] = {}
    for result in reservations.reserve(wanted, actor=actor):
        line = asked[result.reference]
        if not result.reserved:
            continue
        links += [
            Allocation(line_id=line.pk, reservation_id=part.reservation_id, per_unit=part.per_unit)
            for part in result.parts
        ]
        places.setdefault(line.pk, set()).update(part.warehouse_id for part in result.parts)
        line.short -= result.reserved
        line.reserved += result.reserved
        won.append((line, result.reserved))
    if not won:
        return []
    Allocation.objects.bulk_create(links)
    OrderLine.objects.bulk_update([line for line, _ in won], ["short", "reserved"])
    codes = dict(Warehouse.objects.filter(pk__in=set().union(*places.values())).values_list("pk", "code"))
    winners: list[Winner] = []
    events: list[OrderEvent] = []
    for number, (line, units) in enumerate(won, offset + 1):
        order = orders[line.order_id]
        assert line.sku_id is not None
        winners.append(Winner(number, order.pk, line.pk, line.sku_id, units, line.short))
        due = f"ship by {order.ship_by:%Y-%m-%d %H:%M} UTC" if order.ship_by else "no ship-by time"
        rule = (
            "put first by hand"
            if line.first_since
            else f"by {PRIORITIES[str(business.get('backorder_priority'))][0]}"
        )
        where = ", ".join(sorted(codes[pk] for pk in places[line.pk]))
        rest = f"; {line.short} still short" if line.short else ""
        text = f"Backorder: {units} of {line.sku} arrived at {where}, served as number {number} ({rule}; {due}){rest}"
        events.append(
            timeline.entry(order.pk, "allocated", text, actor=actor, data={"rank": number, "units": units})
        )
    timeline.write(events)
    for order_id in sorted({line.order_id for line, _ in won}):
        upkeep.settle(orders[order_id], actor=actor, routed=False, reroute=True, changed=["lines"])
    return winners


# --- routing's plan -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlacedPart:
    """`quantity` eaches (of the reservation's SKU) of an allocation leave from this warehouse."""

    allocation_id: int
    warehouse_id: int
    quantity: int


def place_parts(
    order_id: int, parts: Sequence[PlacedPart], *, actor: Actor, note: str = ""
) -> list[Allocation]:
    """Apply a routing plan: move or split the order's reservations so that they lie where the plan says.

    Allocations that the plan does not name stay where they are; of a named one, units beyond the plan stay too.
    The order becomes routed. Returns its open allocations (reservation loaded) after the moves; a split makes a
    new one. All or nothing.

    Raises `InsufficientStock` when a warehouse was sold out meanwhile (plan again), `Conflict` when the order is
    on hold, waits for payment or holds less than planned, `NotFound`, `UserError`.
    """

    def work() -> list[Allocation]:
        with stock_transaction():
            return _place(order_id, parts, actor, note)

    return retrying(work)


def _place(order_id: int, parts: Sequence[PlacedPart], actor: Actor, note: str) -> list[Allocation]:
    order = upkeep.lock(order_id)
    _may_route(order)
    allocations = {allocation.pk: allocation for allocation in _holding([order_id])}
    targets = Warehouse.objects.in_bulk({part.warehouse_id for part in parts})
    for part in parts:
        if part.warehouse_id not in targets:
            raise UserError(
                f"warehouse: there is no warehouse with id {part.warehouse_id}.", field="warehouse"
            )
    planned = _by_allocation(order, parts, allocations)
    for allocation_id in sorted(planned):
        allocation = allocations[allocation_id]
        held = allocation.reservation
        away: dict[int, int] = {}
        for part in planned[allocation_id]:
            if part.warehouse_id != held.warehouse_id:
                away[part.warehouse_id] = away.get(part.warehouse_id, 0) + part.quantity
        for warehouse_id, units in sorted(away.items()):
            move_part(allocation, targets[warehouse_id], units, actor=actor)
    after = _holding([order_id])
    if after:
        timeline.write([_routed(order, after, note, actor)])
    upkeep.settle(order, actor=actor, routed=bool(after), changed=["routing"])
    return after


def keep_parts(plans: Mapping[int, tuple[Sequence[PlacedPart], str]], *, actor: Actor) -> None:
    """`place_parts` for many orders (id → parts, note) whose plans leave every unit where it is reserved.

    No stock row is touched, so the orders share one transaction and a handful of statements. All or nothing.
    Raises `Conflict` when one of them is not as planned any more: place them one by one then.
    """
    with stock_transaction():
        orders = upkeep.lock_many(plans)
        if len(orders) < len(plans):
            raise Conflict("order: one of the orders is gone.", field="order")
        by_order: dict[int, list[Allocation]] = {}
        for allocation in _holding(list(plans)):
            by_order.setdefault(allocation.line.order_id, []).append(allocation)
        events = []
        for order in orders:
            parts, note = plans[order.pk]
            _may_route(order)
            allocations = {allocation.pk: allocation for allocation in by_order.get(order.pk, ())}
            _by_allocation(order, parts, allocations)
            for part in parts:
                if part.warehouse_id != allocations[part.allocation_id].reservation.warehouse_id:
                    raise Conflict(f"{order.number}: its stock was moved meanwhile.", field="warehouse")
            events.append(_routed(order, by_order.get(order.pk, ()), note, actor))
        timeline.write(events)
        upkeep.settle_many(orders, actor=actor, routed=True, changed=["routing"])


#: states in which something of an order may still be sent from somewhere
ROUTABLE = (Order.State.OPEN, Order.State.ROUTED, Order.State.PART_SHIPPED)


def _may_route(order: Order) -> None:
    if order.holds_open:
        raise Conflict(f"{order.number} is on hold: release its holds before routing.", field="order")
    if order.state not in ROUTABLE:
        raise Conflict(
            f"{order.number} is {order.get_state_display().lower()}: there is nothing to route.",
            field="order",
        )


def _holding(order_ids: Collection[int]) -> list[Allocation]:
    """Allocations of the orders that hold units, by id, with everything that routing asks of them."""
    return list(
        Allocation.objects.filter(line__order__in=order_ids, reservation__quantity__gt=0)
        .select_related("reservation__warehouse", "reservation__sku", "line")
        .order_by("id")
    )


def _by_allocation(
    order: Order, parts: Sequence[PlacedPart], allocations: Mapping[int, Allocation]
) -> dict[int, list[PlacedPart]]:
    """The parts of a plan per allocation. Raises `Conflict` where less is held than planned, `UserError`."""
    planned: dict[int, list[PlacedPart]] = {}
    for part in parts:
        if part.quantity < 1:
            raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
        if part.allocation_id not in allocations:
            raise Conflict(
                f"{order.number}: allocation {part.allocation_id} holds nothing any more.", field="allocation"
            )
        planned.setdefault(part.allocation_id, []).append(part)
    for allocation_id, group in planned.items():
        held = allocations[allocation_id].reservation.quantity
        if sum(part.quantity for part in group) > held:
            raise Conflict(f"{order.number}: allocation {allocation_id} holds only {held}.", field="quantity")
    return planned


def _routed(order: Order, held: Sequence[Allocation], note: str, actor: Actor) -> OrderEvent:
    """The timeline's line about where the units lie now."""
    by_place: dict[str, int] = {}
    for allocation in held:
        code = allocation.reservation.warehouse.code
        by_place[code] = by_place.get(code, 0) + allocation.reservation.quantity
    text = note or "Routed to " + ", ".join(f"{code} ({count})" for code, count in sorted(by_place.items()))
    return timeline.entry(order.pk, "routed", text, actor=actor, data={"warehouses": by_place})


def move_part(allocation: Allocation, target: Warehouse, units: int, *, actor: Actor) -> Allocation:
    """`units` eaches of an allocation (reservation loaded) are promised at `target` from now on; the allocation that
    holds them there. Under the order's lock. Raises `InsufficientStock`, `Conflict`, `UserError`.
    """
    held = allocation.reservation
    moved = reservations.move(
        held.pk,
        warehouse_id=target.pk,
        quantity=units,
        actor=actor,
        mcf=target.kind in holding.FOREIGN_POOLS,
    )
    if moved.pk == held.pk:
        return allocation
    return Allocation.objects.create(line=allocation.line, reservation=moved, per_unit=allocation.per_unit)


# --- shipping -----------------------------------------------------------------------------------


def record_shipped(
    shipped: Sequence[tuple[int, int]], *, shipment_number: str, at: dt.datetime, actor: Actor
) -> Order:
    """Count units that leave the house on their order lines. Inside the transaction that ships them, before
    `inventory.reservations.consume()` takes the same units off the stock: the hot stock rows come last.

    `shipped` pairs allocation ids with eaches of the reservation's SKU, all of one order. The caller's state
    machine makes it once per shipment; units beyond what is held are refused. Returns the order.

    Raises `Conflict` when the order is on hold or a reservation holds less than is shipped, `NotFound`.
    """
    require_transaction()
    if not shipped:
        raise UserError("lines: a shipment needs at least one unit.", field="lines")
    leaving: dict[int, int] = {}
    for pk, units in shipped:
        if units < 1:
            raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
        leaving[pk] = leaving.get(pk, 0) + units
    links = {row.pk: row for row in Allocation.objects.filter(pk__in=leaving).select_related("line")}
    for pk in leaving:
        if pk not in links:
            raise NotFound(f"allocation: there is no allocation with id {pk}.", field="allocation")
    orders = {row.line.order_id for row in links.values()}
    if len(orders) != 1:
        raise UserError("lines: one shipment holds units of one order only.", field="lines")
    order = upkeep.lock(orders.pop())
    if order.holds_open:
        raise Conflict(f"{order.number} is on hold: release its holds before shipping.", field="order")
    by_reservation = {links[pk].reservation_id: units for pk, units in leaving.items()}
    lines = list(
        OrderLine.objects.filter(pk__in={row.line_id for row in links.values()})
        .select_related("sku")
        .order_by("id")
    )
    parts = holding.parts_by_line([line.pk for line in lines])
    texts = []
    for line in lines:
        before = holding.coverage(parts[line.pk])[1]
        after = []
        for part in parts[line.pk]:
            units = by_reservation.get(part.reservation_id, 0)
            if units > part.held:
                raise Conflict(
                    f"{order.number}: {units} of {line.sku} should leave, but only {part.held} are still reserved.",
                    field="quantity",
                )
            after.append(replace(part, held=part.held - units, consumed=part.consumed + units))
        covered, now_shipped = holding.coverage(after)
        if now_shipped > before:
            texts.append(f"{now_shipped - before} × {line.sku}")
        line.shipped += now_shipped - before
        line.reserved = covered - now_shipped
    OrderLine.objects.bulk_update(lines, ["shipped", "reserved"])
    if texts:
        timeline.add(order.pk, "lines", f"Shipped with {shipment_number}: {', '.join(texts)}", actor=actor)
    upkeep.settle(order, actor=actor, changed=["shipped"], at=at)
    return order


def record_delivered(order_id: int, *, at: dt.datetime, actor: Actor) -> Order:
    """Everything that was shipped has arrived. Repeating it changes nothing. Raises `NotFound`."""

    def work() -> Order:
        with stock_transaction():
            order = upkeep.lock(order_id)
            if order.delivered_at is None and order.state == Order.State.SHIPPED:
                order.delivered_at = at
                upkeep.settle(order, actor=actor, changed=["delivered"], at=at)
            return order

    return retrying(work)


# --- stock that went away -----------------------------------------------------------------------


def settle_lost(reservation_ids: Iterable[int], *, actor: Actor, why: str = "stock was lost") -> int:
    """Lines whose reservations were taken away become short; complete kits only stay reserved.

    Compares each line with what its reservations really hold, so it may run any number of times. Returns how
    many lines changed.
    """
    lines = set(
        Allocation.objects.filter(reservation__in=set(reservation_ids)).values_list(
            "line_id", "line__order_id"
        )
    )
    changed = 0
    for order_id in sorted({order_id for _, order_id in lines}):
        ids = sorted(line_id for line_id, of in lines if of == order_id)

        def work(order_id: int = order_id, ids: list[int] = ids) -> int:
            with stock_transaction():
                return _settle_lost(order_id, ids, actor, why)

        changed += retrying(work)
    return changed


def _settle_lost(order_id: int, line_ids: list[int], actor: Actor, why: str) -> int:
    order = upkeep.lock(order_id)
    parts = holding.parts_by_line(line_ids)
    changed: list[OrderLine] = []
    for line in OrderLine.objects.filter(pk__in=line_ids).select_related("sku").order_by("id"):
        covered, shipped = holding.coverage(parts.get(line.pk, []))
        reserved = min(line.reserved, covered - shipped)
        if reserved == line.reserved:
            continue
        if rest := holding.surplus(parts[line.pk], reserved):
            reservations.release(rest, actor=actor, reason="rest of an incomplete kit")
        lost = line.reserved - reserved
        line.reserved = reserved
        line.short += lost
        changed.append(line)
        text = f"{lost} of {line.sku} no longer reserved: {why}; now {line.short} short"
        timeline.add(order.pk, "short", text, actor=actor, data={"lost": lost})
    if changed:
        OrderLine.objects.bulk_update(changed, ["reserved", "short"])
        upkeep.settle(order, actor=actor, changed=["lines"])
    return len(changed)


def is_waited_for(sku_ids: Iterable[int]) -> set[int]:
    """Those SKUs (or their kits) that a live short line waits for: one cheap look before ringing anybody."""
    wanted = set(sku_ids)
    kits = kits_containing(wanted)
    reach: dict[int, set[int]] = {}
    for sku_id in wanted:
        for target in {sku_id, *kits[sku_id]}:
            reach.setdefault(target, set()).add(sku_id)
    short = OrderLine.objects.filter(sku__in=list(reach), short__gt=0, order__state__in=states.LIVE)
    found: set[int] = set()
    for target in short.values_list("sku_id", flat=True).distinct():
        found |= reach[target]
    return found


def follow_merge(source_id: int, target_id: int, *, actor: Actor) -> int:
    """Unshipped lines of a merged SKU become lines of the target and are offered its stock. Returns how many.

    A merge is refused while the source is promised, so such a line only waits. Harmless to repeat.
    """
    lines = OrderLine.objects.filter(
        sku=source_id, short__gt=0, reserved=0, shipped=0, order__state__in=states.LIVE
    )
    changed = 0
    for line_id, order_id in lines.order_by("order_id", "id").values_list("id", "order_id"):
        with stock_transaction():
            upkeep.lock(order_id)
            still = OrderLine.objects.filter(pk=line_id, sku=source_id, reserved=0, shipped=0)
            if still.update(sku=target_id):
                changed += 1
                timeline.add(order_id, "lines", "A line follows the merge of its SKU", actor=actor)
    if changed:
        allocate_waiting([target_id], actor=actor)
    return changed
