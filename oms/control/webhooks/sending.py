"""Sends what is due to one endpoint: claims, signs, calls outside of any transaction, writes down what came back."""

from __future__ import annotations

import datetime as dt
import json
import random
import time

from django.db import transaction
from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet

from oms.control.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookEvent
from oms.control.webhooks import signing
from oms.control.webhooks.service import KEPT_FOR, TASK, account_key, secrets_of
from oms.core import http
from oms.core.clock import now
from oms.core.doorbell import ring
from oms.core.exceptions_inbox import raise_item
from oms.core.http import HttpFailure, HttpRequest, Kind
from oms.core.limits import Rate
from oms.core.masking import excerpt
from oms.core.models import ExceptionItem

#: waits between two tries, each lengthened or shortened by up to a tenth; after the last one it gives up
SCHEDULE = tuple(
    dt.timedelta(seconds=seconds)
    for seconds in (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600)
)
JITTER = 0.1
LEASE = dt.timedelta(seconds=60)
BUDGET_SECONDS = 25.0
ANSWER_SECONDS = 5.0  # for each wait for bytes; the door ends the whole call after twice that
BATCH = 20
RATE = Rate(50, 100)

State = WebhookDelivery.State


def body_of(event: WebhookEvent) -> bytes:
    """The same bytes at every try, so that a receiver may compare them."""
    document = {"type": event.type, "timestamp": event.occurred_at.isoformat(), "data": event.data}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def drain(endpoint_id: int, *, budget: float = BUDGET_SECONDS) -> int:
    """Send what is due, until the time is up; returns how many tries were made. Harmless to repeat."""
    until, tries = time.monotonic() + budget, 0
    while time.monotonic() < until:
        batch = _claim(endpoint_id)
        if not batch:
            return tries
        for number, delivery in enumerate(batch):
            if time.monotonic() > until or not _send(delivery):
                _give_back(batch[number:])
                break
            tries += 1
    if due(endpoint_id).exists():
        ring(TASK, str(endpoint_id))
    return tries


def due(endpoint_id: int | None = None) -> QuerySet[WebhookDelivery]:
    """What may be sent now: of each object the oldest event that is still on its way."""
    at = now()
    earlier = WebhookDelivery.objects.filter(
        endpoint=OuterRef("endpoint"),
        subject=OuterRef("subject"),
        state=State.PENDING,
        event__lt=OuterRef("event"),
    )
    found = WebhookDelivery.objects.filter(
        Q(lease_until__isnull=True) | Q(lease_until__lte=at),
        ~Exists(earlier),
        state=State.PENDING,
        next_attempt_at__lte=at,
        endpoint__state=WebhookEndpoint.State.ACTIVE,
    )
    return found.filter(endpoint=endpoint_id) if endpoint_id else found


def _claim(endpoint_id: int) -> list[WebhookDelivery]:
    """Take a batch for this process. The condition of each update decides between two that want the same."""
    at = now()
    taken = []
    for pk in list(
        due(endpoint_id).order_by("next_attempt_at", "event").values_list("pk", flat=True)[:BATCH]
    ):
        free = Q(lease_until__isnull=True) | Q(lease_until__lte=at)
        if WebhookDelivery.objects.filter(free, pk=pk, state=State.PENDING).update(lease_until=at + LEASE):
            taken.append(pk)
    rows = WebhookDelivery.objects.select_related("endpoint", "event").in_bulk(taken)
    return [rows[pk] for pk in taken if pk in rows]


def _give_back(batch: list[WebhookDelivery]) -> None:
    WebhookDelivery.objects.filter(pk__in=[delivery.pk for delivery in batch]).update(lease_until=None)


def _send(delivery: WebhookDelivery) -> bool:
    """One try. False when the endpoint may not be called now: nothing was sent, all of it waits."""
    endpoint, event, at = delivery.endpoint, delivery.event, now()
    body = body_of(event)
    headers = signing.headers(secrets_of(endpoint, at), event.uid, int(at.timestamp()), body)
    attempt = WebhookAttempt(
        delivery=delivery,
        at=at,
        request="\n".join(f"{name}: {value}" for name, value in headers.items()) + f"\n\n{body.decode()}",
    )
    failure: HttpFailure | None = None
    try:
        answer = http.call(
            HttpRequest(
                account_key=account_key(endpoint.pk), method="POST", url=endpoint.url, content=body,
                headers={**headers, "Content-Type": "application/json"}, timeout=ANSWER_SECONDS, idempotent=True,
                user_url=True, rate=RATE, max_bytes=64 * 1024,
            )
        )  # fmt: skip
        attempt.status, attempt.ms, attempt.answer = answer.status, answer.ms, _text(answer.content)
    except HttpFailure as error:
        failure = error
        if error.kind is Kind.BREAKER_OPEN or (error.kind is Kind.THROTTLED and error.answer is None):
            wait = dt.timedelta(seconds=min(max(error.retry_after or 5, 1), 60))
            waiting = WebhookDelivery.objects.filter(endpoint=endpoint, state=State.PENDING)
            waiting.filter(next_attempt_at__lt=at + wait).update(next_attempt_at=at + wait)
            return False
        attempt.error = error.message[:400]
        if error.answer is not None:
            attempt.status, attempt.ms = error.answer.status, error.answer.ms
            attempt.answer = _text(error.answer.content)
        if error.kind is Kind.AUTH:
            http.reset_breaker(
                account_key(endpoint.pk)
            )  # the schedule below decides, not the credentials rule
    with transaction.atomic():
        attempt.save(force_insert=True)
        _settle(delivery, failure, at)
    return True


def _text(content: bytes) -> str:
    return excerpt(content, 2000).replace("\x00", "")


def _settle(delivery: WebhookDelivery, failure: HttpFailure | None, at: dt.datetime) -> None:
    mine = WebhookDelivery.objects.filter(pk=delivery.pk)
    if failure is None:
        mine.update(
            state=State.DELIVERED, delivered_at=now(), attempts=F("attempts") + 1, lease_until=None, error=""
        )
        _bring_back(delivery, at)
        return
    tries, error = delivery.attempts + 1, failure.message[:400]
    gone = failure.status == 410
    if tries > len(SCHEDULE) or gone:
        mine.update(state=State.FAILED, attempts=tries, lease_until=None, error=error)
        why = "it answered 410 Gone" if gone else f"{tries} tries of one event failed: {error}"
        _disable(delivery.endpoint, why)
        return
    wait = SCHEDULE[tries - 1] * random.uniform(1 - JITTER, 1 + JITTER)
    if failure.retry_after:
        wait = max(wait, dt.timedelta(seconds=failure.retry_after))
    mine.update(attempts=tries, lease_until=None, error=error, next_attempt_at=at + wait)


def _bring_back(taken: WebhookDelivery, at: dt.datetime) -> None:
    """The endpoint listens again: what waited for a later try goes now.

    A message that was tried before another one was taken earlier had this chance already. It keeps its waits: the
    receiver stumbles over that message alone, and every other success would use up one of its tries, until the
    endpoint is switched off within seconds.
    """
    waiting = WebhookDelivery.objects.filter(
        endpoint=taken.endpoint_id, state=State.PENDING, attempts__gt=0, next_attempt_at__gt=at
    )
    if not waiting.exists():
        return
    others = WebhookDelivery.objects.filter(endpoint=taken.endpoint_id, state=State.DELIVERED)
    before = others.exclude(pk=taken.pk).aggregate(at=Max("delivered_at"))["at"]
    if before is not None:
        waiting = waiting.exclude(tries__at__lt=before)
    waiting.update(next_attempt_at=at)


def _disable(endpoint: WebhookEndpoint, why: str) -> None:
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(
        state=WebhookEndpoint.State.DISABLED, why=why[:300], version=F("version") + 1
    )
    raise_item(
        "webhook_disabled",
        f"webhook:{endpoint.pk}",
        f"Webhook endpoint {endpoint.description or endpoint.url} was switched off",
        detail=f"{why}. Mend the receiver, switch it on and replay what it missed.",
        severity=ExceptionItem.Severity.HIGH,
        url=f"/settings/webhooks/{endpoint.pk}/",
    )


def ring_due() -> None:
    """Deliveries whose bell was lost, or whose next try has come."""
    for endpoint_id in sorted(due().order_by().values_list("endpoint", flat=True).distinct()):
        ring(TASK, str(endpoint_id))


def forget() -> int:
    """Remove events older than `KEPT_FOR` that nobody waits for; returns how many."""
    old = WebhookEvent.objects.filter(occurred_at__lt=now() - KEPT_FOR)
    waiting = WebhookDelivery.objects.filter(event=OuterRef("pk"), state=State.PENDING)
    ids = list(old.filter(~Exists(waiting)).values_list("pk", flat=True)[:10_000])
    for start in range(0, len(ids), 500):
        WebhookEvent.objects.filter(pk__in=ids[start : start + 500]).delete()
    return len(ids)
