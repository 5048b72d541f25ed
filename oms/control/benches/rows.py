"""Rows by the million, written set by set inside the database: what a bench reads, never what it measures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from django.db import connection, models

from oms.core.db import on_postgres

_COUNT = "(WITH RECURSIVE s(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM s WHERE n < ROWS) SELECT n FROM s)"


@contextmanager
def quiet() -> Iterator[None]:
    """Foreign keys are checked row by row otherwise; the rows are ours and fit."""
    with connection.cursor() as cursor:
        if on_postgres():
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute("SET LOCAL synchronous_commit = off")
        yield


def insert(model: type[models.Model], rows: int, **columns: str) -> None:
    """`INSERT … SELECT` over the numbers 1…rows; columns that are not given get their model's default."""
    names, values = [], []
    for field in model._meta.concrete_fields:
        if isinstance(field, models.GeneratedField):
            continue
        names.append(connection.ops.quote_name(str(field.column)))
        values.append(columns.pop(str(field.column), "") or _literal(field))
    if columns:
        raise ValueError(f"{model.__name__} has no {', '.join(columns)}")
    series = f"generate_series(1, {rows}) AS series(n)"
    if not on_postgres():
        series = _COUNT.replace("ROWS", str(rows))
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            " ".join(
                ["INSERT INTO", table, f"({', '.join(names)})", "SELECT", ", ".join(values), "FROM", series]
            )
        )


def _literal(field: models.Field[Any, Any]) -> str:
    """The default of a field as SQL."""
    if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
        return at("0")
    value = field.get_default()
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper() if on_postgres() else str(int(value))
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, list | dict):
        return f"'{json.dumps(value)}'"
    return "'" + str(value).replace("'", "''") + "'"


def at(seconds_ago: str) -> str:
    """A moment so many seconds ago (an SQL expression), as SQL."""
    if on_postgres():
        return f"now() - make_interval(secs => {seconds_ago})"
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', (0 - ({seconds_ago})) || ' seconds')"


def text(number: str) -> str:
    """`bench-<number>`, as SQL."""
    return f"'bench-' || {number}"


def uuid() -> str:
    """A new random id in each row, as SQL."""
    return "gen_random_uuid()" if on_postgres() else "lower(hex(randomblob(16)))"
