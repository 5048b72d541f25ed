"""The queue at a million orders: tags, unknown SKUs and deadlines are found by an index of their own; three single
columns that begin a wider index give theirs up, for each order pays for all of them.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations, models
from django.db.models import Q, deletion

from oms.core.indexes import without_index


def by_tag(apps: Any, editor: Any) -> None:
    """Most orders have no tag and cost nothing here."""
    if editor.connection.vendor == "postgresql":
        editor.execute(
            "CREATE INDEX order_tags_idx ON orders_order USING gin (tags jsonb_path_ops) WHERE tags <> '[]'::jsonb"
        )


def no_tag(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "postgresql":
        editor.execute("DROP INDEX IF EXISTS order_tags_idx")


class Migration(migrations.Migration):
    dependencies = [("orders", "0008_address_as_told")]

    operations = [
        migrations.AddIndex("order", models.Index(fields=["ship_by", "id"], name="order_ship_by_idx")),
        migrations.AddIndex(
            "order",
            models.Index(
                fields=["-placed_at", "-id"],
                condition=Q(unmapped_lines__gt=0) & Q(state__in=["pending", "open", "routed", "part_shipped"]),
                name="order_unmapped_idx",
            ),
        ),
        migrations.RunPython(by_tag, no_tag),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    "order",
                    "channel",
                    models.ForeignKey(
                        on_delete=deletion.PROTECT, related_name="orders", to="orders.saleschannel", db_index=False
                    ),
                ),
                migrations.AlterField(
                    "orderline",
                    "order",
                    models.ForeignKey(
                        on_delete=deletion.CASCADE, related_name="lines", to="orders.order", db_index=False
                    ),
                ),
                migrations.AlterField(
                    "orderevent",
                    "order",
                    models.ForeignKey(
                        on_delete=deletion.CASCADE, related_name="events", to="orders.order", db_index=False
                    ),
                ),
            ],
            database_operations=[
                without_index("orders_order_channel_id_a76729a3", "orders_order", "channel_id"),
                without_index("orders_orderline_order_id_17f8f3ef", "orders_orderline", "order_id"),
                without_index("orders_orderevent_order_id_b26297f3", "orders_orderevent", "order_id"),
            ],
        ),
    ]
