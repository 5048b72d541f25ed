"""The benchmarks run, on a database of their own, and hand back what they promise. No test asserts a time."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from oms.control.benches import team
from oms.control.benches.report import Report, table
from oms.control.benches.sync import Shown, acknowledged
from oms.orders.models import Order

T0 = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)


@pytest.mark.django_db
def test_intake_measures_elsewhere_and_is_exact() -> None:
    out = io.StringIO()
    call_command("bench", "intake", "--quick", "--json", stdout=out)
    data: dict[str, Any] = json.loads(out.getvalue())
    engine = "sqlite" if settings.EMBEDDED else "postgresql"
    assert data["database"]["engine"] == engine
    assert data["command"] == f"manage.py bench intake --quick --db {engine.removesuffix('ql')}"
    assert {one["nr"] for one in data["targets"]} == {1, 2, 3, 5}
    assert all(
        one["verdict"] in ("missed", "met", "aim met") and one["must"] and one["aim"]
        for one in data["targets"]
    )
    assert {one["what"]: one["ok"] for one in data["exact"]} == dict.fromkeys(
        ("orders stored", "outcomes", "units reserved", "lines short", "invariants"), True
    )
    assert data["ok"] is True
    assert data["size"]["skus"] == 40 and data["machine"]["cores"] == os.cpu_count()
    assert data["figures"]["batch_orders_per_s"] > 0 and data["figures"]["statements_batch_of_100"] <= 50
    assert not Order.objects.exists(), "the bench must not write into the database of the caller"
    assert "| orders stored | yes | 666 |" in table(data)


def test_the_measuring_process_refuses_a_database_that_is_not_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LADING_BENCH_OUT", "/nowhere/report.json")
    with pytest.raises(CommandError, match="is no database of a benchmark"):
        call_command("bench", "intake", "--quick")


def test_rates_must_be_positive() -> None:
    with pytest.raises(CommandError, match="--rate must be 1 or more"):
        call_command("bench", "sync", "--rate", "0")


def test_a_change_ends_with_the_first_figure_that_includes_it() -> None:
    """100 sold down to 97: 98 was told at +1 s, 97 at +3 s; the change to 99 was coalesced into the push of 98."""
    at = [T0 + dt.timedelta(seconds=1), T0 + dt.timedelta(seconds=3)]
    shown = Shown(at, [-98, -97])
    assert [acknowledged(shown, figure) for figure in (99, 98, 97, 96)] == [at[0], at[0], at[1], None]
    assert acknowledged(Shown([], []), 99) is None


@pytest.mark.django_db
def test_verdicts_and_exactness() -> None:
    report = Report("intake", "manage.py bench intake")
    for value in (0.2, 0.25, 0.5):
        report.at_least(1, "share", value, 0.25, 0.5)
    for value in (16, 15, 8):
        report.at_most(5, "statements", value, 15, 8)
    assert [one.verdict for one in report.targets] == ["missed", "met", "aim met"] * 2
    assert report.ok, "a missed target of speed is a finding, not a failure"
    report.equal("orders stored", 3, 4)
    assert not report.ok
    assert "| orders stored | NO | 3 instead of 4 |" in table(report.as_dict())


def _sleeper(seconds: float, barrier: Any, answers: Any) -> None:
    barrier.wait(30)
    time.sleep(seconds)
    answers.put(seconds)


def _dies(barrier: Any, answers: Any) -> None:
    barrier.wait(30)
    os._exit(3)


def test_a_team_answers_and_a_dead_worker_is_told() -> None:
    found, seconds = team.race(_sleeper, [(0.01,), (0.02,)])
    assert sorted(found) == [0.01, 0.02] and seconds > 0
    with pytest.raises(RuntimeError, match="2 of 2 workers died"):
        team.race(_dies, [(), ()])


def test_sigterm_ends_the_workers_of_a_race(tmp_path: Path) -> None:
    """The bench is told to end while its workers still work: none of them is left behind."""
    code = (
        "import signal, time\n"
        "from django.conf import settings\n"
        "settings.configure(DATABASES={})\n"
        "from oms.control.benches import team\n"
        "def end(*args): raise SystemExit(143)\n"
        "def work(barrier, answers): barrier.wait(30); time.sleep(60)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "team.race(work, [(), ()])\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=settings.BASE_DIR)
    try:
        children: list[int] = []
        until = time.monotonic() + 60
        while len(children) < 2 and time.monotonic() < until:
            children = children_of(parent.pid)
            time.sleep(0.05)
        assert len(children) == 2
        parent.terminate()
        assert parent.wait(30) == 143
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    finally:
        parent.kill()
        parent.wait(10)


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(one) for one in listed.read_text().split()]
    except FileNotFoundError:
        return []
