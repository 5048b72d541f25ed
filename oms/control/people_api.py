"""Users and API tokens over HTTP. Nobody gives away more than they hold, and a secret is shown once."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import django_filters
from django.db.models import Exists, OuterRef, Prefetch
from django_otp.plugins.otp_totp.models import TOTPDevice
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import BaseRouter

from inventory.models import Warehouse
from oms.control import people
from oms.core import tokens
from oms.core.access import Scope, can, principal_of, scope_of
from oms.core.actor import Actor, actor_of
from oms.core.api.fields import SparseFieldsMixin
from oms.core.api.forms import Form
from oms.core.api.resources import Resource
from oms.core.audit import record
from oms.core.errors import NotAllowed
from oms.core.models import ApiToken, Membership, User
from oms.core.roles import ROLES, SCOPES, permissions_of
from oms.orders.models import SalesChannel


class Everywhere:
    """People and tokens belong to no place: whose rights are limited to some may not manage them."""

    request: Any

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        if scope_of(principal_of(request), "users.manage") != Scope():
            raise NotAllowed("Your rights are limited to some places; people and tokens belong to none.")

    def actor(self) -> Actor:
        return actor_of(principal_of(self.request))


def _codes(**extra: Any) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.CharField(max_length=40), required=False, default=list, max_length=200, **extra
    )


def _places(data: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The named warehouses and channels, all of which must exist."""
    found = Warehouse.objects.filter(code__in=data["warehouses"]).values_list("code", flat=True)
    warehouses = people.known_codes(data["warehouses"], set(found), "warehouses")
    shops = SalesChannel.objects.filter(code__in=data["channels"]).values_list("code", flat=True)
    return warehouses, people.known_codes(data["channels"], set(shops), "channels")


# --- users ----------------------------------------------------------------------------------------


class RoleSerializer(serializers.Serializer[Any]):
    role = serializers.CharField(source="name")
    warehouses = serializers.ListField(child=serializers.CharField(), help_text="none = all")
    channels = serializers.ListField(child=serializers.CharField(), help_text="none = all")


class UserSerializer(SparseFieldsMixin, serializers.ModelSerializer[User]):
    email = serializers.CharField(read_only=True, help_text="empty when none is known")
    roles = serializers.SerializerMethodField()
    two_factor = serializers.BooleanField(read_only=True)

    class Meta:
        model = User
        fields = ["id", "username", "email", "is_active", "last_login", "date_joined", "roles", "two_factor"]
        read_only_fields = fields

    @extend_schema_field(RoleSerializer(many=True))
    def get_roles(self, user: User) -> Any:
        roles = [people.role_of(membership) for membership in user.memberships.all()]
        return RoleSerializer([dataclasses.asdict(role) for role in roles], many=True).data


class RoleRequest(Form):
    role = serializers.ChoiceField(choices=[(name, label) for name, (label, _) in ROLES.items()])
    warehouses = _codes(help_text="where it holds; none = everywhere")
    channels = _codes(help_text="where it holds; none = everywhere")


class NewUser(RoleRequest):
    username = serializers.RegexField(r"^[\w.@+-]{1,150}\Z", help_text="letters, digits and @ . + - _")
    password = serializers.CharField(
        max_length=128, trim_whitespace=False, help_text="to be handed over in person and changed"
    )
    email = serializers.EmailField(required=False, allow_blank=True, default="")


class UserFilter(django_filters.FilterSet):
    is_active = django_filters.BooleanFilter()
    username = django_filters.CharFilter(lookup_expr="iexact", max_length=150)

    class Meta:
        model = User
        fields = ["is_active", "username"]


class UserViewSet(Everywhere, Resource[User]):
    """People who log in. Passwords and second factors are reset by an owner on the screen, not here."""

    queryset = User.objects.prefetch_related(
        Prefetch("memberships", Membership.objects.prefetch_related("scopes").order_by("pk"))
    ).annotate(two_factor=Exists(TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True)))
    serializer_class = UserSerializer
    filterset_class = UserFilter
    keyset_order = ("id",)
    lookup_value_regex = "[0-9]{1,18}"
    http_method_names = ["get", "post", "head", "options"]
    required_scopes = {"GET": "users:read", "POST": "users:write"}

    def _done(self, pk: int, status: int = 200) -> Response:
        return Response(self.get_serializer(self.get_queryset().get(pk=pk)).data, status)

    def _role(self, data: dict[str, Any]) -> people.Role:
        """The role that the body names; the caller must hold all of it."""
        self._holds(data["role"])
        return people.Role(data["role"], *_places(data))

    def _holds(self, role: str) -> None:
        principal = principal_of(self.request)
        if not all(can(principal, right) for right in permissions_of(role)):
            raise NotAllowed(f"role: '{role}' may do more than you or your token.", field="role")

    def _weaker(self) -> User:
        """The user of the address, whose roles must not go beyond the caller's."""
        user: User = self.get_object()
        for membership in user.memberships.all():
            self._holds(membership.role)
        if user.is_superuser and not getattr(self.request.user, "is_superuser", False):
            raise NotAllowed("This user may do more than you.")
        return user

    @extend_schema(request=NewUser, responses={201: UserSerializer})
    def create(self, request: Request) -> Response:
        """A new user with one role, which must not go beyond your own rights."""
        data = NewUser.read(request)
        made = people.create(
            data["username"], data["password"], self._role(data), email=data["email"], actor=self.actor()
        )
        return self._done(made.pk, 201)

    @extend_schema(request=RoleRequest, responses=UserSerializer)
    @action(detail=True, methods=["post"])
    def role(self, request: Request, pk: str) -> Response:
        """Give the user exactly this role; it holds from the next request."""
        user = self._weaker()
        people.set_role(user, self._role(RoleRequest.read(request)), actor=self.actor())
        return self._done(user.pk)

    @extend_schema(request=None, responses=UserSerializer)
    @action(detail=True, methods=["post"])
    def disable(self, request: Request, pk: str) -> Response:
        """May not log in any more: sessions end and tokens are revoked at once."""
        user = self._weaker()
        if user.pk == request.user.pk:
            raise NotAllowed("You cannot switch yourself off: ask another owner.")
        people.set_active(user, False, actor=self.actor())
        return self._done(user.pk)

    @extend_schema(request=None, responses=UserSerializer)
    @action(detail=True, methods=["post"])
    def enable(self, request: Request, pk: str) -> Response:
        """May log in again; tokens stay revoked."""
        user = self._weaker()
        people.set_active(user, True, actor=self.actor())
        return self._done(user.pk)

    @extend_schema(request=None, responses=UserSerializer)
    @action(detail=True, methods=["post"], url_path="end-sessions")
    def end_sessions(self, request: Request, pk: str) -> Response:
        """Log the user out everywhere."""
        user = self._weaker()
        record(self.actor(), "user.sessions_ended", user, after={"count": people.end_sessions(user)})
        return self._done(user.pk)


# --- tokens ---------------------------------------------------------------------------------------


class TokenSerializer(SparseFieldsMixin, serializers.ModelSerializer[ApiToken]):
    owner = serializers.CharField(source="user.username", read_only=True)
    scopes, warehouses, channels, networks = (
        serializers.ListField(child=serializers.CharField(), read_only=True) for _ in range(4)
    )

    class Meta:
        model = ApiToken
        fields = ["id", "name", "owner", "prefix", "scopes", "warehouses", "channels", "networks", "created_at",
                  "expires_at", "last_used_at", "revoked_at"]  # fmt: skip
        read_only_fields = fields


class NewTokenSerializer(TokenSerializer):
    """The only answer that holds the token itself."""

    token = serializers.CharField(
        read_only=True, allow_null=True, help_text="oms_…; shown this once, null when the answer is repeated"
    )

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "token"]
        read_only_fields = fields


class TokenRequest(Form):
    name = serializers.CharField(max_length=80, help_text="what it is for")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=sorted(SCOPES)), min_length=1, max_length=len(SCOPES)
    )
    warehouses = _codes(help_text="none = all")
    channels = _codes(help_text="none = all")
    networks = serializers.ListField(
        child=serializers.CharField(max_length=50), required=False, default=list, max_length=50,
        help_text="such as 203.0.113.0/24; none = any",
    )  # fmt: skip
    days = serializers.IntegerField(min_value=1, max_value=730, default=365, help_text="how long it is valid")


class TokenFilter(django_filters.FilterSet):
    owner = django_filters.CharFilter(field_name="user__username", lookup_expr="iexact", max_length=150)
    revoked = django_filters.BooleanFilter(field_name="revoked_at", lookup_expr="isnull", exclude=True)

    class Meta:
        model = ApiToken
        fields = ["owner", "revoked"]


class TokenViewSet(Everywhere, Resource[ApiToken]):
    """Tokens, newest first. A new one belongs to you and reaches no further than the token that asks for it."""

    queryset = ApiToken.objects.select_related("user")
    serializer_class = TokenSerializer
    filterset_class = TokenFilter
    keyset_order = ("-id",)
    lookup_value_regex = "[0-9]{1,18}"
    http_method_names = ["get", "post", "head", "options"]
    required_scopes = {"GET": "users:read", "POST": "users:write"}
    secret_members = ("token",)

    @extend_schema(request=TokenRequest, responses={201: NewTokenSerializer})
    def create(self, request: Any) -> Response:
        """Issue a token. The answer holds it, once: keep it."""
        data = TokenRequest.read(request)
        warehouses, channels = _places(data)
        caller = principal_of(request)
        made, text = tokens.issue(
            request.user, data["name"], data["scopes"], actor=self.actor(), warehouses=warehouses, channels=channels,
            networks=data["networks"], valid_for=dt.timedelta(days=data["days"]),
            within=caller if isinstance(caller, ApiToken) else None,
        )  # fmt: skip
        made.token = text  # type: ignore[attr-defined]
        return Response(NewTokenSerializer(made).data, 201)

    @extend_schema(request=None, responses=TokenSerializer)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        """End it at once. Harmless when it has ended."""
        tokens.revoke(self.get_object().pk, actor=self.actor())
        return Response(self.get_serializer(self.get_object()).data)


def register(router: BaseRouter) -> None:
    router.register("users", UserViewSet, basename="user")
    router.register("tokens", TokenViewSet, basename="token")
