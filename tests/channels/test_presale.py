"""I12: a listing that sells what is on order shows its share of it, less what orders wait for already."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import F
from django.test import Client
from django.urls import reverse

from channels import accounts, blackbox, quantities
from channels.models import ChannelAccount, Listing, OversellIncident
from inventory.models import Sku
from oms.core import outbox
from oms.core.actor import SYSTEM
from oms.core.clock import business_day
from oms.core.errors import UserError
from oms.core.models import AuditEntry
from oms.orders import intake, tasks
from oms.orders.models import OrderLine, SalesChannel
from procurement import purchase_orders
from procurement.models import PurchaseOrder, Supplier
from tests.api.test_resources import bearer
from tests.factories import (
    T0,
    add_stock,
    line_draft,
    make_channel,
    make_kit,
    make_sku,
    make_user,
    make_warehouse,
    order_draft,
)

pytestmark = pytest.mark.django_db


class Shop:
    """Two channels served from EAST: the first sells 80 % of the mugs that are on order, the second sells stock."""

    def __init__(self) -> None:
        self.east = make_warehouse("EAST")
        self.sku = make_sku("MUG")
        self.shop, self.market = (
            make_channel(code, self.east, prefix=code[:2].upper()) for code in ("shop", "market")
        )
        self.ahead = self.listed(self.shop, self.sku)
        self.stock = self.listed(self.market, self.sku)
        accounts.set_rules(self.ahead.pk, preorder_percent=80, actor=SYSTEM)
        self.kiln = Supplier.objects.create(code="KILN", name="Kiln", lead_time_days=14)

    def listed(self, channel: SalesChannel, sku: Sku) -> Listing:
        account, _ = ChannelAccount.objects.get_or_create(
            sales_channel=channel, defaults={"connector": "shopify", "state": "connected"}
        )
        return Listing.objects.create(
            account=account, external_id=f"{channel.code}-{sku.code}", external_sku=sku.code, sku=sku
        )

    def bought(self, units: int, sku: Sku | None = None) -> PurchaseOrder:
        order = purchase_orders.create(
            supplier_id=self.kiln.pk, warehouse_id=self.east.pk, actor=SYSTEM,
            expected_on=business_day() + dt.timedelta(days=30),
            lines=[purchase_orders.LineSpec((sku or self.sku).pk, units, Decimal(2))],
        )  # fmt: skip
        purchase_orders.approve(order.pk, actor=SYSTEM)
        return purchase_orders.send(order.pk, actor=SYSTEM)

    def sold(self, units: int, name: str, sku: Sku | None = None) -> OrderLine:
        draft = order_draft(
            line_draft(sku or self.sku, units, unit_price=Decimal(5)), external_id=name, placed_at=T0
        )
        [taken] = intake.take([draft], channel=self.shop, actor=SYSTEM, source="webhook")
        return OrderLine.objects.get(order=taken.order_id)


@pytest.fixture
def house(db: None) -> Shop:
    return Shop()


def shown(listing: Listing) -> int:
    figure = quantities.sellable(listing.pk)
    assert figure is not None
    return figure.quantity


def settled() -> None:
    while outbox.drain():
        pass
    Listing.objects.update(stale_since=None, acked_version=F("version"))


def stale(listing: Listing) -> bool:
    while outbox.drain():
        pass
    listing.refresh_from_db()
    return listing.stale_since is not None


def test_it_shows_its_share_of_what_comes_less_what_is_sold(house: Shop, assert_invariants: Any) -> None:
    assert (shown(house.ahead), shown(house.stock)) == (0, 0)
    house.bought(11)
    assert (shown(house.ahead), shown(house.stock)) == (8, 0), "80 % of 11, rounded down, and no stock yet"
    line = house.sold(3, "A")
    assert (line.short, shown(house.ahead)) == (3, 5)
    tasks.renew_promises(str(house.sku.pk))
    line.refresh_from_db()
    assert line.promise_on == business_day() + dt.timedelta(days=30), "what is sold ahead has a day"
    figure = quantities.sellable(house.ahead.pk)
    assert figure is not None and figure.why() == "5 incoming"
    house.sold(9, "B")
    assert shown(house.ahead) == 0, "never below nothing"
    assert_invariants()


def test_stock_in_the_house_is_left_to_the_others(house: Shop) -> None:
    add_stock(house.sku, house.east, 4)
    assert (shown(house.ahead), shown(house.stock)) == (0, 4)
    house.bought(10)
    assert (shown(house.ahead), shown(house.stock)) == (8, 4), "the last units are divided without it"


def test_listings_that_sell_ahead_share_and_kits_count_parts(house: Shop) -> None:
    house.bought(10)
    accounts.set_rules(house.stock.pk, preorder_percent=80, actor=SYSTEM)
    assert (shown(house.ahead), shown(house.stock)) == (4, 4), "together no more than 8"
    box = make_sku("BOX")
    pair = house.listed(house.market, make_kit("PAIR", {house.sku: 1, box: 1}))
    accounts.set_rules(pair.pk, preorder_percent=100, actor=SYSTEM)
    assert (shown(house.ahead), shown(house.stock), shown(pair)) == (2, 2, 0), "no box is on order"
    house.bought(2, box)
    assert shown(pair) == 2


def test_sales_that_are_not_booked_yet_are_taken_off(house: Shop) -> None:
    house.bought(10)
    settled()
    Listing.objects.filter(pk=house.ahead.pk).update(acked_quantity=6, held=8, unseen_since=T0)
    assert shown(house.ahead) == 6
    assert shown(house.stock) == 0


def test_it_is_told_when_orders_or_purchases_change_what_is_left(house: Shop) -> None:
    settled()
    order = house.bought(10)
    assert stale(house.ahead) and not stale(house.stock), "only who sells it"
    settled()
    house.sold(2, "A")
    assert stale(house.ahead)
    settled()
    purchase_orders.close(order.pk, actor=SYSTEM)
    assert stale(house.ahead)


def test_what_was_sold_ahead_is_no_oversell(house: Shop) -> None:
    house.bought(10)
    Listing.objects.filter(pk=house.ahead.pk).update(acked_quantity=8)
    line = house.sold(2, "A")
    assert blackbox.suspect([line.order_id]) == 1
    blackbox.drain()
    assert not OversellIncident.objects.exists()


def test_every_door_sets_and_takes_it_away(house: Shop, client: Client) -> None:
    entry = AuditEntry.objects.filter(action="listing.rules").latest("pk")
    assert (entry.before, entry.after) == ({"preorder_percent": None}, {"preorder_percent": 80})
    for wrong in (0, 101):
        with pytest.raises(UserError, match="preorder_percent: use 1 to 100"):
            accounts.set_rules(house.ahead.pk, preorder_percent=wrong, actor=SYSTEM)
    client.force_login(make_user())
    form = {
        "buffer_mode": "fixed", "buffer": 0, "percent": 100, "cap": "", "stop_at": 0, "pack_size": 1, "state": "active",
    }  # fmt: skip
    address = reverse("channels:listing", args=[house.stock.pk])
    assert "Preorder percent" in client.get(address).content.decode()
    client.post(address, {**form, "preorder_percent": 50})
    house.stock.refresh_from_db()
    assert house.stock.preorder_percent == 50
    client.post(address, form)
    house.stock.refresh_from_db()
    assert house.stock.preorder_percent is None
    api = bearer(make_user("api"))
    url = f"/api/v1/listings/{house.stock.pk}/"
    assert api.patch(url, {"preorder_percent": 30}, HTTP_IF_MATCH="*").json()["preorder_percent"] == 30
    assert api.patch(url, {"buffer": 1}, HTTP_IF_MATCH="*").json()["preorder_percent"] == 30
    assert api.patch(url, {"preorder_percent": None}, HTTP_IF_MATCH="*").json()["preorder_percent"] is None
    assert api.patch(url, {"preorder_percent": 101}, HTTP_IF_MATCH="*").status_code == 400
