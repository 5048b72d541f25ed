"""Master data is edited here; balances are only looked at, and mended by posting a correction."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from inventory import operations, selectors, tariff
from inventory.ledger import Kind
from inventory.models import (
    AdjustmentLimit,
    AdjustmentReason,
    AdjustmentRequest,
    Bin,
    KitComponent,
    Lot,
    Product,
    Reservation,
    RingFence,
    Sku,
    SkuAlias,
    SkuPack,
    StockBatch,
    StockLevel,
    StockMovement,
    Transfer,
    TransferLine,
    Warehouse,
    WarehouseClosure,
    WarehouseHours,
)
from inventory.resources import AliasResource, BinResource, ProductResource, SkuResource, WarehouseResource
from oms.core.access import can
from oms.core.actor import actor_of
from oms.core.admin import MasterDataAdmin, ReadOnlyAdmin
from oms.core.errors import UserError
from oms.core.screens import form_key, new_form_key

# --- master data ----------------------------------------------------------------------------------


class UniqueCodeForm(forms.ModelForm):
    """A code or alias must not find another SKU already."""

    field = "code"

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        value = str(cleaned.get(self.field) or "").strip()
        known = selectors.resolve_codes([value]).get(value) if value else None
        owner = self.instance.pk if isinstance(self.instance, Sku) else self.instance.sku_id
        if known is not None and known.pk != owner:
            self.add_error(self.field, f"'{value}' already finds {known.code}; choose another.")
        return cleaned


class AliasForm(UniqueCodeForm):
    field = "value"

    class Meta:
        model = SkuAlias
        fields = ("kind", "value")


class AliasInline(admin.TabularInline):
    model = SkuAlias
    form = AliasForm
    extra = 0


class PackInline(admin.TabularInline):
    model = SkuPack
    extra = 0


class ComponentInline(admin.TabularInline):
    """Shown only: contents change through `kits.set_components`, which refuses cycles and tells the channels."""

    model = KitComponent
    fk_name = "kit"
    extra = 0
    can_delete = False
    readonly_fields = ("component", "quantity")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class SkuForm(UniqueCodeForm):
    """Customs data is checked where it changes: what an older version took stays readable."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        for name, check in (("hs_code", tariff.hs_code), ("origin_country", tariff.origin_country)):
            if name in self.changed_data:
                try:
                    cleaned[name] = check(cleaned.get(name) or "")
                except UserError as error:
                    self.add_error(name, error.message.partition(": ")[2])
        return cleaned


class SkuInline(admin.TabularInline):
    model = Sku
    extra = 0
    fields = ("code", "title", "kind", "price", "currency", "is_active")
    show_change_link = True


@admin.register(Product)
class ProductAdmin(MasterDataAdmin):
    resource_classes = (ProductResource,)
    list_display = ("title", "brand", "category", "is_active")
    list_filter = ("is_active",)
    search_fields = ("title", "brand", "skus__code")
    inlines = (SkuInline,)


@admin.register(Sku)
class SkuAdmin(MasterDataAdmin):
    resource_classes = (SkuResource,)
    form = SkuForm
    list_display = ("code", "title", "kind", "price", "currency", "is_active")
    list_filter = ("kind", "is_active")
    search_fields = ("code", "title", "aliases__value")
    autocomplete_fields = ("product",)
    readonly_fields = ("merged_into", "created_at", "updated_at")
    inlines = (AliasInline, PackInline, ComponentInline)


class HoursInline(admin.TabularInline):
    model = WarehouseHours
    extra = 0


class ClosureInline(admin.TabularInline):
    model = WarehouseClosure
    extra = 0


@admin.register(Warehouse)
class WarehouseAdmin(MasterDataAdmin):
    resource_classes = (WarehouseResource,)
    list_display = ("code", "name", "kind", "country", "time_zone", "priority", "is_active")
    list_filter = ("kind", "is_active")
    search_fields = ("code", "name")
    inlines = (HoursInline, ClosureInline)


@admin.register(SkuAlias)
class AliasAdmin(MasterDataAdmin):
    resource_classes = (AliasResource,)
    list_display = ("value", "kind", "sku")
    list_filter = ("kind",)
    list_select_related = ("sku",)
    search_fields = ("value", "sku__code")
    autocomplete_fields = ("sku",)


@admin.register(Bin)
class BinAdmin(MasterDataAdmin):
    resource_classes = (BinResource,)
    list_display = ("code", "warehouse", "zone", "kind", "pick_sequence", "is_active")
    list_filter = ("warehouse", "kind")
    list_select_related = ("warehouse",)
    search_fields = ("code",)


@admin.register(Lot)
class LotAdmin(MasterDataAdmin):
    list_display = ("code", "sku", "expires_on", "source")
    list_select_related = ("sku",)
    search_fields = ("code", "sku__code")
    autocomplete_fields = ("sku",)


@admin.register(RingFence)
class RingFenceAdmin(MasterDataAdmin):
    list_display = ("sku", "channel_code", "quantity", "starts_at", "ends_at")
    list_select_related = ("sku",)
    autocomplete_fields = ("sku",)


@admin.register(AdjustmentReason)
class AdjustmentReasonAdmin(MasterDataAdmin):
    list_display = ("label", "code", "direction", "needs_note", "is_active", "position")


@admin.register(AdjustmentLimit)
class AdjustmentLimitAdmin(MasterDataAdmin):
    list_display = ("role", "amount")


# --- stock: to look at ----------------------------------------------------------------------------


class CorrectionForm(forms.Form):
    quantity = forms.IntegerField(
        label="Change on hand by",
        min_value=-1_000_000_000,
        max_value=1_000_000_000,
        help_text="signed, in eaches",
    )
    reason = forms.ModelChoiceField(
        AdjustmentReason.objects.filter(is_active=True),
        to_field_name="code",
        help_text="why the books were wrong",
    )
    note = forms.CharField(max_length=255, required=False)


@admin.register(StockLevel)
class StockLevelAdmin(ReadOnlyAdmin):
    """Balances cannot be edited. The button on a level posts a correction through the ledger."""

    list_display = (
        "sku",
        "warehouse",
        "on_hand",
        "reserved",
        "unavailable",
        "available",
        "in_transit",
        "safety",
    )
    list_filter = ("warehouse",)
    list_select_related = ("sku", "warehouse")
    search_fields = ("sku__code",)
    ordering = ("sku_id", "warehouse_id")
    change_form_template = "admin/inventory/stocklevel/change_form.html"

    def get_urls(self) -> list[URLPattern]:
        own = path(
            "<int:pk>/correct/", self.admin_site.admin_view(self.correct), name="inventory_stocklevel_correct"
        )
        return [own, *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = {**(extra_context or {}), "may_correct": can(request.user, "stock.adjust")}
        return super().change_view(request, object_id, form_url, context)

    def correct(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask for a signed change and a reason, and post it once."""
        level = get_object_or_404(StockLevel.objects.select_related("sku", "warehouse"), pk=pk)
        if not can(request.user, "stock.adjust", level.warehouse.code):
            raise PermissionDenied
        form = CorrectionForm(request.POST or None)
        key = request.POST.get("form_key") or new_form_key()
        if request.method == "POST" and form.is_valid():
            try:
                outcome = operations.adjust(
                    sku_id=level.sku_id,
                    warehouse_id=level.warehouse_id,
                    actor=actor_of(request.user),
                    key=f"correction:{form_key(request)}",
                    kind=Kind.CORRECTION,
                    quantity=form.cleaned_data["quantity"],
                    reason=form.cleaned_data["reason"].code,
                    note=form.cleaned_data["note"],
                )
            except UserError as error:
                form.add_error(error.field if error.field in form.fields else None, error.message)
            else:
                if outcome.request is not None:
                    messages.warning(request, "Above your limit: a second person has to approve it.")
                else:
                    messages.success(request, "The correction is in the ledger.")
                return redirect(reverse("admin:inventory_stocklevel_change", args=[pk]))
        context = {
            **self.admin_site.each_context(request),
            "title": f"Post correction: {level.sku} in {level.warehouse}",
            "opts": StockLevel._meta,
            "level": level,
            "form": form,
            "form_key": key,
        }
        return TemplateResponse(request, "admin/inventory/stocklevel/correct.html", context)


@admin.register(StockMovement)
class StockMovementAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "created_at",
        "sku",
        "warehouse",
        "bucket",
        "quantity",
        "balance",
        "kind",
        "reference",
    )
    list_filter = ("kind", "bucket", "warehouse")
    list_select_related = ("sku", "warehouse")
    search_fields = ("=sku__code", "=reference", "=key")


@admin.register(Reservation)
class ReservationAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "sku",
        "warehouse",
        "quantity",
        "consumed",
        "released",
        "state",
        "reference",
        "expires_at",
    )
    list_filter = ("state", "warehouse")
    list_select_related = ("sku", "warehouse")
    search_fields = ("=sku__code", "=reference")
    ordering = ("-id",)


class TransferLineInline(admin.TabularInline):
    model = TransferLine
    extra = 0
    can_delete = False
    readonly_fields = ("sku", "quantity", "shipped", "received", "lost")


@admin.register(Transfer)
class TransferAdmin(ReadOnlyAdmin):
    list_display = ("number", "source", "destination", "state", "requested_at", "shipped_at", "received_at")
    list_filter = ("state",)
    list_select_related = ("source", "destination")
    inlines = (TransferLineInline,)


@admin.register(AdjustmentRequest)
class AdjustmentRequestAdmin(ReadOnlyAdmin):
    list_display = ("id", "sku", "warehouse", "quantity", "reason", "state", "author", "decided_by")
    list_filter = ("state",)
    list_select_related = ("sku", "warehouse", "author", "decided_by")


@admin.register(StockBatch)
class StockBatchAdmin(ReadOnlyAdmin):
    list_display = ("id", "title", "rows", "value", "limit", "state", "author", "decided_by", "created_at")
    list_filter = ("state",)
    list_select_related = ("author", "decided_by")
