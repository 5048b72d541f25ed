"""What a supplier really does: lead time, punctuality, completeness, defects. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

#: from so many receipts on the measured lead time replaces the typed one
MIN_RECEIPTS_FOR_LEAD_TIME = 5
#: below this a score says "not enough data"
MIN_RECEIPTS_FOR_SCORE = 3


def percentile(values: Sequence[float], share: float) -> float:
    """Linear interpolation between closest ranks, as PostgreSQL's percentile_cont.

    Raises ValueError for no values or a share outside 0 … 1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError("percentile needs values and a share between 0 and 1")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass(frozen=True, slots=True)
class LeadTime:
    """Days from order sent to goods received; `sd` is the sample standard deviation."""

    days: float
    sd: float
    receipts: int
    source: str  # "measured" or "typed"
    typed: int


def lead_time(measured_days: Sequence[int], typed: int) -> LeadTime:
    """The lead time to plan with: measured from 5 receipts on, else the typed one with no deviation.

    Receipts dated before their order are mistakes in the dates and left out.
    """
    usable = [days for days in measured_days if days >= 0]
    if len(usable) < MIN_RECEIPTS_FOR_LEAD_TIME:
        return LeadTime(float(typed), 0.0, len(usable), "typed", typed)
    return LeadTime(statistics.fmean(usable), statistics.stdev(usable), len(usable), "measured", typed)


@dataclass(frozen=True, slots=True)
class PurchaseResult:
    """One purchase order line as it ended, or stands today when `received_on` is None."""

    ordered: int
    received: int = 0
    rejected: int = 0
    sent_on: date | None = None
    promised_on: date | None = None
    received_on: date | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """Rates are exact fractions from 0 to 1; None means nothing to divide by or too few receipts."""

    receipts: int
    on_time: Decimal | None
    fill: Decimal | None
    defects: Decimal | None
    lead_time: LeadTime | None
    overdue_open: int

    @property
    def enough_data(self) -> bool:
        return self.receipts >= MIN_RECEIPTS_FOR_SCORE


def _rate(part: int, whole: int) -> Decimal | None:
    return Decimal(part) / whole if whole else None


def score(results: Sequence[PurchaseResult], *, today: date, typed_lead_time: int) -> Score:
    """Rates over finished lines; an open line past its date counts as late already now.

    With fewer than 3 receipts every rate is None: too little to judge by.
    """
    finished = [line for line in results if line.received_on is not None]
    overdue = [
        line for line in results if line.received_on is None and line.promised_on and line.promised_on < today
    ]
    if len(finished) < MIN_RECEIPTS_FOR_SCORE:
        return Score(len(finished), None, None, None, None, len(overdue))
    punctual = [
        line.received_on <= line.promised_on for line in finished if line.received_on and line.promised_on
    ]
    days = [(line.received_on - line.sent_on).days for line in finished if line.received_on and line.sent_on]
    return Score(
        receipts=len(finished),
        on_time=_rate(sum(punctual), len(punctual) + len(overdue)),
        fill=_rate(
            sum(min(line.received, line.ordered) for line in finished), sum(line.ordered for line in finished)
        ),
        defects=_rate(sum(line.rejected for line in finished), sum(line.received for line in finished)),
        lead_time=lead_time(days, typed_lead_time),
        overdue_open=len(overdue),
    )
