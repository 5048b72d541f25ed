from __future__ import annotations

import threading

import pytest
from django.db import OperationalError, connection, transaction

from oms.core import db
from oms.core.models import Setting


class Deadlock(Exception):
    sqlstate = "40P01"


class Syntax(Exception):
    sqlstate = "42601"


def loser(times: int, cause: Exception, calls: list[int]) -> str:
    Setting.objects.create(key=f"try{len(calls)}", value=1)
    calls.append(1)
    if len(calls) <= times:
        raise OperationalError("lost") from cause
    return "won"


@pytest.mark.django_db(transaction=True)
def test_the_loser_of_a_lock_conflict_repeats_its_whole_transaction() -> None:
    calls: list[int] = []
    assert db.in_transaction(lambda: loser(2, Deadlock(), calls)) == "won"
    assert list(Setting.objects.values_list("key", flat=True)) == ["try2"]


@pytest.mark.django_db(transaction=True)
def test_it_gives_up_after_five_times_and_never_repeats_other_errors() -> None:
    calls: list[int] = []
    with pytest.raises(OperationalError):
        db.in_transaction(lambda: loser(9, Deadlock(), calls))
    assert len(calls) == 5
    with pytest.raises(OperationalError):
        db.in_transaction(lambda: loser(9, Syntax(), calls))
    assert len(calls) == 6
    assert not Setting.objects.exists()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_that_lock_in_opposite_order_both_succeed() -> None:
    """A real deadlock: PostgreSQL ends one of the two, which then repeats."""
    Setting.objects.bulk_create([Setting(key="a", value=0), Setting(key="b", value=0)])
    both = threading.Barrier(2, timeout=10)
    tries: list[str] = []

    def run(first: str, second: str) -> None:
        def work() -> None:
            tries.append(first)
            Setting.objects.select_for_update().get(pk=first)
            if len(tries) <= 2:
                both.wait()
            Setting.objects.select_for_update().get(pk=second)
            Setting.objects.filter(pk=first).update(value=1)

        try:
            db.in_transaction(work)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(Setting.objects.values_list("value", flat=True)) == [1, 1]
    assert len(tries) == 3


@pytest.mark.django_db(transaction=True)
def test_inside_an_open_transaction_the_opener_repeats() -> None:
    calls: list[int] = []
    with pytest.raises(OperationalError), transaction.atomic():
        db.in_transaction(lambda: loser(1, Deadlock(), calls))
    assert len(calls) == 1
