"""Connecting a channel over HTTP: account, credentials, places, notifications. The same services as the screens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from channels import accounts, selectors
from channels.connectors.base import ChannelError
from channels.models import ChannelAccount, LocationMap
from channels.tasks import hook_address
from inventory.models import Warehouse
from oms.core.access import require, scope_of
from oms.core.api.filters import refuse_unknown
from oms.core.api.forms import Form
from oms.core.errors import Conflict, UserError
from oms.orders.models import ChannelWarehouse
from oms.orders.serving import MOST_RANK, Serves, set_serving


def _values(longest: int = 600, **extra: Any) -> serializers.DictField:
    return serializers.DictField(
        child=serializers.CharField(max_length=longest, allow_blank=True), required=False, **extra
    )


class ConnectRequest(Form):
    connector = serializers.CharField(
        max_length=40, help_text="such as shopify; an unknown one is told the known"
    )
    name = serializers.CharField(max_length=80, help_text="as your people call it: Shopify US")
    code = serializers.RegexField(r"^[-a-zA-Z0-9_]{1,40}\Z", help_text="stands in addresses: shopify-us")
    order_prefix = serializers.RegexField(r"^[A-Z0-9]{1,4}\Z", default="SO", help_text="SH gives SH-10041")
    currency = serializers.RegexField(r"^[A-Z]{3}\Z", default="USD")
    warehouses = serializers.ListField(
        child=serializers.CharField(max_length=20), required=False, max_length=50,
        help_text="codes in order of preference: published to the channel and serving it",
    )  # fmt: skip
    config = _values(help_text="addresses and names, by the connector's fields (docs/channels.md)")
    credentials = _values(help_text="written, never shown")


class AccountChange(Form):
    config = _values(help_text="what is left out stays")
    credentials = _values(help_text="written, never shown; what is left out or empty stays")


class TestAnswer(serializers.Serializer[Any]):
    ok = serializers.BooleanField()
    message = serializers.CharField(help_text="who answered, or what to mend")


class ImportedAnswer(serializers.Serializer[Any]):
    created = serializers.IntegerField()
    updated = serializers.IntegerField()
    mapped = serializers.IntegerField()
    unmapped = serializers.IntegerField()
    ended = serializers.IntegerField(help_text="offers that are gone")


class SubscribedAnswer(serializers.Serializer[Any]):
    topics = serializers.ListField(
        child=serializers.CharField(), help_text="set up now; none when all were there"
    )


class LocationRequest(Form):
    location = serializers.CharField(max_length=120, help_text="the channel's id of the place")
    warehouse = serializers.CharField(max_length=20)
    name = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")


class LocationSerializer(serializers.ModelSerializer[LocationMap]):
    location = serializers.CharField(source="external_id", read_only=True)
    warehouse = serializers.CharField(source="warehouse.code", read_only=True)

    class Meta:
        model = LocationMap
        fields = ["location", "warehouse", "name"]
        read_only_fields = fields


class ServingRequest(Form):
    warehouse = serializers.CharField(max_length=20)
    publishes = serializers.BooleanField(help_text="the channel is told of its stock")
    fulfils = serializers.BooleanField(help_text="the channel's orders may ship from it")
    rank = serializers.IntegerField(
        min_value=0, max_value=MOST_RANK, default=1, help_text="the lowest is promised from first"
    )


class ServingSerializer(serializers.ModelSerializer[ChannelWarehouse]):
    warehouse = serializers.CharField(source="warehouse.code", read_only=True)

    class Meta:
        model = ChannelWarehouse
        fields = ["warehouse", "publishes", "fulfils", "rank"]
        read_only_fields = fields


def _known(connector: str, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as it came. Raises `UserError` naming a field that the connector does not have."""
    port = accounts.connector_of(connector)
    known = [spec.name for spec in port.config_fields]
    for name in config:
        if name not in known:
            raise UserError(
                f"config.{name}: {port.name} has no such field; use {', '.join(known)}.",
                field=f"config.{name}",
            )
    return config


class Connecting:
    """The steps from nothing to a channel that works, for the view set of channels.

    They talk to the channel, so they run outside of a transaction; each is harmless when repeated.
    """

    idempotent_atomic = False

    @extend_schema(request=ConnectRequest)
    def create(self: Any, request: Request) -> Response:
        """Make a channel with its account. It does nothing until `test` proves the connection."""
        data = ConnectRequest.read(request)
        self.may(data["code"])
        places = []
        for code in data.get("warehouses", []):
            place = Warehouse.objects.filter(code=code, is_active=True).first()
            if place is None:
                raise UserError(f"warehouses: there is no active warehouse '{code}'.", field="warehouses")
            require(self.principal(), "channels.manage", place.code)
            places.append(place.pk)
        account = accounts.connect(
            connector=data["connector"], name=data["name"], code=data["code"], prefix=data["order_prefix"],
            currency=data["currency"], config=_known(data["connector"], data.get("config", {})),
            credentials=data.get("credentials", {}),
            warehouse_ids=list(dict.fromkeys(places)), actor=self.actor(),
        )  # fmt: skip
        return Response(self.get_serializer(account).data, 201)

    @extend_schema(request=AccountChange)
    @action(detail=True, methods=["post"], url_path="settings")
    def change_settings(self: Any, request: Request, code: str = "") -> Response:
        """Change the configuration or the credentials; `test` afterwards."""
        account, data = self._account(code), AccountChange.read(request)
        if "config" in data:
            config = _known(account.connector, data["config"])
            account = accounts.set_config(account.pk, config, actor=self.actor())
        if any(value.strip() for value in data.get("credentials", {}).values()):
            account = accounts.set_credentials(account.pk, data["credentials"], actor=self.actor())
        return Response(self.get_serializer(account).data)

    @extend_schema(request=None, responses=TestAnswer)
    @action(detail=True, methods=["post"])
    def test(self: Any, request: Request, code: str = "") -> Response:
        """Ask the channel who we are. Success connects the account."""
        tested = accounts.test(_ready(self._account(code)).pk, actor=self.actor())
        return Response({"ok": tested.ok, "message": tested.message})

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def disable(self: Any, request: Request, code: str = "") -> Response:
        """Stop everything with this account: nothing is told, read or taken. `test` connects it again."""
        return Response(
            self.get_serializer(accounts.disable(self._account(code).pk, actor=self.actor())).data
        )

    @extend_schema(request=None, responses=ImportedAnswer)
    @action(detail=True, methods=["post"], url_path="import-listings")
    def import_listings(self: Any, request: Request, code: str = "") -> Response:
        """Read every offer of the account and map it by SKU code or alias."""
        account = _ready(self._account(code))
        with _told(account):
            found = accounts.import_listings(account.pk, actor=self.actor())
        return Response(ImportedAnswer(found).data)

    @extend_schema(request=None, responses=SubscribedAnswer)
    @action(detail=True, methods=["post"])
    def subscribe(self: Any, request: Request, code: str = "") -> Response:
        """Ask the channel to notify us, and read the orders so far in a task."""
        account = _ready(self._account(code))
        with _told(account):
            made = accounts.go_live(account.pk, hook_address(account), actor=self.actor())
        return Response({"topics": made})

    @extend_schema(request=LocationRequest, responses=LocationSerializer)
    @action(detail=True, methods=["post"])
    def locations(self: Any, request: Request, code: str = "") -> Response:
        """The channel's place is this warehouse; its listings are told within the sync target."""
        account, data = self._account(code), LocationRequest.read(request)
        place = Warehouse.objects.filter(code=data["warehouse"]).first()
        if place is None:
            raise UserError(f"warehouse: there is no warehouse '{data['warehouse']}'.", field="warehouse")
        require(self.principal(), "channels.manage", place.code)
        made = accounts.map_location(
            account.pk, data["location"], place.pk, actor=self.actor(), name=data["name"]
        )
        return Response(LocationSerializer(made).data)

    @extend_schema(responses=ServingSerializer(many=True))
    @action(detail=True, methods=["get"], pagination_class=None)
    def warehouses(self: Any, request: Request, code: str = "") -> Response:
        """Which warehouses the channel publishes and is served from, first priority first."""
        refuse_unknown(request, ())
        account = selectors.the_account(self.principal(), code)
        return _served_by(account, self.principal())

    @extend_schema(request=ServingRequest, responses=ServingSerializer(many=True))
    @warehouses.mapping.post
    def set_warehouse(self: Any, request: Request, code: str = "") -> Response:
        """Say what one warehouse does for the channel; neither takes it away. The channel is told within the sync
        target, and orders that are not routed yet follow."""
        account, data = self._account(code), ServingRequest.read(request)
        place = Warehouse.objects.filter(code=data["warehouse"]).first()
        if place is None:
            raise UserError(f"warehouse: there is no warehouse '{data['warehouse']}'.", field="warehouse")
        require(self.principal(), "channels.manage", place.code)
        wanted = {place.pk: Serves(data["publishes"], data["fulfils"], data["rank"])}
        set_serving(account.sales_channel_id, wanted, actor=self.actor())
        return _served_by(account, self.principal())


def _served_by(account: ChannelAccount, principal: Any) -> Response:
    mine = scope_of(principal, "channels.view").q(warehouse="warehouse__code")
    rows = ChannelWarehouse.objects.filter(mine, channel=account.sales_channel_id).select_related("warehouse")
    return Response(ServingSerializer(rows, many=True).data)


def _ready(account: ChannelAccount) -> ChannelAccount:
    """Raises `UserError` naming what is missing before anything is asked of the channel."""
    accounts.connector_of(account.connector).check_config(account.config)
    return account


@contextmanager
def _told(account: ChannelAccount) -> Iterator[None]:
    """What the channel refused is a conflict: the request was sound, the other side is not."""
    try:
        yield
    except ChannelError as error:
        raise Conflict(f"{account.sales_channel.name}: {error.message}") from error
