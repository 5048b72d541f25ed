"""WooCommerce: mapping of the official samples, signatures, and the whole way against a played shop."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from channels import accounts, pulls
from channels.connectors.base import Access, BadSignature, PushItem, Retry
from channels.connectors.woocommerce import mapper, webhooks
from channels.connectors.woocommerce.client import WooCommerce
from channels.models import ChannelEffect, Listing
from channels.session import do
from inventory.models import StockLevel
from oms.core.actor import SYSTEM
from oms.core.errors import UserError
from oms.orders.models import Order, OrderLine
from oms.orders.validation import money_gap, normalise
from tests.channels.conftest import SKUS, Shop, deliver, push_all
from tests.channels.test_connectors import play
from tests.channels.test_effects import shipped, work
from tests.factories import add_stock

ACCESS = Access(
    7, "woocommerce", "woo", {"store_url": "https://a.shop.example"}, {"consumer_secret": "cs"}, {}
)


def official(shared_dir: Path, name: str) -> Any:
    return json.loads((shared_dir / "specs/woocommerce/samples" / f"{name}.response.json").read_text())


# --- without a network -----------------------------------------------------------------------------


def test_the_official_order_keeps_its_money_and_its_lines(shared_dir: Path) -> None:
    draft = normalise(mapper.order_draft(official(shared_dir, "retrieve_an_order")))
    assert (draft.external_id, draft.external_number, draft.status) == ("727", "727", "open")
    assert (
        draft.placed_at.isoformat() == "2017-03-22T19:28:02+00:00"
    )  # the gmt field, not the shop's own clock
    first, second = draft.lines
    assert (first.listing_ref, first.external_sku, first.quantity, first.unit_price) == (
        "93",
        "",
        2,
        Decimal(3),
    )
    assert (second.listing_ref, second.external_sku, second.tax) == ("23", "Bar3", Decimal("0.90"))
    assert second.title == "Ship Your Idea – Color: Black, Size: M Test"
    assert (draft.shipping, draft.tax, draft.total) == (Decimal(10), Decimal("1.35"), Decimal("29.35"))
    assert money_gap(draft) == 0
    assert draft.contact is not None
    assert (draft.contact.name, draft.contact.region, draft.contact.email) == (
        "John Doe", "CA", "john.doe@example.com",
    )  # fmt: skip


def test_every_official_order_can_be_read(shared_dir: Path) -> None:
    orders = [*official(shared_dir, "list_all_orders"), official(shared_dir, "create_an_order")]
    orders += official(shared_dir, "batch_update_orders")["update"]
    wrapped = json.loads((shared_dir / "data/payloads/woocommerce/orders_v3_examples.json").read_text())
    for entry in wrapped:
        body = entry["body"]
        orders += body if isinstance(body, list) else [body]
    assert len(orders) >= 5
    for order in orders:
        draft = mapper.order_draft(order)
        assert money_gap(normalise(draft)) == 0, order["id"]


ORDER: dict[str, Any] = {
    "id": 9, "number": "9", "status": "processing", "currency": "USD", "date_created_gmt": "2026-11-20T10:00:00",
    "date_modified_gmt": "2026-11-20T10:05:00", "date_paid_gmt": "2026-11-20T10:00:10", "discount_total": "3.00",
    "shipping_total": "5.00", "total_tax": "0.00", "total": "34.00", "billing": {}, "shipping": {},
    "line_items": [
        {"id": 1, "product_id": 4, "variation_id": 0, "sku": "MUG", "name": "Mug", "quantity": 3, "subtotal": "30.00",
         "total": "27.00", "total_tax": "0.00"},
    ],
    "fee_lines": [{"id": 5, "name": "Gift wrap", "total": "2.00", "total_tax": "0.00"}],
    "refunds": [],
}  # fmt: skip


def test_discounts_fees_and_statuses() -> None:
    draft = mapper.order_draft(ORDER)
    mug, wrap = draft.lines
    assert (mug.unit_price, mug.discount, wrap.kind, wrap.unit_price) == (10, 3, "service", 2)
    assert (draft.subtotal, draft.discount, draft.total) == (32, 3, 34)
    assert money_gap(normalise(draft)) == 0
    told = {
        status: mapper.order_draft({**ORDER, "status": status}).status
        for status in ("pending", "on-hold", "completed", "cancelled", "failed", "trash", "wc-processing")
    }
    assert told == {
        "pending": "pending", "on-hold": "pending", "completed": "shipped", "cancelled": "cancelled",
        "failed": "cancelled", "trash": "cancelled", "wc-processing": "open",
    }  # fmt: skip
    with pytest.raises(mapper.Unfit, match="status 'quoted' is unknown"):
        mapper.order_draft({**ORDER, "status": "quoted"})
    assert (
        mapper.order_draft({**ORDER, "status": "quoted"}, (), mapper.status_map("quoted=pending")).status
        == "pending"
    )
    with pytest.raises(mapper.Unfit, match="not an order yet"):
        mapper.order_draft({**ORDER, "status": "checkout-draft"})


def test_refunded_units_leave_the_order_before_it_ships_and_never_after() -> None:
    refund = {
        "id": 77, "reason": "", "amount": "10.00",
        "line_items": [{"id": 8, "quantity": -2, "meta_data": [{"key": "_refunded_item_id", "value": "1"}]}],
    }  # fmt: skip
    assert mapper.order_draft(ORDER, [refund]).lines[0].cancelled == 2
    noted = mapper.parcels_text([mapper.ParcelNote("12", "1Z", {"1": 3})])
    sent = {**ORDER, "status": "completed", "meta_data": [{"key": mapper.PARCELS_KEY, "value": noted}]}
    line = mapper.order_draft(sent, [refund]).lines[0]
    assert (line.shipped, line.cancelled) == (3, 0)


def test_a_notification_needs_its_signature_and_the_ping_needs_none() -> None:
    body = json.dumps(ORDER).encode()
    right = base64.b64encode(hmac.new(b"cs", body, hashlib.sha256).digest()).decode()
    headers = {
        "x-wc-webhook-signature": right, "x-wc-webhook-topic": "order.updated", "x-wc-webhook-delivery-id": "d1",
    }  # fmt: skip
    found = webhooks.parse(["cs"], headers, body)[0]
    assert (found.delivery_id, found.order_id, found.kind) == ("d1", "9", "order")
    for raw, secret in ((body + b" ", "cs"), (body, "other"), (body, "")):
        with pytest.raises(BadSignature):
            webhooks.parse([secret], headers, raw)
    assert webhooks.parse(["cs"], {}, b"webhook_id=12") == []
    for raw in (b"webhook_id=12&x=1", b"", b"webhook_id="):
        with pytest.raises(BadSignature):
            webhooks.parse(["cs"], {}, raw)
    with pytest.raises(BadSignature):  # a signed form is no ping
        webhooks.parse(["cs"], {"x-wc-webhook-signature": "x"}, b"webhook_id=12")


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"store_url": "http://shop.example.com"}, "store_url"),
        ({"store_url": "https://user:pw@shop.example.com"}, "store_url"),
        ({"store_url": "https://shop.example.com:8443"}, "store_url"),
        ({"store_url": "https://shop.example.com/?x=1"}, "store_url"),
        ({"store_url": "https://shop.example.com", "statuses": "quoted"}, "statuses"),
        ({"store_url": "https://shop.example.com", "tracking": "fax"}, "tracking"),
    ],
)
def test_a_wrong_setting_is_named(config: dict[str, str], field: str) -> None:
    with pytest.raises(UserError) as caught:
        WooCommerce().check_config(config)
    assert caught.value.field == field


def test_the_address_is_cut_to_the_shop() -> None:
    clean = WooCommerce().check_config({"store_url": " shop.example.com/store/wp-json/wc/v3/ "})
    assert clean["store_url"] == "https://shop.example.com/store"


def item(listing_id: int, external_id: str, quantity: int = 5) -> PushItem:
    return PushItem(listing_id, external_id, "", "", quantity, f"{listing_id}:1")


def test_one_refused_product_never_holds_up_the_others() -> None:
    items = [item(1, "10"), item(2, "11"), item(3, "20/21"), item(4, "nonsense"), item(5, "12")]
    simple = {
        "update": [
            {"id": 10, "stock_quantity": 5},
            {"id": 11, "error": {"code": "woocommerce_rest_product_invalid_id", "message": "Invalid ID."}},
        ]
    }
    results, asked = play(WooCommerce().push_quantities(ACCESS, items), simple, {"update": [{"id": 21}]})
    assert [request.url.rpartition("/v3/")[2] for request in asked] == [
        "products/batch", "products/20/variations/batch",
    ]  # fmt: skip
    assert asked[0].json == {
        "update": [{"id": number, "manage_stock": True, "stock_quantity": 5} for number in (10, 11, 12)]
    }
    assert [one.failure for one in results] == [None, Retry.REJECTED, None, Retry.REJECTED, Retry.TRANSIENT]


# --- a played shop ---------------------------------------------------------------------------------


@pytest.fixture
def woo(sandbox: Any, stock: Any, settings: Any) -> Shop:
    warehouse, skus = stock
    catalogue = [{"sku": code, "title": code.title(), "price": "10.00", "stock": 10} for code in SKUS]
    catalogue[SKUS.index("BOWL")] |= {"parent": "Bowls", "option": "Blue"}
    shop = sandbox.create_shop("woocommerce", "blog", name="Blog shop", currency="USD", catalogue=catalogue)
    settings.HOST_MAP = sandbox.host_map()
    account = accounts.connect(
        connector="woocommerce", name="Blog shop", code="blog", prefix="WO", config={"store_url": shop["store_url"]},
        credentials=shop["credentials"], warehouse_ids=[warehouse.pk], actor=SYSTEM,
    )  # fmt: skip
    tested = accounts.test(account.pk, actor=SYSTEM)
    assert tested.ok and tested.facts is not None and tested.facts.currency == "USD", tested.message
    accounts.go_live(account.pk, "http://127.0.0.1:9/hooks/none/", actor=SYSTEM)
    accounts.import_listings(account.pk, actor=SYSTEM)
    account.refresh_from_db()
    return Shop(sandbox, "blog", account, skus, warehouse, shop)


@pytest.mark.django_db(transaction=True)
def test_sale_stock_parcel_and_proof(woo: Shop, assert_invariants: Callable[[], None]) -> None:
    push_all()
    assert {code: woo.available(code) for code in SKUS} == dict.fromkeys(SKUS, 50)
    # the connection test writes nothing once, to see that it may; then all figures go in one call per product
    assert (woo.requests("update_products"), woo.requests("update_variations")) == (2, 1)
    placed = woo.client.place_order(
        "blog", [{"sku": "MUG", "quantity": 2}, {"sku": "BOWL", "quantity": 1}], email="ada@example.com",
        address={"name": "Ada Brooks", "address1": "12 Oak St", "city": "Boston", "province_code": "MA",
                 "zip": "02108", "country_code": "US"},
    )  # fmt: skip
    for _ in range(3):
        deliver(woo)
    order = Order.objects.get(external_id=str(placed["id"]))
    assert sorted(order.lines.values_list("sku__code", "quantity", "reserved")) == [
        ("BOWL", 1, 1),
        ("MUG", 2, 2),
    ]
    shipped(order)
    work(woo)
    effect = ChannelEffect.objects.get(kind="ship")
    assert effect.state == "confirmed"
    facts = woo.client.shop("blog")
    notes = [note["text"] for note in facts["notes"][order.external_id]]
    assert len(notes) == 1 and notes[0].startswith("Shipped by UPS, tracking number 1Z999AA10123456784")
    assert [one["tracking"] for one in woo.client.fulfilments("blog")] == [["1Z999AA10123456784"]]
    deliver(woo)
    order.refresh_from_db()
    assert order.state == Order.State.SHIPPED
    push_all()
    assert (woo.available("MUG"), woo.available("BOWL")) == (48, 49)
    assert_invariants()


@pytest.mark.django_db(transaction=True)
def test_a_confirmation_whose_answer_was_lost_mails_the_buyer_once(woo: Shop) -> None:
    placed = woo.buy("MUG", 1, email="ada@example.com")
    deliver(woo)
    order = Order.objects.get(external_id=str(placed["id"]))
    for operation in ("update_order", "add_note"):
        woo.client.plan_fault("blog", "timeout", operation=operation)
    shipped(order)
    work(woo, 12)
    assert ChannelEffect.objects.get(kind="ship").state == "confirmed"
    assert woo.client.shop("blog")["counts"]["buyer_mails"] == 1
    assert len(woo.client.fulfilments("blog")) == 1


@pytest.mark.django_db(transaction=True)
def test_cancelled_lines_and_orders_are_proved(woo: Shop) -> None:
    from oms.orders import services

    first, second = (woo.buy("TRAY", 2), woo.buy("MUG", 1))
    deliver(woo)
    orders = {str(one["id"]): Order.objects.get(external_id=str(one["id"])) for one in (first, second)}
    line = OrderLine.objects.get(order=orders[str(first["id"])])
    services.cancel_lines(line.order_id, {line.pk: 1}, reason="no_stock", actor=SYSTEM)
    services.cancel_lines(orders[str(second["id"])].pk, None, reason="buyer", actor=SYSTEM)
    work(woo)
    assert set(ChannelEffect.objects.filter(kind="cancel").values_list("state", flat=True)) == {"confirmed"}
    pulls.pull_orders(woo.account.pk)
    line.refresh_from_db()
    assert (line.quantity, line.cancelled, line.reserved) == (2, 1, 1)
    assert Order.objects.get(external_id=str(second["id"])).state == Order.State.CANCELLED
    level = StockLevel.objects.get(sku__code="TRAY")
    assert level.reserved == 1


@pytest.mark.django_db(transaction=True)
def test_a_missed_notification_is_found_by_the_pull_and_a_bad_order_stops_nobody(woo: Shop) -> None:
    lost = woo.buy("MUG", 1)
    other = woo.buy("TRAY", 1)
    pulls.pull_orders(woo.account.pk)
    assert set(Order.objects.values_list("external_id", flat=True)) == {str(lost["id"]), str(other["id"])}
    again = Order.objects.count()
    deliver(woo)
    pulls.pull_orders(woo.account.pk)
    assert Order.objects.count() == again


@pytest.mark.django_db(transaction=True)
def test_a_disabled_webhook_is_woken(woo: Shop) -> None:
    address = "http://127.0.0.1:9/hooks/none/"
    hooks = {hook["topic"]: hook["status"] for hook in woo.client.shop("blog")["webhooks"]}
    assert set(hooks) == set(webhooks.TOPICS) and set(hooks.values()) == {"active"}
    assert do(woo.account.pk, lambda connector, access: connector.ensure_subscriptions(access, address)) == []
    for _ in range(5):  # nobody listens at that address: five failures in a row
        woo.buy("MUG", 1)
    assert woo.client.wait_until(
        lambda: any(hook["status"] == "disabled" for hook in woo.client.shop("blog")["webhooks"])
    )
    made = do(woo.account.pk, lambda connector, access: connector.ensure_subscriptions(access, address))
    assert "order.created" in {one.topic for one in made}


@pytest.mark.django_db(transaction=True)
def test_revoked_keys_stop_the_account_and_lose_nothing(woo: Shop) -> None:
    push_all()
    woo.client.expire_token("blog")
    add_stock(woo.skus["MUG"], woo.warehouse, 5)
    push_all()
    woo.account.refresh_from_db()
    assert woo.account.state == woo.account.State.NEEDS_AUTH
    assert woo.listing("MUG").is_stale
    secret = woo.client.shop("blog")["credentials"]["consumer_secret"]
    accounts.set_credentials(woo.account.pk, {"consumer_secret": secret}, actor=SYSTEM)
    assert accounts.test(woo.account.pk, actor=SYSTEM).ok
    Listing.objects.update(next_attempt_at=None)
    push_all()
    assert not woo.listing("MUG").is_stale and woo.available("MUG") == 55
