"""Between order lines and reservations: how much of a line is covered, and what to give back.

Units of a line are kits where its SKU is a kit; a reservation always counts eaches of its own SKU.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Case, QuerySet, When
from django.db.models.signals import post_delete, post_save

from inventory import calendar
from inventory.models import Sku, Warehouse, WarehouseClosure, WarehouseHours
from inventory.reservations import SkuFact
from oms.core import business
from oms.core.models import Setting
from oms.orders.models import Allocation, ChannelWarehouse, Order, OrderLine, SalesChannel

#: pools whose stock only their operator promises; routing may still choose them (multi-channel fulfilment)
FOREIGN_POOLS = (Warehouse.Kind.FBA, Warehouse.Kind.WFS)


@dataclass(frozen=True, slots=True)
class Part:
    """One allocation of a line, in eaches of the reservation's SKU."""

    reservation_id: int
    sku_id: int
    per_unit: int
    held: int
    consumed: int


def part_of(allocation: Allocation) -> Part:
    reservation = allocation.reservation
    return Part(
        reservation.pk, reservation.sku_id, allocation.per_unit, reservation.quantity, reservation.consumed
    )


def _groups(parts: Iterable[Part]) -> dict[int, list[Part]]:
    groups: dict[int, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.sku_id, []).append(part)
    return groups


def coverage(parts: Iterable[Part]) -> tuple[int, int]:
    """(units held or shipped, units shipped) of a line: the scarcest component decides (pure)."""
    groups = _groups(parts).values()
    if not groups:
        return 0, 0
    covered = min(sum(part.held + part.consumed for part in group) // group[0].per_unit for group in groups)
    shipped = min(sum(part.consumed for part in group) // group[0].per_unit for group in groups)
    return covered, shipped


def surplus(parts: Iterable[Part], keep: int) -> dict[int, int]:
    """Eaches to release per reservation so that `keep` units stay held, the newest first (pure).

    Units that are shipped already count apart: `keep` means units still to ship.
    """
    rows = list(parts)
    _, shipped = coverage(rows)
    releases: dict[int, int] = {}
    for group in _groups(rows).values():
        held = sum(part.held for part in group)
        consumed = sum(part.consumed for part in group)
        target = max(0, (shipped + keep) * group[0].per_unit - consumed)
        excess = held - target
        for part in sorted(group, key=lambda part: part.reservation_id, reverse=True):
            if excess <= 0:
                break
            if give := min(excess, part.held):
                releases[part.reservation_id] = give
                excess -= give
    return releases


def parts_by_line(line_ids: Sequence[int]) -> dict[int, list[Part]]:
    """The allocations of many lines in one query."""
    found: dict[int, list[Part]] = {}
    for allocation in (
        Allocation.objects.filter(line__in=line_ids).select_related("reservation").order_by("id")
    ):
        found.setdefault(allocation.line_id, []).append(part_of(allocation))
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """A warehouse that serves a channel, with its working hours (weekday, local cut-off)."""

    id: int
    code: str
    time_zone: str
    hours: tuple[tuple[int, dt.time], ...]


def _serving(channel_id: int) -> QuerySet[ChannelWarehouse]:
    """Warehouses that orders of the channel are provisionally promised from, best rank first.

    An FBA pool comes last and serves only SKUs that allow it (Multi-Channel Fulfillment); WFS serves Walmart alone.
    """
    last = Case(When(warehouse__kind=Warehouse.Kind.FBA, then=1), default=0)
    return (
        ChannelWarehouse.objects.filter(channel=channel_id, fulfils=True, warehouse__is_active=True)
        .exclude(warehouse__kind=Warehouse.Kind.WFS)
        .order_by(last, "rank", "warehouse__priority", "id")
    )


def candidates(channel_id: int) -> tuple[int, ...]:
    """Ids of the warehouses that serve the channel, best rank first."""
    return tuple(_serving(channel_id).values_list("warehouse_id", flat=True))


_PLACES = """
    SELECT w.id, w.code, w.time_zone, h.weekday, h.cut_off, (SELECT value FROM core_setting WHERE key = 'currency')
    FROM orders_channelwarehouse c
    JOIN inventory_warehouse w ON w.id = c.warehouse_id
    LEFT JOIN inventory_warehousehours h ON h.warehouse_id = w.id
    WHERE c.channel_id = %s AND c.fulfils AND w.is_active AND w.kind <> 'wfs'
    ORDER BY CASE w.kind WHEN 'fba' THEN 1 ELSE 0 END, c.rank, w.priority, c.id
"""


_CLOSURES = """
    SELECT first_day, last_day, reason FROM inventory_warehouseclosure WHERE warehouse_id = %s
"""


@dataclass(frozen=True, slots=True)
class Serving:
    """What order entry needs to know of a channel's side: its warehouses in order, when the first one works, and
    the business currency."""

    places: tuple[Place, ...]
    calendar: calendar.WorkCalendar | None
    currency: str


#: every order asks for it and it hardly changes; a warehouse closed meanwhile is refused by `reserve()` itself
SERVING_SECONDS = 2.0
_serving_copies: dict[int, tuple[float, Serving]] = {}


def serving(channel_id: int) -> Serving:
    """The warehouses of `candidates()` with the first one's calendar, and the business currency.

    A copy of at most two seconds; what this process saves itself is seen at once.
    """
    copy = _serving_copies.get(channel_id)
    at = time.monotonic()
    if copy is not None and at - copy[0] < SERVING_SECONDS:
        return copy[1]
    found = _read_serving(channel_id)
    _serving_copies[channel_id] = (at, found)
    return found


def forget_serving(**kwargs: Any) -> None:
    """Something that `serving()` is made of was saved here."""
    _serving_copies.clear()


def _read_serving(channel_id: int) -> Serving:
    # written by hand: building these queries costs more than running them
    with connection.cursor() as cursor:
        cursor.execute(_PLACES, [channel_id])
        rows = cursor.fetchall()
        found: dict[int, tuple[str, str, list[tuple[int, dt.time]]]] = {}
        currency = ""
        for warehouse_id, code, zone, weekday, cut_off, stored in rows:
            currency = json.loads(stored) if stored else str(business.KNOWN["currency"].default)
            hours = found.setdefault(warehouse_id, (code, zone, []))[2]
            if weekday is not None:
                hours.append(
                    (weekday, cut_off if isinstance(cut_off, dt.time) else dt.time.fromisoformat(cut_off))
                )
        places = [Place(pk, code, zone, tuple(hours)) for pk, (code, zone, hours) in found.items()]
        if not places:
            return Serving((), None, business.currency())
        cursor.execute(_CLOSURES, [places[0].id])
        closures = [(_day(first), _day(last), reason) for first, last, reason in cursor.fetchall()]
    first = places[0]
    return Serving(
        tuple(places), calendar.calendar_from_rows(first.time_zone, first.hours, closures), currency
    )


def _day(value: dt.date | str) -> dt.date:
    return value if isinstance(value, dt.date) else dt.date.fromisoformat(value)


def wants_stock(order: Order, channel: SalesChannel, *, paid: bool) -> bool:
    """Whether open units of the order hold stock: ours, real, and paid or reserved by policy."""
    if order.is_test or order.fulfilled_by != Order.FulfilledBy.US:
        return False
    return paid or channel.reserve_unpaid


def holds_stock(line: OrderLine) -> bool:
    """A line of goods with a known SKU; fees and unknown SKUs reserve nothing."""
    return line.kind == OrderLine.Kind.PRODUCT and line.sku_id is not None


def kind_of(sku: Sku | SkuFact) -> str:
    return OrderLine.Kind.SERVICE if sku.kind == Sku.Kind.SERVICE else OrderLine.Kind.PRODUCT


def promise(order: Order) -> dt.datetime:
    """When the order was promised to leave: the latest promise loses first when stock shrinks."""
    return order.ship_by or order.placed_at


def reference(order: Order, line: OrderLine) -> str:
    """How a reservation names its line: readable in the ledger, unique per line."""
    return f"{order.number}/{line.pk}"


def routable(order: Order) -> bool:
    """Whether routing may look at the order now."""
    return (
        order.state in (Order.State.OPEN, Order.State.PART_SHIPPED)
        and not order.holds_open
        and not order.unmapped_lines
        and not order.is_test
        and order.fulfilled_by == Order.FulfilledBy.US
    )


for _model in (ChannelWarehouse, Warehouse, WarehouseHours, WarehouseClosure, Setting):
    post_save.connect(forget_serving, sender=_model, dispatch_uid=f"serving:{_model.__name__}:save")
    post_delete.connect(forget_serving, sender=_model, dispatch_uid=f"serving:{_model.__name__}:delete")
