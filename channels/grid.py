"""Stock by channel: per SKU what is available and what each channel was told, in a fixed number of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q, QuerySet

from channels.models import Drift, Listing
from inventory import screens
from inventory.models import Sku, Warehouse
from oms.orders.models import SalesChannel

#: what may be looked for → how it is called
ONLY = (("waiting", "Not acked"), ("failed", "Refused"), ("drift", "Drift"), ("buffer", "With a buffer"))


@dataclass(frozen=True)
class Cell:
    """What one channel shows of a SKU; `listed` adds its locations up, None = it does not list it."""

    channel: str
    listed: int | None = None
    buffer: int = 0
    waiting: bool = False
    failed: bool = False
    drift: bool = False


@dataclass(frozen=True)
class Row:
    sku: Sku
    available: int
    cells: list[Cell]


def skus(listings: QuerySet[Listing], query: str, only: str) -> QuerySet[Sku]:
    """SKUs that the visible listings sell, by code, title or alias, and by trouble (`ONLY`)."""
    of_sku = listings.filter(sku=OuterRef("pk"), fulfilment=Listing.Fulfilment.MERCHANT)
    wanted = {
        "waiting": Q(stale_since__isnull=False),
        "failed": Q(dead=True),
        "drift": Q(drifts__closed_at__isnull=True, drifts__isnull=False),
        "buffer": Q(buffer__gt=0),
    }.get(only, Q())
    return screens.find_skus(query, "", []).filter(Exists(of_sku.filter(wanted)))


def rows(
    found: Sequence[Sku],
    listings: QuerySet[Listing],
    channels: Sequence[SalesChannel],
    places: Sequence[Warehouse],
) -> list[Row]:
    """Grid rows in the order of `channels`."""
    mine = listings.filter(
        sku__in=[sku.pk for sku in found], fulfilment=Listing.Fulfilment.MERCHANT
    ).select_related("account")
    kept: dict[tuple[int, int], list[Listing]] = defaultdict(list)
    for listing in mine:
        if listing.sku_id is not None:
            kept[listing.sku_id, listing.account.sales_channel_id].append(listing)
    drifting = set(
        Drift.objects.filter(listing__in=mine, closed_at__isnull=True).values_list("listing", flat=True)
    )
    return [
        Row(
            row.sku,
            row.available,
            [_cell(channel, kept.get((row.sku.pk, channel.pk), []), drifting) for channel in channels],
        )
        for row in screens.rows(found, places)
    ]


def _cell(channel: SalesChannel, listings: Sequence[Listing], drifting: set[int]) -> Cell:
    if not listings:
        return Cell(channel.name)
    told = [one.acked_quantity for one in listings if one.acked_quantity is not None]
    return Cell(
        channel.name,
        sum(told),
        max(one.buffer for one in listings),
        any(one.is_stale for one in listings),
        any(one.dead for one in listings),
        any(one.pk in drifting for one in listings),
    )
