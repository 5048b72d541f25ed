"""Any order of everything that happens to stock, against a plain model of it, with every invariant after each step.

The model below is written from the rules alone and shares no code with the product: a dictionary of levels, a
dictionary of promises, and a few loops. Where product and model differ, Hypothesis shows the shortest story.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from inventory import asof, merging, operations, reservations, transfers, valuation
from inventory.ledger import Movement, post_movements
from inventory.models import Bin, Lot, PoolPolicy
from inventory.reservations import ReserveLine
from oms.core import invariants
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from tests.factories import make_kit, make_sku, make_warehouse

pytestmark = pytest.mark.django_db

#: this floor's own; those of the floors above look at tables that no step here touches
CHECKED = [
    entry.id for entry in invariants.all_invariants() if entry.check.__module__ == "inventory.invariants"
]
FOUR = Decimal("0.0001")
#: the full run belongs to CI, where nothing may be skipped; a quick look suffices at a desk
EXAMPLES = 200 if os.environ.get("OMS_NO_SKIP") == "1" else 20
STANDARD = Decimal("1.5000")
T0 = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
UNFIT = ("damaged", "quarantine", "inspection")

_keys = itertools.count(1)
WORLD = SimpleNamespace()


@dataclass
class Level:
    on_hand: int = 0
    reserved: int = 0
    damaged: int = 0
    quarantine: int = 0
    inspection: int = 0
    in_transit: int = 0
    average: Decimal = Decimal(0)

    #: (units, value) of each arrival, oldest first, where the SKU is valued first in, first out
    layers: list[tuple[int, Decimal]] | None = None

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved - self.damaged - self.quarantine - self.inspection

    @property
    def value(self) -> Decimal:
        if self.layers is None:
            return self.on_hand * self.average
        return sum((value for _, value in self.layers), Decimal(0))

    def comes_in(self, units: int, cost: Decimal | None = None) -> None:
        """Goods with a cost of their own move the average; without one they count at the average."""
        if self.layers is not None:
            self.layers.append((units, units * (cost if cost is not None else self.average or STANDARD)))
        elif cost is not None:
            worth = self.on_hand * self.average + units * cost
            self.average = (worth / (self.on_hand + units)).quantize(FOUR, ROUND_HALF_UP)
        self.on_hand += units
        self._even_out()

    def goes_out(self, units: int) -> Decimal:
        """Returns the cost per unit of what went."""
        self.on_hand -= units
        if self.layers is None:
            return self.average or STANDARD
        out, cost = units, Decimal(0)
        while out:
            there, value = self.layers.pop(0)
            taken = min(out, there)
            part = value if taken == there else (value * taken / there).quantize(FOUR, ROUND_HALF_UP)
            if taken < there:
                self.layers.insert(0, (there - taken, value - part))
            out, cost = out - taken, cost + part
        self._even_out()
        return (cost / units).quantize(FOUR, ROUND_HALF_UP)

    def changes(self, units: int) -> None:
        if units > 0:
            self.comes_in(units)
        elif units < 0:
            self.goes_out(-units)

    def _even_out(self) -> None:
        if self.layers:
            self.average = (self.value / self.on_hand).quantize(FOUR, ROUND_HALF_UP)

    def figures(self) -> tuple[Any, ...]:
        return (
            self.on_hand, self.reserved, self.damaged, self.quarantine, self.inspection, self.in_transit,
            self.average,
        )  # fmt: skip


@dataclass
class Promise:
    sku: str
    place: str
    quantity: int
    day: int | None
    expires: bool
    touched: bool = False
    firm: bool = False


@dataclass
class Trip:
    """A transfer: units still in transit by SKU."""

    source: str
    target: str
    wanted: dict[str, int]
    state: str = "requested"
    open: dict[str, int] = field(default_factory=dict)
    costs: dict[str, Decimal] = field(default_factory=dict)


PLACES = ("east", "west")
EVERYWHERE = (*PLACES, "pool")
COUNTED = ("cup", "tea", "pot", "old")
KITS = {
    "set": {"cup": 2, "tea": 1},
    "gift": {"cup": 3, "tea": 1, "pot": 1},
}  # a gift is a set, a cup and a pot

sku_names = st.sampled_from(COUNTED)
place_names = st.sampled_from(PLACES)
small = st.integers(1, 6)
which = st.integers(0, 60)
costs = st.sampled_from([Decimal("1.0000"), Decimal("2.5000"), Decimal("3.3333"), Decimal("10.0001")])


@pytest.fixture
def world() -> Iterator[SimpleNamespace]:
    WORLD.skus = {name: make_sku(name.upper(), unit_cost=STANDARD) for name in COUNTED}
    valuation.set_method(WORLD.skus["tea"].pk, "fifo", actor=SYSTEM)
    WORLD.skus["set"] = make_kit("SET", {WORLD.skus["cup"]: 2, WORLD.skus["tea"]: 1})
    WORLD.skus["gift"] = make_kit("GIFT", {WORLD.skus["set"]: 1, WORLD.skus["cup"]: 1, WORLD.skus["pot"]: 1})
    WORLD.places = {name: make_warehouse(name.upper()) for name in PLACES}
    WORLD.places["pool"] = make_warehouse("POOL", kind="3pl")
    PoolPolicy.objects.create(warehouse=WORLD.places["pool"], accept_units=5)
    WORLD.bins = {
        name: [
            Bin.objects.create(warehouse=WORLD.places[name], code=f"A{n}", pick_sequence=n) for n in (1, 2)
        ]
        for name in PLACES
    }
    WORLD.lots = [Lot.objects.create(sku=WORLD.skus["tea"], code=f"L{n}") for n in (1, 2)]
    yield WORLD


class StockMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.step = transaction.atomic()
        self.step.__enter__()
        self.levels = {
            (sku, place): Level(layers=[] if sku == "tea" else None)
            for sku in COUNTED
            for place in EVERYWHERE
        }
        self.promises: dict[int, Promise] = {}
        self.trips: dict[int, Trip] = {}
        self.counts: list[tuple[dt.datetime, dict[tuple[str, str], int]]] = []
        self.moments: list[tuple[dt.datetime, dict[tuple[str, str], tuple[int, int, Decimal]]]] = []
        self.merged = False
        self.moved_in_pool: set[str] = set()
        self.again: Any = None
        self.names = {WORLD.skus[name].pk: name for name in WORLD.skus}
        self.place_names = {WORLD.places[name].pk: name for name in EVERYWHERE}
        for sku in COUNTED:
            self._receive(sku, "east", 5, 0, 0, Decimal("2.0000"), None, None)

    def teardown(self) -> None:
        try:
            self._look_back()
        finally:
            transaction.set_rollback(True)
            self.step.__exit__(None, None, None)

    # --- goods come, go and change ------------------------------------------------------------

    def _receive(
        self,
        sku: str,
        place: str,
        good: int,
        damaged: int,
        quarantine: int,
        cost: Decimal,
        lot: Any,
        bin_: Any,
    ) -> None:
        goods = operations.PurchasedGoods(
            sku_id=WORLD.skus[sku].pk, warehouse_id=WORLD.places[place].pk, good=good, damaged=damaged,
            quarantine=quarantine, unit_cost=cost, key=f"rc{next(_keys)}", lot_id=lot, bin_id=bin_,
        )  # fmt: skip
        self.again = lambda: operations.receive_purchase([goods], reference="PO-1", actor=SYSTEM)
        self.again()
        level = self.levels[sku, place]
        level.comes_in(good + damaged + quarantine, cost)
        level.damaged += damaged
        level.quarantine += quarantine

    @rule(
        sku=sku_names,
        place=place_names,
        good=small,
        bad=st.sampled_from([(0, 0), (1, 0), (0, 2)]),
        cost=costs,
    )
    def receive(self, sku: str, place: str, good: int, bad: tuple[int, int], cost: Decimal) -> None:
        self._receive(self._live(sku), place, good, *bad, cost, None, None)

    @rule(place=place_names, units=small, lot=st.integers(0, 1), shelf=st.integers(0, 1), cost=costs)
    def receive_lot(self, place: str, units: int, lot: int, shelf: int, cost: Decimal) -> None:
        self._receive("tea", place, units, 0, 0, cost, WORLD.lots[lot].pk, WORLD.bins[place][shelf].pk)

    @rule(sku=sku_names, place=place_names, units=st.integers(-8, 8).filter(bool))
    def adjust(self, sku: str, place: str, units: int) -> None:
        sku = self._live(sku)
        level = self.levels[sku, place]
        lost = self._give_way(sku, place, -units)
        key = f"ad{next(_keys)}"

        def work() -> operations.Adjusted:
            return operations.adjust(
                sku_id=WORLD.skus[sku].pk, warehouse_id=WORLD.places[place].pk, quantity=units, reason="found",
                actor=SYSTEM, key=key,
            )  # fmt: skip

        if lost is None:
            self._refused(work)
            return
        assert work().lost == lost
        level.changes(units)
        self.again = work

    @rule(
        sku=sku_names, place=place_names, units=small,
        ways=st.permutations(("sellable", *UNFIT)).map(lambda names: (names[0], names[1])),
    )  # fmt: skip
    def change_state(self, sku: str, place: str, units: int, ways: tuple[str, str]) -> None:
        sku = self._live(sku)
        (source, target), level = ways, self.levels[sku, place]
        key = f"st{next(_keys)}"

        def work() -> operations.Adjusted:
            return operations.change_state(
                sku_id=WORLD.skus[sku].pk, warehouse_id=WORLD.places[place].pk, quantity=units, source=source,
                target=target, reason="correction", actor=SYSTEM, key=key,
            )  # fmt: skip

        lost: dict[int, int] | None = {}
        if source == "sellable":
            lost = self._give_way(sku, place, units)
        elif getattr(level, source) < units:
            lost = None
        if lost is None:
            self._refused(work)
            return
        assert work().lost == lost
        for state, change in ((source, -units), (target, units)):
            if state != "sellable":
                setattr(level, state, getattr(level, state) + change)
        self.again = work

    @rule(sku=sku_names, place=place_names, units=small, sound=st.booleans())
    def customer_return(self, sku: str, place: str, units: int, sound: bool) -> None:
        """Arrives in quarantine; the inspector puts it on sale at what it cost, or scraps it."""
        sku = self._live(sku)
        level, key = self.levels[sku, place], f"rt{next(_keys)}"
        common = (WORLD.skus[sku].pk, WORLD.places[place].pk)
        cost = Decimal("2.2500")
        post_movements(
            [
                Movement(*common, "on_hand", units, "return", key=f"{key}:h", unit_cost=cost),
                Movement(*common, "quarantine", units, "return", key=f"{key}:q"),
            ],
            actor=SYSTEM,
        )
        level.comes_in(units, cost)
        level.quarantine += units
        decided = [Movement(*common, "quarantine", -units, "disposition", key=f"{key}:d")]
        if not sound:
            decided.append(Movement(*common, "on_hand", -units, "disposition", key=f"{key}:s"))
            level.goes_out(units)
        level.quarantine -= units
        post_movements(decided, actor=SYSTEM)

    @rule(sku=sku_names, place=place_names, units=st.integers(1, 12))
    def late_cost(self, sku: str, place: str, units: int) -> None:
        """Freight of 12.00 billed after the goods: what is still there carries its part, the rest is no stock."""
        sku = self._live(sku)
        level = self.levels[sku, place]
        part = valuation.add_cost(
            WORLD.skus[sku].pk, WORLD.places[place].pk, amount=Decimal("12.00"), units=units
        )
        there = min(level.on_hand, units)
        assert part == (Decimal(12) * there / units).quantize(Decimal("0.01"), ROUND_HALF_UP)
        if there and level.layers is None:
            level.average = (level.average + part / level.on_hand).quantize(FOUR, ROUND_HALF_UP)
        elif there and level.layers is not None:
            self._on_newest(level.layers, there, part)
            level._even_out()

    def _on_newest(self, layers: list[tuple[int, Decimal]], units: int, amount: Decimal) -> None:
        for n in reversed(range(len(layers))):
            there, value = layers[n]
            share = amount if there >= units else (amount * there / units).quantize(FOUR, ROUND_HALF_UP)
            layers[n] = (there, value + share)
            units, amount = units - min(units, there), amount - share
            if not units:
                return

    @rule()
    def look(self) -> None:
        """Somebody stands before the shelves and writes down what there is."""
        self.counts.append((now(), {pair: level.on_hand for pair, level in self.levels.items()}))

    @precondition(lambda self: self.counts)
    @rule(number=which, sku=sku_names, place=place_names, off=st.integers(-4, 4))
    def post_count(self, number: int, sku: str, place: str, off: int) -> None:
        """The count of that moment is booked now, whatever moved since."""
        at, seen = self.counts[number % len(self.counts)]
        sku = self._live(sku)
        counted = max(0, seen[sku, place] + off)
        variance = counted - seen[sku, place]
        lost = self._give_way(sku, place, -variance)

        def work() -> operations.Adjusted:
            return operations.post_count(
                sku_id=WORLD.skus[sku].pk, warehouse_id=WORLD.places[place].pk, counted=counted, counted_at=at,
                actor=SYSTEM, key=f"ct{next(_keys)}",
            )  # fmt: skip

        if lost is None:
            self._refused(work)
            return
        done = work()
        assert done.lost == lost and sum(row.quantity for row in done.rows) == variance
        self.levels[sku, place].changes(variance)

    # --- promises -----------------------------------------------------------------------------

    @rule(
        wanted=st.lists(
            st.tuples(st.sampled_from((*COUNTED, *KITS)), st.integers(1, 4)), min_size=1, max_size=3
        ),
        places=st.permutations(EVERYWHERE),
        split=st.booleans(), day=st.none() | st.integers(1, 3), expires=st.booleans(),
    )  # fmt: skip
    def reserve(
        self, wanted: list[tuple[str, int]], places: list[str], split: bool, day: int | None,
        expires: bool,
    ) -> None:  # fmt: skip
        lines = [
            ReserveLine(
                f"O{next(_keys)}", WORLD.skus[self._live(item)].pk, units, tuple(WORLD.places[p].pk for p in places),
                allow_split=split, promise_at=T0 + dt.timedelta(days=day) if day else None,
                expires_at=T0 + dt.timedelta(days=400) if expires else None,
            )
            for item, units in wanted
        ]  # fmt: skip
        results = reservations.reserve(lines, actor=SYSTEM)
        for (item, units), result in zip(wanted, results, strict=True):
            parts = KITS.get(item, {self._live(item): 1})
            takes, served = self._serve(parts, units, places, split)
            assert result.short == units - served
            found = sorted(
                (self.names[part.sku_id], self.place_names[part.warehouse_id], part.quantity)
                for part in result.parts
            )
            assert found == sorted(takes)
            for part in result.parts:
                sku, place = self.names[part.sku_id], self.place_names[part.warehouse_id]
                self.levels[sku, place].reserved += part.quantity
                self.promises[part.reservation_id] = Promise(sku, place, part.quantity, day, expires)

    def _serve(
        self, parts: dict[str, int], units: int, places: list[str], split: bool
    ) -> tuple[list[tuple[str, str, int]], int]:
        """What each place gives, and how many whole units that makes."""

        def whole(place: str) -> int:
            return min(self.levels[sku, place].available // each for sku, each in parts.items())

        for place in places:
            if whole(place) >= units:
                return [(sku, place, units * each) for sku, each in parts.items()], units
        if not split:
            best = max(places, key=whole)
            made = whole(best)
            return ([(sku, best, made * each) for sku, each in parts.items()] if made else []), made
        takes: list[tuple[str, str, int]] = []
        served = 0
        for place in places:
            made = min(units - served, whole(place))
            served += made
            takes += [(sku, place, made * each) for sku, each in parts.items()] if made else []
        return takes, served

    def _pick(self, number: int) -> tuple[int, Promise]:
        ids = sorted(self.promises)
        return ids[number % len(ids)], self.promises[ids[number % len(ids)]]

    def _less(self, pk: int, units: int) -> None:
        promise = self.promises[pk]
        promise.quantity -= units
        promise.touched = True
        self.levels[promise.sku, promise.place].reserved -= units
        if not promise.quantity:
            del self.promises[pk]

    @precondition(lambda self: self.promises)
    @rule(number=which, part=st.none() | small)
    def release(self, number: int, part: int | None) -> None:
        pk, promise = self._pick(number)
        wanted: Any = [pk] if part is None else {pk: part}
        if part is not None and part > promise.quantity:
            self._refused(lambda: reservations.release(wanted, actor=SYSTEM, reason="cancelled"))
            return
        units = promise.quantity if part is None else part
        assert reservations.release(wanted, actor=SYSTEM, reason="cancelled") == {pk: units}
        self._less(pk, units)

    @precondition(lambda self: self.promises)
    @rule(number=which, units=small)
    def consume(self, number: int, units: int) -> None:
        pk, promise = self._pick(number)
        key = f"sh{next(_keys)}"

        def work() -> dict[int, int]:
            return reservations.consume({pk: units}, actor=SYSTEM, reference="SHP-1", key=key)

        if units > promise.quantity:
            self._refused(work)
            return
        assert work() == {pk: units}
        self.levels[promise.sku, promise.place].goes_out(units)
        if promise.place == "pool":
            self.moved_in_pool.add(promise.sku)
        self._less(pk, units)
        self.again = work

    @precondition(lambda self: self.promises)
    @rule(number=which, place=st.sampled_from(EVERYWHERE), part=st.none() | small)
    def move(self, number: int, place: str, part: int | None) -> None:
        pk, promise = self._pick(number)
        units = promise.quantity if part is None else part
        there = place == promise.place

        def work() -> Any:
            return reservations.move(pk, warehouse_id=WORLD.places[place].pk, quantity=part, actor=SYSTEM)

        if units > promise.quantity or (not there and self.levels[promise.sku, place].available < units):
            self._refused(work)
            return
        held = work()
        if there:
            return
        if units == promise.quantity and not promise.touched:
            self.levels[promise.sku, promise.place].reserved -= units
            promise.place = place
        else:
            self.promises[held.pk] = replace(promise, place=place, quantity=units, touched=False)
            self._less(pk, units)
        self.levels[promise.sku, place].reserved += units

    @precondition(lambda self: self.promises)
    @rule(number=which)
    def pack(self, number: int) -> None:
        pk, promise = self._pick(number)
        reservations.set_firm([pk])
        promise.firm = True

    def _give_way(self, sku: str, place: str, taken: int) -> dict[int, int] | None:
        """Promises lost when `taken` available units go: checkouts, then the latest promise, never a packed one."""
        level = self.levels[sku, place]
        missing = taken - level.available
        if missing <= 0:
            return {}
        soft = [
            (pk, one)
            for pk, one in self.promises.items()
            if (one.sku, one.place) == (sku, place) and not one.firm
        ]
        if taken > level.available + sum(one.quantity for _, one in soft):
            return None
        soft.sort(key=lambda row: (not row[1].expires, -(99 if row[1].day is None else row[1].day), -row[0]))
        lost = {}
        for pk, one in soft:
            if missing > 0:
                lost[pk] = min(missing, one.quantity)
                missing -= lost[pk]
        for pk, units in lost.items():
            self._less(pk, units)
        return lost

    # --- between places -----------------------------------------------------------------------

    @rule(skus=st.sets(sku_names, min_size=1, max_size=2), to=st.sampled_from(("west", "pool")), units=small)
    def ask_transfer(self, skus: set[str], to: str, units: int) -> None:
        wanted = {self._live(sku): units for sku in skus}
        made = transfers.request_transfer(
            source_id=WORLD.places["east"].pk, destination_id=WORLD.places[to].pk,
            lines={WORLD.skus[sku].pk: n for sku, n in wanted.items()}, actor=SYSTEM,
        )  # fmt: skip
        self.trips[made.pk] = Trip("east", to, wanted)

    def _trip(self, number: int, *states: str) -> tuple[int, Trip] | None:
        open_trips = [pk for pk, trip in sorted(self.trips.items()) if trip.state in states]
        return (pk := open_trips[number % len(open_trips)], self.trips[pk]) if open_trips else None

    @precondition(lambda self: self.trips)
    @rule(number=which, cancel=st.booleans())
    def ship_transfer(self, number: int, cancel: bool) -> None:
        found = self._trip(number, "requested")
        if found is None:
            return
        pk, trip = found
        if cancel:
            transfers.cancel_transfer(pk, actor=SYSTEM)
            trip.state = "cancelled"
            return
        sources = {sku: self.levels[sku, trip.source] for sku in trip.wanted}
        if any(sources[sku].available < units for sku, units in trip.wanted.items()):
            self._refused(lambda: transfers.ship_transfer(pk, actor=SYSTEM))
            return
        transfers.ship_transfer(pk, actor=SYSTEM)
        for sku, units in trip.wanted.items():
            trip.costs[sku] = sources[sku].goes_out(units)
            self.levels[sku, trip.target].in_transit += units
        trip.open, trip.state = dict(trip.wanted), "shipped"
        self.again = lambda: transfers.ship_transfer(pk, actor=SYSTEM)

    @precondition(lambda self: self.trips)
    @rule(number=which, part=small, lost=st.booleans())
    def receive_transfer(self, number: int, part: int, lost: bool) -> None:
        found = self._trip(number, "shipped")
        if found is None:
            return
        pk, trip = found
        sku = next(name for name, units in sorted(trip.open.items()) if units)
        units = min(part, trip.open[sku])
        wanted, key = {WORLD.skus[sku].pk: units}, f"tr{next(_keys)}"
        if lost:
            transfers.settle_transfer(pk, wanted, reason="lost", actor=SYSTEM, key=key)
        else:
            self.again = lambda: transfers.receive_transfer(pk, wanted, actor=SYSTEM, key=key)
            self.again()
            self.levels[sku, trip.target].comes_in(units, trip.costs[sku])
            if trip.target == "pool":
                self.moved_in_pool.add(sku)
        self.levels[sku, trip.target].in_transit -= units
        trip.open[sku] -= units
        if not any(trip.open.values()):
            trip.state = "received"

    @rule(sku=sku_names, sellable=st.integers(0, 9), damaged=st.integers(0, 2), stale=st.booleans())
    def snapshot(self, sku: str, sellable: int, damaged: int, stale: bool) -> None:
        """The 3PL says what it holds; a report from the past never overwrites."""
        sku = self._live(sku)
        level = self.levels[sku, "pool"]
        at = T0 - dt.timedelta(days=4000) if stale else now()
        before = self._copy_promises()
        fall = level.on_hand - level.damaged - level.inspection - level.quarantine - sellable
        lost = self._give_way(sku, "pool", fall) if fall > 0 else {}
        try:
            with transaction.atomic():
                result = self._snapshot(sku, sellable, damaged, at)
        except Conflict:
            assert lost is None
            return
        if not result.changed:
            # kept for a person to decide, explained by what is under way, or older than our books
            assert result.lost == {}
            self._restore_promises(before)
            return
        assert not (stale and sku in self.moved_in_pool)
        assert result.lost == lost
        level.changes(sellable + damaged + level.quarantine - level.on_hand)
        level.damaged, level.inspection = damaged, 0
        if not stale:
            self.moved_in_pool.add(sku)

    def _copy_promises(self) -> Any:
        return {pk: replace(one) for pk, one in self.promises.items()}, {
            pair: level.reserved for pair, level in self.levels.items()
        }

    def _restore_promises(self, kept: Any) -> None:
        self.promises, reserved = kept
        for pair, units in reserved.items():
            self.levels[pair].reserved = units

    def _snapshot(self, sku: str, sellable: int, damaged: int, at: dt.datetime) -> operations.SnapshotResult:
        return operations.apply_pool_snapshot(
            warehouse_id=WORLD.places["pool"].pk,
            figures=[operations.PoolFigure(WORLD.skus[sku].pk, sellable, damaged)],
            taken_at=at, actor=SYSTEM, key=f"sn{next(_keys)}",
        )  # fmt: skip

    # --- codes --------------------------------------------------------------------------------

    def _live(self, name: str) -> str:
        return "pot" if name == "old" and self.merged else name

    @precondition(lambda self: not self.merged)
    @rule()
    def merge(self) -> None:
        """Two codes turned out to be one thing; only done while nobody waits for the old one."""
        old = {place: self.levels["old", place] for place in EVERYWHERE}
        busy = any(
            one.reserved or one.in_transit or any(getattr(one, b) for b in UNFIT) for one in old.values()
        )
        # also on a transfer that is open for the sake of its other line
        moving = any(
            "old" in trip.wanted and trip.state in ("requested", "shipped") for trip in self.trips.values()
        )
        if busy or moving:
            return
        merging.merge_skus(WORLD.skus["old"].pk, WORLD.skus["pot"].pk, actor=SYSTEM)
        self.merged = True
        for place, level in old.items():
            if level.on_hand:
                self.moved_in_pool |= {"pot"} if place == "pool" else set()
                self.levels["pot", place].comes_in(level.on_hand, level.average or STANDARD)
                level.on_hand = 0

    @precondition(lambda self: self.again)
    @rule()
    def repeat(self) -> None:
        """The last step arrives a second time."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM inventory_stockmovement")
            before = cursor.fetchone()
            self.again()
            cursor.execute("SELECT count(*) FROM inventory_stockmovement")
            assert cursor.fetchone() == before

    def _refused(self, work: Any) -> None:
        with pytest.raises((Conflict, UserError)), transaction.atomic():
            work()

    @rule()
    def remember(self) -> None:
        self.moments.append((now(), self._past()))

    def _past(self) -> dict[tuple[str, str], tuple[int, int, Decimal]]:
        return {
            pair: (level.on_hand, level.available, level.value)
            for pair, level in self.levels.items()
            if level.on_hand or level.reserved
        }

    # --- what must hold after every step ---------------------------------------------------------

    @invariant()
    def books_equal_model(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT sku_id, warehouse_id, on_hand, reserved, damaged, quarantine, inspection, in_transit,"
                " average_cost FROM inventory_stocklevel"
            )
            found = {
                (self.names[row[0]], self.place_names[row[1]]): (
                    *row[2:8],
                    Decimal(str(row[8])).quantize(FOUR),
                )
                for row in cursor.fetchall()
            }
            cursor.execute(
                "SELECT id, sku_id, warehouse_id, quantity, firm FROM inventory_reservation WHERE state = 'open'"
            )
            held = {
                row[0]: (self.names[row[1]], self.place_names[row[2]], row[3], bool(row[4]))
                for row in cursor.fetchall()
            }
        nothing = Level().figures()
        assert {pair: row for pair, row in found.items() if row != nothing} == {
            pair: level.figures() for pair, level in self.levels.items() if level.figures() != nothing
        }
        assert held == {pk: (one.sku, one.place, one.quantity, one.firm) for pk, one in self.promises.items()}

    @invariant()
    def every_invariant(self) -> None:
        broken = [f"{one.invariant.id}: {one.failures}" for one in invariants.run(CHECKED) if one.failures]
        assert not broken, broken

    def _look_back(self) -> None:
        """The ledger answers what stock and its value were at every moment somebody remembers."""
        for at, wanted in self.moments[-3:]:
            past = asof.as_of(at, with_cost=True)
            found = {
                (self.names[sku], self.place_names[place]): (level.on_hand, level.available, level.value)
                for (sku, place), level in past.items()
                if level.on_hand or level.balances.get("reserved")
            }
            assert found == wanted


@pytest.mark.timeout(1800)  # 10,000 steps, each with all its checks
def test_any_order_of_anything_keeps_the_books_right(world: SimpleNamespace) -> None:
    run_state_machine_as_test(
        StockMachine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=50, deadline=None, database=None, 
            phases=[Phase.generate], report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
