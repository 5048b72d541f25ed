"""Amazon's feeds: many quantities in one file, cancellations, refunds, and what the reports say (pure).

Schemas: listings-feed-schema-v2 and listings-feed-processing-report-schema-v2. `merge` keeps lead time and
restock date, which `replace` would drop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring  # only builds; reports are read by defusedxml

from defusedxml import ElementTree

from channels.connectors.base import CancelOrder, PushItem, PushResult, RefundOrder, Retry

FEED_TYPE = "JSON_LISTINGS_FEED"
CANCEL_FEED = "POST_ORDER_ACKNOWLEDGEMENT_DATA"
REFUND_FEED = "POST_PAYMENT_ADJUSTMENT_DATA"
MERCHANT = "DEFAULT"
_CANCEL_REASONS = {"no_inventory": "NoInventory", "inventory": "NoInventory", "out_of_stock": "NoInventory"}
_BUYER = ("buyer", "customer")
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
            errors.setdefault(int(issue["messageId"]), []).append(
                f"{issue.get('code', '')}: {issue.get('message', '')}"
            )
    return [
        PushResult(item.listing_id, Retry.REJECTED, "; ".join(errors[number])[:400])
        if number in errors
        else PushResult(item.listing_id)
        for number, item in enumerate(items, 1)
    ]


# --- XML feeds ------------------------------------------------------------------------------------


def _envelope(seller_id: str, message_type: str) -> tuple[Element, Element]:
    root = Element("AmazonEnvelope")
    header = SubElement(root, "Header")
    SubElement(header, "DocumentVersion").text = "1.01"
    SubElement(header, "MerchantIdentifier").text = seller_id
    SubElement(root, "MessageType").text = message_type
    message = SubElement(root, "Message")
    SubElement(message, "MessageID").text = "1"
    return root, SubElement(message, message_type)


def _text(root: Element) -> bytes:
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def cancel_document(seller_id: str, order: CancelOrder) -> bytes:
    """An order acknowledgement with status Failure: cancels the named items, or the whole order."""
    root, body = _envelope(seller_id, "OrderAcknowledgement")
    SubElement(body, "AmazonOrderID").text = order.order_external_id
    SubElement(body, "StatusCode").text = "Failure"
    reason = _CANCEL_REASONS.get(order.reason.lower(), "")
    if not reason:
        reason = "BuyerCanceled" if order.reason.lower().startswith(_BUYER) else "GeneralAdjustment"
    for item in order.items:
        node = SubElement(body, "Item")
        SubElement(node, "AmazonOrderItemCode").text = item.line_external_id
        SubElement(node, "CancelReason").text = reason
    return _text(root)


def refund_document(seller_id: str, refund: RefundOrder) -> bytes:
    """A payment adjustment: per item its amount, shipping with the first; our reference stands on every item."""
    root, body = _envelope(seller_id, "OrderAdjustment")
    SubElement(body, "AmazonOrderID").text = refund.order_external_id
    fee = refund.fee
    for number, item in enumerate(refund.items):
        node = SubElement(body, "AdjustedItem")
        SubElement(node, "AmazonOrderItemCode").text = item.line_external_id
        SubElement(node, "MerchantAdjustmentItemID").text = refund.reference
        SubElement(node, "AdjustmentReason").text = "CustomerReturn"
        prices = SubElement(node, "ItemPriceAdjustments")
        kept = min(fee, item.amount)
        fee -= kept
        parts = [("Principal", item.amount - kept)] + ([("Shipping", refund.shipping)] if not number else [])
        for kind, amount in parts:
            if amount > 0:
                component = SubElement(prices, "Component")
                SubElement(component, "Type").text = kind
                money = SubElement(component, "Amount", currency=refund.currency)
                money.text = str(amount.quantize(Decimal("0.01")))
    return _text(root)


def report_error(content: bytes) -> str:
    """The first error of an XML processing report; empty when all went well. Raises ValueError when unreadable."""
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(f"the report is not XML: {error}") from error
    for result in root.iter("Result"):
        if result.findtext("ResultCode") == "Error":
            return result.findtext("ResultDescription") or "refused"
    return ""
