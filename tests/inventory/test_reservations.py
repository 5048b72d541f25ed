"""One reserve() for everybody: exact splits, whole kits, shortages, and every way a promise ends."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import transaction

from inventory import kits, reservations
from inventory.ledger import InsufficientStock
from inventory.models import Reservation, StockLevel, StockMovement, Warehouse
from inventory.reservations import ReserveLine
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.models import OutboxEvent
from tests.factories import add_stock, make_kit, make_sku, make_warehouse

pytestmark = pytest.mark.django_db


def reserve(*lines):
    with transaction.atomic():
        return reservations.reserve(list(lines), actor=SYSTEM)


def line(sku, quantity, *warehouses, **more):
    return ReserveLine(more.pop("reference", "L1"), sku.pk, quantity, tuple(w.pk for w in warehouses), **more)


def figures(sku, warehouse):
    level = StockLevel.objects.get(sku=sku, warehouse=warehouse)
    return level.on_hand, level.reserved, level.available


def test_the_last_unit_goes_to_the_first_line(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 1)
    first, second = reserve(line(sku, 1, east, reference="A"), line(sku, 1, east, reference="B"))
    assert (first.reserved, first.short) == (1, 0)
    assert (second.reserved, second.short, second.parts) == (0, 1, ())
    assert figures(sku, east) == (1, 1, 0)
    [row] = StockMovement.objects.filter(bucket="reserved")
    assert (row.quantity, row.balance, row.kind, row.reference) == (1, 1, "reserve", "A")
    assert_invariants()


def test_one_here_and_one_there_makes_two_reservations():
    sku, east, west = make_sku(), make_warehouse(), make_warehouse()
    add_stock(sku, east, 1)
    add_stock(sku, west, 1)
    [result] = reserve(line(sku, 2, east, west))
    assert (result.reserved, result.short) == (2, 0)
    assert [(part.warehouse_id, part.quantity) for part in result.parts] == [(east.pk, 1), (west.pk, 1)]


def test_a_warehouse_that_holds_all_is_preferred_over_a_split():
    sku, east, west = make_sku(), make_warehouse(), make_warehouse()
    add_stock(sku, east, 1)
    add_stock(sku, west, 5)
    [result] = reserve(line(sku, 2, east, west))
    assert [(part.warehouse_id, part.quantity) for part in result.parts] == [(west.pk, 2)]


def test_without_split_one_warehouse_gives_what_it_has():
    sku, east, west = make_sku(), make_warehouse(), make_warehouse()
    add_stock(sku, east, 1)
    add_stock(sku, west, 2)
    [result] = reserve(line(sku, 3, east, west, allow_split=False))
    assert (result.reserved, result.short) == (2, 1)
    assert [part.warehouse_id for part in result.parts] == [west.pk]


def test_two_lines_of_one_order_share_one_level(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 3)
    first, second = reserve(line(sku, 2, east, reference="1"), line(sku, 2, east, reference="2"))
    assert (first.reserved, second.reserved, second.short) == (2, 1, 1)
    rows = StockMovement.objects.filter(bucket="reserved").order_by("id")
    assert [(row.quantity, row.balance) for row in rows] == [(2, 2), (1, 3)]
    assert_invariants()


def test_kit_reserves_components_whole_per_warehouse(assert_invariants):
    cup, tea = make_sku("CUP"), make_sku("TEA")
    kit = make_kit("SET", {cup: 2, tea: 1})
    east, west = make_warehouse(), make_warehouse()
    add_stock(cup, east, 3)
    add_stock(tea, east, 5)
    add_stock(cup, west, 1)
    add_stock(tea, west, 5)
    [result] = reserve(line(kit, 2, east, west))
    assert (result.reserved, result.short) == (1, 1)  # four cups are there, but not two in the west
    assert {(part.sku_id, part.warehouse_id, part.quantity, part.per_unit) for part in result.parts} == {
        (cup.pk, east.pk, 2, 2),
        (tea.pk, east.pk, 1, 1),
    }
    assert_invariants()


def test_kit_and_its_component_compete_in_one_call():
    cup = make_sku("CUP")
    kit = make_kit("PAIR", {cup: 2})
    east = make_warehouse()
    add_stock(cup, east, 3)
    first, second = reserve(line(cup, 2, east, reference="1"), line(kit, 1, east, reference="2"))
    assert (first.reserved, second.reserved, second.short) == (2, 0, 1)


def test_a_kit_inside_a_kit_is_resolved():
    cup, tea = make_sku("CUP"), make_sku("TEA")
    inner = make_kit("PAIR", {cup: 2})
    outer = make_kit("PARTY", {inner: 3, cup: 1, tea: 1})
    assert kits.flatten([outer.pk]) == {outer.pk: sorted([(cup.pk, 7), (tea.pk, 1)])}
    east = make_warehouse()
    add_stock(cup, east, 7)
    add_stock(tea, east, 1)
    [result] = reserve(line(outer, 1, east))
    assert (result.reserved, result.short) == (1, 0)
    assert figures(cup, east) == (7, 7, 0)


def test_kit_cycles_and_deep_nesting_are_refused():
    cup = make_sku("CUP")
    inner = make_kit("INNER", {cup: 2})
    outer = make_kit("OUTER", {inner: 1})
    with pytest.raises(UserError, match="contain itself"):
        kits.set_components(inner.pk, {outer.pk: 1}, actor=SYSTEM)
    with pytest.raises(UserError, match="contain itself"):
        kits.set_components(inner.pk, {inner.pk: 1}, actor=SYSTEM)
    top = make_sku("TOP", kind="kit")
    with pytest.raises(UserError, match="may not hold further kits"):
        kits.set_components(top.pk, {outer.pk: 1}, actor=SYSTEM)
    assert kits.flatten([inner.pk]) == {inner.pk: [(cup.pk, 2)]}


def test_services_need_no_stock_and_empty_kits_cannot_be_sold():
    service, kit, east = make_sku(kind="service"), make_sku(kind="kit"), make_warehouse()
    first, second = reserve(line(service, 2, east), line(kit, 1, east))
    assert (first.reserved, first.short) == (0, 0)
    assert (second.reserved, second.short) == (0, 1)


@pytest.mark.parametrize("kind", ["fba", "wfs"])
def test_marketplace_pools_serve_only_multi_channel_fulfilment(kind):
    plain, allowed = make_sku(), make_sku(mcf_allowed=True)
    pool = make_warehouse(kind=kind)
    for sku in (plain, allowed):
        add_stock(sku, pool, 5)
    results = reserve(
        line(plain, 1, pool),
        line(allowed, 1, pool),
        line(plain, 1, pool, mcf=True),
        line(allowed, 1, pool, mcf=True),
    )
    assert [result.reserved for result in results] == [0, 0, 0, 1]


def test_closed_warehouses_serve_nothing():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 5)
    Warehouse.objects.filter(pk=east.pk).update(is_active=False)
    assert reserve(line(sku, 1, east))[0].short == 1


def test_no_candidate_and_unknown_sku():
    sku = make_sku()
    assert reserve(line(sku, 2))[0].short == 2
    with pytest.raises(UserError, match="no SKU with id"):
        reserve(ReserveLine("L", 999_999, 1, ()))
    with pytest.raises(UserError, match="at least 1"):
        reserve(line(sku, 0))


def test_release_gives_back_once(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 5)
    [result] = reserve(line(sku, 4, east))
    pk = result.parts[0].reservation_id
    assert reservations.release({pk: 1}, actor=SYSTEM, reason="cancelled") == {pk: 1}
    assert figures(sku, east) == (5, 3, 2)
    with pytest.raises(Conflict, match="holds 3, 4 asked back"):
        reservations.release({pk: 4}, actor=SYSTEM, reason="cancelled")
    assert reservations.release([pk], actor=SYSTEM, reason="cancelled") == {pk: 3}
    assert reservations.release([pk], actor=SYSTEM, reason="cancelled") == {}
    row = Reservation.objects.get(pk=pk)
    assert (row.state, row.quantity, row.released) == ("released", 0, 4)
    assert figures(sku, east) == (5, 0, 5)
    with pytest.raises(NotFound):
        reservations.release([pk + 1000], actor=SYSTEM, reason="x")
    assert_invariants()


def test_consume_ships_once_per_key(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 5)
    [result] = reserve(line(sku, 4, east))
    pk = result.parts[0].reservation_id
    OutboxEvent.objects.all().delete()
    assert reservations.consume({pk: 3}, actor=SYSTEM, reference="PACK-1", key="ship:1") == {pk: 3}
    assert reservations.consume({pk: 3}, actor=SYSTEM, reference="PACK-1", key="ship:1") == {}
    assert figures(sku, east) == (2, 1, 1)
    assert not OutboxEvent.objects.exists()  # available did not change
    with pytest.raises(Conflict, match="holds 1, 2 shipped"):
        reservations.consume({pk: 2}, actor=SYSTEM, reference="PACK-2", key="ship:2")
    assert reservations.consume({pk: 1}, actor=SYSTEM, reference="PACK-2", key="ship:2") == {pk: 1}
    row = Reservation.objects.get(pk=pk)
    assert (row.state, row.consumed) == ("consumed", 4)
    shipped = StockMovement.objects.filter(kind="ship", bucket="on_hand").order_by("id")
    assert [(move.quantity, move.reference) for move in shipped] == [(-3, "PACK-1"), (-1, "PACK-2")]
    assert_invariants()


def test_move_whole_keeps_the_id_and_a_part_gets_its_own(assert_invariants):
    sku, east, west = make_sku(), make_warehouse(), make_warehouse()
    add_stock(sku, east, 5)
    add_stock(sku, west, 5)
    [result] = reserve(line(sku, 4, east))
    pk = result.parts[0].reservation_id
    assert reservations.move(pk, warehouse_id=west.pk, actor=SYSTEM).pk == pk
    assert (figures(sku, east), figures(sku, west)) == ((5, 0, 5), (5, 4, 1))
    part = reservations.move(pk, warehouse_id=east.pk, quantity=1, actor=SYSTEM)
    assert part.pk != pk
    assert (part.quantity, part.warehouse_id, Reservation.objects.get(pk=pk).quantity) == (1, east.pk, 3)
    with pytest.raises(Conflict, match="holds 3, 9 asked"):
        reservations.move(pk, warehouse_id=east.pk, quantity=9, actor=SYSTEM)
    assert_invariants()


def test_move_is_refused_where_there_is_too_little(assert_invariants):
    sku, east, west = make_sku("MUG"), make_warehouse("EAST"), make_warehouse("WEST")
    pool = make_warehouse("FBA", kind="fba")
    add_stock(sku, east, 5)
    add_stock(sku, west, 1)
    add_stock(sku, pool, 9)
    [result] = reserve(line(sku, 2, east))
    pk = result.parts[0].reservation_id
    with pytest.raises(InsufficientStock, match="2 of MUG asked in WEST, but only 1"):
        reservations.move(pk, warehouse_id=west.pk, actor=SYSTEM)
    with pytest.raises(UserError, match="marketplace's own pool"):
        reservations.move(pk, warehouse_id=pool.pk, actor=SYSTEM)
    assert (figures(sku, east), figures(sku, west)) == ((5, 2, 3), (1, 0, 1))
    assert Reservation.objects.get(pk=pk).warehouse_id == east.pk
    assert_invariants()


def test_checkout_holds_end_by_themselves_and_tell_it(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 5)
    past, future = now() - dt.timedelta(seconds=1), now() + dt.timedelta(minutes=15)
    over, still, order = reserve(
        line(sku, 1, east, expires_at=past), line(sku, 2, east, expires_at=future), line(sku, 1, east)
    )
    assert reservations.expire_due() == 1
    assert reservations.expire_due() == 0
    assert figures(sku, east) == (5, 3, 2)
    lost = OutboxEvent.objects.get(topic="reservation.lost")
    assert lost.key == str(over.parts[0].reservation_id)
    assert Reservation.objects.get(pk=still.parts[0].reservation_id).state == "open"
    assert reservations.keep([still.parts[0].reservation_id], reference="O-1") == 1
    kept = Reservation.objects.get(pk=still.parts[0].reservation_id)
    assert (kept.expires_at, kept.reference) == (None, "O-1")
    assert order.reserved == 1
    assert_invariants()


# --- statements -----------------------------------------------------------------------------------


def test_a_single_order_needs_at_most_eight_statements(django_assert_max_num_queries):
    one, two, east, west = make_sku(), make_sku(), make_warehouse(), make_warehouse()
    for sku in (one, two):
        add_stock(sku, east, 50)
        add_stock(sku, west, 50)
    with transaction.atomic(), django_assert_max_num_queries(8):
        results = reservations.reserve([line(one, 1, east, west), line(two, 2, east, west)], actor=SYSTEM)
    assert [result.short for result in results] == [0, 0]


@pytest.mark.parametrize("hot", [True, False])
def test_a_hundred_orders_need_at_most_half_a_statement_each(hot, django_assert_max_num_queries):
    east, west = make_warehouse(), make_warehouse()
    skus = [make_sku() for _ in range(2 if hot else 200)]
    for sku in skus:
        add_stock(sku, east, 500)
    lines = [line(skus[n % len(skus)], 1, east, west, reference=f"L{n}") for n in range(200)]
    with transaction.atomic(), django_assert_max_num_queries(20):
        results = reservations.reserve(lines, actor=SYSTEM)
    assert sum(result.reserved for result in results) == 200
