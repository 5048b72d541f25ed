"""Places an order through the API and follows it until it is on its way. Python 3.11, no packages needed.

    LADING_URL=http://127.0.0.1:8000 LADING_TOKEN=oms_… python docs/examples/place_order.py phone MUG-ANC-BLU 2

The token needs the scopes orders:write, orders:read and shipments:read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

TRIES = 5


class Refused(Exception):
    """The API said no. `errors` point at what is wrong; quote `request_id` when you ask for help."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(problem["detail"])
        self.status: int = problem["status"]
        self.errors: list[dict[str, str]] = problem.get("errors", [])
        self.request_id: str = problem["request_id"]


@dataclass(frozen=True)
class Line:
    sku: str
    quantity: int
    unit_price: str  # an amount as text: "12.50"


@dataclass(frozen=True)
class Lading:
    """A small client: repeats what may be repeated, and raises `Refused` for everything that stays a no."""

    url: str
    token: str

    def call(self, method: str, path: str, body: Any = None, *, key: str = "") -> Any:
        """One request. A POST carries the same `Idempotency-Key` at every try, so it takes effect once."""
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        data = None
        if method == "POST":
            headers["Idempotency-Key"] = key or uuid.uuid4().hex
        if body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/v1/{path}", data, headers, method=method)  # noqa: S310 your own address
        for left in reversed(range(TRIES)):
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 as above
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                text = error.read()
                busy = error.code == 429 or (error.code == 409 and error.headers.get("Retry-After"))
                if left and (busy or error.code >= 500):
                    time.sleep(min(float(error.headers.get("Retry-After") or 1), 30))
                    continue
                raise Refused(json.loads(text)) from None
            except urllib.error.URLError:
                if not left:
                    raise
                time.sleep(1)
        raise AssertionError("never reached")

    def place_order(
        self, channel: str, lines: list[Line], contact: Mapping[str, str], *, external_id: str
    ) -> Any:
        """Enter an order. Your own `external_id` is the key as well: asking twice gives the same order."""
        body = {
            "channel": channel,
            "external_id": external_id,
            "lines": [vars(line) for line in lines],
            "contact": dict(contact),
        }
        return self.call("POST", "orders/", body, key=f"order-{external_id}")

    def pages(self, path: str, **filters: Any) -> Iterator[Any]:
        """Every row of a list, page after page."""
        query = urlencode(filters)
        while True:
            page = self.call("GET", f"{path}?{query}" if query else path)
            yield from page["results"]
            if not page["next"]:
                return
            query = page["next"].partition("?")[2]

    def follow(
        self, order_id: int, *, until: tuple[str, ...] = ("shipped", "cancelled"), seconds: float = 60
    ) -> Iterator[str]:
        """What happens to an order, one sentence at a time, until it reaches a state or the time is up."""
        told, end = 0, time.monotonic() + seconds
        while True:
            state = self.call("GET", f"orders/{order_id}/?fields=state")["state"]
            for event in self.call("GET", f"orders/{order_id}/timeline/"):
                if event["id"] > told:
                    told = event["id"]
                    yield f"{event['at']} {event['text']}"
            if state in until or time.monotonic() > end:
                return
            time.sleep(1)

    def tracking_numbers(self, order_id: int) -> list[str]:
        """Of every parcel that has a label."""
        return [
            label["tracking_number"]
            for shipment in self.pages("shipments/", order=order_id)
            for parcel in shipment["parcels"]
            for label in parcel["labels"]
            if label["state"] == "purchased"
        ]


def is_genuine(secret: str, headers: Mapping[str, str], body: bytes, *, tolerance: int = 300) -> bool:
    """For the receiver of a webhook: True when the message is ours, unchanged and fresh. Names in lower case."""
    message_id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not stamp.isdigit() or abs(time.time() - int(stamp)) > tolerance:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    wanted = "v1," + base64.b64encode(digest).decode()
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(wanted, one) for one in given)


def main() -> None:
    channel, sku, quantity = sys.argv[1], sys.argv[2], int(sys.argv[3])
    lading = Lading(os.environ.get("LADING_URL", "http://127.0.0.1:8000"), os.environ["LADING_TOKEN"])
    contact = {"name": "Ana Ruiz", "address1": "1 Main St", "city": "Boston", "region": "MA", "postal_code": "02108",
               "country": "US"}  # fmt: skip
    try:
        order = lading.place_order(
            channel, [Line(sku, quantity, "12.50")], contact, external_id=uuid.uuid4().hex[:12]
        )
    except Refused as error:
        sys.exit(f"{error} {error.errors or ''} (request {error.request_id})")
    print(f"{order['number']}: {order['state']}")
    for sentence in lading.follow(order["id"]):
        print(sentence)
    print("Tracking:", ", ".join(lading.tracking_numbers(order["id"])) or "none yet")


if __name__ == "__main__":
    main()
