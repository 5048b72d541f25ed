"""Exact money: Decimal and a currency, never float; totals to the cent by largest remainder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from math import floor

from oms.core.errors import UserError

#: ISO 4217 minor units that are not 2
_MINOR = {
    "BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0, "RWF": 0,
    "UGX": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
    "BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
}  # fmt: skip
_COINS = tuple(Decimal(1).scaleb(-digits) for digits in range(4))


def minor_digits(currency: str) -> int:
    """Decimal places of the currency's smallest coin (ISO 4217)."""
    return _MINOR.get(currency.upper(), 2)


def quantize(amount: Decimal, currency: str) -> Decimal:
    """Round half up to the currency's smallest coin."""
    return amount.quantize(_COINS[minor_digits(currency)], ROUND_HALF_UP)


def check_coins(field: str, amount: Decimal, currency: str, sum_of: str = "") -> None:
    """Refuse an amount that no coins of the currency make up, such as 1.55 JPY: rounding it would change what was said.

    `sum_of` stands before the amount, such as "2 × 1.55 = ". Raises `UserError` naming `field`.
    """
    if amount != quantize(amount, currency):
        digits = minor_digits(currency)
        most = f"at most {digits} decimals" if digits else "no decimals"
        raise UserError(
            f"{field}: {sum_of}{plain(amount)} is no amount in {currency}; give {most}.", field=field
        )


def plain(amount: Decimal) -> Decimal:
    """The same amount without digits that say nothing: 10.5900 is 10.59, 0.0125 stays."""
    short = amount.quantize(Decimal("0.01"))
    return short if short == amount else amount


@dataclass(frozen=True)
class Money:
    """An amount in one currency. Adding two currencies is an error, never a guess."""

    amount: Decimal
    currency: str

    def __add__(self, other: Money) -> Money:
        if other.currency != self.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        return Money(self.amount + other.amount, self.currency)

    def __str__(self) -> str:
        return f"{quantize(self.amount, self.currency):,} {self.currency}"


def split_largest_remainder(
    total: Decimal, weights: Sequence[Decimal | int | Fraction], currency: str
) -> list[Decimal]:
    """Split `total` in proportion to `weights` so that the parts sum to it to the coin.

    Each share is rounded down, the coins left go to the largest fractions; equal fractions prefer the
    larger share, then the earlier place. All weights zero means equal parts. The sum is exact: no digit
    of a repeating decimal decides who gets a coin.

    Raises ValueError for a negative weight or no weights.
    """
    if not weights:
        raise ValueError("nothing to split over")
    exact = [Fraction(weight) for weight in weights]
    if min(exact) < 0:
        raise ValueError("weights cannot be negative")
    if not any(exact):
        exact = [Fraction(1)] * len(exact)
    digits = minor_digits(currency)
    coins = int(quantize(abs(total), currency).scaleb(digits))
    whole = sum(exact)
    shares = [coins * weight / whole for weight in exact]
    parts = [floor(share) for share in shares]
    by_fraction = sorted(range(len(parts)), key=lambda i: (parts[i] - shares[i], -exact[i], i))
    for index in by_fraction[: coins - sum(parts)]:
        parts[index] += 1
    sign = -1 if total < 0 else 1
    return [Decimal(sign * part).scaleb(-digits) for part in parts]
