"""Counts, transfers, approvals, evidence, lots and ring-fences over HTTP: the same services as the screens."""

from __future__ import annotations

import base64
from collections.abc import Hashable
from typing import Any

import django_filters
from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from inventory import approvals, counts, evidence, fences, lots, operations, packs, transfers
from inventory.api import Base, UnitField, the_sku, the_skus, the_warehouse
from inventory.models import (
    AdjustmentRequest,
    Bin,
    CountTask,
    Evidence,
    Lot,
    RingFence,
    StockBatch,
    Transfer,
    TransferLine,
)
from oms.core.access import can, require, scope_of
from oms.core.api import bulk
from oms.core.api.fields import CountsField, SparseFieldsMixin
from oms.core.api.forms import Form
from oms.core.api.problems import pointing
from oms.core.errors import NotFound, UserError

READ_WRITE = {"GET": "stock:read", "POST": "stock:write"}


class Acting(Base):
    """A resource that is changed by actions."""

    keyset_order = ("-id",)
    lookup_value_regex = "[0-9]{1,18}"
    http_method_names = ["get", "post", "head", "options"]
    required_scopes = READ_WRITE

    def answer(self, pk: int, status: int = 200) -> Response:
        return Response(self.get_serializer(self.get_queryset().get(pk=pk)).data, status)


# --- counts ---------------------------------------------------------------------------------------


class CountSerializer(SparseFieldsMixin, serializers.ModelSerializer[CountTask]):
    """What the books said is told only after counting, of a blind count only to those who may adjust stock."""

    sku = serializers.CharField(source="sku.code", read_only=True)
    warehouse = serializers.CharField(source="warehouse.code", read_only=True)
    bin = serializers.CharField(source="bin.code", read_only=True, allow_null=True)
    expected = serializers.SerializerMethodField()
    variance = serializers.SerializerMethodField()

    class Meta:
        model = CountTask
        fields = ["id", "sku", "warehouse", "bin", "cause", "state", "is_blind", "due_on", "counted", "counted_at",
                  "expected", "variance", "note", "created_at"]  # fmt: skip
        read_only_fields = fields

    def _told(self, task: CountTask) -> bool:
        if task.state == CountTask.State.OPEN:
            return False
        view = self.context["view"]
        return not task.is_blind or can(view.principal(), "stock.adjust", task.warehouse.code)

    def get_expected(self, task: CountTask) -> int | None:
        return task.expected if self._told(task) else None

    def get_variance(self, task: CountTask) -> int | None:
        return task.variance if self._told(task) else None


class AskRequest(Form):
    sku = serializers.CharField(max_length=80)
    warehouse = serializers.CharField(max_length=20)
    bin = serializers.CharField(max_length=30, required=False, allow_blank=True, default="")
    blind = serializers.BooleanField(default=True)


class CountedRequest(Form):
    counted = serializers.IntegerField(min_value=0, max_value=1_000_000_000)
    unit = UnitField()
    note = serializers.CharField(max_length=255, required=False, allow_blank=True, default="")


class CountFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=CountTask.State.choices)
    warehouse = django_filters.CharFilter(field_name="warehouse__code")

    class Meta:
        model = CountTask
        fields = ["state", "warehouse"]


class CountViewSet(Acting):
    """Count tasks. POST asks for one; `submit` enters what was counted; `accept` posts the difference."""

    queryset = CountTask.objects.none()
    serializer_class = CountSerializer
    filterset_class = CountFilter

    def get_queryset(self) -> QuerySet[CountTask]:
        if self.drawing_schema():
            return CountTask.objects.none()
        scope = scope_of(self.principal(), "stock.view")
        return CountTask.objects.filter(scope.q(warehouse="warehouse__code")).select_related(
            "sku", "warehouse", "bin"
        )

    @extend_schema(request=AskRequest, responses={201: CountSerializer})
    def create(self, request: Request) -> Response:
        """Ask for a count. An open one for the same place is returned, not doubled."""
        data = AskRequest.read(request)
        place = the_warehouse(data["warehouse"], self.principal(), "stock.work")
        shelf = None
        if data["bin"]:
            shelf = Bin.objects.filter(warehouse=place, code__iexact=data["bin"]).first()
            if shelf is None:
                raise UserError(f"bin: {place} has no bin {data['bin']}.", field="bin")
        task = counts.ask(
            the_sku(data["sku"]).pk, place.pk, cause=CountTask.Cause.MANUAL, actor=self.actor(),
            bin_id=shelf.pk if shelf else None, blind=data["blind"],
        )  # fmt: skip
        return self.answer(task.pk, 201)

    def _allowed(self, right: str) -> CountTask:
        task: CountTask = self.get_object()
        require(self.principal(), right, task.warehouse.code)
        return task

    @extend_schema(request=CountedRequest, responses=CountSerializer)
    @action(detail=True, methods=["post"])
    def submit(self, request: Request, pk: str) -> Response:
        """Enter what was counted, against the books of this moment."""
        task, data = self._allowed("stock.work"), CountedRequest.read(request)
        counted = packs.eaches(task.sku, data["counted"], data["unit"], field="counted")
        counts.submit(task.pk, counted, actor=self.actor(), note=data["note"])
        return self.answer(task.pk)

    @extend_schema(request=None, responses=CountSerializer)
    @action(detail=True, methods=["post"])
    def accept(self, request: Request, pk: str) -> Response:
        """Post the difference. Above your limit it waits for a second person (state `waiting`)."""
        task = self._allowed("stock.adjust")
        counts.accept(task.pk, actor=self.actor())
        return self.answer(task.pk)

    @extend_schema(request=None, responses=CountSerializer)
    @action(detail=True, methods=["post"])
    def recount(self, request: Request, pk: str) -> Response:
        """Throw the figure away and ask again; the answer is the new task."""
        task = self._allowed("stock.adjust")
        return self.answer(counts.recount(task.pk, actor=self.actor()).pk)

    @extend_schema(request=None, responses=CountSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Take a task off the list that nobody counted."""
        task = self._allowed("stock.work")
        counts.cancel(task.pk, actor=self.actor())
        return self.answer(task.pk)


# --- transfers ------------------------------------------------------------------------------------


class TransferLineSerializer(serializers.ModelSerializer[TransferLine]):
    sku = serializers.CharField(source="sku.code", read_only=True)
    in_transit = serializers.IntegerField(source="open_units", read_only=True)

    class Meta:
        model = TransferLine
        fields = ["sku", "quantity", "shipped", "received", "lost", "returned", "in_transit"]
        read_only_fields = fields


class TransferSerializer(SparseFieldsMixin, serializers.ModelSerializer[Transfer]):
    # DRF takes declared fields out of the class: its own attribute `source` stays what it is
    source = serializers.CharField(source="source.code", read_only=True)  # type: ignore[assignment]
    destination = serializers.CharField(source="destination.code", read_only=True)
    lines = TransferLineSerializer(many=True, read_only=True)

    class Meta:
        model = Transfer
        fields = ["id", "number", "source", "destination", "state", "expected_on", "note", "requested_at", "shipped_at",
                  "received_at", "lines"]  # fmt: skip
        read_only_fields = fields


class TransferRequest(Form):
    source = serializers.CharField(max_length=20)  # type: ignore[assignment]
    destination = serializers.CharField(max_length=20)
    lines = CountsField(help_text="SKU code → eaches")
    expected_on = serializers.DateField(required=False)
    note = serializers.CharField(max_length=255, required=False, allow_blank=True, default="")


class NumbersRequest(Form):
    serials = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField(max_length=60), max_length=1000),
        required=False, default=dict, help_text="SKU code → serial numbers, for SKUs that have them",
    )  # fmt: skip


class UnitsRequest(NumbersRequest):
    lines = CountsField(help_text="SKU code → eaches")
    key = serializers.CharField(max_length=60, help_text="the same key counts once")


class SettleRequest(UnitsRequest):
    reason = serializers.CharField(max_length=60)
    found = serializers.BooleanField(
        default=False, help_text="they turned up at the source; otherwise they are lost"
    )


class TransferDate(Form):
    expected_on = serializers.DateField()
    reason = serializers.CharField(max_length=160, required=False, allow_blank=True, default="")


class TransferFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=Transfer.State.choices)

    class Meta:
        model = Transfer
        fields = ["state"]


class TransferViewSet(Acting):
    """Stock between two warehouses: requested, shipped, received with differences, differences settled."""

    queryset = Transfer.objects.none()
    serializer_class = TransferSerializer
    filterset_class = TransferFilter

    def get_queryset(self) -> QuerySet[Transfer]:
        if self.drawing_schema():
            return Transfer.objects.none()
        scope = scope_of(self.principal(), "stock.view")
        here = scope.q(warehouse="source__code") | scope.q(warehouse="destination__code")
        return (
            Transfer.objects.filter(here)
            .select_related("source", "destination")
            .prefetch_related("lines__sku")
        )

    @extend_schema(request=TransferRequest, responses={201: TransferSerializer})
    def create(self, request: Request) -> Response:
        """Ask for units to be moved. Nothing moves yet."""
        data = TransferRequest.read(request)
        source = the_warehouse(data["source"], self.principal(), "stock.transfer", "source")
        destination = the_warehouse(data["destination"], self.principal(), "stock.view", "destination")
        units, places = _units(data["lines"])
        with pointing("lines", places):
            made = transfers.request_transfer(
                source_id=source.pk, destination_id=destination.pk, lines=units, actor=self.actor(),
                expected_on=data.get("expected_on"), note=data["note"],
            )  # fmt: skip
        return self.answer(made.pk, 201)

    @extend_schema(request=NumbersRequest, responses=TransferSerializer)
    @action(detail=True, methods=["post"])
    def ship(self, request: Request, pk: str) -> Response:
        """Everything requested leaves the source."""
        item: Transfer = self.get_object()
        require(self.principal(), "stock.transfer", item.source.code)
        data = NumbersRequest.read(request)
        numbers, places = _numbers(data["serials"])
        with pointing("serials", places):
            transfers.ship_transfer(item.pk, actor=self.actor(), numbers=numbers)
        return self.answer(item.pk)

    @extend_schema(request=UnitsRequest, responses=TransferSerializer)
    @action(detail=True, methods=["post"])
    def receive(self, request: Request, pk: str) -> Response:
        """What arrived; the rest stays in transit until it is settled."""
        item: Transfer = self.get_object()
        require(self.principal(), "stock.transfer", item.destination.code)
        data = UnitsRequest.read(request)
        units, places = _units(data["lines"])
        numbers, _ = _numbers(data["serials"])
        with pointing("lines", places, "serials"):
            transfers.receive_transfer(
                item.pk, units, actor=self.actor(), key=f"api:{data['key']}", numbers=numbers
            )
        return self.answer(item.pk)

    @extend_schema(request=SettleRequest, responses=TransferSerializer)
    @action(detail=True, methods=["post"])
    def settle(self, request: Request, pk: str) -> Response:
        """Decide about units that never came: lost, or found at the source."""
        item: Transfer = self.get_object()
        require(self.principal(), "stock.transfer", item.destination.code)
        data = SettleRequest.read(request)
        units, places = _units(data["lines"])
        numbers, _ = _numbers(data["serials"])
        with pointing("lines", places, "serials"):
            transfers.settle_transfer(
                item.pk, units, reason=data["reason"], actor=self.actor(), key=f"api:{data['key']}",
                found=data["found"], numbers=numbers,
            )  # fmt: skip
        return self.answer(item.pk)

    @extend_schema(request=TransferDate, responses=TransferSerializer)
    @action(detail=True, methods=["post"])
    def reschedule(self, request: Request, pk: str) -> Response:
        """Its units come on another day; orders that wait for them get their new dates."""
        item: Transfer = self.get_object()
        place = item.source if item.state == Transfer.State.REQUESTED else item.destination
        require(self.principal(), "stock.transfer", place.code)
        data = TransferDate.read(request)
        transfers.reschedule_transfer(item.pk, data["expected_on"], actor=self.actor(), reason=data["reason"])
        return self.answer(item.pk)

    @extend_schema(request=None, responses=TransferSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Withdraw it before it leaves."""
        item: Transfer = self.get_object()
        require(self.principal(), "stock.transfer", item.source.code)
        transfers.cancel_transfer(item.pk, actor=self.actor())
        return self.answer(item.pk)


def _numbers(serials: dict[str, list[str]]) -> tuple[dict[int, list[str]], dict[Hashable, int | str]]:
    """Numbers by SKU id, and where the SKU stands in the body."""
    skus = the_skus("serials", serials)
    return {skus[code]: numbers for code, numbers in serials.items()}, {pk: code for code, pk in skus.items()}


def _units(lines: dict[str, int]) -> tuple[dict[int, int], dict[Hashable, int | str]]:
    """Eaches by SKU id, and where the SKU stands in the body."""
    skus, units = the_skus("lines", lines), dict[int, int]()
    for code, quantity in lines.items():
        units[skus[code]] = units.get(skus[code], 0) + quantity
    return units, {pk: code for code, pk in skus.items()}


# --- lots and ring-fences -------------------------------------------------------------------------


class LotSerializer(SparseFieldsMixin, serializers.ModelSerializer[Lot]):
    sku = serializers.CharField(source="sku.code", read_only=True)

    class Meta:
        model = Lot
        fields = ["id", "sku", "code", "expires_on", "source", "is_blocked", "note", "created_at"]
        read_only_fields = fields


class ReasonRequest(Form):
    reason = serializers.CharField(max_length=200)


class LotTrace(serializers.Serializer[Any]):
    lot = serializers.CharField()
    sku = serializers.CharField()
    expires_on = serializers.DateField(allow_null=True)
    is_blocked = serializers.BooleanField()
    received = serializers.IntegerField(help_text="eaches that ever came in")
    sources = serializers.DictField(
        child=serializers.IntegerField(), help_text="receipt or other reference → eaches"
    )
    shipped = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="shipment number → eaches; empty for those who see a part of the house",
    )
    shipped_units = serializers.IntegerField()
    on_hand = serializers.DictField(
        child=serializers.IntegerField(), help_text="warehouse → eaches still there"
    )


class LotFilter(django_filters.FilterSet):
    sku = django_filters.CharFilter(field_name="sku__code", lookup_expr="iexact")
    code = django_filters.CharFilter()
    is_blocked = django_filters.BooleanFilter()

    class Meta:
        model = Lot
        fields = ["sku", "code", "is_blocked"]


class LotViewSet(Acting):
    """Lots with their dates. A blocked lot is not sold."""

    queryset = Lot.objects.select_related("sku")
    serializer_class = LotSerializer
    filterset_class = LotFilter

    @extend_schema(request=ReasonRequest, responses=LotSerializer)
    @action(detail=True, methods=["post"])
    def block(self, request: Request, pk: str) -> Response:
        """Take it out of sale everywhere."""
        return self._set(True)

    @extend_schema(request=ReasonRequest, responses=LotSerializer)
    @action(detail=True, methods=["post"])
    def free(self, request: Request, pk: str) -> Response:
        """Sell it again."""
        return self._set(False)

    @extend_schema(responses=LotTrace)
    @action(detail=True, methods=["get"])
    def trace(self, request: Request, pk: str) -> Response:
        """Where it came from, which shipments took it, and what is still there in the warehouses you may see."""
        lot: Lot = self.get_object()
        found = lots.trace(lot.pk)
        scope = scope_of(self.principal(), "stock.view")
        whole = scope.warehouses is None and scope.channels is None
        body = {
            "lot": lot.code, "sku": lot.sku.code, "expires_on": lot.expires_on, "is_blocked": lot.is_blocked,
            "received": found.received,
            "sources": dict(found.sources) if whole else {},
            "shipped": found.shipped if whole else {},
            "shipped_units": sum(found.shipped.values()),
            "on_hand": {code: units for code, units in found.on_hand.items() if scope.covers(code)},
        }  # fmt: skip
        return Response(LotTrace(body).data)

    def _set(self, blocked: bool) -> Response:
        lot: Lot = self.get_object()
        require(self.principal(), "stock.adjust")
        lots.set_blocked(
            lot.pk, blocked, reason=ReasonRequest.read(self.request)["reason"], actor=self.actor()
        )
        return self.answer(lot.pk)


class FenceSerializer(SparseFieldsMixin, serializers.ModelSerializer[RingFence]):
    sku = serializers.CharField(source="sku.code", read_only=True)
    channel = serializers.CharField(source="channel_code", read_only=True)

    class Meta:
        model = RingFence
        fields = ["id", "sku", "channel", "quantity", "starts_at", "ends_at", "note"]
        read_only_fields = fields


class FenceRequest(Form):
    sku = serializers.CharField(max_length=80)
    channel = serializers.SlugField(max_length=40)
    quantity = serializers.IntegerField(min_value=1, max_value=1_000_000_000)
    starts_at = serializers.DateTimeField(required=False)
    ends_at = serializers.DateTimeField()
    note = serializers.CharField(max_length=160, required=False, allow_blank=True, default="")


class FenceFilter(django_filters.FilterSet):
    sku = django_filters.CharFilter(field_name="sku__code", lookup_expr="iexact")
    channel = django_filters.CharFilter(field_name="channel_code")

    class Meta:
        model = RingFence
        fields = ["sku", "channel"]


class FenceViewSet(Acting):
    """Units kept for one channel until a date; what is unsold returns by itself."""

    queryset = RingFence.objects.none()
    serializer_class = FenceSerializer
    filterset_class = FenceFilter

    def get_queryset(self) -> QuerySet[RingFence]:
        if self.drawing_schema():
            return RingFence.objects.none()
        scope = scope_of(self.principal(), "stock.view")
        return RingFence.objects.filter(scope.q(channel="channel_code")).select_related("sku")

    @extend_schema(request=FenceRequest, responses={201: FenceSerializer})
    def create(self, request: Request) -> Response:
        """Keep units for a channel."""
        data = FenceRequest.read(request)
        require(self.principal(), "stock.adjust", channel_code=data["channel"])
        made = fences.create(
            sku_id=the_sku(data["sku"]).pk, channel_code=data["channel"], quantity=data["quantity"],
            starts_at=data.get("starts_at"), ends_at=data["ends_at"], note=data["note"], actor=self.actor(),
        )  # fmt: skip
        return self.answer(made.pk, 201)

    @extend_schema(request=None, responses=FenceSerializer)
    @action(detail=True, methods=["post"])
    def end(self, request: Request, pk: str) -> Response:
        """Give the rest back now."""
        fence: RingFence = self.get_object()
        require(self.principal(), "stock.adjust", channel_code=fence.channel_code)
        fences.end(fence.pk, actor=self.actor())
        return self.answer(fence.pk)


# --- approvals ------------------------------------------------------------------------------------


class WaitingSerializer(SparseFieldsMixin, serializers.ModelSerializer[AdjustmentRequest]):
    """An adjustment above its author's limit; the stock changes only with `approved`."""

    sku = serializers.CharField(source="sku.code", read_only=True)
    warehouse = serializers.CharField(source="warehouse.code", read_only=True)
    author = serializers.CharField(source="author.username", read_only=True)
    decided_by = serializers.CharField(source="decided_by.username", read_only=True, allow_null=True)

    class Meta:
        model = AdjustmentRequest
        fields = ["id", "sku", "warehouse", "bucket", "quantity", "reason", "note", "state", "author", "decided_by",
                  "created_at", "decided_at"]  # fmt: skip
        read_only_fields = fields


class BatchSerializer(SparseFieldsMixin, serializers.ModelSerializer[StockBatch]):
    """Many adjustments asked for at once, above their author's limit together."""

    author = serializers.CharField(source="author.username", read_only=True)
    decided_by = serializers.CharField(source="decided_by.username", read_only=True, allow_null=True)
    warehouses = serializers.ListField(source="places", child=serializers.CharField(), read_only=True)

    class Meta:
        model = StockBatch
        fields = ["id", "kind", "title", "rows", "units_in", "units_out", "warehouses", "state", "author", "decided_by",
                  "created_at", "decided_at"]  # fmt: skip
        read_only_fields = fields


class Decision(Form):
    id = serializers.IntegerField(min_value=1, max_value=2**62)
    decision = serializers.ChoiceField(choices=["approve", "refuse"])


class DecideRequest(Form):
    items = Decision(many=True, min_length=1, max_length=bulk.MOST)  # type: ignore[call-arg]


class WaitingFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=AdjustmentRequest.State.choices)
    warehouse = django_filters.CharFilter(field_name="warehouse__code")

    class Meta:
        model = AdjustmentRequest
        fields = ["state", "warehouse"]


class AdjustmentViewSet(Acting):
    """Adjustments that wait for a second person, or waited."""

    queryset = AdjustmentRequest.objects.none()
    serializer_class = WaitingSerializer
    filterset_class = WaitingFilter

    def get_queryset(self) -> QuerySet[AdjustmentRequest]:
        if self.drawing_schema():
            return AdjustmentRequest.objects.none()
        scope = scope_of(self.principal(), "stock.view")
        return AdjustmentRequest.objects.filter(scope.q(warehouse="warehouse__code")).select_related(
            "sku", "warehouse", "author", "decided_by"
        )

    @extend_schema(request=DecideRequest, responses=bulk.BulkAnswer)
    @action(detail=False, methods=["post"])
    def decide(self, request: Request) -> Response:
        """Approve or refuse up to 500, each for itself. Never your own: another person decides."""
        approvals.require_approver(self.principal())

        def one(item: dict[str, Any]) -> str:
            found = self.get_queryset().filter(pk=item["id"]).first()
            if found is None:
                raise NotFound(f"id: there is no adjustment {item['id']}.", field="id")
            approvals.require_approver(self.principal(), [found.warehouse.code])
            if item["decision"] == "approve":
                operations.approve_adjustment(item["id"], actor=self.actor())
                return "approved"
            operations.refuse_adjustment(item["id"], actor=self.actor())
            return "refused"

        return Response(bulk.each(request, "items", DecideRequest.read(request)["items"], one))

    @extend_schema(request=None, responses=WaitingSerializer)
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: str) -> Response:
        """Take your own back before anybody decided."""
        item = self.get_object()
        require(self.principal(), "stock.adjust", item.warehouse.code)
        operations.withdraw_adjustment(item.pk, actor=self.actor())
        return self.answer(item.pk)


class BatchFilter(django_filters.FilterSet):
    state = django_filters.ChoiceFilter(choices=StockBatch.State.choices)

    class Meta:
        model = StockBatch
        fields = ["state"]


class BatchViewSet(Acting):
    """Files and bulk edits that wait for a second person, or waited; seen by who may adjust in all their places."""

    queryset = StockBatch.objects.none()
    serializer_class = BatchSerializer
    filterset_class = BatchFilter

    def get_queryset(self) -> QuerySet[StockBatch]:
        if self.drawing_schema():
            return StockBatch.objects.none()
        return approvals.visible_batches(self.principal(), "stock.view").select_related(
            "author", "decided_by"
        )

    @extend_schema(request=DecideRequest, responses=bulk.BulkAnswer)
    @action(detail=False, methods=["post"])
    def decide(self, request: Request) -> Response:
        """Approve, which starts the job, or refuse. Never your own: another person decides."""
        approvals.require_approver(self.principal())

        def one(item: dict[str, Any]) -> str:
            found = self.get_queryset().filter(pk=item["id"]).first()
            if found is None:
                raise NotFound(f"id: there is no batch {item['id']}.", field="id")
            approvals.require_approver(self.principal(), found.places)
            approve = item["decision"] == "approve"
            approvals.decide_batch(item["id"], approve, actor=self.actor())
            return "approved" if approve else "refused"

        return Response(bulk.each(request, "items", DecideRequest.read(request)["items"], one))

    @extend_schema(request=None, responses=BatchSerializer)
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: str) -> Response:
        """Take your own back before anybody decided."""
        item = self.get_object()
        require(self.principal(), "stock.adjust")
        with transaction.atomic():
            approvals.withdraw_batch(item.pk, actor=self.actor())
        return self.answer(item.pk)


# --- evidence -------------------------------------------------------------------------------------


class EvidenceSerializer(SparseFieldsMixin, serializers.ModelSerializer[Evidence]):
    class Meta:
        model = Evidence
        fields = [
            "id",
            "movement",
            "request",
            "count",
            "kind",
            "name",
            "size",
            "sha256",
            "actor",
            "created_at",
        ]
        read_only_fields = fields


class NewEvidence(Form):
    """Exactly one of `movement`, `request` and `count`."""

    movement = serializers.IntegerField(min_value=1, max_value=2**62, required=False)
    request = serializers.IntegerField(min_value=1, max_value=2**62, required=False)
    count = serializers.IntegerField(min_value=1, max_value=2**62, required=False)
    name = serializers.CharField(max_length=200)
    content = serializers.CharField(
        max_length=5_000_000, help_text="the file in Base64: JPEG, PNG, WebP or PDF"
    )


class EvidenceFilter(django_filters.FilterSet):
    movement = django_filters.NumberFilter(field_name="movement_id")
    request = django_filters.NumberFilter(field_name="request_id")
    count = django_filters.NumberFilter(field_name="count_id")

    class Meta:
        model = Evidence
        fields = ["movement", "request", "count"]


class EvidenceViewSet(Acting):
    """Photos and PDFs that prove a change of stock. They stay as they came."""

    queryset = Evidence.objects.none()
    serializer_class = EvidenceSerializer
    filterset_class = EvidenceFilter

    def get_queryset(self) -> QuerySet[Evidence]:
        if self.drawing_schema():
            return Evidence.objects.none()
        return evidence.visible(self.principal())

    @extend_schema(request=NewEvidence, responses={201: EvidenceSerializer})
    def create(self, request: Request) -> Response:
        """Attach a file to a movement, a waiting adjustment or a count; the same file once."""
        data = NewEvidence.read(request)
        named = [name for name in evidence.SUBJECTS if data.get(name)]
        if len(named) != 1:
            raise UserError("movement: name one of movement, request and count.", field="movement")
        [kind] = named
        subject = evidence.find_subject(self.principal(), kind, data[kind])
        require(self.principal(), evidence.RIGHT, subject.warehouse.code)
        try:
            content = base64.b64decode(data["content"], validate=True)
        except ValueError:
            raise UserError("content: it is no Base64.", field="content") from None
        [row] = evidence.attach(subject, [(data["name"], content)], actor=self.actor())
        return self.answer(row.pk, 201)


def register(router: SimpleRouter) -> None:
    router.register("counts", CountViewSet, "count")
    router.register("transfers", TransferViewSet, "transfer")
    router.register("adjustments", AdjustmentViewSet, "adjustment")
    router.register("stock-batches", BatchViewSet, "stock-batch")
    router.register("evidence", EvidenceViewSet, "evidence")
    router.register("lots", LotViewSet, "lot")
    router.register("ring-fences", FenceViewSet, "ring-fence")
