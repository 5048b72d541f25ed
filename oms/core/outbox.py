"""News for the floors above: written with the change, handled at least once after it.

`emit()` appends a row in the caller's transaction. `drain()` claims rows, lets every subscribed handler
write its durable rows, and removes the events in the same transaction. Handlers are idempotent: an event
may come twice, and two events of one key may come out of order after a failure.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import OperationalError, connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.utils import InterfaceError

from oms.core import metrics
from oms.core.clock import now
from oms.core.db import lost_conflict, on_postgres
from oms.core.errors import NotFound
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.inserts import insert_rows
from oms.core.models import ExceptionItem, OutboxEvent

log = logging.getLogger("lading.outbox")

CHANNEL = "lading_outbox"
MAX_ATTEMPTS = 8

Handler = Callable[[list[OutboxEvent]], None]
_handlers: dict[str, list[Handler]] = defaultdict(list)
_urgent: set[str] = set()
_local = threading.local()  # a transaction belongs to one thread, and so do the news it gathers


def subscribe(*topics: str, urgent: bool = False) -> Callable[[Handler], Handler]:
    """Register a handler for topics. It runs inside the draining transaction and gets events in order of id.

    Events of `urgent` topics are drained on their own, so that they wait for no other handler.
    """

    def register(handler: Handler) -> Handler:
        for topic in topics:
            if urgent:
                _urgent.add(topic)
            if handler not in _handlers[topic]:
                _handlers[topic].append(handler)
        return handler

    return register


def subscribers(topic: str) -> list[Handler]:
    return list(_handlers.get(topic, ()))


def emit(topic: str, key: str, **data: Any) -> None:
    """Append one event in the caller's transaction. Raises RuntimeError outside of one."""
    emit_many([(topic, key, data)])


def emit_many(events: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
    """Append many events (topic, key, data) with one INSERT; same rules as `emit`."""
    rows = [OutboxEvent(topic=topic, key=str(key), data=_plain(data)) for topic, key, data in events]
    if not rows:
        return
    if not connection.in_atomic_block:
        raise RuntimeError(
            "emit() needs the transaction of the change it tells about: wrap both in atomic()."
        )
    gathered: list[OutboxEvent] | None = getattr(_local, "gathered", None)
    if gathered is None:
        insert_rows(rows)
    else:
        gathered += rows
    notify_after_commit()


def notify_after_commit() -> None:
    """Wake the dispatcher once the caller's transaction, which wrote events, is committed."""
    if on_postgres() and not any(entry[1] is _notify for entry in connection.run_on_commit):
        # after commit, not inside: a NOTIFY in the transaction would make all commits queue for one lock
        transaction.on_commit(_notify, robust=True)


@contextmanager
def gathering() -> Iterator[list[OutboxEvent]]:
    """Hand over what is emitted meanwhile instead of inserting it; the caller inserts it with rows of its own.

    For a hot path that would else write news several times. Nothing inside may catch an error and go on, because
    news of an undone step would stay in the list.
    """
    before: list[OutboxEvent] | None = getattr(_local, "gathered", None)
    news: list[OutboxEvent] = []
    _local.gathered = news
    try:
        yield news
    finally:
        _local.gathered = before


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(data, cls=DjangoJSONEncoder)) if data else {}
    return plain


def _notify() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"NOTIFY {CHANNEL}")


def drain(limit: int = 500, *, urgent: bool | None = None) -> int:
    """Handle up to `limit` due events; returns how many were handled. Safe to run in several processes.

    `urgent` True takes the urgent topics only, False all others.
    """
    due = OutboxEvent.objects.filter(
        Q(dead=False) & (Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now()))
    ).order_by("id")
    if urgent is not None:
        topics = Q(topic__in=sorted(_urgent))
        due = due.filter(topics if urgent else ~topics)
    ids: list[int] = []
    return _attempt(due, limit, ids)


def _work(ids: Sequence[int]) -> int:
    """Handle exactly these events in one transaction, as far as they are still there."""
    return _attempt(OutboxEvent.objects.filter(pk__in=ids, dead=False).order_by("id"), len(ids), list(ids))


def _attempt(due: QuerySet[OutboxEvent], limit: int, ids: list[int]) -> int:
    """One transaction; on failure the events are halved until the poisonous one stands alone."""
    try:
        with transaction.atomic():
            claim = due.select_for_update(skip_locked=True) if on_postgres() else due
            events = list(claim[:limit])
            if not events:
                return 0
            ids[:] = [event.pk for event in events]
            _dispatch(events)
            OutboxEvent.objects.filter(pk__in=ids).delete()
        metrics.EVENTS.labels("handled").inc(len(events))
        return len(events)
    except Exception as error:
        if isinstance(error, InterfaceError) or (
            isinstance(error, OperationalError) and not lost_conflict(error)
        ):
            raise  # the database itself is away: nobody's fault, everything stays due
        if not ids:
            raise
        if len(ids) > 1:
            middle = len(ids) // 2
            return _work(ids[:middle]) + _work(ids[middle:])
        log.exception("outbox event failed", extra={"event": ids[0]})
        _postpone(ids[0], error)
        return 0


def _dispatch(events: list[OutboxEvent]) -> None:
    by_handler: dict[Handler, list[OutboxEvent]] = {}
    for event in events:
        for handler in _handlers.get(event.topic, ()):
            by_handler.setdefault(handler, []).append(event)
    for handler, batch in by_handler.items():
        handler(batch)


def _postpone(event_id: int, error: Exception) -> None:
    text = f"{type(error).__name__}: {error}"[:400]
    with transaction.atomic():
        OutboxEvent.objects.filter(pk=event_id).update(attempts=F("attempts") + 1, error=text)
        event = OutboxEvent.objects.filter(pk=event_id).first()
        if event is None:
            return
        if event.attempts >= MAX_ATTEMPTS:
            OutboxEvent.objects.filter(pk=event_id).update(dead=True)
            raise_item(
                "outbox_dead",
                f"outbox:{event_id}",
                f"'{event.topic}' for {event.key} could not be processed",
                detail=text,
                severity=ExceptionItem.Severity.HIGH,
            )
            metrics.EVENTS.labels("dead").inc()
        else:
            wait = dt.timedelta(seconds=min(2**event.attempts, 900) * random.uniform(0.8, 1.2))
            OutboxEvent.objects.filter(pk=event_id).update(next_attempt_at=now() + wait)
            metrics.EVENTS.labels("postponed").inc()


def revive(event_id: int) -> None:
    """Try a dead event again. Raises `NotFound`."""
    with transaction.atomic():
        if not OutboxEvent.objects.filter(pk=event_id, dead=True).update(
            dead=False, attempts=0, next_attempt_at=None
        ):
            raise NotFound("event: it was handled or removed meanwhile.", field="event")
        close_item(f"outbox:{event_id}", "tried again")


def discard(event_id: int) -> None:
    """Give up a dead event. Raises `NotFound`."""
    with transaction.atomic():
        if not OutboxEvent.objects.filter(pk=event_id, dead=True).delete()[0]:
            raise NotFound("event: it was handled or removed meanwhile.", field="event")
        close_item(f"outbox:{event_id}", "given up")
