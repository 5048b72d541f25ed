"""X04, X07: the grid as a file that comes back as 0 changes, and one action on many SKUs with a result for each."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from inventory import bulk
from inventory.models import Bin, Sku, StockLevel, StockMovement, Warehouse
from oms.control.imports import service
from oms.control.imports.profiles import PROFILES
from oms.core import jobs
from oms.core.models import Job, User
from tests.factories import add_stock, make_kit, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db


@pytest.fixture
def east() -> Warehouse:
    return make_warehouse("EAST", name="East side")


@pytest.fixture
def owner(client: Client) -> User:
    user = make_user(role="owner")
    client.force_login(user)
    return user


def download(client: Client, **query: str) -> str:
    answer = client.get("/stock/export/", query)
    assert answer.status_code == 200
    return b"".join(answer).decode("utf-8-sig")


def post(client: Client, **data: Any) -> str:
    answer = client.post(
        "/stock/bulk/", {"form_key": str(uuid.uuid4()), "place": "EAST", **data}, follow=True
    )
    return answer.content.decode()


@pytest.mark.parametrize(
    ("shape", "profile", "choices"),
    [
        ("own", "stock", {}),
        ("shopify", "shopify_inventory", {}),
        ("linnworks", "linnworks_stock", {}),
    ],
)
def test_an_untouched_export_comes_back_as_0_changes(
    client: Client,
    owner: User,
    east: Warehouse,
    tmp_path: Path,
    shape: str,
    profile: str,
    choices: dict[str, str],
) -> None:
    west, pool = make_warehouse("WEST"), make_warehouse("FBA", kind="fba")
    risky, mug = make_sku("=1+1"), make_sku('MUG,"BLU"')
    add_stock(risky, east, 4)
    add_stock(mug, west, 7)
    add_stock(mug, pool, 3)
    make_kit("PAIR", {mug: 2})
    text = download(client, shape=shape)
    assert "'=1+1" in text and "PAIR" not in text
    path = tmp_path / "back.csv"
    path.write_bytes(text.encode("utf-8-sig"))
    found = service.choose_profile(path, "stock")
    assert found.name == profile
    report = service.check(path, found, service.options_for("stock", **choices))
    assert (report.counts["change"], report.counts["errors"]) == (0, 0)
    assert report.counts["same"] + report.counts["untouched"] == 2
    before = StockMovement.objects.count()
    service.apply(path, found, service.options_for("stock", **choices), actor=bulk.Actor("user", "t"))
    assert StockMovement.objects.count() == before


def test_export_follows_the_filters_and_the_rights(client: Client, owner: User, east: Warehouse) -> None:
    west, mug, tee = make_warehouse("WEST"), make_sku("MUG"), make_sku("TEE")
    add_stock(mug, east, 4)
    add_stock(tee, west, 5)
    assert download(client, shape="own", q="mug").splitlines()[1:] == ["MUG,EAST,,4,set,,,0.0000"]
    assert download(client, shape="amazon", warehouse="WEST") == "sku\tprice\tquantity\r\nTEE\t\t5\r\n"
    client.force_login(make_user(role="viewer", warehouses=("WEST",)))
    lines = download(client, shape="own").splitlines()
    assert lines[1:] == ["TEE,WEST,,5,set,,,"], "other warehouses and costs are not in the file"


def test_safety_and_bin_of_many(client: Client, owner: User, east: Warehouse) -> None:
    mug, tee = make_sku("MUG"), make_sku("TEE")
    kit = make_kit("PAIR", {mug: 2})
    shelf = Bin.objects.create(warehouse=east, code="A-1")
    ids = [str(sku.pk) for sku in (mug, tee, kit)]
    assert "2 changed" in post(client, ids=ids, action="safety", value="3")
    assert "2 changed" in post(client, ids=ids[:2], action="bin", value="a-1")
    assert list(StockLevel.objects.order_by("sku__code").values_list("safety", "bin")) == [(3, shelf.pk)] * 2
    assert "has no bin" in post(client, ids=ids, action="bin", value="Z-9")


def test_adjusting_many_needs_a_reason_and_tells_each_refusal(
    client: Client, owner: User, east: Warehouse, assert_invariants: Any
) -> None:
    mug, tee = make_sku("MUG"), make_sku("TEE")
    add_stock(mug, east, 10)
    ids = [str(mug.pk), str(tee.pk)]
    assert "choose a reason" in post(client, ids=ids, action="add", value="-4")
    assert "is not a whole number" in post(client, ids=ids, action="add", value="4 pcs", reason="lost")
    answer = post(client, ids=ids, action="add", value="-4", reason="lost")
    assert "1 changed, 1 skipped: TEE" in answer
    assert StockLevel.objects.get(sku=mug).on_hand == 6
    assert "2 changed" in post(client, ids=ids, action="set", value="8", reason="count")
    assert sorted(StockLevel.objects.values_list("on_hand", flat=True)) == [8, 8]
    assert_invariants()


def test_all_that_match_become_a_job_with_a_result_for_each(
    client: Client, owner: User, east: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "AT_ONCE", 3)
    skus = [make_sku(f"S-{n}") for n in range(5)]
    make_sku("OTHER")
    key = str(uuid.uuid4())
    data = {"all": "1", "query": "q=S-", "action": "add", "value": "2", "reason": "found", "form_key": key}
    assert "5 SKUs: working in the background" in post(client, **data)
    job = Job.objects.get(kind="stock.bulk")
    jobs.run_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.ok, job.failed) == ("done", 5, 0)
    assert list(job.rows.values_list("subject", "message")) == [(sku.code, "+2") for sku in skus]
    post(client, **data)  # a double click
    for again in Job.objects.filter(kind="stock.bulk", state="queued"):
        jobs.run_job(again.pk)
    assert set(StockLevel.objects.values_list("on_hand", flat=True)) == {2}


def test_bulk_is_for_those_who_may(client: Client, east: Warehouse) -> None:
    mug = make_sku("MUG")
    client.force_login(make_user(role="viewer"))
    assert client.post("/stock/bulk/", {"ids": [mug.pk]}).status_code == 403
    client.force_login(make_user(role="owner", warehouses=("WEST",)))
    post(client, ids=[str(mug.pk)], action="safety", value="3")
    assert not StockLevel.objects.exists()
    assert Sku.objects.count() == 1 and set(PROFILES)
