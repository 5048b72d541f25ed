"""Bearer tokens, scopes per view, and a simple rate limit."""

from __future__ import annotations

import math
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from oms.core import tokens
from oms.core.access import can
from oms.core.actor import actor_of
from oms.core.current import set_actor
from oms.core.middleware import client_address
from oms.core.models import ApiToken, User
from oms.core.roles import SCOPES


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer oms_<prefix>_<secret>`. `request.auth` is the token, `request.user` its owner."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        words = get_authorization_header(request).split()
        if not words or words[0].lower() != b"bearer":
            return None
        text = words[1].decode("ascii", "replace") if len(words) == 2 else ""
        token = tokens.authenticate(text, client_address(request._request))
        if token is None:
            # one sentence for every cause: a caller must not learn which part was wrong
            raise AuthenticationFailed(
                "The token is unknown, expired, revoked or not allowed from this address."
            )
        set_actor(actor_of(token))
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="lading"'


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = "oms.core.api.auth.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "oms_<prefix>_<secret>"}


def holds_scope(principal: Any, scope: str) -> bool:
    """True when a token names the scope and its owner may use it; for a person, when a role grants it."""
    if isinstance(principal, ApiToken) and scope not in principal.scopes:
        return False
    permissions = SCOPES[scope]
    deeds = {name for name in permissions if not name.endswith(".view")} or permissions
    return any(can(principal, name) for name in deeds)


class ScopePermission(BasePermission):
    """`required_scopes = {"GET": "orders:read", "POST": "orders:write"}` on the view; an action's name wins.

    A view without an entry for the method is closed. A method that the view does not have is let through to its 405.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        if request.method not in view.allowed_methods:
            return True
        method = "GET" if request.method in ("HEAD", "OPTIONS") else request.method
        scopes: dict[str, str] = getattr(view, "required_scopes", {})
        scope = scopes.get(getattr(view, "action", None) or "", "") or scopes.get(method or "", "")
        if not scope:
            return False
        principal = request.auth if isinstance(request.auth, ApiToken) else request.user
        self.message = f"This needs the scope '{scope}'."
        return holds_scope(principal, scope)


class TokenThrottle(SimpleRateThrottle):
    """Requests per token (or person), counted in each web process, and what is left of them told with each answer."""

    scope = "token"

    def allow_request(self, request: Request, view: Any) -> bool:
        allowed = super().allow_request(request, view)
        found: Any = self  # the published types do not know what the class counts with
        if found.rate is not None and found.history:
            # the window slides: after this many seconds its oldest request no longer counts
            seconds = max(1, math.ceil(found.duration - (found.now - found.history[-1])))
            left = max(0, found.num_requests - len(found.history))
            request._request.rate_limit = {  # type: ignore[attr-defined]
                "RateLimit-Policy": f'"{self.scope}";q={found.num_requests};w={found.duration}',
                "RateLimit": f'"{self.scope}";r={left};t={seconds}',
            }
        return allowed

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        if isinstance(request.auth, ApiToken):
            who = request.auth.prefix
        elif request.user and request.user.is_authenticated:
            who = f"user{request.user.pk}"
        else:
            who = client_address(request._request)
        return self.cache_format % {"scope": self.scope, "ident": who}
