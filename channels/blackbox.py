"""The black box of an oversell: who was slow, told in milliseconds, and what mends it most cheaply.

A channel's order that comes in short of a SKU which the channel was shown as in stock was sold twice. The sale that
took the last units and the one that came too late stand side by side with the pushes between them; the hop that
took the longest before the second sale is the guilty one.
"""

from __future__ import annotations

import bisect
import datetime as dt
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Min, OuterRef, Q, Subquery

from channels import penalties
from channels.models import (
    ChannelAccount,
    InboxMessage,
    Listing,
    OversellIncident,
    OversellSuspect,
    StockPush,
)
from inventory.models import StockLevel, StockMovement
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.db import lost_conflict, on_postgres
from oms.core.doorbell import ring
from oms.core.errors import NotFound
from oms.core.exceptions_inbox import close_item, close_items, raise_item, raise_new
from oms.core.inserts import insert_rows
from oms.core.models import ExceptionItem
from oms.orders.models import ChannelWarehouse, Order, OrderLine
from procurement import selectors as purchasing

log = logging.getLogger("lading.channels")

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

#: orders that are looked into at once
ORDERS = 200
#: a suspect that cannot be looked into is tried so often, with growing pauses, before a person is told
MAX_ATTEMPTS = 5
#: what one batch shares is read for orders that came in within the same hour
TOGETHER = dt.timedelta(hours=1)
#: the pushes shown in a timeline
SHOWN_PUSHES = 40
DAY = dt.timedelta(days=1)


def suspect(order_ids: Sequence[int]) -> int:
    """Remember those of these orders that a channel sold and that came in short; returns how many. Two statements.

    An order entered by hand may be short on purpose: only channels with an account count.
    """
    short = Order.objects.filter(pk__in=order_ids, short_units__gt=0, channel__account__isnull=False)
    found = list(short.order_by("pk").values_list("pk", flat=True))
    if found:
        OversellSuspect.objects.bulk_create(
            [OversellSuspect(order_id=pk) for pk in found], ignore_conflicts=True
        )
    return len(found)


def drain() -> int:
    """Look into every suspected order that is due, the oldest first; returns how many lines were sold twice.

    A suspect leaves the list in the transaction that writes its black box, so none is lost and none is told twice.
    One that cannot be looked into waits by itself.
    """
    told, last = 0, 0
    while True:
        waiting = OversellSuspect.objects.filter(pk__gt=last, next_attempt_at__lte=now()).order_by("pk")
        suspects = list(waiting[:ORDERS])
        if not suspects:
            return told
        last = suspects[-1].pk
        told += _look_into(suspects)


def _look_into(suspects: Sequence[OversellSuspect]) -> int:
    """Write the black boxes of these; where one of them breaks us, halves are tried until it is alone."""
    try:
        return _write(suspects)
    except Exception as error:
        if lost_conflict(error):
            raise  # no fault of theirs: the next turn is theirs
        if len(suspects) == 1:
            _put_off(suspects[0], error)
            return 0
    half = len(suspects) // 2
    return _look_into(suspects[:half]) + _look_into(suspects[half:])


def _write(suspects: Sequence[OversellSuspect]) -> int:
    found = _investigate([suspect.order_id for suspect in suspects])
    with transaction.atomic():
        mine = OversellSuspect.objects.filter(pk__in=[suspect.pk for suspect in suspects]).order_by("pk")
        if on_postgres():  # SQLite writes one transaction after the other
            mine = mine.select_for_update(skip_locked=True)
        orders = set(mine.values_list("order", flat=True))  # another worker may have been faster
        told = _store([incident for incident in found if incident.order_id in orders])
        OversellSuspect.objects.filter(order__in=orders).delete()
        failed = [suspect.order_id for suspect in suspects if suspect.attempts and suspect.order_id in orders]
        if failed:
            close_items([_key(order_id) for order_id in failed], "the black box is written")
    return told


def _key(order_id: int) -> str:
    return f"oversell-suspect:{order_id}"


def _put_off(suspect: OversellSuspect, error: Exception) -> None:
    """Try it again later; after five times a person is told, and it waits for that person."""
    attempts, words = suspect.attempts + 1, f"{type(error).__name__}: {error}"[:400]
    log.exception("a black box cannot be written", extra={"order": suspect.order_id, "attempts": attempts})
    given_up = attempts >= MAX_ATTEMPTS
    pause = dt.timedelta(seconds=30 * 2**attempts * random.uniform(0.8, 1.2))
    with transaction.atomic():
        OversellSuspect.objects.filter(pk=suspect.pk).update(
            attempts=attempts, error=words, next_attempt_at=None if given_up else now() + pause
        )
        if given_up:
            order = Order.objects.select_related("channel").get(pk=suspect.order_id)
            raise_item(
                "oversell_unread", _key(order.pk), f"{order.number}: why it came in short cannot be told",
                detail=f"{words}. The order itself is booked; only its black box is missing.",
                url=f"/orders/{order.number}/", channel_code=order.channel.code,
            )  # fmt: skip


def look_again(order_id: int, *, actor: Actor) -> None:
    """Look into a suspected order again that was given up. Raises `NotFound`."""
    with transaction.atomic():
        given_up = OversellSuspect.objects.filter(order=order_id, next_attempt_at__isnull=True)
        if not given_up.update(attempts=1, next_attempt_at=now(), error=""):
            raise NotFound("order: its black box does not wait for a person any more.", field="order")
        close_item(_key(order_id), "looked into again", actor=actor)
        ring("channels.tasks.find_oversells")


def _store(incidents: Sequence[OversellIncident]) -> int:
    lines = [incident.line_id for incident in incidents]
    known = set(OversellIncident.objects.filter(line__in=lines).values_list("line", flat=True))
    fresh = [incident for incident in incidents if incident.line_id not in known]
    if not fresh:
        return 0
    insert_rows(fresh)
    items = {}
    for one in fresh:
        cheapest = f". Cheapest way out: {one.remedies[0]['text']}." if one.remedies else ""
        items[f"oversell:{one.line_id}"] = {
            "kind": "oversell", "title": f"{one.sku.code}: {one.units} sold twice", "detail": one.why + cheapest,
            "severity": ExceptionItem.Severity.URGENT, "url": f"/channels/oversells/{one.pk}/",
            "channel_code": one.order.channel.code, "due_at": one.order.ship_by,
        }  # fmt: skip
    raise_new(items)
    return len(fresh)


def _investigate(order_ids: Sequence[int]) -> list[OversellIncident]:
    """The incidents of the lines of these orders that were sold although nothing was left, not stored yet.

    A line whose listing was never shown above zero is a backorder, not an oversell.
    """
    lines = OrderLine.objects.filter(
        order__in=order_ids, short__gt=0, sku__isnull=False, order__is_test=False, order__fulfilled_by="us",
        order__channel__account__isnull=False, oversell__isnull=True,
    ).select_related("order__channel__account", "sku").order_by("sku", "order__imported_at", "pk")  # fmt: skip
    alike: dict[tuple[int, int], list[OrderLine]] = {}
    for line in lines:
        hour = int(line.order.imported_at.timestamp() // TOGETHER.total_seconds())
        alike.setdefault((line.sku_id or 0, hour), []).append(line)
    found: list[OversellIncident] = []
    for (sku_id, _), group in alike.items():
        evidence = _Evidence(sku_id, group)
        found += [incident for line in group if (incident := _incident(line, evidence)) is not None]
    return found


def _incident(line: OrderLine, evidence: _Evidence) -> OversellIncident | None:
    second, account = line.order, line.order.channel.account
    listing = evidence.listing_of(line)
    if listing is None or not evidence.was_shown(listing, second.placed_at):
        return None
    if listing.preorder_percent is not None:
        return None  # it sold what is on order, and that is what the line waits for
    movement = evidence.last_taker(line)
    first = evidence.order_of(movement)
    push = evidence.push_after(listing, movement)
    reason = (
        _why_not_told(listing, account) if first is not None else (movement.kind if movement else "unknown")
    )
    times = Times(
        second_sold=second.placed_at,
        first_sold=first.placed_at if first else None,
        first_received=evidence.received(first) if first else None,
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
        line.short, elsewhere=evidence.elsewhere(second.channel_id),
        ship_by=second.ship_by.date() if second.ship_by else None, incoming=evidence.incoming,
        orders=[_candidate(order) for order in (second, first) if order is not None],
    )  # fmt: skip
    return OversellIncident(
        line=line, sku=line.sku, order=second, rival=first, listing=listing, units=line.short, hop=verdict.hop,
        hop_ms=verdict.ms, why=why[:255],
        timeline=_timeline(times, evidence.pushes_from(times), first, second, evidence.received(second)),
        remedies=[{"kind": way.kind, "cost": str(way.cost), "text": way.text} for way in ways],
    )  # fmt: skip


class _Evidence:
    """What the oversold lines of one SKU share, read once: the statements do not grow with the lines.

    `lines` are short lines of the SKU whose orders came in within an hour of each other, oldest first.
    """

    def __init__(self, sku_id: int, lines: Sequence[OrderLine]) -> None:
        self._sku_id = sku_id
        sold = [line.order.placed_at for line in lines]
        self._read_listings({line.order.channel.account.pk for line in lines}, min(sold), max(sold))
        self._read_takers(lines[0].order.imported_at, lines[-1].order.imported_at)
        self._told: dict[tuple[int, str], dt.datetime] = {}
        self._asked: set[int] = set()
        self._read_news([line.order for line in lines])
        self._orders: dict[int, Order | None] = {}
        self._carried: dict[tuple[int, int], StockPush | None] = {}
        self._pushes: dict[dt.datetime, list[StockPush]] = {}
        self.incoming = [(one.units, one.expected_on) for one in purchasing.incoming([sku_id])]
        levels = StockLevel.objects.filter(sku=sku_id, warehouse__is_active=True).select_related("warehouse")
        self._levels = [level for level in levels if level.available > 0]
        self._serving: dict[int, set[int]] = {}
        channels = {line.order.channel_id for line in lines}
        for channel_id, warehouse_id in ChannelWarehouse.objects.filter(
            channel__in=channels, fulfils=True
        ).values_list("channel", "warehouse"):
            self._serving.setdefault(channel_id, set()).add(warehouse_id)

    def _read_listings(self, accounts: set[int], first: dt.datetime, last: dt.datetime) -> None:
        rows = Listing.objects.filter(
            account__in=accounts, sku=self._sku_id, fulfilment=Listing.Fulfilment.MERCHANT
        )
        older = StockPush.objects.filter(
            listing=OuterRef("pk"), state=StockPush.State.ACKED, answered_at__lte=first - DAY
        ).order_by("-answered_at")
        self._listings: dict[int, list[Listing]] = {}
        self._older: dict[int, int | None] = {}
        for row in rows.annotate(older=Subquery(older.values("quantity")[:1])).order_by("pk"):
            self._listings.setdefault(row.account_id, []).append(row)
            self._older[row.pk] = row.older
        acked = StockPush.objects.filter(
            listing__in=self._older, state=StockPush.State.ACKED, answered_at__gt=first - DAY, answered_at__lte=last
        )  # fmt: skip
        self._shown: dict[int, list[tuple[dt.datetime, int]]] = {}
        self._positive: dict[int, list[dt.datetime]] = {}
        for listing_id, at, quantity in acked.order_by("answered_at", "pk").values_list(
            "listing", "answered_at", "quantity"
        ):
            assert at is not None  # the filter asked for those with an answer
            self._shown.setdefault(listing_id, []).append((at, quantity))
            if quantity > 0:
                self._positive.setdefault(listing_id, []).append(at)

    def _read_takers(self, first: dt.datetime, last: dt.datetime) -> None:
        """Movements that took units, the newest first, and the last ones before the first line was booked."""
        takes = Q(bucket="reserved", quantity__gt=0) | (
            ~Q(bucket="reserved") & Q(quantity__lt=0) & ~Q(kind=StockMovement.Kind.SHIP)
        )
        taken = StockMovement.objects.filter(takes, sku=self._sku_id).order_by("-created_at", "-pk")
        self._takers = list(taken.filter(created_at__gt=first, created_at__lte=last))
        self._takers += list(taken.filter(created_at__lte=first)[:20])

    def _read_news(self, orders: Sequence[Order]) -> None:
        """When the channel first told us of these orders."""
        told = InboxMessage.objects.filter(
            account__in={account.pk for order in orders if (account := _account_of(order))},
            external_id__in={order.external_id for order in orders},
        )
        for account_id, external_id, at in (
            told.order_by().values("account", "external_id").annotate(at=Min("received_at"))
            .values_list("account", "external_id", "at")
        ):  # fmt: skip
            self._told[account_id, external_id] = at
        self._asked |= {order.pk for order in orders}

    def listing_of(self, line: OrderLine) -> Listing | None:
        rows = self._listings.get(line.order.channel.account.pk, [])
        return next((row for row in rows if row.external_sku == line.external_sku), rows[0] if rows else None)

    def was_shown(self, listing: Listing, at: dt.datetime) -> bool:
        """Whether the channel showed units at some time in the day before the sale."""
        positive = self._positive.get(listing.pk, [])
        until = bisect.bisect_right(positive, at)
        if until and positive[until - 1] >= at - DAY:
            return True
        shown = self._shown.get(listing.pk, [])
        until = bisect.bisect_right(shown, at, key=lambda row: row[0])
        before = shown[until - 1][1] if until else self._older[listing.pk]
        return before > 0 if before is not None else (listing.read_quantity or 0) > 0

    def last_taker(self, line: OrderLine) -> StockMovement | None:
        """The movement that took the last units before this line was booked."""
        own, at = f"{line.order.number}/", line.order.imported_at
        before = bisect.bisect_left(
            self._takers, -at.timestamp(), key=lambda one: -one.created_at.timestamp()
        )
        return next((one for one in self._takers[before:] if not one.reference.startswith(own)), None)

    def order_of(self, movement: StockMovement | None) -> Order | None:
        """The order whose reservation it was."""
        if movement is None or movement.kind != StockMovement.Kind.RESERVE or "/" not in movement.reference:
            return None
        line_id = movement.reference.rpartition("/")[2]
        if not line_id.isdigit():
            return None
        if movement.pk not in self._orders:
            lines = OrderLine.objects.filter(pk=int(line_id)).select_related("order__channel__account")
            found = lines.first()
            self._orders[movement.pk] = found.order if found else None
        return self._orders[movement.pk]

    def received(self, order: Order) -> dt.datetime | None:
        account = _account_of(order)
        if account is None:
            return None
        if order.pk not in self._asked:
            self._read_news([order])
        return self._told.get((account.pk, order.external_id), order.imported_at)

    def push_after(self, listing: Listing, movement: StockMovement | None) -> StockPush | None:
        """The first push to the listing that carried the change."""
        if movement is None:
            return None
        key = (listing.pk, movement.pk)
        if key not in self._carried:
            rows = StockPush.objects.filter(listing=listing, sent_at__gte=movement.created_at)
            rows = rows.order_by("sent_at", "pk")
            self._carried[key] = rows.filter(state=StockPush.State.ACKED).first() or rows.first()
        return self._carried[key]

    def elsewhere(self, channel_id: int) -> dict[str, int]:
        """Available units in warehouses that do not serve the channel."""
        serving = self._serving.get(channel_id, set())
        return {
            level.warehouse.code: level.available
            for level in self._levels
            if level.warehouse_id not in serving
        }

    def pushes_from(self, times: Times) -> list[StockPush]:
        """What was told to every channel around the first sale, or around what lowered the stock."""
        start = times.first_sold or times.first_booked or times.second_sold.replace(second=0, microsecond=0)
        if start not in self._pushes:
            rows = StockPush.objects.filter(
                listing__sku=self._sku_id, sent_at__gte=start - dt.timedelta(minutes=5), sent_at__lte=now()
            ).select_related("listing__account__sales_channel")
            self._pushes[start] = list(rows.order_by("sent_at", "pk")[:SHOWN_PUSHES])
        return self._pushes[start]


def _account_of(order: Order) -> ChannelAccount | None:
    return getattr(order.channel, "account", None)


def _why_not_told(listing: Listing, account: ChannelAccount) -> str:
    if account.pushes_paused_at:
        return f"its pushes are paused ({account.pause_reason})"
    if account.state != ChannelAccount.State.CONNECTED:
        return "its account is not connected"
    if listing.dead or listing.last_error:
        return f"it refused the figure ({listing.last_error[:80]})"
    return ""


def _candidate(order: Order) -> Candidate:
    account = _account_of(order)
    return Candidate(
        order.number, order.channel.name, account.connector if account else "", (order.total * order.fx_rate)
    )


def _timeline(
    times: Times, pushes: Sequence[StockPush], first: Order | None, second: Order,
    second_received: dt.datetime | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """What happened, in order, with milliseconds since the first sale."""
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
