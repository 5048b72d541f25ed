"""Reads of the returns floor."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet

from oms.core.access import scope_of
from oms.core.errors import NotFound
from returns.models import Rma


def visible(principal: Any) -> QuerySet[Rma]:
    """The RMAs a user or token may see: own warehouses and channels; blind returns by warehouse only."""
    scope = scope_of(principal, "returns.view")
    found = Rma.objects.filter(scope.q(warehouse="warehouse__code"))
    if scope.channels is not None:
        found = found.filter(Q(order__isnull=True) | Q(order__channel__code__in=scope.channels))
    return found.select_related("order__channel", "warehouse")


def find(principal: Any, pk: int) -> Rma:
    """One visible RMA. Raises `NotFound`."""
    item = visible(principal).filter(pk=pk).first()
    if item is None:
        raise NotFound("RMA: there is no such return.")
    return item
