"""News from the floors below become events: thin, naming the object and where to read it."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from channels.models import ChannelEffect, Listing
from fulfillment.models import Shipment
from inventory.models import Sku
from oms.control.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from oms.control.webhooks.service import TASK
from oms.core.clock import now
from oms.core.doorbell import ring
from oms.core.models import OutboxEvent
from oms.orders.models import Order
from procurement.models import PurchaseOrder, Receipt
from returns.models import Rma


class Told(NamedTuple):
    """What an event says. Events of one `subject` are delivered in order."""

    subject: str
    data: dict[str, Any]


Describe = Callable[[list[OutboxEvent]], dict[int, Told]]


def _by_key(events: Iterable[OutboxEvent]) -> set[int]:
    return {int(event.key) for event in events}


def _orders(events: list[OutboxEvent]) -> dict[int, Told]:
    found = {
        order.pk: order for order in Order.objects.select_related("channel").filter(pk__in=_by_key(events))
    }
    told = {}
    for event in events:
        order = found.get(int(event.key))
        if order is not None:
            more = {name: event.data[name] for name in ("outcome", "warehouses") if name in event.data}
            told[event.pk] = Told(f"order:{order.pk}", {
                "id": order.pk, "number": order.number, "channel": order.channel.code,
                "external_id": order.external_id, "url": f"/api/v1/orders/{order.pk}/", **more,
            })  # fmt: skip
    return told


def _shipments(events: list[OutboxEvent]) -> dict[int, Told]:
    found = {
        one.pk: one
        for one in Shipment.objects.select_related("order__channel", "warehouse")
        .prefetch_related("parcels__purchases")
        .filter(pk__in=_by_key(events))
    }
    told = {}
    for event in events:
        one = found.get(int(event.key))
        if one is not None:
            numbers = [
                label.tracking_number for parcel in one.parcels.all() for label in parcel.purchases.all()
                if label.state == "purchased" and label.tracking_number
            ]  # fmt: skip
            told[event.pk] = Told(f"order:{one.order_id}", {
                "id": one.pk, "number": one.number, "order": one.order_id, "order_number": one.order.number,
                "channel": one.order.channel.code, "warehouse": one.warehouse.code, "tracking_numbers": numbers,
                "url": f"/api/v1/shipments/{one.pk}/",
            })  # fmt: skip
    return told


def _skus(events: list[OutboxEvent]) -> dict[int, Told]:
    """One event per SKU and batch: what matters is the figure now, not each step to it."""
    codes = dict(Sku.objects.filter(pk__in=_by_key(events)).values_list("pk", "code"))
    told, seen = {}, set()
    for event in events:
        pk = int(event.key)
        if pk in codes and pk not in seen:
            seen.add(pk)
            told[event.pk] = Told(
                f"sku:{pk}", {"id": pk, "sku": codes[pk], "url": f"/api/v1/stock/?sku={codes[pk]}"}
            )
    return told


def _returns(events: list[OutboxEvent]) -> dict[int, Told]:
    found = {rma.pk: rma for rma in Rma.objects.select_related("warehouse").filter(pk__in=_by_key(events))}
    return {
        event.pk: Told(f"return:{event.key}", {
            "id": rma.pk, "number": rma.number, "order": rma.order_id, "warehouse": rma.warehouse.code,
            "url": f"/api/v1/returns/{rma.pk}/",
        })
        for event in events if (rma := found.get(int(event.key)))
    }  # fmt: skip


def _receipts(events: list[OutboxEvent]) -> dict[int, Told]:
    rows = Receipt.objects.select_related("order__warehouse", "order__supplier").filter(
        pk__in=_by_key(events)
    )
    found = {row.pk: row for row in rows}
    return {
        event.pk: Told(f"po:{row.order_id}", {
            "id": row.order_id, "number": row.order.number, "receipt": row.pk, "receipt_number": row.number,
            "supplier": row.order.supplier.code, "warehouse": row.order.warehouse.code,
            "url": f"/api/v1/purchase-orders/{row.order_id}/",
        })
        for event in events if (row := found.get(int(event.key)))
    }  # fmt: skip


def _purchases(events: list[OutboxEvent]) -> dict[int, Told]:
    rows = PurchaseOrder.objects.select_related("warehouse", "supplier").filter(pk__in=_by_key(events))
    found = {row.pk: row for row in rows}
    return {
        event.pk: Told(f"po:{row.pk}", {
            "id": row.pk, "number": row.number, "supplier": row.supplier.code, "warehouse": row.warehouse.code,
            "changed": event.data.get("changed", []), "url": f"/api/v1/purchase-orders/{row.pk}/",
        })
        for event in events if (row := found.get(int(event.key)))
    }  # fmt: skip


def _failures(events: list[OutboxEvent]) -> dict[int, Told]:
    told = {}
    for event in events:
        kind, _, key = event.key.partition(":")
        if kind == "listing":
            listing = (
                Listing.objects.select_related("account__sales_channel", "sku").filter(pk=int(key)).first()
            )
            if listing is not None:
                told[event.pk] = Told(f"listing:{listing.pk}", {
                    "id": listing.pk, "what": "quantity", "channel": listing.account.sales_channel.code,
                    "sku": listing.sku.code if listing.sku else None, "external_sku": listing.external_sku,
                    "detail": event.data.get("detail", ""), "url": f"/api/v1/listings/{listing.pk}/",
                })  # fmt: skip
        else:
            effect = (
                ChannelEffect.objects.select_related("account__sales_channel").filter(pk=int(key)).first()
            )
            if effect is not None:
                told[event.pk] = Told(f"order:{effect.order_id}", {
                    "id": effect.pk, "what": effect.kind, "channel": effect.account.sales_channel.code,
                    "order": effect.order_id, "reference": effect.reference, "detail": event.data.get("detail", ""),
                    "url": f"/api/v1/orders/{effect.order_id}/",
                })  # fmt: skip
    return told


#: topic of the outbox → (type of the event, how it is described)
SOURCES: dict[str, tuple[str, Describe]] = {
    "order.created": ("order.created", _orders),
    "order.routed": ("order.routed", _orders),
    "shipment.shipped": ("shipment.shipped", _shipments),
    "stock.changed": ("inventory.changed", _skus),
    "return.inspected": ("return.inspected", _returns),
    "receipt.posted": ("po.received", _receipts),
    "purchase_order.changed": ("po.changed", _purchases),
    "sync.failed": ("sync.failed", _failures),
}


def take(news: list[OutboxEvent]) -> int:
    """Write events and deliveries for what active endpoints want; returns how many deliveries.

    Runs inside the transaction that removes the news, so each becomes one event.
    """
    endpoints = list(WebhookEndpoint.objects.filter(state=WebhookEndpoint.State.ACTIVE))
    wanted = {name for endpoint in endpoints for name in endpoint.events}
    topics = {topic for topic in {event.topic for event in news} if SOURCES[topic][0] in wanted}
    if not topics:
        return 0
    told: dict[int, Told] = {}
    for topic in sorted(topics):
        told |= SOURCES[topic][1]([event for event in news if event.topic == topic])
    kept = list(_events(news, told))
    WebhookEvent.objects.bulk_create(kept, 500)
    deliveries = list(_deliveries(endpoints, kept))
    WebhookDelivery.objects.bulk_create(deliveries, 500)
    for endpoint_id in sorted({delivery.endpoint_id for delivery in deliveries}):
        ring(TASK, str(endpoint_id))
    return len(deliveries)


def _events(news: list[OutboxEvent], told: dict[int, Told]) -> Iterator[WebhookEvent]:
    for event in news:
        if event.pk in told:
            yield WebhookEvent(
                uid=f"msg_{uuid.uuid4().hex}", type=SOURCES[event.topic][0], subject=told[event.pk].subject,
                occurred_at=_at(event), data=told[event.pk].data,
            )  # fmt: skip


def _at(event: OutboxEvent) -> dt.datetime:
    text = event.data.get("at")
    return dt.datetime.fromisoformat(text) if text else event.created_at


def _deliveries(endpoints: list[WebhookEndpoint], events: list[WebhookEvent]) -> Iterator[WebhookDelivery]:
    """A figure that an endpoint has not been told of yet is not announced twice."""
    at = now()
    for endpoint in endpoints:
        mine = [event for event in events if event.type in endpoint.events]
        figures = {event.subject for event in mine if event.type == "inventory.changed"}
        waiting = set(
            WebhookDelivery.objects.filter(
                endpoint=endpoint, state=WebhookDelivery.State.PENDING, attempts=0, lease_until__isnull=True,
                subject__in=figures,
            ).values_list("subject", flat=True)
        ) if figures else set()  # fmt: skip
        for event in mine:
            if event.type == "inventory.changed" and event.subject in waiting:
                continue
            yield WebhookDelivery(endpoint=endpoint, event=event, subject=event.subject, next_attempt_at=at)
