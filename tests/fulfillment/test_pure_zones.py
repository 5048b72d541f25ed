"""Zones: published examples, bands, special areas, imported charts."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.carriers.table_rate import zones
from fulfillment.carriers.table_rate.zones import ZoneAnswer, ZoneChartRow, zone_for, zone_of_distance


@pytest.mark.parametrize(
    ("origin", "destination", "zone"),
    [
        ("70112", "37203", "4"),  # New Orleans to Nashville
        ("37701", "90210-1234", "8"),  # Knoxville to Los Angeles
        ("37701", "37601", "2"),
        ("38002", "06405", "5"),  # 994 miles, at the edge of a band
    ],
)
def test_published_examples(origin, destination, zone):
    answer = zone_for(origin, "US", destination, scheme="usps")
    assert answer is not None and (answer.zone, answer.is_estimate, answer.source) == (zone, True, "distance")


def test_distance_of_the_edge_example_is_told():
    answer = zone_for("38002", "US", "06405", scheme="usps")
    assert answer is not None and answer.miles == 994


@pytest.mark.parametrize(
    ("miles", "usps", "ground"),
    [(0, "1", "2"), (50.4, "1", "2"), (50.5, "2", "2"), (150, "2", "2"), (151, "3", "3"), (300, "3", "3"),
     (301, "4", "4"), (600, "4", "4"), (601, "5", "5"), (1000, "5", "5"),
     (1001, "6", "6"), (1400, "6", "6"), (1401, "7", "7"),
     (1800, "7", "7"), (1801, "8", "8"), (9000, "8", "8")],
)  # fmt: skip
def test_bands_are_inclusive_at_their_upper_end(miles, usps, ground):
    assert (zone_of_distance(miles, "usps"), zone_of_distance(miles, "ground")) == (usps, ground)


@pytest.mark.parametrize(
    ("postal", "area"),
    [("99501", "AK"), ("96815", "HI"), ("00901", "PR"), ("00801", "VI"), ("96910", "GU"), ("09012", "MIL"),
     ("34002", "MIL"), ("96201", "MIL"), ("10001", ""), ("SW1A 1AA", "")],
)  # fmt: skip
def test_areas_by_postal_code(postal, area):
    assert zones.us_area(postal) == area


def test_special_areas_per_scheme():
    assert zone_for("10001", "US", "99501", scheme="ground") == ZoneAnswer("AK", False, "fixed")
    assert zone_for("10001", "US", "09012", scheme="ground") is None
    assert zone_for("10001", "US", "09012", scheme="usps") == ZoneAnswer("8", False, "fixed")
    assert zone_for("10001", "US", "96940", scheme="usps") == ZoneAnswer("9", False, "fixed")
    guam = zone_for("10001", "US", "96910", scheme="usps")
    assert guam is not None and (guam.zone, guam.source) == ("8", "distance")
    inside = zone_for("96815", "US", "96701", scheme="ground")
    assert inside is not None and inside.source == "distance"


def test_unknown_places_have_no_zone():
    assert zone_for("10001", "US", "88812", scheme="usps") is None
    assert zone_for("10001", "US", "nonsense", scheme="usps") is None
    assert zone_for("10001", "DE", "10115", scheme="usps") is None
    assert zone_for("10115", "US", "10001", scheme="usps", origin_country="DE") is None
    with pytest.raises(ValueError, match="not one of chart, usps, ground"):
        zone_for("10001", "US", "10001", scheme="moon")


CHART = [
    ZoneChartRow("K", "CA"),
    ZoneChartRow("K1", "CA", destination_prefix="M5V"),
    ZoneChartRow("6", "US", origin_prefix="380", destination_prefix="064"),
    ZoneChartRow("7", "US", origin_prefix="", destination_prefix="06405"),
]


def test_chart_overrides_the_formula_and_the_longest_prefix_wins():
    assert zone_for("38002", "US", "06410", chart=CHART) == ZoneAnswer("6", False, "chart")
    assert zone_for("38002", "US", "06405-0001", chart=CHART) == ZoneAnswer("7", False, "chart")
    assert zone_for("38002", "CA", "m5v 2t6", chart=CHART) == ZoneAnswer("K1", False, "chart")
    assert zone_for("38002", "CA", "V5K", scheme="chart", chart=CHART) == ZoneAnswer("K", False, "chart")
    assert zone_for("38002", "US", "10001", scheme="chart", chart=CHART) is None


def test_data_file_is_small_complete_and_sane():
    path = Path(zones.__file__).with_name("zip3_centroids.json")
    centres = json.loads(path.read_text())
    assert len(centres) == 916 and path.stat().st_size < 25_000
    assert all(-15 < lat < 72 and (-180 <= lon < -64 or 130 < lon < 180) for lat, lon in centres.values())


@given(st.integers(501, 99950), st.integers(501, 99950))
def test_distance_is_symmetric_and_bounded(first, second):
    there = zones.miles_between(f"{first:05d}", f"{second:05d}")
    back = zones.miles_between(f"{second:05d}", f"{first:05d}")
    assert (there is None) == (back is None)
    if there is not None and back is not None:
        assert there == pytest.approx(back) and 0 <= there < 10_500
