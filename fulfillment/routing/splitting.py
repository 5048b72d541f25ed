"""Dividing an order's units over given warehouses: kits whole, unless splitting them is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fulfillment.routing.filters import for_line
from fulfillment.routing.model import LineView, OrderView, Part, WarehouseView


def fits(line: LineView, stock: Mapping[str, int]) -> int:
    """Whole units of the line that the stock can give."""
    return max(0, min((stock.get(code, 0) // per_unit for code, per_unit in line.parts), default=0))


def allocate(
    order: OrderView, group: Sequence[WarehouseView], *, split_kits: bool = False
) -> tuple[list[Part], int]:
    """Parts from the group in its order, and how many units of lines they place.

    Kits come first because they are harder to place. A line goes whole to the first warehouse that has all of
    it, else unit by unit. What one line takes is gone for the next; never more than a warehouse has is given.
    """
    left = {warehouse.code: dict(warehouse.stock) for warehouse in group}
    parts: list[Part] = []
    placed = 0
    for line in sorted(order.lines, key=lambda item: (not item.is_kit, item.line_id)):
        places = [w.code for w in group if for_line(w, line) is None]
        whole = next((code for code in places if fits(line, left[code]) >= line.quantity), None)
        todo = line.quantity
        for code in [whole] if whole is not None else places:
            take = min(todo, fits(line, left[code]))
            if take:
                parts.append(Part(line.line_id, code, take))
                for sku, per_unit in line.parts:
                    left[code][sku] -= take * per_unit
                todo -= take
        if todo and split_kits and line.is_kit:
            todo -= _split_kits(line, todo, places, left, parts)
        placed += line.quantity - todo
    return parts, placed


def _split_kits(
    line: LineView, wanted: int, places: Sequence[str], left: dict[str, dict[str, int]], parts: list[Part]
) -> int:
    """Make kits whose components come from different warehouses; returns how many."""
    kits = min(
        sum(max(0, left[code].get(sku, 0)) for code in places) // per_unit for sku, per_unit in line.parts
    )
    kits = min(kits, wanted)
    for sku, per_unit in line.parts:
        need = kits * per_unit
        for code in places:
            take = min(need, max(0, left[code].get(sku, 0)))
            if take:
                parts.append(Part(line.line_id, code, take, sku))
                left[code][sku] -= take
                need -= take
    return kits
