"""The order's timeline: one readable line per step, never edited. Buyer data never goes in here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.inserts import insert_rows
from oms.orders.models import OrderEvent


def entry(
    order_id: int,
    kind: str,
    text: str,
    *,
    actor: Actor,
    data: Mapping[str, Any] | None = None,
    at: dt.datetime | None = None,
) -> OrderEvent:
    """An unsaved timeline line, for callers that write many at once with `write()`."""
    return OrderEvent(
        order_id=order_id,
        at=at or now(),
        kind=kind[:30],
        text=text[:400],
        actor=str(actor),
        data=dict(data or {}),
    )


def write(entries: Iterable[OrderEvent]) -> None:
    """Save lines made with `entry()` in one statement."""
    insert_rows(list(entries))


def add(
    order_id: int, kind: str, text: str, *, actor: Actor, data: Mapping[str, Any] | None = None
) -> OrderEvent:
    """Write one line. `kind` is a short word such as routed, hold, return; `text` is what a person reads."""
    line = entry(order_id, kind, text, actor=actor, data=data)
    line.save(force_insert=True)
    return line
