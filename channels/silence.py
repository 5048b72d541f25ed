"""A channel that has fallen silent: its notifications stopped although it usually sends them often."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from channels.connectors.base import get_connector
from channels.models import ChannelAccount, InboxMessage
from oms.core.clock import now
from oms.core.exceptions_inbox import close_item, raise_item

#: so many times the usual gap is silence
TIMES = 3
#: shorter gaps are noise: nobody is called for a quiet quarter of an hour
LEAST = dt.timedelta(minutes=15)
#: messages by which the usual gap is judged
JUDGED = 50
ENOUGH = 10


def limit(arrivals: Sequence[dt.datetime]) -> dt.timedelta | None:
    """How long the channel may be quiet, from its newest arrivals in any order (pure); None = too few to tell.

    The usual gap is the one that 19 of 20 do not exceed: a shop that sleeps at night is not silent.
    """
    times = sorted(arrivals)
    if len(times) < ENOUGH:
        return None
    gaps = sorted(later - earlier for earlier, later in zip(times, times[1:], strict=False))
    usual = gaps[int(len(gaps) * 0.95) - 1]
    return max(TIMES * usual, LEAST)


def watch(account: ChannelAccount) -> bool:
    """True while the account is silent beyond its limit; the exception item opens and closes by itself."""
    if not get_connector(account.connector).notifies(account.config):
        return False
    arrivals = list(
        InboxMessage.objects.filter(account=account)
        .order_by("-received_at")
        .values_list("received_at", flat=True)[:JUDGED]
    )
    allowed = limit(arrivals)
    key = f"channel:quiet:{account.pk}"
    quiet = now() - max(arrivals) if arrivals else dt.timedelta(0)
    if allowed is None or quiet <= allowed:
        close_item(key, "notifications arrive again")
        return False
    code, minutes = account.sales_channel.code, int(quiet.total_seconds() // 60)
    raise_item(
        "channel_quiet", key, f"{account.sales_channel.name} has sent nothing for {minutes} min",
        detail=f"Usually it is heard of within {int(allowed.total_seconds() // 60 // TIMES)} min. Its orders are "
        "polled meanwhile; check the webhooks (or the queue) of the account.",
        object_url=f"/channels/{code}/", channel_code=code,
    )  # fmt: skip
    return True
