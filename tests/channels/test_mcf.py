"""Orders of other channels that Amazon ships from the FBA pool, over real sockets; requests fit its schema."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import time_machine
from django_q.models import OrmQ

from channels import accounts, effects, inbox, mcf, pulls
from channels.connectors.amazon import outbound, webhooks
from channels.connectors.base import OutboundItem, OutboundOffer, OutboundOrder
from channels.models import ChannelEffect, LocationMap
from fulfillment import routing_service
from fulfillment.models import HandOff, LabelPurchase, RoutingDecision, Shipment, ThreePLAccount, ThreePLCall
from fulfillment.threepl import calls, handoff
from inventory.models import Sku, SkuAlias, StockLevel, Warehouse
from oms.core import doorbell
from oms.core import outbox as news
from oms.core.actor import SYSTEM, Actor
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.models import ExceptionItem
from oms.orders import intake, services
from oms.orders.models import ChannelWarehouse, Order, OrderEvent, SalesChannel
from tests.channels.conftest import Shop, deliver
from tests.control.test_stock_shapes import FBA_HEAD, applied
from tests.factories import line_draft, make_channel, make_warehouse, order_draft

ANNA = Actor("user", "anna")
PREVIEW, CREATE, GET, CANCEL = (
    "getFulfillmentPreview", "createFulfillmentOrder", "getFulfillmentOrder", "cancelFulfillmentOrder",
)  # fmt: skip


@dataclass
class Amazon:
    shop: Shop
    pool: Warehouse
    partner: ThreePLAccount
    channel: SalesChannel
    sku: Sku

    def order(self, quantity: int = 2, **fields: Any) -> Order:
        [taken] = intake.take(
            [order_draft(line_draft(self.sku, quantity), **fields)], channel=self.channel, actor=SYSTEM,
            source="webhook",
        )  # fmt: skip
        return Order.objects.get(pk=taken.order_id)

    def planned(self, quantity: int = 2, **fields: Any) -> HandOff:
        order = self.order(quantity, **fields)
        routing_service.route(order.pk, actor=SYSTEM)
        handoff.plan(self.partner.pk, actor=SYSTEM)
        return HandOff.objects.get(shipment__order=order)

    def handed(self, quantity: int = 2, **fields: Any) -> HandOff:
        given = self.planned(quantity, **fields)
        calls.drain(self.partner.pk)
        given.refresh_from_db()
        return given

    def due(self) -> int:
        ThreePLCall.objects.filter(state__in=ThreePLCall.OPEN).update(next_attempt_at=now(), lease_until=None)
        return calls.drain(self.partner.pk)

    def there(self) -> list[dict[str, Any]]:
        return self.shop.client.outbound(self.shop.id)

    def act(self, given: HandOff, action: str, **body: Any) -> None:
        """Something happens at Amazon."""
        number = mcf.reference_of(self.partner, given.reference)
        self.shop.client.outbound_act(self.shop.id, number, action, **body)

    def happens(self, given: HandOff, action: str, **body: Any) -> None:
        """Something happens at Amazon, and its notification is worked off."""
        self.act(given, action, **body)
        self.listen()
        given.refresh_from_db()

    def listen(self) -> None:
        pulls.poll_queue(self.shop.account.pk)
        inbox.drain(self.shop.account.pk)
        run_tasks()

    def level(self) -> StockLevel:
        return StockLevel.objects.get(sku=self.sku, warehouse=self.pool)

    def bodies(self, operation: str) -> list[dict[str, Any]]:
        found = self.shop.client.requests(self.shop.id, operation, limit=5000)
        return [json.loads(row["request"]) for row in found]


def run_tasks() -> None:
    while True:
        told, rung = news.drain(), list(OrmQ.objects.order_by("pk"))
        if not told and not rung:
            return
        for row in rung:
            task = row.task
            row.delete()
            doorbell.answer(*task["args"])


def open_kinds() -> set[str]:
    return set(ExceptionItem.objects.filter(closed_at=None).values_list("kind", flat=True))


@pytest.fixture
def world(amazon: Shop) -> Amazon:
    pool = make_warehouse("FBA-US", kind="fba", country="US")
    LocationMap.objects.create(account=amazon.account, warehouse=pool, external_id="FBA")
    sku = amazon.skus["MUG"]
    accounts.map_listing(amazon.listing("MUG-FBA").pk, sku.pk, actor=SYSTEM)
    Sku.objects.filter(pk=sku.pk).update(mcf_allowed=True)
    sku.refresh_from_db()
    pulls.pull_pool(amazon.account.pk)
    tested = mcf.switch_on(amazon.account.pk, actor=ANNA)
    assert tested.ok, tested.message
    partner = mcf.partner_of(amazon.account)
    assert partner is not None and partner.state == "connected"
    run_tasks()
    return Amazon(amazon, pool, partner, make_channel("web", pool), sku)


@pytest.fixture
def official(world: Amazon, shared_dir: Path) -> Callable[[str, str], list[dict[str, Any]]]:
    """Requests of an operation, each held against Amazon's own definition with every object closed."""
    spec = json.loads((shared_dir / "specs/amazon/fulfillmentOutbound_2020-07-01.json").read_text())

    def close(node: Any) -> Any:
        if isinstance(node, dict):
            node = {name: close(value) for name, value in node.items()}
            if isinstance(node.get("properties"), dict):
                node["additionalProperties"] = False
        return [close(one) for one in node] if isinstance(node, list) else node

    definitions = close(spec["definitions"])

    def check(operation: str, name: str) -> list[dict[str, Any]]:
        bodies = world.bodies(operation)
        schema = {"$ref": f"#/definitions/{name}", "definitions": definitions}
        for body in bodies:
            jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker()).validate(body)
        return bodies

    return check


# --- the whole way ---------------------------------------------------------------------------------


def test_an_order_of_another_channel_leaves_from_amazons_warehouse(world, official, assert_invariants):
    given = world.handed(2, external_number="#1001", deliver_by=now() + dt.timedelta(days=3))
    assert given.state == "confirmed"
    [there] = world.there()
    assert there["id"] == given.external_id == f"{given.reference}-{world.partner.hook_key[:8]}"
    [body] = official(CREATE, "CreateFulfillmentOrderRequest")
    official(PREVIEW, "GetFulfillmentPreviewRequest")
    assert body["items"] == [{"sellerSku": "MUG-FBA", "sellerFulfillmentOrderItemId": "1", "quantity": 2}]
    assert (body["displayableOrderId"], body["fulfillmentPolicy"]) == ("#1001", "FillOrKill")
    assert body["destinationAddress"]["city"] == "Austin" and "featureConstraints" not in body
    # five days are too slow for the promise, one is more than it needs
    assert body["shippingSpeedCategory"] == "Expedited"
    assert OrderEvent.objects.filter(
        order=given.shipment.order, text__contains="Expedited: the slowest"
    ).exists()

    world.listen()
    given.refresh_from_db()
    assert given.state == "acknowledged"
    world.happens(given, "ship", carrier="UPS", tracking="1ZMCF1")
    shipment = Shipment.objects.get(pk=given.shipment_id)
    assert (given.state, shipment.state) == ("shipped", "shipped")
    label = LabelPurchase.objects.get(parcel__shipment=shipment)
    assert (label.tracking_number, label.account.name) == ("1ZMCF1", "UPS")
    assert (label.cost, label.currency) == (Decimal("9.40"), "USD")  # what Amazon offered
    assert (world.level().on_hand, world.level().reserved) == (28, 0)
    assert not open_kinds()
    assert_invariants()


def test_amazons_figures_do_not_take_the_same_units_twice(world, assert_invariants):
    """Amazon sets units aside when it takes the order; our books hold them until they leave."""
    given = world.handed(5)
    pulls.pull_pool(world.shop.account.pk)
    assert (world.level().on_hand, world.level().reserved, world.level().available) == (30, 5, 25)
    world.act(given, "ship")  # gone there, not yet told
    pulls.pull_pool(world.shop.account.pk)
    assert (world.level().on_hand, world.level().available) == (30, 25)
    world.listen()
    assert (world.level().on_hand, world.level().available) == (25, 25)
    pulls.pull_pool(world.shop.account.pk)
    assert (world.level().on_hand, world.level().available) == (25, 25)
    assert not open_kinds()
    assert_invariants()


def test_a_report_brought_as_a_file_does_not_take_the_same_units_twice(world, tmp_path, assert_invariants):
    """The report's fulfillable figure leaves out what Amazon has set aside, as the connection's does."""
    given = world.handed(5)
    assert given.state == "confirmed"

    def report(fulfillable: int, reserved: int) -> Any:
        path = tmp_path / f"fba-{fulfillable}-{reserved}.txt"
        path.write_text(
            FBA_HEAD + f"MUG-FBA\tX1\tB1\t{fulfillable + reserved}\t{fulfillable}\t0\t{reserved}\n"
        )
        return applied(path, warehouse_code="FBA-US")

    SkuAlias.objects.create(sku=world.sku, kind=SkuAlias.Kind.CODE, value="MUG-FBA")
    report(25, 5)
    assert (world.level().on_hand, world.level().reserved, world.level().available) == (30, 5, 25)
    HandOff.objects.filter(pk=given.pk).update(state="in_doubt")  # has Amazon set them aside? nobody knows
    assert report(24, 6).counts["being_handed_over"] == 1
    assert world.level().on_hand == 30
    HandOff.objects.filter(pk=given.pk).update(state="confirmed")
    world.listen()
    world.happens(given, "ship", carrier="UPS", tracking="1ZMCF1")
    assert (world.level().on_hand, world.level().available) == (25, 25)
    report(23, 2)
    assert (world.level().on_hand, world.level().available) == (23, 23)
    assert_invariants()


def test_the_selling_channel_is_told_what_amazon_shipped(world, shopify, settings, assert_invariants):
    settings.HOST_MAP = shopify.client.host_map()
    sales = shopify.account.sales_channel
    ChannelWarehouse.objects.filter(channel=sales).delete()
    ChannelWarehouse.objects.create(channel=sales, warehouse=world.pool, rank=1)
    world.channel = sales
    bought = shopify.buy("MUG", 1, address={
        "name": "Ada", "address1": "1 Main St", "city": "Austin", "province_code": "TX", "zip": "78701",
        "country_code": "US",
    })  # fmt: skip
    deliver(shopify)
    pulls.pull_orders(shopify.account.pk)
    run_tasks()
    world.due()
    given = HandOff.objects.get()
    world.listen()
    world.happens(given, "ship", tracking="TBA777")
    for _ in range(3):
        ChannelEffect.objects.filter(kind="ship").update(next_attempt_at=now(), lease_until=None)
        effects.drain(shopify.account.pk)
    effect = ChannelEffect.objects.get(kind="ship")
    assert effect.state == "confirmed", effect.error
    [done] = shopify.client.order(shopify.id, bought["id"])["fulfilments"]
    assert done["tracking"] == ["TBA777"] and done["carrier"] == "Amazon Logistics"
    assert_invariants()


# --- once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["timeout", "error_500_after"])
def test_a_lost_answer_is_read_back_and_never_sent_again(world, assert_invariants, fault):
    world.shop.client.plan_fault(world.shop.id, fault, CREATE)
    given = world.handed(2)
    assert given.state == "in_doubt"
    world.due()
    given.refresh_from_db()
    assert given.state == "confirmed" and len(world.there()) == 1
    assert world.shop.requests(CREATE) == 1
    assert_invariants()


def test_a_process_killed_between_create_and_book_makes_one_order(world, assert_invariants, monkeypatch):
    given = world.planned(2)
    real = handoff.confirm

    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(handoff, "confirm", killed)
    with pytest.raises(KeyboardInterrupt):
        calls.drain(world.partner.pk)
    monkeypatch.setattr(handoff, "confirm", real)
    given.refresh_from_db()
    assert given.state == "sent" and len(world.there()) == 1
    # its shipment may be told before we know that the order arrived
    world.act(given, "ship")
    world.listen()
    world.due()
    given.refresh_from_db()
    assert given.external_id and len(world.there()) == 1
    assert mcf.poll(world.shop.account.pk) == 1
    given.refresh_from_db()
    assert given.state == "shipped" and world.level().on_hand == 28
    assert world.shop.requests(CREATE) == 1
    assert_invariants()


def test_what_never_arrived_is_sent_again_under_the_same_reference(world, assert_invariants):
    world.shop.client.plan_fault(world.shop.id, "drop", CREATE)
    given = world.handed(2)
    assert given.state == "in_doubt" and world.there() == []
    for _ in range(calls.LOOKS):
        world.due()
    given.refresh_from_db()
    assert given.state == "confirmed" and len(world.there()) == 1
    assert len({body["sellerFulfillmentOrderId"] for body in world.bodies(CREATE)}) == 1
    assert_invariants()


def test_a_second_create_is_refused_there_and_adopted_here(world, assert_invariants):
    given = world.handed(2)
    call = given.calls.get(kind="order")
    ThreePLCall.objects.filter(pk=call.pk).update(state="planned", next_attempt_at=now())
    HandOff.objects.filter(pk=given.pk).update(state="planned", external_id="")
    world.due()
    given.refresh_from_db()
    assert given.state == "confirmed" and len(world.there()) == 1 and world.shop.requests(CREATE) == 2
    assert_invariants()


def test_an_order_that_arrived_after_all_is_adopted_although_it_took_the_last_units(world, assert_invariants):
    """Sent again, the preview finds nothing left: the first try holds the units. Refusing it would ship them twice."""
    given = world.handed(2)
    world.shop.client.call("POST", f"/shops/{world.shop.id}/fba", {"sku": "MUG-FBA", "fulfillable": 0})
    call = given.calls.get(kind="order")
    ThreePLCall.objects.filter(pk=call.pk).update(state="planned", next_attempt_at=now())
    HandOff.objects.filter(pk=given.pk).update(state="planned", external_id="")
    world.due()
    given.refresh_from_db()
    assert given.state == "confirmed" and len(world.there()) == 1
    assert_invariants()


def test_an_order_of_somebody_else_under_our_reference_is_not_ours(world):
    given = world.planned(2)
    theirs = OutboundOrder(
        mcf.reference_of(world.partner, given.reference), "x", now(),
        {"name": "Bo", "address1": "2 Elm", "postal_code": "10001", "country": "US"},
        (OutboundItem("other-1", "MUG-FBA", 7),),
    )  # fmt: skip
    mcf._ask(world.shop.account, lambda connector, access: connector.create_outbound(access, theirs))
    calls.drain(world.partner.pk)
    given.refresh_from_db()
    assert given.state == "refused" and "Another system" in given.error


def test_notifications_twice_late_and_lost_book_once(world, assert_invariants):
    given = world.handed(3)
    world.shop.client.faults(world.shop.id, webhook_duplicate_rate=1.0)
    world.happens(given, "ship", lines={"1": 1}, tracking="T1")
    assert given.state == "acknowledged"
    part = Shipment.objects.exclude(pk=given.shipment_id).get()
    assert (part.state, part.lines.get().quantity) == ("shipped", 1)
    world.shop.client.faults(world.shop.id, webhook_loss_rate=1.0)
    world.happens(given, "ship", tracking="T2")
    assert given.state == "acknowledged"  # nobody told us
    assert mcf.poll(world.shop.account.pk) == 1
    given.refresh_from_db()
    assert given.state == "shipped" and world.level().on_hand == 27
    assert mcf.poll(world.shop.account.pk) == 0 and mcf.read(world.shop.account, [given.external_id]) == 1
    assert world.level().on_hand == 27 and not open_kinds()
    assert_invariants()


def test_a_parcel_without_a_number_waits_for_it(world):
    given = world.handed(1)
    world.happens(given, "ship", tracking="")
    assert given.state == "acknowledged"
    with time_machine.travel(now() + dt.timedelta(hours=25)):
        assert mcf.read(world.shop.account, [given.external_id]) == 1
    given.refresh_from_db()
    assert given.state == "shipped"


# --- cancelled, refused ----------------------------------------------------------------------------


def test_a_cancelled_order_is_cancelled_there_first(world, assert_invariants):
    given = world.handed(2)
    services.cancel_lines(given.shipment.order_id, reason="buyer", actor=SYSTEM)
    run_tasks()
    world.due()
    given.refresh_from_db()
    assert given.state == "cancelled" and world.there()[0]["status"] == "Cancelled"
    pulls.pull_pool(world.shop.account.pk)
    assert (world.level().on_hand, world.level().available) == (30, 30)
    assert not open_kinds()
    assert_invariants()


def test_a_cancellation_that_was_only_asked_for_is_not_one(world, assert_invariants):
    world.shop.client.set_settings(world.shop.id, outbound_cancel="late")
    given = world.handed(2)
    services.cancel_lines(given.shipment.order_id, reason="buyer", actor=SYSTEM)
    run_tasks()
    world.due()
    given.refresh_from_db()
    assert given.state in ("confirmed", "acknowledged")
    assert given.calls.get(kind="cancel").state == "in_doubt"
    world.act(given, "ship")
    world.due()
    given.refresh_from_db()
    assert given.state == "shipped"
    assert open_kinds() == {"threepl_excess"} or open_kinds() == {"threepl_excess", "threepl_too_late"}
    pulls.pull_pool(world.shop.account.pk)
    assert world.level().on_hand == 28
    assert_invariants()


def test_a_part_is_cancelled_by_taking_all_back_and_handing_the_rest_over(world, assert_invariants):
    given = world.handed(3)
    line = given.shipment.order.lines.get()
    services.cancel_lines(line.order_id, {line.pk: 1}, reason="buyer", actor=SYSTEM)
    run_tasks()
    world.due()
    given.refresh_from_db()
    assert given.state == "cancelled"
    run_tasks()
    world.due()
    fresh = HandOff.objects.exclude(pk=given.pk).get()
    assert (fresh.state, fresh.lines.get().quantity) == ("confirmed", 2)
    assert [(one["status"], one["body"]["items"][0]["quantity"]) for one in world.there()] == [
        ("Cancelled", 3), ("Received", 2),
    ]  # fmt: skip
    assert_invariants()


@pytest.mark.parametrize(("action", "word"), [("give_up", "Unfulfillable"), ("invalid", "Invalid")])
def test_what_amazon_cannot_ship_is_told_and_takes_another_route(world, assert_invariants, action, word):
    east = world.shop.warehouse
    ChannelWarehouse.objects.create(channel=world.channel, warehouse=east, rank=2)
    Warehouse.objects.filter(pk=world.pool.pk).update(priority=1)
    _prefer(world.pool)
    given = world.handed(2)
    world.happens(given, action)
    assert given.state == "refused" and word in given.error
    item = ExceptionItem.objects.get(closed_at=None, kind="threepl_refused")
    assert "another route" in item.detail
    run_tasks()
    fresh = Shipment.objects.exclude(pk=given.shipment_id).get()
    assert (fresh.warehouse, fresh.state, fresh.lines.get().quantity) == (east, "ready", 2)
    trace = json.dumps(RoutingDecision.objects.first().trace)
    assert "it rejected MUG before" in trace
    with pytest.raises(Conflict, match="another route"):
        handoff.send_again(given.pk, actor=ANNA)
    assert_invariants()


def _prefer(pool: Warehouse) -> None:
    routing_service.publish(
        [{"name": "Amazon first", "when": {}, "then": {"prefer": [pool.code]}}], actor=SYSTEM
    )


def test_what_is_left_of_a_partly_shipped_order_takes_another_route(world, assert_invariants):
    given = world.handed(3)
    world.act(given, "ship", lines={"1": 1})
    world.happens(given, "give_up")
    assert given.state == "refused"
    told = given.lines.get()
    assert (told.shipped, told.cancelled) == (1, 2)
    assert open_kinds() >= {"threepl_refused"}
    order = given.shipment.order
    order.refresh_from_db()
    assert order.lines.get().shipped == 1
    assert_invariants()


def test_goods_that_amazon_does_not_have_are_refused_before_anything_is_made(world, assert_invariants):
    world.shop.client.call("POST", f"/shops/{world.shop.id}/fba", {"sku": "MUG-FBA", "fulfillable": 0})
    given = world.handed(2)
    assert given.state == "refused" and "InsufficientInventory" in given.error
    assert world.shop.requests(CREATE) == 0
    assert_invariants()


def test_an_order_cancelled_in_seller_central_takes_another_route(world):
    given = world.handed(2)
    world.happens(given, "cancel")
    assert given.state == "refused" and open_kinds() >= {"threepl_refused"}


# --- rules -----------------------------------------------------------------------------------------


def test_a_channel_that_forbids_it_gets_no_amazon_driver_and_no_amazon_box(world, official):
    assert mcf.is_neutral(world.partner, world.channel) is False
    mcf.set_options(world.shop.account.pk, comment="Thanks!", neutral=["web"], actor=ANNA)
    world.partner.refresh_from_db()
    given = world.handed(1)
    [body] = official(CREATE, "CreateFulfillmentOrderRequest")
    assert {entry["featureName"] for entry in body["featureConstraints"]} == {"BLOCK_AMZL", "BLANK_BOX"}
    assert body["displayableOrderComment"] == "Thanks!"
    world.happens(given, "ship")
    assert LabelPurchase.objects.get().account.name == "UPS"
    with pytest.raises(UserError, match="there is no channel"):
        mcf.set_options(world.shop.account.pk, comment="", neutral=["nowhere"], actor=ANNA)


def test_walmarts_orders_are_neutral_by_its_rules(db):
    from channels.connectors.base import connectors

    assert {one.key for one in connectors() if one.capabilities.neutral_parcels} == {"walmart"}


def test_without_the_service_the_pool_gets_no_foreign_order(world):
    mcf.switch_off(world.shop.account.pk, "too dear", actor=ANNA)
    order = world.order(1)
    routing_service.route(order.pk, actor=SYSTEM)
    assert not Shipment.objects.filter(order=order).exists()
    trace = json.dumps(RoutingDecision.objects.get(order=order).trace)
    assert "Multi-Channel Fulfillment is not connected" in trace
    assert mcf.switch_on(world.shop.account.pk, actor=ANNA).ok
    routing_service.route(order.pk, actor=SYSTEM)
    assert Shipment.objects.get(order=order).warehouse == world.pool


def test_a_sku_is_allowed_at_its_fba_listing(world, client):
    from django.urls import reverse

    from tests.factories import make_user

    client.force_login(make_user("owner"))
    page = reverse("channels:listing", args=[world.shop.listing("MUG-FBA").pk])
    assert "Keep it for Amazon" in client.get(page).content.decode()
    assert client.post(page, {"part": "mcf", "allowed": "no"}).status_code == 302
    world.sku.refresh_from_db()
    assert world.sku.mcf_allowed is False
    assert world.order(1).lines.get().short == 1  # nothing else is left, and the pool may not
    assert "Let it serve other channels" in client.get(page).content.decode()
    assert client.post(page, {"part": "mcf", "allowed": "yes"}).status_code == 302
    world.sku.refresh_from_db()
    assert world.sku.mcf_allowed is True
    with pytest.raises(UserError, match="that the channel ships"):
        mcf.allow(world.shop.listing("MUG").pk, True, actor=ANNA)


def test_switching_on_needs_a_pool(amazon):
    with pytest.raises(UserError, match="Amazon FBA first"):
        mcf.switch_on(amazon.account.pk, actor=ANNA)


DAY = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
OFFERS = [
    OutboundOffer(speed, True, DAY + dt.timedelta(days=days), Decimal(fee), "USD")
    for speed, days, fee in (("Standard", 5, "5"), ("Expedited", 2, "9"), ("Priority", 1, "15"))
]


@pytest.mark.parametrize(
    ("promised", "service", "speed", "words"),
    [
        (6, "", "Standard", "slowest that arrives"),
        (5, "", "Standard", "slowest that arrives"),
        (3, "", "Expedited", "slowest that arrives"),
        (1, "", "Priority", "slowest that arrives"),
        (0, "", "Priority", "late"),
        (None, "", "Standard", "standard"),
        (None, "Next Day Air", "Priority", "Next Day Air"),
        (None, "EXPEDITED", "Expedited", "EXPEDITED"),
        (None, "2-Day", "Expedited", "2-Day"),
    ],
)
def test_the_speed_follows_the_promise(promised, service, speed, words):
    by = None if promised is None else DAY + dt.timedelta(days=promised)
    chosen, why = mcf.choose_offer(OFFERS, by, service)
    assert chosen is not None and chosen.speed == speed and words in why


def test_no_offer_says_why():
    refused = [OutboundOffer("Standard", False, reasons=("InvalidDestinationAddress",))]
    assert mcf.choose_offer(refused, None, "") == (None, "InvalidDestinationAddress")


def test_amazons_own_notification_is_read(shared_dir: Path):
    folder = shared_dir / "specs/amazon/notifications"
    example = json.loads((folder / "FulfillmentOrderStatusNotification.json").read_text())["examples"][0]
    told = webhooks.parse(json.dumps(example))
    assert (told.order_id, told.kind, told.topic) == ("SFOID2345", "outbound", "FULFILLMENT_ORDER_STATUS")


def test_amazons_own_example_is_read(shared_dir: Path):
    spec = json.loads((shared_dir / "specs/amazon/fulfillmentOutbound_2020-07-01.json").read_text())
    path = "/fba/outbound/2020-07-01/fulfillmentOrders/{sellerFulfillmentOrderId}"
    example = spec["paths"][path]["get"]["responses"]["200"]["examples"]
    state = outbound.state(example if "payload" in example else example["application/json"])
    assert (state.reference, state.stage) == ("FBATestOrder-1", "working")
    assert {item.external_sku: item.quantity for item in state.items}["CR-47K6-H6QN"] == 3
    assert all(shipment.boxes for shipment in state.shipments)


def test_too_big_an_order_is_refused_in_words():
    def order(count: int, units: int) -> OutboundOrder:
        items = tuple(OutboundItem(str(n), "A", units) for n in range(count))
        return OutboundOrder("r", "n", DAY, {}, items)

    assert outbound.too_big(order(100, 2)) == ""
    assert "101 lines" in outbound.too_big(order(101, 1))
    assert "251 units" in outbound.too_big(order(1, 251))
