"""Insert many rows quickly: what `bulk_create` does, without asking each field for each value.

For hot paths that write plain rows: no signals, no conflicts, no parents. Values go through the field's own
conversion only where its column type needs one (JSON, encrypted text, and on SQLite times and decimals).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Any, TypeVar

from django.db import connection, models
from django.db.models.fields.json import JSONField

M = TypeVar("M", bound=models.Model)

#: parameters per statement: SQLite 3.32 and newer take 32,766, PostgreSQL 65,535
MOST_PARAMETERS = 30_000

#: column types whose Python value is the parameter as it stands
_PLAIN = (models.IntegerField, models.BooleanField, models.CharField, models.TextField, models.UUIDField)


#: from so many rows on PostgreSQL gets one array per column: looking for thousands of placeholders costs more
ARRAYS_FROM = 5


@dataclass(frozen=True, slots=True)
class _Column:
    attribute: str
    name: str
    type: str  # without length: an explicit cast to varchar(80) would cut silently what the table refuses
    convert: Callable[[Any], Any] | None

    def values(self, rows: Sequence[models.Model]) -> list[Any]:
        found = [getattr(row, self.attribute) for row in rows]
        return found if self.convert is None else [self.convert(value) for value in found]


def insert_rows(rows: Sequence[M]) -> Sequence[M]:
    """Insert unsaved rows of one model, in order, and set their primary keys. Inside the caller's transaction."""
    if not rows:
        return rows
    model = type(rows[0])
    columns = _columns(model, connection.vendor)
    quote = connection.ops.quote_name
    pk = model._meta.pk
    head = (
        f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(quote(column.name) for column in columns)})"
    )
    tail = f"RETURNING {quote(str(pk.column))}"
    one = f"({', '.join(['%s'] * len(columns))})"
    step = max(1, MOST_PARAMETERS // len(columns))
    with connection.cursor() as cursor:
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            by_column = [column.values(part) for column in columns]
            parameters: list[Any]
            if connection.vendor == "postgresql" and len(part) >= ARRAYS_FROM:
                body = f"SELECT * FROM unnest({', '.join(f'(%s)::{column.type}[]' for column in columns)})"  # noqa: S608 - names of ours
                parameters = by_column
            else:
                body = f"VALUES {', '.join([one] * len(part))}"
                parameters = [value for row in zip(*by_column, strict=True) for value in row]
            cursor.execute(f"{head} {body} {tail}", parameters)
            for row, (key,) in zip(part, cursor.fetchall(), strict=True):
                setattr(row, pk.attname, key)
                row._state.adding = False
                row._state.db = connection.alias
    return rows


@lru_cache(maxsize=64)
def _columns(model: type[models.Model], vendor: str) -> list[_Column]:
    """Every stored field but the primary key."""
    return [
        _Column(
            field.attname,
            str(field.column),
            re.sub(r"\(.*?\)", "", str(field.db_type(connection))),
            _conversion(field, vendor),
        )
        for field in model._meta.concrete_fields
        if not field.primary_key and not field.generated
    ]


def _conversion(field: models.Field[Any, Any], vendor: str) -> Callable[[Any], Any] | None:
    target = field
    while isinstance(target, models.ForeignKey):
        target = target.target_field
    own = type(field).get_prep_value
    plain = isinstance(target, _PLAIN) and not isinstance(target, JSONField)
    if vendor == "postgresql":
        plain |= isinstance(target, models.DateTimeField | models.DateField | models.DecimalField)
    else:
        plain &= not isinstance(target, models.UUIDField)
    if plain and own.__module__.startswith("django."):
        return None

    def convert(value: Any) -> Any:
        return field.get_db_prep_save(value, connection)

    return convert


def insert_columns(model: type[models.Model], size: int, columns: dict[str, Any]) -> None:
    """Insert `size` rows given by column: a list has one value per row, anything else is the same in all of them.

    For tens of thousands of plain rows whose keys nobody asks for. Fields not named take their default, which
    must not be a different one per row. Inside the caller's transaction.
    """
    if not size:
        return
    known = {column.attribute: column for column in _columns(model, connection.vendor)}
    given = dict(columns)
    for field in model._meta.concrete_fields:
        if field.attname in known:
            given.setdefault(field.attname, field.get_default())
    quote = connection.ops.quote_name
    names = sorted(given)
    lists = [name for name in names if isinstance(given[name], list)]
    values = {name: _stored(known[name], given[name]) for name in names}
    into = ", ".join(quote(known[name].name) for name in names)
    head = f"INSERT INTO {quote(model._meta.db_table)} ({into})"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            taken = ", ".join(
                f"r.{quote(known[name].name)}" if name in lists else f"(%s)::{known[name].type}"
                for name in names
            )
            arrays = ", ".join(f"(%s)::{known[name].type}[]" for name in lists)
            labels = ", ".join(quote(known[name].name) for name in lists)
            parameters = [values[name] for name in names if name not in lists]
            cursor.execute(
                f"{head} SELECT {taken} FROM unnest({arrays}) AS r ({labels})",  # noqa: S608 - names of ours
                [*parameters, *(values[name] for name in lists)],
            )
            return
        marks = ", ".join("%s" for _ in names)
        filled = [values[name] if name in lists else repeat(values[name], size) for name in names]
        rows: list[Sequence[Any]] = list(zip(*filled, strict=False))
        cursor.executemany(f"{head} VALUES ({marks})", rows)


def _stored(column: _Column, given: Any) -> Any:
    if column.convert is None:
        return given
    return [column.convert(value) for value in given] if isinstance(given, list) else column.convert(given)
