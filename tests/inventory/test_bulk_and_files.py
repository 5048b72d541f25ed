"""X04, X07: the grid as a file that comes back as 0 changes, and one action on many SKUs with a result for each."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from inventory import bulk, operations, reservations
from inventory.merging import merge_skus
from inventory.models import Bin, Lot, Sku, StockLevel, StockMovement, Warehouse
from inventory.operations import PurchasedGoods
from inventory.reservations import ReserveLine
from oms.control.imports import service
from oms.control.imports.profiles import PROFILES
from oms.core import jobs
from oms.core.actor import SYSTEM
from oms.core.clock import business_day
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


@pytest.mark.parametrize(
    ("shape", "profile", "place"),
    [
        ("own", "stock", ""),
        ("own", "stock", "EAST"),
        ("shopify", "shopify_inventory", ""),
        ("linnworks", "linnworks_stock", ""),
        ("amazon", "amazon_price_quantity", "EAST"),
        ("amazon", "amazon_price_quantity", "WEST"),
    ],
)
def test_a_hard_stock_list_comes_back_as_0_changes_in_every_shape(
    client: Client, owner: User, tmp_path: Path, shape: str, profile: str, place: str, assert_invariants: Any
) -> None:
    """Lots (one expired), bins, kits, numbers, promised, unfit and safety units, warehouses of one name, and text that
    tempts a spreadsheet."""
    east, west = make_warehouse("EAST", name="Main, house"), make_warehouse("WEST", name="main, house")
    odd, pool = make_warehouse("-NORTH", name='=SUM("A")'), make_warehouse("FBA", kind="fba")
    confused = make_warehouse("SOUTH", name="East")
    codes = [
        "=1+1",
        "+44",
        "-7",
        "@cmd",
        "'quoted",
        "'=x",
        "00012",
        "1E5",
        "TRUE",
        "2026-01-02",
        'A,"B"',
        "A;B|C",
        "ÄÖ",
    ]
    risky = [make_sku(code) for code in codes]
    for number, sku in enumerate(risky):
        add_stock(sku, [east, west, odd, confused][number % 4], number + 1)
        add_stock(sku, east, 2)
    milk = make_sku("MILK", lot_tracked=True)
    today = business_day()
    for code, days, units in (("OLD", -3, 5), ("NEW", 90, 7)):
        lot = Lot.objects.create(sku=milk, code=code, expires_on=today + dt.timedelta(days=days))
        operations.adjust(
            sku_id=milk.pk,
            warehouse_id=east.pk,
            quantity=units,
            reason="found",
            actor=SYSTEM,
            key=code,
            lot_id=lot.pk,
        )
    shelf = Bin.objects.create(warehouse=east, code="A-1")
    operations.adjust(
        sku_id=risky[0].pk,
        warehouse_id=east.pk,
        quantity=4,
        reason="found",
        actor=SYSTEM,
        key="b",
        bin_id=shelf.pk,
    )
    camera = make_sku("CAM", serial_tracked=True)
    goods = PurchasedGoods(camera.pk, west.pk, 2, Decimal(5), "r", serials=("S1", "S2"))
    operations.receive_purchase([goods], reference="PO-1", actor=SYSTEM)
    mug, full = make_sku("MUG", valuation="fifo"), make_sku("FULL")
    add_stock(mug, east, 10, unit_cost=Decimal("1.3333"))
    add_stock(full, west, 3)
    add_stock(mug, pool, 9)
    reservations.reserve([ReserveLine("L-1", mug.pk, 3, (east.pk,))], actor=SYSTEM)
    operations.change_state(
        sku_id=mug.pk, warehouse_id=east.pk, quantity=2, source="sellable", target="damaged", reason="dropped",
        actor=SYSTEM, key="d",
    )  # fmt: skip
    operations.set_safety(full.pk, west.pk, 5, actor=SYSTEM)
    operations.set_safety(mug.pk, east.pk, 1, actor=SYSTEM)
    make_kit("PAIR", {mug: 2})
    box = make_sku("BOX", kind="prebuilt")
    add_stock(box, east, 2)
    merged = make_sku("GONE")
    merge_skus(merged.pk, mug.pk, actor=SYSTEM)

    text = download(client, shape=shape, **({"warehouse": place} if place else {}))
    path = tmp_path / "back.csv"
    path.write_bytes(text.encode("utf-8-sig"))
    found = service.choose_profile(path, "stock")
    assert found.name == profile
    options = service.options_for("stock", warehouse_code=place if shape == "amazon" else "")
    report = service.check(path, found, options)
    assert (report.counts["change"], report.counts["errors"]) == (0, 0), [
        one.message for one in report.problems
    ]
    levels = StockLevel.objects.exclude(warehouse=pool)
    if place:
        levels = levels.filter(warehouse__code=place)
    assert report.counts["same"] + report.counts["untouched"] == levels.count() > 3
    before = StockMovement.objects.count()
    service.apply(path, found, options, actor=bulk.Actor("user", "t"))
    assert StockMovement.objects.count() == before
    assert_invariants()


def test_a_shape_without_a_warehouse_is_written_for_one(client: Client, owner: User, east: Warehouse) -> None:
    make_warehouse("WEST")
    answer = client.get("/stock/export/", {"shape": "amazon"})
    assert (
        answer.status_code == 400 and "has no column for the warehouse; choose one" in answer.content.decode()
    )
    make_warehouse("FBA", kind="fba")
    Warehouse.objects.filter(code="WEST").update(is_active=False)
    assert client.get("/stock/export/", {"shape": "amazon"}).status_code == 200


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
