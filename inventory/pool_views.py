"""Screens of pools that others run: how old their figures are, and where they differ from our books."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.db.models import Count, Max, OuterRef, Q, Subquery, Sum
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods

from inventory import differences, operations, selectors
from inventory.models import AdjustmentReason, PoolPolicy, StockDifference, StockLevel, Warehouse
from oms.core.access import can, require, scope_of
from oms.core.actor import actor_of
from oms.core.csvsafe import stream_csv
from oms.core.errors import UserError
from oms.core.models import User
from oms.core.paging import keyset_page
from oms.core.screens import page, screen

State = StockDifference.State
POOLS = (Warehouse.Kind.THREEPL, Warehouse.Kind.FBA, Warehouse.Kind.WFS)
TABS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("open", "Open", (State.OPEN, State.DISPUTED)),
    ("watching", "Explained", (State.WATCHING,)),
    ("closed", "Closed", (State.CLOSED,)),
)


@screen("stock.view")
@require_GET
def pools(request: HttpRequest) -> HttpResponse:
    """Every pool with the age of its newest figures, its units and its open differences."""
    scope = scope_of(request.user, "stock.view")
    # one row per pool from each table: joins would multiply the sums
    levels = StockLevel.objects.filter(warehouse=OuterRef("pk")).order_by().values("warehouse")
    gaps = (
        StockDifference.objects.filter(warehouse=OuterRef("pk"), state__in=(State.OPEN, State.DISPUTED))
        .order_by()
        .values("warehouse")
    )
    rows = (
        Warehouse.objects.filter(scope.q(warehouse="code"), kind__in=POOLS, is_active=True)
        .select_related("pool_policy")
        .annotate(
            units=Subquery(levels.annotate(n=Sum("on_hand")).values("n")),
            promised=Subquery(levels.annotate(n=Sum("reserved")).values("n")),
            coming=Subquery(levels.annotate(n=Sum("in_transit")).values("n")),
            skus=Subquery(levels.annotate(n=Count("pk", filter=Q(on_hand__gt=0))).values("n")),
            figures_at=Subquery(levels.annotate(n=Max("snapshot_at")).values("n")),
            gaps=Subquery(gaps.annotate(n=Count("pk")).values("n")),
            at_stake=Subquery(gaps.annotate(n=Sum("value")).values("n")),
        )[:100]
    )
    lines = [{"pool": row, "policy": getattr(row, "pool_policy", None) or PoolPolicy()} for row in rows]
    return page(
        request, "inventory/pools.html", {"lines": lines, "see_costs": can(request.user, "costs.view")}
    )


@screen("stock.view")
@require_GET
def desk(request: HttpRequest) -> HttpResponse:
    """Differences, the most expensive first."""
    tab = request.GET.get("tab", "open")
    states = next((states for key, _, states in TABS if key == tab), TABS[0][2])
    found = selectors.visible_differences(request.user).filter(state__in=states)
    chosen = request.GET.get("warehouse", "")
    if chosen:
        found = found.filter(warehouse__code=chosen)
    order = ("-closed_at", "-id") if tab == "closed" else ("-value", "-id")
    listed = keyset_page(found, order=order, cursor=request.GET.get("cursor", ""), limit=50)
    scope = scope_of(request.user, "stock.view")
    context = {
        "rows": listed.items,
        "next_cursor": listed.next_cursor,
        "columns": 8,
        "tab": tab,
        "tabs": [
            {"label": label, "url": f"?tab={key}", "count": None, "active": key == tab}
            for key, label, _ in TABS
        ],
        "warehouse": chosen,
        "warehouses": list(
            Warehouse.objects.filter(scope.q(warehouse="code"), kind__in=POOLS).values_list("code", "name")
        ),
        "see_costs": can(request.user, "costs.view"),
    }
    return page(
        request, "inventory/differences.html", context,
        fragment="inventory/_difference_rows.html" if request.GET.get("cursor") else "inventory/_differences.html",
    )  # fmt: skip


@screen("stock.view", write="stock.adjust")
@require_http_methods(["GET", "POST"])
def difference(request: HttpRequest, pk: int) -> HttpResponse:
    """Both figures, what moved since, and the three answers: accept theirs, keep ours, investigate."""
    row = selectors.the_difference(request.user, pk)
    if request.method == "POST":
        require(request.user, "stock.adjust", row.warehouse.code)
        messages.success(request, _decide(request, row))
        return redirect("inventory:difference", pk=pk)
    level = StockLevel.objects.filter(sku=row.sku_id, warehouse=row.warehouse_id).first()
    context: dict[str, Any] = {
        "row": row,
        "level": level,
        "moved": differences.movements_since(row),
        "may_decide": can(request.user, "stock.adjust", row.warehouse.code) and row.closed_at is None,
        "may_accept": row.warehouse.counted_by_us,
        "waits": row.approval is not None and row.approval.state == "pending",
        "see_costs": can(request.user, "costs.view"),
        "reasons": AdjustmentReason.objects.filter(is_active=True).values_list("code", "label"),
        "people": User.objects.filter(is_active=True).order_by("username")[:200],
    }
    return page(request, "inventory/difference.html", context)


def _decide(request: HttpRequest, row: StockDifference) -> str:
    actor, what = actor_of(request.user), request.POST.get("action", "")
    text = request.POST.get("version", "")
    version = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    if what == "accept":
        done = operations.accept_theirs(
            row.pk, reason=request.POST.get("reason", ""), actor=actor, version=version
        )
        if done.closed_at is None:
            return f"{row.number} is worth more than the adjustment limit: a second person has to approve."
        return f"{row.number}: their figure is booked."
    note = request.POST.get("note", "")
    with transaction.atomic():
        if what == "dispute":
            differences.dispute(row.pk, actor=actor, note=note, version=version)
            return (
                f"{row.number}: ours stays, they are asked to count again. The evidence is ready to download."
            )
        if what == "investigate":
            name = request.POST.get("owner", "")
            owner = User.objects.filter(username=name, is_active=True).first() if name else None
            differences.investigate(row.pk, actor=actor, owner=owner, note=note, version=version)
            return f"{row.number} is noted."
    raise UserError("action: choose accept, dispute or investigate.", field="action")


@screen("stock.view")
@require_GET
def evidence(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The dispute file: the difference and every movement that makes our figure."""
    row = selectors.the_difference(request.user, pk)
    header, lines = list(differences.EVIDENCE_HEADER), differences.evidence(row)
    if not can(request.user, "costs.view"):
        place = header.index("value")
        header.pop(place)
        lines = ([cell for index, cell in enumerate(line) if index != place] for line in lines)
    response = StreamingHttpResponse(stream_csv(header, lines), content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{row.number}-evidence.csv"'
    return response
