"""What waits for a person when the demo opens: about a dozen causes, each made by the same service that meets it in
real life, and each to be solved on the screen that its entry in the inbox leads to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from decimal import Decimal

from django.db.models import F

from channels import pushing
from channels.models import Listing, StockPush
from channels.pushing import MAX_REJECTIONS
from fulfillment import labels, packing, picking, rates, routing_service
from fulfillment.models import RateQuote, Shipment
from inventory import operations, transfers
from inventory.models import Sku, StockLevel, Warehouse
from oms.core import outbox
from oms.core.actor import Actor, actor_of
from oms.core.clock import now
from oms.core.models import User
from oms.orders import intake, services
from oms.orders.drafts import ContactDraft, LineDraft, OrderDraft
from oms.orders.models import Hold, Order, SalesChannel
from returns import refunds

SAM = ContactDraft(
    name="Ada Winter", email="ada.winter@example.com", phone="+1 212 555 0142", address1="48 Mercer Street",
    city="New York", region="NY", postal_code="10013", country="US",
)  # fmt: skip


def make(say: Callable[[str], None] = lambda text: None) -> None:
    """Once, after the channels are connected and before anybody looks."""
    while outbox.drain():  # the year behind us is no news to the channels
        pass
    skus = _plenty()
    _refused_quantity("shopify-outlet", skus[0].code)
    _phone_orders(skus)
    _for_amazon()
    _stock_work(skus)
    while outbox.drain():
        pass
    # nobody ran while this was told: what the channels hear first is their first figures
    Listing.objects.filter(stale_since__isnull=False).update(told_anew=True, stale_since=now())
    say("a dozen causes wait for a person")


def _plenty() -> list[Sku]:
    """SKUs that lie in East, Reno and Ohio in numbers, the best seller first."""
    levels = (
        StockLevel.objects.filter(warehouse__code="EAST", on_hand__gt=F("reserved") + 12)
        .select_related("sku")
        .order_by("-on_hand", "sku__code")
    )
    return [level.sku for level in levels[:12]]


def _user(name: str) -> Actor:
    return actor_of(User.objects.get(username=name))


# --- channels --------------------------------------------------------------------------------------


def _refused_quantity(code: str, sku: str) -> None:
    """A listing whose quantity the shop refused so often that we gave up; the shop has mended it meanwhile."""
    offered = Listing.objects.filter(account__sales_channel__code=code, sku__isnull=False).order_by("pk")
    # with a short history the shop may not offer that SKU; any other tells the story too
    listing = offered.filter(sku__code=sku).first() or offered[0]
    text = "The item is not stocked at this location: ITEM_NOT_STOCKED_AT_LOCATION."
    at = now() - dt.timedelta(minutes=25)
    StockPush.objects.bulk_create(
        StockPush(
            listing=listing, version=listing.version, quantity=12, state=StockPush.State.FAILED,
            changed_at=at, sent_at=sent, answered_at=sent, error=text,
        )
        for sent in (at + dt.timedelta(minutes=count) for count in range(MAX_REJECTIONS))
    )  # fmt: skip
    Listing.objects.filter(pk=listing.pk).update(
        dead=True, attempts=MAX_REJECTIONS, last_error=text, last_quantity=12
    )
    pushing.tell_given_up(listing.pk, text)


# --- orders taken by phone -------------------------------------------------------------------------


def _order(
    number: int, lines: Sequence[tuple[Sku | str, int]], *, hours: float = 2, contact: ContactDraft = SAM,
    ship_by: dt.datetime | None = None,
) -> Order:  # fmt: skip
    placed = now() - dt.timedelta(hours=hours)
    rows = tuple(
        LineDraft(
            external_id=str(position), quantity=units,
            external_sku=what if isinstance(what, str) else what.code,
            sku_id=None if isinstance(what, str) else what.pk,
            title=what if isinstance(what, str) else what.title,
            unit_price=Decimal("24.00") if isinstance(what, str) else what.price or Decimal("24.00"),
        )
        for position, (what, units) in enumerate(lines, start=1)
    )  # fmt: skip
    total = sum((row.unit_price * row.quantity for row in rows), Decimal(0))
    draft = OrderDraft(
        external_id=f"D{number:04d}", external_number=f"D{number:04d}", placed_at=placed, channel_updated_at=placed,
        currency="USD", lines=rows, total=total, contact=contact, ship_by=ship_by,
    )  # fmt: skip
    (taken,) = intake.take(
        [draft], channel=SalesChannel.objects.get(code="phone"), actor=_user("sam"), source="manual"
    )
    if taken.order_id is None:
        raise RuntimeError(taken.message)
    return Order.objects.get(pk=taken.order_id)


def _phone_orders(skus: list[Sku]) -> None:
    sam, finn = _user("sam"), _user("finn")
    _order(1, [("MUG-LIGHTHOUSE-OLD", 2)])  # a code that nobody knows
    unsure = ContactDraft(
        name="Theo Park",
        address1="Harbor Road",
        city="Portland",
        region="OR",
        postal_code="97211",
        country="US",
    )
    services.place_hold(
        _order(2, [(skus[1], 1)], contact=unsure).pk, Hold.Reason.ADDRESS, actor=sam,
        note="the house number is missing; asked the buyer",
    )  # fmt: skip
    scarce = Sku.objects.filter(levels__warehouse__code="EAST", levels__on_hand=0).order_by("code").first()
    if scarce is not None:
        _order(3, [(scarce, 2)], hours=20)  # not there
    late = _order(4, [(skus[2], 1), (skus[3], 1)], hours=70, ship_by=now() - dt.timedelta(hours=18))
    routing_service.route(late.pk, actor=sam)
    _refused_label(_packed(_order(5, [(skus[4], 1)]), sam, finn), finn)
    missing = _order(6, [(skus[5], 2)])
    shipment = _picking(missing, sam, finn)
    if shipment is not None:  # the shelf is empty though the books say otherwise
        picking.short_pick(shipment.lines.order_by("pk")[0].pk, 1, reason="not_found", actor=finn)
    paid = Order.objects.get(channel__code="phone", external_id="D0004")
    line = paid.lines.order_by("pk")[0]
    refunds.plan(
        order_id=paid.pk, items=[refunds.RefundItem(line.pk, 0, Decimal("5.00"))], actor=sam, key="demo",
        reason="late: promised five dollars back",
    )  # fmt: skip


def _for_amazon() -> None:
    """An order of ours that Amazon ships from its own warehouse: it goes out as soon as the workers run."""
    pool = StockLevel.objects.filter(
        warehouse__code="FBA-US", sku__mcf_allowed=True, on_hand__gt=F("reserved") + F("damaged") + 2
    ).select_related("sku", "warehouse").order_by("sku__code").first()  # fmt: skip
    if pool is not None:
        order = _order(7, [(pool.sku, 2)], hours=1)
        routing_service.assign(
            order.pk, pool.warehouse_id, reason="the buyer asked for it by tomorrow", actor=_user("omar")
        )


def _picking(order: Order, sam: Actor, finn: Actor) -> Shipment | None:
    routing_service.assign(
        order.pk, Warehouse.objects.get(code="EAST").pk, reason="the buyer comes by", actor=sam
    )
    shipment = Shipment.objects.filter(order=order).order_by("pk").first()
    return None if shipment is None else picking.claim(shipment.pk, actor=finn)


def _packed(order: Order, sam: Actor, finn: Actor) -> Shipment | None:
    shipment = _picking(order, sam, finn)
    if shipment is None:
        return None
    picking.pick_all(shipment.pk, actor=finn)
    return packing.pack(shipment.pk, actor=finn)


def _refused_label(shipment: Shipment | None, finn: Actor) -> None:
    """The carrier said no once; trying again, or with another rate, works."""
    if shipment is None:
        return
    rates.shop(shipment.pk)
    quote = RateQuote.objects.filter(shipment=shipment, chosen=True).select_related("account").first()
    if quote is None:
        return
    for parcel in packing.live_parcels(shipment):
        asked = labels._claim(shipment, parcel, quote, finn)
        if asked is not None:
            labels._reject(asked.pk, "its label service is down for maintenance, try again later", finn)


# --- stock -----------------------------------------------------------------------------------------


def _stock_work(skus: list[Sku]) -> None:
    finn, omar = _user("finn"), _user("omar")
    east, west = Warehouse.objects.get(code="EAST"), Warehouse.objects.get(code="WEST")
    dear = max(skus, key=lambda sku: (sku.unit_cost or 0, sku.code))
    operations.adjust(  # above what the floor may write off alone
        sku_id=dear.pk, warehouse_id=east.pk, quantity=-6, reason="damaged", note="a shelf came down", key="demo:shelf",
        actor=finn, wait=True,
    )  # fmt: skip
    moved = transfers.request_transfer(
        source_id=east.pk, destination_id=west.pk, lines={skus[8].pk: 6, skus[9].pk: 4}, actor=omar,
        note="Reno sells these faster",
    )  # fmt: skip
    transfers.ship_transfer(moved.pk, actor=omar)
    transfers.receive_transfer(moved.pk, {skus[8].pk: 6, skus[9].pk: 3}, actor=omar, key="demo")
    on_the_way = transfers.request_transfer(
        source_id=east.pk, destination_id=west.pk, lines={skus[10].pk: 5}, actor=omar
    )
    transfers.ship_transfer(on_the_way.pk, actor=omar)
