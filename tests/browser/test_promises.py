"""I12 as a buyer works it: the date of a purchase order moves, and its page says whose promise moved or was lost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from inventory.models import Sku
from oms.core.actor import SYSTEM
from oms.core.clock import business_day
from oms.core.models import User
from procurement import purchase_orders
from procurement.models import Supplier
from tests.browser.test_every_page import findings, in_dialogs
from tests.factories import add_stock, make_channel, make_sku, make_warehouse
from tests.orders.test_promises import bought, receive, settle, sold

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_moved_date_and_whom_a_short_delivery_drops(
    page: Page, live_server: Any, owner: User, log_in: Callable[[User], None], fits: Callable[[Page], None]
) -> None:
    east, sku = make_warehouse("EAST", name="East"), make_sku("MUG", title="Blue mug")
    channel = make_channel("shop", east, name="Harbour shop")
    kiln = Supplier.objects.create(code="KILN", name="Kiln works", lead_time_days=14)
    first, last = sold(channel, sku, 2, "A", 3), sold(channel, sku, 3, "B", 5)
    today = business_day()
    order = bought(kiln, east, sku, 5, today + dt.timedelta(days=10))
    settle()
    log_in(owner)
    page.goto(f"{live_server.url}/purchasing/orders/{order.pk}/")
    expect(page.get_by_role("link", name=last.order.number)).to_have_count(2)  # waiting, and promised
    assert in_dialogs(page, set()) == []
    page.get_by_role("button", name="Move date").click()
    dialog = page.get_by_role("dialog", name="Move the expected date")
    dialog.get_by_label("Expected").fill((today + dt.timedelta(days=17)).isoformat())
    dialog.get_by_label("Reason").fill("No ship before Monday")
    dialog.get_by_role("button", name="Move the date").click()
    expect(page.get_by_text("The date moved.")).to_be_visible()
    settle()
    page.reload()
    promised = page.get_by_role("region", name=f"Orders promised from PO-{order.pk}")
    expect(promised.get_by_text("Moved")).to_have_count(2)
    receive(order, 2, "r")
    settle()
    purchase_orders.close(order.pk, actor=SYSTEM)
    settle()
    page.reload()
    row = promised.get_by_role("row", name=last.order.number)
    expect(row.get_by_text("Lost")).to_be_visible()
    expect(promised.get_by_role("row", name=first.order.number)).to_have_count(0)
    assert findings(page) == [] and in_dialogs(page, set()) == []
    page.set_viewport_size({"width": 390, "height": 844})
    fits(page)
    page.goto(f"{live_server.url}/orders/promises/")
    expect(page.get_by_role("link", name=last.order.number)).to_be_visible()
    assert findings(page) == []
    fits(page)


def test_units_without_a_number_are_numbered(
    page: Page, live_server: Any, owner: User, log_in: Callable[[User], None], fits: Callable[[Page], None]
) -> None:
    east, sku = make_warehouse("EAST"), make_sku("CAM")
    add_stock(sku, east, 2)
    Sku.objects.filter(pk=sku.pk).update(serial_tracked=True)
    log_in(owner)
    page.goto(f"{live_server.url}/stock/serials/")
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_text("Number them").click()
    assert findings(page) == []
    fits(page)
    page.get_by_label("Serial numbers of CAM in EAST, one per line").fill("S-1\nS-2")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("2 numbered; every unit has a number now.")).to_be_visible()
    expect(page.get_by_text("Units without a number")).to_have_count(0)
