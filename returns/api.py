"""Returns and refunds over HTTP."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from inventory.models import Warehouse
from inventory.selectors import resolve_codes
from oms.core.access import principal_of, require, scope_of
from oms.core.actor import Actor, actor_of
from oms.core.api.fields import MoneyField, SparseFieldsMixin
from oms.core.api.forms import Form
from oms.core.api.problems import places_of, pointing
from oms.core.api.resources import Resource
from oms.core.errors import UserError
from oms.orders.models import Order
from returns import inspection, refunds, rma
from returns.models import Disposition, Refund, ReturnedSerial, Rma, RmaLine
from returns.selectors import visible

BIG = 2**62


class DispositionSerializer(serializers.ModelSerializer[Disposition]):
    class Meta:
        model = Disposition
        fields = ["quantity", "condition", "outcome", "note", "inspected_at", "inspector"]
        read_only_fields = fields


class ReturnedSerialSerializer(serializers.ModelSerializer[ReturnedSerial]):
    outcome = serializers.CharField(source="disposition.outcome", read_only=True, allow_null=True)

    class Meta:
        model = ReturnedSerial
        fields = ["serial", "expected", "reason", "outcome"]
        read_only_fields = fields


class RmaLineSerializer(serializers.ModelSerializer[RmaLine]):
    sku = serializers.CharField(source="sku.code", read_only=True)
    reason = serializers.CharField(source="reason.code", read_only=True, allow_null=True)
    dispositions = DispositionSerializer(many=True, read_only=True)
    serials = ReturnedSerialSerializer(many=True, read_only=True)

    class Meta:
        model = RmaLine
        fields = [
            "id",
            "order_line",
            "sku",
            "quantity",
            "received",
            "disposed",
            "reason",
            "comment",
            "dispositions",
            "serials",
        ]
        read_only_fields = fields


class RefundSerializer(serializers.ModelSerializer[Refund]):
    number = serializers.CharField(read_only=True)
    amount = MoneyField("amount")

    class Meta:
        model = Refund
        fields = ["id", "number", "state", "amount", "reason", "error", "created_at", "confirmed_at"]
        read_only_fields = fields


class RmaSerializer(SparseFieldsMixin, serializers.ModelSerializer[Rma]):
    number = serializers.CharField(read_only=True)
    order = serializers.CharField(source="order.number", read_only=True, allow_null=True)
    warehouse = serializers.CharField(source="warehouse.code", read_only=True)
    lines = RmaLineSerializer(many=True, read_only=True)
    refunds = RefundSerializer(many=True, read_only=True)

    class Meta:
        model = Rma
        fields = [
            "id",
            "number",
            "order",
            "warehouse",
            "state",
            "source",
            "tracking_number",
            "requested_at",
            "received_at",
            "closed_at",
            "version",
            "updated_at",
            "lines",
            "refunds",
        ]
        read_only_fields = fields


class ItemRequest(Form):
    line = serializers.IntegerField(min_value=1, max_value=BIG, help_text="order line id")
    quantity = serializers.IntegerField(min_value=1, max_value=1_000_000)
    reason = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")
    comment = serializers.CharField(max_length=255, required=False, allow_blank=True, default="")


class OpenRequest(Form):
    order = serializers.IntegerField(min_value=1, max_value=BIG, help_text="order id")
    warehouse = serializers.CharField(max_length=20)
    items = ItemRequest(many=True, allow_empty=False)
    external_id = serializers.CharField(max_length=80, required=False, allow_blank=True, default="")
    tracking_number = serializers.CharField(max_length=80, required=False, allow_blank=True, default="")
    note = serializers.CharField(max_length=1000, required=False, allow_blank=True, default="")


class CountRequest(Form):
    line = serializers.IntegerField(min_value=1, max_value=BIG, help_text="RMA line id")
    quantity = serializers.IntegerField(min_value=1, max_value=1_000_000)
    serials = serializers.ListField(
        child=serializers.CharField(max_length=60), max_length=1000, required=False, default=list,
        help_text="number of each unit, for SKUs with serial numbers",
    )  # fmt: skip


@extend_schema_serializer(component_name="ReturnReceive")
class RmaReceiveRequest(Form):
    key = serializers.CharField(max_length=60, help_text="the same key counts once")
    wrong_because = serializers.CharField(
        max_length=200, required=False, allow_blank=True, default="",
        help_text="why a unit with another number than was sent is taken in; without it such a unit is refused",
    )  # fmt: skip
    lines = CountRequest(many=True, allow_empty=False)


class FoundRequest(Form):
    sku = serializers.CharField(max_length=80, help_text="SKU code, barcode or another alias")
    quantity = serializers.IntegerField(min_value=1, max_value=1_000_000)


class UnannouncedRequest(Form):
    key = serializers.CharField(max_length=60, help_text="the same key counts once")
    items = FoundRequest(many=True, allow_empty=False)
    note = serializers.CharField(max_length=255, required=False, allow_blank=True, default="")


@extend_schema_serializer(component_name="BlindReturn")
class BlindRequest(UnannouncedRequest):
    warehouse = serializers.CharField(max_length=20)


class OneRefundRequest(Form):
    refund = serializers.IntegerField(min_value=1, max_value=BIG, help_text="refund id, from `refunds`")


class VerdictRequest(Form):
    line = serializers.IntegerField(min_value=1, max_value=BIG, help_text="RMA line id")
    quantity = serializers.IntegerField(min_value=1, max_value=1_000_000)
    condition = serializers.ChoiceField(choices=Disposition.Condition.choices)
    outcome = serializers.ChoiceField(choices=Disposition.Outcome.choices)
    target_sku = serializers.CharField(max_length=80, required=False, allow_blank=True, default="")
    note = serializers.CharField(max_length=255, required=False, allow_blank=True, default="")
    serials = serializers.ListField(
        child=serializers.CharField(max_length=60), max_length=1000, required=False, default=list,
        help_text="which numbers the verdict is about; left out: all that wait on the line",
    )  # fmt: skip


class InspectRequest(Form):
    key = serializers.CharField(max_length=60, help_text="the same key posts once")
    verdicts = VerdictRequest(many=True, allow_empty=False)


class RefundItemRequest(Form):
    line = serializers.IntegerField(min_value=1, max_value=BIG, help_text="order line id")
    quantity = serializers.IntegerField(min_value=0, max_value=1_000_000)
    amount = serializers.DecimalField(max_digits=14, decimal_places=4, min_value=0)


class RefundRequest(Form):
    key = serializers.CharField(max_length=60, help_text="the same key refunds once")
    items = RefundItemRequest(many=True, required=False, help_text="left out: everything that arrived")
    shipping = serializers.DecimalField(
        max_digits=14, decimal_places=4, min_value=0, required=False, default=Decimal(0)
    )
    restocking_fee = serializers.DecimalField(
        max_digits=14, decimal_places=4, min_value=0, required=False, default=Decimal(0)
    )
    reason = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")


class RmaFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=Rma.State.choices)
    warehouse = django_filters.CharFilter(field_name="warehouse__code")
    order = django_filters.NumberFilter(field_name="order_id", label="order id")

    class Meta:
        model = Rma
        fields = ["state", "warehouse", "order"]


class RmaViewSet(Resource[Rma]):
    """Returns: goods and money as two separate things."""

    queryset = Rma.objects.none()
    serializer_class = RmaSerializer
    filterset_class = RmaFilter
    keyset_order = ("-id",)
    updated_field, updated_order = "updated_at", ("updated_at", "id")
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "returns:read", "POST": "returns:write"}

    def get_queryset(self) -> QuerySet[Rma]:
        if getattr(self, "swagger_fake_view", False):
            return Rma.objects.none()
        return visible(principal_of(self.request)).prefetch_related(
            "lines__sku", "lines__reason", "lines__dispositions", "lines__serials__disposition", "refunds"
        )

    def _done(self, pk: int, status: int = 200) -> Response:
        return Response(self.get_serializer(self.get_queryset().get(pk=pk)).data, status)

    def _mine(self) -> Rma:
        """The return, when the caller may work on returns of its warehouse and channel."""
        item = self.get_object()
        channel = item.order.channel.code if item.order else None
        require(principal_of(self.request), "returns.work", item.warehouse.code, channel)
        return item

    @extend_schema(request=OpenRequest, responses={201: RmaSerializer})
    def create(self, request: Request) -> Response:
        """Open an RMA for units of an order."""
        require(principal_of(request), "returns.work")
        data = OpenRequest.read(request)
        scope = scope_of(principal_of(request), "returns.work")
        warehouse = Warehouse.objects.filter(scope.q(warehouse="code"), code=data["warehouse"]).first()
        order = Order.objects.filter(scope.q(channel="channel__code"), pk=data["order"]).first()
        if order is None:
            raise UserError(f"order: there is no order with id {data['order']}.", field="order")
        if warehouse is None:
            raise UserError(f"warehouse: there is no warehouse '{data['warehouse']}'.", field="warehouse")
        items = data["items"]
        with pointing("items", places_of(items)):
            made = rma.open_rma(
                order_id=order.pk,
                warehouse_id=warehouse.pk,
                actor=actor_of(principal_of(request)),
                source="api",
                items=[rma.ReturnItem(i["line"], i["quantity"], i["reason"], i["comment"]) for i in items],
                external_id=data["external_id"],
                tracking_number=data["tracking_number"],
                note=data["note"],
            )
        return self._done(made.pk, 201)

    @extend_schema(request=None, responses=RmaSerializer)
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """The buyer may send it back."""
        item = self._mine()
        rma.approve(item.pk, actor=actor_of(principal_of(request)))
        return self._done(item.pk)

    @extend_schema(request=None, responses=RmaSerializer)
    @action(detail=True, methods=["post"])
    def decline(self, request: Request, pk: str) -> Response:
        """The buyer may not; nothing is expected any more."""
        item = self._mine()
        rma.decline(item.pk, actor=actor_of(principal_of(request)))
        return self._done(item.pk)

    @extend_schema(request=BlindRequest, responses={201: RmaSerializer})
    @action(detail=False, methods=["post"])
    def blind(self, request: Request) -> Response:
        """A parcel came that nobody announced: its goods go to quarantine under an RMA without an order."""
        principal = principal_of(request)
        require(principal, "returns.work")
        data = BlindRequest.read(request)
        place = Warehouse.objects.filter(code=data["warehouse"]).first()
        if place is None:
            raise UserError(f"warehouse: there is no warehouse '{data['warehouse']}'.", field="warehouse")
        require(principal, "returns.work", place.code)
        made = self._found(data, place.pk)
        return self._done(made.pk, 201)

    @extend_schema(request=UnannouncedRequest, responses=RmaSerializer)
    @action(detail=True, methods=["post"])
    def unannounced(self, request: Request, pk: str) -> Response:
        """Something else lay in the parcel: it goes to quarantine under this RMA."""
        item = self._mine()
        self._found(UnannouncedRequest.read(request), item.warehouse_id, item.pk)
        return self._done(item.pk)

    def _found(self, data: dict[str, Any], warehouse_id: int, rma_id: int | None = None) -> Rma:
        known = resolve_codes([one["sku"] for one in data["items"]])
        for place, one in enumerate(data["items"]):
            if one["sku"] not in known:
                raise UserError(f"items: SKU '{one['sku']}' is unknown.", field=f"items.{place}.sku")
        return rma.receive_unannounced(
            warehouse_id=warehouse_id,
            goods=[(known[one["sku"]].pk, one["quantity"]) for one in data["items"]],
            actor=actor_of(principal_of(self.request)),
            key=f"api:{data['key']}",
            rma_id=rma_id,
            note=data["note"],
        )

    @extend_schema(request=OneRefundRequest, responses=RefundSerializer)
    @action(detail=True, methods=["post"])
    def paid(self, request: Request, pk: str) -> Response:
        """A person paid a refund back, on a channel that nothing is connected to."""
        return Response(RefundSerializer(refunds.pay_by_hand(self._refund().pk, actor=self._actor())).data)

    @extend_schema(request=OneRefundRequest, responses=RefundSerializer)
    @action(detail=True, methods=["post"], url_path="retry-refund")
    def retry_refund(self, request: Request, pk: str) -> Response:
        """Plan a rejected refund again, after its cause was mended."""
        return Response(RefundSerializer(refunds.retry(self._refund().pk, actor=self._actor())).data)

    def _actor(self) -> Actor:
        return actor_of(principal_of(self.request))

    def _refund(self) -> Refund:
        """The refund that the body names, when the caller may refund this return."""
        item = self.get_object()
        channel = item.order.channel.code if item.order else None
        require(principal_of(self.request), "returns.refund", item.warehouse.code, channel)
        wanted = OneRefundRequest.read(self.request)["refund"]
        found = item.refunds.filter(pk=wanted).first()
        if found is None:
            raise UserError(f"refund: {item.number} has no refund {wanted}.", field="refund")
        return found

    @extend_schema(request=RmaReceiveRequest, responses=RmaSerializer)
    @action(detail=True, methods=["post"])
    def receive(self, request: Request, pk: str) -> Response:
        """Units arrived: they go to quarantine, nothing becomes sellable."""
        item = self._mine()
        data = RmaReceiveRequest.read(request)
        counts: dict[int, int] = {}
        numbers: dict[int, list[str]] = {}
        for line in data["lines"]:
            counts[line["line"]] = counts.get(line["line"], 0) + line["quantity"]
            numbers.setdefault(line["line"], []).extend(line["serials"])
        with pointing("lines", places_of(data["lines"])):
            done = rma.receive(
                item.pk, counts, actor=actor_of(principal_of(request)), key=f"api:{data['key']}", numbers=numbers,
                wrong_because=data["wrong_because"],
            )  # fmt: skip
        return self._done(done.pk)

    @extend_schema(request=InspectRequest, responses=RmaSerializer)
    @action(detail=True, methods=["post"])
    def inspect(self, request: Request, pk: str) -> Response:
        """An inspector's verdict per unit; only 'restock' makes a unit sellable."""
        item = self._mine()
        data = InspectRequest.read(request)
        known = resolve_codes([v["target_sku"] for v in data["verdicts"] if v["target_sku"]])
        mine = set(item.lines.values_list("pk", flat=True))
        verdicts = []
        for place, verdict in enumerate(data["verdicts"]):
            if verdict["line"] not in mine:
                raise UserError(
                    f"verdicts: line {verdict['line']} does not belong to {item.number}.",
                    field=f"verdicts.{place}.line",
                )
            target = known.get(verdict["target_sku"])
            if verdict["target_sku"] and target is None:
                raise UserError(
                    f"target_sku: SKU '{verdict['target_sku']}' is unknown.",
                    field=f"verdicts.{place}.target_sku",
                )
            verdicts.append(
                inspection.Verdict(
                    verdict["line"],
                    verdict["quantity"],
                    verdict["condition"],
                    verdict["outcome"],
                    target.pk if target else None,
                    verdict["note"],
                    tuple(verdict["serials"]),
                )
            )
        with pointing("verdicts", {place: place for place in range(len(verdicts))}):
            inspection.dispose(verdicts, actor=actor_of(principal_of(request)), key=f"api:{data['key']}")
        return self._done(item.pk)

    @extend_schema(request=RefundRequest, responses={201: RefundSerializer})
    @action(detail=True, methods=["post"])
    def refund(self, request: Request, pk: str) -> Response:
        """Plan a refund, to be sent to the channel once."""
        item = self.get_object()
        principal = principal_of(request)
        require(
            principal, "returns.refund", item.warehouse.code, item.order.channel.code if item.order else None
        )
        data = RefundRequest.read(request)
        if item.order is None:
            raise UserError(f"{item.number} has no order: match it to one before refunding.", field="order")
        items = [
            refunds.RefundItem(i["line"], i["quantity"], i["amount"]) for i in data.get("items", [])
        ] or refunds.suggest(item)
        with pointing("items", places_of(data.get("items", ()))):
            made = refunds.plan(
                order_id=item.order.pk,
                rma_id=item.pk,
                items=items,
                key=f"api:{data['key']}",
                actor=actor_of(principal),
                shipping=data["shipping"],
                restocking_fee=data["restocking_fee"],
                reason=data["reason"],
            )
        return Response(RefundSerializer(made).data, 201)

    @extend_schema(request=None, responses=RmaSerializer)
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: str) -> Response:
        """End the RMA; units that never came count as not returned."""
        item = self._mine()
        rma.close(item.pk, actor=actor_of(principal_of(request)))
        return self._done(item.pk)


def register(router: SimpleRouter) -> None:
    router.register("returns", RmaViewSet, basename="return")
