"""Decisions of the sync engine that need no channel: pacing, tuned buffers, silence, and who sold twice."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import blackbox, pacing, quantities, silence, tuning
from channels.blackbox import Candidate, Times, judge, remedies
from channels.models import ChannelAccount, InboxMessage, Listing, OversellIncident, StockPush
from inventory.availability import Claim, Told, exposure, partition, safe_now
from inventory.models import Sku, Warehouse
from oms.core.clock import now
from oms.core.models import ExceptionItem
from oms.orders.models import SalesChannel
from tests.factories import (
    T0,
    add_stock,
    line_draft,
    make_channel,
    make_sku,
    make_warehouse,
    order_draft,
)

HOUR = dt.timedelta(hours=1)


def ms(value: int) -> dt.datetime:
    return T0 + dt.timedelta(milliseconds=value)


# --- daily budgets (eBay: 250 changes of a listing) -------------------------------------------------


@pytest.mark.parametrize(
    ("told", "wanted", "count", "minutes_ago", "waits"),
    [
        (None, 40, 0, None, None),  # never told: now
        (500, 480, 3, 1, 11.52 - 1),  # far from zero: one change in 11.52 minutes, half the budget over a day
        (500, 480, 3, 12, None),
        (11, 10, 100, 0.1, None),  # near zero: at once while the budget lasts
        (12, 11, 100, 0.1, 11.52 - 0.1),
        (3, 2, 230, 0.1, 11.52 - 0.1),  # the last tenth is kept for the changes to and from zero
        (2, 0, 249, 0.1, None),
        (0, 5, 249, 0.1, None),
        (2, 0, 250, 0.1, 5.76 - 0.1),  # spent: the channel would refuse it
    ],
)
def test_what_is_told_at_once_and_what_waits(
    told: int | None, wanted: int, count: int, minutes_ago: float | None, waits: float | None
) -> None:
    last = None if minutes_ago is None else T0 - dt.timedelta(minutes=minutes_ago)
    until = pacing.hold_until(told, wanted, spent=pacing.Spent(count, last), budget=250, at=T0)
    assert (None if until is None else round((until - T0).total_seconds() / 60, 2)) == (
        None if waits is None else round(waits, 2)
    )
    assert pacing.hold_until(told, wanted, spent=pacing.Spent(count, last), budget=0, at=T0) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 600)), min_size=1, max_size=400))
def test_no_day_ever_sees_more_than_the_budget(changes: list[tuple[int, int]]) -> None:
    budget, at, told = 20, T0, 30
    sent: list[dt.datetime] = []
    for wanted, seconds in changes:
        at += dt.timedelta(seconds=seconds)
        day = [when for when in sent if when > at - dt.timedelta(days=1)]
        spent = pacing.Spent(len(day), max(day, default=None))
        if pacing.hold_until(told, wanted, spent=spent, budget=budget, at=at) is None:
            sent.append(at)
            told = wanted
    for when in sent:
        assert sum(when - dt.timedelta(days=1) < other <= when for other in sent) <= budget


# --- buffers from measured latency ------------------------------------------------------------------


def test_risk_of_the_worked_example() -> None:
    """4 channels × 12 per hour, 3 available, buffer 1: 6e-7 at 5 s, 0.7 % at a minute, 99.5 % at 15 minutes."""
    rates = [12.0] * 4
    assert tuning.risk(3, 2, rates, 5) == pytest.approx(6e-7, rel=0.1)
    assert tuning.risk(3, 2, rates, 60) == pytest.approx(0.007, abs=0.0005)
    assert tuning.risk(3, 2, rates, 900) == pytest.approx(0.995, abs=0.001)
    assert tuning.risk(5, 0, rates, 900) == 0 == tuning.risk(3, 3, [0.0, 0.0], 900)


def test_a_faster_channel_needs_a_smaller_buffer_and_says_why() -> None:
    rates = [12.0] * 4
    figures = [tuning.tuned_buffer(rates, seconds).units for seconds in (1, 60, 300)]
    assert figures == sorted(figures) and figures[0] == 0 < figures[-1]
    found = tuning.tuned_buffer(rates, 60)
    assert found.risk <= tuning.RISK
    assert found.why.startswith("48 sold per hour on 4 channels, told within 60.0 s: ")
    assert "even 10 held back" in tuning.tuned_buffer([3000.0] * 4, 600).why


# --- the last units ---------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    stock=st.dictionaries(
        st.tuples(st.sampled_from("AB"), st.sampled_from("xyz")), st.integers(0, 6), min_size=1
    ),
    wishes=st.lists(
        st.tuples(
            st.integers(0, 9), st.sets(st.sampled_from("xyz"), min_size=1), st.sampled_from(["A", "B", "AB"]),
            st.integers(1, 2), st.integers(0, 3),
        ),
        min_size=1, max_size=6,
    ),
)  # fmt: skip
def test_together_they_never_show_more_than_there_is(
    stock: dict[tuple[str, str], int], wishes: list[tuple[int, set[str], str, int, int]]
) -> None:
    claims = [
        Claim(str(n), most, tuple((sku, units) for sku in skus), tuple(sorted(places)), kept=kept)
        for n, (most, places, skus, units, kept) in enumerate(wishes)
    ]
    given_ = partition(stock, claims)
    for sku in "AB":
        shown = [given_[c.key] * units for c in claims for name, units in c.uses if name == sku]
        assert exposure(shown, sum(units for (name, _), units in stock.items() if name == sku)) == 0
    assert all(0 <= given_[claim.key] <= claim.quantity for claim in claims)


def test_a_raise_waits_until_the_others_are_lowered() -> None:
    """100 over five; the first sold 5 that we have booked: its raise from 15 to 19 waits for the other four."""
    exact = [Told(19, 20, True)] * 4
    first = Told(19, 20, False)
    before = safe_now({"a": first, **{str(n): told for n, told in enumerate(exact)}}, 95)
    assert before == {"a": 15, "0": 19, "1": 19, "2": 19, "3": 19}
    after = safe_now({"a": Told(19, 15, True), **{str(n): Told(19, 19, True) for n in range(4)}}, 95)
    assert after == dict.fromkeys("a0123", 19)


@settings(max_examples=200, deadline=None)
@given(
    data=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_nothing_is_sold_twice_in_any_order_of_pushes_and_sales(
    data: list[tuple[int, int, int]], order: random.Random
) -> None:
    """Listings show `shown`, have sold `sold` of it unknown to the others, and get a new share; pushes land in any
    order. At every moment what they still show together is at most what is left."""
    shown = {str(n): figure for n, (figure, _, _) in enumerate(data)}
    sold = {key: min(figure, data[int(key)][1]) for key, figure in shown.items()}
    booked = sum(shown.values()) - sum(sold.values())  # what is left once every sale is booked
    wishes = [Claim(str(n), wish, (("A", 1),), ("x",)) for n, (_, _, wish) in enumerate(data)]
    shares = partition({("A", "x"): booked}, wishes)
    told = {key: Told(shares[key], shown[key], not sold[key]) for key in shown}
    live = {key: shown[key] - sold[key] for key in shown}
    for _ in range(2):
        safe = safe_now(told, booked)
        keys = list(live)
        order.shuffle(keys)
        for key in keys:
            live[key] = safe[key]
            assert sum(live.values()) <= booked
        told = {key: Told(shares[key], safe[key], True) for key in live}
    assert safe_now(told, booked) == shares


# --- silence ----------------------------------------------------------------------------------------


def test_silence_is_three_times_the_usual_gap() -> None:
    every_ten = [T0 + dt.timedelta(minutes=10 * n) for n in range(40)]
    assert silence.limit(every_ten) == dt.timedelta(minutes=30)
    assert silence.limit([T0 + dt.timedelta(seconds=n) for n in range(40)]) == silence.LEAST
    assert silence.limit(every_ten[:9]) is None


def test_a_silent_channel_is_polled_and_shown(db: None) -> None:
    account = ChannelAccount.objects.create(
        sales_channel=make_channel("loud"), connector="shopify", state=ChannelAccount.State.CONNECTED
    )
    at = now()
    for n in range(20):
        InboxMessage.objects.create(
            account=account, delivery_id=str(n), topic="orders/create", state=InboxMessage.State.DONE,
            received_at=at - dt.timedelta(minutes=10 * n + 40),
        )  # fmt: skip
    assert silence.watch(account)
    item = ExceptionItem.objects.get(kind="channel_quiet")
    assert "has sent nothing for 40 min" in item.title and item.closed_at is None
    InboxMessage.objects.create(
        account=account, delivery_id="new", topic="orders/create", state=InboxMessage.State.DONE
    )
    assert not silence.watch(account)
    item.refresh_from_db()
    assert item.closed_at is not None


# --- the black box ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "hop", "took"),
    [
        # told late by the first channel
        ({"second_sold": ms(9000), "first_received": ms(8000), "first_booked": ms(8100)}, "notice", 8000),
        # booked late
        ({"second_sold": ms(9000), "first_received": ms(50), "first_booked": ms(7000), "sent": ms(7100),
          "accepted": ms(9500)}, "intake", 6950),
        # sent late
        ({"second_sold": ms(9000), "first_received": ms(50), "first_booked": ms(100), "sent": ms(8800)},
         "dispatch", 8700),
        # never sent, and we know why
        ({"second_sold": ms(9000), "first_received": ms(50), "first_booked": ms(100), "reason": "paused"},
         "not_told", 8900),
        # the second channel is slow to accept
        ({"second_sold": ms(9000), "first_received": ms(50), "first_booked": ms(100), "sent": ms(200),
          "accepted": ms(9100)}, "channel", 8800),
        # it sold although it had accepted
        ({"second_sold": ms(9000), "first_received": ms(50), "first_booked": ms(100), "sent": ms(200),
          "accepted": ms(400)}, "kept_selling", 8600),
        # nobody could have kept them apart
        ({"second_sold": ms(120), "first_received": ms(150), "first_booked": ms(200)}, "too_close", 120),
        # the second order was bought first and only came later
        ({"second_sold": ms(-5000), "first_received": ms(150), "first_booked": ms(200)}, "too_close", 5000),
    ],
)  # fmt: skip
def test_the_slowest_hop_before_the_second_sale_is_guilty(
    times: dict[str, dt.datetime], hop: str, took: int
) -> None:
    verdict = judge(Times(first_sold=T0, **times))  # type: ignore[arg-type]
    assert (verdict.hop, verdict.ms) == (hop, took)


def test_stock_that_fell_by_itself_has_no_guilty_hop() -> None:
    assert judge(Times(second_sold=T0, reason="count")).hop == "stock_fell"


def test_the_cheapest_way_out_comes_first() -> None:
    orders = [
        Candidate("AM-1", "Amazon", "amazon", Decimal(30)),
        Candidate("SH-2", "Own shop", "shopify", Decimal(40)),
    ]
    ways = remedies(
        2, elsewhere={"WEST": 1, "NORTH": 2}, incoming=[(1, T0.date()), (3, T0.date() + dt.timedelta(days=3))],
        ship_by=T0.date() + dt.timedelta(days=1), orders=orders,
    )  # fmt: skip
    assert [(way.kind, way.cost) for way in ways] == [
        ("other_location", 0), ("incoming", 8), ("cancel", 45), ("cancel", 55)
    ]  # fmt: skip
    assert ways[0].text == "2 available in NORTH: ship from there"
    assert ways[2].text.startswith("cancel SH-2 on Own shop") and "limit 2.5 %" in ways[3].text


@pytest.fixture
def shops(db: None) -> tuple[Warehouse, Sku, list[SalesChannel], list[Listing]]:
    """One unit that two connected shops show."""
    east, sku = make_warehouse("EAST"), make_sku("MUG")
    add_stock(sku, east, 1)
    channels = [make_channel("left", east, prefix="LE"), make_channel("right", east, prefix="RI")]
    listings = []
    for channel in channels:
        account = ChannelAccount.objects.create(sales_channel=channel, connector="shopify", state="connected")
        listing = Listing.objects.create(
            account=account, external_id=f"x{channel.pk}", external_sku="MUG", sku=sku
        )
        StockPush.objects.create(
            listing=listing, version=1, quantity=1, state="acked", changed_at=T0, sent_at=T0, answered_at=T0
        )
        listings.append(listing)
    return east, sku, channels, listings


def test_an_oversell_opens_its_black_box_once(
    shops: tuple[Warehouse, Sku, list[SalesChannel], list[Listing]], assert_invariants: Callable[[], None]
) -> None:
    from oms.core.actor import Actor
    from oms.orders.intake import take

    _, sku, (left, right), listings = shops
    make_west = make_warehouse("WEST")
    add_stock(sku, make_west, 4)
    at = now()
    ids = []
    for channel, seconds in ((left, 9), (right, 2)):
        draft = order_draft(
            line_draft(sku, 1), placed_at=at - dt.timedelta(seconds=seconds), channel_updated_at=at
        )
        ids.append(take([draft], channel=channel, actor=Actor("channel", "t"), source="webhook")[0].order_id)
    listings[1].account.pushes_paused_at, listings[1].account.pause_reason = at, "stock count"
    listings[1].account.save()
    assert blackbox.investigate_recent() == 1 and blackbox.investigate_recent() == 0
    incident = OversellIncident.objects.get()
    assert (incident.order_id, incident.rival_id, incident.units) == (ids[1], ids[0], 1)
    assert incident.hop == "notice" and incident.why.startswith("Left told us of its sale 7")
    assert incident.remedies[0] == {
        "kind": "other_location", "cost": "0", "text": "4 available in WEST: ship from there"
    }  # fmt: skip
    assert [row["ms"] for row in incident.timeline] == sorted(row["ms"] for row in incident.timeline)
    assert incident.timeline[0]["ms"] == 0 and "a buyer buys on Left" in incident.timeline[0]["text"]
    item = ExceptionItem.objects.get(kind="oversell")
    assert item.title == "MUG: 1 sold twice" and item.detail.startswith("Left told us of its sale")
    assert quantities.exposure(sku.pk)[1] == 0
    assert_invariants()


def test_a_backorder_of_a_listing_that_showed_nothing_is_none(
    shops: tuple[Warehouse, Sku, list[SalesChannel], list[Listing]],
) -> None:
    from oms.core.actor import Actor
    from oms.orders.intake import take

    _, sku, (left, _), _ = shops
    StockPush.objects.update(quantity=0)
    take([order_draft(line_draft(sku, 3))], channel=left, actor=Actor("channel", "t"), source="webhook")
    assert blackbox.investigate_recent() == 0


def test_a_tuned_buffer_changes_and_a_pinned_one_stays(
    shops: tuple[Warehouse, Sku, list[SalesChannel], list[Listing]],
) -> None:
    from oms.core.actor import SYSTEM, Actor
    from oms.orders.intake import take

    east, sku, (left, right), (first, second) = shops
    add_stock(sku, east, 9000)
    for channel in (left, right):
        for _ in range(2):
            take(
                [order_draft(line_draft(sku, 2000), placed_at=now(), channel_updated_at=now())],
                channel=channel, actor=Actor("channel", "t"), source="webhook",
            )  # fmt: skip
    StockPush.objects.create(
        listing=first, version=2, quantity=1, state="acked", changed_at=T0, sent_at=T0, answered_at=now(),
        latency_ms=400_000,
    )  # fmt: skip
    Listing.objects.filter(pk=first.pk).update(buffer_mode="tuned")
    assert tuning.tune(first.account_id) == 1 and tuning.tune(second.account_id) == 0
    first.refresh_from_db()
    assert first.buffer > 0 and first.is_stale
    assert first.buffer_why.startswith("12 sold per hour on 2 channels, told within 400.0 s")
    tuning.pin(first.pk, 5, actor=SYSTEM)
    assert tuning.tune(first.account_id) == 0
    first.refresh_from_db()
    assert (first.buffer, first.buffer_mode) == (5, "fixed")
