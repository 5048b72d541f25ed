"""What every screen's view shares: who may see it, and how an error becomes a sentence on the page."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme

from oms.core.access import require
from oms.core.errors import NotAllowed, NotFound, UserError

View = Callable[..., HttpResponse]


def screen(permission: str, *, write: str = "") -> Callable[[View], View]:
    """A page for people: log in, hold `permission` (POST: `write`, where given), errors told as sentences.

    A `UserError` of a POST goes back to the page it came from with the sentence; htmx gets it as a toast with
    the error's status. Of a GET it is the 404 or 403 page.
    """

    def wrap(view: View) -> View:
        @wraps(view)
        @login_required
        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                require(request.user, write if write and request.method == "POST" else permission)
                response = view(request, *args, **kwargs)
            except NotFound as error:
                raise Http404(error.message) from error
            except NotAllowed as error:
                raise PermissionDenied(error.message) from error
            except UserError as error:
                response = _told(request, error)
            patch_vary_headers(response, ["HX-Request"])
            return response

        return inner

    return wrap


def _told(request: HttpRequest, error: UserError) -> HttpResponse:
    if request.headers.get("HX-Request"):
        response = HttpResponse(status=error.status)
        response["HX-Trigger"] = json.dumps({"toast": {"text": error.message, "tone": "error"}})
        return response
    messages.error(request, error.message)
    return back(request)


def back(request: HttpRequest, fallback: str = "/") -> HttpResponse:
    """To the page the form was on."""
    came_from = request.headers.get("Referer", "")
    safe = url_has_allowed_host_and_scheme(came_from, allowed_hosts={request.get_host()})
    return redirect(came_from if safe else fallback)


def is_fragment(request: HttpRequest) -> bool:
    """Whether htmx asks for a part of the page, not the browser's Back button for all of it."""
    return request.headers.get("HX-Request") == "true" and request.headers.get("HX-History-Restore-Request") != "true"


def form_key(request: HttpRequest) -> str:
    """The one-time key of a form: the same submitted form gives the same key, so a double click is one effect."""
    key = request.POST.get("form_key", "")
    try:
        return uuid.UUID(key).hex
    except ValueError:
        raise UserError("form: it is out of date; load the page again.", field="form_key") from None


def new_form_key() -> str:
    return str(uuid.uuid4())
