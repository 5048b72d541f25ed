"""Short transactions that survive being the loser of a lock conflict."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from typing import Any, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from oms.core import metrics

#: deadlock, lock timeout, serialization failure
_RETRY_STATES = {"40P01", "55P03", "40001"}
#: the server shut down, crashed or is starting
_GONE_STATES = {"57P01", "57P02", "57P03"}
T = TypeVar("T")


def on_postgres() -> bool:
    return connection.vendor == "postgresql"


def pg_array(values: list[Any]) -> Any:
    """A PostgreSQL array of whole numbers, decimals or texts as one text parameter, to be cast in the statement.

    The driver looks at each element of a list with a pattern; for thousands of rows that costs more than the rows.
    Lists of anything else are handed back as they are.
    """
    kinds = set(map(type, values))
    if kinds <= {int} or kinds <= {Decimal}:
        return f"{{{','.join(map(str, values))}}}"
    if kinds <= {int, type(None)} or kinds <= {Decimal, type(None)}:
        return f"{{{','.join('NULL' if value is None else str(value) for value in values)}}}"
    if kinds == {str}:
        joined = '","'.join(values)
        if joined.count('"') == 2 * (len(values) - 1) and "\\" not in joined:
            return f'{{"{joined}"}}'
    return values


class LostRace(OperationalError):
    """A rival finished the same work first; run again, the transaction finds it done."""


def lost_conflict(error: BaseException) -> bool:
    """True when this transaction lost to another one, by the database's word or by ours: repeat it whole."""
    if isinstance(error, LostRace):
        return True
    state = getattr(error.__cause__, "sqlstate", None)
    return state in _RETRY_STATES or "database is locked" in str(error)


def connection_lost(error: BaseException) -> bool:
    """True when the database went away (restarted, ended this connection, unreachable), not when it refused."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    if state is not None:
        return state in _GONE_STATES or state.startswith("08")
    # the driver's own words: nobody answered
    return type(error.__cause__).__module__.partition(".")[0] == "psycopg"


def in_transaction(work: Callable[[], T], *, attempts: int = 5, lock_seconds: int = 3) -> T:
    """Run `work` in one transaction; repeat it at most `attempts` times when it loses a lock conflict.

    Inside an open transaction it only runs `work`: whoever opened it repeats. Raises what `work` raises.
    """
    if connection.in_atomic_block:
        return work()
    for attempt in range(attempts):
        try:
            with transaction.atomic():
                if on_postgres():
                    with connection.cursor() as cursor:
                        cursor.execute(f"SET LOCAL lock_timeout = '{int(lock_seconds)}s'")
                return work()
        except OperationalError as error:
            if not lost_conflict(error) or attempt == attempts - 1:
                raise
            metrics.CONFLICTS.inc()
            time.sleep(random.uniform(0.2, 1) * 0.01 * 2**attempt)
    raise AssertionError("unreachable")


@contextlib.contextmanager
def short_wait(seconds: float) -> Iterator[None]:
    """Statements inside wait no longer than this for SQLite's one writer, and raise `OperationalError` then.

    PostgreSQL has many writers: nothing changes there.
    """
    if connection.vendor != "sqlite":
        yield
        return
    connection.ensure_connection()
    raw = connection.connection  # the driver's own connection: a pragma is no query of ours
    raw.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
    try:
        yield
    finally:
        usual = settings.DATABASES["default"].get("OPTIONS", {}).get("timeout", 5)
        raw.execute(f"PRAGMA busy_timeout = {int(usual * 1000)}")


def drop_broken_connection() -> None:
    """Between two pieces of work of a long-running process: the next one gets a working connection."""
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


_THREADS = 4
_executor = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="db")


async def in_db(work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run database code of a long-running asyncio process in one of four threads, never with a broken connection."""

    def run() -> T:
        drop_broken_connection()
        try:
            return work(*args, **kwargs)
        finally:
            drop_broken_connection()

    return await asyncio.get_running_loop().run_in_executor(_executor, run)


def close_db_threads() -> None:
    """End of an asyncio process: each of the threads gives its connection back."""
    together = Barrier(_THREADS)  # holds each thread until all have one of the calls

    def close() -> None:
        together.wait(10)
        connection.close()

    for future in [_executor.submit(close) for _ in range(_THREADS)]:
        future.result(15)
