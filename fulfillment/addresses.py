"""Changing where an order goes: refused once a label carries the old address or another house works with it."""

from __future__ import annotations

from django.db import transaction

from fulfillment import rates, states
from fulfillment.models import HandOff, LabelPurchase, Shipment
from inventory.locking import retrying, stock_transaction
from oms.core.actor import Actor
from oms.core.errors import Conflict, UserError
from oms.orders import addresses, upkeep
from oms.orders.drafts import ContactDraft
from oms.orders.models import Order


def change(order_id: int, contact: ContactDraft, *, actor: Actor) -> Order:
    """Store another address; quotes for the old one are dropped and routing looks again.

    Raises `UserError` naming the field, `Conflict` with the fix when a label is bought or a 3PL has the order,
    `NotFound`.
    """
    checked = addresses.check(contact)
    return _write(order_id, actor, checked)


def take_back(order_id: int, *, actor: Actor) -> Order:
    """Return to what the channel told. Raises as `change()` does."""
    return _write(order_id, actor, None)


def _write(order_id: int, actor: Actor, contact: ContactDraft | None) -> Order:
    def work() -> Order:
        with stock_transaction():
            order = upkeep.lock(order_id)
            _may_change(order)
            wanted = contact or addresses.as_told(order)
            addresses.write(order, wanted, actor=actor, back=contact is None)
            opened = list(Shipment.objects.filter(order=order, state__in=states.OPEN))
            for shipment in opened:
                shipment.quotes.all().delete()
            return order

    order = retrying(work)
    # carriers are asked outside of any transaction, the caller's too
    transaction.on_commit(lambda: _ask_rates(order))
    return order


def _ask_rates(order: Order) -> None:
    for shipment in Shipment.objects.filter(order=order, state=Shipment.State.PACKED).order_by("pk"):
        try:
            rates.shop(shipment.pk)
        except UserError:  # its page says why there is no rate
            continue


def _may_change(order: Order) -> None:
    label = (
        LabelPurchase.objects.filter(parcel__shipment__order=order, state__in=LabelPurchase.LIVE)
        .exclude(parcel__shipment__state__in=[Shipment.State.SHIPPED, Shipment.State.DELIVERED])
        .select_related("parcel__shipment")
        .first()
    )
    if label is not None:
        number = label.parcel.shipment.number
        raise Conflict(
            f"{number} has a label for the old address ({label.tracking_number or 'outcome unknown'}): void it on "
            f"{number} first, then change the address.",
            field="label",
        )
    given = (
        HandOff.objects.filter(shipment__order=order, shipment__state__in=states.OPEN)
        .select_related("account", "shipment")
        .first()
    )
    if given is not None:
        raise Conflict(
            f"{given.shipment.number} is handed to {given.account}: take it back there first, then change the "
            "address.",
            field="shipment",
        )
