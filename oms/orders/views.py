"""Screens of the order queue and of one order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import NoReverseMatch, reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from oms.core import lists
from oms.core.access import Scope, can, require, scope_of
from oms.core.actor import actor_of
from oms.core.clock import now
from oms.core.errors import NotFound, UserError
from oms.core.paging import keyset_page
from oms.core.screens import back_to, form_key, is_fragment, new_form_key, page, screen, toast
from oms.core.words import some
from oms.orders import bulk, entry, selectors, services, states
from oms.orders.forms import LineFormSet, OrderForm
from oms.orders.models import Hold, Order, OrderEvent, OrderLine

PAGE = 50
COLUMNS = 10

_ICONS = {
    "promise": "calendar-clock", "found": "package-plus",
    "received": "inbox", "reserved": "lock", "short": "package-x", "allocated": "package-check", "hold": "circle-pause",
    "cancelled": "ban", "routed": "route", "shipment": "truck", "shipped": "truck", "delivered": "circle-check",
    "note": "message-square", "tags": "tag", "money": "banknote", "trouble": "triangle-alert", "return": "undo-2",
    "refund": "banknote", "split": "split", "privacy": "shield-check", "address": "map-pin",
}  # fmt: skip
_TONES = {
    "short": "warn",
    "hold": "warn",
    "trouble": "bad",
    "cancelled": "bad",
    "shipped": "ok",
    "delivered": "ok",
}


def _without(query: QueryDict, *names: str) -> str:
    left = query.copy()
    for name in (*names, "cursor"):
        left.pop(name, None)
    return f"?{left.urlencode()}"


@screen("orders.view")
@require_GET
def queue(request: HttpRequest) -> HttpResponseBase:
    """The one queue of every channel: views, filters, search, bulk actions."""
    chosen = selectors.chosen(request.GET)
    scope = scope_of(request.user, "orders.view")
    orders = selectors.within(scope)
    if chosen.q and not is_fragment(request) and not lists.wants_csv(request):
        pk = selectors.number_to_id(chosen.q)
        if pk is not None and (found := orders.filter(pk=pk).select_related("channel").first()):
            return redirect("orders:detail", number=found.number)
    matching, order = selectors.queue(orders, chosen)
    matching = matching.select_related("channel")
    if lists.wants_csv(request):
        return _csv(matching.order_by(*order))
    if (since := request.GET.get("since", "")).isdigit() and is_fragment(request):
        return _fresh(request, matching.filter(pk__gt=int(since[:18])))
    rows = keyset_page(matching, order=order, cursor=request.GET.get("cursor", ""), limit=PAGE)
    context: dict[str, Any] = {
        "rows": _rows(rows.items),
        "next_cursor": rows.next_cursor,
        "columns": COLUMNS,
    }
    if is_fragment(request) and request.GET.get("cursor"):
        return page(request, "orders/_rows.html", context, fragment="orders/_rows.html")
    whole = not is_fragment(request)
    counts = selectors.page_counts(scope, matching, cap=chosen.count_cap, tabs=whole)
    chips = [
        {"label": f"{label}: {value}", "url": _without(request.GET, name)}
        for name, label, value in (
            ("q", "Search", chosen.q), ("channel", "Channel", chosen.channel),
            ("warehouse", "Warehouse", chosen.warehouse), ("state", "Status", chosen.state),
            ("tag", "Tag", chosen.tag), ("due", "Ship by", chosen.due),
            ("health", "Health", dict(selectors.HEALTH).get(chosen.health, "")),
        )
        if value
    ]  # fmt: skip
    tools = lists.tools(
        request,
        "orders:list",
        LIST_COLUMNS,
        count=lambda query: selectors.capped_count(
            selectors.queue(orders, selectors.chosen(query))[0], selectors.COUNT_CAP
        ),
        csv=True,
    )
    context |= {
        "chosen": chosen,
        "count": counts.matching,
        "count_cap": chosen.count_cap,
        "tools": tools,
        "newest": counts.newest,
        "tabs": lists.with_saved(
            [
                {
                    "label": view.label,
                    "url": f"{_without(request.GET, 'view')}&view={view.key}",
                    "count": counts.views.get(view.key),
                    "active": view.key == (chosen.view if chosen.view in selectors.VIEWS else "all"),
                    "tone": "bad" if view.key == "late" and counts.views.get("late") else "",
                }
                for view in selectors.VIEWS.values()
            ],
            tools,
        ),
        **(_places(request, scope) if whole else {}),
        "order_states": Order.State.choices,
        "due_choices": [
            ("today", "Today or earlier"),
            ("tomorrow", "Tomorrow or earlier"),
            ("none", "No date"),
        ],
        "chips": chips,
        "clear": f"?view={chosen.view}",
        "any_order": bool(context["rows"]) or orders.exists(),
    }
    return page(request, "orders/list.html", context, fragment="orders/_results.html")


def _places(request: HttpRequest, scope: Scope) -> dict[str, Any]:
    """What the filters offer. Where the person sees the stock of the same warehouses, it is the switch of the top bar
    as well, which then asks nothing."""
    found: dict[str, Any] = selectors.places_of(scope)
    if (
        can(request.user, "stock.view")
        and scope_of(request.user, "stock.view").warehouses == scope.warehouses
    ):
        found["shell_warehouses"] = found["warehouses"]
    return found


#: columns of the table that a person may leave out
LIST_COLUMNS = (
    (3, "Channel"), (4, "Placed"), (5, "Ship by"), (6, "Customer / To"), (7, "Items"), (8, "Total"),
    (9, "Warehouse"),
)  # fmt: skip


def _fresh(request: HttpRequest, newer: QuerySet[Order]) -> HttpResponse:
    """A list under work never reorders itself: it says how many came since, and shows them when asked."""
    count = selectors.capped_count(newer, 99)
    if not count:
        return HttpResponse(status=204)
    words = f"{'99+' if count > 99 else count} new order{'' if count == 1 else 's'}"
    return page(request, "ui/fresh.html", {"words": words, "url": _without(request.GET, "since")})


CSV_HEADER = (
    "order", "channel", "channel_number", "status", "placed_at", "ship_by", "to", "country", "lines", "units", "total",
    "currency", "warehouses", "tags",
)  # fmt: skip


def _csv(orders: QuerySet[Order]) -> StreamingHttpResponse:
    """Every order that the filters match, in the order of the list."""

    def rows() -> Iterator[list[Any]]:
        stream = orders.iterator(chunk_size=500)
        while part := list(islice(stream, 500)):
            for row in _rows(part):
                yield _cells(row)

    return lists.csv_file("orders", CSV_HEADER, rows())


def _cells(row: dict[str, Any]) -> list[Any]:
    """The row as a line of the file."""
    order = row["order"]
    return [
        order.number, order.channel.code, order.external_number, row["status"][1], order.placed_at.isoformat(),
        order.ship_by.isoformat() if order.ship_by else "", order.ship_name, order.ship_country, row["lines"],
        row["units"], order.total, order.currency, row["codes"], ", ".join(order.tags),
    ]  # fmt: skip


def _rows(orders: Sequence[Order]) -> list[dict[str, Any]]:
    """Rows of the table, in this order; orders come with their channel."""
    facts, at = selectors.row_facts(orders), now()
    return [
        {
            "order": order,
            "url": reverse("orders:detail", kwargs={"number": order.number}),
            "lines": facts[order.pk].lines,
            "units": facts[order.pk].units,
            "codes": ", ".join(sorted(facts[order.pk].codes)),
            "late": late(order, at),
            "status": status_of(order),
        }
        for order in orders
    ]


def late(order: Order, at: dt.datetime | None = None) -> bool:
    """Overdue, and still ours to ship."""
    moving = order.state in states.LIVE and order.state != Order.State.PENDING
    return bool(moving and order.fulfilled_by == "us" and order.ship_by and order.ship_by < (at or now()))


def status_of(order: Order) -> tuple[str, str]:
    """(pill word, text) of an order: what stands in its way comes first."""
    if order.state in states.FINAL:
        return order.state, order.get_state_display()
    if order.holds_open:
        return "on_hold", "On hold"
    if order.unmapped_lines:
        return "bad", "Unknown SKU"
    if order.short_units:
        return "warn", "Backorder"
    return order.state, order.get_state_display()


def _number(request: HttpRequest, number: str, permission: str = "orders.view") -> Order:
    pk = int(number) if number.isdigit() and len(number) < 18 else selectors.number_to_id(number)
    if pk is None:
        raise NotFound("order: there is no such order.")
    return selectors.get_visible(request.user, pk, permission)


@screen("orders.view")
@require_GET
def detail(request: HttpRequest, number: str) -> HttpResponse:
    """One order: lines, why this warehouse, money, address, holds, timeline."""
    order = _number(request, number)
    if number != order.number:
        return redirect("orders:detail", number=order.number)
    return page(request, "orders/detail.html", _detail(request, order))


def _detail(request: HttpRequest, order: Order) -> dict[str, Any]:
    loaded = selectors.for_list(Order.objects.filter(pk=order.pk)).select_related("channel", "contact").get()
    code = loaded.channel.code
    lines = [_line(line) for line in loaded.lines.all()]
    open_ = loaded.state in states.LIVE
    cancellable = [row for row in lines if row["line"].outstanding]
    holds = list(selectors.open_holds(loaded))
    return {
        "order": loaded,
        "lines": lines,
        "holds": holds,
        "contact": selectors.contact_for(loaded, request.user),
        "told": selectors.told_before(loaded, request.user),
        "address_url": _address_url(loaded, request.user) if open_ else "",
        "charges": list(loaded.charges.select_related("line").order_by("id")),
        "entries": [_entry(event) for event in loaded.events.order_by("-id")[:200]],
        "status": status_of(loaded),
        "late": late(loaded),
        "live": open_,
        "panels": _panels(loaded),
        "cancellable": cancellable,
        "any_short": any(row["line"].short for row in lines),
        "any_cancelled": any(row["line"].cancelled for row in lines),
        "cancel_reasons": list(services.CANCEL_REASONS.items()),
        "hold_reasons": [pair for pair in Hold.Reason.choices if pair[0] in _BY_HAND],
        "may_hold": open_ and can(request.user, "orders.hold", channel_code=code),
        "may_release": bool(holds) and can(request.user, "orders.release", channel_code=code),
        "may_cancel": open_ and bool(cancellable) and can(request.user, "orders.edit", channel_code=code),
        "may_edit": can(request.user, "orders.edit", channel_code=code),
        "unmapped": [
            row["line"] for row in lines if row["line"].sku_id is None and row["line"].kind == "product"
        ],
    }


def _address_url(order: Order, user: Any) -> str:
    """Where the floor above changes the address; empty for those who may not see or change it."""
    code = order.channel.code
    if not (can(user, "orders.edit", channel_code=code) and can(user, "pii.view", channel_code=code)):
        return ""
    try:
        return reverse("fulfillment:order_address", args=[order.pk])
    except NoReverseMatch:
        return ""


_BY_HAND = ("person", "fraud", "address", "payment", "buyer_cancel", "awaiting_return")


def _line(line: OrderLine) -> dict[str, Any]:
    places: dict[str, int] = {}
    for allocation in line.allocations.all():
        if held := allocation.reservation.quantity:
            code = allocation.reservation.warehouse.code
            places[code] = places.get(code, 0) + held // allocation.per_unit
    return {"line": line, "places": ", ".join(f"{code} {units}" for code, units in sorted(places.items()))}


def _entry(event: OrderEvent) -> dict[str, Any]:
    return {
        "at": event.at, "text": event.text, "actor": event.actor, "icon": _ICONS.get(event.kind, "circle-dot"),
        "tone": _TONES.get(event.kind, ""),
    }  # fmt: skip


def _panels(order: Order) -> list[str]:
    """Addresses of the parts that other floors own; a floor that is not there has none."""
    found = []
    for name in ("fulfillment:order_panel", "returns:order_panel", "channels:order_panel"):
        try:
            found.append(reverse(name, args=[order.pk]))
        except NoReverseMatch:
            continue
    return found


# --- what can be done to one order --------------------------------------------------------------


def _done(request: HttpRequest, order: Order, text: str) -> HttpResponse:
    messages.success(request, text)
    return redirect(back_to(request, reverse("orders:detail", kwargs={"number": order.number})))


@screen("orders.hold")
@require_POST
def hold(request: HttpRequest, number: str) -> HttpResponse:
    order = _number(request, number, "orders.hold")
    services.place_hold(
        order.pk,
        request.POST.get("reason") or Hold.Reason.PERSON,
        actor=actor_of(request.user),
        note=request.POST.get("note", ""),
    )
    return _done(request, order, f"{order.number} is on hold.")


@screen("orders.view")
@require_POST
def release(request: HttpRequest, number: str) -> HttpResponse:
    order = _number(request, number)
    actor, hold_id = actor_of(request.user), request.POST.get("hold", "")
    if hold_id.isdigit():
        if not Hold.objects.filter(pk=int(hold_id), order=order).exists():
            raise NotFound("hold: there is no such hold.")
        services.release_hold(int(hold_id), actor=actor, principal=request.user)
    else:
        services.release_holds(order.pk, actor=actor, principal=request.user)
    return _done(request, order, f"Hold of {order.number} released.")


@screen("orders.edit")
@require_POST
def cancel(request: HttpRequest, number: str) -> HttpResponse:
    """Cancel everything open, or the units named per line."""
    order = _number(request, number, "orders.edit")
    quantities: dict[int, int] = {}
    for name in request.POST:
        value = request.POST.get(name, "").strip()
        if name.startswith("line-") and value not in ("", "0"):
            if not (name[5:].isdigit() and value.isdigit()):
                raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
            quantities[int(name[5:])] = int(value)
    whole = request.POST.get("whole") == "1"
    if not whole and not quantities:
        raise UserError("quantity: say how many of which line to cancel.", field="quantity")
    services.cancel_lines(
        order.pk, None if whole else quantities, reason=request.POST.get("reason", ""), actor=actor_of(request.user),
        note=request.POST.get("note", ""),
    )  # fmt: skip
    return _done(request, order, f"Cancelled on {order.number}; the channel is told.")


@screen("orders.edit")
@require_POST
def note(request: HttpRequest, number: str) -> HttpResponse:
    order = _number(request, number, "orders.edit")
    services.add_note(order.pk, request.POST.get("text", ""), actor=actor_of(request.user))
    return _done(request, order, "Note written.")


@screen("orders.edit")
@require_POST
def tags(request: HttpRequest, number: str) -> HttpResponse:
    order = _number(request, number, "orders.edit")
    services.set_tags(order.pk, request.POST.get("tags", "").split(","), actor=actor_of(request.user))
    return _done(request, order, "Tags changed.")


@screen("orders.edit")
@require_POST
def map_sku(request: HttpRequest, number: str) -> HttpResponse:
    """Say what an unknown code means; all waiting orders of the channel are repaired."""
    order = _number(request, number, "orders.edit")
    sku = entry.find_sku(request.POST.get("sku", "").strip())
    repaired = services.map_external_sku(
        order.channel, request.POST.get("external_sku", ""), sku.pk, actor=actor_of(request.user),
        remember=request.POST.get("remember") == "on",
    )  # fmt: skip
    return _done(request, order, f"Mapped to {sku.code}: {repaired} waiting line(s) repaired.")


# --- many orders --------------------------------------------------------------------------------


@screen("orders.view")
@require_POST
def bulk_action(request: HttpRequest) -> HttpResponse:
    """One action on the chosen orders, or on all that match the filters; above 100 it becomes a job."""
    action = request.POST.get("action", "")
    if action not in bulk.ACTIONS:
        raise UserError("action: choose hold, release, route or tag.", field="action")
    permission, word, _ = bulk.ACTIONS[action]
    if action != "release":
        require(request.user, permission)
    params = {"note": request.POST.get("note", ""), "tag": request.POST.get("tag", "")}
    ids = bulk.chosen_ids(request.user, request.POST)
    actor = actor_of(request.user)
    if len(ids) > bulk.AT_ONCE:
        job = bulk.start(action, ids, params, actor=actor)
        return _bulk_answer(
            request, f"{some(len(ids), 'order')}: working in the background (job {job.pk}).", "ok"
        )
    rows = Order.objects.filter(pk__in=ids).select_related("channel").order_by("pk")
    result = bulk.run_now(action, list(rows), params, actor=actor, principal=request.user)
    return _bulk_answer(request, result.sentence(word), "warn" if result.skipped else "ok")


#: lists and counters on the page listen for it
_CHANGED: dict[str, Any] = {"orders:changed": {}}


def _bulk_answer(request: HttpRequest, text: str, tone: str) -> HttpResponse:
    if is_fragment(request):
        return toast(HttpResponse(status=204), text, tone, **_CHANGED)
    (messages.warning if tone == "warn" else messages.success)(request, text)
    return redirect(back_to(request, reverse("orders:list")))


# --- a new order --------------------------------------------------------------------------------


@screen("orders.edit")
@require_http_methods(["GET", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    """Enter an order by hand; stock is reserved at once."""
    channels = entry.channels_for_entry(request.user)
    data = request.POST if request.method == "POST" else None
    form, lines = OrderForm(data, channels=channels), LineFormSet(data, prefix="lines")
    errors: list[str] = []
    if request.method == "POST":
        known = form_key(request)
        if form.is_valid() and lines.is_valid():
            try:
                order = _enter(
                    request, form, [row.cleaned_data for row in lines if row.cleaned_data.get("sku")], known
                )
                messages.success(request, f"{order.number} is entered.")
                return redirect("orders:detail", number=order.number)
            except UserError as error:
                errors = [error.message]
    context = {
        "form": form, "lines": lines, "errors": errors, "channels": channels,
        "form_key": request.POST.get("form_key") or new_form_key(),
    }  # fmt: skip
    return page(request, "orders/new.html", context, status=422 if request.method == "POST" else 200)


def _enter(request: HttpRequest, form: OrderForm, rows: Sequence[dict[str, Any]], key: str) -> Order:
    data = form.cleaned_data
    channel = next(
        channel for channel in entry.channels_for_entry(request.user) if channel.code == data["channel"]
    )
    # the one-time key is the order's id where the person gave none: a double click finds the first order
    external_id = data["external_id"] or key
    if not data["external_id"] and (known := Order.objects.filter(channel=channel, external_id=key).first()):
        return known
    return entry.enter(
        channel=channel,
        lines=[
            entry.EntryLine(
                row["sku"], row["quantity"], row["unit_price"] or entry.ZERO, tax=row["tax"] or entry.ZERO
            )
            for row in rows
        ],
        contact=form.contact(),
        actor=actor_of(request.user),
        source="manual",
        external_id=external_id,
        shipping=data["shipping"] or entry.ZERO,
        discount=data["discount"] or entry.ZERO,
        kind=data["kind"],
        note=data["note"],
    )
