"""P16: before anything is bought, warehouses that keep their own reorder point give what others lack."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from itertools import count

import pytest

from inventory import transfers
from inventory.ledger import Movement, post_movements
from inventory.locking import stock_transaction
from inventory.models import DemandDay, Transfer, Warehouse
from oms.core import business
from oms.core.actor import SYSTEM
from oms.core.clock import business_day
from oms.core.errors import Conflict
from oms.orders import intake, supply
from procurement import moves, planner
from procurement.models import (
    PurchaseOrder,
    ReorderSuggestion,
    ReplenishmentSetting,
    Supplier,
    SupplierOffer,
    TransferOffer,
)
from tests.api.test_resources import bearer
from tests.factories import (
    T0,
    add_stock,
    line_draft,
    make_channel,
    make_sku,
    make_user,
    make_warehouse,
    order_draft,
)

_keys = count(1)


@pytest.fixture
def east(db):
    return make_warehouse("EAST", priority=1)


@pytest.fixture
def west(db):
    return make_warehouse("WEST", priority=2)


@pytest.fixture
def kiln(db):
    return Supplier.objects.create(code="KILN", name="Kiln", lead_time_days=14)


def cup(kiln, code="CUP", per_day=4, **offer):
    """A SKU that sells every day, offered by Kiln."""
    sku = make_sku(code)
    SupplierOffer.objects.create(supplier=kiln, sku=sku, price=Decimal(2), **offer)
    today = business_day()
    DemandDay.objects.bulk_create(
        DemandDay(sku=sku, channel_code="shop", day=today - dt.timedelta(days=back), units=per_day)
        for back in range(1, 61)
    )
    return sku


def shipped(sku, place, units: int) -> None:
    """Units that left for buyers: they tell where the SKU sells."""
    add_stock(sku, place, units)
    with stock_transaction():
        post_movements(
            [Movement(sku.pk, place.pk, "on_hand", -units, "ship", key=f"ship:{next(_keys)}")], actor=SYSTEM
        )


def rows() -> list[tuple[str, int, list[tuple[str, int, int]]]]:
    """Open suggestions: warehouse, units to buy, and what can move there as (source, units, what it keeps)."""
    found = ReorderSuggestion.objects.filter(state="open").order_by("sku__code", "warehouse__code")
    return [
        (
            row.warehouse.code,
            row.quantity,
            [(one.source.code, one.quantity, one.keeps) for one in row.offered],
        )
        for row in found.prefetch_related(moves.offered()).select_related("warehouse")
    ]


def test_idle_units_elsewhere_are_moved_and_not_bought(kiln, east, west):
    sku = cup(kiln)
    add_stock(sku, east, 20)
    planner.suggest(actor=SYSTEM)
    assert rows() == [("EAST", 156, [])]
    add_stock(sku, west, 30)
    assert planner.suggest(actor=SYSTEM) == {"updated": 1}
    assert rows() == [("EAST", 126, [("WEST", 30, 0)])], "30 fewer are bought"
    row = ReorderSuggestion.objects.get()
    assert "order 126" in row.reason and "30 can come from WEST, which keeps 0" in row.reason
    assert planner.suggest(actor=SYSTEM) == {"kept": 1}, "a second run changes nothing"
    add_stock(sku, west, 200)
    planner.suggest(actor=SYSTEM)
    assert rows() == [("EAST", 0, [("WEST", 156, 74)])], "nothing has to be bought"
    assert "over all warehouses there is enough" in ReorderSuggestion.objects.get().reason
    add_stock(sku, east, 300)
    assert planner.suggest(actor=SYSTEM)["gone"] == 1 and rows() == []


def test_a_donor_keeps_the_reorder_point_of_what_it_sells_itself(kiln, east, west):
    sku = cup(kiln)
    shipped(sku, east, 75)
    shipped(sku, west, 25)
    add_stock(sku, west, 100)
    planner.suggest(actor=SYSTEM)
    [(place, _, [(source, units, keeps)])] = rows()
    offer = TransferOffer.objects.get()
    assert (place, source, units + keeps) == ("EAST", "WEST", 100)
    assert offer.reorder_point >= 14 and keeps >= offer.reorder_point, "a quarter of 4 a day for 14 days"
    add_stock(sku, west, -(units + 5))
    planner.suggest(actor=SYSTEM)
    assert all(not offered for _, _, offered in rows()), "it has nothing to spare any more"


def test_a_warehouse_that_sells_is_told_although_another_is_bought_for(kiln, east, west):
    sku = cup(kiln)
    shipped(sku, east, 50)
    shipped(sku, west, 50)
    add_stock(sku, east, 50)
    planner.suggest(actor=SYSTEM)
    (main, bought, offered), (other, none, given) = rows()
    assert (main, other, none, offered) == ("EAST", "WEST", 0, []) and bought > 0
    assert [source for source, _, _ in given] == ["EAST"]
    assert "what has to be bought goes to EAST" in ReorderSuggestion.objects.get(warehouse=west).reason
    assert [po.warehouse.code for po in planner.accept(_ids(), actor=SYSTEM)] == ["EAST"]
    assert PurchaseOrder.objects.get().lines.count() == 1
    with pytest.raises(Conflict, match="nothing to buy"):
        planner.accept(_ids(), actor=SYSTEM)


def test_paused_skus_and_places_of_others_neither_give_nor_take(kiln, east, west):
    sku = cup(kiln)
    add_stock(sku, west, 30)
    ReplenishmentSetting.objects.create(sku=sku, warehouse=east)
    paused = ReplenishmentSetting.objects.create(sku=sku, warehouse=west, is_paused=True)
    planner.suggest(actor=SYSTEM)
    assert [offered for _, _, offered in rows()] == [[]]
    paused.delete()
    Warehouse.objects.filter(pk=west.pk).update(kind="3pl")
    planner.suggest(actor=SYSTEM)
    assert [offered for _, _, offered in rows()] == [[]], "its operator ships transfers, not we"
    Warehouse.objects.filter(pk=west.pk).update(kind="own")
    planner.suggest(actor=SYSTEM)
    assert [len(offered) for _, _, offered in rows()] == [1]


def _ids() -> list[int]:
    return list(ReorderSuggestion.objects.filter(state="open").values_list("pk", flat=True))


def test_accepting_makes_one_transfer_for_each_pair_and_is_offered_no_more(
    kiln, east, west, assert_invariants
):
    mugs = [cup(kiln, code) for code in ("A", "B", "C")]
    north = make_warehouse("NORTH", priority=3)
    for sku in mugs:
        add_stock(sku, west, 200)
    add_stock(mugs[0], north, 40)
    business.put("transfer_days", 2)
    planner.suggest(actor=SYSTEM)
    assert rows()[0] == ("EAST", 0, [("WEST", 176, 24)]), "the largest spare first"
    add_stock(mugs[0], west, -150)
    planner.suggest(actor=SYSTEM)
    assert rows()[0] == ("EAST", 0, [("WEST", 50, 0), ("NORTH", 40, 0)])
    ids = _ids()
    made = moves.request(ids, actor=SYSTEM)
    pairs = sorted(
        (one.source.code, one.destination.code, one.lines.count(), one.expected_on)
        for one in Transfer.objects.filter(pk__in=[one.pk for one in made])
    )
    day = business_day() + dt.timedelta(days=2)
    assert pairs == [("NORTH", "EAST", 1, day), ("WEST", "EAST", 3, day)]
    with pytest.raises(Conflict, match="nothing|anything to move"):
        moves.request(ids, actor=SYSTEM)
    assert rows() == []
    assert set(ReorderSuggestion.objects.values_list("state", flat=True)) == {"moved"}
    planner.suggest(actor=SYSTEM)
    assert Transfer.objects.count() == 2 and rows()[1:] == [], "what is requested counts as on its way"
    for one in made:
        transfers.ship_transfer(one.pk, actor=SYSTEM)
    planner.suggest(actor=SYSTEM)
    assert all(not offered for _, _, offered in rows())
    assert_invariants()


def test_a_withdrawn_transfer_is_offered_again_and_a_purchase_stays_on_the_list(kiln, east, west):
    sku = cup(kiln)
    add_stock(sku, west, 30)
    planner.suggest(actor=SYSTEM)
    [(_, bought, offered)] = rows()
    assert bought and offered == [("WEST", 30, 0)]
    [made] = moves.request(_ids(), actor=SYSTEM)
    assert rows() == [("EAST", bought, [])], "the rest is still to be bought"
    planner.suggest(actor=SYSTEM)
    assert rows() == [("EAST", bought, [])]
    transfers.cancel_transfer(made.pk, actor=SYSTEM)
    planner.suggest(actor=SYSTEM)
    assert rows() == [("EAST", bought, [("WEST", 30, 0)])]
    assert TransferOffer.objects.filter(transfer=made).count() == 1, "what was requested once stays told"


def test_an_order_that_waits_at_one_warehouse_is_served_from_another(kiln, east, west):
    sku = make_sku("NEW")  # never sold before
    channel = make_channel("shop", west)
    add_stock(sku, east, 9)
    draft = order_draft(line_draft(sku, 3), external_id="X", placed_at=T0)
    intake.take([draft], channel=channel, actor=SYSTEM, source="webhook")
    assert supply.short_by_place() == {(sku.pk, west.pk): 3}
    supply.plan_reorders(actor=SYSTEM)
    assert rows() == [("WEST", 0, [("EAST", 3, 6)])]


def test_a_run_asks_as_much_of_the_database_for_many_skus_as_for_a_few(
    kiln, east, west, django_assert_max_num_queries
):
    def spread(number):
        sku = cup(kiln, f"S{number}")
        shipped(sku, west, 3)
        shipped(sku, east, 5)
        add_stock(sku, west, 100)
        return sku

    def queries() -> int:
        with django_assert_max_num_queries(60) as seen:
            planner.suggest(actor=SYSTEM)
        return len(seen)

    few = [spread(number) for number in range(3)]
    first = queries()
    many = [spread(number) for number in range(3, 30)]
    assert queries() <= first + 6
    for sku in few + many:
        add_stock(sku, west, -1)
    assert queries() <= first + 6, "also where every suggestion is another one now"
    assert TransferOffer.objects.count() == 30


def test_the_list_shows_what_can_move_and_requests_it_with_the_right_for_its_source(kiln, east, west, client):
    sku = cup(kiln)
    add_stock(sku, west, 30)
    planner.suggest(actor=SYSTEM)
    client.force_login(make_user())
    page = client.get("/purchasing/reorder/").content.decode()
    assert "30 from WEST" in page and "keeps 0" in page and "Request transfers" in page
    answer = client.post("/purchasing/reorder/transfers/", {"ids": _ids()})
    made = Transfer.objects.get()
    assert answer.status_code == 302 and answer["Location"] == f"/stock/transfers/{made.pk}/"
    assert (made.source, made.destination, made.state) == (west, east, "requested")
    assert "30 from WEST" not in client.get("/purchasing/reorder/").content.decode()
    again = client.post("/purchasing/reorder/transfers/", {"ids": _ids()}, follow=True).content.decode()
    assert "requested or went out meanwhile" in again and Transfer.objects.count() == 1
    client.force_login(make_user("viewer", role="viewer"))
    assert client.post("/purchasing/reorder/transfers/", {"ids": _ids()}).status_code == 403


def test_the_interface_tells_and_requests_what_can_move(kiln, east, west):
    sku = cup(kiln)
    add_stock(sku, west, 30)
    planner.suggest(actor=SYSTEM)
    api = bearer(make_user("api"))
    [row] = api.get("/api/v1/reorder-suggestions/?state=open").json()["results"]
    assert row["transfers"] == [{"source": "WEST", "quantity": 30, "keeps": 0, "reorder_point": 0}]
    url = "/api/v1/reorder-suggestions/transfer/"
    assert api.post(url, {"ids": [10**9]}).status_code == 400
    [made] = api.post(url, {"ids": [row["id"]]}).json()
    assert (made["source"], made["destination"], made["state"]) == ("WEST", "EAST", "requested")
    assert [(line["sku"], line["quantity"]) for line in made["lines"]] == [("CUP", 30)]
    assert api.post(url, {"ids": [row["id"]]}).status_code == 409
    assert api.get(f"/api/v1/reorder-suggestions/{row['id']}/").json()["transfers"] == []
