"""Clockwork of the stock floor: checkouts that end, checkpoints of the ledger."""

from __future__ import annotations

from inventory import asof, differences, reservations
from oms.core.clock import now
from oms.core.doorbell import periodic


@periodic(seconds=15)
def expire_reservations(subject: str = "") -> None:
    """Give back the holds of checkouts whose time is over."""
    while reservations.expire_due(500) == 500:
        pass


@periodic(seconds=3600)
def write_checkpoints(subject: str = "") -> None:
    """Once a day, store all balances as of the last midnight (UTC), and thin out the old ones."""
    at = (now() - asof.SETTLED).replace(hour=0, minute=0, second=0, microsecond=0)
    if asof.write_checkpoints(at):
        asof.thin_checkpoints()


@periodic(seconds=300)
def show_overdue_differences(subject: str = "") -> None:
    """Gaps that news on its way explained, and the news did not come."""
    differences.overdue()
