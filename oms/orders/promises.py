"""The day on which a waiting line gets its goods: given from what is on order, moved and lost with it.

Level-triggered: `renew` compares what is stored with what the plan says now, so it may run any number of times. What
changed is written on the order's timeline; lines that a purchase order or a transfer no longer covers become one
exception item.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.db.models import F, Q, QuerySet

from inventory import transfers
from inventory.locking import retrying, stock_transaction
from inventory.models import Transfer
from inventory.selectors import kit_parts, levels
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.exceptions_inbox import close_items, raise_item
from oms.core.models import ExceptionItem
from oms.orders import allocation, holding, promising, states, timeline, upkeep
from oms.orders.models import Order, OrderEvent, OrderLine, Promise
from oms.orders.promising import Source
from procurement.models import PurchaseOrder
from procurement.selectors import incoming

#: orders whose lines are written by one transaction
CHUNK = 100
#: orders that an exception item names
NAMED = 10


@dataclass(frozen=True, slots=True)
class Change:
    """A line whose day is another one than before: None is no day."""

    line_id: int
    order_id: int
    units: int
    before: dt.date | None
    after: dt.date | None
    source_before: Source | None
    source_after: Source | None

    @property
    def dropped(self) -> bool:
        """Whether what it was promised from covers it no more, and nothing as early does."""
        if self.before is None or self.source_before is None or self.source_after == self.source_before:
            return False
        return self.after is None or self.after > self.before


def wanted_skus(order_ids: Collection[int]) -> set[int]:
    """SKUs of the orders' lines whose day may have changed: short of something on order, or with a stale day."""
    lines = OrderLine.objects.filter(
        Q(short__gt=0) | Q(promise_on__isnull=False), order__in=order_ids, sku__isnull=False
    )
    promised: set[int] = set()
    short: set[int] = set()
    for sku_id, day in lines.values_list("sku_id", "promise_on"):
        (short if day is None else promised).add(sku_id)
    if short:
        parts = kit_parts(short)
        needed = {sku_id: {part for part, _ in parts.get(sku_id, ())} or {sku_id} for sku_id in short}
        asked = set().union(*needed.values())
        coming = {one.sku_id for one in incoming(asked)} | {one.sku_id for one in transfers.coming(asked)}
        promised |= {sku_id for sku_id in short if needed[sku_id] & coming}
    return promised


def renew(sku_ids: Iterable[int], *, actor: Actor) -> list[Change]:
    """Give the lines that wait for the SKUs, and for what kits share with them, the day that incoming goods allow.

    Days go by the order of service (`allocation.waiting_lines`), so that what is promised is what will happen.
    Returns what changed, in that order.
    """
    lines, needs = _world(set(sku_ids))
    places: dict[int, tuple[int, ...]] = {}
    waiting: list[promising.Waiting] = []
    for line in lines:
        order = line.order
        if not holding.wants_stock(order, order.channel, paid=order.state != Order.State.PENDING):
            continue
        if order.channel_id not in places:
            places[order.channel_id] = holding.candidates(order.channel_id)
        assert line.sku_id is not None
        waiting.append(
            promising.Waiting(
                line.pk,
                line.short,
                tuple(
                    (sku_id, each * line.pack_size)
                    for sku_id, each in needs.get(line.sku_id, ((line.sku_id, 1),))
                ),
                places[order.channel_id],
                assembled=line.sku_id in needs,
            )
        )
    expected = promising.plan(waiting, _supplies(waiting))
    stored = Promise.objects.in_bulk([line.pk for line in lines])
    moved = [
        change
        for line in lines
        if (change := _change(line, expected.get(line.pk), stored.get(line.pk))) is not None
    ]
    changes: list[Change] = []
    for chunk in _by_orders(moved):

        def work(chunk: Sequence[Change] = chunk) -> list[Change]:
            with stock_transaction():
                return _store(chunk, actor)

        changes += retrying(work)
    served = _forget_served({line.sku_id for line in lines if line.sku_id} | set(sku_ids))
    _tell_people(changes, {row.was_source for row in stored.values()} | served)
    return changes


def _world(sku_ids: set[int]) -> tuple[list[OrderLine], Mapping[int, tuple[tuple[int, int], ...]]]:
    """All lines that share supply with those waiting for the SKUs, in the order of service, and parts of kits."""
    known = set(sku_ids)
    while True:
        lines = allocation.waiting_lines(known)
        needs = {
            kit: tuple(parts)
            for kit, parts in kit_parts({line.sku_id for line in lines if line.sku_id}).items()
        }
        parts = {part for kit in needs.values() for part, _ in kit}
        if parts <= known:
            return lines, needs
        known |= parts


def _supplies(waiting: Sequence[promising.Waiting]) -> list[promising.Supply]:
    """What comes of the SKUs on a known day; for kits also what is there already of their parts."""
    skus = {sku_id for line in waiting for sku_id, _ in line.needs}
    if not skus:
        return []
    coming: list[tuple[int, int, int, dt.date | None, Source]] = [
        (one.sku_id, one.warehouse_id, one.units, one.expected_on, ("PO", one.order_id))
        for one in incoming(skus)
    ]
    coming += [
        (one.sku_id, one.warehouse_id, one.units, one.expected_on, ("TR", one.transfer_id))
        for one in transfers.coming(skus)
    ]
    found = [
        promising.Supply(sku_id, place, units, day, source)
        for sku_id, place, units, day, source in coming
        if day is not None
    ]
    parts = {sku_id for line in waiting if line.assembled for sku_id, _ in line.needs}
    there = levels(parts) if parts else {}
    return found + [
        promising.Supply(sku_id, place, level.available, promising.IN_STOCK, None)
        for (sku_id, place), level in there.items()
        if level.available > 0
    ]


def _change(line: OrderLine, found: promising.Expected | None, stored: Promise | None) -> Change | None:
    after, source = (found.on, found.source) if found is not None else (None, None)
    before = stored.source if stored is not None else None
    if line.promise_on == after and before == source:
        return None
    return Change(line.pk, line.order_id, line.short, line.promise_on, after, before, source)


def _columns(source: Source | None, prefix: str = "") -> dict[str, int | None]:
    """The columns of a `Promise` that name a source."""
    kind, pk = source if source is not None else ("", None)
    return {
        f"{prefix}purchase_id": pk if kind == "PO" else None,
        f"{prefix}transfer_id": pk if kind == "TR" else None,
    }


def _by_orders(changes: Sequence[Change]) -> list[list[Change]]:
    """Changes in groups of up to `CHUNK` orders, the order of service kept within a group."""
    ids = sorted({change.order_id for change in changes})
    groups = [set(ids[start : start + CHUNK]) for start in range(0, len(ids), CHUNK)]
    return [[change for change in changes if change.order_id in group] for group in groups]


def _store(changes: Sequence[Change], actor: Actor) -> list[Change]:
    """Write the days of lines that are still as they were planned; a line that moved meanwhile brings its own news."""
    orders = {order.pk: order for order in upkeep.lock_many(change.order_id for change in changes)}
    lines = OrderLine.objects.select_related("sku").in_bulk([change.line_id for change in changes])
    done: list[Change] = []
    for change in changes:
        line = lines.get(change.line_id)
        if line is None or (line.short, line.promise_on) != (change.units, change.before):
            continue
        line.promise_on = change.after
        done.append(change)
    if not done:
        return []
    moment = now()
    redated = [change for change in done if change.before != change.after]
    OrderLine.objects.bulk_update([lines[change.line_id] for change in redated], ["promise_on"])
    Promise.objects.bulk_create(
        [
            Promise(line_id=change.line_id, was_on=change.before, changed_at=moment,
                    **_columns(change.source_after), **_columns(change.source_before, "was_"))
            for change in redated
        ],
        update_conflicts=True,
        unique_fields=["line"],
        update_fields=["purchase", "transfer", "was_on", "was_purchase", "was_transfer", "changed_at"],
    )  # fmt: skip
    for change in done:
        if change.before == change.after:  # as early as before, from elsewhere: no news for anybody
            Promise.objects.filter(pk=change.line_id).update(**_columns(change.source_after))
    timeline.write([_line_of(change, lines[change.line_id], actor) for change in redated])
    told = {change.order_id for change in redated}
    if told:
        upkeep.settle_many(
            [order for pk, order in orders.items() if pk in told], actor=actor, changed=["promise"]
        )
    return redated


def _name(source: Source) -> str:
    """The number that people know it by."""
    return f"{source[0]}-{source[1]}"


def _line_of(change: Change, line: OrderLine, actor: Actor) -> OrderEvent:
    what = f"{change.units} of {line.sku}"
    if change.after is None:
        whose = _name(change.source_before) if change.source_before else "What is on its way"
        text = f"{what} have no date any more: {whose} no longer covers them (was {change.before:%d %b %Y})"
    else:
        assert change.source_after is not None  # a day is the day of something that comes
        day = f"expected {change.after:%d %b %Y} with {_name(change.source_after)}"
        if change.before is None:
            text = f"{what} {day}"
        else:
            text = f"{what} now {day}, before {change.before:%d %b %Y}"
            if change.dropped and change.source_before:
                text += f" with {_name(change.source_before)}"
    data = {
        "before": change.before and change.before.isoformat(),
        "after": change.after and change.after.isoformat(),
    }
    return timeline.entry(change.order_id, "promise", text, actor=actor, data=data)


def _forget_served(sku_ids: set[int]) -> set[Source | None]:
    """Lines that wait no more have no day to keep. Returns what had dropped some of them."""
    gone = list(
        Promise.objects.filter(line__sku__in=sku_ids).exclude(
            line__short__gt=0, line__order__state__in=states.LIVE
        )
    )
    ids = [row.pk for row in gone]
    if ids:
        OrderLine.objects.filter(pk__in=ids).update(promise_on=None)
        Promise.objects.filter(pk__in=ids).delete()
    return {row.was_source for row in gone}


# --- what people see ---------------------------------------------------------------------------------


def standing() -> QuerySet[Promise]:
    """Promises of lines that still wait.

    Those without a day come first, then the last promised: the latest day, and of one day the last to be served.
    """
    return (
        Promise.objects.filter(line__short__gt=0, line__order__state__in=states.LIVE)
        .select_related(
            "line__order__channel", "line__sku", "purchase", "was_purchase", "transfer", "was_transfer"
        )
        .order_by(
            F("line__promise_on").desc(nulls_first=True), F("was_on").desc(nulls_last=True),
            F("line__order__ship_by").desc(nulls_first=True), "-line__order__placed_at", "-line",
        )
    )  # fmt: skip


def of_source(source: Source) -> QuerySet[Promise]:
    """Those that rest on a purchase order or a transfer, or did before their last change."""
    return standing().filter(_from(source) | _from(source, "was_"))


def _from(source: Source, prefix: str = "") -> Q:
    kind, pk = source
    return Q(**{f"{prefix}{'purchase' if kind == 'PO' else 'transfer'}": pk})


def dropped(source: Source) -> QuerySet[Promise]:
    """Those of them that it does not cover any more and that get nothing as early from elsewhere."""
    return (
        standing()
        .filter(_from(source, "was_"))
        .exclude(_from(source))
        .filter(Q(line__promise_on__isnull=True) | Q(line__promise_on__gt=F("was_on")))
    )


def _key(source: Source) -> str:
    return f"promise_lost:{source[1]}" if source[0] == "PO" else f"promise_lost:{_name(source)}"


def _tell_people(changes: Sequence[Change], touched: Iterable[Source | None]) -> None:
    """One item per purchase order or transfer that drops lines now; it closes when none of them waits for a date any
    more.
    """
    fresh = Counter(change.source_before for change in changes if change.dropped)
    asked = {source for source in (*fresh, *touched) if source is not None}
    bought = PurchaseOrder.objects.select_related("warehouse").in_bulk(
        [pk for kind, pk in asked if kind == "PO"]
    )
    moved = Transfer.objects.select_related("destination").in_bulk([pk for kind, pk in asked if kind == "TR"])
    for source in sorted(asked):
        kind, pk = source
        if pk not in (bought if kind == "PO" else moved):
            continue
        rows = list(dropped(source)[: NAMED + 1])
        if not rows:
            close_items([_key(source)], "every order has its goods or its old date again")
        elif fresh[source]:
            lost = dropped(source).count()
            names = "; ".join(
                f"{row.line.order.number} ({row.line.short} of {row.line.sku}, was {row.was_on:%d %b}, "
                + (f"now {row.line.promise_on:%d %b})" if row.line.promise_on else "now without a date)")
                for row in rows[:NAMED]
            )
            raise_item(
                "promise_lost",
                _key(source),
                f"{_name(source)} no longer covers {lost} promised order line{'s' if lost > 1 else ''}",
                f"The last promised: {names}" + (f"; and {lost - NAMED} more" if lost > NAMED else ""),
                severity=ExceptionItem.Severity.HIGH,
                object_url=f"/purchasing/orders/{pk}/" if kind == "PO" else f"/stock/transfers/{pk}/",
                warehouse_code=bought[pk].warehouse.code if kind == "PO" else moved[pk].destination.code,
            )


def waiting_skus() -> list[int]:
    """SKUs that live lines are short of, for the hourly look at all of them."""
    short = OrderLine.objects.filter(short__gt=0, sku__isnull=False, order__state__in=states.LIVE)
    return sorted(set(short.values_list("sku_id", flat=True).distinct()))
