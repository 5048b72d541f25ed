from django.db import migrations, models
from django.utils import timezone

from oms.core.triggers import touched


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0008_draft_base")]

    operations = [
        migrations.AddField(
            "shipment",
            "updated_at",
            models.DateTimeField(
                default=timezone.now, editable=False, help_text="last change; the database keeps it"
            ),
        ),
        migrations.AddIndex("shipment", models.Index(fields=["updated_at", "id"], name="shipment_updated_idx")),
        touched("fulfillment_shipment"),
    ]
