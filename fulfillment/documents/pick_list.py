"""Pick lists: one walk through the warehouse for one order or many, each unit into its tote."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fulfillment.documents.page import Document, Sheet
from oms.core.words import some


@dataclass(frozen=True, slots=True)
class Pick:
    """Units to take from one bin for one shipment; `tote` is where they go."""

    bin: str
    sequence: int
    sku: str
    title: str
    quantity: int
    tote: str
    lot: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """One place of the walk: all units of one SKU and lot from one bin, and how they divide over totes."""

    bin: str
    sku: str
    title: str
    lot: str
    quantity: int
    totes: tuple[tuple[str, int], ...]


def walk(picks: Sequence[Pick]) -> list[Stop]:
    """Picks of all shipments as stops in bin order; per stop the totes add up to the quantity."""
    groups: dict[tuple[int, str, str, str], list[Pick]] = defaultdict(list)
    for pick in picks:
        groups[pick.sequence, pick.bin, pick.sku, pick.lot].append(pick)
    stops = []
    for (_, place, sku, lot), members in sorted(groups.items()):
        totes: dict[str, int] = defaultdict(int)
        for pick in members:
            totes[pick.tote] += pick.quantity
        stops.append(
            Stop(place, sku, members[0].title, lot, sum(totes.values()), tuple(sorted(totes.items())))
        )
    return stops


@dataclass(frozen=True, slots=True)
class PickList:
    """`printed_at` in the warehouse's zone; `totes` maps a tote to its shipment."""

    number: str
    warehouse: str
    printed_at: datetime
    picks: tuple[Pick, ...]
    totes: tuple[tuple[str, str], ...] = ()
    country: str = "US"


def pick_list(data: PickList) -> Document:
    """The PDF with a box to tick per stop."""
    stops = walk(data.picks)
    sheet = Sheet(f"Pick list {data.number}", country=data.country)
    sheet.head(f"Pick list {data.number}", data.number)
    units, totes = sum(stop.quantity for stop in stops), len({pick.tote for pick in data.picks})
    sheet.columns(
        ("WAREHOUSE", data.warehouse),
        ("PRINTED", f"{data.printed_at:%d %b %Y %H:%M}"),
        ("WORK", f"{some(len(stops), 'stop')}, {some(units, 'unit')}, {some(totes, 'tote')}"),
    )
    rows = [
        [
            "☐",
            stop.bin,
            stop.sku + (f"\nLot {stop.lot}" if stop.lot else ""),
            stop.title,
            str(stop.quantity),
            ", ".join(f"{tote} × {count}" for tote, count in stop.totes),
        ]
        for stop in stops
    ]
    sheet.table(
        ["", "Bin", "SKU", "Item", "Take", "Into tote"],
        rows,
        [0.6, 2, 3, 5, 1.2, 3.4],
        right=(4,),
        total=["", "", "", "Units", str(units), ""],
    )
    if data.totes:
        sheet.table(["Tote", "Shipment"], [list(pair) for pair in data.totes], [1, 3])
    return sheet.build()
