"""Reading back what channels show, and saying why it differs from what we told them.

What is on its way is no drift. Each real difference gets one cause out of a decision table and keeps the
evidence; it closes itself when a later reading agrees.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from django.db import transaction
from django.db.models import Count, F, Q
from django.db.models.functions import TruncDate

from channels import asking
from channels.connectors.base import ListingRef
from channels.models import ChannelAccount, Drift, InboxMessage, Listing, StockPush
from channels.pushing import mark_listings, take_over, tell_rivals
from channels.session import do
from oms.core.actor import SYSTEM, Actor
from oms.core.audit import record
from oms.core.clock import business_zone, now
from oms.core.doorbell import ring
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.words import some

#: a change younger than this is on its way
GRACE = dt.timedelta(seconds=60)
HOT = dt.timedelta(hours=1)
COLD = dt.timedelta(hours=24)
#: longest time for which a difference may be accepted
MOST_HOURS = 24 * 30

Cause = Drift.Cause


@dataclass(frozen=True, slots=True)
class Facts:
    """One comparison. `ours` = what we last told (None = nothing yet), `theirs` = what the channel shows."""

    ours: int | None
    theirs: int
    mapped: bool = True
    by_channel: bool = False
    in_flight: bool = False
    stale_for: dt.timedelta | None = None
    dead: bool = False
    refused: bool = False
    messages_waiting: bool = False
    orders_read_after: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause with its sentence."""

    cause: str
    why: str


def classify(facts: Facts) -> Finding | None:
    """The cause of a difference, or None where there is none to report (pure decision table, first match wins)."""
    if facts.by_channel:
        if facts.ours is not None and facts.ours != facts.theirs:
            return Finding(Cause.FBA, "the channel's own warehouse changed; its snapshot is the truth")
        return None
    if not facts.mapped:
        return (
            Finding(Cause.UNMAPPED, "the channel sells it, and no SKU of ours is behind it")
            if facts.theirs > 0
            else None
        )
    if facts.ours is None:
        return (
            None
            if facts.stale_for is None or facts.stale_for <= GRACE
            else Finding(Cause.UNSENT, "it was never told")
        )
    if facts.theirs == facts.ours and not facts.dead:
        return None
    if facts.in_flight:
        return None
    if facts.dead or facts.refused:
        return Finding(Cause.REJECTED, "the channel refuses our quantity")
    if facts.stale_for is not None:
        if facts.stale_for <= GRACE:
            return None
        return Finding(Cause.UNSENT, "a newer quantity waits to be sent")
    if facts.theirs < facts.ours:
        if facts.messages_waiting:
            return Finding(Cause.DELAYED_ORDER, "notifications of the channel wait to be worked off")
        if not facts.orders_read_after:
            return Finding(Cause.UNKNOWN_SALE, "the channel sold units in an order that we have not read yet")
        return Finding(Cause.EDITED, "lowered on the channel: every order is read and none explains it")
    return Finding(Cause.EDITED, "raised on the channel")


class Heal(StrEnum):
    """What may be done about a difference without asking."""

    TELL = "tell"  # our figure again
    PULL = "pull"  # read the channel's orders now
    DRAIN = "drain"  # work off what it has sent
    ACCEPT = "accept"  # the channel's figure is the truth
    NOTHING = "nothing"  # a person decides


HEALS: dict[str, Heal] = {
    Cause.UNSENT: Heal.NOTHING,  # it is due already; what holds it back is shown beside it
    Cause.REJECTED: Heal.NOTHING,
    Cause.EDITED: Heal.TELL,
    Cause.UNMAPPED: Heal.NOTHING,
    Cause.UNKNOWN_SALE: Heal.PULL,
    Cause.DELAYED_ORDER: Heal.DRAIN,
    Cause.FBA: Heal.ACCEPT,
}


def healing(cause: str, policy: object) -> Heal:
    """What an account's policy lets happen by itself (pure): True or None = the table, False = nothing, a list of
    causes = only these."""
    allowed = policy is None or policy is True or (isinstance(policy, list) and cause in policy)
    return HEALS[cause] if allowed else Heal.NOTHING


def facts_of(
    listing: Listing, theirs: int, *, at: dt.datetime, waiting: bool, pulled_at: dt.datetime | None
) -> Facts:
    """The comparison of one listing that was read at `at`."""
    return Facts(
        ours=listing.acked_quantity,
        theirs=theirs,
        mapped=listing.sku_id is not None,
        by_channel=listing.fulfilment == Listing.Fulfilment.CHANNEL,
        in_flight=bool(listing.lease_until and listing.lease_until > at)
        or bool(listing.acked_at and listing.acked_at >= at),
        stale_for=at - listing.stale_since if listing.stale_since else None,
        dead=listing.dead,
        refused=bool(listing.last_error) and listing.attempts > 0,
        messages_waiting=waiting,
        orders_read_after=pulled_at is not None
        and listing.acked_at is not None
        and pulled_at > listing.acked_at,
    )


def due(account_id: int, limit: int = 200) -> list[Listing]:
    """Listings to read back: hot ones hourly, every one daily, the longest unread first."""
    at = now()
    hot = Q(acked_at__gt=at - HOT, read_at__lt=at - HOT)
    cold = Q(read_at__isnull=True) | Q(read_at__lt=at - COLD)
    rows = Listing.objects.filter(
        hot | cold, account=account_id, state=Listing.State.ACTIVE, fulfilment=Listing.Fulfilment.MERCHANT
    )
    return list(rows.order_by(F("read_at").asc(nulls_first=True), "pk")[:limit])


def read_back(account_id: int, listings: Sequence[Listing] | None = None) -> int:
    """Read what the channel shows, keep it, and open or close drifts; returns how many are open among those read."""
    account = ChannelAccount.objects.select_related("sales_channel").get(pk=account_id)
    chosen = due(account_id) if listings is None else list(listings)
    found = 0
    for start in range(0, len(chosen), 50):
        part = chosen[start : start + 50]
        refs = [ListingRef(row.pk, row.external_id, row.external_sku, row.location_id) for row in part]
        at = now()
        shown = do(account_id, asking.quantities(refs))
        found += _compare(account, [row.pk for row in part], shown, at)
    return found


def _compare(account: ChannelAccount, ids: Sequence[int], shown: dict[int, int], at: dt.datetime) -> int:
    waiting = InboxMessage.objects.filter(account=account, state=InboxMessage.State.RECEIVED).exists()
    pulled_at = ChannelAccount.objects.values_list("last_pull_at", flat=True).get(pk=account.pk)
    open_drifts = {
        drift.listing_id: drift for drift in Drift.objects.filter(listing__in=ids, closed_at__isnull=True)
    }
    accepted = {
        (listing, ours, theirs)
        for listing, ours, theirs in Drift.objects.filter(listing__in=ids, accepted_until__gt=at).values_list(
            "listing", "ours", "theirs"
        )
    }
    count = 0
    heals: dict[Heal, list[int]] = {}
    unseen: dict[int, tuple[int, int]] = {}  # listing → (what it shows, its SKU)
    for listing in Listing.objects.filter(pk__in=ids).order_by("pk"):
        theirs = shown.get(listing.pk)
        if theirs is None:
            Listing.objects.filter(pk=listing.pk).update(read_at=at)
            continue
        Listing.objects.filter(pk=listing.pk).update(read_at=at, read_quantity=theirs)
        finding = classify(facts_of(listing, theirs, at=at, waiting=waiting, pulled_at=pulled_at))
        if finding is None:
            if listing.pk in open_drifts and theirs == listing.acked_quantity:
                close(open_drifts[listing.pk], "the channel shows our figure")
            continue
        if (listing.pk, listing.acked_quantity or 0, theirs) in accepted:
            continue
        count += 1
        _open(account, listing, theirs, finding, open_drifts.get(listing.pk))
        if finding.cause in (Cause.UNKNOWN_SALE, Cause.DELAYED_ORDER) and listing.sku_id:
            unseen[listing.pk] = (theirs, listing.sku_id)
        heals.setdefault(healing(finding.cause, account.config.get("auto_heal")), []).append(listing.pk)
    if unseen:
        _count_unseen(unseen)
    if Heal.TELL in heals:
        mark_listings(Listing.objects.filter(pk__in=heals[Heal.TELL]), forget=True)
    if Heal.PULL in heals:
        ring("channels.tasks.pull_account", str(account.pk))
    if Heal.DRAIN in heals:
        ring("channels.tasks.drain_inbox", str(account.pk))
    return count


def _count_unseen(shown: Mapping[int, tuple[int, int]]) -> None:
    """Units that a channel has sold in orders we have not booked are taken for every listing of their SKU."""
    read_at = now()
    with transaction.atomic():
        tell_rivals({sku_id for _, sku_id in shown.values()}, read_at)
        for listing_id, (theirs, _) in sorted(shown.items()):
            rows = Listing.objects.filter(pk=listing_id, lease_token__isnull=True, acked_quantity__gt=theirs)
            take_over(rows, theirs, read_at)


def note_pool(
    account: ChannelAccount, ours: Mapping[int, int], theirs: Mapping[int, int], booked: bool
) -> int:
    """Differences between our books of a channel's own warehouse and its figures, per SKU id; returns how many.

    A booked one is closed at once: the operator's figure is the truth. The row stays as evidence.
    """
    found = 0
    listings = Listing.objects.filter(
        account=account, fulfilment=Listing.Fulfilment.CHANNEL, sku__in=[sku for sku in theirs if sku in ours]
    ).order_by("pk")
    first = {listing.sku_id: listing for listing in reversed(listings) if listing.sku_id is not None}
    known = {
        drift.listing_id: drift
        for drift in Drift.objects.filter(
            listing__in=[row.pk for row in first.values()], closed_at__isnull=True
        )
    }
    for sku_id, listing in first.items():
        finding = classify(Facts(ours=ours[sku_id], theirs=theirs[sku_id], by_channel=True))
        if finding is None:
            continue
        found += 1
        drift = _open(
            account, listing, theirs[sku_id], finding, known.get(listing.pk), ours=ours[sku_id], tell=not booked
        )  # fmt: skip
        if booked:
            close(drift, "booked: the operator's figure is the truth")
    return found


def _open(
    account: ChannelAccount, listing: Listing, theirs: int, finding: Finding, known: Drift | None,
    *, ours: int | None = None, tell: bool = True,
) -> Drift:  # fmt: skip
    push = (
        StockPush.objects.filter(listing=listing)
        .order_by("-pk")
        .values_list("pk", "quantity", "state")
        .first()
    )
    evidence = {
        "why": finding.why,
        "told_at": listing.acked_at.isoformat() if listing.acked_at else None,
        "stale_since": listing.stale_since.isoformat() if listing.stale_since else None,
        "error": listing.last_error,
        "sent": listing.last_quantity,
        "told": listing.acked_quantity,
        "read": theirs,
        "read_at": now().isoformat(),
        "orders_read_at": account.last_pull_at.isoformat() if account.last_pull_at else None,
        "push": dict(zip(("id", "quantity", "state"), push, strict=True)) if push else None,
        "link": f"/channels/listings/{listing.pk}/",
    }
    ours = (listing.acked_quantity or 0) if ours is None else ours
    with transaction.atomic():
        if known:
            Drift.objects.filter(pk=known.pk).update(
                ours=ours, theirs=theirs, cause=finding.cause, evidence=evidence
            )
            found = known
        else:
            found = Drift.objects.create(
                listing=listing, ours=ours, theirs=theirs, cause=finding.cause, evidence=evidence
            )
        if not tell:
            return found
        code = account.sales_channel.code
        raise_item(
            "drift", f"drift:{listing.pk}",
            f"{account.sales_channel.name} shows {theirs} of {listing.external_sku}, we told {ours}",
            detail=f"{Cause(finding.cause).label}: {finding.why}.", object_url=f"/channels/{code}/", channel_code=code,
        )  # fmt: skip
    return found


def close(drift: Drift, why: str, *, actor: Actor = SYSTEM) -> None:
    """The difference is gone or accepted."""
    with transaction.atomic():
        Drift.objects.filter(pk=drift.pk, closed_at__isnull=True).update(
            closed_at=now(), closed_by=str(actor)[:120]
        )
        close_item(f"drift:{drift.listing_id}", why, actor=actor)


def _open_one(drift_id: int) -> Drift:
    drift = Drift.objects.select_related("listing").filter(pk=drift_id).first()
    if drift is None:
        raise NotFound("drift: there is no such difference.", field="drift")
    if drift.closed_at is not None:
        raise Conflict("drift: it is closed already.", field="drift")
    return drift


def heal(drift_id: int, *, actor: Actor) -> Drift:
    """Tell our figure again. Raises `NotFound`; `Conflict` where it is closed or no figure of ours may be told."""
    drift = _open_one(drift_id)
    if drift.cause == Cause.FBA:
        raise Conflict(
            "drift: the channel counts its own warehouse; its next figures are booked.", field="drift"
        )
    if drift.listing.sku_id is None:
        raise Conflict(
            "drift: no SKU stands behind the listing; map it and its figure is told.", field="drift"
        )
    mark_listings(Listing.objects.filter(pk=drift.listing_id), forget=True)
    record(actor, "drift.healed", drift, before={"theirs": drift.theirs}, after={"ours": drift.ours})
    close(drift, "our figure was told again", actor=actor)
    return drift


def accept(drift_id: int, *, hours: int = 24, reason: str = "", actor: Actor) -> Drift:
    """The channel may go on showing its figure: this very difference is not told again for so many hours.

    A new figure of ours, or another one of theirs, is a new difference. Raises `NotFound`, `UserError`, `Conflict`
    where it is closed.
    """
    if not 1 <= hours <= MOST_HOURS:
        raise UserError(f"hours: use 1 to {MOST_HOURS}.", field="hours")
    drift = _open_one(drift_id)
    with transaction.atomic():
        Drift.objects.filter(pk=drift.pk).update(accepted_until=now() + dt.timedelta(hours=hours))
        record(
            actor, "drift.accepted", drift, before={"ours": drift.ours},
            after={"theirs": drift.theirs, "hours": hours, "reason": reason.strip()[:255]},
        )  # fmt: skip
        close(drift, reason.strip()[:200] or f"accepted for {some(hours, 'hour')}", actor=actor)
    drift.refresh_from_db()
    return drift


def by_day(account_id: int, days: int = 14) -> tuple[list[str], dict[str, list[int]]]:
    """(day labels, found differences per cause) of the last days, in the business's own days; one query."""
    zone = business_zone()
    today = now().astimezone(zone).date()
    first = today - dt.timedelta(days=days - 1)
    start = dt.datetime.combine(first, dt.time.min, zone)
    rows = (
        Drift.objects.filter(listing__account=account_id, found_at__gte=start)
        .annotate(day=TruncDate("found_at", tzinfo=zone))
        .order_by()
        .values_list("day", "cause")
        .annotate(found=Count("pk"))
    )
    counts: dict[str, list[int]] = {}
    for day, cause, found in rows:
        place = (day - first).days
        if 0 <= place < days:
            counts.setdefault(cause, [0] * days)[place] += found
    return [f"{first + dt.timedelta(days=n):%m-%d}" for n in range(days)], counts
