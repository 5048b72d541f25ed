"""Reorder proposals for 100,000 SKUs with a year of daily demand: the whole nightly run, and the next one."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from inventory.models import DemandDay, Product, Sku, StockLevel, StockMovement
from oms.control.benches import world
from oms.control.benches.pages import analyze
from oms.control.benches.report import Report
from oms.control.benches.rows import at, insert, quiet
from oms.core.db import on_postgres
from oms.core.exceptions_inbox import open_items
from oms.core.memory import settle
from procurement import planner
from procurement.models import ReorderSuggestion, Supplier, SupplierOffer, TransferOffer

YEAR = 365
SUPPLIERS = 50
#: one SKU in ten sells every day, three in ten every third day, six in ten every tenth day
EVERY = "CASE WHEN {sku} % 10 = 0 THEN 1 WHEN {sku} % 10 < 4 THEN 3 ELSE 10 END"


def environment(options: dict[str, Any]) -> dict[str, str]:
    """What the child process needs beyond its database."""
    return {}


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Target 15."""
    skus = 1_000 if options["quick"] else 100_000
    say("a year of demand")
    _seed(skus)
    analyze()
    report.size = {
        "skus": skus,
        "suppliers": SUPPLIERS,
        "days_with_demand": DemandDay.objects.count(),
        "movements": StockMovement.objects.count(),
    }
    settle()  # as a worker does when it begins
    taken = {}
    for name in ("first", "again"):
        say(f"planning, {name}")
        began, cpu = time.perf_counter(), time.process_time()
        done = planner.suggest(actor=world.ACTOR)
        taken[name] = time.perf_counter() - began
        report.figures |= {
            f"{name}_run_s": round(taken[name], 2),
            f"{name}_run_client_cpu_s": round(time.process_time() - cpu, 2),
            f"{name}_run_did": ", ".join(f"{count:,} {word}" for word, count in sorted(done.items())),
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report.figures["peak_mib"] = round(peak)
    report.at_most(15, "proposals for all SKUs", taken["first"], 60, 15, "s")
    report.at_most(15, "highest memory of the process", peak, 500, 250, "MiB")
    found = ReorderSuggestion.objects.filter(state=ReorderSuggestion.State.OPEN).count()
    report.equal("entries of the inbox: the reorder list is its own", open_items().count(), 0)
    report.equal("proposals that the second run made", done["new"], 0)
    report.equal("proposals were made", found > skus // 100, True)
    report.figures["transfers_offered"] = TransferOffer.objects.count()
    report.equal("transfers were offered", TransferOffer.objects.count() > skus // 500, True)
    report.notes.append(
        "One SKU in ten sells every day of the year, three in ten every third day, six in ten every tenth. One in "
        "four lies in a second warehouse, too, and one in eight ships from there. A run reads "
        "stock, demand, ledger, offers and what is on order, decides, and stores proposals with their sums."
    )


def _seed(skus: int) -> None:
    place, other = world.warehouses(2)
    suppliers = Supplier.objects.bulk_create(
        Supplier(code=f"S{number}", name=f"Supplier {number}", lead_time_days=7 + number % 30, currency="USD")
        for number in range(SUPPLIERS)
    )
    first = suppliers[0].pk
    day = "CURRENT_DATE - CAST({} AS int)" if on_postgres() else "date('now', '-' || ({}) || ' days')"
    with transaction.atomic(), quiet():
        insert(Product, skus, id="n", title="'Product ' || n")
        insert(Sku, skus, id="n", product_id="n", code="'R-' || n", unit_cost=str(Decimal(4)))
        insert(
            StockLevel, skus,
            id="n", sku_id="n", warehouse_id=str(place.pk), on_hand="10 + (n * 37) % 900", average_cost="4",
        )  # fmt: skip
        insert(
            StockMovement, skus,
            id="n", sku_id="n", warehouse_id=str(place.pk), bucket="'on_hand'", quantity="10 + (n * 37) % 900",
            balance="10 + (n * 37) % 900", kind="'opening'", reference="'bench'", unit_cost="4", average_cost="4",
            key="'r' || n", created_at=at("86400 * 400"), occurred_at=at("86400 * 400"),
        )  # fmt: skip
        insert(
            StockLevel, skus // 4,
            id=f"{skus} + n", sku_id="4 * n", warehouse_id=str(other.pk), on_hand="(n * 53) % 600", average_cost="4",
        )  # fmt: skip
        insert(
            StockMovement, skus,
            id=f"{skus} + n", sku_id="n", warehouse_id=f"CASE WHEN n % 8 = 0 THEN {other.pk} ELSE {place.pk} END",
            bucket="'on_hand'", quantity="0 - 1 - n % 20", balance="10 + (n * 37) % 900", kind="'ship'",
            reference="'bench'", unit_cost="4", average_cost="4", key="'s' || n",
            created_at=at("86400 * (1 + n % 80)"), occurred_at=at("86400 * (1 + n % 80)"),
        )  # fmt: skip
        insert(
            SupplierOffer, skus,
            id="n", supplier_id=f"{first} + n % {SUPPLIERS}", sku_id="n", price="3.5", currency="'USD'", moq="12",
            order_multiple="6",
        )  # fmt: skip
        table = DemandDay._meta.db_table
        days = "generate_series(1, {}) AS d(day)" if on_postgres() else (
            "(WITH RECURSIVE x(day) AS (VALUES (1) UNION ALL SELECT day + 1 FROM x WHERE day < {}) SELECT day FROM x) d"
        )  # fmt: skip
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {table} (sku_id, channel_code, day, units, lines)"  # noqa: S608 names of ours
                f" SELECT s.id, 'shop', {day.format('d.day')}, 1 + (s.id + d.day) %% 5, 1"
                f" FROM inventory_sku s CROSS JOIN {days.format(YEAR)}"
                f" WHERE (s.id + d.day) %% ({EVERY.format(sku='s.id').replace('%', '%%')}) = 0",
                [],
            )
