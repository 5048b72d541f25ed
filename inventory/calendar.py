"""Working calendars of warehouses: on which day an order leaves, and until when it must.

Pure functions over dataclasses. Every instant is an aware datetime; answers are local days of the
warehouse or UTC instants. A cut-off is turned into an instant before it is compared, so a day of 23
or 25 hours needs no special case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

#: a warehouse without own hours works Monday to Friday and closes its day's orders at 15:00
DEFAULT_CUT_OFFS: Mapping[int, time] = {weekday: time(15, 0) for weekday in range(5)}

#: how far ahead an open day is searched; a calendar with none in a year is closed for good
_HORIZON_DAYS = 366


@dataclass(frozen=True)
class Closure:
    """Whole local days without work, both ends included."""

    first_day: date
    last_day: date
    reason: str = "closed"

    def covers(self, day: date) -> bool:
        return self.first_day <= day <= self.last_day


@dataclass(frozen=True)
class WorkCalendar:
    """Weekday (0 = Monday) to local cut-off; a weekday that is missing is a day off.

    Raises zoneinfo.ZoneInfoNotFoundError on first use for an unknown `time_zone`.
    """

    time_zone: str
    cut_offs: Mapping[int, time] = field(default_factory=lambda: DEFAULT_CUT_OFFS)
    closures: tuple[Closure, ...] = ()

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def local_day(self, at: datetime) -> date:
        """The date on the warehouse's wall at an aware instant."""
        return at.astimezone(self.zone).date()

    def closed_because(self, day: date) -> str:
        """Why nothing leaves on that local day; empty when it is a working day."""
        if day.weekday() not in self.cut_offs:
            return f"{day:%A} is not a working day"
        for closure in self.closures:
            if closure.covers(day):
                return closure.reason
        return ""

    def is_open(self, day: date) -> bool:
        return not self.closed_because(day)

    def cut_off_at(self, day: date) -> datetime | None:
        """UTC instant of the day's cut-off, None on a day off.

        A wall time that the clocks skip counts with the offset before the change; one that happens
        twice counts the first time.
        """
        if not self.is_open(day):
            return None
        return datetime.combine(day, self.cut_offs[day.weekday()], self.zone).astimezone(UTC)


def next_open_day(calendar: WorkCalendar, day: date) -> date | None:
    """`day` itself when open, else the next working day; None when a whole year has none."""
    for offset in range(_HORIZON_DAYS + 1):
        candidate = day + timedelta(days=offset)
        if calendar.is_open(candidate):
            return candidate
    return None


def add_open_days(calendar: WorkCalendar, day: date, count: int) -> date | None:
    """The working day `count` working days after `day`; with 0 the first open day from `day` on."""
    current = next_open_day(calendar, day)
    for _ in range(count):
        if current is None:
            return None
        current = next_open_day(calendar, current + timedelta(days=1))
    return current


def ship_day(calendar: WorkCalendar, at: datetime) -> date | None:
    """Local day on which an order known at `at` leaves.

    Before the cut-off of an open day it is that day; at the cut-off or later, or on a day off, it is
    the next open day. None when the warehouse has no open day within a year.
    """
    today = calendar.local_day(at)
    cut_off = calendar.cut_off_at(today)
    if cut_off is not None and at < cut_off:
        return today
    return next_open_day(calendar, today + timedelta(days=1))


def end_of_day(calendar: WorkCalendar, day: date) -> datetime:
    """UTC instant of the last second of a local day, however many hours the day has."""
    midnight = datetime.combine(day + timedelta(days=1), time(0), calendar.zone)
    return midnight.astimezone(UTC) - timedelta(seconds=1)


@dataclass(frozen=True)
class Deadline:
    """Until when a parcel must be with the carrier: UTC instant, and who said so."""

    at: datetime
    source: str  # "channel" or "computed"

    def time_left(self, now: datetime) -> timedelta:
        """Negative when overdue."""
        return self.at - now

    def overdue(self, now: datetime) -> bool:
        return now > self.at


def ship_by(
    calendar: WorkCalendar, placed_at: datetime, *, handling_days: int, channel_says: datetime | None = None
) -> Deadline | None:
    """The ship-by time of an order.

    The channel's own deadline wins. Else it is the last second of the working day that lies
    `handling_days` working days after the day on which the order could leave first; 0 means that
    first day. None when the calendar never opens.
    """
    if channel_says is not None:
        return Deadline(channel_says.astimezone(UTC), "channel")
    first = ship_day(calendar, placed_at)
    last = add_open_days(calendar, first, handling_days) if first else None
    return Deadline(end_of_day(calendar, last), "computed") if last else None


def arrival_day(carrier: WorkCalendar, shipped_on: date, transit_days: int) -> date | None:
    """Day of delivery: `transit_days` of the carrier's working days after the parcel was handed over."""
    return (
        add_open_days(carrier, shipped_on + timedelta(days=1), transit_days - 1)
        if transit_days > 0
        else shipped_on
    )


def calendar_from_rows(
    time_zone: str, hours: Iterable[tuple[int, time]], closures: Iterable[tuple[date, date, str]] = ()
) -> WorkCalendar:
    """Build a calendar from stored rows (weekday, cut-off) and (first day, last day, reason).

    Without any hours the warehouse works by DEFAULT_CUT_OFFS.
    """
    return WorkCalendar(
        time_zone,
        dict(hours) or DEFAULT_CUT_OFFS,
        tuple(Closure(first, last, reason) for first, last, reason in closures),
    )
