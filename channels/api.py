"""Channels, listings and incoming notifications over HTTP. Writes go through the same services as the screens."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import BaseRouter

from channels import accounts, drift, filedrop, inbox, mcf, selectors, sync, tuning
from channels.connect_api import Connecting
from channels.models import ChannelAccount, ChannelFile, Drift, InboxMessage, Listing
from inventory.selectors import resolve_codes
from oms.core.access import principal_of, require, scope_of
from oms.core.actor import Actor, actor_of
from oms.core.api.fields import SparseFieldsMixin
from oms.core.api.filters import refuse_unknown
from oms.core.api.forms import Form
from oms.core.api.resources import Resource
from oms.core.doorbell import ring
from oms.core.errors import NotFound, UserError


class Base(Resource[Any]):
    """Who asks, and where that one may look."""

    def principal(self) -> Any:
        return principal_of(self.request)

    def actor(self) -> Actor:
        return actor_of(self.principal())

    def may(self, code: str) -> None:
        require(self.principal(), "channels.manage", channel_code=code)

    def drawing_schema(self) -> bool:
        return bool(getattr(self, "swagger_fake_view", False))


class LatencySerializer(serializers.Serializer[Any]):
    """Commit to acknowledgement, milliseconds."""

    count = serializers.IntegerField()
    p50 = serializers.IntegerField(allow_null=True)
    p95 = serializers.IntegerField(allow_null=True)
    p99 = serializers.IntegerField(allow_null=True)
    longest = serializers.IntegerField(allow_null=True)
    within = serializers.FloatField(allow_null=True, help_text="share under 5 s")
    open = serializers.IntegerField(help_text="changes not yet acknowledged")


class ChannelSerializer(SparseFieldsMixin, serializers.ModelSerializer[ChannelAccount]):
    code = serializers.CharField(source="sales_channel.code", read_only=True)
    name = serializers.CharField(source="sales_channel.name", read_only=True)
    kind = serializers.CharField(source="sales_channel.kind", read_only=True)

    class Meta:
        model = ChannelAccount
        fields = [
            "code", "name", "kind", "connector", "state", "state_reason", "pushes_paused_at", "pause_reason",
            "last_pull_at", "last_event_at", "last_order_at", "last_push_at",
        ]  # fmt: skip
        read_only_fields = fields


class HealthSerializer(serializers.Serializer[Any]):
    """The figures of the last hour."""

    code = serializers.CharField()
    latency = LatencySerializer()
    queue = serializers.IntegerField()
    failed = serializers.IntegerField()
    drift = serializers.IntegerField()
    unmapped = serializers.IntegerField()
    inbox_waiting = serializers.IntegerField()
    inbox_dead = serializers.IntegerField()
    effects_open = serializers.IntegerField()
    effects_trouble = serializers.IntegerField()
    unfinished = serializers.ListField(
        child=serializers.CharField(), help_text="pulls that were too long for one turn and go on"
    )


class BringRequest(Form):
    """A file as text, header first: orders by the channel's columns, returns, or listings."""

    name = serializers.RegexField(
        r"^[^/\\\x00-\x1f]{1,150}\.(csv|tsv|txt)\Z", help_text="of the file, such as orders-1126.csv"
    )
    content = serializers.CharField(max_length=4_000_000, trim_whitespace=False)


class FileSerializer(serializers.ModelSerializer[ChannelFile]):
    """What became of a file; `problems` are [row, column, sentence] of the first 200 refused rows."""

    problems: Any = serializers.ListField(child=serializers.ListField(), read_only=True)

    class Meta:
        model = ChannelFile
        fields = ["id", "name", "kind", "sha256", "rows", "taken", "refused", "problems", "created_at"]
        read_only_fields = fields


class PauseRequest(Form):
    reason = serializers.CharField(max_length=255)


class HealingRequest(Form):
    """Causes of differences that are mended without asking; the others wait for a person."""

    auto_heal = serializers.ListField(
        child=serializers.ChoiceField(
            choices=[cause for cause, heal in drift.HEALS.items() if heal is not drift.Heal.NOTHING]
        ),
        allow_empty=True,
    )


class OutboundRequest(Form):
    """Orders of other channels from the channel's own warehouse (Amazon: Multi-Channel Fulfillment)."""

    on = serializers.BooleanField(help_text="false needs a reason; what is on its way is followed to its end")
    reason = serializers.CharField(max_length=255, required=False, allow_blank=True, default="")
    comment = serializers.CharField(
        max_length=750, required=False, allow_blank=True, help_text="on packing slips"
    )
    neutral = serializers.ListField(
        child=serializers.CharField(max_length=40), required=False,
        help_text="codes of channels whose parcels come in plain boxes and without Amazon's own drivers",
    )  # fmt: skip


class OutboundAnswer(serializers.Serializer[Any]):
    on = serializers.BooleanField()
    account = serializers.CharField(help_text="its code among the 3PLs, where hand-offs are listed")
    comment = serializers.CharField()
    neutral = serializers.ListField(child=serializers.CharField())


class DriftSerializer(SparseFieldsMixin, serializers.ModelSerializer[Drift]):
    channel = serializers.CharField(source="listing.account.sales_channel.code", read_only=True)
    listing = serializers.IntegerField(source="listing_id", read_only=True)
    external_sku = serializers.CharField(source="listing.external_sku", read_only=True)

    class Meta:
        model = Drift
        fields = [
            "id", "channel", "listing", "external_sku", "ours", "theirs", "cause", "evidence", "found_at", "closed_at",
            "closed_by", "accepted_until",
        ]  # fmt: skip
        read_only_fields = fields


class ResyncAnswer(serializers.Serializer[Any]):
    listings = serializers.IntegerField()


class ChannelViewSet(Connecting, Base):
    """Connected stores and seller accounts. Credentials never leave."""

    queryset = ChannelAccount.objects.none()
    serializer_class = ChannelSerializer
    lookup_field = "sales_channel__code"
    lookup_url_kwarg = "code"
    lookup_value_regex = "[-a-zA-Z0-9_]+"
    keyset_order = ("id",)
    required_scopes = {
        "GET": "channels:read", "pause": "channels:write", "resume": "channels:write", "resync": "channels:write",
        "pull": "channels:write", "bring": "channels:write", "healing": "channels:write",
        "ships_for_others": "channels:write",
        "create": "channels:write",
        "change_settings": "channels:write", "test": "channels:write", "disable": "channels:write",
        "import_listings": "channels:write", "subscribe": "channels:write", "locations": "channels:write",
        "set_warehouse": "channels:write",
    }  # fmt: skip

    def get_queryset(self) -> QuerySet[ChannelAccount]:
        if self.drawing_schema():
            return ChannelAccount.objects.none()
        return selectors.visible(self.principal())

    def _account(self, code: str) -> ChannelAccount:
        account = selectors.the_account(self.principal(), code)
        self.may(code)
        return account

    @extend_schema(responses=HealthSerializer)
    @action(detail=True, methods=["get"])
    def health(self, request: Request, code: str = "") -> Response:
        """Latency, queue, failures and drift of one channel."""
        refuse_unknown(request, ())
        account = selectors.the_account(self.principal(), code)
        return Response(
            HealthSerializer(selectors.health(ChannelAccount.objects.filter(pk=account.pk))[0]).data
        )

    @extend_schema(request=PauseRequest, responses=ChannelSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, code: str = "") -> Response:
        """Stop telling quantities; listings keep the figure they were last told."""
        account = self._account(code)
        data = PauseRequest.read(request)
        account = sync.pause(account.pk, data["reason"], actor=self.actor())
        return Response(ChannelSerializer(account).data)

    @extend_schema(request=None, responses=ChannelSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, code: str = "") -> Response:
        """Tell quantities again."""
        return Response(ChannelSerializer(sync.resume(self._account(code).pk, actor=self.actor())).data)

    @extend_schema(request=None, responses=ResyncAnswer)
    @action(detail=True, methods=["post"])
    def resync(self, request: Request, code: str = "") -> Response:
        """Tell every mapped listing again."""
        return Response({"listings": sync.resync(self._account(code).pk, actor=self.actor())})

    @extend_schema(request=HealingRequest, responses=HealingRequest)
    @action(detail=True, methods=["post"])
    def healing(self, request: Request, code: str = "") -> Response:
        """Say which differences are mended without asking."""
        account = self._account(code)
        data = HealingRequest.read(request)
        account = accounts.set_healing(account.pk, data["auto_heal"], actor=self.actor())
        return Response({"auto_heal": account.config["auto_heal"]})

    @extend_schema(request=OutboundRequest, responses=OutboundAnswer)
    @action(detail=True, methods=["post"], url_path="ships-for-others")
    def ships_for_others(self, request: Request, code: str = "") -> Response:
        """Switch it on or off, and set its options."""
        account = self._account(code)
        data = OutboundRequest.read(request)
        given, actor = data, self.actor()
        if given["on"]:
            tested = mcf.switch_on(account.pk, actor=actor)
            if not tested.ok:
                raise UserError(tested.message)
        else:
            mcf.switch_off(account.pk, given["reason"], actor=actor)
        partner = mcf.partner_of(account)
        if partner is not None and ("comment" in given or "neutral" in given):
            partner = mcf.set_options(
                account.pk, comment=given.get("comment", partner.options.get("comment", "")),
                neutral=given.get("neutral", partner.options.get("neutral", ())), actor=actor,
            )  # fmt: skip
        assert partner is not None  # switching found or made it
        told = {
            "on": given["on"], "account": partner.code, "comment": partner.options.get("comment", ""),
            "neutral": partner.options.get("neutral", []),
        }  # fmt: skip
        return Response(OutboundAnswer(told).data)

    @extend_schema(responses=DriftSerializer(many=True))
    @action(detail=True, methods=["get"], pagination_class=None)
    def drift(self, request: Request, code: str = "") -> Response:
        """Open differences between what we told and what the channel shows, oldest first, at most 200."""
        refuse_unknown(request, ())
        account = selectors.the_account(self.principal(), code)
        return Response(DriftSerializer(selectors.open_drifts(account, limit=200), many=True).data)

    @extend_schema(request=None, responses={202: ChannelSerializer})
    @action(detail=True, methods=["post"])
    def pull(self, request: Request, code: str = "") -> Response:
        """Read changed orders now, in a task."""
        account = self._account(code)
        ring("channels.tasks.pull_account", str(account.pk))
        return Response(ChannelSerializer(account).data, status=202)

    @extend_schema(request=BringRequest, responses={201: FileSerializer})
    @action(detail=True, methods=["post"], url_path="files")
    def bring(self, request: Request, code: str = "") -> Response:
        """Bring a file to a channel that exchanges files: good orders go in, wrong rows are named, once per file."""
        account = self._account(code)
        filedrop.folder_of(account)
        data = BringRequest(data=request.data)
        data.is_valid(raise_exception=True)
        file = filedrop.take(
            account.pk,
            data.validated_data["name"],
            data.validated_data["content"].encode(),
            actor=self.actor(),
        )
        return Response(FileSerializer(file).data, status=201)


class ListingSerializer(SparseFieldsMixin, serializers.ModelSerializer[Listing]):
    channel = serializers.CharField(source="account.sales_channel.code", read_only=True)
    sku = serializers.CharField(source="sku.code", read_only=True, allow_null=True)

    class Meta:
        model = Listing
        fields = [
            "id", "channel", "external_id", "external_sku", "location_id", "title", "sku", "fulfilment", "state",
            "pack_size", "buffer", "buffer_mode", "buffer_risk", "buffer_why", "percent", "cap", "stop_at",
            "preorder_percent", "version", "acked_version", "stale_since",
            "acked_quantity", "acked_at", "read_quantity", "read_at", "last_error", "dead",
        ]  # fmt: skip
        read_only_fields = fields


class ListingRequest(Form):
    """What may be changed. `sku` empty takes the mapping away; `cap` null means no cap. A `buffer` pins the figure;
    `buffer_mode` tuned lets what is measured set it, within `buffer_risk` (null = 0.001)."""

    sku = serializers.CharField(max_length=80, required=False, allow_blank=True)
    buffer = serializers.IntegerField(min_value=0, max_value=1_000_000, required=False)
    buffer_mode = serializers.ChoiceField(choices=Listing.BufferMode.choices, required=False)
    buffer_risk = serializers.FloatField(
        min_value=tuning.LOWEST_RISK, max_value=tuning.HIGHEST_RISK, required=False, allow_null=True
    )
    percent = serializers.IntegerField(min_value=0, max_value=100, required=False)
    cap = serializers.IntegerField(min_value=0, max_value=1_000_000, required=False, allow_null=True)
    stop_at = serializers.IntegerField(min_value=0, max_value=1_000_000, required=False)
    pack_size = serializers.IntegerField(min_value=1, max_value=100_000, required=False)
    preorder_percent = serializers.IntegerField(
        min_value=1, max_value=100, required=False, allow_null=True,
        help_text="sells this share of what is on order instead of stock; null = sells stock",
    )  # fmt: skip
    state = serializers.ChoiceField(choices=["active", "paused"], required=False)


class ListingFilter(django_filters.FilterSet):
    channel = django_filters.CharFilter(field_name="account__sales_channel__code")
    sku = django_filters.CharFilter(field_name="sku__code", lookup_expr="iexact")
    external_sku = django_filters.CharFilter()
    state = django_filters.ChoiceFilter(choices=Listing.State.choices)
    unmapped = django_filters.BooleanFilter(field_name="sku", lookup_expr="isnull")
    stale = django_filters.BooleanFilter(field_name="stale_since", lookup_expr="isnull", exclude=True)
    dead = django_filters.BooleanFilter()

    class Meta:
        model = Listing
        fields = ["channel", "sku", "external_sku", "state", "unmapped", "stale", "dead"]


class ListingViewSet(Base):
    """Offers on channels: what stands behind them and what was told."""

    queryset = Listing.objects.none()
    serializer_class = ListingSerializer
    filterset_class = ListingFilter
    keyset_order = ("id",)
    lookup_value_regex = "[0-9]{1,18}"
    http_method_names = ["get", "post", "patch", "head", "options"]
    required_scopes = {"GET": "channels:read", "PATCH": "channels:write", "push": "channels:write"}

    def get_queryset(self) -> QuerySet[Listing]:
        if self.drawing_schema():
            return Listing.objects.none()
        return selectors.visible_listings(self.principal())

    def _listing(self, pk: Any) -> Listing:
        listing = self.get_queryset().filter(pk=int(pk)).first()
        if listing is None:
            raise NotFound("listing: no such listing.", field="listing")
        self.may(listing.account.sales_channel.code)
        return listing

    @extend_schema(request=ListingRequest, responses=ListingSerializer)
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Map it, or change what holds its figure back. The channel is told within seconds."""
        listing = self._listing(pk)
        data = ListingRequest.read(request)
        given = dict(data)
        if "sku" in given:
            accounts.map_listing(listing.pk, _sku_id(given.pop("sku")), actor=self.actor())
        if "state" in given:
            accounts.set_listing_state(listing.pk, given.pop("state"), actor=self.actor())
        mode, risk = given.pop("buffer_mode", None), given.pop("buffer_risk", listing.buffer_risk)
        if mode == Listing.BufferMode.TUNED and "buffer" in given:
            raise UserError("buffer: a tuned buffer is set by itself; leave it out.", field="buffer")
        if given:
            clear, stock = (name in given and given[name] is None for name in ("cap", "preorder_percent"))
            accounts.set_rules(listing.pk, actor=self.actor(), clear_cap=clear, clear_preorder=stock, **given)
        if mode is None and "buffer_risk" in data:
            mode = Listing.BufferMode.TUNED if "buffer" not in given else Listing.BufferMode.FIXED
        if mode is not None:
            tuning.set_mode(listing.pk, mode, risk=risk if mode == "tuned" else None, actor=self.actor())
        return Response(ListingSerializer(self._listing(pk)).data)

    @extend_schema(request=None, responses=ListingSerializer)
    @action(detail=True, methods=["post"])
    def push(self, request: Request, pk: Any = None) -> Response:
        """Tell its quantity again, also after it gave up."""
        return Response(ListingSerializer(sync.retry_push(self._listing(pk).pk, actor=self.actor())).data)


def _sku_id(code: str) -> int | None:
    if not code.strip():
        return None
    sku = resolve_codes([code]).get(code)
    if sku is None:
        raise UserError(f"sku: there is no SKU '{code}'.", field="sku")
    return sku.pk


class DriftAcceptRequest(Form):
    hours = serializers.IntegerField(min_value=1, max_value=drift.MOST_HOURS, default=24)
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


class DriftFilter(django_filters.FilterSet):
    channel = django_filters.CharFilter(field_name="listing__account__sales_channel__code")
    listing = django_filters.NumberFilter(field_name="listing_id", label="listing id")
    cause = django_filters.ChoiceFilter(choices=Drift.Cause.choices)
    open = django_filters.BooleanFilter(field_name="closed_at", lookup_expr="isnull")

    class Meta:
        model = Drift
        fields = ["channel", "listing", "cause", "open"]


class DriftViewSet(Base):
    """Differences between what we told and what a channel shows, newest first."""

    queryset = Drift.objects.none()
    serializer_class = DriftSerializer
    filterset_class = DriftFilter
    keyset_order = ("-id",)
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "channels:read", "heal": "channels:write", "accept": "channels:write"}

    def get_queryset(self) -> QuerySet[Drift]:
        if self.drawing_schema():
            return Drift.objects.none()
        scope = scope_of(self.principal(), "channels.view")
        rows = Drift.objects.filter(scope.q(channel="listing__account__sales_channel__code"))
        return rows.select_related("listing__account__sales_channel")

    def _drift(self) -> Drift:
        found: Drift = self.get_object()
        self.may(found.listing.account.sales_channel.code)
        return found

    @extend_schema(request=None, responses=DriftSerializer)
    @action(detail=True, methods=["post"])
    def heal(self, request: Request, pk: Any = None) -> Response:
        """Tell our figure again."""
        drift.heal(self._drift().pk, actor=self.actor())
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=DriftAcceptRequest, responses=DriftSerializer)
    @action(detail=True, methods=["post"])
    def accept(self, request: Request, pk: Any = None) -> Response:
        """Let the channel go on showing its figure: this very difference is not told again for so many hours."""
        found, data = self._drift(), DriftAcceptRequest.read(request)
        drift.accept(found.pk, hours=data["hours"], reason=data["reason"], actor=self.actor())
        return Response(self.get_serializer(self.get_object()).data)


class MessageSerializer(SparseFieldsMixin, serializers.ModelSerializer[InboxMessage]):
    """Without the body, which holds buyers' data."""

    channel = serializers.CharField(source="account.sales_channel.code", read_only=True)

    class Meta:
        model = InboxMessage
        fields = [
            "id", "channel", "delivery_id", "topic", "external_id", "event_at", "received_at", "state",
            "attempts", "done_at", "error",
        ]  # fmt: skip
        read_only_fields = fields


class MessageFilter(django_filters.FilterSet):
    channel = django_filters.CharFilter(field_name="account__sales_channel__code")
    state = django_filters.ChoiceFilter(choices=InboxMessage.State.choices)
    topic = django_filters.CharFilter()
    external_id = django_filters.CharFilter()

    class Meta:
        model = InboxMessage
        fields = ["channel", "state", "topic", "external_id"]


class MessageViewSet(Base):
    """Notifications that channels sent, and what became of them."""

    queryset = InboxMessage.objects.none()
    serializer_class = MessageSerializer
    filterset_class = MessageFilter
    keyset_order = ("-id",)
    lookup_value_regex = "[0-9]{1,18}"
    required_scopes = {"GET": "channels:read", "replay": "channels:write"}

    def get_queryset(self) -> QuerySet[InboxMessage]:
        if self.drawing_schema():
            return InboxMessage.objects.none()
        scope = scope_of(self.principal(), "channels.view")
        rows = InboxMessage.objects.filter(scope.q(channel="account__sales_channel__code"))
        return rows.select_related("account__sales_channel").defer("body")

    @extend_schema(request=None, responses=MessageSerializer)
    @action(detail=True, methods=["post"])
    def replay(self, request: Request, pk: Any = None) -> Response:
        """Work a message off again that gave up."""
        message = self.get_queryset().filter(pk=int(pk)).first()
        if message is None:
            raise NotFound("message: no such message.", field="message")
        self.may(message.account.sales_channel.code)
        inbox.replay(message.pk, actor=self.actor())
        return Response(MessageSerializer(self.get_queryset().get(pk=message.pk)).data)


def register(router: BaseRouter) -> None:
    """Name this app's resources under /api/v1/."""
    router.register("channels", ChannelViewSet, basename="channel")
    router.register("listings", ListingViewSet, basename="listing")
    router.register("drifts", DriftViewSet, basename="drift")
    router.register("channel-messages", MessageViewSet, basename="channel-message")
