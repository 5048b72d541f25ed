"""X03: stock files as other systems write them; a wrong cell is a sentence with row and column, never 0."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client

from inventory import merging, operations, reservations, stockfile, valuation
from inventory.models import (
    AdjustmentReason,
    Bin,
    BinStock,
    CostEntry,
    Sku,
    SkuAlias,
    StockLevel,
    StockMovement,
    Warehouse,
)
from inventory.reservations import ReserveLine
from inventory.selectors import Code
from inventory.stockfile import Standing, StockLine
from oms.control.imports import running, service, stock
from oms.control.imports.profiles import PROFILES, detect
from oms.control.imports.report import Report
from oms.control.imports.stock import StockFile
from oms.control.models import ImportFile
from oms.core import jobs
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.models import Job, User
from tests.control.test_import_screens import upload, work
from tests.factories import add_stock, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db

SHOPIFY = (
    "Handle,Title,Option1 Name,Option1 Value,Option2 Name,Option2 Value,Option3 Name,Option3 Value,SKU,HS Code,COO,"
    "Location,Bin name,Incoming (not editable),Unavailable (not editable),Committed (not editable),"
    "Available (not editable),On hand (current),On hand (new)\n"
)


def shopify(sku: str, current: str, new: str, place: str = "East side") -> str:
    return f"mug,Mug,Title,Default,,,,,{sku},,,{place},,0,0,0,{current},{current},{new}\n"


def put(tmp_path: Path, text: str | bytes, name: str = "file.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def seen(path: Path, **choices: Any) -> tuple[Report, list[tuple[str, int, int]]]:
    """Report and preview of a file, its shape found by its headers."""
    profile = service.choose_profile(path, "stock")
    report = Report(profile.name)
    options = service.options_for("stock", **choices)
    rows = list(StockFile(path, profile, options).preview(report))
    return report, [(one.line.sku.code, one.before, one.after) for one in rows]


def applied(path: Path, **choices: Any) -> Report:
    profile = service.choose_profile(path, "stock")
    return service.apply(path, profile, service.options_for("stock", **choices), actor=SYSTEM)


def on_hand(sku: Sku, place: Warehouse) -> int:
    level = StockLevel.objects.filter(sku=sku, warehouse=place).first()
    return level.on_hand if level else 0


@pytest.fixture
def east() -> Warehouse:
    return make_warehouse("EAST", name="East side")


@pytest.fixture
def owner(client: Client) -> User:
    user = make_user(role="owner")
    client.force_login(user)
    return user


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ("Quantity; SKU ;Warehouse", "stock"),
        (SHOPIFY.strip(), "shopify_inventory"),
        ("sku\tprice\tquantity", "amazon_price_quantity"),
        (
            "sku\tfnsku\tasin\tafn-warehouse-quantity\tafn-fulfillable-quantity\tafn-unsellable-quantity\t"
            "afn-reserved-quantity",
            "amazon_fba_inventory",
        ),
        ("SKU*,Stock Level*,Location*,Minimum Level,Unit Cost,Stock Value,Bin Rack", "linnworks_stock"),
        ("sku code,LOCATION CODE,Quantity On Hand", "hub_stock"),
        ("articleNumber;warehouse;binLocation;physicalStock;purchasePrice", "pickware_relative"),
    ],
)
def test_shapes_are_found_by_their_headers(headers: str, name: str) -> None:
    separator = max(",;\t", key=headers.count)
    found = detect(headers.split(separator), "stock")
    assert found is not None and found.name == name


def test_shopify_changes_only_what_was_edited_and_refuses_what_moved(east: Warehouse, tmp_path: Path) -> None:
    mug, tee, cap = make_sku("MUG"), make_sku("TEE"), make_sku("CAP")
    for sku in (mug, tee, cap):
        add_stock(sku, east, 10)
    text = SHOPIFY + shopify("MUG", "10", "14") + shopify("TEE", "9", "12") + shopify("CAP", "8", "8")
    text += shopify("CAP", "not stocked", "not stocked") + shopify("MUG", "10", "")
    report = applied(put(tmp_path, text))
    assert (on_hand(mug, east), on_hand(tee, east), on_hand(cap, east)) == (14, 10, 10)
    assert dict(report.counts) == {
        "change": 1, "units_in": 4, "errors": 1, "untouched": 2, "not_stocked": 1,
    }  # fmt: skip
    problem = report.problems[0]
    assert (problem.row, problem.column) == (3, "On hand (current)")
    assert problem.message == ("On hand of TEE was 9 when the file was made and is 10 now: export it again.")


def test_amazon_leaves_empty_and_fba_rows_alone(east: Warehouse, tmp_path: Path) -> None:
    mug, tee = make_sku("MUG"), make_sku("TEE")
    add_stock(mug, east, 5)
    add_stock(tee, east, 5)
    text = "sku\tprice\tquantity\tfulfillment-channel\n"
    text += "MUG\t9.99\t8\tDEFAULT\nTEE\t9.99\t\tDEFAULT\nTEE\t9\t4\tAMAZON_NA\n"
    report = applied(put(tmp_path, text), warehouse_code="EAST")
    assert (on_hand(mug, east), on_hand(tee, east)) == (8, 5)
    assert dict(report.counts) == {"change": 1, "units_in": 3, "untouched": 1, "fba_rows": 1}


def test_an_fba_report_is_a_snapshot_of_the_pool_and_its_sum_is_checked(
    east: Warehouse, tmp_path: Path, assert_invariants: Any
) -> None:
    pool, mug, tee = make_warehouse("FBA", kind="fba"), make_sku("MUG"), make_sku("TEE")
    head = "sku\tfnsku\tasin\tafn-warehouse-quantity\tafn-fulfillable-quantity\tafn-unsellable-quantity\t"
    head += "afn-reserved-quantity\n"
    path = put(tmp_path, head + "MUG\tX1\tB1\t12\t9\t2\t1\nTEE\tX2\tB2\t12\t9\t2\t0\n")
    report, rows = seen(path, warehouse_code="FBA")
    assert rows == [("MUG", 0, 11)]
    assert report.problems[0].message == (
        "afn-warehouse-quantity 12 is not fulfillable 9 + unsellable 2 + reserved 0: "
        "the file was changed or cut; fetch it again."
    )
    applied(path, warehouse_code="FBA")
    level = StockLevel.objects.get(sku=mug, warehouse=pool)
    assert (level.on_hand, level.damaged, on_hand(tee, pool)) == (11, 2, 0)
    refused = applied(path, warehouse_code="EAST")
    assert any("EAST is no FBA pool" in one.message for one in refused.problems)
    own = applied(put(tmp_path, "sku,warehouse,quantity,mode\nMUG,FBA,5,set\n", "own.csv"))
    assert "counted by its operator" in own.problems[0].message
    assert_invariants()


def test_an_fba_report_tells_what_is_on_its_way_and_adds_offers_of_one_sku_up(
    tmp_path: Path, assert_invariants: Any
) -> None:
    pool, mug, tee = make_warehouse("FBA", kind="fba"), make_sku("MUG"), make_sku("TEE")
    SkuAlias.objects.create(sku=mug, kind=SkuAlias.Kind.CODE, value="MUG-GIFT")
    head = FBA_HEAD.rstrip("\n") + "\tafn-inbound-working-quantity\tafn-inbound-shipped-quantity\t"
    head += "afn-inbound-receiving-quantity\n"
    rows = "MUG\tX1\tB1\t12\t9\t2\t1\t4\t5\t6\nMUG-GIFT\tX2\tB2\t3\t3\t0\t0\t0\t1\t0\n"
    path = put(tmp_path, head + rows + "TEE\tX3\tB3\t1\t1\t0\t0\t-1\t0\t0\n")
    report, seen_rows = seen(path, warehouse_code="FBA")
    assert seen_rows == [("MUG", 0, 11), ("MUG", 11, 14)]
    assert report.counts["notes"] == 0
    assert "cannot be negative" in report.problems[0].message
    applied(path, warehouse_code="FBA")
    level = StockLevel.objects.get(sku=mug, warehouse=pool)
    assert (level.on_hand, level.damaged, level.in_transit) == (14, 2, 16)
    assert not StockLevel.objects.filter(sku=tee).exclude(in_transit=0).exists()
    # a file without these columns says nothing of them
    applied(put(tmp_path, FBA_HEAD + "MUG\tX1\tB1\t10\t9\t1\t0\n", "short.csv"), warehouse_code="FBA")
    level.refresh_from_db()
    assert (level.on_hand, level.damaged, level.in_transit) == (10, 1, 16)
    assert_invariants()


def test_linnworks_negative_is_nothing_and_no_sku_is_made(east: Warehouse, tmp_path: Path) -> None:
    mug = make_sku("MUG-BLU")
    add_stock(mug, east, 5)
    text = "SKU*,Stock Level*,Location*,Unit Cost\nMUG-BLU,-3,East side,2.50\nMUG-BL,4,EAST,1\n"
    report = applied(put(tmp_path, text))
    assert on_hand(mug, east) == 0
    assert report.problems[0].message == "SKU* 'MUG-BL' is unknown, MUG-BLU?"
    assert Sku.objects.count() == 1


def test_pickware_changes_have_to_be_said_aloud(east: Warehouse, tmp_path: Path) -> None:
    mug = make_sku("MUG")
    add_stock(mug, east, 5)
    path = put(tmp_path, "articleNumber;warehouse;binLocation;physicalStock;purchasePrice\nMUG;EAST;;-2;\n")
    with pytest.raises(UserError, match="say so by choosing add"):
        applied(path)
    with pytest.raises(UserError, match=r"holds changes \(add\) only"):
        applied(path, mode="set")
    applied(path, mode="add")
    assert on_hand(mug, east) == 3


@pytest.mark.parametrize(
    "cell", ["12 pcs", "", "1.5", "1,000", "NaN", "Infinity", "1_000", "٣", "--1", "9999999999"]
)
def test_a_cell_that_is_no_number_is_told_and_never_0(east: Warehouse, tmp_path: Path, cell: str) -> None:
    mug = make_sku("MUG")
    add_stock(mug, east, 5)
    report = applied(put(tmp_path, f'SKU,Warehouse,Qty\nMUG,EAST,"{cell}"\n'), mode="set")
    assert report.counts["errors"] == 1 and report.problems[0].column == "Qty"
    assert on_hand(mug, east) == 5


FBA_HEAD = (
    "sku\tfnsku\tasin\tafn-warehouse-quantity\tafn-fulfillable-quantity\tafn-unsellable-quantity\t"
    "afn-reserved-quantity\n"
)


@pytest.mark.parametrize("cell", ["12 pcs", "1.5", "n/a"])
@pytest.mark.parametrize(
    ("profile", "text", "choices"),
    [
        ("stock", "sku,warehouse,quantity,mode\nMUG,EAST,{cell},set\n", {}),
        ("shopify_inventory", SHOPIFY + shopify("MUG", "5", "{cell}"), {}),
        ("amazon_price_quantity", "sku\tprice\tquantity\nMUG\t\t{cell}\n", {"warehouse_code": "EAST"}),
        (
            "linnworks_stock",
            "SKU*,Stock Level*,Location*,Minimum Level,Unit Cost,Stock Value,Bin Rack\nMUG,{cell},EAST,,,,\n",
            {},
        ),
        ("hub_stock", "sku code,LOCATION CODE,Quantity On Hand\nMUG,EAST,{cell}\n", {"mode": "set"}),
        (
            "pickware_relative",
            "articleNumber;warehouse;binLocation;physicalStock;purchasePrice\nMUG;EAST;;{cell};\n",
            {"mode": "add"},
        ),
        (
            "amazon_fba_inventory",
            FBA_HEAD + "MUG\tX\tB\t{cell}\t{cell}\t0\t0\n",
            {"warehouse_code": "FBA"},
        ),
    ],
    ids=["own", "shopify", "amazon", "linnworks", "hub", "pickware", "fba"],
)
def test_a_wrong_cell_of_any_shape_is_told_and_never_0(
    east: Warehouse, tmp_path: Path, profile: str, text: str, choices: dict[str, str], cell: str
) -> None:
    mug, pool = make_sku("MUG"), make_warehouse("FBA", kind="fba")
    for place in (east, pool):
        add_stock(mug, place, 5)
    path = put(tmp_path, text.replace("{cell}", cell))
    assert service.choose_profile(path, "stock").name == profile
    report = applied(path, **choices)
    assert report.counts["errors"] == 1 and "change" not in report.counts, report.counts
    assert (on_hand(mug, east), on_hand(mug, pool)) == (5, 5)


@pytest.mark.parametrize("units", ["6", "2"])
@pytest.mark.parametrize(
    ("profile", "text", "choices", "column"),
    [
        ("stock", "sku,warehouse,quantity,mode\nCAM,EAST,{units},set\n", {}, "quantity"),
        ("stock", "sku,warehouse,bin,quantity,mode\nCAM,EAST,A-1,{units},set\n", {}, "quantity"),
        ("stock", "sku,warehouse,Qty,mode\nCAM,EAST,{change},add\n", {}, "Qty"),
        ("shopify_inventory", SHOPIFY + shopify("CAM", "4", "{units}"), {}, "On hand (new)"),
        (
            "amazon_price_quantity",
            "sku\tprice\tquantity\nCAM\t\t{units}\n",
            {"warehouse_code": "EAST"},
            "quantity",
        ),
        ("linnworks_stock", "SKU*,Stock Level*,Location*\nCAM,{units},EAST\n", {}, "Stock Level*"),
        (
            "hub_stock",
            "sku code,LOCATION CODE,Quantity On Hand\nCAM,EAST,{units}\n",
            {"mode": "set"},
            "Quantity On Hand",
        ),
        (
            "pickware_relative",
            "articleNumber;warehouse;binLocation;physicalStock;purchasePrice\nCAM;EAST;;{change};\n",
            {"mode": "add"},
            "physicalStock",
        ),
    ],
    ids=["own", "own-bin", "own-add", "shopify", "amazon", "linnworks", "hub", "pickware"],
)
def test_no_shape_makes_or_drops_a_unit_that_has_a_serial_number(
    east: Warehouse, tmp_path: Path, profile: str, text: str, choices: dict[str, str], column: str, units: str,
    assert_invariants: Any,
) -> None:  # fmt: skip
    """Two of the four units have a number, so that a rule about numbers alone would let two go."""
    camera = make_sku("CAM", serial_tracked=True)
    Bin.objects.create(warehouse=east, code="A-1")
    goods = operations.PurchasedGoods(camera.pk, east.pk, 2, Decimal(5), "r", serials=("S1", "S2"))
    operations.receive_purchase([goods], reference="PO-1", actor=SYSTEM)
    add_stock(camera, east, 2)
    path = put(tmp_path, text.replace("{units}", units).replace("{change}", str(int(units) - 4)))
    assert service.choose_profile(path, "stock").name == profile
    report, rows = seen(path, **choices)
    assert (report.counts["errors"], rows) == (1, [])
    report = applied(path, **choices)
    [problem] = report.problems
    assert (problem.row, problem.column) == (2, column)
    assert "Every unit of CAM has a serial number, and a file names none" in problem.message
    assert "Receive them, or adjust by hand, with their numbers." in problem.message
    assert on_hand(camera, east) == 4
    assert_invariants()
    same = put(tmp_path, text.replace("{units}", "4").replace("{change}", "0"), "same.csv")
    if "A-1" not in text:
        assert applied(same, **choices).counts["errors"] == 0, "a count that agrees needs no number"


def test_a_house_that_keeps_its_numbers_to_itself_is_counted_by_file(tmp_path: Path) -> None:
    outside, camera = make_warehouse("3PL", kind="3pl"), make_sku("CAM", serial_tracked=True)
    assert applied(put(tmp_path, "sku,warehouse,quantity,mode\nCAM,3PL,6,set\n")).counts["errors"] == 0
    assert on_hand(camera, outside) == 6


def test_an_amazon_quantity_is_what_can_be_sold(
    east: Warehouse, tmp_path: Path, assert_invariants: Any
) -> None:
    mug = make_sku("MUG")
    add_stock(mug, east, 10)
    reservations.reserve([ReserveLine("L-1", mug.pk, 3, (east.pk,))], actor=SYSTEM)
    operations.set_safety(mug.pk, east.pk, 2, actor=SYSTEM)
    head = "sku\tprice\tquantity\n"
    report, rows = seen(put(tmp_path, f"{head}MUG\t\t5\n"), warehouse_code="EAST")
    assert (report.counts["same"], rows) == (1, [("MUG", 10, 10)]), "3 promised and 2 kept are not for sale"
    assert seen(put(tmp_path, f"{head}MUG\t\t8\n"), warehouse_code="EAST")[1] == [("MUG", 10, 13)]
    applied(put(tmp_path, f"{head}MUG\t\t0\n"), warehouse_code="EAST")
    assert on_hand(mug, east) == 5
    assert_invariants()


def test_an_amazon_file_that_waited_is_refused_where_anything_moved(east: Warehouse) -> None:
    mug, tee = make_sku("MUG"), make_sku("TEE")
    for sku in (mug, tee):
        add_stock(sku, east, 10)
    asked = now()
    reservations.reserve([ReserveLine("L-1", mug.pk, 3, (east.pk,))], actor=SYSTEM)
    lines = [
        StockLine(n, Code(sku.pk, sku.code), east.pk, 12, False, f"k:{n}", sellable=True)
        for n, sku in enumerate((mug, tee), 2)
    ]
    stockfile.count_as_of(lines, asked, "k:")
    first, second = stockfile.preview(lines)
    assert "moved since the file was made" in first.problem and (second.problem, second.after) == ("", 12)


@pytest.mark.parametrize(
    ("quantity", "mode", "reason", "note", "column", "says"),
    [
        (-2, "add", "", "", "Why", "Why is empty: say why units are added or taken away; use one of"),
        (-2, "add", "whim", "", "Why", "Why 'whim' is not on the list; use one of"),
        (3, "set", "whim", "", "Why", "Why 'whim' is not on the list; use one of"),
        (2, "add", "lost", "", "Why", "Why: 'lost' only takes units away."),
        (-2, "add", "old", "", "Why", "Why 'old' is not on the list; use one of"),
        (-2, "add", "proved", "", "note", "note: 'proved' needs a note that says what proves it."),
    ],
)
def test_a_reason_that_is_missing_or_not_of_the_list_is_told_and_changes_nothing(
    east: Warehouse, tmp_path: Path, quantity: int, mode: str, reason: str, note: str, column: str, says: str
) -> None:
    AdjustmentReason.objects.all().delete()
    AdjustmentReason.objects.create(code="lost", label="lost", direction="out")
    AdjustmentReason.objects.create(code="old", label="old", is_active=False)
    AdjustmentReason.objects.create(code="proved", label="proved", needs_note=True)
    mug = make_sku("MUG")
    add_stock(mug, east, 5)
    path = put(
        tmp_path, f"sku,warehouse,quantity,mode,Why,note\nMUG,EAST,{quantity},{mode},{reason},{note}\n"
    )
    profile, options = PROFILES["stock"], service.options_for("stock", mapping={"reason": "Why"})
    report = service.apply(path, profile, options, actor=SYSTEM)
    assert report.counts["errors"] == 1 and on_hand(mug, east) == 5
    assert (report.problems[0].column, says in report.problems[0].message) == (column, True), report.problems[
        0
    ]


def test_a_listed_reason_stands_in_the_ledger_and_a_count_needs_none(east: Warehouse, tmp_path: Path) -> None:
    mug = make_sku("MUG")
    add_stock(mug, east, 5)
    head = "sku,warehouse,quantity,mode,reason,note\n"
    applied(put(tmp_path, f"{head}MUG,EAST,-2,add,lost,fell off\n"))
    applied(put(tmp_path, f"{head}MUG,EAST,9,set,,\n", "2.csv"))
    rows = StockMovement.objects.filter(sku=mug, key__startswith="import:").order_by("pk")
    assert [(row.quantity, row.reason, row.note) for row in rows] == [
        (-2, "lost", "fell off"),
        (6, "file", ""),
    ]


def test_decimal_comma_by_choice(east: Warehouse, tmp_path: Path) -> None:
    mug = make_sku("MUG")
    path = put(tmp_path, "sku;warehouse;quantity;unit_cost\nMUG;EAST;12,0;3,25\n")
    assert applied(path, mode="set").counts["errors"] == 1
    applied(path, mode="set", decimal=",")
    level = StockLevel.objects.get(sku=mug, warehouse=east)
    assert (level.on_hand, str(level.average_cost)) == (12, "3.2500")


def test_bins_follow_a_file_and_a_named_bin_is_counted_alone(
    east: Warehouse, tmp_path: Path, assert_invariants: Any
) -> None:
    mug, shelf = make_sku("MUG"), Bin.objects.create(warehouse=east, code="A-1")
    applied(put(tmp_path, "sku,warehouse,bin,quantity,mode\nMUG,EAST,a-1,6,add\nMUG,EAST,,4,add\n"))
    assert (on_hand(mug, east), BinStock.objects.get(bin=shelf).quantity) == (10, 6)
    applied(put(tmp_path, "sku,warehouse,bin,quantity,mode\nMUG,EAST,A-1,8,set\n", "2.csv"))
    assert (on_hand(mug, east), BinStock.objects.get(bin=shelf).quantity) == (12, 8)
    applied(put(tmp_path, "sku,warehouse,quantity,mode\nMUG,EAST,5,set\n", "3.csv"))
    assert (on_hand(mug, east), BinStock.objects.get(bin=shelf).quantity) == (5, 5)
    assert_invariants()


def test_quick_and_slow_rows_write_the_same_ledger(east: Warehouse, assert_invariants: Any) -> None:
    """What is written in bulk and what goes through `post_movements` differ in nothing but their keys."""
    quick, slow = make_sku("QUICK", unit_cost=4), make_sku("SLOW", unit_cost=4, lot_tracked=True)
    codes = {
        sku: Code(sku.pk, sku.code, tracked=sku.lot_tracked, unit_cost=sku.unit_cost) for sku in (quick, slow)
    }
    for sku, code in codes.items():
        lines = [
            StockLine(n, code, east.pk, units, add, f"k:{sku.code}:{n}", reason="stocktake")
            for n, (units, add) in enumerate([(30, False), (-4, True), (20, False)])
        ]
        stockfile.post(lines, actor=SYSTEM, reference="file.csv")
        again = stockfile.post(lines, actor=SYSTEM, reference="file.csv")
        assert (again.known, again.decided) == (3, [])
    compared = [
        field.attname
        for field in StockMovement._meta.concrete_fields
        if field.attname not in ("id", "sku_id", "key", "created_at", "occurred_at")
    ]
    rows = [
        list(StockMovement.objects.filter(sku=sku).order_by("id").values_list(*compared)) for sku in codes
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 3
    assert_invariants()


def test_rows_see_what_rows_before_them_did() -> None:
    code = Code(1, "MUG")
    lines = [
        StockLine(2, code, 9, 8, False, "a"),
        StockLine(3, code, 9, -3, True, "b"),
        StockLine(4, code, 9, -4, True, "c"),
        StockLine(5, code, 9, 5, False, "d"),
    ]
    decided = stockfile.decide(lines, {(1, 9): Standing(10, 2)})
    assert [(one.before, one.after, bool(one.problem)) for one in decided] == [
        (10, 8, False), (8, 5, False), (5, 5, True), (5, 5, False),
    ]  # fmt: skip


# --- the whole way --------------------------------------------------------------------------------


def begin(client: Client, file: ImportFile, **choices: str) -> ImportFile:
    client.post(f"/imports/{file.pk}/apply/", {"take": "good", **choices})
    work(file)
    return file


def test_undo_reverses_while_nothing_later_depends_on_it(
    client: Client,
    owner: User,
    east: Warehouse,
    assert_invariants: Any,
) -> None:
    mug, tee = make_sku("MUG"), make_sku("TEE")
    add_stock(mug, east, 10)
    text = "sku,warehouse,quantity,mode\nMUG,EAST,4,set\nTEE,EAST,7,add\n"
    file = begin(client, upload(client, text, "stock"))
    assert (on_hand(mug, east), on_hand(tee, east)) == (4, 7)
    client.post(f"/imports/{file.pk}/undo/")
    work(file)
    assert (file.state, on_hand(mug, east), on_hand(tee, east)) == ("undone", 10, 0)
    assert StockMovement.objects.filter(kind="correction").count() == 2, (
        "reversed by new rows, nothing is erased"
    )
    again = begin(client, upload(client, text, "stock"))
    assert (on_hand(mug, east), on_hand(tee, east)) == (4, 7), "a file that was undone may come back"
    add_stock(mug, east, 1)
    with pytest.raises(Conflict, match="1 of its levels moved since"):
        running.begin_undo(again, actor=SYSTEM)
    assert_invariants()


def test_a_run_that_died_at_its_end_does_not_pull_the_file_back_when_it_is_repeated(
    client: Client, owner: User, east: Warehouse, assert_invariants: Any
) -> None:
    """Killed between the last step and the end of the job: a person went on with the file before the repetition."""
    mug = make_sku("MUG")
    add_stock(mug, east, 10)

    def revive(job: Job) -> None:
        long_ago = now() - dt.timedelta(minutes=5)
        Job.objects.filter(pk=job.pk).update(state="running", lease_until=long_ago, finished_at=None)
        jobs.run_job(job.pk)
        file.refresh_from_db()
        assert Job.objects.get(pk=job.pk).state == "done"

    file = upload(client, "sku,warehouse,quantity,mode\nMUG,EAST,4,set\n", "stock")
    checked = file.job
    client.post(f"/imports/{file.pk}/apply/", {"take": "good"})
    revive(checked)
    assert file.state == "applying" and file.options["prefix"]
    work(file)
    applied = file.job
    assert (file.state, on_hand(mug, east)) == ("applied", 4)
    client.post(f"/imports/{file.pk}/undo/")
    revive(applied)
    assert file.state == "applying"
    work(file)
    undone = file.job
    for job in (checked, applied, undone):
        revive(job)
        assert (file.state, on_hand(mug, east)) == ("undone", 10)
    assert_invariants()


def test_a_file_of_which_nothing_was_kept_is_not_gone_on_with(
    client: Client, owner: User, east: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All or nothing: its rows were taken back, so a second half alone would be wrong."""
    mug = make_sku("MUG")
    file = upload(client, "sku,warehouse,quantity,mode\nMUG,EAST,4,add\nMUG,EAST,3,add\n", "stock")
    monkeypatch.setattr(stock, "CHUNK", 1)
    add_row = StockFile.lines

    def broken(self: StockFile, chunk: Any, report: Report, prefix: str) -> Any:
        if chunk[0].number == 3:
            self._problem(report, chunk[0], "sku", "MUG is gone.")
            return []
        return add_row(self, chunk, report, prefix)

    with monkeypatch.context() as patch:
        patch.setattr(StockFile, "lines", broken)
        client.post(f"/imports/{file.pk}/apply/", {"take": "whole"})
        work(file)
    assert (file.state, file.job.state, on_hand(mug, east)) == ("undone", "failed", 0)
    jobs.resume(file.job.pk, actor=SYSTEM)
    work(file)
    assert (file.state, file.job.state, on_hand(mug, east)) == ("undone", "failed", 0)
    assert file.job.message == "file: nothing of it was kept; bring it in again."


def test_undo_brings_no_units_to_a_sku_that_was_merged_since(
    client: Client, owner: User, east: Warehouse, assert_invariants: Any
) -> None:
    """The file emptied its level, so the merge had nothing to move there and left no later row."""
    cup, mug = make_sku("CUP"), make_sku("MUG")
    add_stock(cup, east, 5)
    add_stock(mug, east, 5)
    lines = ("sku,warehouse,quantity,mode", "CUP,EAST,0,set", "MUG,EAST,6,set", "")
    file = begin(client, upload(client, "\n".join(lines), "stock"), zero_seen="on")
    assert (on_hand(cup, east), on_hand(mug, east)) == (0, 6)
    merging.merge_skus(cup.pk, mug.pk, actor=SYSTEM)
    with pytest.raises(Conflict, match="CUP was merged into MUG since; adjust MUG by hand"):
        running.begin_undo(file, actor=SYSTEM)
    assert on_hand(cup, east) == 0
    assert_invariants()


def test_undo_restores_the_average_that_a_cost_of_the_file_changed(
    client: Client, owner: User, east: Warehouse, assert_invariants: Any
) -> None:
    mug, _, cup = make_sku("MUG"), make_sku("TEE"), make_sku("CUP")
    add_stock(mug, east, 3, unit_cost=Decimal("1.3333"))
    add_stock(cup, east, 3, unit_cost=Decimal(2))
    lines = (
        "sku,warehouse,quantity,mode,unit_cost",
        "MUG,EAST,4,add,9.99",
        "MUG,EAST,1,add,3",
        "TEE,EAST,2,add,5",
    )
    text = "\n".join((*lines, "CUP,EAST,1,add,", ""))
    file = begin(client, upload(client, text, "stock"))
    level = StockLevel.objects.get(sku=mug)
    assert (level.on_hand, level.average_cost > 5) == (8, True)
    client.post(f"/imports/{file.pk}/undo/")
    work(file)
    assert file.state == "undone"
    kept = {
        code: (units, cost)
        for code, units, cost in StockLevel.objects.values_list("sku__code", "on_hand", "average_cost")
    }
    assert kept == {"MUG": (3, Decimal("1.3333")), "TEE": (0, Decimal(0)), "CUP": (3, Decimal(2))}
    entry = CostEntry.objects.get(sku=mug)
    assert (entry.kind, entry.stock_value) == ("undone", Decimal("3.9999"))
    assert not CostEntry.objects.filter(sku=cup).exists(), "no cost of the file, nothing to restore"
    assert_invariants()
    again = begin(client, upload(client, text, "stock"))
    valuation.add_cost(mug.pk, east.pk, amount=Decimal(4), units=4)
    with pytest.raises(Conflict, match="cost was entered since for MUG"):
        running.begin_undo(again, actor=SYSTEM)


def test_undo_is_refused_where_the_oldest_units_cost_something_else(
    client: Client, owner: User, east: Warehouse, assert_invariants: Any
) -> None:
    mug, tee = make_sku("MUG", valuation="fifo"), make_sku("TEE", valuation="fifo")
    add_stock(mug, east, 3, unit_cost=Decimal(1))
    head = "sku,warehouse,quantity,mode,unit_cost\n"
    file = begin(client, upload(client, f"{head}MUG,EAST,4,add,9\n", "stock"))
    with pytest.raises(Conflict, match="first in, first out"):
        running.begin_undo(file, actor=SYSTEM)
    file = begin(client, upload(client, f"{head}TEE,EAST,4,add,9\n", "stock"))
    running.begin_undo(file, actor=SYSTEM)
    work(file)
    assert (file.state, on_hand(tee, east)) == ("undone", 0)
    assert_invariants()


def test_all_or_nothing_takes_back_what_it_wrote(
    client: Client,
    owner: User,
    east: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("oms.control.imports.stock.CHUNK", 2)
    skus = [make_sku(f"S-{n}") for n in range(5)]
    for sku in skus:
        add_stock(sku, east, 10)
    rows = "".join(f"{sku.code},EAST,5,set\n" for sku in skus)
    file = upload(client, "sku,warehouse,quantity,mode\n" + rows, "stock")
    reservations.reserve([ReserveLine("L-1", skus[4].pk, 9, (east.pk,))], actor=SYSTEM)
    begin(client, file, take="whole")
    assert file.job is not None
    assert (file.state, file.job.state) == ("undone", "failed")
    assert "row 6" in file.job.message and "nothing of the file was kept" in file.job.message
    assert [on_hand(sku, east) for sku in skus] == [10] * 5


def test_a_file_that_empties_many_levels_has_to_be_meant(
    client: Client,
    owner: User,
    east: Warehouse,
) -> None:
    skus = [make_sku(f"S-{n}") for n in range(4)]
    for sku in skus:
        add_stock(sku, east, 3)
    file = upload(
        client, "sku,warehouse,quantity,mode\n" + "".join(f"{s.code},EAST,0,set\n" for s in skus), "stock"
    )
    refused = client.post(f"/imports/{file.pk}/apply/", {"take": "good"}, follow=True).content.decode()
    assert "4 levels would go to 0" in refused
    assert on_hand(skus[0], east) == 3
    begin(client, file, zero_seen="on")
    assert on_hand(skus[0], east) == 0


def test_a_killed_run_repeats_no_row(east: Warehouse, tmp_path: Path) -> None:
    """The rows of a chunk and its position are one transaction; what was posted is not posted again."""
    mug = make_sku("MUG")
    path = put(tmp_path, "sku,warehouse,quantity,mode\n" + "MUG,EAST,1,add\n" * 7)
    profile, options = PROFILES["stock"], service.options_for("stock")
    for _ in range(2):
        StockFile(path, profile, options).write(Report("stock"), actor=SYSTEM, prefix="p:", reference="f")
    assert on_hand(mug, east) == 7
    seen: list[int] = []

    def killed(part: Report) -> None:
        seen.append(part.items)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), transaction.atomic():
        StockFile(path, profile, options).write(
            Report("stock"), actor=SYSTEM, prefix="q:", reference="f", commit=killed
        )
    assert (on_hand(mug, east), seen) == (7, [7])


def test_the_preview_is_a_download_of_every_row(client: Client, owner: User, east: Warehouse) -> None:
    mug = make_sku("=MUG")
    add_stock(mug, east, 3)
    file = upload(client, "sku,warehouse,quantity,mode\n'=MUG,EAST,8,set\n", "stock")
    answer = client.get(f"/imports/{file.pk}/preview.csv")
    assert b"".join(answer).decode("utf-8-sig").splitlines() == [
        "Row,SKU,Warehouse,Before,After,Change", "2,'=MUG,EAST,3,8,5",
    ]  # fmt: skip


def received(client: Client, text: str) -> ImportFile:
    """A stock file of which the check has not begun."""
    client.post("/imports/", {"kind": "stock", "file": SimpleUploadedFile("file.csv", text.encode())})
    return ImportFile.objects.latest("pk")


def test_a_long_check_stops_when_its_time_is_up_and_goes_on_where_it_was(
    client: Client, owner: User, east: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is given a minute: a check of a big file takes several turns, and each keeps the job for itself."""
    monkeypatch.setattr(stock, "CHUNK", 2)
    mug = make_sku("MUG")
    add_stock(mug, east, 10)
    for number in range(4):
        make_sku(f"S-{number}")
    lines = ["MUG,EAST,3,add", "MUG,EAST,4,add", "GONE,EAST,1,set", "MUG,EAST,x,set", "S-0,EAST,7,set"]
    lines += ["MUG,EAST,1,add", "S-1,EAST,2,set", "S-0,EAST,9,set"]
    text = "sku,warehouse,quantity,mode\n" + "\n".join(lines) + "\n"
    whole = upload(client, text, "stock")
    file = received(client, text)
    turns = 0
    while file.state == "uploaded":
        jobs.run_job(file.job.pk, budget=-1)
        file.refresh_from_db()
        job = Job.objects.get(pk=file.job.pk)
        turns += 1
        assert job.position == min(2 * turns, 8)
        assert job.state == ("queued" if file.state == "uploaded" else "done")
    assert turns == 5, "four chunks, and the end"
    names = ("counts", "rows", "state")
    assert [getattr(file, one) for one in names] == [getattr(whole, one) for one in names]
    for choice in ("items", "new_codes", "shown", "total"):
        assert file.options[choice] == whole.options[choice]
    assert file.options["shown"][3][3:] == [17, 18], (
        "MUG: what the rows before leave is known in the last turn"
    )
    told = list(whole.problem_rows.values_list("number", "column", "message", "raw"))
    assert list(file.problem_rows.values_list("number", "column", "message", "raw")) == told != []
    assert not list(Path(file.stored.path).parent.glob("*.part*"))


def test_a_check_that_another_worker_took_over_leaves_no_word(
    client: Client, owner: User, east: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stock, "CHUNK", 1)
    make_sku("MUG")
    file = received(client, "sku,warehouse,quantity,mode\nMUG,EAST,3,set\nMUG,EAST,4,set\n")
    reached = jobs.Run.reached

    def taken(run: jobs.Run, position: int) -> None:
        Job.objects.filter(pk=run.job.pk).update(started_at=now() + dt.timedelta(minutes=3))
        reached(run, position)

    with monkeypatch.context() as patch:
        patch.setattr(jobs.Run, "reached", taken)
        jobs.run_job(file.job.pk)
    file.refresh_from_db()
    assert (file.state, Job.objects.get(pk=file.job.pk).state) == ("uploaded", "running")
