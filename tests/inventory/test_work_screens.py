"""Screens of the work on stock: blind counts on a phone, put-away, lots, merges, fences, approvals."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db import transaction

from inventory import counts, fences, putaway
from inventory.ledger import Movement, post_movements
from inventory.models import BinStock, CountTask, Lot, RingFence, Sku, StockLevel
from oms.core.actor import SYSTEM
from oms.core.clock import now
from tests.factories import add_stock, make_channel, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db


def text(answer):
    return answer.content.decode()


def test_a_blind_count_never_shows_the_books_to_the_counter(client):
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    sku.packs.create(name="case", quantity=12, barcode="CASE-12")
    add_stock(sku, east, 8731)
    task = counts.ask(sku.pk, east.pk, cause="manual", actor=SYSTEM)
    client.force_login(make_user(role="floor", warehouses=("EAST",)))
    address = f"/stock/counts/{task.pk}/"
    assert client.get("/stock/counts/next/").url == address
    assert "wherever it lies" in text(client.get(address))
    for code in ("B-02", "A-01"):
        spot = east.bins.create(code=code)
        BinStock.objects.create(warehouse=east, bin=spot, sku=sku, quantity=7)
    BinStock.objects.create(warehouse=east, bin=east.bins.create(code="C-03"), sku=sku, quantity=0)
    seen = text(client.get(address))
    assert "A-01, B-02<" in seen, "where to go, without an empty bin"
    assert "MUG" in seen and "8731" not in seen and "8,731" not in seen
    scanned = client.post(
        address, {"step": "scan", "code": "CASE-12", "tally": "2"}, headers={"HX-Request": "true"}
    )
    assert scanned.context["tally"] == 14 and "scan:ok" in scanned["HX-Trigger"]
    make_sku("CAP")
    wrong = client.post(address, {"step": "scan", "code": "CAP", "tally": "14"})
    assert wrong.context["tally"] == 14 and "WRONG ITEM" in text(wrong)
    assert client.post(address, {"step": "submit", "counted": "8730"}).status_code == 302
    after = client.get(address)
    assert CountTask.objects.get().state == "counted"
    for answer in (after, client.get("/stock/counts/?tab=review")):
        for figure in ("8731", "8,731", "−1"):
            assert figure not in text(answer)
    assert client.post(address, {"step": "accept"}).status_code == 403
    assert StockLevel.objects.get().on_hand == 8731


def test_a_difference_is_reviewed_and_posted(client, assert_invariants):
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    add_stock(sku, east, 10)
    task = counts.ask(sku.pk, east.pk, cause="manual", actor=SYSTEM)
    counts.submit(task.pk, 8, actor=SYSTEM)
    client.force_login(make_user())
    assert "−2" in text(client.get("/stock/counts/?tab=review"))
    assert client.post(f"/stock/counts/{task.pk}/", {"step": "accept"}).status_code == 302
    assert StockLevel.objects.get().on_hand == 8
    assert_invariants()


def test_counts_of_other_warehouses_do_not_exist(client):
    sku, west = make_sku(), make_warehouse("WEST")
    make_warehouse("EAST")
    add_stock(sku, west, 1)
    task = counts.ask(sku.pk, west.pk, cause="manual", actor=SYSTEM)
    client.force_login(make_user(role="floor", warehouses=("EAST",)))
    assert client.get(f"/stock/counts/{task.pk}/").status_code == 404
    assert client.get("/stock/counts/").context["rows"] == []


def test_put_away_by_suggestion_and_by_hand(client, assert_invariants, django_assert_max_num_queries):
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    add_stock(sku, east, 10)
    for code, kind in (("DOCK", "dock"), ("A1", "pick"), ("B1", "bulk")):
        putaway.save_bin(warehouse_id=east.pk, code=code, kind=kind, actor=SYSTEM)
    client.force_login(make_user(role="floor"))
    client.get("/stock/put-away/")
    with django_assert_max_num_queries(20):
        page = client.get("/stock/put-away/")
    assert "A1" in text(page)
    move = {"warehouse": "EAST", "source": "dock", "sku": "MUG", "quantity": "6", "target": "a1"}
    assert client.post("/stock/put-away/", move).status_code == 302
    assert dict(BinStock.objects.values_list("bin__code", "quantity")) == {"DOCK": 4, "A1": 6}
    client.post("/stock/put-away/", move | {"source": "A1", "target": "B1", "quantity": "1"})
    client.post("/stock/put-away/", move | {"source": "A1", "target": "B1", "quantity": "99"})
    assert BinStock.objects.get(bin__code="B1").quantity == 1
    shelf = east.bins.get(code="A1")
    history = client.get(f"/stock/bins/{shelf.pk}/")
    assert [row.quantity for row in history.context["rows"]] == [-1, 6]
    assert [row.units for row in client.get("/stock/bins/?q=MUG").context["rows"]]
    assert_invariants()


def test_lots_are_listed_blocked_and_traced(client):
    sku, east = make_sku("MILK", lot_tracked=True), make_warehouse("EAST")
    lot = Lot.objects.create(sku=sku, code="L1", expires_on=now().date() + dt.timedelta(days=5))
    with transaction.atomic():
        post_movements(
            [Movement(sku.pk, east.pk, "on_hand", 5, "receipt", key="1", lot_id=lot.pk)], actor=SYSTEM
        )
    client.force_login(make_user())
    assert [row.units for row in client.get("/stock/lots/?view=soon").context["rows"]] == [5]
    assert client.get("/stock/lots/?view=expired").context["rows"] == []
    client.post("/stock/lots/", {"lot": lot.pk, "step": "block", "reason": "glass"})
    assert Lot.objects.get().is_blocked
    page = client.get(f"/shipments/lots/{lot.pk}/")
    assert "No order got this lot" in text(page) and page.context["here"] == 5
    assert text(client.get(f"/shipments/lots/{lot.pk}/?format=csv")).startswith("order,channel,shipment")


def test_a_merge_is_checked_before_it_is_done(client, assert_invariants):
    old, new, east = make_sku("OLD"), make_sku("NEW"), make_warehouse("EAST")
    add_stock(old, east, 5)
    client.force_login(make_user())
    assert client.get("/stock/merge/?source=OLD&target=NOPE").status_code == 422
    assert client.get("/stock/merge/?source=OLD&target=NEW").context["on_hand"] == 5
    answer = client.post("/stock/merge/", {"source": "OLD", "target": "NEW", "reason": "double"})
    assert answer.url == "/stock/NEW/"
    assert Sku.objects.get(code="OLD").merged_into == new
    assert_invariants()


def test_a_ring_fence_is_made_and_ended(client):
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    add_stock(sku, east, 5)
    channel = make_channel("shop", east)
    client.force_login(make_user())
    ends = (now() + dt.timedelta(days=2)).strftime("%Y-%m-%dT%H:%M")
    client.post("/orders/fences/", {"sku": "MUG", "channel": "shop", "quantity": "3", "ends": ends})
    fence = RingFence.objects.get()
    assert (fence.quantity, fence.channel_code) == (3, channel.code)
    assert client.get("/orders/fences/").context["rows"][0]["left"] == 3
    client.post("/orders/fences/", {"step": "end", "fence": fence.pk})
    assert fences.remaining([sku.pk]) == {}


def test_approvals_show_the_value_to_those_who_see_costs(client):
    sku, east = make_sku("MUG", unit_cost=Decimal(100)), make_warehouse("EAST")
    add_stock(sku, east, 20, unit_cost=Decimal(100))
    author = make_user()
    client.force_login(author)
    key = "6f1f6d8c-6f7b-4f6e-9d0a-0c5b0a0a0a0a"
    form = {
        "sku": "MUG",
        "warehouse": "EAST",
        "mode": "change",
        "quantity": "-7",
        "reason": "lost",
        "form_key": key,
    }
    for _ in range(2):
        client.post("/stock/adjust/", form)
    page = client.get("/stock/approvals/")
    assert len(page.context["rows"]) == 1
    assert "700.00" in text(page) and "Somebody else has to decide" in text(page)


def test_the_approvals_screen_shows_the_value_that_was_held_against_the_limit(client):
    make_sku("NEW", unit_cost=Decimal(100))
    make_warehouse("EAST")
    client.force_login(make_user())
    key = "6f1f6d8c-6f7b-4f6e-9d0a-0c5b0a0a0a0b"
    form = {
        "sku": "NEW", "warehouse": "EAST", "mode": "change", "quantity": "9", "reason": "found", "form_key": key,
    }  # fmt: skip
    client.post("/stock/adjust/", form)
    assert "900.00" in text(client.get("/stock/approvals/"))
