"""Clockwork of the stock floor: checkouts that end, checkpoints of the ledger, due counts, news of dates."""

from __future__ import annotations

import datetime as dt

from inventory import asof, bulk, counts, differences, fences, lots, lowstock, reservations, transfers
from oms.core.actor import task_actor
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


@periodic(seconds=600)
def tell_dates(subject: str = "") -> None:
    """Listings look again after a local midnight with dated lots, and when a ring-fence began or ended.

    An hour back each time: the clock may have stood still, and looking twice is harmless.
    """
    lots.tell_expiries()
    moment = now()
    fences.tell_changes(moment - dt.timedelta(hours=1), moment)


@periodic(seconds=3600)
def plan_counts(subject: str = "") -> None:
    """Ask for the counts that are due."""
    counts.plan_due(actor=task_actor("counts"))


@periodic(seconds=24 * 3600)
def classify_skus(subject: str = "") -> None:
    """A, B or C by what was sold in the last year."""
    counts.classify()


@periodic(seconds=600)
def watch_low_stock(subject: str = "") -> None:
    """SKUs that fell below their limit are told once; those that recovered close their item."""
    lowstock.watch()


@periodic(seconds=3600)
def tell_late_transfers(subject: str = "") -> None:
    """Transfers past their day are told once; those that came or were moved close their item."""
    transfers.tell_late()


#: loading it names the job handler
BULK_JOB = bulk.run_job
