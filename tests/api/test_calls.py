"""More of what a screen does, as calls: returns, purchasing, people and tokens, connecting a channel (X01)."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from channels.models import ChannelAccount
from inventory.models import Reservation, StockLevel
from oms.core import tokens
from oms.core.actor import SYSTEM
from oms.core.clock import business_day
from oms.core.models import ApiToken, User
from oms.orders.models import Order
from procurement.models import PurchaseOrder, ReorderSuggestion, Supplier, SupplierOffer
from returns.models import Rma, RmaLine
from tests.api.test_resources import bearer
from tests.factories import add_stock, make_channel, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner() -> User:
    return make_user("olga")


@pytest.fixture
def api(owner: User) -> APIClient:
    return bearer(owner)


# --- bodies ---------------------------------------------------------------------------------------


def test_a_body_has_the_described_members_in_the_described_types(api: APIClient) -> None:
    make_sku("MUG"), make_warehouse("EAST")
    body = {"sku": "MUG", "warehouse": "EAST", "quantity": 1, "reason": "count"}
    for wrong, pointer, code in (
        ({"quantity": "1"}, "/quantity", "type"),
        ({"quantity": True}, "/quantity", "type"),
        ({"sku": 5}, "/sku", "type"),
        ({"quantiy": 1}, "/quantiy", "unknown_member"),
    ):
        answer = api.post("/api/v1/stock/adjust/", {**body, **wrong})
        assert answer.status_code == 400, wrong
        assert (answer.json()["errors"][0]["pointer"], answer.json()["errors"][0]["code"]) == (pointer, code)
    assert api.post("/api/v1/stock/adjust/", {**body, "quantity": 2.0}).status_code == 201
    empty = api.post("/api/v1/stock/adjust/", body, HTTP_IDEMPOTENCY_KEY="")
    assert (empty.status_code, empty.json()["errors"][0]["pointer"]) == (400, "/Idempotency-Key")


# --- an order from a hold -------------------------------------------------------------------------


def test_the_last_units_that_a_checkout_held_become_its_order(api: APIClient, assert_invariants: Any) -> None:
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    add_stock(sku, east, 3)
    make_channel("phone", east, kind="manual", prefix="PH")
    hold = {"reference": "cart-1", "warehouses": ["EAST"], "lines": [{"sku": "MUG", "quantity": 3}]}
    assert api.post("/api/v1/reservations/", hold).json()["lines"][0]["short"] == 0
    body = {
        "channel": "phone", "lines": [{"sku": "MUG", "quantity": 3, "unit_price": "5"}],
        "contact": {"name": "Ana", "address1": "1 Main St", "city": "Boston", "country": "US"},
    }  # fmt: skip
    unknown = api.post("/api/v1/orders/", {**body, "hold": "cart-2"})
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (409, "/hold")
    foreign = bearer(make_user("sue", "support")).post("/api/v1/orders/", {**body, "hold": "cart-1"})
    assert foreign.status_code == 403 and not Order.objects.exists()  # may enter orders, not give stock back
    made = api.post("/api/v1/orders/", {**body, "hold": "cart-1"}, HTTP_IDEMPOTENCY_KEY="o-1")
    assert made.status_code == 201, made.json()
    assert (made.json()["short_units"], made.json()["lines"][0]["reserved"]) == (0, 3)
    again = api.post("/api/v1/orders/", {**body, "hold": "cart-1"}, HTTP_IDEMPOTENCY_KEY="o-1")
    assert again.json()["id"] == made.json()["id"]
    level = StockLevel.objects.get()
    assert (level.reserved, level.available) == (3, 0)
    assert not Reservation.objects.filter(reference="hold:cart-1", state="open").exists()
    assert_invariants()


# --- returns --------------------------------------------------------------------------------------


def test_a_return_is_decided_and_a_parcel_may_come_unannounced(
    api: APIClient, assert_invariants: Any
) -> None:
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    asked = [Rma.objects.create(warehouse=east, state="requested", created_by="x") for _ in range(2)]
    for rma in asked:
        RmaLine.objects.create(rma=rma, sku=sku, quantity=1)
    assert api.post(f"/api/v1/returns/{asked[0].pk}/approve/").json()["state"] == "approved"
    assert api.post(f"/api/v1/returns/{asked[1].pk}/decline/").json()["state"] == "declined"
    assert api.post(f"/api/v1/returns/{asked[1].pk}/approve/").status_code == 409
    body = {"key": "p1", "warehouse": "EAST", "items": [{"sku": "MUG", "quantity": 2}]}
    blind = api.post("/api/v1/returns/blind/", body)
    assert blind.status_code == 201 and blind.json()["order"] is None
    assert api.post("/api/v1/returns/blind/", body).json()["id"] == blind.json()["id"]  # the same parcel
    more = api.post(
        f"/api/v1/returns/{asked[0].pk}/unannounced/", {"key": "p2", "items": [{"sku": "MUG", "quantity": 1}]}
    )
    assert more.status_code == 200 and len(more.json()["lines"]) == 2
    level = StockLevel.objects.get()
    assert (level.on_hand, level.quarantine, level.available) == (3, 3, 0)
    wrong = api.post("/api/v1/returns/blind/", {**body, "items": [{"sku": "NOPE", "quantity": 1}]})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (400, "/items/0/sku")
    assert_invariants()


# --- purchasing -----------------------------------------------------------------------------------


def _suggestion(code: str, supplier: Supplier, **fields: Any) -> ReorderSuggestion:
    offer = SupplierOffer.objects.create(supplier=supplier, sku=make_sku(code), price="2.00", currency="USD")
    return ReorderSuggestion.objects.create(
        sku=offer.sku, offer=offer, need=5, quantity=6, reorder_point=9, position=4, reason="low", **fields
    )


def test_suggestions_become_one_order_that_is_sent_confirmed_and_closed(api: APIClient) -> None:
    east, kiln = make_warehouse("EAST"), Supplier.objects.create(code="KILN", name="Kiln", currency="USD")
    one, two = _suggestion("A", kiln, warehouse=east), _suggestion("B", kiln, warehouse=east)
    later = _suggestion("C", kiln, warehouse=east)
    listed = api.get("/api/v1/reorder-suggestions/?state=open&supplier=KILN").json()["results"]
    assert [row["unit_price"] for row in listed] == [{"amount": "2.00", "currency": "USD"}] * 3
    unknown = api.post("/api/v1/reorder-suggestions/order/", {"ids": [one.pk, 10**9]})
    assert unknown.status_code == 400 and not PurchaseOrder.objects.exists()
    (made,) = api.post("/api/v1/reorder-suggestions/order/", {"ids": [one.pk, two.pk]}).json()
    assert [line["quantity"] for line in made["lines"]] == [6, 6]
    assert api.post("/api/v1/reorder-suggestions/order/", {"ids": [one.pk]}).status_code == 409
    assert api.get(f"/api/v1/reorder-suggestions/{one.pk}/").json()["purchase_order"] == made["id"]
    until = business_day() + dt.timedelta(days=3)
    snoozed = api.post(f"/api/v1/reorder-suggestions/{later.pk}/snooze/", {"until": str(until)})
    assert snoozed.json()["state"] == "snoozed"
    url = f"/api/v1/purchase-orders/{made['id']}"
    for step, state in (("approve", "approved"), ("send", "sent")):
        assert api.post(f"{url}/{step}/").json()["state"] == state
    confirmed = api.post(f"{url}/confirm/", {"expected_on": "2027-01-31"}).json()
    assert (confirmed["state"], confirmed["expected_on"]) == ("confirmed", "2027-01-31")
    assert api.post(f"{url}/close/").json()["state"] == "closed"
    floor = bearer(make_user("flo", "floor"))
    assert floor.post("/api/v1/reorder-suggestions/order/", {"ids": [two.pk]}).status_code == 403


# --- people and tokens ----------------------------------------------------------------------------


def test_a_token_is_shown_once_and_never_kept(api: APIClient, owner: User) -> None:
    body = {"name": "web shop", "scopes": ["orders:read"], "days": 30}
    made = api.post("/api/v1/tokens/", body, HTTP_IDEMPOTENCY_KEY="t-1")
    text = made.json()["token"]
    assert made.status_code == 201 and text.startswith(f"oms_{made.json()['prefix']}_")
    again = api.post("/api/v1/tokens/", body, HTTP_IDEMPOTENCY_KEY="t-1").json()
    assert (again["id"], again["token"]) == (made.json()["id"], None)
    assert "token" not in api.get(f"/api/v1/tokens/{made.json()['id']}/").json()
    with connection.cursor() as cursor:
        for table in ("core_apitoken", "core_idempotencyrecord", "core_auditentry"):
            cursor.execute(f"SELECT * FROM {table}")
            assert text.rpartition("_")[2] not in str(cursor.fetchall()), table
    web = APIClient()
    web.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    assert web.get("/api/v1/orders/").status_code == 200
    assert api.post(f"/api/v1/tokens/{made.json()['id']}/revoke/").json()["revoked_at"]
    assert web.get("/api/v1/orders/").status_code == 401
    assert [row["id"] for row in api.get("/api/v1/tokens/?revoked=true").json()["results"]] == [
        made.json()["id"]
    ]


@pytest.mark.parametrize(
    ("held", "wanted", "pointer"),
    [
        ({}, {"scopes": ["stock:write"]}, "/scopes"),
        ({"networks": ["127.0.0.0/8"]}, {}, "/networks"),
        ({"networks": ["127.0.0.0/8"]}, {"networks": ["0.0.0.0/0"]}, "/networks"),
        ({"valid_for": dt.timedelta(days=5)}, {"days": 30}, "/days"),
    ],
)
def test_a_token_makes_none_that_reaches_further(
    owner: User, held: dict[str, Any], wanted: dict[str, Any], pointer: str
) -> None:
    _, text = tokens.issue(owner, "small", ["users:write", "orders:read"], actor=SYSTEM, **held)
    small = APIClient()
    small.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    answer = small.post("/api/v1/tokens/", {"name": "x", "scopes": ["orders:read"], "days": 1, **wanted})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (403, pointer)
    assert ApiToken.objects.count() == 1


def test_limits_of_a_token_bind_what_it_makes(owner: User) -> None:
    make_warehouse("EAST")
    limited = bearer(owner, warehouses=["EAST"])
    assert limited.post("/api/v1/tokens/", {"name": "x", "scopes": ["orders:read"]}).status_code == 403
    assert limited.get("/api/v1/users/").status_code == 403
    assert bearer(make_user("oda", "ops")).get("/api/v1/users/").status_code == 403


def test_users_are_made_moved_and_switched_off_within_the_callers_rights(
    api: APIClient, owner: User, django_assert_max_num_queries: Any
) -> None:
    make_warehouse("EAST")
    body = {
        "username": "finn",
        "password": "correct horse 7 battery",
        "role": "floor",
        "warehouses": ["EAST"],
    }
    made = api.post("/api/v1/users/", body)
    assert made.status_code == 201, made.json()
    assert made.json()["roles"] == [{"role": "floor", "warehouses": ["EAST"], "channels": []}]
    assert "password" not in made.json()
    weak = api.post("/api/v1/users/", {**body, "username": "f2", "password": "12345678"})
    assert (weak.status_code, weak.json()["errors"][0]["pointer"]) == (400, "/password")
    # a token holds no right to read the audit trail, so it makes nobody who does, and leaves owners alone
    stronger = api.post("/api/v1/users/", {**body, "username": "f3", "role": "owner"})
    assert (stronger.status_code, User.objects.filter(username="f3").exists()) == (403, False)
    assert api.post(f"/api/v1/users/{owner.pk}/disable/").status_code == 403
    pk = made.json()["id"]
    assert api.post(f"/api/v1/users/{pk}/role/", {"role": "threepl"}).json()["roles"][0]["role"] == "threepl"
    token, _ = tokens.issue(User.objects.get(pk=pk), "scanner", ["stock:read"], actor=SYSTEM)
    assert api.post(f"/api/v1/users/{pk}/disable/").json()["is_active"] is False
    token.refresh_from_db()
    assert token.revoked_at is not None
    assert api.post(f"/api/v1/users/{pk}/enable/").json()["is_active"] is True
    with django_assert_max_num_queries(8):
        assert len(api.get("/api/v1/users/").json()["results"]) == 2


# --- channels -------------------------------------------------------------------------------------


def test_a_channel_is_connected_and_its_credentials_never_leave(api: APIClient) -> None:
    make_warehouse("EAST")
    body = {
        "connector": "shopify", "name": "Shop US", "code": "shop-us", "order_prefix": "US", "warehouses": ["EAST"],
        "config": {"shop": "acme.myshopify.com"},
        "credentials": {"access_token": "shpat_secret", "client_secret": "hush"},
    }  # fmt: skip
    wrong = api.post("/api/v1/channels/", {**body, "connector": "myspace"})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (400, "/connector")
    made = api.post("/api/v1/channels/", body)
    assert made.status_code == 201, made.json()
    assert (made.json()["code"], made.json()["state"]) == ("shop-us", "setup")
    assert "shpat_secret" not in made.content.decode() + api.get("/api/v1/channels/shop-us/").content.decode()
    assert api.post("/api/v1/channels/", body).status_code == 409
    url = "/api/v1/channels/shop-us"
    odd = api.post(f"{url}/settings/", {"config": {"auto_heal": "x"}})
    assert (odd.status_code, odd.json()["errors"][0]["pointer"]) == (400, "/config/auto_heal")
    changed = api.post(f"{url}/settings/", {"credentials": {"access_token": "shpat_other"}})
    assert changed.status_code == 200 and "shpat_other" not in changed.content.decode()
    account = ChannelAccount.objects.get()
    assert (
        account.credentials["access_token"] == "shpat_other"
        and account.credentials["client_secret"] == "hush"
    )
    place = api.post(f"{url}/locations/", {"location": "gid://shopify/Location/9", "warehouse": "EAST"})
    assert place.status_code == 200 and place.json()["warehouse"] == "EAST"
    assert api.post(f"{url}/disable/").json()["state"] == "disabled"
    assert (
        bearer(make_user("vera", "viewer")).post("/api/v1/channels/", {**body, "code": "b"}).status_code
        == 403
    )
