"""What changes stock besides promises: adjust, receive, change of state, snapshots of an operator.

Each function is one short transaction and one idempotency key. Where on hand falls below what is promised,
promises are given up first, the latest first and never a packed one, and their owners are told.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db.models import F

from inventory import approvals, asof, differences, reservations, serials
from inventory.ledger import Bucket, InsufficientStock, Kind, Movement, post_movements
from inventory.locking import Pair, lock_levels, make_levels, stock_service
from inventory.models import (
    AdjustmentReason,
    AdjustmentRequest,
    Lot,
    Reservation,
    SerialUnit,
    Sku,
    StockDifference,
    StockLevel,
    StockMovement,
    Warehouse,
)
from inventory.reconcile import Outcome, judge
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.db import LostRace
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import raise_item
from oms.core.outbox import emit_many

ATTEMPTS = 5
#: states a unit may be in; `sellable` is on hand and in none of the others
STATES = ("sellable", "damaged", "quarantine", "inspection")


@dataclass(frozen=True)
class Adjusted:
    """Ledger rows written, or the request that waits for a second person; `lost` are promises given up."""

    rows: list[StockMovement] = field(default_factory=list)
    request: AdjustmentRequest | None = None
    lost: dict[int, int] = field(default_factory=dict)


# --- adjust ---------------------------------------------------------------------------------------


@stock_service
def adjust(
    *,
    sku_id: int,
    warehouse_id: int,
    quantity: int,
    reason: str,
    actor: Actor,
    key: str,
    note: str = "",
    reference: str = "",
    kind: str = Kind.ADJUST,
    lot_id: int | None = None,
    bin_id: int | None = None,
    unit_cost: Decimal | None = None,
    occurred_at: dt.datetime | None = None,
    batch: int | None = None,
    wait: bool = False,
    numbers: Sequence[str] = (),
) -> Adjusted:
    """Change on hand by a signed number of eaches, with a reason, once per `key`.

    A person gives a reason of the list, which brings its rules (only more, only fewer, a note), and has the limit of
    value (at average cost) of his role; above it the change waits for a second person and has no effect before.
    `batch`: the `StockBatch` that it is part of; when that was approved, the person's own limit is spoken for.
    `wait`: it waits whatever it is worth alone, for it came with others that are above the limit together.
    Units taken away that are promised release promises, the latest first. `numbers`: the serial numbers of the units,
    needed to take away units of a SKU that has them.
    Raises `UserError` (reason, zero, unknown SKU or warehouse, operator's pool), `Conflict` (too few).
    """
    reason = named_reason(reason)
    known = list(StockMovement.objects.filter(key=key))
    if known:
        return Adjusted(known)  # whatever became of the SKU since
    sku, warehouse = sku_and_place(sku_id, warehouse_id)
    if quantity == 0:
        raise UserError("quantity: an adjustment changes at least one unit.", field="quantity")
    units = _numbers(sku, warehouse, quantity, numbers)
    if actor.user_id is not None:
        check_reason(reason, quantity, note)
        asked = AdjustmentRequest.objects.filter(key=key).first()
        if asked is not None:
            return Adjusted(request=asked)
        value = _value(sku, warehouse, quantity, unit_cost)
        if wait or (approvals.needs_second(value, actor.user_id) and not approvals.approved(batch)):
            request = AdjustmentRequest(
                sku=sku, warehouse=warehouse, quantity=quantity, reason=reason, note=note[:255], kind=kind,
                lot_id=lot_id, bin_id=bin_id, unit_cost=unit_cost, key=key, author_id=actor.user_id, serials=units,
            )  # fmt: skip
            return Adjusted(request=_ask(request, actor))
    movement = Movement(
        sku_id=sku_id,
        warehouse_id=warehouse_id,
        bucket=Bucket.ON_HAND,
        quantity=quantity,
        kind=kind,
        key=key,
        reason=reason,
        reference=reference,
        note=note,
        lot_id=lot_id,
        bin_id=bin_id,
        unit_cost=unit_cost,
        occurred_at=occurred_at,
    )
    serials.adjust(
        sku,
        units,
        quantity,
        warehouse_id=warehouse_id,
        reference=reference or reason,
        reason=reason,
        actor=actor,
    )
    rows, lost = _post(movement.pair, [movement], max(0, -quantity), actor)
    record(
        actor,
        "stock.adjusted",
        sku,
        after={"warehouse": warehouse.code, "quantity": quantity, "reason": reason},
    )
    return Adjusted(rows, lost=lost)


def found(
    *,
    sku_id: int,
    warehouse_id: int,
    quantity: int,
    actor: Actor,
    key: str,
    reason: str = "found",
    reference: str = "",
    note: str = "",
) -> Adjusted:
    """A pick or count found more than the books say: a movement of its own, never a silent clamp."""
    if quantity < 1:
        raise UserError("quantity: found stock is at least one unit.", field="quantity")
    return adjust(
        sku_id=sku_id, warehouse_id=warehouse_id, quantity=quantity, reason=reason, actor=actor, key=key,
        reference=reference, kind=Kind.FOUND, note=note,
    )  # fmt: skip


@stock_service
def post_count(
    *,
    sku_id: int,
    warehouse_id: int,
    counted: int,
    counted_at: dt.datetime,
    actor: Actor,
    key: str,
    note: str = "",
    batch: int | None = None,
) -> Adjusted:
    """Post what was counted at `counted_at`: the variance against the books of that moment, so that units which
    moved since then stay moved. No variance writes nothing. Raises like `adjust`.
    """
    if counted < 0:
        raise UserError("counted: a count cannot be negative.", field="counted")
    if counted_at > now():
        raise UserError("counted_at: the count lies in the future.", field="counted_at")
    past = asof.as_of(counted_at, sku_ids=[sku_id], warehouse_ids=[warehouse_id])
    level = past.get((sku_id, warehouse_id))
    variance = counted - (level.on_hand if level else 0)
    if variance == 0:
        sku_and_place(sku_id, warehouse_id)
        return Adjusted()
    return adjust(
        sku_id=sku_id, warehouse_id=warehouse_id, quantity=variance, reason="count", actor=actor, key=key,
        note=note or f"counted {counted}", kind=Kind.COUNT, batch=batch,
    )  # fmt: skip


@stock_service
def approve_adjustment(request_id: int, *, actor: Actor) -> Adjusted:
    """The second person agrees: the stock effect happens now. Raises `NotAllowed` for the author himself,
    `Conflict` when it was decided already or the stock no longer allows it.
    """
    request = _decide(request_id, AdjustmentRequest.State.APPROVED, actor)
    movement = Movement(
        sku_id=request.sku_id,
        warehouse_id=request.warehouse_id,
        bucket=request.bucket,
        quantity=request.quantity,
        kind=request.kind,
        key=f"adjustment:{request.pk}",
        reason=request.reason,
        reference=f"ADJ-{request.pk}",
        note=request.note,
        lot_id=request.lot_id,
        bin_id=request.bin_id,
        unit_cost=request.unit_cost,
    )
    serials.adjust(
        request.sku, _numbers(request.sku, request.warehouse, request.quantity, request.serials), request.quantity,
        warehouse_id=request.warehouse_id, reference=f"ADJ-{request.pk}", reason=request.reason, actor=actor,
    )  # fmt: skip
    rows, lost = _post(movement.pair, [movement], max(0, -request.quantity), actor)
    emit_many([("adjustment.decided", str(request.pk), {"state": request.state})])
    return Adjusted(rows, request, lost)


@stock_service
def refuse_adjustment(request_id: int, *, actor: Actor) -> AdjustmentRequest:
    """The second person says no: no stock effect. Raises like `approve_adjustment`."""
    request = _decide(request_id, AdjustmentRequest.State.REFUSED, actor)
    emit_many([("adjustment.decided", str(request.pk), {"state": request.state})])
    return request


@stock_service
def withdraw_adjustment(request_id: int, *, actor: Actor) -> AdjustmentRequest:
    """Its author takes it back before anybody decided: no stock effect. Raises `Conflict` for anybody else
    and when it was decided already.
    """
    request = _asked(request_id)
    approvals.withdraw(request, f"adjustment:{request_id}", actor)
    record(
        actor,
        "stock.adjustment_withdrawn",
        request.sku,
        after={"request": request_id, "quantity": request.quantity},
    )
    emit_many([("adjustment.decided", str(request.pk), {"state": request.state})])
    return request


def _asked(request_id: int) -> AdjustmentRequest:
    request = AdjustmentRequest.objects.select_related("sku", "warehouse").filter(pk=request_id).first()
    if request is None:
        raise NotFound(f"adjustment: there is no request with id {request_id}.", field="adjustment")
    return request


def _decide(request_id: int, state: str, actor: Actor) -> AdjustmentRequest:
    request = _asked(request_id)
    approvals.settle(request, state, f"adjustment:{request_id}", actor)
    record(
        actor,
        f"stock.adjustment_{state}",
        request.sku,
        after={"request": request_id, "quantity": request.quantity},
    )
    return request


def _ask(request: AdjustmentRequest, actor: Actor) -> AdjustmentRequest:
    request.save()
    raise_item(
        "adjustment_approval",
        f"adjustment:{request.pk}",
        f"Approve {request.quantity:+d} {request.sku} in {request.warehouse}: {request.reason}".replace(
            "Approve -", "Approve −"
        ),
        detail=f"asked by {actor.name}. {request.note}",
        url="/stock/approvals/",
        warehouse_code=request.warehouse.code,
        money=_value(request.sku, request.warehouse, request.quantity, request.unit_cost),
    )
    return request


def listed_reasons() -> list[str]:
    """Codes that people may give, in the order of the list."""
    return list(AdjustmentReason.objects.filter(is_active=True).values_list("code", flat=True))


def check_reason(code: str, quantity: int, note: str) -> None:
    """The rules of the business for a reason that a person gives; `quantity` 0 where on hand stays as it is.

    Raises `UserError` for a word that is not on the list, a wrong direction, or a missing note. Actors of the
    software have words of their own and are not asked.
    """
    reason = AdjustmentReason.objects.filter(code=code).first()
    if reason is None:
        raise UserError(
            f"reason: '{code}' is not on the list; use one of {', '.join(listed_reasons())}.", field="reason"
        )
    field, why = why_not(reason, quantity, note)
    if field:
        raise UserError(f"{field}: {why}", field=field)


def why_not(reason: AdjustmentReason, quantity: int, note: str) -> tuple[str, str]:
    """The field and the sentence that speak against a reason of the list, or two empty texts (pure)."""
    if not reason.is_active:
        return "reason", f"'{reason}' is no longer in use; choose another."
    if reason.direction == AdjustmentReason.Direction.IN and quantity < 0:
        return "reason", f"'{reason}' only adds units."
    if reason.direction == AdjustmentReason.Direction.OUT and quantity > 0:
        return "reason", f"'{reason}' only takes units away."
    if reason.needs_note and not note.strip():
        return "note", f"'{reason}' needs a note that says what proves it."
    return "", ""


def _numbers(sku: Sku, warehouse: Warehouse, quantity: int, given: Sequence[str]) -> list[str]:
    if not (sku.serial_tracked or given):
        return []
    if quantity < 0 and not given:
        lock_levels(
            [(sku.pk, warehouse.pk)]
        )  # nobody may number the units that are about to leave without one
    level = StockLevel.objects.filter(sku=sku, warehouse=warehouse).only("on_hand").first()
    return serials.of_change(sku, warehouse, quantity, level.on_hand if level else 0, given)


def _value(sku: Sku, warehouse: Warehouse, quantity: int, unit_cost: Decimal | None = None) -> Decimal:
    level = StockLevel.objects.filter(sku=sku, warehouse=warehouse).only("average_cost").first()
    return approvals.worth(quantity, level.average_cost if level else Decimal(0), sku.unit_cost, unit_cost)


# --- states ---------------------------------------------------------------------------------------


@stock_service
def change_state(
    *,
    sku_id: int,
    warehouse_id: int,
    quantity: int,
    source: str,
    target: str,
    reason: str,
    actor: Actor,
    key: str,
    note: str = "",
    reference: str = "",
) -> Adjusted:
    """Move units between `sellable`, `damaged`, `quarantine` and `inspection`; on hand stays as it is.

    Promised units that become unfit release promises, the latest first. Once per `key`.
    Raises `UserError` (state, reason, quantity), `Conflict` (too few in the source state).
    """
    reason = named_reason(reason)
    if actor.user_id is not None:
        check_reason(reason, 0, note)
    for name, value in (("source", source), ("target", target)):
        if value not in STATES:
            raise UserError(f"{name}: use one of {', '.join(STATES)}.", field=name)
    if source == target:
        raise UserError("target: must differ from the source.", field="target")
    if quantity < 1:
        raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
    movements = [
        Movement(
            sku_id=sku_id,
            warehouse_id=warehouse_id,
            bucket=state,
            quantity=change,
            kind=Kind.STATE,
            key=f"{key}:{state}",
            reason=reason,
            reference=reference,
            note=note,
        )
        for state, change in ((source, -quantity), (target, quantity))
        if state != "sellable"
    ]
    known = list(StockMovement.objects.filter(key__in=[movement.key for movement in movements]))
    if known:
        return Adjusted(known)  # whatever became of the SKU since
    sku_and_place(sku_id, warehouse_id)
    rows, lost = _post((sku_id, warehouse_id), movements, quantity if source == "sellable" else 0, actor)
    return Adjusted(rows, lost=lost)


@stock_service
def refurbished(unit_id: int, *, reason: str, actor: Actor, key: str, note: str = "") -> Adjusted:
    """A returned unit with a serial number was repaired: it leaves inspection and is sold again, once per `key`.

    Raises `NotFound`, `Conflict` (it does not wait as a return), and what `change_state` raises.
    """
    unit = SerialUnit.objects.select_related("sku").filter(pk=unit_id).first()
    if unit is None or unit.warehouse_id is None:
        raise NotFound("serial: no unit of that number waits here.", field="serial")
    if StockMovement.objects.filter(key=f"{key}:{Bucket.INSPECTION}").exists():
        return Adjusted()
    serials.decide(
        [unit], SerialUnit.State.IN_STOCK, words="refurbished, back in stock", warehouse_id=unit.warehouse_id,
        reference=unit.reference, actor=actor, note=note,
    )  # fmt: skip
    return change_state(
        sku_id=unit.sku_id, warehouse_id=unit.warehouse_id, quantity=1, source="inspection", target="sellable",
        reason=reason, actor=actor, key=key, note=note, reference=unit.reference,
    )  # fmt: skip


# --- receipts -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PurchasedGoods:
    """Units that arrived on one purchase line, by state; `unit_cost` per unit in the SKU's currency."""

    sku_id: int
    warehouse_id: int
    good: int
    unit_cost: Decimal
    key: str
    damaged: int = 0
    quarantine: int = 0
    lot_id: int | None = None
    bin_id: int | None = None
    serials: tuple[str, ...] = ()


@stock_service
def receive_purchase(goods: Sequence[PurchasedGoods], *, reference: str, actor: Actor) -> list[StockMovement]:
    """Take purchased goods in: on hand by all units, unfit ones also in their bucket; the average cost moves.

    Units of a SKU with serial numbers come with one each, except in a 3PL's house. Each item posts once per its `key`.
    Raises `UserError` for an operator's pool, a negative figure or missing serial numbers, `Conflict` for one that is
    in stock already.
    """
    movements = []
    posted = set(
        StockMovement.objects.filter(key__in=[f"{item.key}:{Bucket.ON_HAND}" for item in goods]).values_list(
            "key", flat=True
        )
    )
    for item in goods:
        if f"{item.key}:{Bucket.ON_HAND}" in posted:
            continue  # whatever became of the SKU since
        sku, place = sku_and_place(item.sku_id, item.warehouse_id)
        if min(item.good, item.damaged, item.quarantine) < 0:
            raise UserError("quantity: received units cannot be negative.", field="quantity")
        figures = {
            Bucket.ON_HAND: item.good + item.damaged + item.quarantine,
            Bucket.DAMAGED: item.damaged,
            Bucket.QUARANTINE: item.quarantine,
        }
        # another house keeps the numbers of its units to itself
        if place.kind != Warehouse.Kind.THREEPL:
            numbers = serials.check(sku, item.serials, figures[Bucket.ON_HAND])
            lot = Lot.objects.filter(pk=item.lot_id).first() if item.lot_id else None
            serials.receive(
                sku, numbers, warehouse_id=item.warehouse_id, lot=lot, source=reference, actor=actor
            )
        movements += [
            Movement(
                sku_id=item.sku_id,
                warehouse_id=item.warehouse_id,
                bucket=bucket,
                quantity=quantity,
                kind=Kind.RECEIPT,
                key=f"{item.key}:{bucket}",
                reference=reference,
                lot_id=item.lot_id,
                bin_id=item.bin_id if bucket == Bucket.ON_HAND else None,
                unit_cost=item.unit_cost if bucket == Bucket.ON_HAND else None,
            )
            for bucket, quantity in figures.items()
            if quantity
        ]
    return post_movements(movements, actor=actor)


# --- pools of others ------------------------------------------------------------------------------


@dataclass(frozen=True)
class PoolFigure:
    """What an operator says it holds of one SKU: sellable units, unfit ones, and units on their way in."""

    sku_id: int
    sellable: int
    damaged: int = 0
    inspection: int = 0
    in_transit: int | None = None


@dataclass(frozen=True)
class SnapshotResult:
    """`changed` and `same` count SKUs; `stale` names SKUs that differ and whose books are newer, `differs` those
    that differ and were left to a person or to news on its way."""

    changed: int = 0
    same: int = 0
    stale: tuple[int, ...] = ()
    differs: tuple[int, ...] = ()
    lost: dict[int, int] = field(default_factory=dict)


def apply_pool_snapshot(
    *,
    warehouse_id: int,
    figures: Sequence[PoolFigure],
    taken_at: dt.datetime,
    actor: Actor,
    key: str,
    complete: bool = False,
) -> SnapshotResult:
    """Bring an FBA, WFS or 3PL pool to the operator's figures of `taken_at`, once per `key`.

    A snapshot older than our newest movement or than the newest snapshot never overwrites it: it is compared with
    the books of its own time, and a gap becomes a difference for a person. A newer one is booked for FBA and WFS;
    for a 3PL only within the pool's tolerance (`inventory.reconcile`). `complete`: SKUs not named are zero. SKUs go
    one by one in short transactions, in order, so that a long report never holds all rows of a pool.
    """
    pool = Warehouse.objects.filter(pk=warehouse_id).first()
    if pool is None or pool.kind not in (Warehouse.Kind.FBA, Warehouse.Kind.WFS, Warehouse.Kind.THREEPL):
        raise UserError("warehouse: only FBA, WFS and 3PL pools take snapshots.", field="warehouse")
    if taken_at.tzinfo is None or taken_at > now() + dt.timedelta(minutes=5):
        raise UserError(
            "taken_at: give the time of the snapshot with its zone, not in the future.", field="taken_at"
        )
    wanted = {figure.sku_id: figure for figure in figures}
    for figure in wanted.values():
        if min(figure.sellable, figure.damaged, figure.inspection, figure.in_transit or 0) < 0:
            raise UserError(f"figures: SKU {figure.sku_id} has a negative figure.", field="figures")
    if complete:
        held = StockLevel.objects.filter(warehouse=pool, on_hand__gt=0).values_list("sku_id", flat=True)
        wanted |= {sku_id: PoolFigure(sku_id, 0) for sku_id in held if sku_id not in wanted}
    changed, same = 0, 0
    stale: list[int] = []
    differs: list[int] = []
    lost: dict[int, int] = {}
    for _, figure in sorted(wanted.items()):
        outcome, given_up = _snapshot_one(pool, figure, taken_at, actor, key)
        changed += outcome == "changed"
        same += outcome == "same"
        lost |= given_up
        if outcome == "stale":
            stale.append(figure.sku_id)
        elif outcome == "differs":
            differs.append(figure.sku_id)
    return SnapshotResult(changed, same, tuple(stale), tuple(differs), lost)


@stock_service
def _snapshot_one(
    pool: Warehouse, figure: PoolFigure, taken_at: dt.datetime, actor: Actor, key: str
) -> tuple[str, dict[int, int]]:
    pair = (figure.sku_id, pool.pk)
    make_levels([pair])
    physical = (Bucket.ON_HAND, Bucket.DAMAGED, Bucket.INSPECTION)
    prefix = f"{key}:{figure.sku_id}"
    if StockMovement.objects.filter(
        key__in=[f"{prefix}:{bucket}" for bucket in (*physical, Bucket.IN_TRANSIT)]
    ).exists():
        return "same", {}
    lock_levels([pair])  # the change is a difference: nobody may ship between reading and writing
    level = StockLevel.objects.select_related("sku").get(sku_id=pair[0], warehouse_id=pair[1])
    targets: dict[str, int] = {
        Bucket.ON_HAND: figure.sellable + figure.damaged + figure.inspection + level.quarantine,
        Bucket.DAMAGED: figure.damaged,
        Bucket.INSPECTION: figure.inspection,
    }
    if figure.in_transit is not None:
        targets[Bucket.IN_TRANSIT] = figure.in_transit
    changes = {bucket: value - getattr(level, bucket) for bucket, value in targets.items()}
    policy = differences.policy_of(pool)
    case = differences.compare(level, figure.sellable, figure.damaged + figure.inspection, taken_at, policy)
    verdict = judge(case, policy, now())
    differences.note(level, case, verdict, actor=actor)
    if not case.overtaken:
        StockLevel.objects.filter(pk=level.pk).update(snapshot_at=taken_at)
    if verdict.outcome in (Outcome.WAIT, Outcome.DIFFERS):
        return ("stale" if case.overtaken else "differs"), {}
    if case.overtaken:
        return "same", {}
    movements = [
        Movement(
            sku_id=pair[0],
            warehouse_id=pair[1],
            bucket=bucket,
            quantity=change,
            kind=Kind.SNAPSHOT,
            key=f"{prefix}:{bucket}",
            reason="snapshot",
            reference=f"figures of {taken_at:%-d %b %Y %H:%M} UTC",
            occurred_at=taken_at,
        )
        for bucket, change in changes.items()
        if change
    ]
    if not movements:
        return "same", {}
    fall = -(changes[Bucket.ON_HAND] - changes[Bucket.DAMAGED] - changes[Bucket.INSPECTION])
    _, lost = _post(pair, movements, max(0, fall), actor)
    return "changed", lost


@stock_service
def accept_theirs(
    difference_id: int, *, reason: str, actor: Actor, version: int | None = None
) -> StockDifference:
    """Book the operator's figure: our books of now change by the gap of then, so newer movements stay.

    Above the adjustment limit a second person approves first and the difference stays open until then. Raises
    `UserError` (no reason, an FBA or WFS pool), `Conflict` (closed, changed meanwhile, approval waits, too few left).
    """
    reason = named_reason(reason)
    row = differences.locked(difference_id, version)
    if not row.warehouse.counted_by_us:
        raise UserError(
            f"warehouse: only the snapshots and events of {row.warehouse} change it; its next figure settles this.",
            field="warehouse",
        )
    if row.approval is not None and row.approval.state == AdjustmentRequest.State.PENDING:
        raise Conflict(f"{row.number} waits for a second person's approval.", field="state")
    place: dict[str, Any] = {"sku_id": row.sku_id, "warehouse_id": row.warehouse_id}
    said = f"{row.number}: they say {row.theirs}, we said {row.ours}"
    approved = row.approval is not None and row.approval.state == AdjustmentRequest.State.APPROVED
    if row.gap and not approved:
        done = adjust(
            **place, quantity=row.gap, reason=reason, note=said, actor=actor, key=f"difference:{row.pk}",
            reference=row.number,
        )  # fmt: skip
        if done.request is not None:
            row.approval = done.request
            row.save(update_fields=["approval"])
            return row
    unfit = row.theirs_unfit - row.ours_unfit
    if unfit:
        source, target = ("sellable", "damaged") if unfit > 0 else ("damaged", "sellable")
        change_state(
            **place, quantity=abs(unfit), source=source, target=target, reason=reason, note=said, actor=actor,
            key=f"difference:{row.pk}", reference=row.number,
        )  # fmt: skip
    differences.settle(row, actor=actor, note=reason)
    record(actor, "difference.accepted", row, before={"ours": row.ours}, after={"theirs": row.theirs})
    row.refresh_from_db()
    return row


# --- settings of a level ----------------------------------------------------------------------------


@stock_service
def set_bin(sku_id: int, warehouse_id: int, bin_id: int | None, *, actor: Actor) -> StockLevel:
    """The bin that a SKU is usually picked from; no unit moves. Raises `UserError` for a bin of another warehouse."""
    sku, warehouse = sku_and_place(sku_id, warehouse_id, ours=False)
    if bin_id is not None and not warehouse.bins.filter(pk=bin_id).exists():
        raise UserError(f"bin: choose a bin of {warehouse}.", field="bin")
    make_levels([(sku_id, warehouse_id)])
    level = StockLevel.objects.get(sku=sku, warehouse=warehouse)
    if level.bin_id != bin_id:
        record(actor, "stock.bin", sku, before={"bin": level.bin_id}, after={"bin": bin_id})
        level.bin_id = bin_id
        level.save(update_fields=["bin"])
    return level


@stock_service
def set_safety(sku_id: int, warehouse_id: int, safety: int, *, actor: Actor) -> StockLevel:
    """Units never published to any channel. Raises `UserError` for a negative figure or unknown place."""
    if safety < 0:
        raise UserError("safety: cannot be negative.", field="safety")
    sku, warehouse = sku_and_place(sku_id, warehouse_id, ours=False)
    make_levels([(sku_id, warehouse_id)])
    level = StockLevel.objects.get(sku=sku, warehouse=warehouse)
    if level.safety != safety:
        record(actor, "stock.safety", sku, before={"safety": level.safety}, after={"safety": safety})
        level.safety = safety
        level.save(update_fields=["safety"])
        emit_many([("stock.changed", str(sku_id), {"at": now().isoformat()})])
    return level


# --- shared ---------------------------------------------------------------------------------------


def named_reason(reason: str) -> str:
    """The reason, trimmed. Raises `UserError` without one."""
    reason = reason.strip()
    if not reason:
        raise UserError("reason: say why the stock changes.", field="reason")
    return reason[:60]


def sku_and_place(sku_id: int, warehouse_id: int, *, ours: bool = True) -> tuple[Sku, Warehouse]:
    """What an act on stock is about; with `ours` only where we count ourselves. Raises `UserError`, and `Conflict` for
    a SKU that was merged into another one.
    """
    sku = Sku.objects.filter(pk=sku_id).select_related("merged_into").first()
    if sku is None:
        raise UserError(f"sku: there is no SKU with id {sku_id}.", field="sku")
    if sku.merged_into is not None:
        raise Conflict(f"sku: {sku} was merged into {sku.merged_into}; use that one.", field="sku")
    if sku.kind in (Sku.Kind.KIT, Sku.Kind.SERVICE):
        raise UserError(
            f"sku: {sku} is a {sku.get_kind_display().lower()}; it has no stock of its own.", field="sku"
        )
    warehouse = Warehouse.objects.filter(pk=warehouse_id).first()
    if warehouse is None:
        raise UserError(f"warehouse: there is no warehouse with id {warehouse_id}.", field="warehouse")
    if ours and not warehouse.counted_by_us:
        raise UserError(
            f"warehouse: {warehouse} is counted by its operator; only its snapshots and events change it.",
            field="warehouse",
        )
    return sku, warehouse


def _post(
    pair: Pair, movements: Sequence[Movement], taken: int, actor: Actor
) -> tuple[list[StockMovement], dict[int, int]]:
    """Post movements that take `taken` available units; where these are promised, promises give way first."""
    lost: dict[int, int] = {}
    for attempt in range(ATTEMPTS):
        if taken:
            for pk, units in _make_room(pair, taken, actor).items():
                lost[pk] = lost.get(pk, 0) + units
        try:
            rows = post_movements(movements, actor=actor)
            if not rows:
                # posted by a rival after our caller looked: undo what was given up for it
                raise LostRace("the same movement was posted meanwhile")
            return rows, lost
        except InsufficientStock:
            # a rival promised the freed units meanwhile; now their level's row is ours
            if not taken or attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _make_room(pair: Pair, needed: int, actor: Actor) -> dict[int, int]:
    """Release promises until `needed` units are available: checkouts first, then the latest promise.

    Packed or labelled promises stay. Returns what was released; too little is left to the ledger's refusal.
    """
    level = StockLevel.objects.filter(sku_id=pair[0], warehouse_id=pair[1]).first()
    missing = needed - (level.available if level else 0)
    if missing <= 0 or level is None:
        return {}
    promised = Reservation.objects.filter(
        sku_id=pair[0], warehouse_id=pair[1], state=Reservation.State.OPEN, firm=False
    ).order_by(F("expires_at").asc(nulls_last=True), F("promise_at").desc(nulls_first=True), "-pk")
    give: dict[int, int] = {}
    for pk, held in promised.values_list("pk", "quantity"):
        if missing <= 0:
            break
        give[pk] = min(held, missing)
        missing -= give[pk]
    if missing > 0:
        return {}  # even all of them would not do: refuse without touching one
    released = reservations.release(give, actor=actor, reason="stock shrank")
    emit_many(
        [
            ("reservation.lost", str(pk), {"quantity": units, "why": "stock shrank"})
            for pk, units in released.items()
        ]
    )
    return released
