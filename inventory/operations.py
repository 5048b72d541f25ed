"""Everything that changes stock besides promises: adjust, count, receive, transfer, snapshot.

Each function is one short transaction and one idempotency key. Where on hand falls below what is promised,
promises are given up first, the latest first and never a packed one, and their owners are told.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from django.db.models import F, Q

from inventory import asof, differences, reservations
from inventory.ledger import Bucket, InsufficientStock, Kind, Movement, post_movements
from inventory.locking import LostRace, Pair, lock_levels, stock_service
from inventory.models import (
    AdjustmentRequest,
    KitComponent,
    Reservation,
    Sku,
    SkuAlias,
    StockDifference,
    StockLevel,
    StockMovement,
    Transfer,
    TransferLine,
    Warehouse,
)
from inventory.reconcile import Outcome, judge
from oms.core import business
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import Conflict, NotAllowed, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.outbox import emit_many

ATTEMPTS = 5
#: reasons offered on screens; others may be typed through the API
REASONS = ("count", "damaged", "expired", "found", "lost", "theft", "sample", "correction", "opening balance")
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
) -> Adjusted:
    """Change on hand by a signed number of eaches, with a reason, once per `key`.

    Above the business's adjustment limit (value at average cost) a person's change waits for a second person and
    has no effect on stock before. Units taken away that are promised release promises, the latest first.
    Raises `UserError` (no reason, zero, unknown SKU or warehouse, operator's pool), `Conflict` (too few).
    """
    reason = _reason(reason)
    sku, warehouse = _place(sku_id, warehouse_id)
    if quantity == 0:
        raise UserError("quantity: an adjustment changes at least one unit.", field="quantity")
    known = list(StockMovement.objects.filter(key=key))
    if known:
        return Adjusted(known)
    if actor.user_id is not None and _value(sku, warehouse, quantity) > Decimal(
        str(business.get("adjustment_limit"))
    ):
        return Adjusted(request=_ask(sku, warehouse, quantity, reason, note, actor))
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
) -> Adjusted:
    """A pick or count found more than the books say: a movement of its own, never a silent clamp."""
    if quantity < 1:
        raise UserError("quantity: found stock is at least one unit.", field="quantity")
    return adjust(
        sku_id=sku_id, warehouse_id=warehouse_id, quantity=quantity, reason=reason, actor=actor, key=key,
        reference=reference, kind=Kind.FOUND,
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
    _place(sku_id, warehouse_id)
    if variance == 0:
        return Adjusted()
    return adjust(
        sku_id=sku_id, warehouse_id=warehouse_id, quantity=variance, reason="count", actor=actor, key=key,
        note=note or f"counted {counted}", kind=Kind.COUNT,
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
        kind=Kind.ADJUST,
        key=f"adjustment:{request.pk}",
        reason=request.reason,
        reference=f"ADJ-{request.pk}",
        note=request.note,
    )
    rows, lost = _post(movement.pair, [movement], max(0, -request.quantity), actor)
    return Adjusted(rows, request, lost)


@stock_service
def refuse_adjustment(request_id: int, *, actor: Actor) -> AdjustmentRequest:
    """The second person says no: no stock effect. Raises like `approve_adjustment`."""
    return _decide(request_id, AdjustmentRequest.State.REFUSED, actor)


def _decide(request_id: int, state: str, actor: Actor) -> AdjustmentRequest:
    request = AdjustmentRequest.objects.select_related("sku", "warehouse").filter(pk=request_id).first()
    if request is None:
        raise NotFound(f"adjustment: there is no request with id {request_id}.", field="adjustment")
    if actor.user_id is None:
        raise NotAllowed("adjustment: a person has to decide.", field="adjustment")
    if actor.user_id == request.author_id:
        raise NotAllowed("adjustment: another person than its author has to decide.", field="adjustment")
    waiting = AdjustmentRequest.objects.filter(pk=request_id, state=AdjustmentRequest.State.PENDING)
    if not waiting.update(state=state, decided_by_id=actor.user_id, decided_at=now()):
        raise Conflict(
            f"adjustment: it was {request.get_state_display().lower()} already.", field="adjustment"
        )
    request.refresh_from_db()
    close_item(f"adjustment:{request_id}", state, actor=actor)
    record(
        actor,
        f"stock.adjustment_{state}",
        request.sku,
        after={"request": request_id, "quantity": request.quantity},
    )
    return request


def _ask(
    sku: Sku, warehouse: Warehouse, quantity: int, reason: str, note: str, actor: Actor
) -> AdjustmentRequest:
    request = AdjustmentRequest.objects.create(
        sku=sku,
        warehouse=warehouse,
        quantity=quantity,
        reason=reason,
        note=note[:255],
        author_id=actor.user_id or 0,
    )
    raise_item(
        "adjustment_approval",
        f"adjustment:{request.pk}",
        f"Approve {quantity:+d} {sku} in {warehouse}: {reason}",
        detail=f"asked by {actor.name}. {note}",
        warehouse_code=warehouse.code,
        money=_value(sku, warehouse, quantity),
    )
    return request


def _value(sku: Sku, warehouse: Warehouse, quantity: int) -> Decimal:
    level = StockLevel.objects.filter(sku=sku, warehouse=warehouse).only("average_cost").first()
    cost = level.average_cost if level and level.average_cost else sku.unit_cost
    return abs(quantity) * cost


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
    reason = _reason(reason)
    _place(sku_id, warehouse_id)
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
        return Adjusted(known)
    rows, lost = _post((sku_id, warehouse_id), movements, quantity if source == "sellable" else 0, actor)
    return Adjusted(rows, lost=lost)


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


@stock_service
def receive_purchase(goods: Sequence[PurchasedGoods], *, reference: str, actor: Actor) -> list[StockMovement]:
    """Take purchased goods in: on hand by all units, unfit ones also in their bucket; the average cost moves.

    Each item posts once per its `key`. Raises `UserError` for an operator's pool or a negative figure.
    """
    movements = []
    for item in goods:
        _place(item.sku_id, item.warehouse_id)
        if min(item.good, item.damaged, item.quarantine) < 0:
            raise UserError("quantity: received units cannot be negative.", field="quantity")
        figures = {
            Bucket.ON_HAND: item.good + item.damaged + item.quarantine,
            Bucket.DAMAGED: item.damaged,
            Bucket.QUARANTINE: item.quarantine,
        }
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


# --- transfers ------------------------------------------------------------------------------------


@stock_service
def request_transfer(
    *,
    source_id: int,
    destination_id: int,
    lines: Mapping[int, int],
    actor: Actor,
    expected_on: dt.date | None = None,
    note: str = "",
) -> Transfer:
    """Ask for `{SKU id: eaches}` to be moved between two warehouses. Nothing moves yet.

    Raises `UserError` for equal or unknown places, an operator's pool as source, or a quantity below 1.
    """
    places = Warehouse.objects.in_bulk([source_id, destination_id])
    if len(places) != 2:
        raise UserError("destination: choose two different warehouses.", field="destination")
    if not places[source_id].counted_by_us:
        raise UserError(
            f"source: {places[source_id]} is counted by its operator; ask it for a removal.", field="source"
        )
    if not lines:
        raise UserError("lines: name at least one SKU and a quantity.", field="lines")
    known = Sku.objects.in_bulk(list(lines))
    for sku_id, quantity in lines.items():
        sku = known.get(sku_id)
        if sku is None or sku.kind in (Sku.Kind.KIT, Sku.Kind.SERVICE):
            raise UserError(f"lines: {sku or sku_id} has no stock of its own to move.", field="lines")
        if quantity < 1:
            raise UserError(f"quantity: {sku} needs a whole number of at least 1.", field="quantity")
    transfer = Transfer.objects.create(
        source_id=source_id,
        destination_id=destination_id,
        expected_on=expected_on,
        actor=str(actor),
        note=note[:255],
    )
    TransferLine.objects.bulk_create(
        TransferLine(transfer=transfer, sku_id=sku_id, quantity=quantity)
        for sku_id, quantity in sorted(lines.items())
    )
    record(
        actor, "transfer.requested", transfer, after={"lines": {str(known[k]): v for k, v in lines.items()}}
    )
    return transfer


@stock_service
def ship_transfer(transfer_id: int, *, actor: Actor, quantities: Mapping[int, int] | None = None) -> Transfer:
    """Send a requested transfer: units leave the source and are in transit to the destination.

    `quantities` by SKU id may send less than requested. Only available units leave. Repeating changes nothing.
    Raises `Conflict` (cancelled), `InsufficientStock`, `UserError` (more than requested, nothing at all).
    """
    transfer = _transfer(transfer_id)
    if transfer.state in (Transfer.State.SHIPPED, Transfer.State.RECEIVED):
        return transfer
    if transfer.state == Transfer.State.CANCELLED:
        raise Conflict(f"{transfer.number} is cancelled.", field="state")
    lines = list(transfer.lines.select_related("sku").order_by("sku_id"))
    movements = []
    for line in lines:
        units = line.quantity if quantities is None else quantities.get(line.sku_id, 0)
        if not 0 <= units <= line.quantity:
            raise UserError(
                f"quantity: {line.sku} was requested {line.quantity} times, {units} given.", field="quantity"
            )
        line.shipped = units
        if units:
            movements += _two_sided(transfer, line.sku_id, units)
    if not movements:
        raise UserError("quantity: enter at least one unit to ship.", field="quantity")
    TransferLine.objects.bulk_update(lines, ["shipped"])
    transfer.state, transfer.shipped_at = Transfer.State.SHIPPED, now()
    transfer.save(update_fields=["state", "shipped_at"])
    record(actor, "transfer.shipped", transfer, after={str(line.sku): line.shipped for line in lines})
    post_movements(movements, actor=actor)
    return transfer


@stock_service
def receive_transfer(transfer_id: int, quantities: Mapping[int, int], *, actor: Actor, key: str) -> Transfer:
    """Take arrived units `{SKU id: eaches}` from in transit to on hand, once per `key`.

    What does not arrive stays in transit until somebody decides (`settle_transfer`), so the total over all pools
    is the same at every step. At a marketplace's pool only in transit falls: its snapshot brings the units.
    Raises `Conflict` (not shipped, more than in transit: record the surplus as found stock).
    """
    transfer = _transfer(transfer_id)
    prefix = f"transfer:{transfer.pk}:in:{key}"
    if StockMovement.objects.filter(key__startswith=prefix).exists():
        return transfer
    if transfer.state != Transfer.State.SHIPPED:
        raise Conflict(
            f"{transfer.number} is {transfer.get_state_display().lower()}: nothing is in transit.",
            field="state",
        )
    lines = {line.sku_id: line for line in transfer.lines.select_related("sku")}
    costs = dict(
        StockMovement.objects.filter(
            reference=transfer.number, kind=Kind.TRANSFER_OUT, bucket=Bucket.ON_HAND
        ).values_list("sku_id", "unit_cost")
    )
    movements = []
    for sku_id, units in sorted(quantities.items()):
        line = lines.get(sku_id)
        if line is None:
            raise UserError(f"lines: SKU {sku_id} is not on {transfer.number}.", field="lines")
        open_units = line.shipped - line.received - line.lost
        if not 0 <= units <= open_units:
            raise Conflict(
                f"quantity: {line.sku} has {open_units} in transit, {units} received. Record a surplus as found stock.",
                field="quantity",
            )
        if not units:
            continue
        line.received += units
        arrives = Movement(
            sku_id=sku_id,
            warehouse_id=transfer.destination_id,
            bucket=Bucket.IN_TRANSIT,
            quantity=-units,
            kind=Kind.TRANSFER_IN,
            key=f"{prefix}:{sku_id}:t",
            reference=transfer.number,
        )
        movements.append(arrives)
        if transfer.destination.counted_by_us:
            cost = costs.get(sku_id)
            stays = replace(
                arrives, bucket=Bucket.ON_HAND, quantity=units, key=f"{prefix}:{sku_id}:h", unit_cost=cost
            )
            movements.append(stays)
    if not movements:
        raise UserError("quantity: enter at least one unit that arrived.", field="quantity")
    _close_transfer(transfer, lines, actor)
    post_movements(movements, actor=actor)
    return transfer


@stock_service
def settle_transfer(
    transfer_id: int, quantities: Mapping[int, int], *, reason: str, actor: Actor, key: str
) -> Transfer:
    """Decide that units in transit `{SKU id: eaches}` are lost: they leave in transit with a reason.

    Raises `UserError` (no reason), `Conflict` (more than in transit).
    """
    reason = _reason(reason)
    transfer = _transfer(transfer_id)
    prefix = f"transfer:{transfer.pk}:lost:{key}"
    if StockMovement.objects.filter(key__startswith=prefix).exists():
        return transfer
    lines = {line.sku_id: line for line in transfer.lines.select_related("sku")}
    movements = []
    for sku_id, units in sorted(quantities.items()):
        line = lines.get(sku_id)
        open_units = line.shipped - line.received - line.lost if line else 0
        if line is None or not 1 <= units <= open_units:
            raise Conflict(f"quantity: {open_units} are in transit, {units} given as lost.", field="quantity")
        line.lost += units
        movements.append(
            Movement(
                sku_id=sku_id, warehouse_id=transfer.destination_id, bucket=Bucket.IN_TRANSIT, quantity=-units,
                kind=Kind.WRITE_OFF, key=f"{prefix}:{sku_id}", reason=reason, reference=transfer.number,
            )
        )  # fmt: skip
    if not movements:
        raise UserError("quantity: enter at least one lost unit.", field="quantity")
    _close_transfer(transfer, lines, actor)
    post_movements(movements, actor=actor)
    return transfer


@stock_service
def cancel_transfer(transfer_id: int, *, actor: Actor) -> Transfer:
    """Withdraw a transfer that has not left yet. Raises `Conflict` once it is in transit."""
    transfer = _transfer(transfer_id)
    if transfer.state == Transfer.State.CANCELLED:
        return transfer
    if transfer.state != Transfer.State.REQUESTED:
        raise Conflict(f"{transfer.number} has left already: receive or settle it.", field="state")
    transfer.state = Transfer.State.CANCELLED
    transfer.save(update_fields=["state"])
    record(actor, "transfer.cancelled", transfer)
    return transfer


def _transfer(transfer_id: int) -> Transfer:
    """The transfer under its lock; it comes before the levels in the order of locks."""
    found = Transfer.objects.filter(pk=transfer_id).select_for_update(of=("self",), no_key=True).first()
    if found is None:
        raise NotFound(f"transfer: there is no transfer with id {transfer_id}.", field="transfer")
    return found


def _two_sided(transfer: Transfer, sku_id: int, units: int) -> list[Movement]:
    key = f"transfer:{transfer.pk}:out:{sku_id}"
    leaves = Movement(
        sku_id=sku_id,
        warehouse_id=transfer.source_id,
        bucket=Bucket.ON_HAND,
        quantity=-units,
        kind=Kind.TRANSFER_OUT,
        key=f"{key}:h",
        reference=transfer.number,
    )
    travels = replace(
        leaves, warehouse_id=transfer.destination_id, bucket=Bucket.IN_TRANSIT, quantity=units, key=f"{key}:t"
    )
    return [leaves, travels]


def _close_transfer(transfer: Transfer, lines: Mapping[int, TransferLine], actor: Actor) -> None:
    """Store counts; a transfer with nothing left in transit is received, otherwise a person is told."""
    TransferLine.objects.bulk_update(lines.values(), ["received", "lost"])
    left = {str(line.sku): line.shipped - line.received - line.lost for line in lines.values()}
    missing = {code: units for code, units in left.items() if units}
    alarm = f"transfer:{transfer.pk}"
    if missing:
        told = ", ".join(f"{units} × {code}" for code, units in missing.items())
        raise_item(
            "transfer_difference",
            alarm,
            f"{transfer.number}: {told} still in transit",
            detail="Receive them when they come, or settle them as lost.",
            warehouse_code=transfer.destination.code,
        )
    else:
        transfer.state, transfer.received_at = Transfer.State.RECEIVED, now()
        transfer.save(update_fields=["state", "received_at"])
        close_item(alarm, "all units accounted for", actor=actor)
    record(actor, "transfer.counted", transfer, after={"in transit": missing})


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
    StockLevel.objects.bulk_create([StockLevel(sku_id=pair[0], warehouse_id=pair[1])], ignore_conflicts=True)
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
            reference=key[:80],
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
    reason = _reason(reason)
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


# --- settings of a level, merges ------------------------------------------------------------------


@stock_service
def set_safety(sku_id: int, warehouse_id: int, safety: int, *, actor: Actor) -> StockLevel:
    """Units never published to any channel. Raises `UserError` for a negative figure or unknown place."""
    if safety < 0:
        raise UserError("safety: cannot be negative.", field="safety")
    sku, warehouse = _place(sku_id, warehouse_id, ours=False)
    StockLevel.objects.bulk_create([StockLevel(sku=sku, warehouse=warehouse)], ignore_conflicts=True)
    level = StockLevel.objects.get(sku=sku, warehouse=warehouse)
    if level.safety != safety:
        record(actor, "stock.safety", sku, before={"safety": level.safety}, after={"safety": safety})
        level.safety = safety
        level.save(update_fields=["safety"])
        emit_many([("stock.changed", str(sku_id), {"at": now().isoformat()})])
    return level


@stock_service
def merge_skus(source_id: int, target_id: int, *, actor: Actor) -> Sku:
    """Two codes turned out to be one thing: stock and codes of `source` go to `target`; history stays readable.

    Available stock moves by ledger rows that name both SKUs; the old code keeps finding the target. Refused with
    `Conflict` while the source is promised, unfit, in transit, or part of a kit: settle these first.
    """
    both = Sku.objects.in_bulk([source_id, target_id])
    if len(both) != 2:
        raise UserError("target: choose two different SKUs that exist.", field="target")
    source, target = both[source_id], both[target_id]
    if source.kind != target.kind or source.merged_into_id or target.merged_into_id:
        raise Conflict(
            f"target: {source} and {target} must be of one kind and not merged already.", field="target"
        )
    if KitComponent.objects.filter(Q(component=source) | Q(kit=source)).exists():
        raise Conflict(
            f"source: {source} is part of a kit; change the kit's components first.", field="source"
        )
    movements = []
    places = StockLevel.objects.filter(sku__in=both).values_list("warehouse_id", flat=True)
    lock_levels((sku_id, place) for place in places for sku_id in both)
    for level in StockLevel.objects.filter(sku=source).select_related("warehouse"):
        if level.reserved or level.unavailable or level.in_transit:
            raise Conflict(
                f"source: {source} still has promised, unfit or moving units in {level.warehouse}; settle them first.",
                field="source",
            )
        if level.on_hand:
            step = f"merge:{source.pk}:{target.pk}:{level.warehouse_id}"
            leaves = Movement(
                sku_id=source.pk,
                warehouse_id=level.warehouse_id,
                bucket=Bucket.ON_HAND,
                quantity=-level.on_hand,
                kind=Kind.MERGE,
                key=f"{step}:out",
                reason="merge",
                reference=target.code,
            )
            comes = replace(
                leaves,
                sku_id=target.pk,
                quantity=level.on_hand,
                key=f"{step}:in",
                reference=source.code,
                unit_cost=level.average_cost or source.unit_cost,
            )
            movements += [leaves, comes]
    post_movements(movements, actor=actor)
    SkuAlias.objects.filter(sku=source).update(sku=target)
    Sku.objects.filter(Q(pk=source.pk) | Q(merged_into=source)).update(merged_into=target, is_active=False)
    record(actor, "sku.merged", target, after={"source": source.code})
    emit_many([("sku.merged", str(source.pk), {"target": target.pk})])
    target.refresh_from_db()
    return target


# --- shared ---------------------------------------------------------------------------------------


def _reason(reason: str) -> str:
    reason = reason.strip()
    if not reason:
        raise UserError("reason: say why the stock changes.", field="reason")
    return reason[:60]


def _place(sku_id: int, warehouse_id: int, *, ours: bool = True) -> tuple[Sku, Warehouse]:
    sku = Sku.objects.filter(pk=sku_id).first()
    if sku is None:
        raise UserError(f"sku: there is no SKU with id {sku_id}.", field="sku")
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
