"""The example client of the docs, against a live server: it must stay true."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from oms.control.webhooks import signing
from oms.core import tokens
from oms.core.actor import SYSTEM
from oms.core.api.auth import TokenThrottle
from oms.core.outbox import drain
from oms.orders.models import Order
from tests.factories import add_stock, make_channel, make_sku, make_user, make_warehouse

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location(
        "place_order", ROOT / "docs" / "examples" / "place_order.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["place_order"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
def test_it_places_an_order_and_follows_it(
    live_server: Any, example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fulfillment import routing_service

    monkeypatch.setattr(TokenThrottle, "rate", "1000000/min", raising=False)
    east = make_warehouse("EAST", country="US", region="MA", postal_code="02108", city="Boston")
    add_stock(make_sku("MUG", weight_g=300), east, 5)
    make_channel("phone", east, kind="manual", prefix="PH", hold_minutes=0)
    scopes = ["orders:read", "orders:write", "shipments:read"]
    _, text = tokens.issue(make_user("olga"), "example", scopes, actor=SYSTEM)
    lading = example.Lading(live_server.url, text)
    contact = {"name": "Ana Ruiz", "address1": "1 Main St", "city": "Boston", "region": "MA",
               "postal_code": "02108", "country": "US"}  # fmt: skip
    lines = [example.Line("MUG", 2, "12.50")]
    order = lading.place_order("phone", lines, contact, external_id="web-1")
    again = lading.place_order("phone", lines, contact, external_id="web-1")
    assert again == order and Order.objects.count() == 1
    assert order["number"].startswith("PH-") and order["total"] == {"amount": "25.00", "currency": "USD"}
    with pytest.raises(example.Refused) as refused:
        lading.place_order("phone", [example.Line("NOPE", 1, "1")], contact, external_id="web-2")
    assert (refused.value.status, refused.value.request_id != "") == (400, True)
    while drain():
        pass
    routing_service.route(order["id"], actor=SYSTEM)
    sentences = list(lading.follow(order["id"], until=("routed",), seconds=5))
    assert Order.objects.get().state == "routed"
    assert len(sentences) >= 2 and any("EAST" in sentence for sentence in sentences)
    assert [row["order"] for row in lading.pages("shipments/", order=order["id"], limit=1)] == [
        order["number"]
    ]
    assert lading.tracking_numbers(order["id"]) == []


def test_it_knows_a_genuine_message(example: Any) -> None:
    secret, body, stamp = signing.new_secret(), b'{"type":"order.created"}', int(time.time())
    headers = signing.headers([signing.new_secret(), secret], "msg_1", stamp, body)
    assert example.is_genuine(secret, headers, body)
    assert not example.is_genuine(secret, headers, body + b" ")
    assert not example.is_genuine(signing.new_secret(), headers, body)
    assert not example.is_genuine(secret, {**headers, "webhook-id": "msg_2"}, body)
    old = signing.headers([secret], "msg_1", stamp - 301, body)
    assert not example.is_genuine(secret, old, body)
