"""The pure router: F01, F02, F03, F05, F07, I04, W01."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.routing.model import LineView, OrderView, Policy, WarehouseView, policy_from
from fulfillment.routing.planner import inputs, plan, replay

DAY = dt.date(2026, 11, 24)


def order(*lines: tuple[str, int], **kwargs) -> OrderView:
    values = {
        "number": "SH-1", "channel": "shopify-us", "country": "US", "region": "NY", "postal": "10001",
        "value": Decimal("80"), "currency": "USD", "weight_g": 900,
        "lines": tuple(LineView(i, sku, n, ((sku, 1),)) for i, (sku, n) in enumerate(lines, 1)),
    }  # fmt: skip
    return OrderView(**(values | kwargs))


def place(code: str, stock: dict[str, int], **kwargs) -> WarehouseView:
    values = {
        "code": code,
        "kind": "own",
        "stock": stock,
        "ship_day": DAY,
        "cost": Decimal("6"),
        "priority": 10,
    }
    return WarehouseView(**(values | kwargs))


NO_RULES = Policy(1)


def test_cheapest_warehouse_with_everything_wins_and_the_losers_say_why():
    decided = plan(
        order(("MUG", 2)),
        [
            place("EAST", {"MUG": 5}, cost=Decimal("4.12"), zone="4"),
            place("WEST", {"MUG": 1}),
            place("RENO", {"MUG": 9}, cost=Decimal("6.80")),
        ],
        NO_RULES,
    )
    assert decided.outcome == "routed"
    assert [(p.warehouse, p.quantity) for p in decided.parts] == [("EAST", 2)]
    lost = {c["code"]: c.get("lost") for c in decided.trace["candidates"]}
    assert lost == {"EAST": None, "WEST": "only 1 of 2 MUG", "RENO": "costs 6.80 against 4.12"}
    assert (
        decided.summary
        == "EAST won: 2 units, 4.12 USD, zone 4; RENO lost: costs 6.80 against 4.12; WEST lost: only 1 of 2 MUG"
    )


def test_units_of_one_line_split_over_two_warehouses():
    decided = plan(order(("MUG", 2)), [place("A", {"MUG": 1}), place("B", {"MUG": 1})], NO_RULES)
    assert sorted((p.warehouse, p.quantity) for p in decided.parts) == [("A", 1), ("B", 1)]


def test_max_splits_of_one_never_gives_two_shipments():
    policy = policy_from(1, [{"name": "one box", "then": {"max_splits": 1}}])
    decided = plan(order(("MUG", 2)), [place("A", {"MUG": 1}), place("B", {"MUG": 1})], policy)
    # sending one unit now would need a second shipment for the other one later
    assert (decided.outcome, decided.parts, decided.short) == ("no_route", (), {1: 2})
    assert decided.summary == (
        "No route: it takes more than the 1 shipment(s) a rule allows (A: only 1 of 2 MUG; B: only 1 of 2 MUG)"
    )


def test_ship_complete_waits():
    policy = policy_from(1, [{"name": "complete", "then": {"ship_complete": True}}])
    decided = plan(order(("MUG", 3)), [place("A", {"MUG": 2})], policy)
    assert (decided.outcome, decided.parts) == ("no_route", ())
    assert decided.summary.startswith("No route: ship-complete order")


def test_the_channel_is_called_as_people_call_it():
    decided = plan(
        order(("MUG", 1), channel_name="Shopify US"), [place("A", {"MUG": 5}, fulfils=False)], NO_RULES
    )
    assert "it may not serve Shopify US" in decided.trace["candidates"][0]["lost"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"active": False}, "it is inactive"),
        ({"fulfils": False}, "it may not serve shopify-us"),
        ({"kind": "fba"}, "multi-channel fulfilment is off"),
        ({"ship_day": None}, "it is closed"),
        ({"capacity_left": 0}, "it is at capacity for the day"),
        ({"rejected": True}, "it rejected this order before"),
        ({"stock": {}}, "out of stock: MUG"),
    ],
)
def test_each_filter_names_itself(change, reason):
    decided = plan(order(("MUG", 1)), [place("A", **({"stock": {"MUG": 5}} | change))], NO_RULES)
    assert decided.outcome == "no_route"
    assert reason in decided.trace["candidates"][0]["lost"]


def test_fba_serves_other_channels_only_where_the_sku_allows_it():
    line = LineView(1, "MUG", 1, (("MUG", 1),), mcf_allowed=True)
    decided = plan(order(lines=(line,)), [place("FBA", {"MUG": 3}, kind="fba")], NO_RULES)
    assert decided.parts[0].warehouse == "FBA"


def test_rules_in_order_the_last_writer_wins_and_the_loss_is_told():
    policy = policy_from(
        3,
        [
            {
                "name": "nearest",
                "when": {"field": "country", "op": "eq", "value": "US"},
                "then": {"prefer": ["WEST"]},
            },
            {
                "name": "heavy",
                "when": {"field": "weight_g", "op": "gt", "value": 500},
                "then": {"prefer": ["EAST"]},
            },
            {
                "name": "prime",
                "when": {"field": "service", "op": "eq", "value": "Prime"},
                "then": {"only": ["FBA"]},
            },
        ],
    )
    decided = plan(
        order(("MUG", 1)), [place("EAST", {"MUG": 1}), place("WEST", {"MUG": 1}, cost=Decimal(1))], policy
    )
    assert decided.parts[0].warehouse == "EAST"
    assert decided.trace["overruled"] == ["prefer of 'nearest' gives way to 'heavy'"]
    assert decided.trace["rules"][2] == {"name": "prime", "matched": False, "why": "service is empty"}


def test_line_conditions_say_any_or_all():
    two = order(("MUG", 1), ("CAP", 1))
    warehouses = [place("A", {"MUG": 1, "CAP": 1}), place("B", {"MUG": 1, "CAP": 1})]
    rule = {
        "name": "mugs",
        "when": {"field": "sku", "op": "eq", "value": "MUG", "lines": "any"},
        "then": {"only": ["B"]},
    }
    assert plan(two, warehouses, policy_from(1, [rule])).parts[0].warehouse == "B"
    rule["when"]["lines"] = "all"
    decided = plan(two, warehouses, policy_from(1, [rule]))
    assert decided.trace["rules"][0]["why"] == "sku of CAP is CAP"
    with pytest.raises(ValueError, match="any line or for all lines"):
        policy_from(1, [{"name": "x", "when": {"field": "sku", "op": "eq", "value": "MUG"}, "then": {}}])


def test_a_kit_stays_whole_in_one_warehouse():
    kit = LineView(1, "KIT", 2, (("MUG", 2), ("CAP", 1)))
    decided = plan(
        order(lines=(kit,)), [place("A", {"MUG": 4, "CAP": 1}), place("B", {"MUG": 2, "CAP": 5})], NO_RULES
    )
    assert sorted((p.warehouse, p.quantity) for p in decided.parts) == [("A", 1), ("B", 1)]


def test_a_blocked_order_is_not_placed():
    decided = plan(order(("MUG", 1), blocked="it is not paid yet"), [place("A", {"MUG": 1})], NO_RULES)
    assert (decided.outcome, decided.summary) == ("blocked", "it is not paid yet")


places = st.lists(
    st.builds(
        lambda code, mug, cap, cost: place(code, {"MUG": mug, "CAP": cap}, cost=Decimal(cost)),
        st.sampled_from("ABCDEF"), st.integers(0, 6), st.integers(0, 6), st.integers(1, 20),
    ),
    max_size=6, unique_by=lambda w: w.code,
)  # fmt: skip
demands = st.lists(st.tuples(st.sampled_from(["MUG", "CAP"]), st.integers(1, 8)), min_size=1, max_size=4)


@given(demands, places, st.booleans(), st.integers(1, 3))
def test_never_more_than_available_and_nothing_lost(wanted, warehouses, complete, splits):
    policy = policy_from(7, [{"name": "r", "then": {"max_splits": splits, "ship_complete": complete}}])
    asked = order(*wanted)
    decided = plan(asked, warehouses, policy)
    for line in asked.lines:
        placed = sum(p.quantity for p in decided.parts if p.line_id == line.line_id)
        assert placed + decided.short.get(line.line_id, 0) == line.quantity
    stock = {w.code: w.stock for w in warehouses}
    for code in stock:
        for sku in ("MUG", "CAP"):
            taken = sum(
                p.quantity
                for p in decided.parts
                if p.warehouse == code and asked.lines[p.line_id - 1].sku == sku
            )
            assert taken <= stock[code][sku]
    assert len({p.warehouse for p in decided.parts}) <= splits
    if complete:
        assert decided.short == {} or decided.parts == ()


@given(demands, places)
def test_a_stored_decision_replays_to_the_same_plan(wanted, warehouses):
    asked = order(*wanted)
    decided = plan(asked, warehouses, NO_RULES)
    again = replay(json.loads(json.dumps(inputs(asked, warehouses))), [], 1)
    assert again.parts == decided.parts
    assert plan(asked, list(reversed(warehouses)), NO_RULES) == decided
