"""A refusal points at what the caller wrote, at its place in the list; and at nothing where no member is to blame.

That no pointer of any test names something that was not sent is checked around every request: see pointing.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from fulfillment.models import Shipment
from inventory.models import Sku, Warehouse
from oms.core import tokens
from oms.core.actor import SYSTEM
from oms.core.api.problems import place_of
from oms.core.roles import SCOPES
from oms.orders.models import Order
from procurement.models import Supplier
from returns.models import Rma
from tests.api.pointing import leads_nowhere
from tests.factories import add_stock, make_channel, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db
V1 = "/api/v1/"
LINE = {"sku": "MUG", "quantity": 5, "unit_price": "10.00"}
TO = {
    "name": "A", "address1": "1 Main St", "city": "Boston", "region": "MA", "postal_code": "02108", "country": "US",
}  # fmt: skip


@pytest.fixture
def api() -> APIClient:
    api = APIClient()
    _, text = tokens.issue(make_user("olga"), "test", sorted(SCOPES), actor=SYSTEM)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    east = make_warehouse("EAST")
    make_warehouse("WEST")
    add_stock(make_sku("MUG", weight_g=300), east, 50)
    make_sku("V1.5")
    make_channel("phone", east, kind="manual", prefix="PH")
    Supplier.objects.create(code="KILN", name="Kiln", currency="USD", lead_time_days=7)
    return api


def points(api: APIClient, path: str, body: Any, *, status: int) -> list[str]:
    answer = api.post(V1 + path, body, format="json")
    assert answer.status_code == status, answer.content
    return [one["pointer"] for one in answer.json().get("errors", [])]


def order(api: APIClient) -> dict[str, Any]:
    body = {"channel": "phone", "lines": [LINE, {**LINE, "quantity": 1}], "contact": TO}
    made: dict[str, Any] = api.post(f"{V1}orders/", body, format="json").json()
    return made


def test_a_state_that_forbids_the_step_is_no_member(api: APIClient) -> None:
    task = api.post(f"{V1}counts/", {"warehouse": "EAST", "sku": "MUG"}, format="json").json()["id"]
    assert api.post(f"{V1}counts/{task}/cancel/").status_code == 200
    assert points(api, f"counts/{task}/submit/", {"counted": 3}, status=409) == []


def test_of_many_the_wrong_one_is_named(api: APIClient) -> None:
    made = order(api)
    gone = order(api)
    assert api.post(f"{V1}orders/{gone['id']}/cancel/", {"reason": "buyer"}, format="json").status_code == 200
    told = api.post(
        f"{V1}orders/bulk/", {"action": "hold", "ids": [made["id"], gone["id"]], "note": "x"}, format="json"
    ).json()  # fmt: skip
    assert [one["pointer"] for one in told["results"]] == ["", "/ids/1"], told


def test_lines_of_an_order_and_of_a_return(api: APIClient) -> None:
    made = order(api)
    first, second = (line["id"] for line in made["lines"])
    lines = [{"line": first, "quantity": 1}, {"line": second, "quantity": 9}]
    at = f"orders/{made['id']}"
    cancel = {"reason": "buyer", "lines": lines}
    assert points(api, f"{at}/cancel/", cancel, status=409) == ["/lines/1/quantity"]
    assert points(api, f"{at}/split/", {"reason": "x", "lines": lines}, status=409) == ["/lines/0/quantity"]
    items = [{"line": first, "quantity": 1}]
    asked = {"order": made["id"], "warehouse": "EAST", "items": items}
    assert points(api, "returns/", asked, status=409) == ["/items/0/quantity"]
    stranger = {**asked, "items": [{"line": 10**9, "quantity": 1}]}
    assert points(api, "returns/", stranger, status=400) == ["/items/0/line"]
    why = {**asked, "items": [{**items[0], "reason": "no_such"}]}
    assert points(api, "returns/", why, status=400) == ["/items/0/reason"]


def test_a_refund_and_a_parcel_that_nobody_announced(api: APIClient) -> None:
    made = order(api)
    item = Rma.objects.create(
        warehouse=Warehouse.objects.get(code="EAST"), order=Order.objects.get(pk=made["id"])
    )
    line = made["lines"][1]["id"]
    many = {"key": "k", "items": [{"line": line, "quantity": 1, "amount": "99.00"}]}
    assert points(api, f"returns/{item.pk}/refund/", many, status=409) == ["/items/0/amount"]
    nothing = {"key": "k", "items": [{"line": line, "quantity": 1, "amount": "0.00"}]}
    assert points(api, f"returns/{item.pk}/refund/", nothing, status=400) == ["/items"]
    came = {"key": "k", "lines": [{"line": 10**9, "quantity": 1}]}
    Rma.objects.filter(pk=item.pk).update(state=Rma.State.APPROVED)
    assert points(api, f"returns/{item.pk}/receive/", came, status=400) == ["/lines/0/line"]
    blind = {
        "key": "b",
        "warehouse": "EAST",
        "items": [{"sku": "MUG", "quantity": 1}, {"sku": "X", "quantity": 1}],
    }
    assert points(api, "returns/blind/", blind, status=400) == ["/items/1/sku"]


def test_a_map_of_skus_is_named_by_its_key(api: APIClient) -> None:
    asked = {"source": "EAST", "destination": "WEST", "lines": {"MUG": 2}}
    moved = api.post(f"{V1}transfers/", asked, format="json").json()["id"]
    assert points(api, "transfers/", {**asked, "lines": {"NO.PE": 1}}, status=400) == ["/lines/NO.PE"]
    assert points(api, "transfers/", {**asked, "destination": "X"}, status=400) == ["/destination"]
    assert api.post(f"{V1}transfers/{moved}/ship/", {}, format="json").status_code == 200
    many = {"key": "k", "lines": {"MUG": 3}}
    assert points(api, f"transfers/{moved}/receive/", many, status=409) == ["/lines/MUG"]
    other = {"key": "k", "lines": {"V1.5": 1}}
    assert points(api, f"transfers/{moved}/receive/", other, status=400) == ["/lines/V1.5"]
    kit = api.post(
        f"{V1}skus/{Sku.objects.get(code='V1.5').pk}/components/", {"components": {"X": 1}}, format="json"
    )
    assert kit.json()["errors"][0]["pointer"] == "/components/X"


def test_holds_purchases_and_files(api: APIClient) -> None:
    lines = [{"sku": "MUG", "quantity": 1}, {"sku": "MUG", "quantity": 99}]
    held = {"reference": "c", "warehouses": ["EAST"], "whole_only": True, "lines": lines}
    assert points(api, "reservations/", held, status=409) == ["/lines/1/quantity"]
    held["lines"] = [{"sku": "X", "quantity": 1}]
    assert points(api, "reservations/", held, status=400) == ["/lines/0/sku"]
    bought = {
        "supplier": "KILN",
        "warehouse": "EAST",
        "lines": [{"sku": "MUG", "quantity": 1, "unit_price": "1.00"}],
    }
    priceless = {**bought, "lines": [*bought["lines"], {"sku": "V1.5", "quantity": 1}]}
    assert points(api, "purchase-orders/", priceless, status=400) == ["/lines/1/unit_price"]
    made = api.post(f"{V1}purchase-orders/", bought, format="json").json()
    for step in ("approve", "send"):
        api.post(f"{V1}purchase-orders/{made['id']}/{step}/")
    arrived = {"key": "k", "lines": [{"line": made["lines"][0]["id"], "good": 7}]}
    assert points(api, f"purchase-orders/{made['id']}/receive/", arrived, status=409) == ["/lines/0"]
    assert points(api, "imports/", {"kind": "stock", "name": "a.csv", "content": " "}, status=400) == [
        "/content"
    ]


def test_a_box_that_weighs_nothing(api: APIClient) -> None:
    made = Order.objects.get(pk=order(api)["id"])
    shipment = Shipment.objects.create(
        order=made, warehouse=Warehouse.objects.get(code="EAST"), state=Shipment.State.PICKING
    )
    body = {"boxes": [{"items": {"5": 1}}]}
    assert points(api, f"shipments/{shipment.pk}/pack/", body, status=400) == ["/boxes/0/items"]


def test_a_place_is_followed_as_far_as_the_body_goes() -> None:
    body = {"lines": [{"sku": "A.B"}], "counts": {"A.B": 1}}
    assert place_of("lines.0.sku", body) == "/lines/0/sku"
    assert place_of("lines.0.quantity", body) == "/lines/0"
    assert place_of("lines.4", body) == "/lines"
    assert place_of("counts.A.B.quantity", body) == "/counts/A.B"
    assert place_of("state", body) == "" == place_of("state", [])


def test_the_check_around_each_request_finds_what_was_not_sent() -> None:
    at = f"{V1}orders/"
    assert leads_nowhere("POST", at, {}, {"lines": [{}]}, "/state")
    assert leads_nowhere("POST", at, {}, {"lines": [{}]}, "/lines/1/sku")
    assert leads_nowhere("POST", at, {}, {"lines": [{}]}, "/lines/0/colour")
    assert not leads_nowhere("POST", at, {}, {"lines": [{}]}, "/lines/0/sku")  # left out
    assert not leads_nowhere("GET", at, {"limit": "x"}, None, "/limit")
