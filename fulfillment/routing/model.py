"""What the router sees and says: plain dataclasses, no database.

A policy is an ordered list of rules as stored JSON:

    {"name": "US nearest", "active": true, "stop": false,
     "when": {"all": [{"field": "country", "op": "eq", "value": "US"},
                      {"field": "sku", "op": "ne", "value": "FRIDGE", "lines": "all"}]},
     "then": {"only": ["EAST", "WEST"], "rank": ["distance"], "max_splits": 1}}

A rule's `when` is a group of conditions (see conditions.py). Its `then` may hold: `only`, `prefer`, `exclude`
(warehouse codes), `rank` (criteria, most important first), `max_splits` (shipments at most), `ship_complete`,
`split_kits`, `hold` (a reason), `tags`, and `try`: alternatives of those same limits, tried in order until one
places everything. Every matching rule applies, in order, until one says stop; where two write the same word
the later one wins and the loss is in the trace.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

#: criteria a rule may rank by; smaller is better for each
RANKINGS = ("on_time", "fewest_splits", "ship_day", "cost", "distance", "priority", "balance")
#: what decides when no rule ranks. Fewest shipments come first wherever a ranking does not place them itself
DEFAULT_RANK = ("on_time", "cost", "ship_day", "priority")

LIMITS = ("only", "prefer", "exclude", "rank", "max_splits", "ship_complete", "split_kits")
ACTIONS = (*LIMITS, "try", "hold", "tags")


@dataclass(frozen=True, slots=True)
class LineView:
    """A line still to be placed: `quantity` units of `sku`; a kit names its components per unit."""

    line_id: int
    sku: str
    quantity: int
    parts: tuple[tuple[str, int], ...]  # (component code, per unit); a plain SKU names itself once
    mcf_allowed: bool = False  # units of an FBA pool may serve it
    rejected: tuple[str, ...] = ()  # warehouses that refused this line or could not find it
    attributes: tuple[str, ...] = ()  # words rules may ask for: brand, category, dangerous

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
    short_units: int = 0  # wait for stock and are not among the lines
    shipments_made: int = 0  # sent or in work already; they count towards max_splits
    stock_at: tuple[str, ...] = ()  # warehouses that have everything; the planner fills it in
    channel_name: str = ""  # as people call it; rules ask for the code


@dataclass(frozen=True, slots=True)
class WarehouseView:
    """A candidate. `stock` is available units plus what this very order already holds there, by SKU code.

    `ship_day` is the local day on which the order would leave, None when it never opens; `closed` the reason
    of a closure that covers today. `capacity_left` counts shipments of that day, None = no limit; `planned`
    those already waiting there.
    """

    code: str
    kind: str = "own"
    stock: Mapping[str, int] = field(default_factory=dict)
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
    cost_note: str = ""  # where the cost comes from when not from a live rate
    rejected: bool = False  # it said no to this order before
    time_zone: str = "UTC"
    closed: str = ""
    planned: int = 0


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
    """Units of a line to be shipped from a warehouse.

    Where a rule allows kits to be split, `sku` names the component and `quantity` counts its eaches.
    """

    line_id: int
    warehouse: str
    quantity: int
    sku: str = ""


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

    @property
    def warehouses(self) -> tuple[str, ...]:
        """The codes that send something."""
        return tuple(sorted({part.warehouse for part in self.parts}))


def policy_from(version: int, rules: Sequence[Mapping[str, Any]]) -> Policy:
    """A policy from its stored form. Raises ValueError with the rule's name for an unknown or misused word."""
    from fulfillment.routing.conditions import validate

    made = []
    for index, raw in enumerate(rules, start=1):
        name = str(raw.get("name") or f"rule {index}")
        _check_actions(name, raw.get("then") or {}, ACTIONS)
        then = dict(raw.get("then") or {})
        for option in then.get("try", ()):
            _check_actions(name, option, LIMITS)
        validate(name, raw.get("when") or {})
        when = dict(raw.get("when") or {})
        made.append(Rule(name, when, then, bool(raw.get("active", True)), bool(raw.get("stop", False))))
    return Policy(version, tuple(made))


def places_named(policy: Policy) -> dict[str, str]:
    """Code of each warehouse that a rule names → the first rule that does."""
    found: dict[str, str] = {}
    for rule in policy.rules:
        for limits in (rule.then, *rule.then.get("try", ())):
            for word in ("only", "prefer", "exclude"):
                for code in limits.get(word, ()):
                    found.setdefault(code, rule.name)
    return found


def _check_actions(name: str, then: Any, allowed: Sequence[str]) -> None:
    if not isinstance(then, Mapping):
        raise ValueError(f"{name}: what a rule does is an object with {', '.join(allowed)}")
    unknown = sorted(set(then) - set(allowed))
    if unknown:
        raise ValueError(f"{name}: unknown action {', '.join(unknown)}; use {', '.join(allowed)}")
    for word in ("only", "prefer", "exclude", "rank", "tags", "try"):
        if not isinstance(then.get(word, []), list | tuple):
            raise ValueError(f"{name}: {word} is a list")
        if word != "try" and any(not isinstance(item, str) for item in then.get(word, ())):
            raise ValueError(f"{name}: {word} is a list of texts")
    if not isinstance(then.get("hold", ""), str):
        raise ValueError(f"{name}: hold is the reason, a text")
    wrong = [word for word in then.get("rank", ()) if word not in RANKINGS]
    if wrong:
        raise ValueError(f"{name}: unknown ranking {', '.join(map(str, wrong))}; use {', '.join(RANKINGS)}")
    for word in ("ship_complete", "split_kits"):
        if not isinstance(then.get(word, False), bool):
            raise ValueError(f"{name}: {word} is true or false")
    splits = then.get("max_splits", 1)
    if not isinstance(splits, int) or isinstance(splits, bool) or splits < 1:
        raise ValueError(f"{name}: max_splits is the most shipments allowed, 1 or more")
