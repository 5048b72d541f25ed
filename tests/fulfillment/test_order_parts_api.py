"""An order split, put together and sent elsewhere over HTTP (O07, O08, X01)."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from fulfillment import picking
from fulfillment.models import Shipment
from inventory.models import StockLevel
from oms.core import tokens
from oms.core.actor import SYSTEM, Actor
from oms.core.models import AuditEntry, User
from oms.core.roles import SCOPES
from oms.orders.models import Order, OrderContact
from tests.factories import make_user
from tests.fulfillment.conftest import World

NEW = {"address1": "9 Elm St", "city": "Sparks", "region": "nv", "postal_code": "89431", "country": "us"}


def bearer(user: User, *scopes: str, **limits: Any) -> APIClient:
    api = APIClient()
    _, text = tokens.issue(user, "test", scopes or sorted(SCOPES), actor=SYSTEM, **limits)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return api


@pytest.fixture
def api(world: World) -> APIClient:
    return bearer(make_user("olga"))


def one(order: Any, step: str = "") -> str:
    return f"/api/v1/orders/{getattr(order, 'pk', order)}/{step}"


def body(shipment: Shipment, quantity: int, **more: Any) -> dict[str, Any]:
    line = shipment.order.lines.get().pk
    return {"lines": [{"line": line, "quantity": quantity}], "reason": "two boxes", **more}


def test_units_are_sent_apart_and_put_together_again(
    api: APIClient, world: World, assert_invariants: Any
) -> None:
    whole = world.routed(5)
    tag = api.get(one(whole.order_id))["ETag"]
    key = {"HTTP_IDEMPOTENCY_KEY": "split-1", "HTTP_IF_MATCH": tag}
    made = api.post(one(whole.order_id, "split/"), body(whole, 2), **key)
    assert made.status_code == 201, made.content
    (apart,) = made.json()["shipments"]
    assert (apart["warehouse"], [line["quantity"] for line in apart["lines"]]) == ("EAST", [2])
    assert whole.lines.get().quantity == 3
    assert AuditEntry.objects.filter(action="order.split", actor__startswith="token:").exists()
    again = api.post(one(whole.order_id, "split/"), body(whole, 2), **key)
    assert (again.status_code, again["Idempotent-Replayed"]) == (201, "true")
    stale = api.post(one(whole.order_id, "split/"), body(whole, 1), HTTP_IF_MATCH=tag)
    assert stale.status_code == 412 and Shipment.objects.count() == 2
    back = api.post(one(whole.order_id, "rejoin/"), {"shipment": apart["id"]})
    assert (back.status_code, back.json()["id"]) == (200, whole.pk), back.content
    assert whole.lines.get().quantity == 5
    assert_invariants()


def test_a_split_to_another_warehouse_needs_the_right_there(api: APIClient, world: World) -> None:
    whole = world.routed(5)
    east_only = bearer(make_user("lena"), warehouses=["EAST"])
    refused = east_only.post(one(whole.order_id, "split/"), body(whole, 2, warehouse="WEST"))
    assert refused.status_code in (403, 404) and Shipment.objects.count() == 1
    moon = api.post(one(whole.order_id, "split/"), body(whole, 2, warehouse="MOON"))
    assert moon.json()["errors"][0]["pointer"] == "/warehouse"
    made = api.post(one(whole.order_id, "split/"), body(whole, 2, warehouse="WEST"))
    assert made.json()["shipments"][0]["warehouse"] == "WEST"
    held = dict(StockLevel.objects.values_list("warehouse__code", "reserved"))
    assert held == {"EAST": 3, "WEST": 2}


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"reason": " "}, 400, "reason"),
        ({"lines": []}, 400, "lines"),
        ({"lines": [{"line": 9999, "quantity": 1}]}, 400, "has no line 9999"),
        ({"colour": "red"}, 400, "Unknown member"),
    ],
)
def test_a_split_that_makes_no_sense_is_a_problem_document(
    api: APIClient, world: World, change: dict[str, Any], status: int, words: str
) -> None:
    whole = world.routed(5)
    answer = api.post(one(whole.order_id, "split/"), {**body(whole, 2), **change})
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert words in answer.json()["detail"] and Shipment.objects.count() == 1


def test_everything_or_what_is_being_picked_is_a_conflict(api: APIClient, world: World) -> None:
    whole = world.routed(5)
    assert api.post(one(whole.order_id, "split/"), body(whole, 5)).status_code == 409
    made = api.post(one(whole.order_id, "split/"), body(whole, 2)).json()["shipments"][0]
    picking.claim(whole.pk, actor=Actor("user", "finn"))
    back = api.post(one(whole.order_id, "rejoin/"), {"shipment": made["id"]})
    assert back.status_code == 409 and "no other shipment" in back.json()["detail"]
    other = world.routed(1)
    foreign = api.post(one(whole.order_id, "rejoin/"), {"shipment": other.pk})
    assert foreign.json()["errors"][0]["pointer"] == "/shipment"


def test_an_address_is_corrected_and_taken_back(api: APIClient, world: World) -> None:
    order = world.order(1)
    read = api.get(one(order))
    assert api.patch(one(order, "address/"), NEW).status_code == 428
    changed = api.patch(one(order, "address/"), NEW, HTTP_IF_MATCH=read["ETag"])
    assert changed.status_code == 200, changed.content
    told = changed.json()["contact"]
    assert (told["address1"], told["region"], told["country"]) == ("9 Elm St", "NV", "US")
    assert told["name"] == read.json()["contact"]["name"], "what is left out stays"
    assert changed["ETag"] == api.get(one(order))["ETag"] != read["ETag"]
    stale = api.patch(one(order, "address/"), {"city": "Reno"}, HTTP_IF_MATCH=read["ETag"])
    assert stale.status_code == 412
    back = api.post(one(order, "address-back/"))
    assert back.json()["contact"]["address1"] == "1 Main St"
    assert OrderContact.objects.get().told is None
    assert api.post(one(order, "address-back/")).status_code == 409


@pytest.mark.parametrize(
    ("change", "words", "pointer"),
    [
        ({"postal_code": "1"}, "five digits", "/postal_code"),
        ({"region": "XX"}, "no state of US", "/region"),
        ({"address1": ""}, "may not be blank", "/address1"),
        ({"country": "USA"}, "country", "/country"),
    ],
)
def test_a_wrong_address_points_at_its_member(
    api: APIClient, world: World, change: dict[str, str], words: str, pointer: str
) -> None:
    order = world.order(1)
    answer = api.patch(one(order, "address/"), {**NEW, **change}, HTTP_IF_MATCH="*")
    assert answer.status_code == 400 and words in answer.json()["detail"]
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert Order.objects.get().ship_city != "Sparks"


def test_who_may_not_see_the_buyer_does_not_write_over_the_address(world: World) -> None:
    order = world.order(1)
    blind = bearer(make_user("bert"), "orders:read", "orders:write")
    answer = blind.patch(one(order, "address/"), NEW, HTTP_IF_MATCH="*")
    assert answer.status_code == 403, answer.content
    assert OrderContact.objects.get().data["address1"] == "1 Main St"
