"""What a scanned code is: one resolver for every screen with a scan box.

A code may be a SKU, any alias, a case, a bin of the warehouse, a serial number, or a GS1 symbol that carries GTIN,
lot, expiry and serial at once.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import biip
from biip.gs1_messages import GS1Message

from inventory import selectors, serials
from inventory.models import Bin, Lot, Sku, SkuPack


@dataclass(frozen=True)
class Scanned:
    """`sku` and `units` eaches of it, or a `bin`; `lot`, `expires_on` and `serial` as printed, empty when not."""

    text: str
    sku: Sku | None = None
    units: int = 1
    bin: Bin | None = None
    gtin: str = ""
    lot: str = ""
    expires_on: dt.date | None = None
    serial: str = ""

    @property
    def known(self) -> bool:
        return self.sku is not None or self.bin is not None


def resolve(text: str, *, warehouse_id: int | None = None) -> Scanned:
    """Read one scan. An unknown code comes back with `known` False and whatever could be read of it.

    Order: SKU or alias, case, bin of the warehouse, GS1 symbol, serial number. At most six queries.
    """
    code = text.strip().strip("\x1d")
    if not code or len(code) > 200:
        return Scanned(code[:200])
    plain = _plain(code, warehouse_id)
    if plain is not None:
        return plain
    symbol = _gs1(text.strip())
    if symbol is not None:
        return symbol
    units = serials.find(code)
    if len({unit.sku_id for unit in units}) == 1:
        unit = units[0]
        return Scanned(code, unit.sku, serial=unit.serial, lot=unit.lot.code if unit.lot else "")
    return Scanned(code)


def _plain(code: str, warehouse_id: int | None) -> Scanned | None:
    sku = selectors.resolve_codes([code]).get(code)
    if sku is not None:
        return Scanned(code, sku)
    forms = [code, *selectors.gtin_forms(code)]
    pack = SkuPack.objects.filter(barcode__in=forms).select_related("sku__merged_into").first()
    if pack is not None:
        return Scanned(code, pack.sku.merged_into or pack.sku, pack.quantity)
    if warehouse_id is not None:
        place = Bin.objects.filter(warehouse=warehouse_id, code__iexact=code, is_active=True).first()
        if place is not None:
            return Scanned(code, bin=place)
    return None


def _gs1(text: str) -> Scanned | None:
    """GTIN (01 or 02), lot (10), expiry (17, else best before 15), serial (21) and count (37) of a GS1 symbol."""
    try:
        # people type the printed form with brackets, scanners send the raw one
        found = GS1Message.parse_hri(text) if text.startswith("(") else biip.parse(text).gs1_message
    except biip.ParseError:
        return None
    if found is None:
        return None
    values: dict[str, str] = {}
    dates: dict[str, dt.date] = {}
    for part in found.element_strings:
        values.setdefault(part.ai.ai, part.value)
        if part.date is not None:
            dates.setdefault(part.ai.ai, part.date)
    gtin = values.get("01") or values.get("02") or ""
    plain = _plain(gtin, None) if gtin else None
    count = values.get("37", "") if "02" in values else ""
    each = plain.units if plain else 1
    return Scanned(
        text,
        plain.sku if plain else None,
        each * int(count) if count.isdigit() and 0 < len(count) < 7 else each,
        gtin=gtin,
        lot=values.get("10", ""),
        expires_on=dates.get("17") or dates.get("15"),
        serial=values.get("21", ""),
    )


def lot_of(scanned: Scanned) -> Lot | None:
    """The known lot that a scan names."""
    if scanned.sku is None or not scanned.lot:
        return None
    return Lot.objects.filter(sku=scanned.sku, code=scanned.lot).first()
