"""Routing: how long one decision takes, and how many waiting orders per second the tasks route end to end."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.db.models import Count

from fulfillment.models import RoutingDecision, RoutingQueue, Shipment, ShipmentLine
from fulfillment.routing.model import LineView, OrderView, Policy, WarehouseView
from fulfillment.routing.planner import plan
from oms.control.benches import cpu, sync, world
from oms.control.benches.report import Report
from oms.core import beat, outbox
from oms.core.doorbell import ring
from oms.core.figures import percentile
from oms.orders import intake
from oms.orders.models import Order

WAREHOUSES = 6


def environment(options: dict[str, Any]) -> dict[str, str]:
    return {}


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Targets 11 and 12."""
    quick = bool(options["quick"])
    decisions, waiting, sku_count = (200, 60, 40) if quick else (5_000, 10_000, 500)
    report.size = {
        "warehouses": WAREHOUSES, "decisions": decisions, "waiting_orders": waiting, "lines_per_order": 2,
        "skus": sku_count,
    }  # fmt: skip
    say("one decision")
    _decide(report, decisions)
    say(f"{waiting:,} orders")
    places = world.warehouses(WAREHOUSES)
    goods = world.skus(sku_count, 10 * waiting, places)
    shop = world.channel("shop", places)
    numbers = range(waiting)
    for start in range(0, waiting, intake.BATCH):
        intake.take(
            [
                world.order(f"R{n}", [(goods[n % sku_count], 1), (goods[(n * 7 + 1) % sku_count], 1)])
                for n in numbers[start : start + intake.BATCH]
            ],
            channel=shop, actor=world.ACTOR, source="webhook",
        )  # fmt: skip
    while outbox.drain():  # no worker runs yet: the orders wait in the queue
        pass
    report.equal("orders waiting", RoutingQueue.objects.count(), waiting)
    say("routing")
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(sync.process("worker"))
        sync.wait("the worker", 60, lambda: beat.age(beat.WORKER) is not None)
        left, running = RoutingQueue.objects.count(), {"worker": worker, "measuring": os.getpid()}
        spent, began = cpu.used(running), time.monotonic()
        ring("fulfillment.tasks.route_waiting")
        sync.wait("the last order", 600, lambda: not RoutingQueue.objects.exists())
        took = time.monotonic() - began
        used = cpu.per_unit(spent, cpu.used(running), left)
    report.figures |= {f"cpu_ms_per_order_{name}": value for name, value in used.items()}
    report.figures["orders_per_s"] = left / took
    report.at_least(12, "waiting orders routed per second, in tasks", left / took, 100, 300, "orders/s")
    report.equal("orders routed", Order.objects.filter(state=Order.State.ROUTED).count(), waiting)
    report.equal("decisions", RoutingDecision.objects.filter(outcome="routed").count(), waiting)
    report.equal("shipment lines", ShipmentLine.objects.filter(shipment__state="ready").count(), 2 * waiting)
    twice = Shipment.objects.values("order", "warehouse").annotate(n=Count("pk")).filter(n__gt=1)
    report.equal("orders with two shipments of one warehouse", twice.count(), 0)
    while outbox.drain():
        pass
    report.check_invariants()


def _decide(report: Report, count: int) -> None:
    """The pure part for a three-line order that no single warehouse has, with its full trace."""
    order = OrderView(
        number="BE-1", channel="shop", country="US", region="TX", postal="78701", value=Decimal("60.00"),
        currency="USD", weight_g=1_200,
        lines=tuple(LineView(n, f"SKU-{n}", 2, ((f"SKU-{n}", 1),)) for n in range(3)),
        ship_by=dt.datetime(2026, 11, 30, 17, tzinfo=dt.UTC),
    )  # fmt: skip
    places = [
        WarehouseView(
            code=f"WH{n}", kind="own", stock={f"SKU-{m}": 5 * ((n + m) % 3 > 0) for m in range(3)}, active=True,
            fulfils=True, priority=n, ship_day=dt.date(2026, 11, 26), capacity_left=None, planned=40 * n,
            time_zone="UTC", cost=Decimal(f"{6 + n}.10"), currency="USD", zone=str(2 + n), transit_days=1 + n,
        )
        for n in range(WAREHOUSES)
    ]  # fmt: skip
    took: list[int] = []
    outcomes = set()
    for _ in range(count):
        began = time.process_time_ns()
        outcomes.add(plan(order, places, Policy(0)).outcome)
        took.append(time.process_time_ns() - began)
    took.sort()
    p50, p99 = (percentile(took, share) or 0 for share in (0.5, 0.99))
    report.figures |= {"decision_cpu_p50_ms": p50 / 1e6, "decision_cpu_p99_ms": p99 / 1e6}
    report.at_most(
        11, "one decision over 6 warehouses with trace, processor time, p99", p99 / 1e6, 5, 1, "ms"
    )
    report.equal("outcome of the decision", sorted(outcomes), ["routed"])
