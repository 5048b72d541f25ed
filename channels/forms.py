"""Forms of the channels. Secrets are written, never shown."""

from __future__ import annotations

from typing import Any

from django import forms

from channels import tuning
from channels.connectors.base import Connector, FieldSpec, connectors
from channels.models import Listing
from inventory.models import Warehouse
from oms.core.access import Scope


def _field(spec: FieldSpec, *, required: bool) -> forms.CharField:
    widget: forms.Widget = (
        forms.PasswordInput(attrs={"autocomplete": "new-password"}) if spec.secret else forms.TextInput()
    )
    if spec.choices:
        widget = forms.Select(choices=spec.choices)
    return forms.CharField(
        label=spec.label,
        required=required,
        help_text=spec.help,
        max_length=600,
        initial=spec.default,
        widget=widget,
    )


class ConnectForm(forms.Form):
    """A new channel: what it is called, where it is, and how we prove who we are."""

    name = forms.CharField(max_length=80, label="Name", help_text="as your people call it: Shopify US")
    code = forms.SlugField(max_length=40, label="Short code", help_text="stands in addresses: shopify-us")
    order_prefix = forms.RegexField(
        r"^[A-Z0-9]{1,4}$", label="Order prefix", initial="SO", help_text="SH gives SH-10041"
    )
    currency = forms.RegexField(r"^[A-Z]{3}$", label="Currency", initial="USD")
    warehouses = forms.ModelMultipleChoiceField(Warehouse.objects.none(), label="Served from", required=False)

    def __init__(self, *args: Any, connector: Connector, scope: Scope, **kwargs: Any) -> None:
        """`scope` says from which warehouses the person may serve it."""
        super().__init__(*args, **kwargs)
        self.connector = connector
        mine = Warehouse.objects.filter(scope.q(warehouse="code"), is_active=True)
        self.fields["warehouses"].queryset = mine  # type: ignore[attr-defined]
        for spec in connector.config_fields:
            self.fields[f"config_{spec.name}"] = _field(spec, required=spec.required)
        for spec in connector.credential_fields:
            self.fields[f"secret_{spec.name}"] = _field(spec, required=spec.required)

    def part(self, prefix: str) -> dict[str, str]:
        return {
            name.removeprefix(prefix): value
            for name, value in self.cleaned_data.items()
            if name.startswith(prefix) and value
        }


class SecretsForm(forms.Form):
    """New credentials; what is left empty stays as it is."""

    def __init__(self, *args: Any, connector: Connector, config: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for spec in connector.config_fields:
            self.fields[f"config_{spec.name}"] = _field(spec, required=False)
            self.fields[f"config_{spec.name}"].initial = config.get(spec.name, "")
        for spec in connector.credential_fields:
            self.fields[f"secret_{spec.name}"] = _field(spec, required=False)

    def part(self, prefix: str) -> dict[str, str]:
        return {
            name.removeprefix(prefix): value
            for name, value in self.cleaned_data.items()
            if name.startswith(prefix) and value
        }


class RulesForm(forms.Form):
    """What holds a listing's figure back."""

    buffer_mode = forms.ChoiceField(choices=Listing.BufferMode.choices, label="Buffer is")
    buffer = forms.IntegerField(
        min_value=0,
        max_value=1_000_000,
        label="Buffer",
        help_text="units never shown; a tuned one is set by itself",
    )
    buffer_risk = forms.FloatField(
        min_value=tuning.LOWEST_RISK,
        max_value=tuning.HIGHEST_RISK,
        required=False,
        label="Accepted risk",
        help_text="tuned: chance of selling the last units twice, 0.001 when empty",
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    percent = forms.IntegerField(
        min_value=0, max_value=100, label="Percent", help_text="of what is left, rounded down"
    )
    cap = forms.IntegerField(
        min_value=0, max_value=1_000_000, required=False, label="Cap", help_text="empty = none"
    )
    stop_at = forms.IntegerField(
        min_value=0, max_value=1_000_000, label="Stop at", help_text="shows 0 at or below"
    )
    pack_size = forms.IntegerField(
        min_value=1, max_value=100_000, label="Pack", help_text="eaches in one sold unit"
    )
    preorder_percent = forms.IntegerField(
        min_value=1,
        max_value=100,
        required=False,
        label="Preorder percent",
        help_text="sells this share of what is on order; empty = sells stock",
    )
    state = forms.ChoiceField(choices=[("active", "Active"), ("paused", "Paused")], label="State")


def choices() -> list[tuple[str, str]]:
    return [(connector.key, connector.name) for connector in connectors()]
