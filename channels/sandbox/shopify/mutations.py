"""What each mutation does to the store, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from channels.sandbox.shop import Fulfilment, Order, Refund, RefundLine, SandboxError, Stock
from channels.sandbox.shopify import rest
from channels.sandbox.shopify.execution import RESOLVERS, Refusal
from channels.sandbox.shopify.resolvers import (
    Level,
    Part,
    RefundOf,
    ReturnOf,
    Shipped,
    ShippedLine,
    assignment_status,
    find,
    parse_gid,
    transactions_of,
)
from channels.sandbox.shopify.store import Adjustment, Call, Change, Remembered, subscribe

MAX_QUANTITIES = 250
MAX_KEYS = 20_000  # idempotency keys remembered, oldest forgotten first
MAX_QUANTITY = 1_000_000_000
REASONS = {
    "correction",
    "cycle_count_available",
    "damaged",
    "movement_canceled",
    "movement_created",
    "movement_received",
    "movement_updated",
    "other",
    "promotion",
    "quality_control",
    "received",
    "reservation_created",
    "reservation_deleted",
    "reservation_updated",
    "restock",
    "safety_stock",
    "shrinkage",
}


def error(message: str, field: list[str] | None = None, code: str | None = None) -> dict[str, Any]:
    return {"message": message, "field": field, "code": code}


def forced(call: Call) -> list[dict[str, Any]]:
    """The refusal planned for this call through the control API, if any."""
    code = call.store.forced
    return [error(code.replace("_", " ").capitalize(), None, code)] if code else []


def remembered(call: Call, mutation: str, arguments: dict[str, Any]) -> tuple[str, str, Remembered | None]:
    """(key, parameters, what the key already stands for). Raises Refusal when no key was sent."""
    if not call.idempotency_key:
        raise Refusal(
            "The @idempotent directive is required for this mutation but was not provided.",
            "BAD_REQUEST",
            [mutation],
        )
    text = json.dumps([mutation, arguments], sort_keys=True, default=str)
    parameters = hashlib.sha256(text.encode()).hexdigest()
    while len(call.store.remembered) >= MAX_KEYS:
        del call.store.remembered[next(iter(call.store.remembered))]
    return call.idempotency_key, parameters, call.store.remembered.get(call.idempotency_key)


def key_errors(known: Remembered | None, parameters: str) -> list[dict[str, Any]]:
    if known is None:
        return []
    if known.parameters != parameters:
        text = "The same idempotency key cannot be used with different operation parameters."
        return [error(text, None, "IDEMPOTENCY_KEY_PARAMETER_MISMATCH")]
    if known.failed:
        text = "A previous request with this idempotency key failed. Retry with a new idempotency key."
        return [error(text, None, "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED")]
    return []


# --- inventory -----------------------------------------------------------------------------------------
def set_quantities(root: Any, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
    given = arguments["input"]
    key, parameters, known = remembered(call, "inventorySetQuantities", given)
    for position, entry in enumerate(given["quantities"]):
        if "changeFromQuantity" not in entry:
            raise Refusal(
                f"The changeFromQuantity argument is required: quantities[{position}] must send a value, "
                "even if it is null.",
                "BAD_REQUEST",
                ["inventorySetQuantities"],
            )
    errors = forced(call) or key_errors(known, parameters)
    if errors:
        return {"inventoryAdjustmentGroup": None, "userErrors": errors}
    if known is not None:
        call.store.count("idempotent_replays")
        return {"inventoryAdjustmentGroup": known.adjustment, "userErrors": []}
    errors, plan = _check_quantities(given, call)
    if errors:
        call.store.remembered[key] = Remembered(parameters, True)
        return {"inventoryAdjustmentGroup": None, "userErrors": errors}
    now = call.world.now()
    changes = []
    for item, place, quantity in plan:
        stock = item.stock[place]
        before = stock.available
        stock.available = quantity if given["name"] == "available" else quantity - stock.committed
        stock.updated_at = now
        if stock.available == before:
            continue
        delta = stock.available - before
        changes.append(Change(item.sku, place, "available", delta, stock.available))
        changes.append(Change(item.sku, place, "on_hand", delta, stock.available + stock.committed))
        call.store.announce_stock(item, place)
    number = str(call.world.serial("adjustment"))
    group = (
        Adjustment(number, now, given["reason"], given.get("referenceDocumentUri") or "", changes)
        if changes
        else None
    )
    call.store.remembered[key] = Remembered(parameters, False, adjustment=group)
    call.store.count("quantities_set", len(plan))
    return {"inventoryAdjustmentGroup": group, "userErrors": []}


def _check_quantities(
    given: dict[str, Any], call: Call
) -> tuple[list[dict[str, Any]], list[tuple[Any, str, int]]]:
    """(refusals, plan): the whole group stands or falls together."""
    errors: list[dict[str, Any]] = []
    plan: list[tuple[Any, str, int]] = []
    if given["name"] not in ("available", "on_hand"):
        errors.append(
            error(
                "The quantity name must be either 'available' or 'on_hand'.",
                ["input", "name"],
                "INVALID_NAME",
            )
        )
    if given["reason"] not in REASONS:
        errors.append(error("The specified reason is invalid.", ["input", "reason"], "INVALID_REASON"))
    uri = given.get("referenceDocumentUri")
    if uri is not None and ("://" not in uri or uri.startswith("gid://shopify/")):
        field = ["input", "referenceDocumentUri"]
        errors.append(
            error("The specified reference document is invalid.", field, "INVALID_REFERENCE_DOCUMENT")
        )
    if not 1 <= len(given["quantities"]) <= MAX_QUANTITIES:
        raise Refusal(
            f"The input array size of {len(given['quantities'])} is not in the allowed range 1 to {MAX_QUANTITIES}.",
            "MAX_INPUT_SIZE_EXCEEDED",
            ["inventorySetQuantities", "input", "quantities"],
        )
    seen: set[tuple[str, str]] = set()
    for place, entry in enumerate(given["quantities"]):
        at = ["input", "quantities", str(place)]
        item = find(call, entry["inventoryItemId"], "InventoryItem")
        location = find(call, entry["locationId"], "Location")
        quantity = entry["quantity"]
        pair = (entry["inventoryItemId"], entry["locationId"])
        if pair in seen:
            text = "The combination of inventoryItemId and locationId must be unique."
            errors.append(error(text, [*at, "locationId"], "NO_DUPLICATE_INVENTORY_ITEM_ID_GROUP_ID_PAIR"))
        seen.add(pair)
        if item is None:
            text = "The specified inventory item could not be found."
            errors.append(error(text, [*at, "inventoryItemId"], "INVALID_INVENTORY_ITEM"))
        elif item.bundle:
            text = "The specified inventory item is not allowed to be adjusted via API."
            errors.append(error(text, [*at, "inventoryItemId"], "NON_MUTABLE_INVENTORY_ITEM"))
        if location is None:
            errors.append(
                error("The specified location could not be found.", [*at, "locationId"], "INVALID_LOCATION")
            )
        if quantity < 0:
            errors.append(
                error("The quantity can't be negative.", [*at, "quantity"], "INVALID_QUANTITY_NEGATIVE")
            )
        if quantity > MAX_QUANTITY:
            errors.append(
                error(
                    "The quantity can't be higher than 1,000,000,000.",
                    [*at, "quantity"],
                    "INVALID_QUANTITY_TOO_HIGH",
                )
            )
        if item is None or location is None:
            continue
        if location.id not in item.stock:
            text = "The specified inventory item is not stocked at the location."
            errors.append(error(text, [*at, "locationId"], "INVALID_LOCATION"))
            continue
        stock = item.stock[location.id]
        now = stock.available if given["name"] == "available" else stock.available + stock.committed
        expected = entry["changeFromQuantity"]
        if expected is not None and expected != now:
            text = "The changeFromQuantity value does not match persisted value."
            errors.append(error(text, [*at, "changeFromQuantity"], "CHANGE_FROM_QUANTITY_STALE"))
            call.store.count("stale_refusals")
        plan.append((item, location.id, quantity))
    return errors, plan


def activate(root: Any, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
    key, parameters, known = remembered(call, "inventoryActivate", arguments)
    errors = forced(call) or key_errors(known, parameters)
    item = find(call, arguments["inventoryItemId"], "InventoryItem")
    location = find(call, arguments["locationId"], "Location")
    if item is None:
        errors.append(error("The product couldn't be stocked because it wasn't found.", ["inventoryItemId"]))
    if location is None:
        errors.append(error("The location couldn't be found.", ["locationId"]))
    if errors or item is None or location is None:
        return {"inventoryLevel": None, "userErrors": errors}
    if location.id not in item.stock:
        item.stock[location.id] = Stock(arguments.get("available") or 0, 0, call.world.now())
        call.store.announce_stock(item, location.id)
    call.store.remembered[key] = Remembered(parameters, False)
    return {"inventoryLevel": Level(item, location.id), "userErrors": []}


# --- fulfilment ----------------------------------------------------------------------------------------
def fulfil(root: Any, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
    given = arguments["fulfillment"]
    errors = forced(call)
    parts: list[tuple[Part, dict[str, int]]] = []
    for place, entry in enumerate(given["lineItemsByFulfillmentOrder"]):
        at = ["fulfillment", "lineItemsByFulfillmentOrder", str(place)]
        part: Part | None = find(call, entry["fulfillmentOrderId"], "FulfillmentOrder")
        if part is None:
            errors.append(error("Fulfillment order does not exist.", [*at, "fulfillmentOrderId"]))
            continue
        status = assignment_status(part)
        if status not in ("OPEN", "IN_PROGRESS"):
            number = part.assignment.id
            text = f"Fulfillment order {number} has an unfulfillable status= {status.lower()}."
            errors.append(error(text, [*at, "fulfillmentOrderId"]))
            continue
        asked: dict[str, int] = {}
        if entry.get("fulfillmentOrderLineItems"):
            for line in entry["fulfillmentOrderLineItems"]:
                line_id = _part_line(part, line["id"])
                if line_id is None:
                    errors.append(error(f"Fulfillment order line item {line['id']} does not exist.", at))
                elif line["quantity"] < 1 or line["quantity"] > part.assignment.remaining[line_id]:
                    left = part.assignment.remaining[line_id]
                    text = f"Invalid fulfillment order line item quantity requested: {left} remain."
                    errors.append(error(text, at))
                elif line_id in asked:
                    errors.append(error(f"Fulfillment order line item {line['id']} is named twice.", at))
                else:
                    asked[line_id] = line["quantity"]
        else:
            asked = {line_id: left for line_id, left in part.assignment.remaining.items() if left}
        parts.append((part, asked))
    if not given["lineItemsByFulfillmentOrder"]:
        errors.append(
            error(
                "At least one fulfillment order is required.", ["fulfillment", "lineItemsByFulfillmentOrder"]
            )
        )
    if len({part.order.id for part, _ in parts}) > 1:
        errors.append(error("All fulfillment orders must belong to the same order.", ["fulfillment"]))
    if len({part.assignment.location_id for part, _ in parts}) > 1:
        errors.append(error("All fulfillment orders must be assigned to the same location.", ["fulfillment"]))
    if len({part.assignment.id for part, _ in parts}) < len(parts):
        errors.append(error("A fulfillment order is named twice.", ["fulfillment"]))
    if errors:
        return {"fulfillment": None, "userErrors": errors}
    order, now = parts[0][0].order, call.world.now()
    lines: dict[str, int] = {}
    for _, asked in parts:
        for line_id, quantity in asked.items():
            lines[line_id] = lines.get(line_id, 0) + quantity
    done = Fulfilment(
        id=str(call.world.serial("fulfilment")),
        at=now,
        updated_at=now,
        location_id=parts[0][0].assignment.location_id,
        lines=lines,
        assignments=[part.assignment.id for part, _ in parts],
        notified=bool(given.get("notifyCustomer")),
    )
    _track(done, given.get("trackingInfo") or {})
    call.store.fulfil(order, {part.assignment.id: asked for part, asked in parts}, done)
    return {"fulfillment": Shipped(order, done), "userErrors": []}


def _part_line(part: Part, text: str) -> str | None:
    kind, number = parse_gid(text)
    if kind != "FulfillmentOrderLineItem":
        return None
    return next(
        (line_id for line_id in part.assignment.total if f"{part.assignment.id}{line_id}" == number), None
    )


def _track(done: Fulfilment, given: dict[str, Any]) -> None:
    done.carrier = given.get("company") or done.carrier
    numbers = given.get("numbers") or ([given["number"]] if given.get("number") else [])
    urls = given.get("urls") or ([given["url"]] if given.get("url") else [])
    done.tracking = [str(number) for number in numbers] or done.tracking
    done.urls = [str(url) for url in urls] or done.urls


def update_tracking(root: Any, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
    errors = forced(call)
    found: Shipped | None = find(call, arguments["fulfillmentId"], "Fulfillment")
    if found is None:
        errors.append(error("Fulfillment does not exist.", ["fulfillmentId"]))
    if errors or found is None:
        return {"fulfillment": None, "userErrors": errors}
    _track(found.fulfilment, arguments["trackingInfoInput"])
    found.fulfilment.updated_at = call.world.now()
    call.store.touch(found.order)
    call.store.announce("tracking", found.order, fulfilment=found.fulfilment)
    return {"fulfillment": found, "userErrors": []}


def cancel_fulfilment(root: Any, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
    found: Shipped | None = find(call, arguments["id"], "Fulfillment")
    if found is None or found.fulfilment.status == "CANCELLED":
        return {
            "fulfillment": None,
            "userErrors": [error("Fulfillment does not exist or is already cancelled.", ["id"])],
        }
    order, done = found
    left = dict(done.lines)
    for assignment in order.assignments:
        if assignment.id not in done.assignments:
            continue
        for line_id in assignment.total:
            back = min(left.get(line_id, 0), assignment.total[line_id] - assignment.remaining[line_id])
            assignment.remaining[line_id] += back
            left[line_id] = left.get(line_id, 0) - back
            line = order.line(line_id)
            line.fulfilled -= back
            stock = call.store.items[line.sku].stock.get(assignment.location_id)
            if stock is not None:
                stock.committed += back
    done.status, done.updated_at = "CANCELLED", call.world.now()
    call.store.touch(order)
    call.store.announce("tracking", order, fulfilment=done)
    return {"fulfillment": found, "userErrors": []}


# --- cancel, refund, return ----------------------------------------------------------------------------
def cancel_order(root: Any, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
    order: Order | None = find(call, arguments["orderId"], "Order")
    errors = forced(call)
    if order is None:
        errors.append(error("Order does not exist", ["orderId"], "NOT_FOUND"))
    elif order.cancelled_at:
        errors.append(error("Cannot cancel an order that has already been canceled", ["orderId"], "INVALID"))
    elif any(done.status == "SUCCESS" for done in order.fulfilments):
        errors.append(error("Cannot cancel an order that has fulfillments", ["orderId"], "INVALID"))
    elif any(back.status in ("OPEN", "REQUESTED") for back in order.returns):
        errors.append(error("Cannot cancel an order with open returns", ["orderId"], "INVALID"))
    if arguments.get("refund") is not None and arguments.get("refundMethod") is not None:
        errors.append(error("Only one of refund and refundMethod can be provided", ["refund"], "INVALID"))
    if errors or order is None:
        return {"job": None, "orderCancelUserErrors": errors, "userErrors": errors}
    store, reason = call.store, arguments["reason"]
    money = bool(arguments.get("refund")) or bool(
        (arguments.get("refundMethod") or {}).get("originalPaymentMethodsRefund")
    )
    if arguments.get("staffNote"):
        order.note = arguments["staffNote"]

    def act() -> None:
        if order.cancelled_at:
            return
        paid = rest.received(order) - order.refunded_amount
        lines = [
            RefundLine(
                x.id,
                x.open,
                "CANCEL" if arguments["restock"] else "NO_RESTOCK",
                amount=rest.cents(rest.line_total(x, x.open)),
            )
            for x in order.lines
            if x.open
        ]
        if order.payment in ("pending", "authorized"):
            order.payment = "voided"
        store.cancel(order, reason, restock=arguments["restock"], by="merchant")
        if reason == "INVENTORY":
            store.count("cancelled_no_stock")
        if money and paid > 0:
            now = call.world.now()
            store.add_refund(
                order, Refund(str(call.world.serial("refund")), now, lines, rest.cents(paid), reason=reason)
            )

    job = str(call.world.serial("job"))
    delay = float(store.settings.get("job_delay_ms", 0)) / 1000
    store.jobs[job] = call.world.now() + delay
    if delay:
        call.world.later(delay, act)
    else:
        act()
    return {"job": f"gid://shopify/Job/{job}", "orderCancelUserErrors": [], "userErrors": []}


def refund(root: Any, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
    given = arguments["input"]
    key, parameters, known = remembered(call, "refundCreate", given)
    store = call.store
    errors = forced(call) or key_errors(known, parameters)
    if errors:
        return {"order": None, "refund": None, "userErrors": errors}
    if known is not None:
        store.count("idempotent_replays")
        before = store.orders[known.order_id]
        same = next(r for r in before.refunds if r.id == known.refund_id)
        return {"order": before, "refund": RefundOf(before, same), "userErrors": []}
    order: Order | None = find(call, given["orderId"], "Order")
    if order is None:
        errors.append(error("Order does not exist", ["orderId"]))
        store.remembered[key] = Remembered(parameters, True)
        return {"order": None, "refund": None, "userErrors": errors}
    lines, amount = _check_refund(given, order, call, errors)
    if errors:
        store.remembered[key] = Remembered(parameters, True)
        return {"order": order, "refund": None, "userErrors": errors}
    for one in lines:
        line = order.line(one.line_id)
        if one.restock == "CANCEL":
            store.take_off(order, line, one.quantity, restock=True)
            continue
        line.refunded += one.quantity
        if one.restock == "RETURN":
            stock = store.items[line.sku].stock.setdefault(one.location_id, Stock())
            stock.available += one.quantity
            stock.updated_at = call.world.now()
            store.announce_stock(store.items[line.sku], one.location_id)
    number = str(call.world.serial("refund"))
    shipping = (given.get("shipping") or {}).get("amount") or "0.00"
    done = Refund(number, call.world.now(), lines, rest.cents(amount), str(shipping), given.get("note") or "")
    store.remembered[key] = Remembered(parameters, False, order_id=order.id, refund_id=number)
    store.add_refund(order, done)
    return {"order": order, "refund": RefundOf(order, done), "userErrors": []}


def _check_refund(
    given: dict[str, Any], order: Order, call: Call, errors: list[dict[str, Any]]
) -> tuple[list[RefundLine], Decimal]:
    lines: list[RefundLine] = []
    for place, entry in enumerate(given.get("refundLineItems") or []):
        at = ["refundLineItems", str(place)]
        kind, number = parse_gid(entry["lineItemId"])
        line = next((x for x in order.lines if kind == "LineItem" and x.id == number), None)
        restock = entry.get("restockType") or "NO_RESTOCK"
        if line is None:
            errors.append(error("Line item does not belong to the order", [*at, "lineItemId"]))
            continue
        before = sum(one.quantity for one in lines if one.line_id == line.id)
        if entry["quantity"] < 1 or entry["quantity"] + before > line.current:
            text = (
                f"Quantity cannot refund more items than were purchased: {line.current} can still be refunded"
            )
            errors.append(error(text, [*at, "quantity"]))
            continue
        location = ""
        if restock == "LEGACY_RESTOCK":
            errors.append(error("Restock type legacy_restock is no longer accepted", [*at, "restockType"]))
        elif restock != "NO_RESTOCK":
            place_found = find(call, entry["locationId"], "Location") if entry.get("locationId") else None
            if place_found is None:
                errors.append(error("Location can't be blank when items are restocked", [*at, "locationId"]))
            else:
                location = place_found.id
            if restock == "CANCEL" and entry["quantity"] > line.open:
                errors.append(error("Only unfulfilled items can be cancelled", [*at, "restockType"]))
            if restock == "RETURN" and entry["quantity"] > line.fulfilled:
                errors.append(error("Only fulfilled items can be returned", [*at, "restockType"]))
        value = rest.cents(rest.line_total(line, entry["quantity"]))
        lines.append(RefundLine(line.id, entry["quantity"], restock, location, value))
    amount = Decimal(0)
    known = {f"gid://shopify/OrderTransaction/{t.number}" for t in transactions_of(order)}
    for place, entry in enumerate(given.get("transactions") or []):
        at = ["transactions", str(place)]
        try:
            asked = Decimal(str(entry["amount"]))
        except InvalidOperation:
            errors.append(error("Amount is not a number", [*at, "amount"]))
            continue
        if entry["kind"] != "REFUND" or asked <= 0:
            errors.append(error("Only transactions of kind REFUND with an amount above 0 can be sent", at))
        if entry["orderId"] != given["orderId"]:
            errors.append(error("Transaction must be of the same order", [*at, "orderId"]))
        if entry.get("parentId") and entry["parentId"] not in known:
            errors.append(error("Parent transaction does not exist", [*at, "parentId"]))
        amount += asked
    left = rest.received(order) - order.refunded_amount
    if amount > left and not given.get("allowOverRefunding"):
        errors.append(
            error(
                f"Refund amount cannot exceed the refundable amount of {rest.cents(left)}", ["transactions"]
            )
        )
    if not lines and not amount:
        errors.append(error("Refund must have line items or transactions", None))
    return lines, amount


def create_return(root: Any, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
    given = arguments["returnInput"]
    order: Order | None = find(call, given["orderId"], "Order")
    if order is None:
        return {
            "return": None,
            "userErrors": [error("Order not found.", ["returnInput", "orderId"], "NOT_FOUND")],
        }
    entries, reason, note = [], "UNKNOWN", ""
    for place, entry in enumerate(given["returnLineItems"]):
        number = parse_gid(entry["fulfillmentLineItemId"])[1]
        shipped = next(
            (
                ShippedLine(order, done, order.line(line_id))
                for done in order.fulfilments
                for line_id in done.lines
                if f"{done.id}{line_id}" == number
            ),
            None,
        )
        if shipped is None:
            field = ["returnInput", "returnLineItems", str(place), "fulfillmentLineItemId"]
            return {
                "return": None,
                "userErrors": [error("Fulfillment line item not found.", field, "NOT_FOUND")],
            }
        entries.append({"line_id": shipped.line.id, "quantity": entry["quantity"]})
        reason = entry.get("returnReason") or reason
        note = entry.get("returnReasonNote") or note
    try:
        back = call.store.start_return(order, entries, reason, note, "OPEN")
    except SandboxError as refused:
        return {
            "return": None,
            "userErrors": [error(str(refused), ["returnInput", "returnLineItems"], "INVALID")],
        }
    return {"return": ReturnOf(order, back), "userErrors": []}


def close_return(root: Any, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
    found: ReturnOf | None = find(call, arguments["id"], "Return")
    if found is None:
        return {"return": None, "userErrors": [error("Return not found.", ["id"], "NOT_FOUND")]}
    if found.back.status != "OPEN":
        return {"return": None, "userErrors": [error("Return status is invalid.", ["id"], "INVALID_STATE")]}
    found.back.status, found.back.closed_at = "CLOSED", call.world.now()
    call.store.touch(found.order)
    call.store.send("RETURNS_CLOSE", found.order, back=found.back)
    return {"return": found, "userErrors": []}


# --- webhook subscriptions -----------------------------------------------------------------------------
def create_subscription(root: Any, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
    given = arguments["webhookSubscription"]
    at = ["webhookSubscription"]
    errors = forced(call)
    if not given.get("uri"):
        errors.append(error("Address can't be blank", [*at, "uri"]))
    if given.get("format") == "XML":
        errors.append(error("Format XML is not played by the sandbox", [*at, "format"]))
    if given.get("filter"):
        errors.append(error("Filter is not played by the sandbox", [*at, "filter"]))
    if not errors:
        try:
            made = subscribe(
                call.store,
                arguments["topic"],
                given["uri"],
                given.get("includeFields"),
                given.get("name") or "",
            )
            return {"webhookSubscription": made, "userErrors": []}
        except SandboxError as refused:
            errors.append(error(str(refused), [*at, "callbackUrl"]))
    return {"webhookSubscription": None, "userErrors": errors}


def update_subscription(root: Any, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
    found = find(call, arguments["id"], "WebhookSubscription")
    if found is None:
        return {
            "webhookSubscription": None,
            "userErrors": [error("Webhook subscription does not exist", ["id"])],
        }
    given = arguments["webhookSubscription"]
    found.uri = given.get("uri") or found.uri
    if given.get("includeFields") is not None:
        found.include_fields = given["includeFields"]
    found.updated_at = call.world.now()
    return {"webhookSubscription": found, "userErrors": []}


def delete_subscription(root: Any, arguments: dict[str, Any], call: Call) -> dict[str, Any]:
    found = find(call, arguments["id"], "WebhookSubscription")
    if found is None:
        text = "Webhook subscription does not exist"
        return {"deletedWebhookSubscriptionId": None, "userErrors": [error(text, ["id"])]}
    del call.store.subscriptions[found.id]
    return {"deletedWebhookSubscriptionId": arguments["id"], "userErrors": []}


MUTATIONS: dict[str, Callable[[Any, dict[str, Any], Any], Any]] = {
    "inventorySetQuantities": set_quantities,
    "inventoryActivate": activate,
    "fulfillmentCreate": fulfil,
    "fulfillmentTrackingInfoUpdate": update_tracking,
    "fulfillmentCancel": cancel_fulfilment,
    "orderCancel": cancel_order,
    "refundCreate": refund,
    "returnCreate": create_return,
    "returnClose": close_return,
    "webhookSubscriptionCreate": create_subscription,
    "webhookSubscriptionUpdate": update_subscription,
    "webhookSubscriptionDelete": delete_subscription,
}
RESOLVERS["Mutation"] = MUTATIONS
