"""Channels that allow only so many changes of one listing per day: what is told at once, and what may wait.

A buyer cares for the difference between 2 and 0, not for the one between 480 and 478. Near zero every change is
told at once, and so is a part of divided last units; above it changes gather until the day's budget allows one. A tenth
of the budget is kept for the changes to and from zero, so that a listing that sells out late in the day can still be
ended.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from django.db.models import Count, Max

from channels.connectors.base import get_connector
from channels.models import StockPush
from channels.quantities import ListingFacts
from inventory.availability import Shown

#: at or below this many units every change is told at once, while the budget lasts
NEAR = 10
#: this share of the budget is spent on changes far above zero, evenly over the day
FAR_SHARE = 0.5
#: this share is kept for changes to and from zero
LAST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Spent:
    """Changes told to one listing in the last 24 hours, and when the newest of them was."""

    count: int = 0
    last_at: dt.datetime | None = None


def hold_until(
    told: int | None, wanted: int, *, spent: Spent, budget: int, at: dt.datetime, near: int = NEAR
) -> dt.datetime | None:
    """None = tell `wanted` now; else the moment until which the change waits for others (pure).

    `told` = what the channel shows (None = unknown, then it is told at once), `budget` = changes per listing in any
    24 hours, 0 = no limit.
    """
    if budget <= 0 or told is None or spent.last_at is None:
        return None
    crossing = (told == 0) != (wanted == 0)
    left = budget - spent.count
    day = dt.timedelta(days=1)
    if left <= 0:
        return spent.last_at + day / budget  # the oldest of them falls out of the window before long
    if crossing:
        return None
    urgent = min(told, wanted) <= near
    if urgent and left > budget * LAST_SHARE:
        return None
    pause = day / max(1.0, budget * FAR_SHARE)
    due = spent.last_at + pause
    return due if due > at else None


class _Claimed(Protocol):
    @property
    def facts(self) -> ListingFacts: ...
    @property
    def acked_quantity(self) -> int | None: ...


def paces(rows: Sequence[_Claimed], shown: Mapping[int, Shown], at: dt.datetime) -> dict[int, dt.datetime]:
    """Listing id → until when it waits, for listings of channels with a budget. One query where there are any."""
    budgets = {
        row.facts.id: budget
        for row in rows
        if (budget := get_connector(row.facts.connector).capabilities.revisions_per_day)
    }
    if not budgets:
        return {}
    told = (
        StockPush.objects.filter(
            listing__in=budgets, sent_at__gt=at - dt.timedelta(days=1), state=StockPush.State.ACKED
        )
        .values_list("listing")
        .annotate(count=Count("pk"), last=Max("sent_at"))
    )
    spent = {
        listing: Spent(count, last) for listing, count, last in told.values_list("listing", "count", "last")
    }
    found = {}
    for row in rows:
        if row.facts.id not in budgets:
            continue
        figure = shown[row.facts.id]
        # divided last units are told at once, however many they are: what is shown too much of is sold twice
        near = max(NEAR, figure.quantity) if figure.divided else NEAR
        until = hold_until(
            row.acked_quantity, figure.quantity, spent=spent.get(row.facts.id, Spent()),
            budget=budgets[row.facts.id], at=at, near=near,
        )  # fmt: skip
        if until is not None and until > at:
            found[row.facts.id] = until
    return found
