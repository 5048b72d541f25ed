"""Notices of a mapped shop: an HMAC over the raw bytes in the header that the shop uses, and the order that is named.

The message only names its order; the order itself is always read again from the shop.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from channels.connectors.base import BadSignature, Notification
from channels.connectors.custom.mapping import look, parse_json, text_of


def sign(secret: str, raw: bytes, algorithm: str = "sha256", encoding: str = "hex", prefix: str = "") -> str:
    """The header as the shop sends it. `algorithm` sha256, sha1 or sha512; `encoding` hex or base64."""
    found = hmac.new(secret.encode(), raw, algorithm).digest()
    return prefix + (base64.b64encode(found).decode() if encoding == "base64" else found.hex())


def parse(
    mapping: Mapping[str, Any], secret: str, headers: Mapping[str, str], raw: bytes
) -> list[Notification]:
    """Header names in lower case. Raises `BadSignature`, and ValueError for a signed body that names no order."""
    name = str(mapping.get("hook_header", "")).lower()
    given = headers.get(name, "") if name else ""
    wanted = sign(
        secret, raw, mapping.get("hook_algorithm", "sha256"), mapping.get("hook_encoding", "hex"),
        mapping.get("hook_prefix", ""),
    )  # fmt: skip
    same = hmac.compare_digest(wanted.encode(), given.encode("utf-8", "replace"))
    if not (name and secret and same):
        raise BadSignature("the signature does not match")
    body = parse_json(raw, "the message")
    order = text_of(look(body, mapping.get("hook_order") or "id"), "order")
    if not order:
        raise ValueError("the message names no order")
    return [Notification(hashlib.sha256(raw).hexdigest(), "order", {"order": order}, order[:120])]
