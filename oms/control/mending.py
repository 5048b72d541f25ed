"""What can be done about an exception where it stands: the same POST that its own screen has, by its cause.

The cause's key names the object (`push:12`); an item whose object needs more than one click is only opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from channels.models import Drift
from oms.control.selectors import address
from oms.core.access import can
from oms.core.models import ExceptionItem


@dataclass(frozen=True)
class Mend:
    """A button: its words, where it posts, and what."""

    label: str
    url: str
    values: dict[str, Any] = field(default_factory=dict)


#: kind → (right, button, screen, posted values); the key's number is the screen's argument
_BY_KEY: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "push_dead": ("channels.manage", "Push again", "channels:retry", {}),
    "inbox_dead": ("channels.manage", "Read again", "channels:message", {"action": "replay"}),
    "effect_rejected": ("channels.manage", "Send again", "channels:effect", {"action": "retry"}),
    "oversell_unread": ("channels.manage", "Look again", "channels:look_again", {}),
    "no_route": ("orders.route", "Route again", "fulfillment:route_order", {}),
}
_SHIPMENT = re.compile(r"^/shipments/(\d+)")


def mends(items: Iterable[ExceptionItem], principal: Any) -> dict[int, Mend]:
    """By the item's id. At most one query more, for drifts."""
    items = [item for item in items if item.closed_at is None]
    drifting = {number for item in items if item.kind == "drift" and (number := _number(item)) is not None}
    drifts = (
        dict(Drift.objects.filter(listing__in=drifting, closed_at=None).values_list("listing", "pk"))
        if drifting
        else {}
    )
    found = {item.pk: _mend(item, principal, drifts) for item in items}
    return {pk: mend for pk, mend in found.items() if mend is not None and mend.url}


def _number(item: ExceptionItem) -> int | None:
    tail = item.dedup_key.rpartition(":")[2]
    return int(tail) if tail.isascii() and tail.isdigit() else None


def _mend(item: ExceptionItem, principal: Any, drifts: dict[int, int]) -> Mend | None:
    number = _number(item)
    if number is None:
        return None
    where = {"warehouse_code": item.warehouse_code or None, "channel_code": item.channel_code or None}
    if known := _BY_KEY.get(item.kind):
        right, label, name, values = known
        return Mend(label, address(name, number), values) if can(principal, right, **where) else None
    if item.kind == "drift" and number in drifts:
        may = can(principal, "channels.manage", **where)
        return Mend("Push ours", address("channels:heal", drifts[number])) if may else None
    shipment = _SHIPMENT.match(item.url)
    if (
        shipment
        and item.kind in ("label_failed", "void_failed")
        and can(principal, "shipping.label", **where)
    ):
        if item.kind == "label_failed":
            return Mend("Buy again", address("fulfillment:step", int(shipment[1]), "label"))
        return Mend("Void again", address("fulfillment:step", int(shipment[1]), "void"), {"label": number})
    return None
