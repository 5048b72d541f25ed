"""Indexes that go without their field: for migrations of tables whose triggers an ALTER on SQLite would lose."""

from __future__ import annotations

from django.db import migrations


def without_index(name: str, table: str, column: str) -> migrations.RunSQL:
    """A reversible migration operation that drops the index Django gave a foreign key.

    An AlterField does the same on PostgreSQL, but makes SQLite build the table anew, without its triggers; its state
    belongs into `state_operations` beside this.
    """
    return migrations.RunSQL(
        f"DROP INDEX IF EXISTS {name}", f"CREATE INDEX IF NOT EXISTS {name} ON {table} ({column})"
    )
