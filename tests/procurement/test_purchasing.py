"""P01, P03, P04, P05, P07, P09, P13 through the services."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from inventory.models import DemandDay, StockLevel
from oms.core import business
from oms.core.actor import SYSTEM
from oms.core.clock import business_day
from oms.core.errors import Conflict, UserError
from oms.core.exceptions_inbox import resolve
from oms.core.models import ExceptionItem
from procurement import landed, lateness, planner, purchase_orders, receiving, selectors
from procurement.models import (
    LandedShare,
    OfferBreak,
    PurchaseOrder,
    Receipt,
    ReorderSuggestion,
    Supplier,
    SupplierOffer,
)  # fmt: skip
from procurement.offers import default_offer, price_for
from tests.factories import add_stock, make_sku, make_warehouse

D = Decimal
Arrived = receiving.Arrived


@pytest.fixture
def east(db):
    return make_warehouse("EAST", priority=1)


@pytest.fixture
def supplier(db):
    return Supplier.objects.create(code="KILN", name="Kiln", lead_time_days=14)


def offer(supplier, sku, price="10.00", **fields):
    return SupplierOffer.objects.create(supplier=supplier, sku=sku, price=D(price), **fields)


def sent(supplier, warehouse, *wanted):
    order = purchase_orders.create(
        supplier_id=supplier.pk, warehouse_id=warehouse.pk, actor=SYSTEM,
        lines=[purchase_orders.LineSpec(sku.pk, quantity, D(price)) for sku, quantity, price in wanted],
    )  # fmt: skip
    purchase_orders.approve(order.pk, actor=SYSTEM)
    return purchase_orders.send(order.pk, actor=SYSTEM)


def test_default_offer_follows_rank_and_the_price_is_copied(supplier, east):
    sku = make_sku()
    other = Supplier.objects.create(code="BAY", name="Bay")
    first, second = offer(supplier, sku, "3.00", rank=1), offer(other, sku, "3.50", rank=2)
    order = purchase_orders.create(
        supplier_id=supplier.pk,
        warehouse_id=east.pk,
        lines=[purchase_orders.LineSpec(sku.pk, 10)],
        actor=SYSTEM,
    )
    SupplierOffer.objects.filter(pk=first.pk).update(is_active=False, price=D("9.99"))
    assert default_offer(sku.pk, business_day()) == second
    line = order.lines.get()
    assert (line.unit_price, line.offer_id) == (D("3.0000"), first.pk)


def test_price_breaks_and_their_dates(supplier):
    sku, today = make_sku(), business_day()
    base = offer(supplier, sku, "5.00")
    OfferBreak.objects.create(offer=base, min_quantity=100, price=D("4.00"))
    OfferBreak.objects.create(
        offer=base, min_quantity=50, price=D("1.00"), valid_to=today - dt.timedelta(days=1)
    )
    assert [price_for(base, n, today) for n in (99, 100)] == [D("5.00"), D("4.00")]


def test_states_refuse_what_makes_no_sense(supplier, east):
    sku = make_sku()
    order = purchase_orders.create(
        supplier_id=supplier.pk,
        warehouse_id=east.pk,
        lines=[purchase_orders.LineSpec(sku.pk, 10, D(1))],
        actor=SYSTEM,
    )
    line = order.lines.get()
    with pytest.raises(Conflict, match="only a sent order can be received"):
        receiving.receive(order.pk, [Arrived(line.pk, 1)], actor=SYSTEM, key="a")
    with pytest.raises(Conflict, match="draft and cannot become sent"):
        purchase_orders.send(order.pk, actor=SYSTEM)
    order = sent(supplier, east, (sku, 10, "1"))
    line = order.lines.get()
    receiving.receive(order.pk, [Arrived(line.pk, 7)], actor=SYSTEM, key="b")
    with pytest.raises(Conflict, match="7 of"):
        purchase_orders.change_quantity(order.pk, line.pk, 6, actor=SYSTEM)
    purchase_orders.close(order.pk, actor=SYSTEM)
    line.refresh_from_db()
    assert (line.received, line.short, line.open_quantity) == (7, 3, 0)
    assert selectors.incoming([sku.pk]) == []


def test_receipt_posts_once_good_damaged_quarantine(supplier, east, assert_invariants):
    sku = make_sku()
    order = sent(supplier, east, (sku, 10, "3.10"))
    line = order.lines.get()
    for _ in range(2):
        receiving.receive(order.pk, [Arrived(line.pk, 7, 2, 1)], actor=SYSTEM, key="dock-1")
    level = StockLevel.objects.get(sku=sku, warehouse=east)
    assert (level.on_hand, level.available, level.damaged, level.quarantine) == (10, 7, 2, 1)
    assert Receipt.objects.count() == 1
    assert PurchaseOrder.objects.get(pk=order.pk).state == PurchaseOrder.State.RECEIVED
    assert_invariants()


def test_over_receipt_needs_right_and_tolerance(supplier, east):
    Supplier.objects.filter(pk=supplier.pk).update(over_receipt_percent=D("5"))
    sku = make_sku()
    order = sent(supplier, east, (sku, 100, "1"))
    line = order.lines.get()
    with pytest.raises(Conflict, match="without the right to over-receive"):
        receiving.receive(order.pk, [Arrived(line.pk, 105)], actor=SYSTEM, key="a")
    with pytest.raises(Conflict, match="at most 105"):
        receiving.receive(order.pk, [Arrived(line.pk, 106)], actor=SYSTEM, key="a", allow_over=True)
    receiving.receive(order.pk, [Arrived(line.pk, 105)], actor=SYSTEM, key="a", allow_over=True)
    assert StockLevel.objects.get(sku=sku).on_hand == 105


def test_landed_cost_vector_of_three_lines(supplier, east, assert_invariants):
    """FEATURES 3.12: freight by weight and duty by value give 15.8588 / 94.2940 / 5.21475 per unit."""
    a, b, c = (make_sku(code, weight_g=grams) for code, grams in (("A", 500), ("B", 4000), ("C", 250)))
    order = sent(supplier, east, (a, 100, "10.00"), (b, 10, "50.00"), (c, 40, "2.50"))
    freight = landed.add_charge(order.pk, kind="freight", basis="weight", amount=D("1000"), actor=SYSTEM)
    duty = landed.add_charge(order.pk, kind="duty", basis="value", amount=D("137.41"), actor=SYSTEM)
    assert list(freight.shares.order_by("order_line").values_list("amount", flat=True)) == [
        D("500"),
        D("400"),
        D("100"),
    ]
    assert list(duty.shares.order_by("order_line").values_list("amount", flat=True)) == [
        D("85.88"),
        D("42.94"),
        D("8.59"),
    ]
    lines = list(order.lines.order_by("number"))
    receiving.receive(order.pk, [Arrived(x.pk, x.quantity) for x in lines], actor=SYSTEM, key="a")
    costs = [StockLevel.objects.get(sku=x).average_cost for x in (a, b, c)]
    assert costs[:2] == [D("15.8588"), D("94.2940")]
    assert abs(costs[2] - D("5.21475")) <= D("0.00005")
    assert_invariants()


def test_three_receipts_take_the_freight_once(supplier, east, assert_invariants):
    sku = make_sku(weight_g=100)
    order = sent(supplier, east, (sku, 30, "1.00"))
    landed.add_charge(order.pk, kind="freight", basis="quantity", amount=D("10.00"), actor=SYSTEM)
    line = order.lines.get()
    for number in range(3):
        receiving.receive(order.pk, [Arrived(line.pk, 10)], actor=SYSTEM, key=f"r{number}")
    share = LandedShare.objects.get()
    assert share.applied == D("10.00")
    assert abs(StockLevel.objects.get(sku=sku).average_cost - D("1.3333")) <= D("0.0002")
    assert_invariants()


def test_a_late_bill_goes_to_stock_and_cost_of_goods_in_proportion(supplier, east):
    sku = make_sku()
    order = sent(supplier, east, (sku, 10, "1.00"))
    line = order.lines.get()
    receiving.receive(order.pk, [Arrived(line.pk, 10)], actor=SYSTEM, key="a")
    add_stock(sku, east, 5, unit_cost=D("1.00"))
    from inventory import operations

    operations.adjust(
        sku_id=sku.pk, warehouse_id=east.pk, quantity=-10, reason="sold elsewhere", actor=SYSTEM, key="sold"
    )
    landed.add_charge(order.pk, kind="freight", basis="value", amount=D("10.00"), actor=SYSTEM)
    share = LandedShare.objects.get()
    assert (share.applied, share.to_cogs) == (D("5.00"), D("5.00"))


def test_missing_weight_refuses_the_basis_and_names_the_sku(supplier, east):
    order = sent(supplier, east, (make_sku("NOWEIGHT"), 10, "1.00"))
    with pytest.raises(UserError, match="NOWEIGHT has no weight"):
        landed.add_charge(order.pk, kind="freight", basis="weight", amount=D("10"), actor=SYSTEM)
    assert not order.charges.exists()


def sells(sku, per_day, days=60):
    today = business_day()
    DemandDay.objects.bulk_create(
        DemandDay(sku=sku, channel_code="shop", day=today - dt.timedelta(days=back), units=per_day)
        for back in range(1, days + 1)
    )


def test_suggestion_is_made_once_and_goes_when_stock_recovers(supplier, east):
    sku = make_sku("MUG")
    offer(supplier, sku, "3.10", moq=50, order_multiple=12)
    sells(sku, 4)
    add_stock(sku, east, 20)
    assert planner.suggest(actor=SYSTEM)["new"] == 1
    assert planner.suggest(actor=SYSTEM)["kept"] == 1
    row = ReorderSuggestion.objects.get()
    assert (row.reorder_point, row.position, row.need, row.quantity % 12) == (56, 20, 156, 0)
    assert row.quantity == 156
    assert not ExceptionItem.objects.exists(), "the reorder list is its own inbox"
    add_stock(sku, east, 500)
    planner.suggest(actor=SYSTEM)
    row.refresh_from_db()
    assert row.state == ReorderSuggestion.State.GONE


def test_the_planner_weighs_price_breaks_in_force_once_it_knows_what_an_order_costs(supplier, east):
    sku = make_sku("MUG")
    base = offer(supplier, sku, "8.50")
    OfferBreak.objects.create(offer=base, min_quantity=1000, price=D("8.00"))
    OfferBreak.objects.create(
        offer=base, min_quantity=400, price=D("1.00"), valid_to=business_day() - dt.timedelta(days=1)
    )
    sells(sku, 12)
    planner.suggest(actor=SYSTEM)
    row = ReorderSuggestion.objects.get()
    assert row.trace["eoq"] is None and row.trace["price_break"] is None
    business.put("order_cost", "40")
    assert planner.suggest(actor=SYSTEM)["updated"] == 1
    row.refresh_from_db()
    assert row.quantity == row.reorder_point + 1000
    assert row.trace["price_break"] == {"from": 1000, "unit_cost": "8.0000"}
    assert "From 1000 a unit costs 8.00 instead of 8.50" in row.reason
    SupplierOffer.objects.filter(pk=base.pk).update(currency="EUR")
    planner.suggest(actor=SYSTEM)
    row.refresh_from_db()
    assert row.trace["eoq"] is None, "the price says nothing beside a cost in another currency"


def test_the_business_says_whether_demand_and_lead_time_vary_together(supplier, east):
    sku = make_sku("MUG")
    offer(supplier, sku)
    for number, days in enumerate((8, 14, 20, 11, 17)):
        order = sent(supplier, east, (make_sku(f"P{number}"), 10, "1"))
        receiving.receive(order.pk, [Arrived(order.lines.get().pk, 10)], actor=SYSTEM, key=f"dock-{number}")
        PurchaseOrder.objects.filter(pk=order.pk).update(
            sent_at=order.receipts.get().received_at - dt.timedelta(days=days)
        )
    sells(sku, 4)
    first = business_day() - dt.timedelta(days=9)
    DemandDay.objects.filter(sku=sku, day__lt=first).update(units=9)
    planner.suggest(actor=SYSTEM)
    before = ReorderSuggestion.objects.get().reorder_point
    business.put("lead_time_risk", "together")
    planner.suggest(actor=SYSTEM)
    assert ReorderSuggestion.objects.get().reorder_point > before


def test_an_order_that_comes_too_late_does_not_hide_the_stockout(supplier, east):
    sku = make_sku("MUG")
    offer(supplier, sku, "3.10")
    sells(sku, 4)
    add_stock(sku, east, 20)
    order = sent(supplier, east, (sku, 500, "3.10"))
    PurchaseOrder.objects.filter(pk=order.pk).update(expected_on=business_day() + dt.timedelta(days=40))
    planner.suggest(actor=SYSTEM)
    row = ReorderSuggestion.objects.get()
    assert row.position == 20
    assert "500 on order arrive too late" in row.reason


def test_accepting_groups_by_supplier_and_never_orders_twice(supplier, east, assert_invariants):
    other = Supplier.objects.create(code="BAY", name="Bay")
    skus = [make_sku(f"S{n}") for n in range(4)]
    for number, sku in enumerate(skus):
        offer(supplier if number < 3 else other, sku, "2.00")
        sells(sku, 3)
    planner.suggest(actor=SYSTEM)
    ids = list(ReorderSuggestion.objects.values_list("pk", flat=True))
    made = planner.accept(ids, actor=SYSTEM)
    assert sorted(po.lines.count() for po in made) == [1, 3]
    with pytest.raises(Conflict, match="ordered or dismissed meanwhile"):
        planner.accept(ids, actor=SYSTEM)
    assert PurchaseOrder.objects.count() == 2
    assert_invariants()


def test_a_supplier_is_judged_by_lines_and_planned_by_orders(supplier, east):
    today = business_day()
    assert (selectors.lead_time(supplier.pk, 14).days, selectors.score(supplier.pk).enough_data) == (
        14,
        False,
    )
    for number, days in enumerate((20, 22, 24, 26, 28)):
        order = sent(supplier, east, (make_sku(f"P{number}"), 10, "1"))
        line = order.lines.get()
        good, damaged = (6, 2) if number == 4 else (10, 0)
        receiving.receive(order.pk, [Arrived(line.pk, good, damaged, 0)], actor=SYSTEM, key=f"dock-{number}")
        if number == 4:
            purchase_orders.close(order.pk, actor=SYSTEM)
        arrived = order.receipts.get().received_at
        PurchaseOrder.objects.filter(pk=order.pk).update(
            sent_at=arrived - dt.timedelta(days=days),
            expected_on=today - dt.timedelta(days=1) if number == 0 else today,
        )
    late = sent(supplier, east, (make_sku("LATE"), 10, "1"))
    PurchaseOrder.objects.filter(pk=late.pk).update(expected_on=today - dt.timedelta(days=1))
    lead = selectors.lead_time(supplier.pk, 14)
    assert (lead.days, lead.receipts) == (pytest.approx(24), 5)
    score = selectors.score(supplier.pk)
    assert (score.finished, score.overdue_open) == (5, 1)
    assert (score.on_time, score.fill, score.defects) == (D(4) / 6, D(48) / 50, D(2) / 48)


def test_a_supplier_that_is_late_too_often_gives_way_to_the_next(supplier, east):
    sku = make_sku()
    offer(supplier, sku, "2.00", rank=1)
    other = Supplier.objects.create(code="BAY", name="Bay", lead_time_days=14)
    offer(other, sku, "2.50", rank=2)
    sells(sku, 3)
    add_stock(sku, east, 42)  # lasts just until either could deliver
    planner.suggest(actor=SYSTEM)
    assert ReorderSuggestion.objects.get().offer.supplier == supplier
    for number in range(3):
        order = sent(supplier, east, (make_sku(f"P{number}"), 10, "1"))
        receiving.receive(order.pk, [Arrived(order.lines.get().pk, 10)], actor=SYSTEM, key=f"dock-{number}")
        PurchaseOrder.objects.filter(pk=order.pk).update(expected_on=business_day() - dt.timedelta(days=1))
    planner.suggest(actor=SYSTEM)
    assert ReorderSuggestion.objects.get().offer.supplier == other


def test_a_late_order_is_told_once_and_a_moved_date_closes_it(supplier, east):
    """P06: once per order and date, not once per look; a person's word counts until another date is missed."""
    sku, today = make_sku(), business_day()
    order = sent(supplier, east, (sku, 5, "1"))
    purchase_orders.reschedule(order.pk, today, actor=SYSTEM)
    assert lateness.tell(today + dt.timedelta(days=2)) == (0, 0), "two days of grace"
    assert [lateness.tell(today + dt.timedelta(days=n)) for n in (3, 3, 4)] == [(1, 0), (0, 0), (0, 0)]
    item = ExceptionItem.objects.get(kind="purchase_late")
    assert item.title.startswith(f"{order.number} is late: expected") and "5 units" in item.detail
    resolve(item.pk, "the supplier was asked", actor=SYSTEM)
    assert lateness.tell(today + dt.timedelta(days=4)) == (0, 0), "a person has dealt with it"
    purchase_orders.reschedule(order.pk, today + dt.timedelta(days=5), actor=SYSTEM)
    assert lateness.tell(today + dt.timedelta(days=8)) == (1, 0), "the new date is missed, too"
    purchase_orders.reschedule(order.pk, today + dt.timedelta(days=30), actor=SYSTEM)
    assert lateness.tell(today + dt.timedelta(days=8)) == (0, 1)
    receiving.receive(order.pk, [Arrived(order.lines.get().pk, 5)], actor=SYSTEM, key="r")
    assert lateness.tell(today + dt.timedelta(days=60)) == (0, 0), "it has come"
    draft = purchase_orders.create(
        supplier_id=supplier.pk, warehouse_id=east.pk, actor=SYSTEM, expected_on=today,
        lines=[purchase_orders.LineSpec(sku.pk, 5, D(1))],
    )  # fmt: skip
    purchase_orders.approve(draft.pk, actor=SYSTEM)
    assert lateness.tell(today + dt.timedelta(days=60)) == (0, 0), "nobody has asked the supplier for it yet"
