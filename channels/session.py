"""Drives a connector's operations through the one door: token first, one renewal on refusal, no transaction held."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import transaction
from django.db.models import Q

from channels.connectors.base import Access, ChannelError, Connector, Op, Retry, Tokens, get_connector
from channels.models import ChannelAccount
from oms.core import http, limits
from oms.core.clock import now
from oms.core.db import in_db
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.http import HttpFailure, Kind
from oms.core.models import ExceptionItem

T = TypeVar("T")
Make = Callable[[Connector, Access], Op[T]]

_KINDS = {
    Kind.AUTH: Retry.AUTH,
    Kind.THROTTLED: Retry.THROTTLED,
    Kind.TRANSIENT: Retry.TRANSIENT,
    Kind.BREAKER_OPEN: Retry.TRANSIENT,
    Kind.REJECTED: Retry.REJECTED,
    Kind.REFUSED: Retry.REJECTED,
    Kind.TIMEOUT_AFTER_SEND: Retry.IN_DOUBT,
}
_LEASE = dt.timedelta(seconds=30)
_WAITS = 50  # of 0.2 s for a token that another process is fetching


def translate(failure: HttpFailure) -> ChannelError:
    """A failed request in the words of the port."""
    code = "BREAKER_OPEN" if failure.kind is Kind.BREAKER_OPEN else str(failure.status or "")
    return ChannelError(_KINDS[failure.kind], failure.message, code=code, retry_after=failure.retry_after)


def drive(operation: Op[T]) -> T:
    """Run an operation to its end, blocking. Raises `ChannelError`."""
    try:
        request = next(operation)
        while True:
            try:
                answer = http.call(request)
            except HttpFailure as failure:
                request = operation.throw(translate(failure))
            else:
                request = operation.send(answer)
    except StopIteration as done:
        value: T = done.value
        return value
    except HttpFailure as failure:  # an answer that was not JSON, found while reading it
        raise translate(failure) from failure


async def adrive(operation: Op[T]) -> T:
    """As `drive`, on the event loop."""
    try:
        request = next(operation)
        while True:
            try:
                answer = await http.acall(request)
            except HttpFailure as failure:
                request = operation.throw(translate(failure))
            else:
                request = operation.send(answer)
    except StopIteration as done:
        value: T = done.value
        return value
    except HttpFailure as failure:
        raise translate(failure) from failure


def access_of(account: ChannelAccount) -> Access:
    """A copy of what operations need. An expired token is left out."""
    fresh = account.tokens_expire_at is None or account.tokens_expire_at > now()
    return Access(
        account_id=account.pk,
        connector=account.connector,
        name=f"{account.connector}:{account.pk}",
        config=dict(account.config),
        credentials=dict(account.credentials or {}),
        tokens=dict(account.tokens or {}) if fresh else {},
    )


def _load(account_id: int) -> Access:
    return access_of(ChannelAccount.objects.get(pk=account_id))


def _claim_renewal(account_id: int, stale_token: str) -> Access | None:
    """None = we hold the lease and must fetch; else the access with a token that somebody else fetched."""
    access = _load(account_id)
    if access.tokens.get("access_token") and access.tokens["access_token"] != stale_token:
        return access
    at = now()
    free = Q(refresh_lease_until__isnull=True) | Q(refresh_lease_until__lte=at)
    claimed = ChannelAccount.objects.filter(free, pk=account_id).update(refresh_lease_until=at + _LEASE)
    return None if claimed else access


def _keep(account_id: int, tokens: Tokens) -> Access:
    with transaction.atomic():
        account = ChannelAccount.objects.get(pk=account_id)
        account.tokens, account.tokens_expire_at = dict(tokens.values), tokens.expires_at
        account.refresh_lease_until = None
        if tokens.credentials:
            account.credentials = {**(account.credentials or {}), **tokens.credentials}
        account.save(update_fields=["tokens", "tokens_expire_at", "refresh_lease_until", "credentials"])
    limits.reset_breaker(f"channel:{account_id}")
    return access_of(account)


def _let_go(account_id: int) -> None:
    ChannelAccount.objects.filter(pk=account_id).update(refresh_lease_until=None)


def needs_person(account_id: int, reason: str) -> None:
    """Credentials are refused for good: nothing is sent until a person connects the account again."""
    changed = ChannelAccount.objects.filter(
        pk=account_id, state__in=(ChannelAccount.State.CONNECTED, ChannelAccount.State.SETUP)
    ).update(state=ChannelAccount.State.NEEDS_AUTH, state_reason=reason[:255])
    if changed:
        account = ChannelAccount.objects.select_related("sales_channel").get(pk=account_id)
        raise_item(
            "channel_auth", f"channel:auth:{account_id}", f"{account.sales_channel.name} needs to be authorised again",
            detail=f"{reason} Nothing is lost: pushes and orders go on after the account is connected again.",
            severity=ExceptionItem.Severity.URGENT, object_url=f"/channels/{account.sales_channel.code}/",
            channel_code=account.sales_channel.code,
        )  # fmt: skip


def proved(account_id: int) -> None:
    """The credentials work: the account is connected and its trouble is closed."""
    ChannelAccount.objects.filter(pk=account_id).exclude(state=ChannelAccount.State.DISABLED).update(
        state=ChannelAccount.State.CONNECTED, state_reason=""
    )
    limits.reset_breaker(f"channel:{account_id}")
    limits.reset_breaker(f"channel:{account_id}:token")
    close_item(f"channel:auth:{account_id}", "the account answers again")


def do(account_id: int, make: Make[T]) -> T:
    """Run one operation for an account, blocking. Raises `ChannelError`; AUTH only after a renewed token failed too."""
    access = _load(account_id)
    connector = get_connector(access.connector)
    renews = connector.token_lifetime(access)
    try:
        if renews and not access.tokens.get("access_token"):
            access = _renew(connector, access)
            renews = False
        try:
            return drive(make(connector, access))
        except ChannelError as error:
            if error.kind is not Retry.AUTH or not renews:
                raise
        access = _renew(connector, access)
        return drive(make(connector, access))
    except ChannelError as error:
        if error.kind is Retry.AUTH:
            needs_person(account_id, error.message)
        raise


def _renew(connector: Connector, access: Access) -> Access:
    stale = str(access.tokens.get("access_token", ""))
    for _ in range(_WAITS):
        found = _claim_renewal(access.account_id, stale)
        if found is None:
            try:
                return _keep(access.account_id, drive(connector.refresh_token(access)))
            except ChannelError as error:
                _let_go(access.account_id)
                raise _refused_grant(error) from error
        if found.tokens.get("access_token") not in (None, "", stale):
            return found
        time.sleep(0.2)
    raise ChannelError(Retry.TRANSIENT, "another process is still fetching a token")


async def ado(account_id: int, make: Make[T], *, access: Access | None = None) -> T:
    """As `do`, on the event loop; database work runs in the pool of `in_db`."""
    if access is None:
        access = await in_db(_load, account_id)
    connector = get_connector(access.connector)
    renews = connector.token_lifetime(access)
    try:
        if renews and not access.tokens.get("access_token"):
            access = await _arenew(connector, access)
            renews = False
        try:
            return await adrive(make(connector, access))
        except ChannelError as error:
            if error.kind is not Retry.AUTH or not renews:
                raise
        access = await _arenew(connector, access)
        return await adrive(make(connector, access))
    except ChannelError as error:
        if error.kind is Retry.AUTH:
            await in_db(needs_person, account_id, error.message)
        raise


async def _arenew(connector: Connector, access: Access) -> Access:
    stale = str(access.tokens.get("access_token", ""))
    for _ in range(_WAITS):
        found = await in_db(_claim_renewal, access.account_id, stale)
        if found is None:
            try:
                return await in_db(_keep, access.account_id, await adrive(connector.refresh_token(access)))
            except ChannelError as error:
                await in_db(_let_go, access.account_id)
                raise _refused_grant(error) from error
        if found.tokens.get("access_token") not in (None, "", stale):
            return found
        await asyncio.sleep(0.2)
    raise ChannelError(Retry.TRANSIENT, "another process is still fetching a token")


def _refused_grant(error: ChannelError) -> ChannelError:
    """A token request that is refused (400 invalid_grant) means that the authorisation is gone."""
    if error.kind is Retry.REJECTED:
        return ChannelError(Retry.AUTH, error.message, code=error.code)
    return error
