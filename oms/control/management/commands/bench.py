"""`manage.py bench NAME`: measure the product on a database of its own, never on the user's."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from oms.control.benches.report import Report, table

NAMES = (
    "api",
    "intake",
    "flash",
    "sync",
    "stock_import",
    "races",
    "asof",
    "grid",
    "lists",
    "screens",
    "reorder",
    "flashsale",
    "kpi",
    "routing",
    "tasks",
)
#: set in the child: where it writes its report
OUT = "LADING_BENCH_OUT"
SERVER = "postgres://postgres@127.0.0.1:5432/postgres"


class Command(BaseCommand):
    help = "Measure speed and exactness on a throw-away database; prints a table, or JSON with --json."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", choices=NAMES)
        parser.add_argument("--json", action="store_true", help="print the report as JSON")
        parser.add_argument(
            "--quick", action="store_true", help="little data: checks that it works, says nothing about speed"
        )
        parser.add_argument(
            "--db", choices=("sqlite", "postgres"), help="engine; default: that of DATABASE_URL"
        )
        parser.add_argument(
            "--save", metavar="DIRECTORY", help="also write the report as JSON and as a table there"
        )
        parser.add_argument(
            "--orders", type=int, default=1_000_000, help="kpi, lists: orders of the year (default 1,000,000)"
        )
        parser.add_argument("--rate", type=int, default=50, help="sync: sales per second (default 50)")
        parser.add_argument(
            "--seconds", type=int, default=20, help="sync, tasks: how long the load goes on (default 20)"
        )
        parser.add_argument(
            "--channels", type=int, default=5, help="sync: stores that list every SKU (default 5)"
        )
        parser.add_argument("--skus", type=int, default=300, help="sync: SKUs (default 300)")
        parser.add_argument(
            "--latency-ms", type=int, default=150, help="sync: answer time of the channels (default 150)"
        )
        parser.add_argument(
            "--burst",
            type=int,
            default=1_000,
            help="sync: sales at once, of one SKU and of all (default 1000)",
        )

        parser.add_argument("--units", type=int, default=500, help="flashsale: units for sale (default 500)")
        parser.add_argument(
            "--shoppers", type=int, default=5_000, help="flashsale: buyers who try (default 5000)"
        )
        parser.add_argument(
            "--outage", type=int, default=300, help="flashsale: seconds that one store is down (default 300)"
        )
        parser.add_argument(
            "--mode", choices=("both", "shown", "divided"), default="both",
            help="flashsale: every unit shown by every store, the units divided, or one after the other",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        for name in ("rate", "seconds", "channels", "skus", "burst", "units", "shoppers", "outage", "orders"):
            if options[name] < 1:
                raise CommandError(f"--{name} must be 1 or more.")
        before = signal.signal(signal.SIGTERM, _end)  # the processes end and the database goes, also then
        try:
            if OUT in os.environ:
                self._measure(options)
            else:
                self._report(options)
        finally:
            signal.signal(signal.SIGTERM, before)

    def _report(self, options: dict[str, Any]) -> None:
        engine = options["db"] = options["db"] or ("sqlite" if settings.EMBEDDED else "postgres")
        with (
            tempfile.TemporaryDirectory(prefix="lading-bench-") as home,
            _database(engine, Path(home)) as url,
        ):
            data = self._child(options, Path(home), url)
        if options["save"]:
            self._save(data, Path(options["save"]))
        self.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) if options["json"] else table(data))
        if not data["ok"]:
            raise CommandError("Something that must be exact is not; see the lines above.")

    def _child(self, options: dict[str, Any], home: Path, url: str) -> dict[str, Any]:
        """Run the benchmark in a process whose environment knows nothing of the user's data."""
        out = home / "report.json"
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OMS_", "DATABASE_URL", "DJANGO_"))
        }
        environment = {
            **kept, "DATABASE_URL": url, "OMS_HOME": str(home), OUT: str(out), "DJANGO_SETTINGS_MODULE": "oms.settings",
            "OMS_SECRET_KEY": secrets.token_urlsafe(50), "OMS_ALLOWED_HOSTS": "127.0.0.1",
            "OMS_FIELD_KEYS": f"b1:{urlsafe_b64encode(secrets.token_bytes(32)).decode()}",
            **_bench(options["name"]).environment(options),
        }  # fmt: skip
        command = [sys.executable, str(Path(settings.BASE_DIR) / "manage.py"), "bench", *_words(options)]
        child = subprocess.Popen(command, env=environment, stdout=sys.stderr)  # noqa: S603 our own manage.py
        try:
            child.wait()
        except BaseException:
            child.terminate()
            child.wait(90)
            raise
        if child.returncode or not out.exists():
            raise CommandError("The benchmark did not come to its end; see the lines above.")
        found: dict[str, Any] = json.loads(out.read_text())
        return found

    def _measure(self, options: dict[str, Any]) -> None:
        name = Path(settings.DATABASES["default"]["NAME"]).name
        if not name.startswith("lading_bench_"):
            raise CommandError(f"'{name}' is no database of a benchmark: start it without {OUT}.")
        call_command("migrate", interactive=False, verbosity=0)
        report = Report(options["name"], "manage.py bench " + " ".join(_words(options)))
        _bench(options["name"]).run(report, options, lambda text: self.stderr.write(f"  {text}"))
        Path(os.environ[OUT]).write_text(json.dumps(report.as_dict(), ensure_ascii=False))

    def _save(self, data: dict[str, Any], directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        name = f"{data['bench']}-{data['database']['engine']}"
        if "sales_per_s" in data["size"]:
            name += f"-{data['size']['sales_per_s']}"
        if data["size"].get("mode", "both") != "both":
            name += f"-{data['size']['mode']}"
        (directory / f"{name}.json").write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        (directory / f"{name}.md").write_text(table(data))


def _end(*args: Any) -> None:
    raise SystemExit(143)


def _bench(name: str) -> Any:
    return import_module(f"oms.control.benches.{name}")


def _words(options: dict[str, Any]) -> list[str]:
    """The command line that repeats this run."""
    words = [options["name"], *(["--quick"] if options["quick"] else [])]
    if options["name"] == "sync":
        for name in ("rate", "seconds", "channels", "skus", "latency_ms", "burst"):
            words += [f"--{name.replace('_', '-')}", str(options[name])]
    if options["name"] == "tasks":
        words += ["--seconds", str(options["seconds"])]
    if options["name"] == "flashsale":
        for name in ("channels", "units", "shoppers", "rate", "outage", "mode"):
            words += [f"--{name}", str(options[name])]
    if options["name"] in ("kpi", "lists") and not options["quick"]:
        words += ["--orders", str(options["orders"])]
    return [*words, "--db", options["db"]]


@contextlib.contextmanager
def _database(engine: str, home: Path) -> Iterator[str]:
    """The address of an empty database that is gone afterwards."""
    if engine == "sqlite":
        yield f"sqlite:///{home / f'lading_bench_{os.getpid()}.sqlite3'}"
        return
    server = os.environ.get("TEST_POSTGRES_URL") or (SERVER if settings.EMBEDDED else settings.DATABASE_URL)
    name = f"lading_bench_{os.getpid()}"
    parts = urlsplit(server)
    try:
        door = psycopg.connect(server, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as error:
        raise CommandError(
            "No PostgreSQL server answers: name one with DATABASE_URL or TEST_POSTGRES_URL, or use --db sqlite."
        ) from error
    with door:
        door.execute(f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server, autocommit=True, connect_timeout=5) as door:
            door.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
