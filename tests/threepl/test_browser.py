"""The main path at the screen: connect a 3PL with a live test, see its queue, settle a difference, take one back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from channels.sandbox.client import SandboxClient
from fulfillment.models import ThreePLAccount
from inventory import operations
from inventory.models import StockDifference
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.models import User
from tests.browser.conftest import console as console
from tests.browser.conftest import fits as fits
from tests.browser.conftest import log_in as log_in
from tests.browser.conftest import owner as owner
from tests.factories import make_warehouse
from tests.threepl.conftest import make_partner

pytestmark = pytest.mark.django_db(transaction=True)

#: a folder for pictures of the way, for whoever wants to look at them
PICTURES = os.environ.get("OMS_PICTURES", "")


def test_a_person_connects_a_3pl_and_settles_what_differs(
    page: Page, live_server: Any, sandbox: SandboxClient, settings: Any, owner: User,
    log_in: Callable[[User], None], fits: Callable[[Page], None],
) -> None:  # fmt: skip
    partner = make_partner(sandbox, settings)
    other = sandbox.create_shop("threepl", "second", name="Second 3PL")
    settings.HOST_MAP = {**settings.HOST_MAP, **sandbox.host_map()}
    make_warehouse("TEXAS", kind="3pl", name="Texas")
    partner.tell("order.status", reference="S-404", status="accepted")
    given, refused = partner.handed(2), partner.handed(1)
    operations.apply_pool_snapshot(
        warehouse_id=partner.warehouse.pk, figures=[operations.PoolFigure(partner.sku.pk, 6)], taken_at=now(),
        actor=SYSTEM, key="s1",
    )  # fmt: skip
    log_in(owner)

    def shot(name: str) -> None:
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 900})
            fits(page)
            if PICTURES:
                page.screenshot(path=str(Path(PICTURES) / f"{name}-{width}.png"), full_page=True)
        page.set_viewport_size({"width": 1440, "height": 900})

    # connect, with a live test
    page.goto(f"{live_server.url}/threepl/connect/")
    shot("connect")
    page.get_by_label("Name", exact=True).fill("Second 3PL")
    page.get_by_label("Short code").fill("second")
    page.get_by_label("Warehouse", exact=True).select_option(label="TEXAS")
    page.get_by_label("Address of their API").fill(other["base_url"])
    page.get_by_label("Our key there").fill(other["credentials"]["key"])
    page.get_by_label("Secret for our messages").fill(other["credentials"]["secret"])
    page.get_by_label("Secret for their messages").fill(other["credentials"]["hook_secret"])
    page.get_by_role("button", name="Connect and test").click()
    expect(page.get_by_text("Connected: Second 3PL.")).to_be_visible()
    shot("settings")
    assert ThreePLAccount.objects.get(code="second").state == "connected"

    # the queue and one hand-off
    page.goto(f"{live_server.url}/threepl/")
    shot("list")
    page.locator("#main").get_by_role("link", name="Midway 3PL").click()
    expect(page.get_by_text(refused.external_id)).to_be_visible()
    shot("detail")
    page.locator("#main").get_by_role("link", name=given.reference, exact=True).click()
    shot("order")
    page.get_by_role("button", name="Take back").first.click()
    page.get_by_label("Why").fill("sent from east")
    page.locator("#take-back").get_by_role("button", name="Take back").click()
    expect(page.get_by_text(f"{given.reference}: Midway 3PL is told not to send it.")).to_be_visible()

    # the desk
    page.goto(f"{live_server.url}/stock/pools/")
    shot("pools")
    page.locator("#main").get_by_role("link", name="Difference desk").click()
    shot("desk")
    row = StockDifference.objects.get()
    page.locator("#main").get_by_role("link", name=row.number).click()
    shot("difference")
    page.get_by_role("button", name="Accept theirs").first.click()
    page.get_by_label("Reason").select_option("count")
    page.locator("#accept").get_by_role("button", name="Accept theirs").click()
    expect(page.get_by_text("their figure is booked")).to_be_visible()
    assert partner.level().on_hand == 6
