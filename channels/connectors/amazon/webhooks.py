"""Amazon's notifications: JSON bodies taken from a queue whose policy is their authenticity (pure).

Dedupe on NotificationMetadata.NotificationId; delivery is at least once and unordered. Older types write
their names in capitals, newer ones in camel case.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from channels.connectors.amazon.mapper import when
from channels.connectors.base import Notification

#: notification types we subscribe to and the payload version of each
TYPES = {
    "ORDER_CHANGE": "1.0",
    "FBA_INVENTORY_AVAILABILITY_CHANGES": "1.0",
    "FULFILLMENT_ORDER_STATUS": "1.0",
    "LISTINGS_ITEM_MFN_QUANTITY_CHANGE": "1.0",
    "FEED_PROCESSING_FINISHED": "2020-09-04",
}
_KINDS = {
    "ORDER_CHANGE": "order",
    "FBA_INVENTORY_AVAILABILITY_CHANGES": "fba",
    "FULFILLMENT_ORDER_STATUS": "outbound",
    "LISTINGS_ITEM_MFN_QUANTITY_CHANGE": "quantity",
    "FEED_PROCESSING_FINISHED": "feed",
}


def kind_of(topic: str) -> str:
    return _KINDS.get(topic, "other")


def told_quantity(body: Mapping[str, Any]) -> tuple[str, str, int] | None:
    """(SKU, no location, quantity) of a merchant quantity change."""
    payload = _any(body, "Payload") or {}
    if payload.get("FulfillmentChannelCode") != "DEFAULT" or payload.get("Quantity") is None:
        return None
    return str(payload["Sku"]), "", int(payload["Quantity"])


def _any(body: Mapping[str, Any], name: str) -> Any:
    """A member whose first letter may be upper or lower case."""
    return body.get(name, body.get(name[0].lower() + name[1:]))


def parse(raw: str | bytes) -> Notification:
    """One queue message. Raises ValueError when it is not a notification."""
    body = json.loads(raw)
    if not isinstance(body, dict) or not _any(body, "NotificationType"):
        raise ValueError("not a notification: NotificationType is missing")
    kind = str(_any(body, "NotificationType"))
    meta = _any(body, "NotificationMetadata") or {}
    text = raw.encode() if isinstance(raw, str) else raw
    delivery = str(_any(meta, "NotificationId") or hashlib.sha256(text).hexdigest())
    payload = _any(body, "Payload") or {}
    order_id = ""
    if kind == "ORDER_CHANGE":
        order_id = str((_any(payload, "OrderChangeNotification") or {}).get("AmazonOrderId", ""))
    elif kind == "FULFILLMENT_ORDER_STATUS":
        told = _any(payload, "FulfillmentOrderStatusNotification") or {}
        order_id = str(told.get("SellerFulfillmentOrderId", ""))
    try:
        at = when(_any(body, "EventTime"))
    except ValueError:
        at = None
    return Notification(delivery[:120], kind[:80], body, order_id[:120], kind_of(kind), at)
