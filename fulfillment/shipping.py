"""The parcel leaves: stock goes down, the reservation is consumed, the news goes to the channel."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal

from django.db import transaction

from fulfillment import states
from fulfillment.models import LabelPurchase, Pick, Shipment, ShipmentCharge, ShipmentLine, TrackingEvent
from fulfillment.packing import live_parcels
from fulfillment.shipments import locked, set_state, why_not_shippable
from inventory import reservations, serials
from inventory.locking import retrying
from inventory.models import Warehouse
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.outbox import emit
from oms.orders import allocation, timeline

#: later in this list wins; nothing goes back from delivered
TRACKING_ORDER = (
    "pending",
    "picked_up",
    "in_transit",
    "out_for_delivery",
    "delivery_failed",
    "return_to_sender",
    "delivered",
)
#: what a carrier can tell of a parcel
SCANS = TRACKING_ORDER[1:]
#: clocks of other houses may be this much before ours
_CLOCKS = dt.timedelta(minutes=5)


def ship(
    shipment_id: int, *, actor: Actor, evidence: str = "handover", at: dt.datetime | None = None
) -> Shipment:
    """Mark a labelled shipment as gone: on hand − and reserved − once, order lines count it as shipped.

    Every live parcel needs a purchased label. Repeating it changes nothing. Raises `Conflict`.
    """
    when = at or now()
    return retrying(lambda: _ship(shipment_id, actor, evidence, when))


def _ship(shipment_id: int, actor: Actor, evidence: str, when: dt.datetime) -> Shipment:
    with transaction.atomic():
        shipment = locked(shipment_id)
        if shipment.state in (Shipment.State.SHIPPED, Shipment.State.DELIVERED):
            return shipment
        blocked = why_not_shippable(shipment.order)
        if blocked:
            raise Conflict(blocked, field="order")
        for parcel in live_parcels(shipment):
            if not parcel.purchases.filter(state=LabelPurchase.State.PURCHASED).exists():
                raise Conflict(f"{shipment.number}: parcel {parcel.number} has no label yet.", field="label")
        set_state(shipment, Shipment.State.SHIPPED, shipped_at=when, shipped_evidence=evidence)
        lines = list(shipment.lines.select_related("allocation", "sku").order_by("pk"))
        picked = _picked(shipment, lines, actor)
        allocation.record_shipped(
            [(line.allocation_id, line.quantity) for line in lines],
            shipment_number=shipment.number,
            at=when,
            actor=actor,
        )
        emit("shipment.shipped", str(shipment.pk))
        # the hot stock rows come last before the commit
        reservations.consume(
            {line.allocation.reservation_id: line.quantity for line in lines},
            actor=actor,
            reference=shipment.number,
            key=f"ship:{shipment.pk}",
            occurred_at=when,
            picked=picked,
        )
    return shipment


def _picked(
    shipment: Shipment, lines: Sequence[ShipmentLine], actor: Actor
) -> dict[int, list[reservations.Picked]]:
    """Lots that were scanned, per reservation; serial numbers leave here. Raises `Conflict` when one is missing."""
    picks: dict[int, list[Pick]] = defaultdict(list)
    for pick in Pick.objects.filter(line__in=lines).select_related("serial", "lot").order_by("pk"):
        picks[pick.line_id].append(pick)
    found: dict[int, list[reservations.Picked]] = defaultdict(list)
    for line in lines:
        left = line.quantity
        numbers: list[str] = []
        by_lot: dict[int, int] = defaultdict(int)
        for pick in picks[line.pk]:  # a line may have shrunk after its scans
            units = min(left, pick.quantity)
            left -= units
            if units and pick.lot_id:
                by_lot[pick.lot_id] += units
            if units and pick.serial:
                numbers.append(pick.serial.serial)
        # another house does not tell us its numbers
        if line.sku.serial_tracked and shipment.warehouse.kind in (Warehouse.Kind.OWN, Warehouse.Kind.STORE):
            if len(numbers) != line.quantity:
                raise Conflict(
                    f"{shipment.number}: {line.quantity} × {line.sku} need {line.quantity} serial numbers, "
                    f"{len(numbers)} were scanned.",
                    field="serial",
                )
            serials.leave(
                line.sku, numbers, warehouse_id=shipment.warehouse_id, reference=shipment.number, actor=actor
            )
        found[line.allocation.reservation_id] += [
            reservations.Picked(units, lot_id=lot_id) for lot_id, units in sorted(by_lot.items())
        ]
    return found


def record_tracking(
    purchase_id: int,
    *,
    status: str,
    at: dt.datetime,
    actor: Actor,
    code: str = "",
    text: str = "",
    place: str = "",
) -> bool:
    """Store a carrier's scan once; the last parcel delivered makes the shipment delivered. True when new.

    Raises `UserError` for a scan of the future, `Conflict` while the parcel has not left or its label is void.
    """
    if at > now() + _CLOCKS:
        raise UserError("at: a scan cannot lie in the future.", field="at")
    with transaction.atomic():
        purchase = LabelPurchase.objects.select_related("parcel").get(pk=purchase_id)
        shipment = locked(purchase.parcel.shipment_id)
        if shipment.state not in (Shipment.State.SHIPPED, Shipment.State.DELIVERED):
            raise Conflict(f"{shipment.number} has not left: mark it as gone first.", field="state")
        if purchase.state != LabelPurchase.State.PURCHASED:
            raise Conflict(f"label: {purchase.reference} is no label in use.", field="label")
        _, created = TrackingEvent.objects.get_or_create(
            purchase=purchase,
            status=status,
            code=code,
            at=at,
            defaults={"text": text[:255], "place": place[:120]},
        )
        if not created:
            return False
        if status == "delivered" and shipment.state == Shipment.State.SHIPPED:
            open_parcels = [
                parcel
                for parcel in live_parcels(shipment)
                if not TrackingEvent.objects.filter(
                    purchase__parcel=parcel, purchase__state=LabelPurchase.State.PURCHASED, status="delivered"
                ).exists()
            ]
            if not open_parcels:
                set_state(shipment, Shipment.State.DELIVERED, delivered_at=at)
                timeline.add(shipment.order_id, "delivered", f"{shipment.number} delivered", actor=actor)
                emit("shipment.delivered", str(shipment.pk))
                if not Shipment.objects.filter(
                    order=shipment.order_id, state__in=[*states.OPEN, Shipment.State.SHIPPED]
                ).exists():
                    allocation.record_delivered(shipment.order_id, at=at, actor=actor)
    return True


def cost(purchases: Iterable[LabelPurchase], charges: Iterable[ShipmentCharge]) -> list[tuple[str, Decimal]]:
    """What a shipment cost: its live labels and what a 3PL charges beside them, summed per currency (pure)."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for purchase in purchases:
        if purchase.state == LabelPurchase.State.PURCHASED and purchase.cost is not None:
            sums[purchase.currency] += purchase.cost
    for charge in charges:
        sums[charge.currency] += charge.amount
    return sorted(sums.items())


def tracking_status(purchase: LabelPurchase) -> str:
    """The furthest status of a label's scans."""
    statuses = {event.status for event in purchase.events.all()}
    for status in reversed(TRACKING_ORDER):
        if status in statuses:
            return status
    return "pending" if purchase.state == LabelPurchase.State.PURCHASED else purchase.state
