"""JSON_LISTINGS_FEED: many quantities in one file, and what its report says per item (pure).

Schemas: listings-feed-schema-v2 and listings-feed-processing-report-schema-v2. `merge` keeps lead time and
restock date, which `replace` would drop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from channels.connectors.base import PushItem, PushResult, Retry

FEED_TYPE = "JSON_LISTINGS_FEED"
MERCHANT = "DEFAULT"
DONE = frozenset({"DONE", "CANCELLED", "FATAL"})


def quantity_patch(quantity: int) -> dict[str, Any]:
    """The patch of a merchant-fulfilled quantity, as a single call and a feed message both need it."""
    return {
        "op": "merge",
        "path": "/attributes/fulfillment_availability",
        "value": [{"fulfillment_channel_code": MERCHANT, "quantity": quantity}],
    }


def product_type(item: PushItem) -> str:
    return str(item.data.get("product_type") or "PRODUCT")


def document(seller_id: str, items: Sequence[PushItem]) -> dict[str, Any]:
    """The feed file; message n belongs to item n − 1."""
    return {
        "header": {"sellerId": seller_id, "version": "2.0", "issueLocale": "en_US"},
        "messages": [
            {
                "messageId": number,
                "sku": item.external_sku,
                "operationType": "PATCH",
                "productType": product_type(item),
                "patches": [quantity_patch(item.quantity)],
            }
            for number, item in enumerate(items, 1)
        ],
    }


def results(report: Mapping[str, Any], items: Sequence[PushItem]) -> list[PushResult]:
    """One result per item; a message with an ERROR issue is rejected alone."""
    errors: dict[int, list[str]] = {}
    for issue in report.get("issues") or ():
        if issue.get("severity") == "ERROR" and issue.get("messageId"):
            errors.setdefault(int(issue["messageId"]), []).append(f"{issue.get('code', '')}: {issue.get('message', '')}")
    return [
        PushResult(item.listing_id, Retry.REJECTED, "; ".join(errors[number])[:400])
        if number in errors
        else PushResult(item.listing_id)
        for number, item in enumerate(items, 1)
    ]
