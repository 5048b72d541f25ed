"""Who can do the most damage must show more than a password."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from oms.core.access import can
from oms.core.middleware import Next

#: whoever holds one of these rights, and all who may open the admin
GUARDED = ("users.manage", "settings.manage", "returns.refund", "pii.view", "costs.view")


def must_verify(user: Any) -> bool:
    return bool(user.is_staff or any(can(user, right) for right in GUARDED))


class SecondFactorMiddleware:
    """Sends a person without a verified second factor to set one up, before anything else opens."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if settings.REQUIRE_SECOND_FACTOR and settings.SESSION_COOKIE_NAME in request.COOKIES:
            user: Any = request.user
            allowed = (
                reverse("control:totp"),
                reverse("login"),
                reverse("logout"),
                "/" + settings.STATIC_URL.lstrip("/"),
            )
            if (
                user.is_authenticated
                and not request.path.startswith(allowed)
                and not user.is_verified()
                and must_verify(user)
            ):
                return self._refuse(request)
        return self.get_response(request)

    def _refuse(self, request: HttpRequest) -> HttpResponse:
        if getattr(request, "htmx", None) or "HX-Request" in request.headers:
            return HttpResponse(status=403, headers={"HX-Redirect": reverse("control:totp")})
        if request.path.startswith("/api/"):
            return HttpResponse(
                "A second factor is required for this session.", status=403, content_type="text/plain"
            )
        messages.info(request, "Your role asks for two-factor log-in. Set it up once, then go on.")
        return redirect("control:totp")
