"""Daily demand for forecasts: what buyers asked for, whether or not it could be shipped."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from django.db import transaction
from django.db.models import Count, F, Sum

from inventory.models import DemandDay
from oms.core.clock import business_zone
from oms.orders.models import Order, OrderLine

#: replacements and exchanges are not new demand
DEMAND_KINDS = (Order.Kind.SALE, Order.Kind.WHOLESALE)


def day_bounds(day: dt.date) -> tuple[dt.datetime, dt.datetime]:
    """[from, to) of a business day as UTC instants; 23 or 25 hours long when the clocks change."""
    zone = business_zone()
    start = dt.datetime.combine(day, dt.time(0), zone).astimezone(dt.UTC)
    end = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(0), zone).astimezone(dt.UTC)
    return start, end


def roll_up(days: Iterable[dt.date]) -> int:
    """Recompute whole business days of `inventory.DemandDay`; returns how many rows they have now.

    Units are ordered minus cancelled, gross of returns, by the day the order was placed; test orders count
    nothing, kits count as kits, packs by what they hold. Running it twice gives the same rows.
    """
    written = 0
    for day in sorted(set(days)):
        start, end = day_bounds(day)
        with transaction.atomic():
            sums = (
                OrderLine.objects.filter(
                    order__placed_at__gte=start,
                    order__placed_at__lt=end,
                    order__is_test=False,
                    order__kind__in=DEMAND_KINDS,
                    kind=OrderLine.Kind.PRODUCT,
                    sku__isnull=False,
                    quantity__gt=F("cancelled"),
                )
                .values_list("sku_id", "order__channel__code")
                .annotate(units=Sum((F("quantity") - F("cancelled")) * F("pack_size")), lines=Count("id"))
                .order_by("sku_id", "order__channel__code")
            )
            rows = [
                DemandDay(sku_id=sku_id, channel_code=channel, day=day, units=units, lines=lines)
                for sku_id, channel, units, lines in sums
            ]
            keep = {(row.sku_id, row.channel_code) for row in rows}
            gone = [
                pk
                for pk, sku_id, channel in DemandDay.objects.filter(day=day).values_list(
                    "pk", "sku_id", "channel_code"
                )
                if (sku_id, channel) not in keep
            ]
            DemandDay.objects.filter(pk__in=gone).delete()
            DemandDay.objects.bulk_create(
                rows,
                update_conflicts=True,
                unique_fields=["sku", "channel_code", "day"],
                update_fields=["units", "lines"],
                batch_size=500,
            )
            written += len(rows)
    return written
