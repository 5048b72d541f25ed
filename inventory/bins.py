"""Where units lie inside a warehouse. Bins follow the ledger; they never lead it.

A movement that names a bin or a lot changes exactly that place. Units that arrive without a bin land on the dock
where the warehouse has one. Units that leave without naming a place are drawn by rule (`picks.plan_pick`), only as
far as the places would otherwise hold more than is on hand. Each change is a `BinMovement`.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from django.db.models import F

from inventory.locking import Balances, Pair
from inventory.models import Bin, BinMovement, BinStock, Lot, StockMovement
from inventory.picks import Place, plan_pick
from oms.core.clock import now
from oms.core.db import LostRace
from oms.core.errors import Conflict
from oms.core.inserts import insert_rows

if TYPE_CHECKING:
    from inventory.ledger import Movement

Spot = tuple[int | None, int | None]  # (bin id, lot id)
#: units that go to people or on a shelf elsewhere are taken from good lots first; write-offs take the oldest
_GOOD_FIRST = frozenset({"ship", "transfer_out", "build"})


@dataclass(frozen=True, slots=True)
class _Change:
    pair: Pair
    spot: Spot
    quantity: int
    movement: StockMovement


def follow(
    movements: Sequence[Movement], rows: Sequence[StockMovement], after: Mapping[Pair, Balances]
) -> None:
    """Apply on-hand movements, already posted as `rows`, to bin stock. Their levels are locked.

    Raises `Conflict` when a named bin or lot has not that many.
    """
    physical = [
        (movement, row) for movement, row in zip(movements, rows, strict=True) if movement.bucket == "on_hand"
    ]
    docks: dict[int, int] = {}
    unnamed = {m.warehouse_id for m, _ in physical if m.quantity > 0 and not m.bin_id}
    if unnamed:
        docks = dock_of(unnamed)
    touched = {
        m.pair for m, _ in physical if m.quantity < 0 or m.bin_id or m.lot_id or m.warehouse_id in docks
    }
    if not touched:
        return
    held = places(touched)
    on_hand = {pair: after[pair].on_hand for pair in touched}
    for movement, _ in physical:
        if movement.pair in touched:
            on_hand[movement.pair] -= movement.quantity
    changes: list[_Change] = []
    for movement, row in physical:
        pair = movement.pair
        if pair not in touched:
            continue
        on_hand[pair] += movement.quantity
        spots = held.setdefault(pair, {})
        if movement.quantity > 0:
            spot = (movement.bin_id or docks.get(movement.warehouse_id), movement.lot_id)
            if spot != (None, None):
                changes.append(_Change(pair, spot, movement.quantity, row))
                known = spots.get(spot) or Place(*spot, 0)
                spots[spot] = replace(known, quantity=known.quantity + movement.quantity)
            continue
        for spot, units in _leave(movement, spots, on_hand[pair]):
            changes.append(_Change(pair, spot, -units, row))
            spots[spot] = replace(spots[spot], quantity=spots[spot].quantity - units)
    _store(changes)


def _leave(movement: Movement, spots: Mapping[Spot, Place], on_hand: int) -> list[tuple[Spot, int]]:
    """The places that lose the units of a movement."""
    units = -movement.quantity
    open_to = [
        place if movement.kind in _GOOD_FIRST else replace(place, fit=True)
        for place in spots.values()
        if (not movement.bin_id or place.bin_id == movement.bin_id)
        and (not movement.lot_id or place.lot_id == movement.lot_id)
    ]
    if movement.bin_id or movement.lot_id:
        there = sum(place.quantity for place in open_to)
        if there < units:
            raise _too_few(movement, units, there)
    else:
        units = min(units, max(0, sum(place.quantity for place in spots.values()) - on_hand))
    return [((one.place.bin_id, one.place.lot_id), one.quantity) for one in plan_pick(units, open_to)]


def _too_few(movement: Movement, units: int, there: int) -> Conflict:
    lot = Lot.objects.filter(pk=movement.lot_id or 0).values_list("code", flat=True).first()
    if movement.bin_id:
        code = Bin.objects.filter(pk=movement.bin_id).values_list("code", flat=True).first()
        of = f" of lot {lot}" if lot else ""
        return Conflict(f"bin: {code} holds {there}{of}, {units} asked. Choose another bin.", field="bin")
    return Conflict(f"lot: {there} of lot {lot} are here, {units} asked. Choose another lot.", field="lot")


def places(pairs: Iterable[Pair], at: dt.datetime | None = None) -> dict[Pair, dict[Spot, Place]]:
    """What lies where, per level; expired, blocked and quarantined units are marked unfit. One query."""
    wanted = set(pairs)
    moment = at or now()
    today: dict[str, dt.date] = {}
    held: dict[Pair, dict[Spot, Place]] = defaultdict(dict)
    found = BinStock.objects.filter(
        sku__in={sku for sku, _ in wanted}, warehouse__in={place for _, place in wanted}, quantity__gt=0
    ).values_list(
        "sku_id", "warehouse_id", "bin_id", "lot_id", "quantity", "lot__expires_on", "bin__pick_sequence", "bin__code",
        "bin__kind", "lot__is_blocked", "warehouse__time_zone",
    )  # fmt: skip
    for sku, place, bin_id, lot_id, quantity, expires_on, sequence, code, kind, blocked, zone in found:
        if (sku, place) not in wanted:
            continue
        if zone not in today:
            today[zone] = moment.astimezone(ZoneInfo(zone)).date()
        fit = (
            not blocked and kind != Bin.Kind.QUARANTINE and (expires_on is None or expires_on >= today[zone])
        )
        held[sku, place][bin_id, lot_id] = Place(
            bin_id, lot_id, quantity, expires_on, sequence or 0, code or "", fit
        )
    return held


def dock_of(warehouse_ids: Iterable[int]) -> dict[int, int]:
    """The receiving dock of each warehouse that works with bins: where unnamed arrivals land."""
    docks: dict[int, int] = {}
    rows = Bin.objects.filter(warehouse__in=list(warehouse_ids), kind=Bin.Kind.DOCK, is_active=True)
    for pk, place in rows.order_by("pick_sequence", "pk").values_list("pk", "warehouse_id"):
        docks.setdefault(place, pk)
    return docks


def _store(changes: Sequence[_Change]) -> None:
    moment = now()
    net: dict[tuple[Pair, Spot], int] = defaultdict(int)
    for change in changes:
        net[change.pair, change.spot] += change.quantity
    for (pair, spot), units in sorted(
        net.items(), key=lambda item: (item[0][0], item[0][1][0] or 0, item[0][1][1] or 0)
    ):
        add(pair, spot, units)
    insert_rows(
        [
            BinMovement(
                movement_id=change.movement.pk,
                warehouse_id=change.pair[1],
                bin_id=change.spot[0],
                sku_id=change.pair[0],
                lot_id=change.spot[1],
                quantity=change.quantity,
                reason=change.movement.kind,
                actor=change.movement.actor,
                created_at=moment,
            )
            for change in changes
        ]
    )


def add(pair: Pair, spot: Spot, units: int) -> None:
    """Change one place of a locked level by signed eaches. The caller writes the `BinMovement`."""
    if not units:
        return
    rows = BinStock.objects.filter(sku=pair[0], warehouse=pair[1])
    rows = rows.filter(bin__isnull=True) if spot[0] is None else rows.filter(bin=spot[0])
    rows = rows.filter(lot__isnull=True) if spot[1] is None else rows.filter(lot=spot[1])
    if rows.filter(quantity__gte=-units).update(quantity=F("quantity") + units):
        return
    if units < 0:
        raise LostRace("the place was emptied meanwhile")  # the level is locked, so this cannot stay
    BinStock.objects.create(
        sku_id=pair[0], warehouse_id=pair[1], bin_id=spot[0], lot_id=spot[1], quantity=units
    )
