from typing import Any

from django.db import migrations, models


def stamp(apps: Any, schema_editor: Any) -> None:
    """A draft under work changes the newest version that was published before its last change."""
    for draft in apps.get_model("fulfillment", "RoutingDraft").objects.all():
        seen = apps.get_model("fulfillment", "RoutingPolicy").objects.filter(published_at__lte=draft.changed_at)
        draft.base = seen.order_by("-version").values_list("version", flat=True).first() or 0
        draft.save(update_fields=["base"])


class Migration(migrations.Migration):
    dependencies = [
        ("fulfillment", "0007_mcf_hand_off"),
    ]

    operations = [
        migrations.AddField(
            model_name="routingdraft",
            name="base",
            field=models.PositiveIntegerField(
                default=0, help_text="version in force that it changes; 0 = none was"
            ),
        ),
        migrations.RunPython(stamp, migrations.RunPython.noop),
    ]
