"""Goods on their way to a 3PL: announced once per version, received by its own word; costs; orders asked back."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from decimal import Decimal

import pytest

from fulfillment import routing_service, shipments
from fulfillment.models import (
    InboundNotice,
    InboundReceipt,
    LabelPurchase,
    Shipment,
    ShipmentCharge,
    ThreePLCall,
)
from fulfillment.threepl import calls, files, handoff, inbound
from inventory import transfers
from inventory.models import Lot, StockLevel, StockMovement, Transfer
from oms.core.actor import SYSTEM, Actor
from oms.core.clock import now
from oms.core.errors import Conflict
from oms.core.models import ExceptionItem
from oms.orders.models import ChannelWarehouse
from procurement import purchase_orders
from procurement.models import PurchaseOrder, Supplier
from procurement.purchase_orders import LineSpec
from tests.factories import add_stock, make_user, make_warehouse
from tests.threepl.conftest import Partner, run_tasks
from tests.threepl.test_files import Paper
from tests.threepl.test_files import paper as paper

pytestmark = pytest.mark.django_db
D = Decimal
ANNA = Actor("user", "anna")


def bought(partner: Partner, mugs: int = 10, bowls: int = 0, *, tolerance: int = 0) -> PurchaseOrder:
    supplier, _ = Supplier.objects.get_or_create(
        code="KILN", defaults={"name": "Kiln & Co", "over_receipt_percent": tolerance}
    )
    lines = [LineSpec(partner.sku.pk, mugs, D(4))] + (
        [LineSpec(partner.other.pk, bowls, D(7))] if bowls else []
    )
    order = purchase_orders.create(
        supplier_id=supplier.pk, warehouse_id=partner.warehouse.pk, lines=lines, actor=SYSTEM
    )
    purchase_orders.approve(order.pk, actor=SYSTEM)
    return purchase_orders.send(order.pk, actor=SYSTEM)


def told(partner: Partner) -> int:
    made = inbound.plan(partner.account.pk, actor=SYSTEM)
    calls.drain(partner.account.pk)
    return made


def expected(partner: Partner) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = partner.client.threepl("midway")["expected"]
    return found


def receipt(
    partner: Partner, reference: str, *lines: dict[str, object], number: str = "R1", complete: bool = False
):
    return partner.tell(
        "inbound.received", reference=reference, receipt_id=number, received_at=now().isoformat(), complete=complete,
        lines=list(lines),
    )  # fmt: skip


def alarms(kind: str = "threepl_inbound") -> list[str]:
    return list(ExceptionItem.objects.filter(kind=kind, closed_at=None).values_list("detail", flat=True))


# --- told ------------------------------------------------------------------------------------------


def test_a_purchase_order_is_announced_once_per_version_and_withdrawn(partner: Partner, clean):
    order = bought(partner, 10, 4)
    assert (told(partner), told(partner)) == (1, 0)
    there = expected(partner)[order.number]
    assert (there["kind"], there["from"]) == ("purchase_order", "Kiln & Co")
    assert [(line["line"], line["sku"], line["quantity"]) for line in there["lines"]] == [
        (1, "MUG", 10), (2, "BOWL", 4),
    ]  # fmt: skip
    assert "price" not in str(there)
    purchase_orders.change_quantity(order.pk, order.lines.get(number=1).pk, 12, actor=ANNA)
    assert (told(partner), told(partner)) == (1, 0)
    assert expected(partner)[order.number]["lines"][0]["quantity"] == 12
    purchase_orders.cancel(order.pk, actor=ANNA)
    assert (told(partner), told(partner)) == (1, 0)
    assert expected(partner) == {} and InboundNotice.objects.get().state == "withdrawn"
    assert partner.client.shop("midway")["operations"] == {"ping": 1, "expect": 2, "withdraw": 1}
    clean()


def test_a_draft_and_goods_for_another_house_are_nobodys_business(partner: Partner):
    order = bought(partner)
    PurchaseOrder.objects.filter(pk=order.pk).update(state="draft")
    other = bought(partner)
    PurchaseOrder.objects.filter(pk=other.pk).update(warehouse=make_warehouse("OWN"))
    assert told(partner) == 0


@pytest.mark.parametrize("fault", ["timeout", "error_500_after", "drop"])
def test_a_lost_answer_is_told_again_and_changes_nothing(partner: Partner, clean, fault):
    partner.client.plan_fault("midway", fault, "expect")
    order = bought(partner)
    told(partner)
    for _ in range(3):
        partner.due()
    assert InboundNotice.objects.get().state == "told"
    assert list(expected(partner)) == [order.number]
    clean()


def test_what_they_refuse_is_told_and_can_be_told_again(partner: Partner):
    partner.client.threepl_act("midway", "stock", levels={})
    order = bought(partner)
    partner.sku.code = "MUG-NEW"
    partner.sku.save()
    told(partner)
    notice = InboundNotice.objects.get()
    assert (notice.state, "unknown SKU MUG-NEW" in notice.error) == ("refused", True)
    assert "unknown SKU MUG-NEW" in alarms()[0]
    partner.client.threepl_act("midway", "stock", levels={"MUG-NEW": 1})
    inbound.tell_again(notice.pk, actor=ANNA)
    partner.due()
    assert InboundNotice.objects.get().state == "told" and not alarms() and order.number in expected(partner)


def test_a_delivery_that_changes_and_changes_back_is_written_each_time(paper: Paper):
    """The third file says word for word what the first one said: it is news all the same."""
    supplier = Supplier.objects.create(code="KILN", name="Kiln & Co")
    order = purchase_orders.create(
        supplier_id=supplier.pk,
        warehouse_id=paper.warehouse.pk,
        lines=[LineSpec(paper.sku.pk, 10, D(4))],
        actor=SYSTEM,
    )
    purchase_orders.approve(order.pk, actor=SYSTEM)
    purchase_orders.send(order.pk, actor=SYSTEM)
    written = []
    for units in (10, 12, 10):
        purchase_orders.change_quantity(order.pk, order.lines.get().pk, units, actor=ANNA)
        inbound.plan(paper.account.pk, actor=SYSTEM)
        written.append(files.write_inbound(paper.account.pk, actor=SYSTEM))
    assert [file and file.content for file in written].count(written[0] and written[0].content) == 2
    assert len({file and file.name for file in written}) == 3
    assert InboundNotice.objects.get().state == "told"


# --- received --------------------------------------------------------------------------------------


def test_their_receipt_is_booked_once_through_our_receiving(partner: Partner, clean):
    order = bought(partner, 10, 4)
    told(partner)
    lines = [{"line": 1, "good": 6, "damaged": 1}, {"sku": "BOWL", "good": 3, "quarantine": 1}]
    for _ in range(2):  # their message comes twice, under two delivery numbers
        done = receipt(partner, order.number, *lines)
        assert done.state == "done", done.error
    assert "booked already" in done.error
    mug, bowl = partner.level(), partner.level(partner.other)
    assert (mug.on_hand, mug.damaged, mug.available) == (17, 1, 16)
    assert (bowl.on_hand, bowl.quarantine, bowl.available) == (10, 1, 9)
    order.refresh_from_db()
    assert order.state == "part_received"
    booked = InboundReceipt.objects.get()
    assert (booked.units, booked.receipt.delivery_note, booked.receipt.actor) == (11, "R1", "3pl:midway")
    assert InboundNotice.objects.get().state == "receiving"
    receipt(partner, order.number, {"line": 1, "good": 3}, number="R2", complete=True)
    order.refresh_from_db()
    assert order.state == "received" and InboundNotice.objects.get().state == "done"
    assert told(partner) == 0
    clean()


def test_more_than_is_open_is_told_and_never_booked(partner: Partner, clean):
    order = bought(partner, 10, tolerance=10)
    told(partner)
    receipt(partner, order.number, {"sku": "mug", "good": 13}, {"sku": "BOWL", "good": 2}, complete=True)
    assert partner.level().on_hand == 21 and partner.level(partner.other).on_hand == 6
    [detail] = alarms()
    assert "2 × MUG more than was open" in detail and "2 × BOWL more than was open" in detail
    assert InboundReceipt.objects.get().units == 11
    clean()


def test_what_a_person_booked_by_hand_is_not_booked_again_by_their_word(partner: Partner, clean):
    from procurement import receiving

    order = bought(partner, 10)
    told(partner)
    receiving.receive(order.pk, [receiving.Arrived(order.lines.get().pk, 10)], actor=ANNA, key="by hand")
    receipt(partner, order.number, {"sku": "MUG", "good": 10})
    assert partner.level().on_hand == 20
    assert "10 × MUG more than was open" in alarms()[0]
    clean()


def test_units_that_never_came_are_told_when_they_are_done(partner: Partner, clean):
    order = bought(partner, 10)
    told(partner)
    receipt(partner, order.number, {"sku": "MUG", "good": 8})
    assert not alarms()
    receipt(partner, order.number, {"sku": "MUG", "good": 1}, number="R2", complete=True)
    assert "1 × MUG did not come" in alarms()[0]
    clean()


def test_a_tracked_item_needs_its_lot_and_keeps_it(partner: Partner, clean):
    partner.sku.lot_tracked = True
    partner.sku.save()
    order = bought(partner, 10)
    told(partner)
    dead = receipt(partner, order.number, {"sku": "MUG", "good": 4})
    assert dead.state == "dead" and "lot" in dead.error and partner.level().on_hand == 10
    receipt(
        partner, order.number, {"sku": "MUG", "good": 4, "lot": "L7", "expires_on": "2031-01-31"},
        {"sku": "MUG", "good": 2, "lot": "L8", "expires_on": "2031-02-28"}, number="R2",
    )  # fmt: skip
    assert set(Lot.objects.values_list("code", flat=True)) == {"L7", "L8"}
    assert partner.level().on_hand == 16
    clean()


def test_a_transfer_is_announced_and_received_with_what_is_broken_and_missing(partner: Partner, clean):
    east = make_warehouse("EAST")
    add_stock(partner.sku, east, 20)
    moving = transfers.request_transfer(
        source_id=east.pk, destination_id=partner.warehouse.pk, lines={partner.sku.pk: 10}, actor=SYSTEM
    )
    assert told(partner) == 0  # nothing has left yet
    transfers.ship_transfer(moving.pk, actor=SYSTEM)
    assert told(partner) == 1
    assert expected(partner)[moving.number]["lines"] == [
        {"line": 1, "sku": "MUG", "quantity": 10, "lots": []}
    ]
    for _ in range(2):
        receipt(partner, moving.number, {"line": 1, "good": 7, "damaged": 2}, complete=True)
    level = partner.level()
    assert (level.on_hand, level.damaged, level.available, level.in_transit) == (19, 2, 17, 1)
    assert StockLevel.objects.get(warehouse=east).on_hand == 10
    assert Transfer.objects.get().state == "shipped" and "1 × MUG did not come" in alarms()[0]
    assert alarms("transfer_difference")
    clean()


def test_receipts_whose_numbers_begin_alike_all_count(partner: Partner, clean):
    east = make_warehouse("EAST")
    add_stock(partner.sku, east, 20)
    moving = transfers.request_transfer(
        source_id=east.pk, destination_id=partner.warehouse.pk, lines={partner.sku.pk: 10}, actor=SYSTEM
    )
    transfers.ship_transfer(moving.pk, actor=SYSTEM)
    told(partner)
    before = partner.level().on_hand
    for number, units in (("R10", 4), ("R1", 3), ("R1", 3)):
        receipt(partner, moving.number, {"line": 1, "good": units}, number=number)
    assert (partner.level().on_hand - before, partner.level().in_transit) == (7, 3)
    clean()


def test_a_house_that_numbers_its_receipts_anew_per_delivery_loses_none(partner: Partner, clean):
    first, second = bought(partner, 10), bought(partner, 5)
    told(partner)
    before = partner.level().on_hand
    receipt(partner, first.number, {"line": 1, "good": 10}, number="1")
    receipt(partner, second.number, {"line": 1, "good": 5}, number="1")
    assert partner.level().on_hand - before == 15
    clean()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"reference": "PO-999"}, "never told to expect 'PO-999'"),
        ({"lines": [{"sku": "NOPE", "good": 1}]}, "there is no SKU 'NOPE'"),
        ({"lines": [{"line": 9, "good": 1}]}, "has no line 9"),
        ({"lines": [{"sku": "MUG", "good": 0}]}, "at least one unit"),
        ({"lines": [{"sku": "MUG", "good": -3}]}, "good: -3 is not between 0"),
        ({"lines": [{"sku": "MUG", "good": 1, "expires_on": "soon"}]}, "expires_on: 'soon' is not a date"),
        ({"lines": []}, "lines: must be a list"),
        ({"receipt_id": ""}, "receipt_id: is missing"),
        ({"complete": "perhaps"}, "complete: 'perhap"),
    ],
)
def test_nonsense_receipts_change_nothing(partner: Partner, clean, data, says):
    order = bought(partner)
    told(partner)
    body = {
        "reference": order.number, "receipt_id": "R1", "received_at": now().isoformat(), "complete": False,
        "lines": [{"sku": "MUG", "good": 1}], **data,
    }  # fmt: skip
    before = StockMovement.objects.count()
    message = partner.tell("inbound.received", **body)
    assert message.state == "dead" and (
        says in message.error or "complete: has 7 characters" in message.error
    )
    assert StockMovement.objects.count() == before
    clean()


# --- by files --------------------------------------------------------------------------------------


def test_by_files(paper: Paper, assert_invariants: Callable[[], None]):
    supplier = Supplier.objects.create(code="KILN", name="=Kiln")
    order = purchase_orders.create(
        supplier_id=supplier.pk,
        warehouse_id=paper.warehouse.pk,
        lines=[LineSpec(paper.sku.pk, 10, D(4))],
        actor=SYSTEM,
    )
    purchase_orders.approve(order.pk, actor=SYSTEM)
    purchase_orders.send(order.pk, actor=SYSTEM)
    inbound.plan(paper.account.pk, actor=SYSTEM)
    file = files.write_inbound(paper.account.pk, actor=SYSTEM)
    assert file is not None and files.write_inbound(paper.account.pk, actor=SYSTEM) is None
    [row] = csv.DictReader(io.StringIO(file.content))
    assert (file.kind, row["action"], row["reference"], row["sku"], row["quantity"], row["from"]) == (
        "inbound", "expect", order.number, "MUG", "10", "'=Kiln",
    )  # fmt: skip
    assert InboundNotice.objects.get().state == "told"
    at = now().isoformat()
    head = "receipt_id,reference,sku,good,damaged,received_at,complete"
    wrong = paper.take(head, f"G1,PO-999,MUG,1,,{at},", f"G1,{order.number},NOPE,x,,{at},")
    assert not wrong.accepted and [(r, c) for r, c, _ in wrong.problems] == [
        (2, "reference"), (3, "good"), (3, "sku"),
    ]  # fmt: skip
    paper.take(head, f"G1,{order.number},MUG,6,1,{at},", name="g.csv")
    # the corrected file repeats what was told
    paper.take(head, f"G1,{order.number},MUG,6,1,{at},", f"G2,{order.number},MUG,3,,{at},yes", name="g2.csv")
    assert paper.on_hand() == 20
    order.refresh_from_db()
    assert order.state == "received" and InboundReceipt.objects.count() == 2
    assert_invariants()


def test_a_cancelled_order_is_withdrawn_with_the_next_file(paper: Paper):
    supplier = Supplier.objects.create(code="KILN", name="Kiln")
    order = purchase_orders.create(
        supplier_id=supplier.pk,
        warehouse_id=paper.warehouse.pk,
        lines=[LineSpec(paper.sku.pk, 10, D(4))],
        actor=SYSTEM,
    )
    purchase_orders.approve(order.pk, actor=SYSTEM)
    purchase_orders.send(order.pk, actor=SYSTEM)
    inbound.plan(paper.account.pk, actor=SYSTEM)
    purchase_orders.cancel(order.pk, actor=SYSTEM)
    inbound.plan(paper.account.pk, actor=SYSTEM)
    file = files.write_inbound(paper.account.pk, actor=SYSTEM)
    assert file is not None
    assert [row["action"] for row in csv.DictReader(io.StringIO(file.content))] == ["withdraw"]
    assert InboundNotice.objects.get().state == "withdrawn"
    assert ThreePLCall.objects.get(kind="inbound").error == "overtaken by a newer version"


# --- what it cost ----------------------------------------------------------------------------------


def test_label_cost_and_later_charges_stand_on_the_shipment_once(partner: Partner, clean, client):
    given = partner.handed(2)
    early = partner.tell(
        "shipment.charged", reference=given.reference, charge_id="C1", kind="pick and pack", amount="2.35",
        currency="usd", charged_at=now().isoformat(),
    )  # fmt: skip
    assert early.state == "received" and "has not left yet" in early.error
    box = {
        "carrier": "UPS", "tracking": "1Z1", "cost": "7.15", "currency": "USD", "lines": [{"line": 1, "quantity": 2}],
    }  # fmt: skip
    partner.left(given, {}, "OUT-1", parcels=[box])
    label = LabelPurchase.objects.get()
    assert (label.cost, label.currency) == (D("7.15"), "USD")
    for delivery in ("a", "b"):
        partner.tell(
            "shipment.charged", delivery, reference=given.reference, charge_id="C2", shipment_id="OUT-1",
            kind="packaging", amount="-0.50", currency="USD", charged_at=now().isoformat(),
        )  # fmt: skip
    charge = ShipmentCharge.objects.get(external_id="C2")
    assert (charge.shipment_id, charge.amount, charge.kind) == (given.shipment_id, D("-0.50"), "packaging")
    client.force_login(make_user())
    page = client.get(f"/shipments/{given.shipment_id}/").content.decode()
    assert "Charged by the 3PL" in page and "6.65" in page
    wrong = partner.tell(
        "shipment.charged", reference=given.reference, charge_id="C3", kind="x", amount="1e9", currency="USD",
        charged_at=now().isoformat(),
    )  # fmt: skip
    assert wrong.state == "dead" and "amount: '1e9' is not an amount" in wrong.error
    clean()


# --- asked back ------------------------------------------------------------------------------------


def elsewhere(partner: Partner):
    """A second warehouse that may serve the channel."""
    east = make_warehouse("EAST", region="TX", postal_code="78701", address1="2 Dock", city="Austin")
    add_stock(partner.sku, east, 10)
    ChannelWarehouse.objects.create(channel=partner.channel, warehouse=east, rank=2)
    return east


def test_nobody_else_sends_it_before_the_3pl_let_go(partner: Partner, clean):
    given = partner.handed(2)
    elsewhere(partner)
    partner.client.faults("midway", drop_rate=1.0, only=["cancel"])  # they do not answer
    handoff.take_back(given.pk, "faster from east", actor=ANNA)
    calls.drain(partner.account.pk)
    with pytest.raises(Conflict, match="asked back already"):
        handoff.take_back(given.pk, "again", actor=ANNA)
    with pytest.raises(Conflict, match="handed to Midway 3PL"):
        shipments.cancel_shipment(given.shipment_id, actor=ANNA, reason="x")
    routing_service.route(given.shipment.order_id, actor=ANNA, manual=True)
    shipments.ensure_shipments(given.shipment.order_id, actor=SYSTEM)
    assert Shipment.objects.get().pk == given.shipment_id, "a second shipment would send the units twice"
    partner.client.clear_faults("midway")
    for _ in range(5):
        partner.due()
    given.refresh_from_db()
    assert given.state == "cancelled" and partner.there()[0]["status"] == "cancelled"
    assert Shipment.objects.get(pk=given.shipment_id).state == "cancelled"
    run_tasks()
    assert Shipment.objects.exclude(state="cancelled").count() == 1  # routed anew, once
    clean()


def test_what_left_before_their_answer_counts_as_sent(partner: Partner, clean):
    given = partner.handed(2)
    partner.client.threepl_act("midway", "ship", order=given.reference)  # its notice is late
    handoff.take_back(given.pk, "faster from east", actor=ANNA)
    assert partner.left(given, {1: 2}, "OUT-1").state == "done"
    given.refresh_from_db()
    assert (given.state, given.shipment.order.lines.get().shipped) == ("shipped", 2)
    assert partner.level().on_hand == 8 and partner.level().reserved == 0
    assert ExceptionItem.objects.get(kind="threepl_too_late", closed_at=None)
    partner.due()  # their answer: too late
    given.refresh_from_db()
    assert given.state == "shipped" and not ExceptionItem.objects.filter(kind="threepl_excess").exists()
    run_tasks()
    assert Shipment.objects.count() == 1
    clean()


def test_too_late_leaves_the_shipment_with_them(partner: Partner, clean):
    given = partner.handed(2)
    partner.client.threepl_act("midway", "ship", order=given.reference)
    handoff.take_back(given.pk, "faster from east", actor=ANNA)
    partner.due()
    assert Shipment.objects.get().state == "picking"
    assert ExceptionItem.objects.get(kind="threepl_too_late", closed_at=None)
    partner.left(given, {1: 2}, "OUT-1")
    assert Shipment.objects.get().state == "shipped"
    assert not ExceptionItem.objects.filter(kind="threepl_excess").exists()
    clean()
