"""Which offer a new purchase order line takes, and at what price."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal

from procurement.models import SupplierOffer


def in_force(valid_from: dt.date | None, valid_to: dt.date | None, on: dt.date) -> bool:
    """Whether a dated offer or price break counts on a day; both ends are included."""
    return (valid_from is None or valid_from <= on) and (valid_to is None or on <= valid_to)


def price_for(offer: SupplierOffer, quantity: int, on: dt.date) -> Decimal:
    """Price per each for `quantity`, in the offer's currency: the best break reached and in force, else the base."""
    price = offer.price
    for step in sorted(offer.breaks.all(), key=lambda item: item.min_quantity):
        if quantity >= step.min_quantity and in_force(step.valid_from, step.valid_to, on):
            price = step.price
    return price


def usable(offers: Iterable[SupplierOffer], on: dt.date) -> list[SupplierOffer]:
    """Active offers of active suppliers in force on a day, best rank first."""
    found = [
        o for o in offers if o.is_active and o.supplier.is_active and in_force(o.valid_from, o.valid_to, on)
    ]
    return sorted(found, key=lambda o: (o.rank, o.pk))


def default_offer(sku_id: int, on: dt.date, supplier_id: int | None = None) -> SupplierOffer | None:
    """The active offer of lowest rank for a SKU, optionally of one supplier."""
    offers = SupplierOffer.objects.filter(sku=sku_id).select_related("supplier").prefetch_related("breaks")
    if supplier_id is not None:
        offers = offers.filter(supplier=supplier_id)
    found = usable(offers, on)
    return found[0] if found else None
