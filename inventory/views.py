"""Screens of stock: the grid, one SKU with its ledger, adjust, approvals, transfers."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.text import slugify
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from inventory import approvals as approval
from inventory import (
    building,
    bulk,
    evidence,
    exports,
    operations,
    screens,
    selectors,
    serials,
    tariff,
    time_views,
    valuation,
)
from inventory import transfers as moving
from inventory.forms import AdjustForm, TransferForm
from inventory.models import (
    AdjustmentReason,
    AdjustmentRequest,
    KitComponent,
    LowStock,
    Sku,
    StockMovement,
    Transfer,
    TransferLine,
    Warehouse,
)
from inventory.operations import Adjusted
from oms.core import business, lists
from oms.core.access import can, require, scope_of
from oms.core.actor import Actor, actor_of
from oms.core.clock import business_day, now
from oms.core.errors import NotFound, UserError
from oms.core.money import plain
from oms.core.paging import keyset_page
from oms.core.screens import (
    form_key,
    is_fragment,
    made_before,
    new_form_key,
    posted_day,
    posted_whole,
    screen,
)
from oms.core.words import some

VIEWS = (
    ("", "All"),
    ("out", "Out of stock"),
    ("low", "Low"),
    ("held", "Reserved"),
    ("unfit", "Unavailable"),
    ("transit", "In transit"),
)
TABS = (
    ("ledger", "Ledger"),
    ("time", "Time"),
    ("channels", "Channels"),
    ("velocity", "Velocity"),
    ("suppliers", "Suppliers"),
    ("bundles", "Bundles"),
)
#: what a choice of the form means: from which state to which
STATE_MODES = {
    "damaged": ("sellable", "damaged"),
    "quarantine": ("sellable", "quarantine"),
    "undamage": ("damaged", "sellable"),
    "unquarantine": ("quarantine", "sellable"),
}


#: columns of the grid that a person may leave out
STOCK_COLUMNS = (
    (3, "Title"), (4, "On hand"), (5, "Reserved"), (6, "Unavailable"), (7, "Available"), (8, "Incoming"),
)  # fmt: skip


def _tabs(request: HttpRequest, chosen: str) -> list[dict[str, Any]]:
    tabs = []
    for key, label in VIEWS:
        query = QueryDict(mutable=True)
        query.update({name: request.GET[name] for name in ("q", "warehouse") if request.GET.get(name)})
        if key:
            query["view"] = key
        tabs.append({"label": label, "url": f"?{query.urlencode()}", "count": None, "active": key == chosen})
    return tabs


@screen("stock.view")
@require_GET
def stock(request: HttpRequest) -> HttpResponse:
    """The grid by warehouse. A barcode or exact code plus Enter opens the SKU."""
    query, view = request.GET.get("q", "").strip(), request.GET.get("view", "")
    if query and not is_fragment(request):
        exact = selectors.resolve_codes([query]).get(query)
        if exact is not None:
            return redirect("inventory:sku", code=exact.code)
    everywhere = screens.visible_warehouses(request.user)
    chosen = request.GET.get("warehouse", "")
    shown = [warehouse for warehouse in everywhere if warehouse.code == chosen] or everywhere
    found = screens.find_skus(query, view, [warehouse.pk for warehouse in shown])
    page = keyset_page(found, order=("place", "id"), cursor=request.GET.get("cursor", ""), limit=50)
    tools = lists.tools(request, "inventory:stock", STOCK_COLUMNS)
    context = {
        "rows": screens.rows(page.items, shown),
        "warehouses": shown,
        "columns": 8 + len(shown),
        "next_cursor": page.next_cursor,
        "q": query,
        "view": view,
        "chosen": chosen,
        "options": [(warehouse.code, warehouse.name) for warehouse in everywhere],
        "tabs": lists.with_saved(_tabs(request, view), tools),
        "waiting": 0
        if is_fragment(request)
        else approval.waiting_requests(request.user).count() + len(approval.waiting_batches(request.user)),
        "filtered": bool(query or view or chosen),
        "tools": tools,
        "shapes": [(name, shape.title) for name, shape in exports.SHAPES.items()],
        "bulk_actions": [(name, word) for name, (word, _) in bulk.ACTIONS.items()],
        "reasons": AdjustmentReason.objects.filter(is_active=True).values_list("code", flat=True),
        "form_key": new_form_key(),
    }
    name = "stock"
    if is_fragment(request):
        name = "_rows" if request.GET.get("cursor") else "_results"
    response = render(request, f"inventory/{name}.html", context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@screen("stock.view")
@require_GET
def sku(request: HttpRequest, code: str) -> HttpResponseBase:
    """One SKU: figures per warehouse, ledger, demand, bundles; other floors add their panels."""
    item = selectors.resolve_codes([code]).get(code)
    if item is None:
        raise NotFound(f"There is no SKU '{code}'.")
    item = Sku.objects.select_related("product").get(pk=item.pk)
    places = screens.visible_warehouses(request.user)
    tab = request.GET.get("tab", "ledger")
    [row] = screens.rows([item], places)
    context: dict[str, Any] = {
        "sku": item,
        "row": row,
        "tab": tab,
        "places": places,
        "aliases": item.aliases.all(),
        "packs": item.packs.order_by("quantity"),
        "method": _method(item),
        "methods": Sku.Valuation.choices,
        "may_value": can(request.user, "settings.manage"),
        "may_customs": can(request.user, "products.customs"),
        "customs_value": "" if item.customs_value is None else plain(item.customs_value),
        "build_places": _build_places(request, item),
        "form_key": new_form_key(),
        "pace": screens.pace(item, row.available),
        "may_adjust": can(request.user, "stock.adjust"),
        "may_transfer": can(request.user, "stock.transfer"),
        "see_costs": can(request.user, "costs.view"),
        "may_buy": can(request.user, "purchasing.view"),
        "address": reverse("inventory:sku", kwargs={"code": item.code}),
    }
    context["cover"] = _cover(context["pace"].cover)
    out_on = context["pace"].out_on
    soon = out_on and context["cover"] != "365+"
    context["cover_hint"] = f"sold out about {out_on:%-d %b %Y}" if soon else "available ÷ velocity"
    context["low"] = LowStock.objects.filter(sku=item).exists()
    if not row.is_kit:
        context["links"] = {
            name: f"{context['address']}?bucket={name}"
            for name in ("available", "on_hand", "reserved", "unfit", "in_transit")
        }
    context["tabs"] = [
        {"label": label, "url": f"?tab={key}", "count": None, "active": key == tab} for key, label in TABS
    ]
    if tab == "velocity":
        context["closing"] = screens.closing(item, places)
    if tab == "ledger":
        filters = {name: request.GET.get(name, "").strip() for name in ("bucket", "kind", "warehouse", "ref")}
        found = screens.ledger(item, [place.pk for place in places], filters)
        if lists.wants_csv(request):
            return _ledger_csv(item, found.order_by("-id"), context["see_costs"])
        context |= _ledger(request, found, filters, places)
        if is_fragment(request):
            name = "_ledger_rows" if request.GET.get("cursor") else "_ledger"
            response = render(request, f"inventory/{name}.html", context)
            patch_vary_headers(response, ["HX-Request"])
            return response
    elif tab == "time":
        context |= time_views.slider(request, item, places)
        if is_fragment(request):
            response = render(request, "inventory/_time.html", context)
            patch_vary_headers(response, ["HX-Request"])
            return response
    elif tab == "bundles":
        context["holds_parts"] = item.kind in (Sku.Kind.KIT, Sku.Kind.PREBUILT)
        context["components"] = item.components.select_related("component").order_by("component__code")
        context["inside"] = (
            KitComponent.objects.filter(component=item).select_related("kit").order_by("kit__code")
        )
    return render(request, "inventory/sku.html", context)


def _ledger(
    request: HttpRequest, found: QuerySet[StockMovement], filters: dict[str, str], places: Sequence[Warehouse]
) -> dict[str, Any]:
    """A page of a SKU's ledger with what it can be filtered by."""
    page = keyset_page(found, order=("-id",), cursor=request.GET.get("cursor", ""), limit=50)
    return {
        "movements": page.items,
        "proofs": evidence.counted(page.items),
        "provable": evidence.MANUAL,
        "next_cursor": page.next_cursor,
        "columns": 8,
        "filters": filters,
        "buckets": [
            *StockMovement.Bucket.choices,
            ("available", "All of available"),
            ("unfit", "All unavailable"),
        ],
        "kinds": StockMovement.Kind.choices,
        "warehouse_options": [(place.code, place.name) for place in places],
    }


def _build_places(request: HttpRequest, item: Sku) -> list[Warehouse]:
    """Where this person may build sets of a pre-built kit; none for any other SKU."""
    if item.kind != Sku.Kind.PREBUILT:
        return []
    scope = scope_of(request.user, "stock.adjust")
    found = Warehouse.objects.filter(scope.q(warehouse="code"), is_active=True)
    return [place for place in found if place.counted_by_us]


def _cover(days: float | None) -> str:
    """Days of cover for people: above a year the figure says nothing more."""
    if days is None:
        return "–"
    return "365+" if days > 365 else f"{days:,.0f}"


@screen("stock.view", write="stock.adjust")
@require_POST
def build(request: HttpRequest, sku_id: int) -> HttpResponse:
    """Build pre-built sets out of their components, or take sets apart."""
    item = _the_sku(sku_id)
    place = Warehouse.objects.filter(code=request.POST.get("warehouse", ""), is_active=True).first()
    if place is None:
        raise UserError("warehouse: choose the warehouse that does it.", field="warehouse")
    require(request.user, "stock.adjust", place.code)
    step, units = request.POST.get("step", ""), posted_whole(request, "quantity")
    if step not in ("build", "apart"):
        raise UserError("step: choose build or apart.", field="step")
    work = building.build if step == "build" else building.take_apart
    work(
        item.pk, place.pk, units, actor=actor_of(request.user), key=f"build:{form_key(request)}",
        note=request.POST.get("note", "")[:160],
    )  # fmt: skip
    words = "built from components" if step == "build" else "taken apart into components"
    messages.success(request, f"{units} × {item} {words} in {place}.")
    return redirect("inventory:sku", code=item.code)


@screen("settings.manage")
@require_POST
def value(request: HttpRequest, sku_id: int) -> HttpResponse:
    """How units of one SKU that leave are costed."""
    item = valuation.set_method(
        _the_sku(sku_id).pk, request.POST.get("method", ""), actor=actor_of(request.user)
    )
    messages.success(request, f"{item} is valued {_method(item)} from now on.")
    return redirect("inventory:sku", code=item.code)


@screen("products.customs")
@require_POST
def customs(request: HttpRequest, sku_id: int) -> HttpResponse:
    """What customs must know of one SKU; a field that is sent empty is emptied."""
    given = {name: request.POST[name] for name in tariff.FIELDS if name in request.POST}
    item = tariff.set_customs(_the_sku(sku_id).pk, tariff.read(given), actor=actor_of(request.user))
    messages.success(request, f"Customs data of {item} is kept.")
    return redirect("inventory:sku", code=item.code)


def _the_sku(pk: int) -> Sku:
    item = Sku.objects.filter(pk=pk).first()
    if item is None:
        raise NotFound("There is no such SKU.")
    return item


def _method(item: Sku) -> str:
    """In words; a SKU without a method of its own follows the business."""
    method = item.valuation or str(business.get("valuation"))
    word = "first in, first out" if method == Sku.Valuation.FIFO else "by moving average"
    return word if item.valuation else f"{word}, as set for the business"


# --- adjust ---------------------------------------------------------------------------------------


def _ledger_csv(item: Sku, found: QuerySet[StockMovement], costs: bool) -> HttpResponseBase:
    """Movements of the ledger as it is filtered; costs only for who may see them."""
    header = ["id", "posted_at", "occurred_at", "sku", "warehouse", "bucket", "quantity", "balance", "kind", "reason",
              "reference", "actor", "note"]  # fmt: skip

    def row(one: StockMovement) -> list[Any]:
        return [
            one.pk, lists.stamp(one.created_at), lists.stamp(one.occurred_at), item.code, one.warehouse.code,
            one.bucket, one.quantity, one.balance, one.kind, one.reason, one.reference, one.actor, one.note,
            *((one.unit_cost, one.average_cost, one.stock_value) if costs else ()),
        ]  # fmt: skip

    header += ["unit_cost", "average_cost", "stock_value"] if costs else []
    return lists.csv_of(f"ledger-{slugify(item.code) or item.pk}", header, found, row)


@screen("stock.adjust")
@require_http_methods(["GET", "POST"])
def adjust(request: HttpRequest) -> HttpResponse:
    """Change on hand or the state of units, with a reason."""
    places = [
        place
        for place in Warehouse.objects.filter(
            scope_of(request.user, "stock.adjust").q(warehouse="code"), is_active=True
        )
        if place.counted_by_us
    ]
    if request.method == "GET":
        first = {
            "sku": request.GET.get("sku", ""),
            "warehouse": request.GET.get("warehouse", ""),
            "mode": "change",
        }
        form = AdjustForm(initial=first, warehouses=places)
        return render(request, "inventory/adjust.html", {"form": form, "form_key": new_form_key()})
    key = form_key(request)
    form = AdjustForm(request.POST, warehouses=places)
    if form.is_valid():
        chosen, place = form.cleaned_data["sku"], form.cleaned_data["warehouse"]
        require(request.user, "stock.adjust", place.code)
        try:
            proofs = evidence.read(request.FILES.getlist("evidence")[: evidence.MOST + 1])
            outcome = _apply(form.cleaned_data, f"form:{key}", actor_of(request.user))
            subject = outcome.request or (outcome.rows[0] if outcome.rows else None)
            if proofs and subject is not None:
                evidence.attach(subject, proofs, actor=actor_of(request.user))
        except UserError as error:
            form.add_error(error.field if error.field in form.fields else None, error.message)
        else:
            _tell(request, outcome, chosen, place)
            return redirect("inventory:sku", code=chosen.code)
    return render(
        request, "inventory/adjust.html", {"form": form, "form_key": request.POST["form_key"]}, status=422
    )


def _apply(data: dict[str, Any], key: str, actor: Actor) -> Adjusted:
    common = {
        "sku_id": data["sku"].pk,
        "warehouse_id": data["warehouse"].pk,
        "actor": actor,
        "key": key,
        "note": data["note"],
    }
    mode, units, reason = data["mode"], data["quantity"], data["reason"]
    if mode == "change":
        return operations.adjust(
            **common, quantity=units, reason=reason, numbers=serials.parse(data["serials"])
        )
    if mode == "count":
        return operations.post_count(**common, counted=units, counted_at=now())
    source, target = STATE_MODES[mode]
    return operations.change_state(**common, quantity=units, source=source, target=target, reason=reason)


def _tell(request: HttpRequest, outcome: Adjusted, chosen: Sku, place: Warehouse) -> None:
    if outcome.request is not None:
        messages.warning(request, "Above your limit: a second person has to approve it before stock changes.")
    elif outcome.rows:
        told = ", ".join(f"{row.quantity:+d} {row.get_bucket_display().lower()}" for row in outcome.rows)
        messages.success(request, f"{chosen} in {place}: {told}")
    else:
        messages.info(request, f"{chosen} in {place}: the count agrees with the books.")
    if outcome.lost:
        units = sum(outcome.lost.values())
        messages.warning(
            request, f"{some(units, 'promised unit')} had to be given up; their orders are short now."
        )


@screen(approval.APPROVE)
@require_http_methods(["GET", "POST"])
def approvals(request: HttpRequest) -> HttpResponse:
    """Adjustments that wait for a second person."""
    waiting = approval.waiting_requests(request.user)
    if request.method == "POST":
        if request.POST.get("batch"):
            return _decide_batch(request)
        if request.POST.getlist("chosen"):
            return _decide_chosen(request, waiting)
        wanted = request.POST.get("request", "")
        number = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 18 else 0
        found = waiting.filter(pk=number).first()
        if found is None:
            raise NotFound("It was decided already.")
        if request.POST.get("decision") == "approve":
            outcome = operations.approve_adjustment(found.pk, actor=actor_of(request.user))
            _tell(request, Adjusted(outcome.rows, lost=outcome.lost), found.sku, found.warehouse)
        elif request.POST.get("decision") == "withdraw":
            operations.withdraw_adjustment(found.pk, actor=actor_of(request.user))
            messages.success(request, "Taken back; stock stays as it is.")
        else:
            operations.refuse_adjustment(found.pk, actor=actor_of(request.user))
            messages.success(request, "Refused; stock stays as it is.")
        return redirect("inventory:approvals")
    rows = list(
        waiting.select_related("sku", "warehouse", "author")
        .annotate(files=Count("evidence"))
        .order_by("created_at")[:100]
    )
    levels = selectors.levels({row.sku_id for row in rows})
    context = {
        "rows": rows,
        "values": {
            row.pk: approval.worth(
                row.quantity,
                level.average_cost if (level := levels.get((row.sku_id, row.warehouse_id))) else Decimal(0),
                row.sku.unit_cost,
                row.unit_cost,
            )
            for row in rows
        },
        "see_costs": can(request.user, "costs.view"),
        "base": business.currency(),
        "batches": approval.waiting_batches(request.user),
        "choose": sum(row.author_id != request.user.pk for row in rows) > 1,
    }
    return render(request, "inventory/approvals.html", context)


def _decide_chosen(request: HttpRequest, waiting: QuerySet[AdjustmentRequest]) -> HttpResponse:
    """Many ticked requests at once, each for itself: one that cannot be decided stops no other."""
    ids = {int(one) for one in request.POST.getlist("chosen")[:500] if one.isdecimal() and len(one) < 18}
    approve, actor, done, lost = request.POST.get("decision") == "approve", actor_of(request.user), 0, 0
    visible = set(waiting.filter(pk__in=ids).values_list("pk", flat=True))
    for pk in sorted(ids):
        try:
            if pk not in visible:
                raise NotFound(f"ADJ-{pk}: it was decided already.")
            if approve:
                lost += sum(operations.approve_adjustment(pk, actor=actor).lost.values())
            else:
                operations.refuse_adjustment(pk, actor=actor)
            done += 1
        except UserError as error:
            messages.error(request, f"ADJ-{pk}: {error.message}")
    if done:
        messages.success(request, f"{done} {'approved' if approve else 'refused'}.")
    if lost:
        messages.warning(
            request, f"{some(lost, 'promised unit')} had to be given up; their orders are short now."
        )
    return redirect("inventory:approvals")


def _decide_batch(request: HttpRequest) -> HttpResponse:
    """A batch that the person may see is approved, which starts its job, or refused."""
    wanted = request.POST["batch"]
    if wanted not in {str(batch.pk) for batch in approval.waiting_batches(request.user)}:
        raise NotFound("It was decided already.")
    with transaction.atomic():
        if request.POST.get("decision") == "withdraw":
            approval.withdraw_batch(int(wanted), actor=actor_of(request.user))
            messages.success(request, "Taken back; stock stays as it is.")
            return redirect("inventory:approvals")
        done = approval.decide_batch(
            int(wanted), request.POST.get("decision") == "approve", actor=actor_of(request.user)
        )
    if done.job is not None:
        messages.success(request, f"Approved; it is being done in the background (job {done.job.pk}).")
    else:
        messages.success(request, "Refused; stock stays as it is.")
    return redirect("inventory:approvals")


# --- transfers ------------------------------------------------------------------------------------


def _may_see(request: HttpRequest) -> Any:
    """A transfer is seen by whoever may see one of its two ends."""
    scope = scope_of(request.user, "stock.view")
    return scope.q(warehouse="source__code") | scope.q(warehouse="destination__code")


@screen("stock.view", write="stock.transfer")
@require_http_methods(["GET", "POST"])
def transfers(request: HttpRequest) -> HttpResponse:
    """Transfers, newest first, and the form for a new one."""
    mine = Warehouse.objects.filter(
        scope_of(request.user, "stock.transfer").q(warehouse="code"), is_active=True
    )
    sources = [place for place in mine if place.counted_by_us]
    destinations = list(Warehouse.objects.filter(is_active=True))
    form, status = TransferForm(sources=sources, destinations=destinations), 200
    if request.method == "POST":
        form = TransferForm(request.POST, sources=sources, destinations=destinations)
        if form.is_valid():
            data = form.cleaned_data
            require(request.user, "stock.transfer", data["source"].code)
            try:
                with transaction.atomic():
                    if made_before(request):
                        return redirect("inventory:transfers")
                    made = moving.request_transfer(
                        source_id=data["source"].pk, destination_id=data["destination"].pk, lines=data["lines"],
                        expected_on=data["expected_on"], note=data["note"], actor=actor_of(request.user),
                    )  # fmt: skip
            except UserError as error:
                form.add_error(error.field if error.field in form.fields else None, error.message)
            else:
                messages.success(request, f"{made.number} requested.")
                return redirect("inventory:transfer", pk=made.pk)
        status = 422
    found = (
        Transfer.objects.filter(_may_see(request))
        .select_related("source", "destination")
        .prefetch_related("lines")
    )
    page = keyset_page(found, order=("-id",), cursor=request.GET.get("cursor", ""), limit=50)
    context = {
        "rows": page.items, "next_cursor": page.next_cursor, "columns": 6, "form": form, "today": business_day(),
        "may_transfer": can(request.user, "stock.transfer"), "form_key": new_form_key(),
    }  # fmt: skip
    name = "_transfer_rows" if is_fragment(request) and request.GET.get("cursor") else "transfers"
    return render(request, f"inventory/{name}.html", context, status=status)


@screen("stock.view", write="stock.transfer")
@require_http_methods(["GET", "POST"])
def transfer(request: HttpRequest, pk: int) -> HttpResponse:
    """One transfer: ship it, receive it with differences, settle what never came."""
    item = Transfer.objects.filter(_may_see(request), pk=pk).select_related("source", "destination").first()
    if item is None:
        raise NotFound("There is no such transfer.")
    lines = list(item.lines.select_related("sku__product").order_by("sku__code"))
    if request.method == "POST":
        key, actor, step = form_key(request), actor_of(request.user), request.POST.get("step", "")
        leaves = step in ("ship", "cancel") or step == "date" and item.state == Transfer.State.REQUESTED
        require(request.user, "stock.transfer", (item.source if leaves else item.destination).code)
        units = _units(request, lines)
        numbers = {
            line.sku_id: serials.parse(request.POST.get(f"serials-{line.pk}", "")[:100_000]) for line in lines
        }
        if step == "ship":
            moving.ship_transfer(pk, quantities=units, actor=actor, numbers=numbers)
        elif step == "receive":
            moving.receive_transfer(pk, units, actor=actor, key=key, numbers=numbers)
        elif step in ("settle", "found"):
            lost = {sku_id: quantity for sku_id, quantity in units.items() if quantity}
            moving.settle_transfer(
                pk, lost, reason=request.POST.get("reason", ""), actor=actor, key=key, found=step == "found",
                numbers=numbers,
            )  # fmt: skip
        elif step == "date":
            day = posted_day(request, "expected_on")
            if day is None:
                raise UserError("expected_on: say on which day the units come now.", field="expected_on")
            moving.reschedule_transfer(pk, day, actor=actor, reason=request.POST.get("reason", ""))
        elif step == "cancel":
            moving.cancel_transfer(pk, actor=actor)
        else:
            raise UserError("step: choose ship, receive, settle, found, date or cancel.", field="step")
        messages.success(request, f"{item.number}: done.")
        return redirect("inventory:transfer", pk=pk)
    movements = (
        StockMovement.objects.filter(reference=item.number).select_related("sku", "warehouse").order_by("-id")
    )
    rows = [{"line": line, "open": line.open_units} for line in lines]
    context = {
        "item": item, "rows": rows, "form_key": new_form_key(),
        "may_ship": item.state == "requested" and can(request.user, "stock.transfer", item.source.code),
        "may_receive": item.state == "shipped" and can(request.user, "stock.transfer", item.destination.code),
        "late_days": (business_day() - item.expected_on).days if item.expected_on and item.state == "shipped" else 0,
        "movements": movements[:100],
        "reasons": AdjustmentReason.objects.filter(is_active=True).values_list("code", "label"),
    }  # fmt: skip
    return render(request, "inventory/transfer.html", context)


def _units(request: HttpRequest, lines: list[TransferLine]) -> dict[int, int]:
    units = {}
    for line in lines:
        text = request.POST.get(f"units-{line.pk}", "").strip() or "0"
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise UserError(f"units: {line.sku} needs a whole number.", field="units")
        units[line.sku_id] = int(text)
    return units
