"""How much of a channel's rate limits is used, per endpoint class, and of budgets that run for a day."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db.models import Count

from channels.connectors.base import get_connector
from channels.models import ChannelAccount, Listing, StockPush
from oms.core.clock import now
from oms.core.models import TokenBucket

#: a bucket that nobody has taken from for so long says nothing about today
QUIET = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Budget:
    """One endpoint class: requests that may go at once (`burst`), how many of them are spent now, and the pace per
    second at which they come back. `paused_until` = the channel asked us to wait."""

    name: str
    used: float
    burst: float
    per_second: float
    paused_until: dt.datetime | None
    last_at: dt.datetime

    @property
    def percent(self) -> int:
        return round(100 * self.used / self.burst) if self.burst else 0

    @property
    def pace(self) -> str:
        """Requests per second, or per minute or hour where it is less than one."""
        for every, word in ((1, "s"), (60, "min"), (3600, "h")):
            if self.per_second * every >= 1:
                return f"{self.per_second * every:.3g} per {word}"
        return f"{self.per_second * 86_400:.3g} per day"


@dataclass(frozen=True, slots=True)
class Revisions:
    """Changes of single listings in the last 24 hours against the channel's limit per listing."""

    limit: int
    near: int  # listings at 80 % or more
    worst: tuple[tuple[Listing, int], ...]


def of_account(account: ChannelAccount, at: dt.datetime | None = None) -> list[Budget]:
    """Every endpoint class that was used within a day, the fullest first; one query."""
    at = at or now()
    key = f"channel:{account.pk}"
    found = []
    for row in TokenBucket.objects.filter(key__startswith=key, updated_at__gt=at - QUIET):
        head, _, name = row.key.partition("/")
        if head not in (key, f"{key}:token", f"{key}:queue"):
            continue  # another account whose number begins alike
        passed = max((at - row.updated_at).total_seconds(), 0.0)
        left = min(row.burst, row.tokens + passed * row.per_second)
        waits = row.paused_until if row.paused_until and row.paused_until > at else None
        found.append(
            Budget(
                name=name or {key: "all calls", f"{key}:token": "tokens"}.get(head, "queue"),
                used=row.burst if waits else max(0.0, row.burst - max(0.0, left)),
                burst=row.burst,
                per_second=row.per_second,
                paused_until=waits,
                last_at=row.updated_at,
            )
        )
    return sorted(found, key=lambda one: (-one.percent, one.name))


def revisions(account: ChannelAccount, most: int = 5) -> Revisions | None:
    """None where the channel has no limit per listing and day; two queries else."""
    limit = get_connector(account.connector).capabilities.revisions_per_day
    if not limit:
        return None
    since = now() - dt.timedelta(days=1)
    rows = (
        StockPush.objects.filter(listing__account=account, state=StockPush.State.ACKED, sent_at__gt=since)
        .order_by()
        .values("listing")
        .annotate(changes=Count("pk"))
        .order_by("-changes", "listing")
        .values_list("listing", "changes")
    )
    counts = list(rows[:most])
    listings = Listing.objects.select_related("sku").in_bulk([pk for pk, _ in counts])
    near = rows.filter(changes__gte=limit * 8 // 10).count()
    return Revisions(limit, near, tuple((listings[pk], changes) for pk, changes in counts))
