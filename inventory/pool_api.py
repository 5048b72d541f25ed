"""Differences with operators of pools, over HTTP."""

from __future__ import annotations

import django_filters
from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from inventory import differences, operations, selectors
from inventory.api import Base
from inventory.models import StockDifference
from oms.core.access import require
from oms.core.api.fields import MoneyField, SparseFieldsMixin
from oms.core.api.forms import Form


class DifferenceSerializer(SparseFieldsMixin, serializers.ModelSerializer[StockDifference]):
    number = serializers.CharField(read_only=True)
    sku = serializers.CharField(source="sku.code", read_only=True)
    warehouse = serializers.CharField(source="warehouse.code", read_only=True)
    gap = serializers.IntegerField(read_only=True, help_text="units they have more (less, when negative)")
    value = MoneyField("value", "sku.currency", needs=("costs.view",))
    outcome = serializers.ChoiceField(
        choices=StockDifference.Outcome.choices,
        allow_blank=True,
        read_only=True,
        help_text="empty while it is open",
    )
    owner = serializers.CharField(source="owner.username", read_only=True, allow_null=True, default=None)

    class Meta:
        model = StockDifference
        fields = [
            "id", "number", "sku", "warehouse", "state", "outcome", "theirs", "theirs_unfit", "ours", "ours_unfit",
            "gap", "value", "taken_at", "book_at", "cause", "reason", "owner", "note", "version", "first_at",
            "closed_at",
        ]  # fmt: skip
        read_only_fields = fields


class AcceptRequest(Form):
    reason = serializers.CharField(max_length=60)
    version = serializers.IntegerField(
        min_value=0, max_value=2**31 - 1, required=False, help_text="refused when it changed since"
    )


class DisputeRequest(Form):
    note = serializers.CharField(max_length=400)
    version = serializers.IntegerField(min_value=0, max_value=2**31 - 1, required=False)


class DifferenceFilter(django_filters.FilterSet):
    warehouse = django_filters.CharFilter(field_name="warehouse__code")
    sku = django_filters.CharFilter(field_name="sku__code")
    state = django_filters.ChoiceFilter(choices=StockDifference.State.choices)

    class Meta:
        model = StockDifference
        fields = ["warehouse", "sku", "state"]


class DifferenceViewSet(Base):
    """Where an operator's figure is not ours, newest first."""

    queryset = StockDifference.objects.none()
    serializer_class = DifferenceSerializer
    filterset_class = DifferenceFilter
    keyset_order = ("-id",)
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "stock:read", "POST": "stock:write"}

    def get_queryset(self) -> QuerySet[StockDifference]:
        if self.drawing_schema():
            return StockDifference.objects.none()
        return selectors.visible_differences(self.principal())

    def _mine(self) -> StockDifference:
        row: StockDifference = self.get_object()
        require(self.principal(), "stock.adjust", row.warehouse.code)
        return row

    def _done(self, pk: int) -> Response:
        return Response(self.get_serializer(self.get_queryset().get(pk=pk)).data)

    @extend_schema(request=AcceptRequest, responses=DifferenceSerializer)
    @action(detail=True, methods=["post"])
    def accept(self, request: Request, pk: str) -> Response:
        """Book the operator's figure; above the adjustment limit a second person approves first."""
        row = self._mine()
        data = AcceptRequest.read(request)
        operations.accept_theirs(row.pk, actor=self.actor(), **data)
        return self._done(row.pk)

    @extend_schema(request=DisputeRequest, responses=DifferenceSerializer)
    @action(detail=True, methods=["post"])
    def dispute(self, request: Request, pk: str) -> Response:
        """Keep our figure and ask the operator to count again."""
        row = self._mine()
        data = DisputeRequest.read(request)
        with transaction.atomic():
            differences.dispute(row.pk, actor=self.actor(), **data)
        return self._done(row.pk)
