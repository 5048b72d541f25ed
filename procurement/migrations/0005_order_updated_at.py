from django.db import migrations, models
from django.utils import timezone

from oms.core.triggers import touched


class Migration(migrations.Migration):
    dependencies = [("procurement", "0004_agreed_date")]

    operations = [
        migrations.AddField(
            "purchaseorder",
            "updated_at",
            models.DateTimeField(
                default=timezone.now, editable=False, help_text="last change; the database keeps it"
            ),
        ),
        migrations.AddIndex("purchaseorder", models.Index(fields=["updated_at", "id"], name="po_updated_idx")),
        touched("procurement_purchaseorder"),
    ]
