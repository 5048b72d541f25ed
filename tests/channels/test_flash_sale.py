"""A small flash sale in the sandbox while stores fail: nothing lost, nothing doubled, nothing sold twice."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from channels import pulls
from channels.models import Listing
from inventory.models import StockLevel
from oms.core import business
from oms.orders.models import Order, OrderLine
from tests.channels.conftest import Shop, connect_shopify, deliver, push_all

pytestmark = pytest.mark.django_db(transaction=True)


def test_divided_units_are_never_sold_twice(
    shopify: Shop, stock: Any, settings: Any, assert_invariants: Callable[[], None]
) -> None:
    other = connect_shopify(shopify.client, stock, settings, "beta")
    shops, client, dice = (shopify, other), shopify.client, random.Random(1)
    business.put("last_units", 50)  # every unit is divided
    push_all()
    assert [shop.available("MUG") for shop in shops] == [25, 25]
    client.set_physical({"MUG": 50})
    for shop in shops:
        client.faults(
            shop.id,
            error_500_rate=0.05,
            throttle_rate=0.05,
            webhook_duplicate_rate=0.3,
        )
    placed = 0
    for turn in range(56):
        shop = dice.choice(shops) if turn % 3 else shopify  # one of them is the favourite
        try:
            shop.buy("MUG")
            placed += 1
        except Exception as error:
            assert "stock" in str(error).lower() or "available" in str(error).lower()
        if turn % 14 == 13:
            for one in dice.sample(shops, 2):  # late, but before the next look at the shops
                deliver(one)
            push_all()
        assert client.oversold()["over"] == 0
    for shop in shops:
        client.clear_faults(shop.id)
        deliver(shop)
        pulls.pull_orders(shop.account.pk)

    def settled() -> bool:
        Listing.objects.filter(stale_since__isnull=False).update(next_attempt_at=None)
        push_all()
        return not Listing.objects.filter(stale_since__isnull=False).exists()

    assert client.wait_until(settled, 30)
    channels = [shop.account.sales_channel_id for shop in shops]
    orders = Order.objects.filter(channel__in=channels)
    assert orders.count() == placed == len(set(orders.values_list("channel", "external_id")))
    assert not OrderLine.objects.filter(order__in=orders, short__gt=0).exists()
    left = StockLevel.objects.get(sku=shopify.skus["MUG"]).available
    assert left == 50 - placed == sum(shop.available("MUG") for shop in shops)
    assert_invariants()
