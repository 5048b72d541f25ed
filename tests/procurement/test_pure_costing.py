"""Landed cost to the cent: the worked example, refusals, partial receipts, late bills and a real history."""

import csv
import gzip
import json
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oms.core.errors import UserError
from oms.core.money import split_largest_remainder
from procurement.costing import CostLine, accrue, basis_weights, spread, unit_landed

LINES = [
    CostLine("A", 100, D("10.00"), weight_g=500),
    CostLine("B", 10, D("50.00"), weight_g=4000),
    CostLine("C", 40, D("2.50"), weight_g=250),
]


def cents(*texts):
    return [D(text) for text in texts]


@pytest.mark.parametrize(
    ("basis", "shares"),
    [
        ("quantity", cents("666.67", "66.66", "266.67")),
        ("value", cents("625.00", "312.50", "62.50")),
        ("weight", cents("500", "400", "100")),
        ("equal", cents("333.34", "333.33", "333.33")),
    ],
)
def test_freight_of_1000_by_each_basis(basis, shares):
    assert spread(D(1000), basis, LINES, "USD") == shares


def test_worked_example_of_unit_costs():
    freight = spread(D(1000), "weight", LINES, "USD")
    duty = spread(D("137.41"), "value", LINES, "USD")
    assert duty == cents("85.88", "42.94", "8.59")
    units = [
        unit_landed(line.value, f + d, line.quantity) for line, f, d in zip(LINES, freight, duty, strict=True)
    ]
    assert units == cents("15.8588", "94.2940", "5.21475")
    assert sum(unit * line.quantity for unit, line in zip(units, LINES, strict=True)) == D("2737.41")


def test_equal_fractions_prefer_the_larger_share_whatever_the_digits():
    assert spread(D(500), "quantity", LINES, "USD") == cents("333.34", "33.33", "133.33")


def test_duty_touches_only_dutiable_lines():
    lines = [LINES[0], CostLine("B", 10, D("50.00"), dutiable=False), LINES[2]]
    assert spread(D("110.00"), "value", lines, "USD", dutiable_only=True) == cents("100", "0", "10")


def test_missing_measure_names_the_sku():
    lines = [LINES[0], CostLine("HEAVY-1", 3, D(5)), CostLine("HEAVY-2", 3, D(5), weight_g=0)]
    with pytest.raises(UserError, match="HEAVY-1, HEAVY-2 has no weight") as caught:
        spread(D(10), "weight", lines, "USD")
    assert caught.value.field == "basis"
    with pytest.raises(UserError, match="A, HEAVY-1, HEAVY-2 has no dimensions"):
        basis_weights("volume", lines)


def test_senseless_bases_are_refused():
    with pytest.raises(UserError, match="not one of quantity"):
        spread(D(10), "colour", LINES, "USD")
    with pytest.raises(UserError, match="zero on every line"):
        spread(D(10), "value", [CostLine("FREE", 3, D(0))], "USD")


def test_volume_counts_the_whole_line():
    lines = [CostLine("A", 2, D(1), volume_mm3=3000), CostLine("B", 4, D(1), volume_mm3=500)]
    assert spread(D("8.00"), "volume", lines, "USD") == cents("6", "2")


def test_three_receipts_take_the_freight_once():
    taken, parts = D(0), []
    for received in (3, 5, 7):
        part = accrue(D("100.00"), ordered=7, received=received, taken=taken, currency="USD")
        parts.append(part)
        taken += part
    assert parts == cents("42.86", "28.57", "28.57")
    assert accrue(D("100.00"), ordered=7, received=9, taken=taken, currency="USD") == 0


def test_damaged_units_leave_their_cost_on_the_good_ones():
    assert unit_landed(D("100"), D("20"), 8) == D("15")
    with pytest.raises(ValueError, match="no good unit"):
        unit_landed(D("100"), D("20"), 0)


def test_currencies_have_their_own_coin():
    assert spread(D(100), "equal", LINES, "JPY") == cents("34", "33", "33")
    assert spread(D("1.000"), "equal", LINES, "KWD") == cents("0.334", "0.333", "0.333")


@given(
    st.decimals(D("-9999.99"), D("9999.99"), places=2),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=9),
    st.sampled_from(["USD", "KWD"]),
)
def test_shares_sum_to_the_charge_and_lie_within_a_coin_of_exact(amount, weights, currency):
    shares = split_largest_remainder(amount, weights, currency)
    assert sum(shares) == amount
    coin = D("0.01") if currency == "USD" else D("0.001")
    whole = sum(weights) or len(weights)
    for share, weight in zip(shares, weights if sum(weights) else [1] * len(weights), strict=True):
        assert abs(share * whole - amount * weight) < coin * whole


def test_scms_landed_totals(shared_dir):
    """USAID SCMS history until 2010: value, freight and insurance of every line with a stated freight."""
    want = json.loads((shared_dir / "data/expected/scms_shared.json").read_text())["landed"]
    landed, rows = D(0), 0
    with gzip.open(
        shared_dir / "data/procurement/scms_shipments_to_2010.csv.gz", "rt", encoding="utf-8"
    ) as file:
        for row in csv.DictReader(file):
            try:
                freight = D(row["Freight Cost (USD)"])
            except ArithmeticError:  # a text such as "Freight Included in Commodity Cost"
                continue
            units = int(row["Line Item Quantity"])
            line = CostLine(row["ID"], units, D(row["Line Item Value"]) / units)
            charges = freight + D(row["Line Item Insurance (USD)"] or 0)
            landed += (
                unit_landed(D(row["Line Item Value"]), spread(charges, "quantity", [line], "USD")[0], units)
                * units
            )
            rows += 1
    assert rows == want["rows"]
    assert landed.quantize(D("0.01")) == D(str(want["landed"]))
