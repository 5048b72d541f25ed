"""One inbox for everything only a person can mend: one open item per cause, closed with its cause."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet

from oms.core.access import can, scope_of
from oms.core.actor import SYSTEM, Actor
from oms.core.audit import record
from oms.core.clock import now, plausible
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.models import ApiToken, ExceptionItem, User

Severity = ExceptionItem.Severity

#: kinds that only those meet who hold one of the rights: for everybody else the place where they are mended is closed,
#: and a picker's inbox holds a picker's work
FOR_THOSE_WHO: dict[tuple[str, ...], frozenset[str]] = {
    ("settings.manage", "channels.manage"): frozenset(
        {"connection_down", "credentials_refused", "engine_failed", "outbox_dead", "worker_silent"}
    ),
    ("settings.manage",): frozenset({"invariant", "job_failed", "webhook_disabled"}),
    ("channels.view",): frozenset(
        {"channel_auth", "channel_file", "channel_folder", "channel_quiet", "channel_silent", "channel_unfetched",
         "drift", "inbox_dead", "listing_unmapped", "order_refused", "oversell", "oversell_unread", "pull_endless",
         "pull_refused", "push_dead",
         "subscriptions"}
    ),
    ("stock.adjust",): frozenset({"adjustment_approval"}),
    ("imports.run",): frozenset({"export_failed"}),
    ("costs.view",): frozenset({"fx_missing"}),
    ("products.customs",): frozenset({"customs_missing"}),
}  # fmt: skip


def cause_of(words: str) -> str:
    """A short key that sentences share which differ in numbers and quoted values only: one item for all of them."""
    return hashlib.sha256(re.sub(r"'[^']*'|[0-9]+", "#", words).encode()).hexdigest()[:16]


def visible_to(principal: Any) -> Q:
    """Filter of the items that a user or token may see: inside the places of its right to work on exceptions (an item
    that names no place is everybody's), and of a kind that the person can mend. A token is asked for its owner's
    rights here, because its own scopes say what it may call and not whom it tells.
    """
    if not can(principal, "exceptions.work"):
        return Q(pk__in=())
    scope = scope_of(principal, "exceptions.work")
    person = principal.user if isinstance(principal, ApiToken) else principal
    where = Q()
    if scope.warehouses is not None:
        where &= Q(warehouse_code__in=[*scope.warehouses, ""])
    if scope.channels is not None:
        where &= Q(channel_code__in=[*scope.channels, ""])
    closed: set[str] = set()
    for rights, kinds in FOR_THOSE_WHO.items():
        if not any(can(person, right) for right in rights):
            closed |= kinds
    return where & ~Q(kind__in=sorted(closed)) if closed else where


def raise_item(
    kind: str,
    dedup_key: str,
    title: str,
    detail: str = "",
    *,
    severity: int = Severity.NORMAL,
    object_url: str = "",
    url: str = "",
    warehouse_code: str = "",
    channel_code: str = "",
    due_at: dt.datetime | None = None,
    money: Decimal | None = None,
) -> ExceptionItem:
    """Put a cause before a person, or count it again when its item is open (newest words win).

    `money` is the amount at stake in business currency, four decimals.
    """
    words: dict[str, Any] = _cut(
        {
            "kind": kind, "title": title, "detail": detail, "severity": severity, "url": object_url or url,
            "warehouse_code": warehouse_code, "channel_code": channel_code, "due_at": due_at, "money": money,
        }
    )  # fmt: skip
    dedup_key = dedup_key[:160]
    while True:
        open_item = ExceptionItem.objects.filter(dedup_key=dedup_key, closed_at__isnull=True)
        if open_item.update(**words, seen=F("seen") + 1, last_at=now()):
            found = open_item.first()
        else:
            try:
                with transaction.atomic():
                    return ExceptionItem.objects.create(
                        dedup_key=dedup_key, first_at=now(), last_at=now(), **words
                    )
            except IntegrityError:
                continue  # raised by someone else at this moment: count it there
        if found is not None:
            return found


def raise_new(items: Mapping[str, Mapping[str, Any]]) -> None:
    """Put many causes that nobody has told of before a person, in one statement: dedup key → fields of the item.

    One that has an open item keeps its words; `raise_item` counts such a cause again.
    """
    at = now()
    ExceptionItem.objects.bulk_create(
        [
            ExceptionItem(dedup_key=key[:160], first_at=at, last_at=at, **_cut(words))
            for key, words in sorted(items.items())
        ],
        ignore_conflicts=True,
    )


def tell_once(kind: str, items: Mapping[str, Mapping[str, Any]], why: str) -> tuple[int, int]:
    """Bring the items of a kind in line with the causes of now: dedup key → fields of the item, without the kind.

    A cause is told once: an item that a person closed stays closed. One whose cause is gone closes with `why`.
    Returns how many were told and closed.
    """
    known = set(ExceptionItem.objects.filter(dedup_key__in=items).values_list("dedup_key", flat=True))
    fresh = {key: {"kind": kind, **words} for key, words in items.items() if key not in known}
    raise_new(fresh)
    gone = ExceptionItem.objects.filter(kind=kind, closed_at__isnull=True).exclude(dedup_key__in=items)
    return len(fresh), close_items(gone.values_list("dedup_key", flat=True), why)


def _cut(words: Mapping[str, Any]) -> dict[str, Any]:
    """The words of an item as long as they may be."""
    longest = {"title": 200, "detail": 600, "url": 200}
    return {name: value[: longest[name]] if name in longest else value for name, value in words.items()}


def close_item(dedup_key: str, why: str, *, actor: Actor = SYSTEM) -> bool:
    """The cause is gone. True when an item was open; harmless when none was."""
    return bool(close_items([dedup_key], why, actor=actor))


def close_items(dedup_keys: Iterable[str], why: str, *, actor: Actor = SYSTEM) -> int:
    """The causes are gone: `close_item` for many in one statement. Returns how many were open."""
    keys = sorted({key[:160] for key in dedup_keys})
    return ExceptionItem.objects.filter(dedup_key__in=keys, closed_at__isnull=True).update(
        closed_at=now(), closed_by=str(actor), close_reason=why[:200]
    )


def open_items(at: dt.datetime | None = None) -> QuerySet[ExceptionItem]:
    """Items that want a person now: open and not snoozed."""
    at = at or now()
    awake = Q(snoozed_until__isnull=True) | Q(snoozed_until__lte=at)
    return ExceptionItem.objects.filter(awake, closed_at__isnull=True)


def _open(item_id: int) -> ExceptionItem:
    item = ExceptionItem.objects.filter(pk=item_id).first()
    if item is None:
        raise NotFound("exception: no such item.", field="exception")
    if item.closed_at:
        raise Conflict(f"exception: already closed by {item.closed_by}.", field="exception")
    return item


def assign(item_id: int, owner: User | None, *, actor: Actor) -> ExceptionItem:
    """Give an open item to a person, or back to everybody. Raises `NotFound`, `Conflict`."""
    with transaction.atomic():
        item = _open(item_id)
        before, item.owner = item.owner, owner
        item.save(update_fields=["owner"])
        record(
            actor,
            "exception.assigned",
            item,
            before={"owner": str(before or "")},
            after={"owner": str(owner or "")},
        )
    return item


def snooze(item_id: int, until: dt.datetime, reason: str, *, actor: Actor) -> ExceptionItem:
    """Hide an open item until a time, with a reason. Raises `UserError`, `NotFound`, `Conflict`."""
    if not reason.strip():
        raise UserError("reason: say why this can wait.", field="reason")
    if until <= now():
        raise UserError("until: choose a time in the future.", field="until")
    plausible("until", until)
    with transaction.atomic():
        item = _open(item_id)
        item.snoozed_until, item.snooze_reason = until, reason.strip()[:160]
        item.save(update_fields=["snoozed_until", "snooze_reason"])
        record(actor, "exception.snoozed", item, after={"until": until, "reason": item.snooze_reason})
    return item


def wake(item_id: int, *, actor: Actor) -> ExceptionItem:
    """End a snooze before its time. Raises `NotFound`, `Conflict`."""
    with transaction.atomic():
        item = _open(item_id)
        before, item.snoozed_until, item.snooze_reason = item.snoozed_until, None, ""
        item.save(update_fields=["snoozed_until", "snooze_reason"])
        record(actor, "exception.woken", item, before={"until": before})
    return item


def resolve(item_id: int, why: str, *, actor: Actor) -> ExceptionItem:
    """A person mended it. Raises `UserError` without a word why, `NotFound`, `Conflict`."""
    if not why.strip():
        raise UserError("why: say what was done.", field="why")
    with transaction.atomic():
        item = _open(item_id)
        item.closed_at, item.closed_by, item.close_reason = now(), str(actor), why.strip()[:200]
        item.save(update_fields=["closed_at", "closed_by", "close_reason"])
        record(actor, "exception.closed", item, after={"why": item.close_reason})
    return item


def reopen(item_id: int, *, actor: Actor) -> ExceptionItem:
    """Open a closed item again. Raises `NotFound`, `Conflict` when it or its cause is open already."""
    with transaction.atomic():
        item = ExceptionItem.objects.filter(pk=item_id).first()
        if item is None:
            raise NotFound("exception: no such item.", field="exception")
        if ExceptionItem.objects.filter(dedup_key=item.dedup_key, closed_at__isnull=True).exists():
            raise Conflict("exception: it is open already.", field="exception")
        item.closed_at, item.closed_by, item.close_reason, item.snoozed_until = None, "", "", None
        item.save(update_fields=["closed_at", "closed_by", "close_reason", "snoozed_until"])
        record(actor, "exception.reopened", item)
    return item
