"""Master data in files: one row per object, the same resource for the desk and for the API."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import Any

import tablib
from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from import_export import resources, widgets

from oms.core import audit
from oms.core.actor import Actor, actor_of
from oms.core.csvsafe import safe_cell, undo_cell
from oms.core.errors import UserError

#: rows that one request writes
MOST_ROWS = 2_000
_YES_OR_NO = {"1", "0", "true", "false", "yes", "no", "t", "f", "y", "n", "1.0", "0.0"}


def _how(widget: widgets.Widget, value: Any) -> str:
    """What is wrong with a cell, and how it is written right."""
    if isinstance(widget, widgets.ForeignKeyWidget):
        return f"there is no {widget.model._meta.verbose_name} '{value}'; make it first, or name a known {widget.field}"
    for kind, how in (
        (widgets.IntegerWidget, "is not a whole number; write it like 12"),
        (widgets.NumberWidget, "is not a number; write it like 12.50"),
        (widgets.DateTimeWidget, "is not a time; write it like 2026-11-23 08:00:00"),
        (widgets.DateWidget, "is not a day; write it like 2026-11-23"),
        (widgets.BooleanWidget, "is neither yes nor no; write 1 or 0"),
    ):
        if isinstance(widget, kind):
            return f"'{value}' {how}"
    return f"'{value}' cannot be read"


class SafeResource(resources.ModelResource):
    """Export that no spreadsheet executes, import that takes it back and names column and fix of a wrong cell."""

    def export_field(self, field: Any, instance: Any, **kwargs: Any) -> Any:
        return safe_cell(super().export_field(field, instance, **kwargs))

    def get_instance(self, instance_loader: Any, row: Any) -> Any:
        """The row to change, when the columns that name it can be read."""
        for name in self.get_import_id_fields():
            field = self.fields[name]
            try:
                field.clean(row)
            except (ValueError, ArithmeticError, LookupError, ObjectDoesNotExist) as error:
                how = _how(field.widget, row.get(field.column_name))
                raise ValueError(f"column '{field.column_name}': {how}.") from error
        return super().get_instance(instance_loader, row)

    def import_field(self, field: Any, instance: Any, row: Any, is_m2m: bool = False, **kwargs: Any) -> None:
        if field.column_name not in row:
            return  # what a file does not have stays as it is
        value = row.get(field.column_name)
        if isinstance(value, str):
            row[field.column_name] = value = undo_cell(value)
        try:
            if isinstance(field.widget, widgets.BooleanWidget) and str(value).lower() not in _YES_OR_NO:
                raise ValueError
            super().import_field(field, instance, row, is_m2m, **kwargs)
        except (ValueError, ArithmeticError, LookupError, ObjectDoesNotExist) as error:
            raise ValueError(f"column '{field.column_name}': {_how(field.widget, value)}.") from error

    def after_import(self, dataset: Any, result: Any, **kwargs: Any) -> None:
        """One line in the audit trail per file."""
        user = kwargs.get("user")
        actor = kwargs.get("actor") or (actor_of(user) if user is not None else None)
        if not kwargs.get("dry_run") and actor is not None:
            name = self._meta.model._meta.label_lower
            counts = {key: count for key, count in result.totals.items() if count}
            via = "admin" if user is not None else "api"
            audit.record(actor, "admin.imported", None, after={"model": name, **counts}, via=via)


@dataclass(frozen=True)
class Wrong:
    """A row that cannot be taken; the header is row 1. `column` is empty where the whole row is to blame."""

    row: int
    column: str
    message: str


@dataclass
class Loaded:
    """What a file does, or did."""

    rows: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    wrong: list[Wrong] = field(default_factory=list)


def load(kind: type[SafeResource], text: str, *, actor: Actor, dry_run: bool) -> Loaded:
    """Take a CSV text with its header whole, or nothing of it when a row is wrong. `dry_run` writes nothing.

    Raises `UserError` for a text that is no CSV, an unknown or missing column, and for more than `MOST_ROWS` rows.
    """
    headers, rows, lines = _read(text)
    resource = kind()
    known = [one.column_name for one in resource.get_import_fields()]
    if unknown := [header for header in headers if header not in known]:
        raise UserError(
            f"content: unknown column '{unknown[0][:60]}'; use {', '.join(known)}.", field="content"
        )
    needed = [resource.fields[name].column_name for name in resource.get_import_id_fields()]
    if absent := [name for name in needed if name not in headers and name != "id"]:
        raise UserError(f"content: the column '{absent[0]}' is missing.", field="content")
    if len(headers) != len(set(headers)):
        raise UserError("content: a column stands there twice.", field="content")
    if not 1 <= len(rows) <= MOST_ROWS:
        raise UserError(
            f"content: give 1 to {MOST_ROWS:,} rows below the header; split the file.", field="content"
        )
    with transaction.atomic():
        result = resource.import_data(
            tablib.Dataset(*rows, headers=headers),
            dry_run=dry_run,
            raise_errors=False,
            use_transactions=True,
            rollback_on_validation_errors=True,
            actor=actor,
        )
    totals = result.totals
    return Loaded(
        rows=len(rows),
        new=totals["new"],
        changed=totals["update"],
        unchanged=totals["skip"],
        wrong=_wrong(result, lines),
    )


def _read(text: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows and the line at which each row ends; empty lines are passed over."""
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=""))
    headers: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for cells in reader:
            if not any(cells):
                continue
            if not headers:
                headers = cells
                continue
            if len(cells) != len(headers):
                raise UserError(
                    f"content: line {reader.line_num} has {len(cells)} cells, the header has {len(headers)}.",
                    field="content",
                )
            rows.append(cells)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"content: it is no CSV at line {reader.line_num}.", field="content") from error
    return headers, rows, lines


def _wrong(result: Any, lines: list[int]) -> list[Wrong]:
    """Each error as the resource says it: those of a cell name their column."""
    found = []
    for number, errors in result.row_errors():
        found += [_told(lines[number - 1], "", str(error.error)) for error in errors]
    for row in result.invalid_rows:
        for name, messages in getattr(row.error, "message_dict", {"": row.error.messages}).items():
            column = "" if name == "__all__" else name
            found += [_told(lines[row.number - 1], column, message) for message in messages]
    return sorted(found, key=lambda one: (one.row, one.column))


def _told(line: int, column: str, text: str) -> Wrong:
    if text.startswith("column '"):
        column, _, text = text.removeprefix("column '").partition("': ")
    return Wrong(line, column, text)
