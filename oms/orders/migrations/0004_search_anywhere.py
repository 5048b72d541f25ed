"""Three letters and more are found anywhere in names and numbers without reading the table (PostgreSQL).

The index holds upper case because that is how Django asks with `icontains`. Where the extension may not be
created, search still works, only slower; SQLite scans anyway.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations

INDEXES = {"order_name_trgm_idx": "ship_name", "order_extnum_trgm_idx": "external_number"}


def forwards(apps: Any, editor: Any) -> None:
    if editor.connection.vendor != "postgresql":
        return
    with editor.connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'), "
            "EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'), "
            "has_database_privilege(current_database(), 'CREATE')"
        )
        available, installed, may_create = cursor.fetchone()
        if not installed and not (available and may_create):
            return
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        for name, column in INDEXES.items():
            cursor.execute(
                f"CREATE INDEX IF NOT EXISTS {name} ON orders_order USING gin (UPPER({column}::text) gin_trgm_ops)"
            )


def backwards(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "postgresql":
        for name in INDEXES:
            editor.execute(f"DROP INDEX IF EXISTS {name}")


class Migration(migrations.Migration):
    dependencies = [("orders", "0003_cancelled_here")]

    operations = [migrations.RunPython(forwards, backwards)]
