"""Differences with the operators of pools: written by snapshots, worked on by people, closed by agreement."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal

from django.db.models import F, Max, Q, Sum

from inventory import reconcile
from inventory.models import (
    PoolPolicy,
    Reservation,
    StockDifference,
    StockLevel,
    StockMovement,
    Warehouse,
)
from inventory.reconcile import Cause, Compared, Outcome, Policy, Verdict
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.models import User
from oms.core.outbox import emit

State = StockDifference.State
UNFIT = ("damaged", "inspection", "quarantine")
PHYSICAL = ("on_hand", "damaged", "inspection")
#: our own corrections that an operator may not know of
CORRECTIONS = ("adjust", "count", "found", "write_off", "correction")
OPEN = (State.WATCHING, State.OPEN, State.DISPUTED)


def policy_of(pool: Warehouse) -> Policy:
    """The pool's rules; FBA and WFS figures always win, a 3PL's only within its tolerance."""
    row = PoolPolicy.objects.filter(warehouse=pool).first() or PoolPolicy()
    return Policy(
        posts=pool.kind in (Warehouse.Kind.FBA, Warehouse.Kind.WFS),
        units=row.accept_units,
        percent=row.accept_percent,
        grace=dt.timedelta(minutes=row.grace_minutes),
    )


def compare(level: StockLevel, sellable: int, unfit: int, taken_at: dt.datetime, policy: Policy) -> Compared:
    """Their figure beside our books of the same moment. The level's row is locked by the caller.

    Operators know nothing of our quarantine: its units of that moment are added to both sides.
    """
    at_level = StockMovement.objects.filter(sku=level.sku_id, warehouse=level.warehouse_id)
    later = Q(occurred_at__gt=taken_at)
    recently = Q(occurred_at__gt=taken_at - policy.grace, occurred_at__lte=taken_at)
    facts = at_level.filter(bucket__in=("on_hand", *UNFIT)).aggregate(
        newest=Max("occurred_at", filter=Q(bucket__in=PHYSICAL)),
        on_hand=Sum("quantity", filter=later & Q(bucket="on_hand")),
        unfit=Sum("quantity", filter=later & Q(bucket__in=("damaged", "inspection"))),
        quarantine=Sum("quantity", filter=later & Q(bucket="quarantine")),
        left=Sum("quantity", filter=recently & Q(bucket="on_hand", kind="ship")),
    )
    leaving = Reservation.objects.filter(
        sku=level.sku_id, warehouse=level.warehouse_id, state=Reservation.State.OPEN, firm=True
    ).aggregate(units=Sum("quantity"))["units"]
    corrections = at_level.filter(bucket="on_hand", kind__in=CORRECTIONS, occurred_at__lte=taken_at)
    if level.snapshot_at:
        corrections = corrections.filter(occurred_at__gt=level.snapshot_at)
    known = open_one(level.sku_id, level.warehouse_id)
    ours = level.on_hand - (facts["on_hand"] or 0)
    theirs = sellable + unfit + level.quarantine - (facts["quarantine"] or 0)
    same_gap = known is not None and known.gap == theirs - ours
    return Compared(
        theirs=theirs,
        ours=ours,
        theirs_unfit=unfit,
        ours_unfit=level.damaged + level.inspection - (facts["unfit"] or 0),
        taken_at=taken_at,
        newest=facts["newest"],
        last_snapshot=level.snapshot_at,
        leaving=leaving or 0,
        left=-(facts["left"] or 0),
        changes=tuple(corrections.order_by("-id").values_list("kind", "quantity")[:20]),
        opened=facts["newest"] is not None,
        gap_since=known.gap_at if known is not None and same_gap else None,
        first_seen=known.first_at if known is not None else None,
    )


def open_one(sku_id: int, warehouse_id: int) -> StockDifference | None:
    return StockDifference.objects.filter(sku=sku_id, warehouse=warehouse_id, closed_at__isnull=True).first()


def note(level: StockLevel, case: Compared, verdict: Verdict, *, actor: Actor) -> StockDifference | None:
    """Write down what a snapshot showed: agreement closes, a gap opens or renews. Inside the caller's transaction.

    A figure older than the one in an open difference changes nothing.
    """
    known = open_one(level.sku_id, level.warehouse_id)
    if known is not None and known.taken_at > case.taken_at:
        return known
    if verdict.outcome in (Outcome.AGREES, Outcome.POST):
        if known is not None:
            why = StockDifference.Outcome
            _close(known, why.AGREED if verdict.outcome is Outcome.AGREES else why.OBSOLETE, actor)
        return None
    at = now()
    row = known or StockDifference(
        sku_id=level.sku_id, warehouse_id=level.warehouse_id, first_at=at, version=0
    )
    same = known is not None and row.gap == case.gap
    if not same:
        row.gap_at = at
    row.theirs, row.theirs_unfit = case.theirs, case.theirs_unfit
    row.ours, row.ours_unfit = case.ours, case.ours_unfit
    row.taken_at, row.book_at = case.taken_at, case.newest
    if not same or verdict.cause not in (Cause.ADJUSTMENT, Cause.UNKNOWN):
        # what explained this very gap first was found nearer to its cause
        row.cause, row.reason = verdict.cause.value, verdict.reason[:255]
    row.value = worth(level, case.gap or case.theirs_unfit - case.ours_unfit)
    waits = verdict.outcome is Outcome.WAIT
    if known is None or row.state == State.WATCHING:
        row.state = State.WATCHING if waits else State.OPEN
    row.version += 1
    row.save()
    if row.state != State.WATCHING:
        _tell(row, level)
    return row


def worth(level: StockLevel, units: int) -> Decimal:
    """A gap in money: units at the level's average cost, before any receipt at the standard cost."""
    return abs(units) * (level.average_cost or level.sku.unit_cost)


def _key(row: StockDifference) -> str:
    return f"snapshot:{row.warehouse_id}:{row.sku_id}"


def _tell(row: StockDifference, level: StockLevel) -> None:
    pool = row.warehouse
    raise_item(
        "snapshot_difference",
        _key(row),
        f"{pool}: {level.sku} differs by {row.gap:+d}"
        if row.gap
        else f"{pool}: {level.sku} differs in state",
        detail=f"They say {row.theirs} on hand, our books of that moment say {row.ours}. {row.reason[:1].upper()}"
        f"{row.reason[1:]}.",
        url=f"/stock/differences/{row.pk}/",
        warehouse_code=pool.code,
        money=row.value,
    )


def _close(row: StockDifference, outcome: str, actor: Actor) -> None:
    StockDifference.objects.filter(pk=row.pk).update(
        state=State.CLOSED, outcome=outcome, closed_at=now(), closed_by=str(actor), version=F("version") + 1
    )
    words = {
        StockDifference.Outcome.AGREED: "a newer snapshot agrees",
        StockDifference.Outcome.ACCEPTED: "their figure was accepted",
        StockDifference.Outcome.OBSOLETE: "the operator's newer figure was booked",
    }
    close_item(_key(row), words[StockDifference.Outcome(outcome)], actor=actor)


def overdue(limit: int = 500) -> int:
    """Show explained gaps whose time is over, also when no further snapshot came. Returns how many."""
    at, shown = now(), 0
    watching = StockDifference.objects.filter(state=State.WATCHING).select_related("sku", "warehouse")
    for row in watching.order_by("pk")[:limit]:
        grace = policy_of(row.warehouse).grace
        if at - row.gap_at < grace and at - row.first_at < reconcile.LONGEST_WAIT:
            continue
        taken = StockDifference.objects.filter(pk=row.pk, state=State.WATCHING, version=row.version).update(
            state=State.OPEN, version=F("version") + 1
        )
        level = StockLevel.objects.select_related("sku").get(sku=row.sku_id, warehouse=row.warehouse_id)
        if taken:
            _tell(row, level)
            shown += 1
    return shown


# --- what people do --------------------------------------------------------------------------------


def locked(difference_id: int, version: int | None) -> StockDifference:
    """An open difference, locked by its version. Raises `NotFound`, `Conflict` (closed, changed meanwhile)."""
    if not StockDifference.objects.filter(pk=difference_id).update(version=F("version") + 1):
        raise NotFound("difference: there is no such difference.", field="difference")
    row = StockDifference.objects.select_related("sku", "warehouse", "approval").get(pk=difference_id)
    if row.closed_at is not None:
        raise Conflict(f"{row.number} is closed already: {row.get_outcome_display().lower()}.", field="state")
    if version is not None and row.version - 1 != version:
        raise Conflict(
            f"{row.number} changed meanwhile: the figures are now {row.theirs} there and {row.ours} here. "
            "Look again before you decide.",
            field="version",
        )
    return row


def settle(row: StockDifference, *, actor: Actor, note: str = "") -> None:
    """Close a locked difference because their figure was booked."""
    StockDifference.objects.filter(pk=row.pk).update(note=(note or row.note)[:400])
    _close(row, StockDifference.Outcome.ACCEPTED, actor)


def investigate(
    difference_id: int, *, actor: Actor, owner: User | None, note: str, version: int | None = None
) -> StockDifference:
    """Give it to a person with a note; the figures stay. Needs the caller's transaction."""
    row = locked(difference_id, version)
    before = {"owner": str(row.owner or ""), "note": row.note}
    row.owner, row.note = owner, note.strip()[:400]
    row.save(update_fields=["owner", "note"])
    record(
        actor,
        "difference.investigated",
        row,
        before=before,
        after={"owner": str(owner or ""), "note": row.note},
    )
    return row


def dispute(difference_id: int, *, actor: Actor, note: str, version: int | None = None) -> StockDifference:
    """Keep ours and ask the operator to count again. Needs the caller's transaction. Raises `UserError`."""
    if not note.strip():
        raise UserError("note: say why our figure is right; the operator reads it.", field="note")
    row = locked(difference_id, version)
    row.state, row.disputed_at, row.note = State.DISPUTED, now(), note.strip()[:400]
    row.save(update_fields=["state", "disputed_at", "note"])
    record(
        actor, "difference.disputed", row, after={"theirs": row.theirs, "ours": row.ours, "note": row.note}
    )
    emit("difference.disputed", str(row.pk))
    return row


EVIDENCE_HEADER = (
    "difference", "warehouse", "sku", "their_time", "theirs_on_hand", "our_figure_then", "gap", "value",
    "movement_id", "occurred_at", "recorded_at", "bucket", "quantity", "balance", "kind", "reason", "reference",
)  # fmt: skip
EVIDENCE_DAYS = 90
EVIDENCE_ROWS = 5000


def evidence(row: StockDifference) -> Iterator[list[object]]:
    """Rows of the dispute file: the difference, then every movement of our ledger that makes our figure.

    The last 90 days, at most 5,000 movements, newest first.
    """
    head: list[object] = [
        row.number, row.warehouse.code, row.sku.code, row.taken_at.isoformat(), row.theirs, row.ours, row.gap,
        row.value,
    ]  # fmt: skip
    yield [*head, "", "", "", "", "", "", "", row.reason, row.note]
    moved = StockMovement.objects.filter(
        sku=row.sku_id, warehouse=row.warehouse_id, bucket__in=("on_hand", *UNFIT),
        occurred_at__gt=row.taken_at - dt.timedelta(days=EVIDENCE_DAYS),
    ).order_by("-id")  # fmt: skip
    for one in moved[:EVIDENCE_ROWS]:
        yield [
            *head, one.pk, one.occurred_at.isoformat(), one.created_at.isoformat(), one.bucket, one.quantity,
            one.balance, one.kind, one.reason, one.reference,
        ]  # fmt: skip


def movements_since(row: StockDifference, limit: int = 50) -> list[StockMovement]:
    """Physical movements after their figure was taken, newest first."""
    return list(
        StockMovement.objects.filter(
            sku=row.sku_id,
            warehouse=row.warehouse_id,
            bucket__in=("on_hand", *UNFIT),
            occurred_at__gt=row.taken_at,
        ).order_by("-id")[:limit]
    )
