"""Purchase orders past their date: one exception each, closed when the goods come, the order ends or the date moves."""

from __future__ import annotations

import datetime as dt

from oms.core import business
from oms.core.clock import business_day
from oms.core.exceptions_inbox import tell_once
from oms.core.words import some
from procurement import states
from procurement.models import PurchaseOrder
from procurement.selectors import incoming

KIND = "purchase_late"


def tell(today: dt.date | None = None) -> tuple[int, int]:
    """Tell of sent orders whose goods are more than `purchase_late_days` overdue, once per order and date.

    An item that a person closed stays closed until another date is missed, too. Returns how many were told and closed.
    """
    last = (today or business_day()) - dt.timedelta(days=int(business.get("purchase_late_days")))
    overdue: dict[int, tuple[dt.date, int]] = {}
    for one in incoming():
        if one.expected_on is not None and one.expected_on < last:
            due, units = overdue.get(one.order_id, (one.expected_on, 0))
            overdue[one.order_id] = (min(due, one.expected_on), units + one.units)
    orders = PurchaseOrder.objects.filter(pk__in=overdue, state__in=states.RECEIVABLE).select_related(
        "supplier", "warehouse"
    )
    return tell_once(
        KIND,
        {
            f"{KIND}:{order.pk}:{overdue[order.pk][0]:%Y%m%d}": {
                "title": f"{order.number} is late: expected {overdue[order.pk][0]:%d %b %Y}",
                "detail": f"{some(overdue[order.pk][1], 'unit')} of {order.supplier} did not arrive in "
                f"{order.warehouse} yet. "
                "Ask the supplier, then move the date, receive what came, or close the order.",
                "url": f"/purchasing/orders/{order.pk}/",
                "warehouse_code": order.warehouse.code,
            }
            for order in orders
        },
        "nothing of it is overdue any more",
    )
