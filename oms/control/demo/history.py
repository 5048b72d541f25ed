"""A believable year of the demo brand: orders that left from warehouses, stock that ran down and was filled up again,
goods that came back. Written in bulk through the same doors as real data, at the times they pretend to be of."""

from __future__ import annotations

import datetime as dt
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db import transaction

from fulfillment.models import Shipment
from inventory import kits
from inventory.ledger import Movement, post_movements
from inventory.models import Reservation, Sku, StockMovement, Warehouse
from oms.control.demo.catalogue import Item
from oms.core import clock
from oms.core.actor import Actor
from oms.core.clock import business_day, now
from oms.core.figures import midnight
from oms.orders import intake, pii
from oms.orders.drafts import ContactDraft, LineDraft, OrderDraft
from oms.orders.models import Allocation, Order, OrderLine, SalesChannel
from returns.models import Disposition, ReturnReason, ReturnReceipt, Rma, RmaLine

ACTOR = Actor("system", "demo")
ZONE = ZoneInfo("America/New_York")
HOUR = dt.timedelta(hours=1)
ONE = dt.timedelta(days=1)
DAYS = 365
Pair = tuple[int, int]  # SKU and warehouse
Kind = StockMovement.Kind

#: share of orders that come back, by reason
RETURNED = 0.065
REASONS = {
    "changed_mind": 26, "too_small": 14, "too_large": 12, "not_as_described": 9, "arrived_broken": 3, "wrong_item": 3,
    "missing_part": 2, "late": 4,
}  # fmt: skip
#: so many days ago a film of the lighthouse hoodie went round: that day sold several times as much
VIRAL_DAYS_AGO, VIRAL = 47, 5
#: share of orders whose goods were not there at the first try
SHORT = 0.014


@dataclass
class Sale:
    """One order of the past before it is written."""

    external_id: str
    channel: str
    warehouse: str
    placed: dt.datetime
    shipped: dt.datetime
    delivered: dt.datetime | None
    ship_by: dt.datetime
    lines: list[tuple[Item, int]]
    short: bool


def season(day: dt.date) -> float:
    """How strong a day sells: weekends, the run to Christmas, a quiet January."""
    month = (0.7, 0.75, 0.85, 0.9, 1.0, 0.95, 0.9, 0.9, 1.0, 1.15, 1.6, 1.9)[day.month - 1]
    return month * {5: 1.15, 6: 1.2}.get(day.weekday(), 1.0)


def write(
    rng: random.Random,
    catalogue: list[Item],
    skus: dict[str, Sku],
    places: dict[str, Warehouse],
    channels: Mapping[str, tuple[float, tuple[str, ...]]],
    final: dict[Pair, int],
    orders: int,
    say: Callable[[str], None],
    *,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    cities: tuple[tuple[str, str, str], ...],
) -> None:
    """Orders, parcels, ledger and returns of a year. `final` is what every level holds today;
    `channels` maps a code to its share of sales and its warehouses."""
    sales = _sales(rng, catalogue, channels, orders)
    _orders(rng, sales, skus, names, cities)
    stored = {
        (order.channel.code, order.external_id): order
        for order in Order.objects.select_related("channel").prefetch_related("lines")
    }
    mine = [(sale, stored[sale.channel, sale.external_id]) for sale in sales]
    _parcels(rng, mine, places)
    _promises(mine, skus, places)
    say(f"{len(mine)} orders of the last year")
    moves = _ledger(rng, catalogue, skus, places, mine, final)
    back = _returns(rng, mine, skus, places, moves)
    _post(moves)
    say(f"{sum(len(day) for day in moves.values())} stock movements, {back} returns")


def _sales(
    rng: random.Random,
    catalogue: list[Item],
    channels: Mapping[str, tuple[float, tuple[str, ...]]],
    orders: int,
) -> list[Sale]:
    today = business_day()
    days = [today - back * ONE for back in range(DAYS, 0, -1)]
    codes = list(channels)
    shares = [channels[code][0] for code in codes]
    popularity = [item.popularity for item in catalogue]
    latest = now() - HOUR
    viral = today - VIRAL_DAYS_AGO * ONE
    weights = [season(day) * (VIRAL if day == viral else 1) for day in days]
    wanted = [item for item in catalogue if item.code.startswith("HOOD-LIG")]
    found = []
    for number, day in enumerate(sorted(rng.choices(days, weights, k=orders)), start=1):
        code = rng.choices(codes, shares)[0]
        warehouses = channels[code][1]
        clock_time = dt.time(rng.randint(7, 22), rng.randint(0, 59), rng.randint(0, 59))
        placed = dt.datetime.combine(day, clock_time, ZONE)
        chosen = rng.choices(catalogue, popularity, k=rng.choices((1, 2, 3, 4), (60, 25, 10, 5))[0])
        if day == viral and wanted:
            chosen[0] = rng.choice(wanted)
        lines = [
            (item, rng.choices((1, 2, 3, 6), (78, 15, 5, 2))[0])
            for item in {item.code: item for item in chosen}.values()
        ]
        short = rng.random() < SHORT
        shipped = _leaves(rng, placed, short)
        if shipped > latest:
            shipped = placed + (latest - placed) * rng.uniform(0.2, 0.95)
        delivered = shipped + rng.uniform(1.6, 5.5) * ONE
        found.append(
            Sale(
                f"H{number:06d}", code, rng.choices(warehouses, (6, 3, 1)[: len(warehouses)])[0], placed,
                shipped, delivered if delivered < latest else None, _due(placed), lines, short,
            )
        )  # fmt: skip
    return found


def _leaves(rng: random.Random, placed: dt.datetime, short: bool) -> dt.datetime:
    """The parcel goes with the next truck at five, a slow one in twelve a day later, a backorder after days."""
    day = placed.date() + (0 if placed.hour < 13 else 1) * ONE
    if rng.random() < 0.08:
        day += ONE
    if short:
        day += rng.randint(3, 9) * ONE
    while day.weekday() == 6:
        day += ONE
    minutes = rng.randint(-170, 0)
    return dt.datetime.combine(day, dt.time(17), ZONE) + dt.timedelta(minutes=minutes)


def _due(placed: dt.datetime) -> dt.datetime:
    day = placed.date() + (1 if placed.hour < 13 else 2) * ONE
    while day.weekday() == 6:
        day += ONE
    return dt.datetime.combine(day, dt.time(17), ZONE)


def _orders(
    rng: random.Random,
    sales: list[Sale],
    skus: dict[str, Sku],
    names: tuple[tuple[str, ...], tuple[str, ...]],
    cities: tuple[tuple[str, str, str], ...],
) -> None:
    per_channel: dict[str, list[OrderDraft]] = defaultdict(list)
    first, last = names
    for number, sale in enumerate(sales, start=1):
        lines = tuple(
            LineDraft(
                external_id=str(position), quantity=quantity, shipped=quantity, sku_id=skus[item.code].pk,
                external_sku=item.code, title=item.title, unit_price=item.price,
            )
            for position, (item, quantity) in enumerate(sale.lines, start=1)
        )  # fmt: skip
        subtotal = sum((line.unit_price * line.quantity for line in lines), Decimal(0))
        shipping = Decimal("0.00") if subtotal > 60 else Decimal("5.90")
        city, region, postal = rng.choice(cities)
        per_channel[sale.channel].append(
            OrderDraft(
                external_id=sale.external_id,
                external_number=f"{number + 1000}",
                placed_at=sale.placed,
                channel_updated_at=sale.delivered or sale.shipped,
                currency="USD",
                lines=lines,
                shipping=shipping,
                total=subtotal + shipping,
                status="delivered" if sale.delivered else "shipped",
                contact=ContactDraft(
                    name=f"{rng.choice(first)} {rng.choice(last)}",
                    address1=f"{rng.randint(1, 990)} {rng.choice(last)} Street",
                    city=city,
                    region=region,
                    postal_code=postal,
                    country="US",
                ),
            )
        )
    for code, drafts in per_channel.items():
        channel = SalesChannel.objects.get(code=code)
        for start in range(0, len(drafts), 100):
            intake.take(drafts[start : start + 100], channel=channel, actor=ACTOR, source="csv")
    while pii.erase(limit=500) == 500:  # buyers of old Amazon orders are nobody's business any more
        pass


def _parcels(rng: random.Random, mine: list[tuple[Sale, Order]], places: dict[str, Warehouse]) -> None:
    """Each order left in one parcel; its times are written onto order and shipment."""
    parcels, short = [], []
    for sale, order in mine:
        order.shipped_at, order.delivered_at, order.ship_by = sale.shipped, sale.delivered, sale.ship_by
        order.imported_at = sale.placed + dt.timedelta(seconds=rng.randint(1, 40))
        packed = sale.shipped - dt.timedelta(minutes=rng.randint(15, 120))
        picked = packed - dt.timedelta(minutes=rng.randint(4, 30))
        routed = order.imported_at + dt.timedelta(seconds=rng.randint(2, 90))
        parcels.append(
            Shipment(
                order=order,
                warehouse=places[sale.warehouse],
                state=Shipment.State.DELIVERED if sale.delivered else Shipment.State.SHIPPED,
                created_at=routed,
                ship_by=sale.ship_by,
                picked_at=max(picked, routed),
                packed_at=max(packed, routed),
                shipped_at=sale.shipped,
                shipped_evidence="scan",
                delivered_at=sale.delivered,
                wrong_scans=int(rng.random() < 0.025),
            )
        )
        if sale.short:
            line = order.lines.all()[0]
            line.short_at_entry = line.quantity
            short.append(line)
    with transaction.atomic():
        Order.objects.bulk_update(
            [order for _, order in mine],
            ["shipped_at", "delivered_at", "ship_by", "imported_at"],
            batch_size=200,
        )
        OrderLine.objects.bulk_update(short, ["short_at_entry"], batch_size=200)
        Shipment.objects.bulk_create(parcels, batch_size=200)


def _promises(mine: list[tuple[Sale, Order]], skus: dict[str, Sku], places: dict[str, Warehouse]) -> None:
    """What each line was promised at its warehouse and has used up, so that lists say where orders were sent from."""
    parts = kits.flatten([sku.pk for sku in skus.values() if sku.kind == Sku.Kind.KIT])
    promised, links = [], []
    for sale, order in mine:
        for line in order.lines.all():
            assert line.sku_id is not None  # every line of the year behind us names a SKU of the demo
            for part, each in parts.get(line.sku_id, [(line.sku_id, 1)]):
                kept = Reservation(
                    sku_id=part, warehouse=places[sale.warehouse], quantity=0, consumed=line.quantity * each,
                    state=Reservation.State.CONSUMED, reference=order.number, channel_code=sale.channel,
                    created_at=order.imported_at,
                )  # fmt: skip
                promised.append(kept)
                links.append(Allocation(line=line, reservation=kept, per_unit=each))
    with transaction.atomic():
        Reservation.objects.bulk_create(promised, batch_size=200)
        Allocation.objects.bulk_create(links, batch_size=500)


def _ledger(
    rng: random.Random,
    catalogue: list[Item],
    skus: dict[str, Sku],
    places: dict[str, Warehouse],
    mine: list[tuple[Sale, Order]],
    final: dict[Pair, int],
) -> dict[dt.date, list[Movement]]:
    """Movements by day, found backwards: from what is there today, every sale undone, a delivery undone whenever the
    stock would be more than about six weeks' worth. So nothing ever falls below zero, and today comes out exactly."""
    parts = kits.flatten([skus[item.code].pk for item in catalogue if item.parts])
    sold: dict[Pair, dict[dt.date, list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))
    for sale, order in mine:
        day = sale.shipped.astimezone(ZONE).date()
        for item, quantity in sale.lines:
            sku_id = skus[item.code].pk
            for part, each in parts.get(sku_id, [(sku_id, 1)]):
                sold[part, places[sale.warehouse].pk][day].append((quantity * each, order.number))
    cost = {skus[item.code].pk: item.cost for item in catalogue}
    today = business_day()
    moves: dict[dt.date, list[Movement]] = defaultdict(list)
    for pair in sorted({*final, *sold}):
        by_day = sold.get(pair, {})
        demand = sum(units for rows in by_day.values() for units, _ in rows)
        most = max(6, round(demand / DAYS * rng.uniform(34, 55)))
        stock = final.get(pair, 0)
        for back in range(DAYS + 1):
            day = today - back * ONE
            for units, number in by_day.get(day, ()):
                stock += units
                moves[day].append(_move(pair, -units, Kind.SHIP, f"{number}:{len(moves[day])}", number))
            arrived = stock - rng.choice((0, 0, 1, 2, 4)) if stock > most else 0
            if arrived > 0 and back > 2:
                stock -= arrived
                price = (cost[pair[0]] * Decimal(str(round(rng.uniform(0.95, 1.07), 3)))).quantize(
                    Decimal("0.01")
                )
                moves[day].append(_move(pair, arrived, Kind.RECEIPT, f"in:{day}", "delivery", price))
        if stock:
            moves[today - (DAYS + 1) * ONE].append(
                _move(pair, stock, Kind.OPENING, "opening", "opening", cost[pair[0]])
            )
    return moves


def _move(
    pair: Pair, quantity: int, kind: str, key: str, reference: str, unit_cost: Decimal | None = None
) -> Movement:
    return Movement(
        pair[0], pair[1], "on_hand", quantity, kind, f"demo:{pair[0]}:{pair[1]}:{kind}:{key}", reason="",
        reference=reference, unit_cost=unit_cost,
    )  # fmt: skip


def _returns(
    rng: random.Random,
    mine: list[tuple[Sale, Order]],
    skus: dict[str, Sku],
    places: dict[str, Warehouse],
    moves: dict[dt.date, list[Movement]],
) -> int:
    """One unit of some delivered orders came back; the newest still lie on the bench, the newest of all are on the
    way."""
    reasons = {reason.code: reason for reason in ReturnReason.objects.all()}
    limit = now() - 6 * HOUR
    picked: list[tuple[Sale, Order, OrderLine, dt.datetime, str]] = []
    for sale, order in mine:
        goods = [
            (item, line)
            for (item, _), line in zip(
                sale.lines, sorted(order.lines.all(), key=lambda row: row.pk), strict=True
            )
            if not item.parts
        ]
        risk = RETURNED * (1.5 if any(item.category == "Apparel" for item, _ in goods) else 0.9)
        if sale.delivered is None or not goods or rng.random() > risk:
            continue
        arrives = sale.delivered + rng.uniform(4, 26) * ONE
        reason = rng.choices(list(REASONS), list(REASONS.values()))[0]
        picked.append((sale, order, rng.choice(goods)[1], arrives, reason))
    coming = [row for row in picked if row[3] >= limit][:8]
    arrived = [row for row in picked if row[3] < limit]
    waiting = {row[1].pk for row in sorted(arrived, key=lambda row: row[3])[-6:]}
    rmas = []
    for sale, order, _, arrives, _ in [*arrived, *coming]:
        here = arrives < limit
        state = Rma.State.APPROVED
        if here:
            state = Rma.State.RECEIVED if order.pk in waiting else Rma.State.CLOSED
        rmas.append(
            Rma(
                order=order, warehouse=places[sale.warehouse], state=state, source="channel", created_by=str(ACTOR),
                requested_at=min(arrives - 3 * ONE, limit),  # what is on its way was asked for already
                received_at=arrives if here else None,
                closed_at=arrives + 20 * HOUR if state == Rma.State.CLOSED else None,
            )
        )  # fmt: skip
    rmas = Rma.objects.bulk_create(rmas, batch_size=200)
    lines = RmaLine.objects.bulk_create(
        [
            RmaLine(
                rma=rma, order_line=line, sku_id=line.sku_id or 0, quantity=1, received=int(arrives < limit),
                disposed=int(rma.state == Rma.State.CLOSED), reason=reasons[reason],
            )
            for rma, (_, _, line, arrives, reason) in zip(rmas, [*arrived, *coming], strict=True)
        ],
        batch_size=200,
    )  # fmt: skip
    receipts, verdicts, back = [], [], []
    for rma, entry, (_, _, line, arrives, reason) in zip(rmas, lines, arrived, strict=False):
        receipts.append(
            ReturnReceipt(
                line=entry, quantity=1, key=f"demo:{entry.pk}", received_at=arrives, actor=str(ACTOR)
            )
        )
        line.returned = 1
        back.append(line)
        pair = (entry.sku_id, rma.warehouse_id)
        day = arrives.astimezone(ZONE).date()
        for bucket in ("on_hand", "quarantine"):
            moves[day].append(_unit(pair, bucket, 1, Kind.RETURN, entry, rma))
        if rma.state != Rma.State.CLOSED:
            continue
        broken = reason == "arrived_broken" or rng.random() < 0.14
        outcome = Disposition.Outcome.SCRAP if broken else Disposition.Outcome.RESTOCK
        condition = Disposition.Condition.DAMAGED if broken else Disposition.Condition.NEW
        if reason == "wrong_item":
            condition, outcome = Disposition.Condition.WRONG_ITEM, Disposition.Outcome.SCRAP
        verdicts.append(
            Disposition(
                line=entry, quantity=1, condition=condition, outcome=outcome, key=f"demo:{entry.pk}",
                inspected_at=arrives + 20 * HOUR, inspector="user:finn",
            )
        )  # fmt: skip
        judged = min((arrives + 20 * HOUR).astimezone(ZONE).date(), business_day())
        moves[judged].append(_unit(pair, "quarantine", -1, Kind.DISPOSITION, entry, rma, outcome))
        if outcome == Disposition.Outcome.SCRAP:
            moves[judged].append(_unit(pair, "on_hand", -1, Kind.DISPOSITION, entry, rma, outcome))
    ReturnReceipt.objects.bulk_create(receipts, batch_size=200)
    Disposition.objects.bulk_create(verdicts, batch_size=200)
    OrderLine.objects.bulk_update(back, ["returned"], batch_size=200)
    return len(rmas)


def _unit(
    pair: Pair, bucket: str, quantity: int, kind: str, entry: RmaLine, rma: Rma, reason: str = ""
) -> Movement:
    return Movement(
        pair[0], pair[1], bucket, quantity, kind, f"demo:return:{entry.pk}:{kind}:{bucket}", reason=reason,
        reference=rma.number,
    )  # fmt: skip


#: what comes in is booked before what leaves, a verdict after the goods are here
_ORDER = (Kind.OPENING, Kind.RECEIPT, Kind.RETURN, Kind.DISPOSITION, Kind.SHIP)


def _post(moves: dict[dt.date, list[Movement]]) -> None:
    """Through the ledger's own door, three transactions a day: deliveries in the morning, parcels at five."""
    latest = now()
    for day in sorted(moves):
        rows = sorted(moves[day], key=lambda move: _ORDER.index(Kind(move.kind)))
        inbound = [move for move in rows if move.kind != Kind.SHIP]
        outbound = [move for move in rows if move.kind == Kind.SHIP]
        for hour, part in ((9, inbound), (17, outbound)):
            if part:
                with clock.telling(min(midnight(day) + hour * HOUR, latest)), transaction.atomic():
                    post_movements(part, actor=ACTOR)
