"""Amazon's orders as ours: pure functions over the shape of Orders API 2026-01-01.

Orders of channel NON_AMAZON are multi-channel fulfilment of our own orders and are no sales. Orders that
Amazon fulfils are facts for velocity and reports, never ours to ship. Pending orders carry no address and
no prices.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from channels.connectors.base import PoolLevel
from oms.orders.drafts import ZERO, ChargeDraft, ContactDraft, LineDraft, OrderDraft, Status

J = Mapping[str, Any]

STATUS: dict[str, Status] = {
    "PENDING_AVAILABILITY": "pending",
    "PENDING": "pending",
    "UNSHIPPED": "open",
    "PARTIALLY_SHIPPED": "open",
    "SHIPPED": "shipped",
    "CANCELLED": "cancelled",
    "UNFULFILLABLE": "cancelled",
}

#: marketplace id → (country, currency, API region)
MARKETPLACES: dict[str, tuple[str, str, str]] = {
    "ATVPDKIKX0DER": ("US", "USD", "na"), "A2EUQ1WTGCTBG2": ("CA", "CAD", "na"), "A1AM78C64UM0Y8": ("MX", "MXN", "na"),
    "A2Q3Y263D00KWC": ("BR", "BRL", "na"), "A1F83G8C2ARO7P": ("GB", "GBP", "eu"), "A1PA6795UKMFR9": ("DE", "EUR", "eu"),
    "A13V1IB3VIYZZH": ("FR", "EUR", "eu"), "APJ6JRA9NG5V4": ("IT", "EUR", "eu"), "A1RKKUPIHCS9HS": ("ES", "EUR", "eu"),
    "A1805IZSGTT6HS": ("NL", "EUR", "eu"), "A2NODRKZP88ZB9": ("SE", "SEK", "eu"), "A1C3SOZRARQ6R3": ("PL", "PLN", "eu"),
    "AMEN7PMS3EDWL": ("BE", "EUR", "eu"), "A28R8C7NBKEWEA": ("IE", "EUR", "eu"), "A33AVAJ2PDY3EV": ("TR", "TRY", "eu"),
    "A1VC38T7YXB528": ("JP", "JPY", "fe"), "A39IBJ37TRP1C6": ("AU", "AUD", "fe"), "A19VAU5U5O7RUS": ("SG", "SGD", "fe"),
}  # fmt: skip


class NotASale(Exception):
    """The order is not a sale on Amazon and is not imported."""


def when(value: Any) -> dt.datetime | None:
    """Aware time of an ISO 8601 text; None for nothing."""
    return dt.datetime.fromisoformat(str(value).replace("Z", "+00:00")) if value else None


def _time(value: Any, name: str) -> dt.datetime:
    found = when(value)
    if found is None:
        raise ValueError(f"{name} is missing")
    return found


def _money(value: Any) -> Decimal:
    return Decimal(str(value["amount"])) if value and value.get("amount") not in (None, "") else ZERO


def _sums(proceeds: Any) -> dict[str, Decimal]:
    """Amounts of a proceeds object by type; discounts as a positive figure."""
    found: dict[str, Decimal] = {}
    for entry in (proceeds or {}).get("breakdowns") or ():
        amount = _money(entry["subtotal"])
        kind = entry["type"]
        found[kind] = found.get(kind, ZERO) + (abs(amount) if kind == "DISCOUNT" else amount)
    return found


def _line(item: J, *, order_cancelled: bool, all_shipped: bool) -> LineDraft:
    product = item["product"]
    ordered = int(item["quantityOrdered"])
    quantity = max(1, ordered)  # a line cancelled before it was known shows 0
    done = item.get("fulfillment") or {}
    shipped = min(quantity, int(done.get("quantityFulfilled") or (ordered if all_shipped else 0)))
    waiting = done.get("quantityUnfulfilled")
    if order_cancelled or ordered < 1:
        cancelled = quantity - shipped
    elif waiting is None:
        cancelled = 0
    else:
        cancelled = max(0, quantity - shipped - int(waiting))
    sums = _sums(item.get("proceeds"))
    unit = _money((product.get("price") or {}).get("unitPrice"))
    if not unit and sums.get("ITEM"):
        unit = sums["ITEM"] / quantity
    return LineDraft(
        external_id=str(item["orderItemId"]),
        quantity=quantity,
        external_sku=product.get("sellerSku") or "",
        title=product.get("title") or "",
        listing_ref=product.get("asin") or "",
        unit_price=unit,
        discount=sums.get("DISCOUNT", ZERO),
        tax=sums.get("TAX", ZERO),
        shipped=shipped,
        cancelled=cancelled,
    )


def _contact(order: J) -> ContactDraft | None:
    address = (order.get("recipient") or {}).get("deliveryAddress")
    if not address:
        return None
    buyer = order.get("buyer") or {}
    note = (order["recipient"].get("deliveryAddress") or {}).get("deliveryPreference") or {}
    return ContactDraft(
        name=address.get("name") or buyer.get("buyerName") or "",
        company=address.get("companyName") or "",
        email=buyer.get("buyerEmail") or "",
        phone=address.get("phone") or "",
        address1=address.get("addressLine1") or "",
        address2=address.get("addressLine2") or "",
        address3=address.get("addressLine3") or "",
        city=address.get("city") or "",
        region=address.get("stateOrRegion") or "",
        postal_code=address.get("postalCode") or "",
        country=address.get("countryCode") or "",
        note=note.get("addressInstruction") or "",
        residential=address.get("addressType") != "COMMERCIAL",
    )


def order_draft(order: J) -> OrderDraft:
    """One order. Raises `NotASale`, or ValueError / KeyError when a required field is missing."""
    sales = order["salesChannel"]
    if sales.get("channelName") == "NON_AMAZON":
        raise NotASale(str(order["orderId"]))
    fulfilment = order.get("fulfillment") or {}
    told = fulfilment.get("fulfillmentStatus") or "PENDING"
    status = STATUS[told]
    lines = tuple(
        _line(item, order_cancelled=status == "cancelled", all_shipped=told == "SHIPPED")
        for item in order["orderItems"]
    )
    sums = _sums(order.get("proceeds"))
    if not sums:
        for item in order["orderItems"]:
            for kind, amount in _sums(item.get("proceeds")).items():
                sums[kind] = sums.get(kind, ZERO) + amount
    grand = (order.get("proceeds") or {}).get("grandTotal")
    extras = {
        kind: amount for kind, amount in sums.items() if kind not in ("ITEM", "TAX", "DISCOUNT") and amount
    }
    subtotal = sum((line.unit_price * line.quantity for line in lines), ZERO)
    currency = _currency(order)
    asked = [(item.get("cancellation") or {}) for item in order["orderItems"]]
    replaced = any(
        link.get("associationType") == "REPLACEMENT_ORIGINAL_ID"
        for link in order.get("associatedOrders") or ()
    )
    reasons = [
        entry["cancellationExecution"].get("cancelReason", "")
        for entry in asked
        if entry.get("cancellationExecution")
    ]
    return OrderDraft(
        external_id=str(order["orderId"]),
        external_number=str(order["orderId"]),
        placed_at=_time(order["createdTime"], "createdTime"),
        channel_updated_at=_time(order["lastUpdatedTime"], "lastUpdatedTime"),
        currency=currency,
        lines=lines,
        status=status,
        payment_state="pending" if status == "pending" else "paid",
        kind="replacement" if replaced else "sale",
        fulfilled_by="channel" if fulfilment.get("fulfilledBy") == "AMAZON" else "us",
        ship_by=when((fulfilment.get("shipByWindow") or {}).get("latestDateTime")),
        deliver_by=when((fulfilment.get("deliverByWindow") or {}).get("latestDateTime")),
        service_level=fulfilment.get("fulfillmentServiceLevel") or "",
        buyer_cancel_requested=any(
            (entry.get("cancellationRequest") or {}).get("requester") == "BUYER"
            and not entry.get("cancellationExecution")
            for entry in asked
        ),
        cancel_reason=next((reason for reason in reasons if reason), "") if status == "cancelled" else "",
        contact=_contact(order),
        subtotal=subtotal,
        discount=sums.get("DISCOUNT", ZERO),
        shipping=sum(extras.values(), ZERO),
        tax=sums.get("TAX", ZERO),
        total=_money(grand) if grand else None,
        charges=tuple(
            ChargeDraft("shipping", amount, kind.replace("_", " ").capitalize())
            for kind, amount in sorted(extras.items())
        ),
        tags=tuple(str(program).lower() for program in order.get("programs") or ()),
    )


def _currency(order: J) -> str:
    grand = (order.get("proceeds") or {}).get("grandTotal") or {}
    if grand.get("currencyCode"):
        return str(grand["currencyCode"])
    for item in order["orderItems"]:
        price = (item["product"].get("price") or {}).get("unitPrice") or {}
        if price.get("currencyCode"):
            return str(price["currencyCode"])
    return MARKETPLACES.get(order["salesChannel"].get("marketplaceId", ""), ("", "USD", ""))[1]


def pool_level(summary: J, read_at: dt.datetime) -> PoolLevel:
    """One FBA inventory summary (fbaInventory v1): fulfillable is sellable, inbound is on its way."""
    details = summary.get("inventoryDetails") or {}
    reserved = details.get("reservedQuantity") or {}
    return PoolLevel(
        external_sku=str(summary["sellerSku"]),
        sellable=int(details.get("fulfillableQuantity") or 0),
        reserved=sum(
            int(reserved.get(name) or 0)
            for name in (
                "pendingCustomerOrderQuantity",
                "pendingTransshipmentQuantity",
                "fcProcessingQuantity",
            )
        ),
        unsellable=int((details.get("unfulfillableQuantity") or {}).get("totalUnfulfillableQuantity") or 0),
        inbound=sum(
            int(details.get(name) or 0)
            for name in ("inboundWorkingQuantity", "inboundShippedQuantity", "inboundReceivingQuantity")
        ),
        at=when(summary.get("lastUpdatedTime")) or read_at,
    )
