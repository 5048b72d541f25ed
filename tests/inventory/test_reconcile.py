"""An operator's figure beside ours: judged at its own time, explained by news on its way, settled by people or time."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
import time_machine
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from inventory import differences, operations, reservations
from inventory.ledger import Movement, post_movements
from inventory.models import PoolPolicy, StockDifference, StockLevel, StockMovement
from inventory.operations import PoolFigure
from inventory.reconcile import Cause, Compared, Outcome, Policy, judge
from inventory.reservations import ReserveLine
from oms.core.actor import SYSTEM, actor_of
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.models import ExceptionItem, OutboxEvent
from tests.factories import make_sku, make_user, make_warehouse

T = dt.datetime(2026, 11, 20, 12, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
STRICT = Policy()


def case(theirs: int, ours: int, **more: object) -> Compared:
    values: dict[str, object] = {
        "theirs_unfit": 0, "ours_unfit": 0, "taken_at": T, "newest": T - 5 * HOUR, "last_snapshot": T - 5 * HOUR,
        **more,
    }  # fmt: skip
    return Compared(theirs=theirs, ours=ours, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("compared", "policy", "outcome", "cause"),
    [
        (case(10, 10), STRICT, Outcome.AGREES, Cause.UNKNOWN),
        (case(10, 10, newest=T + HOUR), STRICT, Outcome.AGREES, Cause.UNKNOWN),
        (case(8, 10, leaving=2), STRICT, Outcome.WAIT, Cause.LATE_SHIPMENT),
        (case(7, 10, leaving=2), STRICT, Outcome.DIFFERS, Cause.ADJUSTMENT),
        (case(8, 10, leaving=2, gap_since=T - 5 * HOUR), STRICT, Outcome.DIFFERS, Cause.LATE_SHIPMENT),
        (case(8, 10, leaving=9, first_seen=T - 25 * HOUR), STRICT, Outcome.DIFFERS, Cause.LATE_SHIPMENT),
        (case(10, 7, left=3), STRICT, Outcome.WAIT, Cause.UNSHOWN_SHIPMENT),
        (case(11, 7, left=3), STRICT, Outcome.DIFFERS, Cause.ADJUSTMENT),
        (case(10, 12, changes=(("count", 2),)), STRICT, Outcome.DIFFERS, Cause.COUNT),
        (case(10, 12, changes=(("adjust", 2),)), STRICT, Outcome.DIFFERS, Cause.ADJUSTMENT),
        (case(10, 12, changes=(("adjust", 5),)), STRICT, Outcome.DIFFERS, Cause.UNKNOWN),
        (case(10, 10, theirs_unfit=2), STRICT, Outcome.DIFFERS, Cause.STATE),
        (case(9, 10), Policy(units=1), Outcome.POST, Cause.ADJUSTMENT),
        (case(98, 100), Policy(percent=Decimal("2")), Outcome.POST, Cause.ADJUSTMENT),
        (case(97, 100), Policy(percent=Decimal("2.99")), Outcome.DIFFERS, Cause.ADJUSTMENT),
        # within the tolerance, but a shipment explains it: booking it now would take the units twice
        (case(9, 10, leaving=1), Policy(units=5), Outcome.WAIT, Cause.LATE_SHIPMENT),
        # our movement is newer: never booked, whatever the policy says
        (case(9, 10, newest=T + HOUR), Policy(units=5), Outcome.DIFFERS, Cause.ADJUSTMENT),
        (case(9, 10, newest=T + HOUR), Policy(posts=True), Outcome.DIFFERS, Cause.ADJUSTMENT),
        (case(9, 10), Policy(posts=True), Outcome.POST, Cause.ADJUSTMENT),
        (case(40, 0, opened=False, newest=None, last_snapshot=None), STRICT, Outcome.POST, Cause.UNKNOWN),
    ],
)
def test_verdicts(compared, policy, outcome, cause):
    verdict = judge(compared, policy, T)
    assert (verdict.outcome, verdict.cause) == (outcome, cause)
    assert verdict.reason


@given(
    theirs=st.integers(0, 500), ours=st.integers(0, 500), leaving=st.integers(0, 500), left=st.integers(0, 500),
    ahead=st.integers(-3, 3), units=st.integers(0, 20), posts=st.booleans(),
)  # fmt: skip
def test_nothing_newer_is_ever_overwritten_and_no_gap_is_lost(
    theirs, ours, leaving, left, ahead, units, posts
):
    compared = case(theirs, ours, leaving=leaving, left=left, newest=T + ahead * HOUR)
    outcome = judge(compared, Policy(posts=posts, units=units), T).outcome
    assert (outcome is Outcome.AGREES) == (theirs == ours)
    if outcome is Outcome.POST:
        assert ahead <= 0 and (posts or abs(theirs - ours) <= units)


# --- on real rows ----------------------------------------------------------------------------------


@pytest.fixture
def place(db):
    """Ten units at a 3PL, agreed two days ago."""
    sku, pool = make_sku("MUG", unit_cost=Decimal(4)), make_warehouse("OHIO", kind="3pl")
    snapshot(pool, sku, 10, now() - dt.timedelta(days=2), "opening")
    assert stock(sku, pool).on_hand == 10
    return sku, pool


def snapshot(pool, sku, units, at, key, damaged=0):
    return operations.apply_pool_snapshot(
        warehouse_id=pool.pk, figures=[PoolFigure(sku.pk, units, damaged)], taken_at=at, actor=SYSTEM, key=key
    )


def stock(sku, pool):
    return StockLevel.objects.get(sku=sku, warehouse=pool)


def hand_over(sku, pool, units):
    with transaction.atomic():
        [held] = reservations.reserve([ReserveLine("L1", sku.pk, units, (pool.pk,))], actor=SYSTEM)
    pk = held.parts[0].reservation_id
    reservations.set_firm([pk])
    return pk


def test_a_gap_is_a_difference_with_both_figures_money_and_one_item(place, assert_invariants):
    sku, pool = place
    at = now() - HOUR
    assert snapshot(pool, sku, 7, at, "s1").differs == (sku.pk,)
    assert stock(sku, pool).on_hand == 10
    row = StockDifference.objects.get()
    assert (row.theirs, row.ours, row.gap, row.value, row.state) == (7, 10, -3, Decimal(12), "open")
    assert (row.taken_at, row.cause) == (at, "adjustment")
    snapshot(pool, sku, 7, at + HOUR / 2, "s2")
    item = ExceptionItem.objects.get(closed_at=None)
    assert (item.kind, item.money, item.seen) == ("snapshot_difference", Decimal(12), 2)
    assert StockDifference.objects.count() == 1
    snapshot(pool, sku, 10, now(), "s3")
    row.refresh_from_db()
    assert (row.state, row.outcome) == ("closed", "agreed")
    assert not ExceptionItem.objects.filter(closed_at=None).exists()
    assert_invariants()


def test_theirs_accepted_moves_the_gap_and_keeps_newer_movements(place, assert_invariants):
    sku, pool = place
    snapshot(pool, sku, 7, now() - HOUR, "s1", damaged=1)
    row = StockDifference.objects.get()
    assert (row.theirs, row.gap, row.theirs_unfit) == (8, -2, 1)
    operations.adjust(
        sku_id=sku.pk, warehouse_id=pool.pk, quantity=5, reason="found", actor=SYSTEM, key="later"
    )
    operations.accept_theirs(row.pk, reason="counted there", actor=SYSTEM, version=row.version)
    level = stock(sku, pool)
    assert (level.on_hand, level.damaged, level.available) == (13, 1, 12)
    moved = StockMovement.objects.get(reference=row.number, bucket="on_hand")
    assert (moved.quantity, moved.reason, moved.kind) == (-2, "counted there", "adjust")
    with pytest.raises(Conflict, match="closed already"):
        operations.accept_theirs(row.pk, reason="again", actor=SYSTEM)
    assert_invariants()


def test_what_changed_meanwhile_is_looked_at_again(place):
    sku, pool = place
    snapshot(pool, sku, 7, now() - HOUR, "s1")
    seen = StockDifference.objects.get().version
    snapshot(pool, sku, 3, now(), "s2")
    with pytest.raises(Conflict, match="3 there and 10 here"):
        operations.accept_theirs(StockDifference.objects.get().pk, reason="ok", actor=SYSTEM, version=seen)
    assert stock(sku, pool).on_hand == 10


def test_accepting_much_money_needs_a_second_person(place, assert_invariants):
    sku, pool = place
    sku.unit_cost = Decimal(400)
    sku.save()
    snapshot(pool, sku, 7, now() - HOUR, "s1")
    row = StockDifference.objects.get()
    one, two = make_user("one"), make_user("two")
    waiting = operations.accept_theirs(row.pk, reason="count", actor=actor_of(one))
    assert waiting.closed_at is None and stock(sku, pool).on_hand == 10
    with pytest.raises(Conflict, match="second person"):
        operations.accept_theirs(row.pk, reason="count", actor=actor_of(one))
    operations.approve_adjustment(waiting.approval_id or 0, actor=actor_of(two))
    snapshot(pool, sku, 7, now(), "s2")
    row.refresh_from_db()
    assert (stock(sku, pool).on_hand, row.outcome) == (7, "agreed")
    assert_invariants()


def test_units_on_their_way_make_no_false_difference(place, assert_invariants):
    sku, pool = place
    held = hand_over(sku, pool, 4)
    left_at = now() - HOUR
    assert snapshot(pool, sku, 6, left_at + HOUR / 4, "s1").differs == (sku.pk,)
    assert StockDifference.objects.get().state == "watching"
    assert not ExceptionItem.objects.exists()
    # the shipment's own message comes late and says when it really left
    reservations.consume({held: 4}, actor=SYSTEM, reference="S-1", key="ship:1", occurred_at=left_at)
    assert snapshot(pool, sku, 6, now(), "s2").same == 1
    assert StockDifference.objects.get().outcome == "agreed"
    assert stock(sku, pool).on_hand == 6
    # and the other way round: they told us of a shipment that their next snapshot does not show
    held = hand_over(sku, pool, 2)
    reservations.consume({held: 2}, actor=SYSTEM, reference="S-2", key="ship:2", occurred_at=now())
    snapshot(pool, sku, 6, now(), "s3")
    assert StockDifference.objects.get(closed_at=None).cause == "unshown_shipment"
    assert not ExceptionItem.objects.exists() and stock(sku, pool).on_hand == 4


def test_a_message_that_never_comes_is_shown_after_the_grace(place):
    sku, pool = place
    PoolPolicy.objects.create(warehouse=pool, grace_minutes=60)
    hand_over(sku, pool, 4)
    snapshot(pool, sku, 6, now(), "s1")
    assert differences.overdue() == 0
    with time_machine.travel(now() + dt.timedelta(minutes=61)):
        assert differences.overdue() == 1
        assert differences.overdue() == 0
    assert StockDifference.objects.get().state == "open"
    assert ExceptionItem.objects.get().kind == "snapshot_difference"


def test_small_gaps_are_booked_where_the_policy_says_so(place, assert_invariants):
    sku, pool = place
    PoolPolicy.objects.create(warehouse=pool, accept_units=1)
    assert snapshot(pool, sku, 9, now() - HOUR, "s1").changed == 1
    assert stock(sku, pool).on_hand == 9 and not StockDifference.objects.exists()
    assert snapshot(pool, sku, 7, now(), "s2").differs == (sku.pk,)
    assert stock(sku, pool).on_hand == 9
    assert_invariants()


def test_an_old_snapshot_that_agreed_with_the_books_of_its_time_is_no_difference(place):
    sku, pool = place
    at = now() - HOUR
    operations.adjust(sku_id=sku.pk, warehouse_id=pool.pk, quantity=-1, reason="lost", actor=SYSTEM, key="k")
    assert snapshot(pool, sku, 10, at, "s1").stale == ()
    assert not StockDifference.objects.exists()
    assert snapshot(pool, sku, 9, at, "s2").stale == (sku.pk,)
    assert (stock(sku, pool).on_hand, StockDifference.objects.get().gap) == (9, -1)


def test_a_dispute_asks_for_a_recount_and_exports_its_evidence(place):
    sku, pool = place
    snapshot(pool, sku, 7, now() - HOUR, "s1")
    row = StockDifference.objects.get()
    with transaction.atomic(), pytest.raises(UserError, match="say why"):
        differences.dispute(row.pk, note=" ", actor=SYSTEM)
    with transaction.atomic():
        differences.dispute(row.pk, note="the last count was ours", actor=SYSTEM, version=row.version)
    row.refresh_from_db()
    assert row.state == "disputed"
    assert OutboxEvent.objects.get(topic="difference.disputed").key == str(row.pk)
    head, *moved = list(differences.evidence(row))
    assert len(head) == len(differences.EVIDENCE_HEADER) and head[:8] == [
        row.number, "OHIO", "MUG", row.taken_at.isoformat(), 7, 10, -3, Decimal(12),
    ]  # fmt: skip
    assert [(line[12], line[14]) for line in moved] == [(10, "snapshot")]
    # the next snapshot with the same gap leaves it disputed
    snapshot(pool, sku, 7, now(), "s2")
    row.refresh_from_db()
    assert row.state == "disputed"


def test_a_marketplaces_pool_is_changed_by_its_figures_only(assert_invariants, db):
    sku, pool = make_sku(), make_warehouse(kind="fba")
    snapshot(pool, sku, 5, now() - 2 * HOUR, "s1")
    snapshot(pool, sku, 9, now() - 3 * HOUR, "late")
    row = StockDifference.objects.get()
    with pytest.raises(UserError, match="only the snapshots and events"):
        operations.accept_theirs(row.pk, reason="x", actor=SYSTEM)
    with pytest.raises(UserError, match="counted by its operator"):
        operations.adjust(sku_id=sku.pk, warehouse_id=pool.pk, quantity=1, reason="x", actor=SYSTEM, key="x")
    snapshot(pool, sku, 6, now(), "s2")
    row.refresh_from_db()
    assert (stock(sku, pool).on_hand, row.outcome) == (6, "obsolete")
    assert_invariants()
    with transaction.atomic():
        post_movements([Movement(sku.pk, pool.pk, "on_hand", 1, "adjust", key="bug")], actor=SYSTEM)
    with pytest.raises(AssertionError, match="S15"):
        assert_invariants()
