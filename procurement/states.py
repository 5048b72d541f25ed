"""The life of a purchase order as a table."""

from __future__ import annotations

from oms.core.errors import Conflict
from procurement.models import PurchaseOrder

S = PurchaseOrder.State

MOVES: dict[str, frozenset[str]] = {
    S.DRAFT: frozenset({S.APPROVED, S.CANCELLED}),
    S.APPROVED: frozenset({S.SENT, S.DRAFT, S.CANCELLED}),
    S.SENT: frozenset({S.CONFIRMED, S.PART_RECEIVED, S.RECEIVED, S.CLOSED, S.CANCELLED}),
    S.CONFIRMED: frozenset({S.PART_RECEIVED, S.RECEIVED, S.CLOSED, S.CANCELLED}),
    S.PART_RECEIVED: frozenset({S.RECEIVED, S.CLOSED}),
    S.RECEIVED: frozenset({S.CLOSED}),
    S.CLOSED: frozenset(),
    S.CANCELLED: frozenset(),
}
#: goods may arrive in these states
RECEIVABLE = frozenset({S.SENT, S.CONFIRMED, S.PART_RECEIVED})
#: open quantities count as incoming stock in these states
INCOMING = frozenset({S.APPROVED, S.SENT, S.CONFIRMED, S.PART_RECEIVED})


def check(order: PurchaseOrder, to: str) -> None:
    """Raise `Conflict` with a sentence when the order may not go to `to`."""
    if to not in MOVES[order.state]:
        allowed = ", ".join(sorted(MOVES[order.state])) or "nothing: it is final"
        raise Conflict(
            f"{order.number} is {order.state} and cannot become {to}; allowed: {allowed}.", field="state"
        )
