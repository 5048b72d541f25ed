"""What every screen shares: who may open it, errors as sentences, page or fragment, toasts."""

from __future__ import annotations

import datetime as dt
import functools
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme

from oms.core.access import require
from oms.core.errors import NotAllowed, NotFound, UserError
from oms.core.models import FormKey

View = TypeVar("View", bound=Callable[..., HttpResponseBase])


def is_fragment(request: HttpRequest) -> bool:
    """True when htmx asks for a part; a restored history entry wants the whole page."""
    htmx: Any = getattr(request, "htmx", None)
    return bool(htmx) and not htmx.history_restore_request


def page(
    request: HttpRequest, template: str, context: dict[str, Any], *, fragment: str = "", status: int = 200
) -> HttpResponse:
    """The page, or only `fragment` of it when htmx asks."""
    response = render(
        request, fragment if fragment and is_fragment(request) else template, context, status=status
    )
    patch_vary_headers(response, ["HX-Request"])
    return response


@dataclass(frozen=True)
class Undo:
    """What a person may take back for ten seconds: a POST. Only for changes that no outside system heard of."""

    url: str
    values: dict[str, Any] = field(default_factory=dict)


def toast(
    response: HttpResponse, text: str, tone: str = "ok", *, undo: Any = None, **events: Any
) -> HttpResponse:
    """Show a toast (tones ok, warn, bad), an `Undo` beside it, and fire domain events:
    `toast(answer, "Held", **{"orders:changed": {}})`.
    """
    known = json.loads(response.headers.get("HX-Trigger", "{}"))
    words: dict[str, Any] = {"text": text, "tone": tone}
    if undo is not None:
        words["undo"] = asdict(undo)
    response.headers["HX-Trigger"] = json.dumps({**known, "toast": words, **events})
    return response


def say(request: HttpRequest, text: str, undo: Undo | None = None) -> None:
    """A message on the next page, with a way back where there is one."""
    messages.success(request, text, extra_tags=json.dumps(asdict(undo)) if undo else "")


def back_to(request: HttpRequest, fallback: str = "/") -> str:
    """Where to go after a form: its own `next`, else the page it stood on, never another site."""
    for target in (request.POST.get("next", ""), request.headers.get("Referer", "")):
        if target and url_has_allowed_host_and_scheme(
            target, {request.get_host()}, require_https=request.is_secure()
        ):
            return target
    return fallback


def sorry(request: HttpRequest, error: UserError) -> HttpResponse:
    """An error as people meet it: 403 and 404 pages; else a toast, or a message on the page they came from."""
    if isinstance(error, NotFound):
        raise Http404(error.message)
    if isinstance(error, NotAllowed):
        if is_fragment(request):
            return toast(HttpResponse(status=204), error.message, "bad")
        return render(request, "403.html", {"sentence": error.message}, status=403)
    if is_fragment(request):
        return toast(HttpResponse(status=204), error.message, "bad")
    if request.method == "GET":
        return render(request, "400.html", {"sentence": error.message}, status=error.status)
    messages.error(request, error.message)
    return redirect(back_to(request))


def csv_answer(name: str, lines: Iterable[str]) -> StreamingHttpResponse:
    """A CSV download of any length, sent while it is made. UTF-8 with BOM, so that spreadsheets read every letter."""
    response = StreamingHttpResponse(_encoded(lines), content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["Cache-Control"] = "no-store"
    return response


def _encoded(lines: Iterable[str]) -> Iterator[bytes]:
    """Lines in packets: one packet per line would cost more than the lines."""
    packet = ["\ufeff"]
    for line in lines:
        packet.append(line)
        if len(packet) >= 500:
            yield "".join(packet).encode()
            packet = []
    yield "".join(packet).encode()


def form_key(request: HttpRequest) -> str:
    """The one-time key of a form: the same submitted form gives the same key, so a double click is one effect.

    Raises `UserError` when the page is out of date.
    """
    try:
        return uuid.UUID(request.POST.get("form_key", "")).hex
    except ValueError:
        raise UserError("form: it is out of date; load the page again.", field="form_key") from None


def first_time(request: HttpRequest) -> bool:
    """False when this very form was taken before. Inside the transaction of its effect, which it then belongs to."""
    return FormKey.objects.get_or_create(key=uuid.UUID(form_key(request)))[1]


def made_before(request: HttpRequest) -> bool:
    """True when this very form made its thing before, which the person is told; like `first_time`."""
    if first_time(request):
        return False
    messages.info(request, "This form was sent twice; it was done once.")
    return True


def new_form_key() -> str:
    return str(uuid.uuid4())


def posted_whole(request: HttpRequest, name: str) -> int:
    """A count typed into a form, empty = 0. Raises `UserError`."""
    text = request.POST.get(name, "").strip() or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(f"{name.split('-')[0]}: '{text}' is not a whole number.", field=name)
    return int(text)


def posted_day(request: HttpRequest, name: str) -> dt.date | None:
    """A day typed into a form, empty = None. Raises `UserError`."""
    text = request.POST.get(name, "").strip()
    try:
        return dt.date.fromisoformat(text) if text else None
    except ValueError:
        raise UserError(
            f"{name.split('-')[0]}: '{text}' is not a date like 2027-05-31.", field=name
        ) from None


def posted_amount(request: HttpRequest, name: str, *, empty: str = "") -> Decimal:
    """An amount of money typed into a form; `empty` stands for an empty field. Raises `UserError`."""
    text = request.POST.get(name, "").strip() or empty
    try:
        value = Decimal(text)
        if not value.is_finite() or abs(value) >= Decimal("1e9"):
            raise InvalidOperation
    except InvalidOperation:
        raise UserError(f"{name}: '{text}' is not an amount; write it like 12.50.", field=name) from None
    return value


def screen(permission: str = "", *, write: str = "") -> Callable[[View], View]:
    """A view for people: logged in, holding the right (empty = anybody), `UserError` answered as a sentence.

    `write` is the right that a POST needs, where it differs.
    """

    def wrap(view: View) -> View:
        @login_required
        @functools.wraps(view)
        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                needed = write if write and request.method == "POST" else permission
                if needed:
                    require(request.user, needed)
                return view(request, *args, **kwargs)
            except UserError as error:
                return sorry(request, error)

        rights: Any = inner  # for the test that opens every address as every role
        rights.reading, rights.writing = permission, write or permission
        return cast(View, inner)

    return wrap
