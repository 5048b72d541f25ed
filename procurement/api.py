"""Suppliers and purchase orders over HTTP."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from inventory.api import UnitField
from inventory.models import Transfer, Warehouse
from inventory.selectors import resolve_codes
from inventory.work_api import TransferSerializer
from oms.core.access import can, principal_of, require, scope_of
from oms.core.actor import actor_of
from oms.core.api import bulk
from oms.core.api.fields import MoneyField, SparseFieldsMixin
from oms.core.api.forms import Form
from oms.core.api.problems import places_of, pointing
from oms.core.api.resources import Resource
from oms.core.doorbell import ring
from oms.core.errors import UserError
from procurement import landed, moves, planner, purchase_orders, receiving
from procurement.models import (
    LandedCharge,
    PurchaseOrder,
    PurchaseOrderLine,
    Receipt,
    ReceiptLine,
    ReorderSuggestion,
    Supplier,
    TransferOffer,
)

BIG = 2**62


class SupplierSerializer(SparseFieldsMixin, serializers.ModelSerializer[Supplier]):
    email = serializers.CharField(read_only=True, help_text="empty when none is known")

    class Meta:
        model = Supplier
        fields = ["id", "code", "name", "currency", "lead_time_days", "email", "country", "is_active"]
        read_only_fields = fields


class LineSerializer(serializers.ModelSerializer[PurchaseOrderLine]):
    sku = serializers.CharField(source="sku.code", read_only=True)
    open_quantity = serializers.IntegerField(read_only=True)
    pack_price = MoneyField(
        "pack_price",
        "order.currency",
        needs=("costs.view",),
        help_text="price of one pack; null for a line by each",
    )
    unit_price = MoneyField(
        "unit_price", "order.currency", needs=("costs.view",), help_text="null without the right to see costs"
    )

    class Meta:
        model = PurchaseOrderLine
        fields = [
            "id",
            "number",
            "sku",
            "quantity",
            "received",
            "short",
            "open_quantity",
            "unit",
            "unit_size",
            "unit_price",
            "pack_price",
            "expected_on",
            "agreed_on",
        ]
        read_only_fields = fields


class PurchaseOrderSerializer(SparseFieldsMixin, serializers.ModelSerializer[PurchaseOrder]):
    number = serializers.CharField(read_only=True)
    supplier = serializers.CharField(source="supplier.code", read_only=True)
    warehouse = serializers.CharField(source="warehouse.code", read_only=True)
    lines = LineSerializer(many=True, read_only=True)

    class Meta:
        model = PurchaseOrder
        fields = [
            "id",
            "number",
            "external_number",
            "supplier",
            "warehouse",
            "state",
            "currency",
            "ordered_on",
            "sent_at",
            "expected_on",
            "note",
            "version",
            "updated_at",
            "lines",
        ]
        read_only_fields = fields


class ReceiptLineSerializer(serializers.ModelSerializer[ReceiptLine]):
    sku = serializers.CharField(source="order_line.sku.code", read_only=True)

    unit_cost = serializers.SerializerMethodField(help_text="null without the right to see costs")

    class Meta:
        model = ReceiptLine
        fields = ["sku", "good", "damaged", "quarantine", "unit_cost"]
        read_only_fields = fields

    @extend_schema_field(serializers.DecimalField(max_digits=14, decimal_places=4, allow_null=True))
    def get_unit_cost(self, line: ReceiptLine) -> str | None:
        if not can(principal_of(self.context["request"]), "costs.view"):
            return None
        return None if line.unit_cost is None else str(line.unit_cost)


class ReceiptSerializer(serializers.ModelSerializer[Receipt]):
    number = serializers.CharField(read_only=True)
    lines = ReceiptLineSerializer(many=True, read_only=True)

    class Meta:
        model = Receipt
        fields = ["id", "number", "received_at", "delivery_note", "lines"]
        read_only_fields = fields


class LineRequest(Form):
    sku = serializers.CharField(max_length=80)
    quantity = serializers.IntegerField(min_value=1, max_value=10_000_000, help_text="in the unit")
    unit = UnitField()
    unit_price = serializers.DecimalField(
        max_digits=14, decimal_places=4, min_value=0, required=False, help_text="per each"
    )


class OrderRequest(Form):
    supplier = serializers.CharField(max_length=30)
    warehouse = serializers.CharField(max_length=20)
    lines = LineRequest(many=True, allow_empty=False)
    expected_on = serializers.DateField(required=False)
    external_number = serializers.CharField(max_length=60, required=False, allow_blank=True, default="")
    note = serializers.CharField(max_length=2000, required=False, allow_blank=True, default="")


class ArrivedRequest(Form):
    line = serializers.IntegerField(min_value=1, max_value=BIG, help_text="purchase order line id")
    good = serializers.IntegerField(min_value=0, max_value=10_000_000, default=0)
    damaged = serializers.IntegerField(min_value=0, max_value=10_000_000, default=0)
    quarantine = serializers.IntegerField(min_value=0, max_value=10_000_000, default=0)
    unit = UnitField(help_text="of the three figures: a pack of the SKU, such as case; empty: each")
    lot = serializers.CharField(max_length=60, required=False, allow_blank=True, default="")
    expires_on = serializers.DateField(required=False)
    serials = serializers.ListField(
        child=serializers.CharField(max_length=60), required=False, default=list, help_text="one per unit"
    )


@extend_schema_serializer(component_name="PurchaseReceive")
class ReceiveRequest(Form):
    key = serializers.CharField(max_length=60, help_text="the same key posts once")
    lines = ArrivedRequest(many=True, allow_empty=False)
    delivery_note = serializers.CharField(max_length=80, required=False, allow_blank=True, default="")


class ChargeRequest(Form):
    kind = serializers.ChoiceField(choices=LandedCharge.Kind.choices)
    basis = serializers.ChoiceField(choices=LandedCharge.Basis.choices)
    amount = serializers.DecimalField(max_digits=14, decimal_places=4)
    bill_reference = serializers.CharField(max_length=80, required=False, allow_blank=True, default="")


class ConfirmRequest(Form):
    expected_on = serializers.DateField(
        required=False, help_text="the day the supplier promises, when it is another"
    )


class RescheduleRequest(Form):
    expected_on = serializers.DateField(help_text="the day the goods come now")
    line = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=BIG,
        help_text="id of the one line that moves; left out: the order",
    )
    reason = serializers.CharField(max_length=160, required=False, allow_blank=True, default="")


class QuantityRequest(Form):
    line = serializers.IntegerField(min_value=1, max_value=BIG, help_text="id of the line")
    quantity = serializers.IntegerField(min_value=1, max_value=10_000_000, help_text="eaches ordered in all")


class TransferOfferSerializer(serializers.ModelSerializer[TransferOffer]):
    # DRF takes declared fields out of the class: its own attribute `source` stays what it is
    source = serializers.CharField(source="source.code", read_only=True)  # type: ignore[assignment]

    class Meta:
        model = TransferOffer
        fields = ["source", "quantity", "keeps", "reorder_point"]
        read_only_fields = fields


class SuggestionSerializer(SparseFieldsMixin, serializers.ModelSerializer[ReorderSuggestion]):
    sku = serializers.CharField(source="sku.code", read_only=True)
    warehouse = serializers.CharField(source="warehouse.code", read_only=True)
    supplier = serializers.CharField(
        source="offer.supplier.code", read_only=True, allow_null=True, default=None
    )
    unit_price = MoneyField(
        "offer.price", "offer.currency", needs=("costs.view",), help_text="null without an offer"
    )
    purchase_order = serializers.IntegerField(
        source="order_line.order_id", read_only=True, allow_null=True, default=None
    )
    transfers = TransferOfferSerializer(
        source="offered",
        many=True,
        read_only=True,
        help_text="what other warehouses can give; not requested yet",
    )
    trace: Any = serializers.DictField(read_only=True, help_text="every input of the sum")

    class Meta:
        model = ReorderSuggestion
        fields = [
            "id", "sku", "warehouse", "supplier", "state", "need", "quantity", "reorder_point", "position",
            "stockout_on", "reason", "unit_price", "purchase_order", "transfers", "snoozed_until", "created_at",
            "updated_at", "trace",
        ]  # fmt: skip
        read_only_fields = fields


class OrderSuggestionsRequest(Form):
    ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=BIG), min_length=1, max_length=bulk.MOST
    )


class SuggestionSnoozeRequest(Form):
    until = serializers.DateField(help_text="a day after today")


class SuggestionFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=ReorderSuggestion.State.choices)
    sku = django_filters.CharFilter(field_name="sku__code", lookup_expr="iexact")
    supplier = django_filters.CharFilter(field_name="offer__supplier__code")
    warehouse = django_filters.CharFilter(field_name="warehouse__code")

    class Meta:
        model = ReorderSuggestion
        fields = ["state", "sku", "supplier", "warehouse"]


class PurchaseOrderFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=PurchaseOrder.State.choices)
    supplier = django_filters.CharFilter(field_name="supplier__code")
    warehouse = django_filters.CharFilter(field_name="warehouse__code")

    class Meta:
        model = PurchaseOrder
        fields = ["state", "supplier", "warehouse"]


class SupplierViewSet(Resource[Supplier]):
    """Who we buy from."""

    queryset = Supplier.objects.all()
    serializer_class = SupplierSerializer
    keyset_order = ("id",)
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "purchasing:read"}


class PurchaseOrderViewSet(Resource[PurchaseOrder]):
    """Purchase orders of the warehouses you may see."""

    queryset = PurchaseOrder.objects.none()
    serializer_class = PurchaseOrderSerializer
    filterset_class = PurchaseOrderFilter
    keyset_order = ("-id",)
    updated_field, updated_order = "updated_at", ("updated_at", "id")
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "purchasing:read", "POST": "purchasing:write"}

    def get_queryset(self) -> QuerySet[PurchaseOrder]:
        if getattr(self, "swagger_fake_view", False):
            return PurchaseOrder.objects.none()
        scope = scope_of(principal_of(self.request), "purchasing.view")
        return (
            PurchaseOrder.objects.filter(scope.q(warehouse="warehouse__code"))
            .select_related("supplier", "warehouse")
            .prefetch_related("lines__sku", "lines__order")
        )

    def _done(self, pk: int, status: int = 200) -> Response:
        return Response(self.get_serializer(self.get_queryset().get(pk=pk)).data, status)

    @extend_schema(request=OrderRequest, responses={201: PurchaseOrderSerializer})
    def create(self, request: Request) -> Response:
        """Make a draft. Without a price the supplier's offer in force gives it."""
        principal = principal_of(request)
        require(principal, "purchasing.edit")
        data = OrderRequest.read(request)
        supplier = Supplier.objects.filter(code=data["supplier"]).first()
        if supplier is None:
            raise UserError(f"supplier: there is no supplier '{data['supplier']}'.", field="supplier")
        scope = scope_of(principal, "purchasing.edit")
        warehouse = Warehouse.objects.filter(scope.q(warehouse="code"), code=data["warehouse"]).first()
        if warehouse is None:
            raise UserError(f"warehouse: there is no warehouse '{data['warehouse']}'.", field="warehouse")
        known = resolve_codes([line["sku"] for line in data["lines"]])
        for at, line in enumerate(data["lines"]):
            if line["sku"] not in known:
                raise UserError(
                    f"lines.{at}.sku: '{line['sku']}' is neither a SKU nor an alias of one.",
                    field=f"lines.{at}.sku",
                )
        with pointing("lines", {number: number - 1 for number in range(1, len(data["lines"]) + 1)}):
            made = purchase_orders.create(
                supplier_id=supplier.pk,
                warehouse_id=warehouse.pk,
                actor=actor_of(principal),
                expected_on=data.get("expected_on"),
                external_number=data["external_number"],
                note=data["note"],
                lines=[
                    purchase_orders.LineSpec(
                        known[x["sku"]].pk, x["quantity"], x.get("unit_price"), unit=x["unit"]
                    )
                    for x in data["lines"]
                ],
            )
        return self._done(made.pk, 201)

    def _move(self, name: str) -> Response:
        order = self.get_object()
        principal = principal_of(self.request)
        require(principal, "purchasing.edit", order.warehouse.code)
        getattr(purchase_orders, name)(order.pk, actor=actor_of(principal))
        return self._done(order.pk)

    @extend_schema(request=None, responses=PurchaseOrderSerializer)
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Draft → approved."""
        return self._move("approve")

    @extend_schema(request=None, responses=PurchaseOrderSerializer)
    @action(detail=True, methods=["post"])
    def send(self, request: Request, pk: str) -> Response:
        """The order went to the supplier; the measured lead time starts."""
        return self._move("send")

    @extend_schema(request=ConfirmRequest, responses=PurchaseOrderSerializer)
    @action(detail=True, methods=["post"])
    def confirm(self, request: Request, pk: str) -> Response:
        """The supplier confirmed, perhaps for another day."""
        order = self.get_object()
        principal = principal_of(request)
        require(principal, "purchasing.edit", order.warehouse.code)
        purchase_orders.confirm(order.pk, actor=actor_of(principal), **ConfirmRequest.read(request))
        return self._done(order.pk)

    @extend_schema(request=RescheduleRequest, responses=PurchaseOrderSerializer)
    @action(detail=True, methods=["post"])
    def reschedule(self, request: Request, pk: str) -> Response:
        """The goods come on another day: the whole order, or one line. Orders that wait for them get their new dates.

        A line with a date of its own keeps it when the order moves; after sending, `agreed_on` keeps the first one.
        """
        order = self.get_object()
        principal = principal_of(request)
        require(principal, "purchasing.edit", order.warehouse.code)
        data = RescheduleRequest.read(request)
        purchase_orders.reschedule(
            order.pk,
            data["expected_on"],
            line_id=data.get("line"),
            reason=data["reason"],
            actor=actor_of(principal),
        )
        return self._done(order.pk)

    @extend_schema(request=QuantityRequest, responses=PurchaseOrderSerializer)
    @action(detail=True, methods=["post"])
    def quantity(self, request: Request, pk: str) -> Response:
        """Another number of units of one line, never below what has arrived; 409 once the order has ended."""
        order = self.get_object()
        principal = principal_of(request)
        require(principal, "purchasing.edit", order.warehouse.code)
        data = QuantityRequest.read(request)
        purchase_orders.change_quantity(order.pk, data["line"], data["quantity"], actor=actor_of(principal))
        return self._done(order.pk)

    @extend_schema(request=None, responses=PurchaseOrderSerializer)
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: str) -> Response:
        """End it; open units count as short."""
        return self._move("close")

    @extend_schema(request=None, responses=PurchaseOrderSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Call it off before anything arrived."""
        return self._move("cancel")

    @extend_schema(request=ChargeRequest, responses=PurchaseOrderSerializer)
    @action(detail=True, methods=["post"])
    def charges(self, request: Request, pk: str) -> Response:
        """Add freight, duty or another cost, split to the cent."""
        order = self.get_object()
        principal = principal_of(request)
        require(principal, "purchasing.edit", order.warehouse.code)
        data = ChargeRequest.read(request)
        landed.add_charge(order.pk, actor=actor_of(principal), **data)
        return self._done(order.pk)

    @extend_schema(request=ReceiveRequest, responses={201: ReceiptSerializer})
    @action(detail=True, methods=["post"])
    def receive(self, request: Request, pk: str) -> Response:
        """Post what arrived, once per key. More than ordered needs the right to edit and the supplier's tolerance."""
        order = self.get_object()
        principal = principal_of(request)
        require(principal, "purchasing.receive", order.warehouse.code)
        data = ReceiveRequest.read(request)
        skus = {line.pk: line.sku for line in order.lines.all()}
        with pointing("lines", places_of(data["lines"])):
            made = receiving.receive(
                order.pk,
                [
                    receiving.Arrived(
                        x["line"],
                        x["good"],
                        x["damaged"],
                        x["quarantine"],
                        x["lot"],
                        x.get("expires_on"),
                        tuple(x["serials"]),
                    ).of(skus[x["line"]], x["unit"])
                    if x["line"] in skus
                    else receiving.Arrived(x["line"], x["good"], x["damaged"], x["quarantine"])
                    for x in data["lines"]
                ],
                actor=actor_of(principal),
                key=f"api:{data['key']}",
                delivery_note=data["delivery_note"],
                allow_over=can(principal, "purchasing.edit", order.warehouse.code),
            )
        return Response(ReceiptSerializer(made, context=self.get_serializer_context()).data, 201)


class SuggestionViewSet(Resource[ReorderSuggestion]):
    """What to buy next and the whole sum behind each figure; `order` makes drafts of it."""

    queryset = ReorderSuggestion.objects.none()
    serializer_class = SuggestionSerializer
    filterset_class = SuggestionFilter
    keyset_order = ("id",)
    updated_field = "updated_at"
    lookup_value_regex = "[0-9]{1,18}"
    http_method_names = ["get", "post", "head", "options"]
    required_scopes = {
        "GET": "purchasing:read", "order": "purchasing:write", "transfer": "stock:write", "snooze": "purchasing:write",
        "recalculate": "purchasing:write",
    }  # fmt: skip

    def get_queryset(self) -> QuerySet[ReorderSuggestion]:
        if getattr(self, "swagger_fake_view", False):
            return ReorderSuggestion.objects.none()
        scope = scope_of(principal_of(self.request), "purchasing.view")
        found = ReorderSuggestion.objects.filter(scope.q(warehouse="warehouse__code"))
        return found.select_related("sku", "warehouse", "offer__supplier", "order_line").prefetch_related(
            moves.offered()
        )

    @extend_schema(request=OrderSuggestionsRequest, responses={201: PurchaseOrderSerializer(many=True)})
    @action(detail=False, methods=["post"], filterset_class=None, pagination_class=None)
    def order(self, request: Request) -> Response:
        """Turn suggestions into draft purchase orders, one per supplier, warehouse and currency.

        One that was ordered meanwhile is left out; 409 when all of them were.
        """
        principal = principal_of(request)
        require(principal, "purchasing.edit")
        wanted = OrderSuggestionsRequest.read(request)["ids"]
        places = dict(self.get_queryset().filter(pk__in=wanted).values_list("pk", "warehouse__code"))
        for number, pk in enumerate(wanted):
            if pk not in places or not can(principal, "purchasing.edit", places[pk]):
                raise UserError(
                    f"ids: there is no suggestion {pk} (number {number + 1}).", field=f"ids.{number}"
                )
        with pointing("ids", {pk: number for number, pk in enumerate(wanted)}):
            made = planner.accept(wanted, actor=actor_of(principal))
        orders = (
            PurchaseOrder.objects.filter(pk__in=[order.pk for order in made])
            .select_related("supplier", "warehouse")
            .prefetch_related("lines__sku", "lines__order")
            .order_by("pk")
        )
        return Response(
            PurchaseOrderSerializer(orders, many=True, context=self.get_serializer_context()).data, 201
        )

    @extend_schema(request=OrderSuggestionsRequest, responses={201: TransferSerializer(many=True)})
    @action(detail=False, methods=["post"], filterset_class=None, pagination_class=None)
    def transfer(self, request: Request) -> Response:
        """Request what the suggestions offer to move: one transfer per pair of warehouses. Nothing moves yet.

        One whose units were requested meanwhile is left out; 409 when nothing is left.
        """
        principal = principal_of(request)
        require(principal, "stock.transfer")
        wanted = OrderSuggestionsRequest.read(request)["ids"]
        known = set(self.get_queryset().filter(pk__in=wanted).values_list("pk", flat=True))
        for number, pk in enumerate(wanted):
            if pk not in known:
                raise UserError(f"ids: there is no suggestion {pk} (number {number + 1}).", field="ids")
        for code in moves.sources_of(wanted):
            require(principal, "stock.transfer", code)
        made = moves.request(wanted, actor=actor_of(principal))
        asked = (
            Transfer.objects.filter(pk__in=[one.pk for one in made])
            .select_related("source", "destination")
            .prefetch_related("lines__sku")
            .order_by("pk")
        )
        return Response(TransferSerializer(asked, many=True, context=self.get_serializer_context()).data, 201)

    @extend_schema(request=SuggestionSnoozeRequest, responses=SuggestionSerializer)
    @action(detail=True, methods=["post"])
    def snooze(self, request: Request, pk: str) -> Response:
        """Hide it until a day."""
        item = self.get_object()
        principal = principal_of(request)
        require(principal, "purchasing.edit", item.warehouse.code)
        planner.snooze(item.pk, SuggestionSnoozeRequest.read(request)["until"], actor=actor_of(principal))
        return Response(self.get_serializer(self.get_queryset().get(pk=item.pk)).data)

    @extend_schema(request=None, responses={202: None})
    @action(detail=False, methods=["post"], filterset_class=None, pagination_class=None)
    def recalculate(self, request: Request) -> Response:
        """Work all suggestions out anew, in a task."""
        require(principal_of(request), "purchasing.edit")
        ring("oms.orders.tasks.plan_reorders")
        return Response(status=202)


def register(router: SimpleRouter) -> None:
    router.register("suppliers", SupplierViewSet, basename="supplier")
    router.register("reorder-suggestions", SuggestionViewSet, basename="reorder-suggestion")
    router.register("purchase-orders", PurchaseOrderViewSet, basename="purchase-order")
