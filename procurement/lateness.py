"""Purchase orders past their date: one exception each, closed when the goods come, the order ends or the date moves."""

from __future__ import annotations

import datetime as dt

from oms.core import business
from oms.core.clock import business_day
from oms.core.exceptions_inbox import close_items, raise_new
from oms.core.models import ExceptionItem
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
    late = {f"{KIND}:{order.pk}:{overdue[order.pk][0]:%Y%m%d}": order for order in orders}
    known = set(ExceptionItem.objects.filter(dedup_key__in=late).values_list("dedup_key", flat=True))
    fresh = {key: order for key, order in late.items() if key not in known}
    raise_new(
        {
            key: {
                "kind": KIND,
                "title": f"{order.number} is late: expected {overdue[order.pk][0]:%d %b %Y}",
                "detail": f"{overdue[order.pk][1]} units of {order.supplier} have not arrived in {order.warehouse}. "
                "Ask the supplier, then move the date, receive what came, or close the order.",
                "severity": ExceptionItem.Severity.NORMAL,
                "url": f"/purchasing/orders/{order.pk}/",
                "warehouse_code": order.warehouse.code,
            }
            for key, order in fresh.items()
        }
    )
    open_items = ExceptionItem.objects.filter(kind=KIND, closed_at__isnull=True).exclude(dedup_key__in=late)
    gone = close_items(open_items.values_list("dedup_key", flat=True), "nothing of it is overdue any more")
    return len(fresh), gone
