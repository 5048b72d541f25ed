"""Exchange rates kept by people: a new one also stamps the orders that waited for it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from django.db import transaction

from oms.core import business
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import business_day, business_zone
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item
from oms.orders.models import FxRate, Order
from oms.orders.validation import CURRENCIES


def set_rate(currency: str, day: dt.date, rate: Decimal, *, actor: Actor) -> tuple[FxRate, int]:
    """One unit of `currency` costs `rate` of the business currency from `day` on. Returns the rate, and how many
    orders had waited for one and are counted from now on. Orders that have a rate keep it: it is stamped once.

    Raises `UserError` naming the field, `Conflict` for a day whose rate orders carry already.
    """
    code = currency.strip().upper()
    if code not in CURRENCIES:
        raise UserError(f"currency: '{code[:10]}' is not an ISO 4217 code such as EUR.", field="currency")
    if code == business.currency():
        raise UserError(f"currency: {code} is the business currency; its rate is 1.", field="currency")
    if day > business_day():
        raise UserError("day: a rate of the future is not known yet.", field="day")
    if not rate.is_finite() or not Decimal(0) < rate < Decimal(10) ** 9:
        raise UserError("rate: write a number above 0, such as 1.0842.", field="rate")
    rate = rate.quantize(Decimal("0.00000001"))
    if not rate:
        raise UserError("rate: it has at most eight decimals.", field="rate")
    with transaction.atomic():
        known = FxRate.objects.select_for_update().filter(currency=code, day=day).first()
        if known is not None and known.rate != rate and _used(known):
            raise Conflict(
                f"rate: orders carry the {code} rate of {day} already; enter one of a later day.", field="day"
            )
        found, _ = FxRate.objects.update_or_create(currency=code, day=day, defaults={"rate": rate})
        record(
            actor,
            "rate.set",
            found,
            before={"rate": str(known.rate) if known else ""},
            after={"rate": str(rate)},
        )
        midnight = dt.datetime.combine(day, dt.time(0), business_zone())
        waiting = Order.objects.filter(currency=code, fx_day__isnull=True, placed_at__gte=midnight)
        stamped = waiting.update(fx_rate=rate, fx_day=day)
        if not Order.objects.filter(currency=code, fx_day__isnull=True).exists():
            close_item(f"fx_missing:{code}", f"the rate of {day} is known", actor=actor)
    return found, stamped


def _used(rate: FxRate) -> bool:
    return Order.objects.filter(currency=rate.currency, fx_day=rate.day).exists()


def remove_rate(rate_id: int, *, actor: Actor) -> None:
    """Forget a rate that no order carries. Raises `Conflict`, `NotFound`."""
    with transaction.atomic():
        found = FxRate.objects.select_for_update().filter(pk=rate_id).first()
        if found is None:
            raise NotFound("rate: there is no such rate.", field="rate")
        if _used(found):
            raise Conflict(
                f"rate: orders carry the {found.currency} rate of {found.day}; it stays.", field="rate"
            )
        record(actor, "rate.removed", found, before={"rate": str(found.rate)})
        found.delete()


def converted(amount: Decimal, currency: str, to: str) -> Decimal | None:
    """An amount in another currency at today's rates, rounded to nothing; None where a rate is not known."""
    if currency == to:
        return amount
    base = business.currency()
    rate: dict[str, Decimal] = {base: Decimal(1)}
    for code in (currency, to):
        if code not in rate:
            known = FxRate.objects.filter(currency=code, day__lte=business_day()).order_by("-day").first()
            if known is None:
                return None
            rate[code] = known.rate
    return amount * rate[currency] / rate[to]
