"""Whole ways through the channels: sale to proof, bulk files, drift, Amazon's own pool."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from channels import accounts, drift, pulls, sync
from channels.connectors.amazon.client import Amazon
from channels.models import BulkPush, Drift, Listing, LocationMap
from inventory.models import StockLevel, Warehouse
from oms.core import http, outbox
from oms.core.actor import SYSTEM
from oms.orders.models import Order, OrderLine
from tests.channels.conftest import Shop, connect_shopify, deliver, push_all
from tests.channels.test_effects import shipped, work
from tests.factories import make_warehouse

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_sale_here_lowers_the_other_shop_and_is_proved(
    shopify: Shop, stock: Any, settings: Any, assert_invariants: Callable[[], None]
) -> None:
    other = connect_shopify(shopify.client, stock, settings, "outlet")
    push_all()
    placed = shopify.buy("MUG", 4)
    assert deliver(shopify) >= 1
    push_all()
    assert (shopify.available("MUG"), other.available("MUG")) == (46, 46)
    order = Order.objects.get(external_id=str(placed["id"]))
    shipped(order)
    work(shopify)
    push_all()
    assert OrderLine.objects.get(order=order).shipped == 4
    assert (shopify.available("MUG"), other.available("MUG")) == (46, 46)
    assert len(shopify.client.fulfilments("acme")) == 1 and shopify.client.fulfilments("outlet") == []
    deliver(shopify)
    while outbox.drain():
        pass
    push_all()
    assert_invariants()


def test_the_last_units_never_show_more_than_there_are(shopify: Shop, stock: Any, settings: Any) -> None:
    other = connect_shopify(shopify.client, stock, settings, "outlet")
    push_all()
    shopify.buy("TRAY", 47)
    deliver(shopify)
    push_all()
    # the shop's own sale is held back twice until the next look, a second later: too low for a moment, never too high
    assert shopify.available("TRAY") + other.available("TRAY") <= 3
    Listing.objects.update(next_attempt_at=None)
    push_all()
    assert shopify.available("TRAY") + other.available("TRAY") == 3


def test_many_amazon_quantities_go_as_one_file(amazon: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Amazon, "capabilities", replace(Amazon.capabilities, bulk_from=2))
    Listing.objects.filter(external_sku="BOWL").update(external_sku="NOT-THERE")
    push_all()
    bulk = BulkPush.objects.get()
    assert bulk.state == BulkPush.State.SENT and len(bulk.items) == 3
    # while the file is under way nothing of it is told singly
    sync.mark_listings(Listing.objects.filter(external_sku="MUG"))
    push_all()
    assert amazon.requests("patchListingsItem") == 0
    assert amazon.client.wait_until(lambda: amazon.available("TRAY") == 50)
    assert sync.read_bulk(amazon.account.pk) == 3
    assert amazon.available("MUG") == 50
    refused = Listing.objects.get(external_sku="NOT-THERE")
    assert refused.attempts == 1 and refused.lease_until is None and refused.stale_since is not None
    mug = amazon.listing("MUG")
    assert mug.acked_quantity == 50 and mug.is_stale  # changed meanwhile: told again


def test_a_figure_edited_on_the_channel_is_found_and_put_right(shopify: Shop) -> None:
    push_all()
    shopify.client.set_stock(shopify.id, "MUG", 99)
    listing = shopify.listing("MUG")
    assert drift.read_back(shopify.account.pk, [listing]) == 1
    found = Drift.objects.get(closed_at__isnull=True)
    assert (found.ours, found.theirs, found.cause) == (50, 99, "edited")
    push_all()
    assert shopify.available("MUG") == 50
    assert drift.read_back(shopify.account.pk, [shopify.listing("MUG")]) == 0
    assert not Drift.objects.filter(closed_at__isnull=True).exists()


def test_amazons_own_pool_is_its_own(amazon: Shop) -> None:
    pool = make_warehouse("FBA-US", kind=Warehouse.Kind.FBA)
    LocationMap.objects.create(account=amazon.account, warehouse=pool, external_id="FBA")
    accounts.map_listing(amazon.listing("MUG-FBA").pk, amazon.skus["MUG"].pk, actor=SYSTEM)
    pulls.pull_pool(amazon.account.pk)
    assert StockLevel.objects.get(warehouse=pool, sku=amazon.skus["MUG"]).on_hand == 30
    amazon.buy("MUG-FBA", 4)
    pulls.pull_pool(amazon.account.pk)
    assert StockLevel.objects.get(warehouse=pool, sku=amazon.skus["MUG"]).available == 26
    push_all()
    assert amazon.available("MUG") == 50  # neither the pool nor its sale touches what we ship
    assert amazon.listing("MUG-FBA").acked_quantity is None


@pytest.mark.postgres
def test_the_engine_with_its_own_database_threads(shopify: Shop) -> None:
    """As the dispatcher runs it: woken, several turns, stopped cleanly."""

    async def live() -> None:
        stop, wake = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(sync.StockPusher().run(stop, wake))
        for _ in range(100):
            await asyncio.sleep(0.05)
            if await asyncio.to_thread(lambda: [shopify.available(c) for c in ("MUG", "BOWL", "TRAY")]) == [
                50,
                50,
                50,
            ]:
                break
        stop.set()
        wake.set()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(task, 15)
        await http.DOOR.aclose()

    asyncio.run(live())
    assert not Listing.objects.filter(stale_since__isnull=False).exists()
