"""Ring-fences: units kept for one channel or campaign until a date. Unsold ones return by themselves, by the clock."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import F, Min, Sum
from django.db.transaction import atomic

from inventory.locking import stock_service
from inventory.models import Reservation, RingFence, Sku
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now, plausible
from oms.core.errors import NotFound, UserError
from oms.core.outbox import emit_many


@dataclass(frozen=True, slots=True)
class Kept:
    """Units of a SKU that a channel has not used of its fences yet, over all warehouses."""

    channel_code: str
    quantity: int
    used: int

    @property
    def remaining(self) -> int:
        return max(0, self.quantity - self.used)


def remaining(sku_ids: Collection[int], at: dt.datetime | None = None) -> dict[int, tuple[Kept, ...]]:
    """What is kept now, per SKU and channel, oldest fence first; several fences of one channel add up.

    Used = what the channel's reservations since the first of these fences hold or have shipped. At most two queries.
    """
    moment = at or now()
    rows = list(
        RingFence.objects.filter(sku__in=sku_ids, starts_at__lte=moment, ends_at__gt=moment)
        .values("sku_id", "channel_code")
        .annotate(units=Sum("quantity"), since=Min("starts_at"), first=Min("pk"))
        .order_by("first")
    )
    if not rows:
        return {}
    used: dict[tuple[int, str], int] = {}
    since = min(row["since"] for row in rows)
    starts = {(row["sku_id"], row["channel_code"]): row["since"] for row in rows}
    taken = Reservation.objects.filter(
        sku__in={row["sku_id"] for row in rows},
        channel_code__in={row["channel_code"] for row in rows},
        created_at__gte=since,
    )
    for sku, code, created, units in taken.annotate(units=F("quantity") + F("consumed")).values_list(
        "sku_id", "channel_code", "created_at", "units"
    ):
        if (sku, code) in starts and created >= starts[sku, code]:
            used[sku, code] = used.get((sku, code), 0) + units
    kept: dict[int, list[Kept]] = {}
    for row in rows:
        place = row["sku_id"], row["channel_code"]
        kept.setdefault(row["sku_id"], []).append(Kept(row["channel_code"], row["units"], used.get(place, 0)))
    return {sku: tuple(group) for sku, group in kept.items()}


@stock_service
def create(
    *,
    sku_id: int,
    channel_code: str,
    quantity: int,
    starts_at: dt.datetime | None = None,
    ends_at: dt.datetime,
    note: str = "",
    actor: Actor,
) -> RingFence:
    """Keep `quantity` eaches for one channel from `starts_at` (default now) to `ends_at`.

    Raises `UserError` (quantity, dates, channel, a SKU without stock of its own).
    """
    sku = Sku.objects.filter(pk=sku_id).first()
    if sku is None or sku.kind in (Sku.Kind.KIT, Sku.Kind.SERVICE) or sku.merged_into_id:
        raise UserError(
            "sku: choose a SKU with stock of its own; for a kit fence its components.", field="sku"
        )
    if not channel_code.strip():
        raise UserError("channel: choose the channel that the units are kept for.", field="channel")
    if not 1 <= quantity <= 1_000_000_000:
        raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
    plausible("starts_at", starts_at)
    plausible("ends_at", ends_at)
    start = starts_at or now()
    if ends_at <= start or ends_at <= now():
        raise UserError("ends_at: must lie in the future and after the start.", field="ends_at")
    fence = RingFence.objects.create(
        sku=sku, channel_code=channel_code.strip()[:40], quantity=quantity, starts_at=start, ends_at=ends_at,
        note=note[:160],
    )  # fmt: skip
    record(
        actor,
        "fence.created",
        sku,
        after={"channel": fence.channel_code, "quantity": quantity, "until": ends_at.isoformat()},
    )
    _tell(sku.pk, freed=False)
    return fence


@stock_service
def end(fence_id: int, *, actor: Actor) -> RingFence:
    """Give the rest back now. Ending it again changes nothing. Raises `NotFound`."""
    fence = (
        RingFence.objects.select_related("sku").filter(pk=fence_id).select_for_update(of=("self",)).first()
    )
    if fence is None:
        raise NotFound("fence: there is no such ring-fence.", field="fence")
    moment = now()
    if fence.ends_at > moment:
        fence.ends_at = max(moment, fence.starts_at + dt.timedelta(microseconds=1))
        fence.save(update_fields=["ends_at"])
        record(actor, "fence.ended", fence.sku, after={"channel": fence.channel_code})
        _tell(fence.sku_id, freed=True)
    return fence


def tell_changes(since: dt.datetime, until: dt.datetime) -> int:
    """Tell listings and waiting orders of fences that began or ended after `since` up to `until`. Returns SKUs told.

    The figures are right without it; the channels only have to be told that they changed.
    """
    ended = set(
        RingFence.objects.filter(ends_at__gt=since, ends_at__lte=until).values_list("sku_id", flat=True)
    )
    began = set(
        RingFence.objects.filter(starts_at__gt=since, starts_at__lte=until).values_list("sku_id", flat=True)
    )
    with atomic():
        for sku_id in sorted(ended | began):
            _tell(sku_id, freed=sku_id in ended)
    return len(ended | began)


def _tell(sku_id: int, *, freed: bool) -> None:
    topics = ["stock.changed", "stock.increased"] if freed else ["stock.changed"]
    emit_many([(topic, str(sku_id), {"at": now().isoformat()}) for topic in topics])
