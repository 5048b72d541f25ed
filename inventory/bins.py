"""Where units lie inside a warehouse. Bins follow the ledger; they never lead it.

A movement that names a bin changes that bin. Units that leave without naming one are drawn from the bins by
rule (earliest expiry, then pick sequence) only as far as the bins would otherwise hold more than is on hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db.models import F

from inventory.locking import Balances, Pair
from inventory.models import Bin, BinStock
from oms.core.errors import Conflict

if TYPE_CHECKING:
    from inventory.ledger import Movement


def follow(movements: Sequence[Movement], after: Mapping[Pair, Balances]) -> None:
    """Apply on-hand movements to bin stock. Raises `Conflict` when a named bin has not that many."""
    physical = [movement for movement in movements if movement.bucket == "on_hand"]
    for movement in sorted(
        (m for m in physical if m.bin_id), key=lambda m: (m.bin_id or 0, m.sku_id, m.lot_id or 0)
    ):
        _change(movement)
    leaving = {movement.pair for movement in physical if movement.quantity < 0 and not movement.bin_id}
    if leaving:
        _draw(leaving, after)


def _change(movement: Movement) -> None:
    assert movement.bin_id is not None  # the caller chose movements that name one
    place: dict[str, Any] = {"bin_id": movement.bin_id, "sku_id": movement.sku_id}
    lot: dict[str, Any] = {"lot__isnull": True} if movement.lot_id is None else {"lot_id": movement.lot_id}
    rows = BinStock.objects.filter(**place, **lot)
    if rows.filter(quantity__gte=-movement.quantity).update(quantity=F("quantity") + movement.quantity):
        return
    if movement.quantity > 0:
        BinStock.objects.bulk_create([BinStock(**place, lot_id=movement.lot_id)], ignore_conflicts=True)
        rows.update(quantity=F("quantity") + movement.quantity)
        return
    held = rows.values_list("quantity", flat=True).first() or 0
    code = Bin.objects.filter(pk=movement.bin_id).values_list("code", flat=True).first()
    raise Conflict(f"bin: {code} holds {held}, {-movement.quantity} asked. Choose another bin.", field="bin")


def _draw(pairs: set[Pair], after: Mapping[Pair, Balances]) -> None:
    held: dict[Pair, list[BinStock]] = {}
    rows = (
        BinStock.objects.filter(
            sku_id__in={sku for sku, _ in pairs},
            bin__warehouse_id__in={wh for _, wh in pairs},
            quantity__gt=0,
        )
        .select_related("bin")
        .order_by(F("lot__expires_on").asc(nulls_last=True), "bin__pick_sequence", "pk")
    )
    for row in rows:
        held.setdefault((row.sku_id, row.bin.warehouse_id), []).append(row)
    for pair in sorted(pairs & set(held)):
        excess = sum(row.quantity for row in held[pair]) - after[pair].on_hand
        for row in held[pair]:
            if excess <= 0:
                break
            take = min(excess, row.quantity)
            BinStock.objects.filter(pk=row.pk).update(quantity=F("quantity") - take)
            excess -= take
