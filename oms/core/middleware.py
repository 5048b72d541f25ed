"""Every request gets an id and an actor; every answer the security headers."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from oms.core.actor import SYSTEM, Actor, actor_of
from oms.core.current import acting, new_request_id, set_actor

Next = Callable[[HttpRequest], HttpResponse]

#: no inline script, style or handler anywhere, hence no nonces
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,36}")


def client_address(request: HttpRequest) -> str:
    """The caller's address; the forwarded one only when settings say that a proxy of ours stands in front."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
    if forwarded and getattr(settings, "SECURE_PROXY_SSL_HEADER", None):
        return str(forwarded.rsplit(",", 1)[-1].strip())[:45]
    return str(request.META.get("REMOTE_ADDR", ""))[:45]


def way_in(path: str) -> str:
    if path.startswith("/api/"):
        return "api"
    if path.startswith("/admin/"):
        return "admin"
    return "hook" if path.startswith("/hooks/") else "ui"


class RequestContextMiddleware:
    """Outermost: request id, address and way in, for logs, audit and problem documents."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_request_id()
        request.request_id = request_id  # type: ignore[attr-defined]
        address, via = client_address(request), way_in(request.path)
        with acting(request_id=request_id, actor=SYSTEM, via=via, address=address):
            response = self.get_response(request)
        response.headers["X-Request-ID"] = request_id
        for name, told in getattr(request, "rate_limit", {}).items():  # what a throttle of the API counted
            response.headers[name] = told
        return response


class PrincipalMiddleware:
    """After authentication: names the actor. API tokens name theirs when the API authenticates them."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if settings.SESSION_COOKIE_NAME in request.COOKIES:
            user = request.user
            if user.is_authenticated:
                set_actor(actor_of(user))
        return self.get_response(request)


def request_actor(request: HttpRequest) -> Actor:
    """The actor behind a request, for services."""
    token = getattr(request, "auth", None)
    return actor_of(token if getattr(token, "prefix", None) else request.user)


class SecurityHeadersMiddleware:
    """Strict content security policy on every page, the admin's included; pages of people are not stored."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        headers = response.headers
        headers.setdefault("Content-Security-Policy", CSP)
        headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()")
        headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        if "Cache-Control" not in headers and (
            settings.SESSION_COOKIE_NAME in request.COOKIES or "Authorization" in request.headers
        ):
            headers["Cache-Control"] = "private, no-store"
        return response
