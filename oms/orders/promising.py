"""When waiting lines get their goods: what comes is given to them in the order in which stock will serve them (pure).

A line's answer depends on the lines before it and never on those behind: where supply shrinks, the last in line
lose first, and nobody is chosen at random.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: what brings units: ("PO", purchase order id) or ("TR", transfer id)
Source = tuple[str, int]
#: what lies in stock is there before anything that comes
IN_STOCK = dt.date.min


@dataclass(frozen=True, slots=True)
class Supply:
    """Units of a SKU, in eaches, that are at a warehouse on a day. `source` brings them; None is stock."""

    sku_id: int
    warehouse_id: int
    units: int
    on: dt.date
    source: Source | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A line that lacks `units` of what it sells; one of them takes `needs`: (SKU, eaches) each.

    `places`: the warehouses that may serve it, best first. One unit is never put together from two warehouses.
    `assembled`: a kit, whose other components may be in stock already; stock of a plain SKU would have been given
    to the line when it came.
    """

    line_id: int
    units: int
    needs: tuple[tuple[int, int], ...]
    places: tuple[int, ...]
    assembled: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """`covered` of the line's units come until `on`, the last of them with `source`. Fewer than all: no day."""

    covered: int
    on: dt.date | None
    source: Source | None


@dataclass(slots=True)
class _Batch:
    on: dt.date
    source: Source | None
    left: int


_Pools = dict[tuple[int, int], list[_Batch]]


def plan(waiting: Sequence[Waiting], supplies: Iterable[Supply]) -> dict[int, Expected]:
    """What each line may expect, by line id; lines in the order of service. A warehouse's earliest units go first."""
    pools: _Pools = {}
    for supply in sorted(supplies, key=lambda one: (one.on, one.source is not None, one.source)):
        pools.setdefault((supply.sku_id, supply.warehouse_id), []).append(
            _Batch(supply.on, supply.source, supply.units)
        )
    return {line.line_id: _serve(line, pools) for line in waiting}


@dataclass(frozen=True, slots=True)
class _Offer:
    """The next units of a line that one warehouse can put together."""

    on: dt.date
    source: Source | None
    units: int
    place: int


def _serve(line: Waiting, pools: _Pools) -> Expected:
    left, last = line.units, None
    while left:
        offers = [offer for place in line.places if (offer := _next(line, place, pools)) is not None]
        if not offers:
            return Expected(line.units - left, None, None)
        last = min(offers, key=lambda offer: offer.on)  # of equals the better place, which comes first
        units = min(left, last.units)
        for sku_id, each in line.needs:
            _take(_usable(line, sku_id, last.place, pools), units * each)
        left -= units
    if last is None or last.on == IN_STOCK:
        return Expected(line.units, None, None)  # nothing that comes is waited for
    return Expected(line.units, last.on, last.source)


def _usable(line: Waiting, sku_id: int, place: int, pools: _Pools) -> list[_Batch]:
    return [
        batch
        for batch in pools.get((sku_id, place), ())
        if batch.left and (batch.source is not None or line.assembled)
    ]


def _next(line: Waiting, place: int, pools: _Pools) -> _Offer | None:
    """The earliest day on which the place has one unit's parts together, and how many units they are that day."""
    on, source = IN_STOCK, None
    for sku_id, each in line.needs:
        gathered = 0
        for batch in _usable(line, sku_id, place, pools):
            gathered += batch.left
            if gathered >= each:
                if batch.on > on:
                    on, source = batch.on, batch.source
                break
        else:
            return None
    units = min(
        sum(batch.left for batch in _usable(line, sku_id, place, pools) if batch.on <= on) // each
        for sku_id, each in line.needs
    )
    return _Offer(on, source, units, place)


def _take(batches: Sequence[_Batch], units: int) -> None:
    for batch in batches:
        taken = min(units, batch.left)
        batch.left -= taken
        units -= taken
