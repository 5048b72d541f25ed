"""Multi-Channel Fulfillment, Fulfillment Outbound 2020-07-01: orders of other channels from Amazon's own warehouse.

Settings of a seller: `outbound_ship_seconds` (None = only on command), `outbound_cancel` ("taken"; "late" = every
cancellation is accepted and comes too late), `outbound_transit_days` by speed.
"""

from __future__ import annotations

from typing import Any

from channels.sandbox.amazon.seller import AmazonSeller, Outbound, OutboundParcel, errors, stamp
from channels.sandbox.http import Answer
from channels.sandbox.shop import SandboxError

SPEEDS = ("Standard", "Expedited", "Priority", "ScheduledDelivery")
FEATURES = (
    "BLOCK_AMZL",
    "BLANK_BOX",
    "OVERBOX",
    "PACKING_SLIP",
    "SIGNATURE_CONFIRMATION",
    "DELIVER_TOGETHER",
)
TRANSIT_DAYS = {"Standard": 5, "Expedited": 2, "Priority": 1}
FEES = {"Standard": "5.90", "Expedited": "9.40", "Priority": "15.80"}
MAX_LINES, MAX_UNITS = 100, 250
PAGE = 30
BEFORE_PACKING = ("New", "Received", "Planning")

TEXT: dict[str, Any] = {"type": "string"}
ADDRESS: dict[str, Any] = {
    "type": "object",
    "required": ["name", "addressLine1", "postalCode", "countryCode"],
    "properties": {
        **{
            name: TEXT
            for name in ("addressLine2", "addressLine3", "city", "districtOrCounty", "stateOrRegion", "phone")
        },
        "name": {"type": "string", "minLength": 1},
        "addressLine1": {"type": "string", "minLength": 1},
        "postalCode": {"type": "string", "minLength": 1},
        "countryCode": {"type": "string", "pattern": "^[A-Z]{2}$"},
    },
}
ITEM: dict[str, Any] = {
    "type": "object",
    "required": ["sellerSku", "sellerFulfillmentOrderItemId", "quantity"],
    "properties": {
        "sellerSku": {"type": "string", "minLength": 1, "maxLength": 50},
        "sellerFulfillmentOrderItemId": {"type": "string", "minLength": 1, "maxLength": 50},
        "quantity": {"type": "integer", "minimum": 1},
        "giftMessage": {"type": "string", "maxLength": 512},
        "displayableComment": {"type": "string", "maxLength": 250},
        "fulfillmentNetworkSku": TEXT,
    },
}
FEATURE: dict[str, Any] = {
    "type": "object",
    "required": ["featureName", "featureFulfillmentPolicy"],
    "properties": {
        "featureName": {"type": "string", "enum": list(FEATURES)},
        "featureFulfillmentPolicy": {"type": "string", "enum": ["Required", "NotRequired"]},
    },
}
SPEED: dict[str, Any] = {"type": "string", "enum": list(SPEEDS)}
PREVIEW: dict[str, Any] = {
    "type": "object",
    "required": ["address", "items"],
    "properties": {
        "marketplaceId": TEXT,
        "address": ADDRESS,
        "items": {"type": "array", "minItems": 1, "maxItems": MAX_LINES, "items": ITEM},
        "shippingSpeedCategories": {"type": "array", "minItems": 1, "items": SPEED},
        "includeCODFulfillmentPreview": {"type": "boolean"},
        "includeDeliveryWindows": {"type": "boolean"},
        "featureConstraints": {"type": "array", "items": FEATURE},
    },
}
CREATE: dict[str, Any] = {
    "type": "object",
    "required": [
        "sellerFulfillmentOrderId",
        "displayableOrderId",
        "displayableOrderDate",
        "displayableOrderComment",
        "shippingSpeedCategory",
        "destinationAddress",
        "items",
    ],
    "properties": {
        "marketplaceId": TEXT,
        "sellerFulfillmentOrderId": {"type": "string", "minLength": 1, "maxLength": 40},
        "displayableOrderId": {"type": "string", "minLength": 1, "maxLength": 40, "pattern": "^(?!.*  )"},
        "displayableOrderDate": {"type": "string", "format": "date-time"},
        "displayableOrderComment": {"type": "string", "minLength": 1, "maxLength": 750},
        "shippingSpeedCategory": SPEED,
        "destinationAddress": ADDRESS,
        "fulfillmentAction": {"type": "string", "enum": ["Ship", "Hold"]},
        "fulfillmentPolicy": {"type": "string", "enum": ["FillOrKill", "FillAll", "FillAllAvailable"]},
        "shipFromCountryCode": {"type": "string", "pattern": "^[A-Z]{2}$"},
        "notificationEmails": {"type": "array", "items": {"type": "string", "maxLength": 64}},
        "featureConstraints": {"type": "array", "items": FEATURE},
        "items": {"type": "array", "minItems": 1, "maxItems": MAX_LINES, "items": ITEM},
    },
}


def _refusal(seller: AmazonSeller, body: dict[str, Any]) -> str:
    """What is wrong with an order beyond its shape."""
    if body.get("marketplaceId") not in (None, seller.marketplace_id):
        return "marketplaceId is not a marketplace of this seller."
    items = body["items"]
    names = [item["sellerFulfillmentOrderItemId"] for item in items]
    if len(set(names)) < len(names):
        return "sellerFulfillmentOrderItemId must be unique within the order."
    if sum(item["quantity"] for item in items) > MAX_UNITS:
        return f"An order takes at most {MAX_UNITS} units."
    for item in items:
        known = seller.items.get(item["sellerSku"])
        if known is None or known.fba is None:
            return f"Seller SKU {item['sellerSku']} is not in Amazon's fulfillment network."
    return ""


def _missing(seller: AmazonSeller, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items that the fulfillable stock does not cover."""
    left = {sku: (item.fba or {}).get("fulfillable", 0) for sku, item in seller.items.items()}
    short = []
    for item in items:
        left[item["sellerSku"]] -= item["quantity"]
        if left[item["sellerSku"]] < 0:
            short.append(item)
    return short


def preview(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    wrong = _refusal(seller, body)
    if wrong:
        return errors(400, "InvalidInput", wrong)
    missing, now = _missing(seller, body["items"]), seller.world.now()
    days = {**TRANSIT_DAYS, **seller.settings.get("outbound_transit_days", {})}
    found = []
    for speed in body.get("shippingSpeedCategories", list(TRANSIT_DAYS)):
        entry: dict[str, Any] = {
            "shippingSpeedCategory": speed,
            "isFulfillable": not missing and speed in days,
            "isCODCapable": False,
            "marketplaceId": seller.marketplace_id,
        }
        if speed not in days:
            entry["orderUnfulfillableReasons"] = ["DeliverySLAUnavailable"]
        elif missing:
            entry["unfulfillablePreviewItems"] = [
                {
                    "sellerSku": item["sellerSku"],
                    "quantity": item["quantity"],
                    "sellerFulfillmentOrderItemId": item["sellerFulfillmentOrderItemId"],
                    "itemUnfulfillableReasons": ["InsufficientInventory"],
                }
                for item in missing
            ]
        else:
            fee = {"currencyCode": seller.currency, "value": FEES[speed]}
            entry["estimatedFees"] = [{"name": "FBAPerUnitFulfillmentFee", "amount": fee}]
            entry["fulfillmentPreviewShipments"] = [
                {
                    "earliestShipDate": stamp(now + 3600),
                    "latestShipDate": stamp(now + 86_400),
                    "earliestArrivalDate": stamp(now + 86_400 * max(1, days[speed] - 1)),
                    "latestArrivalDate": stamp(now + 86_400 * days[speed]),
                    "fulfillmentPreviewItems": [
                        {
                            "sellerSku": item["sellerSku"],
                            "quantity": item["quantity"],
                            "sellerFulfillmentOrderItemId": item["sellerFulfillmentOrderItemId"],
                        }
                        for item in body["items"]
                    ],
                }
            ]
        found.append(entry)
    return Answer.json({"payload": {"fulfillmentPreviews": found}})


def create(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    wrong = _refusal(seller, body)
    if wrong:
        return errors(400, "InvalidInput", wrong)
    number = body["sellerFulfillmentOrderId"]
    if number in seller.outbound:
        return errors(400, "InvalidInput", f"A fulfillment order with the id {number} exists already.")
    now = seller.world.now()
    order = Outbound(number, now, now, {**body, "marketplaceId": seller.marketplace_id})
    seller.outbound[number] = order
    if _missing(seller, body["items"]):
        move(seller, order, "Unfulfillable")
        return Answer.json({})
    for item in body["items"]:
        pool = seller.items[item["sellerSku"]]
        assert pool.fba is not None
        pool.fba["fulfillable"] -= item["quantity"]
        pool.fba["pending_order"] = pool.fba.get("pending_order", 0) + item["quantity"]
        pool.updated_at = now
        seller.announce_stock(pool, "")
    move(seller, order, "Received")
    wait = seller.settings.get("outbound_ship_seconds")
    if wait is not None:
        seller.world.later(float(wait), lambda: ship(seller, order, {}) if order.is_open else None)
    return Answer.json({})


def move(seller: AmazonSeller, order: Outbound, status: str) -> None:
    """A new status, and its notification."""
    order.status, order.changed_at = status, seller.world.now()
    payload: dict[str, Any] = {
        "SellerId": seller.id,
        "EventType": "Shipment" if order.parcels else "Order",
        "StatusUpdatedDateTime": stamp(order.changed_at),
        "SellerFulfillmentOrderId": order.id,
        "FulfillmentOrderStatus": status.upper(),
    }
    if order.parcels:
        last = order.parcels[-1]
        payload["FulfillmentShipment"] = {
            "FulfillmentShipmentStatus": last.status,
            "AmazonShipmentId": last.id,
            "EstimatedArrivalDateTime": stamp(order.changed_at + 2 * 86_400),
            "FulfillmentShipmentPackages": [
                {"PackageNumber": 1, "CarrierCode": last.carrier, "TrackingNumber": last.tracking}
            ],
        }
    seller.notify("FULFILLMENT_ORDER_STATUS", {"FulfillmentOrderStatusNotification": payload})


def shown(seller: AmazonSeller, order: Outbound) -> dict[str, Any]:
    body = order.body
    answer = {
        name: body[name]
        for name in (
            "sellerFulfillmentOrderId",
            "marketplaceId",
            "displayableOrderId",
            "displayableOrderDate",
            "displayableOrderComment",
            "shippingSpeedCategory",
            "destinationAddress",
        )
    }
    for name in ("fulfillmentAction", "fulfillmentPolicy", "featureConstraints", "notificationEmails"):
        if name in body:
            answer[name] = body[name]
    return {
        **answer,
        "receivedDate": stamp(order.received_at),
        "fulfillmentOrderStatus": order.status,
        "statusUpdatedDate": stamp(order.changed_at),
    }


def _parcel(parcel: OutboundParcel, order: Outbound) -> dict[str, Any]:
    skus = {item["sellerFulfillmentOrderItemId"]: item["sellerSku"] for item in order.body["items"]}
    answer: dict[str, Any] = {
        "amazonShipmentId": parcel.id,
        "fulfillmentCenterId": "RNO4",
        "fulfillmentShipmentStatus": parcel.status,
        "shippingDate": stamp(parcel.at),
        "fulfillmentShipmentItem": [
            {
                "sellerSku": skus[line],
                "sellerFulfillmentOrderItemId": line,
                "quantity": units,
                "packageNumber": 1,
            }
            for line, units in parcel.lines.items()
        ],
    }
    if parcel.status == "SHIPPED":
        package: dict[str, Any] = {"packageNumber": 1, "carrierCode": parcel.carrier}
        if parcel.tracking:
            package["trackingNumber"] = parcel.tracking
        answer["fulfillmentShipmentPackage"] = [package]
    return answer


def get(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    order = seller.outbound.get(parts[0])
    if order is None:
        return errors(404, "NotFound", f"There is no fulfillment order {parts[0]}.")
    cancelled, failed = order.status == "Cancelled", order.status in ("Unfulfillable", "CompletePartialled")
    items = []
    for item in order.body["items"]:
        left = order.left(item["sellerFulfillmentOrderItemId"])
        items.append(
            {
                "sellerSku": item["sellerSku"],
                "sellerFulfillmentOrderItemId": item["sellerFulfillmentOrderItemId"],
                "quantity": item["quantity"],
                "cancelledQuantity": left if cancelled else 0,
                "unfulfillableQuantity": left if failed else 0,
            }
        )
    return Answer.json(
        {
            "payload": {
                "fulfillmentOrder": shown(seller, order),
                "fulfillmentOrderItems": items,
                "fulfillmentShipments": [_parcel(parcel, order) for parcel in order.parcels],
                "returnItems": [],
                "returnAuthorizations": [],
            }
        }
    )


def listed(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    start, begin = query.get("queryStartDate", 0), 0
    if "nextToken" in query:
        given, _, at = query["nextToken"].partition(":")
        if not given.isdigit():
            return errors(400, "InvalidInput", "nextToken is invalid.")
        begin, start = int(given), float(at or 0)
    found = [order for order in seller.outbound.values() if order.changed_at >= start]
    page: dict[str, Any] = {"fulfillmentOrders": [shown(seller, one) for one in found[begin : begin + PAGE]]}
    if begin + PAGE < len(found):
        page["nextToken"] = f"{begin + PAGE}:{start}"
    return Answer.json({"payload": page})


def cancel(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    order = seller.outbound.get(parts[0])
    if order is None:
        return errors(404, "NotFound", f"There is no fulfillment order {parts[0]}.")
    if not order.is_open:
        return errors(400, "InvalidInput", f"A fulfillment order that is {order.status} cannot be cancelled.")
    if order.status in BEFORE_PACKING and seller.settings.get("outbound_cancel", "taken") == "taken":
        stop(seller, order, "Cancelled")
    return Answer.json({})


def stop(seller: AmazonSeller, order: Outbound, status: str) -> None:
    """Units that have not left go back to the shelf; the order ends."""
    order.parcels = [parcel for parcel in order.parcels if parcel.status == "SHIPPED"]
    for item in order.body["items"]:
        left = order.left(item["sellerFulfillmentOrderItemId"])
        pool = seller.items[item["sellerSku"]]
        assert pool.fba is not None
        pool.fba["pending_order"] -= left
        pool.fba["fulfillable"] += left
        pool.updated_at = seller.world.now()
        seller.announce_stock(pool, "")
    move(seller, order, status)


def ship(seller: AmazonSeller, order: Outbound, body: dict[str, Any]) -> None:
    """Units leave in one parcel: {lines {item id: units}?, carrier?, tracking?, pending?}."""
    wanted = {str(line): int(units) for line, units in (body.get("lines") or {}).items()}
    if not wanted:
        names = [item["sellerFulfillmentOrderItemId"] for item in order.body["items"]]
        wanted = {name: order.left(name) for name in names if order.left(name)}
    number = seller.world.serial("outbound")
    blocked = any(entry["featureName"] == "BLOCK_AMZL" for entry in order.body.get("featureConstraints", ()))
    carrier = str(body.get("carrier") or ("UPS" if blocked else "AMZN_US"))
    tracking = str(body.get("tracking", f"1Z{number:09d}" if carrier == "UPS" else f"TBA{number:09d}"))
    now = seller.world.now()
    pending = bool(body.get("pending"))
    order.parcels = [parcel for parcel in order.parcels if parcel.status == "SHIPPED"]
    order.parcels.append(
        OutboundParcel(f"D{number}", now, wanted, carrier, tracking, "PENDING" if pending else "SHIPPED")
    )
    if not pending:
        skus = {item["sellerFulfillmentOrderItemId"]: item["sellerSku"] for item in order.body["items"]}
        for line, units in wanted.items():
            pool = seller.items[skus[line]]
            assert pool.fba is not None
            pool.fba["pending_order"] -= units
            pool.updated_at = now
            seller.announce_stock(pool, "")
    whole = not pending and not any(
        order.left(item["sellerFulfillmentOrderItemId"]) for item in order.body["items"]
    )
    move(seller, order, "Complete" if whole else "Processing")


def act(seller: AmazonSeller, number: str, action: str, body: dict[str, Any]) -> Outbound:
    """What happens at Amazon: ship {lines, carrier, tracking, pending}, plan, give_up (what has not left cannot be
    shipped), invalid, cancel (in Seller Central)."""
    order = seller.outbound.get(number)
    if order is None:
        raise SandboxError(f"There is no fulfillment order {number}.")
    if not order.is_open:
        raise SandboxError(f"Fulfillment order {number} is {order.status}.")
    if action == "ship":
        ship(seller, order, body)
    elif action == "plan":
        move(seller, order, "Planning")
    elif action == "give_up":
        stop(seller, order, "CompletePartialled" if order.gone else "Unfulfillable")
    elif action == "invalid":
        stop(seller, order, "Invalid")
    elif action == "cancel":
        stop(seller, order, "Cancelled")
    else:
        raise SandboxError(f"{action} is not an action; use ship, plan, give_up, invalid or cancel.")
    return order
