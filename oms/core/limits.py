"""Rate budgets and circuit breakers of other systems, in the database so that all processes see them.

Each process keeps a short copy: tokens are taken in small lots and a breaker's state is read once a second,
so that a fast pusher pays few round trips.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from dataclasses import dataclass

from django.db import transaction
from django.db.models import F

from oms.core.clock import now
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.models import CircuitBreaker, ExceptionItem, TokenBucket
from oms.core.outbox import emit

LONGEST_PAUSE = dt.timedelta(minutes=15)

# --- token bucket ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """Requests per second and how many may go at once. Stay 20 % below the published limit."""

    per_second: float
    burst: float


DEFAULT_RATE = Rate(20, 40)
_LOT_SECONDS = 0.25  # how much of a budget one process takes at a time
_LOT_VALID = 1.0


@dataclass
class _Lot:
    tokens: float
    until: float


_lots: dict[str, _Lot] = {}
_lots_lock = threading.Lock()


def take_cached(key: str, cost: float) -> bool:
    """Take from this process's lot; False when it is used up."""
    with _lots_lock:
        lot = _lots.get(key)
        if lot is None or lot.until < time.monotonic() or lot.tokens < cost:
            return False
        lot.tokens -= cost
        return True


def take(
    key: str, cost: float = 1.0, rate: Rate = DEFAULT_RATE, *, lot: bool = False, spend: bool = True
) -> float:
    """Take `cost` tokens; returns 0 when taken, else the seconds to wait before asking again.

    Without `spend` it only answers whether they are there.

    With `lot`, this process takes a quarter of a second's budget at once where there is enough.
    """
    if lot and take_cached(key, cost):
        return 0.0
    for _ in range(10):
        at = now()
        row = TokenBucket.objects.filter(pk=key).first()
        if row is None:
            row = TokenBucket(
                key=key,
                tokens=rate.burst,
                per_second=rate.per_second,
                burst=max(rate.burst, 1),
                updated_at=at,
            )
            TokenBucket.objects.bulk_create([row], ignore_conflicts=True)
            continue
        if row.paused_until and row.paused_until > at:
            return (row.paused_until - at).total_seconds()
        passed = max((at - row.updated_at).total_seconds(), 0.0)
        # a budget cut by a 429 grows back by a tenth each second, up to what is declared
        per_second = row.per_second
        if per_second < rate.per_second:
            per_second = min(rate.per_second, per_second * 1.1 ** min(passed, 60))
        tokens = min(max(row.burst, cost), row.tokens + passed * per_second)
        if tokens < cost:
            return (cost - tokens) / per_second
        if not spend:
            return 0.0
        wanted = max(cost, min(tokens, per_second * _LOT_SECONDS)) if lot else cost
        changed = TokenBucket.objects.filter(pk=key, updated_at=row.updated_at, tokens=row.tokens).update(
            tokens=tokens - wanted,
            per_second=per_second,
            updated_at=max(at, row.updated_at),
        )
        if changed:
            if wanted > cost:
                with _lots_lock:
                    _lots[key] = _Lot(wanted - cost, time.monotonic() + _LOT_VALID)
            return 0.0
    return 0.05  # many processes at one bucket: come back


def hint(
    key: str, *, per_second: float | None = None, burst: float | None = None, remaining: float | None = None
) -> None:
    """The other side told its limit (response headers): believe it instead of what we declared."""
    at = now()
    changes: dict[str, object] = {}
    if per_second is not None and per_second > 0:
        changes["per_second"] = per_second
    if burst is not None and burst >= 1:
        changes["burst"] = burst
    if remaining is not None and remaining >= 0:
        changes |= {"tokens": remaining, "updated_at": at}
    if changes and not TokenBucket.objects.filter(pk=key).update(**changes):
        row = TokenBucket(key=key, tokens=1.0, per_second=1.0, burst=1.0, updated_at=at)
        for name, value in changes.items():
            setattr(row, name, value)
        TokenBucket.objects.bulk_create([row], ignore_conflicts=True)
    with _lots_lock:
        _lots.pop(key, None)


def throttled(key: str, retry_after: float | None, rate: Rate = DEFAULT_RATE) -> float:
    """A 429: pause as asked (2 s when it does not say, 15 min at most) and halve the budget. Returns the pause."""
    pause = min(max(retry_after if retry_after is not None else 2.0, 0.0), LONGEST_PAUSE.total_seconds())
    until = now() + dt.timedelta(seconds=pause)
    row = TokenBucket(
        key=key,
        tokens=0.0,
        per_second=rate.per_second,
        burst=max(rate.burst, 1),
        updated_at=now(),
        paused_until=until,
    )
    TokenBucket.objects.bulk_create([row], ignore_conflicts=True)
    TokenBucket.objects.filter(pk=key).update(
        tokens=0.0, per_second=F("per_second") * 0.5, paused_until=until
    )
    TokenBucket.objects.filter(pk=key, per_second__lt=0.05).update(per_second=0.05)
    with _lots_lock:
        _lots.pop(key, None)
    return pause


# --- circuit breaker -------------------------------------------------------------------------------

FAILURES_IN_A_ROW = 5
REFUSALS_IN_A_ROW = 3
WINDOW, WINDOW_CALLS = dt.timedelta(seconds=60), 20
FIRST_PAUSE, LONGEST_OPEN = 30, 600
_FRESH = 1.0


@dataclass
class _Copy:
    read_at: float
    open: bool
    clean: bool  # nothing to reset on success
    calls: int = 0  # successes not yet written


_copies: dict[str, _Copy] = {}


@dataclass(frozen=True)
class Stopped:
    """Why a call may not go out, and after how many seconds to ask again (None = when a person has acted)."""

    reason: str
    retry_after: float | None


def forget_copies() -> None:
    """Drop what this process remembers: after a fork, and between tests."""
    with _lots_lock:
        _lots.clear()
    _copies.clear()


def open_cached(key: str) -> bool:
    """True when the copy is fresh and says that calls may go out."""
    copy = _copies.get(key)
    return copy is not None and not copy.open and time.monotonic() - copy.read_at < _FRESH


def may_call(key: str) -> Stopped | None:
    """None when calls may go out. After a pause exactly one caller gets through: the probe."""
    row = CircuitBreaker.objects.filter(pk=key).first()
    old = _copies.get(key)
    copy = _copies[key] = _Copy(time.monotonic(), False, True, old.calls if old else 0)
    if row is None:
        return None
    copy.clean = row.failures == 0 and row.times_opened == 0 and not row.blocked
    at = now()
    if row.blocked:
        copy.open = True
        return Stopped(row.reason or "Credentials were refused.", None)
    if row.open_until is None:
        return None
    copy.open = True  # also while the probe is out: nobody else may rely on the copy
    if row.open_until > at:
        return Stopped(row.reason, (row.open_until - at).total_seconds())
    probe = CircuitBreaker.objects.filter(pk=key, open_until=row.open_until, blocked=False)
    if probe.update(open_until=at + dt.timedelta(seconds=FIRST_PAUSE)):
        return None
    return Stopped(row.reason, 1.0)


def paused(prefix: str) -> list[str]:
    """Keys that begin with `prefix` and wait out a pause after failures; blocked ones wait for a person instead."""
    rows = CircuitBreaker.objects.filter(key__startswith=prefix, open_until__gt=now(), blocked=False)
    return list(rows.order_by("key").values_list("key", flat=True))


def end_pause(key: str) -> None:
    """Let the next call through as the probe, before its time. When it fails, the pause goes on doubling."""
    at = now()
    CircuitBreaker.objects.filter(pk=key, open_until__gt=at, blocked=False).update(open_until=at)


def needs_reset(key: str) -> bool:
    """Count a success; True when the database must hear of it."""
    copy = _copies.setdefault(key, _Copy(time.monotonic(), False, True))
    copy.calls += 1
    return copy.open or not copy.clean


def succeeded(key: str) -> None:
    """The other side works: close the breaker and its exception item."""
    reset_breaker(key)


def failed(key: str, reason: str, *, refused: bool = False) -> None:
    """One failure (or refused credentials). Opens the breaker after 5 in a row, or when more than half of at least
    20 calls within a minute failed; after 3 refusals in a row it stays open until credentials change."""
    copy = _copies.pop(key, None)
    successes = copy.calls if copy else 0
    at = now()
    CircuitBreaker.objects.bulk_create([CircuitBreaker(key=key, window_started_at=at)], ignore_conflicts=True)
    CircuitBreaker.objects.filter(pk=key, window_started_at__lt=at - WINDOW).update(
        window_started_at=at, window_calls=0, window_failures=0
    )
    CircuitBreaker.objects.filter(pk=key).update(
        failures=F("failures") + 1,
        window_calls=F("window_calls") + successes + 1,
        window_failures=F("window_failures") + 1,
        reason=reason[:200],
    )
    row = CircuitBreaker.objects.get(pk=key)
    if refused:
        if row.failures >= REFUSALS_IN_A_ROW and CircuitBreaker.objects.filter(pk=key, blocked=False).update(
            blocked=True
        ):
            raise_item(
                "credentials_refused",
                f"breaker:{key}",
                f"{key}: credentials are refused",
                detail=f"{reason} Calls are paused until the credentials are changed.",
                severity=ExceptionItem.Severity.HIGH,
            )
        return
    half = row.window_calls >= WINDOW_CALLS and row.window_failures * 2 > row.window_calls
    probing = row.times_opened > 0
    if not (row.failures >= FAILURES_IN_A_ROW or half or probing):
        return
    pause = min(FIRST_PAUSE * 2 ** min(row.times_opened, 10), LONGEST_OPEN)
    CircuitBreaker.objects.filter(pk=key, times_opened=row.times_opened).update(
        open_until=at + dt.timedelta(seconds=pause), times_opened=F("times_opened") + 1
    )
    raise_item(
        "connection_down",
        f"breaker:{key}",
        f"{key}: calls fail and are paused",
        detail=f"{reason} Next attempt within {pause} s. Nothing is lost: what is due goes out afterwards.",
        severity=ExceptionItem.Severity.HIGH,
    )


def reset_breaker(key: str) -> None:
    """Let calls out again: after a success, and whenever the account's credentials change.

    One that was open tells so ("breaker.closed", the key), so that what waited out its pause need not wait longer.
    """
    _copies.pop(key, None)
    with transaction.atomic():
        if CircuitBreaker.objects.filter(pk=key, open_until__isnull=False).update(open_until=None):
            emit("breaker.closed", key)
        changed = CircuitBreaker.objects.filter(pk=key).update(
            failures=0, window_calls=0, window_failures=0, open_until=None, times_opened=0, blocked=False, reason=""
        )  # fmt: skip
    if changed:
        close_item(f"breaker:{key}", "calls get through again")
