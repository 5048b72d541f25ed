"""Forms of the stock screens; the services decide, these only read fields."""

from __future__ import annotations

from typing import Any

from django import forms

from inventory import packs, selectors
from inventory.models import AdjustmentReason, Sku, Warehouse
from oms.core.errors import UserError


class SkuCodeField(forms.CharField):
    """Any code that finds a SKU: its own, a barcode, a marketplace id, the barcode of one of its packs."""

    #: the pack whose barcode was given
    pack = ""

    def clean(self, value: Any) -> Sku | None:
        text = super().clean(value)
        if not text:
            return None
        sku = selectors.resolve_codes([text]).get(text)
        if sku is None and (pack := packs.scanned([text]).get(text)) is not None:
            self.pack, sku = pack.name, pack.sku.merged_into or pack.sku
        if sku is None:
            raise forms.ValidationError(f"'{text}' is neither a SKU nor a barcode we know.")
        return sku


class AdjustForm(forms.Form):
    """A change of on hand, a change of state, or a count."""

    MODES = [
        ("change", "Change on hand by"),
        ("count", "Counted on hand"),
        ("damaged", "Sellable → damaged"),
        ("quarantine", "Sellable → quarantine"),
        ("undamage", "Damaged → sellable"),
        ("unquarantine", "Quarantine → sellable"),
    ]
    sku = SkuCodeField(label="SKU or barcode", max_length=80)
    warehouse = forms.ModelChoiceField(
        Warehouse.objects.none(), to_field_name="code", empty_label="Choose a warehouse"
    )
    mode = forms.ChoiceField(label="What", choices=MODES)
    quantity = forms.DecimalField(
        label="Units",
        min_value=-1_000_000_000,
        max_value=1_000_000_000,
        max_digits=14,
        decimal_places=4,
        help_text="−3 takes three away, 5 adds five; of a count or a change of state, how many",
    )
    unit = forms.CharField(
        label="Counted in",
        max_length=30,
        required=False,
        help_text="empty: each; or a pack of the SKU, such as case",
    )
    reason = forms.ChoiceField(choices=[])
    note = forms.CharField(max_length=255, required=False)
    serials = forms.CharField(
        label="Serial numbers",
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="of a change of units that have them, one per line",
    )

    def __init__(self, *args: Any, warehouses: list[Warehouse], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        reasons = AdjustmentReason.objects.filter(is_active=True).values_list("code", "label")
        chooser = self.fields["reason"]
        assert isinstance(chooser, forms.ChoiceField)
        chooser.choices = [("", "Choose a reason"), *reasons]
        field = self.fields["warehouse"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = Warehouse.objects.filter(pk__in=[warehouse.pk for warehouse in warehouses])

    def clean(self) -> dict[str, Any]:
        """The quantity in whole eaches."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        sku, quantity = data.get("sku"), data.get("quantity")
        if sku is None or quantity is None:
            return data
        scanned = self.fields["sku"]
        assert isinstance(scanned, SkuCodeField)
        try:
            data["quantity"] = packs.eaches(sku, quantity, data.get("unit") or scanned.pack)
        except UserError as error:
            self.add_error(error.field if error.field in self.fields else None, error.message)
        return data


class TransferForm(forms.Form):
    source = forms.ModelChoiceField(
        Warehouse.objects.none(), label="From", to_field_name="code", empty_label="Choose a warehouse"
    )
    destination = forms.ModelChoiceField(
        Warehouse.objects.none(), label="To", to_field_name="code", empty_label="Choose a warehouse"
    )
    lines = forms.CharField(
        label="What",
        widget=forms.Textarea(attrs={"rows": 5}),
        max_length=20_000,
        help_text="one per line: SKU and units, or packs, such as MUG-BLU 2 case",
    )
    expected_on = forms.DateField(
        label="Expected on", required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    note = forms.CharField(max_length=255, required=False)

    def __init__(
        self, *args: Any, sources: list[Warehouse], destinations: list[Warehouse], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        for name, places in (("source", sources), ("destination", destinations)):
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = Warehouse.objects.filter(pk__in=[warehouse.pk for warehouse in places])

    def clean_lines(self) -> dict[int, int]:
        wanted: dict[int, int] = {}
        try:
            for sku, _, units in packs.read_lines(self.cleaned_data["lines"]):
                wanted[sku.pk] = wanted.get(sku.pk, 0) + units
        except UserError as error:
            raise forms.ValidationError(error.message) from None
        if not wanted:
            raise forms.ValidationError("Name at least one SKU and its units.")
        return wanted
