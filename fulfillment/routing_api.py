"""Routing over HTTP: the rules in force with all their versions, and why an order went where it went."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fulfillment import routing_service
from fulfillment.models import RoutingDecision, RoutingPolicy
from inventory.models import Warehouse
from oms.core.access import principal_of, require, scope_of
from oms.core.actor import actor_of
from oms.core.api.fields import SparseFieldsMixin, expect_version
from oms.core.api.forms import Form
from oms.core.api.resources import Resource
from oms.core.errors import UserError
from oms.orders.selectors import get_visible

BIG = 2**62


class PolicySerializer(SparseFieldsMixin, serializers.ModelSerializer[RoutingPolicy]):
    rules = serializers.ListField(
        child=serializers.DictField(), read_only=True, help_text="in order; each has name, when and then"
    )

    class Meta:
        model = RoutingPolicy
        fields = ["id", "version", "is_active", "rules", "note", "published_by", "published_at"]
        read_only_fields = fields


class RuleRequest(Form):
    """`when` and `then` are described in docs/api.md; a word that is not known there is refused by name."""

    name = serializers.CharField(max_length=80)
    when = serializers.DictField(required=False, help_text="left out or empty: every order")
    then = serializers.DictField()
    active = serializers.BooleanField(required=False)
    stop = serializers.BooleanField(required=False, help_text="no later rule is looked at")


class PolicyRequest(Form):
    rules = RuleRequest(many=True, max_length=200)  # type: ignore[call-arg]
    note = serializers.CharField(max_length=255, required=False, allow_blank=True, default="")
    version = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=2**31 - 1,
        help_text="what you changed; 412 when it is not in force",
    )


class PolicyFilter(django_filters.FilterSet):
    is_active = django_filters.BooleanFilter()

    class Meta:
        model = RoutingPolicy
        fields = ["is_active"]


class PolicyViewSet(Resource[RoutingPolicy]):
    """Sets of routing rules, newest first. A published one is never changed: POST publishes the next."""

    queryset = RoutingPolicy.objects.all()
    serializer_class = PolicySerializer
    filterset_class = PolicyFilter
    keyset_order = ("-id",)
    lookup_value_regex = "[0-9]{1,18}"
    http_method_names = ["get", "post", "head", "options"]
    required_scopes = {"GET": "orders:read", "POST": "orders:write"}
    versioned_actions = ("create",)

    @extend_schema(request=PolicyRequest, responses={201: PolicySerializer})
    def create(self, request: Request) -> Response:
        """Publish a whole set of rules; it is in force for every order that is routed from now on."""
        principal = principal_of(request)
        require(principal, "orders.route")
        data = PolicyRequest.read(request)
        with transaction.atomic():
            active = RoutingPolicy.objects.select_for_update().filter(is_active=True).first()
            expect_version(active.version if active else 0, data.get("version"))
            made = routing_service.publish(
                [dict(rule) for rule in data["rules"]], actor=actor_of(principal), note=data["note"]
            )
        return Response(PolicySerializer(made, context=self.get_serializer_context()).data, 201)


class DecisionSerializer(SparseFieldsMixin, serializers.ModelSerializer[RoutingDecision]):
    order = serializers.IntegerField(source="order_id", read_only=True)

    class Meta:
        model = RoutingDecision
        fields = ["id", "order", "policy_version", "at", "actor", "outcome", "summary"]
        read_only_fields = fields


class DecisionDetailSerializer(DecisionSerializer):
    trace: Any = serializers.DictField(
        read_only=True, help_text="what was seen: rules, every candidate with its sums, why the others lost"
    )

    class Meta(DecisionSerializer.Meta):
        fields = [*DecisionSerializer.Meta.fields, "trace"]
        read_only_fields = fields


class ByHandRequest(Form):
    order = serializers.IntegerField(min_value=1, max_value=BIG, help_text="order id")
    warehouse = serializers.CharField(max_length=20)
    reason = serializers.CharField(max_length=200, help_text="kept on the order")


class DecisionFilter(django_filters.FilterSet):
    order = django_filters.NumberFilter(field_name="order_id", label="order id")

    class Meta:
        model = RoutingDecision
        fields = ["order"]


class DecisionViewSet(Resource[RoutingDecision]):
    """Why this warehouse: the winner, every loser, and what was known at that moment."""

    queryset = RoutingDecision.objects.none()
    filterset_class = DecisionFilter
    keyset_order = ("-id",)
    lookup_value_regex = "[0-9]{1,18}"
    http_method_names = ["get", "post", "head", "options"]
    required_scopes = {"GET": "orders:read", "POST": "orders:write"}

    def get_queryset(self) -> QuerySet[RoutingDecision]:
        if getattr(self, "swagger_fake_view", False):
            return RoutingDecision.objects.none()
        scope = scope_of(principal_of(self.request), "orders.view")
        found = RoutingDecision.objects.filter(scope.q(channel="order__channel__code"))
        return found.defer("trace") if self.action == "list" else found

    def get_serializer_class(self) -> type[Any]:
        return DecisionSerializer if self.action == "list" else DecisionDetailSerializer

    @extend_schema(request=ByHandRequest, responses={201: DecisionDetailSerializer})
    def create(self, request: Request) -> Response:
        """Send an order from a warehouse chosen by a person; automatic routing keeps off it."""
        principal = principal_of(request)
        require(principal, "orders.route")
        data = ByHandRequest.read(request)
        order = get_visible(principal, data["order"], "orders.route")
        place = Warehouse.objects.filter(code=data["warehouse"]).first()
        if place is None:
            raise UserError(f"warehouse: there is no warehouse '{data['warehouse']}'.", field="warehouse")
        require(principal, "orders.route", place.code)
        made = routing_service.assign(order.pk, place.pk, reason=data["reason"], actor=actor_of(principal))
        return Response(DecisionDetailSerializer(made, context=self.get_serializer_context()).data, 201)
