"""The demo's further channels: a partner with files, and orders that Amazon ships for others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channels import pulls
from channels.models import ChannelAccount, ChannelFile, Listing
from channels.sandbox.client import SandboxClient
from fulfillment.models import HandOff, ThreePLAccount
from fulfillment.threepl import calls, handoff
from inventory.models import SkuAlias
from oms.control.demo import live, seed, troubles
from oms.core.models import ExceptionItem
from oms.orders.models import Order
from tests.channels.conftest import push_all
from tests.channels.test_mcf import run_tasks
from tests.factories import add_stock

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def brand(sandbox: SandboxClient, settings: Any, tmp_path: Path) -> SandboxClient:
    settings.HOME = tmp_path
    settings.HOST_MAP = live.host_map(sandbox.url)
    places = seed._warehouses()
    skus = seed._goods()
    seed._channels(places)
    seed._people()
    for item in live._listed("amazon-us")[: live.FBA_OFFERS]:
        add_stock(skus[item.code], places["EAST"], 30)
    return sandbox


def test_a_partner_with_files_has_sold_and_has_one_row_to_mend(
    brand: SandboxClient, assert_invariants: Callable[[], None]
) -> None:
    file = live._stores()
    assert (file.taken, file.refused) == (2, 1)
    assert set(Order.objects.values_list("external_id", "state")) == {("70311", "open"), ("70312", "open")}
    assert Listing.objects.filter(account=file.account, sku__isnull=False).count() == live.STORES_SKUS
    assert ExceptionItem.objects.get(kind="channel_file").url == f"/channels/{live.STORES}/files/"
    push_all()
    assert not Listing.objects.filter(account=file.account, acked_quantity=None).exists()
    assert ChannelFile.objects.filter(account=file.account).count() == 2
    assert_invariants()


def test_amazon_ships_an_order_of_the_phone(
    brand: SandboxClient, assert_invariants: Callable[[], None]
) -> None:
    code, name, kind, _prefix, _share, warehouses = next(
        one for one in seed.CHANNELS if one[0] == "amazon-us"
    )
    spec = live._shop(code, name, kind, warehouses)
    shop = brand.create_shop(kind, live.SELLERS[code][0], **spec)
    channel = seed.SalesChannel.objects.get(code=code)
    account = live._account(channel, kind, code, shop)
    live.LocationMap.objects.create(
        account=account, warehouse=seed.Warehouse.objects.get(code="FBA-US"), external_id="FBA"
    )
    assert live.accounts.test(account.pk, actor=seed.ACTOR).ok
    live.accounts.import_listings(account.pk, actor=seed.ACTOR)
    for _ in range(2):  # a demo that is started again connects nothing twice
        live._ship_for_others(brand, ChannelAccount.objects.get(pk=account.pk), fresh=True)
    partner = ThreePLAccount.objects.get(kind="mcf")
    assert partner.state == "connected"
    troubles._for_amazon()
    order = Order.objects.get()
    handoff.plan(partner.pk, actor=seed.ACTOR)
    calls.drain(partner.pk)
    given = HandOff.objects.get(shipment__order=order)
    assert given.state == "confirmed"
    brand.outbound_act(live.SELLERS[code][0], given.external_id, "ship", carrier="UPS", tracking="1ZMCF1")
    pulls.poll_queue(account.pk)
    run_tasks()
    given.refresh_from_db()
    order.refresh_from_db()
    assert (given.state, order.state) == ("shipped", "shipped")
    assert SkuAlias.objects.filter(value__endswith="-FBA").exists()
    assert_invariants()
