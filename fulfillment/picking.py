"""Pick with a scanner: claim, verify every unit, report what is short."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.db import transaction
from django.db.models import F

from fulfillment.models import Shipment, ShipmentLine
from fulfillment.shipments import locked, not_handed_off, set_state, why_not_shippable
from inventory import reservations, selectors
from inventory.ledger import Movement, post_movements
from inventory.models import Sku, SkuPack, StockMovement
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.exceptions_inbox import raise_item
from oms.core.outbox import emit
from oms.orders import timeline
from oms.orders.allocation import settle_lost

SHORT_REASONS = {"not_found": "not found", "damaged": "damaged"}


@dataclass(frozen=True)
class Scan:
    """What the floor screen says after a scan: one big word and the detail."""

    ok: bool
    word: str
    detail: str
    done: bool


def claim(shipment_id: int, *, actor: Actor) -> Shipment:
    """Take a shipment out of the others' queue. Raises `Conflict` when somebody else has it."""
    with transaction.atomic():
        shipment = locked(shipment_id)
        not_handed_off(shipment)
        blocked = why_not_shippable(shipment.order)
        if blocked:
            raise Conflict(blocked, field="order")
        if (
            shipment.claimed_by
            and shipment.claimed_by != str(actor)
            and shipment.state == Shipment.State.PICKING
        ):
            raise Conflict(f"{shipment.number} is being picked by {shipment.claimed_by}.", field="shipment")
        if shipment.state == Shipment.State.READY:
            set_state(shipment, Shipment.State.PICKING, claimed_by=str(actor), claimed_at=now())
        elif shipment.state != Shipment.State.PICKING:
            raise Conflict(
                f"{shipment.number} is {shipment.get_state_display().lower()}, there is nothing to pick.",
                field="state",
            )
    return shipment


def scan(shipment_id: int, code: str, *, actor: Actor, quantity: int = 1) -> Scan:
    """Count one scanned barcode (SKU, alias, GTIN or case) as picked; a wrong one blocks and is counted."""
    code = code.strip()
    if not code:
        raise UserError("code: scan or type a barcode.", field="code")
    with transaction.atomic():
        shipment = locked(shipment_id)
        not_handed_off(shipment)
        blocked = why_not_shippable(shipment.order)
        if blocked:
            return Scan(False, "STOP", blocked, False)
        if shipment.state != Shipment.State.PICKING:
            raise Conflict(
                f"{shipment.number} is {shipment.get_state_display().lower()}: claim it before picking.",
                field="state",
            )
        sku, units = _resolve(code, quantity)
        lines = list(shipment.lines.select_related("sku").order_by("pk"))
        wanted = [line for line in lines if sku is not None and line.sku_id == sku.pk]
        open_units = sum(line.quantity - line.picked for line in wanted)
        if sku is None or not wanted or units > open_units:
            Shipment.objects.filter(pk=shipment.pk).update(wrong_scans=F("wrong_scans") + 1)
            if sku is None:
                return Scan(False, "UNKNOWN", f"{code} is not a barcode we know.", False)
            if not wanted:
                return Scan(False, "WRONG ITEM", f"{sku.code} is not in {shipment.number}.", False)
            return Scan(False, "TOO MANY", f"{sku.code}: {open_units} left to pick, {units} scanned.", False)
        rest = units
        for line in wanted:
            take = min(rest, line.quantity - line.picked)
            if take:
                line.picked += take
                line.save(update_fields=["picked"])
                rest -= take
        done = all(line.picked == line.quantity for line in lines)
        if done:
            Shipment.objects.filter(pk=shipment.pk).update(picked_at=now())
        picked = sum(line.picked for line in lines)
        total = sum(line.quantity for line in lines)
    return Scan(True, "DONE" if done else "OK", f"{sku.code} · {picked} of {total}", done)


def _resolve(code: str, quantity: int) -> tuple[Sku | None, int]:
    pack = SkuPack.objects.filter(barcode=code).select_related("sku").first()
    if pack:
        return pack.sku, pack.quantity * quantity
    return selectors.resolve_codes([code]).get(code), quantity


def pick_all(shipment_id: int, *, actor: Actor) -> Shipment:
    """Confirm a whole shipment without scanning, for warehouses that do not scan."""
    with transaction.atomic():
        shipment = locked(shipment_id)
        not_handed_off(shipment)
        blocked = why_not_shippable(shipment.order)
        if blocked:
            raise Conflict(blocked, field="order")
        if shipment.state == Shipment.State.READY:
            set_state(shipment, Shipment.State.PICKING, claimed_by=str(actor), claimed_at=now())
        elif shipment.state != Shipment.State.PICKING:
            raise Conflict(
                f"{shipment.number} is {shipment.get_state_display().lower()}, there is nothing to pick.",
                field="state",
            )
        shipment.lines.update(picked=F("quantity"))
        Shipment.objects.filter(pk=shipment.pk).update(picked_at=now())
        timeline.add(shipment.order_id, "pick", f"{shipment.number} picked without scanning", actor=actor)
        shipment.refresh_from_db()
    return shipment


def short_pick(line_id: int, missing: int, *, reason: str, actor: Actor) -> Shipment:
    """The picker cannot find `missing` units: they leave the shipment, the reservation is released for
    re-routing of just these units, and somebody is asked to count the bin.

    Raises `UserError`, `Conflict`.
    """
    if reason not in SHORT_REASONS:
        raise UserError(f"reason: use one of {', '.join(SHORT_REASONS)}.", field="reason")
    with transaction.atomic():
        line = (
            ShipmentLine.objects.select_related("sku", "allocation__reservation").filter(pk=line_id).first()
        )
        if line is None:
            raise UserError("line: there is no such line.", field="line")
        shipment = locked(line.shipment_id)
        line.refresh_from_db()
        if shipment.state not in (Shipment.State.READY, Shipment.State.PICKING):
            raise Conflict(
                f"{shipment.number} is {shipment.get_state_display().lower()}: too late for a short pick.",
                field="state",
            )
        if not 1 <= missing <= line.quantity - line.picked:
            raise UserError(
                f"missing: between 1 and {line.quantity - line.picked} units of {line.sku} can be missing.",
                field="missing",
            )
        if missing == line.quantity:
            line.delete()
        else:
            ShipmentLine.objects.filter(pk=line.pk).update(quantity=F("quantity") - missing)
        if not shipment.lines.exists():
            set_state(shipment, Shipment.State.CANCELLED)
        text = f"{shipment.number}: {missing} × {line.sku} {SHORT_REASONS[reason]} in {shipment.warehouse}"
        timeline.add(
            shipment.order_id,
            "short_pick",
            text,
            actor=actor,
            data={"warehouse": shipment.warehouse.code, "sku": line.sku.code, "line": line.order_line_id},
        )
        raise_item(
            "count_needed",
            f"count:{line.sku_id}:{shipment.warehouse_id}",
            f"Count {line.sku} in {shipment.warehouse}: a picker missed {missing}",
            detail=text,
            url=f"/stock/{line.sku.code}",
            warehouse_code=shipment.warehouse.code,
        )
        emit("order.route", str(shipment.order_id))
        held = line.allocation.reservation
        reservations.release({held.pk: missing}, actor=actor, reason=f"short pick: {SHORT_REASONS[reason]}")
        # until somebody counted, the units are there by the books only: nobody else may be promised them
        bucket = StockMovement.Bucket.DAMAGED if reason == "damaged" else StockMovement.Bucket.INSPECTION
        post_movements(
            [
                Movement(
                    sku_id=held.sku_id,
                    warehouse_id=held.warehouse_id,
                    bucket=bucket,
                    quantity=missing,
                    kind=StockMovement.Kind.STATE,
                    key=f"short-pick:{uuid.uuid4().hex}",
                    reason=f"short pick: {reason}",
                    reference=shipment.number,
                )
            ],
            actor=actor,
        )
        settle_lost([held.pk], actor=actor, why=text)
    return shipment
