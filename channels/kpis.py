"""Sync latency: commit of the stock change to the channel's acknowledgement, per listing.

A coalesced change ends when the newer value is acknowledged. What is not yet acknowledged counts with its age, so
that a stuck listing cannot hide. Listings that are unmapped, paused or given up are left out and counted apart. So
are first figures of a listing and re-syncs, where nothing moved: such pushes are recorded without a latency.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count, Q, QuerySet

from channels.models import ChannelAccount, InboxMessage, Listing, StockPush
from oms.core.clock import business_zone, now
from oms.core.figures import Place, Tallies, Tally, Window, percentile, spread_percentile, three_digits

TARGET_MS = 5_000
#: newest measurements looked at; more do not move a percentile that anybody can see
MOST = 50_000


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds; None where nothing was measured. `within` = share acknowledged under 5 s."""

    count: int = 0
    p50: int | None = None
    p95: int | None = None
    p99: int | None = None
    longest: int | None = None
    within: float | None = None
    open: int = 0


def latency(measured: Sequence[int], open_ages: Sequence[int]) -> Latency:
    """The figures of one window (pure); ages of open changes are lower bounds of what they will become."""
    values = sorted([*measured, *open_ages])
    if not values:
        return Latency()
    return Latency(
        count=len(measured),
        p50=_rounded(values, 0.50),
        p95=_rounded(values, 0.95),
        p99=_rounded(values, 0.99),
        longest=values[-1],
        within=sum(value < TARGET_MS for value in values) / len(values),
        open=len(open_ages),
    )


def _rounded(values: Sequence[int], share: float) -> int | None:
    found = percentile(values, share)
    return None if found is None else round(found)


def waiting(account_id: int | None = None) -> list[tuple[int, dt.datetime]]:
    """(account, stale since) of every listing that should be told and is not yet."""
    rows = still_open()
    if account_id is not None:
        rows = rows.filter(account=account_id)
    return [(account, since) for account, since in rows.values_list("account", "stale_since")[:MOST] if since]


def sync_latency(
    *,
    window: dt.timedelta = dt.timedelta(hours=24),
    account_id: int | None = None,
    channels: Sequence[str] | None = None,
) -> Latency:
    """Over all listings of an account, of some channels, or of everything."""
    rows = StockPush.objects.filter(
        state=StockPush.State.ACKED, answered_at__gte=now() - window, latency_ms__isnull=False
    )
    open_rows = waiting(account_id)
    if account_id is not None:
        rows = rows.filter(listing__account=account_id)
    if channels is not None:
        rows = rows.filter(listing__account__sales_channel__code__in=channels)
        mine = set(
            ChannelAccount.objects.filter(sales_channel__code__in=channels).values_list("pk", flat=True)
        )
        open_rows = [row for row in open_rows if row[0] in mine]
    at = now()
    measured = [
        value
        for value in rows.order_by("-answered_at").values_list("latency_ms", flat=True)[:MOST]
        if value is not None
    ]
    return latency(measured, [max(0, int((at - since).total_seconds() * 1000)) for _, since in open_rows])


def by_account(window: dt.timedelta = dt.timedelta(hours=1)) -> dict[int, Latency]:
    """The figures of every account, with two queries."""
    at = now()
    rows = StockPush.objects.filter(
        state=StockPush.State.ACKED, answered_at__gte=at - window, latency_ms__isnull=False
    )
    measured: dict[int, list[int]] = {}
    for account, value in rows.order_by("-answered_at").values_list("listing__account", "latency_ms")[:MOST]:
        measured.setdefault(account, []).append(value or 0)
    ages: dict[int, list[int]] = {}
    for account, since in waiting():
        ages.setdefault(account, []).append(max(0, int((at - since).total_seconds() * 1000)))
    return {
        account: latency(measured.get(account, []), ages.get(account, [])) for account in {*measured, *ages}
    }


#: lines of the latency chart
SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def by_hour(account_id: int, hours: int = 24) -> tuple[list[str], dict[str, list[float | None]]]:
    """(hour labels, p50, p95 and p99 in seconds) for the chart of an account; None for an hour without pushes."""
    at = now().replace(minute=0, second=0, microsecond=0)
    start = at - dt.timedelta(hours=hours - 1)
    rows = StockPush.objects.filter(
        listing__account=account_id,
        state=StockPush.State.ACKED,
        answered_at__gte=start,
        latency_ms__isnull=False,
    )
    found: dict[dt.datetime, list[int]] = {}
    for answered, value in rows.order_by("-answered_at").values_list("answered_at", "latency_ms")[:MOST]:
        if answered is not None and value is not None:
            found.setdefault(answered.replace(minute=0, second=0, microsecond=0), []).append(value)
    labels: list[str] = []
    lines: dict[str, list[float | None]] = {name: [] for name in SHARES}
    zone = business_zone()
    for step in range(hours):
        hour = start + dt.timedelta(hours=step)
        values = sorted(found.get(hour, []))
        labels.append(f"{hour.astimezone(zone):%H}:00")
        for name, share in SHARES.items():
            reached = percentile(values, share)
            lines[name].append(None if reached is None else reached / 1000)
    return labels, lines


# --- over days ------------------------------------------------------------------------------------


def acknowledged(window: Window) -> QuerySet[StockPush]:
    """Pushes that a channel accepted in the window; a retried change is one row, measured to its last answer."""
    return StockPush.objects.filter(
        state=StockPush.State.ACKED, answered_at__gte=window.start, answered_at__lt=window.end,
        latency_ms__isnull=False,
    )  # fmt: skip


def still_open() -> QuerySet[Listing]:
    """Listings whose channel has not yet been told; how long they wait is a lower bound of their latency."""
    return Listing.objects.filter(
        stale_since__isnull=False, told_anew=False, dead=False, sku__isnull=False, state=Listing.State.ACTIVE,
        fulfilment=Listing.Fulfilment.MERCHANT, account__state=ChannelAccount.State.CONNECTED,
        account__pushes_paused_at__isnull=True,
    )  # fmt: skip


def left_out(channels: Sequence[str] | None = None) -> dict[str, int]:
    """Listings that no latency is measured of: not mapped, paused (listing or channel), given up, told anew."""
    rows = Listing.objects.exclude(state=Listing.State.ENDED)
    if channels is not None:
        rows = rows.filter(account__sales_channel__code__in=channels)
    paused = Q(state=Listing.State.PAUSED) | Q(account__pushes_paused_at__isnull=False)
    found: dict[str, int] = rows.aggregate(
        unmapped=Count("pk", filter=Q(sku__isnull=True)),
        paused=Count("pk", filter=paused & Q(sku__isnull=False)),
        given_up=Count("pk", filter=Q(dead=True)),
        anew=Count("pk", filter=Q(told_anew=True, dead=False, sku__isnull=False) & ~paused),
    )
    return found


def tally(window: Window) -> Tallies:
    """Per day and channel: latencies in ms to three digits, and how late notifications came in."""
    found: Tallies = {}
    zone = business_zone()
    pushes = acknowledged(window).values_list(
        "answered_at", "listing__account__sales_channel__code", "latency_ms"
    )
    for at, channel, took in pushes.order_by().iterator(chunk_size=5000):
        if at is None or took is None:
            continue
        one = found.setdefault(Place(at.astimezone(zone).date(), channel), Tally())
        add_latency(one, took)
    messages = InboxMessage.objects.filter(
        received_at__gte=window.start, received_at__lt=window.end, event_at__isnull=False
    ).values_list("received_at", "account__sales_channel__code", "event_at")
    for at, channel, happened in messages.order_by().iterator(chunk_size=5000):
        if happened is not None:
            one = found.setdefault(Place(at.astimezone(zone).date(), channel), Tally())
            one.note("inbound", three_digits(max(0, int((at - happened).total_seconds() * 1000))))
    return found


def add_latency(tally: Tally, took: int) -> None:
    """Count one acknowledged or open change (pure)."""
    tally.note("latency", three_digits(took))
    tally.add("within", int(took < TARGET_MS))


def tallied_latency(tally: Tally, open_ages: Sequence[int] = ()) -> Latency:
    """The figures of a tally; open changes count with their age."""
    whole = Tally()
    whole.merge(tally)
    for age in open_ages:
        add_latency(whole, age)
    spread = whole.spread("latency")
    count = sum(spread.values())
    if not count:
        return Latency()

    def at(share: float) -> int:
        return round(spread_percentile(spread, share) or 0)

    return Latency(
        count=count - len(open_ages), p50=at(0.5), p95=at(0.95), p99=at(0.99), longest=max(spread),
        within=whole.whole("within") / count, open=len(open_ages),
    )  # fmt: skip
