"""Walmart's notifications: who sent them, then what they speak of.

Two ways are accepted. Signed: WM_SEC.SIGNATURE = base64(HMAC-SHA256(secret, METHOD \\n path and query \\n
WM_SEC.TIMESTAMP in seconds \\n hex SHA-256 of the body)) (developer.walmart.com, "Security and authenticity").
Or the user name and password that the subscription names (BASIC_AUTH), which is how order events are documented.
Only what the account is set to is taken. A body says little: the order is read again.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from channels.connectors.base import BadSignature, Notification

USER = "lading"
#: event type → resource; each as version V1
EVENTS = {
    "PO_CREATED": "ORDER",
    "PO_LINE_AUTOCANCELLED": "ORDER",
    "ORDER_INTENT_TO_CANCEL": "ORDER",
    "ORDER_MANAGEMENT_EVENT": "ORDER",
    "INVENTORY_OOS": "INVENTORY",
    "RETURN_NOTIFICATIONS": "RETURNS",
}
VERSION = "V1"
#: a signed message older (or newer) than this is a replay; two further attempts follow within it
MAX_AGE = dt.timedelta(hours=1)
_DEPTH = 5


def canonical(method: str, path: str, timestamp: str, raw: bytes) -> bytes:
    """The text that is signed; `path` with its query as it was called."""
    return "\n".join((method.upper(), path, timestamp, hashlib.sha256(raw).hexdigest())).encode()


def sign(secret: str, method: str, path: str, timestamp: str, raw: bytes) -> str:
    digest = hmac.new(secret.encode(), canonical(method, path, timestamp, raw), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def basic(secret: str, user: str = USER) -> str:
    """The Authorization header of a subscription with BASIC_AUTH."""
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


def derived_secret(client_secret: str) -> str:
    """The notifications' own password where nobody chose one; it shows nothing of the client secret."""
    return hmac.new(client_secret.encode(), b"lading walmart notifications", hashlib.sha256).hexdigest()[:48]


def _header(headers: Mapping[str, str], name: str) -> str:
    """Servers write WM_SEC.SIGNATURE with underscores or with hyphens."""
    return headers.get(name, "") or headers.get(name.replace("_", "-"), "")


def verify(secret: str, way: str, headers: Mapping[str, str], raw: bytes, now: dt.datetime) -> None:
    """`way` is basic or hmac; header names in lower case, `:method` and `:path` as the door puts them.

    Raises `BadSignature`. Constant time over the secret.
    """
    if not secret:
        raise BadSignature("the account has no secret for notifications")
    if way == "basic":
        told = headers.get("authorization", "")
        if not hmac.compare_digest(basic(secret).encode(), told.encode("utf-8", "replace")):
            raise BadSignature("the password does not match")
        return
    timestamp = _header(headers, "wm_sec.timestamp")
    wanted = sign(secret, headers.get(":method", "POST"), headers.get(":path", ""), timestamp, raw)
    if not hmac.compare_digest(
        wanted.encode(), _header(headers, "wm_sec.signature").encode("utf-8", "replace")
    ):
        raise BadSignature("the signature does not match")
    if not timestamp.isdigit() or abs(now.timestamp() - int(timestamp)) > MAX_AGE.total_seconds():
        raise BadSignature("the message is too old")


def parse(
    secret: str, way: str, headers: Mapping[str, str], raw: bytes, now: dt.datetime
) -> list[Notification]:
    """Raises `BadSignature`, and ValueError for a genuine body that cannot be read."""
    verify(secret, way, headers, raw, now)
    body = json.loads(raw, parse_float=Decimal)
    if not isinstance(body, dict):
        raise ValueError("the body is not a JSON object")
    source = body.get("source") if isinstance(body.get("source"), dict) else body
    assert isinstance(source, dict)
    topic = str(source.get("eventType") or "")
    delivery = str(source.get("eventId") or "") or hashlib.sha256(raw).hexdigest()
    kind = kind_of(topic)
    order = str(find(body, "purchaseOrderId") or "") if kind == "order" else ""
    return [
        Notification(
            delivery[:120],
            topic[:80],
            body,
            order[:120],
            kind if kind != "order" or order else "other",
            _time(source),
        )
    ]


def _time(source: Mapping[str, Any]) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(str(source.get("eventTime") or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def kind_of(topic: str) -> str:
    """What a topic speaks of, in the words of the port."""
    kinds = {"ORDER": "order", "INVENTORY": "quantity", "RETURNS": "return"}
    return kinds.get(EVENTS.get(topic, ""), "other")


def find(value: Any, name: str, depth: int = _DEPTH) -> Any:
    """A member wherever it stands: the payloads' shapes are not published and differ by event."""
    if depth == 0:
        return None
    if isinstance(value, dict):
        if value.get(name) not in (None, "", [], {}):
            return value[name]
        value = list(value.values())
    if isinstance(value, list):
        for inner in value[:100]:
            found = find(inner, name, depth - 1)
            if found is not None:
                return found
    return None


def told_quantity(body: Mapping[str, Any]) -> tuple[str, str, int] | None:
    """(SKU, ship node, 0) of an item that is out of stock there; None when the message names no node."""
    sku, node = find(body, "sku"), find(body, "shipNode")
    if isinstance(sku, str) and isinstance(node, str) and body.get("eventType") == "INVENTORY_OOS":
        return sku, node, 0
    return None
