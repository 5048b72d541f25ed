"""Faults, buyers, the oversell counter, snapshots and the server itself."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import httpx
import pytest

from channels.sandbox.check import problems
from channels.sandbox.client import SandboxClient, SandboxRefused
from channels.sandbox.server import run_in_thread
from tests.sandbox.helpers import Seller, Store

SHOP = "{ shop { name } }"


# --- faults ---------------------------------------------------------------------------------------------------
def test_a_timeout_happens_but_is_not_answered(sandbox: SandboxClient, http: httpx.Client) -> None:
    store = Store(sandbox, http)
    sandbox.plan_fault("acme", "timeout", "inventorySetQuantities")
    with pytest.raises(httpx.RemoteProtocolError):
        store.set("k", ("MUG", 7, None))
    assert sandbox.available("acme", "MUG") == 7
    assert store.set("k", ("MUG", 7, None))["userErrors"] == []
    entry = sandbox.requests("acme", "inventorySetQuantities")[0]
    assert (entry["fault"], entry["status"]) == ("timeout", 0)


def test_a_dropped_request_does_not_happen(sandbox: SandboxClient, http: httpx.Client) -> None:
    store = Store(sandbox, http)
    sandbox.plan_fault("acme", "drop", "inventorySetQuantities")
    with pytest.raises(httpx.RemoteProtocolError):
        store.set("k", ("MUG", 7, None))
    assert sandbox.available("acme", "MUG") == 10


def test_planned_faults_strike_as_often_as_planned(sandbox: SandboxClient, http: httpx.Client) -> None:
    store = Store(sandbox, http)
    sandbox.plan_fault("acme", "error_500", times=2)
    sandbox.plan_fault("acme", "throttle", "shop")
    assert [store.raw(SHOP).status_code for _ in range(2)] == [500, 500]
    assert store.errors(SHOP)[0]["extensions"]["code"] == "THROTTLED"
    assert "data" in store.raw(SHOP).json()
    sandbox.plan_fault("acme", "user_error", "inventorySetQuantities", code="IDEMPOTENCY_CONCURRENT_REQUEST")
    assert store.set("k", ("MUG", 1, None))["userErrors"][0]["code"] == "IDEMPOTENCY_CONCURRENT_REQUEST"
    assert store.set("k", ("MUG", 1, None))["userErrors"] == []


def test_rates_outage_and_only(sandbox: SandboxClient, http: httpx.Client) -> None:
    seller = Seller(sandbox, http, settings={"rate_limits": False})
    path = "/sellers/v1/marketplaceParticipations"
    assert seller.call("GET", path).status_code == 200
    sandbox.faults("A1", throttle_rate=1, only=["getOrder"])
    assert seller.call("GET", path).status_code == 200
    assert seller.call("GET", "/orders/2026-01-01/orders/1").status_code == 429
    sandbox.faults("A1", throttle_rate=0, error_500_rate=0.5, only=[])
    statuses = [seller.call("GET", path).status_code for _ in range(60)]
    assert set(statuses) == {200, 500} and 15 < statuses.count(500) < 45
    sandbox.clear_faults("A1")
    sandbox.faults("A1", outage_seconds=60)
    assert seller.call("GET", path).status_code == 503
    sandbox.advance(61)
    assert seller.call("GET", path).status_code == 200
    with pytest.raises(SandboxRefused, match="share from 0 to 1"):
        sandbox.faults("A1", timeout_rate=2)
    with pytest.raises(SandboxRefused, match="Unknown fault"):
        sandbox.faults("A1", slowness=2)


# --- buyers ---------------------------------------------------------------------------------------------------
def buy(sandbox: SandboxClient, http: httpx.Client, seed: int) -> list[tuple]:
    sandbox.reset()
    Store(sandbox, http, catalogue=[{"sku": f"S{n}", "stock": 40} for n in range(5)])
    Seller(sandbox, http, catalogue=[{"sku": f"S{n}", "stock": 40} for n in range(5)])
    number = sandbox.start_shoppers(
        rate_per_second=0, max_orders=100, seed=seed, weights={"acme": 3, "A1": 1}
    )
    assert sandbox.wait_until(lambda: not sandbox.shoppers(number)["running"])
    done = sandbox.shoppers(number)
    assert done["asked"] == done["placed"] + done["lost"] == 100
    orders = [(shop, order) for shop in ("acme", "A1") for order in sandbox.orders(shop)]
    assert len(orders) == done["placed"]
    return [
        (shop, order["address"]["name"], [(line["sku"], line["quantity"]) for line in order["lines"]])
        for shop, order in orders
    ]


def test_buyers_repeat_themselves_with_the_same_seed(sandbox: SandboxClient, http: httpx.Client) -> None:
    first = buy(sandbox, http, 7)
    assert buy(sandbox, http, 7) == first
    assert buy(sandbox, http, 8) != first


def test_buyers_stop_when_told(sandbox: SandboxClient, http: httpx.Client) -> None:
    Store(sandbox, http)
    number = sandbox.start_shoppers(rate_per_second=200)
    assert sandbox.wait_until(lambda: sandbox.shoppers(number)["asked"] >= 5)
    sandbox.stop_shoppers(number)
    stopped = sandbox.shoppers(number)["asked"]
    assert sandbox.health()["ok"]
    assert sandbox.shoppers(number)["asked"] in (stopped, stopped + 1)
    with pytest.raises(SandboxRefused, match="max_orders"):
        sandbox.start_shoppers(rate_per_second=0)


def test_selling_the_same_real_unit_twice_is_counted(sandbox: SandboxClient, http: httpx.Client) -> None:
    Store(
        sandbox,
        http,
        catalogue=[{"sku": "MUG", "stock": 3}, {"sku": "PAIR", "stock": 1, "physical": {"MUG": 2}}],
    )
    Seller(sandbox, http, catalogue=[{"sku": "M-AMZ", "stock": 3, "physical": {"MUG": 1}}])
    sandbox.set_physical({"MUG": 4})
    sandbox.place_order("acme", [{"sku": "PAIR"}])
    second = sandbox.place_order("A1", [{"sku": "M-AMZ", "quantity": 2}])
    assert sandbox.oversold()["over"] == 0
    sandbox.place_order("acme", [{"sku": "MUG"}])
    assert sandbox.oversold() == {"over": 1, "skus": {"MUG": {"physical": 4, "sold": 5, "over": 1}}}
    sandbox.act("A1", second["id"], "cancel")
    assert sandbox.oversold()["over"] == 0


def test_a_forced_sale_goes_below_the_listed_stock(sandbox: SandboxClient, http: httpx.Client) -> None:
    Store(sandbox, http)
    sandbox.place_order("acme", [{"sku": "BOWL", "quantity": 6}], force=True)
    assert sandbox.available("acme", "BOWL") == -2


def test_stock_is_conserved_whatever_buyers_do(sandbox: SandboxClient, http: httpx.Client) -> None:
    Store(
        sandbox,
        http,
        catalogue=[{"sku": "S", "stock": {"East": 9, "West": 9}}],
        locations=[{"name": "East"}, {"name": "West"}],
    )
    number = sandbox.start_shoppers(rate_per_second=0, max_orders=40, quantity_max=3, lines_max=1)
    assert sandbox.wait_until(lambda: not sandbox.shoppers(number)["running"])
    orders = sandbox.orders("acme")
    for order in orders[::2]:
        sandbox.act("acme", order["id"], "cancel")
    levels = sandbox.stock("acme", "S")["S"]["locations"].values()
    held = sum(line["quantity"] for order in orders[1::2] for line in order["lines"])
    assert sum(level["available"] for level in levels) == 18 - held
    assert sum(level["committed"] for level in levels) == held
    assert sandbox.stats()["shops"]["acme"]["lost_sales"] == 40 - len(orders)


# --- control and server -----------------------------------------------------------------------------------------
def test_the_host_map_reaches_every_host(sandbox: SandboxClient, http: httpx.Client) -> None:
    Store(sandbox, http)
    Seller(sandbox, http)
    assert sandbox.host_map() == {
        host: f"{sandbox.url}/{host}"
        for host in (
            "acme.myshopify.com",
            "sellingpartnerapi-na.amazon.com",
            "api.amazon.com",
            "sqs.us-east-1.amazonaws.com",
            "tortuga-prod-na.s3.amazonaws.com",
        )
    }


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kind": "nowhere", "id": "e"}, "kind must be one of"),
        ({"kind": "shopify"}, "needs an id"),
        ({"kind": "shopify", "id": "acme", "catalogue": [{"title": "x"}]}, "needs a sku"),
        ({"kind": "shopify", "id": "acme", "catalogue": [{"sku": "x", "price": "much"}]}, "amount of money"),
        ({"kind": "amazon", "id": "A", "marketplace_id": "X"}, "marketplace_id must be one of"),
    ],
)
def test_a_shop_that_makes_no_sense_is_refused_in_words(
    sandbox: SandboxClient, spec: dict, words: str
) -> None:
    with pytest.raises(SandboxRefused, match=words):
        sandbox.call("POST", "/shops", spec)
    assert sandbox.shops() == []


def test_unknown_places_say_so(sandbox: SandboxClient, http: httpx.Client) -> None:
    assert http.get(f"{sandbox.url}/nowhere.example.com/x").status_code == 404
    with pytest.raises(SandboxRefused, match="No control at GET"):
        sandbox.call("GET", "/nothing")
    with pytest.raises(SandboxRefused, match="There is no shop ghost"):
        sandbox.shop("ghost")


def test_many_requests_on_one_connection_and_split_packets(sandbox: SandboxClient) -> None:
    host, port = sandbox.url.removeprefix("http://").split(":")
    request = b"GET /_sandbox/health HTTP/1.1\r\nhost: x\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=5) as plug:
        plug.sendall(request * 3 + request[:20])
        plug.sendall(request[20:])
        got = b""
        while got.count(b'"ok":true') < 4:
            got += plug.recv(65536)
    assert got.count(b"HTTP/1.1 200 OK") == 4


def test_a_snapshot_survives_a_restart(tmp_path: Path, http: httpx.Client) -> None:
    file = tmp_path / "state.json"
    first = run_in_thread(state_file=file)
    with SandboxClient(first.url) as sandbox:
        store = Store(sandbox, http)
        Seller(sandbox, http, subscribe=True)
        placed = sandbox.place_order("acme", [{"sku": "MUG", "quantity": 2}])
        sandbox.place_order("A1", [{"sku": "MUG-FBA"}])
        store.set("k", ("BOWL", 1, None))
        sandbox.set_physical({"MUG": 9})
        before = {
            "orders": [sandbox.orders("acme"), sandbox.orders("A1")],
            "stock": [sandbox.stock("acme"), sandbox.stock("A1")],
            "queue": sandbox.queue("A1"),
            "oversold": sandbox.oversold(),
        }
    first.stop()
    second = run_in_thread(state_file=file)
    with SandboxClient(second.url) as sandbox:
        after = {
            "orders": [sandbox.orders("acme"), sandbox.orders("A1")],
            "stock": [sandbox.stock("acme"), sandbox.stock("A1")],
            "queue": sandbox.queue("A1"),
            "oversold": sandbox.oversold(),
        }
        assert json.dumps(after) == json.dumps(before)
        store.url = store.url.replace(first.url, second.url)
        repeated = store.set("k", ("BOWL", 1, None))
        assert repeated["userErrors"] == [] and sandbox.shop("acme")["counts"]["idempotent_replays"] == 1
        assert sandbox.place_order("acme", [{"sku": "MUG"}])["number"] == placed["number"] + 1
    second.stop()


def test_the_default_scenario_opens_three_shops() -> None:
    handle = run_in_thread(scenario="default")
    with SandboxClient(handle.url) as sandbox:
        assert [(shop["id"], shop["kind"]) for shop in sandbox.shops()] == [
            ("acme", "shopify"),
            ("acme-outlet", "shopify"),
            ("A1SANDBOX", "amazon"),
        ]
        assert sandbox.oversold()["over"] == 0
    handle.stop()


def test_bodies_are_closed() -> None:
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": {"type": "integer", "minimum": 1},
            "b": {"type": "array", "items": {"enum": ["x"]}},
        },
    }
    assert problems({"a": 1, "b": ["x"]}, schema) == []
    assert problems({"a": True}, schema) == ["body.a must be of type integer"]
    assert problems({"a": 0, "c": 1, "b": ["y"]}, schema) == [
        "body.a must be at least 1",
        "body.c is not a known field",
        "body.b[0] must be one of x",
    ]
    assert problems({}, schema) == ["body.a is required"]
