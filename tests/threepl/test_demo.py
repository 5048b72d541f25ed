"""The demo's 3PL: it has what our books say but for the SKUs that make a difference, and can be connected twice."""

from __future__ import annotations

from typing import Any

from channels.sandbox.client import SandboxClient
from fulfillment.models import ThreePLAccount
from fulfillment.threepl import accounts, inbox
from inventory.models import StockDifference
from oms.control.demo import live, seed
from tests.factories import add_stock, make_sku


def test_the_demos_3pl_is_connected_and_differs_in_two_skus(db: None, sandbox: SandboxClient, settings: Any):
    settings.HOST_MAP = live.host_map(sandbox.url)
    ohio = seed._warehouses()["OHIO"]
    for number in range(25):
        add_stock(make_sku(f"SKU-{number:02d}"), ohio, 30)
    live._partner(sandbox, fresh=True)
    live._partner(sandbox, fresh=False)
    account = ThreePLAccount.objects.get()
    assert account.state == "connected"
    accounts.pull_snapshot(account.pk)
    inbox.drain(account.pk)
    assert sorted(row.gap for row in StockDifference.objects.all()) == [-3, 2]
