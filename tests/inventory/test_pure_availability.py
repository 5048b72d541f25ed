"""The published quantity in its exact order of steps, and the division of the last units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.availability import (
    Claim,
    Fence,
    ListingRule,
    Part,
    Pool,
    after_fences,
    listing_quantity,
    partition,
    pooled,
)


def one(*free, fences=(), incoming=0):
    """A single SKU with so many free units in warehouses W1, W2 …"""
    pools = tuple(Pool(f"W{number}", units) for number, units in enumerate(free, start=1))
    return [Part("MUG", pools, fences=fences, incoming=incoming)]


def shown(parts, **rule):
    return listing_quantity(parts, ListingRule(**rule)).quantity


def test_free_is_on_hand_less_unfit_promised_and_safety():
    assert Pool("W1", on_hand=20, reserved=3, unavailable=2, safety=5).free == 10


def test_a_negative_location_does_not_eat_another_one():
    short = Pool("W1", on_hand=0, safety=4)
    full = Pool("W2", on_hand=10)
    assert pooled([short, full]) == 10
    assert shown([Part("MUG", (short, full))]) == 10


def test_kit_is_the_scarcest_component():
    """Components 7 (need 2, buffer 1) and 5 (need 1) make min(3, 5) = 3."""
    parts = [Part("TEE", (Pool("W1", 7),), per_unit=2, buffer=1), Part("CAP", (Pool("W1", 5),))]
    assert shown(parts) == 3


def test_kit_is_whole_in_one_warehouse():
    parts = [
        Part("TEE", (Pool("W1", 4), Pool("W2", 0))),
        Part("CAP", (Pool("W1", 1), Pool("W2", 3))),
    ]
    assert shown(parts) == 1


def test_single_component_kit_divides():
    assert shown([Part("MUG", (Pool("W1", 7),), per_unit=3)]) == 2


@pytest.mark.parametrize(
    ("rule", "quantity"),
    [
        ({}, 37),
        ({"buffer": 5}, 32),
        ({"buffer": 5, "percent": 50}, 16),  # (37 − 5) × 50 %
        ({"buffer": 6, "percent": 50}, 15),  # 15.5 rounds down
        ({"buffer": 5, "percent": 50, "cap": 10}, 10),
        ({"buffer": 5, "percent": 50, "cap": 10, "stop_at": 10}, 0),
        ({"stop_at": 36}, 37),
        ({"stop_at": 37}, 0),
        ({"buffer": 40}, 0),
        ({"buffer": 40, "percent": 50}, 0),
        ({"pack": 6}, 6),
        ({"cap": 20, "pack": 6}, 3),  # the cap counts eaches, packs come last
        ({"cap": 0}, 0),
        ({"percent": 0}, 0),
    ],
)
def test_order_of_operations(rule, quantity):
    assert shown(one(30, 7), **rule) == quantity


def test_last_units_share_comes_before_whole_packs():
    result = listing_quantity(one(9), ListingRule(pack=2), share=5)
    assert result.quantity == 2
    assert result.why() == "9 stock, 5 last-units share, 2 packs"


def test_why_names_only_the_steps_that_changed_the_figure():
    result = listing_quantity(one(30, 7), ListingRule(buffer=5, percent=50, cap=10))
    assert result.why() == "37 stock, 32 buffer, 16 percent, 10 cap"


def test_preorder_listing_sells_a_share_of_incoming_units():
    parts = one(3, incoming=41)
    assert shown(parts, preorder_percent=50, buffer=2) == 18
    assert listing_quantity(parts, ListingRule(preorder_percent=50)).steps[0] == ("incoming", 20)


def test_ring_fence_keeps_units_from_others_and_not_from_its_own_channel():
    fences = (Fence("tiktok", 20),)
    assert shown(one(100, fences=fences), channel="shopify") == 80
    assert shown(one(100, fences=fences), channel="tiktok") == 100
    assert shown(one(15, fences=fences), channel="shopify") == 0
    assert shown(one(15, fences=fences), channel="tiktok") == 15


def test_fences_beyond_stock_are_served_in_order():
    fences = (Fence("tiktok", 8), Fence("ebay", 8))
    assert [after_fences(10, fences, channel) for channel in ("tiktok", "ebay", "shopify")] == [8, 2, 0]


def test_refuses_no_parts_and_senseless_packs():
    with pytest.raises(ValueError, match="at least one"):
        listing_quantity([], ListingRule())
    with pytest.raises(ValueError, match="1 or more"):
        listing_quantity(one(1), ListingRule(pack=0))
    with pytest.raises(ValueError, match="1 or more"):
        listing_quantity([Part("MUG", (Pool("W1", 1),), per_unit=0)], ListingRule())


rules = st.builds(
    ListingRule,
    channel=st.sampled_from(["shopify", "tiktok", ""]),
    buffer=st.integers(0, 20),
    percent=st.integers(0, 100),
    cap=st.none() | st.integers(0, 50),
    stop_at=st.integers(0, 10),
    pack=st.integers(1, 7),
)
pools = st.builds(
    Pool,
    warehouse=st.sampled_from(["W1", "W2", "W3"]),
    on_hand=st.integers(0, 60),
    reserved=st.integers(0, 30),
    unavailable=st.integers(0, 10),
    safety=st.integers(0, 10),
)
part_lists = st.lists(
    st.builds(
        Part,
        sku=st.uuids().map(str),
        pools=st.lists(pools, max_size=3, unique_by=lambda pool: pool.warehouse).map(tuple),
        per_unit=st.integers(1, 4),
        buffer=st.integers(0, 3),
        fences=st.lists(
            st.builds(Fence, st.sampled_from(["shopify", "tiktok"]), st.integers(0, 30)), max_size=3
        ).map(tuple),
    ),
    min_size=1,
    max_size=3,
)


@given(part_lists, rules)
def test_never_negative_and_never_more_than_any_component_allows(parts, rule):
    quantity = listing_quantity(parts, rule).quantity
    assert quantity >= 0
    for part in parts:
        assert quantity * rule.pack * part.per_unit <= max(0, pooled(part.pools))
    assert rule.cap is None or quantity * rule.pack <= rule.cap


@given(
    st.integers(0, 100), st.lists(st.builds(Fence, st.sampled_from("abc"), st.integers(0, 40)), max_size=5)
)
def test_fences_never_promise_the_fenced_units_twice(base, fences):
    free = after_fences(base, fences, "nobody")
    own = [after_fences(base, fences, channel) - free for channel in "abc"]
    assert free + sum(own) == base and min(own) >= 0 and free >= 0


def claim(key, quantity, *, sku="MUG", units=1, warehouses=("W1",), kept=0):
    return Claim(key, quantity, ((sku, units),), warehouses, kept)


def test_three_units_on_four_channels_show_one_zero():
    given_ = partition({("MUG", "W1"): 3}, [claim(key, 3) for key in ("amazon", "ebay", "shopify", "tiktok")])
    assert given_ == {"amazon": 1, "ebay": 1, "shopify": 1, "tiktok": 0}
    assert sum(given_.values()) <= 3


def test_own_limit_passes_units_on():
    assert partition({("MUG", "W1"): 6}, [claim("a", 1), claim("b", 6)]) == {"a": 1, "b": 5}


def test_packs_and_kits_take_what_they_use():
    claims = [
        claim("six-pack", 1, units=6),
        claim("single", 8),
        Claim("set", 4, (("MUG", 1), ("CAP", 1)), ("W1",)),
    ]
    result = partition({("MUG", "W1"): 8, ("CAP", "W1"): 1}, claims)
    assert result == {"six-pack": 1, "single": 1, "set": 1}


def test_warehouses_that_only_one_channel_sees_are_drawn_first():
    stock = {("MUG", "W1"): 2, ("MUG", "W2"): 2}
    result = partition(stock, [claim("a", 4, warehouses=("W1", "W2")), claim("b", 2, warehouses=("W1",))])
    assert result == {"a": 2, "b": 2}


def test_ring_fenced_units_are_served_before_the_rest():
    claims = [claim("a", 4), claim("b", 4), claim("tiktok", 4, kept=3)]
    assert partition({("MUG", "W1"): 4}, claims) == {"a": 1, "b": 0, "tiktok": 3}


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["MUG", "CAP"]), st.sampled_from(["W1", "W2"])), st.integers(-2, 12)
    ),
    st.lists(
        st.builds(
            Claim,
            key=st.text("abcdef", min_size=1, max_size=3),
            quantity=st.integers(0, 9),
            uses=st.sampled_from([(("MUG", 1),), (("MUG", 3),), (("CAP", 1),), (("CAP", 1), ("MUG", 2))]),
            warehouses=st.sampled_from([("W1",), ("W2",), ("W1", "W2")]),
            kept=st.integers(0, 3),
        ),
        max_size=6,
        unique_by=lambda c: c.key,
    ),
)
def test_partition_never_shows_more_than_there_is_and_wastes_nothing(stock, claims):
    result = partition(stock, claims)
    assert partition(stock, list(reversed(claims))) == result
    taken = {"MUG": 0, "CAP": 0}
    for c in claims:
        assert 0 <= result[c.key] <= c.quantity
        for sku, units in c.uses:
            taken[sku] += units * result[c.key]
    total = {sku: sum(max(0, n) for (s, _), n in stock.items() if s == sku) for sku in taken}
    assert all(taken[sku] <= total[sku] for sku in taken)
    if all(c.uses == (("MUG", 1),) and c.warehouses == ("W1", "W2") for c in claims):
        assert taken["MUG"] == min(total["MUG"], sum(c.quantity for c in claims))
