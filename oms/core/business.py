"""Business settings: the known names, their defaults and what they mean. Stored in `Setting`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from oms.core.errors import UserError
from oms.core.models import Setting


@dataclass(frozen=True)
class Known:
    default: Any
    label: str
    choices: tuple[tuple[str, str], ...] = ()  # value and words, where only these are possible


KNOWN: dict[str, Known] = {
    "company_name": Known("Lading", "Name on documents"),
    "currency": Known("USD", "Business currency: reports and costs"),
    "service_level": Known("0.95", "Cycle service level of reorder points"),
    "cover_days": Known(30, "Days of demand one order covers"),
    "order_cost": Known("0", "Cost of placing one purchase order, for the best order size; 0: unknown"),
    "lead_time_risk": Known(
        "independent",
        "How demand and lead time vary",
        (
            ("independent", "Independently of each other"),
            ("together", "Together: suppliers are late when much is sold"),
        ),
    ),
    "carrying_rate": Known("0.25", "Yearly carrying cost as a share of stock value"),
    "target_turnover": Known("6", "Target: turns of the stock in a year"),
    "target_cycle_hours": Known(24, "Target: hours from order to shipped, median"),
    "target_return_rate": Known("0.08", "Target: share of units that come back"),
    "target_stockout_rate": Known("0.02", "Target: share of demand lines that stock did not cover"),
    "last_units": Known(3, "At or below this many units the rest is partitioned over channels"),
    "adjustment_limit": Known("500", "Value of an adjustment above which a second person approves"),
    "adjustment_batch": Known(
        "whole",
        "What the limit counts in a file or bulk edit",
        (("whole", "All rows together"), ("row", "The dearest row")),
    ),
    "valuation": Known(
        "average", "How stock is valued", (("average", "Moving average"), ("fifo", "First in, first out"))
    ),
    "purchase_late_days": Known(2, "Days after its date that a purchase order is told as late"),
    "transfer_days": Known(3, "Days that a transfer between two warehouses takes"),
    "transfer_late_days": Known(1, "Days after its date that a transfer is told as late"),
    "low_stock_days": Known(7, "Days of cover below which a SKU is low on stock"),
    "count_days_a": Known(30, "Days between counts of A items"),
    "count_days_b": Known(90, "Days between counts of B items"),
    "count_days_c": Known(180, "Days between counts of C items"),
    "backorder_priority": Known(
        "ship_by",
        "Who gets new stock first",
        (
            ("ship_by", "The earliest ship-by time"),
            ("oldest", "The oldest order"),
            ("value", "The highest value still short"),
        ),
    ),
    "push_paused": Known(False, "All stock pushes are paused"),
}


_known: ContextVar[dict[str, Any] | None] = ContextVar("known", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Inside it all settings are read with one query: for a page that needs many of them."""
    token = _known.set(dict(Setting.objects.values_list("pk", "value")))
    try:
        yield
    finally:
        _known.reset(token)


def get(name: str) -> Any:
    """The value of a known setting; KeyError for an unknown name."""
    default = KNOWN[name].default
    known = _known.get()
    if known is not None:
        return known.get(name, default)
    row = Setting.objects.filter(pk=name).first()
    return default if row is None else row.value


def put(name: str, value: Any) -> None:
    """Store a known setting. Raises `UserError` for an unknown name or a value that it cannot have."""
    if name not in KNOWN:
        raise UserError(f"setting: '{name}' is unknown.", field=name)
    default = KNOWN[name].default
    if type(value) is not type(default):
        raise UserError(f"{name}: expected a value like {default!r}.", field=name)
    if KNOWN[name].choices and value not in dict(KNOWN[name].choices):
        possible = ", ".join(known for known, _ in KNOWN[name].choices)
        raise UserError(f"{name}: '{value}' is not one of {possible}.", field=name)
    Setting.objects.update_or_create(pk=name, defaults={"value": value})


def currency() -> str:
    """The business currency, ISO 4217."""
    return str(get("currency"))
