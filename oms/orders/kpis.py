"""Figures of order entry: the demand-based stockout rate. A denominator of 0 gives None."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from oms.core.clock import business_zone
from oms.core.figures import Place, Tallies, Tally, Window, share
from oms.orders.demand import DEMAND_KINDS
from oms.orders.models import Allocation, Order, OrderLine


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
        return share(self.short_lines, self.lines)

    @property
    def unit_rate(self) -> Decimal | None:
        """Short units ÷ demanded units = 1 − fill rate."""
        return share(self.short_units, self.units)


def demand_lines(start: dt.datetime, end: dt.datetime) -> QuerySet[OrderLine]:
    """Product lines that buyers asked us for in [start, end). One cancelled before anything was tried is no demand."""
    tried = Exists(Allocation.objects.filter(line=OuterRef("pk")))
    return OrderLine.objects.filter(
        Q(quantity__gt=F("cancelled")) | Q(short_at_entry__gt=0) | tried,
        order__placed_at__gte=start,
        order__placed_at__lt=end,
        order__is_test=False,
        order__kind__in=DEMAND_KINDS,
        order__fulfilled_by=Order.FulfilledBy.US,
        kind=OrderLine.Kind.PRODUCT,
        sku__isnull=False,
    )


def tally(window: Window) -> Tallies:
    """Demand per day and channel, by the day the order was placed."""
    found: Tallies = {}
    zone = business_zone()
    rows = demand_lines(window.start, window.end).order_by()
    for at, channel, units, short in rows.values_list(
        "order__placed_at", "order__channel__code", "quantity", "short_at_entry"
    ).iterator(chunk_size=5000):
        one = found.setdefault(Place(at.astimezone(zone).date(), channel), Tally())
        one.add("lines")
        one.add("units", units)
        one.add("short_lines", int(short > 0))
        one.add("short_units", short)
    return found


def stockout_rate(tally: Tally) -> StockoutRate:
    """The figure of a tally."""
    return StockoutRate(*(tally.whole(name) for name in ("lines", "short_lines", "units", "short_units")))
