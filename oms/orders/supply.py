"""What orders lack, told to the floor below that buys it."""

from __future__ import annotations

from collections import Counter

from django.db.models import F, Sum

from inventory import selectors
from oms.core.actor import Actor
from oms.orders import holding, states
from oms.orders.models import OrderLine
from procurement import planner


def short_units() -> dict[int, int]:
    """Short units of live orders per SKU, kits counted as their components."""
    rows = dict(
        OrderLine.objects.filter(short__gt=0, order__state__in=states.LIVE, sku__isnull=False)
        .values_list("sku")
        .annotate(units=Sum(F("short") * F("pack_size")))
    )
    parts = selectors.kit_parts(sorted(rows))
    found: Counter[int] = Counter()
    for sku_id, units in rows.items():
        for component, per_kit in parts.get(sku_id) or [(sku_id, 1)]:
            found[component] += units * per_kit
    return dict(found)


def short_by_place() -> dict[tuple[int, int], int]:
    """The same per (SKU id, id of the warehouse that serves the order's channel first; 0 where none does)."""
    rows = (
        OrderLine.objects.filter(short__gt=0, order__state__in=states.LIVE, sku__isnull=False)
        .values_list("sku_id", "order__channel_id")
        .annotate(units=Sum(F("short") * F("pack_size")))
    )
    parts = selectors.kit_parts(sorted({sku_id for sku_id, _, _ in rows}))
    first: dict[int, int] = {}
    found: Counter[tuple[int, int]] = Counter()
    for sku_id, channel, units in rows:
        if channel not in first:
            first[channel] = next(iter(holding.candidates(channel)), 0)
        for component, per_kit in parts.get(sku_id) or [(sku_id, 1)]:
            found[component, first[channel]] += units * per_kit
    return dict(found)


def plan_reorders(*, actor: Actor) -> Counter[str]:
    """Bring the reorder suggestions in line with demand, stock, supply and backorders of this moment."""
    return planner.suggest(backorders=short_by_place(), actor=actor)
