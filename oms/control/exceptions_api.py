"""The inbox of exceptions over HTTP: what needs a person, and what the person does about it."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import BaseRouter

from oms.control import selectors
from oms.core import exceptions_inbox
from oms.core.access import principal_of
from oms.core.actor import actor_of
from oms.core.api.fields import SparseFieldsMixin
from oms.core.api.forms import Form
from oms.core.api.resources import Resource
from oms.core.errors import UserError
from oms.core.models import ExceptionItem, User


class ExceptionSerializer(SparseFieldsMixin, serializers.ModelSerializer[ExceptionItem]):
    owner = serializers.CharField(source="owner.username", read_only=True, allow_null=True, default=None)
    warehouse = serializers.CharField(source="warehouse_code", read_only=True)
    channel = serializers.CharField(source="channel_code", read_only=True)
    at_stake = serializers.DecimalField(
        source="money", max_digits=14, decimal_places=4, read_only=True, allow_null=True,
        help_text="in the business currency",
    )  # fmt: skip

    class Meta:
        model = ExceptionItem
        fields = ["id", "kind", "title", "detail", "severity", "url", "warehouse", "channel", "at_stake", "due_at",
                  "seen", "first_at", "last_at", "owner", "snoozed_until", "snooze_reason", "closed_at", "closed_by",
                  "close_reason"]  # fmt: skip
        read_only_fields = fields


class ExceptionFilter(django_filters.FilterSet):
    open = django_filters.BooleanFilter(field_name="closed_at", lookup_expr="isnull")
    kind = django_filters.CharFilter(max_length=40)
    severity = django_filters.ChoiceFilter(choices=ExceptionItem.Severity.choices)
    warehouse = django_filters.CharFilter(field_name="warehouse_code", max_length=20)
    channel = django_filters.CharFilter(field_name="channel_code", max_length=40)
    owner = django_filters.CharFilter(field_name="owner__username", max_length=150)

    class Meta:
        model = ExceptionItem
        fields = ["open", "kind", "severity", "warehouse", "channel", "owner"]


class AssignRequest(Form):
    owner = serializers.CharField(max_length=150, allow_blank=True, help_text="user name; empty = nobody")


class SnoozeRequest(Form):
    until = serializers.DateTimeField()
    reason = serializers.CharField(max_length=160)


class ResolveRequest(Form):
    why = serializers.CharField(max_length=200, help_text="what was done")


class ExceptionViewSet(Resource[ExceptionItem]):
    """What only a person can mend, newest first; inside the places that you may see, of the kinds that you may mend."""

    queryset = ExceptionItem.objects.none()
    serializer_class = ExceptionSerializer
    filterset_class = ExceptionFilter
    keyset_order = ("-id",)
    updated_field = "last_at"
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "exceptions:read", "POST": "exceptions:write"}

    def get_queryset(self) -> QuerySet[ExceptionItem]:
        if getattr(self, "swagger_fake_view", False):
            return ExceptionItem.objects.none()
        return selectors.visible_exceptions(principal_of(self.request)).select_related("owner")

    def _done(self, pk: int) -> Response:
        return Response(self.get_serializer(self.get_queryset().get(pk=pk)).data)

    @extend_schema(request=AssignRequest, responses=ExceptionSerializer)
    @action(detail=True, methods=["post"])
    def assign(self, request: Request, pk: str) -> Response:
        """Give it to a person, or back to everybody."""
        item, name = self.get_object(), AssignRequest.read(request)["owner"].strip()
        owner = User.objects.filter(username=name, is_active=True).first() if name else None
        if name and owner is None:
            raise UserError(f"owner: there is no user '{name}'.", field="owner")
        exceptions_inbox.assign(item.pk, owner, actor=actor_of(principal_of(request)))
        return self._done(item.pk)

    @extend_schema(request=SnoozeRequest, responses=ExceptionSerializer)
    @action(detail=True, methods=["post"])
    def snooze(self, request: Request, pk: str) -> Response:
        """Hide it until a time, with a reason."""
        item, data = self.get_object(), SnoozeRequest.read(request)
        exceptions_inbox.snooze(item.pk, data["until"], data["reason"], actor=actor_of(principal_of(request)))
        return self._done(item.pk)

    @extend_schema(request=ResolveRequest, responses=ExceptionSerializer)
    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: str) -> Response:
        """A person mended it."""
        item, data = self.get_object(), ResolveRequest.read(request)
        exceptions_inbox.resolve(item.pk, data["why"], actor=actor_of(principal_of(request)))
        return self._done(item.pk)

    @extend_schema(request=None, responses=ExceptionSerializer)
    @action(detail=True, methods=["post"])
    def reopen(self, request: Request, pk: str) -> Response:
        """Open a closed one again."""
        item = self.get_object()
        exceptions_inbox.reopen(item.pk, actor=actor_of(principal_of(request)))
        return self._done(item.pk)


def register(router: BaseRouter) -> None:
    router.register("exceptions", ExceptionViewSet, basename="exception")
