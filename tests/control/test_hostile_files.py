"""Files as nobody should send them: refused with a sentence, whole or by the row; nothing breaks."""

from __future__ import annotations

import csv
import gzip
import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from rest_framework.test import APIClient

from channels import filedrop
from channels.models import ChannelFile
from fulfillment.models import ThreePLFile, ThreePLMessage
from fulfillment.threepl import files as threepl_files
from inventory.models import Sku, StockMovement
from inventory.resources import SkuResource
from oms.control.imports import reader, running
from oms.control.models import ImportFile
from oms.core import jobs, masterfiles, tokens
from oms.core.actor import SYSTEM
from oms.core.errors import UserError
from oms.core.models import ExceptionItem, Job
from oms.core.roles import SCOPES
from oms.orders.models import Order
from procurement.models import PurchaseOrder, Supplier
from tests.channels import test_files as partner_files
from tests.factories import add_stock, make_channel, make_sku, make_user, make_warehouse
from tests.threepl.test_files import Paper

pytestmark = pytest.mark.django_db

ROWS: dict[str, dict[str, str]] = {
    "stock": {"sku": "MUG", "warehouse": "EAST", "quantity": "5", "mode": "add", "reason": "found"},
    "orders": {
        "order_number": "O1", "placed_at": "2026-11-20 10:00", "sku": "MUG", "quantity": "1", "unit_price": "2.50",
    },
    "purchase_orders": {
        "po_number": "P1", "supplier": "ACME", "warehouse": "EAST", "sku": "MUG", "quantity": "1",
        "unit_cost": "1", "currency": "USD", "ordered_on": "2026-11-01", "expected_on": "2026-11-30",
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def world(request: pytest.FixtureRequest) -> None:
    if "door" in request.fixturenames:
        return
    east, mug = make_warehouse("EAST"), make_sku("MUG")
    add_stock(mug, east, 3)
    make_channel("shop", east)
    Supplier.objects.create(code="ACME", name="Acme", currency="USD")


def text(*rows: dict[str, str]) -> str:
    written = io.StringIO()
    out = csv.DictWriter(written, list(rows[0]), lineterminator="\n")
    out.writeheader()
    out.writerows(rows)
    return written.getvalue()


def bring(kind: str, data: str | bytes, **choices: str) -> ImportFile:
    """A file that was received and checked."""
    content = data.encode() if isinstance(data, str) else data
    channel = "shop" if kind == "orders" else ""
    upload = SimpleUploadedFile("file.csv", content)
    file = running.receive(upload, kind, channel=channel, actor=SYSTEM, **choices)
    run(file)
    return file


def run(file: ImportFile) -> None:
    file.refresh_from_db()
    if file.job_id is not None:
        jobs.run_job(file.job_id)
    file.refresh_from_db()


def job_of(file: ImportFile) -> Job:
    assert file.job_id is not None
    return Job.objects.get(pk=file.job_id)


def written() -> tuple[int, int, int]:
    return StockMovement.objects.count(), Order.objects.count(), PurchaseOrder.objects.count()


def bomb() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<a/>")
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * 20_000_000)
    return packed.getvalue()


def files(row: dict[str, str]) -> dict[str, tuple[bytes, str]]:
    """Content, and what has to stand in the sentence, by name."""
    good, head = text(row).encode(), ",".join(row).encode() + b"\n"
    line = good[len(head) :]
    nul = ",".join(f"{cell}\0" for cell in row.values())
    late = head + line * (reader.SAMPLE // len(line) + 2)
    names = [*row, list(row)[-1]]
    return {
        "nothing": (b"", "empty"),
        "empty lines": (b"\n \n\n", "empty"),
        "only a header": (head, "header and no rows"),
        "a NUL": (good.replace(b"MUG", b"MUG\0"), "not a text file"),
        "a NUL far down": (late + nul.encode() + b"\n", "holds a NUL character"),
        "UTF-16 with a NUL": (f"{','.join(row)}\n{nul}\n".encode("utf-16"), "line 2 holds a NUL character"),
        "UTF-16 without its mark": (good.decode().encode("utf-16-be"), "not a text file"),
        "UTF-32": (good.decode().encode("utf-32"), "NUL character"),
        "one column of 10 MB": (b"x" * 10_000_000, "column names"),
        "a header cell of 2 MB": (b"x" * 2_000_000 + b"," + good, "column names"),
        "a cell of 10 MB": (head + line.rstrip() + b"x" * 10_000_000, "line 2 cannot be read as CSV"),
        "300,000 columns": (b"c," * 300_000 + b"\n" + b"," * 300_000, "more than 300 columns"),
        "a column twice": (",".join(names).encode() + b"\n" + line.rstrip() + b",7\n", "stands there twice"),
        "a zip bomb": (bomb(), "unpacks to far more"),
        "no workbook": (b"PK\x03\x04junk", "damaged"),
        "no gzip": (b"\x1f\x8bjunkjunkjunk", "gzipped, and damaged or cut"),
        "a cut gzip": (gzip.compress(late)[:-9], "gzipped, and damaged or cut"),
    }


NAMES = sorted(files({"a": "MUG"}))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", sorted(ROWS))
def test_a_hostile_file_is_refused_with_a_sentence(kind: str, name: str) -> None:
    data, words = files(ROWS[kind])[name]
    before = written()
    tracemalloc.start()
    try:
        file = bring(kind, data)
    except UserError as error:
        assert (error.field, ImportFile.objects.count()) == ("file", 0)
        message = error.message
    else:
        job = job_of(file)
        assert (file.state, job.state) == ("uploaded", "failed")
        message = job.message
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert message.startswith("file: ") and words in message
    assert peak < 120 * 2**20
    assert written() == before
    assert not ExceptionItem.objects.exists(), "a wrong file is its author's business"


def test_the_screen_says_what_is_wrong_with_a_file(client: Client) -> None:
    client.force_login(make_user("olga"))
    upload = SimpleUploadedFile("file.csv", b"\x1f\x8bjunkjunkjunk")
    answer = client.post("/imports/", {"kind": "stock", "file": upload})
    assert answer.status_code == 422 and "gzipped, and damaged or cut" in answer.content.decode()


def test_endless_empty_lines_are_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_BLANK", 50)
    good = text(ROWS["stock"])
    assert bring("stock", good + "\n" * 50 + good.splitlines()[1]).rows == 2
    file = bring("stock", good + "\n" * 60)
    assert "more than 50 empty lines before line 53" in job_of(file).message


#: what stands in a cell of a whole number, and is none
NO_NUMBERS = (
    "1e9", "1e400", "9.78E+12", "٣", "１２", "1_000", "1,000", "0x10", "NaN", "sNaN", "Infinity", "5.5", "--1", "",
    "=1+1", "99999999999", "½", "5 pcs", "\u200b5", "1e-400",
)  # fmt: skip
WRONG: dict[tuple[str, str], tuple[str, ...]] = {
    ("stock", "quantity"): NO_NUMBERS,
    ("orders", "quantity"): (*NO_NUMBERS, "-0", "-1"),
    ("orders", "unit_price"): ("1e9", "٣", "1_000", "1,000", "NaN", "-1", "99999999999", "$5"),
    ("orders", "placed_at"): ("", "2026-02-30", "0000-00-00", "yesterday", "2026-11-20T10:00:00+99:00"),
    ("purchase_orders", "quantity"): (*NO_NUMBERS, "-0", "-1"),
    ("purchase_orders", "unit_cost"): ("1e9", "٣", "1_000", "1,000", "NaN", "99999999999", ""),
    ("purchase_orders", "ordered_on"): ("2026-02-30", "0000-00-00", "soon", "12:00"),
    ("purchase_orders", "expected_on"): ("2026-02-30", "0000-00-00", "soon", "12:00", "=1+1"),
}


@pytest.mark.parametrize(("kind", "column"), sorted(WRONG))
def test_a_hostile_cell_is_an_error_of_its_row_and_names_the_column(kind: str, column: str) -> None:
    key = next(iter(ROWS[kind]))
    bad = WRONG[kind, column]
    rows = [{**ROWS[kind], column: cell} for cell in bad]
    if kind != "stock":
        rows = [{**row, key: f"N{place}"} for place, row in enumerate(rows)]
    file = bring(kind, text(*rows))
    found = {row.number: row for row in file.problem_rows.all()}
    for number, cell in enumerate(bad, start=2):
        assert number in found, f"{cell!r} was taken"
        assert (found[number].level, found[number].column) == ("error", column), cell
        assert column in found[number].message
    before = written()
    running.begin(file, actor=SYSTEM)
    run(file)
    assert (file.state, job_of(file).state) == ("applied", "done")
    assert written() == before


def test_a_purchase_order_that_cannot_be_stored_stops_no_other() -> None:
    row = ROWS["purchase_orders"]
    rows = [
        {**row, "po_number": "x" * 500},
        {**row, "po_number": "P2", "currency": "DOLLARS"},
        {**row, "po_number": "P3", "expected_on": "9999-12-31"},
        {**row, "po_number": "P4", "supplier": "\u202eACME"},
        {**row, "po_number": "P5"},
    ]
    file = bring("purchase_orders", text(*rows))
    running.begin(file, actor=SYSTEM)
    run(file)
    assert (file.state, file.counts["errors"]) == ("applied", 4)
    assert [
        (one.number, one.column, one.message.partition(":")[0]) for one in file.problem_rows.order_by("number")
    ] == [
        (2, "external_number", "external_number"), (3, "currency", "currency"), (4, "expected_on", "expected_on"),
        (5, "supplier", "supplier '\u202eACME' is unknown"),
    ]  # fmt: skip
    assert list(PurchaseOrder.objects.values_list("external_number", flat=True)) == ["P5"]


# --- partners, 3PLs, master data -----------------------------------------------------------------------


def partner(home: Path) -> Callable[[bytes], Any]:
    account = partner_files.connect(None).account
    return lambda data: filedrop.take(account.pk, "f.csv", data, actor=SYSTEM)


def threepl(home: Path) -> Callable[[bytes], Any]:
    account = Paper(home).account
    return lambda data: threepl_files.take(account.pk, "f.csv", data, actor=SYSTEM)


FIGURES = {"sku": "MUG", "on_hand": "7", "taken_at": "2026-11-20T10:00:00Z"}
MAPPED = dict(zip(*csv.reader(partner_files.ORDERS.splitlines()[:2]), strict=True))


@pytest.mark.parametrize(("door", "row"), [(partner, MAPPED), (threepl, FIGURES)])
def test_what_partners_and_3pls_lay_down_is_refused_whole(
    door: Callable[[Path], Callable[[bytes], Any]], row: dict[str, str], settings: Any, tmp_path: Path
) -> None:
    settings.HOME = tmp_path
    take, before = door(tmp_path), written()
    for name, (data, _) in files(row).items():
        with pytest.raises(UserError) as refused:
            take(data)
        assert refused.value.field == "file" and refused.value.message.startswith("file: "), name
    assert written() == before
    assert not ChannelFile.objects.exists()
    assert not ThreePLFile.objects.exists() and not ThreePLMessage.objects.exists()


@pytest.mark.parametrize("char", ["\u202e", "\u200b", "\ufeff", "\x01", "\u2028"])
def test_a_sku_code_holds_nothing_that_nobody_sees(char: str) -> None:
    """It would look like MUG and be another SKU."""
    code = f"MU{char}G"
    found = masterfiles.load(SkuResource, text({"code": code, "title": "Mug"}), actor=SYSTEM, dry_run=False)
    assert [(one.row, one.column) for one in found.wrong] == [(2, "code")]
    assert f"Character 3 is invisible (U+{ord(char):04X})" in found.wrong[0].message
    api = APIClient()
    _, secret = tokens.issue(make_user("olga"), "test", sorted(SCOPES), actor=SYSTEM)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    answer = api.post("/api/v1/skus/", {"code": code, "product": Sku.objects.get().product_id})
    assert answer.status_code == 400 and "/code" in answer.content.decode(), answer.content
    assert list(Sku.objects.values_list("code", flat=True)) == ["MUG"]
