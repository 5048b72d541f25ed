"""The stock ledger: the one place where a balance changes, and the row that proves it."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.db import transaction

from inventory import bins, valuation
from inventory.costing import moving_average
from inventory.locking import (
    BUCKETS,
    Balances,
    Pair,
    change_levels,
    lock_levels,
    make_levels,
    require_transaction,
)
from inventory.models import Sku, StockLevel, StockMovement, Warehouse
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.inserts import insert_rows
from oms.core.outbox import emit_many

Bucket = StockMovement.Bucket
Kind = StockMovement.Kind

#: how one unit more in a bucket changes what may be promised
AVAILABLE = {"on_hand": 1, "reserved": -1, "damaged": -1, "quarantine": -1, "inspection": -1, "in_transit": 0}


class InsufficientStock(Conflict):
    """The level cannot give that much: more would be promised than is there."""

    code = "insufficient_stock"

    def __init__(self, sku: str, warehouse: str, asked: int, available: int) -> None:
        self.sku, self.warehouse, self.asked, self.available = sku, warehouse, asked, available
        super().__init__(
            f"quantity: {asked} of {sku} asked in {warehouse}, but only {available} can be taken. "
            "Lower the quantity or choose another warehouse.",
            field="quantity",
        )


@dataclass(frozen=True, slots=True)
class Movement:
    """One signed change of one bucket, in eaches. `key` makes it post once; `unit_cost` is in the SKU's currency."""

    sku_id: int
    warehouse_id: int
    bucket: str
    quantity: int
    kind: str
    key: str
    reason: str = ""
    reference: str = ""
    note: str = ""
    lot_id: int | None = None
    bin_id: int | None = None
    unit_cost: Decimal | None = None
    occurred_at: dt.datetime | None = None

    @property
    def pair(self) -> Pair:
        return self.sku_id, self.warehouse_id


def post_movements(movements: Sequence[Movement], *, actor: Actor) -> list[StockMovement]:
    """Change balances and write their ledger rows, inside the caller's transaction.

    Keys posted before are skipped; the rest is merged per level and applied by one guarded UPDATE in ascending
    (SKU, warehouse) order. Units that come in with a `unit_cost` move the average cost; units that leave carry
    the average as theirs, or what the oldest cost (`inventory.valuation`). Emits `stock.changed` and
    `stock.increased` for SKUs whose available changed.

    Raises `InsufficientStock` when a level would promise more than it has, `UserError` for a malformed movement,
    `Conflict` for units that would come to a SKU that was merged into another one.
    """
    require_transaction()
    for movement in movements:
        _check(movement)
    if not movements:
        return []
    keys = [movement.key for movement in movements]
    if len(set(keys)) != len(keys):
        raise ValueError("two movements of one call carry the same key")
    posted = set(StockMovement.objects.filter(key__in=keys).values_list("key", flat=True))
    fresh = [movement for movement in movements if movement.key not in posted]
    if not fresh:
        return []
    deltas = merged(fresh)
    try:
        after = _change(fresh, deltas)
    except _Refused as refused:
        with transaction.atomic():  # none is made where another one refuses
            if not make_levels(refused.pairs):
                raise shortage(refused.pairs[0], deltas[refused.pairs[0]]) from None
            try:
                after = _change(fresh, deltas)
            except _Refused as again:
                raise shortage(again.pairs[0], deltas[again.pairs[0]]) from None
    _refuse_merged({movement.sku_id for movement in fresh if movement.quantity > 0})
    return write_rows(fresh, deltas, after, actor=actor)


def _refuse_merged(rising: Collection[int]) -> None:
    """No units for a SKU that is another one by now: nobody would see or sell them. Call it while its levels are held:
    who merges holds them, too, so the answer stands.
    """
    gone = Sku.objects.filter(pk__in=rising, merged_into__isnull=False) if rising else ()
    for sku in list(gone):
        raise Conflict(f"sku: {sku} was merged into {sku.merged_into}; use that one.", field="sku")


class _Refused(Exception):
    """Levels that are missing or cannot give as much, in ascending order; none of the call has changed."""

    def __init__(self, pairs: list[Pair]) -> None:
        self.pairs = pairs
        super().__init__(pairs)


def _change(movements: Sequence[Movement], deltas: Mapping[Pair, Mapping[str, int]]) -> dict[Pair, Balances]:
    """All levels or none, also for a caller who catches the error. Raises `_Refused`, which gives back the locks: a
    level is made before any is held.
    """
    with transaction.atomic():
        after = change_levels(deltas, _averages(movements))
        if len(after) != len(deltas):
            raise _Refused(sorted(deltas.keys() - after.keys()))
    return after


def merged(movements: Iterable[Movement]) -> dict[Pair, dict[str, int]]:
    """Signed change per level and bucket."""
    deltas: dict[Pair, dict[str, int]] = {}
    for movement in movements:
        level = deltas.setdefault(movement.pair, {})
        level[movement.bucket] = level.get(movement.bucket, 0) + movement.quantity
    return deltas


def write_rows(
    movements: Sequence[Movement],
    deltas: Mapping[Pair, Mapping[str, int]],
    after: Mapping[Pair, Balances],
    *,
    actor: Actor,
) -> list[StockMovement]:
    """Ledger rows with running balances for levels just changed by `change_levels`, and the news of them."""
    moment, who = now(), str(actor)
    running = {
        (pair, bucket): getattr(after[pair], bucket) - change
        for pair, level in deltas.items()
        for bucket, change in level.items()
    }
    costs = valuation.costs_of(movements, after)
    rows = []
    for number, movement in enumerate(movements):
        place = (movement.pair, movement.bucket)
        running[place] += movement.quantity
        costed = costs.get(number)
        rows.append(
            StockMovement(
                sku_id=movement.sku_id,
                warehouse_id=movement.warehouse_id,
                bucket=movement.bucket,
                quantity=movement.quantity,
                balance=running[place],
                kind=movement.kind,
                reason=movement.reason[:60],
                reference=movement.reference[:80],
                note=movement.note[:255],
                actor=who,
                lot_id=movement.lot_id,
                bin_id=movement.bin_id,
                unit_cost=costed.unit_cost if costed else movement.unit_cost,
                average_cost=costed.average if costed else None,
                stock_value=costed.value if costed else None,
                occurred_at=movement.occurred_at or moment,
                created_at=moment,
                key=movement.key,
            )
        )
    insert_rows(rows)
    bins.follow(movements, rows, after)
    tell(deltas, moment)
    return rows


def _check(movement: Movement) -> None:
    if (
        isinstance(movement.quantity, bool)
        or not isinstance(movement.quantity, int)
        or movement.quantity == 0
    ):
        raise UserError("quantity: a movement is a whole number of eaches other than 0.", field="quantity")
    if abs(movement.quantity) > 1_000_000_000:
        raise UserError("quantity: at most 1,000,000,000 eaches per movement.", field="quantity")
    if movement.bucket not in BUCKETS:
        raise UserError(f"bucket: use one of {', '.join(BUCKETS)}.", field="bucket")
    if not movement.key or len(movement.key) > 120:
        raise UserError("key: a movement needs an idempotency key of 1 to 120 characters.", field="key")
    if movement.unit_cost is not None and movement.unit_cost < 0:
        raise UserError("unit_cost: a cost cannot be negative.", field="unit_cost")


def _averages(movements: Sequence[Movement]) -> dict[Pair, Decimal]:
    """New moving averages of levels that receive units with a cost. Locks these levels."""
    arriving: dict[Pair, list[tuple[int, Decimal]]] = defaultdict(list)
    for movement in movements:
        if movement.bucket == Bucket.ON_HAND and movement.quantity > 0 and movement.unit_cost is not None:
            arriving[movement.pair].append((movement.quantity, movement.unit_cost))
    if not arriving:
        return {}
    # all levels of the call, so that the order of locks stays ascending
    levels = lock_levels({movement.pair for movement in movements})
    nothing = Balances(0, 0, 0, 0, 0, 0, Decimal(0))
    return {
        pair: moving_average(
            levels.get(pair, nothing).on_hand, levels.get(pair, nothing).average_cost, received
        )
        for pair, received in arriving.items()
    }


def shortage(pair: Pair, delta: Mapping[str, int]) -> InsufficientStock:
    """The error for a change that a level refused, with the figures a person needs."""
    level = StockLevel.objects.filter(sku_id=pair[0], warehouse_id=pair[1]).first()
    sku = Sku.objects.filter(pk=pair[0]).values_list("code", flat=True).first() or str(pair[0])
    warehouse = Warehouse.objects.filter(pk=pair[1]).values_list("code", flat=True).first() or str(pair[1])
    if level is None:
        return InsufficientStock(sku, warehouse, max(map(abs, delta.values())), 0)
    # the bucket that would fall below zero is named first; otherwise available is what is missing
    for bucket in BUCKETS[1:]:
        if getattr(level, bucket) + delta.get(bucket, 0) < 0:
            return InsufficientStock(
                f"{sku} ({bucket.replace('_', ' ')})", warehouse, -delta[bucket], getattr(level, bucket)
            )
    taken = -sum(AVAILABLE[bucket] * change for bucket, change in delta.items())
    return InsufficientStock(sku, warehouse, taken, max(0, level.available))


def tell(deltas: Mapping[Pair, Mapping[str, int]], moment: dt.datetime) -> None:
    """News of the SKUs whose available changed, and of those that have more now."""
    changed: set[int] = set()
    increased: set[int] = set()
    for (sku_id, _), level in deltas.items():
        change = sum(AVAILABLE[bucket] * quantity for bucket, quantity in level.items())
        if change:
            changed.add(sku_id)
        if change > 0:
            increased.add(sku_id)
    at = moment.isoformat()
    news = [("stock.changed", str(sku_id), {"at": at}) for sku_id in sorted(changed)]
    news += [("stock.increased", str(sku_id), {"at": at}) for sku_id in sorted(increased)]
    if news:
        emit_many(news)
