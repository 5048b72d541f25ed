"""I06, I07: pre-built kits are built and broken by movements; shared components; sets given back whole."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from django.db import transaction

from inventory import building, kits, numbering, reservations
from inventory.ledger import InsufficientStock
from inventory.models import Reservation, Sku, StockLevel, StockMovement
from inventory.operations import PurchasedGoods, receive_purchase
from inventory.reservations import ReserveLine
from oms.core.actor import SYSTEM
from oms.core.errors import Conflict, NotFound, UserError
from tests.factories import add_stock, make_kit, make_sku, make_warehouse

pytestmark = pytest.mark.django_db


@pytest.fixture
def scene():
    cup, tea, box, east = make_sku("CUP"), make_sku("TEA"), make_sku("BOX", kind="prebuilt"), make_warehouse()
    kits.set_components(box.pk, {cup.pk: 2, tea.pk: 1}, actor=SYSTEM)
    add_stock(cup, east, 7, unit_cost=D("1.5000"))
    add_stock(tea, east, 5, unit_cost=D("4.0000"))
    return cup, tea, box, east


def on_hand() -> dict[str, int]:
    return dict(StockLevel.objects.values_list("sku__code", "on_hand"))


def test_building_uses_components_up_and_carries_their_cost(scene, assert_invariants):
    _, _, box, east = scene
    rows = building.build(box.pk, east.pk, 3, actor=SYSTEM, key="b1")
    assert on_hand() == {"CUP": 1, "TEA": 2, "BOX": 3}
    assert StockLevel.objects.get(sku=box).average_cost == D("7.0000")
    assert {row.reference for row in rows} == {"BOX"} and {row.reason for row in rows} == {"built"}
    again = building.build(box.pk, east.pk, 3, actor=SYSTEM, key="b1")
    assert {row.pk for row in again} == {row.pk for row in rows} and on_hand()["BOX"] == 3
    with pytest.raises(InsufficientStock, match="2 of CUP asked"):
        building.build(box.pk, east.pk, 1, actor=SYSTEM, key="b2")
    assert on_hand() == {"CUP": 1, "TEA": 2, "BOX": 3}
    assert_invariants()


def test_breaking_gives_the_components_back_with_the_value(scene, assert_invariants):
    cup, tea, box, east = scene
    building.build(box.pk, east.pk, 3, actor=SYSTEM, key="b1")
    before = StockMovement.objects.count()
    building.take_apart(box.pk, east.pk, 2, actor=SYSTEM, key="t1")
    building.take_apart(box.pk, east.pk, 2, actor=SYSTEM, key="t1")
    assert on_hand() == {"CUP": 5, "TEA": 4, "BOX": 1} and StockMovement.objects.count() == before + 3
    # 7.00 per set over three units without a standard cost: 2.3333 each
    assert StockMovement.objects.filter(sku=tea, kind="build").latest("id").unit_cost == D("2.3333")
    assert StockMovement.objects.filter(sku=cup, kind="build").latest("id").reason == "broken"
    assert_invariants()


def test_promised_components_are_not_built_in(scene):
    cup, _, box, east = scene
    with transaction.atomic():
        reservations.reserve([ReserveLine("O1", cup.pk, 6, (east.pk,))], actor=SYSTEM)
    with pytest.raises(InsufficientStock):
        building.build(box.pk, east.pk, 1, actor=SYSTEM, key="b")
    assert Reservation.objects.get().quantity == 6


def test_a_virtual_kit_inside_is_resolved_and_nonsense_refused(scene):
    cup, _, box, east = scene
    pair = make_kit("PAIR", {cup: 2})
    kits.set_components(box.pk, {pair.pk: 2, cup.pk: 1}, actor=SYSTEM)
    building.build(box.pk, east.pk, 1, actor=SYSTEM, key="n")
    assert on_hand()["CUP"] == 2
    for kit, place, units, words in (
        (cup.pk, east.pk, 1, "only a pre-built kit"),
        (pair.pk, east.pk, 1, "only a pre-built kit"),
        (box.pk, east.pk, 0, "at least 1"),
        (box.pk, make_warehouse(kind="fba").pk, 1, "count ourselves"),
        (make_sku(kind="prebuilt").pk, east.pk, 1, "no components yet"),
    ):
        with pytest.raises(UserError, match=words):
            building.build(kit, place, units, actor=SYSTEM, key="x")
    with pytest.raises(NotFound):
        building.build(0, east.pk, 1, actor=SYSTEM, key="x")


def test_cancelling_one_kit_of_two_releases_exactly_one_set(scene, assert_invariants):
    cup, tea, _, east = scene
    kit = make_kit("SET", {cup: 2, tea: 1})
    with transaction.atomic():
        [result] = reservations.reserve([ReserveLine("O1", kit.pk, 2, (east.pk,))], actor=SYSTEM)
    give = {part.reservation_id: part.per_unit for part in result.parts}
    reservations.release(give, actor=SYSTEM, reason="cancelled")
    assert dict(Reservation.objects.values_list("sku__code", "quantity")) == {"CUP": 2, "TEA": 1}
    assert_invariants()


def test_a_cycle_is_refused(scene):
    cup, _, _, _ = scene
    inner = make_kit("INNER", {cup: 1})
    outer = make_kit("OUTER", {inner: 1})
    with pytest.raises(UserError, match="contain itself"):
        kits.set_components(inner.pk, {outer.pk: 1}, actor=SYSTEM)
    assert Sku.objects.get(code="INNER").components.get().component_id == cup.pk


def test_units_with_a_serial_number_do_not_vanish_into_a_set(assert_invariants):
    camera, bag, east = make_sku("CAM"), make_sku("BAG"), make_warehouse("EAST")
    kit = make_sku("KIT", kind="prebuilt")
    kits.set_components(kit.pk, {camera.pk: 1, bag.pk: 1}, actor=SYSTEM)
    add_stock(camera, east, 1)
    add_stock(bag, east, 3)
    Sku.objects.filter(pk__in=[camera.pk]).update(serial_tracked=True)
    goods = PurchasedGoods(camera.pk, east.pk, 1, D(5), "r", serials=("S1",))
    receive_purchase([goods], reference="PO-1", actor=SYSTEM)
    with pytest.raises(Conflict, match="2 units of CAM are needed and 1 have no serial number"):
        building.build(kit.pk, east.pk, 2, actor=SYSTEM, key="b2")
    building.build(kit.pk, east.pk, 1, actor=SYSTEM, key="b1")
    assert StockLevel.objects.get(sku=camera).on_hand == 1
    assert_invariants()
    Sku.objects.filter(pk=kit.pk).update(serial_tracked=True)
    numbering.number(sku_id=kit.pk, warehouse_id=east.pk, numbers=["K1"], actor=SYSTEM)
    with pytest.raises(Conflict, match="1 units of KIT are needed and 0 have"):
        building.take_apart(kit.pk, east.pk, 1, actor=SYSTEM, key="t1")
    assert_invariants()
