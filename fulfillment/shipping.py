"""The parcel leaves: stock goes down, the reservation is consumed, the news goes to the channel."""

from __future__ import annotations

import datetime as dt

from django.db import transaction

from fulfillment import states
from fulfillment.models import LabelPurchase, Shipment, TrackingEvent
from fulfillment.packing import live_parcels
from fulfillment.shipments import locked, set_state, why_not_shippable
from inventory import reservations
from inventory.locking import retrying
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import Conflict
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
        lines = list(shipment.lines.select_related("allocation").order_by("pk"))
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
        )
    return shipment


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
    """Store a carrier's scan once; the last parcel delivered makes the shipment delivered. True when new."""
    with transaction.atomic():
        purchase = LabelPurchase.objects.select_related("parcel").get(pk=purchase_id)
        shipment = locked(purchase.parcel.shipment_id)
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


def tracking_status(purchase: LabelPurchase) -> str:
    """The furthest status of a label's scans."""
    statuses = set(purchase.events.values_list("status", flat=True))
    for status in reversed(TRACKING_ORDER):
        if status in statuses:
            return status
    return "pending" if purchase.state == LabelPurchase.State.PURCHASED else purchase.state
