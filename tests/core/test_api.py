from __future__ import annotations

import datetime as dt
import gc
import json
from typing import Any

import pytest
import time_machine
from django.contrib import admin
from django.http import Http404
from django.test import Client
from django.urls import include, path
from django.utils.crypto import salted_hmac
from django.utils.module_loading import import_string
from django_filters import rest_framework as filters
from rest_framework import serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from oms.core import throttle, tokens
from oms.core.actor import SYSTEM
from oms.core.api import idempotency
from oms.core.api.auth import TokenThrottle
from oms.core.api.fields import MoneyField, SparseFieldsMixin, expect_version
from oms.core.clock import now
from oms.core.current import context
from oms.core.errors import Conflict, UserError
from oms.core.middleware import CSP
from oms.core.models import ApiToken, AuditEntry, ExceptionItem, IdempotencyRecord, Membership, User
from oms.core.paging import keyset_page

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class ItemSerializer(SparseFieldsMixin, serializers.ModelSerializer):  # type: ignore[type-arg]
    class Meta:
        model = ExceptionItem
        fields = ["id", "kind", "title"]


class ItemFilter(filters.FilterSet):
    class Meta:
        model = ExceptionItem
        fields = ["kind"]


class ItemViews(idempotency.IdempotentMixin, viewsets.ModelViewSet):  # type: ignore[type-arg]
    queryset = ExceptionItem.objects.all()
    serializer_class = ItemSerializer
    filterset_class = ItemFilter
    keyset_order = ("-last_at", "-id")
    updated_field = "last_at"
    required_scopes = {"GET": "orders:read", "POST": "orders:write"}

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        kind = request.data.get("kind")
        if kind == "conflict":
            ExceptionItem.objects.create(kind="half", dedup_key="half", title="half done")
            raise Conflict("stock: only 2 are left.", field="quantity")
        if kind == "wrong":
            raise UserError("address/zip: give 5 digits.", field="address/zip")
        if kind == "boom":
            raise ZeroDivisionError
        if kind == "gone":
            raise Http404
        if kind == "versioned":
            expect_version(3, request.data.get("version"))
        request_actor = str(context().actor)
        item = ExceptionItem.objects.create(kind=kind or "none", dedup_key=str(now()), title=request_actor)
        return Response({"id": item.pk, "title": item.title}, 201)


class Closed(viewsets.ViewSet):
    def list(self, request: Request) -> Response:
        return Response([])


router = SimpleRouter()
router.register("items", ItemViews, "item")
router.register("closed", Closed, "closed")
urlpatterns = [
    path("api/v1/", include(router.urls)),
    path("admin/", admin.site.urls),
    *(path(name, import_string(f"oms.core.health.{name}")) for name in ("healthz", "readyz", "metrics")),
]


@pytest.fixture
def owner() -> User:
    made = User.objects.create_user("ada", password="correct horse battery")
    Membership.objects.create(user=made, role="ops")
    return made


@pytest.fixture
def bearer(owner: User) -> str:
    return tokens.issue(owner, "shop", ["orders:read", "orders:write"], actor=SYSTEM)[1]


def call(client: Client, method: str, url: str, bearer: str = "", body: Any = None, **headers: str) -> Any:
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    data = json.dumps(body) if body is not None else ""
    return client.generic(method, url, data, content_type="application/json", headers=headers)


def test_token_is_shown_once_and_stored_as_a_digest(owner: User) -> None:
    token, text = tokens.issue(owner, "shop", ["orders:read"], actor=SYSTEM)
    kind, prefix, secret = text.split("_", 2)
    assert (kind, prefix, len(prefix), len(secret)) == ("oms", token.prefix, 8, 43)
    assert secret not in json.dumps(ApiToken.objects.values().get(), default=str)
    assert AuditEntry.objects.get().action == "token.issued"
    assert token.expires_at - token.created_at == pytest.approx(
        dt.timedelta(days=365), abs=dt.timedelta(seconds=5)
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": " "}, "name: say what"),
        ({"scopes": ["orders:fly"]}, "unknown scope orders:fly"),
        ({"scopes": []}, "choose at least one"),
        ({"networks": ["10.0.0"]}, "'10.0.0' is not a network"),
        ({"valid_for": dt.timedelta(0)}, "expiry: choose a day"),
    ],
)
def test_a_token_needs_sense(owner: User, changes: dict[str, Any], words: str) -> None:
    values: dict[str, Any] = {"name": "shop", "scopes": ["orders:read"], **changes}
    with pytest.raises(UserError, match=words):
        tokens.issue(owner, values.pop("name"), values.pop("scopes"), actor=SYSTEM, **values)


def test_bearer_opens_only_what_its_scopes_name(client: Client, owner: User, bearer: str) -> None:
    assert call(client, "GET", "/api/v1/items/", bearer).status_code == 200
    _, reading = tokens.issue(owner, "reader", ["orders:read"], actor=SYSTEM)
    refused = call(client, "POST", "/api/v1/items/", reading, {"kind": "x"})
    assert (refused.status_code, refused.json()["detail"]) == (403, "This needs the scope 'orders:write'.")
    assert call(client, "GET", "/api/v1/closed/", bearer).status_code == 403  # no scopes declared = closed
    assert not ExceptionItem.objects.exists()


def test_a_person_with_a_session_has_the_scopes_of_the_roles(client: Client, owner: User) -> None:
    client.force_login(owner)
    assert call(client, "GET", "/api/v1/items/").status_code == 200
    Membership.objects.update(role="viewer")
    assert call(client, "GET", "/api/v1/items/").status_code == 200
    assert call(client, "POST", "/api/v1/items/", body={"kind": "x"}).status_code == 403


def test_every_dead_token_gets_the_same_answer(client: Client, owner: User, bearer: str) -> None:
    answers = set()

    def ask(text: str) -> None:
        got = call(client, "GET", "/api/v1/items/", text)
        answers.add((got.status_code, got.json()["detail"], got["WWW-Authenticate"], got["Content-Type"]))

    for text in (
        "nonsense",
        "oms_abcdefgh_wrong",
        bearer[:-1] + ("a" if bearer[-1] != "a" else "b"),
        "oms__",
        "x",
    ):
        ask(text)
    expired, text = tokens.issue(owner, "old", ["orders:read"], actor=SYSTEM)
    ApiToken.objects.filter(pk=expired.pk).update(expires_at=now())
    ask(text)
    revoked, text = tokens.issue(owner, "gone", ["orders:read"], actor=SYSTEM)
    tokens.revoke(revoked.pk, actor=SYSTEM)
    tokens.revoke(revoked.pk, actor=SYSTEM)
    ask(text)
    ask(tokens.issue(owner, "net", ["orders:read"], actor=SYSTEM, networks=["203.0.113.0/24"])[1])
    User.objects.update(is_active=False)
    ask(bearer)
    sentence = "The token is unknown, expired, revoked or not allowed from this address."
    assert answers == {(401, sentence, 'Bearer realm="lading"', "application/problem+json")}
    assert AuditEntry.objects.filter(action="token.revoked").count() == 1


def test_last_use_is_noted_by_the_minute(client: Client, bearer: str) -> None:
    with time_machine.travel(dt.datetime(2026, 11, 23, 8, 0, 30, tzinfo=dt.UTC), tick=False) as clock:
        call(client, "GET", "/api/v1/items/", bearer)
        clock.shift(20)
        call(client, "GET", "/api/v1/items/", bearer)
        assert ApiToken.objects.get().last_used_at == dt.datetime(2026, 11, 23, 8, 0, tzinfo=dt.UTC)
        clock.shift(60)
        call(client, "GET", "/api/v1/items/", bearer)
        assert ApiToken.objects.get().last_used_at == dt.datetime(2026, 11, 23, 8, 1, tzinfo=dt.UTC)


def test_rate_limit_answers_429_with_retry_after(
    client: Client, bearer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenThrottle, "rate", "2/min", raising=False)
    codes = [call(client, "GET", "/api/v1/items/", bearer) for _ in range(3)]
    assert [got.status_code for got in codes] == [200, 200, 429]
    assert 1 <= int(codes[2]["Retry-After"]) <= 60
    assert codes[2].json()["title"] == "Too Many Requests"


@pytest.mark.parametrize(
    ("kind", "status", "code", "pointer"),
    [("conflict", 409, "conflict", "/quantity"), ("wrong", 400, "refused", "/address~1zip"), 
     ("gone", 404, "not_found", None), ("boom", 500, "internal", None)],
)  # fmt: skip
def test_errors_are_problem_documents(
    client: Client, bearer: str, kind: str, status: int, code: str, pointer: str | None
) -> None:
    body = {"kind": kind, "quantity": 3, "address/zip": "x"}
    got = call(client, "POST", "/api/v1/items/", bearer, body, **{"X-Request-ID": "trace-1234"})
    document = got.json()
    assert (got.status_code, got["Content-Type"], got["X-Request-ID"]) == (
        status,
        "application/problem+json",
        "trace-1234",
    )
    assert (document["status"], document["type"], document["instance"]) == (
        status,
        f"urn:lading:{code}",
        "/api/v1/items/",
    )
    assert document["request_id"] == "trace-1234"
    assert [entry["pointer"] for entry in document.get("errors", [])] == ([pointer] if pointer else [])


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("limit=0", "/limit"), ("limit=251", "/limit"), ("limit=null", "/limit"), ("limit=%D9%A3", "/limit"),
     ("page=2", "/page"), ("cursor=xx", "/cursor"), ("updated_since=yesterday", "/updated_since"),
     ("fields=secret", "/fields")],
)  # fmt: skip
def test_bad_parameters_are_refused(client: Client, bearer: str, query: str, pointer: str) -> None:
    ExceptionItem.objects.create(kind="a", dedup_key="1", title="t")
    got = call(client, "GET", f"/api/v1/items/?{query}", bearer)
    assert (got.status_code, got.json()["errors"][0]["pointer"]) == (400, pointer)


def test_keyset_walk_sees_each_row_once_though_all_share_one_time(client: Client, bearer: str) -> None:
    at = now()
    ExceptionItem.objects.bulk_create(
        ExceptionItem(kind="k", dedup_key=str(n), title=str(n), last_at=at) for n in range(25)
    )
    seen: list[int] = []
    url = "/api/v1/items/?limit=10&kind=k&fields=id"
    while url:
        page = call(client, "GET", url, bearer).json()
        seen += [row["id"] for row in page["results"]]
        url = page["next"]
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == 25


def test_updated_since_and_chosen_fields(client: Client, bearer: str) -> None:
    start = dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC)
    for hour in range(3):
        ExceptionItem.objects.create(
            kind="k", dedup_key=str(hour), title=str(hour), last_at=start + dt.timedelta(hours=hour)
        )
    got = call(
        client, "GET", "/api/v1/items/?updated_since=2026-11-23T10:00:00%2B01:00&fields=title", bearer
    ).json()
    assert got == {"results": [{"title": "2"}, {"title": "1"}], "next": None}


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (("due_at", "id"), "14302"),
        (("-due_at", "id"), "31402"),
        (("due_at", "-id"), "41320"),
        (("severity", "-due_at", "id"), "31402"),
    ],
)
def test_pages_with_nulls_and_both_directions(order: tuple[str, ...], expected: str) -> None:
    start = dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC)
    for number, due in enumerate([None, start, None, start + dt.timedelta(hours=1), start]):
        ExceptionItem.objects.create(kind="k", dedup_key=str(number), title=str(number), due_at=due)
    seen, cursor, more = "", "", True
    while more:
        page = keyset_page(ExceptionItem.objects.all(), order=order, cursor=cursor, limit=2)
        seen += "".join(item.title for item in page.items)
        cursor, more = page.next_cursor, page.has_next
    assert seen == expected


def test_a_cursor_of_another_list_is_refused() -> None:
    for number in range(3):
        ExceptionItem.objects.create(kind="k", dedup_key=str(number), title=str(number))
    page = keyset_page(ExceptionItem.objects.all(), order=("title", "id"), limit=2)
    with pytest.raises(UserError, match="cursor: it does not belong"):
        keyset_page(ExceptionItem.objects.all(), order=("-id",), cursor=page.next_cursor, limit=2)


def test_same_key_and_body_has_one_effect_and_the_same_answer(client: Client, bearer: str) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = call(client, "POST", "/api/v1/items/", bearer, {"kind": "x"}, **key)
    again = call(client, "POST", "/api/v1/items/", bearer, {"kind": "x"}, **key)
    assert (first.status_code, "Idempotent-Replayed" in first.headers) == (201, False)
    assert (again.status_code, again["Idempotent-Replayed"], again.json()) == (201, "true", first.json())
    assert first.json()["title"] == "token:shop"  # the actor that services get
    other = call(client, "POST", "/api/v1/items/", bearer, {"kind": "y"}, **key)
    assert (other.status_code, other.json()["detail"]) == (
        422,
        "Idempotency-Key: it was used with another body; use a new key.",
    )
    assert ExceptionItem.objects.count() == 1


def test_a_running_key_answers_409_and_a_dead_one_is_taken_over(client: Client, owner: User) -> None:
    token, bearer = tokens.issue(owner, "shop", ["orders:write"], actor=SYSTEM)
    body = {"kind": "x"}
    digest = salted_hmac("idempotency", json.dumps(body).encode(), algorithm="sha256").hexdigest()
    record = IdempotencyRecord.objects.create(
        actor=f"token:{token.prefix}", route="POST /api/v1/items/", key="k-1", digest=digest
    )
    running = call(client, "POST", "/api/v1/items/", bearer, body, **{"Idempotency-Key": "k-1"})
    assert (running.status_code, running["Retry-After"]) == (409, "2")
    IdempotencyRecord.objects.filter(pk=record.pk).update(created_at=now() - dt.timedelta(minutes=3))
    assert (
        call(client, "POST", "/api/v1/items/", bearer, body, **{"Idempotency-Key": "k-1"}).status_code == 201
    )


@pytest.mark.parametrize("kind", ["conflict", "wrong", "boom"])
def test_an_error_stores_nothing_and_undoes_its_effect(client: Client, bearer: str, kind: str) -> None:
    key = {"Idempotency-Key": "k-1"}
    assert call(client, "POST", "/api/v1/items/", bearer, {"kind": kind}, **key).status_code >= 400
    assert not ExceptionItem.objects.exists()
    assert call(client, "POST", "/api/v1/items/", bearer, {"kind": "mended"}, **key).status_code == 201


def test_keys_of_two_callers_do_not_meet(client: Client, owner: User, bearer: str) -> None:
    _, other = tokens.issue(owner, "shop", ["orders:write"], actor=SYSTEM)
    for text in (bearer, other):
        assert (
            call(
                client, "POST", "/api/v1/items/", text, {"kind": "x"}, **{"Idempotency-Key": "k"}
            ).status_code
            == 201
        )
    assert ExceptionItem.objects.count() == 2


def test_a_stale_version_answers_412(client: Client, bearer: str) -> None:
    body = {"kind": "versioned"}
    assert call(client, "POST", "/api/v1/items/", bearer, {**body, "version": 2}).status_code == 412
    assert call(client, "POST", "/api/v1/items/", bearer, {**body, "version": 3}).status_code == 201
    assert ExceptionItem.objects.count() == 1


def test_money_as_text_with_its_currency() -> None:
    class Row:
        total, currency = 19.9, "JPY"

    from decimal import Decimal

    Row.total = Decimal("1990.0000")  # type: ignore[assignment]
    assert MoneyField("total").to_representation(Row) == {"amount": "1990", "currency": "JPY"}


def test_every_answer_carries_the_strict_policy(client: Client, owner: User) -> None:
    for url in ("/healthz", "/readyz", "/nowhere", "/admin/login/"):
        got = client.get(url)
        assert got["Content-Security-Policy"] == CSP, url
        assert (got["X-Frame-Options"], got["X-Content-Type-Options"]) == ("DENY", "nosniff")
        assert got["Referrer-Policy"] == "same-origin"
        assert len(got["X-Request-ID"]) == 16
    assert "unsafe" not in CSP and CSP.startswith("default-src 'none'")
    bad = client.get("/healthz", headers={"X-Request-ID": "evil\nline"})
    assert bad["X-Request-ID"].isalnum()
    owner.is_staff = owner.is_superuser = True
    owner.save()
    client.force_login(owner)
    page = client.get("/admin/")
    assert (page["Content-Security-Policy"], "no-store" in page["Cache-Control"]) == (CSP, True)


def test_health_and_metrics(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {
        "status": "ok",
        "database": True,
        "dispatcher": False,
        "worker": False,
    }
    text = client.get("/metrics").content.decode()
    assert "lading_outbox_depth 0.0" in text and "lading_queue_depth 0.0" in text
    assert client.get("/metrics", REMOTE_ADDR="93.184.216.34").status_code == 404
    assert client.post("/healthz").status_code == 405


def test_log_in_throttle_counts_failures_per_account_and_address() -> None:
    with time_machine.travel(dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC), tick=False) as clock:
        for _ in range(5):
            assert throttle.seconds_to_wait("Ada", "203.0.113.9") == 0
            throttle.failed("ada", "203.0.113.9")
        assert throttle.seconds_to_wait("ADA", "203.0.113.9") == 180
        assert throttle.seconds_to_wait("ada", "203.0.113.10") == 0
        assert throttle.seconds_to_wait("bob", "203.0.113.9") == 0
        clock.shift(180)
        assert throttle.seconds_to_wait("ada", "203.0.113.9") == 0
        throttle.succeeded("ada", "203.0.113.9")
        for number in range(60):
            throttle.failed(f"user{number}", "203.0.113.9")
        assert throttle.seconds_to_wait("carol", "203.0.113.9") > 0


class WeightSerializer(SparseFieldsMixin, serializers.ModelSerializer):  # type: ignore[type-arg]
    twice = serializers.SerializerMethodField()
    owner = serializers.CharField(source="user.username", read_only=True)

    class Meta:
        model = ApiToken
        fields = ["id", "name", "user", "owner", "last_used_at", "twice"]

    def get_twice(self, token: ApiToken) -> str:
        return token.name * 2


def test_rows_are_read_as_the_framework_reads_them() -> None:
    user = User.objects.create(username="ana")
    tokens.issue(user, "till", ["orders:read"], actor=SYSTEM)
    token = ApiToken.objects.get()
    plain = type("Plain", (serializers.ModelSerializer,), {
        "Meta": WeightSerializer.Meta, "twice": serializers.SerializerMethodField(),
        "owner": serializers.CharField(source="user.username", read_only=True),
        "get_twice": WeightSerializer.get_twice,
    })  # fmt: skip
    assert WeightSerializer(token).data == plain(token).data
    assert WeightSerializer([token, token], many=True).data == plain([token, token], many=True).data


def test_an_answer_leaves_no_rows_behind(client: Client, bearer: str) -> None:
    """View, request and serializers point at each other: a page must not live on until the collector comes."""
    for number in range(20):
        ExceptionItem.objects.create(kind="test", dedup_key=f"k{number}", title=f"t{number}")
    call(client, "GET", "/api/v1/items/?limit=20", bearer)
    gc.collect()
    gc.disable()
    try:
        before = _living()
        answer = call(client, "GET", "/api/v1/items/?limit=20", bearer)
        assert len(answer.json()["results"]) == 20
        del answer
        assert _living() == before
    finally:
        gc.enable()


def _living() -> int:
    """Rows in memory; other tests may have left some that somebody holds."""
    # By type(): isinstance would ask a weak proxy for the class of what it points to, and that may be gone.
    return sum(type(one) is ExceptionItem for one in gc.get_objects())
