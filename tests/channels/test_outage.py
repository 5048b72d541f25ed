"""Six hours without a channel: nothing is lost, nothing is doubled, and nobody is flooded when it is back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
import time_machine
from django.db import transaction

from channels import kpis, tasks
from channels.models import Listing, StockPush
from inventory.ledger import Movement, post_movements
from inventory.models import StockLevel
from oms.core import limits
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.models import ExceptionItem
from oms.orders.models import Order, OrderEvent
from tests.channels.conftest import Shop, deliver, push_all

pytestmark = pytest.mark.django_db(transaction=True)

STEP = dt.timedelta(minutes=5)
STEPS = 72  # six hours


def work(shop: Shop) -> None:
    """What the dispatcher and the workers do again and again."""
    limits.forget_copies()  # each process reads the breaker once a second
    subject = str(shop.account.pk)
    push_all()
    tasks.pull_account(subject)
    tasks.drain_inbox(subject)
    tasks.watch_silence(subject)
    push_all()


def sold_elsewhere(shop: Shop, number: int) -> None:
    with transaction.atomic():
        post_movements(
            [Movement(shop.skus["MUG"].pk, shop.warehouse.pk, "on_hand", -1, "adjust", key=f"till:{number}",
                      reason="count")],
            actor=SYSTEM,
        )  # fmt: skip


def test_six_hours_without_a_channel_are_caught_up_exactly_once(
    shopify: Shop, assert_invariants: Callable[[], None]
) -> None:
    push_all()
    tasks.pull_account(str(shopify.account.pk))
    began, client = now(), shopify.client
    client.faults(shopify.id, outage_seconds=(STEP * STEPS).total_seconds() - 60, webhook_loss_rate=1.0)
    client.clear_requests(shopify.id)
    placed = []
    with time_machine.travel(began, tick=True) as clock:
        for step in range(STEPS - 1):
            clock.move_to(began + STEP * (step + 1))
            if step % 4 == 0:
                placed.append(shopify.buy("MUG", ship_by_hours=72 - step))
            if step % 7 == 0:
                sold_elsewhere(shopify, step)
            for _ in range(3):  # nobody is asked more often because more is looked at
                work(shopify)
        during = client.requests(shopify.id, limit=5000)
        assert {request["fault"] for request in during} == {"outage"}
        # a probe per opening of the breaker, not one per look (there were hundreds)
        assert len(during) <= 2 * STEPS
        mug = shopify.listing("MUG")
        assert mug.stale_since is not None and not mug.dead
        assert mug.stale_since < began + 2 * STEP  # it waits since the first change, and says so
        open_now = kpis.sync_latency()
        assert open_now.open >= 1 and (open_now.longest or 0) > 5 * 3600 * 1000
        assert ExceptionItem.objects.filter(kind="connection_down", closed_at__isnull=True).count() == 1
        assert not Order.objects.filter(channel=shopify.account.sales_channel).exists()

        # it is back, and sends its news again, late and more than once
        client.clear_requests(shopify.id)
        clock.move_to(began + STEP * STEPS + dt.timedelta(minutes=11))
        client.clear_faults(shopify.id)
        for order in placed[:5]:
            client.notify(shopify.id, order["id"], times=3)
        for _ in range(3):
            work(shopify)
            clock.shift(dt.timedelta(seconds=40))
        deliver(shopify)
        work(shopify)
        after = client.requests(shopify.id, limit=5000)
        assert not [request for request in after if request["fault"]]
        assert (
            len(after) <= 25
        )  # 18 orders in one page, one push, and the looks of a usual quarter of an hour
        assert shopify.requests("inventorySetQuantities") <= 3

        orders = Order.objects.filter(channel=shopify.account.sales_channel)
        assert orders.count() == len(placed) == len(set(orders.values_list("external_id", flat=True)))
        assert not orders.filter(lines__short__gt=0).exists()
        for order in orders:
            # received once, at the time it came in; placed when the buyer placed it
            assert OrderEvent.objects.filter(order=order, kind="received").count() == 1
            assert began <= order.placed_at <= began + STEP * STEPS <= order.imported_at
        left = StockLevel.objects.get(sku=shopify.skus["MUG"]).available
        assert left == 50 - len(placed) - 11 == shopify.available("MUG")
        assert not Listing.objects.filter(stale_since__isnull=False).exists()
        # the delay is told as it was, by the pushes that ended it
        told = kpis.sync_latency()
        assert told.open == 0 and told.longest is not None and told.longest > 5 * 3600 * 1000
        assert StockPush.objects.filter(state=StockPush.State.ACKED, listing=mug).count() <= 4
        assert not ExceptionItem.objects.filter(kind="connection_down", closed_at__isnull=True).exists()
        assert_invariants()
