"""Buffers that follow from what was measured: how fast a SKU sells elsewhere, and how late a channel hears of it.

Between a sale on one channel and the acknowledgement of the others, the others go on selling the old figure. The
risk is the chance that together they sell more than there is in that time. Each channel sells as a Poisson process
and never more than it shows. The buffer is the smallest one that keeps the risk below what was asked for.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import F, Sum

from channels import kpis
from channels.models import ChannelAccount, Listing
from oms.core import business
from oms.core.actor import Actor, task_actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import NotFound, UserError
from oms.orders.models import OrderLine

#: chance of selling more than there is, each time the last units are reached
RISK = 0.001
LOWEST_RISK, HIGHEST_RISK = 0.000001, 0.5
WINDOW_DAYS = 28
MOST = 10
#: at more units than this a buffer changes nothing
LOOK = 40
#: latency that is assumed where nothing was measured, in seconds
UNMEASURED = 5.0


def risk(available: int, shown: int, per_hour: Sequence[float], seconds: float) -> float:
    """Chance that channels which each show `shown` units sell more than `available` within `seconds` (pure).

    `per_hour` = sales rate of each channel. A channel sells at most what it shows.
    """
    total = [1.0]  # total[n] = chance that n units are sold so far
    for rate in per_hour:
        mean = max(0.0, rate) * seconds / 3600
        own = [math.exp(-mean) * mean**n / math.factorial(n) for n in range(max(0, shown))]
        own.append(max(0.0, 1.0 - sum(own)))
        longer = [0.0] * (len(total) + len(own) - 1)
        for a, left in enumerate(total):
            for b, right in enumerate(own):
                longer[a + b] += left * right
        total = longer
    return sum(total[available + 1 :])


@dataclass(frozen=True, slots=True)
class Buffer:
    """Units to hold back, the risk that is left, and the sentence that explains it."""

    units: int
    risk: float
    why: str


def tuned_buffer(
    per_hour: Sequence[float], seconds: float, *, target: float = RISK, shared_from: int = 3
) -> Buffer:
    """The smallest buffer whose risk stays at or below `target` at every level of stock (pure).

    At `shared_from` units or fewer the rest is divided over the channels and nothing can be sold twice.
    """
    worst = 1.0
    speed = f"{sum(per_hour):.2g} sold per hour on {len(per_hour)} channels, told within {seconds:.1f} s"
    for units in range(MOST + 1):
        worst = max(
            risk(available, available - units, per_hour, seconds)
            for available in range(max(units + 1, shared_from + 1), LOOK)
        )
        if worst <= target:
            return Buffer(units, worst, f"{speed}: {units} held back leave a risk of {worst:.2g}")
    return Buffer(
        MOST,
        worst,
        f"{speed}: even {MOST} held back leave a risk of {worst:.2g}; a faster channel helps more",
    )


def tune(account_id: int, listing_id: int | None = None) -> int:
    """Set the buffer of every listing of an account (or of one) that is tuned by measurement; returns how many changed.

    A listing whose buffer a person pinned (mode fixed) is left alone. Four queries and one update per new figure.
    """
    rows = Listing.objects.filter(account=account_id, buffer_mode=Listing.BufferMode.TUNED, sku__isnull=False)
    listings = list(rows if listing_id is None else rows.filter(pk=listing_id))
    if not listings:
        return 0
    measured = kpis.sync_latency(account_id=account_id).p99
    seconds = UNMEASURED if measured is None else max(0.2, measured / 1000)
    rates = _rates({listing.sku_id for listing in listings if listing.sku_id})
    limit = int(business.get("last_units"))
    changed = 0
    for listing in listings:
        found = tuned_buffer(
            rates.get(listing.sku_id or 0, [0.0]),
            seconds,
            target=listing.buffer_risk or RISK,
            shared_from=limit,
        )
        if (found.units, found.why) == (listing.buffer, listing.buffer_why):
            continue
        changed += _set(listing, found)
    return changed


def _set(listing: Listing, found: Buffer) -> bool:
    from channels.pushing import mark_listings

    with transaction.atomic():
        Listing.objects.filter(pk=listing.pk).update(buffer=found.units, buffer_why=found.why[:255])
        if found.units == listing.buffer:
            return False
        mark_listings(Listing.objects.filter(pk=listing.pk))
        record(
            task_actor("channels.tasks.tune_buffers"), "listing.buffer_tuned", listing,
            before={"buffer": listing.buffer}, after={"buffer": found.units, "why": found.why},
        )  # fmt: skip
    return True


def set_mode(listing_id: int, mode: str, *, risk: float | None = None, actor: Actor) -> Listing:
    """Who sets a listing's buffer: a person (`fixed`, its figure stays), or what is measured (`tuned`), within the
    accepted `risk` of selling twice (None = 0.001). Tuned figures are set at once.

    Raises `NotFound`, `UserError` naming the field.
    """
    listing = Listing.objects.filter(pk=listing_id).first()
    if listing is None:
        raise NotFound("listing: no such listing.", field="listing")
    if mode not in Listing.BufferMode.values:
        raise UserError("buffer_mode: use fixed or tuned.", field="buffer_mode")
    if listing.fulfilment != Listing.Fulfilment.MERCHANT:
        raise UserError("buffer_mode: the channel ships it, its figure is not ours.", field="buffer_mode")
    if risk is not None and not LOWEST_RISK <= risk <= HIGHEST_RISK:
        raise UserError(
            f"buffer_risk: use a chance from {LOWEST_RISK} to {HIGHEST_RISK}, such as {RISK}.",
            field="buffer_risk",
        )
    tuned = mode == Listing.BufferMode.TUNED
    after = {"buffer_mode": mode, "buffer_risk": risk if tuned else None}
    before = {name: getattr(listing, name) for name in after}
    if before != after:
        with transaction.atomic():
            Listing.objects.filter(pk=listing_id).update(**after, **({} if tuned else {"buffer_why": ""}))
            record(actor, "listing.buffer_mode", listing, before=before, after=after)
        if tuned:
            tune(listing.account_id, listing_id)
    listing.refresh_from_db()
    return listing


def _rates(sku_ids: set[int]) -> dict[int, list[float]]:
    """Units per hour of the last four weeks, per SKU a list with one entry per channel that has a live account."""
    since = now() - dt.timedelta(days=WINDOW_DAYS)
    channels = set(
        ChannelAccount.objects.filter(state=ChannelAccount.State.CONNECTED).values_list(
            "sales_channel", flat=True
        )
    )
    rows = (
        OrderLine.objects.filter(sku__in=sku_ids, order__placed_at__gte=since, order__channel__in=channels)
        .exclude(order__state="cancelled")
        .values_list("sku", "order__channel")
        .annotate(units=Sum(F("quantity") * F("pack_size")))
        .order_by("sku", "order__channel")
    )
    found: dict[int, list[float]] = {}
    for sku_id, _, units in rows:
        if sku_id is not None:
            found.setdefault(sku_id, []).append(units / (WINDOW_DAYS * 24))
    return found
