"""A file on its way in: nothing is written before a person says so; wrong rows come back with a sentence."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from inventory.models import StockLevel, StockMovement
from oms.control.import_views import TEMPLATES
from oms.control.imports import running
from oms.control.models import ImportFile
from oms.core import jobs
from oms.core.models import Job, Membership, MembershipScope, User
from oms.orders.models import Order
from tests.factories import add_stock, make_channel, make_sku, make_warehouse

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(client: Client) -> User:
    user = User.objects.create_user("owner", password="a-long-password-9")
    Membership.objects.create(user=user, role="owner")
    client.force_login(user)
    return user


def upload(client: Client, text: str, kind: str, name: str = "file.csv", **choices: str) -> ImportFile:
    answer = client.post(
        "/imports/", {"kind": kind, "file": SimpleUploadedFile(name, text.encode()), **choices}
    )
    assert answer.status_code == 302, answer.content.decode()
    file = ImportFile.objects.latest("pk")
    work(file)
    return file


def work(file: ImportFile, budget: float = 30.0) -> None:
    file.refresh_from_db()
    assert file.job is not None
    jobs.run_job(file.job.pk, budget=budget)
    file.refresh_from_db()
    file.job.refresh_from_db()


def test_stock_file_is_shown_first_and_written_once(client: Client, owner: User) -> None:
    east, mug = make_warehouse("EAST"), make_sku("MUG-BLU")
    add_stock(mug, east, 5)
    text = "sku,warehouse,quantity,mode\nMUG-BLU,EAST,30,set\nMUG-BLU,EAST,12 pcs,set\n"
    file = upload(client, text, "stock")
    assert file.state == "checked"
    assert file.counts["errors"] == 1
    assert StockLevel.objects.get(sku=mug).on_hand == 5, "a preview writes nothing"
    html = client.get(f"/imports/{file.pk}/").content.decode()
    assert "&#x27;12 pcs&#x27; is not a whole number" in html

    refused = client.post(f"/imports/{file.pk}/apply/", {"take": "whole"}, follow=True)
    assert "1 row has an error" in refused.content.decode()
    client.post(f"/imports/{file.pk}/apply/", {"take": "good"})
    work(file)
    assert file.state == "applied"
    assert StockLevel.objects.get(sku=mug).on_hand == 30
    moves = StockMovement.objects.count()

    again = upload(client, text, "stock", "same.csv")
    assert "This very file was applied before" in client.get(f"/imports/{again.pk}/").content.decode()
    client.post(f"/imports/{again.pk}/apply/", {"take": "good"})
    work(again)
    assert StockMovement.objects.count() == moves, "the same file twice is one effect"


def test_wrong_rows_come_back_as_the_users_own_columns(client: Client, owner: User) -> None:
    make_warehouse("EAST")
    file = upload(client, "sku,warehouse,quantity,mode\n=cmd(),EAST,x,set\n", "stock")
    answer = client.get(f"/imports/{file.pk}/errors.csv")
    header, row = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert header == ["sku", "warehouse", "quantity", "mode", "Row", "Level", "Error"]
    assert row[0] == "'=cmd()"
    assert row[4:6] == ["2", "error"]
    assert "is not a whole number" in row[6]


def test_orders_need_their_channel_and_arrive_once(client: Client, owner: User) -> None:
    east, mug = make_warehouse("EAST"), make_sku("MUG-BLU")
    add_stock(mug, east, 10)
    make_channel("shop", east)
    rows = ["order_number,placed_at,sku,quantity,unit_price,currency,name,address1,city,postal_code,country"]
    rows += [
        f"{n},2026-11-20T10:00:00Z,MUG-BLU,1,9.90,USD,Ann,1 Main St,Austin,78701,US" for n in range(1, 4)
    ]
    text = "\n".join(rows) + "\n"
    refused = client.post("/imports/", {"kind": "orders", "file": SimpleUploadedFile("o.csv", text.encode())})
    assert refused.status_code == 422
    assert "choose the channel these orders belong to (shop)" in refused.content.decode()
    file = upload(client, text, "orders", channel="shop")
    assert Order.objects.count() == 0
    client.post(f"/imports/{file.pk}/apply/", {"take": "good"})
    work(file)
    assert Order.objects.count() == 3
    assert StockLevel.objects.get(sku=mug).reserved == 3
    assert (file.job.state, file.job.position) == ("done", 3)


def test_a_stopped_import_goes_on_after_its_last_chunk(
    client: Client, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    east = make_warehouse("EAST")
    skus = [make_sku(f"S-{number}") for number in range(5)]
    monkeypatch.setattr("oms.control.imports.stock.CHUNK", 2)
    text = "sku,warehouse,quantity,mode\n" + "".join(f"{sku.code},EAST,{3},add\n" for sku in skus)
    file = upload(client, text, "stock")
    client.post(f"/imports/{file.pk}/apply/", {"take": "good"})
    work(file, budget=-1)
    assert file.job is not None
    assert (file.job.state, file.job.position) == ("queued", 2), "time was up after one chunk"
    work(file)
    assert (file.job.state, file.job.position, file.job.ok) == ("done", 5, 5)
    assert sorted(StockLevel.objects.filter(warehouse=east).values_list("on_hand", flat=True)) == [3] * 5


def test_unknown_columns_wait_for_a_person_and_are_remembered(client: Client, owner: User) -> None:
    east, mug = make_warehouse("EAST"), make_sku("MUG-BLU")
    content = b"Artikel;Menge;Lager\nMUG-BLU;12;EAST\n"
    answer = client.post(
        "/imports/", {"kind": "stock", "mode": "set", "file": SimpleUploadedFile("x.csv", content)}
    )
    file = ImportFile.objects.get()
    assert answer.headers["Location"] == f"/imports/{file.pk}/match/"
    assert Job.objects.count() == 0, "nothing is read before the columns are known"
    html = client.get(f"/imports/{file.pk}/match/").content.decode()
    assert "Artikel" in html and "MUG-BLU" in html, "headers and sample values are shown"
    columns = {"profile": "stock", "mode": "set", "column-sku": "Artikel", "column-warehouse": "Lager"}
    refused = client.post(f"/imports/{file.pk}/match/", columns)
    assert refused.status_code == 422
    assert "quantity: choose the column that holds it" in refused.content.decode()
    client.post(f"/imports/{file.pk}/match/", {**columns, "column-quantity": "Menge", "keep": "on"})
    work(file)
    assert (file.state, file.counts["change"]) == ("checked", 1)
    assert "0 → 12" in client.get(f"/imports/{file.pk}/").content.decode()
    again = upload(client, "Artikel;Menge;Lager\nMUG-BLU;15;EAST\n", "stock", mode="set")
    assert again.state == "checked", "the next file with these headers needs no matching"
    client.post(f"/imports/{again.pk}/apply/", {"take": "good"})
    work(again)
    assert StockLevel.objects.get(sku=mug, warehouse=east).on_hand == 15


def test_a_file_that_is_being_applied_is_not_applied_again(client: Client, owner: User) -> None:
    make_warehouse("EAST")
    make_sku("MUG-BLU")
    file = upload(client, "sku,warehouse,quantity,mode\nMUG-BLU,EAST,3,add\n", "stock")
    for _ in range(2):
        client.post(f"/imports/{file.pk}/apply/", {"take": "good"})
    assert Job.objects.filter(kind=running.APPLY).count() == 1


def test_rights(client: Client) -> None:
    viewer = User.objects.create_user("v", password="a-long-password-9")
    Membership.objects.create(user=viewer, role="viewer")
    client.force_login(viewer)
    assert client.get("/imports/").status_code == 403
    limited = User.objects.create_user("b", password="a-long-password-9")
    membership = Membership.objects.create(user=limited, role="buyer")
    MembershipScope.objects.create(membership=membership, kind="warehouse", code="EAST")
    client.force_login(limited)
    file = SimpleUploadedFile("x.csv", b"sku,quantity\nA,1\n")
    answer = client.post("/imports/", {"kind": "stock", "mode": "set", "file": file})
    assert answer.status_code == 403
    assert ImportFile.objects.count() == 0


@pytest.mark.parametrize("kind", sorted(TEMPLATES))
def test_our_own_templates_fit_their_profile(client: Client, owner: User, kind: str, tmp_path: Path) -> None:
    from oms.control.imports import service

    path = tmp_path / f"{kind}.csv"
    path.write_bytes(client.get(f"/imports/templates/{kind}.csv").content)
    assert service.choose_profile(path, kind).kind == kind
    make_channel("shop", make_warehouse("EAST"))
    profile = service.choose_profile(path, kind)
    report = service.check(path, profile, service.options_for(kind, channel_code="shop"))
    unknown_here = ("MUG-BLU", "TEE-M", "ACME")
    errors = [one.message for one in report.problems if one.level == "error"]
    assert [text for text in errors if not any(code in text for code in unknown_here)] == []
