"""Landed cost on purchase orders: charges are split to the cent, once, and follow the goods."""

from __future__ import annotations

from decimal import Decimal

from django.db import transaction
from django.db.models import F, Sum

from inventory import valuation
from oms.core import business
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.errors import UserError
from oms.core.money import check_coins, quantize
from procurement import costing
from procurement.costing import CostLine
from procurement.models import LandedCharge, LandedShare, PurchaseOrder, PurchaseOrderLine, ReceiptLine
from procurement.purchase_orders import locked

ZERO = Decimal(0)


def _cost_lines(lines: list[PurchaseOrderLine]) -> list[CostLine]:
    """Purchase lines as the spreading of a charge sees them."""
    found = []
    for line in lines:
        sku = line.sku
        volume = (sku.length_mm or 0) * (sku.width_mm or 0) * (sku.height_mm or 0)
        found.append(CostLine(sku.code, line.quantity, line.unit_price, sku.weight_g, volume or None))
    return found


def add_charge(
    order_id: int,
    *,
    kind: str,
    basis: str,
    amount: Decimal,
    actor: Actor,
    currency: str = "",
    fx_rate: Decimal = Decimal(1),
    bill_reference: str = "",
    line_id: int | None = None,
) -> LandedCharge:
    """Add freight, duty, insurance or handling; convert once at the bill's rate and split to the cent.

    Units received already get their part at once: what is still in stock raises its average cost, what was
    sold goes to cost-of-goods variance. Raises `UserError`.
    """
    if kind not in LandedCharge.Kind.values or basis not in LandedCharge.Basis.values:
        raise UserError("kind: choose the kind of charge and how it is split.", field="kind")
    if amount <= 0:
        raise UserError("amount: a charge must be above zero.", field="amount")
    with transaction.atomic():
        order = locked(order_id)
        check_coins("amount", amount, currency or order.currency)
        if order.state == PurchaseOrder.State.CANCELLED:
            raise UserError(f"{order.number} is cancelled and takes no charges.", field="order")
        lines = list(order.lines.select_related("sku").order_by("number"))
        if line_id is not None:
            lines = [line for line in lines if line.pk == line_id]
            if not lines:
                raise UserError(f"line: that line is not on {order.number}.", field="line")
        charge = LandedCharge.objects.create(
            order=order,
            kind=kind,
            basis=basis,
            amount=amount,
            currency=currency or order.currency,
            fx_rate=fx_rate,
            bill_reference=bill_reference[:80],
            line=lines[0] if line_id is not None else None,
            actor=str(actor),
        )
        base = business.currency()
        total = quantize(amount * fx_rate, base)
        parts = costing.spread(total, basis, _cost_lines(lines), base)
        for line, part in zip(lines, parts, strict=True):
            share = LandedShare.objects.create(charge=charge, order_line=line, amount=part)
            _catch_up(order, line, share, actor)
        record(
            actor, "purchase_order.charge", order, after={"kind": kind, "amount": str(amount), "basis": basis}
        )
    return charge


def unit_cost(order: PurchaseOrder, line: PurchaseOrderLine, units: int) -> Decimal:
    """Landed cost per unit now being received, business currency, 4 decimals: price plus its part of the charges."""
    price = line.unit_price * order.fx_rate
    pending = _due(line, units)
    return costing.unit_landed(units * price, pending, units).quantize(Decimal("0.0001"))


def _due(line: PurchaseOrderLine, units: int) -> Decimal:
    """The part of the line's charges that `units` of its ordered quantity carry and that is not yet applied.

    The last units take what is left, so that three receipts of one order never take the full freight thrice.
    """
    due = ZERO
    for share in line.landed_shares.all():
        due += _portion(share, line, units)
    return due


def _portion(share: LandedShare, line: PurchaseOrderLine, units: int) -> Decimal:
    taken = share.applied + share.to_cogs
    received = line.received + units
    return costing.accrue(
        share.amount, ordered=line.quantity, received=received, taken=taken, currency=business.currency()
    )


def apply_to_receipt(line: PurchaseOrderLine, units: int) -> None:
    """Mark the portion used by a receipt of `units`, before the line's received count is raised."""
    for share in line.landed_shares.all():
        part = _portion(share, line, units)
        if part:
            LandedShare.objects.filter(pk=share.pk).update(applied=F("applied") + part)


def _catch_up(order: PurchaseOrder, line: PurchaseOrderLine, share: LandedShare, actor: Actor) -> None:
    """A bill that comes after goods: the received part goes on units in stock, the sold part to COGS variance."""
    if not line.received:
        return
    received = min(line.received, line.quantity)
    part = costing.accrue(
        share.amount, ordered=line.quantity, received=received, taken=ZERO, currency=business.currency()
    )
    good = ReceiptLine.objects.filter(order_line=line).aggregate(good=Sum("good"))["good"] or 0
    on_stock = valuation.add_cost(
        line.sku_id,
        order.warehouse_id,
        amount=part,
        units=good or received,
        reference=order.number,
        actor=actor,
    )
    LandedShare.objects.filter(pk=share.pk).update(applied=on_stock, to_cogs=part - on_stock)
    entry = ReceiptLine.objects.filter(order_line=line).order_by("-pk").first()
    if entry:
        ReceiptLine.objects.filter(pk=entry.pk).update(late_cost=F("late_cost") + part)
