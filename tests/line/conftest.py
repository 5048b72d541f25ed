"""One brand with its shops in a sandbox, the hooks on a live server, and the engine room turned by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import pytest
from django.db import connection
from django_q.models import OrmQ

from channels import accounts, pulls
from channels.connectors.base import get_connector
from channels.models import ChannelAccount, ChannelEffect, Listing
from channels.sandbox.client import SandboxClient
from inventory.models import Sku, SkuAlias, StockLevel, Warehouse
from oms.control.demo import seed
from oms.core import business, doorbell, outbox, tokens
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.models import User
from oms.orders.models import ChannelWarehouse, Order
from tests.channels.conftest import _same_thread as _same_thread
from tests.channels.conftest import push_all
from tests.channels.conftest import sandbox as sandbox
from tests.channels.conftest import sandbox_url as sandbox_url
from tests.factories import add_stock, make_sku, make_user

SCOPES = (
    "stock:read",
    "stock:write",
    "orders:read",
    "orders:write",
    "shipments:read",
    "shipments:write",
    "returns:read",
    "returns:write",
)
GTINS = {"MUG": "4006381333931", "BOWL": "5901234123457"}
ADDRESS = {
    "name": "Ada Brooks", "address1": "12 Oak St", "city": "Boston", "province_code": "MA", "zip": "02108",
    "country_code": "US", "phone": "+1 555 0100",
}  # fmt: skip


@dataclass
class Brand:
    """Two own warehouses, Amazon's one, a Shopify store and an Amazon seller that sell the same goods."""

    client: SandboxClient
    web: str
    places: dict[str, Warehouse]
    skus: dict[str, Sku]
    owner: User
    api: httpx.Client
    accounts: dict[str, ChannelAccount] = field(default_factory=dict)
    shops: dict[str, dict[str, Any]] = field(default_factory=dict)

    SHOP = {"shopify": "acme", "amazon": "A1LINE"}

    def buy(self, channel: str, code: str = "MUG", quantity: int = 2, **options: Any) -> dict[str, Any]:
        """A buyer checks out; returns the channel's own order once its announcements are out."""
        options = {"address": ADDRESS, "email": "ada@example.com", **options}
        placed: dict[str, Any] = self.client.place_order(
            self.SHOP[channel], [{"sku": code, "quantity": quantity}], **options
        )
        self.hear()
        return placed

    def order(self, placed: dict[str, Any]) -> Order:
        return Order.objects.get(external_id=str(placed["id"]))

    def hear(self) -> None:
        """Wait until every webhook was answered, then let the queues be read."""
        assert self.client.wait_until(
            lambda: all(one["state"] in ("delivered", "lost") for one in self.client.deliveries(limit=5000))
        ), [one for one in self.client.deliveries(limit=5000) if one["state"] != "delivered"]
        for account in self.accounts.values():
            if get_connector(account.connector).capabilities.queue:
                pulls.poll_queue(account.pk)

    def shown(self, channel: str, code: str = "MUG") -> int:
        """What buyers of the channel see, over all its locations."""
        return self.client.available(self.SHOP[channel], code)

    def available(self, code: str = "MUG") -> int:
        levels = StockLevel.objects.filter(sku=self.skus[code]).exclude(warehouse__kind=Warehouse.Kind.FBA)
        return sum(level.available for level in levels)

    def level(self, place: str, code: str = "MUG") -> StockLevel:
        return StockLevel.objects.get(sku=self.skus[code], warehouse=self.places[place])

    def listing(self, channel: str, code: str = "MUG") -> Listing:
        return Listing.objects.get(account=self.accounts[channel], external_sku=code)

    def post(self, path: str, body: dict[str, Any] | None = None, expect: int = 200) -> Any:
        """One step over the REST API with a token."""
        answer = self.api.post(f"{self.web}/api/v1/{path}", json=body or {})
        assert answer.status_code == expect, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        answer = self.api.get(f"{self.web}/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def work(self, rounds: int = 12) -> None:
        """Turn the engine room until nothing is left: news, rung tasks, queues, effects that are due, pushes."""
        for _ in range(rounds):
            self.hear()
            ChannelEffect.objects.filter(state__in=("planned", "sent", "in_doubt")).update(
                next_attempt_at=now(), lease_until=None
            )
            open_effects = ChannelEffect.objects.filter(state__in=("planned", "sent", "in_doubt"))
            for account_id in set(open_effects.values_list("account", flat=True)):
                doorbell.ring("channels.tasks.drain_effects", str(account_id))
            done = run_tasks()
            done += push()
            if not done and not open_effects.exists():
                return


def push() -> int:
    """Push everything that is due; beside a browser, whose driver keeps this thread's event loop, in another thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return push_all()

    def work() -> int:
        try:
            return push_all()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def run_tasks() -> int:
    """Work off the outbox and run every queued task here and now; returns how much there was."""
    done = 0
    while True:
        news = outbox.drain()
        rung = list(OrmQ.objects.order_by("pk"))
        if not news and not rung:
            return done
        for row in rung:
            task = row.task
            row.delete()
            assert task["func"] == "oms.core.doorbell.answer", task["func"]
            doorbell.answer(*task["args"])
        done += news + len(rung)


@pytest.fixture
def brand(sandbox: SandboxClient, live_server: Any, settings: Any) -> Iterator[Brand]:
    business.put("company_name", "Acme")
    places = seed._warehouses()
    seed._carriers(places)
    seed._reasons()
    skus = {}
    for code, weight in (("MUG", 420), ("BOWL", 610)):
        skus[code] = make_sku(
            code, weight_g=weight, length_mm=120, width_mm=100, height_mm=110, price=Decimal("14.00")
        )
        SkuAlias.objects.create(sku=skus[code], kind=SkuAlias.Kind.GTIN, value=GTINS[code])
        add_stock(skus[code], places["EAST"], 40, unit_cost=Decimal("5.00"))
        add_stock(skus[code], places["WEST"], 20, unit_cost=Decimal("5.00"))
    owner = make_user("olga")
    _, secret = tokens.issue(owner, "line", SCOPES, actor=SYSTEM)
    with httpx.Client(trust_env=False, timeout=30, headers={"Authorization": f"Bearer {secret}"}) as api:
        made = Brand(sandbox, live_server.url, places, skus, owner, api)
        _open_shops(made, settings)
        made.work()
        yield made


def _open_shops(brand: Brand, settings: Any) -> None:
    client, places = brand.client, brand.places
    goods = [{"sku": code, "title": code.title(), "price": "14.00"} for code in brand.skus]
    store = client.create_shop(
        "shopify",
        "acme",
        name="Acme",
        currency="USD",
        locations=[{"name": "EAST"}, {"name": "WEST"}],
        catalogue=[{**one, "stock": {"EAST": 3, "WEST": 3}} for one in goods],
    )
    seller = client.create_shop(
        "amazon",
        "A1LINE",
        name="Acme",
        currency="USD",
        catalogue=[
            *({**one, "stock": 3} for one in goods),
            {"sku": "MUG-FBA", "title": "Mug", "price": "16.00", "fba": 30},
        ],
    )
    settings.HOST_MAP = client.host_map()
    brand.shops = {"shopify": store, "amazon": seller}
    both = [places["EAST"].pk, places["WEST"].pk]
    brand.accounts["shopify"] = accounts.connect(
        connector="shopify",
        name="Acme store",
        code="shopify-us",
        prefix="SH",
        config={"shop": store["domain"]},
        credentials={name: store["credentials"][name] for name in ("access_token", "client_secret")},
        warehouse_ids=both,
        actor=SYSTEM,
    )
    names = ("client_id", "client_secret", "refresh_token", "aws_access_key_id", "aws_secret_access_key")
    brand.accounts["amazon"] = accounts.connect(
        connector="amazon",
        name="Amazon US",
        code="amazon-us",
        prefix="AM",
        config={
            "seller_id": seller["seller_id"],
            "marketplace_id": seller["marketplace_id"],
            "queue_url": seller["queue_url"],
        },
        credentials={name: seller["credentials"][name] for name in names},
        warehouse_ids=both,
        actor=SYSTEM,
    )
    ChannelWarehouse.objects.create(
        channel=brand.accounts["amazon"].sales_channel, warehouse=places["FBA-US"], rank=9, fulfils=False
    )
    SkuAlias.objects.create(sku=brand.skus["MUG"], kind=SkuAlias.Kind.CODE, value="MUG-FBA")
    for name, account in brand.accounts.items():
        tested = accounts.test(account.pk, actor=SYSTEM)
        assert tested.ok and tested.facts is not None, tested.message
        if name == "shopify":
            for external_id, place in tested.facts.locations:
                accounts.map_location(account.pk, external_id, places[place].pk, actor=SYSTEM, name=place)
        else:
            accounts.map_location(account.pk, "FBA", places["FBA-US"].pk, actor=SYSTEM)
        accounts.import_listings(account.pk, actor=SYSTEM)
        accounts.go_live(account.pk, f"{brand.web}/hooks/{account.hook_key}/", actor=SYSTEM)
        account.refresh_from_db()
    pulls.pull_pool(brand.accounts["amazon"].pk)


@pytest.fixture
def clean(assert_invariants: Callable[[], None]) -> Callable[[], None]:
    """Every invariant holds; said after each stage."""
    return assert_invariants
