"""Everything that must always be true, looked at every night and whenever a person asks; what fails is told."""

from __future__ import annotations

import datetime as dt
from itertools import islice
from typing import Any

from django.db import transaction

from oms.core.actor import Actor, task_actor
from oms.core.clock import business_zone, now
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.invariants import Invariant, all_invariants
from oms.core.jobs import Run, job_handler, start_job
from oms.core.models import ExceptionItem, Job, JobRow
from oms.core.words import some

KIND = "core.check_invariants"
NIGHTLY = task_actor("nightly check")
#: local hour of the business from which the nightly check runs
HOUR = 3
#: failing rows that are listed per sentence
MOST = 50


def begin(*, actor: Actor) -> Job:
    """Check everything in the background; the job lists each sentence and every row that breaks it."""
    return start_job(KIND, "Check what must always be true", {}, actor, total=len(all_invariants()))


def nightly(at: dt.datetime | None = None) -> Job | None:
    """The check of this night, once; None before its hour and when it was begun already."""
    local = (at or now()).astimezone(business_zone())
    due = local.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    if local < due or Job.objects.filter(kind=KIND, created_by=str(NIGHTLY), created_at__gte=due).exists():
        return None
    return begin(actor=NIGHTLY)


@job_handler(KIND)
def run(run: Run) -> dict[str, Any]:
    """One sentence after another, each with its rows and its exception in one transaction."""
    entries = all_invariants()
    for entry in entries[run.position :]:
        failures = list(islice(entry.check(), MOST))
        with transaction.atomic():
            _keep(run.job, entry, failures)
            run.advance(1, failed=bool(failures))
        run.checkpoint()
    return {"sentences": len(entries), "broken": Job.objects.get(pk=run.job.pk).failed}


def _keep(job: Job, entry: Invariant, failures: list[str]) -> None:
    number = JobRow.objects.filter(job=job).count()
    told = [(False, text) for text in failures] or [(True, entry.sentence)]
    JobRow.objects.bulk_create(
        JobRow(job=job, number=number + place, ok=ok, subject=entry.id, message=text[:400])
        for place, (ok, text) in enumerate(told, start=1)
    )
    key = f"invariant:{entry.id}"
    if not failures:
        close_item(key, "it holds again")
        return
    more = "" if len(failures) < MOST else ", perhaps more"
    raise_item(
        "invariant", key, f"{entry.id} is broken: {entry.sentence}"[:200],
        detail=f"{some(len(failures), 'row')}{more}: {'; '.join(failures[:5])}", severity=ExceptionItem.Severity.URGENT,
        url=f"/jobs/{job.pk}/",
    )  # fmt: skip
