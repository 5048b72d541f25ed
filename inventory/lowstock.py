"""Low stock: told once when a SKU falls below its limit, again only after it has recovered.

Days of cover = available ÷ velocity, where days on which nothing could be sold count neither as days nor as demand.
A limit in units on the SKU goes before the business's days of cover. Only pools that we count ourselves count.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from urllib.parse import quote

from django.db import transaction
from django.db.models import Sum

from inventory import kpis
from inventory.models import DemandDay, LowStock, Sku, StockLevel, Warehouse
from inventory.velocity import Velocity, cover_days, fill_days, stockout_day, velocity
from oms.core import business
from oms.core.clock import business_day, now
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.figures import Window

#: SKUs looked at together
CHUNK = 500
WINDOW = dt.timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a SKU has and how long that lasts; `out_on` None without sales to go by."""

    available: int
    velocity: Velocity
    cover: float | None
    out_on: dt.date | None


def demand(sku_ids: Collection[int], first: dt.date, last: dt.date) -> dict[int, dict[dt.date, int]]:
    """Units demanded per SKU and business day over all channels."""
    found: dict[int, dict[dt.date, int]] = {}
    rows = DemandDay.objects.filter(sku__in=sku_ids, day__gte=first, day__lte=last).order_by()
    for sku, day, units in rows.values_list("sku_id", "day").annotate(units=Sum("units")):
        found.setdefault(sku, {})[day] = units
    return found


def outlooks(sku_ids: Collection[int]) -> dict[int, Outlook]:
    """Available, velocity, cover and predicted stockout day per SKU. Three queries."""
    today = business_day()
    first, last = today - WINDOW, today - dt.timedelta(days=1)
    sold, gone = demand(sku_ids, first, last), kpis.out_days(sku_ids, Window(first, last))
    levels = StockLevel.objects.filter(sku__in=sku_ids).exclude(
        warehouse__kind__in=(Warehouse.Kind.FBA, Warehouse.Kind.WFS)
    )
    left: dict[int, int] = {}
    for level in levels.filter(warehouse__is_active=True):
        left[level.sku_id] = left.get(level.sku_id, 0) + level.available
    answer = {}
    for sku in sku_ids:
        pace = Velocity(None, 0, "none")
        if sku in sold:
            pace = velocity(fill_days(sold[sku], first, last, out_of_stock=gone.get(sku, set())))
        available = left.get(sku, 0)
        answer[sku] = Outlook(
            available,
            pace,
            cover_days(available, pace.per_day),
            stockout_day(available, pace.per_day, today),
        )
    return answer


def is_low(outlook: Outlook, limit: int | None, days: int) -> bool:
    """At or below its own limit in units; else less than `days` of cover."""
    if limit is not None:
        return outlook.available <= limit
    return outlook.cover is not None and outlook.cover < days


def watch() -> tuple[int, int]:
    """Tell newly low SKUs and close those that recovered; returns both counts. Harmless to repeat."""
    since = business_day() - WINDOW
    candidates = (
        set(DemandDay.objects.filter(day__gte=since).order_by().values_list("sku_id", flat=True).distinct())
        | set(Sku.objects.filter(low_stock_at__isnull=False).values_list("pk", flat=True))
        | set(LowStock.objects.values_list("sku_id", flat=True))
    )
    days = int(business.get("low_stock_days"))
    ordered = sorted(candidates)
    told = closed = 0
    for start in range(0, len(ordered), CHUNK):
        one, other = _watch(ordered[start : start + CHUNK], days)
        told, closed = told + one, closed + other
    return told, closed


def _watch(sku_ids: list[int], days: int) -> tuple[int, int]:
    skus = Sku.objects.filter(
        pk__in=sku_ids, is_active=True, kind__in=(Sku.Kind.STOCK, Sku.Kind.PREBUILT)
    ).in_bulk()
    found = outlooks(list(skus))
    low = {pk for pk, outlook in found.items() if is_low(outlook, skus[pk].low_stock_at, days)}
    known = set(LowStock.objects.filter(sku__in=sku_ids).values_list("sku_id", flat=True))
    for pk in sorted(low):
        _tell(skus[pk], found[pk], new=pk not in known)
    recovered = known - low
    _close(recovered)
    return len(low - known), len(recovered)


def _tell(sku: Sku, outlook: Outlook, *, new: bool) -> None:
    with transaction.atomic():
        values = {"available": outlook.available, "out_on": outlook.out_on}
        if not new:
            LowStock.objects.filter(sku=sku).update(**values)
            return
        LowStock.objects.create(sku=sku, since=now(), **values)
        cover = f", {outlook.cover:.0f} days at the present pace" if outlook.cover is not None else ""
        day = f" Sold out about {outlook.out_on:%-d %B %Y}." if outlook.out_on else ""
        raise_item(
            "low_stock",
            f"low_stock:{sku.pk}",
            f"{sku} is low: {max(0, outlook.available)} left{cover}",
            detail=f"Told once; again only after it has recovered.{day}",
            url=f"/stock/{quote(sku.code, safe='')}/",
        )


def _close(sku_ids: Iterable[int]) -> None:
    for pk in sorted(sku_ids):
        with transaction.atomic():
            LowStock.objects.filter(sku=pk).delete()
            close_item(f"low_stock:{pk}", "stock has recovered")
