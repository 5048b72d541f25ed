"""Stage 1: who we buy from, at what price and lead time, what is on order and what it really cost."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from inventory import packs
from inventory.models import Lot, Sku, Transfer, Warehouse
from oms.core.fields import CurrencyField, MoneyAmountField


class Supplier(models.Model):
    code = models.CharField(max_length=30, unique=True)
    name = models.CharField(max_length=160)
    currency = CurrencyField(default="USD")
    lead_time_days = models.PositiveSmallIntegerField(
        default=14, help_text="stated, calendar days from sent to received"
    )
    email = models.EmailField(blank=True)
    phone = models.CharField(max_length=40, blank=True)
    address = models.TextField(blank=True)
    country = models.CharField(max_length=2, blank=True)
    payment_terms = models.CharField(max_length=60, blank=True)
    minimum_order = MoneyAmountField(default=0, help_text="value, supplier currency")
    over_receipt_percent = models.DecimalField(max_digits=5, decimal_places=2, default=0)
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class SupplierOffer(models.Model):
    """What a supplier asks for one SKU. The active offer of lowest rank is the default."""

    supplier = models.ForeignKey(Supplier, on_delete=models.CASCADE, related_name="offers")
    sku = models.ForeignKey(Sku, on_delete=models.CASCADE, related_name="offers")
    supplier_sku = models.CharField(max_length=80, blank=True)
    price = MoneyAmountField(help_text="per each, in the supplier's currency")
    currency = CurrencyField(default="USD")
    moq = models.PositiveIntegerField(default=1, help_text="least quantity per order, in eaches")
    order_multiple = models.PositiveIntegerField(default=1, help_text="case pack: orders are whole multiples")
    lead_time_days = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="empty = the supplier's"
    )
    rank = models.PositiveSmallIntegerField(default=1)
    valid_from = models.DateField(null=True, blank=True)
    valid_to = models.DateField(null=True, blank=True)
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["sku", "rank", "id"]
        constraints = [
            models.UniqueConstraint(fields=["supplier", "sku"], name="offer_once_per_supplier"),
            models.CheckConstraint(condition=Q(price__gte=0), name="offer_price_not_negative"),
            models.CheckConstraint(
                condition=Q(moq__gt=0, order_multiple__gt=0), name="offer_quantities_positive"
            ),
        ]

    @property
    def lead_time(self) -> int:
        return self.lead_time_days if self.lead_time_days is not None else self.supplier.lead_time_days


class OfferBreak(models.Model):
    """Price from a quantity on, within its dates."""

    offer = models.ForeignKey(SupplierOffer, on_delete=models.CASCADE, related_name="breaks")
    min_quantity = models.PositiveIntegerField()
    price = MoneyAmountField()
    valid_from = models.DateField(null=True, blank=True)
    valid_to = models.DateField(null=True, blank=True)

    class Meta:
        ordering = ["min_quantity"]
        constraints = [
            models.CheckConstraint(condition=Q(min_quantity__gt=1, price__gte=0), name="offer_break_sane"),
        ]


class ReplenishmentSetting(models.Model):
    """How one SKU is planned at one warehouse; rows exist only where the defaults do not fit."""

    sku = models.ForeignKey(Sku, on_delete=models.CASCADE, related_name="replenishment")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.CASCADE, related_name="replenishment")
    service_level = models.DecimalField(max_digits=5, decimal_places=4, default="0.95")
    review_days = models.PositiveSmallIntegerField(default=0)
    cover_days = models.PositiveSmallIntegerField(default=30)
    min_stock = models.PositiveIntegerField(default=0)
    max_stock = models.PositiveIntegerField(null=True, blank=True)
    order_cost = MoneyAmountField(
        null=True, blank=True, help_text="S of the EOQ, business currency; empty = the usual"
    )
    is_paused = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sku", "warehouse"], name="replenishment_once"),
            models.CheckConstraint(
                condition=Q(service_level__gt=0, service_level__lt=1), name="replenishment_level"
            ),
        ]


class PurchaseOrder(models.Model):
    class State(models.TextChoices):
        DRAFT = "draft", "Draft"
        APPROVED = "approved", "Approved"
        SENT = "sent", "Sent"
        CONFIRMED = "confirmed", "Confirmed"
        PART_RECEIVED = "part_received", "Partly received"
        RECEIVED = "received", "Received"
        CLOSED = "closed", "Closed"
        CANCELLED = "cancelled", "Cancelled"

    supplier = models.ForeignKey(Supplier, on_delete=models.PROTECT, related_name="purchase_orders")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="purchase_orders")
    external_number = models.CharField(
        max_length=60, blank=True, help_text="number in the file it was imported from"
    )
    state = models.CharField(max_length=14, choices=State.choices, default=State.DRAFT)
    currency = CurrencyField(default="USD")
    fx_rate = models.DecimalField(
        max_digits=18, decimal_places=8, default=1, help_text="to the business currency"
    )
    ordered_on = models.DateField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    expected_on = models.DateField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    note = models.TextField(blank=True)
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now)
    version = models.PositiveIntegerField(default=1)
    updated_at = models.DateTimeField(
        default=timezone.now, editable=False, help_text="last change; the database keeps it"
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["supplier", "external_number"],
                condition=~Q(external_number=""),
                name="po_external_once",
            ),
            models.CheckConstraint(condition=Q(fx_rate__gt=0), name="po_fx_positive"),
        ]
        indexes = [
            models.Index(fields=["state", "expected_on"], name="po_state_idx"),
            models.Index(fields=["updated_at", "id"], name="po_updated_idx"),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        return f"PO-{self.pk}"


class PurchaseOrderLine(models.Model):
    """`quantity = received + short + open`; `short` is what a closed order never got."""

    order = models.ForeignKey(PurchaseOrder, on_delete=models.CASCADE, related_name="lines")
    number = models.PositiveIntegerField()
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="purchase_lines")
    offer = models.ForeignKey(
        SupplierOffer, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    quantity = models.PositiveIntegerField(help_text="in eaches, whatever the unit")
    unit = models.CharField(max_length=30, blank=True, help_text="pack it is ordered by; empty: each")
    unit_size = models.PositiveIntegerField(default=1, help_text="eaches in one unit when it was ordered")
    received = models.PositiveIntegerField(default=0)
    short = models.PositiveIntegerField(default=0)
    unit_price = MoneyAmountField()
    expected_on = models.DateField(null=True, blank=True, help_text="empty = the order's date")
    agreed_on = models.DateField(
        null=True,
        blank=True,
        help_text="date that stood when it was first moved after sending; the supplier is judged by it",
    )

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["order", "number"], name="po_line_number_once"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="po_line_quantity_positive"),
            models.CheckConstraint(condition=Q(unit_price__gte=0), name="po_line_price_not_negative"),
            models.CheckConstraint(
                condition=Q(unit="", unit_size=1) | Q(unit_size__gt=1) & ~Q(unit=""), name="po_line_unit_size"
            ),
        ]
        indexes = [models.Index(fields=["sku", "order"], name="po_line_sku_idx")]

    @property
    def in_packs(self) -> str:
        """'5 × case of 12', or nothing for a line by each."""
        return packs.words(self.quantity, self.unit, self.unit_size)

    @property
    def open_in_packs(self) -> str:
        return packs.words(self.open_quantity, self.unit, self.unit_size)

    @property
    def pack_price(self) -> Decimal | None:
        """Price of one pack in the order's currency; None for a line by each."""
        return self.unit_price * self.unit_size if self.unit else None

    @property
    def due_on(self) -> dt.date | None:
        """When its open units are expected: its own date, else the order's."""
        return self.expected_on or self.order.expected_on

    @property
    def open_quantity(self) -> int:
        return max(0, self.quantity - self.received - self.short)


class Receipt(models.Model):
    """Goods that arrived at the dock; the key makes a double click post once."""

    order = models.ForeignKey(PurchaseOrder, on_delete=models.PROTECT, related_name="receipts")
    key = models.CharField(max_length=80, unique=True)
    received_at = models.DateTimeField(default=timezone.now)
    delivery_note = models.CharField(max_length=80, blank=True)
    actor = models.CharField(max_length=120)

    class Meta:
        ordering = ["-id"]

    @property
    def number(self) -> str:
        return f"GR-{self.pk}"


class ReceiptLine(models.Model):
    receipt = models.ForeignKey(Receipt, on_delete=models.CASCADE, related_name="lines")
    order_line = models.ForeignKey(PurchaseOrderLine, on_delete=models.PROTECT, related_name="receipts")
    good = models.PositiveIntegerField(default=0)
    damaged = models.PositiveIntegerField(default=0)
    quarantine = models.PositiveIntegerField(default=0)
    lot = models.ForeignKey(Lot, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    unit_cost = MoneyAmountField(help_text="landed cost per good unit when posted, business currency")
    late_cost = MoneyAmountField(
        default=0, help_text="landed cost that came later and went to units still in stock"
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(good__gt=0) | Q(damaged__gt=0) | Q(quarantine__gt=0),
                name="receipt_line_not_empty",
            ),
        ]


class LandedCharge(models.Model):
    """Freight, duty, insurance or handling on a purchase order, allocated once to the cent."""

    class Kind(models.TextChoices):
        FREIGHT = "freight", "Freight"
        DUTY = "duty", "Duty"
        INSURANCE = "insurance", "Insurance"
        HANDLING = "handling", "Handling"
        OTHER = "other", "Other"

    class Basis(models.TextChoices):
        QUANTITY = "quantity", "By quantity"
        VALUE = "value", "By value"
        WEIGHT = "weight", "By weight"
        VOLUME = "volume", "By volume"
        EQUAL = "equal", "Equal"

    order = models.ForeignKey(PurchaseOrder, on_delete=models.CASCADE, related_name="charges")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    basis = models.CharField(max_length=10, choices=Basis.choices)
    amount = MoneyAmountField(help_text="in the currency of the bill")
    currency = CurrencyField(default="USD")
    fx_rate = models.DecimalField(
        max_digits=18, decimal_places=8, default=1, help_text="bill currency to business currency"
    )
    bill_reference = models.CharField(max_length=80, blank=True)
    line = models.ForeignKey(
        PurchaseOrderLine,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="charges",
        help_text="set for a charge that touches one line only, such as its duty",
    )
    created_at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=120)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0, fx_rate__gt=0), name="landed_charge_positive"),
        ]


class LandedShare(models.Model):
    """The part of a charge that one order line carries, business currency; shares sum to the charge."""

    charge = models.ForeignKey(LandedCharge, on_delete=models.CASCADE, related_name="shares")
    order_line = models.ForeignKey(PurchaseOrderLine, on_delete=models.CASCADE, related_name="landed_shares")
    amount = MoneyAmountField()
    applied = MoneyAmountField(default=0, help_text="already put on received units")
    to_cogs = MoneyAmountField(default=0, help_text="came after the units were sold: cost-of-goods variance")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["charge", "order_line"], name="landed_share_once"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="landed_share_not_negative"),
            models.CheckConstraint(
                condition=Q(amount__gte=F("applied") + F("to_cogs")), name="landed_share_used_within"
            ),
        ]


class ReorderSuggestion(models.Model):
    """What to buy, or to move here from other warehouses, and the whole sum behind it. One open suggestion per SKU and
    warehouse.
    """

    class State(models.TextChoices):
        OPEN = "open", "Open"
        ORDERED = "ordered", "Ordered"
        MOVED = "moved", "Transfer requested"
        SNOOZED = "snoozed", "Snoozed"
        DISMISSED = "dismissed", "Dismissed"
        GONE = "gone", "No longer needed"

    sku = models.ForeignKey(Sku, on_delete=models.CASCADE, related_name="reorder_suggestions")
    warehouse = models.ForeignKey(Warehouse, on_delete=models.CASCADE, related_name="reorder_suggestions")
    offer = models.ForeignKey(
        SupplierOffer, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    need = models.IntegerField(help_text="raw need before MOQ and multiples")
    quantity = models.PositiveIntegerField(help_text="what to order; 0: other warehouses have enough")
    reorder_point = models.IntegerField()
    position = models.IntegerField()
    stockout_on = models.DateField(null=True, blank=True)
    reason = models.CharField(max_length=255, help_text="one sentence")
    trace = models.JSONField(default=dict, help_text="every input of the sum")
    order_line = models.OneToOneField(
        PurchaseOrderLine, on_delete=models.SET_NULL, null=True, blank=True, related_name="suggestion"
    )
    snoozed_until = models.DateField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["sku", "warehouse"],
                condition=Q(state__in=["open", "snoozed"]),
                name="reorder_open_once",
            ),
        ]


class TransferOffer(models.Model):
    """Units of a suggestion's SKU that another warehouse can give, so that they need not be bought."""

    suggestion = models.ForeignKey(
        ReorderSuggestion, on_delete=models.CASCADE, related_name="transfer_offers"
    )
    source = models.ForeignKey(Warehouse, on_delete=models.CASCADE, related_name="+")
    quantity = models.PositiveIntegerField(help_text="eaches that can move")
    keeps = models.IntegerField(help_text="position that is left at the source")
    reorder_point = models.IntegerField(help_text="of the source, which it keeps")
    transfer = models.ForeignKey(
        Transfer,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="what was requested of it",
    )

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["suggestion", "source"],
                condition=Q(transfer__isnull=True),
                name="transfer_offer_open_once",
            ),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="transfer_offer_quantity_positive"),
            models.CheckConstraint(
                condition=Q(keeps__gte=F("reorder_point")), name="transfer_offer_keeps_its_point"
            ),
        ]
