"""What fulfillment does to whole orders, over HTTP: sent apart, put together again, another address."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import BaseRouter

from fulfillment import addresses, parts
from fulfillment.api import BIG, ShipmentSerializer, whole
from fulfillment.models import Shipment
from inventory.models import Warehouse
from oms.core.access import principal_of, require
from oms.core.actor import actor_of
from oms.core.api.forms import Form
from oms.core.api.problems import places_of, pointing
from oms.core.errors import UserError
from oms.orders import addresses as order_addresses
from oms.orders.api import OneOrder, OrderDetailSerializer


class SplitLine(Form):
    line = serializers.IntegerField(min_value=1, max_value=BIG, help_text="order line id")
    quantity = serializers.IntegerField(min_value=1, max_value=1_000_000, help_text="sold units sent apart")


class SplitRequest(Form):
    lines = SplitLine(many=True, allow_empty=False, max_length=2000)  # type: ignore[call-arg]
    reason = serializers.CharField(max_length=160, help_text="kept on the order")
    warehouse = serializers.CharField(
        max_length=20, required=False, help_text="left out: from where the units lie"
    )


class SplitAnswer(serializers.Serializer[Any]):
    shipments = ShipmentSerializer(many=True, help_text="the new ones, one per warehouse")


class RejoinRequest(Form):
    shipment = serializers.IntegerField(
        min_value=1, max_value=BIG, help_text="id of a shipment of this order"
    )


class AddressRequest(Form):
    """What is left out stays. Street, city, country and a name or company must stand in the end."""

    name = serializers.CharField(max_length=120, required=False, allow_blank=True)
    company = serializers.CharField(max_length=120, required=False, allow_blank=True)
    email = serializers.EmailField(required=False, allow_blank=True)
    phone = serializers.CharField(max_length=40, required=False, allow_blank=True)
    address1 = serializers.CharField(max_length=160, required=False)
    address2 = serializers.CharField(max_length=160, required=False, allow_blank=True)
    address3 = serializers.CharField(max_length=160, required=False, allow_blank=True)
    city = serializers.CharField(max_length=80, required=False)
    region = serializers.CharField(max_length=40, required=False, allow_blank=True)
    postal_code = serializers.CharField(max_length=20, required=False, allow_blank=True)
    country = serializers.RegexField(r"^[A-Za-z]{2}\Z", required=False, help_text="ISO 3166 alpha-2")
    residential = serializers.BooleanField(required=False)


class OrderPartsViewSet(OneOrder):
    """An order in parts, and where it goes. The same services as the order page."""

    @extend_schema(request=SplitRequest, responses={201: SplitAnswer})
    @action(detail=True, methods=["post"])
    def split(self, request: Request, pk: str) -> Response:
        """Send units that nobody has begun to pick apart from the rest; the order keeps off automatic re-routing."""
        principal, order = principal_of(request), self.permitted(pk, "orders.route")
        data = SplitRequest.read(request)
        place = None
        if "warehouse" in data:
            place = Warehouse.objects.filter(code=data["warehouse"]).first()
            if place is None:
                raise UserError(f"warehouse: there is no warehouse '{data['warehouse']}'.", field="warehouse")
            require(principal, "orders.route", place.code)
        units: dict[int, int] = {}
        for line in data["lines"]:
            units[line["line"]] = units.get(line["line"], 0) + line["quantity"]
        with pointing("lines", places_of(data["lines"])):
            made = parts.split(
                order.pk, units, reason=data["reason"], actor=actor_of(principal),
                warehouse_id=place.pk if place else None,
            )  # fmt: skip
        fresh = whole(Shipment.objects.filter(pk__in=[one.pk for one in made])).order_by("pk")
        shown = SplitAnswer({"shipments": fresh}, context=self.get_serializer_context())
        return Response(shown.data, 201)

    @extend_schema(request=RejoinRequest, responses=ShipmentSerializer)
    @action(detail=True, methods=["post"])
    def rejoin(self, request: Request, pk: str) -> Response:
        """Take a split back: the shipment's units go onto another waiting one of its warehouse, which is answered."""
        principal, order = principal_of(request), self.permitted(pk, "orders.route")
        wanted = RejoinRequest.read(request)["shipment"]
        if not order.shipments.filter(pk=wanted).exists():
            raise UserError(f"shipment: {order.number} has no shipment {wanted}.", field="shipment")
        other = parts.rejoin(wanted, actor=actor_of(principal))
        shown = whole(Shipment.objects.filter(pk=other.pk)).get()
        return Response(ShipmentSerializer(shown, context=self.get_serializer_context()).data)

    @extend_schema(request=AddressRequest, responses=OrderDetailSerializer)
    @action(detail=True, methods=["patch"])
    def address(self, request: Request, pk: str) -> Response:
        """Correct where the order goes; quotes for the old address are dropped and routing looks again.

        Refused once a label carries the old address or a 3PL has the order. Needs `pii:read` beside the write scope.
        """
        principal, order = principal_of(request), self.permitted(pk, "orders.edit")
        require(principal, "pii.view", channel_code=order.channel.code)
        wanted = replace(order_addresses.current(order), **AddressRequest.read(request))
        addresses.change(order.pk, wanted, actor=actor_of(principal))
        return self.answer(order.pk)

    @extend_schema(request=None, responses=OrderDetailSerializer)
    @action(detail=True, methods=["post"], url_path="address-back")
    def address_back(self, request: Request, pk: str) -> Response:
        """Return to the address that the channel told."""
        order = self.permitted(pk, "orders.edit")
        addresses.take_back(order.pk, actor=actor_of(principal_of(request)))
        return self.answer(order.pk)


def register(router: BaseRouter) -> None:
    """These steps stand under the orders' own address."""
    router.register("orders", OrderPartsViewSet, basename="order-part")
