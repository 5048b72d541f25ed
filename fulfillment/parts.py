"""An order in parts: units that are sent apart, and put back together.

The channel keeps its order as it is. A split is one more shipment of the same order, so quantities add up by
themselves, a cancellation reaches every part, and the order's money is divided over the parts to the coin.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from fulfillment.models import Shipment, ShipmentLine
from fulfillment.shipments import locked, set_state, why_not_shippable
from inventory.locking import retrying, stock_transaction
from inventory.models import Warehouse
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.doorbell import ring
from oms.core.errors import Conflict, NotFound, UserError, about
from oms.core.money import split_largest_remainder
from oms.orders import allocation as orders_allocation
from oms.orders import timeline, upkeep
from oms.orders.models import Order, OrderLine
from oms.orders.validation import clean


def split(
    order_id: int,
    units: Mapping[int, int],
    *,
    reason: str,
    actor: Actor,
    warehouse_id: int | None = None,
) -> list[Shipment]:
    """Send `units` (order line id → sold units) apart from the rest, from the same warehouse or from `warehouse_id`.

    Only units that nobody has begun to pick. The order keeps off automatic re-routing from then on. Returns the new
    shipments, one per warehouse that the units lie in. All or nothing.

    Raises `UserError` (reason, line, quantity, warehouse), `Conflict` when nothing would be left behind, the units are
    in work, or the order may not be shipped; `InsufficientStock` when the warehouse lacks them; `NotFound`.
    """
    why = clean(reason, 160)
    if not why:
        raise UserError("reason: say why the order is split, it is kept on the order.", field="reason")
    if not units:
        raise UserError("quantity: say how many of which line are sent apart.", field="quantity")

    def work() -> list[Shipment]:
        with stock_transaction():
            return _split(order_id, units, why, warehouse_id, actor)

    return retrying(work)


def _split(
    order_id: int, units: Mapping[int, int], why: str, warehouse_id: int | None, actor: Actor
) -> list[Shipment]:
    order = upkeep.lock(order_id)
    if blocked := why_not_shippable(order):
        raise Conflict(blocked, field="order")
    target = _target(order, warehouse_id)
    _lock_waiting(order)
    taken = _take(order, units)
    rest = ShipmentLine.objects.filter(order_line__order=order, shipment__state__in=_WAITING)
    if sum(line.quantity for line in rest) <= sum(count for _, count in taken):
        raise Conflict(
            f"quantity: that is everything {order.number} still sends; leave something, or use “Send from another "
            "warehouse”.",
            field="quantity",
        )
    parts: dict[int, list[tuple[ShipmentLine, int]]] = defaultdict(list)
    for line, count in taken:
        parts[target.pk if target else line.shipment.warehouse_id].append((line, count))
    made = []
    for place, members in sorted(parts.items()):
        fresh = Shipment.objects.create(order=order, warehouse_id=place, ship_by=order.ship_by)
        for line, count in sorted(members, key=lambda pair: pair[0].allocation_id):
            _shrink(line, count)
            link = line.allocation
            if link.reservation.warehouse_id != place:
                assert target is not None
                link = orders_allocation.move_part(link, target, count, actor=actor)
            ShipmentLine.objects.create(
                shipment=fresh,
                order_line=line.order_line,
                allocation=link,
                sku_id=line.sku_id,
                quantity=count,
            )
        made.append(Shipment.objects.select_related("warehouse").get(pk=fresh.pk))
    for pk in sorted({line.shipment_id for line, _ in taken}):
        emptied = locked(pk)
        if not emptied.lines.exists():
            set_state(emptied, Shipment.State.CANCELLED)
    names = dict(OrderLine.objects.filter(pk__in=units).values_list("pk", "sku__code"))
    what = ", ".join(f"{count} × {names[pk]}" for pk, count in sorted(units.items()))
    numbers = ", ".join(f"{one.number} from {one.warehouse}" for one in made)
    text = f"Split: {what} sent apart with {numbers}: {why}"
    timeline.add(
        order.pk, "split", text, actor=actor, data={"shipments": [one.pk for one in made], "reason": why}
    )
    record(actor, "order.split", order, after={"units": what, "shipments": numbers, "reason": why})
    Order.objects.filter(pk=order.pk).update(routing_locked=True)
    upkeep.settle(order, actor=actor, changed=["routing"])
    for one in made:
        if one.warehouse.kind == Warehouse.Kind.THREEPL:
            ring("fulfillment.threepl.tasks.hand_off", str(one.warehouse_id))
    return made


#: shipments whose units still wait or are in work
_WAITING = (Shipment.State.READY, Shipment.State.PICKING, Shipment.State.PACKED, Shipment.State.LABELLED)


def _target(order: Order, warehouse_id: int | None) -> Warehouse | None:
    if warehouse_id is None:
        return None
    found = Warehouse.objects.filter(pk=warehouse_id, is_active=True).first()
    if found is None:
        raise UserError("warehouse: choose an active warehouse.", field="warehouse")
    if not order.channel.warehouses.filter(warehouse=found, fulfils=True).exists():
        raise UserError(f"warehouse: {found} does not serve {order.channel}.", field="warehouse")
    return found


def _lock_waiting(order: Order) -> None:
    """Until this transaction ends no picker claims what is read as waiting from here on."""
    waiting = Shipment.objects.filter(order=order, state=Shipment.State.READY)
    for pk in waiting.order_by("pk").values_list("pk", flat=True):
        locked(pk)


def _open_lines(order: Order) -> list[ShipmentLine]:
    """Lines of shipments that nobody has begun to work on, newest first."""
    return list(
        ShipmentLine.objects.filter(
            shipment__order=order,
            shipment__state=Shipment.State.READY,
            shipment__claimed_by="",
            shipment__hand_off=None,
        )
        .select_related("shipment", "order_line", "allocation__reservation", "allocation__line")
        .order_by("-shipment_id", "-pk")
    )


def _take(order: Order, units: Mapping[int, int]) -> list[tuple[ShipmentLine, int]]:
    """Which eaches of which shipment lines make up these sold units. Raises `UserError`, `Conflict`."""
    lines = {line.pk: line for line in order.lines.select_related("sku")}
    by_part: dict[int, dict[int, list[ShipmentLine]]] = defaultdict(lambda: defaultdict(list))
    for line in _open_lines(order):
        by_part[line.order_line_id][line.allocation.reservation.sku_id].append(line)
    taken: list[tuple[ShipmentLine, int]] = []
    for pk, wanted in units.items():
        with about(pk):
            if pk not in lines:
                raise UserError(f"lines: {order.number} has no line {pk}.", field="line")
            if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
                raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
            free = splittable(by_part[pk])
            if wanted > free:
                raise Conflict(
                    f"quantity: {wanted} of {lines[pk].sku or lines[pk].external_sku} asked, but only {free} wait to "
                    "be picked; the rest is in work, gone, or waits for stock.",
                    field="quantity",
                )
        for members in by_part[pk].values():
            left = wanted * members[0].allocation.per_unit
            for line in members:
                count = min(left, line.quantity)
                if count:
                    taken.append((line, count))
                    left -= count
    return taken


def splittable(parts: Mapping[int, Sequence[ShipmentLine]]) -> int:
    """Whole sold units among the waiting shipment lines of one order line, by component (pure)."""
    return min(
        (
            sum(line.quantity for line in members) // members[0].allocation.per_unit
            for members in parts.values()
        ),
        default=0,
    )


def free_units(order: Order) -> dict[int, int]:
    """Per order line the sold units that may be sent apart now."""
    by_part: dict[int, dict[int, list[ShipmentLine]]] = defaultdict(lambda: defaultdict(list))
    for line in _open_lines(order):
        by_part[line.order_line_id][line.allocation.reservation.sku_id].append(line)
    return {pk: free for pk, parts in by_part.items() if (free := splittable(parts))}


def _shrink(line: ShipmentLine, count: int) -> None:
    if count == line.quantity:
        line.delete()
    else:
        ShipmentLine.objects.filter(pk=line.pk).update(quantity=line.quantity - count)


def rejoin(shipment_id: int, *, actor: Actor) -> Shipment:
    """Take a split back: the units go onto another waiting shipment of the order in the same warehouse.

    Raises `Conflict` when one of the two is in work or there is none, `NotFound`.
    """

    def work() -> Shipment:
        with stock_transaction():
            found = Shipment.objects.filter(pk=shipment_id).first()
            if found is None:
                raise NotFound("shipment: there is no such shipment.", field="shipment")
            order = upkeep.lock(found.order_id)
            _lock_waiting(order)
            waiting = Shipment.objects.filter(
                order=order, state=Shipment.State.READY, claimed_by="", hand_off=None
            )
            shipment = waiting.filter(pk=shipment_id).first()
            other = (
                waiting.filter(warehouse=found.warehouse_id).exclude(pk=shipment_id).order_by("pk").first()
            )
            if shipment is None or other is None:
                raise Conflict(
                    f"{found.number}: there is no other shipment of {order.number} in {found.warehouse} that waits to "
                    "be picked.",
                    field="shipment",
                )
            for line in shipment.lines.order_by("pk"):
                there = other.lines.filter(allocation=line.allocation_id).first()
                if there is None:
                    ShipmentLine.objects.filter(pk=line.pk).update(shipment=other)
                else:
                    ShipmentLine.objects.filter(pk=there.pk).update(quantity=there.quantity + line.quantity)
                    line.delete()
            set_state(locked(shipment.pk), Shipment.State.CANCELLED)
            text = f"{shipment.number} put back together with {other.number}"
            timeline.add(order.pk, "split", text, actor=actor)
            record(
                actor,
                "order.rejoined",
                order,
                before={"shipment": shipment.number},
                after={"shipment": other.number},
            )
            upkeep.settle(order, actor=actor, changed=["routing"])
            return other

    return retrying(work)


# --- money --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Share:
    """What of an order's money falls on one shipment; `shipment_id` None = what is in no shipment."""

    shipment_id: int | None
    goods: Decimal
    discount: Decimal
    shipping: Decimal
    tax: Decimal

    @property
    def total(self) -> Decimal:
        return self.goods + self.shipping + self.tax - self.discount


def shares(
    order: Order,
    lines: Sequence[tuple[int | None, int, Fraction]],
    prices: Mapping[int, tuple[Decimal, Decimal, Decimal]],
) -> list[Share]:
    """An order's subtotal, discount, shipping and tax divided over its shipments to the coin (pure).

    `lines` holds (shipment or None, order line, sold units); `prices` (goods, discount, tax) of each whole line.
    Shipping and what is not on a line follow the goods. Each column adds up to the order's own figure.
    """
    places = list(dict.fromkeys(place for place, _, _ in lines))
    if not places:
        return []
    sold: dict[int, Fraction] = defaultdict(Fraction)
    for _, line_id, units in lines:
        sold[line_id] += units

    def weights(column: int) -> list[Fraction]:
        found = dict.fromkeys(places, Fraction(0))
        for place, line_id, units in lines:
            if sold[line_id]:
                found[place] += Fraction(prices[line_id][column]) * units / sold[line_id]
        return [found[place] for place in places]

    goods = weights(0)

    def divide(total: Decimal, by: list[Fraction]) -> list[Decimal]:
        return split_largest_remainder(total, by if any(by) else goods, order.currency)

    columns = [
        divide(order.subtotal, goods),
        divide(order.discount, weights(1)),
        divide(order.shipping, goods),
        divide(order.tax, weights(2)),
    ]
    return [Share(place, *values) for place, *values in zip(places, *columns, strict=True)]


def shares_of(order: Order) -> dict[int | None, Share]:
    """The shares of an order's shipments, cancelled ones left out; units in no shipment under None."""
    rows = list(order.lines.all())
    prices = {row.pk: (row.unit_price * row.quantity, row.discount, row.tax) for row in rows}
    left = {row.pk: Fraction(row.quantity) for row in rows}
    per_line: dict[tuple[int, int], dict[int, Fraction]] = defaultdict(dict)
    found = ShipmentLine.objects.filter(order_line__order=order).exclude(
        shipment__state=Shipment.State.CANCELLED
    )
    for line in found.select_related("allocation__reservation"):
        by_sku = per_line[line.shipment_id, line.order_line_id]
        sku = line.allocation.reservation.sku_id
        by_sku[sku] = by_sku.get(sku, Fraction(0)) + Fraction(line.quantity, line.allocation.per_unit)
    kinds: dict[int, set[int]] = defaultdict(set)
    for (_, line_id), by_sku in per_line.items():
        kinds[line_id] |= set(by_sku)
    lines: list[tuple[int | None, int, Fraction]] = []
    for (shipment_id, line_id), by_sku in sorted(per_line.items()):
        units = sum(by_sku.values(), Fraction(0)) / len(kinds[line_id])  # a kit in parts counts in parts
        lines.append((shipment_id, line_id, units))
        left[line_id] -= units
    lines += [(None, line_id, units) for line_id, units in left.items() if units > 0]
    return {share.shipment_id: share for share in shares(order, lines, prices)}
