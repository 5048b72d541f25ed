"""SQLite has no NULLS NOT DISTINCT: an index over the expression keeps `hold_open_once` there."""

from __future__ import annotations

from typing import Any

from django.db import migrations


def forwards(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "sqlite":
        editor.execute(
            "CREATE UNIQUE INDEX hold_open_once_expr ON orders_hold (order_id, coalesce(line_id, 0), reason) "
            "WHERE released_at IS NULL"
        )


def backwards(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "sqlite":
        editor.execute("DROP INDEX IF EXISTS hold_open_once_expr")


class Migration(migrations.Migration):
    dependencies = [("orders", "0001_orders_model")]

    operations = [migrations.RunPython(forwards, backwards)]
