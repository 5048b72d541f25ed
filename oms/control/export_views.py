"""Scheduled files: what is written when, the files themselves, pause, run now, delete."""

from __future__ import annotations

import datetime as dt
import gzip
from typing import Any

from django.contrib import messages
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from oms.control import exports as service
from oms.control.models import ExportFile, ScheduledExport
from oms.core.clock import business_zone
from oms.core.context import NAVIGATION
from oms.core.errors import NotFound, UserError
from oms.core.middleware import request_actor
from oms.core.models import SavedView
from oms.core.screens import page, screen

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
#: files of a schedule that the list shows
SHOWN = 5


def _list_name(screen_name: str) -> str:
    """`orders:list` as the navigation calls it."""
    for _, entries in NAVIGATION:
        for entry in entries:
            if entry.url_name == screen_name:
                return entry.label
    return screen_name.replace(":", " ").replace("_", " ").capitalize()


@screen("imports.run")
@require_http_methods(["GET", "POST"])
def exports(request: HttpRequest) -> HttpResponse:
    """Every schedule of the person, its last files, and a form for one more."""
    user: Any = request.user
    errors: list[str] = []
    given = {name: request.POST.get(name, "") for name in ("view", "every", "weekday", "at", "mail_to")}
    if request.method == "POST":
        try:
            made = service.create(
                user,
                int(given["view"]) if given["view"].isdigit() and len(given["view"]) < 18 else 0,
                every=given["every"],
                weekday=int(given["weekday"])
                if given["weekday"].isdigit() and len(given["weekday"]) == 1
                else None,
                at=_time(given["at"]),
                mail_to=given["mail_to"],
                actor=request_actor(request),
            )
        except NotFound as error:
            errors = [error.message]
        except UserError as error:
            errors = [error.message]
        else:
            messages.success(request, f"“{made.view.name}” is written {made.get_every_display().lower()}.")
            return redirect("control:exports")
    else:
        given |= {"view": request.GET.get("view", ""), "every": "daily", "at": "07:00", "weekday": "0"}
    newest = Prefetch("files", ExportFile.objects.defer("content").order_by("-due_at", "-pk"), to_attr="runs")
    found = list(service.mine(user).prefetch_related(newest).order_by("view__name", "pk")[:200])
    context = {
        "rows": [
            {
                "export": one,
                "list": _list_name(one.view.screen),
                "when": f"{WEEKDAYS[one.weekday]}s" if one.weekday is not None else "Every day",
                "runs": one.runs[:SHOWN],
            }
            for one in found
        ],
        "views": [(view.pk, f"{_list_name(view.screen)}: {view.name}") for view in _views(user)],
        "errors": errors,
        "given": given,
        "weekdays": list(enumerate(WEEKDAYS)),
        "every": ScheduledExport.Every.choices,
        "zone": str(business_zone()),
        "mail_ready": service.mail_ready(),
    }
    return page(request, "control/exports.html", context, status=422 if errors else 200)


def _views(user: Any) -> list[SavedView]:
    found = service.visible_views_of(user).order_by("screen", "name")
    return list(found[:200])


def _time(text: str) -> dt.time:
    try:
        return dt.time.fromisoformat(text).replace(second=0, microsecond=0, tzinfo=None)
    except ValueError:
        raise UserError(f"time: '{text[:20]}' is no time; write 07:00.", field="at") from None


@screen("imports.run")
@require_POST
def export_act(request: HttpRequest, export_id: int) -> HttpResponse:
    """Pause, go on, write now or delete one schedule."""
    user: Any = request.user
    found = service.own(user, export_id)
    action, actor = request.POST.get("action", ""), request_actor(request)
    if action in ("pause", "resume"):
        service.pause(found.pk, action == "pause", actor=actor)
        text = "Paused." if action == "pause" else "Goes on."
    elif action == "run":
        service.run_now(found.pk, actor=actor)
        text = "The file is being written."
    elif action == "remove":
        service.remove(found.pk, actor=actor)
        text = f"“{found.view.name}” is written no more; its files are gone."
    else:
        raise UserError("action: choose pause, resume, run or remove.", field="action")
    messages.success(request, text)
    return redirect("control:exports")


@screen("imports.run")
@require_GET
def export_file(request: HttpRequest, export_file_id: int) -> HttpResponse:
    """A finished file, for whoever may see its schedule."""
    user: Any = request.user
    file = (
        ExportFile.objects.filter(
            pk=export_file_id, export__in=service.mine(user), state=ExportFile.State.DONE
        )
        .select_related("export__view")
        .first()
    )
    if file is None or file.content is None:
        raise NotFound("file: there is no such file of yours.")
    answer = HttpResponse(gzip.decompress(bytes(file.content)), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{service.file_name(file)}"'
    answer["Cache-Control"] = "no-store"
    return answer
