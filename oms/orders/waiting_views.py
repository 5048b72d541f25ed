"""Orders that wait for goods: whom a receipt will serve, in which order, and the override of a person."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from inventory.models import Sku
from inventory.selectors import levels
from oms.core import business
from oms.core.access import can
from oms.core.actor import actor_of
from oms.core.errors import NotFound, UserError
from oms.core.screens import page, screen
from oms.orders import allocation, selectors
from oms.orders.models import OrderLine

#: lines on one screen; the rest is counted
MOST = 100


@screen("orders.view", write="orders.edit")
@require_http_methods(["GET", "POST"])
def waiting(request: HttpRequest) -> HttpResponse:
    """Waiting lines of some SKUs (`skus`, ids) or of all, in the order in which stock will serve them."""
    if request.method == "POST":
        if not request.POST.get("reason", "").strip():
            raise UserError("reason: say why this order goes before the others.", field="reason")
        text = request.POST.get("line", "")
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0
        orders = selectors.visible(request.user, "orders.edit")
        if not OrderLine.objects.filter(pk=number, order__in=orders).exists():
            raise NotFound("line: there is no such order line.")
        line = allocation.serve_first(
            number, reason=request.POST.get("reason", ""), actor=actor_of(request.user)
        )
        left = f"{line.short} still short" if line.short else "nothing is short any more"
        messages.success(request, f"{line.order.number} goes first; {left}.")
        wanted = request.POST.get("skus", "")
        return redirect(f"{reverse('orders:waiting')}?skus={wanted}" if wanted else "orders:waiting")
    wanted = request.GET.get("skus", "")
    ids = [int(part) for part in wanted.split(",") if part.isascii() and part.isdigit() and len(part) < 18][
        :200
    ]
    if wanted and not ids:
        raise UserError("skus: give ids separated by commas.", field="skus")
    sku_ids = ids or list(
        OrderLine.objects.filter(short__gt=0, sku__isnull=False)
        .values_list("sku_id", flat=True)
        .distinct()[:1000]
    )
    found = allocation.waiting_lines(sku_ids) if sku_ids else []
    seen = set(
        selectors.visible(request.user)
        .filter(pk__in={line.order_id for line in found})
        .values_list("pk", flat=True)
    )
    mine = [line for line in found if line.order_id in seen]
    shown = mine[:MOST]
    there: dict[int, int] = {}
    for (sku_id, _), level in levels({line.sku_id for line in shown if line.sku_id}).items():
        there[sku_id] = there.get(sku_id, 0) + level.available
    context = {
        "rows": [{"line": line, "available": there.get(line.sku_id or 0, 0)} for line in shown],
        "more": len(mine) - len(shown),
        "hidden": len(found) - len(mine),
        "skus": ",".join(map(str, ids)),
        "names": list(Sku.objects.filter(pk__in=ids[:10]).order_by("code").values_list("code", flat=True)),
        "rule": allocation.PRIORITIES[str(business.get("backorder_priority"))][0],
        "may_edit": can(request.user, "orders.edit"),
    }
    return page(request, "orders/waiting.html", context, fragment="orders/_waiting.html")
