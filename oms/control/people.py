"""Users, their roles and what ends when they leave."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from django.contrib.auth.password_validation import validate_password
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import transaction
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.models import ApiToken, Membership, MembershipScope, User
from oms.core.roles import ROLES


@dataclass(frozen=True)
class Role:
    """A role and where it holds; no codes = everywhere."""

    name: str
    warehouses: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


def find(user_id: int) -> User:
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise NotFound("user: no such user.", field="user")
    return user


def _checked(password: str, user: User) -> str:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise UserError(f"password: {' '.join(error.messages)}", field="password") from error
    return password


def create(username: str, password: str, role: Role, *, email: str = "", actor: Actor) -> User:
    """A new user with one role. Raises `UserError` for a taken name, a weak password or an unknown role."""
    username = username.strip()
    user = User(username=username, email=email.strip())
    try:
        user.full_clean(exclude=["password"])
    except ValidationError as error:
        field, sentences = next(iter(error.message_dict.items()))
        raise UserError(f"{field.replace('_', ' ')}: {' '.join(sentences)}", field=field) from error
    user.set_password(_checked(password, user))
    with transaction.atomic():
        user.save()
        record(actor, "user.created", user, after={"username": username})
        set_role(user, role, actor=actor)
    return user


def role_of(membership: Membership) -> Role:
    scopes = list(membership.scopes.all())
    return Role(
        membership.role,
        tuple(scope.code for scope in scopes if scope.kind == MembershipScope.Kind.WAREHOUSE),
        tuple(scope.code for scope in scopes if scope.kind == MembershipScope.Kind.CHANNEL),
    )


def roles_of(user: User) -> list[Role]:
    return [role_of(one) for one in user.memberships.prefetch_related("scopes").order_by("pk")]


def set_role(user: User, role: Role, *, actor: Actor) -> None:
    """Give the user exactly this role. Raises `UserError` for an unknown one, `Conflict` without an owner left."""
    if role.name not in ROLES:
        raise UserError(f"role: '{role.name}' is unknown; use one of {', '.join(ROLES)}.", field="role")
    with transaction.atomic():
        before = [str(one) for one in roles_of(user)]
        user.memberships.all().delete()
        membership = Membership.objects.create(user=user, role=role.name)
        kind = MembershipScope.Kind
        MembershipScope.objects.bulk_create(
            MembershipScope(membership=membership, kind=which, code=code)
            for which, codes in ((kind.WAREHOUSE, role.warehouses), (kind.CHANNEL, role.channels))
            for code in dict.fromkeys(codes)
        )
        _owner_left()
        record(actor, "user.role", user, before={"roles": before}, after={"roles": [str(role)]})


def _owner_left() -> None:
    """Nobody may lock everybody out."""
    owners = User.objects.filter(is_active=True, memberships__role="owner", memberships__scopes__isnull=True)
    if not owners.exists() and not User.objects.filter(is_active=True, is_superuser=True).exists():
        raise Conflict("role: this is the last owner; name another owner first.", field="role")


def set_active(user: User, active: bool, *, actor: Actor) -> None:
    """Switch a user on or off; off ends the sessions and revokes the tokens at once."""
    with transaction.atomic():
        user.is_active = active
        user.save(update_fields=["is_active"])
        if not active:
            _owner_left()
            ApiToken.objects.filter(user=user, revoked_at__isnull=True).update(revoked_at=now())
            end_sessions(user)
        record(actor, "user.enabled" if active else "user.disabled", user)


def set_password(user: User, password: str, *, actor: Actor) -> None:
    """A new password set by an owner; the user's sessions end. Raises `UserError` for a weak one."""
    _checked(password, user)
    with transaction.atomic():
        user.set_password(password)
        user.save(update_fields=["password"])
        end_sessions(user)
        record(actor, "user.password_set", user)


def reset_second_factor(user: User, *, actor: Actor) -> None:
    """For a lost phone: the next log-in needs the password only."""
    with transaction.atomic():
        TOTPDevice.objects.filter(user=user).delete()
        StaticDevice.objects.filter(user=user).delete()
        record(actor, "user.two_factor_reset", user)


def end_sessions(user: User, *, keep: str = "") -> int:
    """End the user's sessions except one; returns how many."""
    ended = 0
    for session in Session.objects.filter(expire_date__gte=now() - dt.timedelta(days=1)).iterator():
        if session.session_key != keep and session.get_decoded().get("_auth_user_id") == str(user.pk):
            session.delete()
            ended += 1
    return ended


def known_codes(wanted: Sequence[str], known: set[str], field: str) -> tuple[str, ...]:
    """Codes picked on a form, all of which must exist."""
    unknown = [code for code in wanted if code not in known]
    if unknown:
        raise UserError(f"{field}: '{unknown[0]}' does not exist.", field=field)
    return tuple(wanted)
