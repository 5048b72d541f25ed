from django.db import migrations, models
from django.utils import timezone

from oms.core.triggers import touched


class Migration(migrations.Migration):
    dependencies = [("returns", "0002_returned_serials")]

    operations = [
        migrations.AddField(
            "rma",
            "updated_at",
            models.DateTimeField(
                default=timezone.now, editable=False, help_text="last change; the database keeps it"
            ),
        ),
        migrations.AddIndex("rma", models.Index(fields=["updated_at", "id"], name="rma_updated_idx")),
        touched("returns_rma"),
    ]
