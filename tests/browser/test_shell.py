"""The shell as people use it: log in, Today, palette, keys, selection, theme, narrow screens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from oms.core.exceptions_inbox import raise_item
from oms.core.models import ExceptionItem, User
from tests.browser.conftest import PASSWORD
from tests.factories import make_sku

LogIn = Callable[[User], None]


def test_log_in_and_see_today(page: Page, live_server: Any, owner: User) -> None:
    page.goto(live_server.url)
    page.get_by_label("User name").fill("owner")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Today", level=1)).to_be_visible()
    expect(page.get_by_text("Nothing needs a person")).to_be_visible()


def test_palette_opens_by_key_and_leads_to_a_screen(
    page: Page, live_server: Any, owner: User, log_in: LogIn
) -> None:
    make_sku("MUG-BLU")
    log_in(owner)
    page.goto(live_server.url)
    page.keyboard.press("Control+k")
    box = page.locator("#palette-q")
    expect(box).to_be_focused()
    box.type("mug")
    expect(page.locator("#palette-results a", has_text="MUG-BLU")).to_be_visible()
    box.fill("audit")
    expect(page.locator("#palette-results")).to_contain_text("Nothing you may open")
    expect(page.locator("[data-screens] li:visible")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    expect(page.locator("[data-screens] a", has_text="Audit")).to_be_focused()
    page.keyboard.press("Escape")
    expect(box).not_to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("e")
    expect(page.get_by_role("heading", name="Exceptions", level=1)).to_be_visible()


def test_shift_click_selects_a_range_and_closing_empties_the_list(
    page: Page, live_server: Any, owner: User, log_in: LogIn
) -> None:
    for number in range(5):
        raise_item("no_route", f"k{number}", f"SH-{number} has no route")
    log_in(owner)
    page.goto(live_server.url + "/exceptions/")
    boxes = page.locator("input[data-row]")
    boxes.nth(0).click()
    boxes.nth(3).click(modifiers=["Shift"])
    expect(page.locator("#bulk output")).to_have_text("4 selected")
    page.get_by_role("button", name="Close…").click()
    page.get_by_label("What was done?").fill("re-routed by hand")
    page.get_by_role("button", name="Close them").click()
    expect(page.get_by_text("4 closed")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert ExceptionItem.objects.filter(close_reason="re-routed by hand").count() == 4


def test_search_filters_the_list_and_the_address(
    page: Page, live_server: Any, owner: User, log_in: LogIn
) -> None:
    raise_item("no_route", "a", "SH-1 has no route")
    raise_item("drift", "b", "MUG-BLU drifted")
    log_in(owner)
    page.goto(live_server.url + "/exceptions/")
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("mug")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page).to_have_url(live_server.url + "/exceptions/?q=mug")
    page.get_by_role("button", name="Take").click()
    expect(page.get_by_text("1 taken")).to_be_visible()
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(2)


def test_theme_is_kept(page: Page, live_server: Any, owner: User, log_in: LogIn) -> None:
    log_in(owner)
    page.goto(live_server.url)
    page.locator("details.menu > summary").click()
    with page.expect_response("**/profile/theme/"):
        page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
def test_nothing_scrolls_sideways(
    page: Page, live_server: Any, owner: User, log_in: LogIn, fits: Callable[[Page], None], width: int
) -> None:
    raise_item("no_route", "a", "SH-1 has no route because " + "x" * 120, "long " * 60, money=None)
    log_in(owner)
    page.set_viewport_size({"width": width, "height": 844})
    for path in ("/", "/exceptions/", "/jobs/", "/audit/", "/settings/", "/settings/users/", "/settings/tokens/",
                 "/settings/system/", "/profile/", "/profile/two-factor/", "/search/?q=mug"):  # fmt: skip
        page.goto(live_server.url + path)
        fits(page)


def test_menu_opens_on_narrow_screens(page: Page, live_server: Any, owner: User, log_in: LogIn) -> None:
    log_in(owner)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(live_server.url)
    expect(page.get_by_role("link", name="Audit")).not_to_be_visible()
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Audit").click()
    expect(page.get_by_role("heading", name="Audit trail", level=1)).to_be_visible()


def test_the_chosen_tab_is_in_sight_on_a_phone(
    page: Page, live_server: Any, owner: User, log_in: LogIn
) -> None:
    log_in(owner)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(live_server.url + "/settings/system/")
    expect(page.locator(".tabs [aria-current]")).to_be_in_viewport(ratio=0.95)
