"""The files of a channel: orders, returns and listings as somebody else writes them; stock and shipments as they want
them. Pure functions over tables.

An order file is matched column by column, each row is a line, rows of one order belong together wherever they stand.
What comes out of a group is read by the same mapping as a shop's JSON, so amounts, times, statuses and their sentences
are the same. One wrong row refuses its whole order, and no other.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from channels.connectors.base import RemoteReturn
from channels.connectors.custom import mapping as maps
from channels.connectors.custom.mapping import Unfit
from channels.connectors.custom.propose import meaning_of
from oms.core.columns import Column, bind, missing, normal
from oms.core.csvsafe import stream_csv
from oms.core.errors import UserError
from oms.core.uploads import Table
from oms.orders.drafts import OrderDraft
from oms.orders.validation import CURRENCIES

#: our fields of an order file and the headers that mean them, the surest first
ORDER_COLUMNS: tuple[Column, ...] = (
    Column("id", ("orderid", "amazonorderid", "ordernumber", "orderno", "ordernum", "order", "salesorder", "saleid",
                  "salesrecordnumber", "orderreference", "orderref", "incrementid", "ponumber", "reference"), True,
           "the same on every row of an order"),
    Column("number", ("ordername", "ordernumber", "orderno", "displaynumber"), help="as people know the order"),
    Column("placed_at", ("createdat", "orderdate", "purchasedate", "orderedat", "dateordered", "orderplaced",
                         "datecreated", "saledate", "created", "date", "paidat"), True),
    Column("updated_at", ("lastupdateddate", "lastupdated", "lastmodified", "datemodified", "modifiedat", "changedat",
                          "modified"), help="empty: the newer file is the newer word"),
    Column("status", ("orderstatus", "financialstatus", "state", "fulfillmentstatus"),
           help="empty: every order is open"),
    Column("cancelled", ("cancelledat", "canceledat", "canceled", "cancelleddate"),
           help="filled: the order is cancelled"),
    Column("currency", ("currencycode", "ordercurrency")),
    Column("line_sku", ("lineitemsku", "sku", "itemsku", "productsku", "variantsku", "sellersku", "skucode", "article",
                        "articlenumber", "itemnumber", "itemcode", "productcode", "customlabel", "item"), True),
    Column("line_quantity", ("lineitemquantity", "quantitypurchased", "quantitytoship", "quantity", "itemquantity",
                             "orderedquantity", "qtyordered", "quantityordered", "qty", "units", "pieces"), True),
    Column("line_price", ("lineitemprice", "unitprice", "itemprice", "price", "priceeach")),
    Column("line_id", ("lineid", "orderitemid", "lineitemid", "itemid", "orderlineid", "linenumber", "lineno"),
           help="empty: the SKU, which then stands once in an order"),
    Column("line_title", ("lineitemname", "productname", "itemname", "title", "description", "product")),
    Column("line_tax", ("itemtax", "taxofline")),
    Column("line_discount", ("lineitemdiscount", "itemdiscount", "itempromotiondiscount")),
    Column("shipping", ("shippingcost", "shippingprice", "shippingamount", "shippingpaid", "shippingtotal", "freight",
                        "postage")),
    Column("tax", ("taxes", "taxamount", "taxtotal", "totaltax", "ordertax", "vat")),
    Column("discount", ("discountamount", "orderdiscount", "discounttotal")),
    Column("total", ("ordertotal", "grandtotal", "totalprice", "totalamount")),
    Column("service_level", ("shippingmethod", "shipservicelevel", "shippingservice", "deliverymethod", "service")),
    Column("name", ("shippingname", "shiptoname", "recipientname", "recipient", "deliveryname", "fullname",
                    "customername", "customer", "buyername", "shipname")),
    Column("first_name", ("shippingfirstname", "shiptofirstname", "recipientfirstname", "buyerfirstname")),
    Column("last_name", ("shippinglastname", "shiptolastname", "recipientlastname", "buyerlastname", "surname")),
    Column("company", ("shippingcompany", "shiptocompany", "deliverycompany")),
    Column("email", ("buyeremail", "customeremail", "emailaddress", "mail")),
    Column("phone", ("shippingphone", "shiptophone", "buyerphonenumber", "phonenumber", "shipphonenumber",
                     "telephone")),
    Column("address1", ("shippingaddress1", "shiptoaddress1", "shipaddress1", "shippingstreet", "addressline1",
                        "deliveryaddress1", "address", "street", "street1")),
    Column("address2", ("shippingaddress2", "shiptoaddress2", "shipaddress2", "addressline2", "deliveryaddress2",
                        "street2")),
    Column("city", ("shippingcity", "shiptocity", "shipcity", "deliverycity", "town")),
    Column("region", ("shippingprovince", "shippingstate", "shiptostate", "shipstate", "deliverystate", "province",
                      "county", "stateprovince")),
    Column("postal_code", ("shippingzip", "shippingpostcode", "shiptopostalcode", "shippostalcode", "shiptozip",
                           "deliverypostcode", "zip", "zipcode", "postcode")),
    Column("country", ("shippingcountry", "shiptocountry", "shipcountry", "deliverycountry", "countrycode")),
    Column("note", ("notes", "buyernote", "buyersnote", "deliveryinstructions", "customernote", "comment")),
)  # fmt: skip
_LINE = tuple(one.name for one in ORDER_COLUMNS if one.name.startswith("line_"))

RETURN_COLUMNS: tuple[Column, ...] = (
    Column("return_id", ("returnid", "returnnumber", "rma", "rmanumber", "rmaid"), True),
    Column("order", ("orderid", "ordernumber", "orderno", "amazonorderid", "name"), True),
    Column("sku", ("lineitemsku", "itemsku", "sellersku", "article", "item"), True),
    Column("quantity", ("qty", "units", "returnedquantity", "pieces"), True),
    Column("reason", ("returnreason", "why")),
    Column("note", ("comment", "customercomments")),
)
LISTING_COLUMNS: tuple[Column, ...] = (
    Column(
        "sku", ("variantsku", "sellersku", "skucode", "article", "articlenumber", "item", "itemnumber"), True
    ),
    Column("id", ("listingid", "variantid", "productid", "asin", "handle"), help="empty: the SKU"),
    Column("title", ("name", "productname", "itemname", "description")),
    Column("quantity", ("qty", "onhand", "stock", "available", "stocklevel")),
)

#: a file whose headers are these is one we know: what they mean there, against their usual meaning
SHAPES: tuple[tuple[str, frozenset[str], Mapping[str, str], Mapping[str, str]], ...] = (
    (
        "Shopify orders", frozenset({"name", "lineitemsku", "lineitemquantity", "createdat"}),
        {"id": "Name", "number": "", "status": "Financial Status"}, {},
    ),
    ("Amazon orders", frozenset({"amazonorderid", "itemprice", "purchasedate"}), {}, {"price_is": "line"}),
)  # fmt: skip

DATES: tuple[tuple[str, str], ...] = (
    ("iso", "2026-11-26 or 2026-11-26T14:00:00Z"),
    ("mdy", "11/26/2026: month first"),
    ("dmy", "26.11.2026 or 26/11/2026: day first"),
)
DELIMITERS: tuple[tuple[str, str], ...] = (("comma", "Comma"), ("semicolon", "Semicolon"), ("tab", "Tab"))
_DELIMITER = {"comma": ",", "semicolon": ";", "tab": "\t"}
STOCK_HOLES: tuple[tuple[str, str], ...] = (
    ("{sku}", "SKU as the channel calls it"), ("{quantity}", "Quantity"), ("{listing_id}", "Listing id"),
)  # fmt: skip
SHIP_HOLES: tuple[tuple[str, str], ...] = (
    ("{order_id}", "Order id"), ("{order_number}", "Order number"), ("{sku}", "SKU"), ("{line_id}", "Line id"),
    ("{quantity}", "Units in this parcel"), ("{tracking_number}", "Tracking number"), ("{carrier_name}", "Carrier"),
    ("{carrier}", "Carrier's code"), ("{service}", "Service"), ("{shipped_at}", "Shipped at, UTC"),
    ("{shipped_on}", "Shipped on, date"), ("{tracking_url}", "Tracking address"), ("{reference}", "Our parcel"),
)  # fmt: skip

Spec = Mapping[str, Any]  # a file we write: name, delimiter, columns [[header, value]]
STOCK_PRESETS: dict[str, tuple[str, Spec]] = {
    "plain": ("SKU and quantity", {
        "name": "stock.csv", "delimiter": "comma", "columns": [["sku", "{sku}"], ["quantity", "{quantity}"]],
    }),
    "shopify": ("Shopify inventory", {
        "name": "inventory.csv", "delimiter": "comma", "columns": [
            ["Handle", "{listing_id}"], ["SKU", "{sku}"], ["Location", "Main"], ["On hand (new)", "{quantity}"],
        ],
    }),
    "amazon": ("Amazon price and quantity", {
        "name": "price-quantity.txt", "delimiter": "tab",
        "columns": [["sku", "{sku}"], ["price", ""], ["quantity", "{quantity}"]],
    }),
    "linnworks": ("Linnworks stock levels", {
        "name": "stock-levels.csv", "delimiter": "comma",
        "columns": [["SKU", "{sku}"], ["Stock Level", "{quantity}"], ["Location", "Default"]],
    }),
}  # fmt: skip
SHIP_PRESETS: dict[str, tuple[str, Spec]] = {
    "plain": ("One row per line", {
        "name": "shipments.csv", "delimiter": "comma", "columns": [
            ["order_number", "{order_number}"], ["sku", "{sku}"], ["quantity", "{quantity}"],
            ["carrier", "{carrier_name}"], ["tracking_number", "{tracking_number}"], ["shipped_at", "{shipped_at}"],
        ],
    }),
    "amazon": ("Amazon shipping confirmation", {
        "name": "shipconfirm.txt", "delimiter": "tab", "columns": [
            ["order-id", "{order_id}"], ["order-item-id", "{line_id}"], ["quantity", "{quantity}"],
            ["ship-date", "{shipped_on}"], ["carrier-code", "{carrier}"], ["carrier-name", "{carrier_name}"],
            ["tracking-number", "{tracking_number}"], ["ship-method", "{service}"],
        ],
    }),
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}\.(csv|txt|tsv)\Z")
MAX_COLUMNS = 40


# --- settings --------------------------------------------------------------------------------------


def checked_orders(data: Any) -> dict[str, Any]:
    """How order files are read, as it is stored: columns, statuses and ways of writing. Raises `UserError`."""
    if not isinstance(data, Mapping):
        raise UserError("orders: must be an object.", field="orders")
    columns = data.get("columns") or {}
    known = {one.name for one in ORDER_COLUMNS}
    if not isinstance(columns, Mapping) or set(columns) - known:
        raise UserError("orders: 'columns' names a field that an order does not have.", field="columns")
    clean: dict[str, str] = {}
    for name, header in columns.items():
        text = str(header).strip()
        if len(text) > 120 or any(ord(char) < 32 for char in text):
            raise UserError(f"{label(name)}: this cannot be a column's header.", field=name)
        if text:
            clean[name] = text
    if data.get("dates", "iso") not in dict(DATES):
        raise UserError("Dates: choose how the file writes them.", field="dates")
    ways = {name: data.get(name, "") for name in WAYS if data.get(name)}
    rest = maps.checked({**ways, "statuses": data.get("statuses") or {}})
    return {"columns": clean, "dates": data.get("dates", "iso"), **rest}


#: what is set for the whole file, by the same names as in a mapped shop
WAYS = ("time_zone", "fixed_currency", "money", "tax_included", "price_is")


_LABELS = {"id": "Order id", "number": "Order number", "cancelled": "Cancelled"}


def label(name: str) -> str:
    """What a field of an order is called on screens."""
    if name in _LABELS:
        return _LABELS[name]
    known = maps.BY_NAME[name].label
    return f"Line: {known}" if name.startswith("line_") and "line" not in known.lower() else known


def gaps(orders: Mapping[str, Any]) -> list[str]:
    """Labels of what is needed before order files can be read; empty = complete."""
    columns = orders.get("columns") or {}
    found = [label(name) for name in missing(ORDER_COLUMNS, columns)]
    if "currency" not in columns and not orders.get("fixed_currency"):
        found.append("Currency")
    return found


def checked_spec(data: Any, what: str, holes: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A file that we write: its name, its delimiter and its columns. Raises `UserError` naming the field."""
    if not isinstance(data, Mapping):
        raise UserError(f"{what}: must be an object.", field=what)
    name = str(data.get("name", "")).strip()
    if not _NAME.match(name):
        raise UserError(
            f"{what}: name the file with letters, digits, - and _, ending in .csv, .txt or .tsv, such as {what}.csv.",
            field=f"{what}_name",
        )
    delimiter = data.get("delimiter", "comma")
    if delimiter not in _DELIMITER:
        raise UserError(f"{what}: choose comma, semicolon or tab.", field=f"{what}_delimiter")
    columns: list[list[str]] = []
    given = data.get("columns")
    for pair in given if isinstance(given, list) else []:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UserError(f"{what}: each column is a header and a value.", field=what)
        header, value = str(pair[0]).strip(), str(pair[1]).strip()
        if len(header) > 120 or len(value) > 200 or any(ord(char) < 32 for char in header + value):
            raise UserError(f"{what}: a header or value is too long or holds odd characters.", field=what)
        odd = maps.unknown_holes(value, [hole.strip("{}") for hole, _ in holes])
        if odd:
            known = ", ".join(hole for hole, _ in holes)
            raise UserError(f"{what}: {{{odd[0]}}} is no placeholder here; known: {known}.", field=what)
        if header:
            columns.append([header, value])
    if not 1 <= len(columns) <= MAX_COLUMNS:
        raise UserError(f"{what}: name 1 to {MAX_COLUMNS} columns.", field=what)
    twice = [
        header for header, count in Counter(normal(one) or one for one, _ in columns).items() if count > 1
    ]
    if twice:
        raise UserError(f"{what}: the column {twice[0]} is there twice.", field=what)
    return {"name": name, "delimiter": delimiter, "columns": columns}


def needs(spec: Spec, what: str, groups: Sequence[Sequence[str]]) -> None:
    """At least one placeholder of each group must be written. Raises `UserError`."""
    written = " ".join(value for _, value in spec["columns"])
    for group in groups:
        if not any(hole in written for hole in group):
            raise UserError(
                f"{what}: a column for {' or '.join(group)} is needed; without it nobody can read the file.",
                field=what,
            )


# --- proposing -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proposed:
    """How a sample would be read, the shape it was recognised by, and which fields a person should look at."""

    orders: dict[str, Any]
    shape: str = ""
    doubts: Mapping[str, str] = field(default_factory=dict)


def propose(header: Sequence[str], rows: Sequence[Sequence[str]], before: Mapping[str, Any]) -> Proposed:
    """Columns by their headers; how dates, amounts and statuses are written by the values of the sample (pure).

    What was set `before` and the sample does not speak of is kept.
    """
    have = {normal(name) for name in header}
    shape, chosen, ways = next(
        ((title, chosen, ways) for title, wanted, chosen, ways in SHAPES if wanted <= have), ("", {}, {})
    )
    columns = bind(ORDER_COLUMNS, header, chosen, once=True)
    if "name" not in columns and columns.get("id", "") != "Name" and "name" in have:
        columns["name"] = next(name for name in header if normal(name) == "name")
    places = {name: place for place, name in enumerate(header)}
    doubts: dict[str, str] = {}

    def values(name: str) -> list[str]:
        place = places.get(columns.get(name, ""), -1)
        return [row[place].strip() for row in rows if 0 <= place < len(row) and row[place].strip()]

    orders: dict[str, Any] = {**before, **ways, "columns": columns}
    orders["dates"], doubt = _dates(values("placed_at"))
    if doubt:
        doubts["dates"] = doubt
    amounts = [text for name in ("line_price", "total", "shipping") for text in values(name)]
    if any(re.search(r",\d{1,2}$", text) for text in amounts):
        orders["money"] = "comma"
    elif orders.get("money") == "comma":
        orders.pop("money")
    odd = [text for text in values("currency") if text.upper() not in CURRENCIES]
    if odd:
        doubts["currency"] = f"'{odd[0][:20]}' is no currency code"
    if columns.get("number") and columns["number"] == columns.get("id"):
        columns.pop("number")
    statuses = dict(before.get("statuses") or {})
    for word in dict.fromkeys(text.lower()[:80] for text in values("status")):
        known = statuses.get(word) or meaning_of(word)
        if known:
            statuses[word] = known
        else:
            doubts["status"] = f"choose what '{word[:40]}' means"
    orders["statuses"] = statuses if "status" in columns else {}
    return Proposed(orders, shape, doubts)


def _dates(texts: Sequence[str]) -> tuple[str, str]:
    """Which way of writing dates fits every value, and a doubt where two do."""
    if not texts or all(re.match(r"\d{4}-\d\d?-\d\d?|\d{9,}", text) for text in texts):
        return "iso", ""
    parts = [
        found.groups() for text in texts if (found := re.match(r"(\d{1,2})[./-](\d{1,2})[./-]\d{2,4}", text))
    ]
    if not parts:
        return "iso", ""
    if any(int(first) > 12 for first, _ in parts) or all("." in text.split()[0] for text in texts):
        return "dmy", ""
    if any(int(second) > 12 for _, second in parts):
        return "mdy", ""
    return "mdy", f"'{texts[0][:20]}' may be month or day first"


# --- orders, read ----------------------------------------------------------------------------------


@dataclass
class Read:
    """What a file holds: good parts, and by row number what is wrong with the others."""

    kind: str
    header: list[str]
    cells: dict[int, list[str]] = field(default_factory=dict)
    drafts: list[OrderDraft] = field(default_factory=list)
    returns: list[RemoteReturn] = field(default_factory=list)
    listings: list[tuple[str, str, str, int | None]] = field(default_factory=list)  # id, sku, title, quantity
    #: row numbers behind an order's or a return's id
    rows_of: dict[str, list[int]] = field(default_factory=dict)
    bad: dict[int, tuple[str, str]] = field(default_factory=dict)

    def refuse(self, numbers: Iterable[int], row: int, column: str, sentence: str) -> None:
        """All these rows fall with one of them."""
        for number in numbers:
            if number == row:
                self.bad[number] = (column, sentence)
            else:
                self.bad.setdefault(number, ("", f"left out with row {row} of the same order."))


def kind_of(header: Sequence[str], name: str, orders: Mapping[str, Any]) -> str:
    """orders, returns or listings, by the columns and, for listings, the file's name. Raises `UserError`."""
    have = {normal(one) for one in header if one}
    twice = [one for one, count in Counter(normal(one) for one in header if one).items() if count > 1]
    columns = orders.get("columns") or {}
    needed = [columns[one.name] for one in ORDER_COLUMNS if one.needed and one.name in columns]
    if twice and (twice[0] in {normal(one) for one in columns.values()} or not columns):
        raise UserError(f"file: the column {twice[0]} is there twice.", field="file")
    if have & set(RETURN_COLUMNS[0].means):
        absent = missing(RETURN_COLUMNS, bind(RETURN_COLUMNS, header))
        if absent:
            raise UserError(f"file: a file of returns needs the column {absent[0]}.", field="file")
        return "returns"
    if re.match(r"(listings|products|catalog)", name.lower()):
        if missing(LISTING_COLUMNS, bind(LISTING_COLUMNS, header)):
            raise UserError("file: a file of listings needs a column sku.", field="file")
        return "listings"
    short = gaps(orders)
    if short:
        raise UserError(
            f"file: say first what the columns of order files mean; still needed: {', '.join(short)}.",
            field="file",
        )
    absent = [one for one in needed if normal(one) not in have]
    if absent:
        raise UserError(
            f"file: the column '{absent[0]}' is missing. Files of this channel have it: see its columns and formats.",
            field="file",
        )
    return "orders"


def read(table: Table, name: str, orders: Mapping[str, Any], at: dt.datetime) -> Read:
    """Everything a file holds. `at` = when it was written, for orders that do not say when they changed.

    Raises `UserError` for a file that cannot be read at all.
    """
    kind = kind_of(table.header, name, orders)
    found = Read(kind, table.header)
    width = len(table.header)
    for number, row in enumerate(table.rows, start=2):
        if not any(cell.strip() for cell in row):
            continue
        found.cells[number] = row
        if any("\ufffd" in cell for cell in row):
            found.bad[number] = ("", "a character cannot be read; save the file as UTF-8.")
        elif any(cell.strip() for cell in row[width:]):
            found.bad[number] = ("", f"it has more cells than the {width} columns of the header.")
    if not found.cells:
        raise UserError("file: it has a header and no rows.", field="file")
    {"orders": _orders, "returns": _returns, "listings": _listings}[kind](found, orders, at)
    return found


def _named(found: Read, columns: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """Each row's cells by our names."""
    places = {normal(header): place for place, header in reversed(list(enumerate(found.header))) if header}
    at = {name: places[normal(header)] for name, header in columns.items() if normal(header) in places}
    return {
        number: {name: row[place].strip() if place < len(row) else "" for name, place in at.items()}
        for number, row in found.cells.items()
    }


def _orders(found: Read, orders: Mapping[str, Any], at: dt.datetime) -> None:
    columns = orders["columns"]
    rows = _named(found, columns)
    groups: dict[str, list[int]] = {}
    for number, row in rows.items():
        if row["id"]:
            groups.setdefault(row["id"], []).append(number)
        elif number not in found.bad:
            found.bad[number] = (columns["id"], f"{columns['id']} is empty; no order can be told by it.")
    mapping = _mapping(orders)
    for numbers in groups.values():
        wrong = next((number for number in numbers if number in found.bad), None)
        if wrong is not None:
            found.refuse(numbers, wrong, *found.bad[wrong])
            continue
        try:
            draft = maps.order_draft(
                mapping, _order(orders, [(number, rows[number]) for number in numbers], at)
            )
        except _Wrong as error:
            found.refuse(numbers, error.row, columns.get(error.column, ""), error.sentence)
        except (Unfit, ValueError, ArithmeticError) as error:
            place, column, sentence = _where(str(error), numbers, columns)
            found.refuse(numbers, place, column, sentence)
        else:
            if draft is not None:
                found.drafts.append(draft)
                found.rows_of[draft.external_id] = numbers


class _Wrong(Exception):
    def __init__(self, row: int, column: str, sentence: str) -> None:
        super().__init__(sentence)
        self.row, self.column, self.sentence = row, column, sentence


#: a cancelled cell counts as this word; no file writes it
_CANCELLED = "(cancelled)"
_NO = frozenset({"", "0", "no", "false", "n"})


def _mapping(orders: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping by which a group of rows is read: our own names stand at our own names."""
    columns = orders["columns"]
    found: dict[str, Any] = {name: name for name in columns if name not in ("cancelled",)}
    found |= {name: orders[name] for name in WAYS if orders.get(name)}
    found |= {"lines": "lines", "line_id": "line_id", "updated_at": "updated_at"}
    if "status" in columns or "cancelled" in columns:
        statuses = dict(orders.get("statuses") or {})
        if "status" not in columns:
            statuses = {"open": "open"}
        found |= {"status": "status", "statuses": {**statuses, _CANCELLED: "cancelled"}}
    return found


def _order(
    orders: Mapping[str, Any], rows: Sequence[tuple[int, Mapping[str, str]]], at: dt.datetime
) -> dict[str, Any]:
    """A group of rows as one object. A field of the order is taken from the first row that fills it."""
    columns = orders["columns"]
    order: dict[str, Any] = {}
    for name in columns:
        if name not in _LINE:
            order[name] = next((row[name] for _, row in rows if row.get(name)), "")
    for name in ("placed_at", "updated_at"):
        if order.get(name):
            order[name] = _iso(order[name], orders.get("dates", "iso"), name, rows[0][0])
    if not order.get("updated_at"):
        order["updated_at"] = at.astimezone(dt.UTC).isoformat()
    if order.get("cancelled", "").lower() not in _NO:
        order["status"] = _CANCELLED
    elif "status" not in columns:
        order["status"] = "open"
    seen: Counter[str] = Counter()
    lines = []
    for number, row in rows:
        line = {name: row.get(name, "") for name in _LINE if name in columns}
        if not line["line_sku"]:
            raise _Wrong(number, "line_sku", f"{columns['line_sku']} is empty.")
        try:
            units = maps.units_of(line["line_quantity"], columns["line_quantity"])
        except Unfit as error:
            raise _Wrong(number, "line_quantity", f"{error}.") from error
        if units < 1:
            raise _Wrong(
                number, "line_quantity", f"{columns['line_quantity']}: {units} cannot be sold; at least 1 is."
            )
        if not line.get("line_id"):
            seen[line["line_sku"]] += 1
            count = seen[line["line_sku"]]
            line["line_id"] = line["line_sku"] if count == 1 else f"{line['line_sku']}#{count}"
        lines.append(line)
    order["lines"] = lines
    return order


_DATE = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4}|\d{2})(?:[ T,]+(.*))?\Z")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([ap]m)?\Z", re.IGNORECASE)


def _iso(text: str, dates: str, column: str, row: int) -> str:
    """A date of the file as ISO text. A blank before the offset, as Shopify writes it, is taken out."""
    text = re.sub(
        r"\s+([+-]\d\d:?\d\d|UTC|Z)\Z", lambda found: found.group(1).replace("UTC", "Z"), text.strip()
    )
    if dates == "iso":
        return text
    found = _DATE.match(text)
    if not found:
        return text  # ISO in between is read as it is
    first, second, year, clock = found.groups()
    month, day = (first, second) if dates == "mdy" else (second, first)
    hour, minute, second_of = 0, 0, 0
    if clock:
        time = _CLOCK.match(clock.strip())
        if not time:
            raise _Wrong(
                row, column, f"'{text[:40]}' is not a date such as {dict(DATES)[dates].split(':')[0]}."
            )
        hour, minute, second_of = int(time[1]), int(time[2]), int(time[3] or 0)
        if time[4]:
            hour = hour % 12 + (12 if time[4].lower() == "pm" else 0)
    try:
        full = int(year) + (2000 if len(year) == 2 else 0)
        return dt.datetime(full, int(month), int(day), hour, minute, second_of).isoformat()
    except ValueError as error:
        raise _Wrong(
            row,
            column,
            f"'{text[:40]}' is not a date with {'the month' if dates == 'mdy' else 'the day'} first.",
        ) from error


def _where(text: str, numbers: Sequence[int], columns: Mapping[str, str]) -> tuple[int, str, str]:
    """Row, header and sentence of an error of the mapping, which speaks of `lines[2].quantity`."""
    name, _, sentence = text.partition(": ")
    line = re.match(r"lines\[(\d+)\]\.(\w+)", name)
    if line:
        place = min(int(line[1]), len(numbers)) - 1
        header = columns.get(f"line_{line[2]}", "")
        return numbers[place], header, f"{header or line[2]}: {sentence}."
    header = columns.get(name, "")
    return numbers[0], header, f"{header or name}: {sentence or text}."


# --- returns and listings --------------------------------------------------------------------------


def _returns(found: Read, orders: Mapping[str, Any], at: dt.datetime) -> None:
    columns = bind(RETURN_COLUMNS, found.header)
    rows = _named(found, columns)
    groups: dict[tuple[str, str], list[int]] = {}
    for number, row in rows.items():
        if number in found.bad:
            continue
        empty = next((one for one in ("return_id", "order", "sku") if not row[one]), "")
        if empty:
            found.bad[number] = (columns[empty], f"{columns[empty]} is empty.")
        else:
            groups.setdefault((row["return_id"], row["order"]), []).append(number)
    for (name, order), numbers in groups.items():
        lines = []
        for number in numbers:
            row = rows[number]
            try:
                units = maps.units_of(row["quantity"], columns["quantity"])
                if units < 1:
                    raise Unfit(f"{columns['quantity']}: {units} cannot come back; at least 1 can")
            except Unfit as error:
                found.refuse(numbers, number, columns["quantity"], f"{error}.")
                break
            lines.append((row["sku"], units, row.get("reason", "")))
        else:
            note = next((rows[one]["note"] for one in numbers if rows[one].get("note")), "")
            found.returns.append(RemoteReturn(name, order, "requested", tuple(lines), note[:400]))
            found.rows_of[f"{name}\n{order}"] = numbers


def _listings(found: Read, orders: Mapping[str, Any], at: dt.datetime) -> None:
    columns = bind(LISTING_COLUMNS, found.header, once=True)
    seen: dict[str, int] = {}
    for number, row in _named(found, columns).items():
        if number in found.bad:
            continue
        if not row["sku"]:
            found.bad[number] = (columns["sku"], f"{columns['sku']} is empty.")
            continue
        key = (row.get("id") or row["sku"])[:120]
        if key in seen:
            found.bad[number] = (
                columns.get("id", columns["sku"]),
                f"{key[:40]} stands in row {seen[key]} already.",
            )
            continue
        seen[key] = number
        try:
            units = maps.units_of(row["quantity"], columns["quantity"]) if row.get("quantity") else None
        except Unfit as error:
            found.bad[number] = (columns["quantity"], f"{error}.")
            continue
        found.listings.append((key, row["sku"][:120], row.get("title", "")[:255], units))


# --- what we write ---------------------------------------------------------------------------------


def table_text(spec: Spec, rows: Iterable[Mapping[str, Any]]) -> str:
    """A file of ours; every cell is safe for spreadsheets."""
    columns = spec["columns"]
    filled = ([maps.fill_text(value, row) for _, value in columns] for row in rows)
    return "".join(stream_csv([header for header, _ in columns], filled, _DELIMITER[spec["delimiter"]]))


def stock_rows(shown: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Rows of a stock file from {listing id: [sku, quantity]}, in the order of SKUs."""
    for listing, (sku, quantity) in sorted(shown.items(), key=lambda one: (str(one[1][0]), one[0])):
        yield {"sku": sku or listing, "listing_id": listing, "quantity": quantity}


def quantities_of(spec: Spec, table: Table) -> dict[tuple[str, str], int]:
    """(placeholder, its value) → quantity of a stock file as it lies there; what cannot be read is left out."""
    places = {value: place for place, (_, value) in enumerate(spec["columns"])}
    number = places.get("{quantity}")
    keys = [hole for hole in ("{listing_id}", "{sku}") if hole in places]
    if number is None or [normal(one) for one in table.header] != [normal(one) for one, _ in spec["columns"]]:
        return {}
    found = {}
    for row in table.rows:
        try:
            units = maps.units_of(row[number].strip(), "quantity")
        except (Unfit, IndexError):
            continue
        for hole in keys:
            found[hole, row[places[hole]].strip()] = units
    return found
