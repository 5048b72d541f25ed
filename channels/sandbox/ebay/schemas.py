"""Request bodies of the played eBay APIs, closed, with the required fields that their prose asks for."""

from __future__ import annotations

from typing import Any

REFUND_REASONS = (
    "BUYER_CANCEL", "SELLER_CANCEL", "ITEM_NOT_RECEIVED", "BUYER_RETURN", "ITEM_NOT_AS_DESCRIBED", "OTHER_ADJUSTMENT",
    "SHIPPING_DISCOUNT",
)  # fmt: skip
CANCEL_REASONS = ("OUT_OF_STOCK_OR_CANNOT_FULFILL", "BUYER_ASKED_CANCEL", "ADDRESS_ISSUES")


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


def _list(items: dict[str, Any], most: int = 1000) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "maxItems": most, "items": items}


_TEXT = {"type": "string", "minLength": 1}
_COUNT = {"type": "integer", "minimum": 0}
_MONEY = _object(
    ("value", "currency"), value={"type": "string", "pattern": r"^\d+(\.\d{1,2})?$"}, currency=_TEXT
)

QUANTITIES = _object(
    ("requests",),
    requests=_list(
        _object(
            ("sku",),
            sku=_TEXT,
            shipToLocationAvailability=_object(
                (),
                quantity=_COUNT,
                availabilityDistributions=_list(
                    _object(("merchantLocationKey",), merchantLocationKey=_TEXT, quantity=_COUNT)
                ),
            ),
            offers=_list(_object(("offerId",), offerId=_TEXT, availableQuantity=_COUNT, price=_MONEY), 25),
        ),
        25,
    ),
)
ITEMS = _object(("requests",), requests=_list(_object(("sku",), sku=_TEXT), 25))
SHIPMENT = _object(
    ("lineItems",),
    lineItems=_list(_object(("lineItemId", "quantity"), lineItemId=_TEXT, quantity={"type": "integer", "minimum": 1})),
    shippedDate={"type": "string", "format": "date-time"},
    shippingCarrierCode=_TEXT,
    trackingNumber={"type": "string", "pattern": "^[0-9A-Za-z]+$"},
)  # fmt: skip
REFUND = _object(
    ("reasonForRefund",),
    reasonForRefund={"type": "string", "enum": list(REFUND_REASONS)},
    comment={"type": "string", "maxLength": 100},
    refundItems=_list(_object(("lineItemId", "refundAmount"), lineItemId=_TEXT, refundAmount=_MONEY)),
    orderLevelRefundAmount=_MONEY,
)
CANCEL = _object(
    ("legacyOrderId", "cancelReason"),
    legacyOrderId=_TEXT,
    cancelReason={"type": "string", "enum": list(CANCEL_REASONS)},
    buyerPaid={"type": "boolean"},
    buyerPaidDate=_object(("value",), value={"type": "string", "format": "date-time"}),
)
CONFIG = _object(("alertEmail",), alertEmail={"type": "string", "pattern": "@"})
_STATUS = {"type": "string", "enum": ["ENABLED", "DISABLED"]}
DESTINATION = _object(
    ("name", "status", "deliveryConfig"),
    name=_TEXT,
    status=_STATUS,
    deliveryConfig=_object(
        ("endpoint", "verificationToken"),
        endpoint={"type": "string", "pattern": r"^(https://|http://127\.0\.0\.1[:/])"},
        verificationToken={"type": "string", "pattern": "^[0-9A-Za-z_-]{32,80}$"},
    ),
)
_PAYLOAD = _object(
    ("format", "schemaVersion", "deliveryProtocol"),
    format={"type": "string", "enum": ["JSON"]},
    schemaVersion={"type": "string", "enum": ["1.0"]},
    deliveryProtocol={"type": "string", "enum": ["HTTPS"]},
)
SUBSCRIPTION = _object(
    ("topicId", "status", "payload", "destinationId"),
    topicId=_TEXT, status=_STATUS, payload=_PAYLOAD, destinationId=_TEXT,
)  # fmt: skip
UPDATE_SUBSCRIPTION = _object(
    ("status", "payload", "destinationId"), status=_STATUS, payload=_PAYLOAD, destinationId=_TEXT
)
