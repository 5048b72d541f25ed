"""`ETag`, `If-None-Match` and `If-Match`: nobody overwrites what somebody else has just done."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from inventory.models import Product
from oms.core.actor import SYSTEM
from oms.orders.intake import take
from oms.orders.models import Order
from tests.api.test_resources import bearer
from tests.factories import (
    add_stock,
    line_draft,
    make_channel,
    make_sku,
    make_user,
    make_warehouse,
    order_draft,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def api() -> APIClient:
    return bearer(make_user("olga"))


@pytest.fixture
def order() -> Order:
    east, sku = make_warehouse("EAST"), make_sku("MUG")
    add_stock(sku, east, 5)
    shop = make_channel("shop", east)
    take([order_draft(line_draft(sku, 2), external_id="1")], channel=shop, actor=SYSTEM, source="test")
    return Order.objects.get()


def test_a_tag_stays_until_the_object_changes(api: APIClient, order: Order) -> None:
    url = f"/api/v1/orders/{order.pk}/"
    first = api.get(url)
    assert first["ETag"] == api.get(url)["ETag"]
    same = api.get(url, HTTP_IF_NONE_MATCH=f'W/{first["ETag"]}, "other"')
    assert (same.status_code, same.content, same["ETag"]) == (304, b"", first["ETag"])
    held = api.post(f"{url}hold/", {"reason": "person"})
    assert held["ETag"] == api.get(url)["ETag"] != first["ETag"]
    assert api.get(url, HTTP_IF_NONE_MATCH=first["ETag"]).status_code == 200
    assert "ETag" not in api.get(f"{url}?fields=id,state")  # it would not be that of the object
    assert "ETag" not in api.get("/api/v1/orders/")


def test_a_patch_must_say_what_it_changes(api: APIClient) -> None:
    pk = make_sku("MUG").product_id
    url = f"/api/v1/products/{pk}/"
    blind = api.patch(url, {"title": "Cup"})
    assert blind.status_code == 428 and "If-Match" in blind.json()["detail"]
    assert api.patch(url, {"title": "Cup"}, HTTP_IF_MATCH=" ").status_code == 400
    tag = api.get(url)["ETag"]
    done = api.patch(url, {"title": "Cup"}, HTTP_IF_MATCH=tag)
    assert done.status_code == 200 and done["ETag"] != tag
    late = api.patch(url, {"title": "Jug"}, HTTP_IF_MATCH=tag)
    assert late.status_code == 412 and "changed this since you read it" in late.json()["detail"]
    assert late.json()["type"] == "urn:lading:stale" and Product.objects.get(pk=pk).title == "Cup"
    assert api.patch(url, {"title": "Jug"}, HTTP_IF_MATCH=f"{tag}, {done['ETag']}").status_code == 200
    assert api.patch(url, {"title": "Pot"}, HTTP_IF_MATCH="*").status_code == 200
    assert api.patch("/api/v1/products/999/", {"title": "Pot"}).status_code == 404


def test_any_tag_at_all(api: APIClient, order: Order) -> None:
    """`If-None-Match: *` means "only if there is none": nothing new to read, and nothing to change."""
    url = f"/api/v1/orders/{order.pk}/"
    assert api.get(url, HTTP_IF_NONE_MATCH="*").status_code == 304
    assert api.head(url, HTTP_IF_NONE_MATCH="*").status_code == 304
    assert api.get(url, HTTP_IF_NONE_MATCH="").status_code == 200
    assert api.get("/api/v1/orders/999999/", HTTP_IF_NONE_MATCH="*").status_code == 404
    tag = api.get(url)["ETag"]
    for held in ("*", tag):
        assert api.post(f"{url}hold/", {"reason": "person"}, HTTP_IF_NONE_MATCH=held).status_code == 412
    assert not order.holds.exists()
    assert api.post(f"{url}hold/", {"reason": "person"}, HTTP_IF_NONE_MATCH='"other"').status_code == 200


def test_a_step_happens_only_while_the_object_looks_like_that(api: APIClient, order: Order) -> None:
    url = f"/api/v1/orders/{order.pk}/"
    seen = api.get(url)
    assert api.post(f"{url}tags/", {"tags": ["gift"]}, HTTP_IF_MATCH=seen["ETag"]).status_code == 200
    stale = api.post(f"{url}cancel/", {"reason": "customer"}, HTTP_IF_MATCH=seen["ETag"])
    assert stale.status_code == 412 and Order.objects.get().state == "open"
    by_version = f'"{api.get(url).json()["version"]}"'
    assert api.post(f"{url}hold/", {}, HTTP_IF_MATCH=by_version).status_code == 200
    key = {"HTTP_IDEMPOTENCY_KEY": "k", "HTTP_IF_MATCH": api.get(url)["ETag"]}
    first = api.post(f"{url}notes/", {"text": "call"}, **key)
    again = api.post(f"{url}notes/", {"text": "call"}, **key)
    assert (first.status_code, again.status_code, again["Idempotent-Replayed"]) == (200, 200, "true")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_changes_with_one_tag_one_wins() -> None:
    """Both read the same tag; the row is locked from comparing to writing, so the second finds it changed."""
    import threading

    from django.db import connection

    pk = make_sku("MUG").product_id
    user = make_user("olga")
    url = f"/api/v1/products/{pk}/"
    tag = bearer(user).get(url)["ETag"]
    clients, start, codes = [bearer(user) for _ in range(4)], threading.Barrier(4), []

    def change(client: APIClient, title: str) -> None:
        try:
            start.wait(10)
            codes.append(client.patch(url, {"title": title}, HTTP_IF_MATCH=tag).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=change, args=(one, f"T{n}")) for n, one in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(codes) == [200, 412, 412, 412]
