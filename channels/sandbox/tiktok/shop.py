"""A TikTok Shop: signed requests, tokens that expire, units instead of quantities, packages, cancellations, returns.

Refusals are HTTP 200 with a code. A unit's id is its line's number and two digits.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from channels.sandbox.check import problems
from channels.sandbox.http import Answer, Request
from channels.sandbox.shop import Fulfilment, Item, Line, Location, Order, Refund, SandboxError, Shop
from channels.sandbox.tiktok import schemas
from channels.sandbox.world import World

API_HOST = "open-api.tiktokglobalshop.com"
AUTH_HOST = "auth.tiktok-shops.com"
CLOCK_SKEW = 300
CANCEL_REASONS = (
    "seller_cancel_reason_out_of_stock",
    "seller_cancel_reason_wrong_price",
    "seller_cancel_buyer_asked",
)
REFUND_REASONS = ("seller_refund_goodwill", "seller_refund_damaged")
PROVIDERS = {"7117858858072016686": "USPS", "7117859084333745966": "UPS", "7129720299146184490": "FedEx"}
MESSAGES = {
    "created": ("ORDER_STATUS_CHANGE", 1),
    "paid": ("ORDER_STATUS_CHANGE", 1),
    "fulfilled": ("ORDER_STATUS_CHANGE", 1),
    "cancelled": ("ORDER_STATUS_CHANGE", 1),
    "updated": ("RECIPIENT_ADDRESS_UPDATE", 3),
    "cancel_requested": ("CANCELLATION_STATUS_CHANGE", 11),
    "return": ("RETURN_STATUS_CHANGE", 12),
    "refunded": ("REVERSE_STATUS_UPDATE", 2),
}


def sign(secret: str, path: str, query: dict[str, str], body: bytes) -> str:
    """What the `sign` field must be."""
    parts = [f"{key}{value}" for key, value in sorted(query.items()) if key not in ("sign", "access_token")]
    text = f"{secret}{path}{''.join(parts)}".encode() + body + secret.encode()
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


class TikTokError(Exception):
    """A refusal: a code in an answer that is HTTP 200 unless it speaks of the token."""

    def __init__(self, code: int, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.code, self.status = code, status

    def answer(self) -> Answer:
        body = {"code": self.code, "message": str(self), "request_id": "sandbox", "data": {}}
        return Answer.json(body, self.status)


@dataclass
class Package:
    id: str
    order_id: str
    units: list[str]
    provider: str
    tracking: str
    at: float


@dataclass
class Cancel:
    id: str
    order_id: str
    kind: str
    status: str
    reason: str
    units: list[str]
    at: float


@dataclass
class Back:
    id: str
    order_id: str
    role: str
    kind: str
    status: str
    reason: str
    units: list[str]
    total: str
    at: float


@dataclass
class TikTokStore(Shop):
    number: str = ""
    cipher: str = ""
    region: str = "US"
    tokens: dict[str, float] = field(default_factory=dict)  # access token → expires at
    refresh_tokens: list[str] = field(default_factory=list)  # the last two are taken
    codes: list[str] = field(default_factory=list)
    hooks: dict[str, str] = field(default_factory=dict)  # event type → address
    packages: dict[str, Package] = field(default_factory=dict)
    cancels: dict[str, Cancel] = field(default_factory=dict)
    backs: dict[str, Back] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)  # idempotency key → return id
    products: dict[str, str] = field(default_factory=dict)  # title by id
    marks: dict[str, dict[str, Any]] = field(default_factory=dict)  # further fields of an order

    @property
    def hosts(self) -> list[str]:
        return [API_HOST, AUTH_HOST]

    def new_order_identity(self) -> tuple[str, int, str]:
        number = 576_400_000_000_000_000 + self.world.serial("tiktok_order")
        return str(number), number, str(number)

    def add_item(self, spec: dict[str, Any]) -> Item:
        """`parent` (a title) makes the item one SKU of that product."""
        item = super().add_item(spec)
        title = str(spec.get("parent") or item.title)
        number = next(
            (key for key, known in self.products.items() if spec.get("parent") and known == title), ""
        )
        if not number:
            number = f"1729{self.world.serial('item'):015d}"
            self.products[number] = title
        item.attributes = {"product": number, "option": str(spec.get("option") or "Default")}
        return item

    def describe(self) -> dict[str, Any]:
        return {
            "shop_id": self.number,
            "locations": [{"id": place.id, "name": place.name} for place in self.locations.values()],
            "credentials": {**self.credentials, "auth_code": self.codes[-1] if self.codes else ""},
            "refresh_tokens": self.refresh_tokens,
            "webhooks": self.hooks,
            "catalogue": [
                {"sku": x.sku, "listing": f"{x.attributes['product']}/{sku_id(x)}"} for x in self.items.values()
            ],
            "packages": [vars(one) for one in self.packages.values()],
            "cancels": [vars(one) for one in self.cancels.values()],
            "backs": [vars(one) for one in self.backs.values()],
        }  # fmt: skip

    def expire_tokens(self) -> int:
        """Access tokens die; with the setting `revoked` refresh tokens are refused as well."""
        count = len(self.tokens)
        self.tokens.clear()
        return count

    def failure(self, status: int) -> Answer:
        return TikTokError(36009003, "Internal error. Please try again.", status).answer()

    def throttled(self, operation: str) -> Answer:
        answer = TikTokError(36009002, "Too many requests. Please slow down.", 429).answer()
        answer.headers["retry-after"] = "1"
        return answer

    # --- what it shows ------------------------------------------------------------------------------
    def units(self, order: Order) -> list[tuple[str, Line, str, Package | None]]:
        """(unit id, line, state, package) of every unit; state: open, away, gone."""
        inside = {
            unit: one for one in self.packages.values() if one.order_id == order.id for unit in one.units
        }
        gone = {
            unit
            for one in self.cancels.values()
            if one.order_id == order.id and one.status == "CANCELLATION_REQUEST_SUCCESS"
            for unit in one.units
        }
        found: list[tuple[str, Line, str, Package | None]] = []
        for line in order.lines:
            ids = [f"{line.id}{n:02d}" for n in range(1, line.quantity + 1)]
            lost = {unit for unit in ids if unit in gone}
            for unit in reversed(ids):
                if len(lost) < line.cancelled and unit not in inside:
                    lost.add(unit)
            for unit in ids:
                state = (
                    "gone" if unit in lost else "away" if unit in inside and inside[unit].tracking else "open"
                )
                found.append((unit, line, state, inside.get(unit)))
        return found

    def status_of(self, order: Order) -> str:
        states = [state for _, _, state, _ in self.units(order)]
        if order.cancelled_at or all(state == "gone" for state in states):
            return "CANCELLED"
        if order.payment != "paid":
            return "ON_HOLD" if order.payment == "authorized" else "UNPAID"
        if "away" not in states:
            return "AWAITING_SHIPMENT"
        if "open" in states:
            return "PARTIALLY_SHIPPING"
        return "DELIVERED" if order.delivered_at else "AWAITING_COLLECTION"

    def show_order(self, order: Order) -> dict[str, Any]:
        status = self.status_of(order)
        units = []
        for unit, line, state, package in self.units(order):
            item = self.items[line.sku]
            shown = {
                "id": unit, "product_id": item.attributes["product"], "product_name": line.title,
                "sku_id": sku_id(item), "sku_name": item.attributes["option"], "seller_sku": line.sku,
                "currency": order.currency, "original_price": line.price,
                "sale_price": f"{Decimal(line.price) - Decimal(line.discount) / line.quantity:.2f}",
                "seller_discount": f"{Decimal(line.discount) / line.quantity:.2f}", "platform_discount": "0",
                "item_tax": [{"tax_amount": f"{Decimal(line.tax) / line.quantity:.2f}", "tax_type": "SALES_TAX"}],
                "is_gift": False,
                "display_status": {"gone": "CANCELLED", "away": "AWAITING_COLLECTION"}.get(
                    state, "UNPAID" if status in ("UNPAID", "ON_HOLD") else "AWAITING_SHIPMENT"
                ),
            }  # fmt: skip
            if status == "DELIVERED" and state == "away":
                shown["display_status"] = "DELIVERED"
            if package:
                shown |= {
                    "package_id": package.id,
                    "package_status": "PROCESSING" if package.tracking else "TO_FULFILL",
                }
                if package.tracking:
                    shown |= {"tracking_number": package.tracking, "shipping_provider_id": package.provider}
            units.append(shown)
        discount = sum((Decimal(line.discount) for line in order.lines), Decimal(0))
        goods = sum((Decimal(line.price) * line.quantity for line in order.lines), Decimal(0))
        asked = any(
            one.order_id == order.id and one.status == "CANCELLATION_REQUEST_PENDING"
            for one in self.cancels.values()
        )
        shown_order: dict[str, Any] = {
            "id": order.id, "status": status, "create_time": int(order.created_at),
            "update_time": int(order.updated_at), "user_id": "7021436810468230477",
            "buyer_email": order.email, "buyer_message": order.note, "fulfillment_type": "FULFILLMENT_BY_SELLER",
            "shipping_type": "TIKTOK" if self.settings.get("platform_labels") else "SELLER",
            "delivery_option_id": "7091146663229654785",
            "delivery_option_name": order.shipping_title, "warehouse_id": order.assignments[0].location_id,
            "is_buyer_request_cancel": asked, "is_sample_order": order.test, "is_cod": False,
            "rts_sla_time": int(order.ship_by), "tts_sla_time": int(order.ship_by) + 86400,
            "shipping_due_time": int(order.ship_by) + 5 * 86400, "delivery_sla_time": int(order.deliver_by),
            "line_items": units,
            "packages": [{"id": one.id} for one in self.packages.values() if one.order_id == order.id],
            "payment": {
                "currency": order.currency, "original_total_product_price": f"{goods:.2f}",
                "seller_discount": f"{discount:.2f}", "platform_discount": "0", "sub_total": f"{goods - discount:.2f}",
                "shipping_fee": order.shipping_price, "tax": f"{order.tax:.2f}", "product_tax": f"{order.tax:.2f}",
                "total_amount": f"{order.total:.2f}",
            },
            **({"paid_time": int(order.created_at)} if order.payment == "paid" else {}),
            **({"cancel_reason": order.cancel_reason} if order.cancel_reason else {}),
            **self.marks.get(order.id, {}),
        }  # fmt: skip
        if status not in ("UNPAID", "ON_HOLD") and order.address:
            to = order.address
            shown_order["recipient_address"] = {
                "name": to.get("name", ""), "phone_number": order.phone, "address_line1": to.get("address1", ""),
                "address_line2": to.get("address2", ""), "postal_code": to.get("zip", ""),
                "region_code": to.get("country_code", ""),
                "full_address": ", ".join(filter(None, (to.get("address1"), to.get("city"), to.get("zip")))),
                "district_info": [
                    {"address_level": "L0", "address_level_name": "Country", "address_name": "United States"},
                    {"address_level": "L1", "address_level_name": "State", "address_name": to.get("province_code", "")},
                    {"address_level": "L3", "address_level_name": "City", "address_name": to.get("city", "")},
                ],
            }  # fmt: skip
        return shown_order

    def show_cancel(self, one: Cancel) -> dict[str, Any]:
        return {
            "cancel_id": one.id, "order_id": one.order_id, "cancel_type": one.kind, "cancel_status": one.status,
            "cancel_reason": one.reason, "role": "BUYER" if one.kind == "BUYER_CANCEL" else "SELLER",
            "create_time": int(one.at), "update_time": int(one.at),
            "cancel_line_items": [{"cancel_line_item_id": unit, "order_line_item_id": unit} for unit in one.units],
        }  # fmt: skip

    def show_back(self, one: Back) -> dict[str, Any]:
        return {
            "return_id": one.id, "order_id": one.order_id, "role": one.role, "return_type": one.kind,
            "return_status": one.status, "return_reason": one.reason, "create_time": int(one.at),
            "update_time": int(one.at),
            "refund_amount": {"currency": self.currency, "refund_total": one.total},
            "return_line_items": [
                {"return_line_item_id": f"{one.id}{n}", "order_line_item_id": unit} for n, unit in enumerate(one.units)
            ],
        }  # fmt: skip

    def make_packages(self, order: Order) -> None:
        """Where the platform packs beforehand: one package for the whole order."""
        number = f"1152{self.world.serial('package'):015d}"
        units = [unit for unit, _, state, _ in self.units(order) if state == "open"]
        self.packages[number] = Package(number, order.id, units, "", "", self.world.now())

    # --- news ---------------------------------------------------------------------------------------
    def announce(self, event: str, order: Order, **facts: Any) -> None:
        if event == "created" and self.settings.get("packages_first"):
            self.make_packages(order)
        if event == "cancel_requested":
            number = str(40_000 + self.world.serial("tiktok_cancel"))
            units = [unit for unit, _, state, _ in self.units(order) if state == "open"]
            self.cancels[number] = Cancel(
                number, order.id, "BUYER_CANCEL", "CANCELLATION_REQUEST_PENDING", "buyer_no_longer_needs_it", units,
                self.world.now(),
            )  # fmt: skip
        if event == "return":
            self._add_back(order, facts["back"])
        topic, number_of_type = MESSAGES.get(event, ("ORDER_STATUS_CHANGE", 1))
        data = {"order_id": order.id, "update_time": int(order.updated_at)}
        if number_of_type == 1:
            status = self.status_of(order)
            data["order_status"] = "CANCEL" if status == "CANCELLED" else status
        self.send(topic, number_of_type, data, order.id)

    def announce_stock(self, item: Item, location_id: str) -> None:
        """No message of this kind is subscribed to."""

    def send(self, topic: str, number: int, data: dict[str, Any], order_id: str) -> None:
        address = self.hooks.get(topic)
        if not address:
            return
        body = {
            "type": number, "shop_id": self.number, "timestamp": int(self.world.now()),
            "tts_notification_id": f"7327{self.world.serial('delivery'):015d}", "data": data,
        }  # fmt: skip
        raw = json.dumps(body, separators=(",", ":")).encode()
        key, secret = self.credentials["app_key"], self.credentials["app_secret"]
        seal = hmac.new(secret.encode(), key.encode() + raw, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "Authorization": seal}
        self.world.sender.post(self, topic, address, headers, raw, order_id=order_id)

    def _add_back(self, order: Order, back: Any) -> None:
        taken = {unit for one in self.backs.values() for unit in one.units}
        units: list[str] = []
        for entry in back.lines:
            free = [
                u for u, line, state, _ in self.units(order) if line.id == entry.line_id and state == "away"
            ]
            units += [unit for unit in free if unit not in taken][: entry.quantity]
        reason = back.lines[0].reason if back.lines else ""
        self.backs[back.id] = Back(
            back.id, order.id, "BUYER", "RETURN_AND_REFUND", "RETURN_OR_REFUND_REQUEST_PENDING", reason, units, "0",
            self.world.now(),
        )  # fmt: skip


def sku_id(item: Item) -> str:
    return f"17{item.number:017d}"


class TikTokShop:
    kind = "tiktok"
    shop_class = TikTokStore

    def create(self, world: World, spec: dict[str, Any]) -> TikTokStore:
        """spec: id, name, currency, region, seed, locations [{name}], settings {packages_first, revoked, frozen,
        token_seconds, other_shops}, catalogue with `parent` and `option` for SKUs of one product."""
        identity = spec["id"]
        store = TikTokStore(
            id=identity,
            kind=self.kind,
            name=str(spec.get("name", identity)),
            currency=str(spec.get("currency", "USD")),
            created_at=world.now(),
            seed=int(spec.get("seed", 1)),
            settings={"webhook_retry_seconds": [], **spec.get("settings", {})},
            number=f"7494{world.serial('tiktok_shop'):015d}",
            cipher=f"ROW_{identity}",
            region=str(spec.get("region", "US")),
            credentials={"app_key": f"key{identity}", "app_secret": f"secret_{identity}"},
            codes=[f"ROW_code_{identity}"],
        )
        for place in spec.get("locations") or [{"name": "Main"}]:
            number = f"6955{world.serial('location'):015d}"
            store.locations[number] = Location(number, str(place["name"]))
        store.open_shop(world)
        return store

    def owns(self, host: str) -> bool:
        return host in (API_HOST, AUTH_HOST)

    async def handle(self, world: World, host: str, request: Request) -> Answer:
        query = {name: values[-1] for name, values in request.query.items()}
        store = next(
            (
                one
                for one in world.shops.values()
                if isinstance(one, TikTokStore) and one.credentials["app_key"] == query.get("app_key")
            ),
            None,
        )
        if store is None:
            return TikTokError(36009004, "Invalid app_key", 400).answer()
        if host == AUTH_HOST:
            return await world.perform(
                store, "token", request, lambda: _guard(lambda: grant(store, request.raw_path, query))
            )
        for method, pattern, act, schema, fields in ROUTES:
            found = pattern.fullmatch(request.raw_path)
            if not found or method != request.method:
                continue
            try:
                _authorised(store, request, query, act is not list_shops)
            except TikTokError as error:
                store.count("unauthorized")
                return error.answer()
            return await world.perform(
                store,
                act.__name__,
                request,
                lambda act=act, schema=schema, fields=fields, found=found: _guard(
                    lambda: _act(store, request, query, act, schema, fields, found)
                ),
            )
        return TikTokError(36009009, "Invalid path", 404).answer()


def _guard(act: Callable[[], Any]) -> Answer:
    try:
        data = act()
    except TikTokError as error:
        return error.answer()
    return Answer.json({"code": 0, "message": "Success", "request_id": "sandbox", "data": data})


def _authorised(store: TikTokStore, request: Request, query: dict[str, str], of_shop: bool) -> None:
    now = store.world.now()
    wanted = sign(store.credentials["app_secret"], request.raw_path, query, request.body)
    if not hmac.compare_digest(wanted, query.get("sign", "")):
        raise TikTokError(106001, "Signature is invalid", 401)
    if not query.get("timestamp", "").isdigit() or abs(int(query["timestamp"]) - now) > CLOCK_SKEW:
        raise TikTokError(106002, "Timestamp is expired", 401)
    if store.tokens.get(request.headers.get("x-tts-access-token", ""), 0) <= now:
        raise TikTokError(105002, "Access token is invalid or expired", 401)
    if request.headers.get("content-type") != "application/json":
        raise TikTokError(36009004, "Content-Type must be application/json")
    if of_shop and query.get("shop_cipher") != store.cipher:
        raise TikTokError(106011, "shop_cipher is invalid")


Act = Callable[[TikTokStore, Any, dict[str, str], "re.Match[str]"], Any]


def _act(
    store: TikTokStore, request: Request, query: dict[str, str], act: Act, schema: Any, fields: str,
    found: re.Match[str],
) -> Any:  # fmt: skip
    if store.forced:
        raise TikTokError(int(store.forced) if store.forced.isdigit() else 12052001, "refused on purpose")
    allowed = {"app_key", "timestamp", "sign", "shop_cipher", *(one.rstrip("!") for one in fields.split())}
    unknown = sorted(set(query) - allowed)
    missing = [one[:-1] for one in fields.split() if one.endswith("!") and not query.get(one[:-1])]
    if unknown or missing:
        raise TikTokError(36009004, f"Invalid query: {', '.join(unknown + missing)}")
    body = None
    if schema is not None:
        try:
            body = request.json()
        except ValueError:
            raise TikTokError(36009004, "The body is not JSON") from None
        wrong = problems(body, schema)
        if wrong:
            raise TikTokError(36009004, f"Invalid params: {'; '.join(wrong)}")
    elif request.body:
        raise TikTokError(36009004, "A body is not taken here")
    return act(store, body, query, found)


def grant(store: TikTokStore, path: str, query: dict[str, str]) -> Any:
    """A new pair of tokens for a code, which works once, or for one of the last two refresh tokens."""
    kinds = {"/api/v2/token/get": "authorized_code", "/api/v2/token/refresh": "refresh_token"}
    if query.get("grant_type") != kinds.get(path):
        raise TikTokError(36004003, "Invalid grant_type")
    if query.get("app_secret") != store.credentials["app_secret"]:
        raise TikTokError(36004002, "Invalid app_secret")
    if path.endswith("get"):
        if query.get("auth_code") not in store.codes:
            raise TikTokError(36004004, "Invalid auth_code")
        store.codes.remove(query["auth_code"])
    elif query.get("refresh_token") not in store.refresh_tokens[-2:] or store.settings.get("revoked"):
        raise TikTokError(36004005, "Invalid refresh_token")
    number = store.world.serial("tiktok_token")
    token, refresh = f"ROW_access_{number}", f"ROW_refresh_{number}"
    life = float(store.settings.get("token_seconds", 7 * 86400))
    store.tokens[token] = store.world.now() + life
    store.refresh_tokens.append(refresh)
    return {
        "access_token": token, "access_token_expire_in": int(store.world.now() + life), "refresh_token": refresh,
        "refresh_token_expire_in": int(store.world.now() + 365 * 86400), "seller_name": store.name,
    }  # fmt: skip


# --- operations ----------------------------------------------------------------------------------------
def _page(rows: list[Any], query: dict[str, str], name: str, most: int, standard: int) -> dict[str, Any]:
    size = int(query.get("page_size", standard))
    if not 1 <= size <= most:
        raise TikTokError(36009004, f"page_size must be between 1 and {most}")
    start = int(query.get("page_token") or 0)
    more = {"next_page_token": str(start + size)} if start + size < len(rows) else {}
    return {name: rows[start : start + size], "total_count": len(rows), **more}


def _find(store: TikTokStore, number: str) -> Order:
    if number not in store.orders:
        raise TikTokError(11030001, "Order does not exist")
    return store.orders[number]


def list_shops(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    mine = {
        "id": store.number, "cipher": store.cipher, "name": store.name, "region": store.region, "code": "US1",
        "seller_type": "LOCAL",
    }  # fmt: skip
    return {"shops": [mine, *store.settings.get("other_shops", [])]}


def list_warehouses(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    return {
        "warehouses": [
            {
                "id": x.id,
                "name": x.name,
                "type": "SALES_WAREHOUSE",
                "effect_status": "ENABLED",
                "is_default": not n,
            }
            for n, x in enumerate(store.locations.values())
        ]
    }


def search_orders(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    field_name = "updated_at" if query.get("sort_field") == "update_time" else "created_at"
    orders = sorted(store.orders.values(), key=lambda o: (getattr(o, field_name), o.number))
    if query.get("sort_order", "DESC") == "DESC":
        orders.reverse()
    rows = [
        o
        for o in orders
        if int(o.updated_at) >= body.get("update_time_ge", 0)
        and int(o.updated_at) < body.get("update_time_lt", 2**34)
        and body.get("order_status", store.status_of(o)) == store.status_of(o)
    ]
    page = _page(rows, query, "orders", 100, 20)
    return {**page, "orders": [store.show_order(order) for order in page["orders"]]}


def get_orders(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    ids = query["ids"].split(",")
    if len(ids) > 50:
        raise TikTokError(36009004, "ids takes at most 50 orders")
    return {"orders": [store.show_order(store.orders[one]) for one in ids if one in store.orders]}


def search_products(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    rows = []
    for number, title in store.products.items():
        skus = [
            {
                "id": sku_id(item), "seller_sku": item.sku, "status_info": {"status": "NORMAL"},
                "price": {"currency": store.currency, "tax_exclusive_price": item.price},
                "inventory": [{"warehouse_id": w, "quantity": s.available} for w, s in item.stock.items()],
            }
            for item in store.items.values()
            if item.attributes["product"] == number
        ]  # fmt: skip
        rows.append({"id": number, "title": title, "status": "ACTIVATE", "skus": skus})
    return _page(rows, query, "products", 100, 20)


def search_inventory(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    if not body.get("sku_ids") and not body.get("product_ids"):
        raise TikTokError(36009004, "product_ids or sku_ids is required")
    shown: dict[str, list[Any]] = {}
    for item in store.items.values():
        product = item.attributes["product"]
        wanted = sku_id(item) in body["sku_ids"] if body.get("sku_ids") else product in body["product_ids"]
        if not wanted:
            continue
        places = [
            {"warehouse_id": w, "available_quantity": s.available, "committed_quantity": s.committed}
            for w, s in item.stock.items()
        ]
        total = sum(stock.available for stock in item.stock.values())
        shown.setdefault(product, []).append(
            {
                "id": sku_id(item), "seller_sku": item.sku, "total_available_quantity": total,
                "warehouse_inventory": places,
            }
        )  # fmt: skip
    return {"inventory": [{"product_id": product, "skus": skus} for product, skus in shown.items()]}


def update_inventory(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    mine = {sku_id(x): x for x in store.items.values() if x.attributes["product"] == found["product"]}
    if not mine:
        raise TikTokError(12052048, "The product does not exist")
    if any(entry["id"] not in mine for entry in body["skus"]):
        raise TikTokError(12052217, "A SKU does not belong to the product")
    errors = []
    for entry in body["skus"]:
        item = mine[entry["id"]]
        only = next(iter(item.stock)) if len(item.stock) == 1 else ""
        told = {str(one.get("warehouse_id") or only): one["quantity"] for one in entry["inventory"]}
        words = ""
        if item.sku in store.settings.get("frozen", []):
            words = "The SKU is frozen"
        elif set(told) != set(item.stock):
            words = "All warehouses of the SKU must be given, and no others"
        if words:
            extra = [{"code": 12052702, "message": words, "warehouse_id": w} for w in told]
            detail = {"sku_id": entry["id"], "extra_errors": extra}
            errors.append({"code": 12052700, "message": "The inventory was not updated", "detail": detail})
            continue
        for warehouse, quantity in told.items():
            store.set_stock(item.sku, quantity, warehouse)
    return {"errors": errors} if errors else {}


def list_providers(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    return {"shipping_providers": [{"id": number, "name": name} for number, name in PROVIDERS.items()]}


def _ship(
    store: TikTokStore,
    order: Order,
    units: list[str],
    provider: str,
    tracking: str,
    number: str = "",
    *,
    label: str = "SELLER",
) -> str:
    """Put units under a tracking number. Raises when one of them is not open or the order is not ready."""
    if store.status_of(order) not in ("AWAITING_SHIPMENT", "PARTIALLY_SHIPPING"):
        raise TikTokError(21011009, f"The order is {store.status_of(order)}")
    if store.show_order(order)["shipping_type"] != label:
        raise TikTokError(21011010, "TikTok ships this order")
    if provider not in PROVIDERS:
        raise TikTokError(21011011, "shipping_provider_id is unknown")
    lines = {unit: line for unit, line, state, _ in store.units(order) if state == "open"}
    if len(set(units)) != len(units) or any(unit not in lines for unit in units):
        raise TikTokError(21011012, "An order line item cannot be shipped")
    counts: dict[str, int] = {}
    for unit in units:
        counts[lines[unit].id] = counts.get(lines[unit].id, 0) + 1
    parts: dict[str, dict[str, int]] = {}
    left = dict(counts)
    for assignment in order.assignments:
        for line_id, rest in assignment.remaining.items():
            take = min(rest, left.get(line_id, 0))
            if take:
                parts.setdefault(assignment.id, {})[line_id] = take
                left[line_id] -= take
    at = store.world.now()
    number = number or f"1152{store.world.serial('package'):015d}"
    store.packages[number] = Package(number, order.id, list(units), provider, tracking, at)
    where = order.assignments[0].location_id
    store.fulfil(
        order,
        parts,
        Fulfilment(
            number, at, at, where, counts, list(parts), carrier=PROVIDERS[provider], tracking=[tracking]
        ),
    )
    return number


def buy_label(store: TikTokStore, order: Order, tracking: str, carrier: str) -> None:
    """The seller buys the platform's label in Seller Center for everything that is open."""
    provider = next((number for number, name in PROVIDERS.items() if name == carrier), "")
    units = [unit for unit, _, state, _ in store.units(order) if state == "open"]
    try:
        _ship(store, order, units, provider, tracking, label="TIKTOK")
    except TikTokError as error:
        raise SandboxError(str(error)) from error


def add_package(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    if store.settings.get("packages_first"):
        raise TikTokError(21011013, "This API is not open in this market")
    order = _find(store, found["order"])
    number = _ship(
        store, order, body["order_line_item_ids"], body["shipping_provider_id"], body["tracking_number"]
    )
    return {"order_id": order.id, "order_line_item_ids": body["order_line_item_ids"], "package_id": number}


def ship_package(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    package = store.packages.get(found["package"])
    if package is None or package.tracking:
        raise TikTokError(21011014, "The package cannot be shipped")
    sent = body["self_shipment"]
    order = _find(store, package.order_id)
    _ship(store, order, package.units, sent["shipping_provider_id"], sent["tracking_number"], package.id)
    return {}


def eligibility(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    order = _find(store, found["order"])
    wanted = query.get("request_types", "CANCEL")
    by_sku: dict[str, list[Any]] = {}
    for unit, line, state, _ in store.units(order):
        fits = state == ("open" if wanted == "CANCEL" else "away")
        row = {
            "request_type": wanted, "eligible": fits, "order_line_items_ids": [unit],
            "available_reason_names": list(CANCEL_REASONS if wanted == "CANCEL" else REFUND_REASONS) if fits else [],
            **({} if fits else {"ineligible_code": 1, "ineligible_reason": f"the item is {state}"}),
        }  # fmt: skip
        by_sku.setdefault(sku_id(store.items[line.sku]), []).append(row)
    return {
        "sku_eligibility": [{"sku_id": sku, "line_item_eligibility": rows} for sku, rows in by_sku.items()]
    }


def search_cancels(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    rows = [
        store.show_cancel(one)
        for one in store.cancels.values()
        if one.order_id in body.get("order_ids", [one.order_id])
        and int(one.at) >= body.get("update_time_ge", 0)
    ]
    return _page(rows, query, "cancellations", 50, 10)


def _take_off(store: TikTokStore, order: Order, units: list[str], reason: str) -> None:
    """Cancel units that are open. "Out of stock" sets the SKU's quantity to 0, as the platform does."""
    lines = {unit: line for unit, line, state, _ in store.units(order) if state == "open"}
    if any(unit not in lines for unit in units) or not units:
        raise TikTokError(25011001, "An order line item cannot be cancelled")
    if len(units) == sum(1 for line in order.lines for _ in range(line.quantity)):
        store.cancel(order, reason, restock=True, by="merchant")
    else:
        for unit in units:
            lines[unit].cancel_reason = reason
            store.take_off(order, lines[unit], 1, restock=True)
        store.touch(order)
        store.count("cancelled_by_merchant")
        store.announce("updated", order)
    if reason == CANCEL_REASONS[0]:
        for unit in units:
            store.set_stock(lines[unit].sku, 0)


def cancel_order(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    order = _find(store, body["order_id"])
    if body["cancel_reason"] not in CANCEL_REASONS:
        raise TikTokError(25011002, "cancel_reason is not one of those offered")
    every = [unit for unit, _, state, _ in store.units(order) if state != "gone"]
    units = body.get("order_line_item_ids") or every
    _take_off(store, order, units, body["cancel_reason"])
    number = str(40_000 + store.world.serial("tiktok_cancel"))
    status = "CANCELLATION_REQUEST_SUCCESS"
    store.cancels[number] = Cancel(
        number, order.id, "CANCEL", status, body["cancel_reason"], list(units), store.world.now()
    )
    return {"cancel_id": number, "cancel_status": status}


def approve_cancel(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    one = store.cancels.get(found["cancel"])
    if one is None or one.status != "CANCELLATION_REQUEST_PENDING":
        raise TikTokError(25011003, "The cancellation is not waiting for the seller")
    _take_off(store, _find(store, one.order_id), one.units, one.reason)
    one.status, one.at = "CANCELLATION_REQUEST_SUCCESS", store.world.now()
    return {}


def search_returns(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    if int(query.get("page_size", 10)) < 10:
        raise TikTokError(36009004, "page_size must be between 10 and 50")
    rows = [
        store.show_back(one)
        for one in store.backs.values()
        if one.order_id in body.get("order_ids", [one.order_id])
        and int(one.at) >= body.get("update_time_ge", 0)
    ]
    return _page(rows, query, "return_orders", 50, 10)


def create_return(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    key = query.get("idempotency_key", "")
    known = store.keys.get(key) if key else None
    if known:
        return {"return_id": known, "return_status": store.backs[known].status}
    order = _find(store, body["order_id"])
    if body["return_reason"] not in REFUND_REASONS:
        raise TikTokError(25012001, "return_reason is not one of those offered")
    if body["currency"] != order.currency:
        raise TikTokError(25012002, "currency is not the order's")
    total = Decimal(body["refund_total"])
    if not 0 < total <= order.total - order.refunded_amount:
        raise TikTokError(25012003, "refund_total exceeds the refundable amount")
    away = [unit for unit, _, state, _ in store.units(order) if state == "away"]
    units = body.get("order_line_item_ids") or away
    if not units or any(unit not in away for unit in units):
        raise TikTokError(25012004, "An order line item cannot be refunded")
    number = str(40_300 + store.world.serial("tiktok_back"))
    status = "RETURN_OR_REFUND_REQUEST_COMPLETE"
    store.backs[number] = Back(
        number, order.id, "SELLER", body["return_type"], status, body["return_reason"], list(units), f"{total:.2f}",
        store.world.now(),
    )  # fmt: skip
    if key:
        store.keys[key] = number
    store.add_refund(
        order, Refund(number, store.world.now(), [], f"{total:.2f}", reason=body["return_reason"])
    )
    return {"return_id": number, "return_status": status}


def list_hooks(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    rows = [{"event_type": topic, "address": address} for topic, address in store.hooks.items()]
    return {"webhooks": rows, "total_count": len(rows)}


def set_hook(store: TikTokStore, body: Any, query: dict[str, str], found: re.Match[str]) -> Any:
    store.hooks[body["event_type"]] = body["address"]
    return {}


_SORTED = "page_size page_token sort_field sort_order"
ROUTES: list[tuple[str, re.Pattern[str], Act, Any, str]] = [
    (method, re.compile(pattern), act, schema, fields)
    for method, pattern, act, schema, fields in [
        ("GET", r"/authorization/202309/shops", list_shops, None, ""),
        ("GET", r"/logistics/202309/warehouses", list_warehouses, None, ""),
        ("GET", r"/logistics/202309/delivery_options/\d+/shipping_providers", list_providers, None, ""),
        ("POST", r"/order/202309/orders/search", search_orders, schemas.ORDER_SEARCH, f"page_size! {_SORTED}"),
        ("GET", r"/order/202309/orders", get_orders, None, "ids!"),
        ("POST", r"/product/202502/products/search", search_products, schemas.PRODUCT_SEARCH, "page_size! page_token"),
        ("POST", r"/product/202309/inventory/search", search_inventory, schemas.INVENTORY_SEARCH, ""),
        ("POST", r"/product/202309/products/(?P<product>\d+)/inventory/update", update_inventory,
         schemas.UPDATE_INVENTORY, ""),
        ("POST", r"/fulfillment/202309/orders/(?P<order>\d+)/packages", add_package, schemas.ADD_PACKAGE, ""),
        ("POST", r"/fulfillment/202309/packages/(?P<package>\d+)/ship", ship_package, schemas.SHIP_PACKAGE, ""),
        ("GET", r"/return_refund/202512/orders/(?P<order>\d+)/aftersale_eligibility", eligibility, None,
         "initiate_aftersale_user request_types"),
        ("POST", r"/return_refund/202309/cancellations", cancel_order, schemas.CANCEL, ""),
        ("POST", r"/return_refund/202309/cancellations/search", search_cancels, schemas.CANCEL_SEARCH, _SORTED),
        ("POST", r"/return_refund/202309/cancellations/(?P<cancel>\d+)/approve", approve_cancel, None,
         "idempotency_key"),
        ("POST", r"/return_refund/202309/returns", create_return, schemas.CREATE_RETURN, "idempotency_key"),
        ("POST", r"/return_refund/202309/returns/search", search_returns, schemas.RETURN_SEARCH, _SORTED),
        ("GET", r"/event/202309/webhooks", list_hooks, None, ""),
        ("PUT", r"/event/202309/webhooks", set_hook, schemas.WEBHOOK, ""),
    ]
]  # fmt: skip
