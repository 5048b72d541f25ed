"""TikTok Shop's signatures, of requests and of notifications, and what a notification speaks of.

Request: `sign` = hex HMAC-SHA256(app secret, secret + path + name and value of each query field in the order of their
names, without `sign` and `access_token` + raw body + secret). Notification: header Authorization = hex
HMAC-SHA256(app secret, app key + raw body), without a prefix.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from channels.connectors.base import BadSignature, Notification

#: number in a message → (event type of a subscription, what it speaks of in the words of the port)
TYPES: dict[int, tuple[str, str]] = {
    1: ("ORDER_STATUS_CHANGE", "order"),
    2: ("REVERSE_STATUS_UPDATE", "order"),
    3: ("RECIPIENT_ADDRESS_UPDATE", "order"),
    4: ("PACKAGE_UPDATE", "order"),
    6: ("SELLER_DEAUTHORIZATION", "uninstalled"),
    7: ("UPCOMING_AUTHORIZATION_EXPIRATION", "other"),
    11: ("CANCELLATION_STATUS_CHANGE", "order"),
    12: ("RETURN_STATUS_CHANGE", "return"),
}
TOPICS = tuple(topic for topic, _ in TYPES.values())
_KINDS = dict(TYPES.values())


def sign_request(secret: str, path: str, query: Mapping[str, Any], body: bytes = b"") -> str:
    """The `sign` field of a request. Values as they are before they are percent-encoded."""
    fields = "".join(f"{name}{query[name]}" for name in sorted(query) if name not in ("sign", "access_token"))
    text = secret.encode() + path.encode() + fields.encode() + body + secret.encode()
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def sign_message(app_key: str, secret: str, raw: bytes) -> str:
    """The Authorization header of a notification."""
    return hmac.new(secret.encode(), app_key.encode() + raw, hashlib.sha256).hexdigest()


def parse(
    app_key: str, secret: str, shop_id: str, headers: Mapping[str, str], raw: bytes
) -> list[Notification]:
    """Header names in lower case. Raises `BadSignature`, and ValueError for a signed body that is not a message.

    An app's messages of every shop are signed alike: one for another shop than `shop_id` is refused.
    """
    given = headers.get("authorization", "").encode("utf-8", "replace")
    right = sign_message(app_key, secret, raw).encode()
    if not secret or not hmac.compare_digest(right, given):
        raise BadSignature("the signature does not match")
    body = json.loads(raw, parse_float=Decimal)
    if not isinstance(body, dict):
        raise ValueError("the body is not a JSON object")
    if shop_id and str(body.get("shop_id") or "") != shop_id:
        raise BadSignature("the message is for another shop")
    number = body.get("type")
    topic = TYPES[number][0] if isinstance(number, int) and number in TYPES else f"TYPE_{number}"
    delivery = str(body.get("tts_notification_id") or hashlib.sha256(raw).hexdigest())
    at = body.get("timestamp")
    event_at = dt.datetime.fromtimestamp(at, dt.UTC) if isinstance(at, int) and 0 < at < 2**33 else None
    orders = order_ids(body)
    return [
        Notification(
            (delivery if len(orders) < 2 else f"{delivery}:{order}")[:120],
            topic[:80],
            body,
            order[:120],
            kind_of(topic),
            event_at,
        )
        for order in orders or [""]
    ]


def order_ids(body: Mapping[str, Any]) -> list[str]:
    """The orders a message names; a package may hold goods of several."""
    data = body.get("data")
    if not isinstance(data, Mapping):
        return []
    found = [data.get("order_id")]
    for package in data.get("package_list") or ():
        found += package.get("order_id_list") or () if isinstance(package, Mapping) else ()
    return list(dict.fromkeys(str(one) for one in found if one))


def kind_of(topic: str) -> str:
    """What a topic speaks of, in the words of the port."""
    return _KINDS.get(topic, "other")
