"""The stock pusher's short transactions: claim stale listings, compute what they should show, settle the answers.

A listing is stale while `acked_version < version`. It is claimed by a lease, its quantity is computed at that
moment, and an answer counts only for the version it was computed from: an old value never overwrites a new one.

`held` is the most that a channel may still sell or has sold without our books knowing. Telling a figure moves it by
the difference to the figure before, a booked order lowers it, and a raise counts (`offered`) before it is sent. What
it exceeds the acknowledged figure by are unseen units: they are taken for everybody until their order is booked, or
an order pull that began later has not brought it.
"""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import connection, transaction
from django.db.models import Case, Count, DateTimeField, F, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce, Greatest, Least

from channels import pacing, quantities
from channels.connectors.base import Access, ListingRef, PushItem, PushResult, Retry, get_connector
from channels.models import BulkPush, ChannelAccount, Listing, StockPush
from channels.session import access_of
from inventory import selectors
from inventory.availability import Shown
from oms.core import business
from oms.core.clock import now
from oms.core.db import on_postgres
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.inserts import insert_rows
from oms.core.outbox import emit

MAX_REJECTIONS = 5
#: number of the advisory lock of those who raise listings out of the last units
_RAISES = 7_301_000_411
LEASE = dt.timedelta(seconds=90)
BULK_LEASE = dt.timedelta(hours=6)
BULK_LIMIT = 10_000
#: a file that lies there unfetched is replaced when it is older than this and something newer is known
REPLACE_AFTER = dt.timedelta(seconds=5)
#: how long a listing that waits for its rivals waits before it looks again
LOOK_AGAIN = dt.timedelta(seconds=0.4)
#: at or below this many units a listing goes before the others
NEAR_ZERO = 20
#: but nothing waits behind near-zero listings longer than this
FAIR_AFTER = dt.timedelta(seconds=3)
#: first figures and re-syncs go after movements, but they wait for them no longer than this
ANEW_AFTER = dt.timedelta(seconds=60)
#: unseen units of an account whose orders cannot be read are given up after this time
UNSEEN_FOR = dt.timedelta(hours=6)
#: change of `held` when nobody knows what the channel showed before: only the new figure counts
UNKNOWN = -1_000_000_000


# --- becoming stale --------------------------------------------------------------------------------


def mark_stale(changes: Mapping[int, dt.datetime]) -> int:
    """Raise the version of every listing of these SKUs and of kits that contain them; returns how many.

    `changes` maps SKU id to the commit time of its change. One statement, rows in ascending order of id, inside the
    caller's transaction or its own. A listing keeps the time of its oldest change that is not yet acknowledged; one
    that waits for its first figures or for a re-sync waits for a movement from then on, if that is a later one.
    """
    times = dict(changes)
    for sku_id, kits in selectors.kits_containing(changes).items():
        for kit in kits:
            times[kit] = min(times.get(kit, changes[sku_id]), changes[sku_id])
    if not times:
        return 0
    rows = [(sku_id, connection.ops.adapt_datetimefield_value(at)) for sku_id, at in sorted(times.items())]
    values = ", ".join(["(%s, %s)"] * len(rows))
    if on_postgres():
        sql = f"""
            WITH told (sku_id, at) AS (VALUES {values}),
            locked AS (
                SELECT l.id, told.at FROM channels_listing l JOIN told ON l.sku_id = told.sku_id
                WHERE l.fulfilment = 'merchant' AND l.state <> 'ended' ORDER BY l.id FOR NO KEY UPDATE OF l
            )
            UPDATE channels_listing SET version = version + 1,
                told_anew = COALESCE(told_anew AND stale_since >= locked.at, FALSE),
                stale_since = CASE WHEN stale_since IS NULL OR (told_anew AND stale_since < locked.at)
                    THEN locked.at ELSE stale_since END
            FROM locked WHERE channels_listing.id = locked.id RETURNING channels_listing.id
        """  # noqa: S608 (only placeholders are inserted)
    else:
        sql = f"""
            WITH told (sku_id, at) AS (VALUES {values})
            UPDATE channels_listing SET version = version + 1,
                told_anew = COALESCE(told_anew AND stale_since >= told.at, FALSE),
                stale_since = CASE WHEN stale_since IS NULL OR (told_anew AND stale_since < told.at)
                    THEN told.at ELSE stale_since END
            FROM told WHERE channels_listing.sku_id = told.sku_id AND fulfilment = 'merchant' AND state <> 'ended'
            RETURNING channels_listing.id
        """  # noqa: S608 (only placeholders are inserted)
    with connection.cursor() as cursor:
        cursor.execute(sql, [value for row in rows for value in row])
        return len(cursor.fetchall())


def mark_listings(listings: QuerySet[Listing], *, forget: bool = False, anew: bool = False) -> int:
    """Make listings stale by themselves: a new rule, a re-sync, a retry. `forget` drops what we believe they show.

    `anew`: the whole figure is told though nothing moved, as to a listing that has just been connected. Such a push
    is recorded, but how long it waits is no sync latency. A listing that waits for a movement goes on doing so.
    """
    changes: dict[str, Any] = {
        "version": F("version") + 1,
        # one that was given up keeps a mark, so that its entry in the inbox closes when the channel takes the figure
        "attempts": Case(When(dead=True, then=Value(1)), default=Value(0)),
        "next_attempt_at": None,
        "dead": False,
    }
    if forget:
        changes |= {"acked_quantity": None, "unseen_since": None}  # `held` stays: it may show that much
    at = now()
    ids = list(listings.order_by("pk").values_list("pk", flat=True))
    total = 0
    for start in range(0, len(ids), 500):
        with transaction.atomic():
            part = Listing.objects.filter(pk__in=ids[start : start + 500])
            if forget:
                waiting = part.filter(unseen_since__isnull=False).values_list("sku", flat=True)
                tell_rivals(set(waiting), now())  # not `at`: that marks what is stale by this call alone
            if on_postgres():
                list(part.order_by("pk").select_for_update(no_key=True).values_list("pk"))
            part.filter(stale_since__isnull=True).update(stale_since=at, told_anew=anew, **changes)
            total += part.count()
            part.exclude(stale_since=at).update(**changes)
    return total


def push_again(account_ids: Collection[int]) -> int:
    """These accounts answer again: what waits only because calls failed may go out now. Returns how many listings.

    A listing whose figure was refused waits on: that is no matter of the connection.
    """
    waiting = Listing.objects.filter(
        account__in=account_ids, stale_since__isnull=False, lease_token__isnull=True, attempts=0, dead=False,
        next_attempt_at__gt=now(),
    )  # fmt: skip
    with transaction.atomic():
        if on_postgres():
            list(waiting.order_by("pk").select_for_update(no_key=True).values_list("pk"))
        return waiting.update(next_attempt_at=None)


# --- claiming --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claimed:
    """One listing in hand: the version its quantity was computed from, and since when it is stale."""

    item: PushItem
    version: int
    changed_at: dt.datetime
    attempts: int
    waits: bool = False  # a lower figure than its share, until rivals have accepted theirs
    anew: bool = False  # first figures or a re-sync: nothing moved, so no latency is measured
    change: int = UNKNOWN  # what the new figure adds to the units that the listing holds
    look: bool = False  # it is read before it is told

    @property
    def ref(self) -> ListingRef:
        return ListingRef(
            self.item.listing_id, self.item.external_id, self.item.external_sku, self.item.location_id
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Listings of one account that go out together."""

    access: Access
    token: uuid.UUID
    claimed: tuple[Claimed, ...]
    claimed_at: dt.datetime
    bulk: bool = False


@dataclass(slots=True)
class Plan:
    """What one look found: batches to send, and whether more is waiting than could be taken."""

    batches: list[Batch] = field(default_factory=list)
    waiting: dict[int, int] = field(default_factory=dict)
    settled: int = 0


def pushable() -> QuerySet[Listing]:
    """Stale listings whose turn it is, of accounts that take pushes."""
    at = now()
    return Listing.objects.filter(
        Q(lease_until__isnull=True) | Q(lease_until__lte=at),
        Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=at),
        stale_since__isnull=False, dead=False, sku__isnull=False, state=Listing.State.ACTIVE,
        fulfilment=Listing.Fulfilment.MERCHANT, account__state=ChannelAccount.State.CONNECTED,
        account__pushes_paused_at__isnull=True,
    )  # fmt: skip


#: what is read of a claimed listing, after the fields that decide its figure
_CLAIM_FIELDS = (
    "external_id", "external_sku", "version", "stale_since", "attempts", "data", "acked_quantity", "acked_at",
    "read_quantity", "read_at", "told_anew", "held", "offered", "last_error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    """A claimed listing as it was read."""

    facts: quantities.ListingFacts
    external_id: str
    external_sku: str
    version: int
    stale_since: dt.datetime
    attempts: int
    data: Mapping[str, Any]
    acked_quantity: int | None
    acked_at: dt.datetime | None
    read_quantity: int | None
    read_at: dt.datetime | None
    told_anew: bool
    held: int | None
    offered: int
    last_error: str

    @property
    def base(self) -> int | None:
        """What the channel shows as far as we know: the figure it took, less what it has sold of it by our books."""
        if self.acked_quantity is None or self.held is None:
            return self.acked_quantity
        return min(self.acked_quantity, self.held)


def plan(slots: Mapping[int, int]) -> Plan:
    """Claim and compute the next batches. `slots` = calls an account may start now; absent = all it may have.

    A dozen statements, however many accounts and listings.
    """
    waiting = {
        account: (connector, count)
        for account, connector, count in pushable()
        .values_list("account", "account__connector")
        .annotate(n=Count("pk"))
        .values_list("account", "account__connector", "n")
    }
    found = Plan(waiting={account: count for account, (_, count) in waiting.items()})
    limits, bulk = _limits(waiting, slots)
    if not limits or business.get("push_paused"):
        return found
    token, at = uuid.uuid4(), now()
    ids = _claim(limits, token, at)
    if not ids:
        return found
    rows = _read_claimed(ids, token)
    shown = offer(token, [row.facts for row in rows])
    accounts = {
        account.pk: account
        for account in ChannelAccount.objects.filter(pk__in={row.facts.account_id for row in rows})
    }
    paces = pacing.paces(rows, shown, at)
    same: list[Claimed] = []
    held: dict[int, dt.datetime] = {}
    by_account: dict[int, list[Claimed]] = {}
    for row in rows:
        entry = _claimed(row, shown[row.facts.id], token)
        if not entry.look and _shows_already(row, accounts[row.facts.account_id], entry.item.quantity):
            if entry.waits:
                held[row.facts.id] = at + LOOK_AGAIN
            else:
                same.append(entry)
        elif row.facts.id in paces:
            held[row.facts.id] = paces[row.facts.id]
        else:
            by_account.setdefault(row.facts.account_id, []).append(entry)
    if same:
        acknowledge(token, [(one.item.listing_id, one.version, one.item.quantity, at, 0) for one in same], at)
        found.settled = len(same)
    for until in sorted(set(held.values())):
        Listing.objects.filter(pk__in=[pk for pk, when in held.items() if when == until], lease_token=token).update(
            lease_token=None, lease_until=None, next_attempt_at=until, offered=0
        )  # fmt: skip
    for account_id, entries in by_account.items():
        found.batches += _batches(accounts[account_id], entries, token, at, bulk=account_id in bulk)
    return found


def _limits(
    waiting: Mapping[int, tuple[str, int]], slots: Mapping[int, int]
) -> tuple[dict[int, tuple[int, dt.timedelta]], set[int]]:
    """How many listings each account may take now and for how long it holds them, and which accounts send a bulk.

    `waiting` maps an account to its connector and how many of its listings wait.
    """
    limits: dict[int, tuple[int, dt.timedelta]] = {}
    bulk: set[int] = set()
    for account_id, (connector, count) in sorted(waiting.items()):
        port = get_connector(connector)
        rules = port.capabilities
        free = slots.get(account_id, rules.quantity_connections)
        if free <= 0:
            continue
        bulk_from = rules.bulk_from
        if rules.bulk_fetched:
            bulk_from = port.bulk_from(
                ChannelAccount.objects.values_list("config", flat=True).get(pk=account_id)
            )
            if bulk_from and not _bulk_free(account_id):
                continue  # a file waits to be fetched: `outdated` has it replaced, single calls there are none
        limits[account_id] = (free * rules.quantity_batch, LEASE)
        if bulk_from and count >= bulk_from and _bulk_free(account_id):
            bulk.add(account_id)
            limits[account_id] = (BULK_LIMIT, BULK_LEASE)
    return limits, bulk


def _read_claimed(ids: Collection[int], token: uuid.UUID) -> list[_Row]:
    """The listings that we hold, the one that waited longest first."""
    rows = [
        _Row(quantities.ListingFacts(*values[: len(quantities.FACT_FIELDS)]), *values[len(quantities.FACT_FIELDS) :])
        for values in Listing.objects.filter(pk__in=ids, lease_token=token)
        .order_by("stale_since", "pk")
        .values_list(*quantities.FACT_FIELDS, *_CLAIM_FIELDS)
    ]  # fmt: skip
    if any(row.offered for row in rows):  # the attempt that raised them never ended: it may stand there
        _interrupted(Listing.objects.filter(pk__in=ids, lease_token=token, offered__gt=0))
        rows = [replace(row, last_error="interrupted") if row.offered else row for row in rows]
    return rows


def _batches(
    account: ChannelAccount, entries: Sequence[Claimed], token: uuid.UUID, at: dt.datetime, *, bulk: bool
) -> list[Batch]:
    """What one account sends, cut into calls; in a bulk all but what must be looked at first."""
    access = access_of(account)
    size = get_connector(account.connector).capabilities.quantity_batch
    filed = [one for one in entries if not one.look] if bulk else []
    single = [one for one in entries if one.look] if filed else entries
    return [
        Batch(access, token, tuple(group[start : start + most]), at, bulk=is_bulk)
        for group, most, is_bulk in ((filed, BULK_LIMIT, True), (single, size, False))
        for start in range(0, len(group), most)
    ]


def offer(token: uuid.UUID, facts: Sequence[quantities.ListingFacts]) -> dict[int, Shown]:
    """The figures of claimed listings. A raise out of the last units is written down before anybody else computes,
    so that two raises never use the same unit: `offered` counts until the channel has answered."""
    shown = quantities.compute(facts)
    rising = [one for one in facts if _rise(shown[one.id]) or shown[one.id].waits]
    if not rising:
        return shown
    with transaction.atomic():
        _one_at_a_time()
        again = quantities.compute(rising)
        for listing_id, figure in sorted(again.items()):
            Listing.objects.filter(pk=listing_id, lease_token=token).update(offered=_rise(figure))
    return shown | again


def _rise(figure: Shown) -> int:
    """Units that telling a divided figure may add to what the listing holds; unknown figures are looked at first."""
    if not figure.divided or figure.base is None or figure.quantity <= figure.base:
        return 0
    return figure.quantity - figure.base + figure.blind


def _one_at_a_time() -> None:
    """Who raises listings out of the last units waits for others who do. SQLite has one writer anyway."""
    if on_postgres():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_RAISES])


def _bulk_free(account_id: int) -> bool:
    return not BulkPush.objects.filter(
        account=account_id, state__in=(BulkPush.State.PLANNED, BulkPush.State.SENT)
    ).exists()


def _claim(limits: Mapping[int, tuple[int, dt.timedelta]], token: uuid.UUID, at: dt.datetime) -> list[int]:
    """First in, first out, listings near zero first, first figures and re-syncs after everything that moved; a row
    that somebody else holds is passed by.

    `limits` = how many listings each account may take, and for how long. One statement on PostgreSQL, one per
    account on SQLite.
    """
    time_of = connection.ops.adapt_datetimefield_value
    token_value = Listing._meta.get_field("lease_token").get_db_prep_value(token, connection)
    postgres = on_postgres()
    ids: list[int] = []
    groups = [limits] if postgres else [{account: limit} for account, limit in limits.items()]
    for group in groups:
        asked = ", ".join(["(%s, %s, %s)"] * len(group))
        due = f"""
            SELECT id{", a.until" if postgres else ""} FROM channels_listing
            WHERE account_id = {"a.account" if postgres else "%s"} AND stale_since IS NOT NULL AND NOT dead
              AND sku_id IS NOT NULL AND state = 'active' AND fulfilment = 'merchant'
              AND (lease_until IS NULL OR lease_until <= %s) AND (next_attempt_at IS NULL OR next_attempt_at <= %s)
            ORDER BY CASE WHEN told_anew AND stale_since > %s THEN 2
              WHEN COALESCE(acked_quantity, 0) <= %s OR stale_since <= %s THEN 0 ELSE 1 END, stale_since, id
            LIMIT {"a.most" if postgres else "%s"}
        """  # noqa: S608 (fixed names only)
        order = [time_of(at), time_of(at), time_of(at - ANEW_AFTER), NEAR_ZERO, time_of(at - FAIR_AFTER)]
        parameters: list[Any]
        if postgres:
            sql = f"""
                WITH a (account, most, until) AS (VALUES {asked}),
                due AS (SELECT l.* FROM a, LATERAL ({due} FOR NO KEY UPDATE SKIP LOCKED) AS l)
                UPDATE channels_listing SET lease_token = %s, lease_until = due.until FROM due
                WHERE channels_listing.id = due.id RETURNING channels_listing.id
            """  # noqa: S608 (placeholders and fixed names only)
            parameters = [
                value
                for account, (most, lease) in sorted(group.items())
                for value in (account, most, time_of(at + lease))
            ]
            parameters += [*order, token_value]
        else:
            ((account, (most, lease)),) = group.items()
            sql = f"""
                UPDATE channels_listing SET lease_token = %s, lease_until = %s WHERE id IN ({due}) RETURNING id
            """  # noqa: S608 (placeholders and fixed names only)
            parameters = [token_value, time_of(at + lease), account, *order, most]
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            ids += [row[0] for row in cursor.fetchall()]
    return ids


def _claimed(row: _Row, shown: Shown, token: uuid.UUID) -> Claimed:
    """`key` is new for every claim: the same version may have to be told with another base or figure, and a
    repeated request whose answer was lost is caught by compare-and-set."""
    base = row.base
    rules = get_connector(row.facts.connector).capabilities
    return Claimed(
        PushItem(
            listing_id=row.facts.id, external_id=row.external_id, external_sku=row.external_sku,
            location_id=row.facts.location_id, quantity=shown.quantity, key=f"{row.facts.id}:{row.version}:{token}",
            expected=base if base is not None else row.read_quantity, data=row.data,
        ),
        version=row.version, changed_at=row.stale_since, attempts=row.attempts, waits=shown.waits,
        anew=row.told_anew, change=UNKNOWN if base is None else shown.quantity - base + shown.blind,
        # out of the last units nothing is told blindly: not where we do not know what is shown, nor after a failure
        look=shown.divided and not rules.bulk_fetched
        and (base is None or not rules.compare_and_set or row.last_error != ""),
    )  # fmt: skip


def _shows_already(row: _Row, account: ChannelAccount, quantity: int) -> bool:
    """True when the channel shows this figure for sure: it told us so, or we did and it has sold nothing since."""
    if row.acked_at is None or row.acked_quantity is None:
        return False
    if row.read_quantity == quantity and row.read_at is not None and row.read_at > row.acked_at:
        return True
    untouched = account.last_order_at is None or account.last_order_at < row.acked_at
    told_otherwise = row.read_at is not None and row.read_at > row.acked_at and row.read_quantity != quantity
    return (
        row.base == quantity == row.acked_quantity and untouched and not told_otherwise and row.attempts == 0
    )


@dataclass(frozen=True, slots=True)
class Again:
    """A claimed listing as it is now: its figure, and what it was computed from."""

    figure: Shown
    version: int
    changed_at: dt.datetime
    anew: bool


def recompute(batch: Batch, shown: Mapping[int, int], at: dt.datetime) -> dict[int, Again]:
    """Take over what the channel showed at `at`, and compute again, for listings that this batch still holds.

    Fewer than a listing held are unseen sales, and are counted so in the new figures.
    """
    with transaction.atomic():
        held = Listing.objects.filter(pk__in=list(shown), lease_token=batch.token)
        tell_rivals(
            {
                sku
                for pk, sku, most, acked, since in held.values_list(
                    "pk", "sku", "held", "acked_quantity", "unseen_since"
                )
                if _beyond(most, acked, since is not None)
                != _beyond(acked if most is None else most, shown[pk], True)
            },
            at,
        )
        for listing_id, theirs in sorted(shown.items()):
            take_over(Listing.objects.filter(pk=listing_id, lease_token=batch.token), theirs, at)
    rows = list(
        Listing.objects.filter(pk__in=list(shown), lease_token=batch.token, stale_since__isnull=False)
    )
    figures = offer(
        batch.token,
        quantities.facts(
            Listing.objects.filter(pk__in=[row.pk for row in rows]).values_list(*quantities.FACT_FIELDS)
        ),
    )
    return {
        row.pk: Again(figures[row.pk], row.version, row.stale_since, row.told_anew)
        for row in rows
        if row.stale_since
    }


# --- unseen units ----------------------------------------------------------------------------------


def take_over(rows: QuerySet[Listing], theirs: int, at: dt.datetime) -> int:
    """The channel showed `theirs` at `at`: what the listings held beyond it is sold, in orders we have not booked.

    A raise that is still only offered was not told.
    """
    held = Coalesce(F("held"), F("acked_quantity"), Value(theirs))
    return rows.update(
        acked_quantity=theirs, acked_at=at, read_quantity=theirs, read_at=at, last_error="", offered=0,
        held=Greatest(held, Value(theirs)),
        unseen_since=Case(
            When(held__gt=theirs, then=Coalesce(F("unseen_since"), Value(at))),
            When(held__isnull=True, acked_quantity__gt=theirs, then=Value(at)),
            default=Value(None), output_field=DateTimeField(null=True),
        ),
    )  # fmt: skip


def note_booked(account_id: int, units: Mapping[int, int]) -> None:
    """Orders of an account were booked (or cancelled: below zero): its listings hold so many units less.

    `units` maps listing id to units of the listing. One statement more than there are listings.
    """
    if not units:
        return
    with transaction.atomic():
        rows = Listing.objects.filter(account=account_id, pk__in=units, held__isnull=False)
        # a figure told between the booking and this moment has taken the units twice
        waiting = rows.filter(unseen_since__isnull=False).values_list("sku", flat=True)
        tell_rivals(set(waiting), now())
        if on_postgres():
            list(rows.order_by("pk").select_for_update(no_key=True).values_list("pk"))
        change = Case(*(When(pk=pk, then=Value(number)) for pk, number in sorted(units.items())))
        rows.update(
            held=Greatest(F("held") - change, Value(0)),
            unseen_since=Case(
                When(held__gt=F("acked_quantity") + change, then=F("unseen_since")),
                default=Value(None), output_field=DateTimeField(null=True),
            ),
        )  # fmt: skip


def forget_unseen(account_id: int, *, before: dt.datetime) -> int:
    """An order pull has brought everything that the account had sold at `before`: what is counted as unseen since
    then does not exist. Returns how many listings are freed. Listings whose last push may have arrived or not stay
    as they are until they have been looked at."""
    freed = Listing.objects.filter(
        account=account_id, unseen_since__isnull=False, acked_at__lte=before, lease_token__isnull=True, last_error=""
    )  # fmt: skip
    return _free(freed)


def give_up_unseen() -> int:
    """Unseen units of accounts whose orders could not be read for hours; returns how many listings are freed."""
    return _free(Listing.objects.filter(unseen_since__lt=now() - UNSEEN_FOR, lease_token__isnull=True))


def _beyond(held: int | None, shown: int | None, counted: bool) -> int:
    """Units that count as unseen sales of a listing that held `held` and shows `shown`."""
    return max(0, held - shown) if counted and held is not None and shown is not None else 0


def tell_rivals(sku_ids: set[int | None], at: dt.datetime) -> None:
    """Unseen sales of these SKUs begin or end: every listing that shares their stock has another figure. Units of a
    kit are taken from its parts' listings too.

    To be called before the listings are written: it locks all of them in ascending order, so that no row is locked
    after a higher one.
    """
    skus = {sku for sku in sku_ids if sku is not None}
    if skus:
        inside = {part for parts in selectors.kit_parts(skus).values() for part, _ in parts}
        mark_stale(dict.fromkeys(sorted(skus | inside), at))


def _free(listings: QuerySet[Listing]) -> int:
    found = dict(listings.order_by("pk").values_list("pk", "sku"))
    if not found:
        return 0
    with transaction.atomic():
        tell_rivals(set(found.values()), now())
        rows = Listing.objects.filter(pk__in=found)
        if on_postgres():
            list(rows.order_by("pk").select_for_update(no_key=True).values_list("pk"))
        return (listings & rows).update(held=Least(F("held"), F("acked_quantity")), unseen_since=None)


# --- settling --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one claimed listing. `provisional`: a lower figure stands there until our books are complete."""

    claimed: Claimed
    result: PushResult
    quantity: int
    sent_at: dt.datetime
    answered_at: dt.datetime
    provisional: bool = False


def acknowledge(
    token: uuid.UUID, rows: Sequence[tuple[int, int, int, dt.datetime, int]], answered_at: dt.datetime
) -> set[int]:
    """The channel shows these quantities: (listing, version, quantity, claimed at, change of what it holds).
    One statement.

    Only the holder of the lease may, and only forwards. A version that moved on meanwhile leaves the listing stale,
    from the moment of our claim on. Returns the listings that took it.
    """
    if not rows:
        return set()
    time_of = connection.ops.adapt_datetimefield_value
    values = ", ".join(["(%s, %s, %s, %s, %s)"] * len(rows))
    params: list[Any] = [
        value
        for listing, version, quantity, at, change in sorted(rows)
        for value in (listing, version, quantity, time_of(at), change)
    ]
    token_value = Listing._meta.get_field("lease_token").get_db_prep_value(token, connection)
    lock, source, greatest = "", "told", "MAX"
    if on_postgres():
        greatest = "GREATEST"
        lock = """, locked AS (
            SELECT told.* FROM told JOIN channels_listing l ON l.id = told.id ORDER BY l.id FOR NO KEY UPDATE OF l
        )"""
        source = "locked"
    held = f"COALESCE(channels_listing.held, channels_listing.acked_quantity) + {source}.change"
    sql = f"""
        WITH told (id, version, quantity, at, change) AS (VALUES {values}){lock}
        UPDATE channels_listing SET
            held = {greatest}({source}.quantity, COALESCE({held}, {source}.quantity)), offered = 0,
            unseen_since = CASE WHEN {held} > {source}.quantity THEN COALESCE(unseen_since, %s) ELSE NULL END,
            acked_version = {source}.version, acked_quantity = {source}.quantity, last_quantity = {source}.quantity,
            acked_at = %s,
            stale_since = CASE WHEN channels_listing.version = {source}.version THEN NULL ELSE {source}.at END,
            told_anew = told_anew AND channels_listing.version <> {source}.version,
            lease_token = NULL, lease_until = NULL, attempts = 0, next_attempt_at = NULL, last_error = '', dead = %s
        FROM {source}
        WHERE channels_listing.id = {source}.id AND channels_listing.lease_token = %s
          AND channels_listing.acked_version < {source}.version
        RETURNING channels_listing.id
    """  # noqa: S608 (placeholders and fixed names only)
    with connection.cursor() as cursor:
        cursor.execute(sql, [*params, time_of(answered_at), time_of(answered_at), False, token_value])
        return {row[0] for row in cursor.fetchall()}


def settle(batch: Batch, outcomes: Sequence[Outcome]) -> int:
    """Write the answers of a batch; returns how many were acknowledged. A handful of statements."""
    if not outcomes:
        return 0
    accepted = [one for one in outcomes if one.result.failure is None and not one.provisional]
    with transaction.atomic():
        acked = acknowledge(
            batch.token,
            [
                (
                    one.claimed.item.listing_id,
                    one.claimed.version,
                    one.quantity,
                    batch.claimed_at,
                    one.claimed.change,
                )
                for one in accepted
            ],
            max((one.answered_at for one in outcomes), default=now()),
        )
        for one in outcomes:
            if one.provisional and one.result.failure is None:
                _provisional(batch, one)
        _failed(batch, [one for one in outcomes if one.result.failure is not None])
        insert_rows(_rows(outcomes))
        if accepted:
            ChannelAccount.objects.filter(pk=batch.access.account_id).update(last_push_at=now())
    for one in accepted:
        if one.claimed.attempts:
            close_item(f"push:{one.claimed.item.listing_id}", "the channel took the quantity")
    return len(acked)


def _rows(outcomes: Sequence[Outcome]) -> list[StockPush]:
    batch = uuid.uuid4()
    rows = []
    for one in outcomes:
        ok = one.result.failure is None
        state = StockPush.State.SENT if ok else StockPush.State.FAILED
        if ok and not one.provisional:
            state = StockPush.State.ACKED
        counts = ok and not one.provisional and not one.claimed.anew
        waited = int((one.answered_at - one.claimed.changed_at).total_seconds() * 1000)
        rows.append(
            StockPush(
                listing_id=one.claimed.item.listing_id, version=one.claimed.version, quantity=one.quantity,
                state=state, changed_at=one.claimed.changed_at, sent_at=one.sent_at, answered_at=one.answered_at,
                latency_ms=max(0, waited) if counts else None, batch=batch,
                error=one.result.message[:400],
            )
        )  # fmt: skip
    return rows


def _provisional(batch: Batch, one: Outcome) -> None:
    """The channel shows a lower figure than the listing's share until others are lowered: we look again soon."""
    held = Coalesce(F("held"), F("acked_quantity"), Value(one.quantity)) + one.claimed.change
    rows = Listing.objects.filter(pk=one.claimed.item.listing_id, lease_token=batch.token)
    rows.update(
        held=Greatest(held, Value(one.quantity)), offered=0, acked_quantity=one.quantity, last_quantity=one.quantity,
        unseen_since=Case(
            When(held__gt=one.quantity - one.claimed.change, then=Coalesce(F("unseen_since"), Value(one.answered_at))),
            default=Value(None), output_field=DateTimeField(null=True),
        ),
        acked_at=one.answered_at, lease_token=None, lease_until=None, last_error="",
        next_attempt_at=now() + LOOK_AGAIN,
    )  # fmt: skip


def _failed(batch: Batch, failures: Sequence[Outcome]) -> None:
    """Let the listings go and say when they are due again: one statement for all that failed in the same way."""
    alike: dict[tuple[Retry | None, int, str, float | None, int | None], list[int]] = {}
    for one in failures:
        attempts = min(one.claimed.attempts + 1, 1000)
        rejected = one.result.failure is Retry.REJECTED
        kind = (
            one.result.failure, attempts, one.result.message[:400], one.result.retry_after,
            one.quantity if rejected else None,
        )  # fmt: skip
        alike.setdefault(kind, []).append(one.claimed.item.listing_id)
    for (failure, attempts, message, retry_after, quantity), ids in alike.items():
        changes: dict[str, Any] = {
            "lease_token": None,
            "lease_until": None,
            "last_error": message or "failed",
            "offered": 0,
        }
        if failure not in _NOTHING_HAPPENED:
            changes["held"] = F("held") + F("offered")  # the raise may stand there
        if failure is Retry.REJECTED:
            changes |= {"attempts": attempts, "last_quantity": quantity, "dead": attempts >= MAX_REJECTIONS}
            changes["next_attempt_at"] = now() + dt.timedelta(seconds=_pause(attempts, 600))
        elif failure in (Retry.THROTTLED, Retry.AUTH):
            changes["next_attempt_at"] = now() + dt.timedelta(seconds=min(retry_after or 0.2, 900))
        elif failure is Retry.STALE:
            changes["next_attempt_at"] = now() + dt.timedelta(seconds=0.3)
        else:  # transient or in doubt: a quantity is absolute, so it is simply told again
            # an outage is no fault of the listing: it never counts towards giving up
            wait = min(retry_after, 30) if retry_after else _pause(min(attempts, 5), 30)
            changes["next_attempt_at"] = now() + dt.timedelta(seconds=wait)
        held = Listing.objects.filter(pk__in=sorted(ids), lease_token=batch.token)
        given_up = sorted(held.values_list("pk", flat=True)) if changes.get("dead") else []
        held.update(**changes)
        for listing_id in given_up:
            tell_given_up(listing_id, message)


#: answers after which the figure on the channel is surely the old one
_NOTHING_HAPPENED = (Retry.REJECTED, Retry.THROTTLED, Retry.AUTH, Retry.STALE)


def _pause(attempts: int, most: float) -> float:
    return min(2.0**attempts, most) * random.uniform(0.8, 1.2)


def tell_given_up(listing_id: int, message: str) -> None:
    """Put a listing whose quantity was refused too often before a person."""
    listing = Listing.objects.select_related("account__sales_channel", "sku").get(pk=listing_id)
    channel = listing.account.sales_channel
    with transaction.atomic():
        emit("sync.failed", f"listing:{listing_id}", detail=message)
    raise_item(
        "push_dead", f"push:{listing_id}",
        f"{channel.name} refuses the quantity of {listing.external_sku or listing.sku}",
        detail=f"{message} Mend the listing on the channel, then retry.", object_url=f"/channels/{channel.code}/",
        channel_code=channel.code,
    )  # fmt: skip


def release(batch: Batch) -> None:
    """Give claimed listings back: they stay stale and may be taken at once. What was raised may stand there."""
    ids = [entry.item.listing_id for entry in batch.claimed]
    rows = Listing.objects.filter(pk__in=ids, lease_token=batch.token)
    _interrupted(rows.filter(offered__gt=0))
    rows.update(lease_token=None, lease_until=None)


def _interrupted(listings: QuerySet[Listing]) -> None:
    listings.update(held=F("held") + F("offered"), offered=0, last_error="the push was interrupted")


# --- bulk files ------------------------------------------------------------------------------------


def open_bulk(batch: Batch) -> int:
    """Write down what goes into a file before it is handed in."""
    rows = [
        [
            one.item.listing_id,
            one.version,
            one.item.quantity,
            one.item.external_sku,
            one.changed_at.isoformat(),
            dict(one.item.data),
            one.anew,
            one.waits,
        ]
        for one in batch.claimed
    ]
    return BulkPush.objects.create(account_id=batch.access.account_id, items=rows, lease_token=batch.token).pk


def bulk_sent(bulk_id: int, handle: str) -> None:
    BulkPush.objects.filter(pk=bulk_id).update(state=BulkPush.State.SENT, handle=handle[:120], sent_at=now())


def bulk_failed(bulk_id: int, error: str) -> None:
    """The file was not taken: its listings are stale again at once."""
    bulk = BulkPush.objects.get(pk=bulk_id)
    with transaction.atomic():
        BulkPush.objects.filter(pk=bulk_id).update(
            state=BulkPush.State.FAILED, error=error[:400], finished_at=now()
        )
        Listing.objects.filter(lease_token=bulk.lease_token, pk__in=[row[0] for row in bulk.items]).update(
            lease_token=None,
            lease_until=None,
            next_attempt_at=now() + dt.timedelta(seconds=5),
            last_error=error[:400],
        )


def outdated(bulk: BulkPush) -> bool:
    """Does a file that was not fetched yet lack something newer? Not within seconds of it: changes gather."""
    if bulk.sent_at is None or bulk.sent_at > now() - REPLACE_AFTER:
        return False
    if pushable().filter(account=bulk.account_id).exists():
        return True
    versions = {row[0]: row[1] for row in bulk.items}
    held = Listing.objects.filter(lease_token=bulk.lease_token).values_list("pk", "version")
    return any(version > versions.get(pk, version) for pk, version in held)


def replace_bulk(bulk: BulkPush) -> None:
    """Give its listings free for the newer file that takes its place; none of them was acknowledged."""
    with transaction.atomic():
        changed = BulkPush.objects.filter(pk=bulk.pk, state=BulkPush.State.SENT).update(
            state=BulkPush.State.FAILED, error="a newer file took its place", finished_at=now()
        )
        if changed:
            Listing.objects.filter(
                lease_token=bulk.lease_token, pk__in=[row[0] for row in bulk.items]
            ).update(lease_token=None, lease_until=None, next_attempt_at=None, offered=0)


def _bulk_row(row: list[Any]) -> list[Any]:
    """Files written before `anew` and `waits` were kept have fewer values."""
    return [*row, False, False][:8]


def bulk_batch(bulk: BulkPush) -> Batch:
    """The batch behind a file, to settle its result. `claimed_at` is when it was written down."""
    claimed = tuple(
        Claimed(
            PushItem(listing_id, "", sku, "", quantity, f"{listing_id}:{version}:bulk", data=data),
            version, dt.datetime.fromisoformat(changed_at), 0, anew=anew, waits=waits,
        )
        for listing_id, version, quantity, sku, changed_at, data, anew, waits in map(_bulk_row, bulk.items)
    )  # fmt: skip
    account = ChannelAccount.objects.get(pk=bulk.account_id)
    return Batch(access_of(account), bulk.lease_token, claimed, bulk.created_at, bulk=True)
