"""W09 and R05 for numbered units: what comes back is held against what was sent, and keeps its history to the end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.db import DatabaseError, connection, transaction

from fulfillment import picking
from inventory import operations
from inventory.models import SerialEvent, SerialUnit, StockLevel
from oms.core.actor import SYSTEM
from oms.core.errors import Conflict, UserError
from oms.core.models import ExceptionItem
from returns import inspection, refunds, rma
from returns.models import ReturnedSerial, Rma
from tests.factories import make_sku, make_user
from tests.fulfillment.conftest import carrier, world  # noqa: F401 the floor of these tests
from tests.fulfillment.test_lots_on_the_floor import PICKER, left, post

Verdict = inspection.Verdict


@pytest.fixture
def sold(world, carrier, monkeypatch):  # noqa: F811
    """Two cameras, S1 and S3, left with an order; S2 is in stock."""
    sku = world.sku = make_sku("CAM", serial_tracked=True, weight_g=100)
    post(sku, world.east, 3, "1")
    for number in ("S1", "S2", "S3"):
        SerialUnit.objects.create(sku=sku, serial=number, warehouse=world.east)
    shipment = world.routed(2)
    picking.claim(shipment.pk, actor=PICKER)
    for number in ("S1", "S3"):
        picking.scan(shipment.pk, number, actor=PICKER)
    left(shipment, monkeypatch)
    order = shipment.order
    order.refresh_from_db()
    item = rma.open_rma(
        order_id=order.pk,
        items=[rma.ReturnItem(order.lines.get().pk, 2)],
        warehouse_id=world.east.pk,
        actor=SYSTEM,
    )
    return SimpleNamespace(sku=sku, order=order, shipment=shipment, rma=item, line=item.lines.get())


def take(sold, *numbers, key="k", because=""):
    return rma.receive(
        sold.rma.pk, {sold.line.pk: len(numbers)}, actor=SYSTEM, key=key, numbers={sold.line.pk: numbers},
        wrong_because=because,
    )  # fmt: skip


def state(number):
    unit = SerialUnit.objects.get(serial=number)
    return unit.state, unit.reference


def history(number):
    return [one.words for one in SerialUnit.objects.get(serial=number).events.order_by("pk")]


def test_a_numbered_unit_is_returned_restocked_and_sold_again(sold, assert_invariants):
    with pytest.raises(UserError, match="needs 1 serial numbers, 0 were given"):
        rma.receive(sold.rma.pk, {sold.line.pk: 1}, actor=SYSTEM, key="k")
    for _ in range(2):  # a double click takes it in once
        take(sold, "s1")
    assert state("S1") == ("returned", sold.rma.number)
    before = StockLevel.objects.get(sku=sold.sku).available
    inspection.dispose([Verdict(sold.line.pk, 1, "new", "restock")], actor=SYSTEM, key="bench")
    assert state("S1") == ("in_stock", sold.rma.number)
    assert StockLevel.objects.get(sku=sold.sku).available == before + 1
    assert history("S1") == ["shipped", "came back", "restocked"]
    assert ReturnedSerial.objects.get().disposition.outcome == "restock"
    assert_invariants()


def test_another_number_needs_a_word_why_and_is_never_the_unit_that_was_sent(sold, assert_invariants):
    with pytest.raises(Conflict, match=r"CAM S9 did not leave with this order \(numbers sent: S1, S3\)"):
        take(sold, "S1", "S9")
    assert state("S1")[0] == "shipped" and not ReturnedSerial.objects.exists()  # nothing half done
    take(sold, "S1", "S9", because="buyer swapped it")
    sold.line.refresh_from_db()
    assert (sold.line.received, Rma.objects.get().state) == (1, "part_received")
    stranger = sold.rma.lines.exclude(pk=sold.line.pk).get()
    assert (stranger.order_line, stranger.received) == (None, 1)
    assert StockLevel.objects.get(sku=sold.sku).quarantine == 2
    assert [item.quantity for item in refunds.suggest(sold.rma)] == [1], (
        "the swapped unit is not refunded by itself"
    )
    alarm = ExceptionItem.objects.get(kind="return_wrong_serial", closed_at=None)
    assert "S9 was never ours" in alarm.detail and "buyer swapped it" in alarm.detail
    with pytest.raises(Conflict, match="S9 never left us"):
        inspection.dispose([Verdict(stranger.pk, 1, "new", "restock")], actor=SYSTEM, key="b1")
    inspection.dispose([Verdict(stranger.pk, 1, "wrong_item", "send_back")], actor=SYSTEM, key="b2")
    alarm.refresh_from_db()
    assert alarm.closed_at is not None
    assert_invariants()


def test_a_number_that_is_in_stock_by_our_books_is_told_and_stays(sold, assert_invariants):
    take(sold, "S2", because="label says so")
    assert state("S2")[0] == "in_stock"
    assert "S2 is in stock by our books" in ExceptionItem.objects.get(kind="return_wrong_serial").detail
    assert_invariants()


def test_units_of_one_line_end_differently_by_their_numbers(sold, assert_invariants):
    take(sold, "S1", "S3")
    with pytest.raises(UserError, match="name the 1 numbers that this verdict is about; waiting are S1, S3"):
        inspection.dispose([Verdict(sold.line.pk, 1, "new", "restock")], actor=SYSTEM, key="a")
    with pytest.raises(UserError, match="S2 does not wait on this line"):
        inspection.dispose(
            [Verdict(sold.line.pk, 1, "new", "restock", serials=("S2",))], actor=SYSTEM, key="a"
        )
    inspection.dispose(
        [
            Verdict(sold.line.pk, 1, "damaged", "scrap", serials=("S3",), note="broken glass"),
            Verdict(sold.line.pk, 1, "damaged", "refurbish", serials=("s1",)),
        ],
        actor=SYSTEM, key="b",
    )  # fmt: skip
    assert state("S3")[0] == "gone" and history("S3")[-1] == "scrapped"
    assert SerialEvent.objects.get(unit__serial="S3", words="scrapped").note == "broken glass"
    # the repaired one goes back on sale by its number, with its unit of stock
    unit = SerialUnit.objects.get(serial="S1")
    before = StockLevel.objects.get(sku=sold.sku).available
    for _ in range(2):
        operations.refurbished(unit.pk, reason="repaired", actor=SYSTEM, key="r")
    assert state("S1")[0] == "in_stock" and history("S1")[-1] == "refurbished, back in stock"
    assert StockLevel.objects.get(sku=sold.sku).available == before + 1
    assert_invariants()


def test_a_parcel_without_notice_names_what_left_us(sold, assert_invariants):
    found = rma.receive_unannounced(
        warehouse_id=sold.shipment.warehouse_id, goods=[(sold.sku.pk, 2)], actor=SYSTEM, key="blind",
        numbers={sold.sku.pk: ["S3", "X1"]},
    )  # fmt: skip
    assert state("S3") == ("returned", found.number)
    assert {one.serial: one.unit_id is not None for one in ReturnedSerial.objects.all()} == {
        "S3": True,
        "X1": False,
    }
    assert_invariants()


def test_the_history_of_a_number_cannot_be_rewritten(sold):
    for sql in ("UPDATE inventory_serialevent SET words = 'x'", "DELETE FROM inventory_serialevent"):
        with (
            pytest.raises(DatabaseError, match="append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(sql)


def test_units_whose_numbers_were_never_recorded_need_none(sold, assert_invariants):
    """Another house ships without telling its numbers: the return of such a unit asks for none."""
    elsewhere = make_sku("CAM-2", serial_tracked=True)
    sold.line.sku = elsewhere
    sold.line.save()
    rma.receive(sold.rma.pk, {sold.line.pk: 1}, actor=SYSTEM, key="k")
    assert StockLevel.objects.get(sku=elsewhere).quarantine == 1
    assert_invariants()


def test_the_bench_asks_for_numbers_and_shows_their_way(sold, client):
    client.force_login(make_user())
    url = f"/returns/{sold.rma.pk}/"
    page = client.get(url)
    key = page.context["form_key"]
    assert f'name="serials-{sold.line.pk}"' in page.content.decode()
    form = {"form_key": key, f"line-{sold.line.pk}": "2", f"serials-{sold.line.pk}": "S1\nS3"}
    assert client.post(f"{url}receive/", form).status_code == 302
    page = client.get(url).content.decode()
    assert 'name="serial" value="S1" checked' in page
    unit = SerialUnit.objects.get(serial="S1")
    shown = client.get(f"/stock/serials/{unit.pk}/").content.decode()
    assert "Came back" in shown and sold.rma.number in shown and sold.shipment.number in shown
    assert "S3" in client.get("/stock/serials/?q=cam").content.decode()
    one = client.get("/stock/serials/?q=s1").content.decode()
    assert f"/stock/serials/{unit.pk}/" in one and ">S3<" not in one, (
        "a number finds its unit, not the whole SKU"
    )
