"""Commercial invoice for customs, and what must be known before one can be written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from fulfillment.carriers.base import AddressSpec, CustomsItem
from fulfillment.carriers.units import weight_in
from fulfillment.documents.page import Document, Sheet, money
from oms.core.money import quantize

INCOTERMS = ("EXW", "FCA", "FAS", "FOB", "CFR", "CIF", "CPT", "CIP", "DAP", "DPU", "DDP")
REASONS = ("sale", "replacement")
#: customs numbers as they are printed
NUMBERS = {"eori": "EORI", "ioss": "IOSS", "tax_id": "Tax id"}


@dataclass(frozen=True, slots=True)
class CustomsProblem:
    """What is missing, for which SKU and in which field, as a sentence with the fix."""

    sku: str
    field: str
    message: str


def customs_problems(
    items: Sequence[CustomsItem], *, parcel_weight_g: int | None, declared_value: Decimal, currency: str
) -> list[CustomsProblem]:
    """Everything that stops an international label of one parcel.

    HS code (6 to 10 digits), origin country and weight per SKU; one currency; the declared values must sum
    to `declared_value` and the net weights may not exceed the parcel's weight (None: not packed yet).
    """
    found = []
    for item in items:
        if not re.fullmatch(r"\d{6,10}", item.hs_code.replace(".", "").replace(" ", "")):
            found.append(
                CustomsProblem(item.sku, "hs_code", f"{item.sku} needs an HS code of 6 to 10 digits.")
            )
        if not re.fullmatch(r"[A-Z]{2}", item.origin_country):
            found.append(
                CustomsProblem(
                    item.sku, "origin_country", f"{item.sku} needs its country of origin, two letters."
                )
            )
        if item.weight_g <= 0:
            found.append(CustomsProblem(item.sku, "weight_g", f"{item.sku} needs a weight in grams."))
        if item.unit_value <= 0:
            found.append(
                CustomsProblem(item.sku, "unit_value", f"{item.sku} needs a customs value above zero.")
            )
        if item.currency != currency:
            found.append(
                CustomsProblem(
                    item.sku, "currency", f"{item.sku} is valued in {item.currency}, not {currency}."
                )
            )
    if not items:
        found.append(
            CustomsProblem("", "items", "There is nothing to declare: add the contents of the parcel.")
        )
        return found
    total = goods_value(items)
    if quantize(total, currency) != quantize(declared_value, currency):
        found.append(
            CustomsProblem(
                "",
                "declared_value",
                f"Declared values sum to {money(total, currency)}, the order to {money(declared_value, currency)}.",
            )
        )
    net = sum(item.quantity * item.weight_g for item in items)
    if parcel_weight_g is not None and net > parcel_weight_g:
        heaviest = max(items, key=lambda item: item.quantity * item.weight_g).sku
        found.append(
            CustomsProblem(
                "",
                "weight_g",
                f"The contents weigh {net:,} g by their SKUs, the whole parcel only {parcel_weight_g:,} g: weigh the "
                f"parcel again, or correct the weight of {heaviest}.",
            )
        )
    return found


def goods_value(items: Sequence[CustomsItem]) -> Decimal:
    """Sum of quantity × unit value, exact."""
    return sum((item.quantity * item.unit_value for item in items), Decimal(0))


@dataclass(frozen=True, slots=True)
class CommercialInvoice:
    """Money is in `currency`; `numbers` are the shipper's customs numbers by the names of NUMBERS."""

    number: str
    day: date
    shipper: AddressSpec
    consignee: AddressSpec
    items: tuple[CustomsItem, ...]
    currency: str
    incoterm: str
    parcels: int
    gross_weight_g: int
    reason: str = "sale"
    numbers: Mapping[str, str] = field(default_factory=dict)
    freight: Decimal = Decimal(0)
    tracking_numbers: tuple[str, ...] = ()


def _party(address: AddressSpec, numbers: Mapping[str, str] | None = None) -> str:
    lines = [*address.lines(), address.country]
    lines += [part for part in (address.phone, address.email) if part]
    lines += [f"{NUMBERS[name]} {number}" for name, number in (numbers or {}).items()]
    return "\n".join(lines)


def commercial_invoice(invoice: CommercialInvoice) -> Document:
    """The PDF. Raises ValueError for an unknown incoterm or reason, or no items."""
    if invoice.incoterm not in INCOTERMS:
        raise ValueError(f"incoterm {invoice.incoterm!r} is not one of {', '.join(INCOTERMS)}")
    if invoice.reason not in REASONS:
        raise ValueError(f"reason {invoice.reason!r} is not one of {', '.join(REASONS)}")
    if not invoice.items:
        raise ValueError("a commercial invoice needs at least one item")
    sheet = Sheet(f"Commercial invoice {invoice.number}", country=invoice.shipper.country)
    sheet.head("Commercial invoice", invoice.number)
    sheet.columns(
        ("SHIPPER", _party(invoice.shipper, invoice.numbers)), ("CONSIGNEE", _party(invoice.consignee))
    )
    sheet.columns(
        ("INVOICE", f"{invoice.number}\n{invoice.day:%d %b %Y}"),
        ("TERMS", f"{invoice.incoterm}, {invoice.currency}\nReason for export: {invoice.reason}"),
        (
            "PARCELS",
            f"{invoice.parcels}, gross {weight_in(invoice.gross_weight_g, 'kg', 3)} kg\n"
            + ", ".join(invoice.tracking_numbers),
        ),
    )
    rows = [
        [
            f"{item.description}\n{item.sku}",
            item.hs_code,
            item.origin_country,
            str(item.quantity),
            str(weight_in(item.quantity * item.weight_g, "kg", 3)),
            f"{item.unit_value:,}",
            f"{quantize(item.quantity * item.unit_value, invoice.currency):,}",
        ]
        for item in invoice.items
    ]
    goods = goods_value(invoice.items)
    net = sum(item.quantity * item.weight_g for item in invoice.items)
    sheet.table(
        ["Description", "HS code", "Origin", "Units", "Net kg", "Unit value", f"Value {invoice.currency}"],
        rows,
        [5, 2.2, 1.3, 1.2, 1.5, 2, 2.4],
        right=(3, 4, 5, 6),
        total=[
            "Goods", "", "", str(sum(item.quantity for item in invoice.items)), str(weight_in(net, "kg", 3)), "",
            money(goods, invoice.currency),
        ],
    )  # fmt: skip
    total = goods + invoice.freight
    sheet.table(
        ["", f"Amount {invoice.currency}"],
        [["Freight", money(invoice.freight, invoice.currency)]],
        [12, 4],
        right=(1,),
        total=["Invoice total", money(total, invoice.currency)],
    )
    sheet.add("We declare that this invoice states the true value and origin of the goods described.")
    sheet.gap(12)
    sheet.columns(("SIGNATURE", "_" * 32), ("NAME", "_" * 24), ("DATE", f"{invoice.day:%d %b %Y}"))
    return sheet.build()
