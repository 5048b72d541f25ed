"""News from the stock floor that purchasing follows."""

from __future__ import annotations

from oms.core.models import OutboxEvent
from oms.core.outbox import subscribe
from procurement import merges


@subscribe("sku.merged")
def sku_merged(events: list[OutboxEvent]) -> None:
    for event in events:
        merges.follow(int(event.key), int(event.data["target"]))
