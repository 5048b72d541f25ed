"""Stock by file and by the bulk bars as a person works them: a file up, matched, checked, applied and taken back."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from channels.models import Listing
from inventory.models import AdjustmentReason, StockBatch, StockLevel
from oms.control.models import ImportFile
from oms.core import jobs
from oms.core.models import Job, User
from tests.browser.house import furnish
from tests.factories import add_stock, make_sku, make_user
from tests.fulfillment.conftest import World
from tests.fulfillment.conftest import carrier as carrier
from tests.fulfillment.conftest import world as world

pytestmark = pytest.mark.django_db(transaction=True)
SHOTS = os.environ.get("OMS_SHOTS", "")


def shoot(page: Page, name: str) -> None:
    """Pictures at both widths for whoever asks for them (OMS_SHOTS=folder); nothing scrolls sideways at any."""
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} px wider than {width}"
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/{name}-{width}.png", full_page=True)


def work() -> None:
    for job in Job.objects.filter(state="queued"):
        jobs.run_job(job.pk)


def test_a_file_of_unknown_columns_is_matched_checked_applied_and_undone(
    page: Page, live_server: Any, owner: User, log_in: Callable[[User], None], world: World, tmp_path: Path
) -> None:
    """Semicolons, our names for nothing, one bad cell: as warehouses really send them."""
    for n in range(30):
        add_stock(make_sku(f"MUG-{n:02}"), world.east, 10)
    sheet = tmp_path / "zaehlung.csv"
    lines = [f"MUG-{n:02};{world.east.code};{12 if n % 2 else 10};shelf {n}" for n in range(29)]
    text = "\r\n".join(["Artikel;Lager;Gezaehlt;Bemerkung", *lines, f"MUG-29;{world.east.code};a few;", ""])
    sheet.write_bytes(text.encode("cp1252"))
    log_in(owner)
    page.goto(f"{live_server.url}/imports/")
    shoot(page, "imports")
    page.set_input_files("input[type=file]", sheet)
    page.locator("#kind").select_option("stock")
    page.locator("#mode").select_option("set")
    page.get_by_role("button", name="Check the file").click()
    page.wait_for_url(re.compile(r"/imports/\d+/"))
    if "/match/" not in page.url:
        page.get_by_role("link", name="Match columns").click()
    shoot(page, "match")
    pick = {"sku": "Artikel", "warehouse": "Lager", "quantity": "Gezaehlt", "note": "Bemerkung"}
    for field, column in pick.items():
        page.locator(f"#column-{field}").select_option(column)
    page.get_by_role("button", name="Check the file").click()
    page.wait_for_url(re.compile(r"/imports/\d+/$"))
    work()
    page.reload()
    expect(page.get_by_text("10 → 12").first).to_be_visible()
    expect(page.get_by_text("a few")).to_be_visible()
    shoot(page, "checked")
    assert set(StockLevel.objects.filter(sku__code__startswith="MUG").values_list("on_hand", flat=True)) == {
        10
    }
    page.get_by_role("button", name="Apply", exact=True).click()
    expect(page.get_by_text("Applying.").first).to_be_visible()
    shoot(page, "applying")
    work()
    page.reload()
    expect(page.get_by_role("button", name="Undo this import")).to_be_visible()
    shoot(page, "applied")
    file = ImportFile.objects.get()
    assert (file.state, file.counts["change"], file.counts["errors"]) == ("applied", 14, 1)
    assert StockLevel.objects.get(sku__code="MUG-01").on_hand == 12
    page.get_by_role("button", name="Undo this import").click()
    page.get_by_role("button", name="Undo it").click()
    expect(page.get_by_text("Taking it back.").first).to_be_visible()
    work()
    page.reload()
    expect(page.get_by_text("Undone").first).to_be_visible()
    shoot(page, "undone")
    assert StockLevel.objects.get(sku__code="MUG-01").on_hand == 10


def test_the_bulk_bar_waits_for_a_second_person(
    page: Page, live_server: Any, owner: User, log_in: Callable[[User], None], world: World
) -> None:
    AdjustmentReason.objects.get_or_create(code="lost")
    for n in range(3):
        add_stock(make_sku(f"GOLD-{n}", unit_cost=100), world.east, 10)
    log_in(owner)
    page.goto(f"{live_server.url}/stock/?q=GOLD")
    for box in page.locator("input[data-row]").all():
        box.check()
    expect(page.locator("#bulk output")).to_have_text("3 selected")
    shoot(page, "bulkbar")
    page.locator("#bulk-place").select_option(world.east.code)
    page.locator("#bulk-action").select_option("add")
    page.locator("#bulk-value").fill("-2")
    page.locator("#bulk-reason").select_option("lost")
    page.locator("#bulk").get_by_role("button", name="Change").click()
    expect(page.get_by_text("above your limit").first).to_be_visible()
    assert StockLevel.objects.get(sku__code="GOLD-0").on_hand == 10
    log_in(make_user("second", role="owner"))
    page.goto(f"{live_server.url}/stock/approvals/")
    expect(page.get_by_text("10 → 8").first).to_be_visible()
    shoot(page, "approvals")
    page.get_by_role("button", name="Approve").first.click()
    expect(page.get_by_text("Approved; it is being done").first).to_be_visible()
    work()
    assert StockBatch.objects.get().state == "approved"
    assert StockLevel.objects.get(sku__code="GOLD-0").on_hand == 8


def test_buffers_of_many_listings(
    page: Page, live_server: Any, owner: User, log_in: Callable[[User], None], world: World, carrier: Any
) -> None:
    furnish(world, owner)
    log_in(owner)
    listing = Listing.objects.filter(sku__isnull=False, fulfilment="merchant").earliest("pk")
    page.goto(f"{live_server.url}/channels/{listing.account.sales_channel.code}/listings/")
    page.locator(f"input[data-row][value='{listing.pk}']").check()
    shoot(page, "listings-bulk")
    page.locator("#bulk-value").fill("6")
    page.locator("#bulk").get_by_role("button", name="Change").click()
    expect(page.get_by_text("1 changed").first).to_be_visible()
    listing.refresh_from_db()
    assert listing.buffer == 6
    page.goto(f"{live_server.url}/channels/stock/")
    page.locator("input[data-row]").first.check()
    shoot(page, "grid-bulk")
