import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0009_queue_indexes"),
        ("procurement", "0004_agreed_date"),
    ]

    operations = [
        migrations.CreateModel(
            name="Promise",
            fields=[
                (
                    "line",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="promise",
                        serialize=False,
                        to="orders.orderline",
                    ),
                ),
                (
                    "was_on",
                    models.DateField(blank=True, help_text="the day before the last change", null=True),
                ),
                ("changed_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "purchase",
                    models.ForeignKey(
                        blank=True,
                        help_text="its arrival completes the line; empty: nothing on order does",
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="promises",
                        to="procurement.purchaseorder",
                    ),
                ),
                (
                    "was_purchase",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="former_promises",
                        to="procurement.purchaseorder",
                    ),
                ),
            ],
        ),
    ]
