"""Filters as query fields; a parameter that nobody knows is an error, never ignored."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils.dateparse import parse_datetime
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.contrib.django_filters import DjangoFilterExtension
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

_PAGING = {"limit", "cursor"}


class StrictFilterBackend(DjangoFilterBackend):
    """django-filter plus: unknown parameters answer 400, `updated_since` where the view names `updated_field`.

    A view may allow more with `extra_parameters = ("at",)`; `fields` is always known (see SparseFieldsMixin).
    """

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        detail = bool(getattr(view, "detail", False))
        known = {"fields", *getattr(view, "extra_parameters", ())}
        updated_field: str = "" if detail else getattr(view, "updated_field", "")
        filterset = None if detail else self.get_filterset(request, queryset, view)
        if not detail:
            known |= _PAGING
            known |= set(filterset.filters) if filterset is not None else set()
            known |= {"updated_since"} if updated_field else set()
        unknown = sorted(set(request.query_params) - known)
        if unknown:
            raise ValidationError(
                {unknown[0]: f"Unknown parameter. Known are {', '.join(sorted(known))}."},
                code="unknown_parameter",
            )
        if filterset is not None:
            if not filterset.is_valid():
                raise ValidationError(filterset.errors)
            queryset = filterset.qs
        if updated_field and "updated_since" in request.query_params:
            at = _moment(request.query_params["updated_since"])
            queryset = queryset.filter(**{f"{updated_field}__gte": at})
        return queryset


def _moment(text: str) -> Any:
    try:
        at = parse_datetime(text.replace(" ", "+"))  # a bare + in a query string arrives as a space
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValidationError({"updated_since": "Give a time with zone such as 2026-11-23T08:00:00Z."})
    return at


class StrictFilterSchema(DjangoFilterExtension):
    target_class = "oms.core.api.filters.StrictFilterBackend"
    priority = 1

    def get_schema_operation_parameters(
        self, auto_schema: Any, *args: Any, **kwargs: Any
    ) -> list[dict[str, Any]]:
        parameters = list(super().get_schema_operation_parameters(auto_schema, *args, **kwargs))
        if getattr(auto_schema.view, "updated_field", ""):
            parameters.append({
                "name": "updated_since",
                "in": "query",
                "required": False,
                "schema": {"type": "string", "format": "date-time"},
                "description": "Only what changed at or after this time",
            })  # fmt: skip
        return parameters
