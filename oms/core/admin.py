"""Data repair by staff. What is a record of the past can be read, never changed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest

from oms.core import models


class ReadOnlyAdmin(admin.ModelAdmin):
    """For ledgers, trails and queues: look, do not touch."""

    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class MembershipInline(admin.TabularInline):
    model = models.Membership
    extra = 0
    show_change_link = True


@admin.register(models.User)
class LadingUserAdmin(UserAdmin):
    inlines = [MembershipInline]
    list_display = ["username", "email", "is_active", "is_staff", "last_login"]
    show_full_result_count = False
    fieldsets = (
        *(UserAdmin.fieldsets or ()),
        ("Screen", {"fields": ["time_zone", "density", "theme", "keys_enabled"]}),
    )


class ScopeInline(admin.TabularInline):
    model = models.MembershipScope
    extra = 0


@admin.register(models.Membership)
class MembershipAdmin(admin.ModelAdmin):
    inlines = [ScopeInline]
    list_display = ["user", "role", "created_at"]
    list_filter = ["role"]
    list_select_related = ["user"]
    autocomplete_fields = ["user"]


@admin.register(models.ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    list_display = ["name", "prefix", "user", "expires_at", "last_used_at", "revoked_at"]
    list_select_related = ["user"]
    search_fields = ["name", "prefix"]
    exclude = ["digest"]


@admin.register(models.AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ["at", "actor", "action", "object_label", "via", "address"]
    list_filter = ["via"]
    search_fields = ["=object_id", "actor__startswith", "action__startswith"]
    date_hierarchy = "at"


@admin.register(models.AuditSeal)
class AuditSealAdmin(ReadOnlyAdmin):
    list_display = ["number", "entry_id", "digest"]
    ordering = ["-number"]


@admin.register(models.OutboxEvent)
class OutboxEventAdmin(ReadOnlyAdmin):
    list_display = ["id", "topic", "key", "created_at", "attempts", "next_attempt_at", "dead", "error"]
    list_filter = ["dead", "topic"]


@admin.register(models.ExceptionItem)
class ExceptionItemAdmin(ReadOnlyAdmin):
    list_display = ["title", "kind", "severity", "owner", "seen", "first_at", "closed_at"]
    list_filter = ["kind", "severity"]
    list_select_related = ["owner"]
    search_fields = ["title", "dedup_key__startswith"]


class JobRowInline(admin.TabularInline):
    model = models.JobRow
    extra = 0
    max_num = 0
    can_delete = False
    readonly_fields = ["number", "ok", "subject", "message"]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).filter(ok=False)


@admin.register(models.Job)
class JobAdmin(ReadOnlyAdmin):
    inlines = [JobRowInline]
    list_display = ["id", "kind", "title", "state", "position", "total", "failed", "created_by", "created_at"]
    list_filter = ["state", "kind"]


@admin.register(models.OutboundCall)
class OutboundCallAdmin(ReadOnlyAdmin):
    list_display = ["at", "account", "method", "host", "path", "status", "ms", "failure"]
    list_filter = ["failure"]
    search_fields = ["account__startswith"]


@admin.register(models.IdempotencyRecord)
class IdempotencyRecordAdmin(ReadOnlyAdmin):
    list_display = ["route", "key", "actor", "status", "created_at"]
    search_fields = ["=key"]
    exclude = ["body"]


@admin.register(models.CircuitBreaker, models.TokenBucket, models.Doorbell, models.Periodic, models.Heartbeat)
class StateAdmin(ReadOnlyAdmin):
    pass


@admin.register(models.Setting)
class SettingAdmin(ReadOnlyAdmin):
    list_display = ["key", "value", "updated_at"]
