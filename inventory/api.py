"""Products, SKUs, stock and promises over HTTP. Writes go through the same services as the screens."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from decimal import Decimal
from typing import Any

import django_filters
from django.core.exceptions import ValidationError
from django.db.models import Prefetch, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ErrorDetail
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from inventory import (
    approvals,
    asof,
    building,
    kits,
    merging,
    numbering,
    operations,
    packs,
    reservations,
    selectors,
    tariff,
    valuation,
)
from inventory.locking import stock_service
from inventory.models import (
    KitComponent,
    Product,
    Reservation,
    Sku,
    SkuAlias,
    SkuPack,
    StockLevel,
    StockMovement,
    Warehouse,
)
from inventory.resources import AliasResource, ProductResource, SkuResource
from oms.core import masterfiles
from oms.core.access import principal_of, require, scope_of
from oms.core.actor import Actor, actor_of
from oms.core.api import bulk
from oms.core.api.fields import CountsField, MoneyField, SparseFieldsMixin
from oms.core.api.filters import refuse_unknown
from oms.core.api.forms import Form, StrictMixin
from oms.core.api.problems import pointing, renamed
from oms.core.api.resources import Resource
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import NotFound, UserError, about

#: a checkout may hold stock at most this long
LONGEST_HOLD = dt.timedelta(hours=24)


class Base(Resource[Any]):
    """Who asks, and where that one may look."""

    permission = "stock.view"

    def principal(self) -> Any:
        return principal_of(self.request)

    def actor(self) -> Actor:
        return actor_of(self.principal())

    def drawing_schema(self) -> bool:
        return bool(getattr(self, "swagger_fake_view", False))


def the_sku(code: str) -> Sku:
    sku = selectors.resolve_codes([code]).get(code)
    if sku is None:
        raise UserError(f"sku: '{code}' is neither a SKU nor an alias of one.", field="sku")
    return sku


def the_skus(name: str, codes: Iterable[str]) -> dict[str, int]:
    """The ids of the SKUs that the map `name` of a body has as keys."""
    found = {}
    for code in codes:
        with pointing(name, {code: code}), about(code):
            found[code] = the_sku(code).pk
    return found


def the_warehouse(code: str, principal: Any, permission: str, field: str = "warehouse") -> Warehouse:
    found = Warehouse.objects.filter(code=code).first()
    if found is None:
        raise UserError(f"{field}: there is no warehouse '{code}'.", field=field)
    require(principal, permission, found.code)
    return found


class UnitField(serializers.CharField):
    """In which unit a quantity is given."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs = {
            "max_length": 30, "required": False, "default": "", "allow_blank": True,
            "help_text": "a pack of the SKU, such as case; empty: each", **kwargs,
        }  # fmt: skip
        super().__init__(**kwargs)


# --- products and SKUs ----------------------------------------------------------------------------


class ProductSerializer(StrictMixin, SparseFieldsMixin, serializers.ModelSerializer[Product]):
    """What is sold under one title; its SKUs are what is counted."""

    skus: Any = serializers.SlugRelatedField(slug_field="code", many=True, read_only=True)

    class Meta:
        model = Product
        fields = [
            "id",
            "title",
            "brand",
            "category",
            "description",
            "is_active",
            "skus",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["id", "created_at", "updated_at"]


class AliasSerializer(serializers.ModelSerializer[SkuAlias]):
    class Meta:
        model = SkuAlias
        fields = ["kind", "value"]


class ComponentSerializer(serializers.ModelSerializer[KitComponent]):
    sku = serializers.CharField(source="component.code")

    class Meta:
        model = KitComponent
        fields = ["sku", "quantity"]


class PackSerializer(serializers.ModelSerializer[SkuPack]):
    class Meta:
        model = SkuPack
        fields = ["name", "quantity", "barcode"]


def _checked(check: Callable[[str], str], value: str) -> str:
    """A value as `tariff` writes it, its refusal as the field's error."""
    try:
        return check(value)
    except UserError as error:
        raise serializers.ValidationError(error.message.partition(": ")[2], code="customs") from None


class SkuSerializer(StrictMixin, SparseFieldsMixin, serializers.ModelSerializer[Sku]):
    """One variant: counted, sold and shipped. Write its price as `list_price`, in `currency`; answers show `price`."""

    product = serializers.PrimaryKeyRelatedField(queryset=Product.objects.all())
    aliases = AliasSerializer(many=True, read_only=True)
    components = ComponentSerializer(many=True, read_only=True)
    packs = PackSerializer(many=True, read_only=True)
    options = serializers.DictField(
        child=serializers.CharField(max_length=80), required=False, help_text='such as {"Colour": "Blue"}'
    )
    price = MoneyField("price")
    list_price = serializers.DecimalField(
        source="price", max_digits=14, decimal_places=4, min_value=0, write_only=True, required=False
    )

    customs_value = serializers.DecimalField(
        max_digits=14, decimal_places=4, min_value=0, required=False, allow_null=True,
        help_text="of a unit given free of charge, in `currency`; null or 0: the list price",
    )  # fmt: skip

    class Meta:
        model = Sku
        fields = [
            "id", "code", "product", "title", "options", "kind", "weight_g", "length_mm", "width_mm", "height_mm",
            "hs_code", "origin_country", "customs_description", "customs_value", "dangerous_goods", "price",
            "list_price", "currency", "lot_tracked", "serial_tracked", "shelf_life_days", "mcf_allowed", "valuation",
            "is_active", "aliases", "components", "packs", "created_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = ["id", "valuation", "created_at", "updated_at"]

    def validate_code(self, value: str) -> str:
        known = selectors.resolve_codes([value]).get(value)
        if known is not None and (self.instance is None or known.pk != self.instance.pk):
            raise serializers.ValidationError(f"'{value}' already finds {known.code}; choose another code.")
        return value

    def validate_customs_value(self, value: Decimal | None) -> Decimal | None:
        return value or None

    def validate_hs_code(self, value: str) -> str:
        return _checked(tariff.hs_code, value)

    def validate_origin_country(self, value: str) -> str:
        return _checked(tariff.origin_country, value)

    def validate_serial_tracked(self, value: bool) -> bool:
        if self.instance is not None and not value:
            try:
                Sku(pk=self.instance.pk, code=self.instance.code).clean()
            except ValidationError as error:
                raise serializers.ValidationError(error.message_dict["serial_tracked"]) from None
        return value


class AliasRequest(Form):
    kind = serializers.ChoiceField(choices=SkuAlias.Kind.choices, default=SkuAlias.Kind.CODE)
    value = serializers.CharField(max_length=80)


class ComponentsRequest(Form):
    components = CountsField(help_text="SKU code → eaches per kit")


class NewPackRequest(Form):
    name = serializers.CharField(max_length=30, help_text="such as case")
    quantity = serializers.IntegerField(min_value=2, max_value=1_000_000, help_text="eaches in one pack")
    barcode = serializers.CharField(max_length=80, required=False, allow_blank=True, default="")


class BuildRequest(Form):
    warehouse = serializers.CharField(max_length=20)
    quantity = serializers.IntegerField(min_value=1, max_value=1_000_000, help_text="sets")
    key = serializers.CharField(max_length=60, help_text="the same key builds once")
    note = serializers.CharField(max_length=255, required=False, allow_blank=True, default="")


class BuildAnswer(serializers.Serializer[Any]):
    movements = serializers.ListField(child=serializers.IntegerField())


class ValuationRequest(Form):
    method = serializers.ChoiceField(
        choices=Sku.Valuation.choices,
        allow_blank=True,
        help_text="average or fifo; empty: as set for the business",
    )


class MergeRequest(Form):
    into = serializers.CharField(max_length=80, help_text="code of the SKU that stays")
    note = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


class ProductFilter(django_filters.FilterSet):
    is_active = django_filters.BooleanFilter()
    title = django_filters.CharFilter(lookup_expr="icontains")

    class Meta:
        model = Product
        fields = ["is_active", "title"]


class SkuFilter(django_filters.FilterSet):
    code = django_filters.CharFilter(lookup_expr="iexact")
    kind = django_filters.ChoiceFilter(choices=Sku.Kind.choices)
    is_active = django_filters.BooleanFilter()
    product = django_filters.NumberFilter(field_name="product_id")

    class Meta:
        model = Sku
        fields = ["code", "kind", "is_active", "product"]


#: wrong rows of a file that an error names
MOST_TOLD = 200
#: kind of a file → how its rows are read
FILES: dict[str, type[masterfiles.SafeResource]] = {
    "products": ProductResource,
    "skus": SkuResource,
    "aliases": AliasResource,
}


class MasterFileRequest(Form):
    """Rows of products (by `id`, new without one), of SKUs (by `code`) or of aliases (by `value`)."""

    kind = serializers.ChoiceField(choices=list(FILES))
    content = serializers.CharField(
        max_length=4_000_000,
        trim_whitespace=False,
        help_text=f"CSV, header first, at most {masterfiles.MOST_ROWS:,} rows; columns as the desk exports them",
    )
    dry_run = serializers.BooleanField(default=False, help_text="only say what would happen")


class WrongRow(serializers.Serializer[Any]):
    row = serializers.IntegerField(help_text="line of the file, the header is 1")
    column = serializers.CharField(help_text="empty: the whole row")
    message = serializers.CharField()


class MasterFileAnswer(serializers.Serializer[Any]):
    """What was written, or with `dry_run` would be. A wrong row is an error of the whole file without it."""

    rows = serializers.IntegerField()
    new = serializers.IntegerField()
    changed = serializers.IntegerField()
    unchanged = serializers.IntegerField()
    wrong = WrongRow(many=True)


class ProductViewSet(Base, mixins.CreateModelMixin, mixins.UpdateModelMixin):
    """What shoppers see as one item; its variants are SKUs."""

    queryset = Product.objects.prefetch_related("skus")
    serializer_class = ProductSerializer
    filterset_class = ProductFilter
    keyset_order = ("-id",)
    updated_field = "updated_at"
    lookup_value_regex = "[0-9]{1,18}"
    http_method_names = ["get", "post", "patch", "head", "options"]
    required_scopes = {"GET": "products:read", "POST": "products:write", "PATCH": "products:write"}

    def perform_create(self, serializer: Any) -> None:
        record(self.actor(), "product.created", serializer.save())

    def perform_update(self, serializer: Any) -> None:
        record(self.actor(), "product.changed", serializer.save(), after=dict(serializer.validated_data))

    @extend_schema(request=MasterFileRequest, responses=MasterFileAnswer)
    @action(detail=False, methods=["post"], url_path="import-file")
    def import_file(self, request: Request) -> Response:
        """Bring products, SKUs or aliases in from a CSV, all rows or none. The same file twice changes nothing."""
        data = MasterFileRequest.read(request)
        found = masterfiles.load(
            FILES[data["kind"]], data["content"], actor=self.actor(), dry_run=data["dry_run"]
        )
        if found.wrong and not data["dry_run"]:
            rows: dict[str, dict[str, list[ErrorDetail]]] = {}
            for one in found.wrong[:MOST_TOLD]:
                row = rows.setdefault(str(one.row), {})
                row.setdefault(one.column or "non_field_errors", []).append(
                    ErrorDetail(one.message, code="row")
                )
            raise serializers.ValidationError({"content": rows})
        return Response(MasterFileAnswer(asdict(found)).data)


class SkuViewSet(Base, mixins.CreateModelMixin, mixins.UpdateModelMixin):
    """Stock-keeping units with their aliases and kit components."""

    queryset = Sku.objects.select_related("product").prefetch_related(
        "aliases", "packs", Prefetch("components", KitComponent.objects.select_related("component"))
    )
    serializer_class = SkuSerializer
    filterset_class = SkuFilter
    keyset_order = ("-id",)
    updated_field = "updated_at"
    lookup_value_regex = "[0-9]{1,18}"
    http_method_names = ["get", "post", "patch", "head", "options"]
    required_scopes = {"GET": "products:read", "POST": "products:write", "PATCH": "products:write"}

    def perform_create(self, serializer: Any) -> None:
        record(self.actor(), "sku.created", serializer.save())

    def perform_update(self, serializer: Any) -> None:
        record(self.actor(), "sku.changed", serializer.save())

    def _again(self, sku: Sku) -> Response:
        return Response(self.get_serializer(self.get_queryset().get(pk=sku.pk)).data)

    @extend_schema(request=AliasRequest, responses=SkuSerializer)
    @action(detail=True, methods=["post"])
    def aliases(self, request: Request, pk: str) -> Response:
        """Add a code that finds this SKU. One value never finds two SKUs."""
        sku = self.get_object()
        data = AliasRequest.read(request)
        value = data["value"].strip()
        known = selectors.resolve_codes([value]).get(value)
        if known is not None and known.pk != sku.pk:
            raise UserError(f"value: '{value}' already finds {known.code}.", field="value", code="taken")
        if known is None:
            SkuAlias.objects.create(sku=sku, kind=data["kind"], value=value)
            record(self.actor(), "sku.alias", sku, after={"value": value})
        return self._again(sku)

    @extend_schema(request=ComponentsRequest, responses=SkuSerializer)
    @action(detail=True, methods=["post"])
    def components(self, request: Request, pk: str) -> Response:
        """Replace the contents of a kit."""
        sku = self.get_object()
        data = ComponentsRequest.read(request)
        skus = the_skus("components", data["components"])
        chosen = {skus[code]: units for code, units in data["components"].items()}
        with pointing("components", {pk: code for code, pk in skus.items()}):
            kits.set_components(sku.pk, chosen, actor=self.actor())
        return self._again(sku)

    @extend_schema(request=NewPackRequest, responses=SkuSerializer)
    @action(detail=True, methods=["post"])
    def packs(self, request: Request, pk: str) -> Response:
        """Add a unit of measure that holds several eaches, or change the one of that name."""
        sku = self.get_object()
        packs.set_pack(sku, actor=self.actor(), **NewPackRequest.read(request))
        return self._again(sku)

    def _build(self, work: Callable[..., list[StockMovement]]) -> Response:
        sku, data = self.get_object(), BuildRequest.read(self.request)
        place = the_warehouse(data["warehouse"], self.principal(), "stock.adjust")
        rows = work(
            sku.pk,
            place.pk,
            data["quantity"],
            actor=self.actor(),
            key=f"api:build:{data['key']}",
            note=data["note"],
        )
        return Response(BuildAnswer({"movements": [row.pk for row in rows]}).data, 201)

    @extend_schema(request=BuildRequest, responses={201: BuildAnswer})
    @action(detail=True, methods=["post"])
    def build(self, request: Request, pk: str) -> Response:
        """Turn available components into pre-built sets; a set costs what its components cost."""
        return self._build(building.build)

    @extend_schema(request=BuildRequest, responses={201: BuildAnswer})
    @action(detail=True, methods=["post"], url_path="take-apart")
    def take_apart(self, request: Request, pk: str) -> Response:
        """Break pre-built sets into their components, which share what the sets had cost."""
        return self._build(building.take_apart)

    @extend_schema(request=ValuationRequest, responses=SkuSerializer)
    @action(detail=True, methods=["post"])
    def valuation(self, request: Request, pk: str) -> Response:
        """Value it by moving average or first in, first out from now on."""
        sku = self.get_object()
        require(self.principal(), "settings.manage")
        valuation.set_method(sku.pk, ValuationRequest.read(request)["method"], actor=self.actor())
        return self._again(sku)

    @extend_schema(request=MergeRequest, responses=SkuSerializer)
    @action(detail=True, methods=["post"])
    def merge(self, request: Request, pk: str) -> Response:
        """Two codes are one thing: stock, codes and settings go over. Refused with every reason against it."""
        sku = self.get_object()
        require(self.principal(), "settings.manage")
        data = MergeRequest.read(request)
        into = the_sku(data["into"])
        merging.merge_skus(sku.pk, into.pk, actor=self.actor(), note=data["note"])
        return self._again(into)


# --- warehouses and stock -------------------------------------------------------------------------


class WarehouseSerializer(SparseFieldsMixin, serializers.ModelSerializer[Warehouse]):
    class Meta:
        model = Warehouse
        fields = ["id", "code", "name", "kind", "city", "region", "postal_code", "country", "time_zone", "priority",
                  "capacity_per_day", "is_active"]  # fmt: skip
        read_only_fields = fields


class WarehouseFilter(django_filters.FilterSet):
    kind = django_filters.ChoiceFilter(choices=Warehouse.Kind.choices)
    is_active = django_filters.BooleanFilter()

    class Meta:
        model = Warehouse
        fields = ["kind", "is_active"]


class WarehouseViewSet(Base):
    """Warehouses you may see."""

    queryset = Warehouse.objects.none()
    serializer_class = WarehouseSerializer
    filterset_class = WarehouseFilter
    keyset_order = ("id",)
    lookup_field = "code"
    lookup_value_regex = "[^/]{1,20}"
    required_scopes = {"GET": "stock:read"}

    def get_queryset(self) -> QuerySet[Warehouse]:
        if self.drawing_schema():
            return Warehouse.objects.none()
        return Warehouse.objects.filter(scope_of(self.principal(), "stock.view").q(warehouse="code"))


class LevelSerializer(SparseFieldsMixin, serializers.ModelSerializer[StockLevel]):
    sku = serializers.CharField(source="sku.code", read_only=True)
    warehouse = serializers.CharField(source="warehouse.code", read_only=True)
    available = serializers.IntegerField(read_only=True)

    class Meta:
        model = StockLevel
        fields = ["id", "sku", "warehouse", "on_hand", "reserved", "damaged", "quarantine", "inspection", "unavailable",
                  "available", "in_transit", "safety"]  # fmt: skip
        read_only_fields = fields


class LevelFilter(django_filters.FilterSet):
    sku = django_filters.CharFilter(method="by_code", label="SKU code or alias")
    warehouse = django_filters.CharFilter(field_name="warehouse__code")

    class Meta:
        model = StockLevel
        fields = ["sku", "warehouse"]

    def by_code(self, found: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return found.filter(sku=selectors.resolve_codes([value]).get(value))


class AdjustRequest(Form):
    sku = serializers.CharField(max_length=80)
    warehouse = serializers.CharField(max_length=20)
    quantity = serializers.IntegerField(
        min_value=-1_000_000_000, max_value=1_000_000_000, help_text="signed change, in the unit"
    )
    unit = UnitField()
    reason = serializers.CharField(max_length=60)
    note = serializers.CharField(max_length=255, required=False, default="", allow_blank=True)
    serials = serializers.ListField(
        child=serializers.CharField(max_length=60), max_length=1000, required=False, default=list,
        help_text="of the units, for SKUs with serial numbers",
    )  # fmt: skip


class AdjustAnswer(serializers.Serializer[Any]):
    movements = serializers.ListField(child=serializers.IntegerField())
    waiting_for_approval = serializers.IntegerField(allow_null=True, help_text="id of the request, or null")
    released = serializers.DictField(
        child=serializers.IntegerField(), help_text="reservation id → units given up"
    )


class NumberRequest(Form):
    sku = serializers.CharField(max_length=80)
    warehouse = serializers.CharField(max_length=20)
    serials = serializers.ListField(
        child=serializers.CharField(max_length=60), min_length=1, max_length=numbering.MOST,
        help_text="one per unit that has none",
    )  # fmt: skip


class NumberAnswer(serializers.Serializer[Any]):
    numbered = serializers.IntegerField()
    left = serializers.IntegerField(help_text="units that still have no number")


class AdjustManyRequest(Form):
    items = AdjustRequest(many=True, min_length=1, max_length=bulk.MOST)  # type: ignore[call-arg]


class AsOfQuery(serializers.Serializer[Any]):
    at = serializers.DateTimeField(default_timezone=None, help_text="time with zone")
    sku = serializers.CharField(max_length=80, help_text="SKU code or alias")


class AsOfAnswer(serializers.Serializer[Any]):
    sku = serializers.CharField()
    warehouse = serializers.CharField()
    on_hand = serializers.IntegerField()
    reserved = serializers.IntegerField()
    available = serializers.IntegerField()


class StockViewSet(Base):
    """Stock per SKU and warehouse. Balances change by adjustments, never by writing a figure."""

    queryset = StockLevel.objects.none()
    serializer_class = LevelSerializer
    filterset_class = LevelFilter
    keyset_order = ("id",)
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "stock:read", "POST": "stock:write"}

    def get_queryset(self) -> QuerySet[StockLevel]:
        if self.drawing_schema():
            return StockLevel.objects.none()
        scope = scope_of(self.principal(), "stock.view")
        return StockLevel.objects.filter(scope.q(warehouse="warehouse__code")).select_related(
            "sku", "warehouse"
        )

    @extend_schema(request=AdjustManyRequest, responses=bulk.BulkAnswer)
    @action(detail=False, methods=["post"], url_path="adjust-many")
    def adjust_many(self, request: Request) -> Response:
        """Up to 500 adjustments; each is posted or refused for itself, and the answer says which. Together above
        your limit, all of them wait for a second person."""
        require(self.principal(), "stock.adjust")
        data = AdjustManyRequest.read(request)
        batch = uuid.uuid4().hex
        items = data["items"]
        for item in items:
            if item["unit"]:
                with suppress(UserError):  # a wrong unit is told where the item is tried
                    sku = the_sku(item["sku"])
                    item["quantity"], item["unit"] = packs.eaches(sku, item["quantity"], item["unit"]), ""
        known = selectors.find_codes({item["sku"] for item in items})
        places = dict(Warehouse.objects.values_list("code", "pk"))
        total = approvals.foresee(
            (known[item["sku"]], item["warehouse"], places[item["warehouse"]], item["quantity"], True)
            for item in items
            if item["sku"] in known and item["warehouse"] in places
        )
        waits = approvals.needs_second(total.counted(), self.actor().user_id)

        def one(item: tuple[int, dict[str, Any]]) -> str:
            number, data = item
            warehouse = the_warehouse(data["warehouse"], self.principal(), "stock.adjust")
            sku = the_sku(data["sku"])
            done = operations.adjust(
                sku_id=sku.pk, warehouse_id=warehouse.pk, quantity=packs.eaches(sku, data["quantity"], data["unit"]),
                reason=data["reason"], note=data["note"], actor=self.actor(), key=f"api:{batch}:{number}",
                wait=waits, numbers=data["serials"],
            )  # fmt: skip
            return "waits for a second person" if done.request else "posted"

        return Response(bulk.each(request, "items", enumerate(items), one))

    @extend_schema(request=AdjustRequest, responses={201: AdjustAnswer})
    @action(detail=False, methods=["post"])
    def adjust(self, request: Request) -> Response:
        """Change on hand by a signed quantity, with a reason. Above your limit it waits for a second person."""
        data = AdjustRequest.read(request)
        warehouse = the_warehouse(data["warehouse"], self.principal(), "stock.adjust")
        sku = the_sku(data["sku"])
        outcome = operations.adjust(
            sku_id=sku.pk, warehouse_id=warehouse.pk, quantity=packs.eaches(sku, data["quantity"], data["unit"]),
            reason=data["reason"], note=data["note"], actor=self.actor(), key=f"api:{uuid.uuid4().hex}",
            numbers=data["serials"],
        )  # fmt: skip
        body = {
            "movements": [row.pk for row in outcome.rows],
            "waiting_for_approval": outcome.request.pk if outcome.request else None,
            "released": {str(pk): units for pk, units in outcome.lost.items()},
        }
        return Response(AdjustAnswer(body).data, 201)

    @extend_schema(request=NumberRequest, responses={201: NumberAnswer})
    @action(detail=False, methods=["post"])
    def number(self, request: Request) -> Response:
        """Give serial numbers to units on hand that have none. No balance changes."""
        data = NumberRequest.read(request)
        warehouse = the_warehouse(data["warehouse"], self.principal(), "stock.adjust")
        left = numbering.number(
            sku_id=the_sku(data["sku"]).pk,
            warehouse_id=warehouse.pk,
            numbers=data["serials"],
            actor=self.actor(),
        )
        return Response(NumberAnswer({"numbered": len(data["serials"]), "left": left}).data, 201)

    @extend_schema(
        parameters=[AsOfQuery],
        responses=AsOfAnswer(many=True),
        filters=False,
    )
    @action(detail=False, methods=["get"], url_path="as-of", pagination_class=None, filter_backends=[])
    def as_of(self, request: Request) -> Response:
        """What one SKU's stock was at any moment, replayed from the ledger."""
        refuse_unknown(request, ("at", "sku"))
        asked = AsOfQuery(
            data={name: str(text).replace(" ", "+") for name, text in request.query_params.items()}
        )
        asked.is_valid(raise_exception=True)
        moment, sku = asked.validated_data["at"], the_sku(asked.validated_data["sku"])
        visible = self.get_queryset().filter(sku=sku).values_list("warehouse_id", "warehouse__code")
        codes = dict(visible)
        past = asof.as_of(moment, sku_ids=[sku.pk], warehouse_ids=list(codes))
        rows = [
            {
                "sku": sku.code,
                "warehouse": codes[place],
                "on_hand": level.on_hand,
                "reserved": level.balances.get("reserved", 0),
                "available": level.available,
            }
            for (_, place), level in sorted(past.items())
        ]
        return Response(AsOfAnswer(rows, many=True).data)


class MovementSerializer(SparseFieldsMixin, serializers.ModelSerializer[StockMovement]):
    sku = serializers.CharField(source="sku.code", read_only=True)
    warehouse = serializers.CharField(source="warehouse.code", read_only=True)

    class Meta:
        model = StockMovement
        fields = ["id", "sku", "warehouse", "bucket", "quantity", "balance", "kind", "reason", "reference", "actor",
                  "note", "occurred_at", "created_at"]  # fmt: skip
        read_only_fields = fields


class MovementFilter(LevelFilter):
    bucket = django_filters.ChoiceFilter(choices=StockMovement.Bucket.choices)
    kind = django_filters.ChoiceFilter(choices=StockMovement.Kind.choices)
    reference = django_filters.CharFilter()

    class Meta:
        model = StockMovement
        fields = ["sku", "warehouse", "bucket", "kind", "reference"]


class MovementViewSet(Base):
    """The ledger, newest first. Rows are never changed; a wrong one is reversed by another."""

    queryset = StockMovement.objects.none()
    serializer_class = MovementSerializer
    filterset_class = MovementFilter
    keyset_order = ("-id",)
    updated_field = "created_at"
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "stock:read"}

    def get_queryset(self) -> QuerySet[StockMovement]:
        if self.drawing_schema():
            return StockMovement.objects.none()
        scope = scope_of(self.principal(), "stock.view")
        return StockMovement.objects.filter(scope.q(warehouse="warehouse__code")).select_related(
            "sku", "warehouse"
        )


# --- reservations ---------------------------------------------------------------------------------


class ReservationSerializer(SparseFieldsMixin, serializers.ModelSerializer[Reservation]):
    id = serializers.UUIDField(source="uid", read_only=True)
    sku = serializers.CharField(source="sku.code", read_only=True)
    warehouse = serializers.CharField(source="warehouse.code", read_only=True)

    class Meta:
        model = Reservation
        fields = ["id", "sku", "warehouse", "quantity", "consumed", "released", "state", "reference", "expires_at",
                  "created_at"]  # fmt: skip
        read_only_fields = fields


class ReserveItem(Form):
    sku = serializers.CharField(max_length=80, help_text="SKU code or alias; kits are resolved")
    quantity = serializers.IntegerField(min_value=1, max_value=1_000_000)


class ReserveRequest(Form):
    reference = serializers.CharField(max_length=70, help_text="your name for it, such as the checkout's id")
    warehouses = serializers.ListField(
        child=serializers.CharField(max_length=20),
        min_length=1,
        max_length=50,
        help_text="codes in order of preference",
    )
    lines = ReserveItem(many=True, min_length=1, max_length=200)  # type: ignore[call-arg]
    expires_in = serializers.IntegerField(
        min_value=1, max_value=int(LONGEST_HOLD.total_seconds()), default=900, help_text="seconds"
    )
    whole_only = serializers.BooleanField(default=False, help_text="hold everything or nothing")


class ExtendRequest(Form):
    expires_in = serializers.IntegerField(
        min_value=1, max_value=int(LONGEST_HOLD.total_seconds()), default=900, help_text="seconds from now"
    )


class ReservedLine(serializers.Serializer[Any]):
    sku = serializers.CharField()
    reserved = serializers.IntegerField()
    short = serializers.IntegerField()


class ReserveAnswer(serializers.Serializer[Any]):
    lines = ReservedLine(many=True)
    reservations = ReservationSerializer(many=True)
    expires_at = serializers.DateTimeField()


class ReservationFilter(LevelFilter):
    state = django_filters.ChoiceFilter(choices=Reservation.State.choices)
    reference = django_filters.CharFilter()

    class Meta:
        model = Reservation
        fields = ["sku", "warehouse", "state", "reference"]


class ReservationViewSet(Base, mixins.DestroyModelMixin):
    """Promises of stock. POST holds stock for a checkout for a while; DELETE gives it back."""

    queryset = Reservation.objects.none()
    serializer_class = ReservationSerializer
    filterset_class = ReservationFilter
    keyset_order = ("-id",)
    lookup_field = "uid"
    lookup_url_kwarg = "id"
    lookup_value_regex = "[0-9a-fA-F-]{32,36}"
    http_method_names = ["get", "post", "delete", "head", "options"]
    required_scopes = {"GET": "stock:read", "POST": "stock:write", "DELETE": "stock:write"}

    def get_queryset(self) -> QuerySet[Reservation]:
        if self.drawing_schema():
            return Reservation.objects.none()
        scope = scope_of(self.principal(), "stock.view")
        return Reservation.objects.filter(scope.q(warehouse="warehouse__code")).select_related(
            "sku", "warehouse"
        )

    def get_object(self) -> Reservation:
        try:
            uuid.UUID(self.kwargs["id"])
        except ValueError:
            raise NotFound("reservation: no such reservation.") from None
        found: Reservation = super().get_object()
        return found

    @extend_schema(request=ReserveRequest, responses={201: ReserveAnswer})
    def create(self, request: Request) -> Response:
        """Hold stock until `expires_in` seconds from now. What is not there is `short`, not an error."""
        data = ReserveRequest.read(request)
        places = tuple(
            the_warehouse(code, self.principal(), "stock.adjust").pk for code in data["warehouses"]
        )
        skus = []
        for place, item in enumerate(data["lines"]):
            with renamed("sku", f"lines.{place}.sku"):
                skus.append(the_sku(item["sku"]))
        until = now() + dt.timedelta(seconds=data["expires_in"])
        lines = [
            reservations.ReserveLine(
                f"hold:{data['reference']}", sku.pk, item["quantity"], places, expires_at=until
            )
            for sku, item in zip(skus, data["lines"], strict=True)
        ]

        @stock_service
        def hold() -> list[reservations.ReserveResult]:
            results = reservations.reserve(lines, actor=self.actor())
            if data["whole_only"]:
                for place, (sku, result) in enumerate(zip(skus, results, strict=True)):
                    if result.short:
                        raise reservations.Conflict(
                            f"lines: {result.short} of {sku.code} are not available; nothing was held.",
                            field=f"lines.{place}.quantity",
                        )
            return results

        results = hold()
        ids = [part.reservation_id for result in results for part in result.parts]
        rows = Reservation.objects.filter(pk__in=ids).select_related("sku", "warehouse").order_by("pk")
        body = {
            "lines": [
                {"sku": sku.code, "reserved": result.reserved, "short": result.short}
                for sku, result in zip(skus, results, strict=True)
            ],
            "reservations": rows,
            "expires_at": until,
        }
        return Response(ReserveAnswer(body).data, 201)

    @extend_schema(request=ExtendRequest, responses=ReservationSerializer)
    @action(detail=True, methods=["post"])
    def extend(self, request: Request, id: str) -> Response:
        """A checkout needs longer: the hold ends `expires_in` seconds from now."""
        held = self.get_object()
        require(self.principal(), "stock.adjust", held.warehouse.code)
        data = ExtendRequest.read(request)
        until = now() + dt.timedelta(seconds=data["expires_in"])
        return Response(self.get_serializer(reservations.extend(held.pk, until)).data)

    def perform_destroy(self, instance: Reservation) -> None:
        """Only holds are given back here; the promise of an order belongs to its order."""
        require(self.principal(), "stock.adjust", instance.warehouse.code)
        if not instance.reference.startswith("hold:"):
            raise reservations.Conflict(
                "reservation: it belongs to an order; cancel the order's line instead.", field="reservation"
            )
        reservations.release([instance.pk], actor=self.actor(), reason="given back")


def register(router: SimpleRouter) -> None:
    router.register("products", ProductViewSet, "product")
    router.register("skus", SkuViewSet, "sku")
    router.register("warehouses", WarehouseViewSet, "warehouse")
    router.register("stock", StockViewSet, "stock")
    router.register("movements", MovementViewSet, "movement")
    router.register("reservations", ReservationViewSet, "reservation")
    from inventory.pool_api import DifferenceViewSet  # which stands on this module

    router.register("differences", DifferenceViewSet, "difference")
