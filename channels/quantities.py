"""How many units each listing may show now: reads everything a batch needs at once, then asks the pure sum.

The order of the steps is `inventory.availability`'s. A listing of a channel that counts per
location sees that location's warehouse only; the others see every warehouse that their channel publishes. Goods
in the channel's own warehouse are never counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from django.db.models import QuerySet

from channels.models import ChannelAccount, Listing, LocationMap
from inventory import fences, selectors
from inventory.availability import (
    Claim,
    Fence,
    ListingRule,
    Part,
    Pool,
    Shown,
    Told,
    listing_quantity,
    partition,
    safe_now,
)  # fmt: skip
from inventory.models import Sku, Warehouse
from oms.core import business
from oms.orders.models import ChannelWarehouse

OPERATED = (Warehouse.Kind.FBA, Warehouse.Kind.WFS)


@dataclass(frozen=True, slots=True)
class ListingFacts:
    """The part of a listing that decides its figure."""

    id: int
    account_id: int
    channel_id: int
    channel_code: str
    connector: str
    sku_id: int
    location_id: str
    pack_size: int
    buffer: int
    percent: int
    cap: int | None
    stop_at: int
    min_shelf_days: int


FACT_FIELDS = (
    "id", "account_id", "account__sales_channel_id", "account__sales_channel__code", "account__connector", "sku_id",
    "location_id", "pack_size", "buffer", "percent", "cap", "stop_at", "account__sales_channel__min_shelf_life_days",
)  # fmt: skip


def facts(rows: Iterable[Sequence[object]]) -> list[ListingFacts]:
    """From rows of `FACT_FIELDS`."""
    return [ListingFacts(*row) for row in rows]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _World:
    """Everything one batch reads."""

    kits: Mapping[int, Sequence[tuple[int, int]]]
    levels: Mapping[tuple[int, int], selectors.LevelView]
    fences: Mapping[int, tuple[Fence, ...]]
    published: Mapping[int, tuple[int, ...]]  # sales channel → warehouses
    places: Mapping[tuple[int, str], int]  # (account, location) → warehouse

    def warehouses(self, listing: ListingFacts) -> tuple[int, ...]:
        if listing.location_id:
            place = self.places.get((listing.account_id, listing.location_id))
            return (
                (place,) if place is not None and place in self.published.get(listing.channel_id, ()) else ()
            )
        return self.published.get(listing.channel_id, ())

    def parts(self, listing: ListingFacts) -> tuple[Part, ...]:
        """Counted SKUs behind the listing; none for a kit without components."""
        inner = self.kits.get(listing.sku_id)
        counted = [(listing.sku_id, 1)] if inner is None else list(inner)
        found = []
        for sku_id, per_unit in counted:
            pools = []
            for warehouse in self.warehouses(listing):
                level = self.levels.get((sku_id, warehouse))
                if level is not None:
                    unfit = level.unavailable + level.too_old_for(listing.min_shelf_days)
                    pools.append(Pool(str(warehouse), level.on_hand, level.reserved, unfit, level.safety))
            found.append(Part(str(sku_id), tuple(pools), per_unit, fences=self.fences.get(sku_id, ())))
        return tuple(found)


def _rule(listing: ListingFacts) -> ListingRule:
    return ListingRule(
        channel=listing.channel_code, buffer=listing.buffer, percent=listing.percent, cap=listing.cap,
        stop_at=listing.stop_at, pack=listing.pack_size,
    )  # fmt: skip


def compute(listings: Sequence[ListingFacts]) -> dict[int, Shown]:
    """The figure and its sum per listing id, in the listing's own units. At most eight queries for any batch."""
    if not listings:
        return {}
    world = _read(listings)
    shown = {}
    for listing in listings:
        parts = world.parts(listing)
        shown[listing.id] = (
            listing_quantity(parts, _rule(listing)) if parts else Shown(0, (("kit without contents", 0),))
        )
    limit = int(business.get("last_units"))
    if limit <= 0:
        return shown
    scarce = {
        int(part.sku)
        for listing in listings
        for part in world.parts(listing)
        if 0 < sum(max(0, pool.free) for pool in part.pools) <= limit * part.per_unit * listing.pack_size
    }
    if scarce:
        shown |= _shares(listings, shown, scarce)
    return shown


def _read(listings: Sequence[ListingFacts]) -> _World:
    sku_ids = {listing.sku_id for listing in listings}
    kits = selectors.kit_parts(sku_ids)
    counted = (sku_ids - set(kits)) | {component for parts in kits.values() for component, _ in parts}
    published: dict[int, list[int]] = {}
    rows = ChannelWarehouse.objects.filter(
        channel__in={listing.channel_id for listing in listings}, publishes=True, warehouse__is_active=True
    ).exclude(warehouse__kind__in=OPERATED)  # fmt: skip
    for channel_id, warehouse_id in rows.values_list("channel_id", "warehouse_id"):
        published.setdefault(channel_id, []).append(warehouse_id)
    places: dict[tuple[int, str], int] = {}
    if any(listing.location_id for listing in listings):
        maps = LocationMap.objects.filter(account__in={listing.account_id for listing in listings})
        places = {
            (account, place): warehouse
            for account, place, warehouse in maps.values_list("account_id", "external_id", "warehouse_id")
        }
    kept = {
        sku_id: tuple(Fence(one.channel_code, one.remaining) for one in group)
        for sku_id, group in fences.remaining(counted).items()
    }
    warehouses = {place for group in published.values() for place in group}
    return _World(
        kits=kits,
        levels=selectors.levels(counted, warehouses),
        fences=kept,
        published={channel: tuple(sorted(group)) for channel, group in published.items()},
        places=places,
    )


def _shares(
    listings: Sequence[ListingFacts], shown: Mapping[int, Shown], scarce: Collection[int]
) -> dict[int, Shown]:
    """Divide the last units over every listing that could sell them: together they show no more than there is."""
    rivals = {listing.id: listing for listing in rivals_of(scarce)} | {
        listing.id: listing for listing in listings
    }
    world = _read(list(rivals.values()))
    claims, stock = [], {}
    for listing in rivals.values():
        parts = world.parts(listing)
        if not any(int(part.sku) in scarce for part in parts):
            continue
        most = listing_quantity(parts, _rule(listing))
        for part in parts:
            for pool in part.pools:
                stock[part.sku, pool.warehouse] = max(0, pool.free)
        kept = min(
            (
                sum(f.remaining for f in part.fences if f.channel == listing.channel_code) // part.per_unit
                for part in parts
            ),
            default=0,
        )
        claims.append(
            Claim(
                key=f"{listing.id:012d}",
                quantity=most.quantity,
                uses=tuple((part.sku, part.per_unit * listing.pack_size) for part in parts),
                warehouses=tuple(str(place) for place in world.warehouses(listing)),
                kept=kept // listing.pack_size,
            )
        )
    given = partition(stock, claims)
    now_safe = _safe_now(claims, given, stock, scarce)
    wanted = {listing.id for listing in listings}
    return {
        int(key): _shared(shown[int(key)], share, now_safe.get(key, share))
        for key, share in given.items()
        if int(key) in wanted
    }


def _shared(most: Shown, share: int, safe: int) -> Shown:
    """A listing's part of the last units, and less of it while others still show more than theirs."""
    quantity = min(most.quantity, share)
    steps = (*most.steps, ("last-units share", quantity))
    if safe >= quantity:
        return replace(most, quantity=quantity, steps=steps)
    return replace(most, quantity=safe, steps=(*steps, ("until the others are lowered", safe)), waits=True)


def _safe_now(
    claims: Sequence[Claim], given: Mapping[str, int], stock: Mapping[tuple[str, str], int], scarce: Collection[int]
) -> dict[str, int]:  # fmt: skip
    """The part of each share that may be told now, by what the rivals were last told. One query."""
    known = {
        f"{pk:012d}": (quantity, at is not None and (ordered is None or ordered < at))
        for pk, quantity, at, ordered in Listing.objects.filter(
            pk__in=[int(claim.key) for claim in claims]
        ).values_list("pk", "acked_quantity", "acked_at", "account__last_order_at")
    }
    safe: dict[str, int] = {}
    for sku in {str(one) for one in scarce}:
        units = {claim.key: each for claim in claims for name, each in claim.uses if name == sku}
        available = sum(free for (name, _), free in stock.items() if name == sku)
        told = {}
        for key, each in units.items():
            quantity, exact = known[key]
            told[key] = Told(given[key] * each, None if quantity is None else quantity * each, exact)
        for key, eaches in safe_now(told, available).items():
            safe[key] = min(safe.get(key, eaches // units[key]), eaches // units[key])
    return safe


def rivals_of(sku_ids: Collection[int]) -> list[ListingFacts]:
    """Every live listing that sells one of the SKUs, alone or in a kit."""
    kits = {kit for group in selectors.kits_containing(sku_ids).values() for kit in group}
    return facts(live_listings().filter(sku_id__in=set(sku_ids) | kits).values_list(*FACT_FIELDS))


def live_listings() -> QuerySet[Listing]:
    """Listings whose quantity is ours to tell."""
    return Listing.objects.filter(
        sku__isnull=False, state=Listing.State.ACTIVE, fulfilment=Listing.Fulfilment.MERCHANT,
        account__state=ChannelAccount.State.CONNECTED,
    ).exclude(sku__kind=Sku.Kind.SERVICE)  # fmt: skip


def sellable(listing_id: int) -> Shown | None:
    """One listing's figure with its sum; None where nothing is ours to tell."""
    found = facts(
        Listing.objects.filter(
            pk=listing_id, sku__isnull=False, fulfilment=Listing.Fulfilment.MERCHANT
        ).values_list(*FACT_FIELDS)
    )
    return compute(found).get(listing_id) if found else None


def exposure(sku_id: int) -> tuple[int, int, int]:
    """(published, available, exposure) of a counted SKU over all channels, in eaches.

    Exposure is what could be sold twice if every channel sold out at the same moment.
    """
    listings = rivals_of([sku_id])
    world = _read(listings) if listings else None
    acked = dict(
        Listing.objects.filter(pk__in=[one.id for one in listings]).values_list("pk", "acked_quantity")
    )
    published = 0
    seen: dict[str, int] = {}
    for listing in listings:
        assert world is not None
        for part in world.parts(listing):
            if int(part.sku) == sku_id:
                published += (acked.get(listing.id) or 0) * part.per_unit * listing.pack_size
                seen |= {pool.warehouse: max(0, pool.free) for pool in part.pools}
    available = sum(seen.values())
    return published, available, max(0, published - available)
