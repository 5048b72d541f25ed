"""Purchasing screens and the panels of an order page: what they show, what they accept, whom they refuse."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from oms.core.actor import SYSTEM
from oms.core.clock import business_day
from oms.orders import intake
from procurement import purchase_orders
from procurement.models import LandedCharge, PurchaseOrder, ReorderSuggestion, Supplier, SupplierOffer
from tests.factories import (
    add_stock,
    line_draft,
    make_channel,
    make_sku,
    make_user,
    make_warehouse,
    order_draft,
)


@pytest.fixture
def ordered(db: None) -> PurchaseOrder:
    supplier = Supplier.objects.create(code="KILN", name="Kiln", lead_time_days=14)
    order = purchase_orders.create(
        supplier_id=supplier.pk,
        warehouse_id=make_warehouse("EAST").pk,
        lines=[purchase_orders.LineSpec(make_sku("MUG").pk, 10, Decimal("3.10"))],
        actor=SYSTEM,
    )
    purchase_orders.approve(order.pk, actor=SYSTEM)
    return purchase_orders.send(order.pk, actor=SYSTEM)


def test_a_new_supplier_shows_not_enough_data_instead_of_full_marks(
    client: Client, ordered: PurchaseOrder
) -> None:
    client.force_login(make_user("buyer", "owner"))
    page = client.get(reverse("procurement:supplier", args=["KILN"])).content.decode()
    assert "14 days stated; not measured yet" in page
    assert "Not enough data yet" in page and "100.0 %" not in page


def test_each_step_says_what_it_did_and_what_is_next(client: Client, db: None) -> None:
    supplier = Supplier.objects.create(code="KILN", name="Kiln", lead_time_days=14)
    east, mug = make_warehouse("EAST", name="East"), make_sku("MUG")
    client.force_login(make_user("buyer", "owner"))

    def draft() -> PurchaseOrder:
        line = purchase_orders.LineSpec(mug.pk, 10, Decimal("3.10"))
        return purchase_orders.create(
            supplier_id=supplier.pk, warehouse_id=east.pk, lines=[line], actor=SYSTEM
        )

    def said(order: PurchaseOrder, step: str) -> list[str]:
        answer = client.post(reverse("procurement:step", args=[order.pk, step]), follow=True)
        return [str(message) for message in answer.context["messages"]]

    first, second = draft(), draft()
    assert said(first, "approve") == [
        f"{first} is approved and counts as incoming in EAST. Send it to Kiln, then mark it as sent."
    ]
    assert said(first, "send") == [
        f"{first} is marked as sent to Kiln: its lead time is measured from now on."
    ]
    assert said(first, "confirm") == [f"Kiln has confirmed {first}."]
    assert said(first, "close") == [f"{first} is closed; what was still open counts as short."]
    assert said(second, "cancel") == [f"{second} is cancelled; its units are no longer incoming."]
    assert "cannot become sent" in said(second, "send")[0], "a step that is refused says so and nothing else"


def test_a_supplier_shows_its_offers_page_by_page_and_starts_an_order(
    client: Client, ordered: PurchaseOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("procurement.views.OFFERS", 1)
    Supplier.objects.create(code="ALPHA", name="Alpha")
    for code in ("MUG-A", "MUG-B"):
        SupplierOffer.objects.create(
            supplier=ordered.supplier, sku=make_sku(code), price=Decimal(3), currency="USD", moq=1,
            valid_from=business_day(),
        )  # fmt: skip
    client.force_login(make_user("buyer", "owner"))
    url = reverse("procurement:supplier", args=["KILN"])
    page = client.get(url).content.decode()
    assert "2 offers" in page and "MUG-A" in page and "MUG-B" not in page
    following = re.search(r'hx-get="(\?cursor=[^"]+)"', page)
    assert following
    more = client.get(url + following[1], headers={"HX-Request": "true"}).content.decode()
    assert "MUG-B" in more and "MUG-A" not in more and "<table" not in more
    new = reverse("procurement:new_order") + "?supplier=KILN"
    assert new in page
    assert '<option value="KILN" selected>' in client.get(new).content.decode()


def test_late_orders_are_counted_on_their_tab(client: Client, ordered: PurchaseOrder) -> None:
    client.force_login(make_user("buyer", "owner"))
    late = '<b class="bad">1</b>'
    PurchaseOrder.objects.update(expected_on=business_day())
    assert late not in client.get(reverse("procurement:orders")).content.decode()
    PurchaseOrder.objects.update(expected_on=business_day() - dt.timedelta(days=1))
    assert late in client.get(reverse("procurement:orders")).content.decode()


def test_a_suggestion_says_what_it_costs_at_the_break_that_it_reaches(
    client: Client, ordered: PurchaseOrder
) -> None:
    sku = make_sku("JUG")
    offer = SupplierOffer.objects.create(
        supplier=ordered.supplier,
        sku=sku,
        price=Decimal("3.00"),
        currency="USD",
        moq=1,
        valid_from=business_day(),
    )
    offer.breaks.create(min_quantity=50, price=Decimal("2.50"))
    ReorderSuggestion.objects.create(
        sku=sku,
        warehouse=ordered.warehouse,
        offer=offer,
        quantity=60,
        need=2,
        position=-2,
        reorder_point=0,
        trace={},
    )
    client.force_login(make_user("buyer", "owner"))
    page = client.get(reverse("procurement:reorder")).content.decode()
    assert "150.00" in page, "60 at 2.50, not at 3.00"
    assert "Owed" in page
    client.force_login(make_user("picker", "viewer"))
    assert "150.00" not in client.get(reverse("procurement:reorder")).content.decode()


def test_a_line_gets_another_quantity_by_screen_and_by_api(client: Client, ordered: PurchaseOrder) -> None:
    client.force_login(make_user("buyer", "owner"))
    line = ordered.lines.order_by("pk")[0]
    address = reverse("procurement:step", args=[ordered.pk, "quantity"])
    answer = client.post(address, {"line": line.pk, "quantity": "17"}, follow=True)
    assert f"17 of {line.sku} are ordered now" in answer.content.decode()
    line.refresh_from_db()
    assert line.quantity == 17 and 'id="quantity"' in answer.content.decode()
    assert (
        "must be a whole number of at least 1"
        in client.post(address, {"line": line.pk, "quantity": ""}, follow=True).content.decode()
    )
    told = client.post(
        f"/api/v1/purchase-orders/{ordered.pk}/quantity/",
        {"line": line.pk + 999, "quantity": 3},
        "application/json",
    )
    assert told.status_code == 404
    told = client.post(
        f"/api/v1/purchase-orders/{ordered.pk}/quantity/",
        {"line": line.pk, "quantity": 12},
        "application/json",
    )
    assert told.status_code == 200, told.content
    line.refresh_from_db()
    assert line.quantity == 12


def test_receiving_and_freight_on_screen(client: Client, ordered: PurchaseOrder) -> None:
    client.force_login(make_user("buyer", "owner"))
    page = client.get(reverse("procurement:order", args=[ordered.pk]))
    key = page.context["form_key"]
    charge = {"kind": "freight", "basis": "value", "form_key": key}
    freight = reverse("procurement:step", args=[ordered.pk, "charge"])
    refused = client.post(freight, {**charge, "amount": "twelve"}, follow=True).content.decode()
    assert "amount: &#x27;twelve&#x27; is not an amount; write it like 12.50." in refused
    assert not LandedCharge.objects.exists()
    for _ in range(2):  # a double click
        client.post(freight, {**charge, "amount": "12.50"})
    assert LandedCharge.objects.get().amount == Decimal("12.50")
    line = ordered.lines.get()
    receive = reverse("procurement:step", args=[ordered.pk, "receive"])
    refused = client.post(receive, {f"good-{line.pk}": "1.5", "form_key": key}, follow=True).content.decode()
    assert "good: &#x27;1.5&#x27; is not a whole number." in refused
    for _ in range(2):
        client.post(receive, {f"good-{line.pk}": "4", "form_key": key})
    line.refresh_from_db()
    assert line.received == 4


@pytest.mark.parametrize("name", ["fulfillment:order_panel", "returns:order_panel"])
def test_a_panel_shows_an_order_to_those_who_may_see_the_order(client: Client, db: None, name: str) -> None:
    east, west, sku = make_warehouse("EAST"), make_warehouse("WEST"), make_sku("MUG")
    add_stock(sku, east, 5)
    channel = make_channel("shop", east, west)
    (taken,) = intake.take([order_draft(line_draft(sku))], channel=channel, actor=SYSTEM, source="manual")
    address = reverse(name, args=[taken.order_id])
    for user, status in (
        (make_user("boss", "owner"), 200),
        (make_user("east", "viewer", warehouses=("EAST",)), 200),
        (make_user("west", "viewer", warehouses=("WEST",)), 404),
    ):
        client.force_login(user)
        assert client.get(address).status_code == status, user.username
