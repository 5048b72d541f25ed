"""What fulfillment does to whole orders, from the order page and the order list: address, parts, many at once."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from fulfillment import addresses, bulk, parts
from inventory.models import Warehouse
from oms.core.access import require
from oms.core.actor import actor_of
from oms.core.errors import UserError
from oms.core.screens import Undo, is_fragment, page, say, screen
from oms.orders import addresses as order_addresses
from oms.orders import bulk as orders_bulk
from oms.orders.drafts import ContactDraft
from oms.orders.models import Order
from oms.orders.selectors import get_visible


class AddressForm(forms.Form):
    name = forms.CharField(label="Name", max_length=120, required=False)
    company = forms.CharField(label="Company", max_length=120, required=False)
    address1 = forms.CharField(label="Street", max_length=160)
    address2 = forms.CharField(label="Street, second line", max_length=160, required=False)
    address3 = forms.CharField(label="Street, third line", max_length=160, required=False)
    city = forms.CharField(label="City", max_length=80)
    region = forms.CharField(label="State or region", max_length=40, required=False)
    postal_code = forms.CharField(label="Postal code", max_length=20, required=False)
    country = forms.CharField(label="Country", max_length=2, help_text="Two letters, such as US or DE.")
    email = forms.EmailField(label="E-mail", required=False)
    phone = forms.CharField(label="Phone", max_length=40, required=False)
    residential = forms.BooleanField(label="A private address", required=False)


@screen("orders.edit")
@require_http_methods(["GET", "POST"])
def address(request: HttpRequest, order_id: int) -> HttpResponse:
    """The address as a form: a dialog on the order page, or a page of its own. Wrong fields are told in place."""
    order = get_visible(request.user, order_id, "orders.edit")
    require(request.user, "pii.view", channel_code=order.channel.code)
    stored = order_addresses.current(order)
    if request.method == "POST":
        form = AddressForm(request.POST)
        if form.is_valid():
            try:
                known = {field.name for field in fields(ContactDraft)}
                wanted = {name: value for name, value in form.cleaned_data.items() if name in known}
                addresses.change(
                    order.pk, ContactDraft(**wanted, note=stored.note), actor=actor_of(request.user)
                )
            except UserError as error:
                known_field = error.field if error.field in form.fields else None
                form.add_error(
                    known_field, error.message.partition(": ")[2] if known_field else error.message
                )
            else:
                undo = Undo(reverse("fulfillment:order_address_back", args=[order.pk]))
                say(request, f"The address of {order.number} is changed.", undo)
                return _to_order(request, order)
    else:
        form = AddressForm(
            initial={field.name: getattr(stored, field.name) for field in fields(ContactDraft)}
        )
    context = {"order": order, "form": form, "dialog": is_fragment(request)}
    return page(
        request, "fulfillment/address.html", context, fragment="fulfillment/_address.html",
        status=422 if request.method == "POST" else 200,
    )  # fmt: skip


@screen("orders.view", write="orders.edit")
@require_POST
def address_back(request: HttpRequest, order_id: int) -> HttpResponse:
    """The channel's own address again."""
    order = get_visible(request.user, order_id, "orders.edit")
    addresses.take_back(order.pk, actor=actor_of(request.user))
    say(request, f"{order.number} has the channel's address again.")
    return _to_order(request, order)


def _to_order(request: HttpRequest, order: Order) -> HttpResponse:
    to = reverse("orders:detail", kwargs={"number": order.number})
    if is_fragment(request):
        response = HttpResponse(status=204)
        response["HX-Redirect"] = to
        return response
    return redirect(to)


@screen("orders.view", write="orders.route")
@require_POST
def split(request: HttpRequest, order_id: int) -> HttpResponse:
    """Send some units of an order apart."""
    order = get_visible(request.user, order_id, "orders.route")
    units: dict[int, int] = {}
    for name in request.POST:
        value = request.POST.get(name, "").strip()
        if name.startswith("line-") and value not in ("", "0"):
            if not (name[5:].isdigit() and value.isascii() and value.isdigit() and len(value) < 9):
                raise UserError("quantity: must be a whole number of at least 1.", field="quantity")
            units[int(name[5:])] = int(value)
    code = request.POST.get("warehouse", "")
    place = Warehouse.objects.filter(code=code).first() if code else None
    if code and place is None:
        raise UserError("warehouse: choose one of the list.", field="warehouse")
    made = parts.split(
        order.pk, units, reason=request.POST.get("reason", ""), actor=actor_of(request.user),
        warehouse_id=place.pk if place else None,
    )  # fmt: skip
    numbers = ", ".join(one.number for one in made)
    undo = Undo(reverse("fulfillment:rejoin", args=[order.pk]), {"shipment": made[0].pk})
    say(request, f"Split: {numbers} goes apart.", undo if len(made) == 1 and place is None else None)
    return redirect("orders:detail", number=order.number)


@screen("orders.view", write="orders.route")
@require_POST
def rejoin(request: HttpRequest, order_id: int) -> HttpResponse:
    """Take a split back."""
    order = get_visible(request.user, order_id, "orders.route")
    pk = _own_shipment(request, order)
    other = parts.rejoin(pk, actor=actor_of(request.user))
    messages.success(request, f"Together again: {other.number}.")
    return redirect("orders:detail", number=order.number)


def _own_shipment(request: HttpRequest, order: Order) -> int:
    value = request.POST.get("shipment", "")
    known = value.isascii() and value.isdigit() and len(value) < 18
    if not known or not order.shipments.filter(pk=int(value)).exists():
        raise UserError("shipment: choose one of this order.", field="shipment")
    return int(value)


#: action → right it needs
BULK = {"assign": "orders.route", "labels": "shipping.label", "pick_list": "shipping.work"}


@screen("orders.view")
@require_POST
def order_bulk(request: HttpRequest) -> HttpResponse:
    """Assign a warehouse, buy labels or print one pick list for the chosen orders of the list."""
    action = request.POST.get("action", "")
    if action not in BULK:
        raise UserError("action: choose assign, labels or pick_list.", field="action")
    require(request.user, BULK[action])
    ids = orders_bulk.chosen_ids(request.user, request.POST)
    if action == "pick_list":
        made, count = bulk.pick_list_of(request.user, ids)
        answer = HttpResponse(made.content, content_type="application/pdf")
        answer["Content-Disposition"] = f'attachment; filename="pick-list-{count}.pdf"'
        answer["Cache-Control"] = "no-store"
        return answer
    params: dict[str, Any] = {}
    if action == "assign":
        place = Warehouse.objects.filter(code=request.POST.get("to", "")).first()
        params = {
            "warehouse": place.pk if place else 0,
            "reason": request.POST.get("reason", "").strip()[:160],
        }
    job = bulk.start(action, ids, params, actor=actor_of(request.user))
    if action == "labels" and (words := bulk.left_out(ids)):
        messages.warning(request, words)
    return redirect("control:job", job_id=job.pk)
