"""How the benchmarks of screens ask: the test client through every middleware, timed from outside and from inside."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from django.core.management import call_command
from django.db import connection
from django.test import Client

from oms.control.benches.report import Report
from oms.core.db import on_postgres
from oms.core.memory import settle
from oms.core.models import Membership, User


def environment(options: dict[str, Any]) -> dict[str, str]:
    """What the child process needs beyond its database: a browser that logs in without a second factor."""
    return {"OMS_REQUIRE_2FA": "0"}


def owner(name: str = "bench") -> User:
    """Somebody who may see everything."""
    user = User.objects.create_user(name, password=None)
    Membership.objects.create(user=user, role="owner")
    return user


def browser(user: User) -> Client:
    """A logged-in client that comes over https, as the settings of a server ask for."""
    call_command("collectstatic", interactive=False, verbosity=0)
    client = Client(headers={"Host": "127.0.0.1"})
    client.force_login(user)
    client.get("/", secure=True)  # loads what a server has loaded when it begins
    settle()
    return client


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: milliseconds from outside, milliseconds of processor time (this process and the database's own
    for this connection), milliseconds inside statements, the slowest statement, and how many there were.
    """

    ms: float
    cpu_ms: float
    sql_ms: float
    slowest_ms: float
    statements: int
    answer: Any  # the test client's response


def ask(client: Client, path: str, *, fragment: bool = False) -> Asked:
    """GET a page, or with `fragment` the part of it that htmx asks for, to the last byte."""
    taken: list[float] = []

    def watch(execute: Callable[..., Any], *args: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(*args)
        finally:
            taken.append((time.perf_counter() - began) * 1000)

    backend = _backend()
    with connection.execute_wrapper(watch):
        before = _processor(backend)
        began, cpu = time.perf_counter(), time.process_time()
        answer = client.get(path, headers={"HX-Request": "true"} if fragment else {}, secure=True)
        if answer.streaming:
            for _ in answer:  # a file is asked for whole
                pass
        ms, cpu = (time.perf_counter() - began) * 1000, (time.process_time() - cpu) * 1000
        cpu += _processor(backend) - before
    return Asked(ms, cpu, sum(taken), max(taken, default=0.0), len(taken), answer)


def _backend() -> int:
    """The process of the database that serves this connection; 0 where there is none on this machine."""
    if not on_postgres():
        return 0
    connection.ensure_connection()
    return int(connection.connection.info.backend_pid)


def _processor(pid: int) -> float:
    """Milliseconds that a process was on a processor so far; 0 where the system does not tell."""
    if not pid:
        return 0.0
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6
    except (OSError, ValueError):
        return 0.0


def p95(values: list[float]) -> float:
    """The value that 95 of 100 do not pass."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)] if ordered else 0.0


@dataclass
class Pages:
    """Requests of many pages, by name."""

    found: dict[str, list[Asked]] = field(default_factory=dict)

    def ask(self, client: Client, name: str, path: str, *, fragment: bool = False) -> Asked:
        """One request that counts. RuntimeError for a refusal or an error, which would look quick."""
        one = ask(client, path, fragment=fragment)
        if one.answer.status_code not in (200, 204):  # 204: a part of a page that has not changed
            raise RuntimeError(f"{path} answered {one.answer.status_code}")
        self.found.setdefault(name, []).append(one)
        return one

    def all(self, what: str) -> list[float]:
        return [float(getattr(one, what)) for asked in self.found.values() for one in asked]

    def tell(self, report: Report) -> None:
        """Medians of each page, and over all requests what is slow."""
        for name, asked in self.found.items():
            report.figures[f"{name}_ms"] = round(median(one.ms for one in asked), 1)
        for name, asked in self.found.items():
            report.figures[f"{name}_sql_ms"] = round(median(one.sql_ms for one in asked), 1)
        report.figures |= {
            "page_p95_ms": p95(self.all("ms")),
            "page_processor_p95_ms": p95(self.all("cpu_ms")),
            "sql_of_a_page_p95_ms": p95(self.all("sql_ms")),
            "slowest_statement_p95_ms": p95(self.all("slowest_ms")),
            "slowest_page_ms": max(self.all("ms")),
            "most_statements": int(max(self.all("statements"))),
        }


#: how the figures of a page are to be read; every report of pages ends with it
NOTE = (
    "Time from the request to the last byte of the answer inside the process: middleware, session, rights, queries and "
    "template. Figures of a page are medians of the rounds, p95 is over all requests. Processor time is that of "
    "this process and of the database's process for this connection: other work on the machine does not lengthen it."
)


def analyze() -> None:
    """Statistics and visibility as autovacuum would bring them within minutes."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if on_postgres() else "ANALYZE")
