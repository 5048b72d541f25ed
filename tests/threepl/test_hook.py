"""The door where a 3PL knocks: verified, stored once, answered at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fulfillment.models import ThreePLMessage
from fulfillment.threepl import accounts, inbox, signing
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.models import ExceptionItem
from tests.threepl.conftest import Partner, run_tasks

DATA = {
    "adjustment_id": "A1",
    "sku": "MUG",
    "quantity": -1,
    "reason": "broken",
    "adjusted_at": "2026-01-02T03:04:05Z",
}


def test_a_signed_message_is_stored_once_and_booked_by_a_task(
    partner: Partner, django_assert_max_num_queries, clean
):
    with django_assert_max_num_queries(12):
        assert partner.post("inventory.adjusted", DATA, delivery="one") == 200
    assert ThreePLMessage.objects.get().state == "received" and partner.level().on_hand == 10
    assert partner.post("inventory.adjusted", DATA, delivery="one") == 200
    run_tasks()
    assert ThreePLMessage.objects.get().state == "done" and partner.level().on_hand == 9
    clean()


def test_wrong_signatures_old_ones_and_strangers_are_refused_alike(partner: Partner):
    at = int(now().timestamp())
    assert partner.post("inventory.adjusted", DATA, secret="guessed") == 401
    assert partner.post("inventory.adjusted", DATA, stamp=at - 301) == 401
    assert partner.post("inventory.adjusted", DATA, stamp=at + 302) == 401
    assert partner.post("inventory.adjusted", DATA, stamp=at - 290) == 200
    # signed with the other direction's secret
    assert partner.post("inventory.adjusted", DATA, secret=partner.account.credentials["secret"]) == 401
    partner.account.hook_key = "unknown"
    assert partner.post("inventory.adjusted", DATA) == 401
    assert ThreePLMessage.objects.count() == 1


def test_a_changed_secret_leaves_the_old_one_valid_for_a_while(partner: Partner):
    old = partner.account.credentials["hook_secret"]
    accounts.change(partner.account.pk, actor=SYSTEM, credentials={"hook_secret": "fresh-secret-of-theirs"})
    assert partner.post("inventory.adjusted", DATA, secret=old) == 200
    assert partner.post("inventory.adjusted", DATA, secret="fresh-secret-of-theirs") == 200
    accounts.change(partner.account.pk, actor=SYSTEM, credentials={"hook_secret": "third-secret-of-theirs"})
    assert partner.post("inventory.adjusted", DATA, secret=old) == 401


def test_huge_and_unreadable_bodies(partner: Partner):
    assert partner.post("", {}, raw=b"x" * (1024 * 1024 + 1)) == 413
    for raw in (b"{", b"\xff\xfe", b"[" * 100_000, b'{"topic": NaN}'):
        assert partner.post("", {}, raw=raw) == 400
    for raw in (b"[1]", b'{"topic": "x", "data": {}}', b'{"topic": "order.status", "data": []}'):
        assert partner.post("", {}, raw=raw) == 422
    assert {row.state for row in ThreePLMessage.objects.all()} == {"dead"}
    assert ThreePLMessage.objects.count() == 7


LINES = [{"sku": "MUG", "quantity": 1}, {"sku": "MUG", "quantity": "two"}]


@pytest.mark.parametrize(
    ("topic", "data", "pointer", "says"),
    [
        ("inventory.moved", {}, "/topic", "it must be one of order.status"),
        ("inventory.adjusted", {**DATA, "quantity": "many"}, "/data/quantity", "'many' is not a whole number"),
        ("shipment.created", {"reference": "S", "shipment_id": "1", "shipped_at": DATA["adjusted_at"],
         "parcels": [{"lines": LINES}]}, "/data/parcels/0/lines/1/quantity", "'two' is not a whole number"),
        ("inventory.snapshot", {"snapshot_id": "1", "taken_at": DATA["adjusted_at"],
         "levels": [{"sku": "A", "on_hand": 1}, {"sku": "B"}]}, "/data/levels/1/on_hand", "not a whole number"),
    ],
)  # fmt: skip
def test_a_partner_learns_what_it_must_mend(
    partner: Partner, clean, topic: str, data: dict[str, Any], pointer: str, says: str
):
    assert partner.post(topic, data, delivery="one") == 422
    told = partner.said.json()
    assert partner.said["Content-Type"] == "application/problem+json"
    assert [one["pointer"] for one in told["errors"]] == [pointer] and says in told["detail"]
    kept = ThreePLMessage.objects.get()
    assert (kept.state, says in kept.error) == ("dead", True)
    assert says in ExceptionItem.objects.get(kind="threepl_message").detail
    run_tasks()
    assert partner.level().on_hand == 10, "nothing is booked of it"
    # mended, it is taken under the same delivery number
    assert partner.post("inventory.adjusted", DATA, delivery="one") == 200
    run_tasks()
    assert partner.level().on_hand == 9
    clean()


def test_a_cause_is_shown_once_and_closed_with_its_last_message(partner: Partner):
    for wrong in ("many", "few", "some"):
        for _ in range(2):
            assert partner.post("inventory.adjusted", {**DATA, "quantity": wrong}) == 422
    assert partner.post("inventory.adjusted", {**DATA, "sku": ""}) == 422
    many, missing = ExceptionItem.objects.filter(kind="threepl_message").order_by("pk")
    assert (many.seen, missing.seen, ThreePLMessage.objects.count()) == (3, 1, 4)
    first, second, third, other = ThreePLMessage.objects.order_by("pk")
    inbox.ignore(first.pk, "a test of theirs", actor=SYSTEM)
    inbox.retry(second.pk, actor=SYSTEM)
    assert ExceptionItem.objects.filter(closed_at=None).count() == 2
    inbox.ignore(third.pk, "a test of theirs", actor=SYSTEM)
    assert ExceptionItem.objects.get(closed_at=None).pk == missing.pk


def test_half_a_character_is_kept_as_a_question_mark(partner: Partner):
    raw = b'{"topic": "order.status", "data": {"reference": "S-\\ud800", "status": "accepted", "\\ud800": 1}}'
    assert partner.post("", {}, raw=raw) == 200
    assert ThreePLMessage.objects.get().reference == "S-?"


def test_hostile_text_is_kept_out_of_what_people_read(partner: Partner):
    hostile = "S-1\x00\u202e<script>alert(1)</script>=cmd|'/c calc'!A1"
    assert partner.post("order.status", {"reference": hostile, "status": "accepted"}) == 200
    run_tasks()
    message = ThreePLMessage.objects.get()
    assert message.state == "dead" and "\x00" not in json.dumps(message.body)
    assert "\u202e" not in message.error


def test_signatures_cover_time_number_address_and_body():
    base = ("s", 1000, "d", "POST", "/a", b"body")
    made = signing.sign(*base)
    for index, other in enumerate(("t", 1001, "e", "PUT", "/b", b"Body")):
        changed = (*base[:index], other, *base[index + 1 :])
        assert signing.sign(*changed) != made  # type: ignore[arg-type]
    headers = {"x-threepl-timestamp": "1000", "x-threepl-delivery": "d", "x-threepl-signature": made}
    assert signing.verify(["", "s"], headers, "POST", "/a", b"body", 1300) == "d"
    for at in (1301, 699):
        with pytest.raises(signing.BadSignature, match="window"):
            signing.verify(["s"], headers, "POST", "/a", b"body", at)
    with pytest.raises(signing.BadSignature, match="match"):
        signing.verify([""], headers, "POST", "/a", b"body", 1000)
