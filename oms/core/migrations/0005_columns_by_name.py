from django.db import migrations, models

#: the tables as they were when a choice was kept by the column's number; the stock grid had no checkboxes then
PLACES = {
    "inventory:stock": {
        2: "Title", 3: "On hand", 4: "Reserved", 5: "Unavailable", 6: "Available", 7: "Incoming",
    },
    "orders:list": {
        3: "Channel", 4: "Placed", 5: "Ship by", 6: "Customer / To", 7: "Items", 8: "Total", 9: "Warehouse",
    },
    "control:exceptions": {3: "Cause", 4: "Severity", 5: "Since", 6: "Due", 7: "At stake", 8: "Owner"},
    "fulfillment:shipments": {
        2: "Order", 3: "From", 4: "Ship by", 5: "Carrier", 6: "Tracking", 7: "Told channel",
    },
    "procurement:orders": {2: "Supplier", 3: "To", 4: "Expected", 5: "Received"},
    "returns:list": {2: "Order", 3: "To", 4: "Items", 5: "Asked", 6: "Arrived"},
}  # fmt: skip


def named(kept):
    found = {
        screen: [PLACES[screen][one] for one in numbers if one in PLACES[screen]]
        for screen, numbers in kept.items()
        if screen in PLACES
    }
    return {screen: names for screen, names in found.items() if names}


def to_names(apps, schema_editor):
    for user in apps.get_model("core", "User").objects.exclude(hidden_columns={}).iterator():
        user.hidden_columns = named(user.hidden_columns)
        user.save(update_fields=["hidden_columns"])


def to_numbers(apps, schema_editor):
    for user in apps.get_model("core", "User").objects.exclude(hidden_columns={}).iterator():
        user.hidden_columns = {
            screen: [place for place, name in PLACES[screen].items() if name in names]
            for screen, names in user.hidden_columns.items()
            if screen in PLACES
        }
        user.save(update_fields=["hidden_columns"])


class Migration(migrations.Migration):
    dependencies = [("core", "0004_stored_answers_encrypted")]

    operations = [
        migrations.AlterField(
            model_name="user",
            name="hidden_columns",
            field=models.JSONField(
                blank=True, default=dict, help_text="screen: the names of the table columns it leaves out"
            ),
        ),
        migrations.RunPython(to_names, to_numbers),
    ]
