"""WooCommerce's orders as ours: pure functions over the REST v3 order, as it is read and as webhooks carry it.

Line amounts are always without tax, whatever the shop shows its buyers. `subtotal` is before, `total` after discounts.
Times are the `*_gmt` fields; the others are the shop's own time without a zone. What was refunded is not in the order:
it is read from its refunds.
"""

from __future__ import annotations

import datetime as dt
import html
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from oms.orders.drafts import ZERO, ContactDraft, LineDraft, OrderDraft, Status

J = Mapping[str, Any]

#: the platform's own statuses; a failed payment frees the stock, and the order comes back when it is paid after all
STATUSES: dict[str, Status] = {
    "pending": "pending",
    "on-hold": "pending",
    "processing": "open",
    "completed": "shipped",
    "refunded": "cancelled",
    "cancelled": "cancelled",
    "failed": "cancelled",
    "trash": "cancelled",
}
#: orders in these are not orders yet
NOT_YET = frozenset({"checkout-draft", "auto-draft", "draft"})
#: where we keep what left in which parcel: the platform itself has no parcels
PARCELS_KEY = "_lading_parcels"
REFERENCE_KEY = "_lading_reference"


class Unfit(ValueError):
    """An order that cannot be read; the text names the field."""


def when(value: Any) -> dt.datetime | None:
    """Aware UTC time of a `*_gmt` text, which carries no zone; None for nothing."""
    if not value:
        return None
    found = dt.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _time(value: Any, name: str) -> dt.datetime:
    found = when(value)
    if found is None:
        raise Unfit(f"{name} is missing")
    return found


def amount(value: Any) -> Decimal:
    """A decimal text; nothing is 0."""
    return Decimal(str(value)) if value not in (None, "") else ZERO


def status_map(text: Any) -> dict[str, Status]:
    """Statuses that plugins add, as typed: "awaiting-shipment=open, quote=pending". Raises ValueError in words."""
    known: dict[str, Status] = dict(STATUSES)
    for part in str(text or "").replace("\n", ",").split(","):
        slug, mark, meaning = (piece.strip().lower() for piece in part.partition("="))
        if not slug and not mark:
            continue
        if meaning not in ("pending", "open", "shipped", "delivered", "cancelled"):
            raise ValueError(
                f"'{part.strip()}': write status=meaning; meanings are pending, open, shipped, delivered, cancelled."
            )
        known[slug.removeprefix("wc-")] = meaning  # type: ignore[assignment]
    return known


@dataclass(frozen=True, slots=True)
class ParcelNote:
    """One parcel as noted on the order: units by line id."""

    reference: str
    tracking: str
    units: Mapping[str, int]


def parcels(order: J) -> list[ParcelNote]:
    """The parcels we noted on an order. A note that somebody spoilt counts as none."""
    for meta in order.get("meta_data") or ():
        if meta.get("key") == PARCELS_KEY:
            try:
                rows = json.loads(meta["value"]) if isinstance(meta["value"], str) else meta["value"]
                return [
                    ParcelNote(
                        str(row["reference"]),
                        str(row["tracking"]),
                        {str(line): int(units) for line, units in row["units"].items()},
                    )
                    for row in rows
                ]
            except (ValueError, KeyError, TypeError, AttributeError):
                return []
    return []


def parcels_text(notes: Iterable[ParcelNote]) -> str:
    return json.dumps(
        [{"reference": one.reference, "tracking": one.tracking, "units": dict(one.units)} for one in notes]
    )


def sent_units(order: J) -> Counter[str]:
    """Units by line id that left in noted parcels."""
    units: Counter[str] = Counter()
    for note in parcels(order):
        units.update(note.units)
    return units


def refunded_units(refunds: Sequence[J]) -> Counter[str]:
    """Units by line id that were taken off by refunds; a refund's line is negative and names its order line."""
    units: Counter[str] = Counter()
    for refund in refunds:
        for line in refund.get("line_items") or ():
            named = next(
                (
                    meta.get("value")
                    for meta in line.get("meta_data") or ()
                    if meta.get("key") == "_refunded_item_id"
                ),
                None,
            )
            if named:
                units[str(named)] += abs(int(line.get("quantity") or 0))
    return units


def listing_id(product: Any, variation: Any = 0) -> str:
    """How a listing is named: '93', or '22/23' for variation 23 of product 22."""
    return f"{product}/{variation}" if int(variation or 0) else str(product)


def order_draft(order: J, refunds: Sequence[J] = (), statuses: Mapping[str, Status] = STATUSES) -> OrderDraft:
    """An order of the REST API. Raises ValueError or KeyError when a required field is missing."""
    slug = str(order["status"]).removeprefix("wc-")
    if slug in NOT_YET:
        raise Unfit(f"status '{slug}' is not an order yet")
    status = statuses.get(slug)
    if status is None:
        raise Unfit(f"status '{slug}' is unknown: name its meaning in the channel's settings")
    away, gone = sent_units(order), refunded_units(refunds)
    lines = [_line(item, status, away, gone) for item in order["line_items"] if int(item["quantity"]) > 0]
    discount = amount(order.get("discount_total"))
    for fee in order.get("fee_lines") or ():
        price = amount(fee["total"])
        if price < 0:  # a discount that a plugin books as a fee
            discount -= price
        else:
            lines.append(
                LineDraft(
                    external_id=f"fee-{fee['id']}", quantity=1, title=html.unescape(fee.get("name") or "Fee"),
                    kind="service", unit_price=price, tax=amount(fee.get("total_tax")),
                    shipped=int(status in ("shipped", "delivered")), cancelled=int(status == "cancelled"),
                )
            )  # fmt: skip
    subtotal = sum((amount(item["subtotal"]) for item in order["line_items"]), ZERO) + sum(
        (line.unit_price for line in lines if line.kind == "service"), ZERO
    )
    method = (order.get("shipping_lines") or [{}])[0]
    return OrderDraft(
        external_id=str(order["id"]),
        external_number=str(order.get("number") or order["id"]),
        placed_at=_time(order.get("date_created_gmt"), "date_created_gmt"),
        channel_updated_at=_time(order.get("date_modified_gmt"), "date_modified_gmt"),
        currency=order["currency"],
        lines=tuple(lines),
        status=status,
        payment_state="failed" if slug == "failed" else "paid" if order.get("date_paid_gmt") else slug[:20],
        service_level=html.unescape(method.get("method_title") or method.get("method_id") or ""),
        cancel_reason="payment failed" if slug == "failed" else slug if status == "cancelled" else "",
        contact=_contact(order),
        subtotal=subtotal,
        discount=discount,
        shipping=amount(order.get("shipping_total")),
        tax=amount(order.get("total_tax")),
        total=amount(order["total"]),
    )


def _line(item: J, status: Status, away: Counter[str], gone: Counter[str]) -> LineDraft:
    number, quantity = str(item["id"]), int(item["quantity"])
    subtotal, total = amount(item["subtotal"]), amount(item["total"])
    if status in ("shipped", "delivered"):
        cancelled = min(gone[number], max(0, quantity - away[number])) if away else 0
        shipped = quantity - cancelled
    else:
        shipped = min(quantity, away[number])
        cancelled = quantity - shipped if status == "cancelled" else min(gone[number], quantity - shipped)
    return LineDraft(
        external_id=number,
        quantity=quantity,
        external_sku=item.get("sku") or "",
        title=html.unescape(item.get("name") or ""),
        listing_ref=str(item.get("variation_id") or item.get("product_id") or ""),
        unit_price=(subtotal / quantity).quantize(Decimal("0.0001")),
        discount=subtotal - total,
        tax=amount(item.get("total_tax")),
        shipped=shipped,
        cancelled=cancelled,
    )


def _contact(order: J) -> ContactDraft | None:
    """The address to ship to, else the one that pays; e-mail and phone stand with the latter."""
    billing = order.get("billing") or {}
    to = order.get("shipping") or {}
    if not to.get("address_1"):
        to = billing
    if not to.get("address_1") and not to.get("last_name"):
        return None
    return ContactDraft(
        name=" ".join(filter(None, (to.get("first_name"), to.get("last_name")))),
        company=to.get("company") or "",
        email=billing.get("email") or "",
        phone=to.get("phone") or billing.get("phone") or "",
        address1=to.get("address_1") or "",
        address2=to.get("address_2") or "",
        city=to.get("city") or "",
        region=to.get("state") or "",
        postal_code=to.get("postcode") or "",
        country=to.get("country") or "",
        note=order.get("customer_note") or "",
        residential=not to.get("company"),
    )
