"""Keyset pages: each page begins after the last row seen, however many rows share a time stamp."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models
from django.db.models import F, Q, QuerySet

from oms.core.errors import UserError

M = TypeVar("M", bound=models.Model)

#: whole numbers at or beyond this fit no column
BIGGEST = 2**63


def in_range(at: dt.datetime) -> bool:
    """False when the moment has no form in UTC, which is how the databases keep it."""
    try:
        at.astimezone(dt.UTC)
    except OverflowError:
        return False
    return True


@dataclass(frozen=True)
class Page(Generic[M]):
    items: list[M]
    next_cursor: str  # empty on the last page

    @property
    def has_next(self) -> bool:
        return bool(self.next_cursor)


@dataclass(frozen=True)
class _Column:
    name: str
    descending: bool
    field: models.Field[Any, Any]

    @property
    def null(self) -> bool:
        return bool(getattr(self.field, "null", False))

    def ordering(self) -> Any:
        if not self.null:
            return f"-{self.name}" if self.descending else self.name
        # the databases disagree where NULL stands: say it
        return F(self.name).desc(nulls_last=True) if self.descending else F(self.name).asc(nulls_last=True)

    def same(self, value: Any) -> Q:
        return Q(**{f"{self.name}__isnull": True}) if value is None else Q(**{self.name: value})

    def after(self, value: Any) -> Q:
        if value is None:
            return Q(pk__in=[])  # nothing stands after NULL
        later = Q(**{f"{self.name}__{'lt' if self.descending else 'gt'}": value})
        return later | Q(**{f"{self.name}__isnull": True}) if self.null else later


def keyset_page(
    queryset: QuerySet[M], *, order: Sequence[str] = ("-id",), cursor: str = "", limit: int = 50
) -> Page[M]:
    """One page of at most `limit` rows in `order`, beginning after `cursor` (empty = the first page).

    `order` names fields or annotations, "-" for descending; the primary key is appended when missing, so
    that the order is total. Raises `UserError` for a cursor that does not belong to this order.
    """
    columns = _columns(queryset, order)
    rows = queryset.order_by(*(column.ordering() for column in columns))
    if cursor:
        rows = rows.filter(_beyond(columns, _decode(cursor, columns)))
    found = list(rows[: limit + 1])
    items = found[:limit]
    return Page(items, _encode(items[-1], columns) if len(found) > limit else "")


def _columns(queryset: QuerySet[M], order: Sequence[str]) -> list[_Column]:
    names = list(order)
    pk = queryset.model._meta.pk.name
    if not {name.lstrip("-") for name in names} & {pk, "pk"}:
        names.append(f"-{pk}" if names and names[0].startswith("-") else pk)
    return [
        _Column(name.lstrip("-"), name.startswith("-"), _field(queryset, name.lstrip("-"))) for name in names
    ]


def _field(queryset: QuerySet[M], path: str) -> models.Field[Any, Any]:
    annotation = queryset.query.annotations.get(path)
    if annotation is not None:
        found: models.Field[Any, Any] = annotation.output_field
        return found
    model: Any = queryset.model
    field: Any = None
    for part in path.split("__"):
        try:
            field = model._meta.pk if part == "pk" else model._meta.get_field(part)
        except FieldDoesNotExist as error:
            raise ValueError(f"cannot order by '{path}'") from error
        model = field.related_model
    found = field
    return found


def _beyond(columns: list[_Column], values: list[Any]) -> Q:
    where = Q(pk__in=[])
    equal = Q()
    for column, value in zip(columns, values, strict=True):
        where |= equal & column.after(value)
        equal &= column.same(value)
    first, value = columns[0], values[0]
    if not first.null:
        # implied by the rest; lets the index on the first column bound the scan
        where &= Q(**{f"{first.name}__{'lte' if first.descending else 'gte'}": value})
    return where


def _signature(columns: list[_Column]) -> str:
    return ",".join(("-" if column.descending else "") + column.name for column in columns)


def _encode(row: models.Model, columns: list[_Column]) -> str:
    values: list[Any] = []
    for column in columns:
        value: Any = row
        for part in column.name.split("__"):
            value = getattr(value, part, None) if value is not None else None
        value = value.pk if isinstance(value, models.Model) else value
        values.append(value if value is None or isinstance(value, int | str) else _text(value))
    return base64.urlsafe_b64encode(json.dumps([_signature(columns), *values]).encode()).decode().rstrip("=")


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, dt.date | dt.datetime) else str(value)


def _decode(cursor: str, columns: list[_Column]) -> list[Any]:
    try:
        signature, *values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if signature != _signature(columns) or len(values) != len(columns):
            raise ValueError
        return [_value(column, value) for column, value in zip(columns, values, strict=True)]
    except (ValueError, TypeError, binascii.Error, ValidationError) as error:
        raise UserError(
            "cursor: it does not belong to this list; begin again without it.", field="cursor"
        ) from error


def _value(column: _Column, given: Any) -> Any:
    """A column's value out of a cursor. ValueError for one that no row can hold."""
    value = None if given is None else column.field.to_python(given)
    if value is None:
        if not column.null:
            raise ValueError
    elif isinstance(value, dt.datetime):
        if value.tzinfo is None or not in_range(value):
            raise ValueError
    elif (isinstance(value, int) and abs(value) >= BIGGEST) or (isinstance(value, str) and "\0" in value):
        raise ValueError
    return value
