"""The order's state machine as a table, and the rule that derives the state from what is true.

Nobody sets a state by hand: line counts, payment and routing decide it, so that late and repeated
messages end in the same place. The table is the second lock: a move it does not know is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from oms.core.errors import Conflict
from oms.orders.models import Order

S = Order.State

#: the state an order may move to, by the state it is in
ORDER: dict[str, frozenset[str]] = {
    S.PENDING: frozenset({S.OPEN, S.PART_SHIPPED, S.SHIPPED, S.DELIVERED, S.CANCELLED}),
    S.OPEN: frozenset({S.PENDING, S.ROUTED, S.PART_SHIPPED, S.SHIPPED, S.DELIVERED, S.CANCELLED}),
    S.ROUTED: frozenset({S.PENDING, S.OPEN, S.PART_SHIPPED, S.SHIPPED, S.DELIVERED, S.CANCELLED}),
    S.PART_SHIPPED: frozenset({S.SHIPPED, S.DELIVERED}),
    S.SHIPPED: frozenset({S.DELIVERED, S.PART_SHIPPED}),  # back when the channel adds a line
    S.DELIVERED: frozenset({S.PART_SHIPPED}),
    # a channel may take a cancellation back; what we cancelled ourselves stays cancelled
    S.CANCELLED: frozenset({S.PENDING, S.OPEN, S.PART_SHIPPED, S.SHIPPED, S.DELIVERED}),
}

#: states in which units may still leave the house
LIVE = (S.PENDING, S.OPEN, S.ROUTED, S.PART_SHIPPED)
#: states that need nothing more
FINAL = (S.SHIPPED, S.DELIVERED, S.CANCELLED)


@dataclass(frozen=True, slots=True)
class LineCounts:
    """Units of one product line; fees and services take no part."""

    quantity: int
    shipped: int
    cancelled: int


def derive(lines: Iterable[LineCounts], *, paid: bool, routed: bool, delivered: bool, cancelled: bool) -> str:
    """The state that follows from the facts (pure).

    `routed` says that routing has placed what is reserved. `cancelled` and `delivered` say what the
    channel or a carrier told; they decide alone only for an order without product lines.
    """
    ordered = shipped = gone = 0
    for line in lines:
        ordered += line.quantity
        shipped += line.shipped
        gone += line.cancelled
    outstanding = ordered - shipped - gone
    if not ordered:  # fees only: nothing to ship
        return S.CANCELLED if cancelled else S.DELIVERED if delivered else S.SHIPPED if paid else S.PENDING
    if not outstanding:
        if not shipped:
            return S.CANCELLED
        return S.DELIVERED if delivered else S.SHIPPED
    if shipped:
        return S.PART_SHIPPED
    if not paid:
        return S.PENDING
    return S.ROUTED if routed else S.OPEN


def check(number: str, now: str, to: str) -> None:
    """Raise `Conflict` with a sentence when an order may not go from state `now` to `to`."""
    if now != to and to not in ORDER[now]:
        allowed = ", ".join(sorted(ORDER[now])) or "nothing: it is final"
        raise Conflict(
            f"{number} is {now} and cannot become {to}; allowed from here: {allowed}.", field="state"
        )
