"""A sandbox over real sockets, and accounts connected to it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from channels import accounts, hooks, inbox, sync
from channels.models import ChannelAccount, Listing
from channels.sandbox.client import SandboxClient
from channels.sandbox.server import run_in_thread
from inventory.models import Sku, Warehouse
from oms.core import db, http, limits, outbox
from oms.core.actor import SYSTEM
from tests.factories import add_stock, make_sku, make_warehouse

SKUS = ("MUG", "BOWL", "TRAY")


@pytest.fixture(scope="session")
def sandbox_url() -> Iterator[str]:
    handle = run_in_thread()
    yield handle.url
    handle.stop()


@pytest.fixture(autouse=True)
def _same_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Database work of the event loop runs in the test's own thread, which holds the test database.

    A test of PostgreSQL only keeps the real threads.
    """
    if request.node.get_closest_marker("postgres"):
        return

    async def inline(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return work(*args, **kwargs)

    for module in ("channels.sync", "channels.session", "channels.engines", "oms.core.http"):
        monkeypatch.setattr(f"{module}.in_db", inline)
    monkeypatch.setattr(db, "in_db", inline)


@pytest.fixture
def sandbox(sandbox_url: str) -> Iterator[SandboxClient]:
    limits.forget_copies()
    with SandboxClient(sandbox_url) as client:
        client.reset()
        yield client


@dataclass
class Shop:
    """One connected account with its shop in the sandbox."""

    client: SandboxClient
    id: str
    account: ChannelAccount
    skus: dict[str, Sku]
    warehouse: Warehouse
    extra: dict[str, Any] = field(default_factory=dict)

    def listing(self, code: str) -> Listing:
        return Listing.objects.get(account=self.account, external_sku=code)

    def available(self, code: str) -> int:
        return self.client.available(self.id, code)

    def requests(self, operation: str) -> int:
        return len(self.client.requests(self.id, operation, limit=5000))

    def buy(self, code: str, quantity: int = 1, **options: Any) -> dict[str, Any]:
        order: dict[str, Any] = self.client.place_order(
            self.id, [{"sku": code, "quantity": quantity}], **options
        )
        return order


def push_all() -> int:
    """Work the outbox off, then push everything that is due."""
    while outbox.drain():
        pass
    try:
        return asyncio.run(_push())
    finally:
        gc.collect(1)  # connections of the threads that ended with the loop: a PostgreSQL has a hundred


async def _push() -> int:
    try:
        return await sync.StockPusher().once(seconds=20)
    finally:
        await http.DOOR.aclose()


def deliver(shop: Shop) -> int:
    """What the shop announced, verified as the door does it, stored and worked off."""
    count = 0
    for delivery in shop.client.deliveries(shop=shop.id, limit=5000):
        headers = {name.lower(): value for name, value in delivery["headers"].items()}
        notifications = hooks.verified(shop.account, headers, delivery["body"].encode())
        count += inbox.accept(shop.account, notifications)
    inbox.drain(shop.account.pk)
    return count


@pytest.fixture
def stock(db: None) -> tuple[Warehouse, dict[str, Sku]]:
    warehouse = make_warehouse("EAST", country="US")
    skus = {code: make_sku(code) for code in SKUS}
    for sku in skus.values():
        add_stock(sku, warehouse, 50)
    return warehouse, skus


@pytest.fixture
def shopify(sandbox: SandboxClient, stock: Any, settings: Any) -> Shop:
    return connect_shopify(sandbox, stock, settings, "acme")


def connect_shopify(client: SandboxClient, stock: Any, settings: Any, name: str) -> Shop:
    warehouse, skus = stock
    shop = client.create_shop(
        "shopify", name, name=name.title(), currency="USD", locations=[{"name": "East"}],
        catalogue=[{"sku": code, "title": code.title(), "price": "10.00", "stock": 10} for code in SKUS],
    )  # fmt: skip
    settings.HOST_MAP = client.host_map()
    account = accounts.connect(
        connector="shopify", name=name.title(), code=name, config={"shop": shop["domain"]}, prefix="SH",
        credentials={key: shop["credentials"][key] for key in ("access_token", "client_secret")},
        warehouse_ids=[warehouse.pk], actor=SYSTEM,
    )  # fmt: skip
    tested = accounts.test(account.pk, actor=SYSTEM)
    assert tested.ok and tested.facts is not None, tested.message
    accounts.map_location(account.pk, tested.facts.locations[0][0], warehouse.pk, actor=SYSTEM, name="East")
    accounts.go_live(account.pk, "http://127.0.0.1:9/hooks/none/", actor=SYSTEM)
    accounts.import_listings(account.pk, actor=SYSTEM)
    account.refresh_from_db()
    return Shop(client, name, account, skus, warehouse, shop)


@pytest.fixture
def amazon(sandbox: SandboxClient, stock: Any, settings: Any) -> Shop:
    warehouse, skus = stock
    shop = sandbox.create_shop(
        "amazon", "A1TEST", name="Acme", currency="USD",
        catalogue=[
            *({"sku": code, "title": code.title(), "price": "10.00", "stock": 10} for code in SKUS),
            {"sku": "MUG-FBA", "title": "Mug", "price": "12.00", "fba": 30},
        ],
    )  # fmt: skip
    settings.HOST_MAP = sandbox.host_map()
    skus = {**skus, "MUG-FBA": skus["MUG"]}
    keys = ("client_id", "client_secret", "refresh_token", "aws_access_key_id", "aws_secret_access_key")
    account = accounts.connect(
        connector="amazon", name="Amazon US", code="amazon-us", prefix="AM",
        config={key: shop[key] for key in ("seller_id", "marketplace_id", "queue_url")},
        credentials={key: shop["credentials"][key] for key in keys}, warehouse_ids=[warehouse.pk], actor=SYSTEM,
    )  # fmt: skip
    tested = accounts.test(account.pk, actor=SYSTEM)
    assert tested.ok, tested.message
    accounts.go_live(account.pk, "", actor=SYSTEM)
    accounts.import_listings(account.pk, actor=SYSTEM)
    account.refresh_from_db()
    return Shop(sandbox, "A1TEST", account, skus, warehouse, shop)
