"""Insert many rows quickly: what `bulk_create` does, without asking each field for each value.

For hot paths that write plain rows: no signals, no conflicts, no parents. Values go through the field's own
conversion only where its column type needs one (JSON, encrypted text, and on SQLite times and decimals).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from django.db import connection, models
from django.db.models.fields.json import JSONField

M = TypeVar("M", bound=models.Model)

#: parameters per statement: SQLite 3.32 and newer take 32,766, PostgreSQL 65,535
MOST_PARAMETERS = 30_000

#: column types whose Python value is the parameter as it stands
_PLAIN = (models.IntegerField, models.BooleanField, models.CharField, models.TextField, models.UUIDField)


def insert_rows(rows: Sequence[M]) -> Sequence[M]:
    """Insert unsaved rows of one model, in order, and set their primary keys. Inside the caller's transaction."""
    if not rows:
        return rows
    model = type(rows[0])
    columns = _columns(model, connection.vendor)
    names = ", ".join(connection.ops.quote_name(column) for _, column, _ in columns)
    table, pk = connection.ops.quote_name(model._meta.db_table), model._meta.pk
    pk_column = connection.ops.quote_name(pk.column or pk.attname)
    one = f"({', '.join(['%s'] * len(columns))})"
    step = max(1, MOST_PARAMETERS // len(columns))
    with connection.cursor() as cursor:
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            values = [
                getattr(row, name) if convert is None else convert(getattr(row, name))
                for row in part
                for name, _, convert in columns
            ]
            cursor.execute(
                f"INSERT INTO {table} ({names}) VALUES {', '.join([one] * len(part))} "  # noqa: S608 - names of ours
                f"RETURNING {pk_column}",
                values,
            )
            for row, (key,) in zip(part, cursor.fetchall(), strict=True):
                setattr(row, pk.attname, key)
                row._state.adding = False
                row._state.db = connection.alias
    return rows


@lru_cache(maxsize=64)
def _columns(model: type[models.Model], vendor: str) -> list[tuple[str, str, Callable[[Any], Any] | None]]:
    """(attribute, column, conversion) of every stored field but the primary key."""
    return [
        (field.attname, field.column or field.attname, _conversion(field, vendor))
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
