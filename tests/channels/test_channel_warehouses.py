"""Which warehouses a channel publishes and is served from: every door changes it by one service, and it is told."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import F
from django.test import Client
from django.urls import reverse

from channels import quantities
from channels.models import ChannelAccount, Listing
from fulfillment import routing_service
from fulfillment.models import RoutingQueue
from inventory.models import Sku
from oms.core import outbox
from oms.core.actor import SYSTEM
from oms.core.errors import NotFound, UserError
from oms.core.models import AuditEntry
from oms.orders import intake
from oms.orders.models import Allocation, ChannelWarehouse, Order, SalesChannel
from oms.orders.serving import Serves, set_serving
from tests.factories import (
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
    """A channel served from EAST with one listing that shows what EAST holds; WEST serves it not."""

    def __init__(self) -> None:
        self.east, self.west = make_warehouse("EAST"), make_warehouse("WEST")
        self.channel = make_channel("shop-us", self.east)
        self.account = ChannelAccount.objects.create(
            sales_channel=self.channel, connector="shopify", config={"shop": "acme.myshopify.com"},
            state="connected",
        )  # fmt: skip
        self.sku = make_sku("MUG")
        add_stock(self.sku, self.east, 30)
        add_stock(self.sku, self.west, 12)
        self.listing = self.listed(self.account, self.sku)

    def listed(self, account: ChannelAccount, sku: Sku) -> Listing:
        return Listing.objects.create(
            account=account, external_id=f"{account.pk}-{sku.code}", external_sku=sku.code, sku=sku,
            version=1, acked_version=1, acked_quantity=30,
        )  # fmt: skip

    def links(self) -> dict[str, tuple[bool, bool, int]]:
        rows = ChannelWarehouse.objects.filter(channel=self.channel).select_related("warehouse")
        return {row.warehouse.code: (row.publishes, row.fulfils, row.rank) for row in rows}


@pytest.fixture
def shop(db: None) -> Shop:
    made = Shop()
    drained()
    Listing.objects.update(stale_since=None, acked_version=F("version"))
    RoutingQueue.objects.all().delete()
    return made


def drained() -> None:
    while outbox.drain():
        pass


def stale(listing: Listing) -> bool:
    listing.refresh_from_db()
    return listing.stale_since is not None


def test_a_warehouse_added_changes_the_published_figure_and_marks_the_listing(shop: Shop) -> None:
    assert set_serving(shop.channel.pk, {shop.west.pk: Serves(True, False, 2)}, actor=SYSTEM)
    assert not stale(shop.listing)
    drained()
    assert stale(shop.listing)
    shown = quantities.sellable(shop.listing.pk)
    assert shown is not None and shown.quantity == 42
    entry = AuditEntry.objects.get(action="channel.warehouses")
    assert entry.before == {"WEST": "nothing"} and entry.after == {"WEST": "publishes, rank 2"}


def test_rivals_and_kits_are_told_as_well(shop: Shop) -> None:
    """A channel that begins to show a pool shares its last units with those who show it already."""
    kit = shop.listed(shop.account, make_kit("SET", {shop.sku: 2}))
    other = make_channel("other", shop.west)
    account = ChannelAccount.objects.create(sales_channel=other, connector="shopify", state="connected")
    rival = shop.listed(account, shop.sku)
    alone = shop.listed(account, make_sku("BOWL"))
    set_serving(shop.channel.pk, {shop.west.pk: Serves(True, True, 2)}, actor=SYSTEM)
    drained()
    assert [stale(one) for one in (shop.listing, kit, rival, alone)] == [True, True, True, False]


def test_what_changes_nothing_tells_nobody(shop: Shop) -> None:
    assert not set_serving(shop.channel.pk, {shop.east.pk: Serves(True, True, 1)}, actor=SYSTEM)
    assert not set_serving(shop.channel.pk, {shop.west.pk: Serves(False, False, 9)}, actor=SYSTEM)
    assert set_serving(shop.channel.pk, {shop.east.pk: Serves(True, True, 4)}, actor=SYSTEM)
    drained()
    assert not stale(shop.listing) and shop.links() == {"EAST": (True, True, 4)}


def _order(shop: Shop, name: str) -> Order:
    [taken] = intake.take(
        [order_draft(line_draft(shop.sku, 2), external_id=name)],
        channel=shop.channel,
        actor=SYSTEM,
        source="t",
    )
    return Order.objects.get(pk=taken.order_id)


def _place(order: Order) -> str:
    return Allocation.objects.get(line__order=order).reservation.warehouse.code


def test_a_warehouse_removed_moves_only_what_is_not_routed(shop: Shop) -> None:
    set_serving(shop.channel.pk, {shop.west.pk: Serves(True, True, 2)}, actor=SYSTEM)
    routed, held, waiting = (_order(shop, name) for name in ("routed", "held", "waiting"))
    routing_service.route(routed.pk, actor=SYSTEM)
    Order.objects.filter(pk=held.pk).update(holds_open=1)
    drained()
    RoutingQueue.objects.all().delete()
    assert {_place(one) for one in (routed, held, waiting)} == {"EAST"}
    set_serving(shop.channel.pk, {shop.east.pk: Serves(False, False)}, actor=SYSTEM)
    drained()
    assert list(RoutingQueue.objects.values_list("order", flat=True)) == [waiting.pk]
    routing_service.route(waiting.pk, actor=SYSTEM)
    assert (_place(routed), _place(held), _place(waiting)) == ("EAST", "EAST", "WEST")
    Order.objects.filter(pk=held.pk).update(holds_open=0)


@pytest.mark.parametrize("rank", [-1, 40_000])
def test_a_rank_outside_its_bounds_is_refused_whole(shop: Shop, rank: int) -> None:
    with pytest.raises(UserError, match="WEST"):
        set_serving(
            shop.channel.pk,
            {shop.east.pk: Serves(False, True), shop.west.pk: Serves(True, True, rank)},
            actor=SYSTEM,
        )
    assert shop.links() == {"EAST": (True, True, 1)}


def test_unknown_channels_and_warehouses_are_refused(shop: Shop) -> None:
    with pytest.raises(NotFound):
        set_serving(10**6, {shop.east.pk: Serves(True, True)}, actor=SYSTEM)
    with pytest.raises(UserError, match="warehouse"):
        set_serving(shop.channel.pk, {10**6: Serves(True, True)}, actor=SYSTEM)


def test_the_screen_changes_the_table(shop: Shop, client: Client, django_assert_max_num_queries: Any) -> None:
    client.force_login(make_user())
    address = reverse("channels:settings", args=["shop-us"])
    with django_assert_max_num_queries(30):
        page = client.get(address).content.decode()
    assert f'name="publishes_{shop.east.pk}" aria-label="EAST publishes" checked' in page
    assert f'name="publishes_{shop.west.pk}" aria-label="WEST publishes">' in page
    form = {"part": "warehouses"}
    for place, rank in ((shop.east, "2"), (shop.west, "1")):
        form |= {f"place_{place.pk}": "1", f"rank_{place.pk}": rank, f"fulfils_{place.pk}": "on"}
    answer = client.post(address, form | {f"publishes_{shop.west.pk}": "on"})
    assert answer.status_code == 302
    assert shop.links() == {"EAST": (False, True, 2), "WEST": (True, True, 1)}
    drained()
    assert stale(shop.listing)
    client.post(address, form | {f"rank_{shop.west.pk}": "first"})
    assert shop.links() == {"EAST": (False, True, 2), "WEST": (True, True, 1)}


def test_the_screen_leaves_places_outside_a_persons_scope_alone(shop: Shop, client: Client) -> None:
    client.force_login(make_user("eve", "owner", warehouses=("WEST",)))
    address = reverse("channels:settings", args=["shop-us"])
    assert f"place_{shop.east.pk}" not in client.get(address).content.decode()
    client.post(address, {"part": "warehouses", f"place_{shop.east.pk}": "1", f"place_{shop.west.pk}": "1"})
    assert shop.links() == {"EAST": (True, True, 1)}


def test_the_api_reads_and_changes_it(shop: Shop, client: Client) -> None:
    client.force_login(make_user())
    address = "/api/v1/channels/shop-us/warehouses/"
    east = {"warehouse": "EAST", "publishes": True, "fulfils": True, "rank": 1}
    assert client.get(address).json() == [east]
    west = {"warehouse": "WEST", "publishes": True, "fulfils": False, "rank": 2}
    answer = client.post(address, west, content_type="application/json")
    assert answer.status_code == 200 and answer.json() == [east, west]
    for wrong in (west | {"warehouse": "NOWHERE"}, west | {"rank": -1}, {"warehouse": "WEST"}):
        assert client.post(address, wrong, content_type="application/json").status_code in (400, 422)
    gone = client.post(
        address, east | {"publishes": False, "fulfils": False}, content_type="application/json"
    )
    assert gone.json() == [west]
    drained()
    assert stale(shop.listing)


def test_the_api_asks_for_the_warehouse_as_well(shop: Shop, client: Client) -> None:
    client.force_login(make_user("eve", "owner", warehouses=("WEST",)))
    body = {"warehouse": "EAST", "publishes": False, "fulfils": False}
    answer = client.post("/api/v1/channels/shop-us/warehouses/", body, content_type="application/json")
    assert answer.status_code in (403, 404) and shop.links() == {"EAST": (True, True, 1)}


def test_the_admin_uses_the_same_door(shop: Shop, admin_client: Client) -> None:
    link = ChannelWarehouse.objects.get()
    channel = SalesChannel.objects.get(pk=shop.channel.pk)
    names = ("code", "name", "kind", "prefix", "currency", "time_zone", "handling_days", "hold_minutes",
             "min_shelf_life_days")  # fmt: skip
    form = {name: getattr(channel, name) for name in names} | {
        "reserve_unpaid": "on", "is_active": "on",
        "warehouses-TOTAL_FORMS": "2", "warehouses-INITIAL_FORMS": "1", "warehouses-MIN_NUM_FORMS": "0",
        "warehouses-MAX_NUM_FORMS": "1000",
        "warehouses-0-id": link.pk, "warehouses-0-channel": channel.pk, "warehouses-0-warehouse": shop.east.pk,
        "warehouses-0-publishes": "on", "warehouses-0-rank": "1", "warehouses-0-DELETE": "on",
        "warehouses-1-channel": channel.pk, "warehouses-1-warehouse": shop.west.pk,
        "warehouses-1-publishes": "on", "warehouses-1-rank": "3",
    }  # fmt: skip
    answer = admin_client.post(reverse("admin:orders_saleschannel_change", args=[channel.pk]), form)
    assert answer.status_code == 302, answer.content.decode()[-3000:]
    assert shop.links() == {"WEST": (True, False, 3)}
    drained()
    assert stale(shop.listing)
    assert AuditEntry.objects.filter(action="channel.warehouses").count() == 1


def test_a_row_of_the_admin_that_names_another_warehouse_takes_the_old_one_away(
    shop: Shop, admin_client: Client
) -> None:
    link = ChannelWarehouse.objects.get()
    channel = shop.channel
    form = {
        "code": channel.code, "name": channel.name, "kind": channel.kind, "prefix": channel.prefix,
        "currency": channel.currency, "time_zone": channel.time_zone, "handling_days": "1", "hold_minutes": "0",
        "min_shelf_life_days": "0", "reserve_unpaid": "on", "is_active": "on",
        "warehouses-TOTAL_FORMS": "1", "warehouses-INITIAL_FORMS": "1", "warehouses-MIN_NUM_FORMS": "0",
        "warehouses-MAX_NUM_FORMS": "1000", "warehouses-0-id": link.pk, "warehouses-0-channel": channel.pk,
        "warehouses-0-warehouse": shop.west.pk, "warehouses-0-publishes": "on", "warehouses-0-fulfils": "on",
        "warehouses-0-rank": "1",
    }  # fmt: skip
    answer = admin_client.post(reverse("admin:orders_saleschannel_change", args=[channel.pk]), form)
    assert answer.status_code == 302 and shop.links() == {"WEST": (True, True, 1)}
