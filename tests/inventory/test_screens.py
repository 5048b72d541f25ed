"""Stock screens and API: bounded queries, scoped to warehouses, the same services behind both."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.db import transaction
from rest_framework.test import APIClient

from inventory import kpis, operations, reservations, screens
from inventory.ledger import Movement, post_movements
from inventory.models import DemandDay, Reservation, StockLevel, StockMovement, Transfer
from inventory.reservations import ReserveLine
from oms.core import clock, figures
from oms.core.actor import SYSTEM
from oms.core.clock import business_day, now
from oms.core.screens import new_form_key
from tests.factories import add_stock, make_kit, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db


def sign_in(client, role="owner", **scope):
    user = make_user(role=role, **scope)
    client.force_login(user)
    return user


def api(role="owner", **scope):
    client = APIClient()
    client.force_authenticate(make_user(role=role, **scope))
    return client


def text(response):
    return response.content.decode()


# --- grid -----------------------------------------------------------------------------------------


def test_the_grid_shows_own_pools_in_totals_and_marketplace_pools_beside(client):
    sign_in(client)
    sku, east, pool = make_sku("MUG"), make_warehouse("EAST"), make_warehouse("AMZ", kind="fba")
    add_stock(sku, east, 10)
    add_stock(sku, pool, 7)
    kit = make_kit("PAIR", {sku: 3})
    page = client.get("/stock/")
    assert page.status_code == 200
    rows = {row.sku.code: row for row in page.context["rows"]}
    assert rows["MUG"].available == 10
    assert [units for _, units in rows["MUG"].cells] == [7, 10] or [
        units for _, units in rows["MUG"].cells
    ] == [10, 7]
    assert rows["PAIR"].available == 3 and rows["PAIR"].is_kit
    assert "AMZ*" in text(page)
    assert kit.code in text(page)


def test_grid_queries_do_not_grow_with_rows(client, django_assert_max_num_queries):
    sign_in(client)
    places = [make_warehouse() for _ in range(4)]
    for n in range(60):
        sku = make_sku(f"S{n:03}")
        add_stock(sku, places[n % 4], 5)
    client.get("/stock/")
    with django_assert_max_num_queries(19):
        page = client.get("/stock/")
    assert len(page.context["rows"]) == 50
    with django_assert_max_num_queries(18):
        more = client.get(f"/stock/?cursor={page.context['next_cursor']}", headers={"HX-Request": "true"})
    assert [row.sku.code for row in more.context["rows"]] == [f"S{n:03}" for n in range(50, 60)]


@pytest.mark.parametrize(
    ("view", "codes"),
    [("out", ["GONE"]), ("held", ["HELD"]), ("unfit", ["BAD"]), ("", ["BAD", "GONE", "HELD"])],
)
def test_grid_views(client, view, codes):
    sign_in(client)
    east = make_warehouse()
    bad, _, held = make_sku("BAD"), make_sku("GONE"), make_sku("HELD")
    add_stock(bad, east, 5)
    add_stock(held, east, 5)
    operations.change_state(
        sku_id=bad.pk, warehouse_id=east.pk, quantity=1, source="sellable", target="damaged", reason="dropped",
        actor=SYSTEM, key="x",
    )  # fmt: skip
    with transaction.atomic():
        reservations.reserve([ReserveLine("L", held.pk, 1, (east.pk,))], actor=SYSTEM)
    page = client.get(f"/stock/?view={view}")
    assert [row.sku.code for row in page.context["rows"]] == codes


def test_an_exact_code_or_barcode_opens_the_sku(client):
    sign_in(client)
    sku = make_sku("MUG/BLU")
    sku.aliases.create(value="4006381333931")
    for code in ("mug/blu", "4006381333931"):
        answer = client.get("/stock/", {"q": code}, follow=True)
        assert answer.redirect_chain == [("/stock/MUG/BLU/", 302)]
        assert answer.status_code == 200


def test_people_see_only_their_warehouses(client):
    sku, east, west = make_sku("MUG"), make_warehouse("EAST"), make_warehouse("WEST")
    add_stock(sku, east, 10)
    add_stock(sku, west, 5)
    sign_in(client, warehouses=("WEST",))
    [row] = client.get("/stock/").context["rows"]
    assert row.available == 5
    page = client.get("/stock/MUG/")
    assert "EAST" not in text(page)
    assert len(page.context["movements"]) == 1


@pytest.mark.parametrize("tab", ["ledger", "channels", "velocity", "suppliers", "bundles"])
def test_sku_page_tabs(client, tab, django_assert_max_num_queries):
    sign_in(client)
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    for _ in range(5):
        add_stock(sku, east, 3)
    client.get("/stock/MUG/")
    with django_assert_max_num_queries(26):
        page = client.get(f"/stock/MUG/?tab={tab}")
    assert page.status_code == 200
    assert page.context["row"].available == 15


def test_an_unknown_sku_is_not_found(client):
    sign_in(client)
    assert client.get("/stock/NOPE/").status_code == 404


# --- adjust and transfers -------------------------------------------------------------------------


def test_adjusting_twice_with_one_form_changes_once(client):
    sign_in(client)
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    add_stock(sku, east, 10)
    form = client.get("/stock/adjust/?sku=MUG")
    data = {
        "sku": "mug", "warehouse": "EAST", "mode": "change", "quantity": "-2", "reason": "lost", "note": "",
        "form_key": form.context["form_key"],
    }  # fmt: skip
    assert client.post("/stock/adjust/", data).status_code == 302
    assert client.post("/stock/adjust/", data).status_code == 302
    assert StockLevel.objects.get(sku=sku).on_hand == 8
    data["form_key"] = str(uuid.uuid4())
    refused = client.post("/stock/adjust/", {**data, "quantity": "-99"})
    assert refused.status_code == 422
    assert "only 8 can be taken" in text(refused)
    assert client.post("/stock/adjust/", {**data, "reason": ""}).status_code == 422
    counted = client.post("/stock/adjust/", {**data, "mode": "count", "quantity": "9"})
    assert counted.status_code == 302
    assert StockLevel.objects.get(sku=sku).on_hand == 9


def test_viewers_cannot_adjust(client):
    sign_in(client, role="viewer")
    assert client.get("/stock/adjust/").status_code == 403
    assert client.post("/stock/adjust/", {}).status_code == 403


def test_a_transfer_from_request_to_receipt_on_screens(client, assert_invariants):
    sign_in(client)
    sku, east, west = make_sku("MUG"), make_warehouse("EAST"), make_warehouse("WEST")
    add_stock(sku, east, 10)
    made = client.post(
        "/stock/transfers/",
        {"form_key": new_form_key(), "source": "EAST", "destination": "WEST", "lines": "MUG 4\n"},
    )
    item = Transfer.objects.get()
    assert made.headers["Location"] == f"/stock/transfers/{item.pk}/"
    line = item.lines.get()
    page = client.get(f"/stock/transfers/{item.pk}/")

    def step(name, units, **more):
        key = client.get(f"/stock/transfers/{item.pk}/").context["form_key"]
        return client.post(
            f"/stock/transfers/{item.pk}/", {"step": name, f"units-{line.pk}": units, "form_key": key, **more}
        )

    assert page.context["may_ship"]
    step("ship", 4)
    step("receive", 3)
    assert StockLevel.objects.get(sku=sku, warehouse=west).on_hand == 3
    step("settle", 1, reason="lost")
    item.refresh_from_db()
    assert item.state == "received"
    assert_invariants()
    assert (
        client.post(
            "/stock/transfers/",
            {"form_key": new_form_key(), "source": "EAST", "destination": "WEST", "lines": "MUG"},
        ).status_code
        == 422
    )


def test_approvals_need_a_second_person(client):
    author = sign_in(client)
    sku, east = make_sku("GOLD", unit_cost=1000), make_warehouse("EAST")
    add_stock(sku, east, 10)
    data = {"sku": "GOLD", "warehouse": "EAST", "mode": "change", "quantity": "-2", "reason": "lost",
            "form_key": str(uuid.uuid4())}  # fmt: skip
    client.post("/stock/adjust/", data)
    assert StockLevel.objects.get(sku=sku).on_hand == 10
    page = client.get("/stock/approvals/")
    [request] = page.context["rows"]
    assert request.author == author
    assert "Somebody else has to decide" in text(page)
    client.post("/stock/approvals/", {"request": request.pk, "decision": "approve"})
    assert StockLevel.objects.get(sku=sku).on_hand == 10
    sign_in(client)
    client.post("/stock/approvals/", {"request": request.pk, "decision": "approve"})
    assert StockLevel.objects.get(sku=sku).on_hand == 8


# --- API ------------------------------------------------------------------------------------------


def test_api_lists_stock_of_the_tokens_warehouses_only():
    sku, east, west = make_sku("MUG"), make_warehouse("EAST"), make_warehouse("WEST")
    add_stock(sku, east, 10)
    add_stock(sku, west, 5)
    answer = api(warehouses=("WEST",)).get("/api/v1/stock/?sku=mug").json()
    assert [(row["warehouse"], row["available"]) for row in answer["results"]] == [("WEST", 5)]
    assert [
        row["warehouse"] for row in api(warehouses=("EAST",)).get("/api/v1/movements/").json()["results"]
    ] == ["EAST"]
    assert api().get("/api/v1/stock/?colour=blue").status_code == 400


def test_api_adjusts_through_the_service():
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    add_stock(sku, east, 10)
    client = api()
    body = {"sku": "MUG", "warehouse": "EAST", "quantity": -3, "reason": "lost"}
    first = client.post("/api/v1/stock/adjust/", body, headers={"Idempotency-Key": "a1"})
    again = client.post("/api/v1/stock/adjust/", body, headers={"Idempotency-Key": "a1"})
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert StockLevel.objects.get().on_hand == 7
    short = client.post("/api/v1/stock/adjust/", {**body, "quantity": -30})
    assert (short.status_code, short.json()["type"]) == (409, "urn:lading:insufficient_stock")
    assert api("viewer").post("/api/v1/stock/adjust/", body).status_code == 403
    assert client.patch("/api/v1/stock/1/", {"on_hand": 5}).status_code == 405  # nothing writes a balance


def test_api_holds_stock_for_a_checkout_and_gives_it_back(assert_invariants):
    cup, east = make_sku("CUP"), make_warehouse("EAST")
    add_stock(cup, east, 5)
    make_kit("PAIR", {cup: 2})
    client = api()
    body = {"reference": "cart-1", "warehouses": ["EAST"], "expires_in": 60,
            "lines": [{"sku": "PAIR", "quantity": 2}, {"sku": "CUP", "quantity": 3}]}  # fmt: skip
    answer = client.post("/api/v1/reservations/", body, headers={"Idempotency-Key": "c1"})
    assert answer.status_code == 201, answer.json()
    told = answer.json()
    assert told["lines"] == [
        {"sku": "PAIR", "reserved": 2, "short": 0},
        {"sku": "CUP", "reserved": 1, "short": 2},
    ]
    assert client.post("/api/v1/reservations/", body, headers={"Idempotency-Key": "c1"}).json() == told
    assert StockLevel.objects.get().reserved == 5
    held = told["reservations"][0]["id"]
    assert client.delete(f"/api/v1/reservations/{held}/").status_code == 204
    assert client.delete(f"/api/v1/reservations/{held}/").status_code == 204
    assert StockLevel.objects.get().reserved == 1
    whole = client.post("/api/v1/reservations/", {**body, "whole_only": True})
    assert whole.status_code == 409
    assert Reservation.objects.count() == 2
    Reservation.objects.filter(state="open").update(expires_at=now() - dt.timedelta(seconds=1))
    assert reservations.expire_due() == 1
    assert_invariants()


def test_api_does_not_give_back_an_orders_promise():
    sku, east = make_sku(), make_warehouse()
    add_stock(sku, east, 5)
    with transaction.atomic():
        reservations.reserve([ReserveLine("line:77", sku.pk, 1, (east.pk,))], actor=SYSTEM)
    uid = Reservation.objects.get().uid
    assert api().delete(f"/api/v1/reservations/{uid}/").status_code == 409
    assert Reservation.objects.get().state == "open"


def test_api_masters():
    client = api()
    product = client.post("/api/v1/products/", {"title": "Mug"}).json()
    made = client.post("/api/v1/skus/", {"code": "MUG-1", "product": product["id"], "list_price": "9.90"})
    assert made.status_code == 201, made.json()
    sku = made.json()
    assert sku["price"] == {"amount": "9.90", "currency": "USD"}
    assert client.post("/api/v1/skus/", {"code": "mug-1", "product": product["id"]}).status_code == 400
    alias = client.post(f"/api/v1/skus/{sku['id']}/aliases/", {"kind": "gtin", "value": "400638"})
    assert alias.json()["aliases"] == [{"kind": "gtin", "value": "400638"}]
    kit = client.post("/api/v1/skus/", {"code": "KIT", "product": product["id"], "kind": "kit"}).json()
    filled = client.post(
        f"/api/v1/skus/{kit['id']}/components/", {"components": {"400638": 2}}, format="json"
    )
    assert filled.json()["components"] == [{"sku": "MUG-1", "quantity": 2}]
    taken = client.post(f"/api/v1/skus/{kit['id']}/aliases/", {"value": "MUG-1"})
    assert taken.status_code == 400 and "already finds MUG-1" in taken.json()["detail"]
    assert client.get("/api/v1/warehouses/").json()["results"] == []


def test_api_as_of_replays_the_ledger():
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    add_stock(sku, east, 10)
    at = StockMovement.objects.get().created_at
    add_stock(sku, east, 5)
    answer = api().get("/api/v1/stock/as-of/", {"at": at.isoformat(), "sku": "MUG"})
    assert answer.json() == [
        {"sku": "MUG", "warehouse": "EAST", "on_hand": 10, "reserved": 0, "available": 10}
    ]
    assert api().get("/api/v1/stock/as-of/", {"at": "yesterday", "sku": "MUG"}).status_code == 400


def test_the_velocity_tab_shades_days_without_stock(client):
    """Days with nothing available all day are shaded and left out of the velocity."""
    sign_in(client)
    today = business_day()
    sku, place = make_sku("VASE"), make_warehouse("NORTH")
    with clock.telling(figures.midnight(today - dt.timedelta(days=20))):
        add_stock(sku, place, 5)
    with clock.telling(figures.midnight(today - dt.timedelta(days=10))), transaction.atomic():
        post_movements([Movement(sku.pk, place.pk, "on_hand", -5, "ship", "gone")], actor=SYSTEM)
    kpis.close_days(today - dt.timedelta(days=21), today - dt.timedelta(days=1))
    DemandDay.objects.bulk_create(
        DemandDay(sku=sku, channel_code="shop", day=today - dt.timedelta(days=back), units=2)
        for back in range(11, 28)
    )
    pace = screens.pace(sku, 0)
    assert pace.out == list(range(18, 28)) and len(pace.days) == 28
    assert pace.velocity.in_stock_days == 80
    html = client.get("/stock/VASE/?tab=velocity").content.decode()
    assert html.count('class="shade"') == 10 and "forecast" in html and "/stock/" in html
    closing = screens.closing(sku, [place])
    assert closing.units[-21:] == [None] * 1 + [5] * 10 + [0] * 10
    panel = client.get(f"/purchasing/skus/{sku.pk}/stock/").content.decode()
    assert "Available at the close of the day" in panel and panel.count('class="shade"') == 10
