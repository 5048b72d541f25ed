"""Stock moved between two of our warehouses: requested, shipped, received with differences, differences decided.

The total over all pools is the same at every step: what left is in transit until it arrives, is found at its source
again, or somebody decides that it is lost. Lots travel with their units.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from django.db.models import F, Sum

from inventory import serials
from inventory.ledger import Bucket, Kind, Movement, post_movements
from inventory.locking import stock_service
from inventory.models import (
    BinMovement,
    SerialUnit,
    Sku,
    StockLevel,
    StockMovement,
    Transfer,
    TransferLine,
    Warehouse,
)
from inventory.operations import check_reason, named_reason
from oms.core import business
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import business_day, now, plausible
from oms.core.errors import Conflict, NotFound, UserError, about
from oms.core.exceptions_inbox import close_item, raise_item, tell_once
from oms.core.outbox import emit

#: kinds of warehouses that keep the numbers of their units with us
HOUSES = (Warehouse.Kind.OWN, Warehouse.Kind.STORE)


@dataclass(frozen=True, slots=True)
class Coming:
    """Open units of a SKU on a transfer that has left, in eaches, and the day on which they should arrive."""

    sku_id: int
    warehouse_id: int
    units: int
    expected_on: dt.date | None
    transfer_id: int


def coming(sku_ids: Collection[int] | None = None) -> list[Coming]:
    """What is in transit between warehouses, of all SKUs or of some; requested transfers have not left. One query."""
    gone = F("received") + F("lost") + F("returned")
    lines = TransferLine.objects.filter(transfer__state=Transfer.State.SHIPPED, shipped__gt=gone)
    if sku_ids is not None:
        lines = lines.filter(sku__in=sku_ids)
    rows = lines.order_by("transfer_id", "sku_id").values_list(
        "sku_id", "transfer__destination_id", F("shipped") - gone, "transfer__expected_on", "transfer_id"
    )
    return [Coming(*row) for row in rows]


def tell_late(today: dt.date | None = None) -> tuple[int, int]:
    """Tell of transfers of which nothing arrived, more than `transfer_late_days` after their day; once per day missed.

    One that came in part is told as a difference already. Returns how many were told and closed.
    """
    last = (today or business_day()) - dt.timedelta(days=int(business.get("transfer_late_days")))
    late = (
        Transfer.objects.filter(state=Transfer.State.SHIPPED, expected_on__lt=last)
        .select_related("source", "destination")
        .annotate(
            units=Sum("lines__shipped"),
            accounted=Sum(F("lines__received") + F("lines__lost") + F("lines__returned")),
        )
        .filter(accounted=0)
    )
    return tell_once(
        "transfer_late",
        {
            f"transfer_late:{one.pk}:{one.expected_on:%Y%m%d}": {
                "title": f"{one.number} is late: expected {one.expected_on:%d %b %Y}",
                "detail": f"{one.units} units from {one.source} have not arrived in {one.destination}. Ask where they "
                "are, then move the date, receive what came, or decide what became of them.",
                "url": f"/stock/transfers/{one.pk}/",
                "warehouse_code": one.destination.code,
            }
            for one in late
        },
        "it has come, or its day moved",
    )


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

    Raises `UserError` for equal or unknown places, an operator's pool as source, a date that cannot be, or a quantity
    below 1.
    """
    places = Warehouse.objects.in_bulk([source_id, destination_id])
    if len(places) != 2:
        raise UserError("destination: choose two different warehouses.", field="destination")
    if not places[source_id].counted_by_us:
        raise UserError(
            f"source: {places[source_id]} is counted by its operator; ask it for a removal.", field="source"
        )
    plausible("expected_on", expected_on)
    if not lines:
        raise UserError("lines: name at least one SKU and a quantity.", field="lines")
    known = Sku.objects.in_bulk(list(lines))
    for sku_id, quantity in lines.items():
        with about(sku_id):
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
def ship_transfer(
    transfer_id: int,
    *,
    actor: Actor,
    quantities: Mapping[int, int] | None = None,
    numbers: Mapping[int, Sequence[str]] | None = None,
) -> Transfer:
    """Send a requested transfer: units leave the source and are in transit to the destination.

    `quantities` by SKU id may send less than requested. Only available units leave, the earliest expiry first.
    `numbers` by SKU id are the serial numbers of the units that leave; they travel with the transfer.
    Repeating changes nothing. Raises `Conflict` (cancelled), `InsufficientStock`, `UserError` (more than
    requested, nothing at all).
    """
    transfer = _locked(transfer_id)
    if transfer.state in (Transfer.State.SHIPPED, Transfer.State.RECEIVED):
        return transfer
    if transfer.state == Transfer.State.CANCELLED:
        raise Conflict(f"{transfer.number} is cancelled.", field="state")
    lines = list(transfer.lines.select_related("sku").order_by("sku_id"))
    movements = []
    for line in lines:
        units = line.quantity if quantities is None else quantities.get(line.sku_id, 0)
        with about(line.sku_id):
            if not 0 <= units <= line.quantity:
                raise UserError(
                    f"quantity: {line.sku} was requested {line.quantity} times, {units} given.",
                    field="quantity",
                )
        line.shipped = units
        if units:
            with about(line.sku_id):
                _numbers_leave(transfer, line.sku, units, (numbers or {}).get(line.sku_id, ()), actor)
            leaves = Movement(
                sku_id=line.sku_id,
                warehouse_id=transfer.source_id,
                bucket=Bucket.ON_HAND,
                quantity=-units,
                kind=Kind.TRANSFER_OUT,
                key=f"transfer:{transfer.pk}:out:{line.sku_id}:h",
                reference=transfer.number,
            )
            travels = replace(
                leaves, warehouse_id=transfer.destination_id, bucket=Bucket.IN_TRANSIT, quantity=units,
                key=f"transfer:{transfer.pk}:out:{line.sku_id}:t",
            )  # fmt: skip
            movements += [leaves, travels]
    if not movements:
        raise UserError("quantity: enter at least one unit to ship.", field="lines")
    TransferLine.objects.bulk_update(lines, ["shipped"])
    transfer.state, transfer.shipped_at = Transfer.State.SHIPPED, now()
    transfer.save(update_fields=["state", "shipped_at"])
    record(actor, "transfer.shipped", transfer, after={str(line.sku): line.shipped for line in lines})
    _tell(transfer)
    post_movements(movements, actor=actor)
    return transfer


@stock_service
def receive_transfer(
    transfer_id: int,
    quantities: Mapping[int, int],
    *,
    actor: Actor,
    key: str,
    numbers: Mapping[int, Sequence[str]] | None = None,
) -> Transfer:
    """Take arrived units `{SKU id: eaches}` from in transit to on hand, once per `key`.

    What does not arrive stays in transit until somebody decides (`settle_transfer`), so the total over all pools
    is the same at every step. At a marketplace's pool only in transit falls: its snapshot brings the units.
    `numbers` by SKU id say which numbered units came, where not all that travel did.
    Raises `Conflict` (not shipped, more than in transit: record the surplus as found stock), `UserError`.
    """
    transfer = _locked(transfer_id)
    prefix = f"transfer:{transfer.pk}:in:{key}"
    lines = _lines(transfer)
    if _posted([f"{prefix}:{sku_id}:t" for sku_id in lines]):
        return transfer
    if transfer.state != Transfer.State.SHIPPED:
        raise Conflict(
            f"{transfer.number} is {transfer.get_state_display().lower()}: nothing is in transit.",
            field="state",
        )

    def arrive(line: TransferLine, units: int) -> list[Movement]:
        _numbers_land(transfer, line, units, transfer.destination_id, numbers, "came with a transfer", actor)
        line.received += units
        gone = _out_of_transit(transfer, line, units, Kind.TRANSFER_IN, f"{prefix}:{line.sku_id}:t")
        if not transfer.destination.counted_by_us:
            return [gone]
        return [gone, *_on_hand(transfer, line, units, transfer.destination_id, f"{prefix}:{line.sku_id}")]

    movements = _each(
        transfer, lines, quantities, arrive, "received. Record a surplus as found stock.", "that arrived"
    )
    _account(transfer, lines, actor)
    post_movements(movements, actor=actor)
    return transfer


@stock_service
def settle_transfer(
    transfer_id: int,
    quantities: Mapping[int, int],
    *,
    reason: str,
    actor: Actor,
    key: str,
    found: bool = False,
    numbers: Mapping[int, Sequence[str]] | None = None,
) -> Transfer:
    """Decide about units in transit `{SKU id: eaches}` that never came, once per `key`: they are lost and leave in
    transit with a reason, or with `found` they turned up at the source and lie there again.

    Raises `UserError` (no reason, or a person's word that is not listed), `Conflict` (more than in transit).
    """
    reason = named_reason(reason)
    if actor.user_id is not None:
        check_reason(reason, 1 if found else -1, f"TR-{transfer_id}")
    transfer = _locked(transfer_id)
    prefix = f"transfer:{transfer.pk}:{'back' if found else 'lost'}:{key}"
    lines = _lines(transfer)
    if _posted([f"{prefix}:{sku_id}{':t' if found else ''}" for sku_id in lines]):
        return transfer

    def settle(line: TransferLine, units: int) -> list[Movement]:
        place = transfer.source_id if found else None
        _numbers_land(transfer, line, units, place, numbers, f"transfer: {reason}", actor)
        if not found:
            line.lost += units
            gone = _out_of_transit(transfer, line, units, Kind.WRITE_OFF, f"{prefix}:{line.sku_id}")
            return [replace(gone, reason=reason)]
        line.returned += units
        gone = _out_of_transit(transfer, line, units, Kind.TRANSFER_IN, f"{prefix}:{line.sku_id}:t")
        back = _on_hand(transfer, line, units, transfer.source_id, f"{prefix}:{line.sku_id}")
        return [replace(one, reason=reason) for one in (gone, *back)]

    movements = _each(
        transfer, lines, quantities, settle, f"given as {'found' if found else 'lost'}.", "to settle"
    )
    _account(transfer, lines, actor)
    post_movements(movements, actor=actor)
    return transfer


@stock_service
def reschedule_transfer(
    transfer_id: int, expected_on: dt.date, *, actor: Actor, reason: str = ""
) -> Transfer:
    """Its units come on another day. Orders that wait for them get their new dates through the news.

    The same day again changes nothing. Raises `UserError` for a day that cannot be, `Conflict` when nothing of it is
    under way any more.
    """
    plausible("expected_on", expected_on)
    transfer = _locked(transfer_id)
    if transfer.state not in (Transfer.State.REQUESTED, Transfer.State.SHIPPED):
        raise Conflict(
            f"{transfer.number} is {transfer.get_state_display().lower()}: nothing is on its way, so no date can move.",
            field="state",
        )
    before = transfer.expected_on
    if before == expected_on:
        return transfer
    transfer.expected_on = expected_on
    transfer.save(update_fields=["expected_on"])
    told = {"reason": reason.strip()[:160]} if reason.strip() else {}
    record(
        actor, "transfer.rescheduled", transfer, before={"expected_on": before},
        after={"expected_on": expected_on, **told},
    )  # fmt: skip
    _tell(transfer)
    return transfer


def _tell(transfer: Transfer) -> None:
    """News for who waits for the units. Inside the transaction of the change."""
    emit("transfer.changed", str(transfer.pk))


@stock_service
def cancel_transfer(transfer_id: int, *, actor: Actor) -> Transfer:
    """Withdraw a transfer that has not left yet. Raises `Conflict` once it is in transit."""
    transfer = _locked(transfer_id)
    if transfer.state == Transfer.State.CANCELLED:
        return transfer
    if transfer.state != Transfer.State.REQUESTED:
        raise Conflict(f"{transfer.number} has left already: receive or settle it.", field="state")
    transfer.state = Transfer.State.CANCELLED
    transfer.save(update_fields=["state"])
    record(actor, "transfer.cancelled", transfer)
    return transfer


def _numbers_leave(transfer: Transfer, sku: Sku, units: int, given: Sequence[str], actor: Actor) -> None:
    """Numbered units set out. Raises `UserError` where they are not named, `Conflict` for one that is not there."""
    if not sku.serial_tracked:
        serials.check(sku, given, units)
        return
    level = StockLevel.objects.filter(sku=sku, warehouse=transfer.source_id).only("on_hand").first()
    chosen = serials.of_change(sku, transfer.source, -units, level.on_hand if level else 0, given)
    if chosen:
        serials.leave(
            sku, chosen, warehouse_id=transfer.source_id, reference=transfer.number, actor=actor,
            state=SerialUnit.State.MOVING if transfer.destination.kind in HOUSES else SerialUnit.State.GONE,
            words=f"left for {transfer.destination.code}",
        )  # fmt: skip


def _numbers_land(
    transfer: Transfer,
    line: TransferLine,
    units: int,
    place_id: int | None,
    numbers: Mapping[int, Sequence[str]] | None,
    words: str,
    actor: Actor,
) -> None:
    """Numbered units of the transfer come to `place_id`, or are lost without one. Raises `UserError`."""
    travelling = list(
        SerialUnit.objects.filter(
            sku=line.sku_id, state=SerialUnit.State.MOVING, reference=transfer.number
        ).order_by("serial")
    )
    if not travelling:
        return
    wanted = {one.strip().upper() for one in (numbers or {}).get(line.sku_id, ()) if one.strip()}
    chosen = [unit for unit in travelling if unit.serial.upper() in wanted]
    if not wanted and units == line.open_units:
        chosen = travelling
    nameless = line.open_units - len(travelling)
    if len(chosen) != len(wanted or chosen) or not units - nameless <= len(chosen) <= units:
        raise UserError(
            f"serials: name the {units} numbers of {line.sku} that this is about; on their way are "
            f"{', '.join(unit.serial for unit in travelling[:20])}.",
            field="serials",
        )
    serials.land(chosen, warehouse_id=place_id, reference=transfer.number, words=words, actor=actor)


def _locked(transfer_id: int) -> Transfer:
    """The transfer under its lock; it comes before the levels in the order of locks."""
    found = (
        Transfer.objects.filter(pk=transfer_id)
        .select_related("source", "destination")
        .select_for_update(of=("self",), no_key=True)
        .first()
    )
    if found is None:
        raise NotFound(f"transfer: there is no transfer with id {transfer_id}.", field="transfer")
    return found


def _lines(transfer: Transfer) -> dict[int, TransferLine]:
    return {line.sku_id: line for line in transfer.lines.select_related("sku")}


def _posted(keys: Sequence[str]) -> bool:
    """Was one of these posted before? Whole keys: a caller's "R1" is not the beginning of a caller's "R10"."""
    return StockMovement.objects.filter(key__in=keys).exists()


def _each(
    transfer: Transfer,
    lines: Mapping[int, TransferLine],
    quantities: Mapping[int, int],
    step: Callable[[TransferLine, int], Sequence[Movement]],
    told: str,
    wanted: str,
) -> list[Movement]:
    """Movements of `step` for each line with units, after the checks that all steps share."""
    movements: list[Movement] = []
    for sku_id, units in sorted(quantities.items()):
        with about(sku_id):
            line = lines.get(sku_id)
            if line is None:
                raise UserError(f"lines: SKU {sku_id} is not on {transfer.number}.", field="lines")
            if not 0 <= units <= line.open_units:
                raise Conflict(
                    f"quantity: {line.sku} has {line.open_units} in transit, {units} {told}", field="quantity"
                )
            if units:
                movements += step(line, units)
    if not movements:
        raise UserError(f"quantity: enter at least one unit {wanted}.", field="lines")
    return movements


def _out_of_transit(transfer: Transfer, line: TransferLine, units: int, kind: str, key: str) -> Movement:
    return Movement(
        sku_id=line.sku_id, warehouse_id=transfer.destination_id, bucket=Bucket.IN_TRANSIT, quantity=-units, kind=kind,
        key=key, reference=transfer.number,
    )  # fmt: skip


def _on_hand(transfer: Transfer, line: TransferLine, units: int, place_id: int, key: str) -> list[Movement]:
    """Units of the transfer that lie on a shelf again: at the cost they left with, by the lots that left."""
    cost = (
        StockMovement.objects.filter(
            reference=transfer.number, kind=Kind.TRANSFER_OUT, bucket=Bucket.ON_HAND, sku=line.sku_id
        )
        .values_list("unit_cost", flat=True)
        .first()
    )
    return [
        Movement(
            sku_id=line.sku_id,
            warehouse_id=place_id,
            bucket=Bucket.ON_HAND,
            quantity=part,
            kind=Kind.TRANSFER_IN,
            key=f"{key}:h" if number == 0 else f"{key}:h:{number}",
            reference=transfer.number,
            lot_id=lot_id,
            unit_cost=cost,
        )
        for number, (lot_id, part) in enumerate(_lots_in_transit(transfer, line.sku_id, units))
    ]


def _lots_in_transit(transfer: Transfer, sku_id: int, units: int) -> list[tuple[int | None, int]]:
    """Lots of the next `units` to arrive: those that left and are not on a shelf yet, the earliest expiry first.

    Units lost in transit are not known by lot, so the last ones may be without.
    """
    rows = (
        BinMovement.objects.filter(movement__reference=transfer.number, sku=sku_id, lot__isnull=False)
        .values("lot_id", "lot__expires_on")
        .annotate(units=Sum("quantity"))
        .order_by("lot__expires_on", "lot_id")
    )
    found: list[tuple[int | None, int]] = []
    for row in rows:
        part = min(units, -row["units"])
        if part > 0:
            found.append((row["lot_id"], part))
            units -= part
    if units:
        found.append((None, units))
    return found


def _account(transfer: Transfer, lines: Mapping[int, TransferLine], actor: Actor) -> None:
    """Store counts; a transfer with nothing left in transit is received, otherwise a person is told."""
    TransferLine.objects.bulk_update(lines.values(), ["received", "lost", "returned"])
    missing = {str(line.sku): line.open_units for line in lines.values() if line.open_units}
    alarm = f"transfer:{transfer.pk}"
    if missing:
        told = ", ".join(f"{units} × {code}" for code, units in missing.items())
        raise_item(
            "transfer_difference",
            alarm,
            f"{transfer.number}: {told} still in transit",
            detail="Receive them when they come, or decide that they are lost or were found at the source.",
            url=f"/stock/transfers/{transfer.pk}/",
            warehouse_code=transfer.destination.code,
        )
    else:
        transfer.state, transfer.received_at = Transfer.State.RECEIVED, now()
        transfer.save(update_fields=["state", "received_at"])
        close_item(alarm, "all units accounted for", actor=actor)
    record(actor, "transfer.counted", transfer, after={"in transit": missing})
    _tell(transfer)
