"""Listings that sell what is on order instead of stock: which of them show another figure now."""

from __future__ import annotations

from collections.abc import Iterable

from channels.models import Listing
from channels.pushing import mark_listings
from inventory.selectors import kit_parts, kits_containing


def any_listing() -> bool:
    """Whether any listing sells what is on order: most houses have none, and each event asks."""
    return Listing.objects.filter(preorder_percent__isnull=False).exists()


def mark(sku_ids: Iterable[int]) -> int:
    """Make those of them stale that sell one of the SKUs, a kit with it, or a part of it. Returns how many."""
    wanted = set(sku_ids)
    wanted |= {part for parts in kit_parts(wanted).values() for part, _ in parts}
    wanted |= {kit for kits in kits_containing(wanted).values() for kit in kits}
    return mark_listings(
        Listing.objects.filter(
            sku__in=wanted, preorder_percent__isnull=False, fulfilment=Listing.Fulfilment.MERCHANT
        ).exclude(state=Listing.State.ENDED)
    )
