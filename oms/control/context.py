"""The warehouse switch of the top bar."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from inventory.models import Warehouse
from oms.core.access import can, scope_of


def warehouses_of(principal: Any) -> list[tuple[str, str]]:
    """Code and name of the warehouses where the person may look at anything."""
    for right in ("stock.view", "shipping.view", "orders.view", "purchasing.view"):
        if can(principal, right):
            scope = scope_of(principal, right)
            places = Warehouse.objects.filter(scope.q(warehouse="code"), is_active=True).order_by("name")
            return list(places.values_list("code", "name"))
    return []


def switch(request: HttpRequest) -> dict[str, Any]:
    """Context processor; read only by pages that draw the shell."""
    return {"shell_warehouses": SimpleLazyObject(lambda: warehouses_of(request.user))}
