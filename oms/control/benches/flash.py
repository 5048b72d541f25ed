"""The last 100 units and 400 buyers at once, from two channels, with 2 and with 8 processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

from django.db import connection, models

from inventory.models import Sku, StockLevel, StockMovement
from oms.control.benches import team, world
from oms.control.benches.report import Report
from oms.core.db import on_postgres
from oms.orders import intake
from oms.orders.models import Order, OrderLine, SalesChannel

UNITS = 100
ORDERS = 400


def environment(options: dict[str, Any]) -> dict[str, str]:
    """What the child process needs beyond its database."""
    return {}


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Target 4. Every process has its own connection and takes one order per transaction."""
    places = world.warehouses(1)
    shops = [world.channel("left", places), world.channel("right", places)]
    report.size = {"units": UNITS, "orders": ORDERS, "channels": 2, "processes": "2 and 8"}
    goods = world.skus(2, UNITS, places)
    for processes, sku in zip((2, 8), goods, strict=True):
        say(f"{processes} processes")
        _race(report, processes, sku, shops)
    report.check_invariants()


def _race(report: Report, processes: int, sku: Sku, shops: list[SalesChannel]) -> None:
    before = deadlocks()
    orders_before, per_process = Order.objects.count(), ORDERS // processes
    jobs = [(number, per_process, sku, shops[number % 2]) for number in range(processes)]
    found, seconds = team.race(_buy, jobs)
    name = f"{processes} processes"
    lines = OrderLine.objects.filter(sku=sku).aggregate(
        reserved=models.Sum("reserved"), short=models.Sum("short")
    )
    level = StockLevel.objects.get(sku=sku)
    ledger = StockMovement.objects.filter(sku=sku, bucket="reserved").aggregate(sum=models.Sum("quantity"))[
        "sum"
    ]
    report.figures |= {
        f"seconds_{processes}_processes": seconds,
        f"orders_per_s_{processes}_processes": ORDERS / seconds,
        f"repeated_transactions_{processes}_processes": sum(one["repeated"] for one in found),
        f"slowest_order_ms_{processes}_processes": max(one["slowest"] for one in found) * 1000,
    }
    report.at_most(4, f"time, {name}", seconds, 2.0, 0.5, "s")
    report.equal(
        f"{name}: units reserved (counter, ledger, order lines)",
        (level.reserved, ledger, lines["reserved"]),
        (UNITS,) * 3,
    )
    report.equal(f"{name}: units short", lines["short"], ORDERS - UNITS)
    report.equal(f"{name}: orders stored", Order.objects.count() - orders_before, ORDERS)
    report.equal(f"{name}: errors", [error for one in found for error in one["errors"]], [])
    if on_postgres():
        report.equal(f"{name}: deadlocks", deadlocks() - before, 0)


def _buy(number: int, count: int, sku: Sku, shop: SalesChannel, barrier: Barrier, answers: Any) -> None:
    """One process of buyers."""
    from oms.core.metrics import CONFLICTS

    drafts = [world.order(f"{sku.code}-{number}-{index}", [(sku, 1)]) for index in range(count)]
    connection.ensure_connection()
    repeated = CONFLICTS._value.get()
    errors: list[str] = []
    slowest = 0.0
    barrier.wait(60)
    for draft in drafts:
        began = time.perf_counter()
        try:
            taken = intake.take([draft], channel=shop, actor=world.ACTOR, source="webhook")
            errors += [one.message for one in taken if one.outcome != "created"]
        except Exception as error:  # told to the parent, which judges it
            errors.append(f"{type(error).__name__}: {error}"[:200])
        slowest = max(slowest, time.perf_counter() - began)
    connection.close()
    answers.put({"errors": errors, "repeated": CONFLICTS._value.get() - repeated, "slowest": slowest})


def deadlocks() -> int:
    """Deadlocks that the database has seen so far; none are counted on SQLite."""
    if not on_postgres():
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot(), pg_stat_force_next_flush()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])
