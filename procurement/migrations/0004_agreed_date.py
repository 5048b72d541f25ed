from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("procurement", "0003_reorder_leaves_the_inbox"),
    ]

    operations = [
        migrations.AddField(
            model_name="purchaseorderline",
            name="agreed_on",
            field=models.DateField(
                blank=True,
                help_text="date that stood when it was first moved after sending; the supplier is judged by it",
                null=True,
            ),
        ),
    ]
