"""Append-only tables: the database itself refuses UPDATE and DELETE."""

from __future__ import annotations

from typing import Any

from django.db import migrations

_POSTGRES = """
CREATE OR REPLACE FUNCTION lading_append_only() RETURNS trigger AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: write a reversing row instead', TG_TABLE_NAME;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION lading_append_only();
"""
_SQLITE = (
    "CREATE TRIGGER {table}_no_{verb} BEFORE {VERB} ON {table} BEGIN "
    "SELECT RAISE(ABORT, '{table} is append-only: write a reversing row instead'); END"
)


def append_only(table: str) -> migrations.RunPython:
    """A reversible migration operation that makes `table` append-only on PostgreSQL and SQLite."""

    def forwards(apps: Any, editor: Any) -> None:
        if editor.connection.vendor == "postgresql":
            editor.execute(_POSTGRES.format(table=table), params=None)  # the text holds a bare %
        else:
            for verb in ("update", "delete"):
                editor.execute(_SQLITE.format(table=table, verb=verb, VERB=verb.upper()))

    def backwards(apps: Any, editor: Any) -> None:
        if editor.connection.vendor == "postgresql":
            editor.execute(f"DROP TRIGGER IF EXISTS {table}_append_only ON {table}")
        else:
            for verb in ("update", "delete"):
                editor.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}")

    return migrations.RunPython(forwards, backwards, elidable=False)
