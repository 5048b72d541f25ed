"""Exchange rates: what a unit of another currency is worth, from which day on."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal, InvalidOperation

from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from oms.control.settings_views import settings_tabs
from oms.core import business
from oms.core.clock import business_day
from oms.core.errors import UserError
from oms.core.middleware import request_actor
from oms.core.screens import Undo, page, say, screen
from oms.orders import rates as service
from oms.orders.models import FxRate, Order


@screen("costs.view")
@require_http_methods(["GET", "POST"])
def rates(request: HttpRequest) -> HttpResponse:
    """The rates, newest first, and the currencies whose orders wait for one."""
    errors: list[str] = []
    given = {name: request.POST.get(name, "").strip() for name in ("currency", "day", "rate")}
    if request.method == "POST":
        try:
            found, stamped = service.set_rate(
                given["currency"], _day(given["day"]), _rate(given["rate"]), actor=request_actor(request)
            )
        except UserError as error:
            errors = [error.message]
        else:
            text = (
                f"1 {found.currency} is {found.rate.normalize():f} {business.currency()} from {found.day} on."
            )
            if stamped:
                text += f" {stamped:,} order(s) that waited are counted now."
            undo = None if stamped else Undo(reverse("control:rate-remove", args=[found.pk]))
            say(request, text, undo)
            return redirect("control:rates")
    else:
        given = {"currency": request.GET.get("currency", ""), "day": f"{business_day()}", "rate": ""}
    waiting = (
        Order.objects.filter(fx_day__isnull=True)
        .values("currency")
        .annotate(orders=Count("pk"), first=Min("placed_at"))
        .order_by("currency")[:50]
    )
    context = {
        "rows": FxRate.objects.order_by("-day", "currency")[:200],
        "waiting": waiting,
        "errors": errors,
        "given": given,
        "base": business.currency(),
        "tabs": settings_tabs(request, "rates"),
    }
    return page(request, "control/rates.html", context, status=422 if errors else 200)


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise UserError(f"day: '{text[:20]}' is not a day; write 2026-11-23.", field="day") from None


def _rate(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise UserError(f"rate: '{text[:20]}' is not a number; write 1.0842.", field="rate") from None


@screen("costs.view")
@require_POST
def rate_remove(request: HttpRequest, rate_id: int) -> HttpResponse:
    """Forget a rate that no order carries."""
    service.remove_rate(rate_id, actor=request_actor(request))
    say(request, "The rate is gone.")
    return redirect("control:rates")
