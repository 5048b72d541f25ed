"""Proposes a mapping from sample answers (pure): every choice with its reason, for a person to correct.

A field is found by its name first, and its value must fit: a time must be a time, a quantity a whole number. What no
name tells is told by the value where that is certain: a currency code, an e-mail address, a country.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from channels.connectors.custom.mapping import (
    BY_NAME,
    MAX_LINES,
    Unfit,
    amount_of,
    join,
    look,
    short,
    time_of,
    units_of,
)
from oms.orders.validation import CURRENCIES

MAX_PATHS, MAX_LISTS = 400, 200


@dataclass(frozen=True, slots=True)
class Proposal:
    """A mapping, the reason of each of its fields, and what could not be found, in sentences."""

    mapping: Mapping[str, Any]
    reasons: Mapping[str, str]
    problems: tuple[str, ...] = ()


def words_of(name: str) -> str:
    """A name in one way of writing: orderId, order-id and ORDER_ID are order_id."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


# --- what fits -------------------------------------------------------------------------------------

Fits = Callable[[Any], bool]


def _reads(read: Callable[[Any], Any]) -> Fits:
    def fits(value: Any) -> bool:
        try:
            return read(value) is not None
        except (Unfit, ArithmeticError, ValueError):
            return False

    return fits


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_id(value: Any) -> bool:
    return (isinstance(value, str) and bool(value.strip())) or (
        isinstance(value, int) and not isinstance(value, bool)
    )


_is_money = _reads(lambda value: None if value in (None, "") else amount_of(value, "", "comma"))
_is_units = _reads(lambda value: None if value in (None, "") else units_of(value, ""))
_is_time = _reads(lambda value: time_of(value, ""))


def _is_currency(value: Any) -> bool:
    return isinstance(value, str) and value.strip().upper() in CURRENCIES


def _is_country(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z]{2}", value.strip()))


def _is_mail(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", value))


#: field → (names in order of preference, what its value must be). Names are compared with the last word of a path
#: and with its last two.
ORDER: dict[str, tuple[tuple[str, ...], Fits]] = {
    "id": (("id", "order_id", "uuid", "entity_id", "uid", "key", "order_key", "reference", "order_no"), _is_id),
    "number": (("number", "order_number", "increment_id", "order_no", "order_ref", "reference", "name", "ref"), _is_id),
    "placed_at": (
        ("placed_at", "created_at", "order_date", "ordered_at", "date_created", "created", "purchase_date",
         "date_placed", "creation_date", "created_on", "create_time", "placed", "placed_on", "date"), _is_time),
    "updated_at": (
        ("updated_at", "modified_at", "last_modified", "date_modified", "last_updated", "updated", "modified",
         "changed_at", "touched", "updated_on", "update_time", "last_update", "last_changed"), _is_time),
    "status": (("status", "state", "order_status", "order_state", "fulfillment_status", "stage"), _is_id),
    "currency": (("currency", "currency_code", "order_currency_code", "currency_iso", "order_currency"), _is_currency),
    "total": (("total", "grand_total", "total_amount", "order_total", "total_price", "amount_total", "amount",
               "total_paid", "total_inc_tax"), _is_money),
    "shipping": (("shipping_total", "shipping_amount", "shipping_price", "shipping_cost", "total_shipping", "freight",
                  "postage", "shipping_fee", "shipping", "delivery_cost"), _is_money),
    "tax": (("tax_total", "total_tax", "tax_amount", "tax", "vat", "vat_amount", "taxes"), _is_money),
    "discount": (("discount_total", "total_discount", "discount_amount", "discount", "discounts"), _is_money),
    "service_level": (("shipping_method", "shipping_service", "service_level", "delivery_method",
                       "shipping_description"), _is_text),
    "email": (("email", "customer_email", "buyer_email", "e_mail", "mail"), _is_mail),
    "note": (("customer_note", "buyer_note", "note", "comment", "customer_comment", "message"), _is_text),
}  # fmt: skip
ADDRESS: dict[str, tuple[tuple[str, ...], Fits]] = {
    "name": (("full_name", "name", "recipient", "recipient_name", "addressee", "contact_name"), _is_text),
    "first_name": (("first_name", "firstname", "given_name", "forename"), _is_text),
    "last_name": (("last_name", "lastname", "family_name", "surname"), _is_text),
    "company": (("company", "company_name", "organisation", "organization"), _is_text),
    "phone": (("phone", "phone_number", "telephone", "tel", "mobile"), _is_id),
    "address1": (("address1", "address_1", "street1", "street_1", "line1", "line_1", "address_line1", "address_line_1",
                  "street", "street_address", "address"), _is_text),
    "address2": (("address2", "address_2", "street2", "street_2", "line2", "line_2", "address_line2", "address_line_2"),
                 _is_text),
    "city": (("city", "town", "locality"), _is_text),
    "region": (("region_code", "state_code", "province_code", "state", "province", "region", "county"), _is_text),
    "postal_code": (("postal_code", "postcode", "zip", "zip_code", "zipcode", "post_code"), _is_id),
    "country": (("country_code", "country_id", "country_iso", "country", "country_iso2"), _is_country),
}  # fmt: skip
LINE: dict[str, tuple[tuple[str, ...], Fits]] = {
    "line_sku": (("sku", "item_sku", "product_sku", "seller_sku", "variant_sku", "article_number", "item_number",
                  "code", "product_code", "item_code", "article", "part_number", "product_reference", "reference"),
                 _is_id),
    "line_quantity": (("quantity", "qty", "qty_ordered", "quantity_ordered", "units", "count",
                       "amount", "pieces", "product_quantity"), _is_units),
    "line_id": (("id", "line_id", "item_id", "order_item_id", "line_item_id", "order_line_id", "position_id", "row_id",
                 "position", "pos"),
                _is_id),
    "line_price": (("unit_price", "price", "price_each", "item_price", "unit_cost", "price_per_unit", "net_price",
                    "each", "price_ex_tax"), _is_money),
    "line_title": (("title", "name", "product_name", "description", "item_name", "label"), _is_text),
    "line_tax": (("tax", "tax_amount", "total_tax", "line_tax", "vat"), _is_money),
    "line_discount": (("discount", "discount_amount", "line_discount", "total_discount"), _is_money),
    "line_skip": (("parent_item_id", "parent_id", "parent_line_id"), _is_id),
}  # fmt: skip
TOTALS = ("line_total", "row_total", "total", "total_price", "subtotal", "line_price")
STOCK: dict[str, tuple[tuple[str, ...], Fits]] = {
    "stock_key": (("sku", "item_sku", "product_sku", "seller_sku", "variant_sku", "article_number", "item_number",
                   "code", "product_code", "item_code", "article", "part_number", "reference", "id"), _is_id),
    "stock_quantity": (("available", "quantity", "qty", "available_quantity", "quantity_available", "stock", "on_hand",
                        "stock_quantity", "in_stock", "stock_level", "inventory", "inventory_level", "level", "units",
                        "count"), _is_units),
}  # fmt: skip
_LIST_NAMES = ("orders", "items", "data", "results", "records", "rows", "list", "entries", "content")
_LINE_NAMES = (
    "lines", "line_items", "items", "order_lines", "order_items", "products", "positions", "rows", "articles",
    "order_rows",
)  # fmt: skip
_NAMED_ID = re.compile(r"^[a-z0-9]+_(id|no|nr|number|ref|key)$")  # of the order itself: no object around it
_SHIP_TO = re.compile(r"(^|_)(ship|shipping|deliver|delivery|recipient|consignee)(_|$)")
_BILL_TO = re.compile(r"(^|_)(bill|billing|invoice|payer)(_|$)")
_NO_ORDER = re.compile(r"(^|_)(customer|buyer|user|payment|transaction|store|shop|billing|shipping)(_|$)")

#: words of a status, in any part of it; the first that fits decides
MEANINGS: tuple[tuple[str, str], ...] = (
    (r"draft|basket|cart|checkout|quote|incomplete|test", "ignore"),
    (r"cancel|called_off|void|declin|reject|fail|refund|expired|closed|abort|trash|deleted", "cancelled"),
    (r"deliver(ed|y_done)|received", "delivered"),
    (r"(?<!un)(?<!not_)(ship|dispatch|fulfil|sent)|complete|done|finished", "shipped"),
    (r"unpaid|await\w*_pay|pending|hold|review|unconfirmed|authori[sz]ed", "pending"),
    (r"unship|unfulfil|not_ship|new|open|paid|process|confirm|ready|accept|await|pick|pack|placed|created", "open"),
)  # fmt: skip


def meaning_of(word: str) -> str:
    """What a status word probably means; empty when nothing tells."""
    plain = words_of(word)
    if re.search(r"await\w*_(ship|fulfil|dispatch)|ready_to_|partial\w*_(ship|fulfil)|to_ship", plain):
        return "open"
    return next((meaning for pattern, meaning in MEANINGS if re.search(pattern, plain)), "")


# --- finding ---------------------------------------------------------------------------------------


def paths_of(value: Any, *, lists: bool = False) -> dict[str, Any]:
    """Every path to a plain value and the value, at most 400, as they stand; `lists` adds lists of objects."""
    found: dict[str, Any] = {}
    for path, inner in _walk(value, "", 0):
        if len(found) >= MAX_PATHS:
            break
        if not isinstance(inner, dict | list) or (
            lists and isinstance(inner, list) and (not inner or isinstance(inner[0], dict))
        ):
            found[path] = inner
    return found


def _walk(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > 8:
        return
    if isinstance(value, dict):
        for name, inner in list(value.items())[:300]:
            if name and '"' not in name and len(name) <= 80:
                further = join(path, name)
                yield further, inner
                yield from _walk(inner, further, depth + 1)
    elif isinstance(value, list) and value:
        for place, inner in enumerate(value[:2] if not isinstance(value[0], dict) else value[:1]):
            yield f"{path}[{place}]", inner
            yield from _walk(inner, f"{path}[{place}]", depth + 1)


def lists_of(value: Any) -> list[tuple[str, list[Any]]]:
    """Lists of objects and where they stand, at most six names deep; the answer itself has an empty path."""
    found: list[tuple[str, list[Any]]] = []
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(7):
        following: list[tuple[str, Any]] = []
        for path, inner in level:
            if isinstance(inner, list):
                if inner and isinstance(inner[0], dict):
                    found.append((path, inner))
            elif isinstance(inner, dict):
                following += [
                    (join(path, name), one)
                    for name, one in list(inner.items())[:300]
                    if name and '"' not in name
                ]
        level = following[:MAX_LISTS]
    return found


def _pieces(path: str) -> list[str]:
    return [words_of(piece) for piece in re.split(r'[.\[\]"]+', path) if piece and not piece.isdigit()]


def _best(
    paths: Mapping[str, Any], names: Sequence[str], fits: Fits, weight: Callable[[str], int] = lambda path: 0
) -> str:
    """The path whose name stands first in `names` and whose value fits; shallow paths win among equals."""
    best, top = "", 0
    for path, value in paths.items():
        pieces = _pieces(path)
        if not pieces or not fits(value):
            continue
        rank = next(
            (
                place
                for place, name in enumerate(names)
                if pieces[-1] == name or (len(pieces) > 1 and "_".join(pieces[-2:]) == name)
            ),
            None,
        )
        if rank is None:
            continue
        score = 1000 - 10 * rank - 3 * len(pieces) + weight(path)
        if score > top:
            best, top = path, score
    return best


def _say(path: str, value: Any) -> str:
    return f"by its name; holds {short(value)}"


def _orders_score(row: Mapping[str, Any]) -> int:
    names = {words_of(name) for name in row}
    score = 3 if _lines_path(row) else 0
    for field in ("id", "number", "placed_at", "status", "currency", "total"):
        score += bool(names & set(ORDER[field][0]))
    return score


def _lines_path(order: Any) -> str:
    """Where an order keeps its lines: the list of objects that have a quantity, best with a SKU."""
    best, top = "", 0
    for path, rows in lists_of(order):
        inside = paths_of(rows[0])
        quantity = _best(inside, LINE["line_quantity"][0], _is_units)
        sku = _best(inside, LINE["line_sku"][0], _is_id)
        pieces = _pieces(path)
        named = pieces[-1] in _LINE_NAMES if pieces else False
        score = 4 * bool(quantity) + 3 * bool(sku) + 2 * named - len(pieces)
        if quantity and (sku or named) and score > top:
            best, top = path, score
    return best


def propose(orders: Any, stock: Any = None) -> Proposal:
    """A mapping from a parsed order list and a parsed stock answer (None = not given). Never raises for odd data."""
    mapping: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    problems: list[str] = []
    row = _find_orders(orders, mapping, reasons, problems)
    if row is not None:
        _map_order(row, mapping, reasons, problems)
        rows = look(orders, mapping.get("orders_list", ""))
        _map_statuses(rows if isinstance(rows, list) else [row], mapping, reasons)
    _map_paging(orders, mapping, reasons)
    if stock is not None:
        _map_stock(stock, mapping, reasons, problems)
    return Proposal(mapping, reasons, tuple(problems))


def _find_orders(
    answer: Any, mapping: dict[str, Any], reasons: dict[str, str], problems: list[str]
) -> dict[str, Any] | None:
    if not isinstance(answer, dict | list):
        problems.append(f"Orders: {short(answer)} is no list of orders.")
        return None
    if isinstance(answer, dict) and _lines_path(answer) and not _wraps(answer):
        reasons["orders_list"] = "the sample is one order"
        return answer
    best: tuple[int, str, dict[str, Any]] | None = None
    for path, rows in lists_of(answer):
        pieces = _pieces(path)
        named = 2 if pieces and pieces[-1] in _LIST_NAMES else 0
        score = _orders_score(rows[0]) * 3 + named - len(pieces)
        if best is None or score > best[0]:
            best = (score, path, rows[0])
    if best is None or best[0] < 3:
        problems.append(
            "Orders: the sample holds no list of orders. Paste an answer with at least one order and its lines."
        )
        return None
    if best[1]:
        mapping["orders_list"] = best[1]
    reasons["orders_list"] = f"a list of objects that look like orders ({', '.join(list(best[2])[:4])} …)"
    return best[2]


def _wraps(answer: Mapping[str, Any]) -> bool:
    """Is there a list inside whose entries have lines of their own? Then the answer is no order itself."""
    return any(_lines_path(rows[0]) for path, rows in lists_of(answer) if path)


def _map_order(
    order: Mapping[str, Any], mapping: dict[str, Any], reasons: dict[str, str], problems: list[str]
) -> None:
    lines = _lines_path(order)
    paths = paths_of(order)
    if lines:
        mapping["lines"] = lines
        paths = {path: value for path, value in paths.items() if not path.startswith(f"{lines}[")}
        reasons["lines"] = "a list of objects with a quantity"
    else:
        problems.append("Lines: no list of objects with a quantity stands in the first order.")

    def own(path: str) -> int:
        return -300 if any(_NO_ORDER.search(piece) for piece in _pieces(path)[:-1]) else 0

    for name, (names, fits) in ORDER.items():
        path = _best(paths, names, fits, (lambda _: 0) if name in ("email", "note", "currency") else own)
        if path:
            mapping[name], reasons[name] = path, _say(path, paths[path])
    if mapping.get("number") == mapping.get("id"):
        mapping.pop("number", None)
        reasons.pop("number", None)
    if "id" not in mapping:
        path = next(
            (one for one, value in paths.items() if _is_id(value) and _NAMED_ID.search(words_of(one))), ""
        )
        if path:
            mapping["id"], reasons["id"] = path, f"its name ends as an id does; holds {short(paths[path])}"
    _by_value(paths, mapping, reasons)
    _map_address(paths, mapping, reasons)
    if lines:
        _map_lines(look(order, lines)[:MAX_LINES], mapping, reasons, problems)
    _map_money(order, paths, mapping, reasons)
    for name in ("id", "placed_at"):
        if not mapping.get(name):
            problems.append(
                f"{BY_NAME[name].label}: nothing in the sample is named like it; choose it below."
            )
    if not mapping.get("currency"):
        problems.append("Currency: the order names none; write the code that always holds, such as USD.")


def _by_value(paths: Mapping[str, Any], mapping: dict[str, Any], reasons: dict[str, str]) -> None:
    """What only the value tells, and tells for certain."""
    certain: tuple[tuple[str, Fits], ...] = (("currency", _is_currency), ("email", _is_mail))
    for name, fits in certain:
        found = [path for path, value in paths.items() if fits(value)]
        if name not in mapping and len(found) == 1:
            mapping[name], reasons[name] = found[0], f"by its value {short(paths[found[0]])}"
    if "placed_at" not in mapping:
        used = mapping.get("updated_at")
        times = [
            path
            for path, value in paths.items()
            if isinstance(value, str) and path != used and _is_time(value)
        ]
        if len(times) == 1:
            mapping["placed_at"], reasons["placed_at"] = times[0], "the only time in the order"


def _map_address(paths: Mapping[str, Any], mapping: dict[str, Any], reasons: dict[str, str]) -> None:
    """Parts of one address: of the one to ship to where it is told apart from the one that pays."""
    groups: dict[str, int] = {}
    for names, fits in (ADDRESS["address1"], ADDRESS["postal_code"], ADDRESS["city"]):
        for path, value in paths.items():
            pieces = _pieces(path)
            if not pieces or pieces[-1] not in names or not fits(value):
                continue
            parent = _parent(path)
            whole = "_".join(pieces)
            groups[parent] = (
                groups.get(parent, 0)
                + 10
                + 25 * bool(_SHIP_TO.search(whole))
                - 15 * bool(_BILL_TO.search(whole))
            )
    if not groups:
        return
    home = max(groups, key=lambda parent: (groups[parent], -len(parent)))
    inside = {path: value for path, value in paths.items() if path.startswith(home)} if home else dict(paths)
    for name, (names, fits) in ADDRESS.items():
        if not home and name in ("name", "region"):
            names = tuple(
                one for one in names if one not in ("name", "state")
            )  # the order's own name and state
        path = _best(inside, names, fits)
        if path and (home or path not in mapping.values()):
            mapping[name], reasons[name] = path, f"{_say(path, inside[path])}, beside the street"
    if "phone" not in mapping:  # it may stand with the buyer
        path = _best(paths, *ADDRESS["phone"])
        if path:
            mapping["phone"], reasons["phone"] = path, _say(path, paths[path])
    second = mapping.get("address1", "")
    if second.endswith("[0]") and second[:-3] + "[1]" in paths:
        mapping["address2"], reasons["address2"] = second[:-3] + "[1]", "the second entry of the street"
    if mapping.get("name") and mapping.get("last_name"):
        del mapping["name"], reasons["name"]


def _parent(path: str) -> str:
    """The path of the object around a value: of `a.street[0]` it is `a`, with the mark that ends it."""
    path = re.sub(r"\[\d+\]$", "", path)
    cut = max(path.rfind("."), path.rfind("["))
    return path[: cut + 1] if cut > 0 else ""


def _map_lines(
    rows: Sequence[Any], mapping: dict[str, Any], reasons: dict[str, str], problems: list[str]
) -> None:
    inside: dict[str, Any] = {}
    for row in rows[:20]:
        for path, value in paths_of(row).items():
            if inside.get(path) in (None, ""):
                inside[path] = value
    for name, (names, fits) in LINE.items():
        path = _best(inside, names, fits)
        if path and path not in {mapping.get(other) for other in LINE if other != name}:
            mapping[name], reasons[name] = path, _say(path, inside[path])
    written = inside.get(mapping.get("line_quantity", ""))
    if written is not None:
        reasons["line_quantity"] += (
            ", written as a text" if isinstance(written, str) else ", written as a number"
        )
    if "line_price" not in mapping:
        path = _best(inside, TOTALS, _is_money)
        if path:
            mapping["line_price"], mapping["price_is"] = path, "line"
            reasons["line_price"] = _say(path, inside[path])
            reasons["price_is"] = f"'{path}' is the amount of the whole line"
    for name in ("line_sku", "line_quantity"):
        if not mapping.get(name):
            problems.append(f"{BY_NAME[name].label}: nothing in the lines is named like it; choose it below.")


def _map_money(
    order: Any, paths: Mapping[str, Any], mapping: dict[str, Any], reasons: dict[str, str]
) -> None:
    """How amounts are written: with a point, with a comma, or in cents."""
    rows = look(order, mapping.get("lines", "")) if mapping.get("lines") else []
    prices = [look(row, mapping["line_price"]) for row in rows[:20]] if mapping.get("line_price") else []
    values = [*prices, *(paths[mapping[name]] for name in ("total", "shipping", "tax") if mapping.get(name))]
    values = [value for value in values if value not in (None, "", 0)]
    if any(isinstance(value, str) and "," in value for value in values):
        mapping["money"], reasons["money"] = "comma", "an amount in the sample has a comma"
        return
    written = "_".join(_pieces(f"{mapping.get('total', '')}.{mapping.get('line_price', '')}"))
    named = bool(re.search(r"cents|minor", written))
    large = len(values) >= 2 and all(isinstance(value, int) and value >= 100 for value in values)
    if named or (large and any(isinstance(value, int) and value % 100 for value in values)):
        mapping["money"] = "minor"
        reasons["money"] = "all amounts are whole numbers that are no round sums: probably cents"


def _map_statuses(rows: Sequence[Any], mapping: dict[str, Any], reasons: dict[str, str]) -> None:
    if not mapping.get("status"):
        return
    words: dict[str, None] = {}
    for row in rows[:500]:
        value = look(row, mapping["status"])
        if isinstance(value, str | int) and not isinstance(value, bool):
            words[str(value).strip().lower()[:80]] = None
    found = {word: meaning for word in list(words)[:50] if (meaning := meaning_of(word))}
    mapping["statuses"] = found
    reasons["statuses"] = (
        ", ".join(f"{word} = {meaning}" for word, meaning in found.items()) or "choose each meaning"
    )


def _map_paging(answer: Any, mapping: dict[str, Any], reasons: dict[str, str]) -> None:
    """How further pages are asked for, from what stands beside the list."""
    if not isinstance(answer, dict):
        reasons["paging"] = "the sample does not tell; choose one if the shop has further pages"
        return
    around = {
        path: value
        for path, value in paths_of(
            {name: one for name, one in answer.items() if not isinstance(one, list)}
        ).items()
        if not (mapping.get("orders_list") and path.startswith(f"{mapping['orders_list']}["))
    }
    total = _best(
        around, ("total_count", "total", "count", "total_results", "total_items", "records_total"), _is_units
    )
    for path, value in around.items():
        pieces = _pieces(path)
        if isinstance(value, str) and re.search(r"(^|_)next(_|$)", "_".join(pieces)):
            mapping["cursor_path"] = path
            if "://" in value or value.startswith("/"):
                mapping["paging"] = "link"
                reasons["paging"] = f"'{path}' holds the address of the next page"
            else:
                mapping["paging"] = "cursor"
                mapping["page_param"] = "page_token" if "token" in path.lower() else "cursor"
                reasons["paging"] = f"'{path}' holds a mark of the next page; check the parameter's name"
            return
    size = _best(around, ("page_size", "per_page", "limit", "page_limit"), _is_units)
    if size:
        mapping["page_size"] = str(around[size])
    offset = _best(around, ("offset", "start", "skip"), _is_units)
    page = _best(around, ("page", "current_page", "page_number", "page_index"), _is_units)
    if offset or page:
        mapping["paging"] = "offset" if offset else "page"
        mapping["page_param"] = offset and _last(offset) or _last(page)
        reasons["paging"] = f"'{offset or page}' counts the {'orders' if offset else 'pages'}"
        if page and not offset and str(around[page]) == "0":
            mapping["first_page"] = "0"
        if total:
            mapping["total_path"], reasons["total_path"] = total, _say(total, around[total])


def _last(path: str) -> str:
    return re.split(r'[.\["]', path.rstrip(']"'))[-1]


def _map_stock(answer: Any, mapping: dict[str, Any], reasons: dict[str, str], problems: list[str]) -> None:
    best: tuple[int, str, dict[str, Any], str, str] | None = None
    choices = [(path, rows[0]) for path, rows in lists_of(answer)]
    if isinstance(answer, dict):
        choices.append(("", answer))
        choices += [
            (name, one) for name, one in answer.items() if isinstance(one, dict) and name and '"' not in name
        ]
    for path, row in choices:
        inside = paths_of(row)
        key, quantity = (_best(inside, *STOCK[name]) for name in ("stock_key", "stock_quantity"))
        score = 2 * bool(quantity) + bool(key)
        if quantity and quantity != key and (best is None or score > best[0]):
            best = (score, path, row, key, quantity)
    if best is None:
        problems.append(
            "Stock: the sample holds no objects with a quantity. Paste the answer that shows the stock of a SKU."
        )
        return
    _, path, row, key, quantity = best
    if path:
        mapping["stock_list"] = join("", path) if "." not in path and "[" not in path else path
        reasons["stock_list"] = "a list of objects with a quantity"
    value = look(row, quantity)
    mapping["stock_quantity"] = quantity
    reasons["stock_quantity"] = (
        f"{_say(quantity, value)}, written as a {'text' if isinstance(value, str) else 'number'}"
    )
    if key:
        mapping["stock_key"], reasons["stock_key"] = key, _say(key, look(row, key))
    hole = "{quantity_text}" if isinstance(value, str) else "{quantity}"
    body: Any = hole
    for piece in reversed([one for one in re.split(r"[.\[\]\"]+", quantity) if one]):
        body = {piece: body}
    mapping["stock_body"] = json.dumps(body)
    reasons["stock_body"] = (
        "as the sample writes a quantity; the address to write comes from the shop's description"
    )
