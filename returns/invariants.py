"""What must hold on the returns floor."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import F, Sum
from django.db.models.functions import Coalesce

from inventory.models import StockMovement
from oms.core.invariants import invariant
from oms.orders.models import OrderLine
from returns.models import Disposition, Refund, RmaLine


@invariant(
    "R1", "Returned units: received ≤ shipped, dispositions add up, nothing is sellable before a restock"
)
def returns_add_up() -> Iterator[str]:
    for line in OrderLine.objects.filter(returned__gt=F("shipped")):
        yield f"order line {line.pk}: {line.returned} returned of {line.shipped} shipped"
    disposed = RmaLine.objects.annotate(units=Coalesce(Sum("dispositions__quantity"), 0)).exclude(
        disposed=F("units")
    )
    for entry in disposed:
        yield f"RMA line {entry.pk}: disposed {entry.disposed}, dispositions {entry.units}"
    received = RmaLine.objects.annotate(units=Coalesce(Sum("receipts__quantity"), 0)).exclude(
        received=F("units")
    )
    for entry in received:
        yield f"RMA line {entry.pk}: received {entry.received}, receipts {entry.units}"
    for reference, on_hand, quarantine in _return_movements():
        if on_hand != quarantine:
            yield f"{reference}: {on_hand} units came in, {quarantine} of them into quarantine"


def _return_movements() -> Iterator[tuple[str, int, int]]:
    totals: dict[str, dict[str, int]] = {}
    rows = (
        StockMovement.objects.filter(kind=StockMovement.Kind.RETURN)
        .values_list("reference", "bucket")
        .annotate(units=Sum("quantity"))
    )
    for reference, bucket, units in rows:
        totals.setdefault(reference, {})[bucket] = units
    for reference, buckets in totals.items():
        yield reference, buckets.get("on_hand", 0), buckets.get("quarantine", 0)


@invariant("R2", "Restocked units are exactly those an inspector judged as restock")
def restock_is_judged() -> Iterator[str]:
    judged = Disposition.objects.aggregate(units=Coalesce(Sum("quantity"), 0))["units"]
    left = StockMovement.objects.filter(kind=StockMovement.Kind.DISPOSITION, bucket="quarantine").aggregate(
        units=Coalesce(Sum("quantity"), 0)
    )["units"]
    if judged != -left:
        yield f"{judged} units judged, {-left} left quarantine by a disposition"


@invariant("R3", "Live refunds of an order never exceed what was paid")
def refunds_within_paid() -> Iterator[str]:
    rows = (
        Refund.objects.filter(state__in=Refund.LIVE)
        .values("order", "order__total")
        .annotate(money=Sum("amount"))
        .filter(money__gt=F("order__total"))
    )
    for row in rows:
        yield f"order {row['order']}: {row['money']} refunded of {row['order__total']}"
