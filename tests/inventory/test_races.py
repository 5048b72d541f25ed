"""Real rivals on real connections: nothing is promised twice, nothing deadlocks, and the guard is what does it."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from inventory import (
    locking,
    merging,
    numbering,
    operations,
    putaway,
    reservations,
    selectors,
    stockfile,
    valuation,
)
from inventory.models import Bin, BinStock, CostLayer, Reservation, SerialUnit, Sku, StockLevel, StockMovement
from inventory.reservations import ReserveLine
from inventory.selectors import Code
from oms.core import metrics
from oms.core.actor import SYSTEM, Actor
from oms.core.errors import Conflict
from tests.factories import add_stock, make_kit, make_sku, make_user, make_warehouse

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

RIVALS = 8


def race(count: int, work: Callable[[int], object]) -> list[object]:
    """Run `work(0..count-1)` from RIVALS threads, each with its own connection, starting together."""
    results: list[object] = []
    numbers = iter(range(count))
    gate, lock = threading.Barrier(RIVALS), threading.Lock()

    def run() -> None:
        try:
            gate.wait(30)
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    outcome: object = work(number)
                except Exception as error:
                    outcome = error
                with lock:
                    results.append(outcome)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(RIVALS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(results) == count
    errors = [result for result in results if isinstance(result, Exception)]
    assert not errors, errors[:3]
    return results


@locking.stock_service
def place(number: int, *wanted: tuple[int, int], warehouse_ids: tuple[int, ...]) -> int:
    """One order in one transaction; returns its short units."""
    lines = [ReserveLine(f"O{number}", sku, quantity, warehouse_ids) for sku, quantity in wanted]
    return sum(result.short for result in reservations.reserve(lines, actor=SYSTEM))


def test_a_hundred_orders_for_one_unit(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 1)
    results = race(100, lambda n: place(n, (sku.pk, 1), warehouse_ids=(east.pk,)))
    assert Counter(results) == {0: 1, 1: 99}
    assert Reservation.objects.count() == 1
    assert StockLevel.objects.get().reserved == 1
    assert_invariants()


def test_negative_control_without_the_guard_it_oversells(monkeypatch):
    """Switch the guard off and let everybody decide on what it read: the same race must promise too much."""
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 1)
    with connection.cursor() as cursor:
        for name in ("stock_promised_within_on_hand", "stock_reserved_not_negative"):
            cursor.execute(f"ALTER TABLE inventory_stocklevel DROP CONSTRAINT {name}")
    together = threading.Barrier(RIVALS)
    read = reservations.read

    def read_and_wait(sku_ids, warehouse_ids):
        facts = read(sku_ids, warehouse_ids)
        together.wait(30)  # every rival has seen the last unit before anybody takes it
        return facts

    monkeypatch.setattr(reservations, "read", read_and_wait)
    monkeypatch.setattr(locking, "GUARD", "TRUE")
    try:
        race(RIVALS, lambda n: place(n, (sku.pk, 1), warehouse_ids=(east.pk,)))
        assert StockLevel.objects.get().reserved == RIVALS  # eight promises of one unit
    finally:
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE inventory_reservation, inventory_stocklevel CASCADE")
            cursor.execute(
                "ALTER TABLE inventory_stocklevel ADD CONSTRAINT stock_reserved_not_negative CHECK (reserved >= 0),"
                " ADD CONSTRAINT stock_promised_within_on_hand"
                " CHECK (on_hand >= reserved + damaged + quarantine + inspection)"
            )


def test_the_same_scene_with_the_guard_promises_one(monkeypatch, assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 1)
    together = threading.Barrier(RIVALS)
    read = reservations.read

    def read_and_wait(sku_ids, warehouse_ids):
        facts = read(sku_ids, warehouse_ids)
        together.wait(30)
        return facts

    monkeypatch.setattr(reservations, "read", read_and_wait)
    results = race(RIVALS, lambda n: place(n, (sku.pk, 1), warehouse_ids=(east.pk,)))
    assert Counter(results) == {0: 1, 1: RIVALS - 1}
    assert_invariants()


def conflicts() -> float:
    return metrics.CONFLICTS._value.get()


def test_five_line_orders_over_six_hot_skus_never_deadlock(assert_invariants):
    east, west = make_warehouse(), make_warehouse()
    skus = [make_sku() for _ in range(6)]
    for sku in skus:
        add_stock(sku, east, 40)
        add_stock(sku, west, 40)
    before = conflicts()

    def order(number: int) -> int:
        chance = random.Random(number)
        wanted = [(sku.pk, chance.randint(1, 2)) for sku in chance.sample(skus, 5)]
        places = [east.pk, west.pk]
        chance.shuffle(places)
        return place(number, *wanted, warehouse_ids=tuple(places))

    race(160, order)
    assert conflicts() == before  # not even one that a repeat healed
    # 160 orders ask for far more than there is: everything is promised, nothing twice
    assert {(level.on_hand, level.reserved) for level in StockLevel.objects.all()} == {(40, 40)}
    assert_invariants()


def test_kits_that_share_a_component(assert_invariants):
    cup, tea, pot = make_sku(), make_sku(), make_sku()
    first, second = make_kit("A", {cup: 2, tea: 1}), make_kit("B", {cup: 1, pot: 1})
    east = make_warehouse()
    for sku, units in ((cup, 11), (tea, 99), (pot, 99)):
        add_stock(sku, east, units)
    results = race(40, lambda n: place(n, ((first, second)[n % 2].pk, 1), warehouse_ids=(east.pk,)))
    held = dict(Reservation.objects.values_list("sku_id").order_by("sku_id").annotate(units=Sum("quantity")))
    assert held[cup.pk] == 11
    kits_of_first, kits_of_second = held.get(tea.pk, 0), held.get(pot.pk, 0)
    assert kits_of_first * 2 + kits_of_second == 11
    assert Counter(results)[0] == kits_of_first + kits_of_second
    assert_invariants()


def test_release_consume_move_and_shrink_race_without_loss(assert_invariants):
    sku, east, west = make_sku(), make_warehouse(), make_warehouse()
    add_stock(sku, east, 60)
    add_stock(sku, west, 60)
    with transaction.atomic():
        results = reservations.reserve(
            [ReserveLine(f"L{n}", sku.pk, 2, (east.pk,)) for n in range(24)], actor=SYSTEM
        )
    ids = [result.parts[0].reservation_id for result in results]

    def act(number: int) -> object:
        pk, kind = ids[number % len(ids)], number % 4
        try:
            if kind == 0:
                return reservations.release([pk], actor=SYSTEM, reason="race")
            if kind == 1:
                return reservations.consume({pk: 1}, actor=SYSTEM, reference="RACE", key=f"race:{number}")
            if kind == 2:
                return reservations.move(pk, warehouse_id=west.pk, actor=SYSTEM).pk
            return operations.adjust(
                sku_id=sku.pk,
                warehouse_id=east.pk,
                quantity=-3,
                reason="lost",
                actor=SYSTEM,
                key=f"a{number}",
            ).lost
        except reservations.Conflict as refused:
            return str(refused)

    random.Random(5).shuffle(ids)
    race(96, act)
    assert_invariants()


def test_the_same_movement_key_from_eight_sides_posts_once(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 10)
    race(
        RIVALS,
        lambda n: (
            operations.adjust(
                sku_id=sku.pk, warehouse_id=east.pk, quantity=-1, reason="lost", actor=SYSTEM, key="same"
            )
            .rows[0]
            .pk
        ),
    )
    assert StockLevel.objects.get().on_hand == 9
    assert_invariants()


def test_two_who_decide_at_once_decide_once(assert_invariants):
    """Approved by two, refused and taken back at the same moment: one of them did it, and stock moved at most once."""
    sku, east = make_sku("CUP", unit_cost=Decimal(100)), make_warehouse()
    add_stock(sku, east, 100)
    people = [Actor("user", name, make_user(name).pk) for name in ("lena", "omar", "ivan")]
    lena, omar, ivan = people
    deeds = [
        lambda pk: operations.approve_adjustment(pk, actor=omar),
        lambda pk: operations.approve_adjustment(pk, actor=ivan),
        lambda pk: operations.refuse_adjustment(pk, actor=omar),
        lambda pk: operations.withdraw_adjustment(pk, actor=lena),
    ]
    requests = [
        operations.adjust(
            sku_id=sku.pk, warehouse_id=east.pk, quantity=-6, reason="damaged", actor=lena, key=f"k{number}"
        ).request
        for number in range(8)
    ]

    def decide(number: int) -> str:
        try:
            deeds[number % 4](requests[number // 4].pk)
        except Conflict:
            return "too late"
        return "did it"

    found = Counter(race(32, decide))
    assert found == {"did it": 8, "too late": 24}
    for request in requests:
        request.refresh_from_db()
    approved = sum(request.state == "approved" for request in requests)
    assert StockLevel.objects.get().on_hand == 100 - 6 * approved
    assert StockMovement.objects.filter(kind="adjust").count() == approved
    assert all(request.decided_by_id != lena.user_id for request in requests)
    assert_invariants()


def _line(sku, warehouse, units: int, key: str) -> stockfile.StockLine:
    code = Code(sku.pk, sku.code, sku.kind, False, sku.unit_cost, sku.valuation)
    return stockfile.StockLine(1, code, warehouse.pk, units, False, key)


def _meanwhile(work: Callable[[], object]) -> None:
    """On another connection, committed before this returns."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("rival", ["sale", "bins"])
def test_a_count_decided_before_a_rival_moved_the_level_is_decided_again(
    monkeypatch, rival, assert_invariants
):
    """A file reads without locks at first: what moved until it writes must be seen, bins included."""
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 10)
    other = make_sku()
    add_stock(other, east, 10)
    step = "decide" if rival == "sale" else "_quick"
    plain, turns = getattr(stockfile, step), []

    def interrupted(*args, **kwargs):
        turns.append(1)
        if (
            len(turns) == 1 and rival == "bins"
        ):  # the first dock takes all units that lay nowhere in particular
            dock = {"warehouse_id": east.pk, "code": "DOCK", "kind": Bin.Kind.DOCK}
            _meanwhile(lambda: putaway.save_bin(**dock, actor=SYSTEM))
        answer = plain(*args, **kwargs)
        if len(turns) == 1 and rival == "sale":
            _meanwhile(lambda: add_stock(sku, east, -4))
        return answer

    monkeypatch.setattr(stockfile, step, interrupted)
    lines = [_line(sku, east, 8, "file:1"), _line(other, east, 3, "file:2")]
    done = stockfile.post(lines, actor=SYSTEM, reference="count.csv", replay=False)
    assert len(turns) == 2
    assert [one.after for one in done.decided] == [8, 3]
    assert StockLevel.objects.get(sku=sku).on_hand == 8
    assert StockMovement.objects.get(key="file:1").quantity == (2 if rival == "sale" else -2)
    assert_invariants()


RULES = {
    "fifo": lambda sku: valuation.set_method(sku.pk, "fifo", actor=SYSTEM),
    "fifo for all": lambda sku: valuation.set_business_method("fifo", actor=SYSTEM),
    "lots": lambda sku: Sku.objects.filter(pk=sku.pk).update(lot_tracked=True),
    "merge": lambda sku: merging.merge_skus(sku.pk, make_sku("MUG").pk, actor=SYSTEM),
}


@pytest.mark.parametrize(
    ("rival", "known"),
    [
        ("fifo", False),
        ("fifo", True),
        ("fifo for all", False),
        ("lots", False),
        ("merge", False),
        ("merge", True),
    ],
)
def test_a_file_looks_again_when_its_skus_come_under_other_rules(
    monkeypatch, rival, known, assert_invariants
):
    """On hand stays as it was read, but what a row has to do for it is another thing by now."""
    sku, east = make_sku("CUP", unit_cost=Decimal(3)), make_warehouse()
    other = make_sku("JAR")
    add_stock(other, east, 10)
    if rival == "merge":
        StockLevel.objects.create(sku=sku, warehouse=east)  # nothing there that a merge would move
    else:
        add_stock(sku, east, 10)
    module, step = (stockfile, "_quick") if rival == "fifo for all" else (selectors, "find_codes")
    plain, turns = getattr(module, step), []

    def interrupted(*args):
        found = plain(*args) if module is selectors else None
        turns.append(1)
        if len(turns) == 1:
            _meanwhile(lambda: RULES[rival](sku))
        return found if module is selectors else plain(*args)

    monkeypatch.setattr(module, step, interrupted)

    def work() -> stockfile.Posted:
        with locking.stock_transaction():
            found = selectors.find_codes({"CUP", "JAR"})
            lines = [
                stockfile.StockLine(number, found[code], east.pk, units, False, f"file:{number}")
                for number, (code, units) in enumerate([("CUP", 12), ("JAR", 3), ("CUP", 14), ("CUP", 11)])
            ]
            return stockfile.post(lines, actor=SYSTEM, reference="count.csv", replay=known or bool(turns[1:]))

    done = locking.retrying(work)
    assert len(turns) == 2 and not any(one.problem for one in done.decided)
    level = StockLevel.objects.get(sku__code="MUG" if rival == "merge" else "CUP")
    assert level.on_hand == 11
    assert not StockLevel.objects.filter(sku__merged_into__isnull=False, on_hand__gt=0).exists()
    if rival.startswith("fifo"):
        assert sum(CostLayer.objects.filter(sku=sku).values_list("remaining", flat=True)) == 11
    assert_invariants()


def test_the_first_dock_waits_for_units_that_come_to_an_empty_level(monkeypatch, assert_invariants):
    """Who brings them in saw no dock; they lie on it all the same once both are through."""
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 1)
    add_stock(sku, east, -1)
    plain, rivals = stockfile._ruled_anew, []  # the last step

    def interrupted(*args):
        dock = {"warehouse_id": east.pk, "code": "DOCK", "kind": Bin.Kind.DOCK}

        def open_dock() -> None:
            try:
                putaway.save_bin(**dock, actor=SYSTEM)
            finally:
                connection.close()

        rivals.append(threading.Thread(target=open_dock))
        rivals[0].start()
        rivals[0].join(1.5)  # it waits for the level; without that it is through long before
        return plain(*args)

    monkeypatch.setattr(stockfile, "_ruled_anew", interrupted)
    stockfile.post([_line(sku, east, 8, "file:1")], actor=SYSTEM, reference="count.csv", replay=False)
    rivals[0].join(30)
    assert not rivals[0].is_alive() and Bin.objects.filter(kind=Bin.Kind.DOCK).exists()
    assert_invariants()


def test_one_serial_number_given_in_two_warehouses_at_once_is_given_once(assert_invariants):
    sku = make_sku("CAM")
    places = [make_warehouse(f"W{number}") for number in range(4)]
    for place_ in places:
        add_stock(sku, place_, 50)
    Sku.objects.filter(pk=sku.pk).update(serial_tracked=True)

    def give(number: int) -> str:
        try:
            numbering.number(
                sku_id=sku.pk, warehouse_id=places[number % 4].pk, numbers=[f"S{number // 8}"], actor=SYSTEM
            )
        except Conflict as error:
            assert "in stock already" in error.message, error.message
            return "too late"
        return "given"

    assert Counter(race(64, give)) == {"given": 8, "too late": 56}
    assert SerialUnit.objects.count() == 8
    assert_invariants()


def _dock(place) -> object:
    return putaway.save_bin(warehouse_id=place.pk, code="DOCK", kind=Bin.Kind.DOCK, actor=SYSTEM)


#: acts that must know every level of a SKU or of a warehouse
KNOW_ALL = {
    "fifo": lambda sku, place: valuation.set_method(sku.pk, "fifo", actor=SYSTEM),
    "fifo for all": lambda sku, place: valuation.set_business_method("fifo", actor=SYSTEM),
    "merge": lambda sku, place: merging.merge_skus(sku.pk, Sku.objects.get(code="MUG").pk, actor=SYSTEM),
    "dock": lambda sku, place: _dock(place),
}
#: ways on which a SKU comes to a warehouse for the first time
FIRST_UNITS = {
    "ledger": lambda sku, place: add_stock(sku, place, 10, unit_cost=Decimal(3)),
    "file": lambda sku, place: stockfile.post(
        [_line(sku, place, 10, "file:1")], actor=SYSTEM, reference="count.csv", replay=False
    ),
    "file again": lambda sku, place: stockfile.post(
        [_line(sku, place, 10, "file:1")], actor=SYSTEM, reference="count.csv"
    ),
}


def _in_background(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Started on another connection; what it answered or raised is in the list once it has ended."""
    told: list[object] = []

    def run() -> None:
        try:
            told.append(work())
        except Exception as error:
            told.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, told


@pytest.mark.parametrize(
    ("rival", "way"), [*((rival, "ledger") for rival in KNOW_ALL), ("merge", "file"), ("dock", "file again")]
)
def test_a_level_that_is_just_being_made_is_waited_for_by_who_must_know_them_all(
    rival, way, assert_invariants
):
    sku, east, west = make_sku("CUP"), make_warehouse(), make_warehouse()
    make_sku("MUG")
    add_stock(sku, west, 5, unit_cost=Decimal(2))
    with locking.stock_transaction():
        FIRST_UNITS[way](sku, east)
        thread, told = _in_background(lambda: KNOW_ALL[rival](sku, east))
        thread.join(1.2)  # it waits for the level; without that it is through long before
        waits = thread.is_alive()
    thread.join(30)
    assert waits and not isinstance(told[0], Exception), told
    stock = dict(StockLevel.objects.filter(warehouse=east).values_list("sku__code", "on_hand"))
    assert stock == ({"CUP": 0, "MUG": 10} if rival == "merge" else {"CUP": 10})
    if rival.startswith("fifo"):
        assert sorted(CostLayer.objects.filter(sku=sku).values_list("remaining", flat=True)) == [5, 10]
    if rival == "dock":
        lying = BinStock.objects.values_list("bin__code", "sku__code", "quantity")
        assert list(lying) == [("DOCK", "CUP", 10)]
    assert_invariants()


@pytest.mark.parametrize("rival", KNOW_ALL)
def test_a_first_receipt_waits_for_who_must_know_all_levels_and_then_keeps_the_new_rules(
    rival, assert_invariants
):
    sku, east, west = make_sku("CUP"), make_warehouse(), make_warehouse()
    make_sku("MUG")
    add_stock(sku, west, 5, unit_cost=Decimal(2))
    with locking.stock_transaction():
        KNOW_ALL[rival](sku, east)
        thread, told = _in_background(
            lambda: operations.adjust(
                sku_id=sku.pk, warehouse_id=east.pk, quantity=10, reason="found", actor=SYSTEM, key="k"
            )
        )
        thread.join(1.2)
        waits = thread.is_alive()
    thread.join(30)
    assert waits
    if rival == "merge":
        assert isinstance(told[0], Conflict) and "merged into MUG" in told[0].message
        assert not StockLevel.objects.filter(sku=sku, on_hand__gt=0).exists()
    else:
        assert not isinstance(told[0], Exception), told
        assert StockLevel.objects.get(sku=sku, warehouse=east).on_hand == 10
    if rival.startswith("fifo"):
        assert sorted(CostLayer.objects.filter(sku=sku).values_list("remaining", flat=True)) == [5, 10]
    if rival == "dock":
        assert BinStock.objects.get(sku=sku, warehouse=east).bin.code == "DOCK"
    assert_invariants()


def test_first_units_and_who_must_know_all_levels_never_stand_in_each_others_way(assert_invariants):
    """Many first receipts of SKUs that lie elsewhere, among merges, other methods and docks: all of them end."""
    skus = [make_sku(f"S{number}") for number in range(24)]
    places = [make_warehouse(f"W{number}") for number in range(4)]
    for sku in skus:
        add_stock(sku, places[0], 3, unit_cost=Decimal(2))

    def work(number: int) -> str:
        sku, other = skus[number % 24], skus[(number + 7) % 24]
        place = places[number % 4]
        if number % 8 == 0:
            valuation.set_method(sku.pk, "fifo" if number % 16 else "average", actor=SYSTEM)
        elif number % 8 == 1:
            putaway.save_bin(warehouse_id=place.pk, code=f"D{number}", kind=Bin.Kind.DOCK, actor=SYSTEM)
        else:
            lines = [(one, place) for one in (other, sku)]
            operations.receive_purchase(
                [
                    operations.PurchasedGoods(one.pk, where.pk, 2, Decimal(3), f"k{number}:{at}")
                    for at, (one, where) in enumerate(lines)
                ],
                reference=f"PO-{number}",
                actor=SYSTEM,
            )
        return "done"

    assert Counter(race(96, work)) == {"done": 96}
    units = sum(StockLevel.objects.values_list("on_hand", flat=True))
    assert units == 24 * 3 + 72 * 4
    assert_invariants()
