"""Milliseconds as people read them."""

from __future__ import annotations

from typing import Any

from django import template

from oms.core.templatetags.ui import duration

register = template.Library()


@register.filter
def ms(value: Any) -> str:
    """820 → 0.8 s; – for none."""
    return "–" if value is None or value == "" else duration(float(value) / 1000)
