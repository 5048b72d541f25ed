"""W08, U04: no door passes the adjustment limit: no file, no bulk edit, no many calls of the API at once."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from inventory import approvals, bulk, operations
from inventory.models import Sku, StockBatch, StockLevel, StockMovement, Warehouse
from oms.control.models import ImportFile
from oms.core import business, jobs, tokens
from oms.core.actor import SYSTEM
from oms.core.models import ExceptionItem, User
from tests.control.test_import_screens import upload, work
from tests.factories import add_stock, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db


@pytest.fixture
def east() -> Warehouse:
    return make_warehouse("EAST")


@pytest.fixture
def lena(client: Client) -> User:
    """The author; her limit is the common one of 500."""
    user = make_user("lena", role="owner")
    client.force_login(user)
    return user


@pytest.fixture
def omar() -> Client:
    """The second person."""
    second = Client()
    second.force_login(make_user("omar", role="owner"))
    return second


def costly(code: str, east: Warehouse, units: int = 10) -> Sku:
    """A SKU of 100 a piece with stock."""
    sku = make_sku(code, unit_cost=Decimal(100))
    add_stock(sku, east, units)
    return sku


def on_hand(sku: Sku) -> int:
    return StockLevel.objects.get(sku=sku).on_hand


def decide(client: Client, batch: StockBatch, decision: str = "approve") -> str:
    answer = client.post("/stock/approvals/", {"batch": batch.pk, "decision": decision}, follow=True)
    return answer.content.decode()


def rows(*lines: str) -> str:
    return "sku,warehouse,quantity,mode\n" + "".join(f"{line}\n" for line in lines)


def start(client: Client, text: str) -> ImportFile:
    file = upload(client, text, "stock")
    client.post(f"/imports/{file.pk}/apply/")
    file.refresh_from_db()
    return file


def test_a_file_above_the_limit_waits_for_a_second_person(
    client: Client, lena: User, omar: Client, east: Warehouse, assert_invariants: Any
) -> None:
    skus = [costly(f"C-{n}", east) for n in range(3)]
    file = start(client, rows(*(f"{sku.code},EAST,8,set" for sku in skus)))  # 3 × 2 × 100: each row below 500
    batch = StockBatch.objects.get()
    assert (file.state, batch.value, batch.limit, batch.rows) == ("waiting", 600, 500, 3)
    assert (batch.units_in, batch.units_out, batch.places) == (0, 6, ["EAST"])
    assert [on_hand(sku) for sku in skus] == [10, 10, 10]
    assert ExceptionItem.objects.get(kind="adjustment_approval", closed_at__isnull=True).money == 600
    mine = client.get("/stock/approvals/").content.decode()
    assert "Somebody else has to decide" in mine and "10 → 8" in mine
    assert "another person than its author" in decide(client, batch)
    assert StockMovement.objects.filter(key__startswith="import:").count() == 0
    client.post(f"/imports/{file.pk}/apply/")  # again, while it waits
    assert StockBatch.objects.count() == 1
    add_stock(skus[0], east, 5)  # goods arrive while it waits: a count of then takes nothing of them away
    assert "Approved" in decide(omar, batch)
    file.refresh_from_db()
    work(file)
    assert file.state == "applied" and file.job is not None and file.job.state == "done"
    assert [on_hand(sku) for sku in skus] == [13, 8, 8]
    row = StockMovement.objects.get(sku=skus[1], key__startswith="import:")
    assert row.actor == "user:lena", "the ledger names who asked, the batch who approved"
    assert not ExceptionItem.objects.filter(kind="adjustment_approval", closed_at__isnull=True).exists()
    assert omar.post("/stock/approvals/", {"batch": batch.pk, "decision": "refuse"}).status_code == 404
    assert_invariants()


def test_refused_it_goes_back_to_its_check(client: Client, lena: User, omar: Client, east: Warehouse) -> None:
    sku = costly("C-1", east)
    file = start(client, rows("C-1,EAST,2,set"))
    assert "Refused" in decide(omar, StockBatch.objects.get(), "refuse")
    file.refresh_from_db()
    assert (file.state, on_hand(sku)) == ("checked", 10)
    assert "omar refused it" in client.get(f"/imports/{file.pk}/").content.decode()


def test_gains_do_not_offset_losses_and_the_limit_itself_is_free(
    client: Client, lena: User, east: Warehouse
) -> None:
    a, b = costly("C-1", east), costly("C-2", east)
    file = start(client, rows("C-1,EAST,3,add", "C-2,EAST,-3,add"))
    assert file.state == "waiting" and StockBatch.objects.get().value == 600
    file = start(client, rows("C-1,EAST,3,add", "C-2,EAST,-2,add"))
    work(file)
    assert (file.state, on_hand(a), on_hand(b)) == ("applied", 13, 8)


def test_units_that_come_in_at_a_cost_of_their_own_count_at_it(
    client: Client, lena: User, east: Warehouse
) -> None:
    make_sku("FREE", unit_cost=Decimal(0))
    file = start(client, "sku,warehouse,quantity,mode,unit_cost\nFREE,EAST,1,add,9000\n")
    assert file.state == "waiting" and StockBatch.objects.get().value == 9000


def test_a_business_may_count_the_dearest_row(client: Client, lena: User, east: Warehouse) -> None:
    business.put("adjustment_batch", "row")
    for n in range(3):
        costly(f"C-{n}", east)
    file = start(client, rows(*(f"C-{n},EAST,8,set" for n in range(3))))
    assert file.state == "applying"
    work(file)
    assert file.state == "applied"
    assert start(client, rows("C-0,EAST,2,set", "C-1,EAST,9,set")).state == "waiting"


def test_what_grew_after_the_check_stops_at_the_limit(client: Client, lena: User, east: Warehouse) -> None:
    sku = costly("C-1", east)
    file = start(client, rows("C-1,EAST,8,set"))
    assert file.state == "applying"
    add_stock(sku, east, 90)  # the count would take 92 away by now
    work(file)
    assert file.job is not None and "without a second person" in file.job.message
    assert on_hand(sku) == 100
    assert start(client, rows("C-1,EAST,8,set")).state == "waiting", "brought in again it waits"


def test_undoing_is_held_against_the_limit_too(
    client: Client, lena: User, omar: Client, east: Warehouse, assert_invariants: Any
) -> None:
    sku = costly("C-1", east)
    file = start(client, rows("C-1,EAST,2,set"))
    decide(omar, StockBatch.objects.get())
    file.refresh_from_db()
    work(file)
    assert on_hand(sku) == 2
    client.post(f"/imports/{file.pk}/undo/")
    undo = StockBatch.objects.latest("pk")
    assert (undo.kind, undo.value, undo.shown) == ("import_undo", 800, [["C-1", "EAST", 2, 10]])
    assert on_hand(sku) == 2
    client.post(f"/imports/{file.pk}/undo/")
    assert StockBatch.objects.count() == 2, "it waits already"
    decide(omar, undo)
    file.refresh_from_db()
    work(file)
    assert (file.state, on_hand(sku)) == ("undone", 10)
    assert_invariants()


def press(client: Client, **data: Any) -> str:
    wanted = {"form_key": str(uuid.uuid4()), "place": "EAST", **data}
    return client.post("/stock/bulk/", wanted, follow=True).content.decode()


def test_the_bulk_editor_waits_as_one(
    client: Client, lena: User, omar: Client, east: Warehouse, assert_invariants: Any
) -> None:
    skus = [costly(f"C-{n}", east) for n in range(3)]
    key = str(uuid.uuid4())
    data: dict[str, Any] = {"ids": [sku.pk for sku in skus], "action": "set", "value": "8", "reason": "count"}
    assert "above your limit" in press(client, **data, form_key=key)
    press(client, **data, form_key=key)  # a double click
    batch = StockBatch.objects.get()
    assert (batch.value, [on_hand(sku) for sku in skus]) == (600, [10, 10, 10])
    add_stock(skus[2], east, 1)
    decide(omar, batch)
    batch.refresh_from_db()
    assert batch.job is not None
    jobs.run_job(batch.job.pk)
    assert [on_hand(sku) for sku in skus] == [8, 8, 9]
    assert "2 changed" in press(
        client, ids=[sku.pk for sku in skus[:2]], action="add", value="1", reason="found"
    )
    assert_invariants()


def test_one_dear_sku_in_an_approved_batch_is_not_asked_about_again(
    client: Client, lena: User, omar: Client, east: Warehouse
) -> None:
    sku = costly("C-1", east)
    press(client, ids=[sku.pk], action="add", value="-9", reason="lost")
    batch = StockBatch.objects.get()
    decide(omar, batch)
    batch.refresh_from_db()
    assert batch.job is not None
    jobs.run_job(batch.job.pk)
    assert on_hand(sku) == 1


def test_only_who_may_adjust_everywhere_in_it_sees_a_batch(
    client: Client, lena: User, east: Warehouse
) -> None:
    costly("C-1", east)
    make_warehouse("WEST")
    start(client, rows("C-1,EAST,2,set"))
    batch = StockBatch.objects.get()
    client.force_login(make_user("wes", role="owner", warehouses=("WEST",)))
    assert batch.title not in client.get("/stock/approvals/").content.decode()
    assert client.post("/stock/approvals/", {"batch": batch.pk, "decision": "approve"}).status_code == 404
    batch.refresh_from_db()
    assert batch.state == "pending"


def test_two_people_are_a_rule_of_the_database(client: Client, lena: User, east: Warehouse) -> None:
    costly("C-1", east)
    start(client, rows("C-1,EAST,2,set"))
    with pytest.raises(IntegrityError), transaction.atomic():
        StockBatch.objects.update(decided_by=lena)


def test_many_adjustments_of_the_api_wait_when_they_are_above_it_together(
    lena: User, east: Warehouse
) -> None:
    skus = [costly(f"C-{n}", east) for n in range(3)]
    _, secret = tokens.issue(lena, "t", ["stock:read", "stock:write"], actor=SYSTEM)
    items = [{"sku": sku.code, "warehouse": "EAST", "quantity": -2, "reason": "lost"} for sku in skus]
    answer = Client().post(
        "/api/v1/stock/adjust-many/", {"items": items}, content_type="application/json",
        headers={"Authorization": f"Bearer {secret}", "Idempotency-Key": str(uuid.uuid4())},
    )  # fmt: skip
    assert answer.status_code == 200, answer.content
    assert [on_hand(sku) for sku in skus] == [10, 10, 10]


def test_the_shell_and_the_software_have_no_limit(east: Warehouse) -> None:
    sku = costly("C-1", east)
    assert not approvals.needs_second(Decimal(10_000), None)
    operations.adjust(sku_id=sku.pk, warehouse_id=east.pk, quantity=-9, reason="lost", actor=SYSTEM, key="x")
    assert on_hand(sku) == 1
    done = bulk.begin("set", [sku.pk], east, {"units": 9, "reason": "count"}, actor=SYSTEM, key="k")
    assert isinstance(done, bulk.Result) and done.done == 1
