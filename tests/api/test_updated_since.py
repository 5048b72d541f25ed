"""`updated_since`: what changed, oldest change first, so that nothing is passed over while its pages are read."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from django.conf import settings
from django.utils import timezone
from rest_framework.test import APIClient

from fulfillment import shipments
from inventory.models import Sku, Warehouse
from oms.core import tokens
from oms.core.actor import SYSTEM
from oms.core.roles import SCOPES
from oms.orders import services
from oms.orders.intake import take
from oms.orders.models import Order, SalesChannel
from procurement import purchase_orders
from procurement.models import PurchaseOrder, Supplier
from returns import rma
from returns.models import Rma
from tests.factories import (
    add_stock,
    line_draft,
    make_channel,
    make_sku,
    make_user,
    make_warehouse,
    order_draft,
)

pytestmark = pytest.mark.django_db(transaction=True)
V1 = "/api/v1/"


@pytest.fixture
def api() -> APIClient:
    api = APIClient()
    _, text = tokens.issue(make_user("olga"), "test", sorted(SCOPES), actor=SYSTEM)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return api


@pytest.fixture
def east() -> Warehouse:
    return make_warehouse("EAST")


@pytest.fixture
def mug(east: Warehouse) -> Sku:
    sku = make_sku("MUG")
    add_stock(sku, east, 90)
    return sku


@pytest.fixture
def shop(east: Warehouse, mug: Sku) -> SalesChannel:
    return make_channel("shop", east)


def enter(shop: SalesChannel, number: int) -> list[int]:
    drafts = [order_draft(line_draft("MUG")) for _ in range(number)]
    return [one.order_id or 0 for one in take(drafts, channel=shop, actor=SYSTEM, source="test")]


def moment() -> str:
    return timezone.now().isoformat().replace("+00:00", "Z")


def read(api: APIClient, path: str, **asked: Any) -> dict[str, Any]:
    answer = api.get(path if path.startswith("http") else f"{V1}{path}", asked)
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def test_orders_that_changed_come_by_the_moment_of_their_change(api: APIClient, shop: SalesChannel) -> None:
    ids = enter(shop, 6)
    since = moment()
    assert read(api, "orders/", updated_since=since)["results"] == []
    for number in (4, 1, 3):
        services.add_note(ids[number], "look", actor=SYSTEM)
        services.set_tags(ids[number], ["vip"], actor=SYSTEM)
    rows = read(api, "orders/", updated_since=since)["results"]
    assert [row["id"] for row in rows] == [ids[4], ids[1], ids[3]]
    assert [row["updated_at"] for row in rows] == sorted(row["updated_at"] for row in rows)
    later = read(api, "orders/", updated_since=rows[-1]["updated_at"])["results"]
    assert [row["id"] for row in later] == [ids[3]], "at or after: the last one seen comes again"
    assert [row["id"] for row in read(api, "orders/")["results"]] != [row["id"] for row in rows]


def test_what_changes_between_two_pages_is_neither_lost_nor_hides_another(
    api: APIClient, shop: SalesChannel
) -> None:
    since = moment()
    ids = enter(shop, 6)
    first = read(api, "orders/", updated_since=since, limit=2)
    seen = [row["id"] for row in first["results"]]
    services.set_tags(seen[0], ["vip"], actor=SYSTEM)  # was read: it moves behind all others
    services.set_tags(ids[-1], ["vip"], actor=SYSTEM)  # was not read yet
    following = first["next"]
    while following:
        page = read(api, following)
        seen += [row["id"] for row in page["results"]]
        following = page["next"]
    assert set(seen) == set(ids)
    assert seen.count(first["results"][0]["id"]) == 2, "with its newest state"


@pytest.mark.parametrize("way", ["hold", "cancel", "raw"])
def test_whatever_changes_an_order_is_a_change(api: APIClient, shop: SalesChannel, way: str) -> None:
    one, other = enter(shop, 2)
    since = moment()
    if way == "hold":
        services.place_hold(one, "person", actor=SYSTEM)
    elif way == "cancel":
        services.cancel_lines(one, reason="buyer", actor=SYSTEM)
    else:
        Order.objects.filter(pk=one).update(service_level="fast")
    assert [row["id"] for row in read(api, "orders/", updated_since=since)["results"]] == [one]


def test_shipments_returns_and_purchase_orders_too(
    api: APIClient, shop: SalesChannel, mug: Sku, east: Warehouse
) -> None:
    from fulfillment import picking, routing_service

    (order,) = enter(shop, 1)
    routing_service.route(order, actor=SYSTEM)
    supplier = Supplier.objects.create(code="KILN", name="Kiln", currency="USD", lead_time_days=7)
    bought = purchase_orders.create(
        supplier_id=supplier.pk, warehouse_id=east.pk, actor=SYSTEM,
        lines=[purchase_orders.LineSpec(mug.pk, 5, unit_price=2)],  # type: ignore[arg-type]
    )  # fmt: skip
    back = Rma.objects.create(order_id=order, warehouse=east, created_by="x")
    (shipment,) = (
        shipments.ensure_shipments(order, actor=SYSTEM) or Order.objects.get(pk=order).shipments.all()
    )
    paths = {"shipments/": shipment.pk, "returns/": back.pk, "purchase-orders/": bought.pk}
    since = moment()
    assert [read(api, path, updated_since=since)["results"] for path in paths] == [[], [], []]
    picking.claim(shipment.pk, actor=SYSTEM)
    purchase_orders.approve(bought.pk, actor=SYSTEM)
    rma.approve(back.pk, actor=SYSTEM)
    for path, pk in paths.items():
        (row,) = read(api, path, updated_since=since)["results"]
        assert row["id"] == pk and row["updated_at"] >= since[:19]
    assert PurchaseOrder.objects.get().state == "approved"


def test_it_is_described_exactly_where_it_is_known() -> None:
    """Actions that answer several rows, such as a timeline, refuse it: the description does not offer it there."""
    paths = yaml.safe_load((settings.BASE_DIR / "docs" / "openapi.yaml").read_text())["paths"]
    offering = {
        f"{method} {path}"
        for path, item in paths.items()
        for method, operation in item.items()
        if any(one.get("name") == "updated_since" for one in operation.get("parameters", ()))
    }
    known = ("orders", "shipments", "returns", "purchase-orders", "products", "skus", "movements", "exceptions",
             "reorder-suggestions")  # fmt: skip
    assert offering == {f"get {V1}{one}/" for one in known}
