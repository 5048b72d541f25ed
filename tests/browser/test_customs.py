"""F20 in a browser: the packer meets what is missing, types it, and the same shipment goes on to its label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from fulfillment.customs import terms
from fulfillment.models import LabelPurchase
from inventory.models import Sku
from oms.core.actor import SYSTEM
from oms.core.models import User
from tests.browser.looks import look
from tests.factories import add_stock, line_draft, make_sku
from tests.fulfillment.conftest import World
from tests.fulfillment.conftest import carrier as carrier
from tests.fulfillment.conftest import world as world
from tests.fulfillment.test_customs import abroad

pytestmark = pytest.mark.django_db(transaction=True)


def test_customs_data_is_completed_at_the_bench(
    page: Page, live_server: Any, owner: User, log_in: Callable[[User], None], world: World, carrier: Any
) -> None:
    cap = make_sku("CAP-R", weight_g=90, length_mm=200, width_mm=150, height_mm=60, hs_code="650500")
    add_stock(cap, world.east, 5)
    terms.put("CA", incoterm="DDP", tax_id="BN 123456789", actor=SYSTEM)
    shipment = abroad(world, line_draft(world.sku, 2), line_draft(cap, 1))
    log_in(owner)
    page.goto(f"{live_server.url}/floor/{shipment.pk}/")
    expect(page.get_by_role("alert")).to_contain_text("MUG needs an HS code of 6 to 10 digits.")
    expect(page.get_by_role("button", name="Buy label")).to_have_count(0)
    mug = page.get_by_role("group", name="MUG")
    # the first field has the focus, as the scan box has: the packer types and goes on with the keyboard
    expect(mug.get_by_label("HS code")).to_be_focused()
    look(page, "customs-blocked")
    mug.get_by_label("HS code").focus()
    page.keyboard.type("6912.00")
    page.keyboard.press("Tab")
    page.keyboard.type("pt")
    page.get_by_role("group", name="CAP-R").get_by_label("Made in").fill("BD")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Kept at the SKU.")).to_be_visible()
    assert dict(Sku.objects.values_list("hs_code", "origin_country")) == {"691200": "PT", "650500": "BD"}
    page.get_by_role("button", name="Buy label").click()
    expect(page.get_by_role("link", name="Commercial invoice")).to_be_visible()
    assert LabelPurchase.objects.get().state == LabelPurchase.State.PURCHASED
    page.goto(f"{live_server.url}/shipments/{shipment.pk}/")
    expect(page.get_by_role("link", name="Commercial invoice")).to_be_visible()
    expect(page.get_by_text("tax id BN 123456789")).to_be_visible()
    look(page, "customs-declared")
    page.goto(f"{live_server.url}/settings/customs/")
    look(page, "customs-terms")
    page.get_by_role("button", name="Remove…").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove the terms").click()
    expect(page.get_by_role("heading", name="DAP everywhere")).to_be_visible()
