"""The web between the stages: accounts, listings, what was told to whom, and what came in."""

from __future__ import annotations

import secrets
import uuid

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from inventory.models import Sku, Warehouse
from oms.core.fields import EncryptedJSONField
from oms.orders.models import Order, OrderLine, SalesChannel


def new_hook_key() -> str:
    return secrets.token_urlsafe(18)


class ChannelAccount(models.Model):
    """The connection behind a sales channel: credentials, cursor, health."""

    class State(models.TextChoices):
        SETUP = "setup", "Being set up"
        CONNECTED = "connected", "Connected"
        NEEDS_AUTH = "needs_auth", "Needs to be authorised again"
        DISABLED = "disabled", "Disabled"

    sales_channel = models.OneToOneField(SalesChannel, on_delete=models.PROTECT, related_name="account")
    connector = models.CharField(max_length=20, help_text="key of the connector registry")
    hook_key = models.CharField(
        max_length=40, unique=True, default=new_hook_key, help_text="last part of its webhook address"
    )
    config = models.JSONField(
        default=dict, blank=True, help_text="shop domain, seller id, marketplace, region …"
    )
    credentials = EncryptedJSONField(default=dict, blank=True)
    tokens = EncryptedJSONField(default=dict, blank=True, help_text="short-lived access tokens")
    tokens_expire_at = models.DateTimeField(null=True, blank=True)
    refresh_lease_until = models.DateTimeField(
        null=True, blank=True, help_text="one process at a time asks for a new token"
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.SETUP)
    state_reason = models.CharField(max_length=255, blank=True)
    pushes_paused_at = models.DateTimeField(null=True, blank=True)
    pause_reason = models.CharField(max_length=255, blank=True)
    orders_cursor = models.CharField(max_length=255, blank=True, help_text="where the next order pull begins")
    orders_page = models.JSONField(
        default=dict, blank=True, help_text="the page at which an order pull stopped before its end"
    )
    week_page = models.JSONField(
        default=dict, blank=True, help_text="the page at which the daily pull of a whole week stopped"
    )
    pool_page = models.JSONField(
        default=dict, blank=True, help_text="figures of its own warehouse that were read before the last page"
    )
    last_pull_at = models.DateTimeField(null=True, blank=True)
    last_event_at = models.DateTimeField(null=True, blank=True)
    last_order_at = models.DateTimeField(null=True, blank=True)
    last_push_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.sales_channel.name


class LocationMap(models.Model):
    """The channel's own location id for one of our warehouses."""

    account = models.ForeignKey(ChannelAccount, on_delete=models.CASCADE, related_name="locations")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.CASCADE, related_name="channel_locations")
    external_id = models.CharField(max_length=120)
    name = models.CharField(max_length=120, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "warehouse"], name="location_map_warehouse_once"),
        ]


class Listing(models.Model):
    """One offer of one SKU on one account (and, where the channel counts per location, one location).

    Stock sync is level-triggered: `version` rises whenever the sellable quantity may have changed;
    the listing is stale while `acked_version < version`. No quantity is stored to be sent: it is
    computed at send time.
    """

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        PAUSED = "paused", "Paused"
        ENDED = "ended", "Ended on the channel"

    class Fulfilment(models.TextChoices):
        MERCHANT = "merchant", "We ship"
        CHANNEL = "channel", "The channel ships (FBA, WFS)"

    id = models.BigAutoField(primary_key=True)
    account = models.ForeignKey(ChannelAccount, on_delete=models.CASCADE, related_name="listings")
    external_id = models.CharField(max_length=120, help_text="listing, offer or inventory item id")
    location_id = models.CharField(
        max_length=120, blank=True, help_text="the channel's location, where it counts per location"
    )
    variant_id = models.CharField(max_length=120, blank=True)
    external_sku = models.CharField(max_length=120, blank=True)
    title = models.CharField(max_length=255, blank=True)
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, null=True, blank=True, related_name="listings")
    fulfilment = models.CharField(max_length=8, choices=Fulfilment.choices, default=Fulfilment.MERCHANT)
    state = models.CharField(max_length=8, choices=State.choices, default=State.ACTIVE)
    data = models.JSONField(
        default=dict, blank=True, help_text="what the connector needs to push: product type, offer id …"
    )

    class BufferMode(models.TextChoices):
        FIXED = "fixed", "A person's figure"
        TUNED = "tuned", "Follows from what is measured"

    # how many we show
    buffer_mode = models.CharField(max_length=5, choices=BufferMode.choices, default=BufferMode.FIXED)
    buffer_risk = models.FloatField(
        null=True, blank=True, help_text="tuned: accepted chance of selling twice; empty = 0.001"
    )
    buffer_why = models.CharField(max_length=255, blank=True, help_text="tuned: how the figure came about")
    pack_size = models.PositiveIntegerField(default=1)
    buffer = models.PositiveIntegerField(default=0)
    percent = models.PositiveSmallIntegerField(default=100)
    cap = models.PositiveIntegerField(null=True, blank=True)
    stop_at = models.PositiveIntegerField(default=0, help_text="show 0 when the figure is at or below this")
    preorder_percent = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        help_text="sells this share of what is on order instead of stock; empty = stock",
    )
    # level-triggered sync
    version = models.BigIntegerField(default=0)
    acked_version = models.BigIntegerField(default=0)
    stale_since = models.DateTimeField(
        null=True, blank=True, help_text="commit time of the oldest change not yet acknowledged"
    )
    told_anew = models.BooleanField(
        default=False,
        help_text="stale only because the whole figure is told: first figures, a re-sync. No movement waits",
    )
    last_quantity = models.IntegerField(null=True, blank=True, help_text="last quantity sent")
    acked_quantity = models.IntegerField(null=True, blank=True)
    acked_at = models.DateTimeField(null=True, blank=True)
    # what keeps the last units from being sold twice
    held = models.IntegerField(
        null=True,
        blank=True,
        help_text="the most that the channel may still sell or has sold without our books knowing",
    )
    offered = models.PositiveIntegerField(
        default=0, help_text="a raise on its way: it counts before it is sent"
    )
    unseen_since = models.DateTimeField(
        null=True,
        blank=True,
        help_text="since when held is above acked quantity: units sold there whose orders are not booked",
    )
    read_quantity = models.IntegerField(null=True, blank=True, help_text="what the channel said when asked")
    read_at = models.DateTimeField(null=True, blank=True)
    lease_token = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=400, blank=True)
    dead = models.BooleanField(
        default=False, help_text="gave up after too many rejections; a person retries or drops it"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "external_id", "location_id"], name="listing_once"),
            models.CheckConstraint(
                condition=Q(acked_version__lte=F("version")), name="listing_ack_within_version"
            ),
            models.CheckConstraint(condition=Q(percent__lte=100), name="listing_percent_range"),
            models.CheckConstraint(
                condition=Q(preorder_percent__isnull=True) | Q(preorder_percent__range=(1, 100)),
                name="listing_preorder_range",
            ),
            models.CheckConstraint(condition=Q(pack_size__gt=0), name="listing_pack_positive"),
            models.CheckConstraint(
                condition=Q(acked_version__lt=F("version"), stale_since__isnull=False)
                | Q(acked_version=F("version"), stale_since__isnull=True),
                name="listing_stale_or_clean",
            ),
        ]
        indexes = [
            models.Index(
                fields=["account", "stale_since"],
                condition=Q(stale_since__isnull=False),
                name="listing_stale_idx",
            ),
            models.Index(
                fields=["unseen_since"], condition=Q(unseen_since__isnull=False), name="listing_unseen_idx"
            ),
            models.Index(fields=["account", "external_sku"], name="listing_external_sku_idx"),
            models.Index(fields=["account", "variant_id"], name="listing_variant_idx"),
            models.Index(
                fields=["sku"], condition=Q(preorder_percent__isnull=False), name="listing_preorder_idx"
            ),
        ]

    @property
    def is_stale(self) -> bool:
        return self.acked_version < self.version


class StockPush(models.Model):
    """One quantity told to a channel for one listing: when the change was committed, sent, acknowledged."""

    class State(models.TextChoices):
        SENT = "sent", "Sent"
        ACKED = "acked", "Acknowledged"
        FAILED = "failed", "Failed"

    id = models.BigAutoField(primary_key=True)
    listing = models.ForeignKey(Listing, on_delete=models.CASCADE, related_name="pushes")
    version = models.BigIntegerField()
    quantity = models.IntegerField()
    state = models.CharField(max_length=6, choices=State.choices)
    changed_at = models.DateTimeField(help_text="commit time of the oldest change this push carries")
    sent_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True, blank=True)
    latency_ms = models.IntegerField(
        null=True,
        blank=True,
        help_text="commit to acknowledgement; empty when nothing moved: first figures, a re-sync",
    )
    batch = models.UUIDField(default=uuid.uuid4)
    error = models.CharField(max_length=400, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["listing", "-id"], name="stock_push_listing_idx"),
            models.Index(fields=["answered_at"], name="stock_push_answered_idx"),
        ]


class BulkPush(models.Model):
    """Many quantities handed in as one file. Its listings keep their lease until the result is read,
    so that no single call overtakes the file."""

    class State(models.TextChoices):
        PLANNED = "planned", "Being handed in"
        SENT = "sent", "The channel works on it"
        DONE = "done", "Result read"
        FAILED = "failed", "Failed"

    account = models.ForeignKey(ChannelAccount, on_delete=models.CASCADE, related_name="bulk_pushes")
    handle = models.CharField(max_length=120, blank=True, help_text="the channel's id of the file")
    items = models.JSONField(
        default=list,
        help_text="listing id, version, quantity, SKU, changed at, data, told anew, waits; in file order",
    )
    lease_token = models.UUIDField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.PLANNED)
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=400, blank=True)

    class Meta:
        verbose_name_plural = "bulk pushes"
        indexes = [
            models.Index(
                fields=["account"], condition=Q(state__in=["planned", "sent"]), name="bulk_push_open_idx"
            ),
        ]


class ChannelFile(models.Model):
    """A file that a channel brought: orders, returns or listings. The same bytes are taken once.

    Buyers' data stands in the orders only; the rows that were refused lie in the account's folder.
    """

    class Kind(models.TextChoices):
        ORDERS = "orders", "Orders"
        RETURNS = "returns", "Returns"
        LISTINGS = "listings", "Listings"

    account = models.ForeignKey(ChannelAccount, on_delete=models.CASCADE, related_name="files")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    name = models.CharField(max_length=160)
    sha256 = models.CharField(max_length=64)
    rows = models.PositiveIntegerField(default=0)
    taken = models.PositiveIntegerField(
        default=0, help_text="orders, returns or listings that are in our books"
    )
    refused = models.PositiveIntegerField(default=0, help_text="rows that were not taken")
    problems = models.JSONField(default=list, blank=True, help_text="[row, column, sentence], the first 200")
    errors_file = models.CharField(
        max_length=200, blank=True, help_text="in the folder failed/: the refused rows"
    )
    actor = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "sha256"], condition=Q(refused=0), name="channel_file_once"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class InboxMessage(models.Model):
    """Every notification a channel sent, kept before anything else happens. Unique per delivery."""

    class State(models.TextChoices):
        RECEIVED = "received", "Received"
        DONE = "done", "Done"
        IGNORED = "ignored", "Nothing to do"
        DEAD = "dead", "Gave up"

    id = models.BigAutoField(primary_key=True)
    account = models.ForeignKey(ChannelAccount, on_delete=models.CASCADE, related_name="inbox")
    delivery_id = models.CharField(max_length=120)
    topic = models.CharField(max_length=80)
    external_id = models.CharField(max_length=120, blank=True, help_text="the order or item it speaks of")
    body = EncryptedJSONField(default=dict, help_text="raw payload, encrypted: it holds buyer data")
    event_at = models.DateTimeField(null=True, blank=True, help_text="when the channel says it happened")
    received_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=8, choices=State.choices, default=State.RECEIVED)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    done_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=400, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "delivery_id"], name="inbox_delivery_once")]
        indexes = [
            models.Index(
                fields=["account", "next_attempt_at"], condition=Q(state="received"), name="inbox_due_idx"
            ),
            models.Index(fields=["received_at"], name="inbox_received_idx"),
        ]


class ChannelEffect(models.Model):
    """An effect on a channel that must happen once: ship confirmation, refund, cancel, acknowledgement.

    planned → sent → confirmed (read back) | in_doubt | rejected. In doubt is looked up, never re-sent blindly.
    """

    class Kind(models.TextChoices):
        SHIP = "ship", "Shipment confirmation"
        REFUND = "refund", "Refund"
        CANCEL = "cancel", "Cancellation"
        ACKNOWLEDGE = "acknowledge", "Acknowledgement"

    class State(models.TextChoices):
        PLANNED = "planned", "Planned"
        SENT = "sent", "Sent, not yet proved"
        CONFIRMED = "confirmed", "Confirmed by read-back"
        IN_DOUBT = "in_doubt", "In doubt"
        REJECTED = "rejected", "Rejected"

    id = models.BigAutoField(primary_key=True)
    account = models.ForeignKey(ChannelAccount, on_delete=models.CASCADE, related_name="effects")
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="channel_effects")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    reference = models.CharField(max_length=80, help_text="the shipment, refund … it carries: S-881, RF-12")
    key = models.CharField(max_length=120, unique=True, help_text="kind:reference; one effect each")
    payload = EncryptedJSONField(default=dict)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PLANNED)
    external_id = models.CharField(max_length=120, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    lease_until = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=400, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)
    confirmed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                condition=Q(state__in=["planned", "sent", "in_doubt"]),
                name="effect_due_idx",
            ),
        ]


class Drift(models.Model):
    """A difference between what we told a channel and what it says, with its cause."""

    class Cause(models.TextChoices):
        UNSENT = "unsent", "Not sent yet"
        REJECTED = "rejected", "Rejected by the channel"
        EDITED = "edited", "Edited on the channel"
        UNMAPPED = "unmapped", "Not mapped"
        UNKNOWN_SALE = "unknown_sale", "Sale we have not seen"
        DELAYED_ORDER = "delayed_order", "Order on its way"
        FBA = "fba", "FBA adjustment"

    listing = models.ForeignKey(Listing, on_delete=models.CASCADE, related_name="drifts")
    ours = models.IntegerField()
    theirs = models.IntegerField()
    cause = models.CharField(max_length=14, choices=Cause.choices)
    evidence = models.JSONField(default=dict)
    found_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=120, blank=True)
    accepted_until = models.DateTimeField(
        null=True, blank=True, help_text="a person accepted it: the same difference is not told again before"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["listing"], condition=Q(closed_at__isnull=True), name="drift_open_once"
            ),
        ]
        indexes = [models.Index(fields=["found_at"], name="drift_found_idx")]


class OversellSuspect(models.Model):
    """An order that a channel sold and that came in short: waits until its black box is written."""

    order = models.OneToOneField(Order, on_delete=models.CASCADE, related_name="+")
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(
        null=True, default=timezone.now, help_text="empty: it could not be written, a person was told"
    )
    error = models.CharField(max_length=400, blank=True)


class OversellIncident(models.Model):
    """One line that a channel sold although nothing was left: who was slow, and what mends it."""

    class Hop(models.TextChoices):
        NOTICE = "notice", "The first channel told us late"
        INTAKE = "intake", "We booked late"
        DISPATCH = "dispatch", "We sent the new figure late"
        CHANNEL = "channel", "The second channel accepted late"
        KEPT_SELLING = "kept_selling", "The second channel sold after it had accepted"
        NOT_TOLD = "not_told", "The second channel could not be told"
        TOO_CLOSE = "too_close", "Both sales at the same moment"
        STOCK_FELL = "stock_fell", "Stock was lowered"

    line = models.OneToOneField(OrderLine, on_delete=models.CASCADE, related_name="oversell")
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="oversells")
    rival = models.ForeignKey(
        Order,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="took the last units",
    )
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="oversells")
    listing = models.ForeignKey(Listing, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    units = models.PositiveIntegerField()
    hop = models.CharField(max_length=12, choices=Hop.choices)
    hop_ms = models.BigIntegerField(default=0)
    why = models.CharField(max_length=255)
    timeline = models.JSONField(default=list, help_text="at, ms since the first sale, what happened")
    remedies = models.JSONField(default=list, help_text="kind, cost, text; cheapest first")
    found_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["-found_at"], name="oversell_found_idx")]
