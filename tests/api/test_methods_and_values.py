"""Methods that are not there, choices that are none, amounts without coins and dates that cannot be (X01)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from rest_framework.test import APIClient

from channels.models import ChannelAccount
from inventory.models import RingFence, Sku, Transfer
from oms.core import tokens
from oms.core.actor import SYSTEM
from oms.core.clock import plausible
from oms.core.errors import UserError
from oms.core.models import User
from oms.core.money import check_coins
from oms.core.roles import SCOPES
from oms.orders.models import Hold, Order
from procurement.models import LandedCharge, PurchaseOrder, Supplier
from tests.factories import add_stock, make_channel, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db
V1 = "/api/v1/"


def bearer(user: User, *scopes: str) -> APIClient:
    api = APIClient()
    _, text = tokens.issue(user, "test", scopes or sorted(SCOPES), actor=SYSTEM)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return api


@pytest.fixture
def api() -> APIClient:
    return bearer(make_user("olga", "owner"))


@pytest.fixture
def mug() -> Sku:
    east, sku = make_warehouse("EAST"), make_sku("MUG")
    make_warehouse("WEST")
    add_stock(sku, east, 9)
    make_channel("phone", east, kind="manual", prefix="PH")
    make_channel("tokyo", east, kind="manual", prefix="TK", currency="JPY")
    Supplier.objects.create(code="KILN", name="Kiln", currency="JPY", lead_time_days=7)
    return sku


def refused(answer: Any, words: str, pointer: str) -> None:
    assert answer.status_code == 400, answer.content
    assert words in answer.json()["detail"]
    assert answer.json()["errors"][0]["pointer"] == pointer


# --- methods --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "orders/", "GET, POST, HEAD, OPTIONS"),
        ("PUT", "orders/1/", "GET, HEAD, OPTIONS"),
        ("PATCH", "kpis/cycle/", "GET, HEAD, OPTIONS"),
        ("DELETE", "stock/1/", "GET, HEAD, OPTIONS"),
        ("GET", "orders/1/cancel/", "POST, OPTIONS"),
        ("POST", "orders/1/address/", "PATCH, OPTIONS"),
        ("PUT", "products/1/", "GET, PATCH, HEAD, OPTIONS"),
        ("DELETE", "suppliers/1/", "GET, HEAD, OPTIONS"),
        ("TRACE", "webhooks/", "GET, POST, HEAD, OPTIONS"),
    ],
)
def test_a_method_that_is_not_there_answers_405_with_those_that_are(
    api: APIClient, method: str, path: str, allowed: str
) -> None:
    answer: Any = api.generic(method, V1 + path, b"{}", "application/json")
    assert answer.status_code == 405, answer.content
    assert set(answer["Allow"].split(", ")) == set(allowed.split(", "))
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:lading:method_not_allowed"


def test_who_shows_no_token_is_not_told_the_methods(mug: Sku) -> None:
    assert APIClient().delete(f"{V1}orders/").status_code == 401
    reader = bearer(make_user("rita", "owner"), "stock:read")
    assert reader.delete(f"{V1}orders/").status_code == 405, "it is not there for anybody"
    assert reader.post(f"{V1}orders/", {}).status_code == 403


# --- choices --------------------------------------------------------------------------------------


def test_a_choice_that_is_none_names_those_that_are(api: APIClient, mug: Sku) -> None:
    bulk = f"{V1}orders/bulk/"
    refused(api.post(bulk, {"action": "eat", "ids": [1]}), "action: Choose from hold, ", "/action")
    refused(api.post(bulk, {"action": 5, "ids": [1]}), "action: Give text.", "/action")
    cup = {"code": "A", "product": mug.product_id, "kind": "cup"}
    refused(api.post(f"{V1}skus/", cup), "kind: Choose from stock, ", "/kind")
    refused(api.get(f"{V1}orders/?state=lost"), "state: Choose from pending, open, routed", "/state")
    ChannelAccount.objects.create(sales_channel=make_channel("shop"), connector="shopify", state="connected")
    causes = {"auto_heal": ["edited", "magic"]}
    told = api.post(f"{V1}channels/shop/healing/", causes)
    refused(told, "auto_heal.1: Choose from edited, ", "/auto_heal/1")


# --- amounts --------------------------------------------------------------------------------------


def order(**changes: Any) -> dict[str, Any]:
    return {
        "channel": "tokyo",
        "lines": [{"sku": "MUG", "quantity": 1, "unit_price": "150"}],
        "contact": {"name": "Ana", "address1": "1 Main St", "city": "Reno", "region": "NV", "country": "US",
                    "postal_code": "89431"},
        **changes,
    }  # fmt: skip


def lines(price: str, quantity: int = 1, **more: str) -> dict[str, Any]:
    return {"lines": [{"sku": "MUG", "quantity": quantity, "unit_price": price, **more}]}


@pytest.mark.parametrize(
    ("changes", "words", "pointer"),
    [
        ({"shipping": "1.55"}, "shipping: 1.55 is no amount in JPY; give no decimals.", "/shipping"),
        ({"discount": "0.5"}, "discount: 0.50 is no amount in JPY", "/discount"),
        (lines("9.9"), "1 × 9.90 = 9.90 is no amount in JPY", "/lines/0/unit_price"),
        (lines("9", tax="0.1"), "lines.0.tax: 0.10 is no amount in JPY", "/lines/0/tax"),
        (
            {"currency": "USD", "shipping": "1.555"},
            "1.5550 is no amount in USD; give at most 2 decimals.",
            "/shipping",
        ),
    ],
)
def test_an_order_holds_no_amount_that_nobody_can_pay(
    api: APIClient, mug: Sku, changes: dict[str, Any], words: str, pointer: str
) -> None:
    refused(api.post(f"{V1}orders/", order(**changes)), words, pointer)
    assert not Order.objects.exists()


def test_a_unit_may_cost_less_than_a_coin_and_is_shown_as_it_is(api: APIClient, mug: Sku) -> None:
    made = api.post(f"{V1}orders/", order(**lines("0.125", 8)))
    assert made.status_code == 201, made.content
    body = made.json()
    assert body["lines"][0]["unit_price"] == {"amount": "0.125", "currency": "JPY"}
    assert body["total"] == {"amount": "1", "currency": "JPY"}


def test_a_bill_of_freight_is_whole_coins(api: APIClient, mug: Sku) -> None:
    buy = {"supplier": "KILN", "warehouse": "EAST", **lines("1.55", 2)}
    made = api.post(f"{V1}purchase-orders/", buy).json()
    assert made["lines"][0]["unit_price"] == {"amount": "1.55", "currency": "JPY"}, (
        "not rounded in the answer"
    )
    charge = {"kind": "freight", "basis": "value", "amount": "10.5"}
    answer = api.post(f"{V1}purchase-orders/{made['id']}/charges/", charge)
    refused(answer, "amount: 10.50 is no amount in JPY; give no decimals.", "/amount")
    assert not LandedCharge.objects.exists()


@pytest.mark.parametrize(
    ("amount", "currency", "fits"),
    [
        ("1", "JPY", True),
        ("1.50", "JPY", False),
        ("0.001", "KWD", True),
        ("0.0001", "KWD", False),
        ("-2.50", "USD", True),
    ],
)
def test_the_coins_of_a_currency(amount: str, currency: str, fits: bool) -> None:
    if fits:
        check_coins("amount", Decimal(amount), currency)
        return
    with pytest.raises(UserError, match="is no amount in") as caught:
        check_coins("amount", Decimal(amount), currency)
    assert caught.value.field == "amount"


# --- dates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", ["0001-01-01", "1999-12-31", "2101-01-01", "9999-12-31"])
def test_a_date_that_cannot_be_is_refused(api: APIClient, mug: Sku, day: str) -> None:
    words = f"{day} is not possible; use a date from 2000 to 2100."
    buy, url = {"supplier": "KILN", "warehouse": "EAST", **lines("1")}, f"{V1}purchase-orders/"
    refused(api.post(url, {**buy, "expected_on": day}), f"expected_on: {words}", "/expected_on")
    assert not PurchaseOrder.objects.exists()
    one = f"{url}{api.post(url, buy).json()['id']}/"
    assert [api.post(f"{one}{step}/").status_code for step in ("approve", "send")] == [200, 200]
    refused(api.post(f"{one}confirm/", {"expected_on": day}), words, "/expected_on")
    move = {"source": "EAST", "destination": "WEST", "lines": {"MUG": 1}, "expected_on": day}
    refused(api.post(f"{V1}transfers/", move), f"expected_on: {words}", "/expected_on")
    assert not Transfer.objects.exists()


def test_a_moment_that_cannot_be_is_refused_too(api: APIClient, mug: Sku) -> None:
    never = "9999-12-31T00:00:00Z"
    fence = {"sku": "MUG", "channel": "phone", "quantity": 1, "ends_at": never}
    refused(api.post(f"{V1}ring-fences/", fence), "ends_at: 9999-12-31 is not possible", "/ends_at")
    assert not RingFence.objects.exists()
    made = api.post(f"{V1}orders/", order()).json()
    hold = {"reason": "person", "expires_at": never}
    refused(api.post(f"{V1}orders/{made['id']}/hold/", hold), "expires_at: 9999-12-31 is not", "/expires_at")
    assert not Hold.objects.exists()
    plausible("day", None)
