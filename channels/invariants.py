"""What must always be true between us and the channels. Each check yields its failing rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from django.db.models import F, Q

from channels import kpis, quantities
from channels.models import BulkPush, ChannelAccount, ChannelEffect, InboxMessage, Listing
from fulfillment.models import Shipment
from oms.core import beat
from oms.core.clock import now
from oms.core.invariants import invariant
from oms.core.models import OutboxEvent
from oms.orders.models import Order

#: a live system may be this much behind before it is a fault
INBOX_LIMIT = dt.timedelta(minutes=10)
PUSH_LIMIT = dt.timedelta(seconds=60)


@invariant(
    "S5",
    "The figure of a listing follows from stock by the fixed order of steps, is never negative, "
    "and never counts the channel's own warehouse",
)
def published_figures() -> Iterator[str]:
    rows = quantities.facts(
        quantities.live_listings().order_by("pk").values_list(*quantities.FACT_FIELDS)[:2000]
    )
    for listing_id, shown in quantities.compute(rows).items():
        if shown.quantity < 0:
            yield f"listing {listing_id} would show {shown.quantity}"
    told = Listing.objects.filter(fulfilment=Listing.Fulfilment.CHANNEL).filter(
        Q(acked_quantity__isnull=False) | Q(last_quantity__isnull=False)
    )
    for listing in told:
        yield f"listing {listing.pk} ({listing.external_sku}) is the channel's own, yet a quantity was told"


@invariant("S6", "A clean listing was told exactly the figure of its version; stale or clean, never neither")
def clean_listings() -> Iterator[str]:
    for listing in Listing.objects.filter(acked_version__gt=F("version")):
        yield f"listing {listing.pk}: acknowledged version {listing.acked_version} is ahead of {listing.version}"
    neither = Q(acked_version__lt=F("version"), stale_since__isnull=True) | Q(
        acked_version=F("version"), stale_since__isnull=False
    )
    for listing in Listing.objects.filter(neither):
        yield f"listing {listing.pk} is neither stale nor clean"
    # a change whose news is still in the outbox has not reached its listings yet
    pending = {
        int(key)
        for key in OutboxEvent.objects.filter(topic="stock.changed", dead=False).values_list("key", flat=True)
    }
    clean = quantities.live_listings().filter(
        stale_since__isnull=True, acked_version__gt=0, account__pushes_paused_at__isnull=True
    )
    rows = list(clean.order_by("pk").values_list("pk", "acked_quantity", "sku_id")[:2000])
    facts = quantities.facts(
        quantities.live_listings()
        .filter(pk__in=[row[0] for row in rows])
        .values_list(*quantities.FACT_FIELDS)
    )
    shown = quantities.compute(facts)
    for listing_id, acked, sku_id in rows:
        want = shown[listing_id].quantity if listing_id in shown else acked
        if want != acked and not pending and sku_id:
            yield f"listing {listing_id} was told {acked}, its figure is {want}"


@invariant("W1", "Every message of a channel is worked off or given to a person within ten minutes")
def inbox_moves() -> Iterator[str]:
    old = InboxMessage.objects.filter(
        state=InboxMessage.State.RECEIVED, received_at__lt=now() - INBOX_LIMIT, attempts=0,
        account__state=ChannelAccount.State.CONNECTED,
    )  # fmt: skip
    for message in old.defer("body")[:50]:
        yield f"message {message.pk} ({message.topic}) waits since {message.received_at:%Y-%m-%d %H:%M}"


@invariant("F4", "A shipped order's tracking was told to its channel, or a row says why not")
def shipments_told() -> Iterator[str]:
    pending = set(OutboxEvent.objects.filter(topic="shipment.shipped").values_list("key", flat=True))
    told = set(ChannelEffect.objects.filter(kind=ChannelEffect.Kind.SHIP).values_list("reference", flat=True))
    rows = Shipment.objects.filter(
        state__in=(Shipment.State.SHIPPED, Shipment.State.DELIVERED), order__fulfilled_by=Order.FulfilledBy.US,
        order__channel__account__isnull=False,
    ).exclude(order__channel__account__state=ChannelAccount.State.DISABLED)  # fmt: skip
    # a part of a kit is told with the parcel that completes the kit
    for shipment in rows.filter(lines__sku=F("lines__order_line__sku")).distinct():
        if shipment.number not in told and str(shipment.pk) not in pending:
            yield f"{shipment.number} of order {shipment.order_id} left, and its channel was not told"


@invariant("Q2", "While the dispatcher lives, no listing waits longer than a minute without a reason")
def pushes_move() -> Iterator[str]:
    age = beat.age(beat.DISPATCHER)
    if age is None or age > beat.SILENT_AFTER:
        return
    at = now()
    late: dict[int, int] = {}
    for account, since in kpis.waiting():
        if at - since > PUSH_LIMIT:
            late[account] = late.get(account, 0) + 1
    unfetched = set(
        BulkPush.objects.filter(state=BulkPush.State.SENT, account__in=late).values_list("account", flat=True)
    )
    for account, count in late.items():
        if account in unfetched:  # the figures lie in a file that the channel has not worked off
            continue
        if (
            not Listing.objects.filter(account=account, stale_since__isnull=False)
            .exclude(last_error="")
            .exists()
        ):
            yield f"account {account}: {count} listings wait longer than {int(PUSH_LIMIT.total_seconds())} s"
