"""What the stock screens show: a page of SKUs over all warehouses in a fixed number of queries."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.db.models import F, Max, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, Concat, Upper
from django.urls import reverse
from django.utils.html import escape

from inventory import kits, kpis, lowstock, selectors
from inventory.incoming import incoming
from inventory.models import Reservation, Sku, SkuAlias, StockLevel, StockMovement, Warehouse
from inventory.selectors import LevelView
from inventory.velocity import Velocity, cover_days, fill_days, stockout_day
from oms.core.access import scope_of
from oms.core.clock import business_day
from oms.core.figures import Window

NOTHING = LevelView(0, 0)
#: figures made of several buckets: their movements are those of all of them
GROUPS = {
    "available": ("on_hand", "reserved", "damaged", "quarantine", "inspection"),
    "unfit": ("damaged", "quarantine", "inspection"),
}


@dataclass
class Row:
    """One SKU in the grid. Totals count own pools only: a marketplace's units are shown, never added."""

    sku: Sku
    cells: list[tuple[Warehouse, int]]
    on_hand: int = 0
    reserved: int = 0
    unavailable: int = 0
    available: int = 0
    incoming: int = 0
    safety: int = 0
    is_kit: bool = False
    levels: list[tuple[Warehouse, LevelView]] = field(default_factory=list)

    @cached_property
    def url(self) -> str:
        """The SKU's page, as it stands in an attribute: a row has a dozen links there."""
        return escape(reverse("inventory:sku", kwargs={"code": self.sku.code}))


def visible_warehouses(principal: Any) -> list[Warehouse]:
    return list(
        Warehouse.objects.filter(scope_of(principal, "stock.view").q(warehouse="code"), is_active=True)
    )


#: a text that more SKUs have than this is met at once along the list; fewer are gathered and sorted
OFTEN = 5000


def find_skus(query: str, view: str, warehouse_ids: Sequence[int]) -> QuerySet[Sku]:
    """SKUs by code, title or alias; `out`: sellable nowhere, `held`: some promised, `unfit`: some unavailable.

    `place` is the code to order pages by (with the id): so ordered, a search takes the way that is quick for it.
    """
    found = Sku.objects.filter(merged_into__isnull=True).exclude(kind=Sku.Kind.SERVICE)
    query = query.strip()
    place: Any = F("code")
    if query:
        by_text = selectors.found_by(query)
        if Sku.objects.filter(by_text).order_by()[: OFTEN + 1].count() <= OFTEN:
            place = Concat(
                "code", Value("")
            )  # no index has it: the database cannot read the list through for a few
        aliases = SkuAlias.objects.annotate(fold=Upper("value")).filter(fold=query.upper()).order_by()
        # ids that are known keep this one table with one index for each way
        named = list(aliases.values_list("sku_id", flat=True))
        found = found.filter(by_text | Q(pk__in=named) if named else by_text)
    # what a row must have is asked of the few rows that have it; only `out` looks at each SKU
    levels = StockLevel.objects.filter(warehouse__in=warehouse_ids)
    if view == "out":
        # a subquery with a figure is asked per SKU in the order of the list, until the page is full; NOT EXISTS would
        # be answered for all of them first
        left = F("on_hand") - F("reserved") - F("damaged") - F("quarantine") - F("inspection")
        best = (
            levels.filter(sku=OuterRef("pk")).order_by().values("sku").annotate(most=Max(left)).values("most")
        )
        found = found.annotate(most_left=Coalesce(Subquery(best), 0)).filter(most_left__lte=0, is_active=True)
        found = found.exclude(kind=Sku.Kind.KIT)
    elif view == "held":
        promises = Reservation.objects.filter(state=Reservation.State.OPEN, warehouse__in=warehouse_ids)
        found = found.filter(pk__in=promises.values("sku"))
    elif view == "unfit":
        unfit = Q(damaged__gt=0) | Q(quarantine__gt=0) | Q(inspection__gt=0)
        found = found.filter(pk__in=levels.filter(unfit).values("sku"))
    elif view == "low":
        found = found.filter(low_stock__isnull=False)
    elif view == "transit":
        found = found.filter(pk__in=levels.filter(in_transit__gt=0).values("sku"))
    return found.annotate(place=place).select_related("product")


def rows(skus: Sequence[Sku], warehouses: Sequence[Warehouse]) -> list[Row]:
    """Grid rows; kits count what could be built whole in each warehouse."""
    contents = kits.flatten([sku.pk for sku in skus if sku.kind == Sku.Kind.KIT])
    needed = {sku.pk for sku in skus} | {part for parts in contents.values() for part, _ in parts}
    levels = selectors.levels(needed, [warehouse.pk for warehouse in warehouses])
    found = [_row(sku, warehouses, levels, contents.get(sku.pk)) for sku in skus]
    places = {warehouse.pk for warehouse in warehouses}
    coming = {pair: units for pair, units in incoming(list(needed)).items() if pair[1] in places}
    for row in found:
        row.incoming = sum(units for (sku, _), units in coming.items() if sku == row.sku.pk)
    return found


def _row(
    sku: Sku,
    warehouses: Sequence[Warehouse],
    levels: dict[tuple[int, int], LevelView],
    parts: kits.Parts | None,
) -> Row:
    row = Row(sku, [], is_kit=parts is not None)
    for warehouse in warehouses:
        if parts is not None:
            whole = min(
                (max(0, levels.get((part, warehouse.pk), NOTHING).available) // each for part, each in parts),
                default=0,
            )
            row.cells.append((warehouse, whole))
            row.available += whole if warehouse.counted_by_us else 0
            continue
        level = levels.get((sku.pk, warehouse.pk), NOTHING)
        row.cells.append((warehouse, level.available))
        row.levels.append((warehouse, level))
        if warehouse.counted_by_us:
            row.on_hand += level.on_hand
            row.reserved += level.reserved
            row.unavailable += level.unavailable
            row.available += level.available
            row.safety += level.safety
    return row


@dataclass(frozen=True)
class Pace:
    """Demand of the last 28 local days and what it means for the stock at hand."""

    days: list[str]
    units: list[int]
    velocity: Velocity
    cover: float | None
    out: list[int]  # which of the days had nothing available all day
    out_on: dt.date | None


def pace(sku: Sku, available: int) -> Pace:
    outlook = lowstock.outlooks([sku.pk])[sku.pk]
    today = business_day()
    first, last = today - dt.timedelta(days=28), today - dt.timedelta(days=1)
    out = kpis.out_days([sku.pk], Window(first, last)).get(sku.pk, set())
    shown = fill_days(lowstock.demand([sku.pk], first, last).get(sku.pk, {}), first, last, out_of_stock=out)
    per_day = outlook.velocity.per_day
    return Pace(
        [f"{d.day:%-d %b}" for d in shown],
        [d.units for d in shown],
        outlook.velocity,
        cover_days(available, per_day),
        [index for index, day in enumerate(shown) if not day.in_stock],
        stockout_day(available, per_day, today),
    )


CLOSING_DAYS = 90


@dataclass(frozen=True)
class Closing:
    """What was available at the close of each day, over the pools that we count."""

    days: list[str]
    units: list[int | None]
    out: list[int]  # which of the days ended with nothing


def closing(sku: Sku, warehouses: Sequence[Warehouse]) -> Closing:
    """The last 90 days of a SKU over these warehouses."""
    today = business_day()
    window = Window(today - dt.timedelta(days=CLOSING_DAYS), today - dt.timedelta(days=1))
    counted = [warehouse.pk for warehouse in warehouses if warehouse.counted_by_us]
    units = kpis.available_by_day(sku.pk, window, counted)
    out = [index for index, left in enumerate(units) if left == 0]
    return Closing([f"{day.day} {day:%b}" for day in window.all_days()], units, out)


def ledger(sku: Sku, warehouse_ids: Sequence[int], filters: dict[str, str]) -> QuerySet[StockMovement]:
    """Movements of a SKU, newest first; filters bucket (or `GROUPS` of them), kind, warehouse (code), ref (exact)."""
    found = StockMovement.objects.filter(sku=sku, warehouse__in=warehouse_ids).select_related("warehouse")
    wanted = filters.get("bucket", "")
    if wanted:
        found = found.filter(bucket__in=GROUPS.get(wanted, (wanted,)))
    for name, column in (
        ("kind", "kind"),
        ("warehouse", "warehouse__code"),
        ("ref", "reference"),
    ):
        if filters.get(name):
            found = found.filter(**{column: filters[name]})
    return found
