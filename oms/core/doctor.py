"""Is this installation fit? Each finding is a sentence; each trouble names its fix."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from oms.core import beat, crypto
from oms.core.clock import now
from oms.core.models import ExceptionItem, OutboxEvent
from oms.core.words import some


@dataclass(frozen=True)
class Finding:
    ok: bool
    sentence: str


def examine() -> Iterator[Finding]:
    """All checks; without a database those that need one are left out."""
    yield from _home()
    yield from _keys()
    yield from _host_map()
    reachable = True
    for finding in _database():
        reachable = reachable and finding.ok
        yield finding
    if not reachable:
        return
    migrated = True
    for finding in _migrations():
        migrated = migrated and finding.ok
        yield finding
    if migrated:
        checks: tuple[Callable[[], Iterator[Finding]], ...] = (_clock, _heartbeats, _outbox)
        for check in checks:
            yield from check()


def _home() -> Iterator[Finding]:
    probe = settings.HOME / f".doctor-{os.getpid()}"
    try:
        probe.write_text("x")
        probe.unlink()
        yield Finding(True, f"OMS_HOME {settings.HOME} can be written.")
    except OSError as error:
        yield Finding(
            False, f"OMS_HOME {settings.HOME} cannot be written ({error.strerror}): give it to this user."
        )


def _keys() -> Iterator[Finding]:
    try:
        names = crypto.key_names()
        good = crypto.decrypt(crypto.encrypt("probe")) == "probe"
        yield Finding(good, f"Field keys {', '.join(names)} work; {names[0]} encrypts new values.")
    except Exception as error:
        yield Finding(False, f"Field keys do not work: {error}")


def _host_map() -> Iterator[Finding]:
    for host, target in settings.HOST_MAP.items():
        parts = urlsplit(target)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield Finding(
                False,
                f"OMS_HOST_MAP sends {host} to '{target}': give a base URL such as http://127.0.0.1:8790.",
            )
    if settings.HOST_MAP and not settings.EMBEDDED and settings.SECURE:
        yield Finding(
            False, "OMS_HOST_MAP is set in production: calls do not reach the real channels. Unset it."
        )
    elif settings.HOST_MAP:
        yield Finding(True, f"OMS_HOST_MAP sends {len(settings.HOST_MAP)} hosts elsewhere.")


def _database() -> Iterator[Finding]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        yield Finding(False, f"The database does not answer: {str(error).strip()[:200]} Check DATABASE_URL.")
        return
    yield Finding(True, f"The database answers ({connection.display_name}).")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            mode = cursor.fetchone()[0]
        fix = "acknowledged orders can be lost in a crash. Set it to on."
        yield Finding(mode != "off", f"synchronous_commit is {mode}" + ("." if mode != "off" else f": {fix}"))


def _migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        yield Finding(False, f"{len(plan)} migrations are missing: run manage.py migrate.")
    else:
        yield Finding(True, "All migrations are applied.")


def _clock() -> Iterator[Finding]:
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        skew = abs((cursor.fetchone()[0] - now()).total_seconds())
    words = f"The clock differs from the database's by {skew:.1f} s"
    yield Finding(skew < 2, words + ("." if skew < 2 else ": turn on NTP on both machines."))


def _heartbeats() -> Iterator[Finding]:
    for name, limit, start in (
        (beat.DISPATCHER, dt.timedelta(seconds=30), "manage.py dispatch"),
        (beat.WORKER, beat.SILENT_AFTER, "manage.py worker"),
    ):
        age = beat.age(name)
        if age is None:
            yield Finding(False, f"No {name} has ever run: start {start}.")
        elif age > limit:
            yield Finding(
                False, f"The {name} was last heard of {int(age.total_seconds())} s ago: start {start}."
            )
        else:
            yield Finding(True, f"The {name} lives ({int(age.total_seconds())} s ago).")


def _outbox() -> Iterator[Finding]:
    oldest = (
        OutboxEvent.objects.filter(dead=False).order_by("id").values_list("created_at", flat=True).first()
    )
    if oldest is not None and now() - oldest > beat.SILENT_AFTER:
        yield Finding(
            False, f"News wait since {oldest:%Y-%m-%d %H:%M:%S} UTC: look at the log of manage.py dispatch."
        )
    else:
        yield Finding(True, "News are handled in time.")
    dead = OutboxEvent.objects.filter(dead=True).count()
    if dead:
        yield Finding(False, f"{some(dead, 'event')} could not be processed: see the exceptions inbox.")
    urgent = ExceptionItem.objects.filter(
        closed_at__isnull=True, severity=ExceptionItem.Severity.URGENT
    ).count()
    if urgent:
        yield Finding(False, f"{urgent} urgent exceptions are open: see the Today screen.")
