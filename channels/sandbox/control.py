"""The control API under `/_sandbox/`: JSON in, JSON out, for demos, benchmarks and tests. Never part of a platform."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from channels.sandbox import shoppers
from channels.sandbox.amazon import outbound
from channels.sandbox.amazon.seller import AmazonSeller
from channels.sandbox.http import Answer, Request
from channels.sandbox.shop import PLANNED_KINDS, Faults, LogEntry, Order, Planned, SandboxError, Shop
from channels.sandbox.snapshot import dump
from channels.sandbox.threepl import ThreePLWarehouse
from channels.sandbox.tiktok import shop as tiktok
from channels.sandbox.world import World

Handler = Callable[[World, list[str], dict[str, Any], dict[str, str]], Any]
ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []


def route(method: str, path: str) -> Callable[[Handler], Handler]:
    pattern = re.compile("/" + re.sub(r"\{\w+\}", "([^/]+)", path))

    def register(handler: Handler) -> Handler:
        ROUTES.append((method, pattern, handler))
        return handler

    return register


async def control(world: World, request: Request) -> Answer:
    """Answer one control request; a refusal is 400 with a sentence."""
    from urllib.parse import unquote

    query = {name: values[-1] for name, values in request.query.items()}
    path = request.raw_path.rstrip("/") or "/"
    known = False
    for method, pattern, handler in ROUTES:
        match = pattern.fullmatch(path)
        if not match:
            continue
        known = True
        if method != request.method:
            continue
        try:
            body = request.json() if request.body else {}
        except ValueError:
            return Answer.json({"error": "The body is not JSON."}, 400)
        if not isinstance(body, dict):
            return Answer.json({"error": "The body must be a JSON object."}, 400)
        try:
            result = handler(world, [unquote(part) for part in match.groups()], body, query)
        except SandboxError as refused:
            return Answer.json({"error": str(refused)}, 400)
        except (TypeError, ValueError, KeyError, AttributeError) as wrong:
            return Answer.json(
                {"error": f"The request cannot be understood: {type(wrong).__name__}: {wrong}"}, 400
            )
        return result if isinstance(result, Answer) else Answer.json(result)
    return Answer.json({"error": f"No control at {request.method} /_sandbox{path}."}, 405 if known else 404)


# --- the world -----------------------------------------------------------------------------------------
@route("GET", "health")
def health(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    return {
        "ok": True,
        "now": world.now(),
        "requests": world.requests,
        "shops": list(world.shops),
        "base_url": world.base_url,
    }


@route("POST", "reset")
def reset(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    world.reset()
    return {"ok": True}


@route("GET", "host_map")
def host_map(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    return world.host_map()


@route("POST", "clock")
def clock(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    world.offset += float(body["advance_seconds"])
    return {"now": world.now(), "offset": world.offset}


@route("PUT", "physical")
def set_physical(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    world.physical.update({str(sku): int(units) for sku, units in body.items()})
    return world.oversold()


@route("GET", "oversold")
def oversold(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    return world.oversold()


@route("GET", "stats")
def stats(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    states: dict[str, int] = {}
    for delivery in world.sender.deliveries:
        states[delivery.state] = states.get(delivery.state, 0) + 1
    return {
        "requests": world.requests,
        "deliveries": states,
        "oversold": world.oversold()["over"],
        "shops": {shop.id: {**shop.counts, "operations": shop.operations} for shop in world.shops.values()},
    }


# --- shops ---------------------------------------------------------------------------------------------
def describe(shop: Shop) -> dict[str, Any]:
    return {
        "id": shop.id,
        "kind": shop.kind,
        "name": shop.name,
        "currency": shop.currency,
        "hosts": shop.hosts,
        "host_map": {host: f"{shop.world.base_url}/{host}" for host in shop.hosts},
        "settings": shop.settings,
        "counts": shop.counts,
        "operations": shop.operations,
        **shop.describe(),
    }


@route("GET", "shops")
def list_shops(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    return {"shops": [describe(shop) for shop in world.shops.values()]}


@route("POST", "shops")
def create_shop(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    return Answer.json(describe(world.create_shop(body)), 201)


@route("GET", "shops/{shop}")
def get_shop(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    return describe(world.shop(parts[0]))


@route("DELETE", "shops/{shop}")
def delete_shop(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    del world.shops[world.shop(parts[0]).id]
    return {"ok": True}


@route("PUT", "shops/{shop}/settings")
def set_settings(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shop = world.shop(parts[0])
    shop.settings.update(body)
    return shop.settings


@route("POST", "shops/{shop}/catalogue")
def add_catalogue(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shop = world.shop(parts[0])
    for entry in body["items"]:
        shop.add_item(entry)
    return Answer.json(describe(shop), 201)


@route("GET", "shops/{shop}/stock")
def get_stock(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shop = world.shop(parts[0])
    return {
        item.sku: {
            "available": sum(stock.available for stock in item.stock.values())
            if item.fba is None
            else item.fba["fulfillable"],
            "locations": {place: dump(stock) for place, stock in item.stock.items()},
            "fba": item.fba,
            "attributes": item.attributes,
        }
        for item in shop.items.values()
        if "sku" not in query or item.sku == query["sku"]
    }


@route("POST", "shops/{shop}/stock")
def edit_stock(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shop = world.shop(parts[0])
    shop.set_stock(str(body["sku"]), int(body["quantity"]), str(body.get("location", "")))
    return get_stock(world, parts, {}, {"sku": str(body["sku"])})


@route("POST", "shops/{shop}/fba")
def edit_fba(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    """Adjust the channel's own warehouse: {sku, fulfillable?, inbound_shipped?, unfulfillable?, …}."""
    shop = world.shop(parts[0])
    item = shop.item(str(body.pop("sku")))
    if item.fba is None:
        raise SandboxError(f"{item.sku} is not shipped by the channel.")
    item.fba.update({str(name): int(units) for name, units in body.items()})
    item.updated_at = world.now()
    shop.announce_stock(item, "")
    return item.fba


@route("POST", "shops/{shop}/expire_token")
def expire_token(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shop = world.shop(parts[0])
    return {"expired": shop.expire_tokens(), "credentials": shop.credentials}


# --- orders --------------------------------------------------------------------------------------------
@route("POST", "shops/{shop}/orders")
def place_order(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    result = world.shop(parts[0]).place(body)
    if isinstance(result, Order):
        return Answer.json(dump(result), 201)
    return Answer.json({"lost": True, "reason": result}, 409)


@route("GET", "shops/{shop}/orders")
def list_orders(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shop = world.shop(parts[0])
    limit = int(query.get("limit", 1000))
    found = list(shop.orders.values())[-limit:]
    return {"count": len(shop.orders), "orders": [dump(order) for order in found]}


@route("GET", "shops/{shop}/orders/{order}")
def get_order(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    return dump(world.shop(parts[0]).order(parts[1]))


@route("POST", "shops/{shop}/orders/{order}/{action}")
def order_action(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    """pay · cancel {reason, restock} · request_cancel {reason} · edit {lines} · address {…} · hold {reason} · release ·
    deliver · ship (the channel's own warehouse) · label {tracking, carrier} (the platform's own, bought in its seller
    center: TikTok Shop) · return {lines, reason, note, status} · touch."""
    shop, order, action = world.shop(parts[0]), world.shop(parts[0]).order(parts[1]), parts[2]
    if action == "pay":
        shop.pay(order)
    elif action == "cancel":
        if order.cancelled_at:
            raise SandboxError(f"Order {order.name} is already cancelled.")
        shop.cancel(
            order, str(body.get("reason", "CUSTOMER")), restock=bool(body.get("restock", True)), by="buyer"
        )
    elif action == "request_cancel":
        shop.request_cancel(order, str(body.get("reason", "ORDERED_BY_MISTAKE")))
    elif action == "edit":
        shop.edit(order, body["lines"])
    elif action == "address":
        shop.change_address(order, body)
    elif action in ("hold", "release"):
        for assignment in order.assignments:
            assignment.hold = str(body.get("reason", "OTHER")) if action == "hold" else ""
        shop.touch(order)
        shop.announce("updated", order)
    elif action == "deliver":
        shop.deliver(order)
    elif action == "ship":
        ship = getattr(shop, "ship_from_amazon", None)
        if ship is None:
            raise SandboxError(f"{shop.kind} has no warehouse of its own; ship through its API.")
        ship(order)
    elif action == "label":
        if not isinstance(shop, tiktok.TikTokStore):
            raise SandboxError(f"{shop.kind} supplies no labels; ship through its API.")
        tiktok.buy_label(shop, order, str(body["tracking"]), str(body["carrier"]))
    elif action == "return":
        lines, reason = body["lines"], str(body.get("reason", "UNKNOWN"))
        shop.start_return(order, lines, reason, str(body.get("note", "")), str(body.get("status", "OPEN")))
    elif action == "touch":
        shop.touch(order)
        shop.announce("updated", order)
    else:
        raise SandboxError(
            f"{action} is not an action; use pay, cancel, request_cancel, edit, address, hold, release, deliver, "
            "ship, label, return or touch."
        )
    return dump(order)


@route("GET", "shops/{shop}/fulfilments")
def list_fulfilments(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shop = world.shop(parts[0])
    return {
        "fulfilments": [
            {"order_id": order.id, "order_name": order.name, **dump(done)}
            for order in shop.orders.values()
            for done in order.fulfilments
        ]
    }


@route("GET", "shops/{shop}/refunds")
def list_refunds(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shop = world.shop(parts[0])
    return {
        "refunds": [
            {"order_id": order.id, "order_name": order.name, "currency": order.currency, **dump(refund)}
            for order in shop.orders.values()
            for refund in order.refunds
        ]
    }


@route("GET", "shops/{shop}/returns")
def list_returns(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shop = world.shop(parts[0])
    return {
        "returns": [
            {"order_id": order.id, "order_name": order.name, **dump(back)}
            for order in shop.orders.values()
            for back in order.returns
        ]
    }


# --- faults, journal, webhooks -------------------------------------------------------------------------
@route("GET", "shops/{shop}/faults")
def get_faults(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shop = world.shop(parts[0])
    return {**asdict(shop.faults), "planned": [asdict(planned) for planned in shop.planned]}


@route("PUT", "shops/{shop}/faults")
def set_faults(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    """Change some faults; `outage_seconds` is an outage from now on. An empty body changes nothing."""
    shop = world.shop(parts[0])
    if "outage_seconds" in body:
        body["outage_until"] = world.now() + float(body.pop("outage_seconds"))
    known = {field.name for field in fields(Faults)}
    unknown = sorted(set(body) - known)
    if unknown:
        raise SandboxError(f"Unknown fault {unknown[0]}; known: {', '.join(sorted(known))}, outage_seconds.")
    for name, value in body.items():
        if name.endswith("_rate") and not 0 <= float(value) <= 1:
            raise SandboxError(f"{name} is a share from 0 to 1.")
        setattr(shop.faults, name, value)
    return get_faults(world, parts, {}, {})


@route("DELETE", "shops/{shop}/faults")
def clear_faults(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shop = world.shop(parts[0])
    shop.faults = Faults(latency_ms=world.latency_ms)
    shop.planned.clear()
    return get_faults(world, parts, {}, {})


@route("POST", "shops/{shop}/planned_faults")
def plan_fault(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    if body.get("kind") not in PLANNED_KINDS:
        raise SandboxError(f"kind must be one of {', '.join(PLANNED_KINDS)}.")
    world.shop(parts[0]).planned.append(Planned(**body))
    return get_faults(world, parts, {}, {})


def show_entry(entry: LogEntry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "at": entry.at,
        "operation": entry.operation,
        "method": entry.method,
        "target": entry.target,
        "status": entry.status,
        "fault": entry.fault,
        "milliseconds": round(entry.milliseconds, 3),
        "request": entry.request.decode("utf-8", "replace"),
        "answer": entry.answer.decode("utf-8", "replace"),
    }


@route("GET", "shops/{shop}/requests")
def list_requests(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shop = world.shop(parts[0])
    found = [entry for entry in shop.log if "operation" not in query or entry.operation == query["operation"]]
    limit = int(query.get("limit", 100))
    return {
        "operations": shop.operations,
        "count": len(found),
        "requests": [show_entry(entry) for entry in found[-limit:]],
    }


@route("DELETE", "shops/{shop}/requests")
def clear_requests(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shop = world.shop(parts[0])
    shop.log.clear()
    shop.operations.clear()
    return {"ok": True}


@route("GET", "deliveries")
def list_deliveries(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    """Webhooks sent, newest last; filter by shop, topic, state, order_id."""
    found = [
        delivery
        for delivery in world.sender.deliveries
        if query.get("shop", delivery.shop_id) == delivery.shop_id
        and query.get("topic", delivery.topic) == delivery.topic
        and query.get("state", delivery.state) == delivery.state
        and query.get("order_id", delivery.order_id) == delivery.order_id
    ]
    limit = int(query.get("limit", 100))
    return {"count": len(found), "deliveries": [delivery.describe() for delivery in found[-limit:]]}


@route("POST", "deliveries/{number}/resend")
def resend(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    """Send one message again as it was (same delivery id and signature), {times} times."""
    for delivery in world.sender.deliveries:
        if delivery.number == int(parts[0]):
            world.sender.again(delivery, world.shop(delivery.shop_id), int(body.get("times", 1)))
            return delivery.describe()
    raise SandboxError(f"There is no delivery {parts[0]}.")


@route("POST", "shops/{shop}/notify")
def notify(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    """Announce an order again as a new message: {order_id, event, times}; Shopify also takes {topic}."""
    shop = world.shop(parts[0])
    order = shop.order(str(body["order_id"]))
    for _ in range(int(body.get("times", 1))):
        send = getattr(shop, "send", None)
        if "topic" in body and send is not None:
            send(str(body["topic"]), order)
        else:
            shop.announce(str(body.get("event", "updated")), order)
    return {"ok": True}


@route("GET", "shops/{shop}/queue")
def queue(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    """Messages waiting in the notification queue of a seller."""
    messages = getattr(world.shop(parts[0]), "messages", {})
    return {"count": len(messages), "messages": [dump(message) for message in messages.values()]}


# --- 3PLs ----------------------------------------------------------------------------------------------
def _threepl(world: World, name: str) -> ThreePLWarehouse:
    shop = world.shop(name)
    if not isinstance(shop, ThreePLWarehouse):
        raise SandboxError(f"{name} is no 3PL.")
    return shop


@route("GET", "threepl/{shop}")
def threepl(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    """The 3PL's own books: orders, stock, requests to count again."""
    shop = _threepl(world, parts[0])
    return {
        "orders": [dump(one) for one in shop.consignments.values()],
        "holdings": shop.holdings,
        "recounts": shop.recounts,
        "expected": shop.expected,
    }


@route("POST", "threepl/{shop}/{action}")
def threepl_act(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    """What a person at the 3PL does, see `ThreePLWarehouse.act`."""
    return _threepl(world, parts[0]).act(parts[1], body)


# --- Amazon's Multi-Channel Fulfillment -----------------------------------------------------------------
def _seller(world: World, name: str) -> AmazonSeller:
    shop = world.shop(name)
    if not isinstance(shop, AmazonSeller):
        raise SandboxError(f"{name} is not an Amazon account.")
    return shop


@route("GET", "outbound/{shop}")
def outbound_orders(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    """Fulfillment orders in Amazon's own books."""
    return {"orders": [dump(one) for one in _seller(world, parts[0]).outbound.values()]}


@route("POST", "outbound/{shop}/{order}/{action}")
def outbound_act(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    """What happens to one of them there, see `channels.sandbox.amazon.outbound.act`."""
    return dump(outbound.act(_seller(world, parts[0]), parts[1], parts[2], body))


# --- shoppers ------------------------------------------------------------------------------------------
@route("POST", "shoppers")
def start_shoppers(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    return Answer.json(shoppers.start(world, body).describe(), 201)


@route("GET", "shoppers")
def list_shoppers(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    return {"shoppers": [one.describe() for one in world.shoppers.values()]}


@route("GET", "shoppers/{number}")
def get_shoppers(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    if int(parts[0]) not in world.shoppers:
        raise SandboxError(f"There are no shoppers {parts[0]}.")
    return world.shoppers[int(parts[0])].describe()


@route("DELETE", "shoppers/{number}")
def stop_shoppers(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    result = get_shoppers(world, parts, body, query)
    world.shoppers[int(parts[0])].running = False
    return {**result, "running": False}


@route("DELETE", "shoppers")
def stop_all_shoppers(world: World, parts: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
    shoppers.stop_all(world)
    return {"ok": True}
