"""Work that fulfillment leaves for later. Each task drains what is due and may run any number of times."""

from __future__ import annotations

import datetime as dt
import logging
import random
import time
from collections.abc import Sequence

from fulfillment import bulk, labels, recall, routing_service, shipments  # noqa: F401 (bulk declares its jobs)
from fulfillment.customs import declaring
from fulfillment.models import RoutingQueue, Shipment
from fulfillment.threepl import tasks as threepl_tasks  # noqa: F401 (declares its own periodic tasks)
from oms.core.actor import task_actor
from oms.core.clock import now
from oms.core.doorbell import periodic, ring
from oms.core.errors import UserError
from oms.core.exceptions_inbox import raise_item
from oms.core.models import ExceptionItem

log = logging.getLogger("lading.fulfillment")

#: one run stops after this, in seconds, and rings again: the queue's timeout never strikes
RUN_FOR = 5
#: so many orders queued within so long are a rush
RUSH, RUSH_WITHIN = 150, dt.timedelta(seconds=2)
#: the longest that an order waits for the end of a rush
PATIENCE = dt.timedelta(seconds=60)
#: orders taken at once
BATCH = 100
MAX_ATTEMPTS = 8
#: while a router works on orders, another one leaves them alone for so long
LEASE = dt.timedelta(seconds=30)


@periodic(seconds=5)
def route_waiting(subject: str = "") -> None:
    """Route every waiting order, oldest ship-by first; one that fails backs off and is told.

    One router at a time: the other workers stay free for work that is more urgent than a shipment. In a rush of
    orders even that one waits for at most `PATIENCE`, because order entry and the figures of all channels need the
    same processors, and a second counts there.
    """
    if _another_routes():
        return  # it looks again before it ends, so it finds what we were rung for
    until = time.monotonic() + RUN_FOR
    while time.monotonic() < until:
        if _rush():
            return  # the clock rings again
        claimed = _claim()
        if not claimed:
            return
        done = _route_plain([row.pk for row in claimed])
        _routed([row for row in claimed if row.pk in done])
        for row in claimed:
            if row.pk not in done:
                _route_one(row)
    ring("fulfillment.tasks.route_waiting")


def _route_plain(order_ids: list[int]) -> set[int]:
    try:
        return routing_service.route_plain(order_ids, actor=task_actor("routing"))
    except Exception:  # one bad order must never stop the others: each goes on its own
        log.exception("routing together failed", extra={"orders": len(order_ids)})
        return set()


def _another_routes() -> bool:
    at = now()
    return RoutingQueue.objects.filter(
        attempts=0, next_attempt_at__gt=at, next_attempt_at__lte=at + LEASE + dt.timedelta(seconds=1)
    ).exists()


def _rush() -> bool:
    """Do orders come in by the hundred, and has none of those that wait been put off for long?"""
    at = now()
    if RoutingQueue.objects.filter(queued_at__gt=at - RUSH_WITHIN).count() < RUSH:
        return False
    return not RoutingQueue.objects.filter(next_attempt_at__lte=at, queued_at__lte=at - PATIENCE).exists()


def _claim() -> list[RoutingQueue]:
    """Take due orders for a while. The exact time is the token: no two claims share a microsecond."""
    at = now()
    due = RoutingQueue.objects.filter(next_attempt_at__lte=at)
    ids = list(due.order_by("order__ship_by", "queued_at", "pk").values_list("pk", flat=True)[:BATCH])
    if not ids:
        return []
    until = at + LEASE + dt.timedelta(microseconds=random.randrange(1_000_000))
    due.filter(pk__in=ids).update(next_attempt_at=until)
    rows = {row.pk: row for row in RoutingQueue.objects.filter(pk__in=ids, next_attempt_at=until)}
    return [rows[pk] for pk in ids if pk in rows]


def _routed(rows: Sequence[RoutingQueue]) -> None:
    """Take orders off the queue, unless they were asked for again meanwhile: that gave them another time."""
    if rows:
        RoutingQueue.objects.filter(
            pk__in=[row.pk for row in rows], next_attempt_at=rows[0].next_attempt_at
        ).delete()


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
        _routed([row])


def trim_shipments(subject: str) -> None:
    """Bring the open shipments of one order in line with what it still holds; labels of cancelled units go back."""
    actor = task_actor("fulfillment")
    shipments.trim(int(subject), actor=actor)
    recall.recall(int(subject), actor=actor)


@periodic(seconds=15)
def resolve_labels(subject: str = "") -> None:
    """Find out what became of label purchases whose answer was lost."""
    labels.resolve_due(actor=task_actor("labels"))


@periodic(seconds=60)
def recheck_customs(subject: str = "") -> None:
    """Customs data may have been completed anywhere: at the SKU, by the interface, in a file."""
    open_items = ExceptionItem.objects.filter(kind=declaring.KIND, closed_at__isnull=True)
    for key in open_items.order_by("pk").values_list("dedup_key", flat=True).iterator():
        declaring.recheck(int(key.rpartition(":")[2]))


@periodic(seconds=300)
def free_abandoned_picks(subject: str = "") -> None:
    """A shipment claimed long ago and never touched goes back to the queue."""
    old = now() - dt.timedelta(hours=4)
    Shipment.objects.filter(
        state=Shipment.State.PICKING, claimed_at__lt=old, lines__picked=0, hand_off=None
    ).exclude(lines__picked__gt=0).update(state=Shipment.State.READY, claimed_by="", claimed_at=None)
