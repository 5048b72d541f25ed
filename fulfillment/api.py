"""Shipments over HTTP: the floor's steps for scanners and integrators."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from fulfillment import labels, packing, picking, rates, shipping
from fulfillment.models import (
    LabelDocument,
    LabelPurchase,
    Parcel,
    RateQuote,
    Shipment,
    ShipmentCharge,
    ShipmentLine,
)
from fulfillment.threepl.api import HandOffViewSet, InboundNoticeViewSet
from oms.core.access import principal_of, require, scope_of
from oms.core.actor import actor_of
from oms.core.api.fields import CountsField, MoneyField, SparseFieldsMixin
from oms.core.api.idempotency import IdempotentMixin
from oms.core.errors import NotFound


class ShipmentLineSerializer(serializers.ModelSerializer[ShipmentLine]):
    sku = serializers.CharField(source="sku.code", read_only=True)

    class Meta:
        model = ShipmentLine
        fields = ["id", "sku", "quantity", "picked", "packed"]
        read_only_fields = fields


class LabelSerializer(serializers.ModelSerializer[LabelPurchase]):
    carrier = serializers.CharField(source="account.code", read_only=True)
    cost = MoneyField(
        "cost", needs=("costs.view", "shipping.label"), help_text="null without the right to see it"
    )

    class Meta:
        model = LabelPurchase
        fields = [
            "id",
            "carrier",
            "service_code",
            "state",
            "tracking_number",
            "cost",
            "error",
            "requested_at",
        ]
        read_only_fields = fields


class ChargeSerializer(serializers.ModelSerializer[ShipmentCharge]):
    amount = MoneyField(
        "amount", needs=("costs.view", "shipping.label"), help_text="null without the right to see it"
    )

    class Meta:
        model = ShipmentCharge
        fields = ["external_id", "kind", "amount", "charged_at"]
        read_only_fields = fields


class ParcelSerializer(serializers.ModelSerializer[Parcel]):
    labels = LabelSerializer(source="purchases", many=True, read_only=True)

    class Meta:
        model = Parcel
        fields = ["id", "number", "weight_g", "length_mm", "width_mm", "height_mm", "labels"]
        read_only_fields = fields


class ShipmentSerializer(SparseFieldsMixin, serializers.ModelSerializer[Shipment]):
    number = serializers.CharField(read_only=True)
    order = serializers.CharField(source="order.number", read_only=True)
    warehouse = serializers.CharField(source="warehouse.code", read_only=True)
    lines = ShipmentLineSerializer(many=True, read_only=True)
    parcels = ParcelSerializer(many=True, read_only=True)
    charges = ChargeSerializer(many=True, read_only=True, help_text="what a 3PL charges beside the labels")

    class Meta:
        model = Shipment
        fields = [
            "id",
            "number",
            "order",
            "warehouse",
            "state",
            "service_code",
            "ship_by",
            "shipped_at",
            "delivered_at",
            "wrong_scans",
            "version",
            "lines",
            "parcels",
            "charges",
        ]
        read_only_fields = fields


class QuoteSerializer(serializers.ModelSerializer[RateQuote]):
    carrier = serializers.CharField(source="account.code", read_only=True)
    price = MoneyField("amount")

    class Meta:
        model = RateQuote
        fields = [
            "id",
            "carrier",
            "service_code",
            "service_name",
            "price",
            "transit_days",
            "arrives_on",
            "zone",
            "is_estimate",
            "chosen",
            "reason",
        ]
        read_only_fields = fields


class ScanRequest(serializers.Serializer[Any]):
    code = serializers.CharField(max_length=120)
    quantity = serializers.IntegerField(min_value=1, max_value=100_000, default=1)


class ScanAnswer(serializers.Serializer[Any]):
    ok = serializers.BooleanField()
    word = serializers.CharField()
    detail = serializers.CharField()
    done = serializers.BooleanField()


class BoxRequest(serializers.Serializer[Any]):
    items = CountsField(
        serializers.IntegerField(min_value=1, max_value=2**62), help_text="shipment line id → units"
    )
    weight_g = serializers.IntegerField(min_value=1, max_value=1_000_000, required=False)
    length_mm = serializers.IntegerField(min_value=1, max_value=10_000, required=False)
    width_mm = serializers.IntegerField(min_value=1, max_value=10_000, required=False)
    height_mm = serializers.IntegerField(min_value=1, max_value=10_000, required=False)


class PackRequest(serializers.Serializer[Any]):
    boxes = BoxRequest(many=True, required=False, help_text="left out: everything in one parcel")


class LabelRequest(serializers.Serializer[Any]):
    quote = serializers.IntegerField(
        required=False, min_value=1, max_value=2**62, help_text="id of a rate; left out: the chosen one"
    )


class ShipmentFilter(django_filters.FilterSet):
    warehouse = django_filters.CharFilter(field_name="warehouse__code")
    state = django_filters.ChoiceFilter(choices=Shipment.State.choices)
    order = django_filters.NumberFilter(field_name="order_id", label="order id")

    class Meta:
        model = Shipment
        fields = ["warehouse", "state", "order"]


class ShipmentViewSet(
    IdempotentMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Shipment]
):
    """Shipments of the warehouses you may see."""

    queryset = Shipment.objects.none()
    serializer_class = ShipmentSerializer
    filterset_class = ShipmentFilter
    keyset_order = ("-id",)
    idempotent_atomic = False  # label purchase talks to carriers; every step is idempotent by itself
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "shipments:read", "POST": "shipments:write"}

    def get_queryset(self) -> QuerySet[Shipment]:
        if getattr(self, "swagger_fake_view", False):
            return Shipment.objects.none()
        scope = scope_of(principal_of(self.request), "shipping.view")
        return (
            Shipment.objects.filter(scope.q(warehouse="warehouse__code", channel="order__channel__code"))
            .select_related("order__channel", "warehouse")
            .prefetch_related("lines__sku", "parcels__purchases__account", "charges")
        )

    def _done(self, shipment_id: int, status: int = 200) -> Response:
        return Response(self.get_serializer(self.get_queryset().get(pk=shipment_id)).data, status)

    def _actor(self) -> Any:
        return actor_of(principal_of(self.request))

    def _mine(self, permission: str) -> Shipment:
        """The shipment, when the caller holds the permission for its warehouse and channel."""
        shipment = self.get_object()
        require(principal_of(self.request), permission, shipment.warehouse.code, shipment.order.channel.code)
        return shipment

    @extend_schema(request=None, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"])
    def claim(self, request: Request, pk: str) -> Response:
        """Take the shipment out of the others' queue."""
        shipment = self._mine("shipping.work")
        picking.claim(shipment.pk, actor=self._actor())
        return self._done(shipment.pk)

    @extend_schema(request=ScanRequest, responses=ScanAnswer)
    @action(detail=True, methods=["post"])
    def scan(self, request: Request, pk: str) -> Response:
        """Count one scanned barcode as picked; a wrong item is refused and counted as a prevented error."""
        shipment = self._mine("shipping.work")
        wanted = ScanRequest(data=request.data)
        wanted.is_valid(raise_exception=True)
        found = picking.scan(
            shipment.pk,
            wanted.validated_data["code"],
            quantity=wanted.validated_data["quantity"],
            actor=self._actor(),
        )
        return Response(ScanAnswer(found).data)

    @extend_schema(request=PackRequest, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"])
    def pack(self, request: Request, pk: str) -> Response:
        """Close the parcels of a picked shipment."""
        shipment = self._mine("shipping.work")
        wanted = PackRequest(data=request.data)
        wanted.is_valid(raise_exception=True)
        boxes = [packing.Box(box.pop("items"), **box) for box in wanted.validated_data.get("boxes", [])]
        packing.pack(shipment.pk, boxes or None, actor=self._actor())
        return self._done(shipment.pk)

    @extend_schema(request=None, responses=QuoteSerializer(many=True))
    @action(detail=True, methods=["post"])
    def rates(self, request: Request, pk: str) -> Response:
        """Ask every carrier of the warehouse; the chosen rate is marked with its reason."""
        shipment = self._mine("shipping.label")
        return Response(QuoteSerializer(rates.shop(shipment.pk), many=True).data)

    @extend_schema(request=LabelRequest, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"])
    def label(self, request: Request, pk: str) -> Response:
        """Buy the labels, once. Repeating it buys nothing more."""
        shipment = self._mine("shipping.label")
        wanted = LabelRequest(data=request.data)
        wanted.is_valid(raise_exception=True)
        labels.buy(shipment.pk, quote_id=wanted.validated_data.get("quote"), actor=self._actor())
        return self._done(shipment.pk)

    @extend_schema(request=None, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"])
    def ship(self, request: Request, pk: str) -> Response:
        """The parcels left the house."""
        shipment = self._mine("shipping.work")
        shipping.ship(shipment.pk, actor=self._actor())
        return self._done(shipment.pk)

    @extend_schema(
        parameters=[
            OpenApiParameter("format_name", OpenApiTypes.STR, OpenApiParameter.PATH, enum=["pdf", "zpl"])
        ],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    @action(detail=True, methods=["get"], url_path="label-file/(?P<format_name>pdf|zpl)")
    def label_file(self, request: Request, pk: str, format_name: str) -> HttpResponse:
        """The label of the first parcel as PDF (4x6 inch) or ZPL."""
        shipment = self.get_object()
        document = LabelDocument.objects.filter(
            purchase__parcel__shipment=shipment,
            purchase__state=LabelPurchase.State.PURCHASED,
            format=format_name,
        ).first()
        if document is None:
            raise NotFound(f"label: {shipment.number} has no {format_name} label.", field="format")
        kind = "application/pdf" if format_name == "pdf" else "application/zpl"
        return HttpResponse(bytes(document.content), content_type=kind)


def register(router: SimpleRouter) -> None:
    router.register("shipments", ShipmentViewSet, basename="shipment")
    router.register("hand-offs", HandOffViewSet, basename="hand-off")
    router.register("inbound-notices", InboundNoticeViewSet, basename="inbound-notice")
