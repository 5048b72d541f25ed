"""Roll-ups: every source is counted per business day, channel and warehouse, and once more per month.

Counting a day again gives the same rows. A day that can no longer change by itself is closed; when late data changes
it all the same, the new figure stands with a restated mark. A year of a million orders is then a few hundred rows.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Max, Min, Q

from channels import kpis as channel_kpis
from channels.models import StockPush
from fulfillment import kpis as fulfillment_kpis
from inventory import kpis as inventory_kpis
from inventory.models import StockDay
from oms.control.models import KpiClose, KpiDay
from oms.core.clock import business_day, now
from oms.core.figures import Place, Tallies, Tally, Window, midnight, total
from oms.orders import kpis as order_kpis
from oms.orders.models import Order
from returns import kpis as return_kpis

ONE = dt.timedelta(days=1)
Grain = KpiDay.Grain
#: older days are looked at again and again this far back
HORIZON = dt.timedelta(days=400)
CHUNK_DAYS = 31
#: days of today and before that change all the time
FRESH_DAYS = 2
#: channel and warehouse of the sum over all places, which no code can be
EVERYWHERE = "(all)"


@dataclass(frozen=True)
class Source:
    """One thing that is counted. `matures` days after a day it no longer changes by itself."""

    count: Callable[[Window], Tallies]
    matures: int
    first: Callable[[], dt.datetime | dt.date | None]
    summed: bool = True  # a row with the sum over all places is kept: only where places may be added up
    whole_days: bool = False  # today is not counted: a day has figures once it has ended
    kept: dt.timedelta = HORIZON  # how far back its rows are all there; older days keep the figures they have


def _first_shipped() -> dt.datetime | None:
    at: dt.datetime | None = Order.objects.aggregate(at=Min("shipped_at"))["at"]
    return at


def _first_placed() -> dt.datetime | None:
    at: dt.datetime | None = Order.objects.aggregate(at=Min("placed_at"))["at"]
    return at


def _first_push() -> dt.datetime | None:
    at: dt.datetime | None = StockPush.objects.aggregate(at=Min("answered_at"))["at"]
    return at


SOURCES: dict[str, Source] = {
    "stock": Source(inventory_kpis.tally, 1, inventory_kpis.first_day, summed=False, whole_days=True),
    "cycle": Source(fulfillment_kpis.tally, 1, _first_shipped),
    "accuracy": Source(return_kpis.accuracy_tally, return_kpis.ACCURACY_MATURE, _first_shipped),
    "returns": Source(return_kpis.return_tally, return_kpis.RETURNS_MATURE, _first_shipped),
    "demand": Source(order_kpis.tally, 1, _first_placed),
    "sync": Source(
        channel_kpis.tally, 1, _first_push, kept=dt.timedelta(days=7)
    ),  # rows are tidied away later
}


def count(source: str, first: dt.date, last: dt.date) -> list[dt.date]:
    """Count the days first…last of a source anew; returns the days that changed. Harmless to repeat."""
    changed: list[dt.date] = []
    while first <= last:
        until = min(last, first + (CHUNK_DAYS - 1) * ONE)
        with transaction.atomic():
            changed += _count(source, Window(first, until))
        first = until + ONE
    return changed


def _count(name: str, window: Window) -> list[dt.date]:
    source, at = SOURCES[name], now()
    days: dict[dt.date, list[tuple[Place, dict[str, Any]]]] = {day: [] for day in window.all_days()}
    for place, tally in source.count(window).items():
        if tally and place.day in days:
            days[place.day].append((place, tally.as_json()))
    known = {
        row.day: row
        for row in KpiClose.objects.filter(source=name, day__gte=window.first, day__lte=window.last)
    }
    changed: list[dt.date] = []
    fresh: list[KpiDay] = []
    closes: list[KpiClose] = []
    for day, rows in days.items():
        rows.sort(key=lambda row: row[0])
        text = json.dumps([[place.channel, place.warehouse, data] for place, data in rows])
        digest = hashlib.sha256(text.encode()).hexdigest()
        row = known.get(day)
        mature = at >= midnight(day + (1 + source.matures) * ONE)
        if row is None:
            row = KpiClose(source=name, day=day, digest=digest, closed_at=at if mature else None)
            changed.append(day)
        elif row.digest != digest:
            changed.append(day)
            row.digest = digest
            if row.closed_at is not None:
                row.restated_at = at
                row.restatements += 1
        if mature and row.closed_at is None:
            row.closed_at = at
        row.computed_at = at
        closes.append(row)
        if day in changed:
            if source.summed and rows:
                whole = total(Tally.of_json(data) for _, data in rows)
                rows.append((Place(day, EVERYWHERE, EVERYWHERE), whole.as_json()))
            fresh += [
                KpiDay(source=name, grain=Grain.DAY, day=day, channel=place.channel,
                       warehouse=place.warehouse, data=data)
                for place, data in rows
            ]  # fmt: skip
    KpiDay.objects.filter(source=name, grain=Grain.DAY, day__in=changed).delete()
    KpiDay.objects.bulk_create(fresh, batch_size=500)
    KpiClose.objects.bulk_create(
        closes,
        batch_size=500,
        update_conflicts=True,
        unique_fields=["source", "day"],
        update_fields=["digest", "computed_at", "closed_at", "restated_at", "restatements"],
    )
    for month in sorted({day.replace(day=1) for day in changed}):
        sum_month(name, month)
    return changed


def sum_month(source: str, month: dt.date) -> None:
    """The month's rows, out of those of its days."""
    until = next_month(month)
    sums: dict[tuple[str, str], Tally] = {}
    for row in KpiDay.objects.filter(source=source, grain=Grain.DAY, day__gte=month, day__lt=until):
        sums.setdefault((row.channel, row.warehouse), Tally()).merge(Tally.of_json(row.data))
    KpiDay.objects.filter(source=source, grain=Grain.MONTH, day=month).delete()
    KpiDay.objects.bulk_create(
        KpiDay(source=source, grain=Grain.MONTH, day=month, channel=channel, warehouse=warehouse,
               data=tally.as_json())
        for (channel, warehouse), tally in sorted(sums.items())
    )  # fmt: skip


def next_month(month: dt.date) -> dt.date:
    return (month.replace(day=1) + 32 * ONE).replace(day=1)


def whole_months(window: Window) -> list[dt.date]:
    """First days of the months that lie in the window from their first day to their last."""
    month = window.first if window.first.day == 1 else next_month(window.first)
    found = []
    while next_month(month) <= window.last + ONE:
        found.append(month)
        month = next_month(month)
    return found


#: beyond so many days whole months are read as months
BY_DAYS = 92


def read(
    source: str,
    window: Window,
    *,
    channels: Collection[str] | None = None,
    warehouses: Collection[str] | None = None,
    summed: bool = False,
) -> Tallies:
    """The stored tallies of a window at these places (None = all), in months where it is long. One query.

    `summed`: only their sum over all places, of a source that keeps it.
    """
    months = whole_months(window) if window.days > BY_DAYS else []
    where = Q(grain=Grain.DAY, day__gte=window.first, day__lte=window.last)
    if months:
        until = next_month(months[-1])
        ends = Q(day__gte=window.first, day__lt=months[0]) | Q(day__gte=until, day__lte=window.last)
        where = Q(grain=Grain.DAY) & ends | Q(grain=Grain.MONTH, day__gte=months[0], day__lt=until)
    rows = KpiDay.objects.filter(where, source=source)
    rows = rows.filter(channel=EVERYWHERE) if summed else rows.exclude(channel=EVERYWHERE)
    if channels is not None:
        rows = rows.filter(channel__in=channels)
    if warehouses is not None:
        rows = rows.filter(warehouse__in=warehouses)
    return {
        Place(day, channel, warehouse): Tally.of_json(data)
        for day, channel, warehouse, data in rows.values_list("day", "channel", "warehouse", "data")
    }


def direct(
    source: str,
    window: Window,
    *,
    channels: Collection[str] | None = None,
    warehouses: Collection[str] | None = None,
) -> Tallies:
    """The same, counted from the rows themselves: what every roll-up must equal."""
    return {
        place: tally
        for place, tally in SOURCES[source].count(window).items()
        if tally
        and (channels is None or place.channel in channels)
        and (warehouses is None or place.warehouse in warehouses)
    }


def restated(source: str, window: Window) -> list[dt.date]:
    """Days whose figure changed after they were closed."""
    rows = KpiClose.objects.filter(
        source=source, restated_at__isnull=False, day__gte=window.first, day__lte=window.last
    )
    return list(rows.order_by("day").values_list("day", flat=True))


def first_days() -> dict[str, dt.date]:
    """The first day that was ever counted, per source."""
    rows = KpiClose.objects.order_by().values("source").annotate(day=Min("day"))
    return {row["source"]: row["day"] for row in rows}


def as_of() -> dt.datetime | None:
    """When the newest days were last counted; the oldest of the sources decides."""
    newest = KpiClose.objects.order_by().values("source").annotate(at=Max("computed_at"))
    return min((row["at"] for row in newest), default=None)


# --- the clockwork --------------------------------------------------------------------------------


def refresh(*, older: int = 2, most: int = CHUNK_DAYS) -> bool:
    """Count what is new: the last days, days never counted (at most `most` a source), and the `older` days of each
    source that were looked at longest ago. False when days that were never counted are left."""
    close_stock(most)
    finished = True
    for name in SOURCES:
        finished = _refresh(name, older, most) and finished
    return finished


def close_stock(most: int) -> None:
    """Write the closing figures of the stock for the days that ended since the last time; the last one anew."""
    last = StockDay.objects.aggregate(day=Max("last_day"))["day"]
    first = last or inventory_kpis.first_day()
    yesterday = business_day() - ONE
    if first is not None and first <= yesterday:
        horizon = business_day() - HORIZON
        first = max(first, horizon) if last is None else first
        inventory_kpis.close_days(first, min(yesterday, first + most * ONE))


def _refresh(name: str, older: int, most: int) -> bool:
    source = SOURCES[name]
    began = source.first()
    if began is None:
        return True
    today = business_day()
    last = today
    if source.whole_days:
        closed: dt.date | None = StockDay.objects.aggregate(day=Max("last_day"))["day"]
        if closed is None:
            return True
        last = closed
    first = business_day(began) if isinstance(began, dt.datetime) else began
    first = max(first, today - source.kept)
    if first > last:
        return True
    seen = set(
        KpiClose.objects.filter(source=name, day__gte=first, day__lte=last).values_list("day", flat=True)
    )
    fresh = {day for day in (last - step * ONE for step in range(FRESH_DAYS)) if day >= first}
    missing = sorted(set(Window(first, last).all_days()) - seen - fresh, reverse=True)
    old = KpiClose.objects.filter(source=name, day__gte=first, day__lte=last).exclude(day__in=fresh)
    again = list(old.order_by("computed_at", "day").values_list("day", flat=True)[:older])
    for begin, end in runs({*fresh, *missing[:most], *again}):
        count(name, begin, end)
    return len(missing) <= most


def runs(days: Iterable[dt.date]) -> list[tuple[dt.date, dt.date]]:
    """Days as stretches without a gap (pure)."""
    found: list[tuple[dt.date, dt.date]] = []
    for day in sorted(days):
        if found and day == found[-1][1] + ONE:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found
