"""eBay's notifications: the challenge of a new address, the signature over the raw bytes, then what they speak of.

X-EBAY-SIGNATURE = base64 of JSON {alg, kid, signature, digest}: ECDSA over the raw body with the digest that the public
key names. Keys are read from eBay by their id (`getPublicKey`) and kept for an hour, as eBay asks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from channels.connectors.base import BadSignature, Notification
from channels.connectors.ebay.mapper import when

#: topics we need, and whether they are told per application or per user that gave consent
USER, APPLICATION = "user", "application"
TOPICS = {
    "ORDER_CONFIRMATION": USER,
    "ITEM_MARKED_SHIPPED": USER,
    "AUTHORIZATION_REVOCATION": APPLICATION,
    "MARKETPLACE_ACCOUNT_DELETION": APPLICATION,
}
_KINDS = {
    "ORDER_CONFIRMATION": "order",
    "ITEM_MARKED_SHIPPED": "order",
    "AUTHORIZATION_REVOCATION": "uninstalled",
}
_DIGESTS: dict[str, type[hashes.HashAlgorithm]] = {"SHA1": hashes.SHA1, "SHA256": hashes.SHA256}
_KID = re.compile(r"[0-9A-Za-z-]{8,64}\Z")
_ARMOUR = re.compile(r"-----(BEGIN|END) PUBLIC KEY-----|\s+")
KEEP_SECONDS, KEEP_UNKNOWN_SECONDS, MOST_KEYS = 3600.0, 300.0, 200


@dataclass(frozen=True, slots=True)
class PublicKey:
    key: str
    digest: str


_keys: dict[tuple[str, str], tuple[float, PublicKey | None]] = {}
_lock = threading.Lock()


def remember_key(host: str, kid: str, key: PublicKey | None) -> None:
    """Keep a key for an hour; None = eBay does not know the id, which is asked again after five minutes."""
    with _lock:
        if len(_keys) >= MOST_KEYS:
            _keys.clear()
        until = time.monotonic() + (KEEP_SECONDS if key else KEEP_UNKNOWN_SECONDS)
        _keys[(host, kid)] = (until, key)


def known_key(host: str, kid: str) -> tuple[bool, PublicKey | None]:
    """(is it at hand, the key)."""
    with _lock:
        until, key = _keys.get((host, kid), (0.0, None))
    return until > time.monotonic(), key


def forget_keys() -> None:
    with _lock:
        _keys.clear()


def signature_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The parts of the signature header. Raises `BadSignature`."""
    try:
        found = json.loads(base64.b64decode(headers.get("x-ebay-signature", ""), validate=True))
        parts = {name: str(found[name]) for name in ("kid", "signature")}
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise BadSignature("the signature header cannot be read") from error
    if not _KID.match(parts["kid"]):
        raise BadSignature("the key id has a strange form")
    return parts


def verify(key: PublicKey, raw: bytes, signature: str) -> bool:
    """Did the key's owner sign these bytes?"""
    try:
        inner = _ARMOUR.sub("", key.key)  # eBay sends the armour and the key in one line
        pem = f"-----BEGIN PUBLIC KEY-----\n{inner}\n-----END PUBLIC KEY-----\n"
        public = load_pem_public_key(pem.encode())
        digest = _DIGESTS[key.digest.upper().replace("-", "")]()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            return False
        public.verify(base64.b64decode(signature, validate=True), raw, ec.ECDSA(digest))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, KeyError, binascii.Error):
        return False
    return True


def challenge_answer(code: str, verification_token: str, endpoint: str) -> str:
    """What eBay wants to hear before it sends anything to an address."""
    return hashlib.sha256(f"{code}{verification_token}{endpoint}".encode()).hexdigest()


def parse(key: PublicKey | None, user: str, headers: Mapping[str, str], raw: bytes) -> list[Notification]:
    """Header names in lower case. Raises `BadSignature`, and ValueError for a signed body that is no notification.

    `user` is the seller's eBay name: that another seller has taken back its consent is no news of this account.
    """
    parts = signature_of(headers)
    if key is None or not verify(key, raw, parts["signature"]):
        raise BadSignature("the signature does not match")
    body = json.loads(raw, parse_float=Decimal)
    if not isinstance(body, dict):
        raise ValueError("the body is not a JSON object")
    topic = str((body.get("metadata") or {}).get("topic") or "")
    told = body.get("notification") or {}
    data = told.get("data") or {}
    if not topic or not isinstance(data, dict):
        raise ValueError("metadata.topic or notification.data is missing")
    if kind_of(topic) == "uninstalled" and user and str(data.get("username") or user) != user:
        return []
    delivery = str(told.get("notificationId") or hashlib.sha256(raw).hexdigest())
    try:
        at = when(told.get("eventDate"))
    except ValueError:
        at = None
    order = _order_id(data) if kind_of(topic) == "order" else ""
    return [Notification(delivery[:120], topic[:80], body, order[:120], kind_of(topic), at)]


def _order_id(data: Mapping[str, Any]) -> str:
    order = data.get("order")
    found = data.get("orderId") or (order.get("orderId") if isinstance(order, Mapping) else "")
    return str(found or "")


def kind_of(topic: str) -> str:
    """What a topic speaks of, in the words of the port."""
    return _KINDS.get(topic, "other")
