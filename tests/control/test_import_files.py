"""X03, O16: files are checked without writing, applied once, and tell each bad row by row and column."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from inventory.models import Sku, StockLevel, StockMovement
from oms.control.imports import reader, service
from oms.control.imports.profiles import PROFILES
from oms.control.models import ImportFile
from oms.core.errors import UserError
from oms.orders.models import Order, OrderLine
from procurement.models import PurchaseOrder, Supplier
from returns.models import Rma
from tests.factories import add_stock, make_channel, make_sku, make_warehouse

RETAIL = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,WHITE HEART,6,2010-12-01 08:26:00,2.55,17850,United Kingdom
536365,85123a,WHITE HEART,2,2010-12-01 08:27:00,2.55,17850,United Kingdom
536365,85123A,WHITE HEART,6,2010-12-01 08:26:00,2.55,17850,United Kingdom
536365,POST,POSTAGE,1,2010-12-01 08:26:00,18.00,17850,United Kingdom
536366,71053,LANTERN,3,2010-12-01 09:00:00,3.39,,Unspecified
C536379,D,Discount,-1,2010-12-01 09:41:00,27.50,14527,United Kingdom
C536383,85123A,WHITE HEART,-4,2010-12-01 09:49:00,2.55,15311,United Kingdom
536390,71053,found,5,2010-12-01 10:00:00,0,,United Kingdom
536391,71053,damages,-8,2010-12-01 10:05:00,0,,United Kingdom
A563185,B,Adjust bad debt,1,2010-12-01 10:10:00,11062.06,,United Kingdom
536399,71053,LANTERN,six,2010-12-01 10:30:00,3.39,1,United Kingdom
"""


@pytest.fixture
def shop(db):
    return make_channel("retail", make_warehouse("MAIN"), currency="GBP")


def write(tmp_path: Path, text: str | bytes, name: str = "file.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def run(command: str, *args: str) -> str:
    out = StringIO()
    call_command(command, *args, stdout=out)
    return out.getvalue()


def test_retail_invoices_become_orders_returns_and_corrections(shop, tmp_path, assert_invariants):
    path = write(tmp_path, gzip.compress(RETAIL.encode()), "retail.csv.gz")
    before = run("import_orders", str(path), "--channel", "retail", "--dry-run")
    assert "11 rows read, nothing written" in before
    assert not Order.objects.exists() and not Sku.objects.exists()
    text = run("import_orders", str(path), "--channel", "retail")
    assert "row 12 Quantity: Quantity 'six' is not a whole number." in text
    order = Order.objects.get(external_id="536365")
    assert (order.state, order.lines.count(), order.total) == (Order.State.SHIPPED, 4, Decimal("53.7000"))
    assert OrderLine.objects.get(order=order, external_sku="POST").kind == OrderLine.Kind.SERVICE
    assert Sku.objects.filter(code__iexact="85123a").count() == 1
    level = StockLevel.objects.get(sku__code="85123A")
    assert (level.on_hand, level.quarantine, level.available) == (4, 4, 0)
    assert Rma.objects.get().order is None
    lantern = StockLevel.objects.get(sku__code="71053")
    assert lantern.on_hand == 0  # five found, five of the eight written off
    file = ImportFile.objects.get()
    notes = " ".join(file.problem_rows.values_list("message", flat=True))
    for words in (
        "exact copy of row 2",
        "carries two times",
        "adjusts bad debt",
        "8 to write off, 5 available",
        "money only",
        "is not a country",
    ):
        assert words in notes
    assert_invariants()


def test_the_check_names_what_applying_would_refuse(db, tmp_path):
    """Returned goods need a place: said by the check, not only after the orders are in."""
    make_channel("bare", currency="GBP")
    path = write(tmp_path, RETAIL)
    before = run("import_orders", str(path), "--channel", "bare", "--dry-run")
    assert "row 8 warehouse: warehouse: name the warehouse for returned and corrected stock" in before
    make_warehouse("MAIN")
    named = run("import_orders", str(path), "--channel", "bare", "--warehouse", "MAIN", "--dry-run")
    assert "name the warehouse" not in named


def test_the_same_file_again_takes_nothing_twice(shop, tmp_path, assert_invariants):
    path = write(tmp_path, RETAIL)
    run("import_orders", str(path), "--channel", "retail")
    figures = Order.objects.count(), StockMovement.objects.count(), Rma.objects.count()
    again = run("import_orders", str(path), "--channel", "retail")
    assert "applied before" in again
    assert (Order.objects.count(), StockMovement.objects.count(), Rma.objects.count()) == figures
    assert_invariants()


def test_errors_file_holds_the_users_own_columns(shop, tmp_path):
    path = write(tmp_path, RETAIL.replace("536399,71053,LANTERN", "536399,71053,=cmd()"))
    errors = tmp_path / "errors.csv"
    run("import_orders", str(path), "--channel", "retail", "--errors", str(errors))
    text = errors.read_text("utf-8-sig")
    assert (
        text.splitlines()[0]
        == "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country,Row,Level,Error"
    )
    assert "'=cmd()" in text


def test_own_orders_three_bad_rows_leave_the_others(shop, tmp_path):
    sku = make_sku("MUG")
    add_stock(sku, shop.warehouses.get().warehouse, 100)
    rows = ["order_number,placed_at,sku,quantity,unit_price,name,address1,city,postal_code,country"]
    rows += [f"W-{n},2026-11-20 10:15,MUG,1,18.00,Ada,1 Elm,Albany,12207,US" for n in range(40)]
    rows[5] = rows[5].replace(",1,18.00", ",-1,18.00")
    rows[6] = rows[6].replace("2026-11-20 10:15", "yesterday")
    rows[7] = rows[7].replace("18.00", "12 pcs")
    text = run("import_orders", str(write(tmp_path, "\n".join(rows))), "--channel", "retail")
    assert Order.objects.count() == 37
    for words in ("row 6 quantity", "row 7 placed_at", "row 8 unit_price"):
        assert words in text
    assert StockLevel.objects.get(sku=sku).reserved == 37


def test_stock_set_and_add_post_movements_and_an_untouched_file_changes_nothing(
    shop, tmp_path, assert_invariants
):
    place = shop.warehouses.get().warehouse
    mug, cap = make_sku("MUG"), make_sku("CAP")
    add_stock(mug, place, 10)
    path = write(
        tmp_path,
        "sku;warehouse;quantity;mode\nmug;MAIN;7;set\nCAP;MAIN;5;add\nNOPE;MAIN;1;set\nMUG;MAIN;x;set\n",
    )
    assert "change" in run("import_stock", str(path), "--dry-run")
    assert StockLevel.objects.get(sku=mug).on_hand == 10
    text = run("import_stock", str(path))
    assert (StockLevel.objects.get(sku=mug).on_hand, StockLevel.objects.get(sku=cap).on_hand) == (7, 5)
    assert "sku 'NOPE' is unknown" in text and "'x' is not a whole number" in text
    again = write(tmp_path, "sku,warehouse,quantity,mode\nMUG,MAIN,7,set\nCAP,MAIN,5,set\n", "again.csv")
    assert "same" in run("import_stock", str(again))
    assert StockMovement.objects.filter(kind__in=["count", "adjust"]).count() == 2
    assert_invariants()


def test_a_count_below_what_is_promised_is_refused(shop, tmp_path):
    place = shop.warehouses.get().warehouse
    mug = make_sku("MUG")
    add_stock(mug, place, 10)
    run(
        "import_orders",
        str(write(tmp_path, "order_number,placed_at,sku,quantity\nW-1,2026-11-20,MUG,6\n", "o.csv")),
        "--channel",
        "retail",
    )
    text = run("import_stock", str(write(tmp_path, "sku,warehouse,quantity,mode\nMUG,MAIN,2,set\n")))
    assert "6 of MUG are promised or unavailable" in text
    assert StockLevel.objects.get(sku=mug).on_hand == 10


def test_stock_without_mode_is_never_guessed(shop, tmp_path):
    make_sku("MUG")
    text = run("import_stock", str(write(tmp_path, "sku,warehouse,quantity\nMUG,MAIN,3\n")))
    assert "choose 'set' (a count) or 'add' (a change)" in text
    assert not StockLevel.objects.exists()


def test_purchase_orders_once_with_freight(shop, tmp_path):
    Supplier.objects.create(code="KILN", name="North Kiln")
    make_sku("MUG")
    path = write(
        tmp_path,
        "po_number,supplier,warehouse,sku,quantity,unit_cost,freight\nA-1,KILN,MAIN,MUG,12,3.10,9.00\nA-2,Nobody,MAIN,MUG,1,1,\n",
    )
    text = run("import_purchase_orders", str(path))
    run("import_purchase_orders", str(path))
    order = PurchaseOrder.objects.get()
    assert (order.external_number, order.charges.get().amount) == ("A-1", Decimal("9.0000"))
    assert "supplier 'Nobody' is unknown" in text


def test_a_purchase_order_keeps_the_day_it_was_placed(shop, tmp_path):
    Supplier.objects.create(code="KILN", name="North Kiln")
    make_sku("MUG")
    path = write(
        tmp_path,
        "po_number,supplier,warehouse,sku,quantity,unit_cost,ordered_on,expected_on\n"
        "A-1,KILN,MAIN,MUG,12,3.10,2026-01-05,2026-02-01\n"
        "A-2,KILN,MAIN,MUG,1,1,2026-02-05,2026-02-01\n"
        "A-3,KILN,MAIN,MUG,1,1,5 Jan,\n"
        "A-4,KILN,MAIN,MUG,1,1,,2026-02-01\n",
    )
    text = run("import_purchase_orders", str(path))
    days = dict(PurchaseOrder.objects.values_list("external_number", "ordered_on"))
    assert days == {"A-1": dt.date(2026, 1, 5), "A-4": dt.date(2026, 2, 1)}
    assert "2026-02-01 lies before the day of the order, 2026-02-05" in text
    assert "ordered_on '5 Jan' is not a day" in text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it is empty"),
        (b"\x00\x01\x02,\n", "not a text file"),
        (b"just one column\n1\n", "separated by comma"),
        (b"a,b,c\n1,2,3\n", "no known shape"),
    ],
)
def test_a_wrong_file_gets_a_sentence(shop, tmp_path, content, sentence):
    with pytest.raises(CommandError, match=sentence):
        run("import_orders", str(write(tmp_path, content)), "--channel", "retail")


def test_unknown_channel_and_profile_name_what_is_there(shop, tmp_path):
    path = write(tmp_path, RETAIL)
    with pytest.raises(CommandError, match="choose the channel .*retail"):
        run("import_orders", str(path), "--channel", "nope")
    with pytest.raises(CommandError, match="'nope' is unknown for orders"):
        run("import_orders", str(path), "--channel", "retail", "--profile", "nope")


def test_windows_1252_and_a_cut_line(shop, tmp_path):
    path = write(
        tmp_path,
        "order_number;placed_at;sku;quantity;name\nW-1;2026-11-20;MUG;1;José\nW-2;2026-11-20\n".encode(
            "cp1252"
        ),
    )
    assert reader.shape_of(path).encoding == "cp1252"
    rows = list(reader.rows(path))
    assert rows[0].cells["name"] == "José"
    assert rows[1].cells["quantity"] == ""


def test_a_file_that_unpacks_without_end_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "MAX_BYTES", 1_000_000)
    path = write(tmp_path, gzip.compress(b"a,b\n" + b"1,2\n" * 1_000_000), "bomb.csv.gz")
    with pytest.raises(UserError, match="larger than"):
        for _ in reader.rows(path):
            pass


def test_the_real_invoice_file_counts_as_its_reference_figures(shop, shared_dir):
    """Counts of the whole file against figures computed elsewhere; differences are explained where they are."""
    path = shared_dir / "data/online_retail/online_retail_2010-12_2011-08.csv.gz"
    expected = json.loads((shared_dir / "data/expected/online_retail_shared.json").read_text())
    profile = PROFILES["online_retail"]
    report = service.Report(profile.name)
    figures = dict.fromkeys(
        ("orders", "lines", "services", "units", "credited", "adjusted", "credit_notes"), 0
    )
    options = service.options_for("orders", channel_code="retail")
    for item in service.items(path, profile, options, report):
        kind = type(item).__name__
        if kind == "OrderItem":
            figures["orders"] += 1
            figures["lines"] += len(item.draft.lines)
            for line in item.draft.lines:
                figures["services"] += line.kind == "service"
                figures["units"] += line.quantity if line.kind == "product" else 0
        elif kind == "CreditItem":
            figures["credit_notes"] += 1
            figures["credited"] += sum(line.quantity for line in item.lines)
        elif kind == "AdjustItem":
            figures["adjusted"] += item.quantity
        else:
            report.problem(item)
    assert report.rows == expected["rows"] == 320_705
    assert report.counts["errors"] == 0
    counts, units = expected["counts"], expected["units"]
    assert figures["orders"] == counts["sale_orders"]
    assert figures["lines"] == counts["sale_rows"]
    assert figures["services"] == counts["sale_service_rows"]
    assert (figures["units"], figures["credited"], figures["adjusted"]) == (
        units["sold"],
        units["cancelled"],
        units["adjusted_net"],
    )
    # the other credit notes of the reference hold services only: money, no goods
    assert 0 < figures["credit_notes"] < counts["cancel_invoices"]


def test_a_workbook_reads_like_its_csv(shop, tmp_path):
    from openpyxl import Workbook

    make_sku("MUG")
    book = Workbook()
    book.active.append(["sku", "warehouse", "quantity", "mode"])
    book.active.append(["MUG", "MAIN", 12, "set"])
    book.active.append(["MUG", "MAIN", "twelve", "set"])
    path = tmp_path / "stock.xlsx"
    book.save(path)
    text = run("import_stock", str(path))
    assert StockLevel.objects.get().on_hand == 12
    assert "row 3 quantity" in text
