"""Events told to other programs: what is told, signed how, when again, and when no more (X02)."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from django.db import transaction
from django.test import Client
from rest_framework.test import APIClient

from inventory.models import Sku, Warehouse
from oms.control.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookEvent
from oms.control.webhooks import sending, service, signing
from oms.core import http, tokens
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.http import HttpAnswer, HttpFailure, HttpRequest, Kind
from oms.core.models import AuditEntry, ExceptionItem, OutboxEvent, User
from oms.core.outbox import drain, emit
from oms.core.roles import SCOPES
from tests.factories import (
    add_stock,
    line_draft,
    make_channel,
    make_sku,
    make_user,
    make_warehouse,
    order_draft,
)

pytestmark = pytest.mark.django_db
T0 = dt.datetime(2026, 11, 23, 8, 0, tzinfo=dt.UTC)
URL = "https://hooks.example.org/lading"


class Receiver:
    """Stands at the far end of the one door out, and remembers."""

    def __init__(self) -> None:
        self.got: list[HttpRequest] = []
        self.answer: Callable[[HttpRequest], int] = lambda request: 200

    def call(self, request: HttpRequest) -> HttpAnswer:
        self.got.append(request)
        status = self.answer(request)
        answer = HttpAnswer(status, {}, b"thanks" if status == 200 else b"no", 7)
        failure = http.classify(request, answer)
        if failure:
            raise failure
        return answer

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(bytes(request.content or b"")) for request in self.got]  # type: ignore[arg-type]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    made = Receiver()
    monkeypatch.setattr(http, "call", made.call)
    return made


@pytest.fixture
def east() -> Warehouse:
    return make_warehouse("EAST")


@pytest.fixture
def mug(east: Warehouse) -> Sku:
    sku = make_sku("MUG")
    add_stock(sku, east, 50)
    OutboxEvent.objects.all().delete()
    return sku


def endpoint(*events: str) -> tuple[WebhookEndpoint, str]:
    return service.create(URL, events or list(service.EVENTS), actor=SYSTEM)


def happen(topic: str, key: Any, **data: Any) -> None:
    with transaction.atomic():
        emit(topic, str(key), **data)
    while drain():
        pass


def tell(endpoint_id: int) -> int:
    return sending.drain(endpoint_id)


# --- what is told ---------------------------------------------------------------------------------


def test_the_signature_is_that_of_the_standard() -> None:
    """The example of the Standard Webhooks specification, and two signatures while a secret changes."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    wanted = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signing.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == wanted
    both = signing.headers([secret, signing.new_secret()], "msg_1", 5, body)
    assert both["webhook-signature"].count("v1,") == 2 and both["webhook-timestamp"] == "5"


def test_the_whole_line_is_told(receiver: Receiver, mug: Sku, east: Warehouse) -> None:
    """Every event of the list, from the news of the floor that makes it."""
    from channels.models import ChannelAccount, ChannelEffect, Listing
    from fulfillment.models import Shipment
    from oms.orders.intake import take
    from oms.orders.models import Order
    from procurement.models import PurchaseOrder, Receipt, Supplier
    from returns.models import Rma

    target, _ = endpoint()
    channel = make_channel("shop", east)
    take([order_draft(line_draft(mug, 2), external_id="E-1")], channel=channel, actor=SYSTEM, source="test")
    order = Order.objects.get()
    account = ChannelAccount.objects.create(sales_channel=channel, connector="shopify", state="connected")
    shipment = Shipment.objects.create(order=order, warehouse=east)
    rma = Rma.objects.create(order=order, warehouse=east, created_by="x")
    kiln = Supplier.objects.create(code="KILN", name="Kiln", currency="USD", lead_time_days=7)
    purchase = PurchaseOrder.objects.create(supplier=kiln, warehouse=east, created_by="x")
    receipt = Receipt.objects.create(order=purchase, key="r", actor="x", received_at=T0)
    listing = Listing.objects.create(account=account, external_id="L1", external_sku="MUG-X", sku=mug)
    effect = ChannelEffect.objects.create(account=account, order=order, kind="ship", reference="S-1", key="k")
    while drain():
        pass
    WebhookDelivery.objects.exclude(event__type="order.created").delete()
    happen("order.routed", order.pk, outcome="routed", warehouses=["EAST"])
    happen("shipment.shipped", shipment.pk)
    happen("return.inspected", rma.pk)
    happen("receipt.posted", receipt.pk)
    happen("purchase_order.changed", purchase.pk, changed=["expected_on"])
    happen("stock.changed", mug.pk)
    happen("sync.failed", f"listing:{listing.pk}", detail="no such item")
    happen("sync.failed", f"effect:{effect.pk}", detail="no such order")
    while tell(target.pk):
        pass
    told = {(body["type"], body["data"]["url"]): body["data"] for body in receiver.bodies}
    assert told["po.changed", f"/api/v1/purchase-orders/{purchase.pk}/"]["changed"] == ["expected_on"]
    assert {kind for kind, _ in told} == set(service.EVENTS)
    order_url = f"/api/v1/orders/{order.pk}/"
    assert told["order.created", order_url]["number"] == order.number
    assert told["order.routed", order_url]["warehouses"] == ["EAST"]
    assert told["shipment.shipped", f"/api/v1/shipments/{shipment.pk}/"]["order"] == order.pk
    assert told["inventory.changed", "/api/v1/stock/?sku=MUG"]["sku"] == "MUG"
    assert told["po.received", f"/api/v1/purchase-orders/{purchase.pk}/"]["receipt"] == receipt.pk
    assert told["return.inspected", f"/api/v1/returns/{rma.pk}/"]["warehouse"] == "EAST"
    assert told["sync.failed", f"/api/v1/listings/{listing.pk}/"]["detail"] == "no such item"
    assert told["sync.failed", order_url]["what"] == "ship"
    buyers = [word for body in receiver.bodies for word in ("Ana", "example.com") if word in json.dumps(body)]
    assert buyers == []  # thin: nothing of the buyer travels


def test_a_message_is_signed_over_the_bytes_that_were_sent(receiver: Receiver, mug: Sku) -> None:
    target, secret = endpoint("inventory.changed")
    happen("stock.changed", mug.pk)
    assert tell(target.pk) == 1
    (sent,) = receiver.got
    body, key = sent.content or b"", base64.b64decode(secret.removeprefix("whsec_"))
    assert isinstance(body, bytes) and sent.user_url and sent.method == "POST" and sent.url == URL
    signed = f"{sent.headers['webhook-id']}.{sent.headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert sent.headers["webhook-signature"] == f"v1,{wanted}"
    event = WebhookEvent.objects.get()
    assert (
        sent.headers["webhook-id"] == event.uid
        and json.loads(body)["timestamp"] == event.occurred_at.isoformat()
    )


def test_nobody_listens_nothing_is_written(mug: Sku) -> None:
    happen("stock.changed", mug.pk)
    target, _ = endpoint("order.created")
    happen("stock.changed", mug.pk)
    service.pause(target.pk, actor=SYSTEM)
    happen("order.created", 1)
    assert not WebhookEvent.objects.exists() and not WebhookDelivery.objects.exists()


def test_a_figure_not_told_yet_is_not_announced_twice(receiver: Receiver, mug: Sku) -> None:
    """200 sales in a burst are one message; a change after the message is another."""
    target, _ = endpoint("inventory.changed")
    for _ in range(3):
        happen("stock.changed", mug.pk)
    assert tell(target.pk) == 1
    happen("stock.changed", mug.pk)
    assert tell(target.pk) == 1
    assert len({request.headers["webhook-id"] for request in receiver.got}) == 2


# --- at least once, in order ----------------------------------------------------------------------


def test_a_failed_message_comes_again_by_the_schedule_with_the_same_id_and_bytes(
    receiver: Receiver, mug: Sku, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending.random, "uniform", lambda low, high: 1.0)
    target, _ = endpoint("inventory.changed")
    receiver.answer = lambda request: 500
    waits = []
    with time_machine.travel(T0, tick=False) as clock:
        happen("stock.changed", mug.pk)
        for _ in range(len(sending.SCHEDULE)):
            assert tell(target.pk) == 1
            delivery = WebhookDelivery.objects.get()
            waits.append((delivery.next_attempt_at - now()).total_seconds())
            clock.move_to(delivery.next_attempt_at - dt.timedelta(seconds=1))
            assert tell(target.pk) == 0
            clock.move_to(delivery.next_attempt_at)
        assert waits == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000]
        assert tell(target.pk) == 1  # the ninth and last
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempts) == ("failed", 9)
    target.refresh_from_db()
    assert target.state == "disabled" and "9 tries of one event failed" in target.why
    item = ExceptionItem.objects.get(kind="webhook_disabled")
    assert item.url == f"/settings/webhooks/{target.pk}/" and item.closed_at is None
    assert len({(one.headers["webhook-id"], bytes(one.content)) for one in receiver.got}) == 1  # type: ignore[arg-type]
    assert len({one.headers["webhook-timestamp"] for one in receiver.got}) == 9
    tries = list(WebhookAttempt.objects.values_list("status", "answer"))
    assert tries == [(500, "no")] * 9
    service.resume(target.pk, actor=SYSTEM)
    item.refresh_from_db()
    assert item.closed_at is not None


def test_waits_differ_by_up_to_a_tenth(receiver: Receiver, mug: Sku) -> None:
    target, _ = endpoint("inventory.changed")
    receiver.answer = lambda request: 500
    waits = set()
    for _ in range(12):
        WebhookDelivery.objects.all().delete()
        with time_machine.travel(T0, tick=False):
            happen("stock.changed", mug.pk)
            tell(target.pk)
            waits.add((WebhookDelivery.objects.get().next_attempt_at - T0).total_seconds())
    assert all(4.5 <= wait <= 5.5 for wait in waits) and len(waits) > 6


def test_a_receiver_that_was_down_for_two_hours_gets_everything_in_order(
    receiver: Receiver, mug: Sku
) -> None:
    """Events of one object never overtake each other; other objects do not wait for it."""
    target, _ = endpoint("order.created", "order.routed")
    order = _order(mug)
    other = _order(mug)
    receiver.answer = lambda request: 503
    with time_machine.travel(T0, tick=False) as clock:
        happen("order.created", order)
        happen("order.routed", order)
        happen("order.created", other)
        for minute in range(0, 121, 5):
            clock.move_to(T0 + dt.timedelta(minutes=minute))
            tell(target.pk)
        asked = {(body["type"], body["data"]["id"]) for body in receiver.bodies}
        assert asked == {("order.created", order), ("order.created", other)}  # the routed one waits its turn
        receiver.answer, receiver.got = lambda request: 200, []
        clock.move_to(T0 + dt.timedelta(hours=5))
        while tell(target.pk):
            pass
    assert not WebhookDelivery.objects.exclude(state="delivered").exists()
    got = [body["type"] for body in receiver.bodies if body["data"]["id"] == order]
    assert got == ["order.created", "order.routed"]


def _order(sku: Sku) -> int:
    from oms.orders.intake import take
    from oms.orders.models import Order, SalesChannel

    channel = SalesChannel.objects.filter(code="shop").first() or make_channel(
        "shop", Warehouse.objects.get()
    )
    number = f"E-{Order.objects.count()}"
    take([order_draft(line_draft(sku), external_id=number)], channel=channel, actor=SYSTEM, source="test")
    OutboxEvent.objects.all().delete()
    return Order.objects.get(external_id=number).pk


def test_the_first_success_brings_back_what_waits_for_a_later_try(receiver: Receiver, mug: Sku) -> None:
    target, _ = endpoint("order.created")
    down = [_order(mug) for _ in range(3)]
    receiver.answer = lambda request: 500
    with time_machine.travel(T0, tick=False) as clock:
        for pk in down:
            happen("order.created", pk)
        tell(target.pk)
        clock.shift(dt.timedelta(seconds=8))
        tell(target.pk)  # now all of them wait for five minutes
        receiver.answer = lambda request: 200
        happen("order.created", _order(mug))
        while tell(target.pk):
            pass
    assert WebhookDelivery.objects.filter(state="delivered").count() == 4


def test_a_message_that_the_receiver_stumbles_over_keeps_its_waits(receiver: Receiver, mug: Sku) -> None:
    """Others that are taken meanwhile do not use up its tries, which would switch the endpoint off in seconds."""
    target, _ = endpoint("order.created")
    bad = _order(mug)
    receiver.answer = lambda request: 500 if json.loads(request.content or b"")["data"]["id"] == bad else 200
    with time_machine.travel(T0, tick=False) as clock:
        happen("order.created", bad)
        tell(target.pk)
        for _ in range(12):
            clock.shift(dt.timedelta(milliseconds=300))
            happen("order.created", _order(mug))
            tell(target.pk)
        waits = WebhookDelivery.objects.get(state="pending")
        assert waits.attempts == 2  # the first try, and one more when the endpoint was heard again
        clock.shift(dt.timedelta(minutes=6))
        tell(target.pk)
        waits.refresh_from_db()
        assert waits.attempts == 3
    target.refresh_from_db()
    assert target.state == "active"
    assert WebhookDelivery.objects.filter(state="delivered").count() == 12


def test_gone_ends_it_at_once(receiver: Receiver, mug: Sku) -> None:
    target, _ = endpoint("inventory.changed")
    receiver.answer = lambda request: 410
    happen("stock.changed", mug.pk)
    tell(target.pk)
    target.refresh_from_db()
    assert (target.state, target.why) == ("disabled", "it answered 410 Gone")


def test_a_breaker_or_budget_of_ours_costs_no_try(
    mug: Sku, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    target, _ = endpoint("inventory.changed")

    def stopped(request: HttpRequest) -> HttpAnswer:
        raise HttpFailure(Kind.BREAKER_OPEN, "paused", None, 30)

    monkeypatch.setattr(http, "call", stopped)
    with time_machine.travel(T0, tick=False):
        happen("stock.changed", mug.pk)
        assert tell(target.pk) == 0
        delivery = WebhookDelivery.objects.get()
        assert (delivery.attempts, delivery.lease_until) == (0, None)
        assert delivery.next_attempt_at == T0 + dt.timedelta(seconds=30)
    assert not WebhookAttempt.objects.exists()


def test_two_workers_never_send_one_message_at_once(receiver: Receiver, mug: Sku) -> None:
    target, _ = endpoint("inventory.changed")
    happen("stock.changed", mug.pk)
    receiver.answer = lambda request: tell(target.pk) and 500 or 200  # a second worker comes by meanwhile
    assert tell(target.pk) == 1
    assert len(receiver.got) == 1 and WebhookDelivery.objects.get().state == "delivered"


def test_a_worker_that_died_gives_its_message_back_after_a_minute(receiver: Receiver, mug: Sku) -> None:
    target, _ = endpoint("inventory.changed")
    with time_machine.travel(T0, tick=False) as clock:
        happen("stock.changed", mug.pk)
        assert [one.pk for one in sending._claim(target.pk)] and tell(target.pk) == 0
        clock.shift(sending.LEASE + dt.timedelta(seconds=1))
        assert tell(target.pk) == 1


# --- people ---------------------------------------------------------------------------------------


def test_replay_by_range_sends_again_and_fills_in_what_was_missed(receiver: Receiver, mug: Sku) -> None:
    first, _ = endpoint("order.created")
    with time_machine.travel(T0, tick=False) as clock:
        happen("order.created", _order(mug))
        tell(first.pk)
        clock.shift(dt.timedelta(hours=1))
        happen("order.created", _order(mug))
        tell(first.pk)
        late, _ = endpoint("order.created")
        hour = dt.timedelta(hours=1)
        assert service.replay(late.pk, T0, T0 + 2 * hour, actor=SYSTEM) == 2
        assert service.replay(first.pk, T0, T0 + hour, actor=SYSTEM) == 1  # the end does not count
        receiver.got = []
        while tell(first.pk) + tell(late.pk):
            pass
        ids = [request.headers["webhook-id"] for request in receiver.got]
        assert len(ids) == 3 and len(set(ids)) == 2  # the same event has the same id everywhere
        with pytest.raises(UserError, match="until: choose a time after the start"):
            service.replay(first.pk, T0, T0, actor=SYSTEM)
        service.pause(first.pk, actor=SYSTEM)
        with pytest.raises(Conflict, match="switch the endpoint on first"):
            service.replay(first.pk, T0, T0 + hour, actor=SYSTEM)
    assert AuditEntry.objects.filter(action="webhook.replayed").count() == 2


def test_a_rotated_secret_signs_beside_the_old_one_for_a_day(receiver: Receiver, mug: Sku) -> None:
    target, old = endpoint("inventory.changed")
    with time_machine.travel(T0, tick=False) as clock:
        _, new = service.rotate(target.pk, actor=SYSTEM)
        assert new != old
        happen("stock.changed", mug.pk)
        tell(target.pk)
        clock.shift(dt.timedelta(hours=25))
        happen("stock.changed", mug.pk)
        tell(target.pk)
    two, one = receiver.got
    stamp, body = int(two.headers["webhook-timestamp"]), bytes(two.content or b"")  # type: ignore[arg-type]
    wanted = [signing.signature(key, two.headers["webhook-id"], stamp, body) for key in (new, old)]
    assert two.headers["webhook-signature"].split(" ") == wanted
    assert len(one.headers["webhook-signature"].split(" ")) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://hooks.example.org/", "must begin with https"),
        ("https://hooks.example.org:8443/", "must use port 443"),
        ("https://user:secret@hooks.example.org/", "must not hold a user name"),
        ("https://127.0.0.1/", "is not a public address"),
        ("https://10.0.0.8/", "is not a public address"),
        ("https://[::1]/", "is not a public address"),
        ("https://[64:ff9b::a00:1]/", "is not a public address"),
        ("https://localhost/", "'localhost' is not a public address"),
        ("https://169.254.169.254/latest/meta-data/", "is not a public address"),
    ],
)
def test_an_address_inside_the_house_is_refused(url: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        service.create(url, ["order.created"], actor=SYSTEM)
    assert not WebhookEndpoint.objects.exists()


def test_a_name_that_turns_to_an_inside_address_later_is_not_called(
    receiver: Receiver, mug: Sku, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard looks at each call, not only when the endpoint is made."""
    target, _ = endpoint("inventory.changed")
    monkeypatch.undo()
    monkeypatch.setattr(http, "DOOR", http.HttpDoor(resolver=lambda host, port: ["192.168.1.10"]))
    happen("stock.changed", mug.pk)
    assert tell(target.pk) == 1
    delivery = WebhookDelivery.objects.get()
    assert delivery.state == "pending" and "private address 192.168.1.10" in delivery.error


def test_old_events_are_forgotten_unless_somebody_waits_for_them(receiver: Receiver, mug: Sku) -> None:
    target, _ = endpoint("inventory.changed", "order.created")
    with time_machine.travel(T0, tick=False) as clock:
        happen("stock.changed", mug.pk)
        tell(target.pk)
        service.pause(target.pk, actor=SYSTEM)
        WebhookEvent.objects.create(uid="msg_x", type="order.created", subject="order:1", occurred_at=T0)
        waiting = WebhookEvent.objects.create(uid="msg_w", type="order.created", subject="o", occurred_at=T0)
        WebhookDelivery.objects.create(endpoint=target, event=waiting, subject="o")
        clock.shift(dt.timedelta(days=31))
        assert sending.forget() == 2
    assert [event.uid for event in WebhookEvent.objects.all()] == ["msg_w"]


# --- by API and by screen -------------------------------------------------------------------------


@pytest.fixture
def owner() -> User:
    return make_user("olga", "owner")


def bearer(user: User, **limits: Any) -> APIClient:
    api = APIClient()
    _, text = tokens.issue(user, "test", sorted(SCOPES), actor=SYSTEM, **limits)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return api


def test_the_api_makes_changes_replays_and_removes(receiver: Receiver, mug: Sku, owner: User) -> None:
    api = bearer(owner)
    body = {"url": URL, "events": ["inventory.changed"], "description": "shop floor"}
    key = {"HTTP_IDEMPOTENCY_KEY": "w1"}
    made = api.post("/api/v1/webhooks/", body, **key)
    again = api.post("/api/v1/webhooks/", body, **key)
    assert made.status_code == 201 and again.json() == made.json() and WebhookEndpoint.objects.count() == 1
    pk, secret = made.json()["id"], made.json()["secret"]
    assert secret.startswith("whsec_") and "secret" not in api.get(f"/api/v1/webhooks/{pk}/").json()
    happen("stock.changed", mug.pk)
    tell(pk)
    (row,) = api.get(f"/api/v1/webhook-deliveries/?webhook={pk}&state=delivered").json()["results"]
    detail = api.get(f"/api/v1/webhook-deliveries/{row['id']}/").json()
    assert detail["tries"][0]["status"] == 200 and detail["data"]["sku"] == "MUG"
    assert f"webhook-id: {row['event']}" in detail["tries"][0]["request"]
    assert api.post(f"/api/v1/webhook-deliveries/{row['id']}/resend/").json()["state"] == "pending"
    assert tell(pk) == 1
    span = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
    assert api.post(f"/api/v1/webhooks/{pk}/replay/", span).json() == {"events": 1}
    stale = api.patch(f"/api/v1/webhooks/{pk}/", {"state": "paused"}, HTTP_IF_MATCH='"9"')
    assert stale.status_code == 412
    version = api.get(f"/api/v1/webhooks/{pk}/").json()["version"]
    paused = api.patch(f"/api/v1/webhooks/{pk}/", {"state": "paused"}, HTTP_IF_MATCH=f'"{version}"')
    assert paused.json()["state"] == "paused"
    rotated = api.post(f"/api/v1/webhooks/{pk}/rotate/").json()
    assert rotated["secret"] != secret and rotated["old_secret_until"]
    bad = api.post("/api/v1/webhooks/", {"url": URL, "events": ["order.eaten"]})
    assert bad.status_code == 400 and bad.json()["errors"][0]["pointer"] == "/events/0"
    assert api.delete(f"/api/v1/webhooks/{pk}/").status_code == 204
    assert not WebhookDelivery.objects.exists()


def test_a_secret_is_not_readable_in_the_database(receiver: Receiver, owner: User) -> None:
    from django.db import connection

    made = bearer(owner).post(
        "/api/v1/webhooks/", {"url": URL, "events": ["order.created"]}, HTTP_IDEMPOTENCY_KEY="w"
    )
    secret = made.json()["secret"]
    with connection.cursor() as cursor:
        for table in ("control_webhookendpoint", "core_idempotencyrecord", "core_auditentry"):
            cursor.execute(f"SELECT * FROM {table}")
            assert secret not in str(cursor.fetchall()), table


def test_a_token_of_one_warehouse_hears_of_nothing(receiver: Receiver, owner: User) -> None:
    answer = bearer(owner, warehouses=["EAST"]).get("/api/v1/webhooks/")
    assert answer.status_code == 403 and "limited to some places" in answer.json()["detail"]


def test_the_screens(receiver: Receiver, mug: Sku, owner: User, django_assert_max_num_queries: Any) -> None:
    web = Client()
    web.force_login(owner)
    assert b"No webhooks yet" in web.get("/settings/webhooks/").content
    wrong = web.post("/settings/webhooks/", {"url": "http://x.example", "events": ["order.created"]})
    assert wrong.status_code == 422 and b"must begin with https" in wrong.content
    made = web.post("/settings/webhooks/", {"url": URL, "events": list(service.EVENTS)})
    target = WebhookEndpoint.objects.get()
    assert target.secret.encode() in made.content
    assert target.secret.encode() not in web.get("/settings/webhooks/").content
    page = f"/settings/webhooks/{target.pk}/"
    assert b"Nothing sent yet" in web.get(page).content
    for _ in range(3):
        happen("order.created", _order(mug))
    receiver.answer = lambda request: 500
    tell(target.pk)
    with django_assert_max_num_queries(20):
        listed = web.get(page)
    assert b"order.created" in listed.content and b"answered 500" in listed.content
    assert b"Nothing matches" in web.get(f"{page}?state=failed").content
    delivery = WebhookDelivery.objects.latest("pk")
    one = f"/settings/webhooks/deliveries/{delivery.pk}/"
    shown = web.get(one).content.decode()
    assert "webhook-signature: v1," in shown and delivery.event.uid in shown
    receiver.answer = lambda request: 200
    assert web.post(one).status_code == 302
    tell(target.pk)
    delivery.refresh_from_db()
    assert delivery.state == "delivered"
    act = f"{page}act/"
    assert web.post(act, {"action": "replay", "hours": "24"}).status_code == 302
    rotated = web.post(act, {"action": "rotate"})
    target.refresh_from_db()
    assert target.secret.encode() in rotated.content
    web.post(act, {"action": "save", "url": URL, "events": ["order.created"], "description": "ERP"})
    web.post(act, {"action": "pause"})
    target.refresh_from_db()
    assert (target.state, target.events, target.description) == ("paused", ["order.created"], "ERP")
    web.post(act, {"action": "resume"})
    web.post(act, {"action": "remove"})
    assert not WebhookEndpoint.objects.exists()
    assert set(AuditEntry.objects.filter(action__startswith="webhook.").values_list("action", flat=True)) == {
        "webhook.created", "webhook.resent", "webhook.replayed", "webhook.rotated", "webhook.changed",
        "webhook.paused", "webhook.resumed", "webhook.removed",
    }  # fmt: skip
