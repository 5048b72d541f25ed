"""I17: moving average and FIFO to four decimals, late costs split, returns at their cost; P13's late bill."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory import asof, operations, valuation
from inventory.costing import Layer, add_late_cost, take_oldest
from inventory.ledger import Movement, post_movements
from inventory.models import CostEntry, CostLayer, StockLevel, StockMovement
from oms.core import business
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.errors import NotFound, UserError
from tests.factories import add_stock, make_sku, make_warehouse

pytestmark = pytest.mark.django_db


def take(sku, place, units, key):
    return operations.adjust(
        sku_id=sku.pk, warehouse_id=place.pk, quantity=-units, reason="lost", actor=SYSTEM, key=key
    ).rows[0]


def fifo(sku):
    return valuation.set_method(sku.pk, "fifo", actor=SYSTEM)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.decimals("0", "100", places=4)), min_size=1, max_size=6),
    st.integers(0, 300),
)
def test_layers_lose_nothing(arrivals, units):
    layers = [Layer(count, count * cost, n) for n, (count, cost) in enumerate(arrivals, 1)]
    total = sum(one.units for one in layers)
    if units > total:
        with pytest.raises(ValueError, match="units leave|leave"):
            take_oldest(layers, units)
        return
    left, cost = take_oldest(layers, units)
    assert sum(one.units for one in left) == total - units
    assert sum(one.value for one in left) + cost == sum(one.value for one in layers)
    assert all(one.value >= 0 and (one.units or not one.value) for one in left)


def test_a_late_bill_finds_its_own_layers_and_leaves_the_sold_share():
    layers = [Layer(4, D(8), 1, "PO-1"), Layer(10, D(30), 2, "PO-2"), Layer(5, D(20), 3, "PO-1")]
    # 12 units came on PO-1, 9 are left: three quarters of 24.00
    after, part = add_late_cost(layers, D("24.00"), 12, "PO-1")
    assert part == D("18.00")
    assert [one.value for one in after] == [D("16.0000"), D(30), D("30.0000")]
    assert add_late_cost(layers, D(9), 3, "PO-9") == (layers, D(0))
    # without a reference the newest units bear it
    after, part = add_late_cost(layers, D("12.00"), 6)
    assert part == D(12) and [one.value for one in after] == [D(8), D("32.0000"), D("30.0000")]


def test_fifo_costs_the_oldest_first_and_keeps_the_value(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    fifo(sku)
    add_stock(sku, east, 10, unit_cost=D("1.0000"))
    add_stock(sku, east, 10, unit_cost=D("2.0000"))
    level = StockLevel.objects.get()
    assert level.average_cost == D("1.5000")
    row = take(sku, east, 12, "t1")
    assert (row.unit_cost, row.stock_value, row.average_cost) == (D("1.1667"), D("16.0000"), D("2.0000"))
    assert list(CostLayer.objects.order_by("id").values_list("remaining", "value")) == [(0, D(0)), (8, D(16))]
    # three for ten: nothing is lost to rounding
    add_stock(sku, east, 3, unit_cost=D("3.3333"))
    take(sku, east, 8, "t2")
    values = [take(sku, east, 1, f"t3{n}").stock_value for n in range(3)]
    assert values == [D("6.6666"), D("3.3333"), D(0)]
    assert_invariants()


def test_average_costs_what_leaves_at_the_average(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 10, unit_cost=D(1))
    add_stock(sku, east, 5, unit_cost=D(2))
    row = take(sku, east, 12, "t1")
    assert (row.unit_cost, row.average_cost, row.stock_value) == (D("1.3333"), D("1.3333"), D("3.9999"))
    assert_invariants()


@pytest.mark.parametrize("method", ["average", "fifo"])
def test_late_cost_splits_between_stock_and_variance(method, assert_invariants):
    sku, east = make_sku(), make_warehouse()
    valuation.set_method(sku.pk, method, actor=SYSTEM)
    add_stock(sku, east, 10, unit_cost=D(2))
    take(sku, east, 6, "sold")
    before = now()
    assert valuation.add_cost(sku.pk, east.pk, amount=D("30.00"), units=10, actor=SYSTEM) == D("12.00")
    entry = CostEntry.objects.latest("id")
    assert (entry.amount, entry.variance, entry.average_cost, entry.stock_value) == (
        D(12),
        D(18),
        D(5),
        D(20),
    )
    pair = (sku.pk, east.pk)
    assert asof.as_of(before, with_cost=True)[pair].value == D(8)
    assert asof.as_of(now(), with_cost=True)[pair].value == D(20)
    row = take(sku, east, 1, "after")
    assert (row.unit_cost, row.stock_value) == (D(5), D(15))
    assert_invariants()


def test_an_empty_level_takes_no_late_cost_and_never_explodes():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 3, unit_cost=D(2))
    take(sku, east, 3, "all")
    assert valuation.add_cost(sku.pk, east.pk, amount=D(30), units=3, actor=SYSTEM) == 0
    assert CostEntry.objects.get().variance == D(30)
    add_stock(sku, east, 1, unit_cost=D(4))
    assert StockLevel.objects.get().average_cost == D(4)


def test_changing_the_method_keeps_the_value_and_is_audited(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 4, unit_cost=D(1))
    add_stock(sku, east, 4, unit_cost=D(3))
    fifo(sku)
    assert list(CostLayer.objects.values_list("remaining", "value")) == [(8, D(16))]
    add_stock(sku, east, 2, unit_cost=D(7))
    assert take(sku, east, 8, "old ones").unit_cost == D(2)
    valuation.set_method(sku.pk, "average", actor=SYSTEM)
    assert StockLevel.objects.get().average_cost == D(7) and not CostLayer.objects.exists()
    assert_invariants()
    with pytest.raises(UserError, match="average or fifo"):
        valuation.set_method(sku.pk, "lifo", actor=SYSTEM)
    with pytest.raises(NotFound):
        valuation.set_method(0, "fifo", actor=SYSTEM)


def test_the_business_decides_for_skus_without_a_method_of_their_own(assert_invariants):
    follows, own, east = make_sku(), make_sku(), make_warehouse()
    valuation.set_method(own.pk, "average", actor=SYSTEM)
    for sku in (follows, own):
        add_stock(sku, east, 5, unit_cost=D(1))
    valuation.set_business_method("fifo", actor=SYSTEM)
    assert business.get("valuation") == "fifo"
    for sku in (follows, own):
        add_stock(sku, east, 5, unit_cost=D(2))
    assert take(follows, east, 5, "f").unit_cost == D(1)
    assert take(own, east, 5, "o").unit_cost == D("1.5000")
    valuation.set_business_method("average", actor=SYSTEM)
    assert take(follows, east, 1, "f2").unit_cost == D(2)
    assert_invariants()


def test_a_shipment_knows_what_it_cost():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 10, unit_cost=D("2.5000"))
    post_movements(
        [Movement(sku.pk, east.pk, "on_hand", -4, "ship", key="s", reference="SHP-1")], actor=SYSTEM
    )
    assert valuation.costs_when_shipped([sku.pk], ["SHP-1"]) == {sku.pk: D("2.5000")}
    assert StockMovement.objects.get(key="s").stock_value == D(15)


def test_a_return_comes_back_at_what_it_left_for(assert_invariants):
    """The average has moved since the sale; the unit that comes back brings its own cost."""
    from fulfillment.models import Shipment
    from inventory.models import Warehouse
    from oms.orders.models import Order
    from returns.models import Rma, RmaLine
    from returns.rma import _arrivals
    from tests.factories import make_channel

    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 1, unit_cost=D("2.0000"))
    order = Order.objects.create(
        channel=make_channel("", east),
        external_id="E-1",
        placed_at=now(),
        channel_updated_at=now(),
        currency="USD",
    )
    shipment = Shipment.objects.create(order=order, warehouse=Warehouse.objects.get(pk=east.pk))
    post_movements(
        [Movement(sku.pk, east.pk, "on_hand", -1, "ship", key="s", reference=shipment.number)], actor=SYSTEM
    )
    add_stock(sku, east, 1, unit_cost=D("5.0000"))
    rma = Rma.objects.create(order=order, warehouse=east, source="staff", created_by="test")
    line = RmaLine(pk=1, rma=rma, sku=sku, quantity=1)
    arrived = _arrivals(line, rma, 1, "k")
    assert [movement.unit_cost for movement in arrived] == [D("2.0000"), None]
    post_movements(arrived, actor=SYSTEM)
    assert StockLevel.objects.get().average_cost == D("3.5000")
