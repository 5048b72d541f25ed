"""`manage.py worker`: keeps a django-q2 cluster alive, and proves that it is.

A cluster can stop silently for ever (a killed process may hold the lock of its queue), and the children of a killed
one live on. So the cluster runs in its own process group, every process of it dies with its parent, and a canary
task must be heard of every minute, else the whole group is killed and started again.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from oms.core import beat
from oms.core.clock import now
from oms.core.db import drop_broken_connection
from oms.core.doorbell import ring, ring_due
from oms.core.memory import settle

log = logging.getLogger("lading.worker")

CANARY_SECONDS = 15.0
GRACE_SECONDS = 70.0
_PR_SET_PDEATHSIG = 1
_PARENT_VARIABLE = "LADING_SUPERVISOR"


def die_with_parent() -> None:
    """Linux: the kernel kills this process when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def run_cluster() -> int:
    """The supervised child: a task cluster none of whose processes outlives its parent."""
    die_with_parent()
    supervisor = os.environ.get(_PARENT_VARIABLE)
    if supervisor and os.getppid() != int(supervisor):
        return 1  # the supervisor died before we asked to die with it
    os.register_at_fork(after_in_child=die_with_parent)
    from django_q.cluster import Cluster

    settle()  # before the cluster forks: the workers share what is loaded
    cluster = Cluster()
    cluster.start()
    cluster.sentinel.join()
    return int(cluster.sentinel.exitcode or 0)


class Supervisor:
    """Starts, watches and restarts the cluster; rings periodic tasks as the dispatcher does."""

    def __init__(
        self, *, silent_after: dt.timedelta = beat.SILENT_AFTER, canary_seconds: float = CANARY_SECONDS
    ) -> None:
        self.stop = threading.Event()
        self.restarts = 0
        self._silent_after, self._canary_seconds = silent_after, canary_seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._name = ""
        self._trusted_since = now()  # since when the database has answered without a break
        self._next_canary = 0.0

    def run(self) -> None:
        """Until SIGTERM or SIGINT; then running tasks may finish within the grace time."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop.set())
        pause = 1.0
        while not self.stop.is_set():
            began = time.monotonic()
            self._start()
            why = self._watch()
            self._end(GRACE_SECONDS if self.stop.is_set() else 0.0)
            if self.stop.is_set():
                break
            self.restarts += 1
            pause = 1.0 if time.monotonic() - began > 60 else min(pause * 2, 30.0)
            log.error(
                "task cluster starts again", extra={"cause": why, "restarts": self.restarts, "pause": pause}
            )
            self.stop.wait(pause)

    def _start(self) -> None:
        self._name = f"worker:{socket.gethostname()[:14]}:{os.getpid()}:{self.restarts}"[:40]
        self._trusted_since = now()
        self._next_canary = 0.0
        environment = {**os.environ, beat.CLUSTER_VARIABLE: self._name, _PARENT_VARIABLE: str(os.getpid())}
        self._child = subprocess.Popen(  # noqa: S603 our own command
            [sys.executable, str(settings.BASE_DIR / "manage.py"), "worker", "--cluster"],
            env=environment,
            start_new_session=True,  # its own process group, so that all of it can be killed at once
        )
        log.info("task cluster started", extra={"cluster": self._name, "pid": self._child.pid})

    def _watch(self) -> str:
        """Until the cluster has to be started again; returns why."""
        assert self._child is not None
        while not self.stop.wait(1.0):
            code = self._child.poll()
            if code is not None:
                return f"it ended with code {code}"
            try:
                silent = self._tick()
            except DatabaseError as error:
                connection.close()
                self._trusted_since = now()
                log.warning("database does not answer", extra={"cause": str(error)[:200]})
                continue
            if silent is not None and silent > self._silent_after:
                return f"no task ran for {int(silent.total_seconds())} s"
        return "stop"

    def _tick(self) -> dt.timedelta | None:
        """Ring what is due and the canary; returns for how long the cluster has been silent."""
        drop_broken_connection()
        ring_due()
        if time.monotonic() >= self._next_canary:
            ring("oms.core.tasks.canary", f"{self._name}#6")
            self._next_canary = time.monotonic() + self._canary_seconds
        age = beat.age(self._name)
        trusted = now() - self._trusted_since
        return trusted if age is None else min(age, trusted)

    def _end(self, grace: float) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if grace and child.poll() is None:
            child.terminate()
            try:
                child.wait(grace)
            except subprocess.TimeoutExpired:
                log.error("tasks did not end in time and are killed; they run again later")
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()
