"""Signs of life of the long-running processes."""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import Any

from django.db import connection

from oms.core.clock import now
from oms.core.models import Heartbeat

#: set by `manage.py worker` for its task cluster, so that each cluster proves its own life
CLUSTER_VARIABLE = "LADING_CLUSTER"
WORKER, DISPATCHER = "worker", "dispatcher"
SILENT_AFTER = dt.timedelta(seconds=60)

_last_beat = 0.0


def beat(name: str, **info: Any) -> None:
    """Write that `name` lives now."""
    Heartbeat.objects.update_or_create(pk=name[:40], defaults={"at": now(), "info": info})


def beat_cluster() -> None:
    """Called around every task: the cluster that ran it lives. At most one write in five seconds."""
    global _last_beat
    if time.monotonic() - _last_beat < 5 and _last_beat:
        return
    _last_beat = time.monotonic()
    if not connection.in_atomic_block:
        beat(WORKER)
        cluster = os.environ.get(CLUSTER_VARIABLE)
        if cluster:
            beat(cluster)


def age(name: str) -> dt.timedelta | None:
    """Time since the last sign of life; None when there never was one."""
    at = Heartbeat.objects.filter(pk=name).values_list("at", flat=True).first()
    return None if at is None else now() - at
