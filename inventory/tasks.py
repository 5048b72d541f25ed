"""Clockwork of the stock floor: checkouts that end, checkpoints of the ledger."""

from __future__ import annotations

import datetime as dt

from django.db.models import Max

from inventory import differences, reservations, selectors
from inventory.models import StockCheckpoint
from oms.core.clock import now
from oms.core.doorbell import periodic

#: an as-of question replays at most about this much of the ledger
CHECKPOINT_EVERY = dt.timedelta(days=7)


@periodic(seconds=15)
def expire_reservations(subject: str = "") -> None:
    """Give back the holds of checkouts whose time is over."""
    while reservations.expire_due(500) == 500:
        pass


@periodic(seconds=24 * 3600)
def write_checkpoints(subject: str = "") -> None:
    """Once a week, store all balances as of the last midnight (UTC)."""
    at = (now() - selectors.SETTLED).replace(hour=0, minute=0, second=0, microsecond=0)
    last = StockCheckpoint.objects.aggregate(last=Max("at"))["last"]
    if last is None or at - last >= CHECKPOINT_EVERY:
        selectors.write_checkpoints(at)


@periodic(seconds=300)
def show_overdue_differences(subject: str = "") -> None:
    """Gaps that news on its way explained, and the news did not come."""
    differences.overdue()
