"""The few SKUs with rules of their own are found among many without reading the many (stock files ask per chunk)."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("inventory", "0019_serials_everywhere")]

    operations = [
        migrations.AddIndex(
            "sku",
            models.Index(
                fields=["id"],
                name="sku_ruled_idx",
                condition=Q(merged_into__isnull=False) | Q(lot_tracked=True) | Q(serial_tracked=True) | ~Q(valuation=""),
            ),
        )
    ]
