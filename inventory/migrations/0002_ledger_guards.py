"""What only the database can promise: the ledger is append-only, hot rows have room, bins are unique."""

from __future__ import annotations

from typing import Any

from django.db import migrations

from oms.core.triggers import append_only


def room_for_hot_rows(apps: Any, editor: Any) -> None:
    """Half-filled pages let PostgreSQL update a hot stock row in place (heap-only tuples)."""
    if editor.connection.vendor == "postgresql":
        editor.execute("ALTER TABLE inventory_stocklevel SET (fillfactor = 50)")


def usual_room(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "postgresql":
        editor.execute("ALTER TABLE inventory_stocklevel RESET (fillfactor)")


def one_row_without_lot(apps: Any, editor: Any) -> None:
    """SQLite has no NULLS NOT DISTINCT: an index over the expression keeps `bin_stock_once` there."""
    if editor.connection.vendor == "sqlite":
        editor.execute(
            "CREATE UNIQUE INDEX bin_stock_once_expr ON inventory_binstock (bin_id, sku_id, coalesce(lot_id, 0))"
        )


def drop_one_row_without_lot(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "sqlite":
        editor.execute("DROP INDEX IF EXISTS bin_stock_once_expr")


class Migration(migrations.Migration):
    dependencies = [("inventory", "0001_stock_model")]

    operations = [
        append_only("inventory_stockmovement"),
        migrations.RunPython(room_for_hot_rows, usual_room),
        migrations.RunPython(one_row_without_lot, drop_one_row_without_lot),
    ]
