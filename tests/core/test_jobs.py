from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator

import psycopg
import pytest
import time_machine
from django.db import IntegrityError, OperationalError
from django_q.models import OrmQ

from oms.core import jobs
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.db import LostRace
from oms.core.errors import Conflict, UserError
from oms.core.models import Doorbell, ExceptionItem, Job, JobRow, Setting

pytestmark = pytest.mark.django_db
ADA = Actor("user", "ada")


@pytest.fixture(autouse=True)
def _own_handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(jobs, "_handlers", {})
    yield


def put(number: int) -> str:
    if number % 3 == 0:
        Setting.objects.create(key=f"half{number}", value=1)
        raise UserError(f"row: {number} is divisible by 3.")
    Setting.objects.create(key=f"n{number}", value=number)
    return f"stored {number}"


def counting(total: int = 7, chunk: int = 2) -> None:
    @jobs.job_handler("count")
    def handler(run: jobs.Run) -> dict[str, int]:
        run.total(total)
        run.rows(range(1, total + 1), put, chunk=chunk)
        return {"end": run.position}


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no handler"):
        jobs.start_job("count", "t", {}, ADA)
    assert not Job.objects.exists()


def test_each_row_has_its_result_and_a_failing_one_leaves_nothing() -> None:
    counting()
    job = jobs.start_job("count", "Count", {"file": 1}, ADA)
    assert OrmQ.objects.get().task["args"] == ("oms.core.tasks.run_job", str(job.pk))
    jobs.run_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.total, job.position, job.ok, job.failed, job.result) == (
        "done",
        7,
        7,
        5,
        2,
        {"end": 7},
    )
    assert [(row.number, row.ok, row.message) for row in JobRow.objects.all()][1:3] == [
        (2, True, "stored 2"),
        (3, False, "row: 3 is divisible by 3."),
    ]
    assert not Setting.objects.filter(key__startswith="half").exists()
    jobs.run_job(job.pk)  # the doorbell rang twice
    assert JobRow.objects.count() == 7


def test_when_time_is_up_the_job_goes_on_in_the_next_task() -> None:
    counting()
    job = jobs.start_job("count", "Count", {}, ADA)
    positions = []
    while Job.objects.get(pk=job.pk).state != "done":
        Doorbell.objects.all().delete()
        jobs.run_job(job.pk, budget=-1)
        positions.append(Job.objects.get(pk=job.pk).position)
        assert len(positions) < 9
    assert positions == [2, 4, 6, 7, 7]
    assert list(JobRow.objects.values_list("number", flat=True)) == [1, 2, 3, 4, 5, 6, 7]


def test_stop_and_resume() -> None:
    counting()
    job = jobs.start_job("count", "Count", {}, ADA)
    jobs.run_job(job.pk, budget=-1)
    jobs.stop(job.pk, actor=ADA)
    jobs.run_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.position) == ("stopped", 2)
    jobs.resume(job.pk, actor=ADA)
    jobs.run_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.position, job.ok) == ("done", 7, 5)
    for act in (jobs.stop, jobs.resume):
        with pytest.raises(Conflict):
            act(job.pk, actor=ADA)


def test_a_broken_handler_fails_visibly_and_keeps_what_is_done() -> None:
    def work(number: int) -> None:
        if number == 4:
            raise ZeroDivisionError("oops")
        Setting.objects.create(key=f"n{number}", value=number)

    @jobs.job_handler("count")
    def handler(run: jobs.Run) -> None:
        run.rows(range(1, 6), work, chunk=2)

    job = jobs.start_job("count", "Count", {}, ADA)
    jobs.run_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.position, job.message) == ("failed", 2, "ZeroDivisionError: oops")
    assert list(Setting.objects.order_by("key").values_list("key", flat=True)) == ["n1", "n2"]


@pytest.mark.django_db(transaction=True)
def test_a_row_that_lost_a_race_is_done_again_with_its_chunk() -> None:
    """Services inside the chunk's transaction cannot repeat themselves: they leave it to who opened it."""
    turns: list[int] = []

    def work(number: int) -> None:
        turns.append(number)
        if len(turns) == 2:
            raise LostRace("a level changed meanwhile")
        put(number)

    @jobs.job_handler("count")
    def handler(run: jobs.Run) -> None:
        run._chunk([1, 2], work, str)

    job = jobs.start_job("count", "Count", {}, ADA)
    jobs.run_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.position, turns) == ("done", 2, [1, 2, 1, 2])


class _Gone(Exception):
    sqlstate = "57P01"


class _Refused(Exception):
    sqlstate = "57014"


@pytest.mark.parametrize(
    ("cause", "state"), [(_Gone(), "running"), (_Refused(), "failed"), (IntegrityError(), "failed")]
)
def test_a_job_whose_database_went_away_goes_on_by_itself(cause: Exception, state: str) -> None:
    """A restart of the database is no failure of the job: nobody has to press a button after an upgrade."""
    turns: list[int] = []

    def work(number: int) -> None:
        turns.append(number)
        if turns == [1, 2, 3]:
            raise OperationalError("terminating connection due to administrator command") from cause
        put(number)

    @jobs.job_handler("count")
    def handler(run: jobs.Run) -> None:
        run.rows(range(1, 5), work, chunk=2)

    job = jobs.start_job("count", "Count", {}, ADA)
    jobs.run_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.position) == (state, 2)
    with time_machine.travel(now() + jobs.LEASE * 2, tick=False):
        assert list(jobs.waiting()) == ([job.pk] if state == "running" else [])
        jobs.run_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.position) == (("done", 4) if state == "running" else ("failed", 2))


def test_a_dead_workers_job_is_found_and_its_late_ghost_writes_nothing() -> None:
    ghost: list[jobs.Run] = []

    @jobs.job_handler("count")
    def handler(run: jobs.Run) -> None:
        ghost.append(run)
        if len(ghost) == 1:
            raise SystemExit  # as a killed worker: the row stays "running"
        run.rows(range(1, 4), put)

    job = jobs.start_job("count", "Count", {}, ADA)
    with pytest.raises(SystemExit):
        jobs.run_job(job.pk)
    jobs.run_job(job.pk)
    assert Job.objects.get().state == "running"  # its lease still holds
    assert list(jobs.waiting()) == []
    with time_machine.travel(Job.objects.get().lease_until, tick=False):
        assert list(jobs.waiting()) == [job.pk]
        jobs.run_job(job.pk)
    assert (Job.objects.get().state, Job.objects.get().position) == ("done", 3)
    with pytest.raises(jobs._Lost):
        ghost[0].rows([9], put)
    assert not Setting.objects.filter(key="n9").exists()


@pytest.mark.parametrize("killed", [False, True])
def test_a_job_that_never_gets_further_ends_before_a_person_with_its_reason(killed: bool) -> None:
    """A driver that always gives up, or a row that kills its worker each time, is not tried for ever."""
    turns: list[int] = []

    def work(number: int) -> None:
        turns.append(number)
        if number == 3 and len(turns) < 20:
            if killed:
                raise SystemExit
            raise OperationalError(
                "sending query failed: too many parameters"
            ) from psycopg.OperationalError()
        put(number)

    @jobs.job_handler("count")
    def handler(run: jobs.Run) -> None:
        run.rows(range(1, 5), work, chunk=2)

    job = jobs.start_job("count", "Count", {}, ADA)
    began, waits = now(), []
    with time_machine.travel(began, tick=False) as clock:
        while True:
            with contextlib.suppress(SystemExit):
                jobs.run_job(job.pk)
            job.refresh_from_db()
            if job.state != "running":
                break
            assert (job.position, ExceptionItem.objects.count()) == (2, 0)
            assert job.lease_until is not None
            waits.append(int((job.lease_until - now()).total_seconds()) // 60)
            clock.move_to(job.lease_until)
            assert list(jobs.waiting()) == [job.pk]
    assert waits == ([2] * 5 if killed else [2, 4, 8, 16, 32])
    assert (job.state, job.position, turns.count(3)) == ("failed", 2, 5)
    assert job.message.startswith("Interrupted 5 times before row 3 was done. ")
    assert ("worker" if killed else "OperationalError: sending query failed") in job.message
    told = ExceptionItem.objects.get()
    assert (told.kind, told.url) == ("job_failed", f"/jobs/{job.pk}/") and job.message[:60] in told.detail
    turns += [0] * 20  # mended
    jobs.resume(job.pk, actor=ADA)
    jobs.run_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.position, job.interruptions, job.message) == ("done", 4, 0, "")
    assert not ExceptionItem.objects.filter(closed_at=None).exists()


def test_rows_done_between_two_interruptions_make_the_job_as_patient_as_before() -> None:
    def work(number: int) -> None:
        if number in seen:
            return
        seen.add(number)
        raise OperationalError("connection refused") from psycopg.OperationalError()

    seen: set[int] = set()

    @jobs.job_handler("count")
    def handler(run: jobs.Run) -> None:
        run.rows(range(1, 11), work, chunk=1)

    job = jobs.start_job("count", "Count", {}, ADA)
    with time_machine.travel(now(), tick=False) as clock:
        for _ in range(11):
            jobs.run_job(job.pk)
            clock.shift(jobs.LEASE * 2)
    job.refresh_from_db()
    assert (job.state, job.position) == ("done", 10)


def test_a_handler_that_keeps_its_own_place_holds_its_job_and_never_moves_it_back() -> None:
    reached: list[int] = []

    @jobs.job_handler("look")
    def handler(run: jobs.Run) -> None:
        for position in (2, 4, 6):
            with time_machine.travel(now() + dt.timedelta(seconds=90), tick=False):
                at = now()
                run.reached(position)
            job.refresh_from_db()
            assert job.lease_until == at + jobs.LEASE
            reached.append(job.position)
            if len(reached) == 2:
                raise SystemExit

    job = jobs.start_job("look", "Look", {}, ADA)
    with pytest.raises(SystemExit):
        jobs.run_job(job.pk)
    with time_machine.travel(now() + dt.timedelta(minutes=5)):
        jobs.run_job(job.pk)
    job.refresh_from_db()
    assert (reached, job.state, job.position) == ([2, 4, 4, 4, 6], "done", 6)
