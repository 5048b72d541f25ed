"""What must always be true of orders."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce

from oms.core.clock import now
from oms.core.invariants import invariant
from oms.orders import holding, states
from oms.orders.models import Allocation, Hold, Order, OrderContact, OrderLine


@invariant("O1", "an order is stored once per channel and external id, a line once per order and external id")
def stored_once() -> Iterator[str]:
    orders = Order.objects.values("channel", "external_id").annotate(n=Count("id")).filter(n__gt=1)
    for row in orders.order_by():
        yield f"order {row['external_id']} of channel {row['channel']} is stored {row['n']} times"
    lines = OrderLine.objects.values("order", "external_id").annotate(n=Count("id")).filter(n__gt=1)
    for twin in lines.order_by():
        yield f"line {twin['external_id']} of order {twin['order']} is stored {twin['n']} times"


@invariant(
    "O2",
    "per line ordered = reserved + shipped + cancelled + short + unallocated, and reserved is really held",
)
def line_counts() -> Iterator[str]:
    wrong = OrderLine.objects.filter(quantity__lt=F("reserved") + F("shipped") + F("cancelled") + F("short"))
    for line in wrong.iterator():
        yield f"line {line.pk}: {line.quantity} ordered is less than its parts"
    held = (
        Allocation.objects.filter(reservation__quantity__gt=0)
        .values("line")
        .annotate(held=Sum("reservation__quantity"))
        .order_by("line")
    )
    suspects: set[int] = set(OrderLine.objects.filter(reserved__gt=0).values_list("pk", flat=True))
    suspects |= {row["line"] for row in held}
    ids = sorted(suspects)
    for start in range(0, len(ids), 1000):
        chunk = ids[start : start + 1000]
        parts = holding.parts_by_line(chunk)
        for line in OrderLine.objects.filter(pk__in=chunk):
            covered, shipped = holding.coverage(parts.get(line.pk, []))
            if covered - shipped != line.reserved:
                yield f"line {line.pk} says {line.reserved} reserved, its reservations hold {covered - shipped}"
            elif extra := holding.surplus(parts.get(line.pk, []), line.reserved):
                yield f"line {line.pk} holds more than it needs: {extra}"


@invariant("O2b", "an order's counters (short, unmapped, holds) equal its lines and holds")
def counters() -> Iterator[str]:
    live = Order.objects.filter(Q(state__in=states.LIVE) | Q(short_units__gt=0) | Q(holds_open__gt=0))
    summed = live.annotate(
        short=Coalesce(Sum("lines__short"), 0),
    )
    for order in summed.exclude(short=F("short_units")).iterator():
        yield f"order {order.pk} says {order.short_units} short, its lines {order.short}"
    held = live.annotate(held=Count("holds", filter=Q(holds__released_at__isnull=True)))
    for owner in held.exclude(held=F("holds_open")).iterator():
        yield f"order {owner.pk} says {owner.holds_open} holds, {owner.held} are open"
    for hold in Hold.objects.filter(released_at__isnull=True, order__holds_open=0):
        yield f"hold {hold.pk} is open, but its order counts none"


@invariant(
    "O3", "a finished or cancelled order holds no open reservation, and every state follows from its lines"
)
def finished_orders_hold_nothing() -> Iterator[str]:
    rows = Allocation.objects.filter(reservation__quantity__gt=0, line__order__state__in=states.FINAL)
    for allocation in rows.select_related("line").iterator():
        yield f"order {allocation.line.order_id} is finished but reservation {allocation.reservation_id} is open"
    goods = Q(lines__kind=OrderLine.Kind.PRODUCT)
    sums = Order.objects.annotate(
        ordered=Coalesce(Sum("lines__quantity", filter=goods), 0),
        sent=Coalesce(Sum("lines__shipped", filter=goods), 0),
        gone=Coalesce(Sum("lines__cancelled", filter=goods), 0),
    ).filter(ordered__gt=0)
    for order in sums.filter(state__in=states.FINAL).exclude(ordered=F("sent") + F("gone")).iterator():
        yield f"order {order.pk} is {order.state} but has units to ship"
    for order in sums.filter(state__in=states.LIVE, ordered=F("sent") + F("gone")).iterator():
        yield f"order {order.pk} is {order.state} but has nothing left to ship"


@invariant("D1", "no buyer data beyond the channel's time")
def no_old_buyer_data() -> Iterator[str]:
    # a day of grace: the erasing task runs every hour, a restored backup catches up within it
    late = now() - dt.timedelta(days=1)
    for contact in OrderContact.objects.filter(erased_at__isnull=True, expires_at__lt=late).iterator():
        yield f"order {contact.order_id}: buyer data should have been erased at {contact.expires_at}"
    forgotten = OrderContact.objects.filter(
        erased_at__isnull=True,
        expires_at__isnull=True,
        order__state__in=states.FINAL,
        order__channel__pii_days__isnull=False,
    )
    for contact in forgotten.iterator():
        yield f"order {contact.order_id} is finished, but its buyer data has no date"
