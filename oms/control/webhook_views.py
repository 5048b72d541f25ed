"""Settings: where events are told, what became of each message, and sending again."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib import messages
from django.db.models import Count, Max, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from oms.control.models import WebhookDelivery, WebhookEndpoint
from oms.control.settings_views import settings_tabs
from oms.control.webhooks import sending, service
from oms.core.clock import now
from oms.core.errors import NotFound, UserError
from oms.core.middleware import request_actor
from oms.core.paging import keyset_page
from oms.core.screens import page, screen

PAGE = 50
SPANS = (("1", "last hour"), ("24", "last 24 hours"), ("168", "last 7 days"), ("720", "last 30 days"))


@never_cache
@require_http_methods(["GET", "POST"])
@screen("settings.manage")
def webhooks(request: HttpRequest) -> HttpResponse:
    """All endpoints and the form for a new one. A new secret is in this one answer and nowhere else."""
    service.require_everywhere(request.user)
    error, made, secret = None, None, ""
    if request.method == "POST":
        try:
            made, secret = service.create(
                request.POST.get("url", ""),
                request.POST.getlist("events"),
                description=request.POST.get("description", ""),
                actor=request_actor(request),
            )
        except UserError as problem:
            error = problem
    State = WebhookDelivery.State
    rows = WebhookEndpoint.objects.annotate(
        waiting=Count("deliveries", filter=Q(deliveries__state=State.PENDING)),
        failed=Count("deliveries", filter=Q(deliveries__state=State.FAILED)),
        last=Max("deliveries__delivered_at"),
    )
    context = {
        "tabs": settings_tabs(request, "webhooks"),
        "endpoints": rows,
        "events": service.EVENTS.items(),
        "made": made,
        "secret": secret,
        "error": error,
        "given": request.POST if error else {},
        "picked": request.POST.getlist("events") if error else list(service.EVENTS),
    }
    return page(request, "control/webhooks.html", context, status=422 if error else 200)


def _detail(request: HttpRequest, endpoint: WebhookEndpoint, **more: Any) -> dict[str, Any]:
    deliveries = endpoint.deliveries.select_related("event")
    chosen = {name: request.GET.get(name, "") for name in ("state", "type")}
    if chosen["state"] in WebhookDelivery.State.values:
        deliveries = deliveries.filter(state=chosen["state"])
    if chosen["type"] in service.EVENTS:
        deliveries = deliveries.filter(event__type=chosen["type"])
    found = keyset_page(deliveries, order=("-id",), cursor=request.GET.get("cursor", ""), limit=PAGE)
    return {
        "endpoint": endpoint,
        "deliveries": found.items,
        "next_cursor": found.next_cursor,
        "states": WebhookDelivery.State.choices,
        "types": [(name, name) for name in service.EVENTS],
        "filtered": any(chosen.values()),
        "events": service.EVENTS.items(),
        "spans": SPANS,
        "both": endpoint.old_secret_until and endpoint.old_secret_until > now(),
        "schedule": sending.SCHEDULE,
        **chosen,
        **more,
    }


@require_GET
@screen("settings.manage")
def webhook(request: HttpRequest, webhook_id: int) -> HttpResponse:
    """One endpoint with its deliveries, newest first."""
    service.require_everywhere(request.user)
    context = _detail(request, service.find(webhook_id))
    rows_only = bool(request.GET.get("cursor"))
    fragment = "control/_webhook_rows.html" if rows_only else "control/_webhook_results.html"
    return page(request, "control/webhook.html", context, fragment=fragment)


@never_cache
@require_POST
@screen("settings.manage")
def webhook_act(request: HttpRequest, webhook_id: int) -> HttpResponse:
    """Save, pause, resume, rotate, replay or remove: the same services as the API."""
    service.require_everywhere(request.user)
    endpoint, actor, what = service.find(webhook_id), request_actor(request), request.POST.get("action", "")
    if what == "save":
        service.change(
            endpoint.pk,
            actor=actor,
            url=request.POST.get("url", ""),
            events=request.POST.getlist("events"),
            description=request.POST.get("description", ""),
        )
        messages.success(request, "Saved.")
    elif what == "pause":
        service.pause(endpoint.pk, actor=actor)
        messages.info(request, "Paused: what is on its way waits.")
    elif what == "resume":
        service.resume(endpoint.pk, actor=actor)
        messages.success(request, "Switched on. Replay the time in between if the receiver needs it.")
    elif what == "rotate":
        endpoint, secret = service.rotate(endpoint.pk, actor=actor)
        return page(request, "control/webhook.html", _detail(request, endpoint, secret=secret))
    elif what == "replay":
        hours = request.POST.get("hours", "")
        if hours not in dict(SPANS):
            raise UserError("hours: choose one of the listed times.", field="hours")
        at = now()
        count = service.replay(endpoint.pk, at - dt.timedelta(hours=int(hours)), at, actor=actor)
        messages.success(request, f"{count:,} {'event is' if count == 1 else 'events are'} on the way again.")
    elif what == "remove":
        service.remove(endpoint.pk, actor=actor)
        messages.success(request, "The endpoint and its deliveries are gone.")
        return redirect("control:webhooks")
    else:
        raise UserError("action: choose save, pause, resume, rotate, replay or remove.", field="action")
    return redirect("control:webhook", webhook_id)


def _delivery(delivery_id: int) -> WebhookDelivery:
    found = WebhookDelivery.objects.select_related("event", "endpoint").filter(pk=delivery_id).first()
    if found is None:
        raise NotFound("delivery: there is no such delivery.")
    return found


@require_http_methods(["GET", "POST"])
@screen("settings.manage")
def webhook_delivery(request: HttpRequest, delivery_id: int) -> HttpResponse:
    """One message: what was sent at each try and what came back. POST sends it again."""
    service.require_everywhere(request.user)
    delivery = _delivery(delivery_id)
    if request.method == "POST":
        service.resend(delivery.pk, actor=request_actor(request))
        messages.success(request, "It is on its way again.")
        return redirect("control:webhook-delivery", delivery_id)
    context = {"delivery": delivery, "tries": delivery.tries.order_by("-pk")[:100],
               "body": sending.body_of(delivery.event).decode()}  # fmt: skip
    return page(request, "control/webhook_delivery.html", context)
