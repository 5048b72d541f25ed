"""Data repair by staff. What is a record of the past can be read, never changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from import_export.admin import ImportExportModelAdmin

from oms.core import audit, jobs, models, outbox
from oms.core.actor import actor_of
from oms.core.errors import UserError
from oms.core.masking import secret_name

#: label of a model → the screen that shows one of its rows; the top floor fills it
SCREEN_OF: dict[str, Callable[[Any], str]] = {}


class DeskAdmin(admin.ModelAdmin):
    """What every list and page of the desk shares: no full counts, and a way back to the screen."""

    show_full_result_count = False
    list_per_page = 50

    def get_list_select_related(self, request: HttpRequest) -> Any:
        """The relations that the list shows, unless the class names them."""
        if self.list_select_related:
            return self.list_select_related
        relations = {field.name for field in self.opts.concrete_fields if field.is_relation}
        return [name for name in self.get_list_display(request) if name in relations]

    def view_on_site(self, obj: Model) -> str | None:
        found = SCREEN_OF.get(obj._meta.label)
        return found(obj) if found else None


class ReadOnlyAdmin(DeskAdmin):
    """For ledgers, trails and queues: look, do not touch."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


# --- master data ----------------------------------------------------------------------------------


class MasterDataAdmin(DeskAdmin, ImportExportModelAdmin):
    """Data that people keep: edited here and in files, each change in the audit trail."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        stored = type(obj)._default_manager.filter(pk=obj.pk).first() if change else None
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            names = [name for name in form.changed_data if hasattr(obj, name) and not secret_name(name)]
            audit.record(
                actor_of(request.user),
                "admin.changed" if change else "admin.added",
                obj,
                before={name: _plain(stored, name) for name in names} if stored is not None else None,
                after={name: _plain(obj, name) for name in names},
                via="admin",
            )

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            audit.record(actor_of(request.user), "admin.deleted", obj, via="admin")
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for obj in queryset:
                audit.record(actor_of(request.user), "admin.deleted", obj, via="admin")
            super().delete_queryset(request, queryset)


def _plain(obj: Any, name: str) -> Any:
    value = getattr(obj, name)
    return value if isinstance(value, bool | int | str | None) else str(value)


def each(
    site: admin.ModelAdmin, request: HttpRequest, rows: QuerySet[Any], work: Callable[[Any], Any], word: str
) -> None:
    """Call a service for each chosen row; what it refuses is told, the others go on."""
    done = 0
    for row in rows:
        try:
            work(row)
            done += 1
        except UserError as error:
            site.message_user(request, f"{row}: {error.message}", messages.ERROR)
    if done:
        site.message_user(request, f"{done} {word}.", messages.SUCCESS)


# --- people and the ground floor ------------------------------------------------------------------


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
class MembershipAdmin(DeskAdmin):
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
    actions = ["again", "give_up"]

    @admin.action(description="Try dead news again")
    def again(self, request: HttpRequest, rows: QuerySet[models.OutboxEvent]) -> None:
        each(self, request, rows, lambda row: outbox.revive(row.pk), "tried again")

    @admin.action(description="Give dead news up")
    def give_up(self, request: HttpRequest, rows: QuerySet[models.OutboxEvent]) -> None:
        each(self, request, rows, lambda row: outbox.discard(row.pk), "given up")


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
    actions = ["stop", "go_on"]

    @admin.action(description="Stop after the current rows")
    def stop(self, request: HttpRequest, rows: QuerySet[models.Job]) -> None:
        each(self, request, rows, lambda row: jobs.stop(row.pk, actor=actor_of(request.user)), "stopping")

    @admin.action(description="Go on after the last row done")
    def go_on(self, request: HttpRequest, rows: QuerySet[models.Job]) -> None:
        each(self, request, rows, lambda row: jobs.resume(row.pk, actor=actor_of(request.user)), "going on")


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
