"""Ship days and deadlines, including days on which the clocks change."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.calendar import (
    Closure,
    Deadline,
    WorkCalendar,
    add_open_days,
    arrival_day,
    calendar_from_rows,
    end_of_day,
    next_open_day,
    ship_by,
    ship_day,
)

NEW_YORK = ZoneInfo("America/New_York")
WEEK = {0: time(15), 1: time(15), 2: time(15), 3: time(15), 4: time(15), 5: time(11, 30)}
EAST = WorkCalendar(
    "America/New_York", WEEK, (Closure(date(2026, 11, 26), date(2026, 11, 27), "Thanksgiving"),)
)


def local(year, month, day, hour=0, minute=0, second=0, zone=NEW_YORK):
    return datetime(year, month, day, hour, minute, second, tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("at", "day"),
    [
        (local(2026, 11, 23, 14, 59, 59), date(2026, 11, 23)),  # Monday, one second before the cut-off
        (local(2026, 11, 23, 15, 0, 0), date(2026, 11, 24)),
        (local(2026, 11, 21, 11, 29, 59), date(2026, 11, 21)),  # Saturday has a cut-off of its own
        (local(2026, 11, 21, 11, 30, 0), date(2026, 11, 23)),  # Sunday is off
        (local(2026, 11, 22, 9), date(2026, 11, 23)),
        (local(2026, 11, 25, 15), date(2026, 11, 28)),  # two closed days, then Saturday
        (local(2026, 11, 26, 9), date(2026, 11, 28)),
    ],
)
def test_order_leaves_today_before_the_cut_off_and_else_on_the_next_open_day(at, day):
    assert ship_day(EAST, at) == day


def test_the_local_day_counts_not_the_utc_day():
    tokyo = WorkCalendar("Asia/Tokyo", WEEK)
    sunday_evening_utc = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)  # Monday 08:00 in Tokyo
    assert ship_day(tokyo, sunday_evening_utc) == date(2026, 11, 23)
    assert ship_day(EAST, sunday_evening_utc) == date(2026, 11, 23)  # Sunday 18:00 in New York


def test_cut_off_moves_with_daylight_saving():
    before, after = EAST.cut_off_at(date(2026, 3, 6)), EAST.cut_off_at(date(2026, 3, 9))
    assert before == datetime(2026, 3, 6, 20, tzinfo=UTC)
    assert after == datetime(2026, 3, 9, 19, tzinfo=UTC)


def test_cut_off_in_a_skipped_hour_counts_with_the_offset_before_the_change():
    early = WorkCalendar("America/New_York", {6: time(2, 30)})
    assert early.cut_off_at(date(2026, 3, 8)) == datetime(2026, 3, 8, 7, 30, tzinfo=UTC)


def test_cut_off_in_a_repeated_hour_counts_the_first_time():
    early = WorkCalendar("America/New_York", {6: time(1, 30)})
    cut_off = early.cut_off_at(date(2026, 11, 1))
    assert cut_off == datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    again = datetime(2026, 11, 1, 6, 0, tzinfo=UTC)  # 01:00 for the second time
    assert ship_day(early, again) == date(2026, 11, 8)


def test_reason_for_a_closed_day_is_named():
    assert EAST.closed_because(date(2026, 11, 26)) == "Thanksgiving"
    assert EAST.closed_because(date(2026, 11, 22)) == "Sunday is not a working day"
    assert EAST.closed_because(date(2026, 11, 23)) == ""


def test_calendar_that_never_opens_gives_none_everywhere():
    never = WorkCalendar("UTC", {})
    now = datetime(2026, 11, 23, 9, tzinfo=UTC)
    assert ship_day(never, now) is None
    assert next_open_day(never, now.date()) is None
    assert add_open_days(never, now.date(), 3) is None
    assert ship_by(never, now, handling_days=1) is None


def test_rows_without_hours_mean_monday_to_friday_until_three():
    plain = calendar_from_rows("UTC", [], [(date(2026, 11, 24), date(2026, 11, 24), "stock count")])
    assert ship_day(plain, datetime(2026, 11, 23, 14, 59, tzinfo=UTC)) == date(2026, 11, 23)
    assert ship_day(plain, datetime(2026, 11, 23, 15, 0, tzinfo=UTC)) == date(2026, 11, 25)
    assert calendar_from_rows("UTC", [(6, time(9))]).is_open(date(2026, 11, 22))


@pytest.mark.parametrize(
    ("handling_days", "last_day"),
    [(0, date(2026, 11, 24)), (1, date(2026, 11, 25)), (2, date(2026, 11, 28)), (3, date(2026, 11, 30))],
)
def test_ship_by_counts_working_days_after_the_first_possible_one(handling_days, last_day):
    deadline = ship_by(EAST, local(2026, 11, 23, 15), handling_days=handling_days)
    assert deadline == Deadline(end_of_day(EAST, last_day), "computed")


def test_ship_by_ends_with_the_local_day_across_the_clock_change():
    calendar = WorkCalendar("America/New_York", {day: time(15) for day in range(7)})
    spring = ship_by(calendar, local(2026, 3, 8, 9), handling_days=0)
    autumn = ship_by(calendar, local(2026, 11, 1, 9), handling_days=0)
    assert spring is not None and spring.at == datetime(2026, 3, 9, 3, 59, 59, tzinfo=UTC)
    assert autumn is not None and autumn.at == datetime(2026, 11, 2, 4, 59, 59, tzinfo=UTC)
    assert not spring.overdue(spring.at) and spring.overdue(spring.at + timedelta(seconds=1))
    # the day of the spring change has 23 hours
    assert spring.time_left(local(2026, 3, 8)) == timedelta(hours=22, minutes=59, seconds=59)


def test_deadline_of_the_channel_wins_and_is_kept_in_utc():
    told = datetime(2026, 11, 24, 18, tzinfo=NEW_YORK)
    deadline = ship_by(EAST, local(2026, 11, 23, 9), handling_days=5, channel_says=told)
    assert deadline is not None
    assert (deadline.at, deadline.at.tzinfo, deadline.source) == (
        datetime(2026, 11, 24, 23, tzinfo=UTC),
        UTC,
        "channel",
    )


def test_arrival_counts_the_carriers_days():
    carrier = WorkCalendar("UTC", {day: time(0) for day in range(5)})
    assert arrival_day(carrier, date(2026, 11, 26), 1) == date(2026, 11, 27)
    assert arrival_day(carrier, date(2026, 11, 27), 1) == date(2026, 11, 30)
    assert arrival_day(carrier, date(2026, 11, 23), 5) == date(2026, 11, 30)
    assert arrival_day(carrier, date(2026, 11, 23), 0) == date(2026, 11, 23)


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "UTC"]),
)
def test_ship_day_is_open_not_past_and_never_earlier_for_a_later_order(at, zone):
    calendar = WorkCalendar(zone, WEEK, EAST.closures)
    day = ship_day(calendar, at)
    later = ship_day(calendar, at + timedelta(minutes=37))
    assert day is not None and later is not None
    assert calendar.is_open(day) and day >= calendar.local_day(at) and later >= day
