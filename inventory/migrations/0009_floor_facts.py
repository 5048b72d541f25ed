"""Bins learn their warehouse, their stock gets its first record, and the usual reasons are there to choose."""

from __future__ import annotations

from typing import Any

from django.db import migrations
from django.db.models import F, OuterRef, Subquery

REASONS = (
    ("count", "Counted", "both", False),
    ("damaged", "Damaged", "out", False),
    ("expired", "Expired", "out", False),
    ("found", "Found", "in", False),
    ("lost", "Lost", "out", False),
    ("theft", "Theft", "out", True),
    ("sample", "Sample or gift", "out", False),
    ("correction", "Correction of a mistake", "both", True),
    ("opening balance", "Opening balance", "in", False),
)


def fill(apps: Any, editor: Any) -> None:
    stock = apps.get_model("inventory", "BinStock")
    bins = apps.get_model("inventory", "Bin").objects.filter(pk=OuterRef("bin_id")).values("warehouse_id")
    stock.objects.update(warehouse_id=Subquery(bins[:1]))
    moved = apps.get_model("inventory", "BinMovement")
    rows = stock.objects.filter(quantity__gt=0).annotate(place=F("bin__warehouse_id")).order_by("pk")
    moved.objects.bulk_create(
        [
            moved(
                warehouse_id=row.place, bin_id=row.bin_id, sku_id=row.sku_id, lot_id=row.lot_id, quantity=row.quantity,
                reason="opening balance", actor="system",
            )
            for row in rows.iterator(chunk_size=2000)
        ],
        batch_size=1000,
    )  # fmt: skip
    reasons = apps.get_model("inventory", "AdjustmentReason")
    for position, (code, label, direction, note) in enumerate(REASONS, 1):
        reasons.objects.get_or_create(
            code=code,
            defaults={
                "label": label,
                "direction": direction,
                "needs_note": note,
                "position": position * 10,
            },
        )


class Migration(migrations.Migration):
    dependencies = [("inventory", "0008_floor_work")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop, elidable=False)]
