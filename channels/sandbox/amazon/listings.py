"""Listings: the availability attribute, its patches, and the listing as the API shows it."""

from __future__ import annotations

from typing import Any

from channels.sandbox.amazon.seller import AmazonSeller, stamp
from channels.sandbox.shop import Item, Stock

AVAILABILITY = "/attributes/fulfillment_availability"
AVAILABILITY_FIELDS = {
    "fulfillment_channel_code",
    "quantity",
    "lead_time_to_ship_max_days",
    "restock_date",
    "is_inventory_available",
    "marketplace_id",
}


def issue(code: str, message: str, attribute: str, severity: str = "ERROR") -> dict[str, Any]:
    return {
        "code": code,
        "message": message,
        "severity": severity,
        "attributeNames": [attribute],
        "categories": ["INVALID_ATTRIBUTE"],
    }


def availability(seller: AmazonSeller, item: Item) -> list[dict[str, Any]]:
    """The attribute as it stands."""
    if item.fba is not None:
        return [{"fulfillment_channel_code": seller.channel_code}]
    quantity = sum(stock.available for stock in item.stock.values())
    return [{"fulfillment_channel_code": "DEFAULT", "quantity": max(0, quantity), **item.attributes}]


def apply_patches(
    seller: AmazonSeller, sku: str, patches: list[dict[str, Any]], *, really: bool
) -> list[dict[str, Any]]:
    """Check and (when `really`) apply JSON patches; returns the issues, errors meaning that nothing was applied."""
    item = seller.items.get(sku)
    if item is None:
        return [issue("100521", f"SKU {sku} does not match any listing of this selling partner.", "sku")]
    if seller.forced:
        return [issue(seller.forced, "Refused by a planned fault.", "fulfillment_availability")]
    plan: list[tuple[str, dict[str, Any]]] = []
    for patch in patches:
        if patch["path"] != AVAILABILITY:
            name = patch["path"].rpartition("/")[2]
            return [
                issue(
                    "90000900", f"The sandbox plays only fulfillment_availability, not {patch['path']}.", name
                )
            ]
        if patch["op"] == "delete":
            return [
                issue("90000901", "fulfillment_availability cannot be deleted.", "fulfillment_availability")
            ]
        values = patch.get("value") or []
        if not values:
            return [
                issue(
                    "99022",
                    "The attribute fulfillment_availability does not have enough values.",
                    "fulfillment_availability",
                )
            ]
        for value in values:
            wrong = _check(seller, value)
            if wrong:
                return [issue("90244", wrong, "fulfillment_availability")]
            plan.append((patch["op"], value))
    if not really:
        return []
    for operation, value in plan:
        _apply(seller, item, operation, value)
    return []


def _check(seller: AmazonSeller, value: dict[str, Any]) -> str:
    unknown = set(value) - AVAILABILITY_FIELDS
    if unknown:
        return f"The field '{sorted(unknown)[0]}' is not valid for the attribute 'fulfillment_availability'."
    code = value.get("fulfillment_channel_code")
    if code not in ("DEFAULT", seller.channel_code):
        return f"The value '{code}' specified for 'fulfillment_channel_code' is invalid."
    quantity = value.get("quantity")
    if code == seller.channel_code:
        return "" if quantity is None else "'quantity' cannot be set for inventory fulfilled by Amazon."
    if not isinstance(quantity, int) or isinstance(quantity, bool) or quantity < 0:
        return "The value specified for 'quantity' must be a whole number of at least 0."
    days = value.get("lead_time_to_ship_max_days")
    if days is not None and (not isinstance(days, int) or not 0 <= days <= 60):
        return "The value specified for 'lead_time_to_ship_max_days' must be from 0 to 60."
    return ""


def _apply(seller: AmazonSeller, item: Item, operation: str, value: dict[str, Any]) -> None:
    now = seller.world.now()
    item.updated_at = now
    if value["fulfillment_channel_code"] != "DEFAULT":
        return
    if item.fba is not None:
        # the costly mistake: a merchant quantity turns an offer shipped by Amazon into one shipped by the merchant
        item.fba = None
        seller.count("fba_converted_to_mfn")
    extras = {
        name: inner
        for name, inner in value.items()
        if name not in ("fulfillment_channel_code", "quantity", "marketplace_id")
    }
    item.attributes = {**item.attributes, **extras} if operation == "merge" else extras
    place = next(iter(item.stock), next(iter(seller.locations)))
    stock = item.stock.setdefault(place, Stock())
    changed = stock.available != value["quantity"]
    stock.available, stock.updated_at = value["quantity"], now
    seller.count("quantities_set")
    if changed:
        seller.announce_stock(item, place)


def listing(seller: AmazonSeller, item: Item, included: set[str]) -> dict[str, Any]:
    """An Item of Listings Items 2021-08-01."""
    answer: dict[str, Any] = {"sku": item.sku}
    if "summaries" in included:
        sellable = (
            sum(s.available for s in item.stock.values())
            if item.fba is None
            else item.fba.get("fulfillable", 0)
        )
        summary = {
            "marketplaceId": seller.marketplace_id,
            "asin": item.asin,
            "productType": item.product_type,
            "conditionType": "new_new",
            "status": ["BUYABLE", "DISCOVERABLE"] if sellable > 0 else ["DISCOVERABLE"],
            "itemName": item.title,
            "createdDate": stamp(item.created_at),
            "lastUpdatedDate": stamp(item.updated_at),
        }
        if item.fba is not None:
            summary["fnSku"] = item.fnsku
        answer["summaries"] = [summary]
    if "attributes" in included:
        answer["attributes"] = {
            "item_name": [{"value": item.title, "marketplace_id": seller.marketplace_id}],
            "fulfillment_availability": availability(seller, item),
        }
    if "issues" in included:
        answer["issues"] = []
    if "offers" in included:
        price = {"currencyCode": seller.currency, "amount": item.price}
        answer["offers"] = [{"marketplaceId": seller.marketplace_id, "offerType": "B2C", "price": price}]
    if "fulfillmentAvailability" in included:
        answer["fulfillmentAvailability"] = [
            {"fulfillmentChannelCode": one["fulfillment_channel_code"]}
            | ({"quantity": one["quantity"]} if "quantity" in one else {})
            for one in availability(seller, item)
        ]
    if "productTypes" in included:
        answer["productTypes"] = [{"marketplaceId": seller.marketplace_id, "productType": item.product_type}]
    return answer
