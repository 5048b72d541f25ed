"""Reads of the purchasing floor."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import F, Max, QuerySet, Sum

from inventory.incoming import incoming_provider
from oms.core.clock import business_day
from procurement import scorecard, states
from procurement.models import PurchaseOrder, PurchaseOrderLine
from procurement.scorecard import LeadTime, PurchaseResult, Score


@dataclass(frozen=True)
class Incoming:
    """Open units of one purchase order line."""

    sku_id: int
    warehouse_id: int
    units: int
    expected_on: dt.date | None
    order_id: int


def incoming(sku_ids: Iterable[int] | None = None) -> list[Incoming]:
    """Open quantities of live purchase orders, earliest first; drafts do not count."""
    lines = PurchaseOrderLine.objects.filter(
        order__state__in=states.INCOMING, quantity__gt=F("received") + F("short")
    ).select_related("order")
    if sku_ids is not None:
        lines = lines.filter(sku__in=list(sku_ids))
    found = [
        Incoming(
            line.sku_id,
            line.order.warehouse_id,
            line.open_quantity,
            line.due_on,
            line.order_id,
        )
        for line in lines
    ]
    return sorted(found, key=lambda item: (item.expected_on or dt.date.max, item.order_id))


@incoming_provider("purchase orders")
def on_order(sku_ids: Collection[int]) -> dict[tuple[int, int], int]:
    """Open units per (SKU id, warehouse id) of live purchase orders, for the stock floor's figure of incoming."""
    found: dict[tuple[int, int], int] = {}
    for item in incoming(sku_ids):
        pair = (item.sku_id, item.warehouse_id)
        found[pair] = found.get(pair, 0) + item.units
    return found


#: the newest purchase orders by which a supplier is judged
JUDGED_ORDERS = 20


def _judged(supplier_id: int) -> QuerySet[PurchaseOrder]:
    return PurchaseOrder.objects.filter(supplier=supplier_id, sent_at__isnull=False).exclude(
        state=PurchaseOrder.State.CANCELLED
    )


def lead_time(supplier_id: int, stated: int) -> LeadTime:
    """Lead time from sent to last receipt over the supplier's last 20 received orders, calendar days."""
    received = (
        _judged(supplier_id)
        .annotate(last=Max("receipts__received_at"))
        .filter(last__isnull=False)
        .order_by("-pk")
        .values_list("sent_at", "last")[:JUDGED_ORDERS]
    )
    return scorecard.lead_time(
        [(last - sent).total_seconds() / 86_400 for sent, last in received if sent], stated
    )


def score(supplier_id: int) -> Score:
    """On-time, fill and defect rate over the lines of the supplier's last 20 sent orders."""
    orders = _judged(supplier_id).order_by("-pk").values_list("pk", flat=True)[:JUDGED_ORDERS]
    lines = (
        PurchaseOrderLine.objects.filter(order__in=list(orders))
        .select_related("order")
        .annotate(damaged=Sum("receipts__damaged"), last=Max("receipts__receipt__received_at"))
    )
    return scorecard.score([_result(line) for line in lines], today=business_day())


def _result(line: Any) -> PurchaseResult:
    """A line has ended with its last receipt, or with its order when that was closed short."""
    ended: dt.datetime | None = None
    if not line.open_quantity:
        ended = line.order.closed_at if line.short else line.last
    return PurchaseResult(
        ordered=line.quantity,
        received=line.received,
        rejected=line.damaged or 0,
        promised_on=line.agreed_on or line.due_on,
        ended_on=business_day(ended) if ended else None,
    )
