"""Purchase orders on paper, for the supplier."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from fulfillment.carriers.base import AddressSpec
from fulfillment.documents.page import Document, Sheet, money
from oms.core.money import quantize


@dataclass(frozen=True, slots=True)
class OrderedItem:
    """Quantity in eaches; price per each in the order's currency."""

    number: int
    sku: str
    supplier_sku: str
    title: str
    quantity: int
    unit_price: Decimal
    expected_on: date | None = None


@dataclass(frozen=True, slots=True)
class PurchaseOrderSheet:
    number: str
    company: str
    supplier_name: str
    supplier_address: str
    ship_to: AddressSpec
    currency: str
    ordered_on: date
    items: tuple[OrderedItem, ...]
    expected_on: date | None = None
    payment_terms: str = ""
    note: str = ""


def total_of(order: PurchaseOrderSheet) -> Decimal:
    """Sum of the lines as printed, each rounded to the coin."""
    return sum(
        (quantize(item.quantity * item.unit_price, order.currency) for item in order.items), Decimal(0)
    )


def purchase_order(order: PurchaseOrderSheet) -> Document:
    """The PDF; paper size of the country it is delivered to."""
    sheet = Sheet(f"Purchase order {order.number}", country=order.ship_to.country)
    sheet.head(f"Purchase order {order.number}", order.number)
    facts = [order.company, f"Ordered {order.ordered_on:%d %b %Y}"]
    if order.expected_on:
        facts.append(f"Expected {order.expected_on:%d %b %Y}")
    if order.payment_terms:
        facts.append(f"Terms {order.payment_terms}")
    sheet.columns(
        ("SUPPLIER", f"{order.supplier_name}\n{order.supplier_address}".strip()),
        ("DELIVER TO", "\n".join([*order.ship_to.lines(), order.ship_to.country])),
        ("ORDER", "\n".join(facts)),
    )
    rows = [
        [
            str(item.number),
            item.sku + (f"\nyours: {item.supplier_sku}" if item.supplier_sku else ""),
            item.title + (f"\nexpected {item.expected_on:%d %b %Y}" if item.expected_on else ""),
            str(item.quantity),
            f"{item.unit_price.normalize():f}",
            f"{quantize(item.quantity * item.unit_price, order.currency):,}",
        ]
        for item in order.items
    ]
    units = sum(item.quantity for item in order.items)
    sheet.table(
        ["#", "SKU", "Item", "Units", f"Price {order.currency}", f"Amount {order.currency}"],
        rows,
        [0.8, 3, 5, 1.5, 2, 2.4],
        right=(3, 4, 5),
        total=["", "", "Total", str(units), "", money(total_of(order), order.currency)],
    )
    if order.note:
        sheet.add(order.note)
    return sheet.build()
