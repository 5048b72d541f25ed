"""What the router sees and says: plain dataclasses, no database.

A policy is an ordered list of rules. A rule's `when` is a group of conditions; its `then` limits or ranks the
warehouses. Every matching rule applies, in order, until one says stop; where two write the same field the
later one wins and the loss is in the trace (A01).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

RANKINGS = ("fewest_splits", "ship_day", "cost", "distance", "priority", "balance")
DEFAULT_RANK = ("ship_day", "cost", "priority")


@dataclass(frozen=True, slots=True)
class LineView:
    """A line still to be placed: `quantity` units of `sku`; a kit names its components per unit."""

    line_id: int
    sku: str
    quantity: int
    parts: tuple[tuple[str, int], ...]  # (component code, per unit); a plain SKU names itself once
    mcf_allowed: bool = False

    @property
    def is_kit(self) -> bool:
        return len(self.parts) > 1 or self.parts[0][0] != self.sku


@dataclass(frozen=True, slots=True)
class OrderView:
    number: str
    channel: str
    country: str
    region: str
    postal: str
    value: Decimal
    currency: str
    weight_g: int
    lines: tuple[LineView, ...]
    tags: tuple[str, ...] = ()
    service: str = ""
    risk: str = "low"
    blocked: str = ""  # why it may not be routed at all
    ship_by: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class WarehouseView:
    """A candidate. `stock` is available units plus what this very order already holds there, by SKU code."""

    code: str
    kind: str
    stock: dict[str, int]
    active: bool = True
    fulfils: bool = True
    priority: int = 100
    ship_day: dt.date | None = None
    capacity_left: int | None = None
    cost: Decimal | None = None  # quoted shipping plus handling, in `currency`
    currency: str = "USD"
    zone: str = ""
    transit_days: int | None = None
    distance_km: int | None = None
    is_estimate: bool = True
    rejected: bool = False  # it said no to this order before (F06)


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    when: dict[str, Any]
    then: dict[str, Any]
    active: bool = True
    stop: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    version: int
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Units of a line to be shipped from a warehouse."""

    line_id: int
    warehouse: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`outcome`: routed (everything placed), partly, no_route, held, blocked."""

    outcome: str
    parts: tuple[Part, ...]
    short: dict[int, int]
    summary: str
    trace: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    hold: str = ""


def policy_from(version: int, rules: list[dict[str, Any]]) -> Policy:
    """A policy from its stored form. Raises ValueError with the rule's name for an unknown word."""
    from fulfillment.routing.conditions import validate

    made = []
    for index, raw in enumerate(rules, start=1):
        name = str(raw.get("name") or f"rule {index}")
        then = dict(raw.get("then") or {})
        unknown = set(then) - {"only", "prefer", "exclude", "hold", "tags", "max_splits", "ship_complete", "rank", "split_kits"}
        if unknown:
            raise ValueError(f"{name}: unknown action {', '.join(sorted(unknown))}")
        wrong = [word for word in then.get("rank", []) if word not in RANKINGS]
        if wrong:
            raise ValueError(f"{name}: unknown ranking {', '.join(wrong)}; use {', '.join(RANKINGS)}")
        when = dict(raw.get("when") or {})
        validate(name, when)
        made.append(Rule(name, when, then, bool(raw.get("active", True)), bool(raw.get("stop", False))))
    return Policy(version, tuple(made))
