"""Velocity over in-stock days, cover and stockout day, by hand and on real sales."""

import csv
import gzip
import json
import math
import re
import statistics
from collections import Counter, defaultdict
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.velocity import (
    DemandOfDay,
    Velocity,
    cover_days,
    fill_days,
    lost_units,
    stockout_day,
    velocity,
)

LAST = date(2026, 11, 22)


def history(*units, out=()):
    """Days that end on LAST, oldest first; `out` names positions without stock."""
    first = LAST - timedelta(days=len(units) - 1)
    return [DemandOfDay(first + timedelta(days=n), u, n not in out) for n, u in enumerate(units)]


def test_windows_are_weighted_half_three_tenths_two_tenths():
    days = history(*[1] * 60, *[2] * 23, *[6] * 7)
    result = velocity(days)
    # 7 days: 6; 30 days: (7·6 + 23·2) / 30; 90 days: (42 + 46 + 60) / 90
    assert result.per_day == pytest.approx(0.5 * 6 + 0.3 * 88 / 30 + 0.2 * 148 / 90)
    assert (result.in_stock_days, result.source) == (90, "own")
    assert [days for days, _ in result.windows] == [7, 30, 90]


def test_days_without_stock_leave_both_units_and_days():
    # a steady 4 a day with ten days out of stock stays 4, although 10 of 30 days sold nothing
    steady = history(*[4] * 10, *[0] * 10, *[4] * 10, out=range(10, 20))
    assert velocity(steady).per_day == pytest.approx(4.0)
    assert velocity(steady).in_stock_days == 20
    # a backorder taken on an out-of-stock day does not count either
    assert velocity(history(*[4] * 10, 50, *[4] * 10, out=[10])).per_day == pytest.approx(4.0)


def test_in_stock_days_without_sales_count():
    assert velocity(history(*[0] * 6, 7)).per_day == pytest.approx(1.0)
    assert velocity(history(*[0] * 30)).per_day == 0.0


def test_fewer_than_seven_in_stock_days_use_the_category():
    young = history(9, 9, 9, 9, 9, 9)
    assert velocity(young, category_mean=1.5) == Velocity(1.5, 6, "category")
    assert velocity(young) == Velocity(None, 6, "none")
    assert velocity([], category_mean=0.2).source == "category"
    assert velocity(history(9, 9, 9, 9, 9, 9, 9)).source == "own"


def test_history_need_not_be_sorted():
    days = history(*range(40))
    assert velocity(days[::-1]) == velocity(days)


def test_cover_is_none_without_sales_and_never_infinite():
    assert cover_days(43, 3.9) == pytest.approx(11.0256, abs=1e-4)
    assert cover_days(43, 0.0) is None
    assert cover_days(43, None) is None
    assert cover_days(-3, 2.0) == 0


def test_stockout_day():
    today = date(2026, 11, 23)
    assert stockout_day(43, 3.9, today) == date(2026, 12, 5)
    assert stockout_day(12, 4.0, today) == date(2026, 11, 26)
    assert stockout_day(0, 4.0, today) == today
    assert stockout_day(10, 0.0, today) is None
    assert stockout_day(10**9, 0.001, today) is None


def test_lost_units_use_the_rate_of_in_stock_days():
    assert lost_units(4, 2.5) == 10.0
    assert lost_units(4, None) is None


def test_fill_days_gives_every_day():
    days = fill_days({LAST: 3}, LAST - timedelta(days=2), LAST, out_of_stock={LAST - timedelta(days=1)})
    assert [(d.units, d.in_stock) for d in days] == [(0, True), (0, False), (3, True)]


@given(st.lists(st.tuples(st.integers(0, 500), st.booleans()), max_size=120))
def test_velocity_lies_between_least_and_most_of_the_in_stock_days(facts):
    days = history(*(u for u, _ in facts), out=[n for n, (_, stocked) in enumerate(facts) if not stocked])
    sold = [u for u, stocked in facts if stocked]
    result = velocity(days)
    if len(sold) < 7:
        assert result.per_day is None
    else:
        assert result.per_day is not None
        assert min(sold) - 1e-9 <= result.per_day <= max(sold) + 1e-9


def test_means_of_real_sales_match_the_published_figures(shared_dir):
    """UCI Online Retail: 30-, 60-, 90-day means per SKU as computed independently with pandas."""
    expected = json.loads((shared_dir / "data/expected/online_retail_shared.json").read_text())["reorder"]
    sales = shared_dir / "data/online_retail/online_retail_2010-12_2011-08.csv.gz"
    product = re.compile(r"\d{5}[A-Za-z]{0,2}")
    units: dict[str, Counter[date]] = defaultdict(Counter)
    with gzip.open(sales, "rt", encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            is_sale = row["InvoiceNo"][0] not in "CA" and float(row["UnitPrice"]) != 0
            if is_sale and product.fullmatch(row["StockCode"]):
                units[row["StockCode"].upper()][date.fromisoformat(row["InvoiceDate"][:10])] += int(
                    row["Quantity"]
                )
    last = date.fromisoformat(expected["as_of"])
    checked = 0
    for window, figures in expected["windows"].items():
        first = last - timedelta(days=int(window) - 1)
        for line in figures["top25"]:
            days = fill_days(dict(units[line["sku"]]), first, last)
            assert sum(d.units for d in days) == line["units"]
            assert math.isclose(statistics.stdev(d.units for d in days), line["sd"], abs_tol=1e-5)
            result = velocity(days, windows=[(int(window), 1.0)])
            assert result.per_day == pytest.approx(line["mean_per_day"], abs=1e-6)
            checked += 1
    assert checked == 25 * len(expected["windows"])
