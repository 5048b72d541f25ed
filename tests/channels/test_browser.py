"""The main paths at the screen: a shop mapped from its base address to a confirmed parcel, and a partner with files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from channels import accounts, pulls, tasks
from channels.connectors.files import folder as folders
from channels.models import ChannelAccount, ChannelEffect
from channels.sandbox.client import SandboxClient
from oms.core.actor import SYSTEM
from oms.core.models import User
from oms.orders.models import Order
from tests.browser.conftest import console as console
from tests.browser.conftest import fits as fits
from tests.browser.conftest import log_in as log_in
from tests.browser.conftest import owner as owner
from tests.channels.conftest import SKUS, Shop
from tests.channels.test_effects import shipped, work
from tests.channels.test_files import ORDERS
from tests.line.conftest import push

pytestmark = pytest.mark.django_db(transaction=True)

#: a folder for pictures of the way, for whoever wants to look at them
PICTURES = os.environ.get("OMS_PICTURES", "")
Shot = Callable[[str], None]


@pytest.fixture
def shot(page: Page, fits: Callable[[Page], None]) -> Shot:
    def take(name: str) -> None:
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 900})
            fits(page)
            if PICTURES:
                page.screenshot(path=str(Path(PICTURES) / f"{name}-{width}.png"), full_page=True)
        page.set_viewport_size({"width": 1440, "height": 900})

    return take


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_a_shop_is_mapped_from_its_base_address_to_a_confirmed_parcel(
    page: Page, live_server: Any, sandbox: SandboxClient, stock: Any, settings: Any, owner: User,
    log_in: Callable[[User], None], shot: Shot, assert_invariants: Callable[[], None],
) -> None:  # fmt: skip
    warehouse, skus = stock
    catalogue = [{"sku": code, "title": code.title(), "price": "10.00", "stock": 10} for code in SKUS]
    made = sandbox.create_shop("custom", "stall", name="Stall", currency="USD", catalogue=catalogue)
    settings.HOST_MAP = sandbox.host_map()
    address = {"name": "Ada Brooks", "address1": "12 Oak St", "city": "Boston", "province_code": "MA", "zip": "02108",
               "country_code": "US"}  # fmt: skip
    placed = sandbox.place_order(
        "stall", [{"sku": "MUG", "quantity": 2}], email="ada@example.com", address=address
    )
    log_in(owner)
    page.goto(f"{live_server.url}/channels/connect/?connector=custom")
    shot("custom-1-connect")
    page.get_by_label("Name", exact=True).fill("Stall")
    page.get_by_label("Short code").fill("stall")
    page.get_by_label("Served from").select_option(label="EAST")
    page.get_by_label("Base address").fill(made["base_url"])
    page.get_by_label("Token, key or password").fill(made["credentials"]["token"])
    press(page, "Connect and test")
    expect(page.get_by_role("heading", name="Field mapping")).to_be_visible()
    shot("custom-2-empty")

    # two addresses, and everything else is proposed beside its value
    page.get_by_label("Address of the order list").fill("/purchases")
    page.get_by_label("Address where stock is read").fill("/stock")
    press(page, "Fetch and propose")
    expect(page.get_by_text("please check: its name ends as an id does")).to_be_visible()
    account = ChannelAccount.objects.get()
    fields = page.get_by_role("region", name="Fields of an order", exact=True)
    expect(fields.get_by_role("row", name=re.compile("Line: SKU"))).to_contain_text("MUG")
    expect(page.get_by_role("complementary").last).to_contain_text("2 × MUG at")
    expect(page.get_by_text("Adds up", exact=True)).to_be_visible()
    shot("custom-3-proposed")

    # stock and shipments, copied out of the shop's description with its examples
    page.get_by_label("Another word of theirs").fill("dispatched")
    page.get_by_label("It means").select_option("shipped")
    page.get_by_label("Address to write").fill("/stock/MUG")
    page.get_by_label(re.compile(r"^Address \(optional\)")).fill(f"/purchases/{placed['id']}/parcels")
    page.locator("[name=ship_body]").fill(
        '{"carrier": "DHL", "track": "JJD01", "positions": [{"pos": 1, "pieces": 3}]}'
    )
    press(page, "Show the result")
    expect(page.get_by_label("The request for 12 units")).to_contain_text('"on_hand": 12')
    expect(page.get_by_label("The request for a parcel")).to_contain_text('"track": "1Z999AA10123456784"')
    page.get_by_text("Lines of a parcel, and its proof").click()
    page.get_by_label("Where the order shows tracking numbers").fill("parcels[*].track")
    shot("custom-4-writing")
    press(page, "Save")
    expect(page.get_by_text("Saved. Now read a page live.")).to_be_visible()
    mapping = ChannelAccount.objects.get().config["mapping"]
    assert (mapping["stock_path"], mapping["ship_path"]) == ("/stock/{sku}", "/purchases/{order_id}/parcels")
    assert (mapping["order_path"], mapping["order_root"]) == ("/purchases/{order_id}", "purchase")
    assert mapping["ship_line"] == '{"pos": "{line_id}", "pieces": "{quantity}"}'
    assert mapping["statuses"] == {"paid": "open", "dispatched": "shipped"}

    press(page, "Read one page")
    expect(page.get_by_text("Nothing was written or booked.")).to_be_visible()
    page.locator("#push-sku").fill("BOWL")
    page.locator("#push-quantity").fill("7")
    press(page, "Write this quantity")
    expect(page.get_by_text("The shop took 7 for BOWL and shows it.")).to_be_visible()
    shot("custom-5-tested")
    press(page, "Connect the channel")
    expect(page.get_by_text("answers.").first).to_be_visible()

    # order in, stock out, parcel told and proved
    accounts.import_listings(account.pk, actor=SYSTEM)
    pulls.pull_orders(account.pk)
    order = Order.objects.get(external_id=str(placed["id"]))
    push()
    account.refresh_from_db()
    shop = Shop(sandbox, "stall", account, skus, warehouse, made)
    assert {code: shop.available(code) for code in SKUS} == {"MUG": 48, "BOWL": 50, "TRAY": 50}
    shipped(order)
    work(shop)
    assert ChannelEffect.objects.get(kind="ship").state == "confirmed"
    assert [one["tracking"] for one in sandbox.fulfilments("stall")] == [["1Z999AA10123456784"]]
    push()
    assert_invariants()


def test_a_partner_with_files_is_set_up_and_served(
    page: Page, live_server: Any, stock: Any, settings: Any, tmp_path: Path, owner: User, monkeypatch: Any,
    log_in: Callable[[User], None], shot: Shot,
) -> None:  # fmt: skip
    settings.HOME = tmp_path
    monkeypatch.setattr(folders, "SETTLED", 0.0)
    sample = tmp_path / "theirs.csv"
    sample.write_text(ORDERS.replace("paid", "bezahlt"))
    log_in(owner)
    page.goto(f"{live_server.url}/channels/connect/?connector=files")
    page.get_by_label("Name", exact=True).fill("Acme")
    page.get_by_label("Short code").fill("acme")
    page.get_by_label("Served from").select_option(label="EAST")
    page.get_by_label("Name of the folder").fill("acme")
    shot("files-1-connect")
    press(page, "Connect and test")
    expect(page.get_by_role("heading", name="Columns and formats")).to_be_visible()
    shot("files-2-empty")
    page.get_by_label("Sample file").set_input_files(sample)
    press(page, "Propose the columns")
    expect(page.get_by_text("choose what 'bezahlt' means")).to_be_visible()
    shot("files-3-proposed")
    page.get_by_label("“bezahlt”").select_option("open")
    press(page, "Show the result")
    expect(page.get_by_role("region", name="Orders")).to_contain_text("2 × MUG at")
    stock_file = page.locator("#stock")
    stock_file.get_by_label("Ready format").select_option("linnworks")
    stock_file.get_by_role("button", name="Take it").click()
    expect(page.get_by_label("How the stock file looks")).to_contain_text("SKU,Stock Level,Location")
    shot("files-4-formats")
    press(page, "Save and test the folder")
    expect(page.get_by_text("the channel is connected.")).to_be_visible()

    page.get_by_role("link", name="Files").last.click()
    press(page, "Offer every SKU")
    expect(page.get_by_text("3 SKUs are offered")).to_be_visible()
    wrong = tmp_path / "orders.csv"
    wrong.write_text(ORDERS.replace("paid", "bezahlt").replace("BOWL,1", "BOWL,one"))
    page.get_by_label("Orders, returns or listings").set_input_files(wrong)
    press(page, "Take the file")
    expect(page.get_by_role("region", name="Files")).to_contain_text("'one' is not a whole number of units")
    push()
    page.reload()
    expect(page.get_by_text(re.compile(r"stock-levels-\d{8}T"))).to_be_visible()
    shot("files-5-files")
    with page.expect_download() as rows:
        page.get_by_role("link", name="Get the rows").click()
    assert "1002" in Path(rows.value.path()).read_text()
    tasks.watch_files("")
    assert list(Order.objects.values_list("external_id", flat=True)) == ["1001"]
