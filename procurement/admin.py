"""Suppliers, what they offer and how much is kept: master data. Purchase orders change only through services."""

from __future__ import annotations

from django.contrib import admin
from import_export import fields
from import_export.widgets import ForeignKeyWidget

from inventory.models import Sku, Warehouse
from oms.core.admin import MasterDataAdmin
from oms.core.masterfiles import SafeResource
from procurement.models import OfferBreak, ReplenishmentSetting, Supplier, SupplierOffer


class SupplierResource(SafeResource):
    class Meta:
        model = Supplier
        import_id_fields = ("code",)
        exclude = ("id",)
        skip_unchanged = True


class OfferResource(SafeResource):
    """One row per supplier and SKU, both by code."""

    supplier = fields.Field("supplier", "supplier", ForeignKeyWidget(Supplier, "code"))
    sku = fields.Field("sku", "sku", ForeignKeyWidget(Sku, "code"))

    class Meta:
        model = SupplierOffer
        import_id_fields = ("supplier", "sku")
        exclude = ("id",)
        skip_unchanged = True


class ReplenishmentResource(SafeResource):
    sku = fields.Field("sku", "sku", ForeignKeyWidget(Sku, "code"))
    warehouse = fields.Field("warehouse", "warehouse", ForeignKeyWidget(Warehouse, "code"))

    class Meta:
        model = ReplenishmentSetting
        import_id_fields = ("sku", "warehouse")
        exclude = ("id",)
        skip_unchanged = True


@admin.register(Supplier)
class SupplierAdmin(MasterDataAdmin):
    resource_classes = (SupplierResource,)
    list_display = ("code", "name", "currency", "lead_time_days", "country", "is_active")
    list_filter = ("is_active",)
    search_fields = ("code", "name")


class BreakInline(admin.TabularInline):
    model = OfferBreak
    extra = 0


@admin.register(SupplierOffer)
class OfferAdmin(MasterDataAdmin):
    resource_classes = (OfferResource,)
    list_display = (
        "supplier",
        "sku",
        "supplier_sku",
        "price",
        "currency",
        "moq",
        "order_multiple",
        "is_active",
    )
    list_filter = ("supplier", "is_active")
    list_select_related = ("supplier", "sku")
    search_fields = ("sku__code", "supplier_sku", "supplier__code")
    autocomplete_fields = ("supplier", "sku")
    inlines = (BreakInline,)


@admin.register(ReplenishmentSetting)
class ReplenishmentAdmin(MasterDataAdmin):
    resource_classes = (ReplenishmentResource,)
    list_display = ("sku", "warehouse", "service_level", "cover_days", "min_stock", "max_stock", "is_paused")
    list_filter = ("warehouse", "is_paused")
    list_select_related = ("sku", "warehouse")
    search_fields = ("sku__code",)
    autocomplete_fields = ("sku", "warehouse")
