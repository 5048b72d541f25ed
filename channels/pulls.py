"""Reading from channels on our own initiative: the safety net under notifications, and catching up after an outage.

A pull goes by "changed since" with an overlap and feeds the same order entry, so an order found twice is one
order. The cursor moves only after a page is booked; a channel that tells no new beginning before its last page has the
page kept. Every pull that is too long for one task goes on in the next one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import time
from dataclasses import dataclass, replace

from channels import asking, drift, mcf, pushing
from channels.connectors.base import (
    Capabilities,
    ChannelError,
    Notification,
    RemoteReturn,
    Retry,
    get_connector,
)
from channels.inbox import accept, actor_for, take
from channels.models import ChannelAccount, Listing
from channels.selectors import pool_of
from channels.session import do
from inventory import operations
from inventory.models import StockLevel, Warehouse
from oms.core.clock import now
from oms.core.doorbell import ring
from oms.core.errors import UserError
from oms.core.exceptions_inbox import cause_of, close_item, raise_item
from oms.core.words import some
from oms.orders.models import Order, OrderLine
from returns import rma
from returns.models import Rma

log = logging.getLogger("lading.channels")

#: pages and seconds of one turn of a pull (a task is ended after 60 s), pages after which a list is taken for endless
MAX_PAGES, TURN_SECONDS, ENDLESS = 500, 40.0, 20_000
#: figures of a pool that have been gathered for longer than this are too old to go on with
POOL_AGE = dt.timedelta(hours=1)
#: an order this old that only the pull has brought means that notifications are missing
SILENT_AFTER = dt.timedelta(minutes=5)

State = ChannelAccount.State


def live_accounts() -> list[ChannelAccount]:
    return list(
        ChannelAccount.objects.select_related("sales_channel").filter(state=State.CONNECTED).order_by("pk")
    )


def pull_orders(account_id: int, *, days: int | None = None) -> dict[str, int]:
    """Book every order changed since the last pull (or in the last `days`); counts by outcome.

    A turn ends after `MAX_PAGES` pages or `TURN_SECONDS`; the next one, which is rung at once, goes on where it
    stopped. Raises `ChannelError`; pages booked before it stay booked and the next turn begins behind them.
    """
    account = ChannelAccount.objects.select_related("sales_channel").get(pk=account_id)
    rules = get_connector(account.connector).capabilities
    field = "orders_page" if days is None else "week_page"
    turn = _turn(account, rules, days)
    counts: dict[str, int] = {}
    cursor, pages, missed, whole, asked, looped = turn.cursor, 0, 0, turn.whole, {turn.cursor}, False
    until = time.monotonic() + TURN_SECONDS
    while pages < MAX_PAGES and (not pages or time.monotonic() < until):
        try:
            page = do(account_id, asking.orders(turn.since, cursor))
        except ChannelError as error:
            if turn.cursor and not pages and error.kind is Retry.REJECTED:
                # the channel has forgotten the page: the next turn begins behind the last finished pull
                ChannelAccount.objects.filter(pk=account_id).update(**{field: {}})
                raise ChannelError(Retry.TRANSIENT, f"the page is forgotten: {error.message}") from error
            raise
        pages += 1
        # after an outage the most urgent orders of a page come first
        drafts = sorted(
            page.drafts, key=lambda draft: (draft.ship_by is None, draft.ship_by or draft.placed_at)
        )
        for start in range(0, len(drafts), 100):
            part = drafts[start : start + 100]
            for draft, answer in zip(part, take(account, part, source="poll"), strict=True):
                counts[answer.outcome] = counts.get(answer.outcome, 0) + 1
                if answer.outcome == "error":
                    whole = False
                    _refused(account, draft.external_id, answer.message)
                elif answer.outcome == "created" and draft.placed_at < now() - SILENT_AFTER:
                    missed += 1
        if page.refused:
            whole = False
            _refused(account, f"page of {turn.since}", f"{some(page.refused, 'order')} could not be read")
        cursor = page.cursor
        changes: dict[str, object] = {"last_pull_at": now()}
        # where the finished pages move the beginning of the next turn, it asks from there
        moves = days is None and page.resume > (account.orders_cursor or turn.since)
        if days is None and page.resume:
            changes["orders_cursor"] = page.resume[:255]
        changes[field] = turn.kept("" if moves else cursor, whole, pages) if cursor else {}
        ChannelAccount.objects.filter(pk=account_id).update(**changes)
        looped = bool(cursor) and cursor in asked
        if not cursor or looped:
            break
        asked.add(cursor)
    if whole and not cursor:
        # what it sold before this pull began is in our books now, as far as it shows its orders at once
        pushing.forget_unseen(
            account_id, before=turn.began - dt.timedelta(seconds=rules.visible_after_seconds)
        )
    _watch(account, missed, first=turn.first)
    _watch_end(account, turn, pages, looped=looped, cursor=cursor, field=field)
    return counts


@dataclass(frozen=True, slots=True)
class _Turn:
    """One turn of a pull. `began`, `whole` and `read` (pages) are of the whole pull up to now.

    `first`: it is the account's first pull, whose orders nobody could have been notified of.
    """

    since: str
    began: dt.datetime
    first: bool
    cursor: str = ""
    whole: bool = True
    read: int = 0

    def kept(self, cursor: str, whole: bool, pages: int) -> dict[str, object]:
        """What is stored of it, to go on at `cursor`; without one at the beginning that its pages have moved."""
        return {
            "first": self.first,
            "since": self.since,
            "began": self.began.isoformat(),
            "cursor": cursor,
            "whole": whole,
            "pages": self.read + pages,
        }


def _turn(account: ChannelAccount, rules: Capabilities, days: int | None) -> _Turn:
    kept = account.orders_page if days is None else account.week_page
    if not kept:
        return _Turn(_since(account, rules, days), now(), not account.last_pull_at)
    since = kept["since"] if kept["cursor"] else _since(account, rules, days)
    return _Turn(
        since, dt.datetime.fromisoformat(kept["began"]), kept["first"], kept["cursor"], kept["whole"],
        kept.get("pages", 0),
    )  # fmt: skip


def _watch_end(
    account: ChannelAccount, turn: _Turn, pages: int, *, looped: bool, cursor: str, field: str
) -> None:
    """Pages are left: the next turn reads them, or a person is told that nobody will."""
    key = f"pull:endless:{account.pk}{'' if field == 'orders_page' else ':week'}"
    if not cursor:
        close_item(key, "its orders are read to the end")
        return
    if not looped and turn.read + pages < ENDLESS:
        task = "pull_account" if field == "orders_page" else "pull_week"
        _go_on(account, task, f"orders changed since {turn.since}", turn.read + pages)
        return
    ChannelAccount.objects.filter(pk=account.pk).update(**{field: {}})
    _endless(
        account, key, "orders", f"Orders changed since {turn.since}", looped, turn.read + pages,
        "Those read so far are booked",
    )  # fmt: skip


def _go_on(account: ChannelAccount, task: str, what: str, pages: int) -> None:
    log.info(
        "a pull goes on where it stopped",
        extra={"channel": account.sales_channel.code, "what": what, "pages": pages},
    )
    ring(f"channels.tasks.{task}", str(account.pk))


def _endless(
    account: ChannelAccount, key: str, of: str, what: str, looped: bool, pages: int, done: str
) -> None:
    why = (
        "names a page again that was read before"
        if looped
        else f"still names a further page after {pages:,} pages"
    )
    code = account.sales_channel.code
    raise_item(
        "pull_endless", key, f"{account.sales_channel.name}: its list of {of} has no end",
        detail=f"{what}: the channel {why}. {done}; check how the channel names its further pages, then pull again.",
        object_url=f"/channels/{code}/", channel_code=code,
    )  # fmt: skip


def _since(account: ChannelAccount, rules: Capabilities, days: int | None) -> str:
    if days is not None:
        start = now() - dt.timedelta(days=days)
    elif account.orders_cursor:
        start = dt.datetime.fromisoformat(account.orders_cursor.replace("Z", "+00:00")) - dt.timedelta(
            seconds=rules.overlap_seconds
        )
    else:
        start = now() - dt.timedelta(days=7)
    return start.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _refused(account: ChannelAccount, what: str, message: str) -> None:
    code = account.sales_channel.code
    raise_item(
        "order_refused", f"pull:{account.pk}:{what}"[:160],
        f"{account.sales_channel.name}: order {what} cannot be taken",
        detail=message, object_url=f"/channels/{code}/", channel_code=code,
    )  # fmt: skip


def _watch(account: ChannelAccount, missed: int, *, first: bool) -> None:
    """Orders that only the pull has brought: the notifications are broken."""
    key = f"channel:silent:{account.pk}"
    if not get_connector(account.connector).notifies(account.config) or first:
        return
    if missed:
        code = account.sales_channel.code
        raise_item(
            "channel_silent", key, f"{account.sales_channel.name}: {some(missed, 'order')} came without a notification",
            detail="They were found by polling. Check the webhooks (or the queue) of the account.",
            object_url=f"/channels/{code}/", channel_code=code,
        )  # fmt: skip
    else:
        close_item(key, "notifications arrive again")


# --- queue -----------------------------------------------------------------------------------------


def store_queue(account_id: int, messages: list[tuple[str, Notification]]) -> list[str]:
    """Store queue messages; the handles of those that may now be removed from the queue."""
    account = ChannelAccount.objects.select_related("sales_channel").get(pk=account_id)
    accept(account, [notification for _, notification in messages])
    return [handle for handle, _ in messages]


def poll_queue(account_id: int, *, wait_seconds: int = 0, rounds: int = 10) -> int:
    """Empty an account's queue into the inbox; returns how many messages came. Blocking; the dispatcher has its own."""
    total = 0
    for _ in range(rounds):
        messages = do(account_id, lambda connector, access: connector.poll_queue(access, wait_seconds))
        if not messages:
            break
        handles = store_queue(account_id, messages)
        do(account_id, asking.forget(handles))
        total += len(messages)
    return total


# --- the channel's own warehouse -------------------------------------------------------------------


def pull_pool(account_id: int) -> operations.SnapshotResult | None:
    """Bring the channel's own pool to its figures; None where the account has none or further pages are to be read.

    Figures are booked together, for several of the channel's SKUs may be one of ours: a list that is too long for one
    turn is gathered over several.
    """
    account = ChannelAccount.objects.select_related("sales_channel").get(pk=account_id)
    pool = pool_of(account)
    if pool is None or not get_connector(account.connector).capabilities.fulfilled_by_channel:
        return None
    gathered = _gather(account, pool)
    if gathered is None:
        return None
    read_at, held, unsure, levels = gathered
    skus = dict(
        Listing.objects.filter(
            account=account, fulfilment=Listing.Fulfilment.CHANNEL, sku__isnull=False
        ).values_list("external_sku", "sku_id")
    )
    unknown = sorted(code for code, (sellable, _, _) in levels.items() if code not in skus and sellable)
    key = f"channel:pool:{account_id}"
    if unknown:
        what = "SKU" if len(unknown) == 1 else "SKUs"
        raise_item(
            "pool_unmapped", key, f"{account.sales_channel.name}: {len(unknown)} {what} in its warehouse not mapped",
            detail=", ".join(unknown[:20]), object_url=f"/channels/{account.sales_channel.code}/listings/",
            channel_code=account.sales_channel.code,
        )  # fmt: skip
    else:
        close_item(key, "every SKU is mapped")
    totals: dict[int, operations.PoolFigure] = {}
    for code, (sellable, unsellable, inbound) in levels.items():
        sku_id = skus.get(code)
        if sku_id is None:
            continue
        before = totals.get(sku_id, operations.PoolFigure(sku_id, 0, 0, 0, 0))
        totals[sku_id] = operations.PoolFigure(
            sku_id,
            before.sellable + sellable,
            before.damaged + unsellable,
            0,
            (before.in_transit or 0) + inbound,
        )
    since, _ = mcf.set_aside(pool)
    # on the operator's shelves, but left out of what it can sell; what moved meanwhile is clear with the next figures
    unsure |= {sku_id for sku_id in held.keys() | since.keys() if held.get(sku_id) != since.get(sku_id)}
    totals = {
        sku_id: replace(figure, sellable=figure.sellable + held.get(sku_id, 0))
        for sku_id, figure in totals.items()
        if sku_id not in unsure
    }
    digest = hashlib.sha256(
        repr(sorted((f.sku_id, f.sellable, f.damaged, f.in_transit) for f in totals.values())).encode()
    )
    expected = _expected(account, pool, list(totals))
    result = operations.apply_pool_snapshot(
        warehouse_id=pool.pk, figures=list(totals.values()), taken_at=read_at, actor=actor_for(account),
        key=f"pool:{account_id}:{read_at:%Y%m%dT%H%M%S%f}:{digest.hexdigest()[:8]}",
    )  # fmt: skip
    theirs = {sku_id: figure.sellable for sku_id, figure in totals.items()}
    drift.note_pool(account, expected, theirs, booked=bool(result.changed))
    return result


#: when the reading began, what `mcf.set_aside` said then, and sellable, unsellable and inbound units per channel's SKU
Gathered = tuple[dt.datetime, dict[int, int], set[int], dict[str, list[int]]]


def _gather(account: ChannelAccount, pool: Warehouse) -> Gathered | None:
    """Every page of the pool's figures; None when this turn did not reach the last one."""
    kept = account.pool_page
    if kept and dt.datetime.fromisoformat(kept["began"]) < now() - POOL_AGE:
        kept = {}
    if kept:
        began = dt.datetime.fromisoformat(kept["began"])
        held, unsure = {sku_id: units for sku_id, units in kept["held"]}, set(kept["unsure"])
    else:
        began = now()
        held, unsure = mcf.set_aside(pool)
    cursor, levels, read = kept.get("cursor", ""), dict(kept.get("levels", {})), kept.get("pages", 0)
    pages, asked, looped, until = 0, {cursor}, False, time.monotonic() + TURN_SECONDS
    while pages < MAX_PAGES and (not pages or time.monotonic() < until):
        try:
            page = do(account.pk, asking.pool(cursor))
        except ChannelError as error:
            if kept and not pages and error.kind is Retry.REJECTED:  # it has forgotten the page
                ChannelAccount.objects.filter(pk=account.pk).update(pool_page={})
            raise
        pages += 1
        for level in page.levels:
            before = levels.get(level.external_sku, [0, 0, 0])
            told = (level.sellable, level.unsellable, level.inbound)
            levels[level.external_sku] = [old + new for old, new in zip(before, told, strict=True)]
        cursor = page.cursor
        looped = bool(cursor) and cursor in asked
        if not cursor or looped:
            break
        asked.add(cursor)
    key, pages = f"pool:endless:{account.pk}", read + pages
    if not cursor:
        if account.pool_page:
            ChannelAccount.objects.filter(pk=account.pk).update(pool_page={})
        close_item(key, "its figures are read to the end")
        return began, held, unsure, levels
    if looped or pages >= ENDLESS:
        ChannelAccount.objects.filter(pk=account.pk).update(pool_page={})
        _endless(
            account,
            key,
            "warehouse figures",
            "Figures of its warehouse",
            looped,
            pages,
            "None of them is booked",
        )
        return None
    ChannelAccount.objects.filter(pk=account.pk).update(
        pool_page={
            "began": began.isoformat(), "cursor": cursor, "pages": pages, "levels": levels,
            "held": sorted(held.items()), "unsure": sorted(unsure),
        }
    )  # fmt: skip
    _go_on(account, "pull_pool", "figures of its warehouse", pages)
    return None


def _expected(account: ChannelAccount, pool: Warehouse, sku_ids: list[int]) -> dict[int, int]:
    """What the pool should hold to sell: our books less what the channel sold from it since its last snapshot."""
    levels = StockLevel.objects.filter(warehouse=pool, sku__in=sku_ids, snapshot_at__isnull=False)
    found = {}
    since: dict[int, dt.datetime] = {}
    for level in levels:
        found[level.sku_id] = level.on_hand - level.unavailable
        assert level.snapshot_at is not None  # the filter says so
        since[level.sku_id] = level.snapshot_at
    if since:
        sold = OrderLine.objects.filter(
            sku__in=since, order__channel=account.sales_channel_id, order__fulfilled_by="channel",
            order__imported_at__gt=min(since.values()),
        )  # fmt: skip
        for sku_id, units, pack, at in sold.values_list(
            "sku_id", "quantity", "pack_size", "order__imported_at"
        ):
            if sku_id is not None and at > since[sku_id]:
                found[sku_id] -= units * pack
    return found


# --- returns ---------------------------------------------------------------------------------------


def pull_returns(account_id: int, *, days: int = 2) -> int:
    """Open an RMA for each return that a buyer started on the channel; returns how many are new."""
    account = ChannelAccount.objects.select_related("sales_channel").get(pk=account_id)
    if not get_connector(account.connector).capabilities.returns:
        return 0
    since = now() - dt.timedelta(days=days)
    found = do(account_id, lambda connector, access: connector.list_returns(access, since))
    return sum(open_return(account, entry) for entry in found)


def open_return(account: ChannelAccount, entry: RemoteReturn) -> bool:
    """An RMA for a return that we do not know yet; False where there is nothing new to open."""
    if entry.state == "unreadable":
        code, name = account.sales_channel.code, entry.external_id
        raise_item(
            "return_refused", f"return:{account.pk}:{name or cause_of(entry.note)}",
            f"{account.sales_channel.name}: a return cannot be read",
            detail=f"{f'Return {name}: ' if name else ''}{entry.note}. Open it by hand; the other returns are taken.",
            object_url=f"/channels/{code}/", channel_code=code,
        )  # fmt: skip
        return False
    if entry.state in ("declined", "closed"):
        return False
    order = Order.objects.filter(channel=account.sales_channel, external_id=entry.order_external_id).first()
    if order is None or Rma.objects.filter(order=order, external_id=entry.external_id).exists():
        return False
    return open_from_channel(account, order, entry)


def open_from_channel(account: ChannelAccount, order: Order, entry: RemoteReturn) -> bool:
    """One RMA for one return of the channel; a person is asked where it cannot be opened."""
    lines = dict(OrderLine.objects.filter(order=order).values_list("external_id", "pk"))
    items = [
        rma.ReturnItem(line_id=lines[number], quantity=units, comment=reason[:255])
        for number, units, reason in entry.lines
        if number in lines and units > 0
    ]
    warehouse_id = _return_place(account, order)
    if not items or warehouse_id is None:
        return False
    try:
        rma.open_rma(
            order_id=order.pk, items=items, warehouse_id=warehouse_id, actor=actor_for(account), source="channel",
            external_id=entry.external_id, note=entry.note, approved=entry.state == "approved",
        )  # fmt: skip
    except UserError as error:
        raise_item(
            "return_refused", f"return:{account.pk}:{entry.external_id}", f"{order.number}: a return cannot be opened",
            detail=error.message, object_url=f"/orders/{order.pk}/", channel_code=account.sales_channel.code,
        )  # fmt: skip
        return False
    return True


def _return_place(account: ChannelAccount, order: Order) -> int | None:
    """Where it came from, else the first own warehouse that serves the channel."""
    shipped = (
        order.shipments.exclude(state="cancelled")
        .order_by("pk")
        .values_list("warehouse_id", flat=True)
        .first()
    )
    if shipped is not None:
        return int(shipped)
    return (
        account.sales_channel.warehouses.filter(fulfils=True, warehouse__kind__in=("own", "store", "3pl"))
        .order_by("rank", "pk")
        .values_list("warehouse_id", flat=True)
        .first()
    )
