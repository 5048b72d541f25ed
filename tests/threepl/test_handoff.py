"""Orders go to a 3PL once, whatever happens to the answer; what it reports becomes true once."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
import time_machine
from django.db import transaction

from channels.models import ChannelEffect
from fulfillment import picking, shipments
from fulfillment.models import HandOff, LabelPurchase, Shipment, ThreePLCall, ThreePLMessage
from fulfillment.threepl import accounts, calls, client, handoff, inbox
from inventory.models import StockDifference, StockMovement
from oms.core.actor import SYSTEM, Actor
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.models import ExceptionItem, OutboundCall
from oms.orders import services
from tests.threepl.conftest import Partner, run_tasks

ANNA = Actor("user", "anna")


def open_kinds() -> set[str]:
    return set(ExceptionItem.objects.filter(closed_at=None).values_list("kind", flat=True))


# --- out -------------------------------------------------------------------------------------------


def test_an_order_is_sent_acknowledged_and_shipped(partner: Partner, clean):
    given = partner.handed(3, other=1)
    assert given.state == "confirmed"
    [there] = partner.there()
    assert (there["reference"], there["id"]) == (given.reference, given.external_id)
    assert {line["sku"]: line["quantity"] for line in there["lines"].values()} == {"MUG": 3, "BOWL": 1}
    assert there["ship_to"]["city"] == "Austin" and "price" not in str(there)
    partner.tell("order.status", reference=given.reference, status="accepted", order_id=given.external_id)
    given.refresh_from_db()
    assert given.state == "acknowledged"
    left_at = now() - dt.timedelta(minutes=10)
    done = partner.left(given, {1: 3, 2: 1}, "OUT-1", shipped_at=left_at.isoformat())
    assert done.state == "done", done.error
    shipment = Shipment.objects.get(pk=given.shipment_id)
    assert (shipment.state, shipment.shipped_at, shipment.shipped_evidence) == ("shipped", left_at, "3pl")
    label = LabelPurchase.objects.get(parcel__shipment=shipment)
    assert (label.tracking_number, label.account.name, label.state) == ("1ZOUT-1", "UPS", "purchased")
    assert partner.level().on_hand == 7 and partner.level().reserved == 0
    moved = StockMovement.objects.get(kind="ship", bucket="on_hand", sku=partner.sku)
    assert (moved.quantity, moved.occurred_at, moved.reference) == (-3, left_at, shipment.number)
    assert shipment.order.lines.get(sku=partner.sku).shipped == 3
    given.refresh_from_db()
    assert given.state == "shipped" and not open_kinds()
    clean()


def test_planning_twice_makes_one_hand_off_and_new_units_get_their_own(partner: Partner, clean):
    given = partner.planned(2)
    assert handoff.plan(partner.account.pk, actor=SYSTEM) == 0
    with pytest.raises(Conflict, match="handed to Midway 3PL"):
        picking.claim(given.shipment_id, actor=ANNA)
    with pytest.raises(Conflict, match="handed to Midway 3PL"):
        picking.pick_all(given.shipment_id, actor=ANNA)
    shipments.ensure_shipments(given.shipment.order_id, actor=SYSTEM)
    assert Shipment.objects.count() == 1
    assert HandOff.objects.get().lines.get().quantity == 2
    clean()


@pytest.mark.parametrize("fault", ["timeout", "error_500_after"])
def test_a_lost_answer_is_looked_up_and_never_sent_again(partner: Partner, clean, fault):
    partner.client.set_settings("midway", forgetful=True)  # it would make a second order
    partner.client.plan_fault("midway", fault, "order")
    given = partner.handed(2)
    assert given.state == "in_doubt"
    partner.due()
    given.refresh_from_db()
    [there] = partner.there()
    assert (given.state, given.external_id) == ("confirmed", there["id"])
    assert partner.client.shop("midway")["operations"]["order"] == 1
    clean()


def test_what_never_arrived_is_sent_again_under_the_same_reference(partner: Partner, clean):
    partner.client.set_settings("midway", forgetful=True)
    partner.client.plan_fault("midway", "drop", "order")
    given = partner.handed(2)
    assert given.state == "in_doubt" and partner.there() == []
    for _ in range(calls.LOOKS):
        partner.due()
    given.refresh_from_db()
    assert given.state == "confirmed"
    assert [one["reference"] for one in partner.there()] == [given.reference]
    assert partner.client.shop("midway")["operations"] == {"ping": 1, "order": 2, "find": 3}
    clean()


def test_a_process_killed_between_send_and_commit_makes_one_order(partner: Partner, clean, monkeypatch):
    partner.client.set_settings("midway", forgetful=True)
    given = partner.planned(2)
    real = client.send_order

    def killed(*args: object) -> str:
        real(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "send_order", killed)
    with pytest.raises(KeyboardInterrupt):
        calls.drain(partner.account.pk)
    monkeypatch.setattr(client, "send_order", real)
    given.refresh_from_db()
    assert given.state == "sent"
    assert calls.drain(partner.account.pk) == 0  # its lease still runs
    partner.due()
    given.refresh_from_db()
    assert given.state == "confirmed" and len(partner.there()) == 1
    clean()


def test_a_3pl_that_never_shows_it_is_a_persons_matter_after_three_sends(partner: Partner, clean):
    partner.client.faults("midway", drop_rate=1.0, only=["order"])
    given = partner.handed(2)
    for _ in range(30):
        partner.due()
    assert partner.client.shop("midway")["operations"]["order"] == calls.MAX_SENDS
    assert open_kinds() == {"threepl_in_doubt"}
    handoff.confirm_by_hand(given.pk, "BY-PHONE-1", actor=ANNA)
    given.refresh_from_db()
    assert (given.state, given.external_id) == ("acknowledged", "BY-PHONE-1")
    assert not open_kinds()
    clean()


def test_two_numbers_for_one_reference_are_told(partner: Partner):
    given = partner.handed(2)
    handoff.confirm(given.pk, "W-SECOND", actor=SYSTEM)
    given.refresh_from_db()
    assert given.external_id == partner.there()[0]["id"]
    assert open_kinds() == {"threepl_twice"}


def test_a_refusal_says_why_and_can_be_sent_again(partner: Partner, clean):
    partner.client.threepl_act("midway", "stock", levels={})
    partner.client.plan_fault("midway", "user_error", "order")
    call = partner.planned(1)
    partner.client.threepl_act("midway", "tell", topic="order.status", data={})
    # an unknown SKU there
    partner.sku.code = "MUG-2"
    partner.sku.save()
    calls.drain(partner.account.pk)
    call.refresh_from_db()
    assert call.state == "refused" and "unknown SKU MUG-2" in call.error
    assert open_kinds() == {"threepl_refused"}
    partner.client.threepl_act("midway", "stock", levels={"MUG-2": 5})
    handoff.send_again(call.pk, actor=ANNA)
    partner.due()
    call.refresh_from_db()
    assert call.state == "confirmed" and not open_kinds()
    clean()


def test_refused_credentials_stop_the_account_and_lose_nothing(partner: Partner, clean):
    accounts.change(partner.account.pk, actor=ANNA, credentials={"secret": "wrong"})
    given = partner.handed(2)
    partner.account.refresh_from_db()
    assert partner.account.state == "refused" and given.state == "planned"
    assert open_kinds() == {"threepl_auth"}
    accounts.change(
        partner.account.pk, actor=ANNA, credentials={"secret": partner.account.credentials["secret"]}
    )
    right = partner.client.shop("midway")["credentials"]["secret"]
    accounts.change(partner.account.pk, actor=ANNA, credentials={"secret": right})
    assert accounts.test(partner.account.pk, actor=ANNA).ok
    partner.due()
    given.refresh_from_db()
    assert given.state == "confirmed" and not open_kinds()
    assert right not in "".join(OutboundCall.objects.values_list("request", flat=True))
    clean()


def test_no_acknowledgement_is_told_once_and_closed_by_it(partner: Partner):
    given = partner.handed(2)
    assert handoff.told_late() == 0
    with time_machine.travel(now() + dt.timedelta(minutes=61)):
        assert handoff.told_late() == 1
        assert handoff.told_late() == 0
    item = ExceptionItem.objects.get(closed_at=None)
    assert item.kind == "threepl_no_ack" and item.url == f"/threepl/orders/{given.pk}/"
    partner.tell("order.status", reference=given.reference, status="accepted")
    assert not open_kinds()


# --- back ------------------------------------------------------------------------------------------


def test_a_cancelled_order_is_cancelled_there_before_it_ships(partner: Partner, clean):
    given = partner.handed(2)
    services.cancel_lines(given.shipment.order_id, reason="buyer", actor=SYSTEM)
    run_tasks()
    partner.due()
    given.refresh_from_db()
    assert given.state == "cancelled"
    assert partner.there()[0]["status"] == "cancelled"
    assert Shipment.objects.get(pk=given.shipment_id).state == "cancelled"
    assert partner.level().available == 10
    clean()


def test_a_cancellation_before_the_send_needs_no_call(partner: Partner, clean):
    given = partner.planned(2)
    services.cancel_lines(given.shipment.order_id, reason="buyer", actor=SYSTEM)
    shipments.trim(given.shipment.order_id, actor=SYSTEM)
    handoff.follow(given.shipment.order_id, actor=SYSTEM)
    run_tasks()
    partner.due()
    given.refresh_from_db()
    assert given.state == "cancelled" and partner.there() == []
    clean()


def test_some_units_cancelled_before_and_after_the_send(partner: Partner, clean):
    given = partner.planned(4)
    line = given.shipment.order.lines.get()
    services.cancel_lines(line.order_id, {line.pk: 1}, reason="buyer", actor=SYSTEM)
    shipments.trim(line.order_id, actor=SYSTEM)
    handoff.follow(line.order_id, actor=SYSTEM)
    partner.due()
    assert partner.there()[0]["lines"]["1"]["quantity"] == 3
    services.cancel_lines(line.order_id, {line.pk: 2}, reason="buyer", actor=SYSTEM)
    run_tasks()
    there = partner.there()[0]["lines"]["1"]
    assert there["quantity"] - there["cancelled"] == 1
    assert partner.left(given, {1: 1}).state == "done"
    given.refresh_from_db()
    told = given.lines.get()
    assert (given.state, told.shipped, told.cancelled, told.cancelling) == ("shipped", 1, 3, 0)
    assert partner.level().on_hand == 9 and partner.level().reserved == 0
    clean()


def test_a_cancellation_whose_answer_is_lost_is_found_there(partner: Partner, clean):
    given = partner.handed(2)
    partner.client.plan_fault("midway", "timeout", "cancel")
    services.cancel_lines(given.shipment.order_id, reason="buyer", actor=SYSTEM)
    run_tasks()
    assert ThreePLCall.objects.get(kind="cancel").state == "in_doubt"
    partner.due()
    given.refresh_from_db()
    assert given.state == "cancelled"
    assert partner.client.shop("midway")["operations"]["cancel"] == 1
    clean()


def test_too_late_to_cancel_the_units_leave_as_too_much(partner: Partner, clean):
    given = partner.handed(2)
    partner.client.threepl_act("midway", "ship", order=given.reference)  # its notice is late
    services.cancel_lines(given.shipment.order_id, reason="buyer", actor=SYSTEM)
    run_tasks()
    partner.due()
    assert open_kinds() == {"threepl_too_late"}
    assert partner.level().on_hand == 10
    done = partner.left(given, {1: 2}, "OUT-9")
    assert done.state == "done", done.error
    given.refresh_from_db()
    assert partner.level().on_hand == 8 and given.state == "shipped"
    assert open_kinds() == {"threepl_too_late", "threepl_excess"}
    moved = StockMovement.objects.get(kind="adjust")
    assert (moved.quantity, moved.reason, moved.reference) == (-2, "sent without being owed", given.reference)
    clean()


def test_a_person_takes_it_back(partner: Partner, clean):
    given = partner.handed(2)
    with pytest.raises(UserError, match="say why"):
        handoff.take_back(given.pk, " ", actor=ANNA)
    handoff.take_back(given.pk, "faster from east", actor=ANNA)
    # the units are not handed out a second time before the 3PL let go
    assert handoff.plan(partner.account.pk, actor=SYSTEM) == 0
    partner.due()
    given.refresh_from_db()
    assert given.state == "cancelled" and partner.there()[0]["status"] == "cancelled"
    clean()


# --- in --------------------------------------------------------------------------------------------


def test_parts_leave_on_their_own(partner: Partner, clean):
    given = partner.handed(3, other=2)
    assert partner.left(given, {1: 2}, "OUT-1").state == "done"
    given.refresh_from_db()
    assert given.state == "acknowledged"
    part = Shipment.objects.exclude(pk=given.shipment_id).get()
    assert (part.state, part.lines.get().quantity) == ("shipped", 2)
    rest = Shipment.objects.get(pk=given.shipment_id)
    assert (rest.state, sorted(rest.lines.values_list("sku__code", "quantity"))) == (
        "picking", [("BOWL", 2), ("MUG", 1)],
    )  # fmt: skip
    clean()
    box = [{"carrier": "FedEx", "tracking": "F1", "lines": [{"sku": "MUG", "quantity": 1}]}]
    box.append({"carrier": "FedEx", "tracking": "F2", "lines": [{"sku": "bowl", "quantity": 2}]})
    assert partner.left(given, {}, "OUT-2", parcels=box).state == "done"
    given.refresh_from_db()
    assert given.state == "shipped"
    assert rest.parcels.count() == 2
    assert (partner.level().on_hand, partner.level(partner.other).on_hand) == (7, 4)
    clean()


def test_the_same_shipment_told_again_or_before_its_acknowledgement_counts_once(partner: Partner, clean):
    given = partner.handed(2)
    first = partner.left(given, {1: 2}, "OUT-1")
    again = partner.left(given, {1: 2}, "OUT-1")
    assert (first.state, again.state) == ("done", "done")
    assert "booked already" in again.error
    partner.tell("order.status", reference=given.reference, status="accepted", order_id=given.external_id)
    given.refresh_from_db()
    assert given.state == "shipped" and given.acknowledged_at
    assert partner.level().on_hand == 8 and not open_kinds()
    # under another number it is a second parcel, which we did not owe
    partner.left(given, {1: 2}, "OUT-1-again")
    assert partner.level().on_hand == 6 and open_kinds() == {"threepl_excess"}
    clean()


def test_a_shipment_of_an_order_on_hold_waits_and_is_booked_after_the_release(partner: Partner, clean):
    given = partner.handed(2)
    hold = services.place_hold(given.shipment.order_id, reason="person", note="check", actor=SYSTEM)
    waiting = partner.left(given, {1: 2}, "OUT-1")
    assert waiting.state == "received" and "on hold" in waiting.error
    ThreePLMessage.objects.update(next_attempt_at=now())
    inbox.drain(partner.account.pk)
    assert open_kinds() == {"threepl_message"}
    services.release_hold(hold.pk, actor=SYSTEM)
    ThreePLMessage.objects.update(next_attempt_at=now())
    inbox.drain(partner.account.pk)
    assert partner.level().on_hand == 8 and not open_kinds()
    clean()


@pytest.mark.parametrize(
    ("topic", "data", "says"),
    [
        ("order.status", {"reference": "S-999999", "status": "accepted"}, "never given an order 'S-999999'"),
        ("order.status", {"reference": "{ref}", "status": "lost"}, "status: 'lost' is unknown"),
        ("shipment.created", {"reference": "{ref}", "shipment_id": "X", "shipped_at": "yesterday", "parcels": []},
         "shipped_at: 'yesterday' is not a time"),
        ("shipment.created", {"reference": "{ref}", "shipment_id": "X", "shipped_at": "2026-01-01T00:00:00Z",
         "parcels": [{"lines": [{"line": 1, "quantity": -2}]}]}, "quantity: -2 is not between 1"),
        ("shipment.created", {"reference": "{ref}", "shipment_id": "X", "shipped_at": "2026-01-01T00:00:00Z",
         "parcels": [{"lines": [{"line": 9, "quantity": 1}]}]}, "has no line 9"),
        ("shipment.created", {"reference": "{ref}", "shipment_id": "X", "shipped_at": "2026-01-01T00:00:00Z",
         "parcels": [{"lines": [{"sku": "<script>", "quantity": 1}]}]}, "there is no SKU '<script>'"),
        ("shipment.created", {"reference": "{ref}", "shipment_id": "X", "shipped_at": "2026-01-01T00:00:00Z",
         "parcels": [{"lines": [{"sku": "BOWL", "quantity": 1}]}]}, "holds no BOWL"),
        ("inventory.adjusted", {"adjustment_id": "A", "sku": "NONE", "quantity": 1, "reason": "x",
         "adjusted_at": "2026-01-01T00:00:00Z"}, "there is no SKU 'NONE'"),
        ("inventory.adjusted", {"adjustment_id": "A", "sku": "MUG", "quantity": 0, "reason": "x",
         "adjusted_at": "2026-01-01T00:00:00Z"}, "at least one unit"),
        ("inventory.snapshot", {"snapshot_id": "S", "taken_at": "2026-01-01T00:00:00Z",
         "levels": [{"sku": "MUG", "on_hand": -1}]}, "on_hand: -1 is not between 0"),
        ("inventory.snapshot", {"snapshot_id": "S", "taken_at": "2026-01-01T00:00:00Z",
         "levels": [{"sku": "MUG", "on_hand": 1}, {"sku": "mug", "on_hand": 2}]}, "named twice"),
        ("inventory.snapshot", {"snapshot_id": "S", "taken_at": "2026-01-01", "levels": [{"sku": "M", "on_hand": 1}]},
         "needs its zone"),
    ],
)  # fmt: skip
def test_nonsense_changes_nothing_and_says_what_is_wrong(partner: Partner, clean, topic, data, says):
    given = partner.handed(2)
    data = {key: given.reference if value == "{ref}" else value for key, value in data.items()}
    before = StockMovement.objects.count()
    message = partner.tell(topic, **data)
    assert message.state == "dead" and says in message.error
    assert StockMovement.objects.count() == before and not StockDifference.objects.exists()
    item = ExceptionItem.objects.get(closed_at=None)
    assert item.kind == "threepl_message" and says in item.detail
    clean()


def test_a_dead_message_is_booked_after_it_was_mended_or_put_aside(partner: Partner, clean):
    at = now().isoformat()
    late = partner.tell(
        "inventory.adjusted", adjustment_id="A1", sku="CODE-X", quantity=-1, reason="broken", adjusted_at=at
    )
    partner.sku.aliases.create(value="CODE-X")
    inbox.retry(late.pk, actor=ANNA)
    inbox.drain(partner.account.pk)
    assert partner.level().on_hand == 9 and not open_kinds()
    with pytest.raises(Conflict, match="booked already"):
        inbox.retry(late.pk, actor=ANNA)
    other = partner.tell(
        "inventory.adjusted", adjustment_id="A2", sku="NOPE", quantity=-1, reason="x", adjusted_at=at
    )
    inbox.ignore(other.pk, "not ours", actor=ANNA)
    assert not open_kinds()
    clean()


def test_an_adjustment_counts_once_and_gives_way_promises_last(partner: Partner, clean):
    given = partner.handed(2)
    at = now() - dt.timedelta(minutes=5)
    for delivery in ("d-a", "d-b"):
        partner.tell(
            "inventory.adjusted", delivery, adjustment_id="A1", sku="MUG", quantity=-3, reason="damaged",
            adjusted_at=at.isoformat(),
        )  # fmt: skip
    moved = StockMovement.objects.get(kind="adjust")
    assert (moved.quantity, moved.occurred_at, moved.actor) == (-3, at, "3pl:midway")
    # seven are left, two of them are being picked there: these are never taken away
    blocked = partner.tell(
        "inventory.adjusted",
        adjustment_id="A2",
        sku="MUG",
        quantity=-6,
        reason="lost",
        adjusted_at=at.isoformat(),
    )
    assert blocked.state == "received" and partner.level().on_hand == 7
    assert partner.left(given, {1: 2}).state == "done"
    clean()


# --- figures ---------------------------------------------------------------------------------------


def test_figures_are_read_compared_and_never_overwrite_what_is_newer(partner: Partner, clean):
    assert accounts.pull_due() == 1 and accounts.pull_due() == 0
    inbox.drain(partner.account.pk)
    partner.account.refresh_from_db()
    assert partner.account.last_snapshot_at and not StockDifference.objects.exists()
    # their picture from before a movement of ours
    partner.client.threepl_act("midway", "stock", levels={"MUG": 4, "BOWL": 6})
    held = partner.client.threepl_act("midway", "hold")["held"]
    partner.tell(
        "inventory.adjusted",
        adjustment_id="A1",
        sku="MUG",
        quantity=-1,
        reason="lost",
        adjusted_at=now().isoformat(),
    )
    partner.tell("inventory.snapshot", **held)
    row = StockDifference.objects.get()
    assert (row.theirs, row.ours, partner.level().on_hand, row.value) == (4, 10, 9, Decimal(24))
    # a dispute asks them to count again
    with transaction.atomic():
        from inventory import differences

        differences.dispute(row.pk, note="we shipped nothing", actor=ANNA)
    run_tasks()
    [asked] = partner.client.threepl("midway")["recounts"]
    assert asked["reference"] == row.number and asked["skus"][0]["note"] == "we shipped nothing"
    partner.client.threepl_act("midway", "stock", levels={"MUG": 9, "BOWL": 6})
    accounts.pull_snapshot(partner.account.pk)
    inbox.drain(partner.account.pk)
    row.refresh_from_db()
    assert row.outcome == "agreed" and not open_kinds()
    clean()


def test_a_shipment_that_left_before_its_notice_makes_no_difference(partner: Partner, clean):
    given = partner.handed(2)
    partner.client.threepl_act("midway", "ship", order=given.reference)
    accounts.pull_snapshot(partner.account.pk)
    inbox.drain(partner.account.pk)
    assert StockDifference.objects.get().state == "watching" and not open_kinds()
    [there] = partner.there()
    partner.tell("shipment.created", **there["shipments"][0])
    accounts.pull_snapshot(partner.account.pk)
    inbox.drain(partner.account.pk)
    assert StockDifference.objects.get().outcome == "agreed"
    assert partner.level().on_hand == 8 and not open_kinds()
    clean()


def test_skus_we_do_not_know_are_told_and_the_others_counted(partner: Partner):
    at = now().isoformat()
    done = partner.tell(
        "inventory.snapshot", snapshot_id="S1", taken_at=at,
        levels=[{"sku": "STRANGE", "on_hand": 3}, {"sku": "MUG", "on_hand": 10}],
    )  # fmt: skip
    assert done.state == "done" and "1 agree" in done.error
    assert ExceptionItem.objects.get(closed_at=None).kind == "pool_unmapped"
    partner.tell(
        "inventory.snapshot",
        snapshot_id="S2",
        taken_at=now().isoformat(),
        levels=[{"sku": "MUG", "on_hand": 10}],
    )
    assert not open_kinds()


def test_silence_is_told(partner: Partner):
    assert accounts.tell_silent() == 0
    with time_machine.travel(now() + dt.timedelta(hours=27)):
        assert accounts.tell_silent() == 1
    assert open_kinds() == {"threepl_silent"}
    assert not ChannelEffect.objects.exists()
