"""A partner who exchanges files: orders in, stock and shipments out, whoever is killed and whatever is in a file."""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import io
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from channels import accounts, drift, filedrop, sync, tasks
from channels.connectors.base import Access, ChannelError, PushItem
from channels.connectors.files import folder as folders
from channels.connectors.files import formats
from channels.connectors.files.client import Files
from channels.connectors.files.folder import Folder
from channels.models import BulkPush, ChannelAccount, ChannelEffect, ChannelFile, Drift, Listing
from channels.session import drive
from inventory.models import Sku, Warehouse
from oms.core import clock, outbox
from oms.core.actor import SYSTEM
from oms.core.errors import Conflict, UserError
from oms.core.models import ExceptionItem
from oms.core.uploads import read_table
from oms.orders.models import Order
from returns.models import Rma
from tests.channels.conftest import SKUS, push_all
from tests.channels.test_effects import shipped
from tests.factories import add_stock, make_channel, make_user

ORDERS = """\
Order No,Order Date,Status,SKU,Qty,Unit Price,Currency,Ship To Name,Address,City,Zip,Country
1001,2026-11-20 10:00,paid,MUG,2,10.00,USD,Ada Brooks,12 Oak St,Boston,02108,US
1002,2026-11-20 11:00,new,BOWL,1,8.50,USD,Ben Cole,1 Elm St,Reno,89501,US
1001,2026-11-20 10:00,paid,TRAY,1,4.00,USD,Ada Brooks,12 Oak St,Boston,02108,US
"""


def settings_of(text: str = ORDERS) -> dict[str, Any]:
    sample = filedrop.sample_of(text.encode())
    return formats.propose(sample.header, sample.rows, {}).orders


class Partner:
    """The other side: lays files into `in`, fetches from `out`."""

    def __init__(self, account: ChannelAccount) -> None:
        self.account = account
        self.root = Folder(account.config["folder"]).root

    def drop(self, name: str, text: str | bytes) -> Path:
        path = self.root / "in" / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def names(self, part: str = "out") -> list[str]:
        return sorted(one for one in os.listdir(self.root / part) if not one.startswith("."))

    def fetch(self, start: str) -> list[dict[str, str]]:
        """Read the newest file of a name and take it away."""
        name = [one for one in self.names() if one.startswith(start)][-1]
        path = self.root / "out" / name
        text = path.read_text()
        path.unlink()
        return list(csv.DictReader(io.StringIO(text)))

    def collect(self) -> dict[str, int]:
        return filedrop.collect(self.account.pk)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "SETTLED", 0.0)
    monkeypatch.setattr("channels.pushing.REPLACE_AFTER", dt.timedelta(0))


def connect(warehouse: Warehouse | None, **config: Any) -> Partner:
    account = accounts.connect(
        connector="files", name="Acme", code="acme", prefix="AC",
        config={"folder": "acme", "orders": settings_of(), **config}, credentials={},
        warehouse_ids=[warehouse.pk] if warehouse else [], actor=SYSTEM,
    )  # fmt: skip
    tested = accounts.test(account.pk, actor=SYSTEM)
    assert tested.ok, tested.message
    return Partner(account)


@pytest.fixture
def home(settings: Any, tmp_path: Path) -> Iterator[Path]:
    settings.HOME = tmp_path
    yield tmp_path


@pytest.fixture
def partner(home: Path, stock: tuple[Warehouse, dict[str, Sku]]) -> Partner:
    found = connect(stock[0])
    filedrop.take(
        found.account.pk, "listings.csv", b"sku,title\nMUG,Mug\nBOWL,Bowl\nTRAY,Tray\n", actor=SYSTEM
    )
    accounts.import_listings(found.account.pk, actor=SYSTEM)
    return found


# --- pure ------------------------------------------------------------------------------------------


def test_columns_are_proposed_from_a_sample() -> None:
    found = settings_of()
    assert found["columns"] == {
        "id": "Order No", "placed_at": "Order Date", "status": "Status", "line_sku": "SKU", "line_quantity": "Qty",
        "line_price": "Unit Price", "currency": "Currency", "name": "Ship To Name", "address1": "Address",
        "city": "City", "postal_code": "Zip", "country": "Country",
    }  # fmt: skip
    assert found["statuses"] == {"paid": "open", "new": "open"}
    assert formats.gaps(found) == []


def test_a_shopify_export_is_known_and_fields_of_the_first_row_count_for_its_order() -> None:
    text = (
        "Name,Email,Financial Status,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,"
        "Shipping Name,Shipping Address1,Currency,Total,Shipping,Cancelled at,Id\n"
        "#1001,a@example.com,paid,2026-11-20 10:00:00 -0500,2,Mug,10.00,MUG,Ada,12 Oak,USD,29.00,5.00,,77\n"
        "#1001,,,,1,Tray,4.00,TRAY,,,,,,,\n"
        "#1002,b@example.com,paid,2026-11-20 10:00:00 -0500,1,Mug,10.00,MUG,Ben,1 Elm,USD,10.00,0,"
        "2026-11-21 09:00:00 -0500,78\n"
    )
    orders = settings_of(text)
    read = formats.read(read_table(text.encode()), "orders.csv", orders, clock.now())
    assert read.bad == {}
    first, second = read.drafts
    assert (first.external_id, first.status, len(first.lines), str(first.total)) == (
        "#1001",
        "open",
        2,
        "29.00",
    )
    assert first.placed_at == dt.datetime(2026, 11, 20, 15, 0, tzinfo=dt.UTC)
    assert first.contact is not None and first.contact.name == "Ada"
    assert second.status == "cancelled" and second.lines[0].cancelled == 1


@pytest.mark.parametrize(
    ("texts", "way", "doubt"),
    [
        (["2026-11-20"], "iso", False), (["11/20/2026", "11/02/2026"], "mdy", False), (["20/11/2026"], "dmy", False),
        (["02.11.2026 10:00"], "dmy", False), (["02/11/2026"], "mdy", True), ([], "iso", False),
    ],
)  # fmt: skip
def test_how_dates_are_written_is_told_by_the_values(texts: list[str], way: str, doubt: bool) -> None:
    found, words = formats._dates(texts)
    assert (found, bool(words)) == (way, doubt)


def test_dates_amounts_and_tabs_of_other_countries() -> None:
    text = "Order No\tOrder Date\tSKU\tQty\tPrice\n1\t20.11.2026 18:30\tMUG\t2\t1.234,50\n2\t20.13.2026\tMUG\t1\t1,00\n"
    orders = {**settings_of(text), "fixed_currency": "EUR"}
    read = formats.read(read_table(text.encode()), "o.csv", orders, clock.now())
    assert (orders["dates"], orders["money"]) == ("dmy", "comma")
    assert str(read.drafts[0].lines[0].unit_price) == "1234.50"
    assert read.drafts[0].placed_at == dt.datetime(2026, 11, 20, 18, 30, tzinfo=dt.UTC)
    assert read.bad == {3: ("Order Date", "'20.13.2026' is not a date with the day first.")}


def test_one_wrong_row_refuses_its_order_and_no_other() -> None:
    text = ORDERS.replace("TRAY,1,4.00", "TRAY,minus,4.00") + "1003,gestern,paid,MUG,1,1,USD,,,,,\n"
    text += "1004,2026-11-20,odd,MUG,1,1,USD,,,,,\n1005,2026-11-20,paid,MUG,1,1,USD,,,,,,surplus\n"
    text += ",2026-11-20,paid,MUG,1,1,USD,,,,,\n1006,2026-11-20,paid,,1,1,USD,,,,,\n"
    text += "1007,2026-11-20,paid,MUG,0,1,USD,,,,,\n"
    read = formats.read(read_table(text.encode()), "orders.csv", settings_of(), clock.now())
    assert [draft.external_id for draft in read.drafts] == ["1002"]
    assert set(read.bad) == {2, 4, 5, 6, 7, 8, 9, 10}
    assert read.bad[4] == ("Qty", "Qty: 'minus' is not a whole number of units.")
    assert read.bad[2] == ("", "left out with row 4 of the same order.")
    assert "not a time" in read.bad[5][1] and "no meaning yet" in read.bad[6][1]
    assert (
        "more cells" in read.bad[7][1] and "is empty" in read.bad[8][1] and "SKU is empty" in read.bad[9][1]
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"), (b"\x00\x01\x02", "not a text file"), (b"PK\x03\x04zip", "damaged"), (b"%PDF-1.7", "PDF"),
        (b"a,b\n1,2\n", "column 'Order No' is missing"), (ORDERS.splitlines()[0].encode(), "no rows"),
        (b"x" * (11 * 1024 * 1024), "at most 10 MB"), (("a," * 400 + "\n").encode(), "columns"),
        (b"Order No,Order Date,SKU,Qty,Qty\n1,2,3,4,5\n", "twice"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_gets_a_sentence(data: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        formats.read(read_table(data), "orders.csv", settings_of(), clock.now())


def test_a_character_that_cannot_be_read_refuses_its_row() -> None:
    text = ORDERS.replace("Ada Brooks", "Ada Bro\ufffdks")
    read = formats.read(read_table(text.encode()), "orders.csv", settings_of(), clock.now())
    assert [draft.external_id for draft in read.drafts] == ["1002"] and "UTF-8" in read.bad[2][1]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"folder": "../etc"}, "folder"), ({"folder": ""}, "folder"), ({"folder": "A B"}, "folder"),
        ({"fetched": "maybe"}, "fetched"), ({"content": "all"}, "content"),
        ({"stock": {"name": "../a.csv", "columns": [["sku", "{sku}"], ["q", "{quantity}"]]}}, "stock_name"),
        ({"stock": {"name": "a.csv", "columns": [["sku", "{sku}"]]}}, "stock"),
        ({"stock": {"name": "a.csv", "columns": [["sku", "{sku}"], ["q", "{tracking}"]]}}, "stock"),
        ({"stock": {"name": "a.csv", "columns": [["sku", "{sku}"], ["SKU", "{quantity}"]]}}, "stock"),
        ({"shipments": {"name": "s.csv", "columns": [["o", "{order_id}"]]}}, "shipments"),
        ({"shipments": {**formats.SHIP_PRESETS["plain"][1], "name": "stock.txt"}}, "shipments_name"),
        ({"orders": {"columns": {"odd": "X"}}}, "columns"), ({"orders": {"dates": "x"}}, "dates"),
        ({"orders": {"statuses": {"paid": "eaten"}}}, "statuses"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(config: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError) as caught:
        Files().check_config({"folder": "acme", **config})
    assert caught.value.field == field


@pytest.mark.parametrize("preset", list(formats.STOCK_PRESETS))
def test_every_stock_format_is_written_and_read_back(preset: str) -> None:
    spec = formats.STOCK_PRESETS[preset][1]
    assert Files().check_config({"folder": "acme", "stock": spec})["stock"]["name"] == spec["name"]
    text = formats.table_text(spec, formats.stock_rows({"L1": ["MUG", 7], "L2": ["=cmd()", 0]}))
    back = formats.quantities_of(spec, read_table(text.encode()))
    assert back["{sku}", "MUG"] == 7 and back["{sku}", "=cmd()"] == 0
    assert "\n=cmd" not in text and "\t=cmd" not in text  # no spreadsheet computes it


# --- the way of an order ---------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_order_in_stock_out_parcel_out(partner: Partner, assert_invariants: Callable[[], None]) -> None:
    account = partner.account
    assert Listing.objects.filter(account=account, sku__isnull=False).count() == 3
    push_all()
    (first,) = partner.names()
    assert first.startswith("stock-") and Listing.objects.filter(stale_since__isnull=False).count() == 3
    assert {row["sku"]: row["quantity"] for row in partner.fetch("stock")} == dict.fromkeys(SKUS, "50")
    tasks.watch_files("")
    assert set(Listing.objects.values_list("acked_quantity", "stale_since")) == {(50, None)}

    partner.drop("orders-1.csv", ORDERS)
    assert partner.collect() == {"taken": 1, "refused": 0, "waiting": 0}
    order = Order.objects.get(external_id="1001")
    assert list(order.lines.order_by("pk").values_list("external_id", "sku__code", "reserved")) == [
        ("MUG", "MUG", 2), ("TRAY", "TRAY", 1),
    ]  # fmt: skip
    assert order.contact.data["name"] == "Ada Brooks" and Order.objects.count() == 2
    assert partner.names("in") == [] and len(partner.names("done")) == 1
    push_all()
    assert {row["sku"]: row["quantity"] for row in partner.fetch("stock")} == {
        "MUG": "48",
        "BOWL": "49",
        "TRAY": "49",
    }
    tasks.watch_files("")
    assert dict(Listing.objects.values_list("external_sku", "acked_quantity")) == {
        "MUG": 48,
        "BOWL": 49,
        "TRAY": 49,
    }

    shipped(order)
    while outbox.drain():
        pass
    for _ in range(3):
        ChannelEffect.objects.update(next_attempt_at=clock.now(), lease_until=None)
        tasks.drain_effects(str(account.pk))
    assert ChannelEffect.objects.get(kind="ship").state == "confirmed"
    rows = partner.fetch("shipments-")
    assert [(row["order_number"], row["sku"], row["quantity"]) for row in rows] == [
        ("1001", "MUG", "2"), ("1001", "TRAY", "1"),
    ]  # fmt: skip
    assert rows[0]["tracking_number"] == "1Z999AA10123456784" and rows[0]["carrier"] == "UPS"
    push_all()
    assert_invariants()


@pytest.mark.django_db(transaction=True)
def test_a_file_that_waits_is_replaced_by_a_newer_one(
    partner: Partner, stock: tuple[Warehouse, dict[str, Sku]]
) -> None:
    push_all()
    (first,) = partner.names()
    add_stock(stock[1]["MUG"], stock[0], 5)
    push_all()
    assert partner.names() == [first]  # not by the pusher: the file is one, and it lies there
    tasks.watch_files("")
    push_all()
    (second,) = partner.names()
    assert second > first
    assert {row["sku"]: row["quantity"] for row in partner.fetch("stock")} == {
        "MUG": "55",
        "BOWL": "50",
        "TRAY": "50",
    }
    tasks.watch_files("")
    assert dict(Listing.objects.values_list("external_sku", "acked_quantity")) == {
        "MUG": 55,
        "BOWL": 50,
        "TRAY": 50,
    }
    assert sorted(BulkPush.objects.values_list("state", flat=True)) == ["done", "failed"]
    tasks.watch_files("")
    push_all()
    assert partner.names() == []  # nothing changed, nothing is written


@pytest.mark.django_db(transaction=True)
def test_a_file_under_one_name_counts_when_written_and_is_healed_when_edited(
    home: Path, stock: tuple[Warehouse, dict[str, Sku]]
) -> None:
    partner = connect(stock[0], fetched="no", stock=formats.STOCK_PRESETS["linnworks"][1])
    assert filedrop.offer_all(partner.account.pk, actor=SYSTEM) == 3
    accounts.import_listings(partner.account.pk, actor=SYSTEM)
    push_all()
    assert partner.names() == ["stock-levels.csv"]
    path = partner.root / "out" / "stock-levels.csv"
    assert path.read_text().splitlines()[:2] == ["SKU,Stock Level,Location", "BOWL,50,Default"]
    assert set(Listing.objects.values_list("acked_quantity", flat=True)) == {50}
    path.write_text(path.read_text().replace("MUG,50", "MUG,70"))
    Listing.objects.update(acked_at=clock.now() - dt.timedelta(hours=2))
    drift.read_back(partner.account.pk, list(Listing.objects.all()))
    assert Drift.objects.get().theirs == 70
    push_all()
    assert "MUG,50" in path.read_text()


@pytest.mark.django_db(transaction=True)
def test_changes_only_hold_what_changed(home: Path, stock: tuple[Warehouse, dict[str, Sku]]) -> None:
    partner = connect(stock[0], fetched="no", content="changes")
    filedrop.offer_all(partner.account.pk, actor=SYSTEM)
    accounts.import_listings(partner.account.pk, actor=SYSTEM)
    push_all()
    assert len(partner.fetch("stock-")) == 3
    add_stock(stock[1]["BOWL"], stock[0], 1)
    push_all()
    assert partner.fetch("stock-") == [{"sku": "BOWL", "quantity": "51"}]


@pytest.mark.django_db(transaction=True)
def test_cancellations_and_returns_come_in_files(partner: Partner) -> None:
    partner.drop("a.csv", ORDERS)
    partner.collect()
    words = {**partner.account.config["orders"]["statuses"], "cancelled": "cancelled"}
    accounts.set_config(
        partner.account.pk, {"orders": {**partner.account.config["orders"], "statuses": words}}, actor=SYSTEM
    )
    lines = ORDERS.splitlines()
    partner.drop("b.csv", "\n".join([lines[0], lines[2].replace("new", "cancelled")]) + "\n")
    partner.collect()
    assert Order.objects.get(external_id="1002").state == "cancelled"
    shipped(Order.objects.get(external_id="1001"))
    returns = (
        "Return ID,Order No,SKU,Qty,Reason\nR-1,1001,MUG,1,broken\nR-2,9999,MUG,1,x\nR-3,1001,NOPE,1,x\n"
    )
    partner.drop("returns.csv", returns)
    assert partner.collect()["refused"] == 1
    rma = Rma.objects.get()
    assert (rma.external_id, rma.order.external_id, rma.lines.get().quantity) == ("R-1", "1001", 1)
    file = ChannelFile.objects.get(kind="returns")
    assert (file.taken, file.refused) == (1, 2)
    assert [one[2] for one in file.problems] == ["there is no order '9999'.", "the order holds no 'NOPE'."]


# --- twice, half, and in the middle ----------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_same_file_twice_is_nothing_twice(partner: Partner) -> None:
    partner.drop("a.csv", ORDERS)
    partner.collect()
    Order.objects.filter(external_id="1002").update(external_number="touched")
    partner.drop("again.csv", ORDERS)
    assert partner.collect()["taken"] == 1
    assert Order.objects.count() == 2 and ChannelFile.objects.filter(kind="orders").count() == 1
    assert Order.objects.get(external_id="1002").external_number == "touched"
    with pytest.raises(Conflict, match=r"taken on .* as a\.csv"):
        filedrop.take(partner.account.pk, "a.csv", ORDERS.encode(), actor=SYSTEM)


@pytest.mark.django_db(transaction=True)
def test_a_half_written_file_is_not_taken(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "SETTLED", 15.0)
    path = partner.drop("a.csv", ORDERS)
    os.utime(path, (1, 1))  # a transfer that keeps the file's own time
    assert partner.collect() == {"taken": 0, "refused": 0, "waiting": 1}
    monkeypatch.setattr(folders, "SETTLED", 0.0)
    partner.drop("a.csv", ORDERS[:-30])  # it stalled in the middle of a line
    partner.drop(".hidden.csv", ORDERS)
    partner.drop("b.csv.part", ORDERS)
    assert partner.collect() == {"taken": 0, "refused": 0, "waiting": 1} and not Order.objects.exists()
    monkeypatch.setattr(folders, "UNENDED", 0.0)
    assert partner.collect()["taken"] == 1 and Order.objects.count() == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", ["channels.filedrop.ChannelFile.objects.create", "channels.filedrop.book"])
def test_killed_in_the_middle_of_a_file(partner: Partner, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    class Killed(BaseException):
        pass

    real = filedrop.book
    partner.drop("a.csv", ORDERS)
    with monkeypatch.context() as patched:

        def killed(*args: Any, **kwargs: Any) -> Any:
            if step.endswith("book"):
                real(*args, **kwargs)  # the orders are in, the process dies before it can say so
            raise Killed

        patched.setattr(step, killed)
        with pytest.raises(Killed):
            partner.collect()
    assert Order.objects.count() == 2 and partner.names("in") == ["a.csv"]
    before = set(Order.objects.values_list("pk", "version"))
    assert partner.collect()["taken"] == 1
    assert {pk for pk, _ in before} == set(Order.objects.values_list("pk", flat=True))
    assert sorted(Order.objects.values_list("lines__reserved", flat=True)) == [1, 1, 2]


def _access(**config: Any) -> Access:
    return Access(7, "files", "files:7", Files().check_config({"folder": "acme", **config}), {}, {})


def _item(quantity: int, number: int = 1) -> PushItem:
    return PushItem(number, f"L{number}", f"S{number}", "", quantity, "k")


def test_killed_while_a_stock_file_is_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the rename nothing is there, after it the whole file is; the next one holds both and stands alone."""
    access, place, port = _access(), Folder("acme"), Files()

    class Killed(BaseException):
        pass

    def killed(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(folders.os, "replace", killed)
        with pytest.raises(Killed):
            drive(port.push_bulk(access, [_item(5)]))
    assert place.waiting() == []
    with monkeypatch.context() as patched:
        patched.setattr(Folder, "remember", killed)
        with pytest.raises(Killed):
            drive(port.push_bulk(access, [_item(5)]))
    assert len(place.waiting()) == 1
    name = drive(port.push_bulk(access, [_item(4), _item(9, 2)]))
    assert [one.name for one in place.waiting()] == [name]
    assert (place.root / "out" / name).read_bytes() == b"sku,quantity\r\nS1,4\r\nS2,9\r\n"
    assert drive(port.bulk_result(access, name, [_item(4)])) is None
    os.rename(place.root / "out" / name, place.root / "done" / name)
    (answer,) = drive(port.bulk_result(access, name, [_item(4)])) or []
    assert answer.failure is None
    assert place.memory()["shown"] == {"L1": ["S1", 4], "L2": ["S2", 9]}


@pytest.mark.parametrize("moment", ["part", "mark", "rename", "after"])
def test_a_parcel_is_told_once_whoever_is_killed_when(
    home: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    place = Folder("acme")
    place.ensure()

    class Killed(BaseException):
        pass

    lives = {"part": 0, "mark": 0, "rename": 1, "after": 2}[moment]
    real, renamed = os.replace, itertools.count()

    def rename(*args: Any) -> None:
        if next(renamed) >= lives:
            raise Killed
        real(*args)

    def cut_off(path: Path, text: str) -> None:
        path.touch()
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(folders.os, "replace", rename)
        patched.setattr(Path, "write_text", cut_off)
        if moment == "part":
            patched.setattr(
                Folder, "_write", lambda place, name, text: cut_off(place.root / ".work" / name, text)
            )
        with contextlib.suppress(Killed):
            place.tell_once("77", "ship-77.csv", "a\n")
    assert place.was_told("77") == (moment in ("rename", "after"))
    place.tell_once("77", "ship-77.csv", "a\n")
    assert place.was_told("77") and (place.root / "out" / "ship-77.csv").read_text() == "a\n"
    place.take_back("ship-77.csv")  # fetched
    place.tell_once("77", "ship-77.csv", "a\n")
    assert place.was_told("77") and not place.lies_there("ship-77.csv")


# --- hostile ---------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_good_rows_go_in_and_bad_rows_come_back(partner: Partner) -> None:
    partner.drop("a.csv", ORDERS.replace("TRAY,1,4.00", "TRAY,many,4.00"))
    assert partner.collect() == {"taken": 0, "refused": 1, "waiting": 0}
    assert list(Order.objects.values_list("external_id", flat=True)) == ["1002"]
    item = ExceptionItem.objects.get(kind="channel_file")
    assert "2 rows of a.csv" in item.title and "row 4: Qty: 'many' is not a whole number" in item.detail
    (errors,) = [name for name in partner.names("failed") if name.endswith(".errors.csv")]
    text = (partner.root / "failed" / errors).read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["Order No"] for row in rows] == ["1001", "1001"]
    assert rows[0]["error"].startswith("left out with row 4")
    partner.drop(
        "a.csv", text.replace(",many,", ",1,")
    )  # mended and brought again, with the column error in it
    assert partner.collect()["taken"] == 1 and Order.objects.count() == 2
    item.refresh_from_db()
    assert item.closed_at is not None


@pytest.mark.django_db(transaction=True)
def test_what_is_no_file_of_orders_goes_to_failed_with_a_sentence(partner: Partner) -> None:
    for number, data in enumerate(
        (b"\x00\x01", b"a,b\n1,2\n", b"PK\x03\x04", b"", b"x" * (11 * 1024 * 1024))
    ):
        partner.drop(f"bad{number}.csv", data)
    folders_unended = folders.UNENDED
    try:
        folders.UNENDED = 0.0
        assert partner.collect() == {"taken": 0, "refused": 5, "waiting": 0}
    finally:
        folders.UNENDED = folders_unended
    assert partner.names("in") == [] and len(partner.names("failed")) == 5
    details = list(ExceptionItem.objects.filter(kind="channel_file").values_list("detail", flat=True))
    assert len(details) == 5 and all(detail.startswith("file: ") for detail in details)


@pytest.mark.django_db(transaction=True)
def test_a_file_that_breaks_us_stops_no_other(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    real = filedrop.formats.read

    def breaks(table: Any, name: str, *args: Any) -> Any:
        if name == "a.csv":
            raise ZeroDivisionError
        return real(table, name, *args)

    monkeypatch.setattr(filedrop.formats, "read", breaks)
    partner.drop("a.csv", "sku,title\nMUG,Mug\n")
    partner.drop("b.csv", ORDERS)
    assert partner.collect() == {"taken": 1, "refused": 1, "waiting": 0}
    assert Order.objects.count() == 2 and partner.names("in") == []
    item = ExceptionItem.objects.get(kind="channel_file")
    assert "a.csv was not taken" in item.title and "unforeseen error" in item.detail

    def gone(*args: Any) -> Any:
        raise OperationalError("the database is gone")

    monkeypatch.setattr(filedrop.formats, "read", gone)
    partner.drop("c.csv", ORDERS.replace("100", "200"))
    with pytest.raises(OperationalError):
        partner.collect()
    assert partner.names("in") == ["c.csv"], "no fault of the file"


@pytest.mark.django_db(transaction=True)
def test_an_account_that_breaks_us_stops_no_other(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ChannelAccount.objects.create(
        sales_channel=make_channel("SECOND"), connector="files", state=ChannelAccount.State.CONNECTED,
        config=partner.account.config,
    ).pk  # fmt: skip
    asked = []

    def pull(account_id: int) -> None:
        asked.append(account_id)
        if account_id == min(partner.account.pk, other):
            raise KeyError("an answer of another shape")

    monkeypatch.setattr(tasks.pulls, "pull_returns", pull)
    with pytest.raises(KeyError):
        tasks.pull_returns("")
    assert asked == sorted([partner.account.pk, other])


@pytest.mark.django_db(transaction=True)
def test_links_and_pipes_of_a_partner_are_never_followed(partner: Partner, home: Path) -> None:
    secret = home / "secret.csv"
    secret.write_text(ORDERS)
    os.symlink(secret, partner.root / "in" / "link.csv")
    os.mkfifo(partner.root / "in" / "pipe.csv")
    (partner.root / "in" / "folder.csv").mkdir()
    assert partner.collect() == {"taken": 0, "refused": 0, "waiting": 0} and not Order.objects.exists()
    target = home / "victim"
    target.write_text("mine")
    os.symlink(target, partner.root / "out" / "stock.csv")
    place = Folder("acme")
    place.lay("stock.csv", "theirs")
    assert target.read_text() == "mine" and (partner.root / "out" / "stock.csv").read_text() == "theirs"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "name", [b"\xff.csv", "漢".encode() * 80 + b".csv", b"x" * 251 + b".csv", b"a\nb.csv"], ids=ascii
)
def test_no_name_of_a_file_keeps_back_the_others(partner: Partner, name: bytes, client: Any) -> None:
    for odd, text in ((name, "what is this\n"), (b"0" + name[1:], ORDERS.replace("MUG,2", "MUG,two"))):
        with open(os.path.join(os.fsencode(partner.root), b"in", odd), "w") as file:
            file.write(text)
    partner.drop("zz.csv", ORDERS)
    client.force_login(make_user("anna"))
    assert client.get("/channels/acme/files/").status_code == 200
    assert partner.collect() == {"taken": 1, "refused": 2, "waiting": 0} and not partner.names("in")
    assert Order.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_file_that_breaks_in_an_unforeseen_way_keeps_back_no_other(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = formats.read

    def read(table: Any, name: str, *args: Any) -> Any:
        if name == "a.csv":
            raise OverflowError("date value out of range")
        return real(table, name, *args)

    monkeypatch.setattr(formats, "read", read)
    partner.drop("a.csv", ORDERS + "\n")
    partner.drop("b.csv", ORDERS)
    assert partner.collect() == {"taken": 1, "refused": 1, "waiting": 0}
    assert Order.objects.count() == 2 and len(partner.names("failed")) == 1
    assert ExceptionItem.objects.filter(kind="channel_file", closed_at=None).count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("date", ["9999-12-31 23:59", "0001-01-01 00:00"])
def test_an_order_at_the_end_of_the_calendar_is_refused_alone(partner: Partner, date: str) -> None:
    partner.drop("a.csv", ORDERS.replace("2026-11-20 11:00", date))
    partner.collect()
    (file,) = ChannelFile.objects.filter(kind="orders")
    assert (file.taken, file.refused) == (1, 1) and "year" in file.problems[0][2]


@pytest.mark.django_db(transaction=True)
def test_a_folder_belongs_to_one_account(partner: Partner) -> None:
    other = accounts.connect(
        connector="files", name="Other", code="other", config={"folder": "acme"}, credentials={}, actor=SYSTEM
    )
    tested = accounts.test(other.pk, actor=SYSTEM)
    assert not tested.ok and "belongs to another channel" in tested.message


@pytest.mark.django_db(transaction=True)
def test_a_disk_that_refuses_is_told_and_loses_nothing(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "_write", full)
        push_all()
        with pytest.raises(ChannelError, match="No space left"):
            drive(Files().push_bulk(_access(), [_item(1)]))
        patched.setattr(Folder, "arrived", full)
        partner.collect()
    assert ExceptionItem.objects.filter(kind="channel_folder").exists()
    assert Listing.objects.filter(stale_since__isnull=False).count() == 3
    Listing.objects.update(next_attempt_at=None)
    sync.sweep(force=True)
    assert len(partner.names()) == 1


@pytest.mark.django_db(transaction=True)
def test_files_that_nobody_fetches_are_told_and_old_ones_cleared_away(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_all()
    (name,) = partner.names()
    os.utime(partner.root / "out" / name, (1, 1))
    partner.collect()
    assert "wait to be fetched" in ExceptionItem.objects.get(kind="channel_unfetched").title
    (partner.root / "done" / "old.csv").write_text("a")
    monkeypatch.setattr(folders, "KEPT_DAYS", -1)
    assert filedrop.tidy() == 1
    assert json.loads((partner.root / ".work" / "memory.json").read_text())["listings"]
