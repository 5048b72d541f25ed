"""A shop mapped without code: reading, proposing, and the whole way against a made-up shop over real sockets."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import accounts, pulls, trials
from channels.connectors.base import (
    Access,
    BadSignature,
    ChannelError,
    Confirmation,
    ListingPage,
    PushItem,
    RemoteListing,
    Retry,
    ShipItem,
)
from channels.connectors.custom import examples, webhooks
from channels.connectors.custom import mapping as maps
from channels.connectors.custom.client import Custom
from channels.connectors.custom.presets import MAGENTO
from channels.connectors.custom.propose import propose
from channels.models import ChannelAccount, ChannelEffect, Listing
from oms.core.actor import SYSTEM
from oms.core.errors import UserError
from oms.core.models import User
from oms.orders.models import Order
from oms.orders.validation import money_gap, normalise
from tests.channels.conftest import SKUS, Shop, deliver, push_all
from tests.channels.test_connectors import play
from tests.channels.test_effects import shipped, work
from tests.factories import add_stock, make_user

SAMPLE: dict[str, Any] = {
    "purchases": [
        {
            "purchase_no": "P-1", "placed": "2026-11-20T10:00:00Z", "touched": "2026-11-20T10:05:00Z", "stage": "paid",
            "money": {"currency": "USD", "grand_total": "25.00", "freight": "5.00", "vat": "0.00"},
            "buyer": {"mail": "ada@example.com", "phone": "1"},
            "ship_to": {"full_name": "Ada Brooks", "street": "12 Oak St", "town": "Boston", "region_code": "MA",
                        "postcode": "02108", "country_code": "US"},
            "positions": [{"pos": 7, "article": "MUG", "label": "Mug", "pieces": 2, "each": "10.00"}],
            "parcels": [{"carrier": "UPS", "track": "1Z"}],
        }
    ],
    "next_cursor": "c50",
}  # fmt: skip
STOCK = {"stock": [{"article": "MUG", "on_hand": 5}]}
REST = {
    "orders_path": "/purchases", "since_param": "changed_after", "page_param": "after",
    "order_path": "/purchases/{order_id}", "order_root": "purchase", "stock_path": "/stock/{article}",
    "stock_read_path": "/stock", "ship_path": "/purchases/{order_id}/parcels",
    "ship_body": '{"carrier": "{carrier_name}", "track": "{tracking_number}", "positions": "{lines}"}',
    "ship_line": '{"pos": "{line_id}", "pieces": "{quantity}"}', "ship_tracking": "parcels[*].track",
    "hook_header": "X-Bazaar-Signature", "hook_prefix": "sha256=", "hook_order": "purchase.purchase_no",
} | {"stock_path": "/stock/{sku}"}  # fmt: skip


def whole() -> dict[str, Any]:
    statuses = {"awaiting_payment": "pending", "dispatched": "shipped", "called_off": "cancelled"}
    found = dict(propose(SAMPLE, STOCK).mapping)
    return {**found, **REST, "statuses": {**found["statuses"], **statuses}}


ACCESS = Access(
    7, "custom", "c", {"base_url": "https://a.bazaar.example/v1", "auth": "bearer", "mapping": whole()},
    {"secret": "t"}, {},
)  # fmt: skip


# --- pure ------------------------------------------------------------------------------------------


def test_a_sample_is_understood_with_reasons() -> None:
    found = propose(SAMPLE, STOCK)
    assert found.problems == ()
    shown = {name: found.mapping[name] for name in (
        "orders_list", "id", "placed_at", "updated_at", "status", "currency", "total", "shipping", "tax", "lines",
        "line_id", "line_sku", "line_quantity", "line_price", "line_title", "name", "address1", "city", "region",
        "postal_code", "country", "email", "phone", "paging", "cursor_path", "stock_list", "stock_key",
        "stock_quantity", "stock_body",
    )}  # fmt: skip
    assert shown == {
        "orders_list": "purchases", "id": "purchase_no", "placed_at": "placed", "updated_at": "touched",
        "status": "stage", "currency": "money.currency", "total": "money.grand_total", "shipping": "money.freight",
        "tax": "money.vat", "lines": "positions", "line_id": "pos", "line_sku": "article", "line_quantity": "pieces",
        "line_price": "each", "line_title": "label", "name": "ship_to.full_name", "address1": "ship_to.street",
        "city": "ship_to.town", "region": "ship_to.region_code", "postal_code": "ship_to.postcode",
        "country": "ship_to.country_code", "email": "buyer.mail", "phone": "buyer.phone", "paging": "cursor",
        "cursor_path": "next_cursor", "stock_list": "stock", "stock_key": "article", "stock_quantity": "on_hand",
        "stock_body": '{"on_hand": "{quantity}"}',
    }  # fmt: skip
    assert found.mapping["statuses"] == {"paid": "open"}
    assert found.reasons["line_quantity"] == "by its name; holds '2', written as a number"
    draft = maps.order_draft(whole(), SAMPLE["purchases"][0])
    assert draft is not None and money_gap(normalise(draft)) == 0
    assert (draft.external_id, draft.total, draft.lines[0].unit_price) == ("P-1", Decimal(25), Decimal(10))


NAMES = {
    "id": ("id", "order_id", "orderId", "uuid"), "placed": ("created_at", "orderDate", "placed_at", "date_created"),
    "status": ("status", "state", "orderStatus"), "currency": ("currency", "currencyCode", "cur"),
    "total": ("total", "grandTotal", "total_amount"), "lines": ("lines", "line_items", "items", "orderLines"),
    "sku": ("sku", "article", "productCode"), "qty": ("quantity", "qty", "units"),
    "price": ("price", "unitPrice", "each"),
    "to": ("shipping_address", "shipTo", "delivery"), "street": ("address1", "street", "line1"),
    "zip": ("zip", "postcode", "postalCode"), "country": ("country", "countryCode"),
}  # fmt: skip


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_proposal_holds_for_shuffled_and_renamed_samples(data: st.DataObject) -> None:
    names = {key: data.draw(st.sampled_from(known)) for key, known in NAMES.items()}

    def shuffled(pairs: dict[str, Any]) -> dict[str, Any]:
        return dict(data.draw(st.permutations(list(pairs.items()))))

    def order(number: int) -> dict[str, Any]:
        line = {names["sku"]: "MUG-1", names["qty"]: 3, names["price"]: "4.50", "x": None}
        other = {names["sku"]: "BOWL", names["qty"]: 1, names["price"]: "1.25", "x": "y"}
        address = {names["street"]: "1 Elm", names["zip"]: "90210", "city": "Reno", names["country"]: "US"}
        return shuffled({
            names["id"]: number, names["placed"]: "2026-11-20T10:00:00Z", names["status"]: "processing",
            names["currency"]: "EUR", names["total"]: "14.75", names["lines"]: [shuffled(line), shuffled(other)],
            names["to"]: shuffled(address), "billing": {names["street"]: "9 Bank", names["zip"]: "1", "city": "Bonn"},
        })  # fmt: skip

    rows: Any = [order(41), order(42)]
    for wrapper in data.draw(
        st.lists(st.sampled_from(["data", "result", "orders"]), max_size=2, unique=True)
    ):
        rows = shuffled({wrapper: rows, "meta": {"a": 1}})
    found = propose(rows)
    draft = maps.order_draft(found.mapping, maps.rows_of(rows, found.mapping.get("orders_list", ""), "")[0])
    assert draft is not None
    assert (draft.external_id, draft.currency, draft.total, draft.status) == (
        "41",
        "EUR",
        Decimal("14.75"),
        "open",
    )
    assert [(one.external_sku, one.quantity, one.unit_price) for one in draft.lines] == [
        ("MUG-1", 3, Decimal("4.50")), ("BOWL", 1, Decimal("1.25")),
    ]  # fmt: skip
    assert draft.contact is not None
    assert (draft.contact.address1, draft.contact.postal_code, draft.contact.country) == (
        "1 Elm",
        "90210",
        "US",
    )


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.decimals(allow_nan=False, places=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["id", "orders", "lines", "sku", "quantity", "price", "created_at", "status", "a.b", "", '"']),
        inner, max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@given(orders=JUNK, stock=JUNK)
@settings(max_examples=150, deadline=None)
def test_odd_samples_get_sentences(orders: Any, stock: Any) -> None:
    found = propose(orders, stock)
    clean = maps.checked({**found.mapping, "orders_path": "/o"})
    try:
        for one in trials.try_orders(clean, orders):
            assert one.problem or one.draft is not None
    except UserError as error:
        assert error.message.endswith(".")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested"), ("[" * 60 + "]" * 60, "nested more than 40"), ("{", "not JSON at line 1"),
        ('{"a": NaN}', "cannot be read"), ("9" * 5000, "cannot be read"), ("x" * 2_000_000, "is longer"),
    ],
)  # fmt: skip
def test_hostile_texts_are_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(maps.Unfit, match=words):
        maps.parse_json(text, "Order list")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pieces": 2.5}, "quantity: '2.5' is not a whole number"), ({"pieces": 10**30}, "not a whole|more than"),
        ({"pieces": [1]}, "a list of 1"), ({"each": "1e99"}, "too large"), ({"each": {"a": 1}}, "an object"),
        ({"each": "9" * 60}, "is not an amount"), ({"article": {}}, "an object stands where a text"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(change: dict[str, Any], words: str) -> None:
    order = json.loads(json.dumps(SAMPLE["purchases"][0]), parse_float=Decimal)
    order["positions"][0] |= change
    with pytest.raises(maps.Unfit, match=words):
        maps.order_draft(whole(), order)


def test_times_amounts_and_units_in_all_their_ways() -> None:
    told = {maps.time_of(v, "t", z).isoformat() for v, z in (  # type: ignore[union-attr]
        ("2026-11-20T10:00:00Z", ""), (1795168800, ""), (1795168800000, ""), ("2026-11-20 11:00:00", "Europe/Berlin"),
        ("Fri, 20 Nov 2026 10:00:00 +0000", ""))}  # fmt: skip
    assert told == {"2026-11-20T10:00:00+00:00"}
    assert maps.amount_of("1.234,50", "a", "comma") == Decimal("1234.50")
    assert maps.amount_of(1999, "a", "minor") == Decimal("19.99")
    assert [maps.units_of(v, "u") for v in ("2.0000", Decimal("3.0"), 4)] == [2, 3, 4]


def test_templates_keep_their_shape_whatever_the_value() -> None:
    body = maps.fill_body('{"a": "{sku}", "n": "{quantity}", "t": "x {sku}"}', {"sku": '"}{', "quantity": 3})
    assert body == {"a": '"}{', "n": 3, "t": 'x "}{'}
    assert maps.fill_path("/o/{order_id}/x", {"order_id": "../../a?b=1#c"}) == "/o/..%2F..%2Fa%3Fb%3D1%23c/x"
    assert maps.fill_path("/o/{order_id}", {"order_id": ".."}) == "/o/%2E%2E"


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"orders_path": "//evil.example/x"}, "orders_path"), ({"orders_path": "https://evil.example"}, "orders_path"),
        ({"id": "a[b"}, "id"), ({"id": ".a"}, "id"), ({"stock_path": "/s/{secret}"}, "stock_path"),
        ({"stock_body": "{nope"}, "stock_body"), ({"stock_body": '"{order_id}"'}, "stock_body"),
        ({"paging": "eval"}, "paging"), ({"time_zone": "Mars/Base"}, "time_zone"), ({"page_size": "0"}, "page_size"),
        ({"hook_header": "a b"}, "hook_header"), ({"statuses": {"x": "y"}}, "statuses"), ({"code": "x"}, "mapping"),
    ],
)  # fmt: skip
def test_a_wrong_mapping_is_named(data: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError) as caught:
        maps.checked(data)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"base_url": "http://a.example"}, "base_url"), ({"base_url": "https://u:p@a.example"}, "base_url"),
        ({"base_url": "https://a.example/?x=1"}, "base_url"),
        ({"base_url": "https://a.example", "auth": "ntlm"}, "auth"),
        ({"base_url": "https://a.example", "auth": "header"}, "auth_name"),
        ({"base_url": "https://a.example", "auth": "header", "auth_name": "X: y\r\nZ"}, "auth_name"),
    ],
)  # fmt: skip
def test_a_wrong_address_is_named(config: dict[str, str], field: str) -> None:
    with pytest.raises(UserError) as caught:
        Custom().check_config(config)
    assert caught.value.field == field


def pages(paging: dict[str, str], *answers: Any) -> list[str]:
    """The queries of every page until the last."""
    kept = {name: value for name, value in whole().items() if name not in ("cursor_path", "page_param")}
    access = Access(7, "custom", "c", {**ACCESS.config, "mapping": {**kept, **paging}}, {"secret": "t"}, {})
    asked, cursor = [], ""
    for answer in answers:
        page, requests = play(Custom().list_orders(access, "", cursor), answer)
        asked.append(str((requests[0].params or {}).get("p", requests[0].url.rpartition("/v1")[2])))
        cursor = page.cursor
        if not cursor:
            break
    return [*asked, "end" if not cursor else "more"]


def test_every_way_of_paging_ends() -> None:
    row = SAMPLE["purchases"][0]
    full, short_, empty = ({"purchases": [row] * n, "n": 3} for n in (2, 1, 0))
    assert pages({"paging": "none"}, full) == ["/purchases", "end"]
    assert pages({"paging": "page", "page_param": "p", "page_size": "2"}, full, short_) == ["1", "2", "end"]
    assert pages({"paging": "page", "page_param": "p"}, full, full, empty) == ["1", "2", "3", "end"]
    # a shop that repeats its last page for ever is stopped by its total
    assert pages({"paging": "page", "page_param": "p", "page_size": "2", "total_path": "n"}, full, full, full) == [
        "1", "2", "end"]  # fmt: skip
    assert pages({"paging": "offset", "page_param": "p", "page_size": "2"}, full, short_) == ["0", "2", "end"]
    assert pages({"paging": "cursor", "page_param": "p", "cursor_path": "c"}, {**full, "c": "k"}, full) == [
        "/purchases", "k", "end"]  # fmt: skip
    assert pages({"paging": "link", "cursor_path": "c"}, {**full, "c": "/v1/purchases?x=2"}, full) == [
        "/purchases", "/purchases?x=2", "end"]  # fmt: skip


def test_a_further_page_at_another_host_is_not_followed() -> None:
    config = {**ACCESS.config, "mapping": {**whole(), "paging": "link"}}
    access = Access(7, "custom", "c", config, {"secret": "t"}, {})
    for address in ("https://evil.example/x", "http://a.bazaar.example/v1/x"):
        with pytest.raises(ChannelError, match="another host"):
            play(Custom().list_orders(access, "", address), {})


@pytest.mark.parametrize(
    ("auth", "name", "header", "query"),
    [
        ("none", "", {}, None), ("bearer", "", {"Authorization": "Bearer t"}, None),
        ("header", "X-Key", {"X-Key": "t"}, None),
        ("basic", "u", {"Authorization": "Basic dTp0"}, None), ("query", "key", {}, {"key": "t"}),
    ],
)  # fmt: skip
def test_every_way_to_prove_who_we_are(auth: str, name: str, header: Any, query: Any) -> None:
    access = Access(7, "custom", "c", {**ACCESS.config, "auth": auth, "auth_name": name}, {"secret": "t"}, {})
    _, asked = play(Custom().list_orders(access, "", ""), {"purchases": []})
    assert asked[0].headers == {"Accept": "application/json", **header} and asked[0].params == query
    assert asked[0].user_url


def test_a_batch_body_carries_every_item_and_one_refusal_is_its_own() -> None:
    items = [PushItem(n, f"x{n}", f"S{n}", "", n, f"{n}:1") for n in (1, 2)]
    batch = {**whole(), "stock_path": "/stock", "stock_method": "POST", "stock_body": '{"s": "{items}"}',
             "stock_item": '{"a": "{sku}", "q": "{quantity_text}"}'}  # fmt: skip
    access = Access(7, "custom", "c", {**ACCESS.config, "mapping": batch}, {"secret": "t"}, {})
    results, asked = play(Custom().push_quantities(access, items), {})
    assert [one.json for one in asked] == [{"s": [{"a": "S1", "q": "1"}, {"a": "S2", "q": "2"}]}]
    assert [one.failure for one in results] == [None, None]
    operation = Custom().push_quantities(ACCESS, items)
    assert next(operation).json == {"on_hand": 1}
    second = operation.throw(ChannelError(Retry.REJECTED, "no article", code="404"))
    assert second.url.endswith("/stock/S2")
    with pytest.raises(StopIteration) as done:
        operation.throw(ChannelError(Retry.THROTTLED, "slow", retry_after=2))
    assert [one.failure for one in done.value.value] == [Retry.REJECTED, Retry.THROTTLED]


def test_notices_are_verified_on_the_raw_bytes() -> None:
    raw = json.dumps({"purchase": {"purchase_no": "P-1"}}).encode()
    for algorithm in ("sha256", "sha1", "sha512"):
        for encoding in ("hex", "base64"):
            mapping = {**whole(), "hook_algorithm": algorithm, "hook_encoding": encoding}
            header = webhooks.sign("s", raw, algorithm, encoding, "sha256=")
            found = webhooks.parse(mapping, "s", {"x-bazaar-signature": header}, raw)[0]
            assert (found.order_id, found.kind) == ("P-1", "order") and found.body == {"order": "P-1"}
            for bad in ((mapping, "s", {"x-bazaar-signature": header}, raw + b" "), (mapping, "", {}, raw),
                        (mapping, "other", {"x-bazaar-signature": header}, raw),
                        ({}, "s", {"": header}, raw)):  # fmt: skip
                with pytest.raises(BadSignature):
                    webhooks.parse(*bad)
    assert webhooks.sign("key", b"The quick brown fox jumps over the lazy dog") == (
        "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
    )


def test_magento_is_carried_with_its_children_and_repeated_pages() -> None:
    assert maps.checked(MAGENTO) == dict(MAGENTO) and maps.missing(MAGENTO) == []
    address = {"firstname": "Ada", "lastname": "Brooks", "street": ["12 Oak St", "Apt 2"], "city": "Boston",
               "region_code": "MA", "postcode": "02108", "country_id": "US", "telephone": "1"}  # fmt: skip
    order = {
        "entity_id": 3, "increment_id": "000000003", "state": "processing", "status": "custom_status",
        "created_at": "2026-11-20 10:00:00", "updated_at": "2026-11-20 10:05:00", "order_currency_code": "USD",
        "grand_total": 24, "shipping_amount": 5, "tax_amount": 0, "discount_amount": -1, "customer_email": "a@b.co",
        "items": [
            {"item_id": 8, "sku": "MUG-R", "qty_ordered": 2, "price": 10, "discount_amount": 1, "name": "Mug"},
            {"item_id": 9, "parent_item_id": 8, "sku": "MUG-R", "qty_ordered": 2, "price": 0, "name": "Mug red"},
        ],
        "extension_attributes": {"shipping_assignments": [{"shipping": {"address": address}}]},
    }  # fmt: skip
    draft = maps.order_draft(MAGENTO, order)
    assert draft is not None and draft.contact is not None and draft.status == "open"
    assert [(one.external_id, one.external_sku, one.quantity) for one in draft.lines] == [("8", "MUG-R", 2)]
    assert (draft.contact.name, draft.contact.address2) == ("Ada Brooks", "Apt 2")
    assert money_gap(normalise(draft)) == 0 and draft.placed_at.isoformat() == "2026-11-20T10:00:00+00:00"
    access = Access(
        7, "custom", "c", {"base_url": "https://m.example/rest/V1", "mapping": dict(MAGENTO)}, {}, {}
    )
    item = PushItem(1, "1", "MUG-R", "", 4, "1:1")
    _, asked = play(Custom().push_quantities(access, [item]), [])
    assert asked[0].json == {
        "sourceItems": [{"sku": "MUG-R", "source_code": "default", "quantity": 4, "status": 1}]
    }


# --- a made-up shop --------------------------------------------------------------------------------


@pytest.fixture
def bazaar(sandbox: Any, stock: Any, settings: Any) -> Shop:
    warehouse, skus = stock
    catalogue = [{"sku": code, "title": code.title(), "price": "10.00", "stock": 10} for code in SKUS]
    shop = sandbox.create_shop(
        "custom", "stall", name="Stall", currency="USD", catalogue=catalogue,
        settings={"hook_url": "http://127.0.0.1:9/hooks/none/"},
    )  # fmt: skip
    settings.HOST_MAP = sandbox.host_map()
    account = accounts.connect(
        connector="custom", name="Stall", code="stall", prefix="ST",
        config={"base_url": shop["base_url"], "mapping": whole()},
        credentials={"secret": shop["credentials"]["token"], "webhook_secret": shop["credentials"]["notice_secret"]},
        warehouse_ids=[warehouse.pk], actor=SYSTEM,
    )  # fmt: skip
    tested = accounts.test(account.pk, actor=SYSTEM)
    assert tested.ok, tested.message
    accounts.import_listings(account.pk, actor=SYSTEM)
    account.refresh_from_db()
    return Shop(sandbox, "stall", account, skus, warehouse, shop)


@pytest.mark.django_db(transaction=True)
def test_sale_stock_parcel_and_proof(bazaar: Shop, assert_invariants: Callable[[], None]) -> None:
    push_all()
    assert {code: bazaar.available(code) for code in SKUS} == dict.fromkeys(SKUS, 50)
    placed = bazaar.buy(
        "MUG", 2, email="ada@example.com",
        address={"name": "Ada Brooks", "address1": "12 Oak St", "city": "Boston", "province_code": "MA",
                 "zip": "02108", "country_code": "US"},
    )  # fmt: skip
    deliver(bazaar)
    order = Order.objects.get(external_id=str(placed["id"]))
    assert list(order.lines.values_list("sku__code", "quantity", "reserved")) == [("MUG", 2, 2)]
    bazaar.client.plan_fault("stall", "timeout", operation="add_parcel")
    shipped(order)
    work(bazaar, 12)
    assert ChannelEffect.objects.get(kind="ship").state == "confirmed"
    assert [one["tracking"] for one in bazaar.client.fulfilments("stall")] == [["1Z999AA10123456784"]]
    push_all()
    assert bazaar.available("MUG") == 48
    assert_invariants()


@pytest.mark.django_db(transaction=True)
def test_pull_pages_throttling_and_a_refused_article(bazaar: Shop) -> None:
    for _ in range(3):
        bazaar.buy("TRAY", 1)
    config = dict(bazaar.account.config)
    mapping = {**config["mapping"], "orders_path": "/purchases?take=2"}
    accounts.set_config(bazaar.account.pk, {"mapping": mapping}, actor=SYSTEM)
    pulls.pull_orders(bazaar.account.pk)
    assert Order.objects.count() == 3 and bazaar.requests("list_purchases") >= 3
    deliver(bazaar)
    assert Order.objects.count() == 3
    bazaar.client.plan_fault("stall", "throttle", operation="set_on_hand")
    bazaar.client.plan_fault("stall", "user_error", operation="set_on_hand", code="x")
    push_all()
    for _ in range(3):
        Listing.objects.update(next_attempt_at=None)
        push_all()
    assert bazaar.available("MUG") == 50


@pytest.mark.django_db(transaction=True)
def test_a_revoked_token_stops_the_account_and_loses_nothing(bazaar: Shop) -> None:
    push_all()
    bazaar.client.expire_token("stall")
    add_stock(bazaar.skus["MUG"], bazaar.warehouse, 5)
    push_all()
    bazaar.account.refresh_from_db()
    assert bazaar.account.state == ChannelAccount.State.NEEDS_AUTH
    token = bazaar.client.shop("stall")["credentials"]["token"]
    accounts.set_credentials(bazaar.account.pk, {"secret": token}, actor=SYSTEM)
    assert accounts.test(bazaar.account.pk, actor=SYSTEM).ok
    Listing.objects.update(next_attempt_at=None)
    push_all()
    assert bazaar.available("MUG") == 55


# --- the screen ------------------------------------------------------------------------------------


@pytest.fixture
def owner(db: None) -> Client:
    user: User = make_user("olga")
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.django_db(transaction=True)
def test_from_a_sample_to_a_live_page(
    bazaar: Shop, owner: Client, django_assert_max_num_queries: Any
) -> None:
    url = "/channels/stall/mapping/"
    accounts.set_config(bazaar.account.pk, {"mapping": {}}, actor=SYSTEM)
    with django_assert_max_num_queries(25):
        page = owner.get(url)
    assert page.status_code == 200 and b"Not complete" in page.content
    sample = {"orders_sample": json.dumps(SAMPLE), "stock_sample": json.dumps(STOCK)}
    page = owner.post(url, {**sample, "action": "propose"})
    assert page.status_code == 200
    text = page.content.decode()
    assert "2 × MUG at" in text and "by its name; holds" in text
    chosen = {name: value for name, value in whole().items() if name != "statuses"}
    words = {f"status: {word}": meaning for word, meaning in whole()["statuses"].items()}
    wrong = owner.post(url, {**sample, **chosen, **words, "line_sku": "a[b", "action": "save"})
    assert wrong.status_code == 422 and b"SKU: " in wrong.content
    saved = owner.post(url, {**sample, **chosen, **words, "action": "save"})
    assert saved.status_code == 302
    bazaar.account.refresh_from_db()
    assert bazaar.account.config["mapping"] == whole()
    assert "Ada" not in json.dumps(bazaar.account.config)
    placed = bazaar.buy("MUG", 1)
    before = Order.objects.count()
    live = owner.post(url, {**chosen, **words, "action": "read"})
    assert live.status_code == 200 and str(placed["id"]) in live.content.decode()
    assert Order.objects.count() == before
    pushed = owner.post(url, {**chosen, **words, "action": "push", "push_sku": "BOWL", "push_quantity": "7"})
    assert pushed.status_code == 302 and bazaar.available("BOWL") == 7
    refused = owner.post(url, {**chosen, **words, "action": "push", "push_sku": "NOPE", "push_quantity": "7"})
    assert refused.status_code == 422 and b"no article NOPE" in refused.content


@pytest.mark.django_db
def test_no_sample_breaks_the_screen(owner: Client) -> None:
    accounts.connect(
        connector="custom", name="Stall", code="stall", config={"base_url": "https://a.example"}, credentials={},
        actor=SYSTEM,
    )  # fmt: skip
    for text in ("[" * 50_000, "{", "7", '[{"id": 1e999999}]', '[1, {"id": {}}]'):
        for action in ("propose", "show", "save", "preset", "read", "odd"):
            sent = {"orders_sample": text, "stock_sample": text, "action": action, "id": "a", "lines": "b"}
            answer = owner.post("/channels/stall/mapping/", sent)
            assert answer.status_code in (200, 302, 422), (text[:20], action)


# --- pages and numbers -----------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("ever_new", [False, True])
def test_product_pages_that_lead_in_a_circle_end_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, ever_new: bool
) -> None:
    account = accounts.connect(
        connector="custom", name="Stall", code="stall", config={"base_url": "https://a.example"}, credentials={},
        actor=SYSTEM,
    )  # fmt: skip
    Listing.objects.create(account=account, external_id="gone", external_sku="GONE")
    pages = 0

    def endless(account_id: int, cursor: str) -> ListingPage:
        nonlocal pages
        pages += 1
        assert pages < 20, "it goes round and round"
        number = pages if ever_new else int(cursor or 0) + 1
        return ListingPage(
            (RemoteListing(f"p{number % 3}", f"S{number % 3}"),), str(number if ever_new else number % 3)
        )

    monkeypatch.setattr(accounts, "_page", endless)
    with pytest.raises(ChannelError, match="read before"):
        accounts.import_listings(account.pk, actor=SYSTEM)
    assert Listing.objects.filter(account=account, state=Listing.State.ACTIVE).count() == 4


@pytest.mark.django_db
def test_a_catalogue_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    account = accounts.connect(
        connector="custom", name="Stall", code="stall", config={"base_url": "https://a.example"}, credentials={},
        actor=SYSTEM,
    )  # fmt: skip
    monkeypatch.setattr(accounts, "MAX_LISTING_PAGES", 7)
    monkeypatch.setattr(
        accounts,
        "_page",
        lambda _, cursor: ListingPage((RemoteListing(cursor or "0", ""),), str(int(cursor or 0) + 1)),
    )
    with pytest.raises(ChannelError, match="after 7 pages"):
        accounts.import_listings(account.pk, actor=SYSTEM)
    assert Listing.objects.filter(account=account).count() == 7


def test_a_parcel_names_the_order_by_number_and_by_id() -> None:
    mapping = {
        "ship_path": "/{order_id}/ship",
        "ship_body": '{"order": "{order_number}", "t": "{tracking_number}"}',
    }
    access = replace(ACCESS, config={**ACCESS.config, "mapping": mapping})
    parcel = Confirmation(
        "77", "1", "ups", "UPS", "ground", "1Z9", "", dt.datetime(2026, 11, 26, tzinfo=dt.UTC), (ShipItem("1", 1),),
        order_number="#1001",
    )  # fmt: skip
    _, asked = play(Custom().confirm_shipment(access, parcel), {})
    assert asked[0].url.endswith("/77/ship") and asked[0].json == {"order": "#1001", "t": "1Z9"}
    stale = replace(ACCESS, config={**ACCESS.config, "mapping": {**whole(), "order_path": "/{order_number}"}})
    with pytest.raises(ChannelError, match="use {order_id}"):
        play(Custom().get_orders(stale, ["77"]))
    with pytest.raises(UserError, match="order_number"):
        maps.checked({"order_path": "/{order_number}"})


@pytest.mark.parametrize(
    ("example", "made"),
    [
        ("/purchases/P-1/parcels", "/purchases/{order_id}/parcels"), ("/o/{order_id}/x", "/o/{order_id}/x"),
        ("/P-1?full=P-1", "/{order_id}?full=P-1"), ("/P-10/a", "/P-10/a"), ("", ""),
    ],
)  # fmt: skip
def test_an_address_with_an_example_in_it_gets_its_placeholder(example: str, made: str) -> None:
    assert examples.address(example, {"order_id": "P-1", "order_number": ""}) == made


def test_a_body_with_an_example_in_it_gets_its_placeholders() -> None:
    parcel = '{"carrier": "DHL", "track": "JJD01", "notify": true, "positions": [{"pos": 1, "pieces": 3}]}'
    made, line = examples.body(parcel, examples.SHIP_NAMES, "lines", examples.LINE_NAMES)
    assert json.loads(made) == {
        "carrier": "{carrier_name}", "track": "{tracking_number}", "notify": True, "positions": "{lines}",
    }  # fmt: skip
    assert json.loads(line) == {"pos": "{line_id}", "pieces": "{quantity}"}
    names = examples.STOCK_NAMES
    made, item = examples.body('{"items": [{"sku": "A", "qty": "5"}]}', names, "items", names)
    assert (json.loads(made), json.loads(item)) == (
        {"items": "{items}"},
        {"sku": "{sku}", "qty": "{quantity_text}"},
    )
    for kept in ('{"qty": "{quantity}"}', '{"foo": 1}', ""):
        assert examples.body(kept, names, "items", names) == (kept, "")
    with pytest.raises(maps.Unfit, match="not JSON"):
        examples.body("{", names, "items", names)


@pytest.mark.django_db(transaction=True)
def test_a_refused_token_and_a_wrong_address_are_told_with_the_way_out(bazaar: Shop, owner: Client) -> None:
    url = "/channels/stall/mapping/"
    wrong = owner.post(url, {"action": "fetch", "orders_path": "/nowhere"})
    assert wrong.status_code == 422 and b"Nothing is at this address" in wrong.content
    empty = owner.post(url, {"action": "fetch", "orders_path": ""})
    assert empty.status_code == 422 and b"Address of the order list" in empty.content
    accounts.set_credentials(bazaar.account.pk, {"secret": "wrong"}, actor=SYSTEM)
    refused = owner.post(url, {"action": "fetch", "orders_path": "/purchases"})
    assert refused.status_code == 422 and b"Is the token right" in refused.content
