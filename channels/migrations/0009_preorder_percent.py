from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("channels", "0008_oversell_suspects"),
    ]

    operations = [
        migrations.AddField(
            model_name="listing",
            name="preorder_percent",
            field=models.PositiveSmallIntegerField(
                blank=True,
                help_text="sells this share of what is on order instead of stock; empty = stock",
                null=True,
            ),
        ),
        migrations.AddConstraint(
            model_name="listing",
            constraint=models.CheckConstraint(
                condition=models.Q(("preorder_percent__isnull", True), ("preorder_percent__range", (1, 100)), _connector="OR"),
                name="listing_preorder_range",
            ),
        ),
        migrations.AddIndex(
            model_name="listing",
            index=models.Index(
                condition=models.Q(("preorder_percent__isnull", False)), fields=["sku"], name="listing_preorder_idx"
            ),
        ),
    ]
