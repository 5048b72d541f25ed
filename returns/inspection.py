"""The bench: an inspector decides per unit, and only `restock` makes a unit sellable again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import F

from inventory.ledger import Movement, post_movements
from inventory.models import Sku, StockMovement
from oms.core.actor import Actor
from oms.core.errors import Conflict, NotFound, UserError, about
from oms.core.outbox import emit
from oms.orders import timeline
from returns import returned_serials
from returns.models import Disposition, Rma, RmaLine
from returns.rma import state_by_counts

Bucket = StockMovement.Bucket


@dataclass(frozen=True)
class Verdict:
    """What an inspector says of `quantity` units of one RMA line; `serials` name them where units have numbers."""

    line_id: int
    quantity: int
    condition: str
    outcome: str
    target_sku_id: int | None = None
    note: str = ""
    serials: tuple[str, ...] = ()


def bucket_changes(outcome: str) -> tuple[tuple[str, int], ...]:
    """Signed changes per unit of the returned SKU's buckets for an outcome (pure).

    restock leaves on hand as it is and frees the unit; refurbish keeps it unavailable in inspection;
    every other outcome takes the unit out of our hands.
    """
    if outcome == Disposition.Outcome.RESTOCK:
        return ((Bucket.QUARANTINE, -1),)
    if outcome == Disposition.Outcome.REFURBISH:
        return ((Bucket.QUARANTINE, -1), (Bucket.INSPECTION, 1))
    return ((Bucket.QUARANTINE, -1), (Bucket.ON_HAND, -1))


def dispose(verdicts: list[Verdict], *, actor: Actor, key: str) -> Rma:
    """Write an inspector's verdicts for lines of ONE RMA, once per `key`, with their movements.

    Raises `UserError` (bad outcome, missing target SKU), `Conflict` (more than arrived).
    """
    if not verdicts:
        raise UserError("verdicts: give a condition and an outcome for at least one unit.", field="verdicts")
    with transaction.atomic():
        ids = {verdict.line_id for verdict in verdicts}
        rmas = set(RmaLine.objects.filter(pk__in=ids).values_list("rma_id", flat=True))
        if len(rmas) != 1 or RmaLine.objects.filter(pk__in=ids).count() != len(ids):
            raise NotFound("verdicts: all lines must exist and belong to one RMA.", field="verdicts")
        rma_id = rmas.pop()
        Rma.objects.filter(pk=rma_id).update(version=F("version") + 1)
        rma = Rma.objects.select_related("warehouse").get(pk=rma_id)
        if Disposition.objects.filter(line__rma=rma, key__startswith=f"{key}:").exists():
            return rma
        lines = {line.pk: line for line in rma.lines.select_related("sku")}
        movements: list[Movement] = []
        for index, verdict in enumerate(verdicts):
            with about(index):
                line = lines[verdict.line_id]
                _check(verdict, line)
                made = Disposition.objects.create(
                    line=line,
                    quantity=verdict.quantity,
                    condition=verdict.condition,
                    outcome=verdict.outcome,
                    target_sku_id=verdict.target_sku_id,
                    note=verdict.note[:255],
                    key=f"{key}:{index}",
                    inspector=str(actor),
                )
                returned_serials.judge(rma, made, verdict.serials, actor)
                line.disposed += verdict.quantity
                line.save(update_fields=["disposed"])
                movements += _movements(rma, line, verdict, f"{key}:{index}")
        rma.state = state_by_counts(rma)
        rma.save(update_fields=["state"])
        if rma.order_id:
            told = ", ".join(f"{v.quantity} × {lines[v.line_id].sku} {v.outcome}" for v in verdicts)
            timeline.add(rma.order_id, "return", f"{rma.number} inspected: {told}", actor=actor)
        emit("return.inspected", str(rma.pk))
        post_movements(movements, actor=actor)
    return rma


def _check(verdict: Verdict, line: RmaLine) -> None:
    if verdict.quantity < 1:
        raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
    if verdict.outcome not in Disposition.Outcome.values:
        raise UserError(f"outcome: use one of {', '.join(Disposition.Outcome.values)}.", field="outcome")
    if verdict.condition not in Disposition.Condition.values:
        raise UserError(
            f"condition: use one of {', '.join(Disposition.Condition.values)}.", field="condition"
        )
    waiting = line.received - line.disposed
    if verdict.quantity > waiting:
        raise Conflict(
            f"quantity: {verdict.quantity} of {line.sku} judged, but {waiting} wait for inspection.",
            field="quantity",
        )
    if verdict.outcome == Disposition.Outcome.RESTOCK and verdict.condition != Disposition.Condition.NEW:
        raise Conflict(
            f"outcome: a unit in condition '{verdict.condition}' cannot be restocked as new; choose open_box, "
            "refurbish, rtv or scrap.",
            field="outcome",
        )
    if verdict.outcome == Disposition.Outcome.OPEN_BOX:
        if verdict.target_sku_id is None or not Sku.objects.filter(pk=verdict.target_sku_id).exists():
            raise UserError("target_sku: name the SKU the open-box unit is sold as.", field="target_sku")
        if verdict.target_sku_id == line.sku_id:
            raise UserError("target_sku: must be another SKU than the new one.", field="target_sku")


def _movements(rma: Rma, line: RmaLine, verdict: Verdict, key: str) -> list[Movement]:
    common: dict[str, Any] = {
        "kind": StockMovement.Kind.DISPOSITION,
        "reason": verdict.outcome,
        "reference": rma.number,
        "note": verdict.note[:255],
    }
    found = [
        Movement(
            sku_id=line.sku_id,
            warehouse_id=rma.warehouse_id,
            bucket=bucket,
            quantity=sign * verdict.quantity,
            key=f"dispose:{line.pk}:{key}:{bucket}",
            **common,
        )
        for bucket, sign in bucket_changes(verdict.outcome)
    ]
    if verdict.outcome == Disposition.Outcome.OPEN_BOX:
        assert verdict.target_sku_id is not None  # checked above
        found.append(
            Movement(
                sku_id=verdict.target_sku_id,
                warehouse_id=rma.warehouse_id,
                bucket=Bucket.ON_HAND,
                quantity=verdict.quantity,
                key=f"dispose:{line.pk}:{key}:target",
                **common,
            )
        )
    return found
