"""W08: photos and PDFs with adjustments and counts; approvals of many at once, withdrawn, never one's own."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError, connection, transaction
from django.test import Client

from inventory import counts, evidence, operations
from inventory.models import AdjustmentRequest, CountTask, Evidence, StockLevel, StockMovement
from oms.core import outbox, tokens
from oms.core.actor import SYSTEM, Actor
from oms.core.errors import Conflict, UserError
from oms.core.models import ExceptionItem
from tests.factories import add_stock, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db
JPEG = b"\xff\xd8\xff\xe0" + b"photo"
PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8 "
PDF = b"%PDF-1.7\n...\n%%EOF\n"


@pytest.fixture
def east():
    return make_warehouse("EAST")


@pytest.fixture
def cup(east):
    sku = make_sku("CUP", unit_cost=Decimal(100))
    add_stock(sku, east, 50)
    return sku


def person(name: str, role: str = "owner", **limits: Any) -> tuple[Client, Actor]:
    user, client = make_user(name, role=role, **limits), Client()
    client.force_login(user)
    return client, Actor("user", name, user.pk)


def written_off(cup, east, units: int = -1, actor: Actor = SYSTEM, key: str = "k") -> operations.Adjusted:
    return operations.adjust(
        sku_id=cup.pk, warehouse_id=east.pk, quantity=units, reason="damaged", actor=actor, key=key
    )


# --- evidence --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "kind"), [(JPEG, "jpeg"), (PNG, "png"), (WEBP, "webp"), (PDF, "pdf")])
def test_the_kind_is_read_from_the_bytes(data, kind):
    assert evidence.sniff(data) == kind


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"), (b"<svg onload=alert(1)>", "only photos"), (b"<html>%PDF-", "only photos"),
        (b"GIF89a", "only photos"), (b"MZ\x90", "only photos"), (b"%PDF-1.7 cut off", "only photos"),
        (JPEG + b"x" * evidence.MAX_BYTES, "at most 8 MB"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_a_sentence(data, says):
    with pytest.raises(UserError, match=says):
        evidence.sniff(data)


def test_a_name_carries_no_folder_no_mark_and_the_real_extension():
    assert evidence.clean_name("../../etc/passwd.html", "jpeg") == "passwd.jpg"
    assert evidence.clean_name('a"\r\nX: y.png', "pdf") == "aX y.pdf"
    assert evidence.clean_name("...", "png") == "evidence.png"


def test_a_file_is_kept_once_and_never_rewritten(cup, east):
    [row] = written_off(cup, east).rows
    for _ in range(2):
        evidence.attach(row, [("broken.jpg", JPEG), ("report.exe", PDF)], actor=SYSTEM)
    assert [(one.name, one.kind) for one in evidence.of(row)] == [
        ("broken.jpg", "jpeg"),
        ("report.pdf", "pdf"),
    ]
    with pytest.raises(Conflict, match="at most 10 files"):
        evidence.attach(row, [(f"{n}.jpg", JPEG + bytes([n])) for n in range(9)], actor=SYSTEM)
    with pytest.raises(UserError, match="only photos"):  # all or none
        evidence.attach(row, [("ok.png", PNG), ("bad.gif", b"GIF89a")], actor=SYSTEM)
    assert Evidence.objects.count() == 2
    for sql in ("UPDATE inventory_evidence SET name = 'x'", "DELETE FROM inventory_evidence"):
        with (
            pytest.raises(DatabaseError, match="append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(sql)


def test_a_download_is_never_part_of_this_site(cup, east):
    [row] = written_off(cup, east).rows
    [kept] = evidence.attach(row, [('x"; evil.html', JPEG)], actor=SYSTEM)
    client, _ = person("omar")
    answer = client.get(f"/stock/evidence/files/{kept.pk}/")
    assert answer.content == JPEG and answer["Content-Type"] == "image/jpeg"
    assert answer["X-Content-Type-Options"] == "nosniff" and "sandbox" in answer["Content-Security-Policy"]
    assert answer["Content-Disposition"] == f'attachment; filename="jpeg-{kept.pk}.jpg"'
    assert "no-store" in answer["Cache-Control"]


def test_a_photo_comes_with_the_adjustment_and_who_approves_sees_it(cup, east):
    lena, _ = person("lena")
    key = lena.get("/stock/adjust/").context["form_key"]
    form = {
        "form_key": key, "sku": "CUP", "warehouse": "EAST", "mode": "change", "quantity": "-20", "reason": "damaged",
        "evidence": SimpleUploadedFile("pallet.png", PNG),
    }  # fmt: skip
    wrong = {**form, "evidence": SimpleUploadedFile("pallet.png", b"<script>")}
    refused = lena.post("/stock/adjust/", wrong)
    assert refused.status_code == 422 and "only photos" in refused.content.decode()
    assert not AdjustmentRequest.objects.exists()  # nothing half done
    assert lena.post("/stock/adjust/", form).status_code == 302
    request = AdjustmentRequest.objects.get()
    omar, second = person("omar")
    assert "1 file" in omar.get("/stock/approvals/").content.decode()
    assert "pallet.png" in omar.get(f"/stock/evidence/request/{request.pk}/").content.decode()
    [row] = operations.approve_adjustment(request.pk, actor=second).rows
    assert [one.name for one in evidence.of(row)] == ["pallet.png"]
    assert "1 file" in omar.get("/stock/CUP/").content.decode()


def test_a_photo_comes_with_a_count(cup, east):
    task = counts.ask(cup.pk, east.pk, cause="manual", actor=SYSTEM)
    lena, _ = person("lena")
    url = f"/stock/counts/{task.pk}/"
    lena.post(url, {"step": "submit", "counted": "49", "evidence": SimpleUploadedFile("s.jpg", JPEG)})
    assert CountTask.objects.get().state == "counted"
    counts.accept(task.pk, actor=SYSTEM)
    row = StockMovement.objects.get(kind="count", bucket="on_hand")
    assert [one.name for one in evidence.of(row)] == ["s.jpg"]
    assert evidence.counted([row]) == {row.pk: 1}


def test_a_photo_of_a_count_that_waited_is_counted_with_its_movement(cup, east):
    _, lena = person("lena")
    _, omar = person("omar")
    task = counts.ask(cup.pk, east.pk, cause="manual", actor=lena)
    counts.submit(task.pk, 30, actor=lena)
    evidence.attach(task, [("s.jpg", JPEG)], actor=lena)
    request = counts.accept(task.pk, actor=lena).request
    assert request is not None, "above the limit of the person"
    [row] = operations.approve_adjustment(request.pk, actor=omar).rows
    assert [one.name for one in evidence.of(row)] == ["s.jpg"]
    assert evidence.counted([row]) == {row.pk: 1}, "the list says what the page shows"


def test_a_file_that_is_no_photo_leaves_the_count_open(cup, east):
    task = counts.ask(cup.pk, east.pk, cause="manual", actor=SYSTEM)
    lena, _ = person("lena")
    lena.post(f"/stock/counts/{task.pk}/", {
        "step": "submit", "counted": "49", "evidence": SimpleUploadedFile("s.jpg", b"no photo"),
    })  # fmt: skip
    assert CountTask.objects.get().state == "open" and not Evidence.objects.exists()


def test_evidence_is_seen_and_added_only_where_one_may(cup, east):
    [row] = written_off(cup, east).rows
    [kept] = evidence.attach(row, [("a.jpg", JPEG)], actor=SYSTEM)
    make_warehouse("WEST")
    stranger, _ = person("wanda", warehouses=["WEST"])
    assert stranger.get(f"/stock/evidence/files/{kept.pk}/").status_code == 404
    assert stranger.get(f"/stock/evidence/movement/{row.pk}/").status_code == 404
    viewer, _ = person("vera", role="viewer")
    assert viewer.get(f"/stock/evidence/movement/{row.pk}/").status_code == 200
    answer = viewer.post(f"/stock/evidence/movement/{row.pk}/", {"file": SimpleUploadedFile("b.png", PNG)})
    assert answer.status_code == 403 and Evidence.objects.count() == 1


def test_evidence_over_the_api(cup, east):
    [row] = written_off(cup, east).rows
    user = make_user("ivan")
    _, secret = tokens.issue(user, "scanner", ["stock:read", "stock:write"], actor=SYSTEM)
    door = Client(headers={"Authorization": f"Bearer {secret}"})
    body = {"movement": row.pk, "name": "p.webp", "content": base64.b64encode(WEBP).decode()}
    made = door.post("/api/v1/evidence/", body, content_type="application/json")
    assert made.status_code == 201, made.content
    assert (made.json()["kind"], made.json()["size"]) == ("webp", len(WEBP))
    for wrong, says in (
        ({**body, "content": "???"}, "no Base64"), ({**body, "count": 1}, "name one of"),
        ({**body, "movement": 999999}, "there is none"),
        ({**body, "content": base64.b64encode(b"<svg>").decode()}, "only photos"),
    ):  # fmt: skip
        answer = door.post("/api/v1/evidence/", wrong, content_type="application/json")
        assert answer.status_code in (400, 404, 422) and says in answer.content.decode()
    listed = door.get(f"/api/v1/evidence/?movement={row.pk}").json()
    assert [one["name"] for one in listed["results"]] == ["p.webp"] and "content" not in listed["results"][0]


# --- approvals -------------------------------------------------------------------------------------


def asked(cup, east, actor: Actor, units: int = -10, key: str = "k") -> AdjustmentRequest:
    request = written_off(cup, east, units, actor, key).request
    assert request is not None
    return request


def on_hand(cup) -> int:
    return StockLevel.objects.get(sku=cup).on_hand


def test_ticked_requests_are_decided_together_and_ones_own_never(cup, east, assert_invariants):
    _, lena_actor = person("lena")
    omar, omar_actor = person("omar")
    first, second = asked(cup, east, lena_actor, key="a"), asked(cup, east, lena_actor, key="b")
    own = asked(cup, east, omar_actor, key="c")
    page = omar.get("/stock/approvals/").content.decode()
    assert f'name="chosen" value="{first.pk}"' in page and f'name="chosen" value="{own.pk}"' not in page
    form = {"chosen": [first.pk, second.pk, own.pk], "decision": "approve"}
    told = omar.post("/stock/approvals/", form, follow=True).content.decode()
    assert "2 approved" in told and "another person than its author" in told
    assert on_hand(cup) == 30
    own.refresh_from_db()
    assert own.state == "pending"
    told = omar.post("/stock/approvals/", form, follow=True).content.decode()
    assert "it was decided already" in told and on_hand(cup) == 30
    assert_invariants()


def test_the_author_takes_it_back_and_nobody_else_does(cup, east, assert_invariants):
    lena, lena_actor = person("lena")
    omar, omar_actor = person("omar")
    request = asked(cup, east, lena_actor)
    with pytest.raises(Conflict, match="only its author"):
        operations.withdraw_adjustment(request.pk, actor=omar_actor)
    lena.post("/stock/approvals/", {"request": request.pk, "decision": "withdraw"})
    request.refresh_from_db()
    assert (request.state, request.decided_by, on_hand(cup)) == ("withdrawn", None, 50)
    assert not ExceptionItem.objects.filter(kind="adjustment_approval", closed_at=None).exists()
    with pytest.raises(Conflict, match="withdrawn by its author already"):
        operations.approve_adjustment(request.pk, actor=omar_actor)
    assert on_hand(cup) == 50
    assert_invariants()


def test_a_count_that_was_refused_or_taken_back_is_given_up(cup, east):
    _, lena = person("lena")
    _, omar = person("omar")
    for number, decide in enumerate(
        (
            lambda pk: operations.refuse_adjustment(pk, actor=omar),
            lambda pk: operations.withdraw_adjustment(pk, actor=lena),
        )
    ):
        task = counts.ask(cup.pk, east.pk, cause="manual", actor=lena)
        counts.submit(task.pk, 30 - number, actor=lena)
        request = counts.accept(task.pk, actor=lena).request
        assert request is not None
        decide(request.pk)
        outbox.drain()
        task.refresh_from_db()
        assert task.state == "cancelled" and on_hand(cup) == 50


def test_decided_in_one_call_of_the_api(cup, east, assert_invariants):
    _, lena = person("lena")
    first, second = asked(cup, east, lena, key="a"), asked(cup, east, lena, key="b")
    user = make_user("ivan")
    _, secret = tokens.issue(user, "desk", ["stock:read", "stock:write"], actor=SYSTEM)
    door = Client(headers={"Authorization": f"Bearer {secret}"})
    own = asked(cup, east, Actor("user", "ivan", user.pk), key="c")
    body = {
        "items": [
            {"id": first.pk, "decision": "approve"}, {"id": second.pk, "decision": "refuse"},
            {"id": own.pk, "decision": "approve"}, {"id": 999999, "decision": "approve"},
        ]
    }  # fmt: skip
    answer = door.post("/api/v1/adjustments/decide/", body, content_type="application/json").json()
    assert (answer["done"], answer["failed"]) == (2, 2)
    assert [one["status"] for one in answer["results"]] == [200, 200, 403, 404]
    assert on_hand(cup) == 40
    assert door.post(f"/api/v1/adjustments/{own.pk}/withdraw/").json()["state"] == "withdrawn"
    assert door.post(f"/api/v1/adjustments/{first.pk}/withdraw/").status_code == 409
    listed = door.get("/api/v1/adjustments/?state=approved").json()["results"]
    assert [(one["id"], one["decided_by"]) for one in listed] == [(first.pk, "ivan")]
    assert_invariants()
