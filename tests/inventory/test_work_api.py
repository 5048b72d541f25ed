"""Counts, transfers, lots and ring-fences over HTTP."""

from __future__ import annotations

import datetime as dt

import pytest
from rest_framework.test import APIClient

from inventory import fences
from inventory.models import Lot, StockLevel
from oms.core.clock import now
from tests.factories import add_stock, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db


def api(role="owner", **scope):
    client = APIClient()
    client.force_authenticate(make_user(role=role, **scope))
    return client


def test_a_blind_count_tells_the_books_only_to_those_who_adjust(assert_invariants):
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    add_stock(sku, east, 100)
    boss, floor = api(), api("floor", warehouses=("EAST",))
    made = floor.post("/api/v1/counts/", {"sku": "MUG", "warehouse": "EAST"}, format="json")
    assert made.status_code == 201 and made.data["expected"] is None
    address = f"/api/v1/counts/{made.data['id']}/"
    counted = floor.post(f"{address}submit/", {"counted": 95}, format="json")
    assert (counted.status_code, counted.data["state"]) == (200, "counted")
    assert (counted.data["expected"], counted.data["variance"]) == (None, None)
    assert floor.post(f"{address}accept/").status_code == 403
    assert boss.get(address).data["variance"] == -5
    assert boss.post(f"{address}accept/").data["state"] == "done"
    assert StockLevel.objects.get().on_hand == 95
    assert api("floor", warehouses=("WEST",)).get(address).status_code == 404
    assert_invariants()


def test_a_transfer_with_a_difference(assert_invariants):
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    make_warehouse("WEST")
    add_stock(sku, east, 10)
    boss = api()
    made = boss.post(
        "/api/v1/transfers/", {"source": "EAST", "destination": "WEST", "lines": {"MUG": 10}}, format="json"
    )
    address = f"/api/v1/transfers/{made.data['id']}/"
    assert boss.post(f"{address}ship/").data["state"] == "shipped"
    for _ in range(2):
        got = boss.post(f"{address}receive/", {"lines": {"MUG": 8}, "key": "dock"}, format="json")
    assert got.data["lines"][0]["in_transit"] == 2
    found = {"lines": {"MUG": 1}, "key": "a", "reason": "found", "found": True}
    boss.post(f"{address}settle/", found, format="json")
    done = boss.post(f"{address}settle/", {"lines": {"MUG": 1}, "key": "b", "reason": "lost"}, format="json")
    assert done.data["state"] == "received"
    levels = dict(StockLevel.objects.values_list("warehouse__code", "on_hand"))
    assert levels == {"EAST": 1, "WEST": 8}
    assert_invariants()


def test_lots_and_fences():
    sku, east = make_sku("MUG", lot_tracked=True), make_warehouse("EAST")
    add_stock(sku, east, 5)
    lot = Lot.objects.create(sku=sku, code="L1")
    boss = api()
    blocked = boss.post(f"/api/v1/lots/{lot.pk}/block/", {"reason": "glass"}, format="json")
    assert blocked.data["is_blocked"] is True
    assert boss.get("/api/v1/lots/?is_blocked=true").data["results"][0]["code"] == "L1"
    fence = {
        "sku": "MUG",
        "channel": "tiktok",
        "quantity": 3,
        "ends_at": (now() + dt.timedelta(days=1)).isoformat(),
    }
    made = boss.post("/api/v1/ring-fences/", fence, format="json")
    assert made.status_code == 201 and fences.remaining([sku.pk])[sku.pk][0].remaining == 3
    boss.post(f"/api/v1/ring-fences/{made.data['id']}/end/")
    assert fences.remaining([sku.pk]) == {}
