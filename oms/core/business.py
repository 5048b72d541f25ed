"""Business settings: the known names, their defaults and what they mean. Stored in `Setting`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from oms.core.errors import UserError
from oms.core.models import Setting


@dataclass(frozen=True)
class Known:
    default: Any
    label: str


KNOWN: dict[str, Known] = {
    "company_name": Known("Lading", "Name on documents"),
    "currency": Known("USD", "Business currency: reports and costs"),
    "service_level": Known("0.95", "Cycle service level of reorder points"),
    "cover_days": Known(30, "Days of demand one order covers"),
    "carrying_rate": Known("0.25", "Yearly carrying cost as a share of stock value"),
    "last_units": Known(3, "At or below this many units the rest is partitioned over channels"),
    "adjustment_limit": Known("500", "Value of an adjustment above which a second person approves"),
    "push_paused": Known(False, "All stock pushes are paused"),
}


def get(name: str) -> Any:
    """The value of a known setting; KeyError for an unknown name."""
    default = KNOWN[name].default
    row = Setting.objects.filter(pk=name).first()
    return default if row is None else row.value


def put(name: str, value: Any) -> None:
    """Store a known setting. Raises `UserError` for an unknown name or a value of another type."""
    if name not in KNOWN:
        raise UserError(f"setting: '{name}' is unknown.", field=name)
    default = KNOWN[name].default
    if type(value) is not type(default):
        raise UserError(f"{name}: expected a value like {default!r}.", field=name)
    Setting.objects.update_or_create(pk=name, defaults={"value": value})


def currency() -> str:
    """The business currency, ISO 4217."""
    return str(get("currency"))
