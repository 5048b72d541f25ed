"""The stock grid at a hundred thousand SKUs: an index for its order, for its views, and for letters anywhere.

The trigram indexes (PostgreSQL) hold upper case because that is how Django asks with `icontains`. Where the extension
may not be created, search still works, only slower; SQLite scans anyway.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations, models
from django.db.models import Q

TRIGRAMS = {
    "sku_code_trgm_idx": ("inventory_sku", "code"),
    "sku_title_trgm_idx": ("inventory_sku", "title"),
    "product_title_trgm_idx": ("inventory_product", "title"),
}


def search_anywhere(apps: Any, editor: Any) -> None:
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
        for name, (table, column) in TRIGRAMS.items():
            cursor.execute(
                f"CREATE INDEX IF NOT EXISTS {name} ON {table} USING gin (UPPER({column}::text) gin_trgm_ops)"
            )


def no_search(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "postgresql":
        for name in TRIGRAMS:
            editor.execute(f"DROP INDEX IF EXISTS {name}")


class Migration(migrations.Migration):
    dependencies = [("inventory", "0010_bin_stock_warehouse")]

    operations = [
        migrations.AddIndex("sku", models.Index(fields=["code", "id"], name="sku_list_idx")),
        migrations.AddIndex(
            "stocklevel",
            models.Index(
                fields=["sku"],
                condition=Q(damaged__gt=0) | Q(quarantine__gt=0) | Q(inspection__gt=0),
                name="stock_unfit_idx",
            ),
        ),
        migrations.AddIndex(
            "stocklevel",
            models.Index(fields=["sku"], condition=Q(in_transit__gt=0), name="stock_transit_idx"),
        ),
        migrations.RunPython(search_anywhere, no_search),
    ]
