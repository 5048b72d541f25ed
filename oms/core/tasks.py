"""Tasks of the ground floor."""

from __future__ import annotations

import datetime as dt
import os

from django.db.models import Q

from oms.core import audit, beat, checks, jobs, outbox
from oms.core.api.idempotency import KEPT_FOR
from oms.core.clock import now
from oms.core.doorbell import periodic, ring
from oms.core.models import FormKey, Heartbeat, IdempotencyRecord, OutboundCall, TokenBucket


def run_job(subject: str) -> None:
    jobs.run_job(int(subject))


def canary(subject: str) -> None:
    """Proves that one cluster runs tasks; the wrapper around every task writes the sign of life.

    `subject` is "<cluster>#<hops>": a cluster that gets another one's canary lets it fly on.
    """
    cluster, _, hops = subject.partition("#")
    if os.environ.get(beat.CLUSTER_VARIABLE) != cluster and int(hops) > 0:
        ring("oms.core.tasks.canary", f"{cluster}#{int(hops) - 1}")


@periodic(seconds=15)
def drain_outbox(subject: str) -> None:
    """Slower but right: news are handled here while no dispatcher lives."""
    age = beat.age(beat.DISPATCHER)
    if age is None or age > dt.timedelta(seconds=15):
        while outbox.drain() == 500:
            pass


@periodic(seconds=60)
def resume_jobs(subject: str) -> None:
    """Ring for jobs whose worker died or whose bell was lost."""
    for job_id in jobs.waiting():
        ring("oms.core.tasks.run_job", str(job_id))


@periodic(seconds=10)
def seal_audit(subject: str) -> None:
    """The dispatcher seals within a second; this covers for one that is down."""
    while audit.seal() == 1000:
        pass


@periodic(seconds=1800)
def nightly_check(subject: str) -> None:
    """Everything that must always be true is looked at once a night."""
    checks.nightly()


@periodic(seconds=3600)
def tidy(subject: str) -> None:
    """Remove what has served its time."""
    audit.seal(back=None)
    at = now()
    IdempotencyRecord.objects.filter(created_at__lt=at - KEPT_FOR).delete()
    FormKey.objects.filter(created_at__lt=at - dt.timedelta(days=2)).delete()
    OutboundCall.objects.filter(at__lt=at - dt.timedelta(days=30)).delete()
    TokenBucket.objects.filter(Q(key__startswith="login:"), updated_at__lt=at - dt.timedelta(days=1)).delete()
    Heartbeat.objects.filter(at__lt=at - dt.timedelta(days=1)).delete()
