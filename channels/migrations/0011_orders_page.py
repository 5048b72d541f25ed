from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("channels", "0010_suspects_wait_alone"),
    ]

    operations = [
        migrations.AddField(
            model_name="channelaccount",
            name="orders_page",
            field=models.JSONField(
                blank=True, default=dict, help_text="the page at which an order pull stopped before its end"
            ),
        ),
    ]
