"""Operations with their arguments bound, for loops that ask a channel page by page."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from channels.connectors.base import (
    ListingRef,
    OrderPage,
    OutboundPage,
    OutboundState,
    PoolPage,
    PushItem,
    PushResult,
    Subscription,
)
from channels.session import Make


def orders(since: str, cursor: str) -> Make[OrderPage]:
    return lambda connector, access: connector.list_orders(access, since, cursor)


def pool(cursor: str) -> Make[PoolPage]:
    """The channel's own warehouse, whole."""
    return lambda connector, access: connector.pool_levels(access, None, cursor)


def quantities(refs: Sequence[ListingRef]) -> Make[dict[int, int]]:
    return lambda connector, access: connector.read_quantities(access, refs)


def bulk_result(handle: str, items: Sequence[PushItem]) -> Make[list[PushResult] | None]:
    return lambda connector, access: connector.bulk_result(access, handle, items)


def forget(handles: Sequence[str]) -> Make[None]:
    """Take stored messages off the queue."""
    return lambda connector, access: connector.forget_queue(access, handles)


def subscriptions(address: str) -> Make[list[Subscription]]:
    return lambda connector, access: connector.ensure_subscriptions(access, address)


def outbound(reference: str) -> Make[OutboundState | None]:
    return lambda connector, access: connector.read_outbound(access, reference)


def changed_outbound(since: dt.datetime, cursor: str) -> Make[OutboundPage]:
    return lambda connector, access: connector.changed_outbound(access, since, cursor)
