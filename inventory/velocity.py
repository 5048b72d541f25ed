"""Sales velocity, days of cover and the predicted stockout day. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

#: window in in-stock days and its weight
DEFAULT_WINDOWS: tuple[tuple[int, float], ...] = ((7, 0.5), (30, 0.3), (90, 0.2))
#: fewer in-stock days than this say too little about one SKU
MIN_IN_STOCK_DAYS = 7


class DemandOfDay(NamedTuple):  # a plan for all SKUs makes millions of them
    """One local day of a SKU: units demanded (net of cancels, gross of returns) and whether it could be sold.

    `in_stock` is False only when nothing was available all day.
    """

    day: date
    units: int
    in_stock: bool = True


@dataclass(frozen=True, slots=True)
class Velocity:
    """Units per in-stock day; `per_day` is None when there is nothing to go by."""

    per_day: float | None
    in_stock_days: int
    source: str  # "own", "category" or "none"
    windows: tuple[tuple[int, float], ...] = ()  # (in-stock days really used, units per day)


def velocity(
    days: Sequence[DemandOfDay],
    *,
    category_mean: float | None = None,
    windows: Sequence[tuple[int, float]] = DEFAULT_WINDOWS,
) -> Velocity:
    """Weighted units per day over the last in-stock days of each window.

    Days without stock are left out of both units and days, else a stockout would lower the figure
    that led to it. A window longer than the history uses what there is. With fewer than
    MIN_IN_STOCK_DAYS in-stock days the category's mean stands in, marked by `source`; without one
    the answer is None, never 0.
    """
    sold = [day.units for day in sorted(days, key=lambda d: d.day, reverse=True) if day.in_stock]
    if len(sold) < MIN_IN_STOCK_DAYS:
        if category_mean is None:
            return Velocity(None, len(sold), "none")
        return Velocity(category_mean, len(sold), "category")
    used = tuple((len(sold[:length]), sum(sold[:length]) / len(sold[:length])) for length, _ in windows)
    weight = math.fsum(share for _, share in windows)
    mean = math.fsum(rate * share for (_, rate), (_, share) in zip(used, windows, strict=True)) / weight
    return Velocity(max(0.0, mean), len(sold), "own", used)


def fill_days(
    units: dict[date, int],
    first: date,
    last: date,
    *,
    out_of_stock: frozenset[date] | set[date] = frozenset(),
) -> list[DemandOfDay]:
    """Every day from `first` to `last` inclusive; a day without sales counts 0."""
    return [DemandOfDay(day, units.get(day, 0), day not in out_of_stock) for day in _days(first, last)]


@lru_cache(maxsize=16)
def _days(first: date, last: date) -> tuple[date, ...]:
    """The same window is asked for every SKU of a run."""
    return tuple(first + timedelta(days=offset) for offset in range((last - first).days + 1))


def cover_days(available: int, per_day: float | None) -> float | None:
    """Days until `available` is sold; None when there are no sales to go by, 0 when nothing is left."""
    if not per_day:
        return None
    return max(0, available) / per_day


def stockout_day(available: int, per_day: float | None, today: date) -> date | None:
    """The first day that begins with nothing left; None when there are no sales to go by."""
    cover = cover_days(available, per_day)
    if cover is None or cover > 36_500:
        return None
    return today + timedelta(days=math.ceil(cover - 1e-9))


def lost_units(stockout_days: int, per_day: float | None) -> float | None:
    """Estimate of units not sold because there was no stock."""
    return None if per_day is None else stockout_days * per_day
