"""What reality does to the line: doubled, shuffled, forged and broken messages, channels that fail half-way."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from channels import pulls, pushing
from channels.connectors.shopify.webhooks import sign
from channels.models import ChannelEffect, InboxMessage, Listing
from fulfillment.models import Shipment
from inventory.models import Reservation, StockMovement
from oms.core import tokens
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.models import ExceptionItem
from oms.orders.models import Order, OrderLine
from oms.orders.services import map_external_sku
from tests.factories import make_user
from tests.line.conftest import Brand

pytestmark = pytest.mark.django_db(transaction=True)

Clean = Callable[[], None]


def state_of(brand: Brand) -> dict[str, Any]:
    """What must be the same however the news came."""
    return {
        "orders": sorted(Order.objects.values_list("external_id", "state", "total")),
        "lines": sorted(
            OrderLine.objects.values_list("external_id", "quantity", "cancelled", "short", "shipped")
        ),
        "held": sorted(Reservation.objects.filter(state="open").values_list("sku__code", "quantity")),
        "available": {code: brand.available(code) for code in brand.skus},
        "shown": {(shop, code): brand.shown(shop, code) for shop in brand.accounts for code in brand.skus},
    }


def test_webhooks_five_times_and_shuffled_end_in_the_same_state(brand: Brand, clean: Clean) -> None:
    one = brand.buy("shopify", "MUG", 2)
    two = brand.buy("shopify", "BOWL", 3)
    three = brand.buy("shopify", "MUG", 4)
    brand.client.act("acme", str(two["id"]), "cancel", reason="CUSTOMER")
    brand.client.act("acme", str(three["id"]), "edit", lines=[{"sku": "MUG", "quantity": 1}])
    brand.work()
    plain = state_of(brand)
    assert Order.objects.count() == 3
    assert Order.objects.get(external_id=str(two["id"])).state == Order.State.CANCELLED
    assert plain["available"] == {"MUG": 57, "BOWL": 60}
    movements = StockMovement.objects.count()
    heard = [d for d in brand.client.deliveries(shop="acme", limit=5000) if d["state"] == "delivered"]
    copies = heard * 5
    random.Random(7).shuffle(copies)
    stored = InboxMessage.objects.count()
    with httpx.Client(trust_env=False) as web:
        for delivery in copies:  # as it was: same id, same signature
            assert (
                web.post(
                    delivery["url"], headers=delivery["headers"], content=delivery["body"].encode()
                ).status_code
                == 200
            )
    assert InboxMessage.objects.count() == stored
    # and once more as new messages, newest first
    for placed in (three, two, one):
        brand.client.notify("acme", str(placed["id"]), event="updated", times=5)
    brand.work()
    assert InboxMessage.objects.count() > stored
    assert state_of(brand) == plain
    assert StockMovement.objects.count() == movements
    clean()


def test_news_that_come_before_the_order_and_lost_ones(brand: Brand, clean: Clean) -> None:
    """The cancellation is heard, the creation never: the order is read as it is now. Silence is found by the pull."""
    brand.client.faults("acme", webhook_loss_rate=1.0)
    placed = brand.buy("shopify", "MUG", 2)
    lost = brand.buy("shopify", "BOWL", 1)
    brand.client.clear_faults("acme")
    brand.client.act("acme", str(placed["id"]), "cancel", reason="CUSTOMER")
    brand.work()
    assert brand.order(placed).state == Order.State.CANCELLED
    assert not Order.objects.filter(external_id=str(lost["id"])).exists()
    assert pulls.pull_orders(brand.accounts["shopify"].pk)["created"] == 1
    brand.work()
    assert brand.order(lost).state == Order.State.ROUTED
    assert (brand.available("MUG"), brand.available("BOWL")) == (60, 59)
    assert brand.shown("amazon", "BOWL") == brand.shown("shopify", "BOWL") == 59
    clean()


def test_the_door_refuses_without_telling_why(brand: Brand) -> None:
    account = brand.accounts["shopify"]
    secret = brand.shops["shopify"]["credentials"]["client_secret"]
    door = f"{brand.web}/hooks/{account.hook_key}/"
    body = json.dumps({"id": 1, "updated_at": "2026-11-23T10:00:00Z"}).encode()

    def knock(url: str, raw: bytes, signature: str, **more: str) -> httpx.Response:
        headers = {
            "x-shopify-hmac-sha256": signature,
            "x-shopify-topic": "orders/create",
            "content-type": "application/json",
            **more,
        }
        return httpx.post(url, content=raw, headers=headers, trust_env=False)

    before = InboxMessage.objects.count()
    forged = knock(door, body, sign("wrong", body))
    stranger = knock(f"{brand.web}/hooks/nobody-here/", body, sign(secret, body))
    assert (forged.status_code, forged.content) == (stranger.status_code, stranger.content) == (401, b"")
    assert {*forged.headers} == {*stranger.headers}
    assert knock(door, body + b" ", sign(secret, body)).status_code == 401  # one byte more
    assert knock(door, body, "").status_code == 401
    assert (
        knock(door, body, sign(secret, body), **{"x-shopify-shop-domain": "other.myshopify.com"}).status_code
        == 401
    )
    assert httpx.get(door, trust_env=False).status_code == 405
    assert InboxMessage.objects.count() == before
    huge = b'{"id": 1, "note": "' + b"x" * (1024 * 1024) + b'"}'
    assert knock(door, huge, sign(secret, huge)).status_code == 413
    assert InboxMessage.objects.count() == before
    # signed but broken: kept for a person, answered 200 so that it is not sent for ever
    broken = b'{"id": 17'
    for _ in range(3):
        assert knock(door, broken, sign(secret, broken)).status_code == 200
    assert InboxMessage.objects.count() == before + 1
    message = InboxMessage.objects.latest("pk")
    assert message.state == InboxMessage.State.DEAD
    assert ExceptionItem.objects.get(kind="inbox_dead").seen == 1
    good = knock(door, body, sign(secret, body), **{"x-shopify-webhook-id": "w-1"})
    assert good.status_code == 200 and InboxMessage.objects.count() == before + 2
    brand.work(1)
    assert not Order.objects.exists()  # the shop knows no order 1


def test_an_unknown_sku_is_kept_and_told_and_mended_by_mapping(brand: Brand, clean: Clean) -> None:
    brand.client.add_items("acme", [{"sku": "MYSTERY", "title": "Mystery", "price": "9.00", "stock": 5}])
    placed = brand.buy("shopify", "MYSTERY", 2)
    brand.work()
    order = brand.order(placed)
    line = OrderLine.objects.get(order=order)
    assert (line.sku, line.external_sku, line.quantity) == (None, "MYSTERY", 2)
    assert order.total == Decimal("18.00") and not Shipment.objects.exists()
    items = ExceptionItem.objects.filter(closed_at=None)
    assert any("MYSTERY" in f"{item.title} {item.detail}" for item in items), list(
        items.values_list("kind", "title")
    )
    clean()
    map_external_sku(
        channel=order.channel,
        external_sku="MYSTERY",
        sku_id=brand.skus["BOWL"].pk,
        remember=True,
        actor=SYSTEM,
    )
    brand.work()
    line.refresh_from_db()
    assert (line.sku, line.short, brand.available("BOWL")) == (brand.skus["BOWL"], 0, 58)
    assert Shipment.objects.get(order=order).warehouse.code == "EAST"
    clean()


def test_the_api_names_the_field_and_keeps_to_rights_and_places(brand: Brand) -> None:
    placed = brand.buy("shopify", "MUG", 1)
    brand.work()
    shipment = Shipment.objects.get(order=brand.order(placed))
    answer = brand.api.post(
        f"{brand.web}/api/v1/shipments/{shipment.pk}/scan/", json={"code": "MUG", "quantity": -1}
    )
    assert answer.status_code == 400 and answer.headers["content-type"].startswith("application/problem+json")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/quantity"]
    nested = {"order": shipment.order_id, "warehouse": "EAST", "items": [{"line": 1, "quantity": -2}]}
    answer = brand.api.post(f"{brand.web}/api/v1/returns/", json=nested)
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/items/0/quantity"]
    answer = brand.api.post(
        f"{brand.web}/api/v1/stock/adjust/", content=b"{broken", headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400

    def as_(role: str, scopes: tuple[str, ...], **where: tuple[str, ...]) -> httpx.Client:
        user = make_user(role=role, **where)
        _, secret = tokens.issue(user, "limited", scopes, actor=SYSTEM)
        return httpx.Client(
            trust_env=False, headers={"Authorization": f"Bearer {secret}"}, base_url=f"{brand.web}/api/v1/"
        )

    step = f"shipments/{shipment.pk}/claim/"
    with as_("viewer", ("shipments:read", "shipments:write")) as viewer:
        assert viewer.get(f"shipments/{shipment.pk}/").status_code == 200
        assert viewer.post(step).status_code == 403
    with as_("floor", ("shipments:read", "shipments:write"), warehouses=("WEST",)) as west:
        assert west.get(f"shipments/{shipment.pk}/").status_code == 404
        assert west.post(step).status_code == 404
    with as_("floor", ("shipments:read",), warehouses=("EAST",)) as reader:
        assert reader.post(step).status_code == 403
    with httpx.Client(trust_env=False) as nobody:
        assert nobody.post(f"{brand.web}/api/v1/{step}").status_code == 401
    shipment.refresh_from_db()
    assert shipment.state == Shipment.State.READY


def ship(brand: Brand, order: Order) -> Shipment:
    """The floor's steps over the API."""
    shipment = Shipment.objects.get(order=order)
    at = f"shipments/{shipment.pk}"
    brand.post(f"{at}/claim/")
    for line in brand.get(f"{at}/")["lines"]:
        brand.post(f"{at}/scan/", {"code": line["sku"], "quantity": line["quantity"]})
    for step in ("pack", "rates", "label", "ship"):
        brand.post(f"{at}/{step}/")
    return shipment


@pytest.mark.parametrize("fault", ["timeout", "error_500_after", "error_500", "throttle", "drop"])
def test_shopify_is_told_of_a_shipment_once_whatever_breaks(brand: Brand, clean: Clean, fault: str) -> None:
    order = brand.order(sold(brand, "shopify"))
    ship(brand, order)
    brand.client.plan_fault("acme", fault, "fulfillmentCreate")
    brand.work(20)
    effect = ChannelEffect.objects.get(kind="ship")
    assert effect.state == ChannelEffect.State.CONFIRMED, (effect.state, effect.error)
    assert len(brand.client.fulfilments("acme")) == 1
    clean()


@pytest.mark.parametrize("fault", ["timeout", "error_500", "throttle", "error_500_after"])
def test_amazon_is_told_of_a_shipment_once_whatever_breaks(brand: Brand, clean: Clean, fault: str) -> None:
    order = brand.order(sold(brand, "amazon"))
    ship(brand, order)
    brand.client.plan_fault("A1LINE", fault, "confirmShipment")
    brand.work(20)
    effect = ChannelEffect.objects.get(kind="ship")
    assert effect.state == ChannelEffect.State.CONFIRMED, (effect.state, effect.error)
    assert len(brand.client.fulfilments("A1LINE")) == 1
    clean()


def sold(brand: Brand, channel: str) -> dict[str, Any]:
    placed = brand.buy(channel, "MUG", 1)
    brand.work()
    return placed


@pytest.mark.parametrize(
    ("channel", "operation", "fault"),
    [
        ("shopify", "inventorySetQuantities", "timeout"),
        ("shopify", "inventorySetQuantities", "error_500_after"),
        ("shopify", "inventorySetQuantities", "throttle"),
        ("amazon", "patchListingsItem", "timeout"),
        ("amazon", "patchListingsItem", "error_500"),
        ("amazon", "patchListingsItem", "throttle"),
    ],
)
def test_a_quantity_arrives_in_the_end(
    brand: Brand, clean: Clean, channel: str, operation: str, fault: str
) -> None:
    brand.client.plan_fault(brand.SHOP[channel], fault, operation)
    brand.buy("amazon" if channel == "shopify" else "shopify", "MUG", 5)
    stale = Listing.objects.filter(stale_since__isnull=False)

    def told() -> bool:  # a throttled channel is left alone for a while
        brand.work(2)
        stale.update(next_attempt_at=None)
        return not stale.exists()

    assert brand.client.wait_until(told, seconds=30), list(stale.values_list("external_sku", "last_error"))
    assert brand.client.faults(brand.SHOP[channel])["planned"] == []  # it did break
    # a lower figure whose answer was lost may be a sale as well: it counts as one until an order pull brings nothing
    assert brand.shown(channel) <= 55
    for account in brand.accounts.values():
        pushing.forget_unseen(account.pk, before=now())
    assert brand.client.wait_until(told, seconds=30)
    assert (brand.shown("shopify"), brand.shown("amazon")) == (55, 55)
    clean()
