"""Roll-ups equal the direct count, closed days stay as they are, and a figure opens to exactly its rows."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.test import Client
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from channels.models import StockPush
from inventory import kpis as stock
from inventory.models import StockDay
from oms.control import tasks
from oms.control.kpis import drill, report, rollup
from oms.control.models import KpiClose, KpiDay
from oms.core import tokens
from oms.core.access import Scope
from oms.core.actor import SYSTEM
from oms.core.errors import NotAllowed, NotFound, UserError
from oms.core.figures import Tally, Window, midnight, total
from oms.orders.models import OrderLine
from returns import kpis as returns
from tests.control.kpi_world import HOUR, World, build, scatter
from tests.factories import make_user

pytestmark = pytest.mark.django_db

FIRST, LAST = dt.date(2026, 1, 20), dt.date(2026, 6, 10)
YEAR = Window(dt.date(2026, 1, 1), dt.date(2026, 6, 30))
NOW = dt.datetime(2026, 11, 2, 12, 0, tzinfo=dt.UTC)
ONE = dt.timedelta(days=1)


@pytest.fixture(autouse=True)
def _zone(settings: Any) -> None:
    settings.BUSINESS_TIME_ZONE = "America/New_York"


@pytest.fixture
def world(db: None) -> World:
    return build()


def at(day: int, hour: int = 15, month: int = 3) -> dt.datetime:
    return dt.datetime(2026, month, day, hour, tzinfo=dt.UTC)


def day(number: int, month: int = 3) -> dt.date:
    return dt.date(2026, month, number)


def roll(first: dt.date, last: dt.date) -> None:
    with time_machine.travel(NOW, tick=False):
        stock.close_days(first, last)
        for name in rollup.SOURCES:
            rollup.count(name, first, last)


def ask(window: Window, **more: Any) -> report.Asked:
    return report.Asked(window, **more)


# --- roll-ups ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_roll_ups_equal_the_direct_count(seed: int) -> None:
    world = build(seed)
    scatter(world, FIRST, LAST, 45)
    roll(YEAR.first, YEAR.last)
    windows = [YEAR, Window(day(5, 2), day(20, 5)), Window(day(1), day(31)), Window(day(9), day(9))]
    for name, source in rollup.SOURCES.items():
        places: tuple[tuple[Any, Any], ...] = ((None, None), ({"shop"}, None), (None, {"WEST"}))
        for window in windows:
            for channels, warehouses in places:
                where = {"channels": channels, "warehouses": warehouses}
                rolled = total(rollup.read(name, window, **where).values())
                counted = total(rollup.direct(name, window, **where).values())
                assert rolled.as_json() == counted.as_json(), (name, window, where)
        assert source.matures >= 1
    assert KpiDay.objects.filter(grain="month", source="cycle").exists()


def test_counting_twice_changes_nothing(world: World) -> None:
    scatter(world, FIRST, FIRST + 20 * ONE, 25)
    roll(FIRST, FIRST + 25 * ONE)
    before = list(KpiDay.objects.order_by("source", "grain", "day", "channel", "warehouse").values())
    days = list(StockDay.objects.order_by("sku", "warehouse", "first_day").values())
    roll(FIRST, FIRST + 25 * ONE)
    after = list(KpiDay.objects.order_by("source", "grain", "day", "channel", "warehouse").values())
    assert after == before  # the same rows, not even written anew
    for row in (*days, *StockDay.objects.order_by("sku", "warehouse", "first_day").values()):
        row.pop("id")
    again = list(StockDay.objects.order_by("sku", "warehouse", "first_day").values())
    assert [{**row, "id": 0} for row in again] == [{**row, "id": 0} for row in days]
    assert not KpiClose.objects.filter(restated_at__isnull=False).exists()


def test_late_data_changes_a_closed_day_only_with_a_mark(world: World) -> None:
    world.order(at(3), at(4))
    roll(day(1), day(10))
    window = Window(day(1), day(10))
    assert report.figure(report.KPIS["stockout"], ask(window)).restated == []
    one = report.figure(report.KPIS["cycle"], ask(window))
    assert (one.value, one.restated) == (24.0, [])
    world.order(at(3), at(4) + 2 * HOUR)  # imported months later
    roll(day(1), day(10))
    two = report.figure(report.KPIS["cycle"], ask(window))
    assert (two.value, two.restated) == (25.0, [day(4)])
    assert KpiClose.objects.get(source="cycle", day=day(4)).restatements == 1


def test_a_day_that_can_still_change_is_not_closed(world: World) -> None:
    order = world.order(at(3), at(4))
    with time_machine.travel(at(20), tick=False):
        rollup.count("accuracy", day(4), day(4))
        found = report.figure(report.KPIS["accuracy"], ask(Window(day(4), day(4))))
        assert (found.value, found.provisional) == (1, True)
        world.come_back(order, at(19), reason="wrong_item")
        rollup.count("accuracy", day(4), day(4))
        found = report.figure(report.KPIS["accuracy"], ask(Window(day(4), day(4))))
        assert (found.value, found.restated, found.provisional) == (0, [], True)
    with time_machine.travel(NOW, tick=False):
        assert not report.figure(report.KPIS["accuracy"], ask(Window(day(4), day(4)))).provisional


def test_day_borders_are_those_of_the_business(world: World) -> None:
    border = midnight(day(5))
    assert border.hour == 5  # New York in winter
    world.order(border - dt.timedelta(seconds=1), short=1)
    world.order(border)
    roll(day(1), day(10))

    def lines(number: int) -> tuple[int, int]:
        found = total(rollup.read("demand", Window(day(number), day(number))).values())
        return found.whole("lines"), found.whole("short_lines")

    assert (lines(4), lines(5)) == ((1, 1), (1, 0))


def test_the_clockwork_counts_new_days_and_comes_back_to_old_ones(world: World) -> None:
    with time_machine.travel(at(20), tick=False):
        world.order(at(1), at(2))
        world.move(at(1), 10, cost="4.00")
        assert rollup.refresh(older=0, most=5) is False  # days are left
        while not rollup.refresh(older=0, most=5):
            pass
        wanted = {"stock": 19, "cycle": 19, "accuracy": 19, "returns": 19, "demand": 20}
        counts = {name: KpiClose.objects.filter(source=name).count() for name in wanted}
        assert counts == wanted
        world.order(at(1), at(2) + HOUR)  # late
    with time_machine.travel(at(21), tick=False):
        for _ in range(12):
            tasks.roll_up_kpis("")
        assert report.figure(report.KPIS["cycle"], ask(Window(day(1), day(9)))).restated == [day(2)]
        assert rollup.as_of() == at(21)


def test_figures_outlive_rows_that_are_tidied_away(world: World) -> None:
    with time_machine.travel(at(2, 20), tick=False):
        world.push(at(2), 700)
        rollup.refresh()
    StockPush.objects.all().delete()
    world.push(at(30), 900)
    with time_machine.travel(at(30, 20), tick=False):
        for _ in range(3):
            rollup.refresh(older=50)
    found = report.figure(report.KPIS["sync"], ask(Window(day(1), day(3))))
    assert (found.value, found.restated) == (0.7, [])


def test_stretches_of_days() -> None:
    assert rollup.runs([day(3), day(1), day(2), day(7)]) == [(day(1), day(3)), (day(7), day(7))]
    assert rollup.whole_months(Window(day(2, 1), day(31, 3))) == [day(1, 2), day(1, 3)]
    assert rollup.whole_months(Window(day(1, 1), day(30, 1))) == []


# --- the stock ----------------------------------------------------------------------------------------


def test_closing_values_and_cost_of_goods_sold_come_from_the_ledger(world: World) -> None:
    world.move(at(1), 100, cost="10.00")
    world.move(at(2), -20, kind="ship")
    world.move(at(4), 10, cost="19.00", kind="receipt")
    world.move(at(4, 16), 5, kind="return")
    world.move(at(4, 16), 5, kind="return", bucket="quarantine")
    world.move(at(5), -2, kind="disposition", bucket="quarantine", reason="restock")
    roll(day(1), day(6))
    found = {
        place.day.day: tally
        for place, tally in rollup.read("stock", Window(day(1), day(6)), warehouses={"EAST"}).items()
    }
    values = [Decimal(found[number].get("value")) for number in range(1, 7)]
    assert values == [1000, 800, 800, 1045, 1045, 1045]  # 95 units at (80 × 10 + 10 × 19) ÷ 90 = 11
    assert found[4].get("unfit_value") == 55 and found[5].get("unfit_value") == 33
    assert (found[2].get("shipped_cost"), found[5].get("restocked_cost")) == (200, 22)
    window = Window(day(1), day(6))
    figure = report.figure(report.KPIS["turnover"], ask(window))
    average = Decimal(5735) / 6
    assert figure.value is not None
    assert round(Decimal(figure.value), 12) == round(178 / average * 365 / 6, 12)
    parts = {part.key: part.value for part in figure.parts}
    assert (parts["cogs"], parts["average_value"]) == (178, average)
    carrying = report.figure(report.KPIS["carrying"], ask(window))
    assert carrying.value == average * Decimal("0.25") * 6 / 365


def test_a_pool_of_a_marketplace_counts_only_when_it_is_named(world: World) -> None:
    world.west.kind = "fba"
    world.west.save()
    world.move(at(1), 10, cost="10.00")
    world.move(at(1), 7, cost="10.00", warehouse=world.west)
    roll(day(1), day(2))
    window = Window(day(1), day(2))

    def value(**more: Any) -> Any:
        figure = report.figure(report.KPIS["carrying"], ask(window, **more))
        return {part.key: part.value for part in figure.parts}["average_value"]

    assert (value(), value(warehouse="WEST"), value(warehouse="EAST")) == (100, 70, 100)


def test_goods_of_a_supplier_who_ships_himself_are_no_stock(world: World) -> None:
    world.west.kind = "dropship"
    world.west.save()
    world.move(at(1), 10, cost="10.00", warehouse=world.west)
    world.move(at(2), -3, warehouse=world.west)
    assert not stock.sold_at_cost(Window(day(1), day(5))).exists()


def test_a_sku_is_out_only_where_no_pool_has_it_and_per_warehouse_by_itself(world: World) -> None:
    start = midnight(day(2))
    world.move(start, 5, cost="1.00")
    world.move(start, 5, cost="1.00", warehouse=world.west)
    world.move(start + 12 * HOUR, -5)
    world.move(start + 30 * HOUR, -5, warehouse=world.west)
    roll(day(1), day(4))
    window = Window(day(2), day(4))

    def rate(**more: Any) -> Decimal:
        found = report.figure(report.KPIS["stockout-time"], ask(window, **more)).value
        assert isinstance(found, Decimal)
        return found

    assert rate() == (Decimal("0.75") + 1) / 3  # from 6 o'clock on the second day
    assert rate(warehouse="EAST") == Decimal("2.5") / 3
    assert rate(warehouse="WEST") == Decimal("1.75") / 3
    everywhere = rate(scope=Scope(frozenset({"EAST", "WEST"})))
    assert everywhere == Decimal("4.25") / 6
    assert stock.out_days([world.skus[0].pk], window) == {world.skus[0].pk: {day(4)}}


def test_a_discontinued_sku_is_no_sku_day(world: World) -> None:
    world.move(at(1), 5, cost="1.00")
    world.skus[0].is_active = False
    world.skus[0].save()
    roll(day(1), day(3))
    assert report.figure(report.KPIS["stockout-time"], ask(Window(day(1), day(3)))).value is None


def test_equal_days_are_one_row(world: World) -> None:
    world.move(at(1), 5, cost="1.00")
    roll(day(1), day(20))
    world.move(at(21), -5)
    roll(day(20), day(25))
    rows = StockDay.objects.filter(warehouse=world.east).order_by("first_day")
    assert [(row.first_day, row.last_day, row.on_hand, row.out_minutes) for row in rows] == [
        (day(1), day(20), 5, 0),
        (day(21), day(21), 0, 13 * 60),  # from 11:00 in New York
        (day(22), day(25), 0, 1440),
    ]


# --- what counts --------------------------------------------------------------------------------------


def test_what_is_no_order_of_ours_counts_nowhere(world: World) -> None:
    world.order(at(3), at(4))
    world.order(at(3), at(9), is_test=True)
    world.order(at(3), at(9), kind="replacement")
    world.order(at(3), at(9), kind="exchange")
    world.order(at(3), at(9), fulfilled_by="channel")
    world.order(at(3), at(9), cancelled_at=at(9))
    roll(day(1), day(10))
    window = Window(day(1), day(10))
    for key, name in (
        ("cycle", "orders"),
        ("accuracy", "orders"),
        ("returns", "units"),
        ("stockout", "lines"),
    ):
        parts = {part.key: part.value for part in report.figure(report.KPIS[key], ask(window)).parts}
        assert parts[name] == (2 if key == "stockout" else 1), key  # the cancelled order was demand


def test_errors_are_ours_and_an_order_counts_once(world: World) -> None:
    """O: wrong item complained of, wrong item found, replaced; not: changed mind, carrier's loss, declined."""
    orders = [world.order(at(3), at(4), ship_by=at(5)) for _ in range(8)]
    world.come_back(orders[0], at(9), reason="wrong_item")
    world.come_back(orders[0], at(9), reason="wrong_item", condition="wrong_item")
    world.come_back(orders[1], at(9), condition="wrong_item")
    world.order(at(9), kind="replacement", parent=orders[2])
    world.order(at(9), kind="replacement", parent=orders[3], tags=["carrier_loss"])
    world.come_back(orders[4], at(9))
    declined = world.come_back(orders[5], at(9), reason="wrong_item")
    declined.state = "declined"
    declined.save()
    world.come_back(orders[6], at(9), condition="damaged")
    roll(day(1), day(10))
    found = returns.accuracy(total(rollup.read("accuracy", Window(day(1), day(10))).values()))
    assert (found.orders, found.errors, found.error_lines, found.rate) == (8, 3, 2, Decimal("0.625"))
    assert found.perfect == 4
    wrong = drill.DRILLS["accuracy", "errors"].rows(ask(Window(day(1), day(10))))
    assert sorted(wrong.values_list("pk", flat=True)) == [one.pk for one in orders[:3]]


def test_returns_count_within_sixty_days_of_delivery(world: World) -> None:
    orders = [world.order(at(3), at(4), units=10, delivered_at=at(6)) for _ in range(4)]
    limit = at(6) + 60 * ONE
    world.come_back(orders[0], limit - dt.timedelta(seconds=1), units=2)
    world.come_back(orders[1], limit, units=3)  # too late
    world.come_back(orders[2], at(9), units=4, reason="rto")  # never reached the buyer
    roll(day(1), day(31, 5))
    window = Window(day(1), day(31))
    figure = report.figure(report.KPIS["returns"], ask(window))
    assert figure.value == Decimal("0.05")
    parts = {part.key: part.value for part in figure.parts}
    assert (parts["units"], parts["returned"], parts["undelivered"]) == (40, 2, Decimal("0.1"))
    late = report.figure(report.KPIS["returns"], ask(Window(day(1, 5), day(31, 5))))
    assert late.value is None and late.text == "–"  # nothing was shipped then


def test_value_is_summed_in_one_currency(world: World) -> None:
    world.order(at(3), at(4), price="10.00")
    world.order(at(3), at(4), price="10.00", currency="EUR", fx_rate=Decimal("1.1"), fx_day=day(3))
    world.order(at(3), at(4), price="10.00", currency="GBP")
    roll(day(1), day(10))
    tally = total(rollup.read("returns", Window(day(1), day(10))).values())
    assert (tally.get("value"), tally.get("unpriced")) == (21, 1)
    notes = report.figure(report.KPIS["returns"], ask(Window(day(1), day(10)))).notes
    assert notes == ["Orders without an exchange rate are left out of the value."]


def test_a_split_order_is_timed_by_its_last_parcel(world: World) -> None:
    order = world.order(at(3), at(5))
    first = order.shipments.get()
    first.pk, first.shipped_at, first.warehouse = None, at(4), world.west
    first.save()
    roll(day(1), day(10))
    found = report.figure(report.KPIS["cycle"], ask(Window(day(1), day(10)), warehouse="EAST"))
    parts = {part.key: part.value for part in found.parts}
    assert (found.value, parts["first_median"]) == (48, 24)
    assert report.figure(report.KPIS["cycle"], ask(Window(day(1), day(10)), warehouse="WEST")).value is None


def test_open_changes_count_today_and_left_out_listings_are_told(world: World) -> None:
    with time_machine.travel(at(20), tick=False):
        world.push(at(20, 14), 1_000)
        waiting, paused = world.listings
        waiting.version, waiting.stale_since = 1, at(20) - dt.timedelta(seconds=90)
        waiting.save()
        paused.account.pushes_paused_at = at(19)
        paused.account.save()
        rollup.count("sync", day(20), day(20))
        found = report.figure(report.KPIS["sync"], ask(Window(day(14), day(20))))
        parts = {part.key: part.value for part in found.parts}
        assert (parts["open"], parts["max"], parts["within"]) == (1, 90, 0.5)
        assert "Listings left out: 1 paused." in found.notes
        rows = drill.DRILLS["sync", "open"].rows(ask(Window(day(14), day(20))))
        assert list(rows) == [waiting]
        before = report.figure(report.KPIS["sync"], ask(Window(day(10), day(19))))
        assert before.value is None
        # the same wait for first figures: nothing moved, so there is nothing to be late for
        waiting.told_anew = True
        waiting.save()
        found = report.figure(report.KPIS["sync"], ask(Window(day(14), day(20))))
        parts = {part.key: part.value for part in found.parts}
        assert (parts["open"], parts["max"], parts["within"]) == (0, 1, 1.0)
        assert "Listings left out: 1 paused, 1 waiting for first figures." in found.notes


# --- drill-down ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [{}, {"channel": "amazon"}, {"warehouse": "WEST"}])
def test_a_figure_opens_to_exactly_its_rows(places: dict[str, str]) -> None:
    world = build(7)
    scatter(world, FIRST, FIRST + 60 * ONE, 60)
    roll(FIRST - ONE, FIRST + 70 * ONE)
    asking = ask(Window(FIRST + 5 * ONE, FIRST + 50 * ONE), **places)
    reader = report.Reader(asking)

    def rows(key: str, part: str) -> list[Any]:
        _, _, one = drill.drill(key, part, asking)
        return list(one.rows(asking).order_by(*one.order))

    def tally(key: str) -> Tally:
        return total(reader.tallies(report.KPIS[key], asking.window).values())

    assert len(rows("accuracy", "shipped")) == tally("accuracy").whole("orders") > 0
    assert len(rows("accuracy", "errors")) == tally("accuracy").whole("errors")
    assert len(rows("cycle", "shipped")) == tally("cycle").whole("minutes_n")
    lines = rows("returns", "lines")
    assert sum(line.shipped for line in lines) == tally("returns").whole("units")
    assert sum(line.back for line in rows("returns", "returned")) == tally("returns").whole("returned")
    assert len(rows("stockout", "lines")) == tally("stockout").whole("lines") > 0
    assert len(rows("stockout", "short")) == tally("stockout").whole("short_lines")
    pushes = tally("sync").spread("latency")
    assert len(rows("sync", "pushes")) == sum(pushes.values()) > 0
    sold = rows("turnover", "sold")
    cogs = stock.turnover(tally("turnover"), 1).cogs
    assert sum((stock.cost_of(row.kind, row.quantity, row.cost) for row in sold), Decimal(0)) == cogs
    values = rows("turnover", "value")
    window = asking.window
    assert sum((row.value * stock.overlap(row, window) for row in values), Decimal(0)) == tally(
        "turnover"
    ).get("value")
    days = rows("stockout-time", "days")
    assert sum(stock.overlap(row, window) for row in days) == tally("stockout-time").whole("sku_days") > 0
    out = rows("stockout-time", "out")
    minutes = sum(row.out_minutes * stock.overlap(row, window) for row in out)
    assert minutes == tally("stockout-time").whole("out_minutes")


# --- screens ------------------------------------------------------------------------------------------


@pytest.fixture
def shown(world: World) -> World:
    scatter(world, day(1), day(20), 40)
    roll(day(1), day(25))
    return world


SPAN = "from=2026-03-01&to=2026-03-25"


def test_the_page_shows_all_figures_in_few_queries(
    shown: World, client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client.force_login(make_user("ana"))
    client.get(f"/reports/?{SPAN}")
    with django_assert_max_num_queries(38):
        answer = client.get(f"/reports/?{SPAN}")
    text = answer.content.decode()
    for kpi in report.KPIS.values():
        assert kpi.title in text
    assert text.count('class="panel kpi"') == len(report.KPIS)
    assert "target" in text and "days before" in text and "As of" in text
    for url in ("/reports/cycle/shipped/?from=2026-03-01", "/reports/returns.csv?from=2026-03-01"):
        assert url in text
    assert client.get(f"/reports/?{SPAN}", headers={"HX-Request": "true"}).content.startswith(
        b'<div class="spread">'
    )


@pytest.mark.parametrize(("key", "part"), list(drill.DRILLS))
def test_every_figure_opens_and_leaves_as_a_file(shown: World, client: Client, key: str, part: str) -> None:
    client.force_login(make_user("ana"))
    page = client.get(f"/reports/{key}/{part}/?{SPAN}")
    assert page.status_code == 200
    answer: Any = client.get(f"/reports/{key}/{part}/?{SPAN}&format=csv")
    rows = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))
    _, _, one = drill.drill(key, part, ask(Window(day(1), day(25))))
    assert rows[0] == [column.key for column in one.columns]
    assert len(rows) - 1 == one.rows(ask(Window(day(1), day(25)))).count()
    series: Any = client.get(f"/reports/{key}.csv?{SPAN}")
    lines = list(csv.reader(io.StringIO(b"".join(series.streaming_content).decode())))
    assert lines[0][:3] == ["from", "to", key.replace("-", "_")]
    assert [line[0] for line in lines[1:3]] == ["2026-03-01", "2026-03-01"] and len(lines) == 27


def test_rows_come_in_pages_without_a_gap(
    shown: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oms.control.report_views.PAGE", 7)
    client.force_login(make_user("ana"))
    seen: list[int] = []
    cursor = ""
    for _ in range(20):
        answer = client.get(f"/reports/stockout/lines/?{SPAN}&cursor={cursor}")
        cursor = answer.context["next_cursor"]
        seen.append(len(answer.context["rows"]))
        if not cursor:
            break
    wanted = drill.DRILLS["stockout", "lines"].rows(ask(Window(day(1), day(25)))).count()
    assert sum(seen) == wanted > 14


def test_codes_in_files_are_no_formulas(world: World, client: Client) -> None:
    order = world.order(at(3), at(4))
    OrderLine.objects.filter(order=order).update(external_sku="=cmd()", sku=world.skus[0])
    world.skus[0].code = "=2+3"
    world.skus[0].save()
    client.force_login(make_user("ana"))
    answer: Any = client.get(f"/reports/returns/lines/?{SPAN}&format=csv")
    assert b",'=2+3," in b"".join(answer.streaming_content)


def test_a_person_of_one_warehouse_sees_that_one_and_no_costs(shown: World, client: Client) -> None:
    client.force_login(make_user("vera", "viewer", warehouses=("WEST",)))
    answer = client.get(f"/reports/?{SPAN}")
    figures = {one.kpi.key: one for one, _, _ in answer.context["tiles"]}
    assert {key for key, one in figures.items() if one.hidden} == {"turnover", "carrying", "sync", "stockout"}
    window = Window(day(1), day(25))
    west = report.figure(report.KPIS["cycle"], ask(window, warehouse="WEST"))
    assert figures["cycle"].value == west.value
    assert figures["cycle"].counts == west.counts
    assert answer.context["warehouses"] == [("WEST", "West")]
    assert client.get(f"/reports/?{SPAN}&warehouse=EAST").status_code == 404
    assert client.get(f"/reports/turnover/sold/?{SPAN}").status_code == 403
    assert client.get(f"/reports/turnover.csv?{SPAN}").status_code == 403
    rows = client.get(f"/reports/cycle/shipped/?{SPAN}").context["rows"]
    assert {cells[2][1] for _, cells in rows} == {"WEST"}


def test_a_person_of_one_channel_sees_that_one(shown: World, client: Client) -> None:
    client.force_login(make_user("chad", "finance", channels=("amazon",)))
    answer = client.get(f"/reports/?{SPAN}")
    figures = {one.kpi.key: one for one, _, _ in answer.context["tiles"]}
    assert {key for key, one in figures.items() if one.hidden} == {"turnover", "carrying", "stockout-time"}
    assert (
        figures["sync"].value
        == report.figure(report.KPIS["sync"], ask(Window(day(1), day(25)), channel="amazon")).value
    )
    assert client.get(f"/reports/?{SPAN}&channel=shop").status_code == 404


def test_the_floor_has_no_reports(client: Client) -> None:
    client.force_login(make_user("finn", "floor"))
    assert client.get("/reports/").status_code == 403


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-03-02", "to": "2026-03-01"}, "from"),
        ({"from": "2020-01-01", "to": "2026-01-01"}, "from"),
        ({"to": "0001-01-01"}, "to"),
    ],
)
def test_wrong_windows_are_named(given: dict[str, str], field: str) -> None:
    with pytest.raises(UserError) as caught:
        report.asked(given, make_user("ana"))
    assert caught.value.field == field


def test_unknown_figures_and_parts_are_not_found(world: World) -> None:
    asking = ask(Window(day(1), day(2)))
    for key, part in (("profit", "rows"), ("cycle", "value")):
        with pytest.raises(NotFound):
            drill.drill(key, part, asking)
    with pytest.raises(NotAllowed):
        drill.drill("turnover", "sold", ask(Window(day(1), day(2)), costs=False))


def test_an_empty_house_has_no_figures_but_a_page(
    client: Client, assert_invariants: Callable[[], None]
) -> None:
    client.force_login(make_user("ana"))
    answer = client.get("/reports/")
    assert answer.status_code == 200 and b"Nothing counted yet" in answer.content
    assert {one.text for one, _, _ in answer.context["tiles"]} == {"–"}
    assert_invariants()


# --- over HTTP ----------------------------------------------------------------------------------------


def caller(name: str, role: str, *scopes: str, **places: tuple[str, ...]) -> APIClient:
    _, secret = tokens.issue(make_user(name, role, **places), "till", list(scopes), actor=SYSTEM)
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")


def test_figures_over_http_are_those_of_the_page(shown: World) -> None:
    api = caller("ana", "owner", "kpis:read", "purchasing:read")
    answer = api.get(f"/api/v1/kpis/?{SPAN}")
    assert answer.status_code == 200
    found = {one["key"]: one for one in answer.json()["results"]}
    assert list(found) == list(report.KPIS)
    window = Window(day(1), day(25))
    for key, one in found.items():
        wanted = report.figure(report.KPIS[key], ask(window))
        assert one["hidden"] is None and one["target_met"] == wanted.good
        assert one["value"] == (None if wanted.value is None else format(Decimal(str(wanted.value)), "f"))
    detail = api.get(f"/api/v1/kpis/cycle/?{SPAN}").json()
    assert len(detail["series"]) == 25 and detail["series"][0]["first_day"] == "2026-03-01"
    assert detail["parts"] == found["cycle"]["parts"]


def test_rows_over_http_come_in_pages(shown: World) -> None:
    api = caller("ana", "owner", "kpis:read")
    url: str | None = f"/api/v1/kpis/cycle/rows/?{SPAN}&part=shipped&limit=7"
    seen: list[str] = []
    while url:
        answer = api.get(url).json()
        seen += [row["order"] for row in answer["results"]]
        url = answer["next"]
    wanted = drill.DRILLS["cycle", "shipped"].rows(ask(Window(day(1), day(25))))
    assert seen == [order.number for order in wanted.order_by("-shipped_at", "-id")] and len(seen) > 7


@pytest.mark.parametrize("part", ["sold", "value"])
def test_money_in_rows_names_its_currency(shown: World, part: str) -> None:
    api = caller("ana", "owner", "kpis:read", "purchasing:read")
    rows = api.get(f"/api/v1/kpis/turnover/rows/?{SPAN}&part={part}").json()["results"]
    assert rows and {row["currency"] for row in rows} == {"USD"}


def test_a_token_sees_its_places_and_no_costs(shown: World) -> None:
    api = caller("vera", "viewer", "kpis:read", warehouses=("WEST",))
    found = {one["key"]: one for one in api.get(f"/api/v1/kpis/?{SPAN}").json()["results"]}
    assert {key for key, one in found.items() if one["hidden"]} == {
        "turnover",
        "carrying",
        "sync",
        "stockout",
    }
    assert api.get(f"/api/v1/kpis/turnover/rows/?{SPAN}&part=sold").status_code == 403
    assert api.get(f"/api/v1/kpis/cycle/?{SPAN}&warehouse=EAST").status_code == 404
    assert caller("bob", "owner", "stock:read").get("/api/v1/kpis/").status_code == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("kpis/?from=soon", 400),
        ("kpis/?colour=red", 400),
        ("kpis/?channel=%00", 400),
        ("kpis/profit/", 404),
        ("kpis/cycle/rows/", 400),
        ("kpis/cycle/rows/?part=value", 404),
        ("kpis/cycle/rows/?part=shipped&cursor=xx", 400),
        ("kpis/cycle/rows/?part=shipped&limit=0", 400),
    ],
)
def test_wrong_questions_over_http_are_refused(world: World, path: str, status: int) -> None:
    answer = caller("ana", "owner", "kpis:read").get(f"/api/v1/{path}")
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
