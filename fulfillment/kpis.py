"""Fulfilment cycle time: order placed to shipped, in minutes. Cohorts by the day the order left.

An order counts when its last parcel has left; the first parcel is a second figure. Test orders, replacements,
exchanges, cancelled orders and what the channel ships itself do not count. Durations are kept to three digits.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.db.models import F, OuterRef, QuerySet, Subquery

from fulfillment.models import Shipment
from oms.core.clock import business_zone
from oms.core.figures import Place, Tallies, Tally, Window, spread_percentile, three_digits
from oms.orders.demand import DEMAND_KINDS
from oms.orders.models import Hold, Order

CHUNK = 2000
GONE = (Shipment.State.SHIPPED, Shipment.State.DELIVERED)
#: holds that the buyer or the payment caused: the net figure leaves them out
BUYER_HOLDS = (Hold.Reason.PAYMENT, Hold.Reason.BUYER_CANCEL, Hold.Reason.WINDOW)
#: from one stage to the next, in order; each ends where the next begins
STAGES = ("imported", "routed", "released", "picked", "packed", "shipped")


@dataclass(frozen=True, slots=True)
class Cycle:
    """One shipped order on its way through the house; times that are not known are None."""

    order_id: int
    channel: str
    warehouse: str
    placed_at: dt.datetime
    shipped_at: dt.datetime
    first_shipped_at: dt.datetime
    imported_at: dt.datetime | None = None
    routed_at: dt.datetime | None = None
    released_at: dt.datetime | None = None
    picked_at: dt.datetime | None = None
    packed_at: dt.datetime | None = None
    buyer_holds: tuple[tuple[dt.datetime, dt.datetime], ...] = ()

    @property
    def gross(self) -> int:
        return minutes(self.placed_at, self.shipped_at)

    @property
    def first(self) -> int:
        return minutes(self.placed_at, self.first_shipped_at)

    @property
    def net(self) -> int:
        """Without the time that buyer or payment held it, however the holds overlap."""
        held = sum(
            (end - begin).total_seconds()
            for begin, end in united(self.buyer_holds, self.placed_at, self.shipped_at)
        )
        return max(0, int(((self.shipped_at - self.placed_at).total_seconds() - held) // 60))

    def stages(self) -> Iterator[tuple[str, int]]:
        """Minutes of each stage; a step whose time is unknown belongs to the stage after it."""
        before = self.placed_at
        for name in STAGES:
            at: dt.datetime | None = getattr(self, f"{name}_at")
            if at is not None:
                yield name, minutes(before, at)
                before = max(before, at)


def minutes(start: dt.datetime, end: dt.datetime) -> int:
    """Whole minutes, never negative: clocks of channels differ from ours."""
    return max(0, int((end - start).total_seconds() // 60))


def united(
    spans: Iterable[tuple[dt.datetime, dt.datetime]], start: dt.datetime, end: dt.datetime
) -> list[tuple[dt.datetime, dt.datetime]]:
    """The spans inside [start, end] without overlaps (pure)."""
    found: list[tuple[dt.datetime, dt.datetime]] = []
    for begin, stop in sorted((max(a, start), min(b, end)) for a, b in spans):
        if stop <= begin:
            continue
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((begin, stop))
    return found


@dataclass(frozen=True, slots=True)
class CycleTime:
    """Hours; None when no order was shipped."""

    orders: int
    median: float | None
    p90: float | None
    mean: float | None
    net_median: float | None
    first_median: float | None
    stages: tuple[tuple[str, float | None], ...]  # mean hours per stage


def cycle_time(tally: Tally) -> CycleTime:
    """The figure of a tally."""
    gross = tally.spread("gross")
    orders = sum(gross.values())

    return CycleTime(
        orders, hours(tally, "gross", 0.5), hours(tally, "gross", 0.9), mean_hours(tally, "minutes"),
        hours(tally, "net", 0.5), hours(tally, "first", 0.5),
        tuple((name, mean_hours(tally, f"stage_{name}")) for name in STAGES),
    )  # fmt: skip


def hours(tally: Tally, name: str, at: float) -> float | None:
    """A percentile of the gross, net or first duration."""
    found = spread_percentile(tally.spread(name), at)
    return None if found is None else found / 60


def mean_hours(tally: Tally, name: str) -> float | None:
    count = tally.whole(f"{name}_n")
    return float(tally.get(name)) / count / 60 if count else None


def shipped_orders(window: Window) -> QuerySet[Order]:
    """Orders that left in the window: what cycle time, accuracy and return rate are divided by."""
    return Order.objects.filter(
        shipped_at__gte=window.start, shipped_at__lt=window.end, is_test=False, kind__in=DEMAND_KINDS,
        fulfilled_by=Order.FulfilledBy.US, cancelled_at__isnull=True,
    )  # fmt: skip


def with_warehouse(orders: QuerySet[Order]) -> QuerySet[Any]:
    """Orders with `ship_warehouse`: the code of the warehouse that sent the last parcel."""
    last = Shipment.objects.filter(order=OuterRef("pk"), state__in=GONE).order_by(
        F("shipped_at").desc(nulls_last=True), "-id"
    )
    return orders.annotate(ship_warehouse=Subquery(last.values("warehouse__code")[:1]))


def chunks(orders: QuerySet[Order], *fields: str) -> Iterator[list[Any]]:
    """Rows of `fields` (the first is the id), a bounded number at a time."""
    rows = iter(orders.order_by().values_list(*fields, named=True).iterator(chunk_size=CHUNK))
    while part := list(islice(rows, CHUNK)):
        yield part


def last_parcels(order_ids: Sequence[int]) -> dict[int, list[Any]]:
    """Per order its shipments that left, the last one at the end."""
    found: dict[int, list[Any]] = {}
    rows = Shipment.objects.filter(order__in=order_ids, state__in=GONE, shipped_at__isnull=False)
    for row in rows.order_by("shipped_at", "id").values_list(
        "order_id", "warehouse__code", "created_at", "picked_at", "packed_at", "shipped_at", "wrong_scans",
        named=True,
    ):  # fmt: skip
        found.setdefault(row.order_id, []).append(row)
    return found


def cycles(orders: QuerySet[Order]) -> Iterator[Cycle]:
    """The orders as facts, three queries per chunk."""
    fields = ("id", "channel__code", "placed_at", "imported_at", "shipped_at")
    for part in chunks(orders, *fields):
        ids = [row.id for row in part]
        parcels = last_parcels(ids)
        holds: dict[int, list[Any]] = {}
        for hold in Hold.objects.filter(order__in=ids, released_at__isnull=False).values_list(
            "order_id", "reason", "placed_at", "released_at", named=True
        ):
            holds.setdefault(hold.order_id, []).append(hold)
        for row in part:
            sent = parcels.get(row.id, [])
            last = sent[-1] if sent else None
            mine = holds.get(row.id, [])
            yield Cycle(
                row.id,
                row.channel__code,
                last.warehouse__code if last else "",
                row.placed_at,
                row.shipped_at,
                sent[0].shipped_at if sent else row.shipped_at,
                imported_at=row.imported_at if row.imported_at <= row.shipped_at else None,
                routed_at=last.created_at if last else None,
                released_at=max((hold.released_at for hold in mine), default=None),
                picked_at=last.picked_at if last else None,
                packed_at=last.packed_at if last else None,
                buyer_holds=tuple(
                    (hold.placed_at, hold.released_at) for hold in mine if hold.reason in BUYER_HOLDS
                ),
            )


def add_cycle(tally: Tally, cycle: Cycle) -> None:
    """Count one order (pure)."""
    tally.note("gross", three_digits(cycle.gross))
    tally.note("net", three_digits(cycle.net))
    tally.note("first", three_digits(cycle.first))
    tally.add("minutes", cycle.gross)
    tally.add("minutes_n")
    for name, took in cycle.stages():
        tally.add(f"stage_{name}", took)
        tally.add(f"stage_{name}_n")


def tally(window: Window) -> Tallies:
    """Per ship day, channel and warehouse."""
    found: Tallies = {}
    zone = business_zone()
    for cycle in cycles(shipped_orders(window)):
        place = Place(cycle.shipped_at.astimezone(zone).date(), cycle.channel, cycle.warehouse)
        add_cycle(found.setdefault(place, Tally()), cycle)
    return found
