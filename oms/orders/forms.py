"""Forms of the order screens. Meaning is checked by the services; forms check shape."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms

from oms.orders.drafts import ContactDraft
from oms.orders.models import Order, SalesChannel


def _money(label: str, **extra: Any) -> forms.DecimalField:
    return forms.DecimalField(label=label, max_digits=14, decimal_places=4, min_value=Decimal(0), **extra)


class LineForm(forms.Form):
    sku = forms.CharField(label="SKU or barcode", max_length=80, required=False)
    quantity = forms.IntegerField(label="Quantity", min_value=1, max_value=1_000_000, required=False)
    unit_price = _money("Unit price", required=False)
    tax = _money("Tax of the line", required=False)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("sku") and not data.get("quantity") and "quantity" not in self.errors:
            self.add_error("quantity", "Give a whole number of at least 1.")
        if not data.get("sku") and (data.get("quantity") or data.get("unit_price")):
            self.add_error("sku", "Name the SKU of this line, or clear it.")
        return data


LineFormSet = forms.formset_factory(LineForm, extra=6, max_num=200, absolute_max=200)


class OrderForm(forms.Form):
    channel = forms.ChoiceField(label="Channel")
    kind = forms.ChoiceField(label="Kind", choices=Order.Kind.choices, initial=Order.Kind.SALE)
    external_id = forms.CharField(label="Your order number", max_length=80, required=False)
    name = forms.CharField(label="Name", max_length=120)
    company = forms.CharField(label="Company", max_length=120, required=False)
    address1 = forms.CharField(label="Street", max_length=160)
    address2 = forms.CharField(label="Street, second line", max_length=160, required=False)
    city = forms.CharField(label="City", max_length=80)
    region = forms.CharField(label="State or region", max_length=40, required=False)
    postal_code = forms.CharField(label="Postal code", max_length=20, required=False)
    country = forms.RegexField(
        r"^[A-Za-z]{2}\Z", label="Country", initial="US", max_length=2,
        error_messages={"invalid": "Two letters, such as US or DE."},
    )  # fmt: skip
    email = forms.EmailField(label="E-mail", required=False)
    phone = forms.CharField(label="Phone", max_length=40, required=False)
    shipping = _money("Shipping", required=False)
    discount = _money("Discount", required=False)
    note = forms.CharField(label="Note for the team", max_length=400, required=False)

    def __init__(self, *args: Any, channels: list[SalesChannel], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["channel"].choices = [  # type: ignore[attr-defined]
            (channel.code, f"{channel.name} ({channel.currency})") for channel in channels
        ]

    def contact(self) -> ContactDraft:
        names = (
            "name",
            "company",
            "address1",
            "address2",
            "city",
            "region",
            "postal_code",
            "country",
            "email",
            "phone",
        )
        return ContactDraft(**{name: self.cleaned_data[name] for name in names})
