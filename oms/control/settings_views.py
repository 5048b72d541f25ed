"""Settings: the company, people, API tokens and the health of the system."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal, InvalidOperation
from typing import Any

from django.contrib import messages
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_otp.plugins.otp_totp.models import TOTPDevice

from inventory import valuation
from inventory.models import Warehouse
from oms.control import people, selectors
from oms.core import audit, business, checks, tokens
from oms.core.access import can, require
from oms.core.clock import business_day, now
from oms.core.errors import NotAllowed, UserError
from oms.core.invariants import all_invariants
from oms.core.middleware import request_actor
from oms.core.models import ApiToken, Job, OutboxEvent, User
from oms.core.roles import PERMISSIONS, ROLES, SCOPES
from oms.core.screens import page, screen
from oms.orders.models import SalesChannel

#: settings with a page of their own, or changed elsewhere
_ELSEWHERE = {"push_paused"}


def settings_tabs(request: HttpRequest, active: str) -> list[dict[str, Any]]:
    pages = (
        ("company", "Company", "control:settings", "settings.manage"),
        ("users", "Users and roles", "control:users", "users.manage"),
        ("tokens", "API tokens", "control:tokens", "users.manage"),
        ("webhooks", "Webhooks", "control:webhooks", "settings.manage"),
        ("warehouses", "Warehouses", "control:warehouses", "settings.manage"),
        ("rates", "Exchange rates", "control:rates", "costs.view"),
        ("carriers", "Carriers", "control:carriers", "settings.manage"),
        ("customs", "Customs", "control:customs", "settings.manage"),
        ("system", "System health", "control:system", "settings.manage"),
    )
    return [
        {"label": label, "url": reverse(name), "active": key == active, "count": None}
        for key, label, name, right in pages
        if can(request.user, right)
    ]


# --- company ------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
@screen()
def company(request: HttpRequest) -> HttpResponse:
    if not can(request.user, "settings.manage"):
        if can(request.user, "users.manage"):
            return redirect("control:users")
        raise NotAllowed("You need the right to change settings. Ask an owner.")
    errors: dict[str, str] = {}
    fields = [key for key in business.KNOWN if key not in _ELSEWHERE]
    given = {key: request.POST.get(key, "") for key in fields} if request.method == "POST" else {}
    if request.method == "POST":
        values: dict[str, Any] = {}
        for key in fields:
            try:
                values[key] = _typed(key, given[key])
            except UserError as error:
                errors[key] = error.message
        if not errors:
            before = {key: business.get(key) for key in fields}
            for key, value in values.items():
                if key != "valuation":
                    business.put(key, value)
                elif value != before[key]:
                    valuation.set_business_method(value, actor=request_actor(request))
            changed = {key: value for key, value in values.items() if before[key] != value}
            if changed:
                old = {key: before[key] for key in changed}
                audit.record(request_actor(request), "settings.changed", None, before=old, after=changed)
            messages.success(request, "Settings saved.")
            return redirect("control:settings")
    rows = [
        {
            "key": key,
            "label": business.KNOWN[key].label,
            "value": given.get(key, business.get(key)),
            "choices": business.KNOWN[key].choices,
            "error": errors.get(key),
        }
        for key in fields
    ]
    context = {"tabs": settings_tabs(request, "company"), "rows": rows, "errors": list(errors.values())}
    return page(request, "control/settings.html", context, status=422 if errors else 200)


def _typed(key: str, text: str) -> Any:
    """A setting's value from a form, checked against the kind of its default. Raises `UserError`."""
    text, default, label = text.strip(), business.KNOWN[key].default, business.KNOWN[key].label
    if isinstance(default, int):
        if not text.isdigit() or int(text) > 10_000:
            raise UserError(f"{label}: '{text}' is not a whole number from 0 to 10,000.", field=key)
        return int(text)
    if key == "currency":
        if len(text) != 3 or not text.isalpha():
            raise UserError(f"{label}: '{text}' is not a currency code such as USD.", field=key)
        return text.upper()
    if choices := dict(business.KNOWN[key].choices):
        if text not in choices:
            raise UserError(f"{label}: choose one of {', '.join(choices.values())}.", field=key)
        return text
    if _is_number(str(default)):
        if not _is_number(text) or not 0 <= Decimal(text) <= 10_000_000:
            raise UserError(f"{label}: '{text}' is not a number such as {default}.", field=key)
        if key == "service_level" and not Decimal("0.5") <= Decimal(text) < 1:
            raise UserError(f"{label}: choose a share from 0.5 to below 1, such as 0.95.", field=key)
        return text
    if not text:
        raise UserError(f"{label}: it may not be empty.", field=key)
    return text[:200]


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


# --- people -------------------------------------------------------------------------------------


def _choices() -> dict[str, Any]:
    return {
        "roles": [
            {"key": key, "label": label, "rights": sorted(PERMISSIONS[right] for right in rights)}
            for key, (label, rights) in ROLES.items()
        ],
        "warehouses": dict(Warehouse.objects.order_by("code").values_list("code", "name")),
        "channels": dict(SalesChannel.objects.order_by("code").values_list("code", "name")),
    }


def _role(request: HttpRequest) -> people.Role:
    known = _choices()
    return people.Role(
        request.POST.get("role", ""),
        people.known_codes(request.POST.getlist("warehouses"), set(known["warehouses"]), "warehouses"),
        people.known_codes(request.POST.getlist("channels"), set(known["channels"]), "channels"),
    )


@require_http_methods(["GET", "POST"])
@screen("users.manage")
def users(request: HttpRequest) -> HttpResponse:
    error: UserError | None = None
    if request.method == "POST":
        try:
            user = people.create(
                request.POST.get("username", ""),
                request.POST.get("password", ""),
                _role(request),
                email=request.POST.get("email", ""),
                actor=request_actor(request),
            )
        except UserError as problem:
            error = problem
        else:
            messages.success(request, f"{user.username} may log in now. Hand over the password in person.")
            return redirect("control:users")
    protected = set(TOTPDevice.objects.filter(confirmed=True).values_list("user_id", flat=True))
    found = User.objects.prefetch_related("memberships__scopes").order_by("-is_active", "username")
    rows = [
        {"user": user, "roles": [(ROLES[role.name][0] if role.name in ROLES else role.name, role)
                                 for role in people.roles_of(user)], "two_factor": user.pk in protected}
        for user in found[:500]
    ]  # fmt: skip
    context = {
        "tabs": settings_tabs(request, "users"), "rows": rows, "error": error, "given": request.POST,
        "picked_warehouses": request.POST.getlist("warehouses"), "picked_channels": request.POST.getlist("channels"),
        **_choices(),
    }  # fmt: skip
    return page(request, "control/users.html", context, status=422 if error else 200)


@require_GET
@screen("users.manage")
def user_detail(request: HttpRequest, user_id: int) -> HttpResponse:
    user = people.find(user_id)
    roles = people.roles_of(user)
    context = {
        "tabs": settings_tabs(request, "users"),
        "person": user,
        "role": roles[0] if roles else people.Role("viewer"),
        "more_roles": roles[1:],
        "two_factor": TOTPDevice.objects.filter(user=user, confirmed=True).exists(),
        "tokens": user.api_tokens.filter(revoked_at__isnull=True, expires_at__gt=now()).count(),
        **_choices(),
    }
    return page(request, "control/user.html", context)


@require_POST
@screen("users.manage")
def user_act(request: HttpRequest, user_id: int) -> HttpResponse:
    user, actor, action = people.find(user_id), request_actor(request), request.POST.get("action", "")
    if action == "role":
        people.set_role(user, _role(request), actor=actor)
        text = "Role saved; it holds from the next click."
    elif action == "password":
        people.set_password(user, request.POST.get("password", ""), actor=actor)
        text = "Password set; their sessions were ended."
    elif action == "second_factor":
        people.reset_second_factor(user, actor=actor)
        text = "Second factor removed; the next log-in needs the password only."
    elif action == "sessions":
        ended = people.end_sessions(user)
        audit.record(actor, "user.sessions_ended", user, after={"count": ended})
        text = f"{ended} session{'' if ended == 1 else 's'} ended."
    elif action in ("disable", "enable"):
        if user.pk == request.user.pk:
            raise UserError("You cannot switch yourself off: ask another owner.")
        people.set_active(user, action == "enable", actor=actor)
        text = "May log in again." if action == "enable" else "Switched off: sessions ended, tokens revoked."
    else:
        raise UserError("action: choose role, password, second_factor, sessions, disable or enable.")
    messages.success(request, text)
    return redirect("control:user", user_id)


# --- tokens -------------------------------------------------------------------------------------

LIFETIMES: tuple[tuple[str, str], ...] = (
    ("30", "30 days"),
    ("90", "90 days"),
    ("365", "1 year"),
    ("730", "2 years"),
)


@never_cache
@require_http_methods(["GET", "POST"])
@screen("users.manage")
def token_list(request: HttpRequest) -> HttpResponse:
    """Tokens and the form for a new one. The full text of a new token is in this one answer and nowhere else."""
    error: UserError | None = None
    issued, secret = None, ""
    if request.method == "POST":
        try:
            known = _choices()
            days = request.POST.get("days", "")
            if days not in dict(LIFETIMES):
                raise UserError("expiry: choose how long the token is valid.", field="days")
            issued, secret = tokens.issue(
                request.user,  # type: ignore[arg-type]
                request.POST.get("name", ""),
                request.POST.getlist("scopes"),
                actor=request_actor(request),
                warehouses=people.known_codes(
                    request.POST.getlist("warehouses"), set(known["warehouses"]), "warehouses"
                ),
                channels=people.known_codes(
                    request.POST.getlist("channels"), set(known["channels"]), "channels"
                ),
                networks=[one for one in request.POST.get("networks", "").replace(",", " ").split() if one],
                valid_for=dt.timedelta(days=int(days)),
            )
        except UserError as problem:
            error = problem
    context = {
        "tabs": settings_tabs(request, "tokens"), "tokens": ApiToken.objects.select_related("user")[:200], "at": now(),
        "scopes": sorted(SCOPES), "lifetimes": LIFETIMES, "issued": issued, "secret": secret, "error": error,
        "given": request.POST if error else {}, "picked": request.POST.getlist("scopes") if error else [], **_choices(),
    }  # fmt: skip
    return page(request, "control/tokens.html", context, status=422 if error else 200)


@require_POST
@screen("users.manage")
def token_revoke(request: HttpRequest, token_id: int) -> HttpResponse:
    tokens.revoke(token_id, actor=request_actor(request))
    messages.success(request, "Token revoked: the next request with it is refused.")
    return redirect("control:tokens")


# --- warehouses and system ----------------------------------------------------------------------


@require_GET
@screen("settings.manage")
def warehouses(request: HttpRequest) -> HttpResponse:
    context = {"tabs": settings_tabs(request, "warehouses"), "warehouses": Warehouse.objects.order_by("code")}
    return page(request, "control/warehouses.html", context)


@require_GET
@screen("settings.manage")
def system(request: HttpRequest) -> HttpResponse:
    number, digest = audit.head()
    context = {
        "tabs": settings_tabs(request, "system"),
        "processes": selectors.processes(),
        "queues": selectors.queues(),
        "dead": OutboxEvent.objects.filter(dead=True).order_by("-id")[:20],
        "database": {"postgresql": "PostgreSQL", "sqlite": "SQLite (embedded)"}.get(
            connection.vendor, connection.vendor
        ),
        "sealed": number,
        "seal": digest,
        "day": business_day(),
        "sentences": len(all_invariants()),
        "last_check": Job.objects.filter(kind=checks.KIND).order_by("-pk").first(),
    }
    return page(request, "control/system.html", context, fragment="control/_system.html")


@require_POST
@screen("settings.manage")
def verify_audit(request: HttpRequest) -> HttpResponse:
    """Walk the chain of seals now; reading only."""
    require(request.user, "audit.view")
    broken = list(audit.verify())
    return render(
        request,
        "control/_verified.html",
        {"broken": broken[:50], "count": len(broken), "head": audit.head()[0]},
    )


@require_POST
@screen("settings.manage")
def check_now(request: HttpRequest) -> HttpResponse:
    """Look now at everything that must always be true; the job lists the rows that fail."""
    job = checks.begin(actor=request_actor(request))
    return redirect("control:job", job_id=job.pk)
