"""Moving average cost: pure sums over Decimals, four decimals, never negative."""

from __future__ import annotations

from collections.abc import Iterable
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
