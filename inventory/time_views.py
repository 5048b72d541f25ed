"""Stock through time: the slider of one SKU, the grid at any moment, and that moment as a file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_GET

from inventory import asof, screens
from inventory.models import Sku, StockMovement, Warehouse
from oms.core.access import can
from oms.core.clock import business_zone, now
from oms.core.errors import UserError
from oms.core.lists import csv_file
from oms.core.paging import keyset_page
from oms.core.screens import page, screen

#: movements that the slider steps over
STEPS = 100


def moment(text: str, name: str) -> dt.datetime | None:
    """A time from a form, in the business's zone where it names none; None when empty. Raises `UserError`."""
    if not text.strip():
        return None
    try:
        found = dt.datetime.fromisoformat(text.strip().replace(" ", "+"))
    except ValueError:
        raise UserError(f"{name}: '{text}' is no time such as 2026-03-03T10:00.", field=name) from None
    return found if found.tzinfo else found.replace(tzinfo=business_zone())


def _local(at: dt.datetime | None) -> str:
    """As a date and time field wants it: in the business's zone, without naming it."""
    return at.astimezone(business_zone()).strftime("%Y-%m-%dT%H:%M:%S") if at else ""


def slider(request: HttpRequest, sku: Sku, places: Sequence[Warehouse]) -> dict[str, Any]:
    """The context of a SKU's time tab: its last steps, the stock at the chosen one, and the way from there to now.

    `until` anchors the steps, so that a movement that comes meanwhile does not shift them; `step` counts from the
    oldest shown. `at` asks for any other moment.
    """
    ids = [place.pk for place in places]
    error = ""
    try:
        until = moment(request.GET.get("until", ""), "until") or now()
        at = moment(request.GET.get("at", ""), "at")
    except UserError as refused:
        until, at, error = now(), None, refused.message
    steps = list(
        StockMovement.objects.filter(sku=sku, warehouse__in=ids, created_at__lte=until)
        .select_related("warehouse")
        .order_by("-created_at", "-id")[:STEPS]
    )[::-1]
    text = request.GET.get("step", "")
    step = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else len(steps) - 1
    step = max(0, min(step, len(steps) - 1))
    cause = steps[step] if steps and at is None else None
    chosen = at or (cause.created_at if cause else until)
    see_costs = can(request.user, "costs.view")
    past = asof.as_of(chosen, sku_ids=[sku.pk], warehouse_ids=ids, with_cost=see_costs)
    end = max(chosen, until)
    since = asof.diff(chosen, end, sku_ids=[sku.pk], warehouse_ids=ids)
    labels = dict(StockMovement.Kind.choices)
    buckets = dict(StockMovement.Bucket.choices)
    return {
        "until": until.isoformat(),
        "at": _local(at),
        "moment": chosen,
        "steps": len(steps),
        "last_step": len(steps) - 1,
        "step": step,
        "cause": cause,
        "time_error": error,
        "zone": str(business_zone()),
        "past": [
            (place, past[sku.pk, place.pk]) for place in places if (sku.pk, place.pk) in past
        ],
        "since": [
            (place, buckets[bucket], labels.get(one.kind, one.kind), one)
            for place in places
            for bucket, causes in since.get((sku.pk, place.pk), {}).items()
            for one in causes
        ],
    }  # fmt: skip


@screen("stock.view")
@require_GET
def as_of(request: HttpRequest) -> HttpResponseBase:
    """The stock grid as it stood at any moment; `format=csv` gives the whole list."""
    places = screens.visible_warehouses(request.user)
    ids = [place.pk for place in places]
    see_costs = can(request.user, "costs.view")
    error = ""
    try:
        at = moment(request.GET.get("at", ""), "at")
    except UserError as refused:
        at, error = None, refused.message
    at = min(at or now(), now())
    if request.GET.get("format") == "csv" and not error:
        header = (*asof.EXPORT_HEADER, *(asof.COST_HEADER if see_costs else ()))
        name = f"stock-{at.astimezone(business_zone()):%Y-%m-%d-%H%M%S}"
        return csv_file(name, header, asof.export_rows(at, warehouse_ids=ids, with_cost=see_costs))
    query = request.GET.get("q", "").strip()
    found = screens.find_skus(query, "", ids).exclude(kind__in=(Sku.Kind.KIT, Sku.Kind.SERVICE))
    part = keyset_page(found, order=("code", "id"), cursor=request.GET.get("cursor", ""), limit=50)
    past = asof.as_of(at, sku_ids=[sku.pk for sku in part.items], warehouse_ids=ids, with_cost=see_costs)
    rows = []
    for sku in part.items:
        levels = [past[sku.pk, pk] for pk in ids if (sku.pk, pk) in past]
        rows.append(
            {
                "sku": sku,
                "on_hand": sum(level.on_hand for level in levels),
                "available": sum(level.available for level in levels),
                "in_transit": sum(level.balances.get("in_transit", 0) for level in levels),
                "value": sum(level.value for level in levels) if see_costs else None,
            }
        )
    first = see_costs and not request.GET.get("cursor")
    context = {
        "worth": asof.worth(at, skus=found if query else None, warehouse_ids=ids) if first else {},
        "rows": rows, "q": query, "at": _local(at) if request.GET.get("at") else "", "moment": at, "error": error,
        "next_cursor": part.next_cursor, "columns": 6 if see_costs else 5, "see_costs": see_costs,
        "zone": str(business_zone()),
    }  # fmt: skip
    fragment = "inventory/_as_of_rows.html" if request.GET.get("cursor") else "inventory/_as_of.html"
    answer: HttpResponse = page(
        request, "inventory/as_of.html", context, fragment=fragment, status=422 if error else 200
    )
    return answer
