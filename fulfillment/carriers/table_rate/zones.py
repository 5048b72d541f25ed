"""Postal zones: an imported chart first, else distance between 3-digit US postal areas and published bands.

Carriers publish zones by miles between the centres of 3-digit areas; their exact charts are measured
from finer cells, so a zone by formula is an estimate (neighbours may differ by one) and says so.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_CENTRES = Path(__file__).with_name("zip3_centroids.json")
_EARTH_MILES = 3958.7613

#: up to and including so many miles is this zone; farther is the last one
BANDS: dict[str, tuple[tuple[int, str], ...]] = {
    "usps": ((50, "1"), (150, "2"), (300, "3"), (600, "4"), (1000, "5"), (1400, "6"), (1800, "7")),
    # UPS and FedEx begin at zone 2
    "ground": ((150, "2"), (300, "3"), (600, "4"), (1000, "5"), (1400, "6"), (1800, "7")),
}
FARTHEST = "8"
#: US Freely Associated States: Palau, Micronesia, Marshall Islands
ASSOCIATED = "9"

_MILITARY_PREFIXES = frozenset(
    [*(f"{prefix:03d}" for prefix in range(90, 100)), "340", *map(str, range(962, 967))]
)
_AREAS = (
    ("AK", range(995, 1000)),
    ("HI", (967, 968)),
    ("PR", (6, 7, 9)),
    ("VI", (8,)),
)


@dataclass(frozen=True, slots=True)
class ZoneChartRow:
    """A row of an imported chart. Prefixes are without spaces; an empty one matches everything."""

    zone: str
    country: str = "US"
    origin_prefix: str = ""
    destination_prefix: str = ""


@dataclass(frozen=True, slots=True)
class ZoneAnswer:
    """`miles` is set when the distance decided."""

    zone: str
    is_estimate: bool
    source: str  # "chart", "distance" or "fixed"
    miles: int | None = None


@cache
def _centres() -> dict[str, tuple[float, float]]:
    data: dict[str, list[float]] = json.loads(_CENTRES.read_text(encoding="ascii"))
    return {prefix: (latitude, longitude) for prefix, (latitude, longitude) in data.items()}


def normal_postal(code: str) -> str:
    """Postal code as charts compare it: upper case, letters and digits only; a ZIP+4 becomes its ZIP."""
    text = re.sub(r"[^A-Z0-9]", "", code.upper())
    return text[:5] if re.fullmatch(r"\d{9}", text) else text


def zip3(code: str) -> str | None:
    """The 3-digit area of a US ZIP code; None when it is no ZIP code."""
    text = normal_postal(code)
    return text[:3] if re.fullmatch(r"\d{5}", text) else None


def us_area(code: str) -> str:
    """AK, HI, PR, VI, GU (with the other Pacific islands) or MIL for military mail; empty for the rest."""
    prefix = zip3(code)
    if prefix is None:
        return ""
    if prefix in _MILITARY_PREFIXES:
        return "MIL"
    if prefix == "969":
        return "GU"
    return next((area for area, prefixes in _AREAS if int(prefix) in prefixes), "")


def is_associated_state(code: str) -> bool:
    """Palau 96939–96940, Micronesia 96941–96944, Marshall Islands 96960 and 96970."""
    text = normal_postal(code)
    return "96939" <= text <= "96944" or text in ("96960", "96970")


def miles_between(origin: str, destination: str) -> float | None:
    """Great-circle miles between the areas of two ZIP codes; None when one of them has no known place."""
    first, second = zip3(origin), zip3(destination)
    centres = _centres()
    if first not in centres or second not in centres:
        return None
    (lat1, lon1), (lat2, lon2) = (tuple(map(math.radians, centres[place])) for place in (first, second))
    half = (
        math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * _EARTH_MILES * math.asin(math.sqrt(half))


def zone_of_distance(miles: float, scheme: str) -> str:
    """Zone by the published bands of `scheme` ("usps" or "ground"); whole miles, rounded half up."""
    whole = math.floor(miles + 0.5)
    return next((zone for limit, zone in BANDS[scheme] if whole <= limit), FARTHEST)


def from_chart(origin: str, country: str, destination: str, chart: Iterable[ZoneChartRow]) -> str | None:
    """The most exact matching row: longest destination prefix, then longest origin prefix."""
    start, end = normal_postal(origin), normal_postal(destination)
    matching = [
        row
        for row in chart
        if row.country == country
        and start.startswith(row.origin_prefix)
        and end.startswith(row.destination_prefix)
    ]
    if not matching:
        return None
    return max(matching, key=lambda row: (len(row.destination_prefix), len(row.origin_prefix))).zone


def zone_for(
    origin_postal: str,
    country: str,
    destination_postal: str,
    *,
    scheme: str = "ground",
    chart: Iterable[ZoneChartRow] = (),
    origin_country: str = "US",
) -> ZoneAnswer | None:
    """The zone from a warehouse to an address; None when neither chart nor formula knows it.

    The imported chart overrides the formula. By formula (US to US only) the ground carriers serve
    AK, HI, PR, VI and the Pacific islands in zones of those names and no military address; the post
    carries military mail as its farthest zone and the associated states as zone 9. Scheme "chart"
    uses the chart alone; other countries always do.
    Raises ValueError for an unknown scheme.
    """
    if scheme != "chart" and scheme not in BANDS:
        raise ValueError(f"zone scheme {scheme!r} is not one of chart, {', '.join(BANDS)}")
    charted = from_chart(origin_postal, country, destination_postal, chart)
    if charted is not None:
        return ZoneAnswer(charted, False, "chart")
    if scheme == "chart" or country != "US" or origin_country != "US":
        return None
    area = us_area(destination_postal)
    if scheme == "ground" and area and area != us_area(origin_postal):
        return None if area == "MIL" else ZoneAnswer(area, False, "fixed")
    if area == "MIL":
        return ZoneAnswer(FARTHEST, False, "fixed")
    if is_associated_state(destination_postal):
        return ZoneAnswer(ASSOCIATED, False, "fixed")
    miles = miles_between(origin_postal, destination_postal)
    if miles is None:
        return None
    return ZoneAnswer(zone_of_distance(miles, scheme), True, "distance", math.floor(miles + 0.5))
