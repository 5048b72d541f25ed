"""News from below that fulfillment acts on."""

from __future__ import annotations

from django.db.models import QuerySet

from fulfillment import shipments
from fulfillment.models import RoutingQueue, ThreePLAccount, ThreePLCall
from inventory.models import StockDifference
from oms.core.doorbell import ring
from oms.core.models import OutboxEvent
from oms.core.outbox import subscribe
from oms.orders.models import Order


@subscribe("order.route")
def queue_routing(events: list[OutboxEvent]) -> None:
    """Write down which orders wait for routing and wake the router once.

    An order that is being routed at this moment is due again: the router may have read it before it changed.
    """
    wanted = {int(event.key) for event in events}
    _wait_for_routing(Order.objects.filter(pk__in=wanted))


@subscribe("channel.warehouses")
def route_by_the_new_map(events: list[OutboxEvent]) -> None:
    """Other warehouses serve the channel: what is not routed yet is routed by them, the rest keeps its place."""
    changed = {int(event.key) for event in events if event.data.get("fulfils")}
    _wait_for_routing(Order.objects.filter(channel__in=changed, state=Order.State.OPEN, holds_open=0))


def _wait_for_routing(orders: QuerySet[Order]) -> None:
    ids = sorted(orders.values_list("pk", flat=True))
    if not ids:
        return
    RoutingQueue.objects.bulk_create(
        [RoutingQueue(order_id=pk) for pk in ids], batch_size=500,
        update_conflicts=True, update_fields=["next_attempt_at"], unique_fields=["order"],
    )  # fmt: skip
    ring("fulfillment.tasks.route_waiting")


@subscribe("order.changed", "order.cancelled")
def trim_shipments(events: list[OutboxEvent]) -> None:
    """Reservations of these orders may have shrunk: their open shipments follow. Most have not, so look first."""
    for order_id in sorted(shipments.to_trim({int(event.key) for event in events})):
        ring("fulfillment.tasks.trim_shipments", str(order_id))


@subscribe("difference.disputed")
def ask_for_recounts(events: list[OutboxEvent]) -> None:
    """Ask the 3PL of a disputed figure to count again; one without an API gets the dispute file from a person."""
    ids = {int(event.key) for event in events}
    for row in StockDifference.objects.filter(pk__in=ids).order_by("pk"):
        account = ThreePLAccount.objects.filter(
            warehouse=row.warehouse_id, kind=ThreePLAccount.Kind.API
        ).first()
        if account is None or row.disputed_at is None:
            continue
        ThreePLCall.objects.get_or_create(
            key=f"recount:{row.pk}:{row.disputed_at:%Y%m%d%H%M%S}",
            defaults={
                "account": account,
                "kind": ThreePLCall.Kind.RECOUNT,
                "payload": {"difference": row.pk},
            },
        )
        ring("fulfillment.threepl.tasks.drain_calls", str(account.pk))
