"""Work that orders leave for later. Each task drains what is due and may run any number of times."""

from __future__ import annotations

import datetime as dt

from oms.core.actor import task_actor
from oms.core.clock import business_day
from oms.core.doorbell import periodic
from oms.orders import (  # bulk registers its job
    allocation,
    bulk,  # noqa: F401
    demand,
    pii,
    promises,
    services,
    supply,
)

#: cancellations still change demand this many days later
ROLL_UP_DAYS = 35


def allocate_waiting(subject: str) -> None:
    """Offer new stock of one SKU (subject: its id) to waiting orders."""
    allocation.allocate_waiting([int(subject)], actor=task_actor("allocation"))


def renew_promises(subject: str) -> None:
    """Serve what can be served of one SKU (subject: its id), then date what still waits for it.

    In this order: what has just arrived is stock, not a lost promise.
    """
    allocate_waiting(subject)
    promises.renew([int(subject)], actor=task_actor("promises"))


@periodic(seconds=3600)
def renew_all_promises(subject: str = "") -> None:
    """What no single news tells: stock of a kit's other parts, channels served by other warehouses."""
    promises.renew(promises.waiting_skus(), actor=task_actor("promises"))


@periodic(seconds=30)
def release_expired_holds(subject: str = "") -> None:
    services.release_expired_holds()


@periodic(seconds=600)
def roll_up_today(subject: str = "") -> None:
    today = business_day()
    demand.roll_up([today - dt.timedelta(days=1), today])


@periodic(seconds=6 * 3600)
def roll_up_recent(subject: str = "") -> None:
    today = business_day()
    demand.roll_up(today - dt.timedelta(days=back) for back in range(ROLL_UP_DAYS))


@periodic(seconds=3600)
def erase_expired_contacts(subject: str = "") -> None:
    while pii.erase(limit=500) == 500:
        pass


@periodic(seconds=900)
def plan_reorders(subject: str = "") -> None:
    """Bring the reorder suggestions in line with this moment's figures."""
    supply.plan_reorders(actor=task_actor("reorder"))
