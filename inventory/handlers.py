"""News that the stock floor itself acts on."""

from __future__ import annotations

from inventory import counts
from oms.core.models import OutboxEvent
from oms.core.outbox import subscribe


@subscribe("adjustment.decided")
def close_decided_counts(events: list[OutboxEvent]) -> None:
    """A second person decided about the difference of a count."""
    counts.follow_decisions({int(event.key) for event in events})
