"""Shipments over HTTP: the floor's steps for scanners and integrators."""

from __future__ import annotations

import uuid
from typing import Any

import django_filters
from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from fulfillment import labels, packing, picking, rates, shipping, surplus
from fulfillment.customs.papers import invoice_pdf
from fulfillment.models import (
    LabelDocument,
    LabelPurchase,
    Parcel,
    RateQuote,
    Shipment,
    ShipmentCharge,
    ShipmentLine,
)
from fulfillment.routing_api import DecisionViewSet, PolicyViewSet
from fulfillment.threepl.api import HandOffViewSet, InboundNoticeViewSet
from oms.core.access import principal_of, require, scope_of
from oms.core.actor import actor_of
from oms.core.api.fields import CountsField, MoneyField, SparseFieldsMixin
from oms.core.api.forms import Form
from oms.core.api.problems import pointing
from oms.core.api.resources import Resource
from oms.core.errors import NotFound, UserError

BIG = 2**62
SURE = (
    "take a number that does not look like one of the carrier, which is refused as doubtful_number otherwise"
)


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
    tracking = serializers.SerializerMethodField(help_text="the furthest scan of the carrier")

    class Meta:
        model = LabelPurchase
        fields = [
            "id",
            "carrier",
            "service_code",
            "state",
            "tracking_number",
            "tracking",
            "cost",
            "error",
            "requested_at",
        ]
        read_only_fields = fields

    def get_tracking(self, purchase: LabelPurchase) -> str:
        return shipping.tracking_status(purchase)


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
            "updated_at",
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


class ScanRequest(Form):
    code = serializers.CharField(max_length=120)
    quantity = serializers.IntegerField(min_value=1, max_value=100_000, default=1)


class ScanAnswer(serializers.Serializer[Any]):
    ok = serializers.BooleanField()
    word = serializers.CharField()
    detail = serializers.CharField()
    done = serializers.BooleanField()


class BoxRequest(Form):
    items = CountsField(
        serializers.IntegerField(min_value=1, max_value=BIG), help_text="shipment line id → units"
    )
    weight_g = serializers.IntegerField(min_value=1, max_value=1_000_000, required=False)
    length_mm = serializers.IntegerField(min_value=1, max_value=10_000, required=False)
    width_mm = serializers.IntegerField(min_value=1, max_value=10_000, required=False)
    height_mm = serializers.IntegerField(min_value=1, max_value=10_000, required=False)


class PackRequest(Form):
    boxes = BoxRequest(many=True, required=False, help_text="left out: everything in one parcel")


class LabelRequest(Form):
    quote = serializers.IntegerField(
        required=False, min_value=1, max_value=BIG, help_text="id of a rate; left out: the chosen one"
    )


class ShortRequest(Form):
    line = serializers.IntegerField(min_value=1, max_value=BIG, help_text="shipment line id")
    missing = serializers.IntegerField(min_value=1, max_value=1_000_000, help_text="units not found")
    reason = serializers.ChoiceField(choices=list(picking.SHORT_REASONS.items()))


class MoreFoundRequest(Form):
    line = serializers.IntegerField(min_value=1, max_value=BIG, help_text="shipment line id")
    units = serializers.IntegerField(min_value=1, max_value=1_000_000, help_text="more than the books say")
    reason = serializers.CharField(max_length=60, help_text="of the list of reasons")
    note = serializers.CharField(max_length=255, required=False, default="", allow_blank=True)


class QuoteRequest(Form):
    quote = serializers.IntegerField(min_value=1, max_value=BIG, help_text="id of a rate")


class OneLabelRequest(Form):
    label = serializers.IntegerField(  # type: ignore[assignment]
        min_value=1, max_value=BIG, help_text="label id, from `parcels`"
    )


class LabelMoreFoundRequest(OneLabelRequest):
    tracking_number = serializers.CharField(max_length=80, help_text="as it stands on the label")
    sure = serializers.BooleanField(required=False, default=False, help_text=SURE)


class LabelEnterRequest(Form):
    carrier = serializers.CharField(max_length=80, help_text="as the channel calls it: USPS")
    tracking_number = serializers.CharField(max_length=80, help_text="as it stands on the label")
    sure = serializers.BooleanField(required=False, default=False, help_text=SURE)
    parcel = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=BIG,
        help_text="parcel id; left out: the first one without a label",
    )


class TrackRequest(OneLabelRequest):
    status = serializers.ChoiceField(choices=[(scan, scan.replace("_", " ")) for scan in shipping.SCANS])
    at = serializers.DateTimeField(help_text="when the carrier scanned the parcel")
    code = serializers.CharField(
        max_length=40, required=False, default="", allow_blank=True, help_text="the carrier's own code"
    )
    text = serializers.CharField(max_length=255, required=False, default="", allow_blank=True)
    place = serializers.CharField(max_length=120, required=False, default="", allow_blank=True)


class AsPdf(JSONRenderer):
    """Lets a client ask for the label by its type; what it renders itself are errors, which are JSON."""

    media_type = "application/pdf"


class AsZpl(AsPdf):
    media_type = "application/zpl"


class ShipmentFilter(django_filters.FilterSet):
    warehouse = django_filters.CharFilter(field_name="warehouse__code")
    state = django_filters.ChoiceFilter(choices=Shipment.State.choices)
    order = django_filters.NumberFilter(field_name="order_id", label="order id")

    class Meta:
        model = Shipment
        fields = ["warehouse", "state", "order"]


def whole(shipments: QuerySet[Shipment]) -> QuerySet[Shipment]:
    """With everything that an answer shows of them."""
    return shipments.select_related("order__channel", "warehouse").prefetch_related(
        "lines__sku", "parcels__purchases__account", "parcels__purchases__events", "charges"
    )


class ShipmentViewSet(Resource[Shipment]):
    """Shipments of the warehouses you may see."""

    queryset = Shipment.objects.none()
    serializer_class = ShipmentSerializer
    filterset_class = ShipmentFilter
    keyset_order = ("-id",)
    updated_field, updated_order = "updated_at", ("updated_at", "id")
    idempotent_atomic = False  # label purchase talks to carriers; every step is idempotent by itself
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "shipments:read", "POST": "shipments:write"}

    def get_queryset(self) -> QuerySet[Shipment]:
        if getattr(self, "swagger_fake_view", False):
            return Shipment.objects.none()
        scope = scope_of(principal_of(self.request), "shipping.view")
        return whole(
            Shipment.objects.filter(scope.q(warehouse="warehouse__code", channel="order__channel__code"))
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
        data = ScanRequest.read(request)
        found = picking.scan(
            shipment.pk,
            data["code"],
            quantity=data["quantity"],
            actor=self._actor(),
        )
        return Response(ScanAnswer(found).data)

    @extend_schema(request=PackRequest, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"])
    def pack(self, request: Request, pk: str) -> Response:
        """Close the parcels of a picked shipment."""
        shipment = self._mine("shipping.work")
        data = PackRequest.read(request)
        boxes = [packing.Box(box.pop("items"), **box) for box in data.get("boxes", [])]
        with pointing("boxes", {place: place for place in range(len(boxes))}):
            packing.pack(shipment.pk, boxes or None, actor=self._actor())
        return self._done(shipment.pk)

    @extend_schema(request=None, responses=QuoteSerializer(many=True))
    @action(detail=True, methods=["post"], filterset_class=None, pagination_class=None)
    def rates(self, request: Request, pk: str) -> Response:
        """Ask every carrier of the warehouse; the chosen rate is marked with its reason.

        A shipment that crosses a customs border is answered 422 while its SKUs lack customs data: the `member` of each
        error is the shipment's line and the field that `PATCH /skus/{id}/` sets, such as /lines/0/hs_code.
        """
        shipment = self._mine("shipping.label")
        return Response(QuoteSerializer(rates.shop(shipment.pk), many=True).data)

    @extend_schema(request=LabelRequest, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"])
    def label(self, request: Request, pk: str) -> Response:
        """Buy the labels, once. Repeating it buys nothing more. 422 while customs data is missing, as for `rates`."""
        shipment = self._mine("shipping.label")
        data = LabelRequest.read(request)
        labels.buy(shipment.pk, quote_id=data.get("quote"), actor=self._actor())
        return self._done(shipment.pk)

    @extend_schema(request=QuoteRequest, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"])
    def choose(self, request: Request, pk: str) -> Response:
        """Take another rate than the proposed one; `label` buys it."""
        shipment = self._mine("shipping.label")
        wanted = QuoteRequest.read(request)["quote"]
        if not shipment.quotes.filter(pk=wanted).exists():
            raise UserError(
                f"quote: {shipment.number} has no rate {wanted}; ask for rates again.", field="quote"
            )
        rates.pick_quote(wanted)
        return self._done(shipment.pk)

    def _label(self, shipment: Shipment, label_id: int) -> int:
        if not LabelPurchase.objects.filter(parcel__shipment=shipment, pk=label_id).exists():
            raise UserError(f"label: {shipment.number} has no label {label_id}.", field="label")
        return label_id

    @extend_schema(request=OneLabelRequest, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"], url_path="void-label")
    def void_label(self, request: Request, pk: str) -> Response:
        """Give a bought label back before the parcel leaves. Repeating it gives nothing more back."""
        shipment = self._mine("shipping.label")
        labels.void(self._label(shipment, OneLabelRequest.read(request)["label"]), actor=self._actor())
        return self._done(shipment.pk)

    @extend_schema(request=LabelMoreFoundRequest, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"], url_path="label-bought")
    def label_bought(self, request: Request, pk: str) -> Response:
        """A purchase whose answer was lost did happen: here is its tracking number."""
        shipment, data = self._mine("shipping.label"), LabelMoreFoundRequest.read(request)
        label = self._label(shipment, data["label"])
        labels.decide_bought(
            label, tracking_number=data["tracking_number"], actor=self._actor(), sure=data["sure"]
        )
        return self._done(shipment.pk)

    @extend_schema(request=LabelEnterRequest, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"], url_path="enter-label")
    def enter_label(self, request: Request, pk: str) -> Response:
        """A label that was bought elsewhere, at the selling channel or over a counter. Repeating it changes nothing."""
        shipment, data = self._mine("shipping.label"), LabelEnterRequest.read(request)
        labels.enter(
            shipment.pk, carrier=data["carrier"], tracking_number=data["tracking_number"],
            parcel_id=data.get("parcel"), actor=self._actor(), sure=data["sure"],
        )  # fmt: skip
        return self._done(shipment.pk)

    @extend_schema(request=OneLabelRequest, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"], url_path="label-not-bought")
    def label_not_bought(self, request: Request, pk: str) -> Response:
        """A purchase whose answer was lost did not happen: the parcel may have another label."""
        shipment = self._mine("shipping.label")
        labels.decide_not_bought(
            self._label(shipment, OneLabelRequest.read(request)["label"]), actor=self._actor()
        )
        return self._done(shipment.pk)

    @extend_schema(request=None, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"], url_path="pick-all")
    def pick_all(self, request: Request, pk: str) -> Response:
        """Everything was picked without scanning; refused where serial numbers must be scanned."""
        shipment = self._mine("shipping.work")
        picking.pick_all(shipment.pk, actor=self._actor())
        return self._done(shipment.pk)

    @extend_schema(request=ShortRequest, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"], url_path="short-pick")
    def short_pick(self, request: Request, pk: str) -> Response:
        """Units could not be found: they leave the shipment, are routed anew, and the place is counted."""
        shipment, data = self._mine("shipping.work"), ShortRequest.read(request)
        if not shipment.lines.filter(pk=data["line"]).exists():
            raise UserError(f"line: {shipment.number} has no line {data['line']}.", field="line")
        picking.short_pick(data["line"], data["missing"], reason=data["reason"], actor=self._actor())
        return self._done(shipment.pk)

    @extend_schema(request=MoreFoundRequest, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"], url_path="found-more")
    def found_more(self, request: Request, pk: str) -> Response:
        """More units lie there than the books say: they become stock, above your limit once a second person agrees."""
        shipment, data = self._mine("shipping.work"), MoreFoundRequest.read(request)
        if not shipment.lines.filter(pk=data["line"]).exists():
            raise UserError(f"line: {shipment.number} has no line {data['line']}.", field="line")
        surplus.found_more(
            data["line"], data["units"], reason=data["reason"], note=data["note"], actor=self._actor(),
            key=f"api:{uuid.uuid4().hex}",
        )  # fmt: skip
        return self._done(shipment.pk)

    @extend_schema(request=None, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"])
    def ship(self, request: Request, pk: str) -> Response:
        """The parcels left the house."""
        shipment = self._mine("shipping.work")
        shipping.ship(shipment.pk, actor=self._actor())
        return self._done(shipment.pk)

    @extend_schema(request=TrackRequest, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"])
    def track(self, request: Request, pk: str) -> Response:
        """A scan of a parcel that has left, counted once; the last parcel delivered delivers the order."""
        shipment, data = self._mine("shipping.work"), TrackRequest.read(request)
        label = self._label(shipment, data.pop("label"))
        shipping.record_tracking(label, actor=self._actor(), **data)
        return self._done(shipment.pk)

    @extend_schema(
        parameters=[
            OpenApiParameter("format_name", OpenApiTypes.STR, OpenApiParameter.PATH, enum=["pdf", "zpl"])
        ],
        responses={
            (200, "application/pdf"): OpenApiTypes.BINARY,
            (200, "application/zpl"): OpenApiTypes.BINARY,
        },
    )
    @action(
        detail=True,
        methods=["get"],
        url_path="label-file/(?P<format_name>pdf|zpl)",
        renderer_classes=[JSONRenderer, AsPdf, AsZpl],
    )
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

    @extend_schema(responses={(200, "application/pdf"): OpenApiTypes.BINARY})
    @action(
        detail=True,
        methods=["get"],
        url_path="commercial-invoice",
        renderer_classes=[JSONRenderer, AsPdf],
    )
    def commercial_invoice(self, request: Request, pk: str) -> HttpResponse:
        """The commercial invoice of a packed shipment that crosses a customs border; 422 while data is missing."""
        return HttpResponse(invoice_pdf(self.get_object()), content_type="application/pdf")


def register(router: SimpleRouter) -> None:
    router.register("shipments", ShipmentViewSet, basename="shipment")
    router.register("hand-offs", HandOffViewSet, basename="hand-off")
    router.register("inbound-notices", InboundNoticeViewSet, basename="inbound-notice")
    router.register("routing-policies", PolicyViewSet, basename="routing-policy")
    router.register("routing-decisions", DecisionViewSet, basename="routing-decision")
