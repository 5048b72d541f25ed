"""Table rates: every line of the rule set, with exact prices."""

from dataclasses import replace
from datetime import date
from decimal import Decimal as D
from fractions import Fraction as F

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.carriers.base import AddressSpec, ParcelSpec, ProblemKind, QuoteRequest, Rate
from fulfillment.carriers.table_rate.rating import (
    Break,
    Card,
    DimRule,
    Limits,
    Service,
    Surcharge,
    Tariff,
    base_price,
    billable_weight,
    bound,
    check_conditions,
    is_military,
    is_po_box,
    quote,
    rate,
    service_from,
)
from fulfillment.carriers.table_rate.zones import ZoneChartRow
from oms.core.errors import UserError

LB = F("453.59237")
DAY = date(2026, 11, 23)
LAST_YEAR = date(2025, 1, 1)
UPS_LIKE = Service(
    "ground", "Ground", DimRule(F(139)), step_g=LB, min_weight_g=LB, transit_days={"4": 2, "8": 5}
)
CARD = Card(
    "USD",
    LAST_YEAR,
    {"4": (Break(454, D("8.10")), Break(2268, D("11.25")), Break(4536, D("14.50"), D("1.10")))},
)
NASHVILLE = AddressSpec(
    name="A", street1="1 Main St", city="Nashville", region="TN", postal_code="37203", residential=False
)
NEW_ORLEANS = AddressSpec(name="W", street1="2 Dock Rd", city="New Orleans", region="LA", postal_code="70112")


def box(weight_g, inches=(6, 6, 6)):
    return ParcelSpec(weight_g, *(round(side * 25.4) for side in inches))


def ask(*parcels, service=UPS_LIKE, cards=(CARD,), surcharges=(), to=NASHVILLE, on=DAY, **kwargs):
    request = QuoteRequest(NEW_ORLEANS, to, parcels, on, **kwargs)
    return rate(Tariff(service, tuple(cards), tuple(surcharges)), request)


def price(*parcels, **kwargs):
    answer = ask(*parcels, **kwargs)
    assert isinstance(answer, Rate), answer
    return answer.amount


def refused(*parcels, **kwargs):
    answer = ask(*parcels, **kwargs)
    assert isinstance(answer, list)
    return [problem.message for problem in answer]


# --- billable weight -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grams", "pounds"),
    [(1, 1), (453, 1), (454, 1), (455, 2), (907, 2), (908, 3), (4536, 10), (4537, 11)],
)
def test_actual_weight_rounds_up_to_the_next_pound(grams, pounds):
    assert billable_weight(box(grams, (1, 1, 1)), UPS_LIKE).grams == pounds * LB


def test_dimensional_weight_of_every_package_with_139():
    """2 lb, 24 × 18 × 12 in: 5184 ÷ 139 = 37.29 lb, charged as 38."""
    heavy = billable_weight(box(907, (24, 18, 12)), UPS_LIKE)
    assert (heavy.grams, heavy.basis) == (38 * LB, "dimensional")
    assert billable_weight(box(20_000, (24, 18, 12)), UPS_LIKE).basis == "actual"


def test_each_side_is_rounded_up_before_multiplying():
    just_over = ParcelSpec(100, 306, 254, 254)  # 12.05 × 10 × 10 in
    assert billable_weight(just_over, UPS_LIKE).grams == 10 * LB  # 13·100 ÷ 139 = 9.35
    nearest = replace(UPS_LIKE, dim=DimRule(F(139), rounding="nearest"))
    assert billable_weight(just_over, nearest).grams == 9 * LB  # 12·100 ÷ 139 = 8.63
    exact = replace(UPS_LIKE, dim=DimRule(F(139), rounding="none"))
    assert billable_weight(just_over, exact).grams == 9 * LB


def test_a_twelve_inch_side_stored_as_305_mm_is_twelve_inches():
    assert billable_weight(ParcelSpec(100, 305, 305, 305), UPS_LIKE).grams == 13 * LB  # 1728 ÷ 139 = 12.43


def test_threshold_counts_only_larger_parcels():
    postal = replace(UPS_LIKE, dim=DimRule(F(166), threshold=F(1728)))
    assert billable_weight(box(454, (12, 12, 12)), postal) == replace(
        billable_weight(box(454), UPS_LIKE), basis="actual", grams=LB
    )
    assert billable_weight(box(454, (13, 12, 12)), postal).grams == 12 * LB  # 1872 ÷ 166 = 11.28


def test_metric_divisor_and_half_kilogram_steps():
    express = Service("x", "X", DimRule(F(5000), "cm", "none"), step_g=F(500))
    assert (
        billable_weight(ParcelSpec(1000, 300, 200, 200), express).grams == 2500
    )  # 12,000 cm³ ÷ 5000 = 2.4 kg
    assert billable_weight(ParcelSpec(2501, 300, 200, 200), express).grams == 3000


def test_minimum_weight():
    assert billable_weight(box(10), replace(UPS_LIKE, dim=None, min_weight_g=2 * LB)).basis == "minimum"


def test_no_size_rule_means_actual_weight():
    assert billable_weight(box(907, (24, 18, 12)), replace(UPS_LIKE, dim=None)).grams == 2 * LB


# --- cards -----------------------------------------------------------------------------------------


def test_upper_bounds_are_inclusive():
    small = (2, 2, 2)
    assert price(box(454, small)) == D("8.10")
    assert price(box(455, small)) == D("11.25")
    assert price(box(2268, small)) == D("11.25")  # exactly 5 lb
    assert price(box(4536, small)) == D("14.50")  # exactly the last 10 lb


def test_bounds_in_whole_grams_stand_for_exact_pounds():
    assert bound(453, LB) == bound(454, LB) == LB
    assert bound(68039, LB) == 150 * LB
    assert bound(460, LB) == 460
    assert bound(1, F(1)) == 1 and bound(30_500, F(500)) == 30_500


def test_above_the_last_break_each_started_unit_costs_extra_or_there_is_no_rate():
    pounds = replace(UPS_LIKE, extra_step_g=LB)
    assert price(box(round(12 * float(LB)), (2, 2, 2)), service=pounds) == D("16.70")  # 14.50 + 2 · 1.10
    assert price(box(4537, (2, 2, 2))) == D("15.60")  # 1 lb over is one started kilogram
    closed = replace(CARD, breaks={"4": (Break(454, D("8.10")),)})
    assert refused(box(500, (2, 2, 2)), cards=[closed]) == [
        "Ground: parcel 1: 908 g is above the last weight of zone 4."
    ]


def test_breaks_need_not_be_sorted():
    shuffled = replace(CARD, breaks={"4": CARD.breaks["4"][::-1]})
    assert price(box(455, (2, 2, 2)), cards=[shuffled]) == D("11.25")


def test_card_of_the_origin_and_the_date():
    dearer = replace(CARD, valid_from=date(2026, 11, 23), breaks={"4": (Break(9999, D("20")),)})
    own = replace(CARD, origin_group="EAST", breaks={"4": (Break(9999, D("5")),)})
    old = replace(CARD, valid_to=date(2026, 11, 22))
    assert price(box(100), cards=[old, dearer]) == D("20.00")
    assert price(box(100), cards=[old, dearer], on=date(2026, 11, 22)) == D("11.25")  # 216 in³ ÷ 139 = 2 lb
    assert price(box(100), cards=[dearer, own], origin_group="EAST") == D("5.00")
    assert price(box(100), cards=[dearer, own], origin_group="WEST") == D("20.00")
    assert refused(box(100), cards=[old]) == ["Ground: no rate card is valid on 2026-11-23."]


def test_flat_prices_per_country():
    world = replace(UPS_LIKE, zone_scheme="chart", dim=None)
    card = Card("EUR", LAST_YEAR, {"DE": (Break(5000, D("9.90")),)})
    berlin = replace(NASHVILLE, country="DE", region="", postal_code="10115")
    request = QuoteRequest(NEW_ORLEANS, berlin, (box(900),), DAY)
    answer = rate(Tariff(world, (card,)), request, [ZoneChartRow("DE", "DE")])
    assert isinstance(answer, Rate)
    assert (answer.amount, answer.currency, answer.zone, answer.is_estimate) == (
        D("9.90"),
        "EUR",
        "DE",
        False,
    )
    missing = rate(Tariff(world, (card,)), request)
    assert [p.message for p in missing] == ["Ground: no zone is known for DE 10115."]


# --- surcharges ------------------------------------------------------------------------------------

RESIDENTIAL = Surcharge(
    "residential", "Residential", LAST_YEAR, D("5.00"), conditions={"residential": True}, position=20
)
FUEL = Surcharge("fuel", "Fuel", LAST_YEAR, percent=D("10"), applies_to=("base",), position=1)
HOME = replace(NASHVILLE, residential=True)


def codes(answer):
    return [(charge.code, charge.amount) for charge in answer.charges]


def test_fuel_is_taken_of_the_named_components_whatever_the_positions():
    on_base = ask(box(100, (2, 2, 2)), surcharges=[FUEL, RESIDENTIAL], to=HOME)
    assert codes(on_base) == [("base", D("8.10")), ("residential", D("5.00")), ("fuel", D("0.81"))]
    on_both = replace(FUEL, applies_to=("base", "residential"))
    assert price(box(100, (2, 2, 2)), surcharges=[on_both, RESIDENTIAL], to=HOME) == D("14.41")
    on_all = replace(FUEL, applies_to=("*",))
    assert price(box(100, (2, 2, 2)), surcharges=[on_all, RESIDENTIAL], to=HOME) == D("14.41")
    assert price(box(100, (2, 2, 2)), surcharges=[on_both, RESIDENTIAL]) == D("8.91")  # a business address


def test_rounding_is_half_up_once_at_the_end_and_shown():
    answer = ask(box(100, (2, 2, 2)), surcharges=[replace(FUEL, percent=D("12.5"))])
    # 8.10 + 1.0125 = 9.1125
    assert codes(answer) == [("base", D("8.10")), ("fuel", D("1.0125")), ("rounding", D("-0.0025"))]
    assert answer.amount == D("9.11")
    half = ask(box(100, (2, 2, 2)), surcharges=[replace(FUEL, percent=D("0.0617284"))])  # 0.0050000004
    assert half.amount == D("8.11")
    yen = replace(CARD, currency="JPY", breaks={"4": (Break(9999, D("805")),)})
    assert price(box(100), cards=[yen], surcharges=[FUEL]) == D("886")  # 885.5


def test_minimum_charge_is_applied_after_fuel():
    answer = ask(box(100, (2, 2, 2)), surcharges=[FUEL], service=replace(UPS_LIKE, minimum_charge=D("9.50")))
    assert codes(answer)[-1] == ("minimum", D("0.59")) and answer.amount == D("9.50")
    assert price(
        box(100, (2, 2, 2)), surcharges=[FUEL], service=replace(UPS_LIKE, minimum_charge=D("8.91"))
    ) == D("8.91")


def test_weekly_fuel_uses_the_row_in_force_on_the_ship_date():
    weeks = [
        FUEL,
        replace(FUEL, valid_from=date(2026, 11, 16), percent=D("20")),
        replace(FUEL, valid_from=date(2026, 11, 30)),
    ]
    assert price(box(100, (2, 2, 2)), surcharges=weeks) == D("9.72")
    ended = [replace(weeks[1], valid_to=date(2026, 11, 22))]
    assert price(box(100, (2, 2, 2)), surcharges=ended) == D("8.10")


@pytest.mark.parametrize(
    ("conditions", "parcel", "to", "applied"),
    [
        ({"longest_side_over_mm": 1219}, ParcelSpec(100, 1219, 10, 10), NASHVILLE, False),
        ({"longest_side_over_mm": 1219}, ParcelSpec(100, 10, 1220, 10), NASHVILLE, True),
        ({"second_side_over_mm": 762}, ParcelSpec(100, 800, 763, 10), NASHVILLE, True),
        ({"length_plus_girth_over_mm": 100}, ParcelSpec(100, 60, 10, 10), NASHVILLE, False),
        ({"length_plus_girth_over_mm": 100}, ParcelSpec(100, 61, 10, 10), NASHVILLE, True),
        ({"weight_over_g": 100}, ParcelSpec(100, 10, 10, 10), NASHVILLE, False),
        ({"billable_over_g": 100}, ParcelSpec(100, 10, 10, 10), NASHVILLE, True),  # 1 lb is charged
        ({"postal_prefixes": ["372"]}, ParcelSpec(100, 10, 10, 10), NASHVILLE, True),
        ({"regions": ["TN"], "residential": True}, ParcelSpec(100, 10, 10, 10), NASHVILLE, False),
        ({"countries": ["CA"]}, ParcelSpec(100, 10, 10, 10), NASHVILLE, False),
        ({"zones": ["4"]}, ParcelSpec(100, 10, 10, 10), NASHVILLE, True),
    ],
)
def test_surcharge_conditions(conditions, parcel, to, applied):
    check_conditions(conditions)
    extra = Surcharge("x", "X", LAST_YEAR, D("1.00"), conditions=conditions)
    card = replace(CARD, breaks={"4": (Break(500_000, D("8")),)})
    assert price(parcel, cards=[card], surcharges=[extra], to=to) == D("9.00" if applied else "8.00")


def test_wrong_conditions_are_named():
    with pytest.raises(UserError, match="'moon' is unknown; use residential"):
        check_conditions({"moon": 1})
    with pytest.raises(UserError, match="weight_over_g must be a whole number"):
        check_conditions({"weight_over_g": True})
    with pytest.raises(UserError, match="zones must be a list"):
        check_conditions({"zones": "4"})


def test_parcels_are_rated_one_by_one_and_added_up():
    answer = ask(box(100, (2, 2, 2)), box(455, (2, 2, 2)), surcharges=[replace(FUEL, percent=D("12.5"))])
    # 9.1125 → 9.11 and 12.65625 → 12.66
    assert answer.amount == D("21.77")
    assert sum(charge.amount for charge in answer.charges) == answer.amount


# --- limits, dates ---------------------------------------------------------------------------------


def test_limits_are_inclusive_and_every_breach_is_named():
    limits = Limits(max_weight_g=1000, max_length_mm=200, max_length_girth_mm=600)
    service = replace(UPS_LIKE, limits=limits)
    assert isinstance(ask(ParcelSpec(1000, 200, 100, 100), service=service), Rate)
    assert refused(ParcelSpec(1000, 200, 100, 100), ParcelSpec(1001, 201, 100, 100), service=service) == [
        "Ground: parcel 2: 1001 g is over the limit of 1000 g.",
        "Ground: parcel 2: 201 mm is longer than 200 mm.",
        "Ground: parcel 2: length plus girth 601 mm is over 600 mm.",
    ]


@pytest.mark.parametrize(
    ("street", "boxed"),
    [
        ("PO Box 12", True), ("P.O. Box 12", True), ("p o box 7", True), ("Post Office Box 9", True),
        ("P.O.B. 71", True),
        ("Postfach 3", True), ("Packstation 101", True), ("Boîte postale 4", True),
        ("12 Boxwood Rd", False), ("5 Post St", False), ("1 Popo Boxer Ave", False), ("Unit 4 Box Hill", False),
    ],
)  # fmt: skip
def test_post_office_boxes(street, boxed):
    assert is_po_box(AddressSpec(street1=street)) is boxed
    assert is_po_box(AddressSpec(street1="c/o", street2=street)) is boxed


def test_blackouts_per_service():
    apo = replace(NASHVILLE, city="APO", region="AE", postal_code="09012")
    alaska = replace(NASHVILLE, region="Alaska", postal_code="99501")
    limits = Limits(
        no_po_box=True,
        no_military=True,
        no_regions=frozenset({"AK", "HI", "PR"}),
        countries=frozenset({"US"}),
    )
    service = replace(UPS_LIKE, limits=limits)
    assert is_military(apo) and not is_military(NASHVILLE)
    assert refused(box(1), service=service, to=apo) == ["Ground: does not deliver to military addresses."]
    assert refused(box(1), service=service, to=alaska) == ["Ground: does not deliver to AK."]
    assert refused(box(1), service=service, to=replace(NASHVILLE, street2="PO Box 3")) == [
        "Ground: does not deliver to post office boxes."
    ]
    assert refused(box(1), service=service, to=replace(NASHVILLE, country="CA")) == [
        "Ground: does not deliver to CA."
    ]


def test_arrival_counts_the_carriers_working_days():
    answer = ask(box(100))
    assert (answer.zone, answer.transit_days, answer.arrives_on) == ("4", 2, date(2026, 11, 25))
    assert ask(box(100), on=date(2026, 11, 27)).arrives_on == date(2026, 12, 1)  # a Friday
    holiday = service_from("g", "G", {"transit_days": {"4": 2}, "delivery_closures": ["2026-11-25"]})
    assert ask(box(100), service=holiday).arrives_on == date(2026, 11, 26)
    saturday = service_from("g", "G", {"transit_days": {"4": 1}, "delivery_weekdays": [0, 1, 2, 3, 4, 5]})
    assert ask(box(100), service=saturday, on=date(2026, 11, 27)).arrives_on == date(2026, 11, 28)
    unknown = ask(box(100), service=replace(UPS_LIKE, transit_days={}))
    assert (unknown.transit_days, unknown.arrives_on) == (None, None)


def test_zone_by_formula_is_an_estimate():
    assert ask(box(100)).is_estimate is True


def test_parcels_without_weight_are_refused_not_free():
    assert refused(ParcelSpec(0, 10, 10, 10)) == ["Ground: parcel 1 has no weight."]
    assert refused() == ["Ground: there is no parcel."]


def test_zone_without_a_price_is_said():
    far = replace(NASHVILLE, region="WA", postal_code="98101")
    assert refused(box(100), to=far) == ["Ground: zone 8 has no price."]


def test_quote_sorts_by_price_and_keeps_the_problems():
    cheap = Tariff(
        replace(UPS_LIKE, code="slow", name="Slow"), (replace(CARD, breaks={"4": (Break(9999, D("1")),)}),)
    )
    none = Tariff(replace(UPS_LIKE, code="none", name="None"), ())
    request = QuoteRequest(NEW_ORLEANS, NASHVILLE, (box(100),), DAY)
    result = quote([Tariff(UPS_LIKE, (CARD,)), none, cheap], request)
    assert [r.service for r in result.rates] == ["slow", "ground"]
    assert [(p.kind, p.service) for p in result.problems] == [(ProblemKind.NOT_SERVICED, "none")]
    only = quote([Tariff(UPS_LIKE, (CARD,)), none, cheap], replace(request, services=("ground",)))
    assert ([r.service for r in only.rates], only.problems) == (["ground"], ())


# --- stored rules ----------------------------------------------------------------------------------


def test_service_from_stored_rules():
    service = service_from(
        "ground",
        "Ground",
        {
            "dim_divisor": 139, "weight_step": "1 lb", "min_weight": "1 lb", "extra_step": "1 lb",
            "max_weight_g": 68038,
            "max_length_girth_mm": 4191, "countries": ["US"], "no_po_box": True, "minimum_charge": "9.50",
            "transit_days": {"4": 2}, "zone_scheme": "ground",
        },
    )  # fmt: skip
    assert (service.dim, service.step_g, service.min_weight_g) == (DimRule(F(139)), LB, LB)
    assert (service.limits.max_weight_g, service.minimum_charge, service.transit_days) == (
        68038,
        D("9.50"),
        {"4": 2},
    )
    assert service_from("x", "X", {}).step_g == 1


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"dimdivisor": 1}, "'dimdivisor' is unknown; use dim_divisor"),
        ({"dim_divisor": "big"}, "dim_divisor must be a number, not 'big'"),
        ({"dim_divisor": -1}, "dim_divisor must be above zero"),
        ({"dim_divisor": 139, "dim_unit": "ft"}, "dim_unit is 'ft', use one of in, cm"),
        ({"weight_step": "a pound"}, "weight_step is a weight such as '1 lb'"),
        ({"weight_step": "0 lb"}, "weight_step must be above zero"),
        ({"zone_scheme": "moon"}, "zone_scheme is 'moon'"),
        ({"minimum_charge": "free"}, "minimum_charge must be a number"),
        ({"delivery_closures": ["tomorrow"]}, "delivery_closures: Invalid isoformat"),
    ],
)
def test_wrong_rules_are_named(rules, words):
    with pytest.raises(UserError, match=words):
        service_from("x", "X", rules)


@given(st.integers(1, 60_000), st.integers(1, 60_000))
def test_heavier_is_never_cheaper(first, second):
    light, heavy = sorted((first, second))
    pair = [
        base_price(CARD.breaks["4"], billable_weight(box(g, (2, 2, 2)), UPS_LIKE), UPS_LIKE)
        for g in (light, heavy)
    ]
    assert pair[0] is not None and pair[1] is not None and pair[0] <= pair[1]


@given(
    st.integers(1, 70_000),
    st.tuples(*[st.integers(1, 2000)] * 3),
    st.decimals("0", "40", places=2),
    st.booleans(),
)
def test_components_always_sum_to_the_price(weight, sides, percent, home):
    answer = ask(
        ParcelSpec(weight, *sides),
        ParcelSpec(weight, *sides),
        surcharges=[replace(FUEL, percent=percent), RESIDENTIAL],
        to=HOME if home else NASHVILLE,
    )
    assert isinstance(answer, Rate)
    assert sum(charge.amount for charge in answer.charges) == answer.amount
    assert answer.amount == answer.amount.quantize(D("0.01"))
