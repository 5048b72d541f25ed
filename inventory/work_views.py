"""Screens of the work on stock: counting, putting away, bins, lots, merges."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.db.models import Count, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods

from inventory import counts, evidence, lots, merging, packs, putaway, scanning, screens
from inventory.models import Bin, BinMovement, BinStock, CountTask, Lot, Sku, Warehouse
from inventory.selectors import resolve_codes
from oms.core.access import can, require, scope_of
from oms.core.actor import actor_of
from oms.core.clock import business_day, now
from oms.core.errors import NotFound, UserError
from oms.core.paging import keyset_page
from oms.core.screens import page, posted_whole, screen

TABS = (("open", "To count"), ("review", "To review"), ("done", "Done"))
STATES = {"open": ["open"], "review": ["counted", "waiting"], "done": ["done", "cancelled"]}


def _mine(request: HttpRequest, permission: str) -> list[Warehouse]:
    """Warehouses that we count ourselves and where the person holds the right."""
    scope = scope_of(request.user, permission)
    found = Warehouse.objects.filter(scope.q(warehouse="code"), is_active=True).order_by("code")
    return [place for place in found if place.counted_by_us]


def _pick(places: list[Warehouse], code: str) -> Warehouse:
    for place in places:
        if place.code == code:
            return place
    raise UserError("warehouse: choose one of yours.", field="warehouse")


def _sku(code: str) -> Sku:
    sku = scanning.resolve(code).sku
    if sku is None:
        raise UserError(f"sku: '{code}' is neither a SKU nor a barcode we know.", field="sku")
    return sku


# --- counts ---------------------------------------------------------------------------------------


def _tasks(request: HttpRequest, permission: str = "stock.view") -> QuerySet[CountTask]:
    scope = scope_of(request.user, permission)
    return CountTask.objects.filter(scope.q(warehouse="warehouse__code")).select_related(
        "sku__product", "warehouse", "bin", "counted_by"
    )


@screen("stock.view", write="stock.work")
@require_http_methods(["GET", "POST"])
def count_list(request: HttpRequest) -> HttpResponse:
    """What has to be counted, what differs, what is done; and the form that asks for a count."""
    if request.method == "POST":
        place = _pick(_mine(request, "stock.work"), request.POST.get("warehouse", ""))
        sku = _sku(request.POST.get("sku", ""))
        shelf = None
        if code := request.POST.get("bin", "").strip():
            shelf = Bin.objects.filter(warehouse=place, code__iexact=code).first()
            if shelf is None:
                raise UserError(f"bin: {place} has no bin {code}.", field="bin")
        task = counts.ask(
            sku.pk, place.pk, cause=CountTask.Cause.MANUAL, actor=actor_of(request.user),
            bin_id=shelf.pk if shelf else None, blind=request.POST.get("blind") != "no",
        )  # fmt: skip
        messages.success(request, f"{task}: {sku} in {place} is on the list.")
        return redirect("inventory:counts")
    tab = request.GET.get("tab", "open")
    found = _tasks(request).filter(state__in=STATES.get(tab, STATES["open"]))
    order = ("due_on", "id") if tab == "open" else ("-id",)
    listed = keyset_page(found, order=order, cursor=request.GET.get("cursor", ""), limit=50)
    sizes = dict(
        _tasks(request)
        .exclude(state__in=STATES["done"])
        .order_by()
        .values_list("state")
        .annotate(n=Count("pk"))
    )
    sums = {key: sum(sizes.get(state, 0) for state in STATES[key]) for key, _ in TABS}
    context = {
        "rows": listed.items,
        "next_cursor": listed.next_cursor,
        "columns": 7,
        "tab": tab,
        "today": business_day(),
        "tabs": [
            {
                "label": label,
                "url": f"?tab={key}",
                "count": None if key == "done" else sums[key],
                "active": key == tab,
            }
            for key, label in TABS
        ],
        "places": _mine(request, "stock.work"),
        "may_work": can(request.user, "stock.work"),
        "may_review": can(request.user, "stock.adjust"),
    }
    return page(request, "inventory/counts.html", context, fragment="inventory/_count_rows.html")


@screen("stock.work")
@require_GET
def count_next(request: HttpRequest) -> HttpResponse:
    """The next task on the walk."""
    scope = scope_of(request.user, "stock.work")
    task = counts.queue(scope.q(warehouse="warehouse__code")).first()
    if task is None:
        messages.info(request, "Nothing is left to count.")
        return redirect("inventory:counts")
    return redirect("inventory:count", task_id=task.pk)


@screen("stock.view", write="stock.work")
@require_http_methods(["GET", "POST"])
def count(request: HttpRequest, task_id: int) -> HttpResponse:
    """One count on one screen: scan or type, then enter. The books are not in the answer while it is blind."""
    task = _tasks(request).filter(pk=task_id).first()
    if task is None:
        raise NotFound("count: there is no such count.")
    tally, verdict = 0, None
    if request.method == "POST":
        step, actor = request.POST.get("step", ""), actor_of(request.user)
        require(request.user, "stock.work", task.warehouse.code)
        if step == "scan":
            tally, verdict = _counted(request, task)
        elif step == "submit":
            unit = request.POST.get("unit", "")
            counted = packs.eaches(task.sku, posted_whole(request, "counted"), unit, field="counted")
            proofs = evidence.read(request.FILES.getlist("evidence")[: evidence.MOST + 1])
            with transaction.atomic():
                counts.submit(task.pk, counted, actor=actor, note=request.POST.get("note", ""))
                evidence.attach(task, proofs, actor=actor)
            messages.success(request, f"{task} is counted.")
            return redirect("inventory:count-next")
        elif step in ("accept", "recount"):
            require(request.user, "stock.adjust", task.warehouse.code)
            if step == "recount":
                counts.recount(task.pk, actor=actor)
                messages.success(request, "It is on the list again.")
            elif counts.accept(task.pk, actor=actor).request is not None:
                messages.warning(
                    request, "Above your limit: a second person has to approve it before stock changes."
                )
            else:
                messages.success(request, f"{task}: the difference is posted.")
            return redirect("/stock/counts/?tab=review")
        elif step == "cancel":
            counts.cancel(task.pk, actor=actor)
            messages.success(request, f"{task} is off the list.")
            return redirect("inventory:counts")
        else:
            raise UserError("step: choose scan, submit, accept, recount or cancel.", field="step")
    may_review = can(request.user, "stock.adjust", task.warehouse.code)
    context = {
        "task": task,
        "tally": tally,
        "packs": task.sku.packs.order_by("quantity"),
        "verdict": verdict,
        "where": _where(task),
        "files": len(evidence.of(task)),
        "books": _books(task) if not task.is_blind and task.state == CountTask.State.OPEN else None,
        "see_figures": task.state != CountTask.State.OPEN and (may_review or not task.is_blind),
        "may_work": can(request.user, "stock.work", task.warehouse.code),
        "may_review": may_review,
    }
    answer = page(request, "inventory/count.html", context, fragment="inventory/_count.html")
    if verdict is not None:
        answer["HX-Trigger"] = '{"scan:ok": {}}' if verdict["ok"] else '{"scan:bad": {}}'
    return answer


def _where(task: CountTask) -> list[str]:
    """Bins in which the units of a count without a bin lie, in walking order: where to go, never how many."""
    if task.bin_id is not None:
        return []
    bins = Bin.objects.filter(
        stock__sku=task.sku_id, stock__warehouse=task.warehouse_id, stock__quantity__gt=0
    ).distinct()
    return list(bins.order_by("pick_sequence", "code").values_list("code", flat=True)[:9])


def _books(task: CountTask) -> int:
    if task.bin_id is None:
        return sum(task.sku.levels.filter(warehouse=task.warehouse_id).values_list("on_hand", flat=True))
    rows = BinStock.objects.filter(bin=task.bin_id, sku=task.sku_id)
    return rows.aggregate(units=Sum("quantity"))["units"] or 0


def _counted(request: HttpRequest, task: CountTask) -> tuple[int, dict[str, Any]]:
    """The tally after one more scan, and what the screen says about it."""
    tally = posted_whole(request, "tally")
    scanned = scanning.resolve(request.POST.get("code", ""), warehouse_id=task.warehouse_id)
    if scanned.bin is not None:
        right = task.bin_id is None or scanned.bin.pk == task.bin_id
        return tally, {"ok": right, "word": scanned.bin.code if right else "WRONG BIN", "detail": ""}
    if scanned.sku is None:
        return tally, {"ok": False, "word": "UNKNOWN", "detail": f"{scanned.text} is not a barcode we know."}
    if scanned.sku.pk != task.sku_id:
        return tally, {
            "ok": False,
            "word": "WRONG ITEM",
            "detail": f"{scanned.sku.code} is not counted here.",
        }
    return tally + scanned.units, {"ok": True, "word": str(tally + scanned.units), "detail": task.sku.code}


# --- bins -----------------------------------------------------------------------------------------


@screen("stock.view", write="stock.work")
@require_http_methods(["GET", "POST"])
def put_away(request: HttpRequest) -> HttpResponse:
    """What lies on the docks and where it should go; and a form to carry units from one bin to another."""
    if request.method == "POST":
        place = _pick(_mine(request, "stock.work"), request.POST.get("warehouse", ""))
        shelves = {
            name: Bin.objects.filter(warehouse=place, code__iexact=request.POST.get(name, "").strip()).first()
            for name in ("source", "target")
        }
        for name, shelf in shelves.items():
            if shelf is None:
                raise UserError(f"{name}: {place} has no bin {request.POST.get(name, '')}.", field=name)
        sku = _sku(request.POST.get("sku", ""))
        lot = None
        if code := request.POST.get("lot", "").strip():
            lot = Lot.objects.filter(sku=sku, code=code).first()
            if lot is None:
                raise UserError(f"lot: {sku} has no lot {code}.", field="lot")
        source, target = shelves["source"], shelves["target"]
        assert source is not None and target is not None
        units = posted_whole(request, "quantity")
        putaway.move(
            sku_id=sku.pk, source_id=source.pk, target_id=target.pk, quantity=units, actor=actor_of(request.user),
            lot_id=lot.pk if lot else None, reason="put away" if source.kind == Bin.Kind.DOCK else "moved",
        )  # fmt: skip
        messages.success(request, f"{units} × {sku} lie in {target} now.")
        return redirect("inventory:putaway")
    places = [place for place in screens.visible_warehouses(request.user) if place.counted_by_us]
    chosen = request.GET.get("warehouse", "")
    shown = [place for place in places if place.code == chosen] or places
    context = {
        "rows": putaway.waiting([place.pk for place in shown]),
        "places": places,
        "docks": Bin.objects.filter(warehouse__in=shown, kind=Bin.Kind.DOCK, is_active=True).exists(),
        "chosen": chosen,
        "options": [(place.code, place.name) for place in places],
        "may_work": can(request.user, "stock.work"),
    }
    return page(request, "inventory/putaway.html", context, fragment="inventory/_putaway.html")


@screen("stock.view")
@require_GET
def bin_list(request: HttpRequest) -> HttpResponse:
    """Bins in walking order with what they hold."""
    scope = scope_of(request.user, "stock.view")
    found = Bin.objects.filter(scope.q(warehouse="warehouse__code"), is_active=True)
    query = request.GET.get("q", "").strip()
    if query:
        sku = resolve_codes([query]).get(query)
        match = Q(code__icontains=query) | Q(zone__iexact=query)
        if sku is not None:
            match |= Q(pk__in=BinStock.objects.filter(sku=sku, quantity__gt=0).values("bin"))
        found = found.filter(match)
    chosen = request.GET.get("warehouse", "")
    if chosen:
        found = found.filter(warehouse__code=chosen)
    held = found.select_related("warehouse").annotate(
        units=Sum("stock__quantity"),
        kinds=Count("stock__sku", filter=Q(stock__quantity__gt=0), distinct=True),
    )
    listed = keyset_page(held, order=("pick_sequence", "id"), cursor=request.GET.get("cursor", ""), limit=50)
    places = [place for place in screens.visible_warehouses(request.user) if place.counted_by_us]
    context = {
        "rows": listed.items,
        "next_cursor": listed.next_cursor,
        "columns": 6,
        "q": query,
        "chosen": chosen,
        "options": [(place.code, place.name) for place in places],
    }
    fragment = "inventory/_bin_rows.html" if request.GET.get("cursor") else "inventory/_bins.html"
    return page(request, "inventory/bins.html", context, fragment=fragment)


@screen("stock.view")
@require_GET
def bin_detail(request: HttpRequest, bin_id: int) -> HttpResponse:
    """What lies in one bin, and everything that ever went in or out."""
    scope = scope_of(request.user, "stock.view")
    place = (
        Bin.objects.filter(scope.q(warehouse="warehouse__code"), pk=bin_id)
        .select_related("warehouse")
        .first()
    )
    if place is None:
        raise NotFound("bin: there is no such bin.")
    moved = BinMovement.objects.filter(bin=place).select_related("sku", "lot", "movement")
    listed = keyset_page(moved, order=("-id",), cursor=request.GET.get("cursor", ""), limit=50)
    context = {
        "place": place,
        "stock": BinStock.objects.filter(bin=place, quantity__gt=0)
        .select_related("sku__product", "lot")
        .order_by("sku__code", "lot__expires_on")[:200],
        "rows": listed.items,
        "next_cursor": listed.next_cursor,
        "columns": 6,
    }
    return page(request, "inventory/bin.html", context, fragment="inventory/_bin_history.html")


# --- lots -----------------------------------------------------------------------------------------

LOT_VIEWS = (
    ("", "All"),
    ("soon", "Expire in 30 days"),
    ("expired", "Expired, still here"),
    ("blocked", "Blocked"),
)


@screen("stock.view", write="stock.adjust")
@require_http_methods(["GET", "POST"])
def lot_list(request: HttpRequest) -> HttpResponse:
    """Lots with their dates and what is still here; a lot can be blocked and given free."""
    if request.method == "POST":
        number = posted_whole(request, "lot")
        blocked = request.POST.get("step") == "block"
        lot = lots.set_blocked(
            number, blocked, reason=request.POST.get("reason", ""), actor=actor_of(request.user)
        )
        messages.success(request, f"Lot {lot} of {lot.sku} is {'blocked' if blocked else 'free again'}.")
        return redirect("inventory:lots")
    scope = scope_of(request.user, "stock.view")
    here = scope.q(warehouse="bin_stock__warehouse__code")
    view, query = request.GET.get("view", ""), request.GET.get("q", "").strip()
    found = Lot.objects.annotate(units=Sum("bin_stock__quantity", filter=here, default=0)).select_related(
        "sku__product"
    )
    today = business_day()
    if view == "soon":
        found = found.filter(
            units__gt=0, expires_on__gte=today, expires_on__lte=today + dt.timedelta(days=30)
        )
    elif view == "expired":
        found = found.filter(units__gt=0, expires_on__lt=today)
    elif view == "blocked":
        found = found.filter(is_blocked=True)
    if query:
        sku = scanning.resolve(query).sku
        match = Q(code__icontains=query)
        found = found.filter(match | Q(sku=sku) if sku is not None else match)
    listed = keyset_page(found, order=("-id",), cursor=request.GET.get("cursor", ""), limit=50)
    context = {
        "rows": listed.items,
        "next_cursor": listed.next_cursor,
        "columns": 6,
        "q": query,
        "view": view,
        "today": today,
        "tabs": [
            {"label": label, "url": f"?view={key}" if key else "?", "count": None, "active": key == view}
            for key, label in LOT_VIEWS
        ],
        "may_block": can(request.user, "stock.adjust"),
        "filtered": bool(query or view),
    }
    fragment = "inventory/_lot_rows.html" if request.GET.get("cursor") else "inventory/_lots.html"
    return page(request, "inventory/lots.html", context, fragment=fragment)


# --- merges ---------------------------------------------------------------------------------------


@screen("settings.manage")
@require_http_methods(["GET", "POST"])
def merge(request: HttpRequest) -> HttpResponse:
    """Two codes are one thing: what would happen, what speaks against it, and the deed."""
    given = request.POST if request.method == "POST" else request.GET
    context: dict[str, Any] = {
        "source": given.get("source", "").strip(),
        "target": given.get("target", "").strip(),
        "at": now(),
    }
    status = 200
    if context["source"] and context["target"]:
        found = resolve_codes([context["source"], context["target"]])
        missing = [code for code in (context["source"], context["target"]) if code not in found]
        if missing:
            context["reasons"] = [f"'{code}' is neither a SKU nor a barcode we know." for code in missing]
            status = 422
        else:
            one, other = found[context["source"]], found[context["target"]]
            if request.method == "POST":
                merging.merge_skus(
                    one.pk, other.pk, actor=actor_of(request.user), note=request.POST.get("reason", "")
                )
                messages.success(request, f"{one} is {other} now: stock, codes and settings went over.")
                return redirect("inventory:sku", code=other.code)
            context |= {
                "one": one,
                "other": other,
                "reasons": merging.conflicts(one, other),
                "on_hand": one.levels.aggregate(units=Sum("on_hand"))["units"] or 0,
                "aliases": one.aliases.count() + 1,
                "lots": one.lots.count(),
                "serials": one.serials.count(),
            }
    elif request.method == "POST":
        raise UserError("source: name both SKUs.", field="source")
    return page(request, "inventory/merge.html", context, status=status)
