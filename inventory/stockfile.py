"""Counts and changes of many levels at once: what a stock file asks for, decided row by row, written in bulk.

A chunk of rows is one transaction with a fixed number of statements: lock the levels in order, decide, change
them by the ledger's guarded UPDATE, write the ledger rows and the news. Rows that touch bins, lots, serials or
costs go through `post_movements`, which knows their rules.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from django.db import IntegrityError
from django.db.models import Count, DecimalField, Exists, F, Max, Min, OuterRef, Q, Subquery, Sum, Value
from django.db.models.functions import Abs, Coalesce

from inventory import approvals, bins, selectors, valuation
from inventory.ledger import Bucket, Kind, Movement, post_movements
from inventory.locking import (
    Balances,
    Pair,
    change_levels,
    lock_levels,
    make_levels,
    making_levels,
    read_levels,
    stock_service,
)
from inventory.models import BinStock, CostEntry, CostLayer, Sku, StockMovement, Warehouse
from inventory.selectors import Code
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.db import LostRace
from oms.core.inserts import insert_columns
from oms.core.models import OutboxEvent
from oms.core.outbox import notify_after_commit
from oms.core.words import some


@dataclass(slots=True)
class StockLine:
    """One row: `quantity` eaches as a count (`add` False) or a signed change. `number` names it to people.

    `expected` is the on hand that the file was made with: a level that moved since is refused. `unit_cost` is per
    unit in the SKU's currency and counts for units that come in. `sellable`: the count is of units that can be sold,
    not of all that are there. `numbered`: every unit has a serial number, which a file does not tell.
    """

    number: int
    sku: Code
    warehouse_id: int
    quantity: int
    add: bool
    key: str
    reason: str = ""
    note: str = ""
    unit_cost: Decimal | None = None
    bin_id: int | None = None
    expected: int | None = None
    kind: str = ""
    sellable: bool = False
    numbered: bool = False
    pair: Pair = field(init=False)

    def __post_init__(self) -> None:
        self.pair = self.sku.id, self.warehouse_id


@dataclass(frozen=True, slots=True)
class Standing:
    """What a decision needs of a level, in eaches: `held` is promised or unfit. `average` is its unit cost.

    `kept`: what cannot be sold beside that, as safety stock or because its date is over.
    """

    on_hand: int = 0
    held: int = 0
    average: Decimal = Decimal(0)
    kept: int = 0


@dataclass(slots=True)
class Decided:
    """What a row does: from `before` to `after` on hand, or the sentence why not, with the column it is about."""

    line: StockLine
    before: int
    after: int
    problem: str = ""
    column: str = ""
    average: Decimal = Decimal(0)
    change: int = field(init=False)

    def __post_init__(self) -> None:
        self.change = self.after - self.before

    @property
    def value(self) -> Decimal:
        """What it is worth when held against an adjustment limit."""
        line = self.line
        return approvals.worth(self.change, self.average, line.sku.unit_cost, line.unit_cost)


NOTHING = Standing()


def decide(
    lines: Iterable[StockLine],
    levels: Mapping[Pair, Standing],
    bins: Mapping[tuple[int, int], int] | None = None,
) -> list[Decided]:
    """Pure: rows in order, each seeing what the ones before it did. Nothing is clamped.

    A row that would leave less than what is promised or unfit is refused: a file takes no promise away, that is
    done by hand where the order can be seen. A count of a bin (`bins`: units by bin and SKU) changes on hand by
    the bin's difference.
    """
    moved: dict[Pair, int] = {}
    in_bin = dict(bins or {})
    answer = []
    for line in lines:
        pair = line.pair
        level = levels.get(pair, NOTHING)
        before = level.on_hand + moved.get(pair, 0)
        if line.bin_id is not None:
            held = in_bin.get((line.bin_id, pair[0]), 0)
            change = line.quantity if line.add else line.quantity - held
            in_bin[line.bin_id, pair[0]] = held + change
        elif line.sellable and not line.add:
            withheld = level.held + level.kept
            shown = max(0, before - withheld)
            change = 0 if line.quantity == shown else line.quantity + withheld - before
        else:
            change = line.quantity if line.add else line.quantity - before
        after = before + change
        if line.expected is not None and line.expected != before and change:
            was = "moved since the file was made" if line.expected < 0 else (
                f"was {line.expected} when the file was made"
            )  # fmt: skip
            told = f"On hand of {line.sku.code} {was} and is {before} now: export it again."
            answer.append(Decided(line, before, before, told, "expected"))
        elif change and line.numbered:
            way = f"{some(abs(change), 'unit')} cannot be {'added' if change > 0 else 'taken away'}"
            told = (
                f"Every unit of {line.sku.code} has a serial number, and a file names none: {way}. Receive them, or "
                "adjust by hand, with their numbers."
            )
            answer.append(Decided(line, before, before, told, "quantity"))
        elif change and after < level.held:
            why = (
                f"{level.held} of {line.sku.code} are promised or unavailable, {after} would be left. "
                "Release them, or adjust by hand."
                if level.held
                else f"{line.sku.code} has {before} on hand, {-change} cannot be taken away."
            )
            answer.append(Decided(line, before, before, why, "quantity"))
        elif abs(after) > 1_000_000_000:
            answer.append(
                Decided(line, before, before, f"{after} is more than a level can hold.", "quantity")
            )
        else:
            if change:
                moved[pair] = after - level.on_hand
            answer.append(Decided(line, before, after, average=level.average))
    return answer


def preview(lines: Sequence[StockLine], carry: Mapping[Pair, int] | None = None) -> list[Decided]:
    """What `post` would do now; nothing is locked or written. `carry`: on hand as earlier rows would leave it."""
    levels = _kept(lines, _standing(read_levels({line.pair for line in lines})))
    if carry:
        for line in lines:
            if line.pair in carry:
                levels[line.pair] = replace(levels.get(line.pair, NOTHING), on_hand=carry[line.pair])
    return decide(lines, levels, _in_bins(lines))


def count_as_of(lines: Iterable[StockLine], moment: dt.datetime, prefix: str) -> None:
    """Make counts of `moment` counts of now: what moved on hand since then by others (keys that do not begin with
    `prefix`) is added. A bin that was counted on a level that moved is refused when it is posted.
    """
    counts = [line for line in lines if not line.add]
    shown = [line for line in counts if line.sellable]
    counts = [line for line in counts if not line.sellable]
    if shown:  # what could be sold then is not known any more once anything of the level moved
        touched = set(
            StockMovement.objects.filter(
                sku__in={line.sku.id for line in shown},
                warehouse__in={line.warehouse_id for line in shown},
                created_at__gt=moment,
            )
            .exclude(key__startswith=prefix)
            .values_list("sku", "warehouse")
        )
        for line in shown:
            if line.pair in touched:
                line.expected = -1
    since = (
        StockMovement.objects.filter(
            sku__in={line.sku.id for line in counts},
            warehouse__in={line.warehouse_id for line in counts},
            bucket=Bucket.ON_HAND,
            created_at__gt=moment,
        )
        .exclude(key__startswith=prefix)
        .values_list("sku", "warehouse")
        .annotate(units=Sum("quantity"))
        .order_by()
    )
    moved = {(sku, place): units for sku, place, units in since if units}
    for line in counts:
        units = moved.get(line.pair, 0)
        if units and line.bin_id is None and line.expected is None:
            line.quantity = max(0, line.quantity + units)
        elif units:
            line.expected = -1 if line.expected is None else line.expected


def _standing(balances: Mapping[Pair, Balances]) -> dict[Pair, Standing]:
    return {
        pair: Standing(level.on_hand, level.on_hand - level.available, level.average_cost)
        for pair, level in balances.items()
    }


def _kept(lines: Sequence[StockLine], standing: dict[Pair, Standing]) -> dict[Pair, Standing]:
    """With what lists of sellable units leave out beside promised and unfit ones, where a row counts these."""
    skus = {line.sku.id for line in lines if line.sellable}
    if not skus:
        return standing
    seen = selectors.levels(skus, {line.warehouse_id for line in lines if line.sellable})
    return standing | {
        pair: replace(standing[pair], kept=view.safety + view.expired)
        for pair, view in seen.items()
        if pair in standing
    }


def _in_bins(lines: Sequence[StockLine]) -> dict[tuple[int, int], int]:
    named = {line.bin_id for line in lines if line.bin_id is not None}
    if not named:
        return {}
    rows = (
        BinStock.objects.filter(bin_id__in=named, sku_id__in={line.sku.id for line in lines})
        .values_list("bin_id", "sku_id")
        .annotate(units=Sum("quantity"))
    )
    return {(place, sku): units for place, sku, units in rows}


@dataclass(slots=True)
class Posted:
    """What a chunk did. `known` rows were posted before under the same key."""

    decided: list[Decided] = field(default_factory=list)
    known: int = 0


@stock_service
def post(lines: Sequence[StockLine], *, actor: Actor, reference: str, replay: bool = True) -> Posted:
    """Write a chunk of rows, once per key, in one transaction. Rows with a problem are left out and come back.

    `replay` False skips the look for keys posted before and the locks before the decision: for a file of which
    nothing was posted yet. A rival who posts the same keys all the same is found by the unique key, one who moves a
    level between the decision and the writing by its figure (`LostRace`: look the SKUs up again and run again with
    `replay`). So is a SKU that was merged, or came under other rules, after its row was looked up.
    """
    answer = Posted()
    if not lines:
        return answer
    fresh = list(lines)
    if replay:
        keys = [line.key for line in lines]
        known = set(StockMovement.objects.filter(key__in=keys).values_list("key", flat=True))
        fresh = [line for line in lines if line.key not in known]
        answer.known = len(lines) - len(fresh)
    pairs = {line.pair for line in fresh}
    # what can be sold follows promises, too, which the writing does not look at
    locked = replay or any(line.sellable for line in fresh)
    if locked and pairs - read_levels(pairs).keys():
        making_levels()
    levels = _kept(fresh, _standing(lock_levels(pairs) if locked else read_levels(pairs)))
    answer.decided = decide(fresh, levels, _in_bins(fresh))
    moving = [one for one in answer.decided if one.change]
    if not moving:
        return answer
    usual = valuation.usual_method()
    slow_pairs = _slow(moving, usual)
    if slow_pairs and not replay:
        return post(lines, actor=actor, reference=reference)  # their rules read and write more than one level
    _quick([one for one in moving if one.line.pair not in slow_pairs], levels, actor, reference)
    if not replay and _slow(moving, usual, anew=True):  # units went into bins before the levels were ours
        raise LostRace("a level came under other rules while the file was written")
    slow = [one for one in moving if one.line.pair in slow_pairs]
    if slow:
        post_movements(
            [
                Movement(
                    one.line.sku.id, one.line.warehouse_id, Bucket.ON_HAND, one.change, _kind(one.line), one.line.key,
                    reason=one.line.reason or "file", reference=reference, note=one.line.note, bin_id=one.line.bin_id,
                    unit_cost=one.line.unit_cost if one.change > 0 else None,
                )
                for one in slow
            ],
            actor=actor,
        )  # fmt: skip
    if valuation.usual_method() != usual or _ruled_anew({one.line.sku for one in moving}):
        raise LostRace("a SKU was merged or came under other rules while the file was written")
    return answer


def _ruled_anew(looked_up: set[Code]) -> bool:
    """Whether a SKU is merged by now, or tracked or valued in another way than when it was looked up.

    Who changes that holds the SKU's levels until it stands, so the answer counts once they are held here.
    """
    rules = {
        pk: (by_lot or by_serial, by_serial, method, merged)
        for pk, by_lot, by_serial, method, merged in selectors.ruled({sku.id for sku in looked_up})
    }
    return any(
        rules.get(sku.id, (False, False, "", None)) != (sku.tracked, sku.serial_tracked, sku.valuation, None)
        for sku in looked_up
    )


def _slow(moving: Sequence[Decided], usual: str, *, anew: bool = False) -> set[Pair]:
    """Levels whose change has rules of its own: bins, lots and serials, costs. `anew`: what changes by itself.

    `usual`: the business's valuation.
    """
    binned = _binned({one.line.pair for one in moving if one.change < 0})
    docks = bins.dock_of({one.line.warehouse_id for one in moving if one.change > 0})
    if anew and not docks:
        return binned
    found = set()
    for one in moving:
        line = one.line
        if (
            line.bin_id is not None
            or line.sku.tracked
            or (line.sku.valuation or usual) == Sku.Valuation.FIFO
            or (line.unit_cost is not None and one.change > 0)
            or (one.change > 0 and line.warehouse_id in docks)
        ):
            found.add(line.pair)
    return found | binned


def _binned(pairs: set[Pair]) -> set[Pair]:
    """Levels of which units lie in bins: these have to give some."""
    if not pairs or not BinStock.objects.filter(quantity__gt=0).exists():
        return set()
    rows = BinStock.objects.filter(
        sku_id__in={sku for sku, _ in pairs},
        warehouse_id__in={place for _, place in pairs},
        quantity__gt=0,
    )
    return set(rows.values_list("sku_id", "warehouse_id")) & pairs


def _kind(line: StockLine) -> str:
    return line.kind or (Kind.ADJUST if line.add else Kind.COUNT)


def _quick(moving: list[Decided], levels: Mapping[Pair, Standing], actor: Actor, reference: str) -> None:
    """Change levels that stand as they were read, and write rows and news column by column."""
    if not moving:
        return
    deltas: dict[Pair, dict[str, int]] = {}
    for one in moving:
        level = deltas.setdefault(one.line.pair, {"on_hand": 0})
        level["on_hand"] += one.change
    missing = deltas.keys() - levels.keys()
    if missing:
        make_levels(missing)
    seen = {pair: levels.get(pair, NOTHING).on_hand for pair in deltas}
    after = change_levels(deltas, seen=seen)
    if len(after) != len(deltas):
        raise LostRace("a level changed while the file was written")
    averages = [after[one.line.pair].average_cost for one in moving]
    moment = now()
    lines = [one.line for one in moving]
    kinds = [_kind(line) for line in lines]
    try:
        insert_columns(
            StockMovement,
            len(moving),
            {
                "sku_id": [line.sku.id for line in lines],
                "warehouse_id": [line.warehouse_id for line in lines],
                "bucket": str(Bucket.ON_HAND),
                "quantity": [one.change for one in moving],
                "balance": [one.after for one in moving],
                "kind": _same(kinds),
                "reason": _same([(line.reason or "file")[:60] for line in lines]),
                "reference": reference[:80],
                "actor": str(actor),
                "note": _same([line.note[:255] for line in lines]),
                "lot_id": None,
                "bin_id": None,
                "unit_cost": [
                    average or line.sku.unit_cost for average, line in zip(averages, lines, strict=True)
                ],
                "average_cost": averages,
                "stock_value": [one.after * average for one, average in zip(moving, averages, strict=True)],
                "occurred_at": moment,
                "created_at": moment,
                "key": [line.key for line in lines],
            },
        )
    except IntegrityError as error:
        raise LostRace("the same row was posted meanwhile") from error
    changed = sorted({pair[0] for pair, delta in deltas.items() if delta["on_hand"]})
    increased = sorted({pair[0] for pair, delta in deltas.items() if delta["on_hand"] > 0})
    keys = [str(sku) for sku in (*changed, *increased)]
    topics = ["stock.changed"] * len(changed) + ["stock.increased"] * len(increased)
    insert_columns(
        OutboxEvent,
        len(keys),
        {"topic": topics, "key": keys, "data": {"at": moment.isoformat()}, "created_at": moment},
    )
    notify_after_commit()


def _same(values: list[str]) -> list[str] | str:
    """One value for all rows where they agree, so that it travels once."""
    return values[0] if len(set(values)) == 1 else values


# --- undo -----------------------------------------------------------------------------------------


def blocked(prefix: str, limit: int = 20) -> tuple[int, list[StockMovement]]:
    """Rows posted under keys that begin with `prefix` and cannot be reversed: their level's on hand moved later.

    Returns how many, and the later movements of the first few.
    """
    later = StockMovement.objects.filter(
        sku=OuterRef("sku"), warehouse=OuterRef("warehouse"), bucket=Bucket.ON_HAND, id__gt=OuterRef("id")
    ).exclude(key__startswith=prefix)
    rows = (
        StockMovement.objects.filter(key__startswith=prefix)
        .annotate(moved=Exists(later.exclude(key__startswith=f"undo:{prefix}")))
        .filter(moved=True)
    )
    return rows.count(), list(rows.select_related("sku", "warehouse").order_by("id")[:limit])


def posted_sum(prefix: str) -> tuple[approvals.Sum, list[int]]:
    """What taking back the rows posted under `prefix` moves, and the ids of their warehouses. One statement each."""
    rows = StockMovement.objects.filter(key__startswith=prefix)
    cost = F("unit_cost") * Abs(F("quantity"))
    found = rows.aggregate(
        rows=Count("id"),
        gained=Sum("quantity", filter=Q(quantity__gt=0)),
        lost=Sum("quantity", filter=Q(quantity__lt=0)),
        value=Sum(cost, output_field=DecimalField(max_digits=20, decimal_places=4)),
        dearest=Max(cost, output_field=DecimalField(max_digits=20, decimal_places=4)),
    )
    total = approvals.Sum(
        found["rows"], -(found["lost"] or 0), found["gained"] or 0, found["value"] or Decimal(0),
        found["dearest"] or Decimal(0),
    )  # fmt: skip
    for sku, place, units, balance in rows.order_by("id").values_list(
        "sku__code", "warehouse__code", "quantity", "balance"
    )[: approvals.SHOWN]:
        total.shown.append([sku, place, balance, balance - units])
    return total, sorted(set(rows.order_by().values_list("warehouse", flat=True).distinct()))


def posted_rows(prefix: str) -> int:
    """How many ledger rows were written under keys that begin with `prefix`."""
    return StockMovement.objects.filter(key__startswith=prefix).count()


def merge_blocks(prefix: str) -> str:
    """Why rows posted under `prefix` cannot be reversed although their level stands: its SKU was merged when nothing
    was there to move. Empty when none was.
    """
    rows = StockMovement.objects.filter(key__startswith=prefix, sku__merged_into__isnull=False)
    row = rows.select_related("sku__merged_into").order_by("id").first()
    if row is None:
        return ""
    return f"{row.sku} was merged into {row.sku.merged_into} since; adjust {row.sku.merged_into} by hand."


def cost_blocks(prefix: str) -> str:
    """Why the costs that rows posted under `prefix` brought cannot be taken back; empty when they can.

    Late landed cost or another valuation since has counted with them. Under first in, first out a reversal takes
    the oldest units; it is refused where these cost something else than those of the file.
    """
    rows = StockMovement.objects.filter(key__startswith=prefix)
    later = CostEntry.objects.filter(
        sku=OuterRef("sku"), warehouse=OuterRef("warehouse"), created_at__gte=OuterRef("created_at")
    )
    row = rows.filter(Exists(later)).select_related("sku", "warehouse").order_by("id").first()
    if row is not None:
        return f"cost was entered since for {row.sku} in {row.warehouse}; mend it by hand."
    layers = CostLayer.objects.filter(
        sku=OuterRef("sku"), warehouse=OuterRef("warehouse"), remaining__gt=0
    ).exclude(value=F("remaining") * OuterRef("unit_cost"))
    row = (
        rows.filter(Exists(layers), quantity__gt=0).select_related("sku", "warehouse").order_by("id").first()
    )
    if row is not None:
        return (
            f"{row.sku} in {row.warehouse} is valued first in, first out, and its oldest units cost something else "
            "than those of the file; mend it by hand."
        )
    return ""


def restore_averages(prefix: str, reversed_ids: Sequence[int], *, actor: Actor) -> None:
    """Bring levels whose rows under `prefix` are all reversed back to the average they had before. `reversed_ids`:
    the rows just reversed. Call it in their transaction.
    """
    rows = StockMovement.objects.filter(key__startswith=prefix)
    skus = set(rows.filter(pk__in=reversed_ids).order_by().values_list("sku", flat=True))
    spans = rows.filter(sku__in=skus).order_by().values_list("sku", "warehouse")
    done = set(reversed_ids)
    firsts = {
        (sku, place): (first, last)
        for sku, place, first, last in spans.annotate(first=Min("id"), last=Max("id"))
        if first in done
    }
    if not firsts:
        return
    before = StockMovement.objects.filter(
        sku=OuterRef("sku"), warehouse=OuterRef("warehouse"), bucket=Bucket.ON_HAND, id__lt=OuterRef("id")
    ).order_by("-id")
    since = Coalesce(Subquery(before.values("created_at")[:1]), Value(dt.datetime(1970, 1, 1, tzinfo=dt.UTC)))
    entered = CostEntry.objects.filter(
        sku=OuterRef("sku"), warehouse=OuterRef("warehouse"), created_at__lt=OuterRef("created_at"),
        created_at__gt=OuterRef("since"),
    ).order_by("-id")  # fmt: skip
    old = dict(
        StockMovement.objects.filter(pk__in=[first for first, _ in firsts.values()])
        .annotate(since=since)
        .annotate(
            was=Coalesce(
                Subquery(entered.values("average_cost")[:1]),
                Subquery(before.values("average_cost")[:1]),
                Value(Decimal(0)),
                output_field=DecimalField(max_digits=14, decimal_places=4),
            )
        )
        .values_list("pk", "was")
    )
    new = dict(rows.filter(pk__in=[last for _, last in firsts.values()]).values_list("pk", "average_cost"))
    changed = {
        pair: old[first] for pair, (first, last) in firsts.items() if new[last] not in (None, old[first])
    }
    if changed:
        valuation.restore(changed, reference="import undone", actor=actor)


def undo_lines(prefix: str, start: int, size: int) -> list[StockLine]:
    """The reversals of rows posted under `prefix`, newest first, from the `start`-th on."""
    rows = (
        StockMovement.objects.filter(key__startswith=prefix)
        .select_related("sku", "warehouse")
        .order_by("-id")
    )
    return [_reversal(row) for row in rows[start : start + size]]


def _reversal(row: StockMovement) -> StockLine:
    sku = row.sku
    return StockLine(
        number=row.pk,
        sku=Code(
            sku.pk,
            sku.code,
            sku.kind,
            sku.lot_tracked or sku.serial_tracked,
            sku.unit_cost,
            sku.valuation,
            sku.serial_tracked,
        ),  # fmt: skip
        warehouse_id=row.warehouse_id,
        quantity=-row.quantity,
        add=True,
        key=f"undo:{row.key}",
        reason="import undone",
        note=row.reference,
        bin_id=row.bin_id,
        kind=Kind.CORRECTION,
        numbered=sku.serial_tracked and row.warehouse.kind != Warehouse.Kind.THREEPL,
    )
