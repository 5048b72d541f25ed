"""The floor's steps and routing as calls: what a screen does, a call does (X01)."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from fulfillment import labels, shipping
from fulfillment.models import LabelPurchase, RoutingPolicy, Shipment
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.models import User
from oms.orders.models import Order
from tests.api.test_resources import bearer
from tests.factories import make_user, make_warehouse

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(db: None) -> User:
    return make_user("olga")


@pytest.fixture
def api(owner: User) -> APIClient:
    return bearer(owner)


def test_units_that_cannot_be_found_leave_the_shipment(
    world: Any, api: APIClient, assert_invariants: Any
) -> None:
    shipment = world.routed(3)
    line = shipment.lines.get()
    url = f"/api/v1/shipments/{shipment.pk}/short-pick/"
    wrong = api.post(url, {"line": line.pk + 99, "missing": 1, "reason": "not_found"})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (400, "/line")
    unknown = api.post(url, {"line": line.pk, "missing": 1, "reason": "tired"})
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (400, "/reason")
    key = {"HTTP_IDEMPOTENCY_KEY": "short-1"}
    done = api.post(url, {"line": line.pk, "missing": 2, "reason": "damaged"}, **key)
    assert done.status_code == 200 and done.json()["lines"][0]["quantity"] == 1
    again = api.post(url, {"line": line.pk, "missing": 2, "reason": "damaged"}, **key)
    assert again.json() == done.json() and again["Idempotent-Replayed"] == "true"
    line.refresh_from_db()
    assert line.quantity == 1
    assert_invariants()


def test_a_rate_is_chosen_a_label_bought_and_given_back_once(
    world: Any, carrier: Any, api: APIClient, assert_invariants: Any
) -> None:
    shipment = world.routed(2)
    url = f"/api/v1/shipments/{shipment.pk}"
    assert api.post(f"{url}/pick-all/").json()["lines"][0]["picked"] == 2
    api.post(f"{url}/pack/", {})
    quotes = api.post(f"{url}/rates/").json()
    other = next(quote for quote in quotes if not quote["chosen"])
    foreign = api.post(f"{url}/choose/", {"quote": 10**9})
    assert (foreign.status_code, foreign.json()["errors"][0]["pointer"]) == (400, "/quote")
    assert api.post(f"{url}/choose/", {"quote": other["id"]}).status_code == 200
    bought = api.post(f"{url}/label/", {}).json()
    (label,) = bought["parcels"][0]["labels"]
    assert (bought["state"], label["state"]) == ("labelled", "purchased")
    for _ in range(2):
        gone = api.post(f"{url}/void-label/", {"label": label["id"]})
        assert gone.status_code == 200 and gone.json()["parcels"][0]["labels"][0]["state"] == "void"
    assert len(carrier.voided) == 1 and Shipment.objects.get(pk=shipment.pk).state == "packed"
    assert_invariants()


def test_a_person_decides_about_a_label_whose_answer_was_lost(
    world: Any, carrier: Any, api: APIClient
) -> None:
    first, second = world.packed(1, external_id="a"), world.packed(1, external_id="b")
    carrier.plan, carrier.resolvable = ["lost", "lost"], False
    for shipment in (first, second):
        assert api.post(f"/api/v1/shipments/{shipment.pk}/label/", {}).status_code == 200
    lost, found = LabelPurchase.objects.order_by("pk")
    assert {lost.state, found.state} == {"unknown"}
    foreign = api.post(f"/api/v1/shipments/{second.pk}/label-not-bought/", {"label": lost.pk})
    assert (foreign.status_code, foreign.json()["errors"][0]["pointer"]) == (400, "/label")
    assert api.post(f"/api/v1/shipments/{first.pk}/label-not-bought/", {"label": lost.pk}).status_code == 200
    answer = api.post(
        f"/api/v1/shipments/{second.pk}/label-bought/", {"label": found.pk, "tracking_number": "1Z9"}
    )
    assert answer.json()["parcels"][0]["labels"][0]["tracking_number"] == "1Z9"
    lost.refresh_from_db()
    assert lost.state == "not_bought"


def test_rules_are_published_whole_and_over_what_was_seen(api: APIClient, owner: User) -> None:
    make_warehouse("WEST")
    rule = {
        "name": "West first",
        "when": {"field": "region", "op": "in", "value": ["CA"]},
        "then": {"prefer": ["WEST"]},
    }
    made = api.post("/api/v1/routing-policies/", {"rules": [rule], "note": "first"})
    assert (made.status_code, made.json()["version"], made.json()["is_active"]) == (201, 1, True)
    bad = api.post("/api/v1/routing-policies/", {"rules": [{**rule, "then": {"teleport": True}}]})
    assert bad.status_code == 400 and "West first: unknown action teleport" in bad.json()["detail"]
    misspelt = api.post("/api/v1/routing-policies/", {"rules": [{**rule, "wenn": {}}]})
    assert misspelt.json()["errors"][0]["pointer"] == "/rules/0/wenn"
    stale = api.post("/api/v1/routing-policies/", {"rules": [], "version": 0})
    assert stale.status_code == 412 and RoutingPolicy.objects.count() == 1
    assert api.post("/api/v1/routing-policies/", {"rules": [], "version": 1}).json()["version"] == 2
    active = api.get("/api/v1/routing-policies/?is_active=true").json()["results"]
    assert [one["version"] for one in active] == [2]
    reader = bearer(make_user("vera", "viewer"))
    assert reader.get("/api/v1/routing-policies/").status_code == 200
    assert reader.post("/api/v1/routing-policies/", {"rules": []}).status_code == 403


def test_why_this_warehouse_and_another_one_by_hand(world: Any, api: APIClient) -> None:
    shipment = world.routed(2)
    order = Order.objects.get()
    (why,) = api.get(f"/api/v1/routing-decisions/?order={order.pk}").json()["results"]
    whole = api.get(f"/api/v1/routing-decisions/{why['id']}/").json()
    assert whole["outcome"] == "routed" and whole["trace"]["candidates"]
    other = "WEST" if shipment.warehouse.code == "EAST" else "EAST"
    body = {"order": order.pk, "warehouse": other, "reason": "the buyer collects it"}
    by_hand = api.post("/api/v1/routing-decisions/", body)
    assert by_hand.status_code == 201 and by_hand.json()["outcome"] == "manual"
    assert api.post("/api/v1/routing-decisions/", {**body, "warehouse": "MOON"}).json()["errors"][0][
        "pointer"
    ] == ("/warehouse")


def test_a_carriers_scans_are_told_and_the_last_parcel_delivers(
    world: Any, carrier: Any, api: APIClient, client: Client, owner: User, assert_invariants: Any
) -> None:
    shipment = world.packed(2)
    label = labels.buy(shipment.pk, actor=SYSTEM)[0]
    url = f"/api/v1/shipments/{shipment.pk}/track/"
    scan = {"label": label.pk, "status": "in_transit", "at": now().isoformat(), "place": "Memphis"}
    early = api.post(url, scan)
    assert (early.status_code, "has not left" in early.json()["detail"]) == (409, True)
    shipping.ship(shipment.pk, actor=SYSTEM)
    ahead = api.post(url, {**scan, "at": (now() + dt.timedelta(days=1)).isoformat()})
    assert (ahead.status_code, ahead.json()["errors"][0]["pointer"]) == (400, "/at")
    word = api.post(url, {**scan, "status": "lost"})
    assert (word.status_code, word.json()["errors"][0]["pointer"]) == (400, "/status")
    assert api.post(url, {**scan, "label": label.pk + 9}).status_code == 400
    for _ in range(2):
        told = api.post(url, scan).json()
        assert (told["state"], told["parcels"][0]["labels"][0]["tracking"]) == ("shipped", "in_transit")
    assert label.events.count() == 1
    client.force_login(owner)
    page = client.get(f"/shipments/{shipment.pk}/").content.decode()
    assert "Memphis" in page and "Delivered</button>" in page
    client.post(f"/shipments/{shipment.pk}/delivered/", {"label": label.pk})
    shipment.refresh_from_db()
    assert shipment.state == Shipment.State.DELIVERED
    assert Order.objects.get(pk=shipment.order_id).state == Order.State.DELIVERED
    assert "Delivered</button>" not in client.get(f"/shipments/{shipment.pk}/").content.decode()
    assert_invariants()
