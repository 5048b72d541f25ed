"""Which warehouses may serve at all; for each that may not, the filter it failed and how people say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fulfillment.routing.model import LineView, OrderView, WarehouseView


class Loss(NamedTuple):
    """Where a warehouse fell out: the filter or criterion, and the words for it."""

    on: str
    why: str


def for_order(warehouse: WarehouseView, order: OrderView, wish: Mapping[str, Any]) -> Loss | None:
    """The first filter that takes a warehouse out for the whole order; None when it stays."""
    if not warehouse.active:
        return Loss("inactive", "it is inactive")
    if warehouse.kind == "virtual":
        return Loss("kind", "it is virtual, nothing leaves from it")
    if not warehouse.fulfils:
        return Loss("channel", f"it may not serve {order.channel_name or order.channel}")
    if wish.get("only") and warehouse.code not in wish["only"]:
        return Loss("rule", f"a rule allows only {', '.join(wish['only'])}")
    if warehouse.code in wish.get("exclude", ()):
        return Loss("rule", "a rule excludes it")
    if warehouse.rejected:
        return Loss("rejected", "it rejected this order before")
    if warehouse.closed:
        return Loss("closed", f"it is closed: {warehouse.closed}")
    if warehouse.ship_day is None:
        return Loss("closed", "it is closed")
    if warehouse.capacity_left is not None and warehouse.capacity_left <= 0:
        return Loss("capacity", f"it is at capacity for the day ({warehouse.ship_day})")
    return None


def for_line(warehouse: WarehouseView, line: LineView) -> Loss | None:
    """The filter that takes a warehouse out for one line; None when it stays.

    A marketplace's own pool serves nobody else, except FBA units of SKUs with multi-channel fulfilment on.
    """
    if warehouse.kind == "wfs":
        return Loss("pool", "WFS stock serves Walmart's own orders only")
    if warehouse.kind == "fba" and not line.mcf_allowed:
        return Loss("pool", "FBA stock (multi-channel fulfilment is off)")
    if warehouse.code in line.rejected:
        return Loss("rejected", f"it rejected {line.sku} before")
    return None


def full_stock_at(order: OrderView, warehouses: Sequence[WarehouseView]) -> tuple[str, ...]:
    """Warehouses whose stock alone covers every line, equal SKUs of several lines added up."""
    need: dict[str, int] = {}
    for line in order.lines:
        for sku, per_unit in line.parts:
            need[sku] = need.get(sku, 0) + per_unit * line.quantity
    full = (w.code for w in warehouses if all(w.stock.get(sku, 0) >= units for sku, units in need.items()))
    return tuple(sorted(full))
