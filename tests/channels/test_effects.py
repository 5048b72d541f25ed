"""What must happen on a channel once, against the sandbox."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from channels import effects
from channels.connectors.base import get_connector
from channels.models import ChannelAccount, ChannelEffect
from fulfillment import shipments as shipment_service
from fulfillment import shipping
from fulfillment.models import CarrierAccount, LabelPurchase, Parcel, ParcelItem, Shipment
from oms.core import outbox
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.models import ExceptionItem
from oms.orders import intake
from oms.orders.models import Order, OrderLine
from oms.orders.services import cancel_lines
from returns import refunds
from returns.models import Refund
from tests.channels.conftest import Shop, deliver
from tests.factories import line_draft, make_channel, make_sku, make_warehouse, order_draft

pytestmark = pytest.mark.django_db(transaction=True)

State = ChannelEffect.State


def work(shop: Shop, rounds: int = 6) -> None:
    """News to effects, then every due step without waiting for its time."""
    while outbox.drain():
        pass
    for _ in range(rounds):
        ChannelEffect.objects.update(next_attempt_at=now(), lease_until=None)
        effects.drain(shop.account.pk)


def shipped(
    order: Order, carrier: str = "ups", name: str = "UPS", tracking: str = "1Z999AA10123456784"
) -> Shipment:
    """A packed and labelled shipment that leaves; packing and carriers have their own tests."""
    account, _ = CarrierAccount.objects.get_or_create(
        code=carrier, defaults={"name": name, "connector": carrier}
    )
    made = shipment_service.ensure_shipments(order.pk, actor=SYSTEM)
    shipment = Shipment.objects.get(pk=made[0].pk)
    Shipment.objects.filter(pk=shipment.pk).update(state=Shipment.State.LABELLED, carrier_account=account)
    for line in shipment.lines.all():
        line.picked = line.packed = line.quantity
        line.save()
    parcel = Parcel.objects.create(
        shipment=shipment, weight_g=500, length_mm=100, width_mm=100, height_mm=100
    )
    for line in shipment.lines.all():
        ParcelItem.objects.create(parcel=parcel, line=line, quantity=line.quantity)
    LabelPurchase.objects.create(
        parcel=parcel, account=account, service_code="ground", reference=shipment.number, state="purchased",
        tracking_number=tracking, requested_by="test",
    )  # fmt: skip
    return shipping.ship(shipment.pk, actor=SYSTEM)


def booked(shop: Shop, quantity: int = 2, **options: Any) -> Order:
    placed = shop.buy("MUG", quantity, **options)
    if shop.account.connector == "shopify":
        deliver(shop)
    else:
        from channels import inbox, pulls

        pulls.poll_queue(shop.account.pk)
        inbox.drain(shop.account.pk)
    return Order.objects.get(external_id=str(placed["id"]))


def test_shopify_shipment_is_told_once_and_proved(shopify: Shop) -> None:
    order = booked(shopify)
    shipped(order)
    work(shopify)
    effect = ChannelEffect.objects.get()
    assert effect.state == State.CONFIRMED and effect.external_id
    told = shopify.client.fulfilments(shopify.id)
    assert len(told) == 1 and told[0]["tracking"] == ["1Z999AA10123456784"] and told[0]["carrier"] == "UPS"
    # the same news again, and the same effect drained again: nothing more is sent
    with transaction.atomic():
        outbox.emit("shipment.shipped", str(Shipment.objects.get().pk))
    work(shopify)
    assert len(shopify.client.fulfilments(shopify.id)) == 1


@pytest.mark.parametrize("fault", ["timeout", "error_500_after", "drop", "error_500"])
def test_an_answer_that_never_came_is_looked_up_and_never_doubled(shopify: Shop, fault: str) -> None:
    order = booked(shopify)
    shipped(order)
    shopify.client.plan_fault(shopify.id, fault, "fulfillmentCreate")
    work(shopify, rounds=10)
    assert ChannelEffect.objects.get().state == State.CONFIRMED
    assert len(shopify.client.fulfilments(shopify.id)) == 1


def test_amazon_confirmation_is_read_back(amazon: Shop) -> None:
    order = booked(amazon)
    shipped(order, "fedex", "FedEx", "61299998820821171811")
    work(amazon)
    effect = ChannelEffect.objects.get()
    assert effect.state == State.CONFIRMED
    assert effect.external_id == str(Parcel.objects.get().pk)
    told = amazon.client.order(amazon.id, order.external_id)
    assert [package["tracking"] for package in told["fulfilments"]] == [["61299998820821171811"]]


def test_a_carrier_the_channel_does_not_know_is_named_with_words(amazon: Shop) -> None:
    order = booked(amazon)
    shipped(order, "own-van", "Own van", "VAN-1")
    work(amazon)
    assert ChannelEffect.objects.get().state == State.CONFIRMED
    sent = amazon.client.requests(amazon.id, "confirmShipment")[-1]["request"]
    assert '"carrierCode":"Other"' in sent and '"carrierName":"Own van"' in sent


def test_an_unknown_carrier_is_caught_before_sending(shopify: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from channels.connectors.shopify.client import Shopify

    monkeypatch.setattr(Shopify, "capabilities", replace(Shopify.capabilities, other_carriers=False))
    order = booked(shopify)
    shipped(order, "own-van", "Own van", "VAN-1")
    work(shopify)
    assert ChannelEffect.objects.get().state == State.REJECTED
    assert shopify.requests("fulfillmentCreate") == 0
    assert "carrier_code" in ExceptionItem.objects.get(kind="effect_rejected").detail


def paid_refund(order: Order, key: str = "k1") -> Refund:
    line = OrderLine.objects.get(order=order)
    item = refunds.RefundItem(line.pk, 1, Decimal("10.00"))
    return refunds.plan(order_id=order.pk, items=[item], actor=SYSTEM, key=key)


@pytest.mark.parametrize("fault", ["", "timeout", "error_500_after"])
def test_shopify_refund_is_sent_once(shopify: Shop, fault: str) -> None:
    order = booked(shopify)
    shipped(order)
    work(shopify)
    if fault:
        shopify.client.plan_fault(shopify.id, fault, "refundCreate")
    refund = paid_refund(order)
    work(shopify, rounds=10)
    refund.refresh_from_db()
    assert refund.state == Refund.State.CONFIRMED and refund.external_id
    assert [one["amount"] for one in shopify.client.refunds(shopify.id)] == ["10.00"]


def test_amazon_refund_goes_by_feed_and_is_proved_by_its_report(amazon: Shop) -> None:
    order = booked(amazon)
    shipped(order, "ups", "UPS")
    work(amazon)
    refund = paid_refund(order)
    while outbox.drain():
        pass
    effects.drain(amazon.account.pk)
    assert amazon.client.wait_until(lambda: bool(amazon.client.refunds(amazon.id)))
    work(amazon)
    refund.refresh_from_db()
    assert refund.state == Refund.State.CONFIRMED
    assert len(amazon.client.refunds(amazon.id)) == 1


def test_a_cancellation_of_ours_reaches_the_channel(shopify: Shop) -> None:
    order = booked(shopify)
    cancel_lines(order.pk, None, reason="no_stock", actor=SYSTEM)
    work(shopify)
    assert ChannelEffect.objects.get(kind="cancel").state == State.CONFIRMED
    assert shopify.client.order(shopify.id, order.external_id)["cancelled_at"]


def test_orders_are_acknowledged_only_where_the_channel_asks_whatever_their_number(
    db: None, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    sku, place = make_sku("MUG"), make_warehouse("EAST")
    asking, silent = make_channel("asks", place), make_channel("silent", place)
    for channel, connector in ((asking, "amazon"), (silent, "shopify")):
        ChannelAccount.objects.create(sales_channel=channel, connector=connector, config={}, credentials={})
    orders = []
    for channel in (asking, silent):
        drafts = [order_draft(line_draft(sku)) for _ in range(3)]
        taken = intake.take(drafts, channel=channel, actor=SYSTEM, source="api")
        orders += [one.order_id for one in taken if one.order_id is not None]
    with django_assert_num_queries(1):
        assert effects.plan_acknowledge(orders) == 0
    amazon = get_connector("amazon")
    monkeypatch.setattr(amazon, "capabilities", replace(amazon.capabilities, acknowledge=True))
    assert effects.plan_acknowledge(orders) == 3
    assert effects.plan_acknowledge(orders) == 0
    planned = ChannelEffect.objects.filter(kind=ChannelEffect.Kind.ACKNOWLEDGE)
    assert sorted(planned.values_list("order", flat=True)) == sorted(orders[:3])
