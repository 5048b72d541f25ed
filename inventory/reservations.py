"""Promises of stock. One function reserves for everybody; the database refuses what is not there."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from django.db import connection, transaction

from inventory import fences, kits, locking, lots
from inventory.allocation import Demand, Pair, Planned, Take, plan
from inventory.ledger import Bucket, InsufficientStock, Kind, Movement, merged, shortage, tell, write_rows
from inventory.locking import (
    BUCKETS,
    change_levels,
    lock_levels,
    lock_reservations,
    require_transaction,
    stock_service,
    stock_transaction,
)
from inventory.models import Reservation, Sku, StockMovement, Warehouse
from oms.core.actor import Actor, task_actor
from oms.core.clock import now
from oms.core.db import LostRace, on_postgres
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.inserts import insert_rows, take_ids
from oms.core.outbox import emit_many
from oms.core.words import some

#: pools of a marketplace: only multi-channel fulfilment may promise from them
OPERATED = frozenset({Warehouse.Kind.FBA, Warehouse.Kind.WFS})


@dataclass(frozen=True, slots=True)
class ReserveLine:
    """A wish for `quantity` units (kits count as kits) from the candidate warehouses in order.

    `mcf`: FBA or WFS stock may serve it, if the SKU allows that too. `expires_at`: a checkout's hold ends by
    itself. `promise_at`: when stock shrinks, the latest promise loses first. `channel_code`: units kept for other
    channels stay theirs. `min_shelf_days`: days of life its units must have left.
    """

    reference: str
    sku_id: int
    quantity: int
    warehouse_ids: tuple[int, ...]
    allow_split: bool = True
    expires_at: dt.datetime | None = None
    mcf: bool = False
    promise_at: dt.datetime | None = None
    channel_code: str = ""
    min_shelf_days: int = 0
    pack: int = 1  # of the SKU per asked unit; a listing of three reserves whole threes only


@dataclass(frozen=True, slots=True)
class Part:
    """One reservation behind a line: `quantity` eaches of a counted SKU, `per_unit` of them per unit of the line."""

    reservation_id: int
    sku_id: int
    warehouse_id: int
    quantity: int
    per_unit: int


@dataclass(frozen=True, slots=True)
class ReserveResult:
    """`reserved + short` = the asked quantity; both are 0 for a service, which has no stock."""

    reference: str
    reserved: int
    short: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class SkuFact:
    """What an order line needs to know of its SKU; `merged_into` names the one that took its place."""

    id: int
    code: str
    kind: str
    merged_into: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read at one moment, without a lock: SKUs, their MCF right, contents per kit, available per level,
    warehouses that a marketplace operates, and closed ones. `limited`: SKUs with lots or ring-fences, of which not
    everybody may take everything that is available."""

    skus: dict[int, SkuFact]
    mcf: frozenset[int]
    contents: dict[int, kits.Parts]
    available: dict[Pair, int]
    operated: frozenset[int]
    closed: frozenset[int]
    reserved: dict[Pair, int] = field(default_factory=dict)
    limited: frozenset[int] = frozenset()


def reserve(
    lines: Sequence[ReserveLine],
    *,
    actor: Actor,
    facts: Facts | None = None,
    ids: Sequence[int] = (),
    restart: bool = False,
) -> list[ReserveResult]:
    """Promise stock to many lines of many orders in one go, in the order given; never more than there is.

    Kits are resolved to components, equal levels merged, and one guarded UPDATE in ascending (SKU, warehouse)
    order takes the sum. When a rival was quicker, everything is undone to a savepoint, the rows are locked in the
    same order and the split is decided again on exact figures. What cannot be promised is `short`, not an error.

    Runs inside the caller's transaction. `facts` = `read()` of these SKUs and warehouses a moment ago; `ids` = new
    reservation ids from `take_ids`, used when they are enough. With
    `restart` the caller repeats its whole transaction on `LostRace`, and no savepoint is paid for.
    Raises `UserError` for an unknown SKU or a quantity below 1.
    """
    require_transaction()
    if not lines:
        return []
    for line in lines:
        if isinstance(line.quantity, bool) or not isinstance(line.quantity, int) or line.quantity < 1:
            raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
    if facts is None:
        wanted = {line.sku_id for line in lines}
        facts = read(wanted, {place for line in lines for place in line.warehouse_ids})
    for line in lines:
        if line.sku_id not in facts.skus:
            raise UserError(f"sku: there is no SKU with id {line.sku_id}.", field="sku")
    if facts.limited and on_postgres():
        # the guarded UPDATE knows nothing of lots and fences: where there are any, the rows are locked first
        return _take(lines, _exact(facts), actor, ids)
    if restart or not on_postgres():
        # on SQLite writers are serial, so what was read still holds
        return _take(lines, facts, actor, ids)
    try:
        with transaction.atomic():
            return _take(lines, facts, actor, ids)
    except LostRace:
        return _take(lines, _exact(facts), actor, ids)


def _exact(facts: Facts) -> Facts:
    """The same facts with the figures of now, their levels locked."""
    levels = lock_levels(facts.available)
    return replace(
        facts,
        available={pair: level.available for pair, level in levels.items()},
        reserved={pair: level.reserved for pair, level in levels.items()},
    )


def read(sku_ids: Collection[int], warehouse_ids: Collection[int]) -> Facts:
    """Everything that `reserve()` decides on, unlocked: one query, plus one per level of kit nesting.

    SKUs that do not exist are left out.
    """
    wanted, places = set(sku_ids), set(warehouse_ids)
    facts = _levels(wanted, places)
    kit_ids = {pk for pk, sku in facts.skus.items() if sku.kind == Sku.Kind.KIT}
    if not kit_ids:
        return facts
    contents = kits.flatten(kit_ids)
    inside = {sku for parts in contents.values() for sku, _ in parts} - wanted
    if not inside:
        return replace(facts, contents=contents)
    more = _levels(inside, places)
    return Facts(
        facts.skus | more.skus,
        facts.mcf | more.mcf,
        contents,
        facts.available | more.available,
        facts.operated | more.operated,
        facts.closed | more.closed,
        facts.reserved | more.reserved,
        facts.limited | more.limited,
    )


def _levels(sku_ids: set[int], places: set[int]) -> Facts:
    if not sku_ids:
        return Facts({}, frozenset(), {}, {}, frozenset(), frozenset())
    # a left join with a condition on the right side, which the ORM puts in the wrong order
    marks, where = ", ".join(["%s"] * len(sku_ids)), ", ".join(["%s"] * len(places)) or "NULL"
    moment = connection.ops.adapt_datetimefield_value(now())
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT s.id, s.code, s.kind, s.merged_into_id, s.mcf_allowed, l.warehouse_id, w.kind, w.is_active,
                   l.on_hand - l.reserved - l.damaged - l.quarantine - l.inspection, l.reserved,
                   s.lot_tracked OR EXISTS (
                       SELECT 1 FROM inventory_ringfence f
                       WHERE f.sku_id = s.id AND f.starts_at <= %s AND f.ends_at > %s
                   )
            FROM inventory_sku s
            LEFT JOIN inventory_stocklevel l ON l.sku_id = s.id AND l.warehouse_id IN ({where})
            LEFT JOIN inventory_warehouse w ON w.id = l.warehouse_id
            WHERE s.id IN ({marks})
            """,  # noqa: S608 - only placeholders are put in
            [moment, moment, *sorted(places), *sorted(sku_ids)],
        )
        rows = cursor.fetchall()
    skus: dict[int, SkuFact] = {}
    mcf: set[int] = set()
    available: dict[Pair, int] = {}
    operated: set[int] = set()
    closed: set[int] = set()
    reserved: dict[Pair, int] = {}
    limited: set[int] = set()
    for sku_id, code, kind, merged_into, allowed, place, place_kind, is_active, free, held, special in rows:
        if sku_id not in skus:
            skus[sku_id] = SkuFact(sku_id, code, kind, merged_into)
        if special:
            limited.add(sku_id)
        if allowed:
            mcf.add(sku_id)
        if place is None:
            continue
        available[sku_id, place], reserved[sku_id, place] = free, held
        if place_kind in OPERATED:
            operated.add(place)
        if not is_active:
            closed.add(place)
    return Facts(
        skus,
        frozenset(mcf),
        {},
        available,
        frozenset(operated),
        frozenset(closed),
        reserved,
        frozenset(limited),
    )


@dataclass(frozen=True, slots=True)
class _Limits:
    """Lots and ring-fences of the limited SKUs, read once per call."""

    dates: Mapping[Pair, lots.Dated]
    kept: Mapping[int, tuple[fences.Kept, ...]]

    def held_back(
        self, line: ReserveLine, parts: Sequence[tuple[int, int]], candidates: Sequence[int], facts: Facts
    ) -> dict[Pair, int]:
        """Available eaches that this line may not take; units kept for others are the ones it would reach last."""
        held: dict[Pair, int] = {}
        for sku, _ in parts:
            if sku not in facts.limited:
                continue
            others = sum(
                kept.remaining for kept in self.kept.get(sku, ()) if kept.channel_code != line.channel_code
            )
            for place in reversed(candidates):
                reserved = facts.reserved.get((sku, place), 0)
                fit = facts.available.get((sku, place), 0) + reserved
                dated = self.dates.get((sku, place), lots.NOTHING)
                blocked = dated.held_back(line.min_shelf_days, fit=fit, reserved=reserved)
                fenced = min(others, max(0, fit - reserved - blocked))
                others -= fenced
                if blocked + fenced:
                    held[sku, place] = blocked + fenced
        return held


def _limits(facts: Facts) -> _Limits | None:
    if not facts.limited:
        return None
    dates = lots.dated(facts.limited, {place for _, place in facts.available})
    return _Limits(dates, fences.remaining(facts.limited))


def _demand(line: ReserveLine, facts: Facts, limits: _Limits | None) -> Demand | None:
    """The line in counted SKUs and permitted warehouses; None when it needs no stock or can never get any."""
    kind = facts.skus[line.sku_id].kind
    if kind == Sku.Kind.SERVICE:
        return None
    parts = tuple(facts.contents[line.sku_id]) if kind == Sku.Kind.KIT else ((line.sku_id, 1),)
    may_mcf = line.mcf and all(sku in facts.mcf for sku, _ in parts)
    candidates = tuple(
        place
        for place in line.warehouse_ids
        if place not in facts.closed and (may_mcf or place not in facts.operated)
    )
    # a service inside a kit has no stock of its own
    parts = tuple((sku, each * line.pack) for sku, each in parts if facts.skus[sku].kind != Sku.Kind.SERVICE)
    if not parts or not candidates:
        return None
    held = limits.held_back(line, parts, candidates, facts) if limits else {}
    return Demand(line.quantity, parts, candidates, line.allow_split, held)


def _take(
    lines: Sequence[ReserveLine], facts: Facts, actor: Actor, ids: Sequence[int]
) -> list[ReserveResult]:
    limits = _limits(facts)
    demands = [_demand(line, facts, limits) for line in lines]
    planned = iter(plan([demand for demand in demands if demand], facts.available))
    plans = [next(planned) if demand else Planned(0, ()) for demand in demands]
    takes = [(line, take) for line, decided in zip(lines, plans, strict=True) for take in decided.takes]
    stored = iter(_promise(takes, actor, ids))
    results = []
    for line, decided in zip(lines, plans, strict=True):
        parts = tuple(
            Part(next(stored), take.sku_id, take.warehouse_id, take.quantity, take.per_unit)
            for take in decided.takes
        )
        short = 0 if facts.skus[line.sku_id].kind == Sku.Kind.SERVICE else line.quantity - decided.units
        results.append(ReserveResult(line.reference, decided.units, short, parts))
    return results


def _promise(takes: Sequence[tuple[ReserveLine, Take]], actor: Actor, spare: Sequence[int]) -> Sequence[int]:
    """Store one reservation per take and move its units; the new ids. Raises `LostRace` when a level has too few."""
    if not takes:
        return []
    ids = spare[: len(takes)]
    if len(ids) < len(takes):
        ids = take_ids({Reservation: len(takes)})[Reservation]
    deltas: dict[Pair, dict[str, int]] = {}
    for _, take in takes:
        level = deltas.setdefault((take.sku_id, take.warehouse_id), {Bucket.RESERVED: 0})
        level[Bucket.RESERVED] += take.quantity
    moment = now()
    if on_postgres():
        _promise_at_once(ids, takes, deltas, actor, moment)
        tell(deltas, moment)
        return ids
    rows = [
        Reservation(
            pk=pk,
            sku_id=take.sku_id,
            warehouse_id=take.warehouse_id,
            quantity=take.quantity,
            reference=line.reference[:80],
            expires_at=line.expires_at,
            promise_at=line.promise_at,
            channel_code=line.channel_code[:40],
            min_shelf_days=line.min_shelf_days,
            created_at=moment,
        )
        for pk, (line, take) in zip(ids, takes, strict=True)
    ]
    after = change_levels(deltas)
    if len(after) != len(deltas):
        raise LostRace("a level has less than was read")
    insert_rows(rows)
    movements = [_reserved(row, row.quantity, Kind.RESERVE, f"rsv:{row.pk}") for row in rows]
    write_rows(movements, deltas, after, actor=actor)
    return ids


@lru_cache(maxsize=4)
def _at_once(guard: str) -> str:
    """The same text every time, so that the driver takes it apart only once."""
    zeros = ", ".join(f"0 AS {bucket}_by" for bucket in BUCKETS if bucket != "reserved")
    return f"""
        WITH want AS (
            SELECT *, {zeros} FROM unnest(%s::bigint[], %s::bigint[], %s::int[]) AS t (sku, warehouse, reserved_by)
        ),
        held AS MATERIALIZED (
            SELECT want.* FROM inventory_stocklevel l JOIN want
            ON l.sku_id = want.sku AND l.warehouse_id = want.warehouse
            ORDER BY l.sku_id, l.warehouse_id FOR NO KEY UPDATE OF l
        ),
        changed AS (
            UPDATE inventory_stocklevel SET reserved = reserved + reserved_by FROM held
            WHERE sku_id = sku AND warehouse_id = warehouse AND {guard}
            RETURNING sku_id, warehouse_id, reserved
        ),
        whole AS (SELECT count(*) AS levels FROM changed HAVING count(*) = %s),
        asked AS (
            SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::int[], %s::int[], %s::text[],
                                 %s::timestamptz[], %s::timestamptz[], %s::text[], %s::int[])
                AS t (pk, sku, place, units, later, reference, expires_at, promise_at, channel, life)
        ),
        held_now AS (
            INSERT INTO inventory_reservation (id, uid, sku_id, warehouse_id, quantity, consumed, released, state,
                                               reference, expires_at, promise_at, channel_code, min_shelf_days,
                                               firm, created_at)
            SELECT pk, gen_random_uuid(), sku, place, units, 0, 0, 'open', reference, expires_at, promise_at,
                   channel, life, false, %s::timestamptz
            FROM asked, whole
        ),
        moved AS (
            INSERT INTO inventory_stockmovement (sku_id, warehouse_id, bucket, quantity, balance, kind, reason,
                                                 reference, actor, note, occurred_at, created_at, key)
            SELECT sku, place, 'reserved', units, changed.reserved - later, 'reserve', '', reference, %s, '',
                   %s::timestamptz, %s::timestamptz, 'rsv:' || pk
            FROM whole, asked JOIN changed ON changed.sku_id = asked.sku AND changed.warehouse_id = asked.place
            ORDER BY pk
        )
        SELECT levels FROM whole
    """  # noqa: S608 - a condition of ours only


def _promise_at_once(
    ids: Sequence[int],
    takes: Sequence[tuple[ReserveLine, Take]],
    deltas: Mapping[Pair, Mapping[str, int]],
    actor: Actor,
    moment: dt.datetime,
) -> None:
    """Guarded UPDATE, reservations and ledger rows in one statement: the levels stay locked for the shortest time.

    Nothing is inserted unless every level took its change. A movement's balance is the level's new `reserved` less
    what the later movements of this call add.
    """
    pairs = sorted(deltas)
    later = {pair: level[Bucket.RESERVED] for pair, level in deltas.items()}
    offsets = []
    for _, take in takes:
        pair = (take.sku_id, take.warehouse_id)
        later[pair] -= take.quantity
        offsets.append(later[pair])
    with connection.cursor() as cursor:
        cursor.execute(
            _at_once(locking.GUARD),
            [
                [sku for sku, _ in pairs],
                [place for _, place in pairs],
                [deltas[pair][Bucket.RESERVED] for pair in pairs],
                len(pairs),
                list(ids),
                [take.sku_id for _, take in takes],
                [take.warehouse_id for _, take in takes],
                [take.quantity for _, take in takes],
                offsets,
                [line.reference[:80] for line, _ in takes],
                [line.expires_at for line, _ in takes],
                [line.promise_at for line, _ in takes],
                [line.channel_code[:40] for line, _ in takes],
                [line.min_shelf_days for line, _ in takes],
                moment,
                str(actor),
                moment,
                moment,
            ],
        )
        if cursor.fetchone() is None:
            raise LostRace("a level has less than was read")


def _reserved(row: Reservation, quantity: int, kind: str, key: str, reason: str = "") -> Movement:
    return Movement(
        sku_id=row.sku_id,
        warehouse_id=row.warehouse_id,
        bucket=Bucket.RESERVED,
        quantity=quantity,
        kind=kind,
        key=key,
        reason=reason,
        reference=row.reference,
    )


@stock_service
def release(
    reservations: Collection[int] | Mapping[int, int], *, actor: Actor, reason: str
) -> dict[int, int]:
    """Give promises back: all that is held of the named reservations, or `{id: quantity}`.

    Returns the released quantity per id. A reservation that holds nothing any more is left alone, so repeating
    it is harmless. Raises `Conflict` when more is asked back than is held, `NotFound` for an unknown id.
    """
    wanted: dict[int, int | None] = (
        dict(reservations) if isinstance(reservations, Mapping) else dict.fromkeys(reservations)
    )
    rows = _locked(wanted)
    released: dict[int, int] = {}
    movements = []
    for pk, row in rows.items():
        quantity = row.quantity if wanted[pk] is None else int(wanted[pk] or 0)
        if quantity < 0 or (quantity > row.quantity and wanted[pk] is not None and row.quantity):
            raise Conflict(
                f"quantity: reservation {pk} holds {row.quantity}, {quantity} asked back.", field="quantity"
            )
        quantity = min(quantity, row.quantity)
        if not quantity:
            continue
        released[pk] = quantity
        row.released += quantity
        row.quantity -= quantity
        movements.append(_reserved(row, -quantity, Kind.RELEASE, f"rls:{pk}:{row.released}", reason))
    _store([rows[pk] for pk in released])
    _apply(movements, actor)
    return released


@dataclass(frozen=True, slots=True)
class Picked:
    """Units of a promise that were taken from a known bin or lot."""

    quantity: int
    bin_id: int | None = None
    lot_id: int | None = None


@stock_service
def consume(
    quantities: Mapping[int, int],
    *,
    actor: Actor,
    reference: str,
    key: str,
    occurred_at: dt.datetime | None = None,
    picked: Mapping[int, Sequence[Picked]] | None = None,
) -> dict[int, int]:
    """Ship promised units: on hand and reserved fall together, once per `key` (at most 80 characters).

    `occurred_at` is when they left, for news that come late; now when left out. `picked` says per reservation what
    was taken from where; the rest is drawn by rule (`inventory.bins`).

    Returns the consumed quantity per reservation id; empty when this key was used before. Raises `Conflict` when
    a reservation holds less than is shipped, `NotFound` for an unknown id, `UserError` for a quantity below 1.
    """
    if not key or len(key) > 80:
        raise UserError("key: consuming needs an idempotency key of 1 to 80 characters.", field="key")
    rows = _locked(quantities)
    # under the reservations' locks a rival's rows are visible, so the key decides safely
    done = set(
        StockMovement.objects.filter(key__in=[f"{key}:{pk}:on_hand" for pk in rows]).values_list(
            "key", flat=True
        )
    )
    movements = []
    consumed: dict[int, int] = {}
    for pk, row in rows.items():
        quantity = quantities[pk]
        if f"{key}:{pk}:on_hand" in done:
            continue
        if quantity < 1:
            raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
        if quantity > row.quantity:
            raise Conflict(
                f"quantity: reservation {pk} holds {row.quantity}, {quantity} shipped. "
                "Its stock was released or shipped already.",
                field="quantity",
            )
        consumed[pk] = quantity
        row.quantity -= quantity
        row.consumed += quantity
        moved = _shipped(row, quantity, (picked or {}).get(pk, ()), reference, f"{key}:{pk}")
        movements += [replace(one, occurred_at=occurred_at) for one in moved]
    _store([rows[pk] for pk in consumed])
    _apply(movements, actor)
    return consumed


def _shipped(
    row: Reservation, quantity: int, picked: Sequence[Picked], reference: str, key: str
) -> list[Movement]:
    """The movements of shipped units: reserved in one, on hand in one per place that was named."""
    rest = quantity - sum(one.quantity for one in picked)
    if rest < 0 or any(one.quantity < 1 for one in picked):
        raise Conflict(
            f"quantity: {some(quantity - rest, 'unit was', 'units were')} picked, {quantity} are shipped. "
            "Undo the picks that are too many.",
            field="quantity",
        )
    pieces = [*picked, Picked(rest)] if rest else list(picked)
    gone = replace(_reserved(row, -quantity, Kind.SHIP, f"{key}:reserved"), reference=reference)
    left = [
        replace(
            gone,
            bucket=Bucket.ON_HAND,
            quantity=-piece.quantity,
            key=f"{key}:on_hand" if number == 0 else f"{key}:on_hand:{number}",
            bin_id=piece.bin_id,
            lot_id=piece.lot_id,
        )
        for number, piece in enumerate(pieces)
    ]
    return [*left, gone]


@stock_service
def move(
    reservation_id: int, *, warehouse_id: int, quantity: int | None = None, actor: Actor, mcf: bool = False
) -> Reservation:
    """Move a promise, or `quantity` of it, to another warehouse and return the reservation that holds it now.

    A whole, untouched reservation keeps its id; otherwise a new one is made at the target.
    Raises `InsufficientStock` when the target cannot hold it, `Conflict` when it is closed or holds less,
    `UserError` for an FBA or WFS target without `mcf`.
    """
    row = _locked([reservation_id])[reservation_id]
    units = row.quantity if quantity is None else quantity
    if row.state != Reservation.State.OPEN:
        raise Conflict(
            f"reservation {reservation_id} is {row.state}: nothing is left to move.", field="reservation"
        )
    if not 1 <= units <= row.quantity:
        raise Conflict(
            f"quantity: reservation {reservation_id} holds {row.quantity}, {units} asked.", field="quantity"
        )
    if warehouse_id == row.warehouse_id:
        return row
    target = Warehouse.objects.filter(pk=warehouse_id).first()
    if target is None or not target.is_active:
        raise UserError("warehouse: choose an active warehouse.", field="warehouse")
    if target.kind in OPERATED and not (mcf and row.sku.mcf_allowed):
        raise UserError(
            f"warehouse: {target} is the marketplace's own pool; it serves this SKU only with multi-channel "
            "fulfilment switched on.",
            field="warehouse",
        )
    _has_life(row, target, units)
    step = f"mov:{row.pk}:{uuid.uuid4().hex}"  # the locked reservation, not the key, makes it happen once
    away = _reserved(row, -units, Kind.RELEASE, f"{step}:out", "moved")
    if units == row.quantity and not row.consumed and not row.released:
        row.warehouse_id = warehouse_id
        row.save(update_fields=["warehouse"])
        held = row
    else:
        held = Reservation.objects.create(
            sku_id=row.sku_id,
            warehouse_id=warehouse_id,
            quantity=units,
            reference=row.reference,
            expires_at=row.expires_at,
            promise_at=row.promise_at,
            firm=row.firm,
            channel_code=row.channel_code,
            min_shelf_days=row.min_shelf_days,
            created_at=row.created_at,
        )
        row.quantity -= units
        _store([row])
    _apply([away, _reserved(held, units, Kind.RESERVE, f"{step}:in", "moved")], actor)
    return held


def _has_life(row: Reservation, target: Warehouse, units: int) -> None:
    """Refuse a target whose available units are expired, blocked or too short-dated for the promise."""
    if not row.sku.lot_tracked:
        return
    pair = (row.sku_id, target.pk)
    level = lock_levels([pair]).get(pair)
    if level is None:
        return  # the move itself says what is missing
    held = lots.held_back(
        pair, lots.dated([row.sku_id], [target.pk]), row.min_shelf_days,
        fit=level.available + level.reserved, reserved=level.reserved,
    )  # fmt: skip
    if level.available - held < units:
        raise InsufficientStock(row.sku.code, target.code, units, max(0, level.available - held))


def set_firm(reservation_ids: Iterable[int], firm: bool = True) -> int:
    """Mark promises as packed or labelled: a shrinking stock never takes them away. Returns how many changed."""
    return Reservation.objects.filter(pk__in=list(reservation_ids), state=Reservation.State.OPEN).update(
        firm=firm
    )


def expire_due(limit: int = 500) -> int:
    """Release holds whose time has come (checkouts). Returns how many; harmless to repeat."""
    with stock_transaction():
        due = list(
            Reservation.objects.filter(state=Reservation.State.OPEN, expires_at__lte=now(), firm=False)
            .order_by("expires_at", "pk")
            .values_list("pk", flat=True)[:limit]
        )
        if not due:
            return 0
        released = release(due, actor=task_actor("expire"), reason="expired")
        emit_many([("reservation.lost", str(pk), {"why": "expired"}) for pk in sorted(released)])
    return len(released)


@stock_service
def extend(reservation_id: int, until: dt.datetime) -> Reservation:
    """A checkout needs longer: its hold ends at `until` instead.

    Raises `NotFound`, and `Conflict` when nothing is held any more or it is the promise of an order.
    """
    held = Reservation.objects.filter(
        pk=reservation_id, state=Reservation.State.OPEN, expires_at__gt=now(), reference__startswith="hold:"
    )
    if not held.update(expires_at=until):
        if not Reservation.objects.filter(pk=reservation_id).exists():
            raise NotFound("reservation: there is no such reservation.", field="reservation")
        raise Conflict(
            "reservation: it ended, or belongs to an order; hold the stock again.", field="reservation"
        )
    return Reservation.objects.select_related("sku", "warehouse").get(pk=reservation_id)


def keep(reservation_ids: Iterable[int], *, reference: str = "") -> int:
    """A checkout became an order: its holds no longer expire. Returns how many were still open."""
    values: dict[str, object] = {"expires_at": None}
    if reference:
        values["reference"] = reference[:80]
    return Reservation.objects.filter(pk__in=list(reservation_ids), state=Reservation.State.OPEN).update(
        **values
    )


def _locked(ids: Iterable[int]) -> dict[int, Reservation]:
    rows = lock_reservations(ids)
    for pk in ids:
        if pk not in rows:
            raise NotFound(f"reservation: there is no reservation with id {pk}.", field="reservation")
    return rows


def _store(rows: Sequence[Reservation]) -> None:
    """Write counts and state of changed reservations in one statement."""
    if not rows:
        return
    for row in rows:
        if row.quantity == 0:
            row.state = Reservation.State.CONSUMED if row.consumed else Reservation.State.RELEASED
    if len(rows) == 1:
        rows[0].save(update_fields=["quantity", "consumed", "released", "state"])
    else:
        Reservation.objects.bulk_update(rows, ["quantity", "consumed", "released", "state"])


def _apply(movements: Sequence[Movement], actor: Actor) -> None:
    """Post movements whose keys cannot have been used: their reservations are locked and were just changed."""
    deltas = merged(movements)
    if not deltas:
        return
    after = change_levels(deltas)
    for pair in sorted(set(deltas) - set(after)):
        raise shortage(pair, deltas[pair])
    write_rows(movements, deltas, after, actor=actor)
