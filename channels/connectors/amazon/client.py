"""Amazon Selling Partner API: orders 2026-01-01, listings 2021-08-01, feeds 2021-06-30, FBA inventory v1, queue,
Multi-Channel Fulfillment (outbound 2020-07-01).

A PATCH and a feed of one SKU may be applied out of order, so a listing is never in both: a listing in a feed
keeps its lease until the report is read. The merchant quantity (channel code DEFAULT) is never written for
goods that Amazon ships: it would turn the offer into a merchant-fulfilled one.
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

from channels.connectors.amazon import feeds, mapper, outbound, sigv4, webhooks
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
    OutboundOffer,
    OutboundOrder,
    OutboundPage,
    OutboundState,
    PoolPage,
    PushItem,
    PushResult,
    RefundOrder,
    RemoteListing,
    Retry,
    ShopFacts,
    Subscription,
    Tokens,
    register,
)
from oms.core.clock import now
from oms.core.errors import UserError
from oms.core.http import HttpAnswer, HttpRequest
from oms.core.limits import Rate
from oms.orders.drafts import OrderDraft

LWA_HOST = "api.amazon.com"
HOSTS = {region: f"sellingpartnerapi-{region}.amazon.com" for region in ("na", "eu", "fe")}
ORDER_DATA = "BUYER,RECIPIENT,PROCEEDS,PROMOTION,CANCELLATION,FULFILLMENT,PACKAGES"
FBA_LOCATION = "FBA"
#: published usage plans (requests per second, burst), used to four fifths
_PLANS = {
    "orders.list": (0.0056, 20), "orders.get": (0.5, 30), "orders.confirm": (2, 10), "listings.patch": (5, 5),
    "listings.get": (5, 10), "listings.search": (5, 5), "fba": (2, 2),
    "outbound.preview": (2, 30), "outbound.create": (2, 30), "outbound.get": (2, 30), "outbound.cancel": (2, 30),
    "outbound.list": (2, 30), "feeds.document": (0.5, 15),
    "feeds.create": (0.0083, 15), "feeds.get": (2, 15), "feeds.report": (0.0222, 10), "notifications.read": (1, 5),
    "notifications.write": (1, 5),
    "storage": (10, 10), "queue": (50, 50),
}  # fmt: skip
RATES = {name: Rate(per_second * 0.8, max(1.0, burst * 0.8)) for name, (per_second, burst) in _PLANS.items()}
_MAX_QUANTITY_ISSUES = 3
#: carrier codes of shipment confirmation; anything else is "Other" with a name
CARRIERS = {
    "UPS": "UPS", "USPS": "USPS", "FEDEX": "FedEx", "DHL": "DHL", "DHL_EXPRESS": "DHL", "MYDHL": "DHL",
    "ONTRAC": "OnTrac", "LASERSHIP": "Lasership", "CANADA_POST": "Canada Post", "ROYAL_MAIL": "Royal Mail",
    "DPD": "DPD", "GLS": "GLS",
}  # fmt: skip


class Amazon(Connector):
    key = "amazon"
    name = "Amazon"
    capabilities = Capabilities(
        quantity_batch=1,
        quantity_connections=5,
        pushes_per_second=5,
        bulk_from=150,
        queue=True,
        order_batch=1,
        list_above=8,
        overlap_seconds=300,
        visible_after_seconds=150,  # the search shows nothing of its last two minutes
        fulfilled_by_channel=True,
        ships_for_others=True,
        cancel=True,
        refund=True,
        repeatable=frozenset({"ship"}),
        carriers=CARRIERS,
        other_carriers=True,
    )
    config_fields = (
        FieldSpec("seller_id", "Seller id"),
        FieldSpec(
            "marketplace_id", "Marketplace id", help="ATVPDKIKX0DER is amazon.com", default="ATVPDKIKX0DER"
        ),
        FieldSpec(
            "queue_url",
            "Notification queue (SQS address)",
            required=False,
            help="without it orders come by polling only",
        ),
    )
    credential_fields = (
        FieldSpec("client_id", "LWA client id", secret=True),
        FieldSpec("client_secret", "LWA client secret", secret=True),
        FieldSpec("refresh_token", "Refresh token", secret=True),
        FieldSpec("aws_access_key_id", "AWS access key id", secret=True, required=False),
        FieldSpec("aws_secret_access_key", "AWS secret access key", secret=True, required=False),
    )

    def check_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        if not str(config.get("seller_id", "")).strip():
            raise UserError("seller_id: give the seller (merchant) id of the account.", field="seller_id")
        market = str(config.get("marketplace_id", "")).strip()
        if market not in mapper.MARKETPLACES:
            raise UserError(
                f"marketplace_id: '{market}' is unknown; amazon.com is ATVPDKIKX0DER.", field="marketplace_id"
            )
        queue = str(config.get("queue_url", "")).strip()
        parts = urlsplit(queue)
        if queue and not (parts.scheme == "https" and (parts.hostname or "").endswith(".amazonaws.com")):
            raise UserError(
                "queue_url: use the queue's https address, https://sqs.us-east-1.amazonaws.com/<account>/<name>.",
                field="queue_url",
            )
        region = mapper.MARKETPLACES[market][2]
        return {
            **config,
            "seller_id": str(config["seller_id"]).strip(),
            "marketplace_id": market,
            "queue_url": queue,
            "region": region,
        }

    # --- talking -------------------------------------------------------------------------------------
    def _host(self, access: Access) -> str:
        return HOSTS[str(access.config.get("region") or "na")]

    def _call(
        self,
        access: Access,
        method: str,
        path: str,
        plan: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        idempotent: bool = True,
        timeout: float = 15.0,
    ) -> Op[HttpAnswer]:
        host = self._host(access)
        answer = yield HttpRequest(
            account_key=access.key,
            method=method,
            url=f"https://{host}{path}",
            headers={"x-amz-access-token": str(access.tokens.get("access_token", ""))},
            params=dict(params or {}),
            json=body,
            timeout=timeout,
            idempotent=idempotent,
            allowed_hosts=(host,),
            bucket=plan,
            rate=RATES[plan],
            max_wait=1.0 if plan == "listings.patch" else 5.0,
        )
        return answer

    def token_lifetime(self, access: Access) -> bool:
        return True

    def refresh_token(self, access: Access) -> Op[Tokens]:
        answer = yield HttpRequest(
            account_key=access.key + ":token",
            method="POST",
            url=f"https://{LWA_HOST}/auth/o2/token",
            data={
                "grant_type": "refresh_token",
                "refresh_token": str(access.credentials.get("refresh_token", "")),
                "client_id": str(access.credentials.get("client_id", "")),
                "client_secret": str(access.credentials.get("client_secret", "")),
            },
            timeout=10.0,
            idempotent=True,
            allowed_hosts=(LWA_HOST,),
        )
        told = answer.json()
        # renewed a minute early, so that no request starts with a token that dies on the way
        life = max(30, int(told.get("expires_in", 3600)) - 60)
        return Tokens({"access_token": told["access_token"]}, now() + dt.timedelta(seconds=life))

    def probe(self, access: Access) -> Op[ShopFacts]:
        market = str(access.config["marketplace_id"])
        yield from self._call(
            access, "GET", f"/listings/2021-08-01/items/{quote(str(access.config['seller_id']), safe='')}",
            "listings.search",
            params={"marketplaceIds": market, "pageSize": 1, "includedData": "summaries"},
        )  # fmt: skip
        country, currency, _ = mapper.MARKETPLACES[market]
        return ShopFacts(
            f"Amazon {country} {access.config['seller_id']}", currency, ((FBA_LOCATION, "Amazon FBA"),)
        )

    # --- orders --------------------------------------------------------------------------------------
    def list_orders(self, access: Access, since: str, cursor: str) -> Op[OrderPage]:
        params: dict[str, Any] = {
            "marketplaceIds": access.config["marketplace_id"],
            "includedData": ORDER_DATA,
            "maxResultsPerPage": 100,
        }
        if cursor:
            params["paginationToken"] = cursor
        start = mapper.when(since) or now() - dt.timedelta(days=7)
        params["lastUpdatedAfter"] = start.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = yield from self._call(
            access, "GET", "/orders/2026-01-01/orders", "orders.list", params=params, timeout=30.0
        )
        body = answer.json()
        drafts, refused = [], 0
        for order in body["orders"]:
            try:
                drafts.append(mapper.order_draft(order))
            except mapper.NotASale:
                continue
            except UNREADABLE:
                refused += 1
        token = (body.get("pagination") or {}).get("nextToken") or ""
        return OrderPage(
            tuple(drafts), token, since if token else body.get("lastUpdatedBefore") or since, refused
        )

    def get_orders(self, access: Access, external_ids: Sequence[str]) -> Op[list[OrderDraft]]:
        found = []
        for number in external_ids:
            try:
                body = yield from self._order(access, number, ORDER_DATA)
            except ChannelError as error:
                if error.code == "404":
                    continue
                raise
            try:
                found.append(mapper.order_draft(body))
            except mapper.NotASale:
                continue
        return found

    def _order(self, access: Access, number: str, included: str) -> Op[dict[str, Any]]:
        answer = yield from self._call(
            access,
            "GET",
            f"/orders/2026-01-01/orders/{quote(number, safe='')}",
            "orders.get",
            params={"includedData": included},
        )
        body = answer.json()
        found: dict[str, Any] = body.get("order", body)
        return found

    # --- stock ---------------------------------------------------------------------------------------
    def push_quantities(self, access: Access, items: Sequence[PushItem]) -> Op[list[PushResult]]:
        results = []
        for item in items:
            if item.fulfilled_by_channel:
                results.append(
                    PushResult(
                        item.listing_id,
                        Retry.REJECTED,
                        "Amazon ships this listing: its quantity is never written",
                    )
                )
                continue
            try:
                answer = yield from self._call(
                    access, "PATCH", self._item_path(access, item.external_sku), "listings.patch",
                    params={"marketplaceIds": access.config["marketplace_id"], "includedData": "issues"},
                    body={"productType": feeds.product_type(item), "patches": [feeds.quantity_patch(item.quantity)]},
                )  # fmt: skip
            except ChannelError as error:
                if (
                    error.kind is Retry.AUTH
                ):  # the whole call is repeated with a new token; quantities are absolute
                    raise
                results.append(PushResult(item.listing_id, error.kind, error.message, error.retry_after))
                continue
            results.append(_submission(item, answer.json()))
        return results

    def _item_path(self, access: Access, sku: str) -> str:
        return f"/listings/2021-08-01/items/{quote(str(access.config['seller_id']), safe='')}/{quote(sku, safe='')}"

    def push_bulk(self, access: Access, items: Sequence[PushItem]) -> Op[str]:
        if any(item.fulfilled_by_channel for item in items):
            raise ChannelError(
                Retry.REJECTED, "Amazon ships one of these listings: its quantity is never written"
            )
        content = json.dumps(
            feeds.document(str(access.config["seller_id"]), items), separators=(",", ":")
        ).encode()
        return (yield from self._submit(access, feeds.FEED_TYPE, "application/json; charset=UTF-8", content))

    def _submit(self, access: Access, feed_type: str, content_type: str, content: bytes) -> Op[str]:
        """Hand in a feed: document, upload, feed. Returns its id. Only the last step takes effect."""
        answer = yield from self._call(
            access,
            "POST",
            "/feeds/2021-06-30/documents",
            "feeds.document",
            body={"contentType": content_type},
        )
        target = answer.json()
        yield HttpRequest(
            account_key=access.key,
            method="PUT",
            url=target["url"],
            headers={"Content-Type": content_type},
            content=content,
            timeout=30.0,
            idempotent=True,
            allowed_hosts=(_storage_host(target["url"]),),
            bucket="storage",
            rate=RATES["storage"],
        )
        answer = yield from self._call(
            access, "POST", "/feeds/2021-06-30/feeds", "feeds.create",
            body={
                "feedType": feed_type,
                "marketplaceIds": [access.config["marketplace_id"]],
                "inputFeedDocumentId": target["feedDocumentId"],
            },
            idempotent=False,
        )  # fmt: skip
        return str(answer.json()["feedId"])

    def _report(self, access: Access, feed_id: str) -> Op[bytes | None]:
        """The processing report of a feed; None while Amazon works on it. Raises TRANSIENT when there is none."""
        answer = yield from self._call(
            access, "GET", f"/feeds/2021-06-30/feeds/{quote(feed_id, safe='')}", "feeds.get"
        )
        feed = answer.json()
        if feed["processingStatus"] not in feeds.DONE:
            return None
        if feed["processingStatus"] != "DONE" or not feed.get("resultFeedDocumentId"):
            raise ChannelError(Retry.TRANSIENT, f"the feed ended as {feed['processingStatus']}", code="FEED")
        answer = yield from self._call(
            access,
            "GET",
            f"/feeds/2021-06-30/documents/{quote(feed['resultFeedDocumentId'], safe='')}",
            "feeds.report",
        )
        document = answer.json()
        report = yield HttpRequest(
            account_key=access.key,
            method="GET",
            url=document["url"],
            timeout=30.0,
            idempotent=True,
            allowed_hosts=(_storage_host(document["url"]),),
            bucket="storage",
            rate=RATES["storage"],
        )
        content: bytes = (
            gzip.decompress(report.content)
            if document.get("compressionAlgorithm") == "GZIP"
            else report.content
        )
        return content

    def bulk_result(
        self, access: Access, handle: str, items: Sequence[PushItem]
    ) -> Op[list[PushResult] | None]:
        try:
            content = yield from self._report(access, handle)
        except ChannelError as error:
            if error.code != "FEED":
                raise
            return [PushResult(item.listing_id, Retry.TRANSIENT, error.message) for item in items]
        return None if content is None else feeds.results(json.loads(content), items)

    def read_quantities(self, access: Access, refs: Sequence[ListingRef]) -> Op[dict[int, int]]:
        shown = {}
        for ref in refs:
            try:
                answer = yield from self._call(
                    access, "GET", self._item_path(access, ref.external_sku), "listings.get",
                    params={
                        "marketplaceIds": access.config["marketplace_id"],
                        "includedData": "fulfillmentAvailability",
                    },
                )  # fmt: skip
            except ChannelError as error:
                if error.code == "404":
                    continue
                raise
            quantity = _merchant_quantity(answer.json())
            if quantity is not None:
                shown[ref.listing_id] = quantity
        return shown

    def list_listings(self, access: Access, cursor: str) -> Op[ListingPage]:
        params: dict[str, Any] = {
            "marketplaceIds": access.config["marketplace_id"],
            "includedData": "summaries,fulfillmentAvailability",
            "pageSize": 20,
        }
        if cursor:
            params["pageToken"] = cursor
        answer = yield from self._call(
            access,
            "GET",
            f"/listings/2021-08-01/items/{quote(str(access.config['seller_id']), safe='')}",
            "listings.search",
            params=params,
        )
        body = answer.json()
        found = []
        for item in body["items"]:
            summary: dict[str, Any] = next(iter(item.get("summaries") or ()), {})
            codes = [entry["fulfillmentChannelCode"] for entry in item.get("fulfillmentAvailability") or ()]
            by_amazon = any(code.startswith("AMAZON") for code in codes)
            found.append(
                RemoteListing(
                    external_id=item["sku"],
                    external_sku=item["sku"],
                    title=summary.get("itemName") or "",
                    variant_id=summary.get("asin") or "",
                    quantity=None if by_amazon else _merchant_quantity(item),
                    fulfilled_by_channel=by_amazon,
                    active=True,
                    data={"product_type": summary.get("productType") or "PRODUCT"},
                )
            )
        return ListingPage(tuple(found), (body.get("pagination") or {}).get("nextToken") or "")

    def pool_levels(self, access: Access, since: dt.datetime | None, cursor: str) -> Op[PoolPage]:
        market = access.config["marketplace_id"]
        params: dict[str, Any] = {
            "details": "true", "granularityType": "Marketplace", "granularityId": market, "marketplaceIds": market,
        }  # fmt: skip
        if since:
            params["startDateTime"] = since.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if cursor:
            params["nextToken"] = cursor
        read_at = now()
        answer = yield from self._call(access, "GET", "/fba/inventory/v1/summaries", "fba", params=params)
        body = answer.json()
        levels = tuple(mapper.pool_level(entry, read_at) for entry in body["payload"]["inventorySummaries"])
        return PoolPage(levels, (body.get("pagination") or {}).get("nextToken") or "")

    # --- orders of other channels, from Amazon's warehouses --------------------------------------------
    def outbound_offers(self, access: Access, order: OutboundOrder) -> Op[list[OutboundOffer]]:
        answer = yield from self._call(
            access, "POST", f"{outbound.BASE}/preview", "outbound.preview",
            body=outbound.preview_body(order, str(access.config["marketplace_id"])),
        )  # fmt: skip
        return outbound.offers(answer.json())

    def create_outbound(self, access: Access, order: OutboundOrder) -> Op[None]:
        too_big = outbound.too_big(order)
        if too_big:
            raise ChannelError(Retry.REJECTED, too_big)
        yield from self._call(
            access, "POST", outbound.BASE, "outbound.create",
            body=outbound.create_body(order, str(access.config["marketplace_id"])), idempotent=False,
        )  # fmt: skip

    def read_outbound(self, access: Access, reference: str) -> Op[OutboundState | None]:
        try:
            answer = yield from self._call(
                access, "GET", f"{outbound.BASE}/{quote(reference, safe='')}", "outbound.get"
            )
        except ChannelError as error:
            if error.code == "404":
                return None
            raise
        return outbound.state(answer.json())

    def cancel_outbound(self, access: Access, reference: str) -> Op[None]:
        yield from self._call(
            access, "PUT", f"{outbound.BASE}/{quote(reference, safe='')}/cancel", "outbound.cancel"
        )

    def changed_outbound(self, access: Access, since: dt.datetime, cursor: str) -> Op[OutboundPage]:
        start = since.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        params = {"nextToken": cursor} if cursor else {"queryStartDate": start}
        answer = yield from self._call(access, "GET", outbound.BASE, "outbound.list", params=params)
        return OutboundPage(*outbound.changed(answer.json()))

    # --- effects -------------------------------------------------------------------------------------
    def confirm_shipment(self, access: Access, parcel: Confirmation) -> Op[str]:
        code = self.capabilities.carriers.get(parcel.carrier.upper(), "")
        known = code or (parcel.carrier if parcel.carrier in CARRIERS.values() else "")
        yield from self._call(
            access, "POST", f"/orders/v0/orders/{quote(parcel.order_external_id, safe='')}/shipmentConfirmation",
            "orders.confirm",
            body={
                "marketplaceId": access.config["marketplace_id"],
                "packageDetail": {
                    "packageReferenceId": parcel.reference,
                    "carrierCode": known or "Other",
                    **({} if known else {"carrierName": parcel.carrier_name or parcel.carrier}),
                    **({"shippingMethod": parcel.service} if parcel.service else {}),
                    "trackingNumber": parcel.tracking_number,
                    "shipDate": parcel.shipped_at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "orderItems": [
                        {"orderItemId": item.line_external_id, "quantity": item.quantity} for item in parcel.items
                    ],
                },
            },
        )  # fmt: skip  # sending the same packageReferenceId again edits the package: safe to repeat
        return parcel.reference

    def read_shipment(self, access: Access, parcel: Confirmation) -> Op[str | None]:
        order = yield from self._order(access, parcel.order_external_id, "PACKAGES,FULFILLMENT")
        for package in order.get("packages") or ():
            if package.get("trackingNumber") == parcel.tracking_number:
                return str(package["packageReferenceId"])
        return None

    def cancel(self, access: Access, order: CancelOrder) -> Op[str]:
        content = feeds.cancel_document(str(access.config["seller_id"]), order)
        return (yield from self._submit(access, feeds.CANCEL_FEED, "text/xml; charset=UTF-8", content))

    def cancelled(self, access: Access, order: CancelOrder) -> Op[bool]:
        found = yield from self._order(access, order.order_external_id, "CANCELLATION,FULFILLMENT")
        if (found.get("fulfillment") or {}).get("fulfillmentStatus") == "CANCELLED":
            return True
        gone = {
            str(item["orderItemId"])
            for item in found["orderItems"]
            if (item.get("cancellation") or {}).get("cancellationExecution")
            or not int(item["quantityOrdered"])
        }
        if order.items and all(item.line_external_id in gone for item in order.items):
            return True
        yield from self._refused(access, order.external_id)
        return False

    def _refused(self, access: Access, feed_id: str) -> Op[bool]:
        """True when the feed is worked off without error, False while it is not. Raises REJECTED with its error."""
        if not feed_id:
            return False
        content = yield from self._report(access, feed_id)
        if content is None:
            return False
        error = feeds.report_error(content)
        if error:
            raise ChannelError(Retry.REJECTED, f"Amazon: {error}")
        return True

    def refund(self, access: Access, refund: RefundOrder) -> Op[str]:
        if not refund.items:
            raise ChannelError(Retry.REJECTED, "Amazon refunds order items: name the item this money is for")
        content = feeds.refund_document(str(access.config["seller_id"]), refund)
        return (yield from self._submit(access, feeds.REFUND_FEED, "text/xml; charset=UTF-8", content))

    def find_refund(self, access: Access, refund: RefundOrder) -> Op[str | None]:
        """The feed's report is the proof; Amazon has no look-up of refunds by our reference."""
        done = yield from self._refused(access, refund.external_id)
        return refund.external_id if done else None

    # --- notifications -------------------------------------------------------------------------------
    def kind_of(self, topic: str) -> str:
        return webhooks.kind_of(topic)

    def told_quantity(self, body: Mapping[str, Any]) -> tuple[str, str, int] | None:
        return webhooks.told_quantity(body)

    def _queue(
        self, access: Access, target: str, body: Mapping[str, Any], timeout: float
    ) -> Op[dict[str, Any]]:
        """One SQS request of the AWS JSON 1.0 protocol, signed by us."""
        queue = urlsplit(str(access.config["queue_url"]))
        host = queue.netloc
        content = json.dumps({"QueueUrl": str(access.config["queue_url"]), **body}).encode()
        url = f"https://{host}/"
        headers = sigv4.signed_headers(
            "POST",
            url,
            {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{target}"},
            content,
            access_key=str(access.credentials.get("aws_access_key_id", "")),
            secret_key=str(access.credentials.get("aws_secret_access_key", "")),
            region=queue_region(host),
            service="sqs",
            at=now(),
            session_token=str(access.credentials.get("aws_session_token", "")),
        )
        answer = yield HttpRequest(
            account_key=access.key + ":queue",
            method="POST",
            url=url,
            headers=headers,
            content=content,
            timeout=timeout,
            idempotent=True,
            allowed_hosts=(host,),
            bucket="queue",
            rate=RATES["queue"],
        )
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def poll_queue(self, access: Access, wait_seconds: int) -> Op[list[tuple[str, Notification]]]:
        body = yield from self._queue(
            access,
            "ReceiveMessage",
            {"MaxNumberOfMessages": 10, "WaitTimeSeconds": wait_seconds},
            wait_seconds + 10.0,
        )
        found = []
        for message in body.get("Messages") or ():
            try:
                notification = webhooks.parse(message["Body"])
            except (ValueError, KeyError):
                notification = Notification(
                    str(message.get("MessageId", ""))[:120],
                    "unreadable",
                    {"body": str(message)[:2000]},
                    kind="other",
                )
            found.append((str(message["ReceiptHandle"]), notification))
        return found

    def forget_queue(self, access: Access, handles: Sequence[str]) -> Op[None]:
        for start in range(0, len(handles), 10):
            entries = [
                {"Id": str(n), "ReceiptHandle": handle}
                for n, handle in enumerate(handles[start : start + 10])
            ]
            yield from self._queue(access, "DeleteMessageBatch", {"Entries": entries}, 10.0)

    def ensure_subscriptions(self, access: Access, address: str) -> Op[list[Subscription]]:
        """Connect the account's queue: one destination for it and one subscription per notification type.

        `address` is not used: Amazon sends to queues only.
        """
        queue = str(access.config.get("queue_url") or "")
        if not queue:
            return []
        arn = queue_arn(queue)
        answer = yield HttpRequest(
            account_key=access.key + ":token",
            method="POST",
            url=f"https://{LWA_HOST}/auth/o2/token",
            data={
                "grant_type": "client_credentials",
                "scope": "sellingpartnerapi::notifications",
                "client_id": str(access.credentials.get("client_id", "")),
                "client_secret": str(access.credentials.get("client_secret", "")),
            },
            idempotent=True,
            allowed_hosts=(LWA_HOST,),
        )
        grantless = replace(access, tokens={"access_token": answer.json()["access_token"]})
        answer = yield from self._call(
            grantless, "GET", "/notifications/v1/destinations", "notifications.read"
        )
        known = [
            entry["destinationId"]
            for entry in answer.json().get("payload") or ()
            if ((entry.get("resource") or {}).get("sqs") or {}).get("arn") == arn
        ]
        if not known:
            answer = yield from self._call(
                grantless, "POST", "/notifications/v1/destinations", "notifications.write",
                body={"name": "lading", "resourceSpecification": {"sqs": {"arn": arn}}}, idempotent=False,
            )  # fmt: skip
            known = [answer.json()["payload"]["destinationId"]]
        made = []
        for kind, version in webhooks.TYPES.items():
            path = f"/notifications/v1/subscriptions/{kind}"
            try:
                yield from self._call(access, "GET", path, "notifications.read")
                continue
            except ChannelError as error:
                if error.code != "404":
                    raise
            answer = yield from self._call(
                access, "POST", path, "notifications.write",
                body={"destinationId": known[0], "payloadVersion": version}, idempotent=False,
            )  # fmt: skip
            made.append(Subscription(str(answer.json()["payload"]["subscriptionId"]), kind, arn))
        return made


def queue_arn(url: str) -> str:
    """https://sqs.us-east-1.amazonaws.com/123/name → arn:aws:sqs:us-east-1:123:name."""
    parts = urlsplit(url)
    _, account, name = (parts.path.split("/") + ["", ""])[:3]
    return f"arn:aws:sqs:{queue_region(parts.netloc)}:{account}:{name}"


def queue_region(host: str) -> str:
    labels = host.split(".")
    return labels[1] if len(labels) > 3 else "us-east-1"


def _storage_host(url: str) -> str:
    """Feed documents lie on Amazon's storage; an address elsewhere is refused."""
    host = urlsplit(url).hostname or ""
    if not host.endswith((".amazonaws.com", ".amazon.com")):
        raise ChannelError(Retry.REJECTED, f"the feed document lies on '{host}', which is not Amazon's")
    return host


def _merchant_quantity(item: Mapping[str, Any]) -> int | None:
    for entry in item.get("fulfillmentAvailability") or ():
        if entry.get("fulfillmentChannelCode") == feeds.MERCHANT:
            return int(entry.get("quantity") or 0)
    return None


def _submission(item: PushItem, body: Mapping[str, Any]) -> PushResult:
    """Status 200 with INVALID is a refusal."""
    if body.get("status") in ("ACCEPTED", "VALID"):
        return PushResult(item.listing_id)
    issues = [f"{issue.get('code', '')}: {issue.get('message', '')}" for issue in body.get("issues") or ()]
    text = "; ".join(issues[:_MAX_QUANTITY_ISSUES]) or f"status {body.get('status')}"
    return PushResult(item.listing_id, Retry.REJECTED, text[:400])


register(Amazon())
