"""Key figures over HTTP: what the report shows, and exactly the rows that each figure counts.

Other resources of this floor are described beside what they show; all are named here.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_serializer, inline_serializer
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import BaseRouter

from oms.control import exceptions_api, people_api
from oms.control.imports import api as imports
from oms.control.kpis import drill, report, rollup
from oms.control.webhooks import api as webhooks
from oms.core import business
from oms.core.access import principal_of
from oms.core.api.filters import refuse_unknown
from oms.core.api.pagination import KeysetPagination
from oms.core.api.versions import VersionedMixin
from oms.core.errors import NotFound, UserError

_WHERE = ("from", "to", "channel", "warehouse")
WINDOW = [
    OpenApiParameter("from", OpenApiTypes.DATE, description="first business day; default 30 days up to `to`"),
    OpenApiParameter("to", OpenApiTypes.DATE, description="last business day, counted; default today"),
    OpenApiParameter("channel", OpenApiTypes.STR, description="code; default all that the token may see"),
    OpenApiParameter("warehouse", OpenApiTypes.STR, description="code; default all that the token may see"),
]
PARTS = sorted({part for _, part in drill.DRILLS})


def _number(value: Any) -> str | None:
    """A figure as decimal text; a share is 0 to 1."""
    return None if value is None else format(Decimal(str(value)), "f")


class PartSerializer(serializers.Serializer[Any]):
    """A further figure beside the first one."""

    key = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    value = serializers.CharField(allow_null=True)


class FigureSerializer(serializers.Serializer[Any]):
    """Values are decimal text; null where there is nothing to divide by, or the caller may not see it."""

    key = serializers.CharField()
    title = serializers.CharField()
    definition = serializers.CharField()
    unit = serializers.CharField(help_text="% (a share of 1), h, s, ×, or money in the business currency")
    currency = serializers.CharField(allow_null=True)
    value = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True, help_text="of as many days directly before")
    target = serializers.CharField(allow_null=True)
    target_met = serializers.BooleanField(allow_null=True)
    parts = PartSerializer(many=True)
    notes = serializers.ListField(child=serializers.CharField())
    provisional = serializers.BooleanField(help_text="days in it can still change by themselves")
    restated = serializers.ListField(
        child=serializers.DateField(), help_text="days that late data changed after they were closed"
    )
    hidden = serializers.CharField(allow_null=True, help_text="why the caller does not see the figure")
    rows = serializers.ListField(child=serializers.CharField(), help_text="parts that `rows` opens")
    first_day = serializers.DateField()
    last_day = serializers.DateField()
    as_of = serializers.DateTimeField(allow_null=True, help_text="when it was counted")


@extend_schema_serializer(many=False, component_name="FigureList")
class FigureListSerializer(serializers.Serializer[Any]):
    results = FigureSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class PointSerializer(serializers.Serializer[Any]):
    first_day = serializers.DateField(help_text="of the day, week or month; may lie before the window")
    value = serializers.CharField(allow_null=True)


class FigureDetailSerializer(FigureSerializer):
    series = PointSerializer(many=True)


class KpiViewSet(VersionedMixin, viewsets.GenericViewSet[Any]):
    """Key figures from roll-ups. Days are those of the business's time zone."""

    serializer_class = FigureSerializer
    pagination_class = None
    filter_backends = []
    lookup_field = "key"
    lookup_value_regex = "[a-z-]{1,20}"
    required_scopes = {"GET": "kpis:read"}

    def _asked(self, *more: str) -> report.Asked:
        refuse_unknown(self.request, (*_WHERE, *more))
        for name in ("from", "to"):
            if self.request.query_params.get(name) == "":
                raise UserError(f"{name}: give a day such as 2026-10-31, or leave it out.", field=name)
        return report.asked(self.request.query_params, principal_of(self.request))

    @extend_schema(
        parameters=WINDOW,
        responses=FigureListSerializer,
    )
    def list(self, request: Request) -> Response:
        """All figures of a window."""
        ask = self._asked()
        at = rollup.as_of()
        with business.read_once():
            found = [_told(one, ask, at) for one in report.figures(ask)]
        return Response({"results": found, "next": None})

    @extend_schema(parameters=WINDOW, responses=FigureDetailSerializer)
    def retrieve(self, request: Request, key: str = "") -> Response:
        """One figure with its course in days, weeks (from 32 days on) or months (from 93 days on)."""
        ask = self._asked()
        kpi = report.KPIS.get(key)
        if kpi is None:
            raise NotFound("kpi: there is no such figure.", field="key")
        with business.read_once():
            one = report.figure(kpi, ask)
            series = [{"first_day": point.first, "value": _number(value)} for point, value in one.points]
            return Response({**_told(one, ask, rollup.as_of()), "series": series})

    @extend_schema(
        parameters=[
            *WINDOW,
            OpenApiParameter("part", {"type": "string", "enum": PARTS}, required=True),
            *(
                OpenApiParameter(one["name"], one["schema"], description=one["description"])
                for one in KeysetPagination().get_schema_operation_parameters(None)
            ),
        ],
        responses=inline_serializer(
            "FigureRows",
            {
                "results": serializers.ListField(child=serializers.DictField()),
                "next": serializers.URLField(allow_null=True),
            },
        ),
    )
    @action(detail=True, methods=["get"])
    def rows(self, request: Request, key: str = "") -> Response:
        """Exactly the rows that one part of the figure counts; see `rows` of the figure for its parts."""
        ask = self._asked("part", "limit", "cursor")
        part = request.query_params.get("part", "")
        if not part:
            raise UserError(f"part: name one of {', '.join(PARTS)}.", field="part")
        _, _, one = drill.drill(key, part, ask)
        self.keyset_order = one.order
        pages = KeysetPagination()
        rows = pages.paginate_queryset(one.rows(ask), request, self)
        names = [column.key for column in one.columns]
        found = [dict(zip(names, map(_cell, drill.cells(one, row, ask)), strict=True)) for row in rows]
        return pages.get_paginated_response(found)


def _cell(value: Any) -> Any:
    return _number(value) if isinstance(value, Decimal | float) else value


def _told(one: report.Figure, ask: report.Asked, at: dt.datetime | None) -> dict[str, Any]:
    kpi = one.kpi
    return {
        "key": kpi.key,
        "title": kpi.title,
        "definition": kpi.definition,
        "unit": kpi.unit,
        "currency": business.currency() if kpi.costs else None,
        "value": _number(one.value),
        "previous": _number(one.previous),
        "target": _number(one.target),
        "target_met": one.good,
        "parts": [{"key": p.key, "label": p.label, "value": _number(p.value)} for p in one.parts],
        "notes": one.notes,
        "provisional": one.provisional,
        "restated": one.restated,
        "hidden": one.hidden or None,
        "rows": [] if one.hidden else [part for part, _, _ in kpi.drills],
        "first_day": ask.window.first,
        "last_day": ask.window.last,
        "as_of": at,
    }


def register(router: BaseRouter) -> None:
    """Name this app's resources under /api/v1/."""
    router.register("kpis", KpiViewSet, basename="kpi")
    webhooks.register(router)
    exceptions_api.register(router)
    imports.register(router)
    people_api.register(router)
