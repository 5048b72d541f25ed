"""Work on stock: bins, lots, serials, counts, fences, scans, merges. Exact figures, invariants after each scenario."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from itertools import combinations

import pytest
import time_machine
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from inventory import (
    bins,
    counts,
    fences,
    lots,
    merging,
    operations,
    putaway,
    reservations,
    scanning,
    selectors,
    serials,
    tasks,
)
from inventory.ledger import InsufficientStock, Movement, post_movements
from inventory.models import (
    AdjustmentLimit,
    AdjustmentReason,
    BinMovement,
    BinStock,
    CountTask,
    DemandDay,
    Lot,
    Reservation,
    SerialUnit,
    StockLevel,
)
from inventory.operations import PurchasedGoods
from inventory.picks import Place, plan_pick
from inventory.reservations import Picked, ReserveLine
from oms.core import business
from oms.core.actor import SYSTEM, Actor, actor_of
from oms.core.clock import now
from oms.core.errors import Conflict, NotAllowed, UserError
from oms.core.models import ExceptionItem, OutboxEvent
from tests.factories import add_stock, make_kit, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db
LA = "America/Los_Angeles"


def post(sku, warehouse, quantity, key, **more):
    movement = Movement(
        sku.pk, warehouse.pk, "on_hand", quantity, more.pop("kind", "adjust"), key=key, **more
    )
    with transaction.atomic():
        return post_movements([movement], actor=SYSTEM)


def make_bin(warehouse, code, sequence=0, kind="pick", **more):
    return putaway.save_bin(
        warehouse_id=warehouse.pk, code=code, pick_sequence=sequence, kind=kind, actor=SYSTEM, **more
    )


def lot(sku, code, expires_on=None):
    return Lot.objects.create(sku=sku, code=code, expires_on=expires_on)


def held(sku):
    return {
        (row.bin.code if row.bin else None, row.lot.code if row.lot else None): row.quantity
        for row in BinStock.objects.filter(sku=sku, quantity__gt=0).select_related("bin", "lot")
    }


def reserve(sku, *warehouses, quantity=1, **more):
    with transaction.atomic():
        [result] = reservations.reserve(
            [ReserveLine("L", sku.pk, quantity, tuple(w.pk for w in warehouses), **more)], actor=SYSTEM
        )
    return result


# --- picking by rule (W04, F14, W10) ----------------------------------------------------------------

places = st.lists(
    st.builds(
        lambda quantity, days, sequence: (quantity, days, sequence),
        st.integers(1, 9),
        st.none() | st.integers(1, 3),
        st.integers(0, 5),
    ),
    max_size=7,
)


@given(places, st.integers(1, 40))
def test_picks_take_earliest_expiry_then_fewest_bins_then_the_walk(rows, needed):
    start = dt.date(2026, 11, 1)
    spots = [
        Place(n, None, quantity, start + dt.timedelta(days=days) if days else None, sequence, f"B{n}")
        for n, (quantity, days, sequence) in enumerate(rows, 1)
    ]
    taken = plan_pick(needed, spots)
    assert sum(one.quantity for one in taken) == min(needed, sum(spot.quantity for spot in spots))
    assert all(1 <= one.quantity <= one.place.quantity for one in taken)
    assert len({one.place for one in taken}) == len(taken)
    by_date: dict = {}
    for one in taken:
        by_date.setdefault(one.place.expires_on or dt.date.max, []).append(one)
    dates = sorted({spot.expires_on or dt.date.max for spot in spots})
    for number, date in enumerate(dates):
        group = sorted((s for s in spots if (s.expires_on or dt.date.max) == date), key=lambda s: s.order)
        used = [one.place for one in by_date.get(date, [])]
        got = sum(one.quantity for one in by_date.get(date, []))
        if any(later in by_date for later in dates[number + 1 :]):
            assert got == sum(spot.quantity for spot in group)  # an earlier date is emptied first
        elif got:
            sets = (c for size in range(1, len(group) + 1) for c in combinations(group, size))
            best = next(c for c in sets if sum(s.quantity for s in c) >= got)
            assert used == list(best)  # fewest, and of these the first on the walk


def test_shipping_takes_good_lots_first_and_leaves_a_trace(assert_invariants):
    sku, east = make_sku("MILK", lot_tracked=True), make_warehouse("EAST")
    make_bin(east, "dock", kind="dock")
    a1, a2 = make_bin(east, "A1", 2), make_bin(east, "A2", 1)
    today = now().date()
    late = lot(sku, "LATE", today + dt.timedelta(days=150))
    early = lot(sku, "EARLY", today + dt.timedelta(days=30))
    old = lot(sku, "OLD", dt.date(2020, 1, 1))
    post(sku, east, 5, "1", bin_id=a1.pk, lot_id=late.pk)
    post(sku, east, 5, "2", bin_id=a2.pk, lot_id=early.pk)
    post(sku, east, 5, "3", bin_id=a2.pk, lot_id=old.pk)
    post(sku, east, 2, "4")
    assert held(sku) == {("A1", "LATE"): 5, ("A2", "EARLY"): 5, ("A2", "OLD"): 5, ("DOCK", None): 2}
    [plan] = putaway.pick_plans([(sku.pk, east.pk, 7, 0)])
    assert [(one.place.code, one.quantity) for one in plan] == [("A2", 5), ("A1", 2)]
    [fresh] = putaway.pick_plans([(sku.pk, east.pk, 3, 60)])
    assert [one.place.code for one in fresh] == ["A1"]
    result = reserve(sku, east, quantity=12)
    assert (result.reserved, result.short) == (12, 0)
    reservations.consume({result.parts[0].reservation_id: 12}, actor=SYSTEM, reference="PACK-1", key="ship:1")
    assert held(sku) == {("A2", "OLD"): 5}
    assert lots.shipped_units(early.pk) == {"PACK-1": 5} and lots.shipped_units(late.pk) == {"PACK-1": 5}
    assert lots.shipped_units(old.pk) == {}
    assert_invariants()


def test_a_named_pick_leaves_from_its_bin_and_lot(assert_invariants):
    sku, east = make_sku(lot_tracked=True), make_warehouse()
    a1, a2 = make_bin(east, "A1"), make_bin(east, "A2")
    one, two = lot(sku, "1"), lot(sku, "2")
    post(sku, east, 5, "1", bin_id=a1.pk, lot_id=one.pk)
    post(sku, east, 5, "2", bin_id=a2.pk, lot_id=two.pk)
    pk = reserve(sku, east, quantity=4).parts[0].reservation_id
    with pytest.raises(Conflict, match="5 units were picked, 4"):
        reservations.consume(
            {pk: 4}, actor=SYSTEM, reference="PACK-1", key="k", picked={pk: [Picked(5, a2.pk, two.pk)]}
        )
    for _ in range(2):
        reservations.consume(
            {pk: 4}, actor=SYSTEM, reference="PACK-1", key="k", picked={pk: [Picked(3, a2.pk, two.pk)]}
        )
    assert held(sku) == {("A1", "1"): 4, ("A2", "2"): 2}
    with pytest.raises(Conflict, match="A2 holds 2 of lot 2, 3 asked"):
        post(sku, east, -3, "x", bin_id=a2.pk, lot_id=two.pk)
    with pytest.raises(Conflict, match="4 of lot 1 are here"):
        post(sku, east, -5, "y", lot_id=one.pk)
    assert_invariants()


# --- bins (W04) -----------------------------------------------------------------------------------


def test_a_dock_places_everything_and_moves_keep_history(assert_invariants):
    sku, other, east = make_sku("MUG"), make_sku("CAP"), make_warehouse("EAST")
    add_stock(sku, east, 10)
    add_stock(other, east, 3)
    dock = make_bin(east, "dock-1", kind="dock")
    assert held(sku) == {("DOCK-1", None): 10}
    a1 = make_bin(east, "a1", 5)
    b1 = make_bin(east, "B1", 6, kind="bulk")
    assert_invariants()
    suggested = {one.sku.code: (one.target, one.why, one.quantity) for one in putaway.waiting([east.pk])}
    assert suggested == {"MUG": (a1, "empty", 10), "CAP": (b1, "empty", 3)}
    putaway.move(sku_id=sku.pk, source_id=dock.pk, target_id=a1.pk, quantity=8, actor=SYSTEM)
    assert held(sku) == {("DOCK-1", None): 2, ("A1", None): 8}
    [rest] = [one for one in putaway.waiting([east.pk]) if one.sku == sku]
    assert (rest.target, rest.why) == (a1, "the SKU lies there")
    with pytest.raises(Conflict, match="DOCK-1 holds 2, 3 asked"):
        putaway.move(sku_id=sku.pk, source_id=dock.pk, target_id=a1.pk, quantity=3, actor=SYSTEM)
    # another code and place: what lies there and its history stay
    renamed = make_bin(east, "Z9", 99, bin_id=a1.pk, zone="Z")
    assert renamed.pk == a1.pk and held(sku)[("Z9", None)] == 8
    assert list(BinMovement.objects.filter(bin=a1).values_list("quantity", "reason")) == [(8, "moved")]
    with pytest.raises(Conflict, match="still holds units"):
        make_bin(east, "Z9", bin_id=a1.pk, is_active=False)
    with pytest.raises(Conflict, match="only dock"):
        make_bin(east, "DOCK-1", bin_id=dock.pk, kind="pick")
    with pytest.raises(Conflict, match="Z9 exists already"):
        make_bin(east, "z9")
    add_stock(other, east, 4)
    assert held(other) == {("DOCK-1", None): 7}
    assert_invariants()


def test_bins_of_two_warehouses_do_not_mix():
    sku, east, west = make_sku(), make_warehouse(), make_warehouse()
    a, b = make_bin(east, "A"), make_bin(west, "B")
    post(sku, east, 2, "1", bin_id=a.pk)
    with pytest.raises(UserError, match="one warehouse"):
        putaway.move(sku_id=sku.pk, source_id=a.pk, target_id=b.pk, quantity=1, actor=SYSTEM)


# --- lots and dates (W09, W10) --------------------------------------------------------------------


def test_lots_leave_sellable_at_local_midnight_without_a_job(assert_invariants):
    sku, west = make_sku(lot_tracked=True), make_warehouse("WEST", time_zone=LA)
    dated = lot(sku, "L1", dt.date(2026, 11, 10))
    with time_machine.travel(dt.datetime(2026, 11, 1, tzinfo=dt.UTC), tick=False):
        post(sku, west, 6, "1", lot_id=dated.pk)
        post(sku, west, 4, "2", lot_id=lot(sku, "L2", dt.date(2027, 6, 1)).pk)

    def available():
        return selectors.levels([sku.pk])[sku.pk, west.pk].available

    # Los Angeles is UTC−8: the last second of 10 November there is 07:59:59 UTC on the 11th
    with time_machine.travel(dt.datetime(2026, 11, 11, 7, 59, 59, tzinfo=dt.UTC), tick=False):
        assert available() == 10
    with time_machine.travel(dt.datetime(2026, 11, 11, 8, 0, 0, tzinfo=dt.UTC), tick=False):
        assert available() == 4
        assert reserve(sku, west, quantity=6).reserved == 4
        assert available() == 0
    assert_invariants()


def test_short_dated_units_serve_only_channels_that_take_them(assert_invariants):
    sku, east = make_sku(lot_tracked=True), make_warehouse()
    today = now().date()
    post(sku, east, 5, "1", lot_id=lot(sku, "SOON", today + dt.timedelta(days=10)).pk)
    post(sku, east, 5, "2", lot_id=lot(sku, "LONG", today + dt.timedelta(days=100)).pk)
    level = selectors.levels([sku.pk])[sku.pk, east.pk]
    assert (level.available, level.too_old_for(0), level.too_old_for(30), level.too_old_for(365)) == (
        10,
        0,
        5,
        10,
    )
    assert reserve(sku, east, quantity=7, min_shelf_days=30).reserved == 5
    assert reserve(sku, east, quantity=1, min_shelf_days=30).reserved == 0
    assert reserve(sku, east, quantity=9).reserved == 5  # the short-dated ones serve the others
    assert reserve(sku, east, quantity=1).reserved == 0
    assert_invariants()


def test_long_dated_units_are_kept_for_promises_that_need_them():
    sku, east = make_sku(lot_tracked=True), make_warehouse()
    today = now().date()
    post(sku, east, 5, "1", lot_id=lot(sku, "SOON", today + dt.timedelta(days=10)).pk)
    post(sku, east, 5, "2", lot_id=lot(sku, "LONG", today + dt.timedelta(days=100)).pk)
    reserve(sku, east, quantity=3)  # can be served by SOON
    assert selectors.levels([sku.pk])[sku.pk, east.pk].too_old_for(30) == 2  # 5 of 7 available are long
    assert reserve(sku, east, quantity=9, min_shelf_days=30).reserved == 5
    assert reserve(sku, east, quantity=9).reserved == 2


@given(
    st.lists(st.tuples(st.integers(-1, 5), st.integers(1, 5)), max_size=5),
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), max_size=8),
    st.integers(0, 5),
)
def test_promises_of_different_life_can_always_be_served(batches, asks, undated):
    """Greedy: whatever `held_back` lets through can be assigned, longest demand first, from units that live long."""
    units = sum(n for _, n in batches) + undated
    promised: list[tuple[int, int]] = []
    for days, wanted in asks:
        reserved = sum(n for _, n in promised)
        dated = lots.Dated(tuple(batches), tuple((d, n) for d, n in promised if d))
        free = units - reserved - dated.held_back(days, fit=units, reserved=reserved)
        take = min(wanted, max(0, free))
        if take:
            promised.append((days, take))
    stock = sorted([left for left, n in batches for _ in range(n)] + [99] * undated)
    for days in sorted((d for d, n in promised for _ in range(n)), reverse=True):
        fitting = [left for left in stock if left >= max(days, 0)]
        assert fitting, (batches, promised)
        stock.remove(fitting[-1])


def test_a_blocked_lot_is_not_sold_and_comes_back(assert_invariants):
    sku, east = make_sku(lot_tracked=True), make_warehouse()
    bad = lot(sku, "BAD")
    post(sku, east, 5, "1", lot_id=bad.pk)
    with pytest.raises(UserError, match="say why"):
        lots.set_blocked(bad.pk, True, reason=" ", actor=SYSTEM)
    lots.set_blocked(bad.pk, True, reason="glass found", actor=SYSTEM)
    assert selectors.levels([sku.pk])[sku.pk, east.pk].available == 0
    assert reserve(sku, east).reserved == 0
    lots.set_blocked(bad.pk, False, reason="tested", actor=SYSTEM)
    assert reserve(sku, east).reserved == 1
    assert_invariants()


def test_units_in_a_quarantine_bin_are_not_counted_twice():
    sku, east = make_sku(lot_tracked=True), make_warehouse()
    cage = make_bin(east, "CAGE", kind="quarantine")
    old = lot(sku, "OLD", dt.date(2020, 1, 1))
    post(sku, east, 3, "1", lot_id=old.pk, bin_id=cage.pk)
    post(sku, east, 4, "2")
    operations.change_state(
        sku_id=sku.pk, warehouse_id=east.pk, quantity=3, source="sellable", target="quarantine", reason="expired",
        actor=SYSTEM, key="q",
    )  # fmt: skip
    assert selectors.levels([sku.pk])[sku.pk, east.pk].available == 4


def test_a_promise_does_not_move_to_units_that_are_too_old():
    sku, east, west = make_sku(lot_tracked=True), make_warehouse(), make_warehouse("WEST")
    post(sku, east, 2, "1")
    post(sku, west, 5, "2", lot_id=lot(sku, "OLD", dt.date(2020, 1, 1)).pk)
    pk = reserve(sku, east).parts[0].reservation_id
    with pytest.raises(InsufficientStock, match="only 0 can be taken"):
        reservations.move(pk, warehouse_id=west.pk, actor=SYSTEM)


def test_receipts_demand_lot_and_date():
    sku = make_sku("MILK", lot_tracked=True, expiry_tracked=True)
    with pytest.raises(UserError, match="enter the lot code"):
        lots.lot_for(sku, "")
    with pytest.raises(UserError, match="needs the expiry date"):
        lots.lot_for(sku, "L1")
    made = lots.lot_for(sku, "L1", expires_on=dt.date(2027, 1, 1), source="GR-1")
    assert lots.lot_for(sku, "L1") == made
    with pytest.raises(Conflict, match="known with 2027-01-01"):
        lots.lot_for(sku, "L1", expires_on=dt.date(2027, 2, 1))
    assert lots.lot_for(make_sku("PLAIN"), "") is None


def test_listings_are_told_once_after_each_local_midnight():
    sku, west = make_sku(lot_tracked=True), make_warehouse(time_zone=LA)
    post(sku, west, 1, "1", lot_id=lot(sku, "L", dt.date(2026, 11, 10)).pk)
    with time_machine.travel(dt.datetime(2026, 11, 11, 7, 0, tzinfo=dt.UTC), tick=False):
        assert lots.tell_expiries() == 1
        assert lots.tell_expiries() == 0
    with time_machine.travel(dt.datetime(2026, 11, 11, 8, 0, tzinfo=dt.UTC), tick=False):
        assert lots.tell_expiries() == 1


# --- serials (W09) --------------------------------------------------------------------------------


def test_a_serial_is_in_stock_once_and_remembers_its_way(assert_invariants):
    sku, east = make_sku("CAM", serial_tracked=True), make_warehouse()

    def goods(*numbers, key="r1"):
        return [PurchasedGoods(sku.pk, east.pk, len(numbers) or 2, Decimal(5), key, serials=numbers)]

    with pytest.raises(UserError, match="needs 2 serial numbers, 0 were given"):
        operations.receive_purchase(goods(), reference="PO-1", actor=SYSTEM)
    for _ in range(2):
        operations.receive_purchase(goods("s1", "S2"), reference="PO-1", actor=SYSTEM)
    with pytest.raises(Conflict, match="s1 is in stock already|S1 is in stock already"):
        operations.receive_purchase(goods("S1", key="r2"), reference="PO-2", actor=SYSTEM)
    assert StockLevel.objects.get().on_hand == 2
    assert_invariants()
    with transaction.atomic():
        serials.leave(sku, ["S1"], warehouse_id=east.pk, reference="PACK-9", actor=SYSTEM)
    pk = reserve(sku, east).parts[0].reservation_id
    reservations.consume({pk: 1}, actor=SYSTEM, reference="PACK-9", key="k")
    with pytest.raises(Conflict, match="not in stock here"):
        serials.leave(sku, ["s1"], warehouse_id=east.pk, reference="PACK-10", actor=SYSTEM)
    [unit] = serials.find("S1")
    assert (unit.state, unit.reference, unit.source) == ("shipped", "PACK-9", "PO-1")
    with transaction.atomic():
        serials.come_back(sku, ["s1"], warehouse_id=east.pk, reference="RMA-1", actor=SYSTEM)
    operations.receive_purchase(goods("S1", key="r3"), reference="RMA-1", actor=SYSTEM)
    assert SerialUnit.objects.get(serial="s1").state == "in_stock"
    assert [(one.words, one.reference) for one in unit.events.order_by("pk")] == [
        ("received", "PO-1"), ("shipped", "PACK-9"), ("came back", "RMA-1"), ("received", "RMA-1"),
    ]  # fmt: skip
    assert_invariants()


def test_a_number_never_stays_in_stock_without_its_unit(assert_invariants):
    """Adjusted away, sent to another warehouse, lost on the way: the number goes with its unit, step by step."""
    from inventory import transfers

    sku, east, west = make_sku("CAM", serial_tracked=True), make_warehouse("EAST"), make_warehouse("WEST")
    goods = PurchasedGoods(sku.pk, east.pk, 4, Decimal(5), "r", serials=("S1", "S2", "S3", "S4"))
    operations.receive_purchase([goods], reference="PO-1", actor=SYSTEM)
    common = {"sku_id": sku.pk, "warehouse_id": east.pk, "reason": "damaged", "actor": SYSTEM}
    with pytest.raises(UserError, match="name those of the 1 units that are gone"):
        operations.adjust(**common, quantity=-1, key="a")
    with pytest.raises(UserError, match="needs 1 serial numbers, 2 were given"):
        operations.adjust(**common, quantity=-1, key="a", numbers=["S1", "S2"])
    with pytest.raises(Conflict, match="S9 is not in stock here"):
        operations.adjust(**common, quantity=-1, key="a", numbers=["S9"])
    for _ in range(2):
        operations.adjust(**common, quantity=-1, key="a", numbers=["s4"])
    assert_invariants()
    sent = transfers.request_transfer(
        source_id=east.pk, destination_id=west.pk, lines={sku.pk: 3}, actor=SYSTEM
    )
    with pytest.raises(UserError, match="name those of the 3 units"):
        transfers.ship_transfer(sent.pk, actor=SYSTEM)
    transfers.ship_transfer(sent.pk, actor=SYSTEM, numbers={sku.pk: ["S1", "S2", "S3"]})
    assert_invariants()
    with pytest.raises(UserError, match="on their way are S1, S2, S3"):
        transfers.receive_transfer(sent.pk, {sku.pk: 1}, actor=SYSTEM, key="k")
    transfers.receive_transfer(sent.pk, {sku.pk: 1}, actor=SYSTEM, key="k", numbers={sku.pk: ["s2"]})
    transfers.settle_transfer(
        sent.pk, {sku.pk: 1}, reason="lost", actor=SYSTEM, key="l", numbers={sku.pk: ["S3"]}
    )
    transfers.settle_transfer(sent.pk, {sku.pk: 1}, reason="found", actor=SYSTEM, key="f", found=True)
    found = SerialUnit.objects.order_by("serial").values_list("serial", "state", "warehouse__code")
    assert list(found) == [
        ("S1", "in_stock", "EAST"), ("S2", "in_stock", "WEST"), ("S3", "gone", None), ("S4", "gone", None),
    ]  # fmt: skip
    assert_invariants()


def test_numbers_of_an_adjustment_wait_with_it(assert_invariants):
    sku, east = make_sku("CAM", serial_tracked=True, unit_cost=Decimal(900)), make_warehouse()
    goods = PurchasedGoods(sku.pk, east.pk, 2, Decimal(900), "r", serials=("S1", "S2"))
    operations.receive_purchase([goods], reference="PO-1", actor=SYSTEM)
    lena, omar = (Actor("user", name, make_user(name).pk) for name in ("lena", "omar"))
    asked = operations.adjust(
        sku_id=sku.pk,
        warehouse_id=east.pk,
        quantity=-1,
        reason="damaged",
        actor=lena,
        key="a",
        numbers=["S1"],
    ).request
    assert asked is not None and SerialUnit.objects.get(serial="S1").state == "in_stock"
    operations.approve_adjustment(asked.pk, actor=omar)
    unit = SerialUnit.objects.get(serial="S1")
    assert (unit.state, unit.reference) == ("gone", f"ADJ-{asked.pk}")
    assert_invariants()


# --- counts (W06, W07) ----------------------------------------------------------------------------


def test_classes_by_value():
    values = {1: Decimal(79), 2: Decimal(2), 3: Decimal(14), 4: Decimal(5), 5: Decimal(0)}
    assert counts.abc_classes(values) == {1: "A", 3: "A", 4: "B", 2: "C", 5: "C"}
    assert counts.abc_classes({}) == {}


def test_an_a_item_is_overdue_on_day_31_and_the_rule_makes_no_duplicates():
    sku, east = make_sku("A1", abc_class="A"), make_warehouse(time_zone=LA)
    other = make_sku("C1", abc_class="C")
    add_stock(sku, east, 5)
    add_stock(other, east, 5)
    counted = dt.datetime(2026, 10, 1, 20, tzinfo=dt.UTC)
    StockLevel.objects.update(counted_at=counted)
    assert counts.plan_due(actor=SYSTEM, at=counted + dt.timedelta(days=29, hours=23)) == 0
    assert counts.plan_due(actor=SYSTEM, at=counted + dt.timedelta(days=30)) == 1
    assert counts.plan_due(actor=SYSTEM, at=counted + dt.timedelta(days=31)) == 0
    task = CountTask.objects.get()
    assert (task.sku, task.cause, task.due_on) == (sku, "rule", dt.date(2026, 10, 31))
    assert task.due_on < (counted + dt.timedelta(days=31)).date()  # day 31: overdue
    assert counts.ask(sku.pk, east.pk, cause="manual", actor=SYSTEM).pk == task.pk
    business.put("count_days_c", 10)
    assert counts.plan_due(actor=SYSTEM, at=counted + dt.timedelta(days=31)) == 1


def test_a_place_that_ran_empty_is_looked_at():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 2)
    StockLevel.objects.update(counted_at=now() - dt.timedelta(days=5))
    assert counts.plan_due(actor=SYSTEM) == 0
    post(sku, east, -2, "gone")
    assert counts.plan_due(actor=SYSTEM) == 1
    assert CountTask.objects.get().cause == "zero"
    counts.submit(CountTask.objects.get().pk, 0, actor=SYSTEM)
    assert counts.plan_due(actor=SYSTEM) == 0


def test_movements_during_a_count_stay_moved(assert_invariants):
    """W07: 95 counted while the books said 100, three ship before posting: −5, and 92 remain."""
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 100)
    task = counts.ask(sku.pk, east.pk, cause="manual", actor=SYSTEM)
    counts.submit(task.pk, 95, actor=SYSTEM)
    post(sku, east, -3, "ship", kind="ship")
    outcome = counts.accept(task.pk, actor=SYSTEM)
    assert [row.quantity for row in outcome.rows] == [-5]
    level = StockLevel.objects.get()
    assert level.on_hand == 92
    task.refresh_from_db()
    assert (task.state, task.expected, task.variance, level.counted_at) == ("done", 100, -5, task.counted_at)
    with pytest.raises(Conflict, match="no difference"):
        counts.accept(task.pk, actor=SYSTEM)
    assert not ExceptionItem.objects.filter(closed_at=None).exists()
    assert_invariants()


def test_a_count_that_agrees_closes_itself_and_twice_is_once():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 4)
    task = counts.ask(sku.pk, east.pk, cause="manual", actor=SYSTEM)
    for _ in range(2):
        assert counts.submit(task.pk, 4, actor=SYSTEM).state == "done"
    with pytest.raises(Conflict, match="done already"):
        counts.submit(task.pk, 3, actor=SYSTEM)


def test_a_bin_is_counted_by_itself(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    make_bin(east, "D", kind="dock")
    a1 = make_bin(east, "A1")
    add_stock(sku, east, 5)
    post(sku, east, 5, "1", bin_id=a1.pk)
    task = counts.ask(sku.pk, east.pk, cause="manual", actor=SYSTEM, bin_id=a1.pk)
    counts.submit(task.pk, 3, actor=SYSTEM)
    counts.accept(task.pk, actor=SYSTEM)
    assert held(sku) == {("D", None): 5, ("A1", None): 3}
    assert StockLevel.objects.get().counted_at is None  # a bin is not the whole level
    assert_invariants()


def test_a_large_difference_needs_a_second_person(assert_invariants):
    sku, east = make_sku(unit_cost=Decimal("100")), make_warehouse()
    add_stock(sku, east, 10)
    counter, boss = actor_of(make_user()), actor_of(make_user())
    task = counts.ask(sku.pk, east.pk, cause="manual", actor=counter)
    counts.submit(task.pk, 2, actor=counter)
    outcome = counts.accept(task.pk, actor=counter)
    assert outcome.request is not None and StockLevel.objects.get().on_hand == 10
    assert CountTask.objects.get().state == "waiting"
    with pytest.raises(NotAllowed):
        operations.approve_adjustment(outcome.request.pk, actor=counter)
    operations.approve_adjustment(outcome.request.pk, actor=boss)
    assert StockLevel.objects.get().on_hand == 2
    assert OutboxEvent.objects.filter(topic="adjustment.decided").count() == 1
    assert counts.follow_decisions([outcome.request.pk]) == 1
    assert CountTask.objects.get().state == "done"
    assert_invariants()


def test_units_set_aside_by_a_short_pick_are_settled_by_the_count(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 5)
    with transaction.atomic():
        post_movements(
            [Movement(sku.pk, east.pk, "inspection", 2, "state", key="s", reason=counts.SHORT_PICK)],
            actor=SYSTEM,
        )
    task = counts.ask(sku.pk, east.pk, cause="short_pick", actor=SYSTEM)
    counts.submit(task.pk, 3, actor=SYSTEM)
    counts.accept(task.pk, actor=SYSTEM)
    level = StockLevel.objects.get()
    assert (level.on_hand, level.inspection, level.available) == (3, 0, 3)
    assert_invariants()


def test_counting_again_keeps_one_open_task():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 5)
    task = counts.ask(sku.pk, east.pk, cause="manual", actor=SYSTEM)
    counts.submit(task.pk, 3, actor=SYSTEM)
    again = counts.recount(task.pk, actor=SYSTEM)
    assert again.state == "open" and StockLevel.objects.get().on_hand == 5
    assert counts.cancel(again.pk, actor=SYSTEM).state == "cancelled"


# --- adjustments (W08, U04) -----------------------------------------------------------------------


def test_reasons_and_limits_by_role():
    sku, east = make_sku(unit_cost=Decimal("100")), make_warehouse()
    add_stock(sku, east, 20)
    floor, ops = make_user(role="datafixer"), make_user(role="ops")
    AdjustmentLimit.objects.create(role="datafixer", amount=50)
    AdjustmentLimit.objects.create(role="ops", amount=5000)

    def adjust(user, quantity, reason="lost", key="k", **more):
        return operations.adjust(
            sku_id=sku.pk,
            warehouse_id=east.pk,
            quantity=quantity,
            reason=reason,
            actor=actor_of(user),
            key=key,
            **more,
        )

    for _ in range(2):  # a double click asks once
        assert adjust(floor, -1).request is not None
    assert operations.AdjustmentRequest.objects.count() == 1
    assert adjust(ops, -10, key="k2").rows[0].quantity == -10
    with pytest.raises(UserError, match="only adds"):
        adjust(ops, -1, reason="found", key="k3")
    with pytest.raises(UserError, match="only takes"):
        adjust(ops, 1, reason="lost", key="k4")
    with pytest.raises(UserError, match="needs a note"):
        adjust(ops, -1, reason="theft", key="k5")
    AdjustmentReason.objects.filter(code="sample").update(is_active=False)
    with pytest.raises(UserError, match="no longer in use"):
        adjust(ops, -1, reason="sample", key="k6")


# --- ring-fences (I10) ----------------------------------------------------------------------------


def test_fenced_units_are_sold_by_their_channel_only_until_the_end(assert_invariants):
    sku, east, west = make_sku(), make_warehouse(), make_warehouse()
    add_stock(sku, east, 15)
    add_stock(sku, west, 10)
    until = now() + dt.timedelta(days=7)
    fence = fences.create(sku_id=sku.pk, channel_code="tiktok", quantity=20, ends_at=until, actor=SYSTEM)
    assert reserve(sku, east, west, quantity=9, channel_code="shop").reserved == 5
    assert reserve(sku, east, west, quantity=1).reserved == 0
    won = reserve(sku, east, west, quantity=8, channel_code="tiktok")
    assert won.reserved == 8
    assert fences.remaining([sku.pk])[sku.pk][0].remaining == 12
    reservations.release([part.reservation_id for part in won.parts], actor=SYSTEM, reason="cancelled")
    assert fences.remaining([sku.pk])[sku.pk][0].remaining == 20  # a cancelled order gives back
    with time_machine.travel(until, tick=False):
        assert fences.remaining([sku.pk]) == {}
        assert reserve(sku, east, west, quantity=30, channel_code="shop").reserved == 20
    assert fences.tell_changes(until - dt.timedelta(hours=1), until) == 1
    fences.end(fence.pk, actor=SYSTEM)
    assert_invariants()


@pytest.mark.django_db(transaction=True)
def test_the_end_of_a_fence_is_told_by_the_timed_task():
    """It runs outside of any transaction, and an event needs one."""
    sku = make_sku()
    until = now() + dt.timedelta(days=1)
    fences.create(sku_id=sku.pk, channel_code="tiktok", quantity=5, ends_at=until, actor=SYSTEM)
    OutboxEvent.objects.all().delete()
    with time_machine.travel(until, tick=False):
        tasks.tell_dates()
    assert OutboxEvent.objects.filter(topic="stock.increased", key=str(sku.pk)).count() == 1


def test_a_fence_that_is_ended_by_hand_returns_the_rest():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 5)
    fence = fences.create(
        sku_id=sku.pk, channel_code="t", quantity=5, ends_at=now() + dt.timedelta(days=1), actor=SYSTEM
    )
    assert reserve(sku, east).reserved == 0
    fences.end(fence.pk, actor=SYSTEM)
    assert reserve(sku, east).reserved == 1
    with pytest.raises(UserError, match="future"):
        fences.create(sku_id=sku.pk, channel_code="t", quantity=5, ends_at=now(), actor=SYSTEM)
    kit, until = make_kit("K", {sku: 1}), now() + dt.timedelta(days=1)
    with pytest.raises(UserError, match="components"):
        fences.create(sku_id=kit.pk, channel_code="t", quantity=5, ends_at=until, actor=SYSTEM)


# --- scans and merges (I16) -----------------------------------------------------------------------


def test_one_scan_reads_gtin_lot_expiry_and_serial():
    sku, east = make_sku("MUG"), make_warehouse()
    sku.aliases.create(kind="gtin", value="4006381333931")
    sku.packs.create(name="case", quantity=12, barcode="14006381333938")
    place = make_bin(east, "A-03-2")
    gs1 = scanning.resolve("]C101040063813339311727123110LOT7\x1d21SER9")
    assert (gs1.sku, gs1.lot, gs1.expires_on, gs1.serial, gs1.units) == (
        sku,
        "LOT7",
        dt.date(2027, 12, 31),
        "SER9",
        1,
    )
    typed = scanning.resolve("(01)04006381333931(10)LOT8")
    assert (typed.sku, typed.lot, typed.expires_on) == (sku, "LOT8", None)
    for code in ("mug", "4006381333931", "04006381333931"):
        assert scanning.resolve(code).sku == sku
    case = scanning.resolve("14006381333938")
    assert (case.sku, case.units) == (sku, 12)
    assert scanning.resolve("a-03-2", warehouse_id=east.pk).bin == place
    assert not scanning.resolve("a-03-2").known
    assert not scanning.resolve("4006381333932").known  # wrong check digit
    upc = make_sku("TEE")
    upc.aliases.create(kind="gtin", value="036000291452")
    assert scanning.resolve("0036000291452").sku == upc
    SerialUnit.objects.create(sku=sku, serial="X-77", warehouse=east)
    assert scanning.resolve("x-77").serial == "X-77"


def test_a_merge_moves_stock_lots_serials_codes_and_history(assert_invariants):
    old, new, east = make_sku("OLD", lot_tracked=True), make_sku("NEW", lot_tracked=True), make_warehouse()
    make_bin(east, "D", kind="dock")
    a1 = make_bin(east, "A1")
    post(old, east, 5, "1", bin_id=a1.pk, lot_id=lot(old, "L1", dt.date(2030, 1, 1)).pk, unit_cost=Decimal(4))
    post(old, east, 2, "2", unit_cost=Decimal(4))
    post(new, east, 7, "3", unit_cost=Decimal(2))
    old.aliases.create(value="123")
    SerialUnit.objects.create(sku=old, serial="S1", warehouse=east)
    DemandDay.objects.create(sku=old, channel_code="c", day=dt.date(2026, 1, 1), units=3, lines=1)
    DemandDay.objects.create(sku=new, channel_code="c", day=dt.date(2026, 1, 1), units=4, lines=1)
    DemandDay.objects.create(sku=old, channel_code="c", day=dt.date(2026, 1, 2), units=5, lines=1)
    operations.set_safety(old.pk, east.pk, 2, actor=SYSTEM)
    merging.merge_skus(old.pk, new.pk, actor=SYSTEM)
    assert held(new) == {("A1", "L1"): 5, ("D", None): 9} and held(old) == {}
    assert Lot.objects.get(sku=new).expires_on == dt.date(2030, 1, 1)
    level = StockLevel.objects.get(sku=new)
    assert (level.on_hand, level.average_cost, level.safety) == (14, Decimal("3.0000"), 2)
    assert {code: sku.code for code, sku in selectors.resolve_codes(["OLD", "123"]).items()} == {
        "OLD": "NEW",
        "123": "NEW",
    }
    assert sorted(DemandDay.objects.filter(sku=new).values_list("units", flat=True)) == [5, 7]
    assert SerialUnit.objects.get().sku == new
    assert OutboxEvent.objects.get(topic="sku.merged").data["target"] == new.pk
    assert_invariants()
    with pytest.raises(Conflict, match="merged already"):
        merging.merge_skus(old.pk, new.pk, actor=SYSTEM)


def test_a_merge_is_refused_with_every_reason():
    old, new, east = make_sku("OLD"), make_sku("NEW", lot_tracked=True), make_warehouse("EAST")
    add_stock(old, east, 5)
    reserve(old, east)
    make_kit("SET", {old: 1})
    lot(old, "L", dt.date(2027, 1, 1))
    lot(new, "L", dt.date(2028, 1, 1))
    reasons = merging.conflicts(old, new)
    assert len(reasons) == 4
    with pytest.raises(Conflict, match="1 promised in EAST") as caught:
        merging.merge_skus(old.pk, new.pk, actor=SYSTEM)
    for words in ("tracked by lot", "part of kit SET", "two expiry dates"):
        assert words in caught.value.message
    assert StockLevel.objects.get(sku=old).on_hand == 5


def test_places_are_read_in_one_query(django_assert_num_queries):
    sku, east = make_sku(), make_warehouse()
    with django_assert_num_queries(1):
        bins.places([(sku.pk, east.pk)])
    assert Reservation.objects.count() == 0
