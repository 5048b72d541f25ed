"""News from the floors below: each handler writes durable rows and rings for the work; nothing is called from here."""

from __future__ import annotations

import datetime as dt

from channels import blackbox, effects, inbox, presale
from channels import engines as engines  # registers what the dispatcher runs
from channels.models import Listing
from channels.pushing import mark_stale, push_again
from inventory.selectors import kit_parts
from oms.core.doorbell import ring
from oms.core.models import OutboxEvent
from oms.core.outbox import subscribe
from oms.orders.models import OrderLine
from procurement.models import PurchaseOrderLine


@subscribe("stock.changed", urgent=True)
def stock_changed(events: list[OutboxEvent]) -> None:
    """Every listing of the SKUs becomes stale, from the commit time of its oldest change on."""
    changes: dict[int, dt.datetime] = {}
    for event in events:
        told = event.data.get("at")
        at = dt.datetime.fromisoformat(told) if told else event.created_at
        sku_id = int(event.key)
        changes[sku_id] = min(changes.get(sku_id, at), at)
    mark_stale(changes)


@subscribe("channel.warehouses")
def warehouses_changed(events: list[OutboxEvent]) -> None:
    """What a channel publishes comes from other warehouses now: its listings are told, and those that share the last
    units with them. A listing that shows its figure already costs no call."""
    changed = {int(event.key): event.created_at for event in reversed(events) if event.data.get("publishes")}
    for channel_id, at in sorted(changed.items()):
        listed = set(
            Listing.objects.filter(account__sales_channel=channel_id, sku__isnull=False).values_list(
                "sku_id", flat=True
            )
        )
        parts = {sku for group in kit_parts(listed).values() for sku, _ in group}
        skus = sorted(listed | parts)
        for start in range(0, len(skus), 500):
            mark_stale(dict.fromkeys(skus[start : start + 500], at))


@subscribe("inbox.received", urgent=True)
def inbox_received(events: list[OutboxEvent]) -> None:
    for account_id in {event.key for event in events}:
        ring("channels.tasks.drain_inbox", account_id)


@subscribe("shipment.shipped")
def shipment_shipped(events: list[OutboxEvent]) -> None:
    for event in events:
        effects.plan_shipment(int(event.key))


@subscribe("refund.planned")
def refund_planned(events: list[OutboxEvent]) -> None:
    for event in events:
        effects.plan_refund(int(event.key))


@subscribe("order.cancel_to_channel")
def order_cancelled_here(events: list[OutboxEvent]) -> None:
    for event in events:
        effects.plan_cancel(
            int(event.key),
            event.data.get("lines", []),
            event.data.get("reason", ""),
            bool(event.data.get("whole")),
            str(event.pk),
        )


@subscribe("order.created")
def order_created(events: list[OutboxEvent]) -> None:
    ids = [int(event.key) for event in events]
    effects.plan_acknowledge(ids)
    if blackbox.suspect(ids):
        ring("channels.tasks.find_oversells")


@subscribe("purchase_order.changed")
def goods_on_order_changed(events: list[OutboxEvent]) -> None:
    """Listings that sell what is on order show another figure."""
    if presale.any_listing():
        bought = PurchaseOrderLine.objects.filter(order__in={int(event.key) for event in events})
        presale.mark(bought.values_list("sku_id", flat=True).distinct())


@subscribe("order.created", "order.changed")
def orders_wait_for_goods(events: list[OutboxEvent]) -> None:
    """What an order waits for is sold: listings that sell what is on order show less, and more when it is given up."""
    if presale.any_listing():
        keys = {int(event.key) for event in events if event.data.get("changed") != ["promise"]}
        lines = OrderLine.objects.filter(order__in=keys, sku__isnull=False)
        presale.mark(lines.values_list("sku_id", flat=True).distinct())


@subscribe("breaker.closed", urgent=True)
def account_answers_again(events: list[OutboxEvent]) -> None:
    """What waited out the pause goes out at once, and the orders that no notification brought are read."""
    keys = [event.key.split(":") for event in events]
    accounts = {int(key[1]) for key in keys if key[0] == "channel" and key[1].isdigit()}
    if not accounts:
        return
    push_again(accounts)
    inbox.read_again(accounts)
    effects.try_again(accounts)
    for account_id in sorted(accounts):
        ring("channels.tasks.pull_account", str(account_id))
        ring("channels.tasks.drain_inbox", str(account_id))
        ring("channels.tasks.drain_effects", str(account_id))


@subscribe("sku.merged")
def sku_merged(events: list[OutboxEvent]) -> None:
    """Listings of a merged SKU show the target's stock from now on."""
    for event in events:
        target = int(event.data["target"])
        if Listing.objects.filter(sku=int(event.key)).update(sku=target):
            mark_stale({target: event.created_at})
