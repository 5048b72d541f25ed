"""Screens of the returns floor: list, bench, one RMA, the panel on an order."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.db.models import Count, F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from inventory import serials
from inventory.models import Warehouse
from inventory.selectors import resolve_codes
from oms.core import lists
from oms.core.access import can, require, scope_of
from oms.core.actor import Actor, actor_of
from oms.core.errors import NotFound, UserError
from oms.core.paging import keyset_page
from oms.core.screens import (
    form_key,
    is_fragment,
    made_before,
    new_form_key,
    page,
    posted_amount,
    posted_whole,
    screen,
)
from oms.orders.models import Order, SalesChannel
from oms.orders.selectors import get_visible
from returns import inspection, refunds, rma, selectors
from returns.models import Disposition, ReturnReason, Rma

TABS = (
    ("open", "On the way", ["requested", "approved", "part_received"]),
    ("inspect", "To inspect", ["part_received", "received"]),
    ("inspected", "Inspected", ["inspected"]),
    ("closed", "Closed", ["closed", "declined"]),
)


CSV_HEADER = (
    "rma", "order", "channel_number", "warehouse", "status", "items", "units", "units_received", "tracking_number",
    "source", "requested_at", "received_at", "closed_at",
)  # fmt: skip


def _csv_row(item: Rma) -> list[Any]:
    lines = list(item.lines.all())
    return [
        item.number, item.order.number if item.order else "", item.order.external_number if item.order else "",
        item.warehouse.code, item.get_state_display(), ", ".join(line.sku.code for line in lines),
        sum(line.quantity for line in lines), sum(line.received for line in lines), item.tracking_number, item.source,
        lists.stamp(item.requested_at), lists.stamp(item.received_at), lists.stamp(item.closed_at),
    ]  # fmt: skip


def _to_inspect(found: QuerySet[Rma]) -> QuerySet[Rma]:
    """Those with units on the bench that nobody has judged."""
    return found.filter(
        state__in=["part_received", "received"], lines__received__gt=F("lines__disposed")
    ).distinct()


def _counts(found: QuerySet[Rma]) -> dict[str, int]:
    """How many returns wait under each tab that is work; what is closed is not counted."""
    states = dict(
        found.filter(state__in=[*TABS[0][2], *TABS[2][2]])
        .order_by()
        .values_list("state")
        .annotate(n=Count("pk"))
    )
    waiting = {key: sum(states.get(state, 0) for state in values) for key, _, values in (TABS[0], TABS[2])}
    return waiting | {"inspect": _to_inspect(found).count()}


@screen("returns.view")
@require_GET
def rma_list(request: HttpRequest) -> HttpResponseBase:
    """Returns by where they stand."""
    tab = request.GET.get("tab", "open")
    wanted = next((values for key, _, values in TABS if key == tab), TABS[0][2])
    found = selectors.visible(request.user)
    found = _to_inspect(found) if tab == "inspect" else found.filter(state__in=wanted)
    if place := request.GET.get("warehouse", ""):
        found = found.filter(warehouse__code=place)
    query = request.GET.get("q", "").strip()
    if query:
        digits = query.upper().removeprefix("RMA-")
        match = Q(tracking_number=query) | Q(order__external_number=query) | Q(lines__sku__code__iexact=query)
        if digits.isdigit() and len(digits) < 18:
            match |= Q(pk=int(digits))
        found = found.filter(match).distinct()
    found = found.prefetch_related("lines__sku")
    if lists.wants_csv(request):
        return lists.csv_of("returns", CSV_HEADER, found.order_by("-id"), _csv_row)
    listed = keyset_page(found, order=("-id",), cursor=request.GET.get("cursor", ""), limit=50)
    tools = lists.tools(
        request,
        "returns:list",
        ((2, "Order"), (3, "To"), (4, "Items"), (5, "Asked"), (6, "Arrived")),
        csv=True,
    )
    scope = scope_of(request.user, "returns.view")
    counts = {} if is_fragment(request) else _counts(selectors.visible(request.user))
    context = {
        "rows": listed.items,
        "next_cursor": listed.next_cursor,
        "columns": 7,
        "q": query,
        "tab": tab,
        "place": place,
        "places": [
            (w.code, w.name) for w in Warehouse.objects.filter(scope.q(warehouse="code"), is_active=True)
        ],
        "filtered": bool(query or place),
        "tools": tools,
        "tabs": lists.with_saved(
            [
                {"label": label, "url": f"?tab={key}", "count": counts.get(key), "active": key == tab}
                for key, label, _ in TABS
            ],
            tools,
        ),
    }
    return page(
        request,
        "returns/list.html",
        context,
        fragment="returns/_rows.html" if request.GET.get("cursor") else "returns/_results.html",
    )


@screen("returns.work")
@require_GET
def bench(request: HttpRequest) -> HttpResponse:
    """Scan an RMA, order or tracking number and go to it."""
    code = request.GET.get("code", "").strip()
    if code:
        found = selectors.visible(request.user).exclude(state__in=[Rma.State.CLOSED, Rma.State.DECLINED])
        tail = code.rpartition("-")[2]
        match = Q(tracking_number=code) | Q(order__external_number=code)
        if tail.isdigit() and len(tail) < 18:
            match |= (
                Q(pk=int(tail))
                if code.upper().startswith("RMA")
                else Q(order_id=int(tail) - Order.NUMBER_BASE)
            )
        item = found.filter(match).order_by("-pk").first()
        if item:
            return redirect("returns:detail", pk=item.pk)
        messages.error(
            request,
            f"{code}: no open return has that number. A parcel without notice is opened on its order.",
        )
    waiting = (
        selectors.visible(request.user)
        .filter(lines__received__gt=F("lines__disposed"))
        .distinct()
        .prefetch_related("lines__sku")
        .order_by("received_at")[:50]
    )
    return render(request, "returns/bench.html", {"rows": waiting})


@screen("returns.view")
@require_GET
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One return: what is expected, what arrived, what an inspector says, and the money."""
    item = selectors.find(request.user, pk)
    lines = list(
        item.lines.select_related("sku__product", "reason", "order_line")
        .prefetch_related("dispositions", "serials__disposition", "serials__unit")
        .order_by("pk")
    )
    channel = item.order.channel.code if item.order else None
    suggested = refunds.suggest(item) if item.order else []
    arriving = item.state in (Rma.State.APPROVED, Rma.State.PART_RECEIVED)
    to_receive = [line for line in lines if arriving and line.received < line.quantity]
    context = {
        "item": item,
        "lines": lines,
        "refunds": item.refunds.all(),
        "form_key": new_form_key(),
        "to_receive": to_receive,
        "ask_numbers": any(line.sku.serial_tracked for line in to_receive),
        "to_inspect": [
            {
                "line": line,
                "waiting": line.received - line.disposed,
                "numbers": [one for one in line.serials.all() if one.disposition_id is None],
            }
            for line in lines
            if line.received > line.disposed
        ],
        "suggested": suggested,
        "conditions": Disposition.Condition.choices,
        "outcomes": Disposition.Outcome.choices,
        "may_work": can(request.user, "returns.work", item.warehouse.code, channel),
        "by_hand": item.order is not None and item.order.channel.kind == SalesChannel.Kind.MANUAL,
        "may_refund": bool(item.order) and can(request.user, "returns.refund", channel_code=channel),
    }
    context["suggested_total"] = sum((part.amount for part in suggested), Decimal(0))
    return render(request, "returns/detail.html", context)


def _numbers(request: HttpRequest, name: int | str) -> list[str]:
    """Serial numbers of one field, typed or scanned."""
    return serials.parse(request.POST.get(f"serials-{name}", "")[:100_000])


def _receive(request: HttpRequest, item: Rma, actor: Actor) -> None:
    counts = {line.pk: posted_whole(request, f"line-{line.pk}") for line in item.lines.all()}
    rma.receive(
        item.pk, counts, actor=actor, key=form_key(request),
        numbers={line: _numbers(request, line) for line in counts},
        wrong_because=request.POST.get("wrong_because", ""),
    )  # fmt: skip
    messages.success(request, "In quarantine: no channel sees these units.")


def _receive_unannounced(request: HttpRequest, item: Rma, actor: Actor) -> None:
    code = request.POST.get("sku", "").strip()
    sku = resolve_codes([code]).get(code)
    if sku is None:
        raise UserError(f"sku: '{code}' is unknown.", field="sku")
    rma.receive_unannounced(
        warehouse_id=item.warehouse_id,
        goods=[(sku.pk, posted_whole(request, "quantity"))],
        actor=actor,
        key=form_key(request),
        rma_id=item.pk,
        note="was in the parcel",
        numbers={sku.pk: _numbers(request, "found")},
    )


def _inspect(request: HttpRequest, item: Rma, actor: Actor) -> None:
    target_code = request.POST.get("target_sku", "").strip()
    target = resolve_codes([target_code]).get(target_code) if target_code else None
    if target_code and target is None:
        raise UserError(f"target_sku: '{target_code}' is unknown.", field="target_sku")
    line = item.lines.filter(pk=posted_whole(request, "line")).first()
    if line is None:
        raise UserError("line: it does not belong to this return.", field="line")
    verdict = inspection.Verdict(
        line.pk,
        posted_whole(request, "quantity"),
        request.POST.get("condition", ""),
        request.POST.get("outcome", ""),
        target.pk if target else None,
        request.POST.get("note", ""),
        tuple(request.POST.getlist("serial")[:1000]),
    )
    inspection.dispose([verdict], actor=actor, key=form_key(request))
    done = Disposition.Outcome(verdict.outcome).label
    messages.success(request, f"{verdict.quantity} × {line.sku.code}: {done}.")


def _refund(request: HttpRequest, item: Rma, actor: Actor) -> None:
    if item.order is None:
        raise UserError("order: match the return to an order before refunding.", field="order")
    made = refunds.plan(
        order_id=item.order.pk,
        rma_id=item.pk,
        items=refunds.suggest(item),
        key=form_key(request),
        actor=actor,
        shipping=posted_amount(request, "shipping", empty="0"),
        restocking_fee=posted_amount(request, "restocking_fee", empty="0"),
        reason=request.POST.get("reason", ""),
    )
    messages.success(request, f"{made.number} is planned; the channel is told and asked for proof.")


def _paid(request: HttpRequest, item: Rma, actor: Actor) -> None:
    money = item.refunds.filter(pk=posted_whole(request, "refund")).first()
    if money is None:
        raise UserError("refund: it does not belong to this return.", field="refund")
    refunds.pay_by_hand(money.pk, actor=actor)


#: step of a return → the right it needs and what it does
STEPS: dict[str, tuple[str, Callable[[HttpRequest, Rma, Actor], object]]] = {
    "approve": ("returns.work", lambda request, item, actor: rma.approve(item.pk, actor=actor)),
    "decline": ("returns.work", lambda request, item, actor: rma.decline(item.pk, actor=actor)),
    "receive": ("returns.work", _receive),
    "unannounced": ("returns.work", _receive_unannounced),
    "inspect": ("returns.work", _inspect),
    "close": ("returns.work", lambda request, item, actor: rma.close(item.pk, actor=actor)),
    "refund": ("returns.refund", _refund),
    "paid": ("returns.refund", _paid),
}


@screen("returns.view")
@require_POST
def step(request: HttpRequest, pk: int, step: str) -> HttpResponse:
    """One step of a return; goods and money are separate steps."""
    item = selectors.find(request.user, pk)
    if step not in STEPS:
        raise NotFound("step: unknown.")
    right, work = STEPS[step]
    require(request.user, right, item.warehouse.code, item.order.channel.code if item.order else None)
    work(request, item, actor_of(request.user))
    return redirect("returns:detail", pk=pk)


@screen("returns.view")
@require_GET
def order_panel(request: HttpRequest, order_id: int) -> HttpResponse:
    """The returns part of the order page."""
    order = get_visible(request.user, order_id, "returns.view")
    left = rma.returnable(order)
    lines = [
        {"line": line, "left": left.get(line.pk, 0)}
        for line in order.lines.select_related("sku")
        if left.get(line.pk)
    ]
    scope = scope_of(request.user, "returns.work")
    context = {
        "order": order,
        "form_key": new_form_key(),
        "rmas": order.rmas.select_related("warehouse").prefetch_related("lines"),
        "refunds": order.refunds.all(),
        "lines": lines,
        "reasons": ReturnReason.objects.filter(is_active=True),
        "may_work": can(request.user, "returns.work", channel_code=order.channel.code),
        "by_hand": order.channel.kind == SalesChannel.Kind.MANUAL
        and can(request.user, "returns.refund", channel_code=order.channel.code),
        "warehouses": [
            w for w in Warehouse.objects.filter(scope.q(warehouse="code"), is_active=True) if w.counted_by_us
        ],
    }
    return render(request, "returns/_order_panel.html", context)


@screen("returns.refund")
@require_POST
def paid_by_hand(request: HttpRequest, order_id: int) -> HttpResponse:
    """A person paid a refund of an order back, with or without a return behind it."""
    order = get_visible(request.user, order_id, "returns.refund")
    money = order.refunds.filter(pk=posted_whole(request, "refund")).first()
    if money is None:
        raise UserError("refund: it does not belong to this order.", field="refund")
    refunds.pay_by_hand(money.pk, actor=actor_of(request.user))
    messages.success(request, f"{money.number} is marked as paid back.")
    return redirect("orders:detail", order.number)


@screen("returns.work")
@require_POST
def open_for_order(request: HttpRequest, order_id: int) -> HttpResponse:
    """Open an RMA for shipped units of an order."""
    order = get_visible(request.user, order_id, "returns.work")
    warehouse = Warehouse.objects.filter(code=request.POST.get("warehouse", "")).first()
    if warehouse is None:
        raise UserError("warehouse: choose where the parcel goes.", field="warehouse")
    require(request.user, "returns.work", warehouse.code, order.channel.code)
    items = [
        rma.ReturnItem(
            line.pk,
            posted_whole(request, f"line-{line.pk}"),
            request.POST.get("reason", ""),
            request.POST.get("comment", ""),
        )
        for line in order.lines.all()
        if request.POST.get(f"line-{line.pk}", "").strip() not in ("", "0")
    ]
    with transaction.atomic():
        if made_before(request):
            return redirect("returns:list")
        made = rma.open_rma(
            order_id=order.pk, items=items, warehouse_id=warehouse.pk, actor=actor_of(request.user)
        )
    return redirect("returns:detail", pk=made.pk)
