"""Order entry: the one way in for orders of every channel, the API, files and people.

`take()` is an idempotent upsert by (channel, external id). The channel's newest version wins whatever
the order of arrival; line by line only the difference touches stock. A channel order is a fact: it is
stored even when a SKU is unknown or nothing is left, and what is missing is visible on the line.

Up to 100 drafts share one transaction with bulk inserts and one `reserve()`; the stock rows are
updated late, because the time between that UPDATE and COMMIT is what slows a hot SKU down.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any, Literal

from django.db import DataError, IntegrityError, connection
from django.db.models import F

from inventory import calendar, reservations
from inventory.locking import LIMITS, RETRIES, retrying, stock_transaction
from inventory.models import Reservation
from inventory.reservations import Facts, ReserveLine, SkuFact
from inventory.selectors import resolve_codes
from oms.core import outbox
from oms.core.actor import Actor
from oms.core.clock import business_day, now
from oms.core.db import on_postgres
from oms.core.errors import UserError
from oms.core.exceptions_inbox import raise_item
from oms.core.inserts import insert_together, take_ids
from oms.core.outbox import emit_many
from oms.orders import holding, states, timeline, upkeep
from oms.orders.drafts import LineDraft, OrderDraft, label_supplier
from oms.orders.models import (
    Allocation,
    FxRate,
    Hold,
    Order,
    OrderCharge,
    OrderContact,
    OrderEvent,
    OrderLine,
    SalesChannel,
)
from oms.orders.validation import money_gap, normalise, short_name

log = logging.getLogger("lading.orders")

BATCH = 100
#: a second writer may insert the same order between our look-up and our insert
_TRIES = 3
NO_FACTS = Facts({}, frozenset(), {}, {}, frozenset(), frozenset())

Outcome = Literal["created", "updated", "unchanged", "stale", "error"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one draft. `order_id` is None only for `error`; `message` says why."""

    order_id: int | None
    outcome: Outcome
    message: str = ""


def take(drafts: Sequence[OrderDraft], *, channel: SalesChannel, actor: Actor, source: str) -> list[Taken]:
    """Store orders of one channel; the answer has one entry per draft, in the same order.

    A draft that cannot be stored gets outcome `error` with a sentence and stops no other: the caller
    keeps it and shows it to a person. `source` is webhook, poll, api, csv or manual. Joins the
    caller's transaction if there is one; else each 100 drafts are one transaction.
    """
    answers: dict[int, Taken] = {}
    good: list[tuple[int, OrderDraft]] = []
    newest: dict[str, int] = {}
    for index, draft in enumerate(drafts):
        try:
            clean = normalise(draft)
        except UserError as error:
            answers[index] = Taken(None, "error", error.message)
            continue
        good.append((index, clean))
        before = newest.get(clean.external_id)
        if before is None or drafts[before].channel_updated_at <= clean.channel_updated_at:
            newest[clean.external_id] = index
    # of several versions of one order only the newest is stored: the others would be overwritten at once
    todo = [(index, draft) for index, draft in good if newest[draft.external_id] == index]
    todo.sort(
        key=lambda item: item[1].external_id
    )  # same order everywhere: two batches never wait for each other
    for start in range(0, len(todo), BATCH):
        chunk = todo[start : start + BATCH]
        for (index, _), answer in zip(
            chunk, _take_chunk([d for _, d in chunk], channel, actor, source), strict=True
        ):
            answers[index] = answer
    for index, draft in good:
        if index not in answers:
            winner = answers[newest[draft.external_id]]
            answers[index] = (
                winner
                if winner.order_id is None
                else Taken(winner.order_id, "stale", "a newer version came along")
            )
    return [answers[index] for index in range(len(drafts))]


#: what one order may cause that nobody thought of: it is kept for a person and stops none of the others
UNFORESEEN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


def _take_chunk(drafts: list[OrderDraft], channel: SalesChannel, actor: Actor, source: str) -> list[Taken]:
    try:
        return _store(drafts, channel, actor, source)
    except (IntegrityError, DataError, UserError, *UNFORESEEN) as error:
        if len(drafts) > 1:
            log.info("batch of %d orders falls back to single orders: %s", len(drafts), type(error).__name__)
    return [_take_one(draft, channel, actor, source) for draft in drafts]


def _store(drafts: list[OrderDraft], channel: SalesChannel, actor: Actor, source: str) -> list[Taken]:
    """One transaction, run again after a lost race."""
    own, attempt = not connection.in_atomic_block, 0

    def work() -> list[Taken]:
        nonlocal attempt
        attempt += 1
        with stock_transaction(own_limits=True):
            # the last tries are careful ones, which end however many rivals there are
            batch = _Batch(channel, actor, source, own=own, restart=own and attempt <= RETRIES - 2)
            return batch.run(drafts)

    return retrying(work)


def _take_one(draft: OrderDraft, channel: SalesChannel, actor: Actor, source: str) -> Taken:
    for attempt in range(1, _TRIES + 1):
        try:
            return _store([draft], channel, actor, source)[0]
        except IntegrityError as error:
            if attempt == _TRIES:
                log.exception("order %s of %s breaks a rule of the database", draft.external_id, channel.code)
                return Taken(
                    None,
                    "error",
                    f"order {draft.external_id}: the database refused it ({error.__class__.__name__}).",
                )
        except DataError:
            return Taken(None, "error", f"order {draft.external_id}: a value does not fit its field.")
        except UserError as error:
            return Taken(None, "error", error.message)
        except UNFORESEEN as error:
            log.exception("order %s of %s breaks order entry", draft.external_id, channel.code)
            return Taken(
                None,
                "error",
                f"order {draft.external_id}: order entry cannot read it ({type(error).__name__}).",
            )
    raise AssertionError("unreachable")


@dataclass(slots=True, eq=False)
class _Work:
    """One order while its batch is being written."""

    draft: OrderDraft
    order: Order
    is_new: bool
    lines: list[OrderLine] = field(default_factory=list)
    outcome: Outcome = "created"
    notes: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    changed: dict[str, Any] = field(default_factory=dict)
    new_lines: list[OrderLine] = field(default_factory=list)
    touched_lines: set[OrderLine] = field(default_factory=set)
    keep: list[tuple[OrderLine, int]] = field(
        default_factory=list
    )  # (line, units to keep held): release the rest
    asks: list[tuple[OrderLine, int]] = field(default_factory=list)  # (line, units to reserve)
    got: int = 0
    was_routable: bool = False
    parts_changed: list[str] = field(default_factory=list)

    def note(self, kind: str, text: str, **data: Any) -> None:
        self.notes.append((kind, text, data))

    def set(self, name: str, value: Any) -> bool:
        """Change a field of the order if it differs."""
        if getattr(self.order, name) == value:
            return False
        setattr(self.order, name, value)
        self.changed[name] = value
        return True


class _Batch:
    """One transaction's worth of drafts of one channel, written with few statements."""

    def __init__(
        self, channel: SalesChannel, actor: Actor, source: str, *, own: bool = False, restart: bool = False
    ) -> None:
        self.channel = channel
        self.actor = actor
        self.source = source
        self.own = own
        self.restart = restart
        self.at = now()
        self.facts = NO_FACTS
        self.codes: dict[str, int] = {}
        self.reservation_ids: Sequence[int] = ()
        self.holds: list[Hold] = []
        self.charges: list[OrderCharge] = []
        self.contacts: list[OrderContact] = []
        self.serving = holding.serving(channel.pk)
        self._rates: dict[tuple[str, dt.date], tuple[Decimal, dt.date | None]] = {}
        self.missing_rates: set[str] = set()

    # --- what the batch needs to know -----------------------------------------------------------

    def _load_skus(self, drafts: Iterable[OrderDraft]) -> None:
        """SKUs of the lines with their stock at the channel's warehouses; merged ones as what took their place."""
        ids, codes = set(), set()
        for draft in drafts:
            for line in draft.lines:
                if line.sku_id is not None:
                    ids.add(line.sku_id)
                elif line.external_sku and line.kind == "product":
                    codes.add(line.external_sku)
        if codes:
            self.codes = {code: sku.pk for code, sku in resolve_codes(sorted(codes)).items()}
            ids |= set(self.codes.values())
        if not ids:
            return
        places = [place.id for place in self.serving.places]
        self.facts = reservations.read(ids, places)
        merged = {sku.merged_into for sku in self.facts.skus.values() if sku.merged_into} - ids
        if merged:
            self.facts = reservations.read(ids | merged, places)

    def _sku_of(self, line: LineDraft) -> SkuFact | None:
        if line.kind == "service":
            return self.facts.skus.get(line.sku_id) if line.sku_id is not None else None
        sku_id = self.codes.get(line.external_sku) if line.sku_id is None else line.sku_id
        sku = None if sku_id is None else self.facts.skus.get(sku_id)
        if sku is None and line.sku_id is not None:
            raise UserError(
                f"lines: there is no SKU with id {line.sku_id} (line '{line.external_id}').", field="sku"
            )
        return self.facts.skus[sku.merged_into] if sku is not None and sku.merged_into else sku

    def _name(self, line: OrderLine) -> str:
        """How a line is called in a sentence."""
        if line.external_sku or line.sku_id is None:
            return line.external_sku or line.title or line.external_id
        known = self.facts.skus.get(line.sku_id)
        return known.code if known is not None else line.sku.code  # type: ignore[union-attr]

    def _rate(self, code: str, placed_at: dt.datetime) -> tuple[Decimal, dt.date | None]:
        """Rate to the business currency on the day of the order: the latest known one not after it."""
        day = business_day(placed_at)
        if code == self.serving.currency:
            return Decimal(1), day
        if (code, day) not in self._rates:
            row = FxRate.objects.filter(currency=code, day__lte=day).order_by("-day").first()
            self._rates[code, day] = (row.rate, row.day) if row else (Decimal(1), None)
            if row is None:
                self.missing_rates.add(code)
        return self._rates[code, day]

    def _ship_by(self, draft: OrderDraft) -> tuple[dt.datetime | None, str]:
        """The channel's deadline, else the calendar of the first warehouse that serves the channel."""
        if draft.ship_by is not None:
            return draft.ship_by, "channel"
        if draft.fulfilled_by != "us":
            return None, ""
        days = self.serving.calendar or calendar.WorkCalendar(self.channel.time_zone)
        deadline = calendar.ship_by(days, draft.placed_at, handling_days=self.channel.handling_days)
        return (deadline.at, deadline.source) if deadline else (None, "")

    # --- the run --------------------------------------------------------------------------------

    def run(self, drafts: list[OrderDraft]) -> list[Taken]:
        ids = [draft.external_id for draft in drafts]
        known: dict[str, Order] = {}
        if self._any_stored(ids):
            stored = Order.objects.filter(channel=self.channel, external_id__in=ids)
            locked = stored.select_for_update(no_key=True).order_by("pk")
            known = {order.external_id: order for order in locked}
        fresh = [
            draft
            for draft in drafts
            if draft.external_id not in known
            or draft.channel_updated_at >= known[draft.external_id].channel_updated_at
        ]
        self._load_skus(fresh)
        works: dict[str, _Work] = {}
        answers: dict[str, Taken] = {}
        for draft in drafts:
            order = known.get(draft.external_id)
            if order is None:
                works[draft.external_id] = self._new(draft)
            elif draft.channel_updated_at < order.channel_updated_at:
                log.info(
                    "stale version of order %s ignored: %s", order.pk, draft.channel_updated_at.isoformat()
                )
                answers[draft.external_id] = Taken(order.pk, "stale", "an older version than the stored one")
            else:
                order.channel = self.channel
                works[draft.external_id] = _Work(draft, order, is_new=False, outcome="unchanged")
        new = [work for work in works.values() if work.is_new]
        old = [work for work in works.values() if not work.is_new]
        if old:
            self._compare(old)
        with outbox.gathering() as news:
            self._name_rows(new, old)
            links = self._stock(works.values())
            events = self._finish(works.values())
        insert_together(
            [work.order for work in new],
            [line for work in works.values() for line in work.new_lines],
            self.contacts,
            self.charges,
            self.holds,
            links,
            events,
            news,
        )
        self._unmapped_items(works.values())
        for external_id, work in works.items():
            answers[external_id] = Taken(work.order.pk, work.outcome)
        return [answers[draft.external_id] for draft in drafts]

    def _any_stored(self, external_ids: list[str]) -> bool:
        """Mostly no: then the wide rows are not asked for. On PostgreSQL it sets the transaction's limits as well."""
        marks = ", ".join(["%s"] * len(external_ids))
        found = f"EXISTS (SELECT 1 FROM orders_order WHERE channel_id = %s AND external_id IN ({marks}))"  # noqa: S608 - only placeholders are put in
        limits = f", {LIMITS}" if self.own and on_postgres() else ""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {found}{limits}", [self.channel.pk, *external_ids])
            return bool(cursor.fetchone()[0])

    # --- new orders -----------------------------------------------------------------------------

    def _new(self, draft: OrderDraft) -> _Work:
        assert draft.subtotal is not None and draft.total is not None
        rate, rate_day = self._rate(draft.currency, draft.placed_at)
        ship_by, ship_by_source = self._ship_by(draft)
        order = Order(
            channel=self.channel,
            external_id=draft.external_id,
            external_number=draft.external_number,
            kind=draft.kind,
            payment_state=draft.payment_state,
            fulfilled_by=draft.fulfilled_by,
            is_test=draft.is_test,
            placed_at=draft.placed_at,
            imported_at=self.at,
            channel_updated_at=draft.channel_updated_at,
            ship_by=ship_by,
            ship_by_source=ship_by_source,
            deliver_by=draft.deliver_by,
            buyer_cancel_requested=draft.buyer_cancel_requested,
            cancel_reason=draft.cancel_reason if draft.status == "cancelled" else "",
            service_level=draft.service_level,
            risk=draft.risk,
            currency=draft.currency,
            subtotal=draft.subtotal,
            discount=draft.discount,
            shipping=draft.shipping,
            tax=draft.tax,
            total=draft.total,
            fx_rate=rate,
            fx_day=rate_day,
            tags=list(draft.tags),
            source=self.source,
        )
        work = _Work(draft, order, is_new=True)
        if draft.contact is not None:
            _address(order, draft)
        wants = holding.wants_stock(order, self.channel, paid=draft.status != "pending")
        for line in draft.lines:
            self._add_line(work, line, wants)
        work.lines = work.new_lines
        units = sum(line.quantity for line in work.lines)
        work.note(
            "received",
            f"Received from {self.channel.name} ({self.source}): {_count(len(work.lines), 'line')}, "
            f"{_count(units, 'unit')}, {draft.total.quantize(Decimal('0.01'))} {draft.currency}",
            external_id=draft.external_id,
        )
        if any(line.shipped for line in work.lines) and draft.fulfilled_by == "us":
            work.note("received", "Had units shipped before it reached us; they took no stock here")
        self._judge(work)
        return work

    def _add_line(self, work: _Work, line: LineDraft, wants: bool) -> OrderLine:
        sku = self._sku_of(line)
        kind = line.kind if sku is None else holding.kind_of(sku) if line.kind == "product" else "service"
        shipped, cancelled = _told(work.draft, line)
        row = OrderLine(
            order=work.order,
            external_id=line.external_id,
            sku_id=sku.id if sku is not None else None,
            external_sku=line.external_sku,
            listing_ref=line.listing_ref,
            title=line.title,
            kind=kind,
            quantity=line.quantity,
            pack_size=line.pack_size,
            shipped=shipped,
            cancelled=cancelled,
            unit_price=line.unit_price,
            discount=line.discount,
            tax=line.tax,
        )
        room = row.outstanding
        if wants and room and holding.holds_stock(row):
            row.reserved = room  # corrected below for the few that come out short
            work.asks.append((row, room))
        work.new_lines.append(row)
        return row

    # --- orders we know -------------------------------------------------------------------------

    def _compare(self, works: list[_Work]) -> None:
        """Find the differences between stored orders and their newer versions; nothing is written yet."""
        by_id = {work.order.pk: work for work in works}
        for line in OrderLine.objects.filter(order__in=by_id).order_by("id"):
            line.order = by_id[line.order_id].order
            by_id[line.order_id].lines.append(line)
        contacts = {row.order_id: row for row in OrderContact.objects.filter(order__in=by_id)}
        holds: dict[int, list[Hold]] = {}
        for hold in Hold.objects.filter(order__in=by_id, released_at__isnull=True):
            holds.setdefault(hold.order_id, []).append(hold)
        charges: dict[int, list[OrderCharge]] = {}
        for charge in OrderCharge.objects.filter(order__in=by_id).order_by("id"):
            charges.setdefault(charge.order_id, []).append(charge)
        for work in works:
            work.was_routable = holding.routable(work.order)
            self._compare_order(work, contacts.get(work.order.pk), holds.get(work.order.pk, []))
            self._compare_lines(work)
            self._compare_charges(work, charges.get(work.order.pk, []))
            self._judge(work)

    def _compare_order(self, work: _Work, contact: OrderContact | None, holds: list[Hold]) -> None:
        draft, order = work.draft, work.order
        money = False
        for name in ("subtotal", "discount", "shipping", "tax", "total"):
            money |= work.set(name, getattr(draft, name))
        if money:
            work.note(
                "money", f"Amounts changed by the channel; the total is now {order.total} {order.currency}"
            )
        for name in ("external_number", "service_level", "deliver_by", "fulfilled_by", "is_test"):
            work.set(name, getattr(draft, name))
        if work.set("payment_state", draft.payment_state):
            work.note("payment", f"Payment: {draft.payment_state}")
        if draft.ship_by is not None and work.set("ship_by", draft.ship_by):
            work.set("ship_by_source", "channel")
            work.note("ship_by", "The channel changed the ship-by time")
            work.parts_changed.append("ship_by")
        merged = [*order.tags, *(tag for tag in draft.tags if tag not in order.tags)]
        work.set("tags", merged)
        if draft.contact is not None and (contact is None or contact.erased_at is None):
            data = _contact_data(draft)
            if contact is None:
                self.contacts.append(_contact_row(order, draft))
            # a person may have corrected the address: the channel's old words, told again, do not undo that
            known = None if contact is None else (contact.told or contact.data)
            if contact is not None and known != data:
                OrderContact.objects.filter(pk=contact.pk).update(data=data, told=None)
            if known != data:
                before = {name: getattr(order, name) for name in _ADDRESS_FIELDS}
                _address(order, draft)
                work.changed.update(
                    {n: getattr(order, n) for n in _ADDRESS_FIELDS if getattr(order, n) != before[n]}
                )
                work.note(
                    "address",
                    "Address received from the channel"
                    if contact is None
                    else "Address changed by the channel; it replaces the one entered here"
                    if contact.told
                    else "Address changed by the channel",
                )
                work.parts_changed.append("address")
        open_reasons = {hold.reason: hold for hold in holds if hold.line_id is None}
        if work.set("risk", draft.risk):
            work.note("risk", f"The channel rates the risk {draft.risk}")
            if draft.risk == "high" and Hold.Reason.FRAUD not in open_reasons:
                self._hold(work, Hold.Reason.FRAUD, "the channel rates the risk high")
        if work.set("buyer_cancel_requested", draft.buyer_cancel_requested):
            asked = open_reasons.get(Hold.Reason.BUYER_CANCEL)
            if draft.buyer_cancel_requested and asked is None:
                self._hold(work, Hold.Reason.BUYER_CANCEL, "the buyer asked the channel to cancel")
            elif not draft.buyer_cancel_requested and asked is not None:
                self._drop_holds(work, [asked], "the buyer took the request back")
        if draft.status == "cancelled":
            self._drop_holds(work, holds, "the order is cancelled")

    def _compare_lines(self, work: _Work) -> None:
        draft, order = work.draft, work.order
        paid = draft.status != "pending"
        wants = holding.wants_stock(order, self.channel, paid=paid)
        stored = {line.external_id: line for line in work.lines}
        asked = {line.external_id for line in draft.lines}
        elsewhere = 0
        for line in draft.lines:
            row = stored.get(line.external_id)
            if row is None:
                row = self._add_line(work, line, wants)
                work.lines.append(row)
                work.note("lines", f"{self._name(row)} added, {_count(row.quantity, 'unit')}")
                work.parts_changed.append("lines")
                continue
            elsewhere += self._change_line(work, row, line, wants)
        for row in work.lines:
            if row.external_id not in asked and row.cancelled < row.quantity - row.shipped:
                work.note("lines", f"{self._name(row)} removed by the channel")
                work.parts_changed.append("lines")
                self._resize(work, row, row.quantity, row.quantity - row.shipped, wants)
        if elsewhere and not (set(work.changed) & {"fulfilled_by"}):
            self._shipped_elsewhere(work, elsewhere)

    def _change_line(self, work: _Work, row: OrderLine, line: LineDraft, wants: bool) -> int:
        """Apply one line's difference; returns units that the channel shows as shipped and we do not."""
        price = False
        for name in ("unit_price", "discount", "tax"):
            if getattr(row, name) != getattr(line, name):
                setattr(row, name, getattr(line, name))
                price = True
        for name in ("title", "external_sku", "listing_ref"):
            value = getattr(line, name)
            if value and getattr(row, name) != value:
                setattr(row, name, value)
                work.touched_lines.add(row)
        if price:
            work.touched_lines.add(row)
            work.note(
                "lines",
                f"Price of {self._name(row)} changed to {row.unit_price.normalize():f} {work.order.currency}",
            )
        if row.sku_id is None and (sku := self._sku_of(line)) is not None:
            row.sku_id, row.pack_size = sku.id, line.pack_size
            row.kind = holding.kind_of(sku) if line.kind == "product" else "service"
            work.touched_lines.add(row)
            work.note("lines", f"{self._name(row)} is mapped to SKU {sku.code}")
        told_shipped, told_cancelled = _told(work.draft, line)
        if work.order.fulfilled_by == Order.FulfilledBy.CHANNEL and told_shipped > row.shipped:
            row.shipped = told_shipped
            row.short = min(
                row.short, row.quantity - row.shipped - min(row.cancelled, row.quantity - row.shipped)
            )
            work.touched_lines.add(row)
            work.note(
                "shipped", f"{self._name(row)}: {told_shipped} of {line.quantity} shipped by the channel"
            )
        quantity = line.quantity
        if quantity < row.quantity:
            # the channel answers our own cancellation by a smaller quantity: the same units, not more
            row.cancelled_here = max(0, row.cancelled_here - (row.quantity - quantity))
        if quantity < row.shipped:
            self._trouble(
                work,
                "edited_after_shipping",
                f"{self._name(row)}: the channel now says {quantity}, but {row.shipped} are shipped; "
                "shipped units stay",
            )
            quantity = row.shipped
        cancelled = min(max(row.cancelled_here, told_cancelled), quantity - row.shipped)
        if (quantity, cancelled) != (row.quantity, row.cancelled):
            work.note(
                "lines",
                f"{self._name(row)}: {_edit_text(row, quantity, cancelled)}",
                before=row.quantity,
                after=quantity,
            )
            work.parts_changed.append("lines")
        self._resize(work, row, quantity, cancelled, wants)
        return (
            0 if work.order.fulfilled_by == Order.FulfilledBy.CHANNEL else max(0, told_shipped - row.shipped)
        )

    def _resize(self, work: _Work, row: OrderLine, quantity: int, cancelled: int, wants: bool) -> None:
        """Set what is ordered and cancelled; hold, free or ask for exactly the difference."""
        before = (row.quantity, row.cancelled, row.reserved, row.short)
        row.quantity, row.cancelled = quantity, cancelled
        room = row.outstanding if wants and holding.holds_stock(row) else 0
        reserved = min(row.reserved, room)
        if reserved < row.reserved:
            work.keep.append((row, reserved))
        row.reserved = reserved
        row.short = min(row.short, room - reserved)
        if missing := room - reserved - row.short:
            work.asks.append((row, missing))
            row.reserved += missing
        if before != (row.quantity, row.cancelled, row.reserved, row.short):
            work.touched_lines.add(row)

    def _compare_charges(self, work: _Work, stored: list[OrderCharge]) -> None:
        have = sorted((row.kind, row.amount, row.title, row.line_id or 0) for row in stored)
        lines = {line.external_id: line.pk or 0 for line in work.lines}
        told = sorted(
            [(charge.kind, charge.amount, charge.title, 0) for charge in work.draft.charges]
            + [
                (charge.kind, charge.amount, charge.title, lines[line.external_id])
                for line in work.draft.lines
                for charge in line.charges
            ]
        )
        if have != told:
            OrderCharge.objects.filter(order=work.order).delete()
            self._queue_charges(work)

    def _queue_charges(self, work: _Work) -> None:
        lines = {line.external_id: line for line in work.lines}
        for charge in work.draft.charges:
            self.charges.append(_charge_row(work.order, None, charge.kind, charge.title, charge.amount))
        for line in work.draft.lines:
            for charge in line.charges:
                self.charges.append(
                    _charge_row(work.order, lines[line.external_id], charge.kind, charge.title, charge.amount)
                )

    # --- holds, trouble, state ------------------------------------------------------------------

    def _hold(self, work: _Work, reason: str, note: str, *, expires_at: dt.datetime | None = None) -> None:
        self.holds.append(
            Hold(
                order=work.order,
                reason=reason,
                note=note,
                placed_by=str(self.actor),
                placed_at=self.at,
                expires_at=expires_at,
            )
        )
        self._holds_open(work, +1)
        work.note("hold", f"On hold: {Hold.Reason(reason).label} – {note}", reason=reason)

    def _drop_holds(self, work: _Work, holds: list[Hold], why: str) -> None:
        if not holds:
            return
        freed = Hold.objects.filter(pk__in=[hold.pk for hold in holds], released_at__isnull=True).update(
            released_at=self.at, released_by=str(self.actor)
        )
        self._holds_open(work, -freed)
        work.note("hold", f"Hold released: {why}")

    def _holds_open(self, work: _Work, change: int) -> None:
        work.order.holds_open = max(0, work.order.holds_open + change)
        if not work.is_new:
            work.changed["holds_open"] = work.order.holds_open

    def _trouble(self, work: _Work, kind: str, text: str) -> None:
        """Something a person must look at, on the timeline and in the exceptions inbox."""
        work.note("trouble", text)
        raise_item(
            kind,
            f"{kind}:{work.order.pk}",
            f"{work.order.number}: {text}"[:200],
            object_url=f"/orders/{work.order.number}/",
            channel_code=self.channel.code,
            due_at=work.order.ship_by,
        )

    def _shipped_elsewhere(self, work: _Work, units: int) -> None:
        text = f"The channel shows {_count(units, 'unit')} as shipped that did not leave through us"
        if supplier := label_supplier(work.order.tags):
            # there a bought label counts as shipped; the parcel still leaves from here
            told = f"{supplier} shows a label for {_count(units, 'unit')}: enter its tracking number"
            if not OrderEvent.objects.filter(order=work.order, text=told).exists():
                work.note("label", told)
            return
        known = Hold.objects.filter(order=work.order, reason=Hold.Reason.RULE).values_list(
            "note", "released_at"
        )
        if any(note == text for note, _ in known):
            return  # a person knows already
        if not any(released_at is None for _, released_at in known):
            self._hold(work, Hold.Reason.RULE, text)
        self._trouble(work, "shipped_elsewhere", text)

    def _judge(self, work: _Work) -> None:
        """Derive the state and the counters from the lines as they will be stored."""
        draft, order = work.draft, work.order
        if work.is_new:
            unshipped = draft.status in ("pending", "open")
            if draft.risk == "high" and unshipped:
                self._hold(work, Hold.Reason.FRAUD, "the channel rates the risk high")
            if draft.buyer_cancel_requested and unshipped:
                self._hold(work, Hold.Reason.BUYER_CANCEL, "the buyer asked the channel to cancel")
            window_ends = draft.placed_at + dt.timedelta(minutes=self.channel.hold_minutes)
            if self.at < window_ends and draft.fulfilled_by == "us" and unshipped:
                self._hold(
                    work, Hold.Reason.WINDOW, "the channel's cancellation window", expires_at=window_ends
                )
        if (gap := money_gap(draft)) and (
            work.is_new or "total" in work.changed or "subtotal" in work.changed
        ):
            work.note(
                "money",
                f"The channel's total differs from its parts by {gap.normalize():f} {draft.currency}",
                gap=str(gap),
            )
        goods = [line for line in work.lines if line.kind == OrderLine.Kind.PRODUCT]
        delivered = draft.status == "delivered" and not any(line.outstanding for line in goods)
        state = states.derive(
            (states.LineCounts(line.quantity, line.shipped, line.cancelled) for line in goods),
            paid=draft.status != "pending",
            routed=order.state == Order.State.ROUTED and not work.asks,
            delivered=delivered or order.delivered_at is not None,
            cancelled=draft.status == "cancelled",
        )
        unmapped = sum(1 for line in goods if line.sku_id is None and line.outstanding)
        if work.is_new:
            order.state, order.unmapped_lines = state, unmapped
        else:
            before = order.state
            if work.set("state", state):
                states.check(order.number, before, state)
                work.note(
                    "state",
                    f"{Order.State(before).label} → {Order.State(state).label}",
                    before=before,
                    after=state,
                )
            work.set("unmapped_lines", unmapped)
            work.set("short_units", sum(line.short for line in work.lines))
        put = work.set if not work.is_new else lambda name, value: setattr(order, name, value)
        if state == Order.State.CANCELLED:
            if order.cancelled_at is None:
                put("cancelled_at", draft.channel_updated_at)
                put("cancel_reason", draft.cancel_reason)
                if not work.is_new:
                    work.note(
                        "cancelled",
                        f"Cancelled by the channel{': ' + draft.cancel_reason if draft.cancel_reason else ''}",
                    )
        elif order.cancelled_at is not None:
            put("cancelled_at", None)
            put("cancel_reason", "")
        if state in (Order.State.SHIPPED, Order.State.DELIVERED) and order.shipped_at is None:
            put("shipped_at", draft.channel_updated_at)
        if delivered and order.delivered_at is None:
            put("delivered_at", draft.channel_updated_at)

    # --- writing --------------------------------------------------------------------------------

    def _name_rows(self, new: list[_Work], old: list[_Work]) -> None:
        """Give new rows their ids before anything is inserted, so that all of them can be inserted at once."""
        lines = [line for work in (*new, *old) for line in work.new_lines]
        asks = sum(len(work.asks) for work in (*new, *old))
        ids = take_ids({Order: len(new), OrderLine: len(lines), Reservation: asks})
        self.reservation_ids = ids[Reservation]
        for work, order_id in zip(new, ids[Order], strict=True):
            work.order.pk = order_id
        for line, line_id in zip(lines, ids[OrderLine], strict=True):
            line.pk, line.order_id = line_id, line.order.pk
        for work in new:
            self._queue_charges(work)
            if work.draft.contact is not None:
                self.contacts.append(_contact_row(work.order, work.draft))
        for contact in self.contacts:
            contact.order_id = contact.order.pk
            contact.expires_at = upkeep.pii_expiry(contact.order, self.channel)
        for hold in self.holds:
            hold.order_id = hold.order.pk
        for charge in self.charges:
            charge.order_id = charge.order.pk
            charge.line_id = charge.line.pk if charge.line is not None else None

    def _stock(self, works: Collection[_Work]) -> list[Allocation]:
        """Release first, then reserve everything in one call and correct what came out short; the links to store."""
        releasing = {line.pk: (line, keep) for work in works for line, keep in work.keep}
        if releasing:
            parts = holding.parts_by_line(list(releasing))
            give: dict[int, int] = {}
            for line_id, (_, keep) in releasing.items():
                give.update(holding.surplus(parts.get(line_id, []), keep))
            if give:
                reservations.release(give, actor=self.actor, reason="order changed")
        asks: dict[str, tuple[_Work, OrderLine]] = {}
        wanted: list[ReserveLine] = []
        candidates = tuple(place.id for place in self.serving.places)
        # what is scarce goes to the earliest promise, as it does when stock shrinks
        for work in sorted(works, key=lambda one: (holding.promise(one.order), one.order.external_id)):
            for line, units in work.asks:
                assert line.sku_id is not None
                name = holding.reference(work.order, line)
                asks[name] = (work, line)
                wanted.append(
                    ReserveLine(
                        name,
                        line.sku_id,
                        units,
                        candidates,
                        promise_at=holding.promise(work.order),
                        channel_code=self.channel.code,
                        min_shelf_days=self.channel.min_shelf_life_days,
                        pack=line.pack_size,
                        mcf=True,
                    )  # fmt: skip
                )
        if not wanted:
            return []
        fresh = {line.pk for work in works for line in work.new_lines}
        links: list[Allocation] = []
        places = {place.id: place.code for place in self.serving.places}
        got: dict[int, dict[str, int]] = {}
        for result in reservations.reserve(
            wanted,
            actor=self.actor,
            facts=self.facts if not releasing else None,
            ids=self.reservation_ids,
            restart=self.restart,
        ):
            work, line = asks[result.reference]
            work.got += result.reserved
            if result.short:
                line.reserved -= result.short
                line.short += result.short
                line.short_at_entry += result.short
                if line.pk not in fresh:
                    work.touched_lines.add(line)
            for part in result.parts:
                links.append(
                    Allocation(line_id=line.pk, reservation_id=part.reservation_id, per_unit=part.per_unit)
                )
                at = got.setdefault(work.order.pk, {})
                code = places.get(part.warehouse_id, str(part.warehouse_id))
                at[code] = at.get(code, 0) + part.quantity
        for work in works:
            if not work.asks:
                continue
            where = ", ".join(f"{units} at {code}" for code, units in got.get(work.order.pk, {}).items())
            if where:
                work.note("reserved", f"Reserved {where}", warehouses=got[work.order.pk])
            short = sum(line.short for line in work.lines)
            if short != work.order.short_units:
                work.order.short_units = short
                if not work.is_new:
                    work.changed["short_units"] = short
            if short:
                names = ", ".join(f"{line.short} of {self._name(line)}" for line in work.lines if line.short)
                work.note("short", f"Backorder: {names} not in stock", units=short)
        return links

    def _finish(self, works: Collection[_Work]) -> list[OrderEvent]:
        """Write what changed in orders we knew, and tell the news; the timeline lines to store."""
        events: list[OrderEvent] = []
        news: list[tuple[str, str, dict[str, Any]]] = []
        touched: list[OrderLine] = []
        for work in works:
            order, draft = work.order, work.draft
            key = str(order.pk)
            touched.extend(work.touched_lines)
            if work.is_new:
                news.append(("order.created", key, {}))
            else:
                if work.changed or work.touched_lines or work.new_lines or work.notes:
                    work.outcome = "updated"
                    news.append(("order.changed", key, {"changed": sorted(set(work.parts_changed))}))
                    if work.changed.get("state") == Order.State.CANCELLED:
                        news.append(("order.cancelled", key, {}))
                    Order.objects.filter(pk=order.pk).update(
                        **work.changed, channel_updated_at=draft.channel_updated_at, version=F("version") + 1
                    )
                elif order.channel_updated_at != draft.channel_updated_at:
                    Order.objects.filter(pk=order.pk).update(channel_updated_at=draft.channel_updated_at)
                if {"state", "delivered_at", "cancelled_at"} & set(work.changed):
                    expires = upkeep.pii_expiry(order, self.channel)
                    OrderContact.objects.filter(order=order, erased_at__isnull=True).update(
                        expires_at=expires
                    )
            if holding.routable(order) and (work.got or (not work.is_new and not work.was_routable)):
                news.append(("order.route", key, {}))
            events.extend(
                timeline.entry(order.pk, kind, text, actor=self.actor, data=data, at=self.at)
                for kind, text, data in work.notes
            )
        if touched:
            OrderLine.objects.bulk_update(
                touched,
                ["sku", "kind", "external_sku", "listing_ref", "title", "quantity", "pack_size", "reserved", "shipped",
                 "cancelled", "cancelled_here", "short", "short_at_entry", "unit_price", "discount", "tax"],
                batch_size=200,
            )  # fmt: skip
        for code in sorted(self.missing_rates):
            raise_item(
                "fx_missing",
                f"fx_missing:{code}",
                f"No exchange rate for {code}",
                detail=f"Orders in {code} are stored; sums in the business currency leave them out.",
                object_url=f"/settings/rates/?currency={code}",
                channel_code=self.channel.code,
            )
        if news:
            emit_many(news)
        return events

    def _unmapped_items(self, works: Iterable[_Work]) -> None:
        """One open item per unknown code of a channel, however many orders wait for it."""
        seen: dict[str, _Work] = {}
        for work in works:
            if work.order.unmapped_lines and (work.is_new or work.new_lines):
                for line in work.new_lines:
                    if line.kind == OrderLine.Kind.PRODUCT and line.sku_id is None and line.outstanding:
                        seen.setdefault(line.external_sku or line.title or line.external_id, work)
        for code, work in seen.items():
            raise_item(
                "unmapped_sku",
                upkeep.unmapped_key(self.channel, code),
                f"Unknown SKU '{code}' from {self.channel.name}"[:200],
                detail=f"Order {work.order.number} waits. Map the code once and every waiting order is repaired.",
                object_url=f"/orders/{work.order.number}/",
                channel_code=self.channel.code,
                due_at=work.order.ship_by,
            )


# --- small pure parts ---------------------------------------------------------------------------

_ADDRESS_FIELDS = ("ship_country", "ship_region", "ship_postal", "ship_city", "ship_name", "residential")


def _told(draft: OrderDraft, line: LineDraft) -> tuple[int, int]:
    """(shipped, cancelled) units of a line as the channel's version says."""
    if draft.status == "cancelled":
        return line.shipped, line.quantity - line.shipped
    if draft.status in ("shipped", "delivered"):
        return (line.shipped if line.shipped else line.quantity - line.cancelled), line.cancelled
    return line.shipped, line.cancelled


def _address(order: Order, draft: OrderDraft) -> None:
    contact = draft.contact
    assert contact is not None
    order.ship_country = contact.country
    order.ship_region = contact.region[:40]
    order.ship_postal = contact.postal_code[:20]
    order.ship_city = contact.city[:80]
    order.ship_name = short_name(contact.name or contact.company)
    order.residential = contact.residential


def _contact_data(draft: OrderDraft) -> dict[str, Any]:
    assert draft.contact is not None
    return {name: value for name, value in asdict(draft.contact).items() if value != ""}


def _contact_row(order: Order, draft: OrderDraft) -> OrderContact:
    return OrderContact(order=order, data=_contact_data(draft))


def _charge_row(order: Order, line: OrderLine | None, kind: str, title: str, amount: Decimal) -> OrderCharge:
    return OrderCharge(order=order, line=line, kind=kind, title=title, amount=amount, currency=order.currency)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _edit_text(row: OrderLine, quantity: int, cancelled: int) -> str:
    parts = []
    if quantity != row.quantity:
        parts.append(f"{row.quantity} → {quantity}")
    if cancelled != row.cancelled:
        parts.append(f"{cancelled} cancelled" if cancelled else "no longer cancelled")
    return ", ".join(parts)
