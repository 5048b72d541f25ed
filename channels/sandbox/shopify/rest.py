"""Amounts, ids and the REST-shaped bodies that Shopify puts into webhooks."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from channels.sandbox.shop import Fulfilment, Item, Line, Order, Refund, Return, Shop

CENT = Decimal("0.01")
FIRST_ITEM = {
    "Product": 8_100_000_000_000,
    "ProductVariant": 44_000_000_000_000,
    "InventoryItem": 46_000_000_000_000,
}


def gid(kind: str, number: str | int) -> str:
    return f"gid://shopify/{kind}/{number}"


def product_number(item: Item) -> int:
    return FIRST_ITEM["Product"] + item.number


def variant_number(item: Item) -> int:
    return FIRST_ITEM["ProductVariant"] + item.number


def item_number(item: Item) -> int:
    return FIRST_ITEM["InventoryItem"] + item.number


def product_gid(item: Item) -> str:
    return gid("Product", product_number(item))


def variant_gid(item: Item) -> str:
    return gid("ProductVariant", variant_number(item))


def item_gid(item: Item) -> str:
    return gid("InventoryItem", item_number(item))


def rest_time(moment: float) -> str | None:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds") if moment else None


def cents(amount: Decimal) -> str:
    return str(amount.quantize(CENT, ROUND_HALF_UP))


def share(amount: str, part: int, whole: int) -> Decimal:
    """The part of an amount that belongs to some of the units, to the cent."""
    return (Decimal(amount) * part / whole).quantize(CENT, ROUND_HALF_UP) if whole else Decimal(0)


def line_total(line: Line, units: int) -> Decimal:
    """Price of some units of a line after its discount."""
    return Decimal(line.price) * units - share(line.discount, units, line.quantity)


def current_goods(order: Order) -> Decimal:
    return sum((line_total(line, line.current) for line in order.lines), Decimal(0))


def current_tax(order: Order) -> Decimal:
    return sum((share(line.tax, line.current, line.quantity) for line in order.lines), Decimal(0))


def current_total(order: Order) -> Decimal:
    shipping = Decimal(0) if order.cancelled_at and not order.fulfilments else Decimal(order.shipping_price)
    return current_goods(order) + current_tax(order) + shipping


def discounts(order: Order) -> Decimal:
    return sum((Decimal(line.discount) for line in order.lines), Decimal(0))


def received(order: Order) -> Decimal:
    return order.total if order.payment == "paid" else Decimal(0)


def financial_status(order: Order) -> str:
    if order.payment != "paid":
        return order.payment.upper()
    if order.refunded_amount <= 0:
        return "PAID"
    return "REFUNDED" if order.refunded_amount >= received(order) else "PARTIALLY_REFUNDED"


def fulfillment_status(order: Order) -> str:
    done = any(line.fulfilled for line in order.lines)
    left = any(line.open for line in order.lines)
    if done:
        return "PARTIALLY_FULFILLED" if left else "FULFILLED"
    if any(assignment.hold for assignment in order.assignments):
        return "ON_HOLD"
    return "UNFULFILLED"


def money_set(amount: Decimal | str, currency: str) -> dict[str, Any]:
    one = {"amount": cents(Decimal(amount)), "currency_code": currency}
    return {"shop_money": one, "presentment_money": one}


def address(order: Order) -> dict[str, Any] | None:
    """The REST shape of the delivery address; None when there is none."""
    if not order.address:
        return None
    given = order.address
    name = given.get("name") or f"{given.get('first_name', '')} {given.get('last_name', '')}".strip()
    first, _, last = name.partition(" ")
    return {
        "first_name": given.get("first_name", first),
        "last_name": given.get("last_name", last),
        "name": name,
        "company": given.get("company"),
        "address1": given.get("address1"),
        "address2": given.get("address2"),
        "city": given.get("city"),
        "province": given.get("province"),
        "province_code": given.get("province_code"),
        "zip": given.get("zip"),
        "country": given.get("country", given.get("country_code")),
        "country_code": given.get("country_code"),
        "phone": given.get("phone", order.phone) or None,
        "latitude": None,
        "longitude": None,
    }


def line_item(shop: Shop, order: Order, line: Line) -> dict[str, Any]:
    item = shop.items[line.sku]
    done = line.fulfilled and (
        None if line.open == line.quantity else "fulfilled" if not line.open else "partial"
    )
    return {
        "id": int(line.id),
        "admin_graphql_api_id": gid("LineItem", line.id),
        "current_quantity": line.current,
        "fulfillable_quantity": line.open,
        "fulfillment_service": "manual",
        "fulfillment_status": done or None,
        "gift_card": False,
        "grams": item.weight_g,
        "name": line.title,
        "price": line.price,
        "price_set": money_set(line.price, order.currency),
        "product_exists": True,
        "product_id": product_number(item),
        "properties": [],
        "quantity": line.quantity,
        "requires_shipping": item.requires_shipping,
        "sku": line.sku,
        "taxable": True,
        "title": line.title,
        "total_discount": line.discount,
        "total_discount_set": money_set(line.discount, order.currency),
        "variant_id": variant_number(item),
        "variant_inventory_management": "shopify" if item.tracked else None,
        "variant_title": None,
        "vendor": item.vendor,
        "tax_lines": [],
        "duties": [],
        "discount_allocations": [],
    }


def order(shop: Shop, order: Order) -> dict[str, Any]:
    """The Order resource as orders/* webhooks carry it."""
    status = fulfillment_status(order)
    place = address(order)
    return {
        "id": int(order.id),
        "admin_graphql_api_id": gid("Order", order.id),
        "cancel_reason": order.cancel_reason.lower() or None,
        "cancelled_at": rest_time(order.cancelled_at),
        "closed_at": rest_time(order.closed_at),
        "confirmed": True,
        "contact_email": order.email or None,
        "created_at": rest_time(order.created_at),
        "currency": order.currency,
        "current_subtotal_price": cents(current_goods(order)),
        "current_total_price": cents(current_total(order)),
        "current_total_price_set": money_set(current_total(order), order.currency),
        "current_total_tax": cents(current_tax(order)),
        "email": order.email,
        "financial_status": financial_status(order).lower(),
        "fulfillment_status": {"FULFILLED": "fulfilled", "PARTIALLY_FULFILLED": "partial"}.get(status),
        "name": order.name,
        "note": order.note or None,
        "note_attributes": [],
        "number": order.number - 1000,
        "order_number": order.number,
        "phone": order.phone or None,
        "presentment_currency": order.currency,
        "processed_at": rest_time(order.created_at),
        "source_name": "web",
        "subtotal_price": cents(order.goods),
        "tags": ", ".join(order.tags),
        "tax_lines": [],
        "taxes_included": False,
        "test": order.test,
        "total_discounts": cents(discounts(order)),
        "total_line_items_price": cents(order.goods + discounts(order)),
        "total_outstanding": cents(max(Decimal(0), current_total(order) - received(order))),
        "total_price": cents(order.total),
        "total_price_set": money_set(order.total, order.currency),
        "total_shipping_price_set": money_set(order.shipping_price, order.currency),
        "total_tax": cents(order.tax),
        "updated_at": rest_time(order.updated_at),
        "billing_address": place,
        "shipping_address": place,
        "fulfillments": [fulfillment(order, one) for one in order.fulfilments],
        "line_items": [line_item(shop, order, line) for line in order.lines],
        "refunds": [refund(order, one) for one in order.refunds],
        "shipping_lines": [
            {
                "title": order.shipping_title,
                "code": order.shipping_title,
                "price": order.shipping_price,
                "source": "shopify",
            }
        ],
    }


def fulfillment(order: Order, done: Fulfilment) -> dict[str, Any]:
    return {
        "id": int(done.id),
        "admin_graphql_api_id": gid("Fulfillment", done.id),
        "order_id": int(order.id),
        "status": done.status.lower(),
        "created_at": rest_time(done.at),
        "updated_at": rest_time(done.updated_at),
        "service": "manual",
        "location_id": int(done.location_id),
        "tracking_company": done.carrier or None,
        "tracking_number": done.tracking[0] if done.tracking else None,
        "tracking_numbers": done.tracking,
        "tracking_url": done.urls[0] if done.urls else None,
        "tracking_urls": done.urls,
        "shipment_status": "delivered" if order.delivered_at else None,
        "name": f"{order.name}.{order.fulfilments.index(done) + 1}"
        if done in order.fulfilments
        else order.name,
        "line_items": [
            {"id": int(line_id), "quantity": quantity, "sku": order.line(line_id).sku}
            for line_id, quantity in done.lines.items()
        ],
    }


def refund(order: Order, done: Refund) -> dict[str, Any]:
    return {
        "id": int(done.id),
        "admin_graphql_api_id": gid("Refund", done.id),
        "order_id": int(order.id),
        "created_at": rest_time(done.at),
        "processed_at": rest_time(done.at),
        "note": done.note or None,
        "refund_line_items": [
            {
                "line_item_id": int(one.line_id),
                "quantity": one.quantity,
                "restock_type": one.restock.lower(),
                "location_id": int(one.location_id) if one.location_id else None,
                "subtotal": one.amount,
            }
            for one in done.lines
        ],
        "transactions": [
            {"kind": "refund", "amount": done.amount, "currency": order.currency, "status": "success"}
        ],
    }


def returned(order: Order, back: Return) -> dict[str, Any]:
    return {
        "id": int(back.id),
        "admin_graphql_api_id": gid("Return", back.id),
        "name": back.name,
        "status": back.status.lower(),
        "order": {"id": int(order.id), "admin_graphql_api_id": gid("Order", order.id)},
        "total_return_line_items": sum(line.quantity for line in back.lines),
    }


def inventory_level(item: Item, location_id: str) -> dict[str, Any]:
    stock = item.stock[location_id]
    return {
        "inventory_item_id": item_number(item),
        "location_id": int(location_id),
        "available": stock.available,
        "updated_at": rest_time(stock.updated_at),
        "admin_graphql_api_id": f"gid://shopify/InventoryLevel/{location_id}?inventory_item_id={item_number(item)}",
    }
