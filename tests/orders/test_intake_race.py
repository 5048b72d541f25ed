"""Many writers at once, each on its own connection: nothing is sold twice, nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from inventory.models import StockLevel, StockMovement
from oms.core.actor import Actor
from oms.orders.drafts import OrderDraft
from oms.orders.intake import Taken, take
from oms.orders.models import Order, OrderLine, SalesChannel
from tests.factories import add_stock, line_draft, make_channel, make_sku, make_warehouse, order_draft

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
BOT = Actor("channel", "test")


def together(jobs: list[Callable[[], list[Taken]]], threads: int = 8) -> list[Taken]:
    """Run the jobs in threads that start at the same moment."""
    barrier = threading.Barrier(threads)

    def run(share: list[Callable[[], list[Taken]]]) -> list[Taken]:
        try:
            barrier.wait()
            return [answer for job in share for answer in job()]
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        return [
            answer
            for answers in pool.map(run, [jobs[n::threads] for n in range(threads)])
            for answer in answers
        ]


def job(channel: SalesChannel, *drafts: OrderDraft) -> Callable[[], list[Taken]]:
    return lambda: take(drafts, channel=channel, actor=BOT, source="webhook")


def test_a_hundred_orders_for_the_last_unit(assert_invariants: Callable[[], None]) -> None:
    east, mug = make_warehouse("EAST"), make_sku("MUG")
    add_stock(mug, east, 1)
    channels = [make_channel("one", east), make_channel("two", east, prefix="TW")]
    answers = together(
        [job(channels[n % 2], order_draft(line_draft(mug), external_id=str(n))) for n in range(100)]
    )

    assert [answer.outcome for answer in answers] == ["created"] * 100
    assert Order.objects.count() == 100
    assert OrderLine.objects.filter(reserved=1, short=0).count() == 1
    assert OrderLine.objects.filter(reserved=0, short=1).count() == 99
    level = StockLevel.objects.get()
    assert (level.on_hand, level.reserved) == (1, 1)
    assert StockMovement.objects.filter(bucket="reserved").count() == 1
    assert_invariants()


def test_the_same_orders_from_eight_writers_are_stored_once(assert_invariants: Callable[[], None]) -> None:
    east = make_warehouse("EAST")
    skus = [make_sku(f"S{n}") for n in range(4)]
    for sku in skus:
        add_stock(sku, east, 1000)
    shop = make_channel("shop", east)
    drafts = [
        order_draft(line_draft(skus[n % 4], 2), line_draft(skus[(n + 1) % 4]), external_id=str(n))
        for n in range(20)
    ]
    batches = [job(shop, *(drafts[turn:] + drafts[:turn])) for turn in range(8)]
    answers = together(batches)

    assert len(answers) == 160
    assert sorted({answer.outcome for answer in answers}) == ["created", "unchanged"]
    assert sum(answer.outcome == "created" for answer in answers) == 20
    assert Order.objects.count() == 20
    assert sum(level.reserved for level in StockLevel.objects.all()) == 60
    assert_invariants()


def test_batches_with_hot_skus_in_any_order_do_not_deadlock(assert_invariants: Callable[[], None]) -> None:
    east, west = make_warehouse("EAST"), make_warehouse("WEST")
    skus = [make_sku(f"S{n}") for n in range(6)]
    for sku in skus:
        add_stock(sku, east, 30)
        add_stock(sku, west, 20)
    shop = make_channel("shop", east, west)
    jobs = []
    for n in range(32):
        lines = [line_draft(skus[(n * 5 + k) % 6], 1 + k % 2, str(k)) for k in range(5)]
        jobs.append(
            job(
                shop,
                order_draft(*lines, external_id=f"a{n}"),
                order_draft(*reversed(lines), external_id=f"b{n}"),
            )
        )
    answers = together(jobs)

    assert {answer.outcome for answer in answers} == {"created"}
    assert Order.objects.count() == 64
    asked = sum(line.quantity for line in OrderLine.objects.all())
    held = sum(line.reserved for line in OrderLine.objects.all())
    assert held + sum(line.short for line in OrderLine.objects.all()) == asked
    assert held == sum(level.reserved for level in StockLevel.objects.all()) == 300
    assert_invariants()
