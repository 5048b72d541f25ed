"""What an operator's figure means beside ours: agree, book it, wait for news on its way, or ask a person.

Pure. A snapshot is compared with the books *of its own time*, so movements that came after it can neither hide a
difference nor make one. Units that are known to be on their way out explain a gap for a while: a shipment that the
operator has not reported yet, or one that its snapshot does not show yet.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

#: a gap explained by ever new shipments is shown to a person after this, however it changes
LONGEST_WAIT = dt.timedelta(hours=24)


class Outcome(StrEnum):
    AGREES = "agrees"
    POST = "post"
    WAIT = "wait"
    DIFFERS = "differs"


class Cause(StrEnum):
    LATE_SHIPMENT = "late_shipment"
    UNSHOWN_SHIPMENT = "unshown_shipment"
    ADJUSTMENT = "adjustment"
    COUNT = "count"
    STATE = "state"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Policy:
    """How far the operator's word goes. `posts`: its figure always wins (FBA, WFS); else up to `units` or `percent`
    of our figure are accepted without a person. Explained gaps may stand for `grace`."""

    posts: bool = False
    units: int = 0
    percent: Decimal = Decimal(0)
    grace: dt.timedelta = dt.timedelta(hours=4)


@dataclass(frozen=True, slots=True)
class Compared:
    """Both figures in eaches at `taken_at`. `unfit` units lie within on hand.

    `leaving`: units handed to the operator whose shipment is not reported; `left`: units that left by our books
    within the grace before `taken_at`. `changes` are our own corrections of on hand since the operator last agreed,
    newest first, as (kind, signed units). `opened`: the level has a movement at all.
    """

    theirs: int
    ours: int
    theirs_unfit: int
    ours_unfit: int
    taken_at: dt.datetime
    newest: dt.datetime | None = None
    last_snapshot: dt.datetime | None = None
    leaving: int = 0
    left: int = 0
    changes: tuple[tuple[str, int], ...] = ()
    opened: bool = True
    gap_since: dt.datetime | None = None  # how long this very gap stands
    first_seen: dt.datetime | None = None  # since when there is one at all

    @property
    def gap(self) -> int:
        return self.theirs - self.ours

    @property
    def overtaken(self) -> bool:
        """Our movements or a later snapshot are newer: it may be compared, never booked."""
        return bool(
            (self.newest and self.newest > self.taken_at)
            or (self.last_snapshot and self.last_snapshot > self.taken_at)
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: Outcome
    cause: Cause = Cause.UNKNOWN
    reason: str = ""


def judge(case: Compared, policy: Policy, at: dt.datetime) -> Verdict:
    """What to do with one SKU's figure at moment `at`, and the sentence that explains it."""
    if not case.gap and case.theirs_unfit == case.ours_unfit:
        return Verdict(Outcome.AGREES, reason="both figures agree")
    cause, reason = _cause(case)
    if not case.overtaken:
        if policy.posts:
            return Verdict(Outcome.POST, cause, "only the operator's figures change this pool")
        if not case.opened:
            return Verdict(Outcome.POST, cause, "the first figure of this SKU here")
    explained = cause in (Cause.LATE_SHIPMENT, Cause.UNSHOWN_SHIPMENT)
    if explained:
        fresh = case.gap_since is None or at - case.gap_since < policy.grace
        if fresh and (case.first_seen is None or at - case.first_seen < LONGEST_WAIT):
            return Verdict(Outcome.WAIT, cause, reason)
    # an explained gap is never booked: the shipment's own message will move the same units again
    if not case.overtaken and not explained and abs(case.gap) <= allowed(case.ours, policy) and case.gap:
        return Verdict(Outcome.POST, cause, f"{case.gap:+d} is within the tolerance")
    return Verdict(Outcome.DIFFERS, cause, reason)


def allowed(ours: int, policy: Policy) -> int:
    """Units that may be accepted without a person: the larger of the fixed number and the share, rounded down."""
    return max(policy.units, int(Decimal(max(ours, 0)) * policy.percent / 100))


def _cause(case: Compared) -> tuple[Cause, str]:
    gap, same_state = case.gap, case.theirs_unfit == case.ours_unfit
    if gap < 0 and -gap <= case.leaving and same_state:
        return (
            Cause.LATE_SHIPMENT,
            f"{case.leaving} units are handed over and not reported as shipped: {-gap} may have left already",
        )
    if 0 < gap <= case.left and same_state:
        return (
            Cause.UNSHOWN_SHIPMENT,
            f"{case.left} units left shortly before: {gap} may not be in the snapshot yet",
        )
    if not gap:
        return (
            Cause.STATE,
            f"the total agrees, but {case.theirs_unfit} are unfit there and {case.ours_unfit} here",
        )
    for kind, units in case.changes:
        if units == -gap:
            if kind == "count":
                return Cause.COUNT, f"our count of {units:+d} is not in their figures"
            return Cause.ADJUSTMENT, f"our correction of {units:+d} is not in their figures"
    if case.last_snapshot is not None and not case.changes:
        return (
            Cause.ADJUSTMENT,
            f"they agreed before and no movement of ours explains {gap:+d}: an adjustment they did not report",
        )
    return Cause.UNKNOWN, f"nothing in the ledger explains {gap:+d}"
