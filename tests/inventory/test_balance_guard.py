"""I01, D01, I02: a balance changes by a movement or not at all, whoever tries and by whichever door."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import F
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from inventory.models import BALANCES, BalanceGuard, CostEntry, StockLevel, StockMovement
from inventory.valuation import add_cost
from oms.core.actor import SYSTEM
from tests.factories import add_stock, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db


@pytest.fixture
def level() -> StockLevel:
    add_stock(make_sku("GUARD"), make_warehouse("EAST"), 10)
    return StockLevel.objects.get()


def unchanged() -> None:
    found = StockLevel.objects.get()
    assert (found.on_hand, found.reserved, found.available) == (10, 0, 10)
    assert StockMovement.objects.count() == 1


@pytest.mark.parametrize("name", sorted(BALANCES))
def test_the_orm_refuses(level, name):
    setattr(level, name, 7)
    tries = (
        level.save,
        lambda: level.save(update_fields=[name]),
        lambda: StockLevel.objects.update(**{name: 7}),
        lambda: StockLevel.objects.filter(pk=level.pk).update(**{name: F(name) + 1}),
        lambda: StockLevel.objects.bulk_update([level], [name]),
        lambda: StockLevel.objects.create(sku=make_sku(), warehouse=level.warehouse, **{name: 7}),
        lambda: StockLevel.objects.bulk_create(
            [StockLevel(sku=make_sku(), warehouse=level.warehouse, **{name: 7})]
        ),
    )
    for attempt in tries:
        with pytest.raises(BalanceGuard, match="post_movements"):
            attempt()
    unchanged()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE inventory_stockmovement SET quantity = 99",
        "UPDATE inventory_stockmovement SET balance = 0, note = 'mended'",
        "DELETE FROM inventory_stockmovement",
    ],
)
def test_the_database_refuses_to_change_the_ledger(level, sql):
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)
    unchanged()


@pytest.mark.parametrize(
    "change", ["reserved = 11", "reserved = -1", "damaged = -1", "on_hand = -1", "quarantine = 11"]
)
def test_the_database_refuses_an_impossible_balance(level, change):
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE inventory_stocklevel SET {change}")
    unchanged()


def test_a_possible_balance_written_by_hand_is_found_the_same_night(level):
    from oms.core import invariants

    with connection.cursor() as cursor:
        cursor.execute("UPDATE inventory_stocklevel SET on_hand = 12")
    [result] = invariants.run(["S2"])
    assert any("on_hand is 12, its movements sum to 10" in row for row in result.failures)


def test_a_change_of_value_cannot_be_rewritten_either(level):
    from decimal import Decimal

    add_cost(level.sku_id, level.warehouse_id, amount=Decimal(5), units=10, actor=SYSTEM)
    for sql in ("UPDATE inventory_costentry SET amount = 0", "DELETE FROM inventory_costentry"):
        with (
            pytest.raises(DatabaseError, match="append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(sql)
    assert CostEntry.objects.get().amount == 5


def test_the_admin_offers_no_field_of_a_balance(level):
    desk = Client()
    user = make_user()
    user.is_staff = user.is_superuser = True
    user.save()
    desk.force_login(user)
    url = reverse("admin:inventory_stocklevel_change", args=[level.pk])
    values = {name: "7" for name in BALANCES} | {
        "safety": "1",
        "sku": level.sku_id,
        "warehouse": level.warehouse_id,
    }
    answer = desk.post(url, values)
    assert answer.status_code in (200, 302, 403)
    unchanged()


def test_the_api_has_no_way_to_write_a_balance(level):
    door = APIClient()
    door.force_authenticate(make_user())
    url = f"/api/v1/stock/{level.pk}/"
    for method in (door.put, door.patch, door.delete):
        assert method(url, {"on_hand": 7}, format="json").status_code in (403, 405)
    assert door.post("/api/v1/stock/", {"on_hand": 7}, format="json").status_code in (403, 405)
    assert door.post("/api/v1/movements/", {"quantity": 7}, format="json").status_code in (403, 405)
    unchanged()
