"""Bins as people work with them: set up, put away from the dock, moved between, and where to pick from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from django.db.models import Sum

from inventory import bins
from inventory.locking import Pair, lock_levels, no_new_levels, stock_service
from inventory.lots import days_left
from inventory.models import Bin, BinMovement, BinStock, Lot, Sku, StockLevel, Warehouse
from inventory.picks import Taken, plan_pick
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.inserts import insert_rows


@stock_service
def save_bin(
    *,
    warehouse_id: int,
    code: str,
    actor: Actor,
    bin_id: int | None = None,
    zone: str = "",
    kind: str = Bin.Kind.PICK,
    pick_sequence: int = 0,
    is_active: bool = True,
) -> Bin:
    """Make a bin or change it. What lies in it and its history stay with it when it gets another code or place.

    The first receiving dock of a warehouse makes it work with bins: what lay nowhere in particular is on the dock
    then. Raises `UserError`, `Conflict` (code taken, switched off while it holds units, the last dock in use).
    """
    warehouse = Warehouse.objects.filter(pk=warehouse_id).first()
    if warehouse is None or not warehouse.counted_by_us:
        raise UserError("warehouse: choose a warehouse whose stock we count ourselves.", field="warehouse")
    code = code.strip().upper()
    if not code or len(code) > 30:
        raise UserError("code: 1 to 30 characters, such as A-03-2.", field="code")
    if kind not in Bin.Kind.values:
        raise UserError(f"kind: use one of {', '.join(Bin.Kind.values)}.", field="kind")
    if not 0 <= pick_sequence <= 1_000_000_000:
        raise UserError("pick_sequence: must be a whole number of 0 or more.", field="pick_sequence")
    if Bin.objects.filter(warehouse=warehouse, code__iexact=code).exclude(pk=bin_id or 0).exists():
        raise Conflict(f"code: {code} exists already in {warehouse}.", field="code")
    place = Bin(warehouse=warehouse)
    if bin_id is not None:
        found = Bin.objects.filter(pk=bin_id, warehouse=warehouse).select_for_update(no_key=True).first()
        if found is None:
            raise NotFound("bin: there is no such bin in this warehouse.", field="bin")
        place = found
        if not is_active and BinStock.objects.filter(bin=place, quantity__gt=0).exists():
            raise Conflict(f"bin: {place} still holds units; move them first.", field="is_active")
        leaves = place.kind == Bin.Kind.DOCK and (kind != Bin.Kind.DOCK or not is_active)
        docks = Bin.objects.filter(warehouse=warehouse, kind=Bin.Kind.DOCK, is_active=True)
        if leaves and not docks.exclude(pk=place.pk).exists() and _used(warehouse):
            raise Conflict(
                f"kind: {place} is the only dock of {warehouse}, where arrivals land. Make another dock first.",
                field="kind",
            )
    before = None if place._state.adding else _facts(place)
    place.code, place.zone, place.kind = code, zone.strip()[:30], kind
    place.pick_sequence, place.is_active = pick_sequence, is_active
    place.save()
    if before != _facts(place):
        record(actor, "bin.saved", place, before=before, after=_facts(place))
    if kind == Bin.Kind.DOCK and is_active:
        _place_the_rest(place, actor)
    return place


def _facts(place: Bin) -> dict[str, object]:
    return {
        "code": place.code, "zone": place.zone, "kind": place.kind, "sequence": place.pick_sequence,
        "active": place.is_active,
    }  # fmt: skip


def _used(warehouse: Warehouse) -> bool:
    return BinStock.objects.filter(warehouse=warehouse, quantity__gt=0).exists()


def _place_the_rest(dock: Bin, actor: Actor) -> None:
    """Units that lie nowhere in particular, or in no bin, go to the dock, level by level in lock order."""
    # empty levels, too: who is bringing units in at this moment saw no dock, and is waited for
    no_new_levels()
    rows = StockLevel.objects.filter(warehouse=dock.warehouse_id)
    pairs = sorted(rows.values_list("sku_id", "warehouse_id"))
    levels = lock_levels(pairs)
    held = bins.places(levels)
    moved: list[BinMovement] = []
    for pair, level in sorted(levels.items()):
        spots = held.get(pair, {})
        for (bin_id, lot_id), place in spots.items():
            if bin_id is None:
                moved += _step(pair, (None, lot_id), (dock.pk, lot_id), place.quantity, "dock opened", actor)
        rest = level.on_hand - sum(place.quantity for place in spots.values())
        if rest > 0:
            bins.add(pair, (dock.pk, None), rest)
            moved.append(_record(pair, (dock.pk, None), rest, "dock opened", actor))
    insert_rows(moved)


@stock_service
def move(
    *,
    sku_id: int,
    source_id: int,
    target_id: int,
    quantity: int,
    actor: Actor,
    lot_id: int | None = None,
    reason: str = "moved",
) -> list[BinMovement]:
    """Carry units of a SKU (and lot) from one bin to another of the same warehouse. No balance changes.

    Raises `UserError`, `Conflict` when the bin holds fewer.
    """
    places = Bin.objects.in_bulk([source_id, target_id])
    if len(places) != 2:
        raise UserError("target: choose two different bins.", field="target")
    source, target = places[source_id], places[target_id]
    if source.warehouse_id != target.warehouse_id:
        raise UserError(
            "target: both bins must be in one warehouse; use a transfer otherwise.", field="target"
        )
    if not target.is_active:
        raise UserError(f"target: {target} is not in use.", field="target")
    if quantity < 1:
        raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
    pair = (sku_id, source.warehouse_id)
    lock_levels([pair])
    there = (
        BinStock.objects.filter(bin=source, sku=sku_id, lot=lot_id).aggregate(units=Sum("quantity"))["units"]
        or 0
    )
    if there < quantity:
        raise Conflict(f"quantity: {source} holds {there}, {quantity} asked.", field="quantity")
    rows = _step(pair, (source.pk, lot_id), (target.pk, lot_id), quantity, reason[:60] or "moved", actor)
    insert_rows(rows)
    return rows


def _step(
    pair: Pair, source: bins.Spot, target: bins.Spot, units: int, reason: str, actor: Actor
) -> list[BinMovement]:
    bins.add(pair, source, -units)
    bins.add(pair, target, units)
    return [_record(pair, source, -units, reason, actor), _record(pair, target, units, reason, actor)]


def _record(pair: Pair, spot: bins.Spot, units: int, reason: str, actor: Actor) -> BinMovement:
    return BinMovement(
        sku_id=pair[0], warehouse_id=pair[1], bin_id=spot[0], lot_id=spot[1], quantity=units, reason=reason,
        actor=str(actor), created_at=now(),
    )  # fmt: skip


@dataclass(frozen=True)
class Suggestion:
    """Units on a dock and where they should go; `target` None = no free bin."""

    dock: Bin
    sku: Sku
    lot: Lot | None
    quantity: int
    target: Bin | None
    why: str


def waiting(warehouse_ids: Collection[int], limit: int = 200) -> list[Suggestion]:
    """What lies on docks, with a bin for each: where the same lot lies, where the SKU lies, its home bin, the first
    empty pick bin, the first empty bulk bin. Three queries.
    """
    rows = list(
        BinStock.objects.filter(warehouse__in=warehouse_ids, bin__kind=Bin.Kind.DOCK, quantity__gt=0)
        .select_related("bin__warehouse", "sku__product", "lot")
        .order_by("pk")[:limit]
    )
    if not rows:
        return []
    places = {row.warehouse_id for row in rows}
    stored = list(
        BinStock.objects.filter(
            warehouse__in=places, quantity__gt=0, bin__kind__in=STORAGE, bin__is_active=True
        )
        .filter(sku__in={row.sku_id for row in rows})
        .select_related("bin")
        .order_by("bin__pick_sequence", "bin__code")
    )
    homes = {
        (level.sku_id, level.warehouse_id): level.bin
        for level in StockLevel.objects.filter(
            sku__in={row.sku_id for row in rows}, warehouse__in=places, bin__is_active=True
        ).select_related("bin")
    }
    empty = list(
        Bin.objects.filter(warehouse__in=places, kind__in=STORAGE, is_active=True)
        .exclude(stock__quantity__gt=0)
        .order_by("pick_sequence", "code")
    )
    empty.sort(key=lambda place: place.kind != Bin.Kind.PICK)
    found = []
    for row in rows:
        same = [one for one in stored if (one.sku_id, one.warehouse_id) == (row.sku_id, row.warehouse_id)]
        lot = next((one.bin for one in same if row.lot_id and one.lot_id == row.lot_id), None)
        near = next((one.bin for one in same), None)
        home = homes.get((row.sku_id, row.warehouse_id))
        free = next((one for one in empty if one.warehouse_id == row.warehouse_id), None)
        target, why = None, "no empty bin: make one, or choose another"
        for one, reason in (
            (lot, "the same lot lies there"), (home, "its home bin"), (near, "the SKU lies there"), (free, "empty"),
        ):  # fmt: skip
            if one is not None:
                target, why = one, reason
                break
        if target is free and free is not None:
            empty.remove(free)
        found.append(Suggestion(row.bin, row.sku, row.lot, row.quantity, target, why))  # type: ignore[arg-type]
    return found


#: where goods are kept for sale
STORAGE = (Bin.Kind.PICK, Bin.Kind.BULK)


def pick_plans(wanted: Sequence[tuple[int, int, int, int]]) -> list[list[Taken]]:
    """From which bins to pick many (SKU, warehouse, units, days of life) now; each sees what those before it take.

    Earliest expiry with enough life comes first, then the fewest bins, then the walk. A plan holds fewer units where
    the bins do. Two queries.
    """
    held = bins.places({(sku, place) for sku, place, _, _ in wanted})
    zones = dict(
        Warehouse.objects.filter(pk__in={place for _, place, _, _ in wanted}).values_list("pk", "time_zone")
    )
    moment = now()
    plans = []
    for sku, place, quantity, min_days in wanted:
        spots = held.get((sku, place), {})
        good = [
            one
            for one in spots.values()
            if one.fit
            and (one.expires_on is None or days_left(one.expires_on, zones[place], moment) >= min_days)
        ]
        plan = plan_pick(quantity, good)
        for taken in plan:
            spot = (taken.place.bin_id, taken.place.lot_id)
            spots[spot] = replace(spots[spot], quantity=spots[spot].quantity - taken.quantity)
        plans.append(plan)
    return plans
