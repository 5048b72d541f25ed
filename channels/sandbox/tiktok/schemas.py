"""Request bodies and query fields of the TikTok Shop API that are played here. Closed, and with what is required:
the published contract marks nothing as required and lists its values in prose only."""

from __future__ import annotations

from typing import Any

ID = {"type": "string", "pattern": r"^\d+$"}
IDS = {"type": "array", "items": ID, "minItems": 1}
TIME = {"type": "integer", "minimum": 0, "maximum": 2**33}
TOPICS = (
    "ORDER_STATUS_CHANGE", "RECIPIENT_ADDRESS_UPDATE", "PACKAGE_UPDATE", "PRODUCT_STATUS_CHANGE",
    "SELLER_DEAUTHORIZATION", "UPCOMING_AUTHORIZATION_EXPIRATION", "CANCELLATION_STATUS_CHANGE",
    "RETURN_STATUS_CHANGE", "NEW_CONVERSATION", "NEW_MESSAGE", "PRODUCT_INFORMATION_CHANGE", "PRODUCT_CREATION",
    "PRODUCT_CATEGORY_CHANGE", "NEW_MESSAGE_LISTENER", "INVOICE_STATUS_CHANGE", "PRODUCT_AUDIT_STATUS_CHANGE",
    "REVERSE_STATUS_UPDATE",
)  # fmt: skip
ORDER_STATUSES = (
    "UNPAID", "ON_HOLD", "AWAITING_SHIPMENT", "PARTIALLY_SHIPPING", "AWAITING_COLLECTION", "IN_TRANSIT", "DELIVERED",
    "COMPLETED", "CANCELLED",
)  # fmt: skip


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


ORDER_SEARCH = _object(
    order_status={"type": "string", "enum": list(ORDER_STATUSES)},
    create_time_ge=TIME,
    create_time_lt=TIME,
    update_time_ge=TIME,
    update_time_lt=TIME,
    shipping_type={"type": "string", "enum": ["TIKTOK", "SELLER"]},
    buyer_user_id={"type": "string"},
    is_buyer_request_cancel={"type": "boolean"},
    warehouse_ids={**IDS, "maxItems": 100},
)
UPDATE_INVENTORY = _object(
    ("skus",),
    skus={
        "type": "array",
        "minItems": 1,
        "items": _object(
            ("id", "inventory"),
            id=ID,
            inventory={
                "type": "array",
                "minItems": 1,
                "items": _object(
                    ("quantity",),
                    warehouse_id=ID,
                    quantity={"type": "integer", "minimum": 0, "maximum": 99_999},
                    backorder_quantity={"type": "integer", "minimum": 0},
                    handling_time={"type": "integer", "minimum": 0},
                ),
            },
        ),
    },
)
INVENTORY_SEARCH = _object(product_ids={**IDS, "maxItems": 100}, sku_ids={**IDS, "maxItems": 600})
PRODUCT_SEARCH = _object(
    status={"type": "string"},
    seller_skus={"type": "array", "items": {"type": "string"}},
    sku_ids={**IDS, "maxItems": 10},
    update_time_ge=TIME,
    update_time_le=TIME,
)
ADD_PACKAGE = _object(
    ("order_line_item_ids", "shipping_provider_id", "tracking_number"),
    order_line_item_ids=IDS,
    shipping_provider_id=ID,
    tracking_number={"type": "string", "minLength": 4, "maxLength": 60},
)
SHIP_PACKAGE = _object(
    ("self_shipment",),
    handover_method={"type": "string", "enum": ["PICKUP", "DROP_OFF"]},
    self_shipment=_object(
        ("shipping_provider_id", "tracking_number"),
        shipping_provider_id=ID,
        tracking_number={"type": "string", "minLength": 4, "maxLength": 60},
    ),
)
CANCEL = _object(
    ("order_id", "cancel_reason"),
    order_id=ID,
    cancel_reason={"type": "string", "minLength": 1},
    order_line_item_ids=IDS,
    skus={"type": "array", "items": _object(("sku_id", "quantity"), sku_id=ID, quantity={"type": "integer"})},
)
CANCEL_SEARCH = _object(
    order_ids=IDS,
    cancel_ids=IDS,
    cancel_types={"type": "array", "items": {"type": "string", "enum": ["CANCEL", "BUYER_CANCEL"]}},
    cancel_status={"type": "array", "items": {"type": "string"}},
    update_time_ge=TIME,
    update_time_lt=TIME,
)
CREATE_RETURN = _object(
    ("order_id", "return_type", "return_reason", "refund_total", "currency"),
    order_id=ID,
    return_type={"type": "string", "enum": ["REFUND", "RETURN_AND_REFUND"]},
    return_reason={"type": "string", "minLength": 1},
    refund_total={"type": "string", "pattern": r"^\d+(\.\d+)?$"},
    currency={"type": "string", "pattern": "^[A-Z]{3}$"},
    order_line_item_ids=IDS,
    shipment_type={"type": "string", "enum": ["PLATFORM", "BUYER_ARRANGE"]},
    handover_method={"type": "string", "enum": ["DROP_OFF", "PICKUP"]},
)
RETURN_SEARCH = _object(
    order_ids=IDS,
    return_ids=IDS,
    return_status={"type": "array", "items": {"type": "string"}},
    return_types={
        "type": "array",
        "items": {"type": "string", "enum": ["REFUND", "RETURN_AND_REFUND", "REPLACEMENT"]},
    },
    update_time_ge=TIME,
    update_time_lt=TIME,
)
WEBHOOK = _object(
    ("event_type", "address"),
    event_type={"type": "string", "enum": list(TOPICS)},
    address={"type": "string", "pattern": "^https?://", "maxLength": 255},
)
