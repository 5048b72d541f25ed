"""Two SKUs become one: what speaks against it in purchasing, and what follows it."""

from __future__ import annotations

from django.db import transaction

from inventory.merging import CHECKS
from procurement import states
from procurement.models import PurchaseOrderLine, ReorderSuggestion, ReplenishmentSetting, SupplierOffer


def conflicts(source_id: int, target_id: int) -> list[str]:
    """Open purchase lines of the source: their receipts would bring its stock back."""
    lines = PurchaseOrderLine.objects.filter(
        sku=source_id, order__state__in=[*states.RECEIVABLE, "draft", "approved"]
    ).select_related("sku")
    return [f"{line.sku} is on PO-{line.order_id}: receive, close or cancel it first." for line in lines[:5]]


CHECKS.append(conflicts)


def follow(source_id: int, target_id: int) -> None:
    """Offers and planning settings go to the target where it has none of its own. Harmless to repeat."""
    with transaction.atomic():
        suppliers = SupplierOffer.objects.filter(sku=target_id).values("supplier")
        SupplierOffer.objects.filter(sku=source_id).exclude(supplier__in=suppliers).update(sku=target_id)
        planned = ReplenishmentSetting.objects.filter(sku=target_id).values("warehouse")
        ReplenishmentSetting.objects.filter(sku=source_id).exclude(warehouse__in=planned).update(
            sku=target_id
        )
        ReorderSuggestion.objects.filter(sku=source_id, state__in=["open", "snoozed"]).update(state="gone")
