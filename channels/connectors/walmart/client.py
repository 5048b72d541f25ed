"""Walmart Marketplace API v3 (US): every request this product sends there.

No compare-and-set, no idempotency keys, no references of ours but one: the comment of a refund. A repeated shipment
or cancellation is guarded by reading the order first: what it already shows is not sent again.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from channels.connectors.base import (
    UNREADABLE,
    Access,
    CancelOrder,
    Capabilities,
    ChannelError,
    Confirmation,
    Connector,
    FieldSpec,
    ListingPage,
    ListingRef,
    Notification,
    Op,
    OrderPage,
    PoolLevel,
    PoolPage,
    PushItem,
    PushResult,
    RefundOrder,
    RemoteListing,
    RemoteReturn,
    Retry,
    ShipItem,
    ShopFacts,
    Subscription,
    Tokens,
    readable,
    register,
)
from channels.connectors.walmart import mapper, webhooks
from oms.core.clock import now
from oms.core.errors import UserError
from oms.core.http import HttpRequest
from oms.core.limits import Rate
from oms.orders.drafts import OrderDraft

HOST = "marketplace.walmartapis.com"
SERVICE = "Walmart Marketplace"
WFS = "WFS"
#: the list shows one kind at a time
NODE_TYPES = ("SellerFulfilled", "WFSFulfilled", "3PLFulfilled")
ORDERS_PAGE, LISTINGS_PAGE, FEED_PAGE, WFS_PAGE, RETURNS_PAGE = 200, 50, 50, 300, 200
MAX_PAGES = 400
#: orders can be asked for this far back
REACH = dt.timedelta(days=179)
#: above so many listings their figures are read by pages instead of one by one
READ_BY_PAGES = 50
#: quotas are not published per call: careful beginnings that the answers' own headers correct. Feeds: ten an hour
RATES = {
    "orders.list": Rate(2, 10), "orders.get": Rate(5, 20), "orders.write": Rate(2, 10), "inventory.put": Rate(5, 20),
    "inventory.get": Rate(5, 20), "feeds.create": Rate(8 / 3600, 8), "feeds.get": Rate(2, 10), "returns": Rate(1, 5),
    "webhooks": Rate(1, 5),
}  # fmt: skip
#: what every answer tells of the token bucket of its API
BUDGET_HEADERS = ("x-current-token-count", "x-next-replenishment-time")
#: the contract's own names of carriers
CARRIER_NAMES = (
    "UPS", "USPS", "FedEx", "Airborne", "OnTrac", "DHL Ecommerce - US", "DHL", "LS", "UDS", "UPSMI", "FDX", "PILOT",
    "ESTES", "SAIA", "FDS Express", "Seko Worldwide", "HIT Delivery", "FEDEXSP", "RL Carriers",
    "Metropolitan Warehouse & Delivery", "China Post", "YunExpress", "Yellow Freight Sys", "AIT Worldwide Logistics",
    "Chukou1", "Sendle", "Landmark Global", "Sunyou", "Yanwen", "4PX", "GLS", "OSM Worldwide", "FIRST MILE",
    "AM Trucking", "CEVA", "India Post", "SF Express", "CNE", "TForce Freight", "AxleHire", "LSO", "Royal Mail",
    "ABF Freight System", "WanB", "Roadrunner Freight", "Meyer Distribution", "AAA Cooper", "Canada Post",
    "Southeastern Freight Lines", "Japan Post", "Correos de Mexico", "XPO Logistics", "JD Logistics", "YDH", "JCEX",
    "Flyt", "Deutsche Post", "Better Trucks", "Asendia", "SFC", "UBI", "ePost Global", "YF Logistics", "RXO",
    "Estes Express", "Shypmax", "WIN.IT America", "PITT OHIO", "PostNord Sweden", "Equick", "Whistl", "Tusou",
    "Shiprocket", "DTDC", "PTS",
)  # fmt: skip
CARRIERS = {name.upper(): name for name in CARRIER_NAMES} | {
    "LASERSHIP": "LS", "UNITED_DELIVERY_SERVICE": "UDS", "UPS_MI": "UPSMI", "UPS_MAIL_INNOVATIONS": "UPSMI",
    "FEDEX_SMARTPOST": "FEDEXSP", "DHL_ECOMMERCE": "DHL Ecommerce - US", "DHL_EXPRESS": "DHL", "MYDHL": "DHL",
    "CANADA_POST": "Canada Post", "ROYAL_MAIL": "Royal Mail", "RL": "RL Carriers", "XPO": "XPO Logistics",
    "AXLEHIRE": "AxleHire", "SF": "SF Express",
}  # fmt: skip
METHODS = ("Standard", "Express", "OneDay", "Freight", "WhiteGlove", "Value")
#: our reasons → the contract's; "customer requested" is allowed only where the buyer asked on Walmart
CANCEL_REASONS = {
    "no_stock": "SELLER_CANCEL_OUT_OF_STOCK",
    "price": "SELLER_CANCEL_PRICING_ERROR",
    "fraud": "SELLER_CANCEL_FRAUD_STOP_SHIPMENT",
    "address": "SELLER_CANCEL_ADDRESS_NOT_SERVICEABLE",
}
BUYER_ASKED = "CUSTOMER_REQUESTED_SELLER_TO_CANCEL"
_MAX_PROOF = 120


class Walmart(Connector):
    key = "walmart"
    name = "Walmart Marketplace"
    capabilities = Capabilities(
        quantity_batch=1,
        quantity_connections=4,
        pushes_per_second=5,
        # a feed may take half an hour and holds its listings all that time: only for what single calls take longer for
        bulk_from=2000,
        per_location=True,
        webhooks=True,
        order_batch=10,
        list_above=20,
        poll_seconds=120,
        overlap_seconds=900,
        # an order whose payment is pending is sold there and never listed; how long that takes no document says
        visible_after_seconds=900,
        acknowledge=True,
        cancel=True,
        refund=True,
        returns=True,
        fulfilled_by_channel=True,
        repeatable=frozenset({"ship", "cancel", "acknowledge"}),
        marked=frozenset({"cancel"}),
        carriers=CARRIERS,
        other_carriers=True,
        neutral_parcels=True,
    )
    config_fields = (
        FieldSpec(
            "notifications", "Proof of notifications", required=False, default="basic",
            help="basic: a password that only Walmart and this system know; hmac: WM_SEC.SIGNATURE (a proxy in front "
            "must let header names with underscores pass)",
        ),
    )  # fmt: skip
    credential_fields = (
        FieldSpec("client_id", "Client id", secret=True),
        FieldSpec("client_secret", "Client secret", secret=True),
        FieldSpec(
            "refresh_token", "Refresh token", secret=True, required=False,
            help="only where the seller authorised an app of a solution provider",
        ),
        FieldSpec(
            "webhook_secret", "Secret of notifications", secret=True, required=False,
            help="empty: one that follows from the client secret",
        ),
    )  # fmt: skip

    def check_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        way = str(config.get("notifications") or "basic").strip().lower()
        if way not in ("basic", "hmac"):
            raise UserError("notifications: choose basic or hmac.", field="notifications")
        return {**config, "notifications": way}

    # --- talking -------------------------------------------------------------------------------------
    def _ask(
        self,
        access: Access,
        method: str,
        path: str,
        bucket: str,
        *,
        query: Iterable[tuple[str, Any]] = (),
        json: Any = None,
        content: bytes | None = None,
        content_type: str = "",
        idempotent: bool = False,
        timeout: float = 20.0,
    ) -> Op[Any]:
        """One request; the JSON of its answer, None for an empty one."""
        told = urlencode([(name, str(value)) for name, value in query], quote_via=quote, safe="")
        answer = yield HttpRequest(
            account_key=access.key,
            method=method,
            url=f"https://{HOST}{path}" + (f"?{told}" if told else ""),
            headers={
                "WM_SEC.ACCESS_TOKEN": str(access.tokens.get("access_token", "")),
                "WM_SVC.NAME": SERVICE,
                "WM_QOS.CORRELATION_ID": str(uuid.uuid4()),
                "Accept": "application/json",
                **({"Content-Type": content_type} if content_type else {}),
            },
            json=json,
            content=content,
            timeout=timeout,
            idempotent=idempotent,
            allowed_hosts=(HOST,),
            bucket=bucket,
            rate=RATES[bucket],
            max_wait=1.0 if bucket == "inventory.put" else 5.0,
            budget_headers=BUDGET_HEADERS,
        )
        return answer.json() if answer.content else None

    # --- token ---------------------------------------------------------------------------------------
    def token_lifetime(self, access: Access) -> bool:
        return True

    def refresh_token(self, access: Access) -> Op[Tokens]:
        known = access.credentials
        pair = f"{known.get('client_id', '')}:{known.get('client_secret', '')}"
        grant = (
            {"grant_type": "refresh_token", "refresh_token": str(known["refresh_token"])}
            if known.get("refresh_token")
            else {"grant_type": "client_credentials"}
        )
        answer = yield HttpRequest(
            account_key=access.key + ":token",
            method="POST",
            url=f"https://{HOST}/v3/token",
            headers={
                "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
                "WM_SVC.NAME": SERVICE,
                "WM_QOS.CORRELATION_ID": str(uuid.uuid4()),
                "Accept": "application/json",
            },
            data=grant,
            timeout=10.0,
            idempotent=True,
            allowed_hosts=(HOST,),
        )
        told = answer.json()
        # fifteen minutes; renewed one early, so that no request starts with a token that dies on the way
        life = max(30, int(told.get("expires_in", 900)) - 60)
        return Tokens({"access_token": told["access_token"]}, now() + dt.timedelta(seconds=life))

    def probe(self, access: Access) -> Op[ShopFacts]:
        """Both rights that nothing works without: orders and inventory. The nodes are those of the first items."""
        yield from self._ask(access, "GET", "/v3/orders", "orders.list", query=[("limit", 1)])
        page = yield from self._ask(
            access, "GET", "/v3/inventories", "inventory.get", query=[("limit", LISTINGS_PAGE)]
        )
        nodes = dict.fromkeys(
            str(node["shipNode"])
            for item in (page.get("elements") or {}).get("inventories") or ()
            for node in item.get("nodes") or ()
        )
        places = tuple((node, f"Ship node {node}") for node in nodes)
        return ShopFacts("Walmart Marketplace", "USD", (*places, (WFS, "Walmart Fulfillment Services")))

    # --- orders --------------------------------------------------------------------------------------
    def list_orders(self, access: Access, since: str, cursor: str) -> Op[OrderPage]:
        """The seller's own orders, then those of each other kind of node.

        Cursor: kind of node | when this pull began | Walmart's own cursor.
        """
        at = now()
        kind, started, rest = ([*cursor.split("|", 2), "", ""])[:3] if cursor else ("0", _iso(at), "")
        if rest:
            query = parse_qsl(rest.lstrip("?"), keep_blank_values=True)
        else:
            oldest = at - REACH
            start = max(dt.datetime.fromisoformat(since), oldest) if since else at - dt.timedelta(days=7)
            query = [
                ("lastModifiedStartDate", _iso(start)),
                # without it only orders of the last seven days are shown, whenever they changed
                ("createdStartDate", _iso(oldest)),
                ("shipNodeType", NODE_TYPES[int(kind)]),
                ("replacementInfo", "true"),
                ("limit", str(ORDERS_PAGE)),
            ]
        body = yield from self._ask(access, "GET", "/v3/orders", "orders.list", query=query, timeout=30.0)
        page = body["list"]
        orders = (page.get("elements") or {}).get("order") or ()
        drafts, refused = [], 0
        for order in orders:
            try:
                drafts.append(mapper.order_draft(order))
            except UNREADABLE:
                refused += 1
        further = str((page.get("meta") or {}).get("nextCursor") or "")
        if further and orders:
            return OrderPage(tuple(drafts), f"{kind}|{started}|{further}", "", refused)
        if int(kind) + 1 < len(NODE_TYPES):
            return OrderPage(tuple(drafts), f"{int(kind) + 1}|{started}|", "", refused)
        return OrderPage(tuple(drafts), "", started, refused)

    def get_orders(self, access: Access, external_ids: Sequence[str]) -> Op[list[OrderDraft]]:
        found = []
        for number in dict.fromkeys(external_ids):
            order = yield from self._order(access, number)
            if order is not None:
                found.append(mapper.order_draft(order))
        return found

    def _order(self, access: Access, number: str) -> Op[dict[str, Any] | None]:
        try:
            body = yield from self._ask(
                access, "GET", _order_path(number), "orders.get", query=[("replacementInfo", "true")]
            )
        except ChannelError as error:
            if error.code == "404":
                return None
            raise
        # the contract's schema shows the order itself, its example an order inside
        return dict(body.get("order") or body)

    def _known_order(self, access: Access, number: str) -> Op[dict[str, Any]]:
        order = yield from self._order(access, number)
        if order is None:
            raise ChannelError(Retry.REJECTED, f"Walmart does not know the purchase order {number}")
        return order

    def acknowledge(self, access: Access, external_id: str) -> Op[None]:
        try:
            yield from self._ask(
                access, "POST", _order_path(external_id, "acknowledge"), "orders.write", idempotent=True
            )
        except ChannelError as error:
            if error.kind is not Retry.REJECTED:
                raise
            # refused because nothing is left to acknowledge: that is what was wanted
            order = yield from self._order(access, external_id)
            if order is None or any(mapper.by_status(line)["Created"] for line in mapper.lines_of(order)):
                raise error

    def mark(self, access: Access, request: RefundOrder | CancelOrder) -> Op[str]:
        """Cancelled units per line, so that an earlier cancellation of a line never passes for this one."""
        shown = yield from self._known_order(access, request.order_external_id)
        return json.dumps(
            {
                str(line["lineNumber"]): mapper.by_status(line)[mapper.CANCELLED]
                for line in mapper.lines_of(shown)
            }
        )

    def cancel(self, access: Access, order: CancelOrder) -> Op[str]:
        """Cancel open units per line. The answer names how many units of each line are cancelled then."""
        shown = yield from self._known_order(access, order.order_external_id)
        before: dict[str, int] = json.loads(order.mark or "{}")
        rows, wanted = [], {}
        for line, units in _wanted(shown, order.items):
            number = str(line["lineNumber"])
            if order.items and number in before:
                goal = before[number] + units
                units = max(0, goal - mapper.by_status(line)[mapper.CANCELLED])
                if not units:
                    wanted[number] = goal  # an earlier try of this very cancellation got through
                    continue
            open_units = mapper.open_units(line)
            if order.items and units > open_units:
                done = mapper.by_status(line)[mapper.CANCELLED]
                if done < units:
                    raise ChannelError(
                        Retry.REJECTED,
                        f"line {number}: {units} units are to be cancelled, but only {open_units} are not shipped yet",
                    )
                wanted[number] = done  # an earlier call got through
                continue
            if not units:
                continue
            wanted[number] = mapper.by_status(line)[mapper.CANCELLED] + units
            rows.append(
                {
                    "lineNumber": number,
                    "orderLineStatuses": {
                        "orderLineStatus": [
                            {
                                "status": "Cancelled",
                                "cancellationReason": _cancel_reason(order.reason, line),
                                "statusQuantity": _quantity(units),
                            }
                        ]
                    },
                }
            )
        if rows:
            yield from self._ask(
                access, "POST", _order_path(order.order_external_id, "cancel"), "orders.write",
                json={"orderCancellation": {"orderLines": {"orderLine": rows}}},
            )  # fmt: skip
        proof = ",".join(f"{number}={units}" for number, units in wanted.items())
        return proof if len(proof) <= _MAX_PROOF else ""

    def cancelled(self, access: Access, order: CancelOrder) -> Op[bool]:
        shown = yield from self._known_order(access, order.order_external_id)
        lines = {str(line["lineNumber"]): line for line in mapper.lines_of(shown)}
        if not order.items:
            return not any(mapper.open_units(line) for line in lines.values())
        told = dict(part.split("=", 1) for part in order.external_id.split(",") if "=" in part)
        before: dict[str, int] = json.loads(order.mark or "{}")
        for item in order.items:
            line = lines.get(item.line_external_id)
            goal = before.get(item.line_external_id, 0) + item.quantity
            least = int(told.get(item.line_external_id, goal))
            if line is None or mapper.by_status(line)[mapper.CANCELLED] < least:
                return False
        return True

    # --- stock ---------------------------------------------------------------------------------------
    def push_quantities(self, access: Access, items: Sequence[PushItem]) -> Op[list[PushResult]]:
        results = []
        for item in items:
            if item.fulfilled_by_channel:
                words = "Walmart ships this listing: its quantity is never written"
                results.append(PushResult(item.listing_id, Retry.REJECTED, words))
                continue
            try:
                told = yield from self._ask(
                    access, "PUT", "/v3/inventory", "inventory.put",
                    query=_item_query(item.external_sku, item.location_id),
                    json={"sku": item.external_sku, "quantity": {"unit": "EACH", "amount": item.quantity}},
                    idempotent=True,
                )  # fmt: skip
            except ChannelError as error:
                # quantities are absolute: the whole call is repeated with a new token, or later
                if error.kind is Retry.AUTH or (error.kind is Retry.THROTTLED and not results):
                    raise
                results.append(PushResult(item.listing_id, error.kind, error.message, error.retry_after))
                continue
            shown = _amount(told)
            if shown != item.quantity:
                words = f"Walmart answered {shown} to {item.quantity} units"
                results.append(PushResult(item.listing_id, Retry.TRANSIENT, words))
            else:
                results.append(PushResult(item.listing_id))
        return results

    def push_bulk(self, access: Access, items: Sequence[PushItem]) -> Op[str]:
        """One feed: MP_INVENTORY where listings name their node, else the older feed of one node."""
        if any(item.fulfilled_by_channel for item in items):
            raise ChannelError(
                Retry.REJECTED, "Walmart ships one of these listings: its quantity is never written"
            )
        by_node = any(item.location_id for item in items)
        if by_node and not all(item.location_id for item in items):
            raise ChannelError(Retry.REJECTED, "a feed by ship node needs the node of every listing")
        document = _feed(items) if by_node else _plain_feed(items)
        kind = "MP_INVENTORY" if by_node else "inventory"
        content, content_type = _multipart(json.dumps(document, separators=(",", ":")).encode())
        answer = yield from self._ask(
            access, "POST", "/v3/feeds", "feeds.create", query=[("feedType", kind)], content=content,
            content_type=content_type, timeout=60.0,
        )  # fmt: skip
        if not answer.get("feedId"):
            raise ChannelError(Retry.REJECTED, f"Walmart gave no feed id: {str(answer.get('errors'))[:200]}")
        return str(answer["feedId"])

    def bulk_result(
        self, access: Access, handle: str, items: Sequence[PushItem]
    ) -> Op[list[PushResult] | None]:
        """Results by SKU: the nodes of one SKU stand or fall together. A feed without failures is not paged through."""
        statuses: dict[str, Mapping[str, Any]] = {}
        for page in range(MAX_PAGES):
            feed = yield from self._ask(
                access, "GET", f"/v3/feeds/{quote(handle, safe='')}", "feeds.get",
                query=[("includeDetails", "true"), ("offset", page * FEED_PAGE), ("limit", FEED_PAGE)],
            )  # fmt: skip
            state = feed.get("feedStatus")
            if state in ("RECEIVED", "INPROGRESS"):
                return None
            if state == "ERROR":
                words = f"the feed failed: {_ingestion_words(feed) or 'no reason given'}"
                return [PushResult(item.listing_id, Retry.TRANSIENT, words) for item in items]
            skus = {item.external_sku for item in items}
            if not feed.get("itemsFailed") and int(feed.get("itemsSucceeded") or 0) >= len(skus):
                return [PushResult(item.listing_id) for item in items]
            rows = (feed.get("itemDetails") or {}).get("itemIngestionStatus") or ()
            statuses.update({str(row.get("sku")): row for row in rows})
            if len(rows) < FEED_PAGE:
                break
        return [_feed_result(item, statuses.get(item.external_sku)) for item in items]

    def read_quantities(self, access: Access, refs: Sequence[ListingRef]) -> Op[dict[int, int]]:
        if len(refs) > READ_BY_PAGES:
            return (yield from self._read_by_pages(access, refs))
        shown = {}
        for ref in refs:
            try:
                told = yield from self._ask(
                    access, "GET", "/v3/inventory", "inventory.get",
                    query=_item_query(ref.external_sku, ref.location_id),
                )  # fmt: skip
            except ChannelError as error:
                if error.code == "404":
                    continue
                raise
            found = _amount(told)
            if found is not None:
                shown[ref.listing_id] = found
        return shown

    def _read_by_pages(self, access: Access, refs: Sequence[ListingRef]) -> Op[dict[int, int]]:
        wanted = {(ref.external_sku, ref.location_id): ref.listing_id for ref in refs}
        found: dict[int, int] = {}
        cursor = ""
        for _ in range(MAX_PAGES):
            page = yield from self._inventories(access, cursor)
            for listing in page.listings:
                number = wanted.get((listing.external_sku, listing.location_id))
                if number is not None and listing.quantity is not None:
                    found[number] = listing.quantity
            cursor = page.cursor
            if not cursor or len(found) == len(wanted):
                break
        return found

    def _inventories(self, access: Access, cursor: str) -> Op[ListingPage]:
        query = [("limit", str(LISTINGS_PAGE)), *([("nextCursor", cursor)] if cursor else [])]
        body = yield from self._ask(access, "GET", "/v3/inventories", "inventory.get", query=query)
        rows = (body.get("elements") or {}).get("inventories") or ()
        found = tuple(
            RemoteListing(
                external_id=str(row["sku"]),
                external_sku=str(row["sku"]),
                title=str(row["sku"]),  # the inventory API tells no names
                location_id=str(node["shipNode"]),
                location_name=f"Ship node {node['shipNode']}",
                quantity=_units(node.get("availToSellQty") or node.get("inputQty")),
            )
            for row in rows
            for node in row.get("nodes") or ()
        )
        further = str((body.get("meta") or {}).get("nextCursor") or "")
        return ListingPage(found, further if rows else "")

    def list_listings(self, access: Access, cursor: str) -> Op[ListingPage]:
        """Every SKU once per ship node, then the SKUs in Walmart's own warehouses."""
        part, _, rest = cursor.partition("|")
        if part != WFS:
            page = yield from self._inventories(access, rest)
            return ListingPage(page.listings, f"own|{page.cursor}" if page.cursor else f"{WFS}|")
        pool = yield from self.pool_levels(access, None, rest)
        listings = tuple(
            RemoteListing(
                external_id=level.external_sku,
                external_sku=level.external_sku,
                title=level.external_sku,
                location_id=WFS,
                location_name="Walmart Fulfillment Services",
                fulfilled_by_channel=True,
            )
            for level in pool.levels
        )
        return ListingPage(listings, f"{WFS}|{pool.cursor}" if pool.cursor else "")

    def pool_levels(self, access: Access, since: dt.datetime | None, cursor: str) -> Op[PoolPage]:
        read_at = now()
        offset = int(cursor or 0)
        query = [("limit", str(WFS_PAGE)), ("offset", str(offset))]
        if since:
            query.append(("fromModifiedDate", _iso(since)))
        body = yield from self._ask(access, "GET", "/v3/fulfillment/inventory", "inventory.get", query=query)
        rows = (body.get("payload") or {}).get("inventory") or ()
        levels = []
        for row in rows:
            nodes = [
                node
                for node in row.get("shipNodes") or ()
                if node.get("shipNodeType", NODE_TYPES[1]) == NODE_TYPES[1]
            ]
            free = sum(int(node.get("availToSellQty") or 0) for node in nodes)
            held = sum(int(node.get("onHandQty") or 0) for node in nodes)
            levels.append(PoolLevel(str(row["sku"]), free, max(0, held - free), 0, 0, read_at))
        total = int((body.get("headers") or {}).get("totalCount") or 0)
        further = offset + len(rows)
        return PoolPage(tuple(levels), str(further) if rows and further < total else "")

    # --- effects -------------------------------------------------------------------------------------
    def confirm_shipment(self, access: Access, parcel: Confirmation) -> Op[str]:
        """Ship lines under one tracking number; units that the order already shows under it are left out."""
        carrier = _carrier(parcel)
        order = yield from self._known_order(access, parcel.order_external_id)
        lines = {str(line["lineNumber"]): line for line in mapper.lines_of(order)}
        method = str(order["shippingInfo"].get("methodCode") or "")
        rows = []
        for item in parcel.items:
            line = lines.get(item.line_external_id)
            if line is None:
                raise ChannelError(Retry.REJECTED, f"the purchase order has no line {item.line_external_id}")
            units = item.quantity - mapper.tracked_units(line, parcel.tracking_number)
            if units <= 0:
                continue
            if units > mapper.open_units(line):
                raise ChannelError(
                    Retry.REJECTED,
                    f"line {item.line_external_id}: {units} units left, but Walmart shows only "
                    f"{mapper.open_units(line)} that are neither shipped nor cancelled",
                )
            rows.append(_ship_line(parcel, line, units, carrier, method))
        if rows:
            if any(mapper.by_status(line)["Created"] for line in lines.values()):
                yield from self.acknowledge(access, parcel.order_external_id)
            yield from self._ask(
                access, "POST", _order_path(parcel.order_external_id, "shipping"), "orders.write",
                json={"orderShipment": {"orderLines": {"orderLine": rows}}},
            )  # fmt: skip
        return parcel.reference

    def read_shipment(self, access: Access, parcel: Confirmation) -> Op[str | None]:
        order = yield from self._order(access, parcel.order_external_id)
        if order is None:
            return None
        lines = {str(line["lineNumber"]): line for line in mapper.lines_of(order)}
        shown = all(
            item.line_external_id in lines
            and mapper.tracked_units(lines[item.line_external_id], parcel.tracking_number) >= item.quantity
            for item in parcel.items
        )
        return parcel.reference if shown and parcel.items else None

    def refund(self, access: Access, refund: RefundOrder) -> Op[str]:
        """Money per line as negative charges, tax apart in the proportion in which it was paid."""
        order = yield from self._known_order(access, refund.order_external_id)
        known = _refund_with(order, refund.reference)
        if known is not None:
            return known
        yield from self._ask(
            access, "POST", _order_path(refund.order_external_id, "refund"), "orders.write",
            json={
                "orderRefund": {
                    "purchaseOrderId": refund.order_external_id,
                    "orderLines": {"orderLine": _refund_lines(order, refund)},
                }
            },
        )  # fmt: skip
        return ""

    def find_refund(self, access: Access, refund: RefundOrder) -> Op[str | None]:
        order = yield from self._known_order(access, refund.order_external_id)
        return _refund_with(order, refund.reference)

    def list_returns(self, access: Access, since: dt.datetime) -> Op[list[RemoteReturn]]:
        query = [("returnLastModifiedStartDate", _iso(since)), ("limit", str(RETURNS_PAGE))]
        found: list[RemoteReturn] = []
        for _ in range(MAX_PAGES):
            body = yield from self._ask(access, "GET", "/v3/returns", "returns", query=query)
            rows = body.get("returnOrders") or ()
            for row in rows:
                found += readable(row, mapper.returns_of, "returnOrderId")
            further = str((body.get("meta") or {}).get("nextCursor") or "")
            if not further or not rows:
                break
            query = parse_qsl(further.lstrip("?"), keep_blank_values=True)
        return found

    # --- notifications -------------------------------------------------------------------------------
    @staticmethod
    def _secret(access: Access) -> str:
        chosen = str(access.credentials.get("webhook_secret") or "")
        client = str(access.credentials.get("client_secret") or "")
        return chosen or (webhooks.derived_secret(client) if client else "")

    def parse_push(self, access: Access, headers: Mapping[str, str], raw: bytes) -> list[Notification]:
        way = str(access.config.get("notifications") or "basic")
        return webhooks.parse(self._secret(access), way, headers, raw, now())

    def kind_of(self, topic: str) -> str:
        return webhooks.kind_of(topic)

    def told_quantity(self, body: Mapping[str, Any]) -> tuple[str, str, int] | None:
        return webhooks.told_quantity(body)

    def ensure_subscriptions(self, access: Access, address: str) -> Op[list[Subscription]]:
        """One per event at our address. The contract knows no change of a subscription: a sleeping one is made anew."""
        body = yield from self._ask(access, "GET", "/v3/webhooks/subscriptions", "webhooks")
        known: set[str] = set()
        for row in _subscriptions(body):
            if row.get("eventUrl") != address or row.get("eventType") not in webhooks.EVENTS:
                continue
            if row.get("status") == "ACTIVE" and self._same_proof(access, row):
                known.add(str(row["eventType"]))
                continue
            yield from self._ask(
                access, "DELETE", f"/v3/webhooks/subscriptions/{quote(str(row['subscriptionId']), safe='')}",
                "webhooks", idempotent=True,
            )  # fmt: skip
        missing = [event for event in webhooks.EVENTS if event not in known]
        if not missing:
            return []
        made = yield from self._ask(
            access, "POST", "/v3/webhooks/subscriptions", "webhooks",
            json={
                "events": [
                    {
                        "eventType": event,
                        "eventVersion": webhooks.VERSION,
                        "resourceName": webhooks.EVENTS[event],
                        "eventUrl": address,
                        "authDetails": self._auth_details(access),
                        "headers": {"content-type": "application/json"},
                        "status": "ACTIVE",
                    }
                    for event in missing
                ]
            },
        )  # fmt: skip
        return [
            Subscription(str(row.get("subscriptionId") or ""), str(row["eventType"]), address)
            for row in _subscriptions(made)
        ]

    def _auth_details(self, access: Access) -> dict[str, str]:
        if access.config.get("notifications") == "hmac":
            return {
                "authMethod": "HMAC",
                "clientSecret": self._secret(access),
                "authHeaderName": "WM_SEC.SIGNATURE",
            }
        return {
            "authMethod": "BASIC_AUTH", "userName": webhooks.USER, "password": self._secret(access),
            "authHeaderName": "Authorization",
        }  # fmt: skip

    def _same_proof(self, access: Access, row: Mapping[str, Any]) -> bool:
        """Does a subscription prove itself as we now expect it? What Walmart does not show counts as the same."""
        shown = row.get("authDetails") or {}
        return all(shown.get(name) in (None, "", value) for name, value in self._auth_details(access).items())


# --- small parts -----------------------------------------------------------------------------------


def _iso(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _order_path(number: str, action: str = "") -> str:
    return f"/v3/orders/{quote(number, safe='')}" + (f"/{action}" if action else "")


def _item_query(sku: str, node: str) -> list[tuple[str, str]]:
    return [("sku", sku), *([("shipNode", node)] if node else [])]


def _quantity(units: int) -> dict[str, str]:
    return {"unitOfMeasurement": "EACH", "amount": str(units)}


def _units(quantity: Mapping[str, Any] | None) -> int | None:
    if not quantity or quantity.get("amount") is None:
        return None
    return int(Decimal(str(quantity["amount"])))


def _amount(told: Mapping[str, Any] | None) -> int | None:
    return _units((told or {}).get("quantity"))


def _wanted(order: Mapping[str, Any], items: Sequence[ShipItem]) -> list[tuple[Mapping[str, Any], int]]:
    """The lines to cancel with their units; all that is open where no line is named."""
    lines = mapper.lines_of(order)
    if not items:
        return [(line, mapper.open_units(line)) for line in lines]
    known = {str(line["lineNumber"]): line for line in lines}
    found = []
    for item in items:
        if item.line_external_id not in known:
            raise ChannelError(Retry.REJECTED, f"the purchase order has no line {item.line_external_id}")
        found.append((known[item.line_external_id], item.quantity))
    return found


def _cancel_reason(reason: str, line: Mapping[str, Any]) -> str:
    """The buyer's own wish is taken only where it is true; it alone does not count against the seller."""
    if mapper.wants_cancel(line):
        return BUYER_ASKED
    return CANCEL_REASONS.get(reason, CANCEL_REASONS["no_stock"])


def _carrier(parcel: Confirmation) -> dict[str, str]:
    known = CARRIERS.get(parcel.carrier.upper())
    if known:
        return {"carrier": known}
    if not parcel.tracking_url:
        raise ChannelError(
            Retry.REJECTED,
            f"carrier: Walmart does not list '{parcel.carrier}' and then needs a tracking address: give the carrier "
            "account a tracking_url with {number} in it, or a carrier_code of Walmart's list.",
        )
    return {"otherCarrier": parcel.carrier_name or parcel.carrier}


def _ship_line(
    parcel: Confirmation, line: Mapping[str, Any], units: int, carrier: Mapping[str, str], method: str
) -> dict[str, Any]:
    return {
        "lineNumber": str(line["lineNumber"]),
        # shipping after the buyer asked to cancel must be said on purpose; whoever packed it has decided so
        "intentToCancelOverride": mapper.wants_cancel(line),
        "sellerOrderId": str(line.get("sellerOrderId") or parcel.order_external_id)[:30],
        "orderLineStatuses": {
            "orderLineStatus": [
                {
                    "status": "Shipped",
                    "statusQuantity": _quantity(units),
                    "trackingInfo": {
                        "shipDateTime": int(parcel.shipped_at.timestamp() * 1000),
                        "carrierName": dict(carrier),
                        "methodCode": method if method in METHODS else "Standard",
                        "trackingNumber": parcel.tracking_number,
                        **({"trackingURL": parcel.tracking_url} if parcel.tracking_url else {}),
                    },
                }
            ]
        },
    }


def _money(amount: Decimal, currency: str) -> dict[str, Any]:
    """A charge that goes back is negative. Cents survive as a JSON number: its shortest text is written."""
    return {"currency": currency, "amount": float(-amount.quantize(mapper.CENT))}


def _refund_lines(order: Mapping[str, Any], refund: RefundOrder) -> list[dict[str, Any]]:
    """Every cent of the refund on a line: a restocking fee lessens the first lines, shipping goes with the first."""
    lines = {str(line["lineNumber"]): line for line in mapper.lines_of(order)}
    parts = [(item.line_external_id, item.amount) for item in refund.items if item.line_external_id in lines]
    if len(parts) != len(refund.items):
        raise ChannelError(
            Retry.REJECTED, "Walmart refunds lines of the purchase order, and one of these is none"
        )
    if not parts:  # goodwill for the whole order stands with the first line that left
        sent = [
            number for number, line in lines.items() if sum(mapper.by_status(line)[s] for s in mapper.GONE)
        ]
        if not sent:
            raise ChannelError(
                Retry.REJECTED, "Walmart refunds shipped lines only: cancel what has not left yet"
            )
        parts = [(sent[0], refund.amount - refund.shipping + refund.fee)]
    fee = refund.fee
    rows = []
    for position, (number, amount) in enumerate(parts):
        kept = min(fee, amount)
        fee -= kept
        goods, tax = mapper.split_tax(lines[number], amount - kept)
        charges = []
        if goods > 0 or tax > 0:
            charge: dict[str, Any] = {
                "chargeType": "PRODUCT", "chargeName": "ItemPrice", "chargeAmount": _money(goods, refund.currency),
            }  # fmt: skip
            if tax:
                charge["tax"] = {"taxName": "Item Price Tax", "taxAmount": _money(tax, refund.currency)}
            charges.append(charge)
        shipping = refund.shipping if not position else Decimal(0)
        kept = min(fee, shipping)
        fee -= kept
        if shipping > kept:
            charges.append(
                {
                    "chargeType": "SHIPPING", "chargeName": "Shipping",
                    "chargeAmount": _money(shipping - kept, refund.currency),
                }
            )  # fmt: skip
        if not charges:
            continue
        reason = _refund_reason(refund, number)
        rows.append(
            {
                "lineNumber": number,
                "isFullRefund": False,
                "refunds": {
                    "refund": [
                        {
                            "refundComments": " ".join(filter(None, (refund.reference, refund.reason)))[:200],
                            "refundCharges": {
                                "refundCharge": [{"refundReason": reason, "charge": one} for one in charges]
                            },
                        }
                    ]
                },
            }
        )
    if not rows:
        raise ChannelError(Retry.REJECTED, "nothing is left of the refund after its fee")
    return rows


def _refund_reason(refund: RefundOrder, line: str) -> str:
    """Units that came back, or money without goods."""
    goods = any(item.quantity for item in refund.items if item.line_external_id == line)
    return "Customer returned item" if goods else "Finance -> Goodwill"


def _refund_with(order: Mapping[str, Any], reference: str) -> str | None:
    """The refund that carries our reference; the line's own number stands in where Walmart gave none."""
    for line in mapper.lines_of(order):
        told = line.get("refund") or {}
        for refund in told if isinstance(told, list) else [told]:
            if reference in str(refund.get("refundComments") or "").split():
                return str(refund.get("refundId") or f"{order['purchaseOrderId']}-{line['lineNumber']}")
    return None


def _plain_feed(items: Sequence[PushItem]) -> dict[str, Any]:
    return {
        "InventoryHeader": {"version": "1.4"},
        "Inventory": [
            {"sku": item.external_sku, "quantity": {"unit": "EACH", "amount": item.quantity}}
            for item in items
        ],
    }


def _feed(items: Sequence[PushItem]) -> dict[str, Any]:
    nodes: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        nodes.setdefault(item.external_sku, []).append(
            {"shipNode": item.location_id, "quantity": {"unit": "EACH", "amount": item.quantity}}
        )
    return {
        "inventoryHeader": {"version": "1.5"},
        "inventory": [{"sku": sku, "shipNodes": places} for sku, places in nodes.items()],
    }


def _multipart(document: bytes) -> tuple[bytes, str]:
    """multipart/form-data with one part named file; the boundary cannot stand in the document."""
    boundary = f"lading{uuid.uuid4().hex}"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="inventory.json"\r\n'
        "Content-Type: application/json\r\n\r\n"
    )
    return (
        head.encode() + document + f"\r\n--{boundary}--\r\n".encode(),
        f"multipart/form-data; boundary={boundary}",
    )


def _ingestion_words(row: Mapping[str, Any]) -> str:
    errors = (row.get("ingestionErrors") or {}).get("ingestionError") or ()
    return "; ".join(f"{one.get('code', '')}: {one.get('description', '')}" for one in errors)[:400]


def _feed_result(item: PushItem, row: Mapping[str, Any] | None) -> PushResult:
    if row is None:
        return PushResult(item.listing_id, Retry.TRANSIENT, "the feed's report leaves this item out")
    status = row.get("ingestionStatus")
    if status == "SUCCESS":
        return PushResult(item.listing_id)
    words = _ingestion_words(row) or str(status)
    return PushResult(item.listing_id, Retry.REJECTED if status == "DATA_ERROR" else Retry.TRANSIENT, words)


def _subscriptions(body: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The contract wraps each subscription in {event: […]}, its examples do not."""
    found: list[Mapping[str, Any]] = []
    for row in (body or {}).get("events") or ():
        found += row["event"] if isinstance(row.get("event"), list) else [row]
    return found


register(Walmart())
