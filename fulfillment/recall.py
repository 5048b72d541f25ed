"""A closed box whose units were cancelled: the label goes back first, then the box is opened or given up."""

from __future__ import annotations

from django.db import transaction

from fulfillment import labels, shipments
from fulfillment.models import LabelPurchase, Shipment
from oms.core.actor import Actor
from oms.core.exceptions_inbox import close_item, raise_item
from oms.orders import timeline


def recall(order_id: int, *, actor: Actor) -> int:
    """Bring packed and labelled shipments of an order in line with what it still holds; returns how many changed.

    Bought labels are voided before anything else. A box of which nothing is held is cancelled; of one that is
    held in part a person takes the cancelled units out and packs again.
    """
    changed = 0
    closed = [Shipment.State.PACKED, Shipment.State.LABELLED]
    for shipment in Shipment.objects.filter(order=order_id, state__in=closed).order_by("pk"):
        lines = list(shipment.lines.select_related("allocation__reservation", "sku"))
        held = [min(line.quantity, line.allocation.reservation.quantity) for line in lines]
        if all(units == line.quantity for units, line in zip(held, lines, strict=True)):
            continue
        changed += 1
        for purchase in LabelPurchase.objects.filter(
            parcel__shipment=shipment, state=LabelPurchase.State.PURCHASED
        ):
            labels.void(purchase.pk, actor=actor)
        if LabelPurchase.objects.filter(parcel__shipment=shipment, state__in=LabelPurchase.LIVE).exists():
            continue  # the carrier keeps it or its outcome is unknown: that item is in the inbox already
        if not any(held):
            shipments.cancel_shipment(shipment.pk, actor=actor, reason="its units were cancelled")
            close_item(f"repack:{shipment.pk}", "cancelled")
            continue
        with transaction.atomic():
            opened = shipments.locked(shipment.pk)
            if opened.state == Shipment.State.PACKED:
                shipments.set_state(opened, Shipment.State.PICKING)
                timeline.add(
                    order_id, "pack", f"{opened.number} opened again: units were cancelled", actor=actor
                )
        shipments.trim(order_id, actor=actor)
        out = ", ".join(
            f"{line.quantity - units} × {line.sku}"
            for units, line in zip(held, lines, strict=True)
            if units < line.quantity
        )
        raise_item(
            "repack",
            f"repack:{shipment.pk}",
            f"{shipment.number}: take {out} out and pack again",
            url=f"/floor/{shipment.pk}/",
            warehouse_code=shipment.warehouse.code,
            due_at=shipment.ship_by,
        )
    return changed
