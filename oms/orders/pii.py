"""Buyer data goes when its time is over; the order and its figures stay."""

from __future__ import annotations

import datetime as dt

from django.db import transaction

from oms.core.actor import Actor, task_actor
from oms.core.clock import now
from oms.orders import timeline
from oms.orders.models import Order, OrderContact

#: an area, not an address
POSTAL_KEEP = 3


def erase(*, at: dt.datetime | None = None, limit: int = 500, actor: Actor | None = None) -> int:
    """Erase the contacts whose date has come; returns how many. Harmless to repeat."""
    moment = at or now()
    due = OrderContact.objects.filter(expires_at__lte=moment, erased_at__isnull=True).order_by("expires_at")
    return erase_orders(
        list(due.values_list("order_id", flat=True)[:limit]), actor=actor or task_actor("erase")
    )


def erase_orders(order_ids: list[int], *, actor: Actor) -> int:
    """Erase the buyer data of these orders now, for example because a channel asks for it. Returns how many."""
    done = 0
    for start in range(0, len(order_ids), 100):
        with transaction.atomic():
            orders = list(
                Order.objects.select_for_update(of=("self",), no_key=True)
                .filter(
                    pk__in=order_ids[start : start + 100],
                    contact__erased_at__isnull=True,
                    contact__isnull=False,
                )
                .order_by("pk")
            )
            ids = [order.pk for order in orders]
            OrderContact.objects.filter(order__in=ids).update(data={}, told=None, erased_at=now())
            for order in orders:
                order.ship_name, order.ship_city = "", ""
                order.ship_postal = order.ship_postal[:POSTAL_KEEP]
            Order.objects.bulk_update(orders, ["ship_name", "ship_city", "ship_postal"])
            timeline.write(timeline.entry(pk, "privacy", "Buyer data erased", actor=actor) for pk in ids)
            done += len(ids)
    return done
