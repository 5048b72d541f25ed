"""Work on orders as a person does it: split and put back, many at once, another address, a routing rule, the walk."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from fulfillment import routing_service
from fulfillment.models import LabelPurchase, RoutingPolicy, Shipment
from inventory import putaway
from inventory.models import CountTask
from oms.core import jobs
from oms.core.actor import SYSTEM
from oms.core.models import Job, User
from oms.orders import intake
from oms.orders.models import Order
from tests.browser.looks import look
from tests.factories import add_stock, line_draft, make_sku, order_draft
from tests.fulfillment.conftest import World
from tests.fulfillment.conftest import carrier as carrier
from tests.fulfillment.conftest import world as world

pytestmark = pytest.mark.django_db(transaction=True)
LogIn = Callable[[User], None]


@pytest.fixture(autouse=True)
def _logged_in(owner: User, log_in: LogIn, world: World, carrier: Any) -> None:
    log_in(owner)


def work() -> None:
    for job in Job.objects.filter(state="queued"):
        jobs.run_job(job.pk)


def toast(page: Page, words: str) -> Any:
    return expect(page.locator("#toasts").get_by_text(words))


def choose(page: Page, base: str, *numbers: str) -> None:
    page.goto(f"{base}/orders/")
    for number in numbers:
        page.get_by_label(f"Select {number}").check()
    expect(page.locator("#bulk output")).to_have_text(f"{len(numbers)} selected")


def test_an_order_is_split_put_back_and_split_again(page: Page, live_server: Any, world: World) -> None:
    whole = world.routed(3)
    number = whole.order.number
    page.goto(f"{live_server.url}/orders/{number}/")
    for undone in (True, False):
        page.get_by_role("button", name="Split…").click()
        dialog = page.get_by_role("dialog", name=f"Split {number}")
        dialog.get_by_label("MUG, 3 waiting").fill("1")
        dialog.get_by_label("Why").fill("two boxes")
        dialog.get_by_role("button", name="Split", exact=True).click()
        apart = Shipment.objects.latest("pk")
        toast(page, f"Split: {apart.number} goes apart.").to_be_visible()
        assert (whole.lines.get().quantity, apart.lines.get().quantity) == (2, 1)
        if undone:
            page.locator("#toasts").get_by_role("button", name="Undo").click()
            toast(page, f"Together again: {whole.number}.").to_be_visible()
            assert whole.lines.get().quantity == 3
    expect(page.get_by_role("columnheader", name="Its share")).to_be_visible()
    look(page, "order-split")
    page.get_by_role("button", name="Put back together").first.click()
    toast(page, "Together again").to_be_visible()
    assert Shipment.objects.exclude(state="cancelled").get().lines.get().quantity == 3


def test_many_orders_are_sent_from_one_warehouse_with_an_answer_each(
    page: Page, live_server: Any, world: World
) -> None:
    """The job's page works itself up to date, its title included."""
    small, large = world.order(2).number, world.order(9).number
    choose(page, live_server.url, small, large)
    page.get_by_role("button", name="Assign warehouse…").click()
    dialog = page.get_by_role("dialog", name="Send the selected orders from one warehouse")
    dialog.get_by_label("Warehouse").select_option("EAST")
    dialog.get_by_label("Why").fill("west is closing")
    dialog.get_by_role("button", name="Assign", exact=True).click()
    expect(page).to_have_title(re.compile(r"^Send 2 orders from .* · Waiting · "))
    work()
    expect(page).to_have_title(re.compile(r"^Send 2 orders from .* · Done · "))
    expect(page.get_by_role("row", name=small)).to_contain_text("sent from there")
    expect(page.get_by_role("row", name=large)).to_contain_text("cannot send")
    look(page, "job-assign")


def test_labels_and_a_pick_list_of_many_orders(page: Page, live_server: Any, world: World) -> None:
    ready, bare = world.packed(1).order.number, world.routed(2).order.number
    choose(page, live_server.url, bare)
    page.get_by_role("button", name="Buy labels…").click()
    dialog = page.get_by_role("dialog", name="Buy labels of the selected orders")
    dialog.get_by_role("button", name="Buy labels").click()
    toast(page, f"{bare} is not packed: pick and pack first.").to_be_visible()
    expect(page.get_by_role("heading", name="Orders", level=1)).to_be_visible()
    choose(page, live_server.url, ready, bare)
    look(page, "orders-bulk")
    page.get_by_role("button", name="Buy labels…").click()
    dialog.get_by_role("button", name="Buy labels").click()
    toast(page, f"{bare} is not packed: pick and pack first.").to_be_visible()
    work()
    expect(page.get_by_role("row", name=ready)).to_contain_text("label 1Z")
    expect(page.get_by_role("row", name=bare)).to_contain_text("is not packed")
    assert LabelPurchase.objects.get().state == LabelPurchase.State.PURCHASED
    choose(page, live_server.url, bare)
    with page.expect_download() as made:
        page.get_by_role("button", name="Pick list").click()
    assert made.value.suggested_filename == "pick-list-1.pdf"


def test_an_address_is_changed_where_it_stands_and_taken_back(
    page: Page, live_server: Any, world: World, console: list[str]
) -> None:
    order = world.order(1)
    page.goto(f"{live_server.url}/orders/{order.number}/")
    page.get_by_role("link", name="Edit").click()
    dialog = page.get_by_role("dialog", name=f"Where {order.number} goes")
    dialog.get_by_label("City").fill("")
    dialog.get_by_role("button", name="Change the address").click()
    expect(dialog.get_by_role("alert")).to_be_focused()
    dialog.get_by_role("link", name="City: This field is required.").click()
    expect(dialog.get_by_label("City")).to_be_focused()
    dialog.get_by_label("City").fill("Dallas")
    dialog.get_by_role("button", name="Change the address").click()
    toast(page, f"The address of {order.number} is changed.").to_be_visible()
    expect(page.get_by_text("Changed here.")).to_contain_text("told: Ana Maria Ruiz, 1 Main St, Austin")
    page.locator("#toasts").get_by_role("button", name="Undo").click()
    toast(page, f"{order.number} has the channel's address again.").to_be_visible()
    expect(page.get_by_role("group", name="Ship to").or_(page.locator("address"))).to_contain_text("Austin")
    refused = [line for line in console if "422" in line]
    assert len(refused) == 1, "the browser itself notes every refused request"
    console.remove(refused[0])
    # without a script the same form is a page of its own, and it belongs to the orders
    page.goto(f"{live_server.url}/orders/{order.pk}/address/")
    expect(page.locator("nav [aria-current=page]")).to_have_text("Orders")
    assert page.locator(".crumbs").inner_text().split() == ["Orders", order.number]
    look(page, "address")


def test_a_rule_is_built_tried_published_and_switched_off(page: Page, live_server: Any, world: World) -> None:
    order = world.routed(1).order
    page.goto(f"{live_server.url}/routing/")
    page.get_by_role("link", name="New rule").click()
    page.get_by_label("Name").fill("West first")
    page.get_by_label("Value", exact=True).first.fill("US")
    page.get_by_role("button", name="Add condition", exact=True).first.click()
    expect(page.locator(".condition")).to_have_count(2)
    expect(page.get_by_label("Value", exact=True).first).to_have_value("US")
    page.get_by_label("Field", exact=True).nth(1).select_option("weight_g")
    expect(page.get_by_label("Comparison", exact=True).nth(1).locator("option[value=le]")).to_be_attached()
    page.get_by_label("Comparison", exact=True).nth(1).select_option("le")
    page.get_by_label("Value", exact=True).nth(1).fill("5000")
    page.get_by_label(f"{world.west.name}: may send").select_option("only")
    look(page, "rule")
    page.get_by_role("button", name="Save to the draft").click()
    toast(page, "“West first” is in the draft. Try it, then publish.").to_be_visible()
    expect(page.get_by_text("Draft, not in force.")).to_be_visible()
    page.get_by_role("link", name="Try on the last 100 orders").click()
    trial = page.locator("#trial")
    expect(trial).to_contain_text("1 of 1 would be decided otherwise")
    expect(trial.get_by_role("row", name=order.number)).to_contain_text("West first")
    look(page, "routing-trial")
    page.get_by_role("button", name="Publish…").click()
    dialog = page.get_by_role("dialog", name="Publish the draft")
    dialog.get_by_label("What changes").fill("west has too much")
    dialog.get_by_role("button", name="Publish", exact=True).click()
    toast(page, "Version 1 is in force.").to_be_visible()
    assert RoutingPolicy.objects.get(is_active=True).note == "west has too much"
    assert world.routed(1).warehouse == world.west, "the next order goes by it"
    page.get_by_role("button", name="Switch West first off").click()
    expect(page.get_by_role("button", name="Switch West first on")).to_be_focused()
    expect(page.get_by_text("Draft, not in force.")).to_be_visible()


def test_the_bench_walks_from_bin_to_bin_and_a_short_item_leads_to_its_count(
    page: Page, live_server: Any, world: World
) -> None:
    """On a phone, with the scanner only; what is missing is counted from the inbox in one click."""
    for code, sequence, kind in (("DOCK", 0, "dock"), ("B1", 20, "pick"), ("A1", 10, "pick")):
        putaway.save_bin(
            warehouse_id=world.east.pk, code=code, pick_sequence=sequence, kind=kind, actor=SYSTEM
        )
    bowl = make_sku("BOWL", weight_g=200)
    add_stock(bowl, world.east, 5)
    bins = {place.code: place.pk for place in world.east.bins.all()}
    for sku, code, units in ((bowl, "A1", 5), (world.sku, "B1", 10)):
        putaway.move(
            sku_id=sku.pk, source_id=bins["DOCK"], target_id=bins[code], quantity=units, actor=SYSTEM
        )
    draft = order_draft(line_draft(world.sku, 2), line_draft(bowl, 1))
    [taken] = intake.take([draft], channel=world.channel, actor=SYSTEM, source="webhook")
    assert taken.order_id is not None
    routing_service.route(taken.order_id, actor=SYSTEM)
    shipment = Shipment.objects.get(order=taken.order_id)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{live_server.url}/floor/{shipment.pk}/")
    place, verdict = page.locator(".task .place"), page.locator(".verdict")
    for code, word, then in (
        ("b1", "B1", "A1"), ("dock", "WRONG BIN", "A1"), ("MUG", "OK", "A1"), ("BOWL", "OK", "B1"),
    ):  # fmt: skip
        expect(page.get_by_label("Scan an item")).to_be_focused()
        page.keyboard.type(code)
        page.keyboard.press("Enter")
        expect(verdict).to_contain_text(word)
        expect(place).to_have_text(then)
    box = page.get_by_role("button", name="Enter").bounding_box()
    assert box is not None and box["height"] >= 44
    look(page, "bench-walk")
    page.get_by_text("Short: I cannot find an item").click()
    page.get_by_role("button", name="Report short").click()
    expect(page.get_by_role("heading", name="Pack", exact=True)).to_be_visible()
    task = CountTask.objects.get()
    page.goto(f"{live_server.url}/exceptions/?kind=count_needed")
    look(page, "exceptions-count")
    page.get_by_role("link", name=re.compile("Count MUG in ")).click()
    expect(page.get_by_role("heading", name=str(task), level=1)).to_be_visible()
    expect(page.get_by_label("Scan each unit or case")).to_be_focused()
    assert Order.objects.get().lines.count() == 2
