"""Goods on their way back: open an RMA, receive what arrives into quarantine.

Receiving raises on hand and quarantine by the same number, so no channel quantity moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import F, Q, Sum

from fulfillment.models import Shipment
from inventory import valuation
from inventory.ledger import Movement, post_movements
from inventory.models import Sku, StockMovement, Warehouse
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError, about
from oms.core.outbox import emit
from oms.core.words import some
from oms.orders import timeline
from oms.orders.models import Allocation, Order, OrderLine
from returns import returned_serials, states
from returns.models import ReturnReason, ReturnReceipt, Rma, RmaLine


@dataclass(frozen=True)
class ReturnItem:
    """Units of one order line the buyer sends back. `sku_id` is needed only for a kit's component."""

    line_id: int
    quantity: int
    reason_code: str = ""
    comment: str = ""


def returnable(order: Order) -> dict[int, int]:
    """Sold units per order line that may still be put on an RMA: shipped − already on live RMAs.

    A kit or pack of which any part is on an RMA counts as on it.
    """
    shipped = {line.pk: line.shipped for line in order.lines.all() if line.sku_id}
    asked = (
        RmaLine.objects.filter(rma__order=order, order_line__isnull=False)
        .exclude(rma__state=Rma.State.DECLINED)
        .values("order_line", "rma", "rma__state", "sku")
        .annotate(expected=Sum("quantity"), received=Sum("received"))
    )
    links = Allocation.objects.filter(line__order=order).values_list(
        "line_id", "reservation__sku_id", "per_unit"
    )
    each = {(line_id, sku_id): per_unit for line_id, sku_id, per_unit in links}
    on_rma: dict[tuple[int, int], int] = {}
    for row in asked:
        closed = row["rma__state"] == Rma.State.CLOSED
        count = row["received"] if closed else max(row["expected"], row["received"])
        units = -(-count // each.get((row["order_line"], row["sku"]), 1))
        pair = row["order_line"], row["rma"]
        on_rma[pair] = max(on_rma.get(pair, 0), units)
    for (line_id, _), units in on_rma.items():
        shipped[line_id] -= units
    return {line_id: max(0, left) for line_id, left in shipped.items()}


def open_rma(
    *,
    order_id: int,
    items: Sequence[ReturnItem],
    warehouse_id: int,
    actor: Actor,
    source: str = "staff",
    external_id: str = "",
    tracking_number: str = "",
    note: str = "",
    approved: bool = True,
) -> Rma:
    """Open an RMA for units of one order.

    The sum over all RMAs of a line never exceeds what was shipped. The same `external_id` of the same
    order returns the RMA that exists already.

    Raises `UserError` (unknown line, quantity, warehouse), `Conflict` (more than shipped).
    """
    if not items:
        raise UserError("items: name at least one order line and a quantity to return.", field="items")
    with transaction.atomic():
        # the order row is the lock under which returnable units are counted
        if not Order.objects.filter(pk=order_id).update(version=F("version") + 1):
            raise NotFound(f"order: there is no order with id {order_id}.", field="order")
        order = Order.objects.select_related("channel").get(pk=order_id)
        if external_id:
            known = Rma.objects.filter(order=order, external_id=external_id).first()
            if known:
                return known
        warehouse = Warehouse.objects.filter(pk=warehouse_id).first()
        if warehouse is None:
            raise UserError("warehouse: choose the warehouse the parcel comes back to.", field="warehouse")
        lines = {line.pk: line for line in OrderLine.objects.filter(order=order).select_related("sku")}
        reasons = {reason.code: reason for reason in ReturnReason.objects.all()}
        units = _units_asked(order, items, lines, reasons)
        rma = Rma.objects.create(
            order=order,
            warehouse=warehouse,
            external_id=external_id,
            state=Rma.State.APPROVED if approved else Rma.State.REQUESTED,
            source=source,
            tracking_number=tracking_number,
            note=note,
            created_by=str(actor),
        )
        RmaLine.objects.bulk_create(
            RmaLine(
                rma=rma,
                order_line=lines[item.line_id],
                sku=sku,
                quantity=item.quantity * per_unit,
                reason=reasons.get(item.reason_code),
                comment=item.comment[:255],
            )
            for item in items
            for sku, per_unit in _physical(lines[item.line_id])
        )
        timeline.add(order.pk, "return", f"{rma.number} opened for {some(units, 'unit')}", actor=actor)
    return rma


def _units_asked(
    order: Order,
    items: Sequence[ReturnItem],
    lines: Mapping[int, OrderLine],
    reasons: Mapping[str, ReturnReason],
) -> int:
    """How many units are asked back. Raises `UserError` (line, quantity, reason), `Conflict` (more than shipped)."""
    left = returnable(order)
    wanted: dict[int, int] = {}
    for item in items:
        with about(item.line_id):
            if item.line_id not in lines or lines[item.line_id].sku is None:
                raise UserError(
                    f"items: line {item.line_id} is not a product line of {order.number}.", field="line"
                )
            if item.quantity < 1:
                raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
            if item.reason_code and item.reason_code not in reasons:
                raise UserError(
                    f"reason: '{item.reason_code}' is unknown; use one of {', '.join(sorted(reasons))}.",
                    field="reason",
                )
        wanted[item.line_id] = wanted.get(item.line_id, 0) + item.quantity
    for line_id, quantity in wanted.items():
        if quantity > left.get(line_id, 0):
            line = lines[line_id]
            with about(line_id):
                raise Conflict(
                    f"quantity: {quantity} of {line.external_sku or line.sku} asked, but only {left.get(line_id, 0)} "
                    f"of {line.shipped} shipped can still be returned.",
                    field="quantity",
                )
    return sum(wanted.values())


def _physical(line: OrderLine) -> list[tuple[Sku, int]]:
    """What really comes back for one unit of the line: a kit returns as its components, a pack as its eaches."""
    parts = [
        (allocation.reservation.sku, allocation.per_unit)
        for allocation in line.allocations.select_related("reservation__sku__merged_into")
        if allocation.reservation.consumed
    ]
    if not parts:
        assert line.sku is not None  # checked by the caller
        parts = [(line.sku, line.pack_size)]
    # what was merged since comes back as what it is now
    distinct = {one.pk: (one, units) for sku, units in parts for one in [sku.merged_into or sku]}
    return sorted(distinct.values(), key=lambda part: part[0].pk)


def approve(rma_id: int, *, actor: Actor) -> Rma:
    """Accept a requested return."""
    return _decide(rma_id, Rma.State.APPROVED, actor=actor)


def decline(rma_id: int, *, actor: Actor) -> Rma:
    """Refuse a requested return; its units may be asked for again."""
    return _decide(rma_id, Rma.State.DECLINED, actor=actor)


def _decide(rma_id: int, to: str, *, actor: Actor) -> Rma:
    with transaction.atomic():
        rma = _locked(rma_id)
        states.check(states.RMA, rma.number, rma.state, to)
        rma.state = to
        rma.save(update_fields=["state"])
        if rma.order_id:
            timeline.add(rma.order_id, "return", f"{rma.number} {to}", actor=actor)
    return rma


def receive(
    rma_id: int,
    quantities: Mapping[int, int],
    *,
    actor: Actor,
    key: str,
    numbers: Mapping[int, Sequence[str]] | None = None,
    wrong_because: str = "",
) -> Rma:
    """Take arrived units (`{rma line id: quantity}`) into quarantine, once per `key`.

    More than expected is refused up to what was shipped; a foreign item is received by `receive_unannounced`.
    `numbers` are the serial numbers read off the units per line, each checked against those that left with the order.
    Another number is taken in only with a word why (`wrong_because`): as a foreign unit, so that the one that was
    sent stays *not returned*, and a person is told.
    Raises `UserError` and `Conflict` with the field to mend; a repeated key changes nothing.
    """
    if not any(quantity > 0 for quantity in quantities.values()):
        raise UserError("quantity: enter how many units arrived for at least one line.", field="lines")
    with transaction.atomic():
        rma = _locked(rma_id)
        if ReturnReceipt.objects.filter(line__rma=rma, key__startswith=f"{key}:").exists():
            return rma
        if rma.state in (Rma.State.REQUESTED, Rma.State.DECLINED, Rma.State.CLOSED):
            raise Conflict(
                f"{rma.number} is {rma.state}: approve it before goods can be received.", field="state"
            )
        lines = {line.pk: line for line in rma.lines.select_related("order_line", "sku__merged_into")}
        for announced in lines.values():
            if announced.sku.merged_into is not None:  # since the return was opened
                announced.sku = announced.sku.merged_into
                announced.save(update_fields=["sku"])
        movements: list[Movement] = []
        for line_id, quantity in sorted(quantities.items()):
            if quantity == 0:
                continue
            with about(line_id):
                line = lines.get(line_id)
                if line is None:
                    raise UserError(f"lines: line {line_id} does not belong to {rma.number}.", field="line")
                if quantity < 0:
                    raise UserError("quantity: cannot be negative.", field="quantity")
                if line.received + quantity > line.quantity:
                    raise Conflict(
                        f"quantity: {line.sku} expects {line.quantity - line.received} more, {quantity} given. "
                        "Receive a surplus as unannounced goods.",
                        field="quantity",
                    )
                right, wrong = returned_serials.sort(rma, line, quantity, (numbers or {}).get(line_id, ()))
                if wrong:
                    stranger = _stranger(rma, line, wrong, wrong_because, f"{key}:{line_id}", actor)
                    movements += _arrivals(stranger, rma, len(wrong), key)
                    quantity -= len(wrong)
            returned_serials.take_in(rma, line, right, actor)
            if not quantity:
                continue
            ReturnReceipt.objects.create(
                line=line, quantity=quantity, key=f"{key}:{line_id}", actor=str(actor)
            )
            line.received += quantity
            line.save(update_fields=["received"])
            movements += _arrivals(line, rma, quantity, key)
        _count_back(rma)
        rma.received_at = rma.received_at or now()
        rma.state = state_by_counts(rma)
        rma.save(update_fields=["received_at", "state"])
        if rma.order_id:
            units = sum(quantities.values())
            timeline.add(
                rma.order_id,
                "return",
                f"{rma.number}: {some(units, 'unit')} arrived, in quarantine",
                actor=actor,
            )
        emit("return.received", str(rma.pk))
        post_movements(movements, actor=actor)
    return rma


def _stranger(rma: Rma, line: RmaLine, wrong: Sequence[str], because: str, key: str, actor: Actor) -> RmaLine:
    """Units whose numbers did not leave with the order: on a line of their own, and told. Raises `Conflict`."""
    returned_serials.explained(rma, line, wrong, because)
    stranger = RmaLine.objects.create(
        rma=rma, sku=line.sku, quantity=len(wrong), received=len(wrong),
        comment=f"wrong serial number: {because.strip()}"[:255],
    )  # fmt: skip
    ReturnReceipt.objects.create(line=stranger, quantity=len(wrong), key=f"{key}:wrong", actor=str(actor))
    returned_serials.take_in_wrong(rma, stranger, wrong, because, actor)
    return stranger


def receive_unannounced(
    *,
    warehouse_id: int,
    goods: Sequence[tuple[int, int]],
    actor: Actor,
    key: str,
    rma_id: int | None = None,
    note: str = "",
    numbers: Mapping[int, Sequence[str]] | None = None,
) -> Rma:
    """Blind return: goods (`[(sku id, units)]`) without an RMA, or a foreign item in the parcel of one.

    They go to quarantine like any other, once per `key`; matching to an order can come later. `numbers` are serial
    numbers per SKU id, as far as they could be read.
    """
    if not goods or min(quantity for _, quantity in goods) < 1:
        raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
    with transaction.atomic():
        seen = (
            ReturnReceipt.objects.filter(key__startswith=f"{key}:blind:").select_related("line__rma").first()
        )
        if seen:
            return seen.line.rma
        if rma_id is not None:
            rma = _locked(rma_id)
        else:
            rma = Rma.objects.create(
                warehouse_id=warehouse_id,
                state=Rma.State.APPROVED,
                source="staff",
                note=note,
                created_by=str(actor),
            )
        lines = RmaLine.objects.bulk_create(
            RmaLine(rma=rma, sku_id=sku_id, quantity=quantity, received=quantity, comment=note[:255])
            for sku_id, quantity in goods
        )
        ReturnReceipt.objects.bulk_create(
            ReturnReceipt(line=line, quantity=line.received, key=f"{key}:blind:{number}", actor=str(actor))
            for number, line in enumerate(lines)
        )
        for line in lines:
            returned_serials.take_in_found(rma, line, (numbers or {}).get(line.sku_id, ()), note, actor)
        rma.received_at = rma.received_at or now()
        rma.state = state_by_counts(rma)
        rma.save(update_fields=["received_at", "state"])
        emit("return.received", str(rma.pk))
        post_movements([m for line in lines for m in _arrivals(line, rma, line.received, key)], actor=actor)
    return rma


def _arrivals(line: RmaLine, rma: Rma, quantity: int, key: str) -> list[Movement]:
    """On hand and quarantine rise together, so available stays as it is. Goods come back at what they left for."""
    cost = None
    if rma.order_id:
        sent = Shipment.objects.filter(order=rma.order_id).values_list("pk", flat=True)
        names = Sku.objects.filter(Q(pk=line.sku_id) | Q(merged_into=line.sku_id)).values_list(
            "pk", flat=True
        )
        costs = valuation.costs_when_shipped(list(names), [Shipment(pk=pk).number for pk in sent])
        cost = costs.get(line.sku_id, next(iter(costs.values()), None))
    return [
        Movement(
            sku_id=line.sku_id,
            warehouse_id=rma.warehouse_id,
            bucket=bucket,
            quantity=quantity,
            kind=StockMovement.Kind.RETURN,
            key=f"return:{line.pk}:{key}:{bucket}",
            reference=rma.number,
            unit_cost=cost if bucket == StockMovement.Bucket.ON_HAND else None,
        )
        for bucket in (StockMovement.Bucket.ON_HAND, StockMovement.Bucket.QUARANTINE)
    ]


def _count_back(rma: Rma) -> None:
    """Order lines know how many of their units came back, counted in whole kits for kits."""
    for line in OrderLine.objects.filter(rma_lines__rma=rma).distinct():
        per_sku: dict[int, list[int]] = {}
        for entry in RmaLine.objects.filter(order_line=line):
            counts = per_sku.setdefault(entry.sku_id, [0])
            counts[0] += entry.received
        per_unit = {sku.pk: count for sku, count in _physical(line)}
        whole = min((counts[0] // per_unit.get(sku_id, 1) for sku_id, counts in per_sku.items()), default=0)
        OrderLine.objects.filter(pk=line.pk).update(returned=min(whole, line.shipped))


def state_by_counts(rma: Rma) -> str:
    """The state that the counts of its lines mean; one of which nothing came keeps its state."""
    lines = list(rma.lines.all())
    received = sum(line.received for line in lines)
    disposed = sum(line.disposed for line in lines)
    if received and disposed == received and all(line.received >= line.quantity for line in lines):
        return Rma.State.INSPECTED
    if all(line.received >= line.quantity for line in lines):
        return Rma.State.RECEIVED
    return Rma.State.PART_RECEIVED if received else rma.state


def close(rma_id: int, *, actor: Actor) -> Rma:
    """End an RMA. Units that never came are 'not returned'; units without a disposition forbid it."""
    with transaction.atomic():
        rma = _locked(rma_id)
        waiting = rma.lines.filter(received__gt=F("disposed")).count()
        if waiting:
            raise Conflict(
                f"{rma.number} has {waiting} line(s) without a disposition: inspect them on the bench first.",
                field="state",
            )
        states.check(states.RMA, rma.number, rma.state, Rma.State.CLOSED)
        rma.state = Rma.State.CLOSED
        rma.closed_at = now()
        rma.save(update_fields=["state", "closed_at"])
        if rma.order_id:
            missing = sum(max(0, line.quantity - line.received) for line in rma.lines.all())
            tail = f", {some(missing, 'unit')} not returned" if missing else ""
            timeline.add(rma.order_id, "return", f"{rma.number} closed{tail}", actor=actor)
    return rma


def _locked(rma_id: int) -> Rma:
    """Bump the version first: the conditional write is the lock on SQLite and PostgreSQL alike."""
    if not Rma.objects.filter(pk=rma_id).update(version=F("version") + 1):
        raise NotFound(f"rma: there is no RMA with id {rma_id}.", field="rma")
    return Rma.objects.select_related("order__channel", "warehouse").get(pk=rma_id)
