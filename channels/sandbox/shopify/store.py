"""A Shopify store: credentials, cost bucket, webhook subscriptions, idempotency memory, and its HTTP endpoints."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import graphql

from channels.sandbox.http import Answer, Request
from channels.sandbox.shop import Item, Location, Order, SandboxError, Shop
from channels.sandbox.shopify import rest
from channels.sandbox.shopify.execution import Refusal, Run, compiled
from channels.sandbox.world import World

API_VERSION = "2026-10"
MAX_QUERY_COST = 1000
RESOURCES = (
    "FULFILLMENT_ORDERS",
    "INVENTORY_LEVELS",
    "FULFILLMENTS",
    "ORDERS",
    "REFUNDS",
    "RETURNS",
    "PRODUCTS",
    "APP",
)


def iso(moment: float) -> str | None:
    """Shopify's DateTime: UTC to the second; None for a time that is not set."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def sign(secret: str, body: bytes) -> str:
    """X-Shopify-Hmac-SHA256: base64 of the HMAC-SHA256 of the raw body with the app's client secret."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def topic_path(topic: str) -> str:
    """ORDERS_PARTIALLY_FULFILLED → orders/partially_fulfilled."""
    resource = next(name for name in RESOURCES if topic.startswith(name + "_"))
    return f"{resource.lower()}/{topic[len(resource) + 1 :].lower()}"


@dataclass
class Subscription:
    id: str
    topic: str
    uri: str
    created_at: float
    updated_at: float
    format: str = "JSON"
    include_fields: list[str] = field(default_factory=list)
    name: str = ""


@dataclass
class Change:
    sku: str
    location_id: str
    name: str
    delta: int
    after: int


@dataclass
class Adjustment:
    id: str
    at: float
    reason: str
    uri: str
    changes: list[Change]


@dataclass
class Remembered:
    """What an idempotency key stands for."""

    parameters: str  # digest
    failed: bool
    adjustment: Adjustment | None = None
    order_id: str = ""
    refund_id: str = ""


@dataclass
class ShopifyStore(Shop):
    domain: str = ""
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    remembered: dict[str, Remembered] = field(default_factory=dict)
    jobs: dict[str, float] = field(default_factory=dict)  # when each is done
    points: float = 0.0  # in the cost bucket
    points_at: float = 0.0

    # --- identity -----------------------------------------------------------------------------------
    @property
    def hosts(self) -> list[str]:
        return [self.domain]

    @property
    def number(self) -> int:
        return 60_000_000_000 + int(hashlib.sha256(self.id.encode()).hexdigest()[:6], 16)

    def new_order_identity(self) -> tuple[str, int, str]:
        number = 1000 + self.counts.get("orders", 0) + 1
        return str(5_600_000_000_000 + self.world.serial("shopify_order")), number, f"#{number}"

    def describe(self) -> dict[str, Any]:
        return {
            "domain": self.domain,
            "api_version": API_VERSION,
            "credentials": self.credentials,
            "graphql_url": f"https://{self.domain}/admin/api/{API_VERSION}/graphql.json",
            "locations": [
                {"id": location.id, "gid": f"gid://shopify/Location/{location.id}", "name": location.name}
                for location in self.locations.values()
            ],
            "catalogue": [
                {
                    "sku": item.sku,
                    "product_gid": rest.product_gid(item),
                    "variant_gid": rest.variant_gid(item),
                    "inventory_item_gid": rest.item_gid(item),
                }
                for item in self.items.values()
            ],
            "subscriptions": [vars(subscription) for subscription in self.subscriptions.values()],
        }

    def expire_tokens(self) -> int:
        """The Admin token is revoked; a new one stands in `credentials`."""
        self.count("tokens_revoked")
        self.credentials["access_token"] = f"shpat_sandbox_{self.id}_{self.counts['tokens_revoked']}"
        return 1

    # --- the platform's own refusals ----------------------------------------------------------------
    def failure(self, status: int) -> Answer:
        if status == 503:
            return Answer.json({"errors": "Service Unavailable"}, 503)
        return Answer.json(
            {"errors": "Internal Server Error. If you report this error, please include this request ID."},
            status,
        )

    def throttled(self, operation: str) -> Answer:
        return self._throttled(0)

    def _throttled(self, requested: int) -> Answer:
        error = {
            "message": "Throttled",
            "extensions": {"code": "THROTTLED", "documentation": "https://shopify.dev/api/usage/rate-limits"},
        }
        return Answer.json({"errors": [error], "extensions": self._cost(requested, None)})

    # --- cost ---------------------------------------------------------------------------------------
    @property
    def restore_rate(self) -> float:
        return float(self.settings.get("points_per_second", 100))

    @property
    def bucket(self) -> float:
        return float(self.settings.get("points_bucket", 20 * self.restore_rate))

    def refill(self) -> None:
        now = self.world.now()
        self.points = min(self.bucket, self.points + (now - self.points_at) * self.restore_rate)
        self.points_at = now

    def _cost(self, requested: int, actual: int | None) -> dict[str, Any]:
        return {
            "cost": {
                "requestedQueryCost": requested,
                "actualQueryCost": actual,
                "throttleStatus": {
                    "maximumAvailable": self.bucket,
                    "currentlyAvailable": int(self.points),
                    "restoreRate": self.restore_rate,
                },
            }
        }

    # --- news ---------------------------------------------------------------------------------------
    def announce(self, event: str, order: Order, **facts: Any) -> None:
        topics = {
            "created": ["ORDERS_CREATE"] + (["ORDERS_PAID"] if order.payment == "paid" else []),
            "paid": ["ORDERS_PAID", "ORDERS_UPDATED"],
            "updated": ["ORDERS_UPDATED"],
            "cancel_requested": ["ORDERS_UPDATED"],
            "edited": ["ORDERS_EDITED", "ORDERS_UPDATED"],
            "cancelled": ["ORDERS_CANCELLED", "ORDERS_UPDATED"],
            "fulfilled": ["FULFILLMENTS_CREATE", "ORDERS_UPDATED"],
            "tracking": ["FULFILLMENTS_UPDATE", "ORDERS_UPDATED"],
            "refunded": ["REFUNDS_CREATE", "ORDERS_UPDATED"],
            "return": ["RETURNS_REQUEST", "ORDERS_UPDATED"],
        }[event]
        if event == "return" and facts["back"].status == "OPEN":
            topics[0] = "RETURNS_APPROVE"
        if event == "fulfilled":
            topics.append(
                "ORDERS_PARTIALLY_FULFILLED" if any(line.open for line in order.lines) else "ORDERS_FULFILLED"
            )
        for topic in topics:
            self.send(topic, order, **facts)

    def announce_stock(self, item: Item, location_id: str) -> None:
        if (
            any(s.topic == "INVENTORY_LEVELS_UPDATE" for s in self.subscriptions.values())
            and location_id in item.stock
        ):
            self._post("INVENTORY_LEVELS_UPDATE", rest.inventory_level(item, location_id), "")

    def send(self, topic: str, order: Order, **facts: Any) -> int:
        """Send one topic about an order to everyone subscribed; returns how many messages left."""
        if not any(subscription.topic == topic for subscription in self.subscriptions.values()):
            return 0
        if topic.startswith("FULFILLMENTS"):
            body = rest.fulfillment(order, facts.get("fulfilment") or order.fulfilments[-1])
        elif topic == "REFUNDS_CREATE":
            body = rest.refund(order, facts.get("refund") or order.refunds[-1])
        elif topic.startswith("RETURNS"):
            body = rest.returned(order, facts.get("back") or order.returns[-1])
        elif topic == "ORDERS_EDITED":
            body = {
                "order_edit": {
                    "id": int(order.id),
                    "order_id": int(order.id),
                    "created_at": iso(order.updated_at),
                }
            }
        else:
            body = rest.order(self, order)
        return self._post(topic, body, order.id)

    def _post(self, topic: str, body: dict[str, Any], order_id: str) -> int:
        sent = 0
        event = str(uuid.UUID(int=self.dice.getrandbits(128), version=4))
        for subscription in list(self.subscriptions.values()):
            if subscription.topic != topic:
                continue
            shown = body
            if subscription.include_fields:
                shown = {name: value for name, value in body.items() if name in subscription.include_fields}
            raw = json.dumps(shown, separators=(",", ":"), ensure_ascii=False).encode()
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "Shopify-Captain-Hook",
                "X-Shopify-Topic": topic_path(topic),
                "X-Shopify-Hmac-SHA256": sign(self.credentials["client_secret"], raw),
                "X-Shopify-Shop-Domain": self.domain,
                "X-Shopify-API-Version": API_VERSION,
                "X-Shopify-Webhook-Id": str(uuid.UUID(int=self.dice.getrandbits(128), version=4)),
                "X-Shopify-Event-Id": event,
                "X-Shopify-Triggered-At": datetime.fromtimestamp(self.world.now(), UTC)
                .isoformat()
                .replace("+00:00", "Z"),
            }

            def gone(identity: str = subscription.id) -> None:
                # after the last failed retry the platform deletes the subscription
                self.subscriptions.pop(identity, None)

            self.world.sender.post(
                self, topic, subscription.uri, headers, raw, order_id=order_id, gave_up=gone
            )
            sent += 1
        return sent

    # --- GraphQL ------------------------------------------------------------------------------------
    def graphql(self, document: Any, run: Run, name: str, requested: int) -> Answer:
        """Execute a validated operation within the cost bucket."""
        if requested > MAX_QUERY_COST:
            message = f"Query cost is {requested}, which exceeds the single query max cost limit ({MAX_QUERY_COST})."
            return self._errors(
                [{"message": message, "extensions": {"code": "MAX_COST_EXCEEDED", "cost": requested}}]
            )
        self.refill()
        if requested > self.points:
            self.count("throttled")
            return self._throttled(requested)
        try:
            data = run.execute()
        except Refusal as refusal:
            error: dict[str, Any] = {"message": str(refusal), "extensions": {"code": refusal.code}}
            if refusal.path:
                error["path"] = refusal.path
            return self._errors([error])
        except graphql.GraphQLError as failed:
            return self._errors(
                [{"message": failed.message, "extensions": {"code": "argumentLiteralsIncompatible"}}]
            )
        actual = min(requested, run.actual) if run.operation.kind == "query" else requested
        self.points -= actual
        return Answer.json({"data": data, "extensions": self._cost(requested, actual)})

    @staticmethod
    def _errors(errors: list[dict[str, Any]]) -> Answer:
        return Answer.json({"errors": errors})


@dataclass
class Call:
    """What resolvers know of the request in hand."""

    store: ShopifyStore
    world: World
    idempotency_key: str | None = None


class Shopify:
    kind = "shopify"
    shop_class = ShopifyStore

    def create(self, world: World, spec: dict[str, Any]) -> ShopifyStore:
        """spec: id, name, currency, seed, domain, credentials, locations [{name, …}], settings {points_per_second,
        points_bucket, job_delay_ms, webhook_retry_seconds}, webhooks {topic: uri} to be subscribed at once."""
        identity = spec["id"]
        store = ShopifyStore(
            id=identity,
            kind=self.kind,
            name=str(spec.get("name", identity)),
            currency=str(spec.get("currency", "USD")),
            created_at=world.now(),
            seed=int(spec.get("seed", 1)),
            settings=dict(spec.get("settings", {})),
            domain=str(spec.get("domain", f"{identity}.myshopify.com")).lower(),
            credentials={
                "access_token": f"shpat_sandbox_{identity}",
                "client_id": f"client-{identity}",
                "client_secret": f"shpss_sandbox_{identity}",
                **spec.get("credentials", {}),
            },
        )
        for place in spec.get("locations") or [{"name": "Main warehouse"}]:
            number = str(place.get("id") or 71_000_000_000 + world.serial("location"))
            known = {key: str(value) for key, value in place.items() if key in Location.__dataclass_fields__}
            store.locations[number] = Location(**{**known, "id": number, "name": str(place["name"])})  # type: ignore[arg-type]
        store.open_shop(world)
        store.points, store.points_at = store.bucket, world.now()
        for topic, uri in spec.get("webhooks", {}).items():
            subscribe(store, topic, uri)
        return store

    def owns(self, host: str) -> bool:
        return host.endswith(".myshopify.com")

    async def handle(self, world: World, host: str, request: Request) -> Answer:
        store = next(
            (s for s in world.shops.values() if isinstance(s, ShopifyStore) and s.domain == host), None
        )
        if store is None:
            return Answer.json({"errors": "Not Found"}, 404)
        if request.raw_path == "/admin/oauth/access_token" and request.method == "POST":
            return await world.perform(
                store, "oauth_access_token", request, lambda: self._token(store, request)
            )
        if request.raw_path != f"/admin/api/{API_VERSION}/graphql.json":
            return Answer.json({"errors": "Not Found"}, 404)
        if request.method != "POST":
            return Answer.json({"errors": "Method Not Allowed"}, 405)
        token = request.headers.get("x-shopify-access-token", "")
        if not hmac.compare_digest(token.encode(), store.credentials["access_token"].encode()):
            store.count("unauthorized")
            text = "[API] Invalid API key or access token (unrecognized login or wrong password)"
            return Answer.json({"errors": text}, 401)
        if not request.headers.get("content-type", "").startswith("application/json"):
            return Answer.json({"errors": "Unsupported Media Type: send application/json"}, 415)
        prepared = self._prepare(world, store, request)
        if isinstance(prepared, Answer):
            return await world.perform(store, "invalid", request, lambda: prepared)
        document, run = prepared
        try:
            name = run.operation.name
            requested = run.requested_cost()
        except graphql.GraphQLError as failed:
            refused = store._errors([{"message": failed.message}])
            return await world.perform(store, "invalid", request, lambda: refused)
        return await world.perform(
            store, name, request, lambda: store.graphql(document, run, name, requested)
        )

    def _prepare(self, world: World, store: ShopifyStore, request: Request) -> Answer | tuple[Any, Run]:
        try:
            body = request.json()
        except ValueError:
            return Answer.json({"errors": "Bad Request: the body is not JSON"}, 400)
        if not isinstance(body, dict) or not isinstance(body.get("query"), str):
            return Answer.json({"errors": "Required parameter missing or invalid: query"}, 400)
        variables = body.get("variables") or {}
        if not isinstance(variables, dict):
            return Answer.json({"errors": "variables must be an object"}, 400)
        try:
            document = compiled(body["query"])
        except graphql.GraphQLError as failed:
            return store._errors([_located(failed)])
        if document.errors:
            return store._errors([_located(error) for error in document.errors])
        try:
            run = Run(document.operation(body.get("operationName")), variables, Call(store, world))
        except Refusal as refusal:
            return store._errors([{"message": str(refusal), "extensions": {"code": refusal.code}}])
        if run.variable_errors:
            return store._errors(
                [{**_located(e), "extensions": {"code": "INVALID_VARIABLE"}} for e in run.variable_errors]
            )
        return document, run

    @staticmethod
    def _token(store: ShopifyStore, request: Request) -> Answer:
        try:
            body = request.json()
        except ValueError:
            body = {
                name: values[0]
                for name, values in Request("", "?" + request.body.decode(), {}, b"").query.items()
            }
        right = store.credentials
        if body.get("client_id") != right["client_id"] or body.get("client_secret") != right["client_secret"]:
            return Answer.json({"error": "invalid_client"}, 401)
        if body.get("grant_type") != "client_credentials" and not body.get("code"):
            return Answer.json({"error": "invalid_request", "error_description": "code is missing"}, 400)
        return Answer.json(
            {"access_token": right["access_token"], "scope": "read_orders,write_orders,write_inventory"}
        )


def _located(error: graphql.GraphQLError) -> dict[str, Any]:
    places = [{"line": place.line, "column": place.column} for place in error.locations or []]
    return {"message": error.message, **({"locations": places} if places else {})}


def subscribe(
    store: ShopifyStore, topic: str, uri: str, include_fields: list[str] | None = None, name: str = ""
) -> Subscription:
    """Add a webhook subscription. Raises SandboxError when the address is not one Shopify would accept."""
    local = uri.startswith(
        ("http://127.0.0.1", "http://localhost")
    )  # the only plain addresses a local run can have
    if not uri.startswith("https://") and not local:
        raise SandboxError("Address protocol http:// is not supported")
    topic_path(topic)
    if any(s.topic == topic and s.uri == uri for s in store.subscriptions.values()):
        raise SandboxError("Address for this topic has already been taken")
    now = store.world.now()
    number = str(1_400_000_000_000 + store.world.serial("subscription"))
    subscription = Subscription(number, topic, uri, now, now, include_fields=include_fields or [], name=name)
    store.subscriptions[number] = subscription
    return subscription
