from django.db import migrations
from django.utils import timezone


def close(apps, schema_editor):
    """The reorder list is its own inbox: what the planner once put among the exceptions is closed."""
    apps.get_model("core", "ExceptionItem").objects.filter(kind="reorder", closed_at__isnull=True).update(
        closed_at=timezone.now(), closed_by="system", close_reason="it stands on the reorder list"
    )


class Migration(migrations.Migration):
    dependencies = [
        ("core", "0005_columns_by_name"),
        ("procurement", "0002_line_unit"),
    ]

    operations = [migrations.RunPython(close, migrations.RunPython.noop)]
