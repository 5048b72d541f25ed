"""What clients of other makes send: bodies in chunks or compressed, values given twice, times without a zone."""

from __future__ import annotations

import gzip
import json
import re
from io import BytesIO
from typing import Any

import pytest
from rest_framework.test import APIClient

from inventory.models import Product
from oms.core import bodies, tokens
from oms.core.actor import SYSTEM
from oms.core.api.auth import TokenThrottle
from oms.core.bodies import Measured
from oms.core.roles import SCOPES
from oms.orders.models import Order
from procurement.models import Supplier
from tests.factories import add_stock, make_channel, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db
V1 = "/api/v1/"


@pytest.fixture
def api() -> APIClient:
    api = APIClient()
    _, text = tokens.issue(make_user("olga"), "test", sorted(SCOPES), actor=SYSTEM)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return api


def refused(answer: Any, status: int, words: str, pointer: str = "") -> None:
    assert answer.status_code == status, answer.content
    assert words in answer.json()["detail"]
    if pointer:
        assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("body", "kind", "seen"),
    [
        (b"12345", "application/json", (b"12345", "5")),
        (b"1234567", "application/json", (b"123456", "6")),  # one more than `most`, which Django refuses
        (b"12345", "multipart/form-data; boundary=x", (b"12345", None)),
    ],
)
def test_a_body_in_chunks_gets_its_length(body: bytes, kind: str, seen: Any) -> None:
    """.NET and streaming clients send no Content-Length; Django alone would read nothing and take {} for it."""
    environ = {"HTTP_TRANSFER_ENCODING": "Chunked", "CONTENT_TYPE": kind, "wsgi.input": BytesIO(body)}
    found: list[Any] = []

    def inner(environ: dict[str, Any], start: Any) -> list[bytes]:
        found.append((environ["wsgi.input"].read(), environ.get("CONTENT_LENGTH")))
        return []

    Measured(inner, most=5)(environ, None)  # type: ignore[arg-type]
    assert found == [seen]


def test_a_body_that_is_too_big_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most clients write everything before they read an answer, and would see a broken pipe in place of the 413."""
    monkeypatch.setattr(bodies, "READ_AWAY", 200_000)

    def left(sent: int) -> int:
        body = BytesIO(b"x" * sent)
        environ = {"CONTENT_LENGTH": str(sent), "CONTENT_TYPE": "application/json", "wsgi.input": body}
        Measured(lambda environ, start: [b"413"], most=100)(environ, None)  # type: ignore[arg-type]
        return len(body.read())

    assert [left(sent) for sent in (100, 101, 150_000, 250_000)] == [100, 0, 0, 50_000]


def test_the_web_server_runs_it() -> None:
    from oms.wsgi import application

    assert isinstance(application, Measured)


def test_a_compressed_body_is_refused_by_its_header(api: APIClient) -> None:
    packed = gzip.compress(json.dumps({"title": "Rope"}).encode())
    answer = api.generic("POST", f"{V1}products/", packed, "application/json", HTTP_CONTENT_ENCODING="gzip")
    refused(answer, 415, "Content-Encoding")
    plain = b'{"title": "Rope"}'
    answer = api.generic(
        "POST", f"{V1}products/", plain, "application/json", HTTP_CONTENT_ENCODING="identity"
    )
    assert answer.status_code == 201 and Product.objects.get().title == "Rope"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("shipments/?order=1.5", "order: Give a whole number."),
        ("shipments/?order=", "order: Give a whole number."),
        ("orders/?placed_after=", "placed_after: Give a time with zone"),
        ("shipments/?order=1e3", "order: Give a whole number."),
        ("skus/?product=1.0", "product: Give a whole number."),
        ("orders/?state=open&state=routed", "state: It is given more than once"),
        ("orders/?limit=1&limit=2", "limit: It is given more than once"),
        ("orders/?placed_after=2026-11-26T10:00:00", "placed_after: Give a time with zone"),
    ],
)
def test_a_filter_never_takes_part_of_what_was_said(api: APIClient, path: str, words: str) -> None:
    refused(api.get(V1 + path), 400, words)


def test_a_time_in_a_body_carries_its_zone(api: APIClient) -> None:
    body = {"url": "https://example.com/h", "events": ["order.created"]}
    hook = api.post(f"{V1}webhooks/", body, format="json").json()["id"]
    span = {"since": "2026-11-26T00:00:00", "until": "2026-11-27T00:00:00Z"}
    answer = api.post(f"{V1}webhooks/{hook}/replay/", span, format="json")
    refused(answer, 400, "since: Give a time with zone", "/since")
    span["since"] += "+02:00"
    assert api.post(f"{V1}webhooks/{hook}/replay/", span, format="json").status_code == 200


def test_an_accept_that_nobody_serves_is_told_what_is_served(api: APIClient) -> None:
    refused(api.get(f"{V1}orders/", HTTP_ACCEPT="text/html"), 406, "answers application/json")


def test_an_empty_accept_is_one_left_out(api: APIClient) -> None:
    assert api.get(f"{V1}orders/", HTTP_ACCEPT="").status_code == 200
    assert api.get(f"{V1}orders/", HTTP_ACCEPT=" , ").status_code == 200


@pytest.mark.parametrize("kind", ["xml", "json"])
def test_nobody_chooses_a_representation_by_parameter(api: APIClient, kind: str) -> None:
    for answer in (
        api.get(f"{V1}orders/?format={kind}"),
        api.post(f"{V1}products/?format={kind}", {"title": "Rope"}, format="json"),
    ):
        refused(
            answer, 400, "format: This address answers application/json; leave the parameter out.", "/format"
        )
    assert api.get(f"/api/schema/?format={kind}").status_code == (200 if kind == "json" else 400)


def test_a_host_that_is_not_ours_is_told_as_a_problem(api: APIClient, client: Any) -> None:
    answer = api.get(f"{V1}orders/", HTTP_HOST="evil.example")
    refused(answer, 400, "Host: this server does not answer under that name")
    assert answer["Content-Type"] == "application/problem+json"
    page = client.get("/", HTTP_HOST="evil.example")
    assert page.status_code == 400 and page["Content-Type"].startswith("text/html")


def test_an_address_beside_the_interface_is_told_as_a_problem(api: APIClient, client: Any) -> None:
    answer = api.get("/api/v2/orders/")
    refused(answer, 404, "There is nothing at /api/v2/orders/.")
    assert answer["Content-Type"] == "application/problem+json"
    page = client.get("/nowhere/")
    assert page.status_code == 404 and page["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    "body", [b'{"title": "A", "title": "B"}', b'{"title": "A", "notes": {"x": 1, "x": 2}}']
)
def test_a_member_given_twice_is_refused(api: APIClient, body: bytes) -> None:
    answer = api.generic("POST", f"{V1}products/", body, "application/json")
    refused(answer, 400, "this member is given twice in one object")
    assert not Product.objects.exists()


def test_the_rate_is_told_with_each_answer(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenThrottle, "rate", "3/min", raising=False)
    told = [api.get(f"{V1}orders/") for _ in range(4)]
    assert [answer.status_code for answer in told] == [200, 200, 200, 429]
    assert {answer["RateLimit-Policy"] for answer in told} == {'"token";q=3;w=60'}
    assert [answer["RateLimit"].split(";")[1] for answer in told] == ["r=2", "r=1", "r=0", "r=0"]
    assert all(1 <= int(answer["RateLimit"].rpartition("=")[2]) <= 60 for answer in told)
    assert re.fullmatch(r"Too many requests: ask again in \d+ s; .*", told[3].json()["detail"])
    refusal = api.post(f"{V1}orders/", {}, format="json")
    assert refusal["RateLimit"].startswith('"token";r=0')


def test_a_file_name_of_another_kind_is_told_which_are_read(api: APIClient) -> None:
    body = {"kind": "stock", "name": "count.xlsx", "content": "sku\n"}
    refused(api.post(f"{V1}imports/", body, format="json"), 400, "ends with .csv, .tsv or .txt", "/name")


def test_an_order_sent_again_without_its_key_is_not_sent_to_hold_once_more(api: APIClient) -> None:
    """Its hold went into the first order: the answer names the order, not the hold."""
    east = make_warehouse("EAST")
    add_stock(make_sku("MUG"), east, 9)
    make_channel("phone", east, kind="manual", prefix="PH")
    held = {"reference": "cart-1", "warehouses": ["EAST"], "lines": [{"sku": "MUG", "quantity": 1}]}
    assert api.post(f"{V1}reservations/", held, format="json").status_code == 201
    body = {
        "channel": "phone", "external_id": "w1", "hold": "cart-1",
        "lines": [{"sku": "MUG", "quantity": 1, "unit_price": "5.00"}],
        "contact": {"name": "A", "address1": "1 Main St", "city": "Boston", "region": "MA", "postal_code": "02108",
                    "country": "US"},
    }  # fmt: skip
    assert api.post(f"{V1}orders/", body, format="json").status_code == 201
    refused(api.post(f"{V1}orders/", body, format="json"), 409, "has an order 'w1' already", "/external_id")
    assert Order.objects.count() == 1


@pytest.mark.parametrize("kind", ["pdf", "zpl"])
def test_a_label_may_be_asked_for_by_its_type(api: APIClient, kind: str) -> None:
    """A label that is not there is a problem document all the same, and another type than both is refused."""
    address = f"{V1}shipments/1/label-file/{kind}/"
    answer = api.get(address, HTTP_ACCEPT=f"application/{kind}")
    refused(answer, 404, "There is no such object, or none that you may see.")
    assert answer["Content-Type"] == "application/problem+json"
    refused(api.get(address, HTTP_ACCEPT="image/png"), 406, "application/pdf")


def test_a_purchase_order_points_at_the_line_whose_sku_is_unknown(api: APIClient) -> None:
    make_warehouse("EAST")
    make_sku("MUG")
    Supplier.objects.create(code="KILN", name="Kiln", currency="USD", lead_time_days=7)
    lines = [{"sku": "MUG", "quantity": 1, "unit_price": "2.00"}, {"sku": "NOPE", "quantity": 1}]
    body = {"supplier": "KILN", "warehouse": "EAST", "lines": lines}
    answer = api.post(f"{V1}purchase-orders/", body, format="json")
    refused(answer, 400, "'NOPE' is neither a SKU nor an alias", "/lines/1/sku")
