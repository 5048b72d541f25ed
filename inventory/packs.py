"""Units of measure: what is asked in cases or other packs becomes whole eaches, and eaches are said in packs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from django.db import transaction

from inventory import selectors
from inventory.models import Sku, SkuPack
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.errors import UserError

EACH = ("", "each", "eaches", "ea", "unit", "units", "pcs")
#: 'MUG-BLU 12', 'MUG-BLU 2 case', 'MUG-BLU 2.5 inner box'; a code may hold spaces and figures
_LINE = re.compile(r"^(.+?)\s+(\d{1,9}(?:\.\d{1,4})?)(?:\s+([^\d\s][^\d]*))?$")


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of one SKU: each (`name` empty), or a pack of `size` eaches."""

    name: str
    size: int


def unit_of(sku: Sku, name: str, *, field: str = "unit") -> Unit:
    """The unit that a name means for a SKU. Raises `UserError` listing the packs it has."""
    wanted = name.strip()
    if wanted.lower() in EACH:
        return Unit("", 1)
    packs = list(SkuPack.objects.filter(sku=sku).order_by("quantity"))
    for pack in packs:
        if wanted.lower() in (pack.name.lower(), f"{pack.name.lower()}s"):
            return Unit(pack.name, pack.quantity)
    known = ", ".join(["each", *(f"{pack.name} of {pack.quantity}" for pack in packs)])
    raise UserError(f"{field}: {sku} has no unit '{wanted[:30]}'; use {known}.", field=field)


def eaches(sku: Sku, quantity: Decimal | int | str, unit: str = "", *, field: str = "quantity") -> int:
    """`quantity` of a unit in whole eaches, signed: 2 cases of 12 are 24.

    Raises `UserError` for an unknown unit, no number, or a result that is not a whole number of eaches.
    """
    try:
        value = Decimal(str(quantity).strip())
        if not value.is_finite() or abs(value) > 1_000_000_000:
            raise InvalidOperation
    except InvalidOperation:
        raise UserError(f"{field}: '{quantity}' is not a number of units.", field=field) from None
    found = unit_of(sku, unit)
    result = value * found.size
    if result != result.to_integral_value():
        of = f" {found.name} of {found.size}" if found.name else ""
        raise UserError(
            f"{field}: {value.normalize():f}{of} is {result.normalize():f} eaches; {sku} is counted in whole eaches.",
            field=field,
        )
    return int(result)


def words(quantity: int, name: str, size: int) -> str:
    """Eaches in packs, for people: '4 × case of 12', '4 × case of 12 + 5'; empty when the unit is the each."""
    if size <= 1 or not name:
        return ""
    whole, loose = divmod(quantity, size)
    if not whole:
        return ""
    return f"{whole} × {name} of {size}" + (f" + {loose}" if loose else "")


def read_lines(text: str) -> list[tuple[Sku, Unit, int]]:
    """Lines of 'SKU quantity' or 'SKU quantity unit': the SKU, the unit and its eaches.

    A pack's barcode in place of the SKU counts packs. Raises `UserError` naming the line.
    """
    found = []
    rows = [(number, row.strip().replace("\t", " ")) for number, row in enumerate(text.splitlines(), 1)]
    parsed = []
    for number, row in rows:
        if not row:
            continue
        match = _LINE.match(row)
        if match is None:
            raise UserError(
                f"Line {number}: '{row[:60]}' must be a SKU, a space and whole units, such as MUG-BLU 12, or "
                "packs, such as MUG-BLU 2 case.",
                field="lines",
            )
        parsed.append((number, match[1].strip(), match[2], (match[3] or "").strip()))
    codes = [code for _, code, _, _ in parsed]
    known = selectors.resolve_codes(codes)
    by_barcode = scanned(code for code in codes if code not in known)
    for number, code, quantity, name in parsed:
        sku, unit = known.get(code), name
        if sku is None and code in by_barcode:
            pack = by_barcode[code]
            sku, unit = pack.sku.merged_into or pack.sku, name or pack.name
        if sku is None:
            raise UserError(f"Line {number}: '{code}' is neither a SKU nor a barcode we know.", field="lines")
        try:
            units = eaches(sku, quantity, unit)
            measure = unit_of(sku, unit)
        except UserError as error:
            raise UserError(f"Line {number}: {error.message}", field="lines") from None
        if units < 1:
            raise UserError(f"Line {number}: at least 1 unit of {sku} is needed.", field="lines")
        found.append((sku, measure, units))
    return found


def scanned(codes: Iterable[str]) -> dict[str, SkuPack]:
    """Packs by the barcodes that were asked for; other forms of a GTIN find them as well. One query."""
    forms = {form: code for code in codes for form in (*selectors.gtin_forms(code), code)}
    if not forms:
        return {}
    packs = SkuPack.objects.filter(barcode__in=forms).select_related("sku__merged_into")
    return {forms[pack.barcode]: pack for pack in packs}


def set_pack(sku: Sku, name: str, quantity: int, *, barcode: str = "", actor: Actor) -> SkuPack:
    """Add a pack to a SKU, or change the one of that name; lines ordered before keep the size they were made with.

    Raises `UserError` for a name that means the each, a size below 2, or a barcode that finds something else.
    """
    name, barcode = name.strip(), barcode.strip()
    if name.lower() in EACH or not re.fullmatch(r"[^\d\s][^\d]{0,29}", name):
        raise UserError("name: name the pack in letters, such as case; the each has no pack.", field="name")
    if not 2 <= quantity <= 1_000_000:
        raise UserError("quantity: a pack holds between 2 and 1,000,000 eaches.", field="quantity")
    if sku.kind in (Sku.Kind.KIT, Sku.Kind.SERVICE):
        raise UserError(f"sku: {sku} has no stock of its own, so nothing of it is packed.", field="sku")
    if barcode:
        other = selectors.resolve_codes([barcode]).get(barcode)
        taken = (
            SkuPack.objects.filter(barcode=barcode).exclude(sku=sku, name=name).select_related("sku").first()
        )
        if other is not None or taken is not None:
            finds = other or (taken.sku if taken else sku)
            raise UserError(f"barcode: '{barcode}' already finds {finds}.", field="barcode")
    with transaction.atomic():
        pack, _ = SkuPack.objects.update_or_create(
            sku=sku, name=name, defaults={"quantity": quantity, "barcode": barcode}
        )
        record(actor, "sku.pack", sku, after={"name": name, "quantity": quantity, "barcode": barcode})
    return pack
