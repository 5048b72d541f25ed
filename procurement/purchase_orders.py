"""Purchase orders from draft to closed."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.db import transaction
from django.db.models import F

from inventory import packs
from inventory.models import Sku, SkuPack, Warehouse
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import business_day, now, plausible
from oms.core.errors import Conflict, NotFound, UserError, about
from oms.core.outbox import emit
from procurement import states
from procurement.models import PurchaseOrder, PurchaseOrderLine, Supplier
from procurement.offers import default_offer, price_for

CURRENCY = re.compile(r"[A-Z]{3}")
LONGEST_NUMBER = 60


@dataclass(frozen=True)
class LineSpec:
    """A wanted line: `quantity` of a `unit` of the SKU, such as 5 of case; empty: each.

    `unit_price` is per each in the order's currency; without it the supplier's offer in force gives it.
    """

    sku_id: int
    quantity: int
    unit_price: Decimal | None = None
    expected_on: dt.date | None = None
    unit: str = ""


def create(
    *,
    supplier_id: int,
    warehouse_id: int,
    lines: Sequence[LineSpec],
    actor: Actor,
    currency: str = "",
    expected_on: dt.date | None = None,
    ordered_on: dt.date | None = None,
    external_number: str = "",
    fx_rate: Decimal = Decimal(1),
    note: str = "",
) -> PurchaseOrder:
    """Make a draft. The price is copied onto the line, so a later change of the offer leaves it alone.

    `ordered_on` is today, unless the order was placed elsewhere before.
    Raises `UserError` naming the line and field that is wrong.
    """
    supplier = Supplier.objects.filter(pk=supplier_id).first()
    if supplier is None:
        raise UserError("supplier: choose an existing supplier.", field="supplier")
    if not supplier.is_active:
        raise Conflict(f"supplier: {supplier} is inactive; activate it or choose another.", field="supplier")
    if not Warehouse.objects.filter(pk=warehouse_id, is_active=True).exists():
        raise UserError("warehouse: choose an active warehouse to ship to.", field="warehouse")
    if not lines:
        raise UserError("lines: a purchase order needs at least one line.", field="lines")
    if currency and not CURRENCY.fullmatch(currency):
        raise UserError(f"currency: '{currency[:20]}' is no ISO 4217 code such as USD.", field="currency")
    if len(external_number) > LONGEST_NUMBER:
        raise UserError(
            f"external_number: '{external_number[:20]}…' is longer than {LONGEST_NUMBER} characters.",
            field="external_number",
        )
    plausible("expected_on", expected_on)
    plausible("ordered_on", ordered_on)
    today = business_day()
    _after_ordering(expected_on, ordered_on or today)
    with transaction.atomic():
        order = PurchaseOrder.objects.create(
            supplier=supplier,
            warehouse_id=warehouse_id,
            currency=currency or supplier.currency,
            expected_on=expected_on or today + dt.timedelta(days=supplier.lead_time_days),
            external_number=external_number,
            fx_rate=fx_rate,
            ordered_on=ordered_on or today,
            note=note,
            created_by=str(actor),
        )
        made = []
        for number, spec in enumerate(lines, start=1):
            with about(number):
                made.append(_line(order, number, spec, today))
        PurchaseOrderLine.objects.bulk_create(made)
        record(actor, "purchase_order.created", order, after={"lines": len(made), "supplier": supplier.code})
    return order


def _after_ordering(expected_on: dt.date | None, ordered_on: dt.date | None) -> None:
    """Goods do not come before they are ordered. Raises `UserError`."""
    if expected_on is not None and ordered_on is not None and expected_on < ordered_on:
        raise UserError(
            f"expected_on: {expected_on} lies before the day of the order, {ordered_on}; give a later day.",
            field="expected_on",
        )


def _line(order: PurchaseOrder, number: int, spec: LineSpec, today: dt.date) -> PurchaseOrderLine:
    if spec.quantity < 1:
        raise UserError(f"lines[{number}].quantity: must be a whole number of at least 1.", field="quantity")
    plausible("expected_on", spec.expected_on)
    _after_ordering(spec.expected_on, order.ordered_on)
    sku = Sku.objects.filter(pk=spec.sku_id).first()
    if sku is None or sku.kind not in (Sku.Kind.STOCK, Sku.Kind.PREBUILT):
        raise UserError(f"lines[{number}].sku: only a stocked SKU can be bought.", field="sku")
    try:
        quantity, unit = packs.eaches(sku, spec.quantity, spec.unit), packs.unit_of(sku, spec.unit)
    except UserError as error:
        raise UserError(f"lines[{number}].{error.message}", field=error.field) from None
    offer = default_offer(sku.pk, today, order.supplier_id)
    if not unit.name and offer is not None and offer.order_multiple > 1:
        unit = _case(sku, offer.order_multiple, quantity)
    price = spec.unit_price
    if price is None:
        if offer is None:
            raise UserError(
                f"lines[{number}].unit_price: {order.supplier} has no offer in force for {sku}; give a price.",
                field="unit_price",
            )
        if offer.currency != order.currency:
            raise UserError(
                f"lines[{number}].unit_price: the offer for {sku} is in {offer.currency}, "
                f"the order in {order.currency}.",
                field="unit_price",
            )
        price = price_for(offer, quantity, today)
    if price < 0:
        raise UserError(f"lines[{number}].unit_price: cannot be negative.", field="unit_price")
    return PurchaseOrderLine(
        order=order,
        number=number,
        sku=sku,
        offer=offer,
        quantity=quantity,
        unit=unit.name,
        unit_size=unit.size,
        unit_price=price,
        expected_on=spec.expected_on,
    )


def _case(sku: Sku, multiple: int, quantity: int) -> packs.Unit:
    """The pack that the supplier's order multiple means, where whole ones were asked; else the each."""
    pack = SkuPack.objects.filter(sku=sku, quantity=multiple).first()
    if pack is None or quantity % multiple:
        return packs.Unit("", 1)
    return packs.Unit(pack.name, pack.quantity)


def change_quantity(order_id: int, line_id: int, quantity: int, *, actor: Actor) -> PurchaseOrderLine:
    """Change what is ordered of a line, in eaches; never below what was received.

    Raises `UserError` (quantity), `NotFound` for a line of another order, `Conflict` when the order has ended or more
    came already.
    """
    with transaction.atomic():
        order = locked(order_id)
        line = order.lines.select_related("sku").filter(pk=line_id).first()
        if line is None:
            raise NotFound(f"line: {order.number} has no such line.", field="line")
        if order.state in ENDED:
            raise Conflict(f"{order.number} is {order.state}: its quantities are final.", field="state")
        if quantity < 1:
            raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
        if quantity < line.received:
            raise Conflict(
                f"quantity: {line.received} of {line.sku} are received already; {quantity} is below that.",
                field="quantity",
            )
        before, line.quantity = line.quantity, quantity
        line.save(update_fields=["quantity"])
        record(
            actor,
            "purchase_order.quantity",
            order,
            before={line.sku.code: before},
            after={line.sku.code: quantity},
        )
        _tell(order, "quantity")
    return line


#: an order in one of these states waits for nothing any more
ENDED = (PurchaseOrder.State.CLOSED, PurchaseOrder.State.CANCELLED, PurchaseOrder.State.RECEIVED)


def reschedule(
    order_id: int, expected_on: dt.date, *, actor: Actor, line_id: int | None = None, reason: str = ""
) -> PurchaseOrder:
    """The goods come on another day: the whole order, or one line of it.

    A line with a date of its own keeps it when the order moves. After sending, each line that moves remembers the
    day it was agreed for, by which the supplier is judged. Orders that wait for these goods get their new dates
    through the news. The same day again changes nothing. Raises `UserError` (day), `NotFound`, `Conflict` when
    nothing is on its way any more.
    """
    if not dt.date(2000, 1, 1) <= expected_on <= business_day() + dt.timedelta(days=1830):
        raise UserError(
            f"expected_on: {expected_on} is no day on which goods can come; give one within five years.",
            field="expected_on",
        )
    with transaction.atomic():
        order = locked(order_id)
        if order.state in ENDED:
            raise Conflict(
                f"{order.number} is {order.state}: nothing is on its way, so no date can move.", field="state"
            )
        _after_ordering(expected_on, order.ordered_on)
        lines = list(order.lines.select_related("sku", "order"))
        moving = [
            line for line in lines if (line.expected_on is None if line_id is None else line.pk == line_id)
        ]
        if line_id is not None and not moving:
            raise NotFound(f"line: {order.number} has no line {line_id}.", field="line")
        if line_id is not None and not moving[0].open_quantity:
            raise Conflict(f"line: nothing of {moving[0].sku} is on its way any more.", field="line")
        before = order.expected_on if line_id is None else moving[0].due_on
        if before == expected_on:
            return order
        if order.state not in (PurchaseOrder.State.DRAFT, PurchaseOrder.State.APPROVED):
            for line in moving:
                if line.open_quantity and line.agreed_on is None and line.due_on is not None:
                    PurchaseOrderLine.objects.filter(pk=line.pk).update(agreed_on=line.due_on)
        if line_id is None:
            PurchaseOrder.objects.filter(pk=order.pk).update(expected_on=expected_on)
        else:
            PurchaseOrderLine.objects.filter(pk=line_id).update(expected_on=expected_on)
        order.refresh_from_db()
        name = "expected_on" if line_id is None else moving[0].sku.code
        told = {"reason": reason.strip()[:160]} if reason.strip() else {}
        record(
            actor,
            "purchase_order.rescheduled",
            order,
            before={name: before},
            after={name: expected_on, **told},
        )
        _tell(order, "expected_on")
    return order


def _tell(order: PurchaseOrder, *changed: str) -> None:
    """News for who waits for the goods. Inside the transaction of the change."""
    emit("purchase_order.changed", str(order.pk), changed=list(changed))


def locked(order_id: int) -> PurchaseOrder:
    """Bump the version, which is the lock on both databases, and read the order anew. Inside atomic only."""
    if not PurchaseOrder.objects.filter(pk=order_id).update(version=F("version") + 1):
        raise NotFound("order: there is no such purchase order.", field="order")
    return PurchaseOrder.objects.select_related("supplier", "warehouse").get(pk=order_id)


def _move(order_id: int, to: str, *, actor: Actor, **fields: object) -> PurchaseOrder:
    with transaction.atomic():
        order = locked(order_id)
        if order.state == to:
            return order
        states.check(order, to)
        before = order.state
        PurchaseOrder.objects.filter(pk=order.pk).update(state=to, **fields)
        order.refresh_from_db()
        record(actor, f"purchase_order.{to}", order, before={"state": before}, after={"state": to})
        _tell(order, "state", *fields)
    return order


def approve(order_id: int, *, actor: Actor) -> PurchaseOrder:
    return _move(order_id, PurchaseOrder.State.APPROVED, actor=actor)


def send(order_id: int, *, actor: Actor) -> PurchaseOrder:
    """Mark as sent to the supplier; the measured lead time starts here. Sending is done from the PDF or CSV."""
    return _move(order_id, PurchaseOrder.State.SENT, actor=actor, sent_at=now())


def confirm(order_id: int, *, actor: Actor, expected_on: dt.date | None = None) -> PurchaseOrder:
    """The supplier confirmed, perhaps with another date. Raises `UserError` for one that cannot be."""
    plausible("expected_on", expected_on)
    fields: dict[str, object] = {"expected_on": expected_on} if expected_on else {}
    placed = PurchaseOrder.objects.filter(pk=order_id).values_list("ordered_on", flat=True).first()
    _after_ordering(expected_on, placed)
    return _move(order_id, PurchaseOrder.State.CONFIRMED, actor=actor, **fields)


def cancel(order_id: int, *, actor: Actor) -> PurchaseOrder:
    """Nothing received: the whole order is off."""
    return _move(order_id, PurchaseOrder.State.CANCELLED, actor=actor, closed_at=now())


def close(order_id: int, *, actor: Actor) -> PurchaseOrder:
    """End an order; what is still open becomes short and leaves incoming stock."""
    with transaction.atomic():
        order = locked(order_id)
        if order.state == PurchaseOrder.State.CLOSED:
            return order
        states.check(order, PurchaseOrder.State.CLOSED)
        for line in order.lines.all():
            if line.open_quantity:
                line.short += line.open_quantity
                line.save(update_fields=["short"])
        PurchaseOrder.objects.filter(pk=order.pk).update(state=PurchaseOrder.State.CLOSED, closed_at=now())
        order.refresh_from_db()
        record(
            actor,
            "purchase_order.closed",
            order,
            after={"short": sum(line.short for line in order.lines.all())},
        )
        _tell(order, "state", "short")
    return order
