"""Work on stock in a real browser: a count with a scanner on a phone, and every screen of it at 320 px."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from inventory.models import Bin, CountTask, Lot
from oms.core.models import User
from tests.browser.house import _stock_work
from tests.fulfillment.conftest import World
from tests.fulfillment.conftest import world as world

pytestmark = pytest.mark.django_db(transaction=True)

PICTURES = os.environ.get("OMS_PICTURES", "")


def test_a_count_on_a_phone_and_no_screen_is_too_wide(
    page: Page,
    live_server: Any,
    owner: User,
    log_in: Callable[[User], None],
    fits: Callable[[Page], None],
    world: World,
) -> None:
    _stock_work(world)
    log_in(owner)
    page.set_viewport_size({"width": 390, "height": 844})
    task = CountTask.objects.get(state="open")
    page.goto(f"{live_server.url}/stock/counts/")
    page.get_by_role("link", name="Count the next").click()
    scan = page.get_by_label("Scan each unit or case")
    for number, word in ((1, "1"), (2, "2")):
        expect(scan).to_be_focused()
        scan.fill("soap")
        scan.press("Enter")
        expect(page.locator(".verdict")).to_contain_text(word)
        expect(page.locator("#counted")).to_have_value(str(number))
    scan.fill("MUG")
    scan.press("Enter")
    expect(page.locator(".verdict")).to_contain_text("WRONG ITEM")
    button = page.get_by_role("button", name="This is what I counted")
    box = button.bounding_box()
    assert box is not None and box["height"] >= 44
    fits(page)
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/count-390.png")
    button.click()
    expect(page.get_by_text(f"{task} is counted.").first).to_be_visible()
    task.refresh_from_db()
    assert (task.counted, task.expected, task.state) == (2, 12, "counted")
    screens = {
        "counts": "/stock/counts/?tab=review", "count": f"/stock/counts/{task.pk}/", "putaway": "/stock/put-away/",
        "bins": "/stock/bins/", "bin": f"/stock/bins/{Bin.objects.get(code='A-01').pk}/", "lots": "/stock/lots/",
        "recall": f"/shipments/lots/{Lot.objects.get(code='L-1').pk}/", "fences": "/orders/fences/",
        "waiting": "/orders/waiting/", "merge": "/stock/merge/?source=SOAP&target=MUG",
        "approvals": "/stock/approvals/",
    }  # fmt: skip
    for name, path in screens.items():
        page.set_viewport_size({"width": 320, "height": 700})
        answer = page.goto(live_server.url + path)
        assert answer is not None and answer.status == 200, path
        fits(page)
        if PICTURES:
            for width, scheme in ((390, "dark"), (1440, "light")):
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=scheme)
                page.screenshot(path=f"{PICTURES}/{name}-{width}-{scheme}.png")
