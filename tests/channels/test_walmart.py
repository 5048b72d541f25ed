"""Walmart: the official contract and samples, signatures, and the whole way against a played seller."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema
import pytest
from django.test import Client

from channels import accounts, effects, inbox, pulls
from channels.connectors.base import (
    Access,
    BadSignature,
    CancelOrder,
    ChannelError,
    Confirmation,
    ListingRef,
    PushItem,
    RefundItem,
    RefundOrder,
    Retry,
    ShipItem,
)
from channels.connectors.walmart import client as walmart_client
from channels.connectors.walmart import mapper, webhooks
from channels.connectors.walmart.client import CARRIER_NAMES, Walmart
from channels.models import ChannelEffect, InboxMessage, Listing
from channels.sandbox.walmart import contract as played
from channels.session import do
from inventory.models import StockLevel
from oms.core import http, limits, outbox
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.errors import UserError
from oms.core.http import HttpAnswer, HttpRequest, Kind, classify
from oms.core.models import TokenBucket
from oms.orders import services
from oms.orders.models import Order, OrderLine
from oms.orders.validation import money_gap, normalise
from returns import refunds
from returns.models import Refund, Rma
from tests.channels.conftest import SKUS, Shop, deliver, push_all
from tests.channels.test_connectors import play
from tests.channels.test_effects import shipped, work
from tests.factories import add_stock

ACCESS = Access(
    9,
    "walmart",
    "walmart",
    {"notifications": "basic"},
    {"client_id": "c", "client_secret": "s"},
    {"access_token": "t"},
)
NODE = "10000003527"
J = dict[str, Any]


# --- the official contract -------------------------------------------------------------------------


class Contract:
    """The published OpenAPI files, every object closed."""

    FILES = ("authentication", "orders", "inventory", "feeds", "returns", "notifications")

    def __init__(self, folder: Path) -> None:
        self.operations: list[tuple[str, re.Pattern[str], J]] = []
        for name in self.FILES:
            document = json.loads((folder / f"us_mp_{name}.json").read_text())
            for path, methods in document["paths"].items():
                pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
                for method, operation in methods.items():
                    self.operations.append((method.upper(), pattern, operation))

    def find(self, method: str, path: str) -> J:
        return next(o for m, pattern, o in self.operations if m == method and pattern.fullmatch(path))

    def close(self, schema: Any, *, own: bool) -> Any:
        """Closed; `own` adds a required list to each object that has none, but for fields that we never send."""
        if isinstance(schema, list):
            return [self.close(one, own=own) for one in schema]
        if not isinstance(schema, dict):
            return schema
        made = {
            name: self.close(inner, own=own)
            for name, inner in schema.items()
            if name not in ("xml", "example")
        }
        if isinstance(schema.get("properties"), dict):
            made.setdefault("additionalProperties", False)
            if own and not schema.get("required"):
                made["required"] = [name for name in schema["properties"] if name in OWN_REQUIRED]
        return made

    def request(self, request: HttpRequest) -> list[str]:
        parts = urlsplit(request.url)
        operation = self.find(request.method, parts.path)
        wrong: list[str] = (
            [] if parts.hostname == "marketplace.walmartapis.com" else [f"host {parts.hostname}"]
        )
        headers = {name.lower() for name in request.headers}
        if request.json is not None or request.data is not None:
            headers.add("content-type")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        assert request.params is None
        known = {p["name"] for p in operation["parameters"] if p["in"] == "query"}
        for parameter in operation["parameters"]:
            name, inner = parameter["name"], parameter["schema"]
            if parameter["in"] == "header" and parameter.get("required") and name.lower() not in headers:
                wrong.append(f"header {name} is missing")
            if parameter["in"] == "query" and parameter.get("required") and not query.get(name):
                wrong.append(f"query {name} is missing")
            if (
                parameter["in"] == "query"
                and name in query
                and query[name] not in inner.get("enum", [query[name]])
            ):
                wrong.append(f"query {name}={query[name]}")
        further = {
            "hasMoreElements",
            "poIndex",
            "soIndex",
            "partnerId",
            "sellerId",
            "offset",
        }  # of Walmart's own cursor
        wrong += [f"unknown query {name}" for name in query if name not in known | further]
        wrong += self.body(operation, request)
        return wrong

    def body(self, operation: J, request: HttpRequest) -> list[str]:
        content = operation.get("requestBody", {}).get("content")
        if not content:
            given = request.json is not None or request.content or request.data
            return ["a body where none belongs"] if given else []
        if request.data is not None:
            schema = content["application/x-www-form-urlencoded"]["schema"]
            return self.errors(schema, dict(request.data), own=False)
        if "multipart/form-data" in content:
            document = json.loads(
                bytes(request.content or b"").split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
            )
            examples = content["multipart/form-data"]["examples"]
            shapes = [shape(one["value"]) for one in examples.values() if isinstance(one["value"], dict)]
            return (
                [] if shape(document) in shapes else [f"the feed is of no official shape: {shape(document)}"]
            )
        return self.errors(content["application/json"]["schema"], request.json, own=True)

    def errors(self, schema: J, body: Any, *, own: bool) -> list[str]:
        checker = jsonschema.Draft4Validator(self.close(schema, own=own))
        return [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in checker.iter_errors(body)]

    def answer(self, request: HttpRequest, answer: HttpAnswer) -> list[str]:
        path = urlsplit(request.url).path
        if path.startswith("/v3/webhooks"):
            return []  # the contract's own examples do not fit its schema
        content = self.find(request.method, path)["responses"]["200"]["content"]["application/json"]
        told = json.loads(answer.content)
        if request.method == "GET" and "order" in told:
            # the schema of a single order contradicts its own example (a wrapper, orderDate as a text): an order is
            # the same thing in the list
            listed = self.find("GET", "/v3/orders")["responses"]["200"]["content"]["application/json"][
                "schema"
            ]
            orders = listed["properties"]["list"]["properties"]["elements"]["properties"]["order"]
            return self.errors(orders, [told["order"]], own=False)
        return self.errors(content["schema"], told, own=False)


#: what the calls need although the contract's file marks nothing at that place as required
OWN_REQUIRED = {
    "orderShipment",
    "orderCancellation",
    "orderRefund",
    "refundCharge",
    "events",
    "authMethod",
    "content-type",
}


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])]
    return type(value).__name__ if not isinstance(value, str) else "str"


@pytest.fixture(scope="session")
def contract(shared_dir: Path) -> Contract:
    return Contract(shared_dir / "specs" / "walmart")


def test_the_contract_test_finds_what_is_wrong(contract: Contract) -> None:
    """A checker that finds nothing proves nothing."""
    _, asked = play(
        Walmart().push_quantities(ACCESS, [item(1, "A B/C")]),
        {"sku": "A B/C", "quantity": {"unit": "EACH", "amount": 5}},
    )
    good = asked[0]
    assert contract.request(good) == []
    assert good.url.endswith("/v3/inventory?sku=A%20B%2FC&shipNode=10000003527")
    assert contract.request(replace(good, json={"sku": "A", "quantity": {"unit": "EACH", "amunt": 5}}))
    assert contract.request(replace(good, headers={}))
    assert contract.request(replace(good, url=good.url + "&nod=1"))
    assert contract.request(replace(good, url="https://marketplace.walmartapis.com/v3/inventory"))


def test_our_lists_are_the_contract_s_lists(contract: Contract) -> None:
    def dig(schema: J, *names: str) -> Any:
        for name in names:
            schema = schema["items"] if name == "[]" else schema["properties"][name]
        return schema

    lines = ("orderLines", "orderLine", "[]")
    status = ("orderLineStatuses", "orderLineStatus", "[]")

    def body(action: str) -> J:
        found = contract.find("POST", f"/v3/orders/1/{action}")["requestBody"]["content"]["application/json"][
            "schema"
        ]
        assert isinstance(found, dict)
        return found

    carriers = dig(
        body("shipping"), "orderShipment", *lines, *status, "trackingInfo", "carrierName", "carrier"
    )["enum"]
    assert list(CARRIER_NAMES) == carriers == played.CARRIERS
    assert set(walmart_client.CARRIERS.values()) == set(carriers)
    methods = dig(body("shipping"), "orderShipment", *lines, *status, "trackingInfo", "methodCode")["enum"]
    assert list(walmart_client.METHODS) == methods == played.METHODS
    reasons = dig(body("cancel"), "orderCancellation", *lines, *status, "cancellationReason")["enum"]
    assert set(walmart_client.CANCEL_REASONS.values()) | {walmart_client.BUYER_ASKED} == set(reasons)
    assert reasons == played.CANCEL_REASONS
    refund = dig(
        body("refund"), "orderRefund", *lines, "refunds", "refund", "[]", "refundCharges", "refundCharge", "[]",
        "refundReason",
    )["enum"]  # fmt: skip
    assert {"Customer returned item", "Finance -> Goodwill"} < set(refund) and refund == played.REFUND_REASONS


def line(number: str = "1", quantity: int = 1, price: float = 10, tax: float = 0.8, **more: Any) -> J:
    statuses = more.pop("statuses", [("Acknowledged", quantity)])
    return {
        "lineNumber": number, "item": {"sku": f"SKU{number}", "productName": f"Item {number}"},
        "charges": {"charge": [
            {"chargeType": "PRODUCT", "chargeName": "ItemPrice", "chargeAmount": {"currency": "USD", "amount": price},
             "tax": {"taxName": "Tax1", "taxAmount": {"currency": "USD", "amount": tax}}},
        ]},
        "orderLineQuantity": {"unitOfMeasurement": "EACH", "amount": str(quantity)}, "statusDate": 1790000100123,
        "orderLineStatuses": {"orderLineStatus": [
            {"status": name, "statusQuantity": {"unitOfMeasurement": "EACH", "amount": str(units)}, **rest}
            for name, units, rest in ((*s, {})[:3] for s in statuses)
        ]}, **more,
    }  # fmt: skip


def order(*lines: J, **more: Any) -> J:
    return {
        "purchaseOrderId": "1796277083022", "customerOrderId": "5281956426648", "customerEmailId": "x@relay.example",
        "orderDate": 1790000000000,
        "shippingInfo": {
            "phone": "5550100", "estimatedDeliveryDate": 1790600000000, "estimatedShipDate": 1790200000000,
            "methodCode": "Value",
            "postalAddress": {"name": "Ada", "address1": "12 Oak", "city": "Boston", "state": "MA",
                              "postalCode": "02108", "country": "USA"},
        },
        "orderLines": {"orderLine": list(lines)}, **more,
    }  # fmt: skip


def item(listing_id: int, sku: str, quantity: int = 5, node: str = NODE) -> PushItem:
    return PushItem(listing_id, sku, sku, node, quantity, f"{listing_id}:1")


PARCEL = Confirmation(
    "1796277083022", "77", "UPS", "UPS", "ground", "1Z1", "", dt.datetime(2026, 11, 26, 8, tzinfo=dt.UTC),
    (ShipItem("1", 2), ShipItem("2", 1)),
)  # fmt: skip
REFUND = RefundOrder(
    "1796277083022", "RF-1", "k", Decimal("15.90"), Decimal("5.00"), "USD",
    (RefundItem("1", 1, Decimal("10.80")), RefundItem("2", 0, Decimal("1.10"))), fee=Decimal("1.00"), reason="broken",
)  # fmt: skip
SENT = order(line("1", 2, statuses=[("Shipped", 2)]), line("2", 1, statuses=[("Shipped", 1)]))


def test_every_request_fits_the_official_contract(contract: Contract) -> None:
    """Every request the connector can make, with the answers' official shapes."""
    one = Walmart()
    taken = order(line("1", 3), line("2", 1, statuses=[("Created", 1)], intentToCancel="true"))
    done: J = {"order": taken}
    inventory = {"sku": "MUG", "quantity": {"unit": "EACH", "amount": 5}}
    inventories = {"meta": {"totalCount": 1}, "elements": {"inventories": []}}
    page = {"list": {"meta": {"totalCount": 0}, "elements": {"order": []}}}
    pool = {"headers": {"totalCount": 1}, "payload": {"inventory": [{"sku": "W", "shipNodes": []}]}}
    feed = {"feedStatus": "PROCESSED", "itemsFailed": 0, "itemsSucceeded": 2}
    asleep = {
        "eventType": "PO_CREATED",
        "subscriptionId": "s1",
        "eventUrl": "https://o.example/h",
        "status": "INACTIVE",
    }
    hooks: J = {"events": [asleep]}
    hmac_way = replace(ACCESS, config={"notifications": "hmac"})
    other = replace(
        PARCEL, carrier="Pony Express", carrier_name="Pony Express", tracking_url="https://pony.example/1"
    )
    since = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    runs = [
        play(one.refresh_token(ACCESS), {"access_token": "t", "expires_in": 900}),
        play(one.refresh_token(replace(ACCESS, credentials={**ACCESS.credentials, "refresh_token": "r"})),
             {"access_token": "t", "expires_in": 900}),
        play(one.probe(ACCESS), page, inventories),
        play(one.list_orders(ACCESS, "2026-11-20T10:00:00Z", ""), page),
        play(one.list_orders(ACCESS, "", "1|2026-11-20T10:00:00Z|?limit=200&hasMoreElements=true&poIndex=200"), page),
        play(one.get_orders(ACCESS, ["1796277083022"]), done),
        play(one.acknowledge(ACCESS, "1796277083022"), done),
        play(one.push_quantities(ACCESS, [item(1, "MUG"), item(2, "MUG", node="")]), inventory, inventory),
        play(one.push_bulk(ACCESS, [item(1, "A"), item(2, "A", node="2"), item(3, "B")]), {"feedId": "F@1"}),
        play(one.push_bulk(ACCESS, [item(1, "A", node=""), item(2, "B", node="")]), {"feedId": "F@1"}),
        play(one.bulk_result(ACCESS, "F@1", [item(1, "A"), item(3, "B")]), feed),
        play(one.read_quantities(ACCESS, [ListingRef(1, "MUG", "MUG", NODE)]), inventory),
        play(one.read_quantities(ACCESS, [ListingRef(n, "MUG", "MUG", NODE) for n in range(51)]), inventories),
        play(one.list_listings(ACCESS, ""), inventories),
        play(one.list_listings(ACCESS, "own|abc"), inventories),
        play(one.pool_levels(ACCESS, since, "300"), pool),
        play(one.confirm_shipment(ACCESS, PARCEL), done, done, done),
        play(one.confirm_shipment(ACCESS, other), done, done, done),
        play(one.read_shipment(ACCESS, PARCEL), done),
        play(one.cancel(ACCESS, CancelOrder("1796277083022", "CX", "no_stock", (ShipItem("1", 1),))), done, done),
        play(one.cancel(ACCESS, CancelOrder("1796277083022", "CX", "buyer")), done, done),
        play(one.cancelled(ACCESS, CancelOrder("1796277083022", "CX", "buyer")), done),
        play(one.refund(ACCESS, REFUND), {"order": SENT}, {"order": SENT}),
        play(one.find_refund(ACCESS, REFUND), {"order": SENT}),
        play(one.list_returns(ACCESS, since),
             {"meta": {"nextCursor": "?offset=200&limit=200"}, "returnOrders": [{"returnOrderId": "1"}]},
             {"meta": {"nextCursor": ""}, "returnOrders": []}),
        play(one.ensure_subscriptions(ACCESS, "https://o.example/h"), hooks, {}, hooks),
        play(one.ensure_subscriptions(hmac_way, "https://o.example/h"), hooks, {}, hooks),
    ]  # fmt: skip
    asked = [request for _, requests in runs for request in requests]
    wrong = [f"{r.method} {r.url}: {problem}" for r in asked for problem in contract.request(r)]
    assert wrong == []
    called = {(r.method, re.sub(r"/(\d{6,}|F%40\d|s1)", "/x", urlsplit(r.url).path)) for r in asked}
    assert len(called) == 17
    assert all(
        r.budget_headers and r.allowed_hosts == (walmart_client.HOST,) for r in asked if "/token" not in r.url
    )
    writes = {urlsplit(r.url).path.rpartition("/")[2] for r in asked if not r.safe_to_repeat}
    assert writes == {"shipping", "cancel", "refund", "feeds", "subscriptions"}
    numbers = [r.headers["WM_QOS.CORRELATION_ID"] for r in asked]
    assert len(set(numbers)) == len(numbers)


# --- mapping ---------------------------------------------------------------------------------------


def samples(shared_dir: Path) -> list[J]:
    entries = json.loads((shared_dir / "data/payloads/walmart/us_mp_orders_examples.json").read_text())
    found: list[J] = []

    def dig(value: Any) -> None:
        if isinstance(value, dict):
            if "purchaseOrderId" in value and "shippingInfo" in value:
                found.append(value)
            else:
                for inner in value.values():
                    dig(inner)
        elif isinstance(value, list):
            for inner in value:
                dig(inner)

    dig([entry["response_example"] for entry in entries])
    return found


def test_every_official_order_is_read_to_the_cent(shared_dir: Path) -> None:
    found = {}
    for sample in samples(shared_dir):
        draft = normalise(mapper.order_draft(sample))
        assert money_gap(draft) == 0
        found[draft.external_id] = draft
    assert len(found) >= 11
    first = found["1796277083022"]
    assert (first.kind, first.external_number, first.status) == ("replacement", "5281956426648", "open")
    assert first.placed_at.isoformat() == "2019-09-14T13:09:31+00:00"
    assert first.ship_by is not None and first.ship_by.isoformat() == "2019-09-17T06:00:00+00:00"
    assert (first.lines[0].external_id, first.lines[0].external_sku) == ("4", "test1")
    assert (first.lines[0].unit_price, first.tax, first.total) == (
        Decimal(10),
        Decimal("0.80"),
        Decimal("10.80"),
    )
    shipped_one = found["3796050123784"]
    assert (shipped_one.status, shipped_one.total) == ("shipped", Decimal("10.84"))
    assert (shipped_one.lines[0].shipped, shipped_one.lines[0].cancelled) == (1, 0)
    gone = found["3796235970012"]
    assert (gone.status, gone.lines[0].cancelled, gone.total) == ("cancelled", 1, 0)
    exact = found["1815367951431"]
    assert exact.channel_updated_at.isoformat() == "2021-06-16T09:30:55.623000+00:00"
    assert (exact.total, exact.contact and exact.contact.country) == (Decimal("5.34"), "US")


@pytest.mark.parametrize(
    ("statuses", "status", "shipped_units", "cancelled"),
    [
        ([("Created", 3)], "open", 0, 0),
        ([("Acknowledged", 3)], "open", 0, 0),
        ([("Shipped", 2), ("Cancelled", 1)], "shipped", 2, 1),
        ([("Shipped", 1), ("Acknowledged", 1), ("Cancelled", 1)], "open", 1, 1),
        ([("Delivered", 3)], "delivered", 3, 0),
        ([("Delivered", 2), ("Shipped", 1)], "shipped", 3, 0),
        ([("Cancelled", 3)], "cancelled", 0, 3),
        ([("Refund", 3)], "shipped", 3, 0),
        ([("Refund", 1), ("Delivered", 2)], "delivered", 3, 0),
    ],
)
def test_statuses_are_counted_by_unit(statuses: Any, status: str, shipped_units: int, cancelled: int) -> None:
    draft = mapper.order_draft(order(line(quantity=3, statuses=statuses)))
    assert (draft.status, draft.lines[0].shipped, draft.lines[0].cancelled) == (
        status,
        shipped_units,
        cancelled,
    )


def test_money_charges_and_wishes() -> None:
    rows = line("1", 2, 19.98, 1.6)
    usd = {"currency": "USD", "amount": 4.99}
    rows["charges"]["charge"] += [
        {"chargeType": "PRODUCT", "chargeName": "SubscriptionDiscount",
         "chargeAmount": {"currency": "USD", "amount": -0.99}},
        {"chargeType": "SHIPPING", "chargeName": "Shipping", "chargeAmount": usd,
         "tax": {"taxName": "T", "taxAmount": {"currency": "USD", "amount": 0.4}}},
        {"chargeType": "FEE", "chargeName": "Recycling", "chargeAmount": {"currency": "USD", "amount": 0.25}},
    ]  # fmt: skip
    draft = mapper.order_draft(order(rows, line("2", intentToCancel="true")))
    mug = next(one for one in draft.lines if one.external_id == "1")
    fee = next(one for one in draft.lines if one.kind == "service")
    assert (mug.unit_price, mug.discount, mug.tax, fee.unit_price) == (
        Decimal("9.99"), Decimal("0.99"), Decimal("1.6"), Decimal("0.25"),
    )  # fmt: skip
    assert (draft.shipping, draft.tax, draft.total) == (Decimal("4.99"), Decimal("2.8"), Decimal("37.03"))
    assert money_gap(normalise(draft)) == 0 and draft.buyer_cancel_requested
    assert not mapper.order_draft(order(line(intentToCancel="false"))).buyer_cancel_requested
    assert not mapper.order_draft(
        order(line(intentToCancel="true", statuses=[("Shipped", 1)]))
    ).buyer_cancel_requested


def test_the_order_s_total_tells_whether_charges_are_per_unit() -> None:
    def told(total: float) -> Decimal | None:
        summary = {"totalAmount": {"currencyAmount": total, "currencyUnit": "USD"}}
        return mapper.order_draft(order(line("1", 3, 10, 0.8), orderSummary=summary)).total

    assert told(10.8) == Decimal("10.8")
    assert told(32.4) == Decimal("32.4")
    assert told(99) == Decimal("10.8")


@pytest.mark.parametrize(
    ("node", "by"), [("SellerFulfilled", "us"), ("WFSFulfilled", "channel"), ("3PLFulfilled", "channel")]
)
def test_what_walmart_ships_is_never_ours_to_ship(node: str, by: str) -> None:
    assert mapper.order_draft(order(line(), shipNode={"type": node})).fulfilled_by == by


def test_times_are_milliseconds_also_as_a_text() -> None:
    wanted = dt.datetime(2026, 9, 21, 14, 13, 20, tzinfo=dt.UTC)
    for told in (1790000000000, "1790000000000", "2026-09-21T14:13:20Z"):
        assert mapper.order_draft(order(line(), orderDate=told)).placed_at == wanted


def test_an_order_that_cannot_be_read_names_the_field() -> None:
    for broken, name in (
        (order(line(), orderDate="soon"), "orderDate"), (order(), "orderLines"),
        (order({**line(), "orderLineQuantity": {"amount": "1.5"}}), "orderLineQuantity"),
    ):  # fmt: skip
        with pytest.raises(mapper.Unfit, match=name):
            mapper.order_draft(broken)


def test_official_return(shared_dir: Path) -> None:
    spec = json.loads((shared_dir / "specs/walmart/us_mp_returns.json").read_text())
    content = spec["paths"]["/v3/returns"]["get"]["responses"]["200"]["content"]["application/json"]
    sample = content["example"]["returnOrders"][0]
    found = mapper.returns_of(sample)[0]
    assert (found.external_id, found.order_external_id, found.state) == (
        "103738048909818825",
        "4790210558890",
        "closed",
    )
    assert found.lines == (("1", 3, "ARRIVED_LATE"),)
    sample["returnOrderLines"][0] |= {"status": "INITIATED", "isKeepIt": True}
    kept = mapper.returns_of(sample)[0]
    assert (kept.state, kept.lines) == ("approved", ())


# --- notifications ---------------------------------------------------------------------------------

BODY = (
    b'{"eventType":"PO_CREATED","eventVersion":"V1","resourceName":"ORDER",'
    b'"payload":{"purchaseOrderId":"1796277083022"}}'
)
AT = dt.datetime.fromtimestamp(1795420800, dt.UTC)


def signed(**changes: str) -> dict[str, str]:
    return {
        ":method": "POST", ":path": "/hooks/walmart?x=1", "wm-sec.timestamp": "1795420800",
        "wm-sec.signature": "XzyAoQW4u91ArCzYgHc1tAQaCymYP+BtM1qjWljWRck=", **changes,
    }  # fmt: skip


def test_signature_vector() -> None:
    """Computed apart from this code: METHOD, path with query, timestamp, hex SHA-256 of the body, one to a line."""
    assert (
        webhooks.sign("wm_test_secret", "post", "/hooks/walmart?x=1", "1795420800", BODY)
        == signed()["wm-sec.signature"]
    )
    text = f"POST\n/hooks/walmart?x=1\n1795420800\n{hashlib.sha256(BODY).hexdigest()}".encode()
    assert webhooks.canonical("POST", "/hooks/walmart?x=1", "1795420800", BODY) == text
    found = webhooks.parse("wm_test_secret", "hmac", signed(), BODY, AT)[0]
    assert (found.topic, found.order_id, found.kind) == ("PO_CREATED", "1796277083022", "order")
    underscored = {name.replace("wm-sec", "wm_sec"): value for name, value in signed().items()}
    assert webhooks.parse("wm_test_secret", "hmac", underscored, BODY, AT)[0].order_id


@pytest.mark.parametrize(
    ("headers", "secret", "body", "at"),
    [
        (signed(), "other", BODY, AT),
        (signed(), "", BODY, AT),
        (signed(), "wm_test_secret", BODY + b" ", AT),
        (signed(**{":path": "/hooks/other"}), "wm_test_secret", BODY, AT),
        (signed(**{":method": "PUT"}), "wm_test_secret", BODY, AT),
        (signed(**{"wm-sec.timestamp": "1795420801"}), "wm_test_secret", BODY, AT),
        (signed(**{"wm-sec.signature": "ü"}), "wm_test_secret", BODY, AT),
        (signed(), "wm_test_secret", BODY, AT + dt.timedelta(hours=2)),
        ({}, "wm_test_secret", BODY, AT),
        ({"authorization": webhooks.basic("wm_test_secret")}, "wm_test_secret", BODY, AT),
    ],
)
def test_anything_else_is_refused(headers: dict[str, str], secret: str, body: bytes, at: dt.datetime) -> None:
    with pytest.raises(BadSignature):
        webhooks.parse(secret, "hmac", headers, body, at)


def test_a_password_proves_where_that_is_chosen() -> None:
    connector = Walmart()
    secret = webhooks.derived_secret("s")
    headers = {"authorization": webhooks.basic(secret)}
    assert connector.parse_push(ACCESS, headers, BODY)[0].order_id == "1796277083022"
    for wrong in ({}, {"authorization": webhooks.basic("s")}, {"authorization": "Basic ü"}, signed()):
        with pytest.raises(BadSignature):
            connector.parse_push(ACCESS, wrong, BODY)
    with pytest.raises(BadSignature):
        connector.parse_push(replace(ACCESS, credentials={}), {"authorization": webhooks.basic("")}, BODY)
    with pytest.raises(ValueError, match="not a JSON object"):
        connector.parse_push(ACCESS, headers, b"[]")


def test_what_a_message_speaks_of() -> None:
    headers = {"authorization": webhooks.basic(webhooks.derived_secret("s"))}

    def read(body: J) -> Any:
        return Walmart().parse_push(ACCESS, headers, json.dumps(body).encode())[0]

    alarm = {
        "source": {
            "eventType": "SELLER_PERFORMANCE_NOTIFICATIONS",
            "eventId": "e-1",
            "eventTime": "2026-05-30T12:00:00Z",
        },
        "payload": {},
    }
    told = read(alarm)
    assert (told.delivery_id, told.kind, told.event_at) == (
        "e-1",
        "other",
        dt.datetime(2026, 5, 30, 12, tzinfo=dt.UTC),
    )
    assert read({"eventType": "RETURN_NOTIFICATIONS", "payload": {"purchaseOrderId": "1"}}).kind == "return"
    assert (
        read({"eventType": "PO_CREATED", "payload": {}}).kind == "other"
    )  # an order event without its order
    empty = read({"eventType": "INVENTORY_OOS", "payload": {"sku": "MUG", "shipNode": NODE}})
    assert empty.kind == "quantity" and Walmart().told_quantity(empty.body) == ("MUG", NODE, 0)


# --- operations without a network ------------------------------------------------------------------


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(UserError) as caught:
        Walmart().check_config({"notifications": "fax"})
    assert caught.value.field == "notifications"


def test_a_token_lives_fifteen_minutes_less_one() -> None:
    tokens, asked = play(
        Walmart().refresh_token(ACCESS), {"access_token": "abc", "expires_in": 900, "token_type": "Bearer"}
    )
    assert tokens.values == {"access_token": "abc"}
    assert abs((tokens.expires_at - now()).total_seconds() - 840) < 5
    assert asked[0].headers["Authorization"] == "Basic Yzpz" and asked[0].data == {
        "grant_type": "client_credentials"
    }


def test_the_whole_list_is_read_for_each_kind_of_node() -> None:
    def page(*orders: J, cursor: str = "") -> J:
        return {"list": {"meta": {"nextCursor": cursor}, "elements": {"order": list(orders)}}}

    one = Walmart()
    since = (now() - dt.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    first, asked = play(
        one.list_orders(ACCESS, since, ""), page(order(line()), {"bad": 1}, cursor="?limit=200&poIndex=200")
    )
    assert (len(first.drafts), first.refused, first.resume) == (1, 1, "")
    query = dict(parse_qsl(urlsplit(asked[0].url).query))
    assert query["lastModifiedStartDate"] == since and query["shipNodeType"] == "SellerFulfilled"
    assert query["createdStartDate"] < since  # an old order that changed today is seen too
    second, asked = play(one.list_orders(ACCESS, since, first.cursor), page(order(line())))
    assert urlsplit(asked[0].url).query == "limit=200&poIndex=200"
    third, asked = play(one.list_orders(ACCESS, since, second.cursor), page())
    assert "WFSFulfilled" in asked[0].url
    last, asked = play(one.list_orders(ACCESS, since, third.cursor), page())
    assert "3PLFulfilled" in asked[0].url and last.cursor == ""
    assert abs((dt.datetime.fromisoformat(last.resume) - now()).total_seconds()) < 10


def failing(operation: Any, *steps: Any) -> tuple[Any, list[HttpRequest]]:
    """As `play`; a step that is an error is thrown into the operation."""
    asked: list[HttpRequest] = []
    try:
        asked.append(next(operation))
        for step in steps:
            if isinstance(step, ChannelError):
                asked.append(operation.throw(step))
            else:
                asked.append(operation.send(HttpAnswer(200, {}, json.dumps(step).encode(), 1)))
    except StopIteration as done:
        return done.value, asked
    raise AssertionError(f"the operation asks for more: {asked[-1].url}")


def test_one_refused_listing_stops_nobody() -> None:
    good = {"sku": "A", "quantity": {"unit": "EACH", "amount": 5}}
    by_walmart = replace(item(4, "W"), fulfilled_by_channel=True)
    items = [item(1, "A"), item(2, "GONE"), item(3, "C"), by_walmart, item(5, "E")]
    other = {"sku": "E", "quantity": {"unit": "EACH", "amount": 4}}
    refused = ChannelError(Retry.REJECTED, "no item", code="404")
    results, _ = failing(Walmart().push_quantities(ACCESS, items), good, refused, good, other)
    assert [one.failure for one in results] == [None, Retry.REJECTED, None, Retry.REJECTED, Retry.TRANSIENT]


def test_a_feed_answers_for_each_item() -> None:
    items = [item(n, f"S{n}") for n in range(1, 5)]
    bad = {
        "ingestionErrors": {
            "ingestionError": [{"type": "DATA_ERROR", "code": "ERR_1", "description": "no such SKU"}]
        }
    }
    details = [
        {"sku": "S1", "ingestionStatus": "SUCCESS"}, {"sku": "S2", "ingestionStatus": "DATA_ERROR", **bad},
        {"sku": "S3", "ingestionStatus": "SYSTEM_ERROR"},
    ]  # fmt: skip
    feed = {
        "feedStatus": "PROCESSED",
        "itemsSucceeded": 1,
        "itemsFailed": 2,
        "itemDetails": {"itemIngestionStatus": details},
    }
    results, _ = play(Walmart().bulk_result(ACCESS, "F", items), feed)
    assert [one.failure for one in results] == [None, Retry.REJECTED, Retry.TRANSIENT, Retry.TRANSIENT]
    assert results[1].message == "ERR_1: no such SKU"
    assert play(Walmart().bulk_result(ACCESS, "F", items), {"feedStatus": "INPROGRESS"})[0] is None
    failed, _ = play(Walmart().bulk_result(ACCESS, "F", items), {"feedStatus": "ERROR"})
    assert {one.failure for one in failed} == {Retry.TRANSIENT}


def test_a_refund_is_split_to_the_cent() -> None:
    _, asked = play(Walmart().refund(ACCESS, REFUND), {"order": SENT}, {"order": SENT})
    lines = asked[1].json["orderRefund"]["orderLines"]["orderLine"]

    def charges(row: J) -> list[tuple[str, float, float]]:
        found = row["refunds"]["refund"][0]["refundCharges"]["refundCharge"]
        return [
            (c["charge"]["chargeType"], c["charge"]["chargeAmount"]["amount"],
             c["charge"].get("tax", {"taxAmount": {"amount": 0}})["taxAmount"]["amount"])
            for c in found
        ]  # fmt: skip

    # 10.80 with tax less the fee of 1.00 is 9.80, of which 0.8/10.8 is tax; shipping goes with the first line
    assert charges(lines[0]) == [("PRODUCT", -9.07, -0.73), ("SHIPPING", -5.0, 0)]
    assert charges(lines[1]) == [("PRODUCT", -1.02, -0.08)]
    cents = sum(round(100 * (amount + tax)) for row in lines for _, amount, tax in charges(row))
    assert cents == -1590 == -round(100 * REFUND.amount)
    reasons = [
        row["refunds"]["refund"][0]["refundCharges"]["refundCharge"][0]["refundReason"] for row in lines
    ]
    assert reasons == ["Customer returned item", "Finance -> Goodwill"]
    text = json.dumps(asked[1].json)
    assert '"amount": -9.07' in text and "RF-1 broken" in text


def test_a_refund_that_is_there_is_not_paid_twice() -> None:
    noted = order(
        line("1", 1, statuses=[("Shipped", 1)], refund={"refundId": "R9", "refundComments": "RF-1 broken"})
    )
    value, asked = play(Walmart().refund(ACCESS, REFUND), {"order": noted})
    assert value == "R9" and len(asked) == 1
    assert (
        play(Walmart().find_refund(ACCESS, replace(REFUND, reference="RF-10")), {"order": noted})[0] is None
    )


def test_a_parcel_that_is_there_is_not_sent_twice() -> None:
    def under(tracking: str, units: int) -> tuple[str, int, J]:
        return ("Shipped", units, {"trackingInfo": {"trackingNumber": tracking}})

    half = order(line("1", 3, statuses=[under("1Z1", 2), ("Acknowledged", 1)]), line("2", 1))
    _, asked = play(Walmart().confirm_shipment(ACCESS, PARCEL), {"order": half}, {"order": half})
    assert [row["lineNumber"] for row in asked[1].json["orderShipment"]["orderLines"]["orderLine"]] == ["2"]
    whole = order(
        line("1", 3, statuses=[under("1Z1", 2), ("Acknowledged", 1)]),
        line("2", 1, statuses=[under("1Z1", 1)]),
    )
    assert len(play(Walmart().confirm_shipment(ACCESS, PARCEL), {"order": whole})[1]) == 1
    assert play(Walmart().read_shipment(ACCESS, PARCEL), {"order": whole})[0] == "77"
    assert play(Walmart().read_shipment(ACCESS, PARCEL), {"order": half})[0] is None
    with pytest.raises(ChannelError, match="tracking_url"):
        next(Walmart().confirm_shipment(ACCESS, replace(PARCEL, carrier="Pony", carrier_name="Pony")))


def test_shipping_in_spite_of_a_cancel_request_is_said_on_purpose() -> None:
    wanted = order(line("1", 2, intentToCancel="true", sellerOrderId="SO-9"), line("2", 1))
    _, asked = play(Walmart().confirm_shipment(ACCESS, PARCEL), {"order": wanted}, {"order": wanted})
    rows = asked[1].json["orderShipment"]["orderLines"]["orderLine"]
    assert [(row["intentToCancelOverride"], row["sellerOrderId"]) for row in rows] == [
        (True, "SO-9"), (False, "1796277083022"),
    ]  # fmt: skip
    info = rows[0]["orderLineStatuses"]["orderLineStatus"][0]
    assert info["statusQuantity"] == {"unitOfMeasurement": "EACH", "amount": "2"}
    assert (
        info["trackingInfo"]["shipDateTime"] == 1795680000000
        and info["trackingInfo"]["methodCode"] == "Value"
    )


def test_the_next_token_of_the_bucket_is_waited_for() -> None:
    request = next(Walmart().acknowledge(ACCESS, "1"))
    at = int((now().timestamp() + 90) * 1000)
    answer = HttpAnswer(429, {"x-next-replenishment-time": str(at)}, b"", 1)
    failure = classify(request, answer)
    assert failure is not None and failure.kind is Kind.THROTTLED
    assert failure.retry_after is not None and 85 < failure.retry_after <= 90
    plain = classify(replace(request, budget_headers=None), answer)
    assert plain is not None and plain.retry_after is None
    nonsense = classify(request, HttpAnswer(429, {"x-next-replenishment-time": "soon"}, b"", 1))
    assert nonsense is not None and nonsense.retry_after is None


# --- a played seller -------------------------------------------------------------------------------


@pytest.fixture
def checked(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every request that a test sends, and every good answer of the played seller, is held against the contract."""
    seen: list[str] = []
    call, acall = http.call, http.acall

    def note(request: HttpRequest, answer: HttpAnswer | None) -> None:
        wrong = contract.request(request) + (contract.answer(request, answer) if answer else [])
        assert wrong == [], (request.method, request.url, wrong)
        seen.append(f"{request.method} {urlsplit(request.url).path}")

    def checked_call(request: HttpRequest) -> HttpAnswer:
        note(request, None)
        answer = call(request)
        note(request, answer)
        return answer

    async def checked_acall(request: HttpRequest) -> HttpAnswer:
        note(request, None)
        answer = await acall(request)
        note(request, answer)
        return answer

    monkeypatch.setattr(http, "call", checked_call)
    monkeypatch.setattr(http, "acall", checked_acall)
    return seen


ADDRESS = "https://oms.example.com/hooks/none/"


def connect(sandbox: Any, stock: Any, settings: Any, **config: str) -> Shop:
    warehouse, skus = stock
    shop = sandbox.create_shop(
        "walmart", "wm", name="Acme", locations=[{"name": "East"}, {"name": "West"}],
        catalogue=[
            *({"sku": code, "title": code.title(), "price": "10.00", "stock": 10} for code in SKUS),
            {"sku": "MUG-WFS", "title": "Mug", "price": "12.00", "fba": 30},
        ],
    )  # fmt: skip
    settings.HOST_MAP = sandbox.host_map()
    account = accounts.connect(
        connector="walmart", name="Walmart US", code="walmart", prefix="WM", config=config,
        credentials=shop["credentials"], warehouse_ids=[warehouse.pk], actor=SYSTEM,
    )  # fmt: skip
    tested = accounts.test(account.pk, actor=SYSTEM)
    assert tested.ok and tested.facts is not None, tested.message
    assert [place for place, _ in tested.facts.locations] == [shop["ship_nodes"][0], "WFS"]
    accounts.map_location(account.pk, shop["ship_nodes"][0], warehouse.pk, actor=SYSTEM, name="East")
    accounts.go_live(account.pk, ADDRESS, actor=SYSTEM)
    accounts.import_listings(account.pk, actor=SYSTEM)
    account.refresh_from_db()
    return Shop(sandbox, "wm", account, skus, warehouse, shop)


@pytest.fixture
def seller(sandbox: Any, stock: Any, settings: Any, checked: list[str]) -> Shop:
    return connect(sandbox, stock, settings)


def bought(seller: Shop, code: str, quantity: int = 1, **options: Any) -> Order:
    placed = seller.buy(code, quantity, **options)
    deliver(seller)
    return Order.objects.get(external_id=str(placed["id"]))


BUYER = {
    "name": "Ada Brooks", "address1": "12 Oak St", "city": "Boston", "province_code": "MA", "zip": "02108",
    "country_code": "US",
}  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_sale_stock_parcel_and_proof(
    seller: Shop, assert_invariants: Callable[[], None], checked: list[str]
) -> None:
    push_all()
    assert {code: seller.available(code) for code in SKUS} == dict.fromkeys(SKUS, 50)
    pooled = Listing.objects.get(external_sku="MUG-WFS")
    assert (pooled.fulfilment, pooled.location_id) == (Listing.Fulfilment.CHANNEL, "WFS")
    placed = seller.client.place_order(
        "wm", [{"sku": "MUG", "quantity": 2, "tax": "1.60"}, {"sku": "BOWL", "quantity": 1}], address=BUYER,
        shipping_price="4.99",
    )  # fmt: skip
    for _ in range(3):
        deliver(seller)
    found = Order.objects.get(external_id=str(placed["id"]))
    assert (found.total, found.shipping, found.tax) == (Decimal("36.59"), Decimal("4.99"), Decimal("1.60"))
    assert found.ship_by is not None and abs((found.ship_by - found.placed_at).total_seconds() - 172800) < 1
    assert sorted(found.lines.values_list("external_id", "sku__code", "reserved")) == [
        ("1", "MUG", 2),
        ("2", "BOWL", 1),
    ]
    shipped(found)
    work(seller)
    assert dict(ChannelEffect.objects.values_list("kind", "state")) == {
        "acknowledge": "confirmed",
        "ship": "confirmed",
    }
    sent = seller.client.fulfilments("wm")
    assert [(one["carrier"], one["tracking"], sorted(one["lines"].values())) for one in sent] == [
        ("UPS", ["1Z999AA10123456784"], [1, 2])
    ]
    deliver(seller)
    found.refresh_from_db()
    assert found.state == Order.State.SHIPPED
    push_all()
    assert (seller.available("MUG"), seller.available("BOWL")) == (48, 49)
    assert "POST /v3/token" in checked and f"POST /v3/orders/{found.external_id}/shipping" in checked
    assert_invariants()


@pytest.mark.parametrize("fault", ["timeout", "error_500_after"])
@pytest.mark.django_db(transaction=True)
def test_a_lost_answer_is_one_effect(seller: Shop, fault: str) -> None:
    found = bought(seller, "MUG", 2)
    for operation in ("acknowledge", "ship", "cancel", "refund"):
        seller.client.plan_fault("wm", fault, operation=operation)
    shipped(found)
    work(seller, 12)
    assert set(ChannelEffect.objects.values_list("state", flat=True)) == {"confirmed"}
    assert (
        len(seller.client.fulfilments("wm")) == 1 and seller.client.shop("wm")["counts"]["buyer_charged"] == 1
    )
    refund = refunds.plan(
        order_id=found.pk,
        items=[refunds.RefundItem(found.lines.get().pk, 1, Decimal("10.00"))],
        actor=SYSTEM,
        key="k1",
    )
    work(seller, 12)
    refund.refresh_from_db()
    assert refund.state == Refund.State.CONFIRMED and refund.external_id
    assert [one["amount"] for one in seller.client.refunds("wm")] == ["10.00"]
    other = bought(seller, "TRAY", 2)
    tray = OrderLine.objects.get(order=other)
    services.cancel_lines(other.pk, {tray.pk: 1}, reason="no_stock", actor=SYSTEM)
    work(seller, 12)
    assert ChannelEffect.objects.get(kind="cancel").state == "confirmed"
    assert seller.client.shop("wm")["counts"]["cancel_calls"] == 1


@pytest.mark.django_db(transaction=True)
def test_cancelled_units_and_orders_are_proved(seller: Shop) -> None:
    first, second = bought(seller, "TRAY", 3), bought(seller, "MUG", 1)
    tray = OrderLine.objects.get(order=first)
    work(seller)
    services.cancel_lines(first.pk, {tray.pk: 1}, reason="no_stock", actor=SYSTEM)
    work(seller)
    services.cancel_lines(first.pk, {tray.pk: 1}, reason="address", actor=SYSTEM)
    seller.client.act("wm", second.external_id, "request_cancel")
    deliver(seller)
    second.refresh_from_db()
    assert second.buyer_cancel_requested
    services.cancel_lines(second.pk, None, reason="buyer", actor=SYSTEM)
    work(seller)
    told = {e.external_id for e in ChannelEffect.objects.filter(kind="cancel")}
    assert told == {"1=1", "1=2"}
    assert set(ChannelEffect.objects.filter(kind="cancel").values_list("state", flat=True)) == {"confirmed"}
    pulls.pull_orders(seller.account.pk)
    tray.refresh_from_db()
    second.refresh_from_db()
    assert (tray.quantity, tray.cancelled, tray.reserved) == (3, 2, 1)
    assert second.state == Order.State.CANCELLED
    assert StockLevel.objects.get(sku__code="TRAY").reserved == 1
    shown = seller.client.order("wm", second.external_id)
    assert shown["cancel_reason"] == "CUSTOMER_REQUESTED_SELLER_TO_CANCEL"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("fault", "calls"), [("drop", 3), ("timeout", 2), ("error_500_after", 2)])
def test_an_earlier_cancellation_never_passes_for_a_second_one(seller: Shop, fault: str, calls: int) -> None:
    """One unit was cancelled before; the answer to the second one is lost, with or without its effect."""
    first = bought(seller, "TRAY", 3)
    tray = OrderLine.objects.get(order=first)
    work(seller)
    services.cancel_lines(first.pk, {tray.pk: 1}, reason="no_stock", actor=SYSTEM)
    work(seller)
    assert ChannelEffect.objects.get(kind="cancel").state == "confirmed"
    seller.client.plan_fault("wm", fault, operation="cancel")
    services.cancel_lines(first.pk, {tray.pk: 1}, reason="address", actor=SYSTEM)
    work(seller, 12)
    second = ChannelEffect.objects.filter(kind="cancel").latest("pk")
    assert second.state == "confirmed" and json.loads(second.payload["mark"]) == {"1": 1}
    assert seller.client.order("wm", first.external_id)["lines"][0]["cancelled"] == 2
    assert seller.requests("cancel") == calls


@pytest.mark.django_db(transaction=True)
def test_a_missed_notification_is_found_by_the_pull_once(seller: Shop) -> None:
    seller.client.faults("wm", webhook_loss_rate=1.0)
    lost = seller.buy("MUG", 1)
    seller.client.clear_faults("wm")
    other = seller.buy("TRAY", 1)
    pulls.pull_orders(seller.account.pk)
    assert set(Order.objects.values_list("external_id", flat=True)) == {str(lost["id"]), str(other["id"])}
    seller.account.refresh_from_db()
    assert seller.account.orders_cursor
    deliver(seller)
    deliver(seller)
    pulls.pull_orders(seller.account.pk)
    assert Order.objects.count() == 2 and OrderLine.objects.count() == 2
    assert StockLevel.objects.get(sku__code="MUG").reserved == 1


@pytest.mark.django_db(transaction=True)
def test_what_walmart_ships_is_booked_and_never_reserved(seller: Shop) -> None:
    placed = seller.buy("MUG-WFS", 1)
    pulls.pull_orders(seller.account.pk)
    found = Order.objects.get(external_id=str(placed["id"]))
    assert found.fulfilled_by == "channel"
    levels = do(seller.account.pk, lambda connector, access: connector.pool_levels(access, None, ""))
    assert [(one.external_sku, one.sellable, one.reserved) for one in levels.levels] == [("MUG-WFS", 29, 1)]


@pytest.mark.django_db(transaction=True)
def test_an_expired_token_is_renewed_and_a_revoked_key_stops_the_account(seller: Shop) -> None:
    push_all()
    before = seller.client.shop("wm")["counts"]["tokens"]
    seller.client.expire_token("wm")
    add_stock(seller.skus["MUG"], seller.warehouse, 5)
    push_all()
    assert seller.available("MUG") == 55
    assert seller.client.shop("wm")["counts"]["tokens"] == before + 1
    accounts.set_credentials(seller.account.pk, {"client_secret": "revoked"}, actor=SYSTEM)
    seller.client.expire_token("wm")
    add_stock(seller.skus["MUG"], seller.warehouse, 5)
    push_all()
    seller.account.refresh_from_db()
    assert seller.account.state == seller.account.State.NEEDS_AUTH and seller.listing("MUG").is_stale
    accounts.set_credentials(
        seller.account.pk, {"client_secret": seller.extra["credentials"]["client_secret"]}, actor=SYSTEM
    )
    assert accounts.test(seller.account.pk, actor=SYSTEM).ok
    Listing.objects.update(next_attempt_at=None)
    push_all()
    assert seller.available("MUG") == 60


@pytest.mark.django_db(transaction=True)
def test_a_feed_over_the_wire(seller: Shop) -> None:
    node = seller.extra["ship_nodes"][0]
    items = [
        item(1, "MUG", 7, node),
        item(2, "NONE", 8, node),
        item(3, "BOWL", 9, node),
        item(4, "TRAY", 1, "404"),
    ]
    handle = do(seller.account.pk, lambda connector, access: connector.push_bulk(access, items))
    results = do(seller.account.pk, lambda connector, access: connector.bulk_result(access, handle, items))
    assert results is not None
    assert [one.failure for one in results] == [None, Retry.REJECTED, None, Retry.REJECTED]
    assert "No item NONE" in results[1].message and "No ship node 404" in results[3].message
    assert (seller.available("MUG"), seller.available("BOWL"), seller.available("TRAY")) == (7, 9, 10)
    good = [items[0], items[2]]
    handle = do(seller.account.pk, lambda connector, access: connector.push_bulk(access, good))
    results = do(seller.account.pk, lambda connector, access: connector.bulk_result(access, handle, good))
    assert results is not None and [one.failure for one in results] == [None, None]
    refs = [ListingRef(one.listing_id, one.external_sku, one.external_sku, node) for one in items]
    shown = do(seller.account.pk, lambda connector, access: connector.read_quantities(access, refs))
    assert shown == {1: 7, 3: 9, 4: 10}
    many = [replace(refs[0], listing_id=100 + n) for n in range(60)] + refs
    paged = do(seller.account.pk, lambda connector, access: connector.read_quantities(access, many))
    assert paged[3] == 9


@pytest.mark.django_db(transaction=True)
def test_a_return_of_the_buyer_opens_one_return(seller: Shop) -> None:
    found = bought(seller, "MUG", 2)
    shipped(found)
    work(seller)
    lines = [{"sku": "MUG", "quantity": 1}]
    seller.client.act("wm", found.external_id, "return", lines=lines, reason="DEFECTIVE")
    deliver(seller)
    pulls.pull_returns(seller.account.pk)
    pulls.pull_returns(seller.account.pk)
    back = Rma.objects.get(order=found)
    assert [(one.order_line.external_id, one.quantity) for one in back.lines.all()] == [("1", 1)]


@pytest.mark.django_db(transaction=True)
def test_subscriptions_are_made_kept_and_woken(seller: Shop) -> None:
    assert {hook["event"] for hook in seller.client.shop("wm")["webhooks"]} == set(webhooks.EVENTS)
    assert (
        do(seller.account.pk, lambda connector, access: connector.ensure_subscriptions(access, ADDRESS)) == []
    )
    accounts.set_credentials(seller.account.pk, {"webhook_secret": "a new password"}, actor=SYSTEM)
    made = do(seller.account.pk, lambda connector, access: connector.ensure_subscriptions(access, ADDRESS))
    assert {one.topic for one in made} == set(webhooks.EVENTS)
    hooks = seller.client.shop("wm")["webhooks"]
    assert len(hooks) == len(webhooks.EVENTS)
    assert {hook["auth"]["password"] for hook in hooks} == {"a new password"}


@pytest.mark.django_db(transaction=True)
def test_a_signed_message_passes_the_door(
    sandbox: Any, stock: Any, settings: Any, checked: list[str], client: Client
) -> None:
    seller = connect(sandbox, stock, settings, notifications="hmac")
    path = f"/hooks/{seller.account.hook_key}/"
    address = f"https://oms.example.com{path}"
    do(seller.account.pk, lambda connector, access: connector.ensure_subscriptions(access, address))
    seller.buy("MUG", 1)
    messages = [one for one in sandbox.deliveries(shop="wm", limit=100) if one["url"] == address]
    assert messages
    for message in messages:
        headers = {
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in message["headers"].items()
            if name != "Content-Type"
        }
        good = client.generic("POST", path, message["body"], "application/json", **headers)
        assert good.status_code == 200
        forged = client.generic("POST", path, message["body"] + " ", "application/json", **headers)
        assert forged.status_code == 401
    assert InboxMessage.objects.filter(account=seller.account).count() == len(messages)
    inbox.drain(seller.account.pk)
    assert Order.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_throttling_is_waited_out_as_told_and_nothing_is_lost(seller: Shop) -> None:
    push_all()
    before = seller.requests("put_inventory")
    seller.client.plan_fault("wm", "throttle", operation="put_inventory")
    add_stock(seller.skus["MUG"], seller.warehouse, 5)
    push_all()
    bucket = TokenBucket.objects.get(pk=f"channel:{seller.account.pk}/inventory.put")
    assert bucket.paused_until is not None
    last = seller.client.requests("wm", "put_inventory")
    assert seller.requests("put_inventory") > before and 429 in [one["status"] for one in last]
    TokenBucket.objects.update(paused_until=None, tokens=10)
    limits.forget_copies()
    Listing.objects.update(next_attempt_at=None)
    push_all()
    assert seller.available("MUG") == 55 and not seller.listing("MUG").is_stale


@pytest.mark.django_db(transaction=True)
def test_the_last_call_of_a_budget_empties_our_own(seller: Shop) -> None:
    seller.client.set_settings("wm", budgets={"get_inventory": 1})
    ref = [ListingRef(1, "MUG", "MUG", seller.extra["ship_nodes"][0])]
    assert do(seller.account.pk, lambda connector, access: connector.read_quantities(access, ref)) == {1: 10}
    assert TokenBucket.objects.get(pk=f"channel:{seller.account.pk}/inventory.get").tokens < 1
    seller.client.set_settings("wm", budgets={})


@pytest.mark.django_db(transaction=True)
def test_an_acknowledgement_whose_process_ended_is_said_again(seller: Shop) -> None:
    bought(seller, "MUG", 1)
    while outbox.drain():
        pass
    ChannelEffect.objects.filter(kind="acknowledge").update(state="sent", next_attempt_at=now())
    effects.drain(seller.account.pk)
    assert ChannelEffect.objects.get(kind="acknowledge").state == "confirmed"
    assert len(seller.client.shop("wm")["acknowledged"]) == 1
