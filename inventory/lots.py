"""Lots: what expired or is blocked cannot be promised, what is short-dated not to every channel, and where a lot went.

Nothing is stored about expiry but the date: a lot leaves sellable at the midnight that ends its last day in the
warehouse's time zone, because every reader computes it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from django.db.models import Q, Sum

from inventory.locking import stock_service
from inventory.models import Bin, BinMovement, BinStock, Lot, Reservation, Sku, Warehouse
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now, plausible
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.outbox import emit_many

Pair = tuple[int, int]  # (SKU id, warehouse id)
#: days left of units that may not be sold at all
NEVER = -1


@dataclass(frozen=True, slots=True)
class Dated:
    """Units of a level whose life ends: `batches` = (days left, units), `promised` = (least days asked, units)."""

    batches: tuple[tuple[int, int], ...] = ()
    promised: tuple[tuple[int, int], ...] = ()

    def held_back(self, min_days: int, *, fit: int, reserved: int) -> int:
        """Units that are available by the buckets, but not to somebody who asks for `min_days` of life.

        `fit` = on hand − unavailable. A unit with a long life may serve any promise, a short-dated one only those
        that ask for little; so for every number of days the units with so much life must cover all promises that
        ask for so much or more.
        """
        asked = {0, min_days} | {days for days, _ in self.promised if days <= min_days}
        possible = min(
            fit
            - sum(units for left, units in self.batches if left < days)
            - (sum(units for least, units in self.promised if least >= days) if days else reserved)
            for days in asked
        )
        return max(0, fit - reserved) - max(0, min(possible, fit - reserved))


NOTHING = Dated()


def dated(
    sku_ids: Collection[int], warehouse_ids: Collection[int] | None = None, at: dt.datetime | None = None
) -> dict[Pair, Dated]:
    """Levels that hold dated or blocked lots, as of `at` (default now). Two queries; units put into quarantine bins
    count in the quarantine bucket already.
    """
    moment = at or now()
    stock = BinStock.objects.filter(
        Q(lot__expires_on__isnull=False) | Q(lot__is_blocked=True), sku__in=sku_ids, quantity__gt=0
    ).exclude(bin__isnull=False, bin__kind=Bin.Kind.QUARANTINE)
    if warehouse_ids is not None:
        stock = stock.filter(warehouse__in=warehouse_ids)
    batches: dict[Pair, dict[int, int]] = {}
    for sku, place, zone, expires_on, blocked, units in stock.values_list(
        "sku_id", "warehouse_id", "warehouse__time_zone", "lot__expires_on", "lot__is_blocked", "quantity"
    ):
        left = NEVER if blocked else days_left(expires_on, zone, moment)
        level = batches.setdefault((sku, place), {})
        level[left] = level.get(left, 0) + units
    promised: dict[Pair, list[tuple[int, int]]] = {}
    if batches:
        asked = (
            Reservation.objects.filter(
                state=Reservation.State.OPEN, min_shelf_days__gt=0, sku__in={sku for sku, _ in batches}
            )
            .values("sku_id", "warehouse_id", "min_shelf_days")
            .annotate(units=Sum("quantity"))
            .order_by()
        )
        for row in asked:
            promised.setdefault((row["sku_id"], row["warehouse_id"]), []).append(
                (row["min_shelf_days"], row["units"])
            )
    return {
        pair: Dated(tuple(sorted(level.items())), tuple(promised.get(pair, ())))
        for pair, level in batches.items()
    }


def days_left(expires_on: dt.date | None, zone: str, at: dt.datetime) -> int:
    """Whole local days until the last good day: 0 on that day, negative from the midnight after it."""
    if expires_on is None:
        return 100_000
    return (expires_on - at.astimezone(ZoneInfo(zone)).date()).days


# --- lots themselves ------------------------------------------------------------------------------


def lot_for(
    sku: Sku, code: str, *, expires_on: dt.date | None = None, source: str = "", required: bool = True
) -> Lot | None:
    """The lot that arriving units belong to, made when new.

    Raises `UserError` when the SKU is tracked and the code or date is missing, or no such date can be, `Conflict` when
    the lot is known with another date. `required` False allows units of an unknown lot (returns).
    """
    code = code.strip()
    if not code:
        if sku.lot_tracked and required:
            raise UserError(
                f"lot: {sku} is tracked by lot; enter the lot code printed on the goods.", field="lot"
            )
        if expires_on and required:
            raise UserError("lot: an expiry date belongs to a lot; enter its code.", field="lot")
        return None
    if len(code) > 60:
        raise UserError("lot: at most 60 characters.", field="lot")
    plausible("expires_on", expires_on)
    known = Lot.objects.filter(sku=sku, code=code).first()
    if known is None:
        if sku.expiry_tracked and expires_on is None and required:
            raise UserError(
                f"expires_on: {sku} needs the expiry date printed on the goods.", field="expires_on"
            )
        return Lot.objects.create(sku=sku, code=code, expires_on=expires_on, source=source[:120])
    if expires_on and known.expires_on and known.expires_on != expires_on:
        raise Conflict(
            f"expires_on: lot {code} of {sku} is known with {known.expires_on}; {expires_on} differs. "
            "Check the goods, or give the lot another code.",
            field="expires_on",
        )
    if known.expires_on is None and sku.expiry_tracked and required:
        if expires_on is None:
            raise UserError(
                f"expires_on: {sku} needs the expiry date printed on the goods.", field="expires_on"
            )
        Lot.objects.filter(pk=known.pk).update(expires_on=expires_on)
        known.expires_on = expires_on
    return known


@stock_service
def set_blocked(lot_id: int, blocked: bool, *, reason: str, actor: Actor) -> Lot:
    """Take a lot out of sale, or give it free again. On hand stays; listings hear of it.

    Raises `NotFound`, `UserError` without a reason.
    """
    reason = reason.strip()
    if not reason:
        raise UserError("reason: say why the lot is blocked or free again.", field="reason")
    lot = Lot.objects.select_related("sku").filter(pk=lot_id).first()
    if lot is None:
        raise NotFound("lot: there is no such lot.", field="lot")
    if lot.is_blocked != blocked:
        lot.is_blocked, lot.note = blocked, reason[:255]
        lot.save(update_fields=["is_blocked", "note"])
        record(
            actor,
            "lot.blocked" if blocked else "lot.freed",
            lot,
            after={"sku": lot.sku.code, "reason": reason},
        )
        topics = ["stock.changed"] if blocked else ["stock.changed", "stock.increased"]
        emit_many([(topic, str(lot.sku_id), {"at": now().isoformat()}) for topic in topics])
    return lot


def tell_expiries(at: dt.datetime | None = None) -> int:
    """After each local midnight, tell listings of SKUs with dated lots to look again. Returns how many SKUs.

    The figures are right without it; a channel only has to be told that they changed.
    """
    moment = at or now()
    told: set[int] = set()
    for place in Warehouse.objects.filter(is_active=True).order_by("pk"):
        today = moment.astimezone(ZoneInfo(place.time_zone)).date()
        if place.expiry_told_on is not None and place.expiry_told_on >= today:
            continue
        told |= _tell_warehouse(place.pk, today, moment)
    return len(told)


@stock_service
def _tell_warehouse(warehouse_id: int, today: dt.date, moment: dt.datetime) -> set[int]:
    skus = set(
        BinStock.objects.filter(
            warehouse=warehouse_id, quantity__gt=0, lot__expires_on__isnull=False
        ).values_list("sku_id", flat=True)
    )
    Warehouse.objects.filter(pk=warehouse_id).update(expiry_told_on=today)
    emit_many([("stock.changed", str(sku), {"at": moment.isoformat()}) for sku in sorted(skus)])
    return skus


# --- where a lot is and where it went ---------------------------------------------------------------


@dataclass(frozen=True)
class Trace:
    """A lot from the dock to the buyers: signed eaches per reference, and what is still there per warehouse."""

    lot: Lot
    received: int
    on_hand: dict[str, int] = field(default_factory=dict)
    sources: tuple[tuple[str, int], ...] = ()
    shipped: dict[str, int] = field(default_factory=dict)


def trace(lot_id: int) -> Trace:
    """Everything that moved a lot, summed by reference. Four queries whatever the size of the ledger; all of them
    read only the lot's own rows. Raises `NotFound`.
    """
    lot = Lot.objects.select_related("sku__product").filter(pk=lot_id).first()
    if lot is None:
        raise NotFound("lot: there is no such lot.", field="lot")
    own = BinMovement.objects.filter(lot=lot_id, movement__isnull=False).order_by()
    arrived = own.filter(movement__kind__in=("receipt", "opening", "found")).values_list(
        "movement__reference"
    )
    sources = [(reference, units) for reference, units in arrived.annotate(units=Sum("quantity")) if units]
    there = (
        BinStock.objects.filter(lot=lot_id, quantity__gt=0)
        .values_list("warehouse__code")
        .annotate(units=Sum("quantity"))
        .order_by("warehouse__code")
    )
    return Trace(
        lot,
        received=sum(units for _, units in sources),
        on_hand=dict(there),
        sources=tuple(sorted(sources)),
        shipped=shipped_units(lot_id),
    )


def shipped_units(lot_id: int) -> dict[str, int]:
    """Units of a lot that left, by the reference (shipment) of the movement that took them."""
    rows = (
        BinMovement.objects.filter(lot=lot_id, movement__kind="ship")
        .order_by()
        .values_list("movement__reference")
        .annotate(units=Sum("quantity"))
    )
    return {reference: -units for reference, units in rows if units}


def held_back(pair: Pair, dates: Mapping[Pair, Dated], min_days: int, *, fit: int, reserved: int) -> int:
    """Units of one level that somebody who asks for `min_days` cannot get; see `Dated.held_back`."""
    found = dates.get(pair)
    return found.held_back(min_days, fit=fit, reserved=reserved) if found else 0
