"""API tokens: `oms_<prefix>_<secret>`, a 256-bit random secret of which only the SHA-256 is kept."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ipaddress
import secrets
import string
from collections.abc import Sequence

from django.db import transaction

from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import NotAllowed, NotFound, UserError
from oms.core.models import ApiToken, User
from oms.core.roles import SCOPES

YEAR = dt.timedelta(days=365)
_ALPHABET = string.ascii_lowercase + string.digits


def digest_of(secret: str) -> str:
    """A fast hash is right here: the secret is random and 256 bits long."""
    return hashlib.sha256(secret.encode()).hexdigest()


def issue(
    user: User,
    name: str,
    scopes: Sequence[str],
    *,
    actor: Actor,
    warehouses: Sequence[str] = (),
    channels: Sequence[str] = (),
    networks: Sequence[str] = (),
    valid_for: dt.timedelta = YEAR,
    within: ApiToken | None = None,
) -> tuple[ApiToken, str]:
    """Make a token; returns it with its full text, which is never shown again.

    `within` is a token that asks for it: `NotAllowed` when the new one would reach further.
    Raises `UserError` for an empty name, an unknown scope, a malformed network or a validity of none or over 2 years.
    """
    if not name.strip():
        raise UserError("name: say what the token is for.", field="name")
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise UserError(
            f"scopes: {'unknown scope ' + unknown[0] if unknown else 'choose at least one'}. "
            f"Known are {', '.join(sorted(SCOPES))}.",
            field="scopes",
        )
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise UserError(
                f"networks: '{network}' is not a network such as 203.0.113.0/24.", field="networks"
            ) from error
    if not dt.timedelta(0) < valid_for <= 2 * YEAR:
        raise UserError("expiry: choose a day within the next two years.", field="expires_at")
    if within is not None:
        _no_further(within, scopes, warehouses, channels, networks, now() + valid_for)
    secret = secrets.token_urlsafe(32)
    with transaction.atomic():
        token = ApiToken.objects.create(
            name=name.strip()[:80],
            user=user,
            prefix="".join(secrets.choice(_ALPHABET) for _ in range(8)),
            digest=digest_of(secret),
            scopes=sorted(set(scopes)),
            warehouses=list(warehouses),
            channels=list(channels),
            networks=list(networks),
            expires_at=now() + valid_for,
        )
        record(actor, "token.issued", token, after={"scopes": token.scopes, "expires": token.expires_at})
    return token, f"oms_{token.prefix}_{secret}"


def _no_further(
    mine: ApiToken,
    scopes: Sequence[str],
    warehouses: Sequence[str],
    channels: Sequence[str],
    networks: Sequence[str],
    expires_at: dt.datetime,
) -> None:
    """A token makes no token that may do more, in more places, from more networks or for longer."""
    more = sorted(set(scopes) - set(mine.scopes))
    if more:
        raise NotAllowed(f"scopes: the token that asks does not hold {more[0]} itself.", field="scopes")
    for name, held, wanted in (
        ("warehouses", mine.warehouses, warehouses),
        ("channels", mine.channels, channels),
    ):
        if held and not (wanted and set(wanted) <= set(held)):
            raise NotAllowed(f"{name}: the token that asks is limited to {', '.join(held)}.", field=name)
    held_networks = [ipaddress.ip_network(one) for one in mine.networks]
    inside = all(
        any(new.version == held.version and new.subnet_of(held) for held in held_networks)  # type: ignore[arg-type]
        for new in map(ipaddress.ip_network, networks)
    )
    if held_networks and not (networks and inside):
        raise NotAllowed(
            f"networks: the token that asks is limited to {', '.join(mine.networks)}.", field="networks"
        )
    if expires_at > mine.expires_at:
        raise NotAllowed(
            f"days: the token that asks ends on {mine.expires_at:%Y-%m-%d}; no later.", field="days"
        )


def revoke(token_id: int, *, actor: Actor) -> None:
    """End a token at once. Harmless when it has ended. Raises `NotFound`."""
    with transaction.atomic():
        token = ApiToken.objects.filter(pk=token_id).first()
        if token is None:
            raise NotFound("token: no such token.", field="token")
        if ApiToken.objects.filter(pk=token_id, revoked_at__isnull=True).update(revoked_at=now()):
            record(actor, "token.revoked", token)


def authenticate(text: str, address: str) -> ApiToken | None:
    """The token behind a bearer text, None when it is unknown, ended, its owner is gone or the network is wrong."""
    kind, _, rest = text.partition("_")
    prefix, _, secret = rest.partition("_")
    if kind != "oms" or len(prefix) != 8 or not secret:
        return None
    token = ApiToken.objects.select_related("user").filter(prefix=prefix).first()
    known = token.digest if token else digest_of("")
    if not hmac.compare_digest(known, digest_of(secret)) or token is None:
        return None
    at = now()
    if (
        token.revoked_at
        or token.expires_at <= at
        or not token.user.is_active
        or not _from(token.networks, address)
    ):
        return None
    if token.last_used_at is None or at - token.last_used_at >= dt.timedelta(minutes=1):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=at.replace(second=0, microsecond=0))
    return token


def _from(networks: Sequence[str], address: str) -> bool:
    if not networks:
        return True
    try:
        caller = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(caller in ipaddress.ip_network(network) for network in networks)
