"""A played Shopify store behaves as the Admin API 2026-10 does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import httpx
import pytest

from channels.sandbox.client import SandboxClient, SandboxRefused
from channels.sandbox.shopify.store import sign
from tests.sandbox.conftest import Receiver
from tests.sandbox.helpers import ADDRESS, Store

ORDER = """query($id: ID!) { order(id: $id) {
  id name updatedAt cancelledAt cancelReason displayFinancialStatus displayFulfillmentStatus
  currentTotalPriceSet { shopMoney { amount currencyCode } }
  totalRefundedSet { shopMoney { amount } }
  shippingAddress { name address1 city provinceCode zip countryCodeV2 }
  lineItems(first: 10) { nodes { id sku quantity currentQuantity variant { id inventoryItem { id } } } }
  fulfillmentOrders(first: 10) { nodes { id status assignedLocation { location { id } }
    lineItems(first: 10) { nodes { id remainingQuantity lineItem { id sku } } } } }
  fulfillments(first: 10) { id status trackingInfo { company number url } }
  transactions(first: 5) { id kind }
} }"""
FULFIL = """mutation($f: FulfillmentInput!) { fulfillmentCreate(fulfillment: $f) {
  fulfillment { id status trackingInfo { company number url } } userErrors { field message } } }"""
REFUND = """mutation($i: RefundInput!, $k: String!) { refundCreate(input: $i) @idempotent(key: $k) {
  refund { id totalRefundedSet { shopMoney { amount } } } order { displayFinancialStatus }
  userErrors { field message } } }"""
CANCEL = """mutation($id: ID!, $restock: Boolean!) {
  orderCancel(orderId: $id, reason: INVENTORY, restock: $restock, refund: true, notifyCustomer: false) {
    job { id done } orderCancelUserErrors { code field message } } }"""
SUBSCRIBE = """mutation($t: WebhookSubscriptionTopic!, $s: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $t, webhookSubscription: $s) {
    webhookSubscription { id topic uri format } userErrors { field message } } }"""


@pytest.fixture
def store(sandbox: SandboxClient, http: httpx.Client) -> Store:
    return Store(sandbox, http)


def read(store: Store, order_id: str) -> dict:
    return store.gql(ORDER, id=f"gid://shopify/Order/{order_id}")["order"]


# --- who may ask, and what is a valid question --------------------------------------------------------
def test_a_wrong_token_is_refused_and_a_revoked_one_too(store: Store) -> None:
    assert store.raw("{ shop { name } }", token="wrong").status_code == 401
    assert store.gql("{ shop { name } }") == {"shop": {"name": "acme"}}
    fresh = store.sandbox.expire_token("acme")["credentials"]["access_token"]
    assert store.raw("{ shop { name } }").status_code == 401
    store.token = fresh
    assert store.gql("{ shop { myshopifyDomain } }") == {"shop": {"myshopifyDomain": "acme.myshopify.com"}}


def test_another_version_or_host_is_not_found(store: Store) -> None:
    headers = {"X-Shopify-Access-Token": store.token}
    old = store.url.replace("2026-10", "2024-01")
    assert store.http.post(old, json={"query": "{ shop { name } }"}, headers=headers).status_code == 404
    other = store.url.replace("acme.", "nobody.")
    assert store.http.post(other, json={"query": "{ shop { name } }"}, headers=headers).status_code == 404


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("{ shop { fulfilmentStatus } }", "Cannot query field 'fulfilmentStatus'"),
        ("{ orders(first: 1, sort: 2) { nodes { id } } }", "Unknown argument 'sort'"),
        ("{ shop { ", "Syntax Error"),
        ('{ orders(query: "test:true") { nodes { id } } }', "first or last"),
        ('{ orders(first: 1, query: "colour:red") { nodes { id } } }', "Invalid search field: colour"),
        ("{ orders(first: 5000) { nodes { id } } }", "single query max cost"),
    ],
)
def test_a_question_the_schema_does_not_allow_is_refused(store: Store, query: str, words: str) -> None:
    answer = store.raw(query)
    assert answer.status_code == 200
    assert words in answer.json()["errors"][0]["message"]


def test_unknown_input_fields_and_wrong_types_are_refused(store: Store) -> None:
    query = "mutation($i: InventorySetQuantitiesInput!) { inventorySetQuantities(input: $i) { userErrors { code } } }"
    wrong = {"name": "available", "reason": "correction", "quantities": [], "ignoreCompareQuantity": True}
    assert "ignoreCompareQuantity" in store.errors(query, i=wrong)[0]["message"]


# --- stock ------------------------------------------------------------------------------------------------
def test_setting_a_quantity_needs_the_idempotent_directive_and_a_sent_change_from(store: Store) -> None:
    bare = SET_WITHOUT_KEY
    entry = {"inventoryItemId": store.item_gid("MUG"), "locationId": store.location, "quantity": 7}
    given = {
        "name": "available",
        "reason": "correction",
        "quantities": [{**entry, "changeFromQuantity": None}],
    }
    assert "@idempotent directive is required" in store.errors(bare, i=given)[0]["message"]
    given["quantities"] = [entry]
    with_key = bare.replace("input: $i)", 'input: $i) @idempotent(key: "k")')
    assert "changeFromQuantity argument is required" in store.errors(with_key, i=given)[0]["message"]
    assert store.sandbox.available("acme", "MUG") == 10


SET_WITHOUT_KEY = (
    "mutation($i: InventorySetQuantitiesInput!) { inventorySetQuantities(input: $i) { userErrors { code } } }"
)


def test_compare_and_set(store: Store) -> None:
    done = store.set("k1", ("MUG", 7, 10))
    assert done["userErrors"] == []
    assert {"name": "available", "delta": -3, "quantityAfterChange": 7} in done["inventoryAdjustmentGroup"][
        "changes"
    ]
    stale = store.set("k2", ("MUG", 6, 10))
    assert [error["code"] for error in stale["userErrors"]] == ["CHANGE_FROM_QUANTITY_STALE"]
    assert stale["userErrors"][0]["field"] == ["input", "quantities", "0", "changeFromQuantity"]
    assert store.sandbox.available("acme", "MUG") == 7
    assert store.set("k3", ("MUG", 6, None))["userErrors"] == []
    assert store.sandbox.available("acme", "MUG") == 6


def test_one_bad_entry_leaves_the_whole_group_unapplied(store: Store) -> None:
    mixed = store.set("k", ("MUG", 1, None), ("BOWL", 1, 99))
    assert [error["code"] for error in mixed["userErrors"]] == ["CHANGE_FROM_QUANTITY_STALE"]
    assert store.sandbox.available("acme", "MUG") == 10


def test_an_idempotency_key_stands_for_one_effect(store: Store) -> None:
    first = store.set("k", ("MUG", 7, None))
    store.sandbox.set_stock("acme", "MUG", 3)
    again = store.set("k", ("MUG", 7, None))
    assert again == first
    assert store.sandbox.available("acme", "MUG") == 3
    other = store.set("k", ("MUG", 8, None))
    assert [error["code"] for error in other["userErrors"]] == ["IDEMPOTENCY_KEY_PARAMETER_MISMATCH"]
    store.set("bad", ("MUG", -1, None))
    repeated = store.set("bad", ("MUG", -1, None))
    assert [error["code"] for error in repeated["userErrors"]] == ["IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED"]


@pytest.mark.parametrize(
    ("changes", "quantity", "code"),
    [
        ({"name": "incoming"}, 1, "INVALID_NAME"),
        ({"reason": "because"}, 1, "INVALID_REASON"),
        ({"referenceDocumentUri": "gid://shopify/Order/1"}, 1, "INVALID_REFERENCE_DOCUMENT"),
        ({}, -1, "INVALID_QUANTITY_NEGATIVE"),
        ({}, 1_000_000_001, "INVALID_QUANTITY_TOO_HIGH"),
    ],
)
def test_refusals_of_a_quantity(store: Store, changes: dict, quantity: int, code: str) -> None:
    answer = store.set("k", ("MUG", quantity, None), **changes)
    assert [error["code"] for error in answer["userErrors"]] == [code]
    assert store.sandbox.available("acme", "MUG") == 10


def test_unknown_doubled_and_bundle_items_are_refused(store: Store) -> None:
    store.sandbox.add_items("acme", [{"sku": "SET", "bundle": True, "stock": 1}])
    store.facts = store.sandbox.shop("acme")
    assert store.set("a", ("SET", 1, None))["userErrors"][0]["code"] == "NON_MUTABLE_INVENTORY_ITEM"
    assert store.set("b", ("MUG", 1, None), ("MUG", 2, None))["userErrors"][0]["code"] == (
        "NO_DUPLICATE_INVENTORY_ITEM_ID_GROUP_ID_PAIR"
    )
    entry = {"inventoryItemId": "gid://shopify/InventoryItem/1", "locationId": store.location, "quantity": 1}
    wrong = store.set("c", quantities=[{**entry, "changeFromQuantity": None}])
    assert wrong["userErrors"][0]["code"] == "INVALID_INVENTORY_ITEM"
    entry = {
        "inventoryItemId": store.item_gid("MUG"),
        "locationId": "gid://shopify/Location/1",
        "quantity": 1,
    }
    wrong = store.set("d", quantities=[{**entry, "changeFromQuantity": None}])
    assert wrong["userErrors"][0]["code"] == "INVALID_LOCATION"


def test_at_most_250_quantities(store: Store) -> None:
    many = [("MUG", number, None) for number in range(251)]
    quantities = [
        {
            "inventoryItemId": store.item_gid(s),
            "locationId": store.location,
            "quantity": q,
            "changeFromQuantity": c,
        }
        for s, q, c in many
    ]
    query = SET_WITHOUT_KEY.replace("input: $i)", 'input: $i) @idempotent(key: "k")')
    given = {"name": "available", "reason": "correction", "quantities": quantities}
    assert store.errors(query, i=given)[0]["extensions"]["code"] == "MAX_INPUT_SIZE_EXCEEDED"


def test_a_sale_lowers_available_and_the_levels_can_be_read_back(store: Store) -> None:
    store.sandbox.place_order("acme", [{"sku": "MUG", "quantity": 3}])
    query = """{ inventoryItems(first: 5, query: "sku:MUG") { nodes { sku tracked inventoryLevels(first: 5) { nodes {
      location { id name } quantities(names: ["available", "committed", "on_hand"]) { name quantity } } } } } }"""
    item = store.gql(query)["inventoryItems"]["nodes"][0]
    level = item["inventoryLevels"]["nodes"][0]
    assert level["location"]["id"] == store.location
    assert {q["name"]: q["quantity"] for q in level["quantities"]} == {
        "available": 7,
        "committed": 3,
        "on_hand": 10,
    }
    with pytest.raises(SandboxRefused, match="not enough listed stock") as refused:
        store.sandbox.place_order("acme", [{"sku": "MUG", "quantity": 8}])
    assert refused.value.status == 409
    assert store.sandbox.shop("acme")["counts"]["lost_sales"] == 1


# --- orders -----------------------------------------------------------------------------------------------
def test_orders_are_paged_by_update_and_filtered(store: Store) -> None:
    placed = [store.sandbox.place_order("acme", [{"sku": "MUG"}])["id"] for _ in range(5)]
    store.sandbox.advance(100)
    store.sandbox.act("acme", placed[0], "touch")
    query = """query($after: String, $q: String) { orders(first: 2, after: $after, query: $q, sortKey: UPDATED_AT) {
      nodes { id updatedAt } pageInfo { hasNextPage endCursor } } }"""
    seen: list[str] = []
    after = None
    while True:
        page = store.gql(query, after=after, q=None)["orders"]
        seen += [node["id"].rpartition("/")[2] for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert seen == [*placed[1:], placed[0]]
    newest = page["nodes"][-1]["updatedAt"]
    found = store.gql(query, after=None, q=f"updated_at:>='{newest}'")["orders"]["nodes"]
    assert [node["id"] for node in found] == [f"gid://shopify/Order/{placed[0]}"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("status:open", ["#1002", "#1003"]),
        ("-status:open", ["#1001"]),
        ("status:open AND NOT financial_status:pending", ["#1003"]),
        ("name:#1001 OR financial_status:pending", ["#1001", "#1002"]),
        ("sku:BOWL status:open", ["#1003"]),
        ("return_status:no_return created_at:>='2030-01-01T00:00:00Z'", []),
    ],
)
def test_the_search_language(store: Store, text: str, found: list[str]) -> None:
    first = store.sandbox.place_order("acme", [{"sku": "MUG"}])
    store.sandbox.act("acme", first["id"], "cancel")
    store.sandbox.place_order("acme", [{"sku": "MUG"}], payment="pending")
    store.sandbox.place_order("acme", [{"sku": "BOWL"}])
    query = "query($q: String) { orders(first: 9, query: $q, sortKey: ORDER_NUMBER) { nodes { name } } }"
    assert [node["name"] for node in store.gql(query, q=text)["orders"]["nodes"]] == found


def test_an_order_as_the_connector_reads_it(store: Store) -> None:
    lines = [{"sku": "MUG", "quantity": 2, "tax": "2.10", "discount": "1.00"}, {"sku": "BOWL"}]
    placed = store.sandbox.place_order("acme", lines, address=ADDRESS, shipping_price="5.00")
    order = read(store, placed["id"])
    assert order["name"] == "#1001"
    assert order["displayFinancialStatus"] == "PAID"
    assert order["displayFulfillmentStatus"] == "UNFULFILLED"
    assert order["currentTotalPriceSet"]["shopMoney"] == {"amount": "56.60", "currencyCode": "USD"}
    assert order["shippingAddress"] == {
        "name": "Ada Brooks",
        "address1": "12 Oak St",
        "city": "Boston",
        "provinceCode": "MA",
        "zip": "02108",
        "countryCodeV2": "US",
    }
    assert [(x["sku"], x["currentQuantity"]) for x in order["lineItems"]["nodes"]] == [
        ("MUG", 2),
        ("BOWL", 1),
    ]
    part = order["fulfillmentOrders"]["nodes"][0]
    assert part["status"] == "OPEN"
    assert [line["remainingQuantity"] for line in part["lineItems"]["nodes"]] == [2, 1]


def test_many_orders_are_read_by_nodes(store: Store) -> None:
    ids = [
        f"gid://shopify/Order/{store.sandbox.place_order('acme', [{'sku': 'MUG'}])['id']}" for _ in range(3)
    ]
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id ... on Order { name test } } }"
    answer = store.gql(query, ids=[*ids, "gid://shopify/Order/1"])["nodes"]
    assert [node and node["name"] for node in answer] == ["#1001", "#1002", "#1003", None]
    assert answer[0]["__typename"] == "Order"


# --- fulfilment -------------------------------------------------------------------------------------------
def test_fulfilling_in_two_parts_and_never_more_than_remains(store: Store) -> None:
    placed = store.sandbox.place_order("acme", [{"sku": "MUG", "quantity": 3}])
    part = read(store, placed["id"])["fulfillmentOrders"]["nodes"][0]
    line = part["lineItems"]["nodes"][0]["id"]

    def ship(quantity: int, number: str) -> dict:
        lines = [{"id": line, "quantity": quantity}]
        entry = {"fulfillmentOrderId": part["id"], "fulfillmentOrderLineItems": lines}
        tracking = {"company": "UPS", "number": number, "url": f"https://example.com/{number}"}
        given = {"lineItemsByFulfillmentOrder": [entry], "trackingInfo": tracking, "notifyCustomer": True}
        return store.gql(FULFIL, f=given)["fulfillmentCreate"]

    assert ship(4, "1Z0")["userErrors"][0]["message"].endswith("3 remain.")
    assert ship(1, "1Z1")["fulfillment"]["trackingInfo"] == [
        {"company": "UPS", "number": "1Z1", "url": "https://example.com/1Z1"}
    ]
    order = read(store, placed["id"])
    assert order["displayFulfillmentStatus"] == "PARTIALLY_FULFILLED"
    assert order["fulfillmentOrders"]["nodes"][0]["status"] == "IN_PROGRESS"
    assert ship(2, "1Z2")["userErrors"] == []
    order = read(store, placed["id"])
    assert order["displayFulfillmentStatus"] == "FULFILLED"
    assert order["fulfillmentOrders"]["nodes"][0]["status"] == "CLOSED"
    assert "unfulfillable status= closed" in ship(1, "1Z3")["userErrors"][0]["message"]
    stock = store.sandbox.stock("acme", "MUG")["MUG"]["locations"]
    assert [(level["available"], level["committed"]) for level in stock.values()] == [(7, 0)]
    assert [f["tracking"] for f in store.sandbox.fulfilments("acme")] == [["1Z1"], ["1Z2"]]


def test_one_call_is_for_one_location(sandbox: SandboxClient, http: httpx.Client) -> None:
    goods = [{"sku": "MUG", "stock": {"East": 1, "West": 1}}]
    store = Store(sandbox, http, locations=[{"name": "East"}, {"name": "West"}], catalogue=goods)
    placed = sandbox.place_order("acme", [{"sku": "MUG", "quantity": 2}])
    parts = read(store, placed["id"])["fulfillmentOrders"]["nodes"]
    assert len(parts) == 2
    both = {"lineItemsByFulfillmentOrder": [{"fulfillmentOrderId": part["id"]} for part in parts]}
    assert "same location" in store.gql(FULFIL, f=both)["fulfillmentCreate"]["userErrors"][0]["message"]
    for part in parts:
        one = {"lineItemsByFulfillmentOrder": [{"fulfillmentOrderId": part["id"]}]}
        assert store.gql(FULFIL, f=one)["fulfillmentCreate"]["userErrors"] == []
    assert read(store, placed["id"])["displayFulfillmentStatus"] == "FULFILLED"


def test_a_held_order_cannot_be_fulfilled(store: Store) -> None:
    placed = store.sandbox.place_order("acme", [{"sku": "MUG"}])
    store.sandbox.act("acme", placed["id"], "hold", reason="HIGH_RISK_OF_FRAUD")
    order = read(store, placed["id"])
    assert order["displayFulfillmentStatus"] == "ON_HOLD"
    one = {
        "lineItemsByFulfillmentOrder": [{"fulfillmentOrderId": order["fulfillmentOrders"]["nodes"][0]["id"]}]
    }
    assert "on_hold" in store.gql(FULFIL, f=one)["fulfillmentCreate"]["userErrors"][0]["message"]


# --- cancel and refund --------------------------------------------------------------------------------------
def test_cancelling_once(store: Store) -> None:
    placed = store.sandbox.place_order("acme", [{"sku": "MUG", "quantity": 2}])
    gid = f"gid://shopify/Order/{placed['id']}"
    done = store.gql(CANCEL, id=gid, restock=True)["orderCancel"]
    assert done["orderCancelUserErrors"] == [] and done["job"]["done"] is True
    order = read(store, placed["id"])
    assert order["cancelReason"] == "INVENTORY" and order["displayFinancialStatus"] == "REFUNDED"
    assert order["currentTotalPriceSet"]["shopMoney"]["amount"] == "0.00"
    assert store.sandbox.available("acme", "MUG") == 10
    again = store.gql(CANCEL, id=gid, restock=True)["orderCancel"]["orderCancelUserErrors"]
    assert again[0]["code"] == "INVALID" and "already been canceled" in again[0]["message"]
    assert store.sandbox.shop("acme")["counts"]["cancelled_no_stock"] == 1


def test_cancelling_without_restock_leaves_the_stock_to_the_merchant(store: Store) -> None:
    placed = store.sandbox.place_order("acme", [{"sku": "MUG", "quantity": 2}])
    store.gql(CANCEL, id=f"gid://shopify/Order/{placed['id']}", restock=False)
    level = next(iter(store.sandbox.stock("acme", "MUG")["MUG"]["locations"].values()))
    assert (level["available"], level["committed"]) == (8, 0)


def test_a_refund_happens_once_and_never_beyond_what_was_paid(store: Store) -> None:
    placed = store.sandbox.place_order("acme", [{"sku": "MUG", "quantity": 2}])
    order = read(store, placed["id"])
    line, parent = order["lineItems"]["nodes"][0]["id"], order["transactions"][0]["id"]

    def given(amount: str, quantity: int) -> dict:
        money = {"orderId": order["id"], "kind": "REFUND", "gateway": "shopify_payments", "amount": amount}
        return {
            "orderId": order["id"],
            "refundLineItems": [{"lineItemId": line, "quantity": quantity, "restockType": "NO_RESTOCK"}],
            "transactions": [{**money, "parentId": parent}],
        }

    first = store.gql(REFUND, i=given("14.00", 1), k="r1")["refundCreate"]
    assert first["order"]["displayFinancialStatus"] == "PARTIALLY_REFUNDED"
    again = store.gql(REFUND, i=given("14.00", 1), k="r1")["refundCreate"]
    assert again["refund"] == first["refund"]
    assert [refund["amount"] for refund in store.sandbox.refunds("acme")] == ["14.00"]
    changed = store.gql(REFUND, i=given("13.00", 1), k="r1")["refundCreate"]["userErrors"]
    assert "same idempotency key" in changed[0]["message"]
    beyond = store.gql(REFUND, i=given("14.01", 1), k="r2")["refundCreate"]["userErrors"]
    assert beyond[0]["message"].endswith("refundable amount of 14.00")
    twice = store.gql(REFUND, i=given("1.00", 2), k="r3")["refundCreate"]["userErrors"]
    assert "1 can still be refunded" in twice[0]["message"]
    assert store.sandbox.available("acme", "MUG") == 8


# --- cost -----------------------------------------------------------------------------------------------------
def test_the_bucket_empties_and_refills(sandbox: SandboxClient, http: httpx.Client) -> None:
    store = Store(sandbox, http, settings={"points_per_second": 1, "points_bucket": 120})
    query = "{ orders(first: 50) { nodes { id } } }"
    sandbox.place_order("acme", [{"sku": "MUG"}])
    answer = store.raw(query).json()
    assert answer["extensions"]["cost"]["requestedQueryCost"] == 50
    assert answer["extensions"]["cost"]["actualQueryCost"] == 1
    for number in range(8):
        assert store.set(f"k{number}", ("MUG", number, None))["userErrors"] == []
    throttled = store.raw(query)
    assert throttled.status_code == 200
    assert throttled.json()["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert throttled.json()["extensions"]["cost"]["throttleStatus"]["restoreRate"] == 1
    sandbox.advance(60)
    assert "data" in store.raw(query).json()


# --- webhooks -------------------------------------------------------------------------------------------------
def test_the_signature_vector(shared_dir) -> None:
    vector = json.loads((shared_dir / "specs/signature_vectors.json").read_text())["shopify"]
    assert sign(vector["secret"], vector["raw_body"].encode()) == vector["header"]


def test_a_signature_worked_by_another_tool() -> None:
    # printf '{"id":1}' | openssl dgst -sha256 -hmac secret -binary | base64
    assert sign("secret", b'{"id":1}') == "A971iWIMgT8Zj9A9eWfikrFj7wQ16/Qwcc4OlRl2PLc="


def test_webhooks_are_signed_and_rest_shaped(store: Store, receiver: Receiver) -> None:
    made = store.gql(SUBSCRIBE, t="ORDERS_CREATE", s={"uri": receiver.url, "format": "JSON"})
    assert made["webhookSubscriptionCreate"]["webhookSubscription"]["topic"] == "ORDERS_CREATE"
    store.gql(SUBSCRIBE, t="INVENTORY_LEVELS_UPDATE", s={"uri": receiver.url})
    placed = store.sandbox.place_order("acme", [{"sku": "MUG", "quantity": 2}], address=ADDRESS)
    assert store.sandbox.wait_until(lambda: len(receiver.got) == 2)
    headers, body = next(x for x in receiver.got if x[0]["x-shopify-topic"] == "orders/create")
    digest = hmac.new(store.facts["credentials"]["client_secret"].encode(), body, hashlib.sha256).digest()
    assert headers["x-shopify-hmac-sha256"] == base64.b64encode(digest).decode()
    assert headers["x-shopify-shop-domain"] == "acme.myshopify.com"
    assert headers["x-shopify-api-version"] == "2026-10"
    order = json.loads(body)
    assert order["id"] == int(placed["id"])
    assert order["admin_graphql_api_id"] == f"gid://shopify/Order/{placed['id']}"
    assert [(line["sku"], line["quantity"]) for line in order["line_items"]] == [("MUG", 2)]
    assert receiver.bodies("inventory_levels/update")[0]["available"] == 8


def test_retries_keep_the_delivery_id_and_giving_up_deletes_the_subscription(
    sandbox: SandboxClient, http: httpx.Client, receiver: Receiver
) -> None:
    store = Store(
        sandbox, http, webhooks={"ORDERS_CREATE": receiver.url}, settings={"webhook_retry_seconds": [0, 0]}
    )
    receiver.answers = [500]
    sandbox.place_order("acme", [{"sku": "MUG"}])
    assert sandbox.wait_until(lambda: bool(sandbox.deliveries(state="failed")))
    assert len({headers["x-shopify-webhook-id"] for headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 3
    query = "{ webhookSubscriptions(first: 5) { nodes { id } } }"
    assert store.gql(query)["webhookSubscriptions"]["nodes"] == []


def test_lost_doubled_and_resent_messages(
    sandbox: SandboxClient, http: httpx.Client, receiver: Receiver
) -> None:
    Store(sandbox, http, webhooks={"ORDERS_CREATE": receiver.url})
    sandbox.faults("acme", webhook_loss_rate=1)
    sandbox.place_order("acme", [{"sku": "MUG"}])
    assert [d["state"] for d in sandbox.deliveries()] == ["lost"]
    sandbox.faults("acme", webhook_loss_rate=0, webhook_duplicate_rate=1)
    sandbox.place_order("acme", [{"sku": "MUG"}])
    assert sandbox.wait_until(lambda: len(receiver.got) == 2)
    sandbox.resend(sandbox.deliveries(state="delivered")[0]["number"], times=3)
    assert sandbox.wait_until(lambda: len(receiver.got) == 5)
    assert len({headers["x-shopify-webhook-id"] for headers, _ in receiver.got}) == 1
    assert len({body for _, body in receiver.got}) == 1


def test_addresses_shopify_would_not_call_are_refused(store: Store, receiver: Receiver) -> None:
    plain = store.gql(SUBSCRIBE, t="ORDERS_CREATE", s={"uri": "http://oms.example.com/hooks"})
    assert "not supported" in plain["webhookSubscriptionCreate"]["userErrors"][0]["message"]
    store.gql(SUBSCRIBE, t="ORDERS_CREATE", s={"uri": receiver.url})
    twice = store.gql(SUBSCRIBE, t="ORDERS_CREATE", s={"uri": receiver.url})
    assert "already been taken" in twice["webhookSubscriptionCreate"]["userErrors"][0]["message"]


# --- what buyers do -------------------------------------------------------------------------------------------
def test_pending_paid_edited_and_returned(store: Store, receiver: Receiver) -> None:
    for topic in ("ORDERS_PAID", "ORDERS_EDITED", "RETURNS_APPROVE"):
        store.gql(SUBSCRIBE, t=topic, s={"uri": receiver.url})
    placed = store.sandbox.place_order("acme", [{"sku": "MUG", "quantity": 2}], payment="pending")
    assert read(store, placed["id"])["displayFinancialStatus"] == "PENDING"
    assert store.sandbox.available("acme", "MUG") == 8
    store.sandbox.act("acme", placed["id"], "pay")
    assert read(store, placed["id"])["displayFinancialStatus"] == "PAID"
    store.sandbox.act(
        "acme", placed["id"], "edit", lines=[{"sku": "MUG", "quantity": 1}, {"sku": "BOWL", "quantity": 2}]
    )
    order = read(store, placed["id"])
    assert [(x["sku"], x["currentQuantity"]) for x in order["lineItems"]["nodes"]] == [
        ("MUG", 1),
        ("BOWL", 2),
    ]
    assert store.sandbox.available("acme", "MUG") == 9 and store.sandbox.available("acme", "BOWL") == 2
    one = {
        "lineItemsByFulfillmentOrder": [{"fulfillmentOrderId": order["fulfillmentOrders"]["nodes"][0]["id"]}]
    }
    assert store.gql(FULFIL, f=one)["fulfillmentCreate"]["userErrors"] == []
    store.sandbox.act(
        "acme", placed["id"], "return", lines=[{"sku": "BOWL", "quantity": 1}], reason="DEFECTIVE"
    )
    query = """query($id: ID!) { order(id: $id) { returnStatus returns(first: 5) { nodes { status totalQuantity
      returnLineItems(first: 5) { nodes { quantity returnReason ... on ReturnLineItem {
        fulfillmentLineItem { lineItem { sku } } } } } } } } }"""
    back = store.gql(query, id=order["id"])["order"]
    assert back["returnStatus"] == "IN_PROGRESS"
    line = back["returns"]["nodes"][0]["returnLineItems"]["nodes"][0]
    assert line == {
        "quantity": 1,
        "returnReason": "DEFECTIVE",
        "fulfillmentLineItem": {"lineItem": {"sku": "BOWL"}},
    }
    assert store.sandbox.wait_until(lambda: len(receiver.got) == 3)
