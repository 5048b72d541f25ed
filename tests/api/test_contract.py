"""The REST interface held against its own description, and the exact answers to what integrators get wrong."""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid
from typing import Any

import pytest
from rest_framework.test import APIClient

from inventory.models import Sku, Warehouse
from oms.core import tokens
from oms.core.actor import SYSTEM
from oms.core.api.auth import TokenThrottle
from oms.core.clock import now
from oms.core.models import ApiToken, User
from oms.core.roles import SCOPES
from oms.orders.models import Order, SalesChannel
from procurement.models import Supplier
from returns.models import Rma
from tests.factories import add_stock, make_channel, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db
PROBLEM = "application/problem+json"


@pytest.fixture(autouse=True)
def _no_rate_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenThrottle, "rate", "1000000/min", raising=False)


@pytest.fixture
def east() -> Warehouse:
    return make_warehouse("EAST")


@pytest.fixture
def west() -> Warehouse:
    return make_warehouse("WEST")


@pytest.fixture
def mug(east: Warehouse, west: Warehouse) -> Sku:
    sku = make_sku("MUG", weight_g=300)
    add_stock(sku, east, 50)
    add_stock(sku, west, 50)
    return sku


@pytest.fixture
def phone(east: Warehouse) -> SalesChannel:
    return make_channel("phone", east, kind="manual", prefix="PH")


@pytest.fixture
def kiln() -> Supplier:
    return Supplier.objects.create(code="KILN", name="Kiln", currency="USD", lead_time_days=7)


@pytest.fixture
def owner() -> User:
    return make_user("olga", "owner")


def bearer(user: User, *scopes: str, **limits: Any) -> APIClient:
    api = APIClient()
    _, text = tokens.issue(user, "test", scopes or sorted(SCOPES), actor=SYSTEM, **limits)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return api


@pytest.fixture
def api(owner: User) -> APIClient:
    return bearer(owner)


def order_body(**changes: Any) -> dict[str, Any]:
    return {
        "channel": "phone",
        "lines": [{"sku": "MUG", "quantity": 2, "unit_price": "12.50"}],
        "contact": {"name": "Ana Ruiz", "address1": "1 Main St", "city": "Boston", "region": "MA", "country": "US",
                    "postal_code": "02108"},
        **changes,
    }  # fmt: skip


def refused(answer: Any, status: int, words: str) -> None:
    """The answer is a problem document of that status whose sentence holds the words."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == PROBLEM
    assert words in answer.json()["detail"]


# --- the description ------------------------------------------------------------------------------


def description(api: APIClient) -> dict[str, Any]:
    return dict(json.loads(api.get("/api/schema/?format=json").content))


def test_every_operation_names_its_errors_as_problem_documents(api: APIClient) -> None:
    document = description(api)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            wanted = {"400", "401", "403", "404", "406", "429"}
            wanted |= set() if method == "get" else {"409", "413", "415"}
            wanted |= {"422"} if method == "post" else set()
            assert wanted <= set(operation["responses"]), f"{method} {path}"
            for status in wanted:
                media = operation["responses"][status]["content"]
                assert media == {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            names = {parameter["name"] for parameter in operation.get("parameters", [])}
            assert ("Idempotency-Key" in names) == (method == "post"), f"{method} {path}"
    cancel = document["paths"]["/api/v1/orders/{id}/cancel/"]["post"]
    assert "412" in cancel["responses"] and "If-Match" in {one["name"] for one in cancel["parameters"]}


def test_two_bodies_of_one_name_stay_apart(api: APIClient) -> None:
    schemas = description(api)["components"]["schemas"]
    assert set(schemas["PurchaseReceiveRequest"]["properties"]) == {"key", "lines", "delivery_note"}
    assert set(schemas["ReturnReceiveRequest"]["properties"]) == {"key", "lines", "wrong_because"}
    assert schemas["ReturnReceiveRequest"]["properties"]["lines"]["minItems"] == 1


# --- wrong requests -------------------------------------------------------------------------------


def raw(api: APIClient, text: str | bytes, url: str = "/api/v1/stock/adjust/") -> Any:
    return api.post(url, data=text, content_type="application/json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a":', "JSON parse error"),
        ("[" * 100_000, "nested too deep"),
        (b'{"sku":"\xff"}', "JSON parse error"),
        ('{"quantity":NaN}', "JSON parse error"),
        ('{"quantity":' + "9" * 6000 + "}", "JSON parse error"),
        ("[]", "Expected a dictionary"),
        ("null", "No data provided"),
    ],
    ids=["cut", "deep", "bytes", "nan", "digits", "list", "null"],
)
def test_a_body_that_is_no_object_is_refused(api: APIClient, text: str | bytes, words: str) -> None:
    refused(raw(api, text), 400, words)


def test_a_body_beyond_the_limit_and_another_media_type(api: APIClient, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 2**20
    refused(raw(api, " " * (2**20 + 1)), 413, "bigger than 1 MiB")
    patch = api.patch("/api/v1/products/1/", data=" " * (2**20 + 1), content_type="application/json")
    refused(patch, 413, "bigger than 1 MiB")
    form = api.post("/api/v1/stock/adjust/", "a=b", content_type="application/x-www-form-urlencoded")
    refused(form, 415, "Content-Type: send the body as application/json.")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("orders/?colour=red", "colour: Unknown parameter."),
        ("stock/as-of/?at=2026-11-23T08:00:00Z&sku=MUG&x=1", "x: Unknown parameter. Known are at, sku."),
        ("orders/?placed_after=0001-01-01T00:00:00%2B14:00", "placed_after: The time is out of range."),
        ("orders/?placed_before=9999-12-31T23:59:59-14:00", "placed_before: The time is out of range."),
        ("movements/?updated_since=0001-01-01T00:00:00%2B14:00", "updated_since: Give a time with zone"),
        ("skus/?product=" + "9" * 40, "product: The number is out of range."),
        ("skus/?is_active=perhaps", "is_active: Give true or false."),
        ("stock/?sku=%00", "sku: Null characters are not allowed."),
        ("stock/as-of/?at=2026-11-23T08:00:00Z&sku=%00", "Null characters are not allowed."),
    ],
)
def test_a_parameter_that_means_nothing_is_refused(api: APIClient, mug: Sku, url: str, words: str) -> None:
    refused(api.get(f"/api/v1/{url}"), 400, words)


@pytest.mark.parametrize(
    ("resource", "values"),
    [
        ("movements", ["-id", None]),
        ("movements", ["-id", 10**40]),
        ("movements", ["-id", "x"]),
        ("orders", ["-placed_at,-id", None, None]),
        ("orders", ["-placed_at,-id", "0001-01-01T00:00:00+14:00", 5]),
        ("orders", ["-placed_at,-id", "2026-11-23T08:00:00", 5]),
    ],
)
def test_a_cursor_made_by_hand_is_refused(api: APIClient, resource: str, values: list[Any]) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")
    refused(api.get(f"/api/v1/{resource}/?cursor={cursor}"), 400, "cursor: it does not belong to this list")


@pytest.mark.parametrize(
    "path",
    ["orders/abc/", "orders/" + "9" * 30 + "/", "reservations/0/", "shipments/1/label-file/gif/", "nowhere/"],
)
def test_an_address_that_leads_nowhere_answers_as_json(api: APIClient, path: str) -> None:
    refused(api.get(f"/api/v1/{path}"), 404, f"There is nothing at /api/v1/{path}.")


def test_a_missing_slash_is_told_and_never_turns_a_post_into_a_get(
    api: APIClient, phone: SalesChannel
) -> None:
    refused(api.post("/api/v1/orders", order_body()), 404, "Addresses of the API end with '/'.")
    refused(api.get("/api/v1/orders"), 404, "Addresses of the API end with '/'.")
    assert not Order.objects.exists()


@pytest.mark.parametrize("quantity", [-1, 0, 10**30, "two", 1.5])
def test_a_quantity_that_is_none_is_pointed_at(api: APIClient, mug: Sku, quantity: Any) -> None:
    body = {"reference": "cart", "warehouses": ["EAST"], "lines": [{"sku": "MUG", "quantity": quantity}]}
    answer = api.post("/api/v1/reservations/", body)
    refused(answer, 400, "lines.0.quantity:")
    assert answer.json()["errors"][0]["pointer"] == "/lines/0/quantity"


@pytest.mark.parametrize("key", ["\\ud800", "\\u0000", "", "x" * 90])
def test_a_key_of_components_follows_the_rules_of_text(api: APIClient, mug: Sku, key: str) -> None:
    answer = raw(api, f'{{"components": {{"{key}": 1}}}}', f"/api/v1/skus/{mug.pk}/components/")
    assert (answer.status_code, answer["Content-Type"]) == (400, PROBLEM)


# --- whose token, and where it holds --------------------------------------------------------------


def test_no_token_a_dead_one_and_one_without_the_scope(owner: User) -> None:
    refused(APIClient().get("/api/v1/orders/"), 401, "Authorization: send a token, as 'Bearer oms_…'.")
    dead = bearer(owner, "orders:read")
    ApiToken.objects.update(expires_at=now() - dt.timedelta(seconds=1))
    refused(dead.get("/api/v1/orders/"), 401, "unknown, expired, revoked")
    gone = bearer(owner, "orders:read")
    tokens.revoke(ApiToken.objects.latest("pk").pk, actor=SYSTEM)
    refused(gone.get("/api/v1/orders/"), 401, "unknown, expired, revoked")
    refused(bearer(owner, "orders:read").post("/api/v1/orders/", {}), 403, "scope 'orders:write'")


def test_a_token_of_one_warehouse_finds_nothing_of_another(
    owner: User, api: APIClient, mug: Sku, kiln: Supplier
) -> None:
    line = {"sku": "MUG", "quantity": 1}
    body = {"supplier": "KILN", "warehouse": "WEST", "lines": [{**line, "unit_price": "1"}]}
    purchase = api.post("/api/v1/purchase-orders/", body).json()
    held = api.post(
        "/api/v1/reservations/", {"reference": "c", "warehouses": ["WEST"], "lines": [line]}
    ).json()
    stock = api.get("/api/v1/stock/?warehouse=WEST").json()["results"][0]
    east_only = bearer(owner, warehouses=["EAST"])
    for address in (
        f"purchase-orders/{purchase['id']}",
        f"reservations/{held['reservations'][0]['id']}",
        f"stock/{stock['id']}",
        "warehouses/WEST",
    ):
        assert api.get(f"/api/v1/{address}/").status_code == 200
        assert east_only.get(f"/api/v1/{address}/").status_code == 404
    assert east_only.post(f"/api/v1/purchase-orders/{purchase['id']}/approve/").status_code == 404
    assert east_only.delete(f"/api/v1/reservations/{held['reservations'][0]['id']}/").status_code == 404
    assert east_only.get("/api/v1/stock/?warehouse=WEST").json()["results"] == []
    adjust = {"sku": "MUG", "warehouse": "WEST", "quantity": 1, "reason": "count"}
    assert east_only.post("/api/v1/stock/adjust/", adjust).status_code == 404


@pytest.mark.parametrize(
    ("role", "step", "right"),
    [("threepl", "rates", "buy and void labels"), ("threepl", "label", "buy and void labels")],
)
def test_a_step_of_a_shipment_needs_its_own_right(
    api: APIClient, mug: Sku, phone: SalesChannel, role: str, step: str, right: str
) -> None:
    from fulfillment.models import Shipment

    order = Order.objects.get(pk=api.post("/api/v1/orders/", order_body()).json()["id"])
    shipment = Shipment.objects.create(order=order, warehouse=Warehouse.objects.get(code="EAST"))
    scanner = bearer(make_user("tess", role), "shipments:read", "shipments:write")
    refused(scanner.post(f"/api/v1/shipments/{shipment.pk}/{step}/", {}), 403, right)
    found = scanner.get(f"/api/v1/shipments/?order={order.pk}").json()["results"]
    assert [one["id"] for one in found] == [shipment.pk]
    assert scanner.get(f"/api/v1/shipments/?order={order.pk + 1}").json()["results"] == []


@pytest.mark.parametrize("key", ["²", "abc", "", "9" * 40])
def test_a_box_names_lines_by_their_id(api: APIClient, mug: Sku, phone: SalesChannel, key: str) -> None:
    from fulfillment.models import Shipment

    order = Order.objects.get(pk=api.post("/api/v1/orders/", order_body()).json()["id"])
    shipment = Shipment.objects.create(order=order, warehouse=Warehouse.objects.get(code="EAST"))
    answer = api.post(f"/api/v1/shipments/{shipment.pk}/pack/", {"boxes": [{"items": {key: 1}}]})
    assert (answer.status_code, answer["Content-Type"]) == (400, PROBLEM)


@pytest.mark.parametrize(
    ("step", "body"),
    [
        ("receive", {"key": "k", "lines": [{"line": 1, "quantity": 1}]}),
        (
            "inspect",
            {"key": "k", "verdicts": [{"line": 1, "quantity": 1, "condition": "new", "outcome": "restock"}]},
        ),
        ("close", {}),
    ],
)
def test_who_may_only_refund_does_not_handle_the_goods(
    east: Warehouse, step: str, body: dict[str, Any]
) -> None:
    item = Rma.objects.create(warehouse=east)
    finance = bearer(make_user("fay", "finance"), "returns:read", "returns:write")
    assert finance.get(f"/api/v1/returns/{item.pk}/").status_code == 200
    refused(finance.post(f"/api/v1/returns/{item.pk}/{step}/", body), 403, "receive and inspect returns")
    assert Rma.objects.get(pk=item.pk).state == item.state


# --- once, and in step ----------------------------------------------------------------------------


def test_an_order_placed_twice_with_one_key_stands_once(
    api: APIClient, mug: Sku, phone: SalesChannel
) -> None:
    key = {"HTTP_IDEMPOTENCY_KEY": str(uuid.uuid4())}
    first = api.post("/api/v1/orders/", order_body(), **key)
    again = api.post("/api/v1/orders/", order_body(), **key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again["Idempotent-Replayed"] == "true" and again.json() == first.json()
    refused(api.post("/api/v1/orders/", order_body(shipping="1.00"), **key), 422, "used with another body")
    assert Order.objects.count() == 1


def test_a_cancellation_on_a_stale_version_changes_nothing(
    api: APIClient, mug: Sku, phone: SalesChannel
) -> None:
    order = api.post("/api/v1/orders/", order_body()).json()
    address = f"/api/v1/orders/{order['id']}/cancel/"
    stale = api.post(address, {"reason": "buyer"}, HTTP_IF_MATCH=f'"{order["version"] + 1}"')
    refused(stale, 412, "Someone changed this since you read it")
    assert Order.objects.get(pk=order["id"]).state == order["state"]
    assert api.post(address, {"reason": "buyer"}, HTTP_IF_MATCH=f'"{order["version"]}"').status_code == 200
    assert Order.objects.get(pk=order["id"]).state == "cancelled"
