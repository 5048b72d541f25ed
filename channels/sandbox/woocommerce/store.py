"""A WooCommerce shop: keys, products with variations, orders, refunds, notes and webhooks behind REST API v3.

Closed: a field that the REST schema does not name is refused here, although the real one passes over it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from channels.sandbox.check import problems
from channels.sandbox.http import Answer, Request
from channels.sandbox.shop import Fulfilment, Item, Location, Order, Refund, RefundLine, Shop
from channels.sandbox.world import World

ROOT = "/wp-json/wc/v3/"
STATUSES = ("pending", "processing", "on-hold", "completed", "cancelled", "refunded", "failed", "trash")
TOPICS = ("order.created", "order.updated", "order.deleted", "order.restored", "product.updated")
FAILURES_ALLOWED = 5  # in a row; then the shop disables the webhook

_META = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["key"],
        "properties": {"id": {"type": "integer"}, "key": {"type": "string", "minLength": 1}, "value": {}},
    },
}
_STOCK = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "integer"},
        "manage_stock": {"type": "boolean"},
        "stock_quantity": {"type": "integer"},
    },
}
BATCH = {"type": "object", "properties": {"update": {"type": "array", "items": _STOCK}}}
UPDATE_ORDER = {
    "type": "object",
    "properties": {"status": {"type": "string", "enum": list(STATUSES)}, "meta_data": _META},
}
NOTE = {
    "type": "object",
    "required": ["note"],
    "properties": {"note": {"type": "string", "minLength": 1}, "customer_note": {"type": "boolean"}},
}
REFUND = {
    "type": "object",
    "required": ["amount"],
    "properties": {
        "amount": {"type": "string", "pattern": r"^\d+(\.\d+)?$"},
        "reason": {"type": "string"},
        "api_refund": {"type": "boolean"},
        "api_restock": {"type": "boolean"},
        "meta_data": _META,
        "line_items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id"],
                "properties": {
                    "id": {"type": "integer"},
                    "quantity": {"type": "integer", "minimum": 0},
                    "refund_total": {},
                },
            },
        },
    },
}
WEBHOOK = {
    "type": "object",
    "required": ["topic", "delivery_url"],
    "properties": {
        "name": {"type": "string"},
        "topic": {"type": "string", "enum": list(TOPICS)},
        "delivery_url": {"type": "string", "pattern": "^https?://"},
        "secret": {"type": "string"},
        "status": {"type": "string", "enum": ["active", "paused", "disabled"]},
    },
}
UPDATE_WEBHOOK = {"type": "object", "properties": {"status": WEBHOOK["properties"]["status"]}}  # type: ignore[index]


def gmt(moment: float) -> str | None:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S") if moment else None


def local(moment: float) -> str | None:
    """The shop's own clock, three hours behind: whoever reads these fields instead of *_gmt is wrong."""
    shown = datetime.fromtimestamp(moment, UTC) - timedelta(hours=3) if moment else None
    return shown.strftime("%Y-%m-%dT%H:%M:%S") if shown else None


def sign(secret: str, body: bytes) -> str:
    """X-WC-Webhook-Signature: base64 of the HMAC-SHA256 of the raw body with the webhook's secret."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


class WooError(Exception):
    """A refusal in the shape of the WordPress REST API."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def answer(self) -> Answer:
        return Answer.json(
            {"code": self.code, "message": str(self), "data": {"status": self.status}}, self.status
        )


@dataclass
class Hook:
    id: int
    name: str
    topic: str
    url: str
    secret: str
    status: str = "active"
    failures: int = 0
    created_at: float = 0.0


@dataclass
class Note:
    id: int
    at: float
    text: str
    customer: bool


@dataclass
class WooStore(Shop):
    domain: str = ""
    path: str = ""
    hooks: dict[str, Hook] = field(default_factory=dict)
    notes: dict[str, list[Note]] = field(default_factory=dict)  # by order id
    meta: dict[str, dict[str, Any]] = field(default_factory=dict)  # by order or refund id
    set_status: dict[str, str] = field(
        default_factory=dict
    )  # by order id, where it does not follow from the facts
    parents: dict[str, str] = field(default_factory=dict)  # titles of variable products by number

    # --- identity -----------------------------------------------------------------------------------
    @property
    def hosts(self) -> list[str]:
        return [self.domain]

    def new_order_identity(self) -> tuple[str, int, str]:
        number = 700 + self.world.serial("woo_object")
        return str(number), number, str(number)

    def add_item(self, spec: dict[str, Any]) -> Item:
        """`parent` (a title) makes the item a variation of that product, `option` tells it from the others."""
        item = super().add_item(spec)
        title = str(spec.get("parent", ""))
        if title:
            number = next((key for key, known in self.parents.items() if known == title), "")
            if not number:
                number = str(self.world.serial("item"))
                self.parents[number] = title
            item.attributes = {"parent": int(number), "option": str(spec.get("option", item.title))}
        item.attributes["manage_stock"] = bool(spec.get("manage_stock", True))
        return item

    def describe(self) -> dict[str, Any]:
        return {
            "store_url": f"https://{self.domain}{self.path}",
            "credentials": self.credentials,
            "catalogue": [{"sku": item.sku, "listing": self.listing(item)} for item in self.items.values()],
            "webhooks": [vars(hook) for hook in self.hooks.values()],
            "notes": {number: [vars(note) for note in notes] for number, notes in self.notes.items()},
        }

    @staticmethod
    def listing(item: Item) -> str:
        parent = item.attributes.get("parent")
        return f"{parent}/{item.number}" if parent else str(item.number)

    def expire_tokens(self) -> int:
        """The keys are revoked; new ones stand in `credentials`."""
        self.count("tokens_revoked")
        self.credentials["consumer_secret"] = f"cs_sandbox_{self.id}_{self.counts['tokens_revoked']}"
        return 1

    def failure(self, status: int) -> Answer:
        body = b"<html><body><h1>Error establishing a database connection</h1></body></html>"
        return Answer(status, body, {"content-type": "text/html; charset=utf-8"})

    def throttled(self, operation: str) -> Answer:
        return Answer(429, b"Too Many Requests", {"content-type": "text/plain", "retry-after": "2"})

    # --- what it shows ------------------------------------------------------------------------------
    def stock_of(self, item: Item) -> int:
        return sum(stock.available for stock in item.stock.values())

    def status_of(self, order: Order) -> str:
        if order.cancelled_at:
            return "cancelled"
        known = self.set_status.get(order.id)
        if known:
            return known
        return {"paid": "processing", "pending": "pending", "authorized": "on-hold"}.get(
            order.payment, "failed"
        )

    def show_product(self, item: Item) -> dict[str, Any]:
        parent = item.attributes.get("parent")
        managed = bool(item.attributes.get("manage_stock", True))
        shown: dict[str, Any] = {
            "id": item.number,
            "name": item.title,
            "type": "variation" if parent else "simple",
            "status": "publish",
            "sku": item.sku,
            "price": item.price,
            "manage_stock": managed,
            "stock_quantity": self.stock_of(item) if managed else None,
            "stock_status": "instock" if not managed or self.stock_of(item) > 0 else "outofstock",
            "date_modified_gmt": gmt(item.updated_at),
            "parent_id": parent or 0,
            "variations": [],
        }
        if parent:
            shown["attributes"] = [{"id": 6, "name": "Option", "option": item.attributes["option"]}]
        return shown

    def show_parent(self, number: str) -> dict[str, Any]:
        mine = [x.number for x in self.items.values() if str(x.attributes.get("parent")) == number]
        return {
            "id": int(number), "name": self.parents[number], "type": "variable", "status": "publish", "sku": "",
            "price": "", "manage_stock": False, "stock_quantity": None, "parent_id": 0, "variations": mine,
        }  # fmt: skip

    def show_order(self, order: Order) -> dict[str, Any]:
        first, _, last = order.address.get("name", "").partition(" ")
        address = {
            "first_name": first,
            "last_name": last,
            "company": order.address.get("company", ""),
            "address_1": order.address.get("address1", ""),
            "address_2": order.address.get("address2", ""),
            "city": order.address.get("city", ""),
            "state": order.address.get("province_code", ""),
            "postcode": order.address.get("zip", ""),
            "country": order.address.get("country_code", ""),
            "phone": order.phone,
        }
        lines: list[dict[str, Any]] = []
        for line in order.lines:
            item = self.items[line.sku]
            before = Decimal(line.price) * line.quantity
            lines.append(
                {
                    "id": int(line.id), "name": line.title, "product_id": item.attributes.get("parent") or item.number,
                    "variation_id": item.number if item.attributes.get("parent") else 0, "quantity": line.quantity,
                    "tax_class": "", "subtotal": f"{before:.2f}", "subtotal_tax": line.tax,
                    "total": f"{before - Decimal(line.discount):.2f}", "total_tax": line.tax, "taxes": [],
                    "meta_data": [], "sku": line.sku, "price": float(line.price),
                }
            )  # fmt: skip
        discount = sum((Decimal(line.discount) for line in order.lines), Decimal(0))
        paid = order.created_at if order.payment == "paid" else 0
        return {
            "id": int(order.id),
            "parent_id": 0,
            "number": order.name,
            "status": self.status_of(order),
            "currency": order.currency,
            "date_created": local(order.created_at),
            "date_created_gmt": gmt(order.created_at),
            "date_modified": local(order.updated_at),
            "date_modified_gmt": gmt(order.updated_at),
            "discount_total": f"{discount:.2f}",
            "discount_tax": "0.00",
            "shipping_total": order.shipping_price,
            "shipping_tax": "0.00",
            "cart_tax": f"{order.tax:.2f}",
            "total": f"{order.total:.2f}",
            "total_tax": f"{order.tax:.2f}",
            "prices_include_tax": False,
            "customer_note": order.note,
            "billing": {**address, "email": order.email},
            "shipping": address,
            "payment_method": "stripe",
            "date_paid": local(paid),
            "date_paid_gmt": gmt(paid),
            "meta_data": [
                {"id": number, "key": key, "value": value}
                for number, (key, value) in enumerate(self.meta.get(order.id, {}).items(), 9000)
            ],
            "line_items": lines,
            "shipping_lines": [
                {
                    "id": 1,
                    "method_title": order.shipping_title,
                    "method_id": "flat_rate",
                    "total": order.shipping_price,
                }
            ],
            "fee_lines": [],
            "coupon_lines": [],
            "refunds": [
                {"id": int(r.id), "reason": r.reason, "total": f"-{r.amount}"} for r in order.refunds
            ],
        }

    def show_refund(self, refund: Refund) -> dict[str, Any]:
        return {
            "id": int(refund.id),
            "date_created_gmt": gmt(refund.at),
            "amount": refund.amount,
            "reason": refund.reason,
            "refunded_payment": refund.note == "gateway",
            "meta_data": [
                {"id": number, "key": key, "value": value}
                for number, (key, value) in enumerate(self.meta.get(f"refund-{refund.id}", {}).items(), 9500)
            ],
            "line_items": [
                {
                    "id": int(refund.id) * 100 + number, "quantity": -line.quantity, "total": f"-{line.amount}",
                    "meta_data": [{"id": 1, "key": "_refunded_item_id", "value": line.line_id}],
                }
                for number, line in enumerate(refund.lines)
            ],
        }  # fmt: skip

    # --- news ---------------------------------------------------------------------------------------
    def announce(self, event: str, order: Order, **facts: Any) -> None:
        self.send(
            "order.created" if event == "created" else "order.updated", self.show_order(order), order.id
        )

    def announce_stock(self, item: Item, location_id: str) -> None:
        self.send("product.updated", self.show_product(item), "")

    def send(self, topic: str, body: dict[str, Any], order_id: str) -> int:
        sent = 0
        for hook in list(self.hooks.values()):
            if hook.topic != topic or hook.status != "active":
                continue
            raw = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
            self.world.sender.post(
                self, topic, hook.url,
                {
                    "Content-Type": "application/json",
                    "User-Agent": "WooCommerce/9.9 Hookshot (WordPress/6.8)",
                    "X-WC-Webhook-Source": f"https://{self.domain}{self.path}/",
                    "X-WC-Webhook-Topic": topic,
                    "X-WC-Webhook-Resource": topic.partition(".")[0],
                    "X-WC-Webhook-Event": topic.partition(".")[2],
                    "X-WC-Webhook-Signature": sign(hook.secret, raw),
                    "X-WC-Webhook-ID": str(hook.id),
                    "X-WC-Webhook-Delivery-ID": self._delivery_id(),
                },
                raw, order_id=order_id, gave_up=lambda hook=hook: self._failed(hook),  # type: ignore[misc]
            )  # fmt: skip
            sent += 1
        return sent

    def _delivery_id(self) -> str:
        return hashlib.sha256(f"{self.id}:{self.world.serial('delivery')}".encode()).hexdigest()[:32]

    def _failed(self, hook: Hook) -> None:
        """The platform never tries again; five failures in a row disable the webhook."""
        hook.failures += 1
        if hook.failures >= FAILURES_ALLOWED:
            hook.status = "disabled"


class WooCommerce:
    kind = "woocommerce"
    shop_class = WooStore

    def create(self, world: World, spec: dict[str, Any]) -> WooStore:
        """spec: id, name, currency, seed, domain, path, credentials, settings {webhook_retry_seconds}, catalogue with
        `parent` and `option` for variations."""
        identity = spec["id"]
        store = WooStore(
            id=identity,
            kind=self.kind,
            name=str(spec.get("name", identity)),
            currency=str(spec.get("currency", "USD")),
            created_at=world.now(),
            seed=int(spec.get("seed", 1)),
            settings={"webhook_retry_seconds": [], **spec.get("settings", {})},
            domain=str(spec.get("domain", f"{identity}.shop.example")).lower(),
            path=str(spec.get("path", "")),
            credentials={
                "consumer_key": f"ck_sandbox_{identity}",
                "consumer_secret": f"cs_sandbox_{identity}",
                **spec.get("credentials", {}),
            },
        )
        number = str(900 + world.serial("location"))
        store.locations[number] = Location(number, "Shop")
        store.open_shop(world)
        return store

    def owns(self, host: str) -> bool:
        return host.endswith(".shop.example")

    async def handle(self, world: World, host: str, request: Request) -> Answer:
        store = next((s for s in world.shops.values() if isinstance(s, WooStore) and s.domain == host), None)
        if store is None or not request.raw_path.startswith(store.path + ROOT):
            return WooError(
                404, "rest_no_route", "No route was found matching the URL and request method."
            ).answer()
        pair = f"{store.credentials['consumer_key']}:{store.credentials['consumer_secret']}"
        wanted = "Basic " + base64.b64encode(pair.encode()).decode()
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), wanted.encode()):
            store.count("unauthorized")
            return WooError(401, "woocommerce_rest_cannot_view", "Sorry, you cannot list resources.").answer()
        path = request.raw_path[len(store.path + ROOT) :].strip("/")
        for method, pattern, name, act in ROUTES:
            found = pattern.fullmatch(path)
            if found and method == request.method:
                return await world.perform(
                    store,
                    name,
                    request,
                    lambda act=act, found=found: _act(store, request, act, found),
                )
        return WooError(
            404, "rest_no_route", "No route was found matching the URL and request method."
        ).answer()


Act = Callable[[WooStore, Any, dict[str, str], "re.Match[str]"], Any]


def _act(store: WooStore, request: Request, act: Act, found: re.Match[str]) -> Answer:
    try:
        body = request.json() if request.body else None
    except ValueError:
        return WooError(400, "rest_invalid_json", "Invalid JSON body passed.").answer()
    query = {name: values[-1] for name, values in request.query.items()}
    try:
        if store.forced:
            raise WooError(400, store.forced, "refused on purpose")
        result = act(store, body, query, found)
    except WooError as error:
        return error.answer()
    return result if isinstance(result, Answer) else Answer.json(result)


def _fits(body: Any, schema: dict[str, Any]) -> None:
    wrong = problems(body, schema)
    if wrong:
        raise WooError(400, "rest_invalid_param", f"Invalid parameter(s): {'; '.join(wrong)}")


def _page(rows: list[Any], query: dict[str, str], allowed: set[str]) -> Answer:
    unknown = sorted(set(query) - allowed - {"per_page", "page"})
    if unknown:
        raise WooError(400, "rest_invalid_param", f"Invalid parameter(s): {', '.join(unknown)}")
    size, page = int(query.get("per_page", 10)), int(query.get("page", 1))
    if not 1 <= size <= 100:
        raise WooError(
            400, "rest_invalid_param", "per_page must be between 1 (inclusive) and 100 (inclusive)"
        )
    shown = rows[(page - 1) * size : page * size]
    pages = -(-len(rows) // size)
    return Answer.json(shown, headers={"X-WP-Total": str(len(rows)), "X-WP-TotalPages": str(pages)})


def _included(rows: list[Any], query: dict[str, str]) -> list[Any]:
    if not query.get("include"):
        return rows
    wanted = set(query["include"].split(","))
    return [row for row in rows if str(row["id"]) in wanted]


def _find(store: WooStore, number: str) -> Order:
    if number not in store.orders:
        raise WooError(404, "woocommerce_rest_shop_order_invalid_id", "Invalid ID.")
    return store.orders[number]


def list_orders(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    after = query.get("modified_after", "")
    if after and query.get("dates_are_gmt") != "true":
        raise WooError(
            400, "rest_invalid_param", "modified_after without dates_are_gmt is the shop's own time"
        )
    orders = sorted(store.orders.values(), key=lambda order: (order.updated_at, order.number))
    rows = [
        store.show_order(o)
        for o in orders
        if store.status_of(o) != "trash" and str(gmt(o.updated_at)) > after
    ]
    allowed = {"orderby", "order", "status", "modified_after", "dates_are_gmt", "include"}
    return _page(_included(rows, query), query, allowed)


def get_order(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    return store.show_order(_find(store, found["order"]))


def update_order(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    _fits(body, UPDATE_ORDER)
    order = _find(store, found["order"])
    for entry in body.get("meta_data", ()):
        store.meta.setdefault(order.id, {})[entry["key"]] = entry.get("value")
    status = body.get("status")
    if status == "cancelled" and not order.cancelled_at:
        store.cancel(order, "staff", restock=True, by="merchant")
    elif status == "completed" and store.status_of(order) != "completed":
        parts = {one.id: dict(one.remaining) for one in order.assignments if one.is_open}
        units: dict[str, int] = {}
        for share in parts.values():
            for line, quantity in share.items():
                units[line] = units.get(line, 0) + quantity
        store.set_status[order.id] = "completed"
        number = str(store.world.serial("fulfilment"))
        noted = store.meta.get(order.id, {}).get("_lading_parcels", "[]")
        tracking = [row["tracking"] for row in json.loads(noted)]
        at = store.world.now()
        where = order.assignments[0].location_id
        store.fulfil(order, parts, Fulfilment(number, at, at, where, units, list(parts), tracking=tracking))
    else:
        if status:
            store.set_status[order.id] = status
        store.touch(order)
        store.announce("updated", order)
    return store.show_order(order)


def list_notes(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    order = _find(store, found["order"])
    kind = query.get("type", "any")
    rows = [n for n in store.notes.get(order.id, ()) if kind == "any" or n.customer == (kind == "customer")]
    return [
        {"id": n.id, "note": n.text, "customer_note": n.customer, "date_created_gmt": gmt(n.at)} for n in rows
    ]


def add_note(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    _fits(body, NOTE)
    order = _find(store, found["order"])
    note = Note(store.world.serial("note"), store.world.now(), body["note"], bool(body.get("customer_note")))
    store.notes.setdefault(order.id, []).append(note)
    store.count("buyer_mails", int(note.customer))
    return Answer.json({"id": note.id, "note": note.text, "customer_note": note.customer}, 201)


def list_refunds(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    order = _find(store, found["order"])
    return _page([store.show_refund(one) for one in order.refunds], query, set())


def add_refund(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    _fits(body, REFUND)
    order = _find(store, found["order"])
    amount = Decimal(body["amount"])
    if amount > order.total - order.refunded_amount:
        raise WooError(400, "woocommerce_rest_cannot_create_order_refund", "Invalid refund amount.")
    lines = []
    for entry in body.get("line_items", ()):
        line = next((one for one in order.lines if one.id == str(entry["id"])), None)
        quantity = entry.get("quantity", 0)
        if line is None or quantity > line.quantity - line.refunded - line.cancelled:
            raise WooError(
                400, "woocommerce_rest_cannot_create_order_refund", "Invalid line item or quantity."
            )
        try:
            money = Decimal(str(entry.get("refund_total", 0)))
        except InvalidOperation:
            raise WooError(400, "rest_invalid_param", "refund_total is not a number") from None
        restock = "restock" if body.get("api_restock", True) else "none"
        lines.append(RefundLine(line.id, quantity, restock, amount=f"{money:.2f}"))
    number = str(700 + store.world.serial("woo_object"))
    way = "gateway" if body.get("api_refund", True) else "record"
    refund = Refund(
        number, store.world.now(), lines, f"{amount:.2f}", note=way, reason=body.get("reason", "")
    )
    for entry in body.get("meta_data", ()):
        store.meta.setdefault(f"refund-{number}", {})[entry["key"]] = entry.get("value")
    for one in lines:
        line = order.line(one.line_id)
        early = min(one.quantity, line.open)
        store.take_off(order, line, early, restock=one.restock == "restock")
        line.refunded += one.quantity - early
    store.add_refund(order, refund)
    if order.refunded_amount >= order.total:
        store.set_status[order.id] = "refunded"
    return Answer.json(store.show_refund(refund), 201)


def list_products(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    rows = [store.show_product(item) for item in store.items.values() if not item.attributes.get("parent")]
    rows += [store.show_parent(number) for number in store.parents]
    rows.sort(key=lambda row: row["id"])
    return _page(_included(rows, query), query, {"orderby", "order", "status", "include", "sku"})


def _children(store: WooStore, number: str) -> list[Item]:
    if number not in store.parents:
        raise WooError(404, "woocommerce_rest_product_invalid_id", "Invalid ID.")
    return [item for item in store.items.values() if str(item.attributes.get("parent")) == number]


def list_variations(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    rows = [store.show_product(item) for item in _children(store, found["product"])]
    return _page(_included(rows, query), query, {"orderby", "order", "include"})


def _batch(store: WooStore, body: Any, known: dict[int, Item], kind: str) -> Any:
    _fits(body, BATCH)
    if len(body.get("update", ())) > 100:
        raise WooError(
            413, "woocommerce_rest_request_entity_too_large", "Unable to accept more than 100 items."
        )
    rows = []
    for entry in body.get("update", ()):
        item = known.get(entry["id"])
        if item is None:
            error = {
                "code": f"woocommerce_rest_{kind}_invalid_id",
                "message": "Invalid ID.",
                "data": {"status": 400},
            }
            rows.append({"id": entry["id"], "error": error})
            continue
        if "manage_stock" in entry:
            item.attributes["manage_stock"] = entry["manage_stock"]
        if "stock_quantity" in entry and item.attributes.get("manage_stock", True):
            store.set_stock(item.sku, entry["stock_quantity"])
        item.updated_at = store.world.now()
        rows.append(store.show_product(item))
    return {"update": rows}


def update_products(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    known = {item.number: item for item in store.items.values() if not item.attributes.get("parent")}
    return _batch(store, body, known, "product")


def update_variations(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    known = {item.number: item for item in _children(store, found["product"])}
    return _batch(store, body, known, "product_variation")


def currency(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    return {"id": "woocommerce_currency", "label": "Currency", "value": store.currency, "group_id": "general"}


def _show_hook(hook: Hook) -> dict[str, Any]:
    return {
        "id": hook.id, "name": hook.name, "status": hook.status, "topic": hook.topic, "delivery_url": hook.url,
        "resource": hook.topic.partition(".")[0], "event": hook.topic.partition(".")[2],
        "date_created_gmt": gmt(hook.created_at),
    }  # fmt: skip


def list_hooks(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    status = query.get("status", "all")
    rows = [_show_hook(hook) for hook in store.hooks.values() if status in ("all", hook.status)]
    return _page(rows, query, {"status"})


def add_hook(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    _fits(body, WEBHOOK)
    number = store.world.serial("hook")
    hook = Hook(
        number, body.get("name", ""), body["topic"], body["delivery_url"],
        body.get("secret") or store.credentials["consumer_secret"], body.get("status", "active"),
        created_at=store.world.now(),
    )  # fmt: skip
    store.hooks[str(number)] = hook
    store.world.sender.post(
        store,
        "ping",
        hook.url,
        {"Content-Type": "application/x-www-form-urlencoded"},
        f"webhook_id={number}".encode(),
    )
    return Answer.json(_show_hook(hook), 201)


def update_hook(store: WooStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    _fits(body, UPDATE_WEBHOOK)
    hook = store.hooks.get(found["hook"])
    if hook is None:
        raise WooError(404, "woocommerce_rest_shop_webhook_invalid_id", "Invalid ID.")
    hook.status = body.get("status", hook.status)
    hook.failures = 0 if hook.status == "active" else hook.failures
    return _show_hook(hook)


ROUTES: list[tuple[str, re.Pattern[str], str, Act]] = [
    (method, re.compile(pattern), act.__name__, act)
    for method, pattern, act in [
        ("GET", r"orders", list_orders),
        ("GET", r"orders/(?P<order>\d+)", get_order),
        ("PUT", r"orders/(?P<order>\d+)", update_order),
        ("GET", r"orders/(?P<order>\d+)/notes", list_notes),
        ("POST", r"orders/(?P<order>\d+)/notes", add_note),
        ("GET", r"orders/(?P<order>\d+)/refunds", list_refunds),
        ("POST", r"orders/(?P<order>\d+)/refunds", add_refund),
        ("GET", r"products", list_products),
        ("POST", r"products/batch", update_products),
        ("GET", r"products/(?P<product>\d+)/variations", list_variations),
        ("POST", r"products/(?P<product>\d+)/variations/batch", update_variations),
        ("GET", r"settings/general/woocommerce_currency", currency),
        ("GET", r"webhooks", list_hooks),
        ("POST", r"webhooks", add_hook),
        ("PUT", r"webhooks/(?P<hook>\d+)", update_hook),
    ]
]
