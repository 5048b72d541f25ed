"""Terms per destination, kept by people in the settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from django.db import transaction
from stdnum.eu import oss

from fulfillment.carriers.base import AddressSpec
from fulfillment.customs.territory import matches, territory
from fulfillment.models import CustomsTerms
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.countries import ALPHA2, EU_CUSTOMS
from oms.core.errors import NotFound, UserError
from oms.orders import rates
from oms.orders.validation import clean

#: goods above this pay import tax at the border; the one-stop shop is for the others (Directive (EU) 2017/2455)
IOSS_LIMIT = Decimal(150)
IOSS_CURRENCY = "EUR"


@dataclass(frozen=True, slots=True)
class Terms:
    """`numbers` holds eori, ioss and tax_id, those that apply."""

    incoterm: str
    numbers: dict[str, str]


def terms_for(destination: AddressSpec, value: Decimal, currency: str) -> Terms:
    """The terms of the closest destination that has some: the country, the EU, everywhere else; DAP without any.

    An IOSS number is named only inside the EU and up to 150 EUR; without a known rate it is left out.
    """
    names = matches(destination)
    kept = {row.destination: row for row in CustomsTerms.objects.filter(destination__in=names)}
    row = next((kept[name] for name in names if name in kept), None)
    if row is None:
        return Terms(CustomsTerms.Incoterm.DAP, {})
    numbers = {"eori": row.eori, "ioss": row.ioss, "tax_id": row.tax_id}
    if row.ioss and not (territory(destination) == "EU" and _within_ioss(value, currency)):
        numbers["ioss"] = ""
    return Terms(row.incoterm, {name: number for name, number in numbers.items() if number})


def _within_ioss(value: Decimal, currency: str) -> bool:
    in_euro = rates.converted(value, currency, IOSS_CURRENCY)
    return in_euro is not None and in_euro <= IOSS_LIMIT


def put(
    destination: str, *, incoterm: str, eori: str = "", ioss: str = "", tax_id: str = "", actor: Actor
) -> CustomsTerms:
    """Keep the terms of a destination (ISO 3166 alpha-2, EU, or empty for everywhere else), new or changed.

    Raises `UserError` naming the field.
    """
    place = destination.strip().upper()
    if place and place != "EU" and place not in ALPHA2:
        raise UserError(
            f"destination: '{destination.strip()[:20]}' is not a country; write its two letters such as CA, EU, or "
            "nothing for everywhere else.",
            field="destination",
        )
    if incoterm not in CustomsTerms.Incoterm.values:
        raise UserError("incoterm: choose DAP or DDP.", field="incoterm")
    eori = re.sub(r"\s", "", eori).upper()
    if eori and not re.fullmatch(r"[A-Z]{2}[A-Z0-9]{1,15}", eori):
        raise UserError(
            f"eori: '{eori[:20]}' is no EORI number; it begins with two letters, such as DE1234567890.",
            field="eori",
        )
    ioss = oss.compact(ioss)
    if ioss and not (ioss.startswith("IM") and oss.is_valid(ioss)):
        raise UserError(
            f"ioss: '{ioss[:20]}' is no IOSS number; it is IM and ten digits, such as IM3720000224.",
            field="ioss",
        )
    if ioss and place not in EU_CUSTOMS | {"EU"}:
        raise UserError("ioss: the import one-stop shop is for destinations in the EU.", field="ioss")
    values = {"incoterm": incoterm, "eori": eori, "ioss": ioss, "tax_id": clean(tax_id, 30)}
    with transaction.atomic():
        known = CustomsTerms.objects.select_for_update().filter(destination=place).first()
        before = {name: getattr(known, name) for name in values} if known else None
        found, _ = CustomsTerms.objects.update_or_create(destination=place, defaults=values)
        if before != values:
            record(actor, "customs.terms", found, before=before, after=values)
    return found


def remove(terms_id: int, *, actor: Actor) -> None:
    """Forget the terms of a destination; those of the next wider one hold. Raises `NotFound`."""
    with transaction.atomic():
        found = CustomsTerms.objects.select_for_update().filter(pk=terms_id).first()
        if found is None:
            raise NotFound("terms: there are no such terms.", field="terms")
        record(actor, "customs.terms", found, before={"incoterm": found.incoterm}, after=None)
        found.delete()
