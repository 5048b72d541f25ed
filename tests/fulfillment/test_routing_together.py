"""Many waiting orders routed together: the same result as one by one, with statements that do not grow."""

from __future__ import annotations

from django.db import connection
from django.test.utils import CaptureQueriesContext

from fulfillment import routing_service, tasks
from fulfillment.models import RoutingDecision, RoutingQueue, Shipment
from inventory.models import Reservation
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.outbox import drain
from oms.orders import services
from oms.orders.models import Order, OrderEvent
from tests.factories import add_stock


def news_told():
    while drain():
        pass


def facts(order):
    """What routing leaves behind, without ids and times."""
    order.refresh_from_db()
    decision = RoutingDecision.objects.get(order=order)
    return (
        order.state, order.version, decision.outcome, decision.summary, decision.policy_version,
        decision.trace["candidates"], decision.trace["inputs"]["warehouses"],
        [(s.warehouse.code, s.state, s.ship_by, [(line.sku.code, line.quantity) for line in s.lines.all()])
         for s in order.shipments.all()],
        [(e.kind, e.text.replace(s.number, "S-N"), e.actor) for e in order.events.order_by("id")
         for s in order.shipments.all()],
        [(r.warehouse.code, r.quantity) for r in Reservation.objects.filter(allocation__line__order=order)],
    )  # fmt: skip


def test_together_is_the_same_as_one_by_one(world, assert_invariants):
    add_stock(world.sku, world.east, 100)
    alone, first, second = (world.order(2) for _ in range(3))
    news_told()
    routing_service.route(alone.pk, actor=SYSTEM)
    RoutingQueue.objects.filter(order=alone).delete()
    single = facts(alone)
    Shipment.objects.filter(order=alone).update(state="cancelled")  # the others see the warehouse as it was
    assert routing_service.route_plain([first.pk, second.pk], actor=SYSTEM) == {first.pk, second.pk}
    together = facts(first)
    assert single[0] == together[0] == Order.State.ROUTED
    assert single[2:6] == together[2:6] and single[7:] == together[7:]
    assert single[6] == together[6], "the planner must see the same warehouses"
    # the second one counts the first one's shipment
    planned = {one["code"]: one.get("planned", 0) for one in facts(second)[6]}
    assert planned[first.shipments.get().warehouse.code] == 1
    news_told()
    Shipment.objects.filter(order=alone).update(state="ready")
    assert_invariants()


def test_only_plain_orders_go_together(world, assert_invariants):
    held, short, plain = world.order(1), world.order(500), world.order(1)
    services.place_hold(held.pk, reason="fraud", note="looks odd", actor=SYSTEM)
    done = routing_service.route_plain([held.pk, short.pk, plain.pk], actor=SYSTEM)
    assert plain.pk not in done or not Shipment.objects.filter(order=held).exists()
    assert not done & {held.pk, short.pk}
    assert not RoutingDecision.objects.filter(order__in=[held.pk, short.pk]).exists()
    assert_invariants()


def test_an_order_changed_meanwhile_sends_all_of_them_one_by_one(world, monkeypatch, assert_invariants):
    add_stock(world.sku, world.east, 100)
    first, second = world.order(2), world.order(2)
    real = routing_service._store_plain

    def late(*args):
        services.place_hold(second.pk, reason="fraud", note="just now", actor=SYSTEM)
        monkeypatch.setattr(routing_service, "_store_plain", real)
        return real(*args)

    news_told()
    monkeypatch.setattr(routing_service, "_store_plain", late)
    tasks.route_waiting()
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == (Order.State.ROUTED, Order.State.OPEN)
    assert not Shipment.objects.filter(order=second).exists()
    assert not OrderEvent.objects.filter(order=second, kind="routed").exists()
    assert_invariants()


def test_statements_do_not_grow_with_the_orders(world):
    add_stock(world.sku, world.east, 500)
    counts = []
    for size in (2, 20):
        ids = [world.order(1).pk for _ in range(size)]
        with CaptureQueriesContext(connection) as context:
            assert routing_service.route_plain(ids, actor=SYSTEM) == set(ids)
        counts.append(len(context.captured_queries))
    assert counts[1] == counts[0] <= 45, counts


def test_an_order_asked_for_again_while_it_is_routed_stays_in_the_queue(world, monkeypatch):
    order = world.order(1)
    news_told()
    real = routing_service.route_plain

    def meanwhile(ids, *, actor):
        done = real(ids, actor=actor)
        services.request_route(order.pk, actor=SYSTEM)
        Order.objects.filter(pk=order.pk).update(routing_locked=True)  # the second look has nothing to decide
        news_told()
        monkeypatch.setattr(routing_service, "route_plain", real)
        assert RoutingQueue.objects.get().next_attempt_at <= now()
        return done

    monkeypatch.setattr(routing_service, "route_plain", meanwhile)
    tasks.route_waiting()
    assert not RoutingQueue.objects.exists(), "looked at again and done"


def test_one_router_at_a_time(world):
    order = world.order(1)
    news_told()
    RoutingQueue.objects.filter(order=order).update(next_attempt_at=now() + tasks.LEASE)
    other = world.order(1)
    news_told()
    tasks.route_waiting()
    assert not Shipment.objects.filter(order=other).exists(), "the other router takes it when it looks again"
    RoutingQueue.objects.filter(order=order).update(next_attempt_at=now())
    tasks.route_waiting()
    assert Shipment.objects.filter(order__in=[order, other]).count() == 2


def test_in_a_rush_routing_waits_a_minute_at_most(world, monkeypatch):
    monkeypatch.setattr(tasks, "RUSH", 3)
    add_stock(world.sku, world.east, 100)
    orders = [world.order(1) for _ in range(3)]
    news_told()
    tasks.route_waiting()
    assert not Shipment.objects.exists(), "three orders within two seconds are a rush here"
    RoutingQueue.objects.filter(order=orders[0]).update(queued_at=now() - tasks.PATIENCE)
    world.order(1)
    news_told()
    tasks.route_waiting()
    assert Shipment.objects.filter(order=orders[0]).exists(), "the first has waited for a minute"
    RoutingQueue.objects.update(queued_at=now() - tasks.RUSH_WITHIN)
    tasks.route_waiting()
    assert Shipment.objects.count() == 4 and not RoutingQueue.objects.exists(), "the rush is over"
