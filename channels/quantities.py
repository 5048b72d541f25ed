"""How many units each listing may show now: reads everything a batch needs at once, then asks the pure sum.

The order of the steps is `inventory.availability`'s. A listing of a channel that counts per
location sees that location's warehouse only; the others see every warehouse that their channel publishes. Goods
in the channel's own warehouse are never counted.

What a listing holds (`Listing.held`) are the units that its channel may still sell or has sold without our books
knowing. It falls when an order is booked, and stock falls a moment before; so what listings hold is always read
before the stock: the other way round a unit could be counted by nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from django.db.models import F, QuerySet

from channels.connectors.base import get_connector
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
    overtold,
    partition,
    safe_now,
)  # fmt: skip
from inventory.models import Sku, Warehouse
from oms.core import business
from oms.orders import supply
from oms.orders.models import ChannelWarehouse
from procurement.selectors import on_order

OPERATED = (Warehouse.Kind.FBA, Warehouse.Kind.WFS)
#: units that one listing may sell between our look at it and our write, on a channel that cannot compare and set
BLIND = 3


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
    preorder_percent: int | None


FACT_FIELDS = (
    "id", "account_id", "account__sales_channel_id", "account__sales_channel__code", "account__connector", "sku_id",
    "location_id", "pack_size", "buffer", "percent", "cap", "stop_at", "account__sales_channel__min_shelf_life_days",
    "preorder_percent",
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
    unseen: Mapping[tuple[int, int], int]  # (sku, warehouse) → units sold in orders that we have not booked
    incoming: Mapping[tuple[int, int], int]  # (sku, warehouse) → eaches on order, where a listing sells these
    waiting: Mapping[int, int]  # sku → eaches of them that are sold already
    sharers: Mapping[int, int]  # sku → listings that sell them

    def warehouses(self, listing: ListingFacts) -> tuple[int, ...]:
        if listing.location_id:
            place = self.places.get((listing.account_id, listing.location_id))
            return (
                (place,) if place is not None and place in self.published.get(listing.channel_id, ()) else ()
            )
        return self.published.get(listing.channel_id, ())

    def counted(self, listing: ListingFacts) -> Sequence[tuple[int, int]]:
        """(counted SKU, eaches in one unit) behind the listing; none for a kit without components."""
        inner = self.kits.get(listing.sku_id)
        return [(listing.sku_id, 1)] if inner is None else inner

    def parts(self, listing: ListingFacts) -> tuple[Part, ...]:
        """Counted SKUs behind the listing with the pools it sees."""
        found = []
        for sku_id, per_unit in self.counted(listing):
            if listing.preorder_percent is not None:
                coming = sum(self.incoming.get((sku_id, place), 0) for place in self.warehouses(listing))
                found.append(
                    Part(
                        str(sku_id), (), per_unit, fences=self.fences.get(sku_id, ()), incoming=coming,
                        waiting=self.waiting.get(sku_id, 0), sharers=self.sharers.get(sku_id, 1),
                    )
                )  # fmt: skip
                continue
            pools = []
            for warehouse in self.warehouses(listing):
                level = self.levels.get((sku_id, warehouse))
                if level is not None:
                    unfit = level.unavailable + level.too_old_for(listing.min_shelf_days)
                    unseen = self.unseen.get((sku_id, warehouse), 0)
                    pools.append(
                        Pool(str(warehouse), level.on_hand, level.reserved, unfit, level.safety, unseen)
                    )
            found.append(Part(str(sku_id), tuple(pools), per_unit, fences=self.fences.get(sku_id, ())))
        return tuple(found)


def _rule(listing: ListingFacts) -> ListingRule:
    return ListingRule(
        channel=listing.channel_code, buffer=listing.buffer, percent=listing.percent, cap=listing.cap,
        stop_at=listing.stop_at, pack=listing.pack_size, preorder_percent=listing.preorder_percent,
    )  # fmt: skip


def compute(listings: Sequence[ListingFacts]) -> dict[int, Shown]:
    """The figure and its sum per listing id, in the listing's own units, whatever else is in the batch. At most nine
    queries for any batch, and as many again where last units are divided (once more for each kit that ties the last
    units of one SKU to those of another)."""
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
    last = {listing.id: skus for listing in listings if (skus := _last_units(world, listing, limit))}
    if last:
        divided = [listing for listing in listings if listing.id in last]
        shown |= _shares(divided, shown, {sku for skus in last.values() for sku in skus}, limit)
    return shown


def _last_units(world: _World, listing: ListingFacts, limit: int) -> set[int]:
    """Counted SKUs of which the listing sees its last units: at most `limit` of the listing's own.

    What a listing sees decides, never what others see: three left in one place say nothing of fifty in another.
    One that sells what is on order sees no stock.
    """
    return {
        int(part.sku)
        for part in world.parts(listing)
        if 0 < sum(max(0, pool.free) for pool in part.pools) <= limit * part.per_unit * listing.pack_size
    }


def _read(listings: Sequence[ListingFacts]) -> _World:
    """What listings hold is read first, stock after it."""
    waiting = _unseen_listings()
    sku_ids = {listing.sku_id for listing in listings}
    kits = selectors.kit_parts(sku_ids | {listing.sku_id for listing, _ in waiting})
    counted = {sku_id for listing in sku_ids for sku_id, _ in kits.get(listing, [(listing, 1)])}
    everyone = [*listings, *(listing for listing, _ in waiting)]
    published: dict[int, list[int]] = {}
    rows = ChannelWarehouse.objects.filter(
        channel__in={listing.channel_id for listing in everyone}, publishes=True, warehouse__is_active=True
    ).exclude(warehouse__kind__in=OPERATED)  # fmt: skip
    for channel_id, warehouse_id in rows.values_list("channel_id", "warehouse_id"):
        published.setdefault(channel_id, []).append(warehouse_id)
    places: dict[tuple[int, str], int] = {}
    if any(listing.location_id for listing in everyone):
        maps = LocationMap.objects.filter(account__in={listing.account_id for listing in everyone})
        places = {
            (account, place): warehouse
            for account, place, warehouse in maps.values_list("account_id", "external_id", "warehouse_id")
        }
    kept = {
        sku_id: tuple(Fence(one.channel_code, one.remaining) for one in group)
        for sku_id, group in fences.remaining(counted).items()
    }
    warehouses = {place for group in published.values() for place in group}
    unseen: dict[tuple[int, int], int] = {}
    ahead = {
        sku_id
        for listing in listings
        if listing.preorder_percent is not None
        for sku_id, _ in kits.get(listing.sku_id, [(listing.sku_id, 1)])
    }
    sold_ahead, sharers = _ahead(ahead) if ahead else (Counter[int](), Counter[int]())
    world = _World(
        kits=kits,
        levels=selectors.levels(counted, warehouses),
        fences=kept,
        published={channel: tuple(sorted(group)) for channel, group in published.items()},
        places=places,
        unseen=unseen,
        incoming=on_order(ahead) if ahead else {},
        waiting=sold_ahead,
        sharers=sharers,
    )
    for listing, units in waiting:
        for sku_id, per_unit in world.counted(listing):
            if listing.preorder_percent is not None:
                sold_ahead[sku_id] += units * per_unit * listing.pack_size
            elif sku_id in counted:
                _take(world, unseen, listing, sku_id, units * per_unit * listing.pack_size)
    return world


def _ahead(sku_ids: Collection[int]) -> tuple[Counter[int], Counter[int]]:
    """Eaches that live orders wait for and live listings that sell what is on order, per counted SKU."""
    waiting = Counter({sku: units for sku, units in supply.short_units().items() if sku in sku_ids})
    sellers = [one for one in rivals_of(sku_ids) if one.preorder_percent is not None]
    kits = selectors.kit_parts({one.sku_id for one in sellers})
    sharers = Counter(
        sku for one in sellers for sku in {part for part, _ in kits.get(one.sku_id, [(one.sku_id, 1)])}
    )
    return waiting, sharers


def _unseen_listings() -> list[tuple[ListingFacts, int]]:
    """Listings whose channel has sold units in orders that we have not booked, with how many (in their own units)."""
    rows = live_listings().filter(unseen_since__isnull=False).order_by("pk")
    return [
        (ListingFacts(*row[:-1]), row[-1])
        for row in rows.values_list(*FACT_FIELDS, F("held") - F("acked_quantity"))
        if row[-1] and row[-1] > 0
    ]


def _take(
    world: _World, unseen: dict[tuple[int, int], int], listing: ListingFacts, sku_id: int, units: int
) -> None:
    """Count unseen units against the warehouses that the listing sells from, first where most is left."""

    def left(warehouse: int) -> int:
        level = world.levels.get((sku_id, warehouse))
        if level is None:
            return 0
        taken = unseen.get((sku_id, warehouse), 0)
        return max(0, level.on_hand - level.reserved - level.unavailable - level.safety - taken)

    for warehouse in sorted(world.warehouses(listing), key=lambda place: (-left(place), place)):
        part = min(units, left(warehouse))
        if part:
            unseen[sku_id, warehouse] = unseen.get((sku_id, warehouse), 0) + part
            units -= part


@dataclass(frozen=True, slots=True)
class _Holds:
    """What one listing is believed to show (None = unknown), the most it may show, and a raise on its way."""

    base: int | None
    most: int | None
    rising: int


def _holds(listing_ids: Collection[int]) -> dict[int, _Holds]:
    rows = Listing.objects.filter(pk__in=listing_ids).values_list(
        "pk", "acked_quantity", "held", "offered", "unseen_since"
    )
    found = {}
    for pk, acked, held, offered, unseen_since in rows:
        base = acked if acked is None or held is None else min(acked, held)
        # what it holds beyond its figure is taken from the stock already while it counts as unseen sales
        found[pk] = _Holds(base, base if unseen_since or held is None else held, offered)
    return found


def _shares(
    listings: Sequence[ListingFacts], shown: Mapping[int, Shown], scarce: set[int], limit: int
) -> dict[int, Shown]:
    """Divide the last units over every listing that could sell them: together they show no more than there is."""
    while True:
        rivals = {listing.id: listing for listing in rivals_of(scarce)} | {
            listing.id: listing for listing in listings
        }
        holds = _holds(rivals)
        world = _read(list(rivals.values()))
        # a kit among them may compete for the last units of its other parts too
        tied = {sku for rival in rivals.values() for sku in _last_units(world, rival, limit)} - scarce
        if not tied:
            break
        scarce = scarce | tied
    claims: list[Claim] = []
    stock: dict[tuple[str, str], int] = {}
    for listing in rivals.values():
        parts = world.parts(listing)
        if listing.preorder_percent is not None:
            continue
        if not any(int(part.sku) in scarce for part in parts):
            continue
        most = listing_quantity(parts, _rule(listing))
        for part in parts:
            for pool in part.pools:
                place = (part.sku, pool.warehouse)
                stock[place] = max(0, pool.free, stock.get(place, 0))
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
    known = {claim.key: holds.get(int(claim.key), _Holds(None, None, 0)) for claim in claims}
    blind = {claim.key for claim in claims if not _compares(rivals[int(claim.key)])}
    given, spare = _steady(stock, claims, known, blind, scarce)
    safe = _safe_now(claims, given, spare, known, stock, scarce)
    wanted = {listing.id for listing in listings}
    return {
        int(key): _shared(shown[int(key)], share, safe.get(key, share), known[key], spare.get(key, 0))
        for key, share in given.items()
        if int(key) in wanted
    }


def _compares(listing: ListingFacts) -> bool:
    return get_connector(listing.connector).capabilities.compare_and_set


def _steady(
    stock: Mapping[tuple[str, str], int], claims: Sequence[Claim], known: Mapping[str, _Holds],
    blind: Collection[str], scarce: Collection[int],
) -> tuple[dict[str, int], dict[str, int]]:  # fmt: skip
    """Each listing's share, and the units that are counted beside it while it is told.

    A channel that cannot compare and set is written over: a sale in that moment comes back to life. So a listing there
    keeps what it shows until it has sold it, and is lowered only where more is shown than there is. It is raised by
    its share less the units that it may sell meanwhile.
    """
    given = partition(stock, claims)
    if not blind:
        return given, {}
    everybody = _told(claims, dict.fromkeys(given, 0), {}, known, scarce)
    too_much = {key for sku, told in everybody.items() for key in overtold(told, _pools(stock, sku))}
    fixed: dict[str, int] = {}
    for key in set(blind) - too_much:
        base = known[key].base
        if base and given[key] < base:
            fixed[key] = base
    if fixed:
        claims = [
            replace(claim, quantity=fixed[claim.key], kept=fixed[claim.key]) if claim.key in fixed else claim
            for claim in claims
        ]
        given = partition(stock, claims) | fixed
    spare: dict[str, int] = {}
    for key in blind:
        base = known[key].base or 0
        if given[key] > base:
            spare[key] = min(base, BLIND, given[key] - base)
            given[key] -= spare[key]
    return given, spare


def _shared(most: Shown, share: int, safe: int, holds: _Holds, spare: int) -> Shown:
    """A listing's part of the last units, and less of it while others still show more than theirs."""
    quantity = min(most.quantity, share)
    steps = (*most.steps, ("last-units share", quantity))
    told = replace(most, quantity=quantity, steps=steps, divided=True, base=holds.base, blind=spare)
    if safe >= quantity:
        return told
    return replace(told, quantity=safe, steps=(*steps, ("until the others are lowered", safe)), waits=True)


def _safe_now(
    claims: Sequence[Claim], given: Mapping[str, int], spare: Mapping[str, int], known: Mapping[str, _Holds],
    stock: Mapping[tuple[str, str], int], scarce: Collection[int],
) -> dict[str, int]:  # fmt: skip
    """The part of each share that may be told now, by what the rivals may still show, in the listings' own units."""
    safe: dict[str, int] = {}
    for sku, told in _told(claims, given, spare, known, scarce).items():
        units = {claim.key: each for claim in claims for name, each in claim.uses if name == sku}
        for key, eaches in safe_now(told, _pools(stock, sku)).items():
            most = eaches // units[key]
            safe[key] = min(safe.get(key, most), most)
    return safe


def _pools(stock: Mapping[tuple[str, str], int], sku: str) -> dict[str, int]:
    return {place: free for (name, place), free in stock.items() if name == sku}


def _told(
    claims: Sequence[Claim], given: Mapping[str, int], spare: Mapping[str, int], known: Mapping[str, _Holds],
    scarce: Collection[int],
) -> dict[str, dict[str, Told]]:  # fmt: skip
    """Scarce SKU → listing → what it may show and should show, in eaches of the SKU."""
    found: dict[str, dict[str, Told]] = {str(sku): {} for sku in scarce}
    for claim in claims:
        holds = known[claim.key]
        for sku, each in claim.uses:
            if sku in found:
                found[sku][claim.key] = Told(
                    given[claim.key] * each, None if holds.most is None else holds.most * each,
                    frozenset(claim.warehouses), holds.rising * each, spare.get(claim.key, 0) * each,
                )  # fmt: skip
    return found


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
        if listing.preorder_percent is not None:
            continue  # it shows what comes, not what is there
        for part in world.parts(listing):
            if int(part.sku) == sku_id:
                published += (acked.get(listing.id) or 0) * part.per_unit * listing.pack_size
                seen |= {pool.warehouse: max(0, pool.free) for pool in part.pools}
    available = sum(seen.values())
    return published, available, max(0, published - available)
