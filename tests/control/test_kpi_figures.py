"""Key figures: the worked examples, and that adding tallies up gives what counting row by row gives. No database."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels import kpis as sync
from fulfillment import kpis as cycle
from inventory import kpis as stock
from inventory import velocity
from oms.core import charts, figures
from oms.core.figures import Place, Tally, Window, percentile, share, spread_percentile, three_digits, total
from oms.orders import kpis as demand
from returns import kpis as returns

T0 = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def cycles_of(*hours: float) -> Tally:
    found = Tally()
    for number, one in enumerate(hours):
        at = T0 + one * HOUR
        cycle.add_cycle(found, cycle.Cycle(number, "shop", "EAST", T0, at, at))
    return found


# --- worked examples ------------------------------------------------------------------------------


def test_turnover_of_the_worked_example() -> None:
    """Closing values 1000, 980, 1400, 1360, 1320; cost of goods sold 240 − 20 (3.1)."""
    values = [1000, 980, 1400, 1360, 1320]
    tally = Tally({"value": sum(values), "shipped_cost": Decimal(240), "restocked_cost": Decimal(20)})
    found = stock.turnover(tally, len(values))
    assert found.average == 1212  # (first + last) ÷ 2 would be 1160
    assert found.ratio is not None and found.yearly is not None and found.days_on_hand is not None
    assert round(found.ratio, 5) == Decimal("0.18152")
    assert round(found.yearly, 3) == Decimal("13.251")
    assert round(found.days_on_hand, 3) == Decimal("27.545")


def test_turnover_without_stock_or_sales_is_no_figure() -> None:
    empty = stock.turnover(Tally(), 0)
    assert (empty.average, empty.ratio, empty.yearly, empty.days_on_hand) == (None, None, None, None)
    no_stock = stock.turnover(Tally({"shipped_cost": 5}), 3)
    assert (no_stock.average, no_stock.ratio) == (0, None)
    no_sales = stock.turnover(Tally({"value": 300}), 3)
    assert (no_sales.ratio, no_sales.days_on_hand) == (0, None)


def test_carrying_cost_of_the_worked_example() -> None:
    """1212 × 25 % = 303 a year, 24.90 in 30 days (3.6)."""
    assert stock.carrying_cost(Decimal(1212), Decimal("0.25"), 365) == 303
    month = stock.carrying_cost(Decimal(1212), Decimal("0.25"), 30)
    assert month is not None and round(month, 2) == Decimal("24.90")
    assert stock.carrying_cost(None, Decimal("0.25"), 30) is None


def test_accuracy_of_the_worked_example() -> None:
    """7 of 1000 → 99.3 % (3.2); an order with three errors counts once, prevented errors not at all."""
    tally = Tally()
    for number in range(1000):
        wrong = number < 7
        returns.add_sent(
            tally,
            returns.Sent(
                number, "shop", "EAST", T0, lines=3, error_lines=3 if wrong else 0, error=wrong, late=number == 999,
                incomplete=False, damaged=False, prevented=1 if number < 40 else 0,
            ),
        )  # fmt: skip
    found = returns.accuracy(tally)
    assert (found.rate, found.prevented) == (Decimal("0.993"), 40)
    assert found.line_rate == 1 - Decimal(21) / 3000
    assert found.perfect_rate == Decimal("0.992")  # one more was late
    assert returns.accuracy(Tally()).rate is None


def test_cycle_time_of_the_worked_example() -> None:
    """Hours 2, 3, 5, 8, 26, 50 → median 6.5, p90 38.0, mean 15.67 (3.4)."""
    found = cycle.cycle_time(cycles_of(2, 3, 5, 8, 26, 50))
    assert (found.orders, found.median, found.p90) == (6, 6.5, 38.0)
    assert found.mean is not None and round(found.mean, 2) == 15.67
    assert cycle.cycle_time(Tally()).median is None


def test_stockout_rates_of_the_worked_examples() -> None:
    """3 of 120 lines → 2.5 %; 4 of 90 SKU-days → 4.4 % (3.7). Two figures, never one."""
    by_demand = demand.stockout_rate(Tally({"lines": 120, "short_lines": 3, "units": 200, "short_units": 10}))
    assert (by_demand.rate, by_demand.unit_rate) == (Decimal("0.025"), Decimal("0.05"))
    by_time = stock.stockout_time(Tally({"sku_days": 90, "out_minutes": 4 * 1440}))
    assert by_time.rate is not None and round(by_time.rate, 3) == Decimal("0.044")
    assert demand.stockout_rate(Tally()).rate is None and stock.stockout_time(Tally()).rate is None


def test_latency_counts_open_changes_with_their_age() -> None:
    """3.3: linear percentiles, share under 5 s; what waits is in p99 and max, also when it was coalesced."""
    tally = Tally()
    for took in [100] * 98 + [900]:
        sync.add_latency(tally, took)
    found = sync.tallied_latency(tally, [60_000])
    assert (found.count, found.p50, found.p95, found.p99, found.longest) == (99, 100, 100, 1491, 60_000)
    assert (found.within, found.open) == (0.99, 1)
    assert sync.tallied_latency(Tally()) == sync.Latency()


def test_return_rate_counts_units_orders_and_value() -> None:
    """3.5: units ÷ units shipped; by orders and by value beside it; unknown rates stay out of the value."""
    tally = Tally()

    def line(order: int, units: int, back: int, value: str | None, **more: Any) -> returns.Line:
        fields: dict[str, Any] = {"advised": 0, "undelivered": 0, "exchanged": False, **more}
        price = None if value is None else Decimal(value)
        return returns.Line(order, order * 10, "shop", "EAST", T0, units, back, unit_value=price, **fields)

    returns.add_lines(tally, [line(1, 10, 1, "5.00"), line(1, 10, 0, "20.00")])
    returns.add_lines(tally, [line(2, 5, 2, None, exchanged=True, advised=1)])
    found = returns.return_rate(tally)
    assert (found.units, found.returned, found.rate) == (25, 3, Decimal("0.12"))
    assert (found.order_rate, found.value_rate) == (1, Decimal("0.02"))
    assert (found.exchanged, found.advised, tally.get("unpriced")) == (2, 1, 5)
    assert returns.return_rate(Tally()).rate is None


def test_velocity_leaves_stockout_days_out_and_no_sales_have_no_cover() -> None:
    """3.8: days with nothing available all day are in neither units nor days."""
    first = dt.date(2026, 1, 1)
    units = {first + dt.timedelta(days=n): 4 for n in range(10)}
    out = {first + dt.timedelta(days=n) for n in range(10, 20)}
    days = velocity.fill_days(units, first, first + dt.timedelta(days=19), out_of_stock=out)
    assert velocity.velocity(days).per_day == 4
    assert velocity.cover_days(43, 4) == 10.75
    assert velocity.cover_days(43, 0) is None and velocity.cover_days(43, None) is None


def test_holds_of_buyer_and_payment_are_taken_off_once() -> None:
    at = T0 + 10 * HOUR
    holds = ((T0 - HOUR, T0 + 2 * HOUR), (T0 + HOUR, T0 + 3 * HOUR), (T0 + 8 * HOUR, T0 + 20 * HOUR))
    one = cycle.Cycle(1, "shop", "EAST", T0, at, T0 + 4 * HOUR, buyer_holds=holds)
    assert (one.gross, one.net, one.first) == (600, 300, 240)


def test_stages_add_up_to_the_gross_time() -> None:
    at = [T0 + n * HOUR for n in range(8)]
    one = cycle.Cycle(
        1, "shop", "EAST", at[0], at[7], at[7], imported_at=at[1], routed_at=at[2], released_at=None, picked_at=at[4],
        packed_at=at[5],
    )  # fmt: skip
    found = dict(one.stages())
    assert found == {"imported": 60, "routed": 60, "picked": 120, "packed": 60, "shipped": 120}
    assert sum(found.values()) == one.gross


# --- the level of a day ---------------------------------------------------------------------------


def test_a_day_counts_the_minutes_without_anything_available() -> None:
    start, end = T0.replace(hour=0), T0.replace(hour=0) + 24 * HOUR
    level = stock.Level()
    level.move("on_hand", 5, start + HOUR, start)
    level.move("reserved", 5, start + 10 * HOUR, start)
    level.move("on_hand", 2, start + 16 * HOUR, start)
    level.move("damaged", 2, start + 23 * HOUR, start)
    assert level.close(start, end) == (7, 2, 0, 0, Decimal(0), 7 * 60)
    # the next day begins without anything and stays so
    assert level.close(end, end + 24 * HOUR)[5] == 1440


def test_a_day_of_23_hours_is_a_whole_day() -> None:
    start = T0
    level = stock.Level(since=start)
    assert level.close(start, start + 23 * HOUR)[5] == 1440


# --- sums of sums -----------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 10_000_000), max_size=60), st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 1.0]))
def test_a_spread_has_the_percentiles_of_its_values(values: list[int], at: float) -> None:
    spread: dict[int, int] = {}
    for value in values:
        spread[value] = spread.get(value, 0) + 1
    wanted = percentile(sorted(values), at)
    found = spread_percentile(spread, at)
    assert found == wanted or (found is not None and wanted is not None and abs(found - wanted) < 1e-6)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**9))
def test_three_digits_are_half_a_percent_at_most(value: int) -> None:
    kept = three_digits(value)
    assert abs(kept - value) * 200 <= value
    assert three_digits(kept) == kept
    if value < 1000:
        assert kept == value


@st.composite
def histories(draw: Any) -> list[tuple[Place, cycle.Cycle]]:
    found = []
    for number in range(draw(st.integers(0, 25))):
        day = draw(st.integers(0, 40))
        placed = T0 + day * 24 * HOUR
        gone = placed + dt.timedelta(minutes=draw(st.integers(0, 20_000)))
        place = Place(
            gone.date(), draw(st.sampled_from(["amazon", "shop"])), draw(st.sampled_from(["EAST", "WEST"]))
        )
        found.append((place, cycle.Cycle(number, place.channel, place.warehouse, placed, gone, gone)))
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(), st.sampled_from([None, "amazon"]), st.sampled_from([None, "WEST"]))
def test_days_and_months_add_up_to_the_direct_figure(
    history: list[tuple[Place, cycle.Cycle]], channel: str | None, warehouse: str | None
) -> None:
    """However a history is cut into days, months and places and stored as JSON, the figure is that of its rows."""
    days: dict[Place, Tally] = {}
    for place, one in history:
        cycle.add_cycle(days.setdefault(place, Tally()), one)
    stored = {place: Tally.of_json(tally.as_json()) for place, tally in days.items()}
    months: dict[Place, Tally] = {}
    for place, tally in stored.items():
        month = Place(place.day.replace(day=1), place.channel, place.warehouse)
        months.setdefault(month, Tally()).merge(tally)
    wanted = Tally()
    for place, one in history:
        if channel in (None, place.channel) and warehouse in (None, place.warehouse):
            cycle.add_cycle(wanted, one)
    for rolled in (stored, months):
        found = total(
            tally
            for place, tally in rolled.items()
            if channel in (None, place.channel) and warehouse in (None, place.warehouse)
        )
        assert cycle.cycle_time(found) == cycle.cycle_time(wanted)


def test_a_tally_keeps_amounts_exact() -> None:
    tally = Tally()
    tally.add("cost", Decimal("0.1000"))
    tally.add("cost", Decimal("100.2005"))
    tally.note("ms", 12)
    again = Tally.of_json(tally.as_json())
    assert (again.get("cost"), again.spread("ms")) == (Decimal("100.3005"), {12: 1})
    assert share(1, 0) is None


def test_windows_are_half_open_in_the_business_zone(settings: Any) -> None:
    settings.BUSINESS_TIME_ZONE = "America/New_York"
    day = Window(dt.date(2026, 3, 8), dt.date(2026, 3, 8))  # clocks go forward
    assert (day.start, day.end) == (
        dt.datetime(2026, 3, 8, 5, tzinfo=dt.UTC),
        dt.datetime(2026, 3, 9, 4, tzinfo=dt.UTC),
    )
    assert day.before() == Window(dt.date(2026, 3, 7), dt.date(2026, 3, 7))
    assert figures.midnight(dt.date(2026, 3, 9)) == day.end


@pytest.mark.parametrize("floor", [0.0, 90.0])
def test_a_line_may_begin_above_zero(floor: float) -> None:
    drawn = charts.line(
        "Accuracy", ["a", "b"], [charts.Series("Accuracy", [99, 97])], unit="%", target=99, floor=floor
    )
    assert ('text-anchor="end">90</text>' in drawn) == (floor == 90)
    assert "Accuracy: 97 % (b)" in drawn and 'class="limit"' in drawn and "<table>" in drawn
