"""Errors that people read. Each names the field and the fix; screens and API show the same sentence."""

from __future__ import annotations


class UserError(Exception):
    """A wrong file, payload, key or click. Maps to 400 (API) or a form error."""

    status = 400
    code = "refused"

    def __init__(self, message: str, *, field: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.code = code or self.code


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
