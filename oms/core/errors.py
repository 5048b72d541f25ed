"""Errors that people read. Each names the field and the fix; screens and API show the same sentence."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager


class UserError(Exception):
    """A wrong file, payload, key or click. Maps to 400 (API) or a form error.

    `parts` holds (place in the object itself, sentence) where what is wrong is stored already, and may be much.
    """

    status = 400
    code = "refused"

    def __init__(
        self, message: str, *, field: str = "", code: str = "", parts: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        #: of many that were given, the one that it is about: its line, SKU … (`about`)
        self.item: Hashable = None
        self.code = code or self.code
        self.parts = tuple(parts)


class NotAllowed(UserError):
    """The caller lacks a right (403)."""

    status = 403
    code = "not_allowed"


class NotFound(UserError):
    """No such object, or one that the caller may not see (404)."""

    status = 404
    code = "not_found"


class Conflict(UserError):
    """True facts forbid it now: wrong state, stale version, not enough left (409)."""

    status = 409
    code = "conflict"


@contextmanager
def about(item: Hashable) -> Iterator[None]:
    """Around the work on one of many: an error inside is about that one, so a door can point at its place."""
    try:
        yield
    except UserError as error:
        if error.item is None:
            error.item = item
        raise
