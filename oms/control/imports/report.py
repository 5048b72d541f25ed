"""What a file holds, or what applying it did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
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
