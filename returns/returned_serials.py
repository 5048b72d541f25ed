"""Serial numbers of returned units: checked against what left with the order, followed to their end.

Goods of another house come without numbers of ours: where none were recorded when they left, none are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from fulfillment.models import Shipment
from inventory import serials
from inventory.models import SerialUnit, Sku
from oms.core.actor import Actor
from oms.core.errors import Conflict, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.models import ExceptionItem
from returns.models import Disposition, ReturnedSerial, Rma, RmaLine

State = SerialUnit.State
#: outcome of the bench → state of the unit and the word in its history; refurbished units stay with the bench
AFTER = {
    Disposition.Outcome.RESTOCK: (State.IN_STOCK, "restocked"),
    Disposition.Outcome.OPEN_BOX: (State.GONE, "sold on as another SKU"),
    Disposition.Outcome.REFURBISH: (State.RETURNED, serials.REFURBISHING),
    Disposition.Outcome.RETURN_TO_VENDOR: (State.GONE, "returned to the vendor"),
    Disposition.Outcome.SCRAP: (State.GONE, "scrapped"),
    Disposition.Outcome.SEND_BACK: (State.SHIPPED, "sent back to the buyer"),
}


def sent_with(rma: Rma, sku: Sku) -> list[SerialUnit]:
    """Units of the SKU whose numbers were recorded when the order's shipments left."""
    if not sku.serial_tracked or rma.order_id is None:
        return []
    sent = Shipment.objects.filter(order=rma.order_id).values_list("pk", flat=True)
    return serials.left_with(sku.pk, [Shipment(pk=pk).number for pk in sent])


def sort(rma: Rma, line: RmaLine, units: int, numbers: Sequence[str]) -> tuple[list[str], list[str]]:
    """The numbers that left with the order and are still out, and the others. Raises `UserError` unless each unit of
    a numbered SKU has one."""
    sent = sent_with(rma, line.sku)
    if line.sku.serial_tracked and not sent:
        return [], []  # another house sent them, or they were numbered later: nothing to hold them against
    out = {unit.serial.upper() for unit in sent if unit.state == State.SHIPPED}
    right: list[str] = []
    wrong: list[str] = []
    for one in serials.check(line.sku, numbers, units):
        (right if one.upper() in out else wrong).append(one)
    return right, wrong


def explained(rma: Rma, line: RmaLine, wrong: Sequence[str], because: str) -> None:
    """Raise `Conflict` for a wrong number without a word why it is taken in."""
    if because.strip():
        return
    sent = ", ".join(unit.serial for unit in sent_with(rma, line.sku)[:10]) or "none"
    raise Conflict(
        f"serials: {line.sku} {', '.join(wrong[:5])} did not leave with this order (numbers sent: {sent}). Read the "
        "number again, or say why the unit is taken in.",
        field="serials",
    )


def take_in(rma: Rma, line: RmaLine, numbers: Sequence[str], actor: Actor) -> None:
    """Numbers that left with the order are back. Inside the transaction that receives them."""
    if not numbers:
        return
    units = serials.come_back(
        line.sku, numbers, warehouse_id=rma.warehouse_id, reference=rma.number, actor=actor
    )
    ReturnedSerial.objects.bulk_create(
        ReturnedSerial(line=line, serial=unit.serial, unit=unit) for unit in units
    )


def take_in_wrong(rma: Rma, line: RmaLine, numbers: Sequence[str], because: str, actor: Actor) -> None:
    """Other numbers than those sent: kept with the reason, and a person is told."""
    words = []
    for number in numbers:
        unit = next(iter(serials.find(number, line.sku_id)), None)
        if unit is not None and unit.state == State.SHIPPED:
            words.append(f"{number} left with {unit.reference}")
            serials.come_back(
                line.sku, [number], warehouse_id=rma.warehouse_id, reference=rma.number, actor=actor
            )
        else:
            words.append(
                f"{number} is {unit.get_state_display().lower()} by our books" if unit else f"{number} was never ours"
            )  # fmt: skip
            unit = None
        ReturnedSerial.objects.create(
            line=line, serial=number, unit=unit, expected=False, reason=because.strip()[:255]
        )
    raise_item(
        "return_wrong_serial", f"return:serial:{rma.pk}",
        f"{rma.number}: another unit of {line.sku} came back than was sent",
        detail=f"{'; '.join(words)}. Taken in because: {because.strip()}. Nothing of it counts as returned; decide "
        "about the refund and inspect the unit.",
        severity=ExceptionItem.Severity.HIGH, url=f"/returns/{rma.pk}/", warehouse_code=rma.warehouse.code,
    )  # fmt: skip


def take_in_found(rma: Rma, line: RmaLine, numbers: Sequence[str], note: str, actor: Actor) -> None:
    """Numbers of a parcel without notice: those that left us are back, the others are kept as they were read."""
    if not numbers:
        return
    for number in serials.check(line.sku, numbers, line.received):
        unit = next(iter(serials.find(number, line.sku_id)), None)
        back = unit is not None and unit.state == State.SHIPPED
        if back:
            serials.come_back(
                line.sku, [number], warehouse_id=rma.warehouse_id, reference=rma.number, actor=actor
            )
        ReturnedSerial.objects.create(
            line=line, serial=number, unit=unit if back else None, expected=False,
            reason=note or "came without notice",
        )  # fmt: skip


def judge(rma: Rma, disposition: Disposition, numbers: Sequence[str], actor: Actor) -> None:
    """The numbers that an inspector's verdict is about follow it. Inside the transaction of the verdict.

    Without `numbers` the verdict must be about every unit of the line that waits. Raises `UserError`, `Conflict`.
    """
    line = disposition.line
    waiting = {
        row.serial.upper(): row for row in line.serials.filter(disposition=None).select_related("unit__sku")
    }
    if not waiting and not numbers:
        return
    wanted = [one.strip().upper() for one in numbers if one.strip()]
    if not wanted and len(waiting) == disposition.quantity:
        wanted = list(waiting)
    if len(wanted) != disposition.quantity or len(set(wanted)) != len(wanted):
        raise UserError(
            f"serials: name the {disposition.quantity} numbers that this verdict is about; waiting are "
            f"{', '.join(row.serial for row in waiting.values()) or 'none'}.",
            field="serials",
        )
    unknown = [one for one in wanted if one not in waiting]
    if unknown:
        raise UserError(f"serials: {unknown[0]} does not wait on this line.", field="serials")
    rows = [waiting[one] for one in wanted]
    restock = disposition.outcome == Disposition.Outcome.RESTOCK
    if restock and any(row.unit is None for row in rows):
        stranger = next(row.serial for row in rows if row.unit is None)
        raise Conflict(
            f"outcome: {line.sku} {stranger} never left us, so it is not restocked as ours; choose another outcome.",
            field="outcome",
        )
    state, words = AFTER[Disposition.Outcome(disposition.outcome)]
    units = [row.unit for row in rows if row.unit is not None]
    serials.decide(
        units, state, words=words, reference=rma.number, actor=actor, note=disposition.note,
        warehouse_id=rma.warehouse_id if state in (State.IN_STOCK, State.RETURNED) else None,
    )  # fmt: skip
    ReturnedSerial.objects.filter(pk__in=[row.pk for row in rows]).update(disposition=disposition)
    left = ReturnedSerial.objects.filter(line__rma=rma, expected=False, disposition=None)
    if not left.exists():
        close_item(f"return:serial:{rma.pk}", "inspected", actor=actor)
