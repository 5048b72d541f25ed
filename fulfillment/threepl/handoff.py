"""Shipments of a 3PL's warehouse become hand-offs, once each; units we no longer hold are taken back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import F

from fulfillment.models import (
    HandOff,
    HandOffLine,
    Shipment,
    ShipmentLine,
    ThreePLAccount,
    ThreePLCall,
)
from fulfillment.rates import address_of
from fulfillment.shipments import locked, set_state, why_not_shippable
from fulfillment.threepl import transports
from inventory import reservations
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.doorbell import ring
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.models import ExceptionItem
from oms.core.outbox import emit
from oms.orders import timeline
from oms.orders.models import Order

State = HandOff.State
Kind = ThreePLCall.Kind
#: the 3PL has it or may have it
OUT = (State.SENT, State.IN_DOUBT, State.CONFIRMED, State.ACKNOWLEDGED)
DRAIN = "fulfillment.threepl.tasks.drain_calls"


def claimant(account: ThreePLAccount) -> str:
    """What stands on a shipment as the one who works on it."""
    return f"3pl:{account.code}"


def plan(account_id: int, *, actor: Actor, limit: int = 200) -> int:
    """Make hand-offs of the account's ready shipments that have none; returns how many. Harmless to repeat."""
    account = ThreePLAccount.objects.filter(pk=account_id, state=ThreePLAccount.State.CONNECTED).first()
    if account is None:
        return 0
    waiting = Shipment.objects.filter(
        warehouse=account.warehouse_id, state=Shipment.State.READY, hand_off=None, order__holds_open=0
    ).order_by("ship_by", "pk")
    made = 0
    for shipment_id, order_id in waiting.values_list("pk", "order")[:limit]:
        made += _plan_one(account, shipment_id, order_id, actor)
    return made


def _plan_one(account: ThreePLAccount, shipment_id: int, order_id: int, actor: Actor) -> int:
    with transaction.atomic():
        # the order first, as whoever adds units to its shipments does
        Order.objects.filter(pk=order_id).update(version=F("version") + 1)
        shipment = locked(shipment_id)
        if shipment.state != Shipment.State.READY or HandOff.objects.filter(shipment=shipment).exists():
            return 0
        if why_not_shippable(shipment.order):
            return 0
        if HandOffLine.objects.filter(hand_off__shipment__order=order_id, cancelling__gt=0).exists():
            return 0  # units on their way back are not handed out a second time
        try:
            address_of(shipment.order)
        except UserError as error:
            raise_item(
                "threepl_refused", f"handoff:address:{shipment.pk}",
                f"{shipment.number} cannot be handed to {account}", detail=error.message,
                url=f"/shipments/{shipment.pk}/", warehouse_code=shipment.warehouse.code, due_at=shipment.ship_by,
            )  # fmt: skip
            return 0
        lines = list(shipment.lines.select_related("allocation").order_by("pk"))
        set_state(shipment, Shipment.State.PICKING, claimed_by=claimant(account), claimed_at=now())
        hand_off = HandOff.objects.create(account=account, shipment=shipment, reference=shipment.number)
        HandOffLine.objects.bulk_create(
            HandOffLine(
                hand_off=hand_off, number=number, allocation=line.allocation, sku_id=line.sku_id,
                quantity=line.quantity,
            )
            for number, line in enumerate(lines, start=1)
        )  # fmt: skip
        # whoever is picked for there keeps its units when the stock shrinks
        reservations.set_firm([line.allocation.reservation_id for line in lines])
        if transports.of(account) is not None:
            ThreePLCall.objects.create(
                account=account, kind=Kind.ORDER, hand_off=hand_off, key=f"order:{hand_off.pk}"
            )
            ring(DRAIN, str(account.pk))
        close_item(f"handoff:address:{shipment.pk}", "handed over")
        timeline.add(order_id, "shipment", f"{shipment.number} is handed to {account}", actor=actor)
    return 1


def order_body(hand_off: HandOff) -> dict[str, Any]:
    """What the 3PL is told: who gets what by when. No prices, no buyer beyond the address. Raises `UserError`."""
    shipment = hand_off.shipment
    to = address_of(shipment.order)
    return {
        "reference": hand_off.reference,
        "order_number": shipment.order.number,
        "ship_by": shipment.ship_by.isoformat() if shipment.ship_by else None,
        "service": shipment.order.service_level or "standard",
        "ship_to": {
            "name": to.name, "company": to.company, "address1": to.street1, "address2": to.street2, "city": to.city,
            "region": to.region, "postal_code": to.postal_code, "country": to.country, "phone": to.phone,
        },
        "lines": [
            {"line": line.number, "sku": line.sku.code, "quantity": line.open}
            for line in hand_off.lines.select_related("sku").order_by("number")
            if line.open
        ],
    }  # fmt: skip


# --- taking back -----------------------------------------------------------------------------------


def follow(order_id: int, *, actor: Actor) -> int:
    """Units of hand-offs that the order no longer holds there are taken back; returns how many hand-offs changed."""
    changed = 0
    open_ones = HandOff.objects.filter(shipment__order=order_id, state__in=(State.PLANNED, *OUT))
    for pk in open_ones.order_by("pk").values_list("pk", flat=True):
        with transaction.atomic():
            changed += _follow_one(pk, actor)
    return changed


def lock(hand_off_id: int) -> HandOff:
    """The hand-off under its shipment's lock. Inside atomic only. Raises `NotFound`."""
    shipment_id = HandOff.objects.filter(pk=hand_off_id).values_list("shipment", flat=True).first()
    if shipment_id is None:
        raise NotFound("hand-off: there is no such hand-off.", field="hand_off")
    locked(shipment_id)
    return HandOff.objects.select_related("account__warehouse", "shipment__order").get(pk=hand_off_id)


def _follow_one(hand_off_id: int, actor: Actor) -> int:
    hand_off = lock(hand_off_id)
    if hand_off.state not in (State.PLANNED, *OUT):
        return 0
    shipment = hand_off.shipment
    left: dict[int, int] = {}
    if shipment.state != Shipment.State.CANCELLED:
        left = dict(ShipmentLine.objects.filter(shipment=shipment).values_list("allocation", "quantity"))
    surplus: dict[HandOffLine, int] = {}
    for line in hand_off.lines.order_by("number"):
        expected = line.open - line.cancelling - line.kept
        take = expected - left.get(line.allocation_id, 0)
        if take > 0:
            surplus[line] = take
    if not surplus:
        return 0
    _ask_back(hand_off, surplus, actor)
    words = ", ".join(f"{units} × line {line.number}" for line, units in surplus.items())
    timeline.add(
        shipment.order_id, "shipment", f"{hand_off.reference}: {hand_off.account} is told to leave out {words}",
        actor=actor,
    )  # fmt: skip
    return 1


def _plan_cancel(hand_off: HandOff, units: Mapping[int, int]) -> None:
    number = hand_off.calls.filter(kind=Kind.CANCEL).count() + 1
    ThreePLCall.objects.create(
        account=hand_off.account, kind=Kind.CANCEL, hand_off=hand_off, key=f"cancel:{hand_off.pk}:{number}",
        payload={"lines": [[line, count] for line, count in sorted(units.items())]},
    )  # fmt: skip
    ring(DRAIN, str(hand_off.account_id))


def settle_cancelled(hand_off: HandOff, actor: Actor) -> None:
    """A locked hand-off of which nothing is left to send is over."""
    lines = list(hand_off.lines.all())
    if any(line.open for line in lines):
        return
    state = State.SHIPPED if any(line.shipped for line in lines) else State.CANCELLED
    # they let go: only now are the units free for another way
    shipment = Shipment.objects.get(pk=hand_off.shipment_id)
    if shipment.state in (Shipment.State.READY, Shipment.State.PICKING):
        set_state(shipment, Shipment.State.CANCELLED)
    HandOff.objects.filter(pk=hand_off.pk).update(state=state, finished_at=now())
    ThreePLCall.objects.filter(
        hand_off=hand_off, kind=Kind.ORDER, state=ThreePLCall.State.PLANNED, attempts=0
    ).update(state=ThreePLCall.State.REJECTED, error="cancelled before it was sent")
    close_alarms(hand_off, "cancelled" if state == State.CANCELLED else "shipped")
    if any(line.cancelled for line in lines):
        emit("order.route", str(hand_off.shipment.order_id))  # what is still wanted finds another way


def cancel_answer(call: ThreePLCall, *, taken: bool, why: str, actor: Actor) -> None:
    """The 3PL took a cancellation, or it came too late and the units are on their way. Inside atomic."""
    assert call.hand_off_id is not None
    hand_off = lock(call.hand_off_id)
    to = ThreePLCall.State.CONFIRMED if taken else ThreePLCall.State.REJECTED
    changed = ThreePLCall.objects.filter(pk=call.pk, state__in=ThreePLCall.OPEN).update(
        state=to, error="" if taken else why[:400], confirmed_at=now(), lease_until=None
    )
    if not changed:
        return
    told = dict(call.payload["lines"])
    way = transports.of(hand_off.account)
    wanted: dict[int, int] = {}
    if way is not None and way.CANCELS_WHOLE and hand_off.shipment.state != Shipment.State.CANCELLED:
        wanted = dict(
            ShipmentLine.objects.filter(shipment=hand_off.shipment).values_list("allocation", "quantity")
        )
    late = 0
    for line in hand_off.lines.filter(number__in=told):
        units = min(told[line.number], line.cancelling)
        line.cancelling -= units
        if taken:
            line.cancelled += min(units, line.open)
        else:
            # what they reported as shipped meanwhile is known already
            line.kept += min(units, line.open)
            late += min(units, max(0, line.open - wanted.get(line.allocation_id, 0)))
        line.save(update_fields=["cancelling", "cancelled", "kept"])
    if taken:
        settle_cancelled(hand_off, actor)
        words = f"{hand_off.reference}: {hand_off.account} took the cancellation"
    else:
        words = f"{hand_off.reference}: too late to cancel at {hand_off.account}"
        if late:
            raise_item(
                "threepl_too_late", f"handoff:late:{hand_off.pk}",
                f"{hand_off.account} sends {late} cancelled units of {hand_off.reference} anyway",
                detail=f"{why} Stop the parcel with the carrier or wait for it as a return.",
                severity=ExceptionItem.Severity.HIGH, url=f"/threepl/orders/{hand_off.pk}/",
                warehouse_code=hand_off.account.warehouse.code,
            )  # fmt: skip
    timeline.add(hand_off.shipment.order_id, "shipment", words, actor=actor)


def close_alarms(hand_off: HandOff, why: str) -> None:
    for name in ("ack", "doubt", "refused"):
        close_item(f"handoff:{name}:{hand_off.pk}", why)


# --- their word on an order ------------------------------------------------------------------------


def confirm(hand_off_id: int, external_id: str, *, actor: Actor) -> None:
    """They have it under `external_id`. The first number stays; a second one is a person's matter."""
    with transaction.atomic():
        hand_off = lock(hand_off_id)
        at = now()
        ThreePLCall.objects.filter(hand_off=hand_off, kind=Kind.ORDER, state__in=ThreePLCall.OPEN).update(
            state=ThreePLCall.State.CONFIRMED, confirmed_at=at, lease_until=None, error=""
        )
        if hand_off.external_id and external_id and hand_off.external_id != external_id:
            raise_item(
                "threepl_twice", f"handoff:twice:{hand_off.pk}",
                f"{hand_off.account} has {hand_off.reference} twice: {hand_off.external_id} and {external_id}",
                detail=f"Ask them to drop {external_id} before it is packed.",
                severity=ExceptionItem.Severity.URGENT, url=f"/threepl/orders/{hand_off.pk}/",
                warehouse_code=hand_off.account.warehouse.code, due_at=hand_off.shipment.ship_by,
            )  # fmt: skip
            return
        values: dict[str, Any] = {"external_id": hand_off.external_id or external_id, "error": ""}
        if hand_off.state in (State.PLANNED, State.SENT, State.IN_DOUBT):
            values |= {"state": State.CONFIRMED, "confirmed_at": at}
            timeline.add(
                hand_off.shipment.order_id, "shipment",
                f"{hand_off.account} received {hand_off.reference} as {external_id}", actor=actor,
            )  # fmt: skip
        HandOff.objects.filter(pk=hand_off.pk).update(**values)
        close_item(f"handoff:doubt:{hand_off.pk}", "found there")


def acknowledge(hand_off_id: int, external_id: str, *, actor: Actor) -> None:
    """They will work on it. Late or repeated words change nothing that happened since."""
    confirm(hand_off_id, external_id, actor=actor)
    with transaction.atomic():
        hand_off = lock(hand_off_id)
        values: dict[str, Any] = {}
        if hand_off.acknowledged_at is None:
            values["acknowledged_at"] = now()
        if hand_off.state in (State.CONFIRMED, State.SENT, State.IN_DOUBT):
            values["state"] = State.ACKNOWLEDGED
        if values:
            HandOff.objects.filter(pk=hand_off.pk).update(**values)
        close_alarms(hand_off, "acknowledged")


def refuse(hand_off_id: int, reason: str, *, actor: Actor) -> None:
    """They will not send it, or not what is left of it: a person is told and decides.

    Where the account's kind says so, its units take another route at once, never to this warehouse again.
    """
    with transaction.atomic():
        hand_off = lock(hand_off_id)
        if hand_off.state not in (State.PLANNED, *OUT):
            return
        ThreePLCall.objects.filter(hand_off=hand_off, state__in=ThreePLCall.OPEN).update(
            state=ThreePLCall.State.REJECTED, error=reason[:400], lease_until=None
        )
        HandOff.objects.filter(pk=hand_off.pk).update(
            state=State.REFUSED, error=reason[:400], finished_at=now()
        )
        close_alarms(hand_off, "refused")
        way = transports.of(hand_off.account)
        anew = way is not None and way.REROUTES
        raise_item(
            "threepl_refused", f"handoff:refused:{hand_off.pk}", f"{hand_off.account} refuses {hand_off.reference}",
            detail=f"{reason} "
            + (
                "The order takes another route."
                if anew
                else "Mend it and send it again, or take it back and route the order anew."
            ),
            severity=ExceptionItem.Severity.NORMAL if anew else ExceptionItem.Severity.HIGH,
            url=f"/threepl/orders/{hand_off.pk}/",
            warehouse_code=hand_off.account.warehouse.code, due_at=hand_off.shipment.ship_by,
        )  # fmt: skip
        timeline.add(
            hand_off.shipment.order_id, "shipment",
            f"{hand_off.account} refuses {hand_off.reference}: {reason}"[:400], actor=actor,
        )  # fmt: skip
        if anew:
            _another_way(hand_off, reason, actor)


def _another_way(hand_off: HandOff, reason: str, actor: Actor) -> None:
    """What was refused leaves the shipment; the router passes this warehouse over for those lines."""
    shipment = hand_off.shipment
    code = hand_off.account.warehouse.code
    for line in hand_off.lines.select_related("allocation", "sku"):
        if not line.open:
            continue
        timeline.add(
            shipment.order_id, "refused", f"{line.open} × {line.sku} will not leave {code}: {reason}"[:400],
            actor=actor, data={"warehouse": code, "sku": line.sku.code, "line": line.allocation.line_id},
        )  # fmt: skip
        line.cancelled += line.open
        line.cancelling = 0
        line.save(update_fields=["cancelled", "cancelling"])
    if shipment.state == Shipment.State.PICKING:
        set_state(shipment, Shipment.State.CANCELLED)
    emit("order.route", str(shipment.order_id))


# --- what people do --------------------------------------------------------------------------------


def send_again(hand_off_id: int, *, actor: Actor) -> None:
    """Try a refused or stuck hand-off again under the same reference; what is in doubt is looked up first."""
    with transaction.atomic():
        hand_off = lock(hand_off_id)
        way = transports.of(hand_off.account)
        if hand_off.state == State.REFUSED and way is not None and way.REROUTES:
            raise Conflict(
                f"{hand_off.reference} was refused and its order took another route.", field="state"
            )
        if hand_off.state not in (State.REFUSED, State.PLANNED, State.SENT, State.IN_DOUBT):
            raise Conflict(
                f"{hand_off.reference} is {hand_off.get_state_display().lower()}: there is nothing to send again.",
                field="state",
            )
        call = hand_off.calls.filter(kind=Kind.ORDER).first()
        if call is None and hand_off.state != State.REFUSED:
            raise Conflict(f"{hand_off.reference} goes out with the next file or did already.", field="state")
        # refused = they do not have it; anything else may have arrived
        known = hand_off.state in (State.REFUSED, State.PLANNED)
        ThreePLCall.objects.filter(hand_off=hand_off, kind=Kind.ORDER).update(
            state=ThreePLCall.State.PLANNED if known else ThreePLCall.State.IN_DOUBT,
            attempts=0, looks=0, next_attempt_at=now(), lease_until=None,
        )  # fmt: skip
        HandOff.objects.filter(pk=hand_off.pk).update(
            state=State.PLANNED if known else State.IN_DOUBT, finished_at=None
        )
        close_alarms(hand_off, f"sent again by {actor.name}")
        ring(DRAIN, str(hand_off.account_id))
        timeline.add(
            hand_off.shipment.order_id, "shipment", f"{hand_off.reference} is sent to {hand_off.account} again",
            actor=actor,
        )  # fmt: skip


def take_back(hand_off_id: int, reason: str, *, actor: Actor) -> None:
    """A person takes the whole hand-off back: the 3PL is told, and once it let go the order is routed anew.

    Until then the shipment keeps its units, so that nobody else sends them. What leaves there meanwhile counts as
    sent. Raises `UserError` without a reason, `Conflict` where nothing can be taken back.
    """
    if not reason.strip():
        raise UserError("reason: say why it is taken back.", field="reason")
    with transaction.atomic():
        hand_off = lock(hand_off_id)
        if hand_off.state not in (State.PLANNED, State.REFUSED, *OUT):
            raise Conflict(
                f"{hand_off.reference} is {hand_off.get_state_display().lower()} and cannot be taken back.",
                field="state",
            )
        surplus = {
            line: line.open - line.cancelling - line.kept for line in hand_off.lines.order_by("number")
        }
        surplus = {line: units for line, units in surplus.items() if units > 0}
        if not surplus and hand_off.state != State.REFUSED:
            raise Conflict(
                f"{hand_off.reference} was asked back already; {hand_off.account} has not let go of it yet.",
                field="state",
            )
        timeline.add(
            hand_off.shipment.order_id,
            "shipment",
            f"{hand_off.reference} taken back: {reason}"[:400],
            actor=actor,
        )
        if hand_off.state == State.REFUSED:
            hand_off.lines.update(cancelled=F("quantity") - F("shipped"), cancelling=0)
            settle_cancelled(hand_off, actor)
        else:
            _ask_back(hand_off, surplus, actor)


def _ask_back(hand_off: HandOff, surplus: Mapping[HandOffLine, int], actor: Actor) -> None:
    """Units of a locked hand-off that are not to be sent: left out where they were not told yet, else cancelled
    there, together with all others where they can only let go of everything."""
    call = hand_off.calls.filter(kind=Kind.ORDER).first()
    unsent = hand_off.state == State.PLANNED and (call is None or call.attempts == 0)
    way = transports.of(hand_off.account)
    if way is not None and way.CANCELS_WHOLE and not unsent:
        rest = {line: line.open - line.cancelling - line.kept for line in hand_off.lines.order_by("number")}
        surplus = {line: units for line, units in rest.items() if units > 0}
    for line, units in surplus.items():
        if unsent:
            line.cancelled += units
        else:
            line.cancelling += units
        line.save(update_fields=["cancelled", "cancelling"])
    if unsent:
        settle_cancelled(hand_off, actor)
    else:
        _plan_cancel(hand_off, {line.number: units for line, units in surplus.items()})


def confirm_by_hand(hand_off_id: int, external_id: str, *, actor: Actor) -> None:
    """A person asked the 3PL on the phone: it has the order under this number."""
    number = external_id.strip()
    if not 0 < len(number) <= 80:
        raise UserError("order_id: give the 3PL's number of the order.", field="order_id")
    rival = HandOff.objects.filter(account__hand_offs=hand_off_id, external_id=number).exclude(pk=hand_off_id)
    if rival.exists():
        raise Conflict(f"order_id: {number} belongs to {rival[0].reference}.", field="order_id")
    acknowledge(hand_off_id, number, actor=actor)


def told_late(*, at: Any = None) -> int:
    """Hand-offs that were received or sent and not acknowledged in time become exceptions. Returns how many."""
    at = at or now()
    found = 0
    quiet = HandOff.objects.filter(state__in=OUT, acknowledged_at__isnull=True).select_related(
        "account__warehouse", "shipment"
    )
    for hand_off in quiet.order_by("pk")[:1000]:
        since = hand_off.confirmed_at or hand_off.sent_at or hand_off.planned_at
        minutes = (at - since).total_seconds() / 60
        if minutes < hand_off.account.ack_minutes:
            continue
        key = f"handoff:ack:{hand_off.pk}"
        if ExceptionItem.objects.filter(dedup_key=key, closed_at__isnull=True).exists():
            continue
        raise_item(
            "threepl_no_ack", key, f"{hand_off.account} has not acknowledged {hand_off.reference}",
            detail=f"Sent {minutes:.0f} minutes ago, {hand_off.account.ack_minutes} are allowed. "
            "Look it up there, confirm it by hand, or take it back.",
            url=f"/threepl/orders/{hand_off.pk}/", warehouse_code=hand_off.account.warehouse.code,
            due_at=hand_off.shipment.ship_by,
        )  # fmt: skip
        found += 1
    return found
