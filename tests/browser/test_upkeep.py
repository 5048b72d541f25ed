"""Keeping the house in order: what must always be true, files on a schedule, drift, deliveries at a 3PL."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from playwright.sync_api import Page, expect

from channels.models import Drift, Listing
from fulfillment.models import InboundNotice, ThreePLCall
from fulfillment.threepl import accounts, inbound, inbox
from inventory.models import StockLevel
from oms.control import exports
from oms.control.models import ExportFile, ScheduledExport
from oms.core import jobs, lists
from oms.core.actor import SYSTEM
from oms.core.models import Job, User
from procurement import purchase_orders
from procurement.models import Supplier
from tests.browser.house import _channel
from tests.browser.looks import look
from tests.factories import make_warehouse
from tests.fulfillment.conftest import World
from tests.fulfillment.conftest import world as world

pytestmark = pytest.mark.django_db(transaction=True)
LogIn = Callable[[User], None]


@pytest.fixture(autouse=True)
def _logged_in(owner: User, log_in: LogIn, world: World) -> None:
    log_in(owner)


def work() -> None:
    for job in Job.objects.filter(state="queued"):
        jobs.run_job(job.pk)


def toast(page: Page, words: str) -> Any:
    return expect(page.locator("#toasts").get_by_text(words))


def test_what_must_always_be_true_is_checked_and_a_break_reaches_today(
    page: Page, live_server: Any, world: World
) -> None:
    page.goto(f"{live_server.url}/settings/system/")
    expect(page.get_by_text("Not looked at yet.")).to_be_visible()
    page.get_by_role("button", name="Check now").click()
    expect(page).to_have_title(re.compile("^Check what must always be true · Waiting"))
    work()
    expect(page).to_have_title(re.compile("^Check what must always be true · Done"))
    page.goto(f"{live_server.url}/settings/system/")
    expect(page.get_by_role("link", name="all hold")).to_be_visible()
    page.get_by_role("button", name="Verify now").click()
    expect(page.locator("#verified")).not_to_be_empty()
    look(page, "system")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE inventory_stocklevel SET on_hand = 12 WHERE on_hand = 10")
    page.get_by_role("button", name="Check now").click()
    work()
    expect(page.get_by_role("row", name="on_hand is 12, its movements sum to 10").first).to_be_visible()
    look(page, "check-broken")
    page.goto(live_server.url)
    cause = page.get_by_role("listitem").filter(has_text="A rule of the books is broken")
    expect(cause).to_contain_text("S2 is broken")
    look(page, "today-broken")


def test_a_view_is_written_on_a_schedule_fetched_and_ended(
    page: Page, live_server: Any, owner: User, world: World
) -> None:
    first, held = world.order(1), world.order(1)
    page.goto(f"{live_server.url}/exports/")
    expect(page.get_by_text("Save a view first")).to_be_visible()
    lists.save_view(owner, "orders:list", "Second only", f"q={held.number}", actor=SYSTEM)
    page.goto(f"{live_server.url}/exports/")
    expect(page.get_by_text("Choose “Schedule a view” above.")).to_be_visible()
    page.get_by_role("button", name="Schedule a view").click()
    dialog = page.get_by_role("dialog", name="Schedule a view")
    dialog.get_by_label("Saved view").select_option(label="Orders: Second only")
    dialog.get_by_label("How often").select_option("weekly")
    dialog.get_by_label("On (weekly)").select_option(label="Thursday")
    dialog.get_by_label("At").fill("06:30")
    dialog.get_by_role("button", name="Schedule", exact=True).click()
    toast(page, "“Second only” is written").to_be_visible()
    row = page.get_by_role("row", name="Second only")
    expect(row).to_contain_text("Thursdays, 06:30")
    row.get_by_role("button", name="Write now").click()
    toast(page, "The file is being written.").to_be_visible()
    exports.write_due()
    page.reload()
    expect(row).to_contain_text("1 row")
    look(page, "exports")
    with page.expect_download() as made:
        row.locator("a[download]").click()
    text = Path(made.value.path()).read_bytes().decode("utf-8-sig")
    assert held.number in text and first.number not in text
    stored = ExportFile.objects.get()
    assert stored.content is not None and gzip.decompress(bytes(stored.content)).decode("utf-8-sig") == text
    row.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("Paused")
    row.get_by_role("button", name="Delete…").click()
    page.get_by_role("dialog", name="Delete “Second only”").get_by_role("button", name="Delete").click()
    toast(page, "is written no more").to_be_visible()
    assert not ScheduledExport.objects.exists()


def test_drift_shows_cause_and_evidence_and_is_pushed_or_accepted(
    page: Page, live_server: Any, world: World
) -> None:
    world.order(1)
    _channel(world)
    other = Listing.objects.get(external_sku="BAD")
    Drift.objects.create(
        listing=other,
        ours=4,
        theirs=3,
        cause="unknown_sale",
        evidence={"why": "one less than told", "told": 4},
    )
    page.goto(f"{live_server.url}/channels/shop/drift/")
    expect(page.locator("#results tbody tr")).to_have_count(2)
    look(page, "drift")
    page.get_by_role("row", name=Drift.Cause("unknown_sale").label).get_by_role("link").first.click()
    row = page.locator("#results tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("one less than told")
    row.get_by_text("What was seen").click()
    expect(row.get_by_role("definition").first).to_be_visible()
    look(page, "drift-cause")
    row.get_by_role("button", name="Accept 24 h").click()
    expect(page.get_by_text("No difference of this cause")).to_be_visible()
    look(page, "drift-empty")
    page.get_by_role("link", name="Every cause").last.click()
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Push ours").click()
    expect(page.locator("#toasts .toast")).to_be_visible()
    good = Listing.objects.get(external_sku="MUG")
    assert good.is_stale, "our figure is due again"
    page.goto(f"{live_server.url}/channels/shop/drift/?state=closed")
    expect(page.locator("#results")).to_contain_text("accepted by")


def test_a_delivery_is_told_to_a_3pl_refused_told_again_and_received_by_file(
    page: Page, live_server: Any, world: World, settings: Any, tmp_path: Path
) -> None:
    settings.HOME = tmp_path
    ohio = make_warehouse("OHIO", kind="3pl", name="Midway, Ohio", address1="1 Dock", city="Columbus")
    account = accounts.connect(
        code="midway", name="Midway 3PL", warehouse_id=ohio.pk, kind="csv", actor=SYSTEM
    )
    assert accounts.test(account.pk, actor=SYSTEM).ok
    supplier = Supplier.objects.create(code="KILN", name="Kiln", lead_time_days=14)
    order = purchase_orders.create(
        supplier_id=supplier.pk, warehouse_id=ohio.pk, actor=SYSTEM,
        lines=[purchase_orders.LineSpec(world.sku.pk, 12, Decimal("3.10"))],
    )  # fmt: skip
    purchase_orders.approve(order.pk, actor=SYSTEM)
    purchase_orders.send(order.pk, actor=SYSTEM)
    page.goto(f"{live_server.url}/threepl/midway/")
    page.get_by_role("button", name="Write files").click()
    toast(page, "midway-inbound-").to_be_visible()
    row = page.get_by_role("region", name="Deliveries").get_by_role("row", name=order.number)
    notice = InboundNotice.objects.get()
    inbound.refused(ThreePLCall.objects.get(notice=notice), "no such SKU there.")
    InboundNotice.objects.filter(pk=notice.pk).update(state="refused", error="no such SKU there.")
    page.reload()
    expect(row).to_contain_text("Refused")
    look(page, "threepl-refused")
    row.get_by_role("button", name="Tell them again").click()
    toast(page, f"{order.number} is told again.").to_be_visible()
    page.get_by_role("button", name="Write files").click()
    expect(row).to_contain_text("Told")
    head = "receipt_id,reference,sku,good,damaged,received_at"
    sheet = f"{head}\nR1,{order.number},MUG,9,1,2026-11-25T09:00:00Z\n"
    upload = {"name": "receipts.csv", "mimeType": "text/csv", "buffer": sheet.encode()}
    page.set_input_files("#file", files=[upload])
    page.get_by_role("button", name="Take file").click()
    toast(page, "receipts.csv: 1 rows are being booked.").to_be_visible()
    inbox.drain(account.pk)
    page.reload()
    expect(row).to_contain_text("Partly received")
    expect(row).to_contain_text("R1: 10 units")
    expect(row).to_contain_text("1 × MUG damaged or doubtful")
    look(page, "threepl-received")
    level = StockLevel.objects.get(sku=world.sku, warehouse=ohio)
    assert (level.on_hand, level.damaged) == (10, 1)
    page.goto(f"{live_server.url}/exceptions/?kind=threepl_inbound")
    page.get_by_role("link", name=f"{order.number}: what Midway 3PL").click()
    expect(page.get_by_role("heading", name=order.number, level=1)).to_be_visible()
