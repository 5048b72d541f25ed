"""Connectors without a network: mapping, signatures, documents against the official schemas."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from channels.connectors.amazon import feeds, sigv4
from channels.connectors.amazon import mapper as amazon
from channels.connectors.amazon import webhooks as queue
from channels.connectors.amazon.client import Amazon, queue_arn
from channels.connectors.base import (
    Access,
    BadSignature,
    CancelOrder,
    Confirmation,
    PushItem,
    RefundItem,
    RefundOrder,
    Retry,
    ShipItem,
    connectors,
)
from channels.connectors.shopify import mapper as shopify
from channels.connectors.shopify import webhooks
from channels.connectors.shopify.client import OPERATIONS, Shopify
from oms.core.errors import UserError
from oms.core.http import HttpAnswer, HttpRequest
from oms.orders.models import SalesChannel
from oms.orders.validation import money_gap, normalise

ACCESS = Access(
    1,
    "amazon",
    "amazon",
    {"seller_id": "A1", "marketplace_id": "ATVPDKIKX0DER", "region": "na"},
    {},
    {"access_token": "t"},
)
SHOP = Access(2, "shopify", "shop", {"shop": "acme.myshopify.com"}, {"access_token": "t"}, {})


def item(listing_id: int = 1, **fields: Any) -> PushItem:
    values = {
        "external_id": str(listing_id), "external_sku": f"SKU/{listing_id}", "location_id": "7", "quantity": 5,
        "key": f"{listing_id}:1:0", "expected": 4, **fields,
    }  # fmt: skip
    return PushItem(listing_id=listing_id, **values)


def play(operation: Any, *answers: Any) -> tuple[Any, list[HttpRequest]]:
    """Run an operation against prepared JSON answers; its value and what it asked."""
    asked: list[HttpRequest] = []
    try:
        asked.append(next(operation))
        for answer in answers:
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            asked.append(operation.send(HttpAnswer(200, {}, content, 1)))
    except StopIteration as done:
        return done.value, asked
    raise AssertionError(f"the operation asks for more: {asked[-1].url}")


# --- Shopify ---------------------------------------------------------------------------------------


def test_every_connector_is_a_kind_of_sales_channel() -> None:
    """A connected channel takes the key as its kind; without it no form could save the channel again."""
    assert {connector.key for connector in connectors()} <= set(SalesChannel.Kind.values)


def test_signature_vector() -> None:
    body = b'{"id":820982911946154508,"name":"#1001","financial_status":"paid"}'
    header = "1Ya7ctfxF3FYxgWFfati9Uey45LA4X2jU3DqtM0BfAw="
    assert webhooks.sign("shpss_test_secret", body) == header
    assert webhooks.verify(["", "shpss_test_secret"], body, header)
    assert not webhooks.verify(["shpss_test_secret"], body + b" ", header)
    assert not webhooks.verify([""], body, webhooks.sign("", body))
    assert not webhooks.verify(["shpss_test_secret"], body, "ü")


def test_a_notification_names_its_order_and_needs_its_shop() -> None:
    body = json.dumps({"order_edit": {"id": 5, "order_id": 77}}).encode()
    headers = {
        "x-shopify-hmac-sha256": webhooks.sign("s", body), "x-shopify-topic": "orders/edited",
        "x-shopify-webhook-id": "w-1", "x-shopify-shop-domain": "acme.myshopify.com",
        "x-shopify-triggered-at": "2026-11-23T10:00:00Z",
    }  # fmt: skip
    found = webhooks.parse(["s"], "acme.myshopify.com", headers, body)[0]
    assert (found.delivery_id, found.order_id, found.kind) == ("w-1", "77", "order")
    with pytest.raises(BadSignature):
        webhooks.parse(["s"], "other.myshopify.com", headers, body)
    unnamed = {name: value for name, value in headers.items() if name != "x-shopify-webhook-id"}
    one, two = (webhooks.parse(["s"], "", unnamed, body)[0].delivery_id for _ in range(2))
    assert one == two and len(one) == 64


def test_every_operation_fits_the_official_schema(shared_dir: Path) -> None:
    import graphql

    text = (shared_dir / "specs" / "shopify" / "admin_2026-10.graphql").read_text()
    schema = graphql.build_schema(text, assume_valid=True)
    for name, source in OPERATIONS.items():
        assert graphql.validate(schema, graphql.parse(source)) == [], name


def test_two_rules_that_the_schema_cannot_tell() -> None:
    """Inventory and refund mutations carry @idempotent, and `changeFromQuantity` is always sent."""
    assert (
        "@idempotent(key: $key)" in OPERATIONS["set_quantities"]
        and "@idempotent(key: $key)" in OPERATIONS["create_refund"]
    )
    answer = {"data": {"inventorySetQuantities": {"userErrors": []}}}
    _, asked = play(Shopify().push_quantities(SHOP, [item(1, expected=None), item(2)]), answer)
    body = asked[0].json
    assert body["variables"]["key"] and [
        q["changeFromQuantity"] for q in body["variables"]["input"]["quantities"]
    ] == [None, 4]
    assert asked[0].idempotent and asked[0].allowed_hosts == ("acme.myshopify.com",)


def test_a_group_is_sent_again_without_the_blamed_items() -> None:
    def error(index: int, code: str) -> dict[str, Any]:
        return {"code": code, "field": ["input", "quantities", str(index), "quantity"], "message": "no"}

    first = {
        "data": {
            "inventorySetQuantities": {
                "userErrors": [error(0, "CHANGE_FROM_QUANTITY_STALE"), error(2, "INVALID_LOCATION")]
            }
        }
    }
    last = {"data": {"inventorySetQuantities": {"userErrors": []}}}
    found, asked = play(Shopify().push_quantities(SHOP, [item(1), item(2), item(3)]), first, last)
    assert [result.failure for result in found] == [Retry.STALE, None, Retry.REJECTED]
    keys = [request.json["variables"]["key"] for request in asked]
    assert keys[0] != keys[1] and len(asked[1].json["variables"]["input"]["quantities"]) == 1


def test_throttling_comes_with_status_200() -> None:
    from channels.connectors.base import ChannelError

    cost = {"requestedQueryCost": 300, "throttleStatus": {"currentlyAvailable": 100, "restoreRate": 100.0}}
    answer = {
        "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
        "extensions": {"cost": cost},
    }
    with pytest.raises(ChannelError) as caught:
        play(Shopify().push_quantities(SHOP, [item()]), answer)
    assert caught.value.kind is Retry.THROTTLED and caught.value.retry_after == 2.0


def node(**fields: Any) -> dict[str, Any]:
    def money(amount: str) -> dict[str, Any]:
        return {"shopMoney": {"amount": amount}}

    line = {
        "id": "gid://shopify/LineItem/11", "sku": "MUG", "title": "Mug", "variantTitle": None, "quantity": 3,
        "currentQuantity": 2, "unfulfilledQuantity": 1, "requiresShipping": True,
        "variant": {"id": "gid://shopify/ProductVariant/9"},
        "originalUnitPriceSet": money("10.00"), "discountedTotalSet": money("27.00"),
        "taxLines": [{"priceSet": money("2.70")}],
    }  # fmt: skip
    return {
        "legacyResourceId": "77", "name": "#1001", "createdAt": "2026-11-23T09:00:00Z", "processedAt": None,
        "updatedAt": "2026-11-23T10:00:00Z", "cancelledAt": None, "cancelReason": None, "test": False,
        "note": "ring twice", "email": "a@example.com", "phone": None, "tags": ["vip"],
        "currencyCode": "USD", "taxesIncluded": False,
        "displayFinancialStatus": "PAID", "displayFulfillmentStatus": "PARTIALLY_FULFILLED",
        "risk": {"recommendation": "CANCEL"},
        "totalPriceSet": money("34.70"), "totalTaxSet": money("2.70"), "totalDiscountsSet": money("3.00"),
        "totalShippingPriceSet": money("5.00"), "shippingLine": {"title": "Express", "code": None},
        "shippingAddress": {"name": "Ada", "address1": "1 Main", "city": "Austin", "provinceCode": "TX",
                            "zip": "1", "countryCodeV2": "US"},
        "fulfillmentOrders": {"nodes": [{"status": "OPEN", "fulfillBy": "2026-11-25T00:00:00Z"}]},
        "fulfillments": [{"status": "SUCCESS", "deliveredAt": None, "fulfillmentLineItems": {"nodes": [
            {"quantity": 1, "lineItem": {"id": "gid://shopify/LineItem/11"}}]}}],
        "lineItems": {"nodes": [line]}, **fields,
    }  # fmt: skip


def test_an_edited_and_partly_shipped_order() -> None:
    draft = normalise(shopify.order_draft(node()))
    line = draft.lines[0]
    assert (line.quantity, line.shipped, line.cancelled, line.external_sku) == (3, 1, 1, "MUG")
    assert (line.unit_price, line.discount, line.tax) == (Decimal("10"), Decimal("3"), Decimal("2.70"))
    assert (
        draft.status == "open"
        and draft.risk == "high"
        and draft.ship_by == dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
    )
    assert money_gap(draft) == 0
    assert draft.contact is not None and draft.contact.country == "US"


@pytest.mark.parametrize(
    ("fields", "status", "cancelled"),
    [
        ({"displayFinancialStatus": "PENDING"}, "pending", 1),
        ({"displayFinancialStatus": "AUTHORIZED"}, "pending", 1),
        ({"displayFinancialStatus": "PARTIALLY_REFUNDED"}, "open", 1),
        ({"displayFinancialStatus": "VOIDED"}, "open", 1),
        ({"cancelledAt": "2026-11-23T10:00:00Z"}, "cancelled", 2),
    ],
)
def test_shopify_status_map(fields: dict[str, Any], status: str, cancelled: int) -> None:
    draft = shopify.order_draft(node(**fields))
    assert (draft.status, draft.lines[0].cancelled) == (status, cancelled)
    assert shopify.order_draft(node(test=True)).is_test


def test_official_rest_samples_become_orders(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "payloads" / "shopify" / "2026_07"
    seen = 0
    for path in sorted(folder.glob("order_*.json")):
        body = json.loads(path.read_text(), parse_float=Decimal)["body"]
        for order in body.get("orders", [body["order"]] if "order" in body else []):
            if "line_items" not in order or "updated_at" not in order or "currency" not in order:
                continue
            draft = normalise(shopify.order_from_webhook(order))
            assert draft.external_id == str(order["id"]) and len(draft.lines) == len(order["line_items"])
            for line in draft.lines:
                assert 0 <= line.shipped + line.cancelled <= line.quantity
            seen += 1
    assert seen >= 4


def test_the_two_shapes_of_one_order_agree() -> None:
    rest = {
        "id": 77, "name": "#1001", "created_at": "2026-11-23T09:00:00Z", "updated_at": "2026-11-23T10:00:00Z",
        "currency": "USD", "financial_status": "paid", "total_price": "34.70",
        "total_tax": "2.70", "total_discounts": "3.00",
        "total_shipping_price_set": {"shop_money": {"amount": "5.00"}}, "email": "a@example.com",
        "note": "ring twice", "tags": "vip", "shipping_lines": [{"title": "Express", "code": None}],
        "shipping_address": {"name": "Ada", "address1": "1 Main", "city": "Austin", "province_code": "TX",
                             "zip": "1", "country_code": "US"},
        "fulfillments": [{"status": "success", "line_items": [{"id": 11, "quantity": 1}]}],
        "line_items": [{
            "id": 11, "sku": "MUG", "name": "Mug", "quantity": 3, "current_quantity": 2, "fulfillable_quantity": 1,
            "variant_id": 9, "requires_shipping": True, "price": "10.00", "discount_allocations": [{"amount": "3.00"}],
            "tax_lines": [{"price": "2.70"}],
        }],
    }  # fmt: skip
    one, other = (
        shopify.order_from_webhook(rest),
        shopify.order_draft(node(risk=None, fulfillmentOrders={"nodes": []})),
    )
    assert normalise(one) == normalise(other)


def test_config_is_checked() -> None:
    assert Shopify().check_config({"shop": "https://ACME.myshopify.com/"})["shop"] == "acme.myshopify.com"
    for wrong in ("acme.example.com", "acme.myshopify.com.evil.com", "", "a/b.myshopify.com"):
        with pytest.raises(UserError):
            Shopify().check_config({"shop": wrong})
    with pytest.raises(UserError) as caught:
        Amazon().check_config(
            {"seller_id": "A", "marketplace_id": "ATVPDKIKX0DER", "queue_url": "https://evil.example.com/1/q"}
        )
    assert caught.value.field == "queue_url"


# --- Amazon ----------------------------------------------------------------------------------------


def test_aws_published_signature_vectors() -> None:
    """AWS documentation and its Signature Version 4 test suite ("get-vanilla", "post-header-key-sort")."""
    at = dt.datetime(2015, 8, 30, 12, 36, tzinfo=dt.UTC)
    keys = {
        "access_key": "AKIDEXAMPLE",
        "secret_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "region": "us-east-1",
        "at": at,
    }
    listed = sigv4.signed_headers(
        "GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, b"", service="iam", **keys,
    )  # fmt: skip
    assert listed["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )
    vanilla = sigv4.signed_headers(
        "GET", "https://example.amazonaws.com/", {}, b"", service="service", **keys
    )
    assert vanilla["Authorization"].endswith(
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    )
    posted = sigv4.signed_headers(
        "POST", "https://example.amazonaws.com/", {}, b"", service="service", **keys
    )
    assert posted["Authorization"].endswith(
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    )


def test_queue_address_to_arn() -> None:
    assert queue_arn("https://sqs.eu-west-1.amazonaws.com/123/mine") == "arn:aws:sqs:eu-west-1:123:mine"


def sample_order(shared_dir: Path) -> dict[str, Any]:
    spec = json.loads((shared_dir / "specs" / "amazon" / "orders_2026-01-01.json").read_text())
    answer = spec["paths"]["/orders/2026-01-01/orders"]["get"]["responses"]["200"]["examples"][
        "application/json"
    ]
    order: dict[str, Any] = answer["orders"][0]
    return order


def test_official_amazon_example(shared_dir: Path) -> None:
    order = sample_order(shared_dir)
    draft = normalise(amazon.order_draft(order))
    assert (draft.external_id, draft.status, draft.kind) == ("123-4567890-1234567", "shipped", "replacement")
    assert draft.total == Decimal("154.99") and draft.currency == "USD" and money_gap(draft) == 0
    assert draft.ship_by == dt.datetime(2024, 12, 27, 23, 59, 59, tzinfo=dt.UTC)
    assert [(line.external_sku, line.quantity, line.shipped) for line in draft.lines][0] == (
        "ECHO-DOT-4-CHARCOAL",
        2,
        2,
    )
    assert draft.contact is not None and draft.contact.city == "Seattle" and not draft.contact.residential
    with pytest.raises(amazon.NotASale):
        amazon.order_draft({**order, "salesChannel": {"channelName": "NON_AMAZON"}})


def small(status: str = "UNSHIPPED", **fields: Any) -> dict[str, Any]:
    return {
        "orderId": "1-1-1", "createdTime": "2026-11-23T09:00:00Z", "lastUpdatedTime": "2026-11-23T09:00:00Z",
        "salesChannel": {"channelName": "AMAZON", "marketplaceId": "A1PA6795UKMFR9"},
        "fulfillment": {"fulfillmentStatus": status, "fulfilledBy": "MERCHANT"},
        "orderItems": [{"orderItemId": "9", "quantityOrdered": 2, "product": {"sellerSku": "MUG"}}], **fields,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told", "status"),
    [("PENDING_AVAILABILITY", "pending"), ("PENDING", "pending"), ("UNSHIPPED", "open"), ("PARTIALLY_SHIPPED", "open"),
     ("SHIPPED", "shipped"), ("CANCELLED", "cancelled"), ("UNFULFILLABLE", "cancelled")],
)  # fmt: skip
def test_amazon_status_map(told: str, status: str) -> None:
    draft = normalise(amazon.order_draft(small(told)))
    assert draft.status == status and draft.currency == "EUR" and draft.contact is None
    assert draft.lines[0].cancelled == (2 if status == "cancelled" else 0)


def test_amazon_order_that_amazon_ships_and_a_buyers_wish() -> None:
    fba = amazon.order_draft(small(fulfillment={"fulfillmentStatus": "UNSHIPPED", "fulfilledBy": "AMAZON"}))
    assert fba.fulfilled_by == "channel"
    wish = {"cancellationRequest": {"requester": "BUYER", "cancelReason": "mind changed"}}
    asked = small(
        orderItems=[{"orderItemId": "9", "quantityOrdered": 1, "product": {}, "cancellation": wish}]
    )
    assert amazon.order_draft(asked).buyer_cancel_requested
    gone = small("CANCELLED", orderItems=[{"orderItemId": "9", "quantityOrdered": 0, "product": {}}])
    assert (amazon.order_draft(gone).lines[0].quantity, amazon.order_draft(gone).lines[0].cancelled) == (1, 1)


def closed(schema: Any) -> Any:
    """The schema with every object closed, so that a misspelled field fails."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(value) for name, value in schema.items()}
    if "properties" in made and not {"allOf", "oneOf"} & set(made):
        made.setdefault("additionalProperties", False)
    return made


def fits(shared_dir: Path, file: str, definition: str, body: Any) -> list[str]:
    import jsonschema

    spec = json.loads((shared_dir / "specs" / "amazon" / file).read_text())
    schema = closed({"$ref": f"#/definitions/{definition}", "definitions": spec["definitions"]})
    return [error.message for error in jsonschema.Draft4Validator(schema).iter_errors(body)]


def test_amazon_requests_fit_the_closed_official_schemas(shared_dir: Path) -> None:
    accepted = {"sku": "SKU/1", "status": "ACCEPTED", "submissionId": "s"}
    found, asked = play(Amazon().push_quantities(ACCESS, [item()]), accepted)
    assert found[0].failure is None and asked[0].url.endswith("/items/A1/SKU%2F1")
    assert fits(shared_dir, "listingsItems_2021-08-01.json", "ListingsItemPatchRequest", asked[0].json) == []
    assert asked[0].json["patches"][0]["op"] == "merge"
    parcel = Confirmation(
        "1-1-1",
        "42",
        "Own van",
        "Own van",
        "express",
        "VAN-1",
        "",
        dt.datetime(2026, 11, 23, tzinfo=dt.UTC),
        (ShipItem("9", 2),),
    )
    _, asked = play(Amazon().confirm_shipment(ACCESS, parcel), b"")
    assert fits(shared_dir, "ordersV0.json", "ConfirmShipmentRequest", asked[0].json) == []
    assert asked[0].json["packageDetail"]["carrierName"] == "Own van"
    import jsonschema

    schema = json.loads(
        (shared_dir / "specs" / "amazon" / "feeds" / "listings-feed-schema-v2.json").read_text()
    )
    jsonschema.validate(feeds.document("A1SELLERID", [item(), item(2)]), schema)


def test_status_200_with_invalid_is_a_refusal() -> None:
    invalid = {
        "sku": "SKU/1",
        "status": "INVALID",
        "issues": [{"code": "4000001", "message": "no", "severity": "ERROR"}],
    }
    found, _ = play(Amazon().push_quantities(ACCESS, [item()]), invalid)
    assert found[0].failure is Retry.REJECTED and "4000001" in found[0].message


def test_goods_that_amazon_ships_are_never_told() -> None:
    found, asked = play(Amazon().push_quantities(ACCESS, [item(fulfilled_by_channel=True)]))
    assert asked == [] and found[0].failure is Retry.REJECTED
    from channels.connectors.base import ChannelError

    with pytest.raises(ChannelError):
        play(Amazon().push_bulk(ACCESS, [item(), item(2, fulfilled_by_channel=True)]))


def test_feed_report_blames_single_items(shared_dir: Path) -> None:
    report = json.loads(
        (
            shared_dir
            / "specs"
            / "amazon"
            / "feeds"
            / "listings-feed-processing-report-schema-v2.example.json"
        ).read_text()
    )
    found = feeds.results(report, [item(number) for number in range(1, 7)])
    assert [result.failure for result in found] == [None, None, None, Retry.REJECTED, Retry.REJECTED, None]


def test_a_feed_goes_to_amazons_storage_only() -> None:
    from channels.connectors.base import ChannelError

    operation = Amazon().push_bulk(ACCESS, [item()])
    with pytest.raises(ChannelError, match="not Amazon's"):
        play(operation, {"feedDocumentId": "d", "url": "https://evil.example.com/x"})


def test_refund_and_cancel_documents_are_escaped_and_sum_up() -> None:
    refund = RefundOrder(
        "1-1-1", "RF-1 <&>", "k", Decimal("11.00"), Decimal("2.00"), "USD",
        (RefundItem("9", 1, Decimal("10.00")),), fee=Decimal("1.00"),
    )  # fmt: skip
    text = feeds.refund_document("A1", refund).decode()
    assert (
        "RF-1 &lt;&amp;&gt;" in text
        and '<Amount currency="USD">9.00</Amount>' in text
        and ">2.00</Amount>" in text
    )
    whole = feeds.cancel_document("A1", CancelOrder("1-1-1", "CX-1", "no_stock")).decode()
    assert "<StatusCode>Failure</StatusCode>" in whole and "<Item>" not in whole
    assert (
        feeds.report_error(
            b"<a><Result><ResultCode>Error</ResultCode><ResultDescription>no</ResultDescription></Result></a>"
        )
        == "no"
    )
    assert feeds.report_error(b"<a/>") == ""


def test_an_xml_bomb_is_refused() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    with pytest.raises(ValueError):
        feeds.report_error(bomb)


def test_queue_messages(shared_dir: Path) -> None:
    folder = shared_dir / "specs" / "amazon" / "notifications"
    order = json.loads((folder / "OrderChangeNotification.json").read_text())["examples"][0]
    found = queue.parse(json.dumps(order))
    assert (found.order_id, found.kind, found.delivery_id) == (
        "903-8868176-2219830",
        "order",
        "d0e9e693-c3ad-4373-979f-ed4ec98dd746",
    )
    quantity = json.loads((folder / "ListingsItemMfnQuantityChange.json").read_text())["examples"][0]
    assert queue.told_quantity(queue.parse(json.dumps(quantity)).body) == ("NLS-SHOES-03", "", 99)
    feed = json.loads((folder / "FeedProcessingFinishedNotification.json").read_text())["examples"][0]
    assert queue.parse(json.dumps(feed)).kind == "feed"
    for wrong in ("[]", "{}", "nope"):
        with pytest.raises(ValueError):
            queue.parse(wrong)


def test_carrier_words() -> None:
    rules = Shopify.capabilities
    assert rules.carrier("ups") == "UPS" and rules.carrier("", "DHL Express") == "DHL Express"
    assert (
        Amazon.capabilities.carrier("fedex") == "FedEx"
        and Amazon.capabilities.carrier("", "Own van") == "Own van"
    )
