"""Orders over HTTP: the queue, one order, entering orders, holds and cancellations."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_serializer
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import BaseRouter

from inventory.models import Reservation
from oms.core.access import principal_of, require
from oms.core.actor import actor_of
from oms.core.api import bulk
from oms.core.api.fields import DerivedOnceMixin, MoneyField, SparseFieldsMixin, expect_version
from oms.core.api.filters import refuse_unknown
from oms.core.api.forms import Form
from oms.core.api.idempotency import IdempotentMixin
from oms.core.api.problems import places_of, pointing
from oms.core.api.resources import Resource
from oms.core.api.versions import VersionedMixin
from oms.core.errors import Conflict, UserError
from oms.orders import bulk as orders_bulk
from oms.orders import entry, selectors, services
from oms.orders.drafts import ContactDraft
from oms.orders.models import Hold, Order, OrderEvent, OrderLine, Promise, SalesChannel


class OrderLineSerializer(DerivedOnceMixin, serializers.ModelSerializer[OrderLine]):
    sku = serializers.SerializerMethodField(
        help_text="our SKU code; null while the channel's code is not mapped"
    )
    promise_on = serializers.SerializerMethodField(
        help_text="when what is short is expected from goods on order; null when nothing short is covered"
    )
    unit_price = MoneyField("unit_price", "order.currency")
    discount = MoneyField("discount", "order.currency")
    tax = MoneyField("tax", "order.currency")

    class Meta:
        model = OrderLine
        fields = ["id", "external_id", "sku", "external_sku", "title", "kind", "quantity", "pack_size", "reserved",
                  "shipped", "cancelled", "short", "promise_on", "returned", "unit_price", "discount",
                  "tax"]  # fmt: skip
        read_only_fields = fields

    def get_sku(self, line: OrderLine) -> str | None:
        if "sku_code" in line.__dict__:  # a page of orders brings it along
            code: str | None = line.__dict__["sku_code"]
            return code
        return line.sku.code if line.sku is not None else None

    @extend_schema_field(serializers.DateField(allow_null=True))
    def get_promise_on(self, line: OrderLine) -> str | None:
        return line.promise_on.isoformat() if line.short and line.promise_on else None


class HoldSerializer(DerivedOnceMixin, serializers.ModelSerializer[Hold]):
    class Meta:
        model = Hold
        fields = [
            "id",
            "reason",
            "line",
            "note",
            "placed_by",
            "placed_at",
            "expires_at",
            "released_at",
            "released_by",
        ]
        read_only_fields = fields


class OrderSerializer(SparseFieldsMixin, serializers.ModelSerializer[Order]):
    number = serializers.CharField(read_only=True)
    channel = serializers.CharField(source="channel.code", read_only=True)
    on_hold = serializers.BooleanField(read_only=True)
    warehouses = serializers.SerializerMethodField()
    subtotal, discount, shipping, tax, total = (
        MoneyField(name) for name in ("subtotal", "discount", "shipping", "tax", "total")
    )
    lines = OrderLineSerializer(many=True, read_only=True)

    class Meta:
        model = Order
        fields = [
            "id", "number", "channel", "external_id", "external_number", "kind", "state", "payment_state",
            "fulfilled_by", "is_test", "placed_at", "imported_at", "ship_by", "ship_by_source", "deliver_by",
            "shipped_at", "delivered_at", "cancelled_at", "cancel_reason", "buyer_cancel_requested",
            "service_level", "risk", "on_hold", "short_units", "unmapped_lines", "tags", "warehouses",
            "ship_city", "ship_region", "ship_country", "subtotal", "discount", "shipping", "tax", "total",
            "version", "updated_at", "lines",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_warehouses(self, order: Order) -> list[str]:
        facts = getattr(self.context.get("view"), "facts", {}).get(order.pk)
        return sorted((facts or selectors.row_facts([order])[order.pk]).codes)


class OrderDetailSerializer(OrderSerializer):
    contact = serializers.SerializerMethodField(help_text="masked without the scope pii:read")
    holds = HoldSerializer(many=True, read_only=True)

    class Meta(OrderSerializer.Meta):
        fields = [*OrderSerializer.Meta.fields, "contact", "holds"]
        read_only_fields = fields

    @extend_schema_field(serializers.DictField())
    def get_contact(self, order: Order) -> dict[str, Any]:
        return selectors.contact_for(order, principal_of(self.context["request"]))


class TimelineSerializer(serializers.ModelSerializer[OrderEvent]):
    class Meta:
        model = OrderEvent
        fields = ["id", "at", "kind", "text", "actor"]
        read_only_fields = fields


_MOST = Decimal("9999999999.9999")


def _amount(**extra: Any) -> serializers.DecimalField:
    return serializers.DecimalField(
        max_digits=14, decimal_places=4, min_value=Decimal(0), max_value=_MOST, **extra
    )


class NewLine(Form):
    sku = serializers.CharField(max_length=80, help_text="SKU code, barcode or another alias")
    quantity = serializers.IntegerField(min_value=1, max_value=1_000_000)
    unit_price = _amount()
    discount = _amount(default=Decimal(0))
    tax = _amount(default=Decimal(0))


class NewContact(Form):
    name = serializers.CharField(max_length=120)
    company = serializers.CharField(max_length=120, required=False, allow_blank=True)
    email = serializers.EmailField(required=False, allow_blank=True)
    phone = serializers.CharField(max_length=40, required=False, allow_blank=True)
    address1 = serializers.CharField(max_length=160)
    address2 = serializers.CharField(max_length=160, required=False, allow_blank=True)
    address3 = serializers.CharField(max_length=160, required=False, allow_blank=True)
    city = serializers.CharField(max_length=80)
    region = serializers.CharField(max_length=40, required=False, allow_blank=True)
    postal_code = serializers.CharField(max_length=20, required=False, allow_blank=True)
    country = serializers.RegexField(r"^[A-Za-z]{2}\Z", help_text="ISO 3166 alpha-2")
    residential = serializers.BooleanField(default=True)


class NewOrder(Form):
    channel = serializers.SlugField(max_length=40, help_text="a manual or custom channel")
    external_id = serializers.CharField(
        max_length=80, required=False, help_text="your own id; the same one twice is refused"
    )
    currency = serializers.RegexField(r"^[A-Z]{3}\Z", required=False, help_text="left out: the channel's")
    kind = serializers.ChoiceField(choices=Order.Kind.choices, default="sale")
    lines = NewLine(many=True, allow_empty=False, max_length=2000)  # type: ignore[call-arg]
    contact = NewContact()
    shipping = _amount(default=Decimal(0))
    discount = _amount(default=Decimal(0), help_text="on the whole order")
    service_level = serializers.CharField(max_length=60, required=False, allow_blank=True)
    ship_by = serializers.DateTimeField(required=False)
    placed_at = serializers.DateTimeField(required=False)
    tags = serializers.ListField(child=serializers.CharField(max_length=40), required=False, max_length=50)
    note = serializers.CharField(max_length=400, required=False, allow_blank=True)
    hold = serializers.CharField(
        max_length=70,
        required=False,
        help_text="`reference` of a reservation: what it holds becomes the order's",
    )


class HoldRequest(Form):
    reason = serializers.ChoiceField(choices=Hold.Reason.choices, default="person")
    note = serializers.CharField(max_length=255, required=False, allow_blank=True)
    line = serializers.IntegerField(required=False, min_value=1, max_value=2**62)
    expires_at = serializers.DateTimeField(required=False)


class ReleaseRequest(Form):
    hold = serializers.IntegerField(
        required=False, min_value=1, max_value=2**62, help_text="left out: every open hold"
    )
    note = serializers.CharField(max_length=200, required=False, allow_blank=True)


class CancelLine(Form):
    line = serializers.IntegerField(min_value=1, max_value=2**62)
    quantity = serializers.IntegerField(min_value=1, max_value=1_000_000)


class CancelRequest(Form):
    reason = serializers.ChoiceField(choices=list(services.CANCEL_REASONS.items()))
    lines = CancelLine(
        many=True, required=False, allow_empty=False, help_text="left out: everything not shipped"
    )
    note = serializers.CharField(max_length=150, required=False, allow_blank=True)
    version = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1)


@extend_schema_serializer(component_name="OrderNote")
class NoteRequest(Form):
    text = serializers.CharField(max_length=400)


class TagsRequest(Form):
    tags = serializers.ListField(child=serializers.CharField(max_length=40), max_length=50)


class MapRequest(Form):
    external_sku = serializers.CharField(max_length=120)
    sku = serializers.CharField(max_length=80)
    remember = serializers.BooleanField(default=False, help_text="store the code as an alias of the SKU")


class MapAnswer(serializers.Serializer[Any]):
    repaired = serializers.IntegerField(help_text="waiting lines that were repaired")


class BulkRequest(Form):
    """What the bar above the list does."""

    action = serializers.ChoiceField(choices=sorted(orders_bulk.ACTIONS))
    ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**62), min_length=1, max_length=bulk.MOST
    )
    note = serializers.CharField(max_length=255, required=False, allow_blank=True, help_text="of a hold")
    tag = serializers.CharField(max_length=40, required=False, allow_blank=True, help_text="of a tag")


def _held(principal: Any, reference: str) -> list[int]:
    """The open reservations of a checkout, all at warehouses where the caller may give stock back."""
    open_ones = Reservation.objects.filter(
        reference=f"hold:{reference}", state=Reservation.State.OPEN
    ).select_related("warehouse")
    if not open_ones:
        raise Conflict(
            f"hold: nothing is held as '{reference}' any more; hold it again, or leave `hold` out.",
            field="hold",
        )
    for one in open_ones:
        require(principal, "stock.adjust", one.warehouse.code)
    return [one.pk for one in open_ones]


class OrderFilter(django_filters.FilterSet):
    channel = django_filters.CharFilter(field_name="channel__code")
    state = django_filters.ChoiceFilter(choices=Order.State.choices)
    external_id = django_filters.CharFilter(max_length=80)
    external_number = django_filters.CharFilter(max_length=80)
    placed_after = django_filters.IsoDateTimeFilter(field_name="placed_at", lookup_expr="gte")
    placed_before = django_filters.IsoDateTimeFilter(field_name="placed_at", lookup_expr="lt")
    view = django_filters.ChoiceFilter(
        choices=[(view.key, view.label) for view in selectors.VIEWS.values()], method="by_view"
    )
    q = django_filters.CharFilter(method="by_words", max_length=80, label="number, SKU or name")

    class Meta:
        model = Order
        fields = ["channel", "state", "external_id", "external_number"]

    def by_view(self, orders: QuerySet[Order], name: str, value: str) -> QuerySet[Order]:
        return selectors.queue(orders, selectors.Filter(view=value))[0]

    def by_words(self, orders: QuerySet[Order], name: str, value: str) -> QuerySet[Order]:
        return selectors.search(orders, value)


class OneOrder(IdempotentMixin, VersionedMixin, viewsets.GenericViewSet[Order]):
    """Steps of one order, on this floor and on those above that do something to whole orders."""

    queryset = Order.objects.none()
    serializer_class = OrderSerializer
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "orders:read", "POST": "orders:write", "PATCH": "orders:write"}

    def get_queryset(self) -> QuerySet[Order]:
        if getattr(self, "swagger_fake_view", False):
            return Order.objects.none()
        found = selectors.visible(principal_of(self.request))
        if self.action == "list":
            return selectors.for_api(found)
        return selectors.for_api(found).select_related("contact").prefetch_related("holds")

    def get_serializer_class(self) -> type[Any]:
        return OrderSerializer if self.action == "list" else OrderDetailSerializer

    def permitted(self, pk: str, permission: str) -> Order:
        """The order, when the caller holds the permission for its channel. Raises `NotFound`, `NotAllowed`."""
        principal = principal_of(self.request)
        order = selectors.get_visible(principal, int(pk))
        require(principal, permission, channel_code=order.channel.code)
        return order

    def answer(self, order_id: int, status: int = 200) -> Response:
        """The order as it is now."""
        order = self.get_queryset().get(pk=order_id)
        return Response(OrderDetailSerializer(order, context=self.get_serializer_context()).data, status)


class OrderViewSet(OneOrder, Resource[Order]):
    """Orders of the channels and warehouses you may see, newest first."""

    filterset_class = OrderFilter
    keyset_order = ("-placed_at", "-id")
    updated_field, updated_order = "updated_at", ("updated_at", "id")
    http_method_names = ["get", "post", "head", "options"]

    def paginate_queryset(self, queryset: Any) -> Any:
        """A page of the list, and where its orders are: without an object per allocation."""
        page = super().paginate_queryset(queryset)
        self.facts = selectors.row_facts(page or [])
        return page

    @extend_schema(request=NewOrder, responses={201: OrderDetailSerializer})
    def create(self, request: Request) -> Response:
        """Enter an order on a manual or custom channel. Send an `Idempotency-Key`."""
        data = NewOrder.read(request)
        principal = principal_of(request)
        channel = SalesChannel.objects.filter(code=data["channel"]).first()
        if channel is None:
            raise UserError(f"channel: there is no channel '{data['channel']}'.", field="channel")
        require(principal, "orders.edit", channel_code=channel.code)
        named = data.get("external_id")
        if "hold" in data and named and Order.objects.filter(channel=channel, external_id=named).exists():
            # the first order took the hold: "nothing is held" would send the caller to hold and sell once more
            raise services.entered_before(channel, named)
        order = entry.enter(
            channel=channel,
            held=_held(principal, data["hold"]) if "hold" in data else (),
            lines=[entry.EntryLine(**line) for line in data["lines"]],
            contact=ContactDraft(**data["contact"]),
            actor=actor_of(principal),
            source="api",
            **{
                name: data[name]
                for name in ("external_id", "currency", "kind", "shipping", "discount", "service_level", "ship_by",
                             "placed_at", "tags", "note")
                if name in data
            },
        )  # fmt: skip
        return self.answer(order.pk, 201)

    @extend_schema(request=BulkRequest, responses=bulk.BulkAnswer)
    @action(detail=False, methods=["post"])
    def bulk(self, request: Request) -> Response:
        """Hold, release, route or tag up to 500 orders; each for itself, and the answer says which."""
        data = BulkRequest.read(request)
        principal, right = principal_of(request), orders_bulk.ACTIONS[data["action"]][0]
        require(principal, right)
        actor = actor_of(principal)

        def one(order_id: int) -> str:
            order = self.permitted(str(order_id), right)
            return orders_bulk.act(data["action"], order, data, actor=actor, principal=principal)

        return Response(bulk.each(request, "ids", data["ids"], one))

    @extend_schema(request=HoldRequest, responses=OrderDetailSerializer)
    @action(detail=True, methods=["post"])
    def hold(self, request: Request, pk: str) -> Response:
        """Put the order, or one line, on hold."""
        order = self.permitted(pk, "orders.hold")
        data = HoldRequest.read(request)
        services.place_hold(
            order.pk, data["reason"], actor=actor_of(principal_of(request)), note=data.get("note", ""),
            line_id=data.get("line"), expires_at=data.get("expires_at"),
        )  # fmt: skip
        return self.answer(order.pk)

    @extend_schema(request=ReleaseRequest, responses=OrderDetailSerializer)
    @action(detail=True, methods=["post"])
    def release(self, request: Request, pk: str) -> Response:
        """Release one hold, or all of them."""
        order = selectors.get_visible(principal_of(request), int(pk))
        data = ReleaseRequest.read(request)
        principal = principal_of(request)
        if "hold" in data:
            if not Hold.objects.filter(pk=data["hold"], order=order).exists():
                raise UserError(f"hold: {order.number} has no hold {data['hold']}.", field="hold")
            services.release_hold(
                data["hold"], actor=actor_of(principal), principal=principal, note=data.get("note", "")
            )
        else:
            services.release_holds(
                order.pk, actor=actor_of(principal), principal=principal, note=data.get("note", "")
            )
        return self.answer(order.pk)

    @extend_schema(request=CancelRequest, responses=OrderDetailSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel units that have not left, or everything open; the channel is told."""
        order = self.permitted(pk, "orders.edit")
        data = CancelRequest.read(request)
        expect_version(order.version, data.get("version"))
        quantities: dict[int, int] | None = None
        if "lines" in data:
            quantities = {}
            for line in data["lines"]:
                quantities[line["line"]] = quantities.get(line["line"], 0) + line["quantity"]
        with pointing("lines", places_of(data.get("lines", ()))):
            services.cancel_lines(
                order.pk,
                quantities,
                reason=data["reason"],
                actor=actor_of(principal_of(request)),
                note=data.get("note", ""),
            )
        return self.answer(order.pk)

    @extend_schema(request=None, responses=OrderDetailSerializer)
    @action(detail=True, methods=["post"])
    def route(self, request: Request, pk: str) -> Response:
        """Ask routing to look at the order again."""
        order = self.permitted(pk, "orders.route")
        services.request_route(order.pk, actor=actor_of(principal_of(request)))
        return self.answer(order.pk)

    @extend_schema(request=NoteRequest, responses=OrderDetailSerializer)
    @action(detail=True, methods=["post"])
    def notes(self, request: Request, pk: str) -> Response:
        """Write a note for the team."""
        order = self.permitted(pk, "orders.edit")
        data = NoteRequest.read(request)
        services.add_note(order.pk, data["text"], actor=actor_of(principal_of(request)))
        return self.answer(order.pk)

    @extend_schema(request=TagsRequest, responses=OrderDetailSerializer)
    @action(detail=True, methods=["post"])
    def tags(self, request: Request, pk: str) -> Response:
        """Replace the order's tags."""
        order = self.permitted(pk, "orders.edit")
        data = TagsRequest.read(request)
        services.set_tags(order.pk, data["tags"], actor=actor_of(principal_of(request)))
        return self.answer(order.pk)

    @extend_schema(request=MapRequest, responses=MapAnswer)
    @action(detail=True, methods=["post"])
    def map(self, request: Request, pk: str) -> Response:
        """Say which SKU an unknown code means; every waiting order of the channel is repaired."""
        order = self.permitted(pk, "orders.edit")
        data = MapRequest.read(request)
        sku = entry.find_sku(data["sku"])
        repaired = services.map_external_sku(
            order.channel,
            data["external_sku"],
            sku.pk,
            actor=actor_of(principal_of(request)),
            remember=data["remember"],
        )
        return Response({"repaired": repaired})

    @extend_schema(responses=TimelineSerializer(many=True))
    @action(detail=True, methods=["get"], pagination_class=None, filterset_class=None)
    def timeline(self, request: Request, pk: str) -> Response:
        """Every step of the order in order of time, at most the newest 500."""
        refuse_unknown(request, ())
        order = selectors.get_visible(principal_of(request), int(pk))
        newest = list(order.events.order_by("-id")[:500])
        return Response(TimelineSerializer(newest[::-1], many=True).data)


class PromiseSerializer(SparseFieldsMixin, serializers.ModelSerializer[Promise]):
    id = serializers.IntegerField(source="line_id", read_only=True, help_text="id of the order line")
    order = serializers.IntegerField(source="line.order_id", read_only=True)
    order_number = serializers.CharField(source="line.order.number", read_only=True)
    channel = serializers.CharField(source="line.order.channel.code", read_only=True)
    sku = serializers.CharField(source="line.sku.code", read_only=True)
    short = serializers.IntegerField(source="line.short", read_only=True)
    promise_on = serializers.DateField(
        source="line.promise_on",
        read_only=True,
        allow_null=True,
        help_text="null: nothing on its way covers it",
    )
    purchase_order = serializers.IntegerField(source="purchase_id", read_only=True, allow_null=True)
    was_purchase_order = serializers.IntegerField(source="was_purchase_id", read_only=True, allow_null=True)
    transfer = serializers.IntegerField(source="transfer_id", read_only=True, allow_null=True)
    was_transfer = serializers.IntegerField(source="was_transfer_id", read_only=True, allow_null=True)
    fate = serializers.ChoiceField(
        choices=["given", "moved", "lost"], read_only=True, help_text="of the last change"
    )

    class Meta:
        model = Promise
        fields = ["id", "order", "order_number", "channel", "sku", "short", "promise_on", "was_on", "purchase_order",
                  "was_purchase_order", "transfer", "was_transfer", "fate", "changed_at"]  # fmt: skip
        read_only_fields = fields


class PromiseFilter(django_filters.FilterSet):
    purchase_order = django_filters.NumberFilter(
        method="by_purchase", label="id: it rests on this purchase order, or did before its last change"
    )
    transfer = django_filters.NumberFilter(method="by_transfer", label="the same of a transfer")
    sku = django_filters.CharFilter(field_name="line__sku__code", lookup_expr="iexact", max_length=80)

    class Meta:
        model = Promise
        fields = ["purchase_order", "transfer", "sku"]

    def by_purchase(self, found: QuerySet[Promise], name: str, value: Decimal) -> QuerySet[Promise]:
        return found.filter(Q(purchase=int(value)) | Q(was_purchase=int(value)))

    def by_transfer(self, found: QuerySet[Promise], name: str, value: Decimal) -> QuerySet[Promise]:
        return found.filter(Q(transfer=int(value)) | Q(was_transfer=int(value)))


class PromiseViewSet(Resource[Promise]):
    """When lines that wait for goods get them, and what it was before the last change; one per waiting line."""

    queryset = Promise.objects.none()
    serializer_class = PromiseSerializer
    filterset_class = PromiseFilter
    keyset_order = ("line_id",)
    lookup_value_regex = "[0-9]{1,18}"
    http_method_names = ["get", "head", "options"]
    required_scopes = {"GET": "orders:read"}

    def get_queryset(self) -> QuerySet[Promise]:
        if getattr(self, "swagger_fake_view", False):
            return Promise.objects.none()
        return Promise.objects.filter(
            line__order__in=selectors.visible(principal_of(self.request))
        ).select_related("line__order__channel", "line__sku")


def register(router: BaseRouter) -> None:
    """Name this app's resources under /api/v1/."""
    router.register("orders", OrderViewSet, basename="order")
    router.register("promises", PromiseViewSet, basename="promise")
