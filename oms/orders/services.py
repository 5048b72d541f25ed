"""What people, rules and tasks do to an order: holds, cancellations, mapping, tags, notes.

Every function is one short transaction under the order's lock, writes its timeline line and tells the
floors above through the outbox. Screens, API and tasks all call these.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from inventory import reservations
from inventory.locking import retrying, stock_transaction
from inventory.models import Sku, SkuAlias
from inventory.reservations import ReserveLine
from oms.core.access import can, require
from oms.core.actor import Actor, task_actor
from oms.core.clock import now, plausible
from oms.core.errors import Conflict, NotAllowed, NotFound, UserError, about
from oms.core.exceptions_inbox import close_item
from oms.core.outbox import emit, emit_many
from oms.orders import holding, intake, states, timeline, upkeep
from oms.orders.drafts import OrderDraft
from oms.orders.models import Allocation, Hold, Order, OrderLine, SalesChannel
from oms.orders.validation import MAX_TAGS, clean

T = TypeVar("T")

#: why a unit is not sent; connectors translate these into each channel's own list
CANCEL_REASONS: dict[str, str] = {
    "buyer": "Buyer asked to cancel",
    "no_stock": "Out of stock",
    "fraud": "Suspected fraud",
    "address": "Address cannot be delivered",
    "price": "Wrong price",
    "duplicate": "Duplicate order",
    "other": "Other",
}

#: holds that nobody releases by being able to edit orders only
GUARDED = frozenset({Hold.Reason.FRAUD, Hold.Reason.PAYMENT})


def _run(work: Callable[[], T]) -> T:
    def transaction() -> T:
        with stock_transaction():
            return work()

    return retrying(transaction)


# --- holds --------------------------------------------------------------------------------------


def place_hold(
    order_id: int,
    reason: str,
    *,
    actor: Actor,
    note: str = "",
    line_id: int | None = None,
    expires_at: dt.datetime | None = None,
) -> Hold:
    """Put an order, or one of its lines, on hold; stock stays reserved. The same reason twice is one hold.

    Raises `UserError` for an unknown reason, a line of another order or an expiry in the past, `Conflict`
    when nothing is left to hold back, `NotFound`.
    """
    if reason not in Hold.Reason.values:
        raise UserError(
            f"reason: '{reason}' is unknown; use one of {', '.join(Hold.Reason.values)}.", field="reason"
        )
    if expires_at is not None and expires_at <= now():
        raise UserError("expires_at: choose a time in the future.", field="expires_at")
    plausible("expires_at", expires_at)

    def work() -> Hold:
        order = upkeep.lock(order_id)
        if order.state in states.FINAL:
            raise Conflict(
                f"{order.number} is {order.get_state_display().lower()}: there is nothing to hold back.",
                field="state",
            )
        if line_id is not None and not OrderLine.objects.filter(pk=line_id, order=order).exists():
            raise UserError(f"line: {order.number} has no line {line_id}.", field="line")
        known = Hold.objects.filter(
            order=order, line=line_id, reason=reason, released_at__isnull=True
        ).first()
        if known is not None:
            return known
        hold = Hold.objects.create(
            order=order, line_id=line_id, reason=reason, note=clean(note, 255), placed_by=str(actor), placed_at=now(),
            expires_at=expires_at,
        )  # fmt: skip
        text = f"On hold: {hold.get_reason_display()}{' – ' + hold.note if hold.note else ''}"
        timeline.add(order.pk, "hold", text, actor=actor, data={"reason": reason, "line": line_id})
        upkeep.settle(order, actor=actor, changed=["hold"])
        return hold

    return _run(work)


def release_hold(hold_id: int, *, actor: Actor, principal: Any = None, note: str = "") -> Hold:
    """Take one hold away; the order goes on when it was the last. Repeating it changes nothing.

    People and tokens (`principal`: the user or token behind `actor`) need the right to release holds for
    fraud and payment, and the right to hold or release for the others. Raises `NotAllowed`, `NotFound`.
    """

    def work() -> Hold:
        hold = Hold.objects.select_related("order__channel").filter(pk=hold_id).first()
        if hold is None:
            raise NotFound("hold: there is no such hold.", field="hold")
        may_release(hold, actor, principal)
        return _release([hold.pk], hold.order_id, actor=actor, note=note)[0]

    return _run(work)


def release_holds(
    order_id: int,
    *,
    actor: Actor,
    principal: Any = None,
    note: str = "",
    reasons: Iterable[str] | None = None,
) -> list[Hold]:
    """Take away every open hold of the order (or those of `reasons`); none when one of them may not be."""

    def work() -> list[Hold]:
        wanted = Hold.objects.select_related("order__channel").filter(
            order=order_id, released_at__isnull=True
        )
        holds = list(wanted if reasons is None else wanted.filter(reason__in=list(reasons)))
        for hold in holds:
            may_release(hold, actor, principal)
        return _release([hold.pk for hold in holds], order_id, actor=actor, note=note) if holds else []

    return _run(work)


def may_release(hold: Hold, actor: Actor, principal: Any) -> None:
    """Raise `NotAllowed` when a person or token behind `actor` may not release this hold."""
    if actor.kind not in ("user", "token"):
        return
    if principal is None:
        raise NotAllowed("hold: nobody is known behind this release.")
    code = hold.order.channel.code
    if hold.reason in GUARDED or not can(principal, "orders.hold", channel_code=code):
        require(principal, "orders.release", channel_code=code)


def _release(hold_ids: Sequence[int], order_id: int, *, actor: Actor, note: str) -> list[Hold]:
    order = upkeep.lock(order_id)
    opened = list(Hold.objects.filter(pk__in=hold_ids, released_at__isnull=True))
    Hold.objects.filter(pk__in=[hold.pk for hold in opened]).update(released_at=now(), released_by=str(actor))
    for hold in opened:
        text = f"Hold released: {hold.get_reason_display()}{' – ' + clean(note, 200) if note else ''}"
        timeline.add(order.pk, "hold", text, actor=actor, data={"reason": hold.reason})
    if opened:
        if order.buyer_cancel_requested and any(hold.reason == Hold.Reason.BUYER_CANCEL for hold in opened):
            # a person decided to ship in spite of the request
            Order.objects.filter(pk=order.pk).update(buyer_cancel_requested=False)
            order.buyer_cancel_requested = False
        upkeep.settle(order, actor=actor, changed=["hold"])
    return list(Hold.objects.filter(pk__in=hold_ids).order_by("pk"))


def release_expired_holds(*, at: dt.datetime | None = None, limit: int = 500) -> int:
    """Release holds whose time is over (cancellation windows, holds until a date). Returns how many."""
    moment = at or now()
    due = list(
        Hold.objects.filter(released_at__isnull=True, expires_at__lte=moment).order_by("expires_at", "pk")[
            :limit
        ]
    )
    by_order: dict[int, list[int]] = {}
    for hold in due:
        by_order.setdefault(hold.order_id, []).append(hold.pk)
    for order_id, hold_ids in sorted(by_order.items()):
        _run(partial(_release, hold_ids, order_id, actor=task_actor("holds"), note="its time is over"))
    return len(due)


# --- cancelling ---------------------------------------------------------------------------------


def cancel_lines(
    order_id: int,
    quantities: Mapping[int, int] | None = None,
    *,
    reason: str,
    actor: Actor,
    note: str = "",
    tell_channel: bool = True,
) -> Order:
    """Cancel units by line id, or with None everything not shipped; their stock is free at once.

    The channel is told through the outbox with the reason. A label bought for these units is voided by the
    floor above. Units that left already cannot be cancelled: they come back as a return.

    Raises `UserError` (reason, line, quantity), `Conflict` (more than is open), `NotFound`.
    """
    if reason not in CANCEL_REASONS:
        raise UserError(
            f"reason: '{reason}' is unknown; use one of {', '.join(CANCEL_REASONS)}.", field="reason"
        )

    def work() -> Order:
        order = upkeep.lock(order_id)
        lines = {
            line.pk: line
            for line in OrderLine.objects.filter(order=order).select_related("sku").order_by("id")
        }
        wanted = _to_cancel(order, lines, quantities)
        if not wanted:
            if order.state == Order.State.CANCELLED:
                return order
            raise Conflict(
                f"{order.number}: nothing is left to cancel; shipped units come back as a return.",
                field="lines",
            )
        parts = holding.parts_by_line([pk for pk in wanted if lines[pk].reserved])
        give: dict[int, int] = {}
        texts = []
        for pk, units in wanted.items():
            line = lines[pk]
            line.cancelled += units
            line.cancelled_here += units
            room = line.outstanding
            line.short = min(line.short, max(0, room - line.reserved)) if line.reserved <= room else 0
            if line.reserved > room:
                line.reserved = room
                give.update(holding.surplus(parts[pk], room))
            texts.append(f"{units} × {line.sku or line.external_sku or line.title}")
        OrderLine.objects.bulk_update(
            [lines[pk] for pk in wanted], ["cancelled", "cancelled_here", "reserved", "short"]
        )
        whole = all(
            not line.outstanding and not line.shipped
            for line in lines.values()
            if line.kind == OrderLine.Kind.PRODUCT
        )
        if whole:
            order.cancel_reason = reason
            _drop_holds(order, actor)
        words = f"Cancelled {', '.join(texts)}: {CANCEL_REASONS[reason]}{' – ' + clean(note, 150) if note else ''}"
        timeline.add(
            order.pk,
            "cancelled",
            words,
            actor=actor,
            data={"reason": reason, "lines": {str(k): v for k, v in wanted.items()}},
        )
        if tell_channel and order.channel.kind != SalesChannel.Kind.MANUAL:
            told = [
                {"line_id": pk, "external_id": lines[pk].external_id, "quantity": units}
                for pk, units in sorted(wanted.items())
            ]
            emit("order.cancel_to_channel", str(order.pk), lines=told, reason=reason, whole=whole)
        upkeep.settle(order, actor=actor, changed=["lines"])
        if give:
            reservations.release(give, actor=actor, reason="cancelled")
        return order

    return _run(work)


def _to_cancel(
    order: Order, lines: Mapping[int, OrderLine], quantities: Mapping[int, int] | None
) -> dict[int, int]:
    """Units by line id, None = everything that is open. Raises `UserError`, `Conflict`."""
    if quantities is None:
        return {pk: line.outstanding for pk, line in lines.items() if line.outstanding}
    for pk, units in quantities.items():
        with about(pk):
            line = lines.get(pk)
            if line is None:
                raise UserError(f"lines: {order.number} has no line {pk}.", field="line")
            if isinstance(units, bool) or not isinstance(units, int) or units < 1:
                raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
            if units > line.outstanding:
                raise Conflict(
                    f"quantity: {units} of {line.sku or line.external_sku} asked, but only {line.outstanding} of "
                    f"{line.quantity} can still be cancelled ({line.shipped} shipped, {line.cancelled} cancelled).",
                    field="quantity",
                )
    return dict(quantities)


def _drop_holds(order: Order, actor: Actor) -> None:
    Hold.objects.filter(order=order, released_at__isnull=True).update(
        released_at=now(), released_by=str(actor)
    )


# --- mapping ------------------------------------------------------------------------------------


def map_external_sku(
    channel: SalesChannel,
    external_sku: str,
    sku_id: int,
    *,
    actor: Actor,
    remember: bool = False,
    pack_size: int = 1,
) -> int:
    """Tell what an unknown code of a channel means and repair every order that waits for it.

    One sold unit of the code holds `pack_size` of the SKU.
    `remember` stores the code as an alias, so that it is known next time on every channel. Returns how many
    lines were repaired. Raises `UserError` for an unknown SKU, an empty code, or an alias that belongs to
    another SKU.
    """
    code = clean(external_sku, 120)
    sku = Sku.objects.filter(pk=sku_id).select_related("merged_into").first()
    if not code:
        raise UserError("external_sku: give the code that the channel sends.", field="external_sku")
    if sku is None:
        raise UserError(f"sku: there is no SKU with id {sku_id}.", field="sku")
    sku = sku.merged_into or sku
    if remember:
        _remember(code, sku)
    waiting = list(
        OrderLine.objects.filter(
            order__channel=channel, external_sku__iexact=code, sku__isnull=True, kind=OrderLine.Kind.PRODUCT
        )
        .order_by("order_id", "id")
        .values_list("order_id", "id")
    )
    orders: dict[int, list[int]] = {}
    for order_id, line_id in waiting:
        orders.setdefault(order_id, []).append(line_id)
    repaired = 0
    for order_id, line_ids in orders.items():
        repaired += _run(partial(_map_lines, order_id, line_ids, sku, pack_size, actor))
    close_item(upkeep.unmapped_key(channel, code), f"mapped to {sku.code}", actor=actor)
    return repaired


def _remember(code: str, sku: Sku) -> None:
    if len(code) > 80:
        raise UserError(
            "external_sku: only codes of at most 80 characters can be remembered.", field="external_sku"
        )
    other = SkuAlias.objects.filter(value__iexact=code).select_related("sku").first()
    taken = Sku.objects.filter(code__iexact=code).exclude(pk=sku.pk).first() or (
        other.sku if other is not None and other.sku_id != sku.pk else None
    )
    if taken is not None:
        raise UserError(f"external_sku: '{code}' already means {taken.code}.", field="external_sku")
    if other is None and code.upper() != sku.code.upper():
        SkuAlias.objects.create(sku=sku, value=code)


def _map_lines(order_id: int, line_ids: Sequence[int], sku: Sku, pack_size: int, actor: Actor) -> int:
    order = upkeep.lock(order_id)
    lines = list(OrderLine.objects.filter(pk__in=line_ids, sku__isnull=True).order_by("id"))
    wants = holding.wants_stock(order, order.channel, paid=order.state != Order.State.PENDING)
    asks: dict[str, OrderLine] = {}
    for line in lines:
        line.sku, line.kind, line.pack_size = sku, holding.kind_of(sku), pack_size
        if wants and line.outstanding and holding.holds_stock(line):
            asks[holding.reference(order, line)] = line
    places = holding.candidates(order.channel_id) if asks else ()
    wanted = [
        ReserveLine(
            name,
            sku.pk,
            line.outstanding,
            places,
            promise_at=holding.promise(order),
            channel_code=order.channel.code,
            min_shelf_days=order.channel.min_shelf_life_days,
            pack=line.pack_size,
            mcf=True,
        )  # fmt: skip
        for name, line in asks.items()
    ]
    links = []
    for result in reservations.reserve(wanted, actor=actor):
        line = asks[result.reference]
        line.reserved, line.short = result.reserved, result.short
        line.short_at_entry = result.short
        links += [
            Allocation(line=line, reservation_id=part.reservation_id, per_unit=part.per_unit)
            for part in result.parts
        ]
    OrderLine.objects.bulk_update(lines, ["sku", "kind", "pack_size", "reserved", "short", "short_at_entry"])
    Allocation.objects.bulk_create(links)
    if lines:
        short = sum(line.short for line in lines)
        text = f"{lines[0].external_sku} is mapped to SKU {sku.code}{f'; {short} short' if short else ''}"
        timeline.add(order.pk, "lines", text, actor=actor)
        upkeep.settle(order, actor=actor, changed=["lines"], reroute=True)
    return len(lines)


# --- words --------------------------------------------------------------------------------------


def set_tags(order_id: int, tags: Iterable[str], *, actor: Actor) -> list[str]:
    """Replace the order's tags (at most 50, 40 characters each). Raises `NotFound`, `UserError`."""
    cleaned = list(dict.fromkeys(tag for raw in tags if (tag := clean(raw, 40))))
    if len(cleaned) > MAX_TAGS:
        raise UserError(f"tags: at most {MAX_TAGS} tags.", field="tags")

    def work() -> list[str]:
        order = upkeep.lock(order_id)
        if order.tags != cleaned:
            before = order.tags
            Order.objects.filter(pk=order.pk).update(tags=cleaned)
            text = f"Tags: {', '.join(cleaned) or 'none'}"
            timeline.add(order.pk, "tags", text, actor=actor, data={"before": before, "after": cleaned})
            emit_many([("order.changed", str(order.pk), {"changed": ["tags"]})])
        return cleaned

    return _run(work)


def add_note(order_id: int, text: str, *, actor: Actor) -> None:
    """Write a note for the team on the timeline. Raises `UserError` for an empty one, `NotFound`."""
    words = clean(text, 400, lines=True)
    if not words:
        raise UserError("note: write something first.", field="note")
    if not Order.objects.filter(pk=order_id).exists():
        raise NotFound(f"order: there is no order with id {order_id}.", field="order")
    timeline.add(order_id, "note", words, actor=actor)


def request_route(order_id: int, *, actor: Actor) -> None:
    """Ask routing to look at the order again. Raises `Conflict` with what stands in the way, `NotFound`."""

    def work() -> None:
        order = upkeep.lock(order_id)
        if order.holds_open:
            raise Conflict(f"{order.number} is on hold: release its holds first.", field="order")
        if order.unmapped_lines:
            raise Conflict(f"{order.number} has an unknown SKU: map it first.", field="order")
        if order.fulfilled_by == Order.FulfilledBy.CHANNEL:
            raise Conflict(f"{order.number} is shipped by the channel.", field="order")
        if order.state not in (Order.State.OPEN, Order.State.ROUTED, Order.State.PART_SHIPPED):
            raise Conflict(
                f"{order.number} is {order.get_state_display().lower()}: there is nothing to route.",
                field="order",
            )
        timeline.add(order.pk, "route", "Routing asked for", actor=actor)
        emit("order.route", str(order.pk))

    _run(work)


def create_order(draft: OrderDraft, *, channel: SalesChannel, actor: Actor, source: str) -> Order:
    """Enter one order by hand or through the API. Raises `UserError` with the sentence that refuses it,
    `Conflict` when the channel has an order with this external id already.
    """

    def work() -> Order:
        answer = intake.take([draft], channel=channel, actor=actor, source=source)[0]
        if answer.order_id is None:
            raise UserError(answer.message)
        if answer.outcome != "created":
            raise entered_before(channel, draft.external_id)
        return Order.objects.select_related("channel").get(pk=answer.order_id)

    return _run(work)


def entered_before(channel: SalesChannel, external_id: str) -> Conflict:
    """The refusal of an external id that the channel has already."""
    return Conflict(f"external_id: {channel.name} has an order '{external_id}' already.", field="external_id")


def new_external_id() -> str:
    """An id for an order that no channel numbered."""
    return uuid.uuid4().hex[:16]
