"""What a 3PL reports becomes true in our books, once: shipments through the one door, adjustments, figures."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from django.db import transaction
from django.db.models import F
from django.utils.text import slugify

from fulfillment import shipping
from fulfillment.models import (
    CarrierAccount,
    HandOff,
    HandOffLine,
    HandOffParcel,
    LabelPurchase,
    Parcel,
    ParcelItem,
    Shipment,
    ShipmentCharge,
    ShipmentLine,
    ThreePLAccount,
)
from fulfillment.shipments import set_state
from fulfillment.threepl import handoff, inbound
from fulfillment.threepl.messages import (
    Adjusted,
    Box,
    Charged,
    Message,
    Received,
    Shipped,
    Snapshot,
    Status,
)
from inventory import operations
from inventory.locking import stock_service
from inventory.models import Sku
from inventory.selectors import resolve_codes
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.models import ExceptionItem
from oms.core.words import some
from oms.orders import timeline
from oms.orders.models import Order

State = HandOff.State


def actor_for(account: ThreePLAccount) -> Actor:
    return Actor("3pl", account.code)


def book(account: ThreePLAccount, message: Message) -> str:
    """Book one message; the sentence says what it did. Raises `UserError` (never right), `Conflict` (not now)."""
    if isinstance(message, Status):
        return _status(account, message)
    if isinstance(message, Shipped):
        return _shipped(account, message)
    if isinstance(message, Adjusted):
        return _adjusted(account, message)
    if isinstance(message, Charged):
        return _charged(account, message)
    if isinstance(message, Received):
        return inbound.book(account, message, actor_for(account))
    return _snapshot(account, message)


def _find(account: ThreePLAccount, reference: str, external_id: str = "") -> HandOff:
    found = HandOff.objects.filter(account=account, reference__iexact=reference).first()
    if found is None and external_id:
        found = HandOff.objects.filter(account=account, external_id=external_id).first()
    if found is None:
        raise NotFound(
            f"reference: {account} was never given an order '{reference}'. Ask which order is meant.",
            field="reference",
        )
    return found


# --- orders ----------------------------------------------------------------------------------------


def _status(account: ThreePLAccount, message: Status) -> str:
    hand_off, actor = _find(account, message.reference, message.external_id), actor_for(account)
    if message.status == "accepted":
        handoff.acknowledge(hand_off.pk, message.external_id, actor=actor)
        return f"{hand_off.reference} acknowledged"
    if message.status == "refused":
        handoff.refuse(hand_off.pk, message.reason or "no reason given", actor=actor)
        return f"{hand_off.reference} refused"
    taken = message.status == "cancelled"
    calls = hand_off.calls.filter(kind="cancel", state__in=("planned", "sent", "in_doubt"))
    if message.cancel_key:
        calls = calls.filter(key=message.cancel_key)
    answered = list(calls.order_by("pk"))
    if not answered and taken and not message.cancel_key:
        handoff.refuse(hand_off.pk, message.reason or "cancelled there without being asked", actor=actor)
        return f"{hand_off.reference} cancelled there"
    with transaction.atomic():
        for call in answered:
            handoff.cancel_answer(call, taken=taken, why=message.reason, actor=actor)
    return f"{hand_off.reference}: {len(answered)} cancellations answered"


@stock_service
def _shipped(account: ThreePLAccount, message: Shipped) -> str:
    """Units that left: the whole shipment, or a part that becomes a shipment of its own. Once per their number."""
    actor = actor_for(account)
    found = _find(account, message.reference)
    Order.objects.filter(shipments=found.shipment_id).update(version=F("version") + 1)
    hand_off = handoff.lock(found.pk)
    if hand_off.parcels.filter(external_id=message.external_id).exists():
        return f"{message.external_id} is booked already"
    lines = list(hand_off.lines.select_related("sku", "allocation__reservation").order_by("number"))
    owed = {line.number: line.open for line in lines}
    boxes = [_by_line(box, lines, owed, hand_off) for box in message.boxes]
    gone = HandOffParcel.objects.create(
        hand_off=hand_off, external_id=message.external_id, left_at=message.left_at
    )
    units, excess = _split(hand_off, boxes, lines)
    shipment = None
    if any(sum(box.values()) for box in units):
        shipment = _leave(hand_off, message, units, lines, actor)
        gone.shipment = shipment
        gone.save(update_fields=["shipment"])
    for line in lines:
        told = sum(box.get(line.number, 0) for box in boxes)
        if told:
            line.shipped += min(told, line.open)
            line.excess += excess.get(line.number, 0)
            line.kept = min(line.kept, line.open)
            line.save(update_fields=["shipped", "excess", "kept"])
    asked = [line for line in lines if line.cancelling and any(box.get(line.number) for box in boxes)]
    if shipment is not None and asked:
        _sent_anyway(hand_off, shipment)
    over = not any(line.open for line in lines)
    values: dict[str, object] = {"state": State.SHIPPED, "finished_at": now()} if over else {}
    if hand_off.acknowledged_at is None:
        values["acknowledged_at"] = now()
        if not over:
            values["state"] = State.ACKNOWLEDGED
    HandOff.objects.filter(pk=hand_off.pk).update(**values)
    hand_off.calls.filter(kind="order", state__in=("planned", "sent", "in_doubt")).update(
        state="confirmed", confirmed_at=now(), lease_until=None
    )
    handoff.close_alarms(hand_off, "shipped")
    if any(excess.values()):
        _too_much(hand_off, message, excess, lines, actor)
    return f"{shipment.number if shipment else hand_off.reference} left with {message.external_id}"


def _sent_anyway(hand_off: HandOff, shipment: Shipment) -> None:
    """Units left that we had asked back while the order still wanted them: what happened counts, a person is told."""
    raise_item(
        "threepl_too_late", f"handoff:late:{hand_off.pk}",
        f"{hand_off.account} sent {hand_off.reference} although it was asked back",
        detail=f"{shipment.number} left before they answered. It counts as sent; nothing is sent a second time.",
        severity=ExceptionItem.Severity.HIGH, url=f"/threepl/orders/{hand_off.pk}/",
        warehouse_code=hand_off.account.warehouse.code,
    )  # fmt: skip


def _by_line(
    box: Box, lines: Sequence[HandOffLine], owed: dict[int, int], hand_off: HandOff
) -> dict[int, int]:
    """Units of a box per line number, taken off `owed`; a SKU named without a line fills its lines in order, what is
    too much counts to the last."""
    units: dict[int, int] = {}
    codes = {item.sku for item in box.items if item.line is None}
    known = resolve_codes(codes) if codes else {}
    for item in box.items:
        if item.line is not None:
            if not any(line.number == item.line for line in lines):
                raise UserError(f"line: {hand_off.reference} has no line {item.line}.", field="line")
            units[item.line] = units.get(item.line, 0) + item.quantity
            owed[item.line] -= item.quantity
            continue
        sku = known.get(item.sku)
        if sku is None:
            raise UserError(f"sku: there is no SKU '{item.sku}'.", field="sku")
        mine = [line for line in lines if line.sku_id == sku.pk]
        if not mine:
            raise UserError(f"sku: {hand_off.reference} holds no {sku.code}.", field="sku")
        left = item.quantity
        for line in mine:
            take = left if line is mine[-1] else max(0, min(left, owed[line.number]))
            if take:
                units[line.number] = units.get(line.number, 0) + take
                owed[line.number] -= take
            left -= take
    return units


def _split(
    hand_off: HandOff, boxes: Sequence[Mapping[int, int]], lines: Sequence[HandOffLine]
) -> tuple[list[dict[int, int]], dict[int, int]]:
    """Units per box that the shipment still holds, and per line what was sent beyond that."""
    open_states = (Shipment.State.READY, Shipment.State.PICKING)
    held: dict[int, int] = {}
    if hand_off.shipment.state in open_states:
        rows = ShipmentLine.objects.filter(shipment=hand_off.shipment).select_related(
            "allocation__reservation"
        )
        by_allocation = {
            row.allocation_id: min(row.quantity, row.allocation.reservation.quantity) for row in rows
        }
        held = {line.number: by_allocation.get(line.allocation_id, 0) for line in lines}
    taken: list[dict[int, int]] = []
    excess: dict[int, int] = {}
    for box in boxes:
        mine: dict[int, int] = {}
        for number, units in box.items():
            take = min(units, held.get(number, 0))
            if take:
                mine[number] = take
                held[number] -= take
            if units > take:
                excess[number] = excess.get(number, 0) + units - take
        taken.append(mine)
    return taken, excess


def _leave(
    hand_off: HandOff,
    message: Shipped,
    boxes: Sequence[Mapping[int, int]],
    lines: Sequence[HandOffLine],
    actor: Actor,
) -> Shipment:
    """Pack, label and ship the units as the 3PL did; a part of the shipment gets a number of its own."""
    by_number = {line.number: line for line in lines}
    total: dict[int, int] = {}
    for box in boxes:
        for number, units in box.items():
            total[number] = total.get(number, 0) + units
    source = hand_off.shipment
    rows = {row.allocation_id: row for row in ShipmentLine.objects.filter(shipment=source)}
    mine = {by_number[number].allocation_id: units for number, units in total.items()}
    whole = all(mine.get(pk, 0) == row.quantity for pk, row in rows.items())
    target = source if whole else _part_of(source, rows, mine, actor)
    if target.state == Shipment.State.READY:
        set_state(target, Shipment.State.PICKING)
    ShipmentLine.objects.filter(shipment=target).update(picked=F("quantity"), packed=F("quantity"))
    set_state(target, Shipment.State.PACKED, picked_at=message.left_at, packed_at=message.left_at)
    target_lines = {row.allocation_id: row for row in ShipmentLine.objects.filter(shipment=target)}
    filled = [(box, units) for box, units in zip(message.boxes, boxes, strict=True) if units]
    for number, (told, inside) in enumerate(filled, start=1):
        skus = [by_number[line].sku for line in inside]
        weight = told.weight_g or sum(
            (by_number[line].sku.weight_g or 0) * count for line, count in inside.items()
        )
        parcel = Parcel.objects.create(
            shipment=target,
            number=number,
            weight_g=max(1, weight),
            length_mm=_longest(skus, "length_mm"),
            width_mm=_longest(skus, "width_mm"),
            height_mm=_longest(skus, "height_mm"),
        )
        ParcelItem.objects.bulk_create(
            ParcelItem(parcel=parcel, line=target_lines[by_number[line].allocation_id], quantity=count)
            for line, count in inside.items()
        )
        _label(hand_off, target, parcel, told, message, actor)
    set_state(target, Shipment.State.LABELLED)
    return shipping.ship(target.pk, actor=actor, evidence="3pl", at=message.left_at)


def _longest(skus: Sequence[Sku], name: str) -> int:
    return max((getattr(sku, name) or 0 for sku in skus), default=0)


def _part_of(
    source: Shipment, rows: Mapping[int, ShipmentLine], mine: Mapping[int, int], actor: Actor
) -> Shipment:
    """The units that left now as a shipment of their own; the rest stays handed over under the old number."""
    part = Shipment.objects.create(
        order_id=source.order_id, warehouse_id=source.warehouse_id, ship_by=source.ship_by,
        state=Shipment.State.PICKING, claimed_by=source.claimed_by, claimed_at=now(),
    )  # fmt: skip
    for allocation_id, units in mine.items():
        row = rows[allocation_id]
        ShipmentLine.objects.create(
            shipment=part, order_line_id=row.order_line_id, allocation_id=allocation_id, sku_id=row.sku_id,
            quantity=units,
        )  # fmt: skip
        if row.quantity == units:
            row.delete()
        else:
            ShipmentLine.objects.filter(pk=row.pk).update(quantity=row.quantity - units)
    timeline.add(
        source.order_id, "shipment", f"{part.number} is the part of {source.number} that left", actor=actor
    )
    return part


def _label(
    hand_off: HandOff, shipment: Shipment, parcel: Parcel, told: Box, message: Shipped, actor: Actor
) -> None:
    """The label that the 3PL bought, so that tracking reaches the channel as with our own."""
    account = carrier_of(hand_off.account, told.carrier)
    rival = (
        LabelPurchase.objects.filter(account=account, tracking_number=told.tracking)
        .select_related("parcel__shipment")
        .first()
        if told.tracking
        else None
    )
    if rival is not None:
        raise Conflict(
            f"tracking: {told.tracking} is the number of {rival.parcel.shipment.number} already. Ask them for the "
            "right one.",
            field="tracking",
        )
    LabelPurchase.objects.create(
        parcel=parcel,
        account=account,
        service_code=told.service,
        reference=f"{shipment.number}-{parcel.number}-1"[:30],
        state=LabelPurchase.State.PURCHASED,
        carrier_ref=message.external_id,
        tracking_number=told.tracking,
        cost=told.cost,
        currency=told.currency or account.currency,
        requested_by=str(actor),
        answered_at=message.left_at,
    )
    Shipment.objects.filter(pk=shipment.pk).update(carrier_account=account, service_code=told.service)


def carrier_of(account: ThreePLAccount, carrier: str) -> CarrierAccount:
    """The carrier that a 3PL ships with, under its contract: never asked for rates, known to channels by its name."""
    name = carrier or "Other carrier"
    code = slugify(f"{account.code}-{name}")[:40]
    row, _ = CarrierAccount.objects.get_or_create(
        code=code,
        defaults={
            "name": name[:80], "connector": "threepl", "is_active": False,
            "config": {"carrier_code": slugify(name).replace("-", "_")},
        },
    )  # fmt: skip
    return row


def _too_much(
    hand_off: HandOff, message: Shipped, excess: Mapping[int, int], lines: Sequence[HandOffLine], actor: Actor
) -> None:
    """Units left that we did not owe any more: the stock says so, and a person asks for them back."""
    words, missing = [], []
    for line in lines:
        units = excess.get(line.number, 0)
        if not units:
            continue
        words.append(f"{units} × {line.sku.code}")
        if hand_off.account.kind == ThreePLAccount.Kind.MCF:
            continue  # only Amazon's own figures change its pool: the next ones show it
        try:
            with transaction.atomic():
                operations.adjust(
                    sku_id=line.sku_id, warehouse_id=hand_off.account.warehouse_id, quantity=-units,
                    reason="sent without being owed", reference=hand_off.reference, actor=actor,
                    key=f"3pl:{hand_off.account_id}:{hand_off.pk}:{message.external_id}:{line.number}"[:120],
                    occurred_at=message.left_at,
                )  # fmt: skip
        except Conflict as error:
            missing.append(error.message)
    raise_item(
        "threepl_excess", f"handoff:excess:{hand_off.pk}:{message.external_id}",
        f"{hand_off.account} sent {', '.join(words)} too much with {hand_off.reference}",
        detail=f"Their shipment {message.external_id} holds more than was still owed: cancelled or sent before. "
        + (
            "Amazon's next figures show it."
            if hand_off.account.kind == ThreePLAccount.Kind.MCF
            else f"The stock was lowered. {' '.join(missing)}"
        ),
        severity=ExceptionItem.Severity.HIGH, url=f"/threepl/orders/{hand_off.pk}/",
        warehouse_code=hand_off.account.warehouse.code,
    )  # fmt: skip


def _charged(account: ThreePLAccount, message: Charged) -> str:
    """A charge of theirs on the shipment it is about, once per their number. Raises `Conflict` before it has left."""
    found = _find(account, message.reference)
    with transaction.atomic():
        hand_off = handoff.lock(found.pk)
        if ShipmentCharge.objects.filter(account=account, external_id=message.external_id).exists():
            return f"{message.external_id} is booked already"
        left = hand_off.parcels.filter(shipment__isnull=False)
        if message.shipment_id:
            left = left.filter(external_id=message.shipment_id)
        gone = left.order_by("pk").first()
        if gone is None or gone.shipment_id is None:
            raise Conflict(
                f"shipment_id: {message.shipment_id or hand_off.reference} has not left yet, so nothing can be charged "
                "for it.",
                field="shipment_id",
            )
        charge = ShipmentCharge.objects.create(
            shipment_id=gone.shipment_id, account=account, external_id=message.external_id, kind=message.kind,
            amount=message.amount, currency=message.currency, charged_at=message.at,
        )  # fmt: skip
    return f"{charge.amount} {charge.currency} for {charge.kind} on S-{charge.shipment_id}"


# --- stock -----------------------------------------------------------------------------------------


def _adjusted(account: ThreePLAccount, message: Adjusted) -> str:
    sku = resolve_codes([message.sku]).get(message.sku)
    if sku is None:
        raise UserError(f"sku: there is no SKU '{message.sku}'.", field="sku")
    done = operations.adjust(
        sku_id=sku.pk, warehouse_id=account.warehouse_id, quantity=message.quantity, reason=message.reason,
        reference=message.external_id, actor=actor_for(account),
        key=f"3pl:{account.pk}:adjust:{message.external_id}", occurred_at=message.at,
    )  # fmt: skip
    return f"{message.quantity:+d} {sku.code} ({some(len(done.rows), 'movement')})"


def _snapshot(account: ThreePLAccount, message: Snapshot) -> str:
    known = resolve_codes([figure.sku for figure in message.figures])
    unknown = [figure.sku for figure in message.figures if figure.sku not in known]
    key = f"threepl:unmapped:{account.pk}"
    if unknown:
        raise_item(
            "pool_unmapped", key, f"{account} counts {some(len(unknown), 'SKU')} that we do not know",
            detail=", ".join(unknown[:20]), url=f"/threepl/{account.code}/", warehouse_code=account.warehouse.code,
        )  # fmt: skip
    else:
        close_item(key, "every SKU is known")
    totals: dict[int, operations.PoolFigure] = {}
    for figure in message.figures:
        sku = known.get(figure.sku)
        if sku is None or sku.kind in (Sku.Kind.KIT, Sku.Kind.SERVICE):
            continue
        before = totals.get(sku.pk, operations.PoolFigure(sku.pk, 0))
        totals[sku.pk] = operations.PoolFigure(
            sku.pk, before.sellable + figure.on_hand - figure.damaged, before.damaged + figure.damaged
        )
    result = operations.apply_pool_snapshot(
        warehouse_id=account.warehouse_id, figures=list(totals.values()), taken_at=message.taken_at,
        actor=actor_for(account), key=f"3pl:{account.pk}:{message.external_id}",
    )  # fmt: skip
    _newest(account, message.taken_at)
    return (
        f"{result.same} agree, {result.changed} booked, {len(result.stale) + len(result.differs)} differ, "
        f"{len(unknown)} unknown"
    )


def _newest(account: ThreePLAccount, taken_at: dt.datetime) -> None:
    fresh = ThreePLAccount.objects.filter(pk=account.pk)
    fresh.filter(last_snapshot_at__isnull=True).update(last_snapshot_at=taken_at)
    fresh.filter(last_snapshot_at__lt=taken_at).update(last_snapshot_at=taken_at)
    close_item(f"threepl:silent:{account.pk}", "figures came")
