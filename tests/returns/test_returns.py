"""R01, R04, R05, R06, R07, R08 through the services."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from fulfillment import labels, shipping
from inventory import merging
from inventory.models import StockLevel
from oms.core.actor import SYSTEM
from oms.core.errors import Conflict, UserError
from returns import inspection, refunds, rma
from returns.models import Disposition, Refund, Rma
from tests.factories import make_sku, make_user, make_warehouse
from tests.fulfillment.conftest import carrier, world  # noqa: F401 the shipped order of these tests

D = Decimal
Verdict = inspection.Verdict


@pytest.fixture
def shipped(world, carrier):  # noqa: F811
    from fulfillment import packing, picking, rates, routing_service
    from fulfillment.models import Shipment
    from oms.orders import intake
    from oms.orders.models import Order
    from tests.factories import line_draft, order_draft

    draft = order_draft(line_draft(world.sku, 5, unit_price=D("18.00")), total=D("90.00"))
    taken = intake.take([draft], channel=world.channel, actor=SYSTEM, source="webhook")
    routing_service.route(taken[0].order_id, actor=SYSTEM)
    shipment = Shipment.objects.get(order=taken[0].order_id)
    picking.pick_all(shipment.pk, actor=SYSTEM)
    packing.pack(shipment.pk, actor=SYSTEM)
    rates.shop(shipment.pk)
    labels.buy(shipment.pk, actor=SYSTEM)
    shipping.ship(shipment.pk, actor=SYSTEM)
    return Order.objects.get(pk=taken[0].order_id)


def opened(order, quantity=2):
    line = order.lines.get()
    place = order.shipments.get().warehouse
    return rma.open_rma(
        order_id=order.pk, items=[rma.ReturnItem(line.pk, quantity)], warehouse_id=place.pk, actor=SYSTEM
    )


def level(order):
    return StockLevel.objects.get(sku=order.lines.get().sku, warehouse=order.shipments.get().warehouse)


def test_the_tabs_say_how_many_returns_wait(shipped, client):
    def waiting():
        html = client.get("/returns/").content.decode()
        return re.findall(r">(On the way|To inspect|Inspected) <b>(\d+)</b>", html)

    client.force_login(make_user("boss", "owner"))
    item = opened(shipped, 2)
    assert waiting() == [("On the way", "1"), ("To inspect", "0"), ("Inspected", "0")]
    rma.receive(item.pk, {item.lines.get().pk: 2}, actor=SYSTEM, key="one")
    assert waiting() == [("On the way", "0"), ("To inspect", "1"), ("Inspected", "0")]


def test_never_more_than_shipped_over_all_rmas(shipped):
    opened(shipped, 3)
    with pytest.raises(Conflict, match="only 2 of 5 shipped"):
        opened(shipped, 3)
    opened(shipped, 2)
    assert Rma.objects.count() == 2


def test_receiving_goes_to_quarantine_and_nothing_becomes_sellable(shipped, assert_invariants):
    item = opened(shipped, 2)
    before = level(shipped).available
    line = item.lines.get()
    for _ in range(2):
        rma.receive(item.pk, {line.pk: 2}, actor=SYSTEM, key="scan-1")
    after = level(shipped)
    assert (after.available, after.quarantine) == (before, 2)
    assert Rma.objects.get(pk=item.pk).state == Rma.State.RECEIVED
    assert_invariants()


@pytest.mark.parametrize("opened_before", [True, False])
def test_what_was_merged_since_it_shipped_comes_back_as_what_it_is_now(
    shipped, opened_before, assert_invariants
):
    """Units on the shelf of a SKU that nobody sells any more would be lost to the eye."""
    old, place = shipped.lines.get().sku, shipped.shipments.get().warehouse
    cost = StockLevel.objects.get(sku=old, warehouse=place).average_cost
    item = opened(shipped, 2) if opened_before else None
    cup = make_sku("CUP", weight_g=380)
    merging.merge_skus(old.pk, cup.pk, actor=SYSTEM)
    item = item or opened(shipped, 2)
    line = item.lines.get()
    rma.receive(item.pk, {line.pk: 2}, actor=SYSTEM, key="one")
    inspection.dispose([Verdict(line.pk, 2, "new", "restock")], actor=SYSTEM, key="two")
    now = StockLevel.objects.get(sku=cup, warehouse=place)
    assert (now.available, now.quarantine, now.average_cost) == (7, 0, cost)
    assert StockLevel.objects.get(sku=old, warehouse=place).on_hand == 0
    assert_invariants()


def test_units_of_one_line_end_differently_and_only_restock_sells(shipped, assert_invariants):
    item = opened(shipped, 4)
    line = item.lines.get()
    rma.receive(item.pk, {line.pk: 4}, actor=SYSTEM, key="a")
    open_box = make_sku("MUG-OPEN")
    before = level(shipped)
    inspection.dispose(
        [
            Verdict(line.pk, 1, "new", "restock"),
            Verdict(line.pk, 1, "opened", "open_box", open_box.pk),
            Verdict(line.pk, 1, "damaged", "scrap"),
            Verdict(line.pk, 1, "damaged", "refurbish"),
        ],
        actor=SYSTEM, key="bench-1",
    )  # fmt: skip
    after = level(shipped)
    assert after.available == before.available + 1
    assert (after.on_hand, after.quarantine, after.inspection) == (before.on_hand - 2, 0, 1)
    assert StockLevel.objects.get(sku=open_box).available == 1
    inspection.dispose([Verdict(line.pk, 1, "new", "restock")], actor=SYSTEM, key="bench-1")
    assert Disposition.objects.count() == 4
    assert Rma.objects.get(pk=item.pk).state == Rma.State.INSPECTED
    assert_invariants()


def test_what_an_inspector_may_not_say(shipped):
    item = opened(shipped, 1)
    line = item.lines.get()
    with pytest.raises(Conflict, match="0 wait for inspection"):
        inspection.dispose([Verdict(line.pk, 1, "new", "restock")], actor=SYSTEM, key="a")
    rma.receive(item.pk, {line.pk: 1}, actor=SYSTEM, key="a")
    with pytest.raises(Conflict, match="cannot be restocked as new"):
        inspection.dispose([Verdict(line.pk, 1, "damaged", "restock")], actor=SYSTEM, key="b")
    with pytest.raises(UserError, match="name the SKU"):
        inspection.dispose([Verdict(line.pk, 1, "opened", "open_box")], actor=SYSTEM, key="b")
    assert not Disposition.objects.exists()


def test_expected_two_got_one_and_a_foreign_item(shipped, assert_invariants):
    item = opened(shipped, 2)
    line = item.lines.get()
    rma.receive(item.pk, {line.pk: 1}, actor=SYSTEM, key="a")
    foreign = make_sku("FOREIGN")
    rma.receive_unannounced(
        warehouse_id=item.warehouse_id, goods=[(foreign.pk, 1)], actor=SYSTEM, key="b", rma_id=item.pk
    )
    assert StockLevel.objects.get(sku=foreign).quarantine == 1
    with pytest.raises(Conflict, match="without a disposition"):
        rma.close(item.pk, actor=SYSTEM)
    for entry in item.lines.filter(received__gt=0):
        inspection.dispose([Verdict(entry.pk, 1, "damaged", "scrap")], actor=SYSTEM, key=f"d{entry.pk}")
    assert rma.close(item.pk, actor=SYSTEM).state == Rma.State.CLOSED
    assert shipped.events.filter(text__contains="1 unit not returned").exists()
    assert_invariants()


def test_blind_return_without_any_order(db):
    place, sku = make_warehouse(), make_sku()
    for _ in range(2):
        rma.receive_unannounced(warehouse_id=place.pk, goods=[(sku.pk, 3)], actor=SYSTEM, key="pallet")
    assert (StockLevel.objects.get().available, StockLevel.objects.get().quarantine) == (0, 3)


def test_refunds_are_capped_over_many_steps(shipped, assert_invariants):
    line = shipped.lines.get()
    for number in range(5):
        refunds.plan(
            order_id=shipped.pk,
            items=[refunds.RefundItem(line.pk, 1, D("18.00"))],
            actor=SYSTEM,
            key=f"k{number}",
        )
    refunds.plan(
        order_id=shipped.pk, items=[refunds.RefundItem(line.pk, 1, D("18.00"))], actor=SYSTEM, key="k4"
    )
    assert Refund.objects.count() == 5
    with pytest.raises(Conflict, match="5 of 5 units"):
        refunds.plan(
            order_id=shipped.pk, items=[refunds.RefundItem(line.pk, 1, D("18.00"))], actor=SYSTEM, key="k5"
        )
    with pytest.raises(
        Conflict, match=r"was paid 90\.00 USD, 90\.00 USD is refunded already; 0\.01 USD more is too"
    ):
        refunds.plan(order_id=shipped.pk, items=[], shipping=D("0.01"), actor=SYSTEM, key="k6")
    assert_invariants()


def test_money_and_goods_do_not_follow_each_other(shipped):
    line = shipped.lines.get()
    item = opened(shipped, 1)
    money = refunds.plan(
        order_id=shipped.pk,
        rma_id=item.pk,
        items=[refunds.RefundItem(line.pk, 1, D("18.00"))],
        actor=SYSTEM,
        key="early",
    )
    refunds.mark_sent(money.pk, actor=SYSTEM)
    refunds.confirm(money.pk, actor=SYSTEM, external_id="77")
    assert item.lines.get().received == 0
    other = opened(shipped, 1)
    rma.receive(other.pk, {other.lines.get().pk: 1}, actor=SYSTEM, key="x")
    assert other.refunds.count() == 0


def test_in_doubt_is_settled_not_sent_again(shipped):
    line = shipped.lines.get()
    money = refunds.plan(
        order_id=shipped.pk, items=[refunds.RefundItem(line.pk, 1, D("18.00"))], actor=SYSTEM, key="a"
    )
    refunds.mark_sent(money.pk, actor=SYSTEM)
    refunds.mark_in_doubt(money.pk, actor=SYSTEM, error="no answer")
    refunds.confirm(money.pk, actor=SYSTEM, external_id="9")
    with pytest.raises(Conflict, match="final"):
        refunds.reject(money.pk, actor=SYSTEM, error="late no")


def test_rejected_money_counts_no_longer(shipped):
    line = shipped.lines.get()
    first = refunds.plan(
        order_id=shipped.pk, items=[refunds.RefundItem(line.pk, 5, D("90.00"))], actor=SYSTEM, key="a"
    )
    refunds.mark_sent(first.pk, actor=SYSTEM)
    refunds.reject(first.pk, actor=SYSTEM, error="the shop said no")
    refunds.plan(
        order_id=shipped.pk, items=[refunds.RefundItem(line.pk, 5, D("90.00"))], actor=SYSTEM, key="b"
    )
    with pytest.raises(Conflict, match="other refunds took"):
        refunds.retry(first.pk, actor=SYSTEM)


def test_a_manual_channel_is_paid_back_by_hand(shipped, world, client):  # noqa: F811 the fixture of the shipped order
    from channels.effects import plan_refund
    from oms.core.models import ExceptionItem, Membership, User
    from oms.orders.models import SalesChannel

    line = shipped.lines.get()
    money = refunds.plan(
        order_id=shipped.pk, items=[refunds.RefundItem(line.pk, 1, D("18.00"))], actor=SYSTEM, key="hand"
    )
    SalesChannel.objects.update(kind=SalesChannel.Kind.SHOPIFY)
    with pytest.raises(Conflict, match="wait for the channel"):
        refunds.pay_by_hand(money.pk, actor=SYSTEM)
    SalesChannel.objects.update(kind=SalesChannel.Kind.MANUAL)
    assert plan_refund(money.pk) is False
    assert ExceptionItem.objects.get(kind="refund_by_hand").closed_at is None
    sam = User.objects.create_user("sam", password="x")
    Membership.objects.create(user=sam, role="owner")
    client.force_login(sam)
    title = ExceptionItem.objects.get(kind="refund_by_hand").title
    assert title == f"{money.number}: pay 18.00 USD back by hand"
    url = f"/returns/orders/{shipped.pk}/"  # no return stands behind it, so the order's screen settles it
    assert "Mark as paid back" in client.get(f"{url}panel/").content.decode()
    client.post(f"{url}paid/", {"refund": money.pk + 1})
    assert Refund.objects.get(pk=money.pk).state == Refund.State.PLANNED
    assert client.post(f"{url}paid/", {"refund": money.pk}).status_code == 302
    assert Refund.objects.get(pk=money.pk).state == Refund.State.CONFIRMED
    assert ExceptionItem.objects.get(kind="refund_by_hand").closed_at is not None
