"""Which bins units are taken from: earliest expiry first, then the fewest bins, then pick sequence.

Pure functions over dataclasses; quantities are eaches.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Place:
    """Units of one lot in one bin; `bin_id` None = not in a bin, `lot_id` None = no lot known."""

    bin_id: int | None
    lot_id: int | None
    quantity: int
    expires_on: dt.date | None = None
    sequence: int = 0
    code: str = ""
    fit: bool = True

    @property
    def order(self) -> tuple[bool, int, str, int, int]:
        """The walk through the warehouse; units outside bins come last."""
        return self.bin_id is None, self.sequence, self.code, self.bin_id or 0, self.lot_id or 0


@dataclass(frozen=True, slots=True)
class Taken:
    place: Place
    quantity: int


def plan_pick(needed: int, places: Iterable[Place]) -> list[Taken]:
    """Take up to `needed` units: fit before unfit, earlier expiry first (no date last), of one date the fewest
    places, of equally few the ones that come first on the walk. Less is returned when the places hold less.
    """
    left = needed
    taken: list[Taken] = []
    held = sorted(
        (place for place in places if place.quantity > 0),
        key=lambda place: (not place.fit, place.expires_on or dt.date.max, place.order),
    )
    for _, group in groupby(held, key=lambda place: (place.fit, place.expires_on)):
        if left <= 0:
            break
        for place in _fewest(left, list(group)):
            units = min(left, place.quantity)
            if units > 0:
                taken.append(Taken(place, units))
                left -= units
    return taken


def _fewest(needed: int, places: Sequence[Place]) -> list[Place]:
    """The first of the smallest sets that hold `needed` units, in walking order; all of them when too few."""
    sizes = sorted((place.quantity for place in places), reverse=True)
    slots, total = 0, 0
    while slots < len(sizes) and total < needed:
        total += sizes[slots]
        slots += 1
    if total < needed:
        return list(places)
    chosen: list[Place] = []
    for index, place in enumerate(places):
        if not slots:
            break
        rest = sorted((later.quantity for later in places[index + 1 :]), reverse=True)[: slots - 1]
        if len(rest) == slots - 1 and place.quantity + sum(rest) >= needed:
            chosen.append(place)
            needed -= place.quantity
            slots -= 1
    return chosen
