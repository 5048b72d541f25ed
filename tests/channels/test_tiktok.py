"""TikTok Shop: mapping, signatures, requests against the official contract, and the whole way against a played shop."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest

from channels import accounts, pulls
from channels.connectors.base import Access, BadSignature, ChannelError, PushItem, Retry
from channels.connectors.tiktok import mapper, webhooks
from channels.connectors.tiktok.client import API_HOST, TikTok, _data
from channels.models import ChannelEffect, Listing
from channels.sandbox.tiktok import shop as played
from channels.session import do
from fulfillment import labels, packing, picking, shipping
from fulfillment.models import LabelPurchase
from fulfillment.shipments import ensure_shipments
from inventory.models import Sku, StockLevel
from oms.core import http
from oms.core.actor import SYSTEM
from oms.core.errors import Conflict, UserError
from oms.core.masking import mask_text
from oms.core.models import ExceptionItem
from oms.orders import services
from oms.orders.models import Order, OrderEvent, OrderLine
from oms.orders.validation import money_gap, normalise
from returns import refunds
from returns.models import Rma
from tests.channels.conftest import SKUS, Shop, deliver, push_all
from tests.channels.test_connectors import play
from tests.channels.test_effects import shipped, work
from tests.factories import add_stock, make_user

ACCESS = Access(
    7, "tiktok", "tt", {"shop_id": ""},
    {"app_key": "k1", "app_secret": "s1", "shop_cipher": "C1", "shop_id": "7494"}, {"access_token": "t"},
)  # fmt: skip
ADDRESS = {
    "name": "Ada Brooks", "address1": "12 Oak St", "city": "Boston", "province_code": "MA", "zip": "02108",
    "country_code": "US",
}  # fmt: skip


# --- without a network -----------------------------------------------------------------------------


def unit(number: int, sku: str = "11", **fields: Any) -> dict[str, Any]:
    return {
        "id": str(number), "sku_id": sku, "seller_sku": f"S{sku}", "product_name": "Mug", "sku_name": "Default",
        "original_price": "10.00", "sale_price": "9.00", "seller_discount": "0.70", "platform_discount": "0.30",
        "item_tax": [{"tax_amount": "0.54", "tax_type": "SALES_TAX"}], "display_status": "AWAITING_SHIPMENT", **fields,
    }  # fmt: skip


def order(*units: dict[str, Any], status: str = "AWAITING_SHIPMENT", **fields: Any) -> dict[str, Any]:
    goods = sum(Decimal(one["original_price"]) for one in units)
    return {
        "id": "5764", "status": status, "create_time": 1795420800, "update_time": 1795420900, "paid_time": 1795420801,
        "line_items": list(units), "delivery_option_id": "7", "shipping_type": "SELLER",
        "payment": {
            "currency": "USD", "original_total_product_price": str(goods),
            "seller_discount": str(Decimal("0.70") * len(units)),
            "platform_discount": str(Decimal("0.30") * len(units)),
            "shipping_fee": "4.99", "tax": str(Decimal("0.54") * len(units)), "retail_delivery_fee": "0.28",
            "total_amount": str(goods - len(units) + Decimal("4.99") + Decimal("0.54") * len(units) + Decimal("0.28")),
        },
        **fields,
    }  # fmt: skip


def test_the_official_order_can_be_read(shared_dir: Path) -> None:
    body = json.loads((shared_dir / "data/payloads/tiktok/order_detail_202309_sample.json").read_text())
    draft = mapper.order_draft(body["data"]["orders"][0])
    assert (draft.external_id, draft.status, draft.currency) == ("576461413038785752", "pending", "IDR")
    goods, retail, small = draft.lines
    assert (goods.external_id, goods.external_sku, goods.listing_ref, goods.quantity) == (
        "577086512123755123", "red_iphone_256", "2729382476852921560", 1,
    )  # fmt: skip
    assert (goods.unit_price, goods.tax, goods.discount) == (Decimal("0.01"), Decimal("21.2"), 0)
    assert (retail.kind, retail.unit_price, small.unit_price) == ("service", Decimal("1.28"), Decimal(3000))
    assert (draft.total, draft.shipping, draft.discount) == (5000, 5000, 10000)
    assert draft.ship_by == dt.datetime.fromtimestamp(1619611688, dt.UTC)
    assert draft.contact is not None
    assert (draft.contact.name, draft.contact.address1, draft.contact.postal_code, draft.contact.address3) == (
        "Zay", "TikTok 5800 bristol Pkwy", "95110", "",
    )  # fmt: skip
    assert draft.tags == ("label from TikTok",)


def test_units_of_one_sku_are_one_line_and_money_fits_to_the_cent() -> None:
    shown = order(
        unit(3), unit(1), unit(20, "12", original_price="5.55"), unit(2, display_status="CANCELLED")
    )
    draft = normalise(mapper.order_draft(shown))
    first, second, fee = draft.lines
    assert (first.external_id, first.quantity, first.cancelled, first.shipped) == ("1", 3, 1, 0)
    assert (first.unit_price, first.discount, first.tax) == (Decimal(10), Decimal(3), Decimal("1.62"))
    assert (second.external_id, second.quantity, second.unit_price) == ("20", 1, Decimal("5.55"))
    assert (fee.kind, fee.unit_price) == ("service", Decimal("0.28"))
    assert draft.total == Decimal("38.98") and money_gap(draft) == 0
    away = [unit(1, display_status="IN_TRANSIT"), unit(2), unit(3)]
    line = mapper.order_draft(order(*away, status="PARTIALLY_SHIPPING")).lines[0]
    assert (line.external_id, line.quantity, line.shipped) == ("1", 3, 1)


def test_statuses_deadlines_and_the_address_that_is_held_back() -> None:
    told = {status: mapper.order_draft(order(unit(1), status=status)).status for status in mapper.STATUSES}
    assert told == {
        "UNPAID": "pending", "ON_HOLD": "pending", "AWAITING_SHIPMENT": "open", "PARTIALLY_SHIPPING": "open",
        "AWAITING_COLLECTION": "shipped", "IN_TRANSIT": "shipped", "DELIVERED": "delivered", "COMPLETED": "delivered",
        "CANCELLED": "cancelled", "CANCEL": "cancelled",
    }  # fmt: skip
    with pytest.raises(mapper.Unfit, match="status 'LOST' is unknown"):
        mapper.order_draft(order(unit(1), status="LOST"))
    assert mapper.order_draft(order(unit(1), status="ON_HOLD")).contact is None
    times = {"rts_sla_time": 1795600000, "tts_sla_time": 1795700000, "shipping_due_time": 1795500000}
    draft = mapper.order_draft(
        order(unit(1), **times, is_buyer_request_cancel=True, is_replacement_order=True)
    )
    assert draft.ship_by == dt.datetime.fromtimestamp(
        1795500000, dt.UTC
    )  # the platform cancels before its own SLA
    assert mapper.auto_cancel_at(times) == draft.ship_by
    assert draft.buyer_cancel_requested and draft.kind == "replacement"
    fbt = mapper.order_draft(order(unit(1), fulfillment_type="FULFILLMENT_BY_TIKTOK"))
    assert fbt.fulfilled_by == "channel"


def test_a_request_is_signed_over_what_is_sent() -> None:
    query = {
        "timestamp": "1795420800",
        "app_key": "k1",
        "shop_cipher": "C1",
        "sign": "x",
        "access_token": "y",
    }
    text = b's1/order/202309/orders/searchapp_keyk1shop_cipherC1timestamp1795420800{"a":1}s1'
    right = hmac.new(b"s1", text, hashlib.sha256).hexdigest()
    assert webhooks.sign_request("s1", "/order/202309/orders/search", query, b'{"a":1}') == right
    _, asked = play(TikTok().get_orders(ACCESS, ["5764"]), {"code": 0, "data": {"orders": []}})
    sent = dict(asked[0].params)  # type: ignore[arg-type]
    assert sent.pop("sign") == webhooks.sign_request("s1", "/order/202309/orders", sent)
    assert sent["ids"] == "5764" and asked[0].allowed_hosts == (API_HOST,)


def test_a_notification_needs_its_signature_and_its_shop(shared_dir: Path) -> None:
    raw = (shared_dir / "data/payloads/tiktok/webhook_order_status_change.json").read_bytes()
    seal = hmac.new(b"s1", b"k1" + raw, hashlib.sha256).hexdigest()
    found = webhooks.parse("k1", "s1", "7494726673780148744", {"authorization": seal}, raw)[0]
    assert (found.order_id, found.kind, found.topic) == ("576684019603311365", "order", "ORDER_STATUS_CHANGE")
    assert found.event_at == dt.datetime.fromtimestamp(1664095733, dt.UTC)
    for key, secret, shop, body in (
        ("k2", "s1", "", raw), ("k1", "s2", "", raw), ("k1", "", "", raw), ("k1", "s1", "", raw + b" "),
        ("k1", "s1", "1", raw),
    ):  # fmt: skip
        with pytest.raises(BadSignature):
            webhooks.parse(key, secret, shop, {"authorization": seal}, body)
    package = json.dumps(
        {
            "type": 4,
            "shop_id": "1",
            "tts_notification_id": "9",
            "data": {"package_list": [{"order_id_list": ["5", "6"]}]},
        }
    ).encode()
    seal = webhooks.sign_message("k1", "s1", package)
    told = webhooks.parse("k1", "s1", "1", {"authorization": seal}, package)
    assert [(one.delivery_id, one.order_id) for one in told] == [("9:5", "5"), ("9:6", "6")]


@pytest.mark.parametrize(
    ("code", "message", "safe", "kind"),
    [
        (105002, "Expired credentials", True, Retry.AUTH),
        (106001, "Invalid sign", True, Retry.AUTH),
        (36009002, "Too many requests", False, Retry.THROTTLED),
        (36009003, "Internal error", True, Retry.TRANSIENT),
        (36009003, "Internal error", False, Retry.IN_DOUBT),
        (12052217, "A SKU does not belong to the product", False, Retry.REJECTED),
    ],
)
def test_a_refusal_inside_a_good_answer(code: int, message: str, safe: bool, kind: Retry) -> None:
    with pytest.raises(ChannelError) as caught:
        _data({"code": code, "message": message, "data": None}, safe=safe)
    assert caught.value.kind is kind and str(code) in caught.value.message


def item(listing_id: int, external_id: str, place: str = "1", quantity: int = 5, **data: Any) -> PushItem:
    return PushItem(listing_id, external_id, "", place, quantity, f"{listing_id}:1", data=data)


def test_one_call_per_product_names_every_warehouse_and_one_refusal_stops_nobody() -> None:
    items = [
        item(1, "10/101"), item(2, "10/102", "1", 0), item(3, "20/201", warehouses=["1", "2"]), item(4, "nonsense"),
        item(5, "10/103", quantity=100_000),
    ]  # fmt: skip
    error = {
        "code": 12052700,
        "message": "not updated",
        "detail": {"sku_id": "102", "extra_errors": [{"message": "frozen"}]},
    }
    other = [
        {"warehouse_id": "1", "available_quantity": 3}, {"warehouse_id": "2", "available_quantity": 8},
    ]  # fmt: skip
    results, asked = play(
        TikTok().push_quantities(ACCESS, items),
        {"code": 0, "data": {"errors": [error]}},
        {"code": 0, "data": {"inventory": [{"skus": [{"id": "201", "warehouse_inventory": other}]}]}},
        {"code": 0, "data": {}},
    )
    bodies = [json.loads(one.content) for one in asked]  # type: ignore[arg-type]
    assert bodies[0] == {
        "skus": [
            {"id": "101", "inventory": [{"warehouse_id": "1", "quantity": 5}]},
            {"id": "102", "inventory": [{"warehouse_id": "1", "quantity": 0}]},
        ]
    }
    assert bodies[2]["skus"][0]["inventory"] == [
        {"warehouse_id": "1", "quantity": 5}, {"warehouse_id": "2", "quantity": 8},
    ]  # fmt: skip
    assert [one.failure for one in results] == [None, Retry.REJECTED, None, Retry.REJECTED, Retry.REJECTED]
    assert "frozen" in results[1].message and "99,999" in results[4].message


def test_a_wrong_shop_id_is_named_and_secrets_stay_out_of_the_journal() -> None:
    with pytest.raises(UserError) as caught:
        TikTok().check_config({"shop_id": "my shop"})
    assert caught.value.field == "shop_id"
    shown = mask_text("/api/v2/token/get?app_secret=hush&auth_code=ROW_once&refresh_token=ROW_r&grant_type=x")
    assert "hush" not in shown and "ROW_" not in shown


def test_out_of_stock_is_only_said_when_it_is_meant() -> None:
    names = [
        "seller_cancel_reason_out_of_stock",
        "seller_cancel_reason_wrong_price",
        "seller_cancel_buyer_asked",
    ]
    assert mapper.pick_reason(names, "no_stock") == names[0]
    assert mapper.pick_reason(names, "buyer") == names[2]
    assert mapper.pick_reason(names, "other") == names[1]
    assert mapper.pick_reason([], "other") == ""


# --- a played shop ---------------------------------------------------------------------------------


class Contract:
    """The published operations with closed request schemas."""

    def __init__(self, folder: Path) -> None:
        self.paths: list[tuple[str, re.Pattern[str], dict[str, Any]]] = []
        for file in sorted(folder.glob("*.json")):
            for path, methods in json.loads(file.read_text())["paths"].items():
                for method, operation in methods.items():
                    pattern = re.compile(re.sub(r"\{\w+\}", r"[^/]+", path))
                    self.paths.append((method.upper(), pattern, operation))
        self.seen: set[str] = set()

    def check(self, request: http.HttpRequest) -> None:
        parts = urlsplit(request.url)
        if parts.hostname != API_HOST:
            return
        found = [
            one
            for method, pattern, one in self.paths
            if method == request.method and pattern.fullmatch(parts.path)
        ]
        assert len(found) == 1, f"{request.method} {parts.path}"
        operation = found[0]
        self.seen.add(operation["summary"])
        fields = {one["name"]: one.get("required") for one in operation["parameters"] if one["in"] == "query"}
        sent = set(dict(request.params or {})) - {"app_key", "timestamp", "sign"}
        assert sent <= set(fields), (parts.path, sent - set(fields))
        assert {name for name, needed in fields.items() if needed} <= sent, parts.path
        if "requestBody" in operation:
            (content,) = operation["requestBody"]["content"].values()
            jsonschema.Draft4Validator(close(content["schema"])).validate(
                json.loads(request.content or b"null")
            )
        else:
            assert not request.content, parts.path


def close(schema: Any) -> Any:
    if isinstance(schema, list):
        return [close(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: close(inner) for name, inner in schema.items()}
    return {**closed, "additionalProperties": False} if isinstance(schema.get("properties"), dict) else closed


@pytest.fixture(scope="session")
def published(shared_dir: Path) -> Contract:
    return Contract(shared_dir / "specs/tiktok")


@pytest.fixture(autouse=True)
def _contract(published: Contract, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every request any test here sends is held against the published contract."""
    right = http.HttpDoor._assemble

    def checked(self: Any, request: http.HttpRequest, *rest: Any) -> Any:
        published.check(request)
        return right(self, request, *rest)

    monkeypatch.setattr(http.HttpDoor, "_assemble", checked)
    yield


def connect(sandbox: Any, stock: Any, django: Any, **spec: Any) -> Shop:
    warehouse, skus = stock
    catalogue = [{"sku": code, "title": code.title(), "price": "10.00", "stock": 10} for code in SKUS]
    for code in ("MUG", "BOWL"):
        catalogue[SKUS.index(code)] |= {"parent": "Tableware", "option": code.title()}
    shop = sandbox.create_shop("tiktok", "tt", name="Tok shop", currency="USD", catalogue=catalogue, **spec)
    django.HOST_MAP = sandbox.host_map()
    keys = ("app_key", "app_secret", "auth_code")
    account = accounts.connect(
        connector="tiktok", name="Tok shop", code="tt", prefix="TT", config={},
        credentials={key: shop["credentials"][key] for key in keys}, warehouse_ids=[warehouse.pk], actor=SYSTEM,
    )  # fmt: skip
    tested = accounts.test(account.pk, actor=SYSTEM)
    assert tested.ok and tested.facts is not None and tested.facts.currency == "USD", tested.message
    accounts.map_location(account.pk, tested.facts.locations[0][0], warehouse.pk, actor=SYSTEM, name="Main")
    accounts.go_live(account.pk, "http://127.0.0.1:9/hooks/none/", actor=SYSTEM)
    accounts.import_listings(account.pk, actor=SYSTEM)
    account.refresh_from_db()
    return Shop(sandbox, "tt", account, skus, warehouse, shop)


@pytest.fixture
def tiktok(sandbox: Any, stock: Any, settings: Any) -> Shop:
    return connect(sandbox, stock, settings)


def taken(shop: Shop, code: str = "MUG", quantity: int = 2, **options: Any) -> Order:
    placed = shop.buy(code, quantity, **{"address": ADDRESS, "email": "ada@example.com", **options})
    deliver(shop)
    return Order.objects.get(external_id=str(placed["id"]))


@pytest.mark.django_db(transaction=True)
def test_sale_stock_parcel_and_proof(tiktok: Shop, assert_invariants: Callable[[], None]) -> None:
    push_all()
    assert {code: tiktok.available(code) for code in SKUS} == dict.fromkeys(SKUS, 50)
    assert tiktok.requests("update_inventory") == 2  # two SKUs of one product, and one alone
    placed = tiktok.client.place_order(
        "tt", [{"sku": "MUG", "quantity": 2}, {"sku": "BOWL", "quantity": 1}], address=ADDRESS,
        shipping_price="4.99",
    )  # fmt: skip
    for _ in range(3):
        deliver(tiktok)
    order = Order.objects.get(external_id=str(placed["id"]))
    assert sorted(order.lines.values_list("sku__code", "quantity", "reserved")) == [
        ("BOWL", 1, 1),
        ("MUG", 2, 2),
    ]
    assert order.total == Decimal("34.99")
    shipped(order)
    work(tiktok)
    assert ChannelEffect.objects.get(kind="ship").state == "confirmed"
    (package,) = tiktok.client.shop("tt")["packages"]
    assert package["tracking"] == "1Z999AA10123456784" and len(package["units"]) == 3
    deliver(tiktok)
    order.refresh_from_db()
    assert order.state == Order.State.SHIPPED
    push_all()
    assert (tiktok.available("MUG"), tiktok.available("BOWL")) == (48, 49)
    assert do(
        tiktok.account.pk,
        lambda c, a: c.read_quantities(a, [_ref(tiktok, "MUG"), _ref(tiktok, "TRAY")]),
    ) == {tiktok.listing("MUG").pk: 48, tiktok.listing("TRAY").pk: 50}
    assert_invariants()


def _ref(shop: Shop, code: str) -> Any:
    from channels.connectors.base import ListingRef

    listing = shop.listing(code)
    return ListingRef(listing.pk, listing.external_id, listing.external_sku, listing.location_id)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.django_db(transaction=True)
def test_a_confirmation_whose_answer_was_lost_is_one_package(
    sandbox: Any, stock: Any, settings: Any, first: bool
) -> None:
    """Also where the platform makes the packages before they are shipped."""
    shop = connect(sandbox, stock, settings, settings={"packages_first": first})
    order = taken(shop)
    operation = "ship_package" if first else "add_package"
    shop.client.plan_fault("tt", "timeout", operation=operation)
    shipped(order)
    work(shop, 12)
    assert ChannelEffect.objects.get(kind="ship").state == "confirmed"
    assert len(shop.client.fulfilments("tt")) == 1 and shop.requests(operation) == 1


@pytest.mark.django_db(transaction=True)
def test_an_unknown_carrier_is_named_with_those_that_are_known(tiktok: Shop) -> None:
    shipped(taken(tiktok), carrier="acme", name="Acme Parcels")
    work(tiktok)
    effect = ChannelEffect.objects.get(kind="ship")
    assert (
        effect.state == "rejected" and "Acme Parcels" in effect.error and "USPS, UPS, FedEx" in effect.error
    )


@pytest.mark.django_db(transaction=True)
def test_a_label_that_tiktok_supplies_is_entered_and_never_bought_here(
    sandbox: Any, stock: Any, settings: Any, client: Any, assert_invariants: Callable[[], None]
) -> None:
    Sku.objects.update(weight_g=400, length_mm=100, width_mm=100, height_mm=100)
    shop = connect(sandbox, stock, settings, settings={"platform_labels": True})
    order = taken(shop)
    assert order.tags == ["label from TikTok"]
    (made,) = ensure_shipments(order.pk, actor=SYSTEM)
    picking.claim(made.pk, actor=SYSTEM)
    picking.pick_all(made.pk, actor=SYSTEM)
    packing.pack(made.pk, actor=SYSTEM)
    with pytest.raises(Conflict, match="TikTok supplies the label"):
        labels.buy(made.pk, actor=SYSTEM)
    client.force_login(make_user(role="owner"))
    page = client.get(f"/shipments/{made.pk}/").content.decode()
    assert "TikTok supplies the label of this order" in page and "Buy label" not in page
    # bought in Seller Center: TikTok calls the units shipped, and the parcel still lies here
    shop.client.act("tt", order.external_id, "label", tracking="9400111", carrier="USPS")
    for _ in range(2):
        deliver(shop)
    order.refresh_from_db()
    assert (order.state, order.holds_open) == (Order.State.OPEN, 0)
    assert OrderEvent.objects.filter(order=order, text__contains="enter its tracking number").count() == 1
    url = f"/shipments/{made.pk}/enter/"
    assert client.post(url, {"carrier": "USPS", "tracking_number": ""}).status_code in (302, 422)
    assert not LabelPurchase.objects.exists()
    for _ in range(2):
        client.post(url, {"carrier": "USPS", "tracking_number": " 9400 111", "sure": "1"})
    label = LabelPurchase.objects.get()
    assert (label.tracking_number, label.state, label.cost) == ("9400111", "purchased", None)
    made.refresh_from_db()
    assert made.state == "labelled"
    shipping.ship(made.pk, actor=SYSTEM)
    work(shop)
    assert ChannelEffect.objects.get(kind="ship").state == "confirmed"
    assert [one["tracking"] for one in shop.client.fulfilments("tt")] == [["9400111"]]
    assert not ExceptionItem.objects.filter(closed_at=None).exists()
    assert_invariants()


@pytest.mark.django_db(transaction=True)
def test_an_unpaid_order_holds_stock_and_gets_its_address_when_paid(tiktok: Shop) -> None:
    order = taken(tiktok, payment="pending")
    assert order.state == Order.State.PENDING
    assert OrderLine.objects.get(order=order).reserved == 2
    tiktok.client.act("tt", order.external_id, "pay")
    deliver(tiktok)
    order.refresh_from_db()
    assert order.state != Order.State.PENDING


@pytest.mark.django_db(transaction=True)
def test_cancelled_units_and_orders_are_proved_even_when_the_answer_is_lost(tiktok: Shop) -> None:
    first, second = taken(tiktok, "TRAY", 3), taken(tiktok, "MUG", 1)
    line = OrderLine.objects.get(order=first)
    tiktok.client.plan_fault("tt", "timeout", operation="cancel_order")
    services.cancel_lines(first.pk, {line.pk: 1}, reason="other", actor=SYSTEM)
    services.cancel_lines(second.pk, None, reason="buyer", actor=SYSTEM)
    work(tiktok, 12)
    assert set(ChannelEffect.objects.filter(kind="cancel").values_list("state", flat=True)) == {"confirmed"}
    assert tiktok.requests("cancel_order") == 2
    pulls.pull_orders(tiktok.account.pk)
    line.refresh_from_db()
    second.refresh_from_db()
    assert (line.quantity, line.cancelled, line.reserved) == (3, 1, 2)
    assert second.state == Order.State.CANCELLED
    assert StockLevel.objects.get(sku__code="TRAY").reserved == 2


@pytest.mark.django_db(transaction=True)
def test_one_unit_cancelled_twice_is_two_cancellations(tiktok: Shop) -> None:
    order = taken(tiktok, "TRAY", 3)
    line = OrderLine.objects.get(order=order)
    for _ in range(2):
        services.cancel_lines(order.pk, {line.pk: 1}, reason="other", actor=SYSTEM)
        work(tiktok)
    assert (
        list(ChannelEffect.objects.filter(kind="cancel").values_list("state", flat=True)) == ["confirmed"] * 2
    )
    assert len(tiktok.client.shop("tt")["cancels"]) == 2
    pulls.pull_orders(tiktok.account.pk)
    line.refresh_from_db()
    assert (line.cancelled, line.reserved) == (2, 1)


@pytest.mark.django_db(transaction=True)
def test_a_sku_in_two_warehouses_keeps_the_figure_of_the_other(
    sandbox: Any, stock: Any, settings: Any
) -> None:
    shop = connect(sandbox, stock, settings, locations=[{"name": "Main"}, {"name": "West"}])
    main, west = (place["id"] for place in shop.client.shop("tt")["locations"])
    shop.client.add_items("tt", [{"sku": "VASE", "price": "9.00", "stock": {main: 4, west: 6}}])
    push = PushItem(1, _listing_of(shop, "VASE"), "VASE", main, 3, "1:1", data={"warehouses": [main, west]})
    (result,) = do(shop.account.pk, lambda c, a: c.push_quantities(a, [push]))
    assert result.failure is None
    shown = shop.client.stock("tt", "VASE")["VASE"]["locations"]
    assert (shown[main]["available"], shown[west]["available"]) == (3, 6)
    alone = replace(push, data={})
    (result,) = do(shop.account.pk, lambda c, a: c.push_quantities(a, [alone]))
    assert result.failure is Retry.REJECTED and "All warehouses" in result.message


def _listing_of(shop: Shop, code: str) -> str:
    (found,) = [one["listing"] for one in shop.client.shop("tt")["catalogue"] if one["sku"] == code]
    return str(found)


@pytest.mark.django_db(transaction=True)
def test_a_buyers_request_is_seen_and_agreed_to(tiktok: Shop) -> None:
    order = taken(tiktok)
    tiktok.client.act("tt", order.external_id, "request_cancel", reason="changed mind")
    deliver(tiktok)
    order.refresh_from_db()
    assert order.buyer_cancel_requested
    services.cancel_lines(order.pk, None, reason="buyer", actor=SYSTEM)
    work(tiktok)
    assert ChannelEffect.objects.get(kind="cancel").state == "confirmed"
    (asked,) = tiktok.client.shop("tt")["cancels"]
    assert (asked["kind"], asked["status"]) == ("BUYER_CANCEL", "CANCELLATION_REQUEST_SUCCESS")


@pytest.mark.django_db(transaction=True)
def test_a_missed_notification_is_found_by_the_pull_and_doubles_change_nothing(tiktok: Shop) -> None:
    placed = [tiktok.buy("MUG", 1) for _ in range(3)]
    pulls.pull_orders(tiktok.account.pk)
    assert set(Order.objects.values_list("external_id", flat=True)) == {str(one["id"]) for one in placed}
    deliver(tiktok)
    pulls.pull_orders(tiktok.account.pk)
    assert Order.objects.count() == 3 and StockLevel.objects.get(sku__code="MUG").reserved == 3


@pytest.mark.django_db(transaction=True)
def test_one_frozen_sku_stops_nobody(tiktok: Shop) -> None:
    tiktok.client.set_settings("tt", frozen=["BOWL"])
    push_all()
    assert (tiktok.available("MUG"), tiktok.available("BOWL"), tiktok.available("TRAY")) == (50, 10, 50)
    assert tiktok.listing("BOWL").is_stale and not tiktok.listing("MUG").is_stale


@pytest.mark.django_db(transaction=True)
def test_a_throttled_push_is_told_again(tiktok: Shop) -> None:
    tiktok.client.plan_fault("tt", "throttle", operation="update_inventory")
    push_all()
    Listing.objects.update(next_attempt_at=None)
    push_all()
    assert {code: tiktok.available(code) for code in SKUS} == dict.fromkeys(SKUS, 50)


@pytest.mark.django_db(transaction=True)
def test_an_expired_token_is_renewed_and_a_revoked_one_needs_a_person(tiktok: Shop) -> None:
    before = dict(tiktok.account.credentials)
    assert before["auth_code"] == "" and before["shop_id"] == tiktok.extra["shop_id"]
    tiktok.client.expire_token("tt")
    push_all()
    tiktok.account.refresh_from_db()
    assert tiktok.available("MUG") == 50 and tiktok.account.state == tiktok.account.State.CONNECTED
    assert tiktok.account.credentials["refresh_token"] != before["refresh_token"]
    tiktok.client.set_settings("tt", revoked=True)
    tiktok.client.expire_token("tt")
    add_stock(tiktok.skus["MUG"], tiktok.warehouse, 5)
    push_all()
    tiktok.account.refresh_from_db()
    assert tiktok.account.state == tiktok.account.State.NEEDS_AUTH and tiktok.listing("MUG").is_stale


@pytest.mark.django_db(transaction=True)
def test_of_several_shops_one_must_be_named(tiktok: Shop) -> None:
    other = {"id": "1", "cipher": "X", "name": "Other", "region": "GB"}
    tiktok.client.set_settings("tt", other_shops=[other])
    tested = accounts.test(tiktok.account.pk, actor=SYSTEM)
    assert not tested.ok and "shop_id: name one" in tested.message and "1 (Other)" in tested.message
    accounts.set_config(tiktok.account.pk, {"shop_id": tiktok.extra["shop_id"]}, actor=SYSTEM)
    assert accounts.test(tiktok.account.pk, actor=SYSTEM).ok


@pytest.mark.django_db(transaction=True)
def test_subscriptions_are_checked_and_mended(tiktok: Shop) -> None:
    hooks = tiktok.client.shop("tt")["webhooks"]
    assert set(hooks) == set(webhooks.TOPICS)
    address = "http://127.0.0.1:9/hooks/none/"
    assert do(tiktok.account.pk, lambda c, a: c.ensure_subscriptions(a, address)) == []
    moved = do(tiktok.account.pk, lambda c, a: c.ensure_subscriptions(a, "http://127.0.0.1:9/new/"))
    assert {one.topic for one in moved} == set(webhooks.TOPICS)


@pytest.mark.django_db(transaction=True)
def test_a_return_of_the_buyer_opens_an_rma(tiktok: Shop) -> None:
    order = taken(tiktok, quantity=3)
    shipped(order)
    work(tiktok)
    deliver(tiktok)
    tiktok.client.act(
        "tt", order.external_id, "return", lines=[{"sku": "MUG", "quantity": 2}], reason="no_longer_needed"
    )
    assert pulls.pull_returns(tiktok.account.pk) == 1
    rma = Rma.objects.get(order=order)
    assert [line.quantity for line in rma.lines.all()] == [2]
    assert pulls.pull_returns(tiktok.account.pk) == 0


@pytest.mark.django_db(transaction=True)
def test_a_refund_whose_answer_was_lost_is_paid_once(tiktok: Shop) -> None:
    from channels.connectors.base import RefundItem, RefundOrder

    order = taken(tiktok)
    shipped(order)
    work(tiktok)
    line = OrderLine.objects.get(order=order)
    refund = RefundOrder(
        order.external_id, "RF-1", "key-1", Decimal("7.50"), Decimal(0), "USD",
        (RefundItem(line.external_id, 1, Decimal("7.50")),), reason="damaged",
    )  # fmt: skip
    assert do(tiktok.account.pk, lambda c, a: c.find_refund(a, refund)) is None
    tiktok.client.plan_fault("tt", "timeout", operation="create_return")
    with pytest.raises(ChannelError) as caught:
        do(tiktok.account.pk, lambda c, a: c.refund(a, refund))
    assert caught.value.kind is Retry.IN_DOUBT
    found = do(tiktok.account.pk, lambda c, a: c.refund(a, refund))  # the key answers with the first one
    assert [one["amount"] for one in tiktok.client.refunds("tt")] == ["7.50"]
    known = replace(refund, external_id=found)
    assert do(tiktok.account.pk, lambda c, a: c.find_refund(a, known)) == found
    same_again = replace(refund, reference="RF-2", key="key-2")  # as much once more is another refund
    assert do(tiktok.account.pk, lambda c, a: c.find_refund(a, same_again)) is None
    assert do(tiktok.account.pk, lambda c, a: c.refund(a, same_again)) != found
    assert [one["amount"] for one in tiktok.client.refunds("tt")] == ["7.50", "7.50"]
    assert pulls.pull_returns(tiktok.account.pk) == 0  # money alone is no return


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("fault", "calls"), [("timeout", 1), ("drop", 2)])
def test_a_lost_refund_is_read_back_before_it_is_sent_again(tiktok: Shop, fault: str, calls: int) -> None:
    order = taken(tiktok, quantity=1)
    shipped(order)
    work(tiktok)
    tiktok.client.plan_fault("tt", fault, operation="create_return")
    refund = refunds.plan(
        order_id=order.pk, items=[refunds.RefundItem(order.lines.get().pk, 1, Decimal("7.50"))], actor=SYSTEM,
        key="k1",
    )  # fmt: skip
    work(tiktok, 12)
    refund.refresh_from_db()
    assert refund.state == "confirmed", ChannelEffect.objects.get(kind="refund").error
    assert [one["amount"] for one in tiktok.client.refunds("tt")] == ["7.50"]
    assert tiktok.requests("create_return") == calls
    # as much once more is another refund, not the first one found again
    before = ChannelEffect.objects.get(kind="refund").payload["mark"]
    assert before == "[]" and refund.external_id


@pytest.mark.django_db(transaction=True)
def test_the_played_shop_is_as_strict_as_the_contract(tiktok: Shop, published: Contract) -> None:
    schemas = played.schemas
    names = {
        "/order/202309/orders/search": schemas.ORDER_SEARCH,
        "/product/202309/products/1/inventory/update": schemas.UPDATE_INVENTORY,
        "/product/202309/inventory/search": schemas.INVENTORY_SEARCH,
        "/product/202502/products/search": schemas.PRODUCT_SEARCH,
        "/fulfillment/202309/orders/1/packages": schemas.ADD_PACKAGE,
        "/fulfillment/202309/packages/1/ship": schemas.SHIP_PACKAGE,
        "/return_refund/202309/cancellations": schemas.CANCEL,
        "/return_refund/202309/cancellations/search": schemas.CANCEL_SEARCH,
        "/return_refund/202309/returns": schemas.CREATE_RETURN,
        "/return_refund/202309/returns/search": schemas.RETURN_SEARCH,
    }
    for path, ours in names.items():
        (operation,) = [o for m, pattern, o in published.paths if m == "POST" and pattern.fullmatch(path)]
        (content,) = operation["requestBody"]["content"].values()
        assert _names(ours) <= _names(content["schema"]), path
    # what it shows is part of what the contract describes
    tiktok.buy("MUG", 2, address=ADDRESS)
    shown = json.loads(_last_answer(tiktok))
    (operation,) = [
        o for m, p, o in published.paths if m == "POST" and p.fullmatch("/order/202309/orders/search")
    ]
    (content,) = operation["responses"]["200"]["content"].values()
    jsonschema.Draft4Validator(close(content["schema"])).validate(shown)


def _last_answer(shop: Shop) -> str:
    pulls.pull_orders(shop.account.pk)
    return str(shop.client.requests("tt", "search_orders")[-1]["answer"])


def _names(schema: Any, path: str = "") -> set[str]:
    found: set[str] = set()
    for name, inner in (schema.get("properties") or {}).items():
        found |= {f"{path}.{name}"} | _names(inner, f"{path}.{name}")
    return found | (_names(schema["items"], path) if "items" in schema else set())
