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
from oms.core.errors import UserError
from oms.core.paging import keyset_page

#: SKUs looked up at a time; memory does not grow with the catalogue
CHUNK = 500


@dataclass(frozen=True)
class Spot:
    """A warehouse and how a file names it: by its name where only this warehouse has it, else by its code."""

    place: Warehouse
    name: str


@dataclass(frozen=True)
class Shape:
    title: str
    header: tuple[str, ...]
    row: Callable[[Sku, Spot, LevelView | None, bool], Sequence[Any] | None]
    delimiter: str = ","
    suffix: str = "csv"
    #: no column says where the units are: the file is of one warehouse
    one_place: bool = False


def _own(sku: Sku, spot: Spot, level: LevelView | None, costs: bool) -> Sequence[Any] | None:
    if level is None or not spot.place.counted_by_us:
        return None
    return [sku.code, spot.place.code, "", level.on_hand, "set", "", "", level.average_cost if costs else ""]


def _shopify(sku: Sku, spot: Spot, level: LevelView | None, costs: bool) -> Sequence[Any] | None:
    if not spot.place.counted_by_us:
        return None
    options = [part for pair in list(sku.options.items())[:3] for part in pair] or ["Title", "Default Title"]
    figures: list[Any] = ["not stocked"] * 6
    if level is not None:
        figures = [
            level.in_transit, level.unavailable, level.reserved, level.available, level.on_hand, level.on_hand,
        ]  # fmt: skip
    return [
        slugify(sku.product.title), sku.product.title, *options, *[""] * (6 - len(options)), sku.code, sku.hs_code,
        sku.origin_country, spot.name, "", *figures,
    ]  # fmt: skip


def _amazon(sku: Sku, spot: Spot, level: LevelView | None, costs: bool) -> Sequence[Any] | None:
    if level is None or not spot.place.counted_by_us:
        return None
    return [sku.code, "", max(0, level.available - level.safety)]


def _linnworks(sku: Sku, spot: Spot, level: LevelView | None, costs: bool) -> Sequence[Any] | None:
    if level is None or not spot.place.counted_by_us:
        return None
    return [sku.code, level.on_hand, spot.name, "", level.average_cost if costs else "", "", ""]


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
        "Amazon price & quantity", ("sku", "price", "quantity"), _amazon, delimiter="\t", suffix="txt",
        one_place=True,
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

    `costs`: whoever takes the file may see costs. Raises `UserError` for more than one warehouse where the shape has
    no column for it.
    """
    if shape.one_place and sum(place.counted_by_us for place in places) > 1:
        raise UserError(
            f"warehouse: {shape.title} has no column for the warehouse; choose one above the list first.",
            field="warehouse",
        )
    return _rows(found, _spots(places), shape, costs)


def _spots(places: Sequence[Warehouse]) -> list[Spot]:
    """Read back, a name leads to the warehouse with that code, then to the first one with that name."""
    owners: dict[str, set[int]] = {}
    for pk, code, name in Warehouse.objects.values_list("pk", "code", "name"):
        for word in (code, name):
            owners.setdefault(word.strip().upper(), set()).add(pk)
    return [
        Spot(place, place.name if owners.get(place.name.strip().upper()) == {place.pk} else place.code)
        for place in places
    ]


def _rows(found: QuerySet[Sku], spots: Sequence[Spot], shape: Shape, costs: bool) -> Iterator[Sequence[Any]]:
    cursor = ""
    counted = found.exclude(kind=Sku.Kind.KIT)
    while True:
        page = keyset_page(counted, order=("code", "id"), cursor=cursor, limit=CHUNK)
        levels = selectors.levels([sku.pk for sku in page.items], [spot.place.pk for spot in spots])
        for sku in page.items:
            for spot in spots:
                row = shape.row(sku, spot, levels.get((sku.pk, spot.place.pk)), costs)
                if row is not None:
                    yield row
        cursor = page.next_cursor
        if not cursor:
            return
