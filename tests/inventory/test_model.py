"""Random histories against a plain model of stock: every figure must agree and every invariant hold, step by step.

LADING_MODEL_EXAMPLES and LADING_MODEL_STEPS raise the size of the search.
"""

from __future__ import annotations

import datetime as dt
import os
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from inventory import operations, reservations, transfers
from inventory.ledger import InsufficientStock
from inventory.models import Reservation, StockLevel, StockMovement
from inventory.operations import PoolFigure, PurchasedGoods
from inventory.reservations import ReserveLine
from oms.core import invariants
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from tests.factories import make_kit, make_sku, make_warehouse

EXAMPLES = int(os.environ.get("LADING_MODEL_EXAMPLES", "30"))
STEPS = int(os.environ.get("LADING_MODEL_STEPS", "30"))
#: those about stock; upper floors have their own tests
CHECKED = ("S1", "S2", "S3", "S7", "S9", "S10", "S13", "S14")

few = st.integers(1, 6)
goods = st.integers(0, 2)
places = st.integers(0, 1)


class Book(Counter):  # type: ignore[type-arg]
    """(sku, warehouse, bucket) → units, the way a careful clerk would keep it."""

    def available(self, sku: int, place: int) -> int:
        return self[sku, place, "on_hand"] - sum(
            self[sku, place, bucket] for bucket in ("reserved", "damaged", "quarantine", "inspection")
        )


class Stock(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.book = Book()
        self.held: dict[int, list[Any]] = {}  # reservation id → [sku, place, units]
        self.travelling: dict[int, list[int]] = {}  # transfer id → [sku, from, to, open units]
        self.keys = 0

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    @initialize(
        opening=st.lists(st.integers(0, 14), min_size=6, max_size=6), promises=st.lists(goods, max_size=4)
    )
    def set_up(self, opening: list[int], promises: list[int]) -> None:
        self.skus = [make_sku() for _ in range(3)]
        self.warehouses = [make_warehouse(), make_warehouse()]
        self.pool = make_warehouse(kind="fba")
        # both kits share the first SKU
        self.kits = [
            (make_kit(f"K1-{self.skus[0].pk}", {self.skus[0]: 2, self.skus[1]: 1}), ((0, 2), (1, 1))),
            (make_kit(f"K2-{self.skus[0].pk}", {self.skus[0]: 1, self.skus[2]: 1}), ((0, 1), (2, 1))),
        ]
        # a story begins in the middle: shelves are filled and some units promised
        for number, units in enumerate(opening):
            if units:
                self.receive(number % 3, number // 3, units, 0, 0, False)
        if promises:
            self.reserve([(sku, 4) for sku in promises], [0, 1], True)

    def key(self) -> str:
        self.keys += 1
        return f"model:{self.skus[0].pk}:{self.keys}"

    # --- goods in ---------------------------------------------------------------------------------

    @rule(
        sku=goods,
        place=places,
        good=few,
        damaged=st.integers(0, 2),
        quarantine=st.integers(0, 2),
        twice=st.booleans(),
    )
    def receive(self, sku: int, place: int, good: int, damaged: int, quarantine: int, twice: bool) -> None:
        item = PurchasedGoods(
            self.skus[sku].pk, self.warehouses[place].pk, good, unit_cost=Decimal(good) / 4, key=self.key(),
            damaged=damaged, quarantine=quarantine,
        )  # fmt: skip
        for _ in range(1 + twice):  # a delivery told twice counts once
            operations.receive_purchase([item], reference="PO-0", actor=SYSTEM)
        self.book[sku, place, "on_hand"] += good + damaged + quarantine
        self.book[sku, place, "damaged"] += damaged
        self.book[sku, place, "quarantine"] += quarantine

    @rule(sku=goods, sellable=st.integers(0, 9), damaged=st.integers(0, 3), late=st.booleans())
    def snapshot(self, sku: int, sellable: int, damaged: int, late: bool) -> None:
        taken = now() - dt.timedelta(days=400) if late else now()
        newest = (
            StockLevel.objects.filter(sku=self.skus[sku], warehouse=self.pool)
            .exclude(snapshot_at=None)
            .exists()
        )
        result = operations.apply_pool_snapshot(
            warehouse_id=self.pool.pk, figures=[PoolFigure(self.skus[sku].pk, sellable, damaged)], taken_at=taken,
            actor=SYSTEM, key=self.key(),
        )  # fmt: skip
        if late and newest and result.stale:
            return
        self.book[sku, 2, "on_hand"] = sellable + damaged
        self.book[sku, 2, "damaged"] = damaged

    # --- promises ---------------------------------------------------------------------------------

    @rule(
        wishes=st.lists(st.tuples(st.integers(0, 4), few), min_size=1, max_size=3),
        order=st.permutations([0, 1]),
        split=st.booleans(),
    )
    def reserve(self, wishes: list[tuple[int, int]], order: list[int], split: bool) -> None:
        """Wishes 0–2 are SKUs, 3 and 4 kits; the marketplace's pool is always offered and never used."""
        lines, contents = [], []
        for number, (what, units) in enumerate(wishes):
            sku, parts = (self.skus[what], ((what, 1),)) if what < 3 else self.kits[what - 3]
            ids = (self.pool.pk, *(self.warehouses[place].pk for place in order))
            lines.append(ReserveLine(f"W{number}", sku.pk, units, ids, allow_split=split))
            contents.append(parts)
        results = reservations.reserve(lines, actor=SYSTEM)
        for (_, units), parts, result in zip(wishes, contents, results, strict=True):
            assert result.reserved + result.short == units
            whole = [min(self.book.available(sku, place) // each for sku, each in parts) for place in order]
            expected = min(units, sum(max(0, w) for w in whole) if split else max(0, *whole))
            assert result.reserved == expected
            taken: Counter[tuple[int, int]] = Counter()
            for part in result.parts:
                sku = [s.pk for s in self.skus].index(part.sku_id)
                place = [w.pk for w in self.warehouses].index(part.warehouse_id)
                taken[sku, place] += part.quantity
                self.book[sku, place, "reserved"] += part.quantity
                self.held[part.reservation_id] = [sku, place, part.quantity]
            per_sku: Counter[int] = Counter()
            for (sku, _), quantity in taken.items():
                per_sku[sku] += quantity
            assert per_sku == Counter({sku: each * expected for sku, each in parts if expected})

    def one(self, data: Any) -> int:
        return data.draw(st.sampled_from(sorted(self.held)))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), units=few)
    def release(self, data: Any, units: int) -> None:
        pk = self.one(data)
        sku, place, held = self.held[pk]
        if units > held:
            with pytest.raises(Conflict):
                reservations.release({pk: units}, actor=SYSTEM, reason="model")
            return
        assert reservations.release({pk: units}, actor=SYSTEM, reason="model") == {pk: units}
        self.give(pk, units)

    def give(self, pk: int, units: int) -> None:
        sku, place, held = self.held[pk]
        self.book[sku, place, "reserved"] -= units
        self.held[pk][2] -= units
        if held == units:
            del self.held[pk]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), units=few, twice=st.booleans())
    def ship(self, data: Any, units: int, twice: bool) -> None:
        pk = self.one(data)
        sku, place, held = self.held[pk]
        units, key = min(units, held), self.key()
        for _ in range(1 + twice):
            reservations.consume({pk: units}, actor=SYSTEM, reference="MODEL", key=key)
        self.book[sku, place, "on_hand"] -= units
        self.give(pk, units)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), units=few)
    def move(self, data: Any, units: int) -> None:
        pk = self.one(data)
        sku, place, held = self.held[pk]
        units, target = min(units, held), 1 - place
        if self.book.available(sku, target) < units:
            with pytest.raises(InsufficientStock):
                reservations.move(pk, warehouse_id=self.warehouses[target].pk, quantity=units, actor=SYSTEM)
            return
        moved = reservations.move(pk, warehouse_id=self.warehouses[target].pk, quantity=units, actor=SYSTEM)
        self.give(pk, units)
        self.held[moved.pk] = [sku, target, units]
        self.book[sku, target, "reserved"] += units

    # --- people -----------------------------------------------------------------------------------

    @rule(sku=goods, place=places, units=st.sampled_from([-9, -5, -3, -1, 1, 2, 6]), twice=st.booleans())
    def adjust(self, sku: int, place: int, units: int, twice: bool) -> None:
        values = {
            "sku_id": self.skus[sku].pk, "warehouse_id": self.warehouses[place].pk, "quantity": units,
            "reason": "count", "actor": SYSTEM, "key": self.key(),
        }  # fmt: skip
        self.shrink(sku, place, -units, lambda: operations.adjust(**values), twice)
        if self.allowed:
            self.book[sku, place, "on_hand"] += units

    @rule(
        sku=goods, place=places, units=few,
        path=st.sampled_from([("sellable", "damaged"), ("sellable", "inspection"), ("damaged", "sellable"),
                              ("quarantine", "sellable"), ("quarantine", "inspection"), ("inspection", "damaged")]),
    )  # fmt: skip
    def state(self, sku: int, place: int, units: int, path: tuple[str, str]) -> None:
        source, target = path
        values = {
            "sku_id": self.skus[sku].pk, "warehouse_id": self.warehouses[place].pk, "quantity": units, "source": source,
            "target": target, "reason": "model", "actor": SYSTEM, "key": self.key(),
        }  # fmt: skip
        if source != "sellable" and self.book[sku, place, source] < units:
            with pytest.raises(InsufficientStock):
                operations.change_state(**values)
            return
        self.shrink(
            sku, place, units if source == "sellable" else 0, lambda: operations.change_state(**values), True
        )
        if self.allowed:
            for bucket, change in ((source, -units), (target, units)):
                if bucket != "sellable":
                    self.book[sku, place, bucket] += change

    def shrink(self, sku: int, place: int, taken: int, work: Any, twice: bool) -> None:
        """Promises give way, the newest first, but only as many as are missing."""
        promised = self.book[sku, place, "reserved"]
        self.allowed = taken <= self.book.available(sku, place) + promised
        if not self.allowed:
            with pytest.raises((InsufficientStock, UserError)):
                work()
            return
        missing = max(0, taken - self.book.available(sku, place))
        lost = work().lost
        if twice:
            assert work().lost == {}
        assert sum(lost.values()) == missing
        expected, left = {}, missing
        for pk in sorted((pk for pk, row in self.held.items() if row[:2] == [sku, place]), reverse=True):
            if left:
                expected[pk] = min(left, self.held[pk][2])
                left -= expected[pk]
        assert lost == expected
        for pk, units in lost.items():
            self.give(pk, units)

    # --- transfers --------------------------------------------------------------------------------

    @rule(sku=goods, source=places, units=few)
    def send(self, sku: int, source: int, units: int) -> None:
        transfer = transfers.request_transfer(
            source_id=self.warehouses[source].pk, destination_id=self.warehouses[1 - source].pk,
            lines={self.skus[sku].pk: units}, actor=SYSTEM,
        )  # fmt: skip
        if self.book.available(sku, source) < units:
            with pytest.raises(InsufficientStock):
                transfers.ship_transfer(transfer.pk, actor=SYSTEM)
            return
        transfers.ship_transfer(transfer.pk, actor=SYSTEM)
        self.book[sku, source, "on_hand"] -= units
        self.book[sku, 1 - source, "in_transit"] += units
        self.travelling[transfer.pk] = [sku, 1 - source, units]

    @precondition(lambda self: self.travelling)
    @rule(data=st.data(), units=few, lost=st.booleans())
    def arrive(self, data: Any, units: int, lost: bool) -> None:
        pk = data.draw(st.sampled_from(sorted(self.travelling)))
        sku, place, left = self.travelling[pk]
        units, key = min(units, left), self.key()
        for _ in range(2):
            if lost:
                transfers.settle_transfer(
                    pk, {self.skus[sku].pk: units}, reason="lost", actor=SYSTEM, key=key
                )
            else:
                transfers.receive_transfer(pk, {self.skus[sku].pk: units}, actor=SYSTEM, key=key)
        self.book[sku, place, "in_transit"] -= units
        self.book[sku, place, "on_hand"] += 0 if lost else units
        self.travelling[pk][2] -= units
        if left == units:
            del self.travelling[pk]

    # --- always -----------------------------------------------------------------------------------

    @invariant()
    def figures_agree(self) -> None:
        if not hasattr(self, "skus"):
            return
        numbers = {sku.pk: n for n, sku in enumerate(self.skus)}
        homes = {warehouse.pk: n for n, warehouse in enumerate([*self.warehouses, self.pool])}
        stored: Counter[tuple[int, int, str]] = Counter()
        for level in StockLevel.objects.filter(sku__in=numbers):
            for bucket in ("on_hand", "reserved", "damaged", "quarantine", "inspection", "in_transit"):
                stored[numbers[level.sku_id], homes[level.warehouse_id], bucket] = getattr(level, bucket)
        assert +stored == +self.book
        open_rows = Reservation.objects.filter(state="open", sku__in=numbers)
        assert {row.pk: row.quantity for row in open_rows} == {pk: row[2] for pk, row in self.held.items()}

    @invariant()
    def invariants_hold(self) -> None:
        failures = [f"{r.invariant.id}: {row}" for r in invariants.run(CHECKED) for row in r.failures]
        assert not failures, failures


@pytest.mark.django_db
def test_random_histories_agree_with_the_model() -> None:
    run_state_machine_as_test(
        Stock,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=EXAMPLES <= 30,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
    assert not StockMovement.objects.exists()  # every history was taken back
