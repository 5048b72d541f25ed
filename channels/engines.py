"""What the channels run inside the dispatcher: the stock pusher, the readers of queues, the probes of closed stores."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from channels import asking, pulls
from channels.connectors.base import ChannelError, get_connector
from channels.models import ChannelAccount
from channels.session import ado
from channels.sync import StockPusher
from oms.core import limits
from oms.core.db import in_db
from oms.core.dispatcher import register_engine

log = logging.getLogger("lading.channels")

WAIT_SECONDS = 1
#: a queue is looked at again after this time, however long its account is paused: its breaker decides
LONGEST_QUIET = 10.0
LOOK_SECONDS = 5.0
#: how often a store whose calls are paused is asked whether it is back
PROBE_SECONDS = 10.0


def queued_accounts() -> set[int]:
    """Accounts whose notifications come through a queue."""
    rows = ChannelAccount.objects.filter(state=ChannelAccount.State.CONNECTED).values_list(
        "pk", "connector", "config"
    )
    return {
        pk
        for pk, connector, config in rows
        if config.get("queue_url") and get_connector(connector).capabilities.queue
    }


class QueueReader:
    """One long poll per account with a queue, so that its orders come within a second or two."""

    async def run(self, stop: asyncio.Event, wake: asyncio.Event) -> None:
        readers: dict[int, asyncio.Task[None]] = {}
        try:
            while not stop.is_set():
                wanted = await in_db(queued_accounts)
                for account_id in wanted - set(readers):
                    readers[account_id] = asyncio.create_task(self._read(account_id, stop))
                for account_id in [one for one, task in readers.items() if one not in wanted or task.done()]:
                    readers.pop(account_id).cancel()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
        finally:
            for task in readers.values():
                task.cancel()
            await asyncio.gather(*readers.values(), return_exceptions=True)

    async def _read(self, account_id: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                messages = await ado(
                    account_id, lambda connector, access: connector.poll_queue(access, WAIT_SECONDS)
                )
                if messages:
                    handles = await in_db(pulls.store_queue, account_id, messages)
                    await ado(
                        account_id,
                        asking.forget(handles),
                    )
            except ChannelError as error:
                log.info("queue of account %s: %s", account_id, error.message)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(
                        stop.wait(), min(max(error.retry_after or 5.0, 1.0), LONGEST_QUIET)
                    )


class Prober:
    """Asks accounts whose breaker is open whether they are back: one harmless call each, however long the pause.

    The breaker's pause doubles so that nobody floods a store that is down; this call is all that store gets
    meanwhile, and its first answer lets everything else go out at once.
    """

    async def run(self, stop: asyncio.Event, wake: asyncio.Event) -> None:
        while not stop.is_set():
            await self.look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PROBE_SECONDS)

    async def look(self) -> int:
        """One call to each account whose calls are paused; returns how many."""
        closed = await in_db(_closed_accounts)
        await asyncio.gather(*(self._probe(account_id) for account_id in closed))
        return len(closed)

    async def _probe(self, account_id: int) -> None:
        try:
            await in_db(_let_through, account_id)
            await ado(account_id, lambda connector, access: connector.probe(access))
        except ChannelError as error:
            log.info("account %s is not back: %s", account_id, error.message)
        except Exception:
            log.exception("probe failed", extra={"account": account_id})


def _closed_accounts() -> list[int]:
    closed = {int(key.split(":")[1]) for key in limits.paused("channel:")}
    rows = ChannelAccount.objects.filter(pk__in=closed, state=ChannelAccount.State.CONNECTED)
    return list(rows.order_by("pk").values_list("pk", flat=True)) if closed else []


def _let_through(account_id: int) -> None:
    for suffix in ("", ":token"):
        limits.end_pause(f"channel:{account_id}{suffix}")


register_engine("stock", StockPusher)
register_engine("probes", Prober)
register_engine("queues", QueueReader)
