"""Many SKUs at once: the grid's bulk bar, and its rows as a file."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_POST

from inventory import bulk, exports, screens
from inventory.models import Sku, StockBatch, Warehouse
from oms.core.access import can, require, scope_of
from oms.core.actor import actor_of
from oms.core.csvsafe import stream_csv
from oms.core.errors import UserError
from oms.core.screens import back_to, csv_answer, form_key, is_fragment, screen, toast
from oms.core.words import some


def _found(request: HttpRequest, query: QueryDict) -> tuple[QuerySet[Sku], list[Warehouse]]:
    """SKUs and warehouses that the grid shows for these filters."""
    everywhere = screens.visible_warehouses(request.user)
    chosen = query.get("warehouse", "")
    shown = [place for place in everywhere if place.code == chosen] or everywhere
    return screens.find_skus(query.get("q", ""), query.get("view", ""), [place.pk for place in shown]), shown


@screen("stock.view")
@require_GET
def export(request: HttpRequest) -> StreamingHttpResponse:
    """The grid with its filters as a file of the asked shape, streamed."""
    name = request.GET.get("shape", "own")
    shape = exports.SHAPES.get(name)
    if shape is None:
        raise UserError(f"shape: choose one of {', '.join(exports.SHAPES)}.", field="shape")
    found, places = _found(request, request.GET)
    rows = exports.rows(found, places, shape, costs=can(request.user, "costs.view"))
    return csv_answer(f"stock-{name}.{shape.suffix}", stream_csv(shape.header, rows, shape.delimiter))


@screen("stock.adjust")
@require_POST
def bulk_action(request: HttpRequest) -> HttpResponse:
    """One action on the chosen SKUs, or on all that match the filters; above 100 it becomes a job."""
    mine = Warehouse.objects.filter(
        scope_of(request.user, "stock.adjust").q(warehouse="code"), is_active=True
    )
    place = mine.filter(code=request.POST.get("place", "")).first()
    if place is None:
        raise UserError("warehouse: choose the warehouse.", field="place")
    require(request.user, "stock.adjust", place.code)
    action = request.POST.get("action", "")
    params = bulk.checked(action, request.POST.get("value", ""), request.POST.get("reason", ""), place)
    if request.POST.get("all"):
        found, _ = _found(request, QueryDict(request.POST.get("query", "")))
    else:
        wanted = [int(one) for one in request.POST.getlist("ids") if one.isdigit() and len(one) < 18]
        found = Sku.objects.filter(pk__in=wanted[: bulk.MOST + 1])
    counted = found.exclude(kind__in=[Sku.Kind.KIT, Sku.Kind.SERVICE]).order_by("pk")
    ids = list(counted.values_list("pk", flat=True)[: bulk.MOST + 1])
    if not ids:
        raise UserError("SKUs: choose at least one that is counted.", field="ids")
    actor, key = actor_of(request.user), f"bulk:{form_key(request)}"
    done = bulk.begin(action, ids, place, params, actor=actor, key=key)
    if isinstance(done, bulk.Result):
        text, tone = done.sentence(), "warn" if done.skipped else "ok"
    elif isinstance(done, StockBatch):
        text, tone = f"Worth {done.value:,.2f}, above your limit: a second person approves it first.", "warn"
    else:
        text, tone = f"{some(len(ids), 'SKU')}: working in the background (job {done.pk}).", "ok"
    if is_fragment(request):
        return toast(HttpResponse(status=204), text, tone)
    (messages.success if tone == "ok" else messages.warning)(request, text)
    return redirect(back_to(request))
