"""Shopify's webhooks: signature over the raw bytes, then what they speak of.

X-Shopify-Hmac-SHA256 = base64(HMAC-SHA256(app client secret, raw body)). After a secret is rotated the
old one signs for up to an hour, so both are tried (shopify.dev, "Verify webhook deliveries").
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from channels.connectors.base import BadSignature, Notification
from channels.connectors.shopify.mapper import number_of, when

#: topics that tell us of orders, stock and the connection itself
TOPICS = (
    "ORDERS_CREATE", "ORDERS_UPDATED", "ORDERS_PAID", "ORDERS_EDITED", "ORDERS_CANCELLED", "ORDERS_FULFILLED",
    "ORDERS_PARTIALLY_FULFILLED", "REFUNDS_CREATE", "RETURNS_REQUEST", "RETURNS_APPROVE", "INVENTORY_LEVELS_UPDATE",
    "APP_UNINSTALLED",
)  # fmt: skip


def sign(secret: str, raw: bytes) -> str:
    return base64.b64encode(hmac.new(secret.encode(), raw, hashlib.sha256).digest()).decode()


def verify(secrets: Iterable[str], raw: bytes, header: str) -> bool:
    """True when one of the secrets signed the bytes. Constant time per secret."""
    good = False
    for secret in secrets:
        good |= bool(secret) and hmac.compare_digest(
            sign(secret, raw).encode(), header.encode("utf-8", "replace")
        )
    return good


def parse(secrets: Iterable[str], shop: str, headers: Mapping[str, str], raw: bytes) -> list[Notification]:
    """Header names in lower case. Raises `BadSignature`, and ValueError for a signed body that is not JSON."""
    if not verify(secrets, raw, headers.get("x-shopify-hmac-sha256", "")):
        raise BadSignature("the signature does not match")
    told = headers.get("x-shopify-shop-domain", "")
    if told and shop and told.lower() != shop.lower():
        raise BadSignature("the message is for another shop")
    body = json.loads(raw, parse_float=Decimal)
    if not isinstance(body, dict):
        raise ValueError("the body is not a JSON object")
    topic = headers.get("x-shopify-topic", "").lower()
    delivery = headers.get("x-shopify-webhook-id") or hashlib.sha256(topic.encode() + raw).hexdigest()
    at = None
    try:
        at = when(headers.get("x-shopify-triggered-at") or body.get("updated_at"))
    except ValueError:
        pass
    return [Notification(delivery[:120], topic[:80], body, _subject(topic, body)[:120], kind_of(topic), at)]


def kind_of(topic: str) -> str:
    """What a topic speaks of, in the words of the port."""
    if topic == "app/uninstalled":
        return "uninstalled"
    area = topic.partition("/")[0]
    known = {
        "orders": "order",
        "refunds": "order",
        "fulfillments": "order",
        "returns": "return",
        "inventory_levels": "quantity",
    }
    return known.get(area, "other")


def _subject(topic: str, body: Mapping[str, Any]) -> str:
    """The number of the order that a message speaks of, or nothing."""
    area = topic.partition("/")[0]
    if topic == "orders/edited":  # carries the edit, not the order
        edit = body.get("order_edit") or {}
        return str(edit.get("order_id") or body.get("id") or "")
    if area == "orders":
        return str(body.get("id") or "")
    if area in ("refunds", "fulfillments"):
        return str(body.get("order_id") or "")
    if area == "returns":
        return number_of((body.get("order") or {}).get("id") or body.get("order_id"))
    return ""
