"""Stock as a file: our own format and the shapes that other systems take back, one row per SKU and warehouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.utils.text import slugify

from inventory import selectors
from inventory.models import Sku, Warehouse
from inventory.selectors import LevelView
from oms.core.paging import keyset_page

#: SKUs looked up at a time; memory does not grow with the catalogue
CHUNK = 500


@dataclass(frozen=True)
class Shape:
    title: str
    header: tuple[str, ...]
    row: Callable[[Sku, Warehouse, LevelView | None, bool], Sequence[Any] | None]
    delimiter: str = ","
    suffix: str = "csv"


def _own(sku: Sku, place: Warehouse, level: LevelView | None, costs: bool) -> Sequence[Any] | None:
    if level is None or not place.counted_by_us:
        return None
    return [sku.code, place.code, "", level.on_hand, "set", "", "", level.average_cost if costs else ""]


def _shopify(sku: Sku, place: Warehouse, level: LevelView | None, costs: bool) -> Sequence[Any] | None:
    if not place.counted_by_us:
        return None
    options = [part for pair in list(sku.options.items())[:3] for part in pair] or ["Title", "Default Title"]
    figures: list[Any] = ["not stocked"] * 6
    if level is not None:
        figures = [
            level.in_transit, level.unavailable, level.reserved, level.available, level.on_hand, level.on_hand,
        ]  # fmt: skip
    return [
        slugify(sku.product.title), sku.product.title, *options, *[""] * (6 - len(options)), sku.code, sku.hs_code,
        sku.origin_country, place.name, "", *figures,
    ]  # fmt: skip


def _amazon(sku: Sku, place: Warehouse, level: LevelView | None, costs: bool) -> Sequence[Any] | None:
    if level is None or not place.counted_by_us:
        return None
    return [sku.code, "", max(0, level.available - level.safety)]


def _linnworks(sku: Sku, place: Warehouse, level: LevelView | None, costs: bool) -> Sequence[Any] | None:
    if level is None or not place.counted_by_us:
        return None
    return [sku.code, level.on_hand, place.name, "", level.average_cost if costs else "", "", ""]


SHAPES: dict[str, Shape] = {
    "own": Shape(
        "CSV, own format",
        ("sku", "warehouse", "bin", "quantity", "mode", "reason", "note", "unit_cost"),
        _own,
    ),
    "shopify": Shape(
        "Shopify inventory",
        (
            "Handle", "Title", "Option1 Name", "Option1 Value", "Option2 Name", "Option2 Value", "Option3 Name",
            "Option3 Value", "SKU", "HS Code", "COO", "Location", "Bin name", "Incoming (not editable)",
            "Unavailable (not editable)", "Committed (not editable)", "Available (not editable)",
            "On hand (current)", "On hand (new)",
        ),
        _shopify,
    ),
    "amazon": Shape(
        "Amazon price & quantity", ("sku", "price", "quantity"), _amazon, delimiter="\t", suffix="txt"
    ),
    "linnworks": Shape(
        "Linnworks stock levels",
        ("SKU*", "Stock Level*", "Location*", "Minimum Level", "Unit Cost", "Stock Value", "Bin Rack"),
        _linnworks,
    ),
}  # fmt: skip


def rows(
    found: QuerySet[Sku], places: Sequence[Warehouse], shape: Shape, *, costs: bool
) -> Iterator[Sequence[Any]]:
    """Rows of a file, SKUs by code. Marketplace pools are left out: their figures are not ours to write back.

    `costs`: whoever takes the file may see costs.
    """
    cursor = ""
    counted = found.exclude(kind=Sku.Kind.KIT)
    while True:
        page = keyset_page(counted, order=("code", "id"), cursor=cursor, limit=CHUNK)
        levels = selectors.levels([sku.pk for sku in page.items], [place.pk for place in places])
        for sku in page.items:
            for place in places:
                row = shape.row(sku, place, levels.get((sku.pk, place.pk)), costs)
                if row is not None:
                    yield row
        cursor = page.next_cursor
        if not cursor:
            return
