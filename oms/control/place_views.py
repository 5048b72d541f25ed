"""Settings of one warehouse, and the carriers."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from fulfillment import carrier_accounts
from fulfillment.models import CarrierAccount, LabelPurchase
from inventory import places, putaway
from inventory.models import Bin, Warehouse
from oms.control.settings_views import settings_tabs
from oms.core.clock import business_day
from oms.core.errors import NotFound, UserError
from oms.core.middleware import request_actor
from oms.core.money import plain
from oms.core.screens import page, posted_whole, screen

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class WarehouseForm(forms.ModelForm):
    class Meta:
        model = Warehouse
        fields = places.FACTS
        labels = {
            "address1": "Street",
            "address2": "Street, second line",
            "region": "Region",
            "priority": "Rank, 1 first",
            "capacity_per_day": "Daily limit",
            "handling_cost": "Cost per shipment",
            "is_active": "In use",
        }
        help_texts = dict.fromkeys(("priority", "capacity_per_day", "handling_cost"), "")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["handling_cost"] = plain(self.instance.handling_cost)

    def clean_country(self) -> str:
        country: str = self.cleaned_data["country"].upper()
        if len(country) != 2 or not country.isalpha():
            raise forms.ValidationError("Write the country with two letters, such as US.")
        return country


def _find(code: str) -> Warehouse:
    found = Warehouse.objects.filter(code=code).first()
    if found is None:
        raise NotFound("warehouse: there is no such warehouse.")
    return found


@require_http_methods(["GET", "POST"])
@screen("settings.manage")
def warehouse(request: HttpRequest, code: str) -> HttpResponse:
    """Address and limits, working week, closed days, bins."""
    place = _find(code)
    form = WarehouseForm(request.POST or None, instance=_find(code))
    if request.method == "POST" and form.is_valid():
        try:
            places.set_facts(code, form.cleaned_data, actor=request_actor(request))
        except UserError as error:
            form.add_error(error.field if error.field in form.fields else None, error.message)
        else:
            messages.success(request, "Warehouse saved.")
            return redirect("control:warehouse-settings", code=code)
    cut_offs = {row.weekday: row.cut_off for row in place.hours.all()}
    context = {
        "tabs": settings_tabs(request, "warehouses"),
        "place": place,
        "form": form,
        "week": [(day, name, cut_offs.get(day)) for day, name in enumerate(DAYS)],
        "always": not cut_offs,
        "closures": place.closures.filter(last_day__gte=business_day() - dt.timedelta(days=30)),
        "bins": place.bins.order_by("pick_sequence", "code")[:500],
        "bin_count": place.bins.count(),
        "kinds": Bin.Kind.choices,
    }
    return page(request, "control/warehouse.html", context, status=422 if form.errors else 200)


def _day(request: HttpRequest, name: str) -> dt.date:
    text = request.POST.get(name, "").strip()
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        words = name.replace("_", " ")
        raise UserError(f"{words}: '{text}' is not a day; write 2026-12-24.", field=name) from error


def _time(text: str, day: str) -> dt.time:
    try:
        return dt.time.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{day}: '{text}' is not a time; write 15:00.", field="hours") from error


@require_POST
@screen("settings.manage")
def warehouse_act(request: HttpRequest, code: str) -> HttpResponse:
    """Hours, closures and bins of a warehouse."""
    place = _find(code)
    actor, action = request_actor(request), request.POST.get("action", "")
    if action == "hours":
        named = {day: request.POST.get(f"cut-{day}", "").strip() for day in range(7)}
        cut_offs = {day: _time(text, DAYS[day]) for day, text in named.items() if text}
        places.set_hours(place.code, cut_offs, actor=actor)
        messages.success(request, "Working hours saved. Orders from now on get their ship-by time from them.")
    elif action == "close":
        first = _day(request, "first_day")
        last = _day(request, "last_day") if request.POST.get("last_day") else first
        places.close_days(place.code, first, last, request.POST.get("reason", ""), actor=actor)
        messages.success(request, "Closed days saved.")
    elif action == "open":
        places.open_days(place.code, posted_whole(request, "closure"), actor=actor)
        messages.success(request, "It is open on these days again.")
    elif action == "bin":
        made = putaway.save_bin(
            warehouse_id=place.pk, code=request.POST.get("bin", ""), zone=request.POST.get("zone", ""),
            pick_sequence=posted_whole(request, "sequence"), kind=request.POST.get("kind", "pick"), actor=actor,
        )  # fmt: skip
        messages.success(request, f"Bin {made.code} added.")
    elif action in ("bin-on", "bin-off"):
        old = place.bins.filter(pk=posted_whole(request, "bin_id")).first()
        if old is None:
            raise NotFound("bin: there is no such bin.", field="bin")
        found = putaway.save_bin(
            warehouse_id=place.pk, bin_id=old.pk, code=old.code, zone=old.zone, pick_sequence=old.pick_sequence,
            kind=old.kind, is_active=action == "bin-on", actor=actor,
        )  # fmt: skip
        messages.success(
            request, f"Bin {found.code} is {'in use' if found.is_active else 'not used any more'}."
        )
    else:
        raise UserError("action: choose hours, close, open or bin.", field="action")
    return redirect("control:warehouse-settings", code=code)


# --- carriers -----------------------------------------------------------------------------------


@require_GET
@screen("settings.manage")
def carriers(request: HttpRequest) -> HttpResponse:
    """Carrier accounts with their services, and where each may be used."""
    accounts = CarrierAccount.objects.prefetch_related("warehouses", "services").order_by(
        "preference", "code"
    )
    bought = dict(
        LabelPurchase.objects.filter(state=LabelPurchase.State.PURCHASED)
        .values_list("account")
        .annotate(n=Count("pk"))
        .order_by()
    )
    context = {
        "tabs": settings_tabs(request, "carriers"),
        "accounts": [(account, bought.get(account.pk, 0)) for account in accounts],
    }
    return page(request, "control/carriers.html", context)


@require_POST
@screen("settings.manage")
def carrier_act(request: HttpRequest, account_id: int) -> HttpResponse:
    """Use a carrier account for rates and labels, or no longer."""
    active = request.POST.get("action") == "on"
    account = carrier_accounts.set_active(account_id, active, actor=request_actor(request))
    messages.success(
        request,
        f"{account.name} is asked for rates again."
        if active
        else f"{account.name} is not asked for rates any more. Labels bought already can still be voided.",
    )
    return redirect("control:carriers")
