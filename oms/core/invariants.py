"""What must always be true. Each invariant returns its failing rows as text; no rows = it holds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from django.apps import apps
from django.db import connection
from django.db.models import Q

from oms.core import audit, beat, crypto
from oms.core.clock import now
from oms.core.fields import EncryptedJSONField, EncryptedTextField
from oms.core.models import IdempotencyRecord, OutboxEvent

Check = Callable[[], Iterable[str]]


@dataclass(frozen=True)
class Invariant:
    id: str
    sentence: str
    check: Check


_registered: dict[str, Invariant] = {}


def invariant(id: str, sentence: str) -> Callable[[Check], Check]:
    """Register a check under an id such as "S1"."""

    def register(check: Check) -> Check:
        known = _registered.get(id)
        if known and known.check.__module__ != check.__module__:
            raise ValueError(f"invariant {id} is declared in {known.check.__module__} already")
        _registered[id] = Invariant(id, sentence, check)
        return check

    return register


def all_invariants() -> list[Invariant]:
    return sorted(_registered.values(), key=lambda entry: entry.id)


@dataclass(frozen=True)
class Result:
    invariant: Invariant
    failures: list[str]

    @property
    def ok(self) -> bool:
        return not self.failures


def run(ids: Iterable[str] = (), limit: int = 50) -> list[Result]:
    """Run all invariants, or those named; at most `limit` failing rows each. KeyError for an unknown id."""
    chosen = [_registered[id] for id in ids] or all_invariants()
    return [Result(entry, list(islice(entry.check(), limit))) for entry in chosen]


# --- the ground floor's own ------------------------------------------------------------------------


@invariant("A1", "The audit chain verifies: every sealed entry matches its seal, and no seal is missing.")
def audit_chain() -> Iterable[str]:
    yield from audit.verify()


@invariant("D2", "No credential or buyer's address can be read in the database without its key.")
def encrypted_columns() -> Iterable[str]:
    prefixes = tuple(f"{name}:" for name in crypto.key_names())
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            if not isinstance(field, EncryptedJSONField | EncryptedTextField):
                continue
            quote = connection.ops.quote_name
            column = quote(str(field.column))
            readable = " AND ".join([f"{column} NOT LIKE %s"] * len(prefixes))
            with connection.cursor() as cursor:
                cursor.execute(
                    f"SELECT {quote(str(model._meta.pk.column))} FROM {quote(model._meta.db_table)} "  # noqa: S608 our own names
                    f"WHERE {column} IS NOT NULL AND {readable}",
                    [f"{prefix}%" for prefix in prefixes],
                )
                for (pk,) in cursor.fetchall():
                    yield f"{model._meta.label} {pk}: {field.name} is not encrypted with a known key"


@invariant("I1", "An idempotency record that is done holds one good answer.")
def idempotency_answers() -> Iterable[str]:
    done = IdempotencyRecord.objects.filter(status__isnull=False)
    for record in done.filter(~Q(status__range=(200, 399)) | Q(digest="")):
        yield f"idempotency record {record.pk} ({record.route}) holds the answer {record.status}"


@invariant(
    "Q1", "While a dispatcher lives, no due event waits over 60 s and a worker is heard of every 60 s."
)
def queues_move() -> Iterable[str]:
    alive = beat.age(beat.DISPATCHER)
    if alive is None or alive > dt.timedelta(seconds=30):
        return
    before = now() - beat.SILENT_AFTER
    due = OutboxEvent.objects.filter(dead=False, created_at__lt=before, next_attempt_at__isnull=True)
    for event in due.order_by("id"):
        yield f"outbox event {event.pk} ({event.topic} {event.key}) waits since {event.created_at:%H:%M:%S}"
    worker = beat.age(beat.WORKER)
    if worker is not None and worker > beat.SILENT_AFTER:
        yield f"no worker was heard of for {int(worker.total_seconds())} s"
