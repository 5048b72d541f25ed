"""The one long-lived asyncio process: drains the outbox, runs engines, rings what is due, watches the workers.

One is active, others stand by: on PostgreSQL by an advisory lock on the connection that also listens, on SQLite by
a file lock. When the database goes away the engines stop, and everything starts again when it is back.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import IO, Any, Protocol

import psycopg
from django.conf import settings
from django.db import connection

from oms.core import audit, beat, outbox
from oms.core.db import close_db_threads, in_db, on_postgres
from oms.core.doorbell import ring_due
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.models import ExceptionItem

log = logging.getLogger("lading.dispatcher")

LEADER_LOCK = 7_410_002
BATCH = 500
POLL_SQLITE, POLL_POSTGRES = 0.1, 0.25
#: shortest time from one drain that found something to the next, for urgent news and for others
DRAIN_SECONDS = {True: 0.05, False: 0.25}
STANDBY_SECONDS = 1.0
STOP_SECONDS = 15.0


class Engine(Protocol):
    """Long-running work inside the dispatcher, such as the stock pusher.

    `run` returns soon after `stop` is set. `wake` is set when news were handled; the engine clears it. It must also
    look by itself now and then: news may have been handled by another process.
    """

    async def run(self, stop: asyncio.Event, wake: asyncio.Event) -> None: ...


_engines: dict[str, Callable[[], Engine]] = {}


def register_engine(name: str, factory: Callable[[], Engine]) -> None:
    """Let every dispatcher run an engine; `factory` is called each time it becomes active."""
    _engines[name] = factory


class Dispatcher:
    def __init__(self, engines: dict[str, Callable[[], Engine]] | None = None) -> None:
        self.stop = asyncio.Event()
        self.active = asyncio.Event()
        self._news = asyncio.Event()
        self._urgent_news = asyncio.Event()
        self._wakes: list[asyncio.Event] = []
        self._engines = _engines if engines is None else engines
        self._listener: psycopg.AsyncConnection[Any] | None = None

    async def run(self) -> None:
        """Until `stop` is set: lead or stand by."""
        while not self.stop.is_set():
            try:
                async with self._lead() as leading:
                    if leading:
                        log.info("dispatcher is active")
                        await self._active()
                        continue
            except Exception as error:
                log.warning(
                    "dispatcher starts again", extra={"cause": f"{type(error).__name__}: {error}"[:300]}
                )
            await self._sleep(STANDBY_SECONDS)
        await asyncio.to_thread(close_db_threads)

    # --- leadership --------------------------------------------------------------------------------

    @asynccontextmanager
    async def _lead(self) -> AsyncIterator[bool]:
        if not on_postgres():
            path = settings.HOME / "dispatch.lock"
            with open(path, "a") as file:
                yield _try_lock(file)
            return
        connection_of_lead = await psycopg.AsyncConnection.connect(**_listen_parameters(), autocommit=True)
        try:
            cursor = await connection_of_lead.execute("SELECT pg_try_advisory_lock(%s)", [LEADER_LOCK])
            row = await cursor.fetchone()
            self._listener = connection_of_lead
            yield bool(row and row[0])
        finally:
            self._listener = None
            await connection_of_lead.close()

    async def _active(self) -> None:
        """Run all loops until stop, or until one of them fails: then all of them end."""
        ending = asyncio.Event()
        self._wakes = [asyncio.Event() for _ in self._engines]
        loops: list[asyncio.Task[None]] = [
            asyncio.create_task(self._drain(ending, self._urgent_news, urgent=True), name="drain urgent"),
            asyncio.create_task(self._drain(ending, self._news, urgent=False), name="drain"),
            asyncio.create_task(self._housekeeping(ending), name="housekeeping"),
            asyncio.create_task(self._wait_for_stop(ending), name="stop"),
        ]
        if self._listener is not None:
            loops.append(asyncio.create_task(self._listen(self._listener), name="listen"))
        engines = [
            asyncio.create_task(self._engine(name, factory, ending, wake), name=name)
            for (name, factory), wake in zip(self._engines.items(), self._wakes, strict=True)
        ]
        self.active.set()
        try:
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.active.clear()
            ending.set()
            for wake in self._wakes:
                wake.set()
            if engines:
                _, late = await asyncio.wait(engines, timeout=STOP_SECONDS)
                for task in late:
                    log.warning("engine did not stop in time", extra={"engine": task.get_name()})
                    task.cancel()
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, *engines, return_exceptions=True)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _wait_for_stop(self, ending: asyncio.Event) -> None:
        await self.stop.wait()

    # --- loops -------------------------------------------------------------------------------------

    async def _drain(self, ending: asyncio.Event, news: asyncio.Event, *, urgent: bool) -> None:
        """Two of these run beside each other, so that a stock change never waits for other news."""
        poll = POLL_SQLITE if self._listener is None else POLL_POSTGRES
        while not ending.is_set():
            news.clear()
            began = time.monotonic()
            handled = await in_db(outbox.drain, BATCH, urgent=urgent)
            if handled:
                for wake in self._wakes:
                    wake.set()
                # what comes together is handled together: one transaction for many small ones
                rest = DRAIN_SECONDS[urgent] - (time.monotonic() - began)
                if rest > 0 and handled < BATCH:
                    await self._sleep(rest, ending)
                continue
            try:
                await asyncio.wait_for(news.wait(), poll)
            except TimeoutError:
                pass

    async def _listen(self, listener: psycopg.AsyncConnection[Any]) -> None:
        await listener.execute(f"LISTEN {outbox.CHANNEL}")
        while True:
            async for _ in listener.notifies(timeout=5.0):
                self._news.set()
                self._urgent_news.set()
            await asyncio.wait_for(listener.execute("SELECT 1"), 10)  # a silent death must not keep the lead

    async def _housekeeping(self, ending: asyncio.Event) -> None:
        started = time.monotonic()
        me = {"host": socket.gethostname(), "pid": os.getpid()}
        turn = 0
        while not ending.is_set():
            if turn % 5 == 0:
                await in_db(beat.beat, beat.DISPATCHER, **me)
                await in_db(watch_worker, time.monotonic() - started)
            await in_db(ring_due)
            while await in_db(audit.seal) == 1000:
                pass
            turn += 1
            await self._sleep(1.0, ending)

    async def _engine(
        self, name: str, factory: Callable[[], Engine], ending: asyncio.Event, wake: asyncio.Event
    ) -> None:
        """One failing engine never stops the others: it is logged, shown to a person and started again."""
        pause = 1.0
        while not ending.is_set():
            began = time.monotonic()
            try:
                await factory().run(ending, wake)
                if ending.is_set():
                    return
                log.warning("engine ended early", extra={"engine": name})
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.exception("engine failed", extra={"engine": name})
                text = f"{type(error).__name__}: {error}"
                try:
                    await in_db(_engine_trouble, name, text)
                except Exception:
                    log.exception("engine failure not recorded", extra={"engine": name})
            pause = 1.0 if time.monotonic() - began > 60 else min(pause * 2, 30.0)
            await self._sleep(pause, ending)

    async def _sleep(self, seconds: float, until: asyncio.Event | None = None) -> None:
        try:
            await asyncio.wait_for((until or self.stop).wait(), seconds)
        except TimeoutError:
            pass


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def _listen_parameters() -> dict[str, Any]:
    """How to reach PostgreSQL without a transaction pooler in between: LISTEN and the lock belong to one session."""
    direct = os.environ.get("OMS_DIRECT_DATABASE_URL")
    if direct:
        return {"conninfo": direct, "connect_timeout": 5}
    taken = connection.get_connection_params()
    names = (
        "dbname",
        "user",
        "password",
        "host",
        "port",
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "service",
    )
    return {name: taken[name] for name in names if taken.get(name)} | {"connect_timeout": 5}


def _engine_trouble(name: str, text: str) -> None:
    raise_item(
        "engine_failed",
        f"engine:{name}",
        f"The {name} engine failed and was started again",
        detail=text,
        severity=ExceptionItem.Severity.HIGH,
    )


def watch_worker(running_for: float) -> None:
    """Nobody runs tasks: say so, and take it back when somebody does. `running_for` in seconds."""
    age = beat.age(beat.WORKER)
    limit = beat.SILENT_AFTER
    if age is not None and age <= limit:
        close_item("worker_silent", "tasks run again")
    elif running_for > limit.total_seconds():
        since = "ever" if age is None else f"for {int(age.total_seconds())} s"
        raise_item(
            "worker_silent",
            "worker_silent",
            "No worker runs tasks",
            detail=f"No worker was heard of {since}. Start one with manage.py worker, or look at its log.",
            severity=ExceptionItem.Severity.URGENT,
        )


async def serve() -> None:
    """What `manage.py dispatch` runs: until SIGTERM or SIGINT."""
    dispatcher = Dispatcher()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, dispatcher.stop.set)
    await dispatcher.run()
