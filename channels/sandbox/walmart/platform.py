"""The gateway of the Marketplace API v3: tokens, required headers, closed queries and bodies, one route per call."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote, urlencode

from channels.sandbox.check import problems
from channels.sandbox.http import Answer, Request
from channels.sandbox.shop import Fulfilment, Line, Location, Order, Refund, RefundLine, Stock
from channels.sandbox.walmart import contract
from channels.sandbox.walmart.seller import HOST, TOKEN_SECONDS, Feed, Hook, WalmartError, WalmartSeller, each
from channels.sandbox.world import World

DAY = 86_400.0
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Walmart:
    kind = "walmart"
    shop_class = WalmartSeller

    def create(self, world: World, spec: dict[str, Any]) -> WalmartSeller:
        """spec: id, name, seed, credentials, locations [{name}], settings {budgets, feed_seconds}."""
        identity = spec["id"]
        seller = WalmartSeller(
            id=identity,
            kind=self.kind,
            name=str(spec.get("name", identity)),
            currency="USD",
            created_at=world.now(),
            seed=int(spec.get("seed", 1)),
            # the first attempt and two further ones
            settings={"webhook_retry_seconds": [1, 2], **spec.get("settings", {})},
            credentials={
                "client_id": f"wm-client-{identity}",
                "client_secret": f"wm-secret-{identity}",
                **spec.get("credentials", {}),
            },
        )
        for place in spec.get("locations") or [{"name": "Main"}]:
            number = str(10_000_003_500 + world.serial("location"))
            seller.locations[number] = Location(number, str(place.get("name", "Main")))
        seller.open_shop(world)
        return seller

    def owns(self, host: str) -> bool:
        return host == HOST

    async def handle(self, world: World, host: str, request: Request) -> Answer:
        sellers = [shop for shop in world.shops.values() if isinstance(shop, WalmartSeller)]
        try:
            _headers(request)
            if (request.method, request.raw_path) == ("POST", "/v3/token"):
                seller = _by_credentials(sellers, request)
                return await world.perform(
                    seller, "token", request, lambda: _guarded(lambda: _token(seller, request))
                )
            seller = _by_token(world, sellers, request)
        except WalmartError as refused:
            return refused.answer()
        for method, pattern, name, allowed, act in ROUTES:
            found = pattern.fullmatch(request.raw_path)
            if found and method == request.method:
                return await world.perform(
                    seller, name, request,
                    lambda act=act, found=found, name=name, allowed=allowed: _act(
                        seller, request, name, allowed, act, found
                    ),
                )  # fmt: skip
        return WalmartError(404, "CONTENT_NOT_FOUND.GMP_GATEWAY_API", "No such resource").answer()


Query = dict[str, str]
Act = Callable[[WalmartSeller, Request, Query, "re.Match[str]"], Any]


def _headers(request: Request) -> None:
    told = request.headers
    if told.get("wm_svc.name") != "Walmart Marketplace":
        raise WalmartError(
            400, "INVALID_REQUEST.GMP_GATEWAY_API", "WM_SVC.NAME is missing or wrong", "WM_SVC.NAME"
        )
    if not _UUID.fullmatch(told.get("wm_qos.correlation_id", "")):
        raise WalmartError(
            400,
            "INVALID_REQUEST.GMP_GATEWAY_API",
            "WM_QOS.CORRELATION_ID must be a UUID",
            "WM_QOS.CORRELATION_ID",
        )


def _by_credentials(sellers: list[WalmartSeller], request: Request) -> WalmartSeller:
    told = request.headers.get("authorization", "").encode()
    for seller in sellers:
        pair = f"{seller.credentials['client_id']}:{seller.credentials['client_secret']}"
        if hmac.compare_digest(b"Basic " + base64.b64encode(pair.encode()), told):
            return seller
    raise WalmartError(401, "UNAUTHORIZED.GMP_GATEWAY_API", "Client id or secret is wrong")


def _by_token(world: World, sellers: list[WalmartSeller], request: Request) -> WalmartSeller:
    token = request.headers.get("wm_sec.access_token", "")
    for seller in sellers:
        if seller.tokens.get(token, 0) > world.now():
            return seller
    for seller in sellers:
        seller.count("unauthorized")
    raise WalmartError(401, "UNAUTHORIZED.GMP_GATEWAY_API", "The access token is missing, unknown or expired")


def _guarded(work: Callable[[], Any]) -> Answer:
    try:
        result = work()
    except WalmartError as refused:
        return refused.answer()
    return result if isinstance(result, Answer) else Answer.json(result)


def _act(
    seller: WalmartSeller, request: Request, name: str, allowed: str, act: Act, found: re.Match[str]
) -> Answer:
    def work() -> Any:
        if seller.forced:
            raise WalmartError(400, seller.forced, "refused on purpose")
        query = {key: values[-1] for key, values in request.query.items()}
        unknown = sorted(set(query) - set(allowed.split()))
        if unknown:
            raise WalmartError(400, "INVALID_REQUEST_PARAM", f"unknown: {', '.join(unknown)}", unknown[0])
        return act(seller, request, query, found)

    free, headers = seller.budget(name)
    if not free:
        return seller.throttled(name)
    answer = _guarded(work)
    answer.headers |= headers
    return answer


def _body(request: Request, schema: dict[str, Any]) -> Any:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise WalmartError(415, "INVALID_REQUEST_HEADER", "Content-Type must be application/json")
    try:
        body = request.json()
    except ValueError:
        raise WalmartError(400, "INVALID_REQUEST_CONTENT", "The body is not JSON") from None
    return _fits(body, schema)


def _fits(body: Any, schema: dict[str, Any]) -> Any:
    wrong = problems(body, schema)
    if wrong:
        raise WalmartError(400, "INVALID_REQUEST_CONTENT", "; ".join(wrong))
    return body


def _whole(query: Query, name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not text.isdigit() or int(text) > most:
        raise WalmartError(400, "INVALID_REQUEST_PARAM", f"{name} must be a number up to {most}", name)
    return int(text)


def _moment(query: Query, name: str, default: float) -> float:
    if name not in query:
        return default
    try:
        return datetime.fromisoformat(query[name].replace("Z", "+00:00")).timestamp()
    except ValueError:
        raise WalmartError(400, "INVALID_REQUEST_PARAM", f"{name} is not an ISO 8601 time", name) from None


# --- token -----------------------------------------------------------------------------------------
def _token(seller: WalmartSeller, request: Request) -> Any:
    form = Request("POST", "/?" + request.body.decode(), {}, b"").query
    grant = form.get("grant_type", [""])[0]
    if grant == "refresh_token" and form.get("refresh_token", [""])[0] != seller.credentials.get(
        "refresh_token"
    ):
        raise WalmartError(400, "INVALID_TOKEN.GMP_GATEWAY_API", "The refresh token is revoked")
    if grant not in ("client_credentials", "refresh_token"):
        raise WalmartError(400, "INVALID_REQUEST_CONTENT", "grant_type is missing or unknown", "grant_type")
    seller.count("tokens")
    return {"access_token": seller.new_token(), "token_type": "Bearer", "expires_in": TOKEN_SECONDS}


# --- orders ----------------------------------------------------------------------------------------
def _find(seller: WalmartSeller, number: str) -> Order:
    order = seller.orders.get(number)
    if order is None or order.payment != "paid":
        raise WalmartError(
            404, "CONTENT_NOT_FOUND.GMP_ORDER_API", f"No purchase order {number}", "purchaseOrderId"
        )
    return order


def list_orders(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    limit = _whole(query, "limit", 100, 200)
    at = seller.world.now()
    created = _moment(query, "createdStartDate", at - 7 * DAY)
    if created < at - 180 * DAY:
        raise WalmartError(
            400, "INVALID_REQUEST_PARAM", "orders of the last 180 days only", "createdStartDate"
        )
    changed = _moment(query, "lastModifiedStartDate", 0)
    until = _moment(query, "lastModifiedEndDate", at + DAY)
    kind = query.get("shipNodeType", "SellerFulfilled")
    if kind not in ("SellerFulfilled", "WFSFulfilled", "3PLFulfilled"):
        raise WalmartError(400, "INVALID_REQUEST_PARAM", f"shipNodeType {kind} is unknown", "shipNodeType")
    rows = sorted(
        (
            order
            for order in seller.visible()
            if order.created_at >= created
            and changed <= order.updated_at <= until
            and (kind == "WFSFulfilled") == (order.fulfilled_by == "channel")
            and kind != "3PLFulfilled"
        ),
        key=lambda order: (order.created_at, order.id),
        reverse=True,
    )
    start = int(query.get("poIndex", 0))
    page = rows[start : start + limit]
    meta: dict[str, Any] = {"totalCount": len(rows), "limit": limit}
    if start + limit < len(rows):
        further = {**query, "limit": str(limit), "hasMoreElements": "true", "poIndex": str(start + limit)}
        meta["nextCursor"] = "?" + urlencode(further)
    return {"list": {"meta": meta, "elements": {"order": [seller.show(order) for order in page]}}}


def get_order(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    return {"order": seller.show(_find(seller, found["order"]))}


def acknowledge(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    order = _find(seller, found["order"])
    if order.id in seller.acknowledged or not any(line.open for line in order.lines):
        raise WalmartError(400, "INVALID_REQUEST_CONTENT.GMP_ORDER_API", "No line is in the status Created")
    seller.acknowledged[order.id] = seller.world.now()
    seller.touch(order)
    return {"order": seller.show(order)}


def _line(seller: WalmartSeller, order: Order, number: str) -> Line:
    line = seller.numbered(order).get(number)
    if line is None:
        raise WalmartError(400, "INVALID_REQUEST_CONTENT.GMP_ORDER_API", f"No line {number}", "lineNumber")
    return line


def ship(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    body = _body(request, contract.SHIPPING)["orderShipment"]
    order = _find(seller, found["order"])
    if order.fulfilled_by == "channel":
        raise WalmartError(400, "INVALID_REQUEST_CONTENT.GMP_ORDER_API", "Walmart ships this order itself")
    if order.id not in seller.acknowledged:
        raise WalmartError(
            400, "INVALID_REQUEST_CONTENT.GMP_ORDER_API", "Acknowledge the order before it is shipped"
        )
    asked: list[tuple[Line, int, dict[str, Any]]] = []
    taken: dict[str, int] = {}
    for entry in body["orderLines"]["orderLine"]:
        line = _line(seller, order, entry["lineNumber"])
        if line.cancel_request and not entry.get("intentToCancelOverride"):
            raise WalmartError(
                400,
                "INVALID_REQUEST_CONTENT.GMP_ORDER_API",
                "The buyer wants to cancel: set intentToCancelOverride",
            )
        for status in entry["orderLineStatuses"]["orderLineStatus"]:
            info, units = status["trackingInfo"], int(status["statusQuantity"]["amount"])
            carrier = info["carrierName"]
            if len(carrier) != 1:
                raise WalmartError(
                    400, "INVALID_REQUEST_CONTENT", "Give either carrier or otherCarrier", "carrierName"
                )
            if "otherCarrier" in carrier and not info.get("trackingURL"):
                raise WalmartError(
                    400, "INVALID_REQUEST_CONTENT", "otherCarrier needs a trackingURL", "trackingURL"
                )
            taken[line.id] = taken.get(line.id, 0) + units
            if taken[line.id] > line.open:
                raise WalmartError(
                    400,
                    "INVALID_REQUEST_CONTENT.GMP_ORDER_API",
                    f"Line {entry['lineNumber']} has {line.open} open units",
                )
            asked.append((line, units, info))
    parcels: dict[str, list[tuple[Line, int, dict[str, Any]]]] = {}
    for line, units, info in asked:
        parcels.setdefault(info["trackingNumber"], []).append((line, units, info))
    for tracking, contents in parcels.items():
        _leave(seller, order, tracking, contents)
    return {"order": seller.show(order)}


def _leave(
    seller: WalmartSeller, order: Order, tracking: str, contents: list[tuple[Line, int, dict[str, Any]]]
) -> None:
    parts: dict[str, dict[str, int]] = {}
    units: dict[str, int] = {}
    for line, count, _ in contents:
        units[line.id] = units.get(line.id, 0) + count
        left = count
        for assignment in order.assignments:
            before = parts.get(assignment.id, {}).get(line.id, 0)
            take = min(left, assignment.remaining.get(line.id, 0) - before)
            if take > 0:
                parts.setdefault(assignment.id, {})[line.id] = before + take
                left -= take
    info = contents[0][2]
    carrier = info["carrierName"]
    at = seller.world.now()
    done = Fulfilment(
        str(seller.world.serial("fulfilment")), at, at, order.assignments[0].location_id, units, list(parts),
        carrier=carrier.get("carrier") or carrier["otherCarrier"], tracking=[tracking],
        urls=[info["trackingURL"]] if info.get("trackingURL") else [],
        service="other" if "otherCarrier" in carrier else "", ship_time=info["shipDateTime"] / 1000,
    )  # fmt: skip
    seller.fulfil(order, parts, done)
    seller.count("buyer_charged")


def cancel(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    body = _body(request, contract.CANCELLATION)["orderCancellation"]
    order = _find(seller, found["order"])
    asked: list[tuple[Line, int, str]] = []
    for entry in body["orderLines"]["orderLine"]:
        line = _line(seller, order, entry["lineNumber"])
        for status in entry["orderLineStatuses"]["orderLineStatus"]:
            units, reason = int(status["statusQuantity"]["amount"]), status["cancellationReason"]
            if reason == contract.CANCEL_REASONS[0] and not line.cancel_request:
                raise WalmartError(
                    400,
                    "INVALID_REQUEST_CONTENT.GMP_ORDER_API",
                    "The buyer did not ask to cancel",
                    "cancellationReason",
                )
            if units > line.open:
                raise WalmartError(
                    400,
                    "INVALID_REQUEST_CONTENT.GMP_ORDER_API",
                    f"Line {entry['lineNumber']} has {line.open} open units",
                )
            asked.append((line, units, reason))
    for line, units, reason in asked:
        line.cancel_reason = reason
        seller.take_off(order, line, units, restock=False)
    seller.count("cancel_calls")
    if not any(line.open or line.fulfilled for line in order.lines):
        order.cancelled_at, order.cancel_reason = seller.world.now(), asked[0][2]
    seller.touch(order)
    seller.announce("updated", order)
    return {"order": seller.show(order)}


def refund(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    body = _body(request, contract.REFUND)["orderRefund"]
    order = _find(seller, found["order"])
    if body["purchaseOrderId"] != order.id:
        raise WalmartError(
            400, "INVALID_REQUEST_CONTENT", "purchaseOrderId is of another order", "purchaseOrderId"
        )
    rows: list[RefundLine] = []
    shipping = Decimal(0)
    comments: dict[str, str] = {}
    reason = ""
    for entry in body["orderLines"]["orderLine"]:
        line = _line(seller, order, entry["lineNumber"])
        if not line.fulfilled:
            raise WalmartError(
                400, "INVALID_REQUEST_CONTENT.GMP_ORDER_API", "Only shipped lines can be refunded"
            )
        goods, tax, paid_shipping = seller.money_of(order, line)
        back = ship_back = Decimal(0)
        for one in entry["refunds"]["refund"]:
            comments[line.id] = one.get("refundComments", "")
            for charge in one["refundCharges"].get("refundCharge", ()):
                reason = charge["refundReason"]
                told = charge["charge"]
                money = -Decimal(str(told["chargeAmount"]["amount"]))
                money -= Decimal(
                    str((told.get("tax") or {"taxAmount": {"amount": 0}})["taxAmount"]["amount"])
                )
                if told["chargeType"] == "SHIPPING":
                    ship_back += money
                else:
                    back += money
        if back + seller.refunded(order, line) > goods + tax or ship_back > paid_shipping:
            raise WalmartError(
                400, "INVALID_REQUEST_CONTENT.GMP_ORDER_API", "More than the buyer paid", "chargeAmount"
            )
        shipping += ship_back
        rows.append(RefundLine(line.id, 0, "none", amount=f"{back:.2f}"))
    total = sum((Decimal(row.amount) for row in rows), shipping)
    seller.comments.setdefault(order.id, {}).update(comments)
    number = str(seller.world.serial("refund"))
    seller.add_refund(
        order,
        Refund(
            number,
            seller.world.now(),
            rows,
            f"{total:.2f}",
            f"{shipping:.2f}",
            note=" ".join(set(comments.values())),
            reason=reason,
        ),
    )
    return {"order": seller.show(order)}


# --- stock -----------------------------------------------------------------------------------------
def _node(seller: WalmartSeller, query: Query) -> str:
    node = query.get("shipNode") or next(iter(seller.locations))
    if node not in seller.locations:
        raise WalmartError(404, "CONTENT_NOT_FOUND.GMP_INVENTORY_API", f"No ship node {node}", "shipNode")
    return node


def _stock(seller: WalmartSeller, sku: str, node: str) -> Stock:
    item = seller.items.get(sku)
    if item is None or item.fba is not None:
        raise WalmartError(404, "CONTENT_NOT_FOUND.GMP_INVENTORY_API", f"No item {sku}", "sku")
    return item.stock.setdefault(node, Stock())


def get_inventory(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    stock = _stock(seller, query.get("sku", ""), _node(seller, query))
    return {"sku": query["sku"], "quantity": each(max(0, stock.available))}


def put_inventory(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    body = _body(request, contract.INVENTORY)
    if body["sku"] != query.get("sku"):
        raise WalmartError(
            400, "INVALID_REQUEST_CONTENT", "sku of the body is not the one of the address", "sku"
        )
    node = _node(seller, query)
    _stock(seller, body["sku"], node)
    seller.set_stock(body["sku"], body["quantity"]["amount"], node)
    return body


def list_inventories(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    limit = _whole(query, "limit", 10, 50)
    rows = [seller.show_stock(item) for item in seller.items.values() if item.fba is None]
    start = 0
    if query.get("nextCursor"):
        try:
            start = int(base64.b64decode(query["nextCursor"], validate=True))
        except ValueError:
            raise WalmartError(400, "INVALID_REQUEST_PARAM", "nextCursor is not ours", "nextCursor") from None
    meta: dict[str, Any] = {"totalCount": len(rows)}
    if start + limit < len(rows):
        meta["nextCursor"] = base64.b64encode(str(start + limit).encode()).decode()
    return {"meta": meta, "elements": {"inventories": rows[start : start + limit]}}


def wfs_inventory(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    limit, offset = _whole(query, "limit", 10, 300), _whole(query, "offset", 0, 10**6)
    rows = [
        {
            "sku": item.sku,
            "shipNodes": [
                {
                    "modifiedDate": datetime.fromtimestamp(item.updated_at).isoformat(),
                    "availToSellQty": item.fba.get("fulfillable", 0),
                    "onHandQty": item.fba.get("fulfillable", 0) + item.fba.get("pending_order", 0),
                    "shipNodeType": "WFSFulfilled",
                }
            ],
        }
        for item in seller.items.values()
        if item.fba is not None
    ]
    headers = {"totalCount": len(rows), "limit": limit, "offset": offset}
    return {"headers": headers, "payload": {"inventory": rows[offset : offset + limit]}}


# --- feeds -----------------------------------------------------------------------------------------
def _file(request: Request) -> Any:
    """The part named file of a multipart body."""
    kind, _, rest = request.headers.get("content-type", "").partition(";")
    boundary = rest.strip().removeprefix("boundary=").strip('"')
    if kind != "multipart/form-data" or not boundary:
        raise WalmartError(415, "INVALID_REQUEST_HEADER", "Send the feed as multipart/form-data")
    for part in request.body.split(b"--" + boundary.encode())[1:-1]:
        head, mark, content = part.partition(b"\r\n\r\n")
        if mark and b'name="file"' in head:
            if len(content) > 5 * 1024 * 1024:
                raise WalmartError(400, "INVALID_REQUEST_CONTENT", "A feed has at most 5 MB")
            try:
                return json.loads(content.removesuffix(b"\r\n"))
            except ValueError:
                raise WalmartError(400, "INVALID_REQUEST_CONTENT", "The feed is not JSON") from None
    raise WalmartError(400, "INVALID_REQUEST_CONTENT", "The part named file is missing", "file")


def create_feed(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    kind = query.get("feedType", "")
    if kind not in ("inventory", "MP_INVENTORY"):
        raise WalmartError(
            400, "INVALID_REQUEST_PARAM", "feedType must be inventory or MP_INVENTORY", "feedType"
        )
    document = _file(request)
    if kind == "inventory":
        _fits(document, contract.PLAIN_FEED)
        node = _node(seller, query)
        rows = [(entry["sku"], [(node, entry["quantity"]["amount"])]) for entry in document["Inventory"]]
    else:
        _fits(document, contract.NODE_FEED)
        rows = [
            (entry["sku"], [(place["shipNode"], place["quantity"]["amount"]) for place in entry["shipNodes"]])
            for entry in document["inventory"]
        ]
    at = seller.world.now()
    wait = float(seller.settings.get("feed_seconds", 0))
    feed = Feed(f"{seller.world.serial('walmart_feed'):032X}@AU8BAQA", kind, at, at + wait)
    for sku, places in rows:
        item = seller.items.get(sku)
        unknown = [node for node, _ in places if node not in seller.locations]
        if item is None or item.fba is not None:
            feed.rows.append({"sku": sku, "status": "DATA_ERROR", "error": f"No item {sku}"})
        elif unknown:
            feed.rows.append({"sku": sku, "status": "DATA_ERROR", "error": f"No ship node {unknown[0]}"})
        else:
            feed.rows.append({"sku": sku, "status": "SUCCESS", "error": ""})
    seller.feeds[feed.id] = feed
    accepted = {row["sku"] for row in feed.rows if row["status"] == "SUCCESS"}

    def book() -> None:
        for sku, places in rows:
            if sku in accepted:
                for node, units in places:
                    seller.set_stock(sku, units, node)

    if wait:
        seller.world.later(wait, book)
    else:
        book()
    return {"feedId": feed.id}


def get_feed(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    feed = seller.feeds.get(unquote(found["feed"]))
    if feed is None:
        raise WalmartError(404, "CONTENT_NOT_FOUND.GMP_FEED_API", "No such feed", "feedId")
    limit, offset = _whole(query, "limit", 50, 50), _whole(query, "offset", 0, 10**6)
    done = seller.world.now() >= feed.ready_at
    failed = sum(row["status"] != "SUCCESS" for row in feed.rows)
    shown: dict[str, Any] = {
        "feedId": feed.id,
        "feedStatus": "PROCESSED" if done else "INPROGRESS",
        "itemsReceived": len(feed.rows),
        "itemsSucceeded": len(feed.rows) - failed if done else 0,
        "itemsFailed": failed if done else 0,
        "itemsProcessing": 0 if done else len(feed.rows),
        "offset": offset,
        "limit": limit,
    }
    if query.get("includeDetails") == "true":
        details = []
        for index, row in enumerate(feed.rows[offset : offset + limit], offset):
            entry: dict[str, Any] = {
                "martId": 0, "sku": row["sku"], "index": index,
                "ingestionStatus": row["status"] if done else "INPROGRESS",
            }  # fmt: skip
            if done and row["error"]:
                entry["ingestionErrors"] = {
                    "ingestionError": [
                        {"type": "DATA_ERROR", "code": "ERR_INV_0001", "description": row["error"]}
                    ]
                }
            details.append(entry)
        shown["itemDetails"] = {"itemIngestionStatus": details}
    return shown


# --- returns and subscriptions ---------------------------------------------------------------------
def list_returns(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    limit, start = _whole(query, "limit", 10, 200), int(query.get("offset", 0))
    since = _moment(query, "returnLastModifiedStartDate", 0)
    rows = [
        seller.show_return(order, back)
        for order in seller.visible()
        for back in order.returns
        if max(back.at, back.closed_at) >= since
    ]
    further = start + limit < len(rows)
    cursor = "?" + urlencode({**query, "limit": limit, "offset": start + limit}) if further else ""
    meta = {"totalCount": len(rows), "limit": limit, "nextCursor": cursor}
    return {"meta": meta, "returnOrders": rows[start : start + limit]}


def list_hooks(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    return {"events": [seller.show_hook(hook) for hook in seller.hooks.values()]}


def add_hooks(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    body = _body(request, contract.SUBSCRIPTIONS)
    for entry in body["events"]:
        if contract.EVENTS[entry["eventType"]] != entry["resourceName"]:
            raise WalmartError(
                400, "INVALID_REQUEST_CONTENT", "the event is of another resource", "resourceName"
            )
        if any(h.event == entry["eventType"] and h.url == entry["eventUrl"] for h in seller.hooks.values()):
            raise WalmartError(400, "DUPLICATE_SUBSCRIPTION", f"{entry['eventType']} is subscribed already")
    made = []
    for entry in body["events"]:
        number = f"243ba4d0-b322-11ea-b385-{seller.world.serial('walmart_hook'):012d}"
        hook = Hook(
            number, entry["eventType"], entry["eventUrl"], entry.get("authDetails", {}), entry["status"]
        )
        seller.hooks[number] = hook
        made.append(seller.show_hook(hook))
    return {"events": made}


def delete_hook(seller: WalmartSeller, request: Request, query: Query, found: re.Match[str]) -> Any:
    if seller.hooks.pop(found["hook"], None) is None:
        raise WalmartError(404, "CONTENT_NOT_FOUND", "No such subscription", "subscriptionId")
    return {"subscriptionId": found["hook"], "message": "Subscription deleted"}


_ORDERS = (
    "sku customerOrderId purchaseOrderId status createdStartDate createdEndDate fromExpectedShipDate "
    "toExpectedShipDate lastModifiedStartDate lastModifiedEndDate limit productInfo shipNodeType "
    "shippingProgramType replacementInfo orderType hasMoreElements poIndex"
)
_RETURNS = (
    "returnOrderId customerOrderId status replacementInfo returnType returnCreationStartDate returnCreationEndDate "
    "returnLastModifiedStartDate returnLastModifiedEndDate limit offset"
)
ROUTES: list[tuple[str, re.Pattern[str], str, str, Act]] = [
    (method, re.compile(pattern), act.__name__, allowed, act)
    for method, pattern, allowed, act in [
        ("GET", r"/v3/orders", _ORDERS, list_orders),
        ("GET", r"/v3/orders/(?P<order>\d+)", "productInfo replacementInfo", get_order),
        ("POST", r"/v3/orders/(?P<order>\d+)/acknowledge", "", acknowledge),
        ("POST", r"/v3/orders/(?P<order>\d+)/shipping", "", ship),
        ("POST", r"/v3/orders/(?P<order>\d+)/cancel", "", cancel),
        ("POST", r"/v3/orders/(?P<order>\d+)/refund", "", refund),
        ("GET", r"/v3/inventory", "sku shipNode", get_inventory),
        ("PUT", r"/v3/inventory", "sku shipNode", put_inventory),
        ("GET", r"/v3/inventories", "limit nextCursor", list_inventories),
        (
            "GET",
            r"/v3/fulfillment/inventory",
            "sku fromModifiedDate toModifiedDate limit offset",
            wfs_inventory,
        ),
        ("POST", r"/v3/feeds", "feedType shipNode", create_feed),
        ("GET", r"/v3/feeds/(?P<feed>[^/]+)", "includeDetails offset limit", get_feed),
        ("GET", r"/v3/returns", _RETURNS, list_returns),
        ("GET", r"/v3/webhooks/subscriptions", "subscriptionId eventType resourceName status", list_hooks),
        ("POST", r"/v3/webhooks/subscriptions", "", add_hooks),
        ("DELETE", r"/v3/webhooks/subscriptions/(?P<hook>[^/]+)", "", delete_hook),
    ]
]
