"""Order entry: anchor, product with one order per transaction, product in batches of 100, anchor again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from inventory.models import StockLevel
from oms.control.benches import world
from oms.control.benches.anchor import Anchor
from oms.control.benches.report import Report
from oms.orders import intake
from oms.orders.drafts import OrderDraft
from oms.orders.models import Order, OrderLine, SalesChannel

FLASH_SHARE = 0.9


def environment(options: dict[str, Any]) -> dict[str, str]:
    """What the child process needs beyond its database."""
    return {}


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Targets 1, 2, 3 and 5. Figures in orders per second with one process."""
    quick = bool(options["quick"])
    rounds, anchored, singles, batched = (1, 60, 30, 200) if quick else (3, 200, 80, 500)
    sku_count = 40 if quick else 500
    places = world.warehouses(2)
    goods = world.skus(sku_count, 1_000_000, places)
    shop = world.channel("bench", places)
    report.size = {
        "skus": sku_count, "warehouses": 2, "lines_per_order": 2, "rounds": rounds, "anchor_orders_per_round": anchored,
        "single_orders_per_round": singles, "batched_orders_per_round": batched,
    }  # fmt: skip
    dice = random.Random(7)
    numbers = iter(range(1, 10_000_000))

    def orders(count: int, hot: float) -> list[OrderDraft]:
        """Two lines each; a share `hot` of the lines is of one SKU, the others are drawn evenly."""
        drafts = []
        for _ in range(count):
            pair = [
                goods[0] if dice.random() < hot else goods[dice.randrange(1, sku_count)] for _ in range(2)
            ]
            drafts.append(world.order(f"B{next(numbers)}", [(sku, 1) for sku in pair]))
        return drafts

    runs: dict[str, list[Run]] = {
        name: [] for name in ("anchor", "single", "batch", "flash_single", "flash_batch")
    }
    taken: list[intake.Taken] = []
    anchor = Anchor()
    try:
        anchor.run(20)
        put(shop, orders(5, 0), 1, taken)  # nobody pays for the first use
        put(shop, orders(100, 0), 100, taken)
        runs["anchor"].append(timed(anchored, lambda: anchor.run(anchored)))
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            runs["single"].append(put(shop, orders(singles, 0), 1, taken))
            runs["batch"].append(put(shop, orders(batched, 0), 100, taken))
            runs["flash_single"].append(put(shop, orders(singles, FLASH_SHARE), 1, taken))
            runs["flash_batch"].append(put(shop, orders(batched, FLASH_SHARE), 100, taken))
            runs["anchor"].append(timed(anchored, lambda: anchor.run(anchored)))
    finally:
        anchor.close()
    one = statements(shop, orders(1, 0), taken)
    hundred = statements(shop, orders(100, 0), taken)
    rates = [run.per_second for run in runs["anchor"]]
    a1 = [(before + after) / 2 for before, after in zip(rates, rates[1:], strict=False)]
    to_a1 = {
        name: median(run.per_second / base for run, base in zip(runs[name], a1, strict=True))
        for name in ("single", "batch")
    }
    flash = {
        name: median(
            hot.per_second / even.per_second
            for hot, even in zip(runs[f"flash_{name}"], runs[name], strict=True)
        )
        for name in ("single", "batch")
    }
    for name, found in runs.items():
        report.figures[f"{name}_orders_per_s"] = median(run.per_second for run in found)
        report.figures[f"{name}_client_cpu_ms_per_order"] = median(run.cpu_ms for run in found)
    report.figures |= {"statements_single": one, "statements_batch_of_100": hundred}
    report.at_least(1, "one order per transaction, share of A1", to_a1["single"], 0.25, 0.5)
    report.at_least(2, "batches of 100, times A1", to_a1["batch"], 1.5, 4)
    report.at_least(3, "flash sale to uniform, single", flash["single"], 0.6, 1)
    report.at_least(3, "flash sale to uniform, batches", flash["batch"], 0.9, 1)
    report.at_most(5, "statements per order, single", one, 15, 8)
    report.at_most(5, "statements per order, batches of 100", hundred / 100, 0.5, 0.2)
    report.notes.append(
        "Rates are medians of the rounds; ratios are medians of the ratios to the anchors before and after."
    )
    if max(rates) > 1.3 * min(rates):
        report.notes.append(
            f"The anchor moved from {min(rates):,.0f}/s to {max(rates):,.0f}/s: other work shared the machine."
        )
    stored = 5 + 100 + rounds * 2 * (singles + batched) + 101
    report.equal("orders stored", Order.objects.count(), stored)
    report.equal("outcomes", sorted({answer.outcome for answer in taken}), ["created"])
    report.equal(
        "units reserved", StockLevel.objects.aggregate(sum=models.Sum("reserved"))["sum"], 2 * stored
    )
    report.equal("lines short", OrderLine.objects.filter(short__gt=0).count(), 0)
    report.check_invariants()


@dataclass(frozen=True, slots=True)
class Run:
    """One stretch of work: orders per second, and CPU of this process (not of the database) per order."""

    per_second: float
    cpu_ms: float


def timed(orders: int, work: Callable[[], object]) -> Run:
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return Run(orders / (time.perf_counter() - began), (time.process_time() - cpu) * 1000 / orders)


def put(shop: SalesChannel, drafts: Sequence[OrderDraft], batch: int, taken: list[intake.Taken]) -> Run:
    """`take()` with `batch` orders in a transaction."""

    def work() -> None:
        for start in range(0, len(drafts), batch):
            part = drafts[start : start + batch]
            taken.extend(intake.take(part, channel=shop, actor=world.ACTOR, source="webhook"))

    return timed(len(drafts), work)


def statements(shop: SalesChannel, drafts: Sequence[OrderDraft], taken: list[intake.Taken]) -> int:
    """Statements of one transaction, without BEGIN, COMMIT and savepoints."""
    with CaptureQueriesContext(connection) as context:
        put(shop, drafts, len(drafts), taken)
    control = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE SAVEPOINT")
    return sum(not query["sql"].startswith(control) for query in context.captured_queries)
