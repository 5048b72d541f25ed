"""Charts and figures as people read them."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import pytest
from django.template import Context, Template
from django.test import RequestFactory
from django.utils import timezone

from oms.core import charts
from oms.core.templatetags import ui


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (0.7, 1), (3, 5), (21, 25), (26, 50), (100, 100), (101, 200)]
)
def test_nice_ceiling(value: float, top: float) -> None:
    assert charts.nice_ceiling(value) == top


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (0, "0"),
        (2.5, "2.5"),
        (900, "900"),
        (1250, "1.25k"),
        (40_000, "40k"),
        (-2500, "−2.5k"),
        (1_250_000, "1.25M"),
    ],
)
def test_figures_beside_the_grid_are_short(level: float, text: str) -> None:
    assert charts.axis_text(level) == text


def test_large_figures_stay_whole_in_the_table() -> None:
    svg = charts.bars("Orders", ["Mon"], [charts.Series("Orders", [1840])])
    assert 'text-anchor="end">2k</text>' in svg and '<td class="num">1,840</td>' in svg


def test_a_gap_breaks_the_line_and_is_never_zero() -> None:
    svg = charts.line("Sales", ["Mon", "Tue", "Wed"], [charts.Series("Sales", [4, None, 8])], unit="units")
    assert svg.count('class="dot s1"') == 2
    assert 'd="M' in svg
    assert "L" not in svg.split('class="line s1" d="')[1].split('"')[0]
    assert '<td class="num">–</td>' in svg
    assert "lowest 4 units (Mon), highest 8 units (Wed)" in svg


def test_charts_escape_names_and_carry_no_style() -> None:
    svg = charts.bars("<b>x</b>", ["<i>"], [charts.Series("A&B", [3])], target=2)
    assert "<b>x" not in svg
    assert "<i>" not in svg
    assert "A&amp;B" in svg
    assert "style=" not in svg


def test_stacked_bars_stand_on_each_other() -> None:
    svg = charts.bars("Orders", ["Mon"], [charts.Series("a", [50]), charts.Series("b", [50])], stacked=True)
    # 100 units fill the 184 px between top (12) and ground (196): each bar takes 92
    assert 'y="104.0" width="648.0" height="92.0"' in svg
    assert 'y="12.0" width="648.0" height="92.0"' in svg


@pytest.mark.parametrize(
    ("values", "levels"), [([5, 1], "012345"), ([4.5, 1], ["0", "2.5", "5"]), ([20], ["0", "10", "20"])]
)
def test_the_grid_of_counted_things_stands_at_whole_numbers(values: list[float], levels: list[str]) -> None:
    svg = charts.bars("Orders", ["Mon", "Tue"][: len(values)], [charts.Series("Orders", values)])
    assert re.findall(r'text-anchor="end">([^<]*)<', svg) == list(levels)


def test_a_stored_moment_reads_as_a_time() -> None:
    assert ui.words("2026-11-26 14:42:00.498531+00:00") == "26 Nov 2026 14:42:00 UTC"
    assert ui.words({"started": "2026-11-26T14:42:00Z"}) == "started 26 Nov 2026 14:42:00 UTC"
    assert ui.words("2026-11-26") == "2026-11-26"


def test_a_list_of_lists_reads_without_brackets() -> None:
    assert ui.words({"columns": [["sku", "{sku}"], ["cost", True]]}) == "columns sku, {sku}, cost, yes"


@pytest.mark.parametrize("text", ["S-501", "PO-3", "SH-10041", "SH-10041/775"])
def test_a_documents_number_leads_to_the_document(text: str) -> None:
    number = text.partition("/")[0]
    assert ui.ref(text) == f'<a href="/search/?q={number}">{number}</a>'


@pytest.mark.parametrize("text", ["opening", "figures of 26 Nov 2026", "<b>-1", "SH-1 and more"])
def test_other_references_stay_text(text: str) -> None:
    assert ui.ref(text) == text
    assert "–" in ui.ref("")


def test_the_sentence_under_a_chart_is_english() -> None:
    days = ["Mon", "Tue"]
    assert charts.summarise(days, [charts.Series("Sold", [0, 1])], "units") == (
        "Sold: 1 unit (Tue), lowest 0 units (Mon), highest 1 unit (Tue)."
    )
    assert charts.summarise(days, [charts.Series("p50", [None, 1])], "ms") == "p50: 1 ms (Tue)."


def test_no_figures_is_said() -> None:
    assert "No figures for this range yet." in charts.line("Empty", [], [charts.Series("x", [])])


def test_histogram_counts_and_share_within_target() -> None:
    html = charts.histogram("Latency", [1, 2, 3, 10], bins=5, unit="s", target=5)
    assert "4 values, median 3 s, 75.0% within 5 s." in html


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (Decimal("1240"), "EUR", "1,240.00 EUR"),
        (Decimal("-3.5"), "USD", "−3.50 USD"),
        (Decimal("1200"), "JPY", "1,200 JPY"),
        (None, "USD", "–"),
    ],
)
def test_money_text(amount: Decimal | None, currency: str, text: str) -> None:
    assert ui.money_text(amount, currency) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (41, "41 s"),
        (720, "12 min"),
        (11_400, "3 h 10 min"),
        (7200, "2 h"),
        (127_740, "1 d 11 h"),
        (172_800, "2 d"),
        (345_600, "4 d"),
        (None, "–"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert ui.duration(seconds) == text


def test_relative() -> None:
    at = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
    assert ui.relative(at - dt.timedelta(minutes=190), at) == "3 h 10 min ago"
    assert ui.relative(at + dt.timedelta(minutes=40), at) == "in 40 min"
    assert ui.relative(at, at) == "just now"


def render(source: str, path: str = "/orders", **context: object) -> str:
    request = RequestFactory().get(path)
    return Template(source).render(Context({"request": request, **context}))


def test_when_names_the_zone_and_the_distance() -> None:
    moment = dt.datetime(2026, 7, 1, 18, 30, tzinfo=dt.UTC)
    html = render('{% when at zone="America/New_York" style="full" %}', at=moment)
    assert ">1 Jul 2026 14:30:00 EDT</time>" in html
    assert "Wednesday 1 July 2026 14:30:00 EDT" in html


def test_a_date_that_matters_has_its_year_its_zone_and_its_distance() -> None:
    later = timezone.now() + dt.timedelta(minutes=185)
    html = render('{% when at zone="UTC" style="long" %}', at=later)
    assert f">{later:%-d %b %Y %H:%M} UTC · in 3 h" in html
    assert render("{% zone %}") == "UTC"


def test_query_changes_and_removes() -> None:
    assert render('{% query tab="late" cursor=None %}', "/orders?q=mug&cursor=abc") == "?q=mug&amp;tab=late"


def test_sort_head_turns_round() -> None:
    assert 'aria-sort="none"' in render('{% sort_th "Placed" "placed" %}')
    rising = render('{% sort_th "Placed" "placed" %}', "/orders?sort=placed")
    assert 'aria-sort="ascending"' in rising
    assert "sort=-placed" in rising


def test_pill_is_icon_and_word() -> None:
    html = render('{% pill "on_hold" "On hold" %}')
    assert 'class="pill warn"' in html
    assert "<svg" in html
    assert "<span>On hold</span>" in html


def test_missing_screens_have_no_address() -> None:
    assert render('{% link_to "nowhere:list" %}') == ""
