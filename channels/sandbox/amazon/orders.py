"""Orders API 2026-01-01 (read) and the shipment confirmation of Orders v0."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

from channels.sandbox.amazon.seller import MARKETPLACES, AmazonSeller, errors, stamp
from channels.sandbox.check import parse_time
from channels.sandbox.http import Answer
from channels.sandbox.shop import Fulfilment, Line, Order
from channels.sandbox.shopify.rest import cents, line_total, share

STATUSES = [
    "PENDING_AVAILABILITY",
    "PENDING",
    "UNSHIPPED",
    "PARTIALLY_SHIPPED",
    "SHIPPED",
    "CANCELLED",
    "UNFULFILLABLE",
]
INCLUDED = [
    "BUYER",
    "RECIPIENT",
    "PROCEEDS",
    "EXPENSE",
    "PROMOTION",
    "CANCELLATION",
    "FULFILLMENT",
    "PACKAGES",
    "TAX",
    "PAYMENT",
    "FULFILLMENT_ORDERS",
]
SETTLE_SECONDS = 120  # the search never shows the last two minutes
PAGE_TOKEN_SECONDS = 24 * 3600


def money(amount: Decimal | str, currency: str) -> dict[str, str]:
    return {"amount": cents(Decimal(amount)), "currencyCode": currency}


def shown(seller: AmazonSeller, order: Order, included: set[str]) -> dict[str, Any]:
    """An Order with the asked data sets. Pending orders show neither address nor prices."""
    pending = order.payment != "paid"
    answer: dict[str, Any] = {
        "orderId": order.id,
        "createdTime": stamp(order.created_at),
        "lastUpdatedTime": stamp(order.updated_at),
        "salesChannel": {
            "channelName": "AMAZON",
            "marketplaceId": seller.marketplace_id,
            "marketplaceName": MARKETPLACES[seller.marketplace_id][1],
        },
        "orderItems": [_item(seller, order, line, included, pending) for line in order.lines],
    }
    programs = (["PRIME"] if order.prime else []) + (["AMAZON_BUSINESS"] if order.business else [])
    if programs:
        answer["programs"] = programs
    if "BUYER" in included and not pending:
        answer["buyer"] = {
            "buyerName": order.address.get("name", ""),
            "buyerEmail": order.email or f"buyer{order.number}@marketplace.amazon.com",
        }
    if "RECIPIENT" in included and not pending:
        names = {
            "name": "name",
            "company": "companyName",
            "address1": "addressLine1",
            "address2": "addressLine2",
            "city": "city",
            "province_code": "stateOrRegion",
            "zip": "postalCode",
            "country_code": "countryCode",
            "phone": "phone",
        }
        address = {theirs: order.address[ours] for ours, theirs in names.items() if order.address.get(ours)}
        if order.fulfilled_by == "channel":
            address.pop("phone", None)
        answer["recipient"] = {
            "deliveryAddress": {**address, "addressType": order.address.get("type", "RESIDENTIAL")}
        }
    if "PROCEEDS" in included and not pending:
        breakdowns = [{"type": "ITEM", "subtotal": money(order.goods, order.currency)}]
        if Decimal(order.shipping_price):
            breakdowns.append({"type": "SHIPPING", "subtotal": money(order.shipping_price, order.currency)})
        if order.tax:
            breakdowns.append({"type": "TAX", "subtotal": money(order.tax, order.currency)})
        answer["proceeds"] = {"grandTotal": money(order.total, order.currency), "breakdowns": breakdowns}
    if "FULFILLMENT" in included:
        answer["fulfillment"] = {
            "fulfillmentStatus": seller.status(order),
            "fulfilledBy": "AMAZON" if order.fulfilled_by == "channel" else "MERCHANT",
            "fulfillmentServiceLevel": order.service_level,
            "shipByWindow": {
                "earliestDateTime": stamp(order.created_at),
                "latestDateTime": stamp(order.ship_by),
            },
            "deliverByWindow": {
                "earliestDateTime": stamp(order.ship_by),
                "latestDateTime": stamp(order.deliver_by),
            },
        }
    if "PACKAGES" in included and order.fulfilled_by == "merchant":
        answer["packages"] = [_package(done, bool(order.delivered_at)) for done in order.fulfilments]
    return answer


def _item(
    seller: AmazonSeller, order: Order, line: Line, included: set[str], pending: bool
) -> dict[str, Any]:
    product: dict[str, Any] = {
        "asin": seller.items[line.sku].asin,
        "title": line.title,
        "sellerSku": line.sku,
        "condition": {"conditionType": "NEW", "conditionSubtype": "NEW"},
    }
    if not pending:
        product["price"] = {"unitPrice": money(line.price, order.currency)}
    answer: dict[str, Any] = {"orderItemId": line.id, "quantityOrdered": line.quantity, "product": product}
    if "PROCEEDS" in included and not pending:
        goods = line_total(line, line.quantity)
        breakdowns = [{"type": "ITEM", "subtotal": money(goods, order.currency)}]
        if Decimal(line.tax):
            breakdowns.append({"type": "TAX", "subtotal": money(line.tax, order.currency)})
        total = goods + share(line.tax, line.quantity, line.quantity)
        answer["proceeds"] = {"proceedsTotal": money(total, order.currency), "breakdowns": breakdowns}
    if "CANCELLATION" in included:
        cancellation: dict[str, Any] = {}
        if line.cancel_request:
            cancellation["cancellationRequest"] = {"requester": "BUYER", "cancelReason": line.cancel_request}
        if line.cancelled:
            cancellation["cancellationExecution"] = {
                "cancelledBy": "MERCHANT",
                "cancelReason": line.cancel_reason,
            }
        if cancellation:
            answer["cancellation"] = cancellation
    if "FULFILLMENT" in included:
        answer["fulfillment"] = {"quantityFulfilled": line.fulfilled, "quantityUnfulfilled": line.open}
    return answer


def _package(done: Fulfilment, delivered: bool) -> dict[str, Any]:
    answer = {
        "packageReferenceId": done.reference,
        "createdTime": stamp(done.at),
        "packageStatus": {"status": "DELIVERED" if delivered else "SHIPPED"},
        "carrier": done.carrier,
        "shipTime": stamp(done.ship_time),
        "trackingNumber": done.tracking[0],
        "packageItems": [
            {"orderItemId": line_id, "quantity": quantity} for line_id, quantity in done.lines.items()
        ],
    }
    if done.service:
        answer["shippingService"] = done.service
    return answer


def search(seller: AmazonSeller, query: dict[str, Any]) -> Answer:
    """searchOrders: exactly one of createdAfter and lastUpdatedAfter; the last two minutes never show."""
    now = seller.world.now()
    settled = now - float(seller.settings.get("search_settle_seconds", SETTLE_SECONDS))
    token = query.get("paginationToken")
    by = "created" if "createdAfter" in query else "lastUpdated"
    if ("createdAfter" in query) == ("lastUpdatedAfter" in query):
        return errors(
            400, "InvalidInput", "Exactly one of createdAfter and lastUpdatedAfter must be provided."
        )
    other = "lastUpdated" if by == "created" else "created"
    if f"{other}Before" in query:
        return errors(400, "InvalidInput", f"{other}Before cannot be combined with {by}After.")
    after, before = query[f"{by}After"], query.get(f"{by}Before")
    if before is not None and (before < after or before > now - SETTLE_SECONDS):
        text = f"{by}Before must not be before {by}After and at least two minutes before the time of the request."
        return errors(400, "InvalidInput", text)
    filters = {
        k: v for k, v in query.items() if k not in ("paginationToken", "maxResultsPerPage", "includedData")
    }
    position: list[Any] = [0, ""]
    until = before if before is not None else settled
    if token is not None:
        try:
            mark = json.loads(base64.urlsafe_b64decode(token))
            filters_then, until, position, made = mark["filters"], mark["until"], mark["at"], mark["made"]
        except (ValueError, KeyError, TypeError):
            return errors(400, "InvalidInput", "paginationToken is invalid.")
        if filters_then != json.loads(json.dumps(filters)):
            return errors(400, "InvalidInput", "paginationToken was made for other parameters.")
        if made < now - PAGE_TOKEN_SECONDS:
            return errors(400, "InvalidInput", "paginationToken has expired.")

    def moment(order: Order) -> float:
        return order.created_at if by == "created" else order.updated_at

    found = sorted(
        (
            (round(moment(order), 3), order.id, order)
            for order in seller.orders.values()
            if after <= moment(order) <= until
            and ("fulfillmentStatuses" not in query or seller.status(order) in query["fulfillmentStatuses"])
            and ("marketplaceIds" not in query or seller.marketplace_id in query["marketplaceIds"])
            and (
                "fulfilledBy" not in query
                or ("AMAZON" if order.fulfilled_by == "channel" else "MERCHANT") in query["fulfilledBy"]
            )
        ),
        key=lambda row: row[:2],
    )
    left = [row for row in found if [row[0], row[1]] > position]
    limit = query.get("maxResultsPerPage", 100)
    page = left[:limit]
    included = set(query.get("includedData", []))
    answer: dict[str, Any] = {"orders": [shown(seller, order, included) for _, _, order in page]}
    if len(left) > len(page):
        mark = {"filters": filters, "until": until, "at": [page[-1][0], page[-1][1]], "made": now}
        answer["pagination"] = {"nextToken": base64.urlsafe_b64encode(json.dumps(mark).encode()).decode()}
    answer[f"{by}Before"] = stamp(until)
    return Answer.json(answer)


CONFIRMATION: dict[str, Any] = {
    "type": "object",
    "required": ["marketplaceId", "packageDetail"],
    "properties": {
        "marketplaceId": {"type": "string"},
        "codCollectionMethod": {"type": "string", "enum": ["DirectPayment"]},
        "packageDetail": {
            "type": "object",
            "required": ["packageReferenceId", "carrierCode", "trackingNumber", "shipDate", "orderItems"],
            "properties": {
                "packageReferenceId": {"type": "string", "pattern": "^[1-9][0-9]*$"},
                "carrierCode": {"type": "string", "minLength": 1},
                "carrierName": {"type": "string"},
                "shippingMethod": {"type": "string"},
                "trackingNumber": {"type": "string", "minLength": 1},
                "shipDate": {"type": "string", "format": "date-time"},
                "shipFromSupplySourceId": {"type": "string"},
                "orderItems": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["orderItemId", "quantity"],
                        "properties": {
                            "orderItemId": {"type": "string"},
                            "quantity": {"type": "integer", "minimum": 1},
                            "transparencyCodes": {"type": "array", "items": {"type": "string"}},
                        },
                    },
                },
            },
        },
    },
}


def confirm(seller: AmazonSeller, order_id: str, body: dict[str, Any]) -> Answer:
    """confirmShipment: 204; the same packageReferenceId edits the package instead of adding one."""
    order = seller.orders.get(order_id)
    if order is None:
        return errors(404, "NotFound", f"Order {order_id} was not found.")
    detail = body["packageDetail"]
    if body["marketplaceId"] != seller.marketplace_id:
        return errors(400, "InvalidInput", "marketplaceId is not the marketplace of the order.")
    if detail["carrierCode"].lower() == "other" and not detail.get("carrierName"):
        return errors(400, "InvalidInput", "carrierName is required when carrierCode is Other.")
    if order.fulfilled_by == "channel":
        return errors(400, "InvalidInput", "Orders fulfilled by Amazon cannot be confirmed.")
    if seller.status(order) in ("PENDING", "CANCELLED"):
        return errors(400, "InvalidInput", f"An order in status {seller.status(order)} cannot be confirmed.")
    asked: dict[str, int] = {}
    for item in detail["orderItems"]:
        if not any(line.id == item["orderItemId"] for line in order.lines):
            return errors(
                400, "InvalidInput", f"orderItemId {item['orderItemId']} is not an item of the order."
            )
        asked[item["orderItemId"]] = asked.get(item["orderItemId"], 0) + item["quantity"]
    before = next(
        (done for done in order.fulfilments if done.reference == detail["packageReferenceId"]), None
    )
    for line_id, quantity in asked.items():
        room = order.line(line_id).open + (before.lines.get(line_id, 0) if before else 0)
        if quantity > room:
            return errors(
                400,
                "InvalidInput",
                f"The quantity of item {line_id} exceeds the {room} that are left to ship.",
            )
    now = seller.world.now()
    shipped_at = parse_time(detail["shipDate"]) or now
    if before is not None:
        _take_back(seller, order, before)
        order.fulfilments.remove(before)
        seller.count("packages_edited")
    done = Fulfilment(
        id=before.id if before else str(seller.world.serial("fulfilment")),
        at=before.at if before else now,
        updated_at=now,
        location_id=order.assignments[0].location_id,
        lines=asked,
        assignments=[],
        carrier=detail.get("carrierName") or detail["carrierCode"],
        tracking=[detail["trackingNumber"]],
        service=detail.get("shippingMethod", ""),
        reference=detail["packageReferenceId"],
        ship_time=shipped_at,
    )
    parts: dict[str, dict[str, int]] = {}
    for line_id, quantity in asked.items():
        for assignment in order.assignments:
            take = min(quantity, assignment.remaining.get(line_id, 0))
            if take:
                parts.setdefault(assignment.id, {})[line_id] = take
                quantity -= take
    done.assignments = list(parts)
    seller.fulfil(order, parts, done)
    return Answer(204)


def _take_back(seller: AmazonSeller, order: Order, done: Fulfilment) -> None:
    """Undo a package that is about to be replaced by its corrected form."""
    left = dict(done.lines)
    for assignment in order.assignments:
        if assignment.id not in done.assignments:
            continue
        for line_id in list(left):
            back = min(left[line_id], assignment.total.get(line_id, 0) - assignment.remaining.get(line_id, 0))
            if back:
                assignment.remaining[line_id] += back
                left[line_id] -= back
                line = order.line(line_id)
                line.fulfilled -= back
                stock = seller.items[line.sku].stock.get(assignment.location_id)
                if stock is not None:
                    stock.committed += back
