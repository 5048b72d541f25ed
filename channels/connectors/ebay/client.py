"""eBay Sell APIs (Fulfillment, Inventory, Notification v1) and Post-Order API v2 for cancellations and returns.

Quantities reach listings that were made with (or moved to) the Inventory API. A listing shows the smaller of its
inventory item's total and its offer's quantity, so both are written. eBay has no compare-and-set and no idempotency
keys: a parcel is found by its tracking number, a cancellation on the order, and what refunds there were is read before
one is issued, so that a lost answer can be told from a lost request.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json as jsonlib
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

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
    ShopFacts,
    Subscription,
    Tokens,
    readable,
    register,
)
from channels.connectors.ebay import mapper, webhooks
from oms.core.clock import now
from oms.core.errors import UserError
from oms.core.http import HttpAnswer, HttpRequest
from oms.core.limits import Rate
from oms.orders.drafts import OrderDraft

HOSTS = {"production": "api.ebay.com", "sandbox": "api.sandbox.ebay.com"}
SCOPE = "https://api.ebay.com/oauth/api_scope"
#: what a seller consents to
USER_SCOPES = (
    f"{SCOPE}/sell.fulfillment", f"{SCOPE}/sell.inventory", f"{SCOPE}/sell.finances",
    f"{SCOPE}/commerce.notification.subscription",
)  # fmt: skip
FULFILLMENT, INVENTORY = "/sell/fulfillment/v1", "/sell/inventory/v1"
NOTIFICATION, POST_ORDER = "/commerce/notification/v1", "/post-order/v2"
ANALYTICS = "/developer/analytics/v1_beta"
ORDERS, ORDER_IDS, SKUS, LISTING_PAGE, RETURNS = 200, 50, 25, 25, 200  # most per call
#: eBay publishes quotas per day and application only; what is left of them is asked when a call is throttled
RATES = {
    "fulfillment": Rate(5, 20), "inventory": Rate(8, 20), "offers": Rate(8, 30), "notification": Rate(2, 10),
    "post-order": Rate(2, 10), "analytics": Rate(0.2, 5),
}  # fmt: skip
#: a stranger can make us ask for keys: not more often than this
KEY_RATE = Rate(0.2, 5)
#: shippingCarrierCode; anything else is "Other"
CARRIERS = {
    "UPS": "UPS", "USPS": "USPS", "FEDEX": "FedEx", "DHL": "DHL", "DHL_EXPRESS": "DHL", "MYDHL": "DHL",
    "ONTRAC": "OnTrac", "LASERSHIP": "LaserShip", "ROYAL_MAIL": "RoyalMail", "DPD": "DPD", "GLS": "GLS",
    "HERMES": "Hermes", "CANADA_POST": "CanadaPost", "AUSTRALIA_POST": "AustraliaPost", "TNT": "TNT",
}  # fmt: skip
OTHER_CARRIER = "Other"
#: refusals of a refund that pass by themselves: one is being paid, the buyer's money is not there yet
_NOT_YET = ("34922", "34929")
_LONG = 900.0

_app_tokens: dict[str, tuple[float, str]] = {}
_lock = threading.Lock()


def _returns(order: Mapping[str, Any], entry: Any) -> list[RemoteReturn]:
    return [mapper.remote_return(entry, order)]


class Ebay(Connector):
    key = "ebay"
    name = "eBay"
    capabilities = Capabilities(
        quantity_batch=SKUS,
        quantity_connections=2,
        revisions_per_day=250,  # per listing and calendar day, then eBay blocks it until the next
        webhooks=True,
        order_batch=ORDER_IDS,
        poll_seconds=120,
        overlap_seconds=900,
        cancel=True,
        refund=True,
        returns=True,
        repeatable=frozenset({"ship", "cancel"}),
        carriers=CARRIERS,
        other_carriers=True,
    )
    config_fields = (
        FieldSpec("marketplace_id", "Marketplace", default="EBAY_US", help="EBAY_US, EBAY_GB, EBAY_DE, …"),
        FieldSpec("username", "Seller's eBay name", help="whose account this is"),
        FieldSpec("alert_email", "Alert address", help="eBay writes there when notifications cannot be delivered"),
        FieldSpec("environment", "Environment", required=False, default="production", help="production or sandbox"),
        FieldSpec(
            "ru_name", "RuName", required=False, help="redirect name of your keyset, to trade a consent code in"
        ),
        FieldSpec(
            "batch", "Quantities per call", required=False, default="25",
            help="1 to 25 SKUs; 1 if eBay refuses more",
        ),
    )  # fmt: skip
    credential_fields = (
        FieldSpec("client_id", "App ID (client id)", secret=True),
        FieldSpec("client_secret", "Cert ID (client secret)", secret=True),
        FieldSpec(
            "authorization_code", "Consent code", secret=True, required=False,
            help="the address (or its code) to which eBay sent you after you agreed; it is traded in once",
        ),
        FieldSpec("refresh_token", "Refresh token", secret=True, required=False, help="if you have one already"),
        FieldSpec(
            "verification_token", "Verification token", secret=True, required=False,
            help="32 to 80 letters, digits, _ or -; empty: made from the client secret",
        ),
        FieldSpec(
            "signing_key", "Signing key (private)", secret=True, required=False,
            help="Ed25519 key of the Key Management API; EU and UK sellers need it for refunds",
        ),
        FieldSpec("signing_jwe", "Signing key (JWE)", secret=True, required=False, help="its public part"),
    )  # fmt: skip

    def check_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        clean = {name: str(value).strip() for name, value in config.items()}
        clean["marketplace_id"] = clean.get("marketplace_id", "").upper()
        clean["environment"] = (clean.get("environment") or "production").lower()
        if clean["marketplace_id"] not in mapper.MARKETPLACES:
            raise UserError(
                f"marketplace_id: '{clean['marketplace_id']}' is unknown; ebay.com is EBAY_US.",
                field="marketplace_id",
            )
        if clean["environment"] not in HOSTS:
            raise UserError("environment: choose production or sandbox.", field="environment")
        if not clean.get("username"):
            raise UserError("username: give the seller's eBay name.", field="username")
        if "@" not in clean.get("alert_email", ""):
            raise UserError("alert_email: give an e-mail address; eBay asks for one.", field="alert_email")
        batch = clean.get("batch") or str(SKUS)
        if not batch.isdigit() or not 1 <= int(batch) <= SKUS:
            raise UserError(f"batch: use a number from 1 to {SKUS}.", field="batch")
        return {**clean, "batch": int(batch)}

    # --- talking -------------------------------------------------------------------------------------
    @staticmethod
    def _host(access: Access) -> str:
        return HOSTS[str(access.config.get("environment") or "production")]

    def _send(
        self,
        access: Access,
        method: str,
        path: str,
        bucket: str,
        *,
        token: str = "",
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        idempotent: bool = False,
        sign: bool = False,
        timeout: float = 20.0,
    ) -> Op[HttpAnswer]:
        """One request. A throttled one asks what is left of the quota and says how long to wait."""
        host = self._host(access)
        bearer = token or str(access.tokens.get("access_token", ""))
        headers = {
            "Authorization": f"{'IAF' if path.startswith(POST_ORDER) else 'Bearer'} {bearer}",
            "X-EBAY-C-MARKETPLACE-ID": str(access.config["marketplace_id"]),
        }
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = jsonlib.dumps(body, separators=(",", ":")).encode()
            if sign and access.credentials.get("signing_key"):
                headers |= signed_headers(
                    method, host, path, content, str(access.credentials["signing_key"]),
                    str(access.credentials.get("signing_jwe", "")), int(now().timestamp()),
                )  # fmt: skip
        try:
            answer = yield HttpRequest(
                account_key=access.key,
                method=method,
                url=f"https://{host}{path}",
                headers=headers,
                params=params,
                content=content,
                timeout=timeout,
                idempotent=idempotent,
                allowed_hosts=(host,),
                bucket=bucket,
                rate=RATES[bucket],
            )
        except ChannelError as error:
            if error.kind is Retry.THROTTLED and error.code == "429" and error.retry_after is None:
                error.retry_after = yield from self._quota_wait(access, bucket)
            raise
        return answer

    def _quota_wait(self, access: Access, bucket: str) -> Op[float | None]:
        """Seconds until eBay's quota of an API begins anew; None when there is some left (then it was too fast)."""
        if bucket not in ("fulfillment", "inventory", "offers"):
            return None
        host = self._host(access)
        name = "fulfillment" if bucket == "fulfillment" else "inventory"
        try:
            answer = yield HttpRequest(
                account_key=access.key,
                method="GET",
                url=f"https://{host}{ANALYTICS}/user_rate_limit/",
                headers={"Authorization": f"Bearer {access.tokens.get('access_token', '')}"},
                params={"api_context": "sell", "api_name": name},
                allowed_hosts=(host,),
                bucket="analytics",
                rate=RATES["analytics"],
                max_wait=0.0,
            )
            rates = answer.json().get("rateLimits") or () if answer.content else ()
        except ChannelError:
            return None
        resets = [
            mapper.when(rate.get("reset"))
            for api in rates
            for resource in api.get("resources") or ()
            for rate in resource.get("rates") or ()
            if int(rate.get("remaining") or 0) <= 0
        ]
        waits = [(moment - now()).total_seconds() for moment in resets if moment is not None]
        return min(max(max(waits), 1.0), _LONG) if waits else None

    def _get(self, access: Access, path: str, bucket: str, *, token: str = "", **params: Any) -> Op[Any]:
        answer = yield from self._send(access, "GET", path, bucket, token=token, params=params or None)
        return answer.json() if answer.content else {}

    # --- tokens --------------------------------------------------------------------------------------
    def token_lifetime(self, access: Access) -> bool:
        return True

    def _token(self, access: Access, form: Mapping[str, str]) -> Op[dict[str, Any]]:
        host = self._host(access)
        pair = f"{access.credentials.get('client_id', '')}:{access.credentials.get('client_secret', '')}"
        answer = yield HttpRequest(
            account_key=access.key + ":token",
            method="POST",
            url=f"https://{host}/identity/v1/oauth2/token",
            headers={"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"},
            data=dict(form),
            timeout=10.0,
            idempotent=form["grant_type"] != "authorization_code",
            allowed_hosts=(host,),
        )
        told: dict[str, Any] = answer.json()
        return told

    def refresh_token(self, access: Access) -> Op[Tokens]:
        """A new user token: from the refresh token, or from a consent code, which is good once."""
        code = consent_code(str(access.credentials.get("authorization_code") or ""))
        refresh = str(access.credentials.get("refresh_token") or "")
        if code:
            told = yield from self._token(
                access,
                {
                    "grant_type": "authorization_code",
                    "code": code,
                    "redirect_uri": str(access.config.get("ru_name") or ""),
                },
            )
            changed = {"authorization_code": "", "refresh_token": str(told["refresh_token"])}
        elif refresh:
            told = yield from self._token(
                access,
                {"grant_type": "refresh_token", "refresh_token": refresh, "scope": " ".join(USER_SCOPES)},
            )
            changed = {}
        else:
            raise ChannelError(
                Retry.AUTH, "give the consent code of the seller's agreement, or a refresh token"
            )
        # renewed five minutes early, so that no request starts with a token that dies on the way
        life = max(30, int(told.get("expires_in", 7200)) - 300)
        return Tokens({"access_token": told["access_token"]}, now() + dt.timedelta(seconds=life), changed)

    def _app_token(self, access: Access) -> Op[str]:
        """The application's own token, kept until it ends: eBay gives out 1,000 a day."""
        name = f"{self._host(access)}:{access.credentials.get('client_id', '')}"
        with _lock:
            until, token = _app_tokens.get(name, (0.0, ""))
        if until > time.monotonic():
            return token
        told = yield from self._token(access, {"grant_type": "client_credentials", "scope": SCOPE})
        token = str(told["access_token"])
        with _lock:
            _app_tokens[name] = (time.monotonic() + max(30, int(told.get("expires_in", 7200)) - 300), token)
        return token

    def _as_application(
        self, access: Access, method: str, path: str, *, body: Any = None, **params: Any
    ) -> Op[HttpAnswer]:
        """A request of the application; a token that was taken back is fetched anew once."""
        token = yield from self._app_token(access)
        safe = method in ("GET", "PUT")
        try:
            return (
                yield from self._send(
                    access, method, path, "notification", token=token, params=params or None, body=body,
                    idempotent=safe,
                )
            )  # fmt: skip
        except ChannelError as error:
            if error.kind is not Retry.AUTH or error.code != "401":
                raise
        forget_app_tokens()
        token = yield from self._app_token(access)
        return (
            yield from self._send(
                access, method, path, "notification", token=token, params=params or None, body=body, idempotent=safe
            )
        )  # fmt: skip

    def probe(self, access: Access) -> Op[ShopFacts]:
        """Reads places and one order: both consents that everything else needs."""
        places = yield from self._get(access, f"{INVENTORY}/location", "inventory", limit=100)
        yield from self._get(access, f"{FULFILLMENT}/order", "fulfillment", limit=1)
        market = str(access.config["marketplace_id"])
        return ShopFacts(
            f"{market} {access.config.get('username', '')}".strip(),
            mapper.MARKETPLACES[market],
            tuple(
                (str(place["merchantLocationKey"]), str(place.get("name") or place["merchantLocationKey"]))
                for place in places.get("locations") or ()
            ),
        )

    # --- orders --------------------------------------------------------------------------------------
    def list_orders(self, access: Access, since: str, cursor: str) -> Op[OrderPage]:
        """A closed window of time, so that turning pages skips nothing while orders change.

        An order that changes meanwhile leaves the window; the next pull begins before this one's end.
        """
        offset, until = 0, mapper.text_of(now())
        if cursor:
            first, _, until = cursor.partition("|")
            offset = int(first)
        start = mapper.when(since) or now() - dt.timedelta(days=7)
        body = yield from self._get(
            access, f"{FULFILLMENT}/order", "fulfillment",
            filter=f"lastmodifieddate:[{mapper.text_of(start)}..{until}]", limit=ORDERS, offset=offset,
        )  # fmt: skip
        drafts, refused = [], 0
        for order in body.get("orders") or ():
            try:
                parcels = yield from self._parcels_of(access, order)
                drafts.append(mapper.order_draft(order, parcels))
            except ChannelError as error:
                if error.kind is not Retry.REJECTED:
                    raise
                refused += 1
            except UNREADABLE:
                refused += 1
        more = bool(body.get("next"))
        return OrderPage(
            tuple(drafts), f"{offset + ORDERS}|{until}" if more else "", "" if more else until, refused
        )

    def get_orders(self, access: Access, external_ids: Sequence[str]) -> Op[list[OrderDraft]]:
        orders: list[dict[str, Any]] = []
        for start in range(0, len(external_ids), ORDER_IDS):
            part = list(external_ids[start : start + ORDER_IDS])
            try:
                body = yield from self._get(
                    access, f"{FULFILLMENT}/order", "fulfillment", orderIds=",".join(part)
                )
                orders += body.get("orders") or ()
            except ChannelError as error:
                if error.kind is not Retry.REJECTED:
                    raise
                for number in part:  # one of them is unknown: the others are not to wait for it
                    order = yield from self._order(access, number)
                    if order is not None:
                        orders.append(order)
        drafts = []
        for order in orders:
            parcels = yield from self._parcels_of(access, order)
            drafts.append(mapper.order_draft(order, parcels))
        return drafts

    def _order(self, access: Access, number: str) -> Op[dict[str, Any] | None]:
        try:
            order: dict[str, Any] = yield from self._get(
                access, f"{FULFILLMENT}/order/{quote(number, safe='')}", "fulfillment"
            )
        except ChannelError as error:
            if error.code == "404":
                return None
            raise
        return order

    def _known_order(self, access: Access, number: str) -> Op[dict[str, Any]]:
        order = yield from self._order(access, number)
        if order is None:
            raise ChannelError(Retry.REJECTED, "eBay does not know the order")
        return order

    def _parcels(self, access: Access, number: str) -> Op[list[dict[str, Any]]]:
        body = yield from self._get(
            access, f"{FULFILLMENT}/order/{quote(number, safe='')}/shipping_fulfillment", "fulfillment"
        )
        return list(body.get("fulfillments") or ())

    def _parcels_of(self, access: Access, order: Mapping[str, Any]) -> Op[list[dict[str, Any]]]:
        """A partly shipped order does not say how many units have left."""
        if order.get("orderFulfillmentStatus") != "IN_PROGRESS":
            return []
        return (yield from self._parcels(access, str(order["orderId"])))

    # --- cancellations -------------------------------------------------------------------------------
    def cancel(self, access: Access, order: CancelOrder) -> Op[str]:
        """Agree to the buyer's request where there is one, else cancel ourselves. eBay cancels whole orders only."""
        shown = yield from self._known_order(access, order.order_external_id)
        if mapper.is_cancelled(shown):
            return order.external_id
        if order.items and not _whole(shown, order):
            raise ChannelError(
                Retry.REJECTED, "eBay cancels whole orders only: refund the lines that cannot be delivered"
            )
        for asked in mapper.open_requests(shown):
            number = str(asked.get("cancelRequestId") or "")
            if str(asked.get("cancelInitiator", "")).upper() == "SELLER":
                return number  # ours of an earlier try, still being worked on
            yield from self._send(
                access, "POST", f"{POST_ORDER}/cancellation/{quote(number, safe='')}/approve", "post-order"
            )
            return number
        answer = yield from self._send(
            access, "POST", f"{POST_ORDER}/cancellation", "post-order",
            body={
                "legacyOrderId": str(shown.get("legacyOrderId") or shown["orderId"]),
                "cancelReason": mapper.cancel_reason(order.reason),
                "buyerPaid": shown.get("orderPaymentStatus") in mapper.PAID,
            },
        )  # fmt: skip
        return str(answer.json().get("cancelId") or "")

    def cancelled(self, access: Access, order: CancelOrder) -> Op[bool]:
        shown = yield from self._known_order(access, order.order_external_id)
        if mapper.is_cancelled(shown):
            return True
        if order.external_id and mapper.refused_request(shown, order.external_id):
            raise ChannelError(Retry.REJECTED, f"the cancellation {order.external_id} was turned down")
        return False

    # --- stock ---------------------------------------------------------------------------------------
    def push_quantities(self, access: Access, items: Sequence[PushItem]) -> Op[list[PushResult]]:
        """Up to 25 SKUs in one call; a call that fails is its own items' failure."""
        by_sku: dict[str, list[PushItem]] = {}
        for item in items:
            by_sku.setdefault(item.external_sku, []).append(item)
        results: dict[int, PushResult] = {
            item.listing_id: PushResult(item.listing_id, Retry.REJECTED, "the offer has no SKU on eBay")
            for item in by_sku.pop("", ())
        }
        size = int(access.config.get("batch") or SKUS)
        groups = list(by_sku.items())
        for start in range(0, len(groups), size):
            part = groups[start : start + size]
            asked = [one for _, members in part for one in members]
            try:
                answer = yield from self._send(
                    access, "POST", f"{INVENTORY}/bulk_update_price_quantity", "inventory",
                    body={"requests": [_quantity_request(sku, members) for sku, members in part]},
                    idempotent=True,
                )  # fmt: skip
                results.update(_read_results(answer.json(), asked))
            except ChannelError as error:
                if error.kind is Retry.AUTH:
                    raise  # all is repeated with a new token; quantities are absolute
                for one in asked:
                    results[one.listing_id] = PushResult(
                        one.listing_id, error.kind, error.message, error.retry_after
                    )
        return [results[item.listing_id] for item in items]

    def read_quantities(self, access: Access, refs: Sequence[ListingRef]) -> Op[dict[int, int]]:
        """What buyers see: the smaller of the inventory item's total and the offer's quantity."""
        totals: dict[str, int] = {}
        skus = sorted({ref.external_sku for ref in refs if ref.external_sku})
        for start in range(0, len(skus), SKUS):
            answer = yield from self._send(
                access, "POST", f"{INVENTORY}/bulk_get_inventory_item", "inventory",
                body={"requests": [{"sku": sku} for sku in skus[start : start + SKUS]]}, idempotent=True,
            )  # fmt: skip
            for row in answer.json().get("responses") or ():
                total = _total(row.get("inventoryItem") or {})
                if total is not None:
                    totals[str(row["sku"])] = total
        found: dict[int, int] = {}
        for ref in refs:
            if ref.external_sku not in totals:
                continue
            try:
                offer = yield from self._get(
                    access, f"{INVENTORY}/offer/{quote(ref.external_id, safe='')}", "offers"
                )
            except ChannelError as error:
                if error.code == "404":
                    continue
                raise
            found[ref.listing_id] = _shown(totals[ref.external_sku], offer)
        return found

    def list_listings(self, access: Access, cursor: str) -> Op[ListingPage]:
        """Offers on the account's marketplace. eBay tells offers by SKU only: one call for each item of a page."""
        page = int(cursor or 0)
        body = yield from self._get(
            access, f"{INVENTORY}/inventory_item", "inventory", limit=LISTING_PAGE, offset=page
        )
        found = []
        for item in body.get("inventoryItems") or ():
            try:
                answer = yield from self._get(
                    access, f"{INVENTORY}/offer", "offers",
                    sku=item["sku"], marketplace_id=access.config["marketplace_id"], format="FIXED_PRICE",
                )  # fmt: skip
            except ChannelError as error:
                if error.code == "404":  # never offered
                    continue
                raise
            found += [_listing(item, offer) for offer in answer.get("offers") or ()]
        return ListingPage(tuple(found), str(page + 1) if body.get("next") else "")

    # --- effects -------------------------------------------------------------------------------------
    def confirm_shipment(self, access: Access, parcel: Confirmation) -> Op[str]:
        """One fulfilment per parcel. eBay names it after its tracking number: one that is there is not sent again."""
        known = yield from self.read_shipment(access, parcel)
        if known:
            return known
        path = f"{FULFILLMENT}/order/{quote(parcel.order_external_id, safe='')}/shipping_fulfillment"
        carrier = parcel.carrier if parcel.carrier in CARRIERS.values() else OTHER_CARRIER
        try:
            answer = yield from self._send(
                access, "POST", path, "fulfillment",
                body={
                    "lineItems": [
                        {"lineItemId": item.line_external_id, "quantity": item.quantity} for item in parcel.items
                    ],
                    "shippedDate": mapper.text_of(parcel.shipped_at),
                    "shippingCarrierCode": carrier,
                    "trackingNumber": mapper.tracking_text(parcel.tracking_number),
                },
            )  # fmt: skip
        except ChannelError as error:
            if error.code != "409":
                raise
            known = yield from self.read_shipment(access, parcel)
            if known is None:
                raise
            return known
        return answer.headers.get("location", "").rpartition("/")[2]

    def read_shipment(self, access: Access, parcel: Confirmation) -> Op[str | None]:
        wanted = mapper.tracking_text(parcel.tracking_number)
        shown = yield from self._parcels(access, parcel.order_external_id)
        for one in shown:
            if mapper.tracking_text(str(one.get("shipmentTrackingNumber") or "")) == wanted:
                return str(one.get("fulfillmentId") or wanted)
        return None

    def refund(self, access: Access, refund: RefundOrder) -> Op[str]:
        """Issue a refund once. When its answer is lost, a refund of this sum that was not there before is it."""
        order = yield from self._known_order(access, refund.order_external_id)
        before = set(mapper.refunds_of(order))
        try:
            answer = yield from self._send(
                access, "POST", f"{FULFILLMENT}/order/{quote(refund.order_external_id, safe='')}/issue_refund",
                "fulfillment",
                body=mapper.refund_body(refund, len(order["lineItems"])), sign=True,
            )  # fmt: skip
        except ChannelError as error:
            if error.kind is Retry.AUTH and error.code == "403":
                raise ChannelError(Retry.REJECTED, error.message, code="403") from error
            if error.kind is Retry.REJECTED and any(code in error.message for code in _NOT_YET):
                raise ChannelError(
                    Retry.TRANSIENT, error.message, code=error.code, retry_after=_LONG
                ) from error
            if error.kind is not Retry.IN_DOUBT:
                raise
            found = yield from self._new_refund(access, refund, before)
            if found is None:
                raise
            return found
        told = answer.json()
        if told.get("refundStatus") == "FAILED":
            raise ChannelError(Retry.REJECTED, "eBay could not pay the refund")
        return str(told.get("refundId") or "")

    def _new_refund(self, access: Access, refund: RefundOrder, before: set[str]) -> Op[str | None]:
        try:
            order = yield from self._order(access, refund.order_external_id)
        except ChannelError:
            return None
        fresh = [
            number
            for number, (money, _) in mapper.refunds_of(order or {}).items()
            if number not in before and money == refund.amount
        ]
        return fresh[0] if len(fresh) == 1 else None

    def find_refund(self, access: Access, refund: RefundOrder) -> Op[str | None]:
        """By eBay's id only: nothing of ours is on a refund there, and two of the same sum are possible."""
        order = yield from self._known_order(access, refund.order_external_id)
        if not refund.external_id:
            return None
        status = mapper.refunds_of(order).get(refund.external_id, (None, ""))[1]
        if status == "FAILED":
            raise ChannelError(Retry.REJECTED, "eBay could not pay the refund")
        if status == "PENDING":
            raise ChannelError(Retry.TRANSIENT, "eBay is still paying the refund", retry_after=_LONG)
        return refund.external_id if status else None

    def list_returns(self, access: Access, since: dt.datetime) -> Op[list[RemoteReturn]]:
        entries: list[dict[str, Any]] = []
        while True:
            body = yield from self._get(
                access, f"{POST_ORDER}/return/search", "post-order",
                creation_date_range_from=mapper.text_of(since), creation_date_range_to=mapper.text_of(now()),
                limit=RETURNS, offset=len(entries),
            )  # fmt: skip
            members = body.get("members") or ()
            entries += members
            if not members or len(entries) >= int(body.get("total") or 0):
                break
        orders: dict[str, dict[str, Any] | None] = {}
        found: list[RemoteReturn] = []
        for entry in entries:
            number = str(entry.get("orderId") or "") if isinstance(entry, dict) else ""
            if number and number not in orders:
                orders[number] = yield from self._order(access, number)
            order = orders.get(number)
            if order is not None:
                found += readable(entry, partial(_returns, order), "returnId")
        return found

    # --- notifications -------------------------------------------------------------------------------
    def verification_token(self, access: Access) -> str:
        """What eBay and we know of an address: as given, else made from the client secret."""
        given = str(access.credentials.get("verification_token") or "")
        secret = str(access.credentials.get("client_secret", ""))
        return given or hmac.new(secret.encode(), b"notification address", hashlib.sha256).hexdigest()

    def answer_challenge(
        self, access: Access, query: Mapping[str, str], address: str
    ) -> Mapping[str, Any] | None:
        code = query.get("challenge_code", "")
        if not code:
            return None
        return {
            "challengeResponse": webhooks.challenge_answer(code, self.verification_token(access), address)
        }

    def fetch_push_key(self, access: Access, headers: Mapping[str, str]) -> Op[None] | None:
        kid = webhooks.signature_of(headers)["kid"]
        known, _ = webhooks.known_key(self._host(access), kid)
        return None if known else self._fetch_key(access, kid)

    def _fetch_key(self, access: Access, kid: str) -> Op[None]:
        host = self._host(access)
        token = yield from self._app_token(access)
        try:
            answer = yield HttpRequest(
                account_key=access.key + ":key",
                method="GET",
                url=f"https://{host}{NOTIFICATION}/public_key/{kid}",
                headers={"Authorization": f"Bearer {token}"},
                timeout=5.0,
                allowed_hosts=(host,),
                rate=KEY_RATE,
                max_wait=0.5,
            )
        except ChannelError as error:
            if error.kind is Retry.AUTH:
                forget_app_tokens()
            if error.kind is not Retry.REJECTED:
                raise
            webhooks.remember_key(host, kid, None)
            return
        told = answer.json()
        webhooks.remember_key(host, kid, webhooks.PublicKey(str(told["key"]), str(told["digest"])))

    def parse_push(self, access: Access, headers: Mapping[str, str], raw: bytes) -> list[Notification]:
        kid = webhooks.signature_of(headers)["kid"]
        _, key = webhooks.known_key(self._host(access), kid)
        return webhooks.parse(key, str(access.config.get("username") or ""), headers, raw)

    def kind_of(self, topic: str) -> str:
        return webhooks.kind_of(topic)

    def ensure_subscriptions(self, access: Access, address: str) -> Op[list[Subscription]]:
        """Alert address, destination and one subscription per topic; what eBay switched off is switched on again.

        A topic of the application goes to one address only: where another account of ours has it, it stays there.
        """
        yield from self._ensure_alert_address(access)
        destination = yield from self._ensure_destination(access, address)
        made = []
        for scope in (webhooks.USER, webhooks.APPLICATION):
            known = yield from self._subscriptions(access, scope)
            for topic, owner in webhooks.TOPICS.items():
                if owner == scope:
                    number = yield from self._subscribe(access, scope, topic, known.get(topic), destination)
                    if number:
                        made.append(Subscription(number, topic, address))
        return made

    def _ensure_alert_address(self, access: Access) -> Op[None]:
        path, wanted = f"{NOTIFICATION}/config", str(access.config.get("alert_email") or "")
        try:
            answer = yield from self._as_application(access, "GET", path)
            if answer.content and answer.json().get("alertEmail") == wanted:
                return
        except ChannelError as error:
            if error.code != "404":
                raise
        yield from self._as_application(access, "PUT", path, body={"alertEmail": wanted})

    def _ensure_destination(self, access: Access, address: str) -> Op[str]:
        path = f"{NOTIFICATION}/destination"
        wanted = {
            "name": f"Lading {access.account_id}",
            "status": "ENABLED",
            "deliveryConfig": {"endpoint": address, "verificationToken": self.verification_token(access)},
        }
        continuation = ""
        while True:
            answer = yield from self._as_application(
                access, "GET", path, limit="100", **({"continuation_token": continuation} if continuation else {})
            )  # fmt: skip
            body = answer.json() if answer.content else {}
            for one in body.get("destinations") or ():
                if (one.get("deliveryConfig") or {}).get("endpoint") == address:
                    number = str(one["destinationId"])
                    if one.get("status") != "ENABLED":
                        yield from self._as_application(access, "PUT", f"{path}/{number}", body=wanted)
                    return number
            continuation = _continuation(body)
            if not continuation:
                break
        answer = yield from self._as_application(access, "POST", path, body=wanted)
        return answer.headers.get("location", "").rpartition("/")[2]

    def _notify(
        self, access: Access, scope: str, method: str, path: str, body: Any = None, **params: Any
    ) -> Op[HttpAnswer]:
        """A Notification API request as the application or as the seller."""
        if scope == webhooks.APPLICATION:
            return (yield from self._as_application(access, method, path, body=body, **params))
        return (
            yield from self._send(
                access, method, path, "notification", params=params or None, body=body, idempotent=method != "POST"
            )
        )  # fmt: skip

    def _subscriptions(self, access: Access, scope: str) -> Op[dict[str, Mapping[str, Any]]]:
        found: dict[str, Mapping[str, Any]] = {}
        continuation = ""
        while True:
            answer = yield from self._notify(
                access, scope, "GET", f"{NOTIFICATION}/subscription",
                limit="100", **({"continuation_token": continuation} if continuation else {}),
            )  # fmt: skip
            body = answer.json() if answer.content else {}
            found.update({str(one["topicId"]): one for one in body.get("subscriptions") or ()})
            continuation = _continuation(body)
            if not continuation:
                return found

    def _subscribe(
        self, access: Access, scope: str, topic: str, known: Mapping[str, Any] | None, destination: str
    ) -> Op[str]:
        """The id of what had to be made or woken, or nothing."""
        path = f"{NOTIFICATION}/subscription"
        if known is None:
            answer = yield from self._as_application(access, "GET", f"{NOTIFICATION}/topic/{topic}")
            body = {
                "topicId": topic, "status": "ENABLED", "payload": _payload(answer.json()),
                "destinationId": destination,
            }  # fmt: skip
            answer = yield from self._notify(access, scope, "POST", path, body)
            return answer.headers.get("location", "").rpartition("/")[2] or topic
        number = str(known["subscriptionId"])
        if known.get("destinationId") != destination:
            if scope == webhooks.APPLICATION:
                return ""
            body = {"status": "ENABLED", "payload": dict(known["payload"]), "destinationId": destination}
            yield from self._notify(access, scope, "PUT", f"{path}/{number}", body)
            return number
        if known.get("status") == "ENABLED":
            return ""
        yield from self._notify(access, scope, "POST", f"{path}/{number}/enable")
        return number


def forget_app_tokens() -> None:
    with _lock:
        _app_tokens.clear()


def consent_code(text: str) -> str:
    """The code of the address to which eBay sent the seller after the consent, or the code itself, decoded."""
    if "?" in text:
        return (parse_qs(urlsplit(text).query).get("code") or [""])[0]
    return unquote(text.strip())


def signed_headers(
    method: str, host: str, path: str, content: bytes, private_key: str, jwe: str, created: int
) -> dict[str, str]:
    """eBay's digital signature (HTTP message signatures, RFC 9421, with Ed25519) over one request.

    `private_key` = base64 of PKCS #8 as the Key Management API gives it, with or without its armour. Raises
    `ChannelError` REJECTED when it cannot be read.
    """
    inner = "".join(line for line in private_key.split("\n") if not line.startswith("-----"))
    try:
        key = load_der_private_key(base64.b64decode(inner), None)
    except (ValueError, TypeError) as error:
        raise ChannelError(Retry.REJECTED, f"signing_key: it cannot be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ChannelError(Retry.REJECTED, "signing_key: it is not an Ed25519 key")
    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"
    covered = ("content-digest", "x-ebay-signature-key", "@method", "@path", "@authority")
    values = (digest, jwe, method, path, host)
    names = " ".join(f'"{name}"' for name in covered)
    params = f"({names});created={created}"
    lines = [f'"{name}": {value}' for name, value in zip(covered, values, strict=True)]
    signed = "\n".join([*lines, f'"@signature-params": {params}']).encode()
    return {
        "Content-Digest": digest,
        "x-ebay-signature-key": jwe,
        "x-ebay-enforce-signature": "true",
        "Signature-Input": f"sig1={params}",
        "Signature": f"sig1=:{base64.b64encode(key.sign(signed)).decode()}:",
    }


def _whole(order: Mapping[str, Any], cancel: CancelOrder) -> bool:
    """Do the named units make up the order?"""
    named = {item.line_external_id: item.quantity for item in cancel.items}
    return all(named.get(str(line["lineItemId"]), 0) >= int(line["quantity"]) for line in order["lineItems"])


def _quantity_request(sku: str, items: Sequence[PushItem]) -> dict[str, Any]:
    """The item's total covers its largest offer; each offer then shows its own figure."""
    return {
        "sku": sku,
        "shipToLocationAvailability": {"quantity": max(item.quantity for item in items)},
        "offers": [{"offerId": item.external_id, "availableQuantity": item.quantity} for item in items],
    }


def _read_results(body: Mapping[str, Any], items: Sequence[PushItem]) -> dict[int, PushResult]:
    """A listing is told when every answer for its SKU and its offer is good; one that is missing was not looked at."""
    rows = [row for row in body.get("responses") or () if isinstance(row, Mapping)]
    found = {}
    for item in items:
        mine = [
            row
            for row in rows
            if str(row.get("sku") or item.external_sku) == item.external_sku
            and str(row.get("offerId") or item.external_id) == item.external_id
            and (row.get("sku") or row.get("offerId"))
        ]
        bad = [row for row in mine if not 200 <= int(row.get("statusCode") or 0) < 300]
        if not mine:
            found[item.listing_id] = PushResult(
                item.listing_id, Retry.TRANSIENT, "eBay's answer leaves this listing out"
            )
        elif bad:
            status = int(bad[0].get("statusCode") or 0)
            kind = Retry.TRANSIENT if status >= 500 or status == 429 else Retry.REJECTED
            errors = [
                f"{error.get('errorId', '')}: {error.get('longMessage') or error.get('message', '')}"
                for row in bad
                for error in row.get("errors") or ()
            ]
            text = "; ".join(dict.fromkeys(errors)) or f"status {status}"
            found[item.listing_id] = PushResult(item.listing_id, kind, text[:400])
        else:
            found[item.listing_id] = PushResult(item.listing_id)
    return found


def _total(item: Mapping[str, Any]) -> int | None:
    place = (item.get("availability") or {}).get("shipToLocationAvailability") or {}
    return int(place["quantity"]) if place.get("quantity") is not None else None


def _shown(total: int, offer: Mapping[str, Any]) -> int:
    own = offer.get("availableQuantity")
    return total if own is None else min(total, int(own))


def _listing(item: Mapping[str, Any], offer: Mapping[str, Any]) -> RemoteListing:
    total = _total(item)
    listing = offer.get("listing") or {}
    ended = str(listing.get("listingStatus") or "") in ("ENDED", "INACTIVE")
    grouped = bool(item.get("groupIds") or item.get("inventoryItemGroupKeys"))
    return RemoteListing(
        external_id=str(offer["offerId"]),
        external_sku=str(item["sku"]),
        title=str((item.get("product") or {}).get("title") or item["sku"]),
        # orders name goods without SKU by the listing, which all variations of a group share
        variant_id="" if grouped else str(listing.get("listingId") or ""),
        quantity=None if total is None else _shown(total, offer),
        active=offer.get("status") == "PUBLISHED" and not ended,
        data={"listing_id": str(listing.get("listingId") or "")},
    )


def _continuation(body: Mapping[str, Any]) -> str:
    """The token of the next page, which eBay gives as an address."""
    return (parse_qs(urlsplit(str(body.get("next") or "")).query).get("continuation_token") or [""])[0]


def _payload(topic: Mapping[str, Any]) -> dict[str, str]:
    """The newest payload of a topic that is JSON over HTTPS and not on its way out."""
    fits = [
        one
        for one in topic.get("supportedPayloads") or ()
        if not one.get("deprecated")
        and "JSON" in (one.get("format") or ())
        and one.get("deliveryProtocol") == "HTTPS"
    ]
    if not fits:
        raise ChannelError(Retry.REJECTED, f"eBay offers no JSON notification of {topic.get('topicId')}")
    newest = max(fits, key=lambda one: [int(part) for part in str(one["schemaVersion"]).split(".")])
    return {"format": "JSON", "schemaVersion": str(newest["schemaVersion"]), "deliveryProtocol": "HTTPS"}


register(Ebay())
