"""Which orders get their goods from a purchase order or a transfer, and whose day moved or was lost with it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from inventory.models import Transfer
from oms.core.access import scope_of
from oms.core.errors import NotFound
from oms.core.screens import page, screen
from oms.orders import promises, selectors
from procurement.models import PurchaseOrder

#: lines on one screen; the rest is counted
MOST = 100


@screen("orders.view")
@require_GET
def promised(request: HttpRequest) -> HttpResponse:
    """Promised days of lines that wait, lost ones first: of one purchase order (`purchase`, its id), of one transfer
    (`transfer`) or of all.
    """
    about: PurchaseOrder | Transfer | None = None
    found = promises.standing()
    if text := request.GET.get("purchase", ""):
        scope = scope_of(request.user, "purchasing.view")
        about = PurchaseOrder.objects.filter(scope.q(warehouse="warehouse__code"), pk=_id(text)).first()
        if about is None:
            raise NotFound("purchase: there is no such purchase order.")
        found = promises.of_source(("PO", about.pk))
    elif text := request.GET.get("transfer", ""):
        scope = scope_of(request.user, "stock.view")
        ends = scope.q(warehouse="source__code") | scope.q(warehouse="destination__code")
        about = Transfer.objects.filter(ends, pk=_id(text)).first()
        if about is None:
            raise NotFound("transfer: there is no such transfer.")
        found = promises.of_source(("TR", about.pk))
    mine = found.filter(line__order__in=selectors.visible(request.user))
    count = mine.count()
    context = {
        "about": about,
        "rows": mine[:MOST],
        "more": max(0, count - MOST),
        "hidden": found.count() - count,
    }
    return page(request, "orders/promises.html", context, fragment="orders/_promises.html")


def _id(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0
