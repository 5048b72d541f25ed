"""Beside the tallies of each place stands their sum, which a report without filters reads instead of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from django.db import migrations

from oms.core.figures import Tally

EVERYWHERE = "(all)"


def add_totals(apps: Any, editor: Any) -> None:
    table = apps.get_model("control", "KpiDay")

    def totals() -> Iterator[Any]:
        rows = table.objects.exclude(source="stock").exclude(channel=EVERYWHERE)
        ordered = rows.order_by("source", "grain", "day").values_list("source", "grain", "day", "data")
        for (source, grain, day), group in groupby(ordered.iterator(chunk_size=500), lambda row: row[:3]):
            total = Tally()
            for *_, data in group:
                total.merge(Tally.of_json(data))
            yield table(
                source=source,
                grain=grain,
                day=day,
                channel=EVERYWHERE,
                warehouse=EVERYWHERE,
                data=total.as_json(),
            )

    table.objects.bulk_create(list(totals()), batch_size=500)


def remove_totals(apps: Any, editor: Any) -> None:
    apps.get_model("control", "KpiDay").objects.filter(channel=EVERYWHERE).delete()


class Migration(migrations.Migration):
    dependencies = [("control", "0006_files_wait")]

    operations = [migrations.RunPython(add_totals, remove_totals)]
