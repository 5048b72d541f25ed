"""WooCommerce's webhooks: signature over the raw bytes, then what they speak of.

X-WC-Webhook-Signature = base64(HMAC-SHA256(webhook secret, raw body)). A new webhook is first pinged with the
form `webhook_id=<number>`, unsigned; it tells nothing and only wants an answer (WooCommerce REST API v3, Webhooks).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal

from channels.connectors.base import BadSignature, Notification
from channels.connectors.woocommerce.mapper import when

#: `order.deleted` is sent when an order goes to the trash; `product.updated` tells stock that moved on the shop
TOPICS = ("order.created", "order.updated", "order.deleted", "order.restored", "product.updated")
_PING = re.compile(rb"webhook_id=\d{1,20}\Z")


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


def parse(secrets: Iterable[str], headers: Mapping[str, str], raw: bytes) -> list[Notification]:
    """Header names in lower case. Raises `BadSignature`, and ValueError for a signed body that is not JSON."""
    if "x-wc-webhook-signature" not in headers and _PING.match(raw):
        return []
    if not verify(secrets, raw, headers.get("x-wc-webhook-signature", "")):
        raise BadSignature("the signature does not match")
    body = json.loads(raw, parse_float=Decimal)
    if not isinstance(body, dict):
        raise ValueError("the body is not a JSON object")
    topic = headers.get("x-wc-webhook-topic", "").lower()
    delivery = headers.get("x-wc-webhook-delivery-id") or hashlib.sha256(topic.encode() + raw).hexdigest()
    at = None
    try:
        at = when(body.get("date_modified_gmt"))
    except ValueError:
        pass
    order = str(body.get("id") or "") if kind_of(topic) == "order" else ""
    return [Notification(delivery[:120], topic[:80], body, order[:120], kind_of(topic), at)]


def kind_of(topic: str) -> str:
    """What a topic speaks of, in the words of the port."""
    return {"order": "order", "product": "quantity"}.get(topic.partition(".")[0], "other")
