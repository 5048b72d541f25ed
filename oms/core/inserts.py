"""Insert many rows quickly: what `bulk_create` does, without asking each field for each value.

For hot paths that write plain rows: no signals, no conflicts, no parents. Values go through the field's own
conversion only where its column type needs one (JSON, encrypted text, and on SQLite times and decimals).
"""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Any, TypeVar

from django.db import connection, models
from django.db.models.fields.json import JSONField

from oms.core.db import pg_array

M = TypeVar("M", bound=models.Model)

#: parameters per statement: SQLite 3.32 and newer take 32,766, PostgreSQL 65,535
MOST_PARAMETERS = 30_000

#: column types whose Python value is the parameter as it stands
_PLAIN = (models.IntegerField, models.BooleanField, models.CharField, models.TextField, models.UUIDField)


#: short names of columns in the JSON that PostgreSQL gets
KEYS = tuple(f"c{number}" for number in range(200))
#: more rows than this go table by table: the statement would only become long
TOGETHER = 2_000


@dataclass(frozen=True, slots=True)
class _Column:
    attribute: str
    name: str
    type: str  # without length: an explicit cast to varchar(80) would cut silently what the table refuses
    convert: Callable[[Any], Any] | None
    inside_json: Callable[[Any], Any] | None  # as `convert`, for a value inside a JSON text

    def values(self, rows: Sequence[models.Model]) -> list[Any]:
        found = [getattr(row, self.attribute) for row in rows]
        return found if self.convert is None else [self.convert(value) for value in found]


def insert_rows(rows: Sequence[M]) -> Sequence[M]:
    """Insert unsaved rows of one model, in order, and set their primary keys. Inside the caller's transaction.

    Rows that carry their primary keys already (`take_ids`) are stored under them: all of one call, or none.
    """
    if not rows:
        return rows
    model = type(rows[0])
    given = rows[0].pk is not None
    columns = _columns(model, connection.vendor, given)
    pk = model._meta.pk
    tail = "" if given else f" RETURNING {connection.ops.quote_name(str(pk.column))}"
    step = max(1, MOST_PARAMETERS // len(columns))
    with connection.cursor() as cursor:
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            sql, parameters = _insert(model, columns, part)
            cursor.execute(f"{sql}{tail}", parameters)
            if not given:
                for row, (key,) in zip(part, cursor.fetchall(), strict=True):
                    setattr(row, pk.attname, key)
    _mark_stored(rows)
    return rows


def insert_together(*groups: Sequence[models.Model]) -> None:
    """Insert rows of several models; foreign keys between them must be set (see `take_ids`).

    PostgreSQL checks foreign keys at commit, so all groups go in one statement; SQLite takes one for each.
    Primary keys that were not given are not set afterwards, so these rows must not be used again.
    """
    full = [group for group in groups if group]
    if connection.vendor != "postgresql" or sum(map(len, full)) > TOGETHER:
        for group in full:
            insert_rows(group)
        return
    parts, parameters = [], []
    for group in full:
        sql, values = _insert(
            type(group[0]), _columns(type(group[0]), connection.vendor, group[0].pk is not None), group
        )
        parts.append(sql)
        parameters += values
    if not parts:
        return
    heads = ", ".join(f"put{number} AS ({sql})" for number, sql in enumerate(parts[:-1]))
    with connection.cursor() as cursor:
        cursor.execute(f"WITH {heads} {parts[-1]}" if heads else parts[-1], parameters)
    for group in full:
        _mark_stored(group)


def take_ids(counts: Mapping[type[models.Model], int]) -> dict[type[models.Model], list[int]]:
    """New primary keys, ascending, for rows that refer to each other and are inserted afterwards. One statement.

    Inside a transaction: on SQLite its write lock is what makes them ours.
    """
    wanted = {model: count for model, count in counts.items() if count}
    found: dict[type[models.Model], list[int]] = {model: [] for model in counts}
    if not wanted:
        return found
    if not connection.in_atomic_block:
        raise RuntimeError("take_ids() needs the transaction that inserts the rows.")
    order = list(wanted)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                " UNION ALL ".join(
                    f"SELECT {number}, nextval('{_sequence(model)}') FROM generate_series(1, {wanted[model]:d})"  # noqa: S608 - names and numbers of ours
                    for number, model in enumerate(order)
                )
            )
            for number, key in cursor.fetchall():
                found[order[number]].append(key)
        else:
            names = {model._meta.db_table: model for model in order}
            cursor.execute(
                f"SELECT name, seq FROM sqlite_sequence WHERE name IN ({', '.join(['%s'] * len(names))})",  # noqa: S608 - only placeholders
                list(names),
            )
            last = dict(cursor.fetchall())
            for name, model in names.items():
                first = last.get(name, 0) + 1
                found[model] = list(range(first, first + wanted[model]))
    return {model: sorted(keys) for model, keys in found.items()}


def _sequence(model: type[models.Model]) -> str:
    return f"{model._meta.db_table}_{model._meta.pk.column}_seq"


def _insert(
    model: type[models.Model], columns: list[_Column], rows: Sequence[models.Model]
) -> tuple[str, list[Any]]:
    """INSERT statement and parameters for some rows of one model."""
    if connection.vendor == "postgresql":
        names = [column.attribute for column in columns]
        values = [
            {
                key: getattr(row, name)
                if column.inside_json is None
                else column.inside_json(getattr(row, name))
                for key, (name, column) in zip(KEYS, zip(names, columns, strict=True), strict=False)
            }
            for row in rows
        ]
        return _head(model, connection.vendor, len(columns)), [jsonlib.dumps(values, default=str)]
    by_column = [column.values(rows) for column in columns]
    one = f"({', '.join(['%s'] * len(columns))})"
    body = f"{_head(model, connection.vendor, len(columns))} VALUES {', '.join([one] * len(rows))}"
    return body, [value for row in zip(*by_column, strict=True) for value in row]


@lru_cache(maxsize=64)
def _head(model: type[models.Model], vendor: str, count: int) -> str:
    """PostgreSQL gets the rows of a table as one JSON text: a statement that never changes, and one parameter
    instead of thousands, which the driver would have to look for and quote one by one."""
    quote = connection.ops.quote_name
    columns = _columns(model, vendor, count == len(_columns(model, vendor, True)))
    head = (
        f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(quote(column.name) for column in columns)})"
    )
    if vendor != "postgresql":
        return head
    shape = ", ".join(f"{key} {column.type}" for key, column in zip(KEYS, columns, strict=False))
    return f"{head} SELECT * FROM json_to_recordset(%s::json) AS t ({shape})"  # noqa: S608 - names of ours


def _mark_stored(rows: Sequence[models.Model]) -> None:
    alias = connection.alias
    for row in rows:
        state = row._state
        state.adding, state.db = False, alias


@lru_cache(maxsize=64)
def _columns(model: type[models.Model], vendor: str, with_pk: bool) -> list[_Column]:
    """Every stored field, the primary key only where the rows carry theirs."""
    return [
        _Column(
            field.attname,
            str(field.column),
            re.sub(r"\(.*?\)", "", str(field.db_type(connection))),
            _conversion(field, vendor),
            _conversion(field, vendor, inside_json=True),
        )
        for field in model._meta.concrete_fields
        if (with_pk or not field.primary_key) and not field.generated
    ]


def _conversion(
    field: models.Field[Any, Any], vendor: str, *, inside_json: bool = False
) -> Callable[[Any], Any] | None:
    target = field
    while isinstance(target, models.ForeignKey):
        target = target.target_field
    own = type(field).get_prep_value
    plain = isinstance(target, _PLAIN) and not isinstance(target, JSONField)
    if vendor == "postgresql":
        plain |= isinstance(target, models.DateTimeField | models.DateField | models.DecimalField)
        plain |= (
            inside_json
            and isinstance(target, JSONField)
            and type(field).get_db_prep_save is JSONField.get_db_prep_save
        )
    else:
        plain &= not isinstance(target, models.UUIDField)
    if plain and own.__module__.startswith("django."):
        return None

    def convert(value: Any) -> Any:
        return field.get_db_prep_save(value, connection)

    return convert


def insert_columns(
    model: type[models.Model], size: int, columns: dict[str, Any], *, leave_known: bool = False
) -> None:
    """Insert `size` rows given by column: a list has one value per row, anything else is the same in all of them.
    `leave_known`: rows that a unique key knows already are passed by.

    For tens of thousands of plain rows whose keys nobody asks for. Fields not named take their default, which
    must not be a different one per row. Inside the caller's transaction.
    """
    if not size:
        return
    known = {column.attribute: column for column in _columns(model, connection.vendor, False)}
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
    tail = " ON CONFLICT DO NOTHING" if leave_known else ""
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
                f"{head} SELECT {taken} FROM unnest({arrays}) AS r ({labels}){tail}",  # noqa: S608 - names of ours
                [*parameters, *(pg_array(values[name]) for name in lists)],
            )
            return
        marks = ", ".join("%s" for _ in names)
        filled = [values[name] if name in lists else repeat(values[name], size) for name in names]
        rows: list[Sequence[Any]] = list(zip(*filled, strict=False))
        cursor.executemany(f"{head} VALUES ({marks}){tail}", rows)


def _stored(column: _Column, given: Any) -> Any:
    if column.convert is None:
        return given
    return [column.convert(value) for value in given] if isinstance(given, list) else column.convert(given)
