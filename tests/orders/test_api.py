"""Orders over HTTP: scopes, masking, entering once, holds and cancellations."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from inventory.models import Sku, StockLevel, Warehouse
from oms.core import tokens
from oms.core.actor import Actor
from oms.core.models import User
from oms.orders.intake import take
from oms.orders.models import Order, SalesChannel
from tests.factories import (
    T0,
    add_stock,
    line_draft,
    make_channel,
    make_sku,
    make_user,
    make_warehouse,
    order_draft,
)

pytestmark = pytest.mark.django_db
BOT = Actor("channel", "test")
ALL = ("orders:read", "orders:write", "pii:read")


@pytest.fixture
def east() -> Warehouse:
    return make_warehouse("EAST")


@pytest.fixture
def mug(east: Warehouse) -> Sku:
    sku = make_sku("MUG")
    add_stock(sku, east, 100)
    return sku


@pytest.fixture
def shop(east: Warehouse) -> SalesChannel:
    return make_channel("shop", east, name="Shop")


@pytest.fixture
def phone(east: Warehouse) -> SalesChannel:
    return make_channel("phone", east, name="Phone", kind="manual", prefix="PH")


def client(user: User, *scopes: str, **limits: Any) -> APIClient:
    made = tokens.issue(user=user, name="test", scopes=list(scopes), actor=BOT, **limits)
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {made[1]}")
    return api


@pytest.fixture
def api() -> APIClient:
    return client(make_user("olga", "owner"), *ALL)


def enter(channel: SalesChannel, *lines: Any, **fields: Any) -> Order:
    answer = take([order_draft(*lines, **fields)], channel=channel, actor=BOT, source="webhook")[0]
    return Order.objects.select_related("channel").get(pk=answer.order_id)


def body(**changes: Any) -> dict[str, Any]:
    return {
        "channel": "phone",
        "lines": [{"sku": "mug", "quantity": 3, "unit_price": "12.50", "tax": "3.00"}],
        "contact": {
            "name": "Ana Ruiz", "address1": "1 Main St", "city": "Austin", "region": "TX",
            "postal_code": "78701", "country": "us", "email": "ana@example.com",
        },
        "shipping": "5.00",
        **changes,
    }  # fmt: skip


def test_the_list_shows_orders_newest_first_in_bounded_queries(
    api: APIClient, shop: SalesChannel, mug: Sku
) -> None:
    for hour in range(12):
        enter(shop, line_draft(mug, 1), placed_at=T0 + dt.timedelta(hours=hour))
    api.get("/api/v1/orders/")
    with CaptureQueriesContext(connection) as few:
        answer = api.get("/api/v1/orders/?limit=2")
    with CaptureQueriesContext(connection) as many:
        all_of_them = api.get("/api/v1/orders/?limit=12").json()["results"]
    assert answer.status_code == 200
    assert len(few) == len(many) <= 10
    assert [row["placed_at"] for row in all_of_them] == sorted(
        (row["placed_at"] for row in all_of_them), reverse=True
    )
    first = answer.json()["results"][0]
    assert first["total"] == {"amount": "10.00", "currency": "USD"}
    assert (first["warehouses"], first["lines"][0]["sku"], first["lines"][0]["reserved"]) == (
        ["EAST"],
        "MUG",
        1,
    )
    assert "contact" not in first
    following = api.get(answer.json()["next"]).json()["results"]
    assert [row["id"] for row in following] == [row["id"] for row in all_of_them[2:4]]


def test_filters_are_strict(api: APIClient, shop: SalesChannel, mug: Sku) -> None:
    short = enter(shop, line_draft(mug, 500))
    enter(shop, line_draft(make_sku("WRAP", kind="service"), 1))
    assert [row["id"] for row in api.get("/api/v1/orders/?view=backorder").json()["results"]] == [short.pk]
    assert api.get("/api/v1/orders/?stat=open").status_code == 400
    assert api.get("/api/v1/orders/?state=nonsense").status_code == 400
    assert [row["id"] for row in api.get(f"/api/v1/orders/?q={short.number}").json()["results"]] == [short.pk]


def test_buyer_data_is_masked_without_its_scope(shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft(mug, 1))
    owner = make_user("olga", "owner")
    whole = client(owner, "orders:read", "pii:read").get(f"/api/v1/orders/{order.pk}/").json()["contact"]
    masked = client(owner, "orders:read").get(f"/api/v1/orders/{order.pk}/").json()["contact"]
    assert (whole["name"], whole["address1"], whole["email"]) == (
        "Ana Maria Ruiz",
        "1 Main St",
        "ana@example.com",
    )
    assert masked == {
        "name": "A. Ruiz", "email": "•••", "phone": "•••", "address1": "•••", "city": "Austin", "region": "TX",
        "postal_code": "787•••", "country": "US", "residential": True,
    }  # fmt: skip


def test_a_token_sees_only_its_channels_and_warehouses(
    shop: SalesChannel, phone: SalesChannel, mug: Sku
) -> None:
    mine, foreign = enter(shop, line_draft(mug, 1)), enter(phone, line_draft(mug, 1))
    owner = make_user("olga", "owner")
    limited = client(owner, *ALL, channels=["shop"])
    assert [row["id"] for row in limited.get("/api/v1/orders/").json()["results"]] == [mine.pk]
    for path in ("", "timeline/"):
        assert limited.get(f"/api/v1/orders/{foreign.pk}/{path}").status_code == 404
    for path, data in (
        ("hold/", {}),
        ("release/", {}),
        ("cancel/", {"reason": "buyer"}),
        ("notes/", {"text": "x"}),
    ):
        assert limited.post(f"/api/v1/orders/{foreign.pk}/{path}", data, format="json").status_code == 404
    foreign.refresh_from_db()
    assert (foreign.state, foreign.holds_open) == ("open", 0)
    west = client(owner, *ALL, warehouses=["WEST"])
    assert west.get("/api/v1/orders/").json()["results"] == []
    assert west.get(f"/api/v1/orders/{mine.pk}/").status_code == 404


def test_reading_does_not_allow_writing(shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft(mug, 1))
    reader = client(make_user("olga", "owner"), "orders:read")
    assert reader.post(f"/api/v1/orders/{order.pk}/hold/", {}, format="json").status_code == 403
    assert APIClient().get("/api/v1/orders/").status_code == 401
    viewer = client(make_user("vera", "viewer"), "orders:read", "orders:write")
    assert (
        viewer.post(f"/api/v1/orders/{order.pk}/cancel/", {"reason": "buyer"}, format="json").status_code
        == 403
    )


def test_an_order_is_entered_once_per_key(api: APIClient, phone: SalesChannel, mug: Sku) -> None:
    answers = [
        api.post("/api/v1/orders/", body(), format="json", headers={"Idempotency-Key": "k1"})
        for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None, "true", "true"]
    assert len({answer.json()["number"] for answer in answers}) == 1
    order = Order.objects.get()
    assert (order.source, order.total, order.subtotal, order.tax) == ("api", 45.5, 37.5, 3)
    assert answers[0].json()["lines"][0]["reserved"] == 3
    assert StockLevel.objects.get().reserved == 3
    other = api.post("/api/v1/orders/", body(shipping="9"), format="json", headers={"Idempotency-Key": "k1"})
    assert other.status_code == 422


@pytest.mark.parametrize(
    ("changes", "status", "sentence"),
    [
        ({"channel": "nope"}, 400, "channel: there is no channel 'nope'."),
        (
            {"channel": "shop"},
            400,
            "channel: orders of Shop come from the channel itself; choose a manual or custom channel.",
        ),
        ({"lines": []}, 400, "lines.non_field_errors: This list may not be empty."),
        (
            {"lines": [{"sku": "X", "quantity": 1, "unit_price": "1"}]},
            400,
            "lines[1].sku: there is no SKU or alias 'X'.",
        ),
        (
            {"lines": [{"sku": "MUG", "quantity": -1, "unit_price": "1"}]},
            400,
            "lines.0.quantity: Ensure this value is greater than or equal to 1.",
        ),
        ({"currency": "XXX"}, 400, "currency: 'XXX' is not an ISO 4217 code such as USD."),
    ],
)
def test_wrong_orders_are_refused_with_a_sentence(
    api: APIClient,
    phone: SalesChannel,
    shop: SalesChannel,
    mug: Sku,
    changes: dict[str, Any],
    status: int,
    sentence: str,
) -> None:
    answer = api.post("/api/v1/orders/", body(**changes), format="json")
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    if "non_field_errors" not in sentence:
        assert answer.json()["detail"] == sentence
    assert Order.objects.count() == 0


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"lines": [{"sku": "X", "quantity": 1, "unit_price": "1"}]}, "/lines/0/sku"),
        (
            {"lines": [{"sku": "MUG", "quantity": 2, "unit_price": "10", "discount": "20.01"}]},
            "/lines/0/discount",
        ),
        (
            {
                "lines": [{"sku": "MUG", "quantity": 2, "unit_price": "10"}],
                "shipping": "5",
                "discount": "25.01",
            },
            "/discount",
        ),
        ({"placed_at": "0001-01-01T00:00:00Z"}, "/placed_at"),
        ({"placed_at": "2999-01-01T00:00:00Z"}, "/placed_at"),
        ({"ship_by": "9999-12-31T23:59:59Z"}, "/ship_by"),
    ],
)
def test_what_no_order_can_hold_is_refused_where_it_stands(
    api: APIClient, phone: SalesChannel, mug: Sku, changes: dict[str, Any], pointer: str
) -> None:
    answer = api.post("/api/v1/orders/", body(**changes), format="json")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, pointer)
    assert not Order.objects.exists()


def test_an_order_may_be_free(api: APIClient, phone: SalesChannel, mug: Sku) -> None:
    """The whole price as a discount, shipping too: the shop gave it away."""
    lines = [{"sku": "MUG", "quantity": 2, "unit_price": "10"}]
    answer = api.post("/api/v1/orders/", body(lines=lines, shipping="5", discount="25"), format="json")
    assert answer.status_code == 201, answer.content
    assert answer.json()["total"]["amount"] == "0.00"


def test_the_same_external_id_is_a_conflict(api: APIClient, phone: SalesChannel, mug: Sku) -> None:
    assert api.post("/api/v1/orders/", body(external_id="A-1"), format="json").status_code == 201
    again = api.post("/api/v1/orders/", body(external_id="A-1"), format="json")
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "external_id: Phone has an order 'A-1' already.",
    )


def test_hold_release_cancel_note_tags(api: APIClient, shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft(mug, 5))
    at = f"/api/v1/orders/{order.pk}/"
    held = api.post(f"{at}hold/", {"reason": "address", "note": "no street"}, format="json").json()
    assert (held["on_hold"], held["holds"][0]["reason"], held["holds"][0]["placed_by"]) == (
        True,
        "address",
        "token:test",
    )
    released = api.post(f"{at}release/", {"hold": held["holds"][0]["id"]}, format="json").json()
    assert released["on_hold"] is False
    line = released["lines"][0]["id"]
    stale = api.post(f"{at}cancel/", {"reason": "buyer", "version": 1}, format="json")
    assert stale.status_code == 412
    part = api.post(
        f"{at}cancel/", {"reason": "buyer", "lines": [{"line": line, "quantity": 2}]}, format="json"
    ).json()
    assert (part["lines"][0]["reserved"], part["lines"][0]["cancelled"], part["state"]) == (3, 2, "open")
    too_many = api.post(
        f"{at}cancel/", {"reason": "buyer", "lines": [{"line": line, "quantity": 4}]}, format="json"
    )
    assert too_many.status_code == 409
    assert api.post(f"{at}cancel/", {"reason": "buyer"}, format="json").json()["state"] == "cancelled"
    assert api.post(f"{at}notes/", {"text": "called her"}, format="json").status_code == 200
    assert api.post(f"{at}tags/", {"tags": ["vip", "vip", " gift "]}, format="json").json()["tags"] == [
        "vip",
        "gift",
    ]
    assert api.get(f"{at}timeline/").json()[-2]["text"] == "called her"


def test_mapping_over_the_api(api: APIClient, shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft("OLD", 2))
    answer = api.post(f"/api/v1/orders/{order.pk}/map/", {"external_sku": "OLD", "sku": "MUG"}, format="json")
    assert answer.json() == {"repaired": 1}
    assert api.get(f"/api/v1/orders/{order.pk}/").json()["lines"][0]["reserved"] == 2
