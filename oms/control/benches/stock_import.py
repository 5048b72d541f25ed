"""A stock file of 100,000 rows: checked, written with ledger and news, its errors told, brought again, undone."""

from __future__ import annotations

import csv
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.db import connection, models, transaction

from inventory.models import Product, Sku, StockLevel, StockMovement
from oms.control.benches import world
from oms.control.benches.report import Report
from oms.control.imports import service
from oms.control.imports.profiles import PROFILES
from oms.control.imports.report import Report as Found
from oms.control.imports.stock import CHUNK, StockFile
from oms.core.db import on_postgres
from oms.core.memory import settle

WRONG_EVERY = 1000


def environment(options: dict[str, Any]) -> dict[str, str]:
    """What the child process needs beyond its database."""
    return {}


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Target 10: rows per second and the highest memory of the process while it works."""
    quick = bool(options["quick"])
    rows = 2_000 if quick else 100_000
    world.warehouses(1)
    say("catalogue")
    for start in range(0, rows, 500):
        products = Product.objects.bulk_create(
            Product(title=f"Product {number}") for number in range(start, min(rows, start + 500))
        )
        Sku.objects.bulk_create(
            Sku(product=product, code=f"BENCH-{start + number:06}", unit_cost=Decimal("4.00"))
            for number, product in enumerate(products)
        )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    settle()  # as a worker does when it begins
    dice = random.Random(11)
    report.size = {"rows": rows, "skus": rows, "warehouses": 1, "rows_per_transaction": CHUNK}
    with tempfile.TemporaryDirectory() as folder:
        opening = Path(folder) / "opening.csv"
        count = Path(folder) / "count.csv"
        units = [dice.randrange(1, 500) for _ in range(rows)]
        _write(opening, rows, lambda n: units[n], wrong=0)
        _write(count, rows, lambda n: units[n] + dice.choice((-1, 1)), wrong=WRONG_EVERY)
        errors = Path(folder) / "errors.csv"
        profile, chosen = PROFILES["stock"], service.options_for("stock", mode="set")

        before = _resident()
        say("first file: every level is new")
        first = _measured(lambda: _apply(opening, profile, chosen))
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")  # autovacuum does it within a minute; the bench does not wait for it
        say("check of the second file")
        checked = _measured(lambda: service.check(count, profile, chosen))
        say("second file: every level changes, one row in a thousand is wrong")

        def whole() -> Found:
            found = _apply(count, profile, chosen)
            service.write_problems(found, errors)
            return found

        second = _measured(whole)
        say("anchor: the database alone")
        alone = anchor(rows) if on_postgres() else 0.0
        say("the same stock again")
        again = _measured(lambda: service.check(count, profile, chosen))
        wrong = rows // WRONG_EVERY
        for name, (found, seconds, cpu, _) in {
            "apply_new_levels": first, "check": checked, "apply": second, "check_untouched": again,
        }.items():  # fmt: skip
            report.figures[f"{name}_rows_per_s"] = found.rows / seconds
            report.figures[f"{name}_s"] = seconds
            report.figures[f"{name}_client_cpu_us_per_row"] = cpu / found.rows * 1e6
        both = rows / (checked[1] + second[1])
        report.figures["check_and_apply_rows_per_s"] = both
        report.figures["before_mib"] = before
        report.figures["peak_mib"] = max(one[3] for one in (first, checked, second, again))
        report.figures["file_kib"] = count.stat().st_size / 1024
        report.at_least(
            10, "apply, with ledger, news and error report", rows / second[1], 20_000, 50_000, "rows/s"
        )
        report.at_least(10, "check and apply together", both, 20_000, 50_000, "rows/s")
        grown = float(report.figures["peak_mib"] or 0) - before
        report.at_most(10, "memory that the work takes beside the process", grown, 150, 150, "MiB")
        if alone:
            report.figures["anchor_rows_per_s"] = rows / alone
            report.figures["apply_share_of_anchor"] = alone / second[1]
        report.equal("rows of the first file that were refused", first[0].counts["errors"], 0)
        report.equal("rows wrong", second[0].counts["errors"], wrong)
        report.equal("rows told in errors.csv", len(errors.read_text("utf-8-sig").splitlines()) - 1, wrong)
        report.equal("changes of the untouched file", again[0].counts["change"], 0)
    report.equal("ledger rows", StockMovement.objects.count(), rows + rows - wrong)
    total = StockLevel.objects.aggregate(sum=models.Sum("on_hand"))["sum"]
    ledger = StockMovement.objects.aggregate(sum=models.Sum("quantity"))["sum"]
    report.equal("units in the ledger", ledger, total)
    report.check_invariants()
    report.notes.append(
        "Apply reads the file, looks every code up, locks, decides, writes levels, ledger and news, and writes "
        "errors.csv. Check is the preview before it: the same without locks and writes. `before_mib` is the resident "
        "size of the Python process before the first row, `peak_mib` the largest while it works."
    )


def anchor(rows: int) -> float:
    """Seconds in which the database alone writes as many rows into copies of the same tables with the same indexes:
    no file, no look-up, no decision, no Python per row."""
    tables = ("inventory_stocklevel", "inventory_stockmovement", "core_outboxevent")
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"CREATE TABLE anchor_{table} (LIKE {table} INCLUDING ALL)")
        columns = (
            "sku_id, warehouse_id, on_hand, reserved, damaged, quarantine, inspection, in_transit, safety, "
            "average_cost"
        )
        cursor.execute(
            f"INSERT INTO anchor_inventory_stocklevel (id, {columns})"  # noqa: S608 - names of ours
            f" SELECT id, {columns} FROM inventory_stocklevel"
        )
        cursor.execute("ANALYZE anchor_inventory_stocklevel")
        cursor.execute("SELECT array_agg(sku_id ORDER BY sku_id) FROM inventory_stocklevel")
        skus: list[int] = cursor.fetchone()[0]
        began = time.perf_counter()
        for start in range(0, rows, CHUNK):
            part = skus[start : start + CHUNK]
            with transaction.atomic():
                cursor.execute(
                    "UPDATE anchor_inventory_stocklevel SET on_hand = on_hand + 1 WHERE sku_id = ANY(%s)",
                    [part],
                )
                cursor.execute(
                    "INSERT INTO anchor_inventory_stockmovement (id, sku_id, warehouse_id, bucket, quantity, balance,"
                    " kind, reason, reference, actor, note, unit_cost, average_cost, occurred_at, created_at, key)"
                    " SELECT id, id, 1, 'on_hand', 1, 5, 'count', 'count', 'count.csv', 'task:bench', '', 4, 0,"
                    " now(), now(), 'import:000000000000000000000000:' || id FROM unnest(%s::bigint[]) AS t (id)",
                    [part],
                )
                cursor.execute(
                    "INSERT INTO anchor_core_outboxevent (id, topic, key, data, created_at, attempts, error, dead)"
                    " SELECT 2 * id + n, 'stock.changed', id::text, '{}', now(), 0, '', false"
                    " FROM unnest(%s::bigint[]) AS t (id), generate_series(0, 1) n WHERE n = 0 OR id %% 2 = 0",
                    [part],
                )
        seconds = time.perf_counter() - began
        for table in tables:
            cursor.execute(f"DROP TABLE anchor_{table}")
    return seconds


def _write(path: Path, rows: int, quantity: Callable[[int], int], wrong: int) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["sku", "warehouse", "bin", "quantity", "mode", "reason", "note", "unit_cost"])
        for number in range(rows):
            units: object = quantity(number)
            if wrong and number % wrong == wrong - 1:
                units = "12 pcs"
            out.writerow([f"BENCH-{number:06}", "WH1", "", units, "set", "count", "", ""])


def _apply(path: Path, profile: Any, chosen: dict[str, Any]) -> Found:
    found = Found(profile.name)
    StockFile(path, profile, chosen).write(
        found, actor=world.ACTOR, prefix=service.key_prefix(path.stem.ljust(24, "0")), reference=path.name
    )
    return found


def _measured(work: Callable[[], Found]) -> tuple[Found, float, float, float]:
    """What `work` found, seconds, CPU seconds of this process, and its highest resident size (MiB) meanwhile."""
    highest, ended = [_resident()], threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            highest[0] = max(highest[0], _resident())

    watcher = threading.Thread(target=look)
    watcher.start()
    began, cpu = time.perf_counter(), time.process_time()
    try:
        found = work()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    finally:
        ended.set()
        watcher.join()
    return found, seconds, cpu, max(highest[0], _resident())


def _resident() -> float:
    """Resident MiB of this process; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
