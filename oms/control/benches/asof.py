"""Stock at any moment over a ledger of 1,000,000 movements: one SKU, the whole list, and what changed since.

The ledger is written by two SQL statements in the shape that the services leave behind (running balances, values,
times that rise with the ids), because a million single postings would measure something else.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction
from django.db.models import Sum

from fulfillment import lot_recall
from fulfillment.models import Shipment
from inventory import asof
from inventory.models import BinMovement, Lot, Product, Sku, StockLevel, StockMovement, Warehouse
from oms.control.benches import world
from oms.control.benches.pages import analyze
from oms.control.benches.report import Report
from oms.control.benches.rows import at, insert, quiet
from oms.core.clock import now
from oms.core.csvsafe import stream_csv
from oms.core.db import on_postgres
from oms.orders.models import Order

DAYS = 90
WAREHOUSES = 4


def environment(options: dict[str, Any]) -> dict[str, str]:
    """What the child process needs beyond its database."""
    return {}


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Target 16."""
    skus, steps, hot_rows = (300, 8, 2_000) if options["quick"] else (10_000, 22, 120_000)
    start = (now() - dt.timedelta(days=DAYS)).replace(microsecond=0)
    places = world.warehouses(WAREHOUSES)
    products = Product.objects.bulk_create(
        [Product(title=f"Product {n}") for n in range(skus)], batch_size=2000
    )
    goods = Sku.objects.bulk_create(
        [Sku(product=product, code=f"AS-{n:05}") for n, product in enumerate(products)], batch_size=2000
    )
    say("writing the ledger")
    _ledger(goods, places, steps, hot_rows, start)
    rows = StockMovement.objects.count()
    report.size = {
        "movements": rows,
        "skus": skus,
        "warehouses": WAREHOUSES,
        "of_the_hot_sku": hot_rows,
    }
    began = time.perf_counter()
    for ago in (60, 30, 1):
        asof.write_checkpoints(start + dt.timedelta(days=DAYS - ago))
    report.figures["checkpoint_s"] = (time.perf_counter() - began) / 3
    if on_postgres():
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    say("one SKU at 200 moments")
    _one_sku(report, goods, start)
    say("the whole list")
    _export(report, places, start)
    report.check_invariants()
    say("recall of a lot")
    _recall(report, goods[0], places[0], hot_rows)


def _ledger(goods: list[Sku], places: list[Warehouse], steps: int, hot_rows: int, start: dt.datetime) -> None:
    first, last = goods[0].pk, goods[-1].pk
    low, high = places[0].pk, places[-1].pk
    step = DAYS * 86_400 // (steps + 1)
    if on_postgres():
        series = "generate_series({}, {}) AS {}(n)"
        at = f"TIMESTAMPTZ '{start.isoformat()}' + make_interval(secs => {{}})"
    else:
        series = "(WITH RECURSIVE x(n) AS (VALUES({}) UNION ALL SELECT n + 1 FROM x WHERE n < {}) SELECT n FROM x) {}"
        at = f"strftime('%Y-%m-%d %H:%M:%f', '{start:%Y-%m-%d %H:%M:%S}', '+' || ({{}}) || ' seconds')"
    columns = (
        "sku_id, warehouse_id, bucket, quantity, balance, kind, reason, reference, actor, note, unit_cost,"
        " average_cost, stock_value, occurred_at, created_at, key"
    )
    # 100 units at first, then 3 fewer to 5 more: never below zero; every fifth step is a promise
    change = "CASE WHEN i.n = 1 THEN 100 ELSE (s.n * 7 + w.n * 3 + i.n * 5) % 9 - 3 END"
    bucket = "CASE WHEN i.n % 5 = 0 THEN 'reserved' ELSE 'on_hand' END"
    spread = at.format(f"i.n * {step} + (s.n % 1000) * 2")
    hot = at.format(f"h.n * {DAYS * 86_400 / (hot_rows + 1):.6f}")
    reserved, held = "bucket = 'reserved'", "NULL"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO inventory_stockmovement ({columns})
            SELECT sku, wh, bucket, quantity, sum(quantity) OVER (PARTITION BY sku, wh, bucket ORDER BY step),
                   CASE WHEN {reserved} THEN 'reserve' WHEN step = 1 THEN 'opening' WHEN quantity < 0 THEN 'ship'
                   ELSE 'receipt' END, '', 'BENCH', 'task:bench', '', CASE WHEN {reserved} THEN {held} ELSE 4.0000 END,
                   CASE WHEN {reserved} THEN {held} ELSE 4.0000 END,
                   CASE WHEN {reserved} THEN {held}
                   ELSE 4.0000 * sum(quantity) OVER (PARTITION BY sku, wh, bucket ORDER BY step) END,
                   at, at, 'b:' || sku || ':' || wh || ':' || step
            FROM (SELECT s.n AS sku, w.n AS wh, i.n AS step, {bucket} AS bucket,
                         CASE WHEN i.n % 5 = 0 THEN 1 WHEN ({change}) = 0 THEN 1 ELSE {change} END AS quantity,
                         {spread} AS at
                  FROM {series.format(first, last, "s")}, {series.format(low, high, "w")},
                       {series.format(1, steps, "i")}
                  WHERE s.n <> {first}) m
            ORDER BY step, sku, wh
            """  # noqa: S608 - only numbers and names of ours
        )
        cursor.execute(
            f"""
            INSERT INTO inventory_stockmovement ({columns})
            SELECT {first}, {low}, 'on_hand', CASE WHEN h.n % 2 = 1 THEN 3 ELSE -2 END,
                   h.n / 2 + CASE WHEN h.n % 2 = 1 THEN 3 ELSE 0 END,
                   CASE WHEN h.n % 2 = 1 THEN 'receipt' ELSE 'ship' END,
                   '', 'BENCH', 'task:bench', '', 4.0000, 4.0000,
                   4.0000 * (h.n / 2 + CASE WHEN h.n % 2 = 1 THEN 3 ELSE 0 END), {hot}, {hot}, 'h:' || h.n
            FROM {series.format(1, hot_rows, "h")} ORDER BY h.n
            """  # noqa: S608 - only numbers and names of ours
        )
        cursor.execute(
            """
            INSERT INTO inventory_stocklevel (sku_id, warehouse_id, on_hand, reserved, damaged, quarantine, inspection,
                                              in_transit, safety, average_cost)
            SELECT sku_id, warehouse_id, sum(CASE WHEN bucket = 'on_hand' THEN quantity ELSE 0 END),
                   sum(CASE WHEN bucket = 'reserved' THEN quantity ELSE 0 END), 0, 0, 0, 0, 0, 4.0000
            FROM inventory_stockmovement GROUP BY sku_id, warehouse_id
            """
        )
        # the promises behind the reserved units
        no = "false" if on_postgres() else "0"
        zero = "gen_random_uuid()" if on_postgres() else "lower(hex(randomblob(16)))"
        cursor.execute(
            f"""
            INSERT INTO inventory_reservation (uid, sku_id, warehouse_id, quantity, consumed, released, state,
                                               reference, channel_code, min_shelf_days, firm, created_at)
            SELECT {zero}, sku_id, warehouse_id, reserved, 0, 0, 'open', 'BENCH', '', 0, {no}, {at.format(0)}
            FROM inventory_stocklevel WHERE reserved > 0
            """  # noqa: S608 - only numbers and names of ours
        )


def _recall(report: Report, sku: Sku, place: Warehouse, hot_rows: int) -> None:
    """A lot behind every twelfth movement of the hot SKU: who got it. After the invariants, for nothing packed it."""
    rows = hot_rows // 12
    lot = Lot.objects.create(sku=sku, code="L-1")
    shop = world.channel("shop", [place])
    first = StockMovement.objects.get(key="h:1").pk
    with transaction.atomic(), quiet(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE inventory_stockmovement SET reference = 'S-' || substr(key, 3) WHERE id >= %s AND key LIKE 'h:%%'",
            [first],
        )
        insert(
            BinMovement, rows,
            id="n", movement_id=f"{first} + n - 1", warehouse_id=str(place.pk), sku_id=str(sku.pk), lot_id=str(lot.pk),
            quantity="CASE WHEN n % 2 = 1 THEN 3 ELSE -2 END", created_at=at("0"),
        )  # fmt: skip
        insert(
            Order, rows // 2,
            id="n", channel_id=str(shop.pk), external_id="'B' || n", state="'shipped'", currency="'USD'",
            placed_at=at("n"), channel_updated_at=at("n"),
        )  # fmt: skip
        insert(
            Shipment, rows // 2,
            id="n * 2", order_id="n", warehouse_id=str(place.pk), state="'shipped'", shipped_at=at("n"),
        )  # fmt: skip
    analyze()
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        found = lot_recall.recall(lot.pk)
        taken.append(time.perf_counter() - began)
    report.figures |= {"recall_shipments": len(found.recipients), "recall_longest_of_three_s": max(taken)}
    report.at_most(16, "recall of a lot, longest of three", max(taken), 2.0, 0.5, "s")
    report.equal("units of the lot shipped", found.shipped, rows // 2 * 2)


def _one_sku(report: Report, goods: list[Sku], start: dt.datetime) -> None:
    chance, wrong = random.Random(3), 0
    times: dict[str, list[float]] = {"hot": [], "cold": []}
    for number in range(200):
        kind = ("hot", "cold")[number % 2]
        sku = goods[0] if kind == "hot" else chance.choice(goods[1:])
        at = start + dt.timedelta(seconds=chance.randrange(86_400, DAYS * 86_400))
        began = time.perf_counter()
        found = asof.as_of(at, sku_ids=[sku.pk], with_cost=True)
        times[kind].append((time.perf_counter() - began) * 1000)
        replay = StockMovement.objects.filter(sku=sku, bucket="on_hand", created_at__lte=at).aggregate(
            n=Sum("quantity")
        )
        wrong += sum(level.on_hand for level in found.values()) != (replay["n"] or 0)
        wrong += any(level.value != level.on_hand * 4 for level in found.values())
    report.equal("one SKU: answers that differ from a replay of the whole ledger", wrong, 0)
    for kind, taken in times.items():
        taken.sort()
        report.figures |= {f"{kind}_sku_p50_ms": taken[50], f"{kind}_sku_max_ms": taken[-1]}
    report.at_most(16, "one SKU, longest of 200", max(*times["hot"], *times["cold"]) / 1000, 1.0, 0.05, "s")
    began = time.perf_counter()
    end = start + dt.timedelta(days=DAYS)
    causes = asof.diff(end - dt.timedelta(days=7), end, sku_ids=[goods[0].pk])
    report.figures["hot_sku_diff_of_7_days_ms"] = (time.perf_counter() - began) * 1000
    report.figures["hot_sku_diff_causes"] = sum(
        len(one) for level in causes.values() for one in level.values()
    )


def _export(report: Report, places: list[Warehouse], start: dt.datetime) -> None:
    ids = [place.pk for place in places]
    longest = 0.0
    for name, ago in (("yesterday", 0.5), ("between_checkpoints", 15), ("before_any_checkpoint", 61)):
        at = start + dt.timedelta(days=DAYS - ago)
        began, lines, size = time.perf_counter(), 0, 0
        for text in stream_csv(
            (*asof.EXPORT_HEADER, *asof.COST_HEADER), asof.export_rows(at, warehouse_ids=ids, with_cost=True)
        ):
            lines, size = lines + 1, size + len(text)
        taken = time.perf_counter() - began
        longest = max(longest, taken)
        report.figures |= {f"export_{name}_s": taken, f"export_{name}_rows": lines}
        units = sum(row[2] for row in asof.export_rows(at, warehouse_ids=ids))
        replay = StockMovement.objects.filter(bucket="on_hand", created_at__lte=at).aggregate(
            n=Sum("quantity")
        )["n"]
        report.equal(f"export {name}: units on hand", units, replay)
    report.at_most(16, "full export, longest of three", longest, 30.0, 5.0, "s")
    report.equal("levels", StockLevel.objects.count(), (len(Sku.objects.all()) - 1) * len(ids) + 1)
