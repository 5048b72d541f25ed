"""Commercial invoice for customs, and what must be known before one can be written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from fulfillment.carriers.base import AddressSpec, CustomsItem
from fulfillment.carriers.units import weight_in
from fulfillment.documents.page import Document, Sheet, money
from oms.core.money import quantize

INCOTERMS = ("EXW", "FCA", "FAS", "FOB", "CFR", "CIF", "CPT", "CIP", "DAP", "DPU", "DDP")
REASONS = ("sale", "gift", "sample", "return", "repair", "other")


@dataclass(frozen=True, slots=True)
class CustomsProblem:
    """What is missing, for which SKU and in which field, as a sentence with the fix."""

    sku: str
    field: str
    message: str


def customs_problems(
    items: Sequence[CustomsItem], *, parcel_weight_g: int, declared_value: Decimal, currency: str
) -> list[CustomsProblem]:
    """Everything that stops an international label.

    HS code (6 to 10 digits), origin country and weight per SKU; one currency; the declared values must sum
    to `declared_value` and the net weights may not exceed the parcels' weight.
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
            found.append(CustomsProblem(item.sku, "weight_g", f"{item.sku} needs a weight."))
        if item.unit_value <= 0:
            found.append(CustomsProblem(item.sku, "unit_value", f"{item.sku} needs a value above zero."))
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
    if net > parcel_weight_g:
        found.append(
            CustomsProblem(
                "", "weight_g", f"Contents weigh {net} g, more than the parcels with {parcel_weight_g} g."
            )
        )
    return found


def goods_value(items: Sequence[CustomsItem]) -> Decimal:
    """Sum of quantity × unit value, exact."""
    return sum((item.quantity * item.unit_value for item in items), Decimal(0))


@dataclass(frozen=True, slots=True)
class CommercialInvoice:
    """`importer` is set only when it is not the consignee. Money is in `currency`."""

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
    importer: AddressSpec | None = None
    shipper_tax_id: str = ""
    consignee_tax_id: str = ""
    freight: Decimal = Decimal(0)
    insurance: Decimal = Decimal(0)
    tracking_numbers: tuple[str, ...] = ()
    signed_by: str = ""


def _party(address: AddressSpec, tax_id: str = "") -> str:
    lines = [*address.lines(), address.country]
    lines += [part for part in (address.phone, address.email) if part]
    return "\n".join([*lines, *([f"Tax id {tax_id}"] if tax_id else [])])


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
    parties = [
        ("SHIPPER", _party(invoice.shipper, invoice.shipper_tax_id)),
        ("CONSIGNEE", _party(invoice.consignee, invoice.consignee_tax_id)),
    ]
    if invoice.importer is not None:
        parties.append(("IMPORTER", _party(invoice.importer)))
    sheet.columns(*parties)
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
    total = goods + invoice.freight + invoice.insurance
    sheet.table(
        ["", f"Amount {invoice.currency}"],
        [
            ["Freight", money(invoice.freight, invoice.currency)],
            ["Insurance", money(invoice.insurance, invoice.currency)],
        ],
        [12, 4],
        right=(1,),
        total=["Invoice total", money(total, invoice.currency)],
    )
    sheet.add("We declare that this invoice states the true value and origin of the goods described.")
    sheet.gap(12)
    sheet.columns(
        ("SIGNATURE", "_" * 32), ("NAME", invoice.signed_by or "_" * 24), ("DATE", f"{invoice.day:%d %b %Y}")
    )
    return sheet.build()
