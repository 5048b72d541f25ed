"""Pure decisions: drift causes, latency, and the figure of many listings at once."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from channels import kpis, pushing, quantities
from channels.drift import Facts, classify
from channels.models import ChannelAccount, Listing, LocationMap
from channels.session import access_of
from inventory.models import Sku, Warehouse
from oms.core.clock import now
from oms.orders.models import ChannelWarehouse
from tests.factories import add_stock, make_channel, make_kit, make_sku, make_warehouse

MINUTES = dt.timedelta(minutes=5)


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        (Facts(5, 5), None),
        (Facts(5, 4, in_flight=True), None),
        (Facts(5, 4, stale_for=dt.timedelta(seconds=10)), None),
        (Facts(5, 4, stale_for=MINUTES), "unsent"),
        (Facts(None, 4, stale_for=MINUTES), "unsent"),
        (Facts(None, 4), None),
        (Facts(5, 5, dead=True), "rejected"),
        (Facts(5, 4, refused=True, stale_for=MINUTES), "rejected"),
        (Facts(None, 3, mapped=False), "unmapped"),
        (Facts(None, 0, mapped=False), None),
        (Facts(5, 4, messages_waiting=True), "delayed_order"),
        (Facts(5, 4, orders_read_after=False), "unknown_sale"),
        (Facts(5, 4), "edited"),
        (Facts(5, 9), "edited"),
        (Facts(5, 9, by_channel=True), "fba"),
        (Facts(None, 9, by_channel=True), None),
    ],
)
def test_cause_of_a_difference(facts: Facts, cause: str | None) -> None:
    found = classify(facts)
    assert (found.cause if found else None) == cause
    assert found is None or found.why


def test_latency_counts_what_is_still_open() -> None:
    assert kpis.latency([], []) == kpis.Latency()
    found = kpis.latency([100] * 98 + [900], [60_000])
    assert (found.count, found.p50, found.p95, found.p99, found.longest, found.open) == (
        99,
        100,
        100,
        1491,  # 900 + 1 % of the way to 60,000: linear between the two last ranks
        60_000,
        1,
    )
    assert found.within == 0.99


@pytest.fixture
def world(db: None) -> tuple[Warehouse, Warehouse, Sku]:
    east, west = make_warehouse("EAST"), make_warehouse("WEST")
    sku = make_sku("MUG")
    add_stock(sku, east, 30)
    add_stock(sku, west, 12)
    return east, west, sku


def listing(sku: Sku, *warehouses: Warehouse, location: str = "", **fields: Any) -> Listing:
    channel = make_channel("", *warehouses)
    account = ChannelAccount.objects.create(sales_channel=channel, connector="shopify", state="connected")
    if location:
        LocationMap.objects.create(account=account, warehouse=warehouses[0], external_id=location)
    return Listing.objects.create(
        account=account,
        external_id=f"x{channel.pk}",
        external_sku=sku.code,
        sku=sku,
        location_id=location,
        **fields,
    )


def figures(*rows: Listing) -> list[int]:
    facts = quantities.facts(
        Listing.objects.filter(pk__in=[row.pk for row in rows]).values_list(*quantities.FACT_FIELDS)
    )
    shown = quantities.compute(facts)
    return [shown[row.pk].quantity for row in rows]


def test_figures_follow_warehouses_locations_and_rules(world: tuple[Warehouse, Warehouse, Sku]) -> None:
    east, west, sku = world
    both, one = listing(sku, east, west), listing(sku, east, west, location="L1")
    ruled = listing(sku, east, buffer=2, percent=50, cap=10)
    kit = listing(make_kit("SET", {sku: 4}), east, west)
    packs = listing(sku, east, pack_size=4)
    assert figures(both, one, ruled, kit, packs) == [42, 30, 10, 10, 7]
    ChannelWarehouse.objects.filter(channel=both.account.sales_channel, warehouse=west).update(
        publishes=False
    )
    assert figures(both) == [30]


def test_the_channels_own_warehouse_is_never_counted(world: tuple[Warehouse, Warehouse, Sku]) -> None:
    east, _, sku = world
    fba = make_warehouse("FBA", kind=Warehouse.Kind.FBA)
    from inventory.operations import PoolFigure, apply_pool_snapshot
    from oms.core.actor import SYSTEM

    apply_pool_snapshot(
        warehouse_id=fba.pk, figures=[PoolFigure(sku.pk, 99)], taken_at=now(), actor=SYSTEM, key="s1"
    )
    assert figures(listing(sku, east, fba)) == [30]


def test_last_units_are_divided_without_exposure(db: None) -> None:
    warehouse, sku = make_warehouse("ONE"), make_sku("LAST")
    add_stock(sku, warehouse, 3)
    rows = [listing(sku, warehouse) for _ in range(5)]
    assert sorted(figures(*rows), reverse=True) == [1, 1, 1, 0, 0]
    assert sum(figures(*rows)) == 3
    # one listing asked alone gets the same share as among all
    assert [figures(row)[0] for row in rows] == figures(*rows)


def test_a_figure_does_not_depend_on_what_else_is_in_the_batch(db: None) -> None:
    east, west = make_warehouse("EAST"), make_warehouse("WEST")
    mug, cup = make_sku("MUG"), make_sku("CUP")
    add_stock(mug, east, 18)
    add_stock(mug, west, 3)
    add_stock(cup, east, 2)
    there = [listing(mug, west, location=f"W{n}") for n in range(2)]
    plenty = listing(mug, east, location="E1")
    together = figures(*there, plenty)
    assert together[2] == 18  # three left in WEST take nothing from those that sell from EAST
    assert sum(together[:2]) == 3
    assert [figures(row)[0] for row in (*there, plenty)] == together
    # a kit ties the last units of one SKU to those of another
    plate = make_sku("PLATE")
    add_stock(plate, east, 3)
    rows = [
        *(listing(cup, east) for _ in range(2)),
        *(listing(plate, east) for _ in range(2)),
        listing(make_kit("SET", {cup: 1, plate: 1}), east),
    ]
    assert [figures(row)[0] for row in rows] == figures(*rows)


def test_unseen_sales_of_a_kit_that_end_are_told_to_its_parts(
    world: tuple[Warehouse, Warehouse, Sku],
) -> None:
    east, _, sku = world
    part, kit = listing(sku, east), listing(make_kit("SET", {sku: 2}), east)
    Listing.objects.update(stale_since=None)
    Listing.objects.filter(pk=kit.pk).update(acked_quantity=3, held=5, unseen_since=now(), acked_at=now())
    assert figures(part) == [26]
    assert pushing.forget_unseen(kit.account_id, before=now()) == 1
    assert figures(part) == [30]
    part.refresh_from_db()
    assert part.stale_since is not None


@pytest.mark.parametrize("how", ["booked", "read", "forgotten by a retry"])
def test_unseen_sales_that_end_are_told_to_their_rivals(
    world: tuple[Warehouse, Warehouse, Sku], how: str
) -> None:
    east, _, sku = world
    sold, rival = listing(sku, east), listing(sku, east)
    token = uuid.uuid4()
    Listing.objects.update(stale_since=None)
    Listing.objects.filter(pk=sold.pk).update(
        acked_quantity=3, held=5, unseen_since=now(), acked_at=now(), lease_token=token
    )
    assert figures(rival) == [28]
    if how == "booked":  # the order's own movement has been told before, with these units taken twice
        pushing.note_booked(sold.account_id, {sold.pk: 2})
    elif how == "read":
        access = access_of(sold.account)
        pushing.recompute(pushing.Batch(access, token, (), now()), {sold.pk: 5}, now())
    else:
        pushing.mark_listings(Listing.objects.filter(pk=sold.pk), forget=True)
    assert figures(rival) == [30]
    rival.refresh_from_db()
    assert rival.stale_since is not None


def test_unseen_sales_that_a_look_finds_lower_the_rivals_at_once(
    world: tuple[Warehouse, Warehouse, Sku],
) -> None:
    east, _, sku = world
    sold, rival = listing(sku, east), listing(sku, east)
    token = uuid.uuid4()
    Listing.objects.update(stale_since=None)
    Listing.objects.filter(pk=sold.pk).update(acked_quantity=30, held=30, acked_at=now(), lease_token=token)
    pushing.recompute(pushing.Batch(access_of(sold.account), token, (), now()), {sold.pk: 26}, now())
    assert figures(rival) == [26]
    rival.refresh_from_db()
    assert rival.stale_since is not None


def test_a_batch_reads_the_same_however_large_it_is(
    world: tuple[Warehouse, Warehouse, Sku], django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    east, west, sku = world
    rows = [listing(sku, east, west) for _ in range(3)]
    rows += [listing(make_kit(f"K{n}", {sku: 2}), east) for n in range(20)]
    facts = quantities.facts(
        Listing.objects.filter(pk__in=[row.pk for row in rows]).values_list(*quantities.FACT_FIELDS)
    )
    with django_assert_max_num_queries(8):
        quantities.compute(facts)


def test_a_component_makes_its_kits_stale_from_the_time_of_its_change(
    world: tuple[Warehouse, Warehouse, Sku],
) -> None:
    east, _, sku = world
    kit, other = listing(make_kit("SET", {sku: 2}), east), listing(make_sku("OTHER"), east)
    first, second = now() - dt.timedelta(seconds=9), now()
    assert pushing.mark_stale({sku.pk: first}) == 1
    pushing.mark_stale({sku.pk: second})
    kit.refresh_from_db()
    other.refresh_from_db()
    assert (kit.version, kit.stale_since) == (2, first) and other.version == 0
