"""What a supplier really does: lead time, punctuality, completeness, defects. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

#: from so many receipts on the measured lead time replaces the typed one
MIN_RECEIPTS_FOR_LEAD_TIME = 5
#: below so many finished lines a score says "not enough data"
MIN_FINISHED_FOR_SCORE = 3


@dataclass(frozen=True, slots=True)
class LeadTime:
    """Days from order sent to goods received: what the supplier states beside what was measured.

    `measured` is the mean of `receipts` orders (None without any), `sd` their sample standard deviation.
    """

    stated: float
    measured: float | None = None
    sd: float = 0.0
    receipts: int = 0

    @property
    def is_measured(self) -> bool:
        """Enough receipts to plan by what was measured."""
        return self.receipts >= MIN_RECEIPTS_FOR_LEAD_TIME

    @property
    def days(self) -> float:
        """The lead time to plan with: measured from 5 receipts on, else the stated one."""
        return self.measured if self.is_measured and self.measured is not None else self.stated


def lead_time(measured_days: Sequence[float], stated: float) -> LeadTime:
    """Stated and measured lead time; receipts dated before their order are mistakes and left out."""
    usable = [days for days in measured_days if days >= 0]
    if not usable:
        return LeadTime(stated)
    deviation = statistics.stdev(usable) if len(usable) > 1 else 0.0
    return LeadTime(stated, statistics.fmean(usable), deviation, len(usable))


@dataclass(frozen=True, slots=True)
class PurchaseResult:
    """One purchase order line as it ended, or as it stands today when `ended_on` is None.

    `received` counts every unit that arrived, `rejected` those of them that came damaged.
    """

    ordered: int
    received: int = 0
    rejected: int = 0
    promised_on: date | None = None
    ended_on: date | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """Rates are exact fractions from 0 to 1; None means nothing to divide by or too few lines."""

    finished: int
    on_time: Decimal | None
    fill: Decimal | None
    defects: Decimal | None
    overdue_open: int

    @property
    def enough_data(self) -> bool:
        return self.finished >= MIN_FINISHED_FOR_SCORE


def _rate(part: int, whole: int) -> Decimal | None:
    return Decimal(part) / whole if whole else None


def score(results: Sequence[PurchaseResult], *, today: date) -> Score:
    """Rates over finished lines; an open line past its date counts as late already now.

    With fewer than 3 finished lines every rate is None: too little to judge by.
    """
    finished = [line for line in results if line.ended_on is not None]
    overdue = sum(
        line.ended_on is None and line.promised_on is not None and line.promised_on < today
        for line in results
    )
    if len(finished) < MIN_FINISHED_FOR_SCORE:
        return Score(len(finished), None, None, None, overdue)
    punctual = [line.ended_on <= line.promised_on for line in finished if line.ended_on and line.promised_on]
    return Score(
        finished=len(finished),
        on_time=_rate(sum(punctual), len(punctual) + overdue),
        fill=_rate(
            sum(min(line.received, line.ordered) for line in finished), sum(line.ordered for line in finished)
        ),
        defects=_rate(sum(line.rejected for line in finished), sum(line.received for line in finished)),
        overdue_open=overdue,
    )
