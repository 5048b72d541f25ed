"""F14's bins, W09: the walk by bins, scans of lots and serial numbers, and a recall that finds every order."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db import transaction

from fulfillment import lot_recall, packing, picking, routing_service, shipping
from fulfillment.models import LabelPurchase, Pick, Shipment
from inventory import lots, merging, putaway
from inventory.ledger import Movement, post_movements
from inventory.models import BinStock, CountTask, Lot, SerialUnit, StockLevel
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.errors import Conflict
from oms.orders import intake
from procurement import purchase_orders, receiving
from procurement.models import Supplier
from tests.factories import line_draft, make_sku, make_user, order_draft
from tests.fulfillment.conftest import PICKER


def post(sku, warehouse, quantity, key, **more):
    with transaction.atomic():
        post_movements(
            [Movement(sku.pk, warehouse.pk, "on_hand", quantity, "adjust", key=key, **more)], actor=SYSTEM
        )


def make_bin(warehouse, code, sequence, kind="pick"):
    return putaway.save_bin(
        warehouse_id=warehouse.pk, code=code, pick_sequence=sequence, kind=kind, actor=SYSTEM
    )


def left(shipment, monkeypatch):
    """Send it without a carrier."""
    packing.pack(shipment.pk, actor=PICKER)
    shipment.refresh_from_db()
    Shipment.objects.filter(pk=shipment.pk).update(state=Shipment.State.LABELLED)
    for parcel in shipment.parcels.all():
        LabelPurchase.objects.filter(parcel=parcel).update(state=LabelPurchase.State.PURCHASED)
    monkeypatch.setattr(shipping, "live_parcels", lambda shipment: [])
    return shipping.ship(shipment.pk, actor=PICKER)


def test_a_batch_visits_each_bin_once_in_walking_order(world, carrier):
    make_bin(world.east, "DOCK", 0, "dock")
    b1, a1 = make_bin(world.east, "B1", 20), make_bin(world.east, "A1", 10)
    dock = world.east.bins.get(code="DOCK")
    putaway.move(sku_id=world.sku.pk, source_id=dock.pk, target_id=a1.pk, quantity=3, actor=SYSTEM)
    putaway.move(sku_id=world.sku.pk, source_id=dock.pk, target_id=b1.pk, quantity=7, actor=SYSTEM)
    batch = [world.routed(2), world.routed(4), world.routed(1)]
    steps = picking.route(batch)
    assert [(step.place, step.quantity) for step in steps] == [("A1", 3), ("B1", 4)]
    assert sum(step.quantity for step in steps) == 7
    picking.claim(batch[0].pk, actor=PICKER)
    assert picking.scan(batch[0].pk, "a1", actor=PICKER).ok
    assert picking.scan(batch[0].pk, "dock", actor=PICKER).word == "WRONG BIN"


def test_the_bench_leads_from_bin_to_bin(world, carrier, client, django_assert_max_num_queries):
    """The bin to go to now stands large, the rest of the walk below in its order; a scan moves it on."""
    make_bin(world.east, "DOCK", 0, "dock")
    b1, a1 = make_bin(world.east, "B1", 20), make_bin(world.east, "A1", 10)
    dock = world.east.bins.get(code="DOCK")
    bowl = make_sku("BOWL", weight_g=200)
    post(bowl, world.east, 5, "bowls")
    putaway.move(sku_id=bowl.pk, source_id=dock.pk, target_id=a1.pk, quantity=5, actor=SYSTEM)
    putaway.move(sku_id=world.sku.pk, source_id=dock.pk, target_id=b1.pk, quantity=10, actor=SYSTEM)
    draft = order_draft(line_draft(world.sku, 2), line_draft(bowl, 1))
    [taken] = intake.take([draft], channel=world.channel, actor=SYSTEM, source="webhook")
    routing_service.route(taken.order_id, actor=SYSTEM)
    shipment = Shipment.objects.get(order=taken.order_id)
    client.force_login(make_user())
    url = f"/floor/{shipment.pk}/"
    with django_assert_max_num_queries(45):
        page = client.get(url)
    steps = [("A1", "BOWL", 1), ("B1", "MUG", 2)]
    assert [(step.place, step.sku.code, step.quantity) for step in page.context["walk"]] == steps
    shown = page.content.decode()
    assert '<span class="place">A1</span>' in shown and '<span class="bin">B1</span>' in shown
    client.post(url, {"code": "BOWL"})
    assert '<span class="place">B1</span>' in client.post(url, {"code": "MUG"}).content.decode()
    shown = client.post(url, {"code": "MUG"}).content.decode()
    assert '<span class="place">' not in shown and "Box" in shown


def test_a_short_pick_asks_for_a_count_once(world, carrier, assert_invariants):
    shipment = world.routed(2)
    line = shipment.lines.get()
    picking.short_pick(line.pk, 1, reason="not_found", actor=PICKER)
    picking.short_pick(line.pk, 1, reason="not_found", actor=PICKER)
    task = CountTask.objects.get()
    assert (task.cause, task.sku, task.state) == ("short_pick", world.sku, "open")
    assert StockLevel.objects.get(sku=world.sku, warehouse=shipment.warehouse).inspection == 2
    assert_invariants()


def test_scanned_lots_leave_and_are_found_again(world, carrier, monkeypatch, assert_invariants):
    sku = make_sku("MILK", lot_tracked=True, expiry_tracked=True, weight_g=100)
    sku.aliases.create(kind="gtin", value="4006381333931")
    supplier = Supplier.objects.create(code="DAIRY", name="Dairy")
    day = now().date()
    order = purchase_orders.create(
        supplier_id=supplier.pk, warehouse_id=world.east.pk, actor=SYSTEM,
        lines=[purchase_orders.LineSpec(sku.pk, 20, Decimal(1))],
    )  # fmt: skip
    purchase_orders.approve(order.pk, actor=SYSTEM)
    purchase_orders.send(order.pk, actor=SYSTEM)
    line = order.lines.get()
    receiving.receive(
        order.pk,
        [
            receiving.Arrived(line.pk, 8, lot_code="L1", expires_on=day + dt.timedelta(days=20)),
            receiving.Arrived(line.pk, 10, lot_code="L2", expires_on=day + dt.timedelta(days=90)),
            receiving.Arrived(line.pk, 2, lot_code="L0", expires_on=day - dt.timedelta(days=1)),
        ],
        actor=SYSTEM,
        key="dock-1",
    )  # fmt: skip
    world.sku = sku
    world.channel.min_shelf_life_days = 30
    world.channel.save()
    first = world.routed(3)
    picking.claim(first.pk, actor=PICKER)

    def scan(lot, expires):
        code = f"]C10104006381333931{'17' + expires.strftime('%y%m%d')}10{lot}"
        return picking.scan(first.pk, code, actor=PICKER)

    assert scan("L0", day - dt.timedelta(days=1)).word == "EXPIRED"
    assert scan("L1", day + dt.timedelta(days=20)).word == "TOO OLD"
    assert scan("L9", day + dt.timedelta(days=90)).word == "UNKNOWN LOT"
    for word in ("OK", "OK", "DONE"):
        assert scan("L2", day + dt.timedelta(days=90)).word == word
    assert first.lines.get().picks.count() == 3
    left(first, monkeypatch)
    found = lot_recall.recall(Lot.objects.get(code="L2").pk)
    assert [(one.shipment.pk, one.units) for one in found.recipients] == [(first.pk, 3)]
    assert found.receipts[0].receipt.order.supplier == supplier
    assert (found.received, found.shipped, found.on_hand, found.gone) == (10, 3, {"EAST": 7}, 0)
    assert dict(BinStock.objects.values_list("lot__code", "quantity")) == {"L0": 2, "L1": 8, "L2": 7}
    # a blocked lot stops at the scanner and in the shop
    lots.set_blocked(found.lot.pk, True, reason="recall", actor=SYSTEM)
    world.channel.min_shelf_life_days = 0
    world.channel.save()
    assert world.order(9).short_units == 1  # of 15 good units only the 8 of L1 may be sold
    assert_invariants()


def test_serial_numbers_are_scanned_one_by_one(world, carrier, monkeypatch, assert_invariants):
    sku = make_sku("CAM", serial_tracked=True, weight_g=100)
    post(sku, world.east, 3, "1")
    for number in ("S1", "S2", "S3"):
        SerialUnit.objects.create(sku=sku, serial=number, warehouse=world.east)
    world.sku = sku
    shipment = world.routed(2)
    with pytest.raises(Conflict, match="scan each unit"):
        picking.pick_all(shipment.pk, actor=PICKER)
    picking.claim(shipment.pk, actor=PICKER)
    assert picking.scan(shipment.pk, "CAM", actor=PICKER).word == "SERIAL?"
    assert picking.scan(shipment.pk, "S1", actor=PICKER).word == "OK"
    assert picking.scan(shipment.pk, "s1", actor=PICKER).word == "TWICE"
    assert picking.scan(shipment.pk, "S3", actor=PICKER).word == "DONE"
    left(shipment, monkeypatch)
    assert dict(SerialUnit.objects.values_list("serial", "state")) == {
        "S1": "shipped", "S2": "in_stock", "S3": "shipped",
    }  # fmt: skip
    assert SerialUnit.objects.get(serial="S1").reference == shipment.number
    assert Pick.objects.count() == 2
    assert_invariants()


def test_a_merge_waits_for_open_purchases(world):
    source, target = make_sku("OLD"), make_sku("NEW")
    supplier = Supplier.objects.create(code="K", name="K")
    order = purchase_orders.create(
        supplier_id=supplier.pk, warehouse_id=world.east.pk, actor=SYSTEM,
        lines=[purchase_orders.LineSpec(source.pk, 2, Decimal(1))],
    )  # fmt: skip
    assert merging.conflicts(source, target) == [
        f"OLD is on {order.number}: receive, close or cancel it first."
    ]
    purchase_orders.cancel(order.pk, actor=SYSTEM)
    assert merging.conflicts(source, target) == []


def test_routing_does_not_count_expired_units(world, carrier):
    sku = make_sku("YOG", lot_tracked=True, weight_g=100)
    old = Lot.objects.create(sku=sku, code="OLD", expires_on=dt.date(2020, 1, 1))
    good = Lot.objects.create(sku=sku, code="GOOD", expires_on=dt.date(2099, 1, 1))
    post(sku, world.east, 5, "1", lot_id=old.pk)
    post(sku, world.west, 5, "2", lot_id=good.pk)
    world.sku = sku
    order = world.order(2)
    decision = routing_service.route(order.pk, actor=SYSTEM)
    assert decision.outcome == "routed"
    assert Shipment.objects.get(order=order).warehouse == world.west
