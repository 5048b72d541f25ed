"""The only place that asks what time it is, so that tests can freeze it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils import timezone

from oms.core.errors import UserError

_told: ContextVar[dt.datetime | None] = ContextVar("told", default=None)


def now() -> dt.datetime:
    """Aware UTC time."""
    return _told.get() or timezone.now()


@contextmanager
def telling(moment: dt.datetime) -> Iterator[None]:
    """Inside it is `moment`: the demo writes its year of history through the services of every day."""
    token = _told.set(moment)
    try:
        yield
    finally:
        _told.reset(token)


#: years in which something is bought, sold, kept or awaited
FIRST_YEAR, LAST_YEAR = 2000, 2100


def plausible(field: str, at: dt.date | None) -> None:
    """Refuse a day or moment that somebody mistyped or a program made up for "never": no report or zone can hold it.

    None is nothing given. Raises `UserError` naming `field`.
    """
    if at is not None and not FIRST_YEAR <= at.year <= LAST_YEAR:
        shown = at.date() if isinstance(at, dt.datetime) else at
        raise UserError(
            f"{field}: {shown.isoformat()} is not possible; use a date from {FIRST_YEAR} to {LAST_YEAR}.",
            field=field,
        )


def business_zone() -> ZoneInfo:
    return ZoneInfo(settings.BUSINESS_TIME_ZONE)


def business_day(at: dt.datetime | None = None) -> dt.date:
    """The local calendar day of the business: day borders of every report."""
    return (at or now()).astimezone(business_zone()).date()
