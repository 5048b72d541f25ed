"""Sentences that a channel's screen promises and that no other test says as a whole."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import time_machine
from django.db import transaction
from django.test import Client

from channels import accounts, drift, inbox, pulls, pushing
from channels.connectors.base import ListingPage, RemoteListing
from channels.models import ChannelEffect, Listing, LocationMap
from fulfillment import routing_service, shipping
from fulfillment.models import CarrierAccount, LabelPurchase, Parcel, ParcelItem, Shipment
from fulfillment.shipments import ensure_shipments, why_not_shippable
from inventory import fences
from inventory import tasks as stock_tasks
from inventory.ledger import Movement, post_movements
from inventory.models import StockLevel, Warehouse
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.models import AuditEntry
from oms.orders.models import Order, OrderContact, OrderLine
from oms.orders.serving import Serves, set_serving
from tests.channels.conftest import Shop, connect_shopify, deliver, push_all
from tests.channels.test_effects import shipped, work
from tests.factories import add_stock, make_warehouse

pytestmark = pytest.mark.django_db(transaction=True)


def move(shop: Shop, code: str, units: int) -> None:
    with transaction.atomic():
        post_movements(
            [Movement(shop.skus[code].pk, shop.warehouse.pk, "on_hand", units, "adjust", key=f"{code}:{units}",
                      reason="count")],
            actor=SYSTEM,
        )  # fmt: skip


# --- C03: a budget per account, what is nearly gone first -----------------------------------------------


def first_taken(shop: Shop) -> str:
    token = uuid.uuid4()
    (taken,) = pushing._claim({shop.account.pk: (1, pushing.LEASE)}, token, now())
    Listing.objects.filter(pk=taken).update(lease_token=None, lease_until=None)
    return Listing.objects.get(pk=taken).external_sku


def test_what_is_nearly_gone_goes_first_and_first_figures_go_last(shopify: Shop) -> None:
    push_all()
    at, rows = now(), Listing.objects.filter(account=shopify.account)
    pushing.mark_listings(rows)
    for code, units, seconds in (("MUG", 400, 1.5), ("BOWL", pushing.NEAR_ZERO, 0.5), ("TRAY", 1, 1.0)):
        rows.filter(external_sku=code).update(
            acked_quantity=units, stale_since=at - dt.timedelta(seconds=seconds)
        )
    assert first_taken(shopify) == "TRAY"  # of those near zero the one that waits longest
    rows.filter(external_sku="MUG").update(stale_since=at - pushing.FAIR_AFTER - dt.timedelta(seconds=1))
    assert first_taken(shopify) == "MUG"  # nobody waits for ever behind them
    rows.exclude(external_sku="BOWL").update(told_anew=True)
    assert first_taken(shopify) == "BOWL"


def test_a_throttled_account_keeps_no_other_waiting(shopify: Shop, stock: Any, settings: Any) -> None:
    other = connect_shopify(shopify.client, stock, settings, "beta")
    push_all()
    shopify.client.faults(shopify.id, throttle_rate=1.0)
    move(shopify, "MUG", -7)
    push_all()
    assert (other.available("MUG"), shopify.available("MUG")) == (43, 50)
    mug = shopify.listing("MUG")
    assert mug.is_stale and (mug.attempts, mug.dead) == (0, False)  # throttling is no failure of the listing
    shopify.client.clear_faults(shopify.id)
    Listing.objects.update(next_attempt_at=None)
    push_all()
    assert shopify.available("MUG") == 43


# --- C05: every listing is compared daily, a busy one hourly ---------------------------------------------


def test_busy_listings_are_read_back_hourly_and_every_one_daily(shopify: Shop) -> None:
    push_all()
    at = now()
    for code, told, read in (("MUG", 0.5, 1.1), ("BOWL", 30, 2), ("TRAY", 30, 25)):
        Listing.objects.filter(account=shopify.account, external_sku=code).update(
            acked_at=at - dt.timedelta(hours=told), read_at=at - dt.timedelta(hours=read)
        )
    assert [row.external_sku for row in drift.due(shopify.account.pk)] == ["TRAY", "MUG"]
    drift.read_back(shopify.account.pk)
    assert drift.due(shopify.account.pk) == []


# --- C07: a SKU that is renamed on the channel is the same listing ---------------------------------------


def test_a_sku_renamed_on_the_channel_keeps_its_listing_and_its_sku(
    shopify: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_all()
    rows = list(Listing.objects.filter(account=shopify.account).order_by("pk"))
    shown = [
        RemoteListing(
            external_id=row.external_id,
            external_sku=f"NEW-{row.external_sku}" if row.external_sku == "MUG" else row.external_sku,
            location_id=row.location_id,
            variant_id=row.variant_id,
            quantity=50,
        )
        for row in rows
    ]
    strange = RemoteListing(external_id="990", external_sku="UNHEARD", location_id="", quantity=4)
    empty = replace(strange, external_id="991", external_sku="EMPTY", quantity=0)
    monkeypatch.setattr(accounts, "_page", lambda *args: ListingPage((*shown, strange, empty)))
    found = accounts.import_listings(shopify.account.pk, actor=SYSTEM)
    assert (found.created, found.updated, found.ended) == (2, 3, 0)
    mug = Listing.objects.get(external_sku="NEW-MUG")
    assert (mug.pk, mug.sku) == (
        next(row.pk for row in rows if row.external_sku == "MUG"),
        shopify.skus["MUG"],
    )
    # only what is for sale there without stock behind it is counted
    assert list(accounts.unmapped(shopify.account.pk)) == [Listing.objects.get(external_sku="UNHEARD")]


# --- C08: two stores of one channel ----------------------------------------------------------------------


def test_two_stores_share_stock_and_nothing_else(
    shopify: Shop, stock: Any, settings: Any, client: Client
) -> None:
    other = connect_shopify(shopify.client, stock, settings, "beta")
    accounts.set_rules(other.listing("MUG").pk, buffer=5, actor=SYSTEM)
    push_all()
    assert (shopify.available("MUG"), other.available("MUG")) == (50, 45)
    change = AuditEntry.objects.filter(action="listing.rules").latest("pk")
    assert (change.before["buffer"], change.after["buffer"]) == (0, 5)
    secrets = {shop.account.pk: shop.account.credentials["access_token"] for shop in (shopify, other)}
    assert len(set(secrets.values())) == 2
    accounts.disable(shopify.account.pk, actor=SYSTEM)
    move(other, "MUG", -10)
    other.buy("BOWL", 2)
    deliver(other)
    push_all()
    assert (shopify.available("MUG"), other.available("MUG")) == (50, 35)
    assert Order.objects.get().channel == other.account.sales_channel
    for shop, status in ((shopify, 401), (other, 401)):  # unsigned at both; one is closed altogether
        knocked = client.post(f"/hooks/{shop.account.hook_key}/", data=b"{}", content_type="application/json")
        assert knocked.status_code == status


# --- I10: a ring-fence, as the channels see it -----------------------------------------------------------


def test_fenced_units_are_shown_by_their_channel_only_until_the_end(
    shopify: Shop, stock: Any, settings: Any
) -> None:
    other = connect_shopify(shopify.client, stock, settings, "beta")
    push_all()
    until = now() + dt.timedelta(hours=2)
    fences.create(
        sku_id=shopify.skus["MUG"].pk, channel_code="acme", quantity=20, ends_at=until, actor=SYSTEM
    )
    push_all()
    assert (shopify.available("MUG"), other.available("MUG")) == (50, 30)
    shopify.buy("MUG", 5)
    deliver(shopify)
    push_all()
    assert (shopify.available("MUG"), other.available("MUG")) == (45, 30)  # five of the fence are sold
    with time_machine.travel(until + dt.timedelta(minutes=1), tick=True):
        stock_tasks.tell_dates("")
        push_all()
        assert (shopify.available("MUG"), other.available("MUG")) == (45, 45)


# --- F17, F18: tracking --------------------------------------------------------------------------------


def test_a_tracking_number_that_comes_late_is_told_when_it_is_there(shopify: Shop) -> None:
    shopify.buy("MUG", 2)
    deliver(shopify)
    order = Order.objects.get()
    shipped(order, tracking="")
    work(shopify)
    assert ChannelEffect.objects.get(kind="ship").state == "planned" and not shopify.client.fulfilments(
        "acme"
    )
    LabelPurchase.objects.update(tracking_number="1ZLATE")
    work(shopify)
    assert ChannelEffect.objects.get(kind="ship").state == "confirmed"
    assert [one["tracking"] for one in shopify.client.fulfilments("acme")] == [["1ZLATE"]]


def test_goods_from_two_locations_are_told_in_two_calls(
    sandbox: Any, stock: Any, settings: Any, assert_invariants: Callable[[], None]
) -> None:
    east, skus = stock
    west = make_warehouse("WEST", country="US")
    add_stock(skus["BOWL"], west, 9)
    move_all = StockLevel.objects.get(sku=skus["BOWL"], warehouse=east)
    with transaction.atomic():
        post_movements(
            [Movement(skus["BOWL"].pk, east.pk, "on_hand", -move_all.on_hand, "adjust", key="gone", reason="count")],
            actor=SYSTEM,
        )  # fmt: skip
    shop = sandbox.create_shop(
        "shopify", "two", name="Two", currency="USD", locations=[{"name": "East"}, {"name": "West"}],
        catalogue=[
            {"sku": "MUG", "title": "Mug", "price": "10.00", "stock": {"East": 10, "West": 0}},
            {"sku": "BOWL", "title": "Bowl", "price": "10.00", "stock": {"East": 0, "West": 10}},
        ],
    )  # fmt: skip
    settings.HOST_MAP = sandbox.host_map()
    account = accounts.connect(
        connector="shopify", name="Two", code="two", config={"shop": shop["domain"]}, prefix="TW",
        credentials={key: shop["credentials"][key] for key in ("access_token", "client_secret")},
        warehouse_ids=[east.pk, west.pk], actor=SYSTEM,
    )  # fmt: skip
    tested = accounts.test(account.pk, actor=SYSTEM)
    assert tested.facts is not None
    for (place, name), warehouse in zip(tested.facts.locations, (east, west), strict=True):
        accounts.map_location(account.pk, place, warehouse.pk, actor=SYSTEM, name=name)
    accounts.go_live(account.pk, "http://127.0.0.1:9/hooks/none/", actor=SYSTEM)
    accounts.import_listings(account.pk, actor=SYSTEM)
    account.refresh_from_db()
    two = Shop(sandbox, "two", account, skus, east, shop)
    placed = sandbox.place_order("two", [{"sku": "MUG", "quantity": 1}, {"sku": "BOWL", "quantity": 2}])
    deliver(two)
    order = Order.objects.get(external_id=str(placed["id"]))
    routing_service.route(order.pk, actor=SYSTEM)
    made = ensure_shipments(order.pk, actor=SYSTEM)
    assert {shipment.warehouse.code for shipment in Shipment.objects.filter(order=order)} == {"EAST", "WEST"}
    assert len(made) <= 2
    carrier = CarrierAccount.objects.create(code="ups", name="UPS", connector="ups")
    for number, shipment in enumerate(Shipment.objects.filter(order=order).order_by("pk")):
        Shipment.objects.filter(pk=shipment.pk).update(state="labelled", carrier_account=carrier)
        parcel = Parcel.objects.create(shipment=shipment, weight_g=1, length_mm=1, width_mm=1, height_mm=1)
        for line in shipment.lines.all():
            line.picked = line.packed = line.quantity
            line.save()
            ParcelItem.objects.create(parcel=parcel, line=line, quantity=line.quantity)
        LabelPurchase.objects.create(
            parcel=parcel, account=carrier, service_code="ground", reference=shipment.number, state="purchased",
            tracking_number=f"1ZTWO{number}", requested_by="test",
        )  # fmt: skip
        shipping.ship(shipment.pk, actor=SYSTEM)
    work(two)
    assert set(ChannelEffect.objects.filter(kind="ship").values_list("state", flat=True)) == {"confirmed"}
    assert two.requests("fulfillmentCreate") == 2
    places = {one["location_id"]: one["tracking"] for one in sandbox.fulfilments("two")}
    assert sorted(places.values()) == [["1ZTWO0"], ["1ZTWO1"]]
    assert_invariants()


# --- O04: pending at Amazon ------------------------------------------------------------------------------


ADDRESS = {
    "name": "Ada Brooks", "address1": "12 Oak St", "city": "Boston", "province_code": "MA", "zip": "02108",
    "country_code": "US",
}  # fmt: skip


def listen(amazon: Shop) -> None:
    pulls.poll_queue(amazon.account.pk)
    inbox.drain(amazon.account.pk)


def pending(amazon: Shop) -> Order:
    placed = amazon.buy("MUG", 3, payment="pending", address=ADDRESS)
    listen(amazon)
    return Order.objects.get(external_id=str(placed["id"]))


def test_a_pending_amazon_order_holds_stock_and_cannot_leave_until_it_is_paid(
    amazon: Shop, assert_invariants: Callable[[], None]
) -> None:
    order = pending(amazon)
    assert order.state == Order.State.PENDING
    level = StockLevel.objects.get(sku=amazon.skus["MUG"], warehouse=amazon.warehouse)
    assert (OrderLine.objects.get(order=order).reserved, level.available) == (3, 47)
    assert not OrderContact.objects.filter(order=order).exists()  # Amazon tells no address yet
    # no shipment, so nothing to label; and whatever asks is told why
    assert ensure_shipments(order.pk, actor=SYSTEM) == []
    assert why_not_shippable(order) == f"{order.number} is not paid yet."
    amazon.client.act(amazon.id, order.external_id, "pay")
    listen(amazon)
    order = Order.objects.get(pk=order.pk)
    assert order.state == Order.State.OPEN and order.contact.data["address1"]
    assert_invariants()


def test_a_pending_amazon_order_that_expires_gives_its_units_back(
    amazon: Shop, assert_invariants: Callable[[], None]
) -> None:
    order = pending(amazon)
    amazon.client.act(amazon.id, order.external_id, "cancel")
    listen(amazon)
    order.refresh_from_db()
    assert order.state == Order.State.CANCELLED
    assert StockLevel.objects.get(sku=amazon.skus["MUG"], warehouse=amazon.warehouse).available == 50
    assert_invariants()


# --- W02: the same SKU, shipped by Amazon and by us -------------------------------------------------------


def test_a_sale_shipped_by_amazon_touches_its_pool_only(
    amazon: Shop, assert_invariants: Callable[[], None]
) -> None:
    pool = make_warehouse("FBA-US", kind=Warehouse.Kind.FBA)
    LocationMap.objects.create(account=amazon.account, warehouse=pool, external_id="FBA")
    served = {amazon.warehouse.pk: Serves(True, True, 1), pool.pk: Serves(True, False, 2)}
    set_serving(amazon.account.sales_channel_id, served, actor=SYSTEM)
    accounts.map_listing(amazon.listing("MUG-FBA").pk, amazon.skus["MUG"].pk, actor=SYSTEM)
    pulls.pull_pool(amazon.account.pk)
    push_all()
    assert amazon.available("MUG") == 50  # thirty more lie at Amazon and are not counted
    amazon.buy("MUG-FBA", 4)
    amazon.buy("MUG", 1)
    listen(amazon)
    pulls.pull_pool(amazon.account.pk)
    push_all()
    levels = dict(
        StockLevel.objects.filter(sku=amazon.skus["MUG"]).values_list("warehouse__code", "reserved")
    )
    assert levels == {"EAST": 1, "FBA-US": 0}
    assert StockLevel.objects.get(sku=amazon.skus["MUG"], warehouse=pool).available == 26
    assert amazon.available("MUG") == 49
    assert amazon.listing("MUG-FBA").acked_quantity is None
    assert_invariants()
