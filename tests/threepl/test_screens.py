"""Screens of 3PLs, pools and the difference desk: what they show, to whom, and what they do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from fulfillment.models import HandOff, ThreePLAccount, ThreePLMessage
from fulfillment.threepl import selectors
from fulfillment.threepl.selectors import points
from inventory import operations
from inventory.models import PoolPolicy, StockDifference
from inventory.operations import PoolFigure
from oms.core.actor import SYSTEM
from oms.core.clock import now
from tests.factories import make_sku, make_user, make_warehouse
from tests.threepl.conftest import Partner, run_tasks


def logged_in(role: str = "owner", **limits: Any) -> Client:
    client = Client()
    client.force_login(make_user(f"{role}-person", role, **limits))
    return client


def gap(partner: Partner, units: int, key: str = "s1") -> StockDifference:
    operations.apply_pool_snapshot(
        warehouse_id=partner.warehouse.pk, figures=[PoolFigure(partner.sku.pk, units)], taken_at=now(), actor=SYSTEM,
        key=key,
    )  # fmt: skip
    return StockDifference.objects.get(closed_at=None)


def test_first_use_of_every_screen(db: None):
    client = logged_in()
    for path, says in (
        ("/threepl/", "No 3PL is connected"), ("/stock/pools/", "No pool of others"),
        ("/stock/differences/", "Every figure agrees"), ("/threepl/connect/", "Connect and test"),
    ):  # fmt: skip
        assert says in client.get(path).content.decode(), path


def test_connecting_a_3pl_tests_it_and_keeps_its_secrets(partner: Partner, settings: Any):
    client = logged_in()
    other = partner.client.create_shop("threepl", "second")
    settings.HOST_MAP = partner.client.host_map()
    place = make_warehouse("PLACE2", kind="3pl")
    form = {
        "name": "Second", "code": "second", "warehouse": place.pk, "kind": "api", "base_url": "http://second.example",
        "ack_minutes": 30, "snapshot_minutes": 60, **other["credentials"],
    }  # fmt: skip
    refused = client.post("/threepl/connect/", form)
    assert refused.status_code == 422 and b"must begin with https" in refused.content
    made = client.post("/threepl/connect/", {**form, "base_url": other["base_url"]}, follow=True)
    assert "Connected: second" in made.content.decode()
    assert other["credentials"]["secret"] not in made.content.decode()
    account = ThreePLAccount.objects.get(code="second")
    assert (account.state, account.credentials["secret"]) == ("connected", other["credentials"]["secret"])
    wrong = client.post(
        "/threepl/second/settings/", {**form, "part": "connection", "base_url": other["base_url"], "secret": "no"},
        follow=True,
    )  # fmt: skip
    assert "does not answer as it should" in wrong.content.decode()
    client.post(
        "/threepl/second/settings/",
        {
            "part": "policy",
            "accept_units": 2,
            "accept_percent": "1.5",
            "grace_minutes": 60,
            "max_age_hours": 12,
        },
    )
    policy = PoolPolicy.objects.get(warehouse=place)
    assert (policy.accept_units, policy.accept_percent) == (2, Decimal("1.50"))


def test_the_queue_one_hand_off_and_its_actions(
    partner: Partner, django_assert_max_num_queries: Any, assert_invariants: Callable[[], None]
):
    given = partner.handed(2)
    for _ in range(3):
        partner.handed(1)
    client = logged_in()
    client.get("/threepl/")
    with django_assert_max_num_queries(30):
        text = client.get("/threepl/midway/").content.decode()
    assert text.count("data-href") == 4 and given.external_id in text
    text = client.get(f"/threepl/orders/{given.pk}/").content.decode()
    assert "Take back" in text and "1 Main St" not in text
    client.post(f"/threepl/orders/{given.pk}/act/", {"action": "back", "reason": "wrong house"})
    run_tasks()
    given.refresh_from_db()
    assert given.state == "cancelled"
    assert (
        client.post(f"/threepl/orders/{given.pk}/act/", {"action": "back", "reason": "x"}).status_code == 302
    )
    assert client.get("/threepl/midway/?tab=cancelled").content.decode().count("data-href") == 1
    assert_invariants()


def test_a_file_is_taken_through_the_screen_and_a_wrong_one_says_why(partner: Partner):
    client = logged_in()
    at = now().isoformat()
    wrong = SimpleUploadedFile("a.csv", f"sku,on_hand,taken_at\nMUG,x,{at}\n".encode())
    text = client.post(
        "/threepl/midway/act/", {"action": "upload", "file": wrong}, follow=True
    ).content.decode()
    assert (
        "a.csv was not taken, nothing was changed. Row 2, on_hand: on_hand: &#x27;x&#x27; is not a whole"
        in text
    )
    right = SimpleUploadedFile("b.csv", f"sku,on_hand,taken_at\nMUG,4,{at}\n".encode())
    client.post("/threepl/midway/act/", {"action": "upload", "file": right})
    run_tasks()
    assert StockDifference.objects.get().theirs == 4
    report = client.get(f"/threepl/midway/files/{partner.account.files.get(accepted=False).pk}/")
    assert b"2,on_hand," in b"".join(report)  # type: ignore[call-overload]


def test_messages_are_decided_on_the_screen(partner: Partner):
    dead = partner.tell("order.status", reference="S-404", status="accepted")
    client = logged_in()
    assert "never given an order" in client.get("/threepl/midway/").content.decode()
    client.post(f"/threepl/messages/{dead.pk}/", {"action": "ignore", "why": "test of theirs"})
    assert ThreePLMessage.objects.get().state == "ignored"


def test_the_desk_and_its_three_answers(partner: Partner, assert_invariants: Callable[[], None]):
    row = gap(partner, 7)
    client = logged_in()
    assert "12.00" in client.get("/stock/differences/").content.decode()
    text = client.get(f"/stock/differences/{row.pk}/").content.decode()
    assert "Accept theirs" in text and "−3" in text
    client.post(
        f"/stock/differences/{row.pk}/",
        {"action": "investigate", "owner": "owner-person", "note": "ask Jo", "version": row.version},
    )
    row.refresh_from_db()
    assert (str(row.owner), row.note) == ("owner-person", "ask Jo")
    client.post(
        f"/stock/differences/{row.pk}/",
        {"action": "dispute", "note": "ours is right", "version": row.version},
    )
    row.refresh_from_db()
    assert row.state == "disputed"
    sheet = b"".join(client.get(f"/stock/differences/{row.pk}/evidence.csv")).decode()  # type: ignore[call-overload]
    assert "12.0000" in sheet and "opening" in sheet
    old = row.version - 1
    client.post(f"/stock/differences/{row.pk}/", {"action": "accept", "reason": "count", "version": old})
    assert partner.level().on_hand == 10
    client.post(
        f"/stock/differences/{row.pk}/", {"action": "accept", "reason": "count", "version": row.version}
    )
    assert partner.level().on_hand == 7
    assert_invariants()


def test_rights_places_and_costs(partner: Partner):
    row, given = gap(partner, 7), partner.handed(1)
    viewer = logged_in("threepl", warehouses=("OHIO",))
    assert "12.00" not in viewer.get(f"/stock/differences/{row.pk}/").content.decode()
    assert b"value" not in b"".join(viewer.get(f"/stock/differences/{row.pk}/evidence.csv"))  # type: ignore[call-overload]
    assert (
        viewer.post(f"/stock/differences/{row.pk}/", {"action": "accept", "reason": "x"}).status_code == 403
    )
    far = logged_in("ops", warehouses=("ELSEWHERE",))
    for path in (f"/stock/differences/{row.pk}/", f"/threepl/orders/{given.pk}/", "/threepl/midway/"):
        assert far.get(path).status_code == 404, path
    assert partner.level().on_hand == 10


def test_pools_show_the_age_of_their_figures_and_what_is_at_stake(
    partner: Partner, django_assert_max_num_queries: Any
):
    gap(partner, 7)
    sku, fba = make_sku("CUP"), make_warehouse("FBA-US", kind="fba")
    operations.apply_pool_snapshot(
        warehouse_id=fba.pk, figures=[PoolFigure(sku.pk, 5, 1)], taken_at=now(), actor=SYSTEM, key="f"
    )
    client = logged_in()
    client.get("/stock/pools/")
    with django_assert_max_num_queries(14):
        text = client.get("/stock/pools/").content.decode()
    assert "FBA-US".title() in text and "12.00" in text


def test_the_score_falls_with_each_failing(partner: Partner):
    assert selectors.score(partner.account).points == 100
    given = partner.handed(2)
    HandOff.objects.filter(pk=given.pk).update(sent_at=now() - dt.timedelta(minutes=90))
    partner.tell("order.status", reference=given.reference, status="accepted")
    partner.left(given, {1: 2}, "A")
    partner.left(given, {1: 1}, "B")  # one too much
    partner.tell(
        "inventory.adjusted",
        adjustment_id="A1",
        sku="MUG",
        quantity=-2,
        reason="lost",
        adjusted_at=now().isoformat(),
    )
    gap(partner, 3)
    partner.account.refresh_from_db()
    found = selectors.score(partner.account)
    assert found.ack_minutes is not None and 89 < found.ack_minutes < 92
    assert (found.ack_late, found.excess, found.differences) == (Decimal(1), 1, 1)
    assert (found.open_value, found.lost_value) == (Decimal(8), Decimal(8))
    assert found.variance == Decimal(2) / 11  # 5 mugs and 6 bowls by our books
    assert found.points == 20  # 30 for the late word, 30 for the variance, 20 for the unit too much


def test_points_are_exact():
    assert points(None, None, 60, None, 0, 0) == 100
    assert points(Decimal("0.5"), None, 60, None, 0, 10) == 85
    assert points(None, 3600, 60, None, 0, 10) == 100
    assert points(None, 7200, 60, None, 0, 10) == 90
    assert points(None, 999_999, 60, None, 0, 10) == 80
    assert points(None, None, 60, Decimal("0.01"), 0, 10) == 85
    assert points(None, None, 60, None, 1, 100) == 98
    assert points(Decimal(1), 999_999, 60, Decimal(1), 9, 9) == 0
