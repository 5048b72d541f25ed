"""Boxes, rate cards and surcharges: master data. Shipments and labels change only through services."""

from __future__ import annotations

from django.contrib import admin
from import_export import fields
from import_export.widgets import ForeignKeyWidget

from fulfillment.models import (
    CarrierAccount,
    CarrierService,
    PackageType,
    RateBreak,
    RateCard,
    Surcharge,
    ZoneOverride,
)
from oms.core.admin import MasterDataAdmin
from oms.core.masterfiles import SafeResource


class PackageResource(SafeResource):
    class Meta:
        model = PackageType
        import_id_fields = ("name",)
        exclude = ("id",)
        skip_unchanged = True


class BreakResource(SafeResource):
    """Prices of a card, named by its number."""

    card = fields.Field("card", "card", ForeignKeyWidget(RateCard, "pk"))

    class Meta:
        model = RateBreak
        import_id_fields = ("card", "zone", "up_to_g")
        fields = ("card", "zone", "up_to_g", "price", "per_extra_kg")
        skip_unchanged = True


@admin.register(PackageType)
class PackageAdmin(MasterDataAdmin):
    resource_classes = (PackageResource,)
    list_display = ("name", "length_mm", "width_mm", "height_mm", "tare_g", "max_weight_g", "is_active")
    search_fields = ("name",)


class AccountResource(SafeResource):
    """Accounts without their credentials."""

    class Meta:
        model = CarrierAccount
        import_id_fields = ("code",)
        fields = ("code", "name", "connector", "currency", "preference", "test_mode", "is_active")
        skip_unchanged = True
        clean_model_instances = True


@admin.register(CarrierAccount)
class AccountAdmin(MasterDataAdmin):
    resource_classes = (AccountResource,)
    fields = (
        "code",
        "name",
        "connector",
        "currency",
        "warehouses",
        "preference",
        "config",
        "test_mode",
        "is_active",
    )
    filter_horizontal = ("warehouses",)
    list_display = ("code", "name", "connector", "currency", "preference", "is_active")
    search_fields = ("code", "name")


@admin.register(CarrierService)
class ServiceAdmin(MasterDataAdmin):
    list_display = ("account", "code", "name", "is_active")
    list_select_related = ("account",)
    search_fields = ("code", "name")


@admin.register(RateCard)
class CardAdmin(MasterDataAdmin):
    list_display = ("id", "service", "origin_group", "currency", "valid_from", "valid_to")
    list_select_related = ("service",)
    search_fields = ("service__code", "origin_group")
    autocomplete_fields = ("service",)


@admin.register(RateBreak)
class BreakAdmin(MasterDataAdmin):
    resource_classes = (BreakResource,)
    list_display = ("card", "zone", "up_to_g", "price", "per_extra_kg")
    list_select_related = ("card",)
    search_fields = ("zone",)
    autocomplete_fields = ("card",)


@admin.register(Surcharge)
class SurchargeAdmin(MasterDataAdmin):
    list_display = ("service", "code", "name", "amount", "percent", "valid_from", "valid_to")
    list_select_related = ("service",)
    search_fields = ("code", "name")
    autocomplete_fields = ("service",)


@admin.register(ZoneOverride)
class ZoneAdmin(MasterDataAdmin):
    list_display = ("account", "origin_prefix", "country", "destination_prefix", "zone")
    list_select_related = ("account",)
    search_fields = ("origin_prefix", "destination_prefix")
