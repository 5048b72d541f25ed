"""Decisions of the sync engine that need no channel: pacing, tuned buffers, silence, and who sold twice."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest
import time_machine
from django.db import OperationalError
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import accounts, blackbox, pacing, quantities, silence, tuning
from channels.blackbox import Candidate, Times, judge, remedies
from channels.models import (
    ChannelAccount,
    InboxMessage,
    Listing,
    OversellIncident,
    OversellSuspect,
    StockPush,
)
from inventory.availability import Claim, Told, partition, safe_now
from inventory.models import Sku, Warehouse
from oms.control import mending
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.errors import NotFound
from oms.core.exceptions_inbox import raise_item
from oms.core.models import ExceptionItem
from oms.orders.models import Order, SalesChannel
from tests.factories import (
    T0,
    add_stock,
    line_draft,
    make_channel,
    make_sku,
    make_user,
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
        assert sum(shown) <= sum(units for (name, _), units in stock.items() if name == sku)
    assert all(0 <= given_[claim.key] <= claim.quantity for claim in claims)


X = frozenset("x")


def test_a_raise_waits_until_the_others_are_lowered() -> None:
    """100 over five; the first sold 5 that we have booked: its raise from 15 to 19 waits for the other four."""
    first, other = Told(19, 15, X), Told(19, 20, X)
    before = safe_now({"a": first, **{str(n): other for n in range(4)}}, {"x": 95})
    assert before == {"a": 15, "0": 19, "1": 19, "2": 19, "3": 19}
    after = safe_now({"a": first, **{str(n): Told(19, 19, X) for n in range(4)}}, {"x": 95})
    assert after == dict.fromkeys("a0123", 19)
    # what is on its way to another one counts as there, and so does what may be sold while it is told
    assert safe_now({"a": Told(5, 0, X), "b": Told(5, 3, X, rising=4)}, {"x": 10})["a"] == 3
    assert safe_now({"a": Told(5, 2, X, blind=2), "b": Told(3, 3, X)}, {"x": 9})["a"] == 4


def test_pools_that_share_nothing_never_hold_each_other_up() -> None:
    here, there = frozenset("x"), frozenset("y")
    told = {"far": Told(2, 9, there), "near": Told(5, 0, here), "both": Told(1, 1, here | there)}
    # y is told twice over, and the listing that sells from both must wait for it; the one of x alone need not
    safe = safe_now(told, {"x": 6, "y": 2})
    assert safe == {"far": 2, "near": 5, "both": 1}
    # units of both may be taken out of x: then x alone has no room for them
    assert (
        safe_now({"near": Told(5, 0, here), "both": Told(4, 4, here | there)}, {"x": 6, "y": 2})["near"] == 4
    )


_PLACES = st.sets(st.sampled_from("xyz"), min_size=1, max_size=2).map(frozenset)


def served(shown: dict[str, int], places: dict[str, frozenset[str]], stock: dict[str, int]) -> bool:
    """True when every unit shown can be taken from a pool that its listing sees (every group of pools is asked)."""
    pools = sorted(stock)
    return all(
        sum(units for key, units in shown.items() if places[key] <= group)
        <= sum(stock[pool] for pool in group)
        for size in range(1, len(pools) + 1)
        for group in map(frozenset, combinations(pools, size))
    )


@settings(max_examples=300, deadline=None)
@given(
    data=st.lists(
        st.tuples(_PLACES, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=5
    ),
    stock=st.fixed_dictionaries({pool: st.integers(0, 12) for pool in "xyz"}),
    order=st.randoms(use_true_random=False),
)
def test_no_pool_is_told_twice_in_any_order_of_pushes(
    data: list[tuple[frozenset[str], int, int, int]], stock: dict[str, int], order: random.Random
) -> None:
    """Listings see pools of their own and show what fits; pushes of new shares land one by one in any order, some
    never. At every moment all they show can be served."""
    places = {str(n): view for n, (view, _, _, _) in enumerate(data)}
    wishes = [Claim(key, data[int(key)][1], (("A", 1),), tuple(sorted(places[key]))) for key in places]
    live = partition({("A", pool): units for pool, units in stock.items()}, wishes)
    sold = {key: min(live[key], data[int(key)][2]) for key in places}
    after = dict(stock)  # each sale leaves from a pool its listing sees
    for key, units in sold.items():
        for pool in sorted(places[key]):
            gone = min(units, after[pool])
            after[pool] -= gone
            units -= gone
        live[key] -= sold[key] - units
    if not served(live, places, after):
        return  # the sales took units that another listing needs: nothing that is told can mend that
    again = [replace(claim, quantity=data[int(claim.key)][3]) for claim in wishes]
    shares = partition({("A", pool): units for pool, units in after.items()}, again)
    for _ in range(4):
        told = {key: Told(shares[key], live[key], places[key]) for key in live}
        safe = safe_now(told, after)
        for key in order.sample(list(live), order.randint(1, len(live))):
            live[key] = safe[key]
            assert served(live, places, after)
    for _ in range(2):
        live = safe_now({key: Told(shares[key], live[key], places[key]) for key in live}, after)
    assert live == shares


@settings(max_examples=300, deadline=None)
@given(
    wishes=st.lists(st.integers(0, 12), min_size=2, max_size=4), stock=st.integers(0, 20),
    script=st.lists(st.tuples(st.sampled_from(["sell", "book", "push", "push", "land", "lose"]), st.integers(0, 3)),
                    max_size=60),
)  # fmt: skip
def test_nothing_is_sold_twice_however_late_orders_and_answers_are(
    wishes: list[int], stock: int, script: list[tuple[str, int]]
) -> None:
    """Stores sell at any moment, their orders are booked late, pushes land late or never tell: together the stores
    never sell more than there is. The columns of a listing are played by three numbers."""
    keys = [str(n) for n in range(len(wishes))]
    shows = partition(
        {("A", "x"): stock}, [Claim(k, w, (("A", 1),), ("x",)) for k, w in zip(keys, wishes, strict=True)]
    )
    acked, held, offered = dict(shows), dict(shows), dict.fromkeys(keys, 0)
    free, unbooked, sold = stock, dict.fromkeys(keys, 0), 0
    flying: dict[str, tuple[int, int]] = {}  # listing → (the figure it must show, the new one)
    for what, number in script:
        key = keys[number % len(keys)]
        if what == "sell" and shows[key]:
            shows[key] -= 1
            unbooked[key] += 1
            sold += 1
        elif what == "book" and unbooked[key]:
            unbooked[key] -= 1
            free, held[key] = free - 1, held[key] - 1
        elif what == "push" and key not in flying:
            if shows[key] != min(acked[key], held[key]):  # the store refuses, and is read
                acked[key] = shows[key]
                held[key] = max(held[key], shows[key])
            unseen = {k: max(0, held[k] - acked[k]) for k in keys}
            left = max(0, free - sum(unseen.values()))
            claims = [Claim(k, min(w, left), (("A", 1),), ("x",)) for k, w in zip(keys, wishes, strict=True)]
            shares = partition({("A", "x"): left}, claims)
            told = {k: Told(shares[k], min(acked[k], held[k]), X, rising=offered[k]) for k in keys}
            base, figure = min(acked[key], held[key]), safe_now(told, {"x": left})[key]
            offered[key], flying[key] = max(0, figure - base), (base, figure)
        elif what in ("land", "lose") and key in flying:
            base, figure = flying.pop(key)
            taken = shows[key] == base  # compare and set
            if taken:
                shows[key] = figure
            if what == "land" and taken:
                acked[key], held[key] = figure, max(figure, held[key] + figure - base)
            elif what == "lose":
                held[key] += offered[key]
            offered[key] = 0
        assert sold + sum(shows.values()) <= stock


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
    assert blackbox.suspect(ids) == 1  # the one that came in short
    assert blackbox.drain() == 1 and blackbox.drain() == 0
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


@pytest.mark.parametrize("lines", [3, 40])
def test_the_black_boxes_of_a_sku_cost_the_same_however_many_lines_were_sold_twice(
    shops: tuple[Warehouse, Sku, list[SalesChannel], list[Listing]], lines: int,
    django_assert_max_num_queries: Callable[..., Any],
) -> None:  # fmt: skip
    from oms.core.actor import Actor
    from oms.orders.intake import take

    _, sku, (left, right), _ = shops
    start = now() - dt.timedelta(hours=3)  # what nobody has looked at is looked at, however old it is
    ids: list[int | None] = []
    with time_machine.travel(start, tick=True):
        for number in range(lines + 1):
            channel = (left, right)[number % 2]
            at = now() + dt.timedelta(seconds=number - 100)
            draft = order_draft(line_draft(sku, 1), placed_at=at, channel_updated_at=at)
            ids.append(
                take([draft], channel=channel, actor=Actor("channel", "t"), source="webhook")[0].order_id
            )
    assert blackbox.suspect([pk for pk in ids if pk]) == lines
    with django_assert_max_num_queries(32):
        assert blackbox.drain() == lines
    assert set(OversellIncident.objects.values_list("order", "rival")) == {(pk, ids[0]) for pk in ids[1:]}
    items = ExceptionItem.objects.filter(kind="oversell", closed_at__isnull=True)
    urls = {f"/channels/oversells/{one.pk}/" for one in OversellIncident.objects.all()}
    assert items.count() == lines and set(items.values_list("url", flat=True)) == urls
    assert not OversellSuspect.objects.exists() and blackbox.drain() == 0


def short_orders(shops: tuple[Warehouse, Sku, list[SalesChannel], list[Listing]], lines: int) -> list[int]:
    """One order that is served and `lines` that come in short, all suspected; the ids of the short ones."""
    from oms.core.actor import Actor
    from oms.orders.intake import take

    _, sku, (left, right), _ = shops
    ids = []
    for number in range(lines + 1):
        at = now() + dt.timedelta(seconds=number - 100)
        draft = order_draft(line_draft(sku, 1), placed_at=at, channel_updated_at=at)
        (taken,) = take(
            [draft], channel=(left, right)[number % 2], actor=Actor("channel", "t"), source="webhook"
        )
        assert taken.order_id is not None
        ids.append(taken.order_id)
    assert blackbox.suspect(ids) == lines
    return ids[1:]


def test_a_suspect_that_breaks_us_waits_alone_and_is_told(
    shops: tuple[Warehouse, Sku, list[SalesChannel], list[Listing]], monkeypatch: pytest.MonkeyPatch,
    assert_invariants: Callable[[], None],
) -> None:  # fmt: skip
    ids = short_orders(shops, 9)
    bad = ids[3]
    right = blackbox._incident

    def breaks(line: Any, evidence: Any) -> Any:
        if line.order_id == bad:
            raise ZeroDivisionError("a time before the beginning")
        return right(line, evidence)

    monkeypatch.setattr(blackbox, "_incident", breaks)
    assert blackbox.drain() == 8
    assert set(OversellIncident.objects.values_list("order", flat=True)) == set(ids) - {bad}
    suspect = OversellSuspect.objects.get()
    assert (suspect.order_id, suspect.attempts) == (bad, 1)
    assert suspect.error == "ZeroDivisionError: a time before the beginning"
    pauses = []
    for _ in range(blackbox.MAX_ATTEMPTS - 1):
        assert suspect.next_attempt_at is not None
        pauses.append(suspect.next_attempt_at - now())
        assert blackbox.drain() == 0  # it is not its turn
        OversellSuspect.objects.update(next_attempt_at=now())
        blackbox.drain()
        suspect.refresh_from_db()
    assert pauses == sorted(pauses) and pauses[0] > dt.timedelta(seconds=40)
    # given up: it stands before a person, and nothing tries it any more
    assert (suspect.attempts, suspect.next_attempt_at) == (blackbox.MAX_ATTEMPTS, None)
    item = ExceptionItem.objects.get(kind="oversell_unread")
    order = Order.objects.get(pk=bad)
    assert order.number in item.title and "ZeroDivisionError" in item.detail
    assert item.url == f"/orders/{order.number}/" and item.closed_at is None
    assert blackbox.drain() == 0

    monkeypatch.setattr(blackbox, "_incident", right)
    blackbox.look_again(bad, actor=SYSTEM)
    assert blackbox.drain() == 1 and not OversellSuspect.objects.exists()
    item.refresh_from_db()
    assert item.closed_at is not None and OversellIncident.objects.filter(order=bad).count() == 1
    with pytest.raises(NotFound):
        blackbox.look_again(bad, actor=SYSTEM)
    assert_invariants()


def test_a_database_that_is_busy_is_no_fault_of_a_suspect(
    shops: tuple[Warehouse, Sku, list[SalesChannel], list[Listing]], monkeypatch: pytest.MonkeyPatch
) -> None:
    short_orders(shops, 2)

    def busy(*args: Any) -> Any:
        raise OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(blackbox, "_investigate", busy)
        with pytest.raises(OperationalError):
            blackbox.drain()
    assert set(OversellSuspect.objects.values_list("attempts", flat=True)) == {0}
    assert blackbox.drain() == 2


def test_the_button_beside_the_exception_looks_again(
    shops: tuple[Warehouse, Sku, list[SalesChannel], list[Listing]], client: Any
) -> None:
    (bad,) = short_orders(shops, 1)
    OversellSuspect.objects.update(attempts=blackbox.MAX_ATTEMPTS, next_attempt_at=None)
    item = raise_item("oversell_unread", f"oversell-suspect:{bad}", "cannot be told", channel_code="right")
    user = make_user(role="owner")
    mend = mending.mends([item], user)[item.pk]
    assert mend.label == "Look again"
    client.force_login(user)
    assert client.post(mend.url).status_code == 302
    assert blackbox.drain() == 1


def test_a_backorder_of_a_listing_that_showed_nothing_is_none(
    shops: tuple[Warehouse, Sku, list[SalesChannel], list[Listing]],
) -> None:
    from oms.core.actor import Actor
    from oms.orders.intake import take

    _, sku, (left, _), _ = shops
    StockPush.objects.update(quantity=0)
    drafts = [order_draft(line_draft(sku, 3))]
    (taken,) = take(drafts, channel=left, actor=Actor("channel", "t"), source="webhook")
    assert taken.order_id and blackbox.suspect([taken.order_id]) == 1
    assert blackbox.drain() == 0 and not OversellSuspect.objects.exists()


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
    accounts.set_rules(first.pk, buffer=5, actor=SYSTEM)
    assert tuning.tune(first.account_id) == 0
    first.refresh_from_db()
    assert (first.buffer, first.buffer_mode) == (5, "fixed")
