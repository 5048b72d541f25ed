"""What buyers send back: return rate by channel, and order accuracy, which returns are the evidence for.

Both are cohorts by the day an order left. A denominator of 0 gives None.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import DateTimeField, Exists, ExpressionWrapper, F, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce

from fulfillment.kpis import chunks, last_parcels, shipped_orders
from oms.core import business
from oms.core.clock import business_zone
from oms.core.figures import Place, Tallies, Tally, Window, share
from oms.orders.models import Allocation, Order, OrderLine
from returns.models import Disposition, ReturnReceipt, Rma, RmaLine

FOUR = Decimal("0.0001")  # values are rounded per line, so that sums are exact however they are grouped
#: a unit counts as returned when it arrives within so many days of its delivery
RETURN_DAYS = 60
#: days after shipping until nobody else can return (delivery itself takes up to two weeks)
RETURNS_MATURE = RETURN_DAYS + 14
#: days after shipping until complaints are in
ACCURACY_MATURE = 30
ACCURACY_TARGET = Decimal("0.99")
#: reasons of parcels that never reached the buyer: no return of his
UNDELIVERED = ("rto", "return_to_sender", "undeliverable", "refused")
#: a replacement with this tag makes good for a carrier's loss, which is no error of ours
CARRIER_LOSS = "carrier_loss"


# --- order accuracy -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of orders shipped; an order with three errors counts once."""

    orders: int
    errors: int
    lines: int
    error_lines: int
    perfect: int
    prevented: int

    @property
    def rate(self) -> Decimal | None:
        wrong = share(self.errors, self.orders)
        return None if wrong is None else 1 - wrong

    @property
    def line_rate(self) -> Decimal | None:
        wrong = share(self.error_lines, self.lines)
        return None if wrong is None else 1 - wrong

    @property
    def perfect_rate(self) -> Decimal | None:
        """Right, complete, out by its ship-by time, and not sent back as damaged."""
        return share(self.perfect, self.orders)


def accuracy(tally: Tally) -> Accuracy:
    """The figure of a tally."""
    names = ("orders", "errors", "lines", "error_lines", "perfect", "prevented")
    return Accuracy(*(tally.whole(name) for name in names))


@dataclass(frozen=True, slots=True)
class Sent:
    """One shipped order and what was wrong with it."""

    order_id: int
    channel: str
    warehouse: str
    shipped_at: dt.datetime
    lines: int
    error_lines: int
    error: bool
    late: bool
    incomplete: bool
    damaged: bool
    prevented: int

    @property
    def perfect(self) -> bool:
        return not (self.error or self.late or self.incomplete or self.damaged)


def _complaints() -> QuerySet[RmaLine]:
    """RMA lines that blame us: by their reason, or because the inspector found another item."""
    wrong = Exists(
        Disposition.objects.filter(line=OuterRef("pk"), condition=Disposition.Condition.WRONG_ITEM)
    )
    rows = RmaLine.objects.filter(order_line__isnull=False).exclude(rma__state=Rma.State.DECLINED)
    return rows.filter(Q(reason__our_fault=True) | wrong)


def _made_good() -> QuerySet[Order]:
    """Replacements that were sent because of an error of ours."""
    return Order.objects.filter(
        kind=Order.Kind.REPLACEMENT, parent__isnull=False, cancelled_at__isnull=True
    ).exclude(tags__icontains=CARRIER_LOSS)


def wrong_orders(orders: QuerySet[Order]) -> QuerySet[Order]:
    """Those with at least one fulfilment error: wrong item or quantity, missing, wrong address by us, badly packed."""
    complained = Exists(_complaints().filter(order_line__order=OuterRef("pk")))
    replaced = Exists(_made_good().filter(parent=OuterRef("pk")))
    return orders.filter(Q(complained) | Q(replaced))


def sent_orders(orders: QuerySet[Order]) -> Iterator[Sent]:
    """The orders as facts, six queries per chunk."""
    for part in chunks(orders, "id", "channel__code", "shipped_at", "ship_by"):
        ids = [row.id for row in part]
        parcels = last_parcels(ids)
        goods = OrderLine.objects.filter(order__in=ids, kind=OrderLine.Kind.PRODUCT)
        lines: dict[int, int] = {}
        incomplete: set[int] = set()
        for order_id, shipped, cancelled_here in goods.values_list("order_id", "shipped", "cancelled_here"):
            lines[order_id] = lines.get(order_id, 0) + (shipped > 0)
            if cancelled_here:
                incomplete.add(order_id)
        wrong: dict[int, set[int]] = {}
        complaints = _complaints().filter(order_line__order__in=ids)
        for order_id, line_id in complaints.values_list("order_line__order", "order_line_id"):
            wrong.setdefault(order_id or 0, set()).add(line_id or 0)
        replaced = set(_made_good().filter(parent__in=ids).values_list("parent_id", flat=True))
        damaged = set(
            Disposition.objects.filter(
                line__order_line__order__in=ids, condition=Disposition.Condition.DAMAGED
            ).values_list("line__order_line__order", flat=True)
        )
        for row in part:
            sent = parcels.get(row.id, [])
            yield Sent(
                row.id,
                row.channel__code,
                sent[-1].warehouse__code if sent else "",
                row.shipped_at,
                lines=lines.get(row.id, 0),
                error_lines=len(wrong.get(row.id, ())),
                error=row.id in wrong or row.id in replaced,
                late=row.ship_by is not None and row.shipped_at > row.ship_by,
                incomplete=row.id in incomplete,
                damaged=row.id in damaged,
                prevented=sum(parcel.wrong_scans for parcel in sent),
            )


def add_sent(tally: Tally, sent: Sent) -> None:
    """Count one order (pure)."""
    tally.add("orders")
    tally.add("errors", int(sent.error))
    tally.add("lines", sent.lines)
    tally.add("error_lines", sent.error_lines)
    tally.add("perfect", int(sent.perfect))
    tally.add("late", int(sent.late))
    tally.add("prevented", sent.prevented)


def accuracy_tally(window: Window) -> Tallies:
    """Per ship day, channel and warehouse."""
    found: Tallies = {}
    zone = business_zone()
    for sent in sent_orders(shipped_orders(window)):
        place = Place(sent.shipped_at.astimezone(zone).date(), sent.channel, sent.warehouse)
        add_sent(found.setdefault(place, Tally()), sent)
    return found


# --- return rate ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReturnRate:
    """Units, orders and value (business currency) that came back of those shipped."""

    units: int
    returned: int
    orders: int
    returned_orders: int
    value: Decimal
    returned_value: Decimal
    advised: int
    exchanged: int
    undelivered: int
    period_received: int

    @property
    def rate(self) -> Decimal | None:
        return share(self.returned, self.units)

    @property
    def order_rate(self) -> Decimal | None:
        return share(self.returned_orders, self.orders)

    @property
    def value_rate(self) -> Decimal | None:
        return share(self.returned_value, self.value)

    @property
    def undelivered_rate(self) -> Decimal | None:
        return share(self.undelivered, self.units)

    @property
    def period_rate(self) -> Decimal | None:
        """Quick version: received in the period ÷ shipped in the period, units of different orders."""
        return share(self.period_received, self.units)


def return_rate(tally: Tally) -> ReturnRate:
    """The figure of a tally."""
    return ReturnRate(
        tally.whole("units"), tally.whole("returned"), tally.whole("orders"), tally.whole("returned_orders"),
        Decimal(tally.get("value")), Decimal(tally.get("returned_value")), tally.whole("advised"),
        tally.whole("exchanged"), tally.whole("undelivered"), tally.whole("period_received"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One shipped order line and what came back of it. Values are per line, in the business currency or None."""

    order_id: int
    line_id: int
    channel: str
    warehouse: str
    shipped_at: dt.datetime
    units: int
    returned: int
    advised: int
    undelivered: int
    exchanged: bool
    unit_value: Decimal | None


def shipped_lines(window: Window) -> QuerySet[OrderLine]:
    """What the return rate is divided by: product lines of orders that left in the window."""
    return OrderLine.objects.filter(
        order__in=shipped_orders(window), kind=OrderLine.Kind.PRODUCT, shipped__gt=0
    )


def receipts() -> QuerySet[ReturnReceipt]:
    """Units that came back from buyers; parcels that never arrived are no returns."""
    return ReturnReceipt.objects.filter(line__order_line__isnull=False).exclude(
        line__reason__code__in=UNDELIVERED
    )


def _per_kit(line_ids: list[int]) -> dict[tuple[int, int], int]:
    """Eaches of a SKU in one unit of an order line, as it was reserved."""
    rows = Allocation.objects.filter(line__in=line_ids)
    return {
        (line, sku): each
        for line, sku, each in rows.values_list("line_id", "reservation__sku_id", "per_unit")
    }


def _units(by_sku: dict[int, int], line_id: int, sku_id: int | None, each: dict[tuple[int, int], int]) -> int:
    """Whole units of the line: a kit or pack is back when all of its parts are."""
    if sku_id in by_sku:
        return by_sku[sku_id] // each.get((line_id, sku_id), 1)
    return min((count // each.get((line_id, sku), 1) for sku, count in by_sku.items()), default=0)


def returned_lines(orders: QuerySet[Order]) -> Iterator[Line]:
    """Every shipped line of the orders as a fact, seven queries per chunk."""
    currency = business.currency()
    fields = ("id", "channel__code", "shipped_at", "delivered_at", "currency", "fx_rate", "fx_day")
    for part in chunks(orders, *fields):
        ids = [row.id for row in part]
        parcels = last_parcels(ids)
        by_order: dict[int, list[tuple[int, int | None, int, Decimal]]] = {}
        goods = OrderLine.objects.filter(order__in=ids, kind=OrderLine.Kind.PRODUCT, shipped__gt=0)
        for pk, order_id, sku_id, quantity, shipped, price, discount in goods.values_list(
            "id", "order_id", "sku_id", "quantity", "shipped", "unit_price", "discount"
        ).order_by("id"):
            unit_value = price - discount / quantity if quantity else price
            by_order.setdefault(order_id, []).append((pk, sku_id, shipped, unit_value))
        limit = {
            row.id: (row.delivered_at or row.shipped_at) + dt.timedelta(days=RETURN_DAYS) for row in part
        }
        back: dict[int, dict[int, int]] = {}
        lost: dict[int, dict[int, int]] = {}
        arrived = ReturnReceipt.objects.filter(line__order_line__order__in=ids)
        for order_id, line_id, sku, code, units, at in arrived.values_list(
            "line__order_line__order", "line__order_line", "line__sku", "line__reason__code", "quantity",
            "received_at",
        ):  # fmt: skip
            if line_id is None or order_id is None:
                continue
            if code in UNDELIVERED:
                where = lost.setdefault(line_id, {})
            elif at < limit[order_id]:
                where = back.setdefault(line_id, {})
            else:
                continue
            where[sku] = where.get(sku, 0) + units
        advised: dict[int, dict[int, int]] = {}
        open_lines = RmaLine.objects.filter(order_line__order__in=ids).exclude(
            rma__state__in=[Rma.State.DECLINED, Rma.State.CLOSED]
        )
        for line_id, sku, expected, got in open_lines.values_list(
            "order_line", "sku", "quantity", "received"
        ):
            if line_id is not None and expected > got:
                where = advised.setdefault(line_id, {})
                where[sku] = where.get(sku, 0) + expected - got
        exchanged = set(
            Order.objects.filter(kind=Order.Kind.EXCHANGE, parent__in=ids).values_list("parent_id", flat=True)
        )
        each = _per_kit(sorted({*back, *lost, *advised}))
        for row in part:
            sent = parcels.get(row.id, [])
            rate = Decimal(1) if row.currency == currency else row.fx_rate if row.fx_day else None
            for pk, of_sku, shipped, unit_value in by_order.get(row.id, []):
                yield Line(
                    row.id,
                    pk,
                    row.channel__code,
                    sent[-1].warehouse__code if sent else "",
                    row.shipped_at,
                    units=shipped,
                    returned=min(shipped, _units(back.get(pk, {}), pk, of_sku, each)),
                    advised=_units(advised.get(pk, {}), pk, of_sku, each),
                    undelivered=_units(lost.get(pk, {}), pk, of_sku, each),
                    exchanged=row.id in exchanged,
                    unit_value=None if rate is None else unit_value * rate,
                )


def add_lines(tally: Tally, lines: list[Line]) -> None:
    """Count the lines of one order (pure)."""
    tally.add("orders")
    tally.add("returned_orders", int(any(line.returned for line in lines)))
    for line in lines:
        tally.add("units", line.units)
        tally.add("returned", line.returned)
        tally.add("advised", line.advised)
        tally.add("undelivered", line.undelivered)
        tally.add("exchanged", line.returned if line.exchanged else 0)
        if line.unit_value is None:
            tally.add("unpriced", line.units)
        else:
            tally.add("value", (line.units * line.unit_value).quantize(FOUR))
            tally.add("returned_value", (line.returned * line.unit_value).quantize(FOUR))


def return_tally(window: Window) -> Tallies:
    """Per ship day, channel and warehouse; `period_received` by the day that goods arrived."""
    found: Tallies = {}
    zone = business_zone()

    def put(lines: list[Line]) -> None:
        one = lines[0]
        place = Place(one.shipped_at.astimezone(zone).date(), one.channel, one.warehouse)
        add_lines(found.setdefault(place, Tally()), lines)

    pending: list[Line] = []
    for line in returned_lines(shipped_orders(window)):
        if pending and pending[-1].order_id != line.order_id:
            put(pending)
            pending = []
        pending.append(line)
    if pending:
        put(pending)
    arrived = receipts().filter(received_at__gte=window.start, received_at__lt=window.end)
    rows = list(
        arrived.values_list(
            "received_at", "line__order_line__order", "line__order_line__order__channel__code", "quantity"
        )
    )
    parcels = last_parcels([order_id for _, order_id, _, _ in rows if order_id is not None])
    for at, order_id, channel, units in rows:
        sent = parcels.get(order_id or 0, [])
        warehouse = sent[-1].warehouse__code if sent else ""
        place = Place(at.astimezone(zone).date(), channel or "", warehouse)
        found.setdefault(place, Tally()).add("period_received", units)
    return found


def returned_of(lines: QuerySet[OrderLine]) -> QuerySet[OrderLine]:
    """Lines of which something came back in time: what the return rate counts."""
    delivered = Coalesce(F("order__delivered_at"), F("order__shipped_at"))
    until = ExpressionWrapper(delivered + dt.timedelta(days=RETURN_DAYS), output_field=DateTimeField())
    back = receipts().filter(line__order_line=OuterRef("pk"), received_at__lt=OuterRef("return_until"))
    return lines.annotate(return_until=until).filter(Exists(back))
