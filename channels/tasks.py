"""Doorbells of the channels: each takes a subject, drains what its tables say is due, and is harmless to repeat."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable

from django.conf import settings
from django.db.models import Min, Q

from channels import (
    asking,
    blackbox,
    bulk,
    drift,
    effects,
    filedrop,
    inbox,
    mcf,
    pulls,
    pushing,
    silence,
    sync,
    tuning,
)
from channels.connectors.base import ChannelError, Retry, get_connector
from channels.models import BulkPush, ChannelAccount, ChannelEffect, InboxMessage, Listing, StockPush
from channels.session import do
from oms.core import beat
from oms.core.clock import now
from oms.core.doorbell import each, periodic, ring
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.models import ExceptionItem

log = logging.getLogger("lading.channels")

#: notifications bring orders sooner than this
UNSEEN_AFTER = dt.timedelta(seconds=5)


def _quietly(what: str, account_id: int, error: ChannelError) -> None:
    """A channel that does not answer is known by its breaker and its exception item; the next turn tries again."""
    log.info("%s of account %s put off: %s", what, account_id, error.message)


def _chosen(subject: str) -> list[ChannelAccount]:
    accounts = pulls.live_accounts()
    return [account for account in accounts if not subject or str(account.pk) == subject]


def _for_each(accounts: Iterable[ChannelAccount], what: str, work: Callable[[int], object]) -> None:
    """Work on each account; neither one that does not answer nor one whose answer breaks us stops the others."""

    def one(account: ChannelAccount) -> None:
        try:
            work(account.pk)
        except ChannelError as error:
            _quietly(what, account.pk, error)

    each(accounts, one)


# --- rung by news ----------------------------------------------------------------------------------


def drain_inbox(subject: str) -> None:
    inbox.drain(int(subject))


def drain_effects(subject: str) -> None:
    effects.drain(int(subject))


@periodic(seconds=60)
def find_oversells(subject: str) -> None:
    """Look into orders that came in short; by the clock for those whose bell was lost."""
    blackbox.drain()


def _pull(account_id: int, days: int | None = None) -> None:
    """Orders are asked for, or taken from the account's folder."""
    connector = ChannelAccount.objects.values_list("connector", flat=True).get(pk=account_id)
    if get_connector(connector).capabilities.files:
        filedrop.collect(account_id)
    else:
        pulls.pull_orders(account_id, days=days)


def pull_account(subject: str) -> None:
    """Orders that changed. What the channel refuses it will refuse again, and no breaker tells of it: a person must."""
    key = f"pull:refused:{subject}"
    try:
        _pull(int(subject))
    except ChannelError as error:
        _quietly("order pull", int(subject), error)
        if error.kind is Retry.REJECTED:
            account = ChannelAccount.objects.select_related("sales_channel").get(pk=subject)
            code = account.sales_channel.code
            raise_item(
                "pull_refused", key, f"{account.sales_channel.name}: its orders cannot be read",
                detail=f"{error.message} New orders come by notifications only, if at all, until this is mended.",
                severity=ExceptionItem.Severity.HIGH, object_url=f"/channels/{code}/", channel_code=code,
            )  # fmt: skip
        return
    close_item(key, "its orders are read again")


def pull_week(subject: str) -> None:
    try:
        _pull(int(subject), days=7)
    except ChannelError as error:
        _quietly("weekly order pull", int(subject), error)


def read_back_account(subject: str) -> None:
    try:
        drift.read_back(int(subject))
    except ChannelError as error:
        _quietly("read-back", int(subject), error)


# --- by the clock ----------------------------------------------------------------------------------


@periodic(seconds=10)
def ring_inboxes(subject: str) -> None:
    """Messages that nobody was called for, whose bell was lost, or whose next attempt has come."""
    due = InboxMessage.objects.filter(state=InboxMessage.State.RECEIVED, next_attempt_at__lte=now())
    for account_id in due.order_by().values_list("account", flat=True).distinct():
        ring("channels.tasks.drain_inbox", str(account_id))


@periodic(seconds=5)
def ring_effects(subject: str) -> None:
    """Effects whose proof, look-up or next attempt is due."""
    at = now()
    due = ChannelEffect.objects.filter(
        Q(lease_until__isnull=True) | Q(lease_until__lte=at), next_attempt_at__lte=at,
        state__in=(ChannelEffect.State.PLANNED, ChannelEffect.State.SENT, ChannelEffect.State.IN_DOUBT),
    )  # fmt: skip
    for account_id in due.order_by().values_list("account", flat=True).distinct():
        ring("channels.tasks.drain_effects", str(account_id))


@periodic(seconds=60)
def pull_orders(subject: str) -> None:
    """Ring a pull for every account whose turn it is."""
    at = now()
    for account in _chosen(subject):
        every = dt.timedelta(seconds=get_connector(account.connector).capabilities.poll_seconds)
        if account.last_pull_at is None or account.last_pull_at <= at - every:
            ring("channels.tasks.pull_account", str(account.pk))
            if account.week_page:  # the weekly one stopped before its end
                ring("channels.tasks.pull_week", str(account.pk))


@periodic(seconds=86_400)
def pull_weeks(subject: str) -> None:
    """Once a day the whole last week: what every other way has missed."""
    for account in _chosen(subject):
        ring("channels.tasks.pull_week", str(account.pk))


@periodic(seconds=15)
def poll_queues(subject: str) -> None:
    """Empty notification queues while no dispatcher does it."""
    age = beat.age(beat.DISPATCHER)
    if age is not None and age <= sync.DISPATCHER_SILENT and not subject:
        return
    queues = [
        account
        for account in _chosen(subject)
        if get_connector(account.connector).capabilities.queue and account.config.get("queue_url")
    ]
    _for_each(queues, "queue", pulls.poll_queue)


@periodic(seconds=10)
def sweep(subject: str) -> None:
    """Push what is stale while no dispatcher does it."""
    sync.sweep()


@periodic(seconds=5)
def seek_unseen(subject: str) -> None:
    """Units that a channel sold and no order has brought: read its orders; free what has waited too long.

    A list that lags is asked no more often than twice in its lag; listings whose last push may have arrived or not
    are no reason, for no pull frees them.
    """
    pushing.give_up_unseen()
    at = now()
    unseen = Listing.objects.filter(
        unseen_since__lte=at - UNSEEN_AFTER, last_error="", account__state=ChannelAccount.State.CONNECTED
    )
    oldest = dict(unseen.order_by().values_list("account").annotate(told=Min("acked_at")))
    for account in _chosen(subject):
        if account.pk in oldest:
            lag = dt.timedelta(seconds=get_connector(account.connector).capabilities.visible_after_seconds)
            asked = account.last_pull_at is not None and account.last_pull_at > at - lag / 2
            if oldest[account.pk] <= at - lag and not asked:
                ring("channels.tasks.pull_account", str(account.pk))


@periodic(seconds=30)
def poll_feeds(subject: str) -> None:
    """Read the results of bulk files."""
    _for_each(_with_files(subject), "bulk result", sync.read_bulk)


@periodic(seconds=5)
def watch_files(subject: str) -> None:
    """Stock files that were fetched count; those that lie there are replaced when something newer is known."""
    fetched = [
        account
        for account in _with_files(subject)
        if get_connector(account.connector).capabilities.bulk_fetched
    ]
    _for_each(fetched, "stock file", sync.read_bulk)


def _with_files(subject: str) -> list[ChannelAccount]:
    """Accounts with a bulk file whose result is not known."""
    waiting = BulkPush.objects.filter(state__in=(BulkPush.State.SENT, BulkPush.State.PLANNED))
    ids = set(waiting.order_by().values_list("account", flat=True).distinct())
    return [account for account in _chosen(subject) if account.pk in ids] if ids else []


@periodic(seconds=900)
def pull_pool(subject: str) -> None:
    """Bring the pools that channels operate to their figures: each in a task of its own, for a long one takes all."""
    if subject:
        _for_each(_chosen(subject), "pool", pulls.pull_pool)
        return
    for account in _chosen(""):
        if get_connector(account.connector).capabilities.fulfilled_by_channel:
            ring("channels.tasks.pull_pool", str(account.pk))


@periodic(seconds=300)
def poll_outbound(subject: str) -> None:
    """What became of orders that a channel's own warehouse ships for other channels."""
    _for_each(_chosen(subject), "outbound orders", mcf.poll)


@periodic(seconds=900)
def pull_returns(subject: str) -> None:
    """Open RMAs for returns that buyers started on a channel."""
    _for_each(_chosen(subject), "returns", pulls.pull_returns)


@periodic(seconds=600)
def read_back(subject: str) -> None:
    """Compare what channels show with what we told them."""
    for account in _chosen(subject):
        if drift.due(account.pk, limit=1):
            ring("channels.tasks.read_back_account", str(account.pk))


@periodic(seconds=86_400)
def tune_buffers(subject: str) -> None:
    """Buffers that follow from yesterday's latency and the last weeks' sales."""
    _for_each(_chosen(subject), "buffers", tuning.tune)


@periodic(seconds=300)
def watch_silence(subject: str) -> None:
    """No notification for three times the usual gap: poll at once and say so."""
    for account in _chosen(subject):
        if silence.watch(account):
            ring("channels.tasks.pull_account", str(account.pk))


@periodic(seconds=86_400)
def check_subscriptions(subject: str) -> None:
    """Channels delete subscriptions that failed: see that they are there, and put them back."""
    for account in _chosen(subject):
        if not get_connector(account.connector).notifies(account.config):
            continue
        key = f"channel:subscriptions:{account.pk}"
        try:
            made = do(
                account.pk,
                asking.subscriptions(hook_address(account)),
            )
        except ChannelError as error:
            code = account.sales_channel.code
            raise_item(
                "subscriptions", key, f"{account.sales_channel.name}: notifications could not be set up",
                detail=error.message, object_url=f"/channels/{code}/", channel_code=code,
            )  # fmt: skip
            continue
        close_item(key, f"{len(made)} put back" if made else "all there")


@periodic(seconds=86_400)
def tidy(subject: str) -> None:
    """Remove messages after their replay window and pushes after the longest report."""
    inbox.purge()
    filedrop.tidy()
    StockPush.objects.filter(answered_at__lt=now() - dt.timedelta(days=30)).delete()
    BulkPush.objects.filter(finished_at__lt=now() - dt.timedelta(days=30)).delete()


def hook_address(account: ChannelAccount) -> str:
    """Where a channel knocks."""
    return f"{settings.BASE_URL}/hooks/{account.hook_key}/"


#: registered in the workers as well
RULES_JOB = bulk.run_job
