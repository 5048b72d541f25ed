"""A 3PL that reads and writes CSV files: one order file per run, files taken whole or not at all, once."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fulfillment import routing_service, shipments
from fulfillment.models import HandOff, Shipment, ThreePLAccount, ThreePLFile
from fulfillment.threepl import accounts, files, handoff, inbox
from inventory.models import Sku, StockDifference, StockLevel, Warehouse
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.models import ExceptionItem
from oms.orders import intake, services
from oms.orders.drafts import ContactDraft
from tests.factories import add_stock, line_draft, make_channel, make_sku, make_warehouse, order_draft

pytestmark = pytest.mark.django_db


class Paper:
    """The account, its warehouse with ten mugs, and a way to order them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.warehouse: Warehouse = make_warehouse("OHIO", kind="3pl", address1="1 Dock", city="Columbus")
        self.sku: Sku = make_sku("MUG", weight_g=380, length_mm=110, width_mm=110, height_mm=105)
        add_stock(self.sku, self.warehouse, 10)
        self.channel = make_channel("shop", self.warehouse)
        self.account: ThreePLAccount = accounts.connect(
            code="paper", name="Paper 3PL", warehouse_id=self.warehouse.pk, kind="csv", actor=SYSTEM
        )
        assert accounts.test(self.account.pk, actor=SYSTEM).ok

    def planned(self, quantity: int = 2, name: str = "Ana Maria Ruiz") -> HandOff:
        contact = ContactDraft(
            name=name, address1="1 Main St", city="Austin", region="TX", postal_code="78701", country="US"
        )
        [taken] = intake.take(
            [order_draft(line_draft(self.sku, quantity), contact=contact)],
            channel=self.channel, actor=SYSTEM, source="webhook",
        )  # fmt: skip
        assert taken.order_id is not None
        routing_service.route(taken.order_id, actor=SYSTEM)
        handoff.plan(self.account.pk, actor=SYSTEM)
        return HandOff.objects.get(shipment__order=taken.order_id)

    def written(self) -> ThreePLFile:
        file = files.write_orders(self.account.pk, actor=SYSTEM)
        assert file is not None
        return file

    def take(self, *lines: str, name: str = "in.csv") -> ThreePLFile:
        file = files.take(self.account.pk, name, "\n".join(lines).encode(), actor=SYSTEM)
        inbox.drain(self.account.pk)
        return file

    def on_hand(self) -> int:
        return StockLevel.objects.get(sku=self.sku, warehouse=self.warehouse).on_hand


@pytest.fixture
def paper(settings: Any, tmp_path: Path) -> Paper:
    settings.HOME = tmp_path
    return Paper(tmp_path)


def rows_of(file: ThreePLFile) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.content)))


def test_one_order_file_per_run_that_no_spreadsheet_executes(
    paper: Paper, assert_invariants: Callable[[], None]
):
    first, second = paper.planned(2), paper.planned(3, name='=HYPERLINK("http://x")')
    file = paper.written()
    assert (file.name, file.rows) == ("paper-orders-000001.csv", 2)
    assert [(row["action"], row["reference"], row["sku"], row["quantity"]) for row in rows_of(file)] == [
        ("order", first.reference, "MUG", "2"), ("order", second.reference, "MUG", "3"),
    ]  # fmt: skip
    assert rows_of(file)[1]["name"] == '\'=HYPERLINK("http://x")'
    first.refresh_from_db()
    assert (first.state, first.file_id) == ("sent", file.pk)
    assert files.write_orders(paper.account.pk, actor=SYSTEM) is None
    paper.account.refresh_from_db()
    assert paper.account.files_written == 1
    assert files.drop(paper.account) == 1 and files.drop(paper.account) == 0
    laid = paper.home / "threepl" / "paper" / "out" / file.name
    assert laid.read_bytes().decode() == ThreePLFile.objects.get(pk=file.pk).content
    assert_invariants()


def test_a_crash_while_writing_leaves_everything_planned(paper: Paper, monkeypatch: pytest.MonkeyPatch):
    given = paper.planned(2)

    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "record", killed)
    with pytest.raises(KeyboardInterrupt):
        files.write_orders(paper.account.pk, actor=SYSTEM)
    monkeypatch.undo()
    given.refresh_from_db()
    assert given.state == "planned" and not ThreePLFile.objects.exists()
    assert paper.written().rows == 1


def test_acknowledged_and_shipped_by_files(paper: Paper, assert_invariants: Callable[[], None]):
    given = paper.planned(3)
    paper.written()
    paper.take("reference,status,order_id", f"{given.reference},accepted,P-77")
    given.refresh_from_db()
    assert (given.state, given.external_id) == ("acknowledged", "P-77")
    at = now().isoformat()
    head = "Shipment ID;Reference;SKU;Quantity;Carrier;Tracking;Shipped at"
    paper.take(
        head,
        f"X1;{given.reference};MUG;1;UPS;1Z1;{at}",
        f"X1;{given.reference};MUG;1;UPS;1Z2;{at}",
        name="s.csv",
    )
    part = Shipment.objects.exclude(pk=given.shipment_id).get()
    assert part.parcels.count() == 2 and paper.on_hand() == 8
    # a corrected file repeats what was told: only what is new counts
    paper.take(
        head, f"X1;{given.reference};MUG;1;UPS;1Z1;{at}", f"X1;{given.reference};MUG;1;UPS;1Z2;{at}",
        f"X2;{given.reference};MUG;1;UPS;1Z3;{at}", name="s2.csv",
    )  # fmt: skip
    given.refresh_from_db()
    assert given.state == "shipped" and paper.on_hand() == 7
    assert not ExceptionItem.objects.filter(closed_at=None).exists()
    assert_invariants()


def test_a_cancellation_goes_out_with_the_next_file(paper: Paper, assert_invariants: Callable[[], None]):
    given = paper.planned(2)
    paper.written()
    services.cancel_lines(given.shipment.order_id, reason="buyer", actor=SYSTEM)
    shipments.trim(given.shipment.order_id, actor=SYSTEM)
    handoff.follow(given.shipment.order_id, actor=SYSTEM)
    [row] = rows_of(paper.written())
    assert (row["action"], row["reference"], row["line"], row["quantity"]) == (
        "cancel",
        given.reference,
        "1",
        "2",
    )
    paper.take("reference,status,cancel_key", f"{given.reference},cancelled,{row['cancel_key']}")
    given.refresh_from_db()
    assert given.state == "cancelled"
    assert_invariants()


def test_the_same_file_twice_does_nothing(paper: Paper):
    lines = ("adjustment_id,sku,quantity,reason,adjusted_at", f"A1,MUG,-2,broken,{now().isoformat()}")
    paper.take(*lines)
    with pytest.raises(Conflict, match="this very file was taken on"):
        paper.take(*lines, name="again.csv")
    assert paper.on_hand() == 8


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (("reference,status", "S-404,accepted"), [2, "reference", "reference: 'S-404' was never given to this 3PL."]),
        (("adjustment_id,sku,quantity,reason,adjusted_at", "A1,MUG,-1,x,{at}", "A2,MUG,two,x,{at}"),
         [3, "quantity", "quantity: 'two' is not a whole number."]),
        (("adjustment_id,sku,quantity,reason,adjusted_at", "A1,NONE,-1,x,{at}"),
         [2, "sku", "sku: there is no SKU 'NONE'."]),
        (("sku,on_hand,taken_at", "MUG,,{at}"), [2, "on_hand", "on_hand: '' is not a whole number."]),
        (("sku,on_hand,taken_at", "MUG,-4,{at}"), [2, "on_hand", "on_hand: -4 is not between 0 and 1000000000."]),
        (("sku,on_hand,taken_at", "MUG,4,{at}", "mug,5,{at}"), [3, "sku", "sku: mug stands in row 2 already."]),
        (("sku,on_hand,taken_at", "MUG,4,{at}", "X,5,2026-01-01T00:00:00Z"),
         [3, "taken_at", "taken_at: all rows of a file must name one time."]),
    ],
)  # fmt: skip
def test_a_wrong_file_changes_nothing_and_names_row_and_column(
    paper: Paper, lines, problem, assert_invariants
):
    at = now().isoformat()
    file = paper.take(*(line.format(at=at) for line in lines))
    assert not file.accepted and file.problems == [problem]
    assert paper.on_hand() == 10 and not StockDifference.objects.exists()
    assert ExceptionItem.objects.get(closed_at=None).kind == "threepl_file"
    assert list(files.report(file))[1].startswith(f"{problem[0]},{problem[1]},")
    # mended under the same name it is taken
    paper.take("sku,on_hand,taken_at", f"MUG,10,{at}")
    assert_invariants()


def test_a_file_that_fits_nothing(paper: Paper):
    with pytest.raises(UserError, match="its columns fit no known file"):
        paper.take("a,b", "1,2")
    with pytest.raises(UserError, match="no rows"):
        paper.take("sku,on_hand,taken_at")
    with pytest.raises(UserError, match="on_hand is there twice"):
        paper.take("sku,on_hand,on_hand,taken_at", "MUG,1,2,x")


def test_figures_by_file_open_a_difference(paper: Paper, assert_invariants: Callable[[], None]):
    paper.take("SKU,On hand,Damaged,Taken at", f"MUG,7,1,{now().isoformat()}")
    row = StockDifference.objects.get()
    assert (row.theirs, row.theirs_unfit, row.ours, paper.on_hand()) == (7, 1, 10, 10)
    assert_invariants()


def test_the_watched_folder(paper: Paper, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "SETTLED", 0.0)
    place = files.folder(paper.account, "in")
    good = f"adjustment_id,sku,quantity,reason,adjusted_at\nA1,MUG,-2,broken,{now().isoformat()}\n"
    for name, text in (
        ("a.csv", good),
        ("b.csv", good),
        ("bad.csv", f"sku,on_hand,taken_at\nMUG,x,{now().isoformat()}\n"),
        ("c.bin", "\0\n"),
    ):
        (place / name).write_text(text)
        os.utime(place / name, (1, 1))
    (place / "new.csv").write_text(good[:-5])  # a transfer that stalled in the middle of a line
    os.symlink("/etc/passwd", place / "link.csv")
    assert files.watch() == 4
    inbox.drain(paper.account.pk)
    assert paper.on_hand() == 8
    assert sorted(path.name for path in place.iterdir()) == ["link.csv", "new.csv"]
    assert [path.name.split("-", 1)[1] for path in sorted(files.folder(paper.account, "done").iterdir())] == [
        "a.csv", "b.csv",
    ]  # fmt: skip
    failed = {path.name.split("-", 1)[1]: path for path in files.folder(paper.account, "failed").iterdir()}
    assert set(failed) == {"bad.csv", "bad.csv.errors.csv", "c.bin", "c.bin.errors.csv"}
    assert "2,on_hand,on_hand: 'x' is not a whole number." in failed["bad.csv.errors.csv"].read_text()
    assert files.watch() == 0


def test_a_file_that_was_just_written_waits_whatever_time_it_claims(paper: Paper):
    path = files.folder(paper.account, "in") / "a.csv"
    path.write_text("adjustment_id,sku,quantity,reason,adjusted_at\n")
    os.utime(path, (1, 1))  # a transfer that keeps the file's own time
    assert files.watch() == 0 and path.exists()


@pytest.mark.parametrize(
    "name", [b"\xff.csv", "漢".encode() * 80 + b".csv", b"x" * 251 + b".csv", b"a\nb.csv"], ids=ascii
)
def test_no_name_of_a_file_keeps_back_the_others(paper: Paper, monkeypatch: pytest.MonkeyPatch, name: bytes):
    monkeypatch.setattr(files, "SETTLED", 0.0)
    place = files.folder(paper.account, "in")
    for odd, text in ((name, "what is this\n"), (b"0" + name[1:], "sku,on_hand,taken_at\nMUG,x,y\n")):
        with open(os.path.join(os.fsencode(place), odd), "w") as file:
            file.write(text)
    (place / "zz.csv").write_text(
        f"adjustment_id,sku,quantity,reason,adjusted_at\nA1,MUG,-2,broken,{now().isoformat()}\n"
    )
    assert files.watch() == 3 and not list(place.iterdir())
    inbox.drain(paper.account.pk)
    assert paper.on_hand() == 8


def test_a_row_that_breaks_off_is_named(paper: Paper):
    file = paper.take(
        "reference,shipment_id,tracking,sku,quantity,shipped_at", f"{paper.planned().reference},X1"
    )
    assert file.problems and not file.accepted


def test_a_link_laid_where_we_write_is_not_followed(paper: Paper):
    victim = paper.home / "precious"
    victim.write_text("keys")
    paper.planned(2)
    file = paper.written()
    place = files.folder(paper.account, "out")
    os.symlink(victim, (place / file.name).with_suffix(".part"))
    assert files.drop(paper.account) == 1
    assert victim.read_text() == "keys" and not (place / file.name).is_symlink()
