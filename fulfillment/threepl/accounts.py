"""A 3PL is connected, tested, paused; its figures are read. The only door for its settings."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q

from fulfillment.models import ThreePLAccount
from fulfillment.threepl import calls, client, inbox, messages, transports
from inventory.models import PoolPolicy, Warehouse
from oms.core import egress
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.doorbell import ring
from oms.core.errors import Conflict, UserError
from oms.core.exceptions_inbox import raise_item
from oms.core.http import HttpFailure, reset_breaker
from oms.core.http import Kind as Failure
from oms.core.words import some

SECRETS = ("key", "secret", "hook_secret")
Kind, State = ThreePLAccount.Kind, ThreePLAccount.State


@dataclass(frozen=True)
class Tested:
    ok: bool
    message: str


def connect(
    *,
    code: str,
    name: str,
    warehouse_id: int,
    kind: str,
    actor: Actor,
    base_url: str = "",
    credentials: Mapping[str, str] | None = None,
    ack_minutes: int = 60,
    snapshot_minutes: int = 60,
    options: Mapping[str, Any] | None = None,
) -> ThreePLAccount:
    """Write an account down; nothing is sent before `test` has proved it. Raises `UserError`, `Conflict`."""
    wanted = Warehouse.Kind.FBA if kind == Kind.MCF else Warehouse.Kind.THREEPL
    warehouse = Warehouse.objects.filter(pk=warehouse_id, kind=wanted).first()
    if warehouse is None:
        raise UserError(f"warehouse: choose a warehouse of the kind {wanted.label}.", field="warehouse")
    given = {key: value for key, value in (credentials or {}).items() if key in SECRETS and value}
    if kind == Kind.API:
        _checked_url(base_url)
        missing = [key for key in SECRETS if not given.get(key)]
        if missing:
            raise UserError(f"{missing[0]}: is needed to sign messages.", field=missing[0])
    elif kind not in (Kind.CSV, Kind.MCF):
        raise UserError("kind: choose signed API or CSV files.", field="kind")
    try:
        with transaction.atomic():
            account = ThreePLAccount.objects.create(
                code=code, name=name, warehouse=warehouse, kind=kind, base_url=base_url.rstrip("/"),
                credentials=given, hook_key=secrets.token_urlsafe(24), ack_minutes=ack_minutes,
                snapshot_minutes=snapshot_minutes, options=dict(options or {}),
            )  # fmt: skip
            record(actor, "threepl.connected", account, after={"code": code, "warehouse": warehouse.code})
    except IntegrityError as error:
        raise Conflict(
            f"code: '{code}' or the warehouse {warehouse} has a 3PL account already.", field="code"
        ) from error
    return account


def _checked_url(base_url: str) -> None:
    try:
        egress.check_user_url(base_url)
    except egress.Refused as error:
        raise UserError(f"base_url: {error}", field="base_url") from error


def change(
    account_id: int, *, actor: Actor, credentials: Mapping[str, str] | None = None, **fields: Any
) -> ThreePLAccount:
    """Change settings; empty credentials stay. A new hook secret leaves the old one valid until the next change."""
    known = {"name", "base_url", "ack_minutes", "snapshot_minutes", "options"}
    with transaction.atomic():
        account = ThreePLAccount.objects.select_for_update().get(pk=account_id)
        if account.kind == Kind.API and "base_url" in fields:
            _checked_url(fields["base_url"])
            fields["base_url"] = fields["base_url"].rstrip("/")
        before = {name: getattr(account, name) for name in known & set(fields)}
        for name in known & set(fields):
            setattr(account, name, fields[name])
        fresh = {key: value for key, value in (credentials or {}).items() if key in SECRETS and value}
        if "hook_secret" in fresh:
            fresh["hook_secret_old"] = (account.credentials or {}).get("hook_secret", "")
        account.credentials = {**(account.credentials or {}), **fresh}
        account.save()
        record(
            actor, "threepl.changed", account, before=before,
            after={**{name: fields[name] for name in before}, "new secrets": sorted(set(fresh) & set(SECRETS))},
        )  # fmt: skip
    return account


def set_policy(
    account_id: int,
    *,
    actor: Actor,
    accept_units: int,
    accept_percent: Any,
    grace_minutes: int,
    max_age_hours: int,
) -> PoolPolicy:
    """How far their figures go without a person."""
    account = ThreePLAccount.objects.get(pk=account_id)
    with transaction.atomic():
        policy, _ = PoolPolicy.objects.update_or_create(
            warehouse_id=account.warehouse_id,
            defaults={
                "accept_units": accept_units, "accept_percent": accept_percent, "grace_minutes": grace_minutes,
                "max_age_hours": max_age_hours,
            },
        )  # fmt: skip
        record(
            actor, "threepl.policy", account,
            after={"accept_units": accept_units, "accept_percent": str(accept_percent), "grace": grace_minutes},
        )  # fmt: skip
    return policy


def test(account_id: int, *, actor: Actor) -> Tested:
    """Prove the connection with a signed call; a proved account goes to work. CSV accounts have nothing to prove."""
    account = ThreePLAccount.objects.select_related("warehouse").get(pk=account_id)
    way = transports.of(account)
    if way is not None:
        reset_breaker(client.key_of(account))
        try:
            answer = way.ping(account)
        except HttpFailure as failure:
            ThreePLAccount.objects.filter(pk=account_id).update(state_reason=failure.message[:255])
            return Tested(False, f"{account} does not answer as it should: {failure.message}")
        said = messages.clean(answer.get("name") or account.name, "name", limit=200)
    else:
        said = "files"
    with transaction.atomic():
        ThreePLAccount.objects.filter(pk=account_id).exclude(state=State.PAUSED).update(
            state=State.CONNECTED, state_reason="", tested_at=now()
        )
        record(actor, "threepl.tested", account, after={"answer": said})
        calls.credentials_accepted(account)
        ring("fulfillment.threepl.tasks.hand_off", str(account.warehouse_id))
    return Tested(True, f"Connected: {said}.")


def pause(account_id: int, reason: str, *, actor: Actor) -> None:
    """No orders go out until it is resumed; messages still come in. Raises `UserError` without a reason."""
    if not reason.strip():
        raise UserError("reason: say why no orders go out.", field="reason")
    with transaction.atomic():
        account = ThreePLAccount.objects.get(pk=account_id)
        ThreePLAccount.objects.filter(pk=account_id).update(
            state=State.PAUSED, state_reason=reason.strip()[:255]
        )
        record(actor, "threepl.paused", account, after={"reason": reason.strip()[:255]})


def resume(account_id: int, *, actor: Actor) -> Tested:
    with transaction.atomic():
        account = ThreePLAccount.objects.get(pk=account_id)
        ThreePLAccount.objects.filter(pk=account_id, state=State.PAUSED).update(state=State.SETUP)
        record(actor, "threepl.resumed", account)
    return test(account_id, actor=actor)


# --- figures ---------------------------------------------------------------------------------------


def pull_snapshot(account_id: int) -> bool:
    """Read their figures now, as a message of theirs. True when they are new."""
    account = ThreePLAccount.objects.select_related("warehouse").get(pk=account_id)
    if account.kind != Kind.API or account.state != State.CONNECTED:
        return False
    body = client.inventory(account)
    number = messages.clean(body.get("snapshot_id"), "snapshot_id", limit=60)
    return inbox.accept(account, f"pull:{number}", "inventory.snapshot", body)


def pull_due() -> int:
    """Read the figures of every account whose turn it is; returns how many were asked."""
    at, asked = now(), 0
    waiting = ThreePLAccount.objects.filter(
        Q(next_snapshot_at__isnull=True) | Q(next_snapshot_at__lte=at), kind=Kind.API, state=State.CONNECTED,
        snapshot_minutes__gt=0,
    )  # fmt: skip
    for account in waiting.order_by("pk"):
        taken = waiting.filter(pk=account.pk).update(
            next_snapshot_at=at + dt.timedelta(minutes=account.snapshot_minutes)
        )
        if not taken:
            continue
        asked += 1
        try:
            pull_snapshot(account.pk)
        except HttpFailure as failure:
            if failure.kind is Failure.AUTH:
                calls.credentials_refused(account, failure.message)
        except UserError as error:
            raise_item(
                "threepl_message", f"threepl:snapshot:{account.pk}", f"{account}: its figures cannot be read",
                detail=error.message, url=f"/threepl/{account.code}/", warehouse_code=account.warehouse.code,
            )  # fmt: skip
    return asked


def tell_silent() -> int:
    """Pools whose operator has not shown figures for too long. Returns how many were told."""
    at, told = now(), 0
    speaking = ThreePLAccount.objects.filter(state=State.CONNECTED).exclude(kind=Kind.MCF)
    for account in speaking.select_related("warehouse"):
        policy = PoolPolicy.objects.filter(warehouse=account.warehouse_id).first() or PoolPolicy()
        since = account.last_snapshot_at or account.tested_at
        if since is None or at - since < dt.timedelta(hours=policy.max_age_hours):
            continue
        raise_item(
            "threepl_silent", f"threepl:silent:{account.pk}",
            f"{account} has shown no figures since {since:%Y-%m-%d %H:%M} UTC",
            detail=f"The limit is {some(policy.max_age_hours, 'hour')}. Read them now, or ask for the file.",
            url=f"/threepl/{account.code}/", warehouse_code=account.warehouse.code,
        )  # fmt: skip
        told += 1
    return told
