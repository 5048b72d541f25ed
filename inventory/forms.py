"""Forms of the stock screens; the services decide, these only read fields."""

from __future__ import annotations

from typing import Any

from django import forms

from inventory import selectors
from inventory.models import AdjustmentReason, Sku, Warehouse


class SkuCodeField(forms.CharField):
    """Any code that finds a SKU: its own, a barcode, a marketplace id."""

    def clean(self, value: Any) -> Sku | None:
        text = super().clean(value)
        if not text:
            return None
        sku = selectors.resolve_codes([text]).get(text)
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
    warehouse = forms.ModelChoiceField(Warehouse.objects.none(), to_field_name="code")
    mode = forms.ChoiceField(label="What", choices=MODES)
    quantity = forms.IntegerField(
        label="Units",
        min_value=-1_000_000_000,
        max_value=1_000_000_000,
        help_text="signed for a change, eaches",
    )
    reason = forms.ChoiceField(choices=[])
    note = forms.CharField(max_length=255, required=False)

    def __init__(self, *args: Any, warehouses: list[Warehouse], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        reasons = AdjustmentReason.objects.filter(is_active=True).values_list("code", "label")
        chooser = self.fields["reason"]
        assert isinstance(chooser, forms.ChoiceField)
        chooser.choices = [("", "Choose a reason"), *reasons]
        field = self.fields["warehouse"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = Warehouse.objects.filter(pk__in=[warehouse.pk for warehouse in warehouses])


class TransferForm(forms.Form):
    source = forms.ModelChoiceField(Warehouse.objects.none(), label="From", to_field_name="code")
    destination = forms.ModelChoiceField(Warehouse.objects.none(), label="To", to_field_name="code")
    lines = forms.CharField(
        label="What",
        widget=forms.Textarea(attrs={"rows": 5}),
        max_length=20_000,
        help_text="one per line: SKU and units",
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
        for number, text in enumerate(self.cleaned_data["lines"].splitlines(), 1):
            if not text.strip():
                continue
            code, _, units = text.strip().replace("\t", " ").rpartition(" ")
            code = code.strip()
            if not code or not units.isascii() or not units.isdigit() or len(units) > 9 or int(units) < 1:
                raise forms.ValidationError(
                    f"Line {number}: write the SKU, a space and whole units, such as MUG-BLU 12."
                )
            sku = selectors.resolve_codes([code]).get(code)
            if sku is None:
                raise forms.ValidationError(
                    f"Line {number}: '{code}' is neither a SKU nor a barcode we know."
                )
            wanted[sku.pk] = wanted.get(sku.pk, 0) + int(units)
        if not wanted:
            raise forms.ValidationError("Name at least one SKU and its units.")
        return wanted
