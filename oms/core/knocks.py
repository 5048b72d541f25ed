"""What the doors where others knock have in common: an answer within the sender's patience."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse

from oms.core.db import short_wait

log = logging.getLogger("lading.hooks")

#: senders give an answer five seconds, connecting and the way included
WAIT_SECONDS = 2.0
#: seconds after which a message that could not be stored may come again
AGAIN_AFTER = 2


def within_patience(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A message that cannot be stored now is answered 503 with `Retry-After`: the sender keeps it and sends it again.

    The database may be busy with another writer (waited for shortly) or away; neither is the sender's fault.
    """

    @functools.wraps(view)
    def answer(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        try:
            with short_wait(WAIT_SECONDS):
                return view(request, *args, **kwargs)
        except (OperationalError, InterfaceError) as error:
            log.warning("a message could not be stored: %s", error)
            return HttpResponse(status=503, headers={"Retry-After": str(AGAIN_AFTER)})

    return answer
