"""Shipments: what one warehouse sends for one order, made from the order's allocations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from django.db import transaction
from django.db.models import F, Sum

from fulfillment import states
from fulfillment.models import HandOff, LabelPurchase, Shipment, ShipmentLine
from inventory.models import Reservation, Warehouse
from oms.core.actor import Actor
from oms.core.doorbell import ring
from oms.core.errors import Conflict, NotFound
from oms.core.inserts import insert_rows, take_ids
from oms.orders import timeline
from oms.orders.models import Allocation, Order


def locked(shipment_id: int) -> Shipment:
    """Bump the version, which is the lock on both databases, and read it anew. Inside atomic only."""
    if not Shipment.objects.filter(pk=shipment_id).update(version=F("version") + 1):
        raise NotFound("shipment: there is no such shipment.", field="shipment")
    return Shipment.objects.select_related("order__channel", "warehouse").get(pk=shipment_id)


def set_state(shipment: Shipment, to: str, **fields: object) -> None:
    """Move a locked shipment along its table. Raises `Conflict`."""
    states.check(states.SHIPMENT, shipment.number, shipment.state, to)
    Shipment.objects.filter(pk=shipment.pk).update(state=to, **fields)
    shipment.state = to
    for name, value in fields.items():
        setattr(shipment, name, value)


def why_not_shippable(order: Order) -> str:
    """The sentence that blocks shipping and label purchase, or empty."""
    if order.state == Order.State.PENDING:
        return f"{order.number} is not paid yet."
    if order.state == Order.State.CANCELLED:
        return f"{order.number} is cancelled."
    if order.fulfilled_by == Order.FulfilledBy.CHANNEL:
        return f"{order.number} is shipped by the channel."
    if order.buyer_cancel_requested:
        return f"{order.number}: the buyer asked to cancel; decide that first."
    if order.holds_open:
        return f"{order.number} is on hold: release the hold first."
    return ""


def ensure_shipments(order_id: int, *, actor: Actor) -> list[Shipment]:
    """Make or extend the open shipments so that every open allocation is on exactly one; harmless when repeated.

    Units go onto the warehouse's shipment that is still `ready`; one being picked is left alone and the
    rest gets a new shipment. Runs inside the caller's transaction, or its own.
    """
    return ensure_many([order_id], actor=actor)


def ensure_many(order_ids: Collection[int], *, actor: Actor) -> list[Shipment]:
    """`ensure_shipments` for orders whose rows the caller has locked, if they are several, in a dozen statements."""
    with transaction.atomic():
        Order.objects.filter(pk__in=order_ids).update(version=F("version") + 1)
        orders = {
            order.pk: order
            for order in Order.objects.select_related("channel").filter(pk__in=order_ids)
            if not why_not_shippable(order)
        }
        missing = _not_shipped(orders)
        made: dict[tuple[int, int], Shipment] = {}
        for ready in (
            Shipment.objects.select_related("warehouse")
            .filter(order__in=orders, state=Shipment.State.READY, claimed_by="")
            .order_by("id")
        ):
            if (ready.order_id, ready.warehouse_id) in missing:
                made[ready.order_id, ready.warehouse_id] = ready
        for shipment in made.values():
            locked(shipment.pk)
        known = {
            (line.shipment_id, line.allocation_id): line.pk
            for line in ShipmentLine.objects.filter(shipment__in=made.values())
        } if made else {}  # fmt: skip
        fresh = [key for key in sorted(missing) if key not in made]
        for (order_id, warehouse_id), pk in zip(
            fresh, take_ids({Shipment: len(fresh)})[Shipment], strict=True
        ):
            made[order_id, warehouse_id] = Shipment(
                pk=pk, order=orders[order_id],
                warehouse=missing[order_id, warehouse_id][0][0].reservation.warehouse,
                ship_by=orders[order_id].ship_by,
            )  # fmt: skip
        insert_rows([made[key] for key in fresh])
        timeline.write(
            timeline.entry(
                key[0], "shipment", f"{made[key].number} to be sent from {made[key].warehouse}", actor=actor
            )
            for key in fresh
        )
        lines = []
        for key, parts in sorted(missing.items()):
            for allocation, units in parts:
                line_id = known.get((made[key].pk, allocation.pk))
                if line_id is not None:
                    ShipmentLine.objects.filter(pk=line_id).update(quantity=F("quantity") + units)
                    continue
                lines.append(
                    ShipmentLine(
                        shipment=made[key], allocation=allocation, order_line_id=allocation.line_id,
                        sku_id=allocation.reservation.sku_id, quantity=units,
                    )
                )  # fmt: skip
        insert_rows(lines)
        for warehouse in {shipment.warehouse for shipment in made.values()}:
            if warehouse.kind in (Warehouse.Kind.THREEPL, Warehouse.Kind.FBA):
                ring("fulfillment.threepl.tasks.hand_off", str(warehouse.pk))
    return [made[key] for key in sorted(made)]


def _not_shipped(orders: Collection[int]) -> dict[tuple[int, int], list[tuple[Allocation, int]]]:
    """Per (order, warehouse) the allocations with units that no open shipment holds."""
    placed = dict(
        ShipmentLine.objects.filter(order_line__order__in=orders, shipment__state__in=states.OPEN)
        .order_by()
        .values_list("allocation")
        .annotate(units=Sum("quantity"))
    )
    missing: dict[tuple[int, int], list[tuple[Allocation, int]]] = defaultdict(list)
    for allocation in (
        Allocation.objects.filter(line__order__in=orders, reservation__state=Reservation.State.OPEN)
        .select_related("reservation__warehouse", "line")
        .order_by("pk")
    ):
        left = allocation.reservation.quantity - placed.get(allocation.pk, 0)
        if left > 0:
            missing[allocation.line.order_id, allocation.reservation.warehouse_id].append((allocation, left))
    return missing


def to_trim(order_ids: Collection[int]) -> set[int]:
    """Which of these orders have open shipments that do not fit what is held, or units that a 3PL was told of.

    Two queries, however many orders.
    """
    units: dict[int, int] = defaultdict(int)
    held: dict[int, tuple[int, int]] = {}
    found = set(
        HandOff.objects.filter(shipment__order__in=order_ids).values_list("shipment__order", flat=True)
    )
    rows = ShipmentLine.objects.filter(order_line__order__in=order_ids, shipment__state__in=states.OPEN)
    for order_id, allocation, quantity, here, there, reserved in rows.values_list(
        "order_line__order",
        "allocation",
        "quantity",
        "shipment__warehouse",
        "allocation__reservation__warehouse",
        "allocation__reservation__quantity",
    ):
        units[allocation] += quantity
        held[allocation] = order_id, reserved
        if here != there:
            found.add(order_id)
    return found | {held[one][0] for one, quantity in units.items() if quantity > held[one][1]}


def trim(order_id: int, *, actor: Actor) -> None:
    """Bring open shipments in line after reservations shrank, moved or went: nothing is sent that is not held."""
    with transaction.atomic():
        lines = (
            ShipmentLine.objects.filter(order_line__order=order_id, shipment__state__in=states.OPEN)
            .select_related("shipment", "allocation__reservation")
            .order_by("-shipment_id", "-pk")
        )
        left: dict[int, int] = {}
        for line in lines:
            reservation = line.allocation.reservation
            held = left.get(line.allocation_id, reservation.quantity)
            if line.shipment.warehouse_id != reservation.warehouse_id:
                held = 0
            keep = min(line.quantity, held)
            left[line.allocation_id] = (
                held - keep if held else left.get(line.allocation_id, reservation.quantity)
            )
            if keep == line.quantity:
                continue
            shipment = locked(line.shipment_id)
            if shipment.state in (Shipment.State.PACKED, Shipment.State.LABELLED):
                # the box is closed: a person opens it again, the count is kept visible
                continue
            if keep:
                ShipmentLine.objects.filter(pk=line.pk).update(
                    quantity=keep, picked=min(line.picked, keep), packed=min(line.packed, keep)
                )
            else:
                line.delete()
            if not shipment.lines.exists():
                set_state(shipment, Shipment.State.CANCELLED)
                timeline.add(
                    order_id, "shipment", f"{shipment.number} is empty and was cancelled", actor=actor
                )
        _tell_partner(order_id)


def _tell_partner(order_id: int) -> None:
    """Units that were handed to a 3PL and are no longer held are taken back there."""
    if HandOff.objects.filter(shipment__order=order_id).exists():
        ring("fulfillment.threepl.tasks.follow", str(order_id))


def not_handed_off(shipment: Shipment) -> None:
    """Raise `Conflict` where a 3PL works on it: two houses must not send the same units."""
    given = HandOff.objects.filter(shipment=shipment).select_related("account").first()
    if given is not None:
        raise Conflict(
            f"{shipment.number} is handed to {given.account}: take it back there before you send it yourself.",
            field="shipment",
        )


def cancel_shipment(shipment_id: int, *, actor: Actor, reason: str) -> Shipment:
    """Cancel a shipment before it left. A live label must be voided first. Reservations stay with the order."""
    with transaction.atomic():
        shipment = locked(shipment_id)
        if shipment.state == Shipment.State.CANCELLED:
            return shipment
        not_handed_off(shipment)
        live = LabelPurchase.objects.filter(parcel__shipment=shipment, state__in=LabelPurchase.LIVE)
        if live.exists():
            raise Conflict(f"{shipment.number} has a label: void it before cancelling.", field="label")
        set_state(shipment, Shipment.State.CANCELLED)
        timeline.add(
            shipment.order_id, "shipment", f"{shipment.number} cancelled: {reason}"[:400], actor=actor
        )
        _tell_partner(shipment.order_id)
    return shipment
