"""The black box of an oversell: who was slow, told in milliseconds, and what mends it most cheaply.

A channel's order that comes in short of a SKU which the channel was shown as in stock was sold twice. The sale that
took the last units and the one that came too late stand side by side with the pushes between them; the hop that
took the longest before the second sale is the guilty one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction

from channels import penalties
from channels.models import ChannelAccount, InboxMessage, Listing, OversellIncident, StockPush
from inventory.models import StockLevel, StockMovement
from oms.core.clock import now
from oms.core.exceptions_inbox import raise_item
from oms.core.models import ExceptionItem
from oms.orders.models import ChannelWarehouse, Order, OrderLine
from procurement import selectors as purchasing

Hop = OversellIncident.Hop

SENTENCES = {
    Hop.NOTICE: "{first} told us of its sale {ms} ms after the buyer bought",
    Hop.INTAKE: "the sale lay {ms} ms in our inbox before it was booked",
    Hop.DISPATCH: "{ms} ms passed from the booking until the new figure was sent to {second}",
    Hop.CHANNEL: "{second} took {ms} ms to accept the new figure",
    Hop.KEPT_SELLING: "{second} sold {ms} ms after it had accepted the new figure",
    Hop.NOT_TOLD: "{second} was not told the new figure before it sold: {reason}",
    Hop.TOO_CLOSE: "both buyers bought within {ms} ms: no system tells the other channel in that time",
    Hop.STOCK_FELL: "no sale took the last units: stock itself was lowered ({reason})",
}
#: two sales closer than this could not have been kept apart by anybody, in seconds
UNAVOIDABLE = 0.3


@dataclass(frozen=True, slots=True)
class Times:
    """The moments of one incident; None = it did not happen before the second sale. Pure input of `judge`."""

    second_sold: dt.datetime
    first_sold: dt.datetime | None = None  # None = stock fell by something else than a sale
    first_received: dt.datetime | None = None
    first_booked: dt.datetime | None = None
    sent: dt.datetime | None = None
    accepted: dt.datetime | None = None
    reason: str = ""  # why nothing was sent, or what lowered the stock


@dataclass(frozen=True, slots=True)
class Verdict:
    """The guilty hop and how long it took, in milliseconds."""

    hop: str
    ms: int


def judge(times: Times) -> Verdict:
    """Which hop let the second sale happen (pure).

    Each hop counts only until the second sale: what came later cannot have caused it. The longest one is guilty.
    """
    end = times.second_sold
    if times.first_sold is None:
        return Verdict(Hop.STOCK_FELL, 0)
    if times.accepted is not None and times.accepted < end:
        return Verdict(Hop.KEPT_SELLING, _ms(times.accepted, end))
    if abs((end - times.first_sold).total_seconds()) < UNAVOIDABLE or end < times.first_sold:
        return Verdict(Hop.TOO_CLOSE, abs(_ms(times.first_sold, end)))
    steps: list[tuple[int, Hop]] = []
    begin = times.first_sold
    for hop, until in (
        (Hop.NOTICE, times.first_received), (Hop.INTAKE, times.first_booked), (Hop.DISPATCH, times.sent),
        (Hop.CHANNEL, times.accepted),
    ):  # fmt: skip
        stop = end if until is None or until > end else max(until, begin)
        steps.append((_ms(begin, stop), hop))
        begin = stop
    ms, hop = max(steps, key=lambda step: step[0])
    if hop == Hop.DISPATCH and times.sent is None and times.reason:
        return Verdict(Hop.NOT_TOLD, ms)
    return Verdict(hop, ms)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An order that could be given up: what cancelling it costs, in business currency."""

    number: str
    channel: str
    connector: str
    value: Decimal


@dataclass(frozen=True, slots=True)
class Remedy:
    """A way out with its price, cheapest first in a list."""

    kind: str  # other_location, incoming, cancel
    cost: Decimal
    text: str


def remedies(
    units: int, *, elsewhere: Mapping[str, int], incoming: Sequence[tuple[int, dt.date | None]],
    ship_by: dt.date | None, orders: Sequence[Candidate],
) -> list[Remedy]:  # fmt: skip
    """Every way to serve or settle `units` that were sold twice, the cheapest first (pure).

    `elsewhere` = units available per warehouse that the channel does not use, `incoming` = (units, day) of purchase
    orders, earliest first, `orders` = both sales. Cancelling costs the channel's penalty and the lost order.
    """
    found = [
        Remedy("other_location", Decimal(0), f"{count} available in {code}: ship from there")
        for code, count in sorted(elsewhere.items())
        if count >= units
    ]
    arriving = 0
    for count, day in incoming:
        arriving += count
        if arriving >= units and day is not None:
            late = ship_by is not None and day > ship_by
            found.append(
                Remedy(
                    "incoming",
                    Decimal(8) if late else Decimal(1),
                    f"{arriving} arrive by {day:%d %b %Y}, {'after' if late else 'before'} the ship-by day: "
                    f"{'tell the buyer' if late else 'hold for them'}",
                )  # fmt: skip
            )
            break
    for order in orders:
        penalty = penalties.of(order.connector)
        limit = f", limit {penalty.limit.normalize():f} %" if penalty.limit is not None else ""
        found.append(
            Remedy(
                "cancel",
                penalty.cost + order.value,
                f"cancel {order.number} on {order.channel}: order of {order.value:.2f} lost and about "
                f"{penalty.cost:.2f} for the account ({penalty.name}{limit})",
            )  # fmt: skip
        )
    return sorted(found, key=lambda remedy: (remedy.cost, remedy.kind, remedy.text))


def _ms(start: dt.datetime, end: dt.datetime) -> int:
    return round((end - start).total_seconds() * 1000)


# --- finding and writing ---------------------------------------------------------------------------


def investigate(order_ids: Sequence[int]) -> list[OversellIncident]:
    """Open an incident for each line of these orders that was sold although nothing was left. One per line.

    Only channels with an account count: an order entered by hand may be short on purpose. A line whose listing was
    never shown above zero is a backorder, not an oversell.
    """
    lines = list(
        OrderLine.objects.filter(
            order__in=order_ids, short__gt=0, sku__isnull=False, order__is_test=False, order__fulfilled_by="us",
            order__channel__account__isnull=False,
        ).select_related("order__channel__account", "sku")
    )  # fmt: skip
    if not lines:
        return []
    known = set(
        OversellIncident.objects.filter(line__in=[line.pk for line in lines]).values_list("line", flat=True)
    )
    return [made for line in lines if line.pk not in known and (made := _investigate(line)) is not None]


def investigate_recent() -> int:
    """Look into every order of the last quarter of an hour that came in short; returns how many were sold twice."""
    since = now() - dt.timedelta(minutes=15)
    short = Order.objects.filter(imported_at__gte=since, short_units__gt=0, lines__oversell__isnull=True)
    return len(investigate(list(short.distinct().order_by("pk").values_list("pk", flat=True)[:500])))


def any_short(order_ids: Sequence[int]) -> bool:
    """Whether one of these orders of a channel came in short: a cheap question for each batch of news."""
    return Order.objects.filter(pk__in=order_ids, short_units__gt=0, channel__account__isnull=False).exists()


def _investigate(line: OrderLine) -> OversellIncident | None:
    assert line.sku is not None  # the caller chose lines with one
    second, account = line.order, line.order.channel.account
    listing = _listing_of(account, line)
    if listing is None or not _was_shown(listing, second.placed_at):
        return None
    movement = _last_taker(line)
    first = _order_of(movement)
    push = _push_after(listing, movement)
    reason = (
        _why_not_told(listing, account) if first is not None else (movement.kind if movement else "unknown")
    )
    times = Times(
        second_sold=second.placed_at,
        first_sold=first.placed_at if first else None,
        first_received=_received(first) if first else None,
        first_booked=movement.created_at if movement else None,
        sent=push.sent_at if push else None,
        accepted=push.answered_at if push and push.state == StockPush.State.ACKED else None,
        reason=reason,
    )
    verdict = judge(times)
    why = SENTENCES[Hop(verdict.hop)].format(
        first=first.channel.name if first else "-",
        second=second.channel.name,
        ms=verdict.ms,
        reason=reason or "-",
    )
    ways = remedies(
        line.short, elsewhere=_elsewhere(line), ship_by=second.ship_by.date() if second.ship_by else None,
        incoming=[(one.units, one.expected_on) for one in purchasing.incoming([line.sku_id or 0])],
        orders=[_candidate(order) for order in (second, first) if order is not None],
    )  # fmt: skip
    with transaction.atomic():
        incident, made = OversellIncident.objects.get_or_create(
            line=line,
            defaults={
                "sku": line.sku, "order": second, "rival": first, "listing": listing, "units": line.short,
                "hop": verdict.hop, "hop_ms": verdict.ms, "why": why[:255],
                "timeline": _timeline(times, listing, first, second, _received(second)),
                "remedies": [
                    {"kind": way.kind, "cost": str(way.cost), "text": way.text} for way in ways
                ],
            },
        )  # fmt: skip
        if made:
            raise_item(
                "oversell", f"oversell:{line.pk}", f"{line.sku.code}: {line.short} sold twice",
                detail=f"{why}. Cheapest way out: {ways[0].text}." if ways else why,
                severity=ExceptionItem.Severity.URGENT, object_url=f"/channels/oversells/{incident.pk}/",
                channel_code=second.channel.code, due_at=second.ship_by,
            )  # fmt: skip
    return incident


def _listing_of(account: ChannelAccount, line: OrderLine) -> Listing | None:
    rows = Listing.objects.filter(account=account, sku=line.sku_id, fulfilment=Listing.Fulfilment.MERCHANT)
    return rows.filter(external_sku=line.external_sku).order_by("pk").first() or rows.order_by("pk").first()


def _was_shown(listing: Listing, at: dt.datetime) -> bool:
    """Whether the channel showed units at some time in the day before the sale."""
    recent = StockPush.objects.filter(listing=listing, state=StockPush.State.ACKED, answered_at__lte=at)
    before = recent.order_by("-answered_at").values_list("quantity", flat=True).first()
    day = recent.filter(answered_at__gte=at - dt.timedelta(days=1), quantity__gt=0).exists()
    return bool(before and before > 0) or day or (before is None and (listing.read_quantity or 0) > 0)


def _last_taker(line: OrderLine) -> StockMovement | None:
    """The movement that took the last units before this line was booked."""
    own = f"{line.order.number}/"
    for movement in StockMovement.objects.filter(
        sku=line.sku_id, created_at__lte=line.order.imported_at
    ).order_by("-pk")[:20]:
        falls = movement.quantity > 0 if movement.bucket == "reserved" else movement.quantity < 0
        takes = movement.bucket == "reserved" or movement.kind != StockMovement.Kind.SHIP
        if falls and takes and not movement.reference.startswith(own):
            return movement
    return None


def _order_of(movement: StockMovement | None) -> Order | None:
    if movement is None or movement.kind != StockMovement.Kind.RESERVE or "/" not in movement.reference:
        return None
    line_id = movement.reference.rpartition("/")[2]
    if not line_id.isdigit():
        return None
    found = OrderLine.objects.filter(pk=int(line_id)).select_related("order__channel").first()
    return found.order if found else None


def _received(order: Order) -> dt.datetime | None:
    account = ChannelAccount.objects.filter(sales_channel=order.channel_id).first()
    if account is None:
        return None
    told = InboxMessage.objects.filter(account=account, external_id=order.external_id).order_by("received_at")
    return told.values_list("received_at", flat=True).first() or order.imported_at


def _push_after(listing: Listing, movement: StockMovement | None) -> StockPush | None:
    """The first push to the listing that carried the change."""
    if movement is None:
        return None
    carried = StockPush.objects.filter(listing=listing, sent_at__gte=movement.created_at).order_by(
        "sent_at", "pk"
    )
    return carried.filter(state=StockPush.State.ACKED).first() or carried.first()


def _why_not_told(listing: Listing, account: ChannelAccount) -> str:
    if account.pushes_paused_at:
        return f"its pushes are paused ({account.pause_reason})"
    if account.state != ChannelAccount.State.CONNECTED:
        return "its account is not connected"
    if listing.dead or listing.last_error:
        return f"it refused the figure ({listing.last_error[:80]})"
    return ""


def _elsewhere(line: OrderLine) -> dict[str, int]:
    """Available units in warehouses that do not serve the channel."""
    serving = ChannelWarehouse.objects.filter(channel=line.order.channel_id, fulfils=True).values("warehouse")
    levels = StockLevel.objects.filter(sku=line.sku_id, warehouse__is_active=True).exclude(
        warehouse__in=serving
    )
    return {
        level.warehouse.code: level.available
        for level in levels.select_related("warehouse")
        if level.available > 0
    }


def _candidate(order: Order) -> Candidate:
    account = ChannelAccount.objects.filter(sales_channel=order.channel_id).first()
    return Candidate(
        order.number, order.channel.name, account.connector if account else "", (order.total * order.fx_rate)
    )


def _timeline(
    times: Times, listing: Listing, first: Order | None, second: Order, second_received: dt.datetime | None
) -> list[dict[str, Any]]:
    """What happened, in order, with milliseconds since the first sale."""
    pushes = StockPush.objects.filter(
        listing__sku=listing.sku_id, sent_at__gte=(times.first_sold or times.second_sold) - dt.timedelta(minutes=5),
        sent_at__lte=now(),
    ).select_related("listing__account__sales_channel").order_by("sent_at")[:40]  # fmt: skip
    name, shop = (first.number, first.channel.name) if first else ("Stock", "")
    events: list[tuple[dt.datetime, str]] = [
        (at, text)
        for at, text in (
            (
                times.first_sold,
                f"{name}: a buyer buys on {shop}",
            ),
            (times.first_received, f"{name}: the channel's news reaches us"),
            (times.first_booked, f"{name}: the last units are taken"),
            (times.second_sold, f"{second.number}: a buyer buys on {second.channel.name}"),
            (second_received, f"{second.number}: the channel's news reaches us"),
            (second.imported_at, f"{second.number}: stored, nothing is left"),
        )
        if at is not None
    ]
    for push in pushes:
        name = push.listing.account.sales_channel.name
        events.append((push.sent_at, f"{name}: {push.quantity} sent"))
        if push.answered_at is not None:
            events.append((push.answered_at, f"{name}: {push.quantity} {push.get_state_display().lower()}"))
    events.sort(key=lambda event: event[0])
    start = times.first_sold or events[0][0]
    return [{"at": at.isoformat(), "ms": _ms(start, at), "text": text} for at, text in events]
