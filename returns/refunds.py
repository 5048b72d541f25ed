"""Money back to the buyer, capped in the same transaction that plans it.

Goods and money are separate: a refund may come before arrival, after it or without it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.db import transaction
from django.db.models import F, Sum

from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError, about
from oms.core.exceptions_inbox import close_item
from oms.core.money import Money, check_coins, quantize
from oms.core.outbox import emit
from oms.orders import timeline
from oms.orders.models import Order, OrderLine, SalesChannel
from returns import states
from returns.models import Refund, RefundLine, Rma

ZERO = Decimal(0)


@dataclass(frozen=True)
class RefundItem:
    """Money for one order line: `amount` in the order's currency, tax included; quantity may be 0 for goodwill."""

    line_id: int
    quantity: int
    amount: Decimal


def line_value(line: OrderLine, quantity: int) -> Decimal:
    """What the buyer paid for `quantity` units of the line: price − discount + tax, order currency (pure).

    Cumulative, so that refunding a line unit by unit sums to exactly what was paid.
    """
    if not line.quantity:
        return ZERO
    paid = line.unit_price * line.quantity - line.discount + line.tax
    return quantize(paid * quantity / line.quantity, line.order.currency)


def suggest(rma: Rma) -> list[RefundItem]:
    """The full refund for the units that arrived on an RMA, less what was refunded for those lines."""
    items = []
    received: dict[int, int] = {}
    for entry in rma.lines.filter(order_line__isnull=False).select_related("order_line"):
        assert entry.order_line is not None  # by the filter
        line_id = entry.order_line.pk
        received[line_id] = max(received.get(line_id, 0), entry.order_line.returned)
    for line in OrderLine.objects.filter(pk__in=received).select_related("order"):
        done = _refunded_lines([line.pk]).get(line.pk, (0, ZERO))
        quantity = max(0, received[line.pk] - done[0])
        amount = line_value(line, received[line.pk]) - done[1]
        if quantity and amount > 0:
            items.append(RefundItem(line.pk, quantity, amount))
    return items


def _refunded_lines(line_ids: Sequence[int]) -> dict[int, tuple[int, Decimal]]:
    rows = (
        RefundLine.objects.filter(order_line__in=line_ids, refund__state__in=Refund.LIVE)
        .values("order_line")
        .annotate(units=Sum("quantity"), money=Sum("amount"))
    )
    return {row["order_line"]: (row["units"], row["money"]) for row in rows}


def refunded_total(order_id: int) -> Decimal:
    """Everything refunded or on its way for an order, order currency."""
    return (
        Refund.objects.filter(order=order_id, state__in=Refund.LIVE).aggregate(total=Sum("amount"))["total"]
        or ZERO
    )


def plan(
    *,
    order_id: int,
    items: Sequence[RefundItem],
    actor: Actor,
    key: str,
    rma_id: int | None = None,
    shipping: Decimal = ZERO,
    restocking_fee: Decimal = ZERO,
    reason: str = "",
) -> Refund:
    """Plan a refund, to be sent to the channel by its effects queue. Once per `key`.

    The caps hold over all live refunds of the order: units per line ≤ ordered, money ≤ total paid.
    Raises `UserError` and `Conflict` naming the cap.
    """
    uid = uuid.uuid5(uuid.NAMESPACE_URL, f"lading:refund:{order_id}:{key}")
    with transaction.atomic():
        if not Order.objects.filter(pk=order_id).update(version=F("version") + 1):
            raise NotFound(f"order: there is no order with id {order_id}.", field="order")
        known = Refund.objects.filter(key=uid).first()
        if known:
            return known
        order = Order.objects.select_related("channel").get(pk=order_id)
        check_coins("shipping", shipping, order.currency)
        check_coins("restocking_fee", restocking_fee, order.currency)
        lines = {line.pk: line for line in OrderLine.objects.filter(order=order).select_related("order")}
        done = _refunded_lines(list(lines))
        for item in items:
            with about(item.line_id):
                line = lines.get(item.line_id)
                if line is None:
                    raise UserError(
                        f"items: line {item.line_id} is not a line of {order.number}.", field="line"
                    )
                if item.amount < 0 or item.quantity < 0:
                    raise UserError(
                        "amount: neither money nor units of a refund can be negative.", field="amount"
                    )
                check_coins("amount", item.amount, order.currency)
                units, money = done.get(line.pk, (0, ZERO))
                if units + item.quantity > line.quantity:
                    raise Conflict(
                        f"quantity: {units} of {line.quantity} units of {line.external_sku} are refunded already; "
                        f"{item.quantity} more is too many.",
                        field="quantity",
                    )
                if money + item.amount > line_value(line, line.quantity):
                    raise Conflict(
                        f"amount: {line.external_sku} was paid "
                        f"{Money(line_value(line, line.quantity), order.currency)} and "
                        f"{Money(money, order.currency)} is refunded already; "
                        f"{Money(item.amount, order.currency)} more is too much.",
                        field="amount",
                    )
        amount = sum((item.amount for item in items), ZERO) + shipping - restocking_fee
        if amount <= 0:
            raise UserError("amount: a refund must be above zero after the fee.", field="items")
        before = refunded_total(order.pk)
        if before + amount > order.total:
            raise Conflict(
                f"amount: {order.number} was paid {Money(order.total, order.currency)}, "
                f"{Money(before, order.currency)} is refunded already; "
                f"{Money(amount, order.currency)} more is too much.",
                field="items",
            )
        refund = Refund.objects.create(
            order=order,
            rma_id=rma_id,
            key=uid,
            currency=order.currency,
            amount=amount,
            shipping=shipping,
            restocking_fee=restocking_fee,
            reason=reason[:120],
            created_by=str(actor),
        )
        RefundLine.objects.bulk_create(
            RefundLine(refund=refund, order_line_id=item.line_id, quantity=item.quantity, amount=item.amount)
            for item in items
        )
        timeline.add(order.pk, "refund", f"{refund.number} planned: {amount} {order.currency}", actor=actor)
        emit("refund.planned", str(refund.pk))
    return refund


def _move(refund_id: int, to: str, *, actor: Actor, text: str, **fields: object) -> Refund:
    with transaction.atomic():
        refund = Refund.objects.select_related("order__channel").get(pk=refund_id)
        if refund.state == to:
            return refund
        states.check(states.REFUND, refund.number, refund.state, to)
        changed = Refund.objects.filter(pk=refund.pk, state=refund.state).update(state=to, **fields)
        if not changed:
            raise Conflict(f"{refund.number} changed meanwhile; look again.", field="state")
        refund.refresh_from_db()
        timeline.add(refund.order_id, "refund", f"{refund.number} {text}", actor=actor)
    return refund


def mark_sent(refund_id: int, *, actor: Actor) -> Refund:
    """The channel was asked; the answer is not proved yet."""
    return _move(refund_id, Refund.State.SENT, actor=actor, text="sent to the channel")


def confirm(refund_id: int, *, actor: Actor, external_id: str = "") -> Refund:
    """The channel shows the refund when read back. Stock is not touched."""
    return _move(
        refund_id,
        Refund.State.CONFIRMED,
        actor=actor,
        text="confirmed by the channel",
        external_id=external_id,
        confirmed_at=now(),
        error="",
    )


def pay_by_hand(refund_id: int, *, actor: Actor) -> Refund:
    """A person paid it back; for channels that nothing is connected to. Raises `Conflict` for the others."""
    refund = Refund.objects.select_related("order__channel").get(pk=refund_id)
    if refund.order.channel.kind != SalesChannel.Kind.MANUAL:
        raise Conflict(f"{refund.number} is with its channel: wait for the channel's answer.", field="refund")
    with transaction.atomic():
        refund = _move(
            refund_id,
            Refund.State.CONFIRMED,
            actor=actor,
            text="paid back by hand",
            confirmed_at=now(),
            error="",
        )
        close_item(f"refund:{refund_id}", "paid back by hand")
    return refund


def mark_in_doubt(refund_id: int, *, actor: Actor, error: str) -> Refund:
    """The call broke after it was sent: looked up later, never sent again blindly."""
    return _move(
        refund_id, Refund.State.IN_DOUBT, actor=actor, text=f"in doubt: {error}"[:400], error=error[:400]
    )


def reject(refund_id: int, *, actor: Actor, error: str) -> Refund:
    """The channel said no for good; its money counts no longer against the caps."""
    return _move(
        refund_id, Refund.State.REJECTED, actor=actor, text=f"rejected: {error}"[:400], error=error[:400]
    )


def retry(refund_id: int, *, actor: Actor) -> Refund:
    """Plan a rejected refund again, after a person mended the cause. The caps are checked anew."""
    with transaction.atomic():
        refund = Refund.objects.get(pk=refund_id)
        Order.objects.filter(pk=refund.order_id).update(version=F("version") + 1)
        order = Order.objects.get(pk=refund.order_id)
        if refund.state == Refund.State.REJECTED and refunded_total(order.pk) + refund.amount > order.total:
            raise Conflict(
                f"amount: other refunds took what {refund.number} would give back.", field="amount"
            )
        refund = _move(refund_id, Refund.State.PLANNED, actor=actor, text="planned again", error="")
        emit("refund.planned", str(refund.pk))
    return refund
