"""I07 and F16: kits and packs leave in parts and count as shipped, and are told to the channel, when they are whole."""

from __future__ import annotations

from typing import Any

import pytest

from channels import accounts, effects, inbox
from channels.models import ChannelAccount, Listing
from fulfillment import shipments, shipping
from fulfillment.models import CarrierAccount, LabelPurchase, Parcel, ParcelItem, Shipment
from inventory import operations
from inventory.models import DemandDay, Reservation, Sku, StockLevel
from oms.core.actor import SYSTEM
from oms.orders import demand, intake, services, supply
from oms.orders.allocation import PlacedPart, allocate_waiting, place_parts
from oms.orders.drafts import LineDraft
from oms.orders.models import Allocation, Order, OrderLine
from returns import rma
from tests.factories import add_stock, line_draft, make_kit, make_sku, order_draft
from tests.fulfillment.conftest import World


def take(world: World, *lines: LineDraft) -> Order:
    [taken] = intake.take([order_draft(*lines)], channel=world.channel, actor=SYSTEM, source="webhook")
    return Order.objects.get(pk=taken.order_id)


def leave(shipment: Shipment, *boxes: dict[str, int]) -> None:
    """The shipment leaves in one parcel, or in `boxes` of SKU code → eaches, each with a label."""
    account, _ = CarrierAccount.objects.get_or_create(
        code="ups", defaults={"name": "UPS", "connector": "ups"}
    )
    Shipment.objects.filter(pk=shipment.pk).update(state=Shipment.State.LABELLED, carrier_account=account)
    lines = {line.sku.code: line for line in shipment.lines.select_related("sku")}
    for number, box in enumerate(boxes or [{code: line.quantity for code, line in lines.items()}], 1):
        parcel = Parcel.objects.create(
            shipment=shipment, number=number, weight_g=500, length_mm=100, width_mm=100, height_mm=100
        )
        for code, units in box.items():
            ParcelItem.objects.create(parcel=parcel, line=lines[code], quantity=units)
        LabelPurchase.objects.create(
            parcel=parcel, account=account, service_code="ground", reference=f"{shipment.number}-{number}",
            state="purchased", tracking_number=f"1Z{shipment.pk}{number}", requested_by="test",
        )  # fmt: skip
    shipping.ship(shipment.pk, actor=SYSTEM)


@pytest.fixture
def kit(world: World) -> Sku:
    """SET = 2 MUG + 1 CAP."""
    cap = make_sku("CAP", weight_g=100)
    add_stock(cap, world.east, 10)
    add_stock(cap, world.west, 10)
    return make_kit("SET", {world.sku: 2, cap: 1})


def told(shipment: Shipment) -> list[dict[str, int]]:
    return [items for _, items in effects.parcel_units(shipment)]


def test_a_kit_in_two_shipments_counts_when_both_left(world: World, kit: Sku, assert_invariants: Any) -> None:
    """F16: the mugs leave from EAST, the cap from WEST; the channel hears of whole kits only."""
    order = take(world, line_draft(kit, 2))
    line = order.lines.get()
    assert sorted(line.allocations.values_list("reservation__sku__code", "reservation__quantity", "per_unit")) == [
        ("CAP", 2, 1), ("MUG", 4, 2),
    ]  # fmt: skip
    cap = line.allocations.get(reservation__sku__code="CAP")
    mug = line.allocations.get(reservation__sku__code="MUG")
    place_parts(
        order.pk, [PlacedPart(mug.pk, world.east.pk, 4), PlacedPart(cap.pk, world.west.pk, 2)], actor=SYSTEM
    )
    made = {item.warehouse.code: item for item in shipments.ensure_shipments(order.pk, actor=SYSTEM)}
    leave(made["EAST"])
    line.refresh_from_db()
    order.refresh_from_db()
    assert (line.shipped, line.reserved, order.state) == (0, 2, Order.State.ROUTED)
    assert told(made["EAST"]) == [{}]
    leave(made["WEST"])
    line.refresh_from_db()
    order.refresh_from_db()
    assert (line.shipped, line.reserved, order.state) == (2, 0, Order.State.SHIPPED)
    assert told(made["WEST"]) == [{line.external_id: 2}]
    rma.open_rma(
        order_id=order.pk, items=[rma.ReturnItem(line.pk, 1)], warehouse_id=world.east.pk, actor=SYSTEM
    )
    assert rma.returnable(order) == {line.pk: 1}
    assert_invariants()


def test_a_kit_in_two_parcels_is_told_with_the_parcel_that_completes_it(
    world: World, kit: Sku, assert_invariants: Any
) -> None:
    order = take(world, line_draft(kit, 2))
    line = order.lines.get()
    [shipment] = shipments.ensure_shipments(order.pk, actor=SYSTEM)
    leave(shipment, {"MUG": 3}, {"CAP": 1}, {"MUG": 1, "CAP": 1})
    line.refresh_from_db()
    assert line.shipped == 2
    # three mugs make no kit; a cap makes the first one; the rest the second
    assert told(shipment) == [{}, {line.external_id: 1}, {line.external_id: 1}]
    assert_invariants()


def test_cancelling_one_kit_of_two_gives_exactly_one_set_back(
    world: World, kit: Sku, assert_invariants: Any
) -> None:
    order = take(world, line_draft(kit, 2))
    line = order.lines.get()
    services.cancel_lines(order.pk, {line.pk: 1}, reason="buyer", actor=SYSTEM)
    held = dict(Reservation.objects.filter(quantity__gt=0).values_list("sku__code", "quantity"))
    assert held == {"MUG": 2, "CAP": 1}
    assert_invariants()


# --- packs ----------------------------------------------------------------------------------------


@pytest.fixture
def listing(world: World) -> Listing:
    """A listing of three mugs on a connected shop."""
    account = ChannelAccount.objects.create(
        connector="shopify", sales_channel=world.channel, state="connected"
    )
    return Listing.objects.create(
        account=account, external_id="L1", external_sku="MUG-3PK", sku=world.sku, pack_size=3
    )


def sold(world: World, listing: Listing, quantity: int) -> Order:
    drafts = inbox.mapped(listing.account_id, [order_draft(line_draft("MUG-3PK", quantity))])
    [taken] = intake.take(drafts, channel=world.channel, actor=SYSTEM, source="webhook")
    return Order.objects.get(pk=taken.order_id)


def test_two_three_packs_reserve_and_ship_six_eaches(
    world: World, listing: Listing, assert_invariants: Any
) -> None:
    order = sold(world, listing, 2)
    line = order.lines.get()
    assert (line.quantity, line.pack_size, line.reserved, line.short) == (2, 3, 2, 0)
    level = StockLevel.objects.get(sku=world.sku, warehouse=world.east)
    assert (level.reserved, level.available) == (6, 4)
    [shipment] = shipments.ensure_shipments(order.pk, actor=SYSTEM)
    assert [item.quantity for item in shipment.lines.all()] == [6]
    leave(shipment, {"MUG": 5}, {"MUG": 1})
    line.refresh_from_db()
    level.refresh_from_db()
    assert (line.shipped, level.on_hand, level.reserved) == (2, 4, 0)
    assert told(shipment) == [{line.external_id: 1}, {line.external_id: 1}]
    assert_invariants()
    demand.roll_up([order.placed_at.date()])
    assert list(DemandDay.objects.values_list("sku__code", "units")) == [("MUG", 6)]
    back = rma.open_rma(
        order_id=order.pk, items=[rma.ReturnItem(line.pk, 1)], warehouse_id=world.east.pk, actor=SYSTEM
    )
    assert [(row.sku.code, row.quantity) for row in back.lines.all()] == [("MUG", 3)]
    assert rma.returnable(order) == {line.pk: 1}


def test_packs_are_promised_whole(world: World, listing: Listing, assert_invariants: Any) -> None:
    """Ten here and ten there are three packs each; the seventh pack is short by three eaches, not by fewer."""
    order = sold(world, listing, 7)
    line = order.lines.get()
    assert (line.reserved, line.short) == (6, 1)
    held = list(Reservation.objects.values_list("quantity", flat=True))
    assert sorted(held) == [9, 9]
    assert supply.short_units() == {world.sku.pk: 3}
    operations.adjust(
        sku_id=world.sku.pk, warehouse_id=world.west.pk, quantity=2, reason="found", actor=SYSTEM, key="more"
    )
    allocate_waiting([world.sku.pk], actor=SYSTEM)
    line.refresh_from_db()
    assert (line.reserved, line.short) == (7, 0)
    assert Allocation.objects.filter(line=line).values_list("per_unit", flat=True).distinct().get() == 3
    assert_invariants()


def test_a_pack_that_is_mapped_late_reserves_its_eaches(
    world: World, listing: Listing, assert_invariants: Any
) -> None:
    Listing.objects.filter(pk=listing.pk).update(sku=None)
    order = sold(world, listing, 1)
    assert order.lines.get().sku is None
    accounts.map_listing(listing.pk, world.sku.pk, actor=SYSTEM)
    line = OrderLine.objects.get(order=order)
    assert (line.pack_size, line.reserved) == (3, 1)
    assert StockLevel.objects.get(sku=world.sku, warehouse=world.east).reserved == 3
    assert_invariants()
