"""Sums for figures: percentiles, shares, and tallies that can be added up. Pure; a denominator of 0 gives None."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from oms.core.clock import business_zone

Number = int | Decimal


def share(part: Number, whole: Number) -> Decimal | None:
    """`part` ÷ `whole`, None when there is nothing to divide by: never 0 or 100 %."""
    return Decimal(part) / Decimal(whole) if whole else None


def percentile(ascending: Sequence[float], at: float) -> float | None:
    """Linear interpolation between ranks, as PostgreSQL's percentile_cont; None without values.

    >>> percentile([2, 3, 5, 8, 26, 50], 0.5), percentile([2, 3, 5, 8, 26, 50], 0.9)
    (6.5, 38.0)
    """
    if not ascending:
        return None
    place = at * (len(ascending) - 1)
    low, high = math.floor(place), math.ceil(place)
    return ascending[low] + (ascending[high] - ascending[low]) * (place - low)


def spread_percentile(spread: Mapping[int, int], at: float) -> float | None:
    """`percentile` of the values that a spread (value → how often) stands for, without listing them.

    >>> spread_percentile({2: 1, 3: 1, 5: 1, 8: 1, 26: 1, 50: 1}, 0.9)
    38.0
    """
    count = sum(spread.values())
    if not count:
        return None
    place = at * (count - 1)
    low, high = math.floor(place), math.ceil(place)
    below: int | None = None
    seen = 0
    for value in sorted(spread):
        seen += spread[value]
        if below is None and seen > low:
            below = value
        if seen > high:
            assert below is not None  # low <= high
            return below + (value - below) * (place - low)
    raise AssertionError("a spread ends at its last value")


def three_digits(value: int) -> int:
    """The value to three significant digits, half up; up to 999 it stays exact.

    Durations are counted like this, so that the spread of a year stays small: 0.5 % is the largest error.

    >>> three_digits(999), three_digits(1004), three_digits(1005), three_digits(123_456)
    (999, 1000, 1010, 123000)
    """
    step = 1
    while abs(value) // step > 999:
        step *= 10
    return (value + step // 2) // step * step if step > 1 else value


@dataclass
class Tally:
    """Sums and spreads of what was counted; two tallies add up to the tally of both."""

    sums: dict[str, Number] = field(default_factory=dict)
    spreads: dict[str, dict[int, int]] = field(default_factory=dict)

    def add(self, name: str, amount: Number = 1) -> None:
        if amount:
            self.sums[name] = self.sums.get(name, 0) + amount

    def note(self, name: str, value: int) -> None:
        """One measurement of a spread."""
        spread = self.spreads.setdefault(name, {})
        spread[value] = spread.get(value, 0) + 1

    def merge(self, other: Tally) -> None:
        for name, amount in other.sums.items():
            self.sums[name] = self.sums.get(name, 0) + amount
        for name, counts in other.spreads.items():
            mine = self.spreads.get(name)
            if mine is None:
                self.spreads[name] = dict(counts)
                continue
            for value, count in counts.items():
                mine[value] = mine.get(value, 0) + count

    def get(self, name: str) -> Number:
        return self.sums.get(name, 0)

    def whole(self, name: str) -> int:
        return int(self.sums.get(name, 0))

    def spread(self, name: str) -> dict[int, int]:
        return self.spreads.get(name, {})

    def __bool__(self) -> bool:
        return bool(self.sums or self.spreads)

    def as_json(self) -> dict[str, Any]:
        """Amounts of money as text, so that nothing is rounded; in one fixed order."""
        sums: dict[str, Any] = {}
        for name, amount in sorted(self.sums.items()):
            sums[name] = amount if isinstance(amount, int) else format(amount.normalize(), "f")
        spreads = {
            name: {str(value): count for value, count in sorted(counts.items())}
            for name, counts in sorted(self.spreads.items())
        }
        return {"sums": sums, "spreads": spreads}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Tally:
        return cls(
            {name: value if isinstance(value, int) else Decimal(value) for name, value in data["sums"].items()},
            {name: {int(value): count for value, count in counts.items()}
             for name, counts in data["spreads"].items()},
        )  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where and when something counts: business day, channel and warehouse by code, "" where none applies."""

    day: dt.date
    channel: str = ""
    warehouse: str = ""


Tallies = dict[Place, Tally]


def total(tallies: Iterable[Tally]) -> Tally:
    found = Tally()
    for one in tallies:
        found.merge(one)
    return found


@dataclass(frozen=True, slots=True)
class Window:
    """Business days [first, last], both counted: [from, to) as instants in the business time zone."""

    first: dt.date
    last: dt.date

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def start(self) -> dt.datetime:
        return midnight(self.first)

    @property
    def end(self) -> dt.datetime:
        """The first instant that no longer belongs to it."""
        return midnight(self.last + dt.timedelta(days=1))

    def before(self) -> Window:
        """As many days, directly before."""
        last = self.first - dt.timedelta(days=1)
        return Window(last - dt.timedelta(days=self.days - 1), last)

    def all_days(self) -> list[dt.date]:
        return [self.first + dt.timedelta(days=step) for step in range(self.days)]


def midnight(day: dt.date) -> dt.datetime:
    """The instant at which a business day begins, in UTC; days of a change of clocks are 23 or 25 hours long."""
    return dt.datetime.combine(day, dt.time(0), business_zone()).astimezone(dt.UTC)
