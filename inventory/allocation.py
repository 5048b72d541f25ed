"""Decides which warehouse gives how much, on plain figures: pure, no database.

Order of service is the order of the lines; of a line, the order of its candidates. A warehouse that can hold
the whole line is preferred over a split. Kits are promised whole.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

Pair = tuple[int, int]  # (SKU id, warehouse id)


@dataclass(frozen=True, slots=True)
class Demand:
    """`quantity` units of which each takes `parts` = (counted SKU, eaches), from `candidates` in order.

    `held_back`: eaches per (SKU, warehouse) that are available to others but not to this demand: units kept for
    another channel, or too short-dated for its own.
    """

    quantity: int
    parts: tuple[tuple[int, int], ...]
    candidates: tuple[int, ...]
    allow_split: bool = True
    held_back: Mapping[Pair, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Take:
    sku_id: int
    warehouse_id: int
    quantity: int  # eaches of the counted SKU
    per_unit: int


@dataclass(frozen=True, slots=True)
class Planned:
    units: int
    takes: tuple[Take, ...]


def plan(demands: Sequence[Demand], available: Mapping[Pair, int]) -> list[Planned]:
    """Serve every demand as far as `available` reaches; never more than it, nothing lost.

    Raises ValueError for a demand below 1 unit or without parts.
    """
    left = {pair: max(0, units) for pair, units in available.items()}
    return [_serve(demand, left) for demand in demands]


def _serve(demand: Demand, left: MutableMapping[Pair, int]) -> Planned:
    if demand.quantity < 1 or not demand.parts:
        raise ValueError("a demand needs at least one unit and one part")

    def whole(warehouse: int) -> int:
        """Units that this warehouse alone can give."""
        return min(_open(demand, left, (sku, warehouse)) // each for sku, each in demand.parts)

    by_warehouse: dict[int, int] = {}
    full = next((w for w in demand.candidates if whole(w) >= demand.quantity), None)
    if full is not None:
        by_warehouse[full] = demand.quantity
    elif not demand.allow_split:
        best = max(demand.candidates, key=whole, default=None)  # the first of equals
        if best is not None and whole(best):
            by_warehouse[best] = whole(best)
    else:
        rest = demand.quantity
        for warehouse in dict.fromkeys(demand.candidates):
            units = min(rest, whole(warehouse))
            if units:
                by_warehouse[warehouse] = units
                rest -= units
    takes = []
    for warehouse, units in by_warehouse.items():
        for sku, each in demand.parts:
            left[sku, warehouse] -= units * each
            takes.append(Take(sku, warehouse, units * each, each))
    return Planned(sum(by_warehouse.values()), tuple(takes))


def _open(demand: Demand, left: Mapping[Pair, int], pair: Pair) -> int:
    """What is left of a level for this demand."""
    return max(0, left.get(pair, 0) - demand.held_back.get(pair, 0))
