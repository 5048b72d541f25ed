"""Transfers between own warehouses before anything is bought (P16): what the planner reads for them, and how a person
takes its offers.

What sells where is told by where the units of the last 90 days left; a SKU that has not shipped yet sells where it
would be bought for.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from django.db import transaction
from django.db.models import Prefetch, Sum
from django.utils import timezone

from inventory import transfers
from inventory.models import StockMovement, Transfer, TransferLine, Warehouse
from oms.core import business
from oms.core.actor import Actor
from oms.core.clock import business_day, now
from oms.core.errors import Conflict
from procurement import reorder
from procurement.models import ReorderSuggestion, TransferOffer

Pair = tuple[int, int]  # (SKU id, warehouse id)


@dataclass(slots=True)
class Spread:
    """Of SKUs, in eaches: what each warehouse shipped, and what transfers that have not left yet will move."""

    shipped: dict[int, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    asked_in: dict[Pair, int] = field(default_factory=lambda: defaultdict(int))
    asked_out: dict[Pair, int] = field(default_factory=lambda: defaultdict(int))


def read(sku_ids: Collection[int], places: Collection[int], first: dt.date) -> Spread:
    """Two queries for any number of SKUs; `first` is the first day of the shipments that count."""
    found = Spread()
    begin = timezone.make_aware(dt.datetime.combine(first, dt.time.min))
    shipped = (
        StockMovement.objects.filter(
            sku__in=sku_ids, warehouse__in=places, bucket=StockMovement.Bucket.ON_HAND,
            kind=StockMovement.Kind.SHIP, created_at__gte=begin,
        )
        .order_by()
        .values_list("sku_id", "warehouse_id")
        .annotate(units=Sum("quantity"))
    )  # fmt: skip
    for sku_id, place, units in shipped:
        if units < 0:
            found.shipped[sku_id][place] = -units
    asked = TransferLine.objects.filter(sku__in=sku_ids, transfer__state=Transfer.State.REQUESTED)
    for sku_id, source, destination, units in asked.order_by().values_list(
        "sku_id", "transfer__source_id", "transfer__destination_id", "quantity"
    ):
        found.asked_out[sku_id, source] += units
        found.asked_in[sku_id, destination] += units
    return found


def sites(
    sku_id: int,
    main: int,
    places: Mapping[int, Warehouse],
    whole: reorder.Demand,
    positions: Mapping[int, reorder.Position],
    plans: Mapping[int, reorder.Plan | None],
    spread: Spread,
) -> list[reorder.Site]:
    """The warehouses that hold the SKU or sell it, each with its part of the demand; empty where there is only one.

    Units spread by chance over the warehouses: a part p of the demand has p of its mean and √p of its deviation.
    `plans`: None for a warehouse where the SKU is paused, which neither takes nor gives.
    """
    shipped = spread.shipped.get(sku_id, {})
    total = sum(shipped.values())
    there = {place for place in (*positions, *shipped, main) if place in places and plans[place] is not None}
    if len(there) < 2:
        return []
    found = []
    for place in sorted(there):
        part = shipped.get(place, 0) / total if total else float(place == main)
        demand = reorder.Demand(
            whole.per_day * part, whole.sd * math.sqrt(part), math.ceil(whole.demand_days * part)
        )
        position = positions.get(place, reorder.Position(0))
        position = replace(
            position,
            sellable=position.sellable - spread.asked_out.get((sku_id, place), 0),
            transfers_in=position.transfers_in + spread.asked_in.get((sku_id, place), 0),
        )
        plan = plans[place]
        assert plan is not None
        found.append(
            reorder.Site(
                places[place].code, demand, position, plan,
                gives=places[place].kind in transfers.HOUSES,
                takes=bool(part or position.backorders or plan.min_stock),
            )
        )  # fmt: skip
    return found


def offered() -> Prefetch[str]:
    """What suggestions offer and nobody has requested, as their `offered`."""
    found = TransferOffer.objects.filter(transfer__isnull=True).select_related("source")
    return Prefetch("transfer_offers", found, "offered")


def sources_of(suggestion_ids: Iterable[int]) -> list[str]:
    """Codes of the warehouses that would ship what the suggestions offer: who accepts needs the right for each."""
    offers = TransferOffer.objects.filter(suggestion__in=list(suggestion_ids), transfer__isnull=True)
    return sorted(set(offers.values_list("source__code", flat=True)))


def request(suggestion_ids: Iterable[int], *, actor: Actor) -> list[Transfer]:
    """Request what the suggestions offer to move: one transfer per pair of warehouses, expected after `transfer_days`.

    An offer is taken once; suggestions with nothing left to buy leave the list. Raises `Conflict` when none of them
    offers anything (any more), and what `inventory.transfers.request_transfer` raises.
    """
    with transaction.atomic():
        open_now = list(
            ReorderSuggestion.objects.filter(pk__in=list(suggestion_ids), state=ReorderSuggestion.State.OPEN)
            .select_for_update(of=("self",), no_key=True)
            .order_by("pk")
        )
        offers = list(
            TransferOffer.objects.filter(suggestion__in=open_now, transfer__isnull=True)
            .select_related("suggestion")
            .order_by("source_id", "suggestion__warehouse_id", "pk")
        )
        if not offers:
            raise Conflict(
                "suggestions: none of them has anything to move; it was requested or went out meanwhile.",
                field="suggestions",
            )
        groups: dict[Pair, list[TransferOffer]] = defaultdict(list)
        for offer in offers:
            groups[offer.source_id, offer.suggestion.warehouse_id].append(offer)
        made = []
        for (source, destination), group in groups.items():
            one = transfers.request_transfer(
                source_id=source,
                destination_id=destination,
                lines={offer.suggestion.sku_id: offer.quantity for offer in group},
                actor=actor,
                expected_on=business_day() + dt.timedelta(days=int(business.get("transfer_days"))),
                note="from reorder suggestions",
            )
            TransferOffer.objects.filter(pk__in=[offer.pk for offer in group]).update(transfer=one)
            made.append(one)
        ReorderSuggestion.objects.filter(pk__in={offer.suggestion_id for offer in offers}, quantity=0).update(
            state=ReorderSuggestion.State.MOVED, updated_at=now()
        )
        return made
