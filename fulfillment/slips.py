"""The packing slip of one shipment, from what is stored."""

from __future__ import annotations

from fulfillment.documents.packing_slip import PackingSlip, SlipLine, packing_slips
from fulfillment.models import Shipment
from fulfillment.rates import address_of, origin_of
from oms.core import business


def packing_slip_pdf(shipment: Shipment) -> bytes:
    """The slip that goes into the parcel, without prices. Raises `UserError` when the address was erased."""
    order = shipment.order
    lines = shipment.lines.select_related("sku__product", "order_line").order_by("pk")
    slip = PackingSlip(
        shipment_number=shipment.number,
        order_number=order.external_number or order.number,
        brand=str(business.get("company_name")),
        ordered_on=order.placed_at.date(),
        ship_to=address_of(order),
        ship_from=origin_of(shipment.warehouse),
        lines=tuple(SlipLine(x.sku.code, x.sku.name, x.quantity, x.order_line.quantity) for x in lines),
        currency=order.currency,
        service=shipment.service_code,
    )
    return packing_slips([slip]).content
