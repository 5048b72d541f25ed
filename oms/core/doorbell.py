"""Tasks are doorbells: they carry ids only, drain what their table says is due, and may run 0, 1 or many times.

`ring()` leaves at most one waiting django-q2 task per (task, subject), in the caller's transaction.
The task first removes the bell, then drains: work written later rings again.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from django.conf import settings
from django.db import connection, transaction

from oms.core import metrics
from oms.core.actor import task_actor
from oms.core.clock import now
from oms.core.current import acting, new_request_id
from oms.core.db import drop_broken_connection, on_postgres
from oms.core.models import Doorbell, Periodic

T = TypeVar("T")
log = logging.getLogger("lading.tasks")

#: a bell older than this has lost its task; longer than the queue's own `retry` (settings.Q_CLUSTER)
LOST_AFTER = dt.timedelta(seconds=int(str(settings.Q_CLUSTER["retry"])) + 30)
#: While nothing waits in the queue, a bell this old belongs to a task that a dead worker had already taken: the queue
#: itself would give it back only after `retry`, minutes later. A second task for one bell is harmless.
TAKEN_AND_LOST_AFTER = dt.timedelta(seconds=20)
_HANG = "INSERT INTO core_doorbell (task, subject, rung_at) VALUES (%s, %s, %s) ON CONFLICT (task, subject) DO NOTHING"
_HOLD = "SELECT 1 FROM core_doorbell WHERE task = %s AND subject = %s FOR SHARE"


def ring(task: str, subject: str = "") -> bool:
    """Wake `task` for `subject` once this transaction is committed; False when it is waiting already.

    `task` is a dotted path such as "channels.tasks.drain_inbox" of a function that takes `subject: str`.
    """
    subject = str(subject)
    with transaction.atomic():
        while not _hang_bell(task, subject):
            if not on_postgres():
                return False
            # Hold the bell until our work is committed, so that the task which takes it down sees that work.
            with connection.cursor() as cursor:
                cursor.execute(_HOLD, [task, subject])
                if cursor.fetchone():
                    return False
        _enqueue(task, subject)
        return True


def _hang_bell(task: str, subject: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            _HANG,
            [task, subject, connection.ops.adapt_datetimefield_value(now())],
        )
        return cursor.rowcount == 1


def _enqueue(task: str, subject: str) -> None:
    from django_q.tasks import async_task

    name = f"{task} {subject}".strip()[:100]
    async_task(
        "oms.core.doorbell.answer", task, subject, task_name=name, save=False
    )  # only failures are kept


def answer(task: str, subject: str) -> None:
    """What django-q2 runs: take the bell down, then let the task drain. Errors are logged and raised."""
    from oms.core.beat import beat_cluster

    beat_cluster()
    Doorbell.objects.filter(task=task, subject=subject).delete()
    started, outcome = time.monotonic(), "failed"
    try:
        with acting(actor=task_actor(task), via="task", request_id=new_request_id(), address=""):
            _function(task)(subject)
        outcome = "done"
    except BaseException:
        log.exception("task failed", extra={"task": task, "subject": subject})
        raise
    finally:
        metrics.TASKS.labels(task, outcome).inc()
        drop_broken_connection()
        log.debug(
            "task ran",
            extra={"task": task, "subject": subject, "seconds": round(time.monotonic() - started, 3)},
        )
        beat_cluster()


def _function(task: str) -> Callable[[str], Any]:
    module, _, name = task.rpartition(".")
    function: Callable[[str], Any] = getattr(import_module(module), name)
    return function


def each(things: Iterable[T], work: Callable[[T], object]) -> None:
    """Work on one after the other, each on its own: one that breaks stops no other. Its error is raised in the end."""
    broken: Exception | None = None
    for thing in things:
        try:
            work(thing)
        except Exception as error:
            log.exception("one of many failed", extra={"thing": str(thing)})
            drop_broken_connection()
            broken = broken or error
    if broken is not None:
        raise broken


# --- periodic tasks --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Declared:
    task: str
    seconds: int


_declared: dict[str, Declared] = {}


def periodic(*, seconds: int) -> Callable[[Callable[[str], Any]], Callable[[str], Any]]:
    """Declare that the decorated task is rung every `seconds`. Missed runs are not replayed."""

    def register(function: Callable[[str], Any]) -> Callable[[str], Any]:
        path = f"{function.__module__}.{function.__name__}"
        _declared[path] = Declared(path, seconds)
        return function

    return register


def declared() -> list[Declared]:
    return sorted(_declared.values(), key=lambda entry: entry.task)


def ring_due() -> int:
    """Ring every periodic task that is due and every lost bell; returns how many. Any number of callers may run it."""
    at, rung = now(), 0
    known = {row.task: row for row in Periodic.objects.all()}
    for entry in declared():
        row = known.pop(entry.task, None)
        if row is None:
            Periodic.objects.bulk_create(
                [Periodic(task=entry.task, every_seconds=entry.seconds, next_run_at=at)],
                ignore_conflicts=True,
            )
        elif row.every_seconds != entry.seconds:
            sooner = min(row.next_run_at, at + dt.timedelta(seconds=entry.seconds))
            Periodic.objects.filter(pk=entry.task).update(every_seconds=entry.seconds, next_run_at=sooner)
        elif row.next_run_at > at:
            continue
        with transaction.atomic():
            taken = Periodic.objects.filter(pk=entry.task, next_run_at__lte=at).update(
                next_run_at=at + dt.timedelta(seconds=entry.seconds), last_run_at=at
            )
            if taken and ring(entry.task):
                rung += 1
    if known:
        Periodic.objects.filter(pk__in=known).delete()  # no longer declared
    return rung + _ring_lost(at)


def _ring_lost(at: dt.datetime) -> int:
    """The row survives a purged queue and a killed worker; its task does not. Put the task back."""
    old = list(Doorbell.objects.filter(rung_at__lt=at - TAKEN_AND_LOST_AFTER).order_by("pk")[:200])
    if old and _queue_waits(at):
        old = [bell for bell in old if bell.rung_at < at - LOST_AFTER]  # not lost, only not reached yet
    rung = 0
    for bell in old:
        with transaction.atomic():
            if Doorbell.objects.filter(pk=bell.pk, rung_at=bell.rung_at).update(rung_at=at):
                _enqueue(bell.task, bell.subject)
                rung += 1
    return rung


def _queue_waits(at: dt.datetime) -> bool:
    """Are there tasks that no worker has taken for a second?"""
    from django_q.models import OrmQ

    return OrmQ.objects.filter(lock__lte=at - dt.timedelta(seconds=1)).exists()
