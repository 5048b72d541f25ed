"""What a screen does, a call does: exceptions, files, holds that are extended, many items at once (X01)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import time_machine
from rest_framework.test import APIClient

from inventory.models import Reservation, StockLevel
from inventory.tasks import expire_reservations
from oms.control.models import ImportFile
from oms.core import exceptions_inbox, jobs, tokens
from oms.core.actor import SYSTEM
from oms.core.models import ExceptionItem, Job, User
from oms.core.roles import SCOPES
from oms.orders.intake import take
from oms.orders.models import Order
from tests.factories import (
    T0,
    add_stock,
    line_draft,
    make_channel,
    make_sku,
    make_user,
    make_warehouse,
    order_draft,
)

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]


def bearer(user: User, **limits: Any) -> APIClient:
    api = APIClient()
    _, text = tokens.issue(user, "test", sorted(SCOPES), actor=SYSTEM, **limits)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return api


@pytest.fixture
def api() -> APIClient:
    return bearer(make_user("olga"))


def test_a_checkout_holds_longer_gives_back_or_ends_by_itself(api: APIClient, assert_invariants: Any) -> None:
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    add_stock(sku, east, 5)
    body = {
        "reference": "c",
        "warehouses": ["EAST"],
        "lines": [{"sku": "MUG", "quantity": 3}],
        "expires_in": 60,
    }
    with time_machine.travel(T0, tick=False) as clock:
        held = api.post("/api/v1/reservations/", body).json()["reservations"][0]
        address = f"/api/v1/reservations/{held['id']}/"
        clock.shift(50)
        longer = api.post(f"{address}extend/", {"expires_in": 120})
        assert longer.status_code == 200 and longer.json()["expires_at"] == "2026-11-02T14:02:50Z"
        clock.shift(60)
        expire_reservations("")
        assert StockLevel.objects.get().reserved == 3
        clock.shift(61)
        late = api.post(f"{address}extend/", {})
        assert late.status_code == 409 and "hold the stock again" in late.json()["detail"]
        expire_reservations("")
        assert StockLevel.objects.get().reserved == 0
        assert api.get(address).json()["state"] == Reservation.objects.get().state != "open"
        again = api.post("/api/v1/reservations/", body).json()["reservations"][0]
        assert api.delete(f"/api/v1/reservations/{again['id']}/").status_code == 204
        assert StockLevel.objects.get().reserved == 0
    assert_invariants()


def test_members_that_nobody_reads_are_refused_in_every_body(api: APIClient) -> None:
    """A price under the name that answers have for it would be taken for none."""
    sku = make_sku("MUG")
    for name, said in (("prize", "Unknown member. Known are"), ("price", "It is part of answers only")):
        body = {"code": "JUG", "product": sku.product_id, name: "12.50"}
        new = api.post("/api/v1/skus/", body, format="json")
        old = api.patch(f"/api/v1/skus/{sku.pk}/", {name: "12.50"}, format="json", headers={"If-Match": "*"})
        for answer in (new, old):
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, f"/{name}")
            assert said in answer.json()["detail"]
    answer = api.post("/api/v1/products/", {"title": "Jug", "skus": []}, format="json")
    assert answer.status_code == 400


def test_many_adjustments_answer_each_for_itself(api: APIClient, assert_invariants: Any) -> None:
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    add_stock(sku, east, 5)
    good = {"sku": "MUG", "warehouse": "EAST", "quantity": 2, "reason": "count"}
    items = [good, {**good, "sku": "NOPE"}, {**good, "quantity": -50}, {**good, "warehouse": "MOON"}, good]
    answer = api.post("/api/v1/stock/adjust-many/", {"items": items}, HTTP_IDEMPOTENCY_KEY="many")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["done"], body["failed"]) == (2, 3)
    assert [(one["status"], one["pointer"]) for one in body["results"]] == [
        (200, ""), (400, "/items/1/sku"), (409, "/items/2/quantity"), (400, "/items/3/warehouse"), (200, ""),
    ]  # fmt: skip
    assert StockLevel.objects.get().on_hand == 9
    again = api.post("/api/v1/stock/adjust-many/", {"items": items}, HTTP_IDEMPOTENCY_KEY="many")
    assert again.json() == body and StockLevel.objects.get().on_hand == 9
    too_many = api.post("/api/v1/stock/adjust-many/", {"items": [good] * 501})
    assert too_many.status_code == 400 and too_many.json()["errors"][0]["pointer"].startswith("/items")
    assert_invariants()


def test_many_orders_are_held_each_for_itself(api: APIClient) -> None:
    east = make_warehouse("EAST")
    sku = make_sku("MUG")
    add_stock(sku, east, 5)
    near, far = make_channel("near", east), make_channel("far", east, prefix="FA")
    for channel in (near, far):
        take([order_draft(line_draft(sku))], channel=channel, actor=SYSTEM, source="test")
    ids = list(Order.objects.order_by("pk").values_list("pk", flat=True))
    limited = bearer(make_user("lena"), channels=["near"])
    body = limited.post("/api/v1/orders/bulk/", {"action": "hold", "ids": [*ids, 999], "note": "look"}).json()
    assert [one["status"] for one in body["results"]] == [200, 404, 404]
    assert [order.holds_open for order in Order.objects.order_by("pk")] == [1, 0]
    tagged = api.post("/api/v1/orders/bulk/", {"action": "tag", "ids": ids, "tag": "vip"}).json()
    assert (tagged["done"], Order.objects.get(pk=ids[1]).tags) == (2, ["vip"])
    nothing = api.post("/api/v1/orders/bulk/", {"action": "eat", "ids": ids})
    assert nothing.status_code == 400 and nothing.json()["errors"][0]["pointer"] == "/action"


def test_exceptions_are_taken_put_off_and_mended(api: APIClient) -> None:
    make_user("fred", "floor")
    item = exceptions_inbox.raise_item("short_pick", "d:1", "Three too many", warehouse_code="EAST")
    exceptions_inbox.raise_item("short_pick", "d:2", "Elsewhere", warehouse_code="WEST")
    listed = api.get("/api/v1/exceptions/?open=true&warehouse=EAST&fields=id,title").json()["results"]
    assert listed == [{"id": item.pk, "title": "Three too many"}]
    one = f"/api/v1/exceptions/{item.pk}/"
    assert api.post(f"{one}assign/", {"owner": "fred"}).json()["owner"] == "fred"
    assert api.post(f"{one}assign/", {"owner": "nobody"}).json()["errors"][0]["pointer"] == "/owner"
    later = {"until": "2099-01-01T00:00:00Z", "reason": "waits for a count"}
    assert api.post(f"{one}snooze/", later).json()["snooze_reason"] == "waits for a count"
    assert api.post(f"{one}resolve/", {"why": "counted"}).json()["close_reason"] == "counted"
    assert api.post(f"{one}resolve/", {"why": "again"}).status_code == 409
    assert api.post(f"{one}reopen/").json()["closed_at"] is None
    west = bearer(make_user("wes", "floor", warehouses=("WEST",)))
    assert [row["title"] for row in west.get("/api/v1/exceptions/").json()["results"]] == ["Elsewhere"]
    assert west.get(one).status_code == 404 and ExceptionItem.objects.count() == 2


def test_a_file_is_brought_in_checked_and_applied(api: APIClient, assert_invariants: Any) -> None:
    make_sku("MUG")
    make_warehouse("EAST")
    content = "sku,warehouse,quantity,mode,reason\nMUG,EAST,30,set,count\nNOPE,EAST,1,set,count\n"
    made = api.post(
        "/api/v1/imports/", {"kind": "stock", "name": "count.csv", "content": content, "mode": "set"}
    )
    assert made.status_code == 202, made.content
    one = f"/api/v1/imports/{made.json()['id']}/"
    jobs.run_job(Job.objects.latest("pk").pk)
    assert api.get(one).json()["state"] == "checked"
    (problem,) = api.get(f"{one}problems/").json()["results"]
    assert (problem["row"], problem["column"]) == (3, "sku") and problem["values"]["sku"] == "NOPE"
    refused = api.post(f"{one}apply/", {"only_whole": True})
    assert refused.status_code == 409 and "1 row has an error" in refused.json()["detail"]
    assert api.post(f"{one}apply/", {}).status_code == 202
    jobs.run_job(Job.objects.latest("pk").pk)
    assert ImportFile.objects.get().state == "applied" and StockLevel.objects.get().on_hand == 30
    limited = bearer(make_user("lena"), warehouses=["EAST"])
    assert limited.get("/api/v1/imports/").status_code == 403
    assert_invariants()


@pytest.mark.once
def test_the_committed_description_is_in_step() -> None:
    """What integrators read in the repository is what the code answers."""
    run = subprocess.run(
        [sys.executable, "scripts/openapi.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-400:]
