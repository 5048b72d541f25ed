"""From a figure to exactly the rows that it counts, in pages or as one file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import F, IntegerField, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from channels import kpis as sync
from fulfillment import kpis as cycle
from inventory import kpis as stock
from inventory.models import StockMovement
from oms.control.kpis.report import KPIS, Asked, Kpi, anywhere, value_codes, why_hidden
from oms.core.errors import NotAllowed, NotFound
from oms.orders import kpis as demand
from oms.orders.models import Order, OrderLine
from returns import kpis as returns

Rows = QuerySet[Any]


@dataclass(frozen=True)
class Column:
    """`key` names it in files and over the API; numbers stand to the right, `money` in the business's currency."""

    key: str
    label: str
    read: Callable[[Any, Asked], Any]
    number: bool = False
    money: bool = False


@dataclass(frozen=True)
class Drill:
    """One set of rows behind a figure."""

    rows: Callable[[Asked], Rows]
    order: tuple[str, ...]
    columns: tuple[Column, ...]
    url: Callable[[Any], tuple[str, Any]]  # name of a screen and its argument


def drill(kpi_key: str, part: str, ask: Asked) -> tuple[Kpi, str, Drill]:
    """The figure, the label of the part and how to read its rows.

    Raises `NotFound` for an unknown one, `NotAllowed` when the person may not see the figure.
    """
    kpi = KPIS.get(kpi_key)
    if kpi is None:
        raise NotFound("kpi: there is no such figure.", field="kpi")
    label = next((label for key, label, _ in kpi.drills if key == part), "")
    if not label:
        raise NotFound("part: this figure has no such rows.", field="part")
    hidden = why_hidden(kpi, ask)
    if hidden:
        raise NotAllowed(hidden)
    return kpi, label, DRILLS[kpi_key, part]


def cells(one: Drill, row: Any, ask: Asked) -> list[Any]:
    return [column.read(row, ask) for column in one.columns]


# --- orders ---------------------------------------------------------------------------------------


def _orders(orders: QuerySet[Order], ask: Asked) -> Rows:
    found = cycle.with_warehouse(orders).select_related("channel")
    if ask.channels is not None:
        found = found.filter(channel__code__in=ask.channels)
    if ask.warehouses is not None:
        found = found.filter(ship_warehouse__in=ask.warehouses)
    return found


def _shipped(ask: Asked) -> Rows:
    return _orders(cycle.shipped_orders(ask.window), ask)


def _wrong(ask: Asked) -> Rows:
    return _orders(returns.wrong_orders(cycle.shipped_orders(ask.window)), ask)


def _lines(ask: Asked) -> QuerySet[OrderLine]:
    """Shipped lines at the places asked for."""
    rows = returns.shipped_lines(ask.window)
    if ask.channels is not None:
        rows = rows.filter(order__channel__code__in=ask.channels)
    if ask.warehouses is not None:
        rows = rows.filter(order__in=_shipped(ask))
    return rows.select_related("order__channel", "sku")


def _returned(ask: Asked) -> Rows:
    lines = returns.returned_of(_lines(ask))
    in_time = (
        returns.receipts()
        .filter(line__order_line=OuterRef("pk"), received_at__lt=OuterRef("return_until"))
        .order_by()
        .values("line__order_line")
        .annotate(units=Sum("quantity"))
        .values("units")
    )
    return lines.annotate(back=Coalesce(Subquery(in_time), 0, output_field=IntegerField()))


def _demand(ask: Asked) -> QuerySet[OrderLine]:
    rows = demand.demand_lines(ask.window.start, ask.window.end)
    if ask.channels is not None:
        rows = rows.filter(order__channel__code__in=ask.channels)
    return rows.select_related("order__channel", "sku")


def _short(ask: Asked) -> Rows:
    return _demand(ask).filter(short_at_entry__gt=0)


def _hours(order: Order, ask: Asked) -> float:
    assert order.shipped_at is not None  # it is a shipped order
    return round(cycle.minutes(order.placed_at, order.shipped_at) / 60, 2)


_ORDER = (
    Column("order", "Order", lambda row, ask: row.number),
    Column("channel", "Channel", lambda row, ask: row.channel.name),
    Column("warehouse", "Warehouse", lambda row, ask: row.ship_warehouse),
    Column("placed_at", "Placed", lambda row, ask: row.placed_at),
    Column("shipped_at", "Shipped", lambda row, ask: row.shipped_at),
    Column("ship_by", "Ship by", lambda row, ask: row.ship_by),
)
_CYCLE = (*_ORDER[:5], Column("hours", "Hours", _hours, True))
_LINE = (
    Column("order", "Order", lambda row, ask: row.order.number),
    Column("channel", "Channel", lambda row, ask: row.order.channel.name),
    Column("sku", "SKU", lambda row, ask: row.sku.code if row.sku else row.external_sku),
)
_SHIPPED_LINE = (
    *_LINE,
    Column("shipped_at", "Shipped", lambda row, ask: row.order.shipped_at),
    Column("units", "Units shipped", lambda row, ask: row.shipped, True),
)
_RETURNED_LINE = (*_SHIPPED_LINE, Column("returned", "Back in time", lambda row, ask: row.back, True))
_DEMAND_LINE = (
    *_LINE,
    Column("placed_at", "Placed", lambda row, ask: row.order.placed_at),
    Column("units", "Units asked", lambda row, ask: row.quantity, True),
    Column("short", "Not covered", lambda row, ask: row.short_at_entry, True),
)


def _order_url(row: Any) -> tuple[str, Any]:
    return "orders:detail", (row if isinstance(row, Order) else row.order).number


# --- stock ----------------------------------------------------------------------------------------


def _sold(ask: Asked) -> Rows:
    rows = stock.sold_at_cost(ask.window).filter(warehouse__code__in=value_codes(ask))
    return rows.select_related("sku", "warehouse")


def _values(ask: Asked) -> Rows:
    rows = stock.valued_days(ask.window).filter(warehouse__code__in=value_codes(ask))
    return rows.select_related("sku", "warehouse")


def _sku_days(ask: Asked) -> Rows:
    rows = stock.sku_days(ask.window, anywhere=anywhere(ask))
    if not anywhere(ask):
        rows = rows.filter(warehouse__code__in=value_codes(ask))
    return rows.select_related("sku", "warehouse")


def _out_days(ask: Asked) -> Rows:
    return _sku_days(ask).filter(out_minutes__gt=0)


_SKU = Column("sku", "SKU", lambda row, ask: row.sku.code)
_WAREHOUSE = Column("warehouse", "Warehouse", lambda row, ask: row.warehouse.code if row.warehouse else "any")
_CURRENCY = Column("currency", "Currency", lambda row, ask: row.sku.currency)
_SOLD = (
    _SKU,
    _WAREHOUSE,
    Column("at", "When", lambda row, ask: row.created_at),
    Column(
        "kind", "What", lambda row, ask: "shipped" if row.kind == StockMovement.Kind.SHIP else "restocked"
    ),
    Column("reference", "Reference", lambda row, ask: row.reference),
    Column("units", "Units", lambda row, ask: abs(row.quantity), True),
    Column("unit_cost", "Cost each", lambda row, ask: row.cost, True, True),
    Column("cost", "Cost", lambda row, ask: stock.cost_of(row.kind, row.quantity, row.cost), True, True),
    _CURRENCY,
)
_DAYS = (
    _SKU,
    _WAREHOUSE,
    Column("from", "From", lambda row, ask: max(row.first_day, ask.window.first)),
    Column("to", "To", lambda row, ask: min(row.last_day, ask.window.last)),
    Column("days", "Days", lambda row, ask: stock.overlap(row, ask.window), True),
)
_VALUE = (
    *_DAYS,
    Column("on_hand", "On hand", lambda row, ask: row.on_hand, True),
    Column("in_transit", "In transit", lambda row, ask: row.in_transit, True),
    Column("unit_cost", "Cost each", lambda row, ask: row.unit_cost, True, True),
    Column("value", "Value a day", lambda row, ask: row.value, True, True),
    _CURRENCY,
)
_OUT = (
    *_DAYS,
    Column("available", "Available at close", lambda row, ask: row.available, True),
    Column("out_minutes", "Minutes out a day", lambda row, ask: row.out_minutes, True),
)


def _sku_url(row: Any) -> tuple[str, Any]:
    return "inventory:sku", row.sku.code


# --- channels -------------------------------------------------------------------------------------


def _pushes(ask: Asked) -> Rows:
    rows = sync.acknowledged(ask.window)
    if ask.channels is not None:
        rows = rows.filter(listing__account__sales_channel__code__in=ask.channels)
    return rows.select_related("listing__account__sales_channel", "listing__sku")


def _open(ask: Asked) -> Rows:
    rows = sync.still_open()
    if ask.channels is not None:
        rows = rows.filter(account__sales_channel__code__in=ask.channels)
    return rows.select_related("account__sales_channel", "sku").annotate(waits=F("stale_since"))


_PUSHES = (
    Column("sku", "SKU", lambda row, ask: row.listing.sku.code if row.listing.sku else ""),
    Column("channel", "Channel", lambda row, ask: row.listing.account.sales_channel.name),
    Column("listing", "Listing", lambda row, ask: row.listing.external_id),
    Column("changed_at", "Changed", lambda row, ask: row.changed_at),
    Column("acknowledged_at", "Acknowledged", lambda row, ask: row.answered_at),
    Column("quantity", "Told", lambda row, ask: row.quantity, True),
    Column("latency_ms", "Milliseconds", lambda row, ask: row.latency_ms, True),
)
_OPEN = (
    Column("sku", "SKU", lambda row, ask: row.sku.code if row.sku else ""),
    Column("channel", "Channel", lambda row, ask: row.account.sales_channel.name),
    Column("listing", "Listing", lambda row, ask: row.external_id),
    Column("changed_at", "Waits since", lambda row, ask: row.waits),
    Column("attempts", "Tries", lambda row, ask: row.attempts, True),
    Column("error", "Last error", lambda row, ask: row.last_error),
)


def _channel_url(row: Any) -> tuple[str, Any]:
    account = row.account if hasattr(row, "account") else row.listing.account
    return "channels:detail", account.sales_channel.code


_BY_SHIPPED = ("-shipped_at", "-id")
_BY_LINE = ("-id",)
_BY_DAY = ("-last_day", "-id")

DRILLS: dict[tuple[str, str], Drill] = {
    ("turnover", "sold"): Drill(_sold, ("-created_at", "-id"), _SOLD, _sku_url),
    ("turnover", "value"): Drill(_values, _BY_DAY, _VALUE, _sku_url),
    ("carrying", "value"): Drill(_values, _BY_DAY, _VALUE, _sku_url),
    ("accuracy", "errors"): Drill(_wrong, _BY_SHIPPED, _ORDER, _order_url),
    ("accuracy", "shipped"): Drill(_shipped, _BY_SHIPPED, _ORDER, _order_url),
    ("sync", "pushes"): Drill(_pushes, ("-answered_at", "-id"), _PUSHES, _channel_url),
    ("sync", "open"): Drill(_open, ("stale_since", "id"), _OPEN, _channel_url),
    ("cycle", "shipped"): Drill(_shipped, _BY_SHIPPED, _CYCLE, _order_url),
    ("returns", "returned"): Drill(_returned, _BY_LINE, _RETURNED_LINE, _order_url),
    ("returns", "lines"): Drill(_lines, _BY_LINE, _SHIPPED_LINE, _order_url),
    ("stockout", "short"): Drill(_short, _BY_LINE, _DEMAND_LINE, _order_url),
    ("stockout", "lines"): Drill(_demand, _BY_LINE, _DEMAND_LINE, _order_url),
    ("stockout-time", "out"): Drill(_out_days, _BY_DAY, _OUT, _sku_url),
    ("stockout-time", "days"): Drill(_sku_days, _BY_DAY, _OUT, _sku_url),
}
