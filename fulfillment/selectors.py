"""Reads of the fulfillment floor."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet, Sum

from fulfillment.models import Shipment
from oms.core.access import scope_of
from oms.core.errors import NotFound


def visible(principal: Any, permission: str = "shipping.view") -> QuerySet[Shipment]:
    """The shipments a user or token may see: own warehouses and channels."""
    scope = scope_of(principal, permission)
    return Shipment.objects.filter(
        scope.q(warehouse="warehouse__code", channel="order__channel__code")
    ).select_related("order__channel", "warehouse", "carrier_account")


def find(principal: Any, pk: int, permission: str = "shipping.view") -> Shipment:
    """One visible shipment. Raises `NotFound`."""
    shipment = visible(principal, permission).filter(pk=pk).first()
    if shipment is None:
        raise NotFound("Shipment: there is no such shipment.")
    return shipment


def work_queue(principal: Any) -> QuerySet[Shipment]:
    """What waits to be picked, packed or labelled, the most urgent first."""
    return (
        visible(principal, "shipping.work")
        .filter(
            state__in=[
                Shipment.State.READY,
                Shipment.State.PICKING,
                Shipment.State.PACKED,
                Shipment.State.LABELLED,
            ]
        )
        .filter(order__holds_open=0, hand_off=None)  # a 3PL works on the others
        .annotate(units=Sum("lines__quantity"))
        .order_by("ship_by", "pk")
    )
