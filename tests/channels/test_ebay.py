"""eBay: the official sample, signatures, every request against the closed contract, and the whole way."""

from __future__ import annotations

import base64
import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.test import Client

from channels import accounts, inbox, pulls
from channels.connectors.base import (
    Access,
    BadSignature,
    ChannelError,
    PushItem,
    RefundItem,
    RefundOrder,
    Retry,
)
from channels.connectors.ebay import client as ebay_client
from channels.connectors.ebay import mapper, webhooks
from channels.connectors.ebay.client import Ebay, consent_code, signed_headers
from channels.models import ChannelEffect, InboxMessage, Listing, StockPush
from channels.session import do
from oms.core import http
from oms.core.actor import SYSTEM
from oms.core.errors import UserError
from oms.core.http import HttpAnswer, HttpRequest
from oms.orders.models import Order
from oms.orders.services import cancel_lines
from oms.orders.validation import money_gap, normalise
from returns.models import Refund, Rma
from tests.channels.conftest import SKUS, Shop, deliver, push_all
from tests.channels.ebay_contract import Contract
from tests.channels.test_connectors import play
from tests.channels.test_effects import paid_refund, shipped, work
from tests.factories import add_stock

CONFIG = {
    "marketplace_id": "EBAY_US", "username": "acme", "alert_email": "ops@example.com", "environment": "production",
    "batch": 25,
}  # fmt: skip
ACCESS = Access(
    8, "ebay", "ebay", CONFIG, {"client_id": "app", "client_secret": "cert"}, {"access_token": "t"}
)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    webhooks.forget_keys()
    ebay_client.forget_app_tokens()
    yield


# --- without a network -----------------------------------------------------------------------------


def sample(shared_dir: Path) -> dict[str, Any]:
    text = (shared_dir / "data/payloads/ebay/getOrders_masked_sample.json").read_text()
    order: dict[str, Any] = json.loads(text)["orders"][0]
    return order


def test_the_official_order_keeps_its_money_and_its_address(shared_dir: Path) -> None:
    """Sold in Austria, listed in Germany, paid out in pounds, without a SKU; eBay's own VAT is none of ours."""
    draft = normalise(mapper.order_draft(sample(shared_dir)))
    assert (draft.currency, draft.status, draft.payment_state) == ("EUR", "open", "paid")
    assert (draft.subtotal, draft.shipping, draft.tax, draft.total) == (
        Decimal("100.0"), Decimal("16.26"), Decimal(0), Decimal("116.26"),
    )  # fmt: skip
    assert money_gap(draft) == 0
    line = draft.lines[0]
    assert (line.external_sku, line.listing_ref, line.unit_price) == ("", "2********1", Decimal(100))
    assert draft.contact is not None and draft.contact.country == "ES"
    assert draft.placed_at.isoformat() == "2023-08-02T08:26:18+00:00"
    assert draft.channel_updated_at.isoformat() == "2023-08-02T08:35:01+00:00"
    assert draft.deliver_by is not None and draft.deliver_by.isoformat() == "2022-03-01T23:00:00+00:00"
    assert not draft.buyer_cancel_requested


def money(value: str) -> dict[str, str]:
    return {"value": value, "currency": "USD"}


ORDER: dict[str, Any] = {
    "orderId": "14-10001-70001", "legacyOrderId": "110-200", "creationDate": "2026-11-20T10:00:00.000Z",
    "lastModifiedDate": "2026-11-20T10:05:00.000Z", "orderFulfillmentStatus": "NOT_STARTED",
    "orderPaymentStatus": "PAID", "cancelStatus": {"cancelState": "NONE_REQUESTED", "cancelRequests": []},
    "pricingSummary": {
        "priceSubtotal": money("39.99"), "priceDiscount": money("-3.00"), "deliveryCost": money("6.00"),
        "deliveryDiscount": money("-1.00"), "adjustment": money("-2.00"), "fee": money("0.50"), "tax": money("3.20"),
        "total": money("43.69"),
    },
    "lineItems": [
        {
            "lineItemId": "1001", "legacyItemId": "110", "legacyVariationId": "5", "sku": "MUG", "quantity": 3,
            "title": "Mug", "lineItemCost": money("30.00"), "discountedLineItemCost": money("27.00"),
            "taxes": [{"amount": money("3.20")}], "lineItemFulfillmentStatus": "NOT_STARTED",
            "lineItemFulfillmentInstructions": {"shipByDate": "2026-11-23T07:59:59.000Z"},
        },
        {
            "lineItemId": "1002", "legacyItemId": "111", "sku": "BOWL", "quantity": 1, "title": "Bowl",
            "lineItemCost": money("9.99"), "taxes": [], "lineItemFulfillmentStatus": "NOT_STARTED",
            "lineItemFulfillmentInstructions": {"shipByDate": "2026-11-22T07:59:59.000Z"},
        },
    ],
    "fulfillmentStartInstructions": [
        {"shippingStep": {"shipToReferenceId": "GSP77", "shipTo": {
            "fullName": "Ada Brooks", "contactAddress": {"addressLine1": "1 Hub Rd", "countryCode": "US"}}}}
    ],
}  # fmt: skip


def test_discounts_fees_adjustments_and_the_earliest_deadline() -> None:
    draft = normalise(mapper.order_draft(ORDER))
    mug, bowl, fee = draft.lines
    assert (mug.unit_price, mug.discount, mug.tax, mug.listing_ref) == (10, 3, Decimal("3.20"), "")
    assert (bowl.listing_ref, fee.kind, fee.unit_price) == ("111", "service", Decimal("0.50"))
    assert (draft.subtotal, draft.discount, draft.shipping, draft.total) == (
        Decimal("40.49"), 5, 5, Decimal("43.69"),
    )  # fmt: skip
    assert money_gap(draft) == 0
    assert draft.ship_by is not None and draft.ship_by.isoformat() == "2026-11-22T07:59:59+00:00"
    assert draft.contact is not None and draft.contact.address3 == "Ref GSP77"
    with pytest.raises(mapper.Unfit, match="EUR"):
        mapper.order_draft({**ORDER, "lineItems": [{**ORDER["lineItems"][0], "lineItemCost": {"value": "1", "currency": "EUR"}}]})  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(
    ("payment", "fulfilment", "cancel", "expected"),
    [
        ("PAID", "NOT_STARTED", "NONE_REQUESTED", "open"),
        ("PAID", "IN_PROGRESS", "NONE_REQUESTED", "open"),
        ("PARTIALLY_REFUNDED", "NOT_STARTED", "NONE_REQUESTED", "open"),
        ("PENDING", "NOT_STARTED", "NONE_REQUESTED", "pending"),
        ("FAILED", "NOT_STARTED", "NONE_REQUESTED", "pending"),
        ("SOMETHING_NEW", "NOT_STARTED", "NONE_REQUESTED", "pending"),
        ("PAID", "FULFILLED", "NONE_REQUESTED", "shipped"),
        ("FULLY_REFUNDED", "FULFILLED", "NONE_REQUESTED", "shipped"),
        ("FULLY_REFUNDED", "NOT_STARTED", "NONE_REQUESTED", "cancelled"),
        ("PAID", "NOT_STARTED", "CANCELED", "cancelled"),
    ],
)
def test_statuses(payment: str, fulfilment: str, cancel: str, expected: str) -> None:
    order = {
        **ORDER, "orderPaymentStatus": payment, "orderFulfillmentStatus": fulfilment,
        "cancelStatus": {"cancelState": cancel, "cancelRequests": []},
    }  # fmt: skip
    assert mapper.order_draft(order).status == expected


def test_a_partly_shipped_order_counts_units_by_its_parcels() -> None:
    order = {**ORDER, "orderFulfillmentStatus": "IN_PROGRESS"}
    parcels = [{"lineItems": [{"lineItemId": "1001", "quantity": 2}]}]
    assert [line.shipped for line in mapper.order_draft(order, parcels).lines[:2]] == [2, 0]
    refunded = mapper.order_draft({**order, "orderPaymentStatus": "FULLY_REFUNDED"}, parcels)
    assert [(line.shipped, line.cancelled) for line in refunded.lines[:2]] == [(2, 1), (0, 1)]


def test_only_the_buyers_open_request_counts() -> None:
    def asked(initiator: str, state: str) -> bool:
        request = {"cancelRequestId": "5", "cancelInitiator": initiator, "cancelRequestState": state}
        status = {"cancelState": "IN_PROGRESS", "cancelRequests": [request]}
        return mapper.order_draft({**ORDER, "cancelStatus": status}).buyer_cancel_requested

    assert asked("Buyer", "REQUESTED") and not asked("Seller", "REQUESTED") and not asked("BUYER", "REJECTED")
    assert mapper.buyer_asks({"cancelStatus": {"cancelState": "IN_PROGRESS"}})


@pytest.mark.parametrize("name", ["VALID", "SIGNATURE_MISMATCH", "INVALID"])
def test_the_official_signatures(shared_dir: Path, name: str) -> None:
    vectors = json.loads((shared_dir / "specs/signature_vectors.json").read_text())["ebay"]
    case = vectors["cases"][name]
    told, headers = case["public_key_response"], {"x-ebay-signature": case["x_ebay_signature"]}
    connector, raw = Ebay(), case["raw_body"].encode()
    kid = webhooks.signature_of(headers)["kid"]
    with pytest.raises(BadSignature):  # before the key is known
        connector.parse_push(ACCESS, headers, raw)
    assert connector.fetch_push_key(ACCESS, headers) is not None
    webhooks.remember_key("api.ebay.com", kid, webhooks.PublicKey(told["key"], told["digest"]))
    assert connector.fetch_push_key(ACCESS, headers) is None
    if case["expect_valid"]:
        (found,) = connector.parse_push(ACCESS, headers, raw)
        assert (found.topic, found.kind) == ("MARKETPLACE_ACCOUNT_DELETION", "other")
        assert found.delivery_id == json.loads(raw)["notification"]["notificationId"]
        raw += b" "
    with pytest.raises(BadSignature):
        connector.parse_push(ACCESS, headers, raw)


def test_the_official_challenge(shared_dir: Path) -> None:
    vector = json.loads((shared_dir / "specs/signature_vectors.json").read_text())["ebay"][
        "endpoint_challenge"
    ]
    access = Access(8, "ebay", "e", CONFIG, {"verification_token": vector["verification_token"]}, {})
    answer = Ebay().answer_challenge(access, {"challenge_code": vector["challenge_code"]}, vector["endpoint"])
    assert answer == {"challengeResponse": vector["challengeResponse"]}
    assert Ebay().answer_challenge(access, {}, vector["endpoint"]) is None


@pytest.mark.parametrize("header", ["", "!!", base64.b64encode(b"[]").decode(), base64.b64encode(b'{"kid": "../x", "signature": ""}').decode()])  # fmt: skip  # noqa: E501
def test_a_strange_signature_asks_ebay_nothing(header: str) -> None:
    with pytest.raises(BadSignature):
        Ebay().fetch_push_key(ACCESS, {"x-ebay-signature": header})


def test_the_digital_signature_covers_the_request() -> None:
    key = Ed25519PrivateKey.generate()
    text = base64.b64encode(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode()
    path = "/sell/fulfillment/v1/order/1/issue_refund"
    found = signed_headers("POST", "api.ebay.com", path, b'{"hello": "world"}', text, "jwe", 1_700_000_000)
    # the digest of RFC 9421's own example body
    assert found["Content-Digest"] == "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
    covered = '("content-digest" "x-ebay-signature-key" "@method" "@path" "@authority");created=1700000000'
    assert found["Signature-Input"] == f"sig1={covered}"
    base = "\n".join(
        [
            f'"content-digest": {found["Content-Digest"]}', '"x-ebay-signature-key": jwe', '"@method": POST',
            f'"@path": {path}', '"@authority": api.ebay.com', f'"@signature-params": {covered}',
        ]
    )  # fmt: skip
    key.public_key().verify(base64.b64decode(found["Signature"][6:-1]), base.encode())
    with pytest.raises(ChannelError, match="signing_key"):
        signed_headers("POST", "api.ebay.com", path, b"", "nonsense", "jwe", 1)


def test_a_consent_address_is_cut_to_its_code() -> None:
    assert consent_code("v%5E1.1%23i%5E1") == "v^1.1#i^1"
    assert (
        consent_code("https://signin.ebay.com/ok?isAuthSuccessful=true&code=v%5E1.1%23&expires_in=299")
        == "v^1.1#"
    )
    assert consent_code("") == ""


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"marketplace_id": "EBAY_XX"}, "marketplace_id"),
        ({"environment": "moon"}, "environment"),
        ({"username": ""}, "username"),
        ({"alert_email": "nobody"}, "alert_email"),
        ({"batch": "26"}, "batch"),
        ({"batch": "0"}, "batch"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, str], field: str) -> None:
    with pytest.raises(UserError) as caught:
        Ebay().check_config({**CONFIG, **change})
    assert caught.value.field == field


def item(listing_id: int, sku: str, quantity: int = 5, offer: str = "") -> PushItem:
    return PushItem(listing_id, offer or f"80{listing_id}", sku, "", quantity, f"{listing_id}:1")


def test_one_refused_listing_never_holds_up_the_others(shared_dir: Path) -> None:
    items = [item(1, "MUG"), item(2, "BOWL"), item(3, "TRAY"), item(4, ""), item(5, "CUP"), item(6, "MUG", 7)]
    error = {"errorId": 25713, "message": "This Offer is not available"}
    told = {
        "responses": [
            {"sku": "MUG", "statusCode": 200},
            {"sku": "MUG", "offerId": "801", "statusCode": 200},
            {"sku": "MUG", "offerId": "806", "statusCode": 400, "errors": [error]},
            {"sku": "BOWL", "offerId": "802", "statusCode": 404, "errors": [error]},
            {"sku": "TRAY", "offerId": "803", "statusCode": 500, "errors": []},
        ]
    }
    results, asked = play(Ebay().push_quantities(ACCESS, items), told)
    Contract(shared_dir).check(asked[0])
    assert json.loads(asked[0].content or b"")["requests"][0] == {
        "sku": "MUG", "shipToLocationAvailability": {"quantity": 7},
        "offers": [{"offerId": "801", "availableQuantity": 5}, {"offerId": "806", "availableQuantity": 7}],
    }  # fmt: skip
    assert [one.failure for one in results] == [
        None, Retry.REJECTED, Retry.TRANSIENT, Retry.REJECTED, Retry.TRANSIENT, Retry.REJECTED,
    ]  # fmt: skip
    assert results[1].message == "25713: This Offer is not available"


@pytest.mark.parametrize(("batch", "calls"), [(25, [25, 5]), (1, [1] * 30)])
def test_the_batch_is_a_setting(batch: int, calls: list[int]) -> None:
    access = Access(8, "ebay", "ebay", {**CONFIG, "batch": batch}, {}, {"access_token": "t"})
    items = [item(number, f"S{number}") for number in range(30)]
    told = {
        "responses": [
            {"sku": one.external_sku, "offerId": one.external_id, "statusCode": 200} for one in items
        ]
    }
    results, asked = play(Ebay().push_quantities(access, items), *[told] * len(calls))
    assert [len(json.loads(request.content or b"")["requests"]) for request in asked] == calls
    assert all(one.failure is None for one in results)


def refund(*items: RefundItem, amount: str, shipping: str = "0.00", external_id: str = "") -> RefundOrder:
    return RefundOrder(
        "14-1", "R-7", "k", Decimal(amount), Decimal(shipping), "USD", tuple(items), reason="damaged",
        external_id=external_id,
    )  # fmt: skip


def test_money_for_lines_and_money_for_the_order() -> None:
    mug, bowl = RefundItem("1001", 1, Decimal("10.00")), RefundItem("1002", 1, Decimal("9.99"))
    assert mapper.refund_body(refund(mug, bowl, amount="19.99"), 2) == {
        "reasonForRefund": "ITEM_NOT_AS_DESCRIBED", "comment": "R-7 damaged",
        "refundItems": [
            {"lineItemId": "1001", "refundAmount": money("10.00")},
            {"lineItemId": "1002", "refundAmount": money("9.99")},
        ],
    }  # fmt: skip
    for body in (
        mapper.refund_body(refund(mug, amount="15.00", shipping="5.00"), 2),
        mapper.refund_body(refund(mug, amount="10.00"), 1),
        mapper.refund_body(refund(RefundItem("fee", 1, Decimal(1)), amount="1.00"), 2),
    ):
        assert "refundItems" not in body and "orderLevelRefundAmount" in body


def test_a_refund_is_proved_by_its_id_and_never_by_its_sum_alone() -> None:
    paid = {"refundId": "9", "amount": money("10.00"), "refundStatus": "REFUNDED"}
    shown = {**ORDER, "paymentSummary": {"refunds": [paid]}}
    assert play(Ebay().find_refund(ACCESS, refund(amount="10.00")), shown)[0] is None
    assert play(Ebay().find_refund(ACCESS, refund(amount="10.00", external_id="9")), shown)[0] == "9"
    paid["refundStatus"] = "PENDING"
    with pytest.raises(ChannelError) as waits:
        play(Ebay().find_refund(ACCESS, refund(amount="10.00", external_id="9")), shown)
    assert waits.value.kind is Retry.TRANSIENT
    paid["refundStatus"] = "FAILED"
    with pytest.raises(ChannelError) as failed:
        play(Ebay().find_refund(ACCESS, refund(amount="10.00", external_id="9")), shown)
    assert failed.value.kind is Retry.REJECTED


def test_pages_of_a_pull_share_one_closed_window(shared_dir: Path) -> None:
    contract = Contract(shared_dir)
    broken = {**ORDER, "orderId": "14-2", "creationDate": None}
    page, asked = play(
        Ebay().list_orders(ACCESS, "2026-11-20T00:00:00Z", ""),
        {"orders": [ORDER, broken], "next": "https://…"},
    )
    assert ([draft.external_id for draft in page.drafts], page.refused, page.resume) == (
        ["14-10001-70001"],
        1,
        "",
    )
    offset, _, until = page.cursor.partition("|")
    assert offset == "200"
    partly = {**ORDER, "orderFulfillmentStatus": "IN_PROGRESS"}
    last, again = play(
        Ebay().list_orders(ACCESS, "2026-11-20T00:00:00Z", page.cursor),
        {"orders": [partly]},
        {"fulfillments": [{"lineItems": [{"lineItemId": "1001", "quantity": 1}]}]},
    )
    assert (last.cursor, last.resume, last.drafts[0].lines[0].shipped) == ("", until, 1)
    windows = [(request.params or {})["filter"] for request in (*asked, again[0])]  # type: ignore[call-overload]
    assert windows == [f"lastmodifieddate:[2026-11-20T00:00:00.000Z..{until}]"] * 2
    for request in (*asked, *again):
        contract.check(request)


def test_an_unknown_order_does_not_hide_the_others() -> None:
    operation = Ebay().get_orders(ACCESS, ["14-9", "14-10001-70001"])
    next(operation)
    asked = operation.throw(ChannelError(Retry.REJECTED, "400", code="400"))
    assert asked.url.endswith("/order/14-9")
    operation.throw(ChannelError(Retry.REJECTED, "404", code="404"))
    with pytest.raises(StopIteration) as done:
        operation.send(HttpAnswer(200, {}, json.dumps(ORDER).encode(), 1))
    assert [draft.external_id for draft in done.value.value] == ["14-10001-70001"]


def test_a_spent_quota_says_how_long_to_wait(shared_dir: Path) -> None:
    operation = Ebay().get_orders(ACCESS, ["14-1"])
    next(operation)
    asked = operation.throw(ChannelError(Retry.THROTTLED, "429", code="429"))
    Contract(shared_dir).check(asked)
    reset = mapper.text_of(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=120))
    told = {
        "rateLimits": [
            {"resources": [{"name": "o", "rates": [{"remaining": 0, "limit": 5, "reset": reset}]}]}
        ]
    }
    with pytest.raises(ChannelError) as caught:
        operation.send(HttpAnswer(200, {}, json.dumps(told).encode(), 1))
    assert caught.value.kind is Retry.THROTTLED and 100 < (caught.value.retry_after or 0) <= 120


# --- a played seller -------------------------------------------------------------------------------


class Door:
    """Answers eBay's challenge at a real address, as our hook does."""

    def __init__(self) -> None:
        self.access: Access | None = None
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                assert door.access is not None
                body = json.dumps(Ebay().answer_challenge(door.access, query, door.url)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/one/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


@pytest.fixture
def contract(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Contract:
    """Every request of these tests and every answer of the played eBay is held against the official files."""
    found = Contract(shared_dir)
    call, acall = http.call, http.acall

    def checked(request: HttpRequest) -> HttpAnswer:
        found.check(request)
        answer = call(request)
        found.check(request, answer)
        return answer

    async def achecked(request: HttpRequest) -> HttpAnswer:
        found.check(request)
        answer = await acall(request)
        found.check(request, answer)
        return answer

    monkeypatch.setattr(http, "call", checked)
    monkeypatch.setattr(http, "acall", achecked)
    return found


@pytest.fixture
def ebay(sandbox: Any, stock: Any, settings: Any, contract: Contract, door: Door) -> Shop:
    from channels.session import access_of

    warehouse, skus = stock
    shop = sandbox.create_shop(
        "ebay", "acme", name="Acme on eBay", currency="USD",
        catalogue=[{"sku": code, "title": code.title(), "price": "10.00", "stock": 10} for code in SKUS],
    )  # fmt: skip
    settings.HOST_MAP = sandbox.host_map()
    given = shop["credentials"]
    account = accounts.connect(
        connector="ebay", name="eBay US", code="ebay", prefix="EB", warehouse_ids=[warehouse.pk], actor=SYSTEM,
        config={**CONFIG, "ru_name": given["ru_name"]},
        credentials={name: given[name] for name in ("client_id", "client_secret", "authorization_code")},
    )  # fmt: skip
    tested = accounts.test(account.pk, actor=SYSTEM)
    assert tested.ok and tested.facts is not None, tested.message
    assert (tested.facts.currency, tested.facts.locations) == ("USD", (("main", "Main warehouse"),))
    account.refresh_from_db()
    # the consent code was traded in for a refresh token
    assert account.credentials["refresh_token"] == given["refresh_token"]
    assert account.credentials["authorization_code"] == ""
    door.access = access_of(account)
    accounts.go_live(account.pk, door.url, actor=SYSTEM)
    accounts.import_listings(account.pk, actor=SYSTEM)
    account.refresh_from_db()
    return Shop(sandbox, "acme", account, skus, warehouse, {**shop, "door": door})


pytest_db = pytest.mark.django_db(transaction=True)


@pytest_db
def test_sale_stock_parcel_and_proof(
    ebay: Shop, contract: Contract, assert_invariants: Callable[[], None]
) -> None:
    push_all()
    assert {code: ebay.available(code) for code in SKUS} == dict.fromkeys(SKUS, 50)
    assert ebay.requests("bulk_update_price_quantity") == 1
    placed = ebay.client.place_order(
        "acme", [{"sku": "MUG", "quantity": 2, "discount": "1.00", "tax": "1.60"}, {"sku": "BOWL", "quantity": 1}],
        email="ada@example.com", shipping_price="4.90",
        address={"name": "Ada Brooks", "address1": "12 Oak St", "city": "Boston", "province_code": "MA",
                 "zip": "02108", "country_code": "US"},
    )  # fmt: skip
    assert deliver(ebay) == 2  # one message per line item, each stored once
    assert deliver(ebay) == 0
    order = Order.objects.get(external_id=placed["id"])
    assert sorted(order.lines.values_list("sku__code", "quantity", "reserved")) == [
        ("BOWL", 1, 1), ("MUG", 2, 2),
    ]  # fmt: skip
    assert (order.total, order.tax, order.discount, order.shipping) == (
        Decimal("35.50"), Decimal("1.60"), Decimal("1.00"), Decimal("4.90"),
    )  # fmt: skip
    assert order.ship_by is not None
    shipped(order, tracking="1Z-999 AA10123456784")
    work(ebay)
    effect = ChannelEffect.objects.get(kind="ship")
    assert (effect.state, effect.external_id) == ("confirmed", "1Z999AA10123456784")
    (told,) = ebay.client.fulfilments("acme")
    assert (told["tracking"], told["carrier"]) == (["1Z999AA10123456784"], "UPS")
    deliver(ebay)
    order.refresh_from_db()
    assert order.state == Order.State.SHIPPED
    push_all()
    assert (ebay.available("MUG"), ebay.available("BOWL")) == (48, 49)
    listing = ebay.listing("MUG")
    refs = [ebay_ref(listing)]
    assert do(ebay.account.pk, lambda c, access: c.read_quantities(access, refs)) == {listing.pk: 48}
    assert {
        "POST /sell/inventory/v1/bulk_update_price_quantity", "GET /sell/inventory/v1/offer/{offerId}",
        "POST /sell/fulfillment/v1/order/{orderId}/shipping_fulfillment", "GET /sell/fulfillment/v1/order",
        "POST /commerce/notification/v1/destination", "POST /commerce/notification/v1/subscription",
    } <= contract.seen  # fmt: skip
    assert_invariants()


def ebay_ref(listing: Listing) -> Any:
    from channels.connectors.base import ListingRef

    return ListingRef(listing.pk, listing.external_id, listing.external_sku, listing.location_id)


@pytest_db
@pytest.mark.parametrize("fault", ["timeout", "drop"])
def test_a_parcel_whose_answer_was_lost_is_told_once(ebay: Shop, fault: str) -> None:
    placed = ebay.buy("MUG", 1)
    deliver(ebay)
    shipped(Order.objects.get(external_id=placed["id"]))
    ebay.client.plan_fault("acme", fault, operation="create_shipping_fulfillment")
    work(ebay, 12)
    assert ChannelEffect.objects.get(kind="ship").state == "confirmed"
    assert len(ebay.client.fulfilments("acme")) == 1


@pytest_db
@pytest.mark.parametrize("fault", ["", "timeout", "drop"])
def test_a_refund_is_paid_once_whatever_became_of_its_answer(ebay: Shop, fault: str) -> None:
    """A request that was lost as well cannot be told from a late one: a person decides, nothing is paid twice."""
    placed = ebay.buy("MUG", 2)
    deliver(ebay)
    order = Order.objects.get(external_id=placed["id"])
    shipped(order)
    work(ebay)
    if fault:
        ebay.client.plan_fault("acme", fault, operation="issue_refund")
    planned = paid_refund(order)
    work(ebay, 12)
    planned.refresh_from_db()
    told = ebay.client.refunds("acme")
    if fault == "drop":
        assert (planned.state, told) == (Refund.State.IN_DOUBT, [])
        return
    assert planned.state == Refund.State.CONFIRMED and planned.external_id
    assert [one["amount"] for one in told] == ["10.00"]


@pytest_db
def test_a_refund_that_ebay_still_pays_is_waited_for(ebay: Shop) -> None:
    placed = ebay.buy("MUG", 2)
    deliver(ebay)
    order = Order.objects.get(external_id=placed["id"])
    shipped(order)
    work(ebay)
    ebay.client.set_settings("acme", refund_seconds=3600)
    first = paid_refund(order)
    work(ebay, 8)
    second = paid_refund(order, key="k2")
    work(ebay, 8)
    for one in (first, second):
        one.refresh_from_db()
    assert (first.state, second.state) == (Refund.State.SENT, Refund.State.PLANNED)
    ebay.client.set_settings("acme", refund_seconds=0)
    work(ebay, 8)
    for one in (first, second):
        one.refresh_from_db()
        assert one.state == Refund.State.CONFIRMED
    assert len(ebay.client.refunds("acme")) == 2


@pytest_db
def test_the_buyers_request_is_seen_and_agreed_to(ebay: Shop, contract: Contract) -> None:
    asked, ours = ebay.buy("MUG", 2), ebay.buy("BOWL", 1)
    deliver(ebay)
    ebay.client.act("acme", asked["id"], "request_cancel")
    pulls.pull_orders(ebay.account.pk)
    first, second = (Order.objects.get(external_id=one["id"]) for one in (asked, ours))
    assert first.buyer_cancel_requested and not second.buyer_cancel_requested
    for order in (first, second):
        cancel_lines(order.pk, None, reason="no_stock", actor=SYSTEM)
    ebay.client.plan_fault("acme", "timeout", operation="create_cancellation")
    work(ebay, 12)
    assert set(ChannelEffect.objects.filter(kind="cancel").values_list("state", flat=True)) == {"confirmed"}
    told = {one["order_id"]: one for one in ebay.client.shop("acme")["cancellations"]}
    assert [(told[one["id"]]["initiator"], told[one["id"]]["state"]) for one in (asked, ours)] == [
        ("BUYER", "COMPLETED"), ("SELLER", "COMPLETED"),
    ]  # fmt: skip
    assert told[ours["id"]]["reason"] == "OUT_OF_STOCK_OR_CANNOT_FULFILL"
    pulls.pull_orders(ebay.account.pk)
    states = set(Order.objects.values_list("state", flat=True))
    assert states == {Order.State.CANCELLED}
    assert "POST /post-order/v2/cancellation/{cancelId}/approve" in contract.seen


@pytest_db
def test_a_missed_notification_is_found_by_the_pull(ebay: Shop) -> None:
    ebay.client.faults("acme", webhook_loss_rate=1.0)
    lost = [ebay.buy("MUG", 1), ebay.buy("TRAY", 1)]
    pulls.pull_orders(ebay.account.pk)
    assert set(Order.objects.values_list("external_id", flat=True)) == {one["id"] for one in lost}
    pulls.pull_orders(ebay.account.pk)
    assert Order.objects.count() == 2


@pytest_db
def test_an_expired_token_is_renewed_and_a_revoked_grant_asks_a_person(ebay: Shop) -> None:
    push_all()
    ebay.client.expire_token("acme")
    add_stock(ebay.skus["MUG"], ebay.warehouse, 5)
    push_all()
    assert ebay.available("MUG") == 50  # far from zero a change waits for others: 250 a day are all there are
    StockPush.objects.all().delete()
    Listing.objects.update(next_attempt_at=None)
    push_all()
    assert ebay.available("MUG") == 55
    StockPush.objects.all().delete()
    ebay.client.set_settings("acme", revoked=True)
    ebay.client.expire_token("acme")
    add_stock(ebay.skus["MUG"], ebay.warehouse, 5)
    push_all()
    ebay.account.refresh_from_db()
    assert ebay.account.state == ebay.account.State.NEEDS_AUTH and ebay.listing("MUG").is_stale
    ebay.client.set_settings("acme", revoked=False)
    assert accounts.test(ebay.account.pk, actor=SYSTEM).ok
    Listing.objects.update(next_attempt_at=None)
    push_all()
    assert ebay.available("MUG") == 60


@pytest_db
def test_a_refused_listing_stops_nobody(ebay: Shop) -> None:
    Listing.objects.filter(external_sku="MUG").update(external_id="8999999999")
    push_all()
    assert (ebay.available("BOWL"), ebay.available("TRAY")) == (50, 50)
    refused = ebay.listing("MUG")
    assert refused.is_stale and "This Offer is not available" in refused.last_error


@pytest_db
def test_a_return_opens_an_rma(ebay: Shop) -> None:
    placed = ebay.buy("MUG", 2)
    deliver(ebay)
    order = Order.objects.get(external_id=placed["id"])
    shipped(order)
    work(ebay)
    lines = [{"sku": "MUG", "quantity": 1}]
    ebay.client.act(
        "acme", placed["id"], "return", lines=lines, reason="NOT_AS_DESCRIBED", status="REQUESTED"
    )
    assert pulls.pull_returns(ebay.account.pk) == 1 and pulls.pull_returns(ebay.account.pk) == 0
    opened = Rma.objects.get()
    assert (opened.order_id, opened.lines.get().quantity) == (order.pk, 1)


@pytest_db
def test_what_ebay_switched_off_is_switched_on_again(ebay: Shop) -> None:
    door = ebay.extra["door"]
    facts = ebay.client.shop("acme")
    assert {one["topic"] for one in facts["subscriptions"]} == set(webhooks.TOPICS)
    assert facts["alert_email"] == "ops@example.com"

    def ensure() -> list[str]:
        made = do(ebay.account.pk, lambda connector, access: connector.ensure_subscriptions(access, door.url))
        return [one.topic for one in made]

    assert ensure() == []
    door.close()
    ebay.buy("MUG", 1)
    assert ebay.client.wait_until(
        lambda: ebay.client.shop("acme")["destinations"][0]["status"] == "MARKED_DOWN"
    )
    fresh = Door()
    fresh.access = door.access
    try:
        made = do(
            ebay.account.pk, lambda connector, access: connector.ensure_subscriptions(access, fresh.url)
        )
    finally:
        fresh.close()
    # the seller's topics follow to the new address; those of the application stay where they were
    assert {one.topic for one in made} == {"ORDER_CONFIRMATION", "ITEM_MARKED_SHIPPED"}


@pytest_db
def test_the_hook_answers_the_challenge_and_checks_the_key_once(
    ebay: Shop, client: Client, settings: Any
) -> None:
    settings.BASE_URL = "https://oms.example.test"
    path = f"/hooks/{ebay.account.hook_key}/"
    token = Ebay().verification_token(ebay.extra["door"].access)
    told = client.get(path, {"challenge_code": "abc"})
    wanted = webhooks.challenge_answer("abc", token, f"https://oms.example.test{path}")
    assert (told.status_code, told.json()) == (200, {"challengeResponse": wanted})
    assert (
        client.get(path).status_code == 405 and client.get("/hooks/none/?challenge_code=a").status_code == 405
    )
    placed = ebay.buy("MUG", 1)
    sent = ebay.client.deliveries(shop="acme", limit=10)[-1]
    signed = sent["headers"]["X-EBAY-SIGNATURE"]

    def knock(body: bytes, signature: str = signed) -> int:
        return client.post(
            path, data=body, content_type="application/json", headers={"X-EBAY-SIGNATURE": signature}
        ).status_code

    body = sent["body"].encode()
    ebay.client.plan_fault("acme", "error_500", operation="get_public_key")
    assert knock(body) == 503  # the key cannot be had now: eBay sends it again
    assert [knock(body), knock(body), knock(body + b" ")] == [200, 200, 401]
    assert ebay.requests("get_public_key") == 2
    unknown = base64.b64encode(json.dumps({"kid": "0" * 32, "signature": "AAAA"}).encode()).decode()
    assert [knock(body, unknown), knock(body, unknown)] == [401, 401]
    assert ebay.requests("get_public_key") == 3
    assert InboxMessage.objects.filter(account=ebay.account).count() == 1
    inbox.drain(ebay.account.pk)
    assert Order.objects.filter(external_id=placed["id"]).exists()
