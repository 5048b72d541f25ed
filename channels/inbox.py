"""What channels tell us: stored before anything else happens, then read again from the channel and booked.

A notification is a hint. Each distinct order of a batch is read once from the channel and given to order
entry, which ignores older versions; so five copies, late ones and shuffled ones end in the same state.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from django.db import connection, transaction
from django.db.models import Q

from channels import asking, mcf, pushing
from channels.connectors.base import UNREADABLE, ChannelError, Connector, Notification, Retry, get_connector
from channels.models import ChannelAccount, InboxMessage, Listing
from channels.session import do, needs_person
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.db import on_postgres
from oms.core.doorbell import ring
from oms.core.errors import NotFound
from oms.core.exceptions_inbox import cause_of, close_item, raise_item
from oms.core.models import ExceptionItem
from oms.core.outbox import emit
from oms.core.paging import in_range
from oms.orders import intake
from oms.orders.drafts import LineDraft, OrderDraft
from oms.orders.models import OrderLine

log = logging.getLogger("lading.channels")

MAX_ATTEMPTS = 6
BATCH = 300
CLAIM = dt.timedelta(seconds=90)
#: a figure beyond it is no figure, and no column of ours would hold it
MOST_UNITS = 1_000_000_000
UNREADABLE_TOPIC = "unreadable"

State = InboxMessage.State


def actor_for(account: ChannelAccount) -> Actor:
    return Actor("channel", account.sales_channel.name)


def accept(account: ChannelAccount, notifications: Sequence[Notification]) -> int:
    """Store verified notifications once each and tell the dispatcher; returns how many were new.

    Figures that a channel tells are evidence for a later look and come by the hundred with our own pushes: nobody
    is called for them, they are read with the next order or by the clock (`channels.tasks.ring_inboxes`).
    """
    at, kind_of = now(), get_connector(account.connector).kind_of
    rows = {
        one.delivery_id: InboxMessage(
            account=account,
            delivery_id=one.delivery_id,
            topic=one.topic,
            external_id=one.order_id,
            body=dict(one.body),
            event_at=one.event_at if one.event_at and in_range(one.event_at) else None,
            received_at=at,
            next_attempt_at=at,
        )
        for one in notifications
    }
    if not rows:
        return 0
    with transaction.atomic():
        fresh = _insert_new(list(rows.values()))
        if fresh and any(kind_of(row.topic) != "quantity" for row in rows.values()):
            emit("inbox.received", str(account.pk))
    if repeated := sorted(rows.keys() - fresh):
        code = account.sales_channel.code
        log.info("duplicate delivery", extra={"channel": code, "count": len(repeated), "ids": repeated[:20]})
    return len(fresh)


def _insert_new(rows: Sequence[InboxMessage]) -> set[str]:
    """INSERT that leaves known deliveries alone and says which were new, which `bulk_create` does not."""
    fields = [field for field in InboxMessage._meta.concrete_fields if not field.primary_key]
    names = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
    one = f"({', '.join(['%s'] * len(fields))})"
    sql = (
        f"INSERT INTO channels_inboxmessage ({names}) VALUES {', '.join([one] * len(rows))} "  # noqa: S608 (fixed names)
        "ON CONFLICT (account_id, delivery_id) DO NOTHING RETURNING delivery_id"
    )
    values = [
        field.get_db_prep_save(getattr(row, field.attname), connection) for row in rows for field in fields
    ]
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return {delivery_id for (delivery_id,) in cursor.fetchall()}


def accept_unreadable(account: ChannelAccount, delivery_id: str, raw: bytes, error: str) -> None:
    """Keep a signed message that is not JSON, once per delivery; only a person can tell what it meant, and is asked
    once per cause."""
    with transaction.atomic():
        message, created = InboxMessage.objects.get_or_create(
            account=account, delivery_id=delivery_id,
            defaults={
                "topic": UNREADABLE_TOPIC, "body": {"raw": raw[:20_000].decode("utf-8", "replace")},
                "state": State.DEAD, "error": error.replace("\0", " ")[:400],
            },
        )  # fmt: skip
        if created:
            _tell(account, message, error, key=_cause(message))


def _cause(message: InboxMessage) -> str:
    return f"inbox:unreadable:{message.account_id}:{cause_of(message.error)}"


def _close_cause(message: InboxMessage, why: str, actor: Actor) -> None:
    """The last unreadable message of its cause is settled."""
    if message.topic != UNREADABLE_TOPIC:
        return
    left = InboxMessage.objects.filter(account=message.account_id, topic=UNREADABLE_TOPIC, state=State.DEAD)
    key = _cause(message)
    if all(_cause(one) != key for one in left.only("account", "error").iterator()):
        close_item(key, why, actor=actor)


def drain(account_id: int) -> int:
    """Work off everything that is due for an account; returns how many messages were finished.

    Safe to run zero, one or many times and in several processes: each claims rows for 90 seconds.
    """
    account = ChannelAccount.objects.select_related("sales_channel").filter(pk=account_id).first()
    if account is None or account.state in (ChannelAccount.State.DISABLED, ChannelAccount.State.NEEDS_AUTH):
        return 0
    finished = 0
    for _ in range(20):
        messages = _claim(account_id)
        if not messages:
            break
        finished += _work(account, messages)
    else:
        ring("channels.tasks.drain_inbox", str(account_id))
    return finished


def _claim(account_id: int) -> list[InboxMessage]:
    """Take due rows for a while. The exact time of the claim is its token: no two claims share a microsecond."""
    at = now()
    due = InboxMessage.objects.filter(account=account_id, state=State.RECEIVED, next_attempt_at__lte=at)
    ids = list(due.order_by("id").values_list("pk", flat=True)[:BATCH])
    if not ids:
        return []
    until = at + CLAIM + dt.timedelta(microseconds=random.randrange(1_000_000))
    InboxMessage.objects.filter(pk__in=ids, state=State.RECEIVED, next_attempt_at__lte=at).update(
        next_attempt_at=until
    )
    return list(
        InboxMessage.objects.filter(pk__in=ids, state=State.RECEIVED, next_attempt_at=until).order_by("id")
    )


def _work(account: ChannelAccount, messages: list[InboxMessage]) -> int:
    connector = get_connector(account.connector)
    by_kind: dict[str, list[InboxMessage]] = {}
    for message in messages:
        by_kind.setdefault(connector.kind_of(message.topic), []).append(message)
    events = [message.event_at for message in messages if message.event_at]
    if events:
        ChannelAccount.objects.filter(pk=account.pk).update(last_event_at=now())
    finished = 0
    for kind, group in by_kind.items():
        if kind == "order":
            finished += _orders(account, connector, group)
        elif kind == "quantity":
            finished += _quantities(account, connector, group)
        elif kind == "outbound":
            finished += _outbound(account, group)
        elif kind in ("fba", "feed", "return"):
            task = {"fba": "pull_pool", "feed": "poll_feeds", "return": "pull_returns"}[kind]
            with transaction.atomic():
                ring(f"channels.tasks.{task}", str(account.pk))
                finished += _finish(group, State.DONE)
        elif kind == "uninstalled":
            needs_person(account.pk, "The app was removed from the shop.")
            finished += _finish(group, State.DONE)
        else:
            finished += _finish(group, State.IGNORED)
    return finished


def _finish(messages: Sequence[InboxMessage], state: str, error: str = "") -> int:
    if not messages:
        return 0
    done = InboxMessage.objects.filter(
        pk__in=[message.pk for message in messages], state=State.RECEIVED
    ).update(state=state, done_at=now(), error=error[:400])
    for message in messages:
        if message.attempts:
            close_item(f"inbox:{message.pk}", "the message was worked off")
    return done


def _postpone(
    account: ChannelAccount,
    messages: Sequence[InboxMessage],
    error: str,
    *,
    wait: float | None = None,
    count: bool = True,
) -> None:
    """Try again later, with growing pauses; after six counted failures a person is asked."""
    for message in messages:
        attempts = message.attempts + (1 if count else 0)
        if attempts >= MAX_ATTEMPTS:
            InboxMessage.objects.filter(pk=message.pk).update(
                state=State.DEAD, attempts=attempts, error=error[:400]
            )
            _tell(account, message, error)
            continue
        pause = wait if wait is not None else min(2**attempts, 600) * random.uniform(0.8, 1.2)
        InboxMessage.objects.filter(pk=message.pk, state=State.RECEIVED).update(
            attempts=attempts, error=error[:400], next_attempt_at=now() + dt.timedelta(seconds=pause)
        )


def read_again(account_ids: Collection[int]) -> int:
    """These accounts answer again: messages whose reading failed are due now. Returns how many.

    One that is in work at this moment may be worked off twice, which does no harm.
    """
    at = now()
    waiting = InboxMessage.objects.filter(
        account__in=account_ids, state=State.RECEIVED, next_attempt_at__gt=at
    ).exclude(error="")
    return waiting.update(next_attempt_at=at)


def _tell(account: ChannelAccount, message: InboxMessage, error: str, key: str = "") -> None:
    code = account.sales_channel.code
    about = f"order {message.external_id}" if message.external_id else message.topic
    what = "" if key else f" about {about}"
    raise_item(
        "inbox_dead", key or f"inbox:{message.pk}",
        f"A message of {account.sales_channel.name}{what} cannot be processed",
        detail=error, severity=ExceptionItem.Severity.HIGH, object_url=f"/channels/{code}/", channel_code=code,
    )  # fmt: skip


# --- orders ----------------------------------------------------------------------------------------


def _orders(account: ChannelAccount, connector: Connector, messages: list[InboxMessage]) -> int:
    """Read each distinct order once and book it."""
    nameless = [message for message in messages if not message.external_id]
    finished = _finish(nameless, State.IGNORED, "it names no order")
    by_order: dict[str, list[InboxMessage]] = {}
    for message in messages:
        if message.external_id:
            by_order.setdefault(message.external_id, []).append(message)
    drafts, failures = _read(account, connector, by_order)
    for number, (error, wait, count) in failures.items():
        _postpone(account, by_order[number], error, wait=wait, count=count)
    missing = [number for number in by_order if number not in drafts and number not in failures]
    for number in missing:
        finished += _finish(by_order[number], State.IGNORED, "not an order of ours on the channel")
    finished += _book(account, drafts, by_order)
    return finished


Failures = dict[
    str, tuple[str, float | None, bool]
]  # order → (what went wrong, seconds to wait, counts as an attempt)


def _read(
    account: ChannelAccount, connector: Connector, by_order: Mapping[str, list[InboxMessage]]
) -> tuple[dict[str, OrderDraft], Failures]:
    drafts: dict[str, OrderDraft] = {}
    failures: Failures = {}
    numbers = list(by_order)
    rules = connector.capabilities
    if rules.body_above and len(numbers) > rules.body_above:
        # a flash sale: the signed bodies hold whole orders; the next pull reads the same orders once more
        drafts.update(_from_bodies(connector, by_order))
    if rules.list_above and len(numbers) > rules.list_above:
        drafts.update(_from_list(account, by_order))
    rest = [number for number in numbers if number not in drafts]
    for start in range(0, len(rest), rules.order_batch):
        part = rest[start : start + rules.order_batch]
        try:
            drafts.update({draft.external_id: draft for draft in _get(account, part)})
        except ChannelError as error:
            waits = error.kind in (Retry.THROTTLED, Retry.TRANSIENT, Retry.AUTH)
            if not waits and len(part) > 1:
                _one_by_one(account, part, drafts, failures, error)
                continue
            bodies = (
                _from_bodies(connector, {number: by_order[number] for number in rest[start:]})
                if waits
                else {}
            )
            for number in rest[start:] if waits else part:
                if number in bodies:
                    drafts[number] = bodies[number]
                else:
                    failures[number] = (error.message, error.retry_after, not waits)
            if waits:
                break
        except UNREADABLE as error:
            _one_by_one(account, part, drafts, failures, error)
    return drafts, failures


def _get(account: ChannelAccount, numbers: Sequence[str]) -> list[OrderDraft]:
    return do(account.pk, lambda connector, access: connector.get_orders(access, numbers))


def _one_by_one(
    account: ChannelAccount,
    part: Sequence[str],
    drafts: dict[str, OrderDraft],
    failures: Failures,
    error: Exception,
) -> None:
    """Find the order that cannot be read; the others of its batch go on."""
    if len(part) == 1:
        failures[part[0]] = (f"the order cannot be read: {type(error).__name__} {error}", None, True)
        return
    for number in part:
        try:
            drafts.update({draft.external_id: draft for draft in _get(account, [number])})
        except ChannelError as failure:
            failures[number] = (failure.message, failure.retry_after, failure.kind is Retry.REJECTED)
        except UNREADABLE as unreadable:
            failures[number] = (
                f"the order cannot be read: {type(unreadable).__name__} {unreadable}",
                None,
                True,
            )


def _from_bodies(connector: Connector, by_order: Mapping[str, list[InboxMessage]]) -> dict[str, OrderDraft]:
    """The newest whole order among the messages of each order."""
    found: dict[str, OrderDraft] = {}
    for number, messages in by_order.items():
        for message in messages:
            try:
                draft = connector.map_notification(message.body)
            except UNREADABLE:
                continue
            if draft and draft.external_id == number:
                known = found.get(number)
                if known is None or known.channel_updated_at <= draft.channel_updated_at:
                    found[number] = draft
    return found


def _from_list(account: ChannelAccount, by_order: Mapping[str, list[InboxMessage]]) -> dict[str, OrderDraft]:
    """Many orders by one list call, where single calls are dear; what it does not show is read singly."""
    events = [
        message.event_at or message.received_at for messages in by_order.values() for message in messages
    ]
    since = (min(events) - dt.timedelta(minutes=2)).astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    found: dict[str, OrderDraft] = {}
    cursor = ""
    try:
        for _ in range(5):
            page = do(account.pk, asking.orders(since, cursor))
            found.update({draft.external_id: draft for draft in page.drafts if draft.external_id in by_order})
            cursor = page.cursor
            if not cursor or len(found) == len(by_order):
                break
    except ChannelError as error:
        log.info("orders of account %s are read singly: %s", account.pk, error.message)
    return found


def _book(
    account: ChannelAccount, drafts: Mapping[str, OrderDraft], by_order: Mapping[str, list[InboxMessage]]
) -> int:
    finished = 0
    numbers = list(drafts)
    for start in range(0, len(numbers), intake.BATCH):
        part = numbers[start : start + intake.BATCH]
        answers = take(account, [drafts[number] for number in part], source="webhook")
        good: list[InboxMessage] = []
        for number, answer in zip(part, answers, strict=True):
            if answer.outcome == "error":
                _postpone(account, by_order[number], answer.message)
            else:
                good += by_order[number]
        finished += _finish(good, State.DONE)
    return finished


def take(account: ChannelAccount, drafts: Sequence[OrderDraft], *, source: str) -> list[intake.Taken]:
    """Book drafts of an account with its listings' SKUs filled in. Also counts as news of the account."""
    before = _units(account, [draft.external_id for draft in drafts])
    answers = intake.take(
        mapped(account.pk, drafts), channel=account.sales_channel, actor=actor_for(account), source=source
    )
    changed = {
        draft.external_id
        for draft, answer in zip(drafts, answers, strict=True)
        if answer.outcome in ("created", "updated")
    }
    if changed:
        _seen(account, before, _units(account, changed))
        ChannelAccount.objects.filter(pk=account.pk).update(last_order_at=now())
    return answers


Sold = dict[
    tuple[str, str, str], int
]  # (order, channel's SKU, listing reference) → units that are not cancelled


def _units(account: ChannelAccount, numbers: Collection[str]) -> Sold:
    found: Sold = {}
    rows = OrderLine.objects.filter(order__channel=account.sales_channel_id, order__external_id__in=numbers)
    for number, code, ref, units, cancelled in rows.values_list(
        "order__external_id", "external_sku", "listing_ref", "quantity", "cancelled"
    ):
        found[number, code, ref] = found.get((number, code, ref), 0) + units - cancelled
    return found


def _seen(account: ChannelAccount, before: Sold, after: Sold) -> None:
    """What was booked is no unseen sale of its listing any more.

    An order does not tell from which location its channel took the units. A line that fits several listings (one per
    location) counts for each: one that did not sell them is believed to show too few until it is told its next
    figure, which is refused, read and set right. What is cancelled counts for none of them for the same reason.
    """
    changes: dict[tuple[str, str], int] = {}
    for key, units in after.items():
        _, code, ref = key
        changes[code, ref] = changes.get((code, ref), 0) + units - before.get(key, 0)
    codes, refs = {code for code, _ in changes if code}, {ref for code, ref in changes if ref and not code}
    rows = Listing.objects.filter(
        Q(external_sku__in=codes) | Q(variant_id__in=refs), account=account, held__isnull=False
    )
    by_code: dict[str, list[int]] = {}
    by_ref: dict[str, list[int]] = {}
    for pk, code, ref in rows.values_list("pk", "external_sku", "variant_id"):
        by_code.setdefault(code, []).append(pk)
        by_ref.setdefault(ref, []).append(pk)
    booked: dict[int, int] = {}
    for (code, ref), change in changes.items():
        fitting = by_code.get(code, []) if code else by_ref.get(ref, [])
        if len(fitting) == 1 or change > 0:
            for pk in fitting:
                booked[pk] = booked.get(pk, 0) + change
    pushing.note_booked(account.pk, {pk: change for pk, change in booked.items() if change})


def mapped(account_id: int, drafts: Sequence[OrderDraft]) -> list[OrderDraft]:
    """Lines whose listing is mapped carry its SKU and pack; the others are looked up by code at order entry."""
    codes = {
        line.external_sku
        for draft in drafts
        for line in draft.lines
        if line.external_sku and line.sku_id is None
    }
    refs = {
        line.listing_ref
        for draft in drafts
        for line in draft.lines
        if line.listing_ref and line.sku_id is None
    }
    if not codes and not refs:
        return list(drafts)
    rows = Listing.objects.filter(account=account_id, sku__isnull=False)
    by_code = {
        code: (sku, pack)
        for code, sku, pack in rows.filter(external_sku__in=codes).values_list(
            "external_sku", "sku_id", "pack_size"
        )
    }
    by_ref = {}
    if refs - set(by_code):
        by_ref = {
            ref: (sku, pack)
            for ref, sku, pack in rows.filter(variant_id__in=refs).values_list(
                "variant_id", "sku_id", "pack_size"
            )
        }

    def sold(line: LineDraft) -> LineDraft:
        found = by_code.get(line.external_sku) or by_ref.get(line.listing_ref)
        if line.sku_id is not None or found is None:
            return line
        return replace(line, sku_id=found[0], pack_size=found[1])

    return [
        replace(
            draft,
            lines=tuple(sold(line) for line in draft.lines),
        )
        for draft in drafts
    ]


# --- orders that the channel's warehouse ships for others --------------------------------------------


def _outbound(account: ChannelAccount, messages: list[InboxMessage]) -> int:
    """Read each distinct order once and book what happened to it."""
    finished = 0
    by_order: dict[str, list[InboxMessage]] = {}
    for message in messages:
        by_order.setdefault(message.external_id, []).append(message)
    for number, group in by_order.items():
        try:
            known = mcf.read(account, [number])
        except ChannelError as error:
            _postpone(
                account, group, error.message, wait=error.retry_after, count=error.kind is Retry.REJECTED
            )
            continue
        finished += _finish(
            group, State.DONE if known else State.IGNORED, "" if known else "not handed over by us"
        )
    return finished


# --- quantities ------------------------------------------------------------------------------------


def _quantities(account: ChannelAccount, connector: Connector, messages: list[InboxMessage]) -> int:
    """The channel tells what it shows now: kept as evidence for drift, newest wins; nothing is pushed from here."""
    newest: dict[tuple[str, str], tuple[dt.datetime, int]] = {}
    for message in messages:
        try:
            told = connector.told_quantity(message.body)
        except UNREADABLE:
            told = None
        if told and abs(told[2]) <= MOST_UNITS:
            at = message.event_at or message.received_at
            key = (told[0], told[1])
            if key not in newest or newest[key][0] <= at:
                newest[key] = (at, told[2])
    listings = Listing.objects.filter(account=account, external_id__in={key[0] for key in newest})
    changed = []
    for pk, external_id, location_id, read_at in listings.values_list(
        "pk", "external_id", "location_id", "read_at"
    ):
        found = newest.get((external_id, location_id))
        if found and (read_at is None or read_at <= found[0]):
            changed.append((pk, *found))
    with transaction.atomic():
        _remember(sorted(changed))
        return _finish(messages, State.DONE)


def _remember(changed: Sequence[tuple[int, dt.datetime, int]]) -> None:
    """Store what channels show: (listing, since when, quantity), in ascending order of id. One statement."""
    if not changed:
        return
    time_of = connection.ops.adapt_datetimefield_value
    values = ", ".join(["(%s, %s, %s)"] * len(changed))
    lock, source = "", "told"
    if on_postgres():
        lock = """, locked AS (
            SELECT told.* FROM told JOIN channels_listing l ON l.id = told.id ORDER BY l.id FOR NO KEY UPDATE OF l
        )"""
        source = "locked"
    sql = f"""
        WITH told (id, at, quantity) AS (VALUES {values}){lock}
        UPDATE channels_listing SET read_at = {source}.at, read_quantity = {source}.quantity
        FROM {source} WHERE channels_listing.id = {source}.id AND (read_at IS NULL OR read_at <= {source}.at)
    """  # noqa: S608 (placeholders and fixed names only)
    with connection.cursor() as cursor:
        cursor.execute(sql, [value for pk, at, quantity in changed for value in (pk, time_of(at), quantity)])


# --- people ----------------------------------------------------------------------------------------


def replay(message_id: int, *, actor: Actor) -> InboxMessage:
    """Try a message again that gave up. Raises `NotFound`."""
    with transaction.atomic():
        was = InboxMessage.objects.filter(pk=message_id).first()
        changed = InboxMessage.objects.filter(pk=message_id, state=State.DEAD).update(
            state=State.RECEIVED, attempts=0, next_attempt_at=now(), error=""
        )
        if was is None or not changed:
            raise NotFound("message: it is not waiting for a person any more.", field="message")
        message = InboxMessage.objects.get(pk=message_id)
        close_item(f"inbox:{message_id}", "tried again", actor=actor)
        _close_cause(was, "tried again", actor)
        ring("channels.tasks.drain_inbox", str(message.account_id))
    return message


def ignore(message_id: int, *, actor: Actor) -> InboxMessage:
    """Give a message up. Raises `NotFound`."""
    with transaction.atomic():
        if not InboxMessage.objects.filter(pk=message_id, state=State.DEAD).update(
            state=State.IGNORED, done_at=now()
        ):
            raise NotFound("message: it is not waiting for a person any more.", field="message")
        close_item(f"inbox:{message_id}", "ignored", actor=actor)
        message = InboxMessage.objects.get(pk=message_id)
        _close_cause(message, "ignored", actor)
    return message


def purge(older_than: dt.timedelta = dt.timedelta(days=35)) -> int:
    """Remove finished messages after the replay window; their bodies hold buyers' data."""
    rows = InboxMessage.objects.filter(received_at__lt=now() - older_than).exclude(state=State.RECEIVED)
    return rows.delete()[0]
