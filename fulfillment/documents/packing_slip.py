"""Packing slips: what is in the box, without prices unless asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from fulfillment.carriers.base import AddressSpec
from fulfillment.documents.page import Document, Sheet, money


@dataclass(frozen=True, slots=True)
class SlipLine:
    """`quantity` is in this box, `ordered` in the whole order; `unit_price` is printed only when set."""

    sku: str
    title: str
    quantity: int
    ordered: int
    unit_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PackingSlip:
    shipment_number: str
    order_number: str
    brand: str
    ordered_on: date
    ship_to: AddressSpec
    ship_from: AddressSpec
    lines: tuple[SlipLine, ...]
    currency: str = "USD"
    service: str = ""
    message: str = ""
    returns_note: str = ""


def packing_slips(slips: Sequence[PackingSlip]) -> Document:
    """One PDF, each slip on a new page, paper size of the first slip's warehouse. Raises ValueError for none."""
    if not slips:
        raise ValueError("no packing slip to print")
    title = f"Packing slip {slips[0].shipment_number}" if len(slips) == 1 else f"{len(slips)} packing slips"
    sheet = Sheet(title, country=slips[0].ship_from.country)
    for number, slip in enumerate(slips):
        if number:
            sheet.next_page()
        _slip(sheet, slip)
    return sheet.build()


def _slip(sheet: Sheet, slip: PackingSlip) -> None:
    sheet.head(slip.brand, slip.shipment_number)
    facts = [
        f"Order {slip.order_number}",
        f"Ordered {slip.ordered_on:%d %b %Y}",
        f"Shipment {slip.shipment_number}",
    ]
    if slip.service:
        facts.append(slip.service)
    sheet.columns(
        ("SHIP TO", "\n".join([*slip.ship_to.lines(), slip.ship_to.country])),
        ("FROM", "\n".join([*slip.ship_from.lines(), slip.ship_from.country])),
        ("PACKING SLIP", "\n".join(facts)),
    )
    priced = any(line.unit_price is not None for line in slip.lines)
    header = ["SKU", "Item", "In this box", "Ordered"] + (["Price"] if priced else [])
    rows = []
    for line in slip.lines:
        row = [line.sku, line.title, str(line.quantity), str(line.ordered)]
        if priced:
            row.append(money(line.unit_price, slip.currency) if line.unit_price is not None else "")
        rows.append(row)
    total = ["", "Units", str(sum(line.quantity for line in slip.lines)), ""] + ([""] if priced else [])
    sheet.table(header, rows, [3, 7, 2, 2] + ([2.5] if priced else []), right=(2, 3, 4), total=total)
    rest = sum(line.ordered - line.quantity for line in slip.lines)
    if rest > 0:
        sheet.add("The rest of your order comes separately.")
        sheet.gap(2)
    for words in (slip.message, slip.returns_note):
        if words:
            sheet.add(words)
            sheet.gap(2)
