"""The door where channels knock: `/hooks/<hook_key>/`. Verify the raw bytes, store once, answer. Nothing else."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from channels import inbox
from channels.connectors.base import BadSignature, get_connector
from channels.models import ChannelAccount
from channels.session import access_of

MAX_BODY = 1024 * 1024
#: what an unknown address is checked against: the same work, never a match
_NOBODY = secrets.token_bytes(32)


@csrf_exempt
@require_POST
def receive(request: HttpRequest, hook_key: str) -> HttpResponse:
    """200 once the message is stored (again for a repeated one), 401 without detail, 413 above 1 MiB."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > MAX_BODY:
        return HttpResponse(status=413)
    raw = request.read(MAX_BODY + 1)
    if len(raw) > MAX_BODY:
        return HttpResponse(status=413)
    account = ChannelAccount.objects.select_related("sales_channel").filter(hook_key=hook_key).first()
    if account is None or account.state == ChannelAccount.State.DISABLED:
        hmac.compare_digest(hmac.new(_NOBODY, raw, hashlib.sha256).digest(), _NOBODY)
        return HttpResponse(status=401)
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        inbox.accept(account, get_connector(account.connector).parse_push(access_of(account), headers, raw))
    except BadSignature:
        return HttpResponse(status=401)
    except (ValueError, TypeError, AttributeError) as error:
        # signed, so it is from the channel; asking for it again would bring the same bytes
        delivery = hashlib.sha256(raw).hexdigest()
        inbox.accept_unreadable(account, delivery, "unreadable", raw, f"the message cannot be read: {error}")
    return HttpResponse(status=200)
