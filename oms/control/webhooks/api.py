"""Webhooks over HTTP: endpoints, their deliveries, and sending again."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import BaseRouter

from oms.control.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from oms.control.webhooks import service
from oms.core.access import principal_of
from oms.core.actor import Actor, actor_of
from oms.core.api.fields import SparseFieldsMixin, expect_version
from oms.core.api.forms import Form
from oms.core.api.resources import Resource


class EndpointSerializer(SparseFieldsMixin, serializers.ModelSerializer[WebhookEndpoint]):
    events = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = WebhookEndpoint
        fields = ["id", "url", "description", "events", "state", "why", "old_secret_until", "created_by", "created_at",
                  "version"]  # fmt: skip
        read_only_fields = fields


class NewEndpointSerializer(EndpointSerializer):
    """The only answers that hold the secret."""

    secret = serializers.CharField(
        read_only=True,
        allow_null=True,
        help_text="whsec_…; shown this once, null when the answer is repeated",
    )

    class Meta(EndpointSerializer.Meta):
        fields = [*EndpointSerializer.Meta.fields, "secret"]
        read_only_fields = fields


def _events(**extra: Any) -> serializers.ListField:
    choice = serializers.ChoiceField(choices=list(service.EVENTS.items()))
    return serializers.ListField(child=choice, min_length=1, max_length=len(service.EVENTS), **extra)


class NewEndpoint(Form):
    url = serializers.CharField(max_length=500, help_text="https on port 443, at a public address")
    events = _events()
    description = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")


class EndpointChange(Form):
    url = serializers.CharField(max_length=500, required=False)
    events = _events(required=False)
    description = serializers.CharField(max_length=120, required=False, allow_blank=True)
    state = serializers.ChoiceField(
        choices=["active", "paused"], required=False, help_text="active also ends 'gave up'"
    )
    version = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1)


class ReplayRequest(Form):
    since = serializers.DateTimeField(help_text="first moment, with zone")
    until = serializers.DateTimeField(help_text="no longer counts")
    events = _events(required=False, help_text="left out: all that the endpoint wants")


class ReplayAnswer(serializers.Serializer[Any]):
    events = serializers.IntegerField(help_text="put on their way")


class Closed:
    """Whose token is limited to some places hears of nothing: events tell of all of them."""

    request: Any

    def principal(self) -> Any:
        return principal_of(self.request)

    def actor(self) -> Actor:
        return actor_of(self.principal())

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        service.require_everywhere(self.principal())


class EndpointViewSet(Closed, Resource[WebhookEndpoint]):
    """Where events are told. The signature is that of Standard Webhooks 1.0.0."""

    queryset = WebhookEndpoint.objects.all()
    serializer_class = EndpointSerializer
    keyset_order = ("id",)
    lookup_value_regex = "[0-9]{1,18}"
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]
    required_scopes = {
        "GET": "webhooks:read", "POST": "webhooks:write", "PATCH": "webhooks:write", "DELETE": "webhooks:write",
    }  # fmt: skip

    def _with_secret(self, endpoint: WebhookEndpoint, secret: str, status: int) -> Response:
        endpoint.secret = secret
        return Response(NewEndpointSerializer(endpoint).data, status)

    @extend_schema(request=NewEndpoint, responses={201: NewEndpointSerializer})
    def create(self, request: Request) -> Response:
        """Subscribe an address to events. The answer holds the secret, once."""
        data = NewEndpoint.read(request)
        endpoint, secret = service.create(actor=self.actor(), **data)
        return self._with_secret(endpoint, secret, 201)

    @extend_schema(request=EndpointChange, responses=EndpointSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change the address, the events or the state."""
        endpoint = self.get_object()
        data = EndpointChange.read(request)
        expect_version(endpoint.version, data.get("version"))
        given = {name: value for name, value in data.items() if name != "version"}
        state = given.pop("state", None)
        service.change(endpoint.pk, actor=self.actor(), **given)
        if state is not None:
            (service.resume if state == "active" else service.pause)(endpoint.pk, actor=self.actor())
        return Response(EndpointSerializer(service.find(endpoint.pk)).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Forget the endpoint and its deliveries."""
        service.remove(self.get_object().pk, actor=self.actor())
        return Response(status=204)

    @extend_schema(request=None, responses=NewEndpointSerializer)
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, pk: str) -> Response:
        """A new secret. For 24 hours each message carries two signatures, one of the old secret."""
        endpoint, secret = service.rotate(self.get_object().pk, actor=self.actor())
        return self._with_secret(endpoint, secret, 200)

    @extend_schema(request=ReplayRequest, responses=ReplayAnswer)
    @action(detail=True, methods=["post"])
    def replay(self, request: Request, pk: str) -> Response:
        """Send the events of a stretch of time again: at most 10,000, at most 30 days back."""
        endpoint = self.get_object()
        data = ReplayRequest.read(request)
        count = service.replay(
            endpoint.pk, data["since"], data["until"], actor=self.actor(), events=data.get("events")
        )
        return Response({"events": count})


class DeliverySerializer(SparseFieldsMixin, serializers.ModelSerializer[WebhookDelivery]):
    webhook = serializers.IntegerField(source="endpoint_id", read_only=True)
    event = serializers.CharField(source="event.uid", read_only=True, help_text="the webhook-id")
    type = serializers.CharField(source="event.type", read_only=True)
    occurred_at = serializers.DateTimeField(source="event.occurred_at", read_only=True)
    data: Any = serializers.DictField(source="event.data", read_only=True)

    class Meta:
        model = WebhookDelivery
        fields = ["id", "webhook", "event", "type", "subject", "occurred_at", "data", "state", "attempts",
                  "next_attempt_at", "delivered_at", "error"]  # fmt: skip
        read_only_fields = fields


class AttemptSerializer(serializers.ModelSerializer[WebhookAttempt]):
    class Meta:
        model = WebhookAttempt
        fields = ["at", "ms", "status", "request", "answer", "error"]
        read_only_fields = fields


class DeliveryDetailSerializer(DeliverySerializer):
    tries = AttemptSerializer(many=True, read_only=True)

    class Meta(DeliverySerializer.Meta):
        fields = [*DeliverySerializer.Meta.fields, "tries"]
        read_only_fields = fields


class DeliveryFilter(django_filters.FilterSet):
    webhook = django_filters.NumberFilter(field_name="endpoint_id", label="endpoint id")
    state = django_filters.ChoiceFilter(choices=WebhookDelivery.State.choices)
    type = django_filters.ChoiceFilter(field_name="event__type", choices=list(service.EVENTS.items()))
    event = django_filters.CharFilter(field_name="event__uid", max_length=40)
    subject = django_filters.CharFilter(max_length=80)

    class Meta:
        model = WebhookDelivery
        fields = ["webhook", "state", "type", "event", "subject"]


class DeliveryViewSet(Closed, Resource[WebhookDelivery]):
    """What was told to whom, newest first; one with its tries."""

    queryset = WebhookDelivery.objects.select_related("event")
    filterset_class = DeliveryFilter
    keyset_order = ("-id",)
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "webhooks:read", "POST": "webhooks:write"}

    def get_queryset(self) -> QuerySet[WebhookDelivery]:
        found = super().get_queryset()
        return found if self.action == "list" else found.prefetch_related("tries")

    def get_serializer_class(self) -> type[Any]:
        return DeliverySerializer if self.action == "list" else DeliveryDetailSerializer

    @extend_schema(request=None, responses=DeliveryDetailSerializer)
    @action(detail=True, methods=["post"])
    def resend(self, request: Request, pk: str) -> Response:
        """Send it again, whatever became of it."""
        service.resend(self.get_object().pk, actor=self.actor())
        return Response(
            DeliveryDetailSerializer(self.get_object(), context=self.get_serializer_context()).data
        )


def register(router: BaseRouter) -> None:
    router.register("webhooks", EndpointViewSet, basename="webhook")
    router.register("webhook-deliveries", DeliveryViewSet, basename="webhook-delivery")
