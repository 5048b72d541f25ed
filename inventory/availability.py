"""How many units a listing may show, step by step, and how the last units are divided.

The order of the steps is fixed: stock per warehouse less sales not yet booked, ring-fences, kit, buffer,
percentage, cap, stop threshold, never below zero, last-units share, whole packs. Pure functions over
dataclasses; every quantity is a whole number of eaches unless it is said to be packs.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Pool:
    """One SKU in one warehouse that the channel sees."""

    warehouse: str
    on_hand: int
    reserved: int = 0
    unavailable: int = 0
    safety: int = 0
    unseen: int = 0  # sold by a channel in orders that we have not booked yet

    @property
    def free(self) -> int:
        """Units left after promises, unseen sales, unfit goods and the location's safety; may be negative."""
        return self.on_hand - self.unavailable - self.reserved - self.safety - self.unseen


@dataclass(frozen=True, slots=True)
class Fence:
    """Units kept for one channel that it has not sold yet. Fences belong to counted SKUs, not to kits."""

    channel: str
    remaining: int


@dataclass(frozen=True, slots=True)
class Part:
    """A counted SKU behind a listing: itself, or a component of the kit with `per_unit` of it."""

    sku: str
    pools: tuple[Pool, ...]
    per_unit: int = 1
    buffer: int = 0
    fences: tuple[Fence, ...] = ()
    incoming: int = 0
    waiting: int = 0  # eaches that orders wait for already: what comes is theirs first
    sharers: int = 1  # listings that sell what comes of it


@dataclass(frozen=True, slots=True)
class ListingRule:
    """What holds a listing's figure back.

    `preorder_percent`: the listing sells incoming units, this share of them less what orders wait for, instead of
    stock; listings that do so share them evenly.
    """

    channel: str = ""
    buffer: int = 0
    percent: int = 100
    cap: int | None = None
    stop_at: int = 0
    pack: int = 1
    preorder_percent: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """The figure for the channel, in packs, and the running figure after each step.

    `waits`: the figure is lower than the listing's share until others have accepted theirs. Where the last units are
    divided, `divided` is true, `base` is what the listing still shows as far as we know (None = unknown), and
    `blind` are units that it may sell unnoticed while it is told.
    """

    quantity: int
    steps: tuple[tuple[str, int], ...]
    waits: bool = False
    divided: bool = False
    base: int | None = None
    blind: int = 0

    def why(self) -> str:
        """One line with only the steps that changed the figure: '12 stock, 10 buffer, 5 packs'."""
        told = [
            self.steps[0],
            *(now for before, now in zip(self.steps, self.steps[1:], strict=False) if now[1] != before[1]),
        ]
        return ", ".join(f"{value} {name}" for name, value in told)


def pooled(pools: Sequence[Pool]) -> int:
    """Step 1: the sum over warehouses, each counted as at least 0."""
    return sum(max(0, pool.free) for pool in pools)


def after_fences(base: int, fences: Sequence[Fence], channel: str) -> int:
    """Step 2: what is left for `channel` when units are kept for others.

    Fences are served in the given order as far as the stock reaches, so that together the channels
    are never promised more than `base`; with enough stock this is base − fences of the others.
    """
    free, own = base, 0
    for fence in fences:
        kept = max(0, min(free, fence.remaining))
        free -= kept
        if fence.channel == channel:
            own += kept
    return free + own


def _per_warehouse(parts: Sequence[Part]) -> int:
    """Kits that can be made whole inside one warehouse, summed over warehouses."""
    stock = {(part.sku, pool.warehouse): max(0, pool.free) for part in parts for pool in part.pools}
    warehouses = {pool.warehouse for part in parts for pool in part.pools}
    return sum(min(stock.get((part.sku, w), 0) // part.per_unit for part in parts) for w in warehouses)


def _part_figures(part: Part, rule: ListingRule) -> tuple[int, int]:
    """One counted SKU after step 1 and after step 2 with its own buffer."""
    if rule.preorder_percent is not None:
        coming = max(0, part.incoming) * rule.preorder_percent // 100
        base = max(0, coming - part.waiting) // max(1, part.sharers)
    else:
        base = pooled(part.pools)
    return base, after_fences(base, part.fences, rule.channel) - part.buffer


def listing_quantity(parts: Sequence[Part], rule: ListingRule, *, share: int | None = None) -> Shown:
    """The quantity to publish for one listing, in packs of `rule.pack`, with every step of the sum.

    `parts` is the SKU itself or the components of a kit (nested kits already resolved). `share` is
    the listing's part, in eaches, where the last units are divided (see `partition`).
    Raises ValueError when `parts` is empty or a pack or kit quantity is below 1.
    """
    if not parts:
        raise ValueError("a listing needs at least one counted SKU")
    if rule.pack < 1 or any(part.per_unit < 1 for part in parts):
        raise ValueError("pack size and kit quantities must be 1 or more")
    figures = [_part_figures(part, rule) for part in parts]
    steps: list[tuple[str, int]] = []
    is_kit = len(parts) > 1 or parts[0].per_unit > 1
    if is_kit:
        quantity = min(fenced // part.per_unit for part, (_, fenced) in zip(parts, figures, strict=True))
        steps.append(("kits from components", quantity))
        if rule.preorder_percent is None:
            quantity = min(quantity, _per_warehouse(parts))
            steps.append(("whole per warehouse", quantity))
    else:
        base, quantity = figures[0]
        unseen = sum(pool.unseen for pool in parts[0].pools) if rule.preorder_percent is None else 0
        steps.append(("stock" if rule.preorder_percent is None else "incoming", base))
        if unseen:
            whole = [replace(pool, unseen=0) for pool in parts[0].pools]
            steps[:] = [
                ("stock", pooled(whole)),
                ("less sales not yet in our books", base),
            ]
        steps.append(("ring-fences", quantity))
    quantity -= rule.buffer
    steps.append(("buffer", quantity))
    quantity = quantity * rule.percent // 100
    steps.append(("percent", quantity))
    if rule.cap is not None:
        quantity = min(quantity, rule.cap)
        steps.append(("cap", quantity))
    if quantity <= rule.stop_at:
        quantity = 0
        steps.append(("stop threshold", quantity))
    if share is not None:
        quantity = min(quantity, max(0, share))
        steps.append(("last-units share", quantity))
    if rule.pack > 1:
        quantity //= rule.pack
        steps.append(("packs", quantity))
    return Shown(quantity, tuple(steps))


@dataclass(frozen=True, slots=True)
class Claim:
    """A listing that competes for the last units.

    `quantity` is the most it would show, in its own units (packs or kits); one such unit takes
    `uses` = (SKU, eaches) from a single warehouse out of `warehouses`. `kept` units are its by a
    ring-fence and served first.
    """

    key: str
    quantity: int
    uses: tuple[tuple[str, int], ...]
    warehouses: tuple[str, ...]
    kept: int = 0


def partition(stock: Mapping[tuple[str, str], int], claims: Sequence[Claim]) -> dict[str, int]:
    """Divide scarce stock so that all listings together show no more than there is.

    `stock` maps (SKU, warehouse) to units available. Units are given one by one to the listing that has the fewest
    (ties by key), so that listings which can take more differ by at most one.
    Each unit is really drawn from a warehouse the listing sees, first from the one where the fewest
    listings compete for its SKUs; what other SKUs stand beside them changes nothing. The result is each
    listing's quantity in its own units; nothing that some listing could still show is left over.
    """
    left = {place: max(0, units) for place, units in stock.items()}
    seen_by = Counter(
        (sku, warehouse) for claim in claims for sku, _ in claim.uses for warehouse in set(claim.warehouses)
    )

    def rivals(claim: Claim, warehouse: str) -> int:
        return sum(seen_by[sku, warehouse] for sku, _ in claim.uses)

    order = {
        claim.key: [w for _, w in sorted((rivals(claim, w), w) for w in set(claim.warehouses))]
        for claim in claims
    }
    given = {claim.key: 0 for claim in claims}

    def draw(claim: Claim) -> bool:
        for warehouse in order[claim.key]:
            if all(left.get((sku, warehouse), 0) >= units for sku, units in claim.uses):
                for sku, units in claim.uses:
                    left[sku, warehouse] -= units
                given[claim.key] += 1
                return True
        return False

    for claim in sorted(claims, key=lambda c: c.key):
        while given[claim.key] < min(claim.kept, claim.quantity) and draw(claim):
            pass
    waiting = [(given[c.key], c.key, c) for c in claims if given[c.key] < c.quantity]
    heapq.heapify(waiting)
    while waiting:
        _, key, claim = heapq.heappop(waiting)
        if draw(claim) and given[key] < claim.quantity:
            heapq.heappush(waiting, (given[key], key, claim))
    return given


@dataclass(frozen=True, slots=True)
class Told:
    """What one listing may still show as far as we know, and what it should show, in eaches of the scarce SKU.

    `shown` None = unknown. `rising`: a higher figure, by so much, is on its way to it. `places`: the pools it sells
    from. `blind`: units that it may sell unnoticed while a higher figure is told, because its channel cannot compare
    and set; they are counted beside its share.
    """

    share: int
    shown: int | None
    places: frozenset[str]
    rising: int = 0
    blind: int = 0

    @property
    def most(self) -> int:
        """The most that it may show now or soon."""
        return max(self.share + self.blind, (self.shown or 0) + self.rising)


#: more groups of pools than this are not looked at; a brand has a handful of different views of its warehouses
_GROUPS = 256


def _groups(views: Collection[frozenset[str]]) -> list[frozenset[str]]:
    """Every union of overlapping views, each view itself included: pools that share nothing never meet."""
    found = set(views)
    todo = sorted(found, key=sorted)
    while todo and len(found) < _GROUPS:
        one = todo.pop()
        for view in views:
            if view & one and not view <= one and (wider := one | view) not in found:
                found.add(wider)
                todo.append(wider)
    return list(found)


def _excess(
    listings: Mapping[str, Told], stock: Mapping[str, int], groups: Collection[frozenset[str]], *, soon: bool
) -> dict[frozenset[str], int]:
    """How much more than a group of pools holds its listings show, or (`soon`) could show; below zero = room left."""
    inside = Counter[frozenset[str]]()
    for told in listings.values():
        inside[told.places] += told.most if soon else (told.shown or 0) + told.rising
    return {
        group: sum(units for view, units in inside.items() if view <= group)
        - sum(max(0, stock.get(pool, 0)) for pool in group)
        for group in groups
    }


def overtold(listings: Mapping[str, Told], stock: Mapping[str, int]) -> set[str]:
    """Listings in a group of pools of which more is shown than there is."""
    groups = _groups({told.places for told in listings.values()})
    bad = [group for group, more in _excess(listings, stock, groups, soon=False).items() if more > 0]
    return {key for key, told in listings.items() if any(told.places <= group for group in bad)}


def rooms(listings: Mapping[str, Told], stock: Mapping[str, int]) -> dict[str, int]:
    """The highest figure that each listing may be told without more being told in sum than any group of pools holds.

    `stock` maps a pool to its free units, after unseen sales. A listing that sells from several pools may take its
    units from any of them, so that not one pool counts but every group of pools: the listings that sell from
    nowhere else must fit into it. What a part of a group is told too much already is that part's own affair.
    """
    groups = _groups({told.places for told in listings.values()})
    now = _excess(listings, stock, groups, soon=False)
    soon = _excess(listings, stock, groups, soon=True)
    allowed = {
        group: max(0, *(more for part, more in now.items() if part <= group)) - soon[group]
        for group in groups
    }
    return {
        key: told.most + min(left for group, left in allowed.items() if told.places <= group)
        for key, told in listings.items()
    }


def safe_now(listings: Mapping[str, Told], stock: Mapping[str, int]) -> dict[str, int]:
    """What each listing may show at this moment so that nothing can be sold twice, whatever is still on its way.

    Lowering is always safe. Raising is not while another listing still shows more than its share: until that one
    has accepted its lower figure, a raise may only use what is left beside the higher of both.
    """
    room = rooms(listings, stock)
    safe = {}
    for key, told in listings.items():
        base = told.shown or 0
        if told.shown is not None and told.share <= base:
            safe[key] = told.share
        else:
            safe[key] = max(base, min(told.share, room[key] - told.blind))
    return safe
