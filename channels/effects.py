"""What must happen on a channel exactly once: shipment confirmation, refund, cancellation, acknowledgement.

planned → sent → confirmed by read-back. An answer that never came leaves the effect in doubt: it is looked up,
and sent again only after the channel has shown nothing and only where the channel guards a repetition. Else a
person decides. A row is written before every call, so a killed process finds its own tracks.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Q

from channels.connectors.base import (
    CancelOrder,
    ChannelError,
    Confirmation,
    Connector,
    RefundItem,
    RefundOrder,
    Retry,
    ShipItem,
    get_connector,
)
from channels.models import ChannelAccount, ChannelEffect, LocationMap
from channels.session import do
from fulfillment.models import LabelPurchase, Parcel, ParcelItem, Shipment, ShipmentLine
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.doorbell import ring
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.models import ExceptionItem
from oms.core.money import plain
from oms.core.outbox import emit
from oms.orders import timeline
from oms.orders.models import Allocation, Order, OrderLine
from returns import refunds
from returns.models import Refund

log = logging.getLogger("lading.channels")

CLAIM = dt.timedelta(seconds=120)
BATCH = 50
#: seconds after which a sent effect is looked for on the channel, by attempt
PROOFS = (1, 5, 30, 120, 600)
#: look-ups that show nothing before an effect in doubt is sent again or given to a person
LOOKS = 3
MAX_SENDS = 3

State = ChannelEffect.State
Kind = ChannelEffect.Kind
_WORDS = {
    Kind.SHIP: "shipment",
    Kind.REFUND: "refund",
    Kind.CANCEL: "cancellation",
    Kind.ACKNOWLEDGE: "acknowledgement",
}


# --- planning --------------------------------------------------------------------------------------


def _account_of(order: Order) -> ChannelAccount | None:
    return (
        ChannelAccount.objects.filter(sales_channel=order.channel_id)
        .exclude(state=ChannelAccount.State.DISABLED)
        .first()
    )


def _plan(
    account: ChannelAccount, order: Order, kind: str, reference: str, key: str, payload: Mapping[str, Any]
) -> bool:
    """One effect per key, ever. True when it is new."""
    effect, created = ChannelEffect.objects.get_or_create(
        key=key[:120],
        defaults={
            "account": account,
            "order": order,
            "kind": kind,
            "reference": reference[:80],
            "payload": dict(payload),
        },
    )
    if created:
        ring("channels.tasks.drain_effects", str(account.pk))
    return created


def plan_shipment(shipment_id: int) -> int:
    """One confirmation per parcel of a shipped shipment; 0 for orders that no connected channel waits for.

    A carrier that the channel does not know is a person's matter before anything is sent.
    """
    shipment = (
        Shipment.objects.select_related("order__channel", "warehouse", "carrier_account")
        .filter(pk=shipment_id)
        .first()
    )
    if shipment is None or shipment.order.fulfilled_by != Order.FulfilledBy.US:
        return 0
    account = _account_of(shipment.order)
    if account is None:
        return 0
    with transaction.atomic():
        # the account's order row orders planners of one order: kit units are counted against earlier parcels
        list(Order.objects.select_for_update(no_key=True).filter(pk=shipment.order_id).values_list("pk"))
        made = 0
        place = (
            LocationMap.objects.filter(account=account, warehouse=shipment.warehouse)
            .values_list("external_id", flat=True)
            .first()
        )
        for parcel, items in parcel_units(shipment):
            if not items:
                continue
            payload = {
                "parcel": parcel.pk, "shipment": shipment.number, "location_id": place or "",
                "shipped_at": (shipment.shipped_at or now()).isoformat(), "items": sorted(items.items()),
            }  # fmt: skip
            made += _plan(
                account,
                shipment.order,
                Kind.SHIP,
                shipment.number,
                f"ship:{shipment.pk}:{parcel.number}",
                payload,
            )
    return made


def parcel_units(shipment: Shipment) -> list[tuple[Parcel, dict[str, int]]]:
    """Per parcel with a label: order line external id → sold units.

    A kit or a pack that leaves in parts is told once it is complete: with the parcel that completes it.
    """
    parcels = list(
        Parcel.objects.filter(shipment=shipment, purchases__state=LabelPurchase.State.PURCHASED)
        .distinct()
        .order_by("number")
    )
    if not parcels:
        return []
    lines = list(
        ShipmentLine.objects.filter(shipment=shipment)
        .select_related("order_line", "allocation__reservation")
        .order_by("pk")
    )
    inside: dict[int, dict[int, int]] = {parcel.pk: {} for parcel in parcels}
    for parcel_id, line_id, quantity in ParcelItem.objects.filter(parcel__in=parcels).values_list(
        "parcel", "line", "quantity"
    ):
        inside[parcel_id][line_id] = quantity
    if not any(inside.values()):
        inside[parcels[0].pk] = {line.pk: line.quantity for line in lines}
    told: dict[str, int] = {}
    for effect in ChannelEffect.objects.filter(order=shipment.order_id, kind=Kind.SHIP).exclude(
        state=State.REJECTED
    ):
        if effect.payload.get("shipment") != shipment.number:
            for number, count in effect.payload.get("items", ()):
                told[number] = told.get(number, 0) + count
    gone = _gone_before(lines)
    last = {
        line.order_line_id: parcel.pk
        for parcel in parcels
        for line in lines
        if inside[parcel.pk].get(line.pk)
    }
    found = []
    for parcel in parcels:
        held: dict[str, int] = {}
        parts: dict[int, OrderLine] = {}
        for line in lines:
            count = inside[parcel.pk].get(line.pk, 0)
            if not count:
                continue
            name = line.order_line.external_id
            whole = line.order_line.sku_id == line.sku_id and line.allocation.per_unit == 1
            if whole:
                held[name] = held.get(name, 0) + count
            else:
                gone[line.order_line_id][line.allocation.reservation.sku_id][1] += count
                parts[line.order_line_id] = line.order_line
        for pk, sold in parts.items():
            complete = min(units // each for each, units in gone[pk].values())
            # with its last parcel the line's own figure decides
            complete = sold.shipped if last[pk] == parcel.pk else min(complete, sold.shipped)
            held[sold.external_id] = max(0, complete - told.get(sold.external_id, 0))
        for name, count in held.items():
            told[name] = told.get(name, 0) + count
        found.append((parcel, {name: count for name, count in held.items() if count}))
    return found


def _gone_before(lines: Sequence[ShipmentLine]) -> dict[int, dict[int, list[int]]]:
    """Per order line and SKU: [eaches per sold unit, eaches that left with other shipments]."""
    rows: dict[int, dict[int, list[int]]] = {}
    for allocation in Allocation.objects.filter(
        line__in={line.order_line_id for line in lines}
    ).select_related("reservation"):
        entry = rows.setdefault(allocation.line_id, {}).setdefault(
            allocation.reservation.sku_id, [allocation.per_unit, 0]
        )
        entry[1] += allocation.reservation.consumed
    for line in lines:
        rows[line.order_line_id][line.allocation.reservation.sku_id][1] -= line.quantity
    return rows


def plan_refund(refund_id: int) -> bool:
    """Send a planned refund to the channel of its order; a channel without refunds asks a person."""
    refund = (
        Refund.objects.select_related("order__channel")
        .filter(pk=refund_id, state=Refund.State.PLANNED)
        .first()
    )
    if refund is None:
        return False
    account = _account_of(refund.order)
    if account is None:
        raise_item(
            "refund_by_hand",
            f"refund:{refund.pk}",
            f"{refund.number}: pay {plain(refund.amount)} {refund.currency} back by hand",
            f"{refund.order.channel} is not connected to anything that could. Mark it as paid back afterwards.",
            url=f"/returns/{refund.rma_id}/" if refund.rma_id else f"/orders/{refund.order.number}/",
            channel_code=refund.order.channel.code,
            money=refund.amount,
        )
        return False
    key = f"refund:{refund.pk}"
    with transaction.atomic():
        again = ChannelEffect.objects.filter(key=key, state=State.REJECTED).update(
            state=State.PLANNED, attempts=0, next_attempt_at=now(), error=""
        )
        if again:
            ring("channels.tasks.drain_effects", str(account.pk))
            return True
        return _plan(account, refund.order, Kind.REFUND, refund.number, key, {"refund": refund.pk})


def plan_cancel(
    order_id: int, lines: Sequence[Mapping[str, Any]], reason: str, whole: bool, key: str
) -> bool:
    """Tell the channel of units that we cancelled; `key` makes the same decision one effect."""
    order = Order.objects.select_related("channel").filter(pk=order_id).first()
    account = _account_of(order) if order else None
    if order is None or account is None or order.fulfilled_by != Order.FulfilledBy.US:
        return False
    payload = {
        "items": [[line["external_id"], line["quantity"]] for line in lines],
        "reason": reason,
        "whole": whole,
    }
    with transaction.atomic():
        return _plan(account, order, Kind.CANCEL, f"CX-{key}", f"cancel:{order.pk}:{key}", payload)


def plan_acknowledge(order_ids: Iterable[int]) -> int:
    """Acknowledge new orders where the channel asks for it. One query where no channel does, two for any batch else."""
    rows = ChannelAccount.objects.exclude(state=ChannelAccount.State.DISABLED)
    asking = {
        account.sales_channel_id: account
        for account in rows
        if get_connector(account.connector).capabilities.acknowledge
    }
    made = 0
    if asking:
        for order in Order.objects.filter(pk__in=list(order_ids), channel__in=asking).select_related(
            "channel"
        ):
            key = f"acknowledge:{order.pk}"
            with transaction.atomic():
                made += _plan(asking[order.channel_id], order, Kind.ACKNOWLEDGE, order.number, key, {})
    return made


# --- draining --------------------------------------------------------------------------------------


def drain(account_id: int) -> int:
    """Send, prove and look up everything that is due for an account; returns how many were touched."""
    account = ChannelAccount.objects.select_related("sales_channel").filter(pk=account_id).first()
    if account is None or account.state != ChannelAccount.State.CONNECTED:
        return 0
    touched = 0
    for _ in range(10):
        effects = _claim(account_id)
        if not effects:
            break
        for effect in effects:
            try:
                _step(account, effect)
            except ChannelError as error:
                _put_off(effect, error.message, wait=max(error.retry_after or 0, 30))
            except Exception as error:
                log.exception("effect failed", extra={"effect": effect.pk})
                _put_off(effect, f"{type(error).__name__}: {error}", wait=60)
            touched += 1
    return touched


def _claim(account_id: int) -> list[ChannelEffect]:
    at = now()
    open_states = (State.PLANNED, State.SENT, State.IN_DOUBT)
    due = ChannelEffect.objects.filter(
        Q(lease_until__isnull=True) | Q(lease_until__lte=at),
        account=account_id,
        state__in=open_states,
        next_attempt_at__lte=at,
    )
    ids = list(due.order_by("next_attempt_at", "pk").values_list("pk", flat=True)[:BATCH])
    if not ids:
        return []
    until = at + CLAIM + dt.timedelta(microseconds=random.randrange(1_000_000))
    due.filter(pk__in=ids).update(lease_until=until)
    return list(
        ChannelEffect.objects.filter(pk__in=ids, lease_until=until)
        .select_related("order__channel")
        .order_by("pk")
    )


def try_again(account_ids: Collection[int]) -> int:
    """These accounts answer again: effects that failed before they were sent are due now. Returns how many.

    What was sent keeps the times of its proofs.
    """
    at = now()
    waiting = ChannelEffect.objects.filter(
        account__in=account_ids, state=State.PLANNED, lease_until__isnull=True, next_attempt_at__gt=at
    ).exclude(error="")
    return waiting.update(next_attempt_at=at)


def _put_off(effect: ChannelEffect, error: str, *, wait: float) -> None:
    ChannelEffect.objects.filter(pk=effect.pk).update(
        error=error[:400],
        lease_until=None,
        next_attempt_at=now() + dt.timedelta(seconds=wait * random.uniform(0.9, 1.1)),
    )


def _step(account: ChannelAccount, effect: ChannelEffect) -> None:
    connector = get_connector(account.connector)
    if effect.state == State.PLANNED:
        _send(account, connector, effect)
    else:
        _prove(account, connector, effect)


def _send(account: ChannelAccount, connector: Connector, effect: ChannelEffect) -> None:
    try:
        request = _request(connector, effect)
    except UserError as error:
        _rejected(account, effect, error.message)
        return
    if request is None:
        _put_off(effect, "there is no tracking number yet", wait=120)
        return
    if isinstance(request, RefundOrder | CancelOrder) and not request.mark:
        kind = Kind(effect.kind).value
        if kind in connector.capabilities.marked:
            request = _marked(account, effect, request)
    # written before the call: whoever finds this row later knows that the channel may have been asked
    ChannelEffect.objects.filter(pk=effect.pk).update(
        state=State.SENT, sent_at=now(), attempts=effect.attempts + 1, error=""
    )
    effect.attempts += 1
    try:
        external_id = do(account.pk, lambda c, access: _operation(c, access, request))
    except ChannelError as error:
        _not_sent(account, effect, error)
        return
    ChannelEffect.objects.filter(pk=effect.pk).update(
        external_id=str(external_id or effect.external_id)[:120], lease_until=None,
        next_attempt_at=now() + dt.timedelta(seconds=PROOFS[0]),
    )  # fmt: skip
    if effect.kind == Kind.REFUND:
        _refund_moves(effect, "sent")
    if effect.kind == Kind.ACKNOWLEDGE:
        _confirmed(effect, str(external_id or ""))


def _marked(
    account: ChannelAccount, effect: ChannelEffect, request: RefundOrder | CancelOrder
) -> RefundOrder | CancelOrder:
    """Keep what the channel shows before the first send. Raises `ChannelError`: then nothing was sent."""
    mark = do(account.pk, lambda connector, access: connector.mark(access, request))
    effect.payload = {**effect.payload, "mark": mark}
    ChannelEffect.objects.filter(pk=effect.pk).update(payload=effect.payload)
    return replace(request, mark=mark)


def _not_sent(account: ChannelAccount, effect: ChannelEffect, error: ChannelError) -> None:
    if error.kind is Retry.REJECTED:
        _rejected(account, effect, error.message)
        return
    if error.kind in (Retry.IN_DOUBT, Retry.STALE):
        ChannelEffect.objects.filter(pk=effect.pk).update(
            state=State.IN_DOUBT, error=error.message[:400], lease_until=None, attempts=0,
            next_attempt_at=now() + dt.timedelta(seconds=PROOFS[0]),
        )  # fmt: skip
        if effect.kind == Kind.REFUND:
            _refund_moves(effect, "in_doubt", error.message)
        return
    # nothing happened there: back to the start, as often as it takes
    wait = error.retry_after if error.retry_after else min(2 ** min(effect.attempts, 9), 600)
    ChannelEffect.objects.filter(pk=effect.pk).update(state=State.PLANNED)
    _put_off(effect, error.message, wait=wait)


def _prove(account: ChannelAccount, connector: Connector, effect: ChannelEffect) -> None:
    """Read back. Seen = confirmed; not seen after a while = in doubt; in doubt and not seen = see `_absent`."""
    try:
        request = _request(connector, effect)
        if request is None:
            raise UserError("the parcel has no label any more")
        proof = do(account.pk, lambda c, access: _look_up(c, access, request))
    except UserError as error:
        _rejected(account, effect, error.message)
        return
    except ChannelError as error:
        if error.kind is Retry.REJECTED:
            _rejected(account, effect, error.message)
        else:
            _put_off(effect, error.message, wait=error.retry_after or PROOFS[2])
        return
    if proof is not None:
        _confirmed(effect, proof)
        return
    looks = effect.payload.get("looks", 0) + 1
    effect.payload = {**effect.payload, "looks": looks}
    ChannelEffect.objects.filter(pk=effect.pk).update(payload=effect.payload)
    if looks < LOOKS or (effect.state == State.SENT and looks < len(PROOFS)):
        _put_off(effect, "the channel does not show it yet", wait=PROOFS[min(looks, len(PROOFS) - 1)])
        return
    _absent(account, connector, effect)


def _absent(account: ChannelAccount, connector: Connector, effect: ChannelEffect) -> None:
    """The channel keeps showing nothing: send once more where that is guarded, else ask a person."""
    sends = effect.payload.get("sends", 1)
    if effect.kind in connector.capabilities.repeatable and sends < MAX_SENDS:
        ChannelEffect.objects.filter(pk=effect.pk).update(
            state=State.PLANNED, payload={**effect.payload, "looks": 0, "sends": sends + 1},
            lease_until=None, next_attempt_at=now(), error="the channel does not show it: sent again",
        )  # fmt: skip
        return
    ChannelEffect.objects.filter(pk=effect.pk).update(
        state=State.IN_DOUBT, lease_until=None, next_attempt_at=now() + dt.timedelta(hours=1),
        error="the channel took the request, but shows nothing of it",
    )  # fmt: skip
    if effect.kind == Kind.REFUND:
        _refund_moves(effect, "in_doubt", "the channel shows no such refund")
    what = f"{_WORDS[Kind(effect.kind)].capitalize()} {effect.reference}"
    _tell(
        account,
        effect,
        "in_doubt",
        f"{what} is not shown by {account.sales_channel.name}",
        "The request was sent, but the channel shows nothing of it. Look there, then say what is true.",
    )


# --- one request -----------------------------------------------------------------------------------

Request = Confirmation | RefundOrder | CancelOrder | str


def _request(connector: Connector, effect: ChannelEffect) -> Request | None:
    """What is to be sent, built from the books; None = not yet possible. Raises `UserError` when it never will be."""
    rules, order = connector.capabilities, effect.order
    if effect.kind == Kind.SHIP:
        return _confirmation(connector, effect)
    if effect.kind == Kind.REFUND:
        if not rules.refund:
            raise UserError(
                f"{connector.name} takes no refunds from us: refund there, then mark it as done here."
            )
        refund = Refund.objects.get(pk=effect.payload["refund"])
        lines = refund.lines.select_related("order_line").order_by("pk")
        return RefundOrder(
            order_external_id=order.external_id, reference=refund.number, key=str(refund.key),
            amount=_money(refund.amount), shipping=_money(refund.shipping), currency=refund.currency,
            fee=_money(refund.restocking_fee), reason=refund.reason, external_id=effect.external_id,
            mark=effect.payload.get("mark", ""),
            items=tuple(RefundItem(line.order_line.external_id, line.quantity, _money(line.amount)) for line in lines),
        )  # fmt: skip
    if effect.kind == Kind.CANCEL:
        if not rules.cancel:
            raise UserError(
                f"{connector.name} takes no cancellations from us: cancel there, then mark it as done here."
            )
        items = (
            () if effect.payload.get("whole") else tuple(ShipItem(n, q) for n, q in effect.payload["items"])
        )
        return CancelOrder(
            order.external_id,
            effect.reference,
            effect.payload.get("reason", ""),
            items,
            effect.external_id,
            effect.payload.get("mark", ""),
        )
    return order.external_id


def _money(amount: Decimal) -> Decimal:
    """Without the zeros that only our column has; at least two decimals as channels write them."""
    normal = amount.normalize()
    exponent = normal.as_tuple().exponent
    return normal if isinstance(exponent, int) and exponent < -2 else amount.quantize(Decimal("0.01"))


def _confirmation(connector: Connector, effect: ChannelEffect) -> Confirmation | None:
    parcel = Parcel.objects.select_related("shipment").filter(pk=effect.payload["parcel"]).first()
    label = (
        LabelPurchase.objects.select_related("account")
        .filter(parcel=effect.payload["parcel"], state=LabelPurchase.State.PURCHASED)
        .first()
    )
    if parcel is None or label is None or not label.tracking_number:
        return None
    carrier = label.account
    named = str(carrier.config.get("carrier_code") or "")
    names = [name for name in (named, carrier.connector, carrier.code) if name]
    code = next(
        (
            connector.capabilities.carriers[n.upper()]
            for n in names
            if n.upper() in connector.capabilities.carriers
        ),
        None,
    )
    code = code or connector.capabilities.carrier("", carrier.name)
    if not code:
        known = ", ".join(sorted(set(connector.capabilities.carriers.values())))
        raise UserError(
            f"carrier: {connector.name} does not know '{carrier.name}'. "
            f"Give the carrier account a carrier_code out of: {known}."
        )
    told = effect.payload["items"]
    skus = dict(
        OrderLine.objects.filter(
            order=effect.order_id, external_id__in=[name for name, _ in told]
        ).values_list("external_id", "external_sku")
    )
    return Confirmation(
        order_external_id=effect.order.external_id, reference=str(parcel.pk), carrier=code, carrier_name=carrier.name,
        service=label.service_code, tracking_number=label.tracking_number,
        tracking_url=_tracking_url(carrier.config, label.tracking_number),
        shipped_at=dt.datetime.fromisoformat(effect.payload["shipped_at"]),
        items=tuple(ShipItem(name, units, skus.get(name, "")) for name, units in told),
        location_id=effect.payload.get("location_id", ""), order_number=effect.order.external_number,
    )  # fmt: skip


def _tracking_url(config: Mapping[str, Any], number: str) -> str:
    pattern = str(config.get("tracking_url") or "")
    return pattern.replace("{number}", number) if pattern.startswith("https://") else ""


def _operation(connector: Connector, access: Any, request: Request) -> Any:
    if isinstance(request, Confirmation):
        return connector.confirm_shipment(access, request)
    if isinstance(request, RefundOrder):
        return connector.refund(access, request)
    if isinstance(request, CancelOrder):
        return connector.cancel(access, request)
    return connector.acknowledge(access, request)


def _look_up(connector: Connector, access: Any, request: Request) -> Any:
    """An operation whose value is the proof, or None."""
    if isinstance(request, Confirmation):
        return connector.read_shipment(access, request)
    if isinstance(request, RefundOrder):
        return connector.find_refund(access, request)
    if isinstance(request, str):
        return _acknowledged(connector, access, request)
    return _is_cancelled(connector, access, request)


def _acknowledged(connector: Connector, access: Any, external_id: str) -> Any:
    """An order says nowhere who acknowledged it: saying it again does no harm and proves it."""
    yield from connector.acknowledge(access, external_id)
    return "acknowledged"


def _is_cancelled(connector: Connector, access: Any, request: CancelOrder) -> Any:
    done = yield from connector.cancelled(access, request)
    return request.external_id or "cancelled" if done else None


# --- what follows ----------------------------------------------------------------------------------


def _actor(effect: ChannelEffect) -> Actor:
    return Actor("channel", effect.order.channel.name)


def _confirmed(effect: ChannelEffect, proof: str, *, actor: Actor | None = None) -> None:
    actor = actor or _actor(effect)
    with transaction.atomic():
        changed = (
            ChannelEffect.objects.filter(pk=effect.pk)
            .exclude(state=State.CONFIRMED)
            .update(
                state=State.CONFIRMED,
                external_id=(proof or effect.external_id)[:120],
                confirmed_at=now(),
                lease_until=None,
                error="",
            )
        )
        if not changed:
            return
        timeline.add(
            effect.order_id, "channel",
            f"{effect.order.channel.name} shows the {_WORDS[Kind(effect.kind)]} {effect.reference}",
            actor=actor,
        )  # fmt: skip
        if effect.kind == Kind.REFUND:
            refunds.confirm(effect.payload["refund"], actor=actor, external_id=proof[:80])
        close_item(f"effect:{effect.pk}", "the channel shows it", actor=actor)


def _rejected(account: ChannelAccount, effect: ChannelEffect, message: str) -> None:
    with transaction.atomic():
        ChannelEffect.objects.filter(pk=effect.pk).update(
            state=State.REJECTED, error=message[:400], lease_until=None
        )
        timeline.add(
            effect.order_id,
            "channel",
            f"{account.sales_channel.name} refused the {_WORDS[Kind(effect.kind)]} {effect.reference}: {message}"[
                :400
            ],
            actor=_actor(effect),
        )
        if effect.kind == Kind.REFUND:
            _refund_moves(effect, "rejected", message)
        _tell(
            account,
            effect,
            "rejected",
            f"{account.sales_channel.name} refuses the {_WORDS[Kind(effect.kind)]} {effect.reference}",
            message,
        )


def _refund_moves(effect: ChannelEffect, to: str, error: str = "") -> None:
    """Keep the refund's own machine in step."""
    refund_id, actor = effect.payload["refund"], _actor(effect)
    state = Refund.objects.values_list("state", flat=True).get(pk=refund_id)
    if to in ("sent", "in_doubt") and state == Refund.State.PLANNED:
        refunds.mark_sent(refund_id, actor=actor)
        state = Refund.State.SENT
    if to == "in_doubt" and state == Refund.State.SENT:
        refunds.mark_in_doubt(refund_id, actor=actor, error=error)
    elif to == "rejected" and state != Refund.State.CONFIRMED:
        refunds.reject(refund_id, actor=actor, error=error)


def _tell(account: ChannelAccount, effect: ChannelEffect, why: str, title: str, detail: str) -> None:
    urgent = effect.kind == Kind.SHIP
    with transaction.atomic():
        emit("sync.failed", f"effect:{effect.pk}", detail=detail)
    raise_item(
        f"effect_{why}", f"effect:{effect.pk}", title, detail=detail,
        severity=ExceptionItem.Severity.HIGH if urgent else ExceptionItem.Severity.NORMAL,
        object_url=f"/orders/{effect.order_id}/", channel_code=account.sales_channel.code, due_at=effect.order.ship_by,
    )  # fmt: skip


# --- people ----------------------------------------------------------------------------------------


def retry(effect_id: int, *, actor: Actor) -> ChannelEffect:
    """Send a refused effect again after its cause was mended. Raises `NotFound`, `Conflict`."""
    with transaction.atomic():
        effect = _open(effect_id, (State.REJECTED, State.PLANNED))
        if effect.kind == Kind.REFUND and effect.state == State.REJECTED:
            refunds.retry(effect.payload["refund"], actor=actor)
        payload = {**effect.payload, "looks": 0, "sends": 1}
        ChannelEffect.objects.filter(pk=effect_id).update(
            state=State.PLANNED,
            attempts=0,
            next_attempt_at=now(),
            lease_until=None,
            error="",
            payload=payload,
        )
        record(actor, "effect.retried", effect)
        close_item(f"effect:{effect_id}", "sent again", actor=actor)
        ring("channels.tasks.drain_effects", str(effect.account_id))
    effect.refresh_from_db()
    return effect


def decide(effect_id: int, *, happened: bool, external_id: str = "", actor: Actor) -> ChannelEffect:
    """A person looked on the channel: it happened, or it did not and may be sent again.

    Raises `NotFound`, `Conflict`.
    """
    effect = _open(effect_id, (State.IN_DOUBT, State.REJECTED, State.SENT))
    if happened:
        with transaction.atomic():
            record(actor, "effect.confirmed_by_hand", effect, after={"external_id": external_id})
            if effect.kind == Kind.REFUND:
                _reopen_refund(effect, actor)
            _confirmed(effect, external_id, actor=actor)
    else:
        with transaction.atomic():
            record(actor, "effect.not_happened", effect)
            ChannelEffect.objects.filter(pk=effect_id).update(
                state=State.REJECTED, error="it did not happen on the channel"
            )
            if effect.kind == Kind.REFUND:
                _refund_moves(effect, "rejected", "it did not happen on the channel")
            retry(effect_id, actor=actor)
    effect.refresh_from_db()
    return effect


def _reopen_refund(effect: ChannelEffect, actor: Actor) -> None:
    if Refund.objects.filter(pk=effect.payload["refund"], state=Refund.State.REJECTED).exists():
        refunds.retry(effect.payload["refund"], actor=actor)


def _open(effect_id: int, states: Sequence[str]) -> ChannelEffect:
    effect = ChannelEffect.objects.select_related("order__channel").filter(pk=effect_id).first()
    if effect is None:
        raise NotFound("effect: no such effect.", field="effect")
    if effect.state not in states:
        raise Conflict(
            f"effect: {effect.reference} is {effect.get_state_display().lower()}; nothing is to be decided.",
            field="effect",
        )
    return effect
