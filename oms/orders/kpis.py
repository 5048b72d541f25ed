"""Figures of order entry. A denominator of 0 gives None."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Count, F, Q, QuerySet, Sum

from oms.orders.demand import DEMAND_KINDS
from oms.orders.models import Order, OrderLine


@dataclass(frozen=True)
class StockoutRate:
    """Demand-based stockout rate: lines and units that could not be reserved at the first try."""

    lines: int
    short_lines: int
    units: int
    short_units: int

    @property
    def rate(self) -> Decimal | None:
        """Share of demand lines; a backorder filled later still counts."""
        return Decimal(self.short_lines) / self.lines if self.lines else None

    @property
    def unit_rate(self) -> Decimal | None:
        """Short units ÷ demanded units = 1 − fill rate."""
        return Decimal(self.short_units) / self.units if self.units else None


def _demand(start: dt.datetime, end: dt.datetime, channel: str) -> QuerySet[OrderLine]:
    lines = OrderLine.objects.filter(
        order__placed_at__gte=start,
        order__placed_at__lt=end,
        order__is_test=False,
        order__kind__in=DEMAND_KINDS,
        order__fulfilled_by=Order.FulfilledBy.US,
        kind=OrderLine.Kind.PRODUCT,
        sku__isnull=False,
    )
    # a line that was cancelled before anything was tried is no demand
    lines = lines.filter(
        Q(quantity__gt=F("cancelled")) | Q(allocations__isnull=False) | Q(short_at_entry__gt=0)
    ).distinct()
    return lines.filter(order__channel__code=channel) if channel else lines


def stockout_rate(start: dt.datetime, end: dt.datetime, *, channel: str = "") -> StockoutRate:
    """Lines of orders placed in [start, end), all channels or the one with this code."""
    ids = _demand(start, end, channel).values("pk")
    sums = OrderLine.objects.filter(pk__in=ids).aggregate(
        lines=Count("id"),
        short_lines=Count("id", filter=Q(short_at_entry__gt=0)),
        units=Sum("quantity"),
        short_units=Sum("short_at_entry"),
    )
    return StockoutRate(sums["lines"], sums["short_lines"], sums["units"] or 0, sums["short_units"] or 0)


def percentile(ascending: Sequence[float], share: float) -> float | None:
    """Linear interpolation between ranks, as PostgreSQL's percentile_cont; None without values.

    >>> percentile([2, 3, 5, 8, 26, 50], 0.5), percentile([2, 3, 5, 8, 26, 50], 0.9)
    (6.5, 38.0)
    """
    if not ascending:
        return None
    place = share * (len(ascending) - 1)
    low = math.floor(place)
    high = math.ceil(place)
    return ascending[low] + (ascending[high] - ascending[low]) * (place - low)
