"""End-of-day manifest: the parcels handed to one carrier at one warehouse."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date

from fulfillment.carriers.units import weight_in
from fulfillment.documents.page import Document, Sheet
from oms.core.words import some


@dataclass(frozen=True, slots=True)
class ManifestParcel:
    tracking_number: str
    shipment_number: str
    service: str
    weight_g: int
    destination: str


@dataclass(frozen=True, slots=True)
class ManifestSheet:
    number: str
    carrier: str
    warehouse: str
    day: date
    parcels: tuple[ManifestParcel, ...]
    carrier_ref: str = ""
    country: str = "US"


def manifest(data: ManifestSheet) -> Document:
    """The PDF with one row per parcel, counts per service and lines to sign. Raises ValueError when empty."""
    if not data.parcels:
        raise ValueError("a manifest needs at least one parcel")
    sheet = Sheet(f"Manifest {data.number}", country=data.country)
    sheet.head(f"Manifest {data.number}", data.number)
    weight = sum(parcel.weight_g for parcel in data.parcels)
    facts = f"{some(len(data.parcels), 'parcel')}, {weight_in(weight, 'kg', 2)} kg"
    sheet.columns(
        ("CARRIER", data.carrier + (f"\n{data.carrier_ref}" if data.carrier_ref else "")),
        ("FROM", data.warehouse),
        ("HANDED OVER", f"{data.day:%d %b %Y}\n{facts}"),
    )
    rows = [
        [str(number), parcel.tracking_number, parcel.shipment_number, parcel.service, parcel.destination,
         str(weight_in(parcel.weight_g, "kg", 2))]
        for number, parcel in enumerate(data.parcels, start=1)
    ]  # fmt: skip
    sheet.table(
        ["#", "Tracking number", "Shipment", "Service", "To", "kg"],
        rows,
        [0.8, 4.4, 2, 3, 3.4, 1.2],
        right=(0, 5),
        total=["", some(len(rows), "parcel"), "", "", "", str(weight_in(weight, "kg", 2))],
    )
    counts = Counter(parcel.service for parcel in data.parcels)
    sheet.table(
        ["Service", "Parcels"],
        [[name, str(count)] for name, count in sorted(counts.items())],
        [4, 1],
        right=(1,),
    )
    sheet.gap(10)
    sheet.columns(("DRIVER", "_" * 28), ("SIGNATURE", "_" * 28), ("TIME", "_" * 14))
    return sheet.build()
