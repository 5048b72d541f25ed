"""Which representation an answer has: what `Accept` allows of what the address offers."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request


class Negotiation(DefaultContentNegotiation):
    """An empty `Accept` is one left out (RFC 9110 reads nothing into it), and nobody chooses by `?format=`."""

    def get_accept_list(self, request: Request) -> list[str]:
        return super().get_accept_list(request) or ["*/*"]

    def filter_renderers(self, renderers: Any, format: str) -> Any:
        offered = ", ".join(one.media_type for one in renderers)
        sentence = f"This address answers {offered}; leave the parameter out."
        raise ValidationError({"format": ErrorDetail(sentence, code="unknown_parameter")})


class ByParameter(Negotiation):
    """For the description of the interface, which a browser may ask for as `?format=json`."""

    def filter_renderers(self, renderers: Any, format: str) -> Any:
        found = [one for one in renderers if one.format == format]
        if not found:
            offered = ", ".join(sorted({one.format for one in renderers}))
            raise ValidationError({"format": ErrorDetail(f"Choose from {offered}.", code="invalid_choice")})
        return found
