"""News from every floor that other programs may want to hear of."""

from __future__ import annotations

from oms.control.webhooks import events
from oms.core.models import OutboxEvent
from oms.core.outbox import subscribe


@subscribe(*events.SOURCES)
def tell_other_programs(news: list[OutboxEvent]) -> None:
    events.take(news)
