"""Imports: bring a file, see what it would do, apply it, get the wrong rows back."""

from __future__ import annotations

import csv
import io
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from inventory.models import Warehouse
from oms.control.imports import running
from oms.control.imports.profiles import PROFILES
from oms.control.imports.report import Report
from oms.control.imports.stock import StockFile
from oms.control.models import ImportFile
from oms.core import business
from oms.core.access import scope_of
from oms.core.csvsafe import safe_cell, stream_csv
from oms.core.errors import Conflict, NotAllowed, NotFound, UserError
from oms.core.middleware import request_actor
from oms.core.models import Job
from oms.core.paging import keyset_page
from oms.core.screens import csv_answer, is_fragment, page, screen
from oms.orders.models import SalesChannel

#: what each kind of file must and may hold, with two sample rows
TEMPLATES: dict[str, str] = {
    "stock": """\
sku,warehouse,bin,quantity,mode,reason,note,unit_cost
MUG-BLU,EAST,,30,set,count,,3.10
TEE-M,EAST,,-2,add,damaged,torn bag,
""",
    "orders": """\
order_number,placed_at,sku,quantity,unit_price,currency,name,address1,city,postal_code,country
1001,2026-11-23T10:00:00Z,MUG-BLU,1,19.90,USD,A. Ruiz,1 Main St,Austin,78701,US
1001,2026-11-23T10:00:00Z,TEE-M,2,24.00,USD,A. Ruiz,1 Main St,Austin,78701,US
""",
    "purchase_orders": """\
po_number,supplier,warehouse,currency,ordered_on,expected_on,sku,quantity,unit_cost,freight,duty,note
A-77,ACME,EAST,EUR,2026-11-01,2026-11-28,MUG-BLU,60,3.10,40.00,12.00,
A-77,ACME,EAST,EUR,2026-11-01,2026-11-28,TEE-M,120,6.20,,,
""",
}


def _no_limits(request: HttpRequest) -> None:
    """A file touches and shows whatever it names: not for people limited to some warehouses or channels."""
    scope = scope_of(request.user, "imports.run")
    if scope.warehouses is not None or scope.channels is not None:
        raise NotAllowed(
            "Your role is limited to some places; a file can name others. Ask somebody without a limit."
        )


def _file(file_id: int) -> ImportFile:
    file = ImportFile.objects.select_related("job").filter(pk=file_id).first()
    if file is None:
        raise NotFound("import: no such file.")
    return file


@require_http_methods(["GET", "POST"])
@screen("imports.run")
def imports(request: HttpRequest) -> HttpResponse:
    _no_limits(request)
    error: UserError | None = None
    if request.method == "POST":
        try:
            file = running.receive(
                request.FILES.get("file"),
                request.POST.get("kind", ""),
                channel=request.POST.get("channel", ""),
                warehouse=request.POST.get("warehouse", ""),
                mode=request.POST.get("mode", ""),
                decimal=request.POST.get("decimal", "."),
                profile=request.POST.get("profile", ""),
                actor=request_actor(request),
            )
            return redirect("control:import" if file.job else "control:import-match", file.pk)
        except UserError as problem:
            error = problem
    listed = keyset_page(
        ImportFile.objects.select_related("job"),
        order=("-id",),
        cursor=request.GET.get("cursor", ""),
        limit=50,
    )
    context = {
        "files": listed.items,
        "next_cursor": listed.next_cursor,
        "error": error,
        "given": request.POST,
        "kinds": ImportFile.Kind.choices,
        "profiles": [(one.name, one.title) for one in PROFILES.values()],
        **_choices(),
    }
    fragment = "control/_import_rows.html" if request.GET.get("cursor") else ""
    return page(request, "control/imports.html", context, fragment=fragment, status=422 if error else 200)


def _choices() -> dict[str, Any]:
    return {
        "channels": SalesChannel.objects.order_by("name").values_list("code", "name"),
        "warehouses": Warehouse.objects.order_by("code").values_list("code", "name"),
    }


@require_http_methods(["GET", "POST"])
@screen("imports.run")
def import_match(request: HttpRequest, file_id: int) -> HttpResponse:
    """What each column of the file means, with its first values; remembered for files with the same headers."""
    _no_limits(request)
    file = _file(file_id)
    if file.state not in (ImportFile.State.UPLOADED, ImportFile.State.CHECKED):
        raise Conflict("file: it is being applied, or was applied already.")
    given = request.POST if request.method == "POST" else None
    error: UserError | None = None
    name = (given or request.GET).get("profile") or file.profile
    shape = PROFILES.get(name)
    if shape is None or shape.kind != file.kind:
        raise UserError("profile: there is no such shape.", field="profile")
    if given is not None:
        try:
            columns = {key.removeprefix("column-"): given[key] for key in given if key.startswith("column-")}
            choices = {key: given[key] for key in ("warehouse", "channel", "mode", "decimal") if key in given}
            running.match(
                file, shape.name, columns, choices, keep="keep" in given, actor=request_actor(request)
            )
            return redirect("control:import", file.pk)
        except UserError as problem:
            error = problem
            file = _file(file_id)
    bound = shape.bind(
        running.headers_of(file), file.options.get("mapping") if shape.name == file.profile else None
    )
    values = running.samples(file)
    fields = [
        {
            "column": column,
            "header": given.get(f"column-{column.name}", "") if given else bound.get(column.name, ""),
            "samples": values.get(bound.get(column.name, ""), []),
        }
        for column in shape.columns
    ]
    context = {
        "file": file,
        "shape": shape,
        "shapes": [(one.name, one.title) for one in PROFILES.values() if one.kind == file.kind],
        "fields": fields,
        "samples": list(values.items()),
        "unused": [header for header in values if header not in bound.values()],
        "error": error,
        "given": given or file.options,
        **_choices(),
    }
    return page(request, "control/import_match.html", context, status=422 if error else 200)


@require_GET
@screen("imports.run")
def import_detail(request: HttpRequest, file_id: int) -> HttpResponse:
    _no_limits(request)
    file = _file(file_id)
    job: Job | None = file.job
    version = f"{file.state}.{job.state}.{job.position}" if job else file.state
    if is_fragment(request) and request.GET.get("version") == version:
        return HttpResponse(status=204)
    failed = job is not None and job.state == Job.State.FAILED
    stopped = job is not None and job.state == Job.State.STOPPED
    running_now = job is not None and job.state in (Job.State.QUEUED, Job.State.RUNNING)
    open_ = file.state in (ImportFile.State.CHECKED, ImportFile.State.WAITING)
    step = {"uploaded": 3 if job else 2, "checked": 3, "waiting": 4, "applying": 4, "stopped": 4}.get(
        file.state, 5
    )
    rows = file.problem_rows.all()
    if request.GET.get("only") == "error":
        rows = rows.filter(level="error")
    context: dict[str, Any] = {
        "file": file,
        "job": job,
        "version": version,
        "part": is_fragment(request),
        "running": running_now,
        "broken": failed,
        "stopped": stopped,
        "step": step,
        "profile": PROFILES[file.profile].title if file.profile in PROFILES else file.profile,
        "counts": [(key.replace("_", " ").capitalize(), value) for key, value in sorted(file.counts.items())],
        "shown": file.options.get("shown", []) if open_ else [],
        "batch": file.batch,
        "currency": business.get("currency"),
        "empties": running.empties(file) if file.state == ImportFile.State.CHECKED else 0,
        "undoable": running.undoable(file),
        "is_stock": file.kind == ImportFile.Kind.STOCK,
        "errors": file.counts.get("errors", 0),
        "rows": rows[:200],
        "before": running.applied_before(file),
        "new_codes": file.options.get("new_codes", []),
    }
    return page(request, "control/import.html", context, fragment="control/_import.html")


@require_POST
@screen("imports.run")
def import_apply(request: HttpRequest, file_id: int) -> HttpResponse:
    _no_limits(request)
    job = running.begin(
        _file(file_id),
        create_skus="create_skus" in request.POST,
        only_whole=request.POST.get("take") == "whole",
        zero_seen="zero_seen" in request.POST,
        again="again" in request.POST,
        actor=request_actor(request),
    )
    if job is None:
        messages.warning(request, "Above your limit: a second person has to approve it before stock changes.")
    else:
        messages.success(request, "Applying. You may leave this page; the work goes on.")
    return redirect("control:import", file_id)


@require_POST
@screen("imports.run")
def import_undo(request: HttpRequest, file_id: int) -> HttpResponse:
    _no_limits(request)
    if running.begin_undo(_file(file_id), actor=request_actor(request)) is None:
        messages.warning(request, "Above your limit: a second person has to approve that it is undone.")
    else:
        messages.success(request, "Taking it back. You may leave this page; the work goes on.")
    return redirect("control:import", file_id)


@require_GET
@screen("imports.run")
def import_preview(request: HttpRequest, file_id: int) -> StreamingHttpResponse:
    """Every row of a checked stock file with before and after, as things are at this moment."""
    _no_limits(request)
    file = _file(file_id)
    if file.kind != ImportFile.Kind.STOCK or file.state not in (
        ImportFile.State.CHECKED,
        ImportFile.State.WAITING,
    ):
        raise NotFound("preview: only a checked stock file has one.")
    path, options = running.opened(file)
    opened = StockFile(path, PROFILES[file.profile], options)
    codes = dict(Warehouse.objects.values_list("pk", "code"))
    rows = (
        (
            one.line.number,
            one.line.sku.code,
            codes.get(one.line.warehouse_id, ""),
            one.before,
            one.after,
            one.change,
        )
        for one in opened.preview(Report(file.profile))
    )
    head = ("Row", "SKU", "Warehouse", "Before", "After", "Change")
    return csv_answer(f"preview-{file.pk}.csv", stream_csv(head, rows))


@require_GET
@screen("imports.run")
def import_errors(request: HttpRequest, file_id: int) -> HttpResponse:
    """errors.csv: the user's own columns, then row, level and what to mend."""
    _no_limits(request)
    file = _file(file_id)
    rows = list(file.problem_rows.all())
    # the file's own order of columns: the database does not keep that of a row
    headers = running.headers_of(file)
    columns = list(
        dict.fromkeys([*headers, *sorted({name for row in rows for name in row.raw} - set(headers))])
    )
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*(safe_cell(name) for name in columns), "Row", "Level", "Error"])
    for row in rows:
        writer.writerow(
            [
                *(safe_cell(row.raw.get(name, "")) for name in columns),
                row.number,
                row.level,
                safe_cell(row.message),
            ]
        )
    response = HttpResponse(out.getvalue().encode("utf-8-sig"), content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="errors-{file.pk}.csv"'
    return response


@require_GET
@screen("imports.run")
def import_template(request: HttpRequest, kind: str) -> HttpResponse:
    if kind not in TEMPLATES:
        raise NotFound("template: there is none of this kind.")
    response = HttpResponse(TEMPLATES[kind].encode(), content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{kind}.csv"'
    return response
