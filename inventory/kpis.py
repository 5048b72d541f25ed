"""Figures of the stock: turnover, carrying cost, time out of stock. A denominator of 0 gives None.

Everything rests on the ledger by the time a movement was posted, as `asof.as_of` does: what the books said on
an evening never changes afterwards. Values are in the business currency; SKUs of another one are left out and counted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Case, DecimalField, F, Min, OuterRef, Q, QuerySet, Subquery, When
from django.db.models.functions import Coalesce, NullIf

from inventory.asof import as_of
from inventory.models import Sku, StockDay, StockMovement, Warehouse
from oms.core import business
from oms.core.clock import business_day, business_zone
from oms.core.figures import Place, Tallies, Tally, Window, midnight

DAY = 1440
ONE = dt.timedelta(days=1)
#: the channel of figures that belong to no channel, the warehouse of "anywhere in our own pools"
ANYWHERE = "*"


# --- pure ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turnover:
    """Cost of goods sold against what lay in stock meanwhile; `value_days` is the sum of daily closing values."""

    cogs: Decimal
    value_days: Decimal
    days: int

    @property
    def average(self) -> Decimal | None:
        """Mean of the daily closing values, not of the first and the last."""
        return self.value_days / self.days if self.days else None

    @property
    def ratio(self) -> Decimal | None:
        """Turns in the period."""
        return self.cogs / self.average if self.average else None

    @property
    def yearly(self) -> Decimal | None:
        return None if self.ratio is None else self.ratio * 365 / self.days

    @property
    def days_on_hand(self) -> Decimal | None:
        """Days inventory outstanding: average value ÷ cost of goods sold per day."""
        return self.average * self.days / self.cogs if self.average is not None and self.cogs else None


def carrying_cost(average_value: Decimal | None, yearly_rate: Decimal, days: int) -> Decimal | None:
    """Average inventory value × yearly rate × days ÷ 365, in the currency of the value."""
    return None if average_value is None else average_value * yearly_rate * days / 365


@dataclass(frozen=True, slots=True)
class StockoutTime:
    """Time-based stockout rate: SKU-days with nothing available ÷ SKU-days on sale. Minutes count."""

    sku_days: int
    out_minutes: int

    @property
    def out_days(self) -> Decimal:
        return Decimal(self.out_minutes) / DAY

    @property
    def rate(self) -> Decimal | None:
        return self.out_days / self.sku_days if self.sku_days else None


@dataclass(slots=True)
class Level:
    """One SKU in one pool while its days are replayed."""

    on_hand: int = 0
    unfit: int = 0
    in_transit: int = 0
    available: int = 0
    unit_cost: Decimal = Decimal(0)
    since: dt.datetime | None = None  # when it ran out; None while there is something
    out: float = 0  # seconds of the day so far

    def move(self, bucket: str, quantity: int, at: dt.datetime, day_start: dt.datetime) -> None:
        """One movement; time without anything available is counted from the later of `since` and the day's begin."""
        if bucket == "in_transit":
            self.in_transit += quantity
            return
        if bucket == "on_hand":
            self.on_hand += quantity
            self.available += quantity
        else:
            self.available -= quantity
            self.unfit += quantity if bucket != "reserved" else 0
        if self.available > 0 and self.since is not None:
            self.out += (at - max(self.since, day_start)).total_seconds()
            self.since = None
        elif self.available <= 0 and self.since is None:
            self.since = at

    def close(self, start: dt.datetime, end: dt.datetime) -> tuple[int, int, int, int, Decimal, int]:
        """The figures of a day, and a fresh count of seconds for the next one."""
        seconds = self.out
        if self.since is not None:
            seconds += (end - max(self.since, start)).total_seconds()
        self.out = 0
        minutes = round(seconds / (end - start).total_seconds() * DAY)
        return self.on_hand, self.unfit, self.in_transit, self.available, self.unit_cost, min(DAY, minutes)


# --- days of the ledger ---------------------------------------------------------------------------

Key = tuple[int, int | None]


def first_day() -> dt.date | None:
    """The business day of the first movement."""
    at = StockMovement.objects.aggregate(at=Min("created_at"))["at"]
    return None if at is None else business_day(at)


def close_days(first: dt.date, last: dt.date) -> int:
    """Write `StockDay` anew for the business days first…last from the ledger; returns how many rows were written.

    Days after `last` are removed, so close them in order. Running it twice gives the same rows.
    """
    if last < first:
        return 0
    with transaction.atomic():
        return _close_days(first, last)


def _close_days(first: dt.date, last: dt.date) -> int:
    counted = {w.pk for w in Warehouse.objects.all() if w.counted_by_us}
    skus = {
        pk: (active and kind in (Sku.Kind.STOCK, Sku.Kind.PREBUILT), cost)
        for pk, active, kind, cost in Sku.objects.values_list("pk", "is_active", "kind", "unit_cost")
    }
    levels = _opening(first, counted, skus)
    StockDay.objects.filter(first_day__gte=first).delete()
    StockDay.objects.filter(last_day__gte=first).update(last_day=first - ONE)
    running: dict[Key, StockDay] = {
        (row.sku_id, row.warehouse_id): row for row in StockDay.objects.filter(last_day=first - ONE)
    }
    touched: set[Key] = set(levels)
    written: list[StockDay] = []
    moves = _moves(midnight(first), midnight(last + ONE))
    move = next(moves, None)
    day = first
    while day <= last:
        start, end = midnight(day), midnight(day + ONE)
        again, touched = touched, set()
        while move is not None and move[5] < end:
            sku, warehouse, bucket, quantity, average, at = move
            keys: list[Key] = [(sku, warehouse), *([(sku, None)] if warehouse in counted else [])]
            for key in keys:
                level = levels.setdefault(key, Level())
                level.move(bucket, quantity, at, start)
                if average is not None and key[1] is not None:
                    level.unit_cost = average or skus[sku][1]
                touched.add(key)
            move = next(moves, None)
        for key in touched | again:
            _note(running, written, key, day, levels[key].close(start, end), skus[key[0]][0])
        day += ONE
    kept = [row.pk for row in running.values() if row.pk is not None]
    StockDay.objects.filter(pk__in=kept).update(last_day=last)
    for row in running.values():
        if row.pk is None:
            row.last_day = last
    StockDay.objects.bulk_create(written, batch_size=1000)
    return len(written) + len(kept)


def _note(
    running: dict[Key, StockDay],
    written: list[StockDay],
    key: Key,
    day: dt.date,
    figures: tuple[int, int, int, int, Decimal, int],
    active: bool,
) -> None:
    """Go on with the running row of a level where the day is like the one before, else begin a new one."""
    row = running.get(key)
    if row is not None:
        before = (row.on_hand, row.unfit, row.in_transit, row.available, row.unit_cost, row.out_minutes)
        if before == figures and row.active == active:
            return
        if row.pk is None:
            row.last_day = day - ONE  # a stored one ended the day before already
        elif row.last_day != day - ONE:
            StockDay.objects.filter(pk=row.pk).update(last_day=day - ONE)
    on_hand, unfit, in_transit, available, unit_cost, out_minutes = figures
    fresh = StockDay(
        sku_id=key[0], warehouse_id=key[1], first_day=day, last_day=day, on_hand=on_hand, unfit=unfit,
        in_transit=in_transit, available=available, unit_cost=unit_cost, out_minutes=out_minutes, active=active,
    )  # fmt: skip
    running[key] = fresh
    written.append(fresh)


def _opening(first: dt.date, counted: set[int], skus: dict[int, tuple[bool, Decimal]]) -> dict[Key, Level]:
    """Every level as it stood when `first` began."""
    start = midnight(first)
    levels: dict[Key, Level] = {}
    past = as_of(start - dt.timedelta(microseconds=1), with_cost=True)
    for (sku, warehouse), found in past.items():
        get = found.balances.get
        unfit = get("damaged", 0) + get("quarantine", 0) + get("inspection", 0)
        on_hand, in_transit = get("on_hand", 0), get("in_transit", 0)
        available = on_hand - unfit - get("reserved", 0)
        cost = found.average_cost or skus[sku][1]
        levels[sku, warehouse] = Level(on_hand, unfit, in_transit, available, cost)
        if warehouse in counted:
            anywhere = levels.setdefault((sku, None), Level())
            anywhere.on_hand += on_hand
            anywhere.unfit += unfit
            anywhere.in_transit += in_transit
            anywhere.available += available
    for level in levels.values():
        level.since = start if level.available <= 0 else None
    return levels


def _moves(
    start: dt.datetime, end: dt.datetime
) -> Iterator[tuple[int, int, str, int, Decimal | None, dt.datetime]]:
    rows = StockMovement.objects.filter(created_at__gte=start, created_at__lt=end).order_by(
        "created_at", "id"
    )
    yield from rows.values_list(
        "sku_id", "warehouse_id", "bucket", "quantity", "average_cost", "created_at"
    ).iterator(chunk_size=5000)


# --- what is counted ------------------------------------------------------------------------------


def days_of(window: Window) -> QuerySet[StockDay]:
    """Rows that hold at least one day of the window, of active SKUs in the business currency or not."""
    return StockDay.objects.filter(last_day__gte=window.first, first_day__lte=window.last)


def valued_days(window: Window) -> QuerySet[StockDay]:
    """What the average inventory value is made of: rows with a warehouse and something there, in our currency."""
    rows = days_of(window).filter(warehouse__isnull=False, sku__currency=business.currency())
    return rows.exclude(on_hand=0, in_transit=0)


def sku_days(window: Window, *, anywhere: bool = True) -> QuerySet[StockDay]:
    """What the time-based stockout rate divides by; with `anywhere` a SKU is out only when no own pool has it."""
    return days_of(window).filter(active=True, warehouse__isnull=anywhere)


def overlap(row: StockDay, window: Window) -> int:
    """Days of the window that the row stands for."""
    return (min(row.last_day, window.last) - max(row.first_day, window.first)).days + 1


def sold_at_cost(window: Window) -> QuerySet[Any]:
    """Movements that make up the cost of goods sold: units shipped, and units that an inspector restocked.

    `cost` is the landed cost of one unit; a restocked one costs what the level's average was. Goods that a supplier
    ships himself were never in stock and are left out.
    """
    average = (
        StockMovement.objects.filter(
            sku=OuterRef("sku"), warehouse=OuterRef("warehouse"), bucket="on_hand", id__lt=OuterRef("id"),
            average_cost__isnull=False,
        )
        .order_by("-id")
        .values("average_cost")[:1]
    )  # fmt: skip
    money: DecimalField[Any, Any] = DecimalField(max_digits=18, decimal_places=4)
    shipped = Q(kind=StockMovement.Kind.SHIP, bucket="on_hand")
    restocked = Q(kind=StockMovement.Kind.DISPOSITION, bucket="quarantine", reason="restock")
    rows = StockMovement.objects.filter(
        shipped | restocked, created_at__gte=window.start, created_at__lt=window.end,
        sku__currency=business.currency(),
    )  # fmt: skip
    return rows.exclude(warehouse__kind=Warehouse.Kind.DROPSHIP).annotate(
        cost=Case(
            When(kind=StockMovement.Kind.SHIP, then=Coalesce(F("unit_cost"), F("sku__unit_cost"))),
            default=Coalesce(NullIf(Subquery(average), Decimal(0)), F("sku__unit_cost")),
            output_field=money,
        )
    )


def cost_of(kind: str, quantity: int, unit_cost: Decimal) -> Decimal:
    """What one row of `sold_at_cost` adds to the cost of goods sold: shipped units +, restocked units −."""
    return -quantity * unit_cost if kind == StockMovement.Kind.SHIP else quantity * unit_cost


def tally(window: Window) -> Tallies:
    """Per day and warehouse: closing values, SKU-days, minutes out, cost of goods sold. Close the days first."""
    found: Tallies = {}
    codes = dict(Warehouse.objects.values_list("pk", "code"))
    currency = business.currency()
    #: what begins and ends on a day, summed up at the end: rows may stand for many days
    steps: dict[tuple[str, int], Tally] = {}
    rows = days_of(window).values_list(
        "warehouse_id", "first_day", "last_day", "on_hand", "unfit", "in_transit", "unit_cost", "out_minutes",
        "active", "sku__currency",
    )  # fmt: skip
    for warehouse, begins, ends, on_hand, unfit, in_transit, cost, out, active, sku_currency in rows.iterator(
        chunk_size=5000
    ):
        code = ANYWHERE if warehouse is None else codes[warehouse]
        at = (max(begins, window.first) - window.first).days
        until = (min(ends, window.last) - window.first).days + 1
        amounts: dict[str, int | Decimal] = {"sku_days": 1, "out_minutes": out} if active else {}
        if warehouse is not None:
            if sku_currency == currency:
                amounts |= {"value": (on_hand + in_transit) * cost, "unfit_value": unfit * cost,
                            "transit_value": in_transit * cost}  # fmt: skip
                amounts["uncosted"] = on_hand + in_transit if not cost else 0
            else:
                amounts["foreign"] = on_hand + in_transit
        for name, amount in amounts.items():
            steps.setdefault((code, at), Tally()).add(name, amount)
            steps.setdefault((code, until), Tally()).add(name, -amount)
    for code in sorted({code for code, _ in steps}):
        level = Tally()
        for offset in range(window.days):
            level.merge(steps.get((code, offset), Tally()))
            sums = {name: amount for name, amount in level.sums.items() if amount}
            found[Place(window.first + offset * ONE, warehouse=code)] = Tally(sums)
    for day in {place.day for place, one in found.items() if one}:
        found.setdefault(Place(day, warehouse=ANYWHERE), Tally()).add("days")
    zone = business_zone()
    costed = sold_at_cost(window).values_list("created_at", "warehouse_id", "kind", "quantity", "cost")
    for at_time, warehouse, kind, quantity, cost in costed.order_by().iterator(chunk_size=5000):
        place = Place(at_time.astimezone(zone).date(), warehouse=codes[warehouse])
        one = found.setdefault(place, Tally())
        shipped = kind == StockMovement.Kind.SHIP
        one.add("shipped_cost" if shipped else "restocked_cost", abs(cost_of(kind, quantity, cost)))
        one.add("shipped_units" if shipped else "restocked_units", abs(quantity))
    return found


def turnover(tally: Tally, days: int) -> Turnover:
    """The figure of a tally over `days` closed days."""
    cogs = Decimal(tally.get("shipped_cost")) - Decimal(tally.get("restocked_cost"))
    return Turnover(cogs, Decimal(tally.get("value")), days)


def stockout_time(tally: Tally) -> StockoutTime:
    return StockoutTime(tally.whole("sku_days"), tally.whole("out_minutes"))


def out_days(sku_ids: Iterable[int], window: Window) -> dict[int, set[dt.date]]:
    """Days on which nothing of a SKU was available all day in any pool that we count."""
    found: dict[int, set[dt.date]] = {}
    rows = sku_days(window).filter(sku__in=list(sku_ids), out_minutes=DAY)
    for row in rows.only("sku_id", "first_day", "last_day"):
        begins = max(row.first_day, window.first)
        found.setdefault(row.sku_id, set()).update(
            begins + step * ONE for step in range(overlap(row, window))
        )
    return found


def available_by_day(sku_id: int, window: Window, warehouse_ids: Iterable[int]) -> list[int | None]:
    """Available units at each day's close, over these warehouses; None for days that were not closed."""
    found: list[int | None] = [None] * window.days
    rows = days_of(window).filter(sku=sku_id, warehouse__in=list(warehouse_ids))
    for row in rows.only("first_day", "last_day", "available"):
        begins = (max(row.first_day, window.first) - window.first).days
        for index in range(begins, begins + overlap(row, window)):
            found[index] = (found[index] or 0) + row.available
    return found
