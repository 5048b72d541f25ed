"""A 3PL with a signed API: takes orders, acknowledges, ships, counts; and goes wrong on command.

It signs and checks signatures by itself, so that both sides prove each other. Settings of a warehouse:
`ack_seconds`, `ship_seconds` (None = only on command), `carrier`, `hook_url`, `lose_acks` (how many of the next are
never sent), `ship_twice` (the next so many shipment notices are sent again under a new number), `forgetful` (a
repeated reference makes a second order), `late_shipments` (notices wait for a command).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from channels.sandbox.check import problems
from channels.sandbox.http import Answer, Request
from channels.sandbox.shop import VOLATILE, Item, Order, SandboxError, Shop
from channels.sandbox.world import World

WINDOW = 300
TEXT = {"type": "string", "maxLength": 200}
ORDER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["reference", "order_number", "ship_to", "lines"],
    "properties": {
        "reference": {"type": "string", "minLength": 1, "maxLength": 30},
        "order_number": TEXT,
        "ship_by": {},
        "service": TEXT,
        "ship_to": {
            "type": "object",
            "required": ["name", "address1", "city", "country"],
            "properties": {
                name: TEXT
                for name in (
                    "name",
                    "company",
                    "address1",
                    "address2",
                    "city",
                    "region",
                    "postal_code",
                    "phone",
                )
            }
            | {"country": {"type": "string", "pattern": "^[A-Z]{2}$"}},
        },
        "lines": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["line", "sku", "quantity"],
                "properties": {
                    "line": {"type": "integer", "minimum": 1},
                    "sku": {"type": "string", "minLength": 1, "maxLength": 80},
                    "quantity": {"type": "integer", "minimum": 1},
                },
            },
        },
    },
}
CANCEL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["reference", "cancel_key", "lines"],
    "properties": {
        "reference": TEXT,
        "cancel_key": {"type": "string", "minLength": 1, "maxLength": 80},
        "lines": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["line", "quantity"],
                "properties": {
                    "line": {"type": "integer", "minimum": 1},
                    "quantity": {"type": "integer", "minimum": 1},
                },
            },
        },
    },
}


INBOUND_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["reference", "kind", "from", "lines"],
    "properties": {
        "reference": {"type": "string", "minLength": 1, "maxLength": 30},
        "kind": {"enum": ["purchase_order", "transfer"]},
        "from": TEXT,
        "expected_on": {},
        "lines": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["line", "sku", "quantity"],
                "properties": {
                    "line": {"type": "integer", "minimum": 1},
                    "sku": {"type": "string", "minLength": 1, "maxLength": 80},
                    "quantity": {"type": "integer", "minimum": 1},
                    "lots": {"type": "array"},
                },
            },
        },
    },
}


@dataclass
class Consignment:
    """An order in the 3PL's own books."""

    id: str
    reference: str
    received_at: float
    lines: dict[str, dict[str, Any]]  # by line number: sku, quantity, shipped, cancelled
    ship_to: dict[str, str] = field(default_factory=dict)
    status: str = "received"  # received, accepted, refused, shipped, cancelled
    cancel_keys: list[str] = field(default_factory=list)
    shipments: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class ThreePLWarehouse(Shop):
    consignments: dict[str, Consignment] = field(default_factory=dict)
    holdings: dict[str, dict[str, int]] = field(default_factory=dict)  # by SKU: on_hand, damaged
    keys: dict[str, str] = field(default_factory=dict)  # order id by idempotency key
    recounts: list[dict[str, Any]] = field(default_factory=list)
    expected: dict[str, dict[str, Any]] = field(default_factory=dict)  # deliveries by reference
    held: dict[str, Any] = field(default_factory=dict)  # a snapshot kept back
    seen: set[str] = field(default_factory=set, repr=False, metadata=VOLATILE)

    # --- what a shop has to say -------------------------------------------------------------------
    @property
    def hosts(self) -> list[str]:
        return [f"{self.id}.threepl.example"]

    def new_order_identity(self) -> tuple[str, int, str]:
        raise SandboxError(f"{self.id} is a warehouse: nobody buys there.")

    def announce(self, event: str, order: Order, **facts: Any) -> None:
        return

    def announce_stock(self, item: Item, location_id: str) -> None:
        return

    def throttled(self, operation: str) -> Answer:
        return Answer.json({"error": "slow down"}, 429, {"retry-after": "1"})

    def failure(self, status: int) -> Answer:
        return Answer.json({"error": "internal error"}, status)

    def expire_tokens(self) -> int:
        return 0

    def describe(self) -> dict[str, Any]:
        return {
            "credentials": self.credentials,
            "base_url": f"https://{self.hosts[0]}",
            "holdings": self.holdings,
            "orders": len(self.consignments),
            "expected": self.expected,
        }

    # --- messages ---------------------------------------------------------------------------------
    def tell(self, topic: str, data: dict[str, Any], *, delivery: str = "", times: int = 1) -> None:
        """Post a signed message to the client's hook; the sender's faults apply."""
        url = str(self.settings.get("hook_url") or "")
        if not url:
            self.count("messages_without_hook")
            return
        body = json.dumps({"topic": topic, "data": data}, ensure_ascii=False).encode()
        delivery = delivery or f"{self.id}-{self.world.serial('threepl_message')}"
        path = "/" + url.split("://", 1)[-1].partition("/")[2]
        stamp = int(self.world.now())
        headers = {
            "content-type": "application/json",
            "X-Threepl-Timestamp": str(stamp),
            "X-Threepl-Delivery": delivery,
            "X-Threepl-Signature": signature(
                self.credentials["hook_secret"], str(stamp), delivery, "POST", path, body
            ),
        }
        for _ in range(times):
            self.world.sender.post(self, topic, url, headers, body, order_id=str(data.get("reference", "")))

    def time(self, at: float | None = None) -> str:
        return datetime.fromtimestamp(self.world.now() if at is None else at, UTC).isoformat()

    def take_one(self, setting: str) -> bool:
        """True as often as the setting says, counting down."""
        left = int(self.settings.get(setting) or 0)
        if left > 0:
            self.settings[setting] = left - 1
        return left > 0

    # --- work -------------------------------------------------------------------------------------
    def consignment(self, name: str) -> Consignment:
        for one in self.consignments.values():
            if name in (one.id, one.reference):
                return one
        raise SandboxError(f"{self.id} has no order {name}.")

    def receive(self, body: dict[str, Any]) -> Consignment:
        number = f"W{self.world.serial('consignment'):07d}"
        one = Consignment(
            number, body["reference"], self.world.now(),
            {
                str(line["line"]): {"sku": line["sku"], "quantity": line["quantity"], "shipped": 0, "cancelled": 0}
                for line in body["lines"]
            },
            {key: str(value) for key, value in body["ship_to"].items()},
        )  # fmt: skip
        self.consignments[number] = one
        ack, ship = self.settings.get("ack_seconds"), self.settings.get("ship_seconds")
        if ack is not None:
            self.world.later(float(ack), lambda: self.accept(one))
        if ship is not None:
            self.world.later(float(ack or 0) + float(ship), lambda: self.ship(one))
        return one

    def accept(self, one: Consignment) -> None:
        if one.status != "received":
            return
        one.status = "accepted"
        if self.take_one("lose_acks"):
            self.count("acks_lost")
            return
        self.status(one, "accepted")

    def status(self, one: Consignment, status: str, reason: str = "") -> None:
        self.tell(
            "order.status",
            {"reference": one.reference, "order_id": one.id, "status": status, "reason": reason},
        )

    def ship(self, one: Consignment, units: dict[str, int] | None = None, carrier: str = "") -> None:
        """Send open units, or the named ones by line; the stock here falls and the client is told."""
        if one.status in ("refused", "cancelled", "shipped"):
            return
        leaving = {}
        for number, line in one.lines.items():
            left = line["quantity"] - line["shipped"] - line["cancelled"]
            take = min(left, units.get(number, 0)) if units is not None else left
            if take > 0:
                leaving[number] = take
                line["shipped"] += take
                kept = self.holdings.setdefault(line["sku"], {"on_hand": 0, "damaged": 0})
                kept["on_hand"] = max(0, kept["on_hand"] - take)
        if not leaving:
            return
        if all(line["quantity"] == line["shipped"] + line["cancelled"] for line in one.lines.values()):
            one.status = "shipped"
        serial, price = self.world.serial("threepl_shipment"), self.settings.get("label_price")
        notice = {
            "reference": one.reference,
            "shipment_id": f"{one.id}-{len(one.shipments) + 1}",
            "shipped_at": self.time(),
            "parcels": [
                {
                    "carrier": carrier or str(self.settings.get("carrier", "UPS")),
                    "service": "Ground",
                    "tracking": f"1Z{self.seed:03d}{serial:011d}",
                    "lines": [
                        {"line": int(number), "sku": one.lines[number]["sku"], "quantity": count}
                        for number, count in leaving.items()
                    ],
                    **({"cost": str(price), "currency": "USD"} if price else {}),
                }
            ],
        }
        one.shipments.append(notice)
        self.count("shipments")
        if self.settings.get("late_shipments"):
            return
        self.notice(one, notice)

    def notice(self, one: Consignment, notice: dict[str, Any]) -> None:
        self.tell("shipment.created", notice)
        if self.take_one("ship_twice"):
            again = {**notice, "shipment_id": f"{notice['shipment_id']}-again", "parcels": []}
            again["parcels"] = [{**box, "tracking": f"{box['tracking']}B"} for box in notice["parcels"]]
            self.tell("shipment.created", again)

    def arrive(self, reference: str, lines: list[dict[str, Any]], *, complete: bool, times: int = 1) -> None:
        """Goods of an expected delivery come in: the stock here rises and the client is told."""
        for line in lines:
            kept = self.holdings.setdefault(str(line["sku"]), {"on_hand": 0, "damaged": 0})
            unfit = int(line.get("damaged", 0)) + int(line.get("quarantine", 0))
            kept["on_hand"] += int(line.get("good", 0)) + unfit
            kept["damaged"] += unfit
        data = {
            "reference": reference, "receipt_id": f"{self.id}-R{self.world.serial('threepl_receipt')}",
            "received_at": self.time(), "complete": complete, "lines": lines,
        }  # fmt: skip
        self.expected.setdefault(reference, {"lines": []})["received"] = True
        for _ in range(times):
            self.tell("inbound.received", data)

    def snapshot(self) -> dict[str, Any]:
        return {
            "snapshot_id": f"{self.id}-{self.world.serial('threepl_snapshot')}",
            "taken_at": self.time(),
            "levels": [{"sku": sku, **units} for sku, units in sorted(self.holdings.items())],
        }

    # --- commands ---------------------------------------------------------------------------------
    def act(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        """What a person at the 3PL does: ack, ship, refuse, notice, stock, adjust, receive, snapshot, hold,
        release, tell."""
        if action in ("ack", "ship", "refuse", "notice"):
            one = self.consignment(str(body["order"]))
            if action == "ack":
                self.accept(one)
            elif action == "ship":
                lines = body.get("lines")
                self.ship(
                    one, None if lines is None else {str(k): int(v) for k, v in lines.items()},
                    str(body.get("carrier", "")),
                )  # fmt: skip
            elif action == "refuse":
                one.status = "refused"
                self.status(one, "refused", str(body.get("reason", "we do not stock it")))
            else:
                for notice in one.shipments:
                    self.tell("shipment.created", notice)
        elif action == "stock":
            for sku, units in body["levels"].items():
                self.holdings[str(sku)] = holding(units)
        elif action == "adjust":
            kept = self.holdings.setdefault(str(body["sku"]), {"on_hand": 0, "damaged": 0})
            kept["on_hand"] += int(body["quantity"])
            if body.get("told", True):
                self.tell(
                    "inventory.adjusted",
                    {
                        "adjustment_id": f"{self.id}-A{self.world.serial('threepl_adjustment')}", "sku": body["sku"],
                        "quantity": int(body["quantity"]), "reason": str(body.get("reason", "damaged here")),
                        "adjusted_at": self.time(),
                    },
                )  # fmt: skip
        elif action == "receive":
            self.arrive(
                str(body["reference"]), body["lines"], complete=bool(body.get("complete")),
                times=int(body.get("times", 1)),
            )  # fmt: skip
        elif action == "snapshot":
            self.tell("inventory.snapshot", self.snapshot())
        elif action == "hold":
            self.held = self.snapshot()
        elif action == "release":
            self.tell("inventory.snapshot", self.held)
        elif action == "tell":
            self.tell(str(body["topic"]), body["data"], times=int(body.get("times", 1)))
        else:
            raise SandboxError(f"A 3PL does not {action}.")
        return {"orders": {key: one.status for key, one in self.consignments.items()}, "held": self.held}


def holding(units: int | dict[str, int]) -> dict[str, int]:
    """Units of one SKU: a count of good ones, or {on_hand, damaged}."""
    if isinstance(units, dict):
        return {"on_hand": int(units["on_hand"]), "damaged": int(units.get("damaged", 0))}
    return {"on_hand": int(units), "damaged": 0}


def signature(secret: str, stamp: str, delivery: str, method: str, target: str, body: bytes) -> str:
    """HMAC-SHA256 over time, number, method, path and raw body."""
    text = "\n".join((stamp, delivery, method, target, "")).encode() + body
    return "v1=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


class ThreePL:
    """Platform of all played 3PLs."""

    kind = "threepl"

    @property
    def shop_class(self) -> type[Shop]:
        return ThreePLWarehouse

    def create(self, world: World, spec: dict[str, Any]) -> Shop:
        number = world.serial("threepl")
        shop = ThreePLWarehouse(
            id=spec["id"], kind=self.kind, name=str(spec.get("name", spec["id"])), currency="USD",
            created_at=world.now(), seed=int(spec.get("seed", number)),
            credentials={
                "key": f"client-{number}", "secret": f"secret-{spec['id']}-{number:04d}-to-them",
                "hook_secret": f"secret-{spec['id']}-{number:04d}-to-us",
            },
            settings={"ack_seconds": None, "ship_seconds": None, **(spec.get("settings") or {})},
            holdings={str(sku): holding(units) for sku, units in (spec.get("stock") or {}).items()},
        )  # fmt: skip
        shop.open_shop(world)
        return shop

    def owns(self, host: str) -> bool:
        return host.endswith(".threepl.example")

    async def handle(self, world: World, host: str, request: Request) -> Answer:
        shop = world.shops.get(host.removesuffix(".threepl.example"))
        if not isinstance(shop, ThreePLWarehouse):
            return Answer.json({"error": f"nobody at {host}"}, 404)
        refused = self._refused(shop, request)
        if refused:
            shop.count("signatures_refused")
            return Answer.json({"error": refused}, 401)
        found = self._operation(shop, request)
        if found is None:
            return Answer.json({"error": f"no such call: {request.method} {request.raw_path}"}, 404)
        operation, effect = found
        return await world.perform(shop, operation, request, effect)

    @staticmethod
    def _refused(shop: ThreePLWarehouse, request: Request) -> str:
        given = request.headers
        stamp, delivery = given.get("x-threepl-timestamp", ""), given.get("x-threepl-delivery", "")
        wanted = signature(
            shop.credentials["secret"], stamp, delivery, request.method, request.target, request.body
        )
        if given.get("x-threepl-key") != shop.credentials["key"]:
            return "unknown key"
        if not hmac.compare_digest(wanted, given.get("x-threepl-signature", "")):
            return "bad signature"
        if not stamp.isdigit() or abs(shop.world.now() - int(stamp)) > WINDOW:
            return "timestamp outside the window"
        if delivery in shop.seen:
            return "replayed"
        shop.seen.add(delivery)
        return ""

    def _operation(
        self, shop: ThreePLWarehouse, request: Request
    ) -> tuple[str, Callable[[], Answer] | Callable[[], Awaitable[Answer]]] | None:
        path, method = request.raw_path, request.method
        if (method, path) == ("GET", "/v1/ping"):
            return "ping", lambda: Answer.json({"name": shop.name, "client": shop.credentials["key"]})
        if (method, path) == ("POST", "/v1/orders"):
            return "order", lambda: self._order(shop, request)
        if (method, path) == ("GET", "/v1/orders"):
            return "find", lambda: self._find(shop, request)
        if (method, path) == ("GET", "/v1/inventory"):
            return "inventory", lambda: Answer.json(shop.snapshot())
        if (method, path) == ("POST", "/v1/recounts"):
            return "recount", lambda: self._recount(shop, request)
        parts = path.strip("/").split("/")
        if len(parts) == 3 and parts[:2] == ["v1", "inbound"] and method == "PUT":
            return "expect", lambda: self._expect(shop, parts[2], request)
        if len(parts) == 3 and parts[:2] == ["v1", "inbound"] and method == "DELETE":
            return "withdraw", lambda: self._withdraw(shop, parts[2])
        if method == "POST" and len(parts) == 4 and parts[:2] == ["v1", "orders"] and parts[3] == "cancel":
            return "cancel", lambda: self._cancel(shop, parts[2], request)
        return None

    @staticmethod
    def _body(request: Request, schema: dict[str, Any]) -> tuple[dict[str, Any], Answer | None]:
        try:
            body = request.json()
        except ValueError:
            return {}, Answer.json({"error": "the body is not JSON"}, 400)
        wrong = problems(body, schema)
        return body, Answer.json({"error": "; ".join(wrong)}, 422) if wrong else None

    def _order(self, shop: ThreePLWarehouse, request: Request) -> Answer:
        body, wrong = self._body(request, ORDER_SCHEMA)
        if wrong is not None:
            return wrong
        unknown = [line["sku"] for line in body["lines"] if line["sku"] not in shop.holdings]
        if unknown:
            return Answer.json({"error": f"unknown SKU {unknown[0]}"}, 422)
        known = [one for one in shop.consignments.values() if one.reference == body["reference"]]
        if known and not shop.settings.get("forgetful"):
            return Answer.json({"order_id": known[0].id})
        return Answer.json({"order_id": shop.receive(body).id}, 201)

    @staticmethod
    def _find(shop: ThreePLWarehouse, request: Request) -> Answer:
        asked = parse_qs(request.query_string).get("reference", [""])[0]
        found = [one for one in shop.consignments.values() if one.reference == asked]
        return Answer.json(
            {
                "orders": [
                    {"order_id": one.id, "status": one.status, "cancel_keys": one.cancel_keys}
                    for one in found
                ]
            }
        )

    def _cancel(self, shop: ThreePLWarehouse, order_id: str, request: Request) -> Answer:
        body, wrong = self._body(request, CANCEL_SCHEMA)
        if wrong is not None:
            return wrong
        one = shop.consignments.get(order_id)
        if one is None:
            return Answer.json({"error": "no such order"}, 404)
        if body["cancel_key"] in one.cancel_keys:
            return Answer.json({"status": one.status})
        for entry in body["lines"]:
            line = one.lines.get(str(entry["line"]))
            if line is None:
                return Answer.json({"error": f"no line {entry['line']}"}, 422)
            if line["quantity"] - line["shipped"] - line["cancelled"] < entry["quantity"]:
                return Answer.json({"error": "too late, it has left"}, 409)
        for entry in body["lines"]:
            one.lines[str(entry["line"])]["cancelled"] += entry["quantity"]
        one.cancel_keys.append(body["cancel_key"])
        if all(line["quantity"] == line["cancelled"] for line in one.lines.values()):
            one.status = "cancelled"
        return Answer.json({"status": one.status})

    def _expect(self, shop: ThreePLWarehouse, reference: str, request: Request) -> Answer:
        body, wrong = self._body(request, INBOUND_SCHEMA)
        if wrong is not None:
            return wrong
        if body["reference"] != reference:
            return Answer.json({"error": "the reference is not that of the address"}, 422)
        unknown = [line["sku"] for line in body["lines"] if line["sku"] not in shop.holdings]
        if unknown:
            return Answer.json({"error": f"unknown SKU {unknown[0]}"}, 422)
        known = shop.expected.get(reference)
        shop.expected[reference] = {**body, "received": bool(known and known.get("received"))}
        return Answer.json({"reference": reference}, 200 if known else 201)

    @staticmethod
    def _withdraw(shop: ThreePLWarehouse, reference: str) -> Answer:
        known = shop.expected.get(reference)
        if known and known.get("received"):
            return Answer.json({"error": "it is being received"}, 409)
        shop.expected.pop(reference, None)
        return Answer.json({"reference": reference})

    @staticmethod
    def _recount(shop: ThreePLWarehouse, request: Request) -> Answer:
        shop.recounts.append(request.json())
        return Answer.json({"ok": True})
