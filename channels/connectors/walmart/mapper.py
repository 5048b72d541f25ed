"""Walmart's purchase orders and returns as ours: pure functions over the Marketplace API v3 (US).

One line may hold several statuses at once, each for a quantity. Times are milliseconds since 1970, quantities are
texts, money is numbers. A purchase order is our order; several of them may share one customer order number.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from channels.connectors.base import RemoteReturn
from oms.orders.drafts import ZERO, ContactDraft, LineDraft, OrderDraft, Status

J = Mapping[str, Any]

OPEN = ("Created", "Acknowledged")
#: a refunded unit had left the house before
GONE = ("Shipped", "Delivered", "Refund")
CANCELLED = "Cancelled"
CENT = Decimal("0.01")
#: goods that Walmart or a third party it works with ships: never ours to ship
BY_CHANNEL = frozenset({"WFSFulfilled", "3PLFulfilled"})
_COUNTRIES = {"USA": "US", "CAN": "CA", "MEX": "MX", "PRI": "PR"}


class Unfit(ValueError):
    """An order that cannot be read; the text names the field."""


def when(milliseconds: Any, name: str) -> dt.datetime:
    """Aware UTC time of milliseconds since 1970; one schema of the contract knows the same as a text."""
    if isinstance(milliseconds, str):
        text = milliseconds.strip()
        if not text.isdigit():
            try:
                found = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
            except ValueError:
                raise Unfit(f"{name} is not a time") from None
            return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
        milliseconds = int(text)
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int):
        raise Unfit(f"{name} is not a time in milliseconds")
    return dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC) + dt.timedelta(
        milliseconds=milliseconds % 1000
    )


def amount(value: Any) -> Decimal:
    """A number as exact money; nothing is 0."""
    return ZERO if value is None else Decimal(str(value))


def units(quantity: J, name: str) -> int:
    """{unitOfMeasurement, amount: "2"} as whole units."""
    found = Decimal(str(quantity["amount"]))
    if found != found.to_integral_value() or found < 0:
        raise Unfit(f"{name} {quantity['amount']} is not a whole number of units")
    return int(found)


def lines_of(order: J) -> list[J]:
    return list((order.get("orderLines") or {}).get("orderLine") or ())


def statuses_of(line: J) -> list[J]:
    return list((line.get("orderLineStatuses") or {}).get("orderLineStatus") or ())


def by_status(line: J) -> Counter[str]:
    """Units of a line by the platform's own status."""
    found: Counter[str] = Counter()
    for entry in statuses_of(line):
        found[str(entry["status"])] += units(entry["statusQuantity"], "statusQuantity")
    return found


def open_units(line: J) -> int:
    found = by_status(line)
    return sum(found[name] for name in OPEN)


def tracked_units(line: J, tracking: str) -> int:
    """Units of a line that left under a tracking number."""
    return sum(
        units(entry["statusQuantity"], "statusQuantity")
        for entry in statuses_of(line)
        if entry["status"] in GONE
        and str((entry.get("trackingInfo") or {}).get("trackingNumber")) == tracking
    )


def wants_cancel(line: J) -> bool:
    """The buyer asked to cancel the line and Walmart waits for our answer."""
    told = str(line.get("intentToCancel") or "").strip().lower()
    return told not in ("", "false", "n", "no", "0", "none")


def charges(line: J, times: int = 1) -> Iterator[tuple[str, Decimal, Decimal, str]]:
    """(type, amount, tax, name) of the charges of a line, each `times` over."""
    for charge in (line.get("charges") or {}).get("charge") or ():
        tax = amount(((charge.get("tax") or {}).get("taxAmount") or {}).get("amount"))
        yield (
            str(charge["chargeType"]).upper(),
            amount(charge["chargeAmount"]["amount"]) * times,
            tax * times,
            str(charge.get("chargeName") or ""),
        )


def product_value(line: J) -> tuple[Decimal, Decimal]:
    """(goods after discounts, their tax) of a whole line."""
    goods = tax = ZERO
    for kind, price, its_tax, _ in charges(line):
        if kind == "PRODUCT":
            goods, tax = goods + price, tax + its_tax
    return goods, tax


def split_tax(line: J, paid_back: Decimal) -> tuple[Decimal, Decimal]:
    """(goods, tax) of money given back for a line, in the proportion in which both were paid, to the cent."""
    goods, tax = product_value(line)
    if goods <= 0 or tax <= 0:
        return paid_back, ZERO
    share = (paid_back * tax / (goods + tax)).quantize(CENT, ROUND_HALF_UP)
    return paid_back - share, share


def _per_unit(order: J, rows: list[J]) -> bool:
    """Are charges told for one unit? The contract speaks of the line; the order's total decides where it is told."""
    told = ((order.get("orderSummary") or {}).get("totalAmount") or {}).get("currencyAmount")
    if told is None:
        return False
    by_line = by_unit = ZERO
    for row in rows:
        paid = sum((money + tax for _, money, tax, _ in charges(row)), ZERO)
        by_line += paid
        by_unit += paid * units(row["orderLineQuantity"], "orderLineQuantity")
    return amount(told) == by_unit != by_line


@dataclass(slots=True)
class Paid:
    """What the charges of a line come to. `fees`: position, name, amount and tax of what the buyer pays beside it."""

    price: Decimal = ZERO
    off: Decimal = ZERO
    line_tax: Decimal = ZERO
    shipping: Decimal = ZERO
    all_tax: Decimal = ZERO
    fees: list[tuple[int, str, Decimal, Decimal]] = field(default_factory=list)


def _paid(row: J, times: int) -> Paid:
    found = Paid()
    for position, (kind, money, its_tax, name) in enumerate(charges(row, times), 1):
        found.all_tax += its_tax
        if kind == "SHIPPING":
            found.shipping += money
        elif kind != "PRODUCT" and money > 0:
            found.fees.append((position, name or kind, money, its_tax))
        else:
            found.line_tax += its_tax
            found.off -= min(money, ZERO)
            found.price += max(money, ZERO)
    return found


def _status(waiting: int, sent: Mapping[str, int]) -> Status:
    """`waiting` units are still ours to send; `sent` counts those that left, by Walmart's word for it."""
    if waiting:
        return "open"
    if not sum(sent.values()):
        return "cancelled"
    return "delivered" if sent.get("Delivered") and not sent.get("Shipped") else "shipped"


def order_draft(order: J) -> OrderDraft:
    """A purchase order. Raises ValueError or KeyError when a required field is missing."""
    shipping_info = order["shippingInfo"]
    placed_at = when(order["orderDate"], "orderDate")
    rows = lines_of(order)
    if not rows:
        raise Unfit("orderLines holds no line")
    per_unit = _per_unit(order, rows)
    lines: list[LineDraft] = []
    subtotal = discount = shipping = tax = ZERO
    currency = ""
    newest, waiting, sent, reasons = placed_at, 0, Counter[str](), []
    wanted = False
    for row in rows:
        number, quantity = str(row["lineNumber"]), units(row["orderLineQuantity"], "orderLineQuantity")
        if not quantity:
            continue
        if row.get("statusDate") is not None:
            newest = max(newest, when(row["statusDate"], "statusDate"))
        found = by_status(row)
        cancelled = min(quantity, found[CANCELLED])
        shipped = min(quantity - cancelled, sum(found[name] for name in GONE))
        left = quantity - cancelled - shipped
        waiting += left
        sent.update({name: found[name] for name in GONE})
        wanted |= bool(left) and wants_cancel(row)
        reasons += [
            str(entry["cancellationReason"]) for entry in statuses_of(row) if entry.get("cancellationReason")
        ]
        paid = _paid(row, quantity if per_unit else 1)
        lines += [
            LineDraft(
                external_id=f"{number}-fee-{position}", quantity=1, title=name, kind="service", unit_price=money,
                tax=its_tax, shipped=int(not left and bool(shipped)), cancelled=int(not left and not shipped),
            )
            for position, name, money, its_tax in paid.fees
        ]  # fmt: skip
        for charge in (row.get("charges") or {}).get("charge") or ():
            currency = currency or str(charge["chargeAmount"]["currency"])
        fees = sum((money for _, _, money, _ in paid.fees), ZERO)
        subtotal, discount = subtotal + paid.price + fees, discount + paid.off
        shipping, tax = shipping + paid.shipping, tax + paid.all_tax
        lines.append(
            LineDraft(
                external_id=number,
                quantity=quantity,
                external_sku=str(row["item"]["sku"]),
                title=str(row["item"].get("productName") or ""),
                listing_ref=str(row["item"]["sku"]),
                unit_price=(paid.price / quantity).quantize(Decimal("0.0001"), ROUND_HALF_UP),
                discount=paid.off,
                tax=paid.line_tax,
                shipped=shipped,
                cancelled=cancelled,
            )
        )
    status = _status(waiting, sent)
    node = str((order.get("shipNode") or {}).get("type") or "SellerFulfilled")
    replaced = str(order.get("orderType") or "").upper() == "REPLACEMENT"
    return OrderDraft(
        external_id=str(order["purchaseOrderId"]),
        external_number=str(order.get("customerOrderId") or order["purchaseOrderId"]),
        placed_at=placed_at,
        channel_updated_at=newest,
        currency=currency or "USD",
        lines=tuple(lines),
        status=status,
        kind="replacement" if replaced else "sale",
        fulfilled_by="channel" if node in BY_CHANNEL else "us",
        ship_by=when(shipping_info["estimatedShipDate"], "estimatedShipDate"),
        deliver_by=when(shipping_info["estimatedDeliveryDate"], "estimatedDeliveryDate"),
        service_level=str(shipping_info.get("methodCode") or ""),
        buyer_cancel_requested=wanted,
        cancel_reason=reasons[0] if reasons and status == "cancelled" else "",
        contact=_contact(order, shipping_info),
        subtotal=subtotal,
        discount=discount,
        shipping=shipping,
        tax=tax,
        total=subtotal - discount + shipping + tax,
    )


def _contact(order: J, shipping_info: J) -> ContactDraft | None:
    to = shipping_info.get("postalAddress")
    if not to:
        return None
    country = str(to.get("country") or "").upper()
    return ContactDraft(
        name=str(to.get("name") or ""),
        email=str(order.get("customerEmailId") or ""),
        phone=str(shipping_info.get("phone") or ""),
        address1=str(to.get("address1") or ""),
        address2=str(to.get("address2") or ""),
        city=str(to.get("city") or ""),
        region=str(to.get("state") or ""),
        postal_code=str(to.get("postalCode") or ""),
        country=_COUNTRIES.get(country, country[:2]),
        residential=str(to.get("addressType") or "RESIDENTIAL").upper() == "RESIDENTIAL",
    )


def returns_of(entry: J) -> list[RemoteReturn]:
    """One return order as one return per purchase order; lines whose goods the buyer keeps are not waited for."""
    number = str(entry["returnOrderId"])
    found: dict[str, list[tuple[str, int, str]]] = {}
    done: dict[str, bool] = {}
    for line in entry.get("returnOrderLines") or ():
        order = str(line.get("purchaseOrderId") or "")
        if not order:
            continue
        done[order] = done.get(order, True) and str(line.get("status") or "").upper() == "COMPLETED"
        lines = found.setdefault(order, [])
        if line.get("isKeepIt") or line.get("returnExpectedFlag") is False:
            continue
        count = int(Decimal(str((line.get("quantity") or {}).get("measurementValue") or 0)))
        lines.append((str(line["purchaseOrderLineNumber"]), count, str(line.get("returnReason") or "")))
    return [
        RemoteReturn(
            external_id=number if len(found) == 1 else f"{number}:{order}",
            order_external_id=order,
            # Walmart sends the buyer a label at once: nobody is asked to approve
            state="closed" if done[order] else "approved",
            lines=tuple(lines),
            note=f"customer order {entry.get('customerOrderId') or ''}".strip(),
        )
        for order, lines in found.items()
    ]
