"""Transfers between own warehouses before anything is bought (P16): what the planner reads for them, and how a person
takes its offers.

What sells where is told by where the units of the last 90 days left; a SKU that has not shipped yet sells where it
would be bought for.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Prefetch

from inventory import transfers
from inventory.models import Transfer, TransferLine, Warehouse
from oms.core import business
from oms.core.actor import Actor
from oms.core.clock import business_day, now
from oms.core.errors import Conflict
from procurement import reorder
from procurement.models import ReorderSuggestion, TransferOffer

Pair = tuple[int, int]  # (SKU id, warehouse id)


@dataclass(frozen=True, slots=True)
class Asked:
    """Units of transfers that have not left yet, by (SKU id, warehouse id)."""

    into: Counter[Pair]
    out_of: Counter[Pair]


def asked(sku_ids: Collection[int]) -> Asked:
    """One query for any number of SKUs."""
    found = Asked(Counter(), Counter())
    lines = TransferLine.objects.filter(sku__in=sku_ids, transfer__state=Transfer.State.REQUESTED)
    for sku_id, source, destination, units in lines.order_by().values_list(
        "sku_id", "transfer__source_id", "transfer__destination_id", "quantity"
    ):
        found.out_of[sku_id, source] += units
        found.into[sku_id, destination] += units
    return found


def sites(
    places: Sequence[Warehouse],
    main: int,
    whole: reorder.Demand,
    positions: Mapping[int, reorder.Position],
    plans: Mapping[int, reorder.Plan],
    shipped: Mapping[int, int],
) -> list[reorder.Site]:
    """The warehouses with their part of a SKU's demand, by what each shipped; all of it is the `main` one's where
    nothing was. Positions, plans and shipped units by warehouse id.

    Units spread by chance over the warehouses: a part p of the demand has p of its mean and √p of its deviation.
    """
    total = sum(shipped.values())
    found = []
    for place in places:
        part = shipped.get(place.pk, 0) / total if total else float(place.pk == main)
        position, plan = positions[place.pk], plans[place.pk]
        demand = reorder.Demand(
            whole.per_day * part, whole.sd * math.sqrt(part), math.ceil(whole.demand_days * part)
        )
        gives, takes = place.kind in transfers.HOUSES, bool(part or position.backorders or plan.min_stock)
        found.append(reorder.Site(place.code, demand, position, plan, gives=gives, takes=takes))
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
