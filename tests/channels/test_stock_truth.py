"""What listings show of stock that is not everybody's: short-dated units (W10), FBA pools (W02), merges (I16)."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from channels import quantities
from channels.models import ChannelAccount, Listing
from inventory.merging import merge_skus
from inventory.models import Lot, Sku, Warehouse
from inventory.operations import PurchasedGoods, receive_purchase
from oms.core import outbox
from oms.core.actor import SYSTEM
from oms.core.clock import business_day
from oms.orders.models import SalesChannel
from procurement.models import Supplier, SupplierOffer
from tests.factories import add_stock, make_channel, make_sku, make_warehouse

pytestmark = pytest.mark.django_db


@pytest.fixture
def east() -> Warehouse:
    return make_warehouse("EAST")


def listed(channel: SalesChannel, sku: Sku, **fields: str) -> Listing:
    account, _ = ChannelAccount.objects.get_or_create(
        sales_channel=channel, defaults={"connector": "shopify", "state": "connected"}
    )
    code = f"{channel.code}-{sku.code}-{fields.get('fulfilment', '')}"
    return Listing.objects.create(account=account, external_id=code, external_sku=code, sku=sku, **fields)


def shown(listing: Listing) -> int:
    figure = quantities.sellable(listing.pk)
    assert figure is not None
    return figure.quantity


def test_short_dated_units_are_not_shown_where_they_may_not_be_sold(east: Warehouse) -> None:
    milk = make_sku("MILK", lot_tracked=True)
    for code, days, units in (("OLD", -1, 4), ("SHORT", 20, 5), ("LONG", 90, 7)):
        lot = Lot.objects.create(sku=milk, code=code, expires_on=business_day() + dt.timedelta(days=days))
        goods = PurchasedGoods(milk.pk, east.pk, units, Decimal(1), code, lot_id=lot.pk)
        receive_purchase([goods], reference=code, actor=SYSTEM)
    strict = make_channel("strict", east, prefix="ST", min_shelf_life_days=60)
    assert (shown(listed(strict, milk)), shown(listed(make_channel("easy", east), milk))) == (7, 12)


def test_a_sku_in_both_pools_shows_what_we_ship_without_the_marketplaces_units(east: Warehouse) -> None:
    pool, mug = make_warehouse("FBA", kind=Warehouse.Kind.FBA), make_sku("MUG")
    add_stock(mug, east, 6)
    add_stock(mug, pool, 40)
    channel = make_channel("amazon", east, pool)
    ours, theirs = listed(channel, mug), listed(channel, mug, fulfilment="channel")
    assert shown(ours) == 6
    assert quantities.sellable(theirs.pk) is None, "its figure is never ours to tell"


def test_what_was_mapped_to_a_merged_sku_follows_it(east: Warehouse) -> None:
    old, new = make_sku("OLD"), make_sku("NEW")
    add_stock(old, east, 3)
    add_stock(new, east, 4)
    listing = listed(make_channel("shop", east), old)
    offer = SupplierOffer.objects.create(
        supplier=Supplier.objects.create(code="K", name="K"), sku=old, price=Decimal(1)
    )
    merge_skus(old.pk, new.pk, actor=SYSTEM)
    while outbox.drain():
        pass
    listing.refresh_from_db()
    offer.refresh_from_db()
    assert (listing.sku, offer.sku) == (new, new)
    assert listing.stale_since is not None and shown(listing) == 7
