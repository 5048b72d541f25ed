"""The main path of each kind of screen as a person works it; the order queue and packing without a mouse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django_otp.plugins.otp_totp.models import TOTPDevice
from playwright.sync_api import Page, expect

from channels.models import Listing
from fulfillment.models import LabelPurchase, Shipment
from inventory.models import AdjustmentReason, StockLevel
from oms.core.models import User
from oms.orders.models import Order
from procurement.models import PurchaseOrder, ReorderSuggestion
from returns.models import Rma
from tests.browser.conftest import PASSWORD
from tests.browser.house import furnish
from tests.control.test_login import code_of
from tests.factories import add_stock, make_sku
from tests.fulfillment.conftest import World
from tests.fulfillment.conftest import carrier as carrier
from tests.fulfillment.conftest import world as world

pytestmark = pytest.mark.django_db(transaction=True)
LogIn = Callable[[User], None]


@pytest.fixture
def house(owner: User, log_in: LogIn, world: World, carrier: Any) -> World:
    furnish(world, owner)
    log_in(owner)
    return world


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_the_order_queue_without_a_mouse(
    page: Page, live_server: Any, owner: User, log_in: LogIn, world: World
) -> None:
    """Open by key, move, select, hold in bulk, filter, open one, hold it, release it."""
    orders = [world.order(1) for _ in range(4)]
    log_in(owner)
    page.goto(live_server.url)
    press(page, "g", "o")
    expect(page.get_by_role("heading", name="Orders", level=1)).to_be_visible()
    press(page, "j", "h")
    expect(page.locator("#bulk output")).to_have_text("1 selected")
    press(page, "Escape")
    expect(page.locator("#bulk")).not_to_be_visible()
    press(page, "x", "j", "x")
    expect(page.locator("#bulk output")).to_have_text("2 selected")
    press(
        page, "/"
    )  # the search box is away while rows are ticked: what is typed goes to the palette, not to the keys
    expect(page.locator("#palette-q")).to_be_focused()
    press(page, "Escape")
    expect(page.locator("#palette")).not_to_be_visible()
    expect(
        page.locator("#palette-q")
    ).not_to_be_focused()  # the browser takes the focus away with its next frame
    press(page, "h")
    expect(page.get_by_role("button", name="Hold")).to_be_focused()
    assert not Order.objects.filter(holds_open=1).exists()
    with page.expect_navigation():
        press(page, "Enter")
    expect(page.get_by_text("2 held")).to_be_visible()
    assert Order.objects.filter(holds_open=1).count() == 2
    press(page, "/")
    page.keyboard.type(orders[0].number)
    expect(page.locator("tbody tr")).to_have_count(1)
    press(page, "Enter")
    expect(page.get_by_role("heading", name=orders[0].number, level=1)).to_be_visible()
    press(page, "h")
    expect(page.get_by_role("dialog", name="Put on hold")).to_be_visible()
    press(page, "Escape")
    expect(page.get_by_role("dialog", name="Put on hold")).not_to_be_visible()
    press(page, "?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()


def test_packing_without_a_mouse(
    page: Page, live_server: Any, owner: User, log_in: LogIn, world: World, carrier: Any
) -> None:
    """Scan the shipment, the items, a wrong one, close the box by a command code, buy the label, mark it as gone."""
    shipment = world.routed(2)
    make_sku("OTHER")
    log_in(owner)
    page.goto(live_server.url + "/floor/")
    page.keyboard.type(shipment.number)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Scan an item")).to_be_focused()
    for code, word in (("OTHER", "WRONG ITEM"), ("MUG", "OK"), ("MUG", "DONE")):
        page.keyboard.type(code)
        page.keyboard.press("Enter")
        expect(page.locator(".verdict")).to_contain_text(word)
    expect(page.get_by_label("Box")).to_be_focused()
    press(page, "Tab", "Tab")
    for name in ("Close the box and compare rates", "Buy label", "It left the house, next order"):
        expect(page.get_by_role("button", name=name).first).to_be_focused()
        with page.expect_navigation():
            page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Pick & pack", level=1)).to_be_visible()
    assert Shipment.objects.get().state == Shipment.State.SHIPPED
    assert LabelPurchase.objects.get().state == LabelPurchase.State.PURCHASED


def test_log_in_with_a_code_and_with_a_recovery_code(
    page: Page, live_server: Any, owner: User, log_in: LogIn
) -> None:
    log_in(owner)
    page.goto(live_server.url + "/profile/two-factor/")
    device = TOTPDevice.objects.get()
    page.get_by_label("Code").fill(code_of(device))
    page.get_by_role("button", name="Switch on").click()
    recovery = page.locator(".codes").inner_text().split()[0]
    page.context.clear_cookies()
    for code in (recovery,):
        page.goto(live_server.url)
        page.get_by_label("User name").fill("owner")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.locator("main input:not([type=hidden])").first.fill(code)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Today", level=1)).to_be_visible()


def test_a_view_is_saved_and_columns_are_left_out(page: Page, live_server: Any, house: World) -> None:
    page.goto(live_server.url + "/orders/?view=on_hold")
    page.locator(".list-tools > summary").click()
    page.get_by_label("Channel", exact=True).last.uncheck()
    expect(page.get_by_role("columnheader", name="Channel")).not_to_be_visible()
    page.get_by_label("Compact").check()
    expect(page.locator("html")).to_have_attribute("data-density", "compact")
    page.get_by_role("button", name="Save this view…").click()
    page.get_by_label("Name").fill("Stuck")
    with page.expect_navigation():
        page.get_by_role("button", name="Save view").click()
    tab = page.get_by_role("navigation", name="Views").get_by_role("link", name="Stuck")
    expect(tab).to_have_attribute("aria-current", "page")
    expect(tab.locator("b")).to_have_text("1")
    page.reload()
    expect(page.get_by_role("columnheader", name="Channel")).not_to_be_visible()


def test_a_figure_is_edited_where_it_stands(
    page: Page, live_server: Any, house: World, console: list[str]
) -> None:
    """Enter edits, Esc leaves it, a wrong word is told, and somebody else's change is shown before it is lost."""
    listing = Listing.objects.get(external_sku="MUG")
    page.goto(f"{live_server.url}/channels/shop/listings/")
    cell = page.get_by_role("button", name="Buffer of MUG: 0, change")
    cell.focus()
    page.keyboard.press("Enter")
    field = page.get_by_label("Buffer of MUG", exact=True)
    expect(field).to_be_focused()
    page.keyboard.press("Escape")
    expect(cell).to_be_focused()
    page.keyboard.press("Enter")
    expect(field).to_be_focused()
    Listing.objects.filter(pk=listing.pk).update(buffer=5)
    field.fill("3")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Somebody made it 5 meanwhile.")).to_be_visible()
    page.get_by_role("button", name="Keep mine").click()
    expect(page.get_by_role("button", name="Buffer of MUG: 3, change")).to_be_focused()
    listing.refresh_from_db()
    assert listing.buffer == 3
    told = [line for line in console if "409 (Conflict)" in line]
    assert len(told) == 1, "the browser itself notes every refused request"
    console.remove(told[0])


def test_stock_is_adjusted_and_a_draft_is_made_and_received(
    page: Page, live_server: Any, house: World
) -> None:
    add_stock(make_sku("BOWL"), house.east, 8)
    # a migration brings the reasons; the flush of an earlier test has taken them away
    AdjustmentReason.objects.get_or_create(code="damage", defaults={"label": "Damaged"})
    page.goto(live_server.url + "/stock/")
    page.locator("#q").fill("bowl")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="BOWL").click()
    page.locator("#main").get_by_role("link", name="Adjust").click()
    page.get_by_label("Warehouse", exact=True).select_option(label=str(house.east))
    page.get_by_label("Units").fill("-3")
    page.get_by_label("Reason").select_option(index=1)
    with page.expect_navigation():
        page.locator("#main").get_by_role("button", name="Adjust").click()
    assert StockLevel.objects.get(sku__code="BOWL").on_hand == 5
    page.goto(live_server.url + "/purchasing/reorder/")
    page.get_by_label("Select MUG").check()
    with page.expect_navigation():
        page.get_by_role("button", name="Make draft orders of what is ticked").click()
    assert ReorderSuggestion.objects.get().state == ReorderSuggestion.State.ORDERED
    made = PurchaseOrder.objects.latest("pk")
    for name in ("Approve", "Mark as sent", "Post the receipt"):
        with page.expect_navigation():
            page.get_by_role("button", name=name).click()
    made.refresh_from_db()
    assert made.state == PurchaseOrder.State.RECEIVED


def test_a_return_is_inspected_on_the_bench(page: Page, live_server: Any, house: World) -> None:
    back = Rma.objects.get()
    page.goto(live_server.url + "/returns/bench/")
    page.keyboard.type(back.number)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Inspect MUG")).to_be_visible()
    expect(page.get_by_label("Condition")).to_be_focused()
    page.get_by_label("Condition").select_option("new")
    page.get_by_label("Then").select_option("restock")
    with page.expect_navigation():
        page.get_by_role("button", name="Finish").click()
    assert back.lines.get().dispositions.get().quantity == 1
    expect(page.get_by_text("1 × MUG: Restock as new.")).to_be_visible()


def test_trouble_is_seen_on_today_and_taken_back(page: Page, live_server: Any, house: World) -> None:
    page.goto(live_server.url)
    expect(page.get_by_role("link", name="No route found")).to_be_visible()
    for _ in page.locator(".cause-list [data-href]").all():
        press(page, "j")
        if "No route found" in page.locator(".at").inner_text():
            break
    press(page, "Enter")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_role("button", name="Take").first.click()
    expect(page.get_by_text("1 taken")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("1 given")).to_be_visible()
    page.goto(live_server.url + "/settings/warehouses/EAST/")
    page.get_by_label("Monday").fill("15:00")
    with page.expect_navigation():
        page.get_by_role("button", name="Save hours").click()
    assert house.east.hours.get().cut_off.hour == 15
    page.goto(live_server.url + "/audit/")
    expect(page.get_by_text("warehouse.hours")).to_be_visible()
