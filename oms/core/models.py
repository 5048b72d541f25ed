"""The ground floor's tables: people, news, work, trouble and proof."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.utils import timezone

from oms.core.fields import EncryptedJSONField, MoneyAmountField
from oms.core.roles import ROLES


class User(AbstractUser):
    time_zone = models.CharField(max_length=50, blank=True, help_text="empty = the business's zone")
    density = models.CharField(
        max_length=8, choices=[("normal", "Normal"), ("compact", "Compact")], default="normal"
    )
    theme = models.CharField(
        max_length=6, choices=[("auto", "Auto"), ("light", "Light"), ("dark", "Dark")], default="auto"
    )
    keys_enabled = models.BooleanField(default=True)
    hidden_columns = models.JSONField(
        default=dict, blank=True, help_text="screen: the names of the table columns it leaves out"
    )


class SavedView(models.Model):
    """A named filter of a list: private, or shared with everybody or with one role."""

    screen = models.CharField(max_length=40, help_text="name of the list's address, such as orders:list")
    name = models.CharField(max_length=80)
    query = models.CharField(max_length=1000)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="saved_views")
    shared = models.BooleanField(default=False)
    role = models.CharField(
        max_length=12, blank=True, choices=[(key, value[0]) for key, value in ROLES.items()],
        help_text="a shared view is for this role only; empty = everybody",
    )  # fmt: skip
    pinned = models.BooleanField(default=True, help_text="stands among the tabs of the list")
    position = models.PositiveSmallIntegerField(default=100)

    class Meta:
        ordering = ["position", "name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["screen", "owner", "name"], name="list_view_once"),
            models.UniqueConstraint(
                fields=["screen", "name"], condition=Q(shared=True), name="list_view_shared_once"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A role of a user, limited to the warehouses and channels named by its scopes (none named = all)."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=[(key, value[0]) for key, value in ROLES.items()])
    created_at = models.DateTimeField(default=timezone.now, editable=False)


class MembershipScope(models.Model):
    class Kind(models.TextChoices):
        WAREHOUSE = "warehouse", "Warehouse"
        CHANNEL = "channel", "Channel"

    membership = models.ForeignKey(Membership, on_delete=models.CASCADE, related_name="scopes")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    code = models.CharField(max_length=40)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["membership", "kind", "code"], name="membership_scope_once")
        ]


class ApiToken(models.Model):
    """`oms_<prefix>_<secret>`; only the SHA-256 of the 256-bit secret is kept, shown once."""

    name = models.CharField(max_length=80)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    prefix = models.CharField(max_length=8, unique=True)
    digest = models.CharField(max_length=64)
    scopes = models.JSONField(default=list)
    warehouses = models.JSONField(default=list, blank=True, help_text="warehouse codes; empty = all")
    channels = models.JSONField(default=list, blank=True, help_text="channel codes; empty = all")
    networks = models.JSONField(
        default=list, blank=True, help_text="allowed networks in CIDR form; empty = any"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def __str__(self) -> str:
        return self.name


class OutboxEvent(models.Model):
    """News for the floors above, written in the transaction that made it. Removed once it is handled."""

    id = models.BigAutoField(primary_key=True)
    topic = models.CharField(max_length=40)
    key = models.CharField(max_length=80)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=400, blank=True)
    dead = models.BooleanField(default=False)

    class Meta:
        indexes = [models.Index(fields=["id"], condition=Q(dead=False), name="outbox_due_idx")]


class Doorbell(models.Model):
    """At most one waiting task per (task, subject): ringing twice is ringing once."""

    task = models.CharField(max_length=120)
    subject = models.CharField(max_length=80, blank=True)
    rung_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "subject"], name="doorbell_once")]


class Periodic(models.Model):
    """When each declared periodic task is due next; declared in code, kept here."""

    task = models.CharField(max_length=120, primary_key=True)
    every_seconds = models.PositiveIntegerField()
    next_run_at = models.DateTimeField()
    last_run_at = models.DateTimeField(null=True, blank=True)


class Heartbeat(models.Model):
    name = models.CharField(max_length=40, primary_key=True)
    at = models.DateTimeField()
    info = models.JSONField(default=dict)


class Job(models.Model):
    """Work that takes longer than a click: progress, result per row, can be stopped and resumed."""

    class State(models.TextChoices):
        QUEUED = "queued", "Waiting"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        STOPPED = "stopped", "Stopped"

    kind = models.CharField(max_length=40)
    title = models.CharField(max_length=160)
    params = models.JSONField(default=dict)
    state = models.CharField(max_length=8, choices=State.choices, default=State.QUEUED)
    total = models.PositiveIntegerField(null=True, blank=True)
    position = models.PositiveIntegerField(default=0, help_text="rows done; a resumed job goes on from here")
    ok = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    message = models.CharField(max_length=400, blank=True)
    result = models.JSONField(default=dict)
    stop_asked = models.BooleanField(default=False)
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    interruptions = models.PositiveSmallIntegerField(
        default=0,
        db_default=0,
        help_text="times in a row that its worker died or lost the database before a row was done",
    )

    class Meta:
        ordering = ["-id"]


class JobRow(models.Model):
    """What happened to one item of a job."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="rows")
    number = models.PositiveIntegerField()
    ok = models.BooleanField()
    subject = models.CharField(max_length=80, blank=True)
    message = models.CharField(max_length=400, blank=True)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="job_row_once")]


class IdempotencyRecord(models.Model):
    """The stored answer to a POST with an Idempotency-Key; one record, one effect."""

    actor = models.CharField(max_length=120)
    route = models.CharField(max_length=200, help_text="method and path")
    key = models.CharField(max_length=120)
    digest = models.CharField(max_length=64, help_text="SHA-256 of the request body")
    status = models.PositiveSmallIntegerField(null=True, blank=True, help_text="empty while it runs")
    body = EncryptedJSONField(null=True, blank=True, help_text="may hold buyers' data, or a new secret")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["actor", "route", "key"], name="idempotency_once")]


class AuditEntry(models.Model):
    """Who did what, before and after. Append-only; the chain of seals makes tampering visible."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=120)
    action = models.CharField(max_length=60)
    object_type = models.CharField(max_length=60, blank=True)
    object_id = models.CharField(max_length=60, blank=True)
    object_label = models.CharField(max_length=160, blank=True)
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField(null=True, blank=True)
    via = models.CharField(max_length=20, blank=True, help_text="ui, api, admin, import, task")
    address = models.CharField(max_length=45, blank=True)
    request_id = models.CharField(max_length=36, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=["object_type", "object_id"], name="audit_object_idx"),
            models.Index(fields=["at"], name="audit_at_idx"),
        ]


class AuditSeal(models.Model):
    """h(n) = HMAC(key, h(n−1) ‖ canonical(row n)); written by the dispatcher within a second."""

    number = models.BigIntegerField(primary_key=True)
    entry = models.OneToOneField(AuditEntry, on_delete=models.PROTECT, related_name="seal")
    digest = models.CharField(max_length=64)


class ExceptionItem(models.Model):
    """Something only a person can mend. One open item per cause; closes itself when the cause is gone."""

    class Severity(models.IntegerChoices):
        URGENT = 1, "Urgent"
        HIGH = 2, "High"
        NORMAL = 3, "Normal"

    kind = models.CharField(max_length=40)
    dedup_key = models.CharField(max_length=160)
    title = models.CharField(max_length=200)
    detail = models.CharField(max_length=600, blank=True)
    severity = models.PositiveSmallIntegerField(choices=Severity.choices, default=Severity.NORMAL)
    url = models.CharField(max_length=200, blank=True, help_text="the screen where it can be mended")
    warehouse_code = models.CharField(max_length=20, blank=True)
    channel_code = models.CharField(max_length=40, blank=True)
    money = MoneyAmountField(null=True, blank=True, help_text="at stake, business currency")
    due_at = models.DateTimeField(null=True, blank=True)
    seen = models.PositiveIntegerField(default=1, help_text="how often the cause was met")
    first_at = models.DateTimeField(default=timezone.now)
    last_at = models.DateTimeField(default=timezone.now)
    owner = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    snoozed_until = models.DateTimeField(null=True, blank=True)
    snooze_reason = models.CharField(max_length=160, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=120, blank=True)
    close_reason = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["severity", "first_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["dedup_key"], condition=Q(closed_at__isnull=True), name="exception_open_once"
            ),
        ]
        indexes = [
            models.Index(
                fields=["kind", "severity"], condition=Q(closed_at__isnull=True), name="exception_open_idx"
            ),
        ]


class OutboundCall(models.Model):
    """Journal of every request that left the house, secrets masked."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(default=timezone.now)
    account = models.CharField(max_length=60, blank=True)
    method = models.CharField(max_length=7)
    host = models.CharField(max_length=120)
    path = models.CharField(max_length=300)
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    ms = models.PositiveIntegerField(default=0)
    failure = models.CharField(max_length=20, blank=True)
    request = models.TextField(blank=True)
    answer = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["account", "-id"], name="outbound_account_idx")]


class CircuitBreaker(models.Model):
    """Per account: opens after repeated failures so that a dead channel costs nothing."""

    key = models.CharField(max_length=80, primary_key=True)
    failures = models.PositiveIntegerField(default=0, help_text="in a row")
    window_started_at = models.DateTimeField(null=True, blank=True)
    window_calls = models.PositiveIntegerField(default=0)
    window_failures = models.PositiveIntegerField(default=0)
    open_until = models.DateTimeField(null=True, blank=True)
    times_opened = models.PositiveSmallIntegerField(default=0, help_text="in a row; doubles the pause")
    blocked = models.BooleanField(default=False, help_text="refused credentials: open until they change")
    reason = models.CharField(max_length=200, blank=True)


class TokenBucket(models.Model):
    """Rate budget per account and endpoint class, shared by all processes."""

    key = models.CharField(max_length=120, primary_key=True)
    tokens = models.FloatField()
    per_second = models.FloatField()
    burst = models.FloatField()
    paused_until = models.DateTimeField(null=True, blank=True, help_text="the other side asked us to wait")
    updated_at = models.DateTimeField()


class Setting(models.Model):
    """One business setting; known names and defaults stand in `oms.core.business`."""

    key = models.CharField(max_length=60, primary_key=True)
    value = models.JSONField()
    updated_at = models.DateTimeField(auto_now=True)


class FormKey(models.Model):
    """One-time key of a submitted form: a double click creates one thing."""

    key = models.UUIDField(primary_key=True, default=uuid.uuid4)
    result = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
