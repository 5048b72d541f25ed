"""Hand-offs to 3PLs over HTTP."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from fulfillment.models import HandOff, HandOffLine, InboundNotice, InboundReceipt
from fulfillment.threepl import handoff, selectors
from oms.core.access import principal_of, require
from oms.core.actor import Actor, actor_of
from oms.core.api.fields import SparseFieldsMixin
from oms.core.api.forms import Form
from oms.core.api.resources import Resource


class HandOffLineSerializer(serializers.ModelSerializer[HandOffLine]):
    sku = serializers.CharField(source="sku.code", read_only=True)

    class Meta:
        model = HandOffLine
        fields = ["number", "sku", "quantity", "shipped", "cancelled", "excess"]
        read_only_fields = fields


class HandOffSerializer(SparseFieldsMixin, serializers.ModelSerializer[HandOff]):
    account = serializers.CharField(source="account.code", read_only=True)
    warehouse = serializers.CharField(source="account.warehouse.code", read_only=True)
    order = serializers.CharField(source="shipment.order.number", read_only=True)
    shipment = serializers.CharField(source="shipment.number", read_only=True)
    lines = HandOffLineSerializer(many=True, read_only=True)

    class Meta:
        model = HandOff
        fields = [
            "id", "reference", "external_id", "account", "warehouse", "order", "shipment", "state", "error",
            "planned_at", "sent_at", "confirmed_at", "acknowledged_at", "finished_at", "lines",
        ]  # fmt: skip
        read_only_fields = fields


class TakeBackRequest(Form):
    reason = serializers.CharField(max_length=200)


class HandOffFilter(django_filters.FilterSet):
    account = django_filters.CharFilter(field_name="account__code")
    state = django_filters.ChoiceFilter(choices=HandOff.State.choices)
    reference = django_filters.CharFilter(field_name="reference")

    class Meta:
        model = HandOff
        fields = ["account", "state", "reference"]


class HandOffViewSet(Resource[HandOff]):
    """Shipments given to 3PLs, newest first."""

    queryset = HandOff.objects.none()
    serializer_class = HandOffSerializer
    filterset_class = HandOffFilter
    keyset_order = ("-id",)
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "shipments:read", "POST": "shipments:write"}

    def get_queryset(self) -> QuerySet[HandOff]:
        if getattr(self, "swagger_fake_view", False):
            return HandOff.objects.none()
        return selectors.hand_offs(principal_of(self.request)).prefetch_related("lines__sku")

    def _mine(self) -> HandOff:
        item = self.get_object()
        require(
            principal_of(self.request),
            "shipping.work",
            item.account.warehouse.code,
            item.shipment.order.channel.code,
        )
        return item

    def _actor(self) -> Actor:
        return actor_of(principal_of(self.request))

    def _done(self, pk: int) -> Response:
        return Response(self.get_serializer(self.get_queryset().get(pk=pk)).data)

    @extend_schema(request=None, responses=HandOffSerializer)
    @action(detail=True, methods=["post"], url_path="send-again")
    def send_again(self, request: Request, pk: str) -> Response:
        """Send a refused one again; look up one whose answer was lost. The reference stays the same."""
        item = self._mine()
        handoff.send_again(item.pk, actor=self._actor())
        return self._done(item.pk)

    @extend_schema(request=TakeBackRequest, responses=HandOffSerializer)
    @action(detail=True, methods=["post"], url_path="take-back")
    def take_back(self, request: Request, pk: str) -> Response:
        """Tell the 3PL not to send it; the order is routed anew once it has let go."""
        item = self._mine()
        data = TakeBackRequest.read(request)
        handoff.take_back(item.pk, data["reason"], actor=self._actor())
        return self._done(item.pk)


class InboundReceiptSerializer(serializers.ModelSerializer[InboundReceipt]):
    class Meta:
        model = InboundReceipt
        fields = ["external_id", "units", "problems", "received_at", "booked_at"]
        read_only_fields = fields


class InboundNoticeSerializer(SparseFieldsMixin, serializers.ModelSerializer[InboundNotice]):
    account = serializers.CharField(source="account.code", read_only=True)
    warehouse = serializers.CharField(source="account.warehouse.code", read_only=True)
    receipts = InboundReceiptSerializer(many=True, read_only=True)

    class Meta:
        model = InboundNotice
        fields = [
            "id", "reference", "account", "warehouse", "purchase_order", "transfer", "state", "version", "error",
            "planned_at", "told_at", "finished_at", "receipts",
        ]  # fmt: skip
        read_only_fields = fields


class InboundNoticeFilter(django_filters.FilterSet):
    account = django_filters.CharFilter(field_name="account__code")
    state = django_filters.ChoiceFilter(choices=InboundNotice.State.choices)
    reference = django_filters.CharFilter(field_name="reference")

    class Meta:
        model = InboundNotice
        fields = ["account", "state", "reference"]


class InboundNoticeViewSet(Resource[InboundNotice]):
    """Deliveries that 3PLs are told to expect, and their receipts, newest first."""

    queryset = InboundNotice.objects.none()
    serializer_class = InboundNoticeSerializer
    filterset_class = InboundNoticeFilter
    keyset_order = ("-id",)
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "shipments:read"}

    def get_queryset(self) -> QuerySet[InboundNotice]:
        if getattr(self, "swagger_fake_view", False):
            return InboundNotice.objects.none()
        return selectors.inbound(principal_of(self.request)).prefetch_related("receipts")
