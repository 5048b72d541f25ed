"""Shopify's orders as ours: pure functions over the GraphQL shape and the REST-shaped webhook body.

Sources: Admin GraphQL 2026-10 schema (types Order, LineItem, Fulfillment) and the REST order resource
that webhooks still carry. Amounts are shop money. Original totals go with original quantities; what was
removed before it left the house is `cancelled`, what was refunded after shipping changes no counts here.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from channels.connectors.base import RemoteReturn
from oms.orders.drafts import ZERO, ContactDraft, LineDraft, OrderDraft, Status

J = Mapping[str, Any]

#: financial states in which goods may not leave; stock is held all the same (CHANNELS 1)
UNPAID = frozenset({"PENDING", "AUTHORIZED", "EXPIRED", "PARTIALLY_PAID"})
_RISK = {"CANCEL": "high", "INVESTIGATE": "medium"}
_RETURN_STATE = {
    "REQUESTED": "requested",
    "OPEN": "approved",
    "DECLINED": "declined",
    "CANCELED": "declined",
    "CLOSED": "closed",
}


def number_of(gid: Any) -> str:
    """'gid://shopify/Order/450789469' → '450789469'; plain numbers pass."""
    return str(gid or "").rpartition("/")[2].partition("?")[0]


def gid(kind: str, number: Any) -> str:
    text = str(number)
    return text if text.startswith("gid://") else f"gid://shopify/{kind}/{text}"


def when(value: Any) -> dt.datetime | None:
    """Aware time of an ISO 8601 text with offset; None for nothing."""
    return dt.datetime.fromisoformat(str(value).replace("Z", "+00:00")) if value else None


def _time(value: Any, name: str) -> dt.datetime:
    found = when(value)
    if found is None:
        raise ValueError(f"{name} is missing")
    return found


def _amount(bag: Any) -> Decimal:
    """Shop money of a MoneyBag, or a plain decimal text."""
    if isinstance(bag, Mapping):
        bag = (bag.get("shopMoney") or bag.get("shop_money") or {}).get("amount")
    return Decimal(str(bag)) if bag not in (None, "") else ZERO


def _status(
    lines: tuple[LineDraft, ...], *, cancelled: bool, financial: str, fulfilled: bool, delivered: bool
) -> Status:
    if cancelled:
        return "cancelled"
    goods = [line for line in lines if line.kind == "product"]
    if (
        goods
        and all(line.shipped + line.cancelled >= line.quantity for line in goods)
        and any(line.shipped for line in goods)
    ):
        return "delivered" if delivered else "shipped"
    if not goods and fulfilled:
        return "shipped"
    return "pending" if financial in UNPAID else "open"


def _cancelled(
    *, quantity: int, current: int, unfulfilled: int | None, shipped: int, order_cancelled: bool
) -> int:
    """Units that left the order before they left the house."""
    if order_cancelled:
        return quantity - shipped
    gone = quantity - current
    if unfulfilled is not None:  # tells units refunded before shipping from units refunded after it
        gone = min(gone, quantity - shipped - unfulfilled)
    return max(0, min(gone, quantity - shipped))


def order_draft(node: J) -> OrderDraft:
    """An Order node of the GraphQL API. Raises ValueError or KeyError when a required field is missing."""
    shipped: Counter[str] = Counter()
    delivered = []
    for fulfilment in node.get("fulfillments") or ():
        if fulfilment["status"] != "SUCCESS":
            continue
        delivered.append(bool(fulfilment.get("deliveredAt")))
        for part in fulfilment["fulfillmentLineItems"]["nodes"]:
            shipped[part["lineItem"]["id"]] += part["quantity"] or 0
    is_cancelled = bool(node.get("cancelledAt"))
    lines = []
    for item in node["lineItems"]["nodes"]:
        quantity = int(item["quantity"])
        if quantity < 1:
            continue
        price = _amount(item["originalUnitPriceSet"])
        left = min(shipped[item["id"]], quantity)
        lines.append(
            LineDraft(
                external_id=number_of(item["id"]),
                quantity=quantity,
                external_sku=item.get("sku") or "",
                title=" ".join(filter(None, (item["title"], item.get("variantTitle")))),
                listing_ref=number_of((item.get("variant") or {}).get("id")),
                kind="product" if item["requiresShipping"] else "service",
                unit_price=price,
                discount=price * quantity - _amount(item["discountedTotalSet"]),
                tax=sum((_amount(tax["priceSet"]) for tax in item.get("taxLines") or ()), ZERO),
                shipped=left,
                cancelled=_cancelled(
                    quantity=quantity, current=int(item["currentQuantity"]),
                    unfulfilled=int(item["unfulfilledQuantity"]), shipped=left, order_cancelled=is_cancelled,
                ),
            )
        )  # fmt: skip
    address = node.get("shippingAddress")
    financial = node.get("displayFinancialStatus") or "PENDING"
    due = [
        when(part.get("fulfillBy"))
        for part in node["fulfillmentOrders"]["nodes"]
        if part["status"] in ("OPEN", "IN_PROGRESS")
    ]
    shipping = node.get("shippingLine") or {}
    return OrderDraft(
        external_id=number_of(node["legacyResourceId"]),
        external_number=node["name"],
        placed_at=_time(node.get("processedAt") or node["createdAt"], "createdAt"),
        channel_updated_at=_time(node["updatedAt"], "updatedAt"),
        currency=node["currencyCode"],
        lines=tuple(lines),
        status=_status(
            tuple(lines), cancelled=is_cancelled, financial=financial,
            fulfilled=node.get("displayFulfillmentStatus") == "FULFILLED", delivered=bool(delivered) and all(delivered),
        ),
        payment_state=financial.lower(),
        is_test=bool(node.get("test")),
        ship_by=min((at for at in due if at), default=None),
        service_level=shipping.get("code") or shipping.get("title") or "",
        risk=_RISK.get((node.get("risk") or {}).get("recommendation", ""), "low"),  # type: ignore[arg-type]
        cancel_reason=(node.get("cancelReason") or "").lower(),
        contact=ContactDraft(
            name=address.get("name") or "", company=address.get("company") or "", email=node.get("email") or "",
            phone=address.get("phone") or node.get("phone") or "", address1=address.get("address1") or "",
            address2=address.get("address2") or "", city=address.get("city") or "",
            region=address.get("provinceCode") or "", postal_code=address.get("zip") or "",
            country=address.get("countryCodeV2") or "", note=node.get("note") or "",
            residential=not address.get("company"),
        ) if address else None,
        discount=_amount(node.get("totalDiscountsSet")),
        shipping=_amount(node.get("totalShippingPriceSet")),
        tax=_amount(node.get("totalTaxSet")),
        total=_amount(node["totalPriceSet"]),
        tax_included=bool(node.get("taxesIncluded")),
        tags=tuple(node.get("tags") or ()),
    )  # fmt: skip


def order_from_webhook(body: J) -> OrderDraft:
    """The REST-shaped order of an orders/* webhook. Raises ValueError or KeyError when a field is missing."""
    shipped: Counter[str] = Counter()
    for fulfilment in body.get("fulfillments") or ():
        if fulfilment.get("status") not in ("success", None):
            continue
        for part in fulfilment.get("line_items") or ():
            shipped[str(part["id"])] += int(part["quantity"])
    is_cancelled = bool(body.get("cancelled_at"))
    financial = (body.get("financial_status") or "pending").upper()
    lines = []
    for item in body["line_items"]:
        quantity = int(item["quantity"])
        if quantity < 1:
            continue
        left = min(shipped[str(item["id"])], quantity)
        fulfillable = item.get("fulfillable_quantity")
        current = int(item["current_quantity"]) if item.get("current_quantity") is not None else quantity
        lines.append(
            LineDraft(
                external_id=str(item["id"]),
                quantity=quantity,
                external_sku=item.get("sku") or "",
                title=item.get("name") or item.get("title") or "",
                listing_ref=str(item.get("variant_id") or ""),
                kind="product" if item.get("requires_shipping", True) else "service",
                unit_price=_amount(item["price"]),
                discount=sum((_amount(one["amount"]) for one in item.get("discount_allocations") or ()), ZERO),
                tax=sum((_amount(tax["price"]) for tax in item.get("tax_lines") or ()), ZERO),
                shipped=left,
                cancelled=_cancelled(
                    quantity=quantity, current=current, shipped=left, order_cancelled=is_cancelled,
                    unfulfilled=None if fulfillable is None else int(fulfillable),
                ),
            )
        )  # fmt: skip
    address = body.get("shipping_address")
    shipping_lines = body.get("shipping_lines") or [{}]
    tags = body.get("tags") or ""
    return OrderDraft(
        external_id=str(body["id"]),
        external_number=body.get("name") or "",
        placed_at=_time(body.get("processed_at") or body["created_at"], "created_at"),
        channel_updated_at=_time(body["updated_at"], "updated_at"),
        currency=body["currency"],
        lines=tuple(lines),
        status=_status(
            tuple(lines), cancelled=is_cancelled, financial=financial,
            fulfilled=body.get("fulfillment_status") == "fulfilled", delivered=False,
        ),
        payment_state=financial.lower(),
        is_test=bool(body.get("test")),
        service_level=shipping_lines[0].get("code") or shipping_lines[0].get("title") or "",
        cancel_reason=body.get("cancel_reason") or "",
        contact=ContactDraft(
            name=address.get("name") or "", company=address.get("company") or "", email=body.get("email") or "",
            phone=address.get("phone") or body.get("phone") or "", address1=address.get("address1") or "",
            address2=address.get("address2") or "", city=address.get("city") or "",
            region=address.get("province_code") or "", postal_code=address.get("zip") or "",
            country=address.get("country_code") or "", note=body.get("note") or "",
            residential=not address.get("company"),
        ) if address else None,
        discount=_amount(body.get("total_discounts")),
        shipping=_amount(body.get("total_shipping_price_set") or {}),
        tax=_amount(body.get("total_tax")),
        total=_amount(body["total_price"]),
        tax_included=bool(body.get("taxes_included")),
        tags=tuple(tag.strip() for tag in tags.split(",") if tag.strip()) if isinstance(tags, str) else tuple(tags),
    )  # fmt: skip


def returns_of(node: J) -> list[RemoteReturn]:
    """The returns of an Order node."""
    found = []
    for entry in node["returns"]["nodes"]:
        lines = tuple(
            (
                number_of(line["fulfillmentLineItem"]["lineItem"]["id"]),
                int(line["quantity"]),
                line.get("returnReasonNote") or "",
            )
            for line in entry["returnLineItems"]["nodes"]
            if line.get("fulfillmentLineItem")
        )
        found.append(
            RemoteReturn(
                external_id=number_of(entry["id"]),
                order_external_id=number_of(node["legacyResourceId"]),
                state=_RETURN_STATE.get(entry["status"], "requested"),
                lines=lines,
                note=entry["name"],
            )
        )
    return found
