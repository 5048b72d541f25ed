"""Screens of numbered units: find one, its way from the dock to the buyer and back."""

from __future__ import annotations

from django.contrib import messages
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from inventory import numbering, operations, scanning, serials
from inventory.models import AdjustmentReason, SerialUnit, Warehouse
from inventory.screens import visible_warehouses
from oms.core.access import can, require, scope_of
from oms.core.actor import actor_of
from oms.core.errors import NotFound, UserError
from oms.core.paging import keyset_page
from oms.core.screens import first_time, form_key, new_form_key, page, posted_whole, screen

VIEWS = (("", "All"), *SerialUnit.State.choices)


def _visible(request: HttpRequest) -> QuerySet[SerialUnit]:
    """Units that are, or were, where the person may look."""
    scope = scope_of(request.user, "stock.view")
    here, once = scope.q(warehouse="warehouse__code"), scope.q(warehouse="events__warehouse__code")
    return (
        SerialUnit.objects.filter(here | once).distinct().select_related("sku__product", "warehouse", "lot")
    )


@screen("stock.view", write="stock.adjust")
@require_http_methods(["GET", "POST"])
def serial_list(request: HttpRequest) -> HttpResponse:
    """Numbered units, the newest first; a scan or part of a number finds them. Units without a number get theirs."""
    if request.method == "POST":
        return _number(request)
    view, query = request.GET.get("view", ""), request.GET.get("q", "").strip()
    found = _visible(request)
    if view in SerialUnit.State.values:
        found = found.filter(state=view)
    if query:
        match = Q(serial__icontains=query) | Q(reference__iexact=query)
        scanned = scanning.resolve(query)
        if scanned.serial:  # a symbol may hold both: one unit is meant, not every unit of its SKU
            match |= Q(sku=scanned.sku, serial__iexact=scanned.serial)
        elif scanned.sku is not None:
            match |= Q(sku=scanned.sku)
        found = found.filter(match)
    listed = keyset_page(found, order=("-id",), cursor=request.GET.get("cursor", ""), limit=50)
    context = {
        "rows": listed.items,
        "next_cursor": listed.next_cursor,
        "columns": 6,
        "q": query,
        "view": view,
        "filtered": bool(view or query),
        "nameless": numbering.nameless([place.pk for place in visible_warehouses(request.user)])[:100],
        "may_number": can(request.user, "stock.adjust"),
        "form_key": new_form_key(),
        "tabs": [
            {"label": label, "url": f"?view={key}" if key else "?", "count": None, "active": key == view}
            for key, label in VIEWS
        ],
    }
    fragment = "inventory/_serial_rows.html" if request.GET.get("cursor") else "inventory/_serials.html"
    return page(request, "inventory/serials.html", context, fragment=fragment)


def _number(request: HttpRequest) -> HttpResponse:
    sku, place = posted_whole(request, "sku"), posted_whole(request, "warehouse")
    mine = Warehouse.objects.filter(
        scope_of(request.user, "stock.adjust").q(warehouse="code"), pk=place
    ).first()
    if mine is None:
        raise UserError("warehouse: choose one where you may change stock.", field="warehouse")
    given = serials.parse(request.POST.get("serials", "")[:100_000])
    with transaction.atomic():
        if first_time(request):
            left = numbering.number(
                sku_id=sku, warehouse_id=mine.pk, numbers=given, actor=actor_of(request.user)
            )
            rest = f"; {left} are left without" if left else "; every unit has a number now"
            messages.success(request, f"{len(given)} numbered{rest}.")
    return redirect("inventory:serials")


@screen("stock.view", write="stock.adjust")
@require_http_methods(["GET", "POST"])
def serial(request: HttpRequest, unit_id: int) -> HttpResponse:
    """One unit and every step of its way; a refurbished one is put back in stock here."""
    unit = _visible(request).filter(pk=unit_id).first()
    if unit is None:
        raise NotFound("serial: there is no such unit.")
    if request.method == "POST":
        require(request.user, "stock.adjust", unit.warehouse.code if unit.warehouse else None)
        operations.refurbished(
            unit.pk, reason=request.POST.get("reason", ""), note=request.POST.get("note", ""),
            actor=actor_of(request.user), key=form_key(request),
        )  # fmt: skip
        messages.success(request, f"{unit.sku} {unit} is in stock again.")
        return redirect("inventory:serial", unit_id=unit.pk)
    events = unit.events.select_related("warehouse")[:200]
    context = {
        "unit": unit,
        "events": events,
        "may_restock": unit.state == SerialUnit.State.RETURNED
        and bool(events)
        and events[0].words == serials.REFURBISHING
        and unit.warehouse is not None
        and can(request.user, "stock.adjust", unit.warehouse.code),
        "reasons": AdjustmentReason.objects.filter(is_active=True).values_list("code", "label"),
        "form_key": new_form_key(),
    }
    return page(request, "inventory/serial.html", context)
