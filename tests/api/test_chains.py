"""Chains of requests: what is made stands at its address, what is deleted is gone from all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from inventory.models import StockLevel
from oms.control.models import WebhookDelivery, WebhookEvent
from oms.core import tokens
from oms.core.actor import SYSTEM
from oms.core.roles import SCOPES
from oms.orders.models import OrderLine
from procurement.models import Supplier
from tests.api.drawing import description
from tests.factories import T0, add_stock, make_channel, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db
V1 = "/api/v1/"
#: answers with several objects, or with what it makes of a stock level; each has tests of its own
SEVERAL = {"reservations"}


@pytest.fixture
def api() -> APIClient:
    api = APIClient()
    _, text = tokens.issue(make_user("olga", "owner"), "chains", sorted(SCOPES), actor=SYSTEM)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    sku, east, west = make_sku("MUG"), make_warehouse("EAST"), make_warehouse("WEST")
    add_stock(sku, east, 9)
    add_stock(sku, west, 9)
    make_channel("phone", east, west, kind="manual", prefix="PH")
    Supplier.objects.create(code="KILN", name="Kiln", currency="USD", lead_time_days=7)
    return api


CONTACT = {
    "name": "Ana", "address1": "1 Main St", "city": "Reno", "region": "NV", "country": "US", "postal_code": "89431",
}  # fmt: skip
LINE = {"sku": "MUG", "quantity": 1}
ORDER = {"channel": "phone", "lines": [{**LINE, "unit_price": "9.00"}], "contact": CONTACT}
DIFFERS = {"sku": "MUG", "warehouse": "EAST", "quantity": 1, "reason": "count"}


def _order(api: APIClient) -> int:
    return int(api.post(f"{V1}orders/", ORDER).json()["id"])


def _product(api: APIClient) -> int:
    return int(api.post(f"{V1}products/", {"title": "Jug"}).json()["id"])


#: collection → a body that makes one; what it needs is made first
MADE: dict[str, Callable[[APIClient], dict[str, Any]]] = {
    "products": lambda api: {"title": "Jug"},
    "skus": lambda api: {"code": "JUG", "product": _product(api)},
    "orders": lambda api: ORDER,
    "purchase-orders": lambda api: {
        "supplier": "KILN", "warehouse": "EAST", "lines": [{**LINE, "unit_price": "2.00"}],
    },
    "transfers": lambda api: {"source": "EAST", "destination": "WEST", "lines": {"MUG": 1}},
    "counts": lambda api: {"sku": "MUG", "warehouse": "EAST"},
    "ring-fences": lambda api: {**LINE, "channel": "phone", "ends_at": "2090-01-01T00:00:00Z"},
    "routing-policies": lambda api: {"rules": [{"name": "All", "then": {"prefer": ["EAST"]}}]},
    "routing-decisions": lambda api: {"order": _order(api), "warehouse": "WEST", "reason": "nearer"},
    "channels": lambda api: {
        "connector": "files", "name": "Files", "code": "files", "config": {"folder": "files"},
    },
    "webhooks": lambda api: {"url": "https://example.com/hook", "events": ["order.created"]},
    "imports": lambda api: {
        "kind": "stock", "name": "count.csv", "mode": "set",
        "content": "sku,warehouse,quantity,mode,reason\nMUG,EAST,5,set,count\n",
    },
    "users": lambda api: {
        "username": "tess", "email": "tess@example.com", "role": "viewer", "password": "correct horse 9",
    },
    "tokens": lambda api: {"name": "scanner", "scopes": ["stock:read"], "days": 7},
}  # fmt: skip


@pytest.mark.parametrize("collection", MADE)
def test_what_is_made_stands_at_its_location(api: APIClient, collection: str) -> None:
    body = MADE[collection](api)
    key = {"HTTP_IDEMPOTENCY_KEY": "once"}
    made = api.post(f"{V1}{collection}/", body, **key)
    assert made.status_code in (201, 202), made.content
    address = made["Location"]
    assert address.startswith(f"http://testserver{V1}{collection}/")
    read = api.get(address)
    assert read.status_code == 200, read.content
    for name in ("id", "code"):
        assert read.json().get(name) == made.json().get(name)
    listed = api.get(f"{V1}{collection}/?limit=250").json()["results"]
    assert any(
        one.get("id", one.get("code")) == made.json().get("id", made.json().get("code")) for one in listed
    )
    again = api.post(f"{V1}{collection}/", body, **key)
    assert (again["Location"], again["Idempotent-Replayed"]) == (address, "true")


def _operations(method: str, of: Callable[[str], bool]) -> set[str]:
    found = description()["paths"]
    return {path.split("/")[3] for path, operations in found.items() if method in operations and of(path)}


def test_no_resource_that_is_made_or_deleted_is_left_out(api: APIClient) -> None:
    one_more = {"returns", "evidence"}
    assert _operations("post", lambda path: path.count("/") == 4) == {*MADE, *SEVERAL, *one_more}
    assert _operations("delete", lambda path: True) == {"webhooks", "reservations"}


def test_a_return_stands_at_its_location(api: APIClient) -> None:
    order = api.get(f"{V1}orders/{_order(api)}/").json()
    OrderLine.objects.update(reserved=0, shipped=1)
    body = {
        "order": order["id"],
        "warehouse": "EAST",
        "items": [{"line": order["lines"][0]["id"], "quantity": 1}],
    }
    made = api.post(f"{V1}returns/", body)
    assert made.status_code == 201, made.content
    assert api.get(made["Location"]).json()["id"] == made.json()["id"]


def test_each_hold_of_a_checkout_stands_at_its_address(api: APIClient) -> None:
    body = {"reference": "c", "warehouses": ["EAST"], "lines": [LINE]}
    made = api.post(f"{V1}reservations/", body)
    assert made.status_code == 201 and "Location" not in made
    for one in made.json()["reservations"]:
        assert api.get(f"{V1}reservations/{one['id']}/").json()["state"] == "open"


def test_a_webhook_that_is_deleted_is_gone_everywhere(api: APIClient) -> None:
    made = api.post(f"{V1}webhooks/", MADE["webhooks"](api)).json()
    one = f"{V1}webhooks/{made['id']}/"
    event = WebhookEvent.objects.create(uid="m", type="order.created", subject="order:1", occurred_at=T0)
    delivery = WebhookDelivery.objects.create(endpoint_id=made["id"], event=event, subject="order:1")
    assert api.delete(one).status_code == 204
    stretch = {"since": "2026-11-01T00:00:00Z", "until": "2026-11-02T00:00:00Z"}
    star = {"HTTP_IF_MATCH": "*"}
    for answer in (
        api.get(one),
        api.patch(one, {"description": "x"}, **star),
        api.post(f"{one}rotate/"),
        api.post(f"{one}replay/", stretch),
        api.delete(one),
        api.get(f"{V1}webhook-deliveries/{delivery.pk}/"),
        api.post(f"{V1}webhook-deliveries/{delivery.pk}/resend/"),
    ):
        assert answer.status_code == 404, answer.content
        assert answer["Content-Type"] == "application/problem+json"
    assert api.get(f"{V1}webhooks/").json()["results"] == []
    assert api.get(f"{V1}webhook-deliveries/?webhook={made['id']}").json()["results"] == []


def test_a_hold_given_back_is_a_record_and_holds_nothing(api: APIClient, assert_invariants: Any) -> None:
    body = {"reference": "c", "warehouses": ["EAST"], "lines": [LINE]}
    one = f"{V1}reservations/{api.post(f'{V1}reservations/', body).json()['reservations'][0]['id']}/"
    for _ in range(2):  # again gives nothing more back
        assert api.delete(one).status_code == 204
        assert StockLevel.objects.get(warehouse__code="EAST").reserved == 0
    assert api.get(one).json()["state"] == "released"
    extended = api.post(f"{one}extend/", {"expires_in": 60})
    assert extended.status_code == 409 and "hold the stock again" in extended.json()["detail"]
    assert json.loads(api.get(f"{V1}reservations/?state=open").content)["results"] == []
    assert_invariants()
