r"""Signatures of both directions: HMAC-SHA256 over time, a number used once, the address and the raw body.

    X-Threepl-Timestamp: seconds since 1970        X-Threepl-Delivery: unique per message
    X-Threepl-Signature: v1=<hex of HMAC(secret, "timestamp\ndelivery\nMETHOD\npath?query\n" + body)>

The receiver refuses a timestamp more than five minutes off, and a delivery number it has seen.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping

WINDOW_SECONDS = 300
TIMESTAMP, DELIVERY, SIGNATURE, KEY = (
    "x-threepl-timestamp",
    "x-threepl-delivery",
    "x-threepl-signature",
    "x-threepl-key",
)


class BadSignature(ValueError):
    """Not from the other side, or too old. The text is for our log, never for the sender."""


def sign(secret: str, timestamp: int, delivery: str, method: str, target: str, body: bytes) -> str:
    """The signature header's value. `target` is path and query as sent."""
    head = f"{timestamp}\n{delivery}\n{method.upper()}\n{target}\n".encode()
    return "v1=" + hmac.new(secret.encode(), head + body, hashlib.sha256).hexdigest()


def headers(
    key: str, secret: str, timestamp: int, delivery: str, method: str, target: str, body: bytes
) -> dict[str, str]:
    """All four headers of a signed request."""
    return {
        "X-Threepl-Key": key,
        "X-Threepl-Timestamp": str(timestamp),
        "X-Threepl-Delivery": delivery,
        "X-Threepl-Signature": sign(secret, timestamp, delivery, method, target, body),
    }


def verify(
    secrets: Collection[str], given: Mapping[str, str], method: str, target: str, body: bytes, at: float
) -> str:
    """The delivery number of a message signed with one of `secrets`; header names in lower case.

    Raises BadSignature.
    """
    stamp, delivery, told = (given.get(name, "") for name in (TIMESTAMP, DELIVERY, SIGNATURE))
    timestamp = int(stamp) if stamp.isascii() and stamp.isdigit() and len(stamp) < 12 else 0
    matches = [
        hmac.compare_digest(sign(secret, timestamp, delivery, method, target, body).encode(), told.encode())
        for secret in secrets
        if secret
    ]
    if not any(matches):
        raise BadSignature("the signature does not match")
    if abs(at - timestamp) > WINDOW_SECONDS:
        raise BadSignature("the timestamp is outside the window of five minutes")
    if not 1 <= len(delivery) <= 80:
        raise BadSignature("the delivery number must have 1 to 80 characters")
    return delivery
