"""What people set on a carrier account."""

from __future__ import annotations

from django.db import transaction

from fulfillment.models import CarrierAccount
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.errors import Conflict, NotFound


def set_active(account_id: int, active: bool, *, actor: Actor) -> CarrierAccount:
    """Ask an account for rates and labels, or no longer.

    Raises `NotFound`, `Conflict` for one that only keeps labels which others bought.
    """
    with transaction.atomic():
        account = CarrierAccount.objects.select_for_update().filter(pk=account_id).first()
        if account is None:
            raise NotFound("carrier: there is no such account.", field="carrier")
        if active and not account.is_asked:
            raise Conflict(
                f"carrier: labels of {account.name} are bought elsewhere; there is nothing to ask it for.",
                field="carrier",
            )
        if account.is_active != active:
            account.is_active = active
            account.save(update_fields=["is_active"])
            record(actor, "carrier.switched", account, after={"active": active})
    return account
