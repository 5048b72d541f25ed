"""What customs must know of a SKU: how it is written, and the door for a person who completes it. One check for all.

HS code: the six digits of the World Customs Organization's nomenclature, or up to ten with a country's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db import transaction

from inventory.models import Sku
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.countries import ALPHA2
from oms.core.errors import NotFound, UserError

#: what `set_customs` takes
FIELDS = ("hs_code", "origin_country", "customs_description", "customs_value", "weight_g")
#: grams: a thing of ten tonnes goes by no parcel
HEAVIEST = 10_000_000


def hs_code(text: str) -> str:
    """The code's digits, without dots and spaces; empty stays empty. Raises `UserError`."""
    digits = re.sub(r"[.\s]", "", text)
    if digits and not re.fullmatch(r"[0-9]{6,10}", digits):
        raise UserError(
            f"hs_code: '{text.strip()[:20]}' is not an HS code; write its 6 to 10 digits, such as 6912.00.",
            field="hs_code",
        )
    return digits


def origin_country(text: str) -> str:
    """The country where it was made, ISO 3166-1 alpha-2; empty stays empty. Raises `UserError`."""
    code = text.strip().upper()
    if code and code not in ALPHA2:
        raise UserError(
            f"origin_country: '{text.strip()[:20]}' is not a country; write its two letters, such as PT.",
            field="origin_country",
        )
    return code


def _description(text: str) -> str:
    return " ".join(text.split())[:120]


def _value(text: str) -> Decimal | None:
    """An amount above zero in the SKU's currency, or none."""
    if not text.strip():
        return None
    try:
        amount = Decimal(text.strip())
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or not 0 < amount < Decimal(10) ** 9 or amount != round(amount, 4):
        raise UserError(
            f"customs_value: '{text.strip()[:20]}' is not an amount above zero; write it like 12.50.",
            field="customs_value",
        )
    return amount


def _weight(text: str) -> int | None:
    if not text.strip():
        return None
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:12]) <= HEAVIEST):
        raise UserError(
            f"weight_g: '{digits[:20]}' is no weight; write whole grams, such as 380.", field="weight_g"
        )
    return int(digits)


_READ = {
    "hs_code": hs_code,
    "origin_country": origin_country,
    "customs_description": _description,
    "customs_value": _value,
    "weight_g": _weight,
}


def read(given: Mapping[str, str]) -> dict[str, Any]:
    """Typed values of texts, by field. Raises `UserError` for the first wrong one, naming its field."""
    return {name: _READ[name](text) for name, text in given.items()}


def set_customs(sku_id: int, values: Mapping[str, Any], *, actor: Actor) -> Sku:
    """Store values that `read` made, with an audit line of what changed. The same again changes nothing.

    Raises `NotFound`, `UserError` for a field that is none of `FIELDS`.
    """
    if wrong := set(values) - set(FIELDS):
        raise UserError(f"field: {sorted(wrong)[0]} is no customs data.", field=sorted(wrong)[0])
    with transaction.atomic():
        sku = Sku.objects.select_for_update(of=("self",)).filter(pk=sku_id).first()
        if sku is None:
            raise NotFound("sku: there is no such SKU.", field="sku")
        before = {name: getattr(sku, name) for name in values if getattr(sku, name) != values[name]}
        if before:
            for name in before:
                setattr(sku, name, values[name])
            sku.save(update_fields=[*before, "updated_at"])
            record(
                actor,
                "sku.customs",
                sku,
                before={name: _told(value) for name, value in before.items()},
                after={name: _told(values[name]) for name in before},
            )
    return sku


def _told(value: Any) -> str:
    return "" if value is None else str(value)
