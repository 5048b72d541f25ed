"""Landed cost through the services: split once, taken once, late bills do not touch what was sold."""

from decimal import Decimal

import pytest

from inventory.models import StockLevel
from oms.core.actor import SYSTEM
from oms.core.errors import UserError
from procurement import landed, purchase_orders, receiving
from procurement.models import LandedShare, Supplier
from procurement.purchase_orders import LineSpec
from procurement.receiving import Arrived
from tests.factories import make_sku, make_warehouse

pytestmark = pytest.mark.django_db


@pytest.fixture
def order():
    supplier = Supplier.objects.create(code="ACME", name="Acme", currency="USD")
    skus = [make_sku("A", weight_g=500), make_sku("B", weight_g=4000), make_sku("C", weight_g=250)]
    lines = [
        LineSpec(sku.pk, quantity, unit_price=Decimal(price))
        for sku, quantity, price in zip(skus, (100, 10, 40), ("10.00", "50.00", "2.50"), strict=True)
    ]
    made = purchase_orders.create(
        supplier_id=supplier.pk, warehouse_id=make_warehouse("EAST").pk, lines=lines, actor=SYSTEM
    )
    purchase_orders.approve(made.pk, actor=SYSTEM)
    return purchase_orders.send(made.pk, actor=SYSTEM)


def average(code):
    return StockLevel.objects.get(sku__code=code).average_cost


def shares(charge):
    return list(
        LandedShare.objects.filter(charge=charge)
        .order_by("order_line__number")
        .values_list("amount", flat=True)
    )


def test_worked_example_reaches_the_stock(order):
    freight = landed.add_charge(order.pk, kind="freight", basis="weight", amount=Decimal(1000), actor=SYSTEM)
    duty = landed.add_charge(order.pk, kind="duty", basis="value", amount=Decimal("137.41"), actor=SYSTEM)
    assert shares(freight) == [Decimal("500"), Decimal("400"), Decimal("100")]
    assert shares(duty) == [Decimal("85.88"), Decimal("42.94"), Decimal("8.59")]
    lines = list(order.lines.order_by("number"))
    receiving.receive(order.pk, [Arrived(line.pk, line.quantity) for line in lines], actor=SYSTEM, key="r1")
    assert [average(code) for code in "ABC"] == [Decimal("15.8588"), Decimal("94.2940"), Decimal("5.2148")]


def test_three_receipts_take_the_charge_once(order):
    landed.add_charge(order.pk, kind="freight", basis="equal", amount=Decimal("100"), actor=SYSTEM)
    line = order.lines.get(number=1)
    for number, units in enumerate((33, 33, 34)):
        receiving.receive(order.pk, [Arrived(line.pk, units)], actor=SYSTEM, key=f"r{number}")
    share = LandedShare.objects.get(order_line=line)
    assert (share.amount, share.applied, share.to_cogs) == (Decimal("33.34"), Decimal("33.34"), Decimal(0))
    assert abs(average("A") * 100 - Decimal("1033.34")) < Decimal("0.05")


def test_a_missing_weight_refuses_the_basis_and_names_the_sku(order):
    order.lines.get(number=2).sku.__class__.objects.filter(code="B").update(weight_g=None)
    with pytest.raises(UserError, match="basis: B has no weight"):
        landed.add_charge(order.pk, kind="freight", basis="weight", amount=Decimal(10), actor=SYSTEM)
    assert not LandedShare.objects.exists()
