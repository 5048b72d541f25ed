"""Messages of 3PLs: stored before anything else, booked by a task, one after another, each on its own."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from fulfillment.models import ThreePLAccount, ThreePLMessage
from fulfillment.threepl import booking, messages
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.doorbell import ring
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import cause_of, close_item, raise_item
from oms.core.models import ExceptionItem

log = logging.getLogger("lading.threepl")

State = ThreePLMessage.State
CLAIM = dt.timedelta(seconds=120)
BATCH = 100
#: a message that facts forbid for now (a hold, a missing movement) is told after so many tries and tried on
TELL_AFTER = 2
#: one that breaks in an unforeseen way is given to a person after so many
MAX_ATTEMPTS = 6
LONGEST_PAUSE = 600


def accept(account: ThreePLAccount, delivery_id: str, topic: str, body: Mapping[str, Any]) -> bool:
    """Store one message, once per delivery, and wake the task. False when it was known."""
    with transaction.atomic():
        _, created = ThreePLMessage.objects.get_or_create(
            account=account,
            delivery_id=delivery_id[:100],
            defaults={
                "topic": topic[:40],
                "reference": str(body.get("reference") or "")[:80],
                "body": dict(body),
            },
        )
        if created:
            ThreePLAccount.objects.filter(pk=account.pk).update(last_message_at=now())
            ring("fulfillment.threepl.tasks.drain_messages", str(account.pk))
    return created


def accept_unreadable(
    account: ThreePLAccount, raw: bytes, error: str, topic: str = "", body: Mapping[str, Any] | None = None
) -> None:
    """A signed message that is not what was agreed and was refused: kept once, shown to a person once per cause.

    By its bytes and not by its delivery number, so that the mended message may come under the same one.
    """
    if body is None:
        topic = "unreadable"
        body = {"raw": raw[:20_000].decode("utf-8", "replace").replace("\x00", "")}
    with transaction.atomic():
        message, created = ThreePLMessage.objects.get_or_create(
            account=account, delivery_id=hashlib.sha256(raw).hexdigest(),
            defaults={
                "topic": topic, "reference": str(body.get("reference") or "")[:80], "body": dict(body),
                "state": State.DEAD, "error": error[:400],
            },
        )  # fmt: skip
        if created:
            _tell(account, message, error, key=_cause(message))


def _cause(row: ThreePLMessage) -> str:
    return f"threepl:refused:{row.account_id}:{cause_of(f'{row.topic} {row.error}')}"


def _close_cause(key: str, account_id: int, why: str, actor: Actor) -> None:
    """The last refused message of a cause is settled."""
    left = ThreePLMessage.objects.filter(account=account_id, state=State.DEAD).only(
        "account", "topic", "error"
    )
    if all(_cause(row) != key for row in left.iterator()):
        close_item(key, why, actor=actor)


def drain(account_id: int) -> int:
    """Book everything that is due, oldest first; returns how many messages were finished. Harmless to repeat."""
    account = ThreePLAccount.objects.select_related("warehouse").filter(pk=account_id).first()
    if account is None:
        return 0
    finished = 0
    for _ in range(10):
        rows = _claim(account_id)
        if not rows:
            return finished
        finished += sum(_one(account, row) for row in rows)
    ring("fulfillment.threepl.tasks.drain_messages", str(account_id))
    return finished


def due() -> list[int]:
    waiting = ThreePLMessage.objects.filter(state=State.RECEIVED, next_attempt_at__lte=now())
    return list(waiting.order_by().values_list("account", flat=True).distinct())


def _claim(account_id: int) -> list[ThreePLMessage]:
    at = now()
    waiting = ThreePLMessage.objects.filter(account=account_id, state=State.RECEIVED, next_attempt_at__lte=at)
    ids = list(waiting.order_by("id").values_list("pk", flat=True)[:BATCH])
    if not ids:
        return []
    until = at + CLAIM + dt.timedelta(microseconds=random.randrange(1_000_000))
    waiting.filter(pk__in=ids).update(next_attempt_at=until)
    return list(
        ThreePLMessage.objects.filter(pk__in=ids, state=State.RECEIVED, next_attempt_at=until).order_by("id")
    )


def _one(account: ThreePLAccount, row: ThreePLMessage) -> bool:
    try:
        message = messages.read(row.topic, row.body, row.received_at)
        said = booking.book(account, message)
    except Conflict as error:
        _later(account, row, error.message, counted=False)
        return False
    except (UserError, NotFound) as error:
        _dead(account, row, error.message)
        return True
    except Exception as error:
        log.exception("3PL message failed", extra={"message": row.pk})
        _later(account, row, f"{type(error).__name__}: {error}", counted=True)
        return False
    ThreePLMessage.objects.filter(pk=row.pk, state=State.RECEIVED).update(
        state=State.DONE, done_at=now(), error=said[:400]
    )
    if row.attempts:
        close_item(f"threepl:message:{row.pk}", "booked")
    return True


def _later(account: ThreePLAccount, row: ThreePLMessage, error: str, *, counted: bool) -> None:
    attempts = row.attempts + 1
    if counted and attempts >= MAX_ATTEMPTS:
        _dead(account, row, error)
        return
    pause = min(2**attempts * 5, LONGEST_PAUSE) * random.uniform(0.9, 1.1)
    ThreePLMessage.objects.filter(pk=row.pk, state=State.RECEIVED).update(
        attempts=attempts, error=error[:400], next_attempt_at=now() + dt.timedelta(seconds=pause)
    )
    if attempts >= TELL_AFTER and not counted:
        _tell(account, row, error)


def _dead(account: ThreePLAccount, row: ThreePLMessage, error: str) -> None:
    ThreePLMessage.objects.filter(pk=row.pk, state=State.RECEIVED).update(
        state=State.DEAD, error=error[:400], attempts=row.attempts + 1
    )
    _tell(account, row, error)


def _tell(account: ThreePLAccount, row: ThreePLMessage, error: str, key: str = "") -> None:
    what = (
        f" about {messages.clean(row.reference[:40], 'reference', required=False)}" if row.reference else ""
    )
    raise_item(
        "threepl_message", key or f"threepl:message:{row.pk}",
        f"A message of {account}{what} cannot be booked", detail=error, severity=ExceptionItem.Severity.HIGH,
        url=f"/threepl/{account.code}/", warehouse_code=account.warehouse.code,
    )  # fmt: skip


# --- what people do --------------------------------------------------------------------------------


def _dead_one(message_id: int) -> ThreePLMessage:
    row = ThreePLMessage.objects.select_related("account").filter(pk=message_id).first()
    if row is None:
        raise NotFound("message: there is no such message.", field="message")
    if row.state not in (State.DEAD, State.RECEIVED):
        raise Conflict(f"message: it is {row.get_state_display().lower()} already.", field="message")
    return row


def retry(message_id: int, *, actor: Actor) -> None:
    """Book it again, for instance after an unknown SKU was entered."""
    with transaction.atomic():
        row = _dead_one(message_id)
        ThreePLMessage.objects.filter(pk=row.pk).update(state=State.RECEIVED, next_attempt_at=now())
        record(actor, "threepl.message_retried", row)
        _close_cause(_cause(row), row.account_id, "tried again", actor)
        ring("fulfillment.threepl.tasks.drain_messages", str(row.account_id))


def ignore(message_id: int, why: str, *, actor: Actor) -> None:
    """A person settled it otherwise. Raises `UserError` without a word why."""
    if not why.strip():
        raise UserError("why: say how it was settled.", field="why")
    with transaction.atomic():
        row = _dead_one(message_id)
        ThreePLMessage.objects.filter(pk=row.pk).update(
            state=State.IGNORED, error=why.strip()[:400], done_at=now()
        )
        record(actor, "threepl.message_ignored", row, after={"why": why.strip()[:400]})
        close_item(f"threepl:message:{row.pk}", why.strip(), actor=actor)
        _close_cause(_cause(row), row.account_id, why.strip(), actor)


def read_json(raw: bytes) -> tuple[str, dict[str, Any]]:
    """Topic and body of a posted message {"topic", "data"}. Raises ValueError for what is no JSON, and `UserError`."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not a number")

    found = _plain(json.loads(raw.decode("utf-8"), parse_constant=refuse, parse_float=str))
    if not isinstance(found, dict):
        raise UserError('body: a message looks like {"topic": "...", "data": {...}}.')
    topic, data = found.get("topic"), found.get("data")
    if topic not in messages.TOPICS:
        raise UserError(f"topic: it must be one of {', '.join(messages.TOPICS)}.", field="topic")
    if not isinstance(data, dict):
        raise UserError("data: it must be an object.", field="data")
    return str(topic), data


def _plain(value: Any) -> Any:
    """Without NUL characters and halves of character pairs, which PostgreSQL cannot keep."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [_plain(inner) for inner in value]
    return value
