"""What a 3PL must be told exactly once: written down, sent, confirmed. A lost answer is looked up, never guessed.

planned → sent (committed before the call) → confirmed. Without an answer the call is in doubt: the 3PL is asked what
it has under our reference, and only after it has shown nothing three times is the same order sent again, with the
same reference and key. A process that was killed between send and commit leaves `sent`, which is treated alike.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
from typing import Any

from django.db import transaction
from django.db.models import F, Q

from fulfillment.models import HandOff, ThreePLAccount, ThreePLCall
from fulfillment.threepl import client, handoff, inbound, transports
from inventory.models import StockDifference
from oms.core.actor import Actor, task_actor
from oms.core.clock import now
from oms.core.errors import UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.http import HttpFailure
from oms.core.http import Kind as Failure
from oms.core.models import ExceptionItem

log = logging.getLogger("lading.threepl")

State = ThreePLCall.State
Kind = ThreePLCall.Kind
NOTICES = (Kind.INBOUND, Kind.WITHDRAW)
CLAIM = dt.timedelta(seconds=90)
BATCH = 50
#: seconds before each look-up of a call in doubt
LOOK_AFTER = (2, 15, 60, 300)
#: look-ups that show nothing before the order is sent again
LOOKS = 3
MAX_SENDS = 3


def drain(account_id: int) -> int:
    """Send and look up everything that is due; returns how many calls were touched. Harmless to repeat."""
    account = ThreePLAccount.objects.select_related("warehouse").filter(pk=account_id).first()
    if account is None or account.state != ThreePLAccount.State.CONNECTED or transports.of(account) is None:
        return 0
    touched = 0
    for _ in range(10):
        calls = _claim(account_id)
        if not calls:
            break
        for call in calls:
            try:
                _step(account, call)
            except Exception as error:  # one broken call must never stop the others
                log.exception("3PL call failed", extra={"call": call.pk})
                _put_off(call, f"{type(error).__name__}: {error}", wait=60)
            touched += 1
    return touched


def due() -> list[int]:
    """Accounts with calls whose time has come."""
    at = now()
    waiting = ThreePLCall.objects.filter(
        Q(lease_until__isnull=True) | Q(lease_until__lte=at), state__in=ThreePLCall.OPEN, next_attempt_at__lte=at,
        account__kind__in=transports.kinds(),
    )  # fmt: skip
    return list(waiting.order_by().values_list("account", flat=True).distinct())


def _claim(account_id: int) -> list[ThreePLCall]:
    at = now()
    waiting = ThreePLCall.objects.filter(
        Q(lease_until__isnull=True) | Q(lease_until__lte=at), account=account_id, state__in=ThreePLCall.OPEN,
        next_attempt_at__lte=at,
    )  # fmt: skip
    ids = list(waiting.order_by("next_attempt_at", "pk").values_list("pk", flat=True)[:BATCH])
    if not ids:
        return []
    until = at + CLAIM + dt.timedelta(microseconds=random.randrange(1_000_000))
    waiting.filter(pk__in=ids).update(lease_until=until)
    return list(
        ThreePLCall.objects.filter(pk__in=ids, lease_until=until).select_related("hand_off").order_by("pk")
    )


def _put_off(call: ThreePLCall, error: str, *, wait: float) -> None:
    ThreePLCall.objects.filter(pk=call.pk, state__in=ThreePLCall.OPEN).update(
        error=error[:400],
        lease_until=None,
        next_attempt_at=now() + dt.timedelta(seconds=wait * random.uniform(0.9, 1.1)),
    )


def _step(account: ThreePLAccount, call: ThreePLCall) -> None:
    if call.state == State.PLANNED:
        _send(account, call)
    else:
        # sent and never answered (the process died), or in doubt
        _look(account, call)


# --- sending ---------------------------------------------------------------------------------------


def _send(account: ThreePLAccount, call: ThreePLCall) -> None:
    try:
        body = _written(call)
    except UserError as error:
        handoff.refuse(_hand_off_id(call), error.message, actor=_actor(account))
        return
    if body is None:
        return
    way = _way(account)
    try:
        if call.kind == Kind.ORDER:
            number = way.send_order(account, body, call.key)
            handoff.confirm(_hand_off_id(call), number, actor=_actor(account))
        elif call.kind == Kind.CANCEL:
            way.cancel(account, str(body.pop("order_id")), body, call.key)
            with transaction.atomic():
                handoff.cancel_answer(call, taken=True, why="", actor=_actor(account))
        elif call.kind in NOTICES:
            if call.kind == Kind.INBOUND:
                client.expect(account, body["reference"], body, call.key)
            else:
                client.withdraw(account, body["reference"], call.key)
            inbound.accepted(call)
        else:
            way.recount(account, body, call.key)
            ThreePLCall.objects.filter(pk=call.pk).update(
                state=State.CONFIRMED, confirmed_at=now(), lease_until=None, error=""
            )
    except HttpFailure as failure:
        _not_answered(account, call, failure)


def _written(call: ThreePLCall) -> dict[str, Any] | None:
    """Commit that this call goes out now, and what it says; None when its time is not yet or never more.

    Under the hand-off's lock, so that units are either left out of the order or cancelled there, never neither.
    """
    with transaction.atomic():
        body: dict[str, Any] | None
        if call.kind == Kind.RECOUNT:
            body = _recount_body(call)
        elif call.kind in NOTICES:
            body = dict(call.payload)
        else:
            hand_off = handoff.lock(_hand_off_id(call))
            if call.kind == Kind.ORDER:
                if hand_off.state != HandOff.State.PLANNED:
                    return None
                body = handoff.order_body(hand_off)
                HandOff.objects.filter(pk=hand_off.pk).update(state=HandOff.State.SENT, sent_at=now())
            elif not hand_off.external_id:
                _put_off(call, "their number of the order is not known yet", wait=20)
                return None
            else:
                body = {
                    "order_id": hand_off.external_id,
                    "reference": hand_off.reference,
                    "cancel_key": call.key,
                    "lines": [{"line": line, "quantity": units} for line, units in call.payload["lines"]],
                }
        sent = ThreePLCall.objects.filter(pk=call.pk, state=State.PLANNED).update(
            state=State.SENT if body is not None else State.REJECTED,
            sent_at=now(),
            attempts=F("attempts") + 1,
            looks=0,
            error="",
        )
    call.attempts += 1
    return body if sent else None


def _recount_body(call: ThreePLCall) -> dict[str, Any] | None:
    row = (
        StockDifference.objects.select_related("sku")
        .filter(pk=call.payload["difference"], closed_at__isnull=True)
        .first()
    )
    if row is None:
        return None
    return {
        "reference": row.number,
        "skus": [
            {
                "sku": row.sku.code, "yours": row.theirs, "ours": row.ours, "taken_at": row.taken_at.isoformat(),
                "note": row.note,
            }
        ],
    }  # fmt: skip


def _not_answered(account: ThreePLAccount, call: ThreePLCall, failure: HttpFailure) -> None:
    actor = _actor(account)
    if failure.kind is Failure.REJECTED:
        if call.kind == Kind.ORDER:
            handoff.refuse(_hand_off_id(call), failure.message, actor=actor)
        elif call.kind == Kind.CANCEL:
            with transaction.atomic():
                handoff.cancel_answer(call, taken=False, why=failure.message, actor=actor)
        elif call.kind in NOTICES:
            inbound.refused(call, failure.message)
        else:
            ThreePLCall.objects.filter(pk=call.pk).update(
                state=State.REJECTED, error=failure.message[:400], lease_until=None
            )
        return
    if failure.kind is Failure.TIMEOUT_AFTER_SEND:
        _doubt(call, failure.message)
        return
    # nothing happened there: back to the start, as often as it takes
    if failure.kind is Failure.AUTH:
        credentials_refused(account, failure.message)
    with transaction.atomic():
        if call.kind == Kind.ORDER:
            hand_off = handoff.lock(_hand_off_id(call))
            if hand_off.state == HandOff.State.SENT:
                HandOff.objects.filter(pk=hand_off.pk).update(state=HandOff.State.PLANNED)
        ThreePLCall.objects.filter(pk=call.pk, state=State.SENT).update(
            state=State.PLANNED, attempts=F("attempts") - 1
        )
    _put_off(call, failure.message, wait=failure.retry_after or min(2 ** min(call.attempts + 2, 9), 600))


def _doubt(call: ThreePLCall, why: str) -> None:
    with transaction.atomic():
        if call.kind == Kind.ORDER:
            HandOff.objects.filter(
                pk=_hand_off_id(call), state__in=(HandOff.State.PLANNED, HandOff.State.SENT)
            ).update(state=HandOff.State.IN_DOUBT, error=why[:400])
        ThreePLCall.objects.filter(pk=call.pk, state__in=ThreePLCall.OPEN).update(
            state=State.IN_DOUBT,
            error=why[:400],
            lease_until=None,
            next_attempt_at=now() + dt.timedelta(seconds=LOOK_AFTER[0]),
        )


# --- finding out -----------------------------------------------------------------------------------


def _look(account: ThreePLAccount, call: ThreePLCall) -> None:
    if call.kind == Kind.RECOUNT or call.kind in NOTICES:
        # asking twice for a count does no harm, and the same word on a delivery replaces itself
        ThreePLCall.objects.filter(pk=call.pk).update(state=State.PLANNED, lease_until=None)
        return
    if call.state == State.SENT:
        _doubt(call, "the answer was lost with the process that waited for it")
    assert call.hand_off is not None
    try:
        found = _way(account).find_orders(account, call.hand_off.reference)
    except HttpFailure as failure:
        if failure.kind is Failure.AUTH:
            credentials_refused(account, failure.message)
        _put_off(call, failure.message, wait=failure.retry_after or LOOK_AFTER[2])
        return
    actor = _actor(account)
    if call.kind == Kind.ORDER and found:
        for one in found:  # the oldest is ours; a second one becomes a person's matter
            handoff.confirm(call.hand_off.pk, one["order_id"], actor=actor)
        return
    if call.kind == Kind.CANCEL and found and call.key in found[0].get("cancel_keys", ()):
        with transaction.atomic():
            handoff.cancel_answer(call, taken=True, why="", actor=actor)
        return
    if call.kind == Kind.CANCEL and found and found[0].get("too_late"):
        with transaction.atomic():
            handoff.cancel_answer(call, taken=False, why=str(found[0]["too_late"]), actor=actor)
        return
    looks = call.looks + 1
    ThreePLCall.objects.filter(pk=call.pk).update(looks=looks)
    if looks < LOOKS:
        _put_off(call, "they do not show it yet", wait=LOOK_AFTER[min(looks, len(LOOK_AFTER) - 1)])
    elif call.attempts < MAX_SENDS:
        with transaction.atomic():
            ThreePLCall.objects.filter(pk=call.pk, state=State.IN_DOUBT).update(
                state=State.PLANNED,
                lease_until=None,
                next_attempt_at=now(),
                error="not found there: sent again",
            )
            if call.kind == Kind.ORDER:
                HandOff.objects.filter(pk=call.hand_off.pk, state=HandOff.State.IN_DOUBT).update(
                    state=HandOff.State.PLANNED
                )
    else:
        raise_item(
            "threepl_in_doubt", f"handoff:doubt:{call.hand_off.pk}",
            f"{account}: nobody knows what became of {call.hand_off.reference}",
            detail=f"Sent {call.attempts} times without an answer and never seen there. Ask them, then confirm it by "
            "hand or take it back.",
            severity=ExceptionItem.Severity.HIGH, url=f"/threepl/orders/{call.hand_off.pk}/",
            warehouse_code=account.warehouse.code,
        )  # fmt: skip
        _put_off(call, "it was never seen there", wait=3600)


# --- helpers ---------------------------------------------------------------------------------------


def credentials_refused(account: ThreePLAccount, why: str) -> None:
    """Nothing is sent until a person gives new credentials; nothing is lost."""
    ThreePLAccount.objects.filter(pk=account.pk, state=ThreePLAccount.State.CONNECTED).update(
        state=ThreePLAccount.State.REFUSED, state_reason=why[:255]
    )
    raise_item(
        "threepl_auth", f"threepl:auth:{account.pk}", f"{account} refuses our credentials",
        detail=f"{why} Orders wait here and go out after the credentials are right again.",
        severity=ExceptionItem.Severity.URGENT, url=f"/threepl/{account.code}/settings/",
        warehouse_code=account.warehouse.code,
    )  # fmt: skip


def credentials_accepted(account: ThreePLAccount) -> None:
    close_item(f"threepl:auth:{account.pk}", "connected again")


def _way(account: ThreePLAccount) -> transports.Transport:
    way = transports.of(account)
    assert way is not None  # accounts without one have no calls
    return way


def _hand_off_id(call: ThreePLCall) -> int:
    assert call.hand_off_id is not None
    return call.hand_off_id


def _actor(account: ThreePLAccount) -> Actor:
    return task_actor(f"3pl {account.code}")
