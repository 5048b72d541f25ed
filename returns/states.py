"""The two state machines of returns as tables: goods (RMA) and money (refund)."""

from __future__ import annotations

from oms.core.errors import Conflict
from returns.models import Refund, Rma

RMA: dict[str, frozenset[str]] = {
    Rma.State.REQUESTED: frozenset({Rma.State.APPROVED, Rma.State.DECLINED}),
    Rma.State.APPROVED: frozenset({Rma.State.PART_RECEIVED, Rma.State.RECEIVED, Rma.State.CLOSED}),
    Rma.State.PART_RECEIVED: frozenset({Rma.State.RECEIVED, Rma.State.INSPECTED, Rma.State.CLOSED}),
    Rma.State.RECEIVED: frozenset({Rma.State.INSPECTED}),
    Rma.State.INSPECTED: frozenset({Rma.State.CLOSED, Rma.State.PART_RECEIVED, Rma.State.RECEIVED}),
    Rma.State.CLOSED: frozenset(),
    Rma.State.DECLINED: frozenset(),
}

REFUND: dict[str, frozenset[str]] = {
    Refund.State.DRAFT: frozenset({Refund.State.PLANNED}),
    Refund.State.PLANNED: frozenset({Refund.State.SENT, Refund.State.REJECTED, Refund.State.CONFIRMED}),
    Refund.State.SENT: frozenset({Refund.State.CONFIRMED, Refund.State.IN_DOUBT, Refund.State.REJECTED}),
    Refund.State.IN_DOUBT: frozenset({Refund.State.CONFIRMED, Refund.State.REJECTED, Refund.State.PLANNED}),
    Refund.State.CONFIRMED: frozenset(),
    Refund.State.REJECTED: frozenset({Refund.State.PLANNED}),
}


def check(table: dict[str, frozenset[str]], what: str, now: str, to: str) -> None:
    """Raise `Conflict` with a sentence when `what` may not go from state `now` to `to`."""
    if to not in table[now]:
        allowed = ", ".join(sorted(table[now])) or "nothing: it is final"
        raise Conflict(
            f"{what} is {now} and cannot become {to}; allowed from here: {allowed}.", field="state"
        )
