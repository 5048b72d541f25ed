"""A buyer's order through a 3PL over real sockets: handed off, acknowledged, shipped, and told to the channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from channels import pulls
from fulfillment.models import HandOff, Shipment, ThreePLAccount
from fulfillment.threepl import accounts
from oms.core.actor import SYSTEM
from oms.orders.models import ChannelWarehouse
from tests.factories import add_stock
from tests.line.conftest import Brand

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def partner(brand: Brand, settings: Any) -> ThreePLAccount:
    """OHIO, run by a 3PL that has ten mugs; the only warehouse that serves the Shopify store."""
    ohio = brand.places["OHIO"]
    add_stock(brand.skus["MUG"], ohio, 10)
    shop = brand.client.create_shop("threepl", "midway", stock={"MUG": 10})
    settings.HOST_MAP = brand.client.host_map()
    account = accounts.connect(
        code="midway", name="Midway", warehouse_id=ohio.pk, kind="api", base_url=shop["base_url"],
        credentials=shop["credentials"], actor=SYSTEM,
    )  # fmt: skip
    brand.client.set_settings("midway", hook_url=f"{brand.web}/hooks/3pl/{account.hook_key}/")
    channel = brand.accounts["shopify"].sales_channel
    ChannelWarehouse.objects.filter(channel=channel).update(fulfils=False)
    ChannelWarehouse.objects.create(channel=channel, warehouse=ohio, rank=1)
    assert accounts.test(account.pk, actor=SYSTEM).ok
    brand.work()
    return account


def test_an_order_leaves_through_a_3pl_and_the_buyer_is_told(
    brand: Brand, partner: ThreePLAccount, clean: Callable[[], None]
) -> None:
    placed = brand.buy("shopify", "MUG", 2)
    brand.work()
    order = brand.order(placed)
    given = HandOff.objects.get(shipment__order=order)
    assert given.state == "confirmed"
    brand.client.threepl_act("midway", "ack", order=given.reference)
    brand.work()
    given.refresh_from_db()
    assert given.state == "acknowledged"
    # their warehouse sends one of two, says it three times over, and then the other
    brand.client.threepl_act("midway", "ship", order=given.reference, lines={"1": 1})
    brand.client.threepl_act("midway", "notice", order=given.reference)
    brand.client.threepl_act("midway", "notice", order=given.reference)
    brand.work()
    assert brand.level("OHIO").on_hand == 9
    assert [one["lines"] for one in brand.client.fulfilments("acme")] and len(
        brand.client.fulfilments("acme")
    ) == 1
    brand.client.threepl_act("midway", "ship", order=given.reference)
    brand.work()
    given.refresh_from_db()
    order.refresh_from_db()
    assert (given.state, order.state, brand.level("OHIO").on_hand) == ("shipped", "shipped", 8)
    assert Shipment.objects.filter(order=order, state="shipped").count() == 2
    told = brand.client.fulfilments("acme")
    assert len(told) == 2 and {one["carrier"] for one in told} == {"UPS"}
    assert all(one["tracking"][0].startswith("1Z") for one in told)
    holdings = brand.client.threepl("midway")["holdings"]["MUG"]
    assert holdings["on_hand"] == brand.level("OHIO").on_hand
    clean()


def test_fba_units_are_a_pool_of_their_own(brand: Brand, clean: Callable[[], None]) -> None:
    """One SKU, two Amazon offers: an FBA sale lowers only the FBA pool, and no push touches the FBA offer."""
    fba, merchant = brand.listing("amazon", "MUG-FBA"), brand.listing("amazon", "MUG")
    assert fba.sku_id == merchant.sku_id == brand.skus["MUG"].pk
    pool, own = brand.level("FBA-US").on_hand, brand.available()
    shown = brand.shown("amazon")
    assert shown == own  # Amazon's units are not in it
    brand.buy("amazon", "MUG-FBA", 2)
    brand.work()
    pulls.pull_pool(brand.accounts["amazon"].pk)
    brand.work()
    assert (brand.level("FBA-US").on_hand, brand.available(), brand.shown("amazon")) == (pool - 2, own, shown)
    assert not fba.pushes.exists() and fba.stale_since is None
    # nobody else is served from it, whatever is missing elsewhere, unless multi-channel fulfilment is on
    placed = brand.buy("shopify", "MUG", own + 1, force=True)
    brand.work()
    line = brand.order(placed).lines.get()
    assert (line.reserved, line.short, brand.level("FBA-US").reserved) == (own, 1, 0)
    clean()
