"""Who may do what, where. Rights come from memberships; a token has its scopes, never more than its owner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oms.core.errors import NotAllowed, NotFound
from oms.core.models import ApiToken, MembershipScope, User
from oms.core.roles import PERMISSIONS, SCOPES, permissions_of

if TYPE_CHECKING:
    from django.db.models import Q

Codes = frozenset[str] | None
Kind = MembershipScope.Kind


@dataclass(frozen=True)
class Scope:
    """Where a permission holds. None = everywhere."""

    warehouses: Codes = None
    channels: Codes = None

    def covers(self, warehouse_code: str | None = None, channel_code: str | None = None) -> bool:
        return (warehouse_code is None or self.warehouses is None or warehouse_code in self.warehouses) and (
            channel_code is None or self.channels is None or channel_code in self.channels
        )

    def q(self, warehouse: str = "", channel: str = "") -> Q:
        """A filter for a queryset: `scope.q(warehouse="warehouse__code", channel="order__channel__code")`."""
        from django.db.models import Q

        where = Q()
        if warehouse and self.warehouses is not None:
            where &= Q(**{f"{warehouse}__in": self.warehouses})
        if channel and self.channels is not None:
            where &= Q(**{f"{channel}__in": self.channels})
        return where


NOWHERE = Scope(frozenset(), frozenset())


@dataclass(frozen=True)
class Grant:
    permissions: frozenset[str]
    scope: Scope


def _grants(user: User) -> list[Grant]:
    """The user's grants, read once per object: a request sees one state of its rights."""
    cached: list[Grant] | None = getattr(user, "_lading_grants", None)
    if cached is None:
        cached = []
        if user.is_superuser:
            cached.append(Grant(frozenset(PERMISSIONS), Scope()))
        # one row per named place, one for a membership without any
        held: dict[int, tuple[str, dict[str, set[str]]]] = {}
        rows = user.memberships.order_by("pk").values_list("pk", "role", "scopes__kind", "scopes__code")
        for pk, role, kind, code in rows:
            _, named = held.setdefault(pk, (role, {}))
            if kind is not None:
                named.setdefault(kind, set()).add(code)
        for role, named in held.values():
            where = Scope(_codes(named.get(Kind.WAREHOUSE)), _codes(named.get(Kind.CHANNEL)))
            cached.append(Grant(permissions_of(role), where))
        user._lading_grants = cached  # type: ignore[attr-defined]
    return cached


def _codes(named: Iterable[str] | None) -> Codes:
    """None named = everywhere."""
    return frozenset(named) if named else None


def _both(one: Codes, other: Codes) -> Codes:
    if one is None or other is None:
        return one if other is None else other
    return one & other


def _held(principal: Any, permission: str) -> list[Scope]:
    """Every place where the principal holds the permission."""
    if permission not in PERMISSIONS:
        raise ValueError(f"unknown permission '{permission}'")
    if isinstance(principal, ApiToken):
        if not any(permission in SCOPES.get(scope, ()) for scope in principal.scopes):
            return []
        limit = Scope(_codes(principal.warehouses), _codes(principal.channels))
        return [
            Scope(_both(held.warehouses, limit.warehouses), _both(held.channels, limit.channels))
            for held in _held(principal.user, permission)
        ]
    if not isinstance(principal, User) or not principal.is_active:
        return []
    return [grant.scope for grant in _grants(principal) if permission in grant.permissions]


def can(
    principal: Any, permission: str, warehouse_code: str | None = None, channel_code: str | None = None
) -> bool:
    """True when the user or API token holds the permission, and holds it there. ValueError for an unknown one."""
    return any(scope.covers(warehouse_code, channel_code) for scope in _held(principal, permission))


def scope_of(principal: Any, permission: str) -> Scope:
    """Where the permission holds, as one scope for filtering lists. Without the permission: nowhere.

    Memberships limited alike in one dimension add up in the other. Memberships limited in different
    dimensions do not (EAST for all channels plus AMAZON for all warehouses is not everything): the
    first one decides.
    """
    held = _held(principal, permission)
    if not held:
        return NOWHERE
    if any(scope == Scope() for scope in held):
        return Scope()
    first = held[0]
    if all(scope.channels == first.channels for scope in held):
        return Scope(_union([scope.warehouses for scope in held]), first.channels)
    if all(scope.warehouses == first.warehouses for scope in held):
        return Scope(first.warehouses, _union([scope.channels for scope in held]))
    return first


def _union(codes: list[Codes]) -> Codes:
    if any(code is None for code in codes):
        return None
    return frozenset().union(*(code for code in codes if code is not None))


def require(
    principal: Any, permission: str, warehouse_code: str | None = None, channel_code: str | None = None
) -> None:
    """Raise `NotAllowed` without the permission, `NotFound` when it is held, but not for that place."""
    if can(principal, permission, warehouse_code, channel_code):
        return
    if can(principal, permission):
        raise NotFound("No such object.")
    name = PERMISSIONS[permission]
    raise NotAllowed(f"You need the right to {name[0].lower()}{name[1:]}. Ask an owner.")


def principal_of(request: Any) -> Any:
    """The API token behind a request, else its user: what `can` and `scope_of` take."""
    token = getattr(request, "auth", None)
    return token if isinstance(token, ApiToken) else request.user
