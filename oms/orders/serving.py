"""Which warehouses a channel shows and is served from: the one door for every change of that map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from inventory.models import Warehouse
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.errors import NotFound, UserError
from oms.core.outbox import emit
from oms.orders.models import ChannelWarehouse, SalesChannel

MOST_RANK = 32_767


@dataclass(frozen=True, slots=True)
class Serves:
    """What a warehouse does for a channel. The lowest `rank` is promised from first. Neither means: nothing."""

    publishes: bool
    fulfils: bool
    rank: int = 1


def set_serving(channel_id: int, wanted: Mapping[int, Serves], *, actor: Actor) -> bool:
    """Say what these warehouses (by id) do for the channel from now on; others stay. Returns whether anything changed.

    The channel's listings are told within the sync target (`channel.warehouses` in the outbox). Orders that are not
    routed yet are routed by the new map; what has its shipment keeps it. Raises `NotFound` for an unknown channel,
    `UserError` naming the field.
    """
    with transaction.atomic():
        channel = SalesChannel.objects.select_for_update(no_key=True).filter(pk=channel_id).first()
        if channel is None:
            raise NotFound("channel: there is no such channel.", field="channel")
        codes = dict(Warehouse.objects.filter(pk__in=wanted).values_list("pk", "code"))
        rows = {row.warehouse_id: row for row in ChannelWarehouse.objects.filter(channel=channel)}
        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        publishing = fulfilling = False
        for warehouse_id, given in sorted(wanted.items()):
            code = codes.get(warehouse_id)
            if code is None:
                raise UserError("warehouse: choose one of your warehouses.", field="warehouse")
            if not 0 <= given.rank <= MOST_RANK:
                raise UserError(f"rank: {code} needs a whole number up to {MOST_RANK}.", field="rank")
            row = rows.get(warehouse_id)
            had = Serves(row.publishes, row.fulfils, row.rank) if row else None
            has = given if given.publishes or given.fulfils else None
            if had == has:
                continue
            if has is None:
                assert row is not None
                row.delete()
            elif row is None:
                ChannelWarehouse.objects.create(
                    channel=channel, warehouse_id=warehouse_id, publishes=has.publishes, fulfils=has.fulfils,
                    rank=has.rank,
                )  # fmt: skip
            else:
                row.publishes, row.fulfils, row.rank = has.publishes, has.fulfils, has.rank
                row.save(update_fields=["publishes", "fulfils", "rank"])
            before[code], after[code] = _words(had), _words(has)
            publishing |= bool(had and had.publishes) != bool(has and has.publishes)
            fulfilling |= bool(had and had.fulfils) != bool(has and has.fulfils)
        if not after:
            return False
        record(actor, "channel.warehouses", channel, before=before, after=after)
        if publishing or fulfilling:
            emit("channel.warehouses", str(channel.pk), publishes=publishing, fulfils=fulfilling)
        return True


def _words(serves: Serves | None) -> str:
    if serves is None:
        return "nothing"
    parts = [word for word, on in (("publishes", serves.publishes), ("fulfils", serves.fulfils)) if on]
    return f"{', '.join(parts)}, rank {serves.rank}"
