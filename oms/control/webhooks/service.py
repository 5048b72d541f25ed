"""Endpoints: made, changed, paused; deliveries put on their way again. The only door for screens, API and tasks."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Collection, Sequence
from typing import Any

from django.db import transaction
from django.db.models import F

from oms.control.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from oms.control.webhooks.signing import new_secret
from oms.core import egress
from oms.core.access import Scope, scope_of
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.doorbell import ring
from oms.core.errors import Conflict, NotAllowed, NotFound, UserError
from oms.core.exceptions_inbox import close_item
from oms.core.http import reset_breaker

#: what can be heard of, and when it is told
EVENTS: dict[str, str] = {
    "order.created": "an order came in, from a channel, the API, a file or by hand",
    "order.routed": "it was decided which warehouse ships what",
    "shipment.shipped": "parcels left the house",
    "inventory.changed": "what can be sold of a SKU may have changed",
    "return.inspected": "returned units were judged",
    "po.received": "goods of a purchase order arrived",
    "po.changed": "a purchase order moved on, or its quantities or dates did",
    "sync.failed": "a channel refused a quantity or a message for good",
}
TASK = "oms.control.tasks.send_webhooks"
#: after a rotation both secrets sign for this long
BOTH_SECRETS = dt.timedelta(hours=24)
MOST_REPLAYED = 10_000
MOST_ENDPOINTS = 50
#: events can be replayed for this long
KEPT_FOR = dt.timedelta(days=30)

State = WebhookEndpoint.State
Delivery = WebhookDelivery.State


def account_key(endpoint_id: int) -> str:
    """Whose breaker, budget and journal the calls belong to."""
    return f"webhook:{endpoint_id}"


def require_everywhere(principal: Any) -> None:
    """Events tell of every warehouse and channel. Raises `NotAllowed` for who is limited to some."""
    if scope_of(principal, "settings.manage") != Scope():
        raise NotAllowed("Your rights are limited to some places; events tell of all of them.")


def find(endpoint_id: int) -> WebhookEndpoint:
    """Raises `NotFound`."""
    endpoint = WebhookEndpoint.objects.filter(pk=endpoint_id).first()
    if endpoint is None:
        raise NotFound("webhook: there is no such endpoint.", field="webhook")
    return endpoint


def _checked_url(url: str) -> str:
    """Its form only: names are looked up, and judged again, at each call."""
    try:
        host = egress.check_user_url(url.strip())
    except egress.Refused as error:
        raise UserError(f"url: {error}", field="url") from error
    inside = not egress.is_public(host) if _is_literal(host) else "." not in host
    if inside and not egress.mapped(host):
        raise UserError(f"url: '{host}' is not a public address; use one on the internet.", field="url")
    if len(url.strip()) > 500:
        raise UserError("url: use at most 500 characters.", field="url")
    return url.strip()


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    return True


def _checked_events(events: Collection[str]) -> list[str]:
    unknown = sorted(set(events) - set(EVENTS))
    if unknown or not events:
        first = f"'{unknown[0]}' is unknown" if unknown else "choose at least one"
        raise UserError(f"events: {first}. Known are {', '.join(EVENTS)}.", field="events")
    return [name for name in EVENTS if name in set(events)]


def create(
    url: str, events: Collection[str], *, actor: Actor, description: str = ""
) -> tuple[WebhookEndpoint, str]:
    """A new endpoint and its secret, which is never shown again.

    Raises `UserError` for an address that is not public https on port 443, and for unknown events.
    """
    checked, wanted, secret = _checked_url(url), _checked_events(events), new_secret()
    with transaction.atomic():
        if WebhookEndpoint.objects.count() >= MOST_ENDPOINTS:
            raise Conflict(
                f"webhook: there are {MOST_ENDPOINTS} endpoints; remove one first.", field="webhook"
            )
        endpoint = WebhookEndpoint.objects.create(
            url=checked, events=wanted, description=description.strip()[:120], secret=secret,
            created_by=str(actor), created_at=now(),
        )  # fmt: skip
        record(actor, "webhook.created", endpoint, after={"url": checked, "events": wanted})
    return endpoint, secret


def change(
    endpoint_id: int,
    *,
    actor: Actor,
    url: str | None = None,
    events: Collection[str] | None = None,
    description: str | None = None,
) -> WebhookEndpoint:
    """What is None stays as it is. Raises `UserError`, `NotFound`."""
    endpoint = find(endpoint_id)
    changes: dict[str, Any] = {}
    if url is not None and url.strip() != endpoint.url:
        changes["url"] = _checked_url(url)
    if events is not None:
        changes["events"] = _checked_events(events)
    if description is not None:
        changes["description"] = description.strip()[:120]
    changes = {name: value for name, value in changes.items() if getattr(endpoint, name) != value}
    if changes:
        with transaction.atomic():
            WebhookEndpoint.objects.filter(pk=endpoint_id).update(**changes, version=F("version") + 1)
            before = {name: getattr(endpoint, name) for name in changes}
            record(actor, "webhook.changed", endpoint, before=before, after=changes)
        if "url" in changes:
            reset_breaker(account_key(endpoint_id))
    return find(endpoint_id)


def rotate(endpoint_id: int, *, actor: Actor) -> tuple[WebhookEndpoint, str]:
    """A new secret; the old one signs as well for a day, while the receiver changes over. Raises `NotFound`."""
    endpoint, secret = find(endpoint_id), new_secret()
    until = now() + BOTH_SECRETS
    with transaction.atomic():
        endpoint.old_secret, endpoint.old_secret_until, endpoint.secret = endpoint.secret, until, secret
        endpoint.version += 1
        endpoint.save(update_fields=["old_secret", "old_secret_until", "secret", "version"])
        record(actor, "webhook.rotated", endpoint, after={"old secret signs until": until})
    return endpoint, secret


def secrets_of(endpoint: WebhookEndpoint, at: dt.datetime) -> list[str]:
    """What signs at this moment, the newest first."""
    keys = [endpoint.secret]
    if endpoint.old_secret and endpoint.old_secret_until and at < endpoint.old_secret_until:
        keys.append(endpoint.old_secret)
    return keys


def pause(endpoint_id: int, *, actor: Actor) -> WebhookEndpoint:
    """Tell it nothing more; what is on its way waits. Raises `NotFound`."""
    endpoint = find(endpoint_id)
    with transaction.atomic():
        if WebhookEndpoint.objects.filter(pk=endpoint_id, state=State.ACTIVE).update(
            state=State.PAUSED, why=f"paused by {actor.name}", version=F("version") + 1
        ):
            record(actor, "webhook.paused", endpoint)
    return find(endpoint_id)


def resume(endpoint_id: int, *, actor: Actor) -> WebhookEndpoint:
    """Tell it again, what waits first. Events of the time in between come by `replay`. Raises `NotFound`."""
    endpoint = find(endpoint_id)
    with transaction.atomic():
        if (
            WebhookEndpoint.objects.filter(pk=endpoint_id)
            .exclude(state=State.ACTIVE)
            .update(state=State.ACTIVE, why="", version=F("version") + 1)
        ):
            waiting = WebhookDelivery.objects.filter(endpoint=endpoint_id, state=Delivery.PENDING)
            waiting.update(attempts=0, next_attempt_at=now())
            close_item(f"webhook:{endpoint_id}", "switched on again", actor=actor)
            record(actor, "webhook.resumed", endpoint)
            ring(TASK, str(endpoint_id))
    reset_breaker(account_key(endpoint_id))
    return find(endpoint_id)


def remove(endpoint_id: int, *, actor: Actor) -> None:
    """Forget it with all its deliveries. Raises `NotFound`."""
    endpoint = find(endpoint_id)
    with transaction.atomic():
        record(actor, "webhook.removed", endpoint, before={"url": endpoint.url, "events": endpoint.events})
        close_item(f"webhook:{endpoint_id}", "the endpoint was removed", actor=actor)
        endpoint.delete()


# --- again ----------------------------------------------------------------------------------------


def _live(endpoint: WebhookEndpoint) -> None:
    if endpoint.state != State.ACTIVE:
        raise Conflict("webhook: switch the endpoint on first.", field="webhook")


def resend(delivery_id: int, *, actor: Actor) -> WebhookDelivery:
    """Put one delivery on its way again, whatever became of it. Raises `NotFound`, `Conflict` when switched off."""
    delivery = WebhookDelivery.objects.select_related("endpoint", "event").filter(pk=delivery_id).first()
    if delivery is None:
        raise NotFound("delivery: there is no such delivery.", field="delivery")
    _live(delivery.endpoint)
    with transaction.atomic():
        _again([delivery.pk])
        record(actor, "webhook.resent", delivery.endpoint, after={"event": delivery.event.uid})
        ring(TASK, str(delivery.endpoint_id))
    delivery.refresh_from_db()
    return delivery


def _again(ids: Sequence[int]) -> None:
    WebhookDelivery.objects.filter(pk__in=ids).update(
        state=Delivery.PENDING,
        attempts=0,
        next_attempt_at=now(),
        lease_until=None,
        delivered_at=None,
        error="",
    )


def replay(
    endpoint_id: int,
    since: dt.datetime,
    until: dt.datetime,
    *,
    actor: Actor,
    events: Collection[str] | None = None,
) -> int:
    """Send every event of a stretch of time again that the endpoint wants; returns how many.

    `since` counts, `until` does not. Raises `NotFound`, `Conflict` when it is switched off, `UserError` when the range
    is empty or holds more than `MOST_REPLAYED` events.
    """
    endpoint = find(endpoint_id)
    _live(endpoint)
    if since >= until:
        raise UserError("until: choose a time after the start.", field="until")
    wanted = _checked_events(events) if events else endpoint.events
    found = WebhookEvent.objects.filter(occurred_at__gte=since, occurred_at__lt=until, type__in=wanted)
    rows = list(found.order_by("pk").values_list("pk", "subject")[: MOST_REPLAYED + 1])
    if len(rows) > MOST_REPLAYED:
        raise UserError(f"since: more than {MOST_REPLAYED:,} events; choose a shorter time.", field="since")
    at = now()
    with transaction.atomic():
        for start in range(0, len(rows), 500):
            part = rows[start : start + 500]
            known = WebhookDelivery.objects.filter(endpoint=endpoint, event__in=[pk for pk, _ in part])
            have = dict(known.values_list("event", "pk"))
            _again(list(have.values()))
            WebhookDelivery.objects.bulk_create([
                WebhookDelivery(endpoint=endpoint, event_id=pk, subject=subject, next_attempt_at=at)
                for pk, subject in part if pk not in have
            ])  # fmt: skip
        record(
            actor, "webhook.replayed", endpoint, after={"since": since, "until": until, "events": len(rows)}
        )
        if rows:
            ring(TASK, str(endpoint_id))
    return len(rows)
