from django.db import migrations

import oms.core.fields


def forget_answers(apps, schema_editor):
    """Stored answers live for two days; none can be read across the change of their form."""
    apps.get_model("core", "IdempotencyRecord").objects.all().delete()


class Migration(migrations.Migration):
    atomic = False  # PostgreSQL: rows removed and the column changed are two transactions

    dependencies = [("core", "0003_list_settings")]

    operations = [
        migrations.RunPython(forget_answers, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="idempotencyrecord",
            name="body",
            field=oms.core.fields.EncryptedJSONField(
                blank=True, help_text="may hold buyers' data, or a new secret", null=True
            ),
        ),
        migrations.RunPython(migrations.RunPython.noop, forget_answers),
    ]
