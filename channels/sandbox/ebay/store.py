"""An eBay seller: tokens, offers, orders, parcels, refunds, cancellations, returns and signed notifications.

All sellers live at api.ebay.com; the token says who asks. Closed: a field that the contract does not name is refused.
An offer shows the smaller of its inventory item's total and its own quantity; a sale lowers both.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from channels.sandbox.check import parse_time, problems
from channels.sandbox.ebay import schemas
from channels.sandbox.http import Answer, Request
from channels.sandbox.shop import Fulfilment, Item, Location, Order, Refund, RefundLine, Shop
from channels.sandbox.world import World

HOST = "api.ebay.com"
TOPICS = {
    "ORDER_CONFIRMATION": "USER", "ITEM_MARKED_SHIPPED": "USER", "AUTHORIZATION_REVOCATION": "APPLICATION",
    "MARKETPLACE_ACCOUNT_DELETION": "APPLICATION",
}  # fmt: skip
APP_SCOPE = "https://api.ebay.com/oauth/api_scope"
REVISIONS_PER_DAY = 250
USER, APPLICATION = "user", "application"


def stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class EbayError(Exception):
    """A refusal in the shape of the Sell APIs."""

    def __init__(self, status: int, number: int, message: str, domain: str = "API_FULFILLMENT") -> None:
        super().__init__(message)
        self.status, self.number, self.domain = status, number, domain

    def row(self) -> dict[str, Any]:
        return {
            "errorId": self.number,
            "domain": self.domain,
            "category": "REQUEST",
            "message": str(self),
            "longMessage": str(self),
        }

    def answer(self) -> Answer:
        return Answer.json({"errors": [self.row()]}, self.status)


@dataclass
class Token:
    kind: str
    until: float


@dataclass
class Destination:
    id: str
    name: str
    status: str
    endpoint: str
    verification_token: str


@dataclass
class Subscribed:
    id: str
    topic: str
    status: str
    payload: dict[str, str]
    destination_id: str
    created_at: float


@dataclass
class Cancellation:
    id: str
    order_id: str
    initiator: str
    reason: str
    state: str
    at: float


@dataclass
class EbayStore(Shop):
    username: str = ""
    marketplace: str = "EBAY_US"
    tokens: dict[str, Token] = field(default_factory=dict)
    destinations: dict[str, Destination] = field(default_factory=dict)
    subscriptions: dict[str, Subscribed] = field(default_factory=dict)
    cancellations: dict[str, Cancellation] = field(default_factory=dict)
    alert_email: str = ""
    kid: str = ""
    private_key: str = ""
    revisions: dict[str, int] = field(default_factory=dict)  # by "<day>:<offer>"

    # --- identity -----------------------------------------------------------------------------------
    @property
    def hosts(self) -> list[str]:
        return [HOST]

    def new_order_identity(self) -> tuple[str, int, str]:
        number = self.world.serial("ebay_order")
        name = f"{14 + number % 13:02d}-{10_000 + number:05d}-{70_000 + number % 9_999:05d}"
        return name, number, name

    def describe(self) -> dict[str, Any]:
        return {
            "username": self.username,
            "marketplace_id": self.marketplace,
            "credentials": self.credentials,
            "catalogue": [{"sku": item.sku, "offer": offer_id(item)} for item in self.items.values()],
            "destinations": [vars(one) for one in self.destinations.values()],
            "subscriptions": [vars(one) for one in self.subscriptions.values()],
            "cancellations": [vars(one) for one in self.cancellations.values()],
            "alert_email": self.alert_email,
        }

    def expire_tokens(self) -> int:
        count = len(self.tokens)
        self.tokens.clear()
        return count

    def failure(self, status: int) -> Answer:
        return EbayError(
            status, 2003, "There was a problem with an eBay internal system or process."
        ).answer()

    def throttled(self, operation: str) -> Answer:
        return EbayError(429, 2001, "Too many requests. Please try again later.", "ACCESS").answer()

    # --- what it shows ------------------------------------------------------------------------------
    def money(self, value: Decimal | str) -> dict[str, str]:
        return {"value": f"{Decimal(value):.2f}", "currency": self.currency}

    def stock_of(self, item: Item) -> int:
        return max(0, sum(stock.available for stock in item.stock.values()))

    def show_item(self, item: Item, groups: bool) -> dict[str, Any]:
        spare = int(item.attributes.get("spare_total", 0))
        shown: dict[str, Any] = {
            "sku": item.sku,
            "locale": "en_US",
            "condition": "NEW",
            "product": {"title": item.title},
            "availability": {"shipToLocationAvailability": {"quantity": self.stock_of(item) + spare}},
        }
        if groups and item.attributes.get("group"):
            shown["inventoryItemGroupKeys"] = [item.attributes["group"]]
        return shown

    def show_offer(self, item: Item) -> dict[str, Any]:
        return {
            "offerId": offer_id(item),
            "sku": item.sku,
            "marketplaceId": self.marketplace,
            "format": "FIXED_PRICE",
            "availableQuantity": self.stock_of(item) + int(item.attributes.get("spare_offer", 0)),
            "pricingSummary": {"price": self.money(item.price)},
            "status": "PUBLISHED" if item.attributes.get("published", True) else "UNPUBLISHED",
            "listing": {"listingId": listing_id(item), "listingStatus": "ACTIVE", "soldQuantity": 0},
        }

    def payment_of(self, order: Order) -> str:
        if order.payment != "paid":
            return "PENDING" if order.payment in ("pending", "authorized") else "FAILED"
        if not order.refunded_amount:
            return "PAID"
        return "FULLY_REFUNDED" if order.refunded_amount >= order.total else "PARTIALLY_REFUNDED"

    def refund_status(self, refund: Refund) -> str:
        done = self.world.now() >= refund.at + float(self.settings.get("refund_seconds", 0))
        return "REFUNDED" if done else "PENDING"

    def show_order(self, order: Order) -> dict[str, Any]:
        goods = sum((Decimal(line.price) * line.quantity for line in order.lines), Decimal(0))
        discount = sum((Decimal(line.discount) for line in order.lines), Decimal(0))
        pricing: dict[str, Any] = {
            "priceSubtotal": self.money(goods),
            "deliveryCost": self.money(order.shipping_price),
            "total": self.money(order.total),
        }
        if discount:
            pricing["priceDiscount"] = self.money(-discount)
        if order.tax:
            pricing["tax"] = self.money(order.tax)
        asked = [one for one in self.cancellations.values() if one.order_id == order.id]
        open_now = any(one.state == "REQUESTED" for one in asked)
        state = "CANCELED" if order.cancelled_at else "IN_PROGRESS" if open_now else "NONE_REQUESTED"
        statuses = {line_status(line.fulfilled, line.quantity) for line in order.lines}
        whole = statuses.pop() if len(statuses) == 1 else "IN_PROGRESS"
        address = order.address
        shown: dict[str, Any] = {
            "orderId": order.id,
            "creationDate": stamp(order.created_at),
            "lastModifiedDate": stamp(order.updated_at),
            "orderFulfillmentStatus": whole,
            "orderPaymentStatus": self.payment_of(order),
            "sellerId": self.username,
            "buyer": {"username": order.email.partition("@")[0] or "buyer"},
            "pricingSummary": pricing,
            "cancelStatus": {
                "cancelState": state,
                "cancelRequests": [
                    {
                        "cancelRequestId": one.id, "cancelInitiator": one.initiator, "cancelReason": one.reason,
                        "cancelRequestState": one.state, "cancelRequestedDate": stamp(one.at),
                    }
                    for one in asked
                ],
            },
            "paymentSummary": {
                "totalDueSeller": self.money(order.total),
                "payments": [],
                "refunds": [
                    {
                        "refundId": one.id, "amount": self.money(one.amount), "refundStatus": self.refund_status(one),
                        "refundDate": stamp(one.at),
                    }
                    for one in order.refunds
                    if not one.lines
                ],
            },
            "fulfillmentStartInstructions": [
                {
                    "fulfillmentInstructionsType": "SHIP_TO",
                    "ebaySupportedFulfillment": False,
                    "shippingStep": {
                        "shipTo": {
                            "fullName": address.get("name", ""),
                            "contactAddress": {
                                "addressLine1": address.get("address1", ""), "city": address.get("city", ""),
                                "stateOrProvince": address.get("province_code", ""),
                                "postalCode": address.get("zip", ""), "countryCode": address.get("country_code", ""),
                            },
                            "primaryPhone": {"phoneNumber": order.phone},
                            "email": order.email,
                        },
                        "shippingServiceCode": order.shipping_title,
                    },
                }
            ],
            "fulfillmentHrefs": [
                f"https://{HOST}/sell/fulfillment/v1/order/{order.id}/shipping_fulfillment/{one.id}"
                for one in order.fulfilments
            ],
            "lineItems": [self._show_line(order, line) for line in order.lines],
        }  # fmt: skip
        if order.note:
            shown["buyerCheckoutNotes"] = order.note
        return shown

    def _show_line(self, order: Order, line: Any) -> dict[str, Any]:
        item, cost = self.items[line.sku], Decimal(line.price) * line.quantity
        reduced = cost - Decimal(line.discount)
        shown: dict[str, Any] = {
            "lineItemId": line.id,
            "legacyItemId": listing_id(item),
            "sku": line.sku,
            "title": line.title,
            "quantity": line.quantity,
            "soldFormat": "FIXED_PRICE",
            "listingMarketplaceId": self.marketplace,
            "purchaseMarketplaceId": self.marketplace,
            "lineItemCost": self.money(cost),
            "total": self.money(reduced + Decimal(line.tax)),
            "taxes": [{"taxType": "STATE_SALES_TAX", "amount": self.money(line.tax)}] if Decimal(line.tax) else [],
            "lineItemFulfillmentStatus": line_status(line.fulfilled, line.quantity),
            "lineItemFulfillmentInstructions": {
                "shipByDate": stamp(order.ship_by),
                "maxEstimatedDeliveryDate": stamp(order.deliver_by),
                "guaranteedDelivery": False,
            },
            "refunds": [
                {"refundId": one.id, "amount": self.money(part.amount), "refundDate": stamp(one.at)}
                if self.refund_status(one) == "REFUNDED"
                else {"refundId": one.id, "amount": self.money(part.amount)}
                for one in order.refunds
                for part in one.lines
                if part.line_id == line.id
            ],
        }  # fmt: skip
        if Decimal(line.discount):
            shown["discountedLineItemCost"] = self.money(reduced)
        return shown

    # --- news ---------------------------------------------------------------------------------------
    def request_cancel(self, order: Order, reason: str) -> None:
        self.note_cancel(order, "BUYER", reason, "REQUESTED")
        super().request_cancel(order, reason)

    def note_cancel(self, order: Order, initiator: str, reason: str, state: str) -> Cancellation:
        number = str(5_000_000_000 + self.world.serial("ebay_cancel"))
        made = Cancellation(number, order.id, initiator, reason, state, self.world.now())
        self.cancellations[number] = made
        return made

    def announce(self, event: str, order: Order, **facts: Any) -> None:
        """One message per line item; everything but sales and parcels is found by asking only."""
        topic = {
            "created": "ORDER_CONFIRMATION",
            "paid": "ORDER_CONFIRMATION",
            "fulfilled": "ITEM_MARKED_SHIPPED",
        }
        if event not in topic:
            return
        parcel = facts.get("fulfilment")
        for line in order.lines:
            if parcel is None or line.id in parcel.lines:
                data = {
                    "username": self.username,
                    "order": {"orderId": order.id, "orderLineItems": [{"orderLineItemId": line.id}]},
                }
                self.tell(topic[event], data, order.id)

    def announce_stock(self, item: Item, location_id: str) -> None:
        """eBay tells nothing of quantities."""

    def tell(self, topic: str, data: dict[str, Any], order_id: str = "") -> None:
        now = self.world.now()
        for one in self.subscriptions.values():
            target = self.destinations.get(one.destination_id)
            if one.topic != topic or one.status != "ENABLED" or target is None or target.status != "ENABLED":
                continue
            body = {
                "metadata": {"topic": topic, "schemaVersion": "1.0", "deprecated": False},
                "notification": {
                    "notificationId": hashlib.sha256(f"{self.id}:{self.world.serial('delivery')}".encode()).hexdigest(),
                    "eventDate": stamp(now), "publishDate": stamp(now), "publishAttemptCount": 1, "data": data,
                },
            }  # fmt: skip
            raw = json.dumps(body, separators=(",", ":")).encode()
            self.world.sender.post(
                self, topic, target.endpoint,
                {"Content-Type": "application/json", "X-EBAY-SIGNATURE": self.sign(raw)},
                raw, order_id=order_id, gave_up=lambda target=target: _mark_down(target),  # type: ignore[misc]
            )  # fmt: skip

    def sign(self, raw: bytes) -> str:
        key = load_pem_private_key(self.private_key.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        signature = key.sign(raw, ec.ECDSA(hashes.SHA1()))  # noqa: S303 (the digest eBay uses)
        parts = {
            "alg": "ecdsa", "kid": self.kid, "signature": base64.b64encode(signature).decode(), "digest": "SHA1",
        }  # fmt: skip
        return base64.b64encode(json.dumps(parts).encode()).decode()

    def public_key(self) -> str:
        key = load_pem_private_key(self.private_key.encode(), None)
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return pem.replace("\n", "")  # in one line, as eBay sends it


def _mark_down(target: Destination) -> None:
    target.status = "MARKED_DOWN"


def offer_id(item: Item) -> str:
    return str(8_000_000_000 + item.number)


def listing_id(item: Item) -> str:
    return str(110_000_000_000 + item.number)


def legacy_id(order: Order) -> str:
    return f"{110_000_000_000 + order.number}-{200_000_000 + order.number}"


def line_status(done: int, quantity: int) -> str:
    return "FULFILLED" if done >= quantity else "IN_PROGRESS" if done else "NOT_STARTED"


class Ebay:
    kind = "ebay"
    shop_class = EbayStore

    def create(self, world: World, spec: dict[str, Any]) -> EbayStore:
        """spec: id, name, currency, seed, username, marketplace_id, credentials, settings {webhook_retry_seconds,
        refund_seconds, challenge, one_sku, token_seconds, revoked, quota_reset_seconds}, catalogue."""
        identity = spec["id"]
        number = world.serial("ebay_key")
        key = ec.generate_private_key(ec.SECP256R1())
        store = EbayStore(
            id=identity,
            kind=self.kind,
            name=str(spec.get("name", identity)),
            currency=str(spec.get("currency", "USD")),
            created_at=world.now(),
            seed=int(spec.get("seed", 1)),
            settings={"webhook_retry_seconds": [], **spec.get("settings", {})},
            username=str(spec.get("username", identity)),
            marketplace=str(spec.get("marketplace_id", "EBAY_US")),
            kid=f"{hashlib.sha256(f'{identity}:{number}:{world.now()}'.encode()).hexdigest()[:32]}",
            private_key=key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ).decode(),
            credentials={
                "client_id": f"Sandbox-{identity}-PRD",
                "client_secret": f"PRD-sandbox-{identity}",
                "refresh_token": f"v^1.1#refresh#{identity}",
                "authorization_code": f"v^1.1#code#{identity}",
                "ru_name": f"Sandbox-{identity}-ru",
                **spec.get("credentials", {}),
            },
        )  # fmt: skip
        store.locations["main"] = Location("main", "Main warehouse")
        store.open_shop(world)
        return store

    def owns(self, host: str) -> bool:
        return host == HOST

    async def handle(self, world: World, host: str, request: Request) -> Answer:
        stores = [shop for shop in world.shops.values() if isinstance(shop, EbayStore)]
        path = request.raw_path
        if path == "/identity/v1/oauth2/token":
            return await _token(world, stores, request)
        scheme = "IAF" if path.startswith("/post-order/") else "Bearer"
        told, _, value = request.headers.get("authorization", "").partition(" ")
        found = [store for store in stores if value in store.tokens]
        if told != scheme or not found or found[0].tokens[value].until <= world.now():
            return EbayError(
                401, 1001, "Invalid access token. Check the value of the Authorization header."
            ).answer()
        store, kind = found[0], found[0].tokens[value].kind
        for method, pattern, allowed, act in ROUTES:
            match = pattern.fullmatch(path)
            if not match or method != request.method:
                continue
            if kind not in allowed:
                return EbayError(403, 1100, "Access denied: insufficient permissions.", "ACCESS").answer()
            call = Call(world, store, kind, request, {k: unquote(v) for k, v in match.groupdict().items()})
            return await world.perform(
                store, act.__name__, request, lambda act=act, call=call: _act(act, call)
            )
        return EbayError(404, 2002, "Resource not found", "ACCESS").answer()  # fmt: skip


@dataclass
class Call:
    world: World
    store: EbayStore
    token: str
    request: Request
    found: dict[str, str]

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in self.request.query.items()}

    def body(self, schema: dict[str, Any]) -> Any:
        """The body, when it fits. Raises `EbayError`."""
        if self.request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise EbayError(415, 2004, "Content-Type must be application/json")
        try:
            body = self.request.json()
        except ValueError:
            raise EbayError(400, 2004, "Could not serialize the request body") from None
        wrong = problems(body, schema)
        if wrong:
            raise EbayError(400, 2004, f"Invalid request: {'; '.join(wrong)}")
        return body

    def only(self, *names: str) -> dict[str, str]:
        unknown = sorted(set(self.query) - set(names))
        if unknown:
            raise EbayError(400, 2004, f"Unknown parameter {unknown[0]}")
        return self.query

    def order(self) -> Order:
        order = self.store.orders.get(self.found["order"])
        if order is None:
            raise EbayError(404, 32100, "Invalid order ID")
        return order


Act = Callable[[Call], Any]


async def _act(act: Act, call: Call) -> Answer:
    try:
        if call.store.forced:
            raise EbayError(400, 25001, call.store.forced)
        result = act(call)
        if isinstance(result, Awaitable):
            result = await result
    except EbayError as error:
        return error.answer()
    return result if isinstance(result, Answer) else Answer.json(result)


# --- tokens ----------------------------------------------------------------------------------------


async def _token(world: World, stores: Sequence[EbayStore], request: Request) -> Answer:
    form = {name: values[0] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
    try:
        pair = base64.b64decode(request.headers.get("authorization", "").removeprefix("Basic ")).decode()
    except (ValueError, binascii.Error):
        pair = ""
    right = [
        one
        for one in stores
        if hmac.compare_digest(
            f"{one.credentials['client_id']}:{one.credentials['client_secret']}".encode(), pair.encode()
        )
    ]
    if not right:
        return Answer.json(
            {"error": "invalid_client", "error_description": "client authentication failed"}, 401
        )
    return await world.perform(right[0], "token", request, lambda: _grant(right[0], form))


def _grant(store: EbayStore, form: dict[str, str]) -> Answer:
    grant, wrong = form.get("grant_type"), ""
    answer: dict[str, Any] = {}
    if grant == "client_credentials":
        kind = APPLICATION
        wrong = "" if form.get("scope") == APP_SCOPE else "invalid_scope"
    elif grant == "refresh_token":
        kind = USER
        known = form.get("refresh_token") == store.credentials["refresh_token"]
        wrong = "" if known and not store.settings.get("revoked") else "invalid_grant"
    elif grant == "authorization_code":
        kind = USER
        known = form.get("code") == store.credentials.get("authorization_code")
        wrong = "" if known and form.get("redirect_uri") == store.credentials["ru_name"] else "invalid_grant"
        if not wrong:
            store.credentials["authorization_code"] = ""  # good once
            answer = {
                "refresh_token": store.credentials["refresh_token"],
                "refresh_token_expires_in": 47_304_000,
            }
    else:
        kind, wrong = "", "unsupported_grant_type"
    if wrong:
        return Answer.json({"error": wrong, "error_description": "the grant is invalid or was revoked"}, 400)
    life = int(store.settings.get("token_seconds", 7200))
    secret = hashlib.sha256(f"{store.id}:{store.world.serial('token')}".encode()).hexdigest()
    token = f"v^1.1#{kind}#{secret}"
    store.tokens[token] = Token(kind, store.world.now() + life)
    names = {USER: "User Access Token", APPLICATION: "Application Access Token"}
    return Answer.json({"access_token": token, "expires_in": life, "token_type": names[kind], **answer})


def _page(path: str, key: str, rows: list[Any], start: int, size: int, offset: int) -> dict[str, Any]:
    """One page; `offset` is what the API itself counts by, `start` the first row."""
    body: dict[str, Any] = {"href": path, "total": len(rows), "limit": size, key: rows[start : start + size]}
    if start + size < len(rows):
        body["next"] = f"{path}?{urlencode({'limit': size, 'offset': offset})}"
    return body


# --- fulfillment -----------------------------------------------------------------------------------

_WINDOW = re.compile(r"lastmodifieddate:\[(?P<since>[^.\]]+\.\d{3}Z)\.\.(?P<until>[^\]]*)\]\Z")


def get_orders(call: Call) -> Any:
    query, store = call.only("filter", "limit", "offset", "orderIds", "fieldGroups"), call.store
    rows = sorted(store.orders.values(), key=lambda order: (order.created_at, order.number))
    size, offset = int(query.get("limit", 50)), int(query.get("offset", 0))
    if query.get("orderIds"):
        wanted = query["orderIds"].split(",")
        if len(wanted) > 50:
            raise EbayError(400, 30820, "at most 50 orderIds")
        rows, size, offset = [order for order in rows if order.id in wanted], 50, 0
    elif query.get("filter"):
        window = _WINDOW.match(query["filter"])
        since = parse_time(window["since"]) if window else None
        until = parse_time(window["until"]) if window and window["until"] else store.world.now()
        if since is None or until is None:
            raise EbayError(400, 30800, "Invalid filter")
        rows = [order for order in rows if since <= order.updated_at <= until + 0.001]
    if not 1 <= size <= 200 or offset < 0:
        raise EbayError(400, 30810, "limit must be 1 to 200")
    shown = [store.show_order(order) for order in rows]
    path = f"https://{HOST}/sell/fulfillment/v1/order"
    return {**_page(path, "orders", shown, offset, size, offset + size), "offset": offset}


def get_order(call: Call) -> Any:
    call.only("fieldGroups")
    return call.store.show_order(call.order())


def get_shipping_fulfillments(call: Call) -> Any:
    order = call.order()
    return {
        "total": len(order.fulfilments),
        "fulfillments": [
            {
                "fulfillmentId": one.id, "shipmentTrackingNumber": one.tracking[0] if one.tracking else "",
                "shippingCarrierCode": one.carrier, "shippedDate": stamp(one.ship_time),
                "lineItems": [{"lineItemId": line, "quantity": units} for line, units in one.lines.items()],
            }
            for one in order.fulfilments
        ],
    }  # fmt: skip


def create_shipping_fulfillment(call: Call) -> Any:
    body, order, store = call.body(schemas.SHIPMENT), call.order(), call.store
    if order.cancelled_at:
        raise EbayError(400, 32230, "The order is cancelled")
    if ("trackingNumber" in body) != ("shippingCarrierCode" in body):
        raise EbayError(400, 32220, "trackingNumber and shippingCarrierCode depend on each other")
    tracking = body.get("trackingNumber", "")
    number = tracking or str(store.world.serial("fulfilment"))
    if any(one.id == number for one in order.fulfilments):
        raise EbayError(409, 32240, "The fulfillment exists already")
    units: dict[str, int] = {}
    for entry in body["lineItems"]:
        line = next((one for one in order.lines if one.id == entry["lineItemId"]), None)
        units[entry["lineItemId"]] = units.get(entry["lineItemId"], 0) + entry["quantity"]
        if line is None or units[line.id] > line.open:
            raise EbayError(400, 32210, f"Invalid line item or quantity: {entry['lineItemId']}")
    parts: dict[str, dict[str, int]] = {}
    left = dict(units)
    for share in order.assignments:
        for line_id, remaining in share.remaining.items():
            take = min(remaining, left.get(line_id, 0))
            if take:
                parts.setdefault(share.id, {})[line_id] = take
                left[line_id] -= take
    now = store.world.now()
    shipped = parse_time(body["shippedDate"]) if "shippedDate" in body else now
    made = Fulfilment(
        number, now, now, order.assignments[0].location_id, units, list(parts),
        carrier=body.get("shippingCarrierCode", ""), tracking=[tracking] if tracking else [],
        ship_time=shipped or now,
    )  # fmt: skip
    store.fulfil(order, parts, made)
    path = f"https://{HOST}/sell/fulfillment/v1/order/{order.id}/shipping_fulfillment/{number}"
    return Answer(201, b"", {"location": path})


def issue_refund(call: Call) -> Any:
    body, order, store = call.body(schemas.REFUND), call.order(), call.store
    if ("refundItems" in body) == ("orderLevelRefundAmount" in body):
        raise EbayError(400, 34905, "Either orderLevelRefundAmount or refundItems must be specified.")
    if any(store.refund_status(one) == "PENDING" for one in order.refunds):
        raise EbayError(400, 34922, "Refund can't be issued while previous refund is processing.")
    if order.payment != "paid":
        raise EbayError(409, 34929, "You cannot refund this order yet.")
    entries = body.get("refundItems", [])
    amounts = [entry["refundAmount"] for entry in entries] or [body["orderLevelRefundAmount"]]
    if any(one["currency"] != order.currency for one in amounts):
        raise EbayError(400, 34909, "The amount currency isn't correct.")
    money = sum((Decimal(one["value"]) for one in amounts), Decimal(0))
    if not money or money > order.total - order.refunded_amount:
        raise EbayError(400, 34915, "The refund amount exceeds order amount.")
    lines = []
    for entry in entries:
        if all(line.id != entry["lineItemId"] for line in order.lines):
            raise EbayError(400, 34914, "Can't find the item in the order.")
        lines.append(RefundLine(entry["lineItemId"], 0, "none", amount=entry["refundAmount"]["value"]))
    number = str(store.world.serial("refund"))
    made = Refund(
        number, store.world.now(), lines, f"{money:.2f}", note=body.get("comment", ""),
        reason=body["reasonForRefund"],
    )  # fmt: skip
    store.add_refund(order, made)
    return {"refundId": number, "refundStatus": "PENDING"}


# --- post-order ------------------------------------------------------------------------------------


def create_cancellation(call: Call) -> Any:
    body, store = call.body(schemas.CANCEL), call.store
    named = body["legacyOrderId"]
    order = next((one for one in store.orders.values() if named in (one.id, legacy_id(one))), None)
    if order is None:
        raise EbayError(404, 1617, "The order is unknown")
    asked = [one for one in store.cancellations.values() if one.order_id == order.id]
    if order.cancelled_at or any(line.fulfilled for line in order.lines) or asked:
        raise EbayError(400, 1603, "The order is not eligible for cancellation")
    made = store.note_cancel(order, "SELLER", body["cancelReason"], "COMPLETED")
    store.cancel(order, body["cancelReason"], restock=True, by="merchant")
    return {"cancelId": made.id}


def approve_cancellation(call: Call) -> Any:
    asked = call.store.cancellations.get(call.found["cancel"])
    if asked is None or asked.state != "REQUESTED":
        raise EbayError(400, 1604, "There is no such open cancellation")
    asked.state = "COMPLETED"
    order = call.store.orders[asked.order_id]
    call.store.cancel(order, asked.reason, restock=True, by="buyer")
    return Answer(200)


_RETURN_STATES = {
    "REQUESTED": "RETURN_REQUESTED", "CLOSED": "CLOSED", "DECLINED": "RETURN_REJECTED", "OPEN": "ITEM_READY_TO_SHIP",
}  # fmt: skip


def search_returns(call: Call) -> Any:
    query, store = (
        call.only("creation_date_range_from", "creation_date_range_to", "limit", "offset"),
        call.store,
    )
    since = parse_time(query.get("creation_date_range_from", stamp(0))) or 0.0
    rows = [
        {
            "returnId": line.id,
            "orderId": order.id,
            "currentType": "MONEY_BACK",
            "state": _RETURN_STATES.get(back.status, back.status),
            "status": _RETURN_STATES.get(back.status, back.status),
            "creationInfo": {
                "item": {
                    "itemId": listing_id(store.items[order.line(line.line_id).sku]), "transactionId": line.line_id,
                    "returnQuantity": line.quantity,
                },
                "reason": line.reason, "comments": {"content": line.note}, "creationDate": {"value": stamp(back.at)},
            },
        }
        for order in store.orders.values()
        for back in order.returns
        for line in back.lines
        if back.at >= since
    ]  # fmt: skip
    size, offset = int(query.get("limit", 25)), int(query.get("offset", 0))
    return {"members": rows[offset : offset + size], "total": len(rows)}


# --- inventory -------------------------------------------------------------------------------------


def bulk_update_price_quantity(call: Call) -> Any:
    body, store = call.body(schemas.QUANTITIES), call.store
    if store.settings.get("one_sku") and len(body["requests"]) > 1:
        raise EbayError(400, 25709, "Only one SKU can be updated per call", "API_INVENTORY")
    rows: list[dict[str, Any]] = []
    for entry in body["requests"]:
        try:
            rows += _update(store, entry)
        except EbayError as error:
            offers = entry.get("offers") or [{}]
            rows += [
                {"sku": entry["sku"], **({"offerId": o["offerId"]} if o else {}), "statusCode": error.status,
                 "errors": [error.row()]}
                for o in offers
            ]  # fmt: skip
    bad = any(row["statusCode"] >= 300 for row in rows)
    return Answer.json({"responses": rows}, 207 if bad else 200)


def _update(store: EbayStore, entry: dict[str, Any]) -> list[dict[str, Any]]:
    item = store.items.get(entry["sku"])
    if item is None:
        raise EbayError(404, 25702, f"{entry['sku']} could not be found", "API_INVENTORY")
    if item.attributes.get("refused"):
        raise EbayError(400, 25002, str(item.attributes["refused"]), "API_INVENTORY")
    for offer in entry.get("offers", ()):
        if offer["offerId"] != offer_id(item):
            raise EbayError(404, 25713, "This Offer is not available", "API_INVENTORY")
    day = f"{stamp(store.world.now())[:10]}:{offer_id(item)}"
    if store.revisions.get(day, 0) >= REVISIONS_PER_DAY:
        raise EbayError(
            400, 25002, "The listing has reached its limit of revisions for this day", "API_INVENTORY"
        )
    store.revisions[day] = store.revisions.get(day, 0) + 1
    before = store.stock_of(item)
    total = before + int(item.attributes.get("spare_total", 0))
    offered = before + int(item.attributes.get("spare_offer", 0))
    total = entry.get("shipToLocationAvailability", {}).get("quantity", total)
    for offer in entry.get("offers", ()):
        offered = offer.get("availableQuantity", offered)
    shown = min(total, offered)
    item.attributes.update(spare_total=total - shown, spare_offer=offered - shown)
    store.set_stock(item.sku, shown)
    return [
        {"sku": item.sku, "statusCode": 200},
        *({"sku": item.sku, "offerId": offer["offerId"], "statusCode": 200} for offer in entry.get("offers", ())),
    ]  # fmt: skip


def bulk_get_inventory_item(call: Call) -> Any:
    body, store = call.body(schemas.ITEMS), call.store
    rows: list[dict[str, Any]] = []
    for entry in body["requests"]:
        item = store.items.get(entry["sku"])
        if item is None:
            error = EbayError(404, 25702, f"{entry['sku']} could not be found", "API_INVENTORY")
            rows.append({"sku": entry["sku"], "statusCode": 404, "errors": [error.row()]})
        else:
            rows.append({"sku": item.sku, "statusCode": 200, "inventoryItem": store.show_item(item, True)})
    return Answer.json({"responses": rows}, 207 if any(row["statusCode"] != 200 for row in rows) else 200)


def get_inventory_items(call: Call) -> Any:
    query = call.only("limit", "offset")
    size, page = int(query.get("limit", 25)), int(query.get("offset", 0))
    if not 1 <= size <= 200:
        raise EbayError(400, 25706, "limit must be 1 to 200", "API_INVENTORY")
    rows = [call.store.show_item(item, True) for item in call.store.items.values()]
    path = f"https://{HOST}/sell/inventory/v1/inventory_item"
    return _page(path, "inventoryItems", rows, page * size, size, page + 1)  # offset counts pages here


def get_offers(call: Call) -> Any:
    query = call.only("sku", "marketplace_id", "format", "limit", "offset")
    item = call.store.items.get(query.get("sku", ""))
    if item is None or query.get("marketplace_id", call.store.marketplace) != call.store.marketplace:
        raise EbayError(404, 25713, "This Offer is not available", "API_INVENTORY")
    return {"total": 1, "size": 1, "limit": 100, "offers": [call.store.show_offer(item)]}


def get_offer(call: Call) -> Any:
    for item in call.store.items.values():
        if offer_id(item) == call.found["offer"]:
            return call.store.show_offer(item)
    raise EbayError(404, 25713, "This Offer is not available", "API_INVENTORY")


def get_locations(call: Call) -> Any:
    call.only("limit", "offset")
    rows = [
        {"merchantLocationKey": one.id, "name": one.name, "merchantLocationStatus": "ENABLED"}
        for one in call.store.locations.values()
    ]
    return {"total": len(rows), "limit": 100, "offset": 0, "locations": rows}


def get_user_rate_limits(call: Call) -> Any:
    query = call.only("api_context", "api_name")
    wait = call.store.settings.get("quota_reset_seconds")
    now = call.world.now()
    rate = {
        "limit": 100_000, "count": 100_000 if wait else 10, "remaining": 0 if wait else 99_990,
        "reset": stamp(now + float(wait or 3600)), "timeWindow": 86_400,
    }  # fmt: skip
    resource = {"name": f"sell.{query.get('api_name', '')}", "rates": [rate]}
    return {
        "rateLimits": [
            {
                "apiContext": query.get("api_context", "sell"), "apiName": query.get("api_name", ""),
                "apiVersion": "v1", "resources": [resource],
            }
        ]
    }  # fmt: skip


# --- notifications ---------------------------------------------------------------------------------


def get_public_key(call: Call) -> Any:
    for shop in call.world.shops.values():
        if isinstance(shop, EbayStore) and shop.kid == call.found["key"]:
            return {"algorithm": "ECDSA", "digest": "SHA1", "key": shop.public_key()}
    raise EbayError(404, 195000, "The public key could not be found", "API_NOTIFICATION")


def get_config(call: Call) -> Any:
    if not call.store.alert_email:
        raise EbayError(404, 195003, "There is no configuration", "API_NOTIFICATION")
    return {"alertEmail": call.store.alert_email}


def update_config(call: Call) -> Any:
    call.store.alert_email = call.body(schemas.CONFIG)["alertEmail"]
    return Answer(204)


def get_topic(call: Call) -> Any:
    topic = call.found["topic"]
    if topic not in TOPICS:
        raise EbayError(404, 195002, "The topic is unknown", "API_NOTIFICATION")
    payload = {"format": ["JSON"], "schemaVersion": "1.0", "deliveryProtocol": "HTTPS", "deprecated": False}
    return {
        "topicId": topic, "status": "ENABLED", "context": "COMMERCE", "scope": TOPICS[topic],
        "supportedPayloads": [payload],
    }  # fmt: skip


def get_destinations(call: Call) -> Any:
    call.only("limit", "continuation_token")
    rows = [
        {
            "destinationId": one.id, "name": one.name, "status": one.status,
            "deliveryConfig": {"endpoint": one.endpoint, "verificationToken": one.verification_token},
        }
        for one in call.store.destinations.values()
    ]  # fmt: skip
    return {"total": len(rows), "limit": 100, "destinations": rows}


async def _challenge(call: Call, endpoint: str, token: str) -> None:
    """The address must answer before anything is sent to it."""
    if call.store.settings.get("challenge", True) is False:
        return
    code = hashlib.sha256(str(call.world.serial("challenge")).encode()).hexdigest()[:36]
    wanted = hashlib.sha256(f"{code}{token}{endpoint}".encode()).hexdigest()
    try:
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            answer = await client.get(endpoint, params={"challenge_code": code})
        told = answer.json().get("challengeResponse") if answer.status_code == 200 else None
    except (httpx.HTTPError, ValueError, AttributeError):
        told = None
    if told != wanted:
        raise EbayError(
            409, 195020, "Challenge verification failed for requested endpoint", "API_NOTIFICATION"
        )


async def create_destination(call: Call) -> Any:
    body, store = call.body(schemas.DESTINATION), call.store
    if not store.alert_email:
        raise EbayError(
            409, 195022, "Please provide the alert email in the configuration", "API_NOTIFICATION"
        )
    config = body["deliveryConfig"]
    await _challenge(call, config["endpoint"], config["verificationToken"])
    number = f"dest-{store.world.serial('ebay_destination')}"
    store.destinations[number] = Destination(
        number, body["name"], body["status"], config["endpoint"], config["verificationToken"]
    )
    path = f"https://{HOST}/commerce/notification/v1/destination/{number}"
    return Answer.json({}, 201, {"location": path})


async def update_destination(call: Call) -> Any:
    body = call.body(schemas.DESTINATION)
    one = call.store.destinations.get(call.found["destination"])
    if one is None:
        raise EbayError(404, 195004, "The destination is unknown", "API_NOTIFICATION")
    config = body["deliveryConfig"]
    await _challenge(call, config["endpoint"], config["verificationToken"])
    one.name, one.status = body["name"], body["status"]
    one.endpoint, one.verification_token = config["endpoint"], config["verificationToken"]
    return Answer(204)


def _mine(call: Call) -> list[Subscribed]:
    """A user token sees the user's subscriptions, an application token the application's."""
    scope = "USER" if call.token == USER else "APPLICATION"
    return [one for one in call.store.subscriptions.values() if TOPICS[one.topic] == scope]


def _subscription(call: Call) -> Subscribed:
    for one in _mine(call):
        if one.id == call.found["subscription"]:
            return one
    raise EbayError(404, 195006, "The subscription is unknown", "API_NOTIFICATION")


def get_subscriptions(call: Call) -> Any:
    call.only("limit", "continuation_token")
    rows = [
        {
            "subscriptionId": one.id, "topicId": one.topic, "status": one.status, "payload": one.payload,
            "destinationId": one.destination_id, "creationDate": stamp(one.created_at),
        }
        for one in _mine(call)
    ]  # fmt: skip
    return {"total": len(rows), "limit": 100, "subscriptions": rows}


def create_subscription(call: Call) -> Any:
    body, store = call.body(schemas.SUBSCRIPTION), call.store
    topic = body["topicId"]
    if topic not in TOPICS:
        raise EbayError(400, 195002, "The topic is unknown", "API_NOTIFICATION")
    if TOPICS[topic] != ("USER" if call.token == USER else "APPLICATION"):
        raise EbayError(403, 195011, "Not authorized for this topic", "API_NOTIFICATION")
    if any(one.topic == topic for one in store.subscriptions.values()):
        raise EbayError(409, 195012, "There is a subscription for this topic", "API_NOTIFICATION")
    if body["destinationId"] not in store.destinations:
        raise EbayError(400, 195004, "The destination is unknown", "API_NOTIFICATION")
    number = f"sub-{store.world.serial('ebay_subscription')}"
    store.subscriptions[number] = Subscribed(
        number, topic, body["status"], body["payload"], body["destinationId"], store.world.now()
    )
    path = f"https://{HOST}/commerce/notification/v1/subscription/{number}"
    return Answer.json({}, 201, {"location": path})


def update_subscription(call: Call) -> Any:
    body, one = call.body(schemas.UPDATE_SUBSCRIPTION), _subscription(call)
    one.status, one.payload, one.destination_id = body["status"], body["payload"], body["destinationId"]
    return Answer(204)


def enable_subscription(call: Call) -> Any:
    _subscription(call).status = "ENABLED"
    return Answer(204)


_FULFILLMENT, _INVENTORY = "/sell/fulfillment/v1", "/sell/inventory/v1"
_NOTIFICATION, _POST_ORDER = "/commerce/notification/v1", "/post-order/v2"
_ORDER = rf"{_FULFILLMENT}/order/(?P<order>[^/]+)"
_ONE_SUBSCRIPTION = rf"{_NOTIFICATION}/subscription/(?P<subscription>[^/]+)"
_AS_USER, _AS_APP, _EITHER = (USER,), (APPLICATION,), (USER, APPLICATION)

ROUTES: list[tuple[str, re.Pattern[str], tuple[str, ...], Act]] = [
    (method, re.compile(pattern), allowed, act)
    for method, pattern, allowed, act in [
        ("GET", rf"{_FULFILLMENT}/order", _AS_USER, get_orders),
        ("GET", _ORDER, _AS_USER, get_order),
        ("GET", rf"{_ORDER}/shipping_fulfillment", _AS_USER, get_shipping_fulfillments),
        ("POST", rf"{_ORDER}/shipping_fulfillment", _AS_USER, create_shipping_fulfillment),
        ("POST", rf"{_ORDER}/issue_refund", _AS_USER, issue_refund),
        ("POST", rf"{_POST_ORDER}/cancellation", _AS_USER, create_cancellation),
        ("POST", rf"{_POST_ORDER}/cancellation/(?P<cancel>\d+)/approve", _AS_USER, approve_cancellation),
        ("GET", rf"{_POST_ORDER}/return/search", _AS_USER, search_returns),
        ("POST", rf"{_INVENTORY}/bulk_update_price_quantity", _AS_USER, bulk_update_price_quantity),
        ("POST", rf"{_INVENTORY}/bulk_get_inventory_item", _AS_USER, bulk_get_inventory_item),
        ("GET", rf"{_INVENTORY}/inventory_item", _AS_USER, get_inventory_items),
        ("GET", rf"{_INVENTORY}/offer", _AS_USER, get_offers),
        ("GET", rf"{_INVENTORY}/offer/(?P<offer>\d+)", _AS_USER, get_offer),
        ("GET", rf"{_INVENTORY}/location", _AS_USER, get_locations),
        ("GET", r"/developer/analytics/v1_beta/user_rate_limit/", _AS_USER, get_user_rate_limits),
        ("GET", rf"{_NOTIFICATION}/public_key/(?P<key>[^/]+)", _AS_APP, get_public_key),
        ("GET", rf"{_NOTIFICATION}/config", _AS_APP, get_config),
        ("PUT", rf"{_NOTIFICATION}/config", _AS_APP, update_config),
        ("GET", rf"{_NOTIFICATION}/topic/(?P<topic>[^/]+)", _AS_APP, get_topic),
        ("GET", rf"{_NOTIFICATION}/destination", _AS_APP, get_destinations),
        ("POST", rf"{_NOTIFICATION}/destination", _AS_APP, create_destination),
        ("PUT", rf"{_NOTIFICATION}/destination/(?P<destination>[^/]+)", _AS_APP, update_destination),
        ("GET", rf"{_NOTIFICATION}/subscription", _EITHER, get_subscriptions),
        ("POST", rf"{_NOTIFICATION}/subscription", _EITHER, create_subscription),
        ("PUT", _ONE_SUBSCRIPTION, _EITHER, update_subscription),
        ("POST", rf"{_ONE_SUBSCRIPTION}/enable", _EITHER, enable_subscription),
    ]
]
