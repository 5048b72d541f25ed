"""What a person must prove: adjustments with photos, decided by a second one; units with numbers of their own."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from inventory.models import AdjustmentReason, AdjustmentRequest, SerialUnit, StockLevel
from oms.core.actor import SYSTEM
from oms.core.models import User
from procurement import purchase_orders
from procurement.models import Supplier
from tests.browser.looks import look
from tests.factories import add_stock, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db(transaction=True)
LogIn = Callable[[User], None]
PHOTO = {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": b"\xff\xd8\xff\xe0photo"}


def test_adjustments_with_a_photo_wait_for_a_second_person_who_decides_many_at_once(
    page: Page, live_server: Any, owner: User, log_in: LogIn
) -> None:
    AdjustmentReason.objects.get_or_create(code="damage", defaults={"label": "Damaged"})
    east, cup = make_warehouse("EAST"), make_sku("CUP", unit_cost=Decimal(100))
    add_stock(cup, east, 50)
    log_in(owner)
    page.goto(f"{live_server.url}/stock/approvals/")
    expect(page.get_by_text("Nothing to approve")).to_be_visible()
    for units in ("-6", "-7", "-8"):
        page.goto(f"{live_server.url}/stock/adjust/?sku=CUP")
        page.get_by_label("Warehouse", exact=True).select_option("EAST")
        page.get_by_label("Units").fill(units)
        page.get_by_label("Reason").select_option("damage")
        page.set_input_files("#evidence", files=[PHOTO])
        if units == "-6":
            look(page, "adjust")
            page.set_input_files("#evidence", files=[PHOTO])
        with page.expect_navigation():
            page.locator("#main").get_by_role("button", name="Adjust").click()
        expect(page.locator("#toasts").get_by_text("Above your limit")).to_be_visible()
    page.goto(f"{live_server.url}/stock/approvals/")
    expect(page.get_by_text("Somebody else has to decide")).to_have_count(3)
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    assert StockLevel.objects.get(sku=cup).on_hand == 50

    log_in(make_user("second", role="owner"))
    page.goto(f"{live_server.url}/stock/approvals/")
    look(page, "approvals-desk")
    page.get_by_role("link", name="1 file").first.click()
    expect(page.get_by_role("link", name="broken.jpg")).to_be_visible()
    look(page, "evidence")
    with page.expect_download() as proof:
        page.get_by_role("link", name="broken.jpg").click()
    assert proof.value.suggested_filename.endswith(".jpg")
    page.goto(f"{live_server.url}/stock/approvals/")
    page.get_by_label("Choose −6 CUP").check()
    page.get_by_label("Choose −7 CUP").check()
    page.get_by_role("button", name="Approve the ticked").click()
    expect(page.locator("#toasts").get_by_text("2 approved.")).to_be_visible()
    assert StockLevel.objects.get(sku=cup).on_hand == 37
    page.get_by_role("button", name="Refuse", exact=True).click()
    expect(page.locator("#toasts").get_by_text("Refused; stock stays as it is.")).to_be_visible()
    assert AdjustmentRequest.objects.filter(state="pending").count() == 0
    assert StockLevel.objects.get(sku=cup).on_hand == 37


def test_units_with_numbers_are_received_by_number_and_found_again(
    page: Page, live_server: Any, owner: User, log_in: LogIn
) -> None:
    east, camera = make_warehouse("EAST"), make_sku("CAM", serial_tracked=True)
    supplier = Supplier.objects.create(code="OPTIK", name="Optik", lead_time_days=14)
    order = purchase_orders.create(
        supplier_id=supplier.pk, warehouse_id=east.pk, actor=SYSTEM,
        lines=[purchase_orders.LineSpec(camera.pk, 2, Decimal(300))],
    )  # fmt: skip
    log_in(owner)
    page.goto(f"{live_server.url}/stock/serials/")
    expect(page.get_by_text("Receive a SKU that has serial numbers")).to_be_visible()
    look(page, "serials-empty")
    page.goto(f"{live_server.url}/purchasing/orders/{order.pk}/")
    for button, said in (
        ("Approve", "is approved and counts as incoming"),
        ("Mark as sent", "is marked as sent"),
    ):
        page.get_by_role("button", name=button).click()
        expect(page.locator("#toasts").get_by_text(said)).to_be_visible()
    numbers = page.get_by_label("Serial numbers of CAM, one per line")
    numbers.fill("S-100")
    page.get_by_role("button", name="Post the receipt").click()
    expect(page.locator("#toasts").get_by_text("needs 2 serial numbers")).to_be_visible()
    assert not SerialUnit.objects.exists()
    numbers.fill("S-100\nS-101")
    look(page, "receive-serials")
    page.get_by_role("button", name="Post the receipt").click()
    expect(page.locator("#toasts").get_by_text("posted: good units are on sale now")).to_be_visible()
    page.goto(f"{live_server.url}/stock/serials/")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.locator("#q").fill("S-101")
    expect(page.locator("tbody tr")).to_have_count(1)
    look(page, "serials")
    page.get_by_role("link", name="S-101").click()
    expect(page.get_by_role("heading", name="S-101", level=1)).to_be_visible()
    expect(page.get_by_role("row", name="Received")).to_contain_text(order.number)
    look(page, "serial")
