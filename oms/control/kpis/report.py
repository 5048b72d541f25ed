"""The report: every key figure of a window with its definition, its predecessor, its target and its chart."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.utils.safestring import SafeString

from channels import kpis as sync
from fulfillment import kpis as cycle
from inventory import kpis as stock
from inventory.models import Warehouse
from oms.control.kpis import rollup
from oms.core import business, charts
from oms.core.access import Scope, can, scope_of
from oms.core.charts import Series
from oms.core.clock import business_day, now
from oms.core.errors import NotFound, UserError
from oms.core.figures import Tallies, Tally, Window, spread_percentile
from oms.core.figures import total as total_of
from oms.orders import kpis as demand
from oms.orders.models import SalesChannel
from returns import kpis as returns

ONE = dt.timedelta(days=1)
DEFAULT_DAYS = 30
MOST_DAYS = 800
Value = Decimal | float | None


# --- what is asked --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A window and places, inside what the person may see."""

    window: Window
    channel: str = ""
    warehouse: str = ""
    scope: Scope = Scope()
    costs: bool = True

    @property
    def channels(self) -> frozenset[str] | None:
        """Codes that count, None = all."""
        return frozenset({self.channel}) if self.channel else self.scope.channels

    @property
    def warehouses(self) -> frozenset[str] | None:
        return frozenset({self.warehouse}) if self.warehouse else self.scope.warehouses

    def query(self) -> dict[str, str]:
        """As parameters of an address."""
        found = {"from": self.window.first.isoformat(), "to": self.window.last.isoformat()}
        return found | {
            name: value for name, value in (("channel", self.channel), ("warehouse", self.warehouse)) if value
        }


def asked(given: Mapping[str, str], principal: Any) -> Asked:
    """Read from, to (business days, both counted), channel and warehouse (codes) for a person or a token.

    Without days it is the last 30 days up to today. Raises `UserError` for a day that is none or a window that is too
    long, `NotFound` for a place that does not exist or is not the person's.
    """
    today = business_day()
    last = _day(given, "to") or today
    first = _day(given, "from") or last - (DEFAULT_DAYS - 1) * ONE
    if first > last:
        raise UserError(f"from: {first} is after {last}; choose an earlier day.", field="from")
    window = Window(first, last)
    if window.days > MOST_DAYS:
        raise UserError(f"from: at most {MOST_DAYS} days at once, {window.days} asked.", field="from")
    scope = scope_of(principal, "reports.view")
    channel, warehouse = (_code(given, name) for name in ("channel", "warehouse"))
    if channel and not (
        scope.covers(channel_code=channel) and SalesChannel.objects.filter(code=channel).exists()
    ):
        raise NotFound("channel: there is no such channel.", field="channel")
    if warehouse and not (
        scope.covers(warehouse_code=warehouse) and Warehouse.objects.filter(code=warehouse).exists()
    ):
        raise NotFound("warehouse: there is no such warehouse.", field="warehouse")
    return Asked(window, channel, warehouse, scope, can(principal, "costs.view"))


def _code(given: Mapping[str, str], name: str) -> str:
    text = given.get(name, "").strip()
    if "\0" in text or len(text) > 40:
        raise UserError(f"{name}: that is no code.", field=name)
    return text


def _day(given: Mapping[str, str], name: str) -> dt.date | None:
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        day = dt.date.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{name}: '{text[:20]}' is not a day; write 2026-11-23.", field=name) from error
    if not dt.date(2000, 1, 1) <= day <= dt.date(2100, 1, 1):
        raise UserError(f"{name}: choose a day between 2000 and 2100.", field=name)
    return day


# --- what is answered -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A further figure beside the first one. `value` is the number itself, `text` how people read it."""

    key: str
    label: str
    value: Value | int
    text: str


@dataclass(frozen=True)
class Point:
    """One stretch of the chart."""

    label: str
    first: dt.date
    tally: Tally


@dataclass(frozen=True)
class Kpi:
    """A key figure: where it comes from and how it is told."""

    key: str
    title: str
    definition: str
    source: str
    unit: str  # "%", "h", "s", "×" or "money"
    headline: Callable[[Tally], Value]
    parts: Callable[[Tally], list[Part]]
    chart: Callable[[Kpi, list[Point], Asked, Tallies], SafeString]
    pick: Callable[[Tallies, Asked], Tallies]
    drills: tuple[tuple[str, str, str], ...]  # key, label, name of the count in the tally
    by_channel: bool = True
    by_warehouse: bool = True
    by_place: bool = False  # needs the tallies of each place and not only their sum
    costs: bool = False
    matures: int = 0
    lower_is_better: bool = True
    target: Callable[[], Decimal | None] = lambda: None
    target_key: str = ""  # the part that the target is about; empty = the headline


@dataclass
class Figure:
    """A key figure of one window, ready to be shown."""

    kpi: Kpi
    value: Value
    previous: Value
    target: Decimal | None
    parts: list[Part]
    draw: Callable[[], SafeString]
    points: list[tuple[Point, Value]]
    counts: dict[str, int]
    restated: list[dt.date]
    notes: list[str] = field(default_factory=list)
    provisional: bool = False
    hidden: str = ""  # why the person does not see it

    @property
    def chart(self) -> SafeString:
        return self.draw()

    @property
    def text(self) -> str:
        return tell(self.value, self.kpi.unit)

    @property
    def previous_text(self) -> str:
        return tell(self.previous, self.kpi.unit)

    @property
    def target_text(self) -> str:
        return tell(self.target, self.kpi.unit)

    @property
    def compared(self) -> Value:
        """What is held against the target."""
        if not self.kpi.target_key:
            return self.value
        found = next(part.value for part in self.parts if part.key == self.kpi.target_key)
        return found

    @property
    def good(self) -> bool | None:
        """Whether the target is met; None without a target or a figure."""
        if self.target is None or self.compared is None:
            return None
        value = Decimal(str(self.compared))
        return value <= self.target if self.kpi.lower_is_better else value >= self.target

    @property
    def change(self) -> str:
        """`+8 %` against the previous period; for shares in points."""
        if self.value is None or self.previous is None:
            return ""
        new, old = Decimal(str(self.value)), Decimal(str(self.previous))
        if self.kpi.unit == "%":
            return f"{(new - old) * 100:+.1f} points".replace("-", "−")
        return f"{(new - old) / old * 100:+.0f} %".replace("-", "−") if old else ""

    @property
    def hint(self) -> str:
        """The line under the value of a tile."""
        if self.hidden:
            return self.hidden
        before = f"{self.previous_text} before" if self.previous is not None else "nothing to compare with"
        return f"{before} · target {self.target_text}" if self.target is not None else before


def tell(value: Value | int, unit: str) -> str:
    """A figure as people read it; – for none."""
    if value is None:
        return "–"
    number = Decimal(str(value))
    if unit == "%":
        return f"{number * 100:,.2f} %" if abs(number) < Decimal("0.1") else f"{number * 100:,.1f} %"
    if unit == "money":
        return f"{number:,.2f} {business.currency()}"
    if unit == "n":
        return f"{number:,.0f}"
    return f"{number:,.0f} {unit}" if abs(number) >= 1000 else f"{charts.number_text(value)} {unit}"


# --- choosing what counts -------------------------------------------------------------------------


def _as_is(found: Tallies, ask: Asked) -> Tallies:
    return found


def _value_rows(found: Tallies, ask: Asked) -> Tallies:
    """Of the stock: the pools that count (own ones unless a warehouse is named), and how many days were closed."""
    codes = value_codes(ask)
    picked: Tallies = {}
    for place, tally in found.items():
        if place.warehouse == stock.ANYWHERE:
            picked[place] = Tally({"days": tally.get("days")})
        elif place.warehouse in codes:
            picked[place] = tally
    return picked


def value_codes(ask: Asked) -> set[str]:
    """Warehouses whose stock is added up. Pools that a marketplace runs are in only when one is asked for by name."""
    if ask.warehouse:
        return {ask.warehouse}
    rows = Warehouse.objects.exclude(kind__in=[Warehouse.Kind.FBA, Warehouse.Kind.WFS])
    codes = set(rows.values_list("code", flat=True))
    return codes if ask.scope.warehouses is None else codes & ask.scope.warehouses


def anywhere(ask: Asked) -> bool:
    """True when a SKU counts as out only where no pool of ours has it; else every warehouse is counted by itself."""
    return ask.warehouses is None


def _time_rows(found: Tallies, ask: Asked) -> Tallies:
    codes = {stock.ANYWHERE} if anywhere(ask) else value_codes(ask)
    return {place: tally for place, tally in found.items() if place.warehouse in codes}


# --- the figures ----------------------------------------------------------------------------------


def _count(key: str, label: str, tally: Tally, name: str) -> Part:
    number = tally.whole(name)
    return Part(key, label, number, f"{number:,}")


def _part(key: str, label: str, value: Value, unit: str) -> Part:
    return Part(key, label, value, tell(value, unit))


def _turnover(tally: Tally) -> stock.Turnover:
    return stock.turnover(tally, tally.whole("days"))


def _turnover_parts(tally: Tally) -> list[Part]:
    found = _turnover(tally)
    parts = [
        _part("period", "In the period", found.ratio, "×"),
        _part("dio", "Days inventory outstanding", found.days_on_hand, "days"),
        _part("cogs", "Cost of goods sold, restocked returns taken off", found.cogs, "money"),
        _part("average_value", "Average stock value, mean of daily closings", found.average, "money"),
    ]
    if found.days:
        days = found.days
        parts += [
            _part("unfit_value", "of it quarantine, inspection, damaged", Decimal(tally.get("unfit_value")) / days,
                  "money"),
            _part("transit_value", "of it in transit", Decimal(tally.get("transit_value")) / days, "money"),
        ]  # fmt: skip
    return parts


def _rate() -> Decimal:
    return Decimal(business.get("carrying_rate"))


def _carrying(tally: Tally) -> Value:
    return stock.carrying_cost(_turnover(tally).average, _rate(), tally.whole("days"))


def _carrying_parts(tally: Tally) -> list[Part]:
    average = _turnover(tally).average
    return [
        _part("yearly", "A year at this level", stock.carrying_cost(average, _rate(), 365), "money"),
        _part("average_value", "Average stock value, mean of daily closings", average, "money"),
        _part("rate", "Yearly carrying rate", _rate(), "%"),
        _count("days", "Days closed", tally, "days"),
    ]


def _accuracy_parts(tally: Tally) -> list[Part]:
    found = returns.accuracy(tally)
    return [
        _part("line_accuracy", "Line accuracy", found.line_rate, "%"),
        _part("perfect", "Perfect orders: right, complete, on time, undamaged", found.perfect_rate, "%"),
        _count("orders", "Orders shipped", tally, "orders"),
        _count("errors", "Orders with an error of ours", tally, "errors"),
        _count("prevented", "Errors prevented by a scan, not counted", tally, "prevented"),
    ]


def _seconds(value: int | None) -> Value:
    return None if value is None else value / 1000


def _sync_headline(tally: Tally) -> Value:
    return _seconds(sync.tallied_latency(tally).p95)


def _sync_parts(tally: Tally) -> list[Part]:
    found = sync.tallied_latency(tally)
    inbound = spread_percentile(tally.spread("inbound"), 0.95)
    return [
        _part("p50", "p50", _seconds(found.p50), "s"),
        _part("p99", "p99", _seconds(found.p99), "s"),
        _part("max", "Longest", _seconds(found.longest), "s"),
        _part("within", "Acknowledged under 5 s", found.within, "%"),
        Part("changes", "Changes measured", found.count, f"{found.count:,}"),
        _count("open", "of them not yet acknowledged, with their age", tally, "open"),
        _part("inbound_p95", "Notification received after the event, p95", _seconds(None if inbound is None else
              round(inbound)), "s"),
    ]  # fmt: skip


def _cycle_parts(tally: Tally) -> list[Part]:
    found = cycle.cycle_time(tally)
    names = {
        "imported": "Placed → imported", "routed": "Imported → routed", "released": "Routed → released",
        "picked": "Routed or released → picked", "packed": "Picked → packed", "shipped": "Packed → shipped",
    }  # fmt: skip
    return [
        _part("p90", "p90", found.p90, "h"),
        _part("net_median", "Net of holds by buyer or payment, median", found.net_median, "h"),
        _part("first_median", "First parcel of the order, median", found.first_median, "h"),
        Part("orders", "Orders shipped", found.orders, f"{found.orders:,}"),
        *(_part(f"stage_{key}", f"Stage {names[key]}, mean", mean, "h") for key, mean in found.stages),
    ]


def _return_parts(tally: Tally) -> list[Part]:
    found = returns.return_rate(tally)
    return [
        _part("order_rate", "Orders with a return", found.order_rate, "%"),
        _part("value_rate", "Value returned", found.value_rate, "%"),
        _count("units", "Units shipped", tally, "units"),
        _count("returned", f"Units back within {returns.RETURN_DAYS} days of delivery", tally, "returned"),
        _count("exchanged", "of them exchanged", tally, "exchanged"),
        _count("advised", "Units announced, not yet here, not counted", tally, "advised"),
        _part("undelivered", "Never reached the buyer, not counted", found.undelivered_rate, "%"),
        _part(
            "unmatched", "Unmatched: received in the period ÷ shipped in the period", found.period_rate, "%"
        ),
    ]


def _stockout_parts(tally: Tally) -> list[Part]:
    found = demand.stockout_rate(tally)
    fill = None if found.unit_rate is None else 1 - found.unit_rate
    return [
        _part("unit_rate", "Units short", found.unit_rate, "%"),
        _part("fill", "Fill rate, units", fill, "%"),
        _count("lines", "Demand lines", tally, "lines"),
        _count("short_lines", "Lines that stock did not cover at the first try", tally, "short_lines"),
    ]


def _time_parts(tally: Tally) -> list[Part]:
    found = stock.stockout_time(tally)
    return [
        _count("sku_days", "SKU-days on sale", tally, "sku_days"),
        _part("out_days", "SKU-days with nothing available", found.out_days, "days"),
    ]


def _line(kpi: Kpi, points: list[Point], ask: Asked, found: Tallies) -> SafeString:
    """The headline over time."""
    factor = 100 if kpi.unit == "%" else 1
    unit = business.currency() if kpi.unit == "money" else kpi.unit
    values = [_times(kpi.headline(point.tally), factor) for point in points]
    target = kpi.target()
    known = [value for value in values if value is not None]
    floor = 90 if kpi.unit == "%" and known and min(known) >= 90 else 0
    return charts.line(
        kpi.title, [point.label for point in points], [Series(kpi.title, values)], unit=unit,
        target=None if target is None else target * factor, floor=floor,
    )  # fmt: skip


def _bars(kpi: Kpi, points: list[Point], ask: Asked, found: Tallies) -> SafeString:
    values = [_times(kpi.headline(point.tally), 1) for point in points]
    labels = [point.label for point in points]
    unit = business.currency() if kpi.unit == "money" else kpi.unit
    return charts.bars(kpi.title, labels, [Series(kpi.title, values)], unit=unit)


def _times(value: Value, factor: int) -> float | None:
    return None if value is None else float(value) * factor


def _sync_chart(kpi: Kpi, points: list[Point], ask: Asked, found: Tallies) -> SafeString:
    latencies = [sync.tallied_latency(point.tally) for point in points]
    series = [
        Series("p50", [_times(_seconds(one.p50), 1) for one in latencies]),
        Series("p95", [_times(_seconds(one.p95), 1) for one in latencies]),
    ]
    return charts.line(kpi.title, [point.label for point in points], series, unit="s", target=5)


def _cycle_chart(kpi: Kpi, points: list[Point], ask: Asked, found: Tallies) -> SafeString:
    tallies = [point.tally for point in points]
    series = [
        Series("median", [cycle.hours(one, "gross", 0.5) for one in tallies]),
        Series("p90", [cycle.hours(one, "gross", 0.9) for one in tallies]),
    ]
    labels = [point.label for point in points]
    lines = charts.line(kpi.title, labels, series, unit="h", target=kpi.target())
    stages = [(name, [cycle.mean_hours(one, f"stage_{name}") for one in tallies]) for name in cycle.STAGES]
    staged = [Series(name, means) for name, means in stages if any(means)]
    return lines + charts.bars("Where the hours go, mean", labels, staged, unit="h", stacked=True)


def _return_chart(kpi: Kpi, points: list[Point], ask: Asked, found: Tallies) -> SafeString:
    """By channel first: that is the question; then over time."""
    names = dict(SalesChannel.objects.values_list("code", "name"))
    by_channel: dict[str, Tally] = {}
    for place, tally in found.items():
        by_channel.setdefault(place.channel, Tally()).merge(tally)
    rates = sorted(
        (names.get(code, code), returns.return_rate(tally).rate) for code, tally in by_channel.items()
    )
    shown = [(name, _times(rate, 100)) for name, rate in rates if rate is not None]
    target = kpi.target()
    chart = charts.bars(
        "Return rate by channel", [name for name, _ in shown], [Series("Return rate", [rate for _, rate in shown])],
        unit="%", target=None if target is None else target * 100,
    )  # fmt: skip
    return chart + _line(kpi, points, ask, found)


def _share_target(name: str) -> Callable[[], Decimal]:
    return lambda: Decimal(business.get(name))


KPIS: dict[str, Kpi] = {
    kpi.key: kpi
    for kpi in (
        Kpi(
            "turnover", "Inventory turnover",
            "Landed cost of units shipped less units restocked, divided by the mean of the daily closing values, "
            "for a year of the same pace.",
            "stock", "×", lambda tally: _turnover(tally).yearly, _turnover_parts, _line, _value_rows,
            (("sold", "Cost of goods sold", ""), ("value", "Closing values", "")),
            by_channel=False, by_place=True, costs=True, lower_is_better=False,
            target=_share_target("target_turnover"),
        ),
        Kpi(
            "accuracy", "Order accuracy",
            "1 − orders with an error of ours (wrong item, quantity or address, missing, badly packed) ÷ orders "
            "shipped, by the day they left.",
            "accuracy", "%", lambda tally: returns.accuracy(tally).rate, _accuracy_parts, _line, _as_is,
            (("errors", "Orders with an error", "errors"), ("shipped", "Orders shipped", "orders")),
            matures=returns.ACCURACY_MATURE, lower_is_better=False, target=lambda: returns.ACCURACY_TARGET,
        ),
        Kpi(
            "sync", "Sync latency, p95",
            "From the commit of a stock change until the channel accepted a figure that includes it, per listing; "
            "what is still open counts with its age.",
            "sync", "s", _sync_headline, _sync_parts, _sync_chart, _as_is,
            (("pushes", "Changes acknowledged", ""), ("open", "Not yet acknowledged", "open")),
            by_warehouse=False, target=lambda: Decimal(5),
        ),
        Kpi(
            "cycle", "Fulfilment cycle time, median",
            "From the moment an order was placed until its last parcel left, by the day it left; holds are included.",
            "cycle", "h", lambda tally: cycle.hours(tally, "gross", 0.5), _cycle_parts, _cycle_chart, _as_is,
            (("shipped", "Orders shipped", "minutes_n"),), target=lambda: Decimal(business.get("target_cycle_hours")),
        ),
        Kpi(
            "returns", "Return rate",
            f"Units that came back within {returns.RETURN_DAYS} days of delivery ÷ units shipped, by the day they "
            "were shipped.",
            "returns", "%", lambda tally: returns.return_rate(tally).rate, _return_parts, _return_chart, _as_is,
            (("returned", "Lines with a return", ""), ("lines", "Lines shipped", "")),
            matures=returns.RETURNS_MATURE, by_place=True, target=_share_target("target_return_rate"),
        ),
        Kpi(
            "carrying", "Carrying cost",
            "Average stock value × yearly carrying rate (capital, storage, service, risk) × days ÷ 365.",
            "stock", "money", _carrying, _carrying_parts, _bars, _value_rows, (("value", "Closing values", ""),),
            by_channel=False, by_place=True, costs=True,
        ),
        Kpi(
            "stockout", "Stockout rate, demand",
            "Order lines that stock did not cover at the first try ÷ all lines asked for. Demand that a channel hid "
            "while it showed 0 is not in it.",
            "demand", "%", lambda tally: demand.stockout_rate(tally).rate, _stockout_parts, _line, _as_is,
            (("short", "Lines not covered", "short_lines"), ("lines", "Demand lines", "lines")),
            by_warehouse=False, target=_share_target("target_stockout_rate"),
        ),
        Kpi(
            "stockout-time", "Stockout rate, time",
            "SKU-days with nothing available ÷ SKU-days on sale, counted by the minute. Never to be mixed with the "
            "rate by demand.",
            "stock", "%", lambda tally: stock.stockout_time(tally).rate, _time_parts, _line, _time_rows,
            (("out", "Stock days with nothing available", ""), ("days", "SKU-days on sale", "")),
            by_channel=False, by_place=True,
        ),
    )
}  # fmt: skip


# --- putting it together --------------------------------------------------------------------------


def why_hidden(kpi: Kpi, ask: Asked) -> str:
    """Why a person does not see a figure at all; empty when he does."""
    if kpi.costs and not ask.costs:
        return "You need the right to see costs."
    if not kpi.by_warehouse and ask.scope.warehouses is not None:
        return "Not divided by warehouse: only for people who see all warehouses."
    if not kpi.by_channel and ask.scope.channels is not None:
        return "Not divided by channel: only for people who see all channels."
    return ""


class Reader:
    """Reads each source once per window."""

    def __init__(self, ask: Asked) -> None:
        self.ask = ask
        self._found: dict[tuple[str, Window, bool], Tallies] = {}
        self._first: dict[str, dt.date] | None = None

    def first_days(self) -> dict[str, dt.date]:
        """The first day that was ever counted, per source."""
        if self._first is None:
            self._first = rollup.first_days()
        return self._first

    def tallies(self, kpi: Kpi, window: Window) -> Tallies:
        # the stock is read whole: its rows decide which places belong together
        whole = kpi.source == "stock"
        channels = self.ask.channels if kpi.by_channel else None
        warehouses = self.ask.warehouses if kpi.by_warehouse and not whole else None
        summed = not kpi.by_place and channels is None and warehouses is None
        key = (kpi.source, window, summed)
        if key not in self._found:
            self._found[key] = rollup.read(
                kpi.source, window, channels=channels, warehouses=warehouses, summed=summed
            )
        return kpi.pick(self._found[key], self.ask)


def figures(ask: Asked, keys: Sequence[str] = ()) -> list[Figure]:
    """The figures asked for (none named = all), in their order."""
    reader = Reader(ask)
    with business.read_once():
        return [figure(KPIS[key], ask, reader) for key in keys or KPIS]


def figure(kpi: Kpi, ask: Asked, reader: Reader | None = None) -> Figure:
    """One key figure with its predecessor, chart and notes."""
    hidden = why_hidden(kpi, ask)
    if hidden:
        return Figure(kpi, None, None, None, [], SafeString, [], {}, [], hidden=hidden)
    reader = reader or Reader(ask)
    found = reader.tallies(kpi, ask.window)
    points = stretches(found, ask.window)
    total = total_of(point.tally for point in points)
    if kpi.source == "sync" and ask.window.last >= business_day():
        ages = open_ages(ask)
        total.add("open", len(ages))
        for age in ages:
            sync.add_latency(total, age)
    before = ask.window.before()
    known = reader.first_days().get(kpi.source)
    previous = None
    if known is not None and known <= before.first:  # half a window is nothing to compare with
        previous = kpi.headline(total_of(reader.tallies(kpi, before).values()))
    counts = {key: total.whole(name) for key, _, name in kpi.drills if name}
    shown = Figure(
        kpi,
        kpi.headline(total),
        previous,
        kpi.target(),
        kpi.parts(total),
        lambda: kpi.chart(kpi, points, ask, found),
        [(point, kpi.headline(point.tally)) for point in points],
        counts,
        rollup.restated(kpi.source, ask.window),
        notes=_notes(kpi, ask, total),
    )
    shown.provisional = bool(kpi.matures) and ask.window.last > business_day() - (kpi.matures + 1) * ONE
    return shown


def open_ages(ask: Asked) -> list[int]:
    """Milliseconds that changes wait for their channel by now."""
    at = now()
    rows = sync.still_open()
    if ask.channels is not None:
        rows = rows.filter(account__sales_channel__code__in=ask.channels)
    since = rows.values_list("stale_since", flat=True)[: sync.MOST]
    return [max(0, int((at - moment).total_seconds() * 1000)) for moment in since if moment is not None]


def _notes(kpi: Kpi, ask: Asked, total: Tally) -> list[str]:
    notes = []
    if ask.channel and not kpi.by_channel:
        notes.append("All channels: they sell from the same stock.")
    if ask.warehouse and not kpi.by_warehouse:
        notes.append("All warehouses: this figure is not divided by warehouse.")
    if kpi.source == "stock" and not ask.warehouse and kpi.costs:
        notes.append("Without the pools that a marketplace runs (FBA, WFS); choose one to see it.")
    if kpi.key == "stockout-time":
        notes.append("Out = in none of our own pools." if anywhere(ask) else "Out = in that warehouse.")
    if total.whole("foreign") and kpi.costs:
        notes.append("SKUs with costs in another currency are left out of the value.")
    if total.whole("uncosted") and kpi.costs:
        notes.append("Some SKUs have no cost and count as 0.")
    if total.whole("unpriced"):
        notes.append("Orders without an exchange rate are left out of the value.")
    if kpi.source == "sync":
        if ask.window.first < business_day() - 30 * ONE:
            notes.append("Rows of pushes are kept for 30 days; older days keep their figures only.")
        out = sync.left_out(None if ask.channels is None else sorted(ask.channels))
        told = [
            f"{out[key]:,} {word}"
            for key, word in (
                ("unmapped", "not mapped"),
                ("paused", "paused"),
                ("given_up", "given up"),
                ("anew", "waiting for first figures"),
            )
            if out[key]
        ]
        if told:
            notes.append(f"Listings left out: {', '.join(told)}.")
    return notes


def stretches(found: Tallies, window: Window) -> list[Point]:
    """The window in days, weeks or months: what the chart shows point by point (pure)."""
    by_days = window.days <= 31
    by_weeks = not by_days and window.days <= rollup.BY_DAYS
    points: dict[dt.date, Tally] = {}
    day = window.first
    while day <= window.last:
        points.setdefault(_begin(day, by_days, by_weeks), Tally())
        day += ONE
    for place, tally in found.items():
        points.setdefault(_begin(place.day, by_days, by_weeks), Tally()).merge(tally)
    return [
        Point(f"{begin:%b %Y}" if not (by_days or by_weeks) else f"{begin.day} {begin:%b}", begin, tally)
        for begin, tally in sorted(points.items())
    ]


def _begin(day: dt.date, by_days: bool, by_weeks: bool) -> dt.date:
    if by_days:
        return day
    return day - day.weekday() * ONE if by_weeks else day.replace(day=1)


def choices(ask: Asked) -> dict[str, list[tuple[str, str]]]:
    """What the filters offer this person."""
    channels = SalesChannel.objects.filter(ask.scope.q(channel="code"))
    warehouses = Warehouse.objects.filter(ask.scope.q(warehouse="code"))
    return {
        "channels": list(channels.values_list("code", "name")),
        "warehouses": list(warehouses.values_list("code", "name")),
    }
