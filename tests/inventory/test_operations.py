"""Adjust, count, change state, receive, transfer, snapshot: exact figures, once per key, promises give way last."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
import time_machine
from django.db import transaction

from inventory import asof, merging, operations, reservations, selectors, transfers, valuation
from inventory.ledger import InsufficientStock, Movement, post_movements
from inventory.models import (
    AdjustmentRequest,
    Reservation,
    Sku,
    SkuAlias,
    StockCheckpoint,
    StockLevel,
    StockMovement,
    Transfer,
)
from inventory.operations import PoolFigure, PurchasedGoods
from inventory.reservations import ReserveLine
from oms.core.actor import SYSTEM, actor_of
from oms.core.clock import now
from oms.core.errors import Conflict, NotAllowed, UserError
from oms.core.models import ExceptionItem, OutboxEvent
from tests.factories import add_stock, make_kit, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db


def promise(sku, warehouse, quantity, reference="L1", **more):
    with transaction.atomic():
        [result] = reservations.reserve(
            [ReserveLine(reference, sku.pk, quantity, (warehouse.pk,), **more)], actor=SYSTEM
        )
    return result.parts[0].reservation_id


def level(sku, warehouse):
    return StockLevel.objects.get(sku=sku, warehouse=warehouse)


def adjust(sku, warehouse, quantity, **more):
    values = {"reason": "count", "actor": SYSTEM, "key": f"k{quantity}", **more}
    return operations.adjust(sku_id=sku.pk, warehouse_id=warehouse.pk, quantity=quantity, **values)


# --- adjust ---------------------------------------------------------------------------------------


def test_adjust_posts_once_with_its_reason(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 10)
    assert [row.quantity for row in adjust(sku, east, -2, reason="lost").rows] == [-2]
    assert [row.quantity for row in adjust(sku, east, -2, reason="lost").rows] == [-2]
    assert level(sku, east).on_hand == 8
    assert StockMovement.objects.get(kind="adjust").reason == "lost"
    assert_invariants()


@pytest.mark.parametrize(("change", "field"), [({"reason": "  "}, "reason"), ({"quantity": 0}, "quantity")])
def test_adjust_refuses_without_reason_or_quantity(change, field):
    sku, east = make_sku(), make_warehouse()
    with pytest.raises(UserError) as caught:
        operations.adjust(
            **{
                "sku_id": sku.pk,
                "warehouse_id": east.pk,
                "quantity": 1,
                "reason": "count",
                "actor": SYSTEM,
                "key": "k",
                **change,
            }
        )
    assert caught.value.field == field


def test_pools_of_operators_and_virtual_skus_cannot_be_adjusted():
    sku, pool, east = make_sku(), make_warehouse(kind="fba"), make_warehouse()
    with pytest.raises(UserError, match="counted by its operator"):
        adjust(sku, pool, 1)
    with pytest.raises(UserError, match="no stock of its own"):
        adjust(make_kit("SET", {sku: 1}), east, 1)


def test_a_costly_adjustment_waits_for_a_second_person(assert_invariants):
    sku, east = make_sku(unit_cost=Decimal("100")), make_warehouse("EAST")
    add_stock(sku, east, 10)
    author, boss = make_user(), make_user()
    small = adjust(sku, east, -5, actor=actor_of(author), key="small")
    assert small.request is None and level(sku, east).on_hand == 5
    big = adjust(sku, east, 6, actor=actor_of(author), key="big")
    assert big.request is not None and big.rows == []
    assert level(sku, east).on_hand == 5
    assert ExceptionItem.objects.get(closed_at=None).kind == "adjustment_approval"
    with pytest.raises(NotAllowed, match="another person"):
        operations.approve_adjustment(big.request.pk, actor=actor_of(author))
    with pytest.raises(NotAllowed, match="a person"):
        operations.approve_adjustment(big.request.pk, actor=SYSTEM)
    operations.approve_adjustment(big.request.pk, actor=actor_of(boss))
    assert level(sku, east).on_hand == 11
    assert not ExceptionItem.objects.filter(closed_at=None).exists()
    with pytest.raises(Conflict, match="already"):
        operations.approve_adjustment(big.request.pk, actor=actor_of(boss))
    assert level(sku, east).on_hand == 11
    assert_invariants()


def test_a_refused_adjustment_has_no_effect():
    sku, east = make_sku(unit_cost=Decimal("100")), make_warehouse()
    add_stock(sku, east, 10)
    request = adjust(sku, east, -9, actor=actor_of(make_user())).request
    operations.refuse_adjustment(request.pk, actor=actor_of(make_user()))
    assert AdjustmentRequest.objects.get().state == "refused"
    assert level(sku, east).on_hand == 10


def test_shrinking_stock_takes_checkouts_then_the_latest_promise_and_never_a_packed_one(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 10)
    day = now()
    packed = promise(sku, east, 2, promise_at=day + dt.timedelta(days=9))
    early = promise(sku, east, 3, promise_at=day)
    late = promise(sku, east, 3, promise_at=day + dt.timedelta(days=5))
    checkout = promise(sku, east, 2, expires_at=day + dt.timedelta(minutes=10))
    reservations.set_firm([packed])
    outcome = adjust(sku, east, -4, reason="damaged")
    assert outcome.lost == {checkout: 2, late: 2}
    held = dict(Reservation.objects.values_list("pk", "quantity"))
    assert held == {packed: 2, early: 3, late: 1, checkout: 0}
    lost = {
        event.key: event.data["quantity"] for event in OutboxEvent.objects.filter(topic="reservation.lost")
    }
    assert lost == {str(checkout): 2, str(late): 2}
    stored = level(sku, east)
    assert (stored.on_hand, stored.reserved, stored.available) == (6, 6, 0)
    with pytest.raises(InsufficientStock):
        adjust(sku, east, -5, key="too much")
    assert dict(Reservation.objects.values_list("pk", "quantity")) == held
    assert_invariants()


def test_a_repeated_adjustment_does_not_release_again():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 5)
    promise(sku, east, 5)
    adjust(sku, east, -2)
    adjust(sku, east, -2)
    assert (level(sku, east).on_hand, level(sku, east).reserved) == (3, 3)


def test_found_stock_is_a_movement_of_its_own():
    sku, east = make_sku(), make_warehouse()
    operations.found(
        sku_id=sku.pk, warehouse_id=east.pk, quantity=1, actor=SYSTEM, key="f", reference="PACK-1"
    )
    assert StockMovement.objects.get().kind == "found"


def test_a_count_posts_the_variance_against_the_moment_of_counting(assert_invariants):
    """W07: 95 counted while the books said 100, three ship before posting: −5, and 92 remain."""
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 100)
    counted_at = now()
    pk = promise(sku, east, 3)
    reservations.consume({pk: 3}, actor=SYSTEM, reference="PACK-1", key="ship:1")
    outcome = operations.post_count(
        sku_id=sku.pk, warehouse_id=east.pk, counted=95, counted_at=counted_at, actor=SYSTEM, key="c"
    )
    assert [row.quantity for row in outcome.rows] == [-5]
    assert level(sku, east).on_hand == 92
    assert (
        operations.post_count(
            sku_id=sku.pk, warehouse_id=east.pk, counted=92, counted_at=now(), actor=SYSTEM, key="c2"
        ).rows
        == []
    )
    assert_invariants()


def test_change_of_state_keeps_on_hand(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 10)

    def move(quantity, source, target, key):
        return operations.change_state(
            sku_id=sku.pk, warehouse_id=east.pk, quantity=quantity, source=source, target=target, reason="dropped",
            actor=SYSTEM, key=key,
        )  # fmt: skip

    move(2, "sellable", "damaged", "1")
    move(2, "sellable", "damaged", "1")
    move(1, "damaged", "inspection", "2")
    move(1, "inspection", "sellable", "3")
    stored = level(sku, east)
    assert (stored.on_hand, stored.damaged, stored.inspection, stored.available) == (10, 1, 0, 9)
    with pytest.raises(InsufficientStock):
        move(2, "damaged", "sellable", "4")
    with pytest.raises(UserError, match="must differ"):
        move(1, "damaged", "damaged", "5")
    promise(sku, east, 9)
    assert sum(move(1, "sellable", "damaged", "6").lost.values()) == 1
    assert_invariants()


# --- receipts -------------------------------------------------------------------------------------


def test_receiving_splits_good_damaged_and_quarantine_and_moves_the_average(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    goods = [
        PurchasedGoods(
            sku.pk, east.pk, good=8, damaged=1, quarantine=1, unit_cost=Decimal("3.1000"), key="r1"
        )
    ]
    assert len(operations.receive_purchase(goods, reference="PO-1", actor=SYSTEM)) == 3
    assert operations.receive_purchase(goods, reference="PO-1", actor=SYSTEM) == []
    stored = level(sku, east)
    assert (stored.on_hand, stored.damaged, stored.quarantine, stored.available) == (10, 1, 1, 8)
    assert stored.average_cost == Decimal("3.1000")
    assert valuation.add_cost(sku.pk, east.pk, amount=Decimal("10.00"), units=10) == Decimal("10.00")
    assert level(sku, east).average_cost == Decimal("4.1000")
    adjust(sku, east, -6, reason="lost")
    assert valuation.add_cost(sku.pk, east.pk, amount=Decimal("10.00"), units=10) == Decimal("4.00")
    assert level(sku, east).average_cost == Decimal("5.1000")
    assert_invariants()


# --- transfers ------------------------------------------------------------------------------------


def totals(sku):
    return sum(row.on_hand + row.in_transit for row in StockLevel.objects.filter(sku=sku))


def test_ship_ten_receive_nine_and_the_total_stands_at_every_step(assert_invariants):
    sku, east, west = make_sku(), make_warehouse(), make_warehouse()
    operations.receive_purchase(
        [PurchasedGoods(sku.pk, east.pk, good=10, unit_cost=Decimal("2.5"), key="r")],
        reference="PO-1",
        actor=SYSTEM,
    )
    transfer = transfers.request_transfer(
        source_id=east.pk, destination_id=west.pk, lines={sku.pk: 10}, actor=SYSTEM
    )
    assert totals(sku) == 10
    transfers.ship_transfer(transfer.pk, actor=SYSTEM)
    transfers.ship_transfer(transfer.pk, actor=SYSTEM)
    assert (level(sku, east).on_hand, level(sku, west).in_transit, level(sku, west).available) == (0, 10, 0)
    assert totals(sku) == 10
    assert_invariants()
    transfers.receive_transfer(transfer.pk, {sku.pk: 9}, actor=SYSTEM, key="dock1")
    transfers.receive_transfer(transfer.pk, {sku.pk: 9}, actor=SYSTEM, key="dock1")
    assert (level(sku, west).on_hand, level(sku, west).in_transit) == (9, 1)
    assert level(sku, west).average_cost == Decimal("2.5000")
    assert totals(sku) == 10
    assert "1 × " in ExceptionItem.objects.get(closed_at=None).title
    with pytest.raises(Conflict, match="1 in transit, 2 received"):
        transfers.receive_transfer(transfer.pk, {sku.pk: 2}, actor=SYSTEM, key="dock2")
    assert_invariants()
    transfers.settle_transfer(transfer.pk, {sku.pk: 1}, reason="lost on the way", actor=SYSTEM, key="s")
    assert totals(sku) == 9
    assert Transfer.objects.get().state == "received"
    assert not ExceptionItem.objects.filter(closed_at=None).exists()
    assert_invariants()


def test_a_transfer_takes_only_available_units_and_can_be_withdrawn_before_it_leaves():
    sku, east, west = make_sku(), make_warehouse(), make_warehouse()
    add_stock(sku, east, 5)
    promise(sku, east, 3)
    transfer = transfers.request_transfer(
        source_id=east.pk, destination_id=west.pk, lines={sku.pk: 3}, actor=SYSTEM
    )
    with pytest.raises(InsufficientStock):
        transfers.ship_transfer(transfer.pk, actor=SYSTEM)
    transfers.ship_transfer(transfer.pk, actor=SYSTEM, quantities={sku.pk: 2})
    with pytest.raises(Conflict, match="has left already"):
        transfers.cancel_transfer(transfer.pk, actor=SYSTEM)
    other = transfers.request_transfer(
        source_id=east.pk, destination_id=west.pk, lines={sku.pk: 1}, actor=SYSTEM
    )
    assert transfers.cancel_transfer(other.pk, actor=SYSTEM).state == "cancelled"
    with pytest.raises(Conflict, match="is cancelled"):
        transfers.ship_transfer(other.pk, actor=SYSTEM)


def test_transfer_requests_are_checked():
    sku, east, pool = make_sku(), make_warehouse(), make_warehouse(kind="fba")
    with pytest.raises(UserError, match="two different"):
        transfers.request_transfer(source_id=east.pk, destination_id=east.pk, lines={sku.pk: 1}, actor=SYSTEM)
    with pytest.raises(UserError, match="removal"):
        transfers.request_transfer(source_id=pool.pk, destination_id=east.pk, lines={sku.pk: 1}, actor=SYSTEM)
    with pytest.raises(UserError, match="at least 1"):
        transfers.request_transfer(source_id=east.pk, destination_id=pool.pk, lines={sku.pk: 0}, actor=SYSTEM)


# --- snapshots ------------------------------------------------------------------------------------


def snapshot(pool, figures, at, key, **more):
    return operations.apply_pool_snapshot(
        warehouse_id=pool.pk, figures=figures, taken_at=at, actor=SYSTEM, key=key, **more
    )


def test_only_the_newest_snapshot_counts(assert_invariants):
    sku, gone, pool = make_sku(), make_sku(), make_warehouse(kind="fba")
    start = now() - dt.timedelta(hours=5)
    hour = dt.timedelta(hours=1)
    first = snapshot(pool, [PoolFigure(sku.pk, 7, damaged=2), PoolFigure(gone.pk, 3)], start, "s1")
    assert (first.changed, first.same) == (2, 0)
    assert (level(sku, pool).on_hand, level(sku, pool).available) == (9, 7)
    assert snapshot(pool, [PoolFigure(sku.pk, 7, damaged=2)], start, "s1").changed == 0
    assert (
        snapshot(pool, [PoolFigure(sku.pk, 7, damaged=2)], start + 3 * hour, "s2", complete=True).changed == 1
    )
    assert level(gone, pool).on_hand == 0
    # unchanged at 3 h, so there is no movement of that time; the one of 2 h must still not win
    late = snapshot(pool, [PoolFigure(sku.pk, 99)], start + 2 * hour, "late")
    assert late.stale == (sku.pk,)
    assert level(sku, pool).available == 7
    assert ExceptionItem.objects.get(closed_at=None).kind == "snapshot_difference"
    snapshot(pool, [PoolFigure(sku.pk, 5, damaged=2)], start + 4 * hour, "s3")
    assert level(sku, pool).available == 5
    assert not ExceptionItem.objects.filter(closed_at=None).exists()
    assert_invariants()


def test_a_3pl_snapshot_older_than_our_movement_opens_a_difference_only():
    sku, pool = make_sku(), make_warehouse(kind="3pl")
    taken_at = now() - dt.timedelta(minutes=30)
    add_stock(sku, pool, 10)
    assert snapshot(pool, [PoolFigure(sku.pk, 8)], taken_at, "s").stale == (sku.pk,)
    assert level(sku, pool).on_hand == 10


def test_a_snapshot_below_promises_gives_them_up(assert_invariants):
    sku, pool = make_sku(mcf_allowed=True), make_warehouse(kind="fba")
    snapshot(pool, [PoolFigure(sku.pk, 5)], now() - dt.timedelta(hours=2), "s1")
    pk = promise(sku, pool, 4, mcf=True)
    assert snapshot(pool, [PoolFigure(sku.pk, 1)], now() - dt.timedelta(hours=1), "s2").lost == {pk: 3}
    assert (level(sku, pool).on_hand, level(sku, pool).reserved) == (1, 1)
    assert_invariants()


def test_own_warehouses_take_no_snapshots():
    with pytest.raises(UserError, match="only FBA, WFS and 3PL"):
        snapshot(make_warehouse(), [], now(), "s")


# --- codes, merges --------------------------------------------------------------------------------


def test_codes_are_found_by_code_or_alias_without_regard_to_case():
    mug, tee = make_sku("Mug-Blü"), make_sku("TEE")
    SkuAlias.objects.create(sku=tee, value="4006381333931", kind="gtin")
    SkuAlias.objects.create(sku=tee, value="b00x", kind="asin")
    found = selectors.resolve_codes(["mug-blü", " MUG-BLü ", "4006381333931", "B00X", "tee", "nothing", ""])
    assert {code: sku.pk for code, sku in found.items()} == {
        "mug-blü": mug.pk, " MUG-BLü ": mug.pk, "4006381333931": tee.pk, "B00X": tee.pk, "tee": tee.pk,
    }  # fmt: skip


def test_a_merge_moves_stock_and_codes_and_keeps_history(assert_invariants):
    old, new, east = make_sku("OLD"), make_sku("NEW"), make_warehouse()
    add_stock(old, east, 4)
    add_stock(new, east, 6)
    SkuAlias.objects.create(sku=old, value="123")
    held = promise(old, east, 1)
    with pytest.raises(Conflict, match="promised"):
        merging.merge_skus(old.pk, new.pk, actor=SYSTEM)
    reservations.release([held], actor=SYSTEM, reason="x")
    merging.merge_skus(old.pk, new.pk, actor=SYSTEM)
    assert (level(old, east).on_hand, level(new, east).on_hand) == (0, 10)
    assert {code: sku.code for code, sku in selectors.resolve_codes(["OLD", "123"]).items()} == {
        "OLD": "NEW",
        "123": "NEW",
    }
    assert StockMovement.objects.filter(sku=old, kind="opening").exists()
    assert not Sku.objects.get(pk=old.pk).is_active
    assert_invariants()


def test_what_was_posted_is_done_when_it_comes_again_although_its_code_was_merged(assert_invariants):
    old, new, place = make_sku("OLD"), make_sku("NEW"), make_warehouse("EAST")
    goods = PurchasedGoods(old.pk, place.pk, 5, Decimal("2.00"), "r1", damaged=1)
    about = {"sku_id": old.pk, "warehouse_id": place.pk, "actor": SYSTEM}

    def again():
        operations.receive_purchase([goods], reference="PO-1", actor=SYSTEM)
        operations.adjust(**about, quantity=2, reason="found", key="a1")
        operations.change_state(
            **about, quantity=1, source="damaged", target="sellable", reason="fit after all", key="s1"
        )

    again()
    merging.merge_skus(old.pk, new.pk, actor=SYSTEM)
    rows = StockMovement.objects.count()
    again()
    assert StockMovement.objects.count() == rows
    for act in (
        lambda: operations.receive_purchase(
            [PurchasedGoods(old.pk, place.pk, 1, Decimal("2.00"), "r2")], reference="PO-1", actor=SYSTEM
        ),
        lambda: operations.adjust(**about, quantity=2, reason="found", key="a2"),
        lambda: operations.change_state(
            **about, quantity=1, source="sellable", target="damaged", reason="x", key="s2"
        ),
        lambda: operations.post_count(**about, counted=0, counted_at=now(), key="c1"),
    ):
        with pytest.raises(Conflict, match="merged into NEW"):
            act()
    assert_invariants()


def test_kits_containing_reaches_through_nested_kits():
    cup, tea = make_sku(), make_sku()
    pair = make_kit("PAIR", {cup: 2})
    party = make_kit("PARTY", {pair: 1, tea: 1})
    assert selectors.kits_containing([cup.pk, tea.pk]) == {cup.pk: {pair.pk, party.pk}, tea.pk: {party.pk}}
    assert selectors.kit_parts([pair.pk, cup.pk]) == {pair.pk: [(cup.pk, 2)]}


# --- the past -------------------------------------------------------------------------------------


def test_as_of_equals_a_replay_with_and_without_checkpoints():
    sku, east = make_sku(), make_warehouse()
    moments = []
    for step, quantity in enumerate([10, -3, 5, -1]):
        with transaction.atomic():
            # what happened long ago is entered now: ledger time counts

            post_movements(
                [Movement(sku.pk, east.pk, "on_hand", quantity, "adjust", key=f"m{step}",
                          unit_cost=Decimal(2) if quantity > 0 else None,
                          occurred_at=now() - dt.timedelta(days=step * 7))],
                actor=SYSTEM,
            )  # fmt: skip
        moments.append(StockMovement.objects.latest("id").created_at)
    pair = (sku.pk, east.pk)
    expected = [10, 7, 12, 11]
    assert [asof.as_of(at)[pair].on_hand for at in moments] == expected
    assert asof.as_of(moments[0] - dt.timedelta(microseconds=1)) == {}
    assert asof.as_of(moments[2], with_cost=True)[pair].value == Decimal(24)
    assert asof.diff(moments[0], moments[2]) == {pair: {"on_hand": [asof.Cause("adjust", "", 2, 2)]}}
    with pytest.raises(UserError, match="15 minutes"):
        asof.write_checkpoints(now())
    StockCheckpoint.objects.create(sku=sku, warehouse=east, bucket="on_hand", at=moments[1], balance=7)
    assert [asof.as_of(at)[pair].on_hand for at in moments] == expected


def test_checkpoints_are_written_once_for_a_settled_moment():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 5)
    later = now() + dt.timedelta(hours=1)

    with time_machine.travel(later, tick=False):
        at = later - dt.timedelta(minutes=20)
        assert asof.write_checkpoints(at) == 1
        assert asof.write_checkpoints(at) == 0
        add_stock(sku, east, 2)
        assert asof.as_of(later)[sku.pk, east.pk].on_hand == 7
    assert StockCheckpoint.objects.get().balance == 5
