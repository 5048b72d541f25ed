"""Does a parcel cross a customs border (pure)?

Inside a customs territory there is no declaration. The European Union and Monaco are one, Great Britain with the Isle
of Man another. Military mail and the US islands outside the customs territory of the United States (all but Puerto
Rico) are declared although they are US addresses (USPS, Domestic Mail Manual 608.2.4).
Regions that one country keeps outside, such as the Canary Islands or Northern Ireland, are not told apart.
"""

from __future__ import annotations

from fulfillment.carriers.base import AddressSpec
from fulfillment.carriers.table_rate.zones import us_area, zip3
from oms.core.countries import EU_CUSTOMS

MILITARY = "US military"
_MILITARY_REGIONS = frozenset({"AA", "AE", "AP"})
_US_ISLANDS = frozenset({"AS", "GU", "MP", "VI"})


def territory(address: AddressSpec) -> str:
    """The customs territory of an address: EU, MILITARY or a country's code; empty when it names no country."""
    country = address.country.upper()
    if country in EU_CUSTOMS:
        return "EU"
    if country == "IM":
        return "GB"
    if country == "PR":
        return "US"
    return _inside_us(address) if country == "US" else country


def _inside_us(address: AddressSpec) -> str:
    region, code = address.region.upper(), address.postal_code.strip()[:5]
    area = us_area(code)
    if area == "MIL" or region in _MILITARY_REGIONS:
        return MILITARY
    if region in _US_ISLANDS:
        return region
    if code == "96799":
        return "AS"
    if zip3(code) == "969":
        # Northern Marianas 96950-96952; Palau, Micronesia and the Marshall Islands are countries of their own
        return "MP" if code.startswith("9695") else "GU" if code < "96939" else "PW"
    return "VI" if area == "VI" else "US"


def crosses_border(origin: AddressSpec, destination: AddressSpec) -> bool:
    """Whether the parcel needs a customs declaration. An address without a country decides nothing."""
    start, end = territory(origin), territory(destination)
    return bool(start and end) and (start != end or end == MILITARY)


def matches(destination: AddressSpec) -> tuple[str, ...]:
    """Under which destinations terms may be kept for it, the closest first; the last is everywhere else."""
    country = destination.country.upper()
    return (country, "EU", "") if country in EU_CUSTOMS else (country, "")
