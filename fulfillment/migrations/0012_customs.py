"""Terms per destination, and what was declared for a shipment."""

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
import oms.core.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0011_voids_are_finished"),
    ]

    operations = [
        migrations.CreateModel(
            name="CustomsTerms",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "destination",
                    models.CharField(
                        blank=True,
                        help_text="ISO 3166 alpha-2, EU, or empty: everywhere else",
                        max_length=2,
                        unique=True,
                    ),
                ),
                (
                    "incoterm",
                    models.CharField(
                        choices=[
                            ("DAP", "DAP: the buyer pays duty and tax"),
                            ("DDP", "DDP: we pay duty and tax"),
                        ],
                        default="DAP",
                        max_length=3,
                    ),
                ),
                (
                    "eori",
                    models.CharField(blank=True, help_text="of the exporter or importer", max_length=17),
                ),
                (
                    "ioss",
                    models.CharField(
                        blank=True, help_text="import one-stop shop, EU, up to 150 EUR", max_length=12
                    ),
                ),
                (
                    "tax_id",
                    models.CharField(
                        blank=True, help_text="VAT, GST, VOEC … registered there", max_length=30
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "customs terms",
                "ordering": ["destination"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("incoterm__in", ["DAP", "DDP"])), name="customs_terms_known"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="CustomsDeclaration",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "incoterm",
                    models.CharField(
                        choices=[
                            ("DAP", "DAP: the buyer pays duty and tax"),
                            ("DDP", "DDP: we pay duty and tax"),
                        ],
                        max_length=3,
                    ),
                ),
                (
                    "currency",
                    oms.core.fields.CurrencyField(
                        max_length=3,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[A-Z]{3}$", "Use a three-letter ISO 4217 code such as USD."
                            )
                        ],
                    ),
                ),
                (
                    "value",
                    oms.core.fields.MoneyAmountField(
                        decimal_places=4, help_text="of the goods, sum of the items", max_digits=14
                    ),
                ),
                ("numbers", models.JSONField(default=dict, help_text="eori, ioss, tax_id, where they apply")),
                (
                    "items",
                    models.JSONField(
                        help_text="parcel, sku, description, quantity, unit_value, weight_g, hs_code, origin_country"
                    ),
                ),
                ("made_by", models.CharField(max_length=120)),
                ("made_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "shipment",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="declaration",
                        to="fulfillment.shipment",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("value__gt", 0)), name="declaration_value_positive"
                    )
                ],
            },
        ),
    ]
