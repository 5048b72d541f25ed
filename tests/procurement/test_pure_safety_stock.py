"""Safety stock by its four formulas, with the worked example and real sales."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procurement import safety_stock as ss

Z95 = ss.z_value(0.95)


@pytest.mark.parametrize(("level", "z"), [(0.90, 1.282), (0.95, 1.645), (0.975, 1.960), (0.99, 2.326)])
def test_z_of_the_usual_service_levels(level, z):
    assert round(ss.z_value(level), 3) == z


@pytest.mark.parametrize("level", [0, 1, 1.2, -0.1])
def test_service_level_outside_its_range_is_refused(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        ss.z_value(level)


def test_worked_example():
    """Mean 12 a day, deviation 6, lead time 21 ± 4 days, 95 %."""
    assert ss.demand_varies(Z95, 6, 21) == pytest.approx(45.226, abs=5e-4)
    assert ss.both_vary(Z95, 12, 6, 21, 4) == pytest.approx(90.989, abs=5e-4)
    assert ss.both_vary_together(Z95, 12, 6, 21, 4) == pytest.approx(124.179, abs=5e-4)
    assert ss.lead_time_varies(Z95, 12, 4) == pytest.approx(124.179 - 45.226, abs=1e-3)
    assert 12 * 21 + ss.both_vary(Z95, 12, 6, 21, 4) == pytest.approx(342.99, abs=5e-3)
    assert ss.whole_units(12 * 21 + ss.both_vary(Z95, 12, 6, 21, 4)) == 343


def test_whole_units_forgive_binary_noise():
    assert ss.whole_units(3 * 0.1 * 10) == 3
    assert ss.whole_units(3.0001) == 4


@pytest.mark.parametrize(
    ("mean", "level", "point"),
    [
        (0.0, 0.95, 0),
        (1.0, 0.95, 3),
        (2.0, 0.95, 5),
        (2.0, 0.99, 6),
        (10.0, 0.95, 15),
        (0.05, 0.95, 0),
        (0.1, 0.95, 1),
    ],
)
def test_poisson_quantile(mean, level, point):
    """Values of the Poisson table: P(N ≤ 3 | 1) = 0.9810, P(N ≤ 2 | 1) = 0.9197 …"""
    assert ss.poisson_reorder_point(mean, level) == point


def test_poisson_for_large_means_meets_the_normal_limit_and_rejects_nonsense():
    assert abs(ss.poisson_reorder_point(701, 0.95) - ss.poisson_reorder_point(699, 0.95)) <= 3
    with pytest.raises(ValueError, match="negative"):
        ss.poisson_reorder_point(-1, 0.95)


@given(st.floats(0, 60), st.floats(0.5, 0.999))
def test_poisson_point_is_the_smallest_that_suffices(mean, level):
    def cumulative(n):
        return math.fsum(math.exp(-mean) * mean**k / math.factorial(k) for k in range(n + 1))

    point = ss.poisson_reorder_point(mean, level)
    assert cumulative(point) >= level - 1e-9
    assert point == 0 or cumulative(point - 1) < level + 1e-9


def test_reorder_points_of_real_sales(shared_dir):
    """UCI Online Retail: constant lead time, so only demand varies; figures computed with pandas."""
    windows = json.loads((shared_dir / "data/expected/online_retail_shared.json").read_text())["reorder"][
        "windows"
    ]
    checked = 0
    for window in windows.values():
        for line in window["top25"]:
            mean, sd = line["units"] / _window_days(line), line["sd"]
            for lead in (7, 14, 30):
                assert ss.whole_units(mean * lead) == line[f"avg_only_L{lead}"]
                for name, level in (("95", 0.95), ("99", 0.99)):
                    point = mean * lead + ss.demand_varies(ss.z_value(level), sd, lead)
                    assert ss.whole_units(point) == line[f"rop_L{lead}_{name}"]
                    checked += 1
    assert checked == 6 * 25 * len(windows)


def _window_days(line):
    return round(line["units"] / line["mean_per_day"])
