"""F10, F11, F12: a label is bought once, whatever dies in between."""

from __future__ import annotations

import datetime as dt

import pytest
import time_machine

from fulfillment import labels, packing, shipping
from fulfillment.carriers import base
from fulfillment.models import LabelDocument, LabelPurchase, Shipment
from inventory.models import StockLevel
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.errors import Conflict
from oms.core.models import ExceptionItem, OutboxEvent
from oms.orders import services
from oms.orders.models import Order

State = LabelPurchase.State


def test_buy_stores_documents_and_cost_once(world, carrier, assert_invariants):
    shipment = world.packed()
    first = labels.buy(shipment.pk, actor=SYSTEM)
    again = labels.buy(shipment.pk, actor=SYSTEM)
    assert carrier.calls == 1
    assert [p.pk for p in first] == [p.pk for p in again]
    assert (first[0].state, first[0].tracking_number, str(first[0].cost)) == (
        State.PURCHASED,
        "1Z000000001",
        "6.1000",
    )
    assert set(LabelDocument.objects.values_list("format", flat=True)) == {"pdf", "zpl"}
    shipment.refresh_from_db()
    assert shipment.state == Shipment.State.LABELLED
    assert_invariants()


def test_killed_after_the_carrier_booked_it_is_found_again_not_bought_again(
    world, carrier, assert_invariants
):
    shipment = world.packed()
    carrier.plan = ["die"]
    with pytest.raises(KeyboardInterrupt):
        labels.buy(shipment.pk, actor=SYSTEM)
    assert LabelPurchase.objects.get().state == State.REQUESTED
    labels.buy(shipment.pk, actor=SYSTEM)  # an impatient second click
    assert carrier.calls == 1
    assert labels.resolve_due(actor=SYSTEM) == 0  # it may still be running elsewhere
    with time_machine.travel(now() + dt.timedelta(minutes=2)):
        assert labels.resolve_due(actor=SYSTEM) == 1
    purchase = LabelPurchase.objects.get()
    assert (purchase.state, purchase.tracking_number) == (State.PURCHASED, "1Z000000001")
    assert carrier.calls == len(carrier.bought) == 1
    shipment.refresh_from_db()
    assert shipment.state == Shipment.State.LABELLED
    assert_invariants()


def test_timeout_is_unknown_then_adopted(world, carrier):
    shipment = world.packed()
    carrier.plan = ["timeout"]
    labels.buy(shipment.pk, actor=SYSTEM)
    assert LabelPurchase.objects.get().state == State.UNKNOWN
    assert ExceptionItem.objects.get(kind="label_failed").closed_at is None
    labels.buy(shipment.pk, actor=SYSTEM)
    assert carrier.calls == 1
    assert labels.resolve(LabelPurchase.objects.get().pk, actor=SYSTEM) is True
    assert LabelPurchase.objects.get().state == State.PURCHASED
    assert ExceptionItem.objects.get(kind="label_failed").closed_at is not None


def test_unknown_that_never_reached_the_carrier_is_freed_after_two_looks(world, carrier):
    shipment = world.packed()
    carrier.plan = ["lost"]
    labels.buy(shipment.pk, actor=SYSTEM)
    pk = LabelPurchase.objects.get().pk
    assert labels.resolve(pk, actor=SYSTEM) is False
    assert labels.resolve(pk, actor=SYSTEM) is True
    assert LabelPurchase.objects.get(pk=pk).state == State.NOT_BOUGHT
    labels.buy(shipment.pk, actor=SYSTEM)
    bought = LabelPurchase.objects.get(state=State.PURCHASED)
    assert (bought.attempt, len(carrier.bought)) == (2, 1)


def test_a_carrier_that_cannot_be_asked_waits_for_a_person(world, carrier):
    shipment = world.packed()
    carrier.plan, carrier.resolvable = ["timeout"], False
    labels.buy(shipment.pk, actor=SYSTEM)
    purchase = LabelPurchase.objects.get()
    assert labels.resolve(purchase.pk, actor=SYSTEM) is False
    purchase.refresh_from_db()
    assert (purchase.state, purchase.next_attempt_at) == (State.UNKNOWN, None)
    labels.decide_bought(purchase.pk, tracking_number="1ZBYHAND", actor=SYSTEM)
    purchase.refresh_from_db()
    assert (purchase.state, purchase.tracking_number) == (State.PURCHASED, "1ZBYHAND")


def test_rejection_may_be_tried_again(world, carrier):
    shipment = world.packed()
    carrier.plan = ["reject"]
    assert labels.buy(shipment.pk, actor=SYSTEM)[0].state == State.REJECTED
    assert "postal code does not match" in ExceptionItem.objects.get(kind="label_failed").detail
    states = [p.state for p in labels.buy(shipment.pk, actor=SYSTEM)]
    assert states == [State.REJECTED, State.PURCHASED]


def test_killed_between_two_steps_of_a_purchase_the_shipment_goes_on(world, carrier, monkeypatch):
    """The label was stored and the process died before the shipment heard of it."""
    shipment = world.packed()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(labels, "_settle", killed)
        labels.buy(shipment.pk, actor=SYSTEM)
    half = world.packed()  # of this one a label is missing for good
    carrier.plan = ["reject"]
    labels.buy(half.pk, actor=SYSTEM)
    assert labels.resolve_due(actor=SYSTEM) == 0  # it may still be running elsewhere
    with time_machine.travel(now() + dt.timedelta(minutes=2)):
        assert labels.resolve_due(actor=SYSTEM) == 1
        assert labels.resolve_due(actor=SYSTEM) == 0
    found = dict(Shipment.objects.values_list("pk", "state"))
    assert (found[shipment.pk], found[half.pk], carrier.calls) == ("labelled", "packed", 2)


@pytest.mark.parametrize("refused", [False, True])
def test_killed_while_a_label_is_given_back_the_carrier_is_asked_again(world, carrier, monkeypatch, refused):
    """The carrier took it back and nobody stored the answer: the label may not hang for ever, nor be used again."""
    shipment = world.packed()
    [bought] = labels.buy(shipment.pk, actor=SYSTEM)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(carrier, "void", killed)
        labels.void(bought.pk, actor=SYSTEM)
    assert LabelPurchase.objects.get().state == State.VOID_PENDING
    with pytest.raises(Conflict, match="no label yet"):
        shipping.ship(shipment.pk, actor=SYSTEM)
    if refused:
        problem = base.Problem(base.ProblemKind.INVALID_REQUEST, "it was voided already")
        monkeypatch.setattr(carrier, "void", lambda **named: problem)
    assert labels.resolve_due(actor=SYSTEM) == 0  # it may still be running elsewhere
    with time_machine.travel(now() + dt.timedelta(minutes=2)):
        assert labels.resolve_due(actor=SYSTEM) == 1
        assert labels.resolve_due(actor=SYSTEM) == 0
    bought.refresh_from_db()
    shipment.refresh_from_db()
    if refused:  # the carrier's word alone does not tell which of the two it is: a person looks
        assert (bought.state, shipment.state) == (State.PURCHASED, "labelled")
        told = ExceptionItem.objects.get(kind="void_failed", closed_at=None).detail
        assert "voided already" in told and "asked twice" in told
    else:
        assert (bought.state, shipment.state, carrier.voided) == (
            State.VOID,
            "packed",
            [bought.tracking_number],
        )


def killed(*args: object, **named: object) -> None:
    raise KeyboardInterrupt


def test_two_parcels_void_one(world, carrier, assert_invariants):
    shipment = world.routed(4)
    from fulfillment import picking, rates

    picking.pick_all(shipment.pk, actor=SYSTEM)
    line = shipment.lines.get()
    packing.pack(shipment.pk, [packing.Box({line.pk: 3}), packing.Box({line.pk: 1})], actor=SYSTEM)
    rates.shop(shipment.pk)
    first, second = labels.buy(shipment.pk, actor=SYSTEM)
    labels.void(second.pk, actor=SYSTEM)
    assert [p.state for p in LabelPurchase.objects.order_by("pk")] == [State.PURCHASED, State.VOID]
    assert carrier.voided == [second.tracking_number]
    with pytest.raises(Conflict, match="parcel 2 has no label"):
        Shipment.objects.filter(pk=shipment.pk).update(state=Shipment.State.LABELLED)
        shipping.ship(shipment.pk, actor=SYSTEM)
    assert_invariants()


def test_no_label_for_a_held_order_also_not_through_the_service(world, carrier):
    shipment = world.packed()
    services.place_hold(shipment.order_id, reason="person", note="call first", actor=SYSTEM)
    with pytest.raises(Conflict, match="on hold"):
        labels.buy(shipment.pk, actor=SYSTEM)
    assert carrier.calls == 0


def test_ship_moves_stock_once_and_tells_the_channel(world, carrier, assert_invariants):
    shipment = world.packed(2)
    labels.buy(shipment.pk, actor=SYSTEM)
    shipping.ship(shipment.pk, actor=SYSTEM)
    shipping.ship(shipment.pk, actor=SYSTEM)
    level = StockLevel.objects.get(sku=world.sku, warehouse=shipment.warehouse)
    assert (level.on_hand, level.reserved) == (8, 0)
    order = Order.objects.get(pk=shipment.order_id)
    assert (order.state, order.lines.get().shipped) == (Order.State.SHIPPED, 2)
    assert OutboxEvent.objects.filter(topic="shipment.shipped", key=str(shipment.pk)).count() == 1
    assert_invariants()


def test_tracking_never_goes_back_from_delivered(world, carrier):
    shipment = world.packed(1)
    purchase = labels.buy(shipment.pk, actor=SYSTEM)[0]
    shipping.ship(shipment.pk, actor=SYSTEM)
    at = now()
    assert shipping.record_tracking(purchase.pk, status="delivered", at=at, actor=SYSTEM) is True
    assert shipping.record_tracking(purchase.pk, status="delivered", at=at, actor=SYSTEM) is False
    shipping.record_tracking(purchase.pk, status="in_transit", at=at, actor=SYSTEM)
    assert shipping.tracking_status(purchase) == "delivered"
    assert Order.objects.get(pk=shipment.order_id).state == Order.State.DELIVERED
