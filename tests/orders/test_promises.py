"""I12, P06: the day of waiting lines follows what is on order; where it shrinks, the last promised lose first."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inventory import transfers
from inventory.locking import stock_transaction
from oms.core.actor import SYSTEM
from oms.core.clock import business_day
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.models import AuditEntry, Doorbell, ExceptionItem, OutboxEvent
from oms.core.outbox import drain
from oms.orders import intake, promises, promising, services, tasks
from oms.orders.models import OrderEvent, OrderLine, Promise
from oms.orders.promising import Supply, Waiting, plan
from procurement import purchase_orders, receiving, selectors
from procurement.models import PurchaseOrder, PurchaseOrderLine, Supplier
from tests.api.test_resources import bearer
from tests.factories import (
    T0,
    add_stock,
    line_draft,
    make_channel,
    make_kit,
    make_sku,
    make_user,
    make_warehouse,
    order_draft,
)

DAY = dt.date(2027, 1, 10)


PO: dict[int, promising.Source] = {number: ("PO", number) for number in (1, 10, 20)}


def days(number: int) -> dt.date:
    return DAY + dt.timedelta(days=number)


# --- the pure plan -----------------------------------------------------------------------------------


def test_earliest_goods_go_to_the_first_in_line() -> None:
    found = plan(
        [Waiting(1, 3, ((7, 1),), (1,)), Waiting(2, 4, ((7, 1),), (1,)), Waiting(3, 9, ((7, 1),), (1,))],
        [Supply(7, 1, 5, days(9), PO[20]), Supply(7, 1, 5, days(2), PO[10])],
    )
    assert (found[1].on, found[1].source) == (days(2), PO[10])
    assert (found[2].on, found[2].source) == (days(9), PO[20]), "its last unit decides"
    assert (found[3].on, found[3].covered) == (None, 3)


def test_only_warehouses_that_serve_the_line_count_and_packs_stay_whole() -> None:
    goods = [Supply(7, 1, 5, days(1), PO[10]), Supply(7, 2, 6, days(4), PO[20])]
    assert plan([Waiting(1, 2, ((7, 3),), (1, 2))], goods)[1].on == days(4), "3 from each place, not 5 and 1"
    assert plan([Waiting(1, 1, ((7, 1),), (3,))], goods)[1].on is None


def test_a_kit_waits_for_its_last_part_and_takes_the_others_from_stock() -> None:
    goods = [Supply(7, 1, 4, promising.IN_STOCK, None), Supply(8, 1, 2, days(3), PO[10])]
    kit = Waiting(1, 2, ((7, 2), (8, 1)), (1,), assembled=True)
    assert plan([kit], goods)[1] == promising.Expected(2, days(3), PO[10])
    assert plan([Waiting(2, 1, ((7, 1),), (1,))], goods)[2].on is None, "stock would have been given already"


lines_of = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 3), st.booleans()), max_size=8)
goods_of = st.lists(
    st.tuples(st.integers(7, 8), st.integers(1, 2), st.integers(1, 9), st.integers(0, 5)), max_size=8
)


def drawn(
    lines: list[tuple[int, int, bool]], goods: list[tuple[int, int, int, int]]
) -> tuple[list[Waiting], list[Supply]]:
    waiting = [
        Waiting(number, units, ((7, each), (8, 1)) if kit else ((7, each),), (1, 2), assembled=kit)
        for number, (units, each, kit) in enumerate(lines)
    ]
    return waiting, [
        Supply(sku, place, units, days(on), ("PO" if number % 2 else "TR", number))
        for number, (sku, place, units, on) in enumerate(goods)
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lines_of, goods_of)
def test_no_unit_is_promised_twice_and_those_behind_change_nothing(lines, goods) -> None:
    waiting, supplies = drawn(lines, goods)
    found = plan(waiting, supplies)
    for sku in (7, 8):
        taken = sum(found[line.line_id].covered * dict(line.needs).get(sku, 0) for line in waiting)
        assert taken <= sum(one.units for one in supplies if one.sku_id == sku)
    for line in waiting:
        answer = found[line.line_id]
        assert 0 <= answer.covered <= line.units
        assert (answer.on is not None) == (answer.covered == line.units)
        if answer.on is not None:
            assert answer.on in {one.on for one in supplies if one.source == answer.source}
    for count in range(len(waiting)):
        before = plan(waiting[:count], supplies)
        assert before == {line.line_id: found[line.line_id] for line in waiting[:count]}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lines_of, goods_of, st.integers(1, 30))
def test_a_moved_arrival_moves_every_promise_by_as_much(lines, goods, shift) -> None:
    waiting, supplies = drawn(lines, goods)
    later = [
        Supply(one.sku_id, one.warehouse_id, one.units, one.on + dt.timedelta(days=shift), one.source)
        for one in supplies
    ]
    moved = plan(waiting, later)
    for line_id, before in plan(waiting, supplies).items():
        assert moved[line_id].on == (before.on and before.on + dt.timedelta(days=shift))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 9), st.integers(0, 12), st.integers(0, 12))
def test_fewer_goods_drop_the_last_of_equal_lines(count, units, fewer) -> None:
    """One each: those that lose are the end of the line, never somebody in its middle."""
    waiting = [Waiting(number, 1, ((7, 1),), (1,)) for number in range(count)]
    for there in (units, min(units, fewer)):
        found = plan(waiting, [Supply(7, 1, there, days(1), PO[1])] if there else [])
        kept = [found[line.line_id].on is not None for line in waiting]
        assert kept == [number < there for number in range(len(waiting))]


# --- what happens to orders ----------------------------------------------------------------------------


@pytest.fixture
def shop(db):
    """A channel served by EAST, a mug that is sold out, and a supplier of mugs."""
    east, sku = make_warehouse("EAST"), make_sku("MUG")
    return (
        make_channel("shop", east),
        sku,
        east,
        Supplier.objects.create(code="KILN", name="Kiln", lead_time_days=14),
    )


def sold(channel, sku, units: int, name: str, ship_by: int):
    draft = order_draft(
        line_draft(sku, units, unit_price=Decimal(5)), external_id=name, placed_at=T0,
        ship_by=T0 + dt.timedelta(days=ship_by),
    )  # fmt: skip
    [taken] = intake.take([draft], channel=channel, actor=SYSTEM, source="webhook")
    return OrderLine.objects.get(order=taken.order_id)


def bought(supplier, place, sku, units: int, on: dt.date) -> PurchaseOrder:
    order = purchase_orders.create(
        supplier_id=supplier.pk, warehouse_id=place.pk, actor=SYSTEM, expected_on=on,
        lines=[purchase_orders.LineSpec(sku.pk, units, Decimal(2))],
    )  # fmt: skip
    purchase_orders.approve(order.pk, actor=SYSTEM)
    return purchase_orders.send(order.pk, actor=SYSTEM)


def settle() -> None:
    """News is heard and the tasks that it rings run, until nothing is left to do."""
    for _ in range(20):
        heard = drain()
        bells = list(
            Doorbell.objects.filter(task="oms.orders.tasks.renew_promises").values_list("subject", flat=True)
        )
        served = list(
            Doorbell.objects.filter(task="oms.orders.tasks.allocate_waiting").values_list(
                "subject", flat=True
            )
        )
        Doorbell.objects.filter(task__startswith="oms.orders.tasks.").delete()
        for subject in bells:
            tasks.renew_promises(subject)
        for subject in served:
            tasks.allocate_waiting(subject)
        if not heard and not bells and not served:
            return
    raise AssertionError("the news never ends")


def dates(*lines: OrderLine) -> list[dt.date | None]:
    for line in lines:
        line.refresh_from_db()
    return [line.promise_on for line in lines]


def receive(order: PurchaseOrder, units: int, key: str, damaged: int = 0) -> None:
    line = order.lines.get()
    receiving.receive(order.pk, [receiving.Arrived(line.pk, units, damaged)], actor=SYSTEM, key=key)


def story(line: OrderLine) -> list[str]:
    return list(
        OrderEvent.objects.filter(order=line.order_id, kind="promise")
        .order_by("id")
        .values_list("text", flat=True)
    )


def test_moving_the_arrival_moves_every_promise_and_tells_it(shop, assert_invariants):
    channel, sku, east, kiln = shop
    first, second = sold(channel, sku, 2, "A", 3), sold(channel, sku, 3, "B", 5)
    order = bought(kiln, east, sku, 5, days(0))
    settle()
    assert dates(first, second) == [days(0), days(0)]
    purchase_orders.reschedule(order.pk, days(6), actor=SYSTEM, reason="storm")
    settle()
    assert dates(first, second) == [days(6), days(6)]
    assert story(first) == [
        f"2 of MUG expected 10 Jan 2027 with PO-{order.pk}",
        f"2 of MUG now expected 16 Jan 2027 with PO-{order.pk}, before 10 Jan 2027",
    ]
    rows = list(promises.of_source(("PO", order.pk)))
    assert [(row.fate, row.was_on, row.purchase_id) for row in rows] == [("moved", days(0), order.pk)] * 2
    assert not ExceptionItem.objects.filter(kind="promise_lost").exists(), "a moved date is listed, not lost"
    entry = AuditEntry.objects.get(action="purchase_order.rescheduled")
    assert entry.after["reason"] == "storm"
    before = OrderEvent.objects.count()
    assert promises.renew([sku.pk], actor=SYSTEM) == [] and OrderEvent.objects.count() == before
    assert_invariants()


def test_a_line_moves_alone_and_the_supplier_is_judged_by_the_agreed_day(shop):
    _, sku, east, kiln = shop
    today = business_day()
    order = bought(kiln, east, sku, 5, today + dt.timedelta(days=5))
    line = order.lines.get()
    purchase_orders.reschedule(order.pk, today + dt.timedelta(days=9), line_id=line.pk, actor=SYSTEM)
    purchase_orders.reschedule(order.pk, today + dt.timedelta(days=20), actor=SYSTEM)
    [coming] = selectors.incoming([sku.pk])
    assert coming.expected_on == today + dt.timedelta(days=9), "a line with its own day keeps it"
    line = PurchaseOrderLine.objects.select_related("order").get()
    assert line.agreed_on == today + dt.timedelta(days=5)
    assert selectors._result(_annotated(line)).promised_on == line.agreed_on


def _annotated(line):
    line.damaged, line.last = 0, None
    return line


def test_a_draft_has_no_agreed_day_and_an_ended_order_no_date_to_move(shop):
    _, sku, east, kiln = shop
    draft = purchase_orders.create(
        supplier_id=kiln.pk, warehouse_id=east.pk, actor=SYSTEM,
        lines=[purchase_orders.LineSpec(sku.pk, 5, Decimal(2))],
    )  # fmt: skip
    purchase_orders.reschedule(draft.pk, days(3), actor=SYSTEM)
    assert draft.lines.get().agreed_on is None
    version = PurchaseOrder.objects.get().version
    news = OutboxEvent.objects.filter(topic="purchase_order.changed").count()
    purchase_orders.reschedule(draft.pk, days(3), actor=SYSTEM)
    assert OutboxEvent.objects.filter(topic="purchase_order.changed").count() == news, (
        "the same day is no news"
    )
    assert PurchaseOrder.objects.get().version >= version
    with pytest.raises(UserError, match="expected_on: .* is no day"):
        purchase_orders.reschedule(draft.pk, dt.date(1990, 1, 1), actor=SYSTEM)
    ordered = PurchaseOrder.objects.get(pk=draft.pk).ordered_on
    yesterday = ordered - dt.timedelta(days=1)
    with pytest.raises(UserError, match=f"{yesterday} lies before the day of the order, {ordered}"):
        purchase_orders.reschedule(draft.pk, yesterday, actor=SYSTEM)
    with pytest.raises(UserError, match="before the day of the order"):
        purchase_orders.confirm(draft.pk, expected_on=yesterday, actor=SYSTEM)
    with pytest.raises(NotFound, match="has no line 999"):
        purchase_orders.reschedule(draft.pk, days(4), line_id=999, actor=SYSTEM)
    purchase_orders.cancel(draft.pk, actor=SYSTEM)
    with pytest.raises(Conflict, match="nothing is on its way"):
        purchase_orders.reschedule(draft.pk, days(4), actor=SYSTEM)


def test_closed_short_lists_the_last_promised_and_not_others(shop, assert_invariants):
    channel, sku, east, kiln = shop
    lines = [sold(channel, sku, 2, name, due) for name, due in (("late", 9), ("first", 1), ("second", 4))]
    late, first, second = lines
    order = bought(kiln, east, sku, 6, days(0))
    settle()
    assert dates(*lines) == [days(0)] * 3
    receive(order, 3, "r1")
    settle()
    assert [(line.short, line.promise_on) for line in (first, second, late) if line.refresh_from_db() is None] == [
        (0, None), (1, days(0)), (2, days(0)),
    ]  # fmt: skip
    assert not ExceptionItem.objects.filter(kind="promise_lost").exists(), "3 are still to come"
    purchase_orders.close(order.pk, actor=SYSTEM)
    settle()
    assert dates(second, late) == [None, None]
    dropped = [(row.line_id, row.fate) for row in promises.dropped(("PO", order.pk))]
    assert dropped == [(late.pk, "lost"), (second.pk, "lost")], (
        "only those it owed, the last to be served first"
    )
    item = ExceptionItem.objects.get(kind="promise_lost", closed_at__isnull=True)
    assert item.title == f"PO-{order.pk} no longer covers 2 promised order lines"
    assert late.order.number in item.detail and first.order.number not in item.detail
    assert f"PO-{order.pk} no longer covers them (was 10 Jan 2027)" in story(late)[-1]
    again = bought(kiln, east, sku, 9, days(20))
    settle()
    assert dates(second, late) == [days(20), days(20)]
    receive(again, 9, "r2")
    settle()
    item.refresh_from_db()
    assert item.closed_at is not None, "everybody has his goods"
    assert not Promise.objects.exists() and dates(second, late) == [None, None]
    assert_invariants()


def test_units_that_arrive_damaged_cost_the_last_in_line_their_day(shop):
    channel, sku, east, kiln = shop
    first, last = sold(channel, sku, 2, "A", 1), sold(channel, sku, 2, "B", 5)
    order = bought(kiln, east, sku, 4, days(0))
    settle()
    receive(order, 2, "r", damaged=2)
    settle()
    assert dates(first, last) == [None, None]
    assert (first.short, last.short) == (0, 2)
    assert [row.line_id for row in promises.dropped(("PO", order.pk))] == [last.pk]


def test_a_later_purchase_order_takes_over_and_the_first_one_says_whom_it_dropped(shop):
    channel, sku, east, kiln = shop
    line = sold(channel, sku, 2, "A", 1)
    early, later = bought(kiln, east, sku, 2, days(0)), bought(kiln, east, sku, 2, days(8))
    settle()
    purchase_orders.cancel(early.pk, actor=SYSTEM)
    settle()
    assert dates(line) == [days(8)]
    assert [row.purchase_id for row in promises.dropped(("PO", early.pk))] == [later.pk]
    assert "now 18 Jan" in ExceptionItem.objects.get(kind="promise_lost").detail
    assert story(line)[-1].endswith(f"before 10 Jan 2027 with PO-{early.pk}")


def test_a_cancelled_order_gives_its_place_to_those_behind(shop):
    channel, sku, east, kiln = shop
    first, last = sold(channel, sku, 2, "A", 1), sold(channel, sku, 2, "B", 5)
    bought(kiln, east, sku, 2, days(0))
    settle()
    assert dates(first, last) == [days(0), None]
    services.cancel_lines(first.order_id, reason="no_stock", actor=SYSTEM)
    settle()
    assert dates(last) == [days(0)]
    assert not Promise.objects.filter(line=first).exists()


def test_a_kit_has_the_day_of_its_last_part(shop, assert_invariants):
    channel, sku, east, kiln = shop
    box = make_sku("BOX")
    pair = make_kit("PAIR", {sku: 2, box: 1})
    add_stock(box, east, 9)
    line = sold(channel, pair, 2, "K", 3)
    bought(kiln, east, sku, 3, days(1))
    settle()
    assert dates(line) == [None], "3 mugs are one pair and a half"
    bought(kiln, east, sku, 1, days(7))
    settle()
    assert dates(line) == [days(7)]
    assert_invariants()


def test_goods_for_a_house_that_does_not_serve_the_channel_promise_nothing(shop):
    channel, sku, _, kiln = shop
    line = sold(channel, sku, 1, "A", 1)
    bought(kiln, make_warehouse("WEST"), sku, 5, days(0))
    settle()
    assert dates(line) == [None]


def test_a_line_that_moved_meanwhile_is_left_to_its_own_news(shop):
    channel, sku, east, kiln = shop
    line = sold(channel, sku, 2, "A", 1)
    with stock_transaction():
        told = promises._store(
            [promises.Change(line.pk, line.order_id, 1, None, days(0), None, None)], SYSTEM
        )
    assert told == [] and dates(line) == [None], "planned for one unit, two are short"


# --- units that come from another of our warehouses ------------------------------------------------------


def moved(source, destination, sku, units: int, on: dt.date | None):
    """A transfer that has left."""
    add_stock(sku, source, units)
    made = transfers.request_transfer(
        source_id=source.pk,
        destination_id=destination.pk,
        lines={sku.pk: units},
        actor=SYSTEM,
        expected_on=on,
    )
    return transfers.ship_transfer(made.pk, actor=SYSTEM)


@pytest.fixture
def west(db):
    return make_warehouse("WEST")


def test_units_in_transit_give_a_day_once_they_have_left_and_move_it_when_they_are_late(
    shop, west, assert_invariants
):
    channel, sku, east, _ = shop
    line = sold(channel, sku, 3, "A", 3)
    add_stock(sku, west, 3)
    made = transfers.request_transfer(
        source_id=west.pk, destination_id=east.pk, lines={sku.pk: 3}, actor=SYSTEM, expected_on=days(2)
    )
    settle()
    assert dates(line) == [None], "nothing is on its way yet"
    transfers.ship_transfer(made.pk, actor=SYSTEM)
    settle()
    assert dates(line) == [days(2)]
    transfers.reschedule_transfer(made.pk, days(5), actor=SYSTEM, reason="lorry broke down")
    settle()
    assert dates(line) == [days(5)]
    assert story(line) == [
        f"3 of MUG expected 12 Jan 2027 with {made.number}",
        f"3 of MUG now expected 15 Jan 2027 with {made.number}, before 12 Jan 2027",
    ]
    assert [(row.fate, row.was_on) for row in promises.of_source(("TR", made.pk))] == [("moved", days(2))]
    news = OutboxEvent.objects.count()
    transfers.reschedule_transfer(made.pk, days(5), actor=SYSTEM)
    assert OutboxEvent.objects.count() == news, "the same day is no news"
    transfers.receive_transfer(made.pk, {sku.pk: 3}, actor=SYSTEM, key="r")
    settle()
    assert dates(line) == [None] and line.reserved == 3 and not Promise.objects.exists()
    assert not ExceptionItem.objects.filter(kind="promise_lost").exists(), "what arrived is not lost"
    with pytest.raises(Conflict, match="nothing is on its way"):
        transfers.reschedule_transfer(made.pk, days(9), actor=SYSTEM)
    assert_invariants()


def test_units_lost_on_the_way_cost_the_last_in_line_their_day(shop, west, assert_invariants):
    channel, sku, east, kiln = shop
    first, last = sold(channel, sku, 2, "A", 1), sold(channel, sku, 2, "B", 5)
    on_its_way = moved(west, east, sku, 4, days(0))
    settle()
    assert dates(first, last) == [days(0), days(0)]
    transfers.receive_transfer(on_its_way.pk, {sku.pk: 2}, actor=SYSTEM, key="r")
    settle()
    assert dates(last) == [days(0)], "2 are still in transit"
    transfers.settle_transfer(on_its_way.pk, {sku.pk: 2}, reason="lost", actor=SYSTEM, key="l")
    settle()
    assert (first.refresh_from_db(), first.short, dates(last)) == (None, 0, [None])
    assert [(row.line_id, row.fate) for row in promises.dropped(("TR", on_its_way.pk))] == [(last.pk, "lost")]
    item = ExceptionItem.objects.get(kind="promise_lost", closed_at__isnull=True)
    assert item.title == f"{on_its_way.number} no longer covers 1 promised order line"
    assert item.url == f"/stock/transfers/{on_its_way.pk}/" and item.warehouse_code == "EAST"
    assert f"{on_its_way.number} no longer covers them (was 10 Jan 2027)" in story(last)[-1]
    receive(bought(kiln, east, sku, 2, days(20)), 2, "r2")
    settle()
    item.refresh_from_db()
    assert item.closed_at is not None and not Promise.objects.exists()
    assert_invariants()


def test_the_earlier_of_a_transfer_and_a_purchase_order_gives_the_day(shop, west):
    channel, sku, east, kiln = shop
    line = sold(channel, sku, 2, "A", 1)
    order = bought(kiln, east, sku, 2, days(4))
    settle()
    on_its_way = moved(west, east, sku, 2, days(2))
    settle()
    assert dates(line) == [days(2)]
    assert [row.source for row in promises.standing()] == [("TR", on_its_way.pk)]
    transfers.settle_transfer(on_its_way.pk, {sku.pk: 2}, reason="found", actor=SYSTEM, key="b", found=True)
    settle()
    assert dates(line) == [days(4)]
    [row] = promises.dropped(("TR", on_its_way.pk))
    assert (row.source, row.was_source) == (("PO", order.pk), ("TR", on_its_way.pk))
    assert story(line)[-1] == (
        f"2 of MUG now expected 14 Jan 2027 with PO-{order.pk}, before 12 Jan 2027 with {on_its_way.number}"
    )


def test_units_without_a_day_or_for_another_house_promise_nothing(shop, west):
    channel, sku, east, _ = shop
    line = sold(channel, sku, 2, "A", 1)
    moved(west, east, sku, 1, None)
    moved(east, west, sku, 9, days(0))
    settle()
    assert dates(line) == [None]


def test_a_late_transfer_is_told_once_and_a_moved_date_closes_it(shop, west):
    _, sku, east, _ = shop
    today = business_day()
    on_its_way = moved(west, east, sku, 5, today)
    told = [transfers.tell_late(today + dt.timedelta(days=n)) for n in (1, 2, 2)]
    assert told == [(0, 0), (1, 0), (0, 0)], "a day of grace"
    item = ExceptionItem.objects.get(kind="transfer_late")
    assert item.title.startswith(f"{on_its_way.number} is late: expected") and "5 units" in item.detail
    transfers.reschedule_transfer(on_its_way.pk, today + dt.timedelta(days=9), actor=SYSTEM)
    assert transfers.tell_late(today + dt.timedelta(days=2)) == (0, 1)
    assert transfers.tell_late(today + dt.timedelta(days=11)) == (1, 0), "the new day is missed, too"
    transfers.receive_transfer(on_its_way.pk, {sku.pk: 3}, actor=SYSTEM, key="r")
    assert transfers.tell_late(today + dt.timedelta(days=12)) == (0, 1), "the rest is told as a difference"
    assert ExceptionItem.objects.filter(kind="transfer_difference", closed_at__isnull=True).exists()


def test_the_day_of_a_transfer_moves_from_its_page_and_by_the_interface(shop, west, client):
    channel, sku, east, _ = shop
    line = sold(channel, sku, 2, "A", 1)
    on_its_way = moved(west, east, sku, 2, days(1))
    settle()
    client.force_login(make_user())
    page = client.get(f"/stock/transfers/{on_its_way.pk}/").content.decode()
    assert f"/orders/promises/?transfer={on_its_way.pk}" in page and "11 Jan 2027" in page
    form = {"step": "date", "expected_on": "2027-01-13", "reason": "snow", "form_key": str(uuid.uuid4())}
    assert client.post(f"/stock/transfers/{on_its_way.pk}/", form).status_code == 302
    settle()
    assert dates(line) == [days(3)]
    assert AuditEntry.objects.get(action="transfer.rescheduled").after["reason"] == "snow"
    panel = client.get(f"/orders/promises/?transfer={on_its_way.pk}").content.decode()
    assert line.order.number in panel and "13 Jan 2027" in panel and "Moved" in panel
    assert client.get("/orders/promises/?transfer=999").status_code == 404
    bad = client.post(f"/stock/transfers/{on_its_way.pk}/", form | {"expected_on": "soon"}, follow=True)
    assert "is not a date" in bad.content.decode()
    api = bearer(make_user("api"))
    answer = api.post(f"/api/v1/transfers/{on_its_way.pk}/reschedule/", {"expected_on": "2027-01-15"})
    assert answer.status_code == 200 and answer.json()["expected_on"] == "2027-01-15"
    settle()
    [row] = api.get(f"/api/v1/promises/?transfer={on_its_way.pk}").json()["results"]
    assert (row["promise_on"], row["transfer"], row["purchase_order"]) == ("2027-01-15", on_its_way.pk, None)
    assert api.get(f"/api/v1/promises/?transfer={on_its_way.pk + 1}").json()["results"] == []


# --- screens and API -----------------------------------------------------------------------------------


def test_the_date_moves_from_the_page_and_the_page_lists_whose_day_moved(shop, client):
    channel, sku, east, kiln = shop
    line = sold(channel, sku, 2, "A", 1)
    order = bought(kiln, east, sku, 2, days(0))
    settle()
    client.force_login(make_user())
    url = f"/purchasing/orders/{order.pk}/"
    assert "Move the expected date" in client.get(url).content.decode()
    client.post(f"{url}reschedule/", {"expected_on": "2027-02-01", "line": "", "reason": "strike"})
    settle()
    page = client.get(f"/orders/promises/?purchase={order.pk}").content.decode()
    assert line.order.number in page and "1 Feb 2027" in page and "Moved" in page
    everything = client.get("/orders/promises/").content.decode()
    assert line.order.number in everything and f"PO-{order.pk}" in everything
    assert client.get("/orders/promises/?purchase=999999").status_code == 404
    assert "expected 1 Feb 2027" in client.get(f"/orders/{line.order.number}/").content.decode()
    assert "1 Feb 2027" in client.get("/orders/waiting/").content.decode()
    answer = client.post(f"{url}reschedule/", {"expected_on": "soon"}, follow=True).content.decode()
    assert "is not a date like" in answer
    answer = client.post(f"{url}reschedule/", {"expected_on": ""}, follow=True).content.decode()
    assert "say on which day the goods come now" in answer
    client.post(f"{url}confirm/", {"expected_on": "2027-02-03"})
    settle()
    assert dates(line) == [dt.date(2027, 2, 3)]
    client.force_login(make_user(role="viewer"))
    assert client.post(f"{url}reschedule/", {"expected_on": "2027-03-01"}).status_code == 403


def test_the_api_moves_the_date_only_of_the_order_that_was_read(shop):
    channel, sku, east, kiln = shop
    line = sold(channel, sku, 2, "A", 1)
    order = bought(kiln, east, sku, 2, days(0))
    settle()
    api = bearer(make_user("api"))
    url = f"/api/v1/purchase-orders/{order.pk}/"
    tag = api.get(url)["ETag"]
    body = {"expected_on": "2027-02-01", "reason": "strike"}
    moved = api.post(f"{url}reschedule/", body, HTTP_IF_MATCH=tag)
    assert (moved.status_code, moved.json()["expected_on"]) == (200, "2027-02-01")
    assert moved.json()["lines"][0]["agreed_on"] == days(0).isoformat()
    stale = api.post(f"{url}reschedule/", body, HTTP_IF_MATCH=tag)
    assert stale.status_code == 412
    settle()
    [row] = api.get("/api/v1/promises/", {"purchase_order": order.pk}).json()["results"]
    assert (row["order"], row["fate"], row["was_on"], row["promise_on"]) == (
        line.order_id, "moved", days(0).isoformat(), "2027-02-01",
    )  # fmt: skip
    assert api.get(f"/api/v1/orders/{line.order_id}/").json()["lines"][0]["promise_on"] == "2027-02-01"
    wrong = api.post(f"{url}reschedule/", {"expected_on": "2027-02-02", "line": 12345})
    assert wrong.status_code == 404
