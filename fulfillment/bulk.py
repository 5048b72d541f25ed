"""One action of fulfillment on many orders: another warehouse, labels, a pick list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction

from fulfillment import labels, picking, rates, routing_service
from fulfillment.documents.page import Document
from fulfillment.documents.pick_list import Pick, PickList, pick_list
from fulfillment.models import LabelPurchase, RateQuote, Shipment
from inventory.models import Warehouse
from oms.core.access import require, scope_of
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import Conflict, UserError
from oms.core.jobs import Run, job_handler, start_job
from oms.core.models import Job, JobRow, User
from oms.core.words import some
from oms.orders import bulk as orders_bulk
from oms.orders import selectors
from oms.orders.models import Order

#: shipments that a label is bought for, or was
_FOR_LABELS = (Shipment.State.PACKED, Shipment.State.LABELLED)
_TO_PACK = {Shipment.State.READY, Shipment.State.PICKING}
_GONE = {Shipment.State.SHIPPED, Shipment.State.DELIVERED}
#: one pick list is one walk: more shipments fit no trolley
MOST_ON_A_LIST = 100


def start(action: str, order_ids: Sequence[int], params: dict[str, Any], *, actor: Actor) -> Job:
    """Assign a warehouse (`assign`: warehouse id, reason) or buy labels (`labels`) as a job, a result per order.

    Raises `UserError` for what no order could do: no reason, no such warehouse, too many orders; `Conflict` when none
    of them is packed.
    """
    if len(order_ids) > orders_bulk.MOST:
        raise UserError(
            f"{some(len(order_ids), 'order')} are too many at once: filter to at most {orders_bulk.MOST:,}.",
            field="ids",
        )
    if action == "assign":
        place = Warehouse.objects.filter(pk=params.get("warehouse") or 0, is_active=True).first()
        if place is None:
            raise UserError("warehouse: choose an active warehouse.", field="warehouse")
        if not str(params.get("reason", "")).strip():
            raise UserError("reason: say why, it is kept on each order.", field="reason")
        title = f"Send {some(len(order_ids), 'order')} from {place}"
    elif action == "labels":
        if not Shipment.objects.filter(order__in=order_ids, state__in=_FOR_LABELS).exists():
            raise Conflict(f"orders: {left_out(order_ids) or 'choose at least one.'}", field="ids")
        title = f"Buy labels of {some(len(order_ids), 'order')}"
    else:
        raise UserError(f"action: '{action}' is unknown.", field="action")
    with transaction.atomic():
        return start_job(
            f"fulfillment.{action}",
            title,
            {"ids": list(order_ids), "params": params, "user": actor.user_id},
            actor,
            total=len(order_ids),
        )


def left_out(order_ids: Sequence[int]) -> str:
    """Sentences naming the orders that get no label now, and why; empty when each has something packed."""
    states: dict[int, set[str]] = {pk: set() for pk in order_ids}
    for pk, state in Shipment.objects.filter(order__in=order_ids).values_list("order", "state"):
        states[pk].add(state)
    rest = {pk: known for pk, known in states.items() if not known & set(_FOR_LABELS)}
    numbers = _numbers(list(rest))
    gone = sorted(
        numbers[pk] for pk, known in rest.items() if pk in numbers and known & _GONE and not known & _TO_PACK
    )
    bare = sorted(set(numbers.values()) - set(gone))
    said = []
    if bare:
        said.append(f"{_names(bare)} not packed: pick and pack first.")
    if gone:
        said.append(f"{_names(gone)} on the way already.")
    return " ".join(said)


def _names(numbers: Sequence[str]) -> str:
    """`SH-1, SH-2 are`, of many the first ten and how many more."""
    more = f" and {len(numbers) - 10:,} more" if len(numbers) > 10 else ""
    return f"{', '.join(numbers[:10])}{more} {'is' if len(numbers) == 1 else 'are'}"


def _who(run: Run) -> tuple[User | None, Actor]:
    user = User.objects.filter(pk=run.params["user"]).first()
    return user, Actor(run.actor.kind, run.actor.name, user.pk if user else None)


@job_handler("fulfillment.assign")
def run_assign(run: Run) -> dict[str, Any]:
    """Each order is checked by itself; where the warehouse cannot send it the row says what is missing."""
    user, actor = _who(run)
    numbers = _numbers(run.params["ids"])

    def one(order_id: int) -> str:
        order = selectors.get_visible(user, order_id, "orders.route")
        params = run.params["params"]
        routing_service.assign(order.pk, params["warehouse"], reason=params["reason"], actor=actor)
        return "sent from there"

    run.rows(run.params["ids"], one, subject=lambda pk: numbers.get(pk, f"order {pk}"), chunk=20)
    return {}


@job_handler("fulfillment.labels")
def run_labels(run: Run) -> dict[str, Any]:
    """Carriers are asked outside any transaction; an order that was done before a restart has its label already."""
    user, actor = _who(run)
    ids = run.params["ids"]
    numbers = _numbers(ids)
    for order_id in ids[run.position :]:
        ok, message = True, ""
        try:
            message = _labels_of(user, order_id, actor)
        except UserError as error:
            ok, message = False, error.message
        row = JobRow(
            job=run.job,
            number=run.position + 1,
            ok=ok,
            subject=numbers.get(order_id, f"order {order_id}"),
            message=message[:400],
        )
        with transaction.atomic():
            run.advance(1, failed=0 if ok else 1)
            row.save(force_insert=True)
        run.checkpoint()
    return {}


def _numbers(order_ids: Sequence[int]) -> dict[int, str]:
    found = Order.objects.filter(pk__in=order_ids).select_related("channel")
    return {order.pk: order.number for order in found}


def _labels_of(user: User | None, order_id: int, actor: Actor) -> str:
    order = selectors.get_visible(user, order_id)
    waiting = list(
        Shipment.objects.filter(order=order, state__in=_FOR_LABELS).select_related("warehouse").order_by("pk")
    )
    if not waiting:
        raise Conflict(left_out([order.pk]), field="order")
    bought = []
    for shipment in waiting:
        require(user, "shipping.label", shipment.warehouse.code, order.channel.code)
        if not RateQuote.objects.filter(shipment=shipment, chosen=True).exists():
            rates.shop(shipment.pk)
        for purchase in labels.buy(shipment.pk, actor=actor):
            if purchase.state == LabelPurchase.State.PURCHASED:
                bought.append(purchase.tracking_number)
            elif purchase.state in (LabelPurchase.State.UNKNOWN, LabelPurchase.State.REJECTED):
                again = purchase.parcel.purchases.filter(attempt__gt=purchase.attempt).exists()
                if not again:
                    raise Conflict(
                        f"{shipment.number}: {purchase.get_state_display().lower()} – {purchase.error}",
                        field="label",
                    )
    rest = Shipment.objects.filter(order=order, state__in=_TO_PACK)
    later = ", ".join(f"{one.number} is not packed yet" for one in rest.order_by("pk"))
    done = f"label {', '.join(bought)}" if bought else "had its label"
    return f"{done}; {later}" if later else done


def pick_list_of(principal: Any, order_ids: Sequence[int]) -> tuple[Document, int]:
    """One walk for the waiting shipments of these orders, and how many those are: one warehouse, one tote each.

    Raises `UserError` when nothing waits to be picked, the orders lie in several warehouses, or are too many.
    """
    scope = scope_of(principal, "shipping.work")
    found = list(
        Shipment.objects.filter(
            scope.q(warehouse="warehouse__code", channel="order__channel__code"),
            order__in=list(order_ids),
            state__in=[Shipment.State.READY, Shipment.State.PICKING],
            order__holds_open=0,
            hand_off=None,
        )
        .select_related("warehouse", "order__channel")
        .order_by("ship_by", "pk")[: MOST_ON_A_LIST + 1]
    )
    if not found:
        raise UserError(
            "orders: none of them waits to be picked here; route them first, or release their holds.",
            field="ids",
        )
    places = sorted({shipment.warehouse.code for shipment in found})
    if len(places) > 1:
        raise UserError(
            f"warehouse: these orders wait in {', '.join(places)}; filter the list to one of them.",
            field="warehouse",
        )
    if len(found) > MOST_ON_A_LIST:
        raise UserError(
            f"orders: a pick list takes at most {MOST_ON_A_LIST} shipments; choose fewer.", field="ids"
        )
    return pick_list(_list_of(found)), len(found)


def _list_of(found: Sequence[Shipment]) -> PickList:
    warehouse = found[0].warehouse
    picks: list[Pick] = []
    totes: dict[str, str] = {}
    for number, shipment in enumerate(found, start=1):
        tote = f"T{number}"
        totes[tote] = f"{shipment.number} · {shipment.order.number}"
        for step in picking.route([shipment]):
            picks.append(
                Pick(
                    step.place or "–",
                    step.sequence,
                    step.sku.code,
                    step.sku.name,
                    step.quantity,
                    tote,
                    step.lot,
                )
            )
    return PickList(
        f"{warehouse.code}-{now():%Y%m%d-%H%M}",
        str(warehouse),
        now().astimezone(ZoneInfo(warehouse.time_zone)),
        tuple(picks),
        tuple(totes.items()),
        country=warehouse.country,
    )
