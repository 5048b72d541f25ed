"""Ring-fences: units kept for one channel until a date."""

from __future__ import annotations

import datetime as dt

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from inventory import fences
from inventory.models import RingFence
from inventory.scanning import resolve
from oms.core.access import can, require, scope_of
from oms.core.actor import actor_of
from oms.core.clock import now
from oms.core.errors import NotFound, UserError
from oms.core.paging import keyset_page
from oms.core.screens import page, posted_whole, screen
from oms.orders.models import SalesChannel


@screen("stock.view", write="stock.adjust")
@require_http_methods(["GET", "POST"])
def ring_fences(request: HttpRequest) -> HttpResponse:
    """What is kept for whom and how much of it is left; the form for a new one; ending one early."""
    scope = scope_of(request.user, "stock.view")
    channels = SalesChannel.objects.filter(scope.q(channel="code"), is_active=True)
    found = RingFence.objects.filter(scope.q(channel="channel_code")).select_related("sku")
    if request.method == "POST":
        actor = actor_of(request.user)
        if request.POST.get("step") == "end":
            one = found.filter(pk=posted_whole(request, "fence")).first()
            if one is None:
                raise NotFound("fence: there is no such ring-fence.")
            require(request.user, "stock.adjust", channel_code=one.channel_code)
            fences.end(one.pk, actor=actor)
            messages.success(request, "The rest is for everybody again.")
            return redirect("orders:fences")
        channel = channels.filter(code=request.POST.get("channel", "")).first()
        if channel is None:
            raise UserError("channel: choose the channel that the units are kept for.", field="channel")
        require(request.user, "stock.adjust", channel_code=channel.code)
        sku = resolve(request.POST.get("sku", "")).sku
        if sku is None:
            raise UserError("sku: it is neither a SKU nor a barcode we know.", field="sku")
        fences.create(
            sku_id=sku.pk, channel_code=channel.code, quantity=posted_whole(request, "quantity"),
            starts_at=_moment(request, "starts") if request.POST.get("starts") else None,
            ends_at=_moment(request, "ends"), note=request.POST.get("note", ""), actor=actor,
        )  # fmt: skip
        messages.success(request, f"{sku} is kept for {channel}.")
        return redirect("orders:fences")
    listed = keyset_page(found, order=("-ends_at", "-id"), cursor=request.GET.get("cursor", ""), limit=50)
    moment = now()
    left = fences.remaining([one.sku_id for one in listed.items])
    names = dict(SalesChannel.objects.values_list("code", "name"))
    context = {
        "rows": [
            {
                "fence": one,
                "channel": names.get(one.channel_code, one.channel_code),
                "state": "ended"
                if one.ends_at <= moment
                else "planned"
                if one.starts_at > moment
                else "running",
                "left": next(
                    (
                        kept.remaining
                        for kept in left.get(one.sku_id, ())
                        if kept.channel_code == one.channel_code
                    ),
                    0,
                ),
            }
            for one in listed.items
        ],
        "next_cursor": listed.next_cursor,
        "columns": 7,
        "channels": channels,
        "may_edit": can(request.user, "stock.adjust"),
    }
    return page(request, "orders/fences.html", context, fragment="orders/_fence_rows.html")


def _moment(request: HttpRequest, name: str) -> dt.datetime:
    """A local time from a form, in the zone of the house."""
    text = request.POST.get(name, "").strip()
    try:
        value = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{name}: '{text}' is not a time like 2026-12-24T18:00.", field=name) from None
    return value if value.tzinfo else timezone.make_aware(value)
