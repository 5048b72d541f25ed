"""Callers of the played platforms, written by hand so that they share no code with the sandbox."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import httpx

from channels.sandbox.client import SandboxClient

ADDRESS = {
    "name": "Ada Brooks",
    "address1": "12 Oak St",
    "city": "Boston",
    "province_code": "MA",
    "zip": "02108",
    "country_code": "US",
    "phone": "+1 555 0100",
}
GOODS = [
    {"sku": "MUG", "title": "Mug", "price": "14.00", "stock": 10},
    {"sku": "BOWL", "title": "Bowl", "price": "22.50", "stock": 4},
]
SET = """mutation Set($input: InventorySetQuantitiesInput!, $key: String!) {
  inventorySetQuantities(input: $input) @idempotent(key: $key) {
    inventoryAdjustmentGroup { id changes { name delta quantityAfterChange } }
    userErrors { code field message }
  }
}"""


class Store:
    """A Shopify store of the sandbox as an app sees it."""

    def __init__(
        self, sandbox: SandboxClient, http: httpx.Client, shop_id: str = "acme", **spec: Any
    ) -> None:
        self.sandbox, self.http = sandbox, http
        self.facts = sandbox.create_shop("shopify", shop_id, **{"catalogue": GOODS, **spec})
        self.id = shop_id
        self.token = self.facts["credentials"]["access_token"]
        host = self.facts["domain"]
        self.url = f"{sandbox.url}/{host}/admin/api/2026-10/graphql.json"

    def raw(
        self, query: str, variables: dict[str, Any] | None = None, token: str | None = None
    ) -> httpx.Response:
        headers = {"X-Shopify-Access-Token": self.token if token is None else token}
        return self.http.post(self.url, json={"query": query, "variables": variables or {}}, headers=headers)

    def gql(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a call that must have no top-level errors."""
        answer = self.raw(query, variables).json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def errors(self, query: str, **variables: Any) -> list[dict[str, Any]]:
        return self.raw(query, variables).json()["errors"]

    def item_gid(self, sku: str) -> str:
        return next(i["inventory_item_gid"] for i in self.facts["catalogue"] if i["sku"] == sku)

    @property
    def location(self) -> str:
        return self.facts["locations"][0]["gid"]

    def set(self, key: str, *entries: tuple[str, int, int | None], **changes: Any) -> dict[str, Any]:
        """inventorySetQuantities of (sku, quantity, changeFromQuantity)."""
        quantities = [
            {
                "inventoryItemId": self.item_gid(s),
                "locationId": self.location,
                "quantity": q,
                "changeFromQuantity": c,
            }
            for s, q, c in entries
        ]
        given = {"name": "available", "reason": "correction", "quantities": quantities, **changes}
        return self.gql(SET, input=given, key=key)["inventorySetQuantities"]


class Seller:
    """An Amazon seller of the sandbox as an app sees it."""

    def __init__(self, sandbox: SandboxClient, http: httpx.Client, shop_id: str = "A1", **spec: Any) -> None:
        self.sandbox, self.http, self.id = sandbox, http, shop_id
        goods = [*GOODS, {"sku": "MUG-FBA", "title": "Mug", "price": "15.00", "fba": 5}]
        self.facts = sandbox.create_shop("amazon", shop_id, **{"catalogue": goods, **spec})
        self.base = f"{sandbox.url}/sellingpartnerapi-na.amazon.com"
        self.marketplace = self.facts["marketplace_id"]
        self.credentials = self.facts["credentials"]
        self._token = ""

    def login(self, **form: str) -> httpx.Response:
        known = self.credentials
        body = {
            "grant_type": "refresh_token",
            "refresh_token": known["refresh_token"],
            "client_id": known["client_id"],
            "client_secret": known["client_secret"],
            **form,
        }
        return self.http.post(f"{self.sandbox.url}/api.amazon.com/auth/o2/token", data=body)

    @property
    def token(self) -> str:
        if not self._token:
            self._token = self.login().json()["access_token"]
        return self._token

    def grantless(self) -> str:
        answer = self.login(grant_type="client_credentials", scope="sellingpartnerapi::notifications")
        return answer.json()["access_token"]

    def call(self, method: str, path: str, token: str | None = None, **more: Any) -> httpx.Response:
        headers = {"x-amz-access-token": self.token if token is None else token}
        return self.http.request(method, self.base + path, headers=headers, **more)

    def patch(self, sku: str, value: dict[str, Any], op: str = "merge", **query: str) -> httpx.Response:
        body = {
            "productType": "PRODUCT",
            "patches": [{"op": op, "path": "/attributes/fulfillment_availability", "value": [value]}],
        }
        path = f"/listings/2021-08-01/items/{self.id}/{sku}"
        return self.call("PATCH", path, params={"marketplaceIds": self.marketplace, **query}, json=body)

    def order(self, order_id: str, data: str = "FULFILLMENT,PACKAGES,CANCELLATION") -> dict[str, Any]:
        path = f"/orders/2026-01-01/orders/{order_id}"
        return self.call("GET", path, params={"includedData": data}).json()["order"]

    def confirm(
        self, order_id: str, items: list[tuple[str, int]], reference: str = "1", **detail: Any
    ) -> httpx.Response:
        package = {
            "packageReferenceId": reference,
            "carrierCode": "UPS",
            "trackingNumber": "1Z999",
            "shipDate": "2026-11-23T12:00:00Z",
            "orderItems": [{"orderItemId": i, "quantity": q} for i, q in items],
            **detail,
        }
        body = {"marketplaceId": self.marketplace, "packageDetail": package}
        return self.call("POST", f"/orders/v0/orders/{order_id}/shipmentConfirmation", json=body)

    def feed(self, kind: str, content: str, content_type: str) -> tuple[dict[str, Any], str]:
        """Submit a feed and read its report: (feed, report)."""
        made = self.call("POST", "/feeds/2021-06-30/documents", json={"contentType": content_type})
        assert made.status_code == 201
        document = made.json()
        upload = document["url"].replace("https://", f"{self.sandbox.url}/")
        assert (
            self.http.put(upload, content=content, headers={"content-type": content_type}).status_code == 200
        )
        body = {
            "feedType": kind,
            "marketplaceIds": [self.marketplace],
            "inputFeedDocumentId": document["feedDocumentId"],
        }
        feed = self.call("POST", "/feeds/2021-06-30/feeds", json=body)
        assert feed.status_code == 202
        self.sandbox.advance(1)
        done = self.call("GET", f"/feeds/2021-06-30/feeds/{feed.json()['feedId']}").json()
        result = self.call("GET", f"/feeds/2021-06-30/documents/{done['resultFeedDocumentId']}").json()
        return done, self.http.get(result["url"].replace("https://", f"{self.sandbox.url}/")).text

    def sqs(self, action: str, body: dict[str, Any], secret: str | None = None) -> httpx.Response:
        """A signed call to the queue (AWS Signature Version 4)."""
        host, region = "sqs.us-east-1.amazonaws.com", "us-east-1"
        raw = json.dumps(body).encode()
        date = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = {
            "content-type": "application/x-amz-json-1.0",
            "host": host,
            "x-amz-date": date,
            "x-amz-target": f"AmazonSQS.{action}",
        }
        signed = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = f"POST\n/\n\n{lines}\n{signed}\n{hashlib.sha256(raw).hexdigest()}"
        scope = f"{date[:8]}/{region}/sqs/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = ("AWS4" + (secret or self.credentials["aws_secret_access_key"])).encode()
        for part in (date[:8], region, "sqs", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        credential = f"{self.credentials['aws_access_key_id']}/{scope}"
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature}"
        )
        del headers["host"]
        return self.http.post(f"{self.sandbox.url}/{host}/", content=raw, headers=headers)

    def receive(self, **more: Any) -> list[dict[str, Any]]:
        answer = self.sqs(
            "ReceiveMessage", {"QueueUrl": self.facts["queue_url"], "MaxNumberOfMessages": 10, **more}
        )
        assert answer.status_code == 200, answer.text
        return answer.json().get("Messages", [])
