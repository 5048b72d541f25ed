"""F05, F06, F07, F08, F09, F13: routing into shipments, scanning, packing, the choice of a rate."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.urls import reverse

from fulfillment import labels, packing, picking, routing_service, surplus, tasks
from fulfillment.models import RoutingDecision, RoutingQueue, Shipment
from fulfillment.rates import Offer, choose
from inventory import counts
from inventory.models import CountTask, StockLevel, StockMovement
from oms.core.actor import SYSTEM, Actor, actor_of
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.models import Doorbell, ExceptionItem
from oms.core.outbox import drain
from oms.orders import services
from oms.orders.models import Order, OrderEvent
from tests.api.test_resources import bearer
from tests.factories import make_sku, make_user
from tests.fulfillment.conftest import PICKER, World, rate


def test_routing_stores_winner_and_losers_and_makes_one_shipment(world, carrier):
    order = world.order(2)
    decision = routing_service.route(order.pk, actor=SYSTEM)
    again = routing_service.route(order.pk, actor=SYSTEM)
    assert decision.outcome == "routed"
    assert {c["code"] for c in decision.trace["candidates"]} == {"EAST", "WEST"}
    assert Shipment.objects.count() == 1
    assert again is None or again.trace["parts"] == decision.trace["parts"]
    assert Order.objects.get(pk=order.pk).state == Order.State.ROUTED


def test_the_news_of_an_order_ends_in_a_shipment(world, carrier, assert_invariants):
    order = world.order(3)
    while drain():
        pass
    assert RoutingQueue.objects.filter(order=order).exists()
    tasks.route_waiting()
    tasks.route_waiting()
    assert Shipment.objects.filter(order=order).count() == 1
    assert not RoutingQueue.objects.exists()
    assert_invariants()


def test_one_order_that_fails_does_not_stop_the_next(world, carrier, monkeypatch):
    first, second = world.order(1), world.order(1)
    while drain():
        pass
    real = routing_service.plan

    def broken(view, places, policy):
        if view.number == first.number:
            raise RuntimeError("boom")
        return real(view, places, policy)

    monkeypatch.setattr(routing_service, "plan", broken)
    tasks.route_waiting()
    assert Shipment.objects.filter(order=second).exists()
    row = RoutingQueue.objects.get()
    assert (row.pk, row.attempts) == (first.pk, 1)
    assert "boom" in row.error


def test_no_stock_anywhere_is_an_exception_that_closes_itself(world, carrier):
    StockLevel.objects.all()
    order = world.order(30)
    order.refresh_from_db()
    assert order.short_units == 10
    decision = routing_service.route(order.pk, actor=SYSTEM)
    assert decision.outcome in ("routed", "partly")
    assert sum(line.quantity for s in Shipment.objects.filter(order=order) for line in s.lines.all()) == 20


def test_a_person_sends_it_from_elsewhere_and_automatic_routing_keeps_off(world, carrier):
    order = world.order(2)
    routing_service.route(order.pk, actor=SYSTEM)
    with pytest.raises(UserError, match="reason"):
        routing_service.assign(order.pk, world.west.pk, reason=" ", actor=PICKER)
    routing_service.assign(order.pk, world.west.pk, reason="East is flooded", actor=PICKER)
    live = Shipment.objects.exclude(state=Shipment.State.CANCELLED).get(order=order)
    assert live.warehouse == world.west
    assert routing_service.route(order.pk, actor=SYSTEM) is None
    assert RoutingDecision.objects.filter(order=order, outcome="manual").count() == 1


def test_scan_counts_each_unit_and_blocks_what_is_wrong(world, carrier):
    other = make_sku("CAP")
    shipment = world.routed(2)
    picking.claim(shipment.pk, actor=PICKER)
    assert picking.scan(shipment.pk, other.code, actor=PICKER).word == "WRONG ITEM"
    assert picking.scan(shipment.pk, "4006381333931", actor=PICKER).word == "UNKNOWN"
    assert picking.scan(shipment.pk, "mug", actor=PICKER) == picking.Scan(True, "OK", "MUG · 1 of 2", False)
    assert picking.scan(shipment.pk, "MUG", actor=PICKER).done is True
    assert picking.scan(shipment.pk, "MUG", actor=PICKER).word == "TOO MANY"
    shipment.refresh_from_db()
    assert shipment.wrong_scans == 3


def test_a_shipment_in_work_is_not_taken_by_another(world, carrier):
    shipment = world.routed(1)
    picking.claim(shipment.pk, actor=PICKER)
    with pytest.raises(Conflict, match="user:finn"):
        picking.claim(shipment.pk, actor=Actor("user", "omar"))


def test_short_pick_asks_for_a_count_and_finds_the_unit_elsewhere(world, carrier, assert_invariants):
    shipment = world.routed(2)
    here = shipment.warehouse
    picking.claim(shipment.pk, actor=PICKER)
    line = shipment.lines.get()
    picking.short_pick(line.pk, 1, reason="not_found", actor=PICKER)
    level = StockLevel.objects.get(sku=world.sku, warehouse=here)
    assert (level.on_hand, level.reserved, level.inspection) == (10, 1, 1)
    item, task = ExceptionItem.objects.get(kind="count_needed", closed_at=None), CountTask.objects.get()
    assert item.url == f"/stock/counts/{task.pk}/", "it opens this very count, not the list"
    while drain():
        pass
    tasks.route_waiting()
    live = Shipment.objects.exclude(state=Shipment.State.CANCELLED)
    assert {s.warehouse.code: s.lines.get().quantity for s in live} == {"EAST": 1, "WEST": 1}
    assert_invariants()


def test_a_count_taken_off_the_list_takes_its_exception_along(world, carrier):
    shipment = world.routed(2)
    picking.claim(shipment.pk, actor=PICKER)
    picking.short_pick(shipment.lines.get().pk, 1, reason="not_found", actor=PICKER)
    counts.cancel(CountTask.objects.get().pk, actor=PICKER)
    assert not ExceptionItem.objects.filter(kind="count_needed", closed_at=None).exists()


def test_a_cancelled_order_leaves_the_floor(world, carrier, assert_invariants):
    shipment = world.routed(2)
    line = shipment.order.lines.get()
    bells = Doorbell.objects.filter(task="fulfillment.tasks.trim_shipments")
    while drain():
        pass
    assert not bells.exists(), "routing fits the shipments itself: no task per routed order"
    services.cancel_lines(shipment.order_id, {line.pk: 2}, reason="buyer", actor=SYSTEM)
    while drain():
        pass
    assert bells.get().subject == str(shipment.order_id)
    tasks.trim_shipments(str(shipment.order_id))
    shipment.refresh_from_db()
    assert shipment.state == Shipment.State.CANCELLED
    assert_invariants()


def test_a_sku_without_weight_is_named_never_zero(world, carrier):
    shipment = world.routed(1)
    type(world.sku).objects.filter(pk=world.sku.pk).update(weight_g=None)
    picking.pick_all(shipment.pk, actor=PICKER)
    with pytest.raises(UserError, match="MUG has no weight"):
        packing.pack(shipment.pk, actor=PICKER)
    with pytest.raises(UserError, match="all units once"):
        packing.pack(shipment.pk, [packing.Box({shipment.lines.get().pk: 2}, weight_g=500)], actor=PICKER)


def test_parcel_weight_is_goods_plus_box(world, carrier):
    shipment = world.packed(2)
    parcel = packing.live_parcels(shipment)[0]
    assert (parcel.weight_g, parcel.package_type.name) == (2 * 380 + 120, "Small")


@pytest.mark.parametrize(
    ("days", "chosen", "sentence"),
    [(None, "slow", "Slow 5.00 USD"), (2, "quick", "Quick 9.00 USD"), (0, None, "No service arrives by")],
)
def test_cheapest_in_time_wins_and_nothing_is_chosen_silently(days, chosen, sentence):
    offers = [
        Offer("a", 1, rate("slow", "5.00", 5)),
        Offer("a", 1, rate("quick", "9.00", 2)),
        Offer("b", 2, rate("unknown", "1.00", None)),
    ]
    if days is None:
        offers = offers[:2]
    by = now().date() + dt.timedelta(days=days) if days is not None else None
    picked = choose(offers, by)
    assert (picked.chosen.rate.service if picked.chosen else None) == chosen
    assert picked.sentence.startswith(sentence)
    assert len(picked.reasons) == len(offers)


def test_a_rate_in_another_currency_is_never_compared():
    picked = choose(
        [Offer("a", 1, rate("usd", "9.00", 2)), Offer("b", 1, rate("cad", "1.00", 2, "CAD"))], None
    )
    assert picked.chosen.rate.service == "usd"
    assert picked.reasons[1] == "priced in CAD, not comparable"


def test_cancelling_after_the_label_voids_it_and_gives_the_box_up(world, carrier, assert_invariants):
    shipment = world.packed(2)
    labels.buy(shipment.pk, actor=SYSTEM)
    services.cancel_lines(shipment.order_id, None, reason="buyer", actor=SYSTEM)
    for _ in range(2):
        tasks.trim_shipments(str(shipment.order_id))
    shipment.refresh_from_db()
    assert (shipment.state, carrier.voided) == (Shipment.State.CANCELLED, ["1Z000000001"])
    assert_invariants()


def test_cancelling_a_part_opens_the_box_again(world, carrier, assert_invariants):
    shipment = world.packed(3)
    labels.buy(shipment.pk, actor=SYSTEM)
    line = shipment.order.lines.get()
    services.cancel_lines(shipment.order_id, {line.pk: 1}, reason="buyer", actor=SYSTEM)
    tasks.trim_shipments(str(shipment.order_id))
    shipment.refresh_from_db()
    assert (shipment.state, shipment.lines.get().quantity) == (Shipment.State.PICKING, 2)
    assert (
        ExceptionItem.objects.get(kind="repack").title
        == f"{shipment.number}: take 1 × MUG out and pack again"
    )
    packing.pack(shipment.pk, actor=SYSTEM)
    assert ExceptionItem.objects.get(kind="repack").closed_at is not None
    assert_invariants()


def test_a_pick_that_finds_more_books_found_stock_with_its_reason(world, carrier, client, assert_invariants):
    """I19: never a quiet clamp: a movement of its own, once, within what the picker may move alone."""
    shipment = world.routed(2)
    here, line = shipment.warehouse, shipment.lines.get()
    finn = make_user("finn", "floor")
    client.force_login(finn)
    picking.claim(shipment.pk, actor=actor_of(finn))
    bench = client.get(f"/floor/{shipment.pk}/")
    assert "More: there is more here than the books say" in bench.content.decode()
    before = StockLevel.objects.get(sku=world.sku, warehouse=here).on_hand
    form = {
        "from": "bench", "line": line.pk, "units": 3, "reason": "found", "form_key": bench.context["form_key"],
    }  # fmt: skip
    for _ in range(2):  # a double click
        client.post(f"/shipments/{shipment.pk}/found/", form)
    level = StockLevel.objects.get(sku=world.sku, warehouse=here)
    row = StockMovement.objects.filter(sku=world.sku, kind="found").get()
    assert (level.on_hand, row.quantity, row.reason, row.reference) == (
        before + 3,
        3,
        "found",
        shipment.number,
    )
    assert OrderEvent.objects.filter(order=shipment.order_id, kind="found").count() == 1
    with pytest.raises(UserError, match="not on the list"):
        surplus.found_more(line.pk, 1, reason="whim", actor=actor_of(finn), key="k1")
    api, url = bearer(make_user("api")), f"/api/v1/shipments/{shipment.pk}/found-more/"
    assert api.post(url, {"line": line.pk, "units": 1, "reason": "found"}).status_code == 200
    assert api.post(url, {"line": line.pk + 99, "units": 1, "reason": "found"}).status_code == 400
    assert StockLevel.objects.get(sku=world.sku, warehouse=here).on_hand == before + 4
    picking.pick_all(shipment.pk, actor=actor_of(finn))
    Shipment.objects.filter(pk=shipment.pk).update(state="shipped")
    with pytest.raises(Conflict, match="adjust the stock instead"):
        surplus.found_more(line.pk, 1, reason="found", actor=SYSTEM, key="k2")


def test_what_had_to_leave_already_is_marked_late_until_it_left(world, carrier, client):
    item = world.order(1)
    routing_service.route(item.pk, actor=SYSTEM)
    shipment = Shipment.objects.get()
    Shipment.objects.update(ship_by=now() - dt.timedelta(hours=1))
    client.force_login(make_user("lead", "owner"))
    pages = ("/shipments/", "/floor/", f"/shipments/{shipment.pk}/", f"/floor/{shipment.pk}/")
    for page in pages:
        assert "<span>Late</span>" in client.get(page).content.decode(), page
    Shipment.objects.update(state="shipped", shipped_at=now())
    html = client.get("/shipments/?tab=shipped").content.decode()
    assert "<span>Late</span>" not in html
    assert '<th scope="col">Left</th>' in html


def test_a_shipment_leads_to_its_skus(world: World, client: Any) -> None:
    shipment = world.routed(2)
    client.force_login(make_user("olga", "owner"))
    page = client.get(reverse("fulfillment:shipment", args=[shipment.pk])).content.decode()
    assert f'<a href="{reverse("inventory:sku", args=["MUG"])}">MUG</a>' in page
