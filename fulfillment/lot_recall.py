"""Recall of a lot: every order that got units of it, who supplied it, and what is still here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q

from fulfillment.models import Shipment
from inventory import lots
from inventory.models import Lot, SerialUnit
from oms.core.access import Scope
from oms.core.errors import NotFound
from procurement.models import ReceiptLine


@dataclass(frozen=True)
class Recipient:
    """Units of the lot in one shipment; `serials` where the units have numbers."""

    shipment: Shipment
    units: int
    serials: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recall:
    """`received = shipped + on hand + gone`, in eaches; `gone` were written off or moved by hand."""

    lot: Lot
    traces: tuple[lots.Trace, ...]
    recipients: tuple[Recipient, ...]
    receipts: tuple[ReceiptLine, ...]

    @property
    def received(self) -> int:
        return sum(trace.received for trace in self.traces)

    @property
    def shipped(self) -> int:
        return sum(sum(trace.shipped.values()) for trace in self.traces)

    @property
    def on_hand(self) -> dict[str, int]:
        there: dict[str, int] = {}
        for trace in self.traces:
            for code, units in trace.on_hand.items():
                there[code] = there.get(code, 0) + units
        return there

    @property
    def gone(self) -> int:
        return self.received - self.shipped - sum(self.on_hand.values())


def recall(lot_id: int, *, scope: Scope | None = None) -> Recall:
    """All orders of a lot, whatever the size of the ledger: it reads the lot's own movements only.

    A lot of a SKU that was merged counts with its twin. `scope` limits the shipments to what somebody may see.
    Raises `NotFound`.
    """
    lot = Lot.objects.select_related("sku__product").filter(pk=lot_id).first()
    if lot is None:
        raise NotFound("lot: there is no such lot.", field="lot")
    target = lot.sku.merged_into_id or lot.sku_id
    family = list(
        Lot.objects.filter(Q(sku=target) | Q(sku__merged_into=target), code=lot.code)
        .order_by("pk")
        .values_list("pk", flat=True)
    )
    traces = tuple(lots.trace(pk) for pk in family)
    units: dict[int, int] = {}
    for trace in traces:
        for reference, quantity in trace.shipped.items():
            number = reference.removeprefix("S-")
            if number.isdigit() and len(number) < 18:
                units[int(number)] = units.get(int(number), 0) + quantity
    where = (scope or Scope()).q(warehouse="warehouse__code", channel="order__channel__code")
    shipments = (
        Shipment.objects.filter(where, pk__in=units)
        .select_related("order__channel", "order__contact", "warehouse")
        .order_by("-shipped_at", "-pk")
    )
    numbers = _numbers(family)
    receipts = (
        ReceiptLine.objects.filter(lot__in=family)
        .select_related("receipt__order__supplier", "order_line")
        .order_by("-pk")
    )
    return Recall(
        lot,
        traces,
        tuple(Recipient(one, units[one.pk], tuple(numbers.get(one.number, ()))) for one in shipments),
        tuple(receipts),
    )


def _numbers(lot_ids: Iterable[int]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    rows = SerialUnit.objects.filter(lot__in=list(lot_ids), state=SerialUnit.State.SHIPPED).order_by("serial")
    for reference, serial in rows.values_list("reference", "serial"):
        found.setdefault(reference, []).append(serial)
    return found
