"""Doorbells of the 3PLs: each drains what its tables say is due and is harmless to repeat."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fulfillment.models import HandOff, ThreePLAccount
from fulfillment.threepl import accounts, calls, files, handoff, inbound, inbox
from oms.core.actor import task_actor
from oms.core.doorbell import each, periodic, ring


def hand_off(subject: str) -> None:
    """Ready shipments of one warehouse become hand-offs of its 3PL."""
    each(_accounts(warehouse=int(subject)), partial(handoff.plan, actor=task_actor("3pl")))


def _accounts(**where: Any) -> list[int]:
    return list(ThreePLAccount.objects.filter(**where).order_by("pk").values_list("pk", flat=True))


def follow(subject: str) -> None:
    """Units of one order that are no longer held at a 3PL are taken back."""
    handoff.follow(int(subject), actor=task_actor("3pl"))


def drain_calls(subject: str) -> None:
    calls.drain(int(subject))


def drain_messages(subject: str) -> None:
    inbox.drain(int(subject))


@periodic(seconds=5)
def ring_due(subject: str = "") -> None:
    """Calls whose look-up is due, messages whose bell was lost."""
    for pk in calls.due():
        ring("fulfillment.threepl.tasks.drain_calls", str(pk))
    for pk in inbox.due():
        ring("fulfillment.threepl.tasks.drain_messages", str(pk))


@periodic(seconds=60)
def sweep(subject: str = "") -> None:
    """Shipments nobody rang for, deliveries to expect, acknowledgements that did not come, figures that are due."""
    actor = task_actor("3pl")
    work: list[Callable[[], object]] = []
    for pk in _accounts(state=ThreePLAccount.State.CONNECTED):
        work += [partial(handoff.plan, pk, actor=actor), partial(inbound.plan, pk, actor=actor)]
    open_orders = HandOff.objects.filter(state__in=("planned", *handoff.OUT), shipment__state="cancelled")
    for order_id in open_orders.order_by().values_list("shipment__order", flat=True).distinct()[:200]:
        work.append(partial(handoff.follow, order_id, actor=actor))
    each([*work, handoff.told_late, accounts.pull_due], lambda one: one())


@periodic(seconds=900)
def write_order_files(subject: str = "") -> None:
    """One file per run and account for 3PLs that read files."""
    files.write_due()


@periodic(seconds=60)
def watch_folders(subject: str = "") -> None:
    """Files that 3PLs have dropped."""
    files.watch()


@periodic(seconds=3600)
def tell_silent(subject: str = "") -> None:
    accounts.tell_silent()
