"""Screens of the purchasing floor: purchase orders, receiving, suppliers, reorder."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.db.models import Count, F, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from inventory import packs, scanning, serials
from inventory import screens as stock_screens
from inventory.models import Sku, Warehouse
from oms.core import business, lists
from oms.core.access import can, require, scope_of
from oms.core.actor import actor_of
from oms.core.clock import business_day
from oms.core.doorbell import ring
from oms.core.errors import NotFound, UserError
from oms.core.paging import keyset_page
from oms.core.screens import (
    first_time,
    form_key,
    is_fragment,
    made_before,
    new_form_key,
    page,
    posted_amount,
    posted_day,
    posted_whole,
    screen,
)
from procurement import landed, moves, planner, purchase_orders, receiving, selectors, states
from procurement.models import (
    LandedCharge,
    PurchaseOrder,
    PurchaseOrderLine,
    ReorderSuggestion,
    Supplier,
    SupplierOffer,
)
from procurement.offers import price_for

TABS: tuple[tuple[str, str, list[str]], ...] = (
    ("open", "Open", [s.value for s in states.RECEIVABLE] + ["draft", "approved"]),
    ("late", "Late", []),
    ("received", "Received", ["received", "closed"]),
    ("cancelled", "Cancelled", ["cancelled"]),
)


def _visible(request: HttpRequest, permission: str = "purchasing.view") -> QuerySet[PurchaseOrder]:
    scope = scope_of(request.user, permission)
    return PurchaseOrder.objects.filter(scope.q(warehouse="warehouse__code")).select_related(
        "supplier", "warehouse"
    )


@screen("purchasing.view")
@require_GET
def orders(request: HttpRequest) -> HttpResponseBase:
    """Purchase orders of the warehouses the person may see."""
    tab = request.GET.get("tab", "open")
    wanted = next((values for key, _, values in TABS if key == tab), TABS[0][2])
    found = _visible(request)
    late = found.filter(state__in=states.INCOMING, expected_on__lt=business_day())
    overdue = None if is_fragment(request) else late.count()
    if tab == "late":
        found = late
    else:
        found = found.filter(state__in=wanted)
    if place := request.GET.get("warehouse", ""):
        found = found.filter(warehouse__code=place)
    query = request.GET.get("q", "").strip()
    if query:
        digits = query.upper().removeprefix("PO-")
        match = (
            Q(supplier__name__icontains=query) | Q(external_number=query) | Q(lines__sku__code__iexact=query)
        )
        if digits.isdigit() and len(digits) < 18:
            match |= Q(pk=int(digits))
        found = found.filter(match).distinct()
    found = found.annotate(
        units=Sum("lines__quantity"),
        got=Sum("lines__received"),
        value=Sum(F("lines__quantity") * F("lines__unit_price")),
    )
    if lists.wants_csv(request):
        return _orders_csv(found.order_by("-id"), can(request.user, "costs.view"))
    listed = keyset_page(
        found,
        order=("-id",),
        cursor=request.GET.get("cursor", ""),
        limit=50,
    )
    tools = lists.tools(
        request,
        "procurement:orders",
        ((2, "Supplier"), (3, "To"), (4, "Expected"), (5, "Received")),
        csv=True,
    )
    context = {
        "rows": listed.items,
        "next_cursor": listed.next_cursor,
        "columns": 7,
        "q": query,
        "tab": tab,
        "today": business_day(),
        "place": place,
        "places": _places(request),
        "filtered": bool(query or place),
        "tools": tools,
        "tabs": lists.with_saved(
            [
                {
                    "label": label,
                    "url": f"?tab={key}",
                    "count": overdue if key == "late" else None,
                    "tone": "bad" if key == "late" and overdue else "",
                    "active": key == tab,
                }
                for key, label, _ in TABS
            ],
            tools,
        ),
        "may_edit": can(request.user, "purchasing.edit"),
        "see_costs": can(request.user, "costs.view"),
    }
    fragment = "procurement/_rows.html" if request.GET.get("cursor") else "procurement/_results.html"
    return page(request, "procurement/orders.html", context, fragment=fragment)


def _places(request: HttpRequest) -> list[tuple[str, str]]:
    scope = scope_of(request.user, "purchasing.view")
    places = Warehouse.objects.filter(scope.q(warehouse="code"), is_active=True)
    return [(place.code, place.name) for place in places]


@screen("purchasing.view")
@require_GET
def sku_panel(request: HttpRequest, sku_id: int) -> HttpResponse:
    """The suppliers of one SKU and what of it is on order: the part of the SKU page that purchasing owns."""
    offers = SupplierOffer.objects.filter(sku=sku_id).select_related("supplier").prefetch_related("breaks")
    open_lines = (
        PurchaseOrderLine.objects.filter(sku=sku_id, order__in=_visible(request))
        .filter(order__state__in=states.INCOMING)
        .select_related("order__supplier", "order__warehouse")
        .order_by("order__expected_on", "pk")[:50]
    )
    context = {
        "offers": offers.order_by("rank", "pk"),
        "lines": open_lines,
        "see_costs": can(request.user, "costs.view"),
    }
    return render(request, "procurement/_sku_panel.html", context)


@screen("purchasing.view")
@require_GET
def sku_stock(request: HttpRequest, sku_id: int) -> HttpResponse:
    """How the stock of one SKU went against its reorder point: the part of the SKU page that purchasing knows."""
    sku = Sku.objects.filter(pk=sku_id).first()
    if sku is None:
        raise NotFound("SKU: there is no such SKU.")
    places = stock_screens.visible_warehouses(request.user)
    known = (
        ReorderSuggestion.objects.filter(sku=sku, warehouse__in=places).order_by("-updated_at", "-pk").first()
    )
    context = {
        "closing": stock_screens.closing(sku, places),
        "suggestion": known,
        "point": None if known is None else known.reorder_point,
    }
    return render(request, "procurement/_sku_stock.html", context)


def _find(request: HttpRequest, pk: int, permission: str = "purchasing.view") -> PurchaseOrder:
    found: PurchaseOrder | None = _visible(request, permission).filter(pk=pk).first()
    if found is None:
        raise NotFound("PO: there is no such purchase order.")
    return found


@screen("purchasing.view")
@require_GET
def order(request: HttpRequest, pk: int) -> HttpResponse:
    """One purchase order: lines, receiving, charges, and what may happen next."""
    return _order_page(request, _find(request, pk))


def _order_page(request: HttpRequest, item: PurchaseOrder, tally: _Tally | None = None) -> HttpResponse:
    charges = list(item.charges.prefetch_related("shares"))
    shares: dict[int, Decimal] = defaultdict(Decimal)
    for charge in charges:
        for share in charge.shares.all():
            shares[share.order_line_id] += share.amount
    lines = []
    skus = []
    for line in item.lines.select_related("sku__product").prefetch_related("sku__packs"):
        skus.append(line.sku)
        landed_unit = line.unit_price * item.fx_rate + shares[line.pk] / line.quantity
        typed = tally.row(line) if tally else {"good": line.open_quantity, "damaged": 0, "quarantine": 0}
        lines.append({"line": line, "landed": landed_unit, "typed": typed, "packs": line.sku.packs.all()})
    context = {
        "item": item,
        "lines": lines,
        "tally": tally,
        "packed": any(row["packs"] for row in lines),
        "tracked": any(sku.lot_tracked or sku.serial_tracked for sku in skus),
        "sku_ids": ",".join(str(sku.pk) for sku in skus[:200]),
        "charges": charges,
        "receipts": item.receipts.prefetch_related("lines__order_line__sku"),
        "total": sum((line.quantity * line.unit_price for line in item.lines.all()), Decimal(0)),
        "can_receive": item.state in states.RECEIVABLE
        and can(request.user, "purchasing.receive", item.warehouse.code),
        "moves": states.MOVES[item.state],
        "on_its_way": item.state not in purchase_orders.ENDED,
        "may_edit": can(request.user, "purchasing.edit", item.warehouse.code),
        "see_costs": can(request.user, "costs.view"),
        "form_key": tally.key if tally else new_form_key(),
        "today": business_day(),
        "kinds": LandedCharge.Kind.choices,
        "bases": LandedCharge.Basis.choices,
        "base": business.currency(),
        "late_days": (business_day() - item.expected_on).days
        if item.expected_on and item.state in states.INCOMING
        else 0,
    }
    return render(request, "procurement/order.html", context)


@dataclass(frozen=True)
class _Tally:
    """What was scanned and typed so far at the dock, per line; figures in eaches. Nothing of it is posted."""

    key: str
    figures: dict[int, dict[str, int]]
    typed: QueryDict
    verdict: str
    ok: bool

    def row(self, line: PurchaseOrderLine) -> dict[str, object]:
        words = {name: self.typed.get(f"{name}-{line.pk}", "") for name in ("lot", "expires", "serials")}
        return {**self.figures[line.pk], **words}


def _scan(request: HttpRequest, item: PurchaseOrder) -> _Tally:
    """One more scan: a unit's barcode counts one, a case's barcode counts what it holds."""
    lines = list(item.lines.select_related("sku"))
    figures: dict[int, dict[str, int]] = {}
    for line in lines:
        unit = request.POST.get(f"unit-{line.pk}", "")
        figures[line.pk] = {
            name: packs.eaches(line.sku, posted_whole(request, f"{name}-{line.pk}"), unit)
            for name in ("good", "damaged", "quarantine")
        }
        if request.POST.get("scanned") != "1":
            figures[line.pk]["good"] = 0  # the form began with everything that is open
    found = scanning.resolve(request.POST["code"], warehouse_id=item.warehouse_id)
    hit = next((line for line in lines if found.sku is not None and line.sku_id == found.sku.pk), None)
    if hit is None:
        verdict = f"{found.text[:80]} is not on {item.number}."
    else:
        figures[hit.pk]["good"] += found.units
        verdict = f"{hit.sku.code}: {figures[hit.pk]['good']} of {hit.open_quantity}"
    return _Tally(request.POST.get("form_key", ""), figures, request.POST, verdict, hit is not None)


@screen("purchasing.view")
@require_POST
def step(request: HttpRequest, pk: int, step: str) -> HttpResponse:
    """One step of a purchase order; the same services as the API."""
    item = _find(request, pk)
    actor = actor_of(request.user)
    require(
        request.user, "purchasing.receive" if step == "receive" else "purchasing.edit", item.warehouse.code
    )
    if step == "receive":
        if request.POST.get("code", "").strip():
            return _order_page(request, item, _scan(request, item))
        arrived = [
            receiving.Arrived(
                line.pk,
                posted_whole(request, f"good-{line.pk}"),
                posted_whole(request, f"damaged-{line.pk}"),
                posted_whole(request, f"quarantine-{line.pk}"),
                request.POST.get(f"lot-{line.pk}", "").strip()[:60],
                posted_day(request, f"expires-{line.pk}"),
                tuple(serials.parse(request.POST.get(f"serials-{line.pk}", "")[:100_000])),
            ).of(line.sku, request.POST.get(f"unit-{line.pk}", ""))
            for line in item.lines.select_related("sku")
        ]
        made = receiving.receive(
            pk,
            arrived,
            actor=actor,
            key=form_key(request),
            delivery_note=request.POST.get("delivery_note", ""),
            allow_over=can(request.user, "purchasing.edit", item.warehouse.code),
        )
        messages.success(request, f"{made.number} posted: good units are on sale now.")
    elif step == "charge":
        with transaction.atomic():
            if first_time(request):
                landed.add_charge(
                    pk,
                    kind=request.POST.get("kind", ""),
                    basis=request.POST.get("basis", ""),
                    amount=posted_amount(request, "amount"),
                    bill_reference=request.POST.get("bill", ""),
                    actor=actor,
                )
                messages.success(request, f"The charge is shared out over the lines of {item}.")
    elif step == "confirm":
        purchase_orders.confirm(pk, actor=actor, expected_on=posted_day(request, "expected_on"))
        messages.success(request, f"{item.supplier} has confirmed {item}.")
    elif step == "reschedule":
        day = posted_day(request, "expected_on")
        if day is None:
            raise UserError("expected_on: say on which day the goods come now.", field="expected_on")
        purchase_orders.reschedule(
            pk,
            day,
            line_id=posted_whole(request, "line") or None,
            reason=request.POST.get("reason", ""),
            actor=actor,
        )
        messages.success(
            request, "The date moved. Orders that wait for these goods get their new dates in a moment."
        )
    elif step == "quantity":
        changed = purchase_orders.change_quantity(
            pk, posted_whole(request, "line"), posted_whole(request, "quantity"), actor=actor
        )
        messages.success(
            request, f"{changed.quantity:,} of {changed.sku} are ordered now. Tell {item.supplier}."
        )
    elif step in _MOVES:
        move, words = _MOVES[step]
        moved = move(pk, actor=actor)
        messages.success(request, words.format(order=moved, supplier=item.supplier, warehouse=item.warehouse))
    else:
        raise NotFound("step: unknown.")
    return redirect("procurement:order", pk=pk)


#: step → its service, and what the person is told when it is done
_MOVES: dict[str, tuple[Callable[..., PurchaseOrder], str]] = {
    "approve": (
        purchase_orders.approve,
        "{order} is approved and counts as incoming in {warehouse}. Send it to {supplier}, then mark it as sent.",
    ),
    "send": (
        purchase_orders.send,
        "{order} is marked as sent to {supplier}: its lead time is measured from now on.",
    ),
    "cancel": (purchase_orders.cancel, "{order} is cancelled; its units are no longer incoming."),
    "close": (purchase_orders.close, "{order} is closed; what was still open counts as short."),
}


@screen("purchasing.edit")
@require_http_methods(["GET", "POST"])
def new_order(request: HttpRequest) -> HttpResponse:
    """A purchase order by hand: supplier, warehouse, and lines as 'SKU quantity' rows."""
    if request.method == "POST":
        supplier = Supplier.objects.filter(code=request.POST.get("supplier", "")).first()
        warehouse = Warehouse.objects.filter(code=request.POST.get("warehouse", "")).first()
        if supplier is None or warehouse is None:
            raise UserError("supplier: choose a supplier and a warehouse.", field="supplier")
        require(request.user, "purchasing.edit", warehouse.code)
        wanted = packs.read_lines(request.POST.get("lines", "")[:100_000])
        with transaction.atomic():
            if made_before(request):
                return redirect("procurement:orders")
            made = purchase_orders.create(
                supplier_id=supplier.pk,
                warehouse_id=warehouse.pk,
                actor=actor_of(request.user),
                lines=[
                    purchase_orders.LineSpec(sku.pk, units // unit.size, unit=unit.name)
                    if units % unit.size == 0
                    else purchase_orders.LineSpec(sku.pk, units)
                    for sku, unit, units in wanted
                ],
            )
        return redirect("procurement:order", pk=made.pk)
    scope = scope_of(request.user, "purchasing.edit")
    context = {
        "suppliers": [(s.code, s.name) for s in Supplier.objects.filter(is_active=True)],
        "warehouses": [
            (w.code, w.name) for w in Warehouse.objects.filter(scope.q(warehouse="code"), is_active=True)
        ],
        "supplier": request.GET.get("supplier", ""),
        "form_key": new_form_key(),
    }
    return render(request, "procurement/new_order.html", context)


@screen("purchasing.view")
@require_GET
def suppliers(request: HttpRequest) -> HttpResponseBase:
    """Suppliers with what is open and what they promise."""
    found = Supplier.objects.annotate(
        offers_count=Count("offers", distinct=True),
        open_orders=Count(
            "purchase_orders", filter=Q(purchase_orders__state__in=states.INCOMING), distinct=True
        ),
        late_orders=Count(
            "purchase_orders",
            filter=Q(
                purchase_orders__state__in=states.INCOMING, purchase_orders__expected_on__lt=business_day()
            ),
            distinct=True,
        ),
    ).order_by("name")
    if lists.wants_csv(request):
        return lists.csv_of("suppliers", SUPPLIER_HEADER, found, _supplier_row)
    return render(request, "procurement/suppliers.html", {"suppliers": found})


SUPPLIER_HEADER = (
    "code", "name", "currency", "lead_time_days", "email", "phone", "country", "payment_terms", "active", "offers",
    "open_orders", "late_orders",
)  # fmt: skip


def _supplier_row(item: Any) -> list[Any]:  # with the counts of the list
    return [
        item.code, item.name, item.currency, item.lead_time_days, item.email, item.phone, item.country,
        item.payment_terms, item.is_active, item.offers_count, item.open_orders, item.late_orders,
    ]  # fmt: skip


def _orders_csv(found: QuerySet[PurchaseOrder], costs: bool) -> HttpResponseBase:
    """Orders of the list; values only for who may see costs."""
    header = [
        "number",
        "external_number",
        "supplier",
        "warehouse",
        "status",
        "ordered_on",
        "expected_on",
        "units",
    ]

    def row(item: Any) -> list[Any]:
        return [
            item.number, item.external_number, item.supplier.name, item.warehouse.code, item.get_state_display(),
            item.ordered_on, item.expected_on, item.units or 0, item.got or 0,
            *((item.value or 0, item.currency) if costs else ()),
        ]  # fmt: skip

    header += ["units_received", *(("value", "currency") if costs else ())]
    return lists.csv_of("purchase-orders", header, found, row)


#: so many offers a supplier's page shows at a time
OFFERS = 50


@screen("purchasing.view")
@require_GET
def supplier(request: HttpRequest, code: str) -> HttpResponse:
    """One supplier: stated against measured lead time, how well it delivers, its offers and orders."""
    item = Supplier.objects.filter(code=code).first()
    if item is None:
        raise NotFound("supplier: there is no such supplier.")
    offers = keyset_page(
        item.offers.select_related("sku__product").prefetch_related("breaks"),
        order=("sku__code", "rank", "id"),
        cursor=request.GET.get("cursor", ""),
        limit=OFFERS,
    )
    see_costs = can(request.user, "costs.view")
    context = {
        "item": item,
        "lead": selectors.lead_time(item.pk, item.lead_time_days),
        "score": selectors.score(item.pk),
        "offers": offers.items,
        "next_cursor": offers.next_cursor,
        "columns": 7 if see_costs else 6,
        "offer_count": item.offers.count(),
        "may_edit": can(request.user, "purchasing.edit"),
        "orders": _visible(request).filter(supplier=item).order_by("-pk")[:20],
        "see_costs": see_costs,
    }
    fragment = "procurement/_offer_rows.html" if request.GET.get("cursor") else ""
    return page(request, "procurement/supplier.html", context, fragment=fragment)


@screen("purchasing.view", write="purchasing.edit")
@require_http_methods(["GET", "POST"])
def reorder(request: HttpRequest) -> HttpResponse:
    """What to buy, what to move between warehouses instead, and the whole sum behind each figure."""
    actor = actor_of(request.user)
    if request.method == "POST":
        action = request.POST.get("action", "")
        ids = _ticked(request)
        if action == "recalculate":
            ring("oms.orders.tasks.plan_reorders")
            messages.info(request, "Suggestions are being recalculated; they change here in a moment.")
        elif not ids:
            raise UserError("suggestions: tick at least one row.", field="ids")
        elif action == "order":
            made = planner.accept(ids, actor=actor)
            messages.success(request, f"Drafts made: {', '.join(po.number for po in made)}")
            if len(made) == 1:
                return redirect("procurement:order", pk=made[0].pk)
        elif action == "snooze":
            for pk in ids:
                planner.snooze(pk, business_day() + dt.timedelta(days=7), actor=actor)
            messages.success(request, f"{len(ids)} snoozed for a week.")
        return redirect("procurement:reorder")
    found = _suggestions(request).filter(state=ReorderSuggestion.State.OPEN)
    if place := request.GET.get("warehouse", ""):
        found = found.filter(warehouse__code=place)
    query = request.GET.get("q", "").strip()
    if query:
        found = found.filter(Q(sku__code__icontains=query) | Q(offer__supplier__name__icontains=query))
    rows = list(
        found.select_related("sku__product", "warehouse", "offer__supplier")
        .prefetch_related("offer__breaks", moves.offered())
        .order_by(F("stockout_on").asc(nulls_last=True), "sku__code")[:200]
    )
    day = business_day()
    context = {
        "rows": rows,
        "costs": {
            row.pk: price_for(row.offer, row.quantity, day) * row.quantity for row in rows if row.offer
        },
        "may_move": can(request.user, "stock.transfer"),
        "q": query,
        "place": place,
        "places": _places(request),
        "filtered": bool(query or place),
        "may_edit": can(request.user, "purchasing.edit"),
        "see_costs": can(request.user, "costs.view"),
    }
    return page(request, "procurement/reorder.html", context, fragment="procurement/_reorder.html")


@screen("stock.transfer")
@require_POST
def reorder_transfers(request: HttpRequest) -> HttpResponse:
    """Request what the ticked suggestions offer to move: one transfer per pair of warehouses."""
    ids = _ticked(request)
    for code in moves.sources_of(ids):
        require(request.user, "stock.transfer", code)
    made = moves.request(ids, actor=actor_of(request.user))
    messages.success(request, f"Requested: {', '.join(one.number for one in made)}. Nothing has moved yet.")
    if len(made) == 1:
        return redirect("inventory:transfer", pk=made[0].pk)
    return redirect("procurement:reorder")


def _suggestions(request: HttpRequest) -> QuerySet[ReorderSuggestion]:
    scope = scope_of(request.user, "purchasing.view")
    return ReorderSuggestion.objects.filter(scope.q(warehouse="warehouse__code"))


def _ticked(request: HttpRequest) -> list[int]:
    """Ids of the ticked suggestions that the person may see."""
    ids = [int(value) for value in request.POST.getlist("ids") if value.isdigit() and len(value) < 18]
    return list(_suggestions(request).filter(pk__in=ids).values_list("pk", flat=True))
