"""Products, SKUs, their codes and places as files."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from import_export import fields
from import_export.widgets import ForeignKeyWidget

from inventory import tariff
from inventory.models import Bin, Product, Sku, SkuAlias, Warehouse
from inventory.selectors import resolve_codes
from oms.core.csvsafe import undo_cell
from oms.core.errors import UserError
from oms.core.fields import visible
from oms.core.masterfiles import SafeResource


class ProductResource(SafeResource):
    class Meta:
        model = Product
        fields = ("id", "title", "brand", "category", "description", "is_active")


class SkuResource(SafeResource):
    """One row per SKU, found by its code; `product` is an id. Costs and balances are not master data."""

    class Meta:
        model = Sku
        import_id_fields = ("code",)
        fields = (
            "code", "product", "title", "kind", "weight_g", "length_mm", "width_mm", "height_mm", "hs_code",
            "origin_country", "customs_description", "customs_value", "dangerous_goods", "price", "currency",
            "lot_tracked", "serial_tracked",
            "shelf_life_days", "mcf_allowed", "is_active",
        )  # fmt: skip
        skip_unchanged = True

    def before_import_row(self, row: Any, **kwargs: Any) -> None:
        code = str(row.get("code") or "")
        try:
            visible(undo_cell(code).strip())
        except ValidationError as error:
            raise ValueError(f"column 'code': {error.messages[0]}") from error
        _finds_no_other("code", row, code)

    def before_save_instance(self, instance: Sku, row: Any, **kwargs: Any) -> None:
        """What the form refuses is refused in a file, too; a row without a product gets one of its own."""
        instance.clean()
        for name, checked in (("hs_code", tariff.hs_code), ("origin_country", tariff.origin_country)):
            if name in row:
                try:
                    setattr(instance, name, checked(getattr(instance, name) or ""))
                except UserError as error:
                    raise ValueError(f"column '{name}': {error.message.partition(': ')[2]}") from error
        if instance.customs_value is not None and instance.customs_value <= 0:
            raise ValueError("column 'customs_value': write an amount above zero, or leave it empty.")
        if instance.product_id is None:
            instance.product = Product.objects.create(title=(instance.title or instance.code)[:255])


class WarehouseResource(SafeResource):
    class Meta:
        model = Warehouse
        import_id_fields = ("code",)
        exclude = ("id",)
        skip_unchanged = True


class BinResource(SafeResource):
    """One row per bin, found by warehouse and code."""

    warehouse = fields.Field(
        column_name="warehouse", attribute="warehouse", widget=ForeignKeyWidget(Warehouse, "code")
    )

    class Meta:
        model = Bin
        import_id_fields = ("warehouse", "code")
        fields = ("warehouse", "code", "zone", "kind", "pick_sequence", "is_active")
        skip_unchanged = True


class AliasResource(SafeResource):
    """Codes, barcodes and channel codes that find a SKU."""

    sku = fields.Field(column_name="sku", attribute="sku", widget=ForeignKeyWidget(Sku, "code"))

    class Meta:
        model = SkuAlias
        import_id_fields = ("value",)
        fields = ("value", "kind", "sku")
        skip_unchanged = True

    def before_import_row(self, row: Any, **kwargs: Any) -> None:
        _finds_no_other("value", row, str(row.get("sku") or ""))


def _finds_no_other(column: str, row: Any, owner: str) -> None:
    """Raises ValueError when the row's code finds another SKU than `owner` already, or is the owner's in other case."""
    value = str(undo_cell(str(row.get(column) or ""))).strip()
    known = resolve_codes([value]).get(value) if value else None
    if known is not None and known.code != owner:
        raise ValueError(f"column '{column}': '{value}' already finds {known.code}; choose another.")
