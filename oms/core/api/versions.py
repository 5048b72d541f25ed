"""`ETag` on one object and `If-Match` on what changes it: nobody overwrites what another has just done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from django.db import models, transaction
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.serializer_helpers import ReturnDict

from oms.core.api.problems import PreconditionFailed, PreconditionRequired

_READS = ("GET", "HEAD", "OPTIONS")


def tag_of(data: Any) -> str:
    """The entity tag of an answer: a digest of what the caller sees, so that no change escapes it."""
    return f'"{hashlib.sha256(JSONRenderer().render(data)).hexdigest()[:20]}"'


class VersionedMixin:
    """For view sets of single objects; stands behind `IdempotentMixin`.

    An answer that is the object carries its `ETag`, and a GET with that tag as `If-None-Match` answers 304. With
    `If-Match` a change happens only while the object still looks like that; `"<version>"` does as well where the
    object has one, and `*` means whatever it is. PATCH replaces what people entered, so it must say: 428 without.
    The object's row stays locked from the comparison to the end of the change, except where a view talks to
    another system in between (`idempotent_atomic = False`); there the services' own conditions decide.
    """

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        unknown_method = self.action is None
        if request.method in _READS or unknown_method or not getattr(self, "detail", False):
            return
        given = request.headers.get("If-Match")
        if given is None and request.method != "PATCH" and "If-None-Match" not in request.headers:
            return
        if given is not None and not given.strip():
            raise ValidationError({"If-Match": "Give the ETag that you read, or *."})
        name = str(request.method).lower()
        handler: Callable[..., Response] = getattr(self, name)
        setattr(self, name, lambda *a, **k: self._matched(given, handler, *a, **k))

    def _matched(
        self, given: str | None, handler: Callable[..., Response], *args: Any, **kwargs: Any
    ) -> Response:
        with transaction.atomic() if getattr(self, "idempotent_atomic", True) else nullcontext():
            with self._reading():
                found: models.Model = self.get_object()  # type: ignore[attr-defined]
                if not_this := _tags(self.request.headers.get("If-None-Match", "")):  # type: ignore[attr-defined]
                    known = {"*", tag_of(self.get_serializer(found).data)}  # type: ignore[attr-defined]
                    if not known.isdisjoint(not_this):
                        raise PreconditionFailed("If-None-Match: it is there and looks like that.")
                if given is None and self.request.method == "PATCH":  # type: ignore[attr-defined]
                    raise PreconditionRequired
                if given is not None and given.strip() != "*":
                    self._compare(given, found)
            return handler(*args, **kwargs)

    def _compare(self, given: str, found: models.Model) -> None:
        if getattr(self, "idempotent_atomic", True):
            # not a plain lock: that would make every new row that points here wait
            list(type(found)._base_manager.select_for_update(no_key=True).filter(pk=found.pk))
            found = self.get_object()  # type: ignore[attr-defined]
        known = {tag_of(self.get_serializer(found).data)}  # type: ignore[attr-defined]
        if (version := getattr(found, "version", None)) is not None:
            known |= {f'"{version}"', str(version)}
        if known.isdisjoint(_tags(given)):
            raise PreconditionFailed

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """The view answers as it would to a GET: that is what the caller's tag was taken from."""
        action, self.action = self.action, "retrieve"  # type: ignore[has-type]
        try:
            yield
        finally:
            self.action = action

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        if response.status_code in (200, 201) and self._is_whole(request, response):
            tag = tag_of(response.data)
            # "*" is any tag at all (RFC 9110, 13.1.2), and HEAD is answered as GET would be
            held = _tags(request.headers.get("If-None-Match", ""))
            if request.method in ("GET", "HEAD") and (tag in held or "*" in held):
                response = Response(status=304)
            response["ETag"] = tag
        finished: Response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        return finished

    def _is_whole(self, request: Request, response: Response) -> bool:
        if self.action == "retrieve":
            return "fields" not in request.query_params
        data = getattr(response, "data", None)  # a file has none
        if not isinstance(data, ReturnDict):
            return False
        with self._reading():
            return type(data.serializer) is self.get_serializer_class()  # type: ignore[attr-defined]


def _tags(text: str) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in text.split(",") if tag.strip()]
