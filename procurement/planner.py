"""Reorder suggestions: read demand, stock and supply in bulk, let the pure planner decide, store the reasons.

What is bought is one plan per SKU over all warehouses that we or a 3PL count: units that lie in another warehouse
need not be bought. Goods go to the warehouse of the SKU's replenishment setting, else to the active own warehouse of
best priority. A warehouse that runs out while others have more than their own reorder point is offered transfers
(`procurement.moves`). FBA pools are refilled by transfers and are not part of the position.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import F, Q, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from inventory import selectors as stock
from inventory.models import Sku, StockLevel, StockMovement, Warehouse
from inventory.selectors import daily_demand
from inventory.velocity import DemandOfDay, Velocity, fill_days, velocity
from oms.core import business
from oms.core.actor import Actor
from oms.core.clock import business_day, now, plausible
from oms.core.errors import Conflict, UserError, about
from procurement import moves, purchase_orders, reorder, selectors
from procurement.models import (
    PurchaseOrder,
    ReorderSuggestion,
    ReplenishmentSetting,
    SupplierOffer,
    TransferOffer,
)
from procurement.offers import in_force, price_for, usable
from procurement.scorecard import LeadTime

WINDOW_DAYS = 90
CHUNK = 500

Pair = tuple[int, int]  # (SKU id, warehouse id)
#: days that a purchase takes where nobody offers the SKU
USUAL_LEAD = 14.0


def suggest(
    sku_ids: Iterable[int] | None = None, *, backorders: Mapping[Pair, int] | None = None, actor: Actor
) -> Counter[str]:
    """Bring the open suggestions in line with today's figures; a second run changes nothing.

    `backorders` are short units of orders per (SKU id, id of the warehouse that would serve them), told by the floor
    above, which owns the orders (`oms.orders.supply.plan_reorders`). Returns how many were new, updated, kept and gone.
    """
    skus = Sku.objects.filter(
        is_active=True, merged_into__isnull=True, kind__in=[Sku.Kind.STOCK, Sku.Kind.PREBUILT]
    )
    if sku_ids is not None:
        skus = skus.filter(pk__in=list(sku_ids))
    ids = list(skus.order_by("pk").values_list("pk", flat=True))
    done: Counter[str] = Counter()
    judged: dict[int, Judged] = {}
    short: dict[int, dict[int, int]] = defaultdict(dict)
    for (sku_id, place), units in (backorders or {}).items():
        short[sku_id][place] = units
    for start in range(0, len(ids), CHUNK):
        done += _suggest_chunk(ids[start : start + CHUNK], short, judged)
    return done


#: how one unit more in a bucket changes what is available
SIGNS = dict.fromkeys(("reserved", "damaged", "quarantine", "inspection"), -1) | {"on_hand": 1}
#: a suggestion that a person has not decided
STANDING = (ReorderSuggestion.State.OPEN, ReorderSuggestion.State.SNOOZED)
#: columns that another run may bring in line
RENEWED = (
    "offer", "need", "quantity", "reorder_point", "position", "stockout_on", "reason", "trace", "state",
    "snoozed_until", "updated_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    """What a supplier's last orders say of it; asked once in a run."""

    lead: LeadTime
    late: Decimal | None  # share of its lines


def _judge(offers: Iterable[SupplierOffer], known: dict[int, Judged]) -> None:
    for offer in offers:
        supplier = offer.supplier
        if supplier.pk not in known:
            on_time = selectors.score(supplier.pk).on_time
            late = None if on_time is None else 1 - on_time
            known[supplier.pk] = Judged(selectors.lead_time(supplier.pk, supplier.lead_time_days), late)


@dataclass(frozen=True, slots=True)
class Level:
    """Units of a SKU in one warehouse, or in all of them."""

    sellable: int = 0
    reserved: int = 0
    in_transit: int = 0

    def __add__(self, other: Level) -> Level:
        return Level(
            self.sellable + other.sellable, self.reserved + other.reserved, self.in_transit + other.in_transit
        )


@dataclass(slots=True)
class Read:
    """What the plans of a chunk of SKUs stand on, read together; everything by SKU id."""

    currency: str  # of the business
    skus: dict[int, Sku]
    places: dict[int, Warehouse]
    default_place: Warehouse
    settings: dict[int, list[ReplenishmentSetting]]  # the first one says where goods go
    days: dict[int, list[DemandOfDay]]  # since the first sale
    levels: dict[int, dict[int, Level]]  # and by warehouse id
    shipped: Mapping[int, Mapping[int, int]]  # and by warehouse id: units to buyers
    asked: moves.Asked
    coming: dict[int, list[selectors.Incoming]]
    offers: dict[int, list[SupplierOffer]]
    open_now: dict[int, dict[int, ReorderSuggestion]]  # and by warehouse id


def _read(ids: list[int], today: dt.date) -> Read | None:
    """None where no warehouse is there to order for."""
    first = today - dt.timedelta(days=WINDOW_DAYS)
    places = {
        w.pk: w
        for w in Warehouse.objects.filter(is_active=True)
        if w.counted_by_us and w.kind != Warehouse.Kind.DROPSHIP
    }
    own = [w for w in places.values() if w.kind == Warehouse.Kind.OWN] or list(places.values())
    if not own:
        return None
    demand = _demand(ids, first, today)
    levels = _levels(ids, list(places))
    changes, shipped = _ledger(ids, list(places), first)
    out_days = _stockout_days(ids, levels, changes, first, today)
    settings: dict[int, list[ReplenishmentSetting]] = defaultdict(list)
    for setting in ReplenishmentSetting.objects.filter(sku__in=ids).order_by("pk"):
        settings[setting.sku_id].append(setting)
    open_now: dict[int, dict[int, ReorderSuggestion]] = defaultdict(dict)
    for known in ReorderSuggestion.objects.filter(sku__in=ids, state__in=STANDING).prefetch_related(
        moves.offered()
    ):
        open_now[known.sku_id][known.warehouse_id] = known
    coming: dict[int, list[selectors.Incoming]] = defaultdict(list)
    for item in selectors.incoming(ids):
        coming[item.sku_id].append(item)
    offers: dict[int, list[SupplierOffer]] = defaultdict(list)
    for offer in (
        SupplierOffer.objects.filter(sku__in=ids).select_related("supplier").prefetch_related("breaks")
    ):
        offers[offer.sku_id].append(offer)
    yesterday = today - dt.timedelta(days=1)
    return Read(
        currency=business.currency(),
        skus={sku.pk: sku for sku in Sku.objects.filter(pk__in=ids)},
        places=places,
        default_place=min(own, key=lambda w: (w.priority, w.code)),
        settings=settings,
        days={
            pk: _since_first_sale(
                fill_days(demand.get(pk, {}), first, yesterday, out_of_stock=out_days.get(pk, set()))
            )
            for pk in ids
        },
        levels=levels,
        shipped=shipped,
        asked=moves.asked(ids),
        coming=coming,
        offers=offers,
        open_now=open_now,
    )


def _suggest_chunk(
    ids: list[int], backorders: Mapping[int, Mapping[int, int]], judged: dict[int, Judged]
) -> Counter[str]:
    today = business_day()
    read = _read(ids, today)
    if read is None:
        return Counter()
    _judge((offer for offers in read.offers.values() for offer in offers), judged)
    usual = reorder.Plan(
        service_level=float(business.get("service_level")),
        cover_days=int(business.get("cover_days")),
        order_cost=Decimal(business.get("order_cost")) or None,
        carrying_rate=Decimal(business.get("carrying_rate")),
        together=business.get("lead_time_risk") == "together",
    )
    done: Counter[str] = Counter()
    fresh: list[Wanted] = []
    changed: list[tuple[ReorderSuggestion, Wanted]] = []
    gone: list[int] = []
    for sku_id in ids:
        own = next(iter(read.settings.get(sku_id, ())), None)
        if own and own.is_paused:
            continue
        figure = velocity(read.days[sku_id])
        short = backorders.get(sku_id, {})
        found: list[Wanted] = []
        if not figure.per_day and not short and not (own and own.min_stock):
            done["no_demand"] += 1
        else:
            main = own.warehouse_id if own else read.default_place.pk
            found = _advise(sku_id, main, figure, short, read, usual, judged, today)
            done["enough"] += not found
        known = read.open_now.get(sku_id, {})
        for wanted in found:
            standing = known.get(wanted.place)
            if standing is None:
                fresh.append(wanted)
            elif _differs(standing, wanted):
                changed.append((standing, wanted))
            else:
                done["kept"] += 1
        gone += [row.pk for place, row in known.items() if place not in {one.place for one in found}]
    return done + _write(fresh, changed, gone)


@dataclass(slots=True)
class Wanted:
    """A suggestion as it should stand: the fields of its row, and what can move to its warehouse, by source id."""

    sku_id: int
    place: int
    values: dict[str, Any]
    offered: dict[int, reorder.Move] = field(default_factory=dict)


def _advise(
    sku_id: int,
    main: int,
    figure: Velocity,
    short: Mapping[int, int],
    read: Read,
    usual: reorder.Plan,
    judged: Mapping[int, Judged],
    today: dt.date,
) -> list[Wanted]:
    """What to buy for the `main` warehouse and what to move to each, with figures and reasons; nothing where there is
    enough. `short` are backordered units by warehouse.
    """
    per_day = figure.per_day or 0.0
    sold = [day.units for day in read.days[sku_id] if day.in_stock]
    levels = read.levels.get(sku_id, {})
    level = sum(levels.values(), Level())
    waiting = sum(short.values())
    cover_left = max(0, level.sellable - level.reserved - waiting)
    needed_by = today + dt.timedelta(days=int(cover_left / per_day)) if per_day else None
    choice, chosen = _choose(read.offers[sku_id], judged, today, needed_by)
    lead_days, lead_sd = _lead(chosen, judged) if chosen else (USUAL_LEAD, 0.0)
    own = {one.warehouse_id: one for one in read.settings.get(sku_id, ())}
    plan = _plan_of(usual, own.get(main), read.skus[sku_id])
    horizon = today + dt.timedelta(days=int(lead_days) + plan.review_days)
    coming: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))  # in time and too late, by warehouse
    for item in read.coming[sku_id]:
        in_time, late = coming[item.warehouse_id]
        soon = item.expected_on is None or item.expected_on <= horizon
        coming[item.warehouse_id] = (in_time + item.units * soon, late + item.units * (not soon))
    demand = reorder.Demand(per_day, reorder.deviation(sold), sum(1 for units in sold if units))
    terms = _terms(chosen, lead_days, lead_sd, read.currency, today)
    in_time, late = (sum(units) for units in zip((0, 0), *coming.values(), strict=True))
    advice = reorder.advise(
        demand,
        reorder.Position(level.sellable, level.reserved, waiting, in_time, late, level.in_transit),
        terms,
        plan,
        today=today,
    )
    sums = {
        "velocity": {"per_day": per_day, "source": figure.source, "windows": figure.windows},
        "as_of": now().isoformat(timespec="seconds"),
    }
    found: dict[int, Wanted] = {}
    if advice.quantity:
        bought = {
            "supplier": choice.sentence,
            "arrives_on": choice.arrives_on.isoformat() if choice.arrives_on else None,
            "price": str(price_for(chosen, advice.quantity, today)) if chosen else None,
        }
        found[main] = Wanted(sku_id, main, _values(advice, advice.trace | bought | sums, chosen))
    holders = {main, *levels, *short, *coming, *read.shipped.get(sku_id, ())} & read.places.keys()
    if len(holders) < 2:
        return list(found.values())
    owed: Counter[int] = Counter()
    for place, units in short.items():
        owed[place if place in read.places else main] += units
    positions = {
        place: reorder.Position(
            one.sellable - read.asked.out_of[sku_id, place], one.reserved, owed[place], *coming[place],
            one.in_transit + read.asked.into[sku_id, place],
        )
        for place in holders
        for one in (levels.get(place, Level()),)
    }  # fmt: skip
    plans = {place: _plan_of(usual, own.get(place), read.skus[sku_id]) for place in holders}
    paused = {place for place, one in own.items() if one.is_paused}
    sites = moves.sites(
        [read.places[place] for place in sorted(holders - paused)],
        main, demand, positions, plans, read.shipped.get(sku_id, {}),
    )  # fmt: skip
    moved, locally = reorder.balance(sites, terms, today=today)
    ids = {warehouse.code: pk for pk, warehouse in read.places.items()}
    for move in moved:
        place = ids[move.destination]
        if place not in found:
            there = locally[move.destination]
            found[place] = Wanted(
                sku_id,
                place,
                _values(there, there.trace | sums, None)
                | {
                    "quantity": 0,
                    "reason": _short_there(there, read.places[main].code if main in found else ""),
                },
            )
        found[place].offered[ids[move.source]] = move
    for wanted in found.values():
        offered = list(wanted.offered.values())
        if offered:
            wanted.values["reason"] = " ".join([wanted.values["reason"], *(one.reason for one in offered)])[
                :255
            ]
            wanted.values["trace"] = wanted.values["trace"] | {"moves": [one.reason for one in offered]}
    return list(found.values())


def _values(advice: reorder.Advice, trace: dict[str, object], offer: SupplierOffer | None) -> dict[str, Any]:
    return {
        "offer": offer,
        "need": advice.need,
        "quantity": advice.quantity,
        "reorder_point": advice.reorder_point,
        "position": advice.position,
        "stockout_on": advice.stockout_on,
        "reason": advice.reason[:255],
        "trace": trace,
    }


def _short_there(advice: reorder.Advice, bought_for: str) -> str:
    rest = (
        f"what has to be bought goes to {bought_for}" if bought_for else "over all warehouses there is enough"
    )
    return f"Position {advice.position} here ≤ reorder point {advice.reorder_point}; {rest}."


def _terms(
    offer: SupplierOffer | None, lead_days: float, lead_sd: float, currency: str, today: dt.date
) -> reorder.Terms:
    """What the offer asks for. A price in another currency than the business's says nothing of what an order costs."""
    if offer is None:
        return reorder.Terms(lead_days, lead_sd)
    ours = offer.currency == currency
    breaks = sorted(
        (step.min_quantity, step.price)
        for step in offer.breaks.all()
        if in_force(step.valid_from, step.valid_to, today)
    )
    return reorder.Terms(
        lead_days, lead_sd, offer.moq, offer.order_multiple, offer.price if ours else None,
        breaks=tuple(breaks) if ours else (),
    )  # fmt: skip


def _choose(
    offers: list[SupplierOffer], judged: Mapping[int, Judged], today: dt.date, needed_by: dt.date | None
) -> tuple[reorder.Choice, SupplierOffer | None]:
    """The supplier to buy from, with the sentence why, and its offer where one is usable today."""
    choice = reorder.choose_supplier(
        [
            reorder.Option(
                str(o.pk),
                o.supplier.name,
                o.rank,
                o.price,
                _lead(o, judged)[0],
                active=in_force(o.valid_from, o.valid_to, today) and o.is_active and o.supplier.is_active,
                late_rate=judged[o.supplier_id].late,
            )
            for o in offers
        ],
        today=today,
        needed_by=needed_by,
    )
    key = choice.option.key if choice.option else None
    return choice, next((o for o in usable(offers, today) if str(o.pk) == key), None)


def _plan_of(usual: reorder.Plan, own: ReplenishmentSetting | None, sku: Sku) -> reorder.Plan:
    """How the SKU is replenished: its own setting, else what is usual in the business."""
    plan = replace(usual, shelf_life_days=sku.shelf_life_days)
    if own is None:
        return plan
    return replace(
        plan,
        service_level=float(own.service_level),
        review_days=own.review_days,
        cover_days=own.cover_days,
        min_stock=own.min_stock,
        max_stock=own.max_stock,
        order_cost=usual.order_cost if own.order_cost is None else own.order_cost,
    )


def _lead(offer: SupplierOffer, judged: Mapping[int, Judged]) -> tuple[float, float]:
    """Days and deviation: measured when there are enough receipts, else what the offer or supplier states."""
    measured = judged[offer.supplier_id].lead
    if measured.is_measured:
        return measured.days, measured.sd
    return float(offer.lead_time), 0.0


def _since_first_sale(days: list[DemandOfDay]) -> list[DemandOfDay]:
    """A new SKU is not judged by the days before it was launched."""
    for index, day in enumerate(days):
        if day.units:
            return days[index:]
    return days


def _differs(known: ReorderSuggestion, wanted: Wanted) -> bool:
    """Whether the stored suggestion says another thing than the figures of now, or its snooze is over."""
    if known.state == ReorderSuggestion.State.SNOOZED and _awake(known):
        return True
    offered = {one.source_id: (one.quantity, one.keeps) for one in known.offered}  # type: ignore[attr-defined]
    return offered != {source: (move.units, move.keeps) for source, move in wanted.offered.items()} or (
        known.quantity, known.need, known.position, known.offer_id,
    ) != (
        wanted.values["quantity"], wanted.values["need"], wanted.values["position"],
        getattr(wanted.values["offer"], "pk", None),
    )  # fmt: skip


def _awake(known: ReorderSuggestion) -> bool:
    return known.snoozed_until is not None and known.snoozed_until <= business_day()


def _write(
    fresh: list[Wanted], changed: list[tuple[ReorderSuggestion, Wanted]], gone: list[int]
) -> Counter[str]:
    """Suggestions and their offers: a handful of statements for any number. The reorder list is their inbox.

    What a person decided meanwhile stays decided.
    """
    done: Counter[str] = Counter()
    if not (fresh or changed or gone):
        return done
    rows = ReorderSuggestion.objects
    with transaction.atomic():
        held = dict(
            rows.filter(pk__in=[known.pk for known, _ in changed])
            .select_for_update(of=("self",), no_key=True)
            .order_by("pk")
            .values_list("pk", "state")
        )
        offered: dict[int, Wanted] = {}
        renewed = []
        for known, wanted in changed:
            if held.get(known.pk) != known.state:
                continue
            for name, value in wanted.values.items():
                setattr(known, name, value)
            if known.state == ReorderSuggestion.State.SNOOZED and _awake(known):
                known.state, known.snoozed_until = ReorderSuggestion.State.OPEN, None
            known.updated_at = now()
            renewed.append(known)
            offered[known.pk] = wanted
        if renewed:
            rows.bulk_update(renewed, RENEWED)
            TransferOffer.objects.filter(suggestion__in=offered, transfer__isnull=True).delete()
        done["updated"] = len(renewed)
        if gone:
            done["gone"] = rows.filter(pk__in=gone, state__in=STANDING).update(
                state=ReorderSuggestion.State.GONE, updated_at=now()
            )
        if fresh:
            # two planners at once: the partial unique index lets one of the rows in
            standing = rows.filter(sku__in={one.sku_id for one in fresh}, state__in=STANDING)
            before = set(standing.values_list("pk", flat=True))
            rows.bulk_create(
                [ReorderSuggestion(sku_id=one.sku_id, warehouse_id=one.place, **one.values) for one in fresh],
                ignore_conflicts=True,
            )
            mine = {
                (sku, place): pk
                for pk, sku, place in standing.values_list("pk", "sku_id", "warehouse_id")
                if pk not in before
            }
            offered |= {mine[pair]: one for one in fresh if (pair := (one.sku_id, one.place)) in mine}
            done += Counter(new=len(mine), kept=len(fresh) - len(mine))
        TransferOffer.objects.bulk_create(
            TransferOffer(
                suggestion_id=pk, source_id=source, quantity=move.units, keeps=move.keeps,
                reorder_point=move.reorder_point,
            )
            for pk, wanted in offered.items()
            for source, move in wanted.offered.items()
        )  # fmt: skip
    return done


def _demand(ids: list[int], first: dt.date, today: dt.date) -> dict[int, dict[dt.date, int]]:
    """Units per SKU and day, kits counted as their components."""
    kits = stock.kits_containing(ids)
    parts = stock.kit_parts(sorted({kit for group in kits.values() for kit in group}))
    found: dict[int, dict[dt.date, int]] = defaultdict(lambda: defaultdict(int))
    wanted = set(ids)
    for sku_id, by_day in daily_demand([*ids, *parts], first, today).items():
        for place, per_kit in ([(sku_id, 1)] if sku_id in wanted else []) + parts.get(sku_id, []):
            if place in wanted:
                sums = found[place]
                for day, units in by_day.items():
                    sums[day] += units * per_kit
    return found


def _levels(ids: list[int], places: list[int]) -> dict[int, dict[int, Level]]:
    """Units per SKU and warehouse."""
    found: dict[int, dict[int, Level]] = defaultdict(dict)
    rows = StockLevel.objects.filter(sku__in=ids, warehouse__in=places).order_by()
    for sku, place, sellable, reserved, in_transit in rows.values_list(
        "sku_id", "warehouse_id", F("on_hand") - F("unavailable"), "reserved", "in_transit"
    ):
        found[sku][place] = Level(sellable, reserved, in_transit)
    return found


def _ledger(
    ids: list[int], places: list[int], first: dt.date
) -> tuple[dict[int, dict[dt.date, int]], dict[int, dict[int, int]]]:
    """What the ledger tells since a day, read once: change of available per SKU and day, units shipped to buyers per
    SKU and warehouse.
    """
    begin = timezone.make_aware(dt.datetime.combine(first, dt.time.min))
    changes: dict[int, dict[dt.date, int]] = defaultdict(lambda: defaultdict(int))
    shipped: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    left = Q(bucket=StockMovement.Bucket.ON_HAND, kind=StockMovement.Kind.SHIP)
    rows = (
        StockMovement.objects.filter(
            sku__in=ids, warehouse__in=places, bucket__in=SIGNS, created_at__gte=begin
        )
        .order_by()
        .annotate(day=TruncDate("created_at"))
        .values_list("sku", "warehouse", "day", "bucket")
        .annotate(total=Sum("quantity"), left=Sum("quantity", filter=left))
    )
    for sku_id, place, day, bucket, total, gone in rows:
        changes[sku_id][day] += SIGNS[bucket] * total
        if gone:
            shipped[sku_id][place] -= gone
    return changes, shipped


def _stockout_days(
    ids: list[int],
    levels: Mapping[int, Mapping[int, Level]],
    changes: Mapping[int, Mapping[dt.date, int]],
    first: dt.date,
    today: dt.date,
) -> dict[int, set[dt.date]]:
    """Days that began and ended with nothing available, walked back from today's balance over the ledger."""
    free: dict[int, int] = defaultdict(int)
    for sku_id, there in levels.items():
        free[sku_id] = sum(one.sellable - one.reserved for one in there.values())
    back = [today - dt.timedelta(days=number) for number in range((today - first).days + 1)]
    found: dict[int, set[dt.date]] = {}
    for sku_id in ids:
        moved = changes.get(sku_id)
        if not moved:
            continue
        closing, earliest, out = free[sku_id], min(moved), set()
        for day in back:
            if day <= earliest:
                break
            opening = closing - moved.get(day, 0)
            if opening <= 0 and closing <= 0:
                out.add(day)
            closing = opening
        found[sku_id] = out
    return found


def accept(suggestion_ids: Iterable[int], *, actor: Actor) -> list[PurchaseOrder]:
    """Turn suggestions into draft orders, one per supplier, warehouse and currency.

    Each suggestion ends on exactly one line; one that was ordered meanwhile is left out, so an interrupted
    run can be repeated. So is one of which nothing has to be bought. Raises `UserError` when a suggestion has no
    supplier.
    """
    with transaction.atomic():
        ids = sorted(set(suggestion_ids))
        taken = []
        for pk in ids:
            claimed = ReorderSuggestion.objects.filter(
                pk=pk, state=ReorderSuggestion.State.OPEN, order_line__isnull=True, quantity__gt=0
            ).update(state=ReorderSuggestion.State.ORDERED, updated_at=now())
            if claimed:
                taken.append(pk)
        chosen = list(
            ReorderSuggestion.objects.filter(pk__in=taken)
            .select_related("offer__supplier", "sku")
            .order_by("pk")
        )
        groups: dict[tuple[int, int, str], list[ReorderSuggestion]] = defaultdict(list)
        for suggestion in chosen:
            if suggestion.offer is None:
                with about(suggestion.pk):
                    raise UserError(
                        f"supplier: {suggestion.sku} has no usable offer; add one first.", field="supplier"
                    )
            groups[suggestion.offer.supplier_id, suggestion.warehouse_id, suggestion.offer.currency].append(
                suggestion
            )
        if ids and not chosen:
            raise Conflict(
                "suggestions: all of them were ordered or dismissed meanwhile, or have nothing to buy.",
                field="ids",
            )
        made = []
        for (supplier_id, warehouse_id, currency), group in sorted(groups.items()):
            order = purchase_orders.create(
                supplier_id=supplier_id,
                warehouse_id=warehouse_id,
                currency=currency,
                actor=actor,
                lines=[purchase_orders.LineSpec(s.sku_id, s.quantity) for s in group],
                note="from reorder suggestions",
            )
            lines = list(order.lines.order_by("number"))
            for suggestion, line in zip(group, lines, strict=True):
                ReorderSuggestion.objects.filter(pk=suggestion.pk).update(order_line=line)
            made.append(order)
    return made


def snooze(suggestion_id: int, until: dt.date, *, actor: Actor) -> None:
    """Hide a suggestion until a day. Raises `UserError` for a day that is not ahead."""
    if until <= business_day():
        raise UserError("until: choose a day after today.", field="until")
    plausible("until", until)
    if not ReorderSuggestion.objects.filter(pk=suggestion_id, state=ReorderSuggestion.State.OPEN).update(
        state=ReorderSuggestion.State.SNOOZED, snoozed_until=until
    ):
        raise Conflict("suggestion: it is not open any more.", field="suggestion")
