"""Goods at the dock: good, damaged, quarantine, posted once per key."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal

from django.db import transaction

from inventory import lots, operations, packs
from inventory.models import Sku
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import Conflict, UserError, about
from oms.core.outbox import emit
from procurement import landed, states
from procurement.models import PurchaseOrder, PurchaseOrderLine, Receipt, ReceiptLine
from procurement.purchase_orders import locked


@dataclass(frozen=True)
class Arrived:
    """Units of one order line that came, by state, in eaches; `of()` counts in packs."""

    line_id: int
    good: int
    damaged: int = 0
    quarantine: int = 0
    lot_code: str = ""
    expires_on: dt.date | None = None
    serials: tuple[str, ...] = ()

    @property
    def units(self) -> int:
        return self.good + self.damaged + self.quarantine

    def of(self, sku: Sku, unit: str) -> Arrived:
        """The same with its figures read as counts of a unit of the SKU. Raises `UserError`."""
        good, damaged, quarantine = (
            packs.eaches(sku, figure, unit) for figure in (self.good, self.damaged, self.quarantine)
        )
        return replace(self, good=good, damaged=damaged, quarantine=quarantine)


def most_allowed(line: PurchaseOrderLine, tolerance_percent: Decimal) -> int:
    """Most units a line may receive in all: ordered plus the tolerance, rounded down."""
    extra = (line.quantity * tolerance_percent / 100).to_integral_value(ROUND_DOWN)
    return line.quantity + int(extra)


def _line_for(
    item: Arrived, order: PurchaseOrder, lines: Mapping[int, PurchaseOrderLine], *, allow_over: bool
) -> PurchaseOrderLine:
    """The order line that takes what arrived. Raises `UserError` (line, quantity), `Conflict` (more than allowed)."""
    line = lines.get(item.line_id)
    if line is None:
        raise UserError(f"lines: line {item.line_id} is not on {order.number}.", field="line")
    if min(item.good, item.damaged, item.quarantine) < 0:
        raise UserError("quantity: received units cannot be negative.", field="quantity")
    limit = most_allowed(line, order.supplier.over_receipt_percent) if allow_over else line.quantity
    if line.received + item.units > limit:
        raise Conflict(
            f"quantity: {line.sku} has {line.quantity - line.received} open and {item.units} arrived; at most "
            f"{limit - line.received} may be received"
            + ("." if allow_over else " without the right to over-receive."),
            field="quantity",
        )
    return line


def receive(
    order_id: int,
    arrived: Sequence[Arrived],
    *,
    actor: Actor,
    key: str,
    delivery_note: str = "",
    allow_over: bool = False,
) -> Receipt:
    """Post what arrived: on hand by all units, sellable only by the good ones, cost by the landed sum.

    The same `key` posts once. More than ordered needs `allow_over` (a permission of the caller) and the
    supplier's tolerance. Tracked goods come with lot, expiry date and serial numbers. Raises `UserError`, `Conflict`.
    """
    if not any(item.units for item in arrived):
        raise UserError("lines: enter how many units arrived for at least one line.", field="lines")
    with transaction.atomic():
        order = locked(order_id)
        known = Receipt.objects.filter(key=key).first()
        if known:
            return known
        if order.state not in states.RECEIVABLE:
            raise Conflict(
                f"{order.number} is {order.state}: only a sent order can be received. Send it first.",
                field="state",
            )
        lines = {line.pk: line for line in order.lines.select_related("sku")}
        receipt = Receipt.objects.create(
            order=order, key=key, delivery_note=delivery_note[:80], actor=str(actor)
        )
        goods: list[operations.PurchasedGoods] = []
        for item in arrived:
            if not item.units:
                continue
            with about(item.line_id):
                line = _line_for(item, order, lines, allow_over=allow_over)
                lot = lots.lot_for(line.sku, item.lot_code, expires_on=item.expires_on, source=receipt.number)
            unit_cost = landed.unit_cost(order, line, item.units)
            entry = ReceiptLine.objects.create(
                receipt=receipt,
                order_line=line,
                good=item.good,
                damaged=item.damaged,
                quarantine=item.quarantine,
                lot=lot,
                unit_cost=unit_cost,
            )
            landed.apply_to_receipt(line, item.units)
            line.received += item.units
            line.save(update_fields=["received"])
            goods.append(
                operations.PurchasedGoods(
                    sku_id=line.sku_id,
                    warehouse_id=order.warehouse_id,
                    good=item.good,
                    damaged=item.damaged,
                    quarantine=item.quarantine,
                    unit_cost=unit_cost,
                    lot_id=lot.pk if lot else None,
                    serials=item.serials,
                    key=f"receipt:{entry.pk}",
                )
            )
        open_units = sum(line.open_quantity for line in lines.values())
        state = PurchaseOrder.State.PART_RECEIVED if open_units else PurchaseOrder.State.RECEIVED
        PurchaseOrder.objects.filter(pk=order.pk).update(state=state)
        record(actor, "purchase_order.received", order, after={"receipt": receipt.number, "open": open_units})
        emit("receipt.posted", str(receipt.pk), at=now().isoformat())
        emit("purchase_order.changed", str(order.pk), changed=["received"])
        operations.receive_purchase(goods, reference=order.number, actor=actor)
    return receipt
