"""At the screen: Amazon's warehouse is switched on for other channels, an order is followed, drift is settled."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F
from playwright.sync_api import Page, expect

from channels import accounts, drift, mcf
from channels.models import Drift, Listing
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.models import User
from tests.browser.conftest import console as console
from tests.browser.conftest import fits as fits
from tests.browser.conftest import log_in as log_in
from tests.browser.conftest import owner as owner
from tests.channels.conftest import Shop
from tests.channels.test_mcf import Amazon
from tests.channels.test_mcf import world as world

pytestmark = pytest.mark.django_db(transaction=True)

#: a folder for pictures of the way, for whoever wants to look at them
PICTURES = os.environ.get("OMS_PICTURES", "")


def test_amazon_ships_for_others_and_drift_is_settled(
    page: Page, live_server: Any, world: Amazon, shopify: Shop, owner: User, log_in: Callable[[User], None],
    fits: Callable[[Page], None], settings: Any,
) -> None:  # fmt: skip
    settings.HOST_MAP = shopify.client.host_map()
    mcf.switch_off(world.shop.account.pk, "not yet", actor=SYSTEM)
    # as if everything had been told an hour ago
    Listing.objects.filter(account=shopify.account, sku__isnull=False).update(
        acked_quantity=50, acked_at=now() - dt.timedelta(hours=1), acked_version=F("version"), stale_since=None,
        last_quantity=50,
    )  # fmt: skip
    accounts.set_healing(shopify.account.pk, [], actor=SYSTEM)
    for code, units in (("MUG", 90), ("BOWL", 12), ("TRAY", 44)):
        shopify.client.set_stock(shopify.id, code, units)
    drift.read_back(shopify.account.pk, [shopify.listing(code) for code in ("MUG", "BOWL", "TRAY")])
    log_in(owner)

    def shot(name: str) -> None:
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 900})
            fits(page)
            if PICTURES:
                page.screenshot(path=str(Path(PICTURES) / f"{name}-{width}.png"), full_page=True)
        page.set_viewport_size({"width": 1440, "height": 900})

    # switch it on
    page.goto(f"{live_server.url}/channels/amazon-us/settings/")
    page.get_by_role("button", name="Switch on").click()
    expect(page.get_by_text("Switched on: orders of other channels")).to_be_visible()
    page.get_by_label("On packing slips").fill("Thanks from Acme")
    page.get_by_role("checkbox", name="Acme").check()
    page.locator("#outbound").get_by_role("button", name="Save").click()
    expect(page.get_by_role("checkbox", name="Acme")).to_be_checked()
    shot("mcf-settings")
    world.partner.refresh_from_db()
    assert world.partner.options == {"comment": "Thanks from Acme", "neutral": ["acme"]}

    # what was handed over
    given = world.handed(2)
    page.locator("#outbound").get_by_role("link", name="What was handed over").click()
    shot("mcf-detail")
    page.locator("#main").get_by_role("link", name=given.reference, exact=True).click()
    shot("mcf-order")

    # which differences are mended by themselves, and one that a person accepts
    page.goto(f"{live_server.url}/channels/acme/drift/")
    shot("drift")
    page.locator("#results").get_by_role("row", name="BOWL").get_by_role("button", name="Accept 24 h").click()
    expect(page.get_by_text("The channel keeps its 12 for 24 hours.")).to_be_visible()
    page.locator("#results").get_by_role("row", name="TRAY").get_by_role("button", name="Push ours").click()
    assert set(Drift.objects.filter(closed_at=None).values_list("listing__external_sku", flat=True)) == {
        "MUG"
    }
    page.goto(f"{live_server.url}/channels/acme/settings/")
    page.get_by_role("checkbox", name="Edited on the channel").check()
    page.locator("#healing").get_by_role("button", name="Save").click()
    expect(page.get_by_role("checkbox", name="Edited on the channel")).to_be_checked()

    # a tuned buffer says why
    page.goto(f"{live_server.url}/channels/listings/{shopify.listing('MUG').pk}/")
    page.get_by_label("Buffer is").select_option("tuned")
    page.get_by_label("Accepted risk").fill("0.01")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("held back leave a risk of").first).to_be_visible()
    shot("listing")
    page.goto(f"{live_server.url}/channels/acme/")
    shot("channel")
    page.goto(f"{live_server.url}/channels/")
    shot("channels")
