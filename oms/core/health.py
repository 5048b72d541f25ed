"""/healthz: the process lives. /readyz: it can serve. /metrics: figures for Prometheus."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from django.db import DatabaseError, connection
from django.db.models import Count, Min
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from oms.core import beat
from oms.core.clock import now
from oms.core.metrics import REGISTRY
from oms.core.middleware import client_address
from oms.core.models import ExceptionItem, Heartbeat, Job, OutboxEvent


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """503 without a database. Silent workers are told, yet pages can be served without them."""
    try:
        beats = {row.pk: row.at for row in Heartbeat.objects.filter(pk__in=[beat.DISPATCHER, beat.WORKER])}
    except DatabaseError:
        connection.close()
        return JsonResponse({"status": "no database"}, status=503)
    at = now()
    alive = {
        name: name in beats and at - beats[name] <= beat.SILENT_AFTER
        for name in (beat.DISPATCHER, beat.WORKER)
    }
    return JsonResponse({"status": "ok", "database": True, **alive})


class _FromDatabase(Collector):
    """Figures that all processes share, read when asked."""

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        from django_q.models import OrmQ

        at = now()
        live = OutboxEvent.objects.filter(dead=False).aggregate(depth=Count("id"), oldest=Min("created_at"))
        age = (at - live["oldest"]).total_seconds() if live["oldest"] else 0.0
        for name, text, value in (
            ("lading_outbox_depth", "Events waiting", live["depth"]),
            ("lading_outbox_age_seconds", "Age of the oldest waiting event", age),
            ("lading_outbox_dead", "Events given up", OutboxEvent.objects.filter(dead=True).count()),
            ("lading_queue_depth", "Tasks waiting", OrmQ.objects.count()),
            (
                "lading_jobs_open",
                "Jobs waiting or running",
                Job.objects.filter(state__in=["queued", "running"]).count(),
            ),
            (
                "lading_exceptions_open",
                "Open exceptions",
                ExceptionItem.objects.filter(closed_at__isnull=True).count(),
            ),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        beats = GaugeMetricFamily(
            "lading_heartbeat_age_seconds", "Time since a sign of life", labels=["name"]
        )
        for row in Heartbeat.objects.filter(pk__in=[beat.DISPATCHER, beat.WORKER]):
            beats.add_metric([row.pk], (at - row.at).total_seconds())
        yield beats


REGISTRY.register(_FromDatabase())


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """For callers in our own network only."""
    try:
        outside = ipaddress.ip_address(client_address(request)).is_global
    except ValueError:
        outside = True
    if outside:
        raise Http404
    return HttpResponse(generate_latest(REGISTRY), content_type=CONTENT_TYPE_LATEST)
