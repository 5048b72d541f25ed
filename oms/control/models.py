"""Top floor: files brought in by people."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from inventory.models import StockBatch
from oms.core.fields import EncryptedTextField
from oms.core.models import Job, SavedView, User


class ImportFile(models.Model):
    """A file on its way in: kept with its hash, checked row by row before anything is written."""

    class Kind(models.TextChoices):
        ORDERS = "orders", "Orders"
        STOCK = "stock", "Stock"
        PURCHASE_ORDERS = "purchase_orders", "Purchase orders"

    class State(models.TextChoices):
        UPLOADED = "uploaded", "Uploaded"
        CHECKED = "checked", "Checked"
        WAITING = "waiting", "Waits for approval"
        APPLYING = "applying", "Being applied"
        APPLIED = "applied", "Applied"
        STOPPED = "stopped", "Stopped"
        UNDONE = "undone", "Undone"

    kind = models.CharField(max_length=16, choices=Kind.choices)
    profile = models.CharField(max_length=40, help_text="detected shape of the file")
    name = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64, db_index=True)
    size = models.PositiveBigIntegerField()
    stored = models.FileField(upload_to="imports/%Y/%m/", null=True, blank=True)
    options = models.JSONField(default=dict, help_text="channel, mode set|add, mapping …")
    state = models.CharField(max_length=10, choices=State.choices, default=State.UPLOADED)
    rows = models.PositiveIntegerField(default=0)
    counts = models.JSONField(default=dict, help_text="change, same, error, skipped")
    job = models.ForeignKey(Job, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    batch = models.ForeignKey(
        StockBatch, on_delete=models.SET_NULL, null=True, blank=True, related_name="+",
        help_text="what a second person is asked, or was asked last: to apply or to undo it",
    )  # fmt: skip
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now)
    applied_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]


class ImportRow(models.Model):
    """Only rows that need eyes are kept: errors and warnings, with the raw values and the sentence."""

    file = models.ForeignKey(ImportFile, on_delete=models.CASCADE, related_name="problem_rows")
    number = models.PositiveIntegerField(help_text="line of the file, the header is 1")
    level = models.CharField(max_length=8, default="error", help_text="error or note")
    column = models.CharField(max_length=80, blank=True)
    message = models.CharField(max_length=400)
    raw = models.JSONField(default=dict)

    class Meta:
        ordering = ["number", "id"]
        indexes = [models.Index(fields=["file", "number"], name="import_row_idx")]


class ImportMapping(models.Model):
    """Which column of a file means which of our fields, remembered for the next file with the same headers."""

    kind = models.CharField(max_length=16, choices=ImportFile.Kind.choices)
    headers = models.CharField(max_length=64, help_text="SHA-256 of the normalised headers in order")
    profile = models.CharField(max_length=40)
    columns = models.JSONField(default=dict, help_text="our field: the file's header")
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "headers"], name="import_mapping_once")]


class KpiDay(models.Model):
    """What counted for a figure on one business day (or, rolled up further, in one month) at one place.

    `data` is an `oms.core.figures.Tally`; places are codes, empty where the figure knows none, so that a year is read
    from a few hundred rows however many orders it had.
    """

    class Grain(models.TextChoices):
        DAY = "day", "Day"
        MONTH = "month", "Month"

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=10, help_text="name of what is counted, see oms.control.kpis.rollup")
    grain = models.CharField(max_length=5, choices=Grain.choices)
    day = models.DateField(help_text="business day; of a month its first")
    channel = models.CharField(max_length=40, blank=True)
    warehouse = models.CharField(max_length=20, blank=True)
    data = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["source", "grain", "day", "channel", "warehouse"], name="kpi_day_once"
            ),
        ]


class KpiClose(models.Model):
    """When a day of a source was last counted, and whether it changed after it was closed."""

    source = models.CharField(max_length=10)
    day = models.DateField()
    digest = models.CharField(max_length=64, help_text="SHA-256 over the day's tallies")
    computed_at = models.DateTimeField()
    closed_at = models.DateTimeField(
        null=True, help_text="counted after the day could still change by itself"
    )
    restated_at = models.DateTimeField(null=True, help_text="late data changed it after it was closed")
    restatements = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "day"], name="kpi_close_once")]
        indexes = [
            models.Index(fields=["source", "computed_at"], name="kpi_close_oldest_idx"),
            models.Index(
                fields=["source", "day"],
                condition=Q(restated_at__isnull=False),
                name="kpi_close_restated_idx",
            ),
        ]


class WebhookEndpoint(models.Model):
    """Where another program wants to hear of events; signed as Standard Webhooks 1.0.0 asks."""

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        PAUSED = "paused", "Paused"
        DISABLED = "disabled", "Gave up"

    url = models.CharField(max_length=500)
    description = models.CharField(max_length=120, blank=True)
    events = models.JSONField(default=list, help_text="types it wants to hear of")
    secret = EncryptedTextField()
    old_secret = EncryptedTextField(null=True, blank=True)
    old_secret_until = models.DateTimeField(
        null=True, blank=True, help_text="until then the old secret signs as well"
    )
    state = models.CharField(max_length=8, choices=State.choices, default=State.ACTIVE)
    why = models.CharField(max_length=300, blank=True, help_text="why it is not active")
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.url


class WebhookEvent(models.Model):
    """Something that happened, as it is told: the same id and body to everybody, however often it is sent."""

    id = models.BigAutoField(primary_key=True)
    uid = models.CharField(max_length=40, unique=True, help_text="the webhook-id")
    type = models.CharField(max_length=40)
    subject = models.CharField(max_length=80, help_text="the object: events of one are told in order")
    occurred_at = models.DateTimeField()
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["occurred_at"], name="webhook_event_at_idx")]

    def __str__(self) -> str:
        return f"{self.type} {self.uid}"


class WebhookDelivery(models.Model):
    """One event on its way to one endpoint."""

    class State(models.TextChoices):
        PENDING = "pending", "On its way"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Gave up"

    id = models.BigAutoField(primary_key=True)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(WebhookEvent, on_delete=models.CASCADE, related_name="deliveries")
    subject = models.CharField(max_length=80)
    state = models.CharField(max_length=9, choices=State.choices, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="since it was last put on its way")
    next_attempt_at = models.DateTimeField(default=timezone.now)
    lease_until = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=400, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "webhook deliveries"
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "event"], name="webhook_delivery_once"),
        ]
        indexes = [
            models.Index(
                fields=["endpoint", "next_attempt_at"], condition=Q(state="pending"), name="webhook_due_idx"
            ),
            models.Index(
                fields=["endpoint", "subject", "event"],
                condition=Q(state="pending"),
                name="webhook_order_idx",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.endpoint_id}"


class WebhookAttempt(models.Model):
    """What was sent once, and what came back."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="tries")
    at = models.DateTimeField(default=timezone.now)
    ms = models.PositiveIntegerField(default=0)
    status = models.PositiveSmallIntegerField(null=True, blank=True, help_text="empty when no answer came")
    request = models.TextField(blank=True, help_text="headers and body as sent")
    answer = models.TextField(blank=True)
    error = models.CharField(max_length=400, blank=True)

    class Meta:
        ordering = ["id"]


class ScheduledExport(models.Model):
    """A saved view that is written as a file, daily or weekly at a time of the business's zone."""

    class Every(models.TextChoices):
        DAILY = "daily", "Every day"
        WEEKLY = "weekly", "Every week"

    view = models.ForeignKey(SavedView, on_delete=models.CASCADE, related_name="exports")
    owner = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="+", help_text="the file holds what this person may see"
    )
    every = models.CharField(max_length=6, choices=Every.choices)
    weekday = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Monday is 0")
    at = models.TimeField(help_text="on the clock of the business's zone")
    mail_to = models.JSONField(default=list, blank=True)
    paused = models.BooleanField(default=False)
    next_run_at = models.DateTimeField()
    last_run_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(every="daily", weekday__isnull=True) | Q(every="weekly", weekday__lte=6),
                name="export_weekday_fits",
            )
        ]
        indexes = [
            models.Index(fields=["next_run_at"], condition=Q(paused=False), name="export_due_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.view.name} ({self.get_every_display().lower()})"


class ExportFile(models.Model):
    """One run of a scheduled export, and what came of it."""

    class State(models.TextChoices):
        PLANNED = "planned", "Waits"
        RUNNING = "running", "Being written"
        DONE = "done", "Ready"
        FAILED = "failed", "Failed"

    class Mail(models.TextChoices):
        NONE = "", "Not mailed"
        SENDING = "sending", "Being mailed"
        SENT = "sent", "Mailed"
        FAILED = "failed", "Mail failed"
        UNKNOWN = "unknown", "Maybe mailed"

    export = models.ForeignKey(ScheduledExport, on_delete=models.CASCADE, related_name="files")
    due_at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.PLANNED)
    mail_state = models.CharField(max_length=8, choices=Mail.choices, default=Mail.NONE, blank=True)
    content = models.BinaryField(null=True, help_text="the CSV, gzip")
    rows = models.PositiveIntegerField(default=0)
    size = models.PositiveBigIntegerField(default=0, help_text="bytes of the CSV")
    attempts = models.PositiveSmallIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    message = models.CharField(max_length=400, blank=True)

    class Meta:
        ordering = ["-due_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["export", "due_at"], name="export_file_once"),
        ]
        indexes = [
            models.Index(
                fields=["due_at", "id"],
                condition=Q(state__in=["planned", "running"]),
                name="export_file_open_idx",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.export} of {self.due_at:%Y-%m-%d %H:%M}"
