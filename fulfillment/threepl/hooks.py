"""The door where 3PLs knock: `/hooks/3pl/<hook_key>/`. Verify the raw bytes, store once, answer. Nothing else."""

from __future__ import annotations

import secrets

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from fulfillment.models import ThreePLAccount
from fulfillment.threepl import inbox, messages, signing
from oms.core.api.problems import CONTENT_TYPE, pointer_to, problem
from oms.core.clock import now
from oms.core.errors import UserError
from oms.core.knocks import within_patience

MAX_BODY = 1024 * 1024
#: what an unknown address is checked against: the same work, never a match
_NOBODY = secrets.token_hex(32)


@csrf_exempt
@require_POST
@within_patience
def receive(request: HttpRequest, hook_key: str) -> HttpResponse:
    """200 once the message is stored (again for a repeated one), 401 without detail, 413 above 1 MiB, 503 with
    Retry-After when it cannot be stored now.

    A partner can mend what it sends, so what is signed and wrong is answered by a problem document that names the
    place: 400 for what is no JSON, 422 for what is not as agreed. It is kept and shown to a person as well.
    """
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
    except UserError as error:
        inbox.accept_unreadable(account, raw, error.message)
        return _problem(request, 422, error.message, error.field)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else f"it is not JSON ({error})"
        inbox.accept_unreadable(account, raw, f"body: {why}.")
        return _problem(request, 400, f"body: {why}; send JSON in UTF-8.", "")
    try:
        messages.read(topic, body, now())
    except UserError as error:
        inbox.accept_unreadable(account, raw, error.message, topic, body)
        return _problem(request, 422, error.message, f"data.{messages.path_of(error)}")
    inbox.accept(account, delivery, topic, body)
    return HttpResponse(status=200)


def _problem(request: HttpRequest, status: int, sentence: str, place: str) -> HttpResponse:
    errors = [{"pointer": pointer_to(place) if place else "", "code": "invalid", "message": sentence}]
    return JsonResponse(
        problem(status, sentence, code="invalid", errors=errors, path=request.path), status=status,
        content_type=CONTENT_TYPE,
    )  # fmt: skip
