"""`Idempotency-Key`: a repeated POST has one effect and gets the first answer again."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.utils.crypto import salted_hmac
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from oms.core.api.problems import CONTENT_TYPE, Unprocessable, problem
from oms.core.clock import now
from oms.core.models import ApiToken, IdempotencyRecord

KEPT_FOR = dt.timedelta(hours=48)
#: a request that died without an answer stops blocking its key after this time
GIVEN_UP_AFTER = dt.timedelta(minutes=2)
_KEY = re.compile(r"[!-~]{1,120}")


class IdempotentMixin:
    """For DRF views: POST honours `Idempotency-Key`.

    Same key and body: the stored answer, with `Idempotent-Replayed: true`. Other body: 422. Still running:
    409 with Retry-After. An error stores nothing, so that it can be mended and repeated. The answer is stored
    in the transaction of the effect; a view that must talk to another system inside sets
    `idempotent_atomic = False` and makes its own effect idempotent.
    """

    idempotent_atomic = True
    #: members of an answer that are never kept: null when the answer is repeated
    secret_members: tuple[str, ...] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            # keeps the raw bytes before a parser takes the stream, and refuses a body that is too big
            request._request.body  # noqa: B018 read for its effect
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        key = request.headers.get("Idempotency-Key")
        if request.method != "POST" or key is None or not hasattr(self, "post"):
            return
        if not _KEY.fullmatch(key):
            raise ValidationError(
                {"Idempotency-Key": "Use 1 to 120 printable ASCII characters without spaces."}
            )
        handler: Callable[..., Response] = getattr(self, "post")  # noqa: B009 a view set gets it at run time
        setattr(self, "post", lambda *a, **k: self._once(key, handler, *a, **k))  # noqa: B010 as above

    def _once(
        self, key: str, handler: Callable[..., Response], request: Request, *args: Any, **kwargs: Any
    ) -> Response:
        token = request.auth
        actor = f"token:{token.prefix}" if isinstance(token, ApiToken) else f"user:{request.user.pk}"
        # keyed, so that a password in a body cannot be guessed from the table
        digest = salted_hmac("idempotency", request._request.body, algorithm="sha256").hexdigest()
        mine = {"actor": actor, "route": f"{request.method} {request.path}"[:200], "key": key}
        record, created = IdempotencyRecord.objects.get_or_create(**mine, defaults={"digest": digest})
        if not created:
            if record.digest != digest:
                raise Unprocessable("Idempotency-Key: it was used with another body; use a new key.")
            if record.status is not None:
                return Response(record.body, record.status, headers={"Idempotent-Replayed": "true"})
            stale = IdempotencyRecord.objects.filter(
                pk=record.pk, status__isnull=True, created_at__lte=now() - GIVEN_UP_AFTER
            )
            if not stale.update(created_at=now()):
                detail = "Idempotency-Key: the first request with this key is still running."
                return Response(
                    problem(409, detail, code="running", path=request.path),
                    409,
                    headers={"Retry-After": "2"},
                    content_type=CONTENT_TYPE,
                )
        try:
            if not self.idempotent_atomic:
                response = handler(request, *args, **kwargs)
                self._keep(record, response)
                return response
            with transaction.atomic():
                response = handler(request, *args, **kwargs)
                if response.status_code >= 400:
                    transaction.set_rollback(True)
                else:
                    self._keep(record, response)
        except BaseException:
            self._forget(record)
            raise
        if response.status_code >= 400:
            self._forget(record)
        return response

    def _keep(self, record: IdempotencyRecord, response: Response) -> None:
        body = json.loads(JSONRenderer().render(response.data)) if response.data is not None else None
        if isinstance(body, dict):
            body |= {name: None for name in self.secret_members if name in body}
        if response.status_code >= 400:
            IdempotentMixin._forget(record)
        else:
            IdempotencyRecord.objects.filter(pk=record.pk).update(status=response.status_code, body=body)

    @staticmethod
    def _forget(record: IdempotencyRecord) -> None:
        IdempotencyRecord.objects.filter(pk=record.pk, status__isnull=True).delete()
