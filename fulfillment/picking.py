"""Pick with a scanner: claim, verify every unit, report what is short."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import F

from fulfillment import states
from fulfillment.models import Pick, Shipment, ShipmentLine
from fulfillment.shipments import locked, not_handed_off, set_state, why_not_shippable
from inventory import counts, lots, putaway, reservations, scanning, serials
from inventory.ledger import Movement, post_movements
from inventory.models import Bin, CountTask, Lot, SerialUnit, Sku, StockMovement
from inventory.scanning import Scanned
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.exceptions_inbox import raise_item
from oms.core.outbox import emit
from oms.core.words import some
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
        scanned = scanning.resolve(code, warehouse_id=shipment.warehouse_id)
        if scanned.bin is not None:
            return _at_bin(shipment, scanned.bin)
        sku, units = scanned.sku, scanned.units * quantity
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
        assert sku is not None  # it is on a line
        refused = _unfit(shipment, sku, scanned, units)
        if refused is not None:
            Shipment.objects.filter(pk=shipment.pk).update(wrong_scans=F("wrong_scans") + 1)
            return refused
        lot, serial = _traced(sku, scanned)
        rest = units
        for line in wanted:
            take = min(rest, line.quantity - line.picked)
            if take:
                line.picked += take
                line.save(update_fields=["picked"])
                rest -= take
                if lot is not None or serial is not None:
                    Pick.objects.create(line=line, lot=lot, serial=serial, quantity=take)
        done = all(line.picked == line.quantity for line in lines)
        if done:
            Shipment.objects.filter(pk=shipment.pk).update(picked_at=now())
        picked = sum(line.picked for line in lines)
        total = sum(line.quantity for line in lines)
    return Scan(True, "DONE" if done else "OK", f"{sku.code} · {picked} of {total}", done)


def _at_bin(shipment: Shipment, place: Bin) -> Scan:
    """The answer to the scan of a bin: whether something of this shipment is to be taken there."""
    here = [step for step in route([shipment]) if step.bin_id == place.pk]
    if not here:
        Shipment.objects.filter(pk=shipment.pk).update(wrong_scans=F("wrong_scans") + 1)
        return Scan(False, "WRONG BIN", f"Nothing of {shipment.number} is in {place}.", False)
    told = ", ".join(f"{step.quantity} × {step.sku.code}" for step in here)
    return Scan(True, place.code, f"Take {told}", False)


def _unfit(shipment: Shipment, sku: Sku, scanned: Scanned, units: int) -> Scan | None:
    """Why this very unit may not go to this order: its lot, its date or its serial number."""
    lot = scanning.lot_of(scanned)
    if scanned.lot and sku.lot_tracked and lot is None:
        return Scan(False, "UNKNOWN LOT", f"{sku.code}: lot {scanned.lot} was never received.", False)
    expires_on = lot.expires_on if lot and lot.expires_on else scanned.expires_on
    if lot is not None and lot.is_blocked:
        return Scan(False, "BLOCKED LOT", f"{sku.code}: lot {lot.code} is blocked: {lot.note}", False)
    if sku.lot_tracked and expires_on is not None:
        left = lots.days_left(expires_on, shipment.warehouse.time_zone, now())
        least = shipment.order.channel.min_shelf_life_days
        if left < 0:
            return Scan(False, "EXPIRED", f"{sku.code} expired on {expires_on}.", False)
        if left < least:
            return Scan(
                False,
                "TOO OLD",
                f"{sku.code} has {some(left, 'day')} left, {shipment.order.channel} wants {least}.",
                False,
            )
    if sku.serial_tracked:
        if not scanned.serial:
            return Scan(False, "SERIAL?", f"Scan the serial number of each {sku.code}.", False)
        unit = next(iter(serials.find(scanned.serial, sku.pk)), None)
        if (
            unit is None
            or unit.state != SerialUnit.State.IN_STOCK
            or unit.warehouse_id != shipment.warehouse_id
        ):
            return Scan(False, "NOT HERE", f"{sku.code} {scanned.serial} is not in stock here.", False)
        taken = Pick.objects.filter(serial=unit, line__shipment__state__in=states.OPEN).first()
        if taken is not None:
            return Scan(False, "TWICE", f"{sku.code} {scanned.serial} was picked already.", False)
        if units != 1:
            return Scan(False, "SERIAL?", f"Scan each {sku.code} by itself.", False)
    return None


def _traced(sku: Sku, scanned: Scanned) -> tuple[Lot | None, SerialUnit | None]:
    """The lot and the serial unit to remember for a scan."""
    unit = next(iter(serials.find(scanned.serial, sku.pk)), None) if sku.serial_tracked else None
    lot = scanning.lot_of(scanned) if sku.lot_tracked else None
    return lot or (unit.lot if unit else None), unit


@dataclass(frozen=True)
class Step:
    """Where to go and what to take there; `bin_id` None = the units lie in no bin."""

    bin_id: int | None
    place: str
    zone: str
    sequence: int
    sku: Sku
    lot: str
    quantity: int


def route(shipments: Sequence[Shipment]) -> list[Step]:
    """The walk for what is still to be picked of some shipments: earliest expiry first, fewest bins, and the steps in
    pick sequence. Equal places add up, so a batch of orders goes to each bin once. Six queries.
    """
    wanted: list[tuple[int, int, int, int]] = []
    skus: dict[int, Sku] = {}
    rows = (
        ShipmentLine.objects.filter(shipment__in=[one.pk for one in shipments], quantity__gt=F("picked"))
        .select_related("sku", "shipment__order__channel")
        .order_by("shipment__ship_by", "shipment_id", "pk")
    )
    for line in rows:
        skus[line.sku_id] = line.sku
        channel = line.shipment.order.channel
        wanted.append(
            (
                line.sku_id,
                line.shipment.warehouse_id,
                line.quantity - line.picked,
                channel.min_shelf_life_days,
            )
        )
    if not wanted:
        return []
    steps: dict[tuple[int | None, int, int | None], int] = {}
    for (sku_id, _, units, _), plan in zip(wanted, putaway.pick_plans(wanted), strict=True):
        for taken in plan:
            spot = (taken.place.bin_id, sku_id, taken.place.lot_id)
            steps[spot] = steps.get(spot, 0) + taken.quantity
        rest = units - sum(taken.quantity for taken in plan)
        if rest:
            steps[None, sku_id, None] = steps.get((None, sku_id, None), 0) + rest
    bins = Bin.objects.in_bulk({bin_id for bin_id, _, _ in steps if bin_id})
    codes = dict(Lot.objects.filter(pk__in={lot for _, _, lot in steps if lot}).values_list("pk", "code"))
    found = []
    for (bin_id, sku_id, lot_id), units in steps.items():
        place = bins.get(bin_id) if bin_id else None
        found.append(
            Step(
                bin_id,
                place.code if place else "",
                place.zone if place else "",
                place.pick_sequence if place else 0,
                skus[sku_id],
                codes.get(lot_id or 0, ""),
                units,
            )
        )
    return sorted(found, key=lambda one: (one.bin_id is None, one.sequence, one.place, one.sku.code, one.lot))


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
        numbered = shipment.lines.filter(sku__serial_tracked=True, quantity__gt=F("picked")).select_related(
            "sku"
        )
        for line in numbered:
            raise Conflict(f"{line.sku} has serial numbers: scan each unit.", field="serial")
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
        task = counts.ask(
            line.sku_id, shipment.warehouse_id, cause=CountTask.Cause.SHORT_PICK, actor=actor, note=text[:255]
        )
        raise_item(
            "count_needed",
            f"count:{line.sku_id}:{shipment.warehouse_id}",
            f"Count {line.sku} in {shipment.warehouse}: a picker missed {missing}",
            detail=text,
            url=f"/stock/counts/{task.pk}/",
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
                    reason=counts.SHORT_PICK if reason == "not_found" else "short pick: damaged",
                    reference=shipment.number,
                )
            ],
            actor=actor,
        )
        settle_lost([held.pk], actor=actor, why=text)
    return shipment
