"""The task queue: from the commit that rings a bell until a worker starts the task, at a fixed rate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import transaction

from oms.control.benches import cpu, sync
from oms.control.benches.report import Report
from oms.core import beat
from oms.core.doorbell import ring
from oms.core.figures import percentile
from oms.core.models import Doorbell

TASK = "oms.control.benches.tasks.start"
RATE = 200
TICK_SECONDS = 0.02


def environment(options: dict[str, Any]) -> dict[str, str]:
    return {}


def start(subject: str) -> None:
    """The task that is measured: it writes down that it runs."""
    line = f"{subject} {time.time():.6f}\n".encode()
    file = os.open(settings.HOME / "started", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Target 19."""
    seconds = 2 if options["quick"] else options["seconds"]
    poll_ms = float(str(settings.Q_CLUSTER["poll"])) * 1000
    report.size = {"tasks_per_s": RATE, "seconds": seconds, "poll_ms": poll_ms,
                   "workers": settings.Q_CLUSTER["workers"]}  # fmt: skip
    with sync.process("worker") as worker:
        sync.wait("the worker", 60, lambda: beat.age(beat.WORKER) is not None)
        running = {"worker": worker, "ringing": os.getpid()}
        say(f"{RATE} tasks per second")
        spent, began, made, behind = cpu.used(running), time.monotonic(), 0, 0.0
        rung: dict[str, float] = {}
        while made < RATE * seconds:
            time.sleep(TICK_SECONDS)
            due = min(RATE * seconds, int((time.monotonic() - began) * RATE))
            while made < due:
                with transaction.atomic():
                    ring(TASK, str(made))
                rung[str(made)] = time.time()
                made += 1
            behind = max(behind, time.monotonic() - began - made / RATE)
        report.figures["tasks_per_s_reached"] = made / (time.monotonic() - began)
        sync.wait("the last task", 120, lambda: not Doorbell.objects.filter(task=TASK).exists())
        time.sleep(0.5)  # the bell is taken down just before the task runs
        used = cpu.per_unit(spent, cpu.used(running), made)
    started: dict[str, float] = {}
    for line in (settings.HOME / "started").read_text().splitlines():
        name, at = line.split()
        started[name] = min(started.get(name, float(at)), float(at))
    waits = sorted(max(0, round((started[name] - at) * 1e6)) for name, at in rung.items() if name in started)
    p50, p99 = (percentile(waits, share) or 0 for share in (0.5, 0.99))
    report.figures |= {f"cpu_ms_per_task_{name}": value for name, value in used.items()}
    report.figures |= {"start_p50_ms": p50 / 1000, "start_p99_ms": p99 / 1000,
                       "start_max_ms": (waits[-1] if waits else 0) / 1000, "driver_behind_s": behind}  # fmt: skip
    report.at_most(19, "commit → task starts, p99", p99 / 1000, poll_ms + 50, poll_ms + 50, "ms")
    report.equal("tasks started", len(started), made)
    report.check_invariants()
