"""I11: who gets new stock, by the configured rule, printed; and a person's override with its reason."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from inventory.merging import merge_skus
from oms.core import business
from oms.core.actor import SYSTEM
from oms.core.errors import UserError
from oms.core.models import AuditEntry
from oms.core.outbox import drain
from oms.orders import allocation, intake
from oms.orders.models import Order, OrderEvent, OrderLine
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

pytestmark = pytest.mark.django_db


@pytest.fixture
def waiting():
    """Three orders for one SKU that is sold out: early (due late), cheap (due first) and dear."""
    east, sku = make_warehouse("EAST"), make_sku("MUG")
    channel = make_channel("shop", east)
    orders = {}
    for name, placed, due, price, units in (
        ("early", 0, 9, "10", 1), ("cheap", 1, 3, "5", 2), ("dear", 2, 6, "90", 2),
    ):  # fmt: skip
        draft = order_draft(
            line_draft(sku, units, unit_price=Decimal(price)), external_id=name,
            placed_at=T0 + dt.timedelta(hours=placed), ship_by=T0 + dt.timedelta(days=due),
        )  # fmt: skip
        [taken] = intake.take([draft], channel=channel, actor=SYSTEM, source="webhook")
        orders[taken.order_id] = name
    return sku, east, orders


@pytest.mark.parametrize(
    ("rule", "order"),
    [
        ("ship_by", ["cheap", "dear", "early"]),
        ("oldest", ["early", "cheap", "dear"]),
        ("value", ["dear", "early", "cheap"]),
    ],
)
def test_stock_goes_by_the_configured_rule_and_says_so(waiting, rule, order, assert_invariants):
    sku, east, names = waiting
    business.put("backorder_priority", rule)
    add_stock(sku, east, 5)
    winners = allocation.allocate_waiting([sku.pk], actor=SYSTEM)
    assert [names[winner.order_id] for winner in winners] == order
    text = OrderEvent.objects.filter(order=winners[1].order_id, kind="allocated").first().text
    assert f"served as number 2 (by {allocation.PRIORITIES[rule][0]};" in text
    assert_invariants()


def test_a_person_puts_one_first_with_a_reason(waiting, client, assert_invariants):
    sku, east, names = waiting
    client.force_login(make_user())
    page = client.get(f"/orders/waiting/?skus={sku.pk}")
    assert [names[row["line"].order_id] for row in page.context["rows"]] == ["cheap", "dear", "early"]
    line = OrderLine.objects.get(order_id=next(pk for pk, name in names.items() if name == "early"))
    with pytest.raises(UserError, match="say why"):
        allocation.serve_first(line.pk, reason=" ", actor=SYSTEM)
    answer = client.post("/orders/waiting/", {"line": line.pk, "reason": "VIP", "skus": str(sku.pk)})
    assert answer.status_code == 302
    assert AuditEntry.objects.filter(action="order.served_first").count() == 1
    add_stock(sku, east, 2)
    winners = allocation.allocate_waiting([sku.pk], actor=SYSTEM)
    assert [(names[one.order_id], one.quantity) for one in winners] == [("early", 1), ("cheap", 1)]
    text = OrderEvent.objects.filter(order=line.order_id, text__contains="number 1").get().text
    assert "put first by hand" in text
    assert_invariants()


def test_nobody_moves_orders_of_others(waiting, client):
    client.force_login(make_user(role="viewer"))
    assert client.get("/orders/waiting/").status_code == 200
    assert (
        client.post("/orders/waiting/", {"line": OrderLine.objects.first().pk, "reason": "x"}).status_code
        == 403
    )


def test_waiting_lines_follow_a_merge(waiting, assert_invariants):
    sku, east, names = waiting
    target = make_sku("MUG2")
    add_stock(target, east, 9)
    merge_skus(sku.pk, target.pk, actor=SYSTEM)
    while drain():
        pass
    assert set(OrderLine.objects.values_list("sku__code", flat=True)) == {"MUG2"}
    assert sum(OrderLine.objects.values_list("reserved", flat=True)) == 5
    assert Order.objects.count() == 3
    assert_invariants()
