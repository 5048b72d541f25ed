"""One order through all six stages, over real HTTP: shop, hooks, floor, carrier, channel, return, supplier."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal

import pypdfium2
import pytest
import zxingcpp

from channels import pulls
from channels.models import ChannelEffect, InboxMessage, StockPush
from fulfillment.models import LabelDocument, LabelPurchase, RoutingDecision, Shipment
from inventory.models import DemandDay, Reservation, StockMovement
from oms.core.actor import SYSTEM, Actor
from oms.core.clock import business_day, now
from oms.core.models import ExceptionItem
from oms.orders import demand, intake, supply
from oms.orders.models import Order, OrderLine
from procurement import landed, planner, purchase_orders, receiving
from procurement.models import PurchaseOrder, ReorderSuggestion, Supplier, SupplierOffer
from returns.models import Refund, Rma
from tests.factories import line_draft, order_draft
from tests.line.conftest import GTINS, Brand

pytestmark = pytest.mark.django_db(transaction=True)

BUYER = Actor("user", "bea")
OTHER = {"shopify": "amazon", "amazon": "shopify"}


@pytest.mark.parametrize("channel", ["shopify", "amazon"])
def test_one_order_goes_through_all_six_stages(brand: Brand, clean: Callable[[], None], channel: str) -> None:
    other = OTHER[channel]
    clean()
    assert (brand.shown("shopify"), brand.shown("amazon")) == (60, 60)

    # order entry: bought on the channel, announced, read again, stored once, reserved
    placed = brand.buy(channel, "MUG", 2)
    assert InboxMessage.objects.filter(external_id=str(placed["id"])).exists()
    assert not Order.objects.exists()  # a notification is only a hint
    brand.work()
    order = brand.order(placed)
    line = OrderLine.objects.get(order=order)
    assert (Order.objects.count(), line.quantity, line.short, line.sku) == (1, 2, 0, brand.skus["MUG"])
    assert order.total == Decimal("28.00")
    (held,) = Reservation.objects.filter(state=Reservation.State.OPEN)
    assert (held.quantity, brand.level(held.warehouse.code).reserved, brand.available()) == (2, 2, 58)
    clean()

    # fulfillment: routed with its reasons
    decision = RoutingDecision.objects.get(order=order)
    assert decision.outcome == "routed" and decision.summary
    assert {one["code"] for one in decision.trace["candidates"]} >= {"EAST", "WEST"}
    shipment = Shipment.objects.get(order=order)
    assert shipment.warehouse.code == "EAST"  # Boston is nearer to Newark than to Reno
    clean()

    # the new quantity is on the other channel, acknowledged, with its latency
    assert (brand.shown("shopify"), brand.shown("amazon")) == (58, 58)
    listing = brand.listing(other) if other == "amazon" else brand.accounts[other].listings.get(
        external_sku="MUG", location_id=brand.accounts[other].locations.get(warehouse=brand.places["EAST"]).external_id
    )  # fmt: skip
    push = StockPush.objects.filter(listing=listing).order_by("-pk")[0]
    assert push.state == StockPush.State.ACKED and push.quantity == {"amazon": 58, "shopify": 38}[other]
    assert push.latency_ms is not None and push.latency_ms > 0 and push.changed_at < push.sent_at
    assert listing.stale_since is None and listing.acked_quantity == push.quantity

    # picked by scan, packed
    at = f"shipments/{shipment.pk}"
    brand.post(f"{at}/claim/")
    wrong = brand.post(f"{at}/scan/", {"code": GTINS["BOWL"]})
    assert (wrong["ok"], wrong["word"]) == (False, "WRONG ITEM")
    assert brand.post(f"{at}/scan/", {"code": GTINS["MUG"]})["done"] is False
    assert brand.post(f"{at}/scan/", {"code": "mug"})["done"] is True
    packed = brand.post(f"{at}/pack/")
    assert (packed["state"], packed["wrong_scans"], len(packed["parcels"])) == ("packed", 1, 1)
    assert packed["parcels"][0]["weight_g"] > 2 * 420

    # rate-shopped over at least three services, the label bought once
    quotes = brand.post(f"{at}/rates/")
    assert len({(quote["carrier"], quote["service_code"]) for quote in quotes}) >= 3
    (chosen,) = [quote for quote in quotes if quote["chosen"]]
    prices = [Decimal(quote["price"]["amount"]) for quote in quotes]
    assert all(quote["reason"] for quote in quotes)
    arrives = {quote["id"]: quote["arrives_on"] for quote in quotes}
    deliver_by = order.deliver_by.date().isoformat() if order.deliver_by else None
    in_time = [
        q for q in quotes if deliver_by is None or (arrives[q["id"]] and arrives[q["id"]] <= deliver_by)
    ]
    assert (
        Decimal(chosen["price"]["amount"])
        == min(Decimal(q["price"]["amount"]) for q in in_time)
        <= max(prices)
    )
    labelled = brand.post(f"{at}/label/")
    assert brand.post(f"{at}/label/")["parcels"] == labelled["parcels"]
    (label,) = labelled["parcels"][0]["labels"]
    assert (label["state"], label["cost"]) == ("purchased", chosen["price"])
    assert LabelPurchase.objects.count() == 1
    pdf = brand.api.get(f"{brand.web}/api/v1/{at}/label-file/pdf/")
    zpl = brand.api.get(f"{brand.web}/api/v1/{at}/label-file/zpl/")
    page = pypdfium2.PdfDocument(pdf.content)[0].render(scale=203 / 72).to_pil()
    read = [
        found.text
        for found in zxingcpp.read_barcodes(page)
        if "Code128" in str(found.format).replace(" ", "")
    ]
    assert read == [label["tracking_number"]]
    assert zpl.text.startswith("^XA") and label["tracking_number"] in zpl.text
    assert sorted(LabelDocument.objects.values_list("format", flat=True)) == ["pdf", "zpl"]
    clean()

    # gone: stock leaves with the reservation, and nothing moves on the channels
    assert brand.post(f"{at}/ship/")["state"] == "shipped"
    assert brand.post(f"{at}/ship/")["state"] == "shipped"
    level = brand.level("EAST")
    assert (level.on_hand, level.reserved, brand.available()) == (38, 0, 58)
    brand.work()
    order.refresh_from_db()
    assert order.state == Order.State.SHIPPED
    clean()

    # told to the channel, and proved by reading it back
    effect = ChannelEffect.objects.get(kind=ChannelEffect.Kind.SHIP)
    assert effect.state == ChannelEffect.State.CONFIRMED and effect.confirmed_at
    told = brand.client.order(brand.SHOP[channel], order.external_id)["fulfilments"]
    assert [one["tracking"] for one in told] == [[label["tracking_number"]]]
    assert (brand.shown("shopify"), brand.shown("amazon")) == (58, 58)

    # return: quarantine first, and no quantity moves; sellable only by the inspector's word
    pushes = StockPush.objects.count()
    back = brand.post(
        "returns/",
        {
            "order": order.pk,
            "warehouse": "EAST",
            "items": [{"line": line.pk, "quantity": 1, "reason": "changed_mind"}],
        },
        201,
    )
    (entry,) = back["lines"]
    for _ in range(2):  # the same key counts once
        got = brand.post(
            f"returns/{back['id']}/receive/",
            {"key": "dock-1", "lines": [{"line": entry["id"], "quantity": 1}]},
        )
    assert got["lines"][0]["received"] == 1
    brand.work()
    level = brand.level("EAST")
    assert (level.on_hand, level.quarantine, brand.available()) == (39, 1, 58)
    assert StockPush.objects.count() == pushes and (brand.shown("shopify"), brand.shown("amazon")) == (58, 58)
    clean()
    verdict = {"line": entry["id"], "quantity": 1, "condition": "new", "outcome": "restock"}
    for _ in range(2):
        brand.post(f"returns/{back['id']}/inspect/", {"key": "bench-1", "verdicts": [verdict]})
    brand.work()
    level = brand.level("EAST")
    assert (level.on_hand, level.quarantine, brand.available()) == (39, 0, 59)
    assert (brand.shown("shopify"), brand.shown("amazon")) == (59, 59)
    clean()

    # money back, once
    for _ in range(2):
        refund = brand.post(
            f"returns/{back['id']}/refund/", {"key": "money-1", "reason": "changed mind"}, 201
        )
    assert refund["amount"] == {"amount": "14.00", "currency": "USD"}
    brand.work(2)
    assert brand.client.wait_until(lambda: bool(brand.client.refunds(brand.SHOP[channel])))
    brand.work()
    paid = Refund.objects.get()
    assert paid.state == Refund.State.CONFIRMED and paid.external_id
    assert [Decimal(one["amount"]) for one in brand.client.refunds(brand.SHOP[channel])] == [Decimal("14.00")]
    assert brand.available() == 59 and (brand.shown("shopify"), brand.shown("amazon")) == (59, 59)
    assert Rma.objects.get().lines.get().disposed == 1
    clean()

    # procurement: demand and lead time ask for more; bought, received with freight, on sale again
    purchase = reorder(brand)
    (bought,) = purchase.lines.all()
    purchase_orders.approve(purchase.pk, actor=BUYER)
    purchase_orders.send(purchase.pk, actor=BUYER)
    landed.add_charge(
        purchase.pk, kind="freight", basis="weight", amount=Decimal("0.50") * bought.quantity, actor=BUYER
    )
    for _ in range(2):
        receiving.receive(
            purchase.pk,
            [receiving.Arrived(bought.pk, bought.quantity - 2, damaged=2)],
            actor=BUYER,
            key="dock-7",
        )
    purchase.refresh_from_db()
    level = brand.level("EAST")
    assert purchase.state == PurchaseOrder.State.RECEIVED
    assert (level.on_hand, level.damaged) == (39 + bought.quantity, 2)
    value = 39 * Decimal("5.00") + bought.quantity * Decimal("6.50")  # price 6.00 and freight 0.50
    assert level.average_cost == (value / level.on_hand).quantize(Decimal("0.0001"))
    brand.work()
    expected = 59 + bought.quantity - 2
    assert (brand.available(), brand.shown("shopify"), brand.shown("amazon")) == (
        expected,
        expected,
        expected,
    )
    clean()
    assert not ExceptionItem.objects.filter(closed_at=None).exists(), list(
        ExceptionItem.objects.filter(closed_at=None).values_list("title", "detail")
    )


def reorder(brand: Brand) -> PurchaseOrder:
    """Sixty days of five mugs a day and a supplier who needs fourteen days."""
    mug = brand.skus["MUG"]
    supplier = Supplier.objects.create(
        code="KILN", name="Kiln", currency="USD", lead_time_days=14, email="orders@kiln.example"
    )
    SupplierOffer.objects.create(
        supplier=supplier,
        sku=mug,
        supplier_sku="K-1",
        currency="USD",
        price=Decimal("6.00"),
        moq=10,
        order_multiple=12,
        rank=1,
    )
    today = business_day()
    drafts = []
    for back in range(1, 61):
        at = now() - dt.timedelta(days=back)
        drafts.append(
            order_draft(
                line_draft(mug, 5, shipped=5),
                external_id=f"old-{back}",
                placed_at=at,
                channel_updated_at=at,
                status="shipped",
            )
        )
    taken = intake.take(drafts, channel=brand.accounts["shopify"].sales_channel, actor=SYSTEM, source="csv")
    assert {one.outcome for one in taken} == {"created"}, taken
    assert brand.available() == 59  # facts of the past move nothing
    demand.roll_up(today - dt.timedelta(days=back) for back in range(62))
    assert set(DemandDay.objects.filter(sku=mug, day__lt=today).values_list("units", flat=True)) == {5}
    found = supply.plan_reorders(actor=SYSTEM)
    assert found["new"] == 1
    suggestion = ReorderSuggestion.objects.get()
    # 5 a day over 14 days of lead time; no spread in demand or lead time, so no safety stock
    assert (suggestion.sku, suggestion.reorder_point, suggestion.position) == (mug, 70, 59)
    assert suggestion.quantity % 12 == 0 and suggestion.quantity >= suggestion.need > 0 and suggestion.reason
    (order,) = planner.accept([suggestion.pk], actor=BUYER)
    assert order.warehouse.code == "EAST" and [line.quantity for line in order.lines.all()] == [
        suggestion.quantity
    ]
    return order


def test_the_channels_own_warehouse_is_a_pool_of_its_own(brand: Brand, clean: Callable[[], None]) -> None:
    """A unit sold and shipped by Amazon takes nothing of ours and makes no shipment."""
    assert brand.level("FBA-US").on_hand == 30
    before = set(StockMovement.objects.values_list("pk", flat=True))
    placed = brand.buy("amazon", "MUG-FBA", 1)
    brand.work()
    order = brand.order(placed)
    assert order.fulfilled_by == Order.FulfilledBy.CHANNEL
    assert not Shipment.objects.exists() and not Reservation.objects.exists()
    assert brand.available() == 60 and (brand.shown("shopify"), brand.shown("amazon")) == (60, 60)
    brand.client.act("A1LINE", order.external_id, "ship")
    pulls.pull_pool(brand.accounts["amazon"].pk)
    brand.work()
    assert brand.level("FBA-US").on_hand == 29
    moved = StockMovement.objects.exclude(pk__in=before)
    assert {row.warehouse.code for row in moved} == {"FBA-US"}
    clean()


def test_both_channels_sell_the_same_units_at_once(brand: Brand, clean: Callable[[], None]) -> None:
    """Both orders are facts and stored; the units are reserved once, the rest is short and first in line."""
    for place, units in (("EAST", -35), ("WEST", -20)):
        body = {"sku": "MUG", "warehouse": place, "quantity": units, "reason": "lost"}
        brand.post("stock/adjust/", body, 201)
    brand.work()
    assert (brand.available(), brand.shown("shopify"), brand.shown("amazon")) == (5, 5, 5)
    orders = {brand.buy(channel, "MUG", 5)["id"] for channel in ("shopify", "amazon")}
    brand.work()
    lines = OrderLine.objects.select_related("order")
    assert {line.order.external_id for line in lines} == {str(pk) for pk in orders}
    assert sorted((line.quantity, line.short) for line in lines) == [(5, 0), (5, 5)]
    assert (brand.available(), brand.shown("shopify"), brand.shown("amazon")) == (0, 0, 0)
    clean()
    # new stock goes to the waiting buyer before it is offered to anybody, and the last unit to one channel only
    brand.post("stock/adjust/", {"sku": "MUG", "warehouse": "EAST", "quantity": 6, "reason": "found"}, 201)
    brand.work()
    assert sorted(OrderLine.objects.values_list("short", flat=True)) == [0, 0] and brand.available() == 1
    assert brand.shown("shopify") + brand.shown("amazon") == 1
    clean()
