"""One order that cannot be taken, one listing that gave up, one token that was withdrawn: the others go on."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from channels import pulls, sync, tasks
from channels.models import ChannelAccount, Listing
from inventory.ledger import Movement, post_movements
from oms.core.actor import SYSTEM
from oms.core.models import ExceptionItem
from oms.orders.models import Order
from tests.channels.conftest import Shop, connect_shopify, deliver, push_all

pytestmark = pytest.mark.django_db(transaction=True)


def move(shop: Shop, code: str, units: int) -> None:
    with transaction.atomic():
        post_movements(
            [Movement(shop.skus[code].pk, shop.warehouse.pk, "on_hand", units, "adjust", key=f"{code}:{units}",
                      reason="count")],
            actor=SYSTEM,
        )  # fmt: skip


def numbers(shop: Shop) -> set[str]:
    return set(
        Order.objects.filter(channel=shop.account.sales_channel_id).values_list("external_id", flat=True)
    )


@pytest.mark.parametrize("way", ["pull", "notification"])
def test_an_order_that_cannot_be_taken_stops_no_other(shopify: Shop, way: str) -> None:
    """It stands before a person, and the cursor goes on behind it."""
    push_all()
    first = shopify.buy("MUG")
    bad = shopify.buy("MUG", currency="?")
    last = shopify.buy("BOWL")
    if way == "pull":
        counts = pulls.pull_orders(shopify.account.pk)
        assert (counts["created"], counts["error"]) == (2, 1)
        assert ExceptionItem.objects.filter(kind="order_refused", closed_at__isnull=True).count() == 1
    else:
        deliver(shopify)
    assert len(numbers(shopify)) == 2
    assert not any(str(bad["id"]).endswith(number) for number in numbers(shopify))
    assert all(any(str(one["id"]).endswith(number) for number in numbers(shopify)) for one in (first, last))
    later = shopify.buy("TRAY")
    assert pulls.pull_orders(shopify.account.pk).get("created") == 1 and later
    # a pull that could not book everything frees no unseen unit: the refused order has sold one
    Listing.objects.update(
        unseen_since=ChannelAccount.objects.get(pk=shopify.account.pk).last_pull_at, held=99
    )
    pulls.pull_orders(shopify.account.pk)
    assert Listing.objects.filter(unseen_since__isnull=False).count() == 3


def test_a_withdrawn_token_stops_its_own_account_only(shopify: Shop, stock: Any, settings: Any) -> None:
    other = connect_shopify(shopify.client, stock, settings, "beta")
    push_all()
    shopify.client.expire_token(shopify.id)
    move(shopify, "MUG", -7)
    shopify.buy("BOWL")
    other.buy("TRAY")
    for _ in range(3):
        push_all()
        for account in (shopify.account, other.account):
            tasks.pull_account(str(account.pk))
    assert (other.available("MUG"), shopify.available("MUG")) == (43, 50)
    assert len(numbers(other)) == 1 and not numbers(shopify)
    states = dict(ChannelAccount.objects.values_list("pk", "state"))
    assert states == {shopify.account.pk: "needs_auth", other.account.pk: "connected"}
    assert ExceptionItem.objects.filter(closed_at__isnull=True, channel_code="acme").exists()
    assert not ExceptionItem.objects.filter(closed_at__isnull=True, channel_code="beta").exists()
    # nothing asks it any more until somebody authorises it again; what it missed is still due
    shopify.client.clear_requests(shopify.id)
    push_all()
    assert not shopify.client.requests(shopify.id)
    assert shopify.listing("MUG").is_stale


def test_a_listing_that_gave_up_stops_no_other(shopify: Shop) -> None:
    push_all()
    sync.mark_listings(Listing.objects.filter(external_sku="MUG"))
    Listing.objects.filter(external_sku="MUG").update(dead=True)
    for code in ("MUG", "BOWL", "TRAY"):
        move(shopify, code, -3)
    push_all()
    assert [shopify.available(code) for code in ("MUG", "BOWL", "TRAY")] == [50, 47, 47]
