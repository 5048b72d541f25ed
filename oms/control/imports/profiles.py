"""Known shapes of files: how to recognise each by its headers, and how to read it.

A profile of orders is a pure generator: rows in, items and problems out; stock rows are read by `stock.py`.
Numbers are read strictly: what is not a number is an error that names row and column, never 0.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from oms.control.imports.items import (
    AdjustItem,
    CreditItem,
    CreditLine,
    Item,
    NewSku,
    OrderItem,
    Problem,
    PurchaseItem,
    PurchaseLine,
)
from oms.control.imports.reader import Row
from oms.core.columns import Column, bind, missing, normal
from oms.core.errors import UserError
from oms.orders.drafts import ContactDraft, LineDraft, OrderDraft

Options = dict[str, Any]


class Wrong(Exception):
    """A cell that cannot be read."""

    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column
        self.message = message


@dataclass(frozen=True)
class Profile:
    """A known shape of file. `modes`: what its quantities may be; one that is `spoken` has to be chosen aloud."""

    name: str
    kind: str  # orders, stock, purchase_orders
    title: str
    required: frozenset[str]  # normalised headers by which it is recognised
    columns: tuple[Column, ...]
    read: Callable[[Iterable[Row], Options], Iterator[Item]] | None = None
    foreign: frozenset[str] = frozenset()  # headers that belong to another shape
    modes: tuple[str, ...] = ("set", "add")
    spoken: bool = False
    #: word for rows of this shape that ask nothing of us, "" for the others; gets the cells by our names
    skip: Callable[[Callable[[str], str]], str] | None = None
    negative_is_zero: bool = False
    sellable: bool = False  # counts say what can be sold: promised, unfit and safety units come on top
    snapshot: bool = False  # the operator's own figures of its pool

    def bind(self, headers: Iterable[str], chosen: Mapping[str, str] | None = None) -> dict[str, str]:
        """The file's header of each of our fields: as chosen by a person, else found by name.

        Raises `UserError` for a header of them that stands there twice: which of the two is meant is a guess.
        """
        headers = list(headers)
        bound = bind(self.columns, headers, chosen)
        names = Counter(normal(header) for header in headers)
        if twice := next((header for header in bound.values() if names[normal(header)] > 1), ""):
            raise UserError(
                f"file: the column '{twice}' stands there twice; take one of the two out, or rename it.",
                field="file",
            )
        return bound

    def missing(self, bound: Mapping[str, str]) -> list[str]:
        return missing(self.columns, bound)


#: a number as people and spreadsheets write it down: no exponents, no digits of other scripts, no underscores
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")


def whole(row: Row, column: str) -> int:
    """A whole number, or `Wrong` naming the column."""
    text = row.cells.get(column, "").strip()
    try:
        value = plain(text)
        if value != value.to_integral_value() or abs(value) > 2_000_000_000:
            raise InvalidOperation
        return int(value)
    except InvalidOperation:
        shown = f"'{text}' is not a whole number" if text else "is empty; a whole number is needed"
        raise Wrong(column, f"{column} {shown}.") from None


def plain(text: str) -> Decimal:
    """A plain number with a dot. Raises `InvalidOperation`.

    A spreadsheet writes a long barcode as 9.78E+12: in the column of a quantity that is a mistake, not a figure.
    """
    if not NUMBER.fullmatch(text):
        raise InvalidOperation
    return Decimal(text)


def amount(row: Row, column: str, default: Decimal | None = None) -> Decimal:
    """A decimal amount with a dot, or `Wrong`. An empty cell gives the default where there is one."""
    text = row.cells.get(column, "").strip()
    if not text and default is not None:
        return default
    try:
        value = plain(text)
        if abs(value) >= Decimal("1e10"):
            raise InvalidOperation
        return value
    except InvalidOperation:
        raise Wrong(column, f"{column} '{text}' is not an amount; write it like 12.50.") from None


def moment(row: Row, column: str, zone: dt.tzinfo) -> dt.datetime:
    """An ISO date or time; without an offset it is in the channel's zone."""
    text = row.cells.get(column, "").strip()
    try:
        value = dt.datetime.fromisoformat(text)
    except ValueError:
        raise Wrong(column, f"{column} '{text}' is not a date; write it like 2026-11-23 14:05.") from None
    return value if value.tzinfo else value.replace(tzinfo=zone)


def day(row: Row, column: str) -> dt.date | None:
    """An ISO day, None where the cell is empty, or `Wrong`."""
    text = row.cells.get(column, "").strip()
    try:
        return dt.date.fromisoformat(text) if text else None
    except ValueError:
        raise Wrong(column, f"{column} '{text}' is not a day; write it like 2026-11-23.") from None


# --- Online Retail (UCI) ------------------------------------------------------------------------

_PRODUCT = re.compile(r"^[0-9]{5}[A-Z]{0,2}$")
#: invoices whose rows may be scattered this far apart are still put together
_OPEN_INVOICES = 400

_COUNTRIES = {
    "United Kingdom": "GB",
    "Germany": "DE",
    "France": "FR",
    "EIRE": "IE",
    "Spain": "ES",
    "Netherlands": "NL",
    "Belgium": "BE",
    "Switzerland": "CH",
    "Australia": "AU",
    "Portugal": "PT",
    "Channel Islands": "JE",
    "Norway": "NO",
    "Finland": "FI",
    "Italy": "IT",
    "Cyprus": "CY",
    "Japan": "JP",
    "Sweden": "SE",
    "Austria": "AT",
    "Hong Kong": "HK",
    "Poland": "PL",
    "Israel": "IL",
    "Denmark": "DK",
    "Singapore": "SG",
    "Canada": "CA",
    "Iceland": "IS",
    "Greece": "GR",
    "Malta": "MT",
    "Lebanon": "LB",
    "Lithuania": "LT",
    "Brazil": "BR",
    "United Arab Emirates": "AE",
    "USA": "US",
    "Bahrain": "BH",
    "Czech Republic": "CZ",
    "Saudi Arabia": "SA",
    "RSA": "ZA",
}


def _online_retail(rows: Iterable[Row], options: Options) -> Iterator[Item]:
    """One line of an invoice per row, in file order (Chen 2015, UCI Online Retail).

    C… invoices are credit notes without a link to their order, A… rows bad debt, rows of price 0 stock
    corrections, codes that are not five digits and up to two letters fees and services.
    """
    zone: dt.tzinfo = options["zone"]
    seen: OrderedDict[tuple[str, ...], int] = OrderedDict()
    waiting: OrderedDict[str, list[tuple[Row, str, int, Decimal, dt.datetime]]] = OrderedDict()
    for row in rows:
        try:
            invoice = row.cells["InvoiceNo"].strip().upper()
            code = row.cells["StockCode"].strip().upper()
            if not invoice or not code:
                raise Wrong("InvoiceNo" if not invoice else "StockCode", "is empty.")
            quantity = whole(row, "Quantity")
            price = amount(row, "UnitPrice")
            at = moment(row, "InvoiceDate", zone)
        except Wrong as wrong:
            yield Problem(row.number, wrong.column, wrong.message, raw=row.raw)
            continue
        cells = tuple(row.cells.values())
        if cells in seen:
            yield Problem(
                row.number,
                "",
                f"exact copy of row {seen[cells]}; kept, as a shop may sell twice.",
                "note",
                row.raw,
            )
        seen[cells] = row.number
        if len(seen) > 4000:
            seen.popitem(last=False)
        title = row.cells.get("Description", "").strip()
        if invoice.startswith("A"):
            yield Problem(
                row.number,
                "InvoiceNo",
                f"{invoice} adjusts bad debt ({price}); it is not an order.",
                "note",
                row.raw,
            )
        elif not invoice.startswith("C") and price == 0:
            if not quantity:
                yield Problem(
                    row.number, "Quantity", "a stock correction of 0 does nothing.", "note", row.raw
                )
            elif not _PRODUCT.match(code):
                yield Problem(
                    row.number,
                    "StockCode",
                    f"{code} is a service and has no stock to correct.",
                    "note",
                    row.raw,
                )
            else:
                yield AdjustItem(
                    row.number, f"{invoice}:{row.number}", code, title, quantity, title or "stock correction"
                )
        elif invoice.startswith("C") and quantity >= 0:
            yield Problem(
                row.number,
                "Quantity",
                f"credit note {invoice} credits {quantity}; expected below 0.",
                raw=row.raw,
            )
        elif not invoice.startswith("C") and quantity <= 0:
            yield Problem(
                row.number,
                "Quantity",
                f"{quantity} of {code} cannot be sold; expected above 0.",
                raw=row.raw,
            )
        else:
            waiting.setdefault(invoice, []).append((row, code, quantity, price, at))
            waiting.move_to_end(invoice)
            if len(waiting) > _OPEN_INVOICES:
                yield from _invoice(*waiting.popitem(last=False), options)
    while waiting:
        yield from _invoice(*waiting.popitem(last=False), options)


def _invoice(
    number: str, lines: list[tuple[Row, str, int, Decimal, dt.datetime]], options: Options
) -> Iterator[Item]:
    first, placed_at = lines[0][0], min(line[4] for line in lines)
    if number.startswith("C"):
        goods = [
            CreditLine(row.number, code, row.cells["Description"].strip(), -quantity)
            for row, code, quantity, _price, _at in lines
            if _PRODUCT.match(code)
        ]
        for row, code, _quantity, price, _at in lines:
            if not _PRODUCT.match(code):
                yield Problem(
                    row.number,
                    "StockCode",
                    f"{number} credits {price} for {code}: money only, no goods come back.",
                    "note",
                    row.raw,
                )
        if goods:
            yield CreditItem(first.number, number, tuple(goods))
        return
    if len({line[4] for line in lines}) > 1:
        yield Problem(
            first.number,
            "InvoiceDate",
            f"{number} carries two times; the first is taken.",
            "note",
            first.raw,
        )
    country = first.cells.get("Country", "").strip()
    if country not in _COUNTRIES:
        yield Problem(
            first.number, "Country", f"'{country}' is not a country; left empty.", "note", first.raw
        )
    drafts, skus = [], {}
    for position, (row, code, quantity, price, _at) in enumerate(lines, start=1):
        is_product = bool(_PRODUCT.match(code))
        title = row.cells["Description"].strip()
        if is_product and code not in skus:
            skus[code] = NewSku(code, title or code, price, options["currency"])
        drafts.append(
            LineDraft(
                external_id=str(position),
                quantity=quantity,
                external_sku=code,
                title=title,
                kind="product" if is_product else "service",
                unit_price=price,
                shipped=quantity,
            )
        )
    customer = first.cells.get("CustomerID", "").strip()
    total = sum((line.unit_price * line.quantity for line in drafts), Decimal(0))
    yield OrderItem(
        first.number,
        OrderDraft(
            external_id=number,
            external_number=number,
            placed_at=placed_at,
            channel_updated_at=placed_at,
            currency=options["currency"],
            lines=tuple(drafts),
            status="shipped",
            total=total,
            contact=ContactDraft(
                name=f"Customer {customer}" if customer else "Guest", country=_COUNTRIES.get(country, "")
            ),
        ),
        tuple(skus.values()),
    )


# --- our own shapes -----------------------------------------------------------------------------


def _orders(rows: Iterable[Row], options: Options) -> Iterator[Item]:
    """orders.csv: one line of an order per row, rows of one order together (see docs/files.md)."""
    group: list[Row] = []
    for row in rows:
        if (
            group
            and row.cells.get("order_number", "").strip() != group[0].cells.get("order_number", "").strip()
        ):
            yield from _own_order(group, options)
            group = []
        group.append(row)
    if group:
        yield from _own_order(group, options)


def _own_order(group: list[Row], options: Options) -> Iterator[Item]:
    first = group[0]
    try:
        number = first.cells.get("order_number", "").strip()
        if not number:
            raise Wrong("order_number", "order_number is empty.")
        placed_at = moment(first, "placed_at", options["zone"])
        lines = []
        for position, row in enumerate(group, start=1):
            first = row
            quantity = whole(row, "quantity")
            if quantity < 1:
                raise Wrong("quantity", f"quantity {quantity} must be at least 1.")
            price = amount(row, "unit_price", Decimal(0))
            if price < 0:
                raise Wrong("unit_price", f"unit_price {price} cannot be negative.")
            code = row.cells.get("sku", "").strip()
            if not code:
                raise Wrong("sku", "sku is empty.")
            lines.append(
                LineDraft(
                    external_id=str(position),
                    quantity=quantity,
                    external_sku=code,
                    title=row.cells.get("title", "").strip(),
                    unit_price=price,
                )
            )
        head = group[0]
        shipping = amount(head, "shipping", Decimal(0))
        tax = amount(head, "tax", Decimal(0))
    except Wrong as wrong:
        for row in group:
            message = (
                wrong.message if row is first else f"left out with row {first.number} of the same order."
            )
            yield Problem(row.number, wrong.column, message, raw=row.raw)
        return
    field = {
        name: head.cells.get(name, "").strip()
        for name in (
            "name",
            "company",
            "email",
            "phone",
            "address1",
            "address2",
            "city",
            "region",
            "postal_code",
            "country",
        )
    }
    subtotal = sum((line.unit_price * line.quantity for line in lines), Decimal(0))
    yield OrderItem(
        group[0].number,
        OrderDraft(
            external_id=number,
            external_number=number,
            placed_at=placed_at,
            channel_updated_at=placed_at,
            currency=head.cells.get("currency", "").strip().upper() or options["currency"],
            lines=tuple(lines),
            shipping=shipping,
            tax=tax,
            total=subtotal + shipping + tax,
            contact=_contact(field),
            service_level=head.cells.get("service", "").strip(),
        ),
    )


def _contact(field: dict[str, str]) -> ContactDraft:
    return ContactDraft(
        name=field["name"],
        company=field["company"],
        email=field["email"],
        phone=field["phone"],
        address1=field["address1"],
        address2=field["address2"],
        city=field["city"],
        region=field["region"],
        postal_code=field["postal_code"],
        country=field["country"],
    )


def _purchase_orders(rows: Iterable[Row], options: Options) -> Iterator[Item]:
    """purchase_orders.csv: one line per row, rows of one po_number together."""
    group: list[Row] = []
    for row in rows:
        if group and row.cells.get("po_number", "").strip() != group[0].cells.get("po_number", "").strip():
            yield from _purchase(group, options)
            group = []
        group.append(row)
    if group:
        yield from _purchase(group, options)


def _purchase(group: list[Row], options: Options) -> Iterator[Item]:
    row = head = group[0]
    lines = []
    freight = duty = Decimal(0)
    try:
        for name in ("po_number", "supplier", "warehouse"):
            if not head.cells.get(name, "").strip() and not options.get(name):
                raise Wrong(name, f"{name} is empty.")
        ordered, expected = day(head, "ordered_on"), day(head, "expected_on")
        for row in group:
            quantity = whole(row, "quantity")
            if quantity < 1:
                raise Wrong("quantity", f"quantity {quantity} must be at least 1.")
            lines.append(
                PurchaseLine(row.number, row.cells.get("sku", "").strip(), quantity, amount(row, "unit_cost"))
            )
            freight += amount(row, "freight", Decimal(0))
            duty += amount(row, "duty", Decimal(0))
    except Wrong as wrong:
        for other in group:
            message = (
                wrong.message
                if other is row
                else f"left out with row {row.number} of the same purchase order."
            )
            yield Problem(other.number, wrong.column, message, raw=other.raw)
        return
    text = {
        name: head.cells.get(name, "").strip()
        for name in ("po_number", "supplier", "warehouse", "currency", "note")
    }
    yield PurchaseItem(
        head.number,
        text["po_number"],
        text["supplier"],
        text["warehouse"] or str(options.get("warehouse") or ""),
        text["currency"].upper(),
        ordered,
        expected,
        text["note"],
        freight,
        duty,
        tuple(lines),
    )


# --- stock ----------------------------------------------------------------------------------------


def _not_stocked(cell: Callable[[str], str]) -> str:
    if cell("quantity").lower() == "not stocked" or cell("expected").lower() == "not stocked":
        return "not_stocked"
    untouched = not cell("quantity") or cell("quantity") == cell("expected")
    return "untouched" if untouched else ""


def _no_change(cell: Callable[[str], str]) -> str:
    channel = cell("fulfillment_channel").lower()
    if channel.startswith("amazon") or channel == "afn":
        return "fba_rows"
    return "" if cell("quantity") else "untouched"


_SKU = Column("sku", ("skucode", "articlenumber", "sellersku"), True, "code or barcode of the SKU")
_QUANTITY = Column("quantity", ("qty", "onhand", "quantityonhand", "stocklevel"), True, "whole eaches")

STOCK_SHAPES = (
    Profile(
        "stock",
        "stock",
        "Stock (own format)",
        frozenset({"sku", "quantity"}),
        (
            _SKU,
            Column(
                "warehouse", ("location", "locationcode"), help="its code; else the one chosen for the file"
            ),
            Column("bin", help="a count or change of this bin only"),
            _QUANTITY,
            Column("mode", help="set (a count) or add (a change)"),
            Column("reason"),
            Column("note"),
            Column("unit_cost", ("cost",), help="cost per unit of units that come in"),
        ),
    ),
    Profile(
        "shopify_inventory",
        "stock",
        "Shopify inventory",
        frozenset({"handle", "sku", "location", "onhandnew"}),
        (
            Column("sku", needed=True, help="Variant SKU"),
            Column(
                "warehouse", ("location",), True, "a location whose name or code is one of our warehouses"
            ),
            Column("quantity", ("onhandnew",), True, "On hand (new); empty = untouched"),
            Column("expected", ("onhandcurrent",), True, "On hand (current) when the file was made"),
        ),
        modes=("set",),
        skip=_not_stocked,
    ),
    Profile(
        "amazon_price_quantity",
        "stock",
        "Amazon price & quantity",
        frozenset({"sku", "price", "quantity"}),
        (
            Column("sku", needed=True),
            Column("quantity", needed=True, help="units that can be sold; empty = no change"),
            Column("fulfillment_channel"),
        ),
        foreign=frozenset({"warehouse", "mode", "ordernumber"}),
        modes=("set",),
        skip=_no_change,
        sellable=True,
    ),
    Profile(
        "amazon_fba_inventory",
        "stock",
        "Amazon FBA inventory",
        frozenset({"sku", "fnsku", "afnwarehousequantity", "afnfulfillablequantity"}),
        (
            Column("sku", needed=True),
            Column("quantity", ("afnfulfillablequantity",), True, "units that Amazon sells"),
            Column("total", ("afnwarehousequantity",), True),
            Column("unsellable", ("afnunsellablequantity",), True),
            Column("reserved", ("afnreservedquantity",), True),
            Column("inbound", ("afninboundshippedquantity",), help="on its way to Amazon"),
            Column("inbound_working", ("afninboundworkingquantity",), help="announced, not yet on its way"),
            Column("inbound_receiving", ("afninboundreceivingquantity",), help="arrived, being received"),
        ),
        modes=("set",),
        snapshot=True,
    ),
    Profile(
        "linnworks_stock",
        "stock",
        "Linnworks stock levels",
        frozenset({"sku", "stocklevel", "location"}),
        (
            Column("sku", needed=True),
            Column("warehouse", ("location",), True),
            Column("quantity", ("stocklevel",), True, "below 0 counts as 0"),
            Column("unit_cost", ("unitcost",)),
        ),
        modes=("set",),
        negative_is_zero=True,
    ),
    Profile(
        "hub_stock",
        "stock",
        "Sales channel hub (SKU Code, Location Code)",
        frozenset({"skucode", "locationcode", "quantityonhand"}),
        (
            Column("sku", ("skucode",), True),
            Column("warehouse", ("locationcode",), True),
            Column("quantity", ("quantityonhand",), True),
        ),
    ),
    Profile(
        "pickware_relative",
        "stock",
        "Pickware stock changes",
        frozenset({"articlenumber", "warehouse", "physicalstock"}),
        (
            Column("sku", ("articlenumber",), True),
            Column("warehouse", needed=True),
            Column("bin", ("binlocation",)),
            Column("quantity", ("physicalstock",), True, "signed change"),
            Column("unit_cost", ("purchaseprice",)),
        ),
        modes=("add",),
        spoken=True,
    ),
)


def _columns(needed: str, others: str) -> tuple[Column, ...]:
    return (
        *(Column(name, needed=True) for name in needed.split()),
        *(Column(name) for name in others.split()),
    )


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            "online_retail",
            "orders",
            "Online Retail invoices",
            frozenset({"invoiceno", "stockcode", "quantity", "invoicedate", "unitprice"}),
            _columns("InvoiceNo StockCode Quantity InvoiceDate UnitPrice", "Description CustomerID Country"),
            _online_retail,
        ),
        Profile(
            "orders",
            "orders",
            "Orders (own format)",
            frozenset({"ordernumber", "placedat", "sku", "quantity"}),
            _columns(
                "order_number placed_at sku quantity",
                "title unit_price currency shipping tax service name company email phone address1 address2 city "
                "region postal_code country",
            ),
            _orders,
        ),
        *STOCK_SHAPES,
        Profile(
            "purchase_orders",
            "purchase_orders",
            "Purchase orders (own format)",
            frozenset({"ponumber", "supplier", "sku", "quantity", "unitcost"}),
            _columns(
                "po_number supplier sku quantity unit_cost",
                "warehouse currency ordered_on expected_on freight duty note supplier_sku",
            ),
            _purchase_orders,
        ),
    )
}


def detect(headers: Iterable[str], kind: str) -> Profile | None:
    """The profile of a kind whose required headers are all there; the one asking most wins."""
    headers = list(headers)
    have = {normal(header) for header in headers}
    fitting = [p for p in PROFILES.values() if p.kind == kind and p.required <= have and not p.foreign & have]
    own = PROFILES.get(kind)
    if not fitting and own is not None and not own.missing(own.bind(headers)):
        return own  # under other usual names
    return max(fitting, key=lambda p: len(p.required), default=None)
