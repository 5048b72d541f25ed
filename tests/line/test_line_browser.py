"""The line as a person works it: log in, pick, pack, label, return, refund, receive. The console stays clean."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from channels.models import ChannelEffect
from fulfillment.models import LabelPurchase, Shipment
from oms.core.actor import Actor
from oms.core.models import Membership, User
from oms.orders.models import Order
from procurement import purchase_orders
from procurement.models import Supplier
from returns.models import Refund, Rma
from tests.browser.conftest import PASSWORD
from tests.browser.conftest import console as console
from tests.line.conftest import GTINS, Brand

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_person_takes_an_order_through_the_line(
    page: Page, brand: Brand, clean: Callable[[], None]
) -> None:
    ops = User.objects.create_user("omar", password=PASSWORD)
    Membership.objects.create(user=ops, role="ops")
    placed = brand.buy("shopify", "MUG", 2)
    brand.work()
    order = brand.order(placed)
    shipment = Shipment.objects.get(order=order)

    def click(name: str) -> None:
        with page.expect_navigation():  # what follows looks into the books
            page.get_by_role("button", name=name).first.click()

    # log in, open the order: why this warehouse
    page.goto(brand.web)
    page.get_by_label("User name").fill("omar")
    page.get_by_label("Password").fill(PASSWORD)
    click("Log in")
    expect(page.get_by_role("heading", name="Today", level=1)).to_be_visible()
    page.goto(f"{brand.web}/orders/{order.number}/")
    expect(page.get_by_role("heading", level=1)).to_contain_text(order.number)
    page.locator("#main").get_by_role("link", name=shipment.number).first.click()
    expect(page.get_by_role("heading", name=shipment.number, level=1)).to_be_visible()

    # pick and pack with typed scans: a wrong one is refused
    page.locator("#main").get_by_role("link", name="Pick & pack").click()
    scan = page.get_by_label("Scan an item")
    for code, word in ((GTINS["BOWL"], "WRONG ITEM"), (GTINS["MUG"], "OK"), (GTINS["MUG"], "DONE")):
        expect(scan).to_be_focused()
        scan.fill(code)
        scan.press("Enter")
        expect(page.locator(".verdict")).to_contain_text(word)
    click("Close the box and compare rates")
    rates = page.get_by_role("region", name="Rates")
    expect(rates.locator("tbody tr")).to_have_count(5)
    click("Buy label")
    expect(page.get_by_role("region", name="Labels")).to_contain_text(
        LabelPurchase.objects.get().tracking_number
    )
    click("It left the house")
    expect(page.get_by_text(f"{shipment.number} has left.").first).to_be_visible()
    brand.work()
    assert ChannelEffect.objects.get().state == ChannelEffect.State.CONFIRMED
    assert len(brand.client.fulfilments("acme")) == 1
    clean()

    # a return on the order page: received, inspected, back on sale, refunded
    page.goto(f"{brand.web}/orders/{order.number}/")
    page.get_by_text("Open a return").click()
    page.locator("#returns input[name^=line-]").fill("1")
    click("Open the return")
    item = Rma.objects.get()
    page.goto(f"{brand.web}/returns/{item.pk}/")
    click("Receive into quarantine")
    expect(page.get_by_role("heading", name="Inspect MUG")).to_be_visible()
    assert brand.level("EAST").quarantine == 1
    page.get_by_label("Condition").select_option("new")
    page.get_by_label("Then").select_option("restock")
    click("Finish")
    expect(page.get_by_role("heading", name="Inspect MUG")).to_have_count(0)
    click("Refund on the channel")
    expect(page.get_by_text(Refund.objects.get().number).first).to_be_visible()
    brand.work()
    assert Refund.objects.get().state == Refund.State.CONFIRMED
    assert [one["amount"] for one in brand.client.refunds("acme")] == ["14.00"]
    assert brand.available() == brand.shown("amazon") == brand.shown("shopify") == 59
    clean()

    # a purchase order: approved, sent, received
    supplier = Supplier.objects.create(code="KILN", name="Kiln", currency="USD", lead_time_days=14)
    line = purchase_orders.LineSpec(brand.skus["MUG"].pk, 24, Decimal("6.00"))
    bought = purchase_orders.create(
        supplier_id=supplier.pk,
        warehouse_id=brand.places["EAST"].pk,
        lines=[line],
        actor=Actor("user", "omar"),
    )
    page.goto(f"{brand.web}/purchasing/orders/{bought.pk}/")
    click("Approve")
    click("Mark as sent")
    page.get_by_label("Good units of MUG").fill("23")
    page.get_by_label("Damaged units of MUG").fill("1")
    click("Post the receipt")
    expect(page.get_by_role("main")).to_contain_text("23 good, 1 damaged")
    brand.work()
    assert brand.available() == brand.shown("amazon") == brand.shown("shopify") == 59 + 23
    assert Order.objects.get().state == Order.State.SHIPPED
    clean()


def test_floor_staff_see_their_own_warehouse_only(page: Page, brand: Brand, client: Any) -> None:
    """A picker of WEST finds nothing of EAST, by list or by address."""
    from oms.core.models import MembershipScope

    user = User.objects.create_user("wes", password=PASSWORD)
    membership = Membership.objects.create(user=user, role="floor")
    MembershipScope.objects.create(membership=membership, kind="warehouse", code="WEST")
    brand.buy("shopify", "MUG", 1)
    brand.work()
    shipment = Shipment.objects.get()
    assert shipment.warehouse.code == "EAST"
    client.force_login(user)
    assert client.get(f"/shipments/{shipment.pk}/").status_code == 404
    assert client.post(f"/shipments/{shipment.pk}/pick-all/").status_code == 404
    page.goto(brand.web)
    page.get_by_label("User name").fill("wes")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.goto(f"{brand.web}/floor/")
    expect(page.get_by_role("main")).to_be_visible()
    expect(page.get_by_text(shipment.number)).to_have_count(0)
