"""eBay's contracts with closed schemas and our own required fields: what is sent and what is answered must fit them."""

from __future__ import annotations

import copy
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema

from oms.core.http import HttpAnswer, HttpRequest

FILES = {
    "/sell/fulfillment/v1": "sell_fulfillment_v1_oas3",
    "/sell/inventory/v1": "sell_inventory_v1_oas3",
    "/commerce/notification/v1": "commerce_notification_v1_oas3",
    "/developer/analytics/v1_beta": "developer_analytics_v1_beta_oas3",
    "/post-order/v2": "*",  # two files without schemas: paths only
}
#: the contracts name no required field
REQUIRED = {
    "BulkPriceQuantity": ["requests"],
    "PriceQuantity": ["sku", "offers", "shipToLocationAvailability"],
    "OfferPriceQuantity": ["offerId", "availableQuantity"],
    "BulkGetInventoryItem": ["requests"],
    "GetInventoryItem": ["sku"],
    "ShippingFulfillmentDetails": ["lineItems", "shippedDate", "shippingCarrierCode", "trackingNumber"],
    "LineItemReference": ["lineItemId", "quantity"],
    "IssueRefundRequest": ["reasonForRefund"],
    "RefundItem": ["lineItemId", "refundAmount"],
    "SimpleAmount": ["value", "currency"],
    "DestinationRequest": ["name", "status", "deliveryConfig"],
    "DeliveryConfig": ["endpoint", "verificationToken"],
    "CreateSubscriptionRequest": ["topicId", "status", "payload", "destinationId"],
    "Config": ["alertEmail"],
}
#: parameters that the post-order search takes by its documentation; its file names none
SEARCH = {"creation_date_range_from", "creation_date_range_to", "limit", "offset"}


def closed(node: Any) -> Any:
    if isinstance(node, dict):
        node = {name: closed(value) for name, value in node.items()}
        if isinstance(node.get("properties"), dict) and not {"allOf", "oneOf"} & set(node):
            node["additionalProperties"] = False
        return node
    return [closed(one) for one in node] if isinstance(node, list) else node


@lru_cache
def load(folder: Path, base: str) -> dict[str, Any]:
    name = FILES[base]
    if name == "*":
        paths: dict[str, Any] = {}
        for part in ("cancellation_oas3", "return_oas3"):
            paths |= json.loads((folder / f"{part}.json").read_text())["paths"]
        return {"paths": paths}
    document: dict[str, Any] = closed(json.loads((folder / f"{name}.json").read_text()))
    schemas = document["components"]["schemas"]
    for schema, fields in REQUIRED.items():
        if schema in schemas:
            schemas[schema]["required"] = fields
    if "Destination" in schemas:  # the file calls it a text; every sample shows the object
        schemas["Destination"]["properties"]["deliveryConfig"] = {
            "$ref": "#/components/schemas/DeliveryConfig"
        }
    return document


class Contract:
    """Checks each request and its answer; `seen` are the operations that were used."""

    def __init__(self, shared: Path) -> None:
        self.folder = shared / "specs/ebay"
        self.seen: set[str] = set()

    def check(self, request: HttpRequest, answer: HttpAnswer | None = None) -> None:
        path = urlsplit(request.url).path
        base = next((one for one in FILES if path.startswith(f"{one}/")), None)
        if base is None:
            assert path == "/identity/v1/oauth2/token", path
            return
        document = load(self.folder, base)
        template, operation = self._operation(document, path.removeprefix(base), request.method.lower())
        self.seen.add(f"{request.method} {base}{template}")
        if base == "/post-order/v2":
            assert request.headers["Authorization"].startswith("IAF ")
            assert set(request.params or {}) <= SEARCH
            return
        assert request.headers["Authorization"].startswith("Bearer ")
        parameters = operation.get("parameters", [])
        known = {one["name"] for one in parameters if one["in"] == "query"}
        assert set(request.params or {}) <= known, (template, request.params)
        for one in parameters:
            if one["in"] == "header" and one["required"]:
                assert request.headers.get(one["name"]), (template, one["name"])
        body = operation.get("requestBody")
        assert (body is None) == (request.content is None), template
        if body is not None:
            assert request.content is not None
            self._fits(document, body["content"]["application/json"]["schema"], json.loads(request.content))
        if answer is not None and answer.content:
            told = operation["responses"].get(str(answer.status), {}).get("content", {})
            if told:
                schema = told["application/json"]["schema"]
                self._fits(document, schema, json.loads(answer.content))

    @staticmethod
    def _operation(document: dict[str, Any], path: str, method: str) -> tuple[str, dict[str, Any]]:
        fits = [
            template
            for template, operations in document["paths"].items()
            if method in operations and re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path)
        ]
        assert fits, f"{method} {path} is not in the contract"
        best = min(fits, key=lambda template: template.count("{"))
        return best, document["paths"][best][method]

    @staticmethod
    def _fits(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
        whole = copy.copy(schema)
        whole["components"] = document["components"]
        jsonschema.validate(value, whole)
