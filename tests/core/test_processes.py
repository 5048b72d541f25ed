"""The long-running processes, as processes."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from oms.core import beat, dispatcher, doctor, outbox, worker
from oms.core.clock import now
from oms.core.dispatcher import Dispatcher
from oms.core.models import ExceptionItem, Heartbeat, OutboxEvent

ROOT = Path(__file__).resolve().parents[2]


def until(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Poll: other processes do not tell us when they are done."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found


async def auntil(true: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(_closing(true)):
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.02)


def _closing(work: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        try:
            return work()
        finally:
            connection.close()

    return run


@pytest.fixture
def own_home(settings: Any, tmp_path: Path) -> None:
    settings.HOME = tmp_path


@pytest.fixture
def heard() -> Iterator[list[str]]:
    keys: list[str] = []
    outbox._handlers["test.news"].append(lambda events: keys.extend(event.key for event in events))
    yield keys
    outbox._handlers.pop("test.news")


class Recorder:
    """An engine that notes what happens to it."""

    def __init__(self, log: list[str], fail_first: bool = False) -> None:
        self.log, self.fail_first = log, fail_first

    async def run(self, stop: asyncio.Event, wake: asyncio.Event) -> None:
        self.log.append("start")
        if self.fail_first and self.log.count("start") == 1:
            raise ZeroDivisionError("engine broke")
        while not stop.is_set():
            await wake.wait()
            wake.clear()
            self.log.append("stop" if stop.is_set() else "wake")


def publish(key: str) -> None:
    with transaction.atomic():
        outbox.emit("test.news", key)


@pytest.mark.django_db(transaction=True)
def test_news_reach_handlers_and_wake_engines_and_stop_is_clean(own_home: None, heard: list[str]) -> None:
    log: list[str] = []

    async def scenario() -> None:
        active = Dispatcher({"probe": lambda: Recorder(log)})
        running = asyncio.create_task(active.run())
        await asyncio.wait_for(active.active.wait(), 10)
        await asyncio.to_thread(_closing(lambda: publish("1")))
        await auntil(lambda: "wake" in log and Heartbeat.objects.filter(pk="dispatcher").exists())
        active.stop.set()
        await asyncio.wait_for(running, 20)

    asyncio.run(scenario())
    assert heard == ["1"]
    assert (log[0], log[-1]) == ("start", "stop")
    assert not OutboxEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_one_leads_the_other_stands_by_and_takes_over(own_home: None, heard: list[str]) -> None:
    async def scenario() -> None:
        first, second = Dispatcher({}), Dispatcher({})
        one = asyncio.create_task(first.run())
        await asyncio.wait_for(first.active.wait(), 10)
        two = asyncio.create_task(second.run())
        await asyncio.sleep(0.3)
        assert not second.active.is_set()
        first.stop.set()
        await asyncio.wait_for(one, 20)
        await asyncio.wait_for(second.active.wait(), 10)
        await asyncio.to_thread(_closing(lambda: publish("after")))
        await auntil(lambda: heard == ["after"])
        second.stop.set()
        await asyncio.wait_for(two, 20)

    asyncio.run(scenario())


@pytest.mark.django_db(transaction=True)
def test_a_failing_engine_is_shown_and_started_again(own_home: None) -> None:
    log: list[str] = []

    async def scenario() -> None:
        active = Dispatcher({"probe": lambda: Recorder(log, fail_first=True)})
        running = asyncio.create_task(active.run())
        await auntil(lambda: log.count("start") == 2)
        active.stop.set()
        await asyncio.wait_for(running, 20)

    asyncio.run(scenario())
    item = ExceptionItem.objects.get(kind="engine_failed")
    assert item.detail == "ZeroDivisionError: engine broke"


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_the_dispatcher_survives_a_lost_database_connection(own_home: None, heard: list[str]) -> None:
    log: list[str] = []

    def cut() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    async def scenario() -> None:
        active = Dispatcher({"probe": lambda: Recorder(log)})
        running = asyncio.create_task(active.run())
        await asyncio.wait_for(active.active.wait(), 10)
        await asyncio.to_thread(_closing(cut))
        await auntil(lambda: log.count("start") == 2)
        await asyncio.to_thread(_closing(lambda: publish("again")))
        await auntil(lambda: heard == ["again"])
        active.stop.set()
        await asyncio.wait_for(running, 20)

    connection.close()
    asyncio.run(scenario())


@pytest.mark.django_db
def test_a_silent_worker_is_told_and_taken_back() -> None:
    dispatcher.watch_worker(running_for=10)
    assert not ExceptionItem.objects.exists()  # just started: give it time
    dispatcher.watch_worker(running_for=61)
    assert ExceptionItem.objects.get().detail.startswith("No worker was heard of ever.")
    beat.beat(beat.WORKER)
    dispatcher.watch_worker(running_for=70)
    assert ExceptionItem.objects.get().close_reason == "tasks run again"
    Heartbeat.objects.update(at=now() - dt.timedelta(seconds=75))
    dispatcher.watch_worker(running_for=70)
    assert ExceptionItem.objects.get(closed_at=None).title == "No worker runs tasks"


@pytest.mark.django_db
def test_supervisor_measures_silence_only_while_the_database_answers() -> None:
    supervisor = worker.Supervisor()
    supervisor._name = "worker:me"
    start = now()
    supervisor._trusted_since = start - dt.timedelta(seconds=90)
    silent = supervisor._tick()
    assert silent is not None and silent > dt.timedelta(seconds=89)
    supervisor._trusted_since = start
    silent = supervisor._tick()
    assert silent is not None and silent < dt.timedelta(seconds=5)


@pytest.mark.django_db
def test_canary_of_another_cluster_flies_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from oms.core import tasks
    from oms.core.models import Doorbell

    monkeypatch.setenv(beat.CLUSTER_VARIABLE, "mine")
    tasks.canary("mine#6")
    tasks.canary("other#0")
    assert not Doorbell.objects.exists()
    tasks.canary("other#6")
    assert Doorbell.objects.get().subject == "other#5"


# --- real processes on a database of their own -----------------------------------------------------


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    done = manage(embedded(home), "migrate", "--verbosity", "0")
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def installation(migrated: Path, tmp_path: Path) -> dict[str, str]:
    """An embedded installation with its own files, as `make demo` has."""
    home = tmp_path / "home"
    shutil.copytree(migrated, home)
    return embedded(home)


def embedded(home: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMS_", "DATABASE_", "DJANGO_"))
    }
    return kept | {"OMS_HOME": str(home), "OMS_LOG_LEVEL": "ERROR", "OMS_WORKERS": "1"}


def manage(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done


def beats(environment: dict[str, str]) -> dict[str, str]:
    import sqlite3

    with sqlite3.connect(Path(environment["OMS_HOME"]) / "lading.sqlite3", timeout=20) as database:
        return dict(database.execute("SELECT name, at FROM core_heartbeat"))


def children(pid: int) -> list[int]:
    """All descendants."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found += [int(path.parent.name), *children(int(path.parent.name))]
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_cluster_is_started_again_and_a_killed_supervisor_leaves_no_orphans(
    installation: dict[str, str],
) -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "worker"], cwd=ROOT, env=installation, start_new_session=True
    )
    everybody: set[int] = set()
    try:
        first = until(lambda: [name for name in beats(installation) if name.endswith(":0")], 40)
        assert "worker" in beats(installation)  # the canary ran in the real queue
        family = children(process.pid)
        everybody |= set(family)
        assert len(family) >= 5  # cluster, sentinel, worker, monitor, pusher
        os.kill(family[0], signal.SIGKILL)  # the main process of the cluster only
        until(lambda: not any(alive(pid) for pid in family))
        until(lambda: [name for name in beats(installation) if name.endswith(":1")], 40)
        assert first[0].endswith(f":{process.pid}:0")
        family = children(process.pid)
        everybody |= set(family)
        assert len(family) >= 5
        process.kill()
        process.wait(10)
        until(lambda: not any(alive(pid) for pid in family))
    finally:
        process.kill()
        process.wait(10)
        for pid in everybody:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_sigterm_stops_worker_and_dispatcher_cleanly(installation: dict[str, str]) -> None:
    running = [
        subprocess.Popen([sys.executable, "manage.py", name], cwd=ROOT, env=installation)
        for name in ("worker", "dispatch")
    ]
    try:
        until(lambda: {"worker", "dispatcher"} <= set(beats(installation)), 40)
        doctor_says = manage(installation, "doctor")
        for process in running:
            process.terminate()
        assert [process.wait(30) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
            process.wait(10)
    assert "The dispatcher lives" in doctor_says.stdout and "The worker lives" in doctor_says.stdout
    assert (doctor_says.returncode, "TROUBLE" in doctor_says.stdout) == (0, False), doctor_says.stdout


def test_serve_answers_over_http(installation: dict[str, str]) -> None:
    import socket

    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "manage.py", "serve", "--port", str(port)], cwd=ROOT, env=installation,
                               stdout=subprocess.DEVNULL)  # fmt: skip

    def answer() -> httpx.Response | None:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False)
        except httpx.TransportError:
            return None

    try:
        got = until(answer, 40)
        assert (got.status_code, got.json()["database"]) == (200, True)
        process.terminate()
        process.wait(30)
    finally:
        process.kill()
        process.wait(10)


# --- commands --------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_check_invariants_names_the_failing_row_and_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("check_invariants", "A1", "I1")
    assert [line[:7] for line in capsys.readouterr().out.splitlines()] == ["ok   A1", "ok   I1"]
    from oms.core.models import IdempotencyRecord

    IdempotencyRecord.objects.create(actor="a", route="POST /x", key="k", digest="", status=201)
    with pytest.raises(SystemExit) as ended:
        call_command("check_invariants", "I1", "--json")
    import json

    (row,) = json.loads(capsys.readouterr().out)
    assert (ended.value.code, row["id"], row["ok"], len(row["failures"])) == (1, "I1", False, 1)


@pytest.mark.django_db
def test_doctor_names_each_trouble_with_its_fix(
    own_home: None, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.HOST_MAP = {"api.ebay.com": "nonsense"}
    OutboxEvent.objects.create(topic="t", key="1", created_at=now() - dt.timedelta(hours=1))
    said = {finding.sentence: finding.ok for finding in doctor.examine()}
    troubles = [sentence for sentence, ok in said.items() if not ok]
    assert (
        troubles[0]
        == "OMS_HOST_MAP sends api.ebay.com to 'nonsense': give a base URL such as http://127.0.0.1:8790."
    )
    assert [sentence for sentence in troubles if "start manage.py" in sentence] == [
        "No dispatcher has ever run: start manage.py dispatch.",
        "No worker has ever run: start manage.py worker.",
    ]
    assert any(sentence.startswith("News wait since") for sentence in troubles)
    assert said["All migrations are applied."] is True


def test_doctor_prints_usable_keys(capsys: pytest.CaptureFixture[str]) -> None:
    from cryptography.fernet import Fernet

    call_command("doctor", "--keys")
    secret, keys = capsys.readouterr().out.split()
    assert len(secret.partition("=")[2]) >= 50
    Fernet(keys.partition(":")[2].encode())
    assert settings.FIELD_KEYS not in keys
