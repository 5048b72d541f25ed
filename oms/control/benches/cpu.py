"""Processor time of processes and their children: what a busy machine does not lengthen (Linux)."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from django.db import connection

from oms.core.db import on_postgres

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def used(processes: Mapping[str, int]) -> dict[str, float]:
    """Seconds of processor time so far per name, of a process and its descendants; nothing where /proc is absent.

    A descendant that has a name of its own counts there.

    "database" is added on PostgreSQL: the server processes that serve this database now, when they run on this
    machine. Take the difference of two readings.
    """
    times = _times()
    if not times:
        return {}
    named = set(processes.values())
    found = {
        name: sum(times[one][1] for one in _tree(times, pid, named - {pid}))
        for name, pid in processes.items()
    }
    if on_postgres():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
            pids = [pid for (pid,) in cursor.fetchall()]
        if any(pid in times for pid in pids):
            found["database"] = sum(times[pid][1] for pid in pids if pid in times)
    return found


def per_unit(before: Mapping[str, float], after: Mapping[str, float], units: int) -> dict[str, float]:
    """Milliseconds of processor time per unit of work and name."""
    return {name: (after[name] - before[name]) * 1000 / max(1, units) for name in after if name in before}


def _times() -> dict[int, tuple[int, float]]:
    """Per process: its parent and its seconds so far, those of its ended children included."""
    found = {}
    for entry in _PROC.glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        found[int(entry.name)] = int(fields[1]), sum(map(int, fields[11:15])) / _TICKS
    return found


def _tree(times: Mapping[int, tuple[int, float]], root: int, without: Collection[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in times.items():
        children.setdefault(parent, []).append(pid)
    found, todo = [], [root] if root in times else []
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += (child for child in children.get(pid, ()) if child not in without)
    return found
