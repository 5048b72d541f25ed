"""Processes that begin together, each with a database connection of its own; none outlives the benchmark."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import time
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connections

#: seconds until a worker that was told to end is killed
PATIENCE = 5


def race(work: Callable[..., None], jobs: Sequence[tuple[Any, ...]]) -> tuple[list[Any], float]:
    """Run `work(*job, barrier, answers)` in a process per job; their answers, and seconds from the common start.

    However the run ends, by an error or a signal too, the processes are ended before this returns. Raises
    `RuntimeError` when one dies without an answer.
    """
    connections.close_all()  # a connection must not be shared with a child
    fork = multiprocessing.get_context("fork")
    barrier, answers = fork.Barrier(len(jobs) + 1), fork.Queue()
    # daemons: should this process be killed between two lines, multiprocessing still ends them with it
    team = [fork.Process(target=work, args=(*job, barrier, answers), daemon=True) for job in jobs]
    try:
        for worker in team:
            worker.start()
        barrier.wait(60)
        began = time.perf_counter()
        found: list[Any] = []
        while len(found) < len(team):
            if answers.empty() and all(worker.exitcode is not None for worker in team):
                raise RuntimeError(f"{len(team) - len(found)} of {len(team)} workers died without an answer")
            with contextlib.suppress(queue.Empty):
                found.append(answers.get(timeout=0.5))
        seconds = time.perf_counter() - began
        for worker in team:
            worker.join(30)
        return found, seconds
    finally:
        for worker in team:
            if worker.pid is not None and worker.is_alive():
                worker.terminate()
        for worker in team:
            if worker.pid is None:
                continue
            worker.join(PATIENCE)
            if worker.is_alive():
                worker.kill()
                worker.join(PATIENCE)
