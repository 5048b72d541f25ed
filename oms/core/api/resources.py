"""What nearly every resource is: a list, one object with its tag, and steps that are taken once."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model
from rest_framework import mixins, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from oms.core.api.idempotency import IdempotentMixin
from oms.core.api.versions import VersionedMixin

M = TypeVar("M", bound=Model)


class Resource(
    IdempotentMixin,
    VersionedMixin,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    viewsets.GenericViewSet[M],
):
    """List and retrieve; POST honours `Idempotency-Key`, changes of one object honour `If-Match`.

    What a POST made is named by `Location`, also when its answer is repeated.
    """

    #: parameters that an action reads itself, beside its filters
    extra_parameters: tuple[str, ...] = ()

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        data = getattr(response, "data", None)
        if self.action == "create" and response.status_code in (201, 202) and isinstance(data, dict):
            key = data.get("id" if self.lookup_field in ("pk", "id") else self.lookup_url_kwarg or "")
            if key is not None:
                response["Location"] = request.build_absolute_uri(f"{request.path}{key}/")
        finished: Response = super().finalize_response(request, response, *args, **kwargs)
        return finished
