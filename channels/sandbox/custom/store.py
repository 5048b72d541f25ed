"""The Bazaar: a shop that follows no platform. Its own words, a bearer token, cursors, a limit, signed notices.

    GET  /v1/purchases?changed_after&after&take     purchases, oldest change first; next_cursor while there are more
    GET  /v1/purchases/{purchase_no}                {"purchase": …}
    POST /v1/purchases/{purchase_no}/parcels        carrier, track, positions
    GET  /v1/stock   PUT /v1/stock/{article}        on_hand

Closed: a field or parameter that is not named here is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from channels.sandbox.check import problems
from channels.sandbox.http import Answer, Request
from channels.sandbox.shop import Fulfilment, Item, Location, Order, Shop
from channels.sandbox.world import World

TAKE = 50
ON_HAND = {
    "type": "object",
    "required": ["on_hand"],
    "properties": {"on_hand": {"type": "integer", "minimum": 0}},
}
PARCEL = {
    "type": "object",
    "required": ["carrier", "track", "positions"],
    "properties": {
        "carrier": {"type": "string", "minLength": 1},
        "track": {"type": "string", "minLength": 1},
        "positions": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["pos", "pieces"],
                "properties": {"pos": {"type": "integer"}, "pieces": {"type": "integer", "minimum": 1}},
            },
        },
    },
}


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def shown_time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def sign(secret: str, body: bytes) -> str:
    """X-Bazaar-Signature: sha256= and the HMAC of the raw body in hex."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@dataclass
class BazaarStore(Shop):
    domain: str = ""
    hook_url: str = ""

    @property
    def hosts(self) -> list[str]:
        return [self.domain]

    def new_order_identity(self) -> tuple[str, int, str]:
        number = 4000 + self.world.serial("bazaar")
        return f"P-{number}", number, f"P-{number}"

    def describe(self) -> dict[str, Any]:
        return {"base_url": f"https://{self.domain}/v1", "credentials": self.credentials}

    def expire_tokens(self) -> int:
        """The token is revoked; a new one stands in `credentials`."""
        self.count("tokens_revoked")
        self.credentials["token"] = f"bz_{self.id}_{self.counts['tokens_revoked']}"
        return 1

    def failure(self, status: int) -> Answer:
        return Answer.json({"problem": "the bazaar is closed"}, status)

    def throttled(self, operation: str) -> Answer:
        return Answer.json({"problem": "slow down"}, 429, {"retry-after": "1"})

    def stage(self, order: Order) -> str:
        if order.cancelled_at:
            return "called_off"
        if all(line.open == 0 for line in order.lines):
            return "dispatched"
        return "paid" if order.payment == "paid" else "awaiting_payment"

    def show(self, order: Order) -> dict[str, Any]:
        address = order.address
        return {
            "purchase_no": order.id,
            "placed": shown_time(order.created_at),
            "touched": shown_time(order.updated_at),
            "stage": self.stage(order),
            "money": {
                "currency": order.currency, "grand_total": str(order.total), "freight": order.shipping_price,
                "vat": str(order.tax),
            },
            "buyer": {"mail": order.email, "phone": order.phone},
            "ship_to": {
                "full_name": address.get("name", ""), "street": address.get("address1", ""),
                "town": address.get("city", ""), "region_code": address.get("province_code", ""),
                "postcode": address.get("zip", ""), "country_code": address.get("country_code", ""),
            },
            "positions": [
                {
                    "pos": int(line.id), "article": line.sku, "label": line.title, "pieces": line.quantity,
                    "each": line.price,
                }
                for line in order.lines
            ],
            "parcels": [{"carrier": one.carrier, "track": one.tracking[0]} for one in order.fulfilments],
        }  # fmt: skip

    def announce(self, event: str, order: Order, **facts: Any) -> None:
        if not self.hook_url:
            return
        body = json.dumps(
            {"event": event, "n": self.world.serial("notice"), "purchase": {"purchase_no": order.id}}
        )
        headers = {
            "Content-Type": "application/json",
            "X-Bazaar-Signature": sign(self.credentials["notice_secret"], body.encode()),
        }
        self.world.sender.post(self, event, self.hook_url, headers, body.encode(), order_id=order.id)

    def announce_stock(self, item: Item, location_id: str) -> None:
        """It tells nothing of stock."""


class Bazaar:
    kind = "custom"
    shop_class = BazaarStore

    def create(self, world: World, spec: dict[str, Any]) -> BazaarStore:
        """spec: id, name, currency, seed, domain, settings {hook_url, webhook_retry_seconds}, catalogue."""
        identity, settings = spec["id"], dict(spec.get("settings", {}))
        store = BazaarStore(
            id=identity,
            kind=self.kind,
            name=str(spec.get("name", identity)),
            currency=str(spec.get("currency", "USD")),
            created_at=world.now(),
            seed=int(spec.get("seed", 1)),
            settings={"webhook_retry_seconds": [], **settings},
            domain=str(spec.get("domain", f"{identity}.bazaar.example")).lower(),
            hook_url=str(settings.get("hook_url", "")),
            credentials={"token": f"bz_{identity}", "notice_secret": f"ns_{identity}"},
        )
        number = str(world.serial("location"))
        store.locations[number] = Location(number, "Hall")
        store.open_shop(world)
        return store

    def owns(self, host: str) -> bool:
        return host.endswith(".bazaar.example")

    async def handle(self, world: World, host: str, request: Request) -> Answer:
        store = next(
            (one for one in world.shops.values() if isinstance(one, BazaarStore) and one.domain == host), None
        )
        if store is None:
            return Answer.json({"problem": "no such stall"}, 404)
        wanted = f"Bearer {store.credentials['token']}"
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), wanted.encode()):
            store.count("unauthorized")
            return Answer.json({"problem": "who are you?"}, 401)
        for method, pattern, act in ROUTES:
            found = re.fullmatch(pattern, request.raw_path)
            if found and method == request.method:
                return await world.perform(
                    store,
                    act.__name__,
                    request,
                    lambda act=act, found=found: _act(store, request, act, found),
                )
        return Answer.json({"problem": "no such place"}, 404)


def _act(store: BazaarStore, request: Request, act: Callable[..., Any], found: re.Match[str]) -> Answer:
    try:
        body = request.json() if request.body else None
    except ValueError:
        return Answer.json({"problem": "this is not JSON"}, 400)
    query = {name: values[-1] for name, values in request.query.items()}
    try:
        if store.forced:
            raise Refusal(422, f"refused on purpose: {store.forced}")
        result = act(store, body, query, *(unquote(piece) for piece in found.groups()))
    except Refusal as refusal:
        return Answer.json({"problem": str(refusal)}, refusal.status)
    return Answer.json(result)


def _fits(body: Any, schema: dict[str, Any]) -> None:
    wrong = problems(body, schema)
    if wrong:
        raise Refusal(422, "; ".join(wrong))


def list_purchases(store: BazaarStore, body: Any, query: dict[str, str]) -> Any:
    unknown = sorted(set(query) - {"changed_after", "after", "take"})
    if unknown:
        raise Refusal(400, f"unknown parameter {unknown[0]}")
    rows = sorted(store.orders.values(), key=lambda order: (order.updated_at, order.number))
    if query.get("changed_after"):
        after = datetime.fromisoformat(query["changed_after"]).timestamp()
        rows = [order for order in rows if order.updated_at >= after]
    take = int(query.get("take", TAKE))
    start = int(query.get("after", "c0")[1:])
    page = rows[start : start + take]
    answer: dict[str, Any] = {"purchases": [store.show(order) for order in page], "next_cursor": None}
    if start + take < len(rows):
        answer["next_cursor"] = f"c{start + take}"
    return answer


def _purchase(store: BazaarStore, number: str) -> Order:
    if number not in store.orders:
        raise Refusal(404, f"no purchase {number}")
    return store.orders[number]


def get_purchase(store: BazaarStore, body: Any, query: dict[str, str], number: str) -> Any:
    return {"purchase": store.show(_purchase(store, number))}


def add_parcel(store: BazaarStore, body: Any, query: dict[str, str], number: str) -> Any:
    _fits(body, PARCEL)
    order = _purchase(store, number)
    units = {str(entry["pos"]): entry["pieces"] for entry in body["positions"]}
    lines = {line.id: line for line in order.lines}
    for line_id, quantity in units.items():
        if line_id not in lines or quantity > lines[line_id].open:
            raise Refusal(422, f"position {line_id} has not so many pieces left")
    parts: dict[str, dict[str, int]] = {}
    for line_id, quantity in units.items():
        for assignment in order.assignments:
            take = min(quantity, assignment.remaining.get(line_id, 0))
            if take:
                parts.setdefault(assignment.id, {})[line_id] = take
                quantity -= take
    made = Fulfilment(
        id=str(store.world.serial("fulfilment")), at=store.world.now(), updated_at=store.world.now(),
        location_id=order.assignments[0].location_id, lines=units, assignments=list(parts),
        carrier=body["carrier"], tracking=[body["track"]],
    )  # fmt: skip
    store.fulfil(order, parts, made)
    return {"parcel": made.id}


def list_stock(store: BazaarStore, body: Any, query: dict[str, str]) -> Any:
    return {
        "stock": [
            {"article": item.sku, "on_hand": sum(one.available for one in item.stock.values())}
            for item in store.items.values()
        ]
    }


def set_on_hand(store: BazaarStore, body: Any, query: dict[str, str], article: str) -> Any:
    _fits(body, ON_HAND)
    if article not in store.items:
        raise Refusal(404, f"no article {article}")
    store.set_stock(article, body["on_hand"])
    return {"article": article, "on_hand": body["on_hand"]}


ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", r"/v1/purchases", list_purchases),
    ("GET", r"/v1/purchases/([^/]+)", get_purchase),
    ("POST", r"/v1/purchases/([^/]+)/parcels", add_parcel),
    ("GET", r"/v1/stock", list_stock),
    ("PUT", r"/v1/stock/([^/]+)", set_on_hand),
]
