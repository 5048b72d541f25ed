"""Completing customs data where it is missed: the fields of a shipment's SKUs, on the pack screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.db import transaction

from fulfillment.customs import declaring
from fulfillment.customs.declaring import AT_THE_SKU, Declaration
from fulfillment.models import HandOff, Parcel, Shipment
from fulfillment.packing import live_parcels
from inventory import tariff
from inventory.models import Sku
from oms.core.actor import Actor
from oms.core.errors import UserError

#: field → its label, an example, the longest text
_WORDS = {
    "hs_code": ("HS code", "6912.00", 14),
    "origin_country": ("Made in", "PT", 2),
    "weight_g": ("Weight of one, g", "380", 8),
    "customs_value": ("Value of one", "12.50", 14),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One input; `error` is the sentence beside it."""

    id: str
    label: str
    example: str
    longest: int
    value: str
    error: str


@dataclass(frozen=True, slots=True)
class Row:
    sku: Sku
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """What a page shows of customs: the declaration, what is missing per SKU, and what is mended elsewhere."""

    declaration: Declaration
    rows: tuple[Row, ...]
    others: tuple[str, ...]
    #: the only parcel, where weighing it anew can help
    reweigh: Parcel | None

    @property
    def missing(self) -> int:
        return sum(len(row.fields) for row in self.rows)


def panel(
    shipment: Shipment, given: Mapping[str, str] | None = None, errors: Mapping[str, str] | None = None
) -> Panel | None:
    """The panel of a shipment, with what was typed and what is wrong with it.

    None inside one customs territory, and where the label is not ours to buy: a 3PL's, or one that is gone already.
    """
    if not declaring.needed(shipment) or HandOff.objects.filter(shipment=shipment).exists():
        return None
    found = declaring.kept(shipment)
    if found is None and shipment.state in declaring.WAITS:
        found = declaring.read(shipment)
    if found is None:
        return None
    given, errors = given or {}, errors or {}
    skus = {line.sku.code: line.sku for line in shipment.lines.select_related("sku__product")}
    wanted: dict[str, list[Field]] = {}
    others = []
    for problem in found.problems:
        name = AT_THE_SKU.get(problem.field, "")
        if problem.sku not in skus or not name:
            others.append(problem.message)
            continue
        sku = skus[problem.sku]
        label, example, longest = _WORDS[name]
        if name == "customs_value":
            label = f"{label}, {sku.currency}"
        field = f"{name}-{sku.pk}"
        wanted.setdefault(sku.code, []).append(
            Field(field, label, example, longest, given.get(field, ""), errors.get(field, ""))
        )
    parcels = live_parcels(shipment) if others and shipment.state == Shipment.State.PACKED else []
    return Panel(
        found,
        tuple(Row(skus[code], tuple(fields)) for code, fields in wanted.items()),
        tuple(others),
        parcels[0] if len(parcels) == 1 else None,
    )


def save(shipment: Shipment, given: Mapping[str, str], *, actor: Actor) -> dict[str, str]:
    """Store what was typed at the shipment's SKUs, all or nothing. Returns the sentence of each wrong field."""
    skus = {line.sku_id for line in shipment.lines.all()}
    values: dict[int, dict[str, object]] = {}
    errors = {}
    for key, text in given.items():
        name, _, number = key.rpartition("-")
        if name not in _WORDS or not number.isdigit() or int(number) not in skus:
            continue
        try:
            value = tariff.read({name: text})[name]
        except UserError as error:
            errors[key] = error.message.partition(": ")[2]
            continue
        if value in (None, ""):
            errors[key] = f"Write it, such as {_WORDS[name][1]}."
        values.setdefault(int(number), {})[name] = value
    if not errors:
        with transaction.atomic():
            for sku_id in sorted(values):
                tariff.set_customs(sku_id, values[sku_id], actor=actor)
        declaring.recheck(shipment.pk)
    return errors
