"""Notifications: signature, storing, reading again, and the same end state however they come."""

from __future__ import annotations

import json
import random
import sqlite3
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from channels import inbox, pulls
from channels.connectors.shopify.webhooks import sign
from channels.models import InboxMessage
from oms.core import knocks
from oms.core.actor import SYSTEM
from oms.core.models import ExceptionItem, OutboxEvent
from oms.orders.models import Order, OrderLine
from tests.channels.conftest import Shop, deliver

pytestmark = pytest.mark.django_db(transaction=True)


def knock(
    client: Client,
    shop: Shop,
    body: bytes,
    *,
    secret: str = "",
    topic: str = "orders/create",
    delivery: str = "d-1",
    **extra: str,
) -> Any:
    return client.post(
        f"/hooks/{shop.account.hook_key}/", data=body, content_type="application/json",
        headers={
            "X-Shopify-Topic": topic, "X-Shopify-Webhook-Id": delivery, "X-Shopify-Shop-Domain": shop.extra["domain"],
            "X-Shopify-Hmac-SHA256": sign(secret or shop.extra["credentials"]["client_secret"], body), **extra,
        },
    )  # fmt: skip


def test_a_message_is_stored_once_with_few_queries(
    client: Client,
    shopify: Shop,
    django_assert_max_num_queries: DjangoAssertNumQueries,
    caplog: pytest.LogCaptureFixture,
) -> None:
    body = json.dumps({"id": 77, "updated_at": "2026-11-23T10:00:00Z"}).encode()
    with django_assert_max_num_queries(6):  # BEGIN, COMMIT and 4: the account, the message, its news, NOTIFY
        assert knock(client, shopify, body).status_code == 200
    assert OutboxEvent.objects.filter(topic="inbox.received", key=str(shopify.account.pk)).count() == 1
    with caplog.at_level("INFO", "lading.channels"):
        for _ in range(4):
            assert knock(client, shopify, body).status_code == 200
    told = [record for record in caplog.records if record.getMessage() == "duplicate delivery"]
    assert len(told) == 4 and told[0].ids == [InboxMessage.objects.get().delivery_id]  # type: ignore[attr-defined]
    assert InboxMessage.objects.filter(account=shopify.account).count() == 1
    assert OutboxEvent.objects.filter(topic="inbox.received").count() == 1


def test_who_is_refused(client: Client, shopify: Shop) -> None:
    body = b'{"id": 1}'
    assert knock(client, shopify, body, secret="wrong").status_code == 401
    assert client.post("/hooks/unknown/", data=body, content_type="application/json").status_code == 401
    assert knock(client, shopify, b'"' + b"x" * (1024 * 1024) + b'"').status_code == 413
    assert client.get(f"/hooks/{shopify.account.hook_key}/").status_code == 405
    other = knock(client, shopify, body, **{"X-Shopify-Shop-Domain": "else.myshopify.com"})
    assert other.status_code == 401
    assert not InboxMessage.objects.exists()


def test_a_message_that_cannot_be_stored_now_is_asked_for_again(
    client: Client, shopify: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is away, or busy: the sender keeps its message. It is stored when it comes again."""

    def broken(*args: Any) -> int:
        raise OperationalError("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "accept", broken)
        refused = knock(client, shopify, b'{"id": 1}')
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
    assert not InboxMessage.objects.exists()
    assert knock(client, shopify, b'{"id": 1}').status_code == 200
    assert InboxMessage.objects.count() == 1


@pytest.mark.once  # PostgreSQL has many writers
def test_a_writer_that_holds_sqlite_is_waited_for_shortly(
    client: Client, shopify: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knocks, "WAIT_SECONDS", 0.1)
    connection.ensure_connection()
    (usual,) = connection.connection.execute("PRAGMA busy_timeout").fetchone()
    assert usual > 2000
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        refused = knock(client, shopify, b'{"id": 1}')
        assert refused.status_code == 503 and refused.headers["Retry-After"]
        assert not InboxMessage.objects.exists()
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert knock(client, shopify, b'{"id": 1}').status_code == 200
    assert connection.connection.execute("PRAGMA busy_timeout").fetchone() == (usual,)


def test_both_secrets_are_good_while_one_is_rotated(client: Client, shopify: Shop) -> None:
    from channels import accounts

    old = shopify.extra["credentials"]["client_secret"]
    accounts.set_credentials(shopify.account.pk, {"client_secret": "new-secret"}, actor=SYSTEM)
    assert knock(client, shopify, b'{"id": 1}', secret=old, delivery="a").status_code == 200
    assert knock(client, shopify, b'{"id": 1}', secret="new-secret", delivery="b").status_code == 200


def test_signed_nonsense_is_kept_for_a_person(client: Client, shopify: Shop) -> None:
    for body in (b"{broken", b"[1]", b"\xff\xfe"):
        assert knock(client, shopify, body, delivery=body.hex()).status_code == 200
    assert InboxMessage.objects.filter(state=InboxMessage.State.DEAD).count() == 3
    told = ExceptionItem.objects.filter(kind="inbox_dead", closed_at__isnull=True)
    assert sorted(told.values_list("seen", flat=True)) == [1, 2]  # two are no JSON, one is no object


def state_of(order: Order) -> dict[str, Any]:
    lines = OrderLine.objects.filter(order=order).order_by("external_id")
    return {
        "state": order.state,
        "total": order.total,
        "lines": list(
            lines.values_list("external_sku", "quantity", "reserved", "cancelled", "shipped", "short")
        ),
    }


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_five_copies_in_any_order_end_in_one_state(shopify: Shop, seed: int, assert_invariants: Any) -> None:
    from tests.channels.conftest import push_all

    push_all()
    placed = shopify.buy("MUG", 3, payment="pending")
    shopify.client.act(shopify.id, placed["id"], "pay")
    shopify.client.act(shopify.id, placed["id"], "edit", lines=[{"sku": "MUG", "quantity": 2}])
    from channels.connectors.base import get_connector
    from channels.session import access_of

    found = shopify.client.deliveries(shop=shopify.id, limit=500)
    messages = [one for one in found for _ in range(5)]
    random.Random(seed).shuffle(messages)
    connector = get_connector("shopify")
    for message in messages:
        headers = {name.lower(): value for name, value in message["headers"].items()}
        inbox.accept(
            shopify.account,
            connector.parse_push(access_of(shopify.account), headers, message["body"].encode()),
        )
        if random.Random(f"{seed}{message['number']}").random() < 0.3:
            inbox.drain(shopify.account.pk)
    inbox.drain(shopify.account.pk)
    order = Order.objects.get()
    assert state_of(order)["state"] == Order.State.OPEN
    assert state_of(order)["lines"] == [("MUG", 3, 2, 1, 0, 0)]
    assert not InboxMessage.objects.exclude(state=InboxMessage.State.DONE).exists()
    push_all()
    assert shopify.available("MUG") == 48


def test_an_unknown_sku_is_kept_and_mended_by_mapping(shopify: Shop) -> None:
    from channels import accounts
    from tests.factories import make_sku

    shopify.client.add_items(
        shopify.id, [{"sku": "SURPRISE", "title": "Surprise", "price": "5.00", "stock": 4}]
    )
    accounts.import_listings(shopify.account.pk, actor=SYSTEM)
    shopify.buy("SURPRISE", 1)
    deliver(shopify)
    line = OrderLine.objects.get()
    assert line.sku is None and line.external_sku == "SURPRISE"
    assert ExceptionItem.objects.filter(kind="listing_unmapped", closed_at__isnull=True).exists()
    sku = make_sku("REAL")
    accounts.map_listing(shopify.listing("SURPRISE").pk, sku.pk, actor=SYSTEM)
    line.refresh_from_db()
    assert line.sku_id == sku.pk
    assert not ExceptionItem.objects.filter(kind="listing_unmapped", closed_at__isnull=True).exists()


def test_one_unreadable_order_stops_no_other(shopify: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from channels.connectors.shopify import mapper

    bad = shopify.buy("MUG", 1)
    good = shopify.buy("BOWL", 1)
    real = mapper.order_draft

    def broken(node: Any) -> Any:
        if node["legacyResourceId"] == bad["id"] or str(node["legacyResourceId"]) == str(bad["id"]):
            raise ValueError("a field that nobody expected")
        return real(node)

    monkeypatch.setattr(mapper, "order_draft", broken)
    deliver(shopify)
    assert list(Order.objects.values_list("external_id", flat=True)) == [str(good["id"])]
    waiting = InboxMessage.objects.filter(external_id=str(bad["id"]), state=InboxMessage.State.RECEIVED)
    assert waiting.exists() and all("cannot be read" in message.error for message in waiting)
    for _ in range(inbox.MAX_ATTEMPTS):
        waiting.update(next_attempt_at="2026-01-01T00:00:00Z")
        inbox.drain(shopify.account.pk)
    dead = InboxMessage.objects.filter(external_id=str(bad["id"]))
    assert set(dead.values_list("state", flat=True)) == {InboxMessage.State.DEAD}
    monkeypatch.undo()
    first = dead.first()
    assert first is not None
    inbox.replay(first.pk, actor=SYSTEM)
    inbox.drain(shopify.account.pk)
    assert Order.objects.count() == 2


def test_a_pull_finds_what_no_notification_told(shopify: Shop) -> None:
    shopify.client.faults(shopify.id, webhook_loss_rate=1.0)
    ids = {str(shopify.buy("MUG", 1)["id"]) for _ in range(9)}
    counts = pulls.pull_orders(shopify.account.pk)
    assert counts == {"created": 9}
    assert set(Order.objects.values_list("external_id", flat=True)) == ids
    assert pulls.pull_orders(shopify.account.pk) == {"unchanged": 9}


def test_while_the_shop_cannot_be_read_the_signed_bodies_are_booked(shopify: Shop) -> None:
    shopify.buy("MUG", 2)
    shopify.client.faults(shopify.id, throttle_rate=1.0)
    deliver(shopify)
    assert OrderLine.objects.get().reserved == 2


def test_amazon_queue_is_emptied_into_orders(amazon: Shop) -> None:
    first = amazon.buy("MUG", 2)
    fba = amazon.buy("MUG-FBA", 1)
    assert pulls.poll_queue(amazon.account.pk) >= 2
    assert amazon.client.queue(amazon.id) == []
    inbox.drain(amazon.account.pk)
    orders = {order.external_id: order for order in Order.objects.all()}
    assert set(orders) == {first["id"], fba["id"]}
    assert orders[first["id"]].fulfilled_by == "us" and orders[fba["id"]].fulfilled_by == "channel"
    assert OrderLine.objects.get(order=orders[first["id"]]).reserved == 2
    assert OrderLine.objects.get(order=orders[fba["id"]]).reserved == 0
    # a stray copy of a message later changes nothing
    assert pulls.poll_queue(amazon.account.pk) == 0
