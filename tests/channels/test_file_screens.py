"""Screens and API of a channel that exchanges files: from the first sample to refused rows, and who may see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from channels.connectors.files.folder import Folder
from channels.models import ChannelAccount, ChannelFile, Listing
from oms.core import tokens
from oms.core.actor import SYSTEM
from oms.core.models import User
from oms.orders.models import Order
from tests.channels.test_files import ORDERS, connect
from tests.factories import make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def home(settings: Any, tmp_path: Path) -> Path:
    settings.HOME = tmp_path
    return tmp_path


@pytest.fixture
def owner() -> Client:
    user: User = make_user("olga")
    client = Client()
    client.force_login(user)
    return client


def sent(page: Any) -> dict[str, str]:
    """The fields of the layout page's form as a browser would send them back."""
    work, found = page.context["work"], {"sample": page.context["work"].text}
    for group in page.context["rows"].values():
        found |= {f"column-{row['name']}": row["header"] for row in group}
    found |= {f"status: {word}": meaning for word, meaning in page.context["words"]}
    found |= {way["name"]: way["chosen"] or way["options"][0][0] for way in page.context["ways"]}
    for out in page.context["outs"]:
        what = out["what"]
        found |= {f"{what}_name": out["name"], f"{what}_delimiter": out["delimiter"]}
        for place, (header, value) in out["columns"]:
            found |= {f"{what}_header_{place}": header, f"{what}_value_{place}": value}
    found |= {"fixed_currency": work.orders.get("fixed_currency", ""), "time_zone": ""}
    return found


def test_from_connecting_to_refused_rows(owner: Client, django_assert_max_num_queries: Any) -> None:
    warehouse = make_warehouse("EAST")
    for code in ("MUG", "BOWL", "TRAY"):
        make_sku(code)
    made = owner.post("/channels/connect/?connector=files", {
        "connector": "files", "name": "Acme", "code": "acme", "order_prefix": "AC", "currency": "USD",
        "warehouses": [warehouse.pk], "config_folder": "acme", "config_fetched": "yes", "config_content": "whole",
    })  # fmt: skip
    assert made.status_code == 302 and made.headers["location"] == "/channels/acme/layout/"
    with django_assert_max_num_queries(15):
        page = owner.get("/channels/acme/layout/")
    assert b"Order files not set up" in page.content

    sample = SimpleUploadedFile("theirs.csv", ORDERS.replace("paid", "versandbereit").encode())
    page = owner.post("/channels/acme/layout/", {"action": "propose", "sample_file": sample})
    assert page.status_code == 200
    rows = page.context["rows"]
    assert {row["name"] for row in rows["look"]} == {"status"} and len(rows["found"]) == 11
    assert page.context["words"][0] == ("versandbereit", "")  # what needs a person comes first
    form = {**sent(page), "status: versandbereit": "open"}
    page = owner.post("/channels/acme/layout/", {**form, "action": "show"})
    assert "2 × MUG at" in page.content.decode()
    page = owner.post("/channels/acme/layout/", {**form, "action": "stock", "stock_preset": "linnworks"})
    assert b"Stock Level" in page.content
    form = sent(page)
    wrong = owner.post("/channels/acme/layout/", {**form, "stock_value_1": "seven", "action": "save"})
    assert wrong.status_code == 422 and b"a column for {quantity} is needed" in wrong.content
    assert owner.post("/channels/acme/layout/", {**form, "action": "save"}).status_code == 302
    account = ChannelAccount.objects.get()
    assert account.state == "connected" and account.config["stock"]["name"] == "stock-levels.csv"
    assert account.config["orders"]["statuses"] == {"versandbereit": "open", "new": "open"}
    assert "Ada" not in str(account.config)

    text = ORDERS.replace("paid", "versandbereit").replace("MUG,2", "MUG,two")
    answer = owner.post(
        "/channels/acme/files/", {"action": "upload", "file": SimpleUploadedFile("o.csv", text.encode())}
    )
    assert answer.status_code == 302 and list(Order.objects.values_list("external_id", flat=True)) == ["1002"]
    with django_assert_max_num_queries(20):
        page = owner.get("/channels/acme/files/")
    file = ChannelFile.objects.get()
    assert "is not a whole number" in page.content.decode() and file.refused == 2
    rows_file = owner.get(f"/channels/acme/files/{file.pk}/errors/")
    assert rows_file.status_code == 200 and b"1001" in rows_file.content and b"two" in rows_file.content
    again = owner.post(
        "/channels/acme/files/", {"action": "upload", "file": SimpleUploadedFile("x.csv", b"\x00")}
    )
    assert again.status_code == 422 and b"not a text file" in again.content
    assert owner.post("/channels/acme/files/", {"action": "offer"}).status_code == 302
    assert Listing.objects.filter(sku__isnull=False).count() == 3
    (Folder("acme").root / "in" / "bad.csv").write_text("a,b\n1,2\n")
    assert owner.post("/channels/acme/files/", {"action": "collect"}).status_code == 302


def test_who_may_bring_and_see_files(owner: Client) -> None:
    connect(make_warehouse("EAST"))
    account = ChannelAccount.objects.get()
    file = ChannelFile.objects.create(
        account=account,
        kind="orders",
        name="a.csv",
        sha256="0",
        refused=1,
        errors_file="a.errors.csv",
        actor="x",
    )
    (Folder("acme").root / "failed" / "a.errors.csv").write_text("Order No,error\n1,wrong\n")
    picker = Client()
    picker.force_login(make_user("pia", role="picker"))
    assert picker.post("/channels/acme/files/", {"action": "collect"}).status_code == 403
    assert picker.get("/channels/acme/layout/").status_code == 403
    assert picker.get(f"/channels/acme/files/{file.pk}/errors/").status_code == 403
    assert owner.get(f"/channels/acme/files/{file.pk}/errors/").status_code == 200
    (Folder("acme").root / "failed" / "a.errors.csv").unlink()
    assert owner.get(f"/channels/acme/files/{file.pk}/errors/").status_code == 404


def test_a_token_brings_a_file_once(client: Client) -> None:
    warehouse = make_warehouse("EAST")
    make_sku("MUG")
    connect(warehouse)
    user = make_user("bot-owner")
    _, secret = tokens.issue(user, "bot", ["channels:write", "channels:read"], actor=SYSTEM)
    head = {"HTTP_AUTHORIZATION": f"Bearer {secret}"}
    body = {"name": "o.csv", "content": ORDERS.replace("TRAY,1", "TRAY,x")}
    made = client.post("/api/v1/channels/acme/files/", body, content_type="application/json", **head)  # type: ignore[arg-type]
    assert made.status_code == 201, made.content
    assert (made.json()["taken"], made.json()["refused"]) == (1, 2)
    assert made.json()["problems"][1] == [4, "Qty", "Qty: 'x' is not a whole number of units."]
    whole = {"name": "o.csv", "content": ORDERS}
    for status in (201, 409):
        answer = client.post("/api/v1/channels/acme/files/", whole, content_type="application/json", **head)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.content
    assert Order.objects.count() == 2
    bad = client.post(
        "/api/v1/channels/acme/files/", {"name": "../x.csv", "content": "a"}, content_type="application/json", **head  # type: ignore[arg-type]
    )  # fmt: skip
    assert bad.status_code in (400, 422)
