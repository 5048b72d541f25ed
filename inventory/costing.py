"""Moving average and first in, first out: pure sums over Decimals, four decimals, never negative."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal

FOUR = Decimal("0.0001")


def moving_average(on_hand: int, average: Decimal, received: Iterable[tuple[int, Decimal]]) -> Decimal:
    """Average cost per unit after receipts of (units, landed cost per unit), in one currency.

    Stock at or below zero weighs nothing, so an old shortage can neither turn the average negative nor blow
    it up. Raises ValueError for a negative cost.
    """
    units, value = max(0, on_hand), max(0, on_hand) * average
    for quantity, cost in received:
        if cost < 0:
            raise ValueError("a unit cost cannot be negative")
        units += quantity
        value += quantity * cost
    return (value / units).quantize(FOUR, ROUND_HALF_UP) if units > 0 else average


def spread_cost(on_hand: int, average: Decimal, amount: Decimal, units: int) -> tuple[Decimal, Decimal]:
    """Put a late cost of `units` received units on what is still there: (new average, part that fits on stock).

    The part of units already sold is not put on the others; it belongs to cost of goods sold.
    """
    kept = max(0, min(on_hand, units))
    if not kept or units <= 0:
        return average, Decimal(0)
    part = (amount * kept / units).quantize(Decimal("0.01"), ROUND_HALF_UP) if kept < units else amount
    return (average + part / on_hand).quantize(FOUR, ROUND_HALF_UP), part


@dataclass(frozen=True, slots=True)
class Layer:
    """What is left of one arrival: units and what all of them together cost. `key` 0 is not stored yet."""

    units: int
    value: Decimal
    key: int = 0
    reference: str = ""


def take_oldest(layers: Iterable[Layer], units: int) -> tuple[list[Layer], Decimal]:
    """Layers (oldest first) after `units` left, emptied ones included, and what the units had cost.

    A part of a layer takes its share rounded to four decimals and the last unit takes what is left, so that all
    takings of a layer add up to what it cost. Raises ValueError when the layers hold fewer units.
    """
    left, out, cost = [], units, Decimal(0)
    for layer in layers:
        taken = min(out, layer.units)
        part = layer.value
        if taken < layer.units:
            part = (layer.value * taken / layer.units).quantize(FOUR, ROUND_HALF_UP)
        if taken:
            layer = replace(layer, units=layer.units - taken, value=layer.value - part)
            out -= taken
            cost += part
        left.append(layer)
    if out > 0:
        raise ValueError(f"the layers hold {units - out} units, {units} leave")
    return left, cost


def add_late_cost(
    layers: Iterable[Layer], amount: Decimal, units: int, reference: str = ""
) -> tuple[list[Layer], Decimal]:
    """Layers after a late bill of `amount` for `units` received units, and the part that fits on stock.

    The bill belongs to the layers that carry `reference`, or without one to the newest. Each unit still there
    bears amount ÷ units; the rest is of units already sold.
    """
    rows = list(layers)
    mine = [layer for layer in rows if layer.units and (not reference or layer.reference == reference)]
    kept = min(units, sum(layer.units for layer in mine))
    if units <= 0 or not kept:
        return rows, Decimal(0)
    part = amount if kept == units else (amount * kept / units).quantize(Decimal("0.01"), ROUND_HALF_UP)
    raised: dict[int, Decimal] = {}
    rest_units, rest = kept, part
    for layer in reversed(mine):
        take = min(rest_units, layer.units)
        if not take:
            break
        share = rest if take == rest_units else (rest * take / rest_units).quantize(FOUR, ROUND_HALF_UP)
        raised[id(layer)] = share
        rest_units -= take
        rest -= share
    return [
        replace(layer, value=layer.value + raised[id(layer)]) if id(layer) in raised else layer
        for layer in rows
    ], part
