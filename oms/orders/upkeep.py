"""What every change of an order ends with: derived state, counters, deletion date, news.

`lock()` comes first in every service that changes an order: the order row is the lock under which its
lines, holds and allocations are read and written. Order rows are always locked before stock rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Count, F

from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import NotFound
from oms.core.outbox import emit_many
from oms.orders import holding, states, timeline
from oms.orders.models import Hold, Order, OrderContact, OrderEvent, OrderLine, SalesChannel

News = tuple[str, str, dict[str, Any]]


def lock(order_id: int) -> Order:
    """Lock one order for this transaction and return it. Raises `NotFound`."""
    # a write first: on SQLite too, a reader that becomes a writer must not meet a rival half-way
    if not Order.objects.filter(pk=order_id).update(version=F("version") + 1):
        raise NotFound(f"order: there is no order with id {order_id}.", field="order")
    return Order.objects.select_related("channel").get(pk=order_id)


def lock_many(order_ids: Iterable[int]) -> list[Order]:
    """Lock several orders in ascending id order; ids that do not exist are left out."""
    rows = (
        Order.objects.filter(pk__in=set(order_ids))
        .select_related("channel")
        .order_by("pk")
        .select_for_update(of=("self",), no_key=True)
    )
    return list(rows)


def settle(
    order: Order,
    *,
    actor: Actor,
    routed: bool | None = None,
    changed: Iterable[str] = (),
    reroute: bool = False,
    at: dt.datetime | None = None,
) -> str:
    """Bring a locked order in line with its lines and holds, save it and tell the floors above.

    `routed` True after routing placed everything, False when something new waits to be placed, None to
    keep what is. `reroute` asks routing to look even if the order was routable before. Returns the state.
    """
    settle_many([order], actor=actor, routed=routed, changed=changed, reroute=reroute, at=at)
    return order.state


#: what `settle` derives and stores
_DERIVED = (
    "state", "short_units", "unmapped_lines", "holds_open", "cancelled_at", "cancel_reason", "shipped_at",
    "delivered_at",
)  # fmt: skip


def settle_many(
    orders: Sequence[Order],
    *,
    actor: Actor,
    routed: bool | None = None,
    changed: Iterable[str] = (),
    reroute: bool = False,
    at: dt.datetime | None = None,
) -> None:
    """`settle` for locked orders to which the same happened, with a handful of statements."""
    moment, parts = at or now(), sorted(set(changed))
    lines: dict[int, list[OrderLine]] = {order.pk: [] for order in orders}
    for line in OrderLine.objects.filter(order__in=lines):
        lines[line.order_id].append(line)
    holds = dict(
        Hold.objects.filter(order__in=lines, released_at__isnull=True)
        .order_by()
        .values_list("order")
        .annotate(Count("pk"))
    )
    news: list[News] = []
    events: list[OrderEvent] = []
    alike: dict[tuple[Any, ...], list[int]] = {}
    for order in orders:
        was_routable, before = holding.routable(order), order.state
        _derive(order, lines[order.pk], holds.get(order.pk, 0), routed, moment)
        alike.setdefault(tuple(getattr(order, name) for name in _DERIVED), []).append(order.pk)
        key = str(order.pk)
        news.append(("order.changed", key, {"changed": parts}))
        if before != order.state:
            text = f"{Order.State(before).label} → {Order.State(order.state).label}"
            data = {"before": before, "after": order.state}
            events.append(timeline.entry(order.pk, "state", text, actor=actor, data=data))
            if order.state == Order.State.CANCELLED:
                news.append(("order.cancelled", key, {}))
            if order.state in states.FINAL:
                set_pii_expiry(order)
        if holding.routable(order) and (reroute or not was_routable):
            news.append(("order.route", key, {}))
    for values, ids in alike.items():
        Order.objects.filter(pk__in=ids).update(**dict(zip(_DERIVED, values, strict=True)))
    timeline.write(events)
    emit_many(news)


def _derive(
    order: Order, lines: Sequence[OrderLine], holds: int, routed: bool | None, moment: dt.datetime
) -> None:
    """State and counters as they follow from the lines. Raises `Conflict` for a step the state may not take."""
    before = order.state
    goods = [line for line in lines if line.kind == OrderLine.Kind.PRODUCT]
    order.state = states.derive(
        (states.LineCounts(line.quantity, line.shipped, line.cancelled) for line in goods),
        paid=before != Order.State.PENDING,
        routed=before == Order.State.ROUTED if routed is None else routed,
        delivered=order.delivered_at is not None,
        cancelled=order.cancelled_at is not None,
    )
    states.check(order.number, before, order.state)
    order.short_units = sum(line.short for line in lines)
    order.unmapped_lines = sum(1 for line in goods if line.sku_id is None and line.outstanding)
    order.holds_open = holds
    if order.state == Order.State.CANCELLED:
        order.cancelled_at = order.cancelled_at or moment
    if order.state in (Order.State.SHIPPED, Order.State.DELIVERED):
        order.shipped_at = order.shipped_at or moment


def set_pii_expiry(order: Order) -> None:
    """Write when the buyer's data of a finished order must be erased."""
    expires = pii_expiry(order, order.channel)
    OrderContact.objects.filter(order=order, erased_at__isnull=True).update(expires_at=expires)


def unmapped_key(channel: SalesChannel, code: str) -> str:
    """Dedup key of the exception item for an unknown code of a channel."""
    return f"unmapped:{channel.code}:{code.upper()}"[:160]


def pii_expiry(order: Order, channel: SalesChannel) -> dt.datetime | None:
    """When the buyer's data must go: the channel's days after delivery, shipping or cancellation, whichever is known.

    Without proof of delivery the earlier date counts: deleting early breaks no policy, deleting late does.
    """
    end = order.delivered_at or order.shipped_at or order.cancelled_at
    if channel.pii_days is None or end is None:
        return None
    return end + dt.timedelta(days=channel.pii_days)
