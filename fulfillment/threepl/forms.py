"""Forms of the 3PLs. Secrets are written, never shown."""

from __future__ import annotations

from typing import Any

from django import forms

from fulfillment.models import ThreePLAccount
from inventory.models import Warehouse


def _secret(label: str, text: str) -> forms.CharField:
    return forms.CharField(
        label=label, help_text=text, required=False, max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )  # fmt: skip


class SettingsForm(forms.Form):
    """What can be changed later. Credentials left empty stay as they are."""

    name = forms.CharField(max_length=80, label="Name")
    base_url = forms.CharField(
        max_length=200, label="Address of their API", required=False, help_text="https://api.midway.example"
    )
    ack_minutes = forms.IntegerField(
        min_value=1, max_value=10_080, initial=60, label="Acknowledgement within, minutes"
    )
    snapshot_minutes = forms.IntegerField(
        min_value=0,
        max_value=10_080,
        initial=60,
        label="Read their figures every, minutes",
        help_text="0 = they send them",
    )
    key = forms.CharField(max_length=200, required=False, label="Our key there")
    secret = _secret("Secret for our messages", "signs what we send")
    hook_secret = _secret(
        "Secret for their messages", "signs what they send; the old one stays valid until the next change"
    )

    def secrets(self) -> dict[str, str]:
        return {name: self.cleaned_data[name] for name in ("key", "secret", "hook_secret")}


class ConnectForm(SettingsForm):
    """A new 3PL: which warehouse it runs and how we talk."""

    kind = forms.ChoiceField(
        choices=[pair for pair in ThreePLAccount.Kind.choices if pair[0] != ThreePLAccount.Kind.MCF],
        label="How we talk",
    )
    code = forms.SlugField(
        max_length=30, label="Short code", help_text="part of web addresses, such as midway"
    )
    warehouse = forms.ModelChoiceField(
        Warehouse.objects.none(), label="Warehouse", empty_label="Choose a warehouse"
    )

    field_order = ("name", "code", "warehouse", "kind")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["warehouse"].queryset = Warehouse.objects.filter(  # type: ignore[attr-defined]
            kind=Warehouse.Kind.THREEPL, is_active=True, threepl=None
        )


class PolicyForm(forms.Form):
    """How far their figures go without a person."""

    accept_units = forms.IntegerField(min_value=0, max_value=1_000_000, label="Book gaps up to, units")
    accept_percent = forms.DecimalField(
        min_value=0, max_value=100, max_digits=5, decimal_places=2, label="or up to, percent of ours"
    )
    grace_minutes = forms.IntegerField(
        min_value=0, max_value=10_080, label="Shipments may explain a gap for, minutes"
    )
    max_age_hours = forms.IntegerField(
        min_value=1, max_value=720, label="Tell when figures are older than, hours"
    )
