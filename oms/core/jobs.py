"""Work that takes longer than a click: rows with results, progress, stop and resume.

A handler registered with `@job_handler("kind")` gets a `Run` and works through its rows with `run.rows(…)`. Each chunk
is one transaction together with its position, so a killed worker repeats no row. After half a minute the handler is
stopped between two chunks and rung again, so that no task outlives its time limit.

A job whose worker died or lost the database is taken up again when its lease is over. One that is interrupted again
and again without getting any further fails, with its reason, before a person.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from django.db import DatabaseError, transaction
from django.db.models import Case, F, IntegerField, Q, QuerySet, Value, When

from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.db import connection_lost, in_transaction
from oms.core.doorbell import ring
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.models import Job, JobRow

log = logging.getLogger("lading.jobs")

T = TypeVar("T")
State = Job.State

CHUNK = 200
BUDGET_SECONDS = 30.0
LEASE = dt.timedelta(seconds=120)
#: so many interruptions in a row, without a row done between them, are borne: about an hour with the growing pauses
BORNE = 4


class _Pause(Exception):
    """Time is up for this task; go on in the next one."""


class _Stop(Exception):
    """A person asked to stop."""


class _Lost(Exception):
    """Another worker has taken the job over."""


class Run:
    """One stretch of work on a job."""

    def __init__(self, job: Job, budget: float = BUDGET_SECONDS) -> None:
        self.job = job
        self.params: dict[str, Any] = job.params
        kind, _, name = job.created_by.partition(":")
        self.actor = Actor(kind, name)
        self._until = time.monotonic() + budget

    @property
    def position(self) -> int:
        """Rows done so far."""
        return self.job.position

    def total(self, count: int) -> None:
        """How many rows there are in all, for the progress bar."""
        Job.objects.filter(pk=self.job.pk).update(total=count)
        self.job.total = count

    def rows(
        self,
        items: Iterable[T],
        work: Callable[[T], str | None],
        *,
        subject: Callable[[T], str] = str,
        chunk: int = CHUNK,
    ) -> None:
        """Do `work` for each item after the position already reached; items must come in the same order each time.

        `work` returns a word for the result row; a `UserError` becomes a failed row and the next one goes on. Rows of
        one chunk are committed together with the position, each in its own savepoint.
        """
        source = iter(items)
        for _ in range(self.position):
            next(source, None)
        while batch := list(islice(source, chunk)):
            self._chunk(batch, work, subject)
            self.checkpoint()

    def _chunk(self, batch: list[T], work: Callable[[T], str | None], subject: Callable[[T], str]) -> None:
        start = self.position

        def all_rows() -> int:
            results: list[JobRow] = []
            for number, item in enumerate(batch, start=start + 1):
                ok, message = True, ""
                try:
                    with transaction.atomic():
                        message = work(item) or ""
                except UserError as error:
                    ok, message = False, error.message
                results.append(
                    JobRow(
                        job=self.job, number=number, ok=ok, subject=subject(item)[:80], message=message[:400]
                    )
                )
            good = sum(row.ok for row in results)
            self._advance(start, len(batch), good)
            JobRow.objects.bulk_create(results)
            return good

        good = in_transaction(transaction.atomic(all_rows))
        self.job.position, self.job.ok = start + len(batch), self.job.ok + good
        self.job.failed += len(batch) - good

    def advance(self, rows: int, *, failed: int = 0) -> None:
        """For handlers that write their own row results: `rows` more are done. Call it inside their transaction."""
        self._advance(self.position, rows, rows - failed)
        self.job.position, self.job.ok = self.position + rows, self.job.ok + rows - failed
        self.job.failed += failed

    def _advance(self, start: int, rows: int, good: int) -> None:
        mine = Job.objects.filter(
            pk=self.job.pk, state=State.RUNNING, position=start, started_at=self.job.started_at
        )
        if not mine.update(
            position=start + rows,
            ok=F("ok") + good,
            failed=F("failed") + rows - good,
            lease_until=now() + LEASE,
            interruptions=0,
        ):
            raise _Lost

    def reached(self, position: int) -> None:
        """For handlers that write nothing until their end and keep their place themselves: `position` rows are looked
        at, and the job stays ours. One that begins again from an earlier place does not move the progress back.
        """
        mine = Job.objects.filter(pk=self.job.pk, state=State.RUNNING, started_at=self.job.started_at)
        if not mine.update(
            position=_or_stays("position", When(position__lt=position, then=Value(position))),
            interruptions=_or_stays("interruptions", When(position__lt=position, then=Value(0))),
            lease_until=now() + LEASE,
        ):
            raise _Lost
        self.job.position = max(self.job.position, position)

    def checkpoint(self, keep: Callable[[], None] = lambda: None) -> None:
        """Between two chunks: stop here when asked, or when this task's time is up. `keep` is called before that."""
        stopped = Job.objects.filter(pk=self.job.pk, stop_asked=True).exists()
        if stopped or time.monotonic() > self._until:
            keep()
            raise _Stop if stopped else _Pause


def _or_stays(name: str, when: When) -> Case:
    return Case(when, default=F(name), output_field=IntegerField())


Handler = Callable[[Run], dict[str, Any] | None]
_handlers: dict[str, Handler] = {}


def job_handler(kind: str) -> Callable[[Handler], Handler]:
    """Register what runs jobs of a kind. What it returns (JSON) becomes the job's result."""

    def register(handler: Handler) -> Handler:
        _handlers[kind] = handler
        return handler

    return register


def start_job(kind: str, title: str, params: dict[str, Any], actor: Actor, total: int | None = None) -> Job:
    """Store a job and ring for it, in the caller's transaction. `params` is JSON with ids, no personal data.

    Raises ValueError for a kind without handler.
    """
    if kind not in _handlers:
        raise ValueError(f"no handler for jobs of kind '{kind}'")
    with transaction.atomic():
        job = Job.objects.create(
            kind=kind, title=title[:160], params=params, total=total, created_by=str(actor), created_at=now()
        )
        ring("oms.core.tasks.run_job", str(job.pk))
    return job


def run_job(job_id: int, *, budget: float = BUDGET_SECONDS) -> None:
    """Work on a job until it ends or the time is up. Harmless when it is done, or running elsewhere."""
    at = now()
    free = Q(state=State.QUEUED) | Q(state=State.RUNNING, lease_until__lte=at)
    again = _or_stays("interruptions", When(state=State.RUNNING, then=F("interruptions") + 1))
    if not Job.objects.filter(free, pk=job_id).update(
        state=State.RUNNING, started_at=at, lease_until=at + LEASE, interruptions=again
    ):
        return
    job = Job.objects.get(pk=job_id)
    mine = Job.objects.filter(pk=job_id, state=State.RUNNING, started_at=job.started_at)
    if job.interruptions > BORNE:
        why = job.message or "Its worker died or was killed each time: look into the worker's log."
        _fail(
            mine, job, f"Interrupted {job.interruptions} times before row {job.position + 1} was done. {why}"
        )
        return
    try:
        if job.stop_asked:
            raise _Stop
        result = _handlers[job.kind](Run(job, budget))
        mine.update(state=State.DONE, finished_at=now(), lease_until=None, result=result or {}, message="")
    except _Pause:
        with transaction.atomic():
            if mine.update(state=State.QUEUED, lease_until=None):
                ring("oms.core.tasks.run_job", str(job_id))
    except _Stop:
        mine.update(state=State.STOPPED, finished_at=now(), lease_until=None, message="Stopped on request.")
    except _Lost:
        log.warning("job taken over by another worker", extra={"job": job_id})
    except UserError as error:
        mine.update(state=State.FAILED, finished_at=now(), lease_until=None, message=error.message[:400])
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if connection_lost(error):  # as if this process had died: the job is found when its lease is over
            log.warning("job interrupted, the database went away", extra={"job": job_id, "kind": job.kind})
            try:
                mine.update(lease_until=now() + LEASE * 2**job.interruptions, message=text[:300])
            except DatabaseError:
                log.info("the database is still away", extra={"job": job_id})
            return
        log.exception("job failed", extra={"job": job_id, "kind": job.kind})
        _fail(mine, job, text)


def _fail(mine: QuerySet[Job], job: Job, why: str) -> None:
    """The job ends for a reason that its author can do nothing about: somebody who can is told."""
    with transaction.atomic():
        if mine.update(state=State.FAILED, finished_at=now(), lease_until=None, message=why[:400]):
            raise_item(
                "job_failed", f"job:{job.pk}", f"Job {job.pk} failed: {job.title}",
                f"{why} What was done before stands; mend the cause and go on with the job.", url=f"/jobs/{job.pk}/",
            )  # fmt: skip


def stop(job_id: int, *, actor: Actor) -> None:
    """Ask a job to stop after its current chunk. Raises `NotFound`, `Conflict` when it has ended."""
    job = _get(job_id)
    with transaction.atomic():
        if not Job.objects.filter(pk=job_id, state__in=[State.QUEUED, State.RUNNING]).update(stop_asked=True):
            raise Conflict("job: it has ended already.", field="job")
        record(actor, "job.stopped", job)


def resume(job_id: int, *, actor: Actor) -> None:
    """Go on after the last row done. Raises `NotFound`, `Conflict` when it neither failed nor was stopped."""
    job = _get(job_id)
    with transaction.atomic():
        ended = Job.objects.filter(pk=job_id, state__in=[State.STOPPED, State.FAILED])
        if not ended.update(
            state=State.QUEUED, stop_asked=False, finished_at=None, message="", interruptions=0
        ):
            raise Conflict("job: only a stopped or failed job can go on.", field="job")
        close_item(f"job:{job_id}", "it goes on", actor=actor)
        record(actor, "job.resumed", job, after={"position": job.position})
        ring("oms.core.tasks.run_job", str(job_id))


def waiting() -> Iterator[int]:
    """Jobs whose bell or worker was lost."""
    at = now()
    lost = Q(state=State.QUEUED, created_at__lte=at - LEASE) | Q(state=State.RUNNING, lease_until__lte=at)
    yield from Job.objects.filter(lost).order_by("pk").values_list("pk", flat=True)[:100]


def _get(job_id: int) -> Job:
    job = Job.objects.filter(pk=job_id).first()
    if job is None:
        raise NotFound("job: no such job.", field="job")
    return job
