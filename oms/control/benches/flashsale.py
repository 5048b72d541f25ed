"""A flash sale over real sockets while everything goes wrong: what is lost, doubled, sold twice, and how it ends.

Buyers of several stores fight for the same units. Meanwhile stores answer with 500 and 429, drop answers, send their
notifications twice and out of order, and one store is down. The sale is run twice: with every listing showing all
that is there, and with the units divided over the stores.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Count, Sum

from channels import kpis
from channels import sync as pushes
from channels.models import ChannelAccount, InboxMessage, Listing, OversellIncident
from channels.sandbox.client import SandboxClient
from inventory.models import Sku, StockLevel
from oms.control.benches import sync, world
from oms.control.benches.report import Report
from oms.core import beat, business
from oms.core.doorbell import ring
from oms.core.models import OutboxEvent
from oms.orders.models import Order, OrderLine

environment = sync.environment
FAULTS: dict[str, Any] = {
    "latency_ms": 60, "jitter_ms": 60, "error_500_rate": 0.03, "throttle_rate": 0.03, "timeout_rate": 0.01,
    "drop_rate": 0.01, "hang_ms": 300, "webhook_duplicate_rate": 0.1, "webhook_shuffle_ms": 500,
    "webhook_loss_rate": 0.02,
}  # fmt: skip
RIGHT_WITHIN = 60.0
PATIENCE = 300.0


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Lost 0, doubled 0, sold twice counted and explained; with the units divided 0. Right again within a minute."""
    quick = bool(options["quick"])
    stores = options["channels"]
    units, buyers, rate = (40, 120, 40) if quick else (options["units"], options["shoppers"], options["rate"])
    outage = 3.0 if quick else float(options["outage"])
    places = world.warehouses(1)
    each = max(1, units // 5)
    goods = world.skus(10, each, places)
    report.size = {
        "channels": stores, "units": each * 5, "skus": 5, "shoppers": buyers, "shoppers_per_s": rate,
        "one_store_down_s": outage, "mode": options["mode"],
        "faults": ", ".join(f"{name} {value}" for name, value in FAULTS.items()),
    }  # fmt: skip
    sandbox = "{0.scheme}://{0.netloc}".format(urlsplit(next(iter(settings.HOST_MAP.values()))))
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            sync.process("sandbox", "--port", str(urlsplit(sandbox).port), "--scenario", "empty")
        )
        client = stack.enter_context(SandboxClient(sandbox))
        client.wait_ready(60)
        stack.enter_context(sync.process("serve", "--port", str(urlsplit(settings.BASE_URL).port)))
        stack.enter_context(sync.process("worker"))
        business.put("last_units", 0)
        live = [sync.open_store(client, number, goods, places[0]) for number in range(stores)]
        stack.enter_context(sync.process("dispatch"))
        sync.wait("the web process", 60, lambda: sync.answers(f"{settings.BASE_URL}/healthz"))
        sync.wait("the dispatcher", 60, lambda: beat.age(beat.DISPATCHER) is not None)
        sync.wait("the worker", 60, lambda: beat.age(beat.WORKER) is not None)
        for name, part, limit in (("all shown everywhere", goods[:5], 0), ("divided", goods[5:], each)):
            if options["mode"] != "both" and (options["mode"] == "divided") != (limit > 0):
                continue
            say(name)
            business.put("last_units", limit)
            for account in live:
                pushes.resync(account.pk, actor=world.ACTOR)
            # a re-sync is no movement, so that no latency is open: every listing is waited for
            sync.wait("the first figures", 120, _all_told)
            _sale(report, client, live, part, name, each, buyers, rate, outage, divided=limit > 0)
    report.check_invariants()


def _sale(
    report: Report, client: SandboxClient, live: Sequence[ChannelAccount], goods: Sequence[Sku], name: str, each: int,
    buyers: int, rate: int, outage: float, *, divided: bool,
) -> None:  # fmt: skip
    shops = [account.config["shop"].split(".")[0] for account in live]
    before = {shop: len(client.orders(shop, limit=100_000)) for shop in shops}
    over_before = client.oversold()["over"]
    client.set_physical({sku.code: each for sku in goods})
    for shop in shops:
        client.faults(shop, **FAULTS)
    number = client.start_shoppers(
        rate_per_second=rate, weights=dict.fromkeys(shops, 1), skus={sku.code: 1 for sku in goods},
        max_orders=buyers, lines_max=1, quantity_max=1,
    )  # fmt: skip
    time.sleep(min(2.0, buyers / rate / 4))
    client.faults(shops[-1], **FAULTS, outage_seconds=outage)
    up_again = time.monotonic() + outage
    sync.wait("the last buyer", buyers / rate * 10 + 60, lambda: not client.shoppers(number)["running"])
    time.sleep(max(0.0, up_again - time.monotonic()))
    for shop in shops:
        client.clear_faults(shop)
    began = time.monotonic()
    for account in live:
        ring("channels.tasks.pull_account", str(account.pk))  # what no notification told
    placed = sum(len(client.orders(shop, limit=100_000)) - before[shop] for shop in shops)
    channels = [account.sales_channel_id for account in live]

    def quiet() -> bool:
        stored = _orders(channels, goods)
        waits = InboxMessage.objects.filter(state=InboxMessage.State.RECEIVED).exists()
        return (
            stored >= placed and not waits and not OutboxEvent.objects.filter(topic="stock.changed").exists()
        )

    end = began + PATIENCE
    while not (quiet() and not kpis.waiting() and not sync.differences(client, live)):
        if time.monotonic() > end:
            break
        time.sleep(0.25)
    took = time.monotonic() - began
    lines = OrderLine.objects.filter(sku__in=goods, order__channel__in=channels)
    short = lines.aggregate(sum=Sum("short"))["sum"] or 0
    over = client.oversold()["over"] - over_before
    end = time.monotonic() + PATIENCE
    while _explained(goods) < lines.filter(short__gt=0).count() and time.monotonic() < end:
        time.sleep(0.25)
    every = Order.objects.filter(channel__in=channels).values("channel", "external_id")
    twice = every.annotate(n=Count("pk")).filter(n__gt=1)
    incidents = OversellIncident.objects.filter(sku__in=goods).order_by()
    hops = dict(incidents.values_list("hop").annotate(n=Count("pk")).values_list("hop", "n"))
    report.figures |= {
        f"{name}: orders placed": placed, f"{name}: units sold twice": short,
        f"{name}: right again after s": took,
        f"{name}: guilty hops": ", ".join(f"{hop} {count}" for hop, count in sorted(hops.items())) or "none",
    }  # fmt: skip
    report.at_most(6, f"{name}: all listings right after the last fault", took, RIGHT_WITHIN, 10.0, "s")
    report.equal(f"{name}: orders lost", placed - _orders(channels, goods), 0)
    report.equal(f"{name}: orders stored twice", twice.count(), 0)
    report.equal(f"{name}: units sold twice, by our books and by the stores'", short, over)
    report.equal(
        f"{name}: oversold lines without a black box",
        lines.filter(short__gt=0).count() - _explained(goods),
        0,
    )
    report.equal(
        f"{name}: listings that show another figure than computed", sync.differences(client, live), []
    )
    reserved = StockLevel.objects.filter(sku__in=goods).aggregate(sum=Sum("reserved"))["sum"]
    report.equal(f"{name}: units promised", reserved, min(placed, each * len(goods)))
    if divided:
        report.equal(f"{name}: units sold twice", short, 0)


def _all_told() -> bool:
    return not Listing.objects.filter(stale_since__isnull=False).exists()


def _orders(channels: Sequence[int], goods: Sequence[Sku]) -> int:
    return Order.objects.filter(channel__in=channels, lines__sku__in=goods).distinct().count()


def _explained(goods: Sequence[Sku]) -> int:
    return OversellIncident.objects.filter(sku__in=goods).count()
