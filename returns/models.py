"""Stage 6: goods that come back and money that goes back, as two separate machines.

Nothing becomes sellable before an inspector says so: received units lie in quarantine, and only a
disposition of `restock` moves them to available stock.
"""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Upper
from django.utils import timezone

from inventory.models import SerialUnit, Sku, Warehouse
from oms.core.fields import CurrencyField, MoneyAmountField
from oms.orders.models import Order, OrderLine


class ReturnReason(models.Model):
    code = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    our_fault = models.BooleanField(default=False, help_text="counts as a fulfilment error in order accuracy")
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Rma(models.Model):
    class State(models.TextChoices):
        REQUESTED = "requested", "Requested"
        APPROVED = "approved", "Approved, on its way"
        PART_RECEIVED = "part_received", "Partly received"
        RECEIVED = "received", "Arrived, waiting for inspection"
        INSPECTED = "inspected", "Inspected"
        CLOSED = "closed", "Closed"
        DECLINED = "declined", "Declined"

    order = models.ForeignKey(
        Order,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="rmas",
        help_text="empty for a parcel that came back without notice",
    )
    warehouse = models.ForeignKey(Warehouse, on_delete=models.PROTECT, related_name="rmas")
    external_id = models.CharField(max_length=80, blank=True, help_text="the channel's return id")
    state = models.CharField(max_length=14, choices=State.choices, default=State.REQUESTED)
    source = models.CharField(max_length=10, default="staff", help_text="staff, channel, api")
    tracking_number = models.CharField(max_length=80, blank=True)
    note = models.TextField(blank=True)
    requested_at = models.DateTimeField(default=timezone.now)
    received_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    created_by = models.CharField(max_length=120)
    version = models.PositiveIntegerField(default=1)
    updated_at = models.DateTimeField(
        default=timezone.now, editable=False, help_text="last change; the database keeps it"
    )

    class Meta:
        ordering = ["-id"]
        verbose_name = "RMA"
        constraints = [
            models.UniqueConstraint(
                fields=["order", "external_id"], condition=~Q(external_id=""), name="rma_external_once"
            ),
        ]
        indexes = [
            models.Index(fields=["state", "-id"], name="rma_state_idx"),
            models.Index(fields=["updated_at", "id"], name="rma_updated_idx"),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        return f"RMA-{self.pk}"


class RmaLine(models.Model):
    """Has it arrived (`received`) and what became of it (`Disposition`) are separate questions."""

    rma = models.ForeignKey(Rma, on_delete=models.CASCADE, related_name="lines")
    order_line = models.ForeignKey(
        OrderLine, on_delete=models.PROTECT, null=True, blank=True, related_name="rma_lines"
    )
    sku = models.ForeignKey(Sku, on_delete=models.PROTECT, related_name="+")
    quantity = models.PositiveIntegerField(help_text="expected")
    received = models.PositiveIntegerField(default=0)
    disposed = models.PositiveIntegerField(default=0, help_text="units that have a disposition")
    reason = models.ForeignKey(
        ReturnReason, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    comment = models.CharField(max_length=255, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(received__gte=F("disposed")), name="rma_line_disposed_within"),
        ]


class ReturnReceipt(models.Model):
    """Units of an RMA line that arrived; the key makes a repeated scan count once."""

    line = models.ForeignKey(RmaLine, on_delete=models.CASCADE, related_name="receipts")
    quantity = models.PositiveIntegerField()
    key = models.CharField(max_length=80, unique=True)
    received_at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=120)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(quantity__gt=0), name="return_receipt_positive")]


class Disposition(models.Model):
    """An inspector's decision on some units of a returned line; the key makes it post once."""

    class Outcome(models.TextChoices):
        RESTOCK = "restock", "Restock as new"
        OPEN_BOX = "open_box", "Restock as another SKU"
        REFURBISH = "refurbish", "Refurbish"
        RETURN_TO_VENDOR = "rtv", "Return to vendor"
        SCRAP = "scrap", "Scrap"
        SEND_BACK = "send_back", "Send back to the buyer"

    class Condition(models.TextChoices):
        NEW = "new", "New"
        OPENED = "opened", "Open box"
        DAMAGED = "damaged", "Damaged"
        WRONG_ITEM = "wrong_item", "Wrong item"

    line = models.ForeignKey(RmaLine, on_delete=models.CASCADE, related_name="dispositions")
    quantity = models.PositiveIntegerField()
    condition = models.CharField(max_length=12, choices=Condition.choices)
    outcome = models.CharField(max_length=12, choices=Outcome.choices)
    target_sku = models.ForeignKey(Sku, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    note = models.CharField(max_length=255, blank=True)
    key = models.CharField(max_length=80, unique=True)
    inspected_at = models.DateTimeField(default=timezone.now)
    inspector = models.CharField(max_length=120)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(quantity__gt=0), name="disposition_positive"),
            models.CheckConstraint(
                condition=~Q(outcome="open_box") | Q(target_sku__isnull=False),
                name="disposition_open_box_has_sku",
            ),
        ]


class ReturnedSerial(models.Model):
    """A number read off a returned unit, and whether it is one that left with the order."""

    line = models.ForeignKey(RmaLine, on_delete=models.CASCADE, related_name="serials")
    serial = models.CharField(max_length=60)
    unit = models.ForeignKey(
        SerialUnit,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="returns",
        help_text="empty when no unit of that number ever left us",
    )
    expected = models.BooleanField(default=True, help_text="it left with this order")
    reason = models.CharField(max_length=255, blank=True, help_text="why another number was taken in")
    disposition = models.ForeignKey(
        Disposition, on_delete=models.PROTECT, null=True, blank=True, related_name="serials"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint("line", Upper("serial"), name="returned_serial_once"),
            models.CheckConstraint(
                condition=Q(expected=True, unit__isnull=False) | Q(expected=False) & ~Q(reason=""),
                name="returned_serial_explained",
            ),
        ]

    def __str__(self) -> str:
        return self.serial


class Refund(models.Model):
    """Money back to the buyer. It never moves goods; a timeout leaves it in doubt, never sent twice."""

    class State(models.TextChoices):
        DRAFT = "draft", "Draft"
        PLANNED = "planned", "To be sent"
        SENT = "sent", "Sent"
        IN_DOUBT = "in_doubt", "In doubt"
        CONFIRMED = "confirmed", "Confirmed by the channel"
        REJECTED = "rejected", "Rejected by the channel"

    LIVE = ("planned", "sent", "in_doubt", "confirmed")

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="refunds")
    rma = models.ForeignKey(Rma, on_delete=models.PROTECT, null=True, blank=True, related_name="refunds")
    key = models.UUIDField(default=uuid.uuid4, unique=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PLANNED)
    currency = CurrencyField()
    amount = MoneyAmountField(help_text="sum of its lines plus shipping minus fee")
    shipping = MoneyAmountField(default=0)
    restocking_fee = MoneyAmountField(default=0)
    reason = models.CharField(max_length=120, blank=True)
    external_id = models.CharField(max_length=80, blank=True)
    error = models.CharField(max_length=400, blank=True)
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now)
    confirmed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.CheckConstraint(condition=Q(amount__gt=0), name="refund_amount_positive")]

    @property
    def number(self) -> str:
        return f"RF-{self.pk}"


class RefundLine(models.Model):
    refund = models.ForeignKey(Refund, on_delete=models.CASCADE, related_name="lines")
    order_line = models.ForeignKey(OrderLine, on_delete=models.PROTECT, related_name="refund_lines")
    quantity = models.PositiveIntegerField(default=0)
    amount = MoneyAmountField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["refund", "order_line"], name="refund_line_once"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="refund_line_not_negative"),
        ]
