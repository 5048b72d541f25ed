"""What every test can ask for.

The database is named by DATABASE_URL as in production: none = SQLite, a PostgreSQL address = PostgreSQL.
OMS_NO_SKIP=1 turns every skip into a failure, for the machine where everything must be present.
"""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict
from django.test.client import FakePayload

# Playwright's sync interface runs inside an event loop; Django would refuse the ORM there.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

NO_SKIP = os.environ.get("OMS_NO_SKIP") == "1"
CHROMIUM = os.environ.get("OMS_CHROMIUM", "/usr/bin/chromium")
ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that belongs to the other database is not part of this run, so it neither skips nor counts.

    Browser tests and those marked `once` do not depend on the database engine and run on SQLite only.
    """
    on_postgres = os.environ.get("DATABASE_URL", "").startswith("postgres")
    away, here = [], []
    for item in items:
        if "page" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
        others = ("browser", "once") if on_postgres else ("postgres",)
        (away if any(map(item.get_closest_marker, others)) else here).append(item)
    if away:
        config.hook.pytest_deselected(items=away)
        items[:] = here


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped while OMS_NO_SKIP=1: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    if NO_SKIP and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} skipped while OMS_NO_SKIP=1: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _quick_hashes(settings: Any) -> None:
    """Argon2 is slow on purpose; a test that is about hashing sets its own list."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _no_copies() -> None:
    """What a process remembers of its database for a moment belongs to that database."""
    from channels import hooks
    from oms.orders import holding

    holding.forget_serving()
    hooks.forget_accounts()


_with_threads = itertools.count(1)


@pytest.fixture(autouse=True)
def _lost_connections(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a thread of a test leaves open is closed when the collector comes: seldom, in a process as big as this one,
    and a PostgreSQL takes a hundred."""
    yield
    marked = request.node.get_closest_marker("django_db")
    real = "transactional_db" in request.fixturenames or (marked and marked.kwargs.get("transaction"))
    if real and connection.vendor == "postgresql" and next(_with_threads) % 5 == 0:
        gc.collect()


@pytest.fixture(autouse=True)
def _own_files(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "files"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Official specifications and sample data, kept beside the project and never copied into it."""
    path = Path(os.environ.get("OMS_SHARED_DIR") or ROOT.parent / "shared")
    if not (path / "specs").is_dir():
        pytest.skip(
            f"no reference material at {path}: set OMS_SHARED_DIR to the folder that holds specs/ and data/"
        )
    return path


@pytest.fixture(autouse=True, scope="session")
def _flush_append_only_tables() -> Iterator[None]:
    """Tests with real transactions empty all tables afterwards; on SQLite the ledger's triggers would refuse that."""
    from django.db.backends.sqlite3.base import DatabaseOperations

    original = DatabaseOperations.execute_sql_flush

    def flush(operations: Any, statements: list[str]) -> None:
        with operations.connection.cursor() as cursor:
            cursor.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%append-only%'"
            )
            triggers = cursor.fetchall()
            for name, _ in triggers:
                cursor.execute(f"DROP TRIGGER {name}")
            original(operations, statements)
            for _, sql in triggers:
                cursor.execute(sql)

    DatabaseOperations.execute_sql_flush = flush  # type: ignore[method-assign]
    yield
    DatabaseOperations.execute_sql_flush = original  # type: ignore[method-assign]


@pytest.fixture(autouse=True, scope="session")
def _reasons_come_back() -> Iterator[None]:
    """Emptying all tables takes the reasons along that a migration brought; the next test finds them again."""
    from django.db.models.signals import post_migrate

    def restore(sender: Any, **more: Any) -> None:
        from inventory.models import AdjustmentReason

        migration = import_module("inventory.migrations.0009_floor_facts")
        if sender.label == "inventory" and not AdjustmentReason.objects.exists():
            AdjustmentReason.objects.bulk_create(
                AdjustmentReason(
                    code=code, label=label, direction=direction, needs_note=note, position=10 * place
                )
                for place, (code, label, direction, note) in enumerate(migration.REASONS, 1)
            )

    post_migrate.connect(restore, weak=False, dispatch_uid="reasons")
    yield
    post_migrate.disconnect(dispatch_uid="reasons")


@pytest.fixture(autouse=True)
def _pointers_lead_somewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever refusal of the API a test meets: its pointers name places of the request that was sent."""
    from rest_framework.test import APIClient

    from tests.api.pointing import lost_pointers

    lost: list[str] = []
    ask = APIClient.request

    def request(client: Any, **kwargs: Any) -> Any:
        sent = kwargs["wsgi.input"].read() if "wsgi.input" in kwargs else b""
        if "wsgi.input" in kwargs:
            kwargs["wsgi.input"] = FakePayload(sent)
        answer = ask(client, **kwargs)
        path = kwargs.get("PATH_INFO", "")
        if path.startswith("/api/v1/") and not answer.streaming and answer.content:
            query = QueryDict(kwargs.get("QUERY_STRING", ""))
            lost.extend(lost_pointers(kwargs["REQUEST_METHOD"], path, query, sent, answer.content))
        return answer

    monkeypatch.setattr(APIClient, "request", request)
    yield
    assert not lost, "\n".join(lost)


@pytest.fixture
def assert_invariants() -> Callable[[], None]:
    """Call it after a scenario: every invariant of every app must hold."""

    def check() -> None:
        from oms.core import invariants

        broken = [
            f"{result.invariant.id} {result.invariant.sentence}: {row}"
            for result in invariants.run()
            for row in result.failures
        ]
        assert not broken, "\n".join(broken)

    return check


@pytest.fixture
def postgres_only(db: None) -> None:
    """For a test that also carries `@pytest.mark.postgres`: states the engine it was written for."""
    assert connection.vendor == "postgresql", "mark this test with @pytest.mark.postgres"


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Debian's Chromium: Playwright's own download is not needed."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium, or set OMS_CHROMIUM")
    return {
        **browser_type_launch_args,
        "executable_path": CHROMIUM,
        "headless": True,
        "args": [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ],
    }
