"""Counts, transfers, lots and ring-fences over HTTP: the same services as the screens."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from inventory import counts, fences, lots, packs, transfers
from inventory.api import Base, UnitField, the_sku, the_warehouse
from inventory.models import Bin, CountTask, Lot, RingFence, Transfer, TransferLine
from oms.core.access import can, require, scope_of
from oms.core.api.fields import CountsField, SparseFieldsMixin
from oms.core.api.idempotency import IdempotentMixin
from oms.core.errors import UserError

READ_WRITE = {"GET": "stock:read", "POST": "stock:write"}


class Acting(IdempotentMixin, Base, mixins.ListModelMixin, mixins.RetrieveModelMixin):
    """A resource that is changed by actions."""

    keyset_order = ("-id",)
    lookup_value_regex = "[0-9]{1,18}"
    http_method_names = ["get", "post", "head", "options"]
    required_scopes = READ_WRITE

    def read(self, serializer: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        wanted = serializer(data=self.request.data)
        wanted.is_valid(raise_exception=True)
        data: dict[str, Any] = wanted.validated_data
        return data

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


class AskRequest(serializers.Serializer[Any]):
    sku = serializers.CharField(max_length=80)
    warehouse = serializers.CharField(max_length=20)
    bin = serializers.CharField(max_length=30, required=False, allow_blank=True, default="")
    blind = serializers.BooleanField(default=True)


class CountedRequest(serializers.Serializer[Any]):
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
        data = self.read(AskRequest)
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
        task, data = self._allowed("stock.work"), self.read(CountedRequest)
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


class TransferRequest(serializers.Serializer[Any]):
    source = serializers.CharField(max_length=20)  # type: ignore[assignment]
    destination = serializers.CharField(max_length=20)
    lines = CountsField(help_text="SKU code → eaches")
    expected_on = serializers.DateField(required=False)
    note = serializers.CharField(max_length=255, required=False, allow_blank=True, default="")


class UnitsRequest(serializers.Serializer[Any]):
    lines = CountsField(help_text="SKU code → eaches")
    key = serializers.CharField(max_length=60, help_text="the same key counts once")


class SettleRequest(UnitsRequest):
    reason = serializers.CharField(max_length=60)
    found = serializers.BooleanField(
        default=False, help_text="they turned up at the source; otherwise they are lost"
    )


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
        data = self.read(TransferRequest)
        source = the_warehouse(data["source"], self.principal(), "stock.transfer")
        destination = the_warehouse(data["destination"], self.principal(), "stock.view")
        made = transfers.request_transfer(
            source_id=source.pk, destination_id=destination.pk, lines=_units(data["lines"]), actor=self.actor(),
            expected_on=data.get("expected_on"), note=data["note"],
        )  # fmt: skip
        return self.answer(made.pk, 201)

    @extend_schema(request=None, responses=TransferSerializer)
    @action(detail=True, methods=["post"])
    def ship(self, request: Request, pk: str) -> Response:
        """Everything requested leaves the source."""
        item: Transfer = self.get_object()
        require(self.principal(), "stock.transfer", item.source.code)
        transfers.ship_transfer(item.pk, actor=self.actor())
        return self.answer(item.pk)

    @extend_schema(request=UnitsRequest, responses=TransferSerializer)
    @action(detail=True, methods=["post"])
    def receive(self, request: Request, pk: str) -> Response:
        """What arrived; the rest stays in transit until it is settled."""
        item: Transfer = self.get_object()
        require(self.principal(), "stock.transfer", item.destination.code)
        data = self.read(UnitsRequest)
        transfers.receive_transfer(
            item.pk, _units(data["lines"]), actor=self.actor(), key=f"api:{data['key']}"
        )
        return self.answer(item.pk)

    @extend_schema(request=SettleRequest, responses=TransferSerializer)
    @action(detail=True, methods=["post"])
    def settle(self, request: Request, pk: str) -> Response:
        """Decide about units that never came: lost, or found at the source."""
        item: Transfer = self.get_object()
        require(self.principal(), "stock.transfer", item.destination.code)
        data = self.read(SettleRequest)
        transfers.settle_transfer(
            item.pk, _units(data["lines"]), reason=data["reason"], actor=self.actor(), key=f"api:{data['key']}",
            found=data["found"],
        )  # fmt: skip
        return self.answer(item.pk)

    @extend_schema(request=None, responses=TransferSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Withdraw it before it leaves."""
        item: Transfer = self.get_object()
        require(self.principal(), "stock.transfer", item.source.code)
        transfers.cancel_transfer(item.pk, actor=self.actor())
        return self.answer(item.pk)


def _units(lines: dict[str, int]) -> dict[int, int]:
    units: dict[int, int] = {}
    for code, quantity in lines.items():
        pk = the_sku(code).pk
        units[pk] = units.get(pk, 0) + quantity
    return units


# --- lots and ring-fences -------------------------------------------------------------------------


class LotSerializer(SparseFieldsMixin, serializers.ModelSerializer[Lot]):
    sku = serializers.CharField(source="sku.code", read_only=True)

    class Meta:
        model = Lot
        fields = ["id", "sku", "code", "expires_on", "source", "is_blocked", "note", "created_at"]
        read_only_fields = fields


class ReasonRequest(serializers.Serializer[Any]):
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
        lots.set_blocked(lot.pk, blocked, reason=self.read(ReasonRequest)["reason"], actor=self.actor())
        return self.answer(lot.pk)


class FenceSerializer(SparseFieldsMixin, serializers.ModelSerializer[RingFence]):
    sku = serializers.CharField(source="sku.code", read_only=True)
    channel = serializers.CharField(source="channel_code", read_only=True)

    class Meta:
        model = RingFence
        fields = ["id", "sku", "channel", "quantity", "starts_at", "ends_at", "note"]
        read_only_fields = fields


class FenceRequest(serializers.Serializer[Any]):
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
        data = self.read(FenceRequest)
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


def register(router: SimpleRouter) -> None:
    router.register("counts", CountViewSet, "count")
    router.register("transfers", TransferViewSet, "transfer")
    router.register("lots", LotViewSet, "lot")
    router.register("ring-fences", FenceViewSet, "ring-fence")
