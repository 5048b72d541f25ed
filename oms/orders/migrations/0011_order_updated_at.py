from django.db import migrations, models
from django.utils import timezone

from oms.core.triggers import touched


class Migration(migrations.Migration):
    dependencies = [("orders", "0010_promises")]

    operations = [
        migrations.AddField(
            "order",
            "updated_at",
            models.DateTimeField(
                default=timezone.now, editable=False, help_text="last change; the database keeps it"
            ),
        ),
        migrations.AddIndex("order", models.Index(fields=["updated_at", "id"], name="order_updated_idx")),
        touched("orders_order"),
    ]
