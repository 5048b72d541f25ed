"""The door where 3PLs knock: `/hooks/3pl/<hook_key>/`. Verify the raw bytes, store once, answer. Nothing else."""

from __future__ import annotations

import hashlib
import secrets

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from fulfillment.models import ThreePLAccount
from fulfillment.threepl import inbox, signing
from oms.core.clock import now
from oms.core.knocks import within_patience

MAX_BODY = 1024 * 1024
#: what an unknown address is checked against: the same work, never a match
_NOBODY = secrets.token_hex(32)


@csrf_exempt
@require_POST
@within_patience
def receive(request: HttpRequest, hook_key: str) -> HttpResponse:
    """200 once the message is stored (again for a repeated one), 401 without detail, 413 above 1 MiB, 503 with
    Retry-After when it cannot be stored now."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > MAX_BODY:
        return HttpResponse(status=413)
    raw = request.read(MAX_BODY + 1)
    if len(raw) > MAX_BODY:
        return HttpResponse(status=413)
    account = ThreePLAccount.objects.select_related("warehouse").filter(hook_key=hook_key).first()
    given = (account.credentials or {}) if account is not None else {}
    known = [str(given.get("hook_secret") or ""), str(given.get("hook_secret_old") or "")]
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        delivery = signing.verify(
            [*known, _NOBODY], headers, "POST", request.get_full_path(), raw, now().timestamp()
        )
    except signing.BadSignature:
        return HttpResponse(status=401)
    if account is None:
        return HttpResponse(status=401)
    try:
        topic, body = inbox.read_json(raw)
    except (ValueError, RecursionError) as error:
        # signed, so it is theirs; asking for it again would bring the same bytes
        digest = hashlib.sha256(raw).hexdigest()
        inbox.accept_unreadable(account, digest, raw, f"the message cannot be read: {error}")
        return HttpResponse(status=200)
    inbox.accept(account, delivery, topic, body)
    return HttpResponse(status=200)
