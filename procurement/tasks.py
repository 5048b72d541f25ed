"""Clockwork of the purchasing floor."""

from __future__ import annotations

from oms.core.doorbell import periodic
from procurement import lateness


@periodic(seconds=3600)
def tell_late_orders(subject: str = "") -> None:
    """Orders past their date are told once; those that came, ended or were moved close their item."""
    lateness.tell()
