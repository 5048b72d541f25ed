"""A channel that exchanges files has a kind of its own: the admin refused to save one."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orders", "0011_order_updated_at")]

    operations = [
        migrations.AlterField(
            model_name="saleschannel",
            name="kind",
            field=models.CharField(
                choices=[
                    ("shopify", "Shopify"),
                    ("amazon", "Amazon"),
                    ("ebay", "eBay"),
                    ("walmart", "Walmart"),
                    ("tiktok", "TikTok Shop"),
                    ("woocommerce", "WooCommerce"),
                    ("custom", "Custom API"),
                    ("files", "Files of a partner"),
                    ("manual", "Manual and imported"),
                ],
                max_length=12,
            ),
        ),
    ]
