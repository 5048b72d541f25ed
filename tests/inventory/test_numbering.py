"""W09: units that are there without a serial number get one; a SKU is not taken off numbers that units still have."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from tablib import Dataset

from inventory import numbering, operations, serials
from inventory.admin import SkuResource
from inventory.models import SerialEvent, SerialUnit, Sku, Warehouse
from inventory.operations import PurchasedGoods
from oms.core.actor import SYSTEM
from oms.core.errors import Conflict, UserError
from oms.core.models import AuditEntry
from tests.api.test_resources import bearer
from tests.factories import add_stock, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db


@pytest.fixture
def east() -> Warehouse:
    return make_warehouse("EAST")


@pytest.fixture
def camera(east: Warehouse) -> Sku:
    """Three cameras that were there before the SKU had serial numbers, and one that came with its own."""
    sku = make_sku("CAM")
    add_stock(sku, east, 3)
    Sku.objects.filter(pk=sku.pk).update(serial_tracked=True)
    sku.refresh_from_db()
    goods = PurchasedGoods(sku.pk, east.pk, 1, Decimal(5), "r", serials=("S1",))
    operations.receive_purchase([goods], reference="PO-1", actor=SYSTEM)
    return sku


def number(sku: Sku, place: Warehouse, *numbers: str) -> int:
    return numbering.number(sku_id=sku.pk, warehouse_id=place.pk, numbers=numbers, actor=SYSTEM)


def test_units_without_a_number_get_theirs_and_can_leave(
    camera: Sku, east: Warehouse, assert_invariants: Any
) -> None:
    [row] = numbering.nameless([east.pk])
    assert (row.sku, row.warehouse, row.units) == (camera, east, 3)
    assert number(camera, east, "S2", " s3 ") == 1
    assert SerialUnit.objects.filter(state="in_stock", warehouse=east).count() == 3
    assert SerialEvent.objects.filter(words="got its number").count() == 2
    assert AuditEntry.objects.get(action="serials.numbered").after == {
        "warehouse": "EAST",
        "units": 2,
        "left": 1,
    }
    assert_invariants()
    with pytest.raises(Conflict, match="1 units of CAM in EAST have no number yet, 2 were given"):
        number(camera, east, "S4", "S5")
    assert number(camera, east, "S4") == 0 and numbering.nameless([east.pk]) == []
    operations.adjust(
        sku_id=camera.pk,
        warehouse_id=east.pk,
        quantity=-1,
        reason="lost",
        actor=SYSTEM,
        key="k",
        numbers=["S3"],
    )
    assert_invariants()


def test_a_number_of_another_unit_is_refused(camera: Sku, east: Warehouse) -> None:
    with pytest.raises(Conflict, match="CAM s1 is in stock already"):
        number(camera, east, "s1")
    operations.adjust(
        sku_id=camera.pk,
        warehouse_id=east.pk,
        quantity=-1,
        reason="lost",
        actor=SYSTEM,
        key="k",
        numbers=["S1"],
    )
    assert number(camera, east, "S1") == 2, "written off by mistake, and found to be one of these"
    unit = serials.find("S1")[0]
    SerialUnit.objects.filter(pk=unit.pk).update(state="shipped", warehouse=None, reference="SH-9")
    with pytest.raises(Conflict, match=r"CAM S1 is shipped \(SH-9\)"):
        number(camera, east, "S1")


def test_what_cannot_be_numbered_says_why(camera: Sku, east: Warehouse) -> None:
    plain, other = make_sku("MUG"), make_warehouse("3PL", kind="3pl")
    for sku, place, numbers, why in (
        (plain, east, ["A"], "sku: choose a SKU that has serial numbers"),
        (camera, other, ["A"], "warehouse: choose a warehouse of your own"),
        (camera, east, [" "], "serials: give 1 to 1000"),
        (camera, east, ["A", "a"], "serials: one number is given twice"),
        (camera, east, ["A" * 61], "serials: at most 60 characters"),
    ):
        with pytest.raises(UserError, match=why):
            number(sku, place, *numbers)
    add_stock(plain, other, 4)
    Sku.objects.filter(pk=plain.pk).update(serial_tracked=True)
    assert [row.warehouse for row in numbering.nameless([east.pk, other.pk])] == [east]


def test_a_unit_that_came_back_waits_for_nobodys_number(camera: Sku, east: Warehouse) -> None:
    """Its number is known, though it is not for sale: it is none of those without."""
    SerialUnit.objects.filter(serial="S1").update(state="returned")
    assert [row.units for row in numbering.nameless([east.pk])] == [3]


def test_the_screen_lists_and_numbers_them(camera: Sku, east: Warehouse, client: Client) -> None:
    client.force_login(make_user())
    page = client.get("/stock/serials/").content.decode()
    assert "Units without a number" in page and "Serial numbers of CAM in EAST" in page
    form = {"form_key": str(uuid.uuid4()), "sku": camera.pk, "warehouse": east.pk, "serials": "S2\nS3"}
    for _ in range(2):  # a double click
        answer = client.post("/stock/serials/", form, follow=True).content.decode()
    assert SerialUnit.objects.filter(serial__in=["S2", "S3"], state="in_stock").count() == 2
    answer = client.post(
        "/stock/serials/", {**form, "form_key": str(uuid.uuid4()), "serials": "S4"}, follow=True
    ).content.decode()
    assert "every unit has a number now" in answer and "Units without a number" not in answer
    client.force_login(make_user(role="viewer"))
    assert client.post("/stock/serials/", {**form, "form_key": str(uuid.uuid4())}).status_code == 403
    client.force_login(make_user(role="ops", warehouses=("WEST",)))
    foreign = client.post("/stock/serials/", {**form, "form_key": str(uuid.uuid4())}, follow=True)
    assert "choose one where you may change stock" in foreign.content.decode()


def test_the_api_numbers_them(camera: Sku, east: Warehouse) -> None:
    api = bearer(make_user("api"))
    body = {"sku": "CAM", "warehouse": "EAST", "serials": ["S2", "S3"]}
    answer = api.post("/api/v1/stock/number/", body)
    assert (answer.status_code, answer.json()) == (201, {"numbered": 2, "left": 1})
    again = api.post("/api/v1/stock/number/", body)
    assert again.status_code == 409 and "have no number yet" in str(again.json())


def test_numbers_are_not_given_up_while_units_have_one(camera: Sku, east: Warehouse) -> None:
    """By form, by file and by API: later the units would leave and their numbers stay."""
    camera.serial_tracked = False
    with pytest.raises(ValidationError, match="1 units of CAM in the house have a serial number"):
        camera.full_clean()
    data = Dataset(headers=["code", "product", "serial_tracked"])
    data.append(["CAM", camera.product_id, "0"])
    done = SkuResource().import_data(data, dry_run=False)
    assert done.has_errors() or done.has_validation_errors()
    assert Sku.objects.get(pk=camera.pk).serial_tracked
    api, url, off = bearer(make_user("api")), f"/api/v1/skus/{camera.pk}/", {"serial_tracked": False}
    answer = api.patch(url, off, HTTP_IF_MATCH="*")
    assert answer.status_code == 400 and "serial number" in str(answer.json())
    operations.adjust(
        sku_id=camera.pk,
        warehouse_id=east.pk,
        quantity=-1,
        reason="lost",
        actor=SYSTEM,
        key="k",
        numbers=["S1"],
    )
    assert api.patch(url, off, HTTP_IF_MATCH="*").status_code == 200
