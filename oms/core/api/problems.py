"""Errors as RFC 9457 problem documents: a sentence, pointers to the fields, the request id."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost, PermissionDenied, RequestDataTooBig
from django.core.exceptions import ValidationError as ModelValidationError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.serializers import ListSerializer, Serializer
from rest_framework.views import set_rollback

from oms.core.current import context
from oms.core.errors import UserError

log = logging.getLogger("lading.api")

CONTENT_TYPE = "application/problem+json"


class Unprocessable(exceptions.APIException):
    status_code = 422
    default_code = "unprocessable"


class TooBig(exceptions.APIException):
    status_code = 413
    default_code = "too_big"

    def __init__(self) -> None:
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 2**20
        super().__init__(f"The body is bigger than {most} MiB: send it in parts.")


class PreconditionRequired(exceptions.APIException):
    status_code = 428
    default_code = "precondition_required"
    default_detail = "If-Match: give the ETag that you read, or * to change whatever is there."


class PreconditionFailed(exceptions.APIException):
    status_code = 412
    default_code = "stale"
    default_detail = "Someone changed this since you read it: read it again and repeat."


def problem(
    status: int, detail: str, *, code: str = "", errors: list[dict[str, str]] | None = None, path: str = ""
) -> dict[str, Any]:
    """The document; `code` names the kind of error for programs."""
    document: dict[str, Any] = {
        "type": f"urn:lading:{code}" if code else "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if path:
        document["instance"] = path
    if errors:
        document["errors"] = errors
    document["request_id"] = context().request_id
    return document


def pointers(detail: Any, at: str = "") -> Iterator[dict[str, str]]:
    """Walk DRF's nested error detail: one entry per message, with a JSON pointer."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            yield from pointers(value, at if key == "non_field_errors" else f"{at}/{_escape(str(key))}")
    elif isinstance(detail, list | tuple):
        plain = all(isinstance(item, str) for item in detail)
        for index, value in enumerate(detail):
            yield from pointers(value, at if plain else f"{at}/{index}")
    else:
        yield {"pointer": at, "code": str(getattr(detail, "code", "invalid")), "message": str(detail)}


@contextmanager
def pointing(name: str, places: Mapping[Hashable, int | str], *beside: str) -> Iterator[None]:
    """Around a service that was given the list or map `name`: an error about one of its items is about that place.

    `places` leads from what a service calls the item (`oms.core.errors.about`) to its place in `name`. Members
    `beside` it are maps with the same keys.
    """
    try:
        yield
    except UserError as error:
        if error.item in places:
            place = places[error.item]
            inside = f".{error.field}" if error.field not in ("", name) else ""
            error.field = f"{error.field}.{place}" if error.field in beside else f"{name}.{place}{inside}"
        raise


def places_of(items: Sequence[Mapping[str, Any]], by: str = "line") -> dict[Hashable, int | str]:
    """Where in the list each `by` is first named, for `pointing`."""
    return {item[by]: place for place, item in reversed(list(enumerate(items)))}


@contextmanager
def renamed(name: str, told: str) -> Iterator[None]:
    """Around a service that calls `name` what the request calls `told`."""
    try:
        yield
    except UserError as error:
        error.field = told if error.field == name else error.field
        raise


def pointer_to(field: str) -> str:
    """The JSON pointer of a field that is known to be in the body: `lines.0.sku` is /lines/0/sku."""
    return "".join(f"/{_escape(part)}" for part in field.split("."))


def place_of(field: str, body: Any, described: Any = None) -> str:
    """The JSON pointer of a `UserError`'s field, as far as it leads in the body: `lines.0.sku` is /lines/0/sku.

    A service names what it read, which need not be what the caller wrote: a state that forbids the step is no
    member of the body. `described` is the serializer that read the body; it knows members that were left out.
    """
    place, parts = "", field.split(".")
    while parts:
        # a code that is the key of a map may hold a dot itself
        whole = next(
            (n for n in range(len(parts), 0, -1) if isinstance(body, dict) and ".".join(parts[:n]) in body), 1
        )
        part, parts = ".".join(parts[:whole]), parts[whole:]
        if isinstance(described, ListSerializer):
            described = described.child
        members = described.fields if isinstance(described, Serializer) else {}
        if isinstance(body, dict) and part in body:
            body = body[part]
        elif isinstance(body, list) and part.isdecimal() and int(part) < len(body):
            body = body[int(part)]
        elif part in members and not members[part].read_only:
            body = None
        else:
            break
        place += f"/{_escape(part)}"
        described = members.get(part, described if part.isdecimal() else None)
    return place


def _pointer(field: str, request: Any, info: dict[str, Any]) -> str:
    """Where in the request: in its body, or a parameter of its query or of its address. Empty for none of them."""
    if request is None:
        return ""
    if field in request.query_params or field in info.get("kwargs", {}):
        return f"/{_escape(field)}"
    try:
        body = request.data
    except (exceptions.APIException, RequestDataTooBig, OSError):
        return ""  # nobody read it before, and it cannot be read
    return place_of(field, body, getattr(request, "described_by", None))


def _escape(part: str) -> str:
    # half a character pair, which JSON lets through and no answer can hold, is shown as "?"
    return part.encode(errors="replace").decode().replace("~", "~0").replace("/", "~1")


def handler(error: Exception, info: dict[str, Any]) -> Response:
    """DRF's exception handler: every error becomes a problem document, the unexpected one is logged."""
    request = info.get("request")
    path = request.path if request is not None else ""
    headers: dict[str, str] = {}
    errors: list[dict[str, str]] = []
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, RequestDataTooBig):
        error = TooBig()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    elif isinstance(error, ModelValidationError):
        error = exceptions.ValidationError(
            error.message_dict if hasattr(error, "error_dict") else error.messages
        )
    if isinstance(error, UserError):
        status, detail, code = error.status, error.message, error.code
        if error.parts:
            # the request names the object by its address; what is wrong stands in the object
            errors = [
                {"pointer": "/id", "member": pointer_to(at), "code": code, "message": text}
                for at, text in error.parts
            ]
        elif error.field and (pointer := _pointer(error.field, request, info)):
            errors = [{"pointer": pointer, "code": code, "message": error.message}]
    elif isinstance(error, exceptions.ValidationError):
        status, code = error.status_code, "invalid"
        errors = list(pointers(error.detail))
        first = errors[0] if errors else {"pointer": "", "message": "The request is not valid."}
        name = first["pointer"].lstrip("/").replace("/", ".")
        detail = f"{name}: {first['message']}" if name else first["message"]
    elif isinstance(error, exceptions.APIException):
        status, detail = error.status_code, _fix(error, info) or str(error.detail)
        code = str(error.get_codes()) if isinstance(error.get_codes(), str) else str(error.default_code)
        auth_header = getattr(error, "auth_header", None)
        if auth_header:
            headers["WWW-Authenticate"] = auth_header
        wait = getattr(error, "wait", None)
        if wait is not None:
            headers["Retry-After"] = str(max(1, math.ceil(wait)))
    else:
        log.exception("request failed", extra={"path": path})
        status, code = 500, "internal"
        detail = "Something broke on our side. The request id helps us to find it."
    set_rollback()
    return Response(
        problem(status, detail, code=code, errors=errors, path=path),
        status,
        headers=headers,
        content_type=CONTENT_TYPE,
    )


def _fix(error: exceptions.APIException, info: dict[str, Any]) -> str:
    """What to send instead, where the framework only says that it did not like what came."""
    if isinstance(error, exceptions.NotAcceptable):
        offered = ", ".join(one.media_type for one in info["view"].renderer_classes)
        return f"Accept: this address answers {offered}; ask for that, or leave the header out."
    if isinstance(error, exceptions.UnsupportedMediaType):
        return "Content-Type: send the body as application/json."
    if isinstance(error, exceptions.MethodNotAllowed):
        return f"This address takes {', '.join(info['view'].allowed_methods)}."
    if isinstance(error, exceptions.NotFound) and error.detail == exceptions.NotFound.default_detail:
        return "There is no such object, or none that you may see."
    if isinstance(error, exceptions.Throttled) and (wait := getattr(error, "wait", None)) is not None:
        return f"Too many requests: ask again in {math.ceil(wait)} s; RateLimit tells what is left."
    if isinstance(error, exceptions.NotAuthenticated):
        return "Authorization: send a token, as 'Bearer oms_…'."
    return ""


@csrf_exempt
def nothing_here(request: HttpRequest) -> JsonResponse:
    """Every other address of the API: a problem document for programs in place of a page for people.

    It also takes addresses without the last "/": a redirect would turn a POST into a GET.
    """
    fix = "" if request.path.endswith("/") else " Addresses of the API end with '/'."
    return _document(404, f"There is nothing at {request.path}.{fix}", "not_found", request)


def _document(status: int, detail: str, code: str, request: HttpRequest) -> JsonResponse:
    document = problem(status, detail, code=code, path=request.path)
    return JsonResponse(document, status=status, content_type=CONTENT_TYPE)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's answer to a request that no view may see, such as one for a host that is not ours."""
    if not request.path.startswith("/api/"):
        return defaults.bad_request(request, exception)
    detail = "The request is not one that this server answers."
    if isinstance(exception, DisallowedHost):
        detail = "Host: this server does not answer under that name; OMS_ALLOWED_HOSTS names those it does."
    return _document(400, detail, "invalid", request)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's answer where no address fits."""
    if not request.path.startswith("/api/"):
        return defaults.page_not_found(request, exception)
    return nothing_here(request)
