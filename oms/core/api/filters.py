"""Filters as query fields; a parameter that nobody knows is an error, never ignored."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.dateparse import parse_datetime
from django_filters import BooleanFilter, IsoDateTimeFilter, NumberFilter
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.contrib.django_filters import DjangoFilterExtension
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from oms.core.api.fields import SparseFieldsMixin, chosen_fields
from oms.core.paging import BIGGEST, in_range

_PAGING = {"limit", "cursor"}
WITH_ZONE = "Give a time with zone such as 2026-11-23T08:00:00Z."


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
        refuse_unknown(request, known)
        if "fields" in request.query_params:
            # also where no row is found, which would look at its members
            serializer = view.get_serializer_class()
            if issubclass(serializer, SparseFieldsMixin):
                chosen_fields(request, serializer.Meta.fields)
        if filterset is not None:
            if not filterset.is_valid():
                raise ValidationError(_errors(filterset.form))
            _refuse_unstorable(filterset.form.cleaned_data)
            for name, one in filterset.filters.items():
                # the form's field takes any other word for "not given"
                if name not in request.query_params:
                    continue
                text = request.query_params[name]
                if isinstance(one, BooleanFilter) and text.lower() not in ("true", "false"):
                    raise ValidationError({name: "Give true or false."})
                # every number is an id, and the id 1.5 must not find the object 1
                if isinstance(one, NumberFilter) and not text.removeprefix("-").isdigit():
                    raise ValidationError({name: "Give a whole number."})
                # the form's field takes it for a time of the business, which is another hour than the caller's
                if isinstance(one, IsoDateTimeFilter) and (not text.strip() or without_zone(text)):
                    raise ValidationError({name: WITH_ZONE})
            queryset = filterset.qs
        if updated_field and "updated_since" in request.query_params:
            at = _moment(request.query_params["updated_since"])
            queryset = queryset.filter(**{f"{updated_field}__gte": at})
        return queryset


def choose_from(offered: Iterable[Any]) -> str:
    """The sentence for a value that is none of those."""
    return f"Choose from {', '.join(str(one) for one in offered)}."


def _errors(form: forms.Form) -> dict[str, list[ErrorDetail]]:
    """A form's errors by parameter; where a value is none of the choices, the choices are named."""
    found: dict[str, list[ErrorDetail]] = {}
    for name, errors in form.errors.as_data().items():
        field = form.fields.get(name)
        choices: Any = field.choices if isinstance(field, forms.ChoiceField) else ()
        offered = [key for key, _ in choices if key != ""]
        for error in errors:
            sentences = [choose_from(offered)] if error.code == "invalid_choice" else error.messages
            found.setdefault(name, []).extend(
                ErrorDetail(sentence, code=error.code or "invalid") for sentence in sentences
            )
    return found


def refuse_unknown(request: Request, known: Collection[str]) -> None:
    """For an action that reads its parameters itself: raises `ValidationError` for any that is not `known`,
    and for one that is given twice."""
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        listed = f"Known are {', '.join(sorted(known))}." if known else "None is known here."
        raise ValidationError({unknown[0]: f"Unknown parameter. {listed}"}, code="unknown_parameter")
    for name in request.query_params:
        if len(request.query_params.getlist(name)) > 1:
            # only the last one would count, and nobody would notice
            raise ValidationError({name: "It is given more than once; give one value."}, code="repeated")


def _refuse_unstorable(values: dict[str, Any]) -> None:
    """A number or moment that no database holds is the caller's mistake, not a failure at the database."""
    for name, value in values.items():
        if isinstance(value, dt.datetime) and not in_range(value):
            raise ValidationError({name: "The time is out of range."})
        if isinstance(value, int | Decimal) and not -BIGGEST < value < BIGGEST:
            raise ValidationError({name: "The number is out of range."})


def without_zone(text: str) -> bool:
    """True for a time that each reader would place in a zone of its own."""
    try:
        at = parse_datetime(text)
    except ValueError:
        return False  # the field itself says what is wrong
    return at is not None and at.tzinfo is None


def _moment(text: str) -> Any:
    try:
        at = parse_datetime(text.replace(" ", "+"))  # a bare + in a query string arrives as a space
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or not in_range(at):
        raise ValidationError({"updated_since": WITH_ZONE})
    return at


class StrictFilterSchema(DjangoFilterExtension):
    target_class = "oms.core.api.filters.StrictFilterBackend"
    priority = 1

    def get_schema_operation_parameters(
        self, auto_schema: Any, *args: Any, **kwargs: Any
    ) -> list[dict[str, Any]]:
        parameters = list(super().get_schema_operation_parameters(auto_schema, *args, **kwargs))
        for one in parameters:
            if one["schema"].get("type") == "number":  # as `_refuse_unstorable` has it
                one["schema"] |= {"type": "integer", "minimum": 1 - BIGGEST, "maximum": BIGGEST - 1}
        # other actions that answer several rows (rates, a timeline) do not pass through the filter
        if auto_schema.view.action == "list" and getattr(auto_schema.view, "updated_field", ""):
            parameters.append({
                "name": "updated_since",
                "in": "query",
                "required": False,
                "schema": {"type": "string", "format": "date-time"},
                "description": "Only what changed at or after this time",
            })  # fmt: skip
        return parameters
