"""When to buy, how much and from whom, with the whole sum behind it.

Pure functions over dataclasses: rates are units per day, times calendar days of the supplier,
quantities whole eaches, money Decimal in one currency named by the caller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from procurement.safety_stock import (
    MIN_DEMAND_DAYS,
    both_vary,
    both_vary_together,
    poisson_reorder_point,
    whole_units,
    z_value,
)


@dataclass(frozen=True, slots=True)
class Demand:
    """What sells: mean and standard deviation per day, and on how many days anything was sold."""

    per_day: float
    sd: float = 0.0
    demand_days: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """Stock and what is coming and promised, in eaches.

    `on_order_in_time` arrives within lead time + review interval; `on_order_late` does not and must
    not hide a stockout, it is only told.
    """

    sellable: int
    reserved: int = 0
    backorders: int = 0
    on_order_in_time: int = 0
    on_order_late: int = 0
    transfers_in: int = 0

    @property
    def total(self) -> int:
        return self.sellable + self.on_order_in_time + self.transfers_in - self.reserved - self.backorders


@dataclass(frozen=True, slots=True)
class Terms:
    """What the supplier asks for: minimum, case multiple, lead time and its deviation, landed unit cost.

    `breaks` are lower costs per unit from a quantity on, in force today, as (from quantity, unit cost).
    """

    lead_time: float
    lead_time_sd: float = 0.0
    moq: int = 1
    multiple: int = 1
    unit_cost: Decimal | None = None
    maximum: int | None = None
    breaks: tuple[tuple[int, Decimal], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """How the SKU is planned. EOQ needs `order_cost` and the carrying rate; else cover days decide alone.

    `together`: suppliers are late when much is sold, so both deviations add up in full.
    """

    service_level: float = 0.95
    review_days: int = 0
    cover_days: int = 30
    min_stock: int = 0
    max_stock: int | None = None
    order_cost: Decimal | None = None
    carrying_rate: Decimal = Decimal("0.25")
    shelf_life_days: int | None = None
    together: bool = False


@dataclass(frozen=True, slots=True)
class Advice:
    """What to order and why. `need` is before minimum, multiple and caps; `quantity` 0 means do not order."""

    quantity: int
    need: int
    reorder_point: int
    position: int
    order_up_to: int
    safety_stock: float
    method: str  # "normal" or "poisson"
    eoq: float | None
    stockout_on: date | None
    reason: str
    trace: dict[str, object]


def order_quantity(need: int, *, moq: int = 1, multiple: int = 1, maximum: int | None = None) -> int:
    """Round a need up to the supplier's terms: 37 with minimum 50 and cases of 12 is 60; 0 stays 0.

    `maximum` is the most the supplier takes in one order; it gives way to the minimum.
    """
    if need <= 0:
        return 0
    wanted = max(moq, need if maximum is None else min(maximum, need))
    return -(-wanted // multiple) * multiple


def eoq(yearly_units: float, order_cost: Decimal, carrying_rate: Decimal, unit_cost: Decimal) -> float:
    """Harris/Wilson √(2·D·S ÷ (h·c)) in units; `order_cost` and `unit_cost` in one currency.

    Raises ValueError when carrying rate or unit cost is not positive.
    """
    if carrying_rate <= 0 or unit_cost <= 0:
        raise ValueError("carrying rate and unit cost must be above zero")
    return math.sqrt(2 * yearly_units * float(order_cost) / float(carrying_rate * unit_cost))


def best_break(
    yearly_units: float, order_cost: Decimal, carrying_rate: Decimal, bands: Sequence[tuple[int, Decimal]]
) -> tuple[int, Decimal]:
    """The order quantity of least yearly cost among price bands (from quantity, unit cost) and that cost.

    Each band offers its own EOQ where that lies inside the band, and its first quantity. Cost =
    goods + ordering + carrying of half an order. Equal costs prefer the smaller order.
    """
    demand = Decimal(str(yearly_units))
    ordered = sorted(bands)
    ends = [*(start - 1 for start, _ in ordered[1:]), None]
    options: list[tuple[Decimal, int]] = []
    for (start, cost), end in zip(ordered, ends, strict=True):
        ideal = round(eoq(yearly_units, order_cost, carrying_rate, cost))
        inside = start <= ideal and (end is None or ideal <= end)
        for quantity in {max(1, start), max(1, ideal) if inside else max(1, start)}:
            total = (
                demand * cost + demand / quantity * order_cost + Decimal(quantity) / 2 * carrying_rate * cost
            )
            options.append((total, quantity))
    total, quantity = min(options)
    return quantity, total


def deviation(values: Sequence[int]) -> float:
    """Sample standard deviation of whole numbers, 0 for fewer than two. The sums are exact."""
    count = len(values)
    if count < 2:
        return 0.0
    total, squares = sum(values), sum(value * value for value in values)
    return math.sqrt((count * squares - total * total) / (count * (count - 1)))


def reorder_point(demand: Demand, terms: Terms, plan: Plan) -> tuple[int, float, str]:
    """Reorder point in whole units, the safety stock inside it and the method.

    ROP = d̄·(LT + R) + SS. The safety stock covers the same LT + R days, demand and lead time taken
    as independent, or as varying together where the plan says so. With fewer than 8 days of demand it
    is the Poisson quantile of that demand.
    """
    days = terms.lead_time + plan.review_days
    expected = demand.per_day * days
    if demand.demand_days < MIN_DEMAND_DAYS:
        point, method = poisson_reorder_point(expected, plan.service_level), "poisson"
        safety = point - expected
    else:
        stock = both_vary_together if plan.together else both_vary
        safety = stock(z_value(plan.service_level), demand.per_day, demand.sd, days, terms.lead_time_sd)
        point, method = whole_units(expected + safety), "normal"
    return max(point, plan.min_stock), safety, method


def _ceiling(demand: Demand, position: Position, plan: Plan) -> int | None:
    """The most that may be ordered now, from maximum stock and shelf life; backorders always fit."""
    limits = []
    if plan.max_stock is not None:
        limits.append(plan.max_stock - position.total)
    if plan.shelf_life_days is not None:
        limits.append(math.floor(plan.shelf_life_days * demand.per_day) - position.total)
    return max(min(limits), position.backorders) if limits else None


def advise(demand: Demand, position: Position, terms: Terms, plan: Plan, *, today: date) -> Advice:
    """The reorder advice for one SKU at one warehouse, with every input of the sum in `trace`.

    Order when position ≤ reorder point, up to ROP + max(d̄·cover days, EOQ), rounded to the terms and
    capped by maximum stock and shelf life. With price breaks the EOQ is the quantity of least yearly
    cost. A SKU without sales but with backorders is ordered too.
    """
    point, safety, method = reorder_point(demand, terms, plan)
    best, band = None, None
    if plan.order_cost and terms.unit_cost and plan.carrying_rate > 0 and demand.per_day > 0:
        yearly, bands = (
            demand.per_day * 365,
            [(1, terms.unit_cost), *(one for one in terms.breaks if one[1] > 0)],
        )
        best = eoq(yearly, plan.order_cost, plan.carrying_rate, terms.unit_cost)
        if len(bands) > 1:
            size, _ = best_break(yearly, plan.order_cost, plan.carrying_rate, bands)
            best, band = float(size), max(one for one in bands if one[0] <= size)
    order_up_to = point + whole_units(max(demand.per_day * plan.cover_days, best or 0.0))
    now = position.total
    need = max(0, order_up_to - now) if now <= point else 0
    quantity = order_quantity(need, moq=terms.moq, multiple=terms.multiple, maximum=terms.maximum)
    blocked = ""
    ceiling = _ceiling(demand, position, plan)
    if quantity and ceiling is not None and quantity > ceiling:
        capped = max(0, ceiling) // terms.multiple * terms.multiple
        if capped < terms.moq or capped == 0:
            blocked = f"the smallest order is {max(terms.moq, terms.multiple)}, only {max(0, ceiling)} fit"
            capped = 0
        quantity = capped
    runs_out = _runs_out(position, demand, today)
    reason = _sentence(need, quantity, point, now, terms, blocked, position) + _of_break(
        band, quantity, terms.unit_cost
    )
    trace = {
        "demand": _plain(demand),
        "position": _plain(position),
        "terms": _plain(terms),
        "plan": _plain(plan),
        "safety_stock": round(safety, 3),
        "method": method,
        "reorder_point": point,
        "order_up_to": order_up_to,
        "eoq": round(best, 2) if best else None,
        "price_break": None if band is None or band[0] == 1 else {"from": band[0], "unit_cost": str(band[1])},
        "ceiling": ceiling,
    }
    return Advice(quantity, need, point, now, order_up_to, safety, method, best, runs_out, reason, trace)


def _plain(inputs: Demand | Position | Terms | Plan) -> dict[str, object]:
    """The fields by name, decimals as text, so that a trace can be stored as JSON without loss."""

    def plain(value: object) -> object:
        if isinstance(value, tuple):
            return [plain(one) for one in value]
        return str(value) if isinstance(value, Decimal) else value

    return {name: plain(getattr(inputs, name)) for name in inputs.__slots__}


def _of_break(band: tuple[int, Decimal] | None, quantity: int, base: Decimal | None) -> str:
    """What the price band of the cheapest year means for this order; nothing where that is the base price."""
    if band is None or band[0] == 1 or not quantity:
        return ""
    start, cost = band
    if quantity < start:
        return f" The price break at {start} would make the year cheapest, but does not fit."
    return f" From {start} a unit costs {_price(cost)} instead of {_price(base or cost)}: the year is cheapest so."


def _price(cost: Decimal) -> str:
    """As people write it: 8.50 for 8.5000, 8.4525 as it is."""
    short = cost.quantize(Decimal("0.01"))
    return f"{short if short == cost else cost.normalize():f}"


def _runs_out(position: Position, demand: Demand, today: date) -> date | None:
    """The day on which free stock is gone if nothing arrives."""
    free = max(0, position.sellable - position.reserved - position.backorders)
    if demand.per_day <= 0 or free / demand.per_day > 36_500:
        return None
    return today + timedelta(days=math.ceil(free / demand.per_day - 1e-9))


def _sentence(
    need: int, quantity: int, point: int, now: int, terms: Terms, blocked: str, position: Position
) -> str:
    if need == 0:
        return (
            f"Nothing to order: position {now} is above the reorder point {point}."
            if now > point
            else (f"Nothing to order: position {now} is at the reorder point {point} and nothing sells.")
        )
    late = f" {position.on_order_late} on order arrive too late to count." if position.on_order_late else ""
    if blocked:
        return f"Position {now} ≤ reorder point {point}, need {need}, but {blocked}.{late}"
    rounded = ""
    if quantity > need:
        rounded = f" (need {need}, minimum {terms.moq}, cases of {terms.multiple})"
    elif quantity < need:
        rounded = f" (need {need}, capped)"
    return f"Position {now} ≤ reorder point {point}: order {quantity}{rounded}.{late}"


@dataclass(frozen=True, slots=True)
class Option:
    """A supplier's offer for the SKU as the planner compares it; cost is landed, per each, in one currency."""

    key: str
    supplier: str
    rank: int
    unit_cost: Decimal
    lead_time: float
    active: bool = True
    late_rate: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    option: Option | None
    arrives_on: date | None
    sentence: str
    is_backup: bool = False


def choose_supplier(
    options: Sequence[Option],
    *,
    today: date,
    needed_by: date | None = None,
    late_limit: Decimal = Decimal("0.2"),
) -> Choice:
    """The offer to buy from: the best rank, or a back-up when that one cannot serve.

    The primary falls out when it is inactive, late more often than `late_limit`, or cannot arrive by
    `needed_by` (the predicted stockout). Then the cheapest offer without a fault wins; when every
    offer has one, the one that arrives first. The sentence states cost and arrival of both.
    """

    def arrival(option: Option) -> date:
        return today + timedelta(days=math.ceil(option.lead_time - 1e-9))

    def fault(option: Option) -> str:
        if not option.active:
            return "is inactive"
        if option.late_rate is not None and option.late_rate > late_limit:
            return f"is late on {option.late_rate * 100:.0f} % of order lines"
        if needed_by is not None and arrival(option) > needed_by:
            return f"arrives {arrival(option)}, after the stockout on {needed_by}"
        return ""

    ranked = sorted(options, key=lambda o: (o.rank, o.unit_cost, o.key))
    usable = [option for option in ranked if option.active]
    if not usable:
        return Choice(None, None, "No active supplier offers this SKU.")
    primary, trouble = ranked[0], fault(ranked[0])
    if not trouble:
        return Choice(
            primary, arrival(primary), f"{primary.supplier}: {primary.unit_cost}, arrives {arrival(primary)}."
        )
    sound = [option for option in usable if not fault(option)]
    best = (
        min(sound, key=lambda o: (o.unit_cost, arrival(o), o.rank, o.key))
        if sound
        else min(usable, key=lambda o: (arrival(o), o.unit_cost, o.rank, o.key))
    )
    told = f"{primary.supplier} {trouble} (at {primary.unit_cost})"
    if best is primary:
        return Choice(best, arrival(best), f"{told}; no other supplier is quicker.")
    return Choice(
        best, arrival(best), f"{told}; {best.supplier}: {best.unit_cost}, arrives {arrival(best)}.", True
    )


@dataclass(frozen=True, slots=True)
class Donor:
    """Another warehouse that might give stock away."""

    warehouse: str
    available: int
    position: int
    reorder_point: int

    @property
    def spare(self) -> int:
        """Units it can give and still keep its own reorder point."""
        return max(0, min(self.available, self.position - self.reorder_point))


def transfers_before_buying(need: int, donors: Sequence[Donor]) -> list[tuple[str, int]]:
    """Cover a need from other warehouses first: largest spare first, ties by name."""
    plan, left = [], need
    for donor in sorted(donors, key=lambda d: (-d.spare, d.warehouse)):
        units = min(left, donor.spare)
        if units > 0:
            plan.append((donor.warehouse, units))
            left -= units
    return plan


@dataclass(frozen=True, slots=True)
class Site:
    """A warehouse as one of several that hold a SKU, with the part of demand, supply and backorders that is its own.

    `gives`: it may ship transfers. `takes`: it serves buyers, so that running out there matters.
    """

    warehouse: str
    demand: Demand
    position: Position
    plan: Plan
    gives: bool = True
    takes: bool = True

    @property
    def available(self) -> int:
        return max(0, self.position.sellable - self.position.reserved)


@dataclass(frozen=True, slots=True)
class Move:
    """Units that one warehouse gives another: `keeps` of its position are left, its reorder point at the least."""

    source: str
    destination: str
    units: int
    keeps: int
    reorder_point: int

    @property
    def reason(self) -> str:
        return (
            f"{self.units} can come from {self.source}, which keeps {self.keeps} "
            f"(its reorder point is {self.reorder_point})."
        )


def _lacks(site: Site, its: Advice) -> bool:
    return its.quantity > 0 and (its.reorder_point > 0 or site.position.total < 0)


def balance(sites: Sequence[Site], terms: Terms, *, today: date) -> tuple[list[Move], dict[str, Advice]]:
    """What to move between warehouses before anything is bought, and each warehouse's own advice.

    A warehouse at or below its own reorder point takes up to what it would order, from those that keep theirs; the
    first to run out is served first. One that sells next to nothing, with a reorder point of 0, takes what it owes.
    Lead time and its deviation are the supplier's: a donor must last as long as a purchase takes.
    """
    alone = Terms(terms.lead_time, terms.lead_time_sd)
    advice = {
        site.warehouse: advise(site.demand, site.position, alone, site.plan, today=today) for site in sites
    }
    available = {site.warehouse: site.available for site in sites if site.gives}
    positions = {site.warehouse: site.position.total for site in sites}
    needy = sorted(
        (site.warehouse for site in sites if site.takes and _lacks(site, advice[site.warehouse])),
        key=lambda name: (advice[name].stockout_on or date.max, name),
    )
    moves = []
    for name in needy:
        donors = [
            Donor(other, units, positions[other], advice[other].reorder_point)
            for other, units in available.items()
            if other != name
        ]
        for source, units in transfers_before_buying(advice[name].quantity, donors):
            available[source] -= units
            positions[source] -= units
            moves.append(Move(source, name, units, positions[source], advice[source].reorder_point))
    return moves, advice
