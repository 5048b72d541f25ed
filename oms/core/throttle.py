"""Log-in throttle: 5 failures per 15 minutes for one account and address, 50 per hour for one address."""

from __future__ import annotations

import hashlib

from oms.core import limits
from oms.core.limits import Rate

_PAIR = Rate(5 / 900, 5)
_ADDRESS = Rate(50 / 3600, 50)


def _keys(username: str, address: str) -> list[tuple[str, Rate]]:
    pair = hashlib.sha256(f"{username.casefold()}\0{address}".encode()).hexdigest()[:32]
    return [(f"login:{pair}", _PAIR), (f"login:{address}", _ADDRESS)]


def seconds_to_wait(username: str, address: str) -> int:
    """0 when an attempt may be made, else the seconds to wait. Asking costs nothing."""
    waits = [limits.take(key, 0.999, rate, spend=False) for key, rate in _keys(username, address)]
    return int(max(waits) + 0.999)


def failed(username: str, address: str) -> None:
    """Count a failed attempt."""
    for key, rate in _keys(username, address):
        limits.take(key, 1.0, rate)


def succeeded(username: str, address: str) -> None:
    """The right password gives the account's attempts back; the address's stay counted."""
    from oms.core.models import TokenBucket

    TokenBucket.objects.filter(pk=_keys(username, address)[0][0]).delete()
