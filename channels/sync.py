"""Stock sync: what is stale is told, newest value only, within a second.

`StockPusher` runs inside the dispatcher. Back-pressure makes bigger batches, not longer queues: while a channel
answers, further changes gather on its listings, and the next call carries them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from django.db import transaction

from channels import asking, pushing
from channels.connectors.base import ChannelError, PushItem, PushResult, Retry, get_connector
from channels.models import BulkPush, ChannelAccount, Listing
from channels.pushing import Batch, Claimed, Outcome, mark_listings, mark_stale
from channels.session import ado, do
from oms.core import beat, http
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.db import in_db
from oms.core.errors import Conflict, NotFound
from oms.core.exceptions_inbox import close_item

log = logging.getLogger("lading.push")

LOOK_SECONDS = 0.25
#: shortest time from one look to the next: fewer and fuller calls, hardly later
GATHER_SECONDS = 0.1
STOP_SECONDS = 12.0
DISPATCHER_SILENT = dt.timedelta(seconds=15)


class StockPusher:
    """Pushes stale listings of every connected account until it is told to stop."""

    def __init__(self) -> None:
        self._busy: dict[int, int] = {}  # account → calls in flight
        self._connections: dict[int, int] = {}  # account → calls it may have in flight
        self._paused: dict[
            int, float
        ] = {}  # account → monotonic time until which the channel asked for quiet
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self.acknowledged = 0
        self.calls = 0

    async def run(self, stop: asyncio.Event, wake: asyncio.Event) -> None:
        self._wake = wake
        while not stop.is_set():
            wake.clear()
            began = time.monotonic()
            taken = await self.tick()
            if not taken:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), LOOK_SECONDS)
            # news of a busy shop gather for a moment: each look then finds more, and costs the same
            rest = GATHER_SECONDS - (time.monotonic() - began)
            if rest > 0:
                await asyncio.sleep(rest)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)

    async def tick(self) -> int:
        """One look: claim what may go out now and start sending it; returns how many listings were taken."""
        plan = await in_db(pushing.plan, self._slots())
        for batch in plan.batches:
            account_id = batch.access.account_id
            self._busy[account_id] = self._busy.get(account_id, 0) + 1
            self._connections[account_id] = get_connector(
                batch.access.connector
            ).capabilities.quantity_connections
            task = asyncio.create_task(self._send(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.acknowledged += plan.settled
        return sum(len(batch.claimed) for batch in plan.batches) + plan.settled

    async def once(self, seconds: float = 20.0) -> int:
        """Push until nothing is due any more or the time is up; returns how many listings were acknowledged."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            taken = await self.tick()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            elif not taken:
                break
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        return self.acknowledged

    def _slots(self) -> dict[int, int]:
        """Free calls per account, for accounts that have calls in flight or must keep quiet."""
        slots = {}
        for account_id in set(self._busy) | set(self._paused):
            if self._paused.get(account_id, 0) > time.monotonic():
                slots[account_id] = 0
                continue
            self._paused.pop(account_id, None)
            used = self._busy.get(account_id, 0)
            if used:
                slots[account_id] = self._connections.get(account_id, 1) - used
        return slots

    async def _send(self, batch: Batch) -> None:
        account_id = batch.access.account_id
        try:
            self.calls += 1
            if batch.bulk:
                await self._send_bulk(batch)
                return
            outcomes = await self._tell(batch)
            self.acknowledged += await in_db(pushing.settle, batch, outcomes)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("push failed", extra={"account": account_id, "listings": len(batch.claimed)})
            with contextlib.suppress(Exception):
                await in_db(pushing.release, batch)
            self._paused[account_id] = time.monotonic() + 1.0
        finally:
            self._busy[account_id] -= 1
            if not self._busy[account_id]:
                del self._busy[account_id]
            self._wake.set()

    async def _tell(self, batch: Batch) -> list[Outcome]:
        sent_at = now()
        told = [one for one in batch.claimed if not one.look]
        results = await self._call(batch, [one.item for one in told]) if told else []
        answered_at = now()
        outcomes = {
            one.item.listing_id: Outcome(
                one, result, one.item.quantity, sent_at, answered_at, provisional=one.waits
            )
            for one, result in zip(told, results, strict=True)
        }
        moved = [one for one in batch.claimed if one.look]
        moved += [one.claimed for one in outcomes.values() if one.result.failure is Retry.STALE]
        if moved:
            outcomes |= {one.claimed.item.listing_id: one for one in await self._moved(batch, moved)}
        return list(outcomes.values())

    async def _call(self, batch: Batch, items: Sequence[PushItem]) -> list[PushResult]:
        """The answers in the order of the items; a failed call is every item's failure."""
        account_id = batch.access.account_id
        try:
            results = await ado(
                account_id,
                lambda connector, access: connector.push_quantities(access, items),
                access=batch.access,
            )
        except ChannelError as error:
            results = [
                PushResult(item.listing_id, error.kind, error.message, error.retry_after) for item in items
            ]
        waits = [result.retry_after or 0.0 for result in results if result.failure is Retry.THROTTLED]
        if waits:
            self._paused[account_id] = time.monotonic() + min(max(*waits, 0.05), 900)
        return results

    async def _moved(self, batch: Batch, moved: Sequence[Claimed]) -> list[Outcome]:
        """The channel's figure is not the one we left, or we must not guess it: read it, compute again, and tell.

        A lower figure means sales that we have not booked. They stay counted (`Listing.held`) until they are.
        """
        sent_at = now()
        refs = [one.ref for one in moved]
        try:
            shown = await ado(
                batch.access.account_id,
                lambda connector, access: connector.read_quantities(access, refs),
                access=batch.access,
            )
        except ChannelError as error:
            return [
                Outcome(
                    one,
                    PushResult(one.item.listing_id, error.kind, error.message, error.retry_after),
                    one.item.quantity,
                    sent_at,
                    now(),
                )
                for one in moved
            ]
        at = now()
        known = {
            one.item.listing_id: shown[one.item.listing_id] for one in moved if one.item.listing_id in shown
        }
        fresh = await in_db(pushing.recompute, batch, known, at)
        outcomes: list[Outcome] = []
        todo: list[Claimed] = []
        for one in moved:
            listing_id = one.item.listing_id
            if listing_id not in known and one.look:
                todo.append(one)  # a channel that cannot be looked at is told what we believe
                continue
            if listing_id not in known:
                gone = PushResult(
                    listing_id, Retry.REJECTED, "the channel does not show this listing any more"
                )
                outcomes.append(Outcome(one, gone, one.item.quantity, sent_at, at))
                continue
            if listing_id not in fresh:
                continue
            theirs, again = known[listing_id], fresh[listing_id]
            quantity = again.figure.quantity
            entry = replace(
                one, version=again.version, changed_at=again.changed_at, waits=again.figure.waits, anew=again.anew,
                change=quantity - theirs + again.figure.blind,
                item=replace(
                    one.item, quantity=quantity, expected=theirs, key=f"{one.item.key}:{again.version}:{theirs}"
                ),
            )  # fmt: skip
            if theirs == quantity:  # it shows what we wanted to tell
                outcomes.append(
                    Outcome(
                        replace(entry, change=0), PushResult(listing_id), quantity, sent_at, at, entry.waits
                    )
                )
            else:
                todo.append(entry)
        if todo:
            results = await self._call(batch, [entry.item for entry in todo])
            answered_at = now()
            outcomes += [
                Outcome(entry, result, entry.item.quantity, sent_at, answered_at, provisional=entry.waits)
                for entry, result in zip(todo, results, strict=True)
            ]
        return outcomes

    async def _send_bulk(self, batch: Batch) -> None:
        items = [one.item for one in batch.claimed]
        bulk_id = await in_db(pushing.open_bulk, batch)
        try:
            handle = await ado(
                batch.access.account_id,
                lambda connector, access: connector.push_bulk(access, items),
                access=batch.access,
            )
        except ChannelError as error:
            await in_db(pushing.bulk_failed, bulk_id, error.message)
            self._paused[batch.access.account_id] = time.monotonic() + min(error.retry_after or 5.0, 900)
            return
        await in_db(pushing.bulk_sent, bulk_id, handle)


def read_bulk(account_id: int) -> int:
    """Read the results of bulk files that the channel has finished; returns how many listings were settled."""
    settled = 0
    for bulk in BulkPush.objects.filter(account=account_id, state=BulkPush.State.SENT).order_by("pk"):
        batch = pushing.bulk_batch(bulk)
        items = [one.item for one in batch.claimed]
        results = do(account_id, asking.bulk_result(bulk.handle, items))
        if results is None:
            if get_connector(batch.access.connector).capabilities.bulk_fetched and pushing.outdated(bulk):
                pushing.replace_bulk(bulk)
            continue
        at = now()
        outcomes = [
            Outcome(
                one, result, one.item.quantity, bulk.sent_at or bulk.created_at, at, provisional=one.waits
            )
            for one, result in zip(batch.claimed, results, strict=True)
        ]
        pushing.settle(batch, outcomes)
        BulkPush.objects.filter(pk=bulk.pk).update(state=BulkPush.State.DONE, finished_at=at)
        settled += len(outcomes)
    lost = BulkPush.objects.filter(
        account=account_id, state=BulkPush.State.PLANNED, created_at__lt=now() - dt.timedelta(minutes=5)
    )
    for bulk in lost:  # handed in or not, nobody knows: absolute quantities are simply told again
        pushing.bulk_failed(bulk.pk, "the process that handed the file in has ended")
    return settled


def sweep(*, force: bool = False) -> int:
    """Push what is stale while no dispatcher lives: slower, but right. Returns how many were acknowledged."""
    age = beat.age(beat.DISPATCHER)
    if not force and age is not None and age <= DISPATCHER_SILENT:
        return 0

    async def main() -> int:
        try:
            return await StockPusher().once()
        finally:
            await http.DOOR.aclose()

    return asyncio.run(main())


# --- what people do --------------------------------------------------------------------------------


def pause(account_id: int, reason: str, *, actor: Actor) -> ChannelAccount:
    """Stop telling quantities. Listings go stale meanwhile; nothing is lost. Raises `NotFound`, `Conflict`."""
    with transaction.atomic():
        account = _account(account_id)
        if not ChannelAccount.objects.filter(pk=account_id, pushes_paused_at__isnull=True).update(
            pushes_paused_at=now(), pause_reason=reason.strip()[:255]
        ):
            raise Conflict("account: its pushes are paused already.", field="account")
        record(actor, "channel.paused", account, after={"reason": reason})
    account.refresh_from_db()
    return account


def resume(account_id: int, *, actor: Actor) -> ChannelAccount:
    """Tell quantities again: one push per listing that changed meanwhile. Raises `NotFound`, `Conflict`."""
    with transaction.atomic():
        account = _account(account_id)
        if not ChannelAccount.objects.filter(pk=account_id, pushes_paused_at__isnull=False).update(
            pushes_paused_at=None, pause_reason=""
        ):
            raise Conflict("account: its pushes are not paused.", field="account")
        record(actor, "channel.resumed", account)
    account.refresh_from_db()
    return account


def resync(account_id: int, *, actor: Actor) -> int:
    """Tell every mapped listing of an account again, whatever we believe it shows. Returns how many."""
    account = _account(account_id)
    rows = Listing.objects.filter(
        account=account_id,
        sku__isnull=False,
        state=Listing.State.ACTIVE,
        fulfilment=Listing.Fulfilment.MERCHANT,
    )
    count = mark_listings(rows, forget=True, anew=True)
    record(actor, "channel.resync", account, after={"listings": count})
    return count


def retry_push(listing_id: int, *, actor: Actor) -> Listing:
    """Tell a listing again that gave up. Raises `NotFound`."""
    listing = _listing(listing_id)
    mark_listings(Listing.objects.filter(pk=listing_id), forget=True)
    record(actor, "listing.retried", listing)
    listing.refresh_from_db()
    return listing


def drop_push(listing_id: int, *, actor: Actor) -> Listing:
    """Stop telling a listing that the channel refuses: it is paused until a person resumes it. Raises `NotFound`."""
    listing = _listing(listing_id)
    with transaction.atomic():
        Listing.objects.filter(pk=listing_id).update(state=Listing.State.PAUSED)
        record(actor, "listing.paused", listing)
        close_item(f"push:{listing_id}", "the listing was paused", actor=actor)
    listing.refresh_from_db()
    return listing


def _account(account_id: int) -> ChannelAccount:
    account = ChannelAccount.objects.filter(pk=account_id).first()
    if account is None:
        raise NotFound("account: no such channel account.", field="account")
    return account


def _listing(listing_id: int) -> Listing:
    listing = Listing.objects.select_related("account").filter(pk=listing_id).first()
    if listing is None:
        raise NotFound("listing: no such listing.", field="listing")
    return listing


__all__ = [
    "StockPusher", "drop_push", "mark_listings", "mark_stale", "pause", "read_bulk",
    "resume", "resync", "retry_push", "sweep",
]  # fmt: skip
