"""Two codes turned out to be one thing: the source's stock, lots, serials, codes and settings become the target's.

The ledger is never rewritten: stock moves by rows that name both SKUs, and the source's own rows stay readable under
its code. The floors above hear `sku.merged` and move their listings, offers and open lines.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db.models import F, Q

from inventory.ledger import Bucket, Kind, Movement, post_movements
from inventory.locking import lock_levels, no_new_levels, stock_service
from inventory.models import (
    BinStock,
    CountTask,
    DemandDay,
    KitComponent,
    Lot,
    RingFence,
    SerialUnit,
    Sku,
    SkuAlias,
    SkuPack,
    StockLevel,
    TransferLine,
)
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.outbox import emit_many

#: a floor above may add a check: (source id, target id) → reasons against the merge
CHECKS: list[Callable[[int, int], list[str]]] = []


def conflicts(source: Sku, target: Sku) -> list[str]:
    """Every reason why the two cannot be merged now, in words; empty when they can. Writes nothing."""
    if source.pk == target.pk:
        return ["Choose two different SKUs."]
    found = []
    if source.merged_into_id or target.merged_into_id:
        found.append(f"{source if source.merged_into_id else target} was merged already.")
    if source.kind != target.kind:
        found.append(
            f"{source} is a {source.get_kind_display().lower()}, {target} a {target.get_kind_display().lower()}: "
            "both must be of one kind."
        )
    if source.currency != target.currency:
        found.append(
            f"{source} costs {source.currency}, {target} {target.currency}: change one of them first."
        )
    for name in ("lot_tracked", "serial_tracked"):
        if getattr(source, name) != getattr(target, name):
            word = name.partition("_")[0]
            found.append(f"Only one of them is tracked by {word}: set both alike first.")
    kits = KitComponent.objects.filter(Q(component=source) | Q(kit=source)).select_related("kit")
    for row in kits[:5]:
        found.append(f"{source} is part of kit {row.kit}: change the kit's components first.")
    held = (
        Q(reserved__gt=0) | Q(damaged__gt=0) | Q(quarantine__gt=0) | Q(inspection__gt=0) | Q(in_transit__gt=0)
    )
    for level in StockLevel.objects.filter(held, sku=source).select_related("warehouse")[:10]:
        parts = [
            f"{getattr(level, bucket)} {word}"
            for bucket, word in (
                ("reserved", "promised"), ("damaged", "damaged"), ("quarantine", "in quarantine"),
                ("inspection", "in inspection"), ("in_transit", "in transit"),
            )
            if getattr(level, bucket)
        ]  # fmt: skip
        found.append(
            f"{source} has {', '.join(parts)} in {level.warehouse}: ship, settle or release these first."
        )
    moving = TransferLine.objects.filter(sku=source, transfer__state__in=("requested", "shipped"))
    for number in moving.values_list("transfer_id", flat=True)[:5]:
        found.append(f"{source} is on transfer TR-{number}: finish or withdraw it first.")
    if CountTask.objects.filter(sku=source, state__in=("counted", "waiting")).exists():
        found.append(f"{source} was counted and waits for review: decide that first.")
    dates = dict(Lot.objects.filter(sku=target).values_list("code", "expires_on"))
    for code, expires_on in Lot.objects.filter(sku=source, code__in=dates).values_list("code", "expires_on"):
        if expires_on and dates[code] and expires_on != dates[code]:
            found.append(
                f"Lot {code} has two expiry dates, {expires_on} and {dates[code]}: correct one first."
            )
    serials = SerialUnit.objects.filter(sku=target).values("serial")
    for serial in SerialUnit.objects.filter(sku=source, serial__in=serials).values_list("serial", flat=True)[
        :5
    ]:
        found.append(f"Serial number {serial} exists under both SKUs: correct one first.")
    for check in CHECKS:
        found += check(source.pk, target.pk)
    return found


@stock_service
def merge_skus(source_id: int, target_id: int, *, actor: Actor, note: str = "") -> Sku:
    """Merge `source` into `target`; every code of the source finds the target from now on.

    Refused with `Conflict` naming each reason (`conflicts`). Emits `sku.merged`.
    """
    both = Sku.objects.select_for_update(no_key=True).order_by("pk").in_bulk([source_id, target_id])
    if len(both) != 2:
        raise UserError("target: choose two different SKUs that exist.", field="target")
    source, target = both[source_id], both[target_id]
    no_new_levels()
    places = list(StockLevel.objects.filter(sku__in=both).values_list("warehouse_id", flat=True))
    lock_levels((sku_id, place) for place in places for sku_id in both)
    if reasons := conflicts(source, target):
        raise Conflict(f"source: {' '.join(reasons)}", field="source")
    twins = _move_lots(source, target)
    post_movements(_stock(source, target, twins), actor=actor)
    SerialUnit.objects.filter(sku=source).update(sku=target)
    for old, new in twins.items():
        SerialUnit.objects.filter(lot=old).update(lot=new)
    SkuAlias.objects.filter(sku=source).update(sku=target)
    names = SkuPack.objects.filter(sku=target).values("name")
    SkuPack.objects.filter(sku=source).exclude(name__in=names).update(sku=target)
    RingFence.objects.filter(sku=source).update(sku=target)
    CountTask.objects.filter(sku=source, state="open").update(state="cancelled", closed_at=now())
    _move_demand(source, target)
    _move_levels(source, target)
    Sku.objects.filter(Q(pk=source.pk) | Q(merged_into=source)).update(merged_into=target, is_active=False)
    record(actor, "sku.merged", target, after={"source": source.code, "note": note[:255]})
    record(actor, "sku.merged_away", source, after={"target": target.code, "note": note[:255]})
    emit_many([("sku.merged", str(source.pk), {"target": target.pk})])
    target.refresh_from_db()
    return target


def _move_lots(source: Sku, target: Sku) -> dict[int, int]:
    """The target's lot for every lot of the source: the one of the same code, else a copy. The source's own lots stay
    for its ledger rows.
    """
    known = {lot.code: lot for lot in Lot.objects.filter(sku=target)}
    twins = {}
    for lot in Lot.objects.filter(sku=source).order_by("pk"):
        twin = known.get(lot.code)
        if twin is None:
            twin = Lot.objects.create(
                sku=target, code=lot.code, expires_on=lot.expires_on, source=lot.source, is_blocked=lot.is_blocked,
                note=lot.note,
            )  # fmt: skip
        elif (lot.is_blocked and not twin.is_blocked) or (lot.expires_on and not twin.expires_on):
            twin.is_blocked |= lot.is_blocked
            twin.expires_on = twin.expires_on or lot.expires_on
            twin.save(update_fields=["is_blocked", "expires_on"])
        twins[lot.pk] = twin.pk
    return twins


def _stock(source: Sku, target: Sku, twins: dict[int, int]) -> list[Movement]:
    """Both sides of every place that holds units of the source, bin by bin and lot by lot."""
    movements = []
    for level in StockLevel.objects.filter(sku=source, on_hand__gt=0).order_by("warehouse_id"):
        spots = [
            (row.bin_id, row.lot_id, row.quantity)
            for row in BinStock.objects.filter(
                sku=source, warehouse=level.warehouse_id, quantity__gt=0
            ).order_by("pk")
        ]
        rest = level.on_hand - sum(units for _, _, units in spots)
        if rest:
            spots.append((None, None, rest))
        for number, (bin_id, lot_id, units) in enumerate(spots):
            step = f"merge:{source.pk}:{target.pk}:{level.warehouse_id}:{number}"
            for sku, sign, other in ((source, -1, target), (target, 1, source)):
                movements.append(
                    Movement(
                        sku_id=sku.pk,
                        warehouse_id=level.warehouse_id,
                        bucket=Bucket.ON_HAND,
                        quantity=sign * units,
                        kind=Kind.MERGE,
                        key=f"{step}:{'in' if sign > 0 else 'out'}",
                        reason="merge",
                        reference=other.code,
                        bin_id=bin_id,
                        lot_id=lot_id if sign < 0 else twins.get(lot_id or 0),
                        unit_cost=(level.average_cost or source.unit_cost) if sign > 0 else None,
                    )
                )
    return movements


def _move_demand(source: Sku, target: Sku) -> None:
    """Sales history counts for the target: velocity and reorder points see one product."""
    for row in DemandDay.objects.filter(sku=source):
        same = DemandDay.objects.filter(sku=target, channel_code=row.channel_code, day=row.day)
        if same.update(units=F("units") + row.units, lines=F("lines") + row.lines):
            row.delete()
        else:
            row.sku = target
            row.save(update_fields=["sku"])


def _move_levels(source: Sku, target: Sku) -> None:
    """Safety stock and home bins that the target does not have itself."""
    for old in StockLevel.objects.filter(sku=source).exclude(safety=0, bin__isnull=True):
        level, _ = StockLevel.objects.get_or_create(sku=target, warehouse_id=old.warehouse_id)
        level.safety = max(level.safety, old.safety)
        level.bin_id = level.bin_id or old.bin_id
        level.save(update_fields=["safety", "bin"])
