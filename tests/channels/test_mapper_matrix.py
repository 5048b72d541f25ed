"""Every channel's mapper against the same oddities: each order is read, or refused alone. No database."""

from __future__ import annotations

import copy
import datetime as dt
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from channels import inbox
from channels.connectors.amazon import mapper as amazon
from channels.connectors.amazon.client import Amazon
from channels.connectors.base import Access, ChannelError, Connector, Retry
from channels.connectors.custom import mapping as maps
from channels.connectors.custom.client import Custom
from channels.connectors.ebay import mapper as ebay
from channels.connectors.ebay.client import Ebay
from channels.connectors.shopify import mapper as shopify
from channels.connectors.shopify.client import Shopify
from channels.connectors.tiktok import mapper as tiktok
from channels.connectors.tiktok.client import TikTok
from channels.connectors.walmart import mapper as walmart
from channels.connectors.walmart.client import Walmart
from channels.connectors.woocommerce import mapper as woo
from channels.connectors.woocommerce.client import WooCommerce
from channels.models import ChannelAccount
from oms.core.errors import UserError
from oms.orders.drafts import OrderDraft
from oms.orders.validation import normalise
from tests.channels import (
    test_connectors,
    test_custom,
    test_ebay,
    test_tiktok,
    test_walmart,
    test_woocommerce,
)
from tests.channels.test_connectors import play
from tests.factories import line_draft, order_draft

Order = dict[str, Any]
TO = {"fullName": "Ada", "contactAddress": {"addressLine1": "1 Main", "city": "Austin", "countryCode": "US"}}


class Channel(NamedTuple):
    """Where an order of a channel holds what the cases change. Places are paths; "" = it knows no such thing."""

    connector: Connector
    access: Access
    order: Order
    read: Callable[[Order], OrderDraft | None]
    page: Callable[[Sequence[Any]], Any]
    id: str
    lines: str
    quantity: str
    price: str
    sku: str
    title: str
    address: str
    name: str
    time: str
    cancelled: tuple[str, Any]


def _amazon() -> Order:
    order = test_connectors.small()
    price = {"unitPrice": {"amount": "10.00", "currencyCode": "USD"}}
    order["orderItems"][0]["product"] = {"sellerSku": "MUG", "title": "Mug", "price": price}
    address = {"name": "Ada", "addressLine1": "1 Main", "city": "Austin", "countryCode": "US"}
    return {**order, "recipient": {"deliveryAddress": address}}


def _shopify() -> Order:
    order = test_connectors.node()
    order["lineItems"]["pageInfo"] = {"hasNextPage": False, "endCursor": None}
    return order


def _ebay() -> Order:
    order = copy.deepcopy(test_ebay.ORDER)
    order["lineItems"] = order["lineItems"][1:]
    order["fulfillmentStartInstructions"][0]["shippingStep"]["shipTo"] = TO
    return order


def _tiktok() -> Order:
    address = {"name": "Ada", "address_line1": "1 Main", "postal_code": "1", "region_code": "US"}
    return test_tiktok.order(test_tiktok.unit(1), recipient_address=address)


def _woo() -> Order:
    address = {"first_name": "Ada", "address_1": "1 Main", "city": "Austin", "country": "US"}
    return {**copy.deepcopy(test_woocommerce.ORDER), "billing": {}, "shipping": address}


SHOPIFY_PAGE = {"hasNextPage": False, "endCursor": None}
CHANNELS = {
    "shopify": Channel(
        Shopify(), test_connectors.SHOP, _shopify(), shopify.order_draft,
        lambda rows: {"data": {"orders": {"nodes": list(rows), "pageInfo": SHOPIFY_PAGE}}},
        "legacyResourceId", "lineItems.nodes", "lineItems.nodes.0.quantity",
        "lineItems.nodes.0.originalUnitPriceSet.shopMoney.amount", "lineItems.nodes.0.sku", "lineItems.nodes.0.title",
        "shippingAddress", "shippingAddress.name", "updatedAt", ("cancelledAt", "2026-11-23T10:00:00Z"),
    ),
    "amazon": Channel(
        Amazon(), test_connectors.ACCESS, _amazon(), amazon.order_draft, lambda rows: {"orders": list(rows)},
        "orderId", "orderItems", "orderItems.0.quantityOrdered", "orderItems.0.product.price.unitPrice.amount",
        "orderItems.0.product.sellerSku", "orderItems.0.product.title", "recipient", "recipient.deliveryAddress.name",
        "lastUpdatedTime", ("fulfillment.fulfillmentStatus", "CANCELLED"),
    ),
    "ebay": Channel(
        Ebay(), test_ebay.ACCESS, _ebay(), ebay.order_draft, lambda rows: {"orders": list(rows)},
        "orderId", "lineItems", "lineItems.0.quantity", "lineItems.0.lineItemCost.value", "lineItems.0.sku",
        "lineItems.0.title", "fulfillmentStartInstructions.0.shippingStep",
        "fulfillmentStartInstructions.0.shippingStep.shipTo.fullName", "lastModifiedDate",
        ("cancelStatus.cancelState", "CANCELED"),
    ),
    "walmart": Channel(
        Walmart(), test_walmart.ACCESS, test_walmart.order(test_walmart.line()), walmart.order_draft,
        lambda rows: {"list": {"elements": {"order": list(rows)}, "meta": {}}},
        "purchaseOrderId", "orderLines.orderLine", "orderLines.orderLine.0.orderLineQuantity.amount",
        "orderLines.orderLine.0.charges.charge.0.chargeAmount.amount", "orderLines.orderLine.0.item.sku",
        "orderLines.orderLine.0.item.productName", "shippingInfo.postalAddress", "shippingInfo.postalAddress.name", "",
        ("orderLines.orderLine.0.orderLineStatuses.orderLineStatus.0.status", "Cancelled"),
    ),
    "tiktok": Channel(
        TikTok(), test_tiktok.ACCESS, _tiktok(), tiktok.order_draft,
        lambda rows: {"code": 0, "data": {"orders": list(rows)}},
        "id", "line_items", "", "line_items.0.original_price", "line_items.0.seller_sku", "line_items.0.product_name",
        "recipient_address", "recipient_address.name", "", ("status", "CANCELLED"),
    ),
    "woocommerce": Channel(
        WooCommerce(), test_woocommerce.ACCESS, _woo(), woo.order_draft, list,
        "id", "line_items", "line_items.0.quantity", "line_items.0.subtotal", "line_items.0.sku", "line_items.0.name",
        "shipping", "shipping.first_name", "date_modified_gmt", ("status", "cancelled"),
    ),
    "custom": Channel(
        Custom(), test_custom.ACCESS, copy.deepcopy(test_custom.SAMPLE["purchases"][0]),
        lambda order: maps.order_draft(test_custom.whole(), order),
        lambda rows: {"purchases": list(rows), "next_cursor": None},
        "purchase_no", "positions", "positions.0.pieces", "positions.0.each", "positions.0.article",
        "positions.0.label", "ship_to", "ship_to.full_name", "touched", ("stage", "called_off"),
    ),
}  # fmt: skip


@pytest.fixture(params=CHANNELS)
def channel(request: pytest.FixtureRequest) -> Channel:
    return CHANNELS[request.param]


def that_tell(place: str) -> pytest.MarkDecorator:
    """The channels whose orders hold such a thing."""
    return pytest.mark.parametrize(
        "channel", [c for c in CHANNELS if getattr(CHANNELS[c], place)], indirect=True
    )


def put(order: Order, path: str, value: Any) -> Order:
    """A copy of an order with another value at a path."""
    made: Any = copy.deepcopy(order)
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    inner = made
    for step in way:
        inner = inner[step]
    inner[last] = value
    result: Order = made
    return result


def read(channel: Channel, order: Order) -> OrderDraft:
    draft = channel.read(json.loads(json.dumps(order), parse_float=Decimal))
    assert draft is not None
    return normalise(draft)


def goods(draft: OrderDraft) -> list[Any]:
    return [line for line in draft.lines if line.kind == "product"]


@pytest.mark.parametrize(
    ("currency", "price"),
    [("JPY", "1500"), ("KWD", "1.255"), ("USD", "0.3333"), ("EUR", "12.5"), ("USD", "0")],
)
def test_money_of_every_exponent_is_exact(channel: Channel, currency: str, price: str) -> None:
    told = float(price) if channel.connector.key == "walmart" else price
    order = json.loads(json.dumps(put(channel.order, channel.price, told)).replace('"USD"', f'"{currency}"'))
    draft = read(channel, order)
    [line] = goods(draft)
    assert draft.currency == currency
    per_unit = channel.connector.key not in ("ebay", "woocommerce")  # they tell the price of the whole line
    assert line.unit_price == (
        Decimal(price) if per_unit else (Decimal(price) / line.quantity).quantize(Decimal("0.0001"))
    )


@that_tell("quantity")
def test_a_line_of_no_unit_leaves_the_others(channel: Channel) -> None:
    order = put(channel.order, channel.quantity, "0" if channel.connector.key == "walmart" else 0)
    rows = dig(channel.order, channel.lines)
    for row in copy.deepcopy(rows):
        for name in ("id", "orderItemId", "lineItemId", "lineNumber", "pos"):
            if name in row:
                row[name] = f"{row[name]}9" if isinstance(row[name], str) else 99
        order = put(order, channel.lines, [*dig(order, channel.lines), row])
    open_ones = [line for line in goods(read(channel, order)) if line.quantity > line.cancelled]
    assert len(open_ones) == 1


def dig(order: Any, path: str) -> Any:
    for step in path.split("."):
        order = order[int(step) if step.isdigit() else step]
    return order


def test_an_order_without_a_line_is_refused_in_words(channel: Channel) -> None:
    try:
        draft = read(channel, put(channel.order, channel.lines, []))
    except (UserError, ValueError) as error:
        assert "line" in str(error)
    else:
        assert draft.lines and not goods(draft), "what it sold are its fees"


@pytest.mark.parametrize("sku", ["", "no such SKU", "ß-🫖-" + "x" * 300])
def test_a_sku_of_any_shape_is_kept_for_the_mapping(channel: Channel, sku: str) -> None:
    [line] = goods(read(channel, put(channel.order, channel.sku, sku)))
    assert line.external_sku == sku[:120] and line.sku_id is None


def test_names_are_cut_and_keep_their_emojis(channel: Channel) -> None:
    long = "Zoë 👩‍👩‍👧 " + "Ж" * 5000
    draft = read(channel, put(put(channel.order, channel.name, long), channel.title, f"🫖 {long}"))
    assert draft.contact is not None
    assert draft.contact.name.startswith("Zoë 👩‍👩‍👧 Ж") and len(draft.contact.name) == 200
    assert goods(draft)[0].title.startswith("🫖 Zoë") and len(goods(draft)[0].title) == 255


@pytest.mark.parametrize("missing", [None, {}])
def test_a_missing_address_keeps_the_stored_one(channel: Channel, missing: Any) -> None:
    order = put(channel.order, channel.address, missing)
    if channel.connector.key == "custom":
        order = put(order, "buyer", {})
    assert read(channel, order).contact is None


@that_tell("time")
@pytest.mark.parametrize(
    "told", ["2026-11-23T12:00:00+02:00", "2026-11-23T10:00:00Z", "2026-11-23T05:00:00.000-05:00"]
)
def test_times_count_with_their_offset(channel: Channel, told: str) -> None:
    draft = read(channel, put(channel.order, channel.time, told))
    assert draft.channel_updated_at == dt.datetime(2026, 11, 23, 10, tzinfo=dt.UTC)


def test_an_order_cancelled_before_we_knew_it_asks_for_nothing(channel: Channel) -> None:
    draft = read(channel, put(channel.order, *channel.cancelled))
    assert draft.status == "cancelled"
    assert all(line.shipped + line.cancelled == line.quantity for line in draft.lines)


#: what may stand in a place of an order: nothing that the documents know
BROKEN: dict[str, list[Any]] = {
    "lines": [["x"], [7], [{"a": 1}]], "line": [["x"], [7], [{}], [[]]], "address": ["x", 7, ["x"]],
    "price": ["many", {"a": 1}, ["x"], "1e999999999"], "quantity": ["many", {"a": 1}, ["x"]],
    # a node of GraphQL has the fields that were asked for or is null, and a list of a custom shop is mapped as objects
    "whole": ["an order", {}, [], 7],
}  # fmt: skip


@pytest.mark.parametrize("part", BROKEN)
def test_an_order_that_is_not_as_documented_stops_no_other_of_its_page(channel: Channel, part: str) -> None:
    """Whatever stands in its place: the others are taken, and it is counted, so that a person is told."""
    if part == "whole":
        typed = channel.connector.key in ("shopify", "custom")
        bad = [{**channel.order, channel.id: None}] if typed else BROKEN[part]
    else:
        path = channel.lines if part == "line" else getattr(channel, part) or channel.price
        bad = [put(channel.order, path, value) for value in BROKEN[part]]
    for one in bad:
        found, _ = play(
            channel.connector.list_orders(channel.access, "", ""), channel.page([one, channel.order])
        )
        ids = [draft.external_id for draft in found.drafts if sound(draft)]
        assert str(dig(channel.order, channel.id)) in ids, one
        assert len(found.drafts) + found.refused == 2, one


def sound(draft: OrderDraft) -> bool:
    try:
        normalise(draft)
    except UserError:
        return False
    return True


RETURNS = {
    "shopify": (lambda rows: {"data": {"orders": {"nodes": rows, "pageInfo": SHOPIFY_PAGE}}}, {
        "legacyResourceId": "77", "name": "#77", "returns": {"nodes": [
            {"id": "gid://shopify/Return/5", "name": "R5", "status": "OPEN", "returnLineItems": {"nodes": []}}]},
    }, {"returns": None}),
    "walmart": (lambda rows: {"returnOrders": rows}, {
        "returnOrderId": "5", "returnOrderLines": [{"purchaseOrderId": "77", "purchaseOrderLineNumber": "1"}],
    }, {"returnOrderLines": "x"}),
    "tiktok": (lambda rows: {"code": 0, "data": {"return_orders": rows}}, {"return_id": "5", "order_id": "77"},
               {"return_line_items": 7}),
    "ebay": (lambda rows: {"members": rows, "total": len(rows)}, {"returnId": "5", "orderId": "77"},
             {"creationInfo": "x"}),
}  # fmt: skip


@pytest.mark.parametrize("key", RETURNS)
def test_a_return_that_is_not_as_documented_is_told_and_stops_no_other(key: str) -> None:
    page, good, wrong = RETURNS[key]
    known = {"ebay": [{"orderId": "77", "lineItems": []}], "tiktok": [{"code": 0, "data": {"orders": []}}]}
    since = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
    connector, access = CHANNELS[key].connector, CHANNELS[key].access
    found, _ = play(
        connector.list_returns(access, since), page([{**good, **wrong}, good]), *known.get(key, ())
    )
    assert [(one.state == "unreadable", one.external_id) for one in found] == [
        (True, "#77" if key == "shopify" else "5"), (False, "5"),
    ]  # fmt: skip
    assert found[0].note


def test_one_order_that_the_channel_refuses_leaves_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(account: Any, numbers: Sequence[str]) -> list[OrderDraft]:
        if "3" in numbers:
            raise ChannelError(Retry.REJECTED, "no such parcel")
        return [order_draft(line_draft("MUG"), external_id=number) for number in numbers]

    monkeypatch.setattr(inbox, "_get", get)
    drafts, failures = inbox._read(ChannelAccount(pk=1), Ebay(), {str(number): [] for number in range(1, 6)})
    assert sorted(drafts) == ["1", "2", "4", "5"]
    assert failures == {"3": ("no such parcel", None, True)}
