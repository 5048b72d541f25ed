"""What a person sets for all lists: row height, columns, saved views, and the warehouse that they work in."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from oms.control.context import warehouses_of
from oms.core import lists
from oms.core.errors import NotFound, UserError
from oms.core.middleware import request_actor
from oms.core.roles import ROLES
from oms.core.screens import back_to, is_fragment, screen


@require_POST
@screen()
def settings(request: HttpRequest) -> HttpResponse:
    """Row height of all lists, and the columns of one."""
    user: Any = request.user
    density = request.POST.get("density", "")
    if density not in ("normal", "compact"):
        raise UserError("density: choose normal or compact.", field="density")
    user.density = density
    user.save(update_fields=["density"])
    if offered := request.POST.getlist("offered"):
        lists.hide_columns(user, request.POST.get("screen", ""), request.POST.getlist("shown"), offered)
    return HttpResponse(status=204) if is_fragment(request) else redirect(back_to(request))


def _with(address: str, **changes: str) -> str:
    """The address with parameters set, or taken away when empty."""
    parts = urlsplit(address)
    left = [(key, value) for key, value in parse_qsl(parts.query) if key not in (*changes, "cursor")]
    query = urlencode([*left, *((key, value) for key, value in changes.items() if value)])
    return f"{parts.path}?{query}" if query else parts.path


@require_POST
@screen()
def save(request: HttpRequest) -> HttpResponse:
    """Remember the list as it is filtered now."""
    user: Any = request.user
    audience = request.POST.get("for", "")
    if audience and audience != "all" and audience not in ROLES:
        raise UserError("for: choose yourself, everybody or a role.", field="for")
    view = lists.save_view(
        user,
        request.POST.get("screen", "")[:40],
        request.POST.get("name", ""),
        request.POST.get("query", ""),
        shared=bool(audience),
        role="" if audience == "all" else audience,
        pinned="pinned" in request.POST,
        actor=request_actor(request),
    )
    messages.success(request, f"View “{view.name}” saved.")
    path = urlsplit(back_to(request)).path
    return redirect(f"{path}?{view.query}{'&' if view.query else ''}saved={view.pk}")


@require_POST
@screen()
def change(request: HttpRequest, view_id: int) -> HttpResponse:
    """Pin, unpin or remove a saved view."""
    user: Any = request.user
    lists.own_view(user, view_id)
    action = request.POST.get("action", "")
    if action in ("pin", "unpin"):
        view = lists.pin_view(user, view_id, action == "pin")
        words = "stands among the tabs" if view.pinned else "is in the menu only"
        messages.success(request, f"“{view.name}” {words}.")
    elif action == "remove":
        view = lists.remove_view(user, view_id, actor=request_actor(request))
        messages.success(request, f"View “{view.name}” removed.")
        return redirect(_with(back_to(request), saved=""))
    else:
        raise UserError("action: choose pin, unpin or remove.", field="action")
    return redirect(back_to(request))


@require_POST
@screen()
def warehouse(request: HttpRequest) -> HttpResponse:
    """Work in one warehouse: the lists of the navigation open filtered by it. Empty = all."""
    code = request.POST.get("warehouse", "")
    if code and code not in dict(warehouses_of(request.user)):
        raise NotFound("warehouse: there is no such warehouse.")
    request.session["warehouse"] = code
    return redirect(_with(back_to(request), warehouse=code))
