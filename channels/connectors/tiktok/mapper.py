"""TikTok Shop's orders as ours: pure functions over the order 202309, as search and detail show it.

The platform has one line item per unit. Units of one SKU at one price make one of our lines; it is named after the
lowest unit id, and which units are meant is found in the order itself when goods are shipped or cancelled.
Prices are before discounts; the buyer pays `original_price` less both discounts, and taxes on top where they are told.
The address is absent until the order is paid and its hour of grace is over (UNPAID, ON_HOLD).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from channels.connectors.base import RemoteReturn
from oms.orders.drafts import LABEL_FROM, ZERO, ContactDraft, LineDraft, OrderDraft, Status

J = Mapping[str, Any]

STATUSES: dict[str, Status] = {
    "UNPAID": "pending",
    "ON_HOLD": "pending",  # the buyer may still leave without asking
    "AWAITING_SHIPMENT": "open",
    "PARTIALLY_SHIPPING": "open",
    "AWAITING_COLLECTION": "shipped",
    "IN_TRANSIT": "shipped",
    "DELIVERED": "delivered",
    "COMPLETED": "delivered",
    "CANCELLED": "cancelled",
    "CANCEL": "cancelled",  # as notifications spell it
}
AWAY = frozenset({"AWAITING_COLLECTION", "IN_TRANSIT", "DELIVERED", "COMPLETED"})
GONE = frozenset({"CANCELLED", "CANCEL"})
BY_CHANNEL = frozenset({"FULFILLMENT_BY_TIKTOK", "FULFILLMENT_BY_DILAYANI_TOKOPEDIA"})
#: fees of the whole order that the buyer pays on top, each a service line of its own
FEES = {
    "retail_delivery_fee": "Retail delivery fee",
    "small_order_fee": "Small order fee",
    "handling_fee": "Handling fee",
    "buyer_service_fee": "Buyer service fee",
    "item_insurance_fee": "Item insurance",
    "shipping_insurance_fee": "Shipping insurance",
}
RETURN_STATES = {
    "RETURN_OR_REFUND_REQUEST_PENDING": "requested",
    "AWAITING_BUYER_RESPONSE": "requested",
    "AWAITING_BUYER_SHIP": "approved",
    "BUYER_SHIPPED_ITEM": "approved",
    "REFUND_OR_RETURN_REQUEST_REJECT": "declined",
    "REJECT_RECEIVE_PACKAGE": "declined",
    "RETURN_OR_REFUND_REQUEST_CANCEL": "declined",
    "RETURN_OR_REFUND_REQUEST_SUCCESS": "closed",
    "RETURN_OR_REFUND_REQUEST_COMPLETE": "closed",
}


class Unfit(ValueError):
    """An order that cannot be read; the text names the field."""


def when(value: Any) -> dt.datetime | None:
    """Aware UTC time of seconds since 1970; None for nothing or 0."""
    return dt.datetime.fromtimestamp(int(value), dt.UTC) if value else None


def amount(value: Any) -> Decimal:
    """A decimal text; nothing is 0."""
    return Decimal(str(value)) if value not in (None, "") else ZERO


@dataclass(frozen=True, slots=True)
class Group:
    """The units of one SKU at one price: one line of ours."""

    external_id: str
    units: tuple[J, ...]

    @property
    def open(self) -> tuple[J, ...]:
        """Units neither shipped nor cancelled, lowest id first."""
        return tuple(unit for unit in self.units if not is_away(unit) and not is_gone(unit))


def _order_of(unit: J) -> tuple[int, str]:
    return len(str(unit["id"])), str(unit["id"])


def is_away(unit: J) -> bool:
    return unit.get("display_status") in AWAY


def is_gone(unit: J) -> bool:
    return unit.get("display_status") in GONE


def groups(order: J) -> list[Group]:
    """The order's lines as we keep them. The same units always make the same groups, whatever became of them."""
    found: dict[tuple[str, str, bool], list[J]] = {}
    for unit in order.get("line_items") or ():
        key = (
            str(unit.get("sku_id") or ""),
            str(amount(unit.get("original_price")).normalize()),
            bool(unit.get("is_gift")),
        )
        found.setdefault(key, []).append(unit)
    made = []
    for units in found.values():
        units.sort(key=_order_of)
        made.append(Group(str(units[0]["id"]), tuple(units)))
    return made


def order_draft(order: J) -> OrderDraft:
    """An order of the API. Raises ValueError or KeyError when a required field is missing."""
    slug = str(order["status"])
    status = STATUSES.get(slug)
    if status is None:
        raise Unfit(f"status '{slug}' is unknown")
    placed, updated = when(order.get("create_time")), when(order.get("update_time"))
    if placed is None or updated is None:
        raise Unfit(f"{'create_time' if placed is None else 'update_time'} is missing")
    pay = order.get("payment") or {}
    lines = [_line(group, status) for group in groups(order)]
    fees = [
        LineDraft(
            external_id=f"fee-{name}", quantity=1, title=title, kind="service", unit_price=amount(pay[name]),
            shipped=int(status in ("shipped", "delivered")), cancelled=int(status == "cancelled"),
        )
        for name, title in FEES.items()
        if amount(pay.get(name))
    ]  # fmt: skip
    goods = pay.get("original_total_product_price")
    subtotal = (
        amount(goods) if goods not in (None, "") else sum((x.unit_price * x.quantity for x in lines), ZERO)
    )
    return OrderDraft(
        external_id=str(order["id"]),
        external_number=str(order["id"]),
        placed_at=placed,
        channel_updated_at=updated,
        currency=str(pay["currency"]),
        lines=(*lines, *fees),
        status=status,
        payment_state="paid" if order.get("paid_time") and slug != "UNPAID" else slug.lower()[:20],
        kind="replacement" if order.get("is_replacement_order")
        else "exchange" if order.get("is_exchange_order") else "sale",
        fulfilled_by="channel" if order.get("fulfillment_type") in BY_CHANNEL else "us",
        ship_by=ship_by(order),
        deliver_by=when(order.get("delivery_sla_time") or order.get("delivery_option_required_delivery_time")),
        service_level=order.get("delivery_option_name") or "",
        buyer_cancel_requested=bool(order.get("is_buyer_request_cancel")),
        cancel_reason=(order.get("cancel_reason") or "") if status == "cancelled" else "",
        contact=_contact(order),
        subtotal=subtotal + sum((fee.unit_price for fee in fees), ZERO),
        discount=amount(pay.get("seller_discount")) + amount(pay.get("platform_discount")),
        shipping=amount(pay.get("shipping_fee")),
        tax=amount(pay.get("tax")),
        total=amount(pay.get("total_amount")),
        tags=tuple(_tags(order)),
    )  # fmt: skip


def ship_by(order: J) -> dt.datetime | None:
    """The first deadline: dispatch (`rts_sla_time`), carrier scan (`tts_sla_time`, which the late-dispatch rate
    counts), or the moment the platform cancels by itself an order that is not shipped or not collected."""
    times = [when(order.get(name)) for name in ("rts_sla_time", "tts_sla_time")]
    known = [one for one in (*times, auto_cancel_at(order)) if one]
    return min(known, default=None)


def auto_cancel_at(order: J) -> dt.datetime | None:
    """When the platform cancels the order by itself: not shipped, or not scanned, by then."""
    names = ("shipping_due_time", "collection_due_time", "cancel_order_sla_time")
    return min((found for name in names if (found := when(order.get(name)))), default=None)


def _tags(order: J) -> Iterable[str]:
    if order.get("shipping_type") == "TIKTOK":
        yield f"{LABEL_FROM}TikTok"
    if order.get("is_sample_order"):
        yield "sample"
    kind = str(order.get("order_type") or "")
    if kind in ("PRE_ORDER", "MADE_TO_ORDER", "BACK_ORDER"):
        yield kind.lower().replace("_", "-")


def _line(group: Group, status: Status) -> LineDraft:
    first, units = group.units[0], group.units
    shipped = sum(1 for unit in units if is_away(unit))
    if status in ("shipped", "delivered"):
        cancelled = sum(1 for unit in units if is_gone(unit))
        shipped = len(units) - cancelled
    elif status == "cancelled":
        cancelled = len(units) - shipped
    else:
        cancelled = sum(1 for unit in units if is_gone(unit))
    names = [first.get("product_name") or "", first.get("sku_name") or ""]
    return LineDraft(
        external_id=group.external_id,
        quantity=len(units),
        external_sku=first.get("seller_sku") or "",
        title=" – ".join(name for name in names if name and name != "Default"),
        listing_ref=str(first.get("sku_id") or ""),
        unit_price=amount(first.get("original_price")),
        discount=sum(
            (amount(u.get("seller_discount")) + amount(u.get("platform_discount")) for u in units), ZERO
        ),
        tax=sum((amount(tax.get("tax_amount")) for u in units for tax in u.get("item_tax") or ()), ZERO),
        shipped=shipped,
        cancelled=cancelled,
    )


def _contact(order: J) -> ContactDraft | None:
    """The recipient; None while the platform holds the address back, so that a stored one is kept."""
    to = order.get("recipient_address") or {}
    if not to.get("address_line1") and not to.get("full_address") and not to.get("address_detail"):
        return None
    places = {str(one.get("address_level") or ""): one for one in to.get("district_info") or ()}
    named = {str(one.get("address_level_name") or "").lower(): one for one in to.get("district_info") or ()}
    state = named.get("state") or named.get("province") or places.get("L1") or {}
    city = named.get("city") or named.get("town") or places.get("L3") or places.get("L2") or {}
    return ContactDraft(
        name=to.get("name") or " ".join(filter(None, (to.get("first_name"), to.get("last_name")))),
        email=order.get("buyer_email") or "",
        phone=to.get("phone_number") or "",
        address1=to.get("address_line1") or to.get("address_detail") or to.get("full_address") or "",
        address2=to.get("address_line2") or "",
        address3=" ".join(filter(None, (_text(to.get("address_line3")), _text(to.get("address_line4"))))),
        city=str(city.get("address_name") or to.get("post_town") or ""),
        region=str(state.get("iso_code") or "").rpartition("-")[2] or str(state.get("address_name") or ""),
        postal_code=to.get("postal_code") or "",
        country=to.get("region_code") or "",
        note=order.get("buyer_message") or "",
    )


def _text(value: Any) -> str:
    """Unused address lines come as a pair of quotes."""
    return str(value or "").strip('" ')


def remote_return(entry: J, lines_of: Mapping[str, str]) -> RemoteReturn | None:
    """A return that goods come back with; `lines_of` names our line by unit id. None for money only."""
    if entry.get("return_type") == "REFUND":
        return None
    reason = str(entry.get("return_reason_text") or entry.get("return_reason") or "")
    counts: dict[str, int] = {}
    for item in entry.get("return_line_items") or ():
        line = lines_of.get(str(item.get("order_line_item_id")))
        if line:
            counts[line] = counts.get(line, 0) + 1
    return RemoteReturn(
        external_id=str(entry["return_id"]),
        order_external_id=str(entry["order_id"]),
        state=RETURN_STATES.get(str(entry.get("return_status")), "requested"),
        lines=tuple((line, units, reason) for line, units in counts.items()),
        note=str(entry.get("return_tracking_number") or ""),
    )


def lines_of(orders: Iterable[J]) -> dict[str, str]:
    """Our line's id by unit id."""
    return {
        str(unit["id"]): group.external_id
        for order in orders
        for group in groups(order)
        for unit in group.units
    }


def pick_reason(names: Sequence[str], reason: str) -> str:
    """The platform's reason out of those it offers now. "Out of stock" is taken only for just that: it sets the
    SKU's quantity there to 0."""
    short = [name for name in names if "stock" in name.lower()]
    if reason == "no_stock" and short:
        return short[0]
    others = [name for name in names if name not in short]
    word = {"buyer": "buyer", "address": "address", "price": "price"}.get(reason, reason)
    close = [name for name in others if word and word in name.lower()]
    return next(iter([*close, *others, *names]), "")
