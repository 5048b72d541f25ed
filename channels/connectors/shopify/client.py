"""Shopify Admin GraphQL 2026-10: every request this product sends to a shop.

The operations stand in `queries/*.graphql`. Stock is pushed as `available` per location with compare-and-set
(`changeFromQuantity`) and the mandatory `@idempotent` key. `fulfillmentCreate` has no idempotency key: what is
still open is read first, and a repeated call finds nothing left to fulfil.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from channels.connectors.base import (
    UNREADABLE,
    Access,
    CancelOrder,
    Capabilities,
    ChannelError,
    Confirmation,
    Connector,
    FieldSpec,
    ListingPage,
    ListingRef,
    Notification,
    Op,
    OrderPage,
    PushItem,
    PushResult,
    RefundOrder,
    RemoteListing,
    RemoteReturn,
    Retry,
    ShopFacts,
    Subscription,
    readable,
    register,
)
from channels.connectors.shopify import mapper, webhooks
from channels.connectors.shopify.mapper import gid, number_of
from oms.core.clock import now
from oms.core.errors import UserError
from oms.core.http import HttpRequest
from oms.core.limits import Rate
from oms.orders.drafts import OrderDraft

API_VERSION = "2026-10"
#: the real budget is counted in cost points and told in every answer; this only keeps bursts civil
RATE = Rate(40, 80)
_DOMAIN = re.compile(r"[a-z0-9][a-z0-9-]{0,60}\.myshopify\.com\Z")

_FILES = {
    path.stem: path.read_text() for path in sorted((Path(__file__).parent / "queries").glob("*.graphql"))
}
_FRAGMENTS = {"OrderFields": "order_fields", "LineFields": "line_fields"}


def document(name: str) -> str:
    """The text of an operation with the fragments it uses."""
    text = _FILES[name]
    return "\n".join(
        [text, *(_FILES[file] for fragment, file in _FRAGMENTS.items() if f"...{fragment}" in text)]
    )


OPERATIONS = {name: document(name) for name in _FILES if name not in _FRAGMENTS.values()}

#: a query may cost 1,000 points at most; so many orders with ten lines each stay below
ORDERS_PER_CALL = 6
ITEMS_PER_READ = 25
_PUSH_ROUNDS = 5
_TRANSIENT_CODES = {"IDEMPOTENCY_CONCURRENT_REQUEST", "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED"}
_CANCEL_REASONS = {
    "buyer": "CUSTOMER", "customer": "CUSTOMER", "no_inventory": "INVENTORY", "inventory": "INVENTORY",
    "fraud": "FRAUD", "payment": "DECLINED", "declined": "DECLINED", "staff": "STAFF",
}  # fmt: skip
#: spelled as in Shopify's list, so that its tracking links work
CARRIERS = {
    "UPS": "UPS", "USPS": "USPS", "FEDEX": "FedEx", "DHL": "DHL Express", "DHL_EXPRESS": "DHL Express",
    "MYDHL": "DHL Express", "CANADA_POST": "Canada Post", "ROYAL_MAIL": "Royal Mail", "DPD": "DPD", "GLS": "GLS",
}  # fmt: skip


class Shopify(Connector):
    key = "shopify"
    name = "Shopify"
    capabilities = Capabilities(
        quantity_batch=100,
        quantity_connections=2,
        per_location=True,
        compare_and_set=True,
        webhooks=True,
        order_batch=ORDERS_PER_CALL,
        body_above=24,
        overlap_seconds=120,
        cancel=True,
        refund=True,
        returns=True,
        ship_per_location=True,
        carriers=CARRIERS,
        repeatable=frozenset({"ship", "refund", "cancel"}),
        other_carriers=True,
    )
    config_fields = (FieldSpec("shop", "Shop domain", help="acme.myshopify.com"),)
    credential_fields = (
        FieldSpec("access_token", "Admin API access token", secret=True),
        FieldSpec("client_secret", "App client secret", secret=True, help="signs the webhooks"),
        FieldSpec(
            "previous_client_secret",
            "Previous client secret",
            secret=True,
            required=False,
            help="while a secret is rotated",
        ),
    )

    def check_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        shop = str(config.get("shop", "")).strip().lower().removeprefix("https://").rstrip("/")
        if not _DOMAIN.match(shop):
            raise UserError("shop: use the shop's own domain, for example acme.myshopify.com.", field="shop")
        return {**config, "shop": shop}

    def place_id(self, text: str) -> str:
        return number_of(text.strip())

    # --- talking -------------------------------------------------------------------------------------
    def _ask(
        self,
        access: Access,
        operation: str,
        variables: Mapping[str, Any],
        *,
        idempotent: bool = True,
        timeout: float = 15.0,
    ) -> Op[dict[str, Any]]:
        """One GraphQL request; the `data` of its answer. Shopify tells throttling with status 200."""
        shop = str(access.config["shop"])
        answer = yield HttpRequest(
            account_key=access.key,
            method="POST",
            url=f"https://{shop}/admin/api/{API_VERSION}/graphql.json",
            headers={
                "X-Shopify-Access-Token": str(
                    access.tokens.get("access_token") or access.credentials.get("access_token", "")
                )
            },
            json={"query": OPERATIONS[operation], "variables": dict(variables)},
            timeout=timeout,
            idempotent=idempotent,
            allowed_hosts=(shop,),
            bucket="graphql",
            rate=RATE,
        )
        body = answer.json()
        errors = body.get("errors") if isinstance(body, dict) else None
        if errors:
            raise _top_error(errors, body.get("extensions") or {})
        data = body.get("data") if isinstance(body, dict) else None
        if not isinstance(data, dict):
            raise ChannelError(Retry.TRANSIENT, "Shopify's answer holds no data")
        return data

    def probe(self, access: Access) -> Op[ShopFacts]:
        data = yield from self._ask(access, "shop", {})
        shop = data["shop"]
        places = tuple(
            (number_of(place["id"]), place["name"])
            for place in data["locations"]["nodes"]
            if place["isActive"]
        )
        return ShopFacts(shop["name"], shop["currencyCode"], places)

    # --- orders --------------------------------------------------------------------------------------
    def list_orders(self, access: Access, since: str, cursor: str) -> Op[OrderPage]:
        start = mapper.when(since) or now() - dt.timedelta(days=7)
        begin = start.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        data = yield from self._ask(
            access, "orders",
            {"first": ORDERS_PER_CALL, "after": cursor or None, "query": f"updated_at:>='{begin}'"},
        )  # fmt: skip
        page = data["orders"]
        drafts, refused, newest = [], 0, since
        for node in page["nodes"]:
            node = yield from self._with_all_lines(access, node)
            newest = max(newest, str(node.get("updatedAt") or ""))
            try:
                drafts.append(mapper.order_draft(node))
            except UNREADABLE:
                refused += 1
        info = page["pageInfo"]
        return OrderPage(tuple(drafts), info["endCursor"] if info["hasNextPage"] else "", newest, refused)

    def get_orders(self, access: Access, external_ids: Sequence[str]) -> Op[list[OrderDraft]]:
        found: list[OrderDraft] = []
        for start in range(0, len(external_ids), ORDERS_PER_CALL):
            ids = [gid("Order", number) for number in external_ids[start : start + ORDERS_PER_CALL]]
            data = yield from self._ask(access, "orders_by_id", {"ids": ids})
            for node in data["nodes"]:
                if node:
                    node = yield from self._with_all_lines(access, node)
                    found.append(mapper.order_draft(node))
        return found

    def _with_all_lines(self, access: Access, node: dict[str, Any]) -> Op[dict[str, Any]]:
        """An order with more than ten lines is completed by paging through them."""
        if not node["lineItems"]["pageInfo"]["hasNextPage"]:
            return node
        lines: list[Any] = []
        after = None
        while True:
            data = yield from self._ask(access, "order_lines", {"id": node["id"], "after": after})
            page = data["order"]["lineItems"]
            lines += page["nodes"]
            if not page["pageInfo"]["hasNextPage"]:
                return {**node, "lineItems": {"nodes": lines}}
            after = page["pageInfo"]["endCursor"]

    def map_notification(self, body: Mapping[str, Any]) -> OrderDraft | None:
        if "line_items" not in body or "updated_at" not in body or "currency" not in body:
            return None
        return mapper.order_from_webhook(body)

    def cancel(self, access: Access, order: CancelOrder) -> Op[str]:
        if order.items:
            return (yield from self._remove_lines(access, order))
        data = yield from self._ask(
            access, "cancel_order",
            {
                "orderId": gid("Order", order.order_external_id),
                "reason": _CANCEL_REASONS.get(order.reason.lower(), "OTHER"),
                "note": order.reference[:255],
            },
            idempotent=False,
        )  # fmt: skip
        payload = data["orderCancel"]
        _raise_user_errors(payload["orderCancelUserErrors"])
        return number_of((payload.get("job") or {}).get("id"))

    def _remove_lines(self, access: Access, order: CancelOrder) -> Op[str]:
        """Single lines are taken off by a refund without money; the money is refunded by its own machine."""
        data = yield from self._ask(
            access, "create_refund",
            {
                "input": {
                    "orderId": gid("Order", order.order_external_id),
                    "note": order.reference,
                    "notify": False,
                    "refundLineItems": [
                        {
                            "lineItemId": gid("LineItem", item.line_external_id),
                            "quantity": item.quantity,
                            "restockType": "NO_RESTOCK",
                        }
                        for item in order.items
                    ],
                },
                "key": str(
                    uuid.uuid5(uuid.NAMESPACE_URL, f"lading:cancel:{order.order_external_id}:{order.reference}")
                ),
            },
        )  # fmt: skip
        payload = data["refundCreate"]
        _raise_user_errors(payload["userErrors"])
        return number_of((payload.get("refund") or {}).get("id"))

    def cancelled(self, access: Access, order: CancelOrder) -> Op[bool]:
        data = yield from self._ask(access, "order_money", {"id": gid("Order", order.order_external_id)})
        found = data["order"]
        if not found:
            raise ChannelError(Retry.REJECTED, "Shopify does not know the order")
        if not order.items:
            return bool(found["cancelledAt"])
        return any(order.reference in (refund["note"] or "").split() for refund in found["refunds"])

    # --- stock ---------------------------------------------------------------------------------------
    def push_quantities(self, access: Access, items: Sequence[PushItem]) -> Op[list[PushResult]]:
        """The group is one unit: a refused or stale item is taken out by its index and the rest is sent again."""
        results: dict[int, PushResult] = {}
        left = list(items)
        for _ in range(_PUSH_ROUNDS):
            if not left:
                break
            data = yield from self._ask(
                access, "set_quantities",
                {
                    "input": {
                        "name": "available",
                        "reason": "correction",
                        "referenceDocumentUri": f"lading://push/{left[0].key}",
                        "quantities": [
                            {
                                "inventoryItemId": gid("InventoryItem", item.external_id),
                                "locationId": gid("Location", item.location_id),
                                "quantity": item.quantity,
                                "changeFromQuantity": item.expected,
                            }
                            for item in left
                        ],
                    },
                    "key": _group_key(left),
                },
            )  # fmt: skip
            errors = data["inventorySetQuantities"]["userErrors"]
            if not errors:
                results.update({item.listing_id: PushResult(item.listing_id) for item in left})
                left = []
                break
            blamed = _blame(errors, left)
            results.update(blamed)
            left = [item for item in left if item.listing_id not in blamed]
        for item in left:
            results[item.listing_id] = PushResult(
                item.listing_id, Retry.TRANSIENT, "too many refusals in one group"
            )
        return [results[item.listing_id] for item in items]

    def read_quantities(self, access: Access, refs: Sequence[ListingRef]) -> Op[dict[int, int]]:
        shown: dict[tuple[str, str], int] = {}
        numbers = list(dict.fromkeys(ref.external_id for ref in refs))
        for start in range(0, len(numbers), ITEMS_PER_READ):
            ids = [gid("InventoryItem", number) for number in numbers[start : start + ITEMS_PER_READ]]
            data = yield from self._ask(access, "read_quantities", {"ids": ids})
            for node in data["nodes"]:
                for level in (node or {"inventoryLevels": {"nodes": ()}})["inventoryLevels"]["nodes"]:
                    for part in level["quantities"]:
                        if part["name"] == "available":
                            shown[number_of(node["id"]), number_of(level["location"]["id"])] = part[
                                "quantity"
                            ]
        return {
            ref.listing_id: shown[ref.external_id, ref.location_id]
            for ref in refs
            if (ref.external_id, ref.location_id) in shown
        }

    def list_listings(self, access: Access, cursor: str) -> Op[ListingPage]:
        data = yield from self._ask(access, "variants", {"after": cursor or None})
        page = data["productVariants"]
        found = []
        for variant in page["nodes"]:
            item = variant["inventoryItem"]
            if not item["tracked"]:
                continue
            for level in item["inventoryLevels"]["nodes"]:
                quantity = next(
                    (part["quantity"] for part in level["quantities"] if part["name"] == "available"), None
                )
                found.append(
                    RemoteListing(
                        external_id=number_of(item["id"]),
                        external_sku=variant["sku"] or "",
                        title=variant["displayName"] or variant["title"] or "",
                        location_id=number_of(level["location"]["id"]),
                        location_name=level["location"]["name"],
                        variant_id=number_of(variant["id"]),
                        quantity=quantity,
                        active=bool(level["isActive"]) and variant["product"]["status"] != "ARCHIVED",
                    )
                )
        info = page["pageInfo"]
        return ListingPage(tuple(found), info["endCursor"] if info["hasNextPage"] else "")

    # --- effects -------------------------------------------------------------------------------------
    def confirm_shipment(self, access: Access, parcel: Confirmation) -> Op[str]:
        data = yield from self._ask(access, "order_to_ship", {"id": gid("Order", parcel.order_external_id)})
        order = data["order"]
        if not order:
            raise ChannelError(Retry.REJECTED, "Shopify does not know the order")
        if order["cancelledAt"]:
            raise ChannelError(Retry.REJECTED, "the order is cancelled on Shopify")
        known = _fulfilment_with(order, parcel.tracking_number)
        if known:
            return known
        groups = _groups(order, parcel)
        if not groups:
            raise ChannelError(
                Retry.REJECTED,
                "Shopify has no open fulfilment order at one location for these units: "
                "move it to the shipping location",
            )
        data = yield from self._ask(
            access, "create_fulfillment",
            {
                "fulfillment": {
                    "lineItemsByFulfillmentOrder": groups,
                    "notifyCustomer": parcel.notify_buyer,
                    "trackingInfo": {
                        "company": parcel.carrier,
                        "number": parcel.tracking_number,
                        **({"url": parcel.tracking_url} if parcel.tracking_url else {}),
                    },
                }
            },
            idempotent=False,
        )  # fmt: skip
        payload = data["fulfillmentCreate"]
        _raise_user_errors(payload["userErrors"])
        return number_of((payload["fulfillment"] or {}).get("id"))

    def read_shipment(self, access: Access, parcel: Confirmation) -> Op[str | None]:
        data = yield from self._ask(access, "order_to_ship", {"id": gid("Order", parcel.order_external_id)})
        return _fulfilment_with(data["order"], parcel.tracking_number) if data["order"] else None

    def refund(self, access: Access, refund: RefundOrder) -> Op[str]:
        order_id = gid("Order", refund.order_external_id)
        data = yield from self._ask(access, "order_money", {"id": order_id})
        if not data["order"]:
            raise ChannelError(Retry.REJECTED, "Shopify does not know the order")
        known = _refund_with(data["order"], refund.reference)
        if known:
            return known
        paid = [
            one
            for one in data["order"]["transactions"]
            if one["kind"] in ("SALE", "CAPTURE") and one["status"] == "SUCCESS"
        ]
        if not paid:
            raise ChannelError(Retry.REJECTED, "Shopify shows no captured payment to refund from")
        data = yield from self._ask(
            access, "create_refund",
            {
                "input": {
                    "orderId": order_id,
                    "note": " ".join(filter(None, (refund.reference, refund.reason)))[:255],
                    "notify": True,
                    "refundLineItems": [
                        {
                            "lineItemId": gid("LineItem", item.line_external_id),
                            "quantity": item.quantity,
                            "restockType": "NO_RESTOCK",
                        }
                        for item in refund.items
                        if item.quantity
                    ],
                    **({"shipping": {"amount": str(refund.shipping)}} if refund.shipping else {}),
                    "transactions": [
                        {
                            "orderId": order_id,
                            "parentId": paid[0]["id"],
                            "amount": str(refund.amount),
                            "gateway": paid[0]["gateway"] or "",
                            "kind": "REFUND",
                        }
                    ],
                },
                "key": refund.key,
            },
        )  # fmt: skip
        payload = data["refundCreate"]
        _raise_user_errors(payload["userErrors"])
        return number_of((payload["refund"] or {}).get("id"))

    def find_refund(self, access: Access, refund: RefundOrder) -> Op[str | None]:
        data = yield from self._ask(access, "order_money", {"id": gid("Order", refund.order_external_id)})
        return _refund_with(data["order"], refund.reference) if data["order"] else None

    def list_returns(self, access: Access, since: dt.datetime) -> Op[list[RemoteReturn]]:
        begin = since.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found: list[RemoteReturn] = []
        after = None
        while True:
            data = yield from self._ask(
                access, "returns",
                {"first": 10, "after": after, "query": f"updated_at:>='{begin}' AND -return_status:no_return"},
            )  # fmt: skip
            page = data["orders"]
            for node in page["nodes"]:
                found += readable(node, mapper.returns_of, "name")
            if not page["pageInfo"]["hasNextPage"]:
                return found
            after = page["pageInfo"]["endCursor"]

    # --- notifications -------------------------------------------------------------------------------
    def parse_push(self, access: Access, headers: Mapping[str, str], raw: bytes) -> list[Notification]:
        secrets = [
            str(access.credentials.get(name) or "") for name in ("client_secret", "previous_client_secret")
        ]
        return webhooks.parse(secrets, str(access.config.get("shop", "")), headers, raw)

    def kind_of(self, topic: str) -> str:
        return webhooks.kind_of(topic)

    def told_quantity(self, body: Mapping[str, Any]) -> tuple[str, str, int] | None:
        if body.get("inventory_item_id") is None or body.get("available") is None:
            return None
        return str(body["inventory_item_id"]), str(body.get("location_id") or ""), int(body["available"])

    def ensure_subscriptions(self, access: Access, address: str) -> Op[list[Subscription]]:
        data = yield from self._ask(access, "subscriptions", {})
        known = {node["topic"] for node in data["webhookSubscriptions"]["nodes"] if node["uri"] == address}
        made = []
        for topic in webhooks.TOPICS:
            if topic in known:
                continue
            data = yield from self._ask(
                access,
                "subscribe",
                {"topic": topic, "webhook": {"uri": address, "format": "JSON"}},
                idempotent=False,
            )
            payload = data["webhookSubscriptionCreate"]
            _raise_user_errors(payload["userErrors"])
            made.append(Subscription(number_of(payload["webhookSubscription"]["id"]), topic, address))
        return made


def _group_key(items: Sequence[PushItem]) -> str:
    """One idempotency key per group of items: the same group sent again is the same request."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "lading:push:" + ":".join(sorted(item.key for item in items))))


def _top_error(errors: Any, extensions: Mapping[str, Any]) -> ChannelError:
    first: Mapping[str, Any] = (
        errors[0]
        if isinstance(errors, list) and errors and isinstance(errors[0], Mapping)
        else {"message": str(errors)}
    )
    code = str((first.get("extensions") or {}).get("code", ""))
    text = f"Shopify: {first.get('message', 'error')}"
    if code == "THROTTLED":
        cost = extensions.get("cost") or {}
        status = cost.get("throttleStatus") or {}
        missing = float(cost.get("requestedQueryCost") or 0) - float(status.get("currentlyAvailable") or 0)
        return ChannelError(
            Retry.THROTTLED,
            text,
            code=code,
            retry_after=max(0.2, missing / max(1.0, float(status.get("restoreRate") or 50))),
        )
    if code == "ACCESS_DENIED":
        return ChannelError(Retry.AUTH, f"{text}: the app lacks a scope", code=code)
    if code in ("INTERNAL_SERVER_ERROR", "TIMEOUT"):
        return ChannelError(Retry.TRANSIENT, text, code=code)
    return ChannelError(Retry.REJECTED, text, code=code)


def _raise_user_errors(errors: Sequence[Mapping[str, Any]]) -> None:
    if errors:
        codes = [str(error.get("code") or "") for error in errors]
        kind = Retry.TRANSIENT if any(code in _TRANSIENT_CODES for code in codes) else Retry.REJECTED
        raise ChannelError(
            kind, "Shopify: " + "; ".join(str(error["message"]) for error in errors), code=codes[0]
        )


def _blame(errors: Sequence[Mapping[str, Any]], items: Sequence[PushItem]) -> dict[int, PushResult]:
    """Which items a group's errors speak of; an error that names none is the whole group's."""
    blamed: dict[int, PushResult] = {}
    for error in errors:
        code = str(error.get("code") or "")
        text = f"{code}: {error['message']}" if code else str(error["message"])
        kind = (
            Retry.STALE if code in ("CHANGE_FROM_QUANTITY_STALE", "COMPARE_QUANTITY_STALE")
            else Retry.TRANSIENT if code in _TRANSIENT_CODES
            else Retry.REJECTED
        )  # fmt: skip
        named = [
            int(part) for part in error.get("field") or () if str(part).isdigit() and int(part) < len(items)
        ]
        for item in [items[named[0]]] if named else items:
            blamed.setdefault(item.listing_id, PushResult(item.listing_id, kind, text))
    return blamed


def _fulfilment_with(order: Mapping[str, Any], tracking_number: str) -> str | None:
    for fulfilment in order["fulfillments"]:
        if fulfilment["status"] == "SUCCESS" and any(
            info["number"] == tracking_number for info in fulfilment["trackingInfo"]
        ):
            return number_of(fulfilment["id"])
    return None


def _refund_with(order: Mapping[str, Any], reference: str) -> str | None:
    for refund in order["refunds"]:
        if reference in (refund["note"] or "").split():
            return number_of(refund["id"])
    return None


def _groups(order: Mapping[str, Any], parcel: Confirmation) -> list[dict[str, Any]]:
    """The open fulfilment orders of ONE location that hold the parcel's units; empty when none holds them all.

    The location the parcel left from is preferred, then any other that holds everything.
    """
    by_place: dict[str, list[Mapping[str, Any]]] = {}
    for entry in order["fulfillmentOrders"]["nodes"]:
        if entry["status"] in ("OPEN", "IN_PROGRESS", "SCHEDULED", "INCOMPLETE"):
            place = number_of(((entry["assignedLocation"] or {}).get("location") or {}).get("id"))
            by_place.setdefault(place, []).append(entry)
    for place in sorted(by_place, key=lambda name: (name != parcel.location_id, name)):
        wanted = {item.line_external_id: item.quantity for item in parcel.items}
        groups = []
        for entry in by_place[place]:
            lines = []
            for line in entry["lineItems"]["nodes"]:
                number = number_of(line["lineItem"]["id"])
                take = min(wanted.get(number, 0), line["remainingQuantity"])
                if take:
                    wanted[number] -= take
                    lines.append({"id": line["id"], "quantity": take})
            if lines:
                groups.append({"fulfillmentOrderId": entry["id"], "fulfillmentOrderLineItems": lines})
        if not any(wanted.values()):
            return groups
    return []


register(Shopify())
