"""Top floor: files brought in by people."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from oms.core.models import Job


class ImportFile(models.Model):
    """A file on its way in: kept with its hash, checked row by row before anything is written."""

    class Kind(models.TextChoices):
        ORDERS = "orders", "Orders"
        STOCK = "stock", "Stock"
        PURCHASE_ORDERS = "purchase_orders", "Purchase orders"

    class State(models.TextChoices):
        UPLOADED = "uploaded", "Uploaded"
        CHECKED = "checked", "Checked"
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
