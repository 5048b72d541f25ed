"""WooCommerce REST API v3: every request this product sends to a shop.

The API has no compare-and-set, no locations, no tracking numbers and no idempotency keys. What we need of those is
kept on the order itself: each parcel is noted in the order's meta data before the buyer is told, so that a repeated
call finds it; refunds and line cancellations carry our reference.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

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
    PushItem,
    PushResult,
    RefundOrder,
    RemoteListing,
    Retry,
    ShopFacts,
    Subscription,
    register,
)
from channels.connectors.woocommerce import mapper, webhooks
from channels.connectors.woocommerce.mapper import ParcelNote, listing_id
from oms.core.egress import Refused, check_user_url
from oms.core.errors import UserError
from oms.core.http import HttpRequest
from oms.core.limits import Rate
from oms.orders.drafts import OrderDraft

#: WooCommerce sets no limit, hosts do; a small shop's PHP answers a handful of calls at once
RATE = Rate(8, 16)
BATCH = 100  # objects of a batch call, orders or products of a page (documented maximum)
_LISTING = re.compile(r"\d+(/\d+)?\Z")
_CHOICES = {"tracking": ("note", "plugin"), "refunds": ("gateway", "record")}
#: keys of the Shipment Tracking extension, shown to buyers by many themes and mails
TRACKING_KEY = "_wc_shipment_tracking_items"


class WooCommerce(Connector):
    key = "woocommerce"
    name = "WooCommerce"
    capabilities = Capabilities(
        quantity_batch=BATCH,
        quantity_connections=2,
        webhooks=True,
        order_batch=50,
        body_above=50,
        poll_seconds=60,  # webhooks leave with the shop's cron: minutes late on a quiet site
        overlap_seconds=3600,
        cancel=True,
        refund=True,
        repeatable=frozenset({"ship", "cancel"}),
        other_carriers=True,
    )
    config_fields = (
        FieldSpec("store_url", "Shop address", help="https://shop.example.com, with its path if it has one"),
        FieldSpec(
            "statuses",
            "Meaning of further order statuses",
            required=False,
            help="statuses that plugins add: awaiting-shipment=open, quote=pending",
        ),
        FieldSpec(
            "tracking", "Tracking numbers", required=False, default="note",
            help="note: a note mailed to the buyer; plugin: the Shipment Tracking extension as well",
        ),
        FieldSpec(
            "refunds", "Refunds", required=False, default="gateway",
            help="gateway: the shop's payment gateway pays back; record: the shop only notes it",
        ),
    )  # fmt: skip
    credential_fields = (
        FieldSpec("consumer_key", "Consumer key", secret=True, help="ck_…, with read and write rights"),
        FieldSpec("consumer_secret", "Consumer secret", secret=True, help="cs_…"),
        FieldSpec(
            "webhook_secret",
            "Webhook secret",
            secret=True,
            required=False,
            help="empty: the consumer secret signs, as WooCommerce does by itself",
        ),
    )

    def check_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        url = str(config.get("store_url", "")).strip().rstrip("/")
        if url and "://" not in url:
            url = f"https://{url}"
        url = url.removesuffix("/wp-json/wc/v3").removesuffix("/wp-json")
        try:
            check_user_url(url)
        except Refused as refused:
            raise UserError(f"store_url: {refused}", field="store_url") from refused
        if urlsplit(url).query or urlsplit(url).fragment:
            raise UserError(
                "store_url: give the shop's address without anything after ? or #.", field="store_url"
            )
        try:
            mapper.status_map(config.get("statuses"))
        except ValueError as error:
            raise UserError(f"statuses: {error}", field="statuses") from error
        chosen = {}
        for name, known in _CHOICES.items():
            chosen[name] = str(config.get(name) or known[0]).strip().lower()
            if chosen[name] not in known:
                raise UserError(f"{name}: choose {' or '.join(known)}.", field=name)
        return {**config, **chosen, "store_url": url}

    # --- talking -------------------------------------------------------------------------------------
    def _ask(
        self,
        access: Access,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        idempotent: bool = False,
        timeout: float = 20.0,
    ) -> Op[tuple[Any, Mapping[str, str]]]:
        """One request; the JSON of its answer and its headers."""
        known = access.credentials
        pair = f"{known.get('consumer_key', '')}:{known.get('consumer_secret', '')}"
        answer = yield HttpRequest(
            account_key=access.key,
            method=method,
            url=f"{access.config['store_url']}/wp-json/wc/v3/{path}",
            headers={
                "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
                "Accept": "application/json",
            },
            params=params,
            json=json,
            timeout=timeout,
            idempotent=idempotent,
            user_url=True,
            rate=RATE,
        )
        return answer.json(), answer.headers

    def probe(self, access: Access) -> Op[ShopFacts]:
        currency, _ = yield from self._ask(access, "GET", "settings/general/woocommerce_currency")
        # the key may be read-only: writing nothing is refused too
        yield from self._ask(access, "POST", "products/batch", json={"update": []}, idempotent=True)
        host = urlsplit(str(access.config["store_url"])).hostname or ""
        return ShopFacts(host, str(currency.get("value") or ""))

    # --- orders --------------------------------------------------------------------------------------
    def list_orders(self, access: Access, since: str, cursor: str) -> Op[OrderPage]:
        """Oldest change first. An order that changes while we turn pages moves to the end; the overlap of the next
        pull covers the one that its going may have pushed over a page's edge."""
        page = int(cursor or 1)
        found, headers = yield from self._ask(
            access,
            "GET",
            "orders",
            params={
                "orderby": "modified", "order": "asc", "per_page": BATCH, "page": page, "status": "any",
                **({"modified_after": since, "dates_are_gmt": "true"} if since else {}),
            },
        )  # fmt: skip
        drafts, refused, newest = [], 0, since
        for order in found:
            if not isinstance(order, dict):
                refused += 1
                continue
            newest = max(newest, str(order.get("date_modified_gmt") or ""))
            draft = yield from self._draft(access, order)
            if draft is not None:
                drafts.append(draft)
            elif str(order.get("status", "")).removeprefix("wc-") not in mapper.NOT_YET:
                refused += 1
        more = page < int(headers.get("x-wp-totalpages") or 0)
        return OrderPage(tuple(drafts), str(page + 1) if more else "", newest, refused)

    def get_orders(self, access: Access, external_ids: Sequence[str]) -> Op[list[OrderDraft]]:
        orders: dict[str, Any] = {}
        for start in range(0, len(external_ids), BATCH):
            ids = external_ids[start : start + BATCH]
            found, _ = yield from self._ask(
                access, "GET", "orders",
                params={"include": ",".join(ids), "per_page": BATCH, "status": "any"},
            )  # fmt: skip
            orders.update({str(order["id"]): order for order in found})
        for number in external_ids:
            if number not in orders:  # the trash is not part of any list
                order = yield from self._order(access, number)
                if order is not None:
                    orders[number] = order
        drafts = []
        for number in dict.fromkeys(external_ids):
            if number in orders:
                refunds = yield from self._refunds(access, orders[number])
                drafts.append(mapper.order_draft(orders[number], refunds, self._statuses(access)))
        return drafts

    def _order(self, access: Access, number: str) -> Op[dict[str, Any] | None]:
        try:
            order, _ = yield from self._ask(access, "GET", f"orders/{number}")
        except ChannelError as error:
            if error.code == "404":
                return None
            raise
        return dict(order)

    def _refunds(self, access: Access, order: Mapping[str, Any]) -> Op[list[Any]]:
        """The order names its refunds without their lines."""
        if not order.get("refunds"):
            return []
        found, _ = yield from self._ask(
            access, "GET", f"orders/{order['id']}/refunds", params={"per_page": BATCH}
        )
        return list(found)

    def _draft(self, access: Access, order: Mapping[str, Any]) -> Op[OrderDraft | None]:
        try:
            refunds = yield from self._refunds(access, order)
            return mapper.order_draft(order, refunds, self._statuses(access))
        except ChannelError as error:
            if error.kind is not Retry.REJECTED:
                raise
            return None
        except UNREADABLE:
            return None

    @staticmethod
    def _statuses(access: Access) -> Mapping[str, Any]:
        return mapper.status_map(access.config.get("statuses"))

    def map_notification(self, body: Mapping[str, Any]) -> OrderDraft | None:
        if "line_items" not in body or body.get("refunds") or body.get("status") not in mapper.STATUSES:
            return None
        return mapper.order_draft(body)

    def cancel(self, access: Access, order: CancelOrder) -> Op[str]:
        if order.items:
            return (yield from self._remove_lines(access, order))
        yield from self._ask(
            access, "PUT", f"orders/{order.order_external_id}", json={"status": "cancelled"}, idempotent=True
        )
        return order.order_external_id

    def _remove_lines(self, access: Access, order: CancelOrder) -> Op[str]:
        """Single lines are taken off by a refund without money; the money is refunded by its own machine."""
        known = yield from self._refund_with(access, order.order_external_id, order.reference)
        if known:
            return known
        made, _ = yield from self._ask(
            access, "POST", f"orders/{order.order_external_id}/refunds",
            json={
                "amount": "0.00",
                "reason": order.reference,
                "api_refund": False,
                "api_restock": False,
                "line_items": [
                    {"id": int(item.line_external_id), "quantity": item.quantity, "refund_total": 0}
                    for item in order.items
                ],
                "meta_data": [{"key": mapper.REFERENCE_KEY, "value": order.reference}],
            },
        )  # fmt: skip
        return str(made.get("id") or "")

    def cancelled(self, access: Access, order: CancelOrder) -> Op[bool]:
        if order.items:
            found = yield from self._refund_with(access, order.order_external_id, order.reference)
            return found is not None
        shown = yield from self._order(access, order.order_external_id)
        if shown is None:
            raise ChannelError(Retry.REJECTED, "the shop does not know the order")
        return str(shown.get("status")) in ("cancelled", "refunded", "trash")

    # --- stock ---------------------------------------------------------------------------------------
    def push_quantities(self, access: Access, items: Sequence[PushItem]) -> Op[list[PushResult]]:
        """Products in one batch, variations in one batch per product. A call that fails is its own items' failure."""
        results: dict[int, PushResult] = {}
        groups: dict[str, list[PushItem]] = {}
        for item in items:
            if not _LISTING.match(item.external_id):
                results[item.listing_id] = PushResult(
                    item.listing_id, Retry.REJECTED, f"'{item.external_id}' is not a product id of this shop"
                )
                continue
            product, _, variation = item.external_id.partition("/")
            groups.setdefault(product if variation else "", []).append(item)
        for product, members in groups.items():
            path = f"products/{product}/variations/batch" if product else "products/batch"
            for start in range(0, len(members), BATCH):
                part = members[start : start + BATCH]
                update = [
                    {"id": _number(one), "manage_stock": True, "stock_quantity": one.quantity} for one in part
                ]
                try:
                    answer, _ = yield from self._ask(
                        access, "POST", path, json={"update": update}, idempotent=True
                    )
                    results.update(_read_batch(answer, part))
                except ChannelError as error:
                    if error.kind in (Retry.AUTH, Retry.THROTTLED) and not results:
                        raise
                    for one in part:
                        results[one.listing_id] = PushResult(
                            one.listing_id, error.kind, error.message, error.retry_after
                        )
        return [results[item.listing_id] for item in items]

    def read_quantities(self, access: Access, refs: Sequence[ListingRef]) -> Op[dict[int, int]]:
        shown: dict[str, int] = {}
        simple = sorted({ref.external_id for ref in refs if "/" not in ref.external_id})
        parents: dict[str, set[str]] = {}
        for ref in refs:
            product, _, variation = ref.external_id.partition("/")
            if variation:
                parents.setdefault(product, set()).add(variation)
        asked = [("products", "", simple)] + [
            (f"products/{product}/variations", f"{product}/", sorted(numbers))
            for product, numbers in parents.items()
        ]
        for path, prefix, numbers in asked:
            for start in range(0, len(numbers), BATCH):
                part = numbers[start : start + BATCH]
                try:
                    found, _ = yield from self._ask(
                        access, "GET", path, params={"include": ",".join(part), "per_page": BATCH}
                    )
                except ChannelError as error:
                    if error.code == "404":  # the product of these variations is gone
                        continue
                    raise
                for product in found:
                    if product.get("stock_quantity") is not None:
                        shown[f"{prefix}{product['id']}"] = int(product["stock_quantity"])
        return {ref.listing_id: shown[ref.external_id] for ref in refs if ref.external_id in shown}

    def list_listings(self, access: Access, cursor: str) -> Op[ListingPage]:
        page = int(cursor or 1)
        products, headers = yield from self._ask(
            access, "GET", "products",
            params={"per_page": BATCH, "page": page, "orderby": "id", "order": "asc", "status": "any"},
        )  # fmt: skip
        found: list[RemoteListing] = []
        for product in products:
            if product["type"] == "variable":
                found += yield from self._variations(access, product)
            elif product["type"] == "simple":
                found.append(_listing(product, str(product["id"]), product["name"]))
        more = page < int(headers.get("x-wp-totalpages") or 0)
        return ListingPage(tuple(found), str(page + 1) if more else "")

    def _variations(self, access: Access, product: Mapping[str, Any]) -> Op[list[RemoteListing]]:
        found: list[RemoteListing] = []
        page = 1
        while True:
            rows, headers = yield from self._ask(
                access, "GET", f"products/{product['id']}/variations",
                params={"per_page": BATCH, "page": page, "orderby": "id", "order": "asc"},
            )  # fmt: skip
            for row in rows:
                options = " / ".join(str(one.get("option", "")) for one in row.get("attributes") or ())
                title = f"{product['name']} – {options}" if options else product["name"]
                found.append(_listing(row, listing_id(product["id"], row["id"]), title))
            if page >= int(headers.get("x-wp-totalpages") or 0):
                return found
            page += 1

    # --- effects -------------------------------------------------------------------------------------
    def confirm_shipment(self, access: Access, parcel: Confirmation) -> Op[str]:
        """Note the parcel on the order, complete the order with its last unit, and tell the buyer once."""
        order = yield from self._order(access, parcel.order_external_id)
        if order is None:
            raise ChannelError(Retry.REJECTED, "the shop does not know the order")
        if order["status"] in ("cancelled", "trash"):
            raise ChannelError(Retry.REJECTED, "the order is cancelled in the shop")
        noted = mapper.parcels(order)
        if not any(one.reference == parcel.reference for one in noted):
            units = {item.line_external_id: item.quantity for item in parcel.items}
            noted.append(ParcelNote(parcel.reference, parcel.tracking_number, units))
            refunds = yield from self._refunds(access, order)
            meta = [{"key": mapper.PARCELS_KEY, "value": mapper.parcels_text(noted)}]
            if access.config.get("tracking") == "plugin":
                meta.append({"key": TRACKING_KEY, "value": _plugin_items(order, parcel)})  # type: ignore[dict-item]
            change: dict[str, Any] = {"meta_data": meta}
            if _complete(order, noted, refunds) and order["status"] not in ("completed", "refunded"):
                change["status"] = "completed"
            yield from self._ask(access, "PUT", f"orders/{order['id']}", json=change, idempotent=True)
        if parcel.notify_buyer:
            yield from self._tell_buyer(access, parcel)
        return parcel.reference

    def _tell_buyer(self, access: Access, parcel: Confirmation) -> Op[None]:
        """A note that WooCommerce mails to the buyer; not a second one for the same tracking number."""
        path = f"orders/{parcel.order_external_id}/notes"
        notes, _ = yield from self._ask(access, "GET", path, params={"type": "customer"})
        if any(parcel.tracking_number in str(note.get("note", "")) for note in notes):
            return
        words = (
            f"Shipped by {parcel.carrier_name or parcel.carrier}, tracking number {parcel.tracking_number}"
        )
        text = f"{words}: {parcel.tracking_url}" if parcel.tracking_url else f"{words}."
        yield from self._ask(access, "POST", path, json={"note": text, "customer_note": True})

    def read_shipment(self, access: Access, parcel: Confirmation) -> Op[str | None]:
        order = yield from self._order(access, parcel.order_external_id)
        if order is None:
            return None
        return next(
            (
                one.reference
                for one in mapper.parcels(order)
                if (one.reference, one.tracking) == (parcel.reference, parcel.tracking_number)
            ),
            None,
        )

    def refund(self, access: Access, refund: RefundOrder) -> Op[str]:
        known = yield from self._refund_with(access, refund.order_external_id, refund.reference)
        if known:
            return known
        made, _ = yield from self._ask(
            access, "POST", f"orders/{refund.order_external_id}/refunds",
            json={
                "amount": str(refund.amount),
                "reason": " ".join(filter(None, (refund.reference, refund.reason))),
                "api_refund": access.config.get("refunds") != "record",
                "api_restock": False,  # an inspector decides what is sold again
                "line_items": [
                    {
                        "id": int(item.line_external_id), "quantity": item.quantity,
                        "refund_total": str(item.amount),
                    }
                    for item in refund.items
                    if item.line_external_id.isdigit()
                ],
                "meta_data": [{"key": mapper.REFERENCE_KEY, "value": refund.reference}],
            },
        )  # fmt: skip
        return str(made.get("id") or "")

    def find_refund(self, access: Access, refund: RefundOrder) -> Op[str | None]:
        return (yield from self._refund_with(access, refund.order_external_id, refund.reference))

    def _refund_with(self, access: Access, order_id: str, reference: str) -> Op[str | None]:
        found, _ = yield from self._ask(
            access, "GET", f"orders/{order_id}/refunds", params={"per_page": BATCH}
        )
        for refund in found:
            noted = {
                str(meta.get("value"))
                for meta in refund.get("meta_data") or ()
                if meta.get("key") == mapper.REFERENCE_KEY
            }
            if reference in noted or reference in str(refund.get("reason") or "").split():
                return str(refund["id"])
        return None

    # --- notifications -------------------------------------------------------------------------------
    def _secret(self, access: Access) -> str:
        return str(
            access.credentials.get("webhook_secret") or access.credentials.get("consumer_secret") or ""
        )

    def parse_push(self, access: Access, headers: Mapping[str, str], raw: bytes) -> list[Notification]:
        return webhooks.parse([self._secret(access)], headers, raw)

    def kind_of(self, topic: str) -> str:
        return webhooks.kind_of(topic)

    def told_quantity(self, body: Mapping[str, Any]) -> tuple[str, str, int] | None:
        if body.get("id") is None or body.get("stock_quantity") is None:
            return None
        parent = body.get("parent_id") or 0
        name = listing_id(parent, body["id"]) if parent else str(body["id"])
        return name, "", int(body["stock_quantity"])

    def ensure_subscriptions(self, access: Access, address: str) -> Op[list[Subscription]]:
        """Missing ones are made; the shop disables a webhook after five failures in a row: those are woken."""
        known: dict[str, Mapping[str, Any]] = {}
        page = 1
        while True:
            rows, headers = yield from self._ask(
                access, "GET", "webhooks", params={"per_page": BATCH, "page": page, "status": "all"}
            )
            known.update({row["topic"]: row for row in rows if row["delivery_url"] == address})
            if page >= int(headers.get("x-wp-totalpages") or 0):
                break
            page += 1
        made = []
        for topic in webhooks.TOPICS:
            row = known.get(topic)
            if row is not None and row["status"] == "active":
                continue
            if row is None:
                row, _ = yield from self._ask(
                    access, "POST", "webhooks",
                    json={
                        "name": f"Lading {topic}", "topic": topic, "delivery_url": address,
                        "secret": self._secret(access), "status": "active",
                    },
                )  # fmt: skip
            else:
                row, _ = yield from self._ask(
                    access, "PUT", f"webhooks/{row['id']}", json={"status": "active"}, idempotent=True
                )
            made.append(Subscription(str(row["id"]), topic, address))
        return made


def _number(item: PushItem) -> int:
    return int(item.external_id.rpartition("/")[2])


def _read_batch(answer: Any, items: Sequence[PushItem]) -> dict[int, PushResult]:
    """Per-item results of a batch call: an object with `error` was refused, one that is missing was not looked at."""
    rows = {row.get("id"): row for row in (answer or {}).get("update") or () if isinstance(row, Mapping)}
    found = {}
    for item in items:
        row = rows.get(_number(item))
        if row is None:
            found[item.listing_id] = PushResult(
                item.listing_id, Retry.TRANSIENT, "the shop's answer leaves this product out"
            )
        elif row.get("error"):
            error = row["error"]
            text = f"{error.get('code', 'error')}: {error.get('message', '')}"
            found[item.listing_id] = PushResult(item.listing_id, Retry.REJECTED, text)
        else:
            found[item.listing_id] = PushResult(item.listing_id)
    return found


def _listing(row: Mapping[str, Any], external_id: str, title: str) -> RemoteListing:
    """`manage_stock` is "parent" for a variation whose stock its product keeps: then it shows none of its own."""
    own = row.get("manage_stock") is True
    return RemoteListing(
        external_id=external_id,
        external_sku=row.get("sku") or "",
        title=title,
        variant_id=str(row["id"]),
        quantity=int(row["stock_quantity"]) if own and row.get("stock_quantity") is not None else None,
        active=row.get("status") in ("publish", "private"),
    )


def _complete(
    order: Mapping[str, Any], noted: Sequence[ParcelNote], refunds: Sequence[Mapping[str, Any]]
) -> bool:
    """Has every unit that was not taken off left the house?"""
    gone = mapper.refunded_units(refunds)
    sent: dict[str, int] = {}
    for parcel in noted:
        for line, units in parcel.units.items():
            sent[line] = sent.get(line, 0) + units
    return all(
        sent.get(str(line["id"]), 0) + gone[str(line["id"])] >= int(line["quantity"])
        for line in order["line_items"]
    )


def _plugin_items(order: Mapping[str, Any], parcel: Confirmation) -> list[dict[str, Any]]:
    """The list of the Shipment Tracking extension with this parcel in it."""
    items: list[dict[str, Any]] = []
    for meta in order.get("meta_data") or ():
        if meta.get("key") == TRACKING_KEY and isinstance(meta.get("value"), list):
            items = [one for one in meta["value"] if one.get("tracking_number") != parcel.tracking_number]
    return [
        *items,
        {
            "tracking_provider": "",
            "custom_tracking_provider": parcel.carrier_name or parcel.carrier,
            "custom_tracking_link": parcel.tracking_url,
            "tracking_number": parcel.tracking_number,
            "date_shipped": str(int(parcel.shipped_at.timestamp())),
        },
    ]


register(WooCommerce())
