"""Channels in the admin: to look at and repair. Secrets are never shown; figures change only through services."""

from __future__ import annotations

from django.contrib import admin

from channels.models import (
    BulkPush,
    ChannelAccount,
    ChannelEffect,
    ChannelFile,
    Drift,
    InboxMessage,
    Listing,
    LocationMap,
    StockPush,
)
from oms.core.admin import ReadOnlyAdmin


class LocationInline(admin.TabularInline):
    model = LocationMap
    extra = 0
    can_delete = False
    readonly_fields = ("warehouse", "external_id", "name")


@admin.register(ChannelAccount)
class AccountAdmin(ReadOnlyAdmin):
    list_display = ("sales_channel", "connector", "state", "last_order_at", "last_push_at")
    list_filter = ("connector", "state")
    exclude = ("credentials", "tokens", "hook_key")
    inlines = (LocationInline,)


@admin.register(Listing)
class ListingAdmin(ReadOnlyAdmin):
    list_display = ("external_sku", "account", "sku", "state", "acked_quantity", "stale_since", "dead")
    list_filter = ("account", "state", "fulfilment", "dead")
    search_fields = ("external_sku", "external_id", "sku__code")
    list_select_related = ("account__sales_channel", "sku")


@admin.register(StockPush)
class PushAdmin(ReadOnlyAdmin):
    list_display = ("id", "listing", "quantity", "state", "latency_ms", "answered_at")
    list_filter = ("state",)
    raw_id_fields = ("listing",)


@admin.register(InboxMessage)
class InboxAdmin(ReadOnlyAdmin):
    list_display = ("id", "account", "topic", "external_id", "state", "attempts", "received_at")
    list_filter = ("account", "state", "topic")
    search_fields = ("external_id", "delivery_id")
    exclude = ("body",)


@admin.register(ChannelFile)
class FileAdmin(ReadOnlyAdmin):
    list_display = ("name", "account", "kind", "rows", "taken", "refused", "created_at")
    list_filter = ("account", "kind")
    search_fields = ("name",)


@admin.register(ChannelEffect)
class EffectAdmin(ReadOnlyAdmin):
    list_display = ("reference", "kind", "account", "state", "attempts", "sent_at", "confirmed_at")
    list_filter = ("kind", "state", "account")
    search_fields = ("reference", "key", "external_id")
    exclude = ("payload",)


@admin.register(Drift)
class DriftAdmin(ReadOnlyAdmin):
    list_display = ("listing", "ours", "theirs", "cause", "found_at", "closed_at")
    list_filter = ("cause",)


@admin.register(BulkPush)
class BulkAdmin(ReadOnlyAdmin):
    list_display = ("id", "account", "handle", "state", "created_at", "finished_at")
    list_filter = ("state",)
