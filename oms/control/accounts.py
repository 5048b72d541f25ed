"""Log in, second factor, recovery codes and the profile."""

from __future__ import annotations

import secrets
import time
from zoneinfo import available_timezones

import segno
from django.contrib import messages
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_otp import devices_for_user, match_token
from django_otp import login as otp_login
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from oms.control import people
from oms.core import throttle
from oms.core.actor import SYSTEM
from oms.core.audit import record
from oms.core.errors import UserError
from oms.core.middleware import client_address, request_actor
from oms.core.models import User
from oms.core.screens import screen

PENDING = "second_factor_for"
PENDING_SECONDS = 600
RECOVERY_CODES = 10


def _too_many(request: HttpRequest, template: str, seconds: int, context: dict[str, str]) -> HttpResponse:
    minutes = max(1, round(seconds / 60))
    words = f"Too many tries. Wait {minutes} minute{'s' if minutes > 1 else ''} and try again."
    response = render(request, template, {**context, "error": words}, status=429)
    response.headers["Retry-After"] = str(int(seconds) + 1)
    return response


def _target(request: HttpRequest, target: str) -> str:
    safe = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    return target if target and safe else "/"


@never_cache
@require_http_methods(["GET", "POST"])
def log_in(request: HttpRequest) -> HttpResponse:
    target = _target(request, request.POST.get("next") or request.GET.get("next", ""))
    if request.method == "GET":
        if request.user.is_authenticated:
            if target.startswith("/admin/") and not request.user.is_staff:
                return render(request, "403.html", status=403)
            return redirect(target)
        return render(request, "registration/login.html", {"next": target})
    username = request.POST.get("username", "").strip()
    context = {"username": username, "next": target}
    address = client_address(request)
    wait = throttle.seconds_to_wait(username, address)
    if wait:
        record(SYSTEM, "login.throttled", None, after={"user": username[:60]})
        return _too_many(request, "registration/login.html", wait, context)
    user = authenticate(request, username=username, password=request.POST.get("password", ""))
    if user is None:
        throttle.failed(username, address)
        record(SYSTEM, "login.failed", None, after={"user": username[:60]})
        wrong = {**context, "error": "User name or password is wrong."}
        return render(request, "registration/login.html", wrong, status=422)
    throttle.succeeded(username, address)
    if any(True for _ in devices_for_user(user, confirmed=True)):
        request.session.cycle_key()
        request.session[PENDING] = {"user": user.pk, "at": time.time(), "next": target}
        return redirect("second-factor")
    login(request, user)
    record(request_actor(request), "login.ok", user)
    return redirect(target)


@never_cache
@require_http_methods(["GET", "POST"])
def second_factor(request: HttpRequest) -> HttpResponse:
    """The second step: a time-based code or a recovery code."""
    pending = request.session.get(PENDING)
    if not pending or time.time() - pending["at"] > PENDING_SECONDS:
        request.session.pop(PENDING, None)
        return redirect("login")
    if request.method == "GET":
        return render(request, "registration/code.html")
    user = User.objects.filter(pk=pending["user"], is_active=True).first()
    if user is None:
        return redirect("login")
    account, address = f"code:{user.pk}", client_address(request)
    wait = throttle.seconds_to_wait(account, address)
    if wait:
        return _too_many(request, "registration/code.html", wait, {})
    code = request.POST.get("code", "").replace(" ", "").lower()
    device = match_token(user, code)
    if device is None:
        throttle.failed(account, address)
        record(SYSTEM, "login.code_failed", user)
        words = {"error": "This code is wrong or was used already. Codes change every 30 seconds."}
        return render(request, "registration/code.html", words, status=422)
    throttle.succeeded(account, address)
    del request.session[PENDING]
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    otp_login(request, device)
    record(request_actor(request), "login.ok", user, after={"second factor": type(device).__name__})
    return redirect(_target(request, pending["next"]))


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("login")


def _me(request: HttpRequest) -> User:
    """The person looking, freshly read; `screen()` has seen to it that there is one."""
    return User.objects.get(pk=request.user.pk or 0)


@require_GET
@screen()
def profile(request: HttpRequest) -> HttpResponse:
    user = _me(request)
    codes = StaticToken.objects.filter(device__user=user, device__confirmed=True).count()
    return render(
        request,
        "control/profile.html",
        {
            "zones": sorted(available_timezones()),
            "totp": TOTPDevice.objects.filter(user=user, confirmed=True).first(),
            "codes_left": codes,
        },
    )


@require_POST
@screen()
def save_profile(request: HttpRequest) -> HttpResponse:
    user = _me(request)
    zone = request.POST.get("time_zone", "")
    if zone and zone not in available_timezones():
        raise UserError(f"time zone: '{zone}' is unknown; choose one from the list.", field="time_zone")
    density = request.POST.get("density", "normal")
    if density not in ("normal", "compact"):
        raise UserError("density: choose normal or compact.", field="density")
    user.time_zone, user.density, user.keys_enabled = zone, density, "keys_enabled" in request.POST
    user.first_name, user.last_name = (
        request.POST.get("first_name", "")[:150],
        request.POST.get("last_name", "")[:150],
    )
    user.save(update_fields=["time_zone", "density", "keys_enabled", "first_name", "last_name"])
    messages.success(request, "Profile saved.")
    return redirect("control:profile")


@require_POST
@screen()
def set_theme(request: HttpRequest) -> HttpResponse:
    theme = request.POST.get("theme", "")
    if theme not in ("auto", "light", "dark"):
        raise UserError("theme: choose auto, light or dark.", field="theme")
    User.objects.filter(pk=_me(request).pk).update(theme=theme)
    return HttpResponse(status=204)


@require_POST
@screen()
def change_password(request: HttpRequest) -> HttpResponse:
    user = _me(request)
    _needs_password(request)
    new = request.POST.get("new_password", "")
    try:
        validate_password(new, user)
    except ValidationError as error:
        raise UserError(f"new password: {' '.join(error.messages)}", field="new_password") from error
    with transaction.atomic():
        user.set_password(new)
        user.save(update_fields=["password"])
        record(request_actor(request), "user.password_changed", user)
    update_session_auth_hash(request, user)  # this session goes on, all others end with the old password
    messages.success(request, "Password changed. Your other sessions were ended.")
    return redirect("control:profile")


@require_http_methods(["GET", "POST"])
@screen()
def set_up_totp(request: HttpRequest) -> HttpResponse:
    """Show the QR code of a new device; a right code switches it on and shows the recovery codes once."""
    user = _me(request)
    if TOTPDevice.objects.filter(user=user, confirmed=True).exists():
        raise UserError("two-factor: it is on already; switch it off first to change the device.")
    device, _ = TOTPDevice.objects.get_or_create(
        user=user, confirmed=False, defaults={"name": "authenticator"}
    )
    error = ""
    if request.method == "POST":
        if device.verify_token(request.POST.get("code", "").replace(" ", "")):
            with transaction.atomic():
                device.confirmed = True
                device.save(update_fields=["confirmed"])
                codes = _new_codes(user)
                record(request_actor(request), "user.two_factor_on", user)
            otp_login(request, device)
            people.end_sessions(user, keep=request.session.session_key or "")
            return render(request, "control/recovery_codes.html", {"codes": codes})
        error = "This code does not match. Check the clock of your phone and try the next code."
    image = segno.make(device.config_url, error="m").svg_inline(
        scale=5, border=2, dark="#000", light="#fff", svgclass="qr", omitsize=True
    )
    secret = device.config_url.split("secret=")[1].split("&")[0]
    context = {"qr": mark_safe(image), "secret": secret, "error": error}  # noqa: S308 - made by segno from our own text
    return render(request, "control/totp.html", context, status=422 if error else 200)


def _new_codes(user: User) -> list[str]:
    """Replace the recovery codes; returned once, each works once."""
    StaticDevice.objects.filter(user=user).delete()
    device = StaticDevice.objects.create(user=user, name="recovery codes", confirmed=True)
    codes = [secrets.token_hex(5) for _ in range(RECOVERY_CODES)]
    StaticToken.objects.bulk_create(StaticToken(device=device, token=code) for code in codes)
    return codes


def _needs_password(request: HttpRequest) -> None:
    """Ask for the present password again before a change that a stranger at an open screen would love."""
    account, address = f"password:{request.user.pk}", client_address(request)
    if throttle.seconds_to_wait(account, address):
        raise UserError("password: too many tries, wait some minutes.", field="password")
    if not request.user.check_password(request.POST.get("password", "")):
        throttle.failed(account, address)
        raise UserError("password: it is wrong; nothing was changed.", field="password")


@require_POST
@screen()
def renew_codes(request: HttpRequest) -> HttpResponse:
    _needs_password(request)
    with transaction.atomic():
        codes = _new_codes(_me(request))
        record(request_actor(request), "user.recovery_codes_renewed", _me(request))
    return render(request, "control/recovery_codes.html", {"codes": codes})


@require_POST
@screen()
def remove_totp(request: HttpRequest) -> HttpResponse:
    _needs_password(request)
    with transaction.atomic():
        TOTPDevice.objects.filter(user=_me(request)).delete()
        StaticDevice.objects.filter(user=_me(request)).delete()
        record(request_actor(request), "user.two_factor_off", _me(request))
    messages.warning(request, "Two-factor log-in is off.")
    return redirect("control:profile")


@require_POST
@screen()
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    ended = people.end_sessions(_me(request), keep=request.session.session_key or "")
    messages.success(request, f"{ended} other session{'' if ended == 1 else 's'} ended.")
    return redirect("control:profile")
