"""Exact conversions at a carrier's edge. Inside, weight is whole grams and length whole millimetres."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

#: grams in one unit, exact by definition of the international pound
GRAMS = {
    "g": Decimal(1),
    "kg": Decimal(1000),
    "lb": Decimal("453.59237"),
    "oz": Decimal("453.59237") / 16,
}

#: millimetres in one unit
MILLIMETRES = {"mm": Decimal(1), "cm": Decimal(10), "in": Decimal("25.4")}


def weight_in(grams: int, unit: str, places: int = 4) -> Decimal:
    """Grams as g, kg, lb or oz, rounded half up to `places` decimals."""
    return (Decimal(grams) / GRAMS[unit]).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
