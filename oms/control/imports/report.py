"""What a file holds, or what applying it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from inventory.approvals import Sum
from oms.control.imports.items import Problem

#: problems kept per file for the screen; the counts go on
KEEP_PROBLEMS = 5000


@dataclass
class Report:
    profile: str
    rows: int = 0
    items: int = 0  # orders, purchase orders, stock rows and problems; what a resumed run skips
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    new_codes: set[str] = field(default_factory=set)
    #: first rows of a stock file: row, SKU, warehouse id, before, after
    shown: list[tuple[Any, ...]] = field(default_factory=list)

    places: set[int] = field(default_factory=set)  # ids of the warehouses whose stock it changes
    #: what applying the file changes, held against the adjustment limit
    total: Sum = field(default_factory=Sum)

    @property
    def room(self) -> bool:
        """Whether one more problem is kept."""
        return len(self.problems) < KEEP_PROBLEMS

    def problem(self, problem: Problem) -> None:
        self.counts["errors" if problem.level == "error" else "notes"] += 1
        if self.room:
            self.problems.append(problem)

    def add(self, part: Report) -> None:
        """Count one chunk's report in."""
        self.rows += part.rows
        self.items += part.items
        self.counts += part.counts
        self.problems += part.problems[: max(0, KEEP_PROBLEMS - len(self.problems))]

    def told(self) -> dict[str, Any]:
        """All of it as JSON; `heard` reads it back."""
        total = vars(self.total) | {
            "value": str(self.total.value), "dearest": str(self.total.dearest), "places": sorted(self.total.places),
        }  # fmt: skip
        return vars(self) | {
            "counts": dict(self.counts),
            "problems": [vars(problem) for problem in self.problems],
            "new_codes": sorted(self.new_codes),
            "places": sorted(self.places),
            "total": total,
        }

    @classmethod
    def heard(cls, told: Mapping[str, Any]) -> Report:
        """What `told` wrote down."""
        total = Sum(**told["total"])
        total.value, total.dearest, total.places = (
            Decimal(total.value),
            Decimal(total.dearest),
            set(total.places),
        )
        return cls(
            told["profile"], told["rows"], told["items"], Counter(told["counts"]),
            [Problem(**one) for one in told["problems"]], set(told["new_codes"]),
            [tuple(one) for one in told["shown"]], set(told["places"]), total,
        )  # fmt: skip
