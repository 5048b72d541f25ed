"""The commercial invoice of one shipment, from what is declared."""

from __future__ import annotations

from decimal import Decimal
from zoneinfo import ZoneInfo

from fulfillment.customs import declaring
from fulfillment.documents.commercial_invoice import CommercialInvoice, commercial_invoice
from fulfillment.models import LabelPurchase, Shipment
from fulfillment.packing import live_parcels
from fulfillment.parts import shares_of
from fulfillment.rates import address_of, origin_of
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound
from oms.orders.models import Order


def invoice_pdf(shipment: Shipment) -> bytes:
    """The commercial invoice: what was declared with the label, else what would be declared now.

    Raises `NotFound` inside one customs territory, `Conflict` before packing, `CustomsBlocked` while customs data is
    missing, `UserError` when the address was erased.
    """
    found = declaring.current(shipment)
    if found is None:
        raise NotFound(
            f"invoice: {shipment.number} crosses no customs border and needs none.", field="shipment"
        )
    parcels = live_parcels(shipment)
    if not parcels:
        raise Conflict(f"invoice: {shipment.number} is not packed yet.", field="state")
    declaring.require_complete(shipment, found)
    order = shipment.order
    share = shares_of(order).get(shipment.pk)
    labels = LabelPurchase.objects.filter(parcel__in=parcels, state=LabelPurchase.State.PURCHASED)
    zone = ZoneInfo(shipment.warehouse.time_zone)
    return commercial_invoice(
        CommercialInvoice(
            number=f"CI-{shipment.pk}",
            day=(shipment.packed_at or now()).astimezone(zone).date(),
            shipper=origin_of(shipment.warehouse),
            consignee=address_of(order),
            items=tuple(entry.item for entry in found.entries),
            currency=found.currency,
            incoterm=found.incoterm,
            parcels=len(parcels),
            gross_weight_g=sum(parcel.weight_g for parcel in parcels),
            reason="replacement" if order.kind in (Order.Kind.REPLACEMENT, Order.Kind.EXCHANGE) else "sale",
            numbers=found.numbers,
            freight=share.shipping if share else Decimal(0),
            tracking_numbers=tuple(
                number
                for number in labels.order_by("parcel__number").values_list("tracking_number", flat=True)
                if number
            ),
        )
    ).content
