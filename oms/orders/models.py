"""Stage 4: sales channels and the one queue of orders.

A channel order is a fact: it is always stored. What cannot be reserved is `short` on the line,
visible at once. Stock reservations are linked from here (`Allocation`), never the other way.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from inventory.models import Reservation, Sku, Transfer, Warehouse
from oms.core.fields import CurrencyField, EncryptedJSONField, MoneyAmountField
from procurement.models import PurchaseOrder


class SalesChannel(models.Model):
    """One store or seller account as the business sees it; two Shopify stores are two channels.

    A connected channel's kind is the key of its connector.
    """

    class Kind(models.TextChoices):
        SHOPIFY = "shopify", "Shopify"
        AMAZON = "amazon", "Amazon"
        EBAY = "ebay", "eBay"
        WALMART = "walmart", "Walmart"
        TIKTOK = "tiktok", "TikTok Shop"
        WOOCOMMERCE = "woocommerce", "WooCommerce"
        CUSTOM = "custom", "Custom API"
        FILES = "files", "Files of a partner"
        MANUAL = "manual", "Manual and imported"

    code = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    prefix = models.CharField(
        max_length=4, default="SO", help_text="starts the numbers of its orders: SH-10041"
    )
    currency = CurrencyField(default="USD")
    time_zone = models.CharField(max_length=50, default="UTC")
    handling_days = models.PositiveSmallIntegerField(
        default=1, help_text="ship-by when the channel names none"
    )
    hold_minutes = models.PositiveIntegerField(default=0, help_text="cancellation window before release")
    reserve_unpaid = models.BooleanField(default=True, help_text="pending orders hold stock")
    pii_days = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="erase buyer data so many days after delivery"
    )
    min_shelf_life_days = models.PositiveSmallIntegerField(default=0)
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class ChannelWarehouse(models.Model):
    """Which warehouses a channel sees (`publishes`) and may be served from (`fulfils`). Data, not code."""

    channel = models.ForeignKey(SalesChannel, on_delete=models.CASCADE, related_name="warehouses")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.CASCADE, related_name="sales_channels")
    publishes = models.BooleanField(default=True)
    fulfils = models.BooleanField(default=True)
    rank = models.PositiveSmallIntegerField(default=1, help_text="order of the provisional reservation")

    class Meta:
        ordering = ["rank", "id"]
        constraints = [
            models.UniqueConstraint(fields=["channel", "warehouse"], name="channel_warehouse_once")
        ]


class Order(models.Model):
    class State(models.TextChoices):
        PENDING = "pending", "Waiting for payment"
        OPEN = "open", "To route"
        ROUTED = "routed", "Ready to ship"
        PART_SHIPPED = "part_shipped", "Partly shipped"
        SHIPPED = "shipped", "Shipped"
        DELIVERED = "delivered", "Delivered"
        CANCELLED = "cancelled", "Cancelled"

    class Kind(models.TextChoices):
        SALE = "sale", "Sale"
        REPLACEMENT = "replacement", "Replacement"
        EXCHANGE = "exchange", "Exchange"
        WHOLESALE = "wholesale", "Wholesale"

    class FulfilledBy(models.TextChoices):
        US = "us", "Us"
        CHANNEL = "channel", "The channel (FBA, WFS)"

    class Risk(models.TextChoices):
        LOW = "low", "Low"
        MEDIUM = "medium", "Medium"
        HIGH = "high", "High"

    id = models.BigAutoField(primary_key=True)
    # no index of its own: two others begin with it
    channel = models.ForeignKey(SalesChannel, on_delete=models.PROTECT, related_name="orders", db_index=False)
    external_id = models.CharField(max_length=80)
    external_number = models.CharField(max_length=80, blank=True, help_text="what the shopper sees")
    kind = models.CharField(max_length=12, choices=Kind.choices, default=Kind.SALE)
    state = models.CharField(max_length=14, choices=State.choices, default=State.OPEN)
    payment_state = models.CharField(max_length=20, default="paid")
    fulfilled_by = models.CharField(max_length=8, choices=FulfilledBy.choices, default=FulfilledBy.US)
    is_test = models.BooleanField(default=False)
    placed_at = models.DateTimeField()
    imported_at = models.DateTimeField(default=timezone.now)
    channel_updated_at = models.DateTimeField(
        help_text="version of the channel's copy; an older one is ignored"
    )
    ship_by = models.DateTimeField(null=True, blank=True)
    ship_by_source = models.CharField(max_length=10, blank=True, help_text="channel or computed")
    deliver_by = models.DateTimeField(null=True, blank=True)
    shipped_at = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True)
    cancel_reason = models.CharField(max_length=60, blank=True)
    buyer_cancel_requested = models.BooleanField(default=False)
    service_level = models.CharField(max_length=60, blank=True)
    risk = models.CharField(max_length=6, choices=Risk.choices, default=Risk.LOW)
    currency = CurrencyField()
    subtotal = MoneyAmountField(default=0, help_text="lines before discount, shipping and tax")
    discount = MoneyAmountField(default=0)
    shipping = MoneyAmountField(default=0)
    tax = MoneyAmountField(default=0)
    total = MoneyAmountField(default=0, help_text="as the channel states it")
    fx_rate = models.DecimalField(
        max_digits=18, decimal_places=8, default=1, help_text="to the business currency, stamped once"
    )
    fx_day = models.DateField(
        null=True, blank=True, help_text="day of the rate; empty = no rate was known, sums leave it out"
    )
    ship_country = models.CharField(max_length=2, blank=True)
    ship_region = models.CharField(max_length=40, blank=True)
    ship_postal = models.CharField(max_length=20, blank=True)
    ship_city = models.CharField(max_length=80, blank=True)
    ship_name = models.CharField(
        max_length=120, blank=True, help_text="short form for lists; erased with the contact"
    )
    residential = models.BooleanField(default=True)
    tags = models.JSONField(default=list, blank=True)
    holds_open = models.PositiveSmallIntegerField(default=0, help_text="open holds on the order or its lines")
    short_units = models.PositiveIntegerField(default=0, help_text="sum of short over its lines")
    unmapped_lines = models.PositiveSmallIntegerField(default=0)
    routing_locked = models.BooleanField(
        default=False, help_text="set by a person: automatic re-routing keeps off"
    )
    parent = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="children"
    )
    source = models.CharField(max_length=12, default="webhook", help_text="webhook, poll, api, csv, manual")
    version = models.PositiveIntegerField(default=1)
    updated_at = models.DateTimeField(
        default=timezone.now, editable=False, help_text="last change; the database keeps it"
    )

    class Meta:
        ordering = ["-placed_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["channel", "external_id"], name="order_external_once"),
            models.CheckConstraint(condition=Q(fx_rate__gt=0), name="order_fx_positive"),
        ]
        indexes = [
            models.Index(fields=["-placed_at", "-id"], name="order_placed_idx"),
            models.Index(fields=["channel", "-placed_at", "-id"], name="order_channel_placed_idx"),
            models.Index(
                fields=["ship_by", "id"],
                condition=Q(state__in=["open", "routed", "part_shipped"]),
                name="order_live_idx",
            ),
            models.Index(fields=["state", "-placed_at", "-id"], name="order_state_idx"),
            models.Index(fields=["external_number"], name="order_external_number_idx"),
            models.Index(fields=["-placed_at", "-id"], condition=Q(holds_open__gt=0), name="order_held_idx"),
            models.Index(
                fields=["-shipped_at", "-id"], condition=Q(shipped_at__isnull=False), name="order_shipped_idx"
            ),
            models.Index(
                fields=["-placed_at", "-id"],
                condition=Q(short_units__gt=0) & Q(state__in=["pending", "open", "routed", "part_shipped"]),
                name="order_short_idx",
            ),
            models.Index(fields=["ship_by", "id"], name="order_ship_by_idx"),
            models.Index(
                fields=["-placed_at", "-id"],
                condition=Q(unmapped_lines__gt=0)
                & Q(state__in=["pending", "open", "routed", "part_shipped"]),
                name="order_unmapped_idx",
            ),
            models.Index(fields=["updated_at", "id"], name="order_updated_idx"),
        ]

    def __str__(self) -> str:
        return self.number

    #: numbers start here so that they look like order numbers from the first day
    NUMBER_BASE = 10_000

    @property
    def number(self) -> str:
        return f"{self.channel.prefix}-{self.NUMBER_BASE + self.pk}"

    @property
    def on_hold(self) -> bool:
        return self.holds_open > 0


class OrderContact(models.Model):
    """The buyer's personal data, encrypted and erasable without touching the order."""

    order = models.OneToOneField(Order, on_delete=models.CASCADE, related_name="contact")
    data = EncryptedJSONField(
        default=dict,
        help_text="name, company, email, phone, address1-3, city, region, postal_code, country, note",
    )
    told = EncryptedJSONField(
        null=True,
        blank=True,
        help_text="what the channel told before a person changed it; empty = nobody did",
    )
    expires_at = models.DateTimeField(null=True, blank=True, db_index=True)
    erased_at = models.DateTimeField(null=True, blank=True)


class OrderLine(models.Model):
    """Invariant O2: quantity = reserved + shipped + cancelled + short + not yet allocated, all ≥ 0.

    All counts are in sold units: for a kit they count kits, for a listing of several they count packs of
    `pack_size`.
    """

    class Kind(models.TextChoices):
        PRODUCT = "product", "Product"
        SERVICE = "service", "Fee or service"

    id = models.BigAutoField(primary_key=True)
    # no index of its own: `order_line_external_once` begins with it
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines", db_index=False)
    external_id = models.CharField(max_length=80)
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, null=True, blank=True, related_name="order_lines")
    external_sku = models.CharField(max_length=120, blank=True, help_text="the code the channel sent")
    listing_ref = models.CharField(
        max_length=120, blank=True, help_text="the channel's listing or variant id"
    )
    title = models.CharField(max_length=255, blank=True)
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.PRODUCT)
    quantity = models.PositiveIntegerField()
    pack_size = models.PositiveIntegerField(
        default=1, help_text="how many of the SKU one sold unit holds; 3 for a listing of three"
    )
    reserved = models.PositiveIntegerField(default=0)
    shipped = models.PositiveIntegerField(default=0)
    cancelled = models.PositiveIntegerField(default=0)
    cancelled_here = models.PositiveIntegerField(
        default=0, help_text="part of cancelled that we decided, not the channel"
    )
    short = models.PositiveIntegerField(default=0)
    short_at_entry = models.PositiveIntegerField(
        default=0, help_text="units that could not be reserved at the first try (3.7a)"
    )
    returned = models.PositiveIntegerField(default=0, help_text="received back over all RMAs")
    unit_price = MoneyAmountField(default=0)
    discount = MoneyAmountField(default=0)
    tax = MoneyAmountField(default=0)
    promise_on = models.DateField(null=True, blank=True, help_text="when a short quantity is expected")
    first_since = models.DateTimeField(
        null=True, blank=True, help_text="a person put it before the others that wait for stock"
    )

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["order", "external_id"], name="order_line_external_once"),
            models.CheckConstraint(
                condition=Q(quantity__gte=F("reserved") + F("shipped") + F("cancelled") + F("short")),
                name="order_line_counts_within",
            ),
            models.CheckConstraint(
                condition=Q(shipped__gte=F("returned")), name="order_line_returned_within"
            ),
            models.CheckConstraint(condition=Q(pack_size__gt=0), name="order_line_pack_positive"),
        ]
        indexes = [
            models.Index(fields=["sku"], condition=Q(short__gt=0), name="order_line_short_idx"),
            models.Index(
                fields=["external_sku"], condition=Q(sku__isnull=True), name="order_line_unmapped_idx"
            ),
        ]

    @property
    def outstanding(self) -> int:
        """Units still to be shipped."""
        return self.quantity - self.shipped - self.cancelled

    @property
    def unallocated(self) -> int:
        return self.quantity - self.reserved - self.shipped - self.cancelled - self.short


def _source(purchase_id: int | None, transfer_id: int | None) -> tuple[str, int] | None:
    if purchase_id is not None:
        return "PO", purchase_id
    return ("TR", transfer_id) if transfer_id is not None else None


class Promise(models.Model):
    """Where the day of a waiting line (`OrderLine.promise_on`) comes from, and what it was before its last change."""

    line = models.OneToOneField(OrderLine, on_delete=models.CASCADE, primary_key=True, related_name="promise")
    purchase = models.ForeignKey(
        PurchaseOrder,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="promises",
        help_text="its arrival completes the line",
    )
    transfer = models.ForeignKey(
        Transfer,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="promises",
        help_text="its arrival completes the line; both empty: nothing on its way does",
    )
    was_on = models.DateField(null=True, blank=True, help_text="the day before the last change")
    was_purchase = models.ForeignKey(
        PurchaseOrder, on_delete=models.SET_NULL, null=True, blank=True, related_name="former_promises"
    )
    was_transfer = models.ForeignKey(
        Transfer, on_delete=models.SET_NULL, null=True, blank=True, related_name="former_promises"
    )
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=(Q(purchase=None) | Q(transfer=None))
                & (Q(was_purchase=None) | Q(was_transfer=None)),
                name="promise_one_source",
            )
        ]

    @property
    def source(self) -> tuple[str, int] | None:
        """What brings the goods: ("PO", id) or ("TR", id)."""
        return _source(self.purchase_id, self.transfer_id)

    @property
    def was_source(self) -> tuple[str, int] | None:
        """What would have brought them before the last change."""
        return _source(self.was_purchase_id, self.was_transfer_id)

    @property
    def fate(self) -> str:
        """Of its last change: given, moved, or lost."""
        if self.line.promise_on is None:
            return "lost"
        return "given" if self.was_on is None else "moved"


class Allocation(models.Model):
    """Links an order line to a reservation. A kit line has one per component, `per_unit` of it per kit."""

    id = models.BigAutoField(primary_key=True)
    line = models.ForeignKey(OrderLine, on_delete=models.CASCADE, related_name="allocations")
    reservation = models.OneToOneField(Reservation, on_delete=models.PROTECT, related_name="allocation")
    per_unit = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(per_unit__gt=0), name="allocation_per_unit_positive")
        ]


class Hold(models.Model):
    """A reason not to ship, on an order or one of its lines. Several may stand; all must be released."""

    class Reason(models.TextChoices):
        FRAUD = "fraud", "Fraud risk"
        ADDRESS = "address", "Address not valid"
        PAYMENT = "payment", "Payment"
        BUYER_CANCEL = "buyer_cancel", "Buyer asked to cancel"
        WINDOW = "window", "Channel's cancellation window"
        RULE = "rule", "Automation rule"
        PERSON = "person", "Put on hold by a person"
        AWAITING_RETURN = "awaiting_return", "Waiting for a return"

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="holds")
    line = models.ForeignKey(OrderLine, on_delete=models.CASCADE, null=True, blank=True, related_name="holds")
    reason = models.CharField(max_length=16, choices=Reason.choices)
    note = models.CharField(max_length=255, blank=True)
    placed_by = models.CharField(max_length=120)
    placed_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    released_at = models.DateTimeField(null=True, blank=True)
    released_by = models.CharField(max_length=120, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["order", "line", "reason"],
                condition=Q(released_at__isnull=True),
                name="hold_open_once",
                nulls_distinct=False,
            ),
        ]
        indexes = [
            models.Index(
                fields=["expires_at"], condition=Q(released_at__isnull=True), name="hold_expiry_idx"
            ),
        ]


class OrderEvent(models.Model):
    """One readable line of an order's timeline: who or which rule, before, after."""

    id = models.BigAutoField(primary_key=True)
    # no index of its own: `order_event_idx` begins with it
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="events", db_index=False)
    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=30)
    text = models.CharField(max_length=400)
    actor = models.CharField(max_length=120)
    data = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["order", "id"], name="order_event_idx")]


class OrderCharge(models.Model):
    """A tax, fee or discount line as the channel states it, kept for exact money."""

    class Kind(models.TextChoices):
        TAX = "tax", "Tax"
        SHIPPING = "shipping", "Shipping"
        DISCOUNT = "discount", "Discount"
        CHANNEL_FEE = "channel_fee", "Channel fee"

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="charges")
    line = models.ForeignKey(
        OrderLine, on_delete=models.CASCADE, null=True, blank=True, related_name="charges"
    )
    kind = models.CharField(max_length=12, choices=Kind.choices)
    title = models.CharField(max_length=120, blank=True)
    amount = MoneyAmountField()
    currency = CurrencyField()


class FxRate(models.Model):
    """Units of business currency for one unit of `currency`, from a day on; stamped on orders once."""

    currency = CurrencyField()
    day = models.DateField()
    rate = models.DecimalField(max_digits=18, decimal_places=8)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["currency", "day"], name="fx_rate_once"),
            models.CheckConstraint(condition=Q(rate__gt=0), name="fx_rate_positive"),
        ]
