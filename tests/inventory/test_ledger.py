"""The ledger: exact balances, once per key, refused by the database when it would promise too much."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from inventory import merging
from inventory.costing import moving_average, spread_cost
from inventory.ledger import InsufficientStock, Movement, post_movements
from inventory.locking import change_levels, lock_levels
from inventory.models import BalanceGuard, Bin, BinStock, StockLevel, StockMovement
from oms.core.actor import SYSTEM
from oms.core.errors import Conflict, UserError
from oms.core.models import OutboxEvent
from tests.factories import add_stock, make_sku, make_warehouse

pytestmark = pytest.mark.django_db


def post(sku, warehouse, bucket, quantity, key, **more):
    with transaction.atomic():
        return post_movements(
            [Movement(sku.pk, warehouse.pk, bucket, quantity, more.pop("kind", "adjust"), key=key, **more)],
            actor=SYSTEM,
        )


def level(sku, warehouse):
    return StockLevel.objects.get(sku=sku, warehouse=warehouse)


def test_a_movement_changes_the_balance_and_writes_its_row(assert_invariants):
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    [row] = post(sku, east, "on_hand", 7, "k1", reason="count", reference="R-1", note="shelf 3")
    assert (row.quantity, row.balance, row.actor, row.reference) == (7, 7, "system:lading", "R-1")
    assert level(sku, east).on_hand == 7
    assert level(sku, east).available == 7
    news = list(OutboxEvent.objects.order_by("id").values_list("topic", "key"))
    assert news == [("stock.changed", str(sku.pk)), ("stock.increased", str(sku.pk))]
    assert_invariants()


def test_the_same_key_posts_once():
    sku, east = make_sku(), make_warehouse()
    assert len(post(sku, east, "on_hand", 7, "k1")) == 1
    assert post(sku, east, "on_hand", 7, "k1") == []
    assert level(sku, east).on_hand == 7
    assert StockMovement.objects.count() == 1


def test_movements_of_one_level_merge_and_keep_running_balances():
    sku, east = make_sku(), make_warehouse()
    with transaction.atomic():
        rows = post_movements(
            [
                Movement(sku.pk, east.pk, "on_hand", 10, "receipt", key="a"),
                Movement(sku.pk, east.pk, "damaged", 2, "receipt", key="b"),
                Movement(sku.pk, east.pk, "on_hand", -3, "adjust", key="c"),
            ],
            actor=SYSTEM,
        )
    assert [(row.bucket, row.balance) for row in rows] == [("on_hand", 10), ("damaged", 2), ("on_hand", 7)]
    assert level(sku, east).available == 5


def test_moving_two_to_damaged_changes_available_by_two_and_on_hand_by_none():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 10)
    post(sku, east, "damaged", 2, "d")
    stored = level(sku, east)
    assert (stored.on_hand, stored.unavailable, stored.available) == (10, 2, 8)


def test_a_shortage_names_sku_warehouse_and_figures_and_changes_nothing():
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    other = make_sku("TEE")
    add_stock(sku, east, 3)
    add_stock(other, east, 3)
    before = StockMovement.objects.count()
    with transaction.atomic():
        with pytest.raises(InsufficientStock) as caught:
            post_movements(
                [
                    Movement(other.pk, east.pk, "on_hand", -1, "adjust", key="x"),
                    Movement(sku.pk, east.pk, "on_hand", -5, "adjust", key="y"),
                ],
                actor=SYSTEM,
            )
    assert (caught.value.sku, caught.value.warehouse, caught.value.asked, caught.value.available) == (
        "MUG",
        "EAST",
        5,
        3,
    )
    # caught inside the transaction: the other level must not have moved either
    assert (level(sku, east).on_hand, level(other, east).on_hand) == (3, 3)
    assert StockMovement.objects.count() == before


@pytest.mark.parametrize("bucket", ["reserved", "damaged", "quarantine", "inspection", "in_transit"])
def test_no_bucket_falls_below_zero(bucket):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 3)
    with pytest.raises(InsufficientStock):
        post(sku, east, bucket, -1, "n")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": 0}, "quantity"),
        ({"bucket": "shelf"}, "bucket"),
        ({"key": ""}, "key"),
        ({"quantity": True}, "quantity"),
    ],
)
def test_malformed_movements_are_refused(change, field):
    sku, east = make_sku(), make_warehouse()
    values = {"bucket": "on_hand", "quantity": 1, "kind": "adjust", "key": "k", **change}
    with transaction.atomic(), pytest.raises(UserError) as caught:
        post_movements([Movement(sku.pk, east.pk, **values)], actor=SYSTEM)
    assert caught.value.field == field


@pytest.mark.django_db(transaction=True)
def test_posting_outside_a_transaction_is_refused():
    sku, east = make_sku(), make_warehouse()
    with pytest.raises(RuntimeError, match="transaction.atomic"):
        post_movements([Movement(sku.pk, east.pk, "on_hand", 1, "adjust", key="k")], actor=SYSTEM)
    with pytest.raises(RuntimeError, match="transaction.atomic"):
        lock_levels([(sku.pk, east.pk)])


def test_the_database_has_the_last_word():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 1)
    with connection.cursor() as cursor, pytest.raises(IntegrityError), transaction.atomic():
        cursor.execute("UPDATE inventory_stocklevel SET reserved = 2")
    assert level(sku, east).reserved == 0


def test_balances_cannot_be_saved_past_the_ledger():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 5)
    stored = level(sku, east)
    stored.on_hand = 9
    with pytest.raises(BalanceGuard):
        stored.save()
    with pytest.raises(BalanceGuard):
        stored.save(update_fields=["on_hand"])
    with pytest.raises(BalanceGuard):
        StockLevel.objects.filter(pk=stored.pk).update(reserved=1)
    with pytest.raises(BalanceGuard):
        StockLevel.objects.bulk_update([stored], ["on_hand"])
    with pytest.raises(BalanceGuard):
        StockLevel.objects.create(sku=make_sku(), warehouse=east, on_hand=4)
    with pytest.raises(BalanceGuard):
        StockLevel.objects.bulk_create([StockLevel(sku=make_sku(), warehouse=east, damaged=1)])
    stored.safety = 2
    stored.save(update_fields=["safety"])
    assert (level(sku, east).on_hand, level(sku, east).safety) == (5, 2)


def test_ledger_rows_can_neither_be_changed_nor_removed():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 5)
    for attempt in (
        lambda: StockMovement.objects.update(quantity=6),
        lambda: StockMovement.objects.all().delete(),
        lambda: StockMovement.objects.get().save(),
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            attempt()
    assert StockMovement.objects.get().quantity == 5


# --- cost -----------------------------------------------------------------------------------------


def test_moving_average_vectors():
    assert moving_average(0, Decimal(0), [(10, Decimal("3.10"))]) == Decimal("3.1000")
    assert moving_average(10, Decimal("3.10"), [(5, Decimal("4.00"))]) == Decimal("3.4000")
    assert moving_average(3, Decimal(1), [(4, Decimal("2.3333"))]) == Decimal("1.7619")
    # an old shortage weighs nothing, so it can neither turn the sign nor blow the average up
    assert moving_average(-9, Decimal(5), [(10, Decimal(2))]) == Decimal("2.0000")
    assert moving_average(0, Decimal(5), []) == Decimal(5)


def test_late_cost_goes_on_what_is_left_only():
    assert spread_cost(10, Decimal(2), Decimal(30), 10) == (Decimal("5.0000"), Decimal(30))
    assert spread_cost(4, Decimal(2), Decimal(30), 10) == (Decimal("5.0000"), Decimal("12.00"))
    assert spread_cost(0, Decimal(2), Decimal(30), 10) == (Decimal(2), Decimal(0))


def test_receipts_move_the_average_and_shipping_carries_it():
    sku, east = make_sku(unit_cost=Decimal("2.50")), make_warehouse()
    add_stock(sku, east, 2)
    [early] = StockMovement.objects.all()
    assert early.unit_cost == Decimal("2.5000")  # standard cost before any receipt
    post(sku, east, "on_hand", 10, "r1", kind="receipt", unit_cost=Decimal("3.0000"))
    # two units without a known landed cost weigh with the average of zero
    assert level(sku, east).average_cost == Decimal("2.5000")
    post(sku, east, "on_hand", 12, "r2", kind="receipt", unit_cost=Decimal("4.5"))
    assert level(sku, east).average_cost == Decimal("3.5000")
    [gone] = post(sku, east, "on_hand", -1, "s1", kind="ship")
    assert (gone.unit_cost, gone.average_cost) == (Decimal("3.5000"), Decimal("3.5000"))


# --- bins -----------------------------------------------------------------------------------------


def test_bins_follow_and_are_drawn_in_pick_order(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    first = Bin.objects.create(warehouse=east, code="A1", pick_sequence=1)
    second = Bin.objects.create(warehouse=east, code="A2", pick_sequence=2)
    post(sku, east, "on_hand", 3, "b1", bin_id=second.pk)
    post(sku, east, "on_hand", 2, "b2", bin_id=first.pk)
    post(sku, east, "on_hand", 1, "b3")  # lies nowhere in particular
    post(sku, east, "on_hand", -4, "out")
    assert dict(BinStock.objects.values_list("bin__code", "quantity")) == {"A1": 2, "A2": 0}  # one bin
    post(sku, east, "on_hand", 5, "b4")
    with pytest.raises(Conflict, match="A1 holds 2, 3 asked"):
        post(sku, east, "on_hand", -3, "too many", bin_id=first.pk)
    assert_invariants()


# --- locks ----------------------------------------------------------------------------------------


@pytest.mark.postgres
def test_rows_are_locked_in_ascending_order_inside_the_update():
    skus, east = [make_sku() for _ in range(3)], make_warehouse()
    for sku in skus:
        add_stock(sku, east, 5)
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        change_levels({(sku.pk, east.pk): {"reserved": 1} for sku in reversed(skus)})
    [sql] = [query["sql"] for query in queries if "UPDATE inventory_stocklevel" in query["sql"]]
    assert "ORDER BY l.sku_id, l.warehouse_id FOR NO KEY UPDATE OF l" in sql
    assert [sql.index(f"({sku.pk}, {east.pk}, ") for sku in skus] == sorted(
        sql.index(f"({sku.pk}, {east.pk}, ") for sku in skus
    )


@pytest.mark.postgres
def test_lock_levels_really_sends_for_update():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 5)
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        assert lock_levels([(sku.pk, east.pk)])[sku.pk, east.pk].available == 5
    assert any("FOR NO KEY UPDATE" in query["sql"] and "ORDER BY" in query["sql"] for query in queries)


def test_one_statement_changes_many_levels():
    skus, east = [make_sku() for _ in range(20)], make_warehouse()
    for sku in skus:
        add_stock(sku, east, 5)
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        after = change_levels(
            {(sku.pk, east.pk): {"reserved": 2} for sku in skus} | {(skus[0].pk, east.pk): {"reserved": 9}}
        )
    assert len(queries) == 1
    assert len(after) == 19  # the level that has not nine is left as it was
    assert (skus[0].pk, east.pk) not in after
    assert {balances.reserved for balances in after.values()} == {2}
    # undo, so that the ledger is not contradicted by this test
    with transaction.atomic():
        change_levels({pair: {"reserved": -2} for pair in after})


def test_no_units_come_to_a_sku_that_is_another_one_by_now():
    """Whatever the door and whenever it looked the SKU up: nobody would see or sell them."""
    old, cup, east = make_sku("OLD"), make_sku("CUP"), make_warehouse()
    add_stock(old, east, 5)
    merging.merge_skus(old.pk, cup.pk, actor=SYSTEM)
    for place in (east, make_warehouse()):
        with pytest.raises(Conflict, match="OLD was merged into CUP; use that one"):
            add_stock(old, place, 1)
    assert not StockLevel.objects.filter(sku=old, on_hand__gt=0).exists()
