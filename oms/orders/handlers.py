"""News from the floors below that orders care about."""

from __future__ import annotations

from collections.abc import Iterable

from inventory.models import TransferLine
from oms.core.actor import task_actor
from oms.core.doorbell import ring
from oms.core.models import OutboxEvent
from oms.core.outbox import subscribe
from oms.orders import allocation, promises
from procurement.models import PurchaseOrderLine


@subscribe("stock.increased")
def wake_waiting_orders(events: list[OutboxEvent]) -> None:
    """Backorders are served by a task; most increases interest nobody, so look before ringing."""
    for sku_id in sorted(allocation.is_waited_for({int(event.key) for event in events})):
        ring("oms.orders.tasks.allocate_waiting", str(sku_id))


@subscribe("reservation.lost")
def settle_lost_reservations(events: list[OutboxEvent]) -> None:
    """A count, damage or an operator's snapshot took stock away that was promised."""
    allocation.settle_lost({int(event.key) for event in events}, actor=task_actor("stock"))


@subscribe("purchase_order.changed")
def redate_waiting_orders(events: list[OutboxEvent]) -> None:
    """Goods come on another day, fewer or not at all: who waits for them gets another date."""
    bought = PurchaseOrderLine.objects.filter(order__in={int(event.key) for event in events})
    _redate(bought.values_list("sku_id", flat=True).distinct())


@subscribe("transfer.changed")
def redate_by_transfers(events: list[OutboxEvent]) -> None:
    """The same of units between two warehouses: they left, came, are late or were lost."""
    moved = TransferLine.objects.filter(transfer__in={int(event.key) for event in events})
    _redate(moved.values_list("sku_id", flat=True).distinct())


def _redate(sku_ids: Iterable[int]) -> None:
    for sku_id in sorted(allocation.is_waited_for(sku_ids)):
        ring("oms.orders.tasks.renew_promises", str(sku_id))


@subscribe("order.created", "order.changed")
def promise_waiting_orders(events: list[OutboxEvent]) -> None:
    """A line came in short, was served or is wanted no more: those behind it move up."""
    keys = {int(event.key) for event in events if event.data.get("changed") != ["promise"]}
    for sku_id in sorted(promises.wanted_skus(keys)) if keys else ():
        ring("oms.orders.tasks.renew_promises", str(sku_id))


@subscribe("sku.merged")
def follow_merge(events: list[OutboxEvent]) -> None:
    """Open lines of a merged SKU wait for the target from now on; what was shipped keeps its old code."""
    for event in events:
        allocation.follow_merge(int(event.key), int(event.data["target"]), actor=task_actor("merge"))
