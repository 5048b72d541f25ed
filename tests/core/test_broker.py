"""The queue's table: a task goes to one taker, oldest first, and comes back when its taker never said it was done."""

from __future__ import annotations

import datetime as dt
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django_q.brokers import get_broker
from django_q.models import OrmQ

from oms.core.broker import Broker
from oms.core.clock import now
from oms.core.db import on_postgres

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def broker() -> Broker:
    found = get_broker()
    assert isinstance(found, Broker), "the settings name it"
    return found


def put(broker: Broker, payload: str, ago: float = 1.0, key: str | None = None) -> int:
    row = OrmQ.objects.create(
        key=key or broker.list_key, payload=payload, lock=now() - dt.timedelta(seconds=ago)
    )
    return int(row.pk)


def test_each_task_is_taken_once_and_oldest_first(broker: Broker) -> None:
    young, old = put(broker, "young", ago=1), put(broker, "old", ago=9)
    put(broker, "of another queue", key="other")
    taken = [task for _ in range(2) for task in broker.dequeue() or []]
    assert sorted(taken) == sorted([(old, "old"), (young, "young")])
    if on_postgres():
        assert taken[0] == (old, "old")
    assert not broker.dequeue()


def test_a_task_that_was_never_done_comes_back_after_retry(broker: Broker) -> None:
    task = put(broker, "killed in the middle")
    assert broker.dequeue() == [(task, "killed in the middle")]
    row = OrmQ.objects.get(pk=task)
    assert row.lock > now() + dt.timedelta(seconds=int(str(settings.Q_CLUSTER["retry"])) - 5)
    OrmQ.objects.filter(pk=task).update(lock=now() - dt.timedelta(seconds=1))
    assert broker.dequeue() == [(task, "killed in the middle")]
    broker.acknowledge(task)
    assert not OrmQ.objects.exists()


def test_an_empty_queue_is_asked_again_only_after_the_pause(broker: Broker) -> None:
    began = time.monotonic()
    assert not broker.dequeue()
    assert time.monotonic() - began >= float(str(settings.Q_CLUSTER["poll"]))


@pytest.mark.postgres
def test_two_takers_do_not_wait_for_each_other(broker: Broker) -> None:
    """What one is taking at this moment, the other passes by."""
    first, other = put(broker, "first", ago=9), put(broker, "second", ago=8)

    def rival() -> Any:
        try:
            return broker.dequeue()
        finally:
            connection.close()

    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        assert broker.dequeue() == [(first, "first")]
        assert pool.submit(rival).result(10) == [(other, "second")]
