"""The life of a shipment and of a label purchase, as tables."""

from __future__ import annotations

from fulfillment.models import LabelPurchase, Shipment
from oms.core.errors import Conflict

S = Shipment.State

SHIPMENT: dict[str, frozenset[str]] = {
    S.READY: frozenset({S.PICKING, S.PACKED, S.CANCELLED}),
    S.PICKING: frozenset({S.READY, S.PACKED, S.CANCELLED}),
    S.PACKED: frozenset({S.PICKING, S.LABELLED, S.CANCELLED}),
    S.LABELLED: frozenset({S.PACKED, S.SHIPPED}),
    S.SHIPPED: frozenset({S.DELIVERED}),
    S.DELIVERED: frozenset(),
    S.CANCELLED: frozenset(),
}
#: a shipment in these states still holds its units
OPEN = frozenset({S.READY, S.PICKING, S.PACKED, S.LABELLED})

L = LabelPurchase.State
LABEL: dict[str, frozenset[str]] = {
    L.REQUESTED: frozenset({L.PURCHASED, L.REJECTED, L.UNKNOWN}),
    L.UNKNOWN: frozenset({L.PURCHASED, L.VOID_PENDING, L.NOT_BOUGHT}),
    L.PURCHASED: frozenset({L.VOID_PENDING}),
    L.VOID_PENDING: frozenset({L.VOID, L.PURCHASED}),
    L.VOID: frozenset(),
    L.REJECTED: frozenset(),
    L.NOT_BOUGHT: frozenset(),
}


def check(table: dict[str, frozenset[str]], what: str, now: str, to: str) -> None:
    """Raise `Conflict` with a sentence when `what` may not go from state `now` to `to`."""
    if to not in table[now]:
        allowed = ", ".join(sorted(table[now])) or "nothing: it is final"
        raise Conflict(
            f"{what} is {now} and cannot become {to}; allowed from here: {allowed}.", field="state"
        )
