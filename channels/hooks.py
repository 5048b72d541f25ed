"""The door where channels knock: `/hooks/<hook_key>/`. Verify the raw bytes, store once, answer. Nothing else."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import secrets
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from channels import inbox
from channels.connectors.base import UNREADABLE, BadSignature, ChannelError, Notification, get_connector
from channels.models import ChannelAccount
from channels.session import access_of, drive
from channels.tasks import hook_address
from oms.core.knocks import AGAIN_AFTER, within_patience

MAX_BODY = 1024 * 1024
#: levels of lists and objects in a body; the deepest that a channel sends has about ten
MAX_DEPTH = 60
#: digits of the longest number that says anything
MAX_DIGITS = 40
#: what channels send JSON as; a form is the unsigned ping of WooCommerce, which its connector reads
_TYPES = ("", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded")
#: what an unknown address is checked against: the same work, never a match
_NOBODY = secrets.token_bytes(32)


#: for so long an account that was read for one message serves the next ones: channels knock hundreds of times a second
REMEMBERED_SECONDS = 1.0
_accounts: dict[str, tuple[float, ChannelAccount]] = {}


def account_at(hook_key: str, *, anew: bool = False) -> ChannelAccount | None:
    """The account whose address that is, to be read only; None when nobody lives there.

    A copy of at most one second, unless `anew`; what this process saves itself is seen at once.
    """
    copy, at = _accounts.get(hook_key), time.monotonic()
    if copy is not None and not anew and at - copy[0] < REMEMBERED_SECONDS:
        return copy[1]
    account = ChannelAccount.objects.filter(hook_key=hook_key).first()
    if account is None:
        _accounts.pop(hook_key, None)
    else:
        _accounts[hook_key] = at, account
    return account


def forget_accounts(**kwargs: Any) -> None:
    """An account was saved here."""
    _accounts.clear()


post_save.connect(forget_accounts, sender=ChannelAccount, dispatch_uid="hook accounts: save")
post_delete.connect(forget_accounts, sender=ChannelAccount, dispatch_uid="hook accounts: delete")


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


#: of JSON without its texts: numbers and their exponents, the rest blank; brackets of both kinds as one
_NUMBERS = bytes(byte if byte in b"0123456789eE" else 32 for byte in range(256))
_NESTING = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def plain(raw: bytes) -> bool:
    """True when nothing in these bytes, which are JSON, wants a closer look by `unfit` (pure): most messages, at a
    fraction of its cost."""
    raw = raw.replace(b"\\/", b"/")  # as PHP writes every address
    if not raw.isascii() or b"\\" in raw:
        return False
    bare = b" ".join(raw.split(b'"')[::2])
    if b"N" in bare or b"I" in bare:
        return False
    for number in bare.translate(_NUMBERS).split():
        if len(number) > 20 or (number[0] in b"0123456789" and b"e" in number.lower()):
            return False
    nesting = bare.translate(_NESTING, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not nesting:
            break
        nesting = nesting.replace(b"[]", b"")  # the innermost level
    return not nesting


def unfit(raw: bytes) -> str:
    """Why these bytes are no JSON that can be kept and read again, in a sentence; empty when they are (pure)."""
    try:
        found = json.loads(raw, parse_float=Decimal, parse_constant=_refuse)
    except RecursionError:
        return f"body: it is nested more than {MAX_DEPTH} levels deep; send it flatter."
    except UnicodeDecodeError:
        return "body: it is not UTF-8; send JSON in UTF-8."
    except json.JSONDecodeError as error:
        return f"body: it is not JSON at line {error.lineno}, column {error.colno}; send JSON."
    except (ValueError, ArithmeticError):
        return (
            f"body: it holds a number that JSON does not have or of more than {MAX_DIGITS} digits; send less."
        )
    level: list[Any] = [found]
    for _ in range(MAX_DEPTH):
        names = [name for one in level if isinstance(one, dict) for name in one]
        inner = [part for one in level if isinstance(one, list) for part in one]
        inner += [part for one in level if isinstance(one, dict) for part in one.values()]
        for one in (*names, *inner, *(one for one in level if isinstance(one, str | int | Decimal))):
            if isinstance(one, str):
                if "\0" in one:
                    return "body: a text holds U+0000, which cannot be kept; leave it out."
                if not one.isascii() and any("\ud800" <= char <= "\udfff" for char in one):
                    return "body: a text holds half of a character pair; send whole characters."
            elif isinstance(one, int | Decimal) and one and abs(_magnitude(one)) > MAX_DIGITS:
                return f"body: a number has more than {MAX_DIGITS} digits; send less."
        level = [one for one in inner if isinstance(one, dict | list)]
        if not level:
            return ""
    return f"body: it is nested more than {MAX_DEPTH} levels deep; send it flatter."


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _magnitude(value: int | Decimal) -> int:
    return value.adjusted() if isinstance(value, Decimal) else int(math.log10(abs(value)))


def _refused(status: int, sentence: str) -> HttpResponse:
    return HttpResponse(sentence, status=status, content_type="text/plain; charset=utf-8")


@csrf_exempt
@require_http_methods(["GET", "POST"])
@within_patience
def receive(request: HttpRequest, hook_key: str) -> HttpResponse:
    """200 once the message is stored (again for a repeated one), 401 without detail, 413 above 1 MiB.

    415 for what is not sent as plain JSON. Signed bytes that cannot be read are kept for a person and answered 200.
    503 with Retry-After when it cannot be stored or the channel's public key cannot be fetched now: the channel sends
    it again, and what it does not send again the next pull finds.
    """
    if request.method == "GET":
        return _challenged(request, hook_key)
    if (request.headers.get("Content-Encoding") or "identity").strip().lower() != "identity":
        return _refused(415, "Content-Encoding: send the message as it is, not packed.")
    kind = (request.content_type or "").lower()
    if kind not in _TYPES and not kind.endswith("+json"):
        return _refused(415, "Content-Type: send JSON as application/json.")
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()):
        return _refused(400, "Content-Length: give the number of bytes.")
    too_long = f"body: at most {MAX_BODY:,} bytes are taken."
    if len(length) > 12 or int(length) > MAX_BODY:
        return _refused(413, too_long)
    raw = request.read(MAX_BODY + 1)
    if len(raw) > MAX_BODY:
        return _refused(413, too_long)
    account = account_at(hook_key)
    if account is None or account.state == ChannelAccount.State.DISABLED:
        hmac.compare_digest(hmac.new(_NOBODY, raw, hashlib.sha256).digest(), _NOBODY)
        return HttpResponse(status=401)
    headers = {name.lower(): value for name, value in request.headers.items()}
    # some channels sign them too; no client can send a header whose name begins with a colon
    headers |= {":method": request.method or "", ":path": request.get_full_path()}
    try:
        try:
            found = verified(account, headers, raw)
        except BadSignature:
            again = account_at(hook_key, anew=True)  # its secret may have been changed a moment ago
            if again is None or again.state == ChannelAccount.State.DISABLED:
                return HttpResponse(status=401)
            account = again
            found = verified(account, headers, raw)
    except BadSignature:
        return HttpResponse(status=401)
    except ChannelError:
        return HttpResponse(status=503, headers={"Retry-After": str(AGAIN_AFTER)})
    except (*UNREADABLE, RecursionError) as error:
        # signed, so it is from the channel; asking for it again would bring the same bytes
        return _kept(account, raw, unfit(raw), str(error))
    if found and not plain(raw) and (sentence := unfit(raw)):
        return _kept(account, raw, sentence, "")
    inbox.accept(account, found)
    return HttpResponse(status=200)


def _kept(account: ChannelAccount, raw: bytes, sentence: str, error: str) -> HttpResponse:
    """Nothing is booked of it; a person sees that it came. 200: it would only come again as it is, and channels switch
    addresses off that refuse often, so that a buyer could do it with a letter in a name."""
    why = f"the message cannot be read: {sentence or error}"
    inbox.accept_unreadable(account, hashlib.sha256(raw).hexdigest(), raw, why)
    return HttpResponse(status=200)
