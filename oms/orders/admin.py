"""Orders and channels in the admin: to look at and, for channels, to set up. Orders change only through services."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from oms.core.actor import actor_of
from oms.core.admin import MasterDataAdmin, ReadOnlyAdmin
from oms.core.masterfiles import SafeResource
from oms.orders.models import ChannelWarehouse, FxRate, Hold, Order, OrderEvent, OrderLine, SalesChannel
from oms.orders.serving import Serves, set_serving


class LineInline(admin.TabularInline):
    model = OrderLine
    can_delete = False
    extra = 0
    fields = ("sku", "external_sku", "quantity", "reserved", "shipped", "cancelled", "short", "unit_price")
    readonly_fields = fields


class HoldInline(admin.TabularInline):
    model = Hold
    can_delete = False
    extra = 0
    readonly_fields = (
        "line",
        "reason",
        "note",
        "placed_by",
        "placed_at",
        "expires_at",
        "released_at",
        "released_by",
    )


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    list_display = ("number", "channel", "state", "placed_at", "ship_by", "total", "currency")
    list_filter = ("state", "channel")
    list_select_related = ("channel",)
    search_fields = ("=external_id", "=external_number")
    date_hierarchy = "placed_at"
    inlines = (LineInline, HoldInline)


@admin.register(OrderEvent)
class OrderEventAdmin(ReadOnlyAdmin):
    list_display = ("at", "order_id", "kind", "text", "actor")
    search_fields = ("=order__external_id",)


class WarehouseInline(admin.TabularInline):
    model = ChannelWarehouse
    extra = 0


@admin.register(SalesChannel)
class SalesChannelAdmin(MasterDataAdmin):
    list_display = ("code", "name", "kind", "currency", "handling_days", "hold_minutes", "is_active")
    inlines = (WarehouseInline,)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """The map of warehouses changes through its service, so that the channel is told."""
        formset.save(commit=False)
        wanted = {row.warehouse_id: Serves(False, False) for row in formset.deleted_objects}
        for row, fields in formset.changed_objects:
            if "warehouse" in fields:  # the place that the row named before serves no more
                before = ChannelWarehouse.objects.values_list("warehouse", flat=True).get(pk=row.pk)
                wanted.setdefault(before, Serves(False, False))
        for row in [*(row for row, _ in formset.changed_objects), *formset.new_objects]:
            wanted[row.warehouse_id] = Serves(row.publishes, row.fulfils, row.rank)
        set_serving(form.instance.pk, wanted, actor=actor_of(request.user))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class FxRateResource(SafeResource):
    class Meta:
        model = FxRate
        import_id_fields = ("currency", "day")
        fields = ("currency", "day", "rate")
        skip_unchanged = True


@admin.register(FxRate)
class FxRateAdmin(MasterDataAdmin):
    resource_classes = (FxRateResource,)
    list_display = ("currency", "day", "rate")
    list_filter = ("currency",)
