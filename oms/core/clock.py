"""The only place that asks what time it is, so that tests can freeze it."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils import timezone


def now() -> dt.datetime:
    """Aware UTC time."""
    return timezone.now()


def business_zone() -> ZoneInfo:
    return ZoneInfo(settings.BUSINESS_TIME_ZONE)


def business_day(at: dt.datetime | None = None) -> dt.date:
    """The local calendar day of the business: day borders of every report."""
    return (at or now()).astimezone(business_zone()).date()
