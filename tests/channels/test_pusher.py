"""Stock sync against the sandbox over real sockets."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pytest
from django.db import transaction
from django.db.models import F

from channels import kpis, sync
from channels.engines import Prober
from channels.models import Listing, StockPush
from inventory.ledger import Movement, post_movements
from inventory.models import Sku, Warehouse
from oms.core import http, limits, outbox
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.models import CircuitBreaker, Doorbell, ExceptionItem
from tests.channels.conftest import Shop, push_all

pytestmark = pytest.mark.django_db(transaction=True)


def move(sku: Sku, warehouse: Warehouse, quantity: int, key: str) -> None:
    with transaction.atomic():
        post_movements(
            [Movement(sku.pk, warehouse.pk, "on_hand", quantity, "adjust", key=key, reason="count")],
            actor=SYSTEM,
        )


def test_onboarding_tells_every_mapped_listing(shopify: Shop) -> None:
    assert push_all() == 3
    assert [shopify.available(code) for code in ("MUG", "BOWL", "TRAY")] == [50, 50, 50]
    listing = shopify.listing("MUG")
    assert (listing.acked_quantity, listing.stale_since, listing.acked_version == listing.version) == (
        50,
        None,
        True,
    )
    assert StockPush.objects.filter(state="acked").count() == 3


def test_first_figures_and_a_resync_are_told_but_are_no_latency(shopify: Shop) -> None:
    assert set(Listing.objects.values_list("told_anew", flat=True)) == {True}
    assert push_all() == 3
    assert list(StockPush.objects.values_list("state", "latency_ms")) == [("acked", None)] * 3
    assert not Listing.objects.filter(told_anew=True).exists()
    assert kpis.sync_latency() == kpis.Latency()

    move(shopify.skus["MUG"], shopify.warehouse, -1, "sale")
    push_all()
    assert kpis.sync_latency().count == 1

    sync.resync(shopify.account.pk, actor=SYSTEM)
    Listing.objects.update(stale_since=now() - dt.timedelta(hours=2))
    assert kpis.sync_latency().open == 0
    assert kpis.left_out()["anew"] == 3
    # a sale meanwhile waits for its channel from its own moment on, and that is measured
    move(shopify.skus["MUG"], shopify.warehouse, -1, "sale again")
    while outbox.drain():
        pass
    mug = shopify.listing("MUG")
    assert (
        not mug.told_anew
        and mug.stale_since is not None
        and now() - mug.stale_since < dt.timedelta(minutes=1)
    )
    assert kpis.sync_latency().open == 1
    push_all()
    found = kpis.sync_latency()
    assert (found.count, found.open) == (2, 0) and found.longest is not None and found.longest < 60_000


def test_a_resync_does_not_excuse_a_movement_that_waits_already(shopify: Shop) -> None:
    push_all()
    move(shopify.skus["MUG"], shopify.warehouse, -1, "sale")
    while outbox.drain():
        pass
    since = shopify.listing("MUG").stale_since
    assert since is not None
    sync.resync(shopify.account.pk, actor=SYSTEM)
    mug = shopify.listing("MUG")
    assert (mug.stale_since, mug.told_anew, shopify.listing("BOWL").told_anew) == (since, False, True)
    push_all()
    assert kpis.sync_latency().count == 1
    assert StockPush.objects.filter(listing__external_sku="MUG", latency_ms__isnull=False).count() == 1


def test_many_changes_are_few_pushes_and_the_last_value_wins(shopify: Shop) -> None:
    push_all()
    shopify.client.clear_requests(shopify.id)
    for number in range(40):
        move(shopify.skus["MUG"], shopify.warehouse, -1, f"sale:{number}")
    push_all()
    assert shopify.available("MUG") == 10
    assert shopify.requests("inventorySetQuantities") <= 2


@pytest.mark.usefixtures("shopify")
def test_an_older_value_never_overwrites_a_newer_one(shopify: Shop) -> None:
    from channels import pushing

    plan = pushing.plan({})
    batch = plan.batches[0]
    listing_id = batch.claimed[0].item.listing_id
    version = batch.claimed[0].version
    # the change arrives while the first push is on its way
    sync.mark_listings(Listing.objects.filter(pk=listing_id))
    outcome = pushing.acknowledge(
        batch.token, [(listing_id, version, 50, batch.claimed_at, 0)], batch.claimed_at
    )
    assert outcome == {listing_id}
    listing = Listing.objects.get(pk=listing_id)
    assert listing.acked_version == version and listing.version == version + 1
    assert listing.stale_since == batch.claimed_at
    # the same answer once more, late: the lease is gone and the version is behind
    assert (
        pushing.acknowledge(batch.token, [(listing_id, version, 7, batch.claimed_at, 0)], batch.claimed_at)
        == set()
    )
    assert Listing.objects.get(pk=listing_id).acked_quantity == 50


def test_a_refused_item_stands_alone(shopify: Shop) -> None:
    known = shopify.listing("BOWL").external_id
    Listing.objects.filter(external_sku="BOWL").update(external_id="999999999")
    push_all()
    bowl = Listing.objects.get(external_sku="BOWL")
    assert bowl.attempts == 1 and bowl.stale_since is not None and "INVALID_INVENTORY_ITEM" in bowl.last_error
    assert shopify.available("MUG") == 50 and shopify.available("TRAY") == 50
    for _ in range(5):
        Listing.objects.filter(pk=bowl.pk).update(next_attempt_at=None)
        push_all()
    bowl.refresh_from_db()
    assert bowl.dead
    item = ExceptionItem.objects.get(kind="push_dead", closed_at__isnull=True)
    assert "BOWL" in item.title and "INVALID_INVENTORY_ITEM" in item.detail
    # mended on the channel and retried: the entry leaves the inbox by itself
    Listing.objects.filter(pk=bowl.pk).update(external_id=known)
    sync.retry_push(bowl.pk, actor=SYSTEM)
    push_all()
    item.refresh_from_db()
    assert item.closed_at is not None and item.close_reason == "the channel took the quantity"
    bowl.refresh_from_db()
    assert (bowl.attempts, bowl.dead, bowl.stale_since) == (0, False, None)


def test_an_outage_loses_nothing_and_ends_in_one_push_each(shopify: Shop, settings: Any) -> None:
    push_all()
    shopify.client.faults(shopify.id, outage_seconds=3600)
    for number in range(5):
        move(shopify.skus["MUG"], shopify.warehouse, -1, f"out:{number}")
        Listing.objects.update(next_attempt_at=None)
        push_all()
    assert shopify.listing("MUG").stale_since is not None and not shopify.listing("MUG").dead
    shopify.client.clear_faults(shopify.id)
    shopify.client.clear_requests(shopify.id)
    limits.reset_breaker(f"channel:{shopify.account.pk}")
    Listing.objects.update(next_attempt_at=None)
    push_all()
    assert shopify.available("MUG") == 45
    assert shopify.requests("inventorySetQuantities") == 1


def test_a_closed_store_is_probed_and_what_waited_goes_out_as_soon_as_it_answers(shopify: Shop) -> None:
    push_all()
    key, pull = f"channel:{shopify.account.pk}", "channels.tasks.pull_account"

    def look() -> int:
        async def once() -> int:
            try:
                return await Prober().look()
            finally:
                await http.DOOR.aclose()

        limits.forget_copies()
        return asyncio.run(once())

    assert look() == 0  # an open store is not asked
    shopify.client.faults(shopify.id, outage_seconds=3600)
    for number in range(limits.FAILURES_IN_A_ROW):
        move(shopify.skus["MUG"], shopify.warehouse, -1, f"out:{number}")
        Listing.objects.update(next_attempt_at=None)
        push_all()
    CircuitBreaker.objects.filter(pk=key).update(open_until=now() + dt.timedelta(minutes=10))
    later = now() + dt.timedelta(minutes=9)
    Listing.objects.filter(stale_since__isnull=False).update(next_attempt_at=later)
    refused = Listing.objects.filter(external_sku="BOWL")
    # its figure was refused
    refused.update(version=F("version") + 1, stale_since=now(), attempts=2, next_attempt_at=later)

    shopify.client.clear_requests(shopify.id)
    assert look() == 1 and len(shopify.client.requests(shopify.id)) == 1
    outbox.drain()
    assert CircuitBreaker.objects.get(pk=key).open_until is not None  # still down
    assert shopify.listing("MUG").next_attempt_at == later

    shopify.client.clear_faults(shopify.id)
    Doorbell.objects.filter(task=pull).delete()
    assert look() == 1 and look() == 0
    push_all()
    assert shopify.available("MUG") == 45 and shopify.listing("BOWL").next_attempt_at == later
    assert CircuitBreaker.objects.get(pk=key).open_until is None
    assert Doorbell.objects.filter(task=pull, subject=str(shopify.account.pk)).exists()


def test_a_sale_of_the_channel_that_is_not_booked_is_not_overwritten(shopify: Shop) -> None:
    """Compare-and-set: the shop sold 2, another channel sold 3; the shop must never show more than 45."""
    push_all()
    shopify.buy("MUG", 2)
    move(shopify.skus["MUG"], shopify.warehouse, -3, "other")
    push_all()
    assert shopify.available("MUG") == 45
    mug = shopify.listing("MUG")
    assert (mug.held, mug.acked_quantity, mug.stale_since) == (47, 45, None) and mug.unseen_since is not None


def test_paused_pushes_wait(shopify: Shop) -> None:
    sync.pause(shopify.account.pk, "stock take", actor=SYSTEM)
    assert push_all() == 0
    assert shopify.available("MUG") == 10
    sync.resume(shopify.account.pk, actor=SYSTEM)
    assert push_all() == 3


def test_amazon_single_patches_and_fba_is_left_alone(amazon: Shop) -> None:
    fba = amazon.listing("MUG-FBA")
    assert fba.fulfilment == Listing.Fulfilment.CHANNEL
    Listing.objects.filter(pk=fba.pk).update(sku=amazon.skus["MUG"])
    push_all()
    assert [amazon.available(code) for code in ("MUG", "BOWL", "TRAY")] == [50, 50, 50]
    targets = [request["target"] for request in amazon.client.requests(amazon.id, "patchListingsItem")]
    assert len(targets) == 3 and not any("MUG-FBA" in target for target in targets)


def test_amazon_token_expires_and_is_renewed_once(amazon: Shop) -> None:
    push_all()
    amazon.client.expire_token(amazon.id)
    move(amazon.skus["MUG"], amazon.warehouse, -5, "sale")
    push_all()
    assert amazon.available("MUG") == 45
    amazon.account.refresh_from_db()
    assert amazon.account.state == "connected"
