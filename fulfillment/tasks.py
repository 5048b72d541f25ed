"""Work that fulfillment leaves for later. Each task drains what is due and may run any number of times."""

from __future__ import annotations

import datetime as dt
import logging
import time

from fulfillment import bulk, labels, recall, routing_service, shipments  # noqa: F401 (bulk declares its jobs)
from fulfillment.models import RoutingQueue, Shipment
from fulfillment.threepl import tasks as threepl_tasks  # noqa: F401 (declares its own periodic tasks)
from oms.core.actor import task_actor
from oms.core.clock import now
from oms.core.doorbell import periodic, ring
from oms.core.errors import UserError
from oms.core.exceptions_inbox import raise_item

log = logging.getLogger("lading.fulfillment")

#: one run stops after this, in seconds, and rings again: the queue's timeout never strikes
RUN_FOR = 20
MAX_ATTEMPTS = 8
#: while a router works on an order, another one leaves it alone for so long
LEASE = dt.timedelta(seconds=20)


@periodic(seconds=15)
def route_waiting(subject: str = "") -> None:
    """Route every waiting order, oldest ship-by first; one that fails backs off and is told."""
    until = time.monotonic() + RUN_FOR
    while time.monotonic() < until:
        waiting = list(
            RoutingQueue.objects.filter(next_attempt_at__lte=now()).order_by(
                "order__ship_by", "queued_at", "pk"
            )[:50]
        )
        if not waiting:
            return
        for row in waiting:
            claimed = RoutingQueue.objects.filter(pk=row.pk, next_attempt_at=row.next_attempt_at).update(
                next_attempt_at=now() + LEASE
            )
            if claimed:
                _route_one(row)
            if time.monotonic() >= until:
                break
    ring("fulfillment.tasks.route_waiting")


def _route_one(row: RoutingQueue) -> None:
    try:
        routing_service.route(row.pk, actor=task_actor("routing"))
    except Exception as error:  # one bad order must never stop the others
        attempts = row.attempts + 1
        message = error.message if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        log.warning("routing failed", extra={"order": row.pk, "error": message, "attempts": attempts})
        RoutingQueue.objects.filter(pk=row.pk).update(
            attempts=attempts,
            error=message[:400],
            next_attempt_at=now() + dt.timedelta(seconds=min(3600, 2**attempts)),
        )
        if attempts >= MAX_ATTEMPTS:
            raise_item(
                "routing_failed",
                f"routing:{row.pk}",
                f"Routing of order {row.order.number} fails",
                detail=message[:600],
                url=f"/orders/{row.order.number}",
                due_at=row.order.ship_by,
            )
    else:
        RoutingQueue.objects.filter(pk=row.pk, queued_at=row.queued_at).delete()


def trim_shipments(subject: str) -> None:
    """Bring the open shipments of one order in line with what it still holds; labels of cancelled units go back."""
    actor = task_actor("fulfillment")
    shipments.trim(int(subject), actor=actor)
    recall.recall(int(subject), actor=actor)


@periodic(seconds=15)
def resolve_labels(subject: str = "") -> None:
    """Find out what became of label purchases whose answer was lost."""
    labels.resolve_due(actor=task_actor("labels"))


@periodic(seconds=300)
def free_abandoned_picks(subject: str = "") -> None:
    """A shipment claimed long ago and never touched goes back to the queue."""
    old = now() - dt.timedelta(hours=4)
    Shipment.objects.filter(
        state=Shipment.State.PICKING, claimed_at__lt=old, lines__picked=0, hand_off=None
    ).exclude(lines__picked__gt=0).update(state=Shipment.State.READY, claimed_by="", claimed_at=None)
