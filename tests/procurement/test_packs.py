"""I15: one case is twelve eaches everywhere, and nothing is ever a fraction of an each."""

from __future__ import annotations

import uuid
from decimal import Decimal

import pytest
from django.urls import reverse
from rest_framework.test import APIClient

from inventory import counts, packs, scanning
from inventory.models import CountTask, Sku, SkuPack, StockLevel, Transfer, Warehouse
from oms.core.actor import SYSTEM
from oms.core.errors import UserError
from oms.core.screens import new_form_key
from procurement import purchase_orders, receiving
from procurement.models import PurchaseOrder, Supplier, SupplierOffer
from tests.factories import add_stock, make_kit, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db
CASE = "10012345678902"


@pytest.fixture
def mug() -> Sku:
    sku = make_sku("MUG")
    packs.set_pack(sku, "case", 12, barcode=CASE, actor=SYSTEM)
    packs.set_pack(sku, "tray", 5, actor=SYSTEM)
    return sku


@pytest.fixture
def boss() -> APIClient:
    client = APIClient()
    client.force_authenticate(make_user())
    return client


@pytest.mark.parametrize(
    ("quantity", "unit", "units"),
    [
        (5, "", 5),
        ("5", "each", 5),
        (2, "case", 24),
        (-3, "Cases", -36),
        ("2.5", "case", 30),
        ("0.2", "tray", 1),
    ],
)
def test_a_case_is_twelve_eaches(mug: Sku, quantity: int | str, unit: str, units: int) -> None:
    assert packs.eaches(mug, quantity, unit) == units


@pytest.mark.parametrize(
    ("quantity", "unit", "says"),
    [
        ("2.5", "tray", "quantity: 2.5 tray of 5 is 12.5 eaches; MUG is counted in whole eaches."),
        ("1.5", "", "quantity: 1.5 is 1.5 eaches; MUG is counted in whole eaches."),
        ("0.4167", "case", "quantity: 0.4167 case of 12 is 5.0004 eaches; MUG is counted in whole eaches."),
        (1, "pallet", "unit: MUG has no unit 'pallet'; use each, tray of 5, case of 12."),
        ("NaN", "", "quantity: 'NaN' is not a number of units."),
        ("many", "case", "quantity: 'many' is not a number of units."),
    ],
)
def test_what_is_no_whole_each_is_refused(mug: Sku, quantity: int | str, unit: str, says: str) -> None:
    with pytest.raises(UserError) as told:
        packs.eaches(mug, quantity, unit)
    assert told.value.message == says


def test_lines_of_text_name_units(mug: Sku) -> None:
    make_sku("TEE 2 XL")
    text = f"MUG 3\nmug\t2 cases\n\nTEE 2 XL 4\n{CASE} 2\nMUG 2.5 case"
    found = [(sku.code, unit.name, units) for sku, unit, units in packs.read_lines(text)]
    assert found == [
        ("MUG", "", 3), ("MUG", "case", 24), ("TEE 2 XL", "", 4), ("MUG", "case", 24), ("MUG", "case", 30),
    ]  # fmt: skip
    for wrong in ("MUG", "NONE 4", "MUG 2.5 tray", "MUG 0", "MUG 1 pallet"):
        with pytest.raises(UserError, match="Line 1"):
            packs.read_lines(wrong)


def test_a_pack_is_named_once_and_its_barcode_finds_one_thing(mug: Sku, boss: APIClient) -> None:
    cap = make_sku("CAP")
    address = f"/api/v1/skus/{cap.pk}/packs/"
    taken = boss.post(address, {"name": "case", "quantity": 6, "barcode": CASE}, format="json")
    assert taken.status_code == 400 and "already finds MUG" in str(taken.data)
    assert boss.post(address, {"name": "each", "quantity": 6}, format="json").status_code == 400
    for size in (6, 8):
        made = boss.post(address, {"name": "case", "quantity": size}, format="json")
    assert made.data["packs"] == [{"name": "case", "quantity": 8, "barcode": ""}]
    kit = make_kit("SET", {mug: 1})
    with pytest.raises(UserError, match="no stock of its own"):
        packs.set_pack(kit, "case", 2, actor=SYSTEM)
    assert scanning.resolve(CASE).units == 12


# --- buying -----------------------------------------------------------------------------------------


@pytest.fixture
def kiln(mug: Sku) -> Supplier:
    supplier = Supplier.objects.create(code="KILN", name="Kiln", lead_time_days=14)
    SupplierOffer.objects.create(supplier=supplier, sku=mug, price=Decimal("2.50"), moq=50, order_multiple=12)
    make_warehouse("EAST")
    return supplier


def test_a_line_by_the_case_shows_both_units_and_both_prices(kiln: Supplier, boss: APIClient) -> None:
    made = boss.post(
        "/api/v1/purchase-orders/",
        {"supplier": "KILN", "warehouse": "EAST", "lines": [{"sku": "MUG", "quantity": 5, "unit": "case"}]},
        format="json",
    )
    assert made.status_code == 201, made.data
    [line] = made.data["lines"]
    assert (line["quantity"], line["unit"], line["unit_size"]) == (60, "case", 12)
    assert line["unit_price"] == {"amount": "2.50", "currency": "USD"}
    assert line["pack_price"] == {"amount": "30.00", "currency": "USD"}
    # the case grows later: what was ordered stays sixty eaches
    packs.set_pack(Sku.objects.get(code="MUG"), "case", 24, actor=SYSTEM)
    again = PurchaseOrder.objects.get().lines.get()
    assert (again.quantity, again.in_packs) == (60, "5 × case of 12")
    wrong = boss.post(
        "/api/v1/purchase-orders/",
        {"supplier": "KILN", "warehouse": "EAST", "lines": [{"sku": "MUG", "quantity": 5, "unit": "pallet"}]},
        format="json",
    )
    assert wrong.status_code == 400 and "has no unit 'pallet'" in str(wrong.data)


def test_the_suppliers_multiple_is_a_case(kiln: Supplier, mug: Sku) -> None:
    """P08 stays in eaches: 60 are 5 cases; 61 are eaches, for they are no whole cases."""
    lines = [purchase_orders.LineSpec(mug.pk, units) for units in (60, 61)]
    warehouse = make_warehouse("WEST")
    order = purchase_orders.create(supplier_id=kiln.pk, warehouse_id=warehouse.pk, lines=lines, actor=SYSTEM)
    assert [(line.quantity, line.in_packs) for line in order.lines.all()] == [
        (60, "5 × case of 12"),
        (61, ""),
    ]


@pytest.fixture
def sent(kiln: Supplier, mug: Sku) -> PurchaseOrder:
    order = purchase_orders.create(
        supplier_id=kiln.pk, warehouse_id=Warehouse.objects.get(code="EAST").pk,
        lines=[purchase_orders.LineSpec(mug.pk, 5, unit="case")], actor=SYSTEM,
    )  # fmt: skip
    purchase_orders.approve(order.pk, actor=SYSTEM)
    return purchase_orders.send(order.pk, actor=SYSTEM)


def test_receiving_by_the_case(sent: PurchaseOrder, boss: APIClient, assert_invariants) -> None:
    line = sent.lines.get()
    got = boss.post(
        f"/api/v1/purchase-orders/{sent.pk}/receive/",
        {"key": "a", "lines": [{"line": line.pk, "good": 2, "damaged": 1, "unit": "case"}]},
        format="json",
    )
    assert got.status_code == 201, got.data
    assert (got.data["lines"][0]["good"], got.data["lines"][0]["damaged"]) == (24, 12)
    line.refresh_from_db()
    assert (line.received, line.open_in_packs) == (36, "2 × case of 12")
    level = StockLevel.objects.get()
    assert (level.on_hand, level.damaged, level.average_cost) == (36, 12, Decimal("2.5"))
    with pytest.raises(UserError, match="counted in whole eaches"):
        receiving.Arrived(line.pk, Decimal("0.3")).of(line.sku, "case")  # type: ignore[arg-type]
    assert_invariants()


def test_a_scanned_case_counts_twelve_at_the_dock(client, sent: PurchaseOrder) -> None:
    client.force_login(make_user())
    line, address = sent.lines.get(), reverse("procurement:step", args=[sent.pk, "receive"])
    page = client.get(reverse("procurement:order", args=[sent.pk]))
    assert "5 × case of 12" in page.content.decode() and "30.00" in page.content.decode()
    form = {"form_key": page.context["form_key"], f"good-{line.pk}": "60"}
    first = client.post(address, {**form, "code": CASE})
    assert first.context["lines"][0]["typed"]["good"] == 12  # the sixty were only what is open
    again = {**form, "scanned": "1", f"good-{line.pk}": "12"}
    second = client.post(address, {**again, "code": "MUG"})
    assert second.context["lines"][0]["typed"]["good"] == 13
    other = client.post(address, {**again, "code": "nothing"})
    assert f"nothing is not on {sent.number}." in other.content.decode()
    line.refresh_from_db()
    assert line.received == 0  # nothing was posted by scanning
    client.post(address, {**form, f"good-{line.pk}": "2", f"unit-{line.pk}": "case"})
    line.refresh_from_db()
    assert line.received == 24


# --- work on stock ----------------------------------------------------------------------------------


def test_adjusting_counting_and_moving_by_the_case(
    client, mug: Sku, boss: APIClient, assert_invariants
) -> None:
    east, west = make_warehouse("EAST"), make_warehouse("WEST")
    add_stock(mug, east, 100)
    client.force_login(make_user())
    form = {
        "warehouse": "EAST",
        "mode": "change",
        "reason": "lost",
        "note": "",
        "form_key": str(uuid.uuid4()),
    }
    refused = client.post("/stock/adjust/", {**form, "sku": "MUG", "quantity": "-2.5", "unit": "tray"})
    assert refused.status_code == 422 and "is -12.5 eaches" in refused.content.decode()
    client.post("/stock/adjust/", {**form, "sku": "MUG", "quantity": "-2", "unit": "case"})
    assert StockLevel.objects.get().on_hand == 76
    client.post("/stock/adjust/", {**form, "form_key": str(uuid.uuid4()), "sku": CASE, "quantity": "-1"})
    assert StockLevel.objects.get().on_hand == 64
    done = boss.post(
        "/api/v1/stock/adjust/",
        {"sku": "MUG", "warehouse": "EAST", "quantity": -1, "unit": "case", "reason": "lost"},
        format="json",
    )
    assert done.status_code == 201 and StockLevel.objects.get().on_hand == 52
    many = boss.post(
        "/api/v1/stock/adjust-many/",
        {"items": [
            {"sku": "MUG", "warehouse": "EAST", "quantity": -1, "unit": unit, "reason": "lost"}
            for unit in ("case", "pallet")
        ]},
        format="json",
    )  # fmt: skip
    assert many.status_code == 200 and StockLevel.objects.get().on_hand == 40
    task = counts.ask(mug.pk, east.pk, cause=CountTask.Cause.MANUAL, actor=SYSTEM)
    client.post(f"/stock/counts/{task.pk}/", {"step": "submit", "counted": "3", "unit": "case"})
    task.refresh_from_db()
    assert (task.counted, task.variance) == (36, -4)
    other = counts.ask(mug.pk, west.pk, cause=CountTask.Cause.MANUAL, actor=SYSTEM)
    boss.post(f"/api/v1/counts/{other.pk}/submit/", {"counted": 1, "unit": "tray"}, format="json")
    other.refresh_from_db()
    assert other.counted == 5
    client.post(
        "/stock/transfers/",
        {"form_key": new_form_key(), "source": "EAST", "destination": "WEST", "lines": "MUG 2 case\nMUG 1"},
    )
    assert Transfer.objects.get().lines.get().quantity == 25
    wrong = client.post(
        "/stock/transfers/",
        {"form_key": new_form_key(), "source": "EAST", "destination": "WEST", "lines": "MUG 2.5 tray"},
    )
    assert wrong.status_code == 422 and "whole eaches" in wrong.content.decode()
    assert_invariants()


def test_every_pack_is_on_the_sku_page(client, mug: Sku) -> None:
    client.force_login(make_user())
    page = client.get("/stock/MUG/").content.decode()
    assert f"12 each · {CASE}" in page and "5 each" in page
    assert SkuPack.objects.filter(sku=mug).count() == 2
