"""The help text of a carrier account names the connectors that there are."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fulfillment", "0009_shipment_updated_at")]

    operations = [
        migrations.AlterField(
            model_name="carrieraccount",
            name="connector",
            field=models.CharField(help_text="table_rate: your own price list", max_length=30),
        ),
    ]
