"""The door where channels knock: `/hooks/<hook_key>/`. Verify the raw bytes, store once, answer. Nothing else."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from channels import inbox
from channels.connectors.base import BadSignature, ChannelError, Notification, get_connector
from channels.models import ChannelAccount
from channels.session import access_of, drive
from channels.tasks import hook_address
from oms.core.knocks import AGAIN_AFTER, within_patience

MAX_BODY = 1024 * 1024
#: what an unknown address is checked against: the same work, never a match
_NOBODY = secrets.token_bytes(32)


def verified(account: ChannelAccount, headers: Mapping[str, str], raw: bytes) -> list[Notification]:
    """The notifications in a message. Raises `BadSignature`, and `ChannelError` when its key cannot be fetched."""
    connector, access = get_connector(account.connector), access_of(account)
    fetch = connector.fetch_push_key(access, headers)
    if fetch is not None:
        drive(fetch)
    return connector.parse_push(access, headers, raw)


def _challenged(request: HttpRequest, hook_key: str) -> HttpResponse:
    """Some channels ask by GET whether an address is ours before they send anything."""
    account = ChannelAccount.objects.select_related("sales_channel").filter(hook_key=hook_key).first()
    answer = None
    if account is not None and account.state != ChannelAccount.State.DISABLED:
        query = {name: str(value) for name, value in request.GET.items()}
        connector = get_connector(account.connector)
        answer = connector.answer_challenge(access_of(account), query, hook_address(account))
    return HttpResponseNotAllowed(["POST"]) if answer is None else JsonResponse(dict(answer))


@csrf_exempt
@require_http_methods(["GET", "POST"])
@within_patience
def receive(request: HttpRequest, hook_key: str) -> HttpResponse:
    """200 once the message is stored (again for a repeated one), 401 without detail, 413 above 1 MiB.

    503 with Retry-After when it cannot be stored or the channel's public key cannot be fetched now: the channel sends
    it again, and what it does not send again the next pull finds.
    """
    if request.method == "GET":
        return _challenged(request, hook_key)
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
    # some channels sign them too; no client can send a header whose name begins with a colon
    headers |= {":method": request.method or "", ":path": request.get_full_path()}
    try:
        inbox.accept(account, verified(account, headers, raw))
    except BadSignature:
        return HttpResponse(status=401)
    except ChannelError:
        return HttpResponse(status=503, headers={"Retry-After": str(AGAIN_AFTER)})
    except (ValueError, TypeError, AttributeError) as error:
        # signed, so it is from the channel; asking for it again would bring the same bytes
        delivery = hashlib.sha256(raw).hexdigest()
        inbox.accept_unreadable(account, delivery, "unreadable", raw, f"the message cannot be read: {error}")
    return HttpResponse(status=200)
