"""What must hold on the purchasing floor."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import F, Sum
from django.db.models.functions import Coalesce

from oms.core import business
from oms.core.invariants import invariant
from oms.core.money import quantize
from procurement.models import LandedCharge, PurchaseOrderLine, ReorderSuggestion
from procurement.receiving import most_allowed


@invariant("P1", "Received ≤ ordered × (1 + tolerance), and landed shares sum to their charge to the cent")
def received_and_landed() -> Iterator[str]:
    for line in PurchaseOrderLine.objects.filter(received__gt=F("quantity")).select_related(
        "order__supplier"
    ):
        if line.received > most_allowed(line, line.order.supplier.over_receipt_percent):
            yield f"{line.order.number} line {line.number}: {line.received} received of {line.quantity}"
    booked = PurchaseOrderLine.objects.annotate(
        units=Coalesce(Sum(F("receipts__good") + F("receipts__damaged") + F("receipts__quarantine")), 0)
    ).exclude(received=F("units"))
    for line in booked:
        yield f"purchase line {line.pk}: received {line.received}, receipts {line.units}"
    base = business.currency()
    for charge in LandedCharge.objects.annotate(total=Sum("shares__amount")):
        if charge.total != quantize(charge.amount * charge.fx_rate, base):
            yield f"charge {charge.pk}: shares {charge.total}, charge {charge.amount} × {charge.fx_rate}"


@invariant("P2", "An ordered suggestion has its purchase order line")
def ordered_has_line() -> Iterator[str]:
    for row in ReorderSuggestion.objects.filter(
        state=ReorderSuggestion.State.ORDERED, order_line__isnull=True
    ):
        yield f"suggestion {row.pk} is ordered without a line"
