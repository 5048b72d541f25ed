"""Units with a number of their own: in stock, shipped to whom, back again, written off."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection
from django.db.models.functions import Upper

from inventory.models import Lot, SerialUnit, Sku
from oms.core.errors import Conflict, UserError

State = SerialUnit.State


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


def receive(sku: Sku, serials: Sequence[str], *, warehouse_id: int, lot: Lot | None, source: str) -> None:
    """Take numbered units in. A number that left or was written off may come in again; one that is in stock may not.

    Inside the caller's transaction. Raises `Conflict`.
    """
    known = _known(sku, serials)
    fresh = []
    for serial in serials:
        unit = known.get(serial.upper())
        if unit is None:
            fresh.append(
                SerialUnit(sku=sku, serial=serial, warehouse_id=warehouse_id, lot=lot, source=source[:80])
            )
            continue
        if unit.state == State.IN_STOCK:
            raise Conflict(f"serials: {sku} {serial} is in stock already ({unit.source}).", field="serials")
        unit.state, unit.warehouse_id, unit.reference = State.IN_STOCK, warehouse_id, source[:80]
        unit.save(update_fields=["state", "warehouse", "reference", "updated_at"])
    SerialUnit.objects.bulk_create(fresh)


def leave(
    sku: Sku, serials: Sequence[str], *, warehouse_id: int, reference: str, state: str = State.SHIPPED
) -> list[SerialUnit]:
    """Numbered units leave the warehouse, shipped or written off. Inside the caller's transaction.

    Raises `Conflict` for a number that is not in stock there.
    """
    known = _known(sku, serials)
    units = []
    for serial in serials:
        unit = known.get(serial.upper())
        if unit is None or unit.state != State.IN_STOCK or unit.warehouse_id != warehouse_id:
            raise Conflict(
                f"serials: {sku} {serial} is not in stock here. Check the number on the unit.",
                field="serials",
            )
        unit.state, unit.warehouse_id, unit.reference = state, None, reference[:80]
        unit.save(update_fields=["state", "warehouse", "reference", "updated_at"])
        units.append(unit)
    return units


def come_back(sku: Sku, serials: Sequence[str], *, reference: str) -> None:
    """A return brought numbered units; they are sold again only when `receive` takes them in.

    Raises `Conflict` for a number that never left.
    """
    known = _known(sku, serials)
    for serial in serials:
        unit = known.get(serial.upper())
        if unit is None or unit.state != State.SHIPPED:
            raise Conflict(f"serials: {sku} {serial} was never shipped from here.", field="serials")
        unit.state, unit.reference = State.RETURNED, reference[:80]
        unit.save(update_fields=["state", "reference", "updated_at"])


def find(serial: str, sku_id: int | None = None) -> list[SerialUnit]:
    """Units with that number, without regard to case, the newest change first."""
    rows = SerialUnit.objects.annotate(fold=Upper("serial")).filter(fold=serial.strip().upper())
    if sku_id is not None:
        rows = rows.filter(sku=sku_id)
    return list(rows.select_related("sku__product", "warehouse", "lot").order_by("-updated_at")[:20])


def _known(sku: Sku, serials: Sequence[str]) -> dict[str, SerialUnit]:
    rows = (
        SerialUnit.objects.annotate(fold=Upper("serial"))
        .filter(sku=sku, fold__in=[one.upper() for one in serials])
        .order_by("pk")
    )
    if connection.in_atomic_block:
        rows = rows.select_for_update(of=("self",), no_key=True)
    return {unit.serial.upper(): unit for unit in rows}
