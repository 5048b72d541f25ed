"""Routes the hosts of Amazon: tokens, the Selling Partner API, feed uploads and the queues."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote

from channels.sandbox.amazon import feeds, orders, outbound, sqs
from channels.sandbox.amazon.listings import apply_patches, listing
from channels.sandbox.amazon.seller import (
    MARKETPLACES,
    NOTIFICATION_TYPES,
    AmazonSeller,
    Destination,
    Document,
    Feed,
    Subscription,
    Token,
    errors,
    stamp,
)
from channels.sandbox.check import parse_time, problems
from channels.sandbox.http import Answer, Request
from channels.sandbox.shop import Item, Location, SandboxError
from channels.sandbox.world import World

TOKEN_SECONDS = 3600
GRANTLESS = "sellingpartnerapi::notifications"
UPLOAD_HOST = re.compile(r"tortuga-prod-(na|eu|fe)\.s3\.amazonaws\.com")
API_HOST = re.compile(r"sellingpartnerapi-(na|eu|fe)\.amazon\.com")
QUEUE_HOST = re.compile(r"sqs\.[a-z0-9-]+\.amazonaws\.com")
LISTING_DATA = [
    "summaries",
    "attributes",
    "issues",
    "offers",
    "fulfillmentAvailability",
    "procurement",
    "relationships",
    "productTypes",
]
SUMMARIES_TOKEN_SECONDS = 30


@dataclass(frozen=True)
class Parameter:
    """A query parameter: text, integer, boolean, time or list."""

    kind: str = "text"
    required: bool = False
    enum: tuple[str, ...] = ()
    most: int | None = None  # entries of a list, or value of an integer
    least: int | None = None


@dataclass(frozen=True)
class Operation:
    """One operation: how it is addressed, what it accepts, its rate (per second) and burst, and what it does."""

    name: str
    method: str
    path: re.Pattern[str]
    rate: float
    burst: int
    run: Callable[[AmazonSeller, list[str], dict[str, Any], Any], Answer]
    query: dict[str, Parameter] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    grantless: bool = False


def read_query(text: str, known: dict[str, Parameter]) -> tuple[dict[str, Any], list[str]]:
    """(values, problems) of a query string; lists may be repeated or separated by commas."""
    given = parse_qs(text, keep_blank_values=True)
    values: dict[str, Any] = {}
    wrong = [f"{name} is not a known parameter" for name in given if name not in known]
    wrong += [
        f"{name} is required" for name, parameter in known.items() if parameter.required and name not in given
    ]
    for name, parameter in known.items():
        if name not in given:
            continue
        raw = given[name]
        if parameter.kind == "list":
            entries = [entry for text in raw for entry in text.split(",") if entry]
            bad = [entry for entry in entries if parameter.enum and entry not in parameter.enum]
            if bad or not entries:
                wrong.append(
                    f"{name} must hold values of {', '.join(parameter.enum)}" if bad else f"{name} is empty"
                )
            if parameter.most is not None and len(entries) > parameter.most:
                wrong.append(f"{name} takes at most {parameter.most} values")
            values[name] = entries
            continue
        if len(raw) > 1:
            wrong.append(f"{name} must be given once")
        value = raw[0]
        if parameter.kind == "time":
            moment = parse_time(value)
            if moment is None:
                wrong.append(f"{name} must be an ISO 8601 time with a zone")
            values[name] = moment
        elif parameter.kind == "integer":
            if not value.isdigit() or not (parameter.least or 0) <= int(value) <= (parameter.most or 10**9):
                wrong.append(f"{name} must be from {parameter.least or 0} to {parameter.most}")
            else:
                values[name] = int(value)
        elif parameter.kind == "boolean":
            if value not in ("true", "false"):
                wrong.append(f"{name} must be true or false")
            values[name] = value == "true"
        else:
            if parameter.enum and value not in parameter.enum:
                wrong.append(f"{name} must be one of {', '.join(parameter.enum)}")
            values[name] = value
    return values, wrong


# --- operations: (seller, path parts, query, body) -> answer ---------------------------------------------
def _search_orders(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    return orders.search(seller, query)


def _get_order(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    order = seller.orders.get(parts[0])
    if order is None:
        return errors(404, "NotFound", f"Order {parts[0]} was not found.")
    return Answer.json({"order": orders.shown(seller, order, set(query.get("includedData", [])))})


def _confirm(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    return orders.confirm(seller, parts[0], body)


def _wrong_seller(seller: AmazonSeller, seller_id: str, query: dict[str, Any]) -> Answer | None:
    if seller_id != seller.id:
        return errors(
            403,
            "Unauthorized",
            "Access to requested resource is denied.",
            "The seller id is not of this token.",
        )
    if seller.marketplace_id not in query["marketplaceIds"]:
        return errors(400, "InvalidInput", "marketplaceIds does not hold a marketplace of this seller.")
    return None


def _patch_listing(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    wrong = _wrong_seller(seller, parts[0], query)
    if wrong:
        return wrong
    preview = query.get("mode") == "VALIDATION_PREVIEW"
    sku = parts[1]
    delay = float(seller.settings.get("listing_delay_ms", 0)) / 1000
    issues = apply_patches(seller, sku, body["patches"], really=not preview and not delay)
    status = "INVALID" if issues else "VALID" if preview else "ACCEPTED"
    if status == "ACCEPTED" and delay:

        def later() -> None:
            apply_patches(seller, sku, body["patches"], really=True)

        seller.world.later(delay, later)
    answer: dict[str, Any] = {
        "sku": sku,
        "status": status,
        "submissionId": f"{seller.dice.getrandbits(128):032x}",
        "issues": issues,
    }
    if "identifiers" in query.get("includedData", []) and sku in seller.items:
        answer["identifiers"] = [{"marketplaceId": seller.marketplace_id, "asin": seller.items[sku].asin}]
    return Answer.json(answer)


def _get_listing(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    wrong = _wrong_seller(seller, parts[0], query)
    if wrong:
        return wrong
    if parts[1] not in seller.items:
        return errors(404, "NotFound", f"SKU '{parts[1]}' not found in marketplace {seller.marketplace_id}")
    return Answer.json(listing(seller, seller.items[parts[1]], set(query.get("includedData", ["summaries"]))))


def _search_listings(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    wrong = _wrong_seller(seller, parts[0], query)
    if wrong:
        return wrong
    if ("identifiers" in query) != ("identifiersType" in query):
        return errors(400, "InvalidInput", "identifiers and identifiersType must be given together.")
    if query.get("identifiersType", "SKU") not in ("SKU", "ASIN", "FNSKU"):
        return errors(400, "InvalidInput", "The sandbox plays the identifiers SKU, ASIN and FNSKU.")

    def names(item: Item) -> str:
        return {"SKU": item.sku, "ASIN": item.asin, "FNSKU": item.fnsku}[query.get("identifiersType", "SKU")]

    order: dict[str, Callable[[Item], Any]] = {
        "sku": lambda item: item.sku,
        "createdDate": lambda item: (item.created_at, item.sku),
        "lastUpdatedDate": lambda item: (item.updated_at, item.sku),
    }
    found = sorted(
        (
            item
            for item in seller.items.values()
            if ("identifiers" not in query or names(item) in query["identifiers"])
            and item.updated_at >= query.get("lastUpdatedAfter", 0)
            and item.updated_at <= query.get("lastUpdatedBefore", 1e12)
            and item.created_at >= query.get("createdAfter", 0)
            and item.created_at <= query.get("createdBefore", 1e12)
        ),
        key=order[query.get("sortBy", "lastUpdatedDate")],
        reverse=query.get("sortOrder", "DESC") == "DESC",
    )
    size = query.get("pageSize", 10)
    begin = 0
    if "pageToken" in query:
        if not query["pageToken"].isdigit():
            return errors(400, "InvalidInput", "pageToken is invalid.")
        begin = int(query["pageToken"])
    included = set(query.get("includedData", ["summaries"]))
    answer: dict[str, Any] = {
        "numberOfResults": len(found),
        "items": [listing(seller, item, included) for item in found[begin : begin + size]],
    }
    pagination = {}
    if begin + size < len(found):
        pagination["nextToken"] = str(begin + size)
    if begin:
        pagination["previousToken"] = str(max(0, begin - size))
    if pagination:
        answer["pagination"] = pagination
    return Answer.json(answer)


def _summaries(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    if query["marketplaceIds"] != [seller.marketplace_id] or query["granularityId"] != seller.marketplace_id:
        return errors(
            400,
            "InvalidInput",
            "granularityId and marketplaceIds must name the one marketplace of this seller.",
        )
    now, begin = seller.world.now(), 0
    if "nextToken" in query:
        try:
            mark = json.loads(base64.urlsafe_b64decode(query["nextToken"]))
            begin, made = int(mark["at"]), float(mark["made"])
        except (ValueError, KeyError, TypeError):
            return errors(400, "InvalidInput", "nextToken is invalid.")
        if made < now - SUMMARIES_TOKEN_SECONDS:
            return errors(400, "InvalidInput", "nextToken has expired.")
    asked = query.get("sellerSkus") or ([query["sellerSku"]] if "sellerSku" in query else None)
    found = [
        item
        for item in seller.items.values()
        if item.fba is not None
        and (asked is None or item.sku in asked)
        and item.updated_at >= query.get("startDateTime", 0)
    ]
    page = found[begin : begin + 50]
    answer: dict[str, Any] = {
        "payload": {
            "granularity": {"granularityType": "Marketplace", "granularityId": seller.marketplace_id},
            "inventorySummaries": [_summary(item, query.get("details", False)) for item in page],
        }
    }
    if begin + 50 < len(found):
        token = base64.urlsafe_b64encode(json.dumps({"at": begin + 50, "made": now}).encode()).decode()
        answer["pagination"] = {"nextToken": token}
    return Answer.json(answer)


def _summary(item: Item, details: bool) -> dict[str, Any]:
    pool = item.fba or {}
    reserved = {
        "pendingCustomerOrderQuantity": pool.get("pending_order", 0),
        "pendingTransshipmentQuantity": pool.get("transfer", 0),
        "fcProcessingQuantity": pool.get("processing", 0),
    }
    inbound = {
        "inboundWorkingQuantity": pool.get("inbound_working", 0),
        "inboundShippedQuantity": pool.get("inbound_shipped", 0),
        "inboundReceivingQuantity": pool.get("inbound_receiving", 0),
    }
    bad = pool.get("unfulfillable", 0)
    fulfillable, researching = pool.get("fulfillable", 0), pool.get("researching", 0)
    answer: dict[str, Any] = {
        "asin": item.asin,
        "fnSku": item.fnsku,
        "sellerSku": item.sku,
        "condition": "NewItem",
        "lastUpdatedTime": stamp(item.updated_at),
        "productName": item.title,
        "totalQuantity": fulfillable + sum(reserved.values()) + sum(inbound.values()) + bad + researching,
        "stores": [],
    }
    if details:
        answer["inventoryDetails"] = {
            "fulfillableQuantity": fulfillable,
            **inbound,
            "reservedQuantity": {"totalReservedQuantity": sum(reserved.values()), **reserved},
            "researchingQuantity": {
                "totalResearchingQuantity": researching,
                "researchingQuantityBreakdown": [],
            },
            "unfulfillableQuantity": {
                "totalUnfulfillableQuantity": bad,
                "customerDamagedQuantity": bad,
                "warehouseDamagedQuantity": 0,
                "distributorDamagedQuantity": 0,
                "carrierDamagedQuantity": 0,
                "defectiveQuantity": 0,
                "expiredQuantity": 0,
            },
        }
    return answer


def _upload_url(seller: AmazonSeller, number: str) -> str:
    return f"https://tortuga-prod-{seller.region}.s3.amazonaws.com/{number}?X-Amz-Signature=sandbox"


def _create_document(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    number = f"amzn1.tortuga.4.{seller.region}.{seller.world.serial('document')}"
    seller.documents[number] = Document(number, body["contentType"])
    return Answer.json({"feedDocumentId": number, "url": _upload_url(seller, number)}, 201)


def _create_feed(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    document = seller.documents.get(body["inputFeedDocumentId"])
    if document is None or not document.uploaded:
        return errors(400, "InvalidInput", "inputFeedDocumentId is not an uploaded feed document.")
    if body["feedType"] not in feeds.HANDLERS:
        return errors(
            400, "InvalidInput", f"feedType must be one of {', '.join(feeds.HANDLERS)} in the sandbox."
        )
    if seller.marketplace_id not in body["marketplaceIds"]:
        return errors(400, "InvalidInput", "marketplaceIds does not hold a marketplace of this seller.")
    number = str(50_000_000_000 + seller.world.serial("feed"))
    now = seller.world.now()
    delay = float(seller.settings.get("feed_delay_ms", 200)) / 1000
    feed = Feed(number, body["feedType"], body["marketplaceIds"], document.id, now, now + delay)
    seller.feeds[number] = feed
    seller.world.later(delay + 0.001, lambda: feeds.run_due(seller))
    return Answer.json({"feedId": number}, 202)


def _get_feed(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    feeds.run_due(seller)
    if parts[0] not in seller.feeds:
        return errors(404, "NotFound", f"Feed {parts[0]} was not found.")
    return Answer.json(feeds.shown(seller.feeds[parts[0]]))


def _get_feeds(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    feeds.run_due(seller)
    if "feedTypes" not in query and "nextToken" not in query:
        return errors(400, "InvalidInput", "Either feedTypes or nextToken is required.")
    found = [
        feed
        for feed in reversed(seller.feeds.values())
        if feed.type in query.get("feedTypes", [feed.type])
        and feed.status in query.get("processingStatuses", [feed.status])
        and feed.created_at >= query.get("createdSince", 0)
        and feed.created_at <= query.get("createdUntil", 1e12)
    ]
    return Answer.json({"feeds": [feeds.shown(feed) for feed in found[: query.get("pageSize", 10)]]})


def _cancel_feed(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    feed = seller.feeds.get(parts[0])
    if feed is None:
        return errors(404, "NotFound", f"Feed {parts[0]} was not found.")
    if feed.status != "IN_QUEUE":
        return errors(400, "InvalidInput", f"A feed in status {feed.status} cannot be cancelled.")
    feed.status = "CANCELLED"
    return Answer(200)


def _get_document(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    if parts[0] not in seller.documents:
        return errors(404, "NotFound", f"Feed document {parts[0]} was not found.")
    return Answer.json({"feedDocumentId": parts[0], "url": _upload_url(seller, parts[0])})


def _participations(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    _, name, country, currency, language, domain = MARKETPLACES[seller.marketplace_id]
    marketplace = {
        "id": seller.marketplace_id,
        "name": name,
        "countryCode": country,
        "defaultCurrencyCode": currency,
        "defaultLanguageCode": language,
        "domainName": domain,
    }
    participation = {"isParticipating": True, "hasSuspendedListings": False}
    return Answer.json(
        {"payload": [{"marketplace": marketplace, "storeName": seller.name, "participation": participation}]}
    )


def _shown_destination(destination: Destination) -> dict[str, Any]:
    return {
        "destinationId": destination.id,
        "name": destination.name,
        "resource": {"sqs": {"arn": destination.arn}},
    }


def _create_destination(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    resource = body["resourceSpecification"].get("sqs")
    if resource is None:
        return errors(400, "InvalidInput", "The sandbox plays destinations of the kind sqs.")
    sellers = [s for s in seller.world.shops.values() if isinstance(s, AmazonSeller)]
    if resource["arn"] not in {s.queue_arn for s in sellers}:
        return errors(400, "InvalidInput", "The queue does not exist or does not allow Amazon to send to it.")
    if any(d.arn == resource["arn"] for d in seller.destinations.values()):
        return errors(409, "Conflict", "A destination for this resource already exists.")
    destination = Destination(f"dest-{seller.world.serial('destination')}", body["name"], resource["arn"])
    seller.destinations[destination.id] = destination
    return Answer.json({"payload": _shown_destination(destination)})


def _get_destinations(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    return Answer.json({"payload": [_shown_destination(d) for d in seller.destinations.values()]})


def _get_destination(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    if parts[0] not in seller.destinations:
        return errors(404, "NotFound", "The destination was not found.")
    return Answer.json({"payload": _shown_destination(seller.destinations[parts[0]])})


def _delete_destination(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    if seller.destinations.pop(parts[0], None) is None:
        return errors(404, "NotFound", "The destination was not found.")
    return Answer.json({})


def _shown_subscription(subscription: Subscription) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "subscriptionId": subscription.id,
        "payloadVersion": subscription.payload_version,
        "destinationId": subscription.destination_id,
    }
    return {**answer, "processingDirective": subscription.directive} if subscription.directive else answer


def subscribe(seller: AmazonSeller, kind: str, destination_id: str, version: str = "1.0") -> Subscription:
    number = f"sub-{seller.world.serial('amazon_subscription')}"
    seller.subscriptions[kind] = Subscription(number, kind, destination_id, version)
    return seller.subscriptions[kind]


def _create_subscription(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    kind = parts[0]
    if kind not in NOTIFICATION_TYPES:
        return errors(
            400,
            "InvalidInput",
            f"notificationType must be one of {', '.join(NOTIFICATION_TYPES)} in the sandbox.",
        )
    if body["destinationId"] not in seller.destinations:
        return errors(400, "InvalidInput", "destinationId is not a destination of this application.")
    if kind in seller.subscriptions:
        return errors(409, "Conflict", "A subscription for this notification type already exists.")
    made = subscribe(seller, kind, body["destinationId"], body["payloadVersion"])
    made.directive = body.get("processingDirective")
    return Answer.json({"payload": _shown_subscription(made)})


def _get_subscription(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    found = seller.subscriptions.get(parts[0])
    if found is None or (len(parts) > 1 and found.id != parts[1]):
        return errors(404, "NotFound", "The subscription was not found.")
    return Answer.json({"payload": _shown_subscription(found)})


def _delete_subscription(seller: AmazonSeller, parts: list[str], query: dict[str, Any], body: Any) -> Answer:
    found = seller.subscriptions.get(parts[0])
    if found is None or found.id != parts[1]:
        return errors(404, "NotFound", "The subscription was not found.")
    del seller.subscriptions[parts[0]]
    return Answer.json({})


TIME, TEXT, BOOLEAN = Parameter("time"), Parameter(), Parameter("boolean")
MARKETPLACE_LIST = Parameter("list", required=True)
ORDER_DATA = Parameter("list", enum=tuple(orders.INCLUDED))
LISTING_INCLUDED = Parameter("list", enum=tuple(LISTING_DATA))
PATCH_BODY: dict[str, Any] = {
    "type": "object",
    "required": ["productType", "patches"],
    "properties": {"productType": {"type": "string", "minLength": 1}, "patches": feeds.PATCHES},
}
DIRECTIVE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "eventFilter": {"type": "object", "open": True},
        "filterExpression": {"type": "string", "minLength": 1, "maxLength": 256},
    },
}


def _at(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{\w+\}", "([^/]+)", path))


MCF = "/fba/outbound/2020-07-01/fulfillmentOrders"
OPERATIONS = [
    Operation(
        "getFulfillmentPreview", "POST", _at(f"{MCF}/preview"), 2, 30, outbound.preview, body=outbound.PREVIEW
    ),
    Operation("createFulfillmentOrder", "POST", _at(MCF), 2, 30, outbound.create, body=outbound.CREATE),
    Operation(
        "listAllFulfillmentOrders",
        "GET",
        _at(MCF),
        2,
        30,
        outbound.listed,
        {"queryStartDate": TIME, "nextToken": TEXT},
    ),
    Operation("cancelFulfillmentOrder", "PUT", _at(f"{MCF}/{{id}}/cancel"), 2, 30, outbound.cancel),
    Operation("getFulfillmentOrder", "GET", _at(f"{MCF}/{{id}}"), 2, 30, outbound.get),
    Operation(
        "searchOrders",
        "GET",
        _at("/orders/2026-01-01/orders"),
        0.0056,
        20,
        _search_orders,
        {
            "createdAfter": TIME,
            "createdBefore": TIME,
            "lastUpdatedAfter": TIME,
            "lastUpdatedBefore": TIME,
            "fulfillmentStatuses": Parameter("list", enum=tuple(orders.STATUSES)),
            "marketplaceIds": Parameter("list", most=50),
            "fulfilledBy": Parameter("list", enum=("MERCHANT", "AMAZON")),
            "maxResultsPerPage": Parameter("integer", least=1, most=100),
            "paginationToken": TEXT,
            "includedData": ORDER_DATA,
        },
    ),
    Operation(
        "getOrder",
        "GET",
        _at("/orders/2026-01-01/orders/{id}"),
        0.5,
        30,
        _get_order,
        {"includedData": ORDER_DATA},
    ),
    Operation(
        "confirmShipment",
        "POST",
        _at("/orders/v0/orders/{id}/shipmentConfirmation"),
        2,
        10,
        _confirm,
        body=orders.CONFIRMATION,
    ),
    Operation(
        "patchListingsItem",
        "PATCH",
        _at("/listings/2021-08-01/items/{seller}/{sku}"),
        5,
        5,
        _patch_listing,
        {
            "marketplaceIds": MARKETPLACE_LIST,
            "includedData": Parameter("list", enum=("identifiers", "issues")),
            "mode": Parameter(enum=("VALIDATION_PREVIEW",)),
            "issueLocale": TEXT,
        },
        PATCH_BODY,
    ),
    Operation(
        "getListingsItem",
        "GET",
        _at("/listings/2021-08-01/items/{seller}/{sku}"),
        5,
        10,
        _get_listing,
        {"marketplaceIds": MARKETPLACE_LIST, "issueLocale": TEXT, "includedData": LISTING_INCLUDED},
    ),
    Operation(
        "searchListingsItems",
        "GET",
        _at("/listings/2021-08-01/items/{seller}"),
        5,
        5,
        _search_listings,
        {
            "marketplaceIds": MARKETPLACE_LIST,
            "issueLocale": TEXT,
            "includedData": LISTING_INCLUDED,
            "identifiers": Parameter("list", most=20),
            "identifiersType": Parameter(
                enum=("ASIN", "EAN", "FNSKU", "GTIN", "ISBN", "JAN", "MINSAN", "SKU", "UPC")
            ),
            "createdAfter": TIME,
            "createdBefore": TIME,
            "lastUpdatedAfter": TIME,
            "lastUpdatedBefore": TIME,
            "sortBy": Parameter(enum=("sku", "createdDate", "lastUpdatedDate")),
            "sortOrder": Parameter(enum=("ASC", "DESC")),
            "pageSize": Parameter("integer", least=1, most=20),
            "pageToken": TEXT,
        },
    ),
    Operation(
        "getInventorySummaries",
        "GET",
        _at("/fba/inventory/v1/summaries"),
        2,
        2,
        _summaries,
        {
            "details": BOOLEAN,
            "granularityType": Parameter(required=True, enum=("Marketplace",)),
            "granularityId": Parameter(required=True),
            "startDateTime": TIME,
            "sellerSkus": Parameter("list", most=50),
            "sellerSku": TEXT,
            "nextToken": TEXT,
            "marketplaceIds": Parameter("list", required=True, most=1),
        },
    ),
    Operation(
        "createFeedDocument",
        "POST",
        _at("/feeds/2021-06-30/documents"),
        0.5,
        15,
        _create_document,
        body={
            "type": "object",
            "required": ["contentType"],
            "properties": {"contentType": {"type": "string", "minLength": 1}},
        },
    ),
    Operation(
        "getFeedDocument",
        "GET",
        _at("/feeds/2021-06-30/documents/{id}"),
        0.0222,
        10,
        _get_document,
        {"enableContentEncodingUrlHeader": BOOLEAN},
    ),
    Operation(
        "createFeed",
        "POST",
        _at("/feeds/2021-06-30/feeds"),
        0.0083,
        15,
        _create_feed,
        body={
            "type": "object",
            "required": ["inputFeedDocumentId", "feedType", "marketplaceIds"],
            "properties": {
                "feedType": {"type": "string"},
                "marketplaceIds": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 25,
                    "items": {"type": "string"},
                },
                "inputFeedDocumentId": {"type": "string"},
                "feedOptions": {"type": "object", "open": True},
            },
        },
    ),
    Operation(
        "getFeeds",
        "GET",
        _at("/feeds/2021-06-30/feeds"),
        0.0222,
        10,
        _get_feeds,
        {
            "feedTypes": Parameter("list", most=10),
            "marketplaceIds": Parameter("list", most=10),
            "pageSize": Parameter("integer", least=1, most=100),
            "processingStatuses": Parameter(
                "list", enum=("CANCELLED", "DONE", "FATAL", "IN_PROGRESS", "IN_QUEUE")
            ),
            "createdSince": TIME,
            "createdUntil": TIME,
            "nextToken": TEXT,
        },
    ),
    Operation("getFeed", "GET", _at("/feeds/2021-06-30/feeds/{id}"), 2, 15, _get_feed),
    Operation("cancelFeed", "DELETE", _at("/feeds/2021-06-30/feeds/{id}"), 2, 15, _cancel_feed),
    Operation(
        "getMarketplaceParticipations",
        "GET",
        _at("/sellers/v1/marketplaceParticipations"),
        0.016,
        15,
        _participations,
    ),
    Operation(
        "createDestination",
        "POST",
        _at("/notifications/v1/destinations"),
        1,
        5,
        _create_destination,
        body={
            "type": "object",
            "required": ["name", "resourceSpecification"],
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 256},
                "resourceSpecification": {
                    "type": "object",
                    "properties": {
                        "sqs": {
                            "type": "object",
                            "required": ["arn"],
                            "properties": {
                                "arn": {
                                    "type": "string",
                                    "maxLength": 1000,
                                    "pattern": r"^arn:aws:sqs:\S+:\S+:\S+",
                                }
                            },
                        },
                        "eventBridge": {
                            "type": "object",
                            "required": ["region", "accountId"],
                            "properties": {"region": {"type": "string"}, "accountId": {"type": "string"}},
                        },
                    },
                },
            },
        },
        grantless=True,
    ),
    Operation(
        "getDestinations",
        "GET",
        _at("/notifications/v1/destinations"),
        1,
        5,
        _get_destinations,
        grantless=True,
    ),
    Operation(
        "getDestination",
        "GET",
        _at("/notifications/v1/destinations/{id}"),
        1,
        5,
        _get_destination,
        grantless=True,
    ),
    Operation(
        "deleteDestination",
        "DELETE",
        _at("/notifications/v1/destinations/{id}"),
        1,
        5,
        _delete_destination,
        grantless=True,
    ),
    Operation(
        "createSubscription",
        "POST",
        _at("/notifications/v1/subscriptions/{type}"),
        1,
        5,
        _create_subscription,
        body={
            "type": "object",
            "required": ["destinationId", "payloadVersion"],
            "properties": {
                "payloadVersion": {"type": "string"},
                "destinationId": {"type": "string"},
                "processingDirective": DIRECTIVE,
            },
        },
    ),
    Operation(
        "getSubscription",
        "GET",
        _at("/notifications/v1/subscriptions/{type}"),
        1,
        5,
        _get_subscription,
        {"payloadVersion": TEXT},
    ),
    Operation(
        "getSubscriptionById",
        "GET",
        _at("/notifications/v1/subscriptions/{type}/{id}"),
        1,
        5,
        _get_subscription,
        grantless=True,
    ),
    Operation(
        "deleteSubscriptionById",
        "DELETE",
        _at("/notifications/v1/subscriptions/{type}/{id}"),
        1,
        5,
        _delete_subscription,
        grantless=True,
    ),
]


class Amazon:
    kind = "amazon"
    shop_class = AmazonSeller

    def create(self, world: World, spec: dict[str, Any]) -> AmazonSeller:
        """spec: id (the seller id), name, marketplace_id, seed, credentials, queue (name), subscribe (true, or
        notification types to be subscribed at once), settings {rate_limits, search_settle_seconds, listing_delay_ms,
        feed_delay_ms, visibility_timeout, queue_region}."""
        identity = spec["id"]
        marketplace = str(spec.get("marketplace_id", "ATVPDKIKX0DER"))
        if marketplace not in MARKETPLACES:
            raise SandboxError(f"marketplace_id must be one of {', '.join(MARKETPLACES)}.")
        seller = AmazonSeller(
            id=identity,
            kind=self.kind,
            name=str(spec.get("name", identity)),
            currency=str(spec.get("currency", MARKETPLACES[marketplace][3])),
            created_at=world.now(),
            seed=int(spec.get("seed", 1)),
            settings=dict(spec.get("settings", {})),
            marketplace_id=marketplace,
            queue=str(spec.get("queue", f"lading-{identity.lower()}")),
            credentials={
                "client_id": f"amzn1.application-oa2-client.{identity.lower()}",
                "client_secret": f"amzn1.oa2-cs.v1.{identity.lower()}",
                "refresh_token": f"Atzr|{identity}",
                "aws_access_key_id": f"AKIA{identity.upper()}",
                "aws_secret_access_key": f"sandbox/{identity}",
                **spec.get("credentials", {}),
            },
        )
        seller.locations["DEFAULT"] = Location("DEFAULT", "DEFAULT")
        seller.open_shop(world)
        wanted = spec.get("subscribe")
        if wanted:
            destination = Destination(f"dest-{world.serial('destination')}", "queue", seller.queue_arn)
            seller.destinations[destination.id] = destination
            for kind in NOTIFICATION_TYPES if wanted is True else wanted:
                if kind not in NOTIFICATION_TYPES:
                    raise SandboxError(f"subscribe takes {', '.join(NOTIFICATION_TYPES)}.")
                subscribe(seller, kind, destination.id)
        return seller

    def owns(self, host: str) -> bool:
        return host == "api.amazon.com" or bool(
            API_HOST.fullmatch(host) or QUEUE_HOST.fullmatch(host) or UPLOAD_HOST.fullmatch(host)
        )

    async def handle(self, world: World, host: str, request: Request) -> Answer:
        if host == "api.amazon.com":
            return await self._token(world, request)
        if QUEUE_HOST.fullmatch(host):
            return await sqs.handle(world, host, request)
        if UPLOAD_HOST.fullmatch(host):
            return await self._document(world, request)
        return await self._api(world, host, request)

    # --- Login with Amazon --------------------------------------------------------------------------
    async def _token(self, world: World, request: Request) -> Answer:
        if request.raw_path != "/auth/o2/token" or request.method != "POST":
            return Answer.json({"error": "invalid_request", "error_description": "Not a token request."}, 404)
        if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return Answer.json(
                {"error": "invalid_request", "error_description": "The request must be form encoded."}, 400
            )
        form = {name: values[0] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
        client = [
            s
            for s in world.shops.values()
            if isinstance(s, AmazonSeller) and s.credentials["client_id"] == form.get("client_id")
        ]
        right = [
            s
            for s in client
            if hmac.compare_digest(s.credentials["client_secret"], form.get("client_secret", ""))
        ]
        if not right:
            return Answer.json(
                {"error": "invalid_client", "error_description": "Client authentication failed"}, 401
            )
        grant = form.get("grant_type")
        if grant == "refresh_token":
            found = [s for s in right if s.credentials["refresh_token"] == form.get("refresh_token")]
            if not found:
                text = "The request has an invalid grant parameter : refresh_token"
                return Answer.json({"error": "invalid_grant", "error_description": text}, 400)
            return await world.perform(found[0], "token", request, lambda: self._issue(found[0], ""))
        if grant == "client_credentials":
            if form.get("scope") != GRANTLESS:
                return Answer.json(
                    {"error": "invalid_scope", "error_description": f"scope must be {GRANTLESS}"}, 400
                )
            return await world.perform(right[0], "token", request, lambda: self._issue(right[0], GRANTLESS))
        return Answer.json(
            {"error": "unsupported_grant_type", "error_description": f"grant_type {grant}"}, 400
        )

    @staticmethod
    def _issue(seller: AmazonSeller, scope: str) -> Answer:
        now = seller.world.now()
        for text in [text for text, token in seller.tokens.items() if token.expires_at < now - 60]:
            del seller.tokens[text]
        text = f"Atza|{seller.dice.getrandbits(192):048x}"
        seller.tokens[text] = Token(now + TOKEN_SECONDS, scope)
        answer: dict[str, Any] = {"access_token": text, "token_type": "bearer", "expires_in": TOKEN_SECONDS}
        if not scope:
            answer["refresh_token"] = seller.credentials["refresh_token"]
        return Answer.json(answer)

    # --- feed documents -----------------------------------------------------------------------------
    async def _document(self, world: World, request: Request) -> Answer:
        number = unquote(request.raw_path.lstrip("/"))
        seller = next(
            (s for s in world.shops.values() if isinstance(s, AmazonSeller) and number in s.documents), None
        )
        if seller is None:
            return Answer(
                403, b"<Error><Code>AccessDenied</Code></Error>", {"content-type": "application/xml"}
            )
        document = seller.documents[number]
        if request.method == "PUT":
            if request.headers.get("content-type", "") != document.content_type:
                # the content type is part of the signed URL
                body = b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
                return await world.perform(
                    seller,
                    "uploadDocument",
                    request,
                    lambda: Answer(403, body, {"content-type": "application/xml"}),
                )

            def put() -> Answer:
                document.content, document.uploaded = request.body.decode("utf-8", "replace"), True
                return Answer(200)

            return await world.perform(seller, "uploadDocument", request, put)
        kind = {"content-type": document.content_type}
        return await world.perform(
            seller, "downloadDocument", request, lambda: Answer(200, document.content.encode(), kind)
        )

    # --- the API ------------------------------------------------------------------------------------
    async def _api(self, world: World, host: str, request: Request) -> Answer:
        given = request.headers.get("x-amz-access-token", "")
        seller, token = self._holder(world, given)
        if seller is None or token is None or token.expires_at <= world.now():
            details = (
                "The access token you provided has expired."
                if token
                else "The access token you provided is revoked, malformed or invalid."
            )
            refused = errors(403, "Unauthorized", "Access to requested resource is denied.", details)
            if seller is None:
                return refused
            return await world.perform(seller, "expired_token", request, lambda: refused)
        region = API_HOST.fullmatch(host)
        if region is None or region[1] != seller.region:
            return errors(
                403,
                "Unauthorized",
                "Access to requested resource is denied.",
                "The seller is not of this region.",
            )
        path = request.raw_path
        for operation in OPERATIONS:
            match = operation.path.fullmatch(path) if operation.method == request.method else None
            if match:
                parts = [unquote(part) for part in match.groups()]
                effect = partial(self._run, seller, operation, parts, request, token)
                return await world.perform(seller, operation.name, request, effect)
        if any(operation.path.fullmatch(path) for operation in OPERATIONS):
            return errors(405, "MethodNotAllowed", "The method is not allowed for this resource.")
        return errors(
            404, "NotFound", f"The requested resource {path} doesn't exist or is not played by the sandbox."
        )

    @staticmethod
    def _holder(world: World, text: str) -> tuple[AmazonSeller | None, Token | None]:
        for shop in world.shops.values():
            if isinstance(shop, AmazonSeller) and text in shop.tokens:
                return shop, shop.tokens[text]
        return None, None

    @staticmethod
    def _run(
        seller: AmazonSeller, operation: Operation, parts: list[str], request: Request, token: Token
    ) -> Answer:
        if operation.grantless != (token.scope == GRANTLESS):
            needs = "a grantless token" if operation.grantless else "a token of the selling partner"
            return errors(
                403,
                "Unauthorized",
                "Access to requested resource is denied.",
                f"{operation.name} needs {needs}.",
            )
        limit = {"x-amzn-RateLimit-Limit": str(operation.rate)}
        if not seller.allowed(operation.name, operation.rate, operation.burst):
            seller.count("throttled")
            answer = seller.throttled(operation.name)
            answer.headers.update(limit)
            return answer
        query, wrong = read_query(request.query_string, operation.query)
        body: Any = None
        if operation.body is not None:
            if not request.headers.get("content-type", "").startswith("application/json"):
                return errors(415, "UnsupportedMediaType", "The body must be application/json.")
            try:
                body = request.json()
            except ValueError:
                return errors(400, "InvalidInput", "The body is not JSON.")
            wrong += problems(body, operation.body)
        if wrong:
            return errors(400, "InvalidInput", "; ".join(wrong))
        answer = operation.run(seller, parts, query, body)
        answer.headers.update(limit)
        answer.headers["x-amzn-RequestId"] = f"{seller.world.requests:032x}"
        return answer
