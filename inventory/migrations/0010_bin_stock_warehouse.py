"""Every row of bin stock names its warehouse."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("inventory", "0009_floor_facts")]

    operations = [
        migrations.AlterField(
            model_name="binstock",
            name="warehouse",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="bin_stock",
                to="inventory.warehouse",
            ),
        ),
    ]
