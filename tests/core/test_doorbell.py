from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator

import pytest
import time_machine
from django.db import connection, transaction
from django_q.models import OrmQ

from oms.core import doorbell
from oms.core.clock import now
from oms.core.models import Doorbell, Periodic, Setting

TASK = "tests.core.test_doorbell.work"
calls: list[str] = []


def work(subject: str) -> None:
    calls.append(subject)


@pytest.fixture(autouse=True)
def _own_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    calls.clear()
    monkeypatch.setattr(doorbell, "_function", lambda task: work)
    yield


@pytest.mark.django_db
def test_ringing_twice_is_ringing_once() -> None:
    assert doorbell.ring(TASK, "7") is True
    assert doorbell.ring(TASK, "7") is False
    assert doorbell.ring(TASK, "8") is True
    assert OrmQ.objects.count() == 2


@pytest.mark.django_db
def test_the_bell_is_down_before_the_task_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work written while the task runs can ring again."""
    again: list[bool] = []
    monkeypatch.setattr(
        doorbell, "_function", lambda task: lambda subject: again.append(doorbell.ring(TASK, subject))
    )
    doorbell.ring(TASK, "7")
    doorbell.answer(TASK, "7")
    assert again == [True]


@pytest.mark.django_db
def test_a_task_that_runs_twice_or_without_a_bell_is_harmless() -> None:
    doorbell.answer(TASK, "7")
    doorbell.answer(TASK, "7")
    assert calls == ["7", "7"]
    assert not Doorbell.objects.exists()


@pytest.mark.django_db
def test_the_queued_task_carries_ids_only() -> None:
    doorbell.ring(TASK, "7")
    task = OrmQ.objects.get().task
    assert (task["func"], task["args"], task["kwargs"]) == ("oms.core.doorbell.answer", (TASK, "7"), {})


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_ring_was_never_heard() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        doorbell.ring(TASK, "7")
        raise ZeroDivisionError
    assert (Doorbell.objects.count(), OrmQ.objects.count()) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_a_failing_task_is_raised_and_leaves_a_usable_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(subject: str) -> None:
        with transaction.atomic():
            Setting.objects.create(key="probe", value=1)
            raise ZeroDivisionError

    monkeypatch.setattr(doorbell, "_function", lambda task: fail)
    with pytest.raises(ZeroDivisionError):
        doorbell.answer(TASK, "")
    assert not connection.in_atomic_block
    assert Setting.objects.count() == 0


def _tasks_of(task: str) -> int:
    return len([row for row in OrmQ.objects.all() if row.task["args"][0] == task])


@pytest.mark.django_db
def test_the_task_of_a_killed_worker_is_put_back_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue itself gives a task that a worker took with it back after `retry`, minutes later."""
    monkeypatch.setattr(doorbell, "_declared", {})
    doorbell.ring(TASK, "7")
    OrmQ.objects.update(lock=now() + dt.timedelta(minutes=5))  # taken by a worker that is dead now
    with time_machine.travel(now() + dt.timedelta(seconds=15), tick=False):
        doorbell.ring_due()
        assert _tasks_of(TASK) == 1
    with time_machine.travel(now() + dt.timedelta(seconds=25), tick=False):
        doorbell.ring_due()
        doorbell.ring_due()
        assert _tasks_of(TASK) == 2


@pytest.mark.django_db
def test_a_bell_that_only_waits_its_turn_is_not_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers are behind: more tasks would only put them further behind. After a purge they come back."""
    monkeypatch.setattr(doorbell, "_declared", {})
    doorbell.ring(TASK, "7")
    doorbell.ring("other.task", "8")
    OrmQ.objects.filter(pk=OrmQ.objects.latest("pk").pk).delete()  # somebody removed that one
    with time_machine.travel(now() + doorbell.LOST_AFTER - dt.timedelta(seconds=9), tick=False):
        doorbell.ring_due()
        assert (_tasks_of(TASK), _tasks_of("other.task")) == (1, 0)
    with time_machine.travel(now() + doorbell.LOST_AFTER + dt.timedelta(seconds=9), tick=False):
        doorbell.ring_due()
        doorbell.ring_due()
        assert _tasks_of("other.task") == 1


@pytest.mark.django_db
def test_periodic_tasks_ring_when_due_and_missed_runs_are_not_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doorbell, "_declared", {})
    doorbell.periodic(seconds=60)(work)
    task = f"{__name__}.work"
    start = dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC)
    rung: list[int] = []
    for second in (0, 1, 59, 61, 62, 3600, 3601):
        with time_machine.travel(start + dt.timedelta(seconds=second), tick=False):
            rung.append(doorbell.ring_due())
            Doorbell.objects.all().delete()  # the task ran
    assert rung == [1, 0, 0, 1, 0, 1, 0]
    assert Periodic.objects.get().task == task
    monkeypatch.setattr(doorbell, "_declared", {})
    doorbell.ring_due()
    assert not Periodic.objects.exists()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_work_committed_after_the_bell_was_hung_is_always_seen() -> None:
    """Someone rings while the bell hangs, but commits late: the task waits for that commit before it drains."""
    doorbell.ring(TASK, "7")
    rung, go = threading.Event(), threading.Event()
    seen: list[int] = []

    def writer() -> None:
        try:
            with transaction.atomic():
                Setting.objects.create(key="work", value=1)
                assert doorbell.ring(TASK, "7") is False
                rung.set()
                assert go.wait(10)
        finally:
            connection.close()

    def task() -> None:
        try:
            with transaction.atomic():
                Doorbell.objects.filter(task=TASK, subject="7").delete()
            seen.append(Setting.objects.filter(pk="work").count())
        finally:
            connection.close()

    first, second = threading.Thread(target=writer), threading.Thread(target=task)
    first.start()
    assert rung.wait(10)
    second.start()
    second.join(0.3)
    assert second.is_alive()  # held back by the writer's lock on the bell
    go.set()
    first.join(10)
    second.join(10)
    assert seen == [1]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_eight_ringers_at_once_leave_one_task() -> None:
    ready = threading.Barrier(8, timeout=10)
    results: list[bool] = []

    def ringer() -> None:
        try:
            ready.wait()
            results.append(doorbell.ring(TASK, "7"))
        finally:
            connection.close()

    threads = [threading.Thread(target=ringer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert (sorted(results), OrmQ.objects.count()) == ([False] * 7 + [True], 1)
