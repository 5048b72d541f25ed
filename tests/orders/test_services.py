"""Holds, cancelling, mapping, waiting stock, placing, shipping, demand, erasure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
import time_machine
from django.db import transaction

from inventory import reservations
from inventory.ledger import InsufficientStock, Movement, post_movements
from inventory.models import DemandDay, Reservation, Sku, SkuAlias, StockLevel, Warehouse
from oms.core import outbox
from oms.core.actor import SYSTEM, Actor
from oms.core.errors import Conflict, NotAllowed, UserError
from oms.core.figures import Window, total
from oms.core.invariants import run
from oms.core.models import Doorbell, ExceptionItem, OutboxEvent
from oms.orders import allocation, demand, kpis, pii, selectors, services, states, tasks
from oms.orders.allocation import PlacedPart
from oms.orders.intake import take
from oms.orders.models import Allocation, Hold, Order, OrderContact, OrderLine, SalesChannel
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

pytestmark = pytest.mark.django_db
BOT = Actor("task", "test")
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def east() -> Warehouse:
    return make_warehouse("EAST")


@pytest.fixture
def west() -> Warehouse:
    return make_warehouse("WEST")


@pytest.fixture
def shop(east: Warehouse, west: Warehouse) -> SalesChannel:
    return make_channel("shop", east, west, name="Shop")


@pytest.fixture
def mug(east: Warehouse) -> Sku:
    sku = make_sku("MUG")
    add_stock(sku, east, 10)
    return sku


def enter(channel: SalesChannel, *lines: object, **fields: object) -> Order:
    answer = take([order_draft(*lines, **fields)], channel=channel, actor=BOT, source="webhook")[0]  # type: ignore[arg-type]
    assert answer.order_id is not None, answer.message
    return Order.objects.select_related("channel").get(pk=answer.order_id)


def counts(order: Order) -> list[tuple[int, int, int, int, int]]:
    """(quantity, reserved, shipped, cancelled, short) per line."""
    return [(x.quantity, x.reserved, x.shipped, x.cancelled, x.short) for x in order.lines.order_by("id")]


def level(sku: Sku, warehouse: Warehouse) -> tuple[int, int]:
    row = StockLevel.objects.filter(sku=sku, warehouse=warehouse).first()
    return (row.on_hand, row.reserved) if row else (0, 0)


def news(topic: str) -> list[OutboxEvent]:
    return list(OutboxEvent.objects.filter(topic=topic).order_by("id"))


def ship(order: Order, number: str = "S-1", units: int | None = None) -> None:
    """As the fulfillment floor does it: count on the lines, then take it off the stock."""
    with transaction.atomic():
        parts = [
            (row, units or row.reservation.quantity)
            for row in Allocation.objects.filter(
                line__order=order, reservation__quantity__gt=0
            ).select_related("reservation")
        ]
        allocation.record_shipped(
            [(row.pk, n) for row, n in parts], shipment_number=number, at=T0 + HOUR, actor=BOT
        )
        reservations.consume(
            {row.reservation_id: n for row, n in parts}, actor=BOT, reference=number, key=f"ship:{number}"
        )


@pytest.fixture
def assert_invariants() -> Callable[[], None]:
    """Those of orders and stock: here units leave without the shipments of the floor above."""

    def check() -> None:
        results = run(["O1", "O2", "O2b", "O3", "D1", "S1", "S2", "S3", "S8"])
        assert [failure for result in results for failure in result.failures] == []

    return check


# --- states -------------------------------------------------------------------------------------


def test_every_pair_of_states_is_allowed_or_refused_as_the_table_says() -> None:
    for before in Order.State.values:
        for after in Order.State.values:
            if before == after or after in states.ORDER[before]:
                states.check("SH-1", before, after)
            else:
                with pytest.raises(Conflict, match=f"SH-1 is {before} and cannot become {after}"):
                    states.check("SH-1", before, after)


@pytest.mark.parametrize(
    ("lines", "facts", "state"),
    [
        ([(2, 0, 0)], {"paid": False}, "pending"),
        ([(2, 0, 0)], {}, "open"),
        ([(2, 0, 0)], {"routed": True}, "routed"),
        ([(2, 1, 0)], {"routed": True}, "part_shipped"),
        ([(2, 1, 1)], {}, "shipped"),
        ([(2, 2, 0)], {"delivered": True}, "delivered"),
        ([(2, 0, 2), (1, 0, 1)], {}, "cancelled"),
        ([], {}, "shipped"),
        ([], {"cancelled": True}, "cancelled"),
        ([], {"paid": False}, "pending"),
    ],
)
def test_the_state_follows_from_the_facts(
    lines: list[tuple[int, int, int]], facts: dict[str, bool], state: str
) -> None:
    given = {"paid": True, "routed": False, "delivered": False, "cancelled": False, **facts}
    assert states.derive([states.LineCounts(*line) for line in lines], **given) == state


# --- holds --------------------------------------------------------------------------------------


def test_an_order_with_two_holds_goes_on_when_both_are_gone(
    shop: SalesChannel, mug: Sku, east: Warehouse
) -> None:
    order = enter(shop, line_draft(mug, 2))
    OutboxEvent.objects.all().delete()
    address = services.place_hold(order.pk, "address", actor=BOT, note="no street")
    person = services.place_hold(order.pk, "person", actor=BOT)
    again = services.place_hold(order.pk, "person", actor=BOT)
    assert again.pk == person.pk
    order.refresh_from_db()
    assert (order.holds_open, level(mug, east)) == (2, (10, 2)), "held orders keep their stock"

    services.release_hold(address.pk, actor=BOT)
    order.refresh_from_db()
    assert (order.holds_open, news("order.route")) == (1, [])
    services.release_hold(person.pk, actor=BOT)
    services.release_hold(person.pk, actor=BOT)
    order.refresh_from_db()
    assert order.holds_open == 0
    assert [event.key for event in news("order.route")] == [str(order.pk)]
    assert list(order.events.filter(kind="hold").values_list("text", flat=True)) == [
        "On hold: Address not valid – no street",
        "On hold: Put on hold by a person",
        "Hold released: Address not valid",
        "Hold released: Put on hold by a person",
    ]


def test_a_line_and_the_order_may_be_held_for_the_same_reason(shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft(mug, 2))
    services.place_hold(order.pk, "person", actor=BOT, line_id=order.lines.get().pk)
    services.place_hold(order.pk, "person", actor=BOT)
    order.refresh_from_db()
    assert order.holds_open == 2


def test_fraud_holds_need_the_right_to_release(shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft(mug, 1), risk="high")
    hold = Hold.objects.get()
    support, lead = make_user("sue", "support"), make_user("lea", "ops")
    with pytest.raises(NotAllowed):
        services.release_hold(hold.pk, actor=Actor("user", "sue", support.pk), principal=support)
    with pytest.raises(NotAllowed):
        services.release_hold(hold.pk, actor=Actor("user", "sue", support.pk))
    order.refresh_from_db()
    assert order.holds_open == 1
    services.release_hold(hold.pk, actor=Actor("user", "lea", lead.pk), principal=lead)
    order.refresh_from_db()
    assert order.holds_open == 0

    person = services.place_hold(order.pk, "person", actor=BOT)
    services.release_hold(person.pk, actor=Actor("user", "sue", support.pk), principal=support)


def test_expired_holds_are_released_by_the_task(shop: SalesChannel, mug: Sku) -> None:
    with time_machine.travel(T0, tick=False):
        order = enter(shop, line_draft(mug, 1))
        services.place_hold(order.pk, "person", actor=BOT, expires_at=T0 + HOUR)
        services.place_hold(order.pk, "rule", actor=BOT)
        tasks.release_expired_holds()
        assert Hold.objects.filter(released_at__isnull=True).count() == 2
    with time_machine.travel(T0 + HOUR, tick=False):
        tasks.release_expired_holds()
        tasks.release_expired_holds()
    assert [hold.reason for hold in Hold.objects.filter(released_at__isnull=True)] == ["rule"]
    order.refresh_from_db()
    assert order.holds_open == 1


@pytest.mark.parametrize("reason", ["nonsense", ""])
def test_an_unknown_hold_reason_is_refused(shop: SalesChannel, mug: Sku, reason: str) -> None:
    order = enter(shop, line_draft(mug, 1))
    with pytest.raises(UserError, match="reason: "):
        services.place_hold(order.pk, reason, actor=BOT)


# --- cancelling ---------------------------------------------------------------------------------


def test_cancelling_units_frees_exactly_them_and_tells_the_channel(
    shop: SalesChannel, mug: Sku, east: Warehouse, assert_invariants: Callable[[], None]
) -> None:
    order = enter(shop, line_draft(mug, 5))
    line = order.lines.get()
    services.cancel_lines(order.pk, {line.pk: 2}, reason="buyer", actor=BOT)

    assert (counts(order), level(mug, east)) == ([(5, 3, 0, 2, 0)], (10, 3))
    event = news("order.cancel_to_channel")[0]
    assert event.data == {
        "lines": [{"line_id": line.pk, "external_id": "L-MUG", "quantity": 2}],
        "reason": "buyer",
        "whole": False,
    }
    assert_invariants()

    services.cancel_lines(order.pk, reason="no_stock", actor=BOT)
    order.refresh_from_db()
    assert (order.state, order.cancel_reason, level(mug, east)) == ("cancelled", "no_stock", (10, 0))
    assert len(news("order.cancelled")) == 1
    services.cancel_lines(order.pk, reason="no_stock", actor=BOT)
    assert len(news("order.cancel_to_channel")) == 2, "cancelling twice has one effect"
    assert_invariants()


def test_our_cancellation_survives_a_newer_version_that_does_not_know_it(
    shop: SalesChannel, mug: Sku, east: Warehouse
) -> None:
    draft = order_draft(line_draft(mug, 5))
    take([draft], channel=shop, actor=BOT, source="poll")
    order = Order.objects.get()
    services.cancel_lines(order.pk, {order.lines.get().pk: 2}, reason="buyer", actor=BOT)
    take([replace(draft, channel_updated_at=T0 + HOUR)], channel=shop, actor=BOT, source="poll")
    assert (counts(order), level(mug, east)) == ([(5, 3, 0, 2, 0)], (10, 3))
    # the channel may answer by a smaller quantity instead of a cancelled count
    smaller = replace(draft, lines=(line_draft(mug, 3),), channel_updated_at=T0 + 2 * HOUR)
    take([smaller], channel=shop, actor=BOT, source="poll")
    assert (counts(order), level(mug, east)) == ([(3, 3, 0, 0, 0)], (10, 3))


def test_cancelling_takes_the_short_units_first(shop: SalesChannel, mug: Sku, east: Warehouse) -> None:
    order = enter(shop, line_draft(mug, 12))
    services.cancel_lines(order.pk, {order.lines.get().pk: 3}, reason="buyer", actor=BOT)
    order.refresh_from_db()
    assert (counts(order), level(mug, east), order.short_units) == ([(12, 9, 0, 3, 0)], (10, 9), 0)


def test_shipped_units_cannot_be_cancelled(shop: SalesChannel, mug: Sku, east: Warehouse) -> None:
    order = enter(shop, line_draft(mug, 5))
    ship(order, units=4)
    line = order.lines.get()
    with pytest.raises(
        Conflict,
        match=r"quantity: 2 of MUG asked, but only 1 of 5 can still be cancelled \(4 shipped, 0 cancelled\)\.",
    ):
        services.cancel_lines(order.pk, {line.pk: 2}, reason="buyer", actor=BOT)
    assert counts(order) == [(5, 1, 4, 0, 0)]
    services.cancel_lines(order.pk, reason="buyer", actor=BOT)
    order.refresh_from_db()
    assert (order.state, counts(order), level(mug, east)) == ("shipped", [(5, 0, 4, 1, 0)], (6, 0))


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (0, "quantity: must be a whole number of at least 1."),
        (-1, "quantity: must be a whole number of at least 1."),
    ],
)
def test_odd_cancellations_are_refused(shop: SalesChannel, mug: Sku, units: int, message: str) -> None:
    order = enter(shop, line_draft(mug, 5))
    with pytest.raises(UserError) as error:
        services.cancel_lines(order.pk, {order.lines.get().pk: units}, reason="buyer", actor=BOT)
    assert error.value.message == message
    assert counts(order) == [(5, 5, 0, 0, 0)]


# --- mapping ------------------------------------------------------------------------------------


def test_mapping_a_code_once_repairs_every_waiting_order(
    shop: SalesChannel, mug: Sku, east: Warehouse, assert_invariants: Callable[[], None]
) -> None:
    first = enter(shop, line_draft("OLD-MUG", 2))
    second = enter(shop, line_draft("old-mug", 9))
    other = enter(make_channel("other", east, prefix="OT"), line_draft("OLD-MUG", 1))
    repaired = services.map_external_sku(shop, "OLD-MUG", mug.pk, actor=BOT, remember=True)

    assert repaired == 2
    assert (counts(first), counts(second)) == ([(2, 2, 0, 0, 0)], [(9, 8, 0, 0, 1)])
    first.refresh_from_db()
    other.refresh_from_db()
    assert (first.unmapped_lines, other.unmapped_lines) == (0, 1)
    assert [event.key for event in news("order.route")] == [str(first.pk), str(second.pk)]
    assert SkuAlias.objects.get().value == "OLD-MUG"
    closed = ExceptionItem.objects.get(dedup_key="unmapped:shop:OLD-MUG")
    assert closed.closed_at is not None
    assert enter(shop, line_draft("OLD-MUG", 1)).unmapped_lines == 0, "remembered"
    assert_invariants()


def test_a_code_that_means_another_sku_is_not_taken_over(shop: SalesChannel, mug: Sku) -> None:
    tee = make_sku("TEE")
    with pytest.raises(UserError, match="external_sku: 'tee' already means TEE."):
        services.map_external_sku(shop, "tee", mug.pk, actor=BOT, remember=True)
    assert tee.aliases.count() == 0


# --- waiting stock ------------------------------------------------------------------------------


def test_new_stock_goes_to_waiting_orders_by_ship_by_and_winners_are_printed(
    shop: SalesChannel, east: Warehouse, assert_invariants: Callable[[], None]
) -> None:
    sku = make_sku("CUP")
    late = enter(shop, line_draft(sku, 2), ship_by=T0 + 9 * HOUR)
    urgent = enter(shop, line_draft(sku, 2), ship_by=T0 + 1 * HOUR)
    middle = enter(shop, line_draft(sku, 2), ship_by=T0 + 5 * HOUR)
    OutboxEvent.objects.all().delete()
    add_stock(sku, east, 3)
    outbox.drain()
    assert [bell.task for bell in Doorbell.objects.filter(subject=str(sku.pk))] == [
        "oms.orders.tasks.allocate_waiting"
    ]
    winners = allocation.allocate_waiting([sku.pk], actor=BOT)

    assert [(w.rank, w.order_id, w.quantity, w.still_short) for w in winners] == [
        (1, urgent.pk, 2, 0),
        (2, middle.pk, 1, 1),
    ]
    assert (counts(urgent), counts(middle), counts(late)) == (
        [(2, 2, 0, 0, 0)],
        [(2, 1, 0, 0, 1)],
        [(2, 0, 0, 0, 2)],
    )
    assert urgent.events.get(kind="allocated").text == (
        "Backorder: 2 of CUP arrived at EAST, served as number 1 (by ship-by date; ship by 2026-11-02 15:00 UTC)"
    )
    assert middle.events.get(kind="allocated").text.endswith("; 1 still short")
    assert [event.key for event in news("order.route")] == [str(urgent.pk), str(middle.pk)]
    assert allocation.allocate_waiting([sku.pk], actor=BOT) == []
    assert_invariants()


def test_a_component_serves_waiting_kits(
    shop: SalesChannel, east: Warehouse, assert_invariants: Callable[[], None]
) -> None:
    cup, box = make_sku("CUP"), make_sku("BOX")
    add_stock(box, east, 5)
    order = enter(shop, line_draft(make_kit("DUO", {cup: 2, box: 1}), 2))
    assert counts(order) == [(2, 0, 0, 0, 2)]
    add_stock(cup, east, 3)
    assert [w.quantity for w in allocation.allocate_waiting([cup.pk], actor=BOT)] == [1]
    assert (counts(order), level(cup, east), level(box, east)) == ([(2, 1, 0, 0, 1)], (3, 2), (5, 1))
    assert_invariants()


def test_stock_that_nobody_waits_for_rings_no_bell(mug: Sku, east: Warehouse) -> None:
    add_stock(mug, east, 5)
    outbox.drain()
    assert not Doorbell.objects.filter(task="oms.orders.tasks.allocate_waiting").exists()


def test_a_lost_reservation_makes_the_line_short(
    shop: SalesChannel, east: Warehouse, assert_invariants: Callable[[], None]
) -> None:
    cup, box = make_sku("CUP"), make_sku("BOX")
    add_stock(cup, east, 6)
    add_stock(box, east, 6)
    order = enter(shop, line_draft(make_kit("DUO", {cup: 2, box: 1}), 3))
    lost = Reservation.objects.get(sku=cup)
    with transaction.atomic():
        reservations.release({lost.pk: 3}, actor=SYSTEM, reason="count")
        outbox.emit("reservation.lost", str(lost.pk))
    outbox.drain()

    order.refresh_from_db()
    assert (counts(order), order.short_units) == ([(3, 1, 0, 0, 2)], 2)
    assert (level(cup, east)[1], level(box, east)[1]) == (2, 1), "the rest of broken kits goes back too"
    assert allocation.settle_lost([lost.pk], actor=BOT) == 0
    assert_invariants()


# --- placing and shipping -----------------------------------------------------------------------


def test_a_routing_plan_moves_and_splits(
    shop: SalesChannel, mug: Sku, east: Warehouse, west: Warehouse, assert_invariants: Callable[[], None]
) -> None:
    add_stock(mug, west, 3)
    order = enter(shop, line_draft(mug, 5))
    first = Allocation.objects.get()
    after = allocation.place_parts(
        order.pk, [PlacedPart(first.pk, east.pk, 2), PlacedPart(first.pk, west.pk, 3)], actor=BOT
    )

    assert [(a.reservation.warehouse.code, a.reservation.quantity) for a in after] == [
        ("EAST", 2),
        ("WEST", 3),
    ]
    assert (level(mug, east), level(mug, west)) == ((10, 2), (3, 3))
    order.refresh_from_db()
    assert (order.state, counts(order)) == ("routed", [(5, 5, 0, 0, 0)])
    assert order.events.get(kind="routed").text == "Routed to EAST (2), WEST (3)"
    assert_invariants()


def test_a_plan_for_a_sold_out_warehouse_changes_nothing(
    shop: SalesChannel, mug: Sku, east: Warehouse, west: Warehouse
) -> None:
    add_stock(mug, west, 2)
    order = enter(shop, line_draft(mug, 5))
    with pytest.raises(InsufficientStock):
        allocation.place_parts(order.pk, [PlacedPart(Allocation.objects.get().pk, west.pk, 5)], actor=BOT)
    order.refresh_from_db()
    assert (order.state, level(mug, east), level(mug, west)) == ("open", (10, 5), (2, 0))


def test_held_and_unpaid_orders_are_not_placed(shop: SalesChannel, mug: Sku) -> None:
    held = enter(shop, line_draft(mug, 1))
    services.place_hold(held.pk, "person", actor=BOT)
    with pytest.raises(Conflict, match="is on hold: release its holds before routing"):
        allocation.place_parts(held.pk, [], actor=BOT)
    unpaid = enter(shop, line_draft(mug, 1), status="pending")
    with pytest.raises(Conflict, match="waiting for payment: there is nothing to route"):
        allocation.place_parts(unpaid.pk, [], actor=BOT)


def test_shipping_in_two_parts(
    shop: SalesChannel, mug: Sku, east: Warehouse, assert_invariants: Callable[[], None]
) -> None:
    order = enter(shop, line_draft(mug, 5))
    ship(order, "S-1", units=2)
    order.refresh_from_db()
    assert (order.state, counts(order), level(mug, east)) == ("part_shipped", [(5, 3, 2, 0, 0)], (8, 3))
    assert_invariants()
    ship(order, "S-2")
    order.refresh_from_db()
    assert (order.state, counts(order), level(mug, east), order.shipped_at) == (
        "shipped", [(5, 0, 5, 0, 0)], (5, 0), T0 + HOUR,
    )  # fmt: skip
    allocation.record_delivered(order.pk, at=T0 + 3 * HOUR, actor=BOT)
    allocation.record_delivered(order.pk, at=T0 + 4 * HOUR, actor=BOT)
    order.refresh_from_db()
    assert (order.state, order.delivered_at) == ("delivered", T0 + 3 * HOUR)
    assert_invariants()


def test_a_kit_counts_as_shipped_when_its_last_component_left(
    shop: SalesChannel, east: Warehouse, assert_invariants: Callable[[], None]
) -> None:
    cup, box = make_sku("CUP"), make_sku("BOX")
    add_stock(cup, east, 4)
    add_stock(box, east, 2)
    order = enter(shop, line_draft(make_kit("DUO", {cup: 2, box: 1}), 2))
    links = {a.reservation.sku_id: a for a in Allocation.objects.select_related("reservation")}
    for number, (sku, units, after) in enumerate(
        [
            (cup, 2, (2, 2, 0, 0, 0)),
            (box, 1, (2, 1, 1, 0, 0)),
            (box, 1, (2, 1, 1, 0, 0)),
            (cup, 2, (2, 0, 2, 0, 0)),
        ]
    ):
        link = links[sku.pk]
        with transaction.atomic():
            allocation.record_shipped([(link.pk, units)], shipment_number=f"S-{number}", at=T0, actor=BOT)
            reservations.consume({link.reservation_id: units}, actor=BOT, reference="S", key=f"ship:{number}")
        assert counts(order) == [after]
        assert_invariants()


def test_more_than_reserved_cannot_be_shipped(shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft(mug, 2))
    with (
        pytest.raises(Conflict, match="3 of MUG should leave, but only 2 are still reserved"),
        transaction.atomic(),
    ):
        allocation.record_shipped([(Allocation.objects.get().pk, 3)], shipment_number="S-1", at=T0, actor=BOT)
    assert counts(order) == [(2, 2, 0, 0, 0)]


# --- figures, privacy ---------------------------------------------------------------------------


def test_demand_is_rolled_up_per_business_day_and_stays_the_same(
    shop: SalesChannel, mug: Sku, settings: object
) -> None:
    settings.BUSINESS_TIME_ZONE = "America/New_York"  # type: ignore[attr-defined]
    before_midnight = dt.datetime(2026, 11, 2, 4, 59, tzinfo=dt.UTC)
    enter(shop, line_draft(mug, 3), placed_at=before_midnight)
    order = enter(shop, line_draft(mug, 4), placed_at=before_midnight + dt.timedelta(minutes=1))
    enter(shop, line_draft(mug, 50), is_test=True, placed_at=T0)
    enter(shop, line_draft(mug, 60), kind="replacement", placed_at=T0)
    services.cancel_lines(order.pk, {order.lines.get().pk: 1}, reason="buyer", actor=BOT)
    days = [dt.date(2026, 11, 1), dt.date(2026, 11, 2)]
    for _ in range(2):
        assert demand.roll_up(days) == 2
        assert list(
            DemandDay.objects.order_by("day").values_list("day", "channel_code", "units", "lines")
        ) == [
            (days[0], "shop", 3, 1),
            (days[1], "shop", 3, 1),
        ]
    services.cancel_lines(order.pk, reason="buyer", actor=BOT)
    demand.roll_up(days)
    assert list(DemandDay.objects.values_list("day", "units")) == [(days[0], 3)]


def test_stockout_rate_counts_first_tries_and_keeps_counting(shop: SalesChannel, east: Warehouse) -> None:
    cup = make_sku("CUP")
    add_stock(cup, east, 117)
    for _ in range(117):
        enter(shop, line_draft(cup, 1))
    for _ in range(3):
        enter(shop, line_draft(cup, 1))
    add_stock(cup, east, 3)
    assert len(allocation.allocate_waiting([cup.pk], actor=BOT)) == 3
    day = Window(T0.date(), T0.date())
    rate = kpis.stockout_rate(total(kpis.tally(day).values()))
    assert (rate.lines, rate.short_lines, rate.rate, rate.unit_rate) == (
        120,
        3,
        Decimal("0.025"),
        Decimal("0.025"),
    )
    assert kpis.stockout_rate(total(kpis.tally(day.before()).values())).rate is None


def test_buyer_data_goes_when_its_time_is_over(
    mug: Sku, east: Warehouse, assert_invariants: Callable[[], None]
) -> None:
    amazon = make_channel("amazon", east, pii_days=30)
    order = enter(amazon, line_draft(mug, 1))
    keep = enter(make_channel("own", east), line_draft(mug, 1))
    ship(order)
    contact = OrderContact.objects.get(order=order)
    assert contact.expires_at == T0 + HOUR + dt.timedelta(days=30)
    allocation.record_delivered(order.pk, at=T0 + 5 * HOUR, actor=BOT)
    contact.refresh_from_db()
    due = T0 + 5 * HOUR + dt.timedelta(days=30)
    assert contact.expires_at == due

    assert pii.erase(at=due - HOUR) == 0
    assert pii.erase(at=due) == 1
    assert pii.erase(at=due) == 0
    order.refresh_from_db()
    contact.refresh_from_db()
    assert (contact.data, order.ship_name, order.ship_city, order.ship_postal) == ({}, "", "", "787")
    assert order.number.startswith("SH-")
    keep.refresh_from_db()
    assert keep.ship_name == "A. Ruiz"
    assert_invariants()


def test_forgotten_buyer_data_fails_the_invariant(mug: Sku, east: Warehouse) -> None:
    from oms.orders.invariants import no_old_buyer_data

    order = enter(make_channel("amazon", east, pii_days=30), line_draft(mug, 1), status="cancelled")
    assert order.contact.expires_at == T0 + dt.timedelta(days=30)
    with time_machine.travel(T0 + dt.timedelta(days=30, hours=23)):
        assert list(no_old_buyer_data()) == []
    with time_machine.travel(T0 + dt.timedelta(days=31, hours=1)):
        assert len(list(no_old_buyer_data())) == 1


def test_health_buckets_sum_to_all_live_orders(shop: SalesChannel, mug: Sku) -> None:
    at = T0 + HOUR
    enter(shop, line_draft(mug, 1), ship_by=T0)  # late
    held = enter(shop, line_draft(mug, 1), ship_by=T0)  # late and held: counted once
    services.place_hold(held.pk, "person", actor=BOT)
    enter(shop, line_draft("NOPE", 1), ship_by=T0)
    enter(shop, line_draft(mug, 99), ship_by=at + HOUR)
    enter(shop, line_draft(mug, 1), ship_by=at + HOUR, status="pending")
    enter(shop, line_draft(make_sku("FREE", kind="service"), 1), status="cancelled")
    from oms.core.access import Scope

    health = selectors.health_counts(Scope(), at=at)
    assert health == {
        "on_hold": 1, "unmapped": 1, "late": 1, "backorder": 2, "pending": 0, "to_route": 0, "ready": 0,
    }  # fmt: skip
    assert sum(health.values()) == Order.objects.filter(state__in=states.LIVE).count()


def test_balances_that_lie_are_found(shop: SalesChannel, mug: Sku, east: Warehouse) -> None:
    """The invariants really fail: each lie below is caught by one of them."""
    from oms.orders import invariants

    order = enter(shop, line_draft(mug, 5))
    OrderLine.objects.update(reserved=4)
    assert list(invariants.line_counts()) == [
        f"line {order.lines.get().pk} says 4 reserved, its reservations hold 5"
    ]
    OrderLine.objects.update(reserved=5)
    Order.objects.update(short_units=2)
    assert list(invariants.counters()) == [f"order {order.pk} says 2 short, its lines 0"]
    Order.objects.update(short_units=0, holds_open=1)
    assert list(invariants.counters()) == [f"order {order.pk} says 1 holds, 0 are open"]
    Order.objects.update(holds_open=0, state="shipped")
    assert len(list(invariants.finished_orders_hold_nothing())) == 2
    with transaction.atomic():
        post_movements([Movement(mug.pk, east.pk, "on_hand", 1, "found", key="found:1")], actor=SYSTEM)
