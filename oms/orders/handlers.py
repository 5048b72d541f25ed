"""News from the floors below that orders care about."""

from __future__ import annotations

from oms.core.actor import task_actor
from oms.core.doorbell import ring
from oms.core.models import OutboxEvent
from oms.core.outbox import subscribe
from oms.orders import allocation


@subscribe("stock.increased")
def wake_waiting_orders(events: list[OutboxEvent]) -> None:
    """Backorders are served by a task; most increases interest nobody, so look before ringing."""
    for sku_id in sorted(allocation.is_waited_for({int(event.key) for event in events})):
        ring("oms.orders.tasks.allocate_waiting", str(sku_id))


@subscribe("reservation.lost")
def settle_lost_reservations(events: list[OutboxEvent]) -> None:
    """A count, damage or an operator's snapshot took stock away that was promised."""
    allocation.settle_lost({int(event.key) for event in events}, actor=task_actor("stock"))


@subscribe("sku.merged")
def follow_merge(events: list[OutboxEvent]) -> None:
    """Open lines of a merged SKU wait for the target from now on; what was shipped keeps its old code."""
    for event in events:
        allocation.follow_merge(int(event.key), int(event.data["target"]), actor=task_actor("merge"))
