"""How each field of the played schema reads the store's state."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from channels.sandbox.check import parse_time
from channels.sandbox.shop import (
    Assignment,
    Fulfilment,
    Item,
    Line,
    Order,
    Refund,
    RefundLine,
    Return,
    ReturnLine,
)
from channels.sandbox.shopify import rest
from channels.sandbox.shopify.execution import RESOLVERS, SCHEMA, Refusal, Resolver, Typed
from channels.sandbox.shopify.rest import gid
from channels.sandbox.shopify.store import API_VERSION, Call, iso

MAX_PAGE = 250


# --- values that need to know where they stand -------------------------------------------------------
class LineOf(NamedTuple):
    order: Order
    line: Line


class Part(NamedTuple):  # a fulfillment order
    order: Order
    assignment: Assignment


class PartLine(NamedTuple):
    order: Order
    assignment: Assignment
    line: Line


class Shipped(NamedTuple):
    order: Order
    fulfilment: Fulfilment


class ShippedLine(NamedTuple):
    order: Order
    fulfilment: Fulfilment
    line: Line


class RefundOf(NamedTuple):
    order: Order
    refund: Refund


class RefundLineOf(NamedTuple):
    order: Order
    refund: Refund
    line: RefundLine


class ReturnOf(NamedTuple):
    order: Order
    back: Return


class ReturnLineOf(NamedTuple):
    order: Order
    back: Return
    line: ReturnLine


class Level(NamedTuple):
    item: Item
    location_id: str


class Bag(NamedTuple):
    amount: Decimal
    currency: str


class Transaction(NamedTuple):
    order: Order
    kind: str
    amount: Decimal
    number: str
    at: float


@dataclass(slots=True)
class Page:
    nodes: list[Any]
    cursors: list[str]
    more_after: bool
    more_before: bool


def page(nodes: list[Any], arguments: dict[str, Any], key: Callable[[Any], list[Any]] | None = None) -> Page:
    """Relay paging. `nodes` come in order; `key` gives each a value that rises with the order, for moving lists."""
    first, last = arguments.get("first"), arguments.get("last")
    if first is None and last is None:
        raise Refusal("you must provide one of first or last", "BAD_REQUEST")
    for name, number in (("first", first), ("last", last)):
        if number is not None and not 0 <= number <= MAX_PAGE:
            raise Refusal(f"{name} must be from 0 to {MAX_PAGE}", "BAD_REQUEST")
    keys = [key(node) for node in nodes] if key else [[number] for number in range(len(nodes))]
    pairs = list(zip(keys, nodes, strict=True))
    if arguments.get("reverse"):
        pairs.reverse()
    backward = bool(arguments.get("reverse"))
    begin, end = 0, len(pairs)
    if arguments.get("after"):
        mark = _cursor(arguments["after"])
        begin = next((n for n, (k, _) in enumerate(pairs) if (k < mark if backward else k > mark)), end)
    if arguments.get("before"):
        mark = _cursor(arguments["before"])
        end = next((n for n, (k, _) in enumerate(pairs) if (k <= mark if backward else k >= mark)), end)
    window = (begin, min(end, begin + first)) if first is not None else (max(begin, end - (last or 0)), end)
    shown = pairs[window[0] : window[1]]
    return Page(
        [node for _, node in shown], [_mark(k) for k, _ in shown], window[1] < len(pairs), window[0] > 0
    )


def _mark(key: list[Any]) -> str:
    return base64.b64encode(json.dumps(key).encode()).decode()


def _cursor(text: str) -> list[Any]:
    try:
        value = json.loads(base64.b64decode(text))
    except ValueError:
        value = None
    if not isinstance(value, list):
        raise Refusal("Invalid cursor for current pagination sort.", "BAD_REQUEST")
    return value


TERM = re.compile(r"""\s*(?:(AND|OR)\b|(-|NOT\s+)?([A-Za-z_]+):(>=|<=|>|<)?('[^']*'|"[^"]*"|[^\s()]+))""")


def search(query: str | None, fields: dict[str, Callable[[Any, str, str], bool]]) -> Callable[[Any], bool]:
    """A filter from Shopify's search text: terms joined by AND (or a space) and OR, each perhaps negated by `-` or NOT.

    Raises Refusal on a field that is not known.
    """
    groups: list[list[tuple[Callable[[Any, str, str], bool], str, str, bool]]] = [[]]
    position, text = 0, (query or "").strip()
    while position < len(text):
        found = TERM.match(text, position)
        if not found:
            raise Refusal(f"The search {text!r} cannot be read at position {position}.", "BAD_REQUEST")
        position = found.end()
        if found[1] == "OR":
            groups.append([])
        elif found[3]:
            if found[3] not in fields:
                raise Refusal(f"Invalid search field: {found[3]}", "BAD_REQUEST")
            groups[-1].append((fields[found[3]], found[4] or "=", found[5].strip("'\""), not found[2]))
    if groups == [[]]:
        return lambda value: True
    return lambda value: any(
        all(test(value, sign, asked) is wanted for test, sign, asked, wanted in group) for group in groups
    )


def by_time(read: Callable[[Any], float]) -> Callable[[Any, str, str], bool]:
    def test(value: Any, sign: str, asked: str) -> bool:
        moment = parse_time(asked if "T" in asked else f"{asked}T00:00:00Z")
        if moment is None:
            raise Refusal(f"{asked!r} is not a time", "BAD_REQUEST")
        mine = int(read(value))  # the platform stores seconds
        return {
            "=": mine == moment,
            ">": mine > moment,
            ">=": mine >= moment,
            "<": mine < moment,
            "<=": mine <= moment,
        }[sign]

    return test


def by_text(read: Callable[[Any], str]) -> Callable[[Any, str, str], bool]:
    def test(value: Any, sign: str, asked: str) -> bool:
        mine = read(value).lower()
        asked = asked.lower()
        return mine.startswith(asked[:-1]) if asked.endswith("*") else mine == asked

    return test


def by_number(read: Callable[[Any], int]) -> Callable[[Any, str, str], bool]:
    def test(value: Any, sign: str, asked: str) -> bool:
        try:
            number = int(asked.rpartition("/")[2])
        except ValueError:
            raise Refusal(f"{asked!r} is not an id", "BAD_REQUEST") from None
        mine = read(value)
        return {
            "=": mine == number,
            ">": mine > number,
            ">=": mine >= number,
            "<": mine < number,
            "<=": mine <= number,
        }[sign]

    return test


def order_state(order: Order) -> str:
    return "cancelled" if order.cancelled_at else "closed" if order.closed_at else "open"


ORDER_SEARCH = {
    "updated_at": by_time(lambda order: order.updated_at),
    "created_at": by_time(lambda order: order.created_at),
    "processed_at": by_time(lambda order: order.created_at),
    "id": by_number(lambda order: int(order.id)),
    "name": by_text(lambda order: order.name),
    "email": by_text(lambda order: order.email),
    "financial_status": by_text(rest.financial_status),
    "fulfillment_status": lambda order, sign, asked: (
        {
            "FULFILLED": ("shipped", "fulfilled"),
            "PARTIALLY_FULFILLED": ("partial", "partially_fulfilled"),
        }.get(rest.fulfillment_status(order), ("unfulfilled", "unshipped")).count(asked.lower())
        > 0
    ),
    "status": lambda order, sign, asked: (
        asked == "any"
        or order_state(order) == asked
        or (asked == "not_closed" and order_state(order) != "closed")
    ),
    "return_status": by_text(lambda order: return_status(order)),
    "test": lambda order, sign, asked: order.test is (asked == "true"),
    "sku": lambda order, sign, asked: any(line.sku == asked for line in order.lines),
}
ITEM_SEARCH = {
    "sku": by_text(lambda item: item.sku),
    "id": by_number(rest.item_number),
    "updated_at": by_time(lambda item: item.updated_at),
    "created_at": by_time(lambda item: item.created_at),
}
VARIANT_SEARCH = {
    **ITEM_SEARCH,
    "id": by_number(rest.variant_number),
    "barcode": by_text(lambda item: item.barcode),
}
PRODUCT_SEARCH = {
    **ITEM_SEARCH,
    "id": by_number(rest.product_number),
    "title": by_text(lambda item: item.title),
}


# --- finding things by gid -----------------------------------------------------------------------------
def parse_gid(text: str) -> tuple[str, str]:
    """(kind, number) of a global id. Raises Refusal on anything else."""
    found = re.fullmatch(r"gid://shopify/(\w+)/([^/]+)", text)
    if not found:
        raise Refusal(f"Invalid global id '{text}'", "argumentLiteralsIncompatible")
    return found[1], found[2]


def find(call: Call, text: str, kind: str) -> Any:
    """The object of one kind, or None."""
    name, number = parse_gid(text)
    if name != kind:
        return None
    found = _find(call, name, number)
    return found.value if found else None


def _find(call: Call, kind: str, number: str) -> Typed | None:
    store = call.store
    if kind == "Order":
        return Typed(kind, store.orders[number]) if number in store.orders else None
    if kind == "Location":
        return Typed(kind, store.locations[number]) if number in store.locations else None
    if kind == "WebhookSubscription":
        return Typed(kind, store.subscriptions[number]) if number in store.subscriptions else None
    if kind == "Shop":
        return Typed(kind, store)
    if kind in rest.FIRST_ITEM:
        item = store.numbers.get(int(number) - rest.FIRST_ITEM[kind]) if number.isdigit() else None
        return Typed(kind, item) if item else None
    if kind == "InventoryLevel":
        place, _, rest_of = number.partition("?inventory_item_id=")
        found = _find(call, "InventoryItem", rest_of)
        return Typed(kind, Level(found.value, place)) if found and place in found.value.stock else None
    order = store.orders.get(store.owners.get(number, ""))
    if order is None:
        return None
    found_in: dict[str, list[Any]] = {
        "FulfillmentOrder": [Part(order, one) for one in order.assignments if one.id == number],
        "Fulfillment": [Shipped(order, one) for one in order.fulfilments if one.id == number],
        "Refund": [RefundOf(order, one) for one in order.refunds if one.id == number],
        "Return": [ReturnOf(order, one) for one in order.returns if one.id == number],
    }
    return next((Typed(kind, one) for one in found_in.get(kind, [])), None)


def _node(call: Call, text: str) -> Typed | None:
    return _find(call, *parse_gid(text))


# --- lists ---------------------------------------------------------------------------------------------
def _orders(root: Any, arguments: dict[str, Any], call: Call) -> Page:
    wanted = search(arguments.get("query"), ORDER_SEARCH)
    keys: dict[str, Callable[[Order], list[Any]]] = {
        "UPDATED_AT": lambda order: [int(order.updated_at), int(order.id)],
        "ID": lambda order: [int(order.id)],
        "ORDER_NUMBER": lambda order: [order.number],
    }
    key = keys.get(arguments["sortKey"], lambda order: [int(order.created_at), int(order.id)])
    return page(sorted((o for o in call.store.orders.values() if wanted(o)), key=key), arguments, key)


def _items(fields: dict[str, Any], number: Callable[[Item], int]) -> Resolver:
    def resolve(root: Any, arguments: dict[str, Any], call: Call) -> Page:
        wanted = search(arguments.get("query"), fields)
        keys: dict[str, Callable[[Item], list[Any]]] = {
            "SKU": lambda item: [item.sku, number(item)],
            "TITLE": lambda item: [item.title, number(item)],
            "UPDATED_AT": lambda item: [int(item.updated_at), number(item)],
            "CREATED_AT": lambda item: [int(item.created_at), number(item)],
        }
        key = keys.get(arguments.get("sortKey", "ID"), lambda item: [number(item)])
        return page(sorted((i for i in call.store.items.values() if wanted(i)), key=key), arguments, key)

    return resolve


def _subscriptions(root: Any, arguments: dict[str, Any], call: Call) -> Page:
    topics, uri = arguments.get("topics"), arguments.get("uri")
    found = [
        s
        for s in call.store.subscriptions.values()
        if (not topics or s.topic in topics) and (not uri or s.uri == uri)
    ]
    return page(found, arguments, lambda s: [int(s.id)])


def _levels(item: Item, arguments: dict[str, Any], call: Call) -> Page:
    found = [Level(item, place) for place in item.stock if place in call.store.locations]
    return page(found, arguments, lambda level: [level.location_id])


def _quantities(level: Level, arguments: dict[str, Any], call: Call) -> list[tuple[Level, str, int]]:
    stock = level.item.stock[level.location_id]
    known = {
        "available": stock.available,
        "committed": stock.committed,
        "on_hand": stock.available + stock.committed,
        "incoming": 0,
        "reserved": 0,
        "damaged": 0,
        "safety_stock": 0,
        "quality_control": 0,
    }
    unknown = [name for name in arguments["names"] if name not in known]
    if unknown:
        raise Refusal(f"The specified quantity name '{unknown[0]}' is invalid.", "BAD_REQUEST")
    return [(level, name, known[name]) for name in arguments["names"]]


def transactions_of(order: Order) -> list[Transaction]:
    kind = {"paid": "SALE", "authorized": "AUTHORIZATION", "expired": "AUTHORIZATION"}.get(
        order.payment, "SALE"
    )
    found = [Transaction(order, kind, order.total, f"{order.id}1", order.created_at)]
    found += [
        Transaction(order, "REFUND", Decimal(refund.amount), f"{order.id}{number}", refund.at)
        for number, refund in enumerate(order.refunds, start=2)
        if Decimal(refund.amount)
    ]
    return found


def assignment_status(part: Part) -> str:
    assignment = part.assignment
    if not any(assignment.remaining.values()) and not assignment.cancelled:
        return "CLOSED"
    if assignment.cancelled:
        return "CANCELLED"
    if assignment.hold:
        return "ON_HOLD"
    return "IN_PROGRESS" if assignment.remaining != assignment.total else "OPEN"


def return_status(order: Order) -> str:
    if not order.returns:
        return "NO_RETURN"
    states = {back.status for back in order.returns}
    if "REQUESTED" in states:
        return "RETURN_REQUESTED"
    return "IN_PROGRESS" if "OPEN" in states else "RETURNED"


def _sum(read: Callable[[Order], Decimal]) -> Resolver:
    return lambda order, arguments, call: Bag(read(order), order.currency)


def _of_line(read: Callable[[Line], Decimal]) -> Resolver:
    return lambda value, arguments, call: Bag(read(value.line), value.order.currency)


def _time(read: Callable[[Any], float]) -> Resolver:
    return lambda value, arguments, call: iso(read(value))


def _get(read: Callable[[Any], Any]) -> Resolver:
    return lambda value, arguments, call: read(value)


def _const(value: Any) -> Resolver:
    return lambda _, arguments, call: value


def _of_address(key: str) -> Resolver:
    return lambda order, arguments, call: (rest.address(order) or {}).get(key)


def _taxes(amount: Decimal, currency: str) -> list[Bag]:
    return [Bag(amount, currency)] if amount else []


def _shipping(order: Order) -> list[Order]:
    return [order] if order.shipping_title else []


def _open_units(line: Line) -> int:
    return max(0, line.open)


RESOLVERS.update(
    {
        "QueryRoot": {
            "shop": lambda root, a, call: call.store,
            "order": lambda root, a, call: find(call, a["id"], "Order"),
            "orders": _orders,
            "inventoryItem": lambda root, a, call: find(call, a["id"], "InventoryItem"),
            "inventoryItems": _items(ITEM_SEARCH, rest.item_number),
            "inventoryLevel": lambda root, a, call: find(call, a["id"], "InventoryLevel"),
            "productVariant": lambda root, a, call: find(call, a["id"], "ProductVariant"),
            "productVariants": _items(VARIANT_SEARCH, rest.variant_number),
            "products": _items(PRODUCT_SEARCH, rest.product_number),
            "location": lambda root, a, call: (
                find(call, a["id"], "Location") if a.get("id") else next(iter(call.store.locations.values()))
            ),
            "locations": lambda root, a, call: page(
                sorted(
                    (
                        place
                        for place in call.store.locations.values()
                        if place.active or a["includeInactive"]
                    ),
                    key=lambda place: place.name,
                ),
                a,
                lambda place: [place.name, place.id],
            ),
            "fulfillmentOrder": lambda root, a, call: find(call, a["id"], "FulfillmentOrder"),
            "fulfillment": lambda root, a, call: find(call, a["id"], "Fulfillment"),
            "refund": lambda root, a, call: find(call, a["id"], "Refund"),
            "return": lambda root, a, call: find(call, a["id"], "Return"),
            "job": lambda root, a, call: a["id"] if parse_gid(a["id"])[1] in call.store.jobs else None,
            "node": lambda root, a, call: _node(call, a["id"]),
            "nodes": lambda root, a, call: [_node(call, text) for text in a["ids"]],
            "webhookSubscription": lambda root, a, call: find(call, a["id"], "WebhookSubscription"),
            "webhookSubscriptions": _subscriptions,
        },
        "Shop": {
            "id": lambda store, a, call: gid("Shop", store.number),
            "name": _get(lambda store: store.name),
            "myshopifyDomain": _get(lambda store: store.domain),
            "url": _get(lambda store: f"https://{store.domain}"),
            "email": _get(lambda store: f"owner@{store.domain}"),
            "currencyCode": _get(lambda store: store.currency),
            "ianaTimezone": _get(lambda store: store.settings.get("time_zone", "America/New_York")),
            "createdAt": _time(lambda store: store.created_at),
            "plan": _get(lambda store: store),
        },
        "ShopPlan": {
            "partnerDevelopment": _const(True),
            "publicDisplayName": _const("Development"),
            "shopifyPlus": _get(lambda store: store.restore_rate >= 1000),
        },
        "Job": {
            "id": _get(lambda identity: identity),
            "done": lambda identity, a, call: call.store.jobs[parse_gid(identity)[1]] <= call.world.now(),
        },
        "Location": {
            "id": _get(lambda place: gid("Location", place.id)),
            "legacyResourceId": _get(lambda place: place.id),
            "name": _get(lambda place: place.name),
            "isActive": _get(lambda place: place.active),
            "isFulfillmentService": _const(False),
            "fulfillsOnlineOrders": _get(lambda place: place.active),
            "shipsInventory": _get(lambda place: place.active),
            "hasActiveInventory": lambda place, a, call: any(
                place.id in item.stock for item in call.store.items.values()
            ),
            "address": _get(lambda place: place),
            "createdAt": lambda place, a, call: iso(call.store.created_at),
            "updatedAt": lambda place, a, call: iso(call.store.created_at),
        },
        "LocationAddress": {
            "address1": _get(lambda place: place.address1),
            "address2": _const(None),
            "city": _get(lambda place: place.city),
            "country": _get(lambda place: place.country_code),
            "countryCode": _get(lambda place: place.country_code),
            "phone": _const(None),
            "province": _get(lambda place: place.province_code),
            "provinceCode": _get(lambda place: place.province_code),
            "zip": _get(lambda place: place.zip),
        },
        "InventoryItem": {
            "id": _get(rest.item_gid),
            "legacyResourceId": _get(lambda item: str(rest.item_number(item))),
            "sku": _get(lambda item: item.sku),
            "tracked": _get(lambda item: item.tracked),
            "requiresShipping": _get(lambda item: item.requires_shipping),
            "duplicateSkuCount": _const(0),
            "locationsCount": _get(lambda item: len(item.stock)),
            "createdAt": _time(lambda item: item.created_at),
            "updatedAt": _time(lambda item: item.updated_at),
            "variant": _get(lambda item: item),
            "variants": lambda item, a, call: page([item], a),
            "inventoryLevels": _levels,
            "inventoryLevel": lambda item, a, call: (
                Level(item, parse_gid(a["locationId"])[1])
                if parse_gid(a["locationId"])[1] in item.stock
                else None
            ),
        },
        "InventoryLevel": {
            "id": _get(
                lambda v: (
                    f"gid://shopify/InventoryLevel/{v.location_id}?inventory_item_id={rest.item_number(v.item)}"
                )
            ),
            "isActive": _const(True),
            "item": _get(lambda v: v.item),
            "location": lambda v, a, call: call.store.locations[v.location_id],
            "quantities": _quantities,
            "createdAt": _time(lambda v: v.item.created_at),
            "updatedAt": _time(lambda v: v.item.stock[v.location_id].updated_at or v.item.created_at),
        },
        "InventoryQuantity": {
            "id": _get(
                lambda v: (
                    f"gid://shopify/InventoryQuantity/{v[0].location_id}?inventory_item_id={rest.item_number(v[0].item)}"
                    f"&name={v[1]}"
                )
            ),
            "name": _get(lambda v: v[1]),
            "quantity": _get(lambda v: v[2]),
            "updatedAt": _time(lambda v: v[0].item.stock[v[0].location_id].updated_at),
        },
        "Count": {"count": _get(lambda number: number)},
        "ProductVariant": {
            "id": _get(rest.variant_gid),
            "legacyResourceId": _get(lambda item: str(rest.variant_number(item))),
            "sku": _get(lambda item: item.sku),
            "barcode": _get(lambda item: item.barcode or None),
            "title": _const("Default Title"),
            "displayName": _get(lambda item: f"{item.title} - Default Title"),
            "price": _get(lambda item: item.price),
            "position": _const(1),
            "taxable": _const(True),
            "inventoryItem": _get(lambda item: item),
            "inventoryPolicy": _const("DENY"),
            "inventoryQuantity": _get(lambda item: sum(s.available for s in item.stock.values())),
            "sellableOnlineQuantity": _get(lambda item: sum(s.available for s in item.stock.values())),
            "availableForSale": _get(lambda item: any(s.available > 0 for s in item.stock.values())),
            "requiresComponents": _get(lambda item: item.bundle),
            "product": _get(lambda item: item),
            "createdAt": _time(lambda item: item.created_at),
            "updatedAt": _time(lambda item: item.updated_at),
        },
        "Product": {
            "id": _get(rest.product_gid),
            "legacyResourceId": _get(lambda item: str(rest.product_number(item))),
            "title": _get(lambda item: item.title),
            "handle": _get(lambda item: re.sub(r"[^a-z0-9]+", "-", item.title.lower()).strip("-")),
            "productType": _get(lambda item: item.product_type),
            "status": _const("ACTIVE"),
            "tags": _const([]),
            "vendor": _get(lambda item: item.vendor),
            "totalInventory": _get(lambda item: sum(s.available for s in item.stock.values())),
            "variants": lambda item, a, call: page([item], a),
            "createdAt": _time(lambda item: item.created_at),
            "updatedAt": _time(lambda item: item.updated_at),
        },
        "MoneyBag": {"shopMoney": _get(lambda bag: bag), "presentmentMoney": _get(lambda bag: bag)},
        "MoneyV2": {
            "amount": _get(lambda bag: rest.cents(bag.amount)),
            "currencyCode": _get(lambda bag: bag.currency),
        },
        "Order": {
            "id": _get(lambda o: gid("Order", o.id)),
            "legacyResourceId": _get(lambda o: o.id),
            "name": _get(lambda o: o.name),
            "number": _get(lambda o: o.number),
            "createdAt": _time(lambda o: o.created_at),
            "processedAt": _time(lambda o: o.created_at),
            "updatedAt": _time(lambda o: o.updated_at),
            "cancelledAt": _time(lambda o: o.cancelled_at),
            "cancelReason": _get(lambda o: o.cancel_reason or None),
            "cancellation": _get(lambda o: o if o.cancelled_at else None),
            "closed": _get(lambda o: bool(o.closed_at)),
            "closedAt": _time(lambda o: o.closed_at),
            "confirmed": _const(True),
            "test": _get(lambda o: o.test),
            "edited": _get(lambda o: o.edited),
            "email": _get(lambda o: o.email or None),
            "phone": _get(lambda o: o.phone or None),
            "note": _get(lambda o: o.note or None),
            "tags": _get(lambda o: o.tags),
            "poNumber": _const(None),
            "sourceName": _const("web"),
            "customerLocale": _const("en"),
            "customAttributes": _const([]),
            "discountCodes": _const([]),
            "paymentGatewayNames": _const(["shopify_payments"]),
            "currencyCode": _get(lambda o: o.currency),
            "presentmentCurrencyCode": _get(lambda o: o.currency),
            "taxesIncluded": _const(False),
            "requiresShipping": lambda o, a, call: any(
                call.store.items[line.sku].requires_shipping for line in o.lines
            ),
            "displayFinancialStatus": _get(rest.financial_status),
            "displayFulfillmentStatus": _get(rest.fulfillment_status),
            "returnStatus": _get(return_status),
            "fullyPaid": _get(lambda o: o.payment == "paid"),
            "unpaid": _get(lambda o: o.payment != "paid"),
            "currentSubtotalLineItemsQuantity": _get(lambda o: sum(line.current for line in o.lines)),
            "currentSubtotalPriceSet": _sum(rest.current_goods),
            "currentTotalPriceSet": _sum(rest.current_total),
            "currentTotalTaxSet": _sum(rest.current_tax),
            "currentShippingPriceSet": _sum(lambda o: Decimal(o.shipping_price)),
            "currentTotalDiscountsSet": _sum(
                lambda o: sum((rest.share(x.discount, x.current, x.quantity) for x in o.lines), Decimal(0))
            ),
            "currentTaxLines": _get(lambda o: _taxes(rest.current_tax(o), o.currency)),
            "originalTotalPriceSet": _sum(lambda o: o.total),
            "subtotalPriceSet": _sum(lambda o: o.goods),
            "totalPriceSet": _sum(lambda o: o.total),
            "totalTaxSet": _sum(lambda o: o.tax),
            "totalDiscountsSet": _sum(rest.discounts),
            "totalShippingPriceSet": _sum(lambda o: Decimal(o.shipping_price)),
            "totalReceivedSet": _sum(rest.received),
            "totalRefundedSet": _sum(lambda o: o.refunded_amount),
            "netPaymentSet": _sum(lambda o: rest.received(o) - o.refunded_amount),
            "totalOutstandingSet": _sum(lambda o: max(Decimal(0), rest.current_total(o) - rest.received(o))),
            "taxLines": _get(lambda o: _taxes(o.tax, o.currency)),
            "shippingAddress": _get(lambda o: o if o.address else None),
            "billingAddress": _get(lambda o: o if o.address else None),
            "displayAddress": _get(lambda o: o if o.address else None),
            "customer": _get(lambda o: o if o.address or o.email else None),
            "risk": _get(lambda o: o),
            "shippingLine": _get(lambda o: next(iter(_shipping(o)), None)),
            "shippingLines": lambda o, a, call: page(_shipping(o), a),
            "lineItems": lambda o, a, call: page([LineOf(o, line) for line in o.lines], a),
            "fulfillmentOrders": lambda o, a, call: page([Part(o, part) for part in o.assignments], a),
            "fulfillments": lambda o, a, call: [Shipped(o, done) for done in o.fulfilments][: a.get("first")],
            "fulfillmentsCount": _get(lambda o: len(o.fulfilments)),
            "refunds": lambda o, a, call: [RefundOf(o, refund) for refund in o.refunds][: a.get("first")],
            "returns": lambda o, a, call: page([ReturnOf(o, back) for back in o.returns], a),
            "transactions": lambda o, a, call: transactions_of(o)[: a.get("first")],
        },
        "OrderCancellation": {"staffNote": _get(lambda o: o.note or None)},
        "OrderRiskSummary": {
            "assessments": _get(lambda o: [o]),
            "recommendation": _get(
                lambda o: {"high": "CANCEL", "medium": "INVESTIGATE"}.get(o.risk, "ACCEPT")
            ),
        },
        "OrderRiskAssessment": {"riskLevel": _get(lambda o: o.risk.upper())},
        "Customer": {
            "id": _get(lambda o: gid("Customer", 7_000_000_000_000 + o.number)),
            "createdAt": _time(lambda o: o.created_at),
            "displayName": _get(lambda o: (rest.address(o) or {}).get("name") or o.email),
            "firstName": _get(lambda o: (rest.address(o) or {}).get("first_name")),
            "lastName": _get(lambda o: (rest.address(o) or {}).get("last_name")),
            "locale": _const("en"),
            "tags": _const([]),
        },
        "MailingAddress": {
            "id": _get(lambda o: f"gid://shopify/MailingAddress/{o.id}?model_name=Address"),
            **{
                field: _of_address(key)
                for field, key in {
                    "address1": "address1",
                    "address2": "address2",
                    "city": "city",
                    "company": "company",
                    "country": "country",
                    "countryCodeV2": "country_code",
                    "firstName": "first_name",
                    "lastName": "last_name",
                    "name": "name",
                    "phone": "phone",
                    "province": "province",
                    "provinceCode": "province_code",
                    "zip": "zip",
                }.items()
            },
            "formatted": _get(
                lambda o: [
                    v
                    for k in ("address1", "address2", "city", "zip", "country")
                    if (v := (rest.address(o) or {}).get(k))
                ]
            ),
        },
        "ShippingLine": {
            "id": _get(lambda o: gid("ShippingLine", o.id)),
            "title": _get(lambda o: o.shipping_title),
            "code": _get(lambda o: o.shipping_title),
            "source": _const("shopify"),
            "carrierIdentifier": _const(None),
            "isRemoved": _const(False),
            "originalPriceSet": _sum(lambda o: Decimal(o.shipping_price)),
            "discountedPriceSet": _sum(lambda o: Decimal(o.shipping_price)),
            "currentDiscountedPriceSet": _sum(lambda o: Decimal(o.shipping_price)),
            "taxLines": _const([]),
        },
        "TaxLine": {"title": _const("Sales tax"), "rate": _const(None), "priceSet": _get(lambda bag: bag)},
        "LineItem": {
            "id": _get(lambda v: gid("LineItem", v.line.id)),
            "sku": _get(lambda v: v.line.sku),
            "title": _get(lambda v: v.line.title),
            "name": _get(lambda v: v.line.title),
            "variantTitle": _const(None),
            "vendor": lambda v, a, call: call.store.items[v.line.sku].vendor,
            "quantity": _get(lambda v: v.line.quantity),
            "currentQuantity": _get(lambda v: v.line.current),
            "unfulfilledQuantity": _get(lambda v: _open_units(v.line)),
            "refundableQuantity": _get(lambda v: v.line.current),
            "requiresShipping": lambda v, a, call: call.store.items[v.line.sku].requires_shipping,
            "taxable": _const(True),
            "isGiftCard": _const(False),
            "customAttributes": _const([]),
            "variant": lambda v, a, call: call.store.items[v.line.sku],
            "product": lambda v, a, call: call.store.items[v.line.sku],
            "originalUnitPriceSet": _of_line(lambda line: Decimal(line.price)),
            "originalTotalSet": _of_line(lambda line: Decimal(line.price) * line.quantity),
            "discountedUnitPriceSet": _of_line(
                lambda line: rest.line_total(line, line.quantity) / max(1, line.quantity)
            ),
            "discountedTotalSet": _of_line(lambda line: rest.line_total(line, line.quantity)),
            "totalDiscountSet": _of_line(lambda line: Decimal(line.discount)),
            "taxLines": _get(lambda v: _taxes(Decimal(v.line.tax), v.order.currency)),
        },
        "FulfillmentOrder": {
            "id": _get(lambda v: gid("FulfillmentOrder", v.assignment.id)),
            "status": _get(assignment_status),
            "requestStatus": _const("UNSUBMITTED"),
            "order": _get(lambda v: v.order),
            "orderId": _get(lambda v: gid("Order", v.order.id)),
            "orderName": _get(lambda v: v.order.name),
            "orderProcessedAt": _time(lambda v: v.order.created_at),
            "assignedLocation": lambda v, a, call: call.store.locations[v.assignment.location_id],
            "fulfillAt": _time(lambda v: v.order.created_at),
            "fulfillBy": _time(lambda v: v.order.ship_by),
            "fulfillmentHolds": _get(lambda v: [v] if v.assignment.hold else []),
            "fulfillments": lambda v, a, call: page(
                [
                    Shipped(v.order, done)
                    for done in v.order.fulfilments
                    if v.assignment.id in done.assignments
                ],
                a,
            ),
            "lineItems": lambda v, a, call: page(
                [
                    PartLine(v.order, v.assignment, line)
                    for line in v.order.lines
                    if line.id in v.assignment.total
                ],
                a,
            ),
            "createdAt": _time(lambda v: v.order.created_at),
            "updatedAt": _time(lambda v: v.assignment.updated_at),
        },
        "FulfillmentHold": {
            "id": _get(lambda v: gid("FulfillmentHold", v.assignment.id)),
            "reason": _get(lambda v: v.assignment.hold),
            "displayReason": _get(lambda v: v.assignment.hold.replace("_", " ").capitalize()),
            "reasonNotes": _const(None),
            "handle": _const(None),
        },
        "FulfillmentOrderAssignedLocation": {
            "location": _get(lambda place: place),
            "name": _get(lambda place: place.name),
            "address1": _get(lambda place: place.address1),
            "address2": _const(None),
            "city": _get(lambda place: place.city),
            "countryCode": _get(lambda place: place.country_code),
            "phone": _const(None),
            "province": _get(lambda place: place.province_code),
            "zip": _get(lambda place: place.zip),
        },
        "FulfillmentOrderLineItem": {
            "id": _get(lambda v: gid("FulfillmentOrderLineItem", f"{v.assignment.id}{v.line.id}")),
            "lineItem": _get(lambda v: LineOf(v.order, v.line)),
            "inventoryItemId": lambda v, a, call: rest.item_gid(call.store.items[v.line.sku]),
            "productTitle": _get(lambda v: v.line.title),
            "sku": _get(lambda v: v.line.sku),
            "requiresShipping": lambda v, a, call: call.store.items[v.line.sku].requires_shipping,
            "totalQuantity": _get(lambda v: v.assignment.total[v.line.id]),
            "remainingQuantity": _get(lambda v: v.assignment.remaining[v.line.id]),
            "variant": lambda v, a, call: call.store.items[v.line.sku],
        },
        "Fulfillment": {
            "id": _get(lambda v: gid("Fulfillment", v.fulfilment.id)),
            "legacyResourceId": _get(lambda v: v.fulfilment.id),
            "name": _get(lambda v: f"{v.order.name}-F{v.order.fulfilments.index(v.fulfilment) + 1}"),
            "status": _get(lambda v: v.fulfilment.status),
            "displayStatus": _get(
                lambda v: (
                    "CANCELED"
                    if v.fulfilment.status == "CANCELLED"
                    else "DELIVERED"
                    if v.order.delivered_at
                    else "FULFILLED"
                )
            ),
            "createdAt": _time(lambda v: v.fulfilment.at),
            "updatedAt": _time(lambda v: v.fulfilment.updated_at),
            "deliveredAt": _time(lambda v: v.order.delivered_at),
            "location": lambda v, a, call: call.store.locations.get(v.fulfilment.location_id),
            "order": _get(lambda v: v.order),
            "totalQuantity": _get(lambda v: sum(v.fulfilment.lines.values())),
            "trackingInfo": lambda v, a, call: tracking(v.fulfilment)[: a.get("first")],
            "fulfillmentLineItems": lambda v, a, call: page(
                [ShippedLine(v.order, v.fulfilment, v.order.line(line_id)) for line_id in v.fulfilment.lines],
                a,
            ),
            "fulfillmentOrders": lambda v, a, call: page(
                [Part(v.order, part) for part in v.order.assignments if part.id in v.fulfilment.assignments],
                a,
            ),
        },
        "FulfillmentTrackingInfo": {
            "company": _get(lambda v: v[0]),
            "number": _get(lambda v: v[1]),
            "url": _get(lambda v: v[2]),
        },
        "FulfillmentLineItem": {
            "id": _get(lambda v: gid("FulfillmentLineItem", f"{v.fulfilment.id}{v.line.id}")),
            "lineItem": _get(lambda v: LineOf(v.order, v.line)),
            "quantity": _get(lambda v: v.fulfilment.lines[v.line.id]),
        },
        "OrderTransaction": {
            "id": _get(lambda t: gid("OrderTransaction", t.number)),
            "kind": _get(lambda t: t.kind),
            "status": _get(lambda t: "PENDING" if t.order.payment == "pending" else "SUCCESS"),
            "amountSet": _get(lambda t: Bag(t.amount, t.order.currency)),
            "gateway": _const("shopify_payments"),
            "parentTransaction": _get(lambda t: transactions_of(t.order)[0] if t.kind == "REFUND" else None),
            "createdAt": _time(lambda t: t.at),
            "processedAt": _time(lambda t: t.at),
            "test": _get(lambda t: t.order.test),
        },
        "Refund": {
            "id": _get(lambda v: gid("Refund", v.refund.id)),
            "legacyResourceId": _get(lambda v: v.refund.id),
            "createdAt": _time(lambda v: v.refund.at),
            "processedAt": _time(lambda v: v.refund.at),
            "updatedAt": _time(lambda v: v.refund.at),
            "note": _get(lambda v: v.refund.note or None),
            "order": _get(lambda v: v.order),
            "totalRefundedSet": _get(lambda v: Bag(Decimal(v.refund.amount), v.order.currency)),
            "refundLineItems": lambda v, a, call: page(
                [RefundLineOf(v.order, v.refund, one) for one in v.refund.lines], a
            ),
            "transactions": lambda v, a, call: page(
                [t for t in transactions_of(v.order) if t.kind == "REFUND" and t.at == v.refund.at], a
            ),
        },
        "RefundLineItem": {
            "id": _get(lambda v: gid("RefundLineItem", f"{v.refund.id}{v.line.line_id}")),
            "lineItem": _get(lambda v: LineOf(v.order, v.order.line(v.line.line_id))),
            "location": lambda v, a, call: call.store.locations.get(v.line.location_id),
            "quantity": _get(lambda v: v.line.quantity),
            "restockType": _get(lambda v: v.line.restock),
            "restocked": _get(lambda v: v.line.restock != "NO_RESTOCK"),
            "priceSet": _get(lambda v: Bag(Decimal(v.order.line(v.line.line_id).price), v.order.currency)),
            "subtotalSet": _get(lambda v: Bag(Decimal(v.line.amount), v.order.currency)),
            "totalTaxSet": _get(
                lambda v: Bag(
                    rest.share(
                        v.order.line(v.line.line_id).tax,
                        v.line.quantity,
                        v.order.line(v.line.line_id).quantity,
                    ),
                    v.order.currency,
                )
            ),
        },
        "Return": {
            "id": _get(lambda v: gid("Return", v.back.id)),
            "name": _get(lambda v: v.back.name),
            "status": _get(lambda v: v.back.status),
            "createdAt": _time(lambda v: v.back.at),
            "closedAt": _time(lambda v: v.back.closed_at),
            "order": _get(lambda v: v.order),
            "totalQuantity": _get(lambda v: sum(line.quantity for line in v.back.lines)),
            "returnLineItems": lambda v, a, call: page(
                [Typed("ReturnLineItem", ReturnLineOf(v.order, v.back, line)) for line in v.back.lines], a
            ),
        },
        "ReturnLineItem": {
            "id": _get(lambda v: gid("ReturnLineItem", v.line.id)),
            "customerNote": _get(lambda v: v.line.note or None),
            "quantity": _get(lambda v: v.line.quantity),
            "processableQuantity": _get(lambda v: v.line.quantity),
            "processedQuantity": _const(0),
            "unprocessedQuantity": _get(lambda v: v.line.quantity),
            "refundableQuantity": _get(lambda v: v.line.quantity),
            "refundedQuantity": _const(0),
            "returnReason": _get(lambda v: v.line.reason),
            "returnReasonNote": _get(lambda v: v.line.note),
            "fulfillmentLineItem": _get(
                lambda v: ShippedLine(
                    v.order,
                    next(f for f in v.order.fulfilments if f.id == v.line.fulfilment_id),
                    v.order.line(v.line.line_id),
                )
            ),
        },
        "WebhookSubscription": {
            "id": _get(lambda s: gid("WebhookSubscription", s.id)),
            "legacyResourceId": _get(lambda s: s.id),
            "topic": _get(lambda s: s.topic),
            "uri": _get(lambda s: s.uri),
            "format": _get(lambda s: s.format),
            "includeFields": _get(lambda s: s.include_fields),
            "filter": _const(None),
            "name": _get(lambda s: s.name or None),
            "apiVersion": _get(lambda s: s),
            "createdAt": _time(lambda s: s.created_at),
            "updatedAt": _time(lambda s: s.updated_at),
        },
        "ApiVersion": {
            "handle": _const(API_VERSION),
            "displayName": _const(API_VERSION),
            "supported": _const(True),
        },
        "InventoryAdjustmentGroup": {
            "id": _get(lambda v: gid("InventoryAdjustmentGroup", v.id)),
            "createdAt": _time(lambda v: v.at),
            "reason": _get(lambda v: v.reason),
            "referenceDocumentUri": _get(lambda v: v.uri or None),
            "changes": _get(lambda v: v.changes),
        },
        "InventoryChange": {
            "name": _get(lambda c: c.name),
            "delta": _get(lambda c: c.delta),
            "quantityAfterChange": _get(lambda c: c.after),
            "item": lambda c, a, call: call.store.items.get(c.sku),
            "location": lambda c, a, call: call.store.locations.get(c.location_id),
        },
        "PageInfo": {
            "hasNextPage": _get(lambda p: p.more_after),
            "hasPreviousPage": _get(lambda p: p.more_before),
            "startCursor": _get(lambda p: p.cursors[0] if p.cursors else None),
            "endCursor": _get(lambda p: p.cursors[-1] if p.cursors else None),
        },
    }
)


def tracking(done: Fulfilment) -> list[tuple[str | None, str, str | None]]:
    """(company, number, url) per tracking number."""
    return [
        (done.carrier or None, number, done.urls[place] if place < len(done.urls) else None)
        for place, number in enumerate(done.tracking)
    ]


def _by_name(name: str) -> Resolver:
    return lambda value, arguments, call: value[name]


for _type_name, _kind in SCHEMA.type_map.items():
    if _type_name.endswith("Connection"):
        RESOLVERS[_type_name] = {
            "nodes": _get(lambda p: p.nodes),
            "edges": _get(lambda p: list(zip(p.cursors, p.nodes, strict=True))),
            "pageInfo": _get(lambda p: p),
        }
    elif _type_name.endswith("Edge"):
        RESOLVERS[_type_name] = {"cursor": _get(lambda pair: pair[0]), "node": _get(lambda pair: pair[1])}
    elif _type_name.endswith(("Payload", "UserError")) or _type_name == "Attribute":
        RESOLVERS[_type_name] = {name: _by_name(name) for name in _kind.fields}  # type: ignore[attr-defined]
