"""Where requests may go: host allow-lists, OMS_HOST_MAP, and the guard against server-side request forgery."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from django.conf import settings

Resolver = Callable[[str, int], list[str]]

#: Python calls these global, yet a NAT64 gateway turns them into any IPv4 address
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_SIX_TO_FOUR = ipaddress.ip_network("2002::/16")


class Refused(ValueError):
    """The address is not allowed; the text says why."""


def host_matches(host: str, patterns: Collection[str]) -> bool:
    """Exact names, or "*.example.com" for every name below."""
    return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in patterns)


def mapped(host: str) -> str:
    """The base URL that OMS_HOST_MAP gives for a host, empty when none. "{host}" in it stands for the name."""
    table: dict[str, str] = settings.HOST_MAP
    for pattern in (host, *(name for name in table if name.startswith("*."))):
        if pattern in table and host_matches(host, (pattern,)):
            return table[pattern].replace("{host}", host).rstrip("/")
    return ""


def is_public(address: str) -> bool:
    """True for an address on the open internet, whatever form it hides in."""
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None:
            return False  # tunnels and mapped forms: no honest shop needs them
        if any(ip in network for network in _NAT64) or ip in _SIX_TO_FOUR:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host, by the system's resolver."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Refused(f"The host '{host}' cannot be found. Check the address.") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


_checked: dict[str, tuple[float, str]] = {}
_lock = threading.Lock()


def checked_address(url: str, resolver: Resolver = resolve, keep_seconds: float = 30) -> str:
    """The public address to connect to for a URL that a user typed in.

    https on port 443 only, no user name in it, every resolved address public; the caller connects to exactly
    this address, so a second answer of the name server changes nothing. Raises `Refused`.
    """
    host = check_user_url(url)
    with _lock:
        until, address = _checked.get(host, (0.0, ""))
    if resolver is resolve and until > time.monotonic():
        return address
    addresses = resolver(host, 443)
    private = [address for address in addresses if not is_public(address)]
    if private or not addresses:
        raise Refused(
            f"The host '{host}' leads to the private address {(private or ['–'])[0]}: use a public one."
        )
    if resolver is resolve:
        with _lock:
            if len(_checked) > 500:
                _checked.clear()
            _checked[host] = (time.monotonic() + keep_seconds, addresses[0])
    return addresses[0]


def check_user_url(url: str) -> str:
    """The host of a URL that a user typed in, when its form is allowed. Raises `Refused`. Resolves nothing."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower().rstrip("."), parts.port
    except ValueError as error:
        raise Refused("The address cannot be read: use a form such as https://shop.example.com.") from error
    if parts.scheme != "https":
        raise Refused("The address must begin with https://.")
    if port not in (None, 443):
        raise Refused("The address must use port 443.")
    if parts.username or parts.password:
        raise Refused("The address must not hold a user name or password.")
    if not host or any(ord(char) < 33 for char in host):
        raise Refused("The address has no host.")
    return host
