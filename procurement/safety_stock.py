"""Safety stock and reorder points: P. L. King, "Crack the Code", APICS magazine Jul/Aug 2011.

Pure functions. All rates are units per day and all times are calendar days of the supplier. The
service level is the *cycle* service level: the share of replenishment cycles without a stockout. It
is not the fill rate.
"""

from __future__ import annotations

import math
from statistics import NormalDist

#: fewer days with demand than this describe no normal distribution; the Poisson quantile is used
MIN_DEMAND_DAYS = 8


def z_value(service_level: float) -> float:
    """Standard deviations that cover `service_level` of all cycles: 0.95 → 1.6449.

    Raises ValueError unless 0 < service_level < 1.
    """
    if not 0 < service_level < 1:
        raise ValueError("the service level must lie between 0 and 1, for example 0.95")
    return NormalDist().inv_cdf(service_level)


def demand_varies(z: float, sd_demand: float, lead_time: float) -> float:
    """Only demand varies: Z·σd·√LT, in units."""
    return z * sd_demand * math.sqrt(lead_time)


def lead_time_varies(z: float, mean_demand: float, sd_lead_time: float) -> float:
    """Only the lead time varies: Z·d̄·σLT, in units."""
    return z * mean_demand * sd_lead_time


def both_vary(z: float, mean_demand: float, sd_demand: float, lead_time: float, sd_lead_time: float) -> float:
    """Demand and lead time vary independently: Z·√(LT·σd² + d̄²·σLT²), in units."""
    return z * math.sqrt(lead_time * sd_demand**2 + (mean_demand * sd_lead_time) ** 2)


def both_vary_together(
    z: float, mean_demand: float, sd_demand: float, lead_time: float, sd_lead_time: float
) -> float:
    """Demand and lead time vary together: Z·σd·√LT + Z·d̄·σLT, in units."""
    return demand_varies(z, sd_demand, lead_time) + lead_time_varies(z, mean_demand, sd_lead_time)


def whole_units(quantity: float) -> int:
    """Round up to whole units, forgiving binary noise: 343.0000000001 is 343."""
    return math.ceil(quantity - 1e-9)


def poisson_reorder_point(mean: float, service_level: float) -> int:
    """Smallest n with P(Poisson(mean) ≤ n) ≥ service_level; `mean` is the demand over the lead time.

    For slow movers, whose demand has too few days to estimate a deviation. Raises ValueError for a
    negative mean or a service level outside (0, 1).
    """
    if mean < 0:
        raise ValueError("mean demand cannot be negative")
    z = z_value(service_level)
    if mean > 700:  # e^−mean leaves the range of a float; the normal limit is exact to a unit here
        return whole_units(mean + z * math.sqrt(mean))
    term = total = math.exp(-mean)
    n = 0
    while total < service_level - 1e-12:
        n += 1
        term *= mean / n
        total += term
    return n
