"""The calls to a 3PL's signed API. No call is made inside a transaction; failures say what they mean.

GET  /v1/ping                          who we are there
POST /v1/orders                        an order, once per `reference`; answers {"order_id"}
GET  /v1/orders?reference=S-12         what they have under our reference
POST /v1/orders/<order_id>/cancel      units that are not to be sent; 409 = too late
POST /v1/recounts                      please count these SKUs again
PUT  /v1/inbound/<reference>           goods to expect; the newest word on a reference replaces the one before
DELETE /v1/inbound/<reference>         they do not come any more
GET  /v1/inventory                     {"snapshot_id", "taken_at", "levels": [{"sku", "on_hand", "damaged"}]}
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from fulfillment.models import ThreePLAccount
from fulfillment.threepl import signing
from oms.core import http
from oms.core.http import HttpAnswer, HttpFailure, HttpRequest, Kind

TIMEOUT = 10.0
#: see `transports.Transport`
CANCELS_WHOLE = False
REROUTES = False


def key_of(account: ThreePLAccount) -> str:
    """Whose breaker, budget and journal its calls belong to."""
    return f"threepl:{account.pk}"


def _call(
    account: ThreePLAccount,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    idempotent: bool = False,
    key: str = "",
) -> Any:
    """A signed request and its JSON answer. Raises `HttpFailure`."""
    raw = b"" if body is None else json.dumps(body, ensure_ascii=False, sort_keys=True).encode()
    base = account.base_url.rstrip("/")
    target = urlsplit(base).path + path
    given = account.credentials or {}
    # a number of its own per attempt: a repeated one would be taken for a replay
    headers = signing.headers(
        str(given.get("key", "")), str(given.get("secret", "")), int(time.time()), secrets.token_hex(16), method,
        target, raw,
    )  # fmt: skip
    if body is not None:
        headers["Content-Type"] = "application/json"
    if key:
        headers["Idempotency-Key"] = key
    answer: HttpAnswer = http.call(
        HttpRequest(
            key_of(account), method, base + path, headers=headers, content=raw or None, timeout=TIMEOUT,
            idempotent=idempotent, user_url=True,
        )
    )  # fmt: skip
    found = answer.json()
    if not isinstance(found, dict):
        lost = Kind.TRANSIENT if answer.safe_to_repeat else Kind.TIMEOUT_AFTER_SEND
        raise HttpFailure(lost, "The answer is not a JSON object.", answer)
    return found


def ping(account: ThreePLAccount) -> dict[str, Any]:
    """{"name", "client"}: proves address, key and signature."""
    answer: dict[str, Any] = _call(account, "GET", "/v1/ping")
    return answer


def send_order(account: ThreePLAccount, order: Mapping[str, Any], key: str) -> str:
    """Their number of the order. An answer without one is unreadable, so the outcome is unknown."""
    answer = _call(account, "POST", "/v1/orders", order, key=key)
    number = answer.get("order_id")
    if not isinstance(number, str) or not 0 < len(number) <= 80:
        raise HttpFailure(Kind.TIMEOUT_AFTER_SEND, "The answer names no order_id.")
    return number


def find_orders(account: ThreePLAccount, reference: str) -> list[dict[str, Any]]:
    """What they have under our reference: [{"order_id", "status", "cancel_keys"}], oldest first; `too_late` there
    names why a cancellation cannot happen any more."""
    found = _call(account, "GET", f"/v1/orders?reference={quote(reference, safe='')}").get("orders")
    if not isinstance(found, list) or not all(
        isinstance(row, dict) and isinstance(row.get("order_id"), str) for row in found
    ):
        raise HttpFailure(Kind.TRANSIENT, "The answer lists no orders.")
    return found


def cancel(account: ThreePLAccount, external_id: str, body: Mapping[str, Any], key: str) -> None:
    """Take units back. `HttpFailure` REJECTED with status 409 = too late."""
    _call(account, "POST", f"/v1/orders/{quote(external_id, safe='')}/cancel", body, key=key)


def recount(account: ThreePLAccount, body: Mapping[str, Any], key: str) -> None:
    _call(account, "POST", "/v1/recounts", body, key=key, idempotent=True)


def expect(account: ThreePLAccount, reference: str, body: Mapping[str, Any], key: str) -> None:
    """Announce a delivery, or replace what was announced under its reference."""
    _call(account, "PUT", f"/v1/inbound/{quote(reference, safe='')}", body, key=key, idempotent=True)


def withdraw(account: ThreePLAccount, reference: str, key: str) -> None:
    """A delivery does not come. `HttpFailure` REJECTED where they have begun to receive it."""
    _call(account, "DELETE", f"/v1/inbound/{quote(reference, safe='')}", key=key, idempotent=True)


def inventory(account: ThreePLAccount) -> dict[str, Any]:
    """The body of an inventory.snapshot message."""
    answer: dict[str, Any] = _call(account, "GET", "/v1/inventory")
    return answer
