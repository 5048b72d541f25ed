"""What nearly every resource is: a list, one object with its tag, and steps that are taken once."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Model
from rest_framework import mixins, viewsets

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
    """List and retrieve; POST honours `Idempotency-Key`, changes of one object honour `If-Match`."""

    #: parameters that an action reads itself, beside its filters
    extra_parameters: tuple[str, ...] = ()
