"""Screens of the fulfillment floor: shipments, pick and pack, routing."""

from __future__ import annotations

import csv
import json
from contextlib import suppress
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.dateparse import parse_date
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from fulfillment import (
    labels,
    lot_recall,
    packing,
    parts,
    picking,
    rates,
    routing_service,
    selectors,
    shipping,
    surplus,
)
from fulfillment.customs import fixing
from fulfillment.customs.declaring import CustomsBlocked
from fulfillment.customs.fixing import Panel
from fulfillment.customs.papers import invoice_pdf
from fulfillment.models import (
    LabelDocument,
    LabelPurchase,
    PackageType,
    RoutingDecision,
    Shipment,
)
from fulfillment.slips import packing_slip_pdf
from inventory.models import AdjustmentReason, Warehouse
from oms.core import csvsafe, lists
from oms.core.access import can, require, scope_of
from oms.core.actor import actor_of
from oms.core.clock import now
from oms.core.errors import NotFound, UserError
from oms.core.paging import keyset_page
from oms.core.screens import form_key, is_fragment, new_form_key, screen
from oms.orders import allocation
from oms.orders.drafts import label_supplier
from oms.orders.models import Order
from oms.orders.selectors import get_visible

TABS = (
    ("open", "Open", ("ready", "picking", "packed", "labelled")),
    ("shipped", "On the way", ("shipped",)),
    ("delivered", "Delivered", ("delivered",)),
    ("cancelled", "Cancelled", ("cancelled",)),
)


@screen("shipping.view")
@require_GET
def shipments(request: HttpRequest) -> HttpResponseBase:
    """Every shipment of the warehouses the person may see, newest first."""
    tab = request.GET.get("tab", "open")
    states = next((states for key, _, states in TABS if key == tab), TABS[0][2])
    found = selectors.visible(request.user).filter(state__in=states)
    warehouse = request.GET.get("warehouse", "")
    if warehouse:
        found = found.filter(warehouse__code=warehouse)
    query = request.GET.get("q", "").strip()
    if query:
        digits = query.upper().removeprefix("S-")
        matching = found.filter(parcels__purchases__tracking_number=query)
        if digits.isdigit() and len(digits) < 18:
            matching = matching | found.filter(pk=int(digits)) | found.filter(order__external_number=query)
        found = matching.distinct()
    found = found.prefetch_related("parcels__purchases", "order__channel_effects")
    if lists.wants_csv(request):
        return lists.csv_of("shipments", CSV_HEADER, found.order_by("-id"), _csv_row)
    page = keyset_page(
        found,
        order=("-id",),
        cursor=request.GET.get("cursor", ""),
        limit=50,
    )
    scope = scope_of(request.user, "shipping.view")
    gone = tab in ("shipped", "delivered")
    tools = lists.tools(
        request,
        "fulfillment:shipments",
        (
            (2, "Order"),
            (3, "From"),
            (4, "Left" if gone else "Ship by"),
            (5, "Carrier"),
            (6, "Tracking"),
            (7, "Told channel"),
        ),
        csv=True,
    )
    context = {
        "tools": tools,
        "rows": [{"shipment": s, "label": _live_label(s)} for s in page.items],
        "next_cursor": page.next_cursor,
        "columns": 8,
        "q": query,
        "warehouse": warehouse,
        "warehouses": [(w.code, w.name) for w in Warehouse.objects.filter(scope.q(warehouse="code"))],
        "tabs": lists.with_saved(
            [
                {"label": label, "url": f"?tab={key}", "count": None, "active": key == tab}
                for key, label, _ in TABS
            ],
            tools,
        ),
        "tab": tab,
        "gone": gone,
        "filtered": bool(query or warehouse),
    }
    name = (
        "_rows"
        if is_fragment(request) and request.GET.get("cursor")
        else "_results"
        if is_fragment(request)
        else "shipments"
    )
    return render(request, f"fulfillment/{name}.html", context)


CSV_HEADER = (
    "shipment", "order", "channel_number", "warehouse", "status", "ship_by", "carrier", "tracking_number",
    "shipped_at", "delivered_at",
)  # fmt: skip


def _csv_row(item: Shipment) -> list[Any]:
    label = _live_label(item)
    return [
        item.number, item.order.number, item.order.external_number, item.warehouse.code, item.get_state_display(),
        lists.stamp(item.ship_by), item.service_code, label.tracking_number if label else "",
        lists.stamp(item.shipped_at), lists.stamp(item.delivered_at),
    ]  # fmt: skip


def _live_label(shipment: Shipment) -> LabelPurchase | None:
    for parcel in shipment.parcels.all():
        for purchase in parcel.purchases.all():
            if purchase.state in LabelPurchase.LIVE:
                return purchase
    return None


def _page(request: HttpRequest, item: Shipment, customs: Panel | None = None) -> dict[str, Any]:
    purchases = list(
        LabelPurchase.objects.filter(parcel__shipment=item)
        .select_related("account", "parcel")
        .prefetch_related("events")
    )
    lines = list(item.lines.select_related("sku__product", "order_line").order_by("pk"))
    see_costs = can(request.user, "costs.view") or can(request.user, "shipping.label")
    charges = list(item.charges.all()) if see_costs else []
    return {
        "item": item,
        "charges": charges,
        "total_cost": shipping.cost(purchases, charges),
        "order": item.order,
        "lines": lines,
        "parcels": packing.live_parcels(item),
        "quotes": list(item.quotes.select_related("account")),
        "purchases": purchases,
        "packages": list(PackageType.objects.filter(is_active=True)),
        "picked": all(line.picked == line.quantity for line in lines),
        "may_work": can(request.user, "shipping.work", item.warehouse.code),
        "may_label": can(request.user, "shipping.label", item.warehouse.code),
        "see_costs": see_costs,
        "supplier": label_supplier(item.order.tags),
        "may_customs": can(request.user, "products.customs"),
        "customs": customs or fixing.panel(item),
        "blocked": "" if item.state in ("shipped", "delivered", "cancelled") else _blocked(item),
    }


def _blocked(item: Shipment) -> str:
    from fulfillment.shipments import why_not_shippable

    return why_not_shippable(item.order)


@screen("shipping.view")
@require_GET
def shipment(request: HttpRequest, pk: int) -> HttpResponse:
    """One shipment with everything that can be done to it now."""
    return render(request, "fulfillment/shipment.html", _page(request, selectors.find(request.user, pk)))


STEPS: dict[str, str] = {
    "claim": "shipping.work",
    "pick-all": "shipping.work",
    "pack": "shipping.work",
    "rates": "shipping.label",
    "choose": "shipping.label",
    "label": "shipping.label",
    "void": "shipping.label",
    "ship": "shipping.work",
    "short": "shipping.work",
    "found": "shipping.work",
    "not-bought": "shipping.label",
    "bought": "shipping.label",
    "enter": "shipping.label",
    "delivered": "shipping.work",
}
#: steps that the bench does, and comes back to itself
BENCH_STEPS = ("pack", "rates", "choose", "label", "enter", "pick-all", "short", "found")


@screen("shipping.view")
@require_POST
def step(request: HttpRequest, pk: int, step: str) -> HttpResponse:
    """One step of a shipment; each is the same service the API and the floor call."""
    if step not in STEPS:
        raise NotFound("step: unknown.")
    item = selectors.find(request.user, pk)
    require(request.user, STEPS[step], item.warehouse.code, item.order.channel.code)
    actor = actor_of(request.user)
    if step == "claim":
        picking.claim(pk, actor=actor)
        return redirect("fulfillment:bench", pk=pk)
    if step == "pick-all":
        picking.pick_all(pk, actor=actor)
    elif step == "pack":
        packing.pack(pk, _boxes(request, item), actor=actor)
        _shop(pk)
    elif step == "rates":
        _shop(pk)
    elif step == "choose":
        _own_quote(item, request)
        rates.pick_quote(_number(request, "quote"))
    elif step == "label":
        with suppress(CustomsBlocked):  # the page that comes next says what is missing, with its fields
            labels.buy(pk, actor=actor)
        found = LabelPurchase.objects.filter(parcel__shipment=pk).order_by("-pk").first()
        if found and found.state == LabelPurchase.State.PURCHASED:
            messages.success(request, f"Label bought: {found.tracking_number}")
        elif found:
            messages.error(request, f"{found.get_state_display()}: {found.error}")
    elif step == "enter":
        try:
            labels.enter(
                pk, carrier=request.POST.get("carrier", ""), tracking_number=request.POST.get("tracking_number", ""),
                actor=actor, sure="sure" in request.POST,
            )  # fmt: skip
        except labels.Doubtful as error:
            return _doubted(request, item, error)
        messages.success(request, "The label is entered.")
    elif step in ("void", "not-bought", "bought", "delivered"):
        purchase = LabelPurchase.objects.filter(parcel__shipment=pk, pk=_number(request, "label")).first()
        if purchase is None:
            raise UserError("label: it does not belong to this shipment.", field="label")
        if step == "void":
            labels.void(purchase.pk, actor=actor)
        elif step == "delivered":
            shipping.record_tracking(
                purchase.pk, status="delivered", at=now(), text="told by hand", actor=actor
            )
            messages.success(request, f"{purchase.tracking_number} is delivered.")
        elif step == "bought":
            try:
                labels.decide_bought(
                    purchase.pk, tracking_number=request.POST.get("tracking_number", ""), actor=actor,
                    sure="sure" in request.POST,
                )  # fmt: skip
            except labels.Doubtful as error:
                return _doubted(request, item, error)
        else:
            labels.decide_not_bought(purchase.pk, actor=actor)
    elif step == "ship":
        shipping.ship(pk, actor=actor)
        messages.success(request, f"{item.number} has left.")
    elif step == "short":
        line = item.lines.filter(pk=_number(request, "line")).first()
        if line is None:
            raise UserError("line: it does not belong to this shipment.", field="line")
        picking.short_pick(
            line.pk, _number(request, "missing"), reason=request.POST.get("reason", ""), actor=actor
        )
    elif step == "found":
        line = item.lines.filter(pk=_number(request, "line")).first()
        if line is None:
            raise UserError("line: it does not belong to this shipment.", field="line")
        done = surplus.found_more(
            line.pk, _number(request, "units"), reason=request.POST.get("reason", ""),
            note=request.POST.get("note", ""), actor=actor, key=f"form:{form_key(request)}",
        )  # fmt: skip
        messages.success(
            request,
            "A second person has to agree first." if done.request else "Booked: the units are in stock.",
        )
    if request.POST.get("from") == "bench" and step in BENCH_STEPS:
        return redirect("fulfillment:bench", pk=pk)
    if request.POST.get("from") == "bench":
        return redirect("fulfillment:floor")
    return redirect("fulfillment:shipment", pk=pk)


def _doubted(request: HttpRequest, item: Shipment, error: labels.Doubtful) -> HttpResponse:
    """The page again with the number as it was typed, and a box for whoever is sure of it."""
    doubt = {
        "sentence": error.message.partition(": ")[2],
        "carrier": request.POST.get("carrier", ""),
        "number": request.POST.get("tracking_number", ""),
        "label": request.POST.get("label", ""),
    }
    if request.POST.get("from") == "bench" and can(request.user, "shipping.work", item.warehouse.code):
        return _bench(request, item, doubt=doubt, status=422)
    return render(request, "fulfillment/shipment.html", _page(request, item) | {"doubt": doubt}, status=422)


def _shop(pk: int) -> None:
    """Ask for rates; where customs data is missing, the page that comes next says so and has the fields."""
    with suppress(CustomsBlocked):
        rates.shop(pk)


def _number(request: HttpRequest, name: str) -> int:
    text = request.POST.get(name, "").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UserError(f"{name}: enter a whole number.", field=name)
    return int(text)


def _own_quote(item: Shipment, request: HttpRequest) -> None:
    if not item.quotes.filter(pk=_number(request, "quote")).exists():
        raise UserError("quote: it does not belong to this shipment.", field="quote")


def _boxes(request: HttpRequest, item: Shipment) -> list[packing.Box] | None:
    """One parcel with a chosen box and, where it was weighed, its weight."""
    package = request.POST.get("package", "")
    weight = request.POST.get("weight_g", "").strip()
    if not package and not weight:
        return None
    proposed = packing.whole_in_one(item)
    return [
        packing.Box(
            proposed.items,
            package_type_id=int(package) if package.isdigit() else proposed.package_type_id,
            weight_g=_number(request, "weight_g") if weight else None,
        )
    ]


@screen("shipping.view")
@require_GET
def label_file(request: HttpRequest, pk: int, kind: str) -> HttpResponse:
    """The bought labels of a shipment, PDF or ZPL."""
    item = selectors.find(request.user, pk)
    document = (
        LabelDocument.objects.filter(
            purchase__parcel__shipment=item, purchase__state=LabelPurchase.State.PURCHASED, format=kind
        )
        .order_by("purchase__parcel__number")
        .first()
    )
    if document is None:
        raise NotFound(f"label: {item.number} has no {kind} label.")
    response = HttpResponse(
        bytes(document.content),
        content_type="application/pdf" if kind == "pdf" else "text/plain; charset=utf-8",
    )
    response["Content-Disposition"] = f'inline; filename="{item.number}.{kind}"'
    response["Cache-Control"] = "no-store"
    return response


@screen("shipping.view")
@require_GET
def packing_slip(request: HttpRequest, pk: int) -> HttpResponse:
    """The slip that goes into the parcel."""
    item = selectors.find(request.user, pk)
    response = HttpResponse(packing_slip_pdf(item), content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="{item.number}-slip.pdf"'
    response["Cache-Control"] = "no-store"
    return response


@screen("shipping.work")
@require_GET
def floor(request: HttpRequest) -> HttpResponse:
    """The queue of the floor: scan or tap a shipment, the most urgent first."""
    queue = selectors.work_queue(request.user)
    if place := request.GET.get("warehouse", ""):
        queue = queue.filter(warehouse__code=place)
    code = request.GET.get("code", "").strip()
    if code:
        digits = code.upper().removeprefix("S-")
        found = queue.filter(pk=int(digits)).first() if digits.isdigit() and len(digits) < 18 else None
        number = code.rpartition("-")[2]
        if found is None and number.isdigit() and len(number) < 18:
            found = (
                queue.filter(order_id=int(number) - Order.NUMBER_BASE).first()
                or queue.filter(order__external_number=code).first()
            )
        if found:
            return redirect("fulfillment:bench", pk=found.pk)
        messages.error(request, f"{code}: no open shipment here has that number.")
    return render(request, "fulfillment/floor.html", {"queue": list(queue[:60])})


@screen("shipping.work")
@require_http_methods(["GET", "POST"])
def bench(request: HttpRequest, pk: int) -> HttpResponse:
    """Pick and pack one shipment: one task per screen, the scan box keeps the focus."""
    item = selectors.find(request.user, pk, "shipping.work")
    actor = actor_of(request.user)
    verdict = None
    if request.method == "POST":
        code = request.POST.get("code", "").strip()
        if code.upper() == "OK" and item.state == Shipment.State.PICKING:
            packing.pack(pk, actor=actor)
            _shop(pk)
        else:
            if item.state == Shipment.State.READY:
                picking.claim(pk, actor=actor)
            verdict = picking.scan(pk, code, actor=actor)
        item = selectors.find(request.user, pk, "shipping.work")
    response = _bench(request, item, verdict)
    if verdict is not None:
        response["HX-Trigger"] = json.dumps({"scan:ok" if verdict.ok else "scan:bad": {}})
    return response


def _bench(
    request: HttpRequest,
    item: Shipment,
    verdict: Any = None,
    customs: Panel | None = None,
    doubt: dict[str, str] | None = None,
    status: int = 200,
) -> HttpResponse:
    context = _page(request, item, customs) | {"verdict": verdict, "doubt": doubt}
    context["form_key"] = new_form_key()
    context["found_reasons"] = (
        AdjustmentReason.objects.filter(is_active=True)
        .exclude(direction=AdjustmentReason.Direction.OUT)
        .values_list("code", "label")
    )
    context["next_line"] = next((line for line in context["lines"] if line.picked < line.quantity), None)
    at_work = item.state in (Shipment.State.READY, Shipment.State.PICKING) and not context["blocked"]
    context["walk"] = picking.route([item]) if at_work and context["next_line"] else []
    name = "_bench" if is_fragment(request) else "bench"
    return render(request, f"fulfillment/{name}.html", context, status=status)


@screen("shipping.view", write="products.customs")
@require_POST
def customs(request: HttpRequest, pk: int) -> HttpResponse:
    """Complete the customs data that blocks the label, at the SKUs; then the packed shipment goes on to its rates."""
    item = selectors.find(request.user, pk)
    require(request.user, "products.customs", item.warehouse.code, item.order.channel.code)
    given = {name: str(text) for name, text in request.POST.items()}
    at_bench = given.get("from") == "bench" and can(request.user, "shipping.work", item.warehouse.code)
    errors = fixing.save(item, given, actor=actor_of(request.user))
    if errors:
        panel = fixing.panel(item, given, errors)
        if at_bench:
            return _bench(request, item, customs=panel, status=422)
        return render(request, "fulfillment/shipment.html", _page(request, item, panel), status=422)
    if item.state == Shipment.State.PACKED and can(request.user, "shipping.label", item.warehouse.code):
        try:
            _shop(pk)
        except UserError as error:  # what was typed is kept
            messages.error(request, error.message)
    messages.success(request, "Kept at the SKU.")
    return redirect("fulfillment:bench" if at_bench else "fulfillment:shipment", pk=pk)


@screen("shipping.view")
@require_GET
def invoice(request: HttpRequest, pk: int) -> HttpResponse:
    """The commercial invoice of a parcel that crosses a customs border."""
    item = selectors.find(request.user, pk)
    response = HttpResponse(invoice_pdf(item), content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="{item.number}-invoice.pdf"'
    response["Cache-Control"] = "no-store"
    return response


@screen("orders.view")
@require_GET
def order_panel(request: HttpRequest, order_id: int) -> HttpResponse:
    """Why this warehouse, and the shipments: the part of the order page that fulfillment owns."""
    order = get_visible(request.user, order_id)
    decision = RoutingDecision.objects.filter(order=order).first()
    may_route = order.state in allocation.ROUTABLE and can(
        request.user, "orders.route", channel_code=order.channel.code
    )
    shipments = list(
        Shipment.objects.filter(order=order).select_related("warehouse", "carrier_account").order_by("pk")
    )
    live = [one for one in shipments if one.state != Shipment.State.CANCELLED]
    shares = parts.shares_of(order) if len(live) > 1 else {}
    waiting = [one for one in live if one.state == Shipment.State.READY and not one.claimed_by]
    twins = {
        one.warehouse_id
        for one in waiting
        if sum(1 for w in waiting if w.warehouse_id == one.warehouse_id) > 1
    }
    free = parts.free_units(order) if may_route and waiting else {}
    return render(
        request,
        "fulfillment/_order_panel.html",
        {
            "order": order,
            "decision": decision,
            # why each of the others lost stands in its row of the table
            "summary": "; ".join(part for part in decision.summary.split("; ") if " lost: " not in part)
            if decision
            else "",
            "candidates": [
                one | {"leaves": parse_date(one.get("ships") or "")}
                for one in (decision.trace.get("candidates") or [])
            ]
            if decision
            else [],
            "matched": [rule for rule in decision.trace.get("rules", []) if rule["matched"]]
            if decision
            else [],
            "shipments": [
                {
                    "item": one,
                    "share": shares.get(one.pk),
                    "rejoin": may_route
                    and one in waiting
                    and one.warehouse_id in twins
                    and one is not waiting[0],
                }
                for one in shipments
            ],
            "rest": shares.get(None),
            "shares": shares,
            "next": _next_step(request, live),
            "split": [
                {"line": line, "free": free[line.pk]}
                for line in order.lines.select_related("sku").order_by("pk")
                if line.pk in free
            ]
            if sum(free.values()) > 1
            else [],
            "warehouses": Warehouse.objects.filter(
                is_active=True, sales_channels__channel=order.channel, sales_channels__fulfils=True
            ),
            "may_route": may_route,
        },
    )


def _next_step(request: HttpRequest, live: list[Shipment]) -> dict[str, str] | None:
    """The one thing to do next for an order whose only parcel waits in the house; None when there is none to name."""
    if len(live) != 1:
        return None
    item = live[0]
    if item.state in (Shipment.State.READY, Shipment.State.PICKING):
        word, icon, name, permission = "Pick & pack", "scan-barcode", "fulfillment:bench", "shipping.work"
    elif item.state == Shipment.State.PACKED:
        word, icon, name, permission = "Buy label", "printer", "fulfillment:shipment", "shipping.label"
    else:
        return None
    if not item.warehouse.counted_by_us or not can(request.user, permission, item.warehouse.code):
        return None
    return {"word": word, "icon": icon, "url": reverse(name, args=[item.pk])}


@screen("orders.view", write="orders.route")
@require_POST
def route_order(request: HttpRequest, order_id: int) -> HttpResponse:
    """Re-route, or send from a warehouse chosen by hand with a reason."""
    order = get_visible(request.user, order_id, "orders.route")
    actor = actor_of(request.user)
    code = request.POST.get("warehouse", "")
    if code:
        warehouse = Warehouse.objects.filter(code=code).first()
        if warehouse is None:
            raise UserError("warehouse: choose one of the list.", field="warehouse")
        decision: RoutingDecision | None = routing_service.assign(
            order.pk, warehouse.pk, reason=request.POST.get("reason", ""), actor=actor
        )
    else:
        Order.objects.filter(pk=order.pk).update(routing_locked=False)
        decision = routing_service.route(order.pk, actor=actor)
    messages.info(
        request, decision.summary if decision else "Nothing to route: see the order's state and holds."
    )
    return redirect("orders:detail", number=order.number)


@screen("orders.view")
@require_GET
def recall(request: HttpRequest, lot_id: int) -> HttpResponse:
    """A lot from its supplier to every order that got it."""
    scope = scope_of(request.user, "orders.view")
    found = lot_recall.recall(lot_id, scope=scope)
    if request.GET.get("format") == "csv":
        rows = [["order", "channel", "shipment", "shipped_at", "units", "serials"]]
        rows += [
            [
                one.shipment.order.number, one.shipment.order.channel.name, one.shipment.number,
                one.shipment.shipped_at.isoformat() if one.shipment.shipped_at else "", str(one.units),
                " ".join(one.serials),
            ]
            for one in found.recipients
        ]  # fmt: skip
        answer = HttpResponse(content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="recall-{found.lot.pk}.csv"'
        writer = csv.writer(answer)
        writer.writerows([csvsafe.safe_cell(cell) for cell in row] for row in rows)
        return answer
    mine = {code: units for code, units in found.on_hand.items() if scope.covers(code)}
    places = ", ".join(f"{units} in {code}" for code, units in mine.items())
    context = {
        "found": found,
        "here": sum(mine.values()),
        "places": places,
        "serials": any(one.serials for one in found.recipients),
    }
    return render(request, "fulfillment/recall.html", context)
