"""What a phone must not lose: the tab in use, the labels of a table that one types into, the name on the way in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from oms.core.models import User
from oms.orders.models import SalesChannel
from tests.factories import make_channel, make_warehouse

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_name_the_tab_and_the_labels(
    page: Page,
    live_server: Any,
    owner: User,
    log_in: Callable[[User], None],
    fits: Callable[[Page], None],
) -> None:
    make_channel("phone", make_warehouse("EAST"), name="Phone", kind=SalesChannel.Kind.MANUAL)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{live_server.url}/login/")
    expect(page.get_by_text("Lading", exact=True)).to_be_visible()
    log_in(owner)
    page.goto(f"{live_server.url}/orders/?view=unmapped")
    expect(page.locator(".tabs [aria-current]")).to_be_in_viewport(ratio=1)
    page.goto(f"{live_server.url}/orders/new/")
    last = page.get_by_label("Tax of the line, row 1")
    expect(last).to_be_in_viewport(ratio=1)
    assert (
        last.evaluate("box => getComputedStyle(box.closest('td'), '::before').content") == '"Tax of the line"'
    )
    fits(page)
