"""Units with a number of their own: in stock, shipped to whom, back again, written off; each step is kept."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import IntegrityError, connection
from django.db.models import Q
from django.db.models.functions import Upper

from inventory.models import Lot, SerialEvent, SerialUnit, Sku, Warehouse
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.db import LostRace
from oms.core.errors import Conflict, UserError

State = SerialUnit.State
#: the step after which a returned unit waits to be put back in stock by hand
REFURBISHING = "sent to be refurbished"


def parse(text: str) -> list[str]:
    """Serial numbers typed or scanned into one field, one per line or separated by commas or semicolons."""
    return [one.strip() for one in text.replace(",", "\n").replace(";", "\n").splitlines() if one.strip()]


def check(sku: Sku, serials: Sequence[str], units: int) -> list[str]:
    """The serial numbers of `units` units, once each. Raises `UserError` for a tracked SKU with too few or too many,
    and for numbers of a SKU that has none.
    """
    cleaned = [one.strip() for one in serials if one.strip()]
    if not sku.serial_tracked:
        if cleaned:
            raise UserError(f"serials: {sku} has no serial numbers; leave them out.", field="serials")
        return []
    if any(len(one) > 60 for one in cleaned):
        raise UserError("serials: at most 60 characters each.", field="serials")
    if len({one.upper() for one in cleaned}) != len(cleaned):
        raise UserError("serials: one number is given twice.", field="serials")
    if len(cleaned) != units:
        raise UserError(
            f"serials: {sku} needs {units} serial numbers, {len(cleaned)} were given; scan each unit once.",
            field="serials",
        )
    return cleaned


def of_change(sku: Sku, place: Warehouse, change: int, on_hand: int, given: Sequence[str]) -> list[str]:
    """The numbers of the units that an adjustment adds or takes away, checked against the books.

    Units taken away are named as soon as the units without a number do not suffice: a number never stays in stock
    without its unit. Units found may come without a number. Raises `UserError`.
    """
    if place.kind == Warehouse.Kind.THREEPL:
        return []  # another house keeps the numbers of its units to itself
    if given or not sku.serial_tracked:
        return check(sku, given, abs(change)) if given else []
    nameless = on_hand - SerialUnit.objects.filter(sku=sku, warehouse=place, state=State.IN_STOCK).count()
    if change < 0 and -change > nameless:
        raise UserError(
            f"serials: {sku} has serial numbers: name those of the {-change} units that are gone.",
            field="serials",
        )
    return []


def adjust(
    sku: Sku,
    serials: Sequence[str],
    change: int,
    *,
    warehouse_id: int,
    reference: str,
    reason: str,
    actor: Actor,
) -> None:
    """Numbered units that an adjustment adds or takes away. Inside the caller's transaction. Raises `Conflict`."""
    if not serials:
        return
    if change > 0:
        receive(
            sku, serials, warehouse_id=warehouse_id, lot=None, source=reference, actor=actor,
            words=f"taken in: {reason}",
        )  # fmt: skip
    else:
        leave(
            sku, serials, warehouse_id=warehouse_id, reference=reference, actor=actor, state=State.GONE,
            words=f"written off: {reason}",
        )  # fmt: skip


def receive(
    sku: Sku,
    serials: Sequence[str],
    *,
    warehouse_id: int,
    lot: Lot | None,
    source: str,
    actor: Actor,
    words: str = "received",
) -> None:
    """Take numbered units in. A number that left or was written off may come in again; one that is in stock may not.

    Inside the caller's transaction. Raises `Conflict`.
    """
    known = known_by(sku, serials)
    fresh = []
    for serial in serials:
        unit = known.get(serial.upper())
        if unit is None:
            fresh.append(
                SerialUnit(
                    sku=sku, serial=serial, warehouse_id=warehouse_id, lot=lot, source=source[:80],
                    reference=source[:80],
                )
            )  # fmt: skip
        elif unit.state == State.IN_STOCK:
            raise Conflict(f"serials: {sku} {serial} is in stock already ({unit.source}).", field="serials")
    _move(list(known.values()), State.IN_STOCK, warehouse_id, source, words, actor)
    try:
        made = SerialUnit.objects.bulk_create(fresh)
    except IntegrityError as error:  # the run after it finds the unit and says so
        raise LostRace("a serial number was taken in elsewhere meanwhile") from error
    _tell(made, words, actor)


def leave(
    sku: Sku,
    serials: Sequence[str],
    *,
    warehouse_id: int,
    reference: str,
    actor: Actor,
    state: str = State.SHIPPED,
    words: str = "shipped",
) -> list[SerialUnit]:
    """Numbered units leave the warehouse: shipped or written off. Inside the caller's transaction.

    Raises `Conflict` for a number that is not in stock there.
    """
    known = known_by(sku, serials)
    for serial in serials:
        unit = known.get(serial.upper())
        if unit is None or unit.state != State.IN_STOCK or unit.warehouse_id != warehouse_id:
            raise Conflict(
                f"serials: {sku} {serial} is not in stock here. Check the number on the unit.",
                field="serials",
            )
    units = [known[serial.upper()] for serial in serials]
    _move(units, state, None, reference, words, actor)
    return units


def come_back(
    sku: Sku, serials: Sequence[str], *, warehouse_id: int | None, reference: str, actor: Actor
) -> list[SerialUnit]:
    """A return brought numbered units; they are sold again only when an inspector says so (`decide`).

    Inside the caller's transaction. Raises `Conflict` for a number that never left.
    """
    known = known_by(sku, serials)
    for serial in serials:
        unit = known.get(serial.upper())
        if unit is None or unit.state != State.SHIPPED:
            raise Conflict(f"serials: {sku} {serial} was never shipped from here.", field="serials")
    units = [known[serial.upper()] for serial in serials]
    _move(units, State.RETURNED, warehouse_id, reference, "came back", actor)
    return units


def decide(
    units: Sequence[SerialUnit],
    state: str,
    *,
    words: str,
    warehouse_id: int | None,
    reference: str,
    actor: Actor,
    note: str = "",
) -> None:
    """What became of returned units: back in stock, or out of our hands. Inside the caller's transaction.

    Raises `Conflict` for a unit that did not come back.
    """
    for unit in units:
        if unit.state != State.RETURNED:
            raise Conflict(
                f"serials: {unit.sku} {unit} is {unit.get_state_display().lower()}, not waiting as a return.",
                field="serials",
            )
    _move(units, state, warehouse_id, reference, words, actor, note)


def land(
    units: Sequence[SerialUnit], *, warehouse_id: int | None, reference: str, words: str, actor: Actor
) -> None:
    """Travelling units are in stock in a house of ours, or gone from our sight. Inside the caller's transaction."""
    _move(
        units, State.GONE if warehouse_id is None else State.IN_STOCK, warehouse_id, reference, words, actor
    )


def left_with(sku_id: int, references: Sequence[str]) -> list[SerialUnit]:
    """Units that left with any of the named shipments, wherever they are now."""
    told = Q(events__state=State.SHIPPED, events__reference__in=list(references))
    now_there = Q(state=State.SHIPPED, reference__in=list(references))
    return list(SerialUnit.objects.filter(told | now_there, sku=sku_id).distinct().order_by("serial"))


def _move(
    units: Sequence[SerialUnit],
    state: str,
    warehouse_id: int | None,
    reference: str,
    words: str,
    actor: Actor,
    note: str = "",
) -> None:
    for unit in units:
        unit.state, unit.warehouse_id, unit.reference = state, warehouse_id, reference[:80]
        unit.save(update_fields=["state", "warehouse", "reference", "updated_at"])
    _tell(units, words, actor, note)


def _tell(units: Sequence[SerialUnit], words: str, actor: Actor, note: str = "") -> None:
    at = now()
    SerialEvent.objects.bulk_create(
        SerialEvent(
            unit=unit, state=unit.state, words=words[:120], warehouse_id=unit.warehouse_id, reference=unit.reference,
            note=note[:255], actor=str(actor), at=at,
        )
        for unit in units
    )  # fmt: skip


def find(serial: str, sku_id: int | None = None) -> list[SerialUnit]:
    """Units with that number, without regard to case, the newest change first."""
    rows = SerialUnit.objects.annotate(fold=Upper("serial")).filter(fold=serial.strip().upper())
    if sku_id is not None:
        rows = rows.filter(sku=sku_id)
    return list(rows.select_related("sku__product", "warehouse", "lot").order_by("-updated_at")[:20])


def known_by(sku: Sku, serials: Sequence[str]) -> dict[str, SerialUnit]:
    """Units of the SKU with these numbers, by the number in capitals; locked inside a transaction."""
    rows = (
        SerialUnit.objects.annotate(fold=Upper("serial"))
        .filter(sku=sku, fold__in=[one.upper() for one in serials])
        .order_by("pk")
    )
    if connection.in_atomic_block:
        rows = rows.select_for_update(of=("self",), no_key=True)
    return {unit.serial.upper(): unit for unit in rows}
