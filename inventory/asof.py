"""What stock was at any moment, what changed between two, and why: replayed from the ledger.

A checkpoint a day keeps the replay short: a question reads the balances of the checkpoint before it and adds what was
posted since. Ledger time is when a row was posted, not when the thing happened in the world: an entry that comes late
does not rewrite what the books said before it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

from django.db import IntegrityError, transaction
from django.db.models import Count, Max, Q, QuerySet, Sum

from inventory.models import CostEntry, Sku, StockCheckpoint, StockMovement, Warehouse
from oms.core.clock import now
from oms.core.errors import UserError
from oms.core.inserts import insert_rows

Pair = tuple[int, int]  # (SKU id, warehouse id)
#: SKUs read at a time by an export
CHUNK = 2000
#: a running transaction may still bring rows of the last minutes
SETTLED = dt.timedelta(minutes=15)
#: how long every day's checkpoint is kept; of older ones those of Mondays stay
DAILY_FOR = dt.timedelta(days=35)
HELD = ("reserved", "damaged", "quarantine", "inspection")


@dataclass(slots=True)
class PastLevel:
    """Balances of a level at a moment, in eaches; average cost and value then (None when not asked)."""

    balances: dict[str, int] = field(default_factory=dict)
    average_cost: Decimal | None = None
    stock_value: Decimal | None = None

    @property
    def on_hand(self) -> int:
        return self.balances.get("on_hand", 0)

    @property
    def available(self) -> int:
        return self.on_hand - sum(self.balances.get(bucket, 0) for bucket in HELD)

    @property
    def value(self) -> Decimal:
        """Of the units on hand, in the SKU's currency."""
        return self.stock_value if self.stock_value is not None else Decimal(0)


@dataclass(frozen=True, slots=True)
class _Scope:
    """Which levels a question is about by ids or by a range of SKU ids (first, last)."""

    sku_ids: Collection[int] | None = None
    warehouse_ids: Collection[int] | None = None
    sku_range: tuple[int, int] | None = None

    def of(self, table: QuerySet[Any]) -> QuerySet[Any]:
        if self.sku_ids is not None:
            table = table.filter(sku_id__in=self.sku_ids)
        if self.sku_range is not None:
            table = table.filter(sku_id__gte=self.sku_range[0], sku_id__lte=self.sku_range[1])
        if self.warehouse_ids is not None:
            table = table.filter(warehouse_id__in=self.warehouse_ids)
        return table.order_by()


def as_of(
    at: dt.datetime,
    *,
    sku_ids: Collection[int] | None = None,
    warehouse_ids: Collection[int] | None = None,
    with_cost: bool = False,
) -> dict[Pair, PastLevel]:
    """Levels as the ledger stood at `at`, that moment included. Three queries, two more with costs.

    Raises `UserError` for a time without a zone.
    """
    _aware(at, "at")
    return _replay(at, _Scope(sku_ids, warehouse_ids), _checkpoint_before(at), with_cost)


def _aware(at: dt.datetime, name: str) -> None:
    if at.tzinfo is None:
        raise UserError(f"{name}: give a time with its zone, such as 2026-03-03T10:00:00Z.", field=name)


def _checkpoint_before(at: dt.datetime) -> dt.datetime | None:
    newest: dt.datetime | None = StockCheckpoint.objects.filter(at__lte=at).aggregate(last=Max("at"))["last"]
    return newest


def _replay(
    at: dt.datetime, scope: _Scope, known: dt.datetime | None, with_cost: bool
) -> dict[Pair, PastLevel]:
    levels: dict[Pair, PastLevel] = {}
    since = scope.of(StockMovement.objects.filter(created_at__lte=at))
    entries = scope.of(CostEntry.objects.filter(created_at__lte=at))
    if known is not None:
        stored = scope.of(StockCheckpoint.objects.filter(at=known)).values_list(
            "sku_id", "warehouse_id", "bucket", "balance", "average_cost", "stock_value"
        )
        for sku, warehouse, bucket, balance, average, value in stored.iterator(10_000):
            level = levels.setdefault((sku, warehouse), PastLevel())
            level.balances[bucket] = balance
            if with_cost and bucket == "on_hand":
                level.average_cost, level.stock_value = average, value
        since = since.filter(created_at__gt=known)
        entries = entries.filter(created_at__gt=known)
    summed = since.values_list("sku_id", "warehouse_id", "bucket").annotate(change=Sum("quantity"))
    for sku, warehouse, bucket, change in summed.iterator(10_000):
        level = levels.setdefault((sku, warehouse), PastLevel())
        level.balances[bucket] = level.balances.get(bucket, 0) + change
    if with_cost:
        _put_costs(levels, since, entries)
    return levels


def _put_costs(levels: Mapping[Pair, PastLevel], since: QuerySet[Any], entries: QuerySet[Any]) -> None:
    """Average and value after the newest movement of on hand, or the newer change of value without one."""
    names = ("sku_id", "warehouse_id", "average_cost", "stock_value", "created_at")

    def newest(rows: QuerySet[Any], model: Any) -> Iterator[Any]:
        last = rows.values("sku_id", "warehouse_id").annotate(newest=Max("id")).values("newest")
        yield from model.objects.filter(pk__in=last).order_by().values_list(*names).iterator(10_000)

    moments: dict[Pair, dt.datetime] = {}
    for sku, warehouse, average, value, at in newest(
        since.filter(bucket="on_hand", average_cost__isnull=False), StockMovement
    ):
        moments[sku, warehouse] = at
        level = levels[sku, warehouse]
        level.average_cost = average
        # rows from before values were kept in the ledger
        level.stock_value = value if value is not None else level.on_hand * average
    for sku, warehouse, average, value, at in newest(entries, CostEntry):
        before = moments.get((sku, warehouse))
        if (sku, warehouse) in levels and (before is None or at >= before):
            levels[sku, warehouse].average_cost, levels[sku, warehouse].stock_value = average, value


def worth(
    at: dt.datetime, *, skus: QuerySet[Sku] | None = None, warehouse_ids: Collection[int] | None = None
) -> dict[str, Decimal]:
    """Value of all units on hand at `at` by currency, of `skus` alone where given.

    What did not move since the checkpoint is summed by the database, the rest is replayed. At most seven queries.
    Raises `UserError` for a time without a zone.
    """
    _aware(at, "at")
    known = _checkpoint_before(at)
    moved = Sku.objects.order_by()
    if skus is not None:
        moved = moved.filter(pk__in=skus.order_by().values("pk"))
    sums: dict[str, Decimal] = {}
    if known is not None:
        still = StockCheckpoint.objects.filter(at=known, bucket="on_hand", sku__in=moved.values("pk"))
        if warehouse_ids is not None:
            still = still.filter(warehouse_id__in=warehouse_ids)
        since = {"created_at__gt": known, "created_at__lte": at}
        changed = Q(pk__in=StockMovement.objects.filter(**since).values("sku_id")) | Q(
            pk__in=CostEntry.objects.filter(**since).values("sku_id")
        )
        moved = moved.filter(changed)
        kept = still.exclude(sku__in=moved.values("pk")).order_by().values_list("sku__currency")
        sums = {code: value for code, value in kept.annotate(value=Sum("stock_value")) if value is not None}
    currencies = dict(moved.values_list("pk", "currency"))
    # ids as a subquery: there may be more of them than a statement takes
    scope = _Scope(cast("Collection[int]", moved.values("pk")), warehouse_ids)
    past = _replay(at, scope, known, with_cost=True)
    for (sku, _), level in past.items():
        sums[currencies[sku]] = sums.get(currencies[sku], Decimal(0)) + level.value
    return {code: value for code, value in sorted(sums.items()) if value}


# --- between two moments ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cause:
    """What changed one bucket of one level between two moments: `rows` movements of one kind and reason."""

    kind: str
    reason: str
    change: int
    rows: int


def diff(
    start: dt.datetime,
    end: dt.datetime,
    *,
    sku_ids: Collection[int] | None = None,
    warehouse_ids: Collection[int] | None = None,
) -> dict[Pair, dict[str, list[Cause]]]:
    """Causes per level and bucket after `start` up to and including `end`, the largest change first.

    What moved back and forth by the same amount stays listed: nothing is hidden by a sum of zero.
    Raises `UserError` for times without zones or in the wrong order.
    """
    _aware(start, "from")
    _aware(end, "to")
    if end < start:
        raise UserError("from, to: give the earlier time first.", field="from")
    rows = _Scope(sku_ids, warehouse_ids).of(
        StockMovement.objects.filter(created_at__gt=start, created_at__lte=end)
    )
    changes: dict[Pair, dict[str, list[Cause]]] = {}
    grouped = rows.values_list("sku_id", "warehouse_id", "bucket", "kind", "reason").annotate(
        change=Sum("quantity"), rows=Count("id")
    )
    for sku, warehouse, bucket, kind, reason, change, count in grouped:
        changes.setdefault((sku, warehouse), {}).setdefault(bucket, []).append(
            Cause(kind, reason, change, count)
        )
    for level in changes.values():
        for causes in level.values():
            causes.sort(key=lambda cause: (-abs(cause.change), cause.kind, cause.reason))
    return changes


# --- the whole list -------------------------------------------------------------------------------

EXPORT_HEADER = (
    "sku", "warehouse", "on_hand", "reserved", "damaged", "quarantine", "inspection", "available", "in_transit",
)  # fmt: skip
COST_HEADER = ("average_cost", "value", "currency")


def export_rows(
    at: dt.datetime, *, warehouse_ids: Collection[int], with_cost: bool = False
) -> Iterator[tuple[Any, ...]]:
    """Rows under `EXPORT_HEADER` (and `COST_HEADER`) of every level that held anything at `at`.

    Reads `CHUNK` SKUs at a time, so memory does not grow with the catalogue.
    """
    _aware(at, "at")
    codes = dict(Warehouse.objects.filter(pk__in=warehouse_ids).values_list("pk", "code"))
    known = _checkpoint_before(at)
    last = 0
    while True:
        skus = {
            pk: (code, currency)
            for pk, code, currency in Sku.objects.filter(pk__gt=last)
            .order_by("pk")
            .values_list("pk", "code", "currency")[:CHUNK]
        }
        if not skus:
            return
        first, last = min(skus), max(skus)
        levels = _replay(at, _Scope(None, list(codes), (first, last)), known, with_cost)
        for (sku, warehouse), level in sorted(levels.items()):
            held = level.balances
            if sku not in skus or not any(held.values()):
                continue
            row = (
                skus[sku][0], codes[warehouse], level.on_hand, *(held.get(bucket, 0) for bucket in HELD),
                level.available, held.get("in_transit", 0),
            )  # fmt: skip
            if with_cost:
                row += (level.average_cost, level.value, skus[sku][1])
            yield row


# --- checkpoints ----------------------------------------------------------------------------------


def write_checkpoints(at: dt.datetime) -> int:
    """Store the balances at `at`, so that questions about later moments replay less. Returns the rows written.

    Raises `UserError` when `at` is so recent that open
    transactions could still add to it. Repeating is harmless.
    """
    if at > now() - SETTLED:
        raise UserError("at: choose a moment at least 15 minutes ago.", field="at")
    if StockCheckpoint.objects.filter(at=at).exists():
        return 0
    levels = _replay(at, _Scope(), _checkpoint_before(at), True)
    rows = [
        StockCheckpoint(
            sku_id=sku, warehouse_id=warehouse, bucket=bucket, at=at, balance=balance,
            average_cost=level.average_cost if bucket == "on_hand" else None,
            stock_value=level.stock_value if bucket == "on_hand" else None,
        )
        for (sku, warehouse), level in levels.items()
        for bucket, balance in level.balances.items()
        if balance
    ]  # fmt: skip
    try:
        with transaction.atomic():  # a half-written set would be read as the whole truth
            insert_rows(rows)
    except IntegrityError:
        return 0  # a rival wrote the same set
    return len(rows)


def thin_checkpoints() -> int:
    """Drop checkpoints older than `DAILY_FOR` that are not of a Monday. Returns the rows removed."""
    old = StockCheckpoint.objects.filter(at__lt=now() - DAILY_FOR)
    days = old.order_by().values_list("at", flat=True).distinct()
    drop = [at for at in days if at.astimezone(dt.UTC).weekday() != 0]
    return StockCheckpoint.objects.filter(at__in=drop).delete()[0] if drop else 0
