"""Many workers, few units: exactly sold out, never oversold, never a deadlock. And without the guard: oversold.

Every worker is a process with a connection of its own and reserves one order per transaction through the same
function as intake, routing and the API. SQLite has one writer at a time, so four workers and fewer orders say as much.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Sum

from inventory import kits, locking, reservations
from inventory.models import Product, Reservation, Sku, StockLevel, StockMovement, Warehouse
from inventory.reservations import ReserveLine
from oms.control.benches import team, world
from oms.control.benches.flash import deadlocks
from oms.control.benches.report import Report
from oms.core.db import on_postgres

#: an order: (SKU id, units) per line
Wanted = Sequence[tuple[int, int]]
CONTROLS = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the workers of one scene found together."""

    seconds: float
    short: int
    errors: list[str]
    repeated: float
    waits: list[float]

    def percentile(self, share: float) -> float:
        return sorted(self.waits)[min(len(self.waits) - 1, int(len(self.waits) * share))] * 1000


def environment(options: dict[str, Any]) -> dict[str, str]:
    """What the child process needs beyond its database."""
    return {}


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Target 4 of the stock floor: hot SKU, five-line orders, kits with a shared component, negative control."""
    workers = 16 if on_postgres() else 4
    quick, postgres = options["quick"], on_postgres()
    hot = 200 if quick else 10_000 if postgres else 2_000
    mixed = 64 if quick else 1_600 if postgres else 400
    places = world.warehouses(2)
    report.size = {"workers": workers, "hot_orders": hot, "five_line_orders": mixed, "kit_orders": mixed}
    say(f"{hot} orders for {hot // 20} units")
    _hot(report, workers, hot, places[:1])
    say(f"{mixed} five-line orders over six hot SKUs")
    _mixed(report, workers, mixed, places)
    say(f"{mixed} orders of two kits that share a component")
    _kits(report, workers, mixed, places[0])
    report.check_invariants()
    say("the same with the guard switched off")
    _control(report, workers, 3 if quick else CONTROLS, places[0])


def _hot(report: Report, workers: int, orders: int, places: list[Warehouse]) -> None:
    [sku] = _goods("HOT", 1, orders // 20, places)
    found = _race(report, "one hot SKU", workers, [[(sku.pk, 1)]] * orders, [places[0].pk])
    level = StockLevel.objects.get(sku=sku)
    held = Reservation.objects.filter(sku=sku).aggregate(sum=Sum("quantity"))["sum"]
    ledger = StockMovement.objects.filter(sku=sku, bucket="reserved").aggregate(sum=Sum("quantity"))["sum"]
    report.equal(
        "one hot SKU: reserved (counter, promises, ledger)",
        (level.reserved, held, ledger),
        (orders // 20,) * 3,
    )
    report.equal("one hot SKU: orders left short", found.short, orders - orders // 20)
    report.equal("one hot SKU: oversold", max(0, level.reserved - level.on_hand), 0)
    report.figures |= {"hot_p50_ms": found.percentile(0.5), "hot_p99_ms": found.percentile(0.99)}


def _mixed(report: Report, workers: int, orders: int, places: list[Warehouse]) -> None:
    goods = _goods("MIX", 6, orders // 4, places)
    chance = random.Random(7)
    wanted = [
        [(sku.pk, chance.randint(1, 2)) for sku in chance.sample(goods, 5)] for _ in range(orders)
    ]  # lines in any order: the service sorts them, not the caller
    found = _race(report, "five-line orders", workers, wanted, [place.pk for place in places])
    levels = StockLevel.objects.filter(sku__in=goods)
    report.equal("five-line orders: levels oversold", sum(1 for one in levels if one.available < 0), 0)
    # orders ask for about five times what there is, so every unit is promised
    report.equal("five-line orders: units left over", sum(one.available for one in levels), 0)
    report.figures |= {"five_line_p50_ms": found.percentile(0.5), "five_line_p99_ms": found.percentile(0.99)}


def _kits(report: Report, workers: int, orders: int, place: Warehouse) -> None:
    shared, left, right = _goods("PART", 3, orders, [place])
    _take_away(shared, place, orders - orders // 2)
    product = Product.objects.create(title="Kit")
    first, second = (Sku.objects.create(product=product, code=f"KIT-{n}", kind=Sku.Kind.KIT) for n in (1, 2))
    kits.set_components(first.pk, {shared.pk: 2, left.pk: 1}, actor=world.ACTOR)
    kits.set_components(second.pk, {shared.pk: 1, right.pk: 1}, actor=world.ACTOR)
    wanted = [[((first, second)[n % 2].pk, 1)] for n in range(orders)]
    found = _race(report, "kits", workers, wanted, [place.pk])
    held = {
        sku.pk: Reservation.objects.filter(sku=sku).aggregate(sum=Sum("quantity"))["sum"] or 0
        for sku in (shared, left, right)
    }
    report.equal("kits: shared component promised", held[shared.pk], orders // 2)
    report.equal("kits: shared = 2 × first + second", held[left.pk] * 2 + held[right.pk], held[shared.pk])
    report.equal("kits: orders served", orders - found.short, held[left.pk] + held[right.pk])


def _control(report: Report, workers: int, runs: int, place: Warehouse) -> None:
    """Read, decide, write, without condition and constraint: what every system does that oversells."""
    with connection.cursor() as cursor:
        if on_postgres():
            for name in ("stock_promised_within_on_hand", "stock_reserved_not_negative"):
                cursor.execute(f"ALTER TABLE inventory_stocklevel DROP CONSTRAINT {name}")
        else:
            cursor.execute("PRAGMA ignore_check_constraints = 1")
    oversold = 0
    for number in range(runs):
        [sku] = _goods(f"CONTROL-{number}", 1, 5, [place])
        _race(None, "control", workers, [[(sku.pk, 1)]] * (workers * 4), [place.pk], guarded=False)
        level = StockLevel.objects.get(sku=sku)
        oversold += level.reserved > level.on_hand
    report.figures["control_runs"], report.figures["control_runs_oversold"] = runs, oversold
    if on_postgres():
        least = -(-runs * 9 // 10)
        report.equal(f"without the guard at least {least} of {runs} runs oversell", oversold >= least, True)
    else:
        report.notes.append(
            "On SQLite writers are serial, so the control cannot oversell: the lock is the guard there."
        )


def _goods(name: str, count: int, units: int, places: Sequence[Warehouse]) -> list[Sku]:
    made = world.skus(count, units, places)
    for sku in made:
        sku.code = f"{name}-{sku.pk}"
    Sku.objects.bulk_update(made, ["code"])
    return made


def _take_away(sku: Sku, place: Warehouse, units: int) -> None:
    from inventory.operations import adjust

    adjust(
        sku_id=sku.pk,
        warehouse_id=place.pk,
        quantity=-units,
        reason="correction",
        actor=world.ACTOR,
        key=f"t{sku.pk}",
    )


def _race(
    report: Report | None, name: str, workers: int, orders: Sequence[Wanted], places: Sequence[int], *,
    guarded: bool = True,
) -> Outcome:  # fmt: skip
    before = deadlocks()
    jobs = [(orders[n::workers], f"{name}-{n}", places, guarded) for n in range(workers)]
    found, seconds = team.race(_work, jobs)
    outcome = Outcome(
        seconds,
        sum(one["short"] for one in found),
        [error for one in found for error in one["errors"]],
        sum(one["repeated"] for one in found),
        [wait for one in found for wait in one["waits"]],
    )
    if report is not None:
        report.figures[f"{name.replace(' ', '_').replace('-', '_')}_orders_per_s"] = len(orders) / seconds
        report.equal(f"{name}: errors", outcome.errors[:3], [])
        report.figures[f"{name.replace(' ', '_').replace('-', '_')}_repeated_transactions"] = int(
            outcome.repeated
        )
        if on_postgres():
            report.equal(f"{name}: deadlocks", deadlocks() - before, 0)
    return outcome


def _work(
    orders: Sequence[Wanted], name: str, places: Sequence[int], guarded: bool, barrier: Any, answers: Any
) -> None:
    """One process of buyers."""
    from oms.core.metrics import CONFLICTS

    if not guarded:
        locking.GUARD = "TRUE"
        if not on_postgres():
            connection.cursor().execute("PRAGMA ignore_check_constraints = 1")
    place = locking.stock_service(reservations.reserve)
    connection.ensure_connection()
    repeated, short = CONFLICTS._value.get(), 0
    errors: list[str] = []
    waits: list[float] = []
    barrier.wait(60)
    for number, wanted in enumerate(orders):
        began = time.perf_counter()
        try:
            lines = [ReserveLine(f"{name}-{number}", sku, units, tuple(places)) for sku, units in wanted]
            short += sum(result.short for result in place(lines, actor=world.ACTOR))
        except Exception as error:  # told to the parent, which judges it
            errors.append(f"{type(error).__name__}: {error}"[:200])
        waits.append(time.perf_counter() - began)
    connection.close()
    answers.put(
        {"short": short, "errors": errors, "repeated": CONFLICTS._value.get() - repeated, "waits": waits}
    )
