"""What is on its way in, from whoever knows: transfers here, purchase orders on the floor above.

A floor above registers a provider; stock asks all of them and never learns who they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping

from django.db.models import Sum

from inventory.models import StockLevel

Pair = tuple[int, int]  # (SKU id, warehouse id)
Provider = Callable[[Collection[int]], Mapping[Pair, int]]
_providers: dict[str, Provider] = {}


def incoming_provider(name: str) -> Callable[[Provider], Provider]:
    """Declare a source of incoming units: SKU ids → eaches per (SKU id, warehouse id)."""

    def register(provider: Provider) -> Provider:
        _providers[name] = provider
        return provider

    return register


@incoming_provider("transfers")
def in_transit(sku_ids: Collection[int]) -> dict[Pair, int]:
    rows = StockLevel.objects.filter(sku__in=sku_ids, in_transit__gt=0).order_by()
    found = rows.values_list("sku_id", "warehouse_id").annotate(units=Sum("in_transit"))
    return {(sku, warehouse): units for sku, warehouse, units in found}


def incoming(sku_ids: Collection[int]) -> dict[Pair, int]:
    """Units on their way to each warehouse: open purchase orders and transfers, in eaches. One query per source."""
    total: Counter[Pair] = Counter()
    for provider in _providers.values():
        total.update(provider(sku_ids))
    return dict(total)
