"""An order split by hand and put back together, its address changed, many orders at once (O07, O08, F07, F11, X07)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from fulfillment import addresses, labels, packing, parts, picking, routing_service, shipping
from fulfillment.models import LabelPurchase, Shipment
from inventory.models import StockLevel
from oms.core import jobs
from oms.core.actor import SYSTEM, Actor
from oms.core.errors import Conflict, UserError
from oms.core.models import AuditEntry, Job, User
from oms.orders import intake, pii, services
from oms.orders.drafts import ContactDraft
from oms.orders.models import Hold, Order, OrderContact
from tests.factories import add_stock, line_draft, make_kit, make_sku, make_user, order_draft
from tests.fulfillment.conftest import PICKER, World

ANA = Actor("user", "ana")
NEW = ContactDraft(
    name="Ana Ruiz", address1="9 Elm St", city="Sparks", region="nv", postal_code="89431", country="us",
    email="ana@example.com",
)  # fmt: skip


def line_of(shipment: Shipment) -> int:
    return shipment.order.lines.get().pk


def text_of(order: Order, kind: str) -> str:
    return order.events.filter(kind=kind).latest("id").text


# --- split --------------------------------------------------------------------------------------


def test_units_are_sent_apart_and_nothing_is_lost(
    world: World, assert_invariants: Callable[..., None]
) -> None:
    whole = world.routed(5)
    (apart,) = parts.split(whole.order_id, {line_of(whole): 2}, reason="two boxes", actor=ANA)
    assert [line.quantity for line in whole.lines.all()] == [3]
    assert [line.quantity for line in apart.lines.all()] == [2]
    assert apart.warehouse == world.east
    order = Order.objects.get(pk=whole.order_id)
    assert order.routing_locked, "routing must not put it together again"
    assert "Split: 2 × MUG sent apart" in text_of(order, "split")
    assert AuditEntry.objects.filter(action="order.split", actor="user:ana").exists()
    assert_invariants()


def test_a_split_to_another_warehouse_moves_the_promise(
    world: World, assert_invariants: Callable[..., None]
) -> None:
    whole = world.routed(5)
    (apart,) = parts.split(
        whole.order_id, {line_of(whole): 2}, reason="nearer", actor=ANA, warehouse_id=world.west.pk
    )
    assert apart.warehouse == world.west
    held = dict(StockLevel.objects.values_list("warehouse__code", "reserved"))
    assert held == {"EAST": 3, "WEST": 2}
    assert_invariants()


def test_a_channel_cancel_reaches_both_parts(world: World, assert_invariants: Callable[..., None]) -> None:
    from fulfillment import shipments

    whole = world.routed(5)
    parts.split(whole.order_id, {line_of(whole): 2}, reason="two boxes", actor=ANA)
    services.cancel_lines(whole.order_id, reason="buyer", actor=SYSTEM)
    shipments.trim(whole.order_id, actor=SYSTEM)
    assert set(Shipment.objects.values_list("state", flat=True)) == {"cancelled"}
    assert_invariants()


@pytest.mark.parametrize(
    ("units", "reason", "words"),
    [
        ({"line": 2}, "", "say why"),
        ({}, "x", "say how many"),
        ({"line": 5}, "x", "that is everything"),
        ({"line": 6}, "x", "only 5 wait"),
        ({"line": 0}, "x", "at least 1"),
        ({99: 1}, "x", "has no line 99"),
    ],
)
def test_a_split_that_makes_no_sense_changes_nothing(
    world: World, units: dict, reason: str, words: str
) -> None:
    whole = world.routed(5)
    named = {line_of(whole) if key == "line" else key: count for key, count in units.items()}
    with pytest.raises(UserError, match=words):
        parts.split(whole.order_id, named, reason=reason, actor=ANA)
    assert Shipment.objects.count() == 1
    assert whole.lines.get().quantity == 5


def test_what_is_being_picked_or_held_is_not_split(world: World) -> None:
    whole = world.routed(5)
    services.place_hold(whole.order_id, Hold.Reason.PERSON, actor=SYSTEM)
    with pytest.raises(Conflict, match="on hold"):
        parts.split(whole.order_id, {line_of(whole): 1}, reason="x", actor=ANA)
    services.release_holds(whole.order_id, actor=SYSTEM)
    Shipment.objects.filter(pk=whole.pk).update(state="picking", claimed_by="user:finn")
    with pytest.raises(Conflict, match="only 0 wait"):
        parts.split(whole.order_id, {line_of(whole): 1}, reason="x", actor=ANA)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", ["split", "rejoin"])
def test_what_is_claimed_at_the_same_moment_is_left_to_its_picker(world: World, act: str) -> None:
    whole = world.routed(5)
    line = line_of(whole)
    if act == "rejoin":
        parts.split(whole.order_id, {line: 2}, reason="x", actor=ANA)
    found: list[object] = []

    def divide() -> None:
        try:
            if act == "split":
                parts.split(whole.order_id, {line: 2}, reason="two boxes", actor=ANA)
            else:
                parts.rejoin(whole.pk, actor=ANA)
        except Conflict as error:
            found.append(error)
        finally:
            connection.close()

    rival = threading.Thread(target=divide)
    with transaction.atomic():
        picking.claim(whole.pk, actor=Actor("user", "finn"))
        rival.start()
        rival.join(1)  # it has read what waits by now, or waits for the claim
    rival.join(30)
    assert len(found) == 1, "the picker was first"
    whole.refresh_from_db()
    assert whole.state == "picking"
    assert whole.lines.get().quantity == (5 if act == "split" else 3)


def test_whole_kits_are_sent_apart(world: World, assert_invariants: Callable[..., None]) -> None:
    lid = make_sku("LID", weight_g=10)
    add_stock(lid, world.east, 20)
    kit = make_kit("SET", {world.sku: 1, lid: 2})
    taken = intake.take(
        [order_draft(line_draft(kit, 3))], channel=world.channel, actor=SYSTEM, source="webhook"
    )
    order = Order.objects.get(pk=taken[0].order_id)
    routing_service.route(order.pk, actor=SYSTEM)
    (apart,) = parts.split(order.pk, {order.lines.get().pk: 1}, reason="x", actor=ANA)
    assert {line.sku.code: line.quantity for line in apart.lines.all()} == {"MUG": 1, "LID": 2}
    shares = parts.shares_of(order)
    assert sum(share.total for share in shares.values()) == order.total
    assert_invariants()


def test_put_back_together(world: World, assert_invariants: Callable[..., None]) -> None:
    whole = world.routed(5)
    (apart,) = parts.split(whole.order_id, {line_of(whole): 2}, reason="x", actor=ANA)
    assert parts.rejoin(apart.pk, actor=ANA) == whole
    assert whole.lines.get().quantity == 5
    apart.refresh_from_db()
    assert apart.state == "cancelled"
    with pytest.raises(Conflict, match="no other shipment"):
        parts.rejoin(whole.pk, actor=ANA)
    assert_invariants()


@given(
    units=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 2), st.integers(1, 9)), min_size=1, max_size=8
    ),
    cents=st.tuples(*[st.integers(0, 99_999)] * 4),
)
def test_money_of_the_parts_adds_up_to_the_coin(units: list, cents: tuple) -> None:
    goods, discount, shipping, tax = (Decimal(one) / 100 for one in cents)
    order = Order(currency="USD", subtotal=goods, discount=discount, shipping=shipping, tax=tax)
    prices = {1: (Decimal(10), Decimal(1), Decimal(2)), 2: (Decimal(3), Decimal(0), Decimal(0))}
    rows = [(place or None, line, Fraction(count)) for place, line, count in units]
    made = parts.shares(order, rows, prices)
    for name, whole in (("goods", goods), ("discount", discount), ("shipping", shipping), ("tax", tax)):
        assert sum(getattr(share, name) for share in made) == whole


# --- address ------------------------------------------------------------------------------------


def test_an_address_is_changed_and_taken_back(world: World) -> None:
    order = world.order(1)
    addresses.change(order.pk, NEW, actor=ANA)
    order.refresh_from_db()
    contact = OrderContact.objects.get(order=order)
    assert (order.ship_region, order.ship_postal, order.ship_city) == ("NV", "89431", "Sparks")
    assert contact.data["address1"] == "9 Elm St"
    assert contact.told["address1"] == "1 Main St"
    text = text_of(order, "address")
    assert "region TX → NV" in text
    assert "postal code 787 → 894" in text
    assert not any(word in text for word in ("Elm", "Main", "Sparks", "Ruiz", "89431")), (
        "buyer data stays out"
    )
    addresses.change(order.pk, ContactDraft(**{**contact.data, "city": "Reno"}), actor=ANA)
    addresses.take_back(order.pk, actor=ANA)
    contact.refresh_from_db()
    assert contact.data["address1"] == "1 Main St"
    assert contact.told is None
    with pytest.raises(Conflict, match="the channel's own"):
        addresses.take_back(order.pk, actor=ANA)


def test_the_channels_old_words_do_not_undo_a_correction_but_new_ones_do(world: World) -> None:
    draft = order_draft(line_draft(world.sku, 1), external_id="E-1")
    intake.take([draft], channel=world.channel, actor=SYSTEM, source="webhook")
    order = Order.objects.get()
    addresses.change(order.pk, NEW, actor=ANA)
    later = draft.channel_updated_at.replace(hour=20)
    same = order_draft(
        line_draft(world.sku, 1), external_id="E-1", channel_updated_at=later, payment_state="x"
    )
    intake.take([same], channel=world.channel, actor=SYSTEM, source="webhook")
    assert OrderContact.objects.get().data["address1"] == "9 Elm St"
    other = order_draft(
        line_draft(world.sku, 1), external_id="E-1", channel_updated_at=later.replace(hour=21),
        contact=ContactDraft(name="Ana", address1="5 Oak", city="Reno", region="NV", postal_code="89502", country="US"),
    )  # fmt: skip
    intake.take([other], channel=world.channel, actor=SYSTEM, source="webhook")
    contact = OrderContact.objects.get()
    assert contact.data["address1"] == "5 Oak"
    assert contact.told is None
    assert "replaces the one entered here" in text_of(order, "address")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("address1", "", "street: fill it in"),
        ("country", "QQ", "is no country"),
        ("postal_code", "8943", "five digits"),
        ("region", "ZZ", "is no state of US"),
        ("name", " ", "name of a person or a company"),
    ],
)
def test_a_wrong_address_names_the_field(world: World, field: str, value: str, words: str) -> None:
    order = world.order(1)
    wrong = {
        name: getattr(NEW, name) for name in ("name", "address1", "city", "region", "postal_code", "country")
    }
    with pytest.raises(UserError, match=words) as caught:
        addresses.change(order.pk, ContactDraft(**{**wrong, field: value}), actor=ANA)
    assert caught.value.field == field
    assert OrderContact.objects.get().data["address1"] == "1 Main St"


def test_a_bought_label_refuses_with_the_fix_until_it_is_void(
    world: World, carrier: object, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    packed = world.packed(1)
    (label,) = labels.buy(packed.pk, actor=SYSTEM)
    with pytest.raises(Conflict, match=f"void it on {packed.number} first"):
        addresses.change(packed.order_id, NEW, actor=ANA)
    labels.void(label.pk, actor=SYSTEM)
    with django_capture_on_commit_callbacks(execute=True):
        addresses.change(packed.order_id, NEW, actor=ANA)
    assert packed.quotes.exists(), "the rates were asked anew"
    again = labels.buy(packed.pk, actor=SYSTEM)[-1]
    assert again.state == LabelPurchase.State.PURCHASED


def test_erasing_forgets_both_addresses(world: World) -> None:
    order = world.order(1)
    addresses.change(order.pk, NEW, actor=ANA)
    pii.erase_orders([order.pk], actor=SYSTEM)
    contact = OrderContact.objects.get()
    assert (contact.data, contact.told) == ({}, None)
    with pytest.raises(Conflict, match="erased"):
        addresses.change(order.pk, NEW, actor=ANA)


# --- screens ------------------------------------------------------------------------------------


@pytest.fixture
def owner(db: None) -> User:
    return make_user("omar")


def test_the_address_dialog(client: Client, owner: User, world: World) -> None:
    order = world.order(1)
    client.force_login(owner)
    url = reverse("fulfillment:order_address", args=[order.pk])
    htmx = {"HX-Request": "true"}
    assert b'value="1 Main St"' in client.get(url, headers=htmx).content
    form = {"name": "Ana", "address1": "9 Elm St", "city": "Sparks", "region": "NV", "country": "US"}
    wrong = client.post(url, {**form, "postal_code": "1"}, headers=htmx)
    assert wrong.status_code == 422
    assert b"five digits" in wrong.content
    good = client.post(url, {**form, "postal_code": "89431"}, headers=htmx)
    assert good["HX-Redirect"] == f"/orders/{order.number}/"
    page = client.get(f"/orders/{order.number}/").content.decode()
    assert "9 Elm St" in page
    assert "told: Ana Maria Ruiz, 1 Main St" in page
    client.post(reverse("fulfillment:order_address_back", args=[order.pk]))
    assert OrderContact.objects.get().told is None


def test_split_and_undo_on_the_order_page(client: Client, owner: User, world: World) -> None:
    whole = world.routed(3)
    client.force_login(owner)
    panel = reverse("fulfillment:order_panel", args=[whole.order_id])
    assert "MUG, 3 waiting" in client.get(panel).content.decode()
    split = reverse("fulfillment:split", args=[whole.order_id])
    client.post(split, {f"line-{line_of(whole)}": "1", "reason": "two boxes"})
    apart = Shipment.objects.exclude(pk=whole.pk).get()
    shown = client.get(panel).content.decode()
    assert "Put back together" in shown
    assert "Its share" in shown
    client.post(reverse("fulfillment:rejoin", args=[whole.order_id]), {"shipment": apart.pk})
    assert whole.lines.get().quantity == 3


def test_what_has_left_is_not_offered_another_warehouse(client: Client, owner: User, world: World) -> None:
    whole = world.routed(1)
    client.force_login(owner)
    panel = reverse("fulfillment:order_panel", args=[whole.order_id])
    assert "Re-route" in client.get(panel).content.decode()
    Order.objects.update(state=Order.State.SHIPPED)
    shown = client.get(panel).content.decode()
    assert "Re-route" not in shown and "Send from another warehouse" not in shown


def test_the_order_page_offers_the_next_step_of_its_one_parcel(
    client: Client, owner: User, world: World
) -> None:
    whole = world.routed(2)
    panel, bench = (
        reverse(f"fulfillment:{name}", args=[pk])
        for name, pk in (("order_panel", whole.order_id), ("bench", whole.pk))
    )
    client.force_login(owner)
    shown = client.get(panel).content.decode()
    assert f'id="order-next" class="button primary" hx-swap-oob="true" href="{bench}"' in shown
    assert "lost:" not in shown, "the table says why the others lost"
    Shipment.objects.update(state=Shipment.State.PACKED)
    assert "Buy label" in client.get(panel).content.decode()
    Shipment.objects.update(state=Shipment.State.SHIPPED)
    assert "order-next" not in client.get(panel).content.decode()
    Shipment.objects.update(state=Shipment.State.READY)
    client.force_login(make_user("reader", "viewer"))
    assert "order-next" not in client.get(panel).content.decode()


def test_the_order_panel_costs_few_queries(
    client: Client, owner: User, world: World, django_assert_max_num_queries: Callable
) -> None:
    whole = world.routed(5)
    for _ in range(3):
        parts.split(whole.order_id, {line_of(whole): 1}, reason="x", actor=ANA)
    client.force_login(owner)
    with django_assert_max_num_queries(22):
        client.get(reverse("fulfillment:order_panel", args=[whole.order_id]))


# --- many orders --------------------------------------------------------------------------------


def test_assigning_a_warehouse_names_what_it_cannot_send(client: Client, owner: User, world: World) -> None:
    small, large = world.order(2), world.order(9)
    client.force_login(owner)
    url = reverse("fulfillment:order_bulk")
    answer = client.post(
        url, {"action": "assign", "ids": [small.pk, large.pk], "to": "EAST", "reason": "west is closing"}
    )
    job = Job.objects.get()
    assert answer["Location"] == f"/jobs/{job.pk}/"
    jobs.run_job(job.pk)
    rows = {row.subject: row for row in job.rows.all()}
    assert rows[small.number].ok, rows[small.number].message
    assert not rows[large.number].ok
    assert "cannot send" in rows[large.number].message
    small.refresh_from_db()
    assert small.routing_locked
    client.post(url, {"action": "assign", "ids": [small.pk], "to": "WEST", "reason": " "})
    assert Job.objects.count() == 1, "no reason, no job"


def test_labels_of_many_orders_with_a_result_each_and_no_label_twice(
    client: Client, owner: User, world: World, carrier: object
) -> None:
    ready = [world.packed(1), world.packed(1)]
    bare = world.routed(1)
    client.force_login(owner)
    ids = [one.order_id for one in (*ready, bare)]
    for _ in range(2):
        client.post(reverse("fulfillment:order_bulk"), {"action": "labels", "ids": ids})
        job = Job.objects.latest("pk")
        jobs.run_job(job.pk)
        job.refresh_from_db()
        assert (job.ok, job.failed) == (2, 1)
    assert LabelPurchase.objects.count() == 2
    assert job.rows.get(ok=False).message == f"{bare.order.number} is not packed: pick and pack first."


def test_labels_say_at_once_which_orders_are_not_packed(
    client: Client, owner: User, world: World, carrier: object
) -> None:
    ready, bare, gone, half = world.packed(1), world.routed(1), world.packed(1), world.routed(2)
    labels.buy(gone.pk, actor=ANA)
    shipping.ship(gone.pk, actor=ANA)
    [apart] = parts.split(half.order_id, {line_of(half): 1}, reason="two boxes", actor=ANA)
    picking.pick_all(half.pk, actor=PICKER)
    packing.pack(half.pk, actor=PICKER)
    client.force_login(owner)
    url = reverse("fulfillment:order_bulk")

    def said(*chosen: Shipment) -> list[str]:
        answer = client.post(url, {"action": "labels", "ids": [one.order_id for one in chosen]}, follow=True)
        return [str(message) for message in answer.context["messages"]]

    first, second = bare.order.number, gone.order.number
    assert said(bare, gone) == [
        f"orders: {first} is not packed: pick and pack first. {second} is on the way already."
    ]
    assert not Job.objects.exists(), "no job for what no order can do"
    assert said(ready, bare, half) == [f"{first} is not packed: pick and pack first."]
    job = Job.objects.get()
    jobs.run_job(job.pk)
    rows = {row.subject: (row.ok, row.message) for row in job.rows.all()}
    assert rows[first] == (False, f"{first} is not packed: pick and pack first.")
    assert rows[half.order.number][0]
    assert rows[half.order.number][1].endswith(f"; {apart.number} is not packed yet")
    assert rows[ready.order.number][1].startswith("label 1Z")


@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_killed_label_job_goes_on_where_it_was(
    owner: User, world: World, carrier: object, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    from fulfillment import bulk

    ready = [world.packed(1) for _ in range(3)]
    actor = Actor("user", owner.username, owner.pk)
    job = bulk.start("labels", [one.order_id for one in ready], {}, actor=actor)
    calls = 0
    real = bulk._labels_of

    def dies(*args: object) -> str:
        nonlocal calls
        calls += 1
        done = real(*args)  # type: ignore[arg-type]
        if calls == stop_after:
            raise KeyboardInterrupt  # after the carrier sold it, before the row is written
        return done

    monkeypatch.setattr(bulk, "_labels_of", dies)
    with pytest.raises(KeyboardInterrupt):
        jobs.run_job(job.pk)
    Job.objects.filter(pk=job.pk).update(state="queued")
    jobs.run_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.ok, job.rows.count()) == ("done", 3, 3)
    assert LabelPurchase.objects.count() == 3


def test_one_pick_list_for_many_orders(client: Client, owner: User, world: World) -> None:
    ids = [world.routed(1).order_id, world.routed(2).order_id]
    client.force_login(owner)
    url = reverse("fulfillment:order_bulk")
    answer = client.post(url, {"action": "pick_list", "ids": ids})
    assert answer.content.startswith(b"%PDF")
    far = world.order(1)
    routing_service.assign(far.pk, world.west.pk, reason="x", actor=ANA)
    answer = client.post(url, {"action": "pick_list", "ids": [*ids, far.pk]}, follow=True)
    assert "wait in EAST, WEST" in answer.content.decode()


def test_a_scoped_user_assigns_only_where_he_may(client: Client, world: World) -> None:
    order = world.order(1)
    client.force_login(make_user("vera", "viewer"))
    answer = client.post(
        reverse("fulfillment:order_bulk"),
        {"action": "assign", "ids": [order.pk], "to": "WEST", "reason": "x"},
    )
    assert answer.status_code == 403
    assert not Job.objects.exists()
