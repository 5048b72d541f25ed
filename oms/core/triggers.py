"""What the database itself sees to: append-only tables, and the moment of a row's last change."""

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


_TOUCH_POSTGRES = """
CREATE OR REPLACE FUNCTION lading_touch() RETURNS trigger AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER {table}_touch BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION lading_touch();
"""
#: As Django writes a time there: compared as text, so with six digits of a second. SQLite knows three; the others make
#: it the end of the millisecond, so that no change seems older than a moment that was read before it. A trigger's own
#: update wakes no trigger.
_TOUCH_SQLITE = (
    "CREATE TRIGGER {table}_touch AFTER UPDATE ON {table} BEGIN "
    "UPDATE {table} SET updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now') || '999' WHERE id = NEW.id; END"
)


def touched(table: str) -> migrations.RunPython:
    """A reversible migration operation: whoever changes a row of `table`, its `updated_at` becomes that moment.

    A later migration that makes SQLite build the table anew must do it again.
    """

    def forwards(apps: Any, editor: Any) -> None:
        text = _TOUCH_POSTGRES if editor.connection.vendor == "postgresql" else _TOUCH_SQLITE
        editor.execute(text.format(table=table), params=None)

    def backwards(apps: Any, editor: Any) -> None:
        on = f" ON {table}" if editor.connection.vendor == "postgresql" else ""
        editor.execute(f"DROP TRIGGER IF EXISTS {table}_touch{on}")

    return migrations.RunPython(forwards, backwards, elidable=False)
