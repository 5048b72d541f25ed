"""What a submitted feed does: listings in JSON, order acknowledgement and payment adjustment in XML."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from defusedxml import ElementTree

from channels.sandbox.amazon.listings import apply_patches, listing
from channels.sandbox.amazon.seller import AmazonSeller, Document, Feed, stamp
from channels.sandbox.check import problems
from channels.sandbox.shop import Refund, RefundLine
from channels.sandbox.shopify.rest import cents

TEXT = {"type": "string", "minLength": 1}
PATCHES = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["op", "path"],
        "properties": {
            "op": {"type": "string", "enum": ["add", "replace", "merge", "delete"]},
            "path": TEXT,
            "value": {"type": "array", "items": {"type": "object", "open": True}},
        },
    },
}
LISTINGS_FEED: dict[str, Any] = {
    "type": "object",
    "required": ["header", "messages"],
    "properties": {
        "header": {
            "type": "object",
            "required": ["sellerId", "version"],
            "properties": {
                "sellerId": TEXT,
                "version": {"type": "string", "enum": ["2.0"]},
                "issueLocale": TEXT,
                "report": {
                    "type": "object",
                    "required": ["includedData", "apiVersion"],
                    "properties": {
                        "includedData": {"type": "array", "minItems": 1, "items": TEXT},
                        "apiVersion": {"type": "string", "enum": ["2021-08-01"]},
                    },
                },
            },
        },
        "messages": {
            "type": "array",
            "minItems": 1,
            "maxItems": 25000,
            "items": {
                "type": "object",
                "required": ["messageId", "sku", "operationType"],
                "properties": {
                    "messageId": {"type": "integer", "minimum": 1, "maximum": 2147483647},
                    "sku": TEXT,
                    "operationType": {
                        "type": "string",
                        "enum": ["UPDATE", "PARTIAL_UPDATE", "PATCH", "DELETE"],
                    },
                    "productType": TEXT,
                    "requirements": {
                        "type": "string",
                        "enum": ["LISTING", "LISTING_PRODUCT_ONLY", "LISTING_OFFER_ONLY"],
                    },
                    "attributes": {"type": "object", "open": True},
                    "patches": PATCHES,
                },
            },
        },
    },
}
CANCEL_REASONS = (
    "NoInventory",
    "ShippingAddressUndeliverable",
    "CustomerExchange",
    "BuyerCanceled",
    "GeneralAdjustment",
    "CarrierCreditDecision",
    "RiskAssessmentInformationNotValid",
    "CarrierCoverageFailure",
    "CustomerReturn",
    "MerchandiseNotReceived",
)
ADJUSTMENT_REASONS = (
    "NoInventory",
    "CustomerReturn",
    "GeneralAdjustment",
    "CouldNotShip",
    "DifferentItem",
    "Abandoned",
    "CustomerCancel",
    "PriceError",
    "ProductOutofStock",
    "CustomerAddressIncorrect",
    "Exchange",
    "Other",
    "CarrierCreditDecision",
    "RiskAssessmentInformationNotValid",
    "CarrierCoverageFailure",
    "TransactionRecord",
)
ADJUSTABLE = (
    "Principal",
    "Shipping",
    "Tax",
    "ShippingTax",
    "RestockingFee",
    "RestockingFeeTax",
    "GiftWrap",
    "GiftWrapTax",
    "Goodwill",
    "ExportCharge",
    "ReturnShipping",
)


def run_due(seller: AmazonSeller) -> None:
    """Process every feed whose time has come."""
    now = seller.world.now()
    for feed in seller.feeds.values():
        if feed.status == "IN_QUEUE" and feed.due_at <= now:
            process(seller, feed)


def process(seller: AmazonSeller, feed: Feed) -> None:
    document = seller.documents[feed.document_id]
    feed.started_at = seller.world.now()
    handler = HANDLERS[feed.type]
    try:
        report, content_type = handler(seller, feed, document.content)
        feed.status = "DONE"
    except ValueError as error:
        report, content_type = json.dumps({"fatal": str(error)}), "application/json"
        feed.status = "FATAL"
    feed.ended_at = seller.world.now()
    number = f"amzn1.tortuga.4.{seller.region}.{seller.world.serial('document')}"
    seller.documents[number] = Document(number, content_type, report, True)
    feed.result_document_id = number
    payload = {
        "sellerId": seller.id,
        "accountId": f"amzn1.merchant.o.{seller.id}",
        "feedId": feed.id,
        "feedType": feed.type,
        "processingStatus": feed.status,
        "resultFeedDocumentId": number,
    }
    seller.notify("FEED_PROCESSING_FINISHED", {"feedProcessingFinishedNotification": payload})


def listings_feed(seller: AmazonSeller, feed: Feed, content: str) -> tuple[str, str]:
    """JSON_LISTINGS_FEED v2. Raises ValueError when the whole file is unreadable."""
    body = json.loads(content)
    wrong = problems(body, LISTINGS_FEED, "feed")
    if wrong:
        raise ValueError("; ".join(wrong[:20]))
    if body["header"]["sellerId"] != seller.id:
        raise ValueError("feed.header.sellerId is not the selling partner of this account")
    found: list[dict[str, Any]] = []
    seen: set[int] = set()
    accepted = 0
    touched = []
    for message in body["messages"]:
        issues = []
        if message["messageId"] in seen:
            issues.append(
                {"code": "4000003", "severity": "ERROR", "message": "messageId must be unique in the feed."}
            )
        seen.add(message["messageId"])
        if not issues:
            issues = _message(seller, message)
        fatal = any(issue["severity"] == "ERROR" for issue in issues)
        accepted += not fatal
        touched += [message["sku"]] if not fatal else []
        found += [{"messageId": message["messageId"], "sku": message["sku"], **issue} for issue in issues]
    report: dict[str, Any] = {
        "header": {"sellerId": seller.id, "version": "2.0", "feedId": feed.id},
        "issues": found,
        "summary": {
            "errors": sum(issue["severity"] == "ERROR" for issue in found),
            "warnings": sum(issue["severity"] == "WARNING" for issue in found),
            "messagesProcessed": len(body["messages"]),
            "messagesAccepted": accepted,
            "messagesInvalid": len(body["messages"]) - accepted,
        },
    }
    asked = body["header"].get("report")
    if asked:
        report["header"]["report"] = asked
        report["items"] = [
            listing(seller, seller.items[sku], set(asked["includedData"]))
            for sku in touched
            if sku in seller.items
        ]
        items = len(report["items"])
        report["summary"]["itemSummary"] = {"items": items, "errors": 0, "warnings": 0}
    return json.dumps(report), "application/json"


def _message(seller: AmazonSeller, message: dict[str, Any]) -> list[dict[str, Any]]:
    kind = message["operationType"]
    needed = {"UPDATE": ["productType", "attributes"], "PARTIAL_UPDATE": ["productType", "attributes"]}
    required = needed.get(kind, ["productType", "patches"] if kind == "PATCH" else [])
    missing = [name for name in required if name not in message]
    if missing:
        text = f"'{missing[0]}' is required for {kind} but not supplied."
        return [{"code": "4000001", "severity": "ERROR", "message": text}]
    if kind not in ("PATCH", "PARTIAL_UPDATE"):
        text = f"{kind} messages are not played by the sandbox."
        return [{"code": "4000002", "severity": "ERROR", "message": text}]
    patches = message.get("patches") or [
        {"op": "replace", "path": f"/attributes/{name}", "value": value}
        for name, value in message["attributes"].items()
    ]
    issues = apply_patches(seller, message["sku"], patches, really=True)
    return [
        {key: value for key, value in issue.items() if key in ("code", "message", "severity")}
        for issue in issues
    ]


def envelope(content: str, message_type: str) -> list[Element]:
    """The Message elements of an AmazonEnvelope. Raises ValueError."""
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"The feed is not readable XML: {error}") from error
    if root.tag != "AmazonEnvelope" or root.findtext("MessageType") != message_type:
        raise ValueError(f"The feed must be an AmazonEnvelope with MessageType {message_type}.")
    return root.findall("Message")


def order_acknowledgement(seller: AmazonSeller, feed: Feed, content: str) -> tuple[str, str]:
    """POST_ORDER_ACKNOWLEDGEMENT_DATA: StatusCode Failure cancels the named items, or all."""
    results = []
    messages = envelope(content, "OrderAcknowledgement")
    for message in messages:
        number = message.findtext("MessageID", "")
        results.append((number, _acknowledge(seller, message.find("OrderAcknowledgement"))))
    return _report(feed, results), "text/xml"


def _acknowledge(seller: AmazonSeller, node: Element | None) -> str:
    if node is None:
        return "OrderAcknowledgement is missing"
    order = seller.orders.get(node.findtext("AmazonOrderID", ""))
    status = node.findtext("StatusCode", "")
    if order is None:
        return "AmazonOrderID is not an order of this seller"
    if status not in ("Success", "Failure"):
        return "StatusCode must be Success or Failure"
    if status == "Success":
        return ""
    if order.fulfilled_by == "channel":
        return "Orders fulfilled by Amazon cannot be cancelled by this feed"
    if order.cancelled_at:
        return "The order is already cancelled"
    if any(line.fulfilled for line in order.lines):
        return "The order is already shipped"
    lines = []
    for item in node.findall("Item"):
        found = [line for line in order.lines if line.id == item.findtext("AmazonOrderItemCode", "")]
        reason = item.findtext("CancelReason", "")
        if not found:
            return "AmazonOrderItemCode is not an item of the order"
        if reason not in CANCEL_REASONS:
            return f"CancelReason must be one of {', '.join(CANCEL_REASONS)}"
        lines.append((found[0], reason))
    reasons = [reason for _, reason in lines] or ["GeneralAdjustment"]
    if "NoInventory" in reasons:
        seller.count("cancelled_no_stock")
    if not lines or {line.id for line, _ in lines} == {line.id for line in order.lines if line.open}:
        seller.cancel(order, reasons[0], restock=False, by="merchant")
        return ""
    for line, reason in lines:
        line.cancel_reason = reason
        seller.take_off(order, line, line.open, restock=False)
    seller.touch(order)
    seller.announce("updated", order)
    return ""


def payment_adjustment(seller: AmazonSeller, feed: Feed, content: str) -> tuple[str, str]:
    """POST_PAYMENT_ADJUSTMENT_DATA: refunds per order item; never more than was paid for the item."""
    results = []
    for message in envelope(content, "OrderAdjustment"):
        results.append((message.findtext("MessageID", ""), _adjust(seller, message.find("OrderAdjustment"))))
    return _report(feed, results), "text/xml"


def _adjust(seller: AmazonSeller, node: Element | None) -> str:
    if node is None:
        return "OrderAdjustment is missing"
    order = seller.orders.get(node.findtext("AmazonOrderID", ""))
    if order is None:
        return "AmazonOrderID is not an order of this seller"
    if seller.status(order) not in ("SHIPPED", "PARTIALLY_SHIPPED"):
        return "Only shipped orders can be refunded"
    lines: list[RefundLine] = []
    reason, reference, total = "", "", Decimal(0)
    items = node.findall("AdjustedItem")
    if not items:
        return "AdjustedItem is required"
    for item in items:
        found = [line for line in order.lines if line.id == item.findtext("AmazonOrderItemCode", "")]
        if not found:
            return "AmazonOrderItemCode is not an item of the order"
        line = found[0]
        reason = item.findtext("AdjustmentReason", "")
        reference = item.findtext("MerchantAdjustmentItemID", reference)
        if reason not in ADJUSTMENT_REASONS:
            return f"AdjustmentReason must be one of {', '.join(ADJUSTMENT_REASONS)}"
        amount = Decimal(0)
        for component in item.iterfind("ItemPriceAdjustments/Component"):
            money = component.find("Amount")
            if component.findtext("Type", "") not in ADJUSTABLE or money is None:
                return "Component needs a known Type and an Amount"
            if money.get("currency") != order.currency:
                return f"Amount must be in {order.currency}"
            try:
                amount += Decimal(money.text or "")
            except InvalidOperation:
                return "Amount is not a number"
        if amount <= 0:
            return "The adjustment must be above 0"
        paid = (
            Decimal(line.price) * line.quantity
            - Decimal(line.discount)
            + Decimal(line.tax)
            + Decimal(order.shipping_price)
        )
        before = sum(
            (Decimal(x.amount) for refund in order.refunds for x in refund.lines if x.line_id == line.id),
            Decimal(0),
        )
        before += sum((Decimal(x.amount) for x in lines if x.line_id == line.id), Decimal(0))
        if before + amount > paid:
            return f"The refund exceeds what was paid for the item: {cents(paid - before)} is left"
        quantity = int(item.findtext("QuantityCancelled", "0") or 0)
        lines.append(RefundLine(line.id, quantity, "NO_RESTOCK", amount=cents(amount)))
        total += amount
    number = str(seller.world.serial("refund"))
    seller.add_refund(
        order, Refund(number, seller.world.now(), lines, cents(total), note=reference, reason=reason)
    )
    return ""


def _report(feed: Feed, results: list[tuple[str, str]]) -> str:
    """The processing report of an XML feed."""
    wrong = [(number, text) for number, text in results if text]
    lines = "".join(
        f"<Result><MessageID>{escape(number)}</MessageID><ResultCode>Error</ResultCode>"
        f"<ResultMessageCode>8000</ResultMessageCode><ResultDescription>{escape(text)}</ResultDescription></Result>"
        for number, text in wrong
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<AmazonEnvelope xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:noNamespaceSchemaLocation="amzn-envelope.xsd">'
        "<Header><DocumentVersion>1.02</DocumentVersion></Header><MessageType>ProcessingReport</MessageType>"
        f"<Message><MessageID>1</MessageID><ProcessingReport><DocumentTransactionID>{feed.id}</DocumentTransactionID>"
        "<StatusCode>Complete</StatusCode><ProcessingSummary>"
        f"<MessagesProcessed>{len(results)}</MessagesProcessed>"
        f"<MessagesSuccessful>{len(results) - len(wrong)}</MessagesSuccessful>"
        f"<MessagesWithError>{len(wrong)}</MessagesWithError><MessagesWithWarning>0</MessagesWithWarning>"
        f"</ProcessingSummary>{lines}</ProcessingReport></Message></AmazonEnvelope>"
    )


HANDLERS: dict[str, Callable[[AmazonSeller, Feed, str], tuple[str, str]]] = {
    "JSON_LISTINGS_FEED": listings_feed,
    "POST_ORDER_ACKNOWLEDGEMENT_DATA": order_acknowledgement,
    "POST_PAYMENT_ADJUSTMENT_DATA": payment_adjustment,
}


def shown(feed: Feed) -> dict[str, Any]:
    """A feed as getFeed answers it."""
    answer: dict[str, Any] = {
        "feedId": feed.id,
        "feedType": feed.type,
        "marketplaceIds": feed.marketplaces,
        "createdTime": stamp(feed.created_at),
        "processingStatus": feed.status,
    }
    if feed.started_at:
        answer["processingStartTime"] = stamp(feed.started_at)
    if feed.ended_at:
        answer["processingEndTime"] = stamp(feed.ended_at)
        answer["resultFeedDocumentId"] = feed.result_document_id
    return answer
