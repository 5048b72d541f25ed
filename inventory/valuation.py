"""What stock is worth: moving average or first in, first out, per SKU or as set for the business.

The value of a level stands in the ledger after each movement of on hand (`StockMovement.stock_value`); changes of
value without a movement are `CostEntry` rows. So the cost of what left is the fall of that value, to the last
decimal, and the value at any moment is read, not computed anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from django.db.models import Subquery

from inventory.costing import FOUR, Layer, add_late_cost, spread_cost, take_oldest
from inventory.locking import Balances, Pair, lock_levels, no_new_levels, set_averages, stock_service
from inventory.models import CostEntry, CostLayer, Sku, StockLevel, StockMovement
from oms.core import business
from oms.core.actor import SYSTEM, Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import NotFound, UserError
from oms.core.models import Setting

if TYPE_CHECKING:
    from inventory.ledger import Movement

ZERO = Decimal(0)
METHODS = (Sku.Valuation.AVERAGE, Sku.Valuation.FIFO)


@dataclass(frozen=True, slots=True)
class Costed:
    """One movement of on hand: cost per unit, and average and value of the level after it, SKU currency."""

    unit_cost: Decimal
    average: Decimal
    value: Decimal


@dataclass(frozen=True, slots=True)
class _Terms:
    standard: Decimal
    fifo: bool


def usual_method() -> str:
    """How SKUs without a method of their own are valued, as it stands in the database now."""
    told = Setting.objects.filter(pk="valuation").values_list("value", flat=True).first()
    return str(told or business.KNOWN["valuation"].default)


def _terms(sku_ids: Collection[int]) -> dict[int, _Terms]:
    """Standard cost and method of SKUs, their own or the business's. One query."""
    usual = Subquery(Setting.objects.filter(pk="valuation").values("value")[:1])
    rows = Sku.objects.filter(pk__in=sku_ids).order_by().annotate(usual=usual)
    default = business.KNOWN["valuation"].default
    return {
        pk: _Terms(cost, (own or usual or default) == Sku.Valuation.FIFO)
        for pk, cost, own, usual in rows.values_list("pk", "unit_cost", "valuation", "usual")
    }


def costs_of(movements: Sequence[Movement], after: Mapping[Pair, Balances]) -> dict[int, Costed]:
    """Cost and value of each movement of on hand, by its position; keeps the layers of FIFO SKUs.

    Called by the ledger while the levels' rows are held. Units that leave carry the average, or under FIFO what
    the oldest of them cost; units that come without a cost count at the level's average, before any receipt at
    the standard cost.
    """
    places = [n for n, movement in enumerate(movements) if movement.bucket == "on_hand"]
    if not places:
        return {}
    terms = _terms({movements[n].sku_id for n in places})
    answer: dict[int, Costed] = {}
    layered: dict[Pair, list[int]] = {}
    running: dict[Pair, int] = {}
    for n in reversed(places):
        movement = movements[n]
        pair = movement.pair
        if terms[movement.sku_id].fifo:
            layered.setdefault(pair, []).insert(0, n)
            continue
        level = after[pair]
        on_hand = running.get(pair, level.on_hand)
        cost = movement.unit_cost if movement.unit_cost is not None else level.average_cost
        answer[n] = Costed(
            cost or (terms[movement.sku_id].standard if movement.unit_cost is None else ZERO),
            level.average_cost,
            max(0, on_hand) * level.average_cost,
        )
        running[pair] = on_hand - movement.quantity
    if layered:
        usual = {
            pair: after[pair].average_cost or terms[pair[0]].standard for pair in layered
        }  # what units without a cost count at when no layer is left
        answer |= _follow_layers(movements, layered, usual)
    return answer


def _layers(pairs: Collection[Pair]) -> dict[Pair, list[Layer]]:
    found: dict[Pair, list[Layer]] = {pair: [] for pair in pairs}
    rows = CostLayer.objects.filter(
        sku_id__in={sku for sku, _ in pairs}, warehouse_id__in={wh for _, wh in pairs}, remaining__gt=0
    ).order_by("id")
    for row in rows:
        if (row.sku_id, row.warehouse_id) in found:
            found[row.sku_id, row.warehouse_id].append(Layer(row.remaining, row.value, row.pk, row.reference))
    return found


def _follow_layers(
    movements: Sequence[Movement], layered: Mapping[Pair, list[int]], usual: Mapping[Pair, Decimal]
) -> dict[int, Costed]:
    before = _layers(layered)
    answer: dict[int, Costed] = {}
    averages: dict[Pair, Decimal] = {}
    fresh: list[CostLayer] = []
    for pair, places in layered.items():
        layers = before[pair]
        stored = {layer.key: layer for layer in layers}
        average = _average(layers) or usual[pair]
        for n in places:
            movement = movements[n]
            if movement.quantity > 0:
                cost = movement.unit_cost if movement.unit_cost is not None else average
                layers = [
                    *layers, Layer(movement.quantity, movement.quantity * cost, reference=movement.reference)
                ]  # fmt: skip
            else:
                layers, taken = take_oldest(layers, -movement.quantity)
                cost = (taken / -movement.quantity).quantize(FOUR, ROUND_HALF_UP)
            average = _average(layers) or average
            answer[n] = Costed(cost, average, sum((layer.value for layer in layers), ZERO))
        averages[pair] = average
        _keep(layer for layer in layers if layer.key and layer != stored[layer.key])
        fresh += [
            CostLayer(
                sku_id=pair[0], warehouse_id=pair[1], remaining=layer.units, value=layer.value,
                reference=layer.reference[:80], created_at=now(),
            )
            for layer in layers
            if not layer.key and layer.units
        ]  # fmt: skip
    CostLayer.objects.bulk_create(fresh)
    set_averages(averages)
    return answer


def _average(layers: Iterable[Layer]) -> Decimal:
    rows = list(layers)
    units = sum(layer.units for layer in rows)
    return (
        (sum((layer.value for layer in rows), ZERO) / units).quantize(FOUR, ROUND_HALF_UP) if units else ZERO
    )


def _keep(layers: Iterable[Layer]) -> None:
    rows = [CostLayer(pk=layer.key, remaining=layer.units, value=layer.value) for layer in layers]
    if rows:
        CostLayer.objects.bulk_update(rows, ["remaining", "value"])


@stock_service
def add_cost(
    sku_id: int,
    warehouse_id: int,
    *,
    amount: Decimal,
    units: int,
    reference: str = "",
    actor: Actor = SYSTEM,
) -> Decimal:
    """Put a late landed cost of `units` received units on those still there and return that part of it.

    The rest belongs to units already sold: cost of goods sold, not stock. Under FIFO the bill finds its own units
    by `reference` (the purchase order's number). Amounts in the SKU's currency.
    """
    pair = (sku_id, warehouse_id)
    level = lock_levels([pair]).get(pair)
    if level is None:
        return ZERO
    if _terms([sku_id])[sku_id].fifo:
        before = _layers([pair])[pair]
        layers, part = add_late_cost(before, amount, units, reference)
        _keep(layer for layer, old in zip(layers, before, strict=True) if layer != old)
        average, value = _average(layers) or level.average_cost, sum((one.value for one in layers), ZERO)
    else:
        average, part = spread_cost(level.on_hand, level.average_cost, amount, units)
        value = level.on_hand * average
    set_averages({pair: average})
    _enter(pair, CostEntry.Kind.LATE_COST, part, amount - part, average, value, reference, actor)
    return part


def restore(averages: Mapping[Pair, Decimal], *, reference: str, actor: Actor) -> None:
    """Set the moving average of levels back to what it was before something that is undone, in the caller's
    transaction. Levels valued first in, first out are left to their layers.
    """
    levels, terms = lock_levels(averages), _terms({sku for sku, _ in averages})
    wanted = {
        pair: averages[pair]
        for pair, level in levels.items()
        if not terms[pair[0]].fifo and level.average_cost != averages[pair]
    }
    set_averages(wanted)
    for pair, average in sorted(wanted.items()):
        level = levels[pair]
        amount = level.on_hand * (average - level.average_cost)
        _enter(pair, CostEntry.Kind.UNDONE, amount, ZERO, average, level.on_hand * average, reference, actor)


def _enter(
    pair: Pair, kind: str, amount: Decimal, variance: Decimal, average: Decimal, value: Decimal, reference: str,
    actor: Actor,
) -> None:  # fmt: skip
    CostEntry.objects.create(
        sku_id=pair[0], warehouse_id=pair[1], kind=kind, amount=amount, variance=variance, average_cost=average,
        stock_value=value, reference=reference[:80], actor=str(actor), created_at=now(),
    )  # fmt: skip


@stock_service
def set_method(sku_id: int, method: str, *, actor: Actor) -> Sku:
    """Value a SKU by moving average or first in, first out from now on; '' follows the business.

    Going to FIFO, what is there becomes one layer at its average; going back, the layers' value is the average.
    Raises `UserError` for another method, `NotFound`.
    """
    if method and method not in METHODS:
        raise UserError("valuation: choose average or fifo, or leave it empty.", field="valuation")
    # not against new rows that name the SKU: their commit would wait for us, and we for their levels
    sku = Sku.objects.select_for_update(of=("self",), no_key=True).filter(pk=sku_id).first()
    if sku is None:
        raise NotFound(f"sku: there is no SKU with id {sku_id}.", field="sku")
    before = sku.valuation
    _switch([sku_id], {sku_id: (method or str(business.get("valuation"))) == Sku.Valuation.FIFO}, actor)
    sku.valuation = method
    sku.save(update_fields=["valuation", "updated_at"])
    record(actor, "sku.valuation", sku, before={"valuation": before}, after={"valuation": method})
    return sku


@stock_service
def set_business_method(method: str, *, actor: Actor) -> None:
    """Change the method of every SKU that has none of its own. Raises `UserError`."""
    if method not in METHODS:
        raise UserError("valuation: choose average or fifo.", field="valuation")
    followers = list(Sku.objects.filter(valuation="").order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(followers), 1000):
        part = followers[start : start + 1000]
        _switch(part, dict.fromkeys(part, method == Sku.Valuation.FIFO), actor)
    business.put("valuation", str(method))


def _switch(sku_ids: Sequence[int], fifo: Mapping[int, bool], actor: Actor) -> None:
    no_new_levels()
    terms = _terms(sku_ids)
    changed = [sku for sku in sku_ids if terms[sku].fifo != fifo[sku]]
    pairs = list(
        StockLevel.objects.filter(sku_id__in=changed).order_by().values_list("sku_id", "warehouse_id")
    )
    levels = lock_levels(pairs)
    layers = _layers(pairs)
    fresh: list[CostLayer] = []
    for pair, level in sorted(levels.items()):
        old = sum((layer.value for layer in layers[pair]), ZERO)
        if fifo[pair[0]]:
            average = level.average_cost or (terms[pair[0]].standard if level.on_hand else ZERO)
            value = level.on_hand * average
            if level.on_hand:
                fresh.append(
                    CostLayer(
                        sku_id=pair[0], warehouse_id=pair[1], remaining=level.on_hand, value=value, reference="opening"
                    )
                )  # fmt: skip
            old = level.on_hand * level.average_cost
        else:
            average = _average(layers[pair]) or level.average_cost
            value = level.on_hand * average
            CostLayer.objects.filter(sku_id=pair[0], warehouse_id=pair[1]).delete()
        set_averages({pair: average})
        _enter(pair, CostEntry.Kind.METHOD, value - old, ZERO, average, value, "", actor)
    CostLayer.objects.bulk_create(fresh)


def costs_when_shipped(sku_ids: Collection[int], references: Collection[str]) -> dict[int, Decimal]:
    """Average cost per unit at which SKUs left under these references (shipment numbers), SKU currency."""
    left = StockMovement.objects.filter(
        reference__in=references, sku_id__in=sku_ids, bucket="on_hand", kind=StockMovement.Kind.SHIP
    )
    totals: dict[int, tuple[int, Decimal]] = {}
    for sku, units, cost in left.order_by().values_list("sku_id", "quantity", "unit_cost"):
        if cost is not None:
            count, worth = totals.get(sku, (0, ZERO))
            totals[sku] = (count - units, worth - units * cost)
    return {sku: (worth / count).quantize(FOUR, ROUND_HALF_UP) for sku, (count, worth) in totals.items()}
