"""What the goods of a parcel are worth (pure): an order's goods after discounts, shared to the coin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from oms.core.money import minor_digits, split_largest_remainder


@dataclass(frozen=True, slots=True)
class Sold:
    """An order line: what it costs after its discount, how many units were sold, and what one of them holds.

    `parts` maps a SKU to (units of it per sold unit, value of one as a weight); one entry but for kits.
    """

    net: Decimal
    units: int
    parts: Mapping[int, tuple[int, Fraction]]


@dataclass(frozen=True, slots=True)
class Goods:
    """Units of one SKU of one order line at one place: a key of the caller's."""

    place: int
    line: int
    sku: int
    units: int


def share(
    total: Decimal, sold: Mapping[int, Sold], goods: Sequence[Goods], currency: str
) -> dict[int, Decimal]:
    """The value of each place, so that all of them and what is in none of them sum to `total` to the coin.

    Each line weighs what it costs, each component of a kit its part of that; a discount of the whole order follows.
    """
    weights = []
    left = {line: Fraction(max(one.net, Decimal(0))) for line, one in sold.items()}
    for one in goods:
        line = sold[one.line]
        whole = sum(
            (per * weight * line.units for per, weight in line.parts.values()), Fraction(0)
        ) or Fraction(1)
        weight = Fraction(max(line.net, Decimal(0))) * line.parts[one.sku][1] * one.units / whole
        weights.append(weight)
        left[one.line] -= weight
    rest = max(sum(left.values(), Fraction(0)), Fraction(0))
    parts = split_largest_remainder(max(total, Decimal(0)), [*weights, rest], currency)
    return {one.place: value for one, value in zip(goods, parts, strict=False)}


def per_unit(value: Decimal, units: int, currency: str) -> list[tuple[int, Decimal]]:
    """`value` as (units, value of each): one pair, or two that differ by a coin, so that the sum is exact.

    10.00 for 3 units is 2 at 3.33 and 1 at 3.34.
    """
    coin = Decimal(1).scaleb(-minor_digits(currency))
    each = (value / units).quantize(coin, "ROUND_DOWN")
    dearer = int((value - each * units) / coin)
    return [(count, price) for count, price in ((units - dearer, each), (dearer, each + coin)) if count]
