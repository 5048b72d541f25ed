"""Over HTTP: which fields of a shop, or columns of its files, mean what. The same services as the screens."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import BaseRouter

from channels import accounts, selectors
from channels.api import Base
from channels.connectors.base import connectors, get_connector
from channels.connectors.custom import mapping as maps
from channels.connectors.files import formats
from channels.models import ChannelAccount
from oms.core.api.fields import SparseFieldsMixin
from oms.core.api.forms import Form
from oms.core.errors import UserError

#: members by the kind of connector: a shop that is asked, or files that are exchanged
_SHOP, _FILES = ("mapping", "statuses"), ("columns", "statuses", "ways", "stock_file", "shipment_file")
#: where a member of files stands in the configuration
_OUT = {"stock_file": "stock", "shipment_file": "shipments"}


class FileSpec(Form):
    """A file that we write. A value is a text with placeholders, such as `{sku}`."""

    name = serializers.CharField(max_length=80, help_text="of the file, such as stock.csv")
    delimiter = serializers.ChoiceField(choices=[key for key, _ in formats.DELIMITERS])
    columns = serializers.ListField(
        child=serializers.ListField(
            child=serializers.CharField(max_length=200, allow_blank=True), min_length=2, max_length=2
        ),
        min_length=1, max_length=formats.MAX_COLUMNS, help_text="[header, value] in order",
    )  # fmt: skip


def _texts(longest: int, **extra: Any) -> serializers.DictField:
    child = serializers.CharField(max_length=longest, allow_blank=True)
    return serializers.DictField(child=child, required=False, **extra)


_FIELDS = "a shop: field → path in its answer, address or body with placeholders (docs/channels.md)"
_STATUSES = "the shop's word for a state → what it means"
_COLUMNS = "files: field → header of the column"
_WAYS = "files: dates, time_zone, fixed_currency, money, tax_included, price_is"


class MappingRequest(Form):
    """A member that is given replaces what is stored of it; what is left out stays."""

    mapping = _texts(4000, help_text=_FIELDS)
    statuses = serializers.DictField(
        child=serializers.ChoiceField(choices=maps.MEANINGS), required=False, help_text=_STATUSES
    )
    columns = _texts(120, help_text=_COLUMNS)
    ways = _texts(80, help_text=_WAYS)
    stock_file = FileSpec(required=False)
    shipment_file = FileSpec(required=False)


class MappingSerializer(SparseFieldsMixin, serializers.ModelSerializer[ChannelAccount]):
    """Members of the other kind of channel are null."""

    channel = serializers.CharField(source="sales_channel.code", read_only=True)
    mapping = serializers.SerializerMethodField(help_text=_FIELDS)
    statuses = serializers.SerializerMethodField(help_text=_STATUSES)
    columns = serializers.SerializerMethodField(help_text=_COLUMNS)
    ways = serializers.SerializerMethodField(help_text=_WAYS)
    stock_file = serializers.SerializerMethodField()
    shipment_file = serializers.SerializerMethodField()
    missing = serializers.SerializerMethodField(help_text="what is needed before orders can be read")

    class Meta:
        model = ChannelAccount
        fields = ["channel", "connector", "mapping", "statuses", "columns", "ways", "stock_file", "shipment_file",
                  "missing"]  # fmt: skip
        read_only_fields = fields

    def get_mapping(self, account: ChannelAccount) -> dict[str, str] | None:
        return None if _is_files(account) else _stored(account)["mapping"]

    def get_statuses(self, account: ChannelAccount) -> dict[str, str]:
        return dict(_stored(account)["statuses"])

    def get_columns(self, account: ChannelAccount) -> dict[str, str] | None:
        return _stored(account).get("columns")

    def get_ways(self, account: ChannelAccount) -> dict[str, str] | None:
        return _stored(account).get("ways")

    @extend_schema_field(FileSpec(allow_null=True))
    def get_stock_file(self, account: ChannelAccount) -> dict[str, Any] | None:
        return account.config["stock"] if _is_files(account) else None

    @extend_schema_field(FileSpec(allow_null=True))
    def get_shipment_file(self, account: ChannelAccount) -> dict[str, Any] | None:
        return account.config["shipments"] if _is_files(account) else None

    def get_missing(self, account: ChannelAccount) -> list[str]:
        if _is_files(account):
            return formats.gaps(account.config.get("orders") or {})
        return maps.missing(account.config.get("mapping") or {})


def _is_files(account: ChannelAccount) -> bool:
    return get_connector(account.connector).capabilities.files


def _stored(account: ChannelAccount) -> dict[str, Any]:
    """What is set, by the members of a request; files that we write apart."""
    if not _is_files(account):
        whole = dict(account.config.get("mapping") or {})
        return {"statuses": whole.pop("statuses", {}), "mapping": whole}
    whole = dict(account.config.get("orders") or {})
    return {"columns": whole.pop("columns", {}), "statuses": whole.pop("statuses", {}), "ways": whole}


def _config(account: ChannelAccount, given: dict[str, Any]) -> dict[str, Any]:
    """The configuration as the connector keeps it (pure). Raises `UserError` for a member of the other kind."""
    members = _FILES if _is_files(account) else _SHOP
    for name in given:
        if name not in members:
            raise UserError(
                f"{name}: {account.sales_channel} has no such part; use {', '.join(members)}.", field=name
            )
    whole = {**_stored(account), **given}
    if not _is_files(account):
        return {"mapping": {**whole["mapping"], "statuses": whole["statuses"]}}
    unknown = sorted(set(whole["ways"]) - {"dates", *formats.WAYS})
    if unknown:
        raise UserError(
            f"ways.{unknown[0]}: there is no such way; use dates, {', '.join(formats.WAYS)}.",
            field=f"ways.{unknown[0]}",
        )
    orders = {**whole["ways"], "columns": whole["columns"], "statuses": whole["statuses"]}
    return {"orders": orders, **{_OUT[name]: given[name] for name in _OUT if name in given}}


class MappingViewSet(Base):
    """Channels whose fields a person maps (`custom`) or whose files have columns of their own (`files`)."""

    queryset = ChannelAccount.objects.none()
    serializer_class = MappingSerializer
    lookup_field = "sales_channel__code"
    lookup_url_kwarg = "code"
    lookup_value_regex = "[-a-zA-Z0-9_]+"
    keyset_order = ("id",)
    http_method_names = ["get", "patch", "head", "options"]
    required_scopes = {"GET": "channels:read", "PATCH": "channels:write"}

    def get_queryset(self) -> QuerySet[ChannelAccount]:
        if self.drawing_schema():
            return ChannelAccount.objects.none()
        kinds = [one.key for one in connectors() if one.capabilities.mapped or one.capabilities.files]
        return selectors.visible(self.principal()).filter(connector__in=kinds)

    @extend_schema(request=MappingRequest, responses=MappingSerializer)
    def partial_update(self, request: Request, code: str = "") -> Response:
        """Set what the fields or columns mean, from the next order and the next figure on; `test` afterwards."""
        account: ChannelAccount = self.get_object()
        self.may(code)
        config = _config(account, MappingRequest.read(request))
        try:
            accounts.set_config(account.pk, config, actor=self.actor())
        except UserError as error:
            if error.field in maps.BY_NAME and not _is_files(account):
                error.field = f"mapping.{error.field}"
            raise
        # as the database gives it back, or the tag would not be that of the next GET
        return Response(self.get_serializer(self.get_object()).data)


def register(router: BaseRouter) -> None:
    router.register("channel-mappings", MappingViewSet, basename="channel-mapping")
