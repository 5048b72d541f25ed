"""TikTok Shop Partner API: every request this product sends.

Each request is signed over the bytes sent. Refusals come as HTTP 200 with a `code` other than 0. One order line item is
one unit: which units a parcel or a cancellation takes is decided on the order as it is read just before.
The quantity of a SKU is told for all its warehouses at once; those not in the batch are sent as they are read.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

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
    RemoteReturn,
    Retry,
    ShipItem,
    ShopFacts,
    Subscription,
    Tokens,
    readable,
    register,
)
from channels.connectors.tiktok import mapper, webhooks
from channels.connectors.tiktok.mapper import Group
from oms.core.clock import now
from oms.core.errors import UserError
from oms.core.http import HttpFailure, HttpRequest
from oms.core.limits import Rate
from oms.core.words import some
from oms.orders.drafts import OrderDraft

API_HOST = "open-api.tiktokglobalshop.com"
AUTH_HOST = "auth.tiktok-shops.com"
#: no figure is published; throttled answers slow us down from here
RATE = Rate(10, 20)
PAGE = 100  # orders and products of a page
DETAIL = 50  # orders of a detail call, returns and cancellations of a page
READ = 600  # SKUs of an inventory search
MAX_PAGES = 200
MAX_QUANTITY = 99_999
_LISTING = re.compile(r"\d+/\d+\Z")
_DIGITS = re.compile(r"\d+\Z")
_THROTTLED = re.compile(r"too many|rate.?limit|throttl|frequen|qps", re.I)
_BROKEN = re.compile(r"internal|system error|time.?out|try again|unavailable", re.I)
#: our carrier codes → names as the platform's provider list spells them
CARRIERS = {
    "UPS": "UPS", "USPS": "USPS", "FEDEX": "FedEx", "DHL": "DHL", "DHL_EXPRESS": "DHL Express", "MYDHL": "DHL Express",
    "ONTRAC": "OnTrac", "LASERSHIP": "LaserShip", "ROYAL_MAIL": "Royal Mail", "DPD": "DPD", "GLS": "GLS",
}  # fmt: skip
_DONE = ("CANCELLATION_REQUEST_SUCCESS", "CANCELLATION_REQUEST_COMPLETE")
_WITHDRAWN = ("CANCELLATION_REQUEST_CANCEL", "CANCELLATION_REQUEST_CANCELLED")


class TikTok(Connector):
    key = "tiktok"
    name = "TikTok Shop"
    capabilities = Capabilities(
        quantity_batch=100,
        quantity_connections=4,
        per_location=True,
        webhooks=True,
        order_batch=DETAIL,
        poll_seconds=300,
        overlap_seconds=1800,  # the update_time filter may exceed its range during a search
        cancel=True,
        refund=True,
        returns=True,
        fulfilled_by_channel=True,
        carriers=CARRIERS,
        other_carriers=True,
        repeatable=frozenset({"ship", "refund", "cancel"}),
        marked=frozenset({"refund"}),
    )
    config_fields = (
        FieldSpec(
            "shop_id", "Shop id", required=False, help="needed only when the app is authorised for several shops"
        ),
    )  # fmt: skip
    credential_fields = (
        FieldSpec("app_key", "App key"),
        FieldSpec("app_secret", "App secret", secret=True),
        FieldSpec(
            "auth_code", "Authorisation code", secret=True, required=False,
            help="the code at the end of the address after the seller has authorised the app; works once",
        ),
        FieldSpec(
            "refresh_token", "Refresh token", secret=True, required=False, help="instead of an authorisation code"
        ),
    )  # fmt: skip

    def check_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        shop = str(config.get("shop_id") or "").strip()
        if shop and not _DIGITS.match(shop):
            raise UserError(
                "shop_id: give the shop's number, digits only, or leave it empty.", field="shop_id"
            )
        return {**config, "shop_id": shop}

    # --- talking -------------------------------------------------------------------------------------
    def _ask(
        self,
        access: Access,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        idempotent: bool = True,
        of_shop: bool = True,
        timeout: float = 20.0,
    ) -> Op[Mapping[str, Any]]:
        """One signed request; the `data` of its answer. Raises `ChannelError` for a code other than 0."""
        known = access.credentials
        fields = {name: str(value) for name, value in (query or {}).items()}
        fields |= {"app_key": str(known.get("app_key", "")), "timestamp": str(int(now().timestamp()))}
        if of_shop:
            fields["shop_cipher"] = _cipher(access)
        raw = b"" if body is None else json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        fields["sign"] = webhooks.sign_request(str(known.get("app_secret", "")), path, fields, raw)
        answer = yield HttpRequest(
            account_key=access.key,
            method=method,
            url=f"https://{API_HOST}{path}",
            headers={
                "x-tts-access-token": str(access.tokens.get("access_token", "")),
                "Content-Type": "application/json",
            },
            params=fields,
            content=raw or None,
            timeout=timeout,
            idempotent=idempotent,
            allowed_hosts=(API_HOST,),
            rate=RATE,
        )
        return _data(answer.json(), safe=idempotent or method == "GET")

    def token_lifetime(self, access: Access) -> bool:
        return True

    def refresh_token(self, access: Access) -> Op[Tokens]:
        """A new access token, by the refresh token or, the first time, by the seller's code; and the shop it is for.

        The refresh token is replaced each time; expiry is told in seconds since 1970.
        """
        known = access.credentials
        code = str(known.get("auth_code") or "")
        query = {"app_key": str(known.get("app_key", "")), "app_secret": str(known.get("app_secret", ""))}
        if code:
            path = "/api/v2/token/get"
            query |= {"auth_code": code, "grant_type": "authorized_code"}
        elif known.get("refresh_token"):
            path = "/api/v2/token/refresh"
            query |= {"refresh_token": str(known["refresh_token"]), "grant_type": "refresh_token"}
        else:
            raise ChannelError(Retry.AUTH, "Give the authorisation code or a refresh token.")
        answer = yield HttpRequest(
            account_key=access.key + ":token",
            method="GET",
            url=f"https://{AUTH_HOST}{path}",
            params=query,
            timeout=10.0,
            allowed_hosts=(AUTH_HOST,),
        )
        told = _data(answer.json(), safe=True)
        token = str(told["access_token"])
        # the code is spent and the old refresh token replaced: whatever follows, these are kept
        kept = {
            "auth_code": "",
            "refresh_token": str(told.get("refresh_token") or known.get("refresh_token")),
        }
        try:
            kept |= yield from self._shop(
                Access(
                    access.account_id, access.connector, access.name, access.config, access.credentials,
                    {"access_token": token},
                )
            )  # fmt: skip
        except (ChannelError, HttpFailure) as error:  # the connection test says what is wrong
            if getattr(error, "kind", None) is Retry.REJECTED:
                kept |= {"shop_id": "", "shop_cipher": ""}
        # renewed an hour early, or at half of a shorter life
        expires = mapper.when(told.get("access_token_expire_in")) or now() + dt.timedelta(days=1)
        early = min(dt.timedelta(hours=1), max(dt.timedelta(0), (expires - now()) / 2))
        return Tokens({"access_token": token}, expires - early, kept)

    def _shop(self, access: Access) -> Op[dict[str, str]]:
        """Which shop the token is for: id, cipher, name. Raises REJECTED when it must be chosen first."""
        data = yield from self._ask(access, "GET", "/authorization/202309/shops", of_shop=False)
        shops = list(data.get("shops") or ())
        wanted = str(access.config.get("shop_id") or "")
        fitting = [shop for shop in shops if not wanted or str(shop.get("id")) == wanted]
        if len(fitting) != 1:
            known = ", ".join(f"{shop.get('id')} ({shop.get('name')})" for shop in shops) or "none"
            raise ChannelError(
                Retry.REJECTED, f"shop_id: name one of the shops that the app is authorised for: {known}."
            )
        shop = fitting[0]
        return {
            "shop_id": str(shop["id"]),
            "shop_cipher": str(shop.get("cipher") or ""),
            "shop_name": str(shop.get("name") or ""),
            "region": str(shop.get("region") or ""),
        }

    def probe(self, access: Access) -> Op[ShopFacts]:
        shop = yield from self._shop(access)
        if shop["shop_cipher"] != str(access.credentials.get("shop_cipher") or ""):
            # another shop was chosen: the next token brings its cipher
            raise ChannelError(Retry.AUTH, "The app is now authorised for another shop.")
        data = yield from self._ask(access, "GET", "/logistics/202309/warehouses")
        places = tuple(
            (str(one["id"]), str(one.get("name") or one["id"]))
            for one in data.get("warehouses") or ()
            if one.get("type") in (None, "", "SALES_WAREHOUSE")
        )
        return ShopFacts(shop["shop_name"], CURRENCIES.get(shop["region"], ""), places)

    # --- orders --------------------------------------------------------------------------------------
    def list_orders(self, access: Access, since: str, cursor: str) -> Op[OrderPage]:
        """Oldest change first. `resume` is the newest change as a text with its zone."""
        start = _moment(since) or now() - dt.timedelta(days=7)
        query = {"page_size": PAGE, "sort_field": "update_time", "sort_order": "ASC"}
        data = yield from self._ask(
            access, "POST", "/order/202309/orders/search",
            query={**query, "page_token": cursor} if cursor else query,
            body={"update_time_ge": int(start.timestamp())},
        )  # fmt: skip
        drafts, refused, newest = [], 0, start
        for order in data.get("orders") or ():
            try:
                draft = mapper.order_draft(order)
            except UNREADABLE:
                refused += 1
                continue
            drafts.append(draft)
            newest = max(newest, draft.channel_updated_at)
        token = str(data.get("next_page_token") or "")
        resume = newest.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return OrderPage(tuple(drafts), token, resume, refused)

    def get_orders(self, access: Access, external_ids: Sequence[str]) -> Op[list[OrderDraft]]:
        orders = yield from self._orders(access, external_ids)
        return [mapper.order_draft(order) for order in orders]

    def _orders(self, access: Access, numbers: Iterable[str]) -> Op[list[Mapping[str, Any]]]:
        wanted = [one for one in dict.fromkeys(numbers) if _DIGITS.match(one)]
        found: list[Mapping[str, Any]] = []
        for start in range(0, len(wanted), DETAIL):
            data = yield from self._ask(
                access, "GET", "/order/202309/orders", query={"ids": ",".join(wanted[start : start + DETAIL])}
            )
            found += data.get("orders") or ()
        return found

    def _order(self, access: Access, number: str) -> Op[Mapping[str, Any]]:
        found = yield from self._orders(access, [number])
        if not found:
            raise ChannelError(Retry.REJECTED, "TikTok Shop does not know the order")
        return found[0]

    # --- cancelling ----------------------------------------------------------------------------------
    def cancel(self, access: Access, order: CancelOrder) -> Op[str]:
        """The whole order, or units of it. A buyer's request for the same is agreed to instead of a second one."""
        shown = yield from self._order(access, order.order_external_id)
        if shown.get("status") in mapper.GONE:
            return order.external_id or str(shown["id"])
        known = yield from self._cancellations(access, order.order_external_id)
        asked = [
            one
            for one in known
            if one.get("cancel_type") == "BUYER_CANCEL"
            and one.get("cancel_status") == "CANCELLATION_REQUEST_PENDING"
        ]
        lines = mapper.groups(shown)
        units = _take(lines, order.items) if order.items else [str(u["id"]) for g in lines for u in g.open]
        for one in asked:
            named = {str(item.get("order_line_item_id")) for item in one.get("cancel_line_items") or ()}
            if not order.items or _counts(lines, named) == _wanted(order.items):
                yield from self._ask(
                    access, "POST", f"/return_refund/202309/cancellations/{one['cancel_id']}/approve",
                    query={"idempotency_key": order.reference},
                )  # fmt: skip
                return str(one["cancel_id"])
        if not units:
            raise ChannelError(Retry.REJECTED, "no unit of the order can be cancelled any more")
        reason = yield from self._reason(access, order.order_external_id, "CANCEL", order.reason)
        whole = not order.items and not any(mapper.is_away(unit) for group in lines for unit in group.units)
        made = yield from self._ask(
            access, "POST", "/return_refund/202309/cancellations",
            body={
                "order_id": order.order_external_id,
                "cancel_reason": reason,
                **({} if whole else {"order_line_item_ids": units}),
            },
            idempotent=False,
        )  # fmt: skip
        return str(made.get("cancel_id") or "")

    def cancelled(self, access: Access, order: CancelOrder) -> Op[bool]:
        shown = yield from self._order(access, order.order_external_id)
        if shown.get("status") in mapper.GONE:
            return True
        lines = mapper.groups(shown)
        if not order.items:
            return not any(group.open for group in lines)
        known = yield from self._cancellations(access, order.order_external_id)
        for one in known:
            if order.external_id and str(one.get("cancel_id")) == order.external_id:
                if one.get("cancel_status") in _WITHDRAWN:
                    raise ChannelError(Retry.REJECTED, "TikTok Shop withdrew the cancellation")
                return one.get("cancel_status") in _DONE
        # the answer was lost: a cancellation of the same units is taken for ours
        return not order.external_id and bool(_seller_cancel(known, lines, order))

    def _cancellations(self, access: Access, number: str) -> Op[list[Mapping[str, Any]]]:
        return (
            yield from self._pages(
                access, "/return_refund/202309/cancellations/search", {"order_ids": [number]}, "cancellations"
            )
        )

    def _pages(
        self, access: Access, path: str, body: Mapping[str, Any], name: str
    ) -> Op[list[Mapping[str, Any]]]:
        """All pages of a search of the return and refund API."""
        found: list[Mapping[str, Any]] = []
        token = ""
        for _ in range(MAX_PAGES):
            query: dict[str, Any] = {"page_size": DETAIL, "sort_field": "update_time", "sort_order": "ASC"}
            if token:
                query["page_token"] = token
            data = yield from self._ask(access, "POST", path, query=query, body=dict(body))
            found += data.get(name) or ()
            token = str(data.get("next_page_token") or "")
            if not token:
                break
        return found

    def _reason(self, access: Access, number: str, request: str, reason: str) -> Op[str]:
        """A reason out of those that the platform offers for this order now."""
        data = yield from self._ask(
            access, "GET", f"/return_refund/202512/orders/{number}/aftersale_eligibility",
            query={"initiate_aftersale_user": "SELLER", "request_types": request},
        )  # fmt: skip
        names: list[str] = []
        refused = ""
        for sku in data.get("sku_eligibility") or ():
            for part in sku.get("line_item_eligibility") or ():
                if part.get("eligible") and part.get("request_type") == request:
                    names += part.get("available_reason_names") or ()
                else:
                    refused = refused or str(part.get("ineligible_reason") or "")
        found = mapper.pick_reason(list(dict.fromkeys(names)), reason)
        if not found:
            raise ChannelError(
                Retry.REJECTED, f"TikTok Shop does not allow it now: {refused or 'no reason given'}"
            )
        return found

    # --- stock ---------------------------------------------------------------------------------------
    def push_quantities(self, access: Access, items: Sequence[PushItem]) -> Op[list[PushResult]]:
        """One call per product with all its SKUs of the batch. A call that fails is its own items' failure."""
        results: dict[int, PushResult] = {}
        products: dict[str, list[PushItem]] = {}
        for item in items:
            refused = ""
            if not _LISTING.match(item.external_id):
                refused = f"'{item.external_id}' does not name a product and a SKU of this shop"
            elif item.fulfilled_by_channel:
                refused = "TikTok ships this listing: its quantity is never written"
            elif not 0 <= item.quantity <= MAX_QUANTITY:
                refused = f"{some(item.quantity, 'unit')}: TikTok Shop takes at most {MAX_QUANTITY:,}"
            if refused:
                results[item.listing_id] = PushResult(item.listing_id, Retry.REJECTED, refused)
            else:
                products.setdefault(item.external_id.partition("/")[0], []).append(item)
        for product, members in products.items():
            try:
                others = yield from self._other_warehouses(access, members)
                data = yield from self._ask(
                    access, "POST", f"/product/202309/products/{product}/inventory/update",
                    body={"skus": _quantities(members, others)},
                )  # fmt: skip
                results.update(_read_errors(data, members))
            except ChannelError as error:
                if error.kind in (Retry.AUTH, Retry.THROTTLED) and not results:
                    raise
                for one in members:
                    results[one.listing_id] = PushResult(
                        one.listing_id, error.kind, error.message, error.retry_after
                    )
        return [results[item.listing_id] for item in items]

    def _other_warehouses(
        self, access: Access, items: Sequence[PushItem]
    ) -> Op[dict[str, list[tuple[str, int]]]]:
        """(warehouse, what it shows) by SKU, for warehouses of these SKUs that the batch leaves out.

        An update must name all of them; leaving one out is refused. Only SKUs kept in several places cost a read.
        """
        given: dict[str, set[str]] = {}
        for item in items:
            given.setdefault(_sku(item), set()).add(item.location_id)
        lacking = {
            _sku(item)
            for item in items
            if set(map(str, item.data.get("warehouses") or ())) - given[_sku(item)]
        }
        shown = yield from self._inventory(access, lacking)
        found: dict[str, list[tuple[str, int]]] = {}
        for (sku, warehouse), quantity in shown.items():
            if warehouse not in given.get(sku, set()):
                found.setdefault(sku, []).append((warehouse, quantity))
        return found

    def _inventory(self, access: Access, skus: Iterable[str]) -> Op[dict[tuple[str, str], int]]:
        """Available units by SKU and warehouse."""
        wanted = sorted(set(skus))
        shown: dict[tuple[str, str], int] = {}
        for start in range(0, len(wanted), READ):
            data = yield from self._ask(
                access,
                "POST",
                "/product/202309/inventory/search",
                body={"sku_ids": wanted[start : start + READ]},
            )
            for product in data.get("inventory") or ():
                for sku in product.get("skus") or ():
                    for place in sku.get("warehouse_inventory") or ():
                        shown[str(sku["id"]), str(place["warehouse_id"])] = int(place["available_quantity"])
        return shown

    def read_quantities(self, access: Access, refs: Sequence[ListingRef]) -> Op[dict[int, int]]:
        named = {
            ref.listing_id: ref.external_id.rpartition("/")[2]
            for ref in refs
            if _LISTING.match(ref.external_id)
        }
        shown = yield from self._inventory(access, named.values())
        found = {}
        for ref in refs:
            quantity = shown.get((named.get(ref.listing_id, ""), ref.location_id))
            if quantity is not None:
                found[ref.listing_id] = quantity
        return found

    def list_listings(self, access: Access, cursor: str) -> Op[ListingPage]:
        data = yield from self._ask(
            access, "POST", "/product/202502/products/search",
            query={"page_size": PAGE, "page_token": cursor} if cursor else {"page_size": PAGE}, body={},
        )  # fmt: skip
        found: list[RemoteListing] = []
        for product in data.get("products") or ():
            if product.get("status") in ("DRAFT", "DELETED"):
                continue
            for sku in product.get("skus") or ():
                places = sku.get("inventory") or ()
                active = (
                    product.get("status") in (None, "ACTIVATE")
                    and (sku.get("status_info") or {}).get("status", "NORMAL") == "NORMAL"
                )
                for place in places:
                    found.append(
                        RemoteListing(
                            external_id=f"{product['id']}/{sku['id']}",
                            external_sku=str(sku.get("seller_sku") or ""),
                            title=str(product.get("title") or ""),
                            location_id=str(place["warehouse_id"]),
                            variant_id=str(sku["id"]),
                            quantity=int(place["quantity"]) if place.get("quantity") is not None else None,
                            active=active,
                            data={"warehouses": [str(one["warehouse_id"]) for one in places]},
                        )
                    )
        return ListingPage(tuple(found), str(data.get("next_page_token") or ""))

    # --- effects -------------------------------------------------------------------------------------
    def confirm_shipment(self, access: Access, parcel: Confirmation) -> Op[str]:
        """Tell one parcel of ours. Units that carry its tracking number are not told again."""
        order = yield from self._order(access, parcel.order_external_id)
        lines = mapper.groups(order)
        told = _package(lines, parcel)
        if told is not None:
            return told
        if order.get("status") in mapper.GONE:
            raise ChannelError(Retry.REJECTED, "the order is cancelled on TikTok Shop")
        if order.get("status") in ("UNPAID", "ON_HOLD"):
            raise ChannelError(
                Retry.REJECTED, "the order is not ready to ship on TikTok Shop: the buyer may still leave"
            )
        if order.get("shipping_type") == "TIKTOK":
            raise ChannelError(
                Retry.REJECTED,
                "TikTok supplies the label of this order: a parcel of ours cannot be told for it",
            )
        units = _take(lines, parcel.items)
        provider = yield from self._provider(access, str(order.get("delivery_option_id") or ""), parcel)
        packages = _made_packages(lines, units)
        if packages:  # markets where the platform makes the packages beforehand
            yield from self._ask(
                access, "POST", f"/fulfillment/202309/packages/{packages}/ship",
                body={
                    "self_shipment": {
                        "shipping_provider_id": provider, "tracking_number": parcel.tracking_number,
                    }
                },
                idempotent=False,
            )  # fmt: skip
            return packages
        made = yield from self._ask(
            access, "POST", f"/fulfillment/202309/orders/{parcel.order_external_id}/packages",
            body={
                "order_line_item_ids": units,
                "shipping_provider_id": provider,
                "tracking_number": parcel.tracking_number,
            },
            idempotent=False,
        )  # fmt: skip
        return str(made.get("package_id") or "")

    def _provider(self, access: Access, option: str, parcel: Confirmation) -> Op[str]:
        """The platform's id of our carrier, by name, out of those of the order's delivery option."""
        data = yield from self._ask(
            access, "GET", f"/logistics/202309/delivery_options/{option}/shipping_providers"
        )
        known = {_plain(str(one["name"])): str(one["id"]) for one in data.get("shipping_providers") or ()}
        for name in (parcel.carrier, parcel.carrier_name):
            if _plain(name) in known:
                return known[_plain(name)]
        names = ", ".join(str(one["name"]) for one in data.get("shipping_providers") or ())
        raise ChannelError(
            Retry.REJECTED,
            f"carrier: TikTok Shop does not know '{parcel.carrier_name or parcel.carrier}'. Give the carrier account a "
            f"carrier_code out of: {names}.",
        )

    def read_shipment(self, access: Access, parcel: Confirmation) -> Op[str | None]:
        order = yield from self._order(access, parcel.order_external_id)
        return _package(mapper.groups(order), parcel)

    def mark(self, access: Access, request: RefundOrder | CancelOrder) -> Op[str]:
        """The returns and refunds that the order has already."""
        known = yield from self._returns_of(access, request.order_external_id)
        return json.dumps(sorted(str(one.get("return_id")) for one in known))

    def refund(self, access: Access, refund: RefundOrder) -> Op[str]:
        """A refund without goods coming back. The platform keeps `refund.key`: the same key is one refund."""
        order = yield from self._order(access, refund.order_external_id)
        lines = mapper.groups(order)
        known = yield from self._returns_of(access, refund.order_external_id)
        busy = {
            str(item.get("order_line_item_id"))
            for one in known
            if mapper.RETURN_STATES.get(str(one.get("return_status"))) != "declined"
            for item in one.get("return_line_items") or ()
        }
        by_id = {group.external_id: group for group in lines}
        units: list[str] = []
        for item in refund.items:
            group = by_id.get(item.line_external_id)
            if group is None:
                continue  # a fee line has no unit of its own
            free = [str(u["id"]) for u in group.units if not mapper.is_gone(u) and str(u["id"]) not in busy]
            if len(free) < item.quantity:
                raise ChannelError(
                    Retry.REJECTED,
                    f"line {item.line_external_id}: {len(free)} units can be refunded on TikTok Shop",
                )
            units += free[: max(1, item.quantity)]
        reason = yield from self._reason(access, refund.order_external_id, "REFUND", refund.reason)
        made = yield from self._ask(
            access, "POST", "/return_refund/202309/returns",
            query={"idempotency_key": refund.key},
            body={
                "order_id": refund.order_external_id,
                "return_type": "REFUND",
                "return_reason": reason,
                "refund_total": str(refund.amount),
                "currency": refund.currency,
                **({"order_line_item_ids": units} if units else {}),
            },
            idempotent=False,
        )  # fmt: skip
        return str(made.get("return_id") or "")

    def find_refund(self, access: Access, refund: RefundOrder) -> Op[str | None]:
        """By the id that the channel gave; one whose answer was lost is the refund of this sum that was not there
        before it was sent. Shown nothing, it may be sent again under its key."""
        if not refund.external_id:
            return (yield from self._fresh_refund(access, refund)) if refund.mark else None
        for one in (yield from self._returns_of(access, refund.order_external_id)):
            if str(one.get("return_id")) == refund.external_id:
                declined = mapper.RETURN_STATES.get(str(one.get("return_status"))) == "declined"
                return None if declined else refund.external_id
        return None

    def _fresh_refund(self, access: Access, refund: RefundOrder) -> Op[str | None]:
        before = set(json.loads(refund.mark))
        for one in (yield from self._returns_of(access, refund.order_external_id)):
            number = str(one.get("return_id"))
            told = (one.get("refund_amount") or {}).get("refund_total")
            declined = mapper.RETURN_STATES.get(str(one.get("return_status"))) == "declined"
            ours = one.get("return_type") == "REFUND" and one.get("role", "SELLER") == "SELLER"
            if number in before or declined or not ours or told in (None, ""):
                continue
            if Decimal(str(told)) == refund.amount:
                return number
        return None

    def _returns_of(self, access: Access, number: str) -> Op[list[Mapping[str, Any]]]:
        body = {"order_ids": [number]}
        return (yield from self._pages(access, "/return_refund/202309/returns/search", body, "return_orders"))

    def list_returns(self, access: Access, since: dt.datetime) -> Op[list[RemoteReturn]]:
        entries = yield from self._pages(
            access, "/return_refund/202309/returns/search", {"update_time_ge": int(since.timestamp())},
            "return_orders",
        )  # fmt: skip
        orders = yield from self._orders(
            access, [str(one.get("order_id")) for one in entries if isinstance(one, Mapping)]
        )
        names = mapper.lines_of(orders)
        return [
            found
            for one in entries
            for found in readable(one, lambda row: [mapper.remote_return(row, names)], "return_id")
        ]

    # --- notifications -------------------------------------------------------------------------------
    def parse_push(self, access: Access, headers: Mapping[str, str], raw: bytes) -> list[Notification]:
        known = access.credentials
        shop = str(known.get("shop_id") or access.config.get("shop_id") or "")
        return webhooks.parse(
            str(known.get("app_key") or ""), str(known.get("app_secret") or ""), shop, headers, raw
        )

    def kind_of(self, topic: str) -> str:
        return webhooks.kind_of(topic)

    def ensure_subscriptions(self, access: Access, address: str) -> Op[list[Subscription]]:
        """One address per event type; setting it again replaces the one before."""
        data = yield from self._ask(access, "GET", "/event/202309/webhooks")
        told = {str(one["event_type"]): str(one.get("address") or "") for one in data.get("webhooks") or ()}
        made = []
        for topic in webhooks.TOPICS:
            if told.get(topic) != address:
                yield from self._ask(
                    access, "PUT", "/event/202309/webhooks", body={"event_type": topic, "address": address}
                )
                made.append(Subscription(topic, topic, address))
        return made


CURRENCIES = {
    "US": "USD", "GB": "GBP", "DE": "EUR", "ES": "EUR", "FR": "EUR", "IE": "EUR", "IT": "EUR", "JP": "JPY", "MX": "MXN",
    "BR": "BRL", "ID": "IDR", "MY": "MYR", "PH": "PHP", "SG": "SGD", "TH": "THB", "VN": "VND",
}  # fmt: skip


def _cipher(access: Access) -> str:
    found = str(access.credentials.get("shop_cipher") or "")
    if not found:
        raise ChannelError(Retry.AUTH, "The shop is not known yet: test the connection.")
    return found


def _data(answer: Any, *, safe: bool) -> Mapping[str, Any]:
    """`data` of an answer. Refusals are HTTP 200 with a code: 105xxx speak of the token, 106xxx of the signature."""
    if not isinstance(answer, Mapping):
        raise ChannelError(Retry.TRANSIENT if safe else Retry.IN_DOUBT, "The answer is not an object.")
    code = int(answer.get("code") or 0)
    if code == 0:
        data = answer.get("data")
        return data if isinstance(data, Mapping) else {}
    words = str(answer.get("message") or "no text")
    kind = Retry.REJECTED
    if code // 1000 in (105, 106):
        kind = Retry.AUTH
    elif _THROTTLED.search(words):
        kind = Retry.THROTTLED
    elif _BROKEN.search(words):
        kind = Retry.TRANSIENT if safe else Retry.IN_DOUBT
    raise ChannelError(kind, f"TikTok Shop answered {code}: {words}", code=str(code))


def _moment(text: str) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _sku(item: PushItem) -> str:
    return item.external_id.rpartition("/")[2]


def _quantities(
    items: Sequence[PushItem], others: Mapping[str, Sequence[tuple[str, int]]]
) -> list[dict[str, Any]]:
    skus: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        place = {"warehouse_id": item.location_id} if item.location_id else {}
        skus.setdefault(_sku(item), []).append({**place, "quantity": item.quantity})
    for sku, places in others.items():
        skus[sku] += [{"warehouse_id": place, "quantity": quantity} for place, quantity in places]
    return [{"id": sku, "inventory": inventory} for sku, inventory in skus.items()]


def _read_errors(data: Mapping[str, Any], items: Sequence[PushItem]) -> dict[int, PushResult]:
    """Per-item results of an update: a SKU, or one warehouse of it, that is named in `errors` was refused."""
    found = {item.listing_id: PushResult(item.listing_id) for item in items}
    for error in data.get("errors") or ():
        detail = error.get("detail") or {}
        sku = str(detail.get("sku_id") or "")
        extra = [one for one in detail.get("extra_errors") or () if isinstance(one, Mapping)]
        for item in items:
            if sku and sku != _sku(item):
                continue
            mine = [
                one for one in extra if str(one.get("warehouse_id") or "") in ("", item.location_id)
            ] or extra
            words = "; ".join(f"{one.get('code')}: {one.get('message')}" for one in mine)
            text = f"{error.get('code')}: {error.get('message')}" + (f" ({words})" if words else "")
            kind = Retry.THROTTLED if _THROTTLED.search(text) else Retry.REJECTED
            if kind is Retry.REJECTED and _BROKEN.search(text):
                kind = Retry.TRANSIENT
            found[item.listing_id] = PushResult(item.listing_id, kind, text[:400])
    return found


def _wanted(items: Iterable[ShipItem]) -> Counter[str]:
    wanted: Counter[str] = Counter()
    for item in items:
        wanted[item.line_external_id] += item.quantity
    return wanted


def _counts(lines: Sequence[Group], units: Iterable[str]) -> Counter[str]:
    """How many of the units belong to each of our lines."""
    named = {str(unit["id"]): group.external_id for group in lines for unit in group.units}
    return Counter(named[unit] for unit in units if unit in named)


def _take(lines: Sequence[Group], items: Sequence[ShipItem]) -> list[str]:
    """Ids of open units for these lines. Raises REJECTED when the channel has fewer."""
    by_id = {group.external_id: group for group in lines}
    taken: list[str] = []
    for line, quantity in _wanted(items).items():
        if line.startswith("fee-"):
            continue
        group = by_id.get(line)
        free = [str(unit["id"]) for unit in group.open] if group else []
        if len(free) < quantity:
            raise ChannelError(
                Retry.REJECTED,
                f"line {line}: TikTok Shop has {len(free)} open units, {quantity} are asked for",
            )
        taken += free[:quantity]
    return taken


def _package(lines: Sequence[Group], parcel: Confirmation) -> str | None:
    """The package that holds the parcel's units under its tracking number; None when they do not all carry it."""
    with_number = [
        unit
        for group in lines
        for unit in group.units
        if unit.get("tracking_number") == parcel.tracking_number and not mapper.is_gone(unit)
    ]
    shown = _counts(lines, (str(unit["id"]) for unit in with_number))
    wanted = {line: n for line, n in _wanted(parcel.items).items() if not line.startswith("fee-")}
    if not wanted or any(shown[line] < quantity for line, quantity in wanted.items()):
        return None
    return str(with_number[0].get("package_id") or parcel.reference)


def _made_packages(lines: Sequence[Group], units: Sequence[str]) -> str:
    """The package the platform made for exactly these units; empty when it makes none before shipping."""
    of_unit = {str(unit["id"]): str(unit.get("package_id") or "") for group in lines for unit in group.units}
    packages = {of_unit[unit] for unit in units}
    if packages == {""} or not packages:
        return ""
    inside = {unit for unit, package in of_unit.items() if package in packages}
    if len(packages) != 1 or inside != set(units):
        raise ChannelError(
            Retry.REJECTED,
            "TikTok Shop has packed this order otherwise: split or combine its packages in Seller Center",
        )
    return packages.pop()


def _seller_cancel(known: Iterable[Mapping[str, Any]], lines: Sequence[Group], order: CancelOrder) -> str:
    """The cancellation by us of just these units, if the channel shows one."""
    for one in known:
        named = [str(item.get("order_line_item_id")) for item in one.get("cancel_line_items") or ()]
        if (
            one.get("cancel_type") != "BUYER_CANCEL"
            and one.get("cancel_status") not in _WITHDRAWN
            and _counts(lines, named) == _wanted(order.items)
        ):
            return str(one["cancel_id"])
    return ""


register(TikTok())
