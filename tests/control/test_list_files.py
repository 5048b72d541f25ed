"""X04: every list is a file with its filters and within the rights of who asks, streamed, safe for spreadsheets."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from django.test import Client

from channels.models import ChannelEffect, Listing
from fulfillment.models import Shipment
from inventory import operations
from inventory.models import Warehouse
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.csvsafe import _computes
from oms.core.models import ExceptionItem
from oms.orders.models import Order
from procurement.models import PurchaseOrder, Supplier
from returns.models import Rma
from tests.access import places
from tests.factories import make_sku, make_user

pytestmark = pytest.mark.django_db

EVIL = "=HYPERLINK(1)"
#: address → its first column, rows that one of two places sees and that both see
LISTS = {
    "/orders/": ("order", 1, 2),
    "/shipments/": ("shipment", 1, 2),
    "/returns/": ("rma", 1, 2),
    "/purchasing/orders/": ("number", 1, 2),
    "/purchasing/suppliers/": ("code", 1, 1),
    "/stock/MUG/": ("id", None, None),
    "/exceptions/": ("id", None, None),
    f"/channels/{places.SHOP}/listings/": ("channel_sku", 1, 1),
    "/audit/": ("at", None, None),
    "/stock/export/": ("sku", 1, 2),
}


def furnish() -> None:
    sku = places.build()
    places.objects(make_user("olga"), sku)
    person = Actor("user", "olga")
    mug = make_sku(EVIL)
    near = Warehouse.objects.get(code=places.NEAR)
    operations.adjust(
        sku_id=sku.pk, warehouse_id=near.pk, quantity=1, reason="found", note=EVIL, actor=person, key="evil"
    )
    record(person, "test", mug, after={"code": EVIL})
    Supplier.objects.update(name=EVIL)
    Order.objects.update(ship_name=EVIL)
    Shipment.objects.update(service_code=EVIL)
    Rma.objects.update(tracking_number=EVIL)
    PurchaseOrder.objects.filter(pk=PurchaseOrder.objects.earliest("pk").pk).update(external_number=EVIL)
    Listing.objects.update(title=EVIL)
    ExceptionItem.objects.update(detail=EVIL)


def rows(client: Client, address: str, **query: str) -> list[list[str]]:
    answer = client.get(address, {"format": "csv", **query})
    assert answer.status_code == 200, (address, answer.content[:300])
    assert answer.streaming and "attachment" in answer.headers["Content-Disposition"], address
    return list(csv.reader(io.StringIO(b"".join(answer).decode("utf-8-sig"))))


def test_every_list_is_a_safe_file_within_the_rights(client: Client) -> None:
    furnish()
    near = make_user("nia", "owner", warehouses=(places.NEAR,), channels=(places.SHOP,))
    for user, seen in ((near, 1), (make_user("ada"), 2)):
        client.force_login(user)
        for address, (first, *counts) in LISTS.items():
            if address == "/audit/" and seen == 1:
                continue  # the trail is one for the whole business
            head, *body = rows(client, address)
            assert head[0] == first and all(len(row) == len(head) for row in body), address
            assert body, address
            assert not [cell for row in body for cell in row if _computes(cell) and not cell.startswith("'")
                        and not re.fullmatch(r"-?\d+(\.\d+)?", cell)], address  # fmt: skip
            expected = counts[seen - 1]
            assert expected is None or len(body) == expected, (address, seen, body)
            if seen == 1:
                text = " ".join(" ".join(row) for row in body)
                assert not [word for word in places.FAR_WORDS if word in text], address
    for address in LISTS:
        if address != "/stock/export/":
            assert any(f"'{EVIL}" in cell for row in rows(client, address) for cell in row), address


def test_files_follow_the_filters(client: Client) -> None:
    furnish()
    client.force_login(make_user("ada"))
    assert len(rows(client, "/shipments/", warehouse=places.FAR)) == 2
    assert rows(client, "/shipments/", tab="delivered")[1:] == []
    assert len(rows(client, "/purchasing/orders/", warehouse=places.FAR)) == 2
    assert len(rows(client, "/returns/", warehouse=places.NEAR)) == 2
    assert rows(client, "/exceptions/", q="nothing like it")[1:] == []
    assert {row[5] for row in rows(client, "/stock/MUG/", bucket="reserved")[1:]} == {"reserved"}
    assert rows(client, f"/channels/{places.SHOP}/listings/", state="unmapped")[1:] == []
    assert ChannelEffect.objects.exists()


def test_a_list_of_one_exact_order_is_a_file_too(client: Client) -> None:
    """On the screen its number leads to the order; a file of it is asked for as a file."""
    furnish()
    client.force_login(make_user("ada"))
    number = Order.objects.earliest("pk").number
    assert client.get("/orders/", {"q": number}).status_code == 302
    assert [row[0] for row in rows(client, "/orders/", q=number)[1:]] == [number]


def test_files_keep_costs_from_who_may_not_see_them_and_are_refused_without_the_right(client: Client) -> None:
    furnish()
    client.force_login(make_user("fay", "floor"))
    assert "unit_cost" not in rows(client, "/stock/MUG/")[0]
    for address in ("/audit/", f"/channels/{places.FARSHOP}x/listings/"):
        assert client.get(address, {"format": "csv"}).status_code in (403, 404), address


def test_every_list_with_tools_offers_its_file() -> None:
    """A new list cannot forget it: its menu either has the file, or it is the grid, which has files of its own."""
    root = Path(__file__).parents[2]
    for path in root.glob("*/**/views.py"):
        if ".venv" not in path.parts and "lists.tools(" in (text := path.read_text()):
            calls = text.count("lists.tools(")
            assert text.count("csv=True") == calls or "STOCK_COLUMNS" in text, path
