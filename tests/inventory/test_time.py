"""I18 and 2.4: stock at any moment; I20: low stock told once; I02: every number opens its movements."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal as D

import pytest
import time_machine
from django.test import Client
from django.urls import reverse

from inventory import asof, incoming, lowstock, operations, tasks, transfers
from inventory.models import DemandDay, LowStock, Sku, StockCheckpoint, StockDay, StockMovement
from oms.core.actor import SYSTEM
from oms.core.clock import business_day, now
from oms.core.models import ExceptionItem
from tests.factories import add_stock, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db
START = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC)


def client(role: str = "owner", **scope) -> Client:
    found = Client()
    found.force_login(make_user("", role, **scope))
    return found


def story(sku, east):
    """Four steps on four days: +10 at 2.00, −3, +5 at 4.00, −1."""
    for day, (units, cost) in enumerate([(10, D(2)), (-3, None), (5, D(4)), (-1, None)]):
        with time_machine.travel(START + dt.timedelta(days=day), tick=False):
            operations.adjust(
                sku_id=sku.pk, warehouse_id=east.pk, quantity=units, reason="correction", actor=SYSTEM,
                key=f"{sku.pk}:{day}", unit_cost=cost,
            )  # fmt: skip


def test_the_answer_is_the_same_with_any_checkpoints(assert_invariants):
    sku, east = make_sku(), make_warehouse()
    story(sku, east)
    moments = [START + dt.timedelta(hours=6 * n) for n in range(-1, 20)]

    def answers():
        return [
            (found.on_hand, found.available, found.value) if found else None
            for at in moments
            for found in [asof.as_of(at, with_cost=True).get((sku.pk, east.pk))]
        ]

    before = answers()
    assert before[0] is None and before[1] == (10, 10, D(20)) and before[-1] == (11, 11, D("31.1663"))
    for hours in (12, 60, 80):
        asof.write_checkpoints(START + dt.timedelta(hours=hours))
        assert answers() == before
    assert StockCheckpoint.objects.count() == 3


def test_the_daily_checkpoint_is_written_once_and_thinned():
    sku, east = make_sku(), make_warehouse()
    story(sku, east)
    with time_machine.travel(START + dt.timedelta(days=3, hours=5), tick=False):
        tasks.write_checkpoints()
        tasks.write_checkpoints()
    at = dt.datetime(2026, 3, 5, tzinfo=dt.UTC)
    assert list(StockCheckpoint.objects.values_list("at", "balance", "stock_value")) == [
        (at, 12, D("33.9996"))
    ]
    with time_machine.travel(START + dt.timedelta(days=4), tick=False):
        asof.write_checkpoints(dt.datetime(2026, 3, 2, 10, tzinfo=dt.UTC))  # a Monday
    with time_machine.travel(START + dt.timedelta(days=90), tick=False):
        assert asof.thin_checkpoints() == 1
    assert StockCheckpoint.objects.get().at.weekday() == 0


def test_the_difference_of_two_moments_names_its_causes():
    sku, east = make_sku(), make_warehouse()
    story(sku, east)
    pair = (sku.pk, east.pk)
    found = asof.diff(START, START + dt.timedelta(days=3))
    assert found == {pair: {"on_hand": [asof.Cause("adjust", "correction", 1, 3)]}}


def test_the_slider_shows_each_step_with_its_cause(django_assert_max_num_queries):
    sku, east = make_sku("SLIDE"), make_warehouse("EAST")
    story(sku, east)
    owner = client()
    url = reverse("inventory:sku", args=[sku.code])
    with django_assert_max_num_queries(30):
        text = owner.get(url, {"tab": "time", "step": "1"}).content.decode()
    assert 'type="range"' in text and 'max="3"' in text and 'value="1"' in text
    assert "<b>Adjustment</b> −3 on hand in EAST, correction" in text
    assert "14.00 <small>USD" in text  # seven left at 2.00
    part = owner.get(url, {"tab": "time", "at": "2026-03-02T10:00:00+00:00"}, headers={"HX-Request": "true"})
    assert "<html" not in part.content.decode() and "20.00 <small>USD" in part.content.decode()
    wrong = owner.get(url, {"tab": "time", "at": "yesterday"}).content.decode()
    assert "is no time such as 2026-03-03T10:00" in wrong
    packer = client("floor", warehouses=("EAST",)).get(url, {"tab": "time", "step": "1"})
    assert "USD" not in packer.content.decode().split("time-results")[1].split("</section>")[0]


def test_the_whole_list_of_a_moment_as_a_file():
    east, west = make_warehouse("EAST"), make_warehouse("WEST")
    sku = make_sku("=cmd")
    story(sku, east)
    add_stock(make_sku("LATER"), west, 1)
    at = "2026-03-03T10:00:00+00:00"
    answer = client().get(reverse("inventory:as_of"), {"at": at, "format": "csv"})
    lines = b"".join(answer.streaming_content).decode().lstrip("\ufeff").splitlines()
    assert lines == [
        "sku,warehouse,on_hand,reserved,damaged,quarantine,inspection,available,in_transit,average_cost,value,currency",
        "'=cmd,EAST,7,0,0,0,0,7,0,2.0000,14.0000,USD",
    ]
    scoped = client("ops", warehouses=("WEST",))
    answer = scoped.get(reverse("inventory:as_of"), {"at": at, "format": "csv"})
    assert len(b"".join(answer.streaming_content).decode().splitlines()) == 1


def test_what_all_stock_was_worth_with_and_without_a_checkpoint(django_assert_max_num_queries):
    """Of what moved since the checkpoint the replay tells, of the rest the checkpoint; currencies stay apart."""
    east, west = make_warehouse("EAST"), make_warehouse("WEST")
    moved, still = make_sku("MOVED"), make_sku("STILL")
    story(moved, east)
    euro = make_sku("EURO", currency="EUR")
    for sku, place, cost in ((still, east, "3"), (still, west, "4"), (euro, west, "2.50")):
        add_stock(sku, place, 10, unit_cost=D(cost))
    past, later = START + dt.timedelta(days=2), now() + dt.timedelta(minutes=20)
    wanted = {"EUR": D(25), "USD": D(70) + asof.as_of(later, with_cost=True)[moved.pk, east.pk].value}
    assert asof.worth(later) == wanted
    assert asof.worth(past) == {"USD": asof.as_of(past, with_cost=True)[moved.pk, east.pk].value}
    end = later + dt.timedelta(hours=1)
    with time_machine.travel(end):
        asof.write_checkpoints(later)
    with django_assert_max_num_queries(7):
        assert asof.worth(end) == wanted
    with time_machine.travel(end):
        add_stock(still, west, 10, unit_cost=D(6))
    assert asof.worth(end)["USD"] == wanted["USD"] + 60
    assert asof.worth(end, warehouse_ids=[east.pk]) == {"USD": wanted["USD"] - 40}
    assert asof.worth(end, skus=Sku.objects.filter(code="EURO")) == {"EUR": D(25)}


def test_the_grid_of_a_moment(django_assert_max_num_queries):
    sku, east = make_sku("GRID"), make_warehouse("EAST")
    story(sku, east)
    owner = client()
    with django_assert_max_num_queries(20):
        text = owner.get(reverse("inventory:as_of"), {"at": "2026-03-02T10:00:00+00:00"}).content.decode()
    assert "GRID" in text and "20.00 <small>USD" in text
    assert 'worth in all <strong><span class="money">20.00 <small>USD' in text
    assert "worth in all" not in client("floor").get(reverse("inventory:as_of")).content.decode()
    assert owner.get(reverse("inventory:as_of"), {"at": "noon"}).status_code == 422


def test_every_figure_opens_the_movements_that_make_it():
    sku, east = make_sku("OPEN"), make_warehouse("EAST")
    add_stock(sku, east, 5)
    operations.change_state(
        sku_id=sku.pk, warehouse_id=east.pk, quantity=2, source="sellable", target="damaged", reason="damaged",
        actor=SYSTEM, key="d",
    )  # fmt: skip
    owner = client()
    grid = owner.get(reverse("inventory:stock")).content.decode()
    for bucket in ("on_hand", "reserved", "unfit", "available", "in_transit"):
        assert f"/stock/OPEN/?bucket={bucket}" in grid
    url = reverse("inventory:sku", args=["OPEN"])
    for bucket, rows in (("on_hand", 1), ("damaged", 1), ("unfit", 1), ("available", 2), ("reserved", 0)):
        page = owner.get(url, {"bucket": bucket})
        assert len(page.context["movements"]) == rows, bucket
    total = sum(
        {"on_hand": 1}.get(row.bucket, -1) * row.quantity
        for row in owner.get(url, {"bucket": "available", "warehouse": "EAST"}).context["movements"]
    )
    assert total == 3


def test_incoming_is_transfers_and_whatever_is_registered():
    sku, east, west = make_sku(), make_warehouse(), make_warehouse()
    add_stock(sku, east, 5)
    made = transfers.request_transfer(
        source_id=east.pk, destination_id=west.pk, lines={sku.pk: 2}, actor=SYSTEM
    )
    transfers.ship_transfer(made.pk, actor=SYSTEM)
    assert incoming.incoming([sku.pk]) == {(sku.pk, west.pk): 2}


def sell(sku, per_day: int, days: int = 90) -> None:
    today = business_day()
    DemandDay.objects.bulk_create(
        DemandDay(sku=sku, channel_code="shop", day=today - dt.timedelta(days=n), units=per_day)
        for n in range(1, days + 1)
    )


def test_low_stock_is_told_once_and_again_only_after_recovery():
    sku, east = make_sku("LOW"), make_warehouse()
    add_stock(sku, east, 100)
    sell(sku, 5)
    assert lowstock.watch() == (0, 0)
    operations.adjust(sku_id=sku.pk, warehouse_id=east.pk, quantity=-70, reason="lost", actor=SYSTEM, key="a")
    assert [lowstock.watch(), lowstock.watch(), lowstock.watch()] == [(1, 0), (0, 0), (0, 0)]
    item = ExceptionItem.objects.get(kind="low_stock")
    assert item.seen == 1 and item.title.startswith("LOW is low: 30 left, 6 days")
    outlook = lowstock.outlooks([sku.pk])[sku.pk]
    assert outlook.out_on == business_day() + dt.timedelta(days=6) and outlook.cover == 6
    # a person closes it: it does not come back while the SKU stays low
    ExceptionItem.objects.update(closed_at=now(), closed_by="user:1")
    assert lowstock.watch() == (0, 0)
    add_stock(sku, east, 200)
    assert lowstock.watch() == (0, 1) and not LowStock.objects.exists()
    operations.adjust(
        sku_id=sku.pk, warehouse_id=east.pk, quantity=-215, reason="lost", actor=SYSTEM, key="b"
    )
    assert lowstock.watch() == (1, 0)
    assert ExceptionItem.objects.filter(closed_at__isnull=True).count() == 1
    add_stock(sku, east, 200)
    tasks.watch_low_stock()
    assert not ExceptionItem.objects.filter(closed_at__isnull=True).exists()


def test_a_limit_in_units_goes_first_and_days_without_stock_do_not_count():
    sku, east = make_sku(low_stock_at=3), make_warehouse()
    add_stock(sku, east, 4)
    assert lowstock.watch() == (0, 0)
    operations.adjust(sku_id=sku.pk, warehouse_id=east.pk, quantity=-1, reason="lost", actor=SYSTEM, key="a")
    assert lowstock.watch() == (1, 0)
    other = make_sku()
    sell(other, 4)
    today = business_day()
    DemandDay.objects.filter(sku=other, day__gte=today - dt.timedelta(days=3)).delete()
    StockDay.objects.create(
        sku=other, first_day=today - dt.timedelta(days=3), last_day=today - dt.timedelta(days=1), on_hand=0,
        unfit=0, in_transit=0, available=0, out_minutes=1440,
    )  # fmt: skip
    found = lowstock.outlooks([other.pk])[other.pk]
    assert (found.velocity.per_day, found.velocity.in_stock_days) == (4.0, 87)


def test_the_ledger_row_of_each_step_states_the_value():
    sku, east = make_sku(), make_warehouse()
    story(sku, east)
    values = list(StockMovement.objects.order_by("id").values_list("balance", "average_cost", "stock_value"))
    assert values == [
        (10, D(2), D(20)),
        (7, D(2), D(14)),
        (12, D("2.8333"), D("33.9996")),
        (11, D("2.8333"), D("31.1663")),
    ]
