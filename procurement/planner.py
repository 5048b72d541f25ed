"""Reorder suggestions: read demand, stock and supply in bulk, let the pure planner decide, store the reasons.

One plan per SKU over all warehouses that we or a 3PL count: they serve the same demand. Goods go to the
warehouse of the SKU's replenishment setting, else to the active own warehouse of best priority. FBA pools
are refilled by transfers and are not part of the position.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import F, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from inventory import selectors as stock
from inventory.models import Sku, StockLevel, StockMovement, Warehouse
from inventory.selectors import daily_demand
from inventory.velocity import DemandOfDay, Velocity, fill_days, velocity
from oms.core import business
from oms.core.actor import Actor
from oms.core.clock import business_day, now, plausible
from oms.core.errors import Conflict, UserError
from procurement import purchase_orders, reorder, selectors
from procurement.models import PurchaseOrder, ReorderSuggestion, ReplenishmentSetting, SupplierOffer
from procurement.offers import in_force, price_for, usable
from procurement.scorecard import LeadTime

WINDOW_DAYS = 90
CHUNK = 500


def suggest(
    sku_ids: Iterable[int] | None = None, *, backorders: Mapping[int, int] | None = None, actor: Actor
) -> Counter[str]:
    """Bring the open suggestions in line with today's figures; a second run changes nothing.

    `backorders` are short units of orders per SKU, told by the floor above, which owns the orders
    (`oms.orders.supply.plan_reorders`). Returns how many were new, updated, kept and gone.
    """
    skus = Sku.objects.filter(
        is_active=True, merged_into__isnull=True, kind__in=[Sku.Kind.STOCK, Sku.Kind.PREBUILT]
    )
    if sku_ids is not None:
        skus = skus.filter(pk__in=list(sku_ids))
    ids = list(skus.order_by("pk").values_list("pk", flat=True))
    done: Counter[str] = Counter()
    judged: dict[int, Judged] = {}
    for start in range(0, len(ids), CHUNK):
        done += _suggest_chunk(ids[start : start + CHUNK], backorders or {}, judged)
    return done


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


@dataclass(slots=True)
class Read:
    """What the plans of a chunk of SKUs stand on, read together; everything by SKU id."""

    currency: str  # of the business
    skus: dict[int, Sku]
    default_place: Warehouse
    settings: dict[int, ReplenishmentSetting]
    days: dict[int, list[DemandOfDay]]  # since the first sale
    levels: dict[int, tuple[int, int, int]]
    coming: dict[int, list[selectors.Incoming]]
    offers: dict[int, list[SupplierOffer]]
    open_now: dict[int, ReorderSuggestion]


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
    out_days = _stockout_days(ids, list(places), first, today)
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
        default_place=min(own, key=lambda w: (w.priority, w.code)),
        settings={
            setting.sku_id: setting
            for setting in ReplenishmentSetting.objects.filter(sku__in=ids).order_by("-pk")
        },
        days={
            pk: _since_first_sale(
                fill_days(demand.get(pk, {}), first, yesterday, out_of_stock=out_days.get(pk, set()))
            )
            for pk in ids
        },
        levels=_levels(ids, list(places)),
        coming=coming,
        offers=offers,
        open_now={
            s.sku_id: s
            for s in ReorderSuggestion.objects.filter(
                sku__in=ids, state__in=[ReorderSuggestion.State.OPEN, ReorderSuggestion.State.SNOOZED]
            )
        },
    )


def _suggest_chunk(ids: list[int], backorders: Mapping[int, int], judged: dict[int, Judged]) -> Counter[str]:
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
    fresh: list[ReorderSuggestion] = []
    for sku_id in ids:
        own_setting = read.settings.get(sku_id)
        if own_setting and own_setting.is_paused:
            continue
        figure = velocity(read.days[sku_id])
        short = backorders.get(sku_id, 0)
        values: dict[str, Any] | None = None
        if not figure.per_day and not short and not (own_setting and own_setting.min_stock):
            done["no_demand"] += 1
        else:
            values = _advise(sku_id, figure, short, read, usual, judged, today)
            if values is None:
                done["enough"] += 1
        if values is None:
            if sku_id in read.open_now:
                done["gone"] += _gone(read.open_now[sku_id])
        elif sku_id in read.open_now:
            done[_renew(read.open_now[sku_id], values)] += 1
        else:
            place = own_setting.warehouse if own_setting else read.default_place
            fresh.append(ReorderSuggestion(sku=read.skus[sku_id], warehouse=place, **values))
    done += _store(fresh)
    return done


def _advise(
    sku_id: int,
    figure: Velocity,
    short: int,
    read: Read,
    usual: reorder.Plan,
    judged: Mapping[int, Judged],
    today: dt.date,
) -> dict[str, Any] | None:
    """The figures and reasons of one SKU's suggestion; None when there is enough. `short` are backordered units."""
    per_day = figure.per_day or 0.0
    sold = [day.units for day in read.days[sku_id] if day.in_stock]
    sellable, reserved, in_transit = read.levels.get(sku_id, (0, 0, 0))
    cover_left = max(0, sellable - reserved - short)
    needed_by = today + dt.timedelta(days=int(cover_left / per_day)) if per_day else None
    choice, chosen = _choose(read.offers[sku_id], judged, today, needed_by)
    lead_days, lead_sd = _lead(chosen, judged) if chosen else (14.0, 0.0)
    plan = _plan_of(usual, read.settings.get(sku_id), read.skus[sku_id])
    horizon = today + dt.timedelta(days=int(lead_days) + plan.review_days)
    coming = read.coming[sku_id]
    in_time = sum(item.units for item in coming if item.expected_on is None or item.expected_on <= horizon)
    late = sum(item.units for item in coming) - in_time
    advice = reorder.advise(
        reorder.Demand(per_day, reorder.deviation(sold), sum(1 for units in sold if units)),
        reorder.Position(sellable, reserved, short, in_time, late, in_transit),
        _terms(chosen, lead_days, lead_sd, read.currency, today),
        plan,
        today=today,
    )
    if not advice.quantity:
        return None
    trace = advice.trace | {
        "supplier": choice.sentence,
        "velocity": {"per_day": per_day, "source": figure.source, "windows": figure.windows},
        "arrives_on": choice.arrives_on.isoformat() if choice.arrives_on else None,
        "price": str(price_for(chosen, advice.quantity, today)) if chosen else None,
        "as_of": now().isoformat(timespec="seconds"),
    }
    return {
        "offer": chosen,
        "need": advice.need,
        "quantity": advice.quantity,
        "reorder_point": advice.reorder_point,
        "position": advice.position,
        "stockout_on": advice.stockout_on,
        "reason": advice.reason[:255],
        "trace": trace,
    }


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


def _store(fresh: list[ReorderSuggestion]) -> Counter[str]:
    """New suggestions: a handful of statements for any number. The reorder list is their inbox."""
    if not fresh:
        return Counter()
    skus = [one.sku_id for one in fresh]
    state = ReorderSuggestion.State.OPEN
    with transaction.atomic():
        # two planners at once: the partial unique index lets one of the rows in
        standing = ReorderSuggestion.objects.filter(sku__in=skus, state=state)
        before = set(standing.values_list("pk", flat=True))
        ReorderSuggestion.objects.bulk_create(fresh, ignore_conflicts=True)
        mine = {sku for pk, sku in standing.values_list("pk", "sku") if pk not in before}
    return Counter(new=len(mine), kept=len(fresh) - len(mine))


def _renew(known: ReorderSuggestion, values: dict[str, Any]) -> str:
    same = (
        known.quantity == values["quantity"]
        and known.need == values["need"]
        and known.position == values["position"]
        and known.offer_id == getattr(values["offer"], "pk", None)
    )
    if same:
        return "kept"
    if (
        known.state == ReorderSuggestion.State.SNOOZED
        and known.snoozed_until
        and known.snoozed_until <= business_day()
    ):
        values = values | {"state": ReorderSuggestion.State.OPEN, "snoozed_until": None}
    ReorderSuggestion.objects.filter(pk=known.pk, state=known.state).update(**values, updated_at=now())
    return "updated"


def _gone(suggestion: ReorderSuggestion) -> int:
    gone = ReorderSuggestion.objects.filter(
        pk=suggestion.pk, state__in=[ReorderSuggestion.State.OPEN, ReorderSuggestion.State.SNOOZED]
    ).update(state=ReorderSuggestion.State.GONE, updated_at=now())
    return gone


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


def _levels(ids: list[int], places: list[int]) -> dict[int, tuple[int, int, int]]:
    """Sellable, reserved and in-transit units per SKU over these warehouses."""
    sums = (
        StockLevel.objects.filter(sku__in=ids, warehouse__in=places)
        .order_by()
        .values_list("sku")
        .annotate(
            sellable=Sum(F("on_hand") - F("unavailable")), held=Sum("reserved"), coming=Sum("in_transit")
        )
    )
    return {sku: (sellable, held, coming) for sku, sellable, held, coming in sums}


def _stockout_days(
    ids: list[int], places: list[int], first: dt.date, today: dt.date
) -> dict[int, set[dt.date]]:
    """Days that began and ended with nothing available, walked back from today's balance over the ledger."""
    free: dict[int, int] = defaultdict(int)
    for sku_id, (sellable, reserved, _) in _levels(ids, places).items():
        free[sku_id] = sellable - reserved
    begin = timezone.make_aware(dt.datetime.combine(first, dt.time.min))
    signs = dict.fromkeys(("reserved", "damaged", "quarantine", "inspection"), -1) | {"on_hand": 1}
    changes: dict[int, dict[dt.date, int]] = defaultdict(lambda: defaultdict(int))
    rows = (
        StockMovement.objects.filter(
            sku__in=ids, warehouse__in=places, bucket__in=signs, created_at__gte=begin
        )
        .annotate(day=TruncDate("created_at"))
        .values_list("sku", "day", "bucket")
        .annotate(total=Sum("quantity"))
    )
    for sku_id, day, bucket, total in rows:
        changes[sku_id][day] += signs[bucket] * total
    found: dict[int, set[dt.date]] = {}
    for sku_id in ids:
        if not changes.get(sku_id):
            continue
        closing, day, out = free[sku_id], today, set()
        while day >= first:
            opening = closing - changes[sku_id].get(day, 0)
            if opening <= 0 and closing <= 0:
                out.add(day)
            closing, day = opening, day - dt.timedelta(days=1)
        earliest = min(changes[sku_id])
        found[sku_id] = {day for day in out if day > earliest}
    return found


def accept(suggestion_ids: Iterable[int], *, actor: Actor) -> list[PurchaseOrder]:
    """Turn suggestions into draft orders, one per supplier, warehouse and currency.

    Each suggestion ends on exactly one line; one that was ordered meanwhile is left out, so an interrupted
    run can be repeated. Raises `UserError` when a suggestion has no supplier.
    """
    with transaction.atomic():
        ids = sorted(set(suggestion_ids))
        taken = []
        for pk in ids:
            claimed = ReorderSuggestion.objects.filter(
                pk=pk, state=ReorderSuggestion.State.OPEN, order_line__isnull=True
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
                raise UserError(
                    f"supplier: {suggestion.sku} has no usable offer; add one first.", field="supplier"
                )
            groups[suggestion.offer.supplier_id, suggestion.warehouse_id, suggestion.offer.currency].append(
                suggestion
            )
        if ids and not chosen:
            raise Conflict(
                "suggestions: all of them were ordered or dismissed meanwhile.", field="suggestions"
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
