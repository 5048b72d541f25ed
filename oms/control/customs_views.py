"""Customs terms per destination: who pays duty there, and the numbers that its customs want to read."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_POST

from fulfillment.customs import terms as service
from fulfillment.models import CustomsTerms
from oms.control.settings_views import settings_tabs
from oms.core.errors import UserError
from oms.core.middleware import request_actor
from oms.core.screens import page, say, screen

_FIELDS = ("destination", "incoterm", "eori", "ioss", "tax_id")


@screen("settings.manage")
@require_http_methods(["GET", "POST"])
def customs(request: HttpRequest) -> HttpResponse:
    """Every destination with terms of its own, and the form for one more or a change."""
    error: UserError | None = None
    if request.method == "POST":
        given = {name: request.POST.get(name, "") for name in _FIELDS}
        try:
            found = service.put(**given, actor=request_actor(request))
        except UserError as problem:
            error = problem
        else:
            say(request, f"Kept: {found.incoterm} to {found.place}.")
            return redirect("control:customs")
    else:
        asked = request.GET.get("destination", "").upper()
        known = (
            CustomsTerms.objects.filter(destination=asked).first() if "destination" in request.GET else None
        )
        given = {name: getattr(known, name) if known else "" for name in _FIELDS}
    context = {
        "rows": CustomsTerms.objects.order_by("destination"),
        "given": given,
        "error": error,
        "incoterms": CustomsTerms.Incoterm.choices,
        "tabs": settings_tabs(request, "customs"),
    }
    return page(request, "control/customs.html", context, status=422 if error else 200)


@screen("settings.manage")
@require_POST
def customs_remove(request: HttpRequest, terms_id: int) -> HttpResponse:
    """Forget the terms of a destination; the next wider one's hold from then on."""
    service.remove(terms_id, actor=request_actor(request))
    say(request, "The terms are gone.")
    return redirect("control:customs")
