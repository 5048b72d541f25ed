"""Reads of the purchasing floor."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import F

from procurement import states
from procurement.models import PurchaseOrder, PurchaseOrderLine


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
            line.expected_on or line.order.expected_on,
            line.order_id,
        )
        for line in lines
    ]
    return sorted(found, key=lambda item: (item.expected_on or dt.date.max, item.order_id))


def incoming_units(sku_ids: Iterable[int]) -> dict[tuple[int, int], int]:
    """Units on order per (sku, warehouse)."""
    totals: dict[tuple[int, int], int] = defaultdict(int)
    for item in incoming(sku_ids):
        totals[item.sku_id, item.warehouse_id] += item.units
    return dict(totals)


@dataclass(frozen=True)
class LeadTime:
    """What a supplier states and what was measured from sent to first receipt, calendar days."""

    stated: int
    measured: float | None
    deviation: float
    receipts: int

    @property
    def days(self) -> float:
        """Measured from five receipts on, else the stated one."""
        return self.measured if self.measured is not None and self.receipts >= 5 else float(self.stated)


def lead_time(supplier_id: int, stated: int) -> LeadTime:
    """Mean and sample deviation of sent → received over the supplier's last 20 received orders."""
    orders = (
        PurchaseOrder.objects.filter(supplier=supplier_id, sent_at__isnull=False, receipts__isnull=False)
        .distinct()
        .order_by("-pk")[:20]
        .prefetch_related("receipts")
    )
    days = [
        (max(r.received_at for r in order.receipts.all()) - order.sent_at).total_seconds() / 86_400
        for order in orders
        if order.sent_at
    ]
    days = [max(0.0, value) for value in days]
    if not days:
        return LeadTime(stated, None, 0.0, 0)
    mean = sum(days) / len(days)
    variance = sum((value - mean) ** 2 for value in days) / (len(days) - 1) if len(days) > 1 else 0.0
    return LeadTime(stated, mean, variance**0.5, len(days))
