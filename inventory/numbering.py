"""Units that came without a serial number get theirs: found by a count, or there before their SKU had numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.db.models import Count

from inventory import serials
from inventory.locking import lock_levels, stock_service
from inventory.models import SerialUnit, Sku, StockLevel, Warehouse
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.errors import Conflict, UserError

State = SerialUnit.State
#: houses of ours; others keep the numbers of their units to themselves
NUMBERED_IN = (Warehouse.Kind.OWN, Warehouse.Kind.STORE)
#: numbers given at once
MOST = 1000


@dataclass(frozen=True, slots=True)
class Nameless:
    """`units` on hand at a warehouse of which no serial number is known."""

    sku: Sku
    warehouse: Warehouse
    units: int


def nameless(warehouse_ids: Collection[int], sku_ids: Collection[int] | None = None) -> list[Nameless]:
    """Units without a number per SKU that has them and warehouse, by code. Two statements."""
    levels = StockLevel.objects.filter(
        sku__serial_tracked=True, on_hand__gt=0, warehouse__in=warehouse_ids, warehouse__kind__in=NUMBERED_IN
    ).select_related("sku", "warehouse")
    here = SerialUnit.objects.filter(state__in=(State.IN_STOCK, State.RETURNED), warehouse__in=warehouse_ids)
    if sku_ids is not None:
        levels, here = levels.filter(sku__in=sku_ids), here.filter(sku__in=sku_ids)
    known = {
        (sku, place): units
        for sku, place, units in here.order_by().values_list("sku", "warehouse").annotate(Count("pk"))
    }
    found = []
    for level in levels.order_by("sku__code", "warehouse__code"):
        units = level.on_hand - known.get((level.sku_id, level.warehouse_id), 0)
        if units > 0:
            found.append(Nameless(level.sku, level.warehouse, units))
    return found


@stock_service
def number(*, sku_id: int, warehouse_id: int, numbers: Sequence[str], actor: Actor) -> int:
    """Give numbers to units that are on hand without one; no balance changes. Returns how many are left without.

    A number that is in stock, or with a buyer, belongs to another unit. Raises `UserError` (SKU without serial
    numbers, a warehouse of others, a number twice), `Conflict` (more numbers than units without one, a number in use).
    """
    sku = Sku.objects.filter(pk=sku_id).first()
    place = Warehouse.objects.filter(pk=warehouse_id).first()
    if sku is None or not sku.serial_tracked:
        raise UserError("sku: choose a SKU that has serial numbers.", field="sku")
    if place is None or place.kind not in NUMBERED_IN:
        raise UserError(
            "warehouse: choose a warehouse of your own; others number their units themselves.",
            field="warehouse",
        )
    given = [one.strip() for one in numbers if one.strip()]
    if not 0 < len(given) <= MOST:
        raise UserError(f"serials: give 1 to {MOST} serial numbers, one per unit.", field="serials")
    given = serials.check(sku, given, len(given))
    lock_levels([(sku.pk, place.pk)])
    without = sum(one.units for one in nameless([place.pk], [sku.pk]))
    if len(given) > without:
        raise Conflict(
            f"serials: {without} units of {sku} in {place} have no number yet, {len(given)} were given.",
            field="serials",
        )
    for unit in serials.known_by(sku, given).values():
        if unit.state in (State.SHIPPED, State.MOVING, State.RETURNED):
            raise Conflict(
                f"serials: {sku} {unit} is {unit.get_state_display().lower()} ({unit.reference or unit.source}); "
                "check the number on the unit.",
                field="serials",
            )
    serials.receive(
        sku, given, warehouse_id=place.pk, lot=None, source="numbered", actor=actor, words="got its number"
    )
    left = without - len(given)
    record(actor, "serials.numbered", sku, after={"warehouse": place.code, "units": len(given), "left": left})
    return left
