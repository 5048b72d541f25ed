"""Pre-built kits: components are built into counted sets, and sets are broken up again."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal

from inventory import kits, numbering
from inventory.costing import FOUR
from inventory.ledger import Bucket, Kind, Movement, post_movements
from inventory.locking import lock_levels, stock_service
from inventory.models import KitComponent, Sku, StockMovement, Warehouse
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.errors import Conflict, NotFound, UserError


@stock_service
def build(
    kit_id: int, warehouse_id: int, quantity: int, *, actor: Actor, key: str, note: str = ""
) -> list[StockMovement]:
    """Turn available components into `quantity` pre-built sets; a set costs what its components cost.

    Only available units are built in, so no promise is touched. Once per `key`. Raises `UserError` (no pre-built
    kit, no components, an operator's pool, quantity), `InsufficientStock` naming the component that is missing,
    `Conflict` for a component whose units have serial numbers.
    """
    kit, warehouse, parts = _what(kit_id, warehouse_id, quantity)
    known = list(StockMovement.objects.filter(key__startswith=f"{key}:", kind=Kind.BUILD).order_by("id"))
    if known:
        return known
    # every level of the change, in one order, before the first is read
    levels = lock_levels([(sku, warehouse_id) for sku in (*parts, kit_id)])
    _check_numbers({sku: each * quantity for sku, each in parts.items()}, warehouse)
    taken = [
        _movement(sku, warehouse_id, -each * quantity, f"{key}:{sku}", kit, note)
        for sku, each in parts.items()
    ]
    rows = post_movements(taken, actor=actor)
    cost = sum((-row.quantity * (row.unit_cost or Decimal(0)) for row in rows), Decimal(0)) / quantity
    made = _movement(
        kit_id, warehouse_id, quantity, f"{key}:kit", kit, note, cost.quantize(FOUR, ROUND_HALF_UP)
    )
    rows += post_movements([made], actor=actor)
    record(
        actor,
        "kit.built",
        kit,
        after={"warehouse": warehouse.code, "quantity": quantity, "levels": len(levels)},
    )
    return rows


@stock_service
def take_apart(
    kit_id: int, warehouse_id: int, quantity: int, *, actor: Actor, key: str, note: str = ""
) -> list[StockMovement]:
    """Break `quantity` available pre-built sets into their components, which share what the sets had cost.

    The share of a component follows its standard cost; without any standard cost, its units. Raises like `build`.
    """
    kit, warehouse, parts = _what(kit_id, warehouse_id, quantity)
    known = list(StockMovement.objects.filter(key__startswith=f"{key}:", kind=Kind.BUILD).order_by("id"))
    if known:
        return known
    lock_levels([(sku, warehouse_id) for sku in (*parts, kit_id)])
    _check_numbers({kit_id: quantity}, warehouse)
    rows = post_movements([_movement(kit_id, warehouse_id, -quantity, f"{key}:kit", kit, note)], actor=actor)
    cost = rows[0].unit_cost or Decimal(0)
    standard = dict(Sku.objects.filter(pk__in=parts).values_list("pk", "unit_cost"))
    weights = {sku: standard[sku] * each for sku, each in parts.items()}
    if not sum(weights.values()):
        weights = {sku: Decimal(each) for sku, each in parts.items()}
    whole = sum(weights.values())
    rows += post_movements(
        [
            _movement(
                sku, warehouse_id, each * quantity, f"{key}:{sku}", kit, note,
                (cost * weights[sku] / whole / each).quantize(FOUR, ROUND_HALF_UP),
            )
            for sku, each in parts.items()
        ],
        actor=actor,
    )  # fmt: skip
    record(actor, "kit.broken", kit, after={"warehouse": warehouse.code, "quantity": quantity})
    return rows


def _what(kit_id: int, warehouse_id: int, quantity: int) -> tuple[Sku, Warehouse, dict[int, int]]:
    """The kit, the place, and eaches of counted SKUs per set; virtual kits inside it are resolved."""
    kit = Sku.objects.filter(pk=kit_id).first()
    if kit is None:
        raise NotFound(f"kit: there is no SKU with id {kit_id}.", field="kit")
    if kit.kind != Sku.Kind.PREBUILT:
        raise UserError(
            f"kit: {kit} is a {kit.get_kind_display().lower()}; only a pre-built kit is built.", field="kit"
        )
    if isinstance(quantity, bool) or not isinstance(quantity, int) or quantity < 1:
        raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
    warehouse = Warehouse.objects.filter(pk=warehouse_id).first()
    if warehouse is None or not warehouse.counted_by_us:
        raise UserError("warehouse: choose a warehouse that we count ourselves.", field="warehouse")
    parts: dict[int, int] = {}
    rows = KitComponent.objects.filter(kit=kit).order_by("component_id")
    inside = list(rows.values_list("component_id", "quantity", "component__kind"))
    flat = kits.flatten(sku for sku, _, kind in inside if kind == Sku.Kind.KIT)
    for sku, each, kind in inside:
        for counted, units in flat[sku] if kind == Sku.Kind.KIT else [(sku, 1)]:
            parts[counted] = parts.get(counted, 0) + each * units
    if not parts:
        raise UserError(f"components: {kit} has no components yet.", field="components")
    return kit, warehouse, parts


def _check_numbers(taken: Mapping[int, int], warehouse: Warehouse) -> None:
    """A unit with a serial number does not vanish into a set: only those without one are used. Raises `Conflict`."""
    numbered = Sku.objects.filter(pk__in=taken, serial_tracked=True)
    if warehouse.kind not in numbering.NUMBERED_IN:
        return  # another house keeps the numbers of its units to itself
    for sku in numbered:
        without = sum(one.units for one in numbering.nameless([warehouse.pk], [sku.pk]))
        if taken[sku.pk] > without:
            raise Conflict(
                f"serials: {taken[sku.pk]} units of {sku} are needed and {without} have no serial number; write "
                "numbered ones off by an adjustment with their numbers, or leave the SKU out of pre-built kits.",
                field="serials",
            )


def _movement(
    sku_id: int, warehouse_id: int, quantity: int, key: str, kit: Sku, note: str, cost: Decimal | None = None
) -> Movement:
    return Movement(
        sku_id=sku_id, warehouse_id=warehouse_id, bucket=Bucket.ON_HAND, quantity=quantity, kind=Kind.BUILD, key=key,
        reason="built" if (quantity > 0) == (sku_id == kit.pk) else "broken", reference=kit.code[:80], note=note,
        unit_cost=cost,
    )  # fmt: skip
