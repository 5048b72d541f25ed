"""A picker finds more than the books say: the units become stock by a movement of their own, never quietly."""

from __future__ import annotations

from django.db import transaction

from fulfillment.models import Shipment, ShipmentLine
from fulfillment.shipments import locked
from inventory import operations
from inventory.models import AdjustmentRequest, StockMovement
from inventory.operations import Adjusted
from oms.core.actor import Actor
from oms.core.errors import Conflict, UserError
from oms.orders import timeline


def found_more(line_id: int, units: int, *, reason: str, actor: Actor, key: str, note: str = "") -> Adjusted:
    """`units` eaches of a shipment line's SKU lie in its warehouse beyond what the books say. Once per `key`.

    They are on hand at once, or when a second person agrees where they are worth more than the picker may move
    alone. `reason` is of the list, with its rules. Raises `UserError`, `Conflict` (the shipment is no longer picked).
    """
    with transaction.atomic():
        line = ShipmentLine.objects.select_related("allocation__reservation__sku").filter(pk=line_id).first()
        if line is None:
            raise UserError("line: there is no such line.", field="line")
        shipment = locked(line.shipment_id)
        if shipment.state not in (Shipment.State.READY, Shipment.State.PICKING):
            raise Conflict(
                f"{shipment.number} is {shipment.get_state_display().lower()}: adjust the stock instead.",
                field="state",
            )
        held = line.allocation.reservation
        again = any(model.objects.filter(key=key).exists() for model in (StockMovement, AdjustmentRequest))
        done = operations.found(
            sku_id=held.sku_id, warehouse_id=held.warehouse_id, quantity=units, reason=reason, note=note,
            reference=shipment.number, actor=actor, key=key,
        )  # fmt: skip
        waits = "; a second person has to agree" if done.request else ""
        text = (
            f"{shipment.number}: {units} × {held.sku} more than the books said in {shipment.warehouse}{waits}"
        )
        if not again:
            timeline.add(shipment.order_id, "found", text, actor=actor)
    return done
