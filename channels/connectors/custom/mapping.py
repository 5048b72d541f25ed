"""How a shop's own JSON becomes our orders: paths of names and indexes, templates with a closed list of placeholders.

Nothing of a mapping is ever executed. A path is `a.b[0].c`; `[*]` takes every element of a list; a name that holds a
dot or bracket is written `["odd.name"]`. A template is JSON whose texts may hold `{placeholders}` of its list; a text
that is nothing but a placeholder becomes the value itself, so `"{quantity}"` is written as a number.
Pure functions over plain data; every problem is a sentence that names the field.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from oms.core.errors import UserError
from oms.orders.drafts import ZERO, ContactDraft, LineDraft, OrderDraft

MAX_SAMPLE = 512 * 1024  # characters of a pasted answer
MAX_STEPS, MAX_DEPTH, MAX_LINES = 16, 40, 2000
MEANINGS = ("pending", "open", "shipped", "delivered", "cancelled", "ignore")
_MOST_MONEY, _MOST_UNITS = Decimal(10) ** 10, 1_000_000
_STEP = re.compile(r'\.?([^.\[\]"]+)|\[(\d{1,4}|\*)\]|\["([^"]{1,80})"\]')
_HOLE = re.compile(r"\{([a-z_]+)\}")

#: an order is asked for by the id that its list or a notice names; its number is known only once it was read
ORDER_HOLES = ("order_id",)
SHIP_HOLES = (
    *ORDER_HOLES, "order_number", "tracking_number", "tracking_url", "carrier", "carrier_name", "service", "shipped_at",
    "reference",
)  # fmt: skip
STOCK_HOLES = ("sku", "listing_id", "quantity", "quantity_text")


class Unfit(ValueError):
    """Data that the mapping cannot read; the text names the field and what stood there."""


@dataclass(frozen=True, slots=True)
class Field:
    """One part of a mapping. Kinds: list, order, line, stock, product (paths from there), url, body, choice, text."""

    name: str
    label: str
    group: str
    kind: str
    help: str = ""
    choices: tuple[str, ...] = ()
    holes: tuple[str, ...] = ()
    required: bool = False

    @property
    def is_path(self) -> bool:
        return self.kind in (
            "list",
            "order",
            "line",
            "stock",
            "product",
            "notice",
            "one",
            "stock_list",
            "product_list",
        )


METHODS = ("POST", "PUT", "PATCH")
FIELDS: tuple[Field, ...] = (
    # orders, read
    Field("orders_path", "Address of the order list", "Orders", "url", "after the base address: /api/orders?limit=100",
          required=True),
    Field("orders_list", "Where the list stands", "Orders", "list", "empty: the answer is the list"),
    Field("since_param", "Parameter for 'changed since'", "Orders", "text", "empty: every page is read each time"),
    Field("since_format", "How that time is written", "Orders", "choice", choices=("iso", "space", "unix", "unix_ms")),
    Field("paging", "Further pages", "Orders", "choice", "link: a Link header, or the address at the path below",
          choices=("none", "page", "offset", "cursor", "link")),
    Field("page_param", "Parameter of the page, offset or cursor", "Orders", "text"),
    Field("first_page", "First page", "Orders", "choice", choices=("1", "0")),
    Field("page_size", "Orders per page", "Orders", "text", "a page that holds fewer is the last"),
    Field("cursor_path", "Where the next cursor or address stands", "Orders", "list"),
    Field("total_path", "Where the number of all orders stands", "Orders", "list", "ends the paging where it is told"),
    Field("order_path", "Address of one order", "Orders", "url", "/api/orders/{order_id}", holes=ORDER_HOLES),
    Field("order_root", "Where the order stands in that answer", "Orders", "one", "empty: the answer is the order"),
    # order
    Field("id", "Id", "Order", "order", required=True),
    Field("number", "Number", "Order", "order"),
    Field("placed_at", "Placed", "Order", "order", required=True),
    Field("updated_at", "Changed", "Order", "order"),
    Field("time_zone", "Times without a zone are in", "Order", "text", "UTC, or a name such as Europe/Berlin"),
    Field("status", "Status", "Order", "order"),
    Field("currency", "Currency", "Order", "order"),
    Field("fixed_currency", "or always", "Order", "text", "USD"),
    Field("money", "Amounts are written", "Order", "choice", "minor: 1234 is 12.34 · comma: 12,34",
          choices=("major", "minor", "comma")),
    Field("tax_included", "Prices contain the tax", "Order", "choice", choices=("no", "yes")),
    Field("total", "Total", "Order", "order"),
    Field("shipping", "Shipping", "Order", "order"),
    Field("tax", "Tax", "Order", "order"),
    Field("discount", "Discount", "Order", "order"),
    Field("service_level", "Shipping method", "Order", "order"),
    # lines
    Field("lines", "Lines", "Lines", "order", required=True),
    Field("line_id", "Line id", "Lines", "line", "empty: the place in the list"),
    Field("line_sku", "SKU", "Lines", "line", required=True),
    Field("line_quantity", "Quantity", "Lines", "line", required=True),
    Field("line_price", "Price", "Lines", "line"),
    Field("price_is", "The price is for", "Lines", "choice", choices=("unit", "line")),
    Field("line_title", "Title", "Lines", "line"),
    Field("line_tax", "Tax of the line", "Lines", "line"),
    Field("line_discount", "Discount of the line", "Lines", "line"),
    Field("line_skip", "Pass over lines that have", "Lines", "line", "parts of a set above: parent_item_id"),
    # address
    *(Field(name, label, "Address", "order") for name, label in (
        ("name", "Name"), ("first_name", "First name"), ("last_name", "Last name"), ("company", "Company"),
        ("email", "E-mail"), ("phone", "Phone"), ("address1", "Street"), ("address2", "Second line"), ("city", "City"),
        ("region", "State or region"), ("postal_code", "Postal code"), ("country", "Country"), ("note", "Buyer's note"),
    )),
    # stock
    Field("stock_method", "Method", "Stock", "choice", choices=("PUT", "POST", "PATCH")),
    Field("stock_path", "Address to write", "Stock", "url", "/api/stock/{sku}", holes=STOCK_HOLES),
    Field("stock_body", "Body", "Stock", "body", 'one SKU: {"qty": "{quantity}"} · many: {"stock": "{items}"}',
          holes=(*STOCK_HOLES, "items")),
    Field("stock_item", "Each of the items", "Stock", "body", '{"sku": "{sku}", "qty": "{quantity}"}',
          holes=STOCK_HOLES),
    Field("stock_read_path", "Address to read", "Stock", "url", "/api/stock, or one SKU: /api/stock/{sku}",
          holes=("sku", "listing_id")),
    Field("stock_list", "Where the list stands", "Stock", "stock_list"),
    Field("stock_key", "SKU", "Stock", "stock"),
    Field("stock_quantity", "Quantity", "Stock", "stock"),
    # products
    Field("products_path", "Address of the products", "Products", "url", "empty: the stock list names the listings"),
    Field("products_list", "Where the list stands", "Products", "product_list"),
    Field("product_id", "Id", "Products", "product"),
    Field("product_sku", "SKU", "Products", "product"),
    Field("product_title", "Title", "Products", "product"),
    Field("product_quantity", "Quantity", "Products", "product"),
    # shipments
    Field("ship_method", "Method", "Shipments", "choice", choices=METHODS),
    Field("ship_path", "Address", "Shipments", "url", "/api/orders/{order_id}/shipments", holes=SHIP_HOLES),
    Field("ship_body", "Body", "Shipments", "body", '{"tracking": "{tracking_number}", "lines": "{lines}"}',
          holes=(*SHIP_HOLES, "lines")),
    Field("ship_line", "Each of the lines", "Shipments", "body", '{"id": "{line_id}", "qty": "{quantity}"}',
          holes=("line_id", "quantity", "quantity_text")),
    Field("ship_tracking", "Where the order shows tracking numbers", "Shipments", "order",
          "proves a shipment: shipments[*].tracking"),
    # notices
    Field("hook_header", "Header of the signature", "Notices", "text", "X-Signature; empty: orders are only polled"),
    Field("hook_algorithm", "HMAC", "Notices", "choice", choices=("sha256", "sha1", "sha512")),
    Field("hook_encoding", "Written as", "Notices", "choice", choices=("hex", "base64")),
    Field("hook_prefix", "Begins with", "Notices", "text", "sha256="),
    Field("hook_order", "Where the message names the order", "Notices", "notice", "order.id"),
)  # fmt: skip
BY_NAME = {field.name: field for field in FIELDS}


# --- reading ---------------------------------------------------------------------------------------


def parse_json(text: str | bytes, what: str) -> Any:
    """JSON with exact numbers. Raises Unfit in words: too long, too deep, not JSON, numbers nobody can count with."""
    if len(text) > MAX_SAMPLE * 2:
        raise Unfit(f"{what}: is longer than {MAX_SAMPLE // 512} KB; give fewer entries.")
    try:
        found = json.loads(text, parse_float=Decimal, parse_constant=_no_constant)
    except RecursionError as error:
        raise Unfit(f"{what}: is nested too deeply to be read.") from error
    except json.JSONDecodeError as error:
        raise Unfit(
            f"{what}: is not JSON at line {error.lineno}, column {error.colno}: {error.msg}."
        ) from error
    except (ValueError, ArithmeticError) as error:
        raise Unfit(f"{what}: holds a number or a text that cannot be read.") from error
    if _too_deep(found):
        raise Unfit(f"{what}: is nested more than {MAX_DEPTH} levels deep.")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


@lru_cache(maxsize=2000)
def steps(path: str) -> tuple[str | int, ...]:
    """The steps of a path; "*" for `[*]` is the integer -1. Raises Unfit."""
    found: list[str | int] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or (not found and path[0] == "."):
            raise Unfit(
                f"'{path[:60]}' is not a path; write names and indexes such as customer.address[0].city"
            )
        name, index, quoted = match.groups()
        found.append(name or quoted or "" if index is None else -1 if index == "*" else int(index))
        at = match.end()
    if len(found) > MAX_STEPS:
        raise Unfit(f"'{path[:60]}' has more than {MAX_STEPS} steps")
    return tuple(found)


def join(path: str, name: str) -> str:
    """A path one name further."""
    if re.fullmatch(r'[^.\[\]"]+', name):
        return f"{path}.{name}" if path else name
    return f'{path}["{name}"]'


def look(value: Any, path: str) -> Any:
    """What stands at a path; None where nothing does. A path with `[*]` gives a list."""
    return _look(value, steps(path))


def _look(value: Any, rest: Sequence[str | int]) -> Any:
    for number, step in enumerate(rest):
        if step == -1:
            if not isinstance(value, list):
                return []
            found = [_look(one, rest[number + 1 :]) for one in value[:MAX_LINES]]
            return [one for one in found if one is not None]
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and step < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def short(value: Any) -> str:
    """A value as a sentence shows it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = str(value)
    return f"'{text[:40]}{'…' if len(text) > 40 else ''}'"


def text_of(value: Any, what: str) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, dict | list):
        raise Unfit(f"{what}: {short(value)} stands where a text is expected")
    return str(value)[:2000]


def amount_of(value: Any, what: str, style: str = "major") -> Decimal:
    """An amount of money, at most ten digits before the point; nothing is 0. `style` as the field `money`."""
    if value is None or value == "":
        return ZERO
    if isinstance(value, bool | dict | list | float):
        raise Unfit(f"{what}: {short(value)} is not an amount")
    text = str(value).strip()
    if style == "comma":
        text = text.replace(".", "").replace(",", ".") if "," in text else text
    if len(text) > 40 or not re.fullmatch(r"-?\d+(\.\d+)?([eE][+-]?\d{1,2})?", text):
        raise Unfit(f"{what}: {short(value)} is not an amount such as 12.34")
    found = Decimal(text)
    if style == "minor":
        found /= 100
    if abs(found) >= _MOST_MONEY:
        raise Unfit(f"{what}: {short(value)} is too large")
    return found


def units_of(value: Any, what: str) -> int:
    """A whole number of units, written as a number or as a text; 2.000 is 2."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}(\.0{1,9})?", value.strip()):
        value = Decimal(value.strip())
    if isinstance(value, Decimal) and value.is_finite() and abs(value) <= _MOST_UNITS and value == int(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unfit(f"{what}: {short(value)} is not a whole number of units")
    if abs(value) > _MOST_UNITS:
        raise Unfit(f"{what}: {short(value)} is more than {_MOST_UNITS:,} units")
    return value


def time_of(value: Any, what: str, zone: str = "") -> dt.datetime | None:
    """Aware UTC time of an ISO or mail text or of seconds or milliseconds since 1970; None for nothing."""
    if value is None or value == "":
        return None
    if isinstance(value, bool | dict | list):
        raise Unfit(f"{what}: {short(value)} is not a time")
    text = str(value).strip()
    try:
        if re.fullmatch(r"\d{9,14}(\.\d+)?", text):
            seconds = float(text)
            return dt.datetime.fromtimestamp(seconds / 1000 if seconds >= 1e11 else seconds, dt.UTC)
        found = (
            dt.datetime.fromisoformat(text) if text[:4].isdigit() else email.utils.parsedate_to_datetime(text)
        )
        return (found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone or "UTC"))).astimezone(dt.UTC)
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise Unfit(f"{what}: {short(value)} is not a time such as 2026-11-23T14:00:00Z") from error


def since_text(since: str, style: str) -> str:
    """A pull's ISO time as the shop wants it."""
    at = dt.datetime.fromisoformat(since.replace("Z", "+00:00")).astimezone(dt.UTC)
    if style == "unix":
        return str(int(at.timestamp()))
    if style == "unix_ms":
        return str(int(at.timestamp() * 1000))
    return at.strftime("%Y-%m-%d %H:%M:%S" if style == "space" else "%Y-%m-%dT%H:%M:%SZ")


# --- templates -------------------------------------------------------------------------------------


def fill_path(template: str, values: Mapping[str, Any]) -> str:
    """An address with its placeholders filled, each as one piece that cannot change the address around it."""

    def piece(match: re.Match[str]) -> str:
        text = quote(str(values[match.group(1)]), safe="")
        return text.replace(".", "%2E") if not text.strip(".") else text

    return _HOLE.sub(piece, template)


def fill_body(template: str, values: Mapping[str, Any]) -> Any:
    """A body template with its placeholders filled; texts stay texts, so nothing in a value can change its shape."""
    return _fill(json.loads(template), values) if template.strip() else None


def fill_text(template: str, values: Mapping[str, Any]) -> Any:
    """A text with its placeholders filled; nothing but a placeholder becomes the value itself."""
    return _fill(template, values)


def _fill(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: _fill(inner, values) for name, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, values) for inner in value]
    if not isinstance(value, str):
        return value
    whole = _HOLE.fullmatch(value)
    if whole:
        return values[whole.group(1)]
    return _HOLE.sub(lambda match: str(values[match.group(1)]), value)


def unknown_holes(template: str, holes: Sequence[str]) -> list[str]:
    return sorted(set(_HOLE.findall(template)) - set(holes))


# --- checking --------------------------------------------------------------------------------------


def checked(data: Any) -> dict[str, Any]:
    """A mapping as it is stored: known fields, paths that can be read, templates with known placeholders.

    What is empty is left out. Raises `UserError` naming the field. Whether it is complete, `missing` says.
    """
    if not isinstance(data, Mapping):
        raise UserError("mapping: must be an object of field and path.", field="mapping")
    clean: dict[str, Any] = {}
    for name, value in data.items():
        if name == "statuses":
            clean["statuses"] = _checked_statuses(value)
            continue
        field = BY_NAME.get(str(name))
        if field is None:
            raise UserError(f"mapping: '{str(name)[:40]}' is not a field of a mapping.", field="mapping")
        text = str(value if value is not None else "").strip()
        if text:
            clean[field.name] = _checked_field(field, text)
    return clean


def _checked_field(field: Field, text: str) -> str:
    def wrong(words: str) -> UserError:
        return UserError(f"{field.label}: {words}", field=field.name)

    if len(text) > 4000 or (field.kind != "body" and len(text) > 600):
        raise wrong("is too long.")
    if any(ord(char) < 32 and char not in "\r\n\t" for char in text):
        raise wrong("holds characters that cannot be shown.")
    if field.kind == "choice" and text not in field.choices:
        raise wrong(f"choose one of {', '.join(field.choices)}.")
    if field.is_path:
        try:
            steps(text)
        except Unfit as error:
            raise wrong(f"{error}.") from error
    if field.kind in ("url", "body"):
        odd = unknown_holes(text, field.holes)
        if odd:
            known = ", ".join(f"{{{hole}}}" for hole in field.holes) or "none"
            raise wrong(f"{{{odd[0]}}} is no placeholder here; known: {known}.")
    if field.kind == "url" and (
        not text.startswith("/") or text.startswith("//") or any(char in text for char in "\\#\r\n\t ")
    ):
        raise wrong("write the part after the base address, beginning with one /, without spaces.")
    if field.kind == "body":
        try:
            parse_json(text, "the body")
        except Unfit as error:
            raise wrong(f"{error}") from error
    if field.name == "time_zone":
        try:
            ZoneInfo(text)
        except (ValueError, OSError, LookupError) as error:
            raise wrong(f"'{text}' is no time zone; write UTC or a name such as Europe/Berlin.") from error
    if field.name == "page_size" and (not text.isdigit() or not 1 <= int(text) <= 1000):
        raise wrong("write a number from 1 to 1000.")
    if field.name == "fixed_currency" and not re.fullmatch(r"[A-Z]{3}", text):
        raise wrong("write a currency code such as USD.")
    if field.name == "hook_header" and not re.fullmatch(r"[A-Za-z0-9-]{1,60}", text):
        raise wrong("write a header name such as X-Signature.")
    return text


def _checked_statuses(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > 100:
        raise UserError("statuses: must be an object of word and meaning.", field="statuses")
    clean = {}
    for word, meaning in value.items():
        if any(ord(char) < 32 for char in str(word)):
            raise UserError("statuses: a word holds characters that cannot be shown.", field="statuses")
        if meaning not in MEANINGS:
            raise UserError(
                f"Status '{str(word)[:40]}': choose one of {', '.join(MEANINGS)}.", field="statuses"
            )
        clean[str(word).strip().lower()[:80]] = str(meaning)
    return clean


def missing(mapping: Mapping[str, Any]) -> list[str]:
    """Labels of what a mapping needs before orders can be read; empty = it is complete."""
    gaps = [field.label for field in FIELDS if field.required and not mapping.get(field.name)]
    if not mapping.get("currency") and not mapping.get("fixed_currency"):
        gaps.append("Currency")
    if mapping.get("paging", "none") in ("page", "offset", "cursor") and not mapping.get("page_param"):
        gaps.append(BY_NAME["page_param"].label)
    if mapping.get("paging") == "cursor" and not mapping.get("cursor_path"):
        gaps.append(BY_NAME["cursor_path"].label)
    if mapping.get("paging") == "offset" and not mapping.get("page_size"):
        gaps.append(BY_NAME["page_size"].label)
    return gaps


# --- orders ----------------------------------------------------------------------------------------


def rows_of(answer: Any, path: str, what: str) -> list[dict[str, Any]]:
    """The objects of a list. One object instead of a list counts as a list of one."""
    found = look(answer, path)
    if isinstance(found, dict):
        found = [found]
    if found is None and path:
        raise Unfit(f"{what}: nothing stands at {path}")
    if not isinstance(found, list):
        raise Unfit(f"{what}: {short(found)} stands where the list is expected")
    if any(not isinstance(row, dict) for row in found):
        raise Unfit(f"{what}: the list holds something else than objects")
    return found


def order_id(mapping: Mapping[str, Any], order: Any) -> str:
    return text_of(look(order, mapping["id"]), "id")


def status_word(mapping: Mapping[str, Any], order: Any) -> str:
    return text_of(look(order, mapping["status"]), "status").strip().lower() if mapping.get("status") else ""


def order_draft(mapping: Mapping[str, Any], order: Any) -> OrderDraft | None:
    """An order by its mapping; None where its status says that it is none of ours. Raises Unfit naming the field."""

    def at(name: str) -> Any:
        return look(order, mapping[name]) if mapping.get(name) else None

    def money(name: str) -> Decimal:
        return amount_of(at(name), name, style)

    style, zone = mapping.get("money", "major"), mapping.get("time_zone", "")
    status = "open"
    if mapping.get("status"):
        word = status_word(mapping, order)
        status = (mapping.get("statuses") or {}).get(word, "")
        if not status:
            raise Unfit(f"status: '{word[:40]}' has no meaning yet; choose one in the channel's mapping")
    if status == "ignore":
        return None
    number = order_id(mapping, order)
    if not number:
        raise Unfit(f"id: nothing stands at {mapping['id']}")
    placed = time_of(at("placed_at"), "placed_at", zone)
    if placed is None:
        raise Unfit(f"placed_at: nothing stands at {mapping['placed_at']}")
    rows = look(order, mapping["lines"])
    if not isinstance(rows, list) or any(not isinstance(row, dict) for row in rows):
        raise Unfit(f"lines: {short(rows)} stands where the list of lines is expected")
    if len(rows) > MAX_LINES:
        raise Unfit(f"lines: more than {MAX_LINES} lines")
    lines = [
        line
        for place, row in enumerate(rows, 1)
        if (line := _line(mapping, row, place, status, style)) is not None
    ]
    return OrderDraft(
        external_id=number,
        external_number=text_of(at("number"), "number") or number,
        placed_at=placed,
        channel_updated_at=time_of(at("updated_at"), "updated_at", zone) or placed,
        currency=text_of(at("currency"), "currency").strip().upper() or mapping.get("fixed_currency", ""),
        lines=tuple(lines),
        status=status,  # type: ignore[arg-type]
        payment_state="pending" if status == "pending" else "paid",
        service_level=text_of(at("service_level"), "service_level"),
        cancel_reason="cancelled in the shop" if status == "cancelled" else "",
        contact=_contact(mapping, order),
        discount=abs(money("discount")),
        shipping=money("shipping"),
        tax=money("tax"),
        total=money("total") if mapping.get("total") else None,
        tax_included=mapping.get("tax_included") == "yes",
    )


def _line(mapping: Mapping[str, Any], row: Any, place: int, status: str, style: str) -> LineDraft | None:
    def at(name: str) -> Any:
        return look(row, mapping[name]) if mapping.get(name) else None

    if mapping.get("line_skip") and at("line_skip") not in (None, "", 0, False):
        return None
    where = f"lines[{place}]"
    quantity = units_of(at("line_quantity"), f"{where}.quantity")
    if quantity <= 0:
        return None
    price = amount_of(at("line_price"), f"{where}.price", style)
    if mapping.get("price_is") == "line":
        price = (price / quantity).quantize(Decimal("0.0001"))
    sku = text_of(at("line_sku"), f"{where}.sku")
    return LineDraft(
        external_id=text_of(at("line_id"), f"{where}.id") or str(place),
        quantity=quantity,
        external_sku=sku,
        title=text_of(at("line_title"), f"{where}.title"),
        unit_price=price,
        discount=abs(amount_of(at("line_discount"), f"{where}.discount", style)),
        tax=amount_of(at("line_tax"), f"{where}.tax", style),
        shipped=quantity if status in ("shipped", "delivered") else 0,
        cancelled=quantity if status == "cancelled" else 0,
    )


_PARTS = (
    "company",
    "email",
    "phone",
    "address1",
    "address2",
    "city",
    "region",
    "postal_code",
    "country",
    "note",
)


def _contact(mapping: Mapping[str, Any], order: Any) -> ContactDraft | None:
    def at(name: str) -> str:
        return text_of(look(order, mapping[name]), name) if mapping.get(name) else ""

    parts = {name: at(name) for name in _PARTS}
    name = at("name") or " ".join(filter(None, (at("first_name"), at("last_name"))))
    if not name and not any(parts.values()):
        return None
    return ContactDraft(name=name, residential=not parts["company"], **parts)


def tracking_numbers(mapping: Mapping[str, Any], order: Any) -> set[str]:
    """Tracking numbers that an order shows at the mapped path."""
    found = look(order, mapping["ship_tracking"]) if mapping.get("ship_tracking") else None
    flat = [found] if not isinstance(found, list) else found
    return {
        str(one)
        for value in flat
        for one in (value if isinstance(value, list) else [value])
        if isinstance(one, str | int)
    }
