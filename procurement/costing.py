"""Landed cost: how a charge is spread over purchase lines and what one good unit costs. Pure functions.

Money is Decimal in one currency; a bill in another currency is converted once, at its own rate. Unit
costs are exact and rounded only where they are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from oms.core.errors import UserError
from oms.core.money import quantize, split_largest_remainder

Basis = Literal["quantity", "value", "weight", "volume", "equal"]


@dataclass(frozen=True, slots=True)
class CostLine:
    """A purchase line as the spreading of charges sees it; per-each grams and cubic millimetres."""

    sku: str
    quantity: int
    unit_price: Decimal
    weight_g: Decimal | int | None = None
    volume_mm3: int | None = None
    dutiable: bool = True

    @property
    def value(self) -> Decimal:
        return self.quantity * self.unit_price


def basis_weights(basis: str, lines: Sequence[CostLine]) -> list[Decimal]:
    """How much of a charge each line carries, before rounding.

    Raises UserError naming the SKU whose weight or size is missing: a guess would spread it wrongly.
    """
    if basis == "equal":
        return [Decimal(1) for _ in lines]
    if basis == "quantity":
        return [Decimal(line.quantity) for line in lines]
    if basis == "value":
        return [line.value for line in lines]
    measure, word = {"weight": ("weight_g", "weight"), "volume": ("volume_mm3", "dimensions")}.get(
        basis, ("", "")
    )
    if not measure:
        raise UserError(
            f"basis: {basis!r} is not one of quantity, value, weight, volume, equal.", field="basis"
        )
    missing = [line.sku for line in lines if not getattr(line, measure)]
    if missing:
        raise UserError(
            f"basis: {', '.join(missing)} has no {word}; enter it or choose another basis.", field="basis"
        )
    return [Decimal(line.quantity * getattr(line, measure)) for line in lines]


def spread(
    amount: Decimal, basis: str, lines: Sequence[CostLine], currency: str, *, dutiable_only: bool = False
) -> list[Decimal]:
    """Shares of a charge per line, in order; they sum to `amount` to the coin.

    With `dutiable_only` lines free of duty carry nothing. Raises UserError when the basis says nothing
    about the lines (all zero) or a measure is missing.
    """
    carrying = [line for line in lines if line.dutiable or not dutiable_only]
    weights = basis_weights(basis, carrying)
    if not any(weights):
        raise UserError(f"basis: {basis} is zero on every line; choose another basis.", field="basis")
    shares = iter(split_largest_remainder(amount, weights, currency))
    return [next(shares) if line.dutiable or not dutiable_only else Decimal(0) for line in lines]


def unit_landed(goods: Decimal, charges: Decimal, good_units: int) -> Decimal:
    """Landed cost of one good unit: (goods + charges) ÷ good units; damaged ones leave their cost on these.

    Raises ValueError when no unit is good: then there is nothing to carry the cost and it is a write-off.
    """
    if good_units <= 0:
        raise ValueError("no good unit to carry the cost")
    return (goods + charges) / good_units


def accrue(share: Decimal, *, ordered: int, received: int, taken: Decimal, currency: str) -> Decimal:
    """The part of a line's share that a receipt takes now, given `received` units so far including it.

    Counted from the beginning, so that three receipts never take the full freight thrice and the last
    one takes the rest to the coin. Units beyond the ordered quantity take nothing more.
    """
    due = share if received >= ordered else quantize(share * received / ordered, currency)
    return due - taken
