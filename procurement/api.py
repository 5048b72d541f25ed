"""Suppliers and purchase orders over HTTP."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_serializer
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from inventory.api import UnitField
from inventory.models import Warehouse
from inventory.selectors import resolve_codes
from oms.core.access import can, principal_of, require, scope_of
from oms.core.actor import actor_of
from oms.core.api.fields import MoneyField, SparseFieldsMixin
from oms.core.api.idempotency import IdempotentMixin
from oms.core.errors import UserError
from procurement import landed, purchase_orders, receiving
from procurement.models import LandedCharge, PurchaseOrder, PurchaseOrderLine, Receipt, ReceiptLine, Supplier

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


class LineRequest(serializers.Serializer[Any]):
    sku = serializers.CharField(max_length=80)
    quantity = serializers.IntegerField(min_value=1, max_value=10_000_000, help_text="in the unit")
    unit = UnitField()
    unit_price = serializers.DecimalField(
        max_digits=14, decimal_places=4, min_value=0, required=False, help_text="per each"
    )


class OrderRequest(serializers.Serializer[Any]):
    supplier = serializers.CharField(max_length=30)
    warehouse = serializers.CharField(max_length=20)
    lines = LineRequest(many=True, allow_empty=False)
    expected_on = serializers.DateField(required=False)
    external_number = serializers.CharField(max_length=60, required=False, allow_blank=True, default="")
    note = serializers.CharField(max_length=2000, required=False, allow_blank=True, default="")


class ArrivedRequest(serializers.Serializer[Any]):
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
class ReceiveRequest(serializers.Serializer[Any]):
    key = serializers.CharField(max_length=60, help_text="the same key posts once")
    lines = ArrivedRequest(many=True, allow_empty=False)
    delivery_note = serializers.CharField(max_length=80, required=False, allow_blank=True, default="")


class ChargeRequest(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=LandedCharge.Kind.choices)
    basis = serializers.ChoiceField(choices=LandedCharge.Basis.choices)
    amount = serializers.DecimalField(max_digits=14, decimal_places=4)
    bill_reference = serializers.CharField(max_length=80, required=False, allow_blank=True, default="")


class PurchaseOrderFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=PurchaseOrder.State.choices)
    supplier = django_filters.CharFilter(field_name="supplier__code")
    warehouse = django_filters.CharFilter(field_name="warehouse__code")

    class Meta:
        model = PurchaseOrder
        fields = ["state", "supplier", "warehouse"]


class SupplierViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Supplier]):
    """Who we buy from."""

    queryset = Supplier.objects.all()
    serializer_class = SupplierSerializer
    keyset_order = ("id",)
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "purchasing:read"}


class PurchaseOrderViewSet(
    IdempotentMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[PurchaseOrder]
):
    """Purchase orders of the warehouses you may see."""

    queryset = PurchaseOrder.objects.none()
    serializer_class = PurchaseOrderSerializer
    filterset_class = PurchaseOrderFilter
    keyset_order = ("-id",)
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

    def _read(self, kind: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        wanted = kind(data=self.request.data)
        wanted.is_valid(raise_exception=True)
        return dict(wanted.validated_data)

    @extend_schema(request=OrderRequest, responses={201: PurchaseOrderSerializer})
    def create(self, request: Request) -> Response:
        """Make a draft. Without a price the supplier's offer in force gives it."""
        principal = principal_of(request)
        require(principal, "purchasing.edit")
        data = self._read(OrderRequest)
        supplier = Supplier.objects.filter(code=data["supplier"]).first()
        if supplier is None:
            raise UserError(f"supplier: there is no supplier '{data['supplier']}'.", field="supplier")
        scope = scope_of(principal, "purchasing.edit")
        warehouse = Warehouse.objects.filter(scope.q(warehouse="code"), code=data["warehouse"]).first()
        if warehouse is None:
            raise UserError(f"warehouse: there is no warehouse '{data['warehouse']}'.", field="warehouse")
        known = resolve_codes([line["sku"] for line in data["lines"]])
        missing = [line["sku"] for line in data["lines"] if line["sku"] not in known]
        if missing:
            raise UserError(f"lines: SKU '{missing[0]}' is unknown.", field="lines")
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
        data = self._read(ChargeRequest)
        landed.add_charge(order.pk, actor=actor_of(principal), **data)
        return self._done(order.pk)

    @extend_schema(request=ReceiveRequest, responses={201: ReceiptSerializer})
    @action(detail=True, methods=["post"])
    def receive(self, request: Request, pk: str) -> Response:
        """Post what arrived, once per key. More than ordered needs the right to edit and the supplier's tolerance."""
        order = self.get_object()
        principal = principal_of(request)
        require(principal, "purchasing.receive", order.warehouse.code)
        data = self._read(ReceiveRequest)
        skus = {line.pk: line.sku for line in order.lines.all()}
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


def register(router: SimpleRouter) -> None:
    router.register("suppliers", SupplierViewSet, basename="supplier")
    router.register("purchase-orders", PurchaseOrderViewSet, basename="purchase-order")
