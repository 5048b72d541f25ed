"""The ledger keeps the indexes that are asked, and no row pays for the others.

Of ten indexes each movement wrote, five said nothing new: single columns that begin a wider index, a warehouse (never
asked for alone), lot and bin (empty in most rows: now only the filled ones), and a second index over the key for
"begins with", which the unique one can answer itself.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations, models
from django.db.models import Q, deletion

from oms.core.indexes import without_index

MOVEMENT = "inventory_stockmovement"


def one_key(apps: Any, editor: Any) -> None:
    """The unique index of the key in letter by letter order, so that it finds beginnings too. SQLite's does."""
    if editor.connection.vendor == "postgresql":
        editor.execute(f"CREATE UNIQUE INDEX {MOVEMENT}_key_once ON {MOVEMENT} (key varchar_pattern_ops)")
        editor.execute(f"ALTER TABLE {MOVEMENT} DROP CONSTRAINT IF EXISTS {MOVEMENT}_key_key")
        editor.execute(f"DROP INDEX IF EXISTS {MOVEMENT}_key_ac92c64f_like")


def two_keys(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "postgresql":
        editor.execute(f"ALTER TABLE {MOVEMENT} ADD CONSTRAINT {MOVEMENT}_key_key UNIQUE (key)")
        editor.execute(f"CREATE INDEX {MOVEMENT}_key_ac92c64f_like ON {MOVEMENT} (key varchar_pattern_ops)")
        editor.execute(f"DROP INDEX IF EXISTS {MOVEMENT}_key_once")


def link(to: str, related: str, **options: Any) -> models.ForeignKey[Any, Any]:
    return models.ForeignKey(
        on_delete=deletion.PROTECT, related_name=related, to=to, db_index=False, **options
    )


class Migration(migrations.Migration):
    dependencies = [("inventory", "0017_evidence")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField("stockmovement", "sku", link("inventory.sku", "movements")),
                migrations.AlterField("stockmovement", "warehouse", link("inventory.warehouse", "movements")),
                migrations.AlterField(
                    "stockmovement", "lot", link("inventory.lot", "movements", null=True, blank=True)
                ),
                migrations.AlterField(
                    "stockmovement", "bin", link("inventory.bin", "+", null=True, blank=True)
                ),
                migrations.AlterField("stocklevel", "sku", link("inventory.sku", "levels")),
                migrations.AlterField(
                    "reservation", "warehouse", link("inventory.warehouse", "reservations")
                ),
            ],
            database_operations=[
                without_index("inventory_stockmovement_sku_id_82ae7672", MOVEMENT, "sku_id"),
                without_index("inventory_stockmovement_warehouse_id_401c7fc4", MOVEMENT, "warehouse_id"),
                without_index("inventory_stockmovement_lot_id_88e0d757", MOVEMENT, "lot_id"),
                without_index("inventory_stockmovement_bin_id_4fcd4715", MOVEMENT, "bin_id"),
                without_index("inventory_stocklevel_sku_id_67ff3442", "inventory_stocklevel", "sku_id"),
                without_index(
                    "inventory_reservation_warehouse_id_804de7c4", "inventory_reservation", "warehouse_id"
                ),
            ],
        ),
        migrations.AddIndex(
            "stockmovement",
            models.Index(fields=["lot"], condition=Q(lot__isnull=False), name="movement_lot_idx"),
        ),
        migrations.AddIndex(
            "stockmovement",
            models.Index(fields=["bin"], condition=Q(bin__isnull=False), name="movement_bin_idx"),
        ),
        migrations.RunPython(one_key, two_keys),
    ]
