from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator

import pytest
import time_machine
from django.db import connection, transaction

from oms.core import outbox
from oms.core.clock import now
from oms.core.errors import NotFound
from oms.core.models import ExceptionItem, OutboxEvent, Setting


@pytest.fixture
def topic() -> Iterator[str]:
    name = "test.topic"
    outbox._handlers.pop(name, None)
    yield name
    outbox._handlers.pop(name, None)


def keys() -> list[str]:
    return list(OutboxEvent.objects.order_by("id").values_list("key", flat=True))


@pytest.mark.django_db(transaction=True)
def test_emit_outside_of_a_transaction_is_refused() -> None:
    with pytest.raises(RuntimeError, match="wrap both in atomic"):
        outbox.emit("test.topic", "1")
    assert not OutboxEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_news_of_a_rolled_back_change_are_never_heard(topic: str) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        outbox.emit(topic, "1")
        raise ZeroDivisionError
    assert keys() == []


@pytest.mark.django_db
def test_handler_gets_one_batch_in_order_and_events_go(topic: str) -> None:
    seen: list[list[tuple[str, object]]] = []

    @outbox.subscribe(topic)
    def handler(events: list[OutboxEvent]) -> None:
        seen.append([(event.key, event.data.get("at")) for event in events])

    at = dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC)
    outbox.emit_many([(topic, "3", {}), (topic, "1", {"at": at})])
    outbox.emit("nobody.listens", "9")
    assert outbox.drain() == 3
    assert seen == [[("3", None), ("1", "2026-11-23T08:00:00Z")]]
    assert keys() == []
    assert outbox.drain() == 0


@pytest.mark.django_db
def test_what_a_handler_writes_and_the_removal_are_one_transaction(topic: str) -> None:
    @outbox.subscribe(topic)
    def handler(events: list[OutboxEvent]) -> None:
        Setting.objects.create(key="probe", value=1)
        raise ValueError("half done")

    outbox.emit(topic, "1")
    assert outbox.drain() == 0
    assert not Setting.objects.filter(pk="probe").exists()
    event = OutboxEvent.objects.get()
    assert (event.attempts, event.error, event.dead) == (1, "ValueError: half done", False)
    assert event.next_attempt_at is not None and event.next_attempt_at > now()


@pytest.mark.django_db
def test_one_poisonous_event_does_not_stop_the_others(topic: str) -> None:
    done: list[str] = []

    @outbox.subscribe(topic)
    def handler(events: list[OutboxEvent]) -> None:
        for event in events:
            if event.key == "bad":
                raise ValueError("poison")
        done.extend(event.key for event in events)

    outbox.emit_many([(topic, key, {}) for key in ("a", "b", "bad", "c", "d", "e")])
    assert outbox.drain() == 5
    assert sorted(done) == ["a", "b", "c", "d", "e"]
    assert keys() == ["bad"]


@pytest.mark.django_db
def test_after_eight_attempts_an_event_is_dead_and_a_person_hears_of_it(topic: str) -> None:
    @outbox.subscribe(topic)
    def handler(events: list[OutboxEvent]) -> None:
        raise ValueError("never")

    outbox.emit(topic, "77")
    at = now()
    for attempt in range(1, outbox.MAX_ATTEMPTS + 1):
        with time_machine.travel(at + dt.timedelta(hours=attempt), tick=False):
            assert outbox.drain() == 0
    event = OutboxEvent.objects.get()
    assert (event.attempts, event.dead) == (8, True)
    item = ExceptionItem.objects.get()
    assert item.title == "'test.topic' for 77 could not be processed"
    with time_machine.travel(at + dt.timedelta(days=2), tick=False):
        assert outbox.drain() == 0  # dead means not tried again
    outbox._handlers[topic].clear()
    outbox.revive(event.pk)
    assert outbox.drain() == 1
    item.refresh_from_db()
    assert item.close_reason == "tried again"
    with pytest.raises(NotFound):
        outbox.discard(event.pk)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_drains_at_once_handle_each_event_once(topic: str) -> None:
    """Two real connections; the handler waits until both hold their claim."""
    handled: list[str] = []
    lock = threading.Lock()
    both = threading.Barrier(2, timeout=10)

    @outbox.subscribe(topic)
    def handler(events: list[OutboxEvent]) -> None:
        with lock:
            handled.extend(event.key for event in events)
        both.wait()

    with transaction.atomic():
        outbox.emit_many([(topic, str(number), {}) for number in range(20)])
    counts: list[int] = []

    def run(limit: int) -> None:
        try:
            counts.append(outbox.drain(limit))
        finally:
            connection.close()

    first = threading.Thread(target=run, args=(10,))
    first.start()
    while not handled:  # the first one holds its ten rows now
        pass
    second = threading.Thread(target=run, args=(20,))
    second.start()
    first.join(15)
    second.join(15)
    assert sorted(handled, key=int) == [str(number) for number in range(20)]
    assert sorted(counts) == [10, 10]
    assert keys() == []


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_one_notify_per_transaction_after_commit(topic: str) -> None:
    import psycopg

    from oms.core.dispatcher import _listen_parameters

    with psycopg.connect(**_listen_parameters(), autocommit=True) as listener:
        listener.execute(f"LISTEN {outbox.CHANNEL}")
        with transaction.atomic():
            outbox.emit(topic, "1")
            outbox.emit(topic, "2")
            assert list(listener.notifies(timeout=0.05)) == []
        heard = list(listener.notifies(timeout=2, stop_after=1)) + list(listener.notifies(timeout=0.1))
        assert [note.channel for note in heard] == [outbox.CHANNEL]
