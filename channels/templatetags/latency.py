"""Milliseconds and stored times as people read them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import template

from oms.core.clock import business_zone
from oms.core.templatetags.ui import duration

register = template.Library()


@register.filter
def ms(value: Any) -> str:
    """820 → 0.8 s; – for none."""
    return "–" if value is None or value == "" else duration(float(value) / 1000)


@register.filter
def stamp(value: Any) -> str:
    """A stored time text in the business's zone, to the second; – for none."""
    if not value:
        return "–"
    return f"{dt.datetime.fromisoformat(str(value)).astimezone(business_zone()):%Y-%m-%d %H:%M:%S}"
