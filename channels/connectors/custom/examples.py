"""Templates out of an example of the shop's own description (pure): an address with a real number in it, a body as the
description prints it. What is recognised becomes a placeholder, everything else stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from channels.connectors.custom.mapping import parse_json, unknown_holes
from channels.connectors.custom.propose import words_of

_SKU = (
    "sku", "item_sku", "product_sku", "article", "article_number", "item_number", "product_code", "item_code", "code",
)  # fmt: skip
_UNITS = (
    "quantity", "qty", "units", "pieces", "amount", "count", "on_hand", "available", "stock", "stock_quantity",
    "in_stock", "stock_level", "inventory", "level",
)  # fmt: skip
#: placeholder → names in a description that mean it
STOCK_NAMES: Mapping[str, Sequence[str]] = {"sku": _SKU, "quantity": _UNITS}
SHIP_NAMES: Mapping[str, Sequence[str]] = {
    "tracking_number": ("tracking_number", "tracking", "track", "tracking_no", "tracking_code", "track_number",
                        "tracking_id", "parcel_number", "consignment"),
    "tracking_url": ("tracking_url", "track_url", "tracking_link", "url"),
    "carrier_name": ("carrier", "carrier_name", "shipping_carrier", "courier", "shipping_provider", "provider",
                     "company", "title"),
    "carrier": ("carrier_code", "tracking_carrier"),
    "service": ("service", "shipping_method", "method", "service_level"),
    "shipped_at": ("shipped_at", "ship_date", "shipping_date", "date", "dispatched_at", "date_shipped", "sent_at"),
    "order_number": ("order_number", "order_no"),
    "order_id": ("order_id",),
}  # fmt: skip
LINE_NAMES: Mapping[str, Sequence[str]] = {
    "line_id": ("id", "line_id", "line_item_id", "item_id", "order_item_id", "order_product_id", "order_line_id", "pos",
                "position", "line", "line_number"),
    "quantity": _UNITS,
}  # fmt: skip


def address(example: str, values: Mapping[str, str]) -> str:
    """An address whose pieces are one of these values, written as the placeholder: /orders/P-1/ship → {order_id}.

    `values` = placeholder → the value that stands in the sample. An address that has placeholders already is kept.
    """
    if "{" in example:
        return example
    path, mark, query = example.partition("?")
    pieces = path.split("/")
    for hole, value in values.items():
        if value:
            pieces = [
                f"{{{hole}}}" if piece and piece in (value, quote(value, safe="")) else piece
                for piece in pieces
            ]
    return "/".join(pieces) + mark + query


def body(
    example: str, names: Mapping[str, Sequence[str]], inner: str, inner_names: Mapping[str, Sequence[str]]
) -> tuple[str, str]:
    """(template, template of each entry) of an example body; entries of the list of objects become `{inner}`.

    Kept as it is when it holds placeholders already or nothing of it is recognised. `Unfit` for no JSON.
    """
    if not example.strip():
        return example, ""
    parsed = parse_json(example, "the body")
    if _holes(example):
        return example, ""
    entry = ""

    def list_of(value: list[Any]) -> Any:
        nonlocal entry
        if entry or not value or not isinstance(value[0], dict):
            return value
        made = _filled(value[0], inner_names, lambda rest: rest)
        if not _holes(json.dumps(made)):
            return value
        entry = json.dumps(made)
        return f"{{{inner}}}"

    made = _filled(parsed, names, list_of)
    text = json.dumps(made)
    return (text, entry) if _holes(text) else (example, "")


def _holes(text: str) -> list[str]:
    return unknown_holes(text, ())


def _filled(value: Any, names: Mapping[str, Sequence[str]], list_of: Callable[[list[Any]], Any]) -> Any:
    if isinstance(value, list):
        return list_of(value)
    if not isinstance(value, dict):
        return value
    found = {}
    for name, inner in value.items():
        word = words_of(str(name))
        hole = next((hole for hole, known in names.items() if word in known), "")
        if isinstance(inner, dict | list):
            found[name] = _filled(inner, names, list_of)
        elif hole and not isinstance(inner, bool):
            as_text = hole == "quantity" and isinstance(inner, str)
            found[name] = "{quantity_text}" if as_text else f"{{{hole}}}"
        else:
            found[name] = inner
    return found
