"""Goods on their way to a 3PL: what it is told to expect, and its receipts booked through our receiving, once each.

Level-triggered: a purchase order that is on its way, or a transfer that has left, has a notice whose body is compared
with what they were told last. A change is told again under the same reference, which replaces what they had, so a
repeated call does no harm. What they received beyond what is open is never booked by itself: a person is told, and
their figures show it at the next snapshot.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import F, Sum

from fulfillment.models import InboundNotice, InboundReceipt, ThreePLAccount, ThreePLCall
from fulfillment.threepl.messages import Received, ReceivedLine
from inventory import operations, transfers
from inventory.locking import retrying
from inventory.models import BinMovement, Sku, Transfer, TransferLine
from inventory.selectors import resolve_codes
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.doorbell import ring
from oms.core.errors import NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.words import some
from procurement import receiving, states
from procurement.models import PurchaseOrder, PurchaseOrderLine, Receipt

State = InboundNotice.State
Kind = ThreePLCall.Kind
DRAIN = "fulfillment.threepl.tasks.drain_calls"
BATCH = 500


# --- out -------------------------------------------------------------------------------------------


def plan(account_id: int, *, actor: Actor) -> int:
    """Bring what the 3PL expects in line with our purchase orders and transfers; returns how much is to be told.

    Harmless to repeat, and two at once tell each version once.
    """
    account = ThreePLAccount.objects.filter(pk=account_id, state=ThreePLAccount.State.CONNECTED).first()
    if account is None:
        return 0
    told = 0
    coming = PurchaseOrder.objects.filter(warehouse=account.warehouse_id, state__in=states.RECEIVABLE)
    for order in coming.select_related("supplier").order_by("pk")[:BATCH]:
        told += _tell(account, order.number, _purchase_body(order), {"purchase_order": order})
    travelling = Transfer.objects.filter(destination=account.warehouse_id, state=Transfer.State.SHIPPED)
    for transfer in travelling.select_related("source").order_by("pk")[:BATCH]:
        told += _tell(account, transfer.number, _transfer_body(transfer), {"transfer": transfer})
    live = InboundNotice.objects.filter(account=account, state__in=InboundNotice.LIVE).select_related(
        "purchase_order", "transfer"
    )
    for notice in live.order_by("pk")[:BATCH]:
        told += _follow(account, notice)
    if told and account.kind == ThreePLAccount.Kind.API:
        ring(DRAIN, str(account.pk))
    return told


def _tell(
    account: ThreePLAccount, reference: str, body: Mapping[str, Any], subject: Mapping[str, Any]
) -> int:
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    with transaction.atomic():
        notice, _ = InboundNotice.objects.get_or_create(
            account=account, reference=reference, defaults=dict(subject)
        )
        if notice.digest == digest or notice.state == State.DONE:
            return 0
        # whoever moves the version tells it
        mine = InboundNotice.objects.filter(pk=notice.pk, version=notice.version).update(
            version=notice.version + 1, digest=digest, error="", finished_at=None,
            state=State.RECEIVING if notice.state == State.RECEIVING else State.PLANNED,
        )  # fmt: skip
        if not mine:
            return 0
        _replace(notice, Kind.INBOUND, notice.version + 1, body)
    return 1


def _follow(account: ThreePLAccount, notice: InboundNotice) -> int:
    """A notice whose goods arrived in full is done; one whose goods will not come any more is withdrawn."""
    if notice.purchase_order is not None:
        on_its_way = notice.purchase_order.state in states.RECEIVABLE
        arrived = notice.purchase_order.state == PurchaseOrder.State.RECEIVED
    else:
        assert notice.transfer is not None  # by constraint
        on_its_way = notice.transfer.state == Transfer.State.SHIPPED
        arrived = notice.transfer.state == Transfer.State.RECEIVED
    if on_its_way:
        return 0
    with transaction.atomic():
        to = State.DONE if arrived else State.WITHDRAWN
        changed = InboundNotice.objects.filter(
            pk=notice.pk, version=notice.version, state=notice.state
        ).update(state=to, finished_at=now(), version=F("version") + 1, digest="")
        if not changed or arrived:
            return 0
        _replace(notice, Kind.WITHDRAW, notice.version + 1, {"reference": notice.reference})
    return 1


def _replace(notice: InboundNotice, kind: str, version: int, body: Mapping[str, Any]) -> None:
    """The newest word on a notice takes the place of those that were not sent yet."""
    ThreePLCall.objects.filter(notice=notice, state=ThreePLCall.State.PLANNED).update(
        state=ThreePLCall.State.REJECTED, error="overtaken by a newer version"
    )
    ThreePLCall.objects.create(
        account_id=notice.account_id,
        kind=kind,
        notice=notice,
        key=f"{kind}:{notice.pk}:{version}",
        payload=dict(body),
    )


def _purchase_body(order: PurchaseOrder) -> dict[str, Any]:
    lines = order.lines.select_related("sku").order_by("number")
    return {
        "reference": order.number,
        "kind": "purchase_order",
        "from": order.supplier.name,
        "expected_on": order.expected_on.isoformat() if order.expected_on else None,
        "lines": [
            {"line": line.number, "sku": line.sku.code, "quantity": line.quantity - line.short}
            for line in lines
            if line.quantity > line.short
        ],
    }


def _transfer_body(transfer: Transfer) -> dict[str, Any]:
    lots: dict[int, list[dict[str, Any]]] = {}
    left = (
        BinMovement.objects.filter(
            movement__reference=transfer.number, movement__kind="transfer_out", lot__isnull=False
        )
        .values_list("sku", "lot__code", "lot__expires_on")
        .annotate(units=Sum("quantity"))
        .order_by("sku", "lot__expires_on", "lot__code")
    )
    for sku_id, code, expires_on, units in left:
        day = expires_on.isoformat() if expires_on else None
        lots.setdefault(sku_id, []).append({"lot": code, "expires_on": day, "quantity": -units})
    return {
        "reference": transfer.number,
        "kind": "transfer",
        "from": transfer.source.name,
        "expected_on": transfer.expected_on.isoformat() if transfer.expected_on else None,
        "lines": [
            {
                "line": number,
                "sku": line.sku.code,
                "quantity": line.shipped,
                "lots": lots.get(line.sku_id, []),
            }
            for number, line in enumerate(_transfer_lines(transfer), start=1)
            if line.shipped
        ],
    }


def _transfer_lines(transfer: Transfer) -> list[TransferLine]:
    return list(transfer.lines.select_related("sku").order_by("pk"))


def accepted(call: ThreePLCall) -> None:
    """They know of it."""
    assert call.notice_id is not None
    with transaction.atomic():
        ThreePLCall.objects.filter(pk=call.pk).update(
            state=ThreePLCall.State.CONFIRMED, confirmed_at=now(), lease_until=None, error=""
        )
        InboundNotice.objects.filter(pk=call.notice_id, state=State.PLANNED).update(
            state=State.TOLD, told_at=now(), error=""
        )
        close_item(f"threepl:inbound-refused:{call.notice_id}", "told")


def refused(call: ThreePLCall, why: str) -> None:
    """They will not take it, or not let go of it: a person speaks with them."""
    assert call.notice_id is not None
    notice = InboundNotice.objects.select_related("account__warehouse").get(pk=call.notice_id)
    with transaction.atomic():
        ThreePLCall.objects.filter(pk=call.pk).update(
            state=ThreePLCall.State.REJECTED, error=why[:400], lease_until=None
        )
        if call.kind == Kind.INBOUND:
            InboundNotice.objects.filter(pk=notice.pk, state=State.PLANNED).update(
                state=State.REFUSED, error=why[:400]
            )
        word = "will not receive" if call.kind == Kind.INBOUND else "does not let go of"
        raise_item(
            "threepl_inbound", f"threepl:inbound-refused:{notice.pk}",
            f"{notice.account} {word} {notice.reference}", detail=f"{why} Ask them, then tell it again.",
            url=f"/threepl/{notice.account.code}/", warehouse_code=notice.account.warehouse.code,
        )  # fmt: skip


def tell_again(notice_id: int, *, actor: Actor) -> None:
    """Tell a refused notice once more, as the goods stand now. Raises `NotFound`."""
    notice = InboundNotice.objects.filter(pk=notice_id).first()
    if notice is None:
        raise NotFound("notice: there is no such notice.", field="notice")
    InboundNotice.objects.filter(pk=notice_id, state__in=InboundNotice.LIVE).update(digest="")
    plan(notice.account_id, actor=actor)


# --- in --------------------------------------------------------------------------------------------


def book(account: ThreePLAccount, message: Received, actor: Actor) -> str:
    """Book a receipt of theirs through our receiving, once per their number; the sentence says what came of it.

    Raises `NotFound` (never told of it), `UserError` (unknown SKU, a lot or date that is missing).
    """
    notice = InboundNotice.objects.filter(account=account, reference__iexact=message.reference).first()
    if notice is None:
        raise NotFound(
            f"reference: {account} was never told to expect '{message.reference}'. Ask which delivery is meant.",
            field="reference",
        )
    known = resolve_codes({line.sku for line in message.lines if line.sku})
    unknown = next((line.sku for line in message.lines if line.sku and line.sku not in known), None)
    if unknown:
        raise UserError(f"sku: there is no SKU '{unknown}'.", field="sku")
    return retrying(lambda: _book(notice.pk, message, known, actor))


def _book(notice_id: int, message: Received, known: Mapping[str, Sku], actor: Actor) -> str:
    with transaction.atomic():
        # the notice is the lock under which its receipts are counted
        InboundNotice.objects.filter(pk=notice_id).update(error="")
        notice = InboundNotice.objects.select_related("account__warehouse", "purchase_order", "transfer").get(
            pk=notice_id
        )
        if notice.receipts.filter(external_id=message.external_id).exists():
            return f"{message.external_id} is booked already"
        gone = InboundReceipt.objects.create(
            notice=notice, external_id=message.external_id, received_at=message.received_at
        )
        # their number counts within a delivery: many houses begin at 1 with each
        key = f"3pl:{notice.account_id}:{notice.pk}:{message.external_id}"
        if notice.purchase_order_id:
            receipt, units, words = _purchase(notice, message, known, key, actor)
        else:
            receipt, units, words = None, *_transfer(notice, message, known, key, actor)
        words += [
            f"{line.damaged + line.quarantine} × {line.sku or f'line {line.line}'} damaged or doubtful"
            for line in message.lines
            if line.damaged + line.quarantine
        ]
        InboundReceipt.objects.filter(pk=gone.pk).update(
            receipt=receipt, units=units, problems="; ".join(words)[:600]
        )
        missing = _missing(notice) if message.complete else []
        over = not _missing(notice)
        InboundNotice.objects.filter(pk=notice.pk, state__in=InboundNotice.LIVE).update(
            state=State.DONE if over else State.RECEIVING, finished_at=now() if over else None
        )
        words += [f"{units_} × {code} did not come" for code, units_ in missing]
        if words:
            raise_item(
                "threepl_inbound", f"threepl:inbound:{notice.pk}",
                f"{notice.reference}: what {notice.account} received differs",
                detail=f"Their receipt {message.external_id}: {'; '.join(words)}. What came beyond what was open is "
                "not booked: settle it with the supplier and adjust. Close the order when nothing more comes.",
                url=_url(notice), warehouse_code=notice.account.warehouse.code,
            )  # fmt: skip
    return f"{some(units, 'unit')} of {notice.reference} received with {message.external_id}"


def _url(notice: InboundNotice) -> str:
    if notice.purchase_order_id:
        return f"/purchasing/orders/{notice.purchase_order_id}/"
    return f"/stock/transfers/{notice.transfer_id}/"


def _missing(notice: InboundNotice) -> list[tuple[str, int]]:
    """Units of the notice that are still open, by SKU code."""
    if notice.purchase_order_id:
        purchased = PurchaseOrderLine.objects.filter(order=notice.purchase_order_id).select_related("sku")
        return [(line.sku.code, line.open_quantity) for line in purchased if line.open_quantity]
    moved = TransferLine.objects.filter(transfer=notice.transfer_id).select_related("sku")
    return [(line.sku.code, line.open_units) for line in moved if line.open_units]


def _take(line: ReceivedLine, room: int) -> tuple[ReceivedLine, ReceivedLine]:
    """What fits into `room` units, good ones first, and the rest (pure)."""
    good = min(line.good, room)
    damaged = min(line.damaged, room - good)
    doubtful = min(line.quarantine, room - good - damaged)
    return (
        line.with_units(good, damaged, doubtful),
        line.with_units(line.good - good, line.damaged - damaged, line.quarantine - doubtful),
    )


def _purchase(
    notice: InboundNotice, message: Received, known: Mapping[str, Sku], key: str, actor: Actor
) -> tuple[Receipt | None, int, list[str]]:
    order = notice.purchase_order
    assert order is not None
    PurchaseOrder.objects.filter(pk=order.pk).update(version=F("version") + 1)
    order.refresh_from_db()
    lines = list(order.lines.select_related("sku", "order__supplier").order_by("number"))
    room = dict.fromkeys((line.pk for line in lines), 0)
    if order.state in states.RECEIVABLE:
        percent = order.supplier.over_receipt_percent
        room = {line.pk: max(0, receiving.most_allowed(line, percent) - line.received) for line in lines}
    open_units = {line.pk: line.open_quantity for line in lines}
    arrived: list[receiving.Arrived] = []
    words: list[str] = []
    for told in message.lines:
        mine = _lines_of(told, known, [(line.number, line.sku, line) for line in lines], notice)
        rest = told
        # what was ordered first, line by line; only then what the supplier's tolerance allows
        for limits in (open_units, room):
            for line in mine:
                part, rest = _take(rest, min(limits[line.pk], room[line.pk]))
                if not part.units:
                    continue
                open_units[line.pk] = max(0, open_units[line.pk] - part.units)
                room[line.pk] -= part.units
                arrived.append(
                    receiving.Arrived(
                        line.pk, part.good, part.damaged, part.quarantine, told.lot, told.expires_on
                    )
                )
        if rest.units:
            words.append(f"{rest.units} × {_name(told, mine, known)} more than was open")
    if not arrived:
        return None, 0, words
    receipt = receiving.receive(
        order.pk, arrived, actor=actor, key=key, delivery_note=message.external_id, allow_over=True
    )
    return receipt, sum(one.units for one in arrived), words


def _transfer(
    notice: InboundNotice, message: Received, known: Mapping[str, Sku], key: str, actor: Actor
) -> tuple[int, list[str]]:
    transfer = notice.transfer
    assert transfer is not None
    transfer.refresh_from_db()
    lines = _transfer_lines(transfer)
    travelling = transfer.state == Transfer.State.SHIPPED
    room = {line.sku_id: line.open_units if travelling else 0 for line in lines}
    counts: dict[int, int] = {}
    unfit: dict[tuple[int, str], int] = {}
    words: list[str] = []
    for told in message.lines:
        named = [(number, line.sku, line) for number, line in enumerate(lines, start=1)]
        mine = _lines_of(told, known, named, notice)
        rest = told
        for line in mine:
            part, rest = _take(rest, room[line.sku_id])
            if not part.units:
                continue
            room[line.sku_id] -= part.units
            counts[line.sku_id] = counts.get(line.sku_id, 0) + part.units
            for state, units in (("damaged", part.damaged), ("quarantine", part.quarantine)):
                if units:
                    unfit[line.sku_id, state] = unfit.get((line.sku_id, state), 0) + units
        if rest.units:
            words.append(f"{rest.units} × {_name(told, mine, known)} more than was in transit")
    if counts:
        transfers.receive_transfer(transfer.pk, counts, actor=actor, key=key)
        for (sku_id, state), units in sorted(unfit.items()):
            operations.change_state(
                sku_id=sku_id, warehouse_id=transfer.destination_id, quantity=units, source="sellable", target=state,
                reason="arrived unfit", actor=actor, key=f"{key}:{sku_id}:{state}", reference=transfer.number,
            )  # fmt: skip
    return sum(counts.values()), words


def _lines_of(
    told: ReceivedLine, known: Mapping[str, Sku], lines: list[tuple[int, Sku, Any]], notice: InboundNotice
) -> list[Any]:
    """Our lines that a line of theirs is about: by our number, or all of its SKU in order. Raises `UserError`."""
    if told.line is not None:
        mine = [line for number, _, line in lines if number == told.line]
        if not mine:
            raise UserError(f"line: {notice.reference} has no line {told.line}.", field="line")
        return mine
    return [line for _, sku, line in lines if sku.pk == known[told.sku].pk]


def _name(told: ReceivedLine, mine: list[Any], known: Mapping[str, Sku]) -> str:
    return mine[0].sku.code if mine else known[told.sku].code
