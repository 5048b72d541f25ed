"""Multi-Channel Fulfillment: our outbound orders in the words of Fulfillment Outbound 2020-07-01, and back (pure).

The seller's own id of an order is its key: Amazon refuses a second order with it. Fill or kill: an order that cannot
be shipped whole is given back whole, so that it can be routed anew. Times are aware UTC.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from channels.connectors.amazon.mapper import when
from channels.connectors.base import (
    OutboundBox,
    OutboundItem,
    OutboundOffer,
    OutboundOrder,
    OutboundShipment,
    OutboundState,
)
from oms.core.words import some

J = Mapping[str, Any]

BASE = "/fba/outbound/2020-07-01/fulfillmentOrders"
#: slowest first
SPEEDS = ("Standard", "Expedited", "Priority")
MAX_LINES = 100
MAX_UNITS = 250
#: by their status in capitals: the definition spells them Processing, Amazon's own examples PROCESSING
_STAGES = {
    "NEW": "taken", "RECEIVED": "taken", "PLANNING": "working", "PROCESSING": "working", "COMPLETE": "done",
    "COMPLETEPARTIALLED": "failed", "COMPLETE_PARTIALLED": "failed", "CANCELLED": "cancelled",
    "UNFULFILLABLE": "failed", "INVALID": "failed",
}  # fmt: skip
#: carrier codes of packages in the words that people and channels know
_CARRIERS = {
    "AMZN_US": "Amazon Logistics", "AMZN_UK": "Amazon Logistics", "AMZN_EU": "Amazon Logistics",
    "AMZL": "Amazon Logistics", "FEDEX": "FedEx", "USPS": "USPS", "UPS": "UPS", "ONTRAC": "OnTrac",
}  # fmt: skip


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def latin(text: str, limit: int) -> str:
    """Text as packing slips print it: ISO 8859-1, no two spaces in a row, no space at the ends."""
    plain = text.encode("latin-1", "ignore").decode("latin-1")
    return re.sub(r"\s+", " ", plain).strip()[:limit].strip()


def _address(order: OutboundOrder) -> dict[str, str]:
    given = order.address
    wanted = {
        "name": given.get("name") or given.get("company") or "",
        "addressLine1": given.get("address1") or "", "addressLine2": given.get("address2") or "",
        "city": given.get("city") or "", "stateOrRegion": given.get("region") or "",
        "postalCode": given.get("postal_code") or "", "countryCode": given.get("country") or "",
        "phone": given.get("phone") or "",
    }  # fmt: skip
    needed = ("name", "addressLine1", "postalCode", "countryCode")
    return {name: value for name, value in wanted.items() if value or name in needed}


def _items(order: OutboundOrder) -> list[dict[str, Any]]:
    return [
        {
            "sellerSku": item.external_sku,
            "sellerFulfillmentOrderItemId": item.line,
            "quantity": item.quantity,
        }
        for item in order.items
    ]


def _features(order: OutboundOrder) -> dict[str, Any]:
    """What a channel that forbids a rival's brand needs: plain boxes, and no Amazon driver."""
    if not order.neutral:
        return {}
    names = ("BLOCK_AMZL", "BLANK_BOX")
    return {
        "featureConstraints": [
            {"featureName": name, "featureFulfillmentPolicy": "Required"} for name in names
        ]
    }


def too_big(order: OutboundOrder) -> str:
    """Why Amazon would refuse the order for its size; empty when it would not."""
    units = sum(item.quantity for item in order.items)
    if len(order.items) > MAX_LINES or units > MAX_UNITS:
        return (
            f"{some(len(order.items), 'line')} with {some(units, 'unit')}; Amazon takes at most {MAX_LINES} lines and "
            f"{MAX_UNITS} units in one fulfillment order"
        )
    return ""


def preview_body(order: OutboundOrder, marketplace: str) -> dict[str, Any]:
    """Body of getFulfillmentPreview."""
    return {
        "marketplaceId": marketplace,
        "address": _address(order),
        "items": _items(order),
        "shippingSpeedCategories": list(SPEEDS),
        **_features(order),
    }


def create_body(order: OutboundOrder, marketplace: str) -> dict[str, Any]:
    """Body of createFulfillmentOrder."""
    return {
        "marketplaceId": marketplace,
        "sellerFulfillmentOrderId": order.reference,
        "displayableOrderId": latin(order.display_number, 40) or order.reference,
        "displayableOrderDate": _time(order.placed_at),
        "displayableOrderComment": latin(order.comment, 750) or "Thank you for your order.",
        "shippingSpeedCategory": order.speed or SPEEDS[0],
        "destinationAddress": _address(order),
        "fulfillmentAction": "Ship",
        "fulfillmentPolicy": "FillOrKill",
        "items": _items(order),
        **_features(order),
    }


def offers(body: J) -> list[OutboundOffer]:
    """The previews, slowest speed first. An order in several parcels arrives with its last one."""
    found = []
    for entry in (body.get("payload") or {}).get("fulfillmentPreviews") or ():
        arrivals = [
            when(part.get("latestArrivalDate")) for part in entry.get("fulfillmentPreviewShipments") or ()
        ]
        known = [moment for moment in arrivals if moment]
        fees = [fee["amount"] for fee in entry.get("estimatedFees") or ()]
        reasons = list(entry.get("orderUnfulfillableReasons") or ())
        for item in entry.get("unfulfillablePreviewItems") or ():
            why = ", ".join(item.get("itemUnfulfillableReasons") or ()) or "cannot be shipped"
            reasons.append(f"{item['sellerSku']}: {why}")
        found.append(
            OutboundOffer(
                speed=str(entry["shippingSpeedCategory"]),
                fulfillable=bool(entry["isFulfillable"]),
                arrives_by=max(known) if known and len(known) == len(arrivals) else None,
                fee=sum((Decimal(str(fee["value"])) for fee in fees), Decimal(0)) if fees else None,
                currency=str(fees[0]["currencyCode"]) if fees else "",
                reasons=tuple(reasons),
            )
        )
    return sorted(found, key=lambda offer: SPEEDS.index(offer.speed) if offer.speed in SPEEDS else 9)


def state(body: J) -> OutboundState:
    """A getFulfillmentOrder answer. Raises KeyError when a required field is missing."""
    result = body["payload"]
    order = result["fulfillmentOrder"]
    told = str(order["fulfillmentOrderStatus"])
    return OutboundState(
        reference=str(order["sellerFulfillmentOrderId"]),
        display_number=str(order["displayableOrderId"]),
        stage=_STAGES[told.upper()],
        told=told,
        items=tuple(
            OutboundItem(
                str(item["sellerFulfillmentOrderItemId"]), str(item["sellerSku"]), int(item["quantity"])
            )
            for item in result["fulfillmentOrderItems"]
        ),
        shipments=tuple(
            _shipment(entry)
            for entry in result.get("fulfillmentShipments") or ()
            if str(entry["fulfillmentShipmentStatus"]).upper() in ("PENDING", "SHIPPED")
        ),
        changed_at=when(order.get("statusUpdatedDate")),
    )


def _shipment(entry: J) -> OutboundShipment:
    """Packages with the same tracking number are one box; units without a package go into the first."""
    boxes: dict[int, tuple[str, str]] = {}
    for package in entry.get("fulfillmentShipmentPackage") or ():
        code = str(package["carrierCode"])
        number = package.get("trackingNumber") or package.get("amazonFulfillmentTrackingNumber") or ""
        boxes[int(package["packageNumber"])] = (_CARRIERS.get(code.upper(), code), str(number))
    first = min(boxes, default=0)
    inside: dict[tuple[str, str], dict[str, int]] = {}
    for item in entry["fulfillmentShipmentItem"]:
        box = boxes.get(int(item.get("packageNumber") or first), boxes.get(first, ("", "")))
        line = str(item["sellerFulfillmentOrderItemId"])
        units = inside.setdefault(box, {})
        units[line] = units.get(line, 0) + int(item["quantity"])
    gone = str(entry["fulfillmentShipmentStatus"]).upper() == "SHIPPED"
    return OutboundShipment(
        external_id=str(entry["amazonShipmentId"]),
        left_at=when(entry.get("shippingDate")) if gone else None,
        boxes=tuple(OutboundBox(carrier, number, units) for (carrier, number), units in inside.items()),
    )


def changed(body: J) -> tuple[dict[str, dt.datetime | None], str]:
    """(reference → last change, cursor) of a listAllFulfillmentOrders answer."""
    result = body.get("payload") or {}
    found = {
        str(order["sellerFulfillmentOrderId"]): when(order.get("statusUpdatedDate"))
        for order in result.get("fulfillmentOrders") or ()
    }
    return found, str(result.get("nextToken") or "")
