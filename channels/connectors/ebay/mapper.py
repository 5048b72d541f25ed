"""eBay's orders, cancellations, refunds and returns as ours: pure functions over the Fulfillment API's `Order`.

The contract names no enumeration, so an unknown payment status is read as "not paid yet": stock is kept, nothing is
shipped. `lineItemCost` is the price of all units before discounts; discounts of an order are negative amounts. Tax
that eBay collects and pays itself is no part of `pricingSummary.total` and none of ours.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from channels.connectors.base import RefundItem, RefundOrder, RemoteReturn
from oms.orders.drafts import ZERO, ContactDraft, LineDraft, OrderDraft, Status

J = Mapping[str, Any]

#: marketplaces an account can sell on, with the currency of their listings
MARKETPLACES = {
    "EBAY_US": "USD", "EBAY_MOTORS_US": "USD", "EBAY_CA": "CAD", "EBAY_GB": "GBP", "EBAY_AU": "AUD", "EBAY_AT": "EUR",
    "EBAY_BE": "EUR", "EBAY_DE": "EUR", "EBAY_ES": "EUR", "EBAY_FR": "EUR", "EBAY_IE": "EUR", "EBAY_IT": "EUR",
    "EBAY_NL": "EUR", "EBAY_PL": "PLN", "EBAY_CH": "CHF", "EBAY_HK": "HKD", "EBAY_SG": "SGD", "EBAY_MY": "MYR",
    "EBAY_PH": "PHP",
}  # fmt: skip
PAID = frozenset({"PAID", "PARTIALLY_REFUNDED", "FULLY_REFUNDED"})
#: cancellation requests in these states are over
_CLOSED = frozenset({"COMPLETED", "CANCELED", "CANCELLED", "CLOSED", "REJECTED", "DECLINED"})
_REFUSED = frozenset({"REJECTED", "DECLINED"})
#: words of a cancellation's or refund's reason → eBay's codes; the first word found decides
_CANCEL_REASONS = (
    ("address", "ADDRESS_ISSUES"),
    ("buyer", "BUYER_ASKED_CANCEL"),
    ("customer", "BUYER_ASKED_CANCEL"),
)
_REFUND_REASONS = (
    ("stock", "SELLER_CANCEL"),
    ("cancel", "BUYER_CANCEL"),
    ("wrong", "ITEM_NOT_AS_DESCRIBED"),
    ("lost", "ITEM_NOT_RECEIVED"),
    ("received", "ITEM_NOT_RECEIVED"),
    ("damage", "ITEM_NOT_AS_DESCRIBED"),
    ("defect", "ITEM_NOT_AS_DESCRIBED"),
    ("described", "ITEM_NOT_AS_DESCRIBED"),
    ("return", "BUYER_RETURN"),
)


class Unfit(ValueError):
    """An order that cannot be read; the text names the field."""


def when(value: Any) -> dt.datetime | None:
    """Aware time of an ISO 8601 text; None for nothing."""
    if not value:
        return None
    found = dt.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _time(value: Any, name: str) -> dt.datetime:
    found = when(value)
    if found is None:
        raise Unfit(f"{name} is missing")
    return found


def text_of(moment: dt.datetime) -> str:
    """eBay's way to write a time: UTC with milliseconds."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def amount(value: Any, currency: str = "") -> Decimal:
    """An `Amount` container; nothing is 0. Raises `Unfit` when it is in another currency than the order."""
    if not value:
        return ZERO
    if currency and value.get("currency") and value["currency"] != currency:
        raise Unfit(f"an amount is in {value['currency']}, the order in {currency}")
    return Decimal(str(value["value"]))


def tracking_text(number: str) -> str:
    """A tracking number as eBay takes it: letters and digits only."""
    return re.sub(r"[^0-9A-Za-z]", "", number)


# --- orders ----------------------------------------------------------------------------------------


def open_requests(order: J) -> list[J]:
    """Cancellation requests that nobody has answered yet."""
    requests = (order.get("cancelStatus") or {}).get("cancelRequests") or ()
    return [one for one in requests if str(one.get("cancelRequestState", "")).upper() not in _CLOSED]


def buyer_asks(order: J) -> bool:
    """Does the buyer want the order cancelled and has no answer?"""
    status = order.get("cancelStatus") or {}
    if status.get("cancelState") in ("CANCELED", "CANCELLED"):
        return False
    if status.get("cancelRequests"):
        return any(str(one.get("cancelInitiator", "")).upper() != "SELLER" for one in open_requests(order))
    return status.get("cancelState") == "IN_PROGRESS"


def is_cancelled(order: J) -> bool:
    return str((order.get("cancelStatus") or {}).get("cancelState")) in ("CANCELED", "CANCELLED")


def refused_request(order: J, number: str) -> bool:
    """Was the cancellation of this id turned down?"""
    requests = (order.get("cancelStatus") or {}).get("cancelRequests") or ()
    return any(
        str(one.get("cancelRequestId")) == number
        and str(one.get("cancelRequestState", "")).upper() in _REFUSED
        for one in requests
    )


def status_of(order: J) -> Status:
    payment = str(order.get("orderPaymentStatus") or "")
    if is_cancelled(order):
        return "cancelled"
    if order.get("orderFulfillmentStatus") == "FULFILLED":
        return "shipped"
    if payment == "FULLY_REFUNDED":  # the money is back: what has not left stays here
        return "cancelled"
    return "open" if payment in PAID else "pending"


def sent_units(fulfilments: Iterable[J]) -> Counter[str]:
    """Units by line id in the parcels that eBay shows."""
    units: Counter[str] = Counter()
    for parcel in fulfilments:
        for line in parcel.get("lineItems") or ():
            units[str(line["lineItemId"])] += int(line.get("quantity") or 0)
    return units


def order_draft(order: J, fulfilments: Sequence[J] = ()) -> OrderDraft:
    """An order of getOrder(s). `fulfilments` say how many units of a partly shipped line have left.

    Raises ValueError or KeyError when a required field is missing.
    """
    summary = order["pricingSummary"]
    currency = str(summary["total"]["currency"])
    status, away = status_of(order), sent_units(fulfilments)
    lines = [_line(item, currency, status, away) for item in order["lineItems"] if int(item["quantity"]) > 0]
    discount = -amount(summary.get("priceDiscount"), currency)
    adjustment = amount(summary.get("adjustment"), currency)
    if adjustment < 0:
        discount -= adjustment
    extra = {"adjustment": max(adjustment, ZERO), "fee": amount(summary.get("fee"), currency)}
    for name, price in extra.items():
        if price:
            lines.append(
                LineDraft(
                    external_id=name, quantity=1, title=name.capitalize(), kind="service", unit_price=price,
                    shipped=int(status == "shipped"), cancelled=int(status == "cancelled"),
                )
            )  # fmt: skip
    start = (order.get("fulfillmentStartInstructions") or [{}])[0]
    step = start.get("shippingStep") or {}
    told = [item.get("lineItemFulfillmentInstructions") or {} for item in order["lineItems"]]
    program = order.get("program") or {}
    by_channel = (program.get("fulfillmentProgram") or {}).get("fulfilledBy") == "EBAY"
    requests = (order.get("cancelStatus") or {}).get("cancelRequests") or ()
    return OrderDraft(
        external_id=str(order["orderId"]),
        external_number=str(order["orderId"]),
        placed_at=_time(order.get("creationDate"), "creationDate"),
        channel_updated_at=_time(order.get("lastModifiedDate"), "lastModifiedDate"),
        currency=currency,
        lines=tuple(lines),
        status=status,
        payment_state=str(order.get("orderPaymentStatus") or "").lower()[:20],
        fulfilled_by="channel" if by_channel else "us",
        ship_by=_earliest(one.get("shipByDate") for one in told),
        deliver_by=_earliest(one.get("maxEstimatedDeliveryDate") for one in told),
        service_level=str(step.get("shippingServiceCode") or start.get("fulfillmentInstructionsType") or ""),
        buyer_cancel_requested=buyer_asks(order),
        cancel_reason=_cancel_reason(requests) if status == "cancelled" else "",
        contact=_contact(order, step),
        subtotal=amount(summary.get("priceSubtotal"), currency) + sum(extra.values(), ZERO),
        discount=discount,
        shipping=amount(summary.get("deliveryCost"), currency)
        + amount(summary.get("deliveryDiscount"), currency),
        tax=amount(summary.get("tax"), currency),
        total=amount(summary["total"], currency),
        tags=("authenticity guarantee",) if program.get("authenticityVerification") else (),
    )


def _line(item: J, currency: str, status: Status, away: Counter[str]) -> LineDraft:
    number, quantity = str(item["lineItemId"]), int(item["quantity"])
    cost = amount(item["lineItemCost"], currency)
    reduced = item.get("discountedLineItemCost")
    done = status == "shipped" or item.get("lineItemFulfillmentStatus") == "FULFILLED"
    shipped = quantity if done else min(quantity, away[number])
    return LineDraft(
        external_id=number,
        quantity=quantity,
        external_sku=str(item.get("sku") or ""),
        title=str(item.get("title") or ""),
        # all variations of a listing share its number: it names the goods only where there are none
        listing_ref="" if item.get("legacyVariationId") not in (None, "", "0") else str(item.get("legacyItemId") or ""),
        unit_price=(cost / quantity).quantize(Decimal("0.0001")),
        discount=cost - amount(reduced, currency) if reduced else ZERO,
        tax=sum((amount(tax.get("amount"), currency) for tax in item.get("taxes") or ()), ZERO),
        shipped=shipped,
        cancelled=quantity - shipped if status == "cancelled" else 0,
    )  # fmt: skip


def _earliest(texts: Iterable[Any]) -> dt.datetime | None:
    moments = [moment for moment in map(when, texts) if moment is not None]
    return min(moments, default=None)


def _cancel_reason(requests: Sequence[J]) -> str:
    named = [str(one["cancelReason"]) for one in requests if one.get("cancelReason")]
    return named[-1].lower().replace("_", " ") if named else "cancelled on eBay"


def _contact(order: J, step: J) -> ContactDraft | None:
    """Always `shipTo`: the authenticator's or the international hub's address where one stands between.

    The hub finds the parcel by `shipToReferenceId`, which belongs on the label.
    """
    to = step.get("shipTo") or {}
    address = to.get("contactAddress") or {}
    if not address:
        return None
    reference = str(step.get("shipToReferenceId") or "")
    return ContactDraft(
        name=str(to.get("fullName") or ""),
        company=str(to.get("companyName") or ""),
        email=str(to.get("email") or ""),
        phone=str((to.get("primaryPhone") or {}).get("phoneNumber") or ""),
        address1=str(address.get("addressLine1") or ""),
        address2=str(address.get("addressLine2") or ""),
        address3=f"Ref {reference}" if reference else "",
        city=str(address.get("city") or ""),
        region=str(address.get("stateOrProvince") or address.get("county") or ""),
        postal_code=str(address.get("postalCode") or ""),
        country=str(address.get("countryCode") or ""),
        note=str(order.get("buyerCheckoutNotes") or ""),
        residential=not to.get("companyName"),
    )


# --- cancellations and refunds ---------------------------------------------------------------------


def cancel_reason(words: str) -> str:
    """eBay's code of a seller's reason to cancel."""
    return _code(words, _CANCEL_REASONS, "OUT_OF_STOCK_OR_CANNOT_FULFILL")


def _code(words: str, table: Sequence[tuple[str, str]], otherwise: str) -> str:
    return next((code for word, code in table if word in words.lower()), otherwise)


def refund_body(refund: RefundOrder, line_count: int) -> dict[str, Any]:
    """The body of issueRefund.

    Lines are named only in an order of several lines whose money is all for them; shipping, fees and goodwill can
    only be given back at the level of the order.
    """
    comment = " ".join(filter(None, (refund.reference, refund.reason)))[:100]
    body: dict[str, Any] = {
        "reasonForRefund": _code(refund.reason, _REFUND_REASONS, "OTHER_ADJUSTMENT"),
        "comment": comment,
    }
    by_line = _by_line(refund.items)
    if line_count > 1 and by_line and sum(by_line.values(), ZERO) == refund.amount:
        body["refundItems"] = [
            {"lineItemId": line, "refundAmount": {"value": str(money), "currency": refund.currency}}
            for line, money in by_line.items()
        ]
    else:
        body["orderLevelRefundAmount"] = {"value": str(refund.amount), "currency": refund.currency}
    return body


def _by_line(items: Sequence[RefundItem]) -> dict[str, Decimal]:
    """Money by line id; empty when some of it is for a line that eBay does not know as one."""
    found: dict[str, Decimal] = {}
    for item in items:
        if not item.line_external_id.isdigit():
            return {}
        if item.amount:
            found[item.line_external_id] = found.get(item.line_external_id, ZERO) + item.amount
    return found


def refunds_of(order: J) -> dict[str, tuple[Decimal, str]]:
    """Refund id → (amount, status). Those of single lines carry no status and are shown once they are paid.

    An id may stand at several lines: its amounts are one refund.
    """
    found: dict[str, tuple[Decimal, str]] = {}
    for one in (order.get("paymentSummary") or {}).get("refunds") or ():
        if one.get("refundId"):
            found[str(one["refundId"])] = (
                amount(one.get("amount")),
                str(one.get("refundStatus") or "PENDING"),
            )
    whole = set(found)
    for item in order.get("lineItems") or ():
        for one in item.get("refunds") or ():
            number = str(one.get("refundId") or "")
            if number and number not in whole:
                before = found.get(number, (ZERO, ""))[0]
                status = "REFUNDED" if one.get("refundDate") else "PENDING"
                found[number] = (before + amount(one.get("amount")), status)
    return found  # fmt: skip


# --- returns ---------------------------------------------------------------------------------------


def return_state(entry: J) -> str:
    """The port's word for a return's state: what is not open to a decision any more counts as approved."""
    state = f"{entry.get('state') or ''} {entry.get('status') or ''}".upper()
    if "REJECT" in state or "DECLINE" in state:
        return "declined"
    if "CLOSED" in state or "CANCEL" in state:
        return "closed"
    return "requested" if "RETURN_REQUESTED" in state or "WAITING_FOR_SELLER" in state else "approved"


def remote_return(entry: J, order: J) -> RemoteReturn:
    """A return of the Post-Order API with the order it belongs to. The item is named by listing and transaction."""
    facts = entry.get("creationInfo") or {}
    item = facts.get("item") or {}
    reason = str(facts.get("reason") or "").lower().replace("_", " ")
    comment = facts.get("comments")
    said = str(comment.get("content") or "") if isinstance(comment, Mapping) else str(comment or "")
    line = _returned_line(item, order)
    units = int(item.get("returnQuantity") or 1)
    return RemoteReturn(
        external_id=str(entry["returnId"]),
        order_external_id=str(order["orderId"]),
        state=return_state(entry),
        lines=((line, units, reason),) if line else (),
        note=said,
    )


def _returned_line(item: J, order: J) -> str:
    lines = order.get("lineItems") or ()
    for line in lines:
        if str(line["lineItemId"]) == str(item.get("transactionId")):
            return str(line["lineItemId"])
    same = [line for line in lines if str(line.get("legacyItemId")) == str(item.get("itemId"))]
    return str(same[0]["lineItemId"]) if len(same) == 1 else ""
