"""Prices from rate cards: billable weight, zone, weight breaks, surcharges, fuel, minimum, rounding.

Pure functions over dataclasses. The sum per parcel, in this order: base price of the card → amounts
(delivery area, residential, oversize …) → percentages (fuel) over the components they name → minimum
charge → rounding half up to the currency's coin. Weights are compared exactly (1 lb = 453.59237 g).

A parcel is stored in whole grams and millimetres, so a 1 lb parcel reads 454 g and a 12 in box 305 mm:
half a gram and half a millimetre are forgiven before rounding up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from fractions import Fraction
from typing import Any

from fulfillment.carriers.base import (
    AddressSpec,
    Charge,
    ParcelSpec,
    Problem,
    ProblemKind,
    QuoteRequest,
    QuoteResult,
    Rate,
)
from fulfillment.carriers.table_rate.zones import ZoneAnswer, ZoneChartRow, us_area, zone_for
from fulfillment.carriers.units import GRAMS, MILLIMETRES
from inventory.calendar import Closure, WorkCalendar, arrival_day
from oms.core.errors import UserError
from oms.core.money import quantize

HALF = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class DimRule:
    """How a parcel's size becomes weight: volume ÷ divisor, in³/lb for "in", cm³/kg for "cm".

    Each side is first rounded to whole units ("up", "nearest" or "none"). With a `threshold` (same unit,
    cubed) only larger parcels count: USPS 166 above 1,728 in³; UPS and FedEx 139 always; DHL 5000 cm³/kg.
    """

    divisor: Fraction
    unit: str = "in"
    rounding: str = "up"
    threshold: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service does not carry; None = no limit."""

    max_weight_g: int | None = None
    max_length_mm: int | None = None
    max_length_girth_mm: int | None = None
    countries: frozenset[str] = frozenset()
    no_po_box: bool = False
    no_military: bool = False
    no_regions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the table-rate carrier with all that rating needs except its cards and surcharges.

    `step_g`: billable weight is rounded up to multiples of it. `extra_step_g`: the unit of a card's price
    above its last break. `transit_days` by zone count `carrier` working days from the ship date.
    """

    code: str
    name: str
    dim: DimRule | None = None
    step_g: Fraction = Fraction(1)
    min_weight_g: Fraction = Fraction(0)
    extra_step_g: Fraction = Fraction(1000)
    limits: Limits = Limits()
    minimum_charge: Decimal = Decimal(0)
    zone_scheme: str = "ground"
    transit_days: Mapping[str, int] = field(default_factory=dict)
    carrier: WorkCalendar = WorkCalendar("UTC")


@dataclass(frozen=True, slots=True)
class Break:
    """Price up to and including a weight; above the last one `per_extra` per started `extra_step_g`, or no rate."""

    up_to_g: int
    price: Decimal
    per_extra: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """Prices from one origin group (empty = any) within dates, both included."""

    currency: str
    valid_from: date
    breaks: Mapping[str, tuple[Break, ...]]  # zone → breaks by weight
    valid_to: date | None = None
    origin_group: str = ""


@dataclass(frozen=True, slots=True)
class Surcharge:
    """An amount per parcel, or a percentage of the components in `applies_to` ("base", codes, "*" = all before).

    Rows of one code follow each other in time (weekly fuel); the latest one in force on the ship date counts.
    """

    code: str
    name: str
    valid_from: date
    amount: Decimal | None = None
    percent: Decimal | None = None
    applies_to: tuple[str, ...] = ("base",)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    position: int = 10
    valid_to: date | None = None


@dataclass(frozen=True, slots=True)
class Tariff:
    """A service with its cards and surcharges."""

    service: Service
    cards: tuple[Card, ...] = ()
    surcharges: tuple[Surcharge, ...] = ()


# --- billable weight -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Billable:
    """The weight that is charged, exact grams, and what decided it: actual, dimensional or minimum."""

    grams: Fraction
    basis: str


def _side(millimetres: int, rule: DimRule) -> Fraction:
    unit = Fraction(MILLIMETRES[rule.unit])
    if rule.rounding == "up":
        return Fraction(max(1, math.ceil((millimetres - HALF) / unit)))
    if rule.rounding == "nearest":
        return Fraction(max(1, math.floor(millimetres / unit + HALF)))
    return millimetres / unit


def dimensional_grams(parcel: ParcelSpec, rule: DimRule) -> Fraction:
    """Dimensional weight, exact grams, before rounding; 0 where the rule's threshold is not exceeded."""
    volume = math.prod(_side(side, rule) for side in parcel.sides)
    if rule.threshold is not None and volume <= rule.threshold:
        return Fraction(0)
    return volume / rule.divisor * Fraction(GRAMS["lb" if rule.unit == "in" else "kg"])


def billable_weight(parcel: ParcelSpec, service: Service) -> Billable:
    """The larger of actual and dimensional weight, at least the minimum, rounded up to the service's step."""
    actual = math.ceil((parcel.weight_g - HALF) / service.step_g) * service.step_g
    dim = Fraction(0)
    if service.dim is not None:
        dim = math.ceil(dimensional_grams(parcel, service.dim) / service.step_g) * service.step_g
    least = math.ceil(service.min_weight_g / service.step_g) * service.step_g
    heaviest = max(actual, dim, least)
    basis = "actual" if heaviest == actual else "dimensional" if heaviest == dim else "minimum"
    return Billable(heaviest, basis)


def bound(up_to_g: int, step_g: Fraction) -> Fraction:
    """The exact upper bound behind whole grams: 454 (or 453) g is 1 lb where the step is a pound."""
    steps = math.floor(up_to_g / step_g + HALF)
    exact = steps * step_g
    return exact if steps and abs(exact - up_to_g) < 1 else Fraction(up_to_g)


# --- what may be sent ------------------------------------------------------------------------------

_PO_BOX = re.compile(
    r"\b(p\W*o\W*box|post\s*(office)?\s*box|p\W*o\W*b\W*\d+|apartado(\s+postal)?|postfach|bo[iî]te\s+postale|packstation)\b",
    re.IGNORECASE,
)


def is_po_box(address: AddressSpec) -> bool:
    """Whether a street line is a post office box ("PO Box 12", "P.O.B. 7", "Postfach 3", "Packstation 101")."""
    return any(_PO_BOX.search(line) for line in (address.street1, address.street2, address.street3))


def is_military(address: AddressSpec) -> bool:
    """APO, FPO and DPO addresses by region (AA, AE, AP), city or ZIP code."""
    if address.country != "US":
        return False
    return (
        address.region.upper() in ("AA", "AE", "AP")
        or address.city.strip().upper() in ("APO", "FPO", "DPO")
        or us_area(address.postal_code) == "MIL"
    )


def refusals(service: Service, destination: AddressSpec, parcels: Sequence[ParcelSpec]) -> list[str]:
    """Every reason why the service does not carry this; empty when it does."""
    limits, found = service.limits, []
    if limits.countries and destination.country not in limits.countries:
        found.append(f"does not deliver to {destination.country}")
    if limits.no_po_box and is_po_box(destination):
        found.append("does not deliver to post office boxes")
    if limits.no_military and is_military(destination):
        found.append("does not deliver to military addresses")
    if destination.country == "US":
        areas = {destination.region.upper(), us_area(destination.postal_code)} & limits.no_regions
        found += [f"does not deliver to {area}" for area in sorted(areas)]
    for number, parcel in enumerate(parcels, start=1):
        if limits.max_weight_g is not None and parcel.weight_g > limits.max_weight_g:
            found.append(f"parcel {number}: {parcel.weight_g} g is over the limit of {limits.max_weight_g} g")
        if limits.max_length_mm is not None and parcel.sides[0] > limits.max_length_mm:
            found.append(f"parcel {number}: {parcel.sides[0]} mm is longer than {limits.max_length_mm} mm")
        girth = parcel.length_plus_girth_mm
        if limits.max_length_girth_mm is not None and girth > limits.max_length_girth_mm:
            found.append(
                f"parcel {number}: length plus girth {girth} mm is over {limits.max_length_girth_mm} mm"
            )
    return found


# --- price -----------------------------------------------------------------------------------------

_CONDITIONS: dict[str, type | tuple[type, ...]] = {
    "residential": bool,
    "countries": list,
    "regions": list,
    "postal_prefixes": list,
    "zones": list,
    "longest_side_over_mm": int,
    "second_side_over_mm": int,
    "length_plus_girth_over_mm": int,
    "weight_over_g": int,
    "billable_over_g": int,
}


def check_conditions(conditions: Mapping[str, Any]) -> None:
    """Raise UserError naming the key of a surcharge condition that is unknown or of the wrong kind."""
    for key, value in conditions.items():
        kind = _CONDITIONS.get(key)
        if kind is None:
            raise UserError(
                f"conditions: {key!r} is unknown; use {', '.join(_CONDITIONS)}.", field="conditions"
            )
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            word = {bool: "true or false", list: "a list", int: "a whole number"}[kind]  # type: ignore[index]
            raise UserError(f"conditions: {key} must be {word}.", field="conditions")


def applies(
    conditions: Mapping[str, Any], destination: AddressSpec, parcel: ParcelSpec, billable: Billable, zone: str
) -> bool:
    """Whether all conditions of a surcharge hold for a parcel; "over" means strictly more."""
    facts: dict[str, int | Fraction] = {
        "longest_side_over_mm": parcel.sides[0],
        "second_side_over_mm": parcel.sides[1],
        "length_plus_girth_over_mm": parcel.length_plus_girth_mm,
        "weight_over_g": parcel.weight_g,
        "billable_over_g": billable.grams,
    }
    for key, value in conditions.items():
        if key in facts:
            holds = facts[key] > value
        elif key == "residential":
            holds = destination.residential == value
        elif key == "countries":
            holds = destination.country in value
        elif key == "regions":
            holds = bool({destination.region.upper(), us_area(destination.postal_code)} & set(value))
        elif key == "zones":
            holds = zone in value
        else:
            holds = destination.postal_code.replace(" ", "").upper().startswith(tuple(value))
        if not holds:
            return False
    return True


def base_price(breaks: Sequence[Break], billable: Billable, service: Service) -> Decimal | None:
    """Price of the first break that reaches the weight; above the last its increments, or None."""
    ordered = sorted(breaks, key=lambda item: item.up_to_g)
    for item in ordered:
        if billable.grams <= bound(item.up_to_g, service.step_g):
            return item.price
    if not ordered or ordered[-1].per_extra is None:
        return None
    over = billable.grams - bound(ordered[-1].up_to_g, service.step_g)
    return ordered[-1].price + ordered[-1].per_extra * math.ceil(over / service.extra_step_g)


def card_for(cards: Sequence[Card], origin_group: str, on: date) -> Card | None:
    """The card in force: the origin's own before the general one, then the latest start."""
    valid = [
        card
        for card in cards
        if card.valid_from <= on and (card.valid_to is None or on <= card.valid_to)
        and card.origin_group in ("", origin_group)
    ]  # fmt: skip
    return max(valid, key=lambda card: (card.origin_group != "", card.valid_from), default=None)


def surcharges_for(surcharges: Sequence[Surcharge], on: date) -> list[Surcharge]:
    """Surcharges in force, one per code (the latest start): amounts first, then percentages, each by position."""
    latest: dict[str, Surcharge] = {}
    for item in surcharges:
        in_force = item.valid_from <= on and (item.valid_to is None or on <= item.valid_to)
        if in_force and (item.code not in latest or item.valid_from > latest[item.code].valid_from):
            latest[item.code] = item
    return sorted(latest.values(), key=lambda item: (item.percent is not None, item.position, item.code))


def parcel_charges(
    tariff: Tariff, card: Card, zone: str, destination: AddressSpec, parcel: ParcelSpec, on: date
) -> list[Charge] | None:
    """The components of one parcel's price, summing to a whole number of coins; None when the card has no price."""
    service = tariff.service
    billable = billable_weight(parcel, service)
    base = base_price(card.breaks.get(zone, ()), billable, service)
    if base is None:
        return None
    charges = [Charge("base", service.name, base)]
    for item in surcharges_for(tariff.surcharges, on):
        if not applies(item.conditions, destination, parcel, billable, zone):
            continue
        if item.amount is not None:
            amount = item.amount
        else:
            named = [
                c.amount
                for c in charges
                if "*" in item.applies_to or c.code in (item.applies_to or ("base",))
            ]
            amount = sum(named, Decimal(0)) * (item.percent or Decimal(0)) / 100
        charges.append(Charge(item.code, item.name, amount))
    total = sum((charge.amount for charge in charges), Decimal(0))
    if total < service.minimum_charge:
        charges.append(Charge("minimum", "Minimum charge", service.minimum_charge - total))
        total = service.minimum_charge
    rounded = quantize(total, card.currency)
    if rounded != total:
        charges.append(Charge("rounding", "Rounding", rounded - total))
    return charges


def _merged(parcels: Sequence[Sequence[Charge]]) -> tuple[Charge, ...]:
    """Equal components of several parcels added up, in order of first appearance."""
    total: dict[str, Charge] = {}
    for charge in (charge for charges in parcels for charge in charges):
        before = total.get(charge.code)
        total[charge.code] = Charge(
            charge.code, charge.name, (before.amount if before else Decimal(0)) + charge.amount
        )
    return tuple(charge for charge in total.values() if charge.amount)


def rate(tariff: Tariff, request: QuoteRequest, chart: Sequence[ZoneChartRow] = ()) -> Rate | list[Problem]:
    """The price of one service for all parcels, each rated on its own, or every reason why there is none."""
    service = tariff.service

    def no(kind: ProblemKind, *reasons: str) -> list[Problem]:
        return [Problem(kind, f"{service.name}: {reason}.", service=service.code) for reason in reasons]

    weightless = [number for number, parcel in enumerate(request.parcels, start=1) if parcel.weight_g <= 0]
    if weightless or not request.parcels:
        text = f"parcel {weightless[0]} has no weight" if weightless else "there is no parcel"
        return no(ProblemKind.INVALID_REQUEST, text)
    refused = refusals(service, request.destination, request.parcels)
    if refused:
        return no(ProblemKind.NOT_SERVICED, *refused)
    card = card_for(tariff.cards, request.origin_group, request.ship_date)
    if card is None:
        return no(ProblemKind.NOT_SERVICED, f"no rate card is valid on {request.ship_date}")
    zone: ZoneAnswer | None = zone_for(
        request.origin.postal_code,
        request.destination.country,
        request.destination.postal_code,
        scheme=service.zone_scheme,
        chart=chart,
        origin_country=request.origin.country,
    )
    if zone is None or zone.zone not in card.breaks:
        told = (
            f"zone {zone.zone} has no price"
            if zone
            else (f"no zone is known for {request.destination.country} {request.destination.postal_code}")
        )
        return no(ProblemKind.NOT_SERVICED, told)
    priced = []
    for number, parcel in enumerate(request.parcels, start=1):
        charges = parcel_charges(tariff, card, zone.zone, request.destination, parcel, request.ship_date)
        if charges is None:
            grams = billable_weight(parcel, service).grams
            return no(
                ProblemKind.NOT_SERVICED,
                f"parcel {number}: {math.ceil(grams)} g is above the last weight of zone {zone.zone}",
            )
        priced.append(charges)
    merged = _merged(priced)
    days = service.transit_days.get(zone.zone)
    return Rate(
        service=service.code,
        service_name=service.name,
        amount=quantize(sum((charge.amount for charge in merged), Decimal(0)), card.currency),
        currency=card.currency,
        transit_days=days,
        arrives_on=None if days is None else arrival_day(service.carrier, request.ship_date, days),
        charges=merged,
        zone=zone.zone,
        is_estimate=zone.is_estimate,
    )


def quote(
    tariffs: Sequence[Tariff], request: QuoteRequest, chart: Sequence[ZoneChartRow] = ()
) -> QuoteResult:
    """Prices of all asked services, cheapest first, and the problems of the others."""
    rates, problems = [], []
    for tariff in tariffs:
        if request.services and tariff.service.code not in request.services:
            continue
        answer = rate(tariff, request, chart)
        if isinstance(answer, Rate):
            rates.append(answer)
        else:
            problems += answer
    rates.sort(key=lambda item: (item.currency, item.amount, item.service))
    return QuoteResult(tuple(rates), tuple(problems))


# --- stored rules ----------------------------------------------------------------------------------

_STEPS = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(g|kg|lb|oz)\s*$")
_RULES = (
    "dim_divisor", "dim_unit", "dim_rounding", "dim_threshold", "weight_step", "min_weight", "extra_step",
    "max_weight_g", "max_length_mm", "max_length_girth_mm", "countries", "no_po_box", "no_military", "no_regions",
    "minimum_charge", "zone_scheme", "transit_days", "delivery_weekdays", "delivery_closures",
)  # fmt: skip


def _grams(key: str, text: Any) -> Fraction:
    match = _STEPS.match(str(text))
    if match is None:
        raise UserError(f"rules: {key} is a weight such as '1 lb' or '0.5 kg', not {text!r}.", field="rules")
    return Fraction(match[1]) * Fraction(GRAMS[match[2]])


def _number(rules: Mapping[str, Any], key: str) -> Fraction | None:
    if rules.get(key) is None:
        return None
    try:
        value = Fraction(str(rules[key]))
    except ValueError:
        raise UserError(f"rules: {key} must be a number, not {rules[key]!r}.", field="rules") from None
    if value <= 0:
        raise UserError(f"rules: {key} must be above zero.", field="rules")
    return value


def _one_of(rules: Mapping[str, Any], key: str, default: str, allowed: Sequence[str]) -> str:
    value = str(rules.get(key, default))
    if value not in allowed:
        raise UserError(f"rules: {key} is {value!r}, use one of {', '.join(allowed)}.", field="rules")
    return value


def service_from(code: str, name: str, rules: Mapping[str, Any]) -> Service:
    """A service from its stored rules. Raises UserError naming the rule that is unknown or wrong.

    Keys: dim_divisor, dim_unit (in | cm), dim_rounding (up | nearest | none), dim_threshold, weight_step and
    min_weight and extra_step ("1 lb"), max_weight_g, max_length_mm, max_length_girth_mm, countries, no_po_box,
    no_military, no_regions, minimum_charge, zone_scheme (ground | usps | chart), transit_days ({zone: days}),
    delivery_weekdays ([0 … 6]), delivery_closures ([date]).
    """
    unknown = sorted(set(rules) - set(_RULES))
    if unknown:
        raise UserError(f"rules: {unknown[0]!r} is unknown; use {', '.join(_RULES)}.", field="rules")
    divisor = _number(rules, "dim_divisor")
    dim = None
    if divisor is not None:
        dim = DimRule(
            divisor,
            _one_of(rules, "dim_unit", "in", ("in", "cm")),
            _one_of(rules, "dim_rounding", "up", ("up", "nearest", "none")),
            _number(rules, "dim_threshold"),
        )
    whole = {key: _number(rules, key) for key in ("max_weight_g", "max_length_mm", "max_length_girth_mm")}
    limits = Limits(
        **{key: None if value is None else math.floor(value) for key, value in whole.items()},
        countries=frozenset(rules.get("countries", ())),
        no_po_box=bool(rules.get("no_po_box")),
        no_military=bool(rules.get("no_military")),
        no_regions=frozenset(rules.get("no_regions", ())),
    )
    weekdays = rules.get("delivery_weekdays", range(5))
    least = _number(rules, "minimum_charge") if rules.get("minimum_charge") else None
    try:
        closures = tuple(
            Closure(day, day) for day in map(date.fromisoformat, rules.get("delivery_closures", ()))
        )
        transit = {str(zone): int(days) for zone, days in dict(rules.get("transit_days", {})).items()}
        calendar = WorkCalendar("UTC", {int(day): time(0) for day in weekdays}, closures)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"rules: transit_days, delivery_weekdays or delivery_closures: {error}.", field="rules"
        ) from error
    step = _grams("weight_step", rules.get("weight_step", "1 g"))
    if step <= 0:
        raise UserError("rules: weight_step must be above zero.", field="rules")
    return Service(
        code,
        name,
        dim,
        step_g=step,
        min_weight_g=_grams("min_weight", rules.get("min_weight", "0 g")),
        extra_step_g=_grams("extra_step", rules.get("extra_step", "1 kg")) or Fraction(1000),
        limits=limits,
        minimum_charge=Decimal(str(rules["minimum_charge"])) if least else Decimal(0),
        zone_scheme=_one_of(rules, "zone_scheme", "ground", ("ground", "usps", "chart")),
        transit_days=transit,
        carrier=calendar,
    )
