"""Customs data of a SKU. SQLite builds the table anew for it, so the triggers of its search text step aside meanwhile."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.db import migrations, models

import oms.core.fields

search = import_module("inventory.migrations.0016_sku_search")


def aside(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "sqlite":
        search.forget(apps, editor)


def back(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "sqlite":
        search.follow(apps, editor)


class Migration(migrations.Migration):
    dependencies = [("inventory", "0021_sku_codes_are_visible")]

    operations = [
        migrations.RunPython(aside, back),
        migrations.AddField(
            "sku",
            "customs_description",
            models.CharField(
                blank=True, max_length=120, help_text="what it is, as customs reads it; empty: its title"
            ),
        ),
        migrations.AddField(
            "sku",
            "customs_value",
            oms.core.fields.MoneyAmountField(
                blank=True,
                null=True,
                decimal_places=4,
                max_digits=14,
                help_text="value of a unit that was given free of charge, or that came in a kit; empty: the list price",
            ),
        ),
        migrations.AlterField(
            "sku",
            "origin_country",
            models.CharField(blank=True, help_text="where it was made, ISO 3166 alpha-2", max_length=2),
        ),
        migrations.AlterField(
            "sku",
            "price",
            oms.core.fields.MoneyAmountField(
                decimal_places=4,
                default=0,
                max_digits=14,
                help_text="list price, for display and as customs value of what was given free of charge",
            ),
        ),
        migrations.AddConstraint(
            "sku",
            models.CheckConstraint(
                condition=models.Q(
                    ("customs_value__isnull", True), ("customs_value__gt", 0), _connector="OR"
                ),
                name="sku_customs_value_positive",
            ),
        ),
        migrations.RunPython(back, aside),
    ]
