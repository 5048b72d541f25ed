"""Who did what, before and after: append-only, sealed by a chain that makes tampering visible."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError, connection, models, transaction

from oms.core.actor import Actor
from oms.core.current import context
from oms.core.db import on_postgres
from oms.core.masking import MASK, secret_name
from oms.core.models import AuditEntry, AuditSeal

GENESIS = "0" * 64
_SEAL_LOCK = 7_410_001


def record(
    actor: Actor,
    action: str,
    obj: models.Model | None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    via: str = "",
) -> AuditEntry:
    """Write one audit line in the caller's transaction. Values under secret-looking names are masked."""
    here = context()
    return AuditEntry.objects.create(
        actor=str(actor),
        action=action[:60],
        object_type=obj._meta.label_lower if obj is not None else "",
        object_id=str(obj.pk)[:60] if obj is not None else "",
        object_label=str(obj)[:160] if obj is not None else "",
        before=_plain(before),
        after=_plain(after),
        via=via or here.via,
        address=here.address,
        request_id=here.request_id,
    )


def _plain(values: dict[str, Any] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    hidden = {key: MASK if secret_name(str(key)) and value else value for key, value in values.items()}
    plain: dict[str, Any] = json.loads(json.dumps(hidden, cls=DjangoJSONEncoder, default=str))
    return plain


def _keys() -> list[bytes]:
    """Chain keys, the writing one first. Derived from the secret key; older keys still verify."""
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [hashlib.sha256(b"lading audit chain\0" + secret.encode()).digest() for secret in secrets]


def _canonical(entry: AuditEntry) -> bytes:
    fields = {
        "id": entry.pk,
        "at": entry.at.astimezone(dt.UTC).isoformat(timespec="microseconds"),
        "actor": entry.actor,
        "action": entry.action,
        "object": [entry.object_type, entry.object_id, entry.object_label],
        "before": entry.before,
        "after": entry.after,
        "via": entry.via,
        "address": entry.address,
        "request_id": entry.request_id,
    }
    return json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _link(key: bytes, previous: str, entry: AuditEntry) -> str:
    return hmac.new(key, previous.encode() + _canonical(entry), hashlib.sha256).hexdigest()


def _unsealed(back: int | None) -> models.QuerySet[AuditEntry]:
    entries = AuditEntry.objects.filter(seal__isnull=True).order_by("id")
    newest = AuditSeal.objects.aggregate(id=models.Max("entry_id"))["id"]
    return entries if back is None or newest is None else entries.filter(pk__gt=newest - back)


def seal(limit: int = 1000, back: int | None = 5000) -> int:
    """Seal entries that have no seal yet; returns how many. Two sealers at once never fork the chain.

    Entries get their ids before they are committed, so a later id may be sealed first: `back` says how many ids
    before the newest sealed one are looked at again (None = all, which reads the whole trail).
    """
    if not _unsealed(back).exists():
        return 0
    try:
        with transaction.atomic():
            if on_postgres():
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_SEAL_LOCK])
                    if not cursor.fetchone()[0]:
                        return 0
            entries = list(_unsealed(back)[:limit])
            if not entries:
                return 0
            head = AuditSeal.objects.order_by("-number").first()
            number, digest = (head.number, head.digest) if head else (0, GENESIS)
            key, rows = _keys()[0], []
            for entry in entries:
                number, digest = number + 1, _link(key, digest, entry)
                rows.append(AuditSeal(number=number, entry=entry, digest=digest))
            AuditSeal.objects.bulk_create(rows)
            return len(rows)
    except IntegrityError:
        return 0  # another sealer was faster; ours stood nowhere


def verify() -> Iterable[str]:
    """Walk the chain; yields one sentence per broken link, nothing when it holds (invariant A1)."""
    expected, previous, keys = 1, GENESIS, _keys()
    for link in AuditSeal.objects.select_related("entry").order_by("number").iterator(chunk_size=2000):
        if link.number != expected:
            yield f"audit seals {expected} to {link.number - 1} are missing"
        elif not any(hmac.compare_digest(_link(key, previous, link.entry), link.digest) for key in keys):
            yield f"audit entry {link.entry_id} does not match its seal {link.number}"
        expected, previous = link.number + 1, link.digest


def head() -> tuple[int, str]:
    """Number and digest of the newest seal: note it outside of the database to prove later that nothing was cut off."""
    newest = AuditSeal.objects.order_by("-number").first()
    return (newest.number, newest.digest) if newest else (0, GENESIS)
