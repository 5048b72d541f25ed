"""Which orders get their goods from a purchase order, and whose day moved or was lost with it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

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
    """Promised days of lines that wait, of one purchase order (`purchase`, its id) or of all: lost ones first."""
    text, purchase = request.GET.get("purchase", ""), None
    found = promises.standing()
    if text:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0
        scope = scope_of(request.user, "purchasing.view")
        purchase = PurchaseOrder.objects.filter(scope.q(warehouse="warehouse__code"), pk=number).first()
        if purchase is None:
            raise NotFound("purchase: there is no such purchase order.")
        found = promises.of_purchase(purchase.pk)
    mine = found.filter(line__order__in=selectors.visible(request.user))
    count = mine.count()
    context = {
        "purchase": purchase,
        "rows": mine[:MOST],
        "more": max(0, count - MOST),
        "hidden": found.count() - count,
    }
    return page(request, "orders/promises.html", context, fragment="orders/_promises.html")
