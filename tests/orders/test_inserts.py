"""Quick inserts store exactly what the ORM would, and refuse what the table refuses."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db import DataError, IntegrityError, connection, transaction

from oms.core.inserts import insert_rows, insert_together, take_ids
from oms.core.models import OutboxEvent
from oms.orders.models import Order, OrderContact, SalesChannel
from tests.factories import T0, make_channel

pytestmark = pytest.mark.django_db


def _order(shop: SalesChannel, name: str) -> Order:
    return Order(
        channel=shop, external_id=name, placed_at=T0, channel_updated_at=T0, currency="EUR", total=Decimal("12.3456"),
        fx_day=dt.date(2026, 11, 2), tags=['a"b', "ü\\{},NULL"], is_test=True, ship_by=None, ship_name="O'Brien; --",
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 4, 5, 700])
def test_rows_come_back_as_they_went_in(count: int) -> None:
    shop = make_channel("shop")
    rows = [_order(shop, str(number)) for number in range(count)]
    assert insert_rows(rows) is rows
    assert [row.pk for row in rows] == sorted(row.pk for row in rows)
    assert not any(row._state.adding for row in rows)
    stored = list(Order.objects.order_by("pk"))
    names = [field.attname for field in Order._meta.concrete_fields]
    assert [[getattr(row, name) for name in names] for row in stored] == [
        [getattr(row, name) for name in names] for row in rows
    ]


@pytest.mark.parametrize("count", [1, 6])
def test_encrypted_and_json_columns(count: int) -> None:
    shop = make_channel("shop")
    orders = insert_rows([_order(shop, str(number)) for number in range(count)])
    insert_rows(
        [OrderContact(order=order, data={"name": "Zoë Brandtquist", "n": order.pk}) for order in orders]
    )
    assert [contact.data for contact in OrderContact.objects.order_by("pk")] == [
        {"name": "Zoë Brandtquist", "n": order.pk} for order in orders
    ]
    with connection.cursor() as cursor:
        cursor.execute("SELECT data FROM orders_ordercontact")
        assert not any("Brandtquist" in row[0] for row in cursor.fetchall())
    insert_rows([OutboxEvent(topic="x", key=str(n), data={"n": [n, None]}) for n in range(count)])
    assert [event.data for event in OutboxEvent.objects.order_by("pk")] == [
        {"n": [n, None]} for n in range(count)
    ]


@pytest.mark.parametrize("count", [1, 6])
def test_the_table_has_the_last_word(count: int) -> None:
    shop = make_channel("shop")
    with pytest.raises(IntegrityError), transaction.atomic():
        insert_rows([_order(shop, "same") for _ in range(count)] + [_order(shop, "same")])
    if connection.vendor == "postgresql":  # SQLite knows no lengths
        with pytest.raises(DataError), transaction.atomic():
            insert_rows([_order(shop, f"{number}" + "x" * 90) for number in range(count)])
    assert Order.objects.count() == 0


def test_nothing_is_nothing() -> None:
    assert list(insert_rows([])) == []


def test_rows_that_refer_to_each_other_go_in_together() -> None:
    shop = make_channel("shop")
    with transaction.atomic():
        ids = take_ids({Order: 3, OutboxEvent: 2})
        assert ids[Order] == sorted(set(ids[Order])) and len(ids[OutboxEvent]) == 2
        orders = [_order(shop, str(number)) for number in range(3)]
        for order, pk in zip(orders, ids[Order], strict=True):
            order.pk = pk
        contacts = [OrderContact(order_id=order.pk, data={"n": 1}) for order in orders[:2]]
        events = [OutboxEvent(pk=pk, topic="x", key="y") for pk in ids[OutboxEvent]]
        insert_together(orders, [], contacts, events)
    assert sorted(OrderContact.objects.values_list("order__external_id", flat=True)) == ["0", "1"]
    assert list(OutboxEvent.objects.order_by("pk").values_list("pk", flat=True)) == ids[OutboxEvent]
    later = insert_rows([_order(shop, "later")])[0]
    assert later.pk > ids[Order][-1]


def test_ids_are_given_inside_a_transaction_only(transactional_db: None) -> None:
    with pytest.raises(RuntimeError, match="transaction"):
        take_ids({Order: 1})
    assert take_ids({Order: 0}) == {Order: []}
